"""A gate that lets models in only from commits that were reviewed, before a real Gerrit: one case after the other."""

import itertools

import jwt
import pytest
import requests
import yaml
from cases import CASES
from history import OBJECT_IDS
from running import Gate, Sandbox
from simulated import GROUP, SUBSCRIPTION, TENANT, WORKSPACE, WORKSPACE_ID

PROJECTS = [
    "ml/merge-if-necessary", "ml/merge-always", "ml/fast-forward-only", "ml/rebase-if-necessary", "ml/rebase-always",
    "ml/cherry-pick", "ml/lenient", "ml/overridable", "ml/elsewhere", "ml/rewound", "ml/branches", "ml/both",
]
# What a token may claim to be under, each an entry of its own.
DEMANDS = {project: {"project": project} for project in PROJECTS} | {
    "two of the approvers": {"project": PROJECTS[0], "by": [{"gerrit_group": "ml-approvers", "count": 2}]},
    "an unseen group": {"project": PROJECTS[0], "by": [{"gerrit_group": "unseen", "count": 1}]},
    "a gate with few rights": {"project": PROJECTS[0], "gerrit": "narrow"},
    "merges of Gerrit's own": {"project": "ml/merge-always", "merge_commits": True},
    "one that seldom applies": {"project": PROJECTS[0], "requirements": ["No-Unresolved-Comments"]},
    "a requirement by its name": {"project": PROJECTS[0], "requirements": ["Independent-Review"]},
    "overridden, too": {"project": "ml/overridable", "accept": ["overridden"]},
    "whoever votes": {"project": "ml/lenient", "labels": {"Code-Review": 1}},
}
MODEL = {"properties": {
    "modelType": "custom_model",
    "modelUri": f"azureml://subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/workspaces/{WORKSPACE}"
                "/datastores/workspaceblobstore/paths/models/churn",
}}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    sandbox = Sandbox(tmp_path_factory.mktemp("run") / "sandbox", "--without-gate")
    yield sandbox
    sandbox.stop()


@pytest.fixture(scope="module")
def gate(sandbox, gerrit):
    def entry(name, demand):
        usual = {"gerrit": "main", "branch": "main", "commit": "caller.sha"}
        return {
            "name": name, "who": ["ci"], "effects": ["register_model"],
            "when": f'caller.claims.?demand.orValue("") == "{name}"',
            "review": usual | demand,
        }

    allowed = {"name": "ci brings models", "who": ["ci"], "role": "AzureML Data Scientist", "scope": "vision"}
    policies = {
        "version": 1, "allow": [allowed], "require": [entry(name, demand) for name, demand in DEMANDS.items()],
    }
    (sandbox.home / "policies/reviewed.yaml").write_text(yaml.safe_dump(policies, sort_keys=False))

    def change(settings):
        settings["gerrit"] = []
        for name, user in (("main", "gate"), ("narrow", "narrow")):
            token = sandbox.home / f"certs/gerrit-{user}.token"
            token.write_text(gerrit.password(user))
            token.chmod(0o600)
            settings["gerrit"].append({
                "name": name, "url": gerrit.url, "user": user, "token": {"file": f"certs/{token.name}"},
                "trust": {"ca": str(gerrit.ca)},
            })
        schemes = ("azure-oauth", "office365-oauth")
        links = [{"gerrit": name, "external_id": scheme} for name in ("main", "narrow") for scheme in schemes]
        settings["people"] = {"canonical": "entra", "links": links}

    gate = Gate(sandbox, "reviewed", change)
    gate.session = requests.Session()
    gate.session.verify, gate.session.trust_env = sandbox.ca, False
    gate.models, gate.refusals = itertools.count(1), {}
    yield gate
    gate.stop()
    gate.record.verify()


