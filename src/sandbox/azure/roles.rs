//! Role definitions, assignments and their algebra, as Azure RBAC evaluates them.
//!
//! `NotActions` subtract within one permission block and deny nothing: another role may grant what
//! one leaves out. `*` spans `/`, case does not count, and `/*/` also stands for one slash, without
//! which `AzureML Data Scientist` could not read its own workspace.

use serde_json::{Value, json};

/// A role definition.
#[derive(Debug, Clone)]
pub struct Role {
    /// The last segment of its id.
    pub id: &'static str,
    /// What people call it.
    pub name: &'static str,
    actions: &'static [&'static str],
    not_actions: &'static [&'static str],
    data_actions: &'static [&'static str],
}

/// What is denied to some, whatever their roles grant.
#[derive(Debug, Clone)]
pub struct DenyAssignment {
    /// A GUID.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it denies.
    pub actions: Vec<String>,
    /// What of that it leaves alone.
    pub not_actions: Vec<String>,
    /// An ARM id; it holds there and below.
    pub scope: String,
    /// Whether it holds there only.
    pub only_there: bool,
    /// Object ids with their types; the GUID of zeroes is everybody.
    pub principals: Vec<(String, &'static str)>,
    /// Whom it leaves alone.
    pub excluded: Vec<(String, &'static str)>,
}

/// The built-in roles that the sandbox knows.
pub const ROLES: &[Role] = &[
    Role {
        id: "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
        name: "Owner",
        actions: &["*"],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        id: "b24988ac-6180-42a0-ab88-20f7382dd24c",
        name: "Contributor",
        actions: &["*"],
        not_actions: &[
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
            "Microsoft.Blueprint/blueprintAssignments/write",
            "Microsoft.Blueprint/blueprintAssignments/delete",
            "Microsoft.Compute/galleries/share/action",
            "Microsoft.Purview/consents/write",
            "Microsoft.Purview/consents/delete",
            "Microsoft.Resources/deploymentStacks/manageDenySetting/action",
            "Microsoft.Subscription/cancel/action",
            "Microsoft.Subscription/enable/action",
        ],
        data_actions: &[],
    },
    Role {
        id: "acdd72a7-3385-48ef-bd42-f606fba81ae7",
        name: "Reader",
        actions: &["*/read"],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        id: "f6c7c914-8db3-469d-8ca1-694a8f32e121",
        name: "AzureML Data Scientist",
        actions: &[
            "Microsoft.MachineLearningServices/workspaces/*/read",
            "Microsoft.MachineLearningServices/workspaces/*/action",
            "Microsoft.MachineLearningServices/workspaces/*/delete",
            "Microsoft.MachineLearningServices/workspaces/*/write",
        ],
        not_actions: &[
            "Microsoft.MachineLearningServices/workspaces/delete",
            "Microsoft.MachineLearningServices/workspaces/write",
            "Microsoft.MachineLearningServices/workspaces/computes/*/write",
            "Microsoft.MachineLearningServices/workspaces/computes/*/delete",
            "Microsoft.MachineLearningServices/workspaces/computes/listKeys/action",
            "Microsoft.MachineLearningServices/workspaces/listKeys/action",
            "Microsoft.MachineLearningServices/workspaces/hubs/write",
            "Microsoft.MachineLearningServices/workspaces/hubs/delete",
            "Microsoft.MachineLearningServices/workspaces/featurestores/write",
            "Microsoft.MachineLearningServices/workspaces/featurestores/delete",
        ],
        data_actions: &[],
    },
    Role {
        id: "e503ece1-11d0-4e8e-8e2c-7a6c3bf38815",
        name: "AzureML Compute Operator",
        actions: &[
            "Microsoft.MachineLearningServices/workspaces/computes/*",
            "Microsoft.MachineLearningServices/workspaces/notebooks/vm/*",
        ],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        id: "3913510d-42f4-4e42-8a64-420c390055eb",
        name: "Monitoring Metrics Publisher",
        actions: &[],
        not_actions: &[],
        data_actions: &["Microsoft.Insights/Telemetry/Write"],
    },
    Role {
        id: "4633458b-17de-408a-b874-0445c86b69e6",
        name: "Key Vault Secrets User",
        actions: &[],
        not_actions: &[],
        data_actions: &[
            "Microsoft.KeyVault/vaults/secrets/getSecret/action",
            "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
        ],
    },
];

impl Role {
    /// The role of that name or id.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        ROLES.iter().find(|r| r.name.eq_ignore_ascii_case(name) || r.id.eq_ignore_ascii_case(name))
    }

    /// Whether it grants this action.
    #[must_use]
    pub fn grants(&self, action: &str) -> bool {
        let any = |patterns: &[&str]| patterns.iter().any(|p| matches(p, action));
        (any(self.actions) && !any(self.not_actions)) || any(self.data_actions)
    }

    /// A role of the subscription's own. It lasts as long as the process.
    #[must_use]
    pub fn custom(id: &str, name: &str, actions: &[&str], not_actions: &[&str]) -> &'static Self {
        fn kept(text: &str) -> &'static str {
            String::leak(text.to_owned())
        }
        let all = |texts: &[&str]| -> &'static [&'static str] {
            Vec::leak(texts.iter().map(|text| kept(text)).collect())
        };
        let (actions, not_actions) = (all(actions), all(not_actions));
        Box::leak(Box::new(Self { id: kept(id), name: kept(name), actions, not_actions, data_actions: &[] }))
    }

    /// The full id below a subscription.
    #[must_use]
    pub fn resource_id(&self, subscription: &str) -> String {
        format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{}", self.id)
    }

    /// The REST shape, with everything under `properties`.
    #[must_use]
    pub fn to_json(&self, subscription: &str) -> Value {
        json!({
            "id": self.resource_id(subscription),
            "name": self.id,
            "type": "Microsoft.Authorization/roleDefinitions",
            "properties": {
                "roleName": self.name,
                "type": "BuiltInRole",
                "description": self.name,
                "assignableScopes": ["/"],
                "permissions": [{
                    "actions": self.actions,
                    "notActions": self.not_actions,
                    "dataActions": self.data_actions,
                    "notDataActions": [],
                }],
            },
        })
    }
}

