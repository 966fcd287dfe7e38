//! Reviews as GitLab tells of them, one thing changed at a time.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::{
        accounts::Accounts,
        checks::{Check, CheckState},
        decide::{Step, Unreviewed},
        evidence::Evidence,
        votes::time,
    },
    decide::decide,
    facts::{Bare, Commit, Details, Event, Facts, Landed, Merge, Person, Pushes},
};
use crate::{
    policy::{
        EntryRef, Review,
        review::{
            Accepted, Authors, CodeHost, CommitFrom, Contributor, Requirements, Reviewers, Unreachable,
        },
    },
    time::Timestamp,
};

const HEAD: &str = "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const FIRST: &str = "a1b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const BASE: &str = "00b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const LANDED: &str = "c3b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const ANA: u64 = 1;
const BO: u64 = 2;
const EVE: u64 = 3;

fn read<T: for<'de> serde::Deserialize<'de>>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn review() -> Review {
    Review {
        entry: EntryRef { name: "reviewed".into(), file: "p.yaml".into(), line: 1 },
        host: CodeHost::GitLab("main".into()),
        project: "corp/ml/churn".into(),
        branch: "main".into(),
        labels: Box::new([]),
        approvals: 1,
        by: Box::new([]),
        not_by: Authors::ALL,
        commit: CommitFrom::Claim("sha".into()),
        requirements: Requirements::All,
        accept: Accepted::default(),
        max_age: None,
        merge_commits: false,
        statement: false,
        on_unreachable: Unreachable::Refuse,
        hold: Duration::ZERO,
    }
}

fn request() -> Value {
    json!({
        "id": 900, "iid": 42, "project_id": 9, "source_project_id": 9, "source_branch": "train", "target_branch": "main",
        "state": "merged", "sha": HEAD, "merge_commit_sha": null, "squash_commit_sha": LANDED,
        "merged_at": "2026-11-01T12:00:00.000Z", "author": {"id": ANA, "username": "ana"},
        "web_url": "https://gitlab.corp/corp/ml/churn/-/merge_requests/42"
    })
}

fn commit(sha: &str) -> Commit {
    let mail = || "ana@x.example".to_owned();
    let (author_mail, committer_mail) = (mail(), mail());
    Commit { sha: sha.into(), author_mail, committer_mail, message: "Train".into(), author: Some(ANA) }
}

fn push(action: &str, by: u64, from: Option<&str>, to: Option<&str>) -> Event {
    read(
        json!({"id": 1, "author_id": by, "created_at": "2026-11-01T10:00:00.000Z", "action_name": "pushed to",
        "push_data": {"action": action, "ref_type": "branch", "ref": "train", "commit_from": from, "commit_to": to}}),
    )
}

fn details() -> Details {
    Details {
        request: read(request()),
        commits: vec![commit(HEAD), commit(FIRST)],
        committers: [ANA].into(),
        approvals: read(
            json!({"approved": true, "approved_by": [{"user": {"id": BO}, "approved_at": "2026-11-01T11:00:00.000Z"}]}),
        ),
        reviewers: read(
            json!([{"user": {"id": BO}, "state": "approved"}, {"user": {"id": EVE}, "state": "unreviewed"}]),
        ),
        versions: read(json!([{"head_commit_sha": HEAD, "created_at": "2026-11-01T10:30:00.000Z"},
            {"head_commit_sha": FIRST, "created_at": "2026-11-01T09:30:00.000Z"}])),
        pushes: Some(Pushes {
            all: vec![push("pushed", ANA, Some(FIRST), Some(HEAD)), push("created", ANA, None, Some(FIRST))],
            is_whole: true,
        }),
        landed: Some(landed(HEAD, &[FIRST], true)),
        people: [BO, EVE].map(|id| (id, Person { is_human: true, writes: true })).into(),
        groups: Default::default(),
        checks: vec![Check { name: "build".into(), state: CheckState::Passed }],
    }
}

fn landed(sha: &str, parents: &[&str], is_the_same: bool) -> Landed {
    let parent_ids = parents.iter().map(|sha| (*sha).to_owned()).collect();
    Landed { commit: Bare { id: sha.to_owned(), parent_ids }, is_the_same }
}

fn now() -> Timestamp {
    time("2026-11-02T12:00:00Z").unwrap()
}

fn facts(details: Details) -> Facts {
    let requests = vec![read(request())];
    Facts { project: 9, requests, on_branch: true, details: Some(Box::new(details)), asked: now() }
}

fn decided_of(review: &Review, sha: &str, facts: &Facts) -> Result<Evidence, Unreviewed> {
    decide(review, sha, &Accounts::default(), facts, now())
}

/// Where it fails, after a change to what was found; `None` if it is reviewed.
fn after(edit: impl FnOnce(&mut Details)) -> Option<Step> {
    after_by(&review(), edit)
}

fn after_by(review: &Review, edit: impl FnOnce(&mut Details)) -> Option<Step> {
    let mut details = details();
    edit(&mut details);
    decided_of(review, HEAD, &facts(details)).err().map(|why| why.step)
}

