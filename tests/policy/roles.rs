use amlgate::policy::roles::Roles;

use super::golden;

/// Actions that tell the roles apart: the wildcard cases, secrets, compute, networks, both planes.
const ACTIONS: &[&str] = &[
    "Microsoft.MachineLearningServices/workspaces/read",
    "Microsoft.MachineLearningServices/workspaces/write",
    "Microsoft.MachineLearningServices/workspaces/delete",
    "Microsoft.MachineLearningServices/workspaces/listKeys/action",
    "Microsoft.MachineLearningServices/workspaces/resynckeys/action",
    "Microsoft.MachineLearningServices/workspaces/diagnose/read",
    "Microsoft.MachineLearningServices/workspaces/jobs/read",
    "Microsoft.MachineLearningServices/workspaces/jobs/write",
    "Microsoft.MachineLearningServices/workspaces/jobs/delete",
    "Microsoft.MachineLearningServices/workspaces/jobs/cancel/action",
    "Microsoft.MachineLearningServices/workspaces/models/versions/read",
    "Microsoft.MachineLearningServices/workspaces/models/versions/write",
    "Microsoft.MachineLearningServices/workspaces/models/versions/delete",
    "Microsoft.MachineLearningServices/workspaces/environments/readSecrets/action",
    "Microsoft.MachineLearningServices/workspaces/computes/read",
    "Microsoft.MachineLearningServices/workspaces/computes/write",
    "Microsoft.MachineLearningServices/workspaces/computes/delete",
    "Microsoft.MachineLearningServices/workspaces/computes/listKeys/action",
    "Microsoft.MachineLearningServices/workspaces/computes/start/action",
    "Microsoft.MachineLearningServices/workspaces/computes/stop/action",
    "Microsoft.MachineLearningServices/workspaces/computes/applicationaccess/action",
    "Microsoft.MachineLearningServices/workspaces/notebooks/vm/read",
    "Microsoft.MachineLearningServices/workspaces/datastores/read",
    "Microsoft.MachineLearningServices/workspaces/datastores/write",
    "Microsoft.MachineLearningServices/workspaces/datastores/listsecrets/action",
    "Microsoft.MachineLearningServices/workspaces/connections/read",
    "Microsoft.MachineLearningServices/workspaces/connections/write",
    "Microsoft.MachineLearningServices/workspaces/connections/listsecrets/action",
    "Microsoft.MachineLearningServices/workspaces/metadata/secrets/read",
    "Microsoft.MachineLearningServices/workspaces/metadata/artifacts/read",
    "Microsoft.MachineLearningServices/workspaces/metrics/resource/write",
    "Microsoft.MachineLearningServices/workspaces/metrics/write",
    "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/read",
    "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/write",
    "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action",
    "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/token/action",
    "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/listKeys/action",
    "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments/write",
    "Microsoft.MachineLearningServices/workspaces/hubs/write",
    "Microsoft.MachineLearningServices/workspaces/featurestores/write",
    "Microsoft.MachineLearningServices/workspaces/outboundRules/write",
    "Microsoft.MachineLearningServices/workspaces/privateEndpointConnections/write",
    "Microsoft.MachineLearningServices/registries/read",
    "Microsoft.MachineLearningServices/registries/write",
    "Microsoft.MachineLearningServices/registries/assets/read",
    "Microsoft.MachineLearningServices/registries/assets/write",
    "Microsoft.MachineLearningServices/locations/usages/read",
    "Microsoft.Authorization/roleAssignments/read",
    "Microsoft.Authorization/roleAssignments/write",
    "Microsoft.Authorization/roleAssignments/delete",
    "Microsoft.Resources/deployments/write",
    "Microsoft.Storage/storageAccounts/listKeys/action",
    "Microsoft.Storage/storageAccounts/blobServices/containers/read",
    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
    "Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action",
    "Microsoft.KeyVault/vaults/read",
    "Microsoft.KeyVault/vaults/secrets/read",
    "Microsoft.KeyVault/vaults/secrets/getSecret/action",
    "Microsoft.KeyVault/vaults/secrets/setSecret/action",
    "Microsoft.ContainerRegistry/registries/pull/read",
];

#[test]
fn every_built_in_role_grants_what_the_table_says() {
    let roles = Roles::built_in();
    let names: Vec<_> = roles.names().collect();
    let mut table = String::from("What each built-in role grants: x granted, . not.\n\n");
    for (number, name) in names.iter().enumerate() {
        table.push_str(&format!("{:>2}  {name}\n", number + 1));
    }
    let width = ACTIONS.iter().map(|action| action.len()).max().unwrap_or(0);
    let columns: Vec<_> = (1..=names.len()).map(|number| format!("{number:>2}")).collect();
    table.push_str(&format!("\n{:width$}  {}\n", "", columns.join(" ")));
    for action in ACTIONS {
        let cells: Vec<_> = names
            .iter()
            .map(|name| if roles.find(name).is_some_and(|role| role.grants(action)) { " x" } else { " ." })
            .collect();
        table.push_str(&format!("{action:width$}  {}\n", cells.join(" ")));
    }
    golden("roles.txt", &table);
}
