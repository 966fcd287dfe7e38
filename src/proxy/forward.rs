//! The forward proxy: which tunnels are dug, for whom, and what happens inside.
//!
//! A tunnel to a host that a route names is accepted and its TLS ended here, so that each request in
//! it is judged like any other and a refusal is explained in the protocol that the client speaks:
//! clients show nothing of a refused CONNECT but its status line (DECISIONS 20). A host of
//! `passthrough` is tunnelled untouched, and the tunnel recorded. A request by its absolute `http://`
//! URL is judged where a route's upstream is plaintext. Every other host is refused at once, and with
//! it whatever addresses are written as numbers: instance metadata, loopback, private ones.

mod login;
mod reading;
mod refusal;
mod strangers;

use std::{net::IpAddr, rc::Rc, sync::Arc};

use http::{HeaderValue, Method, Request, Response, header, request::Parts};
use hyper::body::Incoming;

pub use self::strangers::{Stranger, Strangers};
use self::{
    login::LoginHost,
    reading::{authorization, is_inside, is_named, target},
    refusal::NoTunnel,
};
use super::{
    Core, Door, Gate, discovery, passthrough,
    possession::{self, Described, Shown, Urls},
    respond::Refusal,
    serve_through,
};
use crate::{
    audit::event::{Event, Tunnel as Passed},
    http::{Body, Connection},
    identity::{
        BadCertificate, ConnectionMemo, PeerCertificate, Principal, Reason, bearer,
        dpop::{BadProof, Unproven},
    },
    listen::{Handler, Inside},
    net::{Connector, Destination, Reach, Scheme},
};

/// What is tunnelled, and who may ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TunnelSettings {
    /// Hosts, or `*.` and a domain, that are tunnelled untouched.
    pub passthrough: Vec<Box<str>>,
    /// How callers may say who they are.
    pub identities: Identities,
    /// Login hosts in whose place the gate answers.
    pub answered: Vec<Box<str>>,
}

/// How the caller of a tunnel may say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identities {
    /// By `Proxy-Authorization`: Bearer, or Basic with the token as password.
    pub proxy_authorization: bool,
    /// By the bearer token of each request inside.
    pub inner: bool,
    /// By a certificate on the TLS of the proxy's own port.
    pub certificate: bool,
}

impl Default for Identities {
    fn default() -> Self {
        Self { proxy_authorization: true, inner: false, certificate: false }
    }
}

/// A tunnel that was accepted, or one request by its absolute URL.
#[derive(Debug)]
pub struct Tunnel {
    /// What is spoken to the host.
    pub scheme: Scheme,
    /// The host that it leads to, in lower case.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// `Bearer TOKEN` (or `DPoP TOKEN`) of whoever asked for it, if they said so.
    pub authorization: Option<HeaderValue>,
    /// The certificate of whoever asked for it.
    shown: Result<Option<PeerCertificate>, BadCertificate>,
    /// The key that they proved when they asked.
    proven: Result<Box<str>, Unproven>,
    /// That nobody said so yet.
    pub stranger: Option<Stranger>,
}

impl Tunnel {
    /// The certificate of whoever asked for it, if it still stands.
    pub(super) fn certificate(
        &self,
        gate: &Gate,
    ) -> Result<Option<PeerCertificate>, (Refusal, &'static str)> {
        let Some(shown) = self.shown.as_ref().map_err(|why| possession::bad_certificate(*why))? else {
            return Ok(None);
        };
        shown.stands(gate.now()).map_err(possession::bad_certificate)?;
        Ok(Some(shown.clone()))
    }

    /// The thumbprint of the key that they proved when they asked.
    pub(super) fn key(&self) -> Result<Box<str>, Unproven> {
        self.proven.clone()
    }
}

/// One core of the forward proxy.
#[derive(Debug, Clone)]
pub struct Forward {
    core: Core,
    inside: Rc<Inside>,
    connector: Connector,
    strangers: Strangers,
}

impl Forward {
    /// A proxy whose tunnels are served by `inside`; `connector` dials what passes untouched, and
    /// `strangers` is shared by its cores.
    #[must_use]
    pub fn new(core: Core, inside: Inside, connector: Connector, strangers: Strangers) -> Self {
        Self { core, inside: Rc::new(inside), connector, strangers }
    }

