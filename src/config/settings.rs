//! Typed settings: what the file says, checked, with paths resolved and secrets still references.

mod audit;
mod clutch;
mod code_hosts;
mod evidence;
mod gerrit;
mod hooks;
mod sinks;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

pub use self::{
    audit::{
        ArchiveSettings, Audit, ContainerSettings, GitSettings, Reads, WitnessPlace, WitnessSettings,
        WitnessedLogs,
    },
    clutch::{Clutch, ClutchCheck},
    code_hosts::Host,
    evidence::Evidence,
    gerrit::Gerrit,
    hooks::{AzureEvents, Inlet},
    sinks::{Hook, Sink, SinkKind},
};
use super::values::BaseUrl;
use crate::{
    azureml::{Protocol, ResourceId},
    cloud::Cloud,
    credentials::ActsFor,
    gates::{approvals::Bounds, break_glass::Rules},
    http::RESERVED,
    identity::IssuerSettings,
    net::EgressProxy,
    policy::{StreamLimits, Surroundings, review::HostKind},
    proxy::{forward::TunnelSettings, possession::Terminator},
    telemetry::TelemetrySettings,
    yaml::Problem,
};

/// Everything that `amlgate.yaml` says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file itself.
    pub file: PathBuf,
    /// SHA-256 of the file's bytes: stands in the record of each start and reload.
    pub digest: [u8; 32],
    /// The reverse proxy.
    pub reverse: Option<Reverse>,
    /// The forward proxy.
    pub forward: Option<Forward>,
    /// The admin listener.
    pub admin: Option<Admin>,
    /// `/healthz`, `/readyz`, `/metrics` only.
    pub health: Option<SocketAddr>,
    /// Who vouches for callers.
    pub issuers: Vec<IssuerSettings>,
    /// What clients need to sign in: by issuer, its client id and scopes.
    pub logins: Vec<Login>,
    /// Where groups are found that tokens of Entra do not carry.
    pub groups: Vec<GroupSource>,
    /// Who the gate is towards Azure.
    pub credentials: Vec<Credential>,
    /// What is forwarded where.
    pub routes: Vec<Route>,
    /// The folder of policies.
    pub policies: PathBuf,
    /// The record.
    pub audit: Audit,
    /// Where people hear of approvals.
    pub notify: Vec<Sink>,
    /// Sealing keys: the first signs, all verify.
    pub seal: Vec<Reference>,
    /// Where state is kept, if anywhere.
    pub store: Option<Store>,
    /// A Clutch: whose workflows ask for approvals, and whose opinion is asked.
    pub clutch: Option<Clutch>,
    /// Who is asked whether code was reviewed.
    pub gerrits: Vec<Gerrit>,
    /// Where Azure tells of models and runs.
    pub azure_events: Vec<AzureEvents>,
    /// GitHubs and GitLabs likewise.
    pub code_hosts: Vec<Host>,
    /// Who may do in an emergency what is forbidden otherwise.
    pub break_glass: Option<Rules>,
    /// How the gate states where models came from.
    pub evidence: Option<Evidence>,
    /// The gate's own way out.
    pub outgoing: Outgoing,
    /// Which Azure.
    pub cloud: Cloud,
    /// Bounds.
    pub limits: Limits,
    /// Times.
    pub timeouts: Timeouts,
    /// Live streams.
    pub streams: StreamLimits,
    /// Logs.
    pub telemetry: TelemetrySettings,
    /// What should be looked at, though it is accepted.
    pub warnings: Vec<Problem>,
}

impl Settings {
    /// The URL by which people reach the console, and clients the API, without a slash at its end.
    #[must_use]
    pub fn admin_url(&self) -> Option<String> {
        let admin = self.admin.as_ref()?;
        if admin.on_reverse {
            return self.reverse.as_ref().map(|reverse| reverse.public_url.to_text() + RESERVED);
        }
        admin.public_url.as_ref().map(BaseUrl::to_text)
    }

    fn named(&self, kind: HostKind) -> BTreeSet<String> {
        let of_kind = self.code_hosts.iter().filter(|host| host.kind == kind);
        of_kind.map(|host| host.name.to_string()).collect()
    }

    /// The names that policies may use.
    #[must_use]
    pub fn surroundings(&self) -> Surroundings {
        Surroundings {
            issuers: Some(self.issuers.iter().map(|issuer| issuer.name.to_string()).collect()),
            routes: Some(self.routes.iter().map(|route| route.name.to_string()).collect()),
            states: Some(self.evidence.is_some()),
            gerrits: Some(self.gerrits.iter().map(|gerrit| gerrit.name.to_string()).collect()),
            faceless: {
                let faceless = self.gerrits.iter().filter(|gerrit| !gerrit.people.have_faces());
                faceless.map(|gerrit| gerrit.name.to_string()).collect()
            },
            githubs: Some(self.named(HostKind::GitHub)),
            gitlabs: Some(self.named(HostKind::GitLab)),
        }
    }
}

