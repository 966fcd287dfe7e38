//! Tokens for the gate's own calls: a closed list of purposes, each with its hosts, each use
//! counted. They cannot be used for a caller's request, whose tokens are of another type
//! (DECISIONS 12).

use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};

use super::{CredentialError, Credentials};
use crate::{
    azureml::Audience,
    cloud::{Cloud, Service},
    net::{Destination, FetchLimits},
};

/// What the gate itself calls Azure for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServicePurpose {
    /// The keys of scoring endpoints, for whoever scores with a handle.
    EndpointKeys,
    /// Jobs, models and deployments, for the chain of custody, and the ids of statements on models.
    Custody,
    /// Runs of jobs, for what they measured.
    RunHistory,
    /// Secrets that the configuration names in a vault.
    VaultSecrets,
    /// What callers may do in Azure, for entries with `rights: azure`.
    Rights,
    /// The groups of callers whose tokens do not carry all of them.
    Groups,
    /// The record, to a data collection rule of Azure Monitor.
    LogsIngestion,
    /// Azure's activity log, for `audit reconcile`.
    ActivityLog,
    /// Heads and old segments of the record, to a container of blobs.
    RecordStorage,
    /// `doctor` looks whether the credential may do anything at all.
    Probe,
}

impl ServicePurpose {
    const fn name(self) -> &'static str {
        match self {
            Self::EndpointKeys => "endpoint_keys",
            Self::Custody => "custody",
            Self::RunHistory => "run_history",
            Self::VaultSecrets => "vault_secrets",
            Self::Rights => "rights",
            Self::Groups => "groups",
            Self::LogsIngestion => "logs_ingestion",
            Self::ActivityLog => "activity_log",
            Self::RecordStorage => "record_storage",
            Self::Probe => "probe",
        }
    }

    const fn audience(self) -> Audience {
        match self {
            Self::Groups => Audience::Graph,
            Self::EndpointKeys
            | Self::Custody
            | Self::RunHistory
            | Self::Rights
            | Self::ActivityLog
            | Self::Probe => Audience::Arm,
            Self::LogsIngestion => Audience::Monitor,
            Self::RecordStorage => Audience::Storage,
            Self::VaultSecrets => Audience::KeyVault,
        }
    }

    /// Whether a token of this purpose may be sent to a host: the resource itself, or for vaults a
    /// name directly below it, for ingestion a name below its `ingest`. (Where the host is dialled does
    /// not matter: TLS checks the name.)
    fn reaches(self, cloud: &Cloud, host: &str) -> bool {
        match self {
            Self::Groups => cloud.graph.strip_prefix("https://") == Some(host),
            Self::EndpointKeys | Self::Custody | Self::Rights | Self::ActivityLog | Self::Probe => {
                host == cloud.resource_manager_host()
            }
            Self::RunHistory => cloud.service(host) == Some(Service::DataPlane),
            Self::VaultSecrets => cloud.is_vault(host),
            Self::LogsIngestion => cloud.is_ingestion(host),
            Self::RecordStorage => cloud.service(host) == Some(Service::Storage),
        }
    }
}

/// A token for one purpose.
pub struct ServiceToken {
    purpose: ServicePurpose,
    header: HeaderValue,
}

impl fmt::Debug for ServiceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceToken({})", self.purpose.name())
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
        Ok(ServiceToken { purpose, header })
    }

    /// Sends a call of the gate's own, to a host of the token's purpose and over TLS only.
    ///
    /// # Errors
    /// [`CredentialError::Fatal`] for another host, [`CredentialError::Passing`] if there is no
    /// answer.
    pub async fn call(
        &self,
        token: &ServiceToken,
        to: &Destination,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, CredentialError> {
        self.call_within(token, to, request, FetchLimits::default()).await
    }

    /// As [`Self::call`], for answers that are larger or take longer than others.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn call_within(
        &self,
        token: &ServiceToken,
        to: &Destination,
        mut request: Request<Bytes>,
        limits: FetchLimits,
    ) -> Result<Response<Bytes>, CredentialError> {
        if to.scheme != crate::net::Scheme::Https || !token.purpose.reaches(self.cloud(), &to.host) {
            return Err(CredentialError::local(
                format!("a token for `{}` is not sent to `{to}`", token.purpose.name()),
                "name the host as Azure does; `address` says where to connect instead",
            ));
        }
        request.headers_mut().insert(header::AUTHORIZATION, token.header.clone());
        self.connector().send(to, request, limits).await.map_err(|e| CredentialError::passing(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_token_reaches_the_hosts_of_its_purpose_only() {
        use ServicePurpose::{
            ActivityLog, Custody, EndpointKeys, Groups, LogsIngestion, Probe, RecordStorage, Rights,
            RunHistory, VaultSecrets,
        };
        for (purpose, host, reached) in [
            (EndpointKeys, "management.azure.com", true),
            (Custody, "management.azure.com", true),
            (Custody, "westeurope.api.azureml.ms", false),
            (RunHistory, "westeurope.api.azureml.ms", true),
            (RunHistory, "management.azure.com", false),
            (RunHistory, "westeurope.api.azureml.ms.evil.com", false),
            (Probe, "management.azure.com", true),
            (Rights, "management.azure.com", true),
            (Rights, "graph.microsoft.com", false),
            (Groups, "graph.microsoft.com", true),
            (Groups, "management.azure.com", false),
            (Groups, "graph.microsoft.com.evil.com", false),
            (EndpointKeys, "management.azure.com.evil.com", false),
            (EndpointKeys, "management.usgovcloudapi.net", false),
            (EndpointKeys, "corp.vault.azure.net", false),
            (VaultSecrets, "corp.vault.azure.net", true),
            (VaultSecrets, "vault.azure.net", false),
            (VaultSecrets, ".vault.azure.net", false),
            (VaultSecrets, "evilvault.azure.net", false),
            (VaultSecrets, "a.b.vault.azure.net", false),
            (VaultSecrets, "management.azure.com", false),
            (ActivityLog, "management.azure.com", true),
            (LogsIngestion, "gate-ab12.westeurope-1.ingest.monitor.azure.com", true),
            (LogsIngestion, "monitor.azure.com", false),
            (LogsIngestion, ".ingest.monitor.azure.com", false),
            (LogsIngestion, "evilingest.monitor.azure.com", false),
            (LogsIngestion, "x.ingest.monitor.azure.com.evil.com", false),
            (LogsIngestion, "management.azure.com", false),
            (RecordStorage, "kept.blob.core.windows.net", true),
            (RecordStorage, "kept.file.core.windows.net", false),
            (RecordStorage, "blob.core.windows.net", false),
            (RecordStorage, "kept.blob.core.windows.net.evil.com", false),
            (RecordStorage, "management.azure.com", false),
        ] {
            assert_eq!(purpose.reaches(&Cloud::public(), host), reached, "{purpose:?} {host}");
        }
        assert!(VaultSecrets.reaches(&Cloud::named("usgov").unwrap(), "corp.vault.usgovcloudapi.net"));
    }
}
