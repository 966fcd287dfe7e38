"""What a Gerrit's webhooks tell of what happens there: the hints that the gate is built to take, and why it believes none."""

import re

import pytest
from cases import CASES
from conftest import Told
from history import quoted
from hooks import Receiver, Webhooks

PATH = "/hooks/gerrit/main"
LONG_AGO = 1_700_000_000


@pytest.fixture(scope="module")
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture(scope="module")
def webhooks(gerrit, history, receiver):
    webhooks = Webhooks(gerrit)
    webhooks.post_to("all", f"{receiver.url}{PATH}")
    yield webhooks
    webhooks.stop()


@pytest.fixture(scope="module")
def happens(webhooks, receiver, history):
    """Lets a case happen, and answers what it is, and how to wait for what is told of its commit or of another."""
    # Whatever happened before somebody listened, for other tests, was told to nobody.
    heard_of = {}

    def happens(case):
        if case not in heard_of:
            heard_of[case] = Told(history, CASES[case](history)).read()
        told = heard_of[case]

        def heard(type, commit=None, **more):
            wanted = commit or told.case.sha
            return receiver.expect(lambda one: one.type == type and wanted in (one.commit, one.tip), **more)

        return told, heard

    return happens


def test_a_merge_is_told_with_the_commit_that_was_reviewed(happens, gerrit):
    told, heard = happens("fast_forward")
    posted = heard("change-merged")
    event, change = posted.event, told.change
    assert (event["patchSet"]["revision"], event["newRev"]) == (told.case.sha, told.case.sha)
    assert (event["change"]["project"], event["change"]["branch"]) == (told.case.project, "main")
    assert (event["change"]["number"], event["change"]["id"]) == (change["_number"], change["change_id"])
    assert (event["change"]["status"], event["refName"]) == ("MERGED", "refs/heads/main")
    assert event["change"]["url"] == f"{gerrit.url}/c/{told.case.project}/+/{change['_number']}"
    assert event["instanceId"] == "gerrit-1" and event["eventCreatedOn"] > LONG_AGO
    # Beside the change, an event of this version has its project and key as objects.
    assert event["project"] == {"name": told.case.project} and event["changeKey"] == {"key": change["change_id"]}


def test_people_are_told_by_name_and_mail_and_by_nothing_that_could_be_believed(happens):
    _, heard = happens("fast_forward")
    for type, who in (("comment-added", "author"), ("change-merged", "submitter"), ("patchset-created", "uploader")):
        assert heard(type).event[who].keys() == {"name", "email", "username"}, type
    vote = heard("comment-added").event
    assert [(a["type"], a["value"]) for a in vote["approvals"] if a["value"] != "0"] == [("Code-Review", "2")]


def test_nothing_says_that_it_was_gerrit_who_sent_it(happens, gerrit):
    _, heard = happens("fast_forward")
    posted = heard("change-merged")
    assert posted.line == f"POST {PATH} HTTP/1.1"
    assert posted.headers["content-type"] == "application/json; charset=utf-8"
    assert posted.headers["x-origin-url"] == f"{gerrit.url}/"
    # No signature, no secret, no number of the delivery.
    assert posted.headers.keys() == {
        "host", "connection", "user-agent", "accept-encoding", "content-type", "content-length", "x-origin-url",
    }


def test_the_new_tip_is_not_the_change_where_gerrit_makes_a_merge(happens):
    told, heard = happens("merge_made_by_gerrit")
    update = heard("ref-updated", commit=told.case.sha)
    merged = heard("change-merged", commit=told.history.admin.get(
        f"projects/{told.case.project.replace('/', '%2F')}/commits/{told.case.sha}"
    )["parents"][1]["commit"])
    assert merged.event["newRev"] == told.case.sha == update.event["refUpdate"]["newRev"]
    assert merged.commit != told.case.sha


@pytest.mark.parametrize("case", ["rebase_always", "cherry_pick"])
def test_the_patch_set_that_gerrit_makes_is_told_by_its_merge_alone(happens, receiver, case):
    told, heard = happens(case)
    merged = heard("change-merged")
    heard("ref-updated")
    assert merged.event["newRev"] == told.case.sha and merged.event["patchSet"]["number"] == 2
    assert receiver.about(told.case.sha) == {"change-merged", "ref-updated"}


def test_a_forced_submit_is_told_like_a_merge_without_a_vote(happens, receiver):
    told, heard = happens("forced")
    assert heard("change-merged").event["change"]["status"] == "MERGED"
    heard("ref-updated")
    assert "comment-added" not in receiver.about(told.case.sha)


def test_a_push_past_review_is_told_as_a_branch_that_moved(happens, receiver):
    told, heard = happens("pushed_past_review")
    heard("ref-updated")
    assert receiver.about(told.case.sha) == {"ref-updated"}


def test_private_changes_are_told_too_so_the_listener_must_be_internal(happens):
    _, heard = happens("private")
    assert heard("patchset-created").event["change"]["private"] is True


def test_many_refs_move_that_are_no_branches(happens, receiver):
    told, heard = happens("fast_forward")
    heard("change-merged")
    told.history.admin.put(f"projects/{quoted(told.case.project)}/description", {"description": "models"})
    receiver.expect(lambda one: one.type == "ref-updated" and re.match(r"refs/changes/\d\d/\d+/\d+", one.ref))
    receiver.expect(lambda one: one.type == "ref-updated" and one.ref == "refs/meta/config")


def test_who_names_events_gets_no_others(webhooks, receiver, happens):
    webhooks.post_to("merges", f"{receiver.url}/merges", events=["change-merged"])
    told, _ = happens("merge_always")
    receiver.expect(lambda one: one.path == "/merges" and one.commit == told.case.sha)
    assert {one.type for one in receiver.got if one.path == "/merges"} == {"change-merged"}


def test_who_is_busy_is_told_again_the_same_to_the_byte(webhooks, receiver, happens):
    receiver.refusals["/busy"] = 2
    webhooks.post_to("busy", f"{receiver.url}/busy", events=["change-merged"], interval=0.2)
    told, _ = happens("fast_forward_only")
    receiver.expect(lambda one: one.path == "/busy" and one.commit == told.case.sha and one.status == 202)
    tries = [one for one in receiver.got if one.path == "/busy" and one.commit == told.case.sha]
    assert [one.status for one in tries] == [503, 503, 202] and len({one.body for one in tries}) == 1


def test_what_is_not_taken_after_the_last_try_is_lost(webhooks, receiver, happens):
    """Which is why whoever must not miss a merge asks for them, too."""
    receiver.refusals["/away"] = 2
    webhooks.post_to("away", f"{receiver.url}/away", events=["change-merged"], tries=2, interval=0.2)
    missed, _ = happens("two_approvals")
    receiver.expect(lambda one: one.path == "/away" and one.commit == missed.case.sha and not receiver.refusals["/away"])
    seen, _ = happens("private_and_merged")
    receiver.expect(lambda one: one.path == "/away" and one.commit == seen.case.sha and one.status == 202)
    assert {one.status for one in receiver.got if one.path == "/away" and one.commit == missed.case.sha} == {503}
    assert told_by_asking(missed)


def told_by_asking(told):
    query = f'project:"{told.case.project}" branch:main status:merged'
    return told.case.sha in {c["current_revision"] for c in told.get("changes/", q=query, o=["CURRENT_REVISION"])}
