//! From the raw file to [`Settings`]: every block read, every reference checked, nothing opened but
//! the files that must be there.

mod audit;
mod break_glass;
mod certificates;
mod cloud;
mod clutch;
mod code_hosts;
mod credentials;
mod evidence;
mod forward;
mod gerrit;
mod groups;
mod hooks;
mod notify;
mod routes;
mod sign_in;
mod sinks;
mod tuning;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Problems, issuers, raw,
    settings::{
        Admin, Audit, Credential, Login, Reads, Reference, Reverse, Settings, Store, Tls, VaultReference,
    },
    values,
};
use crate::{
    cloud::Cloud,
    policy::Surroundings,
    yaml::{Place, Problem, Severity, Spanned},
};

/// Reads `amlgate.yaml` and everything that it says of other files.
///
/// # Errors
/// Every problem at once.
pub fn load(path: &Path) -> Result<Settings, Vec<Problem>> {
    let parsed = super::parse(path).map_err(|p| vec![p])?;
    let mut problems = Problems::of(&parsed.name);
    super::unset(&parsed.text, &mut problems);
    let cloud = cloud::read(parsed.raw.cloud.as_ref(), &mut problems);
    let reader = Reader { base: &parsed.base, openers: openers(&parsed.raw.credentials), cloud };
    let settings = reader.settings(path, &parsed, &mut problems);
    let failed = problems.any_error();
    let found = problems.sorted();
    match settings {
        Some(settings) if !failed => Ok(Settings { warnings: found, ..settings }),
        _ => Err(found.into_iter().filter(|p| p.severity == Severity::Error).collect()),
    }
}

/// The folder of policies and the names that they may use, of a file that need not be right
/// otherwise: so that `validate` says everything about policies too. `None` if it cannot be read.
#[must_use]
pub fn around_policies(path: &Path) -> Option<(PathBuf, Surroundings)> {
    let parsed = super::parse(path).ok()?;
    let directory = Reader { base: &parsed.base, openers: BTreeMap::new(), cloud: Cloud::default() }
        .file(&parsed.raw.policies.value);
    let around = Surroundings {
        issuers: Some(parsed.raw.issuers.iter().map(|i| i.value.name.value.clone()).collect()),
        routes: Some(parsed.raw.routes.iter().map(|r| r.value.name.value.clone()).collect()),
        states: Some(parsed.raw.evidence.is_some()),
        gerrits: Some(parsed.raw.gerrit.iter().map(|g| g.value.name.value.clone()).collect()),
        faceless: gerrit::faceless(&parsed.raw),
        githubs: Some(parsed.raw.github.iter().map(|g| g.value.name.value.clone()).collect()),
        gitlabs: Some(parsed.raw.gitlab.iter().map(|g| g.value.name.value.clone()).collect()),
    };
    directory.is_dir().then_some((directory, around))
}

/// The names of policies' entries and subjects that channels of `notify` are for, each at its place.
#[derive(Debug, Default)]
pub struct Notified {
    /// The file.
    pub file: Arc<str>,
    /// `entries` of all channels.
    pub entries: Vec<Spanned<String>>,
    /// `approvers` of all channels.
    pub approvers: Vec<Spanned<String>>,
}

/// For whom the channels of a file are; nobody if it cannot be read.
#[must_use]
pub fn notified(path: &Path) -> Notified {
    let Ok(parsed) = super::parse(path) else { return Notified::default() };
    let mut notified = Notified { file: parsed.name, ..Notified::default() };
    for channel in parsed.raw.notify {
        notified.entries.extend(channel.value.entries.into_iter().flat_map(|names| names.value));
        notified.approvers.extend(channel.value.approvers.into_iter().flat_map(|names| names.value));
    }
    notified
}

/// The subjects that `break_glass` names, each where it is named, and the name of the file; nothing if
/// it cannot be read.
#[must_use]
pub fn on_call(path: &Path) -> (Arc<str>, Vec<Spanned<String>>) {
    let Ok(parsed) = super::parse(path) else { return ("".into(), Vec::new()) };
    let found = parsed.raw.break_glass.map(|found| found.value);
    let named = found.into_iter().flat_map(|found| {
        let by = found.by.into_iter().map(|one| one.value.subject);
        found.who.into_iter().chain(by)
    });
    (parsed.name, named.collect())
}