/// Where a secret is found. Resolved when the gate is built and again on reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// In an environment variable.
    Env(String),
    /// In a file.
    File(PathBuf),
    /// In a vault, by its latest version.
    KeyVault(VaultReference),
}

/// A secret in a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultReference {
    /// `https://NAME.vault.azure.net`.
    pub vault: BaseUrl,
    /// The secret's name.
    pub secret: String,
    /// The credential that opens the vault; the first that needs no vault itself if none.
    pub credential: Option<Arc<str>>,
    /// Connect here instead of resolving the name: a private endpoint.
    pub address: Option<SocketAddr>,
    /// Roots besides the system's, PEM.
    pub trust: Option<Arc<[u8]>>,
}

/// Where state is kept that outlives requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// In a file of this machine.
    Sqlite(PathBuf),
    /// In a database that replicas share; the URL holds a password.
    Postgres(Reference),
}

/// Where the groups of an Entra issuer's callers are found whose tokens do not carry all: at Microsoft
/// Graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSource {
    /// The issuer's name.
    pub issuer: Arc<str>,
    /// The credential that asks.
    pub credential: Arc<str>,
    /// Connect here instead of resolving Graph's name.
    pub address: Option<SocketAddr>,
    /// Roots besides the system's, PEM.
    pub trust: Option<Arc<[u8]>>,
}

/// A server certificate.
#[derive(Debug, Clone)]
pub struct Tls {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// Its key.
    pub private_key: Reference,
    /// Authorities of which clients are asked for a certificate, PEM.
    pub client_ca: Option<PathBuf>,
}

/// The reverse proxy.
#[derive(Debug, Clone)]
pub struct Reverse {
    /// Where it listens.
    pub address: SocketAddr,
    /// The base of rewritten URLs.
    pub public_url: BaseUrl,
    /// Plaintext if none.
    pub tls: Option<Tls>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Those of them that pass certificates on.
    pub terminators: Vec<Terminator>,
    /// Whether those peers speak the PROXY protocol.
    pub proxy_protocol: bool,
}

/// The forward proxy.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Where it listens.
    pub address: SocketAddr,
    /// Plaintext if none.
    pub tls: Option<Tls>,
    /// The authority that mints certificates for the hosts of routes, PEM.
    pub authority: PathBuf,
    /// Its key.
    pub authority_key: Reference,
    /// Authorities that clients are told to trust besides.
    pub also_trust: Vec<PathBuf>,
    /// What is tunnelled, and who may ask.
    pub tunnels: TunnelSettings,
}

/// The admin listener.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
    /// How people reach it.
    pub public_url: Option<BaseUrl>,
    /// Plaintext if none: then the address is loopback.
    pub tls: Option<Tls>,
    /// Browsers sign in here.
    pub sign_in: Option<SignIn>,
    /// Whether the console and the API are a path of the reverse listener, too: then people are sent
    /// there, and browsers sign in there.
    pub on_reverse: bool,
}

/// How browsers sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// The issuer's name.
    pub issuer: Arc<str>,
    /// The client that the gate is to it.
    pub client_id: String,
    /// The client's secret, if the issuer demands one.
    pub client_secret: Option<Reference>,
    /// What to ask for.
    pub scopes: Vec<String>,
    /// A session that nobody uses ends after this.
    pub idle: Duration,
    /// Any session ends after this.
    pub max_age: Duration,
}

/// What a client needs to sign in with an issuer.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Login {
    /// The issuer's name.
    pub name: String,
    /// The issuer's URL.
    pub issuer: String,
    /// The public client.
    pub client_id: Option<String>,
    /// What to ask for.
    pub scopes: Vec<String>,
}

/// Who the gate is towards Azure.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Its name in routes.
    pub name: Arc<str>,
    /// The tenant; empty only for a managed identity and a workload identity that act for themselves.
    pub tenant: Option<String>,
    /// The application.
    pub client_id: Option<String>,
    /// How it proves itself.
    pub proof: Proof,
    /// In whose name it asks for tokens.
    pub acts_for: ActsFor,
    /// The login host.
    pub authority: BaseUrl,
    /// Connect here instead of resolving the name.
    pub address: Option<SocketAddr>,
    /// Roots besides the system's, PEM.
    pub trust: Option<Arc<[u8]>>,
}

/// How a credential proves itself.
#[derive(Debug, Clone)]
pub enum Proof {
    /// By a secret.
    Secret(Reference),
    /// By a certificate.
    Certificate {
        /// PEM, leaf first.
        certificate: PathBuf,
        /// Its key.
        private_key: Reference,
        /// Whether the chain is sent along.
        send_chain: bool,
    },
    /// By a federated token in a file, read anew for each use.
    WorkloadIdentity {
        /// The file; `AZURE_FEDERATED_TOKEN_FILE` if none.
        token_file: Option<PathBuf>,
    },
    /// By the machine that it runs on.
    ManagedIdentity {
        /// A user-assigned identity by its client id.
        client_id: Option<String>,
        /// A user-assigned identity by its object id.
        object_id: Option<String>,
        /// A user-assigned identity by its ARM id.
        resource_id: Option<String>,
        /// The endpoint, where the environment does not tell.
        endpoint: Option<http::Uri>,
    },
}

