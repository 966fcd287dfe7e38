//! The cache against a token endpoint on loopback, with a clock that is advanced by hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use secrecy::SecretString;
use tokio::net::TcpListener;

use super::super::*;
use crate::{
    azureml::Audience,
    cloud::Cloud,
    net::{Connector, ConnectorSettings, Destination},
    time::{Clock, ManualClock, Timestamp},
};

/// A token endpoint: counts its requests, answers as told.
struct Endpoint {
    destination: Destination,
    asked: Arc<AtomicU64>,
    answer: Arc<std::sync::Mutex<(u16, String)>>,
    last: Arc<std::sync::Mutex<String>>,
    held: tokio::sync::watch::Sender<bool>,
    pause: Arc<std::sync::Mutex<Option<u64>>>,
}

impl Endpoint {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: http::Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let asked = Arc::new(AtomicU64::new(0));
        let answer = Arc::new(std::sync::Mutex::new((200, String::new())));
        let last = Arc::new(std::sync::Mutex::new(String::new()));
        let (held, hold) = tokio::sync::watch::channel(false);
        let pause = Arc::new(std::sync::Mutex::new(None::<u64>));
        let (count, say, seen) = (Arc::clone(&asked), Arc::clone(&answer), Arc::clone(&last));
        let wanted = Arc::clone(&pause);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (count, say, seen) = (Arc::clone(&count), Arc::clone(&say), Arc::clone(&seen));
                let (hold, wanted) = (hold.clone(), Arc::clone(&wanted));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (count, say, seen) = (Arc::clone(&count), Arc::clone(&say), Arc::clone(&seen));
                    let (mut hold, wanted) = (hold.clone(), Arc::clone(&wanted));
                    async move {
                        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                        let body = request.into_body().collect().await?.to_bytes();
                        *seen.lock().unwrap() = String::from_utf8_lossy(&body).into_owned();
                        drop(hold.wait_for(|held| !*held).await);
                        let (status, text) = say.lock().unwrap().clone();
                        let text = if status == 200 && text.is_empty() {
                            format!(
                                r#"{{"token_type":"Bearer","expires_in":3600,"access_token":"token-{number}"}}"#
                            )
                        } else {
                            text
                        };
                        let mut answer = Response::builder().status(status);
                        if let Some(pause) = *wanted.lock().unwrap() {
                            answer = answer.header("retry-after", pause.to_string());
                        }
                        Ok::<_, hyper::Error>(answer.body(Full::<bytes::Bytes>::from(text)).unwrap())
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { destination: Destination::of(&uri).unwrap(), asked, answer, last, held, pause }
    }

    fn says(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = (status, body.to_owned());
    }

    /// Keeps answers back, or lets them go.
    fn holds(&self, held: bool) {
        self.held.send_replace(held);
    }