    async fn asked(
        &self,
        connection: &Rc<Connection<ConnectionMemo>>,
        head: &Parts,
    ) -> Result<Response<Body>, NoTunnel> {
        if head.method != Method::CONNECT {
            return Err(NoTunnel::Itself);
        }
        let (host, port) = head.uri.authority().and_then(target).ok_or(NoTunnel::Target)?;
        let gate = self.core.gate();
        let tunnels = &gate.parts().tunnels;
        if gate.parts().routes.tunnels_to(&host, port) {
            let Identities { inner, certificate, .. } = tunnels.identities;
            let authorization = match authorization(&head.headers, tunnels.identities) {
                Err("no_credentials") if inner || certificate => None,
                Err(why) => return Err(NoTunnel::Nobody(why)),
                Ok(header) => Some(header),
            };
            let shown = possession::own(&gate, connection);
            let proven = match &authorization {
                Some(header) => proven(&gate, header, head, &host, port),
                None => Err(BadProof::Absent.into()),
            };
            let is_named = authorization.is_some() || (certificate && matches!(shown, Ok(Some(_))));
            let stranger = if is_named {
                None
            } else {
                Some(self.strangers.admit(connection.peer.ip()).ok_or(NoTunnel::Strangers)?)
            };
            let (scheme, host) = (Scheme::Https, host.into());
            let tunnel = Tunnel { scheme, host, port, authorization, shown, proven, stranger };
            self.intercept(connection, tunnel);
            return Ok(Response::new(Body::Empty));
        }
        if port == 443 && tunnels.answered.iter().any(|known| **known == *host) {
            self.known(&gate, connection, head, &host, port).await?;
            let host: Arc<str> = host.into();
            let handler = LoginHost { core: self.core.clone(), host: Arc::clone(&host) };
            self.end_tls(connection, host, handler, std::future::pending());
            return Ok(Response::new(Body::Empty));
        }
        if port == 443 && tunnels.passthrough.iter().any(|known| is_named(&host, known)) {
            let principal = self.known(&gate, connection, head, &host, port).await?;
            return self.pass(&gate, connection, principal, &host, port).await;
        }
        Err(if is_inside(&host) { NoTunnel::Inside(host) } else { NoTunnel::Host(host) })
    }

    /// A request by its absolute URL, in plaintext: for routes whose upstream is plaintext, judged and
    /// recorded like any other (RFC 9112, 3.2.2). Instance metadata is asked for in this form.
    fn plain(
        &self,
        connection: &Connection<ConnectionMemo>,
        request: &mut Request<Incoming>,
    ) -> Result<Tunnel, NoTunnel> {
        let (host, port) = reading::plain(request.uri()).ok_or(NoTunnel::Target)?;
        let gate = self.core.gate();
        if !gate.parts().routes.lead_to(Scheme::Http, &host, port) {
            return Err(if is_inside(&host) { NoTunnel::Inside(host) } else { NoTunnel::Plaintext(host) });
        }
        if request.headers().contains_key("metadata") {
            return Err(NoTunnel::Metadata(host));
        }
        let identities = gate.parts().tunnels.identities;
        let authorization = match authorization(request.headers(), identities) {
            Err("no_credentials") if identities.inner || identities.certificate => None,
            Err(why) => return Err(NoTunnel::Nobody(why)),
            Ok(header) => Some(header),
        };
        // The URL says which host is meant; `Host` is what HTTP/1.0 lacks.
        if !request.headers().contains_key(header::HOST)
            && let Some(named) = request.uri().authority()
        {
            let named = HeaderValue::from_str(named.as_str()).map_err(|_| NoTunnel::Target)?;
            request.headers_mut().insert(header::HOST, named);
        }
        let shown = possession::own(&gate, connection);
        // A token that is bound to a key is for tunnels: nobody proves it over plaintext.
        let proven = Err(BadProof::Absent.into());
        // One request is all that there is of it.
        let (scheme, host, stranger) = (Scheme::Http, host.into(), None);
        Ok(Tunnel { scheme, host, port, authorization, shown, proven, stranger })
    }

