//! The sandbox judged from outside, over TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Fault, Person, SandboxCa,
    azure::{AzureSettings, Bucket, FederatedCredential, SimulatedAzure, TokenVersion, UserToken, names},
    issuer::{DevelopmentIssuer, Forgery, IssuerSettings},
    jwt,
};
use crate::time::{ManualClock, SharedClock, Timestamp};

mod arm;
mod entra;
mod faults;
mod issuer;
mod planes;

const ARM: &str = "management.azure.com";
const LOGIN: &str = "login.microsoftonline.com";
const SCORING: &str = "churn.westeurope.inference.ml.azure.com";

/// Sends requests to one address by any name.
struct Client {
    address: SocketAddr,
    tls: TlsConnector,
}

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    fn new(address: SocketAddr, ca: &SandboxCa) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(ca.roots().unwrap())
            .with_no_client_auth();
        Self { address, tls: TlsConnector::from(Arc::new(config)) }
    }

    async fn connect(&self, host: &str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        self.tls.connect(host.to_owned().try_into().unwrap(), stream).await.unwrap()
    }

    async fn try_send(&self, host: &str, request: Request<Full<Bytes>>) -> Result<Got, hyper::Error> {
        let stream = self.connect(host).await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection: JoinHandle<_> = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        Ok(Got { status: head.status, headers: head.headers, body })
    }

    async fn send(&self, method: Method, host: &str, target: &str, token: &str, body: Option<Value>) -> Got {
        let mut request = Request::builder().method(method).uri(target).header("host", host);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            None => Bytes::new(),
            Some(body) => {
                request = request.header("content-type", "application/json");
                body.to_string().into()
            }
        };
        self.try_send(host, request.body(Full::new(body)).unwrap()).await.unwrap()
    }

    async fn get(&self, host: &str, target: &str, token: &str) -> Got {
        self.send(Method::GET, host, target, token, None).await
    }

    async fn form(&self, host: &str, target: &str, fields: &[(&str, &str)]) -> Got {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(target)
            .header("host", host)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(body.into()))
            .unwrap();
        self.try_send(host, request).await.unwrap()
    }

    async fn token(&self, extra: &[(&str, &str)]) -> Got {
        let mut fields = vec![
            ("grant_type", "client_credentials"),
            ("client_id", names::GATE_CLIENT),
            ("scope", "https://management.azure.com/.default"),
        ];
        fields.retain(|(name, _)| !extra.iter().any(|(n, _)| n == name));
        fields.extend(extra);
        self.form(LOGIN, &format!("/{}/oauth2/v2.0/token", names::TENANT), &fields).await
    }

    async fn gate_token(&self) -> String {
        let got = self.token(&[("client_secret", names::GATE_SECRET)]).await;
        got.json()["access_token"].as_str().unwrap().to_owned()
    }
}

struct World {
    clock: ManualClock,
    ca: Arc<SandboxCa>,
    azure: SimulatedAzure,
    client: Client,
}

async fn world() -> World {
    world_with(|_| ()).await
}

async fn world_with(change: impl FnOnce(&mut AzureSettings)) -> World {
    let clock = ManualClock::starting_at(Timestamp::from_secs(1_800_000_000));
    let ca = Arc::new(SandboxCa::generate().unwrap());
    let mut settings = AzureSettings::new(Arc::new(clock.clone()), Arc::clone(&ca));
    change(&mut settings);
    let azure = SimulatedAzure::start(settings).await.unwrap();
    let client = Client::new(azure.address(), &ca);
    World { clock, ca, azure, client }
}

async fn development_issuer(world: &World) -> (DevelopmentIssuer, Client) {
    let clock: SharedClock = Arc::new(world.clock.clone());
    let issuer = DevelopmentIssuer::start(IssuerSettings::new(clock, Arc::clone(&world.ca))).await.unwrap();
    let client = Client::new(issuer.address(), &world.ca);
    (issuer, client)
}

fn below(path: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{}{path}{separator}api-version=2024-10-01", names::workspace_id(names::WORKSPACE))
}

fn command() -> Value {
    json!({"properties": {
        "jobType": "Command", "command": "python train.py", "experimentName": "churn",
        "environmentId": format!("{}/environments/sklearn/versions/1", names::workspace_id(names::WORKSPACE)),
    }})
}
