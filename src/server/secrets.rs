//! Secrets that the configuration names: read where they lie, and looked at again while the gate
//! runs.
//!
//! What lies in a vault is asked for at intervals and kept between: a vault that is down costs no
//! restart, and a listener's key is not fetched every few seconds.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use aws_lc_rs::digest::{Context, SHA256};
use secrecy::{ExposeSecret as _, SecretString};

use super::{StartError, build};
use crate::{
    config::{
        Settings, settings,
        settings::{Credential, Reference, VaultReference},
    },
    credentials::{ActsFor, CredentialSettings, Credentials, Proof, VaultSecret},
    secrets,
    time::{SharedClock, Timestamp},
};

/// How often a vault is asked whether it holds another version.
const VAULT_EVERY: Duration = Duration::from_secs(60);

/// Reads secrets. Owned by one task: at the start by the one that builds the gate, then by the one
/// that watches.
pub(super) struct Secrets {
    credentials: Credentials,
    /// Opens vaults for references that name no credential.
    opener: Option<Arc<str>>,
    kept: HashMap<(Arc<str>, String), Kept>,
    clock: SharedClock,
}

struct Kept {
    secret: VaultSecret,
    looked: Timestamp,
}

/// How old a secret is, where its place says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Age {
    /// Where it lies, and its version.
    pub place: String,
    /// Since when it is there.
    pub since: Option<Timestamp>,
    /// Until when it is good.
    pub until: Option<Timestamp>,
}

/// The authorities of which a listener's clients are asked for a certificate.
pub(super) fn bundle(tls: &settings::Tls) -> Result<Option<Vec<u8>>, StartError> {
    tls.client_ca.as_deref().map(file).transpose()
}

impl Secrets {
    /// Secrets of a configuration, whose vaults are opened by its credentials.
    pub(super) fn new(settings: &Settings, credentials: Credentials, clock: SharedClock) -> Self {
        Self { credentials, opener: opener(settings), kept: HashMap::new(), clock }
    }

    /// Opens vaults as another configuration says.
    pub(super) fn follow(&mut self, settings: &Settings) {
        self.opener = opener(settings);
    }

    /// The next reading asks the vaults, however lately they were asked.
    pub(super) fn expire(&mut self) {
        for kept in self.kept.values_mut() {
            kept.looked = Timestamp::default();
        }
    }

    /// The secret that a reference names, for `what`.
    pub(super) async fn read(
        &mut self,
        reference: &Reference,
        what: &str,
    ) -> Result<SecretString, StartError> {
        let failed = |source| StartError::Secret { what: what.to_owned(), source };
        match reference {
            Reference::Env(name) => secrets::from_env(name).map_err(failed),
            Reference::File(path) => secrets::from_file(path).map_err(failed),
            Reference::KeyVault(reference) => self.vault(reference, what).await.map(|found| found.value),
        }
    }

    /// A listener's chain and key.
    pub(super) async fn pair(&mut self, tls: &settings::Tls) -> Result<(Vec<u8>, SecretString), StartError> {
        let key = self.read(&tls.private_key, "the listener's private key").await?;
        Ok((file(&tls.certificate)?, key))
    }

    /// The interception authority's certificate and key.
    pub(super) async fn authority(
        &mut self,
        forward: &settings::Forward,
    ) -> Result<(String, SecretString), StartError> {
        let key = self.read(&forward.authority_key, "the interception authority's key").await?;
        Ok((String::from_utf8_lossy(&file(&forward.authority)?).into_owned(), key))
    }

