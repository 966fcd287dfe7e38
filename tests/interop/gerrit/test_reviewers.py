"""Reviewer roles before a real Gerrit: whoever may approve code decides what policies let them decide, and no more."""

import subprocess

import jwt
import pytest
import requests
import yaml
from history import OBJECT_IDS
from running import AMLGATE, Gate, Sandbox, wait_for
from simulated import WORKSPACE_ID

VERSION = "api-version=2025-12-01"
JOBS = "Microsoft.MachineLearningServices/workspaces/jobs"
JOB = {"properties": {
    "jobType": "Command", "command": "python train.py", "experimentName": "churn",
    "environmentId": f"{WORKSPACE_ID}/environments/sklearn/versions/1", "computeId": f"{WORKSPACE_ID}/computes/cpu-cluster",
}}
# Long enough for a machine that is busy, and short enough to wait for.
FRESH, STALE = 2, 8


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    sandbox = Sandbox(tmp_path_factory.mktemp("reviewers") / "sandbox", "--without-gate")
    yield sandbox
    sandbox.stop()


@pytest.fixture(scope="module")
def gate(sandbox, gerrit, history):
    def of(group):
        return [{"gerrit": {"server": "main", "group": group}}]

    def reads(name, kind):
        return {"name": f"{name} read {kind}", "who": [name], "actions": [f"Microsoft.MachineLearningServices/workspaces/{kind}/read"]}

    approval = {"by": [{"gerrit_group": {"server": "main", "group": "ml-approvers"}, "count": 1}]}
    policies = {
        "version": 1,
        "subjects": {
            "approvers": of("ml-approvers"),
            "leads": of(history.groups["ml-leads"]),
            "reviewers": of("ml-reviewers"),
            "unseen": of("unseen"),
            "people": [{"issuer": "sandbox", "kind": "person"}],
        },
        "allow": [
            reads("approvers", "environments"), reads("leads", "computes"), reads("reviewers", "datastores"),
            reads("unseen", "codes"), reads("people", "jobs"),
            {"name": "people work", "who": ["people"], "actions": [f"{JOBS}/write", "amlgate/requests/*"]},
        ],
        "require": [{"name": "jobs are approved by who may approve code", "actions": [f"{JOBS}/write"], "approval": approval}],
    }
    for other in (sandbox.home / "policies").glob("*.yaml"):
        other.unlink()
    (sandbox.home / "policies/reviewers.yaml").write_text(yaml.safe_dump(policies, sort_keys=False))

    def change(settings):
        token = sandbox.home / "certs/gerrit.token"
        token.write_text(gerrit.password("gate"))
        token.chmod(0o600)
        settings["gerrit"] = [{
            "name": "main", "url": gerrit.url, "user": "gate", "token": {"file": "certs/gerrit.token"},
            "trust": {"ca": str(gerrit.ca)},
        }]
        links = [{"gerrit": "main", "external_id": scheme} for scheme in ("azure-oauth", "office365-oauth")]
        settings["people"] = {"canonical": "entra", "links": [*links, {"issuer": "sandbox", "claim": "entra_oid"}]}
        settings.setdefault("timeouts", {}).update(groups_fresh=f"{FRESH}s", groups_stale=f"{STALE}s")
        address = settings["listen"]["admin"]["address"]
        gate_api.append(f"http://{address}")

    gate_api = []
    gate = Gate(sandbox, "reviewers", change)
    gate.api = gate_api[0]
    gate.session = requests.Session()
    gate.session.verify, gate.session.trust_env = sandbox.ca, False
    yield gate
    gate.stop()
    gate.record.verify()


@pytest.fixture(scope="module")
def someone(sandbox, gate):
    """Calls as one of Gerrit's people, whom the sandbox's issuer knows by Azure's object id."""
    genuine = sandbox.token("sam")
    key = (sandbox.home / "issuer.key").read_text()
    header = {"kid": jwt.get_unverified_header(genuine)["kid"]}
    claims = jwt.decode(genuine, options={"verify_signature": False})

    def someone(name):
        known = {"entra_oid": OBJECT_IDS[name]} if name in OBJECT_IDS else {}
        own = claims | known | {"sub": f"user-{name}", "name": name, "email": f"{name}@x.example", "groups": []}
        session = requests.Session()
        session.verify, session.trust_env = sandbox.ca, False
        session.headers["Authorization"] = f"Bearer {jwt.encode(own, key, 'RS256', header)}"
        return session

    return someone


@pytest.fixture(scope="module")
def read(gate, someone):
    def read(name, what):
        return someone(name).get(f"{gate.url}{WORKSPACE_ID}/{what}?{VERSION}")

    return read


