//! Settings become parts.

use std::{collections::BTreeMap, sync::Arc};

use secrecy::ExposeSecret as _;

use super::{
    OpenJournal, StartError, api, approvals,
    archive::{self, Archive},
    break_glass, code_hosts, custody, groups, hooks, keeping, machines, merges, metadata, opinions, reviews,
    secrets,
    secrets::Secrets,
    shown, sinks, statements,
    witnesses::{self, Witnesses},
};
use crate::{
    admin::{Health, hooks::Hooks, witness::Witness},
    audit::{Journal, JournalSettings, Reads, Retention, bodies::BodySettings, sinks::Exporter},
    azureml::Protocol,
    config::{
        Settings, settings,
        settings::{Credential, EndpointAuth, Route, VaultReference},
        values::{BaseUrl, Scheme},
    },
    credentials::{
        ActsFor, ChosenCredential, CredentialChoice, Credentials, EndpointKeys, LiveGroups, LiveRights,
        RightsSettings,
    },
    gates::Gates,
    identity::{
        Handles, HttpKeySource, RememberedSettings, Verifier,
        dpop::{Nonces, Proofs, Replays, Window},
    },
    listen::{Interceptor, Protocols, ServerTls},
    net::{ClockSkew, Connector, ConnectorSettings, Destination, Reach, Trust},
    policy::LivePolicies,
    proxy::{
        self, GateParts, ProxyLimits, RouteSettings, Routes, forward::TunnelSettings, possession::Terminator,
    },
    secrets::{Purpose, Seal},
    time::SharedClock,
    upstream::UpstreamTimeouts,
};

/// Everything that listeners need.
pub(super) struct Built {
    pub parts: Arc<GateParts>,
    pub secrets: Secrets,
    pub pools: Connector,
    pub reverse_tls: Option<Arc<ServerTls>>,
    pub admin_tls: Option<Arc<ServerTls>>,
    pub forward_tls: Option<Arc<ServerTls>>,
    pub interceptor: Option<Arc<Interceptor>>,
    pub health: Arc<Health>,
    pub witnesses: Option<Witnesses>,
    pub witness: Option<Arc<Witness>>,
    pub exporters: Vec<Exporter>,
    pub archive: Option<Archive>,
    pub renewal: sinks::Renewal,
    pub hooks: Arc<Hooks>,
}

