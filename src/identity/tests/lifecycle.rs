//! Keys over time: rotation, withdrawal, outage, storms; and what is remembered meanwhile.

use std::time::Duration;

use http::HeaderValue;

use super::*;

/// A world whose keys are kept fresh by the task, as in the gate.
async fn running() -> World {
    let world = World::usual().await.serve();
    // Three forms, two documents each: the task finds them fetched.
    settle(&world, 6).await;
    world
}

/// Waits until the documents were asked for `times` in all.
async fn settle(world: &World, times: usize) {
    while world.documents.asked() < times {
        tokio::task::yield_now().await;
    }
    // The answer is put in force in the same task, after the last document.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn header(token: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("Bearer {token}")).unwrap()
}

#[tokio::test]
async fn a_key_that_is_rotated_in_works_at_once() {
    let world = running().await;
    world.clock.advance(ASK_EVERY);
    world.documents.publish(OIDC, &[Signer::rsa(0).jwk("k1"), Signer::rsa(1).jwk("k2")]);
    let token = Signer::rsa(1).token("k2", &claims());
    assert!(world.verifier.authenticate(&token).await.is_ok());
}

#[tokio::test]
async fn a_revoked_key_stops_working() {
    let world = running().await;
    let token = Signer::rsa(0).token("k1", &claims());
    let mut memo = ConnectionMemo::default();
    world.verifier.authenticate(&token).await.unwrap();
    assert!(world.verifier.recall(&mut memo, &header(&token)).is_some());
    assert!(memo.recall(&header(&token), world.now()).is_some());

    let asked = world.documents.asked();
    world.documents.publish(OIDC, &[Signer::rsa(1).jwk("k2")]);
    world.clock.advance(settings::REFRESH_EVERY);
    settle(&world, asked + 6).await;

    assert!(memo.recall(&header(&token), world.now()).is_none(), "the connection forgot");
    assert!(world.verifier.recall(&mut memo, &header(&token)).is_none(), "the process forgot");
    assert_eq!(world.refused(&token).await, Reason::Key);
}

#[tokio::test]
async fn a_key_whose_material_changes_under_its_id_forgets_its_tokens() {
    let world = World::usual().await;
    let token = Signer::rsa(0).token("k1", &claims());
    world.verifier.authenticate(&token).await.unwrap();
    world.documents.publish(OIDC, &[Signer::rsa(1).jwk("k1")]);
    world.verifier.refresh_once().await;
    assert!(world.verifier.remembered(&token).is_none());
    assert_eq!(world.refused(&token).await, Reason::Signature);
}

#[tokio::test]
async fn keys_that_are_added_forget_nothing() {
    let world = World::usual().await;
    let token = Signer::rsa(0).token("k1", &claims());
    world.verifier.authenticate(&token).await.unwrap();
    world.documents.publish(OIDC, &[Signer::rsa(0).jwk("k1"), Signer::rsa(1).jwk("k2")]);
    world.verifier.refresh_once().await;
    assert!(world.verifier.remembered(&token).is_some());
}