MEMBERS = {
    # Through the group of leads that is in it, too; and never somebody who only reviews.
    "environments": ({"bo", "cy"}, {"ana", "dee", "eve", "robot"}),
    # By its UUID.
    "computes": ({"cy"}, {"bo", "ana"}),
    # Eve's account is nobody's at Azure, and the robot is a service user.
    "datastores": ({"ana", "bo", "cy", "dee"}, {"eve", "robot"}),
}


@pytest.mark.parametrize("what", MEMBERS)
def test_the_people_of_a_group_may_and_nobody_else(read, gate, what):
    may, may_not = MEMBERS[what]
    for name in may:
        answer = read(name, what)
        assert answer.status_code == 200, (name, answer.text)
    for name in may_not:
        answer = read(name, what)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthorizationFailed"), (name, answer.text)


def test_the_record_says_which_of_the_groups_somebody_was_in(read, gate):
    answer = read("cy", "computes")
    entry = gate.record.expect("--decision", answer.headers["x-amlgate-decision"])
    assert {"main/ml-approvers", "main/ml-reviewers"} <= set(entry.own["gerrit_groups"])
    assert entry.own["gerrit_groups_unread"] == ["main/unseen"]


def test_a_group_that_the_gate_may_not_see_has_nobody_in_it_and_says_why(read):
    answer = read("bo", "codes")
    assert answer.status_code == 403 and "the gate sees no group `unseen`" in answer.text, answer.text


def test_the_doctor_tells_of_each_group_whom_it_knows(gate):
    done = subprocess.run(
        [AMLGATE, "doctor", "--config", str(gate.file), "--output", "json"], capture_output=True, text=True
    )
    assert "group `ml-approvers` of Gerrit `main`" in done.stdout, done.stdout + done.stderr
    assert "the gate sees no group `unseen`" in done.stdout
    # Eve is a stranger there, and a robot is nobody.
    assert "4 people in it are known" in done.stdout, done.stdout


def changed(read, name, what, status, history):
    """Waits until the next reading has changed what somebody may."""
    wait_for(f"{status} for {name}", lambda: read(name, what).status_code == status, seconds=60)


def test_who_joins_and_who_leaves_is_known_soon(read, history):
    assert read("dee", "environments").status_code == 403
    history.admin.put("groups/ml-approvers/members/dee")
    changed(read, "dee", "environments", 200, history)
    history.admin.delete("groups/ml-approvers/members/dee")
    changed(read, "dee", "environments", 403, history)


def test_whose_account_is_closed_is_in_no_group(read, history):
    assert read("dee", "datastores").status_code == 200
    # Once it is closed, it goes by its number alone.
    account = f"accounts/{history.admin.get('accounts/dee')['_account_id']}/active"
    history.admin.delete(account)
    changed(read, "dee", "datastores", 403, history)
    history.admin.put(account)
    changed(read, "dee", "datastores", 200, history)


def test_those_who_may_approve_code_approve_and_get_nothing_by_it(gate, someone):
    path = f"{gate.url}{WORKSPACE_ID}/jobs/approved?{VERSION}"
    ana = someone("ana")
    refused = ana.put(path, json=JOB)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "ApprovalRequired"), refused.text
    assert "1 of group `ml-approvers` of Gerrit `main`" in refused.text
    decision = {"decision": refused.headers["x-amlgate-decision"]}
    asked = ana.post(f"{gate.api}/api/v1/requests", json=decision)
    assert asked.status_code == 201, asked.text
    request = f"{gate.api}/api/v1/requests/{asked.json()['requests'][0]['id']}/approve"
    # Who may not answer it does not see it, and nobody answers their own.
    for name, status in {"dee": 404, "eve": 404, "robot": 404, "ana": 403}.items():
        answer = someone(name).post(request, json={})
        assert answer.status_code == status, (name, answer.text)
    answer = someone("cy").post(request, json={})
    assert answer.status_code == 200, answer.text
    passed = ana.put(path, json=JOB)
    assert passed.status_code == 201, passed.text
    # Whoever approved needs somebody else's yes for a job of their own.
    own = someone("cy").put(path.replace("approved", "own"), json=JOB)
    assert own.json()["error"]["code"] == "ApprovalRequired", own.text


def test_while_gerrit_is_away_groups_are_known_for_a_while_and_then_nobody_is_in_them(read, gerrit, history):
    assert read("bo", "environments").status_code == 200
    gerrit.stop()
    assert read("bo", "environments").status_code == 200
    changed(read, "bo", "environments", 403, history)
    assert "does not answer" in read("bo", "environments").text
    assert read("bo", "jobs").status_code == 200, "what is no reviewer's is as before"
    gerrit.start()
    changed(read, "bo", "environments", 200, history)