/// Builds every part. Policies are judged before a secret is read, and all before the journal is opened.
pub(super) async fn parts(
    settings: &Settings,
    clock: SharedClock,
    open: OpenJournal,
) -> Result<Built, StartError> {
    let policies = LivePolicies::load(&settings.policies, settings.surroundings(), Arc::clone(&clock))
        .await
        .map_err(StartError::Policies)?;
    let connector = connector(settings, &clock)?;
    let (credentials, mut secrets) = credentials(settings, &connector, &clock).await?;
    let seal = seal(settings, &mut secrets).await?;
    let source = Arc::new(HttpKeySource::new(connector.clone()));
    let remembered =
        RememberedSettings { tokens: settings.limits.remembered_tokens, ..RememberedSettings::default() };
    let verifier = Arc::new(Verifier::new(settings.issuers.clone(), remembered, source, Arc::clone(&clock)));
    machines::start(settings, verifier.certificates())?;
    let routes = routes(settings)?;
    let arm = routes.iter().find(|r| r.protocol == Protocol::Arm).map_or_else(
        || Destination::https(settings.cloud.resource_manager_host(), 443),
        |r| r.upstream.clone(),
    );
    let reverse_tls = match settings.reverse.as_ref().and_then(|r| r.tls.as_ref()) {
        Some(tls) => Some(Arc::new(server_tls(tls, &mut secrets, "reverse").await?)),
        None => None,
    };
    let admin_tls = match settings.admin.as_ref().and_then(|a| a.tls.as_ref()) {
        Some(tls) => Some(Arc::new(server_tls(tls, &mut secrets, "admin").await?)),
        None => None,
    };
    let (mut forward_tls, mut interceptor) = (None, None);
    if let Some(forward) = &settings.forward {
        if let Some(tls) = &forward.tls {
            forward_tls = Some(Arc::new(server_tls(tls, &mut secrets, "forward").await?));
        }
        let (certificate, key) = secrets.authority(forward).await?;
        interceptor = Some(Arc::new(Interceptor::new(&certificate, key.expose_secret())?));
    }
    let mut making = witnesses::Making {
        connector: &connector,
        credentials: &credentials,
        secrets: &mut secrets,
        clock: &clock,
    };
    let (witnesses, witness) = witnesses::built(settings, &mut making).await?;
    let store = keeping::opened(settings, &mut secrets).await?;
    let statements = statements::begun(settings, &mut secrets, store.as_ref()).await?;
    let adviser = opinions::adviser(settings, &mut secrets, &clock).await?;
    let reviewers = reviews::servers(settings, &mut secrets, &clock).await?;
    let hooks = Arc::new(Hooks::default());
    hooks.open(hooks::doors(settings, &mut secrets).await?);
    let other_reviewers = code_hosts::others(settings, &mut secrets, &clock).await?;
    // Last, because a gate that does not start leaves nothing of it behind.
    let journal = journal(settings, &mut secrets, &seal, &clock, open).await?;
    let reader = custody::reader(settings, &credentials, &arm);
    let gates = Arc::new(Gates::keeping(Arc::clone(&clock), store.clone()));
    let mut workshop = sinks::Workshop {
        connector: &connector,
        credentials: &credentials,
        secrets: &mut secrets,
        gates: &gates,
        clock: &clock,
    };
    let (exporters, renewal) = sinks::exporters(settings, &mut workshop, &journal).await?;
    let statuses: Vec<_> = exporters.iter().map(Exporter::status).collect();
    // A chat that is away for long does not keep the record on the disk.
    let kept_for = statuses.get(..settings.audit.sinks.len()).unwrap_or_default();
    let archive = archive::built(settings, &credentials, &journal, kept_for, &clock)?;
    let parts = Arc::new(GateParts {
        sinks: statuses.into(),
        public_url: public_url(settings),
        console_beside: settings.admin.as_ref().is_some_and(|admin| admin.on_reverse),
        routes: Arc::new(Routes::new(routes)),
        handles: Arc::new(Handles::new(&seal, Arc::clone(&verifier))),
        proofs: Proofs::new(
            Arc::new(Replays::new(settings.limits.dpop_proofs)),
            nonces(&seal),
            window(settings),
        ),
        terminators: terminators(settings),
        verifier,
        policies: Arc::new(policies),
        gates,
        journal,
        rights: LiveRights::new(credentials.clone(), arm.clone(), rights(settings), Arc::clone(&clock)),
        groups: LiveGroups::new(
            credentials.clone(),
            groups::sources(settings)?,
            groups::ages(settings),
            Arc::clone(&clock),
        ),
        keys: EndpointKeys::new(credentials.clone(), arm),
        credentials: credentials.clone(),
        polling: seal.mac(Purpose::Polling),
        clock,
        store,
        statements,
        sessions: Arc::default(),
        limits: limits(settings),
        tunnels: tunnels(settings),
        well_known: shown::discovery(settings).to_string().into(),
        clouds: Arc::new(metadata::documents(settings)),
    });
    let health = Arc::new(shown::health(settings, &parts));
    parts.journal.keep_bodies(bodies(settings, &seal));
    api::issue(&parts, settings, &seal);
    approvals::configured(&parts.gates, settings);
    parts.gates.opinions().by(adviser);
    parts.gates.reviews().by(reviewers);
    merges::configured(&parts.gates, settings);
    parts.gates.reviews().mirror().aged(reviews::ages(settings));
    parts.gates.reviews().by_others(other_reviewers);
    parts.gates.custody().read_by(reader);
    parts.gates.custody().vouched_by(statements::voucher(parts.statements.as_ref()));
    break_glass::ruled(&parts.gates, settings, &parts.policies.peek(), &parts.verifier);
    api::sign_in(&parts, settings, &mut secrets, &seal).await?;
    if let Some(store) = &parts.store {
        api::look(store, &parts.verifier, &parts.clock).await;
        approvals::look(&parts.gates).await;
        break_glass::look(&parts.gates).await;
    }
    Ok(Built {
        forward_tls,
        interceptor,
        parts,
        secrets,
        pools: connector,
        reverse_tls,
        admin_tls,
        health,
        witnesses,
        witness,
        exporters,
        archive,
        renewal,
        hooks,
    })
}

