//! The token endpoint and managed identity.

use super::*;

#[tokio::test]
async fn the_token_endpoint_speaks_entras_errors() {
    let w = world().await;
    let code = async |fields: &[(&str, &str)]| {
        let got = w.client.token(fields).await;
        (
            got.status.as_u16(),
            got.json()["error"].as_str().unwrap_or_default().to_owned(),
            got.json()["error_codes"][0].clone(),
        )
    };
    assert_eq!(
        code(&[("client_secret", "wrong")]).await,
        (401, "invalid_client".to_owned(), json!(7_000_215))
    );
    assert_eq!(code(&[]).await, (401, "invalid_client".to_owned(), json!(7_000_218)));
    assert_eq!(
        code(&[("client_secret", names::GATE_SECRET), ("scope", "https://nobody.example/.default")]).await,
        (400, "invalid_resource".to_owned(), json!(500_011))
    );
    assert_eq!(
        code(&[("client_id", "nobody"), ("client_secret", "x")]).await,
        (400, "unauthorized_client".to_owned(), json!(700_016))
    );
}

#[tokio::test]
async fn a_federated_token_stands_for_the_secret_of_the_application_that_names_its_subject() {
    let w = world().await;
    let (issuer, _) = development_issuer(&w).await;
    let mut app = w.azure.app(names::GATE_CLIENT).unwrap();
    let ci = Person::named("ci").unwrap();
    app.federated.push(FederatedCredential { issuer: issuer.url(), subject: ci.subject.to_owned() });
    w.azure.register(app);
    w.azure.trust(&issuer.url(), issuer.keys());
    let assertion = |audience: &str| {
        issuer.mint().token_with(ci, |c| drop(c.insert("aud".to_owned(), json!(audience)))).unwrap()
    };
    let ask = async |assertion: &str| {
        w.client
            .token(&[
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", assertion),
            ])
            .await
    };
    assert_eq!(ask(&assertion("api://AzureADTokenExchange")).await.status, StatusCode::OK);
    assert_eq!(ask(&assertion("amlgate")).await.json()["error_codes"][0], 700_212);
    let stranger = issuer.token("sam").unwrap();
    assert_eq!(ask(&stranger).await.json()["error_codes"][0], 700_213);
    let forged = issuer.mint().forge(ci, Forgery::ForeignKey).unwrap();
    assert_eq!(ask(&forged).await.json()["error_codes"][0], 700_027);
}

#[tokio::test]
async fn a_certificate_assertion_is_ps256_by_the_registered_key() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let w = world().await;
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["gate".to_owned()]).unwrap().self_signed(&pair).unwrap();
    let der = certificate.der().to_vec();
    let mut app = w.azure.app(names::GATE_CLIENT).unwrap();
    app.certificates.push(der.clone());
    w.azure.register(app);
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
    let sign = |alg: jsonwebtoken::Algorithm, audience: &str| {
        let mut header = jsonwebtoken::Header::new(alg);
        header.x5t_s256 =
            Some(URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der)));
        let claims = json!({
            "aud": audience, "iss": names::GATE_CLIENT, "sub": names::GATE_CLIENT, "jti": "1",
            "nbf": 1_800_000_000_u64, "exp": 1_800_000_600_u64,
        });
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    };
    let ask = async |assertion: String| {
        w.client
            .token(&[
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", &assertion),
            ])
            .await
    };
    let here = format!("https://{LOGIN}/{}/oauth2/v2.0/token", names::TENANT);
    assert_eq!(ask(sign(jsonwebtoken::Algorithm::PS256, &here)).await.status, StatusCode::OK);
    let wrong = ask(sign(jsonwebtoken::Algorithm::PS256, "https://elsewhere")).await;
    assert_eq!(wrong.json()["error_codes"][0], 700_023);
    assert_eq!(ask(sign(jsonwebtoken::Algorithm::RS256, &here)).await.json()["error_codes"][0], 700_027);
    w.clock.advance(Duration::from_secs(3_600));
    assert_eq!(ask(sign(jsonwebtoken::Algorithm::PS256, &here)).await.json()["error_codes"][0], 700_024);
}