#[test]
fn a_merge_request_that_another_human_approved_is_reviewed_and_says_by_whom() {
    let evidence = decided_of(&review(), HEAD, &facts(details())).unwrap();
    assert_eq!((evidence.number, evidence.sha.as_str(), evidence.revision.as_str()), (42, HEAD, HEAD));
    assert_eq!(evidence.url, "https://gitlab.corp/corp/ml/churn/-/merge_requests/42");
    assert_eq!(evidence.change_id, "corp/ml/churn!42");
    assert_eq!(evidence.approvers.iter().map(|one| one.account).collect::<Vec<_>>(), [BO]);
    let named = Accounts::new([(ANA, "corp:t/ana".to_owned()), (BO, "corp:t/bo".to_owned())].into());
    let evidence = decide(&review(), HEAD, &named, &facts(details()), now()).unwrap();
    assert_eq!(evidence.authors, Some(["corp:t/ana".to_owned()].into()));
    assert_eq!(evidence.approvers[0].person.as_deref(), Some("corp:t/bo"));
}

#[test]
fn what_is_not_exactly_one_merged_request_with_this_commit_is_not_reviewed() {
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut changed = request();
        edit(&mut changed);
        let requests: Vec<Merge> = vec![read(changed.clone())];
        let facts = Facts { requests, ..facts(Details { request: read(changed), ..details() }) };
        decided_of(&review(), HEAD, &facts).err().map(|why| why.step)
    };
    let change = Some(Step::Change);
    assert_eq!(with(&|_| {}), None);
    for state in ["opened", "closed", "locked", "Merged", ""] {
        assert_eq!(with(&|one| one["state"] = state.into()), change, "{state}");
    }
    assert_eq!(with(&|one| one["target_branch"] = "release".into()), change);
    assert_eq!(with(&|one| one["project_id"] = 8.into()), change, "a fork's");
    assert_eq!(with(&|one| one["sha"] = FIRST.into()), change, "merged with another commit");
    assert_eq!(with(&|one| one["merged_at"] = Value::Null), Some(Step::Reading));
    let mut twice = facts(details());
    twice.requests.push(twice.requests[0].clone());
    assert_eq!(decided_of(&review(), HEAD, &twice).unwrap_err().step, Step::Change);
    let mut none = facts(details());
    none.requests.clear();
    assert!(decided_of(&review(), HEAD, &none).unwrap_err().why.contains("pushed around review"));
    let mut rewound = facts(details());
    rewound.on_branch = false;
    assert_eq!(decided_of(&review(), HEAD, &rewound).unwrap_err().step, Step::Branch);
    let mut other = facts(details());
    other.requests[0].iid = 41;
    assert_eq!(decided_of(&review(), HEAD, &other).unwrap_err().step, Step::Reading);
    assert_eq!(after(|d| drop(d.commits.remove(0))), Some(Step::Reading), "not all commits are there");
}

#[test]
fn what_came_to_the_branch_differs_in_nothing_from_what_was_reviewed() {
    let of = |review: &Review, landed: Option<Landed>| {
        let details = Details { landed, ..details() };
        decided_of(review, LANDED, &facts(details)).map(|found| found.submit_type).map_err(|why| why.step)
    };
    let takes_merges = Review { merge_commits: true, ..review() };
    let squashed = Ok(Some("SQUASH_OR_REBASE".to_owned()));
    assert_eq!(of(&review(), Some(landed(LANDED, &[BASE], true))), squashed);
    assert_eq!(of(&review(), Some(landed(LANDED, &[BASE], false))), Err(Step::Change));
    assert_eq!(of(&review(), Some(landed(LANDED, &[BASE, HEAD], true))), Err(Step::Change));
    assert_eq!(of(&takes_merges, Some(landed(LANDED, &[BASE, HEAD], true))), Ok(Some("MERGE".to_owned())));
    assert_eq!(of(&takes_merges, Some(landed(LANDED, &[BASE, HEAD], false))), Err(Step::Change));
    assert_eq!(of(&review(), None), Err(Step::Reading));
    assert_eq!(of(&review(), Some(landed(HEAD, &[BASE], true))), Err(Step::Reading));
    let merge = |d: &mut Details| d.landed = Some(landed(HEAD, &[FIRST, BASE], true));
    assert_eq!(after(merge), Some(Step::Change));
    assert_eq!(after_by(&takes_merges, merge), None);
}

