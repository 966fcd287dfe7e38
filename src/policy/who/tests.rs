use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{identity::PrincipalId, time::Timestamp};

fn caller(groups: Groups, claims: Value) -> Caller {
    let Value::Object(claims) = claims else { panic!("claims are an object") };
    Caller {
        id: PrincipalId { issuer: "corp".into(), subject: "t/ann".into() },
        kind: PrincipalKind::Person,
        tenant: Some("t".into()),
        client: Some("app".into()),
        display: None,
        groups,
        roles: Arc::new([]),
        claims: Arc::new(claims),
        expires: Timestamp::from_secs(1),
        subjects_at_issue: None,
        reviewers: None,
        human: None,
        from_pull_request: false,
        token_digest: [0; 32],
    }
}

fn known(groups: &[&str]) -> Groups {
    Groups::Known(groups.iter().map(|g| (*g).into()).collect())
}

fn described(issuer: &str) -> Description {
    Description {
        issuer: issuer.into(),
        group: None,
        subject: None,
        client: None,
        agent: None,
        kind: None,
        tenant: None,
        claims: Box::new([]),
    }
}

fn claims(pairs: &[(&str, Value)]) -> Description {
    let claims = pairs
        .iter()
        .map(|(name, value)| {
            let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            ((*name).into(), Expected::AnyOf(values.into()))
        })
        .collect();
    Description { claims, ..described("corp") }
}

fn subjects(all: &[(&str, Description)]) -> Subjects {
    let mut by_name = BTreeMap::<&str, Vec<Description>>::new();
    for (name, description) in all {
        by_name.entry(name).or_default().push(description.clone());
    }
    let of =
        |(name, all): (&str, Vec<Description>)| (name.into(), all.into_iter().map(Member::Caller).collect());
    Subjects::new(by_name.into_iter().map(of).collect())
}

fn names(subjects: &Subjects, caller: &Caller) -> Vec<String> {
    subjects.of(caller).sure.iter().map(|n| subjects.name(*n).unwrap().to_string()).collect()
}

#[test]
fn descriptions_are_any_of_and_their_keys_all_of() {
    let with = |group: &str, client: &str| Description {
        group: Some(group.into()),
        client: Some(client.into()),
        ..described("corp")
    };
    let all = subjects(&[("a", with("g1", "app")), ("b", with("g1", "other")), ("b", with("g2", "app"))]);
    assert_eq!(names(&all, &caller(known(&["g1"]), json!({}))), ["a"]);
    assert_eq!(names(&all, &caller(known(&["g2", "g1"]), json!({}))), ["a", "b"]);
    assert_eq!(names(&all, &caller(known(&["G1"]), json!({}))), Vec::<String>::new());
}

#[test]
fn the_same_group_of_another_issuer_is_another_group() {
    let elsewhere = Description { group: Some("g1".into()), ..described("github") };
    assert!(names(&subjects(&[("a", elsewhere)]), &caller(known(&["g1"]), json!({}))).is_empty());
}

#[test]
fn claims_match_in_type_and_case_and_arrays_by_containing() {
    let fits = |expected: Value, claim: Value| {
        let all = subjects(&[("s", claims(&[("c", expected)]))]);
        !names(&all, &caller(known(&[]), json!({ "c": claim }))).is_empty()
    };
    assert!(fits(json!("42"), json!("42")));
    assert!(!fits(json!("42"), json!(42)));
    assert!(!fits(json!(true), json!("true")));
    assert!(!fits(json!("main"), json!("Main")));
    assert!(fits(json!(["a", "b"]), json!("b")));
    assert!(fits(json!("b"), json!(["a", "b"])));
    assert!(!fits(json!("c"), json!(["a", "b"])));
    assert!(fits(json!([1, 2]), json!(2)));
}

#[test]
fn an_object_claim_matches_member_by_member() {
    let namespace = Expected::AnyOf(Box::new([json!("ml")]));
    let members = Expected::Members(Box::new([("namespace".into(), namespace)]));
    let description =
        Description { claims: Box::new([("kubernetes.io".into(), members)]), ..described("corp") };
    let all = subjects(&[("pods", description)]);
    let with = |namespace: &str| caller(known(&[]), json!({"kubernetes.io": {"namespace": namespace}}));
    assert_eq!(names(&all, &with("ml")), ["pods"]);
    assert!(names(&all, &with("default")).is_empty());
}

#[test]
fn a_description_that_names_the_human_takes_them_in_under_another_issuer() {
    let human = PrincipalId { issuer: "corp".into(), subject: "t/ann".into() };
    let linked = Caller {
        id: PrincipalId { issuer: "portal".into(), subject: "user:default/ann".into() },
        tenant: None,
        human: Some(human),
        ..caller(known(&["g"]), json!({"c": "x"}))
    };
    let alone = Caller { human: None, ..linked.clone() };
    let named = Description { subject: Some("t/ann".into()), ..described("corp") };
    let all = subjects(&[
        ("a", named.clone()),
        ("b", Description { subject: Some("t/bob".into()), ..described("corp") }),
        ("c", Description { group: Some("g".into()), ..named.clone() }),
        ("d", Description { kind: Some(PrincipalKind::Machine), ..named.clone() }),
        ("e", Description { tenant: Some("other".into()), ..named }),
        ("f", described("corp")),
        ("g", described("portal")),
    ]);
    let found = all.of(&linked);
    assert_eq!((&found.sure[..], &found.unknown[..]), (&[0, 6][..], &[2][..]));
    assert_eq!(all.of(&alone).sure, [6]);
}

