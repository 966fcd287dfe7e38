//! Subjects and approvers that are groups of a code host.

use std::collections::BTreeSet;

use super::*;
use crate::{
    identity::{GerritGroup, ReviewerGroups},
    policy::{Approvers, approval::Covers, described::DescribedCaller, replay},
    yaml::Problem,
};

const POLICIES: &str = "
version: 1
subjects:
  reviewers: [{gerrit: {server: main, group: risk reviewers}}, {issuer: corp, group: risk}]
  banned: [{gerrit: {server: main, group: banned}}]
  platform: [{issuer: corp, group: platform}]
allow:
  - {name: reviewers read, who: [reviewers], kinds: [read]}
  - {name: platform writes, who: [platform], kinds: [write]}
deny:
  - {name: the banned do nothing, who: [banned], actions: [\"*\"]}
require:
  - {name: writes are approved, kinds: [write], approval: {by: [{gerrit_group: {server: main, group: risk reviewers}, count: 2}, {subject: reviewers}]}}
";

fn group(name: &str) -> GerritGroup {
    GerritGroup { server: "main".into(), group: name.into() }
}

/// Ann of issuer `corp`, as mirrors know her.
fn known(member: &[&str], unread: &[&str]) -> Caller {
    let about = ["banned", "risk reviewers"].map(group).into();
    let member = member.iter().map(|name| group(name)).collect();
    let unread = unread.iter().map(|name| (group(name), "Gerrit is away".into())).collect();
    Caller { reviewers: Some(Arc::new(ReviewerGroups::told(about, member, unread))), ..caller(&[]) }
}

fn writes() -> Operation {
    operation(Kind::Write, vec![act("jobs/write", WS_A)])
}

#[test]
fn whoever_is_in_the_group_belongs_to_the_subject_and_nobody_else_does() {
    let set = set(POLICIES);
    assert_eq!(verdict(&judged(&set, &known(&["risk reviewers"], &[]), &list_jobs())), "allow");
    assert_eq!(verdict(&judged(&set, &known(&[], &[]), &list_jobs())), "AuthorizationFailed");
    let banned = judged(&set, &known(&["risk reviewers", "banned"], &[]), &list_jobs());
    assert_eq!(verdict(&banned), "RequestDisallowedByPolicy");
    // Another item of the subject's list counts by itself.
    let by_token = Caller { groups: Groups::Known(["risk".into()].into()), ..known(&[], &[]) };
    assert_eq!(verdict(&judged(&set, &by_token, &list_jobs())), "allow");
}

#[test]
fn of_a_group_that_is_not_known_nobody_is_let_in_as_one_and_a_deny_counts_everybody() {
    let set = set(POLICIES);
    let unread = judged(&set, &known(&[], &["risk reviewers"]), &list_jobs());
    assert_eq!(verdict(&unread), "AuthorizationFailed");
    assert!(unread.denial.unwrap().cause.contains("Gerrit is away"));
    let denied = judged(&set, &known(&["risk reviewers"], &["banned"]), &list_jobs());
    assert_eq!(verdict(&denied), "RequestDisallowedByPolicy");
    let denial = denied.denial.unwrap();
    assert!(
        denial.cause.contains("in a group of reviewers is not known: Gerrit is away"),
        "{}",
        denial.cause
    );
    // Whom nobody asked about is not known either.
    let unasked = Caller { groups: Groups::Known(["risk".into()].into()), ..caller(&[]) };
    assert_eq!(verdict(&judged(&set, &unasked, &list_jobs())), "RequestDisallowedByPolicy");
}

#[test]
fn machines_are_in_no_group_of_people_and_software_is_none_of_them() {
    let set = set(POLICIES);
    let member = || known(&["risk reviewers"], &[]);
    for kind in [PrincipalKind::Machine, PrincipalKind::AutonomousAgent] {
        let machine = Caller { kind, reviewers: None, ..member() };
        assert_eq!(verdict(&judged(&set, &machine, &list_jobs())), "AuthorizationFailed", "{kind:?}");
        assert_eq!(set.gerrit_groups_to_ask(&machine), None, "{kind:?}");
    }
    let agent = member().as_agent();
    assert_eq!(verdict(&judged(&set, &agent, &list_jobs())), "AuthorizationFailed");
    let banned = known(&["banned"], &[]).as_agent();
    assert_eq!(verdict(&judged(&set, &banned, &list_jobs())), "RequestDisallowedByPolicy");
    let lends = POLICIES
        .replace("allow:", "  copilots: [{issuer: corp, agent: {client_id: app}}]\nallow:")
        .replace("deny:", "  - {name: agents, who: [copilots], as: human, kinds: [read]}\ndeny:");
    let lent = super::set(&lends);
    assert_eq!(verdict(&judged(&lent, &agent, &list_jobs())), "allow", "as the human, who is in it");
    assert_eq!(verdict(&judged(&lent, &known(&[], &[]).as_agent(), &list_jobs())), "AuthorizationFailed");
}

#[test]
fn membership_is_looked_at_again_for_the_same_token() {
    let set = set(POLICIES);
    let token = |caller: Caller| Caller { token_digest: [7; 32], ..caller };
    assert_eq!(verdict(&judged(&set, &token(known(&["risk reviewers"], &[])), &list_jobs())), "allow");
    assert_eq!(verdict(&judged(&set, &token(known(&[], &[])), &list_jobs())), "AuthorizationFailed");
}

#[test]
fn those_who_may_approve_code_approve_and_approving_lets_them_do_nothing_themselves() {
    let set = set(POLICIES);
    let writer = Caller { groups: Groups::Known(["platform".into()].into()), ..known(&[], &[]) };
    let judgement = judged(&set, &writer, &writes());
    let approval = judgement.approvals().next().unwrap();
    let reviewers = Approvers::GerritGroup { group: group("risk reviewers"), count: 2 };
    assert_eq!(*approval.by, [reviewers, Approvers::Subject { name: "reviewers".into(), count: 1 }]);
    assert_eq!((approval.covers, approval.asks(PrincipalKind::Person)), (Covers::Request, true));
    assert_eq!(approval.words(), "2 of group `risk reviewers` of Gerrit `main` and 1 of `reviewers`");
    let member = known(&["risk reviewers"], &[]);
    assert_eq!(set.meets(&approval.by, &member), [0, 1]);
    for nobody in [known(&[], &[]), known(&["banned"], &[]), known(&[], &["risk reviewers"]), caller(&[])] {
        assert_eq!(set.meets(&approval.by, &nobody), [0; 0], "{:?}", nobody.reviewers);
    }
    assert_eq!(set.meets(&approval.by, &member.as_agent()), [0; 0], "software answers for nobody");
    assert_eq!(verdict(&judged(&set, &member, &writes())), "AuthorizationFailed");
}

#[test]
fn an_approval_of_another_group_is_another_approval() {
    let version = |text: &str| set(text).approval("writes are approved").unwrap().version;
    let before = version(POLICIES);
    let other = "{gerrit_group: {server: main, group: risk reviewers}, count: 2}";
    assert_ne!(before, version(&POLICIES.replace(other, &other.replace("risk ", "other "))));
    let subject = "[{gerrit: {server: main, group: risk reviewers}}, {issuer";
    assert_ne!(before, version(&POLICIES.replace(subject, &subject.replace("main", "other"))));
}

#[test]
fn the_groups_that_subjects_and_approvals_name_are_asked_about_each_once() {
    let set = set(POLICIES);
    assert_eq!(**set.gerrit_groups(), ["banned", "risk reviewers"].map(group));
    assert_eq!(set.gerrit_groups_to_ask(&caller(&[])).as_deref(), Some(&**set.gerrit_groups()));
    let handle = Caller { subjects_at_issue: Some(Arc::new([])), ..caller(&[]) };
    assert_eq!(set.gerrit_groups_to_ask(&handle), None);
    let none = super::set("version: 1\nallow: [{name: a, who: [authenticated], kinds: [read]}]\n");
    assert_eq!(none.gerrit_groups_to_ask(&caller(&[])), None);
}

#[test]
fn a_caller_in_words_is_in_the_groups_that_are_written_and_in_no_other() {
    let set = set(POLICIES);
    let of = |words: Value| serde_json::from_value::<DescribedCaller>(words).unwrap().caller();
    let member = of(json!({"issuer": "corp", "gerrit_groups": {"main": ["risk reviewers"]}}));
    assert_eq!(verdict(&judged(&set, &member, &list_jobs())), "allow");
    let elsewhere = of(json!({"issuer": "corp", "gerrit_groups": {"other": ["risk reviewers"]}}));
    assert_eq!(verdict(&judged(&set, &elsewhere, &list_jobs())), "AuthorizationFailed");
}

#[test]
fn a_past_request_is_judged_by_what_was_known_of_the_groups_then() {
    let set = set(POLICIES);
    let replayed = |caller: &Caller| {
        let (operation, request) = (list_jobs(), request(Method::GET, "/x"));
        let question = Question {
            caller,
            operation: &operation,
            request: &request,
            now: noon(),
            standing: Standing::Entries,
            azure: &crate::policy::rights::UNREAD,
        };
        match replay::replay(&set, &question, false) {
            replay::Replayed::Decided(judgement) => verdict(&judgement),
            replay::Replayed::Undecidable(_) => "undecidable",
        }
    };
    assert_eq!(replayed(&known(&["risk reviewers"], &[])), "allow");
    assert_eq!(replayed(&known(&[], &[])), "AuthorizationFailed");
    assert_eq!(replayed(&caller(&[])), "undecidable", "nobody asked then");
}

fn said(text: &str, around: &Surroundings) -> Vec<String> {
    let files = FileSet::from_texts([("p.yaml", text)]);
    let problems = PolicySet::compile(&files, around).err().unwrap_or_default();
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn what_is_wrong_with_a_group_is_said_where_it_stands() {
    let around = Surroundings::default();
    for (member, expected) in [
        ("{gerrit: risk}", "`gerrit` does not say of which server the group is"),
        ("{gerrit: {server: main}}", "`gerrit` needs `group`"),
        ("{gerrit: {group: risk}}", "`gerrit` needs `server`"),
        ("{gerrit: {server: main, group: risk, count: 1}}", "count"),
        ("{gerrit: {server: 'a b', group: risk}}", "`a b` is no name of a server"),
        ("{gerrit: {server: main, group: \"a\\nb\"}}", "`a\\nb` is no group"),
        ("{gerrit: {server: main, group: risk}, issuer: corp}", "`issuer` stands beside `gerrit`"),
        ("{gerrit: {server: main, group: risk}, kind: agent}", "`kind` stands beside `gerrit`"),
    ] {
        let said = said(&format!("version: 1\nsubjects: {{s: [{member}]}}\n"), &around);
        assert!(
            said.iter().any(|said| said.starts_with("p.yaml:2:") && said.contains(expected)),
            "{member}: {said:?}"
        );
    }
    for (by, expected) in [
        ("{gerrit_group: risk}", "`gerrit_group` does not say of which server the group is"),
        ("{gerrit_group: {server: main, group: risk}, count: 17}", "more than 16"),
        ("{gerrit_group: {server: main, group: risk}, subject: s}", "`subject` stands beside `gerrit_group`"),
        ("{count: 1}", "names neither `subject` nor `gerrit_group`"),
        (
            "{gerrit_group: {server: main, group: risk}}, {gerrit_group: {server: main, group: risk}, count: 2}",
            "the same twice",
        ),
    ] {
        let text = format!(
            "version: 1\nsubjects: {{s: [{{issuer: corp}}]}}\nrequire: [{{name: r, kinds: [write], approval: {{by: [{by}]}}}}]\n"
        );
        let said = said(&text, &around);
        assert!(
            said.iter().any(|said| said.starts_with("p.yaml:3:") && said.contains(expected)),
            "{by}: {said:?}"
        );
    }
}

#[test]
fn a_server_that_is_not_there_or_whose_accounts_are_nobodys_is_an_error() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let around = |gerrits: &[&str], faceless: &[&str]| Surroundings {
        gerrits: Some(names(gerrits)),
        faceless: names(faceless),
        ..Surroundings::default()
    };
    assert_eq!(said(POLICIES, &around(&["main"], &[])), Vec::<String>::new());
    let unknown = said(POLICIES, &around(&["mains"], &[]));
    assert_eq!(unknown.len(), 3, "{unknown:?}");
    assert!(
        unknown.iter().all(|said| said.contains("no `gerrit` named `main` in amlgate.yaml")),
        "{unknown:?}"
    );
    let faceless = said(POLICIES, &around(&["main"], &["main"]));
    assert_eq!(faceless.len(), 3, "{faceless:?}");
    for said in faceless {
        assert!(said.contains("nobody is known to be in group") && said.contains("people.links"), "{said}");
    }
}
