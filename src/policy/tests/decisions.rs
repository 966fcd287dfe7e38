use std::time::Duration;

use super::*;
use crate::{
    azureml::{Effect, SecretClass},
    identity::{AskedGroups, Principal},
    policy::{Cut, Hypothesis, LimitPer, Obligation, OnTokenExpiry, SecretTreatment, StreamLimits, decide},
};

const TEAM: &str = "version: 1
subjects:
  team: [{issuer: corp, group: g-team}]
  boss: [{issuer: corp, group: g-boss}]
scopes: {ws-a: /subscriptions/S/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/a}
networks: {office: [10.0.0.0/8]}
calendars: {week: {zone: Europe/Zurich, days: [mon, tue, wed, thu, fri], from: \"08:00\", to: \"18:00\"}}
";

fn policy(lists: &str) -> PolicySet {
    set(&format!("{TEAM}{lists}"))
}

const READER: &str = "allow:
  - {name: readers, who: [team], role: AzureML Data Scientist, scope: ws-a}
";

fn team() -> Caller {
    caller(&["g-team"])
}

#[test]
fn the_empty_set_denies_everything() {
    let judgement = judged(&PolicySet::empty(), &team(), &list_jobs());
    assert_eq!(verdict(&judgement), "AuthorizationFailed");
    assert_eq!(verdict(&judged(&policy(""), &team(), &list_jobs())), "AuthorizationFailed");
}

#[test]
fn a_member_may_do_what_the_role_grants_in_its_scope_and_nothing_else() {
    let set = policy(READER);
    let judgement = judged(&set, &team(), &list_jobs());
    assert_eq!(verdict(&judgement), "allow");
    assert_eq!(&*judgement.allowed_by[0].name, "readers");
    assert_eq!(judgement.allowed_by[0].line, 9);

    let outside = operation(Kind::Read, vec![act("jobs/read", &format!("{WS_A}b"))]);
    let below = operation(Kind::Read, vec![act("jobs/read", &format!("{}/jobs/j", WS_A.to_uppercase()))]);
    let delete = operation(Kind::Delete, vec![act("delete", WS_A)]);
    assert_eq!(verdict(&judged(&set, &team(), &outside)), "AuthorizationFailed");
    assert_eq!(verdict(&judged(&set, &team(), &below)), "allow");
    assert_eq!(verdict(&judged(&set, &caller(&["g-boss"]), &list_jobs())), "AuthorizationFailed");

    let denial = judged(&set, &team(), &delete).denial.unwrap();
    assert_eq!(denial.cause, format!("no entry allows you `{ML}/workspaces/delete` at `{WS_A}`"));
    assert_eq!(denial.missing, [(format!("{ML}/workspaces/delete"), WS_A.to_owned())]);
}

#[test]
fn every_act_must_be_allowed_and_any_act_may_be_denied() {
    let both = operation(Kind::Write, vec![act("jobs/write", WS_A), act("models/versions/write", WS_A)]);
    let one = policy(&format!(
        "allow:\n  - {{name: jobs, who: [team], actions: [{ML}/workspaces/jobs/*], scope: ws-a}}\n"
    ));
    let judgement = judged(&one, &team(), &both);
    assert_eq!(verdict(&judgement), "AuthorizationFailed");
    assert_eq!(judgement.denial.unwrap().missing.len(), 1);

    let all = policy(READER);
    assert_eq!(judged(&all, &team(), &both).allowed_by.len(), 2);

    let denied =
        policy(&format!("{READER}deny:\n  - {{name: no models, actions: [\"*/models/*/write\"]}}\n"));
    let judgement = judged(&denied, &team(), &both);
    assert_eq!(verdict(&judgement), "RequestDisallowedByPolicy");
    assert_eq!(&*judgement.denial.unwrap().entry.unwrap().name, "no models");
    assert_eq!(verdict(&judged(&denied, &team(), &list_jobs())), "allow");
}

#[test]
fn an_operation_without_acts_is_denied() {
    assert_eq!(
        verdict(&judged(&policy(READER), &team(), &operation(Kind::Read, vec![]))),
        "AuthorizationFailed"
    );
}

#[test]
fn everybody_with_a_valid_token_is_meant_only_where_it_is_written() {
    let set = policy("allow:\n  - {name: all, who: [authenticated], kinds: [read], scope: ws-a}\n");
    assert_eq!(verdict(&judged(&set, &caller(&[]), &list_jobs())), "allow");
    let write = operation(Kind::Write, vec![act("jobs/write", WS_A)]);
    assert_eq!(verdict(&judged(&set, &caller(&[]), &write)), "AuthorizationFailed");
}

#[test]
fn a_deny_is_lifted_only_for_those_whom_it_names() {
    let set =
        policy(&format!("{READER}deny:\n  - {{name: no reads, kinds: [read], unless: {{who: [boss]}}}}\n"));
    assert_eq!(verdict(&judged(&set, &team(), &list_jobs())), "RequestDisallowedByPolicy");
    assert_eq!(verdict(&judged(&set, &caller(&["g-team", "g-boss"]), &list_jobs())), "allow");
}

#[test]
fn a_group_that_the_token_does_not_tell_denies_but_does_not_allow() {
    let unsure = Caller { groups: Groups::Overage, ..caller(&[]) };
    let judgement = judged(&policy(READER), &unsure, &list_jobs());
    assert_eq!(verdict(&judgement), "AuthorizationFailed");
    let (entry, selector, _) = &judgement.unevaluable[0];
    assert_eq!((&*entry.name, *selector), ("readers", "who"));
    assert!(judgement.denial.unwrap().cause.contains("does not carry all of the caller's groups"));

    let denied = policy(
        "allow:\n  - {name: all, who: [authenticated], kinds: [read]}\n\
         deny:\n  - {name: not the team, who: [team]}\n  - {name: but, kinds: [write], unless: {who: [boss]}}\n",
    );
    let judgement = judged(&denied, &unsure, &list_jobs());
    assert_eq!(verdict(&judgement), "RequestDisallowedByPolicy");
    assert_eq!(judgement.unevaluable.len(), 1);
    assert_eq!(verdict(&judged(&denied, &caller(&[]), &list_jobs())), "allow");
    // Nor does an exemption that cannot be told lift a deny.
    let write = operation(Kind::Write, vec![act("jobs/write", WS_A)]);
    let exempt = policy(
        "allow:\n  - {name: all, who: [authenticated], kinds: [write]}\n\
         deny:\n  - {name: but, kinds: [write], unless: {who: [boss]}}\n",
    );
    assert_eq!(verdict(&judged(&exempt, &unsure, &write)), "RequestDisallowedByPolicy");
}

#[test]
fn a_group_that_a_directory_told_of_counts_and_one_that_it_was_not_asked_about_is_unknown() {
    let asked = |about: &[&str], member: Result<&[&str], &str>| {
        let boxed = |groups: &[&str]| -> Vec<Box<str>> { groups.iter().map(|g| (*g).into()).collect() };
        let member = member.map(|groups| Arc::new(boxed(groups).into())).map_err(Into::into);
        let groups = Groups::Asked(Arc::new(AskedGroups::new(boxed(about).into(), member)));
        Caller { groups, ..caller(&[]) }
    };
    let set = policy(READER);
    let is = |who: &Caller| verdict(&judged(&set, who, &list_jobs()));
    assert_eq!(is(&asked(&["g-boss", "g-team"], Ok(&["g-team"]))), "allow");
    let not = judged(&set, &asked(&["g-boss", "g-team"], Ok(&["g-boss"])), &list_jobs());
    assert_eq!((verdict(&not), not.unevaluable.len()), ("AuthorizationFailed", 0));
    let other = judged(&set, &asked(&["g-boss"], Ok(&["g-boss"])), &list_jobs());
    assert_eq!((verdict(&other), other.unevaluable.len()), ("AuthorizationFailed", 1));
    let silent = judged(&set, &asked(&["g-team"], Err("Graph is down")), &list_jobs());
    assert!(silent.denial.unwrap().cause.contains("could not be read: Graph is down"));
    assert_eq!(set.groups_to_ask(&caller(&[])), None);
    let unsure = Caller { groups: Groups::Overage, ..caller(&[]) };
    assert!(set.groups_to_ask(&unsure).unwrap().contains(&"g-team".into()));
}

#[test]
fn a_resource_that_the_request_does_not_tell_denies_but_does_not_allow() {
    let unknown = operation(
        Kind::Read,
        vec![Act { action: Action::new(&format!("{ML}/workspaces/jobs/read")), resource: None }],
    );
    assert_eq!(verdict(&judged(&policy(READER), &team(), &unknown)), "AuthorizationFailed");
    let denied = policy(
        "allow:\n  - {name: all, who: [team], kinds: [read]}\ndeny:\n  - {name: not there, scope: ws-a}\n",
    );
    assert_eq!(verdict(&judged(&denied, &team(), &unknown)), "RequestDisallowedByPolicy");
}

#[test]
fn effects_are_any_of_in_deny_and_all_of_in_allow() {
    let with = |sure: &[Effect], unclear: &[Effect]| Operation {
        effects: sure.iter().copied().collect(),
        unclear_effects: unclear.iter().copied().collect(),
        ..list_jobs()
    };
    let deny = policy(&format!("{READER}deny:\n  - {{name: d, effects: [expose_network]}}\n"));
    let denied = |o: &Operation| verdict(&judged(&deny, &team(), o)) == "RequestDisallowedByPolicy";
    assert!(denied(&with(&[Effect::ExposeNetwork, Effect::UploadData], &[])));
    assert!(denied(&with(&[], &[Effect::ExposeNetwork])));
    assert!(!denied(&with(&[Effect::UploadData], &[Effect::ChangeAccess])));

    let allow = policy("allow:\n  - {name: a, who: [team], effects: [upload_data, download_data]}\n");
    let allowed = |o: &Operation| verdict(&judged(&allow, &team(), o)) == "allow";
    assert!(allowed(&with(&[Effect::UploadData], &[])));
    assert!(allowed(&with(&[Effect::UploadData], &[Effect::DownloadData])));
    assert!(!allowed(&with(&[Effect::UploadData, Effect::ExposeNetwork], &[])));
    assert!(!allowed(&with(&[Effect::UploadData], &[Effect::ExposeNetwork])));
    assert!(!allowed(&with(&[], &[Effect::UploadData])));
    assert!(!allowed(&with(&[], &[])));
}

fn list_keys(class: SecretClass) -> Operation {
    Operation {
        secrets: [class].into_iter().collect(),
        ..operation(
            Kind::Action,
            vec![act("onlineEndpoints/listKeys/action", &format!("{WS_A}/onlineEndpoints/e"))],
        )
    }
}

#[test]
fn a_role_brings_what_jobs_need_and_no_other_secret() {
    let set = policy(READER);
    for class in SecretClass::ALL {
        let judgement = judged(&set, &team(), &list_keys(*class));
        match class {
            SecretClass::UploadSas | SecretClass::DownloadSas | SecretClass::RunToken => {
                assert_eq!(judgement.secrets, [(*class, SecretTreatment::Reveal)]);
            }
            SecretClass::EndpointKey | SecretClass::EndpointToken => {
                assert_eq!(verdict(&judgement), "SecretsNotGranted");
                let denial = judgement.denial.unwrap();
                assert!(denial.cause.contains(class.name()));
                assert!(denial.cure.contains(&format!("`secrets: {{{}: substitute}}`", class.name())));
            }
            // What is used elsewhere than at the gate has no handle: such a cure would be refused.
            SecretClass::Connection
            | SecretClass::Datastore
            | SecretClass::WorkspaceKey
            | SecretClass::ComputeKey
            | SecretClass::NotebookToken => {
                assert_eq!(verdict(&judgement), "SecretsNotGranted");
                let denial = judgement.denial.unwrap();
                assert!(denial.cause.contains(class.name()));
                assert!(denial.cure.contains(&format!("`secrets: {{{}: reveal}}`", class.name())));
            }
        }
    }
}

#[test]
fn a_class_is_granted_by_naming_it_whatever_the_action_is_called() {
    let set = policy(&format!(
        "{READER}
  - {{name: scores, who: [team], actions: [{ML}/workspaces/onlineEndpoints/score/action],
     secrets: {{endpoint_key: substitute, endpoint_token: substitute}}, scope: ws-a}}
"
    ));
    let judgement = judged(&set, &team(), &list_keys(SecretClass::EndpointKey));
    assert_eq!(judgement.secrets, [(SecretClass::EndpointKey, SecretTreatment::Substitute)]);
    assert_eq!(verdict(&judged(&set, &team(), &list_keys(SecretClass::Connection))), "SecretsNotGranted");
    // It grants a secret, not the act: without the role the keys cannot be listed.
    let alone = policy(&format!(
        "allow:
  - {{name: scores, who: [team], actions: [{ML}/workspaces/onlineEndpoints/score/action],
     secrets: {{endpoint_key: substitute}}, scope: ws-a}}
"
    ));
    assert_eq!(
        verdict(&judged(&alone, &team(), &list_keys(SecretClass::EndpointKey))),
        "AuthorizationFailed"
    );
}

#[test]
fn reveal_is_wider_than_substitute_and_must_hold_for_every_act() {
    let mut two = list_keys(SecretClass::EndpointKey);
    two.acts.push(act("onlineEndpoints/listKeys/action", &format!("{WS_A}2/onlineEndpoints/e")));
    let set = policy(
        "allow:
  - {name: all, who: [team], role: AzureML Data Scientist}
  - {name: handles, who: [team], secrets: {endpoint_key: substitute}}
  - {name: keys of a, who: [team], secrets: {endpoint_key: reveal}, scope: ws-a}
",
    );
    let one = judged(&set, &team(), &list_keys(SecretClass::EndpointKey));
    assert_eq!(one.secrets, [(SecretClass::EndpointKey, SecretTreatment::Reveal)]);
    let both = judged(&set, &team(), &two);
    assert_eq!(both.secrets, [(SecretClass::EndpointKey, SecretTreatment::Substitute)]);
}

#[test]
fn an_allow_that_names_only_secrets_lets_through_only_what_holds_them() {
    let set = policy("allow:\n  - {name: keys, who: [team], secrets: {endpoint_key: reveal}, scope: ws-a}\n");
    assert_eq!(verdict(&judged(&set, &team(), &list_keys(SecretClass::EndpointKey))), "allow");
    assert_eq!(verdict(&judged(&set, &team(), &list_jobs())), "AuthorizationFailed");
    let mut more = list_keys(SecretClass::EndpointKey);
    more.secrets = more.secrets.with(SecretClass::Datastore);
    assert_eq!(verdict(&judged(&set, &team(), &more)), "AuthorizationFailed");
}

#[test]
fn a_deny_can_select_secrets() {
    let set = policy(
        "allow:\n  - {name: keys, who: [team], secrets: {endpoint_key: reveal}}\n\
         deny:\n  - {name: no keys, secrets: [endpoint_key]}\n",
    );
    assert_eq!(
        verdict(&judged(&set, &team(), &list_keys(SecretClass::EndpointKey))),
        "RequestDisallowedByPolicy"
    );
}

#[test]
fn a_capability_stands_in_for_an_allow_and_for_nothing_else() {
    let ask = |set: &PolicySet, operation: &Operation| {
        let (caller, request) = (team(), request(Method::GET, "/x"));
        let standing = Standing::PollingCapability;
        let question = Question {
            caller: &caller,
            operation,
            request: &request,
            now: noon(),
            standing,
            azure: &crate::policy::rights::UNREAD,
        };
        verdict(&agreed(set, &question))
    };
    assert_eq!(ask(&policy(""), &list_jobs()), "allow");
    assert_eq!(
        ask(&policy("deny:\n  - {name: d, kinds: [read]}\n"), &list_jobs()),
        "RequestDisallowedByPolicy"
    );
    assert_eq!(ask(&policy(""), &list_keys(SecretClass::EndpointKey)), "SecretsNotGranted");
    assert_eq!(ask(&policy(""), &operation(Kind::Read, vec![])), "AuthorizationFailed");
}

#[test]
fn from_and_during_are_demands_in_require_and_selectors_elsewhere() {
    let demand = policy(&format!("{READER}require:\n  - {{name: at work, from: [office], during: week}}\n"));
    let at = |set: &PolicySet, source: &str, now: Timestamp| {
        let mut request = request(Method::GET, "/x");
        request.source = source.parse().unwrap();
        judge_at(set, &team(), &list_jobs(), &request, now)
    };
    let night = noon().plus(Duration::from_secs(8 * 3600));
    assert_eq!(verdict(&at(&demand, "10.0.0.1:1", noon())), "allow");
    assert_eq!(verdict(&at(&demand, "[::ffff:10.0.0.1]:1", noon())), "allow");
    assert_eq!(verdict(&at(&demand, "192.0.2.1:1", noon())), "OutsideNetwork");
    let late = at(&demand, "10.0.0.1:1", night);
    assert_eq!(verdict(&late), "OutsideHours");
    let denial = late.denial.unwrap();
    assert!(denial.cause.contains("it is Mon 21:00 there"), "{}", denial.cause);
    assert!(denial.cure.contains("2026-11-24T07:00:00"), "{}", denial.cure);

    let selector = policy(&format!("{READER}deny:\n  - {{name: not from there, from: [office]}}\n"));
    assert_eq!(verdict(&at(&selector, "10.0.0.1:1", noon())), "RequestDisallowedByPolicy");
    assert_eq!(verdict(&at(&selector, "192.0.2.1:1", noon())), "allow");
}

#[test]
fn a_limit_is_an_obligation() {
    let set = policy(&format!(
        "{READER}require:\n  - {{name: fifty, limit: {{requests: 50, every: 1s, per: entry}}}}\n"
    ));
    let judgement = judged(&set, &team(), &list_jobs());
    assert_eq!(verdict(&judgement), "allow");
    let [Obligation::Limit { entry, requests, every, per }] = &judgement.obligations[..] else { panic!() };
    assert_eq!(
        (&*entry.name, *requests, *every, *per),
        ("fifty", 50, Duration::from_secs(1), LimitPer::Entry)
    );
}

#[test]
fn a_dry_run_is_told_until_its_day_and_enforced_from_then_on() {
    let set = policy(&format!(
        "{READER}deny:
  - {{name: soon, kinds: [read], dry_run_until: \"2026-11-23T13:00:00+00:00\"}}
require:
  - {{name: later, from: [office], dry_run_until: \"2026-11-23T14:00:00+00:00\"}}
"
    ));
    let mut far = request(Method::GET, "/x");
    far.source = "192.0.2.1:1".parse().unwrap();
    let judgement = judge_at(&set, &team(), &list_jobs(), &far, noon());
    assert_eq!(verdict(&judgement), "allow");
    let names: Vec<_> = judgement.would_deny.iter().map(|e| &*e.name).collect();
    assert_eq!(names, ["soon", "later"]);
    let hour = |h: u64| noon().plus(Duration::from_secs(h * 3600));
    assert_eq!(verdict(&judge_at(&set, &team(), &list_jobs(), &far, hour(1))), "RequestDisallowedByPolicy");
    assert!(set.depends_on_time());
}

#[test]
fn routes_methods_and_paths_select() {
    let set = policy(
        "allow:
  - {name: pods, who: [team], routes: [cluster], methods: [GET], path: \"/api/v1/namespaces/{ns}/pods/**\"}
deny:
  - {name: no secrets, path: \"/api/v1/namespaces/{ns}/Pods/hidden\"}
",
    );
    let ask = |route: &str, method: Method, path: &str, protocol: Protocol| {
        let mut request = request(method, path);
        request.route = route.into();
        let operation = Operation { protocol, ..list_jobs() };
        verdict(&judge_at(&set, &team(), &operation, &request, noon()))
    };
    let path = "/api/v1/namespaces/ml/pods/p/log";
    assert_eq!(ask("cluster", Method::GET, path, Protocol::Kubernetes), "allow");
    assert_eq!(ask("other", Method::GET, path, Protocol::Kubernetes), "AuthorizationFailed");
    assert_eq!(ask("cluster", Method::POST, path, Protocol::Kubernetes), "AuthorizationFailed");
    assert_eq!(ask("cluster", Method::GET, "/api/v1/nodes", Protocol::Kubernetes), "AuthorizationFailed");
    assert_eq!(ask("cluster", Method::GET, path, Protocol::Arm), "AuthorizationFailed");
    let hidden = "/api/v1/namespaces/ml/PODS/hidden";
    assert_eq!(ask("cluster", Method::GET, hidden, Protocol::Kubernetes), "RequestDisallowedByPolicy");
}

#[test]
fn a_handle_holder_has_the_subjects_of_its_issue() {
    let handle = Caller { subjects_at_issue: Some(Arc::new(["team".into()])), ..caller(&[]) };
    let set = policy(READER);
    assert_eq!(verdict(&judged(&set, &handle, &list_jobs())), "allow");
    assert_eq!(set.subjects_of(&team()), ["team".into()]);
    let other = Caller { subjects_at_issue: Some(Arc::new([])), ..team() };
    assert_eq!(verdict(&judged(&set, &other, &list_jobs())), "AuthorizationFailed");
}

#[test]
fn a_hypothesis_turns_exactly_what_it_supposes() {
    let set = policy(&format!(
        "{READER}deny:\n  - {{name: no reads, kinds: [read]}}\nrequire:\n  - {{name: office, from: [office]}}\n"
    ));
    let (nobody, operation) = (caller(&[]), list_jobs());
    let mut request = request(Method::GET, "/x");
    request.source = "192.0.2.1:1".parse().unwrap();
    let question = Question {
        caller: &nobody,
        operation: &operation,
        request: &request,
        now: noon(),
        standing: Standing::Entries,
        azure: &crate::policy::rights::UNREAD,
    };
    let reference =
        |name: &str| set.entries().find(|(_, e)| &*e.name == name).map(|(_, e)| e.clone()).unwrap();
    let mut suppose = Hypothesis::default();
    assert_eq!(verdict(&set.judge_if(&question, &suppose)), "RequestDisallowedByPolicy");
    suppose.left.push(reference("no reads"));
    assert_eq!(verdict(&set.judge_if(&question, &suppose)), "AuthorizationFailed");
    let granted = Hypothesis {
        granted: vec![(operation.acts[0].action.clone(), ResourceId::parse(WS_A).unwrap())],
        ..suppose.clone()
    };
    assert_eq!(verdict(&set.judge_if(&question, &granted)), "OutsideNetwork");
    suppose.joins.push("team".into());
    assert_eq!(verdict(&set.judge_if(&question, &suppose)), "OutsideNetwork");
    suppose.satisfied.push(reference("office"));
    assert_eq!(verdict(&set.judge_if(&question, &suppose)), "allow");
}

#[test]
fn a_trace_says_of_every_entry_what_the_judgement_made_of_it() {
    let set = policy(&format!(
        "{READER}deny:\n  - {{name: no writes, kinds: [write]}}\nrequire:\n  - {{name: office, from: [office]}}\n"
    ));
    let (caller, operation, mut request) = (team(), list_jobs(), request(Method::GET, "/x"));
    request.source = "192.0.2.1:1".parse().unwrap();
    let question = Question {
        caller: &caller,
        operation: &operation,
        request: &request,
        now: noon(),
        standing: Standing::Entries,
        azure: &crate::policy::rights::UNREAD,
    };
    let trace = set.trace(&question);
    let said: Vec<_> = trace.iter().map(|t| (&*t.entry.name, t.matches, t.unmet.clone())).collect();
    assert_eq!(
        said,
        [
            ("readers", true, vec![]),
            ("no writes", false, vec![]),
            ("office", true, vec![crate::policy::Selector::From])
        ]
    );
    assert!(trace[0].selectors.iter().any(|s| s.detail == "wants `team`; is `team`"), "{trace:?}");
}

fn permit(set: &PolicySet) -> crate::policy::Permit {
    let principal = Principal::for_tests(team());
    let request = request(Method::GET, "/x");
    decide(set, principal, list_jobs(), request, Standing::Entries, crate::policy::Azure::default(), noon())
        .unwrap()
}

#[test]
fn a_permit_exists_only_where_the_judgement_allows() {
    let set = policy(READER).with_generation(7);
    assert_eq!(permit(&set).generation(), 7);
    assert_eq!(&*permit(&set).judgement().allowed_by[0].name, "readers");
    let stranger = Principal::for_tests(caller(&[]));
    let request = request(Method::GET, "/x");
    let denied = decide(
        &set,
        stranger,
        list_jobs(),
        request,
        Standing::Entries,
        crate::policy::Azure::default(),
        noon(),
    )
    .unwrap_err();
    assert_eq!(verdict(&denied.judgement), "AuthorizationFailed");
    assert_eq!(denied.policy_digest, *set.digest());
}

#[test]
fn a_stream_goes_on_only_while_policies_and_token_allow_it() {
    let lease = permit(&policy(READER)).lease(StreamLimits::default());
    let soon = noon().plus(Duration::from_secs(60));
    assert_eq!(policy(READER).renew(&lease, soon), Ok(()));
    assert_eq!(lease.ends(), noon().plus(Duration::from_secs(3600)));
    assert_eq!(
        policy(READER).renew(&lease, lease.ends()),
        Err(Cut::TokenExpired(noon().plus(Duration::from_secs(3600))))
    );
    let Err(Cut::Denied(denial)) = policy("").renew(&lease, soon) else { panic!() };
    assert_eq!(denial.code.name(), "AuthorizationFailed");
    let denied = policy(&format!("{READER}deny:\n  - {{name: stop, kinds: [read]}}\n"));
    let Err(Cut::Denied(denial)) = denied.renew(&lease, soon) else { panic!() };
    assert_eq!(&*denial.entry.unwrap().name, "stop");
}

#[test]
fn a_stream_that_outlives_its_token_ends_at_its_greatest_age() {
    let limits = StreamLimits { on_token_expiry: OnTokenExpiry::Keep, max_age: Duration::from_secs(7200) };
    let lease = permit(&policy(READER)).lease(limits);
    assert_eq!(policy(READER).renew(&lease, noon().plus(Duration::from_secs(3700))), Ok(()));
    let end = noon().plus(Duration::from_secs(7200));
    assert_eq!(lease.ends(), end);
    assert_eq!(policy(READER).renew(&lease, end), Err(Cut::TooOld(limits.max_age)));
}

#[test]
fn a_stream_is_cut_when_office_hours_end_but_not_counted_again() {
    let set = policy(&format!(
        "{READER}require:\n  - {{name: hours, during: week, limit: {{requests: 1, every: 1d}}}}\n"
    ));
    let lease =
        permit(&set).lease(StreamLimits { on_token_expiry: OnTokenExpiry::Keep, ..Default::default() });
    assert_eq!(set.renew(&lease, noon().plus(Duration::from_secs(3600))), Ok(()));
    let Err(Cut::Denied(denial)) = set.renew(&lease, noon().plus(Duration::from_secs(6 * 3600))) else {
        panic!()
    };
    assert_eq!(denial.code.name(), "OutsideHours");
}
