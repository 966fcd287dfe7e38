//! Azure role definitions, with Azure's own algebra.
//!
//! A role is a union of permission blocks; a block grants its actions minus its own `notActions`
//! (which take nothing away from other blocks or roles), and data actions likewise: `*` among the
//! actions grants no data action. Scopes are no part of it: entries say where a role holds. The
//! built-in roles that Azure ML uses come along; others are files in the shape that
//! `az role definition list` prints.

mod pattern;

use std::{collections::HashMap, fmt, sync::Arc};

use serde::Deserialize;

pub use pattern::ActionPattern;

use crate::{
    azureml::ResourceId,
    yaml::{Place, Problem},
};

/// The built-in roles, in the shape of `az role definition list`.
const BUILT_IN: &str = include_str!("built_in.json");

/// On which of Azure's two planes an action lies: control rights grant no data right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// `actions` and `notActions`.
    Control,
    /// `dataActions` and `notDataActions`.
    Data,
}

/// Actions that Azure publishes with `isDataAction`, in the namespaces that the gate can meet.
/// Everything below `Microsoft.MachineLearningServices` is control plane, scoring included.
const DATA_ACTIONS: &[&str] = &[
    "microsoft.storage/storageaccounts/blobservices/containers/blobs/",
    "microsoft.storage/storageaccounts/fileservices/fileshares/files/",
    "microsoft.storage/storageaccounts/fileservices/readfilebackupsemantics/",
    "microsoft.storage/storageaccounts/fileservices/writefilebackupsemantics/",
    "microsoft.storage/storageaccounts/fileservices/takeownership/",
    "microsoft.storage/storageaccounts/queueservices/queues/messages/",
    "microsoft.storage/storageaccounts/tableservices/tables/entities/",
    "microsoft.keyvault/vaults/secrets/",
    "microsoft.keyvault/vaults/keys/",
    "microsoft.keyvault/vaults/certificates/",
    "microsoft.keyvault/vaults/certificatecas/",
    "microsoft.keyvault/vaults/storageaccounts/",
    "microsoft.cognitiveservices/accounts/openai/",
    "microsoft.cognitiveservices/accounts/speechservices/",
    "microsoft.cognitiveservices/accounts/contentsafety/",
    "microsoft.cognitiveservices/accounts/maas/",
    "microsoft.eventgrid/events/send/",
    "microsoft.operationalinsights/workspaces/tables/data/",
    "microsoft.insights/metrics/write",
    "microsoft.insights/telemetry/write",
];

/// Control-plane actions that lie below one of [`DATA_ACTIONS`]: a vault's secret as an ARM
/// resource, without its value.
const CONTROL_EXCEPTIONS: &[&str] =
    &["microsoft.keyvault/vaults/secrets/read", "microsoft.keyvault/vaults/secrets/write"];

impl Plane {
    /// The plane of an action.
    #[must_use]
    pub fn of(action: &str) -> Self {
        let starts =
            |start: &&&str| action.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
        let control = CONTROL_EXCEPTIONS.iter().any(|exact| action.eq_ignore_ascii_case(exact));
        if !control && DATA_ACTIONS.iter().find(starts).is_some() { Self::Data } else { Self::Control }
    }
}

/// A role definition, compiled.
pub struct Role {
    /// `roleName`, as published.
    name: Arc<str>,
    /// The definition's GUID.
    id: Box<str>,
    blocks: Box<[Block]>,
    assignable: Box<[ResourceId]>,
}

/// One permission block.
struct Block {
    actions: Box<[ActionPattern]>,
    not_actions: Box<[ActionPattern]>,
    data_actions: Box<[ActionPattern]>,
    not_data_actions: Box<[ActionPattern]>,
}