#[tokio::test]
async fn on_behalf_of_gives_the_persons_own_rights() {
    let w = world().await;
    let rita = Person::named("rita").unwrap();
    let ask = async |assertion: &str| {
        w.client
            .token(&[
                ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                ("client_secret", names::GATE_SECRET),
                ("assertion", assertion),
                ("requested_token_use", "on_behalf_of"),
            ])
            .await
    };
    for version in [TokenVersion::V1, TokenVersion::V2] {
        let inbound = w.azure.user_token(rita, &UserToken { version, ..UserToken::default() }).unwrap();
        let got = ask(&inbound).await;
        let token = got.json()["access_token"].as_str().unwrap().to_owned();
        assert_eq!(w.client.get(ARM, &below("/jobs"), &token).await.status, StatusCode::OK);
        let denied = w.client.send(Method::PUT, ARM, &below("/jobs/x"), &token, Some(command())).await;
        assert_eq!(denied.status, StatusCode::FORBIDDEN);
    }
    let elsewhere = UserToken { audience: "api://other".to_owned(), ..UserToken::default() };
    let elsewhere = w.azure.user_token(rita, &elsewhere).unwrap();
    assert_eq!(ask(&elsewhere).await.json()["error_codes"][0], 50_013);
    let machine = w.azure.user_token(Person::named("ci").unwrap(), &UserToken::default()).unwrap();
    assert_eq!(ask(&machine).await.json()["error_codes"][0], 7_000_114);
    w.azure.demand_step_up(rita.object_id, "c1");
    let inbound = w.azure.user_token(rita, &UserToken::default()).unwrap();
    let got = ask(&inbound).await.json();
    assert_eq!((&got["error"], got["claims"].is_string()), (&json!("interaction_required"), true));
}

#[tokio::test]
async fn a_claims_challenge_is_answered_by_a_token_asked_for_with_its_claims() {
    use base64::Engine as _;
    let w = world().await;
    let token = w.client.gate_token().await;
    w.azure.challenge(names::GATE_PRINCIPAL);
    let got = w.client.get(ARM, &below("/jobs"), &token).await;
    assert_eq!(got.status, StatusCode::UNAUTHORIZED);
    let challenge = got.headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("error=\"insufficient_claims\""));
    let claims = challenge.split("claims=\"").nth(1).unwrap().split('"').next().unwrap();
    let claims = base64::engine::general_purpose::STANDARD.decode(claims).unwrap();
    let again = w.client.gate_token().await;
    assert_eq!(w.client.get(ARM, &below("/jobs"), &again).await.status, StatusCode::UNAUTHORIZED);
    let claims = String::from_utf8(claims).unwrap();
    let fresh = w.client.token(&[("client_secret", names::GATE_SECRET), ("claims", &claims)]).await;
    let fresh = fresh.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(w.client.get(ARM, &below("/jobs"), &fresh).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_machine_gets_its_identity_only_where_and_how_azure_gives_it() {
    let w = world().await;
    let address = w.azure.identity_address();
    let ask = async |target: &str, header: Option<(&str, &str)>| {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::get(target).header("host", "169.254.169.254");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let response = sender.send_request(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let imds = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://management.azure.com";
    let (status, body) = ask(imds, Some(("metadata", "true"))).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body["expires_on"].is_string());
    let token = body["access_token"].as_str().unwrap();
    assert_eq!(w.client.get(ARM, &below("/jobs"), token).await.status, StatusCode::OK);
    assert_eq!(ask(imds, None).await.0, StatusCode::BAD_REQUEST);
    let app = "/msi/token?api-version=2019-08-01&resource=https://management.azure.com";
    assert_eq!(ask(app, Some(("x-identity-header", names::IDENTITY_HEADER))).await.0, StatusCode::OK);
    assert_eq!(ask(app, Some(("x-identity-header", "guess"))).await.0, StatusCode::UNAUTHORIZED);
}
