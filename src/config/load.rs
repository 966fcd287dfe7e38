//! From the raw file to [`Settings`]: every block read, every reference checked, nothing opened but
//! the files that must be there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Problems, issuers, raw,
    settings::{
        Admin, Audit, Cloud, Credential, EndpointAuth, Limits, Login, Outgoing, Proof, Reads, Reference,
        Reverse, Route, Settings, Timeouts, Tls,
    },
    values::{self, BaseUrl},
};
use crate::{
    azureml::{Protocol, ResourceId},
    policy::{OnTokenExpiry, StreamLimits},
    telemetry::{LogFormat, TelemetrySettings},
    yaml::{Place, Problem, Severity, Spanned},
};

/// The keys under `credential:` of a route, besides `default`: which operations take which identity.
const CREDENTIAL_KINDS: &[&str] =
    &["default", "read", "write", "delete", "action", "register_model", "deploy_model", "change_access"];

/// Reads `amlgate.yaml` and everything that it says of other files.
///
/// # Errors
/// Every problem at once.
pub fn load(path: &Path) -> Result<Settings, Vec<Problem>> {
    let parsed = super::parse(path).map_err(|p| vec![p])?;
    let mut problems = Problems::of(&parsed.name);
    super::unset(&parsed.text, &mut problems);
    let reader = Reader { base: &parsed.base };
    let settings = reader.settings(path, &parsed, &mut problems);
    let failed = problems.any_error();
    let found = problems.sorted();
    match settings {
        Some(settings) if !failed => Ok(Settings { warnings: found, ..settings }),
        _ => Err(found.into_iter().filter(|p| p.severity == Severity::Error).collect()),
    }
}

/// The folder of policies and the names of issuers and routes, of a file that need not be right
/// otherwise: so that `validate` says everything about policies too. `None` if it cannot be read.
#[must_use]
pub fn around_policies(path: &Path) -> Option<(PathBuf, BTreeSet<String>, BTreeSet<String>)> {
    let parsed = super::parse(path).ok()?;
    let directory = Reader { base: &parsed.base }.file(&parsed.raw.policies.value);
    let issuers = parsed.raw.issuers.iter().map(|i| i.value.name.value.clone()).collect();
    let routes = parsed.raw.routes.iter().map(|r| r.value.name.value.clone()).collect();
    directory.is_dir().then_some((directory, issuers, routes))
}

struct Reader<'a> {
    base: &'a Path,
}