/// The hosts of a file's routes, and the login host if the gate answers for it: each once, in order;
/// nothing if the file cannot be read.
#[must_use]
pub fn upstream_hosts(path: &Path) -> BTreeSet<String> {
    let Ok(parsed) = super::parse(path) else { return BTreeSet::new() };
    let hosts =
        parsed.raw.routes.iter().filter_map(|route| routes::upstream(&route.value.upstream.value, true).ok());
    // No certificate is minted for what is plaintext.
    let mut hosts: BTreeSet<String> = hosts
        .filter(|upstream| upstream.scheme == super::values::Scheme::Https)
        .map(|upstream| upstream.host)
        .collect();
    let forward = parsed.raw.listen.value.forward.as_ref();
    let login = forward.and_then(|forward| forward.value.login.as_ref());
    if login.is_some_and(|login| login.value == forward::ANSWER) {
        let named = cloud::read(parsed.raw.cloud.as_ref(), &mut Problems::of(&parsed.name));
        hosts.insert(named.login_host().to_owned());
    }
    hosts
}

struct Reader<'a> {
    base: &'a Path,
    /// The credentials by name, and whether each can open a vault: one that proves itself by what
    /// lies in a vault cannot, nor one that acts for callers.
    openers: BTreeMap<&'a str, bool>,
    /// Which Azure.
    cloud: Cloud,
}

fn openers(credentials: &[Spanned<raw::Credential>]) -> BTreeMap<&str, bool> {
    let in_vault = |found: &Spanned<raw::Reference>| found.value.key_vault.is_some();
    credentials
        .iter()
        .map(|credential| {
            let raw = &credential.value;
            let locked = raw.client_secret.as_ref().is_some_and(in_vault)
                || raw.client_certificate.as_ref().is_some_and(|pair| in_vault(&pair.value.private_key));
            (raw.name.value.as_str(), !locked && raw.on_behalf_of.is_none())
        })
        .collect()
}

