//! Tries everything that a gate depends on, one after another, without being one: for `doctor`.

mod code_hosts;
mod credentials;
mod evidence;
mod gerrit;
mod me;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use super::{StartError, build, secrets::Secrets, sinks};
use crate::{
    audit::note::Signer,
    config::{Settings, settings},
    gates::Gates,
    identity::{HttpKeySource, RememberedSettings, Verifier, certificate::AuthorityStatus},
    listen::{Protocols, ServerTls},
    net::{Connector, Destination, FetchError, FetchLimits, Skew},
    policy::PolicySet,
    secrets::Seal,
    time::{SharedClock, Timestamp},
};

/// What was tried, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was tried: `issuer corp`, `route arm`.
    pub part: String,
    /// How it went.
    #[serde(flatten)]
    pub state: Health,
}

/// How a part does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Health {
    /// It does what it should.
    Fine {
        /// What was seen.
        seen: String,
    },
    /// It works, but somebody should look.
    Doubtful {
        /// What was seen.
        seen: String,
        /// How to mend it.
        mend: String,
    },
    /// It does not work.
    Broken {
        /// What failed, with its causes.
        why: String,
        /// How to mend it.
        mend: String,
        /// Whether nothing answered, rather than something wrong.
        unreachable: bool,
    },
}

impl Finding {
    pub(super) fn fine(part: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { part: part.into(), state: Health::Fine { seen: seen.into() } }
    }

    pub(super) fn doubtful(
        part: impl Into<String>,
        seen: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { part: part.into(), state: Health::Doubtful { seen: seen.into(), mend: mend.into() } }
    }

    pub(super) fn broken(part: impl Into<String>, why: impl Into<String>, mend: impl Into<String>) -> Self {
        let state = Health::Broken { why: why.into(), mend: mend.into(), unreachable: false };
        Self { part: part.into(), state }
    }

    pub(super) fn unreachable(
        part: impl Into<String>,
        why: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let state = Health::Broken { why: why.into(), mend: mend.into(), unreachable: true };
        Self { part: part.into(), state }
    }
}

/// Tries everything that the settings name, and with the token of somebody what comes of it; takes at
/// most about ten seconds for each part.
///
/// # Errors
/// [`StartError`] if so much is missing that nothing can be tried.
pub async fn check_up(
    settings: &Settings,
    clock: &SharedClock,
    me: Option<&SecretString>,
) -> Result<Vec<Finding>, StartError> {
    let connector = build::connector(settings, clock)?;
    let (opened, mut secrets) = build::credentials(settings, &connector, clock).await?;
    let mut found = vec![policies(settings)];
    found.extend(listeners(settings, &mut secrets, clock).await);
    found.push(seal(settings, &mut secrets).await);
    found.push(record(settings, &mut secrets).await);
    found.extend(super::keeping::finding(settings, &mut secrets).await);
    found.extend(evidence::finding(settings, &mut secrets).await);
    let verifier = verifier(settings, &connector, clock);
    verifier.refresh_once().await;
    found.extend(authorities(settings, &verifier, clock.now()));
    found.extend(issuers(&verifier));
    let mut objects = BTreeMap::new();
    for credential in &settings.credentials {
        let (finding, object) = credentials::one(credential, settings, &opened, &secrets, clock).await;
        found.push(finding);
        objects.extend(object.map(|object| (Arc::clone(&credential.name), object)));
    }
    for route in &settings.routes {
        found.push(upstream(route, &connector).await);
    }
    for server in &settings.gerrits {
        found.push(gerrit::one(server, settings, &mut secrets, clock).await);
        found.extend(gerrit::groups(server, settings, &mut secrets, clock).await);
    }
    for host in &settings.code_hosts {
        found.push(code_hosts::one(host, settings, &mut secrets, clock).await);
    }
    let gates = Arc::new(Gates::new(Arc::clone(clock)));
    let mut workshop = sinks::Workshop {
        connector: &connector,
        credentials: &opened,
        secrets: &mut secrets,
        gates: &gates,
        clock,
    };
    for (kind, block, sinks) in
        [("sink", "audit.sinks", &settings.audit.sinks), ("channel", "notify", &settings.notify)]
    {
        for sink in sinks {
            found.push(exported((kind, block), sink, &mut workshop).await);
        }
    }
    let mut making = super::witnesses::Making {
        connector: &connector,
        credentials: &opened,
        secrets: &mut secrets,
        clock,
    };
    found.extend(super::witnesses::findings(settings, &mut making).await);
    found.extend(super::archive::finding(settings, &opened, clock).await);
    found.extend(credentials::rights(settings, &opened, &objects).await);
    if let Some(token) = me {
        found.extend(me::all(token, settings, &verifier, &opened).await);
    }
    found.extend(connector.skew().and_then(|skew| skew.nearest()).map(|skew| clocks(&skew)));
    Ok(found)
}

/// An error and its causes on one line.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some errors say their cause themselves.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