impl Reader<'_> {
    fn settings(&self, path: &Path, parsed: &super::Parsed, problems: &mut Problems) -> Option<Settings> {
        let raw = &parsed.raw;
        if raw.version.value != 1 {
            let message =
                format!("`version: {}` is not known: this amlgate reads version 1", raw.version.value);
            problems.error(Place::of(&raw.version), message);
        }
        for (key, value) in [
            ("people", &raw.people),
            ("store", &raw.store),
            ("gerrit", &raw.gerrit),
            ("notify", &raw.notify),
            ("break_glass", &raw.break_glass),
            ("evidence", &raw.evidence),
        ] {
            problems.later(key, value.as_ref());
        }
        let cloud = raw.cloud.as_ref().and_then(|c| problems.read(c, cloud)).unwrap_or_default();
        let listen = &raw.listen.value;
        problems.later("forward", listen.forward.as_ref());
        let reverse = listen.reverse.as_ref().and_then(|r| self.reverse(r, problems));
        let admin = listen.admin.as_ref().and_then(|a| self.admin(a, problems));
        let health = listen.health.as_ref().and_then(|h| problems.read(&h.value.address, values::address));
        if listen.reverse.is_none() {
            problems.error_with(Place::of(&raw.listen), "`listen` opens no door", "add `reverse`");
        }
        let login = cloud.login();
        let issuers = issuers::read(&raw.issuers, self.base, &login, problems);
        if raw.issuers.is_empty() {
            problems.error_with(
                Place::of(&raw.version),
                "`issuers` is empty, so that nobody could be known",
                "add the issuer of your callers' tokens",
            );
        }
        let credentials = self.credentials(&raw.credentials, &login, problems);
        let routes = self.routes(&raw.routes, &credentials, problems);
        let policies = self.file(&raw.policies.value);
        if !policies.is_dir() {
            problems.error(Place::of(&raw.policies), format!("`{}` is not a directory", policies.display()));
        }
        let audit = self.audit(&raw.audit.value, problems)?;
        let seal: Vec<_> = raw.keys.value.seal.iter().filter_map(|k| self.reference(k, problems)).collect();
        if raw.keys.value.seal.is_empty() {
            problems.error_with(
                Place::of(&raw.keys),
                "`seal` names no key",
                "`amlgate certs init` makes certs/seal.key",
            );
        }
        Some(Settings {
            file: path.to_owned(),
            digest: super::digest(parsed.text.as_bytes()),
            reverse,
            admin,
            health,
            logins: logins(&raw.issuers, &issuers),
            issuers,
            credentials,
            routes,
            policies,
            audit,
            seal,
            outgoing: raw.outgoing.as_ref().map(|o| outgoing(&o.value, problems)).unwrap_or_default(),
            cloud,
            limits: raw.limits.as_ref().map(|l| limits(&l.value, problems)).unwrap_or_default(),
            timeouts: raw.timeouts.as_ref().map(|t| timeouts(&t.value, problems)).unwrap_or_default(),
            streams: raw.streams.as_ref().map(|s| streams(&s.value, problems)).unwrap_or_default(),
            telemetry: raw.telemetry.as_ref().map(|t| telemetry(&t.value, problems)).unwrap_or_default(),
            warnings: Vec::new(),
        })
    }

    fn file(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// A file that must be there.
    fn existing(&self, path: &Spanned<String>, problems: &mut Problems) -> Option<PathBuf> {
        let full = self.file(&path.value);
        match std::fs::metadata(&full) {
            Ok(found) if found.is_file() => Some(full),
            Ok(_) => {
                problems.error(Place::of(path), format!("`{}` is not a file", full.display()));
                None
            }
            Err(error) => {
                problems.error_with(
                    Place::of(path),
                    format!("`{}` cannot be read: {error}", full.display()),
                    "paths are relative to the file that names them; `amlgate certs init` makes certificates and keys",
                );
                None
            }
        }
    }

    fn reference(&self, found: &Spanned<raw::Reference>, problems: &mut Problems) -> Option<Reference> {
        let raw = &found.value;
        match (&raw.env, &raw.file, &raw.key_vault) {
            (Some(name), None, None) => {
                if std::env::var_os(&name.value).is_none() {
                    let message = format!("the environment variable `{}` is not set", name.value);
                    problems.error_with(Place::of(name), message, "set it where the gate starts");
                }
                Some(Reference::Env(name.value.clone()))
            }
            (None, Some(path), None) => self.existing(path, problems).map(Reference::File),
            (None, None, Some(vault)) => Some(Reference::KeyVault {
                vault: problems.read(&vault.value.vault, values::base_url)?,
                secret: vault.value.secret.value.clone(),
            }),
            _ => {
                problems.error_with(
                    Place::of(found),
                    "a secret is named by exactly one of `env`, `file`, `key_vault`",
                    "write for example `{file: certs/server.key}`",
                );
                None
            }
        }
    }

    fn tls(&self, found: &Spanned<raw::Tls>, problems: &mut Problems) -> Option<Tls> {
        problems.later("client_ca", found.value.client_ca.as_ref());
        let certificate = self.existing(&found.value.certificate, problems);
        let private_key = self.reference(&found.value.private_key, problems);
        Some(Tls { certificate: certificate?, private_key: private_key? })
    }

    fn reverse(&self, found: &Spanned<raw::Reverse>, problems: &mut Problems) -> Option<Reverse> {
        let raw = &found.value;
        let address = problems.read(&raw.address, values::address);
        let public_url = problems.read(&raw.public_url, values::base_url);
        let tls = raw.tls.as_ref().map(|t| self.tls(t, problems));
        if let (Some(address), None, false) = (address, &tls, raw.insecure_plaintext) {
            plaintext(address, Place::of(&raw.address), problems);
        }
        let trusted_proxies = raw.trusted_proxies.iter().filter_map(|p| problems.read(p, network)).collect();
        Some(Reverse {
            address: address?,
            public_url: public_url?,
            tls: match tls {
                None => None,
                Some(tls) => Some(tls?),
            },
            trusted_proxies,
            proxy_protocol: raw.proxy_protocol,
        })
    }

    fn admin(&self, found: &Spanned<raw::Admin>, problems: &mut Problems) -> Option<Admin> {
        let raw = &found.value;
        problems.later("on_reverse", raw.on_reverse.as_ref());
        let address = problems.read(&raw.address, values::address);
        let tls = raw.tls.as_ref().map(|t| self.tls(t, problems));
        if let (Some(address), None) = (address, &tls) {
            plaintext(address, Place::of(&raw.address), problems);
        }
        Some(Admin {
            address: address?,
            public_url: raw.public_url.as_ref().and_then(|u| problems.read(u, values::base_url)),
            tls: match tls {
                None => None,
                Some(tls) => Some(tls?),
            },
        })
    }

    fn credentials(
        &self,
        found: &[Spanned<raw::Credential>],
        login: &BaseUrl,
        problems: &mut Problems,
    ) -> Vec<Credential> {
        let mut names = BTreeSet::new();
        let mut read = Vec::new();
        for credential in found {
            let raw = &credential.value;
            let Some(name) = problems.read(&raw.name, values::name) else { continue };
            if !names.insert(name.clone()) {
                problems.error(Place::of(&raw.name), format!("the credential `{name}` is there twice"));
            }
            problems.later("on_behalf_of", raw.on_behalf_of.as_ref());
            let tenant = raw.tenant.as_ref().and_then(|t| problems.read(t, values::tenant));
            let Some(proof) = self.proof(&name, credential, problems) else { continue };
            let machine = matches!(proof, Proof::ManagedIdentity { .. } | Proof::WorkloadIdentity { .. });
            for (key, missing) in [("tenant", raw.tenant.is_none()), ("client_id", raw.client_id.is_none())] {
                if missing && !machine {
                    problems.error(Place::of(credential), format!("the credential `{name}` needs a `{key}`"));
                }
            }
            read.push(Credential {
                name: name.into(),
                tenant,
                client_id: raw.client_id.as_ref().map(|c| c.value.clone()),
                proof,
                authority: raw
                    .authority
                    .as_ref()
                    .and_then(|a| problems.read(a, values::base_url))
                    .unwrap_or_else(|| login.clone()),
                address: raw.address.as_ref().and_then(|a| problems.read(a, values::address)),
                trust: raw.trust.as_ref().and_then(|t| issuers::pem(&t.value.ca, self.base, problems)),
            });
        }
        read
    }

    fn proof(
        &self,
        name: &str,
        credential: &Spanned<raw::Credential>,
        problems: &mut Problems,
    ) -> Option<Proof> {
        let raw = &credential.value;
        let text = |value: &Option<raw::Text>| value.as_ref().map(|v| v.value.clone());
        let mut proofs = Vec::new();
        if let Some(secret) = &raw.client_secret {
            proofs.push(self.reference(secret, problems).map(Proof::Secret));
        }
        if let Some(pair) = &raw.client_certificate {
            let certificate = self.existing(&pair.value.certificate, problems);
            let private_key = self.reference(&pair.value.private_key, problems);
            proofs.push(certificate.zip(private_key).map(|(certificate, private_key)| Proof::Certificate {
                certificate,
                private_key,
                send_chain: pair.value.send_chain,
            }));
        }
        if let Some(workload) = &raw.workload_identity {
            let token_file = workload.value.token_file.as_ref().map(|f| self.file(&f.value));
            proofs.push(Some(Proof::WorkloadIdentity { token_file }));
        }
        if let Some(managed) = &raw.managed_identity {
            let endpoint = managed
                .value
                .endpoint
                .as_ref()
                .and_then(|e| problems.read(e, |t| t.parse().map_err(|_| format!("`{t}` is not a URL"))));
            proofs.push(Some(Proof::ManagedIdentity {
                object_id: text(&managed.value.object_id),
                resource_id: text(&managed.value.resource_id),
                endpoint,
            }));
        }
        let count = proofs.len();
        if count != 1 && raw.on_behalf_of.is_none() {
            problems.error_with(
                Place::of(credential),
                format!("the credential `{name}` proves itself in {count} ways instead of one"),
                "write one of `managed_identity: {}`, `client_secret`, `client_certificate`, `workload_identity`",
            );
        }
        proofs.into_iter().next().flatten()
    }

    fn routes(
        &self,
        found: &[Spanned<raw::Route>],
        credentials: &[Credential],
        problems: &mut Problems,
    ) -> Vec<Route> {
        let mut names = BTreeSet::new();
        let mut doors: BTreeMap<(String, String), String> = BTreeMap::new();
        let mut read = Vec::new();
        for route in found {
            let raw = &route.value;
            let Some(name) = problems.read(&raw.name, values::name) else { continue };
            if !names.insert(name.clone()) {
                problems.error(Place::of(&raw.name), format!("the route `{name}` is there twice"));
            }
            let Some(upstream) = problems.read(&raw.upstream, upstream) else { continue };
            let address = raw.address.as_ref().and_then(|a| problems.read(a, values::address));
            let paths: Vec<_> = raw.paths.iter().filter_map(|p| problems.read(p, prefix)).collect();
            let hosts: Vec<_> = raw.hosts.iter().filter_map(|h| problems.read(h, host)).collect();
            if raw.paths.is_empty() && raw.hosts.is_empty() {
                problems.error_with(
                    Place::of(route),
                    format!("no request can reach the route `{name}`"),
                    "name its `paths` or its `hosts`",
                );
            }
            let any_host = vec![String::new()];
            let any_path = vec!["/".to_owned()];
            for host in if hosts.is_empty() { &any_host } else { &hosts } {
                for path in if paths.is_empty() { &any_path } else { &paths } {
                    if let Some(other) = doors.insert((host.clone(), path.to_lowercase()), name.clone()) {
                        problems.error(
                            Place::of(route),
                            format!("`{host}{path}` leads to the route `{other}` already"),
                        );
                    }
                }
            }
            read.push(Route {
                credential: self.choice(route, credentials, problems),
                name: name.into(),
                upstream,
                paths,
                hosts,
                protocol: raw.protocol.value,
                resource: raw.resource.as_ref().and_then(|r| problems.read(r, resource)),
                auth: raw.auth.as_ref().and_then(|a| problems.read(a, endpoint_auth)).unwrap_or_default(),
                address,
                trust: raw.trust.as_ref().and_then(|t| issuers::pem(&t.value.ca, self.base, problems)),
            });
            if raw.protocol.value == Protocol::Inference && raw.resource.is_none() {
                problems.warning(
                    Place::of(route),
                    "without `resource` no entry with a `scope` can allow this endpoint",
                    "name its id: .../workspaces/W/onlineEndpoints/E",
                );
            }
        }
        read
    }

    fn choice(
        &self,
        route: &Spanned<raw::Route>,
        credentials: &[Credential],
        problems: &mut Problems,
    ) -> Option<BTreeMap<String, Arc<str>>> {
        let raw = &route.value;
        let Some(found) = &raw.credential else {
            if raw.protocol.value != Protocol::Http {
                problems.error_with(
                    Place::of(route),
                    format!("the route `{}` has no credential", raw.name.value),
                    "name one of `credentials`; only `protocol: http` may go without",
                );
            }
            return None;
        };
        let by_kind = match &found.value {
            raw::CredentialChoice::One(name) => BTreeMap::from([("default".to_owned(), name.clone())]),
            raw::CredentialChoice::ByKind(by_kind) => by_kind.clone(),
        };
        let mut choice = BTreeMap::new();
        for (kind, name) in by_kind {
            if !CREDENTIAL_KINDS.contains(&kind.as_str()) {
                let message = format!("`{kind}` is no kind of operation that a credential is chosen by");
                problems.error_with(
                    Place::of(found),
                    message,
                    format!("write one of {}", CREDENTIAL_KINDS.join(", ")),
                );
            }
            match credentials.iter().find(|c| *c.name == *name) {
                Some(credential) => drop(choice.insert(kind, Arc::clone(&credential.name))),
                None => problems.error(Place::of(found), format!("there is no credential called `{name}`")),
            }
        }
        Some(choice)
    }

    fn audit(&self, raw: &raw::Audit, problems: &mut Problems) -> Option<Audit> {
        if let Some(sink) = raw.sinks.first() {
            problems.error_with(Place::of(sink), "`sinks` are not in this version", "remove them");
        }
        let name = problems.read(&raw.name, |text| values::name(&text.replace("{hostname}", &hostname())));
        let signing_key = self.reference(&raw.signing_key, problems);
        let reads = raw.reads.as_ref().and_then(|r| problems.read(r, reads)).unwrap_or_default();
        Some(Audit {
            name: name?,
            directory: self.file(&raw.directory.value),
            signing_key: signing_key?,
            reads,
        })
    }
}

