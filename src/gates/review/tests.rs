//! Reviews as Gerrit tells of them, one thing changed at a time.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    decide::{Step, Unreviewed, decide},
    facts::{Change, Facts, Merge, read, time},
    people::{Account, Demand, External, Linked, People},
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

const SHA: &str = "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const MERGE: &str = "aaaaf7c8fb8f96312d629d4d4f379f34f5b9b651";
const ANA: u64 = 1_000_001;
const BO: u64 = 1_000_002;
const EVE: u64 = 1_000_003;

fn review() -> Review {
    Review {
        entry: EntryRef { name: "reviewed".into(), file: "p.yaml".into(), line: 1 },
        host: CodeHost::Gerrit("main".into()),
        project: "ml/churn".into(),
        branch: "main".into(),
        labels: Box::new([("Code-Review".into(), 2)]),
        approvals: 0,
        by: Box::new([]),
        not_by: Authors::ALL,
        commit: CommitFrom::Claim("sha".into()),
        requirements: Requirements::All,
        accept: Accepted::default(),
        max_age: None,
        merge_commits: false,
        on_unreachable: Unreachable::Refuse,
        statement: false,
        hold: Duration::ZERO,
    }
}

fn people() -> People {
    let link = |scheme: &str| Linked { scheme: scheme.into(), issuer: "corp".into(), tenant: "t".into() };
    People {
        demand: Demand::External("azure-oauth".into()),
        links: ["azure-oauth", "office365-oauth"].map(link).into(),
        mails_of: None,
    }
}

fn oid(account: u64) -> String {
    format!("00000000-0000-4000-8000-{account:012}")
}

fn account(id: u64, mail: &str) -> Account {
    let identity = format!("azure-oauth:{}", oid(id));
    let externals = vec![External { identity, trusted: true }];
    Account { id, email: Some(mail.into()), externals, ..Account::default() }
}

/// Gerrit's own answer, as its documentation shows it.
fn answer() -> Value {
    json!({
        "id": "ml%2Fchurn~42", "project": "ml/churn", "branch": "main",
        "change_id": "I8473b95934b5732ac55d26311a706c9c2bde9940", "subject": "Train v3", "status": "MERGED",
        "created": "2026-11-01 10:00:00.000000000", "updated": "2026-11-01 12:00:00.000000000",
        "submitted": "2026-11-01 12:00:00.000000000",
        "submitter": {"_account_id": BO, "name": "Bo", "email": "bo@x.example", "username": "bo"},
        "_number": 42, "submission_id": "42-1762", "meta_rev_id": "9f",
        "owner": {"_account_id": ANA, "name": "Ana", "email": "ana@x.example", "username": "ana"},
        "current_revision": SHA, "current_revision_number": 2,
        "revisions": {SHA: {
            "kind": "REWORK", "_number": 2, "uploader": {"_account_id": ANA}, "ref": "refs/changes/42/42/2",
            "commit": {
                "parents": [{"commit": "6cf2"}],
                "author": {"name": "Ana", "email": "ana@x.example", "date": "2026-11-01 10:00:00.000000000"},
                "committer": {"name": "Ana", "email": "Ana@X.example", "date": "2026-11-01 10:00:00.000000000"},
                "subject": "Train v3", "message": "Train v3\n\nReviewed-by: Eve <eve@x.example>\n"}}},
        "labels": {"Code-Review": {
            "all": [{"_account_id": BO, "email": "bo@x.example", "value": 2, "date": "2026-11-01 11:59:00.000000000"},
                    {"_account_id": ANA, "email": "ana@x.example", "value": 0}],
            "values": {"-2": "no", "-1": "n", " 0": "?", "+1": "y", "+2": "yes"}, "default_value": 0}},
        "submit_requirements": [{"name": "Code-Review", "status": "SATISFIED", "is_legacy": false,
            "submittability_expression_result": {"expression": "label:Code-Review=MAX", "fulfilled": true, "status": "PASS"}}],
        "reviewers": {"REVIEWER": [{"_account_id": BO}]}
    })
}

fn changes(answers: &Value) -> Option<Vec<Change>> {
    read(format!(")]}}'\n{answers}").as_bytes())
}

