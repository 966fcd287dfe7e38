//! A proxy on the user's own loopback that passes tunnels on to the gate, with a fresh token of the
//! user's on each.
//!
//! `HTTPS_PROXY` is read once, when a program starts; a token in it is old within the hour and can be
//! seen by whoever can see the environment. So programs get the relay's address, and a word that only
//! this user's processes know: other users of the machine reach its loopback too.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{Either, Empty, Full};
use hyper::{body::Incoming, client, server::conn::http1, service::service_fn, upgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{io::copy_bidirectional, net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{ForwardDoor, Key, SessionError, Sessions, Shown, SignIn};
use crate::{
    net::{Connector, Destination, Protocols, Reach, Scheme, Trust},
    placeholder,
    time::SharedClock,
};

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1_024;
/// The largest head of a request to the relay, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// The path of the managed-identity endpoint.
pub(super) const IDENTITY: &str = "/msi/token";

type Body = Either<Incoming, Full<Bytes>>;

/// Whose tokens the relay adds.
#[derive(Debug, Clone)]
pub enum Source {
    /// The signed-in person's.
    Session {
        /// Where sessions are kept.
        sessions: Sessions,
        /// What renews them.
        sign_in: SignIn,
        /// The gate.
        gate: String,
    },
    /// What stands in a file, read for each tunnel: a workload's projected token is replaced there.
    File(std::path::PathBuf),
}

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The gate has no forward proxy.
    #[error("the gate `{0}` has no forward proxy: whoever runs it can add `listen.forward`")]
    NoForward(String),
    /// What the gate says of its forward proxy.
    #[error("the gate names `{0}` as its forward proxy, which is no address")]
    Address(String),
    /// Roots of TLS.
    #[error("the authorities to believe cannot be used")]
    Trust(#[from] crate::net::TrustError),
    /// No port.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A relay that listens.
#[derive(Debug)]
pub struct Relay {
    listener: TcpListener,
    state: Arc<State>,
}

struct State {
    source: Source,
    connector: Connector,
    gate: Destination,
    clock: SharedClock,
    /// What programs say to be let in.
    word: String,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl Relay {
    /// Listens at `address` and passes on to `door`, which `trust` vouches for besides the system.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn listen(
        address: SocketAddr,
        door: &ForwardDoor,
        trust: Option<&str>,
        source: Source,
        connector: Connector,
        clock: SharedClock,
    ) -> Result<Self, RelayError> {
        let wrong = || RelayError::Address(door.address.clone());
        let scheme = if door.tls { "https" } else { "http" };
        let uri: Uri = format!("{scheme}://{}", door.address).parse().map_err(|_| wrong())?;
        let trust = trust.map(|pem| Trust::new(Some(pem.as_bytes()))).transpose()?;
        let to = Destination::of(&uri).ok_or_else(wrong)?;
        // Off this machine a token crosses the network in TLS, or not at all.
        if to.scheme == Scheme::Http && to.reach != Reach::Loopback {
            return Err(wrong());
        }
        let reach = if to.reach == Reach::Loopback { Reach::Loopback } else { Reach::Private };
        let gate = Destination { reach, ..to.trusting(trust) };
        let listener =
            TcpListener::bind(address).await.map_err(|source| RelayError::Listen { address, source })?;
        let word = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self { listener, state: Arc::new(State { source, connector, gate, clock, word }) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What programs say to be let in.
    #[must_use]
    pub fn word(&self) -> &str {
        &self.state.word
    }

    /// Serves until `stop`; open tunnels are cut then.
    pub async fn serve(self, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let tunnels = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            // What the system refuses to one it may give to the next.
            let Ok((stream, _)) = accepted else {
                tokio::task::yield_now().await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let (state, stop) = (Arc::clone(&self.state), stop.clone());
            let inner = tunnels.clone();
            tunnels.spawn(async move {
                let _place = place;
                let ended = stop.clone();
                let service = service_fn(move |request| {
                    let (state, tunnels, stop) = (Arc::clone(&state), inner.clone(), stop.clone());
                    async move { Ok::<_, Infallible>(state.answer(request, &tunnels, stop).await) }
                });
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).max_buf_size(MAX_HEAD);
                let connection = server.serve_connection(TokioIo::new(stream), service).with_upgrades();
                tokio::select! {
                    () = ended.cancelled() => {}
                    // A client that breaks off is its own matter.
                    ended = connection => drop(ended),
                }
            });
        }
        tunnels.close();
        tunnels.wait().await;
    }
}

impl State {
    async fn answer(
        &self,
        request: Request<Incoming>,
        tunnels: &TaskTracker,
        stop: CancellationToken,
    ) -> Response<Body> {
        if request.method() != Method::CONNECT && request.uri().host().is_none() {
            return self.identity(&request);
        }
        if !self.is_let_in(request.headers()) {
            let mut refused = said(
                StatusCode::PROXY_AUTHENTICATION_REQUIRED,
                "this relay is somebody's: start your program with `amlgate run -- COMMAND`, or in a shell that `amlgate env` has set up",
            );
            let realm = HeaderValue::from_static("Basic realm=\"amlgate relay\"");
            refused.headers_mut().insert(header::PROXY_AUTHENTICATE, realm);
            return refused;
        }
        match self.pass_on(request, tunnels, stop).await {
            Ok(response) => response,
            Err(why) => said(StatusCode::BAD_GATEWAY, &why),
        }
    }

    /// Whether a program knows the word: as password, or as user with no password.
    fn is_let_in(&self, headers: &HeaderMap) -> bool {
        let text = headers
            .get(header::PROXY_AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
            .and_then(|(_, rest)| STANDARD.decode(rest.trim()).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((user, password)) = text.as_deref().and_then(|text| text.split_once(':')) else {
            return false;
        };
        let word = if password.is_empty() { user } else { password };
        aws_lc_rs::constant_time::verify_slices_are_equal(word.as_bytes(), self.word.as_bytes()).is_ok()
    }

    /// The token to show, and the key to prove with it if it is bound to one.
    async fn token(&self) -> Result<(SecretString, Option<Arc<Key>>), String> {
        match &self.source {
            Source::Session { sessions, sign_in, gate } => {
                let fresh = sessions.fresh(Some(gate), sign_in, self.clock.now()).await;
                let (_, session) = fresh.map_err(|error: SessionError| error.to_string())?;
                let key = session.tokens.bound.then(|| sessions.key()).transpose();
                Ok((session.tokens.access, key.map_err(|error| error.to_string())?))
            }
            Source::File(path) => {
                let token = crate::secrets::from_file(path).map_err(|error| error.to_string())?;
                Ok((token, None))
            }
        }
    }

    /// Asks the gate what the program asked, in the user's name.
    async fn pass_on(
        &self,
        mut request: Request<Incoming>,
        tunnels: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Response<Body>, String> {
        let (token, key) = self.token().await?;
        let away = |error: io::Error| format!("the gate `{}` cannot be reached: {error}", self.gate);
        let stream = self.connector.dial(&self.gate, Protocols::Http1).await.map_err(away)?;
        let broke = |error: hyper::Error| format!("the gate `{}` broke off: {error}", self.gate);
        let (mut sender, connection) =
            client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        tunnels.spawn(connection.with_upgrades());
        let is_tunnel = request.method() == Method::CONNECT;
        let near = is_tunnel.then(|| upgrade::on(&mut request));
        let (head, body) = request.into_parts();
        let body = if is_tunnel { Either::Left(Empty::<Bytes>::new()) } else { Either::Right(body) };
        let mut asked = Request::new(body);
        if !is_tunnel {
            // What is asked of a plaintext host is the program's own, but for what is between it and here.
            *asked.headers_mut() = onward(head.headers);
        }
        let authority = head.uri.authority().map(|a| a.as_str().to_owned()).unwrap_or_default();
        if let Ok(host) = HeaderValue::try_from(authority) {
            asked.headers_mut().insert(header::HOST, host);
        }
        (*asked.method_mut(), *asked.uri_mut()) = (head.method, head.uri);
        let scheme = if key.is_some() { "DPoP" } else { "Bearer" };
        let shown = zeroize::Zeroizing::new(format!("{scheme} {}", token.expose_secret()));
        let mut shown =
            HeaderValue::try_from(shown.as_str()).map_err(|_| "the token is no header".to_owned())?;
        shown.set_sensitive(true);
        asked.headers_mut().insert(header::PROXY_AUTHORIZATION, shown);
        if let Some(key) = key {
            let url = described(asked.uri()).ok_or("the program asks for no host")?;
            let token = Some(token.expose_secret());
            let shown = Shown { method: asked.method().as_str(), url: &url, token, nonce: None };
            let proof = key.proof(&shown, self.clock.now()).map_err(|error| error.to_string())?;
            asked.headers_mut().insert("dpop", proof);
        }
        let mut answer = sender.send_request(asked).await.map_err(broke)?;
        let Some(near) = near.filter(|_| answer.status().is_success()) else {
            return Ok(answer.map(Either::Left));
        };
        let far = upgrade::on(&mut answer);
        tunnels.spawn(async move {
            // Either side may be gone before the tunnel is there.
            let (Ok(near), Ok(far)) = tokio::join!(near, far) else { return };
            let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
            tokio::select! {
                () = stop.cancelled() => {}
                ended = copy_bidirectional(&mut near, &mut far) => drop(ended),
            }
        });
        Ok(Response::new(Either::Right(Full::default())))
    }

    /// The managed-identity endpoint of App Service, as SDKs ask it.
    fn identity(&self, request: &Request<Incoming>) -> Response<Body> {
        let word = request.headers().get("x-identity-header").map_or(&b""[..], HeaderValue::as_bytes);
        let known = aws_lc_rs::constant_time::verify_slices_are_equal(word, self.word.as_bytes()).is_ok();
        if request.uri().path() != IDENTITY || request.method() != Method::GET {
            return said(StatusCode::NOT_FOUND, "this is a relay to amlgate: it is an HTTPS_PROXY");
        }
        if !known {
            return said(StatusCode::UNAUTHORIZED, "IDENTITY_HEADER is not this relay's");
        }
        let query = request.uri().query().unwrap_or_default();
        let resource = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "resource");
        let Some((_, resource)) = resource else {
            return said(StatusCode::BAD_REQUEST, "`resource` is missing");
        };
        let answer = placeholder::of_machine(&resource, self.tenant().as_deref(), self.clock.now());
        let mut response = Response::new(Either::Right(Full::from(answer.to_string())));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }

    /// The tenant of the person, if an issuer of Entra says it.
    fn tenant(&self) -> Option<String> {
        let Source::Session { sessions, gate, .. } = &self.source else { return None };
        let (_, session) = sessions.find(Some(gate)).ok()?;
        session.tokens.claims().get("tid")?.as_str().map(str::to_owned)
    }
}

/// What a proof says of where a request goes: a tunnel's host and port are a URL's without a path.
fn described(uri: &Uri) -> Option<String> {
    let scheme = uri.scheme_str().unwrap_or("https");
    Some(format!("{scheme}://{}{}", uri.authority()?, if uri.path().is_empty() { "/" } else { uri.path() }))
}

/// Without what is for this hop alone (RFC 9110, 7.6.1): the word among it.
fn onward(mut headers: HeaderMap) -> HeaderMap {
    let listed: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let hop = [
        "connection",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    for name in hop.into_iter().chain(listed.iter().map(String::as_str)) {
        headers.remove(name);
    }
    headers
}

fn said(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::from(format!("amlgate relay: {text}\n"))));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
