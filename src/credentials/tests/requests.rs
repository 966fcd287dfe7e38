//! A recorded request gets its token, and at most one other.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{HeaderMap, Method};

use super::azure::{World, endpoint};
use crate::{
    audit::{Exchange, Journal, JournalSettings, Recorded},
    azureml::{
        Act, Action, Audience, Effect, Effects, Facts, Kind, Operation, Protocol, ResourceId, Secrets,
    },
    credentials::{
        ActsFor, Bearer, ChosenCredential, CredentialChoice, CredentialError, EndpointKeys, KeySlot, Proof,
    },
    gates::Gates,
    http::Target,
    identity::{Caller, Groups, Principal, PrincipalId, PrincipalKind},
    policy::{DecisionId, FileSet, PolicySet, RequestFacts, Standing, Surroundings, decide},
    secrets::{Purpose, Seal, SecretString},
    time::Clock,
};

fn operation(kind: Kind, effects: Effects) -> Operation {
    Operation {
        name: "Jobs_Test".into(),
        acts: vec![Act {
            action: Action::new("Microsoft.MachineLearningServices/workspaces/jobs/read"),
            resource: ResourceId::parse("/subscriptions/s1/resourceGroups/g"),
        }],
        kind,
        effects,
        unclear_effects: Effects::NONE,
        secrets: Secrets::NONE,
        facts: Facts::default(),
        audience: Audience::Arm,
        long_running: false,
        protocol: Protocol::Arm,
    }
}

/// A journal in a folder of its own, and a recorded read in it.
async fn recorded(world: &World, folder: &tempfile::TempDir) -> Recorded {
    let now = world.clock.now();
    let caller = Caller {
        id: PrincipalId { issuer: "corp".into(), subject: "ann".into() },
        kind: PrincipalKind::Person,
        tenant: None,
        client: None,
        display: None,
        groups: Groups::Known([].into()),
        roles: Arc::new([]),
        claims: Arc::default(),
        expires: now.plus(Duration::from_secs(3_600)),
        from_pull_request: false,
        subjects_at_issue: None,
        reviewers: None,
        human: None,
        token_digest: [9; 32],
    };
    let request = RequestFacts {
        decision: DecisionId::fresh(),
        route: "arm".into(),
        method: Method::GET,
        target: Target::parse("gate", "/x").unwrap(),
        headers: HeaderMap::new(),
        body: None,
        source: "10.1.2.3:4000".parse().unwrap(),
        received: now,
        glass: None,
    };
    let text = "version: 1\nallow:\n  - name: all read\n    who: [authenticated]\n    kinds: [read]\n    scope: /subscriptions/s1\n    actions: ['*']\n";
    let policies = PolicySet::compile(&FileSet::from_texts([("p.yaml", text)]), &Surroundings::default());
    let policies = policies.unwrap_or_else(|problems| panic!("{problems:?}")).0;
    let principal = Principal::for_tests(caller);
    let operation = operation(Kind::Read, Effects::NONE);
    let permit = decide(
        &policies,
        principal,
        operation,
        request,
        Standing::Entries,
        crate::policy::Azure::default(),
        now,
    )
    .unwrap();
    let clock = Arc::new(world.clock.clone());
    let cleared = Gates::new(clock.clone()).clear(permit).unwrap();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let settings = JournalSettings::new("test", folder.path().to_owned(), SecretString::from(key));
    let root = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [1; 32]);
    let seal = Seal::new([&SecretString::from(root)]).unwrap();
    let (journal, _) = Journal::open(&settings, seal.mac(Purpose::Thumbprint), clock).unwrap();
    journal.intend(cleared, Exchange::default()).await.unwrap()
}

fn token() -> Bearer {
    Bearer::Token { credential: "gate".into(), caller: None }
}

#[tokio::test]
async fn a_recorded_request_gets_a_token_for_its_audience_and_a_second_one_for_the_other_bearer() {
    let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    let credentials = world.with_secret();
    let keys = EndpointKeys::new(credentials.clone(), world.arm());
    let attempt = credentials.open(recorded(&world, &folder).await, token(), &keys, true).await.unwrap();
    let (first, second) = (attempt.authorization().unwrap(), attempt.ml_token().unwrap());
    assert!(first.is_sensitive() && second.is_sensitive());
    let audience = |header: &http::HeaderValue| {
        let text = header.to_str().unwrap().trim_start_matches("Bearer ").to_owned();
        let claims = jsonwebtoken::dangerous::insecure_decode::<serde_json::Value>(text).unwrap().claims;
        claims["aud"].as_str().unwrap().trim_end_matches('/').to_owned()
    };
    assert_eq!(audience(first), "https://management.azure.com");
    assert_eq!(audience(&second), "https://ml.azure.com");
    let shown = format!("{attempt:?}");
    let secret = first.to_str().unwrap().trim_start_matches("Bearer ");
    assert!(!shown.contains(secret) && !shown.contains(second.to_str().unwrap()), "{shown}");
}