impl Role {
    /// What a caller holds at a scope, all assignments together: from the answer of
    /// `Microsoft.Authorization/permissions` (List For Resource Group). A block with a condition
    /// grants nothing here. `None` for another text, and for one page of several.
    #[must_use]
    pub fn held(answer: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            value: Vec<Permission>,
            next_link: Option<String>,
        }
        let answer: Answer = serde_json::from_slice(answer).ok()?;
        if answer.next_link.is_some_and(|next| !next.is_empty()) {
            return None;
        }
        let blocks = answer.value.into_iter().filter(Permission::is_unconditional).map(Block::from).collect();
        Some(Self { name: "what is held".into(), id: Box::default(), blocks, assignable: Box::default() })
    }

    /// What a deny assignment takes: its `permissions`, as JSON. A condition of a block is not looked
    /// at. `None` for another shape.
    #[must_use]
    pub fn denied(permissions: serde_json::Value) -> Option<Self> {
        let blocks: Vec<Permission> = serde_json::from_value(permissions).ok()?;
        let blocks = blocks.into_iter().map(Block::from).collect();
        Some(Self { name: "what is denied".into(), id: Box::default(), blocks, assignable: Box::default() })
    }

    /// The role's name, as published.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it grants and takes, block by block, as published: `-` before what a block takes.
    #[must_use]
    pub fn patterns(&self) -> Vec<String> {
        let mut all = Vec::new();
        for block in &self.blocks {
            all.extend(block.actions.iter().chain(&block.data_actions).map(ToString::to_string));
            let taken = block.not_actions.iter().chain(&block.not_data_actions);
            all.extend(taken.map(|pattern| format!("-{pattern}")));
        }
        all
    }

    /// Whether the role grants an action, wherever it is assigned. Actions of the gate's own
    /// (`amlgate/...`, `kubernetes/...`) are not Azure's: no role grants them, `*` included.
    #[must_use]
    pub fn grants(&self, action: &str) -> bool {
        // The namespace of an Azure provider holds a dot: `Microsoft.Storage`.
        if !action.split('/').next().is_some_and(|namespace| namespace.contains('.')) {
            return false;
        }
        let any = |patterns: &[ActionPattern]| patterns.iter().any(|p| p.matches(action));
        match Plane::of(action) {
            Plane::Control => self.blocks.iter().any(|b| any(&b.actions) && !any(&b.not_actions)),
            Plane::Data => self.blocks.iter().any(|b| any(&b.data_actions) && !any(&b.not_data_actions)),
        }
    }

    /// Whether Azure would let the role be assigned at `scope`.
    #[must_use]
    pub fn is_assignable_at(&self, scope: &ResourceId) -> bool {
        self.assignable.iter().any(|root| scope.is_within(root))
    }
}

/// A role definition as Azure's REST interface gives it: what it grants for sure, and what only on
/// a condition.
#[derive(Debug)]
pub struct RoleDefinition {
    sure: Role,
    conditional: Role,
}

impl RoleDefinition {
    /// From the answer to `GET {roleDefinitionId}`; `None` for another text.
    #[must_use]
    pub fn parse(answer: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            name: String,
            properties: Properties,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Properties {
            role_name: String,
            permissions: Vec<Permission>,
        }
        let Answer { name: id, properties } = serde_json::from_slice(answer).ok()?;
        let (sure, conditional): (Vec<_>, Vec<_>) =
            properties.permissions.into_iter().partition(Permission::is_unconditional);
        let role = |blocks: Vec<Permission>| Role {
            name: properties.role_name.as_str().into(),
            id: id.as_str().into(),
            blocks: blocks.into_iter().map(Block::from).collect(),
            assignable: Box::default(),
        };
        Some(Self { sure: role(sure), conditional: role(conditional) })
    }

    /// The role's name, as published.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.sure.name
    }

    /// What it grants for sure ([`Role::patterns`]).
    #[must_use]
    pub fn patterns(&self) -> Vec<String> {
        self.sure.patterns()
    }

    /// Whether it grants an action ([`Role::grants`]).
    #[must_use]
    pub fn grants(&self, action: &str) -> bool {
        self.sure.grants(action)
    }

    /// Whether a block with a condition names an action.
    #[must_use]
    pub fn grants_on_condition(&self, action: &str) -> bool {
        self.conditional.grants(action)
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Role({})", self.name)
    }
}

/// All known roles, by name and by id, without case.
#[derive(Debug, Default)]
pub struct Roles {
    by_key: HashMap<Box<str>, Arc<Role>>,
    names: Vec<Arc<str>>,
}

/// What `az role definition list` prints of one role; members that grant nothing are not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    name: String,
    role_name: String,
    permissions: Vec<Permission>,
    assignable_scopes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Permission {
    actions: Vec<String>,
    not_actions: Vec<String>,
    #[serde(default)]
    data_actions: Vec<String>,
    #[serde(default)]
    not_data_actions: Vec<String>,
    #[serde(default)]
    condition: Option<String>,
}

