//! `amlgate.yaml` as it is written: serde only, one optional block per kind, unknown keys refused.
//!
//! Keys of features that are not built yet have the type [`Later`]: they parse, and
//! [`super::load()`] refuses them by name instead of ignoring them.

mod audit;
mod break_glass;
mod callers;
mod cloud;
mod clutch;
mod code_hosts;
mod credentials;
mod evidence;
mod gerrit;
mod hooks;
mod notify;
mod sinks;

use std::collections::BTreeMap;

pub use audit::{Archive, Audit, Git, Retain, Witness, WitnessPlace};
pub use break_glass::{BreakGlass, Confirming};
pub use callers::{
    Accept, Backstage, Certificate, Dpop, Entra, EntraGroups, Issuer, Link, Oidc, People, Spiffe,
};
pub use cloud::{Cloud, CloudTable};
pub use clutch::{Check, Clutch};
pub use credentials::{
    AssertingIdentity, ClientCertificate, Credential, ManagedIdentity, OnBehalfOf, WorkloadIdentity,
};

use serde::Deserialize;

pub use self::code_hosts::{CodeHost, HostAccount};
pub use self::evidence::Evidence;
pub use self::gerrit::{Accounts, Gerrit, Watch};
pub use self::hooks::{AzureEvents, Hook};
pub use self::notify::{Channel, ChatHook, SignedHook};
pub use self::sinks::{ApplicationInsights, AzureMonitor, FileSink, Otlp, Sink, SplunkHec, Syslog, Webhook};
use crate::yaml::Spanned;

/// A key whose feature is not in this version.
pub type Later = Option<Spanned<serde::de::IgnoredAny>>;
/// A string with its place.
pub type Text = Spanned<String>;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The format's version: 1.
    pub version: Spanned<u32>,
    /// Where the gate listens.
    pub listen: Spanned<Listen>,
    /// Who vouches for callers.
    #[serde(default)]
    pub issuers: Vec<Spanned<Issuer>>,
    /// Who the gate is towards Azure.
    #[serde(default)]
    pub credentials: Vec<Spanned<Credential>>,
    /// What is forwarded where.
    #[serde(default)]
    pub routes: Vec<Spanned<Route>>,
    /// The folder of policies.
    pub policies: Text,
    /// The record.
    pub audit: Spanned<Audit>,
    /// What the gate signs with.
    pub keys: Spanned<Keys>,
    /// The gate's own way out.
    pub outgoing: Option<Spanned<Outgoing>>,
    /// Which Azure.
    pub cloud: Option<Spanned<Cloud>>,
    /// Bounds.
    pub limits: Option<Spanned<Limits>>,
    /// Times.
    pub timeouts: Option<Spanned<Timeouts>>,
    /// Live streams.
    pub streams: Option<Spanned<Streams>>,
    /// Logs.
    pub telemetry: Option<Spanned<Telemetry>>,
    /// The same human under several issuers.
    pub people: Option<Spanned<People>>,
    /// Where state is kept that replicas share.
    pub store: Option<Spanned<Store>>,
    /// Messages where people are.
    #[serde(default)]
    pub notify: Vec<Spanned<Channel>>,
    /// A Clutch: whose workflows ask for approvals, and whose opinion is asked.
    pub clutch: Option<Spanned<Clutch>>,
    /// Who is asked whether code was reviewed.
    #[serde(default)]
    pub gerrit: Vec<Spanned<Gerrit>>,
    /// Where Azure tells of models and runs.
    #[serde(default)]
    pub azure_events: Vec<Spanned<AzureEvents>>,
    /// GitHubs that are asked whether code was reviewed.
    #[serde(default)]
    pub github: Vec<Spanned<CodeHost>>,
    /// GitLabs likewise.
    #[serde(default)]
    pub gitlab: Vec<Spanned<CodeHost>>,
    /// Who may do in an emergency what is forbidden otherwise.
    pub break_glass: Option<Spanned<BreakGlass>>,
    /// Statements of where models came from.
    pub evidence: Option<Spanned<Evidence>>,
}

/// `listen`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// The reverse proxy.
    pub reverse: Option<Spanned<Reverse>>,
    /// Behind `HTTPS_PROXY`.
    pub forward: Option<Spanned<Forward>>,
    /// API, health and metrics.
    pub admin: Option<Spanned<Admin>>,
    /// `/healthz`, `/readyz`, `/metrics` only.
    pub health: Option<Spanned<Health>>,
}

