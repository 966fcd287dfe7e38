//! Settings become parts.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, OnceLock},
};

use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::{
    admin::{Dependency, Health, State},
    audit::{Condition, Journal, JournalSettings, Reads},
    azureml::Protocol,
    config::{
        Settings, settings,
        settings::{Credential, EndpointAuth, Reference, Route},
        values::{BaseUrl, Scheme},
    },
    credentials::{self, Cloud, CredentialChoice, CredentialSettings, Credentials, EndpointKeys, Proof},
    gates::Gates,
    identity::{Handles, HttpKeySource, RememberedSettings, Verifier},
    listen::ServerTls,
    net::{Connector, ConnectorSettings, Destination, Reach, Trust},
    policy::{LivePolicies, Surroundings},
    proxy::{self, GateParts, ProxyLimits, RouteSettings, Routes},
    secrets::{self, Purpose, Seal},
    telemetry,
    time::SharedClock,
    upstream::UpstreamTimeouts,
};

/// Everything that listeners need.
pub(super) struct Built {
    pub parts: Arc<GateParts>,
    pub pools: Connector,
    pub reverse_tls: Option<Arc<ServerTls>>,
    pub admin_tls: Option<Arc<ServerTls>>,
    pub health: Arc<Health>,
}

pub(super) async fn parts(settings: &Settings, clock: SharedClock) -> Result<Built, StartError> {
    let connector = connector(settings)?;
    let credentials = credentials(settings, &connector, &clock)?;
    let vault = Vault { credentials: &credentials, settings };
    let mut seals = Vec::new();
    for reference in &settings.seal {
        seals.push(vault.secret(reference, "keys.seal").await?);
    }
    let seal = Seal::new(&seals)?;
    let journal = journal(settings, &vault, &seal, &clock).await?;
    let policies = LivePolicies::load(&settings.policies, surroundings(settings), Arc::clone(&clock))
        .await
        .map_err(StartError::Policies)?;
    let source = Arc::new(HttpKeySource::new(connector.clone()));
    let remembered =
        RememberedSettings { tokens: settings.limits.remembered_tokens, ..RememberedSettings::default() };
    let verifier = Arc::new(Verifier::new(settings.issuers.clone(), remembered, source, Arc::clone(&clock)));
    let routes = settings.routes.iter().map(route).collect::<Result<Vec<_>, _>>()?;
    let arm = routes
        .iter()
        .find(|r| r.protocol == Protocol::Arm)
        .map_or_else(|| Destination::https("management.azure.com", 443), |r| r.upstream.clone());
    let parts = Arc::new(GateParts {
        public_url: settings.reverse.as_ref().map(|r| r.public_url.to_text()).unwrap_or_default(),
        routes: Routes::new(routes),
        handles: Handles::new(&seal, Arc::clone(&verifier)),
        verifier,
        policies: Arc::new(policies),
        gates: Gates::new(Arc::clone(&clock)),
        journal,
        keys: EndpointKeys::new(credentials.clone(), arm),
        credentials: credentials.clone(),
        polling: seal.mac(Purpose::Polling),
        clock,
        limits: ProxyLimits {
            inspected_body: settings.limits.inspected_body,
            upstream: UpstreamTimeouts {
                head: settings.timeouts.upstream_head,
                idle: settings.timeouts.upstream_head,
            },
            streams: settings.streams,
            trusted_proxies: settings.reverse.as_ref().map(|r| r.trusted_proxies.clone()).unwrap_or_default(),
        },
    });
    let reverse_tls = match settings.reverse.as_ref().and_then(|r| r.tls.as_ref()) {
        Some(tls) => Some(Arc::new(server_tls(tls, &vault, "reverse").await?)),
        None => None,
    };
    let admin_tls = match settings.admin.as_ref().and_then(|a| a.tls.as_ref()) {
        Some(tls) => Some(Arc::new(server_tls(tls, &vault, "admin").await?)),
        None => None,
    };
    let health = Arc::new(health(settings, &parts));
    Ok(Built { parts, pools: connector, reverse_tls, admin_tls, health })
}

/// The gate's one way out.
pub(super) fn connector(settings: &Settings) -> Result<Connector, StartError> {
    let proxy = settings.outgoing.egress();
    Connector::new(ConnectorSettings { proxy, connect_timeout: settings.timeouts.connect })
        .map_err(|source| StartError::Trust { name: "the system".to_owned(), source })
}