#[tokio::test]
async fn the_last_good_keys_stand_in_for_a_day_while_the_issuer_is_down() {
    let world = World::usual().await;
    world.documents.gone();
    world.verifier.refresh_once().await;
    let status = world.verifier.status();
    assert!(
        status[0].usable && status[0].last_error.as_ref().unwrap().contains("nobody answers"),
        "{status:?}"
    );

    world.clock.advance(settings::KEEP_FOR - Duration::from_secs(1));
    let later = START + settings::KEEP_FOR.as_secs();
    let token = Signer::rsa(0)
        .token("k1", &claims_with(&json!({"iat": later, "nbf": later - 60, "exp": later + 600})));
    assert!(world.verifier.authenticate(&token).await.is_ok());
    assert!(world.verifier.remembered(&token).is_some());

    world.clock.advance(Duration::from_secs(1));
    assert!(world.verifier.remembered(&token).is_none(), "what too old keys verified does not stand");
    world.documents.publish("https://elsewhere.example", &[]);
    let waiting = tokio::spawn({
        let (verifier, token) = (Arc::clone(&world.verifier), token.clone());
        async move { verifier.authenticate(&token).await }
    });
    // No task answers, so the request gives up after its own bounded wait.
    while !waiting.is_finished() {
        world.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let rejection = waiting.await.unwrap().unwrap_err();
    assert!(rejection.is_outage());
    assert!(!world.verifier.status()[0].usable);
}

#[tokio::test]
async fn an_unknown_key_is_put_off_at_once_while_the_issuer_is_down_and_known_keys_work() {
    let world = World::usual().await;
    world.documents.gone();
    world.verifier.refresh_once().await;
    world.clock.advance(ASK_EVERY);
    // Nobody serves the question: whoever waited would wait for ever, because the clock stands.
    let unknown = world.verifier.authenticate(&Signer::rsa(1).token("k9", &claims())).await.unwrap_err();
    assert!(unknown.is_outage(), "{unknown:?}");
    assert!(unknown.value_found().unwrap().contains("nobody answers"));
    assert!(world.verifier.authenticate(&Signer::rsa(0).token("k1", &claims())).await.is_ok());
}

#[tokio::test]
async fn a_storm_of_unknown_keys_causes_one_fetch_in_ten_seconds() {
    let world = running().await;
    for round in 0..3 {
        world.clock.advance(ASK_EVERY);
        let asked = world.documents.asked();
        let storm: Vec<_> = (0..500)
            .map(|i| {
                let verifier = Arc::clone(&world.verifier);
                let token = Signer::rsa(1).token(&format!("r{round}-{}", i % 50), &claims());
                tokio::spawn(async move { verifier.authenticate(&token).await.unwrap_err().reason() })
            })
            .collect();
        for one in storm {
            assert_eq!(one.await.unwrap(), Reason::Key);
        }
        assert_eq!(world.documents.asked(), asked + 2, "one discovery document and one key set");
    }
}

#[tokio::test]
async fn unknown_issuers_and_false_claims_cause_no_traffic() {
    let world = running().await;
    world.clock.advance(ASK_EVERY);
    let asked = world.documents.asked();
    for changes in [json!({"iss": "https://evil.example"}), json!({"aud": "x"}), json!({"exp": START - 600})]
    {
        for i in 0..20 {
            let token = Signer::rsa(1).token(&format!("k{i}"), &claims_with(&changes));
            assert!(world.verifier.authenticate(&token).await.is_err());
        }
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.documents.asked(), asked);
}

#[tokio::test]
async fn the_keys_are_fetched_ahead_and_again_sooner_after_a_failure() {
    let world = running().await;
    let asked = world.documents.asked();
    world.clock.advance(settings::REFRESH_EVERY);
    settle(&world, asked + 6).await;
    assert_eq!(world.documents.asked(), asked + 6, "three forms, two documents each");

    world.documents.gone();
    world.clock.advance(settings::REFRESH_EVERY);
    settle(&world, asked + 9).await;
    // Discovery fails: one request for each form, after ten seconds, then after twenty.
    for (pause, total) in [(10, 12), (19, 12), (1, 15), (39, 15), (1, 18)] {
        world.clock.advance(Duration::from_secs(pause));
        settle(&world, asked + total).await;
        assert_eq!(world.documents.asked(), asked + total, "after {pause} s");
    }
}

#[tokio::test]
async fn a_gate_that_waited_for_its_keys_at_the_start_does_not_fetch_them_again_before_they_age() {
    let world = running().await;
    assert_eq!(world.documents.asked(), 6, "three forms, two documents each");
    world.clock.advance(settings::REFRESH_EVERY - Duration::from_secs(1));
    settle(&world, 6).await;
    assert_eq!(world.documents.asked(), 6);
    world.clock.advance(Duration::from_secs(1));
    settle(&world, 12).await;
    assert_eq!(world.documents.asked(), 12);
}

#[tokio::test]
async fn an_issuer_that_was_down_at_the_start_is_asked_again_after_ten_seconds() {
    let world = World::of(vec![oidc()]);
    world.verifier.refresh_once().await;
    let world = world.serve();
    settle(&world, 1).await;
    assert_eq!(world.documents.asked(), 1);
    world.documents.publish(OIDC, &[Signer::rsa(0).jwk("k1")]);
    world.clock.advance(Duration::from_secs(10));
    settle(&world, 3).await;
    assert!(world.verifier.authenticate(&Signer::rsa(0).token("k1", &claims())).await.is_ok());
}

#[tokio::test]
async fn a_gate_that_starts_before_its_issuer_waits_and_then_works() {
    let world = World::of(vec![oidc()]).serve();
    settle(&world, 1).await;
    let token = Signer::rsa(0).token("k1", &claims());
    assert!(world.verifier.authenticate(&token).await.unwrap_err().is_outage());
    world.documents.publish(OIDC, &[Signer::rsa(0).jwk("k1")]);
    world.clock.advance(ASK_EVERY);
    assert!(world.verifier.authenticate(&token).await.is_ok());
}

#[tokio::test]
async fn a_remembered_token_ends_with_its_exp_and_does_not_begin_before_its_nbf() {
    let world = World::usual().await;
    let token = Signer::rsa(0).token("k1", &claims_with(&json!({"nbf": START + 30, "exp": START + 100})));
    let mut memo = ConnectionMemo::default();
    // Within the leeway it is accepted, but what is remembered is exact.
    world.verifier.authenticate(&token).await.unwrap();
    assert!(world.verifier.recall(&mut memo, &header(&token)).is_none());
    world.clock.advance(Duration::from_secs(30));
    world.verifier.authenticate(&token).await.unwrap();
    assert!(world.verifier.recall(&mut memo, &header(&token)).is_some());
    world.clock.advance(Duration::from_secs(70));
    assert!(world.verifier.recall(&mut memo, &header(&token)).is_none());
    assert!(world.verifier.remembered(&token).is_none());
    assert!(world.verifier.authenticate(&token).await.is_ok(), "the leeway is verified anew");
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.refused(&token).await, Reason::Expired);
}

