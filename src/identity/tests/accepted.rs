//! Tokens that are accepted, and whom they make.

use super::*;

#[tokio::test]
async fn v1_and_v2_tokens_of_one_tenant_make_the_same_person() {
    let world = World::usual().await;
    for claims in [entra_v2(), entra_v1()] {
        let person = world.verifier.authenticate(&Signer::rsa(0).token("k1", &claims)).await.unwrap();
        assert_eq!(person.id.to_string(), format!("corp:{TENANT}/{PERSON}"));
        assert_eq!(person.kind, PrincipalKind::Person);
        assert_eq!(person.tenant.as_deref(), Some(TENANT));
        assert_eq!(person.client.as_deref(), Some("22222222-2222-4222-8222-222222222222"));
        assert_eq!(person.display.as_deref(), Some("ada@example.com"));
        assert_eq!(person.expires, Timestamp::from_secs(START + 4_200));
        assert!(person.subjects_at_issue.is_none());
    }
}

#[tokio::test]
async fn applications_are_machines_by_idtyp_or_by_having_no_scope() {
    let world = World::usual().await;
    for (changes, kind) in [
        (json!({"scp": null, "roles": ["Submitter"]}), PrincipalKind::Machine),
        (json!({"scp": null, "roles": ["Submitter"], "idtyp": "app"}), PrincipalKind::Machine),
        (json!({"roles": ["Submitter"], "idtyp": "app"}), PrincipalKind::Machine),
        (json!({"roles": ["Submitter"]}), PrincipalKind::Person),
        (json!({"idtyp": "user"}), PrincipalKind::Person),
    ] {
        let token = Signer::rsa(0).token("k1", &patched(entra_v2(), &changes));
        let principal = world.verifier.authenticate(&token).await.unwrap();
        assert_eq!(principal.kind, kind, "{changes}");
    }
}

#[tokio::test]
async fn unscoped_tokens_are_accepted_where_the_settings_say_so() {
    let mut corp = IssuerSettings::entra("corp", TENANT, &["api://amlgate"]);
    let IssuerKind::Entra { unscoped, .. } = &mut corp.kind else { panic!("an Entra issuer") };
    *unscoped = settings::Unscoped::Accept;
    let world = World::of(vec![corp]);
    world.documents.publish_entra(&[Signer::rsa(0).jwk("k1")]);
    world.verifier.refresh_once().await;
    let token = Signer::rsa(0).token("k1", &patched(entra_v2(), &json!({"scp": null})));
    assert_eq!(world.verifier.authenticate(&token).await.unwrap().kind, PrincipalKind::Machine);
}

#[tokio::test]
async fn groups_are_known_absent_or_said_to_be_elsewhere() {
    let world = World::usual().await;
    for (changes, groups) in [
        (json!({"groups": null}), Groups::Known([].into())),
        (json!({"groups": ["B", "a"]}), Groups::Known(["B".into(), "a".into()].into())),
        (
            json!({"groups": null, "_claim_names": {"groups": "src1"},
                   "_claim_sources": {"src1": {"endpoint": "https://evil.example/groups"}}}),
            Groups::Overage,
        ),
        (json!({"groups": ["a"], "hasgroups": true}), Groups::Overage),
        (json!({"groups": null, "hasgroups": "true"}), Groups::Overage),
        (json!({"groups": ["a"], "hasgroups": false}), Groups::Known(["a".into()].into())),
        (json!({"groups": ["a"], "_claim_names": {"address": "src1"}}), Groups::Known(["a".into()].into())),
    ] {
        let asked = world.documents.asked();
        let token = Signer::rsa(0).token("k1", &patched(entra_v2(), &changes));
        let principal = world.verifier.authenticate(&token).await.unwrap();
        assert_eq!(principal.groups, groups, "{changes}");
        assert_eq!(world.documents.asked(), asked, "no endpoint out of a token is asked");
    }
}

