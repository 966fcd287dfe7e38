//! Behind `HTTPS_PROXY`: tunnels, what flows in them, and what is refused.

use std::{fs, sync::Arc};

use amlgate::sandbox::{Person, azure::names};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::world::{Answer, Changes, Sent, VERSION, World, job, whole, workspace};

const ARM: &str = "management.azure.com";

pub fn token(world: &World, name: &str) -> String {
    world.sandbox.issuer.mint().token(Person::named(name).unwrap()).unwrap()
}

/// `Proxy-Authorization` as the URL of HTTPS_PROXY makes it.
pub fn basic(token: &str) -> String {
    format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("token:{token}")))
}

/// Asks for a tunnel with the given head lines; the status line, the head, and the connection.
pub async fn ask(world: &World, target: &str, version: &str, lines: &str) -> (u16, String, TcpStream) {
    let mut stream = TcpStream::connect(world.server.forward().unwrap()).await.unwrap();
    let asked = format!("CONNECT {target} HTTP/{version}\r\n{lines}\r\n");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, stream)
}

/// A refusal's body.
pub async fn said(head: &str, mut stream: TcpStream) -> String {
    let length = head.to_ascii_lowercase();
    let length = length.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

pub fn trusting(world: &World, protocol: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let ca = fs::read(world.directory().join("certs/interception-ca.pem")).unwrap();
    for certificate in CertificateDer::pem_slice_iter(&ca) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn inside(world: &World, name: &str, host: &str, protocol: &[u8]) -> TlsStream<TcpStream> {
    inside_with(world, &token(world, name), host, protocol).await
}

pub async fn inside_with(world: &World, token: &str, host: &str, protocol: &[u8]) -> TlsStream<TcpStream> {
    let lines = format!("Host: {host}:443\r\n{}", basic(token));
    let (status, head, stream) = ask(world, &format!("{host}:443"), "1.1", &lines).await;
    assert_eq!(status, 200, "{head}");
    let name = ServerName::try_from(host.to_owned()).unwrap();
    trusting(world, protocol).connect(name, stream).await.unwrap()
}

/// One caller's tunnel to a host, HTTP/1.1 in it.
pub struct Tunnel {
    sender: hyper::client::conn::http1::SendRequest<Sent>,
    host: String,
}

impl Tunnel {
    async fn dig(world: &World, name: &str, host: &str) -> Self {
        Self::over(inside(world, name, host, b"http/1.1").await, host).await
    }

    pub async fn over(stream: TlsStream<TcpStream>, host: &str) -> Self {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Self { sender, host: host.to_owned() }
    }

    pub async fn with(world: &World, token: &str, host: &str) -> Self {
        Self::over(inside_with(world, token, host, b"http/1.1").await, host).await
    }

    pub async fn send(&mut self, request: http::request::Builder, body: &str) -> Answer {
        let request = request.header(header::HOST, &self.host).body(whole(body.to_owned())).unwrap();
        Answer::of(self.sender.send_request(request).await.unwrap()).await
    }

    pub async fn get(&mut self, target: &str) -> Answer {
        self.send(Request::get(target), "").await
    }
}

pub fn jobs() -> String {
    workspace(&format!("/jobs?{VERSION}"))
}

#[tokio::test]
async fn a_notebook_behind_the_proxy_speaks_to_azures_own_names_and_is_judged_request_by_request() {
    let world = World::new().await;
    let mut sam = Tunnel::dig(&world, "sam", ARM).await;
    let listed = sam.get(&jobs()).await;
    assert_eq!(listed.status, StatusCode::OK, "{listed:?}");
    // Azure's URLs stay Azure's: the next page comes through the same proxy.
    let next = listed.json()["nextLink"].as_str().unwrap().to_owned();
    assert!(next.starts_with("https://management.azure.com/"), "{next}");

    let target = workspace(&format!("/jobs/tunnelled?{VERSION}"));
    let put = Request::put(&target).header(header::CONTENT_TYPE, "application/json");
    let submitted = sam.send(put, &job().to_string()).await;
    assert_eq!(submitted.status, StatusCode::CREATED, "{submitted:?}");

    let refused = sam.send(Request::delete(workspace(&format!("?{VERSION}"))), "").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("amlgate:") && message.contains("workspaces/delete"), "{message}");
    drop(sam);
    let log = world.stop().await;
    let requests = log.requests();
    assert!(requests.iter().all(|r| r["actor"]["user"]["name"].is_string()), "each is the person's own");
}

#[tokio::test]
async fn azures_log_shows_the_gate_and_never_the_token_inside_the_tunnel() {
    let world = World::new().await;
    let mut sam = Tunnel::dig(&world, "sam", ARM).await;
    // What the caller's own credential sends is replaced, whatever it is.
    let own = Request::get(jobs()).header(header::AUTHORIZATION, "Bearer eyJhbGciOiJub25lIn0.e30.canary");
    assert_eq!(sam.send(own, "").await.status, StatusCode::OK);
    let seen = world.sandbox.azure.observer().seen_at("/jobs");
    assert!(!seen.is_empty());
    assert!(
        seen.iter().all(|r| !format!("{r:?}").contains("canary")),
        "no token of the caller's reaches Azure"
    );
}

#[tokio::test]
async fn a_connect_of_python_without_host_and_in_http_1_0_is_accepted() {
    let world = World::new().await;
    let (status, head, stream) =
        ask(&world, &format!("{ARM}:443"), "1.0", &basic(&token(&world, "sam"))).await;
    assert_eq!(status, 200, "{head}");
    let name = ServerName::try_from(ARM).unwrap();
    let stream = trusting(&world, b"http/1.1").connect(name, stream).await.unwrap();
    assert_eq!(Tunnel::over(stream, ARM).await.get(&jobs()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn http_2_flows_in_a_tunnel() {
    let world = World::new().await;
    let stream = inside(&world, "sam", ARM, b"h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("https://{ARM}{}", jobs())).body(whole("")).unwrap();
    let answer = Answer::of(sender.send_request(request).await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

#[tokio::test]
async fn who_is_not_known_is_told_how_to_say_who_they_are() {
    let world = World::new().await;
    for lines in ["", "Proxy-Authorization: Digest x\r\n", "Proxy-Authorization: Basic !\r\n"] {
        let (status, head, stream) = ask(&world, &format!("{ARM}:443"), "1.1", lines).await;
        assert_eq!(status, 407, "{head}");
        let folded = head.to_ascii_lowercase();
        assert!(
            folded.contains("proxy-authenticate: basic") && folded.contains("proxy-authenticate: bearer"),
            "{head}"
        );
        assert!(said(&head, stream).await.contains("HTTPS_PROXY="), "{head}");
    }
}

#[tokio::test]
async fn a_bad_token_is_explained_inside_because_clients_show_nothing_of_a_refused_connect() {
    let world = World::new().await;
    let forged = world.sandbox.issuer.mint();
    let forged =
        forged.forge(Person::named("sam").unwrap(), amlgate::sandbox::issuer::Forgery::ForeignKey).unwrap();
    let (status, head, stream) = ask(&world, &format!("{ARM}:443"), "1.1", &basic(&forged)).await;
    assert_eq!(status, 200, "{head}");
    let name = ServerName::try_from(ARM).unwrap();
    let stream = trusting(&world, b"http/1.1").connect(name, stream).await.unwrap();
    let answer = Tunnel::over(stream, ARM).await.get(&jobs()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.json()["error"]["code"], "AuthenticationFailed", "{answer:?}");
}

#[tokio::test]
async fn every_other_host_is_refused_at_once_and_named() {
    let world = World::new().await;
    let who = basic(&token(&world, "sam"));
    for (target, says) in [
        ("pypi.org:443", "`pypi.org`"),
        ("management.azure.com:8443", "`management.azure.com`"),
        ("management.azure.com.evil.example:443", "`management.azure.com.evil.example`"),
        ("169.254.169.254:443", "instance metadata"),
        ("169.254.169.254:80", "instance metadata"),
        ("2852039166:80", "instance metadata"),
        ("168.63.129.16:80", "instance metadata"),
        ("[::ffff:169.254.169.254]:443", "instance metadata"),
        ("127.0.0.1:443", "loopback"),
        ("localhost:443", "loopback"),
        ("[::1]:443", "loopback"),
        ("10.0.0.4:443", "private"),
    ] {
        let (status, head, stream) = ask(&world, target, "1.1", &who).await;
        assert_eq!(status, 403, "{target}: {head}");
        let said = said(&head, stream).await;
        assert!(said.contains(says), "{target}: {said}");
    }
    let (status, ..) = ask(&world, "user@management.azure.com:443", "1.1", &who).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn instance_metadata_in_plain_http_is_refused_and_never_answered_with_the_gates_identity() {
    let world = World::new().await;
    for url in [
        "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://management.azure.com",
        "http://0xa9fea9fe/metadata/instance",
        "http://pypi.org/simple",
    ] {
        let mut stream = TcpStream::connect(world.server.forward().unwrap()).await.unwrap();
        let asked = format!(
            "GET {url} HTTP/1.1\r\nHost: x\r\nMetadata: true\r\nConnection: close\r\n{}\r\n",
            basic(&token(&world, "sam"))
        );
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403"), "{url}: {answer}");
        assert!(!answer.contains("access_token"), "{answer}");
    }
}

#[tokio::test]
async fn the_name_in_the_handshake_and_in_each_request_is_that_of_the_tunnel() {
    let world = World::new().await;
    let who = basic(&token(&world, "sam"));
    // TLS for another host.
    let (_, _, stream) = ask(&world, &format!("{ARM}:443"), "1.1", &who).await;
    let other = ServerName::try_from(format!("{}.vault.azure.net", names::VAULT)).unwrap();
    assert!(trusting(&world, b"http/1.1").connect(other, stream).await.is_err());
    // No TLS at all.
    let (_, _, mut stream) = ask(&world, &format!("{ARM}:443"), "1.1", &who).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: management.azure.com\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // It ends with TLS's own alert (content type 21), or with nothing.
    stream.read_to_end(&mut answer).await.unwrap_or_default();
    assert!(answer.first().is_none_or(|kind| *kind == 21), "{answer:?}");
    // Another host inside.
    let mut sam = Tunnel::dig(&world, "sam", ARM).await;
    sam.host = "graph.microsoft.com".to_owned();
    let answer = sam.get(&jobs()).await;
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{answer:?}");
}

#[tokio::test]
async fn a_long_operation_is_polled_in_the_tunnel_by_who_began_it() {
    let policies = "version: 1
subjects: {platform: [{issuer: sandbox, group: platform}]}
allow:
  - name: clusters are made
    who: [platform]
    actions: [Microsoft.MachineLearningServices/workspaces/computes/write]
";
    let world = World::changed(Changes { policies: Some(policies), ..Changes::default() }).await;
    let mut pat = Tunnel::dig(&world, "pat", ARM).await;
    let body = json!({
        "location": "westeurope",
        "properties": {"computeType": "AmlCompute", "properties": {
            "vmSize": "STANDARD_DS3_V2", "vmPriority": "Dedicated",
            "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 2}
        }}
    });
    let put = Request::put(workspace(&format!("/computes/tunnelled?{VERSION}")));
    let made = pat.send(put.header(header::CONTENT_TYPE, "application/json"), &body.to_string()).await;
    assert!(made.status.is_success(), "{made:?}");
    let poll = made.header("azure-asyncoperation").to_owned();
    let poll = poll.strip_prefix("https://management.azure.com").unwrap();
    assert_eq!(pat.get(poll).await.status, StatusCode::OK);
    let bare = poll.split("amlgate-op=").next().unwrap().trim_end_matches('&');
    assert_eq!(
        pat.get(bare).await.status,
        StatusCode::FORBIDDEN,
        "without the capability it is a request like any"
    );
}

#[tokio::test]
async fn code_is_uploaded_by_its_signed_url_through_the_tunnel_and_the_signature_is_not_recorded() {
    let world = World::new().await;
    let mut sam = Tunnel::dig(&world, "sam", ARM).await;
    let target = workspace(&format!("/codes/one/versions/1/startPendingUpload?{VERSION}"));
    let post = Request::post(&target).header(header::CONTENT_TYPE, "application/json");
    let begun = sam.send(post, &json!({"pendingUploadType": "TemporaryBlobReference"}).to_string()).await;
    assert_eq!(begun.status, StatusCode::OK, "{begun:?}");
    let signed =
        begun.json()["blobReferenceForConsumption"]["credential"]["sasUri"].as_str().unwrap().to_owned();
    let host = format!("{}.blob.core.windows.net", names::ACCOUNT);
    let (container, signature) =
        signed.strip_prefix(&format!("https://{host}")).unwrap().split_once('?').unwrap();
    let mut blobs = Tunnel::dig(&world, "sam", &host).await;
    let put = Request::put(format!("{container}/train.py?{signature}")).header("x-ms-blob-type", "BlockBlob");
    let stored = blobs.send(put, "print('hello')").await;
    assert_eq!(stored.status, StatusCode::CREATED, "{stored:?}");
    let path = format!("{}/train.py", container.trim_start_matches('/'));
    assert_eq!(world.sandbox.azure.blob(&path).unwrap(), "print('hello')");
    // Without a signature, or by another person, nothing is stored.
    let bare = blobs
        .send(Request::put(format!("{container}/no.py")).header("x-ms-blob-type", "BlockBlob"), "x")
        .await;
    assert!(!bare.status.is_success(), "{bare:?}");
    let mut rita = Tunnel::dig(&world, "rita", &host).await;
    let refused = rita
        .send(
            Request::put(format!("{container}/ritas.py?{signature}")).header("x-ms-blob-type", "BlockBlob"),
            "x",
        )
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    drop((sam, blobs, rita));
    let log = world.stop().await;
    let sig = signature.split('&').find_map(|p| p.strip_prefix("sig=")).unwrap();
    assert!(log.records.iter().all(|r| !r.to_string().contains(sig)), "a signature is a secret");
}

#[tokio::test]
async fn a_host_of_passthrough_is_for_known_callers_and_no_tunnel_is_recorded_that_did_not_open() {
    // A host of our own, reached by name: no address of this machine may be reached through the proxy.
    let configuration = [(
        "    interception_ca:",
        "    passthrough: [localhost.example, login.microsoftonline.com]\n    interception_ca:",
    )];
    let world = World::changed(Changes { configuration: &configuration, ..Changes::default() }).await;
    let (status, ..) = ask(&world, "login.microsoftonline.com:443", "1.1", "").await;
    assert_eq!(status, 407, "an open relay serves nobody");
    let who = basic(&token(&world, "sam"));
    let (status, head, stream) = ask(&world, "localhost.example:443", "1.1", &who).await;
    assert_eq!(status, 502, "{head}");
    assert!(said(&head, stream).await.contains("cannot be reached"), "{head}");
    let log = world.stop().await;
    assert!(log.events("tunnel_opened").is_empty() && log.events("tunnel_ended").is_empty());
}

#[tokio::test]
async fn an_origin_form_request_is_told_what_this_is() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.server.forward().unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("HTTPS_PROXY"), "{answer}");
}

/// The SDK fetches it without a token, at the address that the workspace names.
#[tokio::test]
async fn the_discovery_document_in_a_tunnel_keeps_azures_own_names() {
    let world = World::new().await;
    let host = format!("{}.api.azureml.ms", names::REGION);
    let mut tunnel = Tunnel::dig(&world, "sam", &host).await;
    let answer = tunnel.get("/discovery").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.json()["api"], format!("https://{host}"));
    assert_eq!(answer.json()["history"], format!("https://{host}"));
}

#[tokio::test]
async fn clients_learn_which_azure_is_behind_the_gate_before_anybody_signed_in() {
    let world = World::new().await;
    // At its own address the gate is Resource Manager: what `az cloud register` asks.
    let here = world.nobody().get("/metadata/endpoints?api-version=2022-09-01").await;
    assert_eq!(here.status, StatusCode::OK, "{here:?}");
    assert_eq!(here.json()["resourceManager"], format!("https://{}", world.host()));
    // What `az login` brings from there is a token that the gate takes.
    assert_eq!(here.json()["authentication"]["audiences"][0], names::GATE_CLIENT);
    assert_eq!(here.json()["suffixes"]["storage"], "core.windows.net");
    // Azure ML's own clients ask an older version, which is a list.
    let listed = world.nobody().get("/metadata/endpoints?api-version=2019-05-01").await;
    assert_eq!(listed.json()[0], here.json());
    // In a tunnel Azure has its own names.
    let mut sam = Tunnel::dig(&world, "sam", ARM).await;
    let through = sam.get("/metadata/endpoints?api-version=2019-05-01").await;
    assert_eq!(through.json()[0]["resourceManager"], "https://management.azure.com");
    // Nothing else is told to nobody.
    for path in ["/metadata", "/metadata/endpointsx", "/metadata/endpoints/x"] {
        assert_ne!(world.nobody().get(path).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn code_that_insists_on_entra_gets_a_placeholder_and_everybody_else_is_told_how_to_sign_in() {
    let world = World::new().await;
    let mut sam = Tunnel::dig(&world, "sam", "login.microsoftonline.com").await;
    let tenant = names::TENANT;
    let found = sam.get(&format!("/{tenant}/v2.0/.well-known/openid-configuration")).await.json();
    let endpoint = found["token_endpoint"].as_str().unwrap().to_owned();
    assert_eq!(endpoint, format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"));
    let instance = sam.get("/common/discovery/instance?api-version=1.1").await.json();
    assert_eq!(instance["metadata"][0]["aliases"][0], "login.microsoftonline.com");

    let path = endpoint.strip_prefix("https://login.microsoftonline.com").unwrap();
    let form = |client: &str, more: &str| {
        format!("grant_type=client_credentials&client_id={client}&client_secret=s3cret-of-somebody{more}")
    };
    let scope = "&scope=https%3A%2F%2Fml.azure.com%2F.default";
    let ours = amlgate::placeholder::CLIENT;
    let given = sam.send(Request::post(path), &form(ours, scope)).await;
    assert_eq!(given.status, StatusCode::OK, "{given:?}");
    let placeholder = given.json()["access_token"].as_str().unwrap().to_owned();
    let claims: serde_json::Value = jsonwebtoken::dangerous::insecure_decode(&placeholder).unwrap().claims;
    assert_eq!((&claims["aud"], &claims["tid"]), (&json!("https://ml.azure.com"), &json!(tenant)));
    // It has no authority anywhere.
    assert_eq!(world.bearing(&placeholder).get(&jobs()).await.status, StatusCode::UNAUTHORIZED);

    // Somebody's own application, a double field, a person's password, another page.
    let double = form(ours, &format!("{scope}&client_id={}", names::GATE_CLIENT));
    let password = format!("grant_type=password&client_id={ours}&username=sam&password=x{scope}");
    for (path, form) in [
        (path, form(names::GATE_CLIENT, scope)),
        (path, double),
        (path, password),
        (path, "x".repeat(20_000)),
        ("/common/oauth2/v2.0/devicecode", form(ours, scope)),
    ] {
        let told = sam.send(Request::post(path), &form).await;
        assert_eq!(told.status, StatusCode::BAD_REQUEST, "{path} {told:?}");
        assert_eq!(told.json()["error"], "unauthorized_client");
        assert!(told.json()["error_description"].as_str().unwrap().contains("`amlgate login`"));
        sam = Tunnel::dig(&world, "sam", "login.microsoftonline.com").await;
    }
    // Nobody in particular is answered nothing, and nothing came to Azure's login host.
    let (status, ..) =
        ask(&world, "login.microsoftonline.com:443", "1.1", "Host: login.microsoftonline.com:443\r\n").await;
    assert_eq!(status, 407);
    let forms = world.sandbox.azure.observer().seen_at("/oauth2/");
    assert!(forms.iter().all(|seen| !String::from_utf8_lossy(&seen.body).contains("s3cret-of-somebody")));
    let log = world.stop().await;
    assert!(!format!("{:?}", log.records).contains("s3cret-of-somebody"));
}