impl Proof {
    /// Whether a vault holds what this proof needs, so that another credential must open it first.
    #[must_use]
    pub fn in_vault(&self) -> bool {
        self.secret().is_some_and(|reference| matches!(reference, Reference::KeyVault(_)))
    }

    /// The secret of this proof, if it has one.
    #[must_use]
    pub const fn secret(&self) -> Option<&Reference> {
        match self {
            Self::Secret(reference) | Self::Certificate { private_key: reference, .. } => Some(reference),
            Self::WorkloadIdentity { .. } | Self::ManagedIdentity { .. } => None,
        }
    }
}

/// What is forwarded where.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name in policies and records.
    pub name: Arc<str>,
    /// Where to.
    pub upstream: BaseUrl,
    /// Path prefixes.
    pub paths: Vec<String>,
    /// Host names.
    pub hosts: Vec<String>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Which credential for what; `None` forwards without one.
    pub credential: Option<CredentialChoice>,
    /// The ARM id that `scope` compares with.
    pub resource: Option<ResourceId>,
    /// How an inference endpoint authenticates the gate.
    pub auth: EndpointAuth,
    /// Connect here instead of resolving the name.
    pub address: Option<SocketAddr>,
    /// Roots besides the system's, PEM.
    pub trust: Option<Arc<[u8]>>,
}

/// Which credential for what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialChoice {
    /// By kind of operation and effect, and `default`.
    pub by_kind: BTreeMap<String, Arc<str>>,
    /// The same for the subscriptions that have a choice of their own, by their ids in lower case.
    pub by_subscription: BTreeMap<String, BTreeMap<String, Arc<str>>>,
}

impl CredentialChoice {
    /// The names of all credentials in it.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_kind.values().chain(self.by_subscription.values().flat_map(BTreeMap::values))
    }
}

/// How a scoring endpoint authenticates the gate, where the caller brought no handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndpointAuth {
    /// By an Entra token for `https://ml.azure.com`.
    #[default]
    Entra,
    /// By the endpoint's key, which the gate fetches.
    Key,
}

/// The gate's own way out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// An HTTP proxy.
    pub proxy: Option<BaseUrl>,
    /// Hosts, suffixes and addresses that are dialled directly.
    pub no_proxy: BTreeSet<String>,
}

impl Outgoing {
    /// The way out, as connections take it.
    #[must_use]
    pub fn egress(&self) -> Option<EgressProxy> {
        self.proxy.as_ref().map(|proxy| EgressProxy {
            host: proxy.host.as_str().into(),
            port: proxy.port,
            except: self.no_proxy.iter().map(|n| n.as_str().into()).collect(),
        })
    }
}

/// Bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a judged body.
    pub inspected_body: usize,
    /// Bytes that are kept of a recorded body.
    pub recorded_body: usize,
    /// Bytes that copies of bodies under way may take together.
    pub recorded_bodies: usize,
    /// Connections in all.
    pub connections: usize,
    /// Connections of one peer.
    pub connections_per_peer: usize,
    /// Remembered tokens.
    pub remembered_tokens: u64,
    /// Remembered proofs of possession.
    pub dpop_proofs: usize,
    /// What may wait for people.
    pub approvals: Bounds,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inspected_body: 4 << 20,
            recorded_body: 1 << 20,
            recorded_bodies: 64 << 20,
            connections: 10_000,
            connections_per_peer: 1_024,
            remembered_tokens: 1_000_000,
            dpop_proofs: 200_000,
            approvals: Bounds::default(),
        }
    }
}

/// Times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// TLS handshake.
    pub handshake: Duration,
    /// Request head.
    pub head: Duration,
    /// Idle connections.
    pub idle: Duration,
    /// Upstream connect.
    pub connect: Duration,
    /// Upstream response head.
    pub upstream_head: Duration,
    /// Drain at shutdown.
    pub drain: Duration,
    /// What was read of a caller's rights in Azure is used without question for so long.
    pub rights_fresh: Duration,
    /// And, where Azure does not answer, for so long.
    pub rights_stale: Duration,
    /// How long a proof of possession is good.
    pub dpop_proof: Duration,
    /// What Graph said of a caller's groups is used without question for so long.
    pub groups_fresh: Duration,
    /// And, where Graph does not answer, for so long.
    pub groups_stale: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            handshake: seconds(10),
            head: seconds(15),
            idle: seconds(120),
            connect: seconds(10),
            // Azure answers some scoring calls only after minutes.
            upstream_head: seconds(300),
            drain: seconds(30),
            rights_fresh: seconds(60),
            rights_stale: seconds(900),
            dpop_proof: seconds(60),
            groups_fresh: seconds(300),
            groups_stale: seconds(900),
        }
    }
}
