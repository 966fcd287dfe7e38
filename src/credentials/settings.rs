//! Credentials as configured, their secrets resolved.

use std::{borrow::Cow, fmt, path::PathBuf, sync::Arc};

use secrecy::SecretString;

use crate::{azureml::Audience, cloud::Cloud, net::Destination};

/// One credential.
#[derive(Clone)]
pub struct CredentialSettings {
    /// Its name in routes, records and metrics.
    pub name: Arc<str>,
    /// The tenant; `AZURE_TENANT_ID` for a workload identity that names none.
    pub tenant: Option<Box<str>>,
    /// The application; `AZURE_CLIENT_ID` for a workload identity that names none.
    pub client_id: Option<Box<str>>,
    /// How it proves itself.
    pub proof: Proof,
    /// In whose name it asks for tokens.
    pub acts_for: ActsFor,
    /// The login host.
    pub authority: Destination,
    /// SHA-256 of all that the settings were made from, secrets included: tells whether what lies
    /// there now is something else. It stays in memory.
    pub digest: [u8; 32],
}

impl fmt::Debug for CredentialSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the digest: of a weak secret it would be a way to try guesses.
        let Self { name, tenant, client_id, proof, acts_for, authority, digest: _ } = self;
        f.debug_struct("CredentialSettings")
            .field("name", name)
            .field("tenant", tenant)
            .field("client_id", client_id)
            .field("proof", proof)
            .field("acts_for", acts_for)
            .field("authority", authority)
            .finish()
    }
}

impl CredentialSettings {
    /// Whether tokens of these settings and of others speak for the same application or machine.
    /// Where the settings leave it to the machine, only equal settings do.
    #[must_use]
    pub fn is_identity_of(&self, other: &Self) -> bool {
        let named = |settings: &Self| (settings.tenant.clone(), settings.client_id.clone());
        let machine = |proof: &Proof| match proof {
            Proof::ManagedIdentity { client_id, object_id, resource_id, endpoint } => {
                Some((client_id.clone(), object_id.clone(), resource_id.clone(), endpoint.clone()))
            }
            Proof::Secret(_) | Proof::Certificate { .. } | Proof::WorkloadIdentity { .. } => None,
        };
        named(self) == named(other)
            && machine(&self.proof) == machine(&other.proof)
            && self.acts_for == other.acts_for
            && self.authority.authority() == other.authority.authority()
    }
}

/// In whose name a credential asks for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ActsFor {
    /// Its own.
    #[default]
    Itself,
    /// The caller's (`on_behalf_of`): Azure sees the person who sent the request.
    Caller,
}

/// How a credential proves itself.
#[derive(Clone)]
pub enum Proof {
    /// By a secret.
    Secret(SecretString),
    /// By a certificate: an assertion signed with its key (PS256, `x5t#S256`).
    Certificate {
        /// PEM, leaf first.
        certificate: Arc<[u8]>,
        /// PEM.
        private_key: SecretString,
        /// Whether the chain goes along, for subject-name and issuer authentication.
        send_chain: bool,
    },
    /// By a federated token in a file, read anew for each fetch.
    WorkloadIdentity {
        /// The file; `AZURE_FEDERATED_TOKEN_FILE` if none.
        token_file: Option<PathBuf>,
    },
    /// By the machine that it runs on; where it acts for callers, as the federated credential of its
    /// application.
    ManagedIdentity {
        /// A user-assigned identity by its client id.
        client_id: Option<Box<str>>,
        /// A user-assigned identity by its object id.
        object_id: Option<Box<str>>,
        /// A user-assigned identity by its ARM id.
        resource_id: Option<Box<str>>,
        /// The metadata service's base, where it is not the machine's own.
        endpoint: Option<http::Uri>,
    },
}

impl Proof {
    /// The word for it in status and records.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Secret(_) => "client_secret",
            Self::Certificate { .. } => "client_certificate",
            Self::WorkloadIdentity { .. } => "workload_identity",
            Self::ManagedIdentity { .. } => "managed_identity",
        }
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The resource of an audience, without `/.default`; `None` for an audience that takes no token.
#[must_use]
pub fn resource(cloud: &Cloud, audience: Audience) -> Option<Cow<'_, str>> {
    Some(match audience {
        Audience::None => return None,
        Audience::Arm => Cow::Borrowed(&*cloud.resource_manager_audience),
        Audience::MachineLearning => Cow::Borrowed(&*cloud.machine_learning),
        Audience::Graph => Cow::Borrowed(&*cloud.graph),
        Audience::KeyVault => Cow::Owned(cloud.key_vault_audience()),
        Audience::Monitor => Cow::Borrowed(&*cloud.monitor),
        Audience::Storage => Cow::Borrowed(&*cloud.storage_audience),
        // "Azure Kubernetes Service AAD Server": its application's id, which has no URI.
        Audience::Kubernetes => Cow::Borrowed("6dae42f8-4368-4678-94ff-3960e28e3630"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{CallerToken, VaultSecret};

    #[test]
    fn nothing_of_a_secret_is_printed_and_neither_is_its_digest() {
        let canary = || SecretString::from("canary-of-a-secret".to_owned());
        let proofs = [
            Proof::Secret(canary()),
            Proof::Certificate {
                certificate: Arc::from(&b"public"[..]),
                private_key: canary(),
                send_chain: false,
            },
        ];
        let mut printed = String::new();
        for proof in proofs {
            let settings = CredentialSettings {
                name: "gate".into(),
                tenant: None,
                client_id: None,
                proof: proof.clone(),
                acts_for: ActsFor::Itself,
                authority: Destination::https("login.example", 443),
                digest: [173; 32],
            };
            printed.push_str(&format!("{settings:?} {settings:#?} {proof:?}"));
        }
        let header = http::HeaderValue::from_static("Bearer canary-of-a-secret");
        let found = VaultSecret { value: canary(), version: "1".into(), created: None, expires: None };
        printed.push_str(&format!("{:?} {found:?}", CallerToken::new(&header)));
        assert!(!printed.contains("canary") && !printed.contains("173"), "{printed}");
        assert!(printed.contains("client_secret") && printed.contains("client_certificate"), "{printed}");
    }
}
