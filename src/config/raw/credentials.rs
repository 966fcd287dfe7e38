//! `credentials`: who the gate is towards Azure, as it is written.

use serde::Deserialize;

use super::{Reference, Text, Trust};
use crate::yaml::Spanned;

/// One of `credentials`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Its name in routes.
    pub name: Text,
    /// The tenant; not needed by a managed identity.
    pub tenant: Option<Text>,
    /// The application; optional for a managed identity.
    pub client_id: Option<Text>,
    /// A secret.
    pub client_secret: Option<Spanned<Reference>>,
    /// A certificate with its key.
    pub client_certificate: Option<Spanned<ClientCertificate>>,
    /// A federated token in a file.
    pub workload_identity: Option<Spanned<WorkloadIdentity>>,
    /// The machine's own identity.
    pub managed_identity: Option<Spanned<ManagedIdentity>>,
    /// The caller themself: the application proves itself by what stands in it.
    pub on_behalf_of: Option<Spanned<OnBehalfOf>>,
    /// The login host, where it is not the cloud's.
    pub authority: Option<Text>,
    /// Connect here instead of resolving the name.
    pub address: Option<Text>,
    /// Extra roots.
    pub trust: Option<Spanned<Trust>>,
}

/// `on_behalf_of`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnBehalfOf {
    /// A secret.
    pub client_secret: Option<Spanned<Reference>>,
    /// A certificate with its key.
    pub client_certificate: Option<Spanned<ClientCertificate>>,
    /// A federated token in a file.
    pub workload_identity: Option<Spanned<WorkloadIdentity>>,
    /// The machine's own identity, as a federated credential of the application.
    pub managed_identity: Option<Spanned<AssertingIdentity>>,
}

/// `managed_identity` in `on_behalf_of`, where `client_id` beside it is the application's.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssertingIdentity {
    /// A user-assigned identity by its client id.
    pub client_id: Option<Text>,
    /// A user-assigned identity by its object id.
    pub object_id: Option<Text>,
    /// A user-assigned identity by its ARM id.
    pub resource_id: Option<Text>,
    /// The endpoint, where the environment does not tell.
    pub endpoint: Option<Text>,
}

/// `client_certificate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// PEM file.
    pub certificate: Text,
    /// Its key.
    pub private_key: Spanned<Reference>,
    /// Whether to send the chain (subject name and issuer authentication).
    #[serde(default)]
    pub send_chain: bool,
}

/// `workload_identity`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadIdentity {
    /// The token's file; `AZURE_FEDERATED_TOKEN_FILE` by default.
    pub token_file: Option<Text>,
}

/// `managed_identity`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagedIdentity {
    /// A user-assigned identity by its object id.
    pub object_id: Option<Text>,
    /// A user-assigned identity by its ARM id.
    pub resource_id: Option<Text>,
    /// The endpoint, where the environment does not tell.
    pub endpoint: Option<Text>,
}