/// The names that policies may use.
pub(super) fn surroundings(settings: &Settings) -> Surroundings {
    let issuers: BTreeSet<_> = settings.issuers.iter().map(|i| i.name.to_string()).collect();
    let routes: BTreeSet<_> = settings.routes.iter().map(|r| r.name.to_string()).collect();
    Surroundings { issuers: Some(issuers), routes: Some(routes) }
}

/// Reads secrets, from vaults too.
pub(super) struct Vault<'a> {
    pub credentials: &'a Credentials,
    pub settings: &'a Settings,
}

impl Vault<'_> {
    pub async fn secret(&self, reference: &Reference, what: &str) -> Result<SecretString, StartError> {
        match reference {
            Reference::Env(_) | Reference::File(_) => local(reference, what),
            Reference::KeyVault { vault, secret } => {
                let route = self
                    .settings
                    .routes
                    .iter()
                    .find(|r| r.protocol == Protocol::KeyVault && r.upstream.host == vault.host);
                let to = match route {
                    Some(route) => upstream(route)?,
                    None => destination(vault),
                };
                let credential = self.settings.credentials.first().map_or("", |c| &*c.name);
                self.credentials
                    .vault_secret(credential, &to, secret)
                    .await
                    .map_err(|source| StartError::Vault { what: what.to_owned(), source })
            }
        }
    }
}

