//! Reviews as GitHub tells of them, one thing changed at a time.

use std::time::Duration;

use proptest::prelude::*;
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
    facts::{Access, Account, Commit, Details, Facts, Landed, Push, Pushes, Said},
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

fn user(id: u64) -> Value {
    let login = ["ghost", "ana", "bo", "eve"][usize::try_from(id).unwrap()];
    json!({"login": login, "id": id, "type": "User", "site_admin": false})
}

fn account(id: u64) -> Account {
    serde_json::from_value(user(id)).unwrap()
}

fn read<T: for<'de> serde::Deserialize<'de>>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn review() -> Review {
    Review {
        entry: EntryRef { name: "reviewed".into(), file: "p.yaml".into(), line: 1 },
        host: CodeHost::GitHub("main".into()),
        project: "corp/churn".into(),
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

fn pull_json() -> Value {
    let repo = json!({"id": 9, "full_name": "corp/churn"});
    json!({
        "number": 42, "html_url": "https://github.com/corp/churn/pull/42", "state": "closed", "user": user(ANA),
        "created_at": "2026-11-01T09:00:00Z", "merged_at": "2026-11-01T12:00:00Z", "merge_commit_sha": LANDED,
        "head": {"ref": "train", "sha": HEAD, "repo": repo}, "base": {"ref": "main", "sha": BASE, "repo": repo},
        "commits": 2, "merged": true, "merged_by": user(BO)
    })
}

fn commit(sha: &str, parent: &str) -> Commit {
    read(json!({
        "sha": sha, "author": user(ANA), "committer": user(ANA), "parents": [{"sha": parent}],
        "commit": {"author": {"name": "Ana", "email": "ana@x.example", "date": "2026-11-01T10:00:00Z"}, "message": "Train",
            "committer": {"name": "Ana", "email": "ana@x.example"}, "verification": {"verified": false, "reason": "unsigned"}}
    }))
}

fn said(by: u64, state: &str, at: &str) -> Said {
    read(
        json!({"id": 7, "user": user(by), "state": state, "commit_id": HEAD, "submitted_at": format!("2026-11-01T{at}:00Z")}),
    )
}

fn push(kind: &str, by: u64, before: &str, after: &str) -> Push {
    read(
        json!({"id": 1, "before": before, "after": after, "ref": "refs/heads/train", "timestamp": "2026-11-01T10:30:00Z",
        "activity_type": kind, "actor": user(by)}),
    )
}

fn writes(id: u64, permission: &str) -> Access {
    Access { permission: permission.into(), user: Some(account(id)) }
}

fn details() -> Details {
    Details {
        pull: read(pull_json()),
        commits: vec![commit(FIRST, BASE), commit(HEAD, FIRST)],
        said: vec![said(BO, "APPROVED", "11:00")],
        happened: read(json!([{"event": "labeled", "created_at": "2026-11-01T11:30:00Z"}])),
        pushes: Some(Pushes {
            all: vec![push("push", ANA, FIRST, HEAD), push("branch_creation", ANA, &"0".repeat(40), FIRST)],
            is_whole: true,
        }),
        landed: None,
        access: [BO, EVE].map(|id| (id, writes(id, "write"))).into(),
        teams: Default::default(),
        checks: vec![Check { name: "build".into(), state: CheckState::Passed }],
    }
}

fn now() -> Timestamp {
    time("2026-11-02T12:00:00Z").unwrap()
}

fn facts(details: Details) -> Facts {
    Facts { pulls: vec![read(pull_json())], on_branch: true, details: Some(Box::new(details)), asked: now() }
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
fn a_pull_request_that_another_human_approved_is_reviewed_and_says_by_whom() {
    let evidence = decided_of(&review(), HEAD, &facts(details())).unwrap();
    assert_eq!((evidence.number, evidence.sha.as_str(), evidence.revision.as_str()), (42, HEAD, HEAD));
    assert_eq!(evidence.url, "https://github.com/corp/churn/pull/42");
    assert_eq!(evidence.change_id, "corp/churn#42");
    assert_eq!(evidence.requirements, [("build".to_owned(), "PASSED".to_owned())]);
    let approvers: Vec<_> = evidence.approvers.iter().map(|one| (one.account, one.person.clone())).collect();
    assert_eq!(approvers, [(BO, None)]);
    assert_eq!(evidence.authors, None, "nobody is known as a person");
    let named = Accounts::new([(ANA, "corp:t/ana".to_owned()), (BO, "corp:t/bo".to_owned())].into());
    let evidence = decide(&review(), HEAD, &named, &facts(details()), now()).unwrap();
    assert_eq!(evidence.authors, Some(["corp:t/ana".to_owned()].into()));
    assert_eq!(evidence.approvers[0].person.as_deref(), Some("corp:t/bo"));
}

#[test]
fn what_is_not_exactly_one_merged_pull_request_with_this_commit_is_not_reviewed() {
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut pull = pull_json();
        edit(&mut pull);
        let facts =
            Facts { pulls: vec![read(pull.clone())], ..facts(Details { pull: read(pull), ..details() }) };
        decided_of(&review(), HEAD, &facts).err().map(|why| why.step)
    };
    let change = Some(Step::Change);
    assert_eq!(with(&|_| {}), None);
    assert_eq!(with(&|pull| pull["merged_at"] = Value::Null), change);
    assert_eq!(with(&|pull| pull["base"]["ref"] = "release".into()), change);
    assert_eq!(with(&|pull| pull["base"]["repo"]["full_name"] = "eve/churn".into()), change);
    assert_eq!(with(&|pull| pull["base"]["repo"] = Value::Null), change);
    assert_eq!(with(&|pull| pull["head"]["sha"] = FIRST.into()), change, "pushed after it was merged");
    assert_eq!(with(&|pull| pull["commits"] = 3.into()), Some(Step::Reading), "not all commits are there");
    let mut twice = facts(details());
    twice.pulls.push(twice.pulls[0].clone());
    assert_eq!(decided_of(&review(), HEAD, &twice).unwrap_err().step, Step::Change);
    let mut none = facts(details());
    none.pulls.clear();
    assert!(decided_of(&review(), HEAD, &none).unwrap_err().why.contains("pushed around review"));
    let mut rewound = facts(details());
    rewound.on_branch = false;
    assert_eq!(decided_of(&review(), HEAD, &rewound).unwrap_err().step, Step::Branch);
    // Another number than the one that was looked at closely.
    let mut other = facts(details());
    other.pulls[0].number = 41;
    assert_eq!(decided_of(&review(), HEAD, &other).unwrap_err().step, Step::Reading);
    assert_eq!(after(|d| d.commits.iter_mut().for_each(|c| c.sha = FIRST.into())), Some(Step::Reading));
    // What a merge brings along is only taken where the entry says so.
    let merge = |d: &mut Details| d.commits[1].parents.push(super::facts::Name { sha: BASE.into() });
    assert_eq!(after(merge), change);
    assert_eq!(after_by(&Review { merge_commits: true, ..review() }, merge), None);
}

/// What came to the branch by merging: its parents, and whether it contains what was reviewed.
fn landing(parents: &[&str], tree: &str) -> Landed {
    let parents: Vec<_> = parents.iter().map(|sha| json!({"sha": sha})).collect();
    Landed {
        commit: read(json!({"sha": LANDED, "tree": {"sha": tree}, "parents": parents})),
        reviewed: "t1".into(),
        merges: Vec::new(),
    }
}

fn merged(kind: &str, before: &str) -> Push {
    Push { branch: "refs/heads/main".into(), ..push(kind, BO, before, LANDED) }
}

#[test]
fn what_github_made_by_merging_counts_and_what_somebody_pushed_that_looks_like_it_does_not() {
    let of = |review: &Review, landed: Option<Landed>| {
        let details = Details { landed, ..details() };
        decided_of(review, LANDED, &facts(details)).map(|found| found.submit_type).map_err(|why| why.step)
    };
    let takes_merges = Review { merge_commits: true, ..review() };
    let squashed = Ok(Some("SQUASH_OR_REBASE".to_owned()));
    assert_eq!(of(&review(), Some(landing(&[BASE], "t1"))), squashed, "to the letter what was reviewed");
    assert_eq!(of(&review(), Some(landing(&[BASE], "t2"))), Err(Step::Change), "nobody knows who made it");
    let recorded = |push: Push, parents: &[&str]| Landed { merges: vec![push], ..landing(parents, "t2") };
    for kind in ["pr_merge", "merge_queue_merge"] {
        assert_eq!(of(&review(), Some(recorded(merged(kind, BASE), &[BASE]))), squashed);
    }
    for kind in ["push", "force_push", "branch_creation", "merge"] {
        assert_eq!(of(&review(), Some(recorded(merged(kind, BASE), &[BASE]))), Err(Step::Change), "{kind}");
    }
    let elsewhere = Push { branch: "refs/heads/train".into(), ..merged("pr_merge", BASE) };
    assert_eq!(of(&review(), Some(recorded(elsewhere, &[BASE]))), Err(Step::Change));
    let another = Push { after: HEAD.into(), ..merged("pr_merge", BASE) };
    assert_eq!(of(&review(), Some(recorded(another, &[BASE]))), Err(Step::Change));
    // A merge commit merges what was reviewed into what the branch was.
    let merge = || recorded(merged("pr_merge", BASE), &[BASE, HEAD]);
    assert_eq!(of(&review(), Some(merge())), Err(Step::Change), "merges are not taken");
    assert_eq!(of(&takes_merges, Some(merge())), Ok(Some("MERGE".to_owned())));
    for odd in [&[BASE, FIRST][..], &[HEAD, BASE], &[BASE, HEAD, FIRST], &[]] {
        assert_eq!(of(&takes_merges, Some(recorded(merged("pr_merge", BASE), odd))), Err(Step::Change));
    }
    let onto_another = recorded(merged("pr_merge", FIRST), &[BASE, HEAD]);
    assert_eq!(of(&takes_merges, Some(onto_another)), Err(Step::Change));
    assert_eq!(of(&review(), None), Err(Step::Reading));
    let mut other = landing(&[BASE], "t1");
    other.commit.sha = HEAD.into();
    assert_eq!(of(&review(), Some(other)), Err(Step::Reading));
}

#[test]
fn only_a_human_who_may_write_and_had_no_hand_in_it_approves_that_very_commit_and_before_it_was_merged() {
    let nobody = Some(Step::Approval);
    assert_eq!(after(|d| d.said.clear()), nobody);
    assert_eq!(after(|d| d.said[0] = said(BO, "COMMENTED", "11:00")), nobody);
    assert_eq!(after(|d| d.said[0] = said(BO, "DISMISSED", "11:00")), nobody);
    assert_eq!(after(|d| d.said[0] = said(BO, "approved", "11:00")), nobody);
    assert_eq!(after(|d| d.said[0].commit_id = Some(FIRST.into())), nobody, "of an older head");
    assert_eq!(after(|d| d.said[0].commit_id = None), nobody);
    assert_eq!(after(|d| d.said[0] = said(BO, "APPROVED", "12:01")), nobody, "after it was merged");
    assert_eq!(after(|d| d.said[0].submitted_at = None), nobody);
    // What was approved before it was turned to this branch was another difference.
    for event in ["base_ref_changed", "automatic_base_change_succeeded"] {
        let turned = |at: Value| after(|d| d.happened.push(read(json!({"event": event, "created_at": at}))));
        assert_eq!(turned("2026-11-01T11:30:00Z".into()), nobody, "{event}");
        assert_eq!(turned("2026-11-01T10:30:00Z".into()), None, "{event}");
        assert_eq!(turned(Value::Null), Some(Step::Reading), "{event}");
    }
    assert_eq!(after(|d| d.said[0].user = None), nobody);
    assert_eq!(after(|d| d.said[0] = said(ANA, "APPROVED", "11:00")), nobody);
    for kind in ["Bot", "Organization", "Mannequin", "user", ""] {
        assert_eq!(after(|d| d.said[0].user.as_mut().unwrap().kind = kind.into()), nobody, "{kind}");
    }
    for permission in ["read", "none", "triage", "WRITE", ""] {
        assert_eq!(after(|d| drop(d.access.insert(BO, writes(BO, permission)))), nobody, "{permission}");
    }
    assert_eq!(after(|d| drop(d.access.insert(BO, writes(BO, "admin")))), None);
    assert_eq!(
        after(|d| drop(d.access.insert(BO, writes(EVE, "write")))),
        nobody,
        "another has the name now"
    );
    assert_eq!(after(|d| d.access.clear()), nobody);
    let two = Review { approvals: 2, ..review() };
    assert_eq!(after_by(&two, |_| {}), nobody);
    assert_eq!(after_by(&two, |d| d.said.push(said(BO, "APPROVED", "11:30"))), nobody, "the same once more");
    assert_eq!(after_by(&two, |d| d.said.push(said(EVE, "APPROVED", "11:30"))), None);
    let named = |persons: &[(u64, &str)]| {
        let mut details = details();
        details.said.push(said(EVE, "APPROVED", "11:30"));
        let accounts = Accounts::new(persons.iter().map(|(id, who)| (*id, (*who).to_owned())).collect());
        decide(&two, HEAD, &accounts, &facts(details), now()).err().map(|why| why.step)
    };
    assert_eq!(named(&[(BO, "bo"), (EVE, "eve")]), None);
    assert_eq!(named(&[(BO, "bo"), (EVE, "bo")]), nobody, "two accounts of one human");
    assert_eq!(named(&[(BO, "bo"), (EVE, "ana"), (ANA, "ana")]), nobody, "a second account of the author's");
    assert_eq!(named(&[(BO, "bo")]), nobody, "whose account it is is not known");
    // A later word of the same human counts, whatever came before.
    assert_eq!(after(|d| d.said.push(said(BO, "DISMISSED", "11:30"))), nobody);
    assert_eq!(after(|d| d.said.push(said(BO, "COMMENTED", "11:30"))), None);
    assert_eq!(after(|d| d.said.push(said(BO, "APPROVED", "12:30"))), None);
}

#[test]
fn who_asked_for_changes_and_may_write_stops_it_until_they_approve_or_are_dismissed() {
    let veto = Some(Step::Veto);
    let asks = |at: &str| said(EVE, "CHANGES_REQUESTED", at);
    assert_eq!(after(|d| d.said.push(asks("11:30"))), veto);
    assert_eq!(after(|d| d.said.push(asks("12:30"))), veto, "whenever");
    let of_an_older_head = Said { commit_id: Some(FIRST.into()), ..asks("10:00") };
    assert_eq!(after(|d| d.said.insert(0, of_an_older_head.clone())), veto);
    assert_eq!(after(|d| d.said.extend([asks("11:30"), said(EVE, "COMMENTED", "11:40")])), veto);
    assert_eq!(after(|d| d.said.extend([asks("11:30"), said(EVE, "APPROVED", "11:40")])), None);
    assert_eq!(after(|d| d.said.push(said(EVE, "DISMISSED", "11:30"))), None);
    assert_eq!(
        after(|d| d.said.push(said(BO, "CHANGES_REQUESTED", "11:30"))),
        veto,
        "their own approval, too"
    );
    // A stranger's word stops nobody; of whom nothing is known may be somebody who may write.
    let stranger = |d: &mut Details| {
        d.said.push(asks("11:30"));
        d.access.insert(EVE, writes(EVE, "read"));
    };
    assert_eq!(after(stranger), None);
    let unknown = |d: &mut Details| {
        d.said.push(asks("11:30"));
        d.access.remove(&EVE);
    };
    assert_eq!(after(unknown), veto);
}

#[test]
fn whoever_pushed_wrote_or_committed_something_of_it_does_not_approve_it() {
    let nobody = Some(Step::Approval);
    let unread = Some(Step::Reading);
    let only = |one: Contributor| Review { not_by: [one].into_iter().collect(), ..review() };
    assert_eq!(after(|d| d.pull.user = Some(account(BO))), nobody);
    assert_eq!(after(|d| d.pull.user = None), unread);
    // An author may be written by anybody; who pushed cannot.
    assert_eq!(
        after(|d| d.pushes.as_mut().unwrap().all[0].actor = Some(account(BO))),
        nobody,
        "the last pusher"
    );
    assert_eq!(
        after(|d| d.pushes.as_mut().unwrap().all[1].actor = Some(account(BO))),
        nobody,
        "an earlier one"
    );
    assert_eq!(after(|d| d.pushes = None), unread);
    assert_eq!(after(|d| drop(d.pushes.as_mut().unwrap().all.remove(0))), unread, "who pushed the head");
    assert_eq!(after_by(&only(Contributor::Author), |d| d.pushes = None), None);
    assert_eq!(after(|d| d.commits[0].author = Some(account(BO))), nobody, "of any commit");
    assert_eq!(after(|d| d.commits[0].author = None), nobody, "an e-mail that is no account's");
    assert_eq!(after(|d| d.commits[1].committer = Some(account(BO))), nobody);
    assert_eq!(after(|d| d.commits[1].committer = None), nobody);
    let by_github = |verified: bool| {
        move |d: &mut Details| {
            let web: Account = read(json!({"login": "web-flow", "id": 19864447, "type": "User"}));
            d.commits[1].committer = Some(web);
            d.commits[1].commit.verification.as_mut().unwrap().verified = verified;
        }
    };
    assert_eq!(after(by_github(true)), None, "its author had GitHub commit it");
    assert_eq!(after(by_github(false)), nobody, "anybody can write that GitHub committed it");
    for trailer in [
        "Co-authored-by: Bo <2+bo@users.noreply.github.com>",
        "co-authored-by: Bo <99+Bo@users.noreply.github.com>",
        "Co-Authored-By: B <bo@users.noreply.github.com>",
    ] {
        let message = format!("Train\n\n{trailer}\n");
        assert_eq!(after(|d| d.commits[0].commit.message = message.clone()), nobody, "{trailer}");
    }
    assert_eq!(
        after(|d| {
            d.said.push(said(EVE, "APPROVED", "11:30"));
            d.commits[1].commit.message = "x\n\nCo-authored-by: E <Eve@x.example>\n".into();
            d.commits[0].author = Some(account(EVE));
            d.commits[0].commit.author.as_mut().unwrap().email = Some("eve@x.example".into());
        }),
        None,
        "the other one's vote still counts"
    );
}

#[test]
fn who_pushed_is_followed_until_the_branch_was_made_and_past_what_was_forced() {
    let step = |all: Vec<Push>, is_whole: bool| after(|d| d.pushes = Some(Pushes { all, is_whole }));
    let zero = "0".repeat(40);
    let old = "ee".repeat(20);
    let (nobody, unread) = (Some(Step::Approval), Some(Step::Reading));
    let last = || push("push", ANA, FIRST, HEAD);
    // What came before the branch held anything of it does not matter.
    assert_eq!(step(vec![last(), push("push", ANA, BASE, FIRST), push("push", BO, &old, BASE)], false), None);
    assert_eq!(
        step(vec![last(), push("branch_creation", ANA, &zero, BASE), push("push", BO, &old, &old)], false),
        None
    );
    // A forced push may have left something of what was there.
    let forced = vec![last(), push("force_push", ANA, &old, FIRST), push("push", BO, BASE, &old)];
    assert_eq!(step(forced.clone(), true), nobody);
    assert_eq!(step(forced[..2].to_vec(), true), None);
    assert_eq!(step(forced[..2].to_vec(), false), unread, "there are older ones");
    // A branch that was restored was pushed by somebody before.
    let restored = vec![
        push("branch_creation", ANA, &zero, HEAD),
        push("branch_deletion", ANA, HEAD, &zero),
        push("push", BO, BASE, HEAD),
    ];
    assert_eq!(step(restored, true), nobody);
    let reused = vec![
        push("branch_creation", ANA, &zero, HEAD),
        push("branch_deletion", ANA, &old, &zero),
        push("push", BO, BASE, &old),
    ];
    assert_eq!(step(reused, true), None, "another branch of that name");
    // What happened after it was merged says nothing of who pushed it.
    let mut later = push("branch_creation", ANA, &zero, HEAD);
    later.timestamp = "2026-11-01T13:00:00Z".into();
    assert_eq!(step(vec![later, push("push", BO, BASE, HEAD)], true), nobody);
    let mut elsewhere = last();
    elsewhere.branch = "refs/heads/other".into();
    assert_eq!(step(vec![elsewhere], true), unread);
    let mut odd = last();
    odd.timestamp = "soon".into();
    assert_eq!(step(vec![odd], true), unread);
    assert_eq!(
        step(vec![last(), push("rewrite", ANA, BASE, FIRST), push("push", BO, &old, BASE)], true),
        nobody
    );
}

#[test]
fn checks_are_met_and_teams_are_those_that_are_demanded() {
    let failed = Some(Step::Requirements);
    let with = |state: CheckState| after(|d| d.checks.push(Check { name: "scan".into(), state }));
    assert_eq!((with(CheckState::Passed), with(CheckState::Skipped)), (None, None));
    assert_eq!((with(CheckState::Failed), with(CheckState::Pending)), (failed, failed));
    assert_eq!(after(|d| d.checks.clear()), None, "where nothing runs nothing is asked for");
    let named = |accept: Accepted, checks: &[(&str, CheckState)]| {
        let requirements = Requirements::Named(["build".into(), "scan".into()].into());
        let review = Review { requirements, accept, ..review() };
        let of = |(name, state): &(&str, CheckState)| Check { name: (*name).to_owned(), state: *state };
        after_by(&review, |d| d.checks = checks.iter().map(of).collect())
    };
    let (passed, skipped) = (CheckState::Passed, CheckState::Skipped);
    let nothing = Accepted::default();
    assert_eq!(named(nothing, &[("build", passed)]), failed, "one is missing");
    assert_eq!(named(nothing, &[("build", passed), ("scan", passed), ("docs", CheckState::Failed)]), None);
    assert_eq!(named(nothing, &[("build", passed), ("scan", skipped)]), failed);
    let skipping = Accepted { not_applicable: true, ..nothing };
    assert_eq!(named(skipping, &[("build", passed), ("scan", skipped)]), None);
    assert_eq!(named(nothing, &[("build", passed), ("scan", passed), ("scan", CheckState::Failed)]), failed);

    let by = |count: u32| Review { by: [Reviewers { group: "risk".into(), count }].into(), ..review() };
    let members = |members: &[u64]| {
        let members = members.iter().copied().collect();
        move |d: &mut Details| drop(d.teams.insert("risk".into(), members))
    };
    assert_eq!(after_by(&by(1), members(&[BO])), None);
    assert_eq!(after_by(&by(1), members(&[ANA, EVE])), Some(Step::Approval));
    assert_eq!(after_by(&by(2), members(&[BO, EVE])), Some(Step::Approval), "one did not approve");
    assert_eq!(after_by(&by(1), |_| {}), Some(Step::Reading), "who is in it is not known");
    let recent = Review { max_age: Some(Duration::from_secs(3_600)), ..review() };
    assert_eq!(after_by(&recent, |_| {}), Some(Step::Age));
    assert_eq!(after_by(&Review { max_age: Some(Duration::from_secs(86_400)), ..review() }, |_| {}), None);
}

proptest! {
    /// Whatever else is said, without an approval of the head by somebody who may write and had no hand in
    /// it nothing goes on.
    #[test]
    fn without_an_independent_approval_nothing_is_reviewed(
        what in proptest::collection::vec((1_u64..4, 0_usize..5, 0_usize..3, 0_usize..4), 0..8),
        may_write in proptest::collection::vec(any::<bool>(), 3),
        pusher in 1_u64..4,
    ) {
        let states = ["APPROVED", "CHANGES_REQUESTED", "DISMISSED", "COMMENTED", "PENDING"];
        let heads = [HEAD, FIRST, BASE];
        let times = ["10:00", "11:00", "12:00", "13:00"];
        let all: Vec<Said> = what.iter().map(|(by, state, head, at)| {
            Said { commit_id: Some(heads[*head].into()), ..said(*by, states[*state], times[*at]) }
        }).collect();
        let mut found = details();
        found.said = all.clone();
        found.pushes.as_mut().unwrap().all[0].actor = Some(account(pusher));
        let permission = |id: u64| if may_write[usize::try_from(id - 1).unwrap()] { "write" } else { "read" };
        found.access = [ANA, BO, EVE].map(|id| (id, writes(id, permission(id)))).into();
        let decided = decided_of(&review(), HEAD, &facts(found));
        let last = |id: u64| all.iter().rfind(|said| {
            said.user.as_ref().unwrap().id == id && states[..3].contains(&said.state.as_str())
        });
        let vetoed = [ANA, BO, EVE].into_iter()
            .any(|id| permission(id) == "write" && last(id).is_some_and(|s| s.state == "CHANGES_REQUESTED"));
        let approved = |id: u64| {
            let mut own = all.iter().filter(|said| said.user.as_ref().unwrap().id == id);
            own.any(|said| said.state == "APPROVED" && said.commit_id.as_deref() == Some(HEAD)
                && said.submitted_at.as_deref() <= Some("2026-11-01T12:00:00Z"))
        };
        let could = [BO, EVE].into_iter().any(|id| {
            id != pusher && permission(id) == "write" && approved(id) && last(id).is_some_and(|s| s.state == "APPROVED")
        });
        if decided.is_ok() {
            prop_assert!(could && !vetoed);
        } else {
            prop_assert!(!could || vetoed || decided.unwrap_err().step == Step::Approval);
        }
    }
}