    fn wants_pause(&self, seconds: Option<u64>) {
        *self.pause.lock().unwrap() = seconds;
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    fn credentials(&self, clock: &ManualClock) -> Credentials {
        let settings = CredentialSettings {
            name: "gate".into(),
            tenant: Some("tenant".into()),
            client_id: Some("client".into()),
            proof: Proof::Secret(SecretString::from("s3cret+&")),
            acts_for: ActsFor::Itself,
            authority: self.destination.clone(),
            digest: [0; 32],
        };
        let connector = Connector::new(ConnectorSettings::default()).unwrap();
        Credentials::new(
            vec![settings],
            connector,
            Cloud::public(),
            Arc::new(clock.clone()),
            tokio::runtime::Handle::current(),
        )
    }
}

async fn token(credentials: &Credentials) -> Result<String, CredentialError> {
    let header = credentials.bearer("gate", Audience::Arm, None).await?.unwrap();
    assert!(header.is_sensitive());
    Ok(header.to_str().unwrap().to_owned())
}

fn clock() -> ManualClock {
    ManualClock::starting_at(Timestamp::from_secs(1_800_000_000))
}

#[tokio::test]
async fn a_thousand_who_wait_are_served_by_one_fetch() {
    let (endpoint, clock) = (Endpoint::start().await, clock());
    let credentials = endpoint.credentials(&clock);
    let tasks: Vec<_> = (0..1_000)
        .map(|_| {
            let credentials = credentials.clone();
            tokio::spawn(async move { token(&credentials).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), "Bearer token-1");
    }
    assert_eq!(endpoint.asked(), 1);
    let sent = endpoint.last.lock().unwrap().clone();
    let form: std::collections::BTreeMap<_, _> =
        form_urlencoded::parse(sent.as_bytes()).into_owned().collect();
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(form["scope"], "https://management.azure.com/.default");
    assert_eq!((form["client_id"].as_str(), form["client_secret"].as_str()), ("client", "s3cret+&"));
    assert!(form["claims"].contains("CP1"));
}

#[tokio::test]
async fn a_token_is_renewed_while_the_old_one_is_still_good_and_nobody_waits() {
    let (endpoint, clock) = (Endpoint::start().await, clock());
    let credentials = endpoint.credentials(&clock);
    assert_eq!(token(&credentials).await.unwrap(), "Bearer token-1");
    clock.advance(Duration::from_secs(3_400));
    assert_eq!(token(&credentials).await.unwrap(), "Bearer token-1", "the old one is used meanwhile");
    while token(&credentials).await.unwrap() != "Bearer token-2" {
        tokio::task::yield_now().await;
    }
    assert_eq!(endpoint.asked(), 2, "one renewal, however many asked");
}

#[tokio::test]
async fn while_the_issuer_is_down_the_old_token_is_used_until_it_expires() {
    let (endpoint, clock) = (Endpoint::start().await, clock());
    let credentials = endpoint.credentials(&clock);
    token(&credentials).await.unwrap();
    endpoint.says(400, r#"{"error":"temporarily_unavailable"}"#);
    clock.advance(Duration::from_secs(3_500));
    assert_eq!(token(&credentials).await.unwrap(), "Bearer token-1");
    let tries = endpoint.asked();
    clock.advance(Duration::from_secs(200));
    let waiting = tokio::spawn({
        let credentials = credentials.clone();
        async move { token(&credentials).await }
    });
    // The first try of those who wait now, then their patience ends before the fetch does.
    while endpoint.asked() == tries {
        tokio::task::yield_now().await;
    }
    while !waiting.is_finished() {
        clock.advance(Duration::from_millis(500));
        tokio::task::yield_now().await;
    }
    assert!(waiting.await.unwrap().unwrap_err().is_passing());
}

#[tokio::test]
async fn a_caller_who_hangs_up_ends_no_fetch_that_others_wait_for() {
    let (endpoint, clock) = (Endpoint::start().await, clock());
    let credentials = endpoint.credentials(&clock);
    endpoint.holds(true);
    let first = tokio::spawn({
        let credentials = credentials.clone();
        async move { token(&credentials).await }
    });
    while endpoint.asked() == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    let second = tokio::spawn({
        let credentials = credentials.clone();
        async move { token(&credentials).await }
    });
    tokio::task::yield_now().await;
    endpoint.holds(false);
    assert_eq!(second.await.unwrap().unwrap(), "Bearer token-1");
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test]
async fn a_token_endpoint_that_never_answers_costs_a_caller_a_bounded_time() {
    let (endpoint, clock) = (Endpoint::start().await, clock());
    let credentials = endpoint.credentials(&clock);
    endpoint.holds(true);
    let waiting = tokio::spawn({
        let credentials = credentials.clone();
        async move { token(&credentials).await }
    });
    while endpoint.asked() == 0 {
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_secs(15));
    let error = waiting.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("within 15 s"), "{error}");
}

#[tokio::test]
async fn what_the_endpoint_asks_for_by_retry_after_is_kept() {
    let (endpoint, clock) = (Endpoint::start().await, clock());
    let credentials = endpoint.credentials(&clock);
    endpoint.says(429, r#"{"error":"temporarily_unavailable"}"#);
    endpoint.wants_pause(Some(40));
    for _ in 0..3 {
        assert!(token(&credentials).await.unwrap_err().is_passing());
        assert_eq!(endpoint.asked(), 1, "no second try within the pause");
        clock.advance(Duration::from_secs(13));
    }
    endpoint.says(200, "");
    clock.advance(Duration::from_secs(1));
    assert_eq!(token(&credentials).await.unwrap(), "Bearer token-2");
}

#[tokio::test]
async fn a_long_lived_token_is_renewed_at_half_its_life_or_when_the_issuer_says() {
    for (answer, due) in [
        (r#"{"expires_in":86400,"access_token":"long"}"#, 43_200),
        (r#"{"expires_in":"86400","refresh_in":"3600","access_token":"long"}"#, 3_600),
        (r#"{"expires_in":120,"access_token":"long"}"#, 30),
    ] {
        let (endpoint, clock) = (Endpoint::start().await, clock());
        let credentials = endpoint.credentials(&clock);
        endpoint.says(200, answer);
        assert_eq!(token(&credentials).await.unwrap(), "Bearer long");
        endpoint.says(200, "");
        clock.advance(Duration::from_secs(due - 1));
        assert_eq!(token(&credentials).await.unwrap(), "Bearer long");
        assert_eq!(endpoint.asked(), 1, "{answer}");
        clock.advance(Duration::from_secs(1));
        while token(&credentials).await.unwrap() != "Bearer token-2" {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_fatal_error_is_not_asked_for_again_within_a_minute_and_says_its_mend() {
    let (endpoint, clock) = (Endpoint::start().await, clock());
    let credentials = endpoint.credentials(&clock);
    endpoint.says(
        401,
        r#"{"error":"invalid_client","error_description":"AADSTS7000222: expired","error_codes":[7000222]}"#,
    );
    for _ in 0..5 {
        let error = token(&credentials).await.unwrap_err();
        assert!(error.to_string().contains("make a new one"), "{error}");
    }
    assert_eq!(endpoint.asked(), 1);
    assert!(credentials.status()[0].failure.is_some());
    endpoint.says(200, "");
    clock.advance(Duration::from_secs(61));
    assert!(token(&credentials).await.is_ok());
    assert!(credentials.status()[0].failure.is_none());
}

fn challenge(claims: &str) -> Challenge {
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, claims);
    let value = format!("Bearer error=\"insufficient_claims\", claims=\"{encoded}\"");
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::WWW_AUTHENTICATE, value.parse().unwrap());
    Challenge::of(&headers).unwrap()
}

async fn after_refusal(credentials: &Credentials, challenge: &Challenge, token: &str) -> String {
    let refused = http::HeaderValue::from_str(token).unwrap();
    let fresh = credentials.bearer("gate", Audience::Arm, Some((challenge, &refused))).await.unwrap();
    fresh.unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_challenge_is_answered_once_for_everybody() {
    let (endpoint, clock) = (Endpoint::start().await, clock());
    let credentials = endpoint.credentials(&clock);
    let refused = token(&credentials).await.unwrap();
    let revoked = challenge(r#"{"access_token":{"nbf":{"essential":true,"value":"1800000000"}}}"#);
    let answers: Vec<_> = (0..50)
        .map(|_| {
            let (credentials, revoked, refused) = (credentials.clone(), revoked.clone(), refused.clone());
            tokio::spawn(async move { after_refusal(&credentials, &revoked, &refused).await })
        })
        .collect();
    for answer in answers {
        assert_eq!(answer.await.unwrap(), "Bearer token-2");
    }
    assert_eq!(endpoint.asked(), 2);
    assert!(endpoint.last.lock().unwrap().contains("1800000000"), "the claims were asked for");
    assert_eq!(token(&credentials).await.unwrap(), "Bearer token-2", "nobody meets the challenge again");
}

#[tokio::test]
async fn a_token_refused_twice_is_asked_for_anew_but_not_at_once() {
    let (endpoint, clock) = (Endpoint::start().await, clock());
    let credentials = endpoint.credentials(&clock);
    token(&credentials).await.unwrap();
    let revoked = challenge(r#"{"access_token":{}}"#);
    assert_eq!(after_refusal(&credentials, &revoked, "Bearer token-1").await, "Bearer token-2");
    assert_eq!(after_refusal(&credentials, &revoked, "Bearer token-2").await, "Bearer token-2");
    clock.advance(Duration::from_secs(11));
    assert_eq!(after_refusal(&credentials, &revoked, "Bearer token-2").await, "Bearer token-3");
    assert_eq!(endpoint.asked(), 3);
}

#[tokio::test]
async fn tokens_of_two_audiences_are_two_and_an_unknown_credential_is_said() {
    let (endpoint, clock) = (Endpoint::start().await, clock());
    let credentials = endpoint.credentials(&clock);
    token(&credentials).await.unwrap();
    credentials.bearer("gate", Audience::MachineLearning, None).await.unwrap();
    assert_eq!(endpoint.asked(), 2);
    assert_eq!(credentials.bearer("gate", Audience::None, None).await.unwrap(), None);
    assert_eq!(token(&credentials).await.unwrap(), "Bearer token-1");
    let error = credentials.bearer("other", Audience::Arm, None).await.unwrap_err();
    assert_eq!(error, CredentialError::Unknown("other".into()));
    assert!(clock.now() > Timestamp::default());
}

#[test]
fn nothing_of_a_secret_is_printed() {
    let settings = CredentialSettings {
        name: "gate".into(),
        tenant: None,
        client_id: None,
        proof: Proof::Secret(SecretString::from("canary")),
        acts_for: ActsFor::Itself,
        authority: Destination::https("login.microsoftonline.com", 443),
        digest: [0; 32],
    };
    assert!(!format!("{settings:?}").contains("canary"));
}