fn policies(settings: &Settings) -> Finding {
    match PolicySet::load(&settings.policies, &settings.surroundings()) {
        Ok((set, warnings)) => {
            let seen = format!("{} entries in `{}`", set.entries().count(), settings.policies.display());
            match warnings.first() {
                None => Finding::fine("policies", seen),
                Some(warning) => Finding::doubtful(
                    "policies",
                    format!("{seen}; {warning}"),
                    "`amlgate validate` lists all warnings",
                ),
            }
        }
        Err(problems) => {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            Finding::broken("policies", first, "`amlgate validate` lists all problems")
        }
    }
}

async fn listeners(settings: &Settings, secrets: &mut Secrets, clock: &SharedClock) -> Vec<Finding> {
    let reverse = settings.reverse.as_ref().and_then(|r| r.tls.as_ref());
    let admin = settings.admin.as_ref().and_then(|a| a.tls.as_ref());
    let mut found = Vec::new();
    let forward = settings.forward.as_ref().and_then(|f| f.tls.as_ref());
    for (name, tls) in [("reverse", reverse), ("forward", forward), ("admin", admin)] {
        let Some(tls) = tls else { continue };
        let part = format!("certificate of the {name} listener");
        let mend = "`amlgate certs init` makes a pair; chain and key must belong together";
        let loaded = match secrets.pair(tls).await {
            Ok((chain, key)) => super::secrets::bundle(tls).map_err(|e| causes(&e)).and_then(|clients| {
                let key = key.expose_secret().as_bytes();
                ServerTls::asking(&chain, key, clients.as_deref(), Protocols::Either).map_err(|e| causes(&e))
            }),
            Err(error) => Err(causes(&error)),
        };
        found.push(match loaded {
            Ok(_) => lasting(part, &tls.certificate, clock),
            Err(why) => Finding::broken(part, why, mend),
        });
    }
    found
}

/// A certificate and its end.
fn lasting(part: String, certificate: &Path, clock: &SharedClock) -> Finding {
    let seen = format!("`{}` and its key", certificate.display());
    let Some(until) = credentials::validity(certificate).1 else { return Finding::fine(part, seen) };
    let now = clock.now();
    let days = until.since(now).as_secs() / 86_400;
    let mend =
        "`amlgate certs rotate server`, or a new pair in its place: the gate takes it up while it runs";
    if until <= now {
        Finding::broken(part, format!("{seen}: it has ended"), mend)
    } else if days < credentials::SOON {
        Finding::doubtful(part, format!("{seen}: it ends in {days} days"), mend)
    } else {
        Finding::fine(part, format!("{seen}: it ends in {days} days"))
    }
}

async fn seal(settings: &Settings, secrets: &mut Secrets) -> Finding {
    let mut keys: Vec<SecretString> = Vec::new();
    for reference in &settings.seal {
        match secrets.read(reference, "keys.seal").await {
            Ok(key) => keys.push(key),
            Err(error) => {
                return Finding::broken("sealing keys", causes(&error), "`amlgate certs init` makes one");
            }
        }
    }
    match Seal::new(&keys) {
        Ok(_) => Finding::fine("sealing keys", format!("{} of them; the first seals, all open", keys.len())),
        Err(error) => Finding::broken("sealing keys", causes(&error), "write 32 random bytes in Base64"),
    }
}

async fn record(settings: &Settings, secrets: &mut Secrets) -> Finding {
    let audit = &settings.audit;
    let key = match secrets.read(&audit.signing_key, "audit.signing_key").await {
        Ok(key) => key,
        Err(error) => return Finding::broken("record", causes(&error), "`amlgate certs init` makes a key"),
    };
    let signer = match Signer::from_pem(&audit.name, key.expose_secret().as_bytes()) {
        Ok(signer) => signer,
        Err(error) => {
            return Finding::broken("record", causes(&error), "the signing key is Ed25519 in PKCS #8 PEM");
        }
    };
    match writable(&audit.directory) {
        Ok(()) => Finding::fine(
            "record",
            format!(
                "`{}` can be written; heads are signed by {}",
                audit.directory.display(),
                signer.verifier()
            ),
        ),
        Err(error) => Finding::broken(
            "record",
            format!("cannot write in `{}`: {error}", audit.directory.display()),
            "the gate's user must own `audit.directory`, and its disk must have space",
        ),
    }
}

