//! The authorities and revocation lists by which callers' certificates are judged: read when the gate
//! starts, and again whenever their files change.
//!
//! What cannot be read or used changes nothing; that is said once for each content, and recorded. A
//! list that is not renewed lapses by itself.

use std::{collections::HashMap, path::Path};

use super::{
    StartError,
    reload::{record, refused},
};
use crate::{
    audit::event::Event,
    config::{self, Settings},
    identity::{Certificates, IssuerKind, certificate::BadAuthority},
    proxy::GateParts,
};

/// What was seen of each authority's files, by its name.
#[derive(Debug, Default)]
pub(super) struct Machines {
    seen: HashMap<String, [u8; 32]>,
}

/// An authority as its files stand.
struct Found {
    /// The issuer's name, or the listener's.
    name: String,
    /// The listener, if it is a listener's bundle.
    listener: Option<&'static str>,
    ca: Vec<u8>,
    lists: Vec<Vec<u8>>,
}

impl Found {
    fn digest(&self) -> [u8; 32] {
        let mut all = Vec::new();
        for part in std::iter::once(&self.ca).chain(&self.lists) {
            all.extend_from_slice(&config::digest(part));
        }
        config::digest(&all)
    }

    fn load(&self, certificates: &Certificates) -> Result<(), BadAuthority> {
        match self.listener {
            Some(listener) => certificates.load_bundle(listener, &self.ca),
            None => certificates.load(&self.name, &self.ca, &self.lists),
        }
    }
}

/// Every authority of a configuration, or why its files cannot be read.
fn all(settings: &Settings) -> Vec<(String, Result<Found, StartError>)> {
    let mut found = Vec::new();
    for issuer in &settings.issuers {
        let IssuerKind::Certificate(certificate) = &issuer.kind else { continue };
        let name = issuer.name.to_string();
        let read = file(&certificate.ca).and_then(|ca| {
            let lists = certificate.crl.iter().map(|path| file(path)).collect::<Result<_, _>>()?;
            Ok(Found { name: name.clone(), listener: None, ca, lists })
        });
        found.push((name, read));
    }
    let reverse = settings.reverse.as_ref().and_then(|r| r.tls.as_ref());
    let forward = settings.forward.as_ref().and_then(|f| f.tls.as_ref());
    for (listener, tls) in [("listen.reverse", reverse), ("listen.forward", forward)] {
        let Some(path) = tls.and_then(|tls| tls.client_ca.as_ref()) else { continue };
        let name = listener.to_owned();
        let read = file(path).map(|ca| Found {
            name: name.clone(),
            listener: Some(listener),
            ca,
            lists: Vec::new(),
        });
        found.push((name, read));
    }
    found
}

fn file(path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|source| StartError::File { path: path.to_owned(), source })
}

/// Puts in force what the files hold at the start.
///
/// # Errors
/// [`StartError::File`] or [`StartError::Authority`].
pub(super) fn start(settings: &Settings, certificates: &Certificates) -> Result<(), StartError> {
    for (name, found) in all(settings) {
        found?.load(certificates).map_err(|source| StartError::Authority { name, source })?;
    }
    Ok(())
}

impl Machines {
    /// Puts in force what changed in the files.
    pub(super) async fn look(&mut self, parts: &GateParts, settings: &Settings) {
        let certificates = parts.verifier.certificates();
        let found = all(settings);
        self.seen.retain(|name, _| found.iter().any(|(known, _)| known == name));
        for (name, found) in found {
            let (digest, outcome) = match found {
                Ok(found) => {
                    let digest = found.digest();
                    if self.seen.get(&name) == Some(&digest) {
                        continue;
                    }
                    (digest, found.load(certificates).map_err(|error| error.to_string()))
                }
                Err(error) => {
                    let problem = super::checkup::causes(&error);
                    let digest = config::digest(problem.as_bytes());
                    if self.seen.get(&name) == Some(&digest) {
                        continue;
                    }
                    (digest, Err(problem))
                }
            };
            let first = self.seen.insert(name.clone(), digest).is_none();
            match outcome {
                // At the start they were put in force already.
                Ok(()) if first => {}
                Ok(()) => {
                    tracing::info!(
                        authority = name,
                        "client certificates are judged by other authorities or lists"
                    );
                    record(parts, &Event::Reloaded { what: "client authorities", digest }).await;
                }
                Err(problem) => {
                    let problem = format!("`{name}`: {problem}");
                    refused(parts, "client authorities", &problem, 1).await;
                }
            }
        }
    }

    /// The next look loads everything anew: other issuers are in force.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }
}
