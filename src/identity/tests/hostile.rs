//! Tokens that must not be accepted, and the check that refuses each.

use super::*;

fn header(changes: &Value) -> String {
    patched(json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}), changes).to_string()
}

#[tokio::test]
async fn headers_that_choose_another_verification_are_refused() {
    let world = World::usual().await.serve();
    let key = Signer::rsa(0);
    let evil = Signer::rsa(1);
    for (changes, reason) in [
        (json!({"alg": "none"}), Reason::Algorithm),
        (json!({"alg": "None"}), Reason::Algorithm),
        (json!({"alg": "nOnE"}), Reason::Algorithm),
        (json!({"alg": ""}), Reason::Algorithm),
        (json!({"alg": null}), Reason::Algorithm),
        (json!({"alg": ["RS256"]}), Reason::Algorithm),
        (json!({"alg": 256}), Reason::Algorithm),
        (json!({"alg": "HS256"}), Reason::Algorithm),
        (json!({"alg": "HS512"}), Reason::Algorithm),
        (json!({"alg": "rs256"}), Reason::Algorithm),
        (json!({"alg": "RS384"}), Reason::Algorithm),
        (json!({"alg": "ES256"}), Reason::Key),
        (json!({"alg": "EdDSA"}), Reason::Key),
        (json!({"alg": "PS256"}), Reason::Signature),
        (json!({"crit": ["exp"]}), Reason::Header),
        (json!({"crit": []}), Reason::Header),
        (json!({"crit": ["x"], "x": 1}), Reason::Header),
        (json!({"b64": false}), Reason::Header),
        (json!({"b64": true}), Reason::Header),
        (json!({"zip": "DEF"}), Reason::Header),
        (json!({"enc": "A256GCM"}), Reason::Header),
        (json!({"typ": "logout+jwt"}), Reason::Type),
        (json!({"typ": "dpop+jwt"}), Reason::Type),
        (json!({"typ": "secevent+jwt"}), Reason::Type),
        (json!({"typ": "application/secevent+jwt"}), Reason::Type),
        (json!({"typ": "oauth-authz-req+jwt"}), Reason::Type),
        (json!({"typ": "token-introspection+jwt"}), Reason::Type),
        (json!({"typ": "JWE"}), Reason::Type),
        (json!({"typ": ""}), Reason::Type),
        (json!({"typ": 1}), Reason::Type),
        (json!({"kid": null}), Reason::KeyId),
        (json!({"kid": ""}), Reason::KeyId),
        (json!({"kid": ["k1"]}), Reason::KeyId),
        (json!({"kid": {"k1": 1}}), Reason::KeyId),
        (json!({"kid": "k".repeat(300)}), Reason::KeyId),
        (json!({"kid": "K1"}), Reason::Key),
        (json!({"kid": "k1 "}), Reason::Key),
        (json!({"kid": "k1\u{0}"}), Reason::Key),
        (json!({"kid": "../../k1"}), Reason::Key),
        (json!({"kid": "k1' OR '1'='1"}), Reason::Key),
        (json!({"kid": "https://evil.example/k1"}), Reason::Key),
    ] {
        let signer = if changes["alg"] == "PS256" { evil } else { key };
        let token = signer.raw(&header(&changes), &claims().to_string());
        assert_eq!(world.refused(&token).await, reason, "{changes}");
    }
}

#[tokio::test]
async fn a_key_that_the_token_brings_is_not_used() {
    let world = World::usual().await.serve();
    let evil = Signer::rsa(1);
    for embedded in [
        json!({"jwk": evil.jwk("k1")}),
        json!({"jku": "https://evil.example/jwks", "x5u": "https://evil.example/x5u"}),
        json!({"x5c": [b64("certificate")], "x5t": "k1"}),
    ] {
        let token = evil.raw(&header(&embedded), &claims().to_string());
        assert_eq!(world.refused(&token).await, Reason::Signature, "{embedded}");
    }
    let own = evil.raw(&header(&json!({"jwk": evil.jwk("evil"), "kid": "evil"})), &claims().to_string());
    world.clock.advance(ASK_EVERY);
    assert_eq!(world.refused(&own).await, Reason::Key);
    let uris = world.documents.uris();
    assert!(!uris.iter().any(|uri| uri.contains("evil")), "{uris:?}");
}

