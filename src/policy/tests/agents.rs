//! Agents: what is lent to them, and what counts against them.

use super::*;
use crate::{
    azureml::SecretClass,
    policy::{Verdict, trace::SelectorTrace},
};

const POLICIES: &str = "
version: 1
subjects:
  team: [{issuer: corp, group: g-team}]
  banned: [{issuer: corp, group: g-banned}]
  copilots: [{issuer: corp, agent: {client_id: copilot}}]
allow:
  - {name: the team works, who: [team], actions: [Microsoft.MachineLearningServices/workspaces/jobs/*], scope: /subscriptions/s}
  - {name: agents read what their human may read, who: [copilots], as: human, kinds: [read]}
  - {name: everybody sees computes, who: [authenticated], actions: [Microsoft.MachineLearningServices/workspaces/computes/read]}
deny:
  - {name: not the banned, who: [banned]}
";

fn agent(kind: PrincipalKind, groups: &[&str]) -> Caller {
    Caller { kind, client: Some("copilot".into()), ..caller(groups) }
}

fn code(judgement: &Judgement) -> &str {
    judgement.denial.as_ref().map_or("allow", |denial| denial.code.name())
}

fn judged(caller: &Caller, operation: &Operation) -> Judgement {
    judge_at(&set(POLICIES), caller, operation, &request(Method::GET, "/x"), noon())
}

#[test]
fn an_agent_may_do_what_its_human_may_as_far_as_it_is_lent() {
    let anns = agent(PrincipalKind::Agent, &["g-team"]);
    let read = judged(&anns, &list_jobs());
    assert_eq!(code(&read), "allow");
    assert_eq!(&*read.allowed_by[0].name, "agents read what their human may read");
    let write = operation(Kind::Write, vec![act("jobs/write", WS_A)]);
    assert_eq!(code(&judged(&caller(&["g-team"]), &write)), "allow");
    let refused = judged(&anns, &write);
    assert_eq!(code(&refused), "AuthorizationFailed");
    let elsewhere = operation(Kind::Read, vec![act("jobs/read", "/subscriptions/other")]);
    assert_eq!(code(&judged(&anns, &elsewhere)), "AuthorizationFailed");
    assert_eq!(code(&judged(&agent(PrincipalKind::Agent, &[]), &list_jobs())), "AuthorizationFailed");
}

#[test]
fn an_agent_is_not_let_in_as_its_human_nor_as_everybody() {
    let other = Caller { client: Some("other".into()), ..agent(PrincipalKind::Agent, &["g-team"]) };
    let refused = judged(&other, &list_jobs());
    assert_eq!(code(&refused), "AuthorizationFailed");
    let cause = refused.denial.unwrap().cause;
    assert!(cause.contains("software acts with the token, and no subject of it names agents"), "{cause}");
    let computes = operation(Kind::Read, vec![act("computes/read", WS_A)]);
    assert_eq!(code(&judged(&other, &computes)), "AuthorizationFailed");
    // Lent: what everybody may, the human may.
    assert_eq!(code(&judged(&agent(PrincipalKind::Agent, &[]), &computes)), "allow");
}

#[test]
fn what_is_denied_to_the_human_is_denied_to_the_agent() {
    let anns = agent(PrincipalKind::Agent, &["g-team", "g-banned"]);
    assert_eq!(code(&judged(&anns, &list_jobs())), "RequestDisallowedByPolicy");
}

#[test]
fn a_client_that_the_policies_name_is_an_agent_whatever_the_token_says() {
    let mistaken = agent(PrincipalKind::Person, &["g-team"]);
    let set = set(POLICIES);
    assert!(set.is_mistaken(&mistaken) && !set.is_mistaken(&caller(&["g-team"])));
    assert_eq!(code(&judged(&mistaken, &list_jobs())), "allow");
    let write = operation(Kind::Write, vec![act("jobs/write", WS_A)]);
    assert_eq!(code(&judged(&mistaken, &write)), "AuthorizationFailed");
}

#[test]
fn an_agent_that_acts_for_nobody_is_lent_nothing() {
    let alone = agent(PrincipalKind::AutonomousAgent, &[]);
    let refused = judged(&alone, &list_jobs());
    assert_eq!(code(&refused), "AuthorizationFailed");
    let cause = refused.denial.unwrap().cause;
    assert!(cause.contains("`agents read what their human may read` would, but for its `as`"), "{cause}");
}

#[test]
fn secrets_are_not_lent() {
    let keys = Operation {
        secrets: [SecretClass::RunToken].into_iter().collect(),
        ..operation(Kind::Read, vec![act("jobs/read", WS_A)])
    };
    assert_eq!(code(&judged(&agent(PrincipalKind::Agent, &["g-team"]), &keys)), "SecretsNotGranted");
}

#[test]
fn the_trace_says_as_whom_an_agent_was_judged() {
    let (caller, operation, request) =
        (agent(PrincipalKind::Agent, &["g-team"]), list_jobs(), request(Method::GET, "/x"));
    let question = Question {
        caller: &caller,
        operation: &operation,
        request: &request,
        now: noon(),
        standing: Standing::Entries,
        azure: &crate::policy::rights::UNREAD,
    };
    let traces = set(POLICIES).trace(&question);
    let lent = traces.iter().find(|t| t.entry.name.starts_with("agents read")).unwrap();
    let is_as = |s: &&SelectorTrace| s.selector == crate::policy::Selector::As;
    let selector = lent.selectors.iter().find(is_as).unwrap();
    assert_eq!(selector.verdict, Verdict::Matches);
    assert_eq!(selector.detail, "judged as `corp:t/ann`, for whom the caller acts");
}

#[test]
fn an_entry_that_lends_says_no_more_of_what_is_allowed() {
    for more in ["role: Reader, scope: /subscriptions/s", "secrets: {endpoint_key: reveal}"] {
        let text = format!("version: 1\nallow:\n  - {{name: a, who: [authenticated], as: human, {more}}}\n");
        let files = FileSet::from_texts([("p.yaml", text.as_str())]);
        let problems = PolicySet::compile(&files, &Surroundings::default()).unwrap_err();
        assert!(problems[0].to_string().contains("`as` stands beside"), "{problems:?}");
    }
}
