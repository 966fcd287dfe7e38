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
    azure::{AzureSettings, FederatedCredential, SimulatedAzure, TokenVersion, UserToken, names},
    issuer::{DevelopmentIssuer, Forgery, IssuerSettings},
    jwt,
};
use crate::time::{ManualClock, SharedClock, Timestamp};

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

async fn issuer(world: &World) -> (DevelopmentIssuer, Client) {
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

#[tokio::test]
async fn a_list_of_jobs_comes_in_pages_that_end() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let mut target = below("/jobs");
    let mut found = Vec::new();
    loop {
        let page = w.client.get(ARM, &target, &token).await;
        assert_eq!(page.status, StatusCode::OK);
        let page = page.json();
        found
            .extend(page["value"].as_array().unwrap().iter().map(|j| j["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["nextLink"].as_str() else { break };
        target = next.strip_prefix("https://management.azure.com").unwrap().to_owned();
    }
    assert_eq!(found.len(), 5);
    assert_eq!(found[0], "churn-train-4");
    assert_eq!(w.azure.observer().seen_at("/jobs").len(), 2);
}

#[tokio::test]
async fn resource_manager_refuses_what_azure_refuses() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let jobs = below("/jobs");
    let code = async |target: &str, token: &str| {
        let got = w.client.get(ARM, target, token).await;
        (got.status.as_u16(), got.code())
    };
    assert_eq!(code(&jobs, "").await, (401, "AuthenticationFailed".to_owned()));
    let got = w.client.get(ARM, &jobs, "").await;
    assert!(got.headers["www-authenticate"].to_str().unwrap().contains("authorization_uri="));
    let other = w
        .client
        .token(&[("client_secret", names::GATE_SECRET), ("scope", "https://vault.azure.net/.default")])
        .await;
    let other = other.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(code(&jobs, &other).await, (401, "InvalidAuthenticationTokenAudience".to_owned()));
    let user = w.azure.user_token(Person::named("pat").unwrap(), &UserToken::default()).unwrap();
    assert_eq!(code(&jobs, &user).await, (401, "InvalidAuthenticationTokenAudience".to_owned()));
    let bent = format!("{}x", token.trim_end_matches('A'));
    assert_eq!(code(&jobs, &bent).await, (401, "InvalidAuthenticationToken".to_owned()));
    let bare = jobs.split('?').next().unwrap();
    assert_eq!(code(bare, &token).await, (400, "MissingApiVersionParameter".to_owned()));
    assert_eq!(
        code(&format!("{bare}?api-version=latest"), &token).await,
        (400, "InvalidApiVersionParameter".to_owned())
    );
    assert_eq!(code(&below("/jobs/none"), &token).await, (404, "ResourceNotFound".to_owned()));
    assert_eq!(code(&below("/nonsense"), &token).await, (404, "InvalidResourceType".to_owned()));
    let stranger = w
        .azure
        .machine_token(names::STRANGER_CLIENT, names::STRANGER_PRINCIPAL, "https://management.azure.com")
        .unwrap();
    assert_eq!(code(&jobs, &stranger).await, (403, "AuthorizationFailed".to_owned()));
    w.clock.advance(Duration::from_secs(7_200));
    assert_eq!(code(&jobs, &token).await, (401, "ExpiredAuthenticationToken".to_owned()));
}

#[tokio::test]
async fn types_and_names_are_found_in_any_case() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let target = below("/jobs/churn-train-1").to_lowercase().replace("/jobs/", "/JOBS/");
    let got = w.client.get(ARM, &target, &token).await;
    assert_eq!(got.status, StatusCode::OK);
    assert!(got.json()["id"].as_str().unwrap().contains("resourceGroups/rg-vision"));
}

#[tokio::test]
async fn a_job_is_judged_runs_and_registers_its_model() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let target = below("/jobs/mine");
    let mut wrong = command();
    wrong["properties"]["environmentId"] = Value::Null;
    let got = w.client.send(Method::PUT, ARM, &target, &token, Some(wrong)).await;
    assert_eq!(got.status, StatusCode::BAD_REQUEST);
    assert!(got.json()["error"]["message"].as_str().unwrap().contains("environmentId"));
    let mut body = command();
    body["properties"]["outputs"] = json!({"model": {"jobOutputType": "mlflow_model", "assetName": "fresh"}});
    let got = w.client.send(Method::PUT, ARM, &target, &token, Some(body.clone())).await;
    assert_eq!(got.status, StatusCode::CREATED);
    assert_eq!(got.json()["properties"]["status"], "Starting");
    let mut status = String::new();
    for _ in 0..3 {
        let got = w.client.get(ARM, &target, &token).await;
        got.json()["properties"]["status"].as_str().unwrap().clone_into(&mut status);
    }
    assert_eq!(status, "Completed");
    let model = w.client.get(ARM, &below("/models/fresh/versions/1"), &token).await;
    assert_eq!(model.json()["properties"]["jobName"], "mine");
    body["properties"]["command"] = json!("something else");
    let got = w.client.send(Method::PUT, ARM, &target, &token, Some(body)).await;
    assert_eq!(got.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_compute_is_made_by_a_long_running_operation() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let target = below("/computes/gpu");
    let body = json!({"location": "westeurope", "properties": {"computeType": "AmlCompute", "properties": {"vmSize": "Standard_NC6"}}});
    let got = w.client.send(Method::PUT, ARM, &target, &token, Some(body)).await;
    assert_eq!(got.status, StatusCode::CREATED);
    assert_eq!(got.headers["retry-after"], "1");
    assert_eq!(got.json()["properties"]["provisioningState"], "Creating");
    let status = got.headers["azure-asyncoperation"].to_str().unwrap();
    let status = status.strip_prefix("https://management.azure.com").unwrap().to_owned();
    assert_eq!(w.client.get(ARM, &status, &token).await.json()["status"], "InProgress");
    let changed = w.client.get(ARM, &format!("{status}&extra=1"), &token).await;
    assert_eq!(changed.status, StatusCode::BAD_REQUEST);
    assert_eq!(w.client.get(ARM, &status, &token).await.json()["status"], "Succeeded");
    let made = w.client.get(ARM, &target, &token).await.json();
    assert_eq!(made["properties"]["provisioningState"], "Succeeded");
    let gone = w.client.send(Method::DELETE, ARM, &target, &token, None).await;
    assert_eq!(gone.status, StatusCode::ACCEPTED);
    let location = gone.headers["location"].to_str().unwrap();
    let location = location.strip_prefix("https://management.azure.com").unwrap();
    assert_eq!(w.client.get(ARM, location, &token).await.status, StatusCode::ACCEPTED);
    assert_eq!(w.client.get(ARM, location, &token).await.status, StatusCode::NO_CONTENT);
    assert_eq!(w.client.get(ARM, &target, &token).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_operation_ends_by_the_clock_when_nobody_polls_and_fails_when_told_to() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let stop = below("/computes/cpu-cluster/stop");
    assert_eq!(w.client.send(Method::POST, ARM, &stop, &token, None).await.status, StatusCode::ACCEPTED);
    w.clock.advance(Duration::from_secs(30));
    let id = format!("{}/computes/cpu-cluster", names::workspace_id(names::WORKSPACE));
    assert_eq!(w.azure.resource(&id).unwrap()["properties"]["properties"]["state"], "Stopped");
    w.azure.fail_next_operation("QuotaExceeded", "no more nodes");
    let body = json!({"location": "westeurope", "properties": {"computeType": "AmlCompute", "properties": {"vmSize": "S"}}});
    let got = w.client.send(Method::PUT, ARM, &below("/computes/big"), &token, Some(body)).await;
    w.clock.advance(Duration::from_secs(30));
    let status = got.headers["azure-asyncoperation"].to_str().unwrap();
    let status = status.strip_prefix("https://management.azure.com").unwrap();
    let status = w.client.get(ARM, status, &token).await.json();
    assert_eq!(status["error"]["code"], "QuotaExceeded");
}

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
    let (issuer, _) = issuer(&w).await;
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

#[tokio::test]
async fn an_endpoint_scores_for_its_key_and_for_nothing_else() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let keys =
        w.client.send(Method::POST, ARM, &below("/onlineEndpoints/churn/listKeys"), &token, None).await;
    let key = keys.json()["primaryKey"].as_str().unwrap().to_owned();
    let input = json!({"input_data": {"data": [[0.0, 0.0], [9.0, 9.0]]}});
    let got = w.client.send(Method::POST, SCORING, "/score", &key, Some(input.clone())).await;
    assert_eq!(got.headers["azureml-model-deployment"], "blue");
    assert_eq!(got.json()["predictions"][0], 0.5);
    assert!(got.json()["predictions"][1].as_f64().unwrap() > 0.99);
    let refused = w.client.send(Method::POST, SCORING, "/score", &token, Some(input.clone())).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let aad = "churn-aad.westeurope.inference.ml.azure.com";
    assert_eq!(
        w.client.send(Method::POST, aad, "/score", &token, Some(input.clone())).await.code(),
        "InvalidAuthenticationTokenAudience"
    );
    let own = w
        .client
        .token(&[("client_secret", names::GATE_SECRET), ("scope", "https://ml.azure.com/.default")])
        .await;
    let own = own.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(w.client.send(Method::POST, aad, "/score", &own, Some(input)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_chat_streams_an_event_at_a_time_by_the_clock_and_notices_a_hang_up() {
    let w = world_with(|s| s.stream_interval = Duration::from_secs(5)).await;
    let id = format!("{}/onlineEndpoints/churn", names::workspace_id(names::WORKSPACE));
    let key = w.azure.secret_of(&id).unwrap()["primaryKey"].as_str().unwrap().to_owned();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(w.client.connect(SCORING).await)).await.unwrap();
    let connection = tokio::spawn(connection);
    let body = json!({"stream": true, "messages": [{"role": "user", "content": "hello"}]}).to_string();
    let request = Request::post("/v1/chat/completions")
        .header("host", SCORING)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"data: {"));
    w.azure.streams().wait_for(1).await;
    w.clock.advance(Duration::from_secs(5));
    let second = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_ne!(first, second);
    drop((response, sender));
    connection.abort();
    w.azure.streams().wait_for(0).await;
}

#[tokio::test]
async fn a_websocket_says_back_what_it_hears() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let w = world().await;
    let id = format!("{}/onlineEndpoints/churn", names::workspace_id(names::WORKSPACE));
    let key = w.azure.secret_of(&id).unwrap()["primaryKey"].as_str().unwrap().to_owned();
    let mut stream = w.client.connect(SCORING).await;
    let head = format!(
        "GET /ws HTTP/1.1\r\nhost: {SCORING}\r\nauthorization: Bearer {key}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    // The sample handshake of RFC 6455 section 1.3.
    assert!(answer.contains(&"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_lowercase()));
    stream.write_all(&[0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]).await.unwrap();
    let mut frame = [0; 4];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame, [0x81, 2, b'h', b'i']);
}

#[tokio::test]
async fn mlflow_logs_a_run_and_registers_the_model_that_resource_manager_shows() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let host = "westeurope.api.azureml.ms";
    let base = format!("/mlflow/v2.0{}/api/2.0/mlflow", names::workspace_id(names::WORKSPACE));
    let post = async |op: &str, body: Value| {
        w.client.send(Method::POST, host, &format!("{base}/{op}"), &token, Some(body)).await
    };
    let missing =
        w.client.get(host, &format!("{base}/experiments/get-by-name?experiment_name=new"), &token).await;
    assert_eq!(
        (missing.status.as_u16(), missing.json()["error_code"].clone()),
        (404, json!("RESOURCE_DOES_NOT_EXIST"))
    );
    let experiment = post("experiments/create", json!({"name": "new"})).await.json()["experiment_id"].clone();
    let run = post("runs/create", json!({"experiment_id": experiment})).await.json()["run"]["info"]["run_id"]
        .clone();
    assert_eq!(post("runs/log-batch", json!({"run_id": run, "metrics": [{"key": "auc", "value": 0.9}], "params": [{"key": "lr", "value": "1"}]})).await.status, StatusCode::OK);
    assert_eq!(
        post("runs/log-parameter", json!({"run_id": run, "key": "lr", "value": "2"})).await.status,
        StatusCode::BAD_REQUEST
    );
    let got =
        w.client.get(host, &format!("{base}/runs/get?run_id={}", run.as_str().unwrap()), &token).await.json();
    assert_eq!(got["run"]["data"]["metrics"][0]["value"], 0.9);
    post("registered-models/create", json!({"name": "by-mlflow"})).await;
    post("model-versions/create", json!({"name": "by-mlflow", "source": "azureml://x", "run_id": run})).await;
    let shown = w.client.get(ARM, &below("/models/by-mlflow/versions/1"), &token).await.json();
    assert_eq!(shown["properties"]["modelUri"], "azureml://x");
    let again =
        w.client.get(host, &format!("/mferp/managementfrontend{}", below("/models/by-mlflow")), &token).await;
    assert_eq!(again.json()["properties"]["latestVersion"], "1");
    assert_eq!(w.client.get(host, &format!("{base}/traces/x"), &token).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_vault_challenges_before_it_tells() {
    let w = world().await;
    let host = "vision-kv.vault.azure.net";
    let target = "/secrets/gate-client-secret?api-version=7.4";
    let got = w.client.get(host, target, "").await;
    let challenge = got.headers["www-authenticate"].to_str().unwrap().to_owned();
    assert_eq!(
        challenge,
        format!(
            "Bearer authorization=\"https://{LOGIN}/{}\", resource=\"https://vault.azure.net\"",
            names::TENANT
        )
    );
    let token = w
        .client
        .token(&[("client_secret", names::GATE_SECRET), ("scope", "https://vault.azure.net/.default")])
        .await;
    let token = token.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(w.client.get(host, target, &token).await.json()["value"], names::GATE_SECRET);
    w.azure.set_vault_secret("gate-client-secret", "next");
    assert_eq!(w.client.get(host, target, &token).await.json()["value"], "next");
}

#[tokio::test]
async fn an_upload_needs_the_signature_that_was_handed_out() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let got = w
        .client
        .send(
            Method::POST,
            ARM,
            &below("/codes/c/versions/1/startPendingUpload"),
            &token,
            Some(json!({"pendingUploadType": "TemporaryBlobReference"})),
        )
        .await;
    let reference = got.json()["blobReferenceForConsumption"].clone();
    let uri = reference["credential"]["sasUri"].as_str().unwrap().to_owned();
    let (host, target) = uri.strip_prefix("https://").unwrap().split_once('/').unwrap();
    let (path, query) = target.split_once('?').unwrap();
    let put = async |query: &str| {
        let request = Request::put(format!("/{path}/train.py?{query}"))
            .header("host", host)
            .header("x-ms-blob-type", "BlockBlob")
            .body(Full::new(Bytes::from_static(b"print(1)")))
            .unwrap();
        w.client.try_send(host, request).await.unwrap().status
    };
    assert_eq!(put(&query.replace("sp=racwl", "sp=racwdl")).await, StatusCode::FORBIDDEN);
    assert_eq!(put("").await, StatusCode::UNAUTHORIZED);
    assert_eq!(put(query).await, StatusCode::CREATED);
    assert_eq!(w.azure.blob(&format!("{path}/train.py")).unwrap(), "print(1)");
    w.clock.advance(Duration::from_secs(9 * 3_600));
    assert_eq!(put(query).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn role_assignments_are_listed_as_azure_filters_them() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let sam = Person::named("sam").unwrap().object_id;
    let count = async |filter: &str| {
        let target = format!(
            "{}/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01&$filter={filter}",
            names::workspace_id(names::WORKSPACE)
        );
        w.client.get(ARM, &target, &token).await.json()["value"].as_array().map(Vec::len)
    };
    // Sam has her role through a group.
    assert_eq!(count(&format!("atScope()%20and%20assignedTo('{sam}')")).await, Some(1));
    assert_eq!(count(&format!("principalId%20eq%20'{sam}'")).await, Some(0));
    assert_eq!(count("nonsense").await, None);
}

#[tokio::test]
async fn faults_strike_once_and_as_told() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let observer = w.azure.observer();
    let request = |method: Method, body: Value| {
        Request::builder()
            .method(method)
            .uri(below("/jobs/faulty"))
            .header("host", ARM)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap()
    };
    observer.trap("/jobs/", None, Fault::throttle(7));
    let got = w.client.try_send(ARM, request(Method::PUT, command())).await.unwrap();
    assert_eq!((got.status.as_u16(), got.headers["retry-after"].as_bytes()), (429, &b"7"[..]));
    let id = format!("{}/jobs/faulty", names::workspace_id(names::WORKSPACE));
    observer.trap("/jobs/", None, Fault::Reset);
    assert!(w.client.try_send(ARM, request(Method::PUT, command())).await.is_err());
    assert!(w.azure.resource(&id).is_none());
    observer.trap("/jobs/", None, Fault::ResetAfterEffect);
    assert!(w.client.try_send(ARM, request(Method::PUT, command())).await.is_err());
    assert!(w.azure.resource(&id).is_some());
    observer.trap("/jobs/", Some(Method::GET), Fault::Truncate);
    assert!(w.client.try_send(ARM, request(Method::GET, json!({}))).await.is_err());
    observer.trap("/jobs/", None, Fault::Hang);
    let hung = tokio::time::timeout(
        Duration::from_millis(50),
        w.client.try_send(ARM, request(Method::GET, json!({}))),
    )
    .await;
    assert!(hung.is_err());
    assert_eq!(w.client.try_send(ARM, request(Method::GET, json!({}))).await.unwrap().status, StatusCode::OK);
    let seen = observer.seen_at("/jobs/faulty");
    assert_eq!(seen.len(), 6);
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {token}"));
}

#[tokio::test]
async fn a_person_logs_in_with_a_code_and_pkce() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let w = world().await;
    let (issuer, client) = issuer(&w).await;
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
    let (_issuer, client) = issuer(&w).await;
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
    let (issuer, client) = issuer(&w).await;
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
    assert!(matches!(DevelopmentIssuer::start(settings).await, Err(super::SandboxError::NotLoopback(_))));
}