#[tokio::test]
async fn a_removed_issuer_s_callers_are_forgotten_and_its_neighbours_are_not() {
    let world = World::usual().await;
    let (gone, stays) = (Signer::rsa(0).token("k1", &claims()), Signer::rsa(0).token("k1", &entra_v2()));
    let (mut memo_gone, mut memo_stays) = (ConnectionMemo::default(), ConnectionMemo::default());
    for (token, memo) in [(&gone, &mut memo_gone), (&stays, &mut memo_stays)] {
        world.verifier.authenticate(token).await.unwrap();
        assert!(world.verifier.recall(memo, &header(token)).is_some());
    }
    let asked = world.documents.asked();
    world.verifier.reconfigure(vec![IssuerSettings::entra("corp", TENANT, &["api://amlgate"])]);
    assert!(memo_gone.recall(&header(&gone), world.now()).is_none());
    assert!(world.verifier.remembered(&gone).is_none());
    assert_eq!(world.refused(&gone).await, Reason::Issuer);
    assert!(!world.verifier.knows("idp"));

    assert!(memo_stays.recall(&header(&stays), world.now()).is_some());
    let fresh = Signer::rsa(0).token("k1", &entra_v1());
    assert!(world.verifier.authenticate(&fresh).await.is_ok(), "the keys stay with the unchanged issuer");
    assert_eq!(world.documents.asked(), asked);
}

#[tokio::test]
async fn an_issuer_that_is_changed_forgets_and_is_served_by_the_same_task() {
    let world = running().await;
    let token = Signer::rsa(0).token("k1", &claims());
    world.verifier.authenticate(&token).await.unwrap();
    let mut stricter = oidc();
    stricter.accept = Some(Accept { claims: [("team".to_owned(), json!("vision"))].into() });
    let asked = world.documents.asked();
    world.verifier.reconfigure(vec![stricter]);
    assert!(world.verifier.remembered(&token).is_none());
    assert_eq!(world.refused(&token).await, Reason::NotAccepted);
    settle(&world, asked + 2).await;
    let member = Signer::rsa(0).token("k1", &claims_with(&json!({"team": "vision"})));
    assert!(world.verifier.authenticate(&member).await.is_ok());
}

