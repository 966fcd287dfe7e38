//! The development issuer.

use super::*;

#[tokio::test]
async fn a_person_logs_in_with_a_code_and_pkce() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let w = world().await;
    let (issuer, client) = development_issuer(&w).await;
    let verifier = "a-verifier-that-is-long-enough-for-the-rule";
    let challenge =
        URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes()));
    let redirect = "http://127.0.0.1:7777/callback";
    let fields = [
        ("response_type", "code"),
        ("client_id", "amlgate-cli"),
        ("redirect_uri", redirect),
        ("state", "s&1"),
        ("nonce", "n"),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
        ("person", "sam"),
    ];
    let login = async || {
        let got = client.form("localhost", "/authorize", &fields).await;
        assert_eq!(got.status, StatusCode::SEE_OTHER);
        let location: http::Uri = got.headers["location"].to_str().unwrap().parse().unwrap();
        form_urlencoded::parse(location.query().unwrap().as_bytes())
            .into_owned()
            .collect::<std::collections::HashMap<_, _>>()
    };
    let back = login().await;
    assert_eq!((back["state"].as_str(), &back["iss"]), ("s&1", &issuer.url()));
    let redeem = async |code: &str, verifier: &str| {
        client
            .form(
                "localhost",
                "/token",
                &[
                    ("grant_type", "authorization_code"),
                    ("client_id", "amlgate-cli"),
                    ("redirect_uri", redirect),
                    ("code", code),
                    ("code_verifier", verifier),
                ],
            )
            .await
    };
    let got = redeem(&back["code"], verifier).await.json();
    let claims = jwt::verify(
        &issuer.keys(),
        got["access_token"].as_str().unwrap(),
        Timestamp::from_secs(1_800_000_000),
    )
    .unwrap();
    assert_eq!((&claims["sub"], &claims["aud"]), (&json!("user-sam"), &json!("amlgate")));
    let told = client.get("localhost", "/userinfo", got["access_token"].as_str().unwrap()).await;
    assert_eq!(
        (told.status, told.json()),
        (
            StatusCode::OK,
            json!({
                "sub": "user-sam", "name": "Sam, a data scientist", "preferred_username": "sam",
                "email": "sam@sandbox.example", "email_verified": true, "groups": ["data-science"],
            })
        )
    );
    for nobodys in ["", "x.y.z", got["refresh_token"].as_str().unwrap()] {
        let told = client.get("localhost", "/userinfo", nobodys).await;
        assert_eq!(told.status, StatusCode::UNAUTHORIZED, "{nobodys}");
    }
    assert_eq!(redeem(&back["code"], verifier).await.json()["error"], "invalid_grant");
    let back = login().await;
    assert_eq!(redeem(&back["code"], "another").await.json()["error"], "invalid_grant");
    let away = client
        .form(
            "localhost",
            "/authorize",
            &[
                ("response_type", "code"),
                ("client_id", "c"),
                ("redirect_uri", "https://evil.example/"),
                ("code_challenge", &challenge),
                ("code_challenge_method", "S256"),
                ("person", "sam"),
            ],
        )
        .await;
    assert_eq!(away.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_device_waits_for_somebody_to_log_in_elsewhere() {
    let w = world().await;
    let (_issuer, client) = development_issuer(&w).await;
    let begun =
        client.form("localhost", "/device_authorization", &[("client_id", "amlgate-cli")]).await.json();
    let code = begun["device_code"].as_str().unwrap().to_owned();
    let poll = async || {
        client
            .form(
                "localhost",
                "/token",
                &[
                    ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
                    ("client_id", "amlgate-cli"),
                    ("device_code", &code),
                ],
            )
            .await
            .json()
    };
    assert_eq!(poll().await["error"], "authorization_pending");
    let user_code = begun["user_code"].as_str().unwrap();
    client.form("localhost", "/device", &[("user_code", user_code), ("person", "rita")]).await;
    assert!(poll().await["access_token"].is_string());
    assert_eq!(poll().await["error"], "invalid_grant");
}

#[tokio::test]
async fn rotation_keeps_the_old_key_for_one_turn() {
    let w = world().await;
    let (issuer, client) = development_issuer(&w).await;
    let now = Timestamp::from_secs(1_800_000_000);
    let token = issuer.token("sam").unwrap();
    issuer.rotate().unwrap();
    assert!(jwt::verify(&issuer.keys(), &token, now).is_ok());
    assert_eq!(client.get("localhost", "/keys", "").await.json()["keys"].as_array().unwrap().len(), 2);
    issuer.rotate().unwrap();
    assert_eq!(jwt::verify(&issuer.keys(), &token, now), Err(jwt::Flaw::Signature));
}

#[tokio::test]
async fn only_loopback_is_served() {
    let clock: SharedClock = Arc::new(crate::time::SystemClock);
    let ca = Arc::new(SandboxCa::generate().unwrap());
    let mut settings = IssuerSettings::new(clock, ca);
    settings.bind = "0.0.0.0".parse().unwrap();
    assert!(matches!(
        DevelopmentIssuer::start(settings).await,
        Err(crate::sandbox::SandboxError::NotLoopback(_))
    ));
}
