//! A sign-in that is not enough: who is asked for another, and that everything that explains a
//! decision says the same.

use super::*;
use crate::policy::{
    Change, DenialCode, Hypothesis, Selector, cases, decide,
    described::Door,
    flip,
    lease::StreamLimits,
    replay::{Replayed, replay},
};

const POLICIES: &str = "
version: 1
subjects: {guests: [{issuer: corp, group: guests}], break_glass: [{issuer: corp, group: bg}]}
networks: {near: [10.0.0.0/8]}
allow:
  - {name: all read, who: [authenticated], kinds: [read]}
require:
  - {name: guests prove themselves, who: [guests], step_up: {acrs: c1}, unless: {who: [break_glass]}}
  - {name: guests did so lately, who: [guests], from: [near], step_up: {max_age: 8h}}
";

fn signed_in(claims: Value) -> Caller {
    Caller { claims: Arc::new(claims.as_object().cloned().unwrap()), ..caller(&["guests"]) }
}

fn lately() -> u64 {
    noon().as_secs() - 3_600
}

#[test]
fn who_has_not_signed_in_so_is_asked_for_all_of_it_at_once() {
    let set = set(POLICIES);
    let denial = judged(&set, &signed_in(json!({})), &list_jobs()).denial.unwrap();
    assert_eq!(denial.code, DenialCode::StepUpRequired);
    assert!(denial.cause.contains("`guests prove themselves` demands a sign-in under"), "{}", denial.cause);
    assert!(denial.cure.contains("`guests did so lately` demands what does not hold now"), "{}", denial.cure);
    let wanted = denial.step_up.unwrap();
    assert_eq!((wanted.tenant.as_deref(), &*wanted.issuer), (Some("t"), "corp"));
    assert_eq!(wanted.contexts, ["c1".into()]);
    assert_eq!(wanted.max_age.map(|age| age.as_secs()), Some(8 * 3_600));
}

#[test]
fn who_has_signed_in_so_passes_until_the_sign_in_is_too_old() {
    let set = set(POLICIES);
    let guest = signed_in(json!({"acrs": ["c1"], "auth_time": lately()}));
    assert_eq!(verdict(&judged(&set, &guest, &list_jobs())), "allow");
    let at = |hours: u64| {
        let now = noon().plus(std::time::Duration::from_secs(hours * 3_600));
        verdict(&judge_at(&set, &guest, &list_jobs(), &request(Method::GET, "/x"), now))
    };
    assert_eq!((at(7), at(8)), ("allow", "StepUpRequired"));
    assert!(set.depends_on_time(), "live streams are judged again as time goes by");
    assert_eq!(verdict(&judged(&set, &caller(&[]), &list_jobs())), "allow", "only guests are asked");
    let exempt = caller(&["guests", "bg"]);
    let asked = judged(&set, &exempt, &list_jobs()).denial.unwrap().step_up.unwrap();
    assert!(asked.contexts.is_empty(), "{asked:?}");
}

#[test]
fn who_may_not_anyway_is_not_sent_to_sign_in() {
    let set = set(POLICIES);
    let guest = signed_in(json!({}));
    let write = operation(Kind::Write, vec![act("jobs/write", WS_A)]);
    let denial = judged(&set, &guest, &write).denial.unwrap();
    assert_eq!((denial.code, denial.step_up), (DenialCode::AuthorizationFailed, None));
    let far = RequestFacts { source: "192.0.2.1:1".parse().unwrap(), ..request(Method::GET, "/x") };
    let denial = judge_at(&set, &guest, &list_jobs(), &far, noon()).denial.unwrap();
    assert_eq!((denial.code, denial.step_up), (DenialCode::OutsideNetwork, None));
}

#[test]
fn a_handle_proves_no_sign_in() {
    let set = set(POLICIES);
    let held = Caller {
        subjects_at_issue: Some(["guests".into()].into()),
        claims: Arc::default(),
        ..caller(&["guests"])
    };
    let denial = judged(&set, &held, &list_jobs()).denial.unwrap();
    assert_eq!(denial.code, DenialCode::StepUpRequired);
    assert!(denial.cure.contains("send a token of your own"), "{}", denial.cure);
}

#[test]
fn flip_trace_and_words_agree() {
    let set = set(POLICIES);
    let guest = signed_in(json!({"auth_time": lately()}));
    let (operation, request) = (list_jobs(), request(Method::GET, "/x"));
    let question = Question {
        caller: &guest,
        operation: &operation,
        request: &request,
        now: noon(),
        standing: Standing::Entries,
        azure: &crate::policy::rights::UNREAD,
    };
    let judgement = set.judge(&question);
    let told: Vec<_> = judgement.flip.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["meet what `guests prove themselves` demands (p.yaml:8)"]);
    assert!(flip::turns(&set, &question, &judgement.flip));
    let smallest = flip::flips(&set, &question).sets;
    assert!(smallest.contains(&judgement.flip), "{smallest:?}");
    assert!(smallest.iter().flatten().any(|c| *c == Change::Join("break_glass".into())), "{smallest:?}");
    let unmet: Vec<_> = set.trace(&question).into_iter().map(|t| t.unmet).collect();
    assert_eq!(unmet, [vec![], vec![Selector::StepUp], vec![]]);
    let satisfied = Hypothesis {
        satisfied: judgement.denial.and_then(|d| d.entry).into_iter().collect(),
        ..Hypothesis::default()
    };
    assert!(set.judge_if(&question, &satisfied).denial.is_none());
}

