"""Every way in which a commit can come, or not come, to a branch: each a function that makes it happen and names the commit."""

from history import BRANCH, INDEPENDENT, LENIENT, OTHER_BRANCH, mail

CASES = {}


def case(make):
    CASES[make.__name__] = make
    return make


# --- reviewed by somebody else and merged, with each way of merging


def merged(history, action, approved_by="bo", submitted_by="cy", beside=False):
    """The change that was merged; `beside` another one, so that its parent is no longer the tip."""
    project = history.project(f"ml/{action.lower().replace('_', '-')}", action)
    change = project.reviewed(by=approved_by)
    if beside:
        project.reviewed(by=approved_by).submit(submitted_by)
    change.submit(submitted_by)
    return project, change


@case
def fast_forward(history):
    project, change = merged(history, "MERGE_IF_NECESSARY")
    return project.case(change.sha)


@case
def merged_beside_another(history):
    project, change = merged(history, "MERGE_IF_NECESSARY", beside=True)
    return project.case(change.sha)


@case
def merge_made_by_gerrit(history):
    project, _ = merged(history, "MERGE_IF_NECESSARY", beside=True)
    return project.case(project.fetch())


@case
def merge_always(history):
    project, change = merged(history, "MERGE_ALWAYS")
    return project.case(change.sha)


@case
def merge_always_made_by_gerrit(history):
    project, _ = merged(history, "MERGE_ALWAYS")
    return project.case(project.fetch())


@case
def fast_forward_only(history):
    project, change = merged(history, "FAST_FORWARD_ONLY")
    return project.case(change.sha)


@case
def rebase_not_necessary(history):
    project, change = merged(history, "REBASE_IF_NECESSARY")
    return project.case(change.current())


@case
def rebase_necessary(history):
    project, change = merged(history, "REBASE_IF_NECESSARY", beside=True)
    return project.case(change.current())


@case
def before_a_necessary_rebase(history):
    project, change = merged(history, "REBASE_IF_NECESSARY", beside=True)
    return project.case(change.sha)


@case
def rebase_always(history):
    project, change = merged(history, "REBASE_ALWAYS")
    return project.case(change.current())


@case
def rebase_always_submitted_by_the_approver(history):
    project, change = merged(history, "REBASE_ALWAYS", submitted_by="bo")
    return project.case(change.current())


@case
def before_a_rebase(history):
    project, change = merged(history, "REBASE_ALWAYS")
    return project.case(change.sha)


@case
def cherry_pick(history):
    project, change = merged(history, "CHERRY_PICK")
    return project.case(change.current())


@case
def cherry_pick_submitted_by_the_approver(history):
    project, change = merged(history, "CHERRY_PICK", submitted_by="bo")
    return project.case(change.current())


@case
def two_approvals(history):
    project = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY")
    change = project.reviewed(by="bo")
    change.vote("cy", 2)
    change.submit("cy")
    return project.case(change.sha)


# --- merged, but not as a policy would have it


def lenient(history):
    """Where Gerrit itself is content with any approval."""
    return history.project("ml/lenient", "MERGE_IF_NECESSARY", LENIENT)


@case
def forced(history):
    """Submitted while it was pushed, past every requirement."""
    project = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY")
    sha, _, _ = project.commit("ana")
    project.push(sha, f"refs/for/{BRANCH}%submit", by="admin")
    return project.case(sha)


@case
def self_approved(history):
    change = lenient(history).reviewed(by="ana")
    change.submit("ana")
    return change.project.case(change.sha)


@case
def approved_by_a_service_user(history):
    change = lenient(history).reviewed(by="robot")
    change.submit("cy")
    return change.project.case(change.sha)


@case
def approved_by_the_author_under_another_address(history):
    """Ana uploads what Dee wrote under an address that Dee is not known by; Dee approves it."""
    change = lenient(history).reviewed(by="dee", author="dee@home.example")
    change.submit("cy")
    return change.project.case(change.sha)


@case
def approved_by_somebody_whom_azure_does_not_know(history):
    """Eve's account is joined with nobody."""
    change = lenient(history).reviewed(by="eve")
    change.submit("cy")
    return change.project.case(change.sha)


@case
def approved_by_another_account_of_its_owner(history):
    """Two accounts, one person at Azure: Gerrit sees two people."""
    change = lenient(history).reviewed(by="ana2")
    change.submit("cy")
    return change.project.case(change.sha)


@case
def approved_by_an_earlier_uploader(history):
    """Bo pushed the first patch set of Ana's change, Ana the second, Bo approves."""
    project = lenient(history)
    change = project.change("bo")
    change.again("ana")
    change.vote("bo", 2)
    change.submit("cy")
    return project.case(change.sha)


@case
def vetoed(history):
    change = lenient(history).reviewed(by="bo")
    change.vote("cy", -2)
    change.submit("bo")
    return change.project.case(change.sha)


@case
def approved_after_the_merge(history):
    """Approved by the owner alone when it was merged, by somebody else after that."""
    change = lenient(history).reviewed(by="ana")
    change.submit("ana")
    change.vote("bo", 2)
    return change.project.case(change.sha)


@case
def approved_by_somebody_who_left(history):
    history.accounts["leaver"] = history.admin.put("accounts/leaver", {
        "name": "Leaver", "email": mail("leaver"), "http_password": history.gerrit.password("leaver"),
        "groups": ["ml-reviewers"],
    })["_account_id"]
    history.join("leaver", "1ea4e000-0000-4000-8000-000000000001")
    change = lenient(history).reviewed(by="leaver")
    change.submit("cy")
    history.admin.delete("accounts/leaver/active")
    return change.project.case(change.sha)