/// The machine's name: in a StatefulSet the replica's own.
fn hostname() -> String {
    std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map_or_else(|| "localhost".to_owned(), |name| name.trim().to_owned())
}

fn plaintext(address: SocketAddr, place: Place, problems: &mut Problems) {
    if !address.ip().is_loopback() {
        problems.error_with(
            place,
            format!("`{address}` is not loopback, and tokens would cross the network in plaintext"),
            "add `tls: {certificate: certs/server.pem, private_key: {file: certs/server.key}}`",
        );
    }
}

fn logins(raw: &[Spanned<raw::Issuer>], read: &[crate::identity::IssuerSettings]) -> Vec<Login> {
    raw.iter()
        .filter_map(|issuer| {
            let settings = read.iter().find(|s| *s.name == *issuer.value.name.value)?;
            let texts = |list: &[raw::Text]| list.iter().map(|s| s.value.clone()).collect();
            let (client, scopes) = match (&issuer.value.entra, &issuer.value.oidc) {
                (Some(entra), _) => (&entra.value.client_id, texts(&entra.value.scopes)),
                (None, Some(oidc)) => (&oidc.value.client_id, texts(&oidc.value.scopes)),
                (None, None) => return None,
            };
            Some(Login {
                name: settings.name.to_string(),
                issuer: settings.forms().first()?.iss.to_string(),
                client_id: client.as_ref().map(|c| c.value.clone()),
                scopes,
            })
        })
        .collect()
}

