//! Tokens for the gate's own calls: a closed list of purposes, each use counted. They cannot be
//! used for a caller's request, whose tokens are of another type (DECISIONS 12).

use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};

use super::{CredentialError, Credentials};
use crate::{
    azureml::Audience,
    net::{Destination, FetchLimits},
};

/// What the gate itself calls Azure for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServicePurpose {
    /// The keys of scoring endpoints, for whoever scores with a handle.
    EndpointKeys,
    /// Secrets that the configuration names in a vault.
    VaultSecrets,
    /// `doctor` looks whether the credential may do anything at all.
    Probe,
}

impl ServicePurpose {
    const fn name(self) -> &'static str {
        match self {
            Self::EndpointKeys => "endpoint_keys",
            Self::VaultSecrets => "vault_secrets",
            Self::Probe => "probe",
        }
    }

    const fn audience(self) -> Audience {
        match self {
            Self::EndpointKeys | Self::Probe => Audience::Arm,
            Self::VaultSecrets => Audience::KeyVault,
        }
    }
}

/// A token for one purpose.
pub struct ServiceToken {
    header: HeaderValue,
}

impl fmt::Debug for ServiceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceToken")
    }
}

impl Credentials {
    /// A token for a call of the gate's own.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn service(
        &self,
        purpose: ServicePurpose,
        credential: &str,
    ) -> Result<ServiceToken, CredentialError> {
        metrics::counter!("amlgate_service_token_uses_total", "purpose" => purpose.name()).increment(1);
        let header = self.bearer(credential, purpose.audience(), None).await?;
        let header = header.ok_or_else(|| CredentialError::passing("the purpose takes no token"))?;
        Ok(ServiceToken { header })
    }

    /// Sends a call of the gate's own.
    ///
    /// # Errors
    /// [`CredentialError::Passing`] if there is no answer.
    pub async fn call(
        &self,
        token: &ServiceToken,
        to: &Destination,
        mut request: Request<Bytes>,
    ) -> Result<Response<Bytes>, CredentialError> {
        request.headers_mut().insert(header::AUTHORIZATION, token.header.clone());
        self.connector()
            .send(to, request, FetchLimits::default())
            .await
            .map_err(|e| CredentialError::passing(e.to_string()))
    }

    /// A secret of a vault, by its latest version (api-version 7.4).
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn vault_secret(
        &self,
        credential: &str,
        vault: &Destination,
        name: &str,
    ) -> Result<secrecy::SecretString, CredentialError> {
        #[derive(serde::Deserialize)]
        struct Secret {
            value: secrecy::SecretString,
        }
        const MEND: &str = "give the gate's identity the role Key Vault Secrets User on the vault";
        let token = self.service(ServicePurpose::VaultSecrets, credential).await?;
        let request = Request::get(format!("/secrets/{name}?api-version=7.4"))
            .body(Bytes::new())
            .map_err(|_| CredentialError::local(format!("`{name}` is no secret's name"), MEND))?;
        let answer = self.call(&token, vault, request).await?;
        if !answer.status().is_success() {
            let what = format!("the vault `{vault}` answered {} for the secret `{name}`", answer.status());
            return Err(CredentialError::Fatal {
                code: answer.status().as_str().to_owned(),
                what,
                mend: MEND,
            });
        }
        serde_json::from_slice::<Secret>(answer.body())
            .map(|s| s.value)
            .map_err(|_| CredentialError::passing(format!("the vault `{vault}` answered no secret")))
    }
}