    /// What a credential proves itself by, as it lies there now.
    pub(super) async fn material(&mut self, found: &Credential) -> Result<Material, StartError> {
        let secret = match found.proof.secret() {
            Some(reference) => Some(self.read(reference, &format!("the credential `{}`", found.name)).await?),
            None => None,
        };
        let certificate = match &found.proof {
            settings::Proof::Certificate { certificate, .. } => Some(file(certificate)?),
            settings::Proof::Secret(_)
            | settings::Proof::WorkloadIdentity { .. }
            | settings::Proof::ManagedIdentity { .. } => None,
        };
        let said = format!(
            "{:?}",
            (
                (&found.name, &found.tenant, &found.client_id, &found.proof, found.acts_for),
                (&found.authority, found.address),
            )
        );
        let mut context = Context::new(&SHA256);
        let text = secret.as_ref().map(|secret| secret.expose_secret().as_bytes());
        for part in [Some(said.as_bytes()), found.trust.as_deref(), certificate.as_deref(), text] {
            // Lengths first, so that no two lists of parts read the same.
            context.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
            context.update(part.unwrap_or_default());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Ok(Material { secret, certificate, digest })
    }

    /// A credential with its secrets.
    pub(super) async fn credential(&mut self, found: &Credential) -> Result<CredentialSettings, StartError> {
        let material = self.material(found).await?;
        material.credential(found)
    }

    /// How old the secret of a reference is, as far as its place says. What lies in a vault was read
    /// before.
    pub(super) fn age(&self, reference: &Reference) -> Age {
        match reference {
            Reference::Env(name) => {
                Age { place: format!("the environment variable `{name}`"), ..Age::default() }
            }
            Reference::File(path) => {
                let written = std::fs::metadata(path).and_then(|found| found.modified()).ok();
                let since = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
                Age {
                    place: format!("`{}`", path.display()),
                    since: since.map(|since| Timestamp::from_secs(since.as_secs())),
                    until: None,
                }
            }
            Reference::KeyVault(VaultReference { vault, secret, .. }) => {
                let kept = self.kept.get(&(vault.host.as_str().into(), secret.clone()));
                let version = kept.map_or("unknown", |kept| &*kept.secret.version);
                Age {
                    place: format!("`{secret}` in `{}`, version {version}", vault.host),
                    since: kept.and_then(|kept| kept.secret.created),
                    until: kept.and_then(|kept| kept.secret.expires),
                }
            }
        }
    }

    async fn vault(&mut self, reference: &VaultReference, what: &str) -> Result<VaultSecret, StartError> {
        let now = self.clock.now();
        let place = (Arc::from(reference.vault.host.as_str()), reference.secret.clone());
        if let Some(kept) = self.kept.get(&place).filter(|kept| now.since(kept.looked) < VAULT_EVERY) {
            return Ok(kept.secret.clone());
        }
        let to = build::vault(reference)?;
        let opener = reference.credential.as_ref().or(self.opener.as_ref()).map_or("", |name| &**name);
        let asked = self.credentials.vault_secret(opener, &to, &reference.secret).await;
        match (asked, self.kept.get_mut(&place)) {
            (Ok(secret), _) => {
                self.kept.insert(place, Kept { secret: secret.clone(), looked: now });
                Ok(secret)
            }
            (Err(error), Some(kept)) => {
                tracing::warn!(vault = &*place.0, secret = place.1, %error, "the vault was asked in vain; what it gave before is used");
                metrics::counter!("amlgate_vault_failures_total").increment(1);
                kept.looked = now;
                Ok(kept.secret.clone())
            }
            (Err(source), None) => Err(StartError::Vault { what: what.to_owned(), source }),
        }
    }
}

fn opener(settings: &Settings) -> Option<Arc<str>> {
    settings
        .credentials
        .iter()
        .find(|c| !c.proof.in_vault() && c.acts_for == ActsFor::Itself)
        .map(|c| Arc::clone(&c.name))
}

/// What a credential proves itself by.
pub(super) struct Material {
    secret: Option<SecretString>,
    certificate: Option<Vec<u8>>,
    /// SHA-256 of it and of all else that the configuration says of the credential.
    pub digest: [u8; 32],
}

impl Material {
    /// The settings of the credential that the material was read for.
    pub(super) fn credential(self, found: &Credential) -> Result<CredentialSettings, StartError> {
        let secret = || self.secret.clone().unwrap_or_default();
        let proof = match &found.proof {
            settings::Proof::Secret(_) => Proof::Secret(secret()),
            settings::Proof::Certificate { send_chain, .. } => Proof::Certificate {
                certificate: self.certificate.unwrap_or_default().into(),
                private_key: secret(),
                send_chain: *send_chain,
            },
            settings::Proof::WorkloadIdentity { token_file } => {
                Proof::WorkloadIdentity { token_file: token_file.clone() }
            }
            settings::Proof::ManagedIdentity { client_id, object_id, resource_id, endpoint } => {
                Proof::ManagedIdentity {
                    client_id: client_id.as_deref().map(Into::into),
                    object_id: object_id.as_deref().map(Into::into),
                    resource_id: resource_id.as_deref().map(Into::into),
                    endpoint: endpoint.clone(),
                }
            }
        };
        Ok(CredentialSettings {
            name: Arc::clone(&found.name),
            tenant: found.tenant.as_deref().map(Into::into),
            client_id: found.client_id.as_deref().map(Into::into),
            proof,
            acts_for: found.acts_for,
            authority: build::authority(found)?,
            digest: self.digest,
        })
    }
}

pub(super) fn file(path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|source| StartError::File { path: path.to_owned(), source })
}