fn local(reference: &Reference, what: &str) -> Result<SecretString, StartError> {
    match reference {
        Reference::Env(name) => secrets::from_env(name),
        Reference::File(path) => secrets::from_file(path),
        Reference::KeyVault { .. } => Err(secrets::SecretError::Unfit {
            place: "the vault".to_owned(),
            flaw: "cannot hold the secret of a credential that is needed to open it",
        }),
    }
    .map_err(|source| StartError::Secret { what: what.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|source| StartError::File { path: path.to_owned(), source })
}

pub(super) async fn pair(
    tls: &settings::Tls,
    vault: &Vault<'_>,
) -> Result<(Vec<u8>, SecretString), StartError> {
    Ok((read(&tls.certificate)?, vault.secret(&tls.private_key, "the listener's private key").await?))
}

async fn server_tls(
    tls: &settings::Tls,
    vault: &Vault<'_>,
    listener: &'static str,
) -> Result<ServerTls, StartError> {
    use secrecy::ExposeSecret as _;
    let (certificate, key) = pair(tls, vault).await?;
    ServerTls::new(&certificate, key.expose_secret().as_bytes())
        .map_err(|source| StartError::Tls { listener, source })
}

async fn journal(
    settings: &Settings,
    vault: &Vault<'_>,
    seal: &Seal,
    clock: &SharedClock,
) -> Result<Journal, StartError> {
    let key = vault.secret(&settings.audit.signing_key, "audit.signing_key").await?;
    let mut kept = JournalSettings::new(&settings.audit.name, settings.audit.directory.clone(), key);
    kept.reads = match settings.audit.reads {
        settings::Reads::Required => Reads::Required,
        settings::Reads::BestEffort => Reads::BestEffort,
    };
    let (journal, recovered) = Journal::open(&kept, seal.mac(Purpose::Thumbprint), Arc::clone(clock))?;
    tracing::info!(records = recovered.range.size(), "the journal is open");
    Ok(journal)
}

fn destination(url: &BaseUrl) -> Destination {
    let mut to = Destination::of(&url.to_uri()).unwrap_or_else(|| Destination::https(&url.host, url.port));
    if url.scheme == Scheme::Https && to.reach == Reach::Public && url.host.ends_with(".internal") {
        to.reach = Reach::Private;
    }
    to
}

fn trusting(to: Destination, name: &str, pem: Option<&Arc<[u8]>>) -> Result<Destination, StartError> {
    let trust = pem
        .map(|pem| Trust::new(Some(pem)))
        .transpose()
        .map_err(|source| StartError::Trust { name: name.to_owned(), source })?;
    Ok(to.trusting(trust))
}

pub(super) fn upstream(route: &Route) -> Result<Destination, StartError> {
    trusting(destination(&route.upstream).at(route.address), &route.name, route.trust.as_ref())
}

fn route(route: &Route) -> Result<RouteSettings, StartError> {
    Ok(RouteSettings {
        name: Arc::clone(&route.name),
        upstream: upstream(route)?,
        paths: route.paths.clone(),
        hosts: route.hosts.clone(),
        protocol: route.protocol,
        credential: route.credential.clone().map(CredentialChoice::new),
        resource: route.resource.clone(),
        auth: match route.auth {
            EndpointAuth::Entra => proxy::EndpointAuth::Entra,
            EndpointAuth::Key => proxy::EndpointAuth::Key,
        },
    })
}

fn credential(credential: &Credential) -> Result<CredentialSettings, StartError> {
    let what = format!("the credential `{}`", credential.name);
    let proof = match &credential.proof {
        settings::Proof::Secret(reference) => Proof::Secret(local(reference, &what)?),
        settings::Proof::Certificate { certificate, private_key, send_chain } => Proof::Certificate {
            certificate: read(certificate)?.into(),
            private_key: local(private_key, &what)?,
            send_chain: *send_chain,
        },
        settings::Proof::WorkloadIdentity { token_file } => {
            Proof::WorkloadIdentity { token_file: token_file.clone() }
        }
        settings::Proof::ManagedIdentity { object_id, resource_id, endpoint } => Proof::ManagedIdentity {
            object_id: object_id.as_deref().map(Into::into),
            resource_id: resource_id.as_deref().map(Into::into),
            endpoint: endpoint.clone(),
        },
    };
    let authority = destination(&credential.authority).at(credential.address);
    Ok(CredentialSettings {
        name: Arc::clone(&credential.name),
        tenant: credential.tenant.as_deref().map(Into::into),
        client_id: credential.client_id.as_deref().map(Into::into),
        proof,
        authority: trusting(authority, &credential.name, credential.trust.as_ref())?,
    })
}

/// The credentials of a configuration; also for `doctor`.
pub(super) fn credentials(
    settings: &Settings,
    connector: &Connector,
    clock: &SharedClock,
) -> Result<Credentials, StartError> {
    let all = settings.credentials.iter().map(credential).collect::<Result<Vec<_>, _>>()?;
    let cloud = match settings.cloud {
        settings::Cloud::Public => Cloud::Public,
        settings::Cloud::UsGov => Cloud::UsGov,
        settings::Cloud::China => Cloud::China,
    };
    let control = tokio::runtime::Handle::current();
    Ok(credentials::Credentials::new(all, connector.clone(), cloud, Arc::clone(clock), control))
}

fn metrics() -> PrometheusHandle {
    // One recorder for the process; further gates in it (tests) share it.
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER
        .get_or_init(|| telemetry::start_metrics().unwrap_or_else(|_| telemetry::detached_metrics()))
        .clone()
}

fn health(settings: &Settings, parts: &Arc<GateParts>) -> Health {
    let mut dependencies = Vec::new();
    let journal = parts.journal.clone();
    dependencies.push(Dependency::new("journal", move || match journal.condition() {
        Condition::Healthy => State::Ready,
        Condition::Failing { why } => State::Unready { detail: why },
    }));
    let policies = Arc::clone(&parts.policies);
    dependencies.push(Dependency::new("policies", move || match policies.status().problems.first() {
        None => State::Ready,
        Some(problem) => {
            State::Degraded { detail: format!("the last good policies are in force: {problem}") }
        }
    }));
    for issuer in &settings.issuers {
        let (verifier, name) = (Arc::clone(&parts.verifier), Arc::clone(&issuer.name));
        dependencies.push(Dependency::new(format!("issuer {name}"), move || {
            let forms: Vec<_> = verifier.status().into_iter().filter(|s| s.name == name).collect();
            let error = forms.iter().find_map(|f| f.last_error.clone());
            match (forms.iter().any(|f| f.usable), error) {
                (true, None) => State::Ready,
                (true, Some(detail)) => State::Degraded { detail },
                (false, detail) => {
                    State::Unready { detail: detail.unwrap_or_else(|| "no keys yet".to_owned()) }
                }
            }
        }));
    }
    for credential in &settings.credentials {
        let (credentials, name) = (parts.credentials.clone(), Arc::clone(&credential.name));
        dependencies.push(Dependency::new(format!("credential {name}"), move || {
            let status = credentials.status().into_iter().find(|s| s.name == name);
            match status.and_then(|s| s.failure) {
                None => State::Ready,
                Some(error) => State::Degraded { detail: error.to_string() },
            }
        }));
    }
    Health {
        dependencies,
        draining: CancellationToken::new(),
        metrics: metrics(),
        discovery: serde_json::json!({
            "version": 1,
            "reverse": settings.reverse.as_ref().map(|r| r.public_url.to_text()),
            "issuers": settings.logins,
        }),
    }
}
