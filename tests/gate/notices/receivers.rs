//! Receivers over TLS that take what Slack, Teams' workflows and Standard Webhooks take by their
//! documentation, and refuse what those refuse.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use amlgate::{sandbox::SandboxCa, time::ManualClock};
use aws_lc_rs::hmac;
use axum::{extract::State, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::SECRET;

/// A message that was taken, or refused as the test wants it.
#[derive(Debug, Clone)]
pub struct Got {
    /// `slack`, `teams` or `hook`.
    pub to: &'static str,
    pub target: String,
    pub json: Value,
    /// With what it was refused that should have been taken.
    fault: Option<u16>,
}

/// How everything is answered instead of being taken.
#[derive(Debug, Clone, Default)]
struct Instead {
    status: Option<(u16, &'static str)>,
    after: Option<u64>,
}

#[derive(Clone)]
struct Shared {
    instead: Arc<Mutex<Instead>>,
    taken: mpsc::UnboundedSender<Got>,
    refused: mpsc::UnboundedSender<Got>,
}

/// All of them at one address.
pub struct Receivers {
    pub address: SocketAddr,
    /// PEM.
    pub authority: String,
    pub got: mpsc::UnboundedReceiver<Got>,
    refused: mpsc::UnboundedReceiver<Got>,
    instead: Arc<Mutex<Instead>>,
    _stop: DropGuard,
}

/// Why Slack would refuse a message, by its reference; nothing if it takes it.
fn slack(message: &Value) -> Result<(), &'static str> {
    let fits = |text: &Value, most: usize| {
        let length = text["text"].as_str().map_or(0, |text| text.chars().count());
        (1..=most).contains(&length) && ["plain_text", "mrkdwn"].iter().any(|kind| text["type"] == *kind)
    };
    if message["text"].as_str().is_none_or(str::is_empty) {
        return Err("no_text");
    }
    let blocks = message["blocks"].as_array().filter(|blocks| blocks.len() <= 50).ok_or("invalid_blocks")?;
    let valid = blocks.iter().all(|block| match block["type"].as_str() {
        Some("header") => block["text"]["type"] == "plain_text" && fits(&block["text"], 150),
        Some("section") => match block["fields"].as_array() {
            Some(fields) => fields.len() <= 10 && fields.iter().all(|field| fits(field, 2_000)),
            None => fits(&block["text"], 3_000),
        },
        Some("context") => block["elements"]
            .as_array()
            .is_some_and(|all| all.len() <= 10 && all.iter().all(|e| fits(e, 3_000))),
        _ => false,
    });
    if valid { Ok(()) } else { Err("invalid_blocks") }
}

/// Whether a workflow that posts cards takes a message.
fn teams(message: &Value, size: usize) -> bool {
    let attachment = &message["attachments"][0];
    let card = &attachment["content"];
    let known = |block: &Value| {
        block["type"] == "RichTextBlock"
            && block["inlines"].as_array().is_some_and(|all| all.iter().all(|run| run["text"].is_string()))
    };
    message["type"] == "message"
        && size < 28 << 10
        && attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
        && (&card["type"], &card["version"]) == (&json!("AdaptiveCard"), &json!("1.2"))
        && card["body"].as_array().is_some_and(|body| !body.is_empty() && body.iter().all(known))
}

/// Whether a message is signed as Standard Webhooks.
fn signed(headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let signature = text("webhook-signature").strip_prefix("v1,").unwrap_or_default();
    let message =
        [format!("{}.{}.", text("webhook-id"), text("webhook-timestamp")).as_bytes(), body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    STANDARD.decode(signature).is_ok_and(|tag| hmac::verify(&key, &message, &tag).is_ok())
}

fn said(status: u16, words: &'static str) -> Response {
    Response::builder().status(status).body(words.into()).unwrap()
}

async fn serve(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method != Method::POST {
        return said(405, "");
    }
    let to = match uri.path() {
        path if path.starts_with("/services/") => "slack",
        path if path.starts_with("/workflows/") => "teams",
        _ => "hook",
    };
    let json: Value = serde_json::from_slice(&body).unwrap();
    let mut got = Got { to, target: uri.to_string(), json, fault: None };
    let instead = shared.instead.lock().unwrap().clone();
    if let Some((status, words)) = instead.status {
        shared.refused.send(got).unwrap();
        let mut answer = said(status, words);
        if let Some(after) = instead.after {
            answer.headers_mut().insert("retry-after", after.into());
        }
        return answer;
    }
    let kind = headers["content-type"].to_str().unwrap();
    let answer = match to {
        "slack" => match slack(&got.json) {
            Ok(()) if kind.starts_with("application/json") => said(200, "ok"),
            Ok(()) => said(400, "invalid_payload"),
            Err(why) => said(400, why),
        },
        "teams" if teams(&got.json, body.len()) => said(202, ""),
        "hook" if signed(&headers, &body) && kind.starts_with("application/cloudevents+json") => {
            said(204, "")
        }
        _ => said(401, ""),
    };
    got.fault = (!answer.status().is_success()).then(|| answer.status().as_u16());
    drop(shared.taken.send(got));
    answer
}

impl Receivers {
    pub async fn start() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let ca = SandboxCa::generate().unwrap();
        let (chain, key) = ca.server_pem(&["chat.example"]).unwrap();
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config =
            rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (taken, got) = mpsc::unbounded_channel();
        let (refuse, refused) = mpsc::unbounded_channel();
        let instead = Arc::new(Mutex::new(Instead::default()));
        let shared = Shared { instead: Arc::clone(&instead), taken, refused: refuse };
        let router = axum::Router::new().fallback(serve).with_state(shared);
        let stop = CancellationToken::new();
        let acceptor: Arc<dyn Fn() -> TlsAcceptor + Send + Sync> = Arc::new(move || acceptor.clone());
        tokio::spawn(amlgate::admin::serve(listener, Some(acceptor), router, stop.clone()));
        let authority = ca.certificate_pem().to_owned();
        Self { address, authority, got, refused, instead, _stop: stop.drop_guard() }
    }

    /// Everything is answered so from here on.
    pub fn answer(&self, status: u16, words: &'static str) {
        *self.instead.lock().unwrap() = Instead { status: Some((status, words)), after: None };
    }

    /// Everything is asked to come again after so many seconds.
    pub fn wait(&self, after: u64) {
        *self.instead.lock().unwrap() = Instead { status: Some((429, "rate_limited")), after: Some(after) };
    }

    /// Everything is taken again.
    pub fn mend(&self) {
        *self.instead.lock().unwrap() = Instead::default();
    }

    /// The next so many messages, of whichever channels.
    pub async fn take(&mut self, count: usize) -> Vec<Got> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.got.recv().await.unwrap());
        }
        faultless(all)
    }

    /// The next one that was refused.
    pub async fn refused(&mut self) -> Got {
        self.refused.recv().await.unwrap()
    }

    /// The same, while pauses pass by hand.
    pub async fn refused_while_time_passes(&mut self, clock: &ManualClock) -> Got {
        pass_until(clock, || self.refused.try_recv().ok()).await
    }

    /// The next so many messages, while pauses pass by hand.
    pub async fn take_while_time_passes(&mut self, count: usize, clock: &ManualClock) -> Vec<Got> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(pass_until(clock, || self.got.try_recv().ok()).await);
        }
        faultless(all)
    }
}

fn faultless(all: Vec<Got>) -> Vec<Got> {
    assert!(all.iter().all(|got| got.fault.is_none()), "{all:#?}");
    all
}

/// Lets time pass in small steps until something comes.
async fn pass_until<T>(clock: &ManualClock, mut came: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(came) = came() {
            return came;
        }
        clock.advance(Duration::from_millis(50));
        // Other tasks and the sockets have their turn; no time is waited for.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    }
}