fn outgoing(raw: &raw::Outgoing, problems: &mut Problems) -> Outgoing {
    Outgoing {
        proxy: raw.proxy.as_ref().and_then(|p| problems.read(p, values::base_url)),
        no_proxy: raw.no_proxy.iter().map(|n| n.value.to_ascii_lowercase()).collect(),
    }
}

fn limits(raw: &raw::Limits, problems: &mut Problems) -> Limits {
    let default = Limits::default();
    let mut positive = |value: &Option<Spanned<usize>>, default: usize| match value {
        Some(value) if value.value == 0 => {
            problems.error(Place::of(value), "0 would refuse everything");
            default
        }
        Some(value) => value.value,
        None => default,
    };
    Limits {
        connections: positive(&raw.connections, default.connections),
        connections_per_peer: positive(&raw.connections_per_peer, default.connections_per_peer),
        inspected_body: raw
            .inspected_body
            .as_ref()
            .and_then(|s| problems.read(s, inspected))
            .unwrap_or(default.inspected_body),
        remembered_tokens: raw.remembered_tokens.as_ref().map_or(default.remembered_tokens, |n| n.value),
    }
}

fn timeouts(raw: &raw::Timeouts, problems: &mut Problems) -> Timeouts {
    let default = Timeouts::default();
    let mut read = |value: &Option<raw::Text>, default| {
        value
            .as_ref()
            .and_then(|v| {
                problems.read(v, |text| match values::duration(text)? {
                    none if none.is_zero() => Err(format!("`{text}` would refuse everything")),
                    some => Ok(some),
                })
            })
            .unwrap_or(default)
    };
    Timeouts {
        handshake: read(&raw.handshake, default.handshake),
        head: read(&raw.head, default.head),
        idle: read(&raw.idle, default.idle),
        connect: read(&raw.connect, default.connect),
        upstream_head: read(&raw.upstream_head, default.upstream_head),
        drain: read(&raw.drain, default.drain),
    }
}

