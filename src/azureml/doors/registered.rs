//! Which models an operation registers, through every door.

use serde_json::Value;

use super::{MAX_NESTING, reading::Door, workspace_of};
use crate::azureml::{Effect, Inspected, Operation, Registered, ResourceId};

/// Each model that an operation registers.
pub(in crate::azureml) fn registered(operation: &Operation, body: Option<&Inspected>) -> Vec<Registered> {
    let effects = operation.effects.union(operation.unclear_effects);
    let Some(resource) = operation.acts.first().and_then(|act| act.resource.as_ref()) else {
        return Vec::new();
    };
    if !effects.contains(Effect::RegisterModel) {
        return Vec::new();
    }
    let body = body.and_then(|body| Door::at(body.value(), "$").ok());
    match (&*operation.name, body) {
        ("ModelVersions_CreateOrUpdate" | "RegistryModelVersions_CreateOrUpdate", _) => {
            vec![Registered::Version(resource.clone())]
        }
        ("Models.register" | "mlflow.model-versions.create", Some(body)) => {
            let name = text(&body, "name");
            let named = workspace_of(resource).zip(name).and_then(|(home, name)| named(home, name, None));
            vec![named.unwrap_or_else(|| unknown("it does not say of which model"))]
        }
        ("Jobs_CreateOrUpdate", Some(body)) => {
            let mut found = Vec::new();
            if let (Some(home), Some(job)) = (workspace_of(resource), child(&body, "properties")) {
                outputs(&home, &job, 0, &mut found);
            }
            found
        }
        ("ModelVersions_Publish", _) => {
            vec![unknown("what is published to a registry cannot be followed there: register it there")]
        }
        ("Schedules_CreateOrUpdate", _) => {
            vec![unknown("each job of a schedule registers its own, and passes no gate")]
        }
        (_, _) => Vec::new(),
    }
}

/// The outputs of a job, and of its children, that are registered as models when it ends.
fn outputs(home: &ResourceId, job: &Door<'_>, depth: u8, found: &mut Vec<Registered>) {
    if depth > MAX_NESTING {
        return;
    }
    for output in child(job, "outputs").into_iter().flat_map(|all| objects(&all)) {
        let kind = text(&output, "jobOutputType").or_else(|| text(&output, "type"));
        let model = kind.is_none_or(|kind| kind.to_ascii_lowercase().contains("model"));
        let Some(name) = text(&output, "assetName").or_else(|| text(&output, "name")) else { continue };
        if model {
            let version = text(&output, "assetVersion");
            let named = named(home.clone(), name, version);
            found.push(named.unwrap_or_else(|| unknown("an output names no model that could be found")));
        }
    }
    for inner in child(job, "jobs").into_iter().flat_map(|all| objects(&all)) {
        outputs(home, &inner, depth + 1, found);
    }
}

fn named(home: ResourceId, name: &str, version: Option<&str>) -> Option<Registered> {
    let id = ResourceId::parse(&format!("{home}/models/{name}")).filter(|_| !name.contains('/'))?;
    match version {
        None => Some(Registered::Named { home, name: name.into() }),
        Some(version) => ResourceId::parse(&format!("{id}/versions/{version}"))
            .filter(|_| !version.contains('/'))
            .map(Registered::Version),
    }
}

fn unknown(why: &str) -> Registered {
    Registered::Unknown(why.into())
}

fn child<'a>(of: &Door<'a>, name: &str) -> Option<Door<'a>> {
    of.child(name).ok().flatten()
}

fn objects<'a>(of: &Door<'a>) -> Vec<Door<'a>> {
    of.members.values().filter_map(|value| Door::at(value, &of.path).ok()).collect()
}

fn text<'a>(of: &Door<'a>, name: &str) -> Option<&'a str> {
    of.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