impl Permission {
    fn is_unconditional(&self) -> bool {
        self.condition.as_deref().is_none_or(|text| text.trim().is_empty())
    }
}

impl From<Permission> for Block {
    fn from(found: Permission) -> Self {
        let patterns = |texts: Vec<String>| texts.iter().map(|t| ActionPattern::new(t)).collect();
        Self {
            actions: patterns(found.actions),
            not_actions: patterns(found.not_actions),
            data_actions: patterns(found.data_actions),
            not_data_actions: patterns(found.not_data_actions),
        }
    }
}

impl Roles {
    /// The built-in roles.
    #[must_use]
    pub fn built_in() -> Self {
        let mut roles = Self::default();
        let file = "built-in roles".into();
        let problems = roles.add_file(&file, BUILT_IN);
        debug_assert!(problems.is_empty(), "{problems:?}");
        roles
    }

    /// Adds the definitions of one file: an array, or one object as `az role definition show` prints.
    pub fn add_file(&mut self, file: &Arc<str>, text: &str) -> Vec<Problem> {
        let definitions = if text.trim_start().starts_with('[') {
            serde_json::from_str::<Vec<Definition>>(text)
        } else {
            serde_json::from_str::<Definition>(text).map(|one| vec![one])
        };
        let definitions = match definitions {
            Ok(definitions) => definitions,
            Err(error) => {
                let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                let place = Place { line: narrow(error.line()), column: narrow(error.column()) };
                let said = error.to_string();
                let said = said.split(" at line ").next().unwrap_or(&said);
                return vec![
                    Problem::error(file, place, format!("not a role definition: {said}"))
                        .hint("write what `az role definition list --name NAME` prints"),
                ];
            }
        };
        definitions.into_iter().filter_map(|d| self.add(d).err()).map(|p| p.at(file)).collect()
    }

    fn add(&mut self, definition: Definition) -> Result<(), Refused> {
        let Definition { name: id, role_name, permissions, assignable_scopes } = definition;
        if !permissions.iter().all(Permission::is_unconditional) {
            return Err(Refused {
                message: format!("role `{role_name}` has a `condition`, which is not in this version"),
                hint: "an entry's own selectors and `when` can narrow it instead",
            });
        }
        let assignable = assignable_scopes.iter().map(|s| ResourceId::parse(s)).collect::<Option<Box<[_]>>>();
        let Some(assignable) = assignable else {
            return Err(Refused {
                message: format!("role `{role_name}` has an assignable scope that is no ARM id"),
                hint: "a scope looks like `/subscriptions/S/resourceGroups/G`",
            });
        };
        let blocks = permissions.into_iter().map(Block::from).collect();
        let role =
            Arc::new(Role { name: role_name.as_str().into(), id: id.as_str().into(), blocks, assignable });
        for key in [fold(&role.name), fold(&role.id)] {
            if self.by_key.contains_key(&key) {
                return Err(Refused {
                    message: format!("role `{role_name}` (`{id}`) is defined twice, by name or by id"),
                    hint: "built-in roles come along; a role of your own needs its own name and id",
                });
            }
        }
        self.names.push(Arc::clone(&role.name));
        self.by_key.insert(fold(&role.name), Arc::clone(&role));
        self.by_key.insert(fold(&role.id), role);
        Ok(())
    }

    /// The role with this name, GUID, or id that ends in `/roleDefinitions/GUID`.
    #[must_use]
    pub fn find(&self, name_or_id: &str) -> Option<&Arc<Role>> {
        let key = fold(name_or_id);
        let guid = key.rsplit_once("/roledefinitions/").map_or(&*key, |(_, guid)| guid);
        self.by_key.get(guid)
    }

    /// All names, as published.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }
}

struct Refused {
    message: String,
    hint: &'static str,
}

impl Refused {
    fn at(self, file: &Arc<str>) -> Problem {
        Problem::error(file, Place { line: 1, column: 1 }, self.message).hint(self.hint)
    }
}

