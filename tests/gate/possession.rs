//! Tokens that are bound to a key, with the proof of it (DPoP, RFC 9449).

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    machines::{data, score, token},
    world::{Answer, Changes, World},
};

/// A client with a key.
pub struct Holder(EcdsaKeyPair);

impl Holder {
    pub fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
    }

    /// RFC 7638.
    fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
        URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()))
    }

    pub fn bound(&self, world: &World) -> String {
        token(world, "ci", &json!({"cnf": {"jkt": self.thumbprint()}}))
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A proof for scoring with `token`, some of its words changed.
    pub fn proof(&self, world: &World, token: &str, header: Value, claims: Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut all = json!({
            "jti": uuid::Uuid::new_v4().to_string(),
            "htm": "POST",
            "htu": format!("https://{}/endpoints/churn/score", world.host()),
            "iat": now,
            "ath": URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes())),
        });
        let mut head = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk()});
        for (base, changes) in [(&mut all, claims), (&mut head, header)] {
            base.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        }
        self.sign(&head, &all)
    }
}

async fn sent(world: &World, lines: &[(&str, &str)]) -> Answer {
    let mut request = score(world);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    let mut sender = world.connect().await;
    Answer::of(sender.send_request(request.body(data()).unwrap()).await.unwrap()).await
}

async fn with(world: &World, token: &str, proof: &str) -> Answer {
    sent(world, &[("authorization", &format!("DPoP {token}")), ("dpop", proof)]).await
}

#[tokio::test]
async fn a_bound_token_counts_with_a_fresh_proof_of_its_key_and_the_proof_ends_here() {
    let world = World::new().await;
    let holder = Holder::new();
    let bound = holder.bound(&world);
    let proof = holder.proof(&world, &bound, json!({}), json!({}));
    let answer = with(&world, &bound, &proof).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    for seen in world.sandbox.azure.observer().seen() {
        assert!(!seen.headers.contains_key("dpop"));
        assert!(seen.headers.values().all(|value| !value.as_bytes().ends_with(bound.as_bytes())));
    }
    // HTTP/2, and the scheme and URL in another spelling.
    let mut http2 = world.connect_http2().await;
    let spelled =
        json!({"htu": format!("HTTPS://{}/endpoints/churn/%73core?x=1", world.host().to_uppercase())});
    let proof = holder.proof(&world, &bound, json!({}), spelled);
    let request = Request::post(format!("https://{}/endpoints/churn/score", world.host()))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("dpop {bound}"))
        .header("dpop", &proof);
    let answer = Answer::of(http2.send_request(request.body(data()).unwrap()).await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    drop(http2);
    let log = world.stop().await;
    assert_eq!(log.requests()[0]["unmapped"]["amlgate"]["proof"], "dpop");
    assert!(log.records.iter().all(|r| !r.to_string().contains(&proof)));
}