/// The parts of a running gate under another configuration: what counts, keeps, caches and records
/// goes on.
pub(super) async fn reshaped(
    parts: &GateParts,
    settings: &Settings,
    secrets: &mut Secrets,
) -> Result<GateParts, StartError> {
    secrets.follow(settings);
    let seal = seal(settings, secrets).await?;
    let routes = routes(settings)?;
    parts.journal.keep_bodies(bodies(settings, &seal));
    api::issue(parts, settings, &seal);
    approvals::configured(&parts.gates, settings);
    merges::configured(&parts.gates, settings);
    break_glass::ruled(&parts.gates, settings, &parts.policies.peek(), &parts.verifier);
    api::sign_in(parts, settings, secrets, &seal).await?;
    let statements = statements::again(settings, secrets, parts).await?;
    parts.gates.custody().vouched_by(statements::voucher(statements.as_ref()));
    let (keys, rights) = match routes.iter().find(|r| r.protocol == Protocol::Arm) {
        Some(arm) => {
            let reader = custody::reader(settings, &parts.credentials, &arm.upstream);
            parts.gates.custody().read_by(reader);
            (
                parts.keys.through(arm.upstream.clone()),
                parts.rights.through(arm.upstream.clone(), rights(settings)),
            )
        }
        None => (parts.keys.clone(), parts.rights.clone()),
    };
    Ok(GateParts {
        public_url: public_url(settings),
        routes: Arc::new(Routes::new(routes)),
        handles: Arc::new(Handles::new(&seal, Arc::clone(&parts.verifier))),
        proofs: parts.proofs.reshaped(nonces(&seal), window(settings)),
        terminators: terminators(settings),
        polling: seal.mac(Purpose::Polling),
        limits: limits(settings),
        tunnels: tunnels(settings),
        well_known: shown::discovery(settings).to_string().into(),
        clouds: Arc::new(metadata::documents(settings)),
        groups: parts.groups.through(
            groups::sources(settings)?,
            groups::ages(settings),
            Arc::clone(&parts.clock),
        ),
        keys,
        rights,
        statements,
        ..parts.clone()
    })
}

/// With which credential the rights of callers are read: the one that reads at Resource Manager, as
/// itself.
pub(super) fn rights(settings: &Settings) -> RightsSettings {
    let route = settings.routes.iter().find(|route| route.protocol == Protocol::Arm);
    let choice = route.and_then(|route| route.credential.as_ref());
    let named = |name: &Arc<str>| {
        settings.credentials.iter().find(|c| c.name == *name && c.acts_for == ActsFor::Itself)
    };
    let named =
        choice.and_then(|by| ["read", "default"].iter().find_map(|kind| named(by.by_kind.get(*kind)?)));
    let credential = named.map(|credential| Arc::clone(&credential.name));
    RightsSettings {
        tenant: named.and_then(|credential| credential.tenant.clone()).map(Into::into),
        credential,
        fresh: settings.timeouts.rights_fresh,
        stale: settings.timeouts.rights_stale,
    }
}

fn bodies(settings: &Settings, seal: &Seal) -> BodySettings {
    let limits = &settings.limits;
    BodySettings::new(seal, limits.recorded_body, limits.recorded_bodies, settings.audit.retain_for)
}