#[tokio::test]
async fn an_hmac_with_the_public_key_is_refused() {
    let world = World::usual().await.serve();
    let public = Signer::rsa(0).jwk("k1").to_string();
    let signed = format!("{}.{}", b64(header(&json!({"alg": "HS256"}))), b64(claims().to_string()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
    let token = format!("{signed}.{}", b64(aws_lc_rs::hmac::sign(&key, signed.as_bytes())));
    assert_eq!(world.refused(&token).await, Reason::Algorithm);
}

#[tokio::test]
async fn claims_that_do_not_hold_are_refused() {
    let world = World::usual().await.serve();
    for (changes, reason) in [
        // Times: absent, of another type, out of range, out of time.
        (json!({"exp": null}), Reason::Claim),
        (json!({"exp": (START + 60).to_string()}), Reason::Claim),
        (json!({"exp": [START + 60]}), Reason::Claim),
        (json!({"exp": true}), Reason::Claim),
        (json!({"exp": {}}), Reason::Claim),
        (json!({"exp": -1}), Reason::Claim),
        (json!({"exp": 1e300}), Reason::Claim),
        (json!({"exp": u64::MAX}), Reason::Claim),
        (json!({"exp": START - 60}), Reason::Expired),
        (json!({"exp": 0}), Reason::Expired),
        (json!({"nbf": START + 61}), Reason::NotYetValid),
        (json!({"nbf": "0"}), Reason::Claim),
        (json!({"nbf": [0]}), Reason::Claim),
        (json!({"nbf": -5}), Reason::Claim),
        (json!({"iat": START + 61}), Reason::IssuedInFuture),
        (json!({"iat": "0"}), Reason::Claim),
        (json!({"iat": false}), Reason::Claim),
        (json!({"exp": START + 40 * 3_600}), Reason::Lifetime),
        (json!({"iat": START - 40 * 3_600}), Reason::Lifetime),
        (json!({"iat": START, "exp": 253_402_300_799_u64}), Reason::Lifetime),
        // Audience.
        (json!({"aud": null}), Reason::Claim),
        (json!({"aud": ""}), Reason::Audience),
        (json!({"aud": []}), Reason::Audience),
        (json!({"aud": "amlgat"}), Reason::Audience),
        (json!({"aud": "amlgatee"}), Reason::Audience),
        (json!({"aud": "AMLGATE"}), Reason::Audience),
        (json!({"aud": "amlgate "}), Reason::Audience),
        (json!({"aud": "other"}), Reason::Audience),
        (json!({"aud": "https://management.azure.com"}), Reason::Audience),
        (json!({"aud": {"amlgate": true}}), Reason::Claim),
        (json!({"aud": [["amlgate"]]}), Reason::Claim),
        (json!({"aud": ["amlgate", 7]}), Reason::Claim),
        (json!({"aud": 7}), Reason::Claim),
        // Issuer.
        (json!({"iss": null}), Reason::Claim),
        (json!({"iss": [OIDC]}), Reason::Claim),
        (json!({"iss": "https://issuer.example/"}), Reason::Issuer),
        (json!({"iss": "https://ISSUER.example"}), Reason::Issuer),
        (json!({"iss": "https://issuer.example:443"}), Reason::Issuer),
        (json!({"iss": "https://a@issuer.example"}), Reason::Issuer),
        (json!({"iss": "https://issuer.example.evil.example"}), Reason::Issuer),
        (json!({"iss": "https://\u{456}ssuer.example"}), Reason::Issuer),
        (json!({"iss": ""}), Reason::Issuer),
        // Subject.
        (json!({"sub": null}), Reason::Claim),
        (json!({"sub": ""}), Reason::Claim),
        (json!({"sub": 7}), Reason::Claim),
        (json!({"sub": ["alice"]}), Reason::Claim),
        (json!({"sub": "alice\u{0}"}), Reason::Claim),
        (json!({"sub": "alice\nroot"}), Reason::Claim),
        (json!({"sub": "a".repeat(1_025)}), Reason::Claim),
        (json!({"azp": 7}), Reason::Claim),
        (json!({"client_id": ["x"]}), Reason::Claim),
        // Groups.
        (json!({"groups": "admins"}), Reason::Claim),
        (json!({"groups": {"admins": true}}), Reason::Claim),
        (json!({"groups": ["a", 1]}), Reason::Claim),
        (json!({"groups": [["a"]]}), Reason::Claim),
        (json!({"_claim_names": "groups"}), Reason::Claim),
        // Other kinds of token.
        (json!({"cnf": {"jkt": "x"}}), Reason::Bound),
        (json!({"cnf": {"x5t#S256": "x"}}), Reason::Bound),
        (json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}), Reason::Type),
        (json!({"typ": "Refresh"}), Reason::Type),
        (json!({"typ": "Offline"}), Reason::Type),
        (json!({"typ": "ID"}), Reason::Type),
        (json!({"typ": "Logout"}), Reason::Type),
        (json!({"typ": "Serialized-ID"}), Reason::Type),
        (json!({"typ": ""}), Reason::Type),
        (json!({"typ": 1}), Reason::Claim),
    ] {
        let token = Signer::rsa(0).token("k1", &claims_with(&changes));
        assert_eq!(world.refused(&token).await, reason, "{changes}");
    }
}

