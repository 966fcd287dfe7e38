"""What a real Gerrit answers about commits: the facts that the review gate is built on."""

import pathlib

import pytest
from cases import CASES
from history import INDEPENDENT, OBJECT_IDS, mail, quoted
from server import Caller

ALWAYS = "No-Unresolved-Comments"
OURS = INDEPENDENT["name"]
REVIEWED = {"Code-Review": "SATISFIED", OURS: "SATISFIED", ALWAYS: "NOT_APPLICABLE"}


@pytest.mark.parametrize("case", [
    "fast_forward", "merged_beside_another", "merge_always", "fast_forward_only", "rebase_not_necessary",
    "rebase_necessary", "rebase_always", "cherry_pick", "private_and_merged", "a_branch_that_left_review_behind",
])
def test_however_it_is_merged_the_last_patch_set_is_on_the_branch_with_its_approval(tell, case):
    told = tell(case)
    assert (told.change["status"], told.change["branch"], told.is_current) == ("MERGED", "main", True)
    assert told.on_branch and told.requirements == REVIEWED
    approval = told.votes["bo"]
    assert approval["value"] == 2 and not approval.get("post_submit")
    assert told.change["meta_rev_id"] and told.change["submitted"] and told.change["submitter"]["username"] == "cy"
    assert not told.change.get("is_private")


def test_each_approval_is_told(tell):
    told = tell("two_approvals")
    assert {name: vote["value"] for name, vote in told.votes.items()} == {"bo": 2, "cy": 2}


def test_a_requirement_that_does_not_apply_is_told_of_every_change(tell):
    """Gerrit brings one that holds only where somebody commented: who demands them all must let it be."""
    assert tell("fast_forward").requirements[ALWAYS] == "NOT_APPLICABLE"


def test_who_did_not_vote_is_told_with_a_nought(tell):
    submitter = tell("fast_forward").votes["cy"]
    assert submitter["value"] == 0 and "date" not in submitter


@pytest.mark.parametrize("case", ["rebase_necessary", "rebase_always", "cherry_pick"])
def test_a_patch_set_that_gerrit_makes_is_the_submitters_by_upload_and_commit(tell, case):
    told = tell(case)
    made, before = told.revision, told.before
    assert (made["uploader"]["username"], before["uploader"]["username"]) == ("cy", "ana")
    assert (made["commit"]["committer"]["email"], before["commit"]["committer"]["email"]) == (mail("cy"), mail("ana"))
    assert made["commit"]["author"]["email"] == before["commit"]["author"]["email"] == mail("ana")
    # Which is how to know it: it brings no code of its own, and its uploader is who submitted the change.
    assert made["kind"] in ("TRIVIAL_REBASE", "NO_CODE_CHANGE")
    assert made["uploader"] == told.change["submitter"]


@pytest.mark.parametrize("case", [
    "rebase_always_submitted_by_the_approver", "cherry_pick_submitted_by_the_approver",
])
def test_an_approver_who_also_submits_becomes_uploader_and_committer(tell, case):
    """The most ordinary way to merge: who asked the current patch set alone would call the approver a contributor."""
    told = tell(case)
    assert told.votes["bo"]["value"] == 2 and told.requirements == REVIEWED
    assert told.revision["uploader"]["username"] == "bo"
    assert told.revision["commit"]["committer"]["email"] == mail("bo")
    assert told.before["uploader"]["username"] == "ana"


@pytest.mark.parametrize("case", ["before_a_necessary_rebase", "before_a_rebase", "old_patch_set"])
def test_an_older_patch_set_finds_the_merged_change_and_is_not_its_commit(tell, case):
    told = tell(case)
    assert told.change["status"] == "MERGED" and told.requirements == REVIEWED
    assert not told.is_current and not told.on_branch


