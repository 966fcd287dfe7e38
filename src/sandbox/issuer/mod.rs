//! The development OIDC issuer: discovery, keys with rotation, authorization code with PKCE, device
//! code, client credentials.
//!
//! Its tokens have the plain OIDC shape that Keycloak, Dex or GitHub issue. It asks for no
//! password: the login page offers the people of the sandbox, which is why it listens on loopback
//! only.

mod flows;
mod mint;
mod pages;
mod proof;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router, middleware,
    routing::{get, post},
};

pub use mint::{Forgery, Mint};

use super::{KeyRing, Observer, Person, SandboxCa, SandboxError, SigningKey, observe, serve::Server};
use crate::time::SharedClock;

/// What an issuer is started with.
#[derive(Debug)]
pub struct IssuerSettings {
    /// Time: token lifetimes and code expiry are judged by it.
    pub clock: SharedClock,
    /// Who signs its server certificate.
    pub ca: Arc<SandboxCa>,
    /// A loopback address.
    pub bind: IpAddr,
    /// 0: any free port.
    pub port: u16,
    /// The `aud` of access tokens.
    pub audience: String,
    /// How long access tokens live.
    pub lifetime: Duration,
    /// The first signing key; a new one if none.
    pub key: Option<SigningKey>,
}

impl IssuerSettings {
    /// Any free port on 127.0.0.1, audience `amlgate`, tokens of an hour.
    #[must_use]
    pub fn new(clock: SharedClock, ca: Arc<SandboxCa>) -> Self {
        Self {
            clock,
            ca,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            audience: "amlgate".to_owned(),
            lifetime: Duration::from_secs(3_600),
            key: None,
        }
    }
}

/// A running development issuer; stops when dropped.
#[derive(Debug)]
pub struct DevelopmentIssuer {
    server: Server,
    mint: Arc<Mint>,
    observer: Observer,
}

impl DevelopmentIssuer {
    /// Starts it.
    ///
    /// # Errors
    /// [`SandboxError`] if the address is not loopback or taken, or a key cannot be made.
    pub async fn start(settings: IssuerSettings) -> Result<Self, SandboxError> {
        let keys = KeyRing::new(settings.key.map_or_else(SigningKey::generate, Ok)?);
        let tls = settings.ca.server(&["localhost", "127.0.0.1", "::1"])?;
        let observer = Observer::new(Arc::clone(&settings.clock));
        let mint = Arc::new(Mint::new(
            Arc::new(keys),
            settings.audience,
            settings.lifetime,
            Arc::clone(&settings.clock),
        ));
        let state = Arc::new(flows::Flows::new(Arc::clone(&mint), settings.clock));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(flows::discovery))
            .route("/.well-known/oauth-authorization-server", get(flows::discovery))
            .route("/keys", get(flows::keys))
            .route("/authorize", get(flows::ask).post(flows::choose))
            .route("/logout", get(flows::log_out))
            .route("/device_authorization", post(flows::begin_device))
            .route("/device", get(flows::ask_device).post(flows::choose_device))
            .route("/token", post(flows::token))
            .route("/userinfo", get(flows::userinfo))
            .with_state(state)
            .layer(middleware::from_fn_with_state(observer.clone(), observe::layer));
        let server = Server::start(settings.bind, settings.port, Some(tls), router).await?;
        mint.settle(&format!("https://localhost:{}", server.address().port()));
        Ok(Self { server, mint, observer })
    }

    /// The issuer's identifier: `https://localhost:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.mint.issuer()
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Mints tokens without a login.
    #[must_use]
    pub fn mint(&self) -> &Mint {
        &self.mint
    }

    /// Its keys; hand them to the simulated Entra for federated credentials.
    #[must_use]
    pub fn keys(&self) -> Arc<KeyRing> {
        self.mint.keys()
    }

    /// A token for the person called `name`.
    ///
    /// # Errors
    /// [`SandboxError::Nobody`], or [`SandboxError::Token`].
    pub fn token(&self, name: &str) -> Result<String, SandboxError> {
        self.mint.token(Person::named(name).ok_or_else(|| SandboxError::Nobody(name.to_owned()))?)
    }

    /// Puts a new signing key before the old one, which stays published until the next rotation.
    ///
    /// # Errors
    /// [`SandboxError::Certificate`].
    pub fn rotate(&self) -> Result<(), SandboxError> {
        self.mint.keys().rotate()
    }

    /// The requests that reached it, and faults to put in their way.
    #[must_use]
    pub const fn observer(&self) -> &Observer {
        &self.observer
    }
}