fn facts_of(change: &Value) -> Facts {
    let all = [account(ANA, "ana@x.example"), account(BO, "bo@x.example"), account(EVE, "eve@x.example")];
    Facts {
        server: "main".into(),
        web: "https://gerrit.corp".into(),
        changes: changes(&json!([change])).unwrap(),
        on_branch: true,
        accounts: all.map(|account| (account.id, account)).into(),
        by_mail: [("ana@x.example".to_owned(), vec![ANA])].into(),
        ..Facts::default()
    }
}

fn now() -> Timestamp {
    time("2026-11-02 12:00:00.000000000").unwrap()
}

fn decided(review: &Review, facts: &Facts) -> Result<super::Evidence, Unreviewed> {
    decide(review, SHA, &people(), facts, now())
}

/// Where it fails; `None` if it is reviewed.
fn step(review: &Review, facts: &Facts) -> Option<Step> {
    decided(review, facts).err().map(|why| why.step)
}

/// The same of the usual answer after a change to it.
fn after(edit: impl FnOnce(&mut Value)) -> Option<Step> {
    let mut answer = answer();
    edit(&mut answer);
    step(&review(), &facts_of(&answer))
}

fn vote(answer: &mut Value) -> &mut Value {
    &mut answer["labels"]["Code-Review"]["all"][0]
}

#[test]
fn a_change_that_another_human_approved_is_reviewed_and_says_by_whom() {
    let evidence = decided(&review(), &facts_of(&answer())).unwrap();
    assert_eq!((evidence.number, evidence.sha.as_str(), evidence.revision.as_str()), (42, SHA, SHA));
    assert_eq!(evidence.url, "https://gerrit.corp/c/ml/churn/+/42");
    assert_eq!(evidence.meta_rev_id.as_deref(), Some("9f"));
    assert_eq!(evidence.submit_type, None, "Gerrit does not say it of what is merged");
    assert_eq!(evidence.requirements, [("Code-Review".to_owned(), "SATISFIED".to_owned())]);
    let [bo] = &evidence.approvers[..] else { panic!("{evidence:?}") };
    assert_eq!((bo.account, bo.person.clone()), (BO, Some(format!("corp:t/{}", oid(BO)))));
}

#[test]
fn it_says_who_wrote_the_code_if_that_is_known_as_a_person() {
    let facts = facts_of(&answer());
    let authors = |facts: &Facts| decided(&review(), facts).unwrap().authors;
    assert_eq!(authors(&facts), Some([format!("corp:t/{}", oid(ANA))].into()));
    let mut unlinked = facts.clone();
    unlinked.accounts.get_mut(&ANA).unwrap().externals.clear();
    assert_eq!(authors(&unlinked), None);
    let mut change = answer();
    change["revisions"][SHA]["commit"]["author"]["email"] = "ghost@x.example".into();
    let mut nobody = facts_of(&change);
    nobody.by_mail.insert("ghost@x.example".into(), Vec::new());
    assert_eq!(authors(&nobody), None);
}

#[test]
fn what_is_not_exactly_one_merged_change_with_this_commit_as_its_last_patch_set_is_not_reviewed() {
    let change = Some(Step::Change);
    assert_eq!(after(|a| a["status"] = "NEW".into()), change);
    assert_eq!(after(|a| a["status"] = "ABANDONED".into()), change);
    assert_eq!(after(|a| a["status"] = "merged".into()), change);
    assert_eq!(after(|a| a["project"] = "ml/Churn".into()), change);
    assert_eq!(after(|a| a["branch"] = "refs/heads/main".into()), change);
    assert_eq!(after(|a| a["current_revision"] = MERGE.into()), change, "an old patch set");
    assert_eq!(after(|a| drop(a.as_object_mut().unwrap().remove("current_revision"))), change);
    assert_eq!(after(|a| a["is_private"] = true.into()), change);
    assert_eq!(after(|a| a["_more_changes"] = true.into()), change);
    let mut facts = facts_of(&answer());
    facts.changes.push(facts.changes[0].clone());
    assert_eq!(step(&review(), &facts), change, "ambiguous");
    facts.changes.clear();
    assert_eq!(step(&review(), &facts), change, "a direct push");
    // Another branch's change, or one that was given up, does not matter.
    let mut facts = facts_of(&answer());
    for (branch, status) in [("release", "MERGED"), ("main", "ABANDONED")] {
        let other = Change { branch: branch.into(), status: status.into(), ..facts.changes[0].clone() };
        facts.changes.insert(0, other);
    }
    assert_eq!(step(&review(), &facts), None);
    facts.on_branch = false;
    assert_eq!(step(&review(), &facts), Some(Step::Branch), "rewound");
    // What a merge by hand brings along came through no review of this change.
    let mut by_hand = answer();
    by_hand["revisions"][SHA]["commit"]["parents"].as_array_mut().unwrap().push(json!({"commit": "77aa"}));
    assert_eq!(step(&review(), &facts_of(&by_hand)), change);
    assert_eq!(step(&Review { merge_commits: true, ..review() }, &facts_of(&by_hand)), None);
}

