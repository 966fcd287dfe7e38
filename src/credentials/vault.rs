//! Secrets that the configuration names in a vault.

use std::fmt;

use bytes::Bytes;
use http::{Request, StatusCode};
use secrecy::SecretString;

use super::{CredentialError, Credentials, ServicePurpose, error::retry_after};
use crate::{net::Destination, time::Timestamp};

/// What every vault speaks.
const API_VERSION: &str = "7.4";
/// A secret's name is no longer.
const MAX_NAME: usize = 127;

/// A version of a secret, as the vault gave it.
#[derive(Clone)]
pub struct VaultSecret {
    /// What nobody may see.
    pub value: SecretString,
    /// The version, the last segment of its id.
    pub version: Box<str>,
    /// When this version was made.
    pub created: Option<Timestamp>,
    /// When it ends, if the vault says so.
    pub expires: Option<Timestamp>,
}

impl fmt::Debug for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultSecret(version {})", self.version)
    }
}

/// What a vault answers (Get Secret, api-version 7.4).
#[derive(serde::Deserialize)]
struct Answer {
    value: SecretString,
    id: String,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(serde::Deserialize, Default)]
struct Attributes {
    created: Option<u64>,
    exp: Option<u64>,
}

impl From<Answer> for VaultSecret {
    fn from(answer: Answer) -> Self {
        let version = answer.id.rsplit('/').next().unwrap_or_default();
        let version = version.chars().filter(char::is_ascii_alphanumeric).take(64).collect::<String>();
        Self {
            value: answer.value,
            version: version.into(),
            created: answer.attributes.created.map(Timestamp::from_secs),
            expires: answer.attributes.exp.map(Timestamp::from_secs),
        }
    }
}

impl Credentials {
    /// A secret of a vault, by its latest enabled version.
    ///
    /// # Errors
    /// [`CredentialError`]: fatal with its mend if the vault refuses or has no such secret, passing
    /// if it does not answer.
    pub async fn vault_secret(
        &self,
        credential: &str,
        vault: &Destination,
        name: &str,
    ) -> Result<VaultSecret, CredentialError> {
        const NAME: &str = "a secret's name has letters, digits and `-`";
        let unnamed = || CredentialError::local(format!("`{name}` is no secret's name"), NAME);
        if name.is_empty()
            || name.len() > MAX_NAME
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        {
            return Err(unnamed());
        }
        let request = Request::get(format!("/secrets/{name}?api-version={API_VERSION}"))
            .body(Bytes::new())
            .map_err(|_| unnamed())?;
        let token = self.service(ServicePurpose::VaultSecrets, credential).await?;
        let answer = self.call(&token, vault, request).await?;
        let status = answer.status();
        if status.is_success() {
            return serde_json::from_slice::<Answer>(answer.body())
                .map(VaultSecret::from)
                .map_err(|_| CredentialError::passing(format!("the vault `{vault}` answered no secret")));
        }
        let what = format!("the vault `{vault}` answered {status} for the secret `{name}`");
        let fatal =
            |mend| CredentialError::Fatal { code: status.as_str().to_owned(), what: what.clone(), mend };
        Err(match status {
            StatusCode::NOT_FOUND => fatal("put the secret into the vault, or name the one that is there"),
            StatusCode::TOO_MANY_REQUESTS => {
                CredentialError::Passing { what, retry_after: retry_after(answer.headers()) }
            }
            status if status.is_server_error() => CredentialError::passing(what),
            _ => fatal("give the gate's identity the role Key Vault Secrets User on the vault"),
        })
    }
}