    /// Says why not, where whoever runs the gate sees it too.
    fn refused(&self, peer: IpAddr, refusal: &NoTunnel) -> Response<Body> {
        metrics::counter!("amlgate_tunnels_total", "result" => refusal.reason()).increment(1);
        if let NoTunnel::Host(host) = refusal {
            tracing::info!(%host, %peer, "a tunnel is refused: no route and no passthrough has this host");
        }
        self.core.gate().parts().journal.refused(peer, refusal.reason());
        refusal.answer()
    }

    fn intercept(&self, connection: &Rc<Connection<ConnectionMemo>>, tunnel: Tunnel) {
        let (host, tunnel) = (Arc::clone(&tunnel.host), Rc::new(tunnel));
        let handler = Tunnelled { core: self.core.clone(), tunnel: Rc::clone(&tunnel) };
        let clock = Arc::clone(&self.core.gate().parts().clock);
        let patience = async move {
            if tunnel.stranger.is_some() {
                clock.sleep(strangers::PATIENCE).await;
            }
            if tunnel.stranger.as_ref().is_none_or(|stranger| !stranger.waits()) {
                std::future::pending::<()>().await;
            }
        };
        self.end_tls(connection, host, handler, patience);
    }

    /// Ends TLS in the tunnel, once the answer is sent, and serves what comes until `patience` ends.
    fn end_tls<H: Handler + 'static>(
        &self,
        connection: &Rc<Connection<ConnectionMemo>>,
        host: Arc<str>,
        handler: H,
        patience: impl Future<Output = ()> + 'static,
    ) {
        let upgraded = connection.upgraded();
        let (inside, core, peer) = (Rc::clone(&self.inside), self.core.clone(), connection.peer);
        let tasks = connection.tasks().clone();
        connection.tasks().spawn_local(async move {
            // The client went away before the tunnel was there.
            let Ok(upgraded) = upgraded.await else { return };
            let served = tokio::select! {
                served = inside.serve(upgraded, &host, peer, tasks, handler) => served,
                () = patience => Err("unknown_caller"),
            };
            if let Err(why) = served {
                core.gate().parts().journal.refused(peer.ip(), why);
            }
        });
    }

    /// Whose token or certificate it is. Nothing can be explained inside a tunnel that passes
    /// untouched, so that what is not accepted is nothing.
    async fn known(
        &self,
        gate: &Gate,
        connection: &Connection<ConnectionMemo>,
        head: &Parts,
        host: &str,
        port: u16,
    ) -> Result<Principal, NoTunnel> {
        let identities = gate.parts().tunnels.identities;
        let shown = possession::own(gate, connection).map_err(|why| NoTunnel::Nobody(why.name()))?;
        let header = match (authorization(&head.headers, identities), &shown) {
            (Err("no_credentials"), Some(certificate)) if identities.certificate => {
                return possession::holder(certificate)
                    .map_err(|(_, reason)| NoTunnel::Nobody(reason))
                    .and_then(|principal| Self::standing(gate, principal));
            }
            (header, _) => header.map_err(NoTunnel::Nobody)?,
        };
        let verifier = &gate.parts().verifier;
        let recalled = verifier.recall(&mut connection.memory.borrow_mut(), &header);
        let principal = match recalled {
            Some(principal) => principal,
            None => {
                let (_, token) = bearer::credentials(&header).map_err(|why| NoTunnel::Nobody(why.name()))?;
                verifier.present(token).await.map_err(|rejection| {
                    if rejection.reason() == Reason::GroupsUnavailable {
                        NoTunnel::GroupsUnknown
                    } else if rejection.is_outage() {
                        NoTunnel::IssuerDown
                    } else {
                        NoTunnel::Nobody(rejection.reason().name())
                    }
                })?
            }
        };
        let held = Shown { scheme: bearer::scheme(&header), certificate: shown.as_ref() };
        possession::holds(gate, principal, &held, |_| proven(gate, &header, head, host, port))
            .map_err(|(_, reason)| NoTunnel::Nobody(reason))
            .and_then(|principal| Self::standing(gate, principal))
    }

    fn standing(gate: &Gate, principal: Principal) -> Result<Principal, NoTunnel> {
        match super::identify::standing(gate, &principal) {
            Ok(()) => Ok(principal),
            Err((super::respond::Refusal::RevocationsUnknown, _)) => Err(NoTunnel::IssuerDown),
            Err((_, reason)) => Err(NoTunnel::Nobody(reason)),
        }
    }

    /// Connects, records, and copies both ways once the answer is sent.
    async fn pass(
        &self,
        gate: &Gate,
        connection: &Rc<Connection<ConnectionMemo>>,
        principal: Principal,
        host: &str,
        port: u16,
    ) -> Result<Response<Body>, NoTunnel> {
        let to = Destination {
            scheme: Scheme::Https,
            host: host.into(),
            port,
            address: None,
            reach: Reach::Private,
            trust: None,
        };
        let upstream = self
            .connector
            .tunnel(&to)
            .await
            .map_err(|error| NoTunnel::Unreachable(format!("`{host}` cannot be reached: {error}")))?;
        let passed = Passed {
            id: uuid::Uuid::now_v7(),
            caller: principal.id.to_string(),
            peer: connection.peer.ip(),
            host: host.to_owned(),
            port,
        };
        let opened = Event::TunnelOpened(passed.clone());
        gate.parts().journal.happened(&opened).await.map_err(|_| NoTunnel::Unrecorded)?;
        let (caller, gate) = (connection.upgraded(), gate.clone());
        connection.tasks().spawn_local(passthrough::flow(gate, caller, upstream, principal, passed));
        Ok(Response::new(Body::Empty))
    }
}