#[test]
fn submit_requirements_are_met_and_nothing_else_counts_unless_it_is_named() {
    let failed = Some(Step::Requirements);
    let with = |status: &str, accept: Accepted| {
        let mut answer = answer();
        let more = json!({"name": "Verified", "status": status});
        answer["submit_requirements"].as_array_mut().unwrap().push(more);
        step(&Review { accept, ..review() }, &facts_of(&answer))
    };
    let all = Accepted { overridden: true, not_applicable: true, forced: true };
    for status in ["FORCED", "OVERRIDDEN"] {
        assert_eq!(with(status, Accepted::default()), failed, "{status}");
        assert_eq!(with(status, all), None, "{status}");
    }
    // A server as it comes has one that does not apply where nobody commented.
    assert_eq!(with("NOT_APPLICABLE", Accepted::default()), None);
    for status in ["UNSATISFIED", "ERROR", "TIMEOUT", "BYPASSED", "satisfied", ""] {
        assert_eq!(with(status, all), failed, "{status}");
    }
    assert_eq!(after(|a| a["submit_requirements"] = json!([])), failed);
    assert_eq!(after(|a| drop(a.as_object_mut().unwrap().remove("submit_requirements"))), failed);
    let mut none_applies = answer();
    none_applies["submit_requirements"][0]["status"] = "NOT_APPLICABLE".into();
    assert_eq!(step(&Review { accept: all, ..review() }, &facts_of(&none_applies)), failed);
    // Named ones must be there, and others do not matter.
    let named = |names: &[&str], answer: &Value| {
        let names = names.iter().map(|name| Arc::from(*name)).collect();
        step(&Review { requirements: Requirements::Named(names), ..review() }, &facts_of(answer))
    };
    let mut two = answer();
    two["submit_requirements"].as_array_mut().unwrap().push(json!({"name": "Docs", "status": "UNSATISFIED"}));
    assert_eq!(named(&["Code-Review"], &two), None);
    assert_eq!(named(&["Code-Review", "Docs"], &two), failed);
    assert_eq!(named(&["Security"], &two), failed);
    let mut named_only = answer();
    named_only["submit_requirements"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "Docs", "status": "NOT_APPLICABLE"}));
    assert_eq!(named(&["Docs"], &named_only), failed, "what is named must have been met");
    two["submit_requirements"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "Code-Review", "status": "FORCED"}));
    assert_eq!(named(&["Code-Review"], &two), failed, "one of two of the same name");
}

#[test]
fn only_a_human_who_did_not_write_it_approves_and_before_it_was_merged() {
    let nobody = Some(Step::Approval);
    assert_eq!(after(|a| vote(a)["value"] = 1.into()), nobody);
    assert_eq!(after(|a| drop(vote(a).as_object_mut().unwrap().remove("value"))), nobody);
    assert_eq!(after(|a| vote(a)["post_submit"] = true.into()), nobody);
    assert_eq!(after(|a| vote(a)["inactive"] = true.into()), nobody);
    assert_eq!(after(|a| vote(a)["tags"] = json!(["SERVICE_USER"])), nobody);
    assert_eq!(after(|a| vote(a)["_account_id"] = ANA.into()), nobody);
    assert_eq!(after(|a| vote(a)["_account_id"] = 7.into()), nobody, "an account of which nothing is known");
    assert_eq!(after(|a| a["owner"]["_account_id"] = BO.into()), nobody);
    assert_eq!(after(|a| a["revisions"][SHA]["uploader"]["_account_id"] = BO.into()), nobody);
    assert_eq!(after(|a| a["labels"] = json!({})), nobody);
    assert_eq!(after(|a| vote(a)["email"] = "ANA@x.example".into()), nobody, "an e-mail of the author's");
    for closed in [
        Account { inactive: true, ..account(BO, "bo@x.example") },
        Account { deleted: true, ..account(BO, "bo@x.example") },
        Account { tags: vec!["SERVICE_USER".into()], ..account(BO, "bo@x.example") },
        Account { externals: Vec::new(), ..account(BO, "bo@x.example") },
    ] {
        let mut facts = facts_of(&answer());
        facts.accounts.insert(BO, closed);
        assert_eq!(step(&review(), &facts), nobody);
    }
    let unlabelled = Review { labels: Box::new([]), ..review() };
    assert_eq!(step(&unlabelled, &facts_of(&answer())), nobody);
    let low = Review { labels: Box::new([("Code-Review".into(), -1)]), ..review() };
    let mut indifferent = answer();
    vote(&mut indifferent)["value"] = 0.into();
    assert_eq!(step(&low, &facts_of(&indifferent)), nobody, "no vote is no approval, whatever is written");
}

