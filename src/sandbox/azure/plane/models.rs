//! MLflow's registered models: the same models that Resource Manager shows.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Inside,
    mlflow::{no_such, text, unpaired},
};
use crate::sandbox::{
    azure::{
        Shared,
        arm::items,
        call::{Refusal, Reply, ok},
        world::World,
    },
    members::Members as _,
};

/// Registered models and their versions: the workspace's models.
pub fn route(
    shared: &Shared,
    world: &mut World,
    inside: &Inside<'_>,
    operation: &str,
    fields: &Value,
) -> Reply {
    let now = shared.clock.now();
    let by = inside.caller.object_id.as_str();
    let id_of = |name: &str| format!("{}/models/{name}", inside.workspace);
    if operation == "registered-models/search" {
        let all: Vec<Value> = world
            .children(&inside.workspace, "workspaces/models")
            .into_iter()
            .map(|m| json!({"name": m.name(), "creation_timestamp": m.created.as_millis()}))
            .collect();
        return Ok(ok(json!({"registered_models": all})));
    }
    if operation == "model-versions/search" {
        let name = fields.member("filter").as_str().and_then(|f| f.split('\'').nth(1)).unwrap_or_default();
        let found: Vec<Value> = versions(world, &id_of(name), name);
        return Ok(ok(json!({"model_versions": found})));
    }
    let name = text(fields, "name")?;
    let id = id_of(name);
    if operation == "registered-models/create" {
        if world.get(&id).is_some() {
            return Err(Refusal::new(
                StatusCode::CONFLICT,
                "Conflict",
                &format!("Registered model '{name}' already exists."),
            ));
        }
        let body = json!({"properties": {"isArchived": false, "tags": unpaired(fields.member("tags"))}});
        world.put(&id, "workspaces/models", body, by, now);
        return Ok(ok(json!({"registered_model": {"name": name, "creation_timestamp": now.as_millis()}})));
    }
    if world.get(&id).is_none() {
        return Err(no_such("registered model", name));
    }
    match operation {
        "registered-models/delete" => {
            world.remove(&id);
            Ok(ok(json!({})))
        }
        "registered-models/get" => {
            Ok(ok(json!({"registered_model": {"name": name, "latest_versions": versions(world, &id, name)}})))
        }
        "registered-models/get-latest-versions" => {
            let latest: Vec<Value> = versions(world, &id, name).into_iter().next_back().into_iter().collect();
            Ok(ok(json!({"model_versions": latest})))
        }
        "model-versions/create" => {
            let version = items::next_version(world, &id);
            let properties = json!({
                "modelUri": text(fields, "source")?,
                "modelType": "mlflow_model",
                "jobName": fields.member("run_id"),
                "description": fields.member("description"),
                "tags": unpaired(fields.member("tags")),
                "isArchived": false,
            });
            items::put_version(world, &inside.workspace, "models", name, &version, properties, by, now);
            Ok(one_version(world, &id, name, &version))
        }
        _ if operation.starts_with("registered-models/") => {
            Ok(ok(json!({"registered_model": {"name": name}})))
        }
        _ => {
            let version = text(fields, "version")?;
            let version_id = format!("{id}/versions/{version}");
            let resource = world.get_mut(&version_id).ok_or_else(|| no_such("model version", version))?;
            match operation {
                "model-versions/delete" => {
                    world.remove(&version_id);
                    return Ok(ok(json!({})));
                }
                "model-versions/get-download-uri" => {
                    return Ok(ok(
                        json!({"artifact_uri": resource.body.member("properties").member("modelUri")}),
                    ));
                }
                "model-versions/transition-stage" => {
                    *resource.body.member_mut("properties").member_mut("stage") =
                        fields.member("stage").clone();
                }
                "model-versions/set-tag" => {
                    *resource
                        .body
                        .member_mut("properties")
                        .member_mut("tags")
                        .member_mut(text(fields, "key")?) = fields.member("value").clone();
                }
                "model-versions/update" => {
                    *resource.body.member_mut("properties").member_mut("description") =
                        fields.member("description").clone();
                }
                _ => {}
            }
            Ok(one_version(world, &id, name, version))
        }
    }
}

fn one_version(world: &World, model: &str, name: &str, version: &str) -> Response {
    let shown = versions(world, model, name).into_iter().find(|v| v.member("version") == version);
    ok(json!({ "model_version": shown }))
}

fn versions(world: &World, model: &str, name: &str) -> Vec<Value> {
    world
        .children(model, "workspaces/models/versions")
        .into_iter()
        .map(|v| {
            let properties = v.body.member("properties");
            json!({
                "name": name,
                "version": v.name(),
                "creation_timestamp": v.created.as_millis(),
                "last_updated_timestamp": v.modified.as_millis(),
                "current_stage": properties.member("stage").as_str().unwrap_or("None"),
                "source": properties.member("modelUri"),
                "run_id": properties.member("jobName"),
                "status": "READY",
            })
        })
        .collect()
}