#[tokio::test]
async fn there_are_two_attempts_and_the_request_comes_back_to_be_concluded() {
    let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    let credentials = world.with_secret();
    let keys = EndpointKeys::new(credentials.clone(), world.arm());
    let first = credentials.open(recorded(&world, &folder).await, token(), &keys, false).await.unwrap();
    assert!(first.is_first() && first.ml_token().is_none());
    let second = credentials.again(first, &keys, None).await.unwrap();
    assert!(!second.is_first());
    let back = credentials.again(second, &keys, None).await.unwrap_err();
    assert!(back.error.to_string().contains("twice"), "{}", back.error);
    assert_eq!(back.recorded.permit().request().route.as_ref(), "arm");
}

#[tokio::test]
async fn without_a_token_the_recorded_request_comes_back_with_the_reason() {
    let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    let credentials = world.credentials(Proof::Secret("wrong".into()));
    let keys = EndpointKeys::new(credentials.clone(), world.arm());
    let back = credentials.open(recorded(&world, &folder).await, token(), &keys, false).await.unwrap_err();
    assert!(!back.error.is_passing());
}

#[tokio::test]
async fn an_endpoints_key_stands_in_for_the_token_and_a_route_without_a_credential_sends_none() {
    let (world, folders) = (World::new().await, [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let credentials = world.with_secret();
    let keys = EndpointKeys::new(credentials.clone(), world.arm());
    let bearer = Bearer::EndpointKey {
        credential: "gate".into(),
        endpoint: ResourceId::parse(&endpoint()).unwrap(),
        slot: KeySlot::Primary,
    };
    let attempt = credentials.open(recorded(&world, &folders[0]).await, bearer, &keys, true).await.unwrap();
    let key = keys.bearer(&endpoint(), KeySlot::Primary, "gate").await.unwrap();
    assert_eq!((attempt.authorization(), attempt.ml_token()), (Some(&key), None));
    assert!(!keys.forget(&attempt).await, "the key was fetched just now");
    world.clock.advance(Duration::from_secs(60));
    assert!(keys.forget(&attempt).await);

    let attempt =
        credentials.open(recorded(&world, &folders[1]).await, Bearer::Nothing, &keys, true).await.unwrap();
    assert_eq!((attempt.authorization(), attempt.ml_token()), (None, None));
    assert!(!keys.forget(&attempt).await);
}

#[test]
fn the_narrowest_credential_is_chosen_by_effect_then_kind() {
    let choice = |words: &[(&str, &str)]| {
        words.iter().map(|(kind, name)| ((*kind).to_owned(), chosen(name))).collect::<BTreeMap<_, _>>()
    };
    let all = CredentialChoice::new(
        choice(&[("default", "wide"), ("read", "reader"), ("register_model", "registrar")]),
        BTreeMap::new(),
    );
    let of = |choice: &CredentialChoice, kind, effects| {
        choice.of(&operation(kind, effects)).map(|chosen| chosen.name.to_string())
    };
    let registers = Effects::NONE.with(Effect::RegisterModel);
    assert_eq!(of(&all, Kind::Read, Effects::NONE).as_deref(), Some("reader"));
    assert_eq!(of(&all, Kind::Write, Effects::NONE).as_deref(), Some("wide"));
    assert_eq!(of(&all, Kind::Write, registers).as_deref(), Some("registrar"));
    let narrow = CredentialChoice::new(choice(&[("read", "reader")]), BTreeMap::new());
    assert_eq!(of(&narrow, Kind::Write, Effects::NONE), None);
}

fn chosen(name: &str) -> ChosenCredential {
    ChosenCredential { name: name.into(), acts_for: ActsFor::Itself }
}

#[test]
fn a_subscription_with_a_choice_of_its_own_never_gets_the_identity_of_others() {
    let choice = CredentialChoice::new(
        BTreeMap::from([("default".to_owned(), chosen("home"))]),
        BTreeMap::from([("S-Abroad".to_owned(), BTreeMap::from([("read".to_owned(), chosen("abroad"))]))]),
    );
    let of = |resource: &str, kind| {
        let mut operation = operation(kind, Effects::NONE);
        operation.acts[0].resource = ResourceId::parse(resource);
        choice.of(&operation).map(|chosen| chosen.name.to_string())
    };
    assert_eq!(of("/subscriptions/s-abroad/resourceGroups/g", Kind::Read).as_deref(), Some("abroad"));
    assert_eq!(of("/SUBSCRIPTIONS/S-ABROAD", Kind::Read).as_deref(), Some("abroad"));
    assert_eq!(of("/subscriptions/s-abroad/resourceGroups/g", Kind::Write), None);
    assert_eq!(of("/subscriptions/other", Kind::Write).as_deref(), Some("home"));
    assert_eq!(of("/subscriptions/s-abroad2", Kind::Read).as_deref(), Some("home"));
    assert_eq!(of("/", Kind::Read).as_deref(), Some("home"));
}

#[tokio::test]
async fn what_no_credential_is_for_is_not_sent() {
    let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    let credentials = world.with_secret();
    let keys = EndpointKeys::new(credentials.clone(), world.arm());
    let back =
        credentials.open(recorded(&world, &folder).await, Bearer::Unchosen, &keys, false).await.unwrap_err();
    assert!(matches!(back.error, CredentialError::Unknown(_)), "{}", back.error);
}
