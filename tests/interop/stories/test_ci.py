"""Push once, the rest follows: a change is reviewed and merged, and what it trains is registered and put to serve."""

import copy

import pytest
from azure.ai.ml.entities import ManagedOnlineDeployment
from azure.core.exceptions import HttpResponseError
from history import OBJECT_IDS
from simulated import TENANT, WORKSPACE_ID
from story import PROJECT, SECRET, Run


def test_a_merge_starts_the_pipeline_for_whoever_merged(run, story):
    job = run.started()["properties"]
    assert job["jobType"] == "Pipeline"
    assert job["jobs"]["train"]["component"]["command"] == f"python train.py --commit {run.commit}"
    tags = job["tags"]
    assert (tags["team"], tags["amlgate.commit"]) == ("vision", run.commit)
    assert tags["amlgate.change"].endswith(f"/c/{PROJECT}/+/{run.change.number}")
    assert tags["amlgate.for"] == f"entra:{TENANT}/{OBJECT_IDS['cy']}"
    assert tags["amlgate.approvers"] == f"entra:{TENANT}/{OBJECT_IDS['bo']}"
    assert (job["properties"]["amlgate.commit"], job["properties"]["amlgate.commit_known_by"]) == (run.commit, "trigger")
    entry = story.gate.record.expect("--resource", f"jobs/{run.name}", "--phase", "outcome", "--action", "jobs/write")
    assert (entry.decision, entry.status, entry.own["agent"]["uid"]) == ("allow", 201, "trigger:train")
    [review] = entry.own["reviews"]
    assert (review["sha"], review["change"]) == (run.commit, run.change.number)


def test_whatever_else_is_told_starts_nothing_more(run, story):
    """The same event again, one of a change that nobody merged, and one from somebody who does not know the path."""
    run.started()
    other = story.project.change()
    merged = {
        "type": "change-merged", "refName": "refs/heads/main", "newRev": run.commit, "eventCreatedOn": 1_796_000_000,
        "change": {"project": PROJECT, "branch": "main", "number": run.change.number, "status": "MERGED"},
        "patchSet": {"number": 2, "revision": run.commit}, "project": {"name": PROJECT},
    }
    forged = copy.deepcopy(merged)
    forged["change"]["number"], forged["patchSet"]["revision"], forged["newRev"] = other.number, other.sha, other.sha
    for number, event in enumerate([merged, merged, forged]):
        told = event | {"eventCreatedOn": event["eventCreatedOn"] + number}
        assert story.session.post(f"{story.hook}/{SECRET}", json=told).status_code == 202
    stranger = story.session.post(f"{story.hook}/{'0' * 64}", json=merged)
    assert stranger.status_code == 404, stranger.text
    # One more that is true: what comes of it comes after all that.
    after = Run(story, story.project.reviewed(by="bo"))
    after.started()
    assert len(story.puts(run.name)) == 1
    assert not story.puts(f"vision-{other.number}-{other.sha[:12]}")


def test_what_only_its_author_approved_starts_nothing(story):
    """Gerrit merged it. The trigger asks, as any caller does, and is told what any caller is."""
    alone = Run(story, story.project.reviewed(by="ana"))
    refused = story.gate.record.expect("--code", "ReviewRequired", fits=lambda entry: alone.name in entry.path)
    assert (refused.decision, refused.own["agent"]["uid"]) == ("deny", "trigger:train")
    assert "nobody whose vote counts gave `Code-Review` 2" in repr(refused)
    assert not story.puts(alone.name)


def test_it_is_deployed_and_takes_the_traffic_and_what_is_not_stated_does_not(run, story):
    def deployed(name, model):
        deployment = ManagedOnlineDeployment(
            name=name, endpoint_name="churn", model=model, instance_type="Standard_DS3_v2", instance_count=1,
        )
        return story.ml.online_deployments.begin_create_or_update(deployment).result()

    with pytest.raises(HttpResponseError, match="amlgate: .*`what serves is stated`"):
        deployed("old", "azureml:churn:1")
    made = deployed("trained", f"azureml:vision-ci:{run.stated()['name']}")
    assert made.provisioning_state == "Succeeded"
    endpoint = story.ml.online_endpoints.get("churn")
    endpoint.traffic = {"blue": 0, "trained": 100}
    assert story.ml.online_endpoints.begin_create_or_update(endpoint).result().traffic["trained"] == 100
    entry = story.gate.record.expect("--resource", "deployments/trained", "--phase", "outcome", "--action", "deployments/write")
    [review] = entry.own["reviews"]
    assert (entry.decision, review["sha"]) == ("allow", run.commit)


def test_the_change_says_what_came_of_it_once_each_with_a_vote(run):
    run.model()
    said = run.said(2)
    assert len(said) == 2, said
    assert f"started `workspaces/vision/jobs/{run.name}`" in said[0] and "https://ml.azure.com/runs/" in said[0], said
    assert "has ended: Completed" in said[1], said
    votes = {v["username"]: v.get("value") for v in run.at_the_change()[1]["labels"]["Verified"]["all"]}
    assert votes["gate"] == 1, votes


def test_a_merge_that_nobody_told_of_is_found_when_the_gate_comes_back(run, story):
    """The gate was away when the change was merged, and of what happened nothing is kept to be told later."""
    run.started()
    story.gate.stop()
    story.webhooks.forget("amlgate")
    missed = Run(story, story.project.reviewed(by="bo"))
    story.start_anew()
    missed.started()
    story.follow()
    assert len(story.puts(missed.name)) == 1 and len(story.puts(run.name)) == 1
    assert missed.stated()["name"] != run.model()["name"]


def test_every_step_is_in_the_record(run, story):
    events = {}
    for entry in story.gate.record.query():
        if event := entry.own.get("event"):
            events.setdefault(event, []).append(entry)
    for event in ("trigger_started", "trigger_ended"):
        assert len([entry for entry in events[event] if run.name in repr(entry)]) == 1, events.keys()
    [stated] = [entry for entry in events["model_stated"] if run.model()["name"] == entry.own["model"].rpartition("/")[2]]
    assert run.stated()["properties"]["tags"]["amlgate.statement"] in repr(stated), stated
