//! The model registry's own API: a third door to the same models.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Inside;
use crate::sandbox::{
    azure::{
        Shared,
        arm::items,
        call::{Refusal, Reply, ok},
        world::{Resource, World},
    },
    members::Members as _,
};

/// Answers `/modelregistry/v1.0/{workspace}/models[/{name:version}]`.
///
/// # Errors
/// 403, 404, 400.
pub fn route(shared: &Shared, inside: &Inside<'_>) -> Reply {
    let call = inside.call;
    let not_found = || Refusal::not_found(&call.path);
    match (call.method.clone(), inside.rest.as_slice()) {
        (Method::GET, ["models"]) => {
            inside.demand(shared, "models/read")?;
            let wanted = call.query("name");
            shared.with(|world| {
                let all: Vec<Value> = world
                    .children(&inside.workspace, "workspaces/models")
                    .into_iter()
                    .filter(|m| wanted.is_none_or(|w| w == m.name()))
                    .flat_map(|m| world.children(&m.id, "workspaces/models/versions"))
                    .map(shown)
                    .collect();
                Ok(ok(json!({ "value": all })))
            })
        }
        (Method::POST, ["models"]) => {
            inside.demand(shared, "models/write")?;
            let body = call.json()?;
            let text = |name: &str| {
                body.member(name)
                    .as_str()
                    .filter(|v| !v.is_empty())
                    .ok_or_else(|| Refusal::bad_request(&format!("The {name} field is required.")))
            };
            let (name, url) = (text("name")?, text("url")?);
            let now = shared.clock.now();
            shared.with(|world| {
                let container = format!("{}/models/{name}", inside.workspace);
                let version = items::next_version(world, &container);
                let properties = json!({
                    "modelUri": url, "modelType": "custom_model", "jobName": body.member("runId"),
                    "description": body.member("description"),
                });
                let by = &inside.caller.object_id;
                items::put_version(world, &inside.workspace, "models", name, &version, properties, by, now);
                one(world, &container, &version).ok_or_else(not_found)
            })
        }
        (Method::GET, ["models", id]) => {
            inside.demand(shared, "models/read")?;
            let (name, version) = id.split_once(':').ok_or_else(not_found)?;
            shared.with(|world| {
                one(world, &format!("{}/models/{name}", inside.workspace), version).ok_or_else(not_found)
            })
        }
        _ => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            "The model registry does not serve this path.",
        )),
    }
}

fn one(world: &World, container: &str, version: &str) -> Option<axum::response::Response> {
    world.get(&format!("{container}/versions/{version}")).map(|model| ok(shown(model)))
}

fn shown(version: &Resource) -> Value {
    let model = version.parent().rsplit('/').next().unwrap_or_default();
    let properties = version.body.member("properties");
    json!({
        "id": format!("{model}:{}", version.name()),
        "name": model,
        "version": version.name().parse::<u64>().ok(),
        "url": properties.member("modelUri"),
        "runId": properties.member("jobName"),
        "createdTime": version.created.to_rfc3339(),
    })
}