#[tokio::test]
async fn another_claim_may_hold_the_groups() {
    let mut settings = oidc();
    settings.groups_claim = "https://example.com/teams".into();
    let world = World::of(vec![settings]);
    world.documents.publish(OIDC, &[Signer::rsa(0).jwk("k1")]);
    world.verifier.refresh_once().await;
    let claims = claims_with(&json!({"https://example.com/teams": ["vision"], "groups": "ignored"}));
    let principal = world.verifier.authenticate(&Signer::rsa(0).token("k1", &claims)).await.unwrap();
    assert_eq!(principal.groups, Groups::Known(["vision".into()].into()));
}

#[tokio::test]
async fn every_default_algorithm_of_an_openid_issuer_verifies() {
    let world = World::of(vec![oidc()]);
    let signers = [Signer::p256(), Signer::p384(), Signer::ed()];
    let mut keys: Vec<Value> = signers.iter().enumerate().map(|(i, s)| s.jwk(&format!("k{i}"))).collect();
    keys.push(Signer::rsa(0).jwk("rsa"));
    world.documents.publish(OIDC, &keys);
    world.verifier.refresh_once().await;
    for (i, signer) in signers.iter().enumerate() {
        let principal =
            world.verifier.authenticate(&signer.token(&format!("k{i}"), &claims())).await.unwrap();
        assert_eq!(principal.id.to_string(), "idp:alice");
    }
    for (alg, typ) in [("RS256", "at+jwt"), ("PS256", "application/at+jwt"), ("RS256", "jwt")] {
        let header = json!({"alg": alg, "kid": "rsa", "typ": typ}).to_string();
        let token = Signer::rsa(0).raw(&header, &claims().to_string());
        assert!(world.verifier.authenticate(&token).await.is_ok(), "{alg} {typ}");
    }
    let bare = Signer::rsa(0).raw(r#"{"alg":"RS256","kid":"rsa"}"#, &claims().to_string());
    assert!(world.verifier.authenticate(&bare).await.is_ok());
}

#[tokio::test]
async fn workloads_of_openid_issuers_are_machines() {
    let world = World::usual().await;
    for (changes, kind) in [
        (json!({}), PrincipalKind::Person),
        (json!({"azp": "portal"}), PrincipalKind::Person),
        (json!({"client_id": "ci", "sub": "ci"}), PrincipalKind::Machine),
        (json!({"sub": "system:serviceaccount:ml:trainer"}), PrincipalKind::Machine),
        (json!({"preferred_username": "service-account-ci"}), PrincipalKind::Machine),
        (json!({"gty": "client-credentials"}), PrincipalKind::Machine),
        (json!({"project_id": "1", "job_id": "2"}), PrincipalKind::Machine),
        (json!({"sub": "https://jenkins.example/job/a/", "build_number": 7}), PrincipalKind::Machine),
    ] {
        let token = Signer::rsa(0).token("k1", &claims_with(&changes));
        assert_eq!(world.verifier.authenticate(&token).await.unwrap().kind, kind, "{changes}");
    }
}

#[tokio::test]
async fn audiences_may_be_a_list_and_times_may_have_fractions() {
    let world = World::usual().await;
    for changes in [
        json!({"aud": ["other", "amlgate"]}),
        json!({"exp": START as f64 + 0.5, "iat": START as f64 - 0.25}),
        json!({"iat": null, "nbf": null}),
        // Within the leeway of a minute.
        json!({"exp": START - 59}),
        json!({"nbf": START + 60, "iat": START + 60}),
    ] {
        let token = Signer::rsa(0).token("k1", &claims_with(&changes));
        assert!(world.verifier.authenticate(&token).await.is_ok(), "{changes}");
    }
}

#[tokio::test]
async fn a_token_of_32_kib_works_and_is_remembered() {
    let world = World::usual().await;
    let groups: Vec<String> = (0..630).map(|i| format!("6f9619ff-8b86-d011-b42d-00cf4fc9{i:04}")).collect();
    let token = Signer::rsa(0).token("k1", &patched(entra_v2(), &json!({"groups": groups})));
    assert!(token.len() > 32 << 10 && token.len() < MAX_TOKEN, "{}", token.len());
    let header = http::HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    let mut memo = ConnectionMemo::default();
    assert!(world.verifier.recall(&mut memo, &header).is_none());
    let principal = world.verifier.authenticate(bearer::token(&header).unwrap()).await.unwrap();
    let Groups::Known(known) = &principal.groups else { panic!("known groups") };
    assert_eq!(known.len(), 630);
    assert!(world.verifier.recall(&mut memo, &header).is_some());
    assert!(memo.recall(&header, world.now()).is_none(), "an idle connection keeps no token of 32 KiB");
}

#[tokio::test]
async fn names_for_display_decide_nothing_and_carry_no_control_characters() {
    let world = World::usual().await;
    let token = Signer::rsa(0)
        .token("k1", &claims_with(&json!({"preferred_username": "a\u{1b}[2Jb", "email": "x@y@z"})));
    let principal = world.verifier.authenticate(&token).await.unwrap();
    assert_eq!(principal.display.as_deref(), Some("a[2Jb"));
    assert_eq!(&*principal.id.subject, "alice");
}

#[tokio::test]
async fn keycloak_says_bearer_in_a_claim_and_its_realm_and_client_roles_stay_claims() {
    let world = World::usual().await;
    let roles =
        json!({"realm_access": {"roles": ["trainer"]}, "resource_access": {"ml": {"roles": ["run"]}}});
    for typ in ["Bearer", "DPoP", "JWT", "at+jwt"] {
        let token = Signer::rsa(0).token("k1", &patched(claims_with(&json!({"typ": typ})), &roles));
        let principal = world.verifier.authenticate(&token).await.unwrap();
        assert_eq!(principal.claims["realm_access"], roles["realm_access"], "{typ}");
        assert!(principal.roles.is_empty(), "a client's role is not a role of the realm");
    }
}

#[tokio::test]
async fn a_run_of_a_pull_request_is_marked_unless_accept_names_the_event() {
    let named = Accept { claims: [("event_name".to_owned(), json!(["push", "pull_request"]))].into() };
    for (accept, event, marked) in [
        (None, json!("pull_request"), true),
        (None, json!("pull_request_target"), true),
        (None, json!("pull_request_review"), true),
        (None, json!(["pull_request"]), true),
        (None, json!("push"), false),
        (None, json!("workflow_dispatch"), false),
        (None, json!(null), false),
        (Some(Accept::default()), json!("pull_request"), true),
        (Some(named), json!("pull_request"), false),
    ] {
        let world = World::of(vec![IssuerSettings { accept, ..oidc() }]);
        world.documents.publish(OIDC, &[Signer::rsa(0).jwk("k1")]);
        world.verifier.refresh_once().await;
        let run = claims_with(&json!({"repository_id": "42", "event_name": event}));
        let run = world.verifier.authenticate(&Signer::rsa(0).token("k1", &run)).await.unwrap();
        assert_eq!(run.from_pull_request, marked, "{event}");
    }
}

#[tokio::test]
async fn a_run_of_what_a_pull_request_proposes_is_marked_whatever_started_it() {
    let naming = |claim: &str| {
        let all = [(claim.to_owned(), json!(["refs/pull/7/merge", "workflow_dispatch"]))];
        Some(Accept { claims: all.into() })
    };
    for (accept, changes, marked) in [
        (None, json!({"ref": "refs/pull/7/merge"}), true),
        (None, json!({"ref": ["refs/pull/7/merge"]}), true),
        (None, json!({"ref": "refs/heads/main"}), false),
        // No repository of GitHub: here `ref` is a word like any other.
        (None, json!({"ref": "refs/pull/7/merge", "repository_id": null}), false),
        (naming("ref"), json!({"ref": "refs/pull/7/merge"}), false),
        (naming("event_name"), json!({"ref": "refs/pull/7/merge"}), false),
    ] {
        let world = World::of(vec![IssuerSettings { accept, ..oidc() }]);
        world.documents.publish(OIDC, &[Signer::rsa(0).jwk("k1")]);
        world.verifier.refresh_once().await;
        let run = claims_with(&json!({"repository_id": "42", "event_name": "workflow_dispatch"}));
        let run = Signer::rsa(0).token("k1", &patched(run, &changes));
        assert_eq!(world.verifier.authenticate(&run).await.unwrap().from_pull_request, marked, "{changes}");
    }
}