fn streams(raw: &raw::Streams, problems: &mut Problems) -> StreamLimits {
    let default = StreamLimits::default();
    let on_token_expiry = |text: &str| match text {
        "end" => Ok(OnTokenExpiry::End),
        "keep" => Ok(OnTokenExpiry::Keep),
        _ => Err(format!("`{text}` is neither `end` nor `keep`")),
    };
    StreamLimits {
        on_token_expiry: raw
            .on_token_expiry
            .as_ref()
            .and_then(|v| problems.read(v, on_token_expiry))
            .unwrap_or(default.on_token_expiry),
        max_age: raw
            .max_age
            .as_ref()
            .and_then(|v| problems.read(v, values::duration))
            .unwrap_or(default.max_age),
    }
}

fn telemetry(raw: &raw::Telemetry, problems: &mut Problems) -> TelemetrySettings {
    let format = |text: &str| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("`{text}` is neither `text` nor `json`")),
    };
    TelemetrySettings {
        format: raw.format.as_ref().and_then(|f| problems.read(f, format)).unwrap_or_default(),
        level: raw.level.as_ref().map(|l| l.value.clone()),
    }
}

fn inspected(text: &str) -> Result<usize, String> {
    let size = values::size(text)?;
    if !(1 << 10..=64 << 20).contains(&size) {
        return Err(format!("`{text}` is not between 1KiB and 64MiB"));
    }
    Ok(size)
}