@case
def overridden(history):
    project = history.project("ml/overridable", "MERGE_IF_NECESSARY", INDEPENDENT | {
        "override_expression": "hashtag:urgent",
    }, LENIENT | {"override_expression": "hashtag:urgent"})
    change = project.change()
    change.as_("ana").post(f"{change.path}/hashtags", {"add": ["urgent"]})
    change.submit("cy")
    return project.case(change.sha)


@case
def not_applicable(history):
    project = history.project("ml/elsewhere", "MERGE_IF_NECESSARY", INDEPENDENT | {
        "applicability_expression": "branch:refs/heads/production",
    }, LENIENT | {"applicability_expression": "branch:refs/heads/production"})
    change = project.change()
    change.submit("cy")
    return project.case(change.sha)


@case
def raised_after_the_merge(history):
    """Approved by the owner when it was merged; somebody else, who had voted less, approved afterwards."""
    change = lenient(history).reviewed(by="ana")
    change.vote("bo", 1)
    change.submit("ana")
    change.vote("bo", 2)
    return change.project.case(change.sha)


@case
def approval_taken_back(history):
    """Bo approved and took it back; what was merged has the owner's own approval."""
    change = lenient(history).reviewed(by="bo")
    change.vote("bo", 0)
    change.vote("ana", 2)
    change.submit("ana")
    return change.project.case(change.sha)


@case
def approved_before_a_rebase_by_hand(history):
    """The approval is of the first patch set; the second is the same change on a newer parent, and Gerrit copied it."""
    project = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY")
    change = project.reviewed(by="bo")
    project.reviewed(by="bo").submit("cy")
    change.as_("ana").post(f"{change.path}/rebase")
    change.submit("cy")
    return project.case(change.current())


@case
def approved_before_the_code_changed(history):
    """The approval is of the first patch set; the second has other code, and only its owner approved that."""
    project = lenient(history)
    change = project.reviewed(by="bo")
    change.again("ana", text="print('something else')\n")
    change.vote("ana", 2)
    change.submit("ana")
    return project.case(change.sha)


@case
def private_and_merged(history):
    project = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY")
    change = project.change(options="%private,r=bo@x.example,r=cy@x.example")
    change.vote("bo", 2)
    change.submit("cy")
    return project.case(change.sha)


@case
def merge_by_hand(history):
    """A reviewed merge that Ana made, of what somebody pushed to another branch past review."""
    project = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY")
    beside, _, _ = project.commit("ana", parents=[project.fetch(f"refs/heads/{OTHER_BRANCH}")])
    project.push(beside, f"refs/heads/{OTHER_BRANCH}", by="admin", force=True)
    change = project.reviewed(by="bo", parents=[project.fetch(), beside])
    change.submit("cy")
    return project.case(change.sha)


# --- not merged there, or no longer


@case
def pushed_past_review(history):
    project = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY")
    sha, _, _ = project.commit("ana")
    project.push(sha, f"refs/heads/{BRANCH}", by="admin")
    return project.case(sha)


@case
def old_patch_set(history):
    project = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY")
    change = project.change()
    first = change.sha
    change.again()
    change.vote("bo", 2)
    change.submit("cy")
    return project.case(first)


@case
def approved_and_not_merged(history):
    change = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY").reviewed(by="bo")
    return change.project.case(change.sha)


@case
def abandoned(history):
    change = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY").reviewed(by="bo")
    change.as_("ana").post(f"{change.path}/abandon")
    return change.project.case(change.sha)


@case
def private(history):
    """Approved by a reviewer of a change that nobody else sees."""
    project = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY")
    change = project.change(options="%private,r=bo@x.example")
    change.vote("bo", 2)
    return project.case(change.sha)


@case
def rewound(history):
    """Merged, and then the branch was set back to where it had been."""
    project = history.project("ml/rewound", "MERGE_IF_NECESSARY")
    before = project.fetch()
    change = project.reviewed(by="bo")
    change.submit("cy")
    project.push(before, f"refs/heads/{BRANCH}", by="admin", force=True)
    return project.case(change.sha)


@case
def merged_to_another_branch(history):
    project = history.project("ml/branches", "MERGE_IF_NECESSARY")
    parent = project.fetch(f"refs/heads/{OTHER_BRANCH}")
    change = project.reviewed(by="bo", branch=OTHER_BRANCH, parents=[parent])
    change.submit("cy")
    return project.case(change.sha)


@case
def the_same_commit_on_two_branches(history):
    """Two changes of one commit, both merged: whoever asks for it gets both."""
    project = history.project("ml/both", "MERGE_IF_NECESSARY")
    # The branches begin apart; one commit can be a child of both tips only as a merge of them.
    first, second = project.fetch(), project.fetch(f"refs/heads/{OTHER_BRANCH}")
    parents = list(dict.fromkeys([first, second]))
    sha, identity, file = project.commit("ana", parents=parents)
    changes = []
    for branch in (BRANCH, OTHER_BRANCH):
        # Else a commit that is in one change already makes no second one.
        base = ",".join(f"base={parent}" for parent in parents)
        project.push(sha, f"refs/for/{branch}%{base}", by="ana")
        changes.append(project.found(sha, branch, identity, file))
    for change in changes:
        change.vote("bo", 2)
        change.submit("cy")
    return project.case(sha)


@case
def a_branch_that_left_review_behind(history):
    """Merged by review, and afterwards somebody pushed more on top: the reviewed commit stays what it was."""
    project = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY")
    change = project.reviewed(by="bo")
    change.submit("cy")
    sha, _, _ = project.commit("ana")
    project.push(sha, f"refs/heads/{BRANCH}", by="admin")
    return project.case(change.sha)


@case
def no_such_commit(history):
    project = history.project("ml/merge-if-necessary", "MERGE_IF_NECESSARY")
    return project.case("00000000000000000000000000000000000000ff")
