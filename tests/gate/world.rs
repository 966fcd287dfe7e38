//! A gate between an issuer and an Azure, with a folder of its own; and callers of it.

use std::{
    fmt, fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use amlgate::{
    audit::{
        Journal,
        storage::{Directory, failing::FailingDirectory},
    },
    config,
    sandbox::{
        Person,
        azure::names,
        home::{Sandbox, SandboxSettings},
        issuer::Forgery,
    },
    server::{Cores, OpenJournal, Server},
    time::{SharedClock, SystemClock},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub const VERSION: &str = "api-version=2025-12-01";

/// The sandbox, and a gate in front of it.
pub struct World {
    pub sandbox: Sandbox,
    pub server: Server,
    pub dir: tempfile::TempDir,
    tls: Arc<ClientConfig>,
}

/// What is changed of the sandbox before its gate starts.
#[derive(Default)]
pub struct Changes<'a> {
    /// Texts of `amlgate.yaml` and what stands there instead; `{identity}` and `{azure}` are the
    /// addresses of the machine's identity endpoint and of Azure.
    pub configuration: &'a [(&'a str, &'a str)],
    /// `policies/sandbox.yaml`.
    pub policies: Option<&'a str>,
}

impl World {
    pub async fn new() -> Self {
        Self::changed(Changes::default()).await
    }

    pub async fn changed(changes: Changes<'_>) -> Self {
        Self::at(changes, Arc::new(SystemClock)).await
    }

    pub async fn at(changes: Changes<'_>, clock: SharedClock) -> Self {
        Self::begin(&changes, None, &[], clock, &|| Box::new(Journal::open)).await
    }

    /// One whose record lies on a disk that fails as it is told.
    pub async fn on_a_failing_disk(changes: Changes<'_>, clock: SharedClock) -> (Self, FailingDirectory) {
        let disk = Arc::new(Mutex::new(None));
        let open = || -> OpenJournal {
            let told = Arc::clone(&disk);
            Box::new(move |settings, thumbprint, clock| {
                fs::create_dir_all(&settings.directory).unwrap();
                let directory = FailingDirectory::of(Directory::at(settings.directory.clone()));
                *told.lock().unwrap() = Some(directory.clone());
                Journal::open_on(directory, settings, thumbprint, clock, None)
            })
        };
        let world = Self::begin(&changes, None, &[], clock, &open).await;
        let disk = disk.lock().unwrap().take().unwrap();
        (world, disk)
    }

    /// One whose gate believes another authority too, given as PEM.
    pub async fn trusting(authority: &str, changes: Changes<'_>) -> Self {
        Self::begin(&changes, Some(authority), &[], Arc::new(SystemClock), &|| Box::new(Journal::open)).await
    }

    /// One in whose folder further files lie, which are for the gate's user alone.
    pub async fn having(files: &[(&str, &str)], changes: Changes<'_>) -> Self {
        Self::having_at(files, changes, Arc::new(SystemClock)).await
    }

    /// The same by another clock.
    pub async fn having_at(files: &[(&str, &str)], changes: Changes<'_>, clock: SharedClock) -> Self {
        Self::begin(&changes, None, files, clock, &|| Box::new(Journal::open)).await
    }

    async fn begin(
        changes: &Changes<'_>,
        also_trusted: Option<&str>,
        files: &[(&str, &str)],
        clock: SharedClock,
        open: &dyn Fn() -> OpenJournal,
    ) -> Self {
        let mut others = 0;
        loop {
            match Self::attempt(changes, also_trusted, files, Arc::clone(&clock), open()).await {
                Ok(world) => return world,
                // Ports are found free and taken a little later: another test may come between.
                Err(error) if error.contains("AddrInUse") && others < 5 => others += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn attempt(
        changes: &Changes<'_>,
        also_trusted: Option<&str>,
        files: &[(&str, &str)],
        clock: SharedClock,
        open: OpenJournal,
    ) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let settings = SandboxSettings::new(dir.path().to_owned(), Arc::clone(&clock));
        let sandbox = Sandbox::start(settings).await.map_err(|error| format!("{error:?}"))?;
        let file = sandbox.configuration();
        let mut text = fs::read_to_string(&file).unwrap();
        for (old, new) in changes.configuration {
            assert!(text.contains(old), "`{old}` is not in the configuration:\n{text}");
            let new = new
                .replace("{identity}", &sandbox.layout.identity_address.to_string())
                .replace("{azure}", &sandbox.layout.azure_address.to_string());
            text = text.replace(old, &new);
        }
        fs::write(&file, text).unwrap();
        if let Some(authority) = also_trusted {
            let all = fs::read_to_string(sandbox.ca()).unwrap() + authority;
            fs::write(sandbox.ca(), all).unwrap();
        }
        for (name, content) in files {
            keep(&dir.path().join(name), content);
        }
        if let Some(policies) = changes.policies {
            fs::write(dir.path().join("policies/sandbox.yaml"), policies).unwrap();
        }
        let settings = config::load(&file).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let server = Server::start_on(settings, clock, Cores::Fixed(1), open).await;
        let server = server.map_err(|error| format!("{error:?}"))?;
        let tls = trusting(&fs::read(sandbox.ca()).unwrap(), &[b"http/1.1"]);
        Ok(Self { sandbox, server, dir, tls })
    }

    /// A caller with the token of one of the sandbox's people.
    pub fn caller(&self, name: &str) -> Caller<'_> {
        let token = self.sandbox.issuer.mint().token(Person::named(name).unwrap()).unwrap();
        self.bearing(&token)
    }

    pub fn forged(&self, name: &str, how: Forgery) -> Caller<'_> {
        let token = self.sandbox.issuer.mint().forge(Person::named(name).unwrap(), how).unwrap();
        self.bearing(&token)
    }

    pub fn bearing(&self, token: &str) -> Caller<'_> {
        Caller { world: self, authorization: Some(format!("Bearer {token}")) }
    }

    pub fn nobody(&self) -> Caller<'_> {
        Caller { world: self, authorization: None }
    }

    /// A TLS connection to the gate.
    pub async fn dial(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.server.reverse().unwrap()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await.unwrap()
    }

    /// The same that speaks HTTP/2.
    pub async fn dial_http2(&self) -> TlsStream<TcpStream> {
        let tls = trusting(&fs::read(self.sandbox.ca()).unwrap(), &[b"h2"]);
        let stream = TcpStream::connect(self.server.reverse().unwrap()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(tls).connect(name, stream).await.unwrap()
    }

    /// A connection to the gate that speaks HTTP/1.1.
    pub async fn connect(&self) -> hyper::client::conn::http1::SendRequest<Sent> {
        let io = TokioIo::new(self.dial().await);
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// A connection to the gate that speaks HTTP/2.
    pub async fn connect_http2(&self) -> hyper::client::conn::http2::SendRequest<Sent> {
        let io = TokioIo::new(self.dial_http2().await);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// The authority that callers name.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.server.reverse().unwrap().port())
    }

    /// The authority of the data plane.
    pub fn data_plane(&self) -> http::HeaderValue {
        format!("ml.{}", self.host()).parse().unwrap()
    }

    /// Stops the gate; what it recorded.
    pub async fn stop(self) -> Log {
        let Self { sandbox, server, dir, .. } = self;
        assert!(server.stop().await, "everything ended and was recorded");
        drop(sandbox);
        Log::read(dir)
    }

    /// The gate stopped and started anew on what it kept.
    pub async fn started_anew(self, clock: SharedClock) -> Self {
        let Self { sandbox, server, dir, tls } = self;
        assert!(server.stop().await, "everything ended and was recorded");
        let server = started_again(&sandbox, clock).await;
        Self { sandbox, server, dir, tls }
    }

    pub fn directory(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

/// The sandbox's gate, once more. While none runs, its ports may be given to any other test, which has
/// them for a moment.
pub async fn started_again(sandbox: &Sandbox, clock: SharedClock) -> Server {
    let settings = config::load(&sandbox.configuration()).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let listeners = [
        settings.reverse.as_ref().map(|listener| listener.address),
        settings.forward.as_ref().map(|listener| listener.address),
        settings.admin.as_ref().map(|listener| listener.address),
        settings.health,
    ];
    let free = async {
        while listeners.iter().flatten().any(|address| std::net::TcpListener::bind(address).is_err()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), free).await.expect("its ports are free again");
    Server::start(settings, clock, Cores::Fixed(1)).await.unwrap()
}

/// Writes a secret as the gate demands that secrets are kept.
pub fn keep(path: &Path, content: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
}

fn trusting(ca: &[u8], protocols: &[&[u8]]) -> Arc<ClientConfig> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    Arc::new(config)
}

/// A connection to a gate that speaks HTTP/1.1.
pub async fn connected(ca: &[u8], gate: SocketAddr) -> hyper::client::conn::http1::SendRequest<Sent> {
    let stream = TcpStream::connect(gate).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(trusting(ca, &[b"http/1.1"])).connect(name, stream).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

/// The bodies that callers send.
pub type Sent = BoxBody<Bytes, std::io::Error>;

pub fn whole(body: impl Into<Bytes>) -> Sent {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

/// Somebody who calls the gate.
pub struct Caller<'w> {
    world: &'w World,
    authorization: Option<String>,
}

impl Caller<'_> {
    pub fn request(&self, method: Method, target: &str) -> http::request::Builder {
        let builder = Request::builder().method(method).uri(target).header(header::HOST, self.world.host());
        match &self.authorization {
            Some(value) => builder.header(header::AUTHORIZATION, value),
            None => builder,
        }
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: Request<Sent>) -> Answer {
        Answer::of(self.open(request).await).await
    }

    /// Sends a request; the answer's body is the caller's to read.
    pub async fn open(&self, request: Request<Sent>) -> http::Response<Incoming> {
        self.world.connect().await.send_request(request).await.unwrap()
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send(self.request(Method::GET, target).body(whole("")).unwrap()).await
    }

    pub async fn delete(&self, target: &str) -> Answer {
        self.send(self.request(Method::DELETE, target).body(whole("")).unwrap()).await
    }

    pub async fn put(&self, target: &str, body: &Value) -> Answer {
        self.json(Method::PUT, target, body).await
    }

    pub async fn post(&self, target: &str, body: &Value) -> Answer {
        self.json(Method::POST, target, body).await
    }

    async fn json(&self, method: Method, target: &str, body: &Value) -> Answer {
        let request = self.request(method, target).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(whole(body.to_string())).unwrap()).await
    }
}

/// A whole answer.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub async fn of(response: http::Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self { status: head.status, headers: head.headers, body }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?} is JSON"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, self.text())
    }
}