#[test]
fn a_second_account_of_whoever_wrote_it_is_not_somebody_else() {
    let nobody = Some(Step::Approval);
    let with = |edit: &dyn Fn(&mut Facts)| {
        let mut facts = facts_of(&answer());
        edit(&mut facts);
        step(&review(), &facts)
    };
    fn bo(facts: &mut Facts) -> &mut Account {
        facts.accounts.get_mut(&BO).unwrap()
    }
    // By another scheme of the same person, by a second e-mail, by Gerrit's word of whose an e-mail is.
    let identity = format!("office365-oauth:{}", oid(ANA));
    assert_eq!(
        with(&|f| bo(f).externals.push(External { identity: identity.clone(), trusted: false })),
        nobody
    );
    assert_eq!(with(&|f| bo(f).secondary_emails.push(" Ana@x.example".into())), nobody);
    assert_eq!(with(&|f| f.by_mail.get_mut("ana@x.example").unwrap().push(BO)), nobody);
    // By way of a third account.
    assert_eq!(
        with(&|f| {
            let eve = f.accounts.get_mut(&EVE).unwrap();
            eve.secondary_emails.extend(["ana@x.example".into(), "bo@x.example".into()]);
        }),
        nobody
    );
    // The author's and the committer's e-mails count where the owner and uploader do not.
    let committed = Review { not_by: [Contributor::Committer].into_iter().collect(), ..review() };
    let mut by_bo = answer();
    by_bo["revisions"][SHA]["commit"]["committer"]["email"] = "bo@x.example".into();
    let mut facts = facts_of(&by_bo);
    facts.by_mail.insert("bo@x.example".into(), vec![]);
    assert_eq!(step(&committed, &facts), nobody);
    let authored = Review { not_by: [Contributor::Author].into_iter().collect(), ..review() };
    assert_eq!(step(&authored, &facts), None);
    // What is not known of who wrote it is never taken for nothing.
    let unread = Some(Step::Reading);
    assert_eq!(with(&|f| f.by_mail.clear()), unread);
    assert_eq!(with(&|f| drop(f.accounts.remove(&ANA))), unread);
    assert_eq!(with(&|f| f.by_mail.get_mut("ana@x.example").unwrap().push(9)), unread);
}

/// The answer after Gerrit rebased it: the second patch set is of whoever had it merged.
fn rebased_by(submitter: u64, mail: &str) -> Value {
    let mut answer = answer();
    let before = answer["revisions"][SHA].clone();
    answer["revisions"][MERGE] = before;
    answer["submitter"] = json!({"_account_id": submitter});
    let made = &mut answer["revisions"][SHA];
    made["kind"] = "TRIVIAL_REBASE".into();
    made["uploader"]["_account_id"] = submitter.into();
    made["commit"]["committer"]["email"] = mail.into();
    answer
}

