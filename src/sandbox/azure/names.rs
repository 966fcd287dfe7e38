//! The names of the sandbox's Azure: they never change, so that commands can be copied and pasted.

use super::clouds::{CLOUDS, SimulatedCloud};

/// The tenant.
pub const TENANT: &str = "72f988bf-0000-4000-8000-000000000001";
/// A second tenant, with the same people as guests: it trusts nothing of the first.
pub const PARTNER_TENANT: &str = "72f988bf-0000-4000-8000-000000000002";
/// A subscription of the second tenant, empty.
pub const PARTNER_SUBSCRIPTION: &str = "22222222-3333-4444-8555-666666666666";
/// The subscription.
pub const SUBSCRIPTION: &str = "11111111-2222-4333-8444-555555555555";
/// The resource group of everything.
pub const RESOURCE_GROUP: &str = "rg-vision";
/// The workspace with jobs, models, an endpoint and a compute cluster in it.
pub const WORKSPACE: &str = "vision";
/// A second workspace, empty.
pub const OTHER_WORKSPACE: &str = "other";
/// Where it all is.
pub const REGION: &str = "westeurope";
/// The managed online endpoint that takes keys.
pub const ENDPOINT: &str = "churn";
/// The managed online endpoint that takes Entra tokens.
pub const AAD_ENDPOINT: &str = "churn-aad";
/// The storage account behind the workspace.
pub const ACCOUNT: &str = "visionstore";
/// The key vault.
pub const VAULT: &str = "vision-kv";
/// The default container.
pub const CONTAINER: &str = "azureml";
/// A container with an immutability policy: what is in it is neither changed nor removed.
pub const IMMUTABLE_CONTAINER: &str = "amlgate-record";

/// Client id of the application that is the gate towards Azure.
pub const GATE_CLIENT: &str = "9a7e0000-0000-4000-8000-00000000a001";
/// Its secret.
pub const GATE_SECRET: &str = "sandbox-secret-of-the-gate";
/// Object id of its service principal.
pub const GATE_PRINCIPAL: &str = "9a7e0000-0000-4000-8000-00000000b001";
/// What callers of the gate ask tokens for in Entra.
pub const GATE_APP_ID_URI: &str = "api://amlgate";
/// Object id of the machine's managed identity.
pub const MACHINE_PRINCIPAL: &str = "9a7e0000-0000-4000-8000-00000000b002";
/// Client id of the machine's managed identity.
pub const MACHINE_CLIENT: &str = "9a7e0000-0000-4000-8000-00000000a002";
/// Client id of an application with no role assignment at all.
pub const STRANGER_CLIENT: &str = "9a7e0000-0000-4000-8000-00000000a003";
/// Its secret.
pub const STRANGER_SECRET: &str = "sandbox-secret-of-a-stranger";
/// Object id of its service principal.
pub const STRANGER_PRINCIPAL: &str = "9a7e0000-0000-4000-8000-00000000b003";
/// What App Service style managed identity requests must carry in `X-IDENTITY-HEADER`.
pub const IDENTITY_HEADER: &str = "sandbox-identity-header";

/// The ARM id of a workspace.
#[must_use]
pub fn workspace_id(name: &str) -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}/providers/Microsoft.MachineLearningServices/workspaces/{name}"
    )
}

/// The ARM id of the resource group.
#[must_use]
pub fn group_id() -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}")
}

/// The storage account's ARM id.
#[must_use]
pub fn account_id() -> String {
    format!("{}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}", group_id())
}

/// The hosts whose TLS a gate in front of this Azure ends in tunnels, in whichever cloud.
#[must_use]
pub fn intercepted() -> Vec<String> {
    let of = |cloud: &SimulatedCloud| {
        [
            cloud.arm.to_owned(),
            format!("{REGION}.{}", cloud.data_plane),
            cloud.scoring(),
            format!("{ACCOUNT}.blob.{}", cloud.storage),
            format!("{VAULT}.{}", cloud.vault),
            cloud.login.to_owned(),
        ]
    };
    CLOUDS.iter().flat_map(of).collect()
}