fn nonces(seal: &Seal) -> Nonces {
    Nonces::new(seal.mac(Purpose::DpopNonce))
}

fn window(settings: &Settings) -> Window {
    Window { age: settings.timeouts.dpop_proof, ..Window::default() }
}

fn terminators(settings: &Settings) -> Arc<[Terminator]> {
    settings.reverse.as_ref().map(|reverse| reverse.terminators.as_slice()).unwrap_or_default().into()
}

fn tunnels(settings: &Settings) -> TunnelSettings {
    settings.forward.as_ref().map(|forward| forward.tunnels.clone()).unwrap_or_default()
}

fn public_url(settings: &Settings) -> String {
    settings.reverse.as_ref().map(|r| r.public_url.to_text()).unwrap_or_default()
}

fn limits(settings: &Settings) -> ProxyLimits {
    ProxyLimits {
        inspected_body: settings.limits.inspected_body,
        upstream: UpstreamTimeouts {
            head: settings.timeouts.upstream_head,
            idle: settings.timeouts.upstream_head,
            body: settings.timeouts.idle,
        },
        streams: settings.streams,
        trusted_proxies: settings.reverse.as_ref().map(|r| r.trusted_proxies.clone()).unwrap_or_default(),
    }
}

/// The gate's one way out.
pub(super) fn connector(settings: &Settings, clock: &SharedClock) -> Result<Connector, StartError> {
    let proxy = settings.outgoing.egress();
    let connector = Connector::new(ConnectorSettings { proxy, connect_timeout: settings.timeouts.connect })
        .map_err(|source| StartError::Trust { name: "the system".to_owned(), source })?;
    Ok(connector.noting(Arc::new(ClockSkew::new(Arc::clone(clock)))))
}

/// The sealing keys, the signing one first.
pub(super) async fn seal(settings: &Settings, secrets: &mut Secrets) -> Result<Seal, StartError> {
    let mut texts = Vec::new();
    for reference in &settings.seal {
        texts.push(secrets.read(reference, "keys.seal").await?);
    }
    Ok(Seal::new(&texts)?)
}

async fn server_tls(
    tls: &settings::Tls,
    secrets: &mut Secrets,
    listener: &'static str,
) -> Result<ServerTls, StartError> {
    let (certificate, key) = secrets.pair(tls).await?;
    let clients = secrets::bundle(tls)?;
    // A CONNECT is asked for over HTTP/1.
    let protocols = if listener == "forward" { Protocols::Http1 } else { Protocols::Either };
    ServerTls::asking(&certificate, key.expose_secret().as_bytes(), clients.as_deref(), protocols)
        .map_err(|source| StartError::Tls { listener, source })
}

async fn journal(
    settings: &Settings,
    secrets: &mut Secrets,
    seal: &Seal,
    clock: &SharedClock,
    open: OpenJournal,
) -> Result<Journal, StartError> {
    let key = secrets.read(&settings.audit.signing_key, "audit.signing_key").await?;
    let mut kept = JournalSettings::new(&settings.audit.name, settings.audit.directory.clone(), key);
    if let Some(previous) = &settings.audit.previous_key {
        kept.previous_key = Some(secrets.read(previous, "audit.previous_key").await?);
    }
    kept.segment_bytes = settings.audit.segment.unwrap_or(kept.segment_bytes);
    kept.retain = Retention { age: settings.audit.retain_for, bytes: settings.audit.retain_size };
    kept.reads = match settings.audit.reads {
        settings::Reads::Required => Reads::Required,
        settings::Reads::BestEffort => Reads::BestEffort,
    };
    let (journal, recovered) = open(&kept, seal.mac(Purpose::Thumbprint), Arc::clone(clock))?;
    tracing::info!(records = recovered.range.size(), "the journal is open");
    Ok(journal)
}