@pytest.mark.parametrize("case", ["merge_made_by_gerrit", "merge_always_made_by_gerrit"])
def test_a_merge_that_gerrit_made_is_on_the_branch_and_is_no_change(tell, history, case):
    told = tell(case)
    assert told.changes == [] and told.on_branch
    commit = history.gate.get(f"projects/{quoted(told.case.project)}/commits/{told.case.sha}")
    assert len(commit["parents"]) == 2
    assert commit["committer"]["name"] == "Gerrit Code Review" and commit["author"]["email"] == mail("cy")
    merged = history.gate.get("changes/", q=f"commit:{commit['parents'][1]['commit']}", o="CURRENT_REVISION")
    assert [c["current_revision"] for c in merged] == [commit["parents"][1]["commit"]]


def test_a_merge_by_hand_is_one_change_and_brings_along_what_has_none(tell, history):
    told = tell("merge_by_hand")
    assert told.requirements == REVIEWED and told.is_current and told.on_branch
    _, beside = (parent["commit"] for parent in told.revision["commit"]["parents"])
    assert history.gate.get("changes/", q=f"commit:{beside}") == []


def test_a_forced_submit_is_merged_and_told_as_forced(tell):
    told = tell("forced")
    assert told.change["status"] == "MERGED" and told.is_current and told.on_branch
    assert set(told.requirements.values()) == {"FORCED"} and len(told.requirements) == 3
    assert [v["value"] for v in told.votes.values()] == [0]


def test_an_overridden_requirement_is_told_as_overridden(tell):
    told = tell("overridden")
    assert told.change["status"] == "MERGED" and {v["value"] for v in told.votes.values()} == {0}
    assert told.requirements == {"Code-Review": "OVERRIDDEN", OURS: "OVERRIDDEN", ALWAYS: "NOT_APPLICABLE"}


def test_requirements_that_apply_nowhere_let_a_change_be_merged_unseen(tell):
    told = tell("not_applicable")
    assert told.change["status"] == "MERGED" and {v["value"] for v in told.votes.values()} == {0}
    assert set(told.requirements.values()) == {"NOT_APPLICABLE"}


def test_the_recommended_requirement_holds_back_what_only_its_owner_approved(history, refusal):
    change = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY").reviewed(by="ana")
    status, text = refusal(change.submit, "cy")
    assert status == 409 and OURS in text


def test_the_recommended_requirement_holds_back_what_somebody_vetoed(history, refusal):
    change = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY").reviewed(by="bo")
    change.vote("cy", -2)
    status, text = refusal(change.submit, "cy")
    # Gerrit names the first of them that is not met.
    assert status == 409 and "submit requirement 'Code-Review' is unsatisfied" in text
    told = history.gate.get(change.path, o="SUBMIT_REQUIREMENTS")["submit_requirements"]
    assert {r["name"]: r["status"] for r in told}[OURS] == "UNSATISFIED"


def test_elsewhere_gerrit_is_content_with_the_owners_own_approval(tell):
    told = tell("self_approved")
    assert told.requirements["Code-Review"] == "SATISFIED" and told.is_current and told.on_branch
    assert told.change["owner"]["username"] == "ana" and told.votes["ana"]["value"] == 2


def test_a_service_users_vote_counts_for_gerrit_and_carries_its_tag(tell):
    told = tell("approved_by_a_service_user")
    assert told.requirements["Code-Review"] == "SATISFIED"
    assert told.votes["robot"]["value"] == 2 and told.votes["robot"]["tags"] == ["SERVICE_USER"]
    assert "tags" not in told.votes["cy"]


def test_an_author_under_another_address_may_approve_and_is_found_by_that_address(tell, history):
    told = tell("approved_by_the_author_under_another_address")
    author = told.revision["commit"]["author"]["email"]
    approval = told.votes["dee"]
    assert approval["value"] == 2 and approval["email"] == mail("dee") != author == "dee@home.example"
    found = history.gate.get("accounts/", q=f'email:"{author}"', o=["DETAILS", "ALL_EMAILS"])
    assert [(a["_account_id"], a["secondary_emails"]) for a in found] == [(approval["_account_id"], [author])]