/// What a gate recorded.
pub struct Log {
    pub records: Vec<Value>,
    pub dir: tempfile::TempDir,
}

impl Log {
    fn read(dir: tempfile::TempDir) -> Self {
        let storage = amlgate::audit::storage::Directory::at(dir.path().join("var/audit"));
        let mut reader = amlgate::audit::read::Reader::new(storage);
        let mut records = Vec::new();
        while let Some(record) = reader.record().unwrap() {
            records.push(serde_json::from_slice(&record.line).unwrap());
        }
        Self { records, dir }
    }

    /// The gate's own part of the records of an event, in order.
    pub fn events(&self, event: &str) -> Vec<&Value> {
        let own = self.records.iter().map(|r| &r["unmapped"]["amlgate"]);
        own.filter(|own| own["event"] == event).collect()
    }

    /// The records of requests, in order.
    pub fn requests(&self) -> Vec<&Value> {
        self.records.iter().filter(|r| r["class_uid"] == 6003).collect()
    }
}

/// Paths below the sandbox's workspace.
pub fn workspace(rest: &str) -> String {
    format!("{}{rest}", names::workspace_id(names::WORKSPACE))
}

/// A command job that Azure takes.
pub fn job() -> Value {
    serde_json::json!({"properties": {
        "jobType": "Command",
        "command": "python train.py",
        "experimentName": "churn",
        "environmentId": workspace("/environments/sklearn/versions/1"),
        "computeId": workspace("/computes/cpu-cluster"),
    }})
}

/// Runs a command to its end with something on its standard input.
pub fn fed(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}