/// A role given to a principal at a scope.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// A GUID.
    pub id: String,
    /// The object id of the user, group or service principal.
    pub principal: String,
    /// `User`, `Group` or `ServicePrincipal`.
    pub principal_type: &'static str,
    /// The role.
    pub role: &'static Role,
    /// An ARM id; the role holds there and below.
    pub scope: String,
    /// A condition, which nothing here fulfils.
    pub condition: Option<String>,
}

impl Assignment {
    /// The REST shape.
    #[must_use]
    pub fn to_json(&self, subscription: &str) -> Value {
        json!({
            "id": format!("{}/providers/Microsoft.Authorization/roleAssignments/{}", self.scope, self.id),
            "name": self.id,
            "type": "Microsoft.Authorization/roleAssignments",
            "properties": {
                "roleDefinitionId": self.role.resource_id(subscription),
                "principalId": self.principal,
                "principalType": self.principal_type,
                "scope": self.scope,
                "condition": self.condition,
                "conditionVersion": self.condition.as_ref().map(|_| "2.0"),
            },
        })
    }
}

impl DenyAssignment {
    /// Whether it concerns one of whom these object ids are.
    #[must_use]
    pub fn concerns(&self, principals: &[&str]) -> bool {
        let among = |named: &[(String, &str)]| named.iter().any(|(id, _)| principals.contains(&id.as_str()));
        let everybody = self.principals.iter().any(|(id, _)| id.bytes().all(|b| matches!(b, b'0' | b'-')));
        (everybody || among(&self.principals)) && !among(&self.excluded)
    }

    /// Whether it takes an action at a resource.
    #[must_use]
    pub fn takes(&self, action: &str, resource: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|p| matches(p, action));
        let here = if self.only_there {
            self.scope.trim_end_matches('/').eq_ignore_ascii_case(resource.trim_end_matches('/'))
        } else {
            covers(&self.scope, resource)
        };
        here && any(&self.actions) && !any(&self.not_actions)
    }

    /// The REST shape.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let named = |all: &[(String, &str)]| -> Vec<Value> {
            all.iter().map(|(id, kind)| json!({"id": id, "type": kind})).collect()
        };
        json!({
            "id": format!("{}/providers/Microsoft.Authorization/denyAssignments/{}", self.scope, self.id),
            "name": self.id,
            "type": "Microsoft.Authorization/denyAssignments",
            "properties": {
                "denyAssignmentName": self.name,
                "permissions": [{
                    "actions": self.actions,
                    "notActions": self.not_actions,
                    "dataActions": [],
                    "notDataActions": [],
                }],
                "scope": self.scope,
                "doNotApplyToChildScopes": self.only_there,
                "principals": named(&self.principals),
                "excludePrincipals": named(&self.excluded),
                "isSystemProtected": true,
            },
        })
    }
}

/// Whether `scope` is `resource` or one of its ancestors, by whole segments and without case.
#[must_use]
pub fn covers(scope: &str, resource: &str) -> bool {
    let scope = scope.trim_end_matches('/').to_ascii_lowercase();
    let resource = resource.trim_end_matches('/').to_ascii_lowercase();
    resource.strip_prefix(&scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether an action pattern of a role matches an action.
fn matches(pattern: &str, action: &str) -> bool {
    fn at(pattern: &[u8], action: &[u8]) -> bool {
        if let (Some(rest), Some(after)) = (pattern.strip_prefix(b"/*/"), action.strip_prefix(b"/"))
            && at(rest, after)
        {
            return true;
        }
        match pattern.split_first() {
            None => action.is_empty(),
            Some((b'*', rest)) => {
                (0..=action.len()).any(|skip| action.get(skip..).is_some_and(|a| at(rest, a)))
            }
            Some((p, rest)) => {
                action.split_first().is_some_and(|(a, after)| p.eq_ignore_ascii_case(a) && at(rest, after))
            }
        }
    }
    at(pattern.as_bytes(), action.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACES: &str = "Microsoft.MachineLearningServices/workspaces";

    #[test]
    fn a_data_scientist_reads_the_workspace_and_may_not_delete_it_or_make_computes() {
        let role = Role::find("AzureML Data Scientist").unwrap();
        assert!(role.grants(&format!("{WORKSPACES}/read")));
        assert!(role.grants(&format!("{WORKSPACES}/jobs/write")));
        assert!(role.grants(&format!("{WORKSPACES}/onlineEndpoints/listKeys/action").to_lowercase()));
        assert!(!role.grants(&format!("{WORKSPACES}/delete")));
        assert!(!role.grants(&format!("{WORKSPACES}/computes/write")));
        assert!(role.grants(&format!("{WORKSPACES}/computes/read")));
    }

    #[test]
    fn a_scope_covers_whole_segments_only() {
        assert!(covers("/subscriptions/S", "/subscriptions/s/resourceGroups/rg"));
        assert!(!covers("/subscriptions/s/resourceGroups/rg1", "/subscriptions/s/resourceGroups/rg10"));
        assert!(covers("/", "/subscriptions/s"));
    }
}