#[test]
fn whoever_has_gerrit_rebase_and_merge_it_brings_no_code() {
    let by_bo = rebased_by(BO, "bo@x.example");
    assert_eq!(step(&review(), &facts_of(&by_bo)), None, "who approved may have it merged");
    let nobody = Some(Step::Approval);
    let after = |edit: &dyn Fn(&mut Value)| {
        let mut answer = by_bo.clone();
        edit(&mut answer);
        let mut facts = facts_of(&answer);
        facts.by_mail.insert("bo@x.example".into(), vec![BO]);
        step(&review(), &facts)
    };
    // But only what Gerrit made itself, and found to change nothing.
    assert_eq!(after(&|a| a["revisions"][SHA]["kind"] = "REWORK".into()), nobody);
    assert_eq!(after(&|a| drop(a["revisions"][SHA].as_object_mut().unwrap().remove("kind"))), nobody);
    assert_eq!(after(&|a| a["submitter"]["_account_id"] = EVE.into()), nobody);
    assert_eq!(after(&|a| drop(a["revisions"].as_object_mut().unwrap().remove(MERGE))), nobody);
    // Whose code it is says the patch set before.
    assert_eq!(after(&|a| a["revisions"][MERGE]["uploader"]["_account_id"] = BO.into()), nobody);
    assert_eq!(
        after(&|a| a["revisions"][MERGE]["commit"]["author"]["email"] = "bo@x.example".into()),
        nobody
    );
}

#[test]
fn whoever_uploaded_an_earlier_patch_set_with_code_had_a_hand_in_it() {
    let mut earlier = answer();
    earlier["revisions"][MERGE] = earlier["revisions"][SHA].clone();
    earlier["revisions"][MERGE]["uploader"]["_account_id"] = BO.into();
    assert_eq!(step(&review(), &facts_of(&earlier)), Some(Step::Approval));
    // A rebase by hand brings none.
    earlier["revisions"][MERGE]["kind"] = "TRIVIAL_REBASE".into();
    assert_eq!(step(&review(), &facts_of(&earlier)), None);
    earlier["revisions"][MERGE]["kind"] = "REWORK".into();
    earlier["revisions"][MERGE].as_object_mut().unwrap().remove("commit");
    assert_eq!(step(&review(), &facts_of(&earlier)), Some(Step::Reading));
}

#[test]
fn a_veto_counts_whoever_gave_it_and_whenever() {
    let veto = |more: Value| {
        after(|a| {
            let mut vote = json!({"_account_id": EVE, "value": -2});
            vote.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            a["labels"]["Code-Review"]["all"].as_array_mut().unwrap().push(vote);
        })
    };
    for more in [
        json!({}),
        json!({"post_submit": true}),
        json!({"tags": ["SERVICE_USER"]}),
        json!({"_account_id": ANA}),
    ] {
        assert_eq!(veto(more), Some(Step::Veto));
    }
    assert_eq!(veto(json!({"value": -1})), None, "no veto, only a doubt");
    assert_eq!(after(|a| a["labels"]["Code-Review"]["values"] = json!({})), Some(Step::Reading));
    assert_eq!(after(|a| a["labels"]["Code-Review"]["values"] = json!({"low": ""})), Some(Step::Reading));
}

#[test]
fn groups_are_met_by_different_humans_of_their_members() {
    let mut both = answer();
    both["labels"]["Code-Review"]["all"]
        .as_array_mut()
        .unwrap()
        .push(json!({"_account_id": EVE, "value": 2}));
    let wanted = |by: &[(&str, u32)]| Review {
        by: by.iter().map(|(group, count)| Reviewers { group: (*group).into(), count: *count }).collect(),
        ..review()
    };
    let mut facts = facts_of(&both);
    facts.groups =
        [("risk".into(), [BO, EVE, ANA].into()), ("ops".into(), [BO].into()), ("none".into(), [].into())]
            .into();
    assert_eq!(step(&wanted(&[("risk", 1), ("ops", 1)]), &facts), None, "Eve for risk, and Bo for ops");
    assert_eq!(step(&wanted(&[("risk", 2)]), &facts), None);
    let few = Some(Step::Approval);
    assert_eq!(step(&wanted(&[("risk", 3)]), &facts), few, "Ana wrote it");
    assert_eq!(step(&wanted(&[("risk", 2), ("ops", 1)]), &facts), few, "nobody counts twice");
    assert_eq!(step(&wanted(&[("none", 1)]), &facts), few);
    assert_eq!(step(&wanted(&[("unasked", 1)]), &facts), Some(Step::Reading));
    // Two accounts of one human are one reviewer.
    facts.accounts.get_mut(&EVE).unwrap().secondary_emails.push("bo@x.example".into());
    assert_eq!(step(&wanted(&[("risk", 2)]), &facts), few);
    assert_eq!(step(&wanted(&[("risk", 1)]), &facts), None);
}