#[tokio::test]
async fn a_proof_for_something_else_is_refused_and_the_answer_says_what_is_asked_for() {
    let world = World::new().await;
    let (holder, thief) = (Holder::new(), Holder::new());
    let bound = holder.bound(&world);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let other = URL_SAFE_NO_PAD.encode(digest(&SHA256, b"another token"));
    let mut private = holder.jwk();
    private["d"] = json!("AAAA");
    for (header, claims, reason) in [
        (json!({}), json!({"htm": "GET"}), "dpop_method"),
        (json!({}), json!({"htu": format!("https://{}/endpoints/churn", world.host())}), "dpop_url"),
        (json!({}), json!({"htu": "https://evil.example/endpoints/churn/score"}), "dpop_url"),
        (json!({}), json!({"ath": other}), "dpop_token"),
        (json!({}), json!({"iat": now - 120}), "dpop_time"),
        (json!({}), json!({"iat": now + 120}), "dpop_time"),
        (json!({"typ": "JWT"}), json!({}), "dpop_type"),
        (json!({"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}}), json!({}), "dpop_algorithm"),
        (json!({"jwk": {"kty": "oct", "k": "AAAA"}}), json!({}), "dpop_key"),
        (json!({"jwk": private}), json!({}), "dpop_key"),
        (json!({"jwk": thief.jwk()}), json!({}), "dpop_signature"),
    ] {
        let answer = with(&world, &bound, &holder.proof(&world, &bound, header, claims)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{reason}: {answer:?}");
        let challenge = answer.header("www-authenticate").to_owned();
        assert!(
            challenge.starts_with("DPoP realm=\"amlgate\", error=\"invalid_dpop_proof\", algs=\"ES256 "),
            "{challenge}"
        );
    }
    let none = sent(&world, &[("authorization", &format!("DPoP {bound}"))]).await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    let proof = holder.proof(&world, &bound, json!({}), json!({}));
    let two = [("authorization", format!("DPoP {bound}")), ("dpop", proof.clone()), ("dpop", proof)];
    let two: Vec<(&str, &str)> = two.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(sent(&world, &two).await.status, StatusCode::UNAUTHORIZED);
    // The thief has the token and a key of their own.
    let stolen = with(&world, &bound, &thief.proof(&world, &bound, json!({}), json!({}))).await;
    assert_eq!(stolen.status, StatusCode::UNAUTHORIZED);
    assert!(stolen.header("www-authenticate").contains("error=\"invalid_token\""), "{stolen:?}");
    let log = world.stop().await;
    let mut reasons: Vec<_> =
        log.events("refused").iter().map(|own| own["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(
        reasons,
        [
            "dpop_absent",
            "dpop_algorithm",
            "dpop_key",
            "dpop_method",
            "dpop_other_key",
            "dpop_several",
            "dpop_signature",
            "dpop_time",
            "dpop_token",
            "dpop_type",
            "dpop_url"
        ]
    );
}

#[tokio::test]
async fn a_bound_token_is_no_bearer_and_a_proof_makes_no_other_token_bound() {
    let world = World::new().await;
    let holder = Holder::new();
    let bound = holder.bound(&world);
    let proof = |token: &str| holder.proof(&world, token, json!({}), json!({}));
    let plain = [("authorization", format!("Bearer {bound}")), ("dpop", proof(&bound))];
    let plain: Vec<(&str, &str)> = plain.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // Also once it is known to the gate.
    for _ in 0..2 {
        let answer = sent(&world, &plain).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.header("www-authenticate").starts_with("DPoP "), "{answer:?}");
        assert_eq!(with(&world, &bound, &proof(&bound)).await.status, StatusCode::OK);
    }
    let unbound = token(&world, "ci", &json!({}));
    assert_eq!(with(&world, &unbound, &proof(&unbound)).await.status, StatusCode::UNAUTHORIZED);
    let log = world.stop().await;
    let mut reasons: Vec<_> =
        log.events("refused").iter().map(|own| own["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(reasons, ["bound_as_bearer", "dpop_unbound"]);
}

#[tokio::test]
async fn a_proof_is_good_once_on_whatever_core_and_a_full_memory_lets_nobody_in() {
    let changes = [("policies: policies/", "limits: {dpop_proofs: 1}\npolicies: policies/")];
    let world = World::changed(Changes { configuration: &changes, ..Changes::default() }).await;
    let holder = Holder::new();
    let bound = holder.bound(&world);
    let proof = holder.proof(&world, &bound, json!({}), json!({}));
    assert_eq!(with(&world, &bound, &proof).await.status, StatusCode::OK);
    let replayed = with(&world, &bound, &proof).await;
    assert_eq!(replayed.status, StatusCode::UNAUTHORIZED);
    assert!(replayed.text().contains("used before"), "{replayed:?}");
    // Each of the memory's parts holds one: sooner or later there is no room.
    let mut full = None;
    for _ in 0..64 {
        let answer = with(&world, &bound, &holder.proof(&world, &bound, json!({}), json!({}))).await;
        if answer.status != StatusCode::OK {
            full = Some(answer);
            break;
        }
    }
    let full = full.unwrap();
    assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE, "{full:?}");
    assert_eq!(full.header("retry-after"), "1");
    // What was used stays used.
    assert_eq!(with(&world, &bound, &proof).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn where_a_nonce_is_required_the_answer_gives_one_out() {
    let changes =
        [("issuers:\n  - name: sandbox ", "issuers:\n  - dpop: {nonce: required}\n    name: sandbox ")];
    let world = World::changed(Changes { configuration: &changes, ..Changes::default() }).await;
    let holder = Holder::new();
    let bound = holder.bound(&world);
    let asked = with(&world, &bound, &holder.proof(&world, &bound, json!({}), json!({}))).await;
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED);
    assert!(asked.header("www-authenticate").contains("error=\"use_dpop_nonce\""), "{asked:?}");
    let nonce = asked.header("dpop-nonce").to_owned();
    let proof = holder.proof(&world, &bound, json!({}), json!({ "nonce": nonce }));
    assert_eq!(with(&world, &bound, &proof).await.status, StatusCode::OK);
    let forged = holder.proof(&world, &bound, json!({}), json!({"nonce": "AAAA"}));
    assert_eq!(with(&world, &bound, &forged).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_proof_that_is_too_old_is_refused_by_the_gates_own_clock() {
    use amlgate::time::{Clock as _, ManualClock, SystemClock};
    let clock = ManualClock::starting_at(SystemClock.now());
    let world = World::at(Changes::default(), Arc::new(clock.clone())).await;
    let holder = Holder::new();
    let bound = holder.bound(&world);
    let proof = holder.proof(&world, &bound, json!({}), json!({}));
    clock.advance(Duration::from_secs(120));
    assert_eq!(with(&world, &bound, &proof).await.status, StatusCode::UNAUTHORIZED);
    let fresh = json!({"iat": clock.now().as_secs()});
    let proof = holder.proof(&world, &bound, json!({}), fresh);
    assert_eq!(with(&world, &bound, &proof).await.status, StatusCode::OK);
}