#[tokio::test]
async fn a_reload_while_the_issuer_is_down_keeps_the_keys_unless_they_come_from_elsewhere() {
    let world = World::usual().await;
    world.documents.gone();
    let token = Signer::rsa(0).token("k1", &claims_with(&json!({"aud": "second"})));
    assert_eq!(world.refused(&token).await, Reason::Audience);
    let mut changed = oidc();
    changed.audiences = vec!["amlgate".into(), "second".into()];
    world.verifier.reconfigure(vec![changed.clone()]);
    assert!(world.verifier.authenticate(&token).await.is_ok());
    assert!(world.verifier.remembered(&token).is_some());

    changed.address = Some("10.0.0.4:443".parse().unwrap());
    world.verifier.reconfigure(vec![changed]);
    assert!(world.verifier.remembered(&token).is_none());
    assert!(!world.verifier.status()[0].usable);
}

#[tokio::test]
async fn only_verified_tokens_are_remembered_and_their_number_is_bounded() {
    let clock = ManualClock::starting_at(Timestamp::from_secs(START));
    let documents = Arc::new(Documents::default());
    documents.publish(OIDC, &[Signer::rsa(0).jwk("k1")]);
    let verifier = Verifier::new(
        vec![oidc()],
        RememberedSettings { tokens: 16, bytes: 1 << 20 },
        Arc::clone(&documents) as Arc<dyn KeySource>,
        Arc::new(clock),
    );
    verifier.refresh_once().await;
    for i in 0..64 {
        let junk = Signer::rsa(1).token("k1", &claims_with(&json!({"sub": format!("junk-{i}")})));
        assert!(verifier.authenticate(&junk).await.is_err());
    }
    assert_eq!(verifier.remembered_count(), 0);
    for i in 0..64 {
        let good = Signer::rsa(0).token("k1", &claims_with(&json!({"sub": format!("good-{i}")})));
        verifier.authenticate(&good).await.unwrap();
    }
    verifier.settle();
    assert!((1..=16).contains(&verifier.remembered_count()), "{}", verifier.remembered_count());
}

#[tokio::test]
async fn a_memo_answers_only_for_the_same_header() {
    let world = World::usual().await;
    let alice = Signer::rsa(0).token("k1", &claims());
    let bob = Signer::rsa(0).token("k1", &claims_with(&json!({"sub": "bob"})));
    let mut memo = ConnectionMemo::default();
    for token in [&alice, &bob] {
        world.verifier.authenticate(token).await.unwrap();
    }
    for (token, subject) in [(&alice, "alice"), (&bob, "bob"), (&alice, "alice")] {
        let principal = world.verifier.recall(&mut memo, &header(token)).unwrap();
        assert_eq!(&*principal.id.subject, subject);
        assert_eq!(&*memo.recall(&header(token), world.now()).unwrap().id.subject, subject);
    }
    assert!(memo.recall(&header(&bob), world.now()).is_none());
    assert_eq!(format!("{memo:?}"), "ConnectionMemo(Principal(idp:alice))");
}

#[tokio::test]
async fn published_keys_that_are_not_used_stand_in_the_status() {
    let world = World::of(vec![oidc()]);
    world
        .documents
        .publish(OIDC, &[Signer::rsa(0).jwk("k1"), json!({"kty": "oct", "kid": "k2", "k": "c2VjcmV0"})]);
    world.verifier.refresh_once().await;
    let [status] = world.verifier.status().try_into().unwrap();
    assert_eq!(
        (status.usable, status.keys, status.fetched),
        (true, vec!["k1".to_owned()], Some(world.now()))
    );
    assert_eq!(status.notes.len(), 1);
    assert_eq!(&*status.notes[0].key, "k2");
}
