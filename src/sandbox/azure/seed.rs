//! What is in the sandbox's Azure when it starts.

use serde_json::{Value, json};

use super::{
    arm::items,
    entra::App,
    names,
    roles::{Assignment, Role},
    world::World,
};
use crate::{
    sandbox::{PEOPLE, Person},
    time::Timestamp,
};

/// The applications.
pub fn apps() -> Vec<App> {
    vec![
        App {
            client_id: names::GATE_CLIENT.to_owned(),
            principal: names::GATE_PRINCIPAL.to_owned(),
            id_uri: Some(names::GATE_APP_ID_URI.to_owned()),
            secrets: vec![names::GATE_SECRET.to_owned()],
            ..App::default()
        },
        App {
            client_id: names::STRANGER_CLIENT.to_owned(),
            principal: names::STRANGER_PRINCIPAL.to_owned(),
            secrets: vec![names::STRANGER_SECRET.to_owned()],
            ..App::default()
        },
    ]
}

/// Who may do what. The gate can do everything in the resource group, so that whatever is refused
/// was refused by the gate; the people have the roles that their work needs.
fn assignments() -> Vec<Assignment> {
    let group = names::group_id();
    let workspace = names::workspace_id(names::WORKSPACE);
    let subscription = format!("/subscriptions/{}", names::SUBSCRIPTION);
    let of = |name: &str| Person::named(name).map_or("", |p| p.object_id);
    let groups_of = |name: &str| {
        PEOPLE.iter().find(|p| p.name == name).and_then(|p| p.group_ids.first()).copied().unwrap_or_default()
    };
    let given = [
        (names::GATE_PRINCIPAL, "ServicePrincipal", "Contributor", &group),
        // Role definitions and assignments are read at the subscription.
        (names::GATE_PRINCIPAL, "ServicePrincipal", "Reader", &subscription),
        (names::GATE_PRINCIPAL, "ServicePrincipal", "Key Vault Secrets User", &group),
        (names::MACHINE_PRINCIPAL, "ServicePrincipal", "Contributor", &group),
        (names::MACHINE_PRINCIPAL, "ServicePrincipal", "Key Vault Secrets User", &group),
        (groups_of("sam"), "Group", "AzureML Data Scientist", &workspace),
        (of("rita"), "User", "Reader", &workspace),
        (of("pat"), "User", "Owner", &group),
        (of("alex"), "User", "Reader", &group),
        (of("ci"), "ServicePrincipal", "AzureML Data Scientist", &workspace),
        (names::GATE_PRINCIPAL, "ServicePrincipal", "Monitoring Metrics Publisher", &group),
    ];
    given
        .into_iter()
        .enumerate()
        .filter_map(|(i, (principal, principal_type, role, scope))| {
            Some(Assignment {
                id: format!("a5510000-0000-4000-8000-{:012}", i + 1),
                principal: principal.to_owned(),
                principal_type,
                role: Role::find(role)?,
                scope: scope.clone(),
                condition: None,
            })
        })
        .collect()
}

/// The state at the start.
pub fn world(now: Timestamp) -> World {
    let mut world = World::new(assignments());
    for principal in [names::GATE_PRINCIPAL, names::MACHINE_PRINCIPAL] {
        let granted = ["GroupMember.Read.All", "User.ReadBasic.All"].map(ToOwned::to_owned);
        world.graph_permissions.insert(principal.to_owned(), granted.to_vec());
    }
    for name in [names::WORKSPACE, names::OTHER_WORKSPACE] {
        workspace(&mut world, name, now);
    }
    let id = names::workspace_id(names::WORKSPACE);
    let by = names::GATE_PRINCIPAL;
    for (i, (name, status)) in [
        ("churn-train-1", "Completed"),
        ("churn-train-2", "Completed"),
        ("churn-train-3", "Failed"),
        ("churn-sweep-1", "Canceled"),
        ("churn-train-4", "Completed"),
    ]
    .into_iter()
    .enumerate()
    {
        let made = now.minus(std::time::Duration::from_secs(86_400 * (5 - i as u64)));
        world.put(&format!("{id}/jobs/{name}"), "workspaces/jobs", job(name, status), by, made);
    }
    for (assets, name, version, properties) in assets() {
        items::put_version(&mut world, &id, assets, name, version, properties, by, now);
    }
    for (kind, canonical, name, mut body) in singles() {
        items::complete(kind, &mut body);
        let resource = world.put(&format!("{id}/{canonical}/{name}"), kind, body, by, now);
        if kind == "workspaces/onlineendpoints" {
            resource.secret = items::new_keys();
        }
        if kind == "workspaces/connections" {
            resource.secret = json!({"key": "sandbox-connection-key"});
        }
    }
    for endpoint in [names::ENDPOINT, names::AAD_ENDPOINT] {
        let blue = format!("{id}/onlineEndpoints/{endpoint}/deployments/blue");
        let mut body = json!({
            "location": names::REGION,
            "sku": {"name": "Default", "capacity": 1},
            "properties": {
                "endpointComputeType": "Managed",
                "model": format!("{id}/models/churn/versions/1"),
                "instanceType": "Standard_DS3_v2",
                "provisioningState": "Succeeded",
            },
        });
        let kind = "workspaces/onlineendpoints/deployments";
        items::complete(kind, &mut body);
        world.put(&blue, kind, body, by, now);
    }
    world.set_secret("gate-client-secret", names::GATE_SECRET, now);
    world
}