def test_whoever_may_not_see_other_addresses_finds_nobody_and_hears_so_only_when_asking_for_all(history, refusal):
    """Nobody would be the author: who asks must ask so that it is refused."""
    narrow = history.gerrit.as_("narrow")
    assert narrow.get("accounts/", q='email:"dee@home.example"') == []
    assert narrow.get("accounts/", q='email:"dee@home.example"', o="DETAILS") == []
    asked = refusal(narrow.get, "accounts/", q='email:"dee@home.example"', o=["DETAILS", "ALL_EMAILS"])
    assert asked == (403, "view secondary emails not permitted")


def test_somebody_whom_azure_does_not_know_may_approve(tell):
    told = tell("approved_by_somebody_whom_azure_does_not_know")
    assert told.requirements["Code-Review"] == "SATISFIED" and told.votes["eve"]["value"] == 2


def test_another_account_of_the_owner_may_approve_and_only_its_external_id_gives_it_away(tell, history):
    told = tell("approved_by_another_account_of_its_owner")
    assert told.requirements["Code-Review"] == "SATISFIED" and told.votes["ana2"]["value"] == 2
    owner, approver = (
        {i["identity"].partition(":")[2] for i in history.gate.get(f"accounts/{history.accounts[name]}/external.ids")}
        for name in ("ana", "ana2")
    )
    assert owner & approver == {OBJECT_IDS["ana"]}


def test_an_earlier_uploader_may_approve_and_is_told_with_the_earlier_patch_set(tell):
    told = tell("approved_by_an_earlier_uploader")
    assert told.votes["bo"]["value"] == 2 and told.requirements["Code-Review"] == "SATISFIED"
    assert (told.before["uploader"]["username"], told.revision["uploader"]["username"]) == ("bo", "ana")


def test_a_veto_does_not_hold_back_a_change_whose_requirement_forgets_it_and_is_told(tell):
    told = tell("vetoed")
    assert told.change["status"] == "MERGED" and told.votes["cy"]["value"] == -2
    assert min(int(value) for value in told.change["labels"]["Code-Review"]["values"]) == -2


@pytest.mark.parametrize("case", ["approved_after_the_merge", "raised_after_the_merge"])
def test_a_vote_after_the_merge_is_told_as_such(tell, case):
    told = tell(case)
    assert told.votes["bo"]["value"] == 2 and told.votes["bo"]["post_submit"] is True
    assert "post_submit" not in told.votes["ana"]


@pytest.mark.parametrize("case", ["approval_taken_back", "approved_before_the_code_changed"])
def test_an_approval_that_no_longer_holds_is_not_told(tell, case):
    told = tell(case)
    assert told.votes["bo"]["value"] == 0 and told.votes["ana"]["value"] == 2


def test_an_approval_goes_on_holding_when_only_the_parent_changed(tell):
    told = tell("approved_before_a_rebase_by_hand")
    assert told.revision["kind"] == "TRIVIAL_REBASE" and told.votes["bo"]["value"] == 2
    assert told.requirements == REVIEWED


def test_an_approver_who_left_is_told_as_inactive_and_no_longer_found_by_address(tell, history):
    told = tell("approved_by_somebody_who_left")
    assert told.votes["leaver"]["value"] == 2 and told.votes["leaver"]["inactive"] is True
    asked = {"o": ["DETAILS", "ALL_EMAILS"]}
    assert history.gate.get("accounts/", q='email:"leaver@x.example"', **asked) == []
    found = history.gate.get("accounts/", q='email:"leaver@x.example" (is:active OR is:inactive)', **asked)
    assert [a["inactive"] for a in found] == [True]


def test_what_was_pushed_past_review_is_on_the_branch_and_has_no_change(tell):
    told = tell("pushed_past_review")
    assert told.changes == [] and told.on_branch


def test_what_is_approved_and_not_merged_is_not_on_the_branch(tell):
    told = tell("approved_and_not_merged")
    assert told.change["status"] == "NEW" and told.is_current and not told.on_branch


def test_what_was_abandoned_keeps_its_approval_and_is_not_on_the_branch(tell):
    told = tell("abandoned")
    assert told.change["status"] == "ABANDONED" and told.votes["bo"]["value"] == 2 and not told.on_branch