/// The key that whoever asks for a tunnel proves: once, for the CONNECT and all that follows in the
/// tunnel. What it describes is the method `CONNECT` and `https://HOST:PORT`.
fn proven(
    gate: &Gate,
    header: &HeaderValue,
    head: &Parts,
    host: &str,
    port: u16,
) -> Result<Box<str>, Unproven> {
    let Ok((bearer::Scheme::Dpop, token)) = bearer::credentials(header) else {
        return Err(BadProof::Absent.into());
    };
    let urls = Urls::At { host, port, path: "/" };
    let described = Described { method: &head.method, headers: &head.headers, urls };
    possession::proven_key(gate, None, token, &described)
}

impl Handler for Forward {
    type Memory = ConnectionMemo;

    async fn handle(
        &self,
        connection: &Rc<Connection<ConnectionMemo>>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let peer = connection.peer.ip();
        if request.method() != Method::CONNECT && request.uri().host().is_some() {
            let mut request = request;
            return match self.plain(connection, &mut request) {
                Ok(tunnel) => {
                    serve_through(&self.core.gate(), connection, request, Door::Tunnel(&tunnel)).await
                }
                Err(refusal) => self.refused(peer, &refusal),
            };
        }
        let (head, _body) = request.into_parts();
        if head.uri.host().is_none()
            && let Some(document) = discovery::own(&self.core.gate(), &head.method, head.uri.path())
        {
            return document;
        }
        match self.asked(connection, &head).await {
            Ok(accepted) => {
                metrics::counter!("amlgate_tunnels_total", "result" => "accepted").increment(1);
                accepted
            }
            Err(refusal) => self.refused(peer, &refusal),
        }
    }

    fn rejected(&self, peer: IpAddr, why: &'static str) {
        self.core.gate().parts().journal.refused(peer, why);
    }
}

/// Requests inside a tunnel whose TLS is ended here.
#[derive(Debug, Clone)]
struct Tunnelled {
    core: Core,
    tunnel: Rc<Tunnel>,
}

impl Handler for Tunnelled {
    type Memory = ConnectionMemo;

    async fn handle(
        &self,
        connection: &Rc<Connection<ConnectionMemo>>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let stranger = self.tunnel.stranger.as_ref();
        if stranger.is_some_and(Stranger::had_its_request) {
            return NoTunnel::Nobody("unknown_caller").answer();
        }
        let http1 = request.version() < http::Version::HTTP_2;
        let mut response =
            serve_through(&self.core.gate(), connection, request, Door::Tunnel(&self.tunnel)).await;
        if let Some(stranger) = stranger {
            stranger.answered();
            // HTTP/2 has no such word; what comes next there is refused above.
            if stranger.had_its_request() && http1 {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        response
    }

    fn rejected(&self, peer: IpAddr, why: &'static str) {
        self.core.gate().parts().journal.refused(peer, why);
    }
}