class Asked:
    """A model version that CI registered, or was not let."""

    def __init__(self, sandbox, gate, sha, demand):
        self.gate = gate
        genuine = sandbox.token("ci")
        claims = jwt.decode(genuine, options={"verify_signature": False})
        self.claims = claims | {"demand": demand} | ({"sha": sha} if sha else {})
        # As CI's own issuer writes the commit into its token.
        key = (sandbox.home / "issuer.key").read_text()
        token = jwt.encode(self.claims, key, "RS256", {"kid": jwt.get_unverified_header(genuine)["kid"]})
        self.path = f"{gate.url}{WORKSPACE_ID}/models/m{next(gate.models)}/versions/1?api-version=2025-12-01"
        self.session = gate.session
        self.answer = self.session.put(self.path, json=MODEL, headers={"Authorization": f"Bearer {token}"})
        self.reader = {"Authorization": f"Bearer {sandbox.token('sam')}"}

    def in_azure(self):
        return self.session.get(self.path, headers=self.reader).status_code == 200

    def accepted(self):
        """Azure has it, and the record says by which review."""
        assert self.answer.status_code == 201, self.answer.text
        assert self.in_azure()
        entry = self.gate.record.expect("--decision", self.answer.headers["x-amlgate-decision"], "--phase", "outcome")
        assert (entry.decision, entry.status) == ("allow", 201)
        [found] = entry.own["reviews"]
        return found

    def refused(self):
        """Azure never saw it; why, as the caller is told."""
        assert self.answer.status_code == 403, (self.answer.status_code, self.answer.text)
        told = self.answer.json()["error"]
        assert told["code"] == "ReviewRequired" and not self.in_azure(), told
        # Refusals are written every ten seconds: they are looked for in one go.
        self.gate.refusals[self.answer.headers["x-amlgate-decision"]] = told["message"]
        return told["message"]


@pytest.fixture(scope="module")
def ask(sandbox, gate, tell):
    def ask(case, demand=None):
        case = tell(case).case
        return Asked(sandbox, gate, case.sha, demand or case.project)

    return ask


def person(name):
    return f"entra:{TENANT}/{OBJECT_IDS[name]}"