fn workspace(world: &mut World, name: &str, now: Timestamp) {
    let group = names::group_id();
    let body = json!({
        "location": names::REGION,
        "kind": "Default",
        "tags": {"team": "vision"},
        "identity": {"type": "SystemAssigned", "tenantId": names::TENANT, "principalId": names::MACHINE_PRINCIPAL},
        "sku": {"name": "Basic", "tier": "Basic"},
        "properties": {
            "friendlyName": name,
            "description": "a workspace of the sandbox",
            "storageAccount": super::storage::account_id(),
            "keyVault": super::vault::vault_id(),
            "applicationInsights": format!("{group}/providers/Microsoft.Insights/components/vision-insights"),
            "containerRegistry": null,
            "hbiWorkspace": false,
            "publicNetworkAccess": "Enabled",
            "provisioningState": "Succeeded",
            "workspaceId": if name == names::WORKSPACE { "0e5a0000-0000-4000-8000-000000000001" } else { "0e5a0000-0000-4000-8000-000000000002" },
            "tenantId": names::TENANT,
            "enableDataIsolation": false,
            "v1LegacyMode": false,
        },
    });
    let id = names::workspace_id(name);
    world.put(&id, "workspaces", body, names::GATE_PRINCIPAL, now);
    for (store, container) in
        [("workspaceblobstore", names::CONTAINER), ("workspaceartifactstore", names::CONTAINER)]
    {
        let body = json!({"properties": {
            "datastoreType": "AzureBlob",
            "accountName": names::ACCOUNT,
            "containerName": container,
            "endpoint": "core.windows.net",
            "protocol": "https",
            "isDefault": store == "workspaceblobstore",
            "credentials": {"credentialsType": "Sas"},
            "tags": {},
            "properties": {},
        }});
        let id = format!("{id}/datastores/{store}");
        world.put(&id, "workspaces/datastores", body, names::GATE_PRINCIPAL, now);
    }
}

fn job(name: &str, status: &str) -> Value {
    let id = names::workspace_id(names::WORKSPACE);
    json!({"properties": {
        "jobType": "Command",
        "displayName": name,
        "experimentName": "churn",
        "status": status,
        "command": "python train.py --epochs 10",
        "environmentId": format!("{id}/environments/sklearn/versions/1"),
        "computeId": format!("{id}/computes/cpu-cluster"),
        "codeId": null,
        "inputs": {},
        "outputs": {"default": {"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": null}},
        "resources": {"instanceCount": 1},
        "isArchived": false,
        "tags": {},
        "properties": {},
    }})
}

fn assets() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    vec![
        (
            "models",
            "churn",
            "1",
            json!({
                "modelUri": "azureml://jobs/churn-train-1/outputs/default", "modelType": "mlflow_model",
                "jobName": "churn-train-1", "isArchived": false, "isAnonymous": false, "tags": {}, "properties": {},
            }),
        ),
        (
            "environments",
            "sklearn",
            "1",
            json!({
                "image": "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04", "osType": "Linux",
                "environmentType": "UserCreated", "isArchived": false, "isAnonymous": false, "tags": {}, "properties": {},
            }),
        ),
        (
            "data",
            "customers",
            "1",
            json!({
                "dataType": "uri_file", "dataUri": "azureml://datastores/workspaceblobstore/paths/customers.csv",
                "isArchived": false, "isAnonymous": false, "tags": {}, "properties": {},
            }),
        ),
    ]
}

fn singles() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let endpoint = |mode: &str| {
        json!({
            "location": names::REGION,
            "kind": "Managed",
            "identity": {"type": "SystemAssigned"},
            "tags": {},
            "properties": {
                "authMode": mode, "traffic": {"blue": 100}, "mirrorTraffic": {}, "properties": {},
                "publicNetworkAccess": "Enabled", "provisioningState": "Succeeded",
            },
        })
    };
    vec![
        (
            "workspaces/computes",
            "computes",
            "cpu-cluster",
            json!({
                "location": names::REGION,
                "tags": {},
                "properties": {
                    "computeType": "AmlCompute", "provisioningState": "Succeeded",
                    "properties": {
                        "vmSize": "STANDARD_DS3_V2", "vmPriority": "Dedicated", "osType": "Linux",
                        "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT2M"},
                        "allocationState": "Steady", "currentNodeCount": 0, "targetNodeCount": 0,
                    },
                },
            }),
        ),
        ("workspaces/onlineendpoints", "onlineEndpoints", names::ENDPOINT, endpoint("Key")),
        ("workspaces/onlineendpoints", "onlineEndpoints", names::AAD_ENDPOINT, endpoint("AADToken")),
        (
            "workspaces/connections",
            "connections",
            "feature-api",
            json!({"properties": {"authType": "ApiKey", "category": "ApiKey", "target": "https://features.example.com"}}),
        ),
    ]
}