#[tokio::test]
async fn payloads_of_two_readings_are_refused() {
    let world = World::usual().await.serve();
    let good = claims().to_string();
    let open = good.strip_suffix('}').unwrap();
    let deep = format!("{open},\"x\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    for payload in [
        format!("{open},\"sub\":\"root\"}}"),
        format!("{open},\"\\u0073ub\":\"root\"}}"),
        format!("{open},\"a\":{{\"b\":1,\"b\":2}}}}"),
        format!("{open},\"x\":1e400}}"),
        format!("{open},\"x\":NaN}}"),
        format!("{open},\"x\":\"\\ud800\"}}"),
        format!("{good}{good}"),
        format!("{good}x"),
        format!("\u{feff}{good}"),
        format!("[{good}]"),
        format!("/* */{good}"),
        deep,
        "null".to_owned(),
        String::new(),
    ] {
        let token = Signer::rsa(0).raw(&header(&json!({})), &payload);
        assert_eq!(world.refused(&token).await, Reason::Malformed, "{payload}");
    }
    let twice = r#"{"alg":"RS256","alg":"HS256","kid":"k1"}"#;
    assert_eq!(world.refused(&Signer::rsa(0).raw(twice, &good)).await, Reason::Malformed);
}

#[tokio::test]
async fn forms_that_are_no_compact_jws_are_refused() {
    let world = World::usual().await.serve();
    let good = Signer::rsa(0).token("k1", &claims());
    world.verifier.authenticate(&good).await.unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let (h, p, s) = (parts[0], parts[1], parts[2]);
    // The last character of a 256-byte signature carries spare bits: setting one gives a second
    // spelling of the same bytes.
    let spare = {
        let last = s.chars().last().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
        format!("{}{next}", &s[..s.len() - 1])
    };
    for token in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        format!("{h}.{p}"),
        format!("{h}.{p}."),
        format!("{h}.{p}.{s}.{s}"),
        format!("{h}.{p}.{s}.{s}.{s}"),
        format!(".{h}.{p}.{s}"),
        format!("{h}.{p}.{s}="),
        format!("{h}=.{p}.{s}"),
        format!("{h}.{p}.{s} "),
        format!(" {good}"),
        format!("{h}.{p}.{spare}"),
        format!("{h}.{p}.{}+/", &s[..s.len() - 2]),
        format!("{{\"payload\":\"{p}\",\"protected\":\"{h}\",\"signature\":\"{s}\"}}"),
        format!("{h}.{}.{s}", "A".repeat(MAX_TOKEN)),
    ] {
        let shown: String = token.chars().take(40).collect();
        assert_eq!(world.refused(&token).await, Reason::Malformed, "{shown}");
    }
}