/// Whether a file can be made, written through to the disk and removed.
fn writable(directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!(".doctor-{}", std::process::id()));
    let tried = fs::File::create(&path).and_then(|mut file| {
        std::io::Write::write_all(&mut file, &[0; 4_096])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    tried.and(removed)
}

/// What is to be said of the authorities of callers' certificates.
fn authorities(settings: &Settings, verifier: &Verifier, now: Timestamp) -> Vec<Finding> {
    const SOON: Duration = Duration::from_secs(30 * 24 * 3_600);
    if let Err(error) = super::machines::start(settings, verifier.certificates()) {
        let mend = "the files of `certificate` and `client_ca` hold authorities and revocation lists";
        return vec![Finding::broken("client certificates", causes(&error), mend)];
    }
    let date = |at: Timestamp| at.to_rfc3339();
    let one = |status: AuthorityStatus| {
        let part = format!("issuer {}", status.name);
        let lists = match (status.lists, status.renew) {
            (0, _) => "no revocation list".to_owned(),
            (lists, None) => format!("{lists} revocation lists"),
            (lists, Some(renew)) => format!("{lists} revocation lists, to be renewed by {}", date(renew)),
        };
        let ends = status.expires.unwrap_or_default();
        let seen = format!("authorities until {}; {lists}", date(ends));
        if status.renew.is_some_and(|renew| renew <= now) {
            Finding::broken(part, seen, "fetch the new list: certificates are refused while it has lapsed")
        } else if ends <= now.plus(SOON) {
            Finding::doubtful(part, seen, "add the next authority's certificate to the bundle")
        } else {
            Finding::fine(part, seen)
        }
    };
    verifier.certificates().status().into_iter().map(one).collect()
}

fn verifier(settings: &Settings, connector: &Connector, clock: &SharedClock) -> Verifier {
    let source = Arc::new(HttpKeySource::new(connector.clone()));
    let remembered = RememberedSettings { tokens: 1, ..RememberedSettings::default() };
    Verifier::new(settings.issuers.clone(), remembered, source, Arc::clone(clock))
}

fn issuers(verifier: &Verifier) -> Vec<Finding> {
    let mut found = Vec::new();
    for status in verifier.status() {
        let part = format!("issuer {} ({})", status.name, status.iss);
        found.push(match (status.usable, status.last_error) {
            (true, None) => {
                let plural = if status.keys.len() == 1 { "key" } else { "keys" };
                let seen = format!("{} {plural} that can be used", status.keys.len());
                match status.notes.first() {
                    None => Finding::fine(part, seen),
                    Some(note) => Finding::doubtful(
                        part,
                        format!(
                            "{seen}; {} are not used, `{}` because {}",
                            status.notes.len(),
                            note.key,
                            note.why
                        ),
                        "ask whoever runs the issuer to publish proper keys",
                    ),
                }
            }
            (true, Some(error)) => {
                Finding::doubtful(part, error, "its last good keys are used; look at the issuer")
            }
            (false, error) => Finding::unreachable(
                part,
                error.unwrap_or_else(|| "it gave no key".to_owned()),
                "check the issuer's URL, `address` and `trust`, and the way out (`outgoing.proxy`)",
            ),
        });
    }
    found
}

/// Whether a sink can be had, without exporting anything to it.
async fn exported(
    (kind, block): (&str, &str),
    found: &settings::Sink,
    workshop: &mut sinks::Workshop<'_>,
) -> Finding {
    let part = format!("{kind} {}", found.name);
    let made = match workshop.material(found).await {
        Ok(material) => workshop.sink(found, &material),
        Err(error) => Err(error),
    };
    let mut sink = match made {
        Ok(sink) => sink,
        Err(error) => {
            return Finding::broken(part, causes(&error), format!("mend what `{block}` says of it"));
        }
    };
    match sink.probe().await {
        Ok(seen) => Finding::fine(part, seen),
        Err(why) => Finding::unreachable(
            part,
            why,
            "check its URL, secret, `address` and `trust`, and the way out (`outgoing.proxy`)",
        ),
    }
}

/// What was seen of other clocks on the way.
fn clocks(skew: &Skew) -> Finding {
    if skew.is_doubtful() {
        let mend = "set this machine's clock by NTP: tokens are judged by it";
        Finding::doubtful("clock", skew.to_string(), mend)
    } else {
        Finding::fine("clock", skew.to_string())
    }
}

/// Whether the upstream answers at all, over TLS that is trusted. Nothing is asked that needs a right:
/// whatever status comes back was an answer.
async fn upstream(route: &settings::Route, connector: &Connector) -> Finding {
    let part = format!("route {}", route.name);
    let to = match build::upstream(route) {
        Ok(to) => to,
        Err(error) => {
            return Finding::broken(part, causes(&error), "`trust.ca` holds PEM certificates");
        }
    };
    match ask(connector, &to).await {
        Ok(()) => Finding::fine(part, format!("`{}` answers", to.authority())),
        Err(error) => {
            let mend = "check `upstream`, `address` and `trust`, and the way out (`outgoing.proxy`)";
            Finding::unreachable(part, causes(&error), mend)
        }
    }
}
async fn ask(connector: &Connector, to: &Destination) -> Result<(), FetchError> {
    let request = Request::builder().uri("/").header(header::HOST, to.authority()).body(Bytes::new());
    let request = request.unwrap_or_default();
    connector.send(to, request, FetchLimits::default()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_written_is_found_before_the_gate_needs_it() {
        let dir = tempfile::tempdir().unwrap();
        writable(&dir.path().join("new/one")).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("new/one")).unwrap().count(), 0, "nothing is left behind");
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(writable(&dir.path().join("file")).is_err());
    }
}