def test_a_private_change_is_not_there_for_the_gate(tell):
    told = tell("private")
    assert told.changes == [] and not told.on_branch


def test_a_rewound_branch_no_longer_has_what_is_still_called_merged(tell):
    told = tell("rewound")
    assert told.change["status"] == "MERGED" and told.is_current and told.requirements == REVIEWED
    assert not told.on_branch


def test_what_was_merged_to_another_branch_names_that_branch(tell):
    told = tell("merged_to_another_branch")
    assert told.change["branch"] == "release" and told.change["status"] == "MERGED" and not told.on_branch


def test_one_commit_on_two_branches_is_two_changes(tell):
    told = tell("the_same_commit_on_two_branches")
    assert sorted(c["branch"] for c in told.changes) == ["main", "release"]
    assert {c["current_revision"] for c in told.changes} == {told.case.sha} and told.on_branch


def test_an_unknown_commit_is_nothing_and_no_error(tell):
    told = tell("no_such_commit")
    assert told.changes == [] and not told.on_branch


def test_no_case_is_forgotten():
    here = pathlib.Path(__file__).read_text()
    assert [case for case in CASES if f'"{case}"' not in here] == []


# --- people


def test_an_account_is_joined_with_azures_object_id(history, refusal):
    for name, identity in OBJECT_IDS.items():
        told = history.gate.get(f"accounts/{history.accounts[name]}/external.ids")
        assert f"azure-oauth:{identity}" in [one["identity"] for one in told]
    unknown = history.gate.get(f"accounts/{history.accounts['eve']}/external.ids")
    assert not any(one["identity"].startswith("azure-oauth:") for one in unknown)
    narrow = history.gerrit.as_("narrow")
    asked = refusal(narrow.get, f"accounts/{history.accounts['bo']}/external.ids")
    assert asked == (403, "modify account not permitted")


def test_the_gate_can_learn_what_it_may(history):
    may = history.gate.get("accounts/self/capabilities")
    assert may["modifyAccount"] is True and may["viewSecondaryEmails"] is True
    assert not {"modifyAccount", "viewSecondaryEmails", "administrateServer"} & set(
        history.gerrit.as_("narrow").get("accounts/self/capabilities")
    )


def test_a_groups_members_are_told_with_those_of_its_groups_only_when_asked(history):
    def members(path):
        return [m["username"] for m in history.gate.get(path)]

    assert members("groups/ml-approvers/members/") == ["bo"]
    assert members("groups/ml-approvers/members/?recursive") == ["bo", "cy"]


def test_a_group_that_is_not_shown_is_like_none(history, refusal):
    for group in ("unseen", "nowhere"):
        assert refusal(history.gate.get, f"groups/{group}/members/?recursive") == (404, group)


# --- what goes wrong


def test_a_wrong_credential_is_refused_in_text(history, refusal):
    stranger = Caller(history.gerrit, ("gate", "another"))
    assert refusal(stranger.get, "changes/", q="status:merged") == (401, "Unauthorized")


def test_anybody_can_tag_a_message_as_gerrit_does(history):
    """Messages prove nothing, neither that a change was merged nor who made a patch set."""
    change = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY").change()
    forged = "Change has been successfully cherry-picked as " + change.sha
    change.vote("bo", 1, tag="autogenerated:gerrit:merged", message=forged)
    said = history.gate.get(change.path, o="MESSAGES")["messages"][-1]
    assert said["tag"] == "autogenerated:gerrit:merged" and forged in said["message"]


def test_a_restarted_server_tells_the_same(tell, history, gerrit):
    before = {case: tell(case).changes for case in ("rebase_always", "forced", "vetoed")}
    gerrit.stop()
    gerrit.start()
    for case, changes in before.items():
        told = tell(case)
        again = type(told)(history, told.case).read()
        assert again.on_branch
        assert [(c["meta_rev_id"], c["current_revision"], c["submit_requirements"]) for c in again.changes] == [
            (c["meta_rev_id"], c["current_revision"], c["submit_requirements"]) for c in changes
        ]