#[test]
fn it_was_merged_lately_enough_and_at_a_time_that_can_be_read() {
    let within = |hours: u64| Review { max_age: Some(Duration::from_secs(hours * 3_600)), ..review() };
    assert_eq!(step(&within(24), &facts_of(&answer())), None);
    assert_eq!(step(&within(23), &facts_of(&answer())), Some(Step::Age));
    let mut future = answer();
    future["submitted"] = "2026-11-02 12:05:01.000000000".into();
    assert_eq!(
        step(&within(24), &facts_of(&future)),
        Some(Step::Age),
        "a clock that is wrong proves nothing"
    );
    assert_eq!(after(|a| a["submitted"] = "lately".into()), Some(Step::Reading));
    assert_eq!(after(|a| drop(a.as_object_mut().unwrap().remove("submitted"))), Some(Step::Reading));
}

#[test]
fn a_merge_of_gerrits_own_counts_where_the_entry_says_so_and_all_that_it_merges_was_reviewed() {
    let mut facts = facts_of(&answer());
    let together = facts.changes.clone();
    facts.merge =
        Some(Merge { parents: vec!["base".into(), SHA.into()], committed_by: Vec::new(), together });
    let of = |review: &Review, facts: &Facts| decide(review, MERGE, &people(), facts, now());
    let merges = Review { merge_commits: true, ..review() };
    let evidence = of(&merges, &facts).unwrap();
    assert_eq!((evidence.sha.as_str(), evidence.revision.as_str(), evidence.number), (MERGE, SHA, 42));
    let refused = |review: &Review, edit: &dyn Fn(&mut Merge)| {
        let mut facts = facts.clone();
        edit(facts.merge.as_mut().unwrap());
        of(review, &facts).err().map(|why| why.step)
    };
    let change = Some(Step::Change);
    assert_eq!(refused(&review(), &|_| {}), change);
    assert_eq!(refused(&merges, &|m| m.parents.push("c".into())), change);
    assert_eq!(refused(&merges, &|m| m.parents.truncate(1)), change);
    assert_eq!(refused(&merges, &|m| m.parents.swap(0, 1)), change);
    assert_eq!(refused(&merges, &|m| m.committed_by.push(EVE)), change, "somebody merged by hand");
    assert_eq!(refused(&merges, &|m| m.together.clear()), change);
    assert_eq!(refused(&merges, &|m| m.together[0].more = true), change);
    assert_eq!(refused(&merges, &|m| m.together[0].status = "NEW".into()), change);
    let with = |edit: &dyn Fn(&mut Change)| {
        refused(&merges, &|m| {
            let mut other = Change { number: 43, ..m.together[0].clone() };
            edit(&mut other);
            m.together.push(other);
        })
    };
    assert_eq!(with(&|_| {}), None);
    assert_eq!(with(&|other| other.labels.0.clear()), Some(Step::Approval), "unreviewed, and merged along");
    assert_eq!(with(&|other| (other.branch, other.labels) = ("release".into(), Default::default())), None);
}

#[test]
fn an_answer_of_another_form_is_no_answer() {
    let well = changes(&json!([answer()]));
    assert!(well.is_some());
    for (pointer, wrong) in [
        ("", json!({})),
        ("/0", json!([])),
        ("/0/project", json!(7)),
        ("/0/_number", json!("42")),
        ("/0/_number", json!(-1)),
        ("/0/status", Value::Null),
        ("/0/owner", json!("ana")),
        ("/0/owner/_account_id", json!("1000001")),
        ("/0/is_private", json!("false")),
        ("/0/labels", json!([])),
        ("/0/labels/Code-Review/all/0/value", json!("2")),
        ("/0/labels/Code-Review/all/0/value", json!(2.5)),
        ("/0/labels/Code-Review/all/0/post_submit", json!(0)),
        ("/0/labels/Code-Review/all/0/tags", json!("SERVICE_USER")),
        ("/0/submit_requirements", json!({})),
        ("/0/submit_requirements/0/status", json!(["SATISFIED"])),
        ("/0/current_revision", json!(1)),
    ] {
        let mut answers = json!([answer()]);
        match pointer.rsplit_once('/') {
            None => answers = wrong.clone(),
            Some(("", _)) => answers[0] = wrong.clone(),
            Some((parent, member)) => answers.pointer_mut(parent).unwrap()[member] = wrong.clone(),
        }
        assert_eq!(changes(&answers), None, "{pointer}: {wrong}");
    }
    for missing in ["project", "branch", "status", "_number", "owner", "change_id"] {
        let mut answers = json!([answer()]);
        answers[0].as_object_mut().unwrap().remove(missing);
        assert_eq!(changes(&answers), None, "{missing}");
    }
}