fn cloud(text: &str) -> Result<Cloud, String> {
    match text {
        "public" => Ok(Cloud::Public),
        "usgov" => Ok(Cloud::UsGov),
        "china" => Ok(Cloud::China),
        _ => Err(format!("`{text}` is none of `public`, `usgov`, `china`")),
    }
}

fn reads(text: &str) -> Result<Reads, String> {
    match text {
        "required" => Ok(Reads::Required),
        "best_effort" => Ok(Reads::BestEffort),
        _ => Err(format!("`{text}` is neither `required` nor `best_effort`")),
    }
}

fn endpoint_auth(text: &str) -> Result<EndpointAuth, String> {
    match text {
        "entra" => Ok(EndpointAuth::Entra),
        "key" => Ok(EndpointAuth::Key),
        _ => Err(format!("`{text}` is neither `entra` nor `key`")),
    }
}

fn network(text: &str) -> Result<ipnet::IpNet, String> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(ipnet::IpNet::from))
        .map_err(|_| format!("`{text}` is not an address or network: write `10.1.2.3` or `10.0.0.0/8`"))
}

/// Plaintext goes to loopback only: there it cannot be listened to.
fn upstream(text: &str) -> Result<BaseUrl, String> {
    if text.contains('*') {
        return Err(format!(
            "`{text}`: many hosts in one route need forward mode, which is not in this version"
        ));
    }
    let url = values::base_url(text)?;
    let loopback = url.host == "localhost" || url.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme == values::Scheme::Http && !loopback {
        return Err(format!("`{text}`: the gate's tokens go over https only (http is for loopback)"));
    }
    Ok(url)
}

fn prefix(text: &str) -> Result<String, String> {
    let clean = text.starts_with('/')
        && !text.contains("//")
        && !text.split('/').any(|s| s == "." || s == "..")
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'%' | b'?' | b'#' | b';' | b'\\' | b'*'));
    if !clean {
        return Err(format!("`{text}` is not a path prefix: write for example `/endpoints/churn`"));
    }
    Ok(if text == "/" { text.to_owned() } else { text.trim_end_matches('/').to_owned() })
}

fn host(text: &str) -> Result<String, String> {
    let clean =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    if !clean || text.starts_with('.') {
        return Err(format!("`{text}` is not a host name: write it without scheme, port or path"));
    }
    Ok(text.trim_end_matches('.').to_ascii_lowercase())
}

fn resource(text: &str) -> Result<ResourceId, String> {
    ResourceId::parse(text)
        .ok_or_else(|| format!("`{text}` is not an ARM id: it starts with /subscriptions/"))
}