#[test]
fn only_a_human_who_may_write_approves_since_it_was_pushed_and_before_it_was_merged() {
    let nobody = Some(Step::Approval);
    let unread = Some(Step::Reading);
    let at = |when: Option<&str>| {
        let when = when.map(|when| format!("2026-11-01T{when}:00Z"));
        after(|d| d.approvals.approved_by[0].approved_at = when)
    };
    assert_eq!(at(Some("11:59")), None);
    assert_eq!(at(Some("12:01")), nobody, "after it was merged");
    assert_eq!(at(Some("10:30")), nobody, "of what was there before");
    assert_eq!(at(None), unread);
    assert_eq!(after(|d| d.versions.clear()), unread);
    assert_eq!(after(|d| d.versions.reverse()), unread, "the newest is another commit");
    assert_eq!(after(|d| d.approvals.approved_by.clear()), nobody);
    assert_eq!(after(|d| d.approvals.approved = false), Some(Step::Requirements));
    let person = |is_human, writes| after(|d| _ = d.people.insert(BO, Person { is_human, writes }));
    assert_eq!((person(false, true), person(true, false)), (nobody, nobody));
    assert_eq!(after(|d| _ = d.people.remove(&BO)), nobody);
    let asks = |d: &mut Details| d.reviewers[1].state = "requested_changes".into();
    assert_eq!(after(asks), Some(Step::Veto));
    let stranger = |d: &mut Details| {
        asks(d);
        d.people.insert(EVE, Person { is_human: true, writes: false });
    };
    assert_eq!(after(stranger), None);
    let unknown = |d: &mut Details| {
        asks(d);
        d.people.remove(&EVE);
    };
    assert_eq!(after(unknown), Some(Step::Veto));
    let named = |persons: &[(u64, &str)]| {
        let accounts = Accounts::new(persons.iter().map(|(id, who)| (*id, (*who).to_owned())).collect());
        decide(&review(), HEAD, &accounts, &facts(details()), now()).err().map(|why| why.step)
    };
    assert_eq!(named(&[(BO, "bo")]), None);
    assert_eq!(named(&[(BO, "ana"), (ANA, "ana")]), nobody, "a second account of the author's");
    assert_eq!(named(&[(EVE, "eve")]), nobody);
    let by = Review { by: [Reviewers { group: "risk".into(), count: 1 }].into(), ..review() };
    assert_eq!(after_by(&by, |d| drop(d.groups.insert("risk".into(), [BO].into()))), None);
    assert_eq!(after_by(&by, |d| drop(d.groups.insert("risk".into(), [EVE].into()))), nobody);
    assert_eq!(after_by(&by, |_| {}), unread);
    let recent = Review { max_age: Some(Duration::from_secs(3_600)), ..review() };
    assert_eq!(after_by(&recent, |_| {}), Some(Step::Age));
    assert_eq!(after(|d| d.checks[0].state = CheckState::Failed), Some(Step::Requirements));
}

#[test]
fn whoever_pushed_wrote_or_committed_something_of_it_does_not_approve_it() {
    let nobody = Some(Step::Approval);
    let unread = Some(Step::Reading);
    let step = |all: Vec<Event>, is_whole: bool| after(|d| d.pushes = Some(Pushes { all, is_whole }));
    assert_eq!(after(|d| d.request.author.id = BO), nobody);
    assert_eq!(after(|d| d.commits[1].author = Some(BO)), nobody, "of any commit");
    assert_eq!(after(|d| d.commits[1].author = None), nobody);
    assert_eq!(after(|d| d.commits[1].committer_mail = "ghost@x.example".into()), nobody);
    assert_eq!(after(|d| _ = d.committers.insert(BO)), nobody);
    let message = |text: &str| after(|d| d.commits[0].message = format!("x\n\nCo-authored-by: {text}\n"));
    assert_eq!(message("B <2-bo@users.noreply.gitlab.corp>"), nobody);
    assert_eq!(message("E <3-eve@users.noreply.gitlab.corp>"), None);
    assert_eq!(after(|d| d.pushes = None), unread);
    let last = || push("pushed", ANA, Some(FIRST), Some(HEAD));
    assert_eq!(step(vec![push("pushed", BO, Some(FIRST), Some(HEAD))], true), nobody);
    assert_eq!(step(vec![last(), push("pushed", BO, Some(BASE), Some(FIRST))], true), nobody);
    assert_eq!(step(vec![last()], false), unread, "there are older ones");
    assert_eq!(step(vec![push("pushed", ANA, Some(BASE), Some(FIRST))], true), unread, "who pushed the head");
    let made = push("created", ANA, None, Some(BASE));
    assert_eq!(step(vec![last(), made, push("pushed", BO, None, Some(FIRST))], false), None);
    let removed = |from: &str| push("removed", EVE, Some(from), None);
    let restored = || push("created", ANA, None, Some(HEAD));
    let before = || push("pushed", BO, Some(BASE), Some(HEAD));
    assert_eq!(step(vec![restored(), removed(HEAD), before()], true), nobody);
    assert_eq!(step(vec![restored(), removed(BASE), before()], true), None, "another branch of that name");
    let mut later = last();
    later.created_at = "2026-11-01T12:30:00Z".into();
    assert_eq!(step(vec![later], true), unread, "after it was merged");
    let mut tag = last();
    tag.push_data.as_mut().unwrap().ref_type = "tag".into();
    assert_eq!(step(vec![tag], true), unread);
    let only = Review { not_by: [Contributor::Author].into_iter().collect(), ..review() };
    assert_eq!(after_by(&only, |d| d.pushes = None), None);
}
