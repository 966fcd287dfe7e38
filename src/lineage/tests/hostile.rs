//! Whoever changes a statement, or makes one up, is found out, and told by which check.

use super::*;

fn sealed(key: &SigningKey) -> (Vec<u8>, Value) {
    let stated = provenance(&custody(), GATE).unwrap();
    let envelope = serde_json::from_slice(&seal(&stated, key).unwrap()).unwrap();
    (stated, envelope)
}

fn open(envelope: &Value, keys: &[&SigningKey]) -> Result<Opened, EnvelopeError> {
    let keys: Vec<PublicKey> = keys.iter().map(|key| key.public().clone()).collect();
    Envelope::parse(envelope.to_string().as_bytes())?.open(&keys)
}

#[test]
fn every_changed_byte_of_a_payload_is_found() {
    for key in [ed25519(), p256()] {
        let (stated, envelope) = sealed(&key);
        assert!(open(&envelope, &[&key]).is_ok());
        for at in 0..stated.len() {
            let mut changed = stated.clone();
            changed[at] ^= 1;
            let mut envelope = envelope.clone();
            envelope["payload"] = STANDARD.encode(changed).into();
            let refused = open(&envelope, &[&key]);
            assert!(matches!(refused, Err(EnvelopeError::Signature(_))), "byte {at}: {refused:?}");
        }
        for cut in [0, 1, stated.len() - 1] {
            let mut envelope = envelope.clone();
            envelope["payload"] = STANDARD.encode(&stated[..cut]).into();
            assert!(matches!(open(&envelope, &[&key]), Err(EnvelopeError::Signature(_))), "{cut}");
        }
    }
}

#[test]
fn every_changed_byte_of_a_signature_is_found() {
    for key in [ed25519(), p256()] {
        let (_, envelope) = sealed(&key);
        let signature = STANDARD.decode(envelope["signatures"][0]["sig"].as_str().unwrap()).unwrap();
        for at in 0..signature.len() {
            let mut changed = signature.clone();
            changed[at] ^= 1;
            let mut envelope = envelope.clone();
            envelope["signatures"][0]["sig"] = STANDARD.encode(changed).into();
            assert!(matches!(open(&envelope, &[&key]), Err(EnvelopeError::Signature(_))), "byte {at}");
        }
    }
}

#[test]
fn no_changed_byte_of_an_envelope_makes_another_statement() {
    let key = ed25519();
    let (stated, _) = sealed(&key);
    let text = seal(&stated, &key).unwrap();
    let good = Statement::parse(&stated).unwrap();
    let trusted = [key.public().clone()];
    for at in 0..text.len() {
        for bit in [1, 0x20] {
            let mut changed = text.clone();
            changed[at] ^= bit;
            // A hint that names no key, say, changes nothing.
            if let Ok(opened) = Envelope::parse(&changed).and_then(|e| e.open(&trusted)) {
                assert_eq!(opened.statement, good, "byte {at}");
            }
        }
    }
}

#[test]
fn a_payload_is_not_taken_for_something_else() {
    let key = ed25519();
    let (_, mut envelope) = sealed(&key);
    envelope["payloadType"] = "application/json".into();
    assert!(matches!(open(&envelope, &[&key]), Err(EnvelopeError::Signature(_))));
    // Signed for another use: the signature is good, and vouches for no statement.
    let other = "application/vnd.example+json";
    let signature = STANDARD.encode(key.sign(&pae(other, b"{}")).unwrap());
    let envelope = json!({
        "payload": STANDARD.encode("{}"), "payloadType": other, "signatures": [{"sig": signature}],
    });
    assert!(matches!(open(&envelope, &[&key]), Err(EnvelopeError::PayloadType(t)) if t == other));
}

