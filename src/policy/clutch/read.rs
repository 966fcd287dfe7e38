//! Clutch's files: where roles and bindings stand in them, and what they hold.
//!
//! Clutch reads YAML as the JSON form of Protocol Buffers, so that each key has two spellings. What
//! it would put in from its environment is not known here, and so is refused.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    azureml::method::ActionType,
    policy::document::{Fields, Node, Reader, Text, Tree, listed, parse},
    yaml::{Place, Problem},
};

/// The type of the part of a configuration that holds roles.
const AUTHZ: &str = "clutch.config.service.authz.v1.Config";

/// All files together.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub roles: Vec<Role>,
    pub bindings: Vec<Binding>,
    /// What is known not to have been read.
    pub left_out: Vec<Problem>,
}

/// A role with its policies.
#[derive(Debug)]
pub(super) struct Role {
    pub file: Arc<str>,
    pub name: Text,
    pub policies: Vec<Policy>,
}

/// What a role lets do.
#[derive(Debug)]
pub(super) struct Policy {
    pub name: Text,
    /// `None` for all of them.
    pub types: Option<Vec<ActionType>>,
    pub method: Text,
    /// Empty for everything.
    pub resources: Vec<Text>,
}

/// Roles and who has them.
#[derive(Debug)]
pub(super) struct Binding {
    pub file: Arc<str>,
    pub to: Vec<Text>,
    pub principals: Vec<Principal>,
}

/// Who has a role.
#[derive(Debug, Clone)]
pub(super) enum Principal {
    User(Text),
    Group(Text),
}

impl Principal {
    /// Whether another is the same, wherever it stands.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::User(one), Self::User(other)) | (Self::Group(one), Self::Group(other)) => {
                one.value == other.value
            }
            (Self::User(_), Self::Group(_)) | (Self::Group(_), Self::User(_)) => false,
        }
    }
}