fn fold(key: &str) -> Box<str> {
    key.to_ascii_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACES: &str = "Microsoft.MachineLearningServices/workspaces";

    fn grants(role: &str, action: &str) -> bool {
        Roles::built_in().find(role).unwrap().grants(action)
    }

    #[test]
    fn the_data_scientist_reads_the_workspace_and_creates_no_compute() {
        let role = "AzureML Data Scientist";
        assert!(grants(role, &format!("{WORKSPACES}/read")));
        assert!(grants(role, &format!("{WORKSPACES}/jobs/write")));
        assert!(!grants(role, &format!("{WORKSPACES}/computes/write")));
        assert!(!grants(role, &format!("{WORKSPACES}/computes/delete")));
        assert!(!grants(role, &format!("{WORKSPACES}/delete")));
        assert!(!grants(role, &format!("{WORKSPACES}/listKeys/action")));
    }

    #[test]
    fn a_star_among_the_actions_grants_no_data_action() {
        let blob = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read";
        assert!(!grants("Owner", blob));
        assert!(grants("Storage Blob Data Reader", blob));
        assert!(!grants("Contributor", "Microsoft.KeyVault/vaults/secrets/getSecret/action"));
        assert!(grants("Key Vault Secrets User", "microsoft.keyvault/vaults/secrets/GETSECRET/action"));
        assert!(grants("Contributor", "Microsoft.KeyVault/vaults/secrets/write"));
    }

    #[test]
    fn a_role_is_found_by_name_by_guid_and_by_full_id_without_case() {
        let roles = Roles::built_in();
        let id = "/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/F6C7C914-8DB3-469D-8CA1-694A8F32E121";
        for key in ["azureml data scientist", "f6c7c914-8db3-469d-8ca1-694a8f32e121", id] {
            assert_eq!(&**roles.find(key).unwrap().name(), "AzureML Data Scientist");
        }
        assert!(roles.find("AzureML").is_none());
        assert_eq!(roles.names().count(), 34);
    }

    fn custom(permissions: &str) -> Role {
        let text = format!(
            r#"{{"name":"g","roleName":"R","assignableScopes":["/subscriptions/s"],"permissions":{permissions}}}"#
        );
        let mut roles = Roles::default();
        assert_eq!(roles.add_file(&"r.json".into(), &text), vec![]);
        Arc::into_inner(roles.by_key.remove("r").unwrap())
            .or_else(|| roles.by_key.remove("g").and_then(Arc::into_inner))
            .unwrap()
    }

    #[test]
    fn not_actions_take_away_within_their_block_only() {
        let role = custom(
            r#"[{"actions":["M.A/*"],"notActions":["M.A/x/*"],"dataActions":[],"notDataActions":[]},
                {"actions":["M.A/x/read"],"notActions":[],"dataActions":[],"notDataActions":[]}]"#,
        );
        assert!(role.grants("M.A/x/read"));
        assert!(role.grants("M.A/y/read"));
        assert!(!role.grants("M.A/x/write"));
    }

    #[test]
    fn no_role_grants_what_is_not_an_action_of_azure() {
        assert!(!grants("Owner", "amlgate/audit/read"));
        assert!(!grants("Reader", "kubernetes/core/pods/read"));
    }

    #[test]
    fn a_role_is_assignable_on_whole_segments() {
        let role = custom("[]");
        let at = |s: &str| role.is_assignable_at(&ResourceId::parse(s).unwrap());
        assert!(at("/subscriptions/S/resourceGroups/g"));
        assert!(!at("/subscriptions/s2"));
    }

    #[test]
    fn a_definition_with_a_condition_or_a_known_name_is_refused() {
        let mut roles = Roles::built_in();
        let text = |name: &str, condition: &str| {
            format!(
                r#"[{{"name":"{name}","roleName":"{name}","assignableScopes":["/"],"permissions":[{{
                "actions":["*"],"notActions":[],"dataActions":[],"notDataActions":[],"condition":{condition}}}]}}]"#
            )
        };
        let file = "r.json".into();
        assert!(
            roles.add_file(&file, &text("c", "\"@Resource\""))[0].message.contains("not in this version")
        );
        assert!(roles.add_file(&file, &text("owner", "null"))[0].message.contains("defined twice"));
        assert_eq!(roles.add_file(&file, &text("c", "null")), vec![]);
        let said = roles.add_file(&file, r#"{"properties": {}}"#)[0].to_string();
        assert!(said.contains("not a role definition: missing field `name`"), "{said}");
    }
}