#[test]
fn group_overage_is_unknown_and_only_where_everything_else_fits() {
    let with = |client: &str| Description {
        group: Some("g".into()),
        client: Some(client.into()),
        ..described("corp")
    };
    let all = subjects(&[("a", with("app")), ("b", with("other")), ("c", described("corp"))]);
    let found = all.of(&caller(Groups::Overage, json!({})));
    assert_eq!((&found.sure[..], &found.unknown[..]), (&[2][..], &[0][..]));
    assert_eq!(found.fit(&[0]), Fit::Unknown);
    assert_eq!(found.fit(&[0, 2]), Fit::Yes);
    assert_eq!(found.fit(&[1]), Fit::No);
}

#[test]
fn a_caller_with_a_handle_has_the_subjects_of_its_issue_and_no_others() {
    let all = subjects(&[("a", described("corp")), ("b", described("github"))]);
    let handle = Caller {
        subjects_at_issue: Some(Arc::new(["b".into(), "gone".into()])),
        ..caller(known(&[]), json!({}))
    };
    assert_eq!(names(&all, &handle), ["b"]);
}

#[test]
fn what_is_remembered_belongs_to_one_token_and_one_set() {
    let by = |group: &str| subjects(&[("s", Description { group: Some(group.into()), ..described("corp") })]);
    let (one, other) = (by("g1"), by("g2"));
    let token = |group: &str, last: u8| {
        let mut digest = [1; 32];
        digest[31] = last;
        Caller { token_digest: digest, ..caller(known(&[group]), json!({})) }
    };
    for _ in 0..2 {
        assert_eq!(names(&one, &token("g1", 1)), ["s"]);
        assert!(names(&other, &token("g1", 1)).is_empty());
        // Falls on the same slot.
        assert!(names(&one, &token("g2", 2)).is_empty());
    }
}

#[test]
fn a_run_of_a_pull_request_belongs_only_where_the_event_is_named() {
    let repository = ("repository_id", json!("42"));
    let event = ("event_name", json!(["push", "pull_request"]));
    let all = subjects(&[
        ("a", claims(std::slice::from_ref(&repository))),
        ("b", claims(&[repository.clone(), event.clone()])),
        ("c", claims(&[("repository_id", json!("43")), event])),
        ("d", claims(&[repository, ("event_name", json!("push"))])),
    ]);
    let held = json!({"repository_id": "42", "event_name": "pull_request"});
    let run = Caller { from_pull_request: true, ..caller(known(&[]), held.clone()) };
    let found = all.of(&run);
    assert_eq!((&found.sure[..], &found.unknown[..]), (&[1][..], &[0][..]));
    // Where the issuer's `accept` names the event, all are taken at their word.
    assert_eq!(all.of(&caller(known(&[]), held)).sure, [0, 1]);
}

#[test]
fn a_run_of_a_pull_request_may_be_named_by_its_ref_or_its_subject_too() {
    let of = |subject: &str| Description { subject: Some(subject.into()), ..described("corp") };
    let all = subjects(&[
        ("a", claims(&[("ref", json!(["refs/heads/main", "refs/pull/7/merge"]))])),
        ("b", claims(&[("ref", json!("refs/heads/main"))])),
        ("c", of("repo:o@1/r@2:pull_request")),
        ("d", of("repo:o@1/r@2:ref:refs/heads/main")),
    ]);
    let run = |subject: &str, held: Value| {
        let id = PrincipalId { issuer: "corp".into(), subject: subject.into() };
        let run = Caller { from_pull_request: true, id, ..caller(known(&[]), held) };
        all.of(&run).sure.clone()
    };
    assert_eq!(run("x", json!({"ref": "refs/pull/7/merge"})), [0]);
    // `pull_request_target` runs on the base's ref and has the base's subject: neither names it.
    assert!(run("repo:o@1/r@2:ref:refs/heads/main", json!({"ref": "refs/heads/main"})).is_empty());
    assert_eq!(run("repo:o@1/r@2:pull_request", json!({"ref": "refs/pull/8/merge"})), [2]);
}

#[test]
fn an_address_that_the_issuer_has_not_verified_lets_nobody_in() {
    let all = subjects(&[("a", claims(&[("email", json!("ann@example.com"))]))]);
    let of = |held: Value| {
        let found = all.of(&caller(known(&[]), held));
        (found.sure.len(), found.unknown.len())
    };
    assert_eq!(of(json!({"email": "ann@example.com"})), (1, 0));
    assert_eq!(of(json!({"email": "ann@example.com", "email_verified": true})), (1, 0));
    assert_eq!(of(json!({"email": "ann@example.com", "email_verified": "true"})), (1, 0));
    // In doubt a deny takes it in.
    for unverified in [json!(false), json!("false"), json!(null), json!(1)] {
        assert_eq!(of(json!({"email": "ann@example.com", "email_verified": unverified})), (0, 1));
    }
}