/// Reads files and joins them.
pub(super) fn read(files: &[(Arc<str>, String)]) -> Result<Config, Vec<Problem>> {
    let (mut config, mut problems) = (Config::default(), Vec::new());
    let mut parts = 0;
    for (file, text) in files {
        let tree = match parse(file, text) {
            Ok(tree) => tree,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let mut reader = Reader { file, problems: &mut problems };
        for part in self::parts(&mut reader, tree, &mut config.left_out) {
            parts += 1;
            read_part(&mut reader, part, &mut config);
        }
    }
    if let (0, true, Some((file, _))) = (parts, problems.is_empty(), files.first()) {
        let hint = "give the file in which `clutch.service.authz` is configured";
        let none = Problem::error(file, Place::default(), "neither `roles` nor `role_bindings` are in it");
        problems.push(none.hint(hint));
    }
    coherent(&config, &mut problems);
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// What Clutch itself refuses: a role that is there twice, a binding to none.
fn coherent(config: &Config, problems: &mut Vec<Problem>) {
    let mut known = BTreeMap::new();
    for role in &config.roles {
        let place = role.name.place;
        if let Some((file, first)) = known.insert(role.name.value.as_str(), (&role.file, place)) {
            let message = format!("role `{}` is there twice", role.name.value);
            let hint = format!("the other stands at {file}:{}:{}", first.line, first.column);
            problems.push(Problem::error(&role.file, place, message).hint(hint));
        }
    }
    for binding in &config.bindings {
        for to in binding.to.iter().filter(|to| !known.contains_key(to.value.as_str())) {
            let message = format!("role `{}` is not defined", to.value);
            let hint = match known.len() {
                0 => "give the file with the roles, too".to_owned(),
                _ => format!("defined are {}", listed(known.keys().copied().take(12))),
            };
            problems.push(Problem::error(&binding.file, to.place, message).hint(hint));
        }
    }
}

/// The parts of a file that hold roles: all of it, or the configuration of one of its services.
fn parts(reader: &mut Reader<'_>, tree: Tree, left_out: &mut Vec<Problem>) -> Vec<Tree> {
    let Node::Map(entries) = &tree.value else {
        reader.error(tree.place, "a configuration of Clutch is a map");
        return Vec::new();
    };
    let has = |names: &[&str]| entries.iter().any(|(key, _)| names.contains(&key.value.as_str()));
    if has(&["roles", "role_bindings", "roleBindings"]) {
        return vec![tree];
    }
    if has(&["typed_config", "typedConfig"]) {
        return configured(tree).into_iter().collect();
    }
    let Node::Map(entries) = tree.value else { return Vec::new() };
    let mut found = Vec::new();
    for (key, value) in entries {
        match (key.value.as_str(), value.value) {
            ("services", Node::List(services)) => found.extend(services.into_iter().filter_map(configured)),
            ("extends", Node::List(files)) if !files.is_empty() => {
                let message = "`extends` names files that are not read by themselves";
                let hint = "give them all, if roles or bindings stand there";
                left_out.push(Problem::warning(reader.file, key.place, message).hint(hint));
            }
            _ => {}
        }
    }
    found
}

/// `typed_config` of the service that holds roles.
fn configured(service: Tree) -> Option<Tree> {
    let Node::Map(entries) = service.value else { return None };
    let named = entries.iter().any(|(key, value)| {
        key.value == "name" && matches!(&value.value, Node::Text(name) if name == "clutch.service.authz")
    });
    let (_, typed) =
        entries.into_iter().find(|(key, _)| matches!(key.value.as_str(), "typed_config" | "typedConfig"))?;
    let Node::Map(members) = &typed.value else { return None };
    let of_type = members.iter().any(|(key, value)| {
        key.value == "@type" && matches!(&value.value, Node::Text(text) if text.ends_with(AUTHZ))
    });
    (named || of_type).then_some(typed)
}

fn read_part(reader: &mut Reader<'_>, part: Tree, config: &mut Config) {
    let known = ["@type", "roles", "role_bindings", "roleBindings"];
    let Some(mut fields) = reader.fields(part, "the configuration of `clutch.service.authz`", &known, &[])
    else {
        return;
    };
    for tree in items(reader, &mut fields, ["roles", "roles"]) {
        config.roles.extend(role(reader, tree));
    }
    for tree in items(reader, &mut fields, ["role_bindings", "roleBindings"]) {
        config.bindings.extend(binding(reader, tree));
    }
}

fn role(reader: &mut Reader<'_>, tree: Tree) -> Option<Role> {
    let place = tree.place;
    let mut fields = reader.fields(tree, "a role", &["role_name", "roleName", "policies"], &[])?;
    let name = text(reader, &mut fields, ["role_name", "roleName"], place, "a role");
    let policies = items(reader, &mut fields, ["policies", "policies"]);
    let policies = policies.into_iter().filter_map(|tree| policy(reader, tree)).collect();
    Some(Role { file: Arc::clone(reader.file), name: name?, policies })
}

fn policy(reader: &mut Reader<'_>, tree: Tree) -> Option<Policy> {
    let place = tree.place;
    let known = ["policy_name", "policyName", "action_types", "actionTypes", "method", "resources"];
    let mut fields = reader.fields(tree, "a policy", &known, &[])?;
    let name = text(reader, &mut fields, ["policy_name", "policyName"], place, "a policy");
    let method = text(reader, &mut fields, ["method", "method"], place, "a policy");
    let types = items(reader, &mut fields, ["action_types", "actionTypes"]);
    let types =
        (!types.is_empty()).then(|| types.iter().filter_map(|tree| action_type(reader, tree)).collect());
    let resources = items(reader, &mut fields, ["resources", "resources"]);
    let resources = resources.into_iter().filter_map(|tree| plain(reader, tree, "`resources`")).collect();
    Some(Policy { name: name?, types, method: method?, resources })
}

/// By name or by number. `UNSPECIFIED` is the type of no method of Azure ML's.
fn action_type(reader: &mut Reader<'_>, tree: &Tree) -> Option<ActionType> {
    let unspecified = match &tree.value {
        Node::Text(name) if name == "UNSPECIFIED" => true,
        Node::Number(number) => number.as_u64() == Some(0),
        Node::Null | Node::Bool(_) | Node::Text(_) | Node::List(_) | Node::Map(_) => false,
    };
    let found = match &tree.value {
        Node::Text(name) => ActionType::ALL.into_iter().find(|one| one.name() == name),
        Node::Number(number) => number
            .as_u64()
            .and_then(|number| usize::try_from(number).ok()?.checked_sub(1))
            .and_then(|at| ActionType::ALL.get(at).copied()),
        Node::Null | Node::Bool(_) | Node::List(_) | Node::Map(_) => None,
    };
    if found.is_none() && !unspecified {
        let names = ActionType::ALL.map(ActionType::name);
        reader.error_with(
            tree.place,
            "this is no action type",
            format!("write {}", listed(names.into_iter())),
        );
    }
    found
}

fn binding(reader: &mut Reader<'_>, tree: Tree) -> Option<Binding> {
    let place = tree.place;
    let mut fields = reader.fields(tree, "a binding of roles", &["to", "principals"], &[])?;
    for key in ["to", "principals"] {
        if fields.place_of(key).is_none() {
            reader.error(place, format!("a binding of roles needs `{key}`"));
        }
    }
    let to = items(reader, &mut fields, ["to", "to"]);
    let to = to.into_iter().filter_map(|tree| plain(reader, tree, "`to`")).collect();
    let principals = items(reader, &mut fields, ["principals", "principals"]);
    let principals = principals.into_iter().filter_map(|tree| principal(reader, tree)).collect();
    Some(Binding { file: Arc::clone(reader.file), to, principals })
}

fn principal(reader: &mut Reader<'_>, tree: Tree) -> Option<Principal> {
    let place = tree.place;
    let mut fields = reader.fields(tree, "a principal", &["user", "group"], &[])?;
    let user = fields.take("user").and_then(|tree| plain(reader, tree, "`user`"));
    let group = fields.take("group").and_then(|tree| plain(reader, tree, "`group`"));
    match (user, group) {
        (Some(user), None) => Some(Principal::User(user)),
        (None, Some(group)) => Some(Principal::Group(group)),
        (None, None) | (Some(_), Some(_)) => {
            let hint = "write `{user: ann@example.com}` or `{group: ml-team}`";
            reader.error_with(place, "a principal is a `user` or a `group`", hint);
            None
        }
    }
}

/// The items of a list, which may be absent or nothing, under either spelling of its key.
fn items(reader: &mut Reader<'_>, fields: &mut Fields, keys: [&str; 2]) -> Vec<Tree> {
    match keys.iter().find_map(|key| fields.take(key)) {
        None => Vec::new(),
        Some(tree) if matches!(tree.value, Node::Null) => Vec::new(),
        Some(tree) => reader.list(tree, &format!("`{}`", keys.first().copied().unwrap_or_default())),
    }
}

fn text(
    reader: &mut Reader<'_>,
    fields: &mut Fields,
    keys: [&str; 2],
    place: Place,
    what: &str,
) -> Option<Text> {
    let [key, _] = keys;
    match keys.iter().find_map(|key| fields.take(key)) {
        Some(tree) => plain(reader, tree, &format!("`{key}`")),
        None => {
            reader.error(place, format!("{what} needs `{key}`"));
            None
        }
    }
}

/// Text that says itself what it is.
fn plain(reader: &mut Reader<'_>, tree: Tree, what: &str) -> Option<Text> {
    let text = reader.text(tree, what)?;
    if text.value.contains('$') || text.value.contains("{{") || text.value.contains("[[") {
        let message = format!("{what} is `{}`, in which Clutch puts something else", text.value);
        reader.error_with(text.place, message, "write what Clutch's environment or template would put there");
        return None;
    }
    Some(text)
}
