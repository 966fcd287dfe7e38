//! What one core holds to serve requests: shared parts by reference, connections of its own.

use std::{fmt, net::SocketAddr, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::HeaderMap;

use super::{
    Routes, discovery::CloudDocuments, forward::TunnelSettings, meters::Meters, possession::Terminator,
};
use crate::{
    audit::{Journal, sinks::SinkStatus},
    credentials::{Credentials, EndpointKeys, LiveGroups, LiveRights},
    gates::Gates,
    identity::{Handles, Verifier, dpop::Proofs, sessions::Sessions},
    lineage::Statements,
    policy::{LivePolicies, StreamLimits},
    secrets::Mac,
    store::Store,
    time::{SharedClock, Timestamp},
    upstream::{Pools, UpstreamTimeouts},
};

/// Bounds of the request path.
#[derive(Debug, Clone)]
pub struct ProxyLimits {
    /// Bytes of a judged body.
    pub inspected_body: usize,
    /// How long an upstream is given.
    pub upstream: UpstreamTimeouts,
    /// Live streams.
    pub streams: StreamLimits,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
}

/// The parts in force: another configuration puts others in their place, whole. A request keeps
/// those that it began with.
pub type SharedParts = Arc<ArcSwap<GateParts>>;

/// What all cores share.
#[derive(Debug, Clone)]
pub struct GateParts {
    /// The base of rewritten URLs, without a slash at the end.
    pub public_url: String,
    /// Whether the console is at the same origin: then no answer of an upstream runs there.
    pub console_beside: bool,
    /// Where requests go.
    pub routes: Arc<Routes>,
    /// Who callers are.
    pub verifier: Arc<Verifier>,
    /// What proves that callers hold the keys to which their tokens are bound.
    pub proofs: Proofs,
    /// Whom the gate believes when they say whose certificate they were shown.
    pub terminators: Arc<[Terminator]>,
    /// Handles of endpoint keys.
    pub handles: Arc<Handles>,
    /// What they may.
    pub policies: Arc<LivePolicies>,
    /// Obligations.
    pub gates: Arc<Gates>,
    /// The record.
    pub journal: Journal,
    /// Where it goes besides, and how far that has come.
    pub sinks: Arc<[Arc<SinkStatus>]>,
    /// Tokens.
    pub credentials: Credentials,
    /// What Azure lets callers do.
    pub rights: LiveRights,
    /// Groups of callers whose tokens carry too few.
    pub groups: LiveGroups,
    /// Keys of scoring endpoints.
    pub keys: EndpointKeys,
    /// Seals polling capabilities.
    pub polling: Mac,
    /// Browsers' sessions, where the configuration lets them sign in.
    pub sessions: Arc<ArcSwapOption<Sessions>>,
    /// What outlives requests and is shared by replicas; none if the configuration names none.
    pub store: Option<Store>,
    /// Statements of where models came from; none if the configuration names no key to sign them with.
    pub statements: Option<Arc<Statements>>,
    /// Time.
    pub clock: SharedClock,
    /// Bounds.
    pub limits: ProxyLimits,
    /// What the forward proxy tunnels, and for whom.
    pub tunnels: TunnelSettings,
    /// What `/.well-known/amlgate` says, to anybody: how to sign in and where the proxy is.
    pub well_known: Bytes,
    /// What `/metadata/endpoints` says, to anybody: which Azure is behind the gate.
    pub clouds: Arc<CloudDocuments>,
}

/// One core's gate: what it keeps between requests.
#[derive(Clone)]
pub struct Core {
    parts: SharedParts,
    pools: Pools,
    meters: Meters,
}

impl Core {
    /// A core with connections of its own.
    #[must_use]
    pub fn new(parts: SharedParts, pools: Pools) -> Self {
        Self { parts, pools, meters: Meters::default() }
    }

    /// The gate as it is in force now, for one request.
    #[must_use]
    pub fn gate(&self) -> Gate {
        Gate { parts: self.parts.load_full(), pools: self.pools.clone(), meters: self.meters.clone() }
    }

    /// Forgets idle connections, at intervals.
    pub fn tidy(&self) {
        self.pools.tidy();
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Core")
    }
}

/// The gate for one request, on its core.
#[derive(Clone)]
pub struct Gate {
    parts: Arc<GateParts>,
    pools: Pools,
    meters: Meters,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    /// The shared parts.
    #[must_use]
    pub fn parts(&self) -> &GateParts {
        &self.parts
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.pools
    }

    pub(super) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// The caller's address, after trusted proxies.
    #[must_use]
    pub fn source(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        crate::http::source(peer, headers, &self.parts.limits.trusted_proxies)
    }

    pub(super) fn meters(&self) -> &Meters {
        &self.meters
    }
}
