//! What operators ask the gate: health, readiness, metrics, discovery.

use http::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::world::{Answer, VERSION, World, whole, workspace};

pub async fn ask(world: &World, path: &str) -> Answer {
    let address = world.server.health().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request =
        Request::builder().uri(path).header(header::HOST, address.to_string()).body(whole("")).unwrap();
    Answer::of(sender.send_request(request).await.unwrap()).await
}

#[tokio::test]
async fn each_dependency_is_named_with_its_state() {
    let world = World::new().await;
    assert_eq!(ask(&world, "/healthz").await.status, StatusCode::OK);
    let ready = ask(&world, "/readyz").await;
    assert_eq!(ready.status, StatusCode::OK, "{ready:?}");
    let names: Vec<String> = ready.json()["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| format!("{} {}", d["name"].as_str().unwrap(), d["state"].as_str().unwrap()))
        .collect();
    for name in [
        "journal ready",
        "policies ready",
        "issuer sandbox ready",
        "issuer entra ready",
        "credential gate ready",
    ] {
        assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
    }
    assert_eq!(ask(&world, "/nothing").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_credential_that_azure_refuses_is_named_with_its_mend_and_without_itself() {
    let world = World::new().await;
    let id = amlgate::sandbox::azure::names::GATE_CLIENT;
    let mut app = world.sandbox.azure.app(id).unwrap();
    app.secrets.clear();
    world.sandbox.azure.register(app);
    let refused = world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await;
    assert_eq!(refused.status, StatusCode::BAD_GATEWAY, "{refused:?}");
    let ready = ask(&world, "/readyz").await;
    assert!(
        ready.text().contains("AADSTS7000215") && ready.text().contains("the client secret is wrong"),
        "{ready:?}"
    );
    assert!(!ready.text().contains(amlgate::sandbox::azure::names::GATE_SECRET));
}

#[tokio::test]
async fn requests_and_their_stages_are_counted() {
    let world = World::new().await;
    let jobs = workspace(&format!("/jobs?{VERSION}"));
    world.caller("sam").get(&jobs).await;
    world.caller("ci").get(&jobs).await;
    world.nobody().get(&jobs).await;
    let text = ask(&world, "/metrics").await.text();
    for line in [
        r#"amlgate_requests_total{route="arm",decision="allowed",status="200"}"#,
        r#"amlgate_requests_total{route="arm",decision="denied",status="403"}"#,
        r#"amlgate_requests_total{route="arm",decision="refused",status="401"}"#,
        r#"amlgate_stage_seconds_count{stage="decide"}"#,
        r#"amlgate_stage_seconds_count{stage="upstream"}"#,
        "amlgate_journal_healthy",
        "amlgate_token_cache_total",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn clients_find_the_issuers_to_sign_in_with() {
    let world = World::new().await;
    let found = ask(&world, "/.well-known/amlgate").await.json();
    assert_eq!(found["reverse"], *world.sandbox.layout.gate);
    assert_eq!(found["issuers"][0]["issuer"], world.sandbox.issuer.url());
    assert_eq!(found["issuers"][0]["client_id"], "amlgate-cli");
}

#[tokio::test]
async fn an_issuers_keys_are_fetched_once_at_the_start() {
    let world = World::new().await;
    assert_eq!(ask(&world, "/readyz").await.status, StatusCode::OK);
    let asked = |part: &str| world.sandbox.issuer.observer().seen_at(part).len();
    assert_eq!(asked("/.well-known/openid-configuration"), 1);
    assert_eq!(asked("/keys"), 1);
}
