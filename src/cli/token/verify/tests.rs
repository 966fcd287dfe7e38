use std::io::Write;

use clap::Parser;
use serde_json::json;

use super::*;
use crate::{
    identity::tests::{Signer, TENANT, claims_with, entra_v2, patched},
    time::Clock,
};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    verify: Verify,
}

fn verify(arguments: &[&str]) -> Verify {
    let line = ["verify"].iter().chain(arguments);
    Line::try_parse_from(line).unwrap().verify
}

fn key_file() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let keys = [Signer::rsa(0).jwk("k1"), json!({"kty": "oct", "kid": "old", "k": "c2VjcmV0"})];
    write!(file, "{}", json!({"keys": keys})).unwrap();
    file
}

/// The answer for a token, checked with a key file.
fn asked(iss: &str, aud: &str, token: &str) -> Answer {
    let file = key_file();
    let path = file.path().to_str().unwrap();
    let Ok(asked) = question(&verify(&["--jwks", path, "--iss", iss, "--aud", aud])) else {
        panic!("the question stands")
    };
    answer(&asked, token).unwrap()
}

fn times() -> Value {
    let now = SystemClock.now().as_secs();
    json!({"iat": now, "nbf": now, "exp": now + 600})
}

const ISS: &str = "https://issuer.example";

fn fresh(changes: &Value) -> String {
    Signer::rsa(0).token("k1", &patched(claims_with(&times()), changes))
}

#[test]
fn a_good_token_is_accepted_and_its_holder_named() {
    let answer = asked(ISS, "amlgate", &fresh(&json!({"groups": ["vision", "ml"]})));
    assert_eq!(answer.code(), exit::DONE);
    let table = answer.print(Output::Table);
    for line in ["accepted    yes", "subject     alice", "kind        person", "groups      vision"] {
        assert!(table.contains(line), "{table}");
    }
    let json: Value = serde_json::from_str(&answer.print(Output::Json)).unwrap();
    assert_eq!((&json["accepted"], &json["groups"][1]), (&json!(true), &json!("ml")));
    let yaml: std::collections::BTreeMap<String, serde::de::IgnoredAny> =
        crate::yaml::parse(&"answer".into(), &answer.print(Output::Yaml)).unwrap();
    assert!(yaml.contains_key("subject"));
}

#[test]
fn an_entra_issuer_is_checked_as_entra() {
    let iss = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
    let token = Signer::rsa(0).token("k1", &patched(entra_v2(), &times()));
    let answer = asked(&iss, "api://amlgate", &token);
    assert!(answer.print(Output::Table).contains(&format!("subject     {TENANT}/")), "{answer:?}");
    let other = Signer::rsa(0).token("k1", &patched(patched(entra_v2(), &times()), &json!({"tid": "other"})));
    assert!(asked(&iss, "api://amlgate", &other).print(Output::Table).contains("check       tenant"));
}

#[test]
fn the_failing_check_is_named_with_both_values_and_the_token_is_not_shown() {
    for (token, check, found, expected) in [
        (fresh(&json!({"aud": "api://other"})), "audience", "api://other", "amlgate"),
        (fresh(&json!({"iss": "https://issuer.example/"})), "issuer", "https://issuer.example/", ISS),
        (fresh(&json!({"exp": 5})), "expired", "1970-01-01", "leeway 60 s"),
        (Signer::rsa(1).token("k1", &claims_with(&times())), "signature", "`k1`", "RS256"),
        (Signer::rsa(1).token("k9", &claims_with(&times())), "key", "k9", "k1"),
        ("a.b".to_owned(), "malformed", "2 segments", "3 segments"),
        ("amlgh1.AAAA".to_owned(), "handle", "", "3 segments"),
    ] {
        let answer = asked(ISS, "amlgate", &token);
        assert_eq!(answer.code(), exit::FINDING);
        let json: Value = serde_json::from_str(&answer.print(Output::Json)).unwrap();
        assert_eq!(json["check"], check, "{json}");
        assert!(json["found"].as_str().unwrap_or_default().contains(found), "{json}");
        assert!(json["expected"].as_str().unwrap().contains(expected), "{json}");
        for output in [Output::Table, Output::Json, Output::Yaml] {
            let printed = answer.print(output);
            for part in token.split('.').filter(|part| part.len() > 8) {
                assert!(!printed.contains(part), "{printed}");
            }
        }
    }
    let key = asked(ISS, "amlgate", &Signer::rsa(1).token("old", &claims_with(&times())));
    assert!(key.print(Output::Table).contains("`old` is not used: a symmetric key"), "{key:?}");
}

#[test]
fn arguments_that_make_no_sense_together_are_refused() {
    for line in [
        &["--jwks", "x"][..],
        &["--iss", "x"],
        &["--jwks", "x", "--iss", "y"],
        &["--issuer", "a", "--iss", "y"],
    ] {
        assert!(Line::try_parse_from(["token", "verify"].iter().chain(line)).is_err(), "{line:?}");
    }
}

#[test]
fn a_missing_or_broken_key_file_is_said() {
    let said = |path: &str| match question(&verify(&["--jwks", path, "--iss", ISS, "--aud", "a"])) {
        Err(Refused::Error(error)) => error.to_string(),
        _ => panic!("refused"),
    };
    assert_eq!(said("/does/not/exist"), "cannot read the key set `/does/not/exist`");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"{}").unwrap();
    assert!(said(file.path().to_str().unwrap()).ends_with("is no key set"));
}