impl Reader<'_> {
    fn settings(&self, path: &Path, parsed: &super::Parsed, problems: &mut Problems) -> Option<Settings> {
        let raw = &parsed.raw;
        if raw.version.value != 1 {
            let message =
                format!("`version: {}` is not known: this amlgate reads version 1", raw.version.value);
            problems.error(Place::of(&raw.version), message);
        }
        let cloud = self.cloud.clone();
        let login = cloud::login(&cloud);
        let listen = &raw.listen.value;
        let forward = listen.forward.as_ref().and_then(|f| self.forward(f, &login.host, problems));
        let reverse = listen.reverse.as_ref().and_then(|r| self.reverse(r, problems));
        let admin = listen.admin.as_ref().and_then(|a| self.admin(a, problems));
        let health = listen.health.as_ref().and_then(|h| problems.read(&h.value.address, values::address));
        let mounts = listen.admin.as_ref().and_then(|admin| admin.value.on_reverse.as_ref());
        if let (Some(found), None) = (mounts.filter(|on| on.value), &listen.reverse) {
            let hint = "add `listen.reverse`, or remove `on_reverse`";
            problems.error_with(Place::of(found), "there is no reverse listener to be a path of", hint);
        }
        if listen.reverse.is_none() && listen.forward.is_none() {
            let hint = "add `reverse`, `forward` or both";
            problems.error_with(Place::of(&raw.listen), "`listen` opens no door", hint);
        }
        let mut issuers = issuers::read(&raw.issuers, self.base, &cloud, problems);
        let named: BTreeSet<_> = raw.gerrit.iter().map(|g| g.value.name.value.as_str()).collect();
        let links = match &raw.people {
            Some(people) => issuers::link(&people.value, &mut issuers, &named, problems),
            None => Vec::new(),
        };
        let canonical = raw.people.as_ref().map(|people| people.value.canonical.value.as_str());
        let gerrits = self.gerrits(&raw.gerrit, &links, (canonical, admin.as_ref()), problems);
        let code_hosts = self.code_hosts(raw, &issuers, problems);
        if raw.issuers.is_empty() {
            problems.error_with(
                Place::of(&raw.version),
                "`issuers` is empty, so that nobody could be known",
                "add the issuer of your callers' tokens",
            );
        }
        certificates::agree(reverse.as_ref(), forward.as_ref(), &issuers, raw, problems);
        let credentials = self.credentials(&raw.credentials, &login, &issuers, problems);
        let groups = self.groups(&raw.issuers, &credentials, problems);
        let routes = self.routes(&raw.routes, &credentials, listen.forward.is_some(), &cloud, problems);
        if let Some(forward) = &forward {
            self::forward::vouched(forward, &routes, raw, problems);
        }
        let policies = self.file(&raw.policies.value);
        if !policies.is_dir() {
            problems.error(Place::of(&raw.policies), format!("`{}` is not a directory", policies.display()));
        }
        let audit = self.audit(&raw.audit.value, &credentials, problems)?;
        let notify = self.channels(&raw.notify, &audit.sinks, admin.as_ref(), problems);
        let seal: Vec<_> = raw.keys.value.seal.iter().filter_map(|k| self.reference(k, problems)).collect();
        if raw.keys.value.seal.is_empty() {
            problems.error_with(
                Place::of(&raw.keys),
                "`seal` names no key",
                "`amlgate certs init` makes certs/seal.key",
            );
        }
        let logins = logins(&raw.issuers, &issuers);
        let mut admin = admin;
        if let (Some(admin), Some(raw)) = (&mut admin, listen.admin.as_ref()) {
            admin.sign_in = self.sign_in(&raw.value, &issuers, &logins, problems);
        }
        let store = match &raw.store {
            Some(store) => self.store(store, problems),
            // What must be kept is kept somewhere.
            None => admin
                .as_ref()
                .and_then(|admin| admin.sign_in.as_ref())
                .map(|_| Store::Sqlite(self.file("var/amlgate.db"))),
        };
        gerrit::kept(&raw.gerrit, store.is_some(), problems);
        let azure_events = self.azure_events(&raw.azure_events, admin.as_ref(), store.is_some(), problems);
        let clutch = raw.clutch.as_ref().map(|found| self.clutch(found, &issuers, problems));
        let service = raw.clutch.as_ref().and_then(|found| found.value.service.as_ref());
        if let (Some(service), None) = (service, &store) {
            let hint = "add `store: {sqlite: var/amlgate.db}`";
            problems.error_with(Place::of(service), "approvals are kept in a store, and there is none", hint);
        }
        let break_glass = raw
            .break_glass
            .as_ref()
            .and_then(|found| break_glass::read(found, store.is_some(), &notify, problems));
        let evidence = raw
            .evidence
            .as_ref()
            .and_then(|found| self.evidence(found, reverse.as_ref(), &audit.name, store.is_some(), problems));
        Some(Settings {
            file: path.to_owned(),
            digest: super::digest(parsed.text.as_bytes()),
            reverse,
            forward,
            admin,
            health,
            logins,
            issuers,
            groups,
            credentials,
            routes,
            policies,
            audit,
            notify,
            seal,
            store,
            clutch,
            gerrits,
            azure_events,
            code_hosts,
            break_glass,
            evidence,
            outgoing: raw.outgoing.as_ref().map(|o| tuning::outgoing(&o.value, problems)).unwrap_or_default(),
            cloud,
            limits: raw.limits.as_ref().map(|l| tuning::limits(&l.value, problems)).unwrap_or_default(),
            timeouts: raw.timeouts.as_ref().map(|t| tuning::timeouts(&t.value, problems)).unwrap_or_default(),
            streams: raw.streams.as_ref().map(|s| tuning::streams(&s.value, problems)).unwrap_or_default(),
            telemetry: raw
                .telemetry
                .as_ref()
                .map(|t| tuning::telemetry(&t.value, problems))
                .unwrap_or_default(),
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
            (None, None, Some(vault)) => self.in_vault(vault, problems),
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

    fn in_vault(&self, found: &Spanned<raw::VaultReference>, problems: &mut Problems) -> Option<Reference> {
        const MEND: &str =
            "open it with a credential whose own proof lies elsewhere, `managed_identity: {}` for example";
        let raw = &found.value;
        match &raw.credential {
            Some(name) => match self.openers.get(name.value.as_str()) {
                Some(true) => {}
                Some(false) => {
                    let message =
                        format!("the credential `{}` needs a vault itself, or acts for callers", name.value);
                    problems.error_with(Place::of(name), message, MEND);
                }
                None => {
                    let message = format!("there is no credential called `{}`", name.value);
                    problems.error(Place::of(name), message);
                }
            },
            None if !self.openers.values().any(|opens| *opens) => {
                problems.error_with(Place::of(found), "no credential can open this vault", MEND);
            }
            None => {}
        }
        let vault = problems.read(&raw.vault, values::base_url)?;
        if !self.cloud.is_vault(&vault.host) {
            problems.error_with(
                Place::of(&raw.vault),
                format!(
                    "`{}` is no vault of this cloud, and the gate's tokens are sent to no other",
                    vault.host
                ),
                format!(
                    "write `https://NAME.{}` (`address` says where to connect instead), or the right `cloud`",
                    self.cloud.key_vault
                ),
            );
        }
        Some(Reference::KeyVault(VaultReference {
            vault,
            secret: raw.secret.value.clone(),
            credential: raw.credential.as_ref().map(|name| name.value.as_str().into()),
            address: raw.address.as_ref().and_then(|a| problems.read(a, values::address)),
            trust: raw.trust.as_ref().and_then(|t| issuers::pem(&t.value.ca, self.base, problems)),
        }))
    }

    fn tls(&self, found: &Spanned<raw::Tls>, problems: &mut Problems) -> Option<Tls> {
        let certificate = self.existing(&found.value.certificate, problems);
        let private_key = self.reference(&found.value.private_key, problems);
        let client_ca = found.value.client_ca.as_ref().map(|path| self.bundle(path, problems));
        Some(Tls {
            certificate: certificate?,
            private_key: private_key?,
            client_ca: match client_ca {
                None => None,
                Some(path) => Some(path?),
            },
        })
    }

    fn reverse(&self, found: &Spanned<raw::Reverse>, problems: &mut Problems) -> Option<Reverse> {
        let raw = &found.value;
        let address = problems.read(&raw.address, values::address);
        let public_url = problems.read(&raw.public_url, values::base_url);
        let tls = raw.tls.as_ref().map(|t| self.tls(t, problems));
        if let (Some(address), None, false) = (address, &tls, raw.insecure_plaintext) {
            plaintext(address, Place::of(&raw.address), problems);
        }
        let (trusted_proxies, terminators) = certificates::trusted(&raw.trusted_proxies, problems);
        Some(Reverse {
            address: address?,
            public_url: public_url?,
            tls: match tls {
                None => None,
                Some(tls) => Some(tls?),
            },
            trusted_proxies,
            terminators,
            proxy_protocol: raw.proxy_protocol,
        })
    }

    fn admin(&self, found: &Spanned<raw::Admin>, problems: &mut Problems) -> Option<Admin> {
        let raw = &found.value;
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
            // Read when the issuers are.
            sign_in: None,
            on_reverse: raw.on_reverse.as_ref().is_some_and(|on| on.value),
        })
    }

    fn store(&self, found: &Spanned<raw::Store>, problems: &mut Problems) -> Option<Store> {
        match (&found.value.sqlite, &found.value.postgres) {
            (Some(path), None) => Some(Store::Sqlite(self.file(&path.value))),
            (None, Some(postgres)) => self.reference(&postgres.value.url, problems).map(Store::Postgres),
            (Some(_), Some(_)) | (None, None) => {
                problems.error_with(
                    Place::of(found),
                    "a store is exactly one of `sqlite`, `postgres`",
                    "write `{sqlite: var/amlgate.db}`, or `{postgres: {url: {env: DATABASE_URL}}}` for replicas",
                );
                None
            }
        }
    }

    fn audit(&self, raw: &raw::Audit, credentials: &[Credential], problems: &mut Problems) -> Option<Audit> {
        let name = problems.read(&raw.name, |text| values::name(&text.replace("{hostname}", &hostname())));
        let signing_key = self.reference(&raw.signing_key, problems);
        let previous_key = raw.previous_key.as_ref().and_then(|key| self.reference(key, problems));
        let reads = raw.reads.as_ref().and_then(|r| problems.read(r, reads)).unwrap_or_default();
        let size = |text: &str| values::size(text).map(|bytes| bytes as u64);
        let segment = raw.segment.as_ref().and_then(|s| problems.read(s, |text| at_least(size(text)?, text)));
        let retain = raw.retain.as_ref();
        let age = retain.and_then(|r| r.age.as_ref()).and_then(|a| problems.read(a, values::duration));
        let most = retain.and_then(|r| r.size.as_ref()).and_then(|s| problems.read(s, size));
        let witnesses = self.witnesses(&raw.witnesses, credentials, problems);
        let archive = raw.archive.as_ref().and_then(|a| self.archive(a, credentials, problems));
        let witness = raw.witness.as_ref().and_then(|w| self.witness(w, problems));
        Some(Audit {
            name: name?,
            directory: self.file(&raw.directory.value),
            signing_key: signing_key?,
            previous_key,
            reads,
            segment,
            retain_for: age,
            retain_size: most,
            archive,
            witnesses,
            witness,
            sinks: self.sinks(&raw.sinks, credentials, problems),
        })
    }
}

/// A segment holds more than some records.
fn at_least(bytes: u64, text: &str) -> Result<u64, String> {
    if bytes < 1 << 20 {
        return Err(format!("`{text}` is too small for a segment: at least `1MiB`"));
    }
    Ok(bytes)
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

fn reads(text: &str) -> Result<Reads, String> {
    match text {
        "required" => Ok(Reads::Required),
        "best_effort" => Ok(Reads::BestEffort),
        _ => Err(format!("`{text}` is neither `required` nor `best_effort`")),
    }
}