/// Facts in which much may be wrong.
fn some_facts() -> impl Strategy<Value = Facts> {
    let vote =
        (prop_oneof![Just(ANA), Just(BO), Just(EVE), Just(9)], -2..=2_i64, any::<bool>(), any::<bool>());
    let status = prop_oneof![4 => Just("SATISFIED"), 1 => Just("FORCED"), 1 => Just("OVERRIDDEN")];
    let votes = proptest::collection::vec(vote, 0..4);
    (votes, status, proptest::bool::weighted(0.9), any::<bool>()).prop_map(
        |(votes, status, on_branch, bot)| {
            let mut answer = answer();
            let votes = votes.into_iter().map(|(id, value, late, tied)| {
                let mail = if tied { "ana@x.example" } else { "some@x.example" };
                json!({"_account_id": id, "value": value, "post_submit": late, "email": mail})
            });
            answer["labels"]["Code-Review"]["all"] = votes.collect();
            answer["submit_requirements"][0]["status"] = status.into();
            let mut facts = facts_of(&answer);
            facts.on_branch = on_branch;
            facts.groups = [("risk".into(), [BO, EVE].into())].into();
            if bot {
                facts.accounts.get_mut(&EVE).unwrap().tags.push("SERVICE_USER".into());
            }
            facts
        },
    )
}

proptest! {
    #[test]
    fn a_vote_that_does_not_count_never_turns_a_no_into_a_yes(facts in some_facts(), which in 0..4_u8, value in -2..=2_i64) {
        let review = Review { by: Box::new([Reviewers { group: "risk".into(), count: 1 }]), ..review() };
        prop_assume!(step(&review, &facts).is_some());
        let mut more = facts;
        let bot = 77;
        let robot = Account { tags: vec!["SERVICE_USER".into()], ..account(bot, "bot@x.example") };
        more.accounts.insert(bot, robot);
        more.groups.get_mut("risk").unwrap().insert(bot);
        let (id, late) = [(BO, true), (bot, false), (ANA, false), (7, false)][usize::from(which)];
        let vote = json!({"_account_id": id, "value": value, "post_submit": late});
        let vote = serde_json::from_value(vote).unwrap();
        more.changes[0].labels.0.get_mut("Code-Review").unwrap().all.push(vote);
        prop_assert!(step(&review, &more).is_some());
    }

    #[test]
    fn what_supports_a_yes_can_be_taken_away_without_making_one(facts in some_facts(), which in 0..8_u8) {
        let review = Review { by: Box::new([Reviewers { group: "risk".into(), count: 1 }]), ..review() };
        prop_assume!(step(&review, &facts).is_some());
        let mut less = facts;
        let all = &mut less.changes[0].labels.0.get_mut("Code-Review").unwrap().all;
        match which {
            0 => all.retain(|vote| vote.value.unwrap_or(0) < 2),
            1 => less.changes[0].submit_requirements.clear(),
            2 => less.on_branch = false,
            3 => less.groups.clear(),
            4 => drop(less.accounts.remove(&BO)),
            5 => less.by_mail.clear(),
            6 => less.accounts.values_mut().for_each(|account| account.externals.clear()),
            _ => less.changes[0].revisions.0.clear(),
        }
        prop_assert!(step(&review, &less).is_some());
    }

    #[test]
    fn no_answer_makes_it_panic(text in "\\PC{0,200}", cut in 0..2_000_usize) {
        let _none = changes(&Value::String(text));
        let whole = format!(")]}}'\n{}", json!([answer()]));
        let cut = whole.get(..cut).unwrap_or(&whole);
        let _none = read::<Vec<Change>>(cut.as_bytes());
    }
}
