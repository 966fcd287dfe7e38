use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use secrecy::SecretString;
use serde_json::json;

use super::*;
use crate::secrets::{Purpose, Seal};

const NOW: u64 = 1_800_000_000;

struct Holder(EcdsaKeyPair);

impl Holder {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
    }

    fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk()})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn claims() -> Value {
    let ath = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, b"token"));
    json!({"jti": "a", "htm": "GET", "htu": "https://gate.example/a/b", "iat": NOW, "ath": ath})
}

fn judged(proof: &str) -> Result<Proof, BadProof> {
    let urls = ["https://gate.example/a/b".to_owned()];
    let demand = Demand {
        method: "GET",
        urls: &urls,
        token: Some("token"),
        nonces: None,
        window: Window::default(),
        now: Timestamp::from_secs(NOW),
    };
    verify(proof, &demand)
}

fn with(mut base: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            base.as_object_mut().unwrap().remove(name);
        } else {
            base[name] = value.clone();
        }
    }
    base
}

#[test]
fn a_proof_shows_the_thumbprint_of_its_key() {
    let holder = Holder::new();
    let proof = judged(&holder.sign(&holder.header(), &claims())).unwrap();
    let jwk = holder.jwk();
    // RFC 7638, 3: the required members in the order of their names, without white space.
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
    let thumbprint = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
    assert_eq!(*proof.thumbprint, *thumbprint);
    assert_eq!(proof.until, Timestamp::from_secs(NOW + 90));
}