#[test]
fn only_keys_of_the_reader_vouch_whatever_the_envelope_calls_them() {
    let (ours, other) = (ed25519(), p256());
    let (_, envelope) = sealed(&other);
    let refused = open(&envelope, &[&ours]).unwrap_err();
    let EnvelopeError::Stranger { named, trusted } = &refused else { panic!("{refused}") };
    assert_eq!((&*named[0], &*trusted[0]), (other.public().id().as_str(), ours.public().id().as_str()));
    // It claims to be of our key.
    let mut claimed = envelope.clone();
    claimed["signatures"][0]["keyid"] = ours.public().id().as_str().into();
    assert!(matches!(open(&claimed, &[&ours]), Err(EnvelopeError::Signature(_))));
    // A hint that is missing or wrong does no harm.
    for hint in [json!("SHA256:elsewhere"), json!(""), json!(null)] {
        let mut hinted = envelope.clone();
        hinted["signatures"][0]["keyid"] = hint;
        assert_eq!(open(&hinted, &[&ours, &other]).unwrap().signers, [other.public().id().clone()]);
    }
    assert!(open(&envelope, &[]).is_err(), "nobody is trusted");
    // Two sign the same; each is found once, and a bad one beside them says nothing.
    let (stated, mut both) = sealed(&ours);
    let theirs = serde_json::from_slice::<Value>(&seal(&stated, &other).unwrap()).unwrap();
    let bad = json!({"sig": STANDARD.encode([0; 64])});
    let signatures = both["signatures"].as_array_mut().unwrap();
    signatures.extend([theirs["signatures"][0].clone(), theirs["signatures"][0].clone(), bad]);
    assert_eq!(open(&both, &[&ours, &other, &other]).unwrap().signers.len(), 2);
}

#[test]
fn either_alphabet_of_base64_is_read_and_no_sloppy_one() {
    let key = ed25519();
    let (stated, mut envelope) = sealed(&key);
    envelope["payload"] = base64::engine::general_purpose::URL_SAFE.encode(&stated).into();
    assert!(open(&envelope, &[&key]).is_ok());
    for sloppy in ["YQ", "YR==", "Y Q==", "YQ==\n", "ÿ"] {
        envelope["payload"] = sloppy.into();
        assert!(matches!(open(&envelope, &[&key]), Err(EnvelopeError::Form(_))), "{sloppy}");
    }
}