/// `listen.reverse`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reverse {
    /// `host:port`; `[::]` is dual stack.
    pub address: Text,
    /// How callers reach it: the base of rewritten URLs.
    pub public_url: Text,
    /// Certificate and key.
    pub tls: Option<Spanned<Tls>>,
    /// Needed to listen in plaintext off loopback.
    #[serde(default)]
    pub insecure_plaintext: bool,
    /// Peers whose `X-Forwarded-For` is believed, and whose word on certificates.
    #[serde(default)]
    pub trusted_proxies: Vec<Spanned<TrustedProxy>>,
    /// Whether trusted peers speak the PROXY protocol.
    #[serde(default)]
    pub proxy_protocol: bool,
}

/// One of `trusted_proxies`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum TrustedProxy {
    /// An address or network.
    Network(String),
    /// One that ends TLS and passes certificates on.
    Terminator(Terminator),
}

/// One of `trusted_proxies` that ends TLS and passes certificates on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terminator {
    /// An address or network.
    pub peer: String,
    /// `client_cert` (RFC 9440) or `xfcc` (Envoy).
    pub certificate_header: String,
    /// How the peer is known to be the terminator.
    pub authenticated_by: AuthenticatedBy,
}

/// How a terminator is known.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum AuthenticatedBy {
    /// `network`: by its address.
    Word(String),
    /// By its own certificate.
    Certificate {
        /// An issuer with `certificate`.
        issuer: String,
        /// Its subject there.
        subject: String,
    },
}

/// `listen.forward`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// `host:port`; `[::]` is dual stack.
    pub address: Text,
    /// Certificate and key of the proxy itself.
    pub tls: Option<Spanned<Tls>>,
    /// Needed to listen in plaintext off loopback.
    #[serde(default)]
    pub insecure_plaintext: bool,
    /// Mints certificates for the hosts of routes.
    pub interception_ca: Spanned<InterceptionCa>,
    /// Hosts that are tunnelled untouched.
    #[serde(default)]
    pub passthrough: Vec<Text>,
    /// How callers may say who they are.
    pub identity: Option<Vec<Text>>,
    /// What becomes of Azure's login host: `refuse`, `passthrough` or `answer`.
    pub login: Option<Text>,
}

/// `interception_ca`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterceptionCa {
    /// PEM.
    pub certificate: Text,
    /// Its key.
    pub private_key: Spanned<Reference>,
    /// Authorities that clients are told to trust besides, during a rotation.
    #[serde(default)]
    pub also_trust: Vec<Text>,
}

/// `listen.admin`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// `host:port`.
    pub address: Text,
    /// How people reach it.
    pub public_url: Option<Text>,
    /// Certificate and key; needed off loopback.
    pub tls: Option<Spanned<Tls>>,
    /// Browsers sign in here.
    pub sign_in: Option<Spanned<SignIn>>,
    /// Whether the console and the API are a path of the reverse listener, too.
    pub on_reverse: Option<Spanned<bool>>,
}

/// `listen.admin.sign_in`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The issuer at which people sign in.
    pub issuer: Text,
    /// The client that the gate is to it; the issuer's own `client_id` by default.
    pub client_id: Option<Text>,
    /// The client's secret, for an issuer that demands one.
    pub client_secret: Option<Spanned<Reference>>,
    /// What to ask for; the issuer's own `scopes` by default.
    pub scopes: Option<Vec<Text>>,
    /// A session that nobody uses ends after this.
    pub idle: Option<Text>,
    /// Any session ends after this.
    pub max_age: Option<Text>,
}

/// `listen.health`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// `host:port`.
    pub address: Text,
}

/// A server certificate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM chain, leaf first.
    pub certificate: Text,
    /// Its key.
    pub private_key: Spanned<Reference>,
    /// Authorities of which clients are asked for a certificate, PEM.
    pub client_ca: Option<Text>,
}

/// Where a secret is found.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// In an environment variable.
    pub env: Option<Text>,
    /// In a file.
    pub file: Option<Text>,
    /// In a vault.
    pub key_vault: Option<Spanned<VaultReference>>,
}

/// A secret in Key Vault.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultReference {
    /// `https://NAME.vault.azure.net`.
    pub vault: Text,
    /// The secret's name.
    pub secret: Text,
    /// The credential that opens the vault; the first that needs no vault itself if none.
    pub credential: Option<Text>,
    /// Connect here instead of resolving the name.
    pub address: Option<Text>,
    /// Extra roots.
    pub trust: Option<Spanned<Trust>>,
}

/// Extra roots.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// PEM file, besides the system's roots.
    pub ca: Text,
}