#[test]
fn the_thumbprint_is_the_one_of_the_standard_s_example() {
    // RFC 9449, 4.2 has the proof, 6.1 the thumbprint.
    let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
    let urls = ["https://server.example.com/token".to_owned()];
    let demand = Demand {
        method: "POST",
        urls: &urls,
        token: None,
        nonces: None,
        window: Window::default(),
        now: Timestamp::from_secs(1_562_262_616),
    };
    assert_eq!(&*verify(proof, &demand).unwrap().thumbprint, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}

#[test]
fn a_proof_for_anything_else_is_refused() {
    let holder = Holder::new();
    for (changes, why) in [
        (json!({"htm": "POST"}), BadProof::Method),
        (json!({"htm": "get"}), BadProof::Method),
        (json!({"htm": null}), BadProof::Claim),
        (json!({"htu": "https://other.example/a/b"}), BadProof::Url),
        (json!({"htu": "http://gate.example/a/b"}), BadProof::Url),
        (json!({"htu": "https://gate.example:8443/a/b"}), BadProof::Url),
        (json!({"htu": "https://gate.example/a"}), BadProof::Url),
        (json!({"htu": "https://gate.example/a/B"}), BadProof::Url),
        (json!({"htu": "https://x@gate.example/a/b"}), BadProof::Url),
        (json!({"htu": "https://gate.example/c/../a/b"}), BadProof::Url),
        (json!({"htu": "/a/b"}), BadProof::Url),
        (json!({"htu": 1}), BadProof::Claim),
        (json!({"iat": NOW - 91}), BadProof::Time),
        (json!({"iat": NOW + 31}), BadProof::Time),
        (json!({"iat": "now"}), BadProof::Claim),
        (json!({"iat": null}), BadProof::Claim),
        (json!({"iat": 1e300}), BadProof::Claim),
        (json!({"ath": null}), BadProof::Claim),
        (json!({"ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"}), BadProof::Token),
        (json!({"jti": null}), BadProof::Claim),
        (json!({"jti": ""}), BadProof::Claim),
        (json!({"jti": "x".repeat(257)}), BadProof::Claim),
    ] {
        let proof = holder.sign(&holder.header(), &with(claims(), changes.clone()));
        assert_eq!(judged(&proof), Err(why), "{changes}");
    }
}

#[test]
fn the_same_url_in_another_spelling_is_the_same_url() {
    let holder = Holder::new();
    for htu in [
        "https://gate.example/a/b",
        "HTTPS://GATE.example/a/b",
        "https://gate.example:443/a/b",
        "https://gate.example/a/b?api-version=1",
        "https://gate.example/a/b#top",
        "https://gate.example/%61/b",
    ] {
        let proof = holder.sign(&holder.header(), &with(claims(), json!({ "htu": htu })));
        assert!(judged(&proof).is_ok(), "{htu}");
    }
}

#[test]
fn only_a_public_key_that_is_not_weak_makes_a_proof() {
    let holder = Holder::new();
    let jwk = holder.jwk();
    let small = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB"});
    for (changes, why) in [
        (json!({"jwk": null}), BadProof::Key),
        (json!({"jwk": "x"}), BadProof::Key),
        (json!({"jwk": {"kty": "oct", "k": "AAAA"}}), BadProof::Key),
        (json!({"jwk": with(jwk.clone(), json!({"d": "AAAA"}))}), BadProof::Key),
        (json!({"jwk": with(jwk.clone(), json!({"y": "AAAA"}))}), BadProof::Key),
        (json!({"jwk": with(jwk.clone(), json!({"use": "enc"}))}), BadProof::Key),
        (json!({"jwk": Holder::new().jwk()}), BadProof::Signature),
        (json!({"alg": "RS256", "jwk": small}), BadProof::Key),
        (json!({"alg": "RS256"}), BadProof::Key),
        (json!({"alg": "HS256"}), BadProof::Algorithm),
        (json!({"alg": "none"}), BadProof::Algorithm),
        (json!({"alg": null}), BadProof::Algorithm),
        (json!({"typ": "JWT"}), BadProof::Type),
        (json!({"typ": null}), BadProof::Type),
        (json!({"crit": ["exp"]}), BadProof::Type),
    ] {
        let proof = holder.sign(&with(holder.header(), changes.clone()), &claims());
        assert_eq!(judged(&proof), Err(why), "{changes}");
    }
}

#[test]
fn what_is_no_proof_is_refused_without_harm() {
    let holder = Holder::new();
    let good = holder.sign(&holder.header(), &claims());
    for bad in ["", ".", "..", "a.b", "a.b.c.d", &good[..good.len() - 1], &format!("{good}=")] {
        assert!(judged(bad).is_err(), "{bad}");
    }
    assert_eq!(judged(&"a".repeat(MAX_PROOF + 1)), Err(BadProof::Malformed));
}

#[test]
fn a_proof_is_good_once_and_forgotten_when_it_is_too_old() {
    let replays = Replays::new(160);
    let (now, until) = (Timestamp::from_secs(NOW), Timestamp::from_secs(NOW + 90));
    assert_eq!(replays.first_use(&[1; 32], until, now), Seen::First);
    assert_eq!(replays.first_use(&[1; 32], until, now), Seen::Before);
    assert_eq!(replays.first_use(&[2; 32], until, now), Seen::First);
    // What is forgotten is too old for `verify`.
    assert_eq!(replays.first_use(&[1; 32], until, until), Seen::First);
    assert_eq!(replays.len(), 2);
}

#[test]
fn a_full_memory_refuses_what_it_cannot_remember_and_forgets_nothing_that_is_good() {
    let replays = Replays::new(16);
    let (now, until) = (Timestamp::from_secs(NOW), Timestamp::from_secs(NOW + 90));
    let id = |n: u8| {
        let mut id = [7; 32];
        id[1] = n;
        id
    };
    assert_eq!(replays.first_use(&id(0), until, now), Seen::First);
    for n in 1..100 {
        assert_eq!(replays.first_use(&id(n), until, now), Seen::Full);
    }
    assert_eq!(replays.first_use(&id(0), until, now), Seen::Before);
    assert_eq!(replays.len(), 1);
    assert_eq!(replays.first_use(&id(1), until.plus(Window::default().age), until), Seen::First);
}

#[test]
fn a_nonce_is_one_that_a_gate_with_the_same_keys_gave_out_lately() {
    let seal = |byte: u8| {
        let text = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        Seal::new(&[SecretString::from(text)]).unwrap()
    };
    let ours = Nonces::new(seal(1).mac(Purpose::DpopNonce));
    let others = Nonces::new(seal(2).mac(Purpose::DpopNonce));
    let now = Timestamp::from_secs(NOW);
    let nonce = ours.current(now);
    assert!(ours.stands(&nonce, now) && !others.stands(&nonce, now));
    assert!(ours.stands(&nonce, now.plus(Duration::from_secs(120))));
    assert!(!ours.stands(&nonce, now.plus(Duration::from_secs(240))));
    assert!(!ours.stands(&nonce, now.minus(Duration::from_secs(240))), "not given out yet");
    for bad in ["", "AAAA", &nonce[1..]] {
        assert!(!ours.stands(bad, now));
    }

    let holder = Holder::new();
    let urls = ["https://gate.example/a/b".to_owned()];
    let judged = |claims: &Value| {
        let demand = Demand {
            method: "GET",
            urls: &urls,
            token: Some("token"),
            nonces: Some(&ours),
            window: Window::default(),
            now,
        };
        verify(&holder.sign(&holder.header(), claims), &demand)
    };
    assert_eq!(judged(&claims()), Err(BadProof::Nonce));
    assert_eq!(judged(&with(claims(), json!({"nonce": others.current(now)}))), Err(BadProof::Nonce));
    assert!(judged(&with(claims(), json!({ "nonce": nonce }))).is_ok());
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_is_refused_without_a_panic(text in "\\PC{0,200}", dots in "[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}") {
        proptest::prop_assert!(judged(&text).is_err());
        proptest::prop_assert!(judged(&dots).is_err());
    }
}