#[test]
fn what_has_two_readings_or_no_bounds_is_no_envelope() {
    let parse = |text: &str| Envelope::parse(text.as_bytes()).unwrap_err();
    let good = r#""payloadType":"t","payload":"YQ==","signatures":[{"sig":"YQ=="}]"#;
    assert!(Envelope::parse(format!("{{{good}}}").as_bytes()).is_ok());
    let twice = parse(&format!("{{{good},\"payload\":\"Yg==\"}}")).to_string();
    assert!(twice.contains("duplicate member `payload`"), "{twice}");
    assert!(matches!(parse(&format!("{{{good},\"x\":[[[1]]]}}")), EnvelopeError::Json(_)), "too deep");
    assert!(matches!(parse(&format!("{{{good}}} {{}}")), EnvelopeError::Json(_)));
    assert!(matches!(parse(&format!("{{{good}}}{}", " ".repeat(600_000))), EnvelopeError::Large(_)));
    let many = vec![r#"{"sig":"YQ=="}"#; 17].join(",");
    let many = format!(r#"{{"payloadType":"t","payload":"YQ==","signatures":[{many}]}}"#);
    assert!(matches!(parse(&many), EnvelopeError::Large(_)));
    for form in [
        "{}",
        r#"{"payload":"YQ==","signatures":[{"sig":"YQ=="}]}"#,
        r#"{"payloadType":"t","payload":7,"signatures":[{"sig":"YQ=="}]}"#,
        r#"{"payloadType":"t","payload":"YQ==","signatures":[]}"#,
        r#"{"payloadType":"t","payload":"YQ==","signatures":[{"sig":"?"}]}"#,
        r#"{"payloadType":"t","payload":"YQ==","signatures":[{"keyid":7,"sig":"YQ=="}]}"#,
    ] {
        assert!(matches!(parse(form), EnvelopeError::Form(_)), "{form}");
    }
}

#[test]
fn what_is_signed_well_and_is_no_statement_is_refused_with_the_reason() {
    let key = ed25519();
    let refused = |payload: &str| {
        let envelope = Envelope::parse(&seal(payload.as_bytes(), &key).unwrap()).unwrap();
        let error = envelope.open(&[key.public().clone()]).unwrap_err();
        assert!(matches!(error, EnvelopeError::Statement(_)), "{payload}: {error}");
        error.to_string()
    };
    let statement = |more: &str| format!(r#"{{"_type":"https://in-toto.io/Statement/v1",{more}}}"#);
    let subject = r#""subject":[{"name":"m","digest":{"sha256":"00"}}]"#;
    for (payload, reason) in [
        ("[]".to_owned(), "not an object"),
        (
            statement(&format!(r#"{subject},"predicateType":"p","predicate":{{"a":1,"a":1}}"#)),
            "duplicate member `a`",
        ),
        (r#"{"_type":"https://in-toto.io/Statement/v0.1"}"#.to_owned(), "`_type`"),
        (statement(r#""predicateType":"p""#), "no `subject`"),
        (statement(r#""subject":[],"predicateType":"p""#), "no `subject`"),
        (statement(r#""subject":[{"name":"m"}],"predicateType":"p""#), "no digest"),
        (statement(r#""subject":[{"digest":{}}],"predicateType":"p""#), "no digest"),
        (statement(r#""subject":[{"digest":{"sha256":7}}],"predicateType":"p""#), "not a string"),
        (statement(subject), "no `predicateType`"),
        (statement(&format!(r#"{subject},"predicateType":"p","predicate":[]"#)), "not an object"),
    ] {
        let said = refused(&payload);
        assert!(said.contains(reason) && said.starts_with("the signature is good"), "{payload}: {said}");
    }
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    refused(&statement(&format!(r#"{subject},"predicateType":"p","predicate":{{"a":{deep}}}"#)));
}

#[test]
fn a_bundle_is_one_envelope_a_line() {
    let key = ed25519();
    let (stated, envelope) = sealed(&key);
    let line = seal(&stated, &key).unwrap();
    let pretty = serde_json::to_vec_pretty(&envelope).unwrap();
    assert_eq!(bundle(&pretty).unwrap().len(), 1);
    let two = [&line[..], b"\n\n", &line, b"\n"].concat();
    let lines: Vec<usize> = bundle(&two).unwrap().iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 3]);
    let broken = [&line[..], b"\n{\"payload\":7}\n"].concat();
    assert!(matches!(bundle(&broken), Err((2, EnvelopeError::Form(_)))));
    let many = [&line[..], b"\n"].concat().repeat(65);
    assert!(matches!(bundle(&many), Err((65, EnvelopeError::Large(_)))));
    assert!(matches!(bundle(&vec![b' '; MAX_BUNDLE + 1]), Err((1, EnvelopeError::Large(_)))));
    assert!(bundle(b"").is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_fall_over(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _refused_or_read = bundle(&text);
        let _refused_or_read = Statement::parse(&text);
        let _refused_or_read = PublicKey::all_from_pem(&String::from_utf8_lossy(&text));
    }

    #[test]
    fn a_statement_of_others_is_read_or_refused_and_makes_no_half_chain(
        cut in "buildDefinition|runDetails|resolvedDependencies|externalParameters|approvers|number|builder|uri|name|gitCommit"
    ) {
        let text = String::from_utf8(provenance(&custody(), GATE).unwrap()).unwrap();
        let without = text.replace(&format!("\"{cut}\":"), "\"elsewhere\":");
        // Two members of one name are refused; a chain that lacks a link is none.
        if let Ok(statement) = Statement::parse(without.as_bytes()) {
            prop_assert_eq!(Chain::of(&statement), None);
        }
    }
}