#[tokio::test]
async fn a_changed_token_does_not_verify() {
    let world = World::usual().await.serve();
    let good = Signer::rsa(0).token("k1", &claims());
    world.verifier.authenticate(&good).await.unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let other = b64(claims_with(&json!({"sub": "root"})).to_string());
    assert_eq!(world.refused(&format!("{}.{other}.{}", parts[0], parts[2])).await, Reason::Signature);
    let empty = b64([0_u8; 256]);
    assert_eq!(world.refused(&format!("{}.{}.{empty}", parts[0], parts[1])).await, Reason::Signature);
    assert_eq!(world.refused(&format!("{}.{}.AA", parts[0], parts[1])).await, Reason::Signature);
    let evil = Signer::rsa(1).token("k1", &claims());
    assert_eq!(world.refused(&evil).await, Reason::Signature);
}

#[tokio::test]
async fn one_issuer_s_key_does_not_sign_for_another() {
    let mut second = IssuerSettings::oidc("second", "https://second.example", &["amlgate"]).unwrap();
    second.algorithms = vec![SignatureAlgorithm::Rs256];
    let world = World::of(vec![oidc(), second]).serve();
    world.documents.publish(OIDC, &[Signer::rsa(0).jwk("k1")]);
    world.documents.publish("https://second.example", &[Signer::rsa(1).jwk("k2")]);
    world.verifier.refresh_once().await;
    let by = |signer: &Signer, kid: &str, iss: &str| signer.token(kid, &claims_with(&json!({"iss": iss})));
    assert!(world.verifier.authenticate(&by(Signer::rsa(1), "k2", "https://second.example")).await.is_ok());
    world.clock.advance(ASK_EVERY);
    assert_eq!(world.refused(&by(Signer::rsa(1), "k2", OIDC)).await, Reason::Key);
    assert_eq!(world.refused(&by(Signer::rsa(1), "k1", OIDC)).await, Reason::Signature);
    assert_eq!(world.refused(&by(Signer::rsa(0), "k2", "https://second.example")).await, Reason::Signature);
}

#[tokio::test]
async fn entra_tokens_that_say_too_little_or_too_much_are_refused() {
    let world = World::usual().await.serve();
    let other = "cccccccc-0000-4000-8000-000000000003";
    for (changes, reason) in [
        (json!({"tid": other}), Reason::Tenant),
        (json!({"tid": TENANT.to_uppercase()}), Reason::Tenant),
        (json!({"tid": null}), Reason::Claim),
        (json!({"tid": [TENANT]}), Reason::Claim),
        (json!({"oid": null}), Reason::Claim),
        (json!({"oid": "ada@example.com"}), Reason::Claim),
        (json!({"oid": PERSON.to_uppercase()}), Reason::Claim),
        (json!({"oid": format!("{{{PERSON}}}")}), Reason::Claim),
        (json!({"scp": null}), Reason::Unscoped),
        (json!({"scp": " "}), Reason::Unscoped),
        (json!({"scp": null, "roles": []}), Reason::Unscoped),
        (json!({"scp": ["access"]}), Reason::Claim),
        (json!({"roles": "admin"}), Reason::Claim),
        (json!({"aud": "00000003-0000-0000-c000-000000000000"}), Reason::Audience),
        (
            json!({"iss": format!("https://login.microsoftonline.com/{other}/v2.0"), "tid": other}),
            Reason::Issuer,
        ),
        (json!({"iss": "https://login.microsoftonline.com/{tenantid}/v2.0"}), Reason::Issuer),
        (json!({"iss": "https://login.microsoftonline.com/common/v2.0"}), Reason::Issuer),
        (json!({"iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0/")}), Reason::Issuer),
        (json!({"iss": format!("https://sts.windows.net/{TENANT}")}), Reason::Issuer),
    ] {
        let token = Signer::rsa(0).token("k1", &patched(entra_v2(), &changes));
        assert_eq!(world.refused(&token).await, reason, "{changes}");
    }
    let pss = Signer::rsa(0).raw(&header(&json!({"alg": "PS256"})), &entra_v2().to_string());
    assert_eq!(world.refused(&pss).await, Reason::Algorithm);
}

