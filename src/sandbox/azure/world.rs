//! What exists in the sandbox's Azure: kept in memory, changed by requests and by time.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::{
    names,
    operations::Operation,
    plane::tracking::Tracking,
    roles::{Assignment, DenyAssignment, Role},
};
use crate::time::Timestamp;

/// A resource of Azure Resource Manager.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Its id as first written.
    pub id: String,
    /// Its type below the provider, lower case, such as `workspaces/jobs`.
    pub kind: String,
    /// Everything that a `GET` shows but `id`, `name`, `type` and `systemData`.
    pub body: Value,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last written.
    pub modified: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// How often it was written.
    pub version: u64,
    /// What no `GET` shows: keys, secrets.
    pub secret: Value,
    /// How often it was read while something was under way in it (jobs).
    pub polls: u32,
    /// The order in which resources were made.
    pub order: u64,
}

impl Resource {
    /// The last segment of the id.
    pub fn name(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or_default()
    }

    /// The id without the last two segments.
    pub fn parent(&self) -> &str {
        self.id.rsplitn(3, '/').nth(2).unwrap_or_default()
    }
}

/// A blob.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Its bytes.
    pub bytes: bytes::Bytes,
    /// Its media type.
    pub content_type: String,
    /// `x-ms-meta-*`, by lower-case name.
    pub metadata: BTreeMap<String, String>,
    /// When it was last written.
    pub modified: Timestamp,
    /// Its `ETag`, without quotes.
    pub etag: String,
}

/// A version of a secret in the vault.
#[derive(Debug, Clone)]
pub struct SecretVersion {
    /// 32 hexadecimal digits.
    pub version: String,
    /// The value.
    pub value: String,
    /// When it was set.
    pub created: Timestamp,
}

/// The state.
#[derive(Debug, Default)]
pub struct World {
    /// By lower-case id.
    pub resources: BTreeMap<String, Resource>,
    /// Long-running operations by their id.
    pub operations: HashMap<String, Operation>,
    /// Who has which role where.
    pub assignments: Vec<Assignment>,
    /// What is denied whatever roles grant.
    pub denials: Vec<DenyAssignment>,
    /// Roles besides the built-in ones.
    pub roles: Vec<&'static Role>,
    /// The application permissions for Graph that an administrator granted, by object id.
    pub graph_permissions: HashMap<String, Vec<String>>,
    /// The groups of objects, where they are not those that they began with.
    pub groups: HashMap<String, Vec<String>>,
    /// Object id to the value that its next tokens must carry.
    pub challenges: HashMap<String, String>,
    /// Blobs by `container/path`.
    pub blobs: BTreeMap<String, Blob>,
    /// Blocks that were put and not yet listed, by `container/path` and block id.
    pub blocks: HashMap<(String, String), bytes::Bytes>,
    /// Vault secrets by lower-case name, newest last.
    pub secrets: BTreeMap<String, Vec<SecretVersion>>,
    /// The activity log, oldest first.
    pub activity: Vec<Value>,
    /// Rows of Azure Monitor by their stream.
    pub tables: BTreeMap<String, Vec<Value>>,
    /// Experiments, runs and MLflow's models.
    pub tracking: Tracking,
    /// The error that the next long-running operation ends with.
    pub next_failure: Option<(String, String)>,
    made: u64,
}

impl World {
    /// Nothing but role assignments.
    pub fn new(assignments: Vec<Assignment>) -> Self {
        Self { assignments, ..Self::default() }
    }

    /// The resource of that id, whose case does not count.
    pub fn get(&self, id: &str) -> Option<&Resource> {
        self.resources.get(&id.to_ascii_lowercase())
    }

    /// As [`get`](Self::get), to be changed.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Resource> {
        self.resources.get_mut(&id.to_ascii_lowercase())
    }

    /// Makes or replaces a resource; what was there keeps its spelling, age, author and secret.
    pub fn put(&mut self, id: &str, kind: &str, body: Value, by: &str, now: Timestamp) -> &mut Resource {
        self.made += 1;
        let order = self.made;
        let resource = self.resources.entry(id.to_ascii_lowercase()).or_insert_with(|| Resource {
            id: id.to_owned(),
            kind: kind.to_owned(),
            body: Value::Null,
            created: now,
            modified: now,
            created_by: by.to_owned(),
            version: 0,
            secret: Value::Null,
            polls: 0,
            order,
        });
        resource.body = body;
        resource.modified = now;
        resource.version += 1;
        resource
    }

    /// Removes a resource and everything below it.
    pub fn remove(&mut self, id: &str) -> bool {
        let id = id.to_ascii_lowercase();
        let below = format!("{id}/");
        let before = self.resources.len();
        self.resources.retain(|key, _| *key != id && !key.starts_with(&below));
        self.resources.len() != before
    }

    /// The direct children of `parent` of type `kind`, oldest first.
    pub fn children(&self, parent: &str, kind: &str) -> Vec<&Resource> {
        let prefix = format!("{}/", parent.to_ascii_lowercase());
        let mut found: Vec<&Resource> = self
            .resources
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, r)| r)
            .filter(|r| r.kind == kind && r.parent().eq_ignore_ascii_case(parent))
            .collect();
        found.sort_by_key(|r| r.order);
        found
    }

    /// The object that a `GET` shows.
    pub fn show(resource: &Resource, canonical: &str) -> Value {
        let mut shown = json!({
            "id": resource.id,
            "name": resource.name(),
            "type": format!("Microsoft.MachineLearningServices/{canonical}"),
            "systemData": {
                "createdBy": resource.created_by,
                "createdByType": "Application",
                "createdAt": resource.created.to_rfc3339(),
                "lastModifiedAt": resource.modified.to_rfc3339(),
            },
        });
        if let (Some(shown), Some(body)) = (shown.as_object_mut(), resource.body.as_object()) {
            for (name, value) in body {
                shown.insert(name.clone(), value.clone());
            }
        }
        shown
    }

    /// A version of a secret, newest if none is named.
    pub fn secret(&self, name: &str, version: Option<&str>) -> Option<&SecretVersion> {
        let versions = self.secrets.get(&name.to_ascii_lowercase())?;
        match version {
            None => versions.last(),
            Some(wanted) => versions.iter().find(|v| v.version == wanted),
        }
    }

    /// Sets a secret: a new version.
    pub fn set_secret(&mut self, name: &str, value: &str, now: Timestamp) {
        let version = uuid::Uuid::new_v4().simple().to_string();
        self.secrets.entry(name.to_ascii_lowercase()).or_default().push(SecretVersion {
            version,
            value: value.to_owned(),
            created: now,
        });
    }

    /// Whether the resource group of this name exists.
    pub fn has_group(name: &str) -> bool {
        name.eq_ignore_ascii_case(names::RESOURCE_GROUP)
    }
}