/// One of `routes`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name in policies and records.
    pub name: Text,
    /// `https://host[:port]`.
    pub upstream: Text,
    /// Path prefixes of the reverse listener.
    #[serde(default)]
    pub paths: Vec<Text>,
    /// Host names of the reverse listener.
    #[serde(default)]
    pub hosts: Vec<Text>,
    /// What it speaks.
    pub protocol: Spanned<crate::azureml::Protocol>,
    /// One credential, or one per kind of operation.
    pub credential: Option<Spanned<CredentialChoice>>,
    /// The ARM id that `scope` compares with, where the host does not say.
    pub resource: Option<Text>,
    /// How an inference endpoint authenticates the gate.
    pub auth: Option<Text>,
    /// Connect here instead of resolving the name.
    pub address: Option<Text>,
    /// Extra roots.
    pub trust: Option<Spanned<Trust>>,
}

/// `credential` of a route.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum CredentialChoice {
    /// The same for everything.
    One(String),
    /// By kind of operation, `default` for the rest; under `subscriptions` by subscription first.
    Several(BTreeMap<String, CredentialFor>),
}

/// A value in `credential` of a route.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum CredentialFor {
    /// A credential, for a kind of operation.
    One(String),
    /// Under `subscriptions`: by the subscription's id.
    Subscriptions(BTreeMap<String, SubscriptionChoice>),
}

/// `credential` of a route, for one subscription.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum SubscriptionChoice {
    /// The same for everything.
    One(String),
    /// By kind of operation; `default` for the rest.
    ByKind(BTreeMap<String, String>),
}

/// `outgoing`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outgoing {
    /// `http://host:port`.
    pub proxy: Option<Text>,
    /// Hosts, suffixes (`.corp`) and addresses that are dialled directly.
    #[serde(default)]
    pub no_proxy: Vec<Text>,
}

/// `store`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// A file of this machine.
    pub sqlite: Option<Text>,
    /// A database that replicas share.
    pub postgres: Option<Spanned<Postgres>>,
}

/// `postgres`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// `postgres://user:password@host/database?sslmode=verify-full`.
    pub url: Spanned<Reference>,
}

/// `keys`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The first signs, all verify.
    pub seal: Vec<Spanned<Reference>>,
}

/// `limits`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a judged body.
    pub inspected_body: Option<Text>,
    /// Bytes that are kept of a recorded body.
    pub recorded_body: Option<Text>,
    /// Bytes that copies of bodies under way may take together.
    pub recorded_bodies: Option<Text>,
    /// Connections in all.
    pub connections: Option<Spanned<usize>>,
    /// Connections of one peer.
    pub connections_per_peer: Option<Spanned<usize>>,
    /// Remembered tokens.
    pub remembered_tokens: Option<Spanned<u64>>,
    /// Remembered proofs of possession.
    pub dpop_proofs: Option<Spanned<usize>>,
    /// Calls that wait for people at the same time.
    pub held_calls: Option<Spanned<usize>>,
    /// And of one person.
    pub held_calls_per_person: Option<Spanned<usize>>,
    /// Requests for approval that one person has waiting.
    pub pending_approvals_per_person: Option<Spanned<usize>>,
    /// Requests for approval that one person makes within a day.
    pub daily_approvals_per_person: Option<Spanned<usize>>,
}

/// `timeouts`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// TLS handshake.
    pub handshake: Option<Text>,
    /// Request head.
    pub head: Option<Text>,
    /// Idle connections.
    pub idle: Option<Text>,
    /// Upstream connect.
    pub connect: Option<Text>,
    /// Upstream response head.
    pub upstream_head: Option<Text>,
    /// Drain at shutdown.
    pub drain: Option<Text>,
    /// How long a caller's rights in Azure are believed.
    pub rights_fresh: Option<Text>,
    /// And while Azure does not answer.
    pub rights_stale: Option<Text>,
    /// How long a proof of possession is good.
    pub dpop_proof: Option<Text>,
    /// How long a caller's groups in Entra are believed.
    pub groups_fresh: Option<Text>,
    /// And while Graph does not answer.
    pub groups_stale: Option<Text>,
}

/// `streams`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streams {
    /// `end` or `keep`.
    pub on_token_expiry: Option<Text>,
    /// The longest that a stream may live.
    pub max_age: Option<Text>,
}

/// `telemetry`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// `text` or `json`.
    pub format: Option<Text>,
    /// A filter as in `RUST_LOG`.
    pub level: Option<Text>,
}