pub(super) fn destination(url: &BaseUrl) -> Destination {
    let mut to = Destination::of(&url.to_uri()).unwrap_or_else(|| Destination::https(&url.host, url.port));
    if url.scheme == Scheme::Https && to.reach == Reach::Public && url.host.ends_with(".internal") {
        to.reach = Reach::Private;
    }
    to
}

pub(super) fn trusting(
    to: Destination,
    name: &str,
    pem: Option<&Arc<[u8]>>,
) -> Result<Destination, StartError> {
    let trust = pem
        .map(|pem| Trust::new(Some(pem)))
        .transpose()
        .map_err(|source| StartError::Trust { name: name.to_owned(), source })?;
    Ok(to.trusting(trust))
}

/// A host that a route names may be a private endpoint's; never this machine, link-local or metadata.
pub(super) fn upstream(route: &Route) -> Result<Destination, StartError> {
    let mut to = destination(&route.upstream);
    if to.reach == Reach::Public {
        to.reach = Reach::Private;
    }
    trusting(to.at(route.address), &route.name, route.trust.as_ref())
}

fn routes(settings: &Settings) -> Result<Vec<RouteSettings>, StartError> {
    settings.routes.iter().map(|found| route(found, &settings.credentials)).collect()
}

/// The credentials that a route chooses from, each with the name in which it asks.
fn choice(found: &settings::CredentialChoice, credentials: &[Credential]) -> CredentialChoice {
    let known = |name: &Arc<str>| {
        let acts_for = credentials.iter().find(|c| c.name == *name).map(|c| c.acts_for);
        ChosenCredential { name: Arc::clone(name), acts_for: acts_for.unwrap_or_default() }
    };
    let of = |by_kind: &BTreeMap<String, Arc<str>>| {
        by_kind.iter().map(|(kind, name)| (kind.clone(), known(name))).collect()
    };
    let by_subscription = found.by_subscription.iter().map(|(id, choice)| (id.clone(), of(choice)));
    CredentialChoice::new(of(&found.by_kind), by_subscription.collect())
}

fn route(route: &Route, credentials: &[Credential]) -> Result<RouteSettings, StartError> {
    Ok(RouteSettings {
        name: Arc::clone(&route.name),
        upstream: upstream(route)?,
        paths: route.paths.clone(),
        hosts: route.hosts.clone(),
        protocol: route.protocol,
        credential: route.credential.as_ref().map(|found| choice(found, credentials)),
        resource: route.resource.clone(),
        auth: match route.auth {
            EndpointAuth::Entra => proxy::EndpointAuth::Entra,
            EndpointAuth::Key => proxy::EndpointAuth::Key,
        },
    })
}

/// Where a vault is reached.
pub(super) fn vault(reference: &VaultReference) -> Result<Destination, StartError> {
    trusting(
        destination(&reference.vault).at(reference.address),
        &reference.vault.host,
        reference.trust.as_ref(),
    )
}

/// The login host of a credential.
pub(super) fn authority(credential: &Credential) -> Result<Destination, StartError> {
    let authority = destination(&credential.authority).at(credential.address);
    trusting(authority, &credential.name, credential.trust.as_ref())
}

/// The credentials of a configuration, and its secrets; also for `doctor`. Those that prove
/// themselves by what lies in a vault come last: another one opens it.
pub(super) async fn credentials(
    settings: &Settings,
    connector: &Connector,
    clock: &SharedClock,
) -> Result<(Credentials, Secrets), StartError> {
    let cloud = settings.cloud.clone();
    let control = tokio::runtime::Handle::current();
    let credentials = Credentials::new(Vec::new(), connector.clone(), cloud, Arc::clone(clock), control);
    let mut secrets = Secrets::new(settings, credentials.clone(), Arc::clone(clock));
    for in_vault in [false, true] {
        for credential in settings.credentials.iter().filter(|c| c.proof.in_vault() == in_vault) {
            credentials.add(secrets.credential(credential).await?);
        }
    }
    Ok((credentials, secrets))
}