#[test]
fn a_past_sign_in_is_not_in_the_record() {
    let set = set(POLICIES);
    let asked = |who: &Caller| {
        let (operation, request) = (list_jobs(), request(Method::GET, "/x"));
        let (now, standing) = (noon(), Standing::Entries);
        replay(
            &set,
            &Question {
                caller: who,
                operation: &operation,
                request: &request,
                now,
                standing,
                azure: &crate::policy::rights::UNREAD,
            },
            true,
        )
    };
    let Replayed::Undecidable(why) = asked(&signed_in(json!({}))) else { panic!("nobody knows") };
    assert!(why[0].contains("`guests prove themselves` reads at `step_up`"), "{why:?}");
    assert!(matches!(asked(&caller(&[])), Replayed::Decided(judgement) if judgement.denial.is_none()));
}

#[test]
fn a_stream_is_cut_when_its_sign_in_has_become_too_old() {
    let set = set(POLICIES);
    let expires = noon().plus(std::time::Duration::from_secs(24 * 3_600));
    let guest = Caller { expires, ..signed_in(json!({"acrs": "c1", "auth_time": lately()})) };
    let permit = decide(
        &set,
        crate::identity::Principal::for_tests(guest),
        list_jobs(),
        request(Method::GET, "/x"),
        Standing::Entries,
        crate::policy::Azure::default(),
        noon(),
    )
    .unwrap();
    let lease = permit.lease(StreamLimits::default());
    let after = |hours: u64| noon().plus(std::time::Duration::from_secs(hours * 3_600));
    assert!(set.renew(&lease, after(6)).is_ok());
    assert!(set.renew(&lease, after(8)).is_err());
}

#[test]
fn tests_of_policies_may_expect_a_step_up() {
    const URL: &str = "https://management.azure.com/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w?api-version=1";
    let failure = |claims: &str, decision: &str| {
        let text = format!(
            "version: 1\ncases:\n  - {{name: a, from: 10.1.2.3, as: {{issuer: corp, tenant: t, groups: [guests], \
             claims: {{{claims}}}}}, request: {{method: GET, url: '{URL}'}}, expect: {{decision: {decision}}}}}\n"
        );
        let mut outcomes = cases::run(&set(POLICIES), &"p.test.yaml".into(), &text, &Door::of_azure).unwrap();
        outcomes.remove(0).failure.map(|problem| problem.message)
    };
    assert_eq!(failure("", "needs_step_up"), None);
    assert_eq!(failure("", "needs_step_up, code: StepUpRequired, entry: guests prove themselves"), None);
    let recent = format!("acrs: c1, auth_time: {}", lately());
    assert_eq!(failure(&recent, "allow"), None);
    assert!(failure(&recent, "needs_step_up").unwrap().contains("but it is allowed by"));
    assert!(failure("", "deny").unwrap().contains("but it needs a step-up: entry `guests prove"));
}

#[test]
fn a_demand_that_makes_no_sense_is_refused_where_it_stands() {
    let problem = |demand: &str| {
        let text = format!("version: 1\nrequire:\n  - {{name: r, step_up: {demand}}}\n");
        match PolicySet::compile(&FileSet::from_texts([("p.yaml", &*text)]), &Surroundings::default()) {
            Ok(_) => panic!("{demand} was taken"),
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        }
    };
    for (demand, said) in [
        ("{}", "demands nothing"),
        ("{acrs: mfa}", "no authentication context"),
        ("{acrs: c01}", "no authentication context"),
        ("{acrs: c100}", "no authentication context"),
        ("{acrs: c1, amr: [mfa]}", "more than one way"),
        ("{acr_values: ['a b']}", "no value of `acr_values`"),
        ("{amr: ['m\"']}", "no value of `amr`"),
        ("{amr: []}", "`amr`"),
        ("{max_age: 0s}", "no age"),
        ("{max_age: 100ms}", "no age"),
        ("{max_age: soon}", "no age"),
        ("{acr: gold}", "`acr`"),
        ("c1", "must be a map"),
    ] {
        assert!(problem(demand).contains(said), "{demand}: {}", problem(demand));
    }
    let elsewhere =
        "version: 1\nallow:\n  - {name: a, who: [authenticated], kinds: [read], step_up: {acrs: c1}}\n";
    let problems =
        PolicySet::compile(&FileSet::from_texts([("p.yaml", elsewhere)]), &Surroundings::default())
            .unwrap_err();
    assert!(problems[0].to_string().contains("put it in an entry of `require`"), "{}", problems[0]);
}