ACCEPTED = [
    "fast_forward", "merged_beside_another", "merge_always", "fast_forward_only", "rebase_not_necessary",
    "rebase_necessary", "rebase_always", "rebase_always_submitted_by_the_approver", "cherry_pick",
    "cherry_pick_submitted_by_the_approver", "approved_before_a_rebase_by_hand", "private_and_merged",
    "a_branch_that_left_review_behind",
]
REFUSED = {
    "merge_made_by_gerrit": "no change that the gate may see has this commit",
    "merge_always_made_by_gerrit": "no change that the gate may see has this commit",
    "before_a_necessary_rebase": "was merged with another patch set than this commit",
    "before_a_rebase": "was merged with another patch set than this commit",
    "old_patch_set": "was merged with another patch set than this commit",
    "merge_by_hand": "merge",
    "forced": "was FORCED",
    "overridden": "was OVERRIDDEN",
    "not_applicable": "no submit requirement applied",
    "self_approved": "nobody whose vote counts gave `Code-Review` 2",
    "approved_by_a_service_user": "nobody whose vote counts gave `Code-Review` 2",
    "approved_by_the_author_under_another_address": "nobody whose vote counts gave `Code-Review` 2",
    "approved_by_somebody_whom_azure_does_not_know": "nobody whose vote counts gave `Code-Review` 2",
    "approved_by_another_account_of_its_owner": "nobody whose vote counts gave `Code-Review` 2",
    "approved_by_an_earlier_uploader": "nobody whose vote counts gave `Code-Review` 2",
    "approved_by_somebody_who_left": "nobody whose vote counts gave `Code-Review` 2",
    "approved_after_the_merge": "nobody whose vote counts gave `Code-Review` 2",
    "raised_after_the_merge": "nobody whose vote counts gave `Code-Review` 2",
    "approval_taken_back": "nobody whose vote counts gave `Code-Review` 2",
    "approved_before_the_code_changed": "nobody whose vote counts gave `Code-Review` 2",
    "vetoed": "somebody vetoed it by `Code-Review`",
    "pushed_past_review": "no change that the gate may see has this commit",
    "approved_and_not_merged": "is not merged",
    "abandoned": "is not merged",
    "private": "no change that the gate may see has this commit",
    "rewound": "branch `main` does not hold the commit",
    "merged_to_another_branch": "no change that the gate may see has this commit",
    "no_such_commit": "no change that the gate may see has this commit",
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_model_from_reviewed_code_comes_in_and_the_record_names_its_review(ask, tell, case):
    found = ask(case).accepted()
    change = tell(case).change
    assert (found["server"], found["project"], found["branch"]) == ("main", change["project"], "main")
    assert (found["sha"], found["change"], found["meta_rev_id"]) == (
        change["current_revision"], change["_number"], change["meta_rev_id"]
    )
    assert found["url"].endswith(f"/c/{change['project']}/+/{change['_number']}")
    assert [approver["person"] for approver in found["approvers"]] == [person("bo")]
    assert {r["name"]: r["status"] for r in found["requirements"]} == tell(case).requirements


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_from_anything_else_is_refused_and_told_why(ask, case):
    assert REFUSED[case] in ask(case).refused()


def test_each_case_is_tried_at_the_gate():
    tried = {*ACCEPTED, *REFUSED, "two_approvals", "the_same_commit_on_two_branches"}
    assert tried == set(CASES)


def test_a_commit_on_two_branches_counts_for_the_one_that_is_asked_about(ask):
    found = ask("the_same_commit_on_two_branches").accepted()
    assert found["branch"] == "main"


def test_two_of_a_group_are_found_through_the_groups_in_it(ask):
    found = ask("two_approvals", "two of the approvers").accepted()
    assert [approver["person"] for approver in found["approvers"]] == [person("bo"), person("cy")]
    assert "not enough members" in ask("fast_forward", "two of the approvers").refused()


def test_a_group_that_the_gate_may_not_see_is_nobodys(ask):
    assert "sees no group `unseen`" in ask("fast_forward", "an unseen group").refused()


def test_a_gate_that_may_not_see_who_is_who_lets_nothing_in(ask):
    assert "does not let the gate read" in ask("fast_forward", "a gate with few rights").refused()


def test_a_merge_of_gerrits_own_comes_in_where_a_policy_says_so(ask, tell):
    found = ask("merge_always_made_by_gerrit", "merges of Gerrit's own").accepted()
    assert found["sha"] == tell("merge_always_made_by_gerrit").case.sha != found["revision"]


def test_a_requirement_that_did_not_apply_is_not_met_where_a_policy_names_it(ask):
    """Every change of a server as it comes has one that applies only where somebody commented."""
    assert "`No-Unresolved-Comments` was NOT_APPLICABLE" in ask("fast_forward", "one that seldom applies").refused()
    assert ask("fast_forward", "a requirement by its name").accepted()["server"] == "main"


def test_what_was_overridden_still_needs_somebodys_vote(ask):
    assert "nobody whose vote counts" in ask("overridden", "overridden, too").refused()


def test_a_lesser_vote_that_was_raised_after_the_merge_is_none(ask):
    """Bo had voted 1 before the merge and 2 after it: the vote that is told is the later one, which counts for nothing."""
    assert "nobody whose vote counts" in ask("raised_after_the_merge", "whoever votes").refused()


def test_a_token_that_names_no_commit_whole_brings_nothing_in(sandbox, gate, tell):
    sha = tell("fast_forward").case.sha
    for odd in (None, sha[:12], "main", f"{sha}0", ""):
        refused = Asked(sandbox, gate, odd, PROJECTS[0]).refused()
        assert "no claim `sha` that names a commit whole" in refused, odd


def test_a_gerrit_that_is_away_lets_nothing_in_and_one_that_is_back_does(ask, gerrit, tell):
    tell("fast_forward_only")
    gerrit.stop()
    assert "Gerrit `main` does not answer" in ask("fast_forward_only").refused()
    gerrit.start()
    assert ask("fast_forward_only").accepted()["project"] == "ml/fast-forward-only"
    assert "was FORCED" in ask("forced").refused()


def test_every_refusal_is_recorded(gate):
    last = list(gate.refusals)[-1]
    gate.record.expect("--decision", last)
    recorded = {entry.own["decision"]: entry for entry in gate.record.query("--code", "ReviewRequired")}
    assert gate.refusals.keys() <= recorded.keys()
    for decision in gate.refusals:
        entry = recorded[decision]
        assert (entry.decision, entry.code, entry.action.rpartition("/")[0].endswith("models/versions")) == (
            "deny", "ReviewRequired", True
        )
        assert "reviews" not in entry.own