#[tokio::test]
async fn open_issuers_let_in_only_whom_accept_names() {
    let mut github =
        IssuerSettings::oidc("github", "https://token.actions.githubusercontent.com", &["amlgate"]).unwrap();
    github.accept = Some(Accept { claims: [("repository_owner_id".to_owned(), json!("1234567"))].into() });
    let world = World::of(vec![github]);
    world.documents.publish("https://token.actions.githubusercontent.com", &[Signer::rsa(0).jwk("k1")]);
    world.verifier.refresh_once().await;
    let job = |owner: Value| {
        claims_with(
            &json!({"iss": "https://token.actions.githubusercontent.com", "repository_owner_id": owner,
                            "repository_id": "42", "run_id": "7", "repository": "octo/vision"}),
        )
    };
    let principal =
        world.verifier.authenticate(&Signer::rsa(0).token("k1", &job(json!("1234567")))).await.unwrap();
    assert_eq!(principal.kind, PrincipalKind::Machine);
    for owner in [json!("7654321"), json!(1_234_567), Value::Null, json!("1234567 ")] {
        let token = Signer::rsa(0).token("k1", &job(owner));
        assert_eq!(world.refused(&token).await, Reason::NotAccepted);
    }
}

#[tokio::test]
async fn a_rejection_names_the_check_and_both_values_and_never_the_token() {
    let world = World::usual().await.serve();
    let token = Signer::rsa(0).token("k1", &claims_with(&json!({"aud": "api://other"})));
    let rejection = world.verifier.authenticate(&token).await.unwrap_err();
    assert_eq!(rejection.value_found(), Some("\"api://other\""));
    assert_eq!(rejection.value_expected(), Some("amlgate"));
    for hostile in [token.as_str(), "a.b.c", &token[..token.len() - 9]] {
        let rejection = world.verifier.authenticate(hostile).await.unwrap_err();
        let said = format!(
            "{rejection} {rejection:?} {:?} {:?}",
            rejection.value_found(),
            rejection.value_expected()
        );
        for part in hostile.split('.').filter(|part| part.len() > 8) {
            assert!(!said.contains(part), "{said}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_text_is_never_accepted_and_never_panics(text in "\\PC{0,300}") {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let world = runtime.block_on(async { World::usual().await.serve() });
        proptest::prop_assert!(runtime.block_on(world.verifier.authenticate(&text)).is_err());
    }

    #[test]
    fn a_good_token_with_any_one_byte_changed_is_refused(at in 0_usize..10_000, to in 0_u8..128) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let world = runtime.block_on(async { World::usual().await.serve() });
        let good = Signer::rsa(0).token("k1", &claims());
        let mut bytes = good.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = to;
        let changed = String::from_utf8(bytes).unwrap();
        proptest::prop_assume!(changed != good);
        proptest::prop_assert!(runtime.block_on(world.verifier.authenticate(&changed)).is_err());
    }
}
