//! MLflow's REST API (2.0) as the workspace serves it: experiments, runs, and models, which are the
//! same models that Resource Manager shows.

use crate::sandbox::members::Members as _;
use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    Inside, models,
    tracking::{Experiment, Run, Store},
};
use crate::sandbox::azure::{
    Shared,
    call::{Refusal, Reply, ok},
    world::World,
};

/// The right that an operation of the API needs.
fn right(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "experiments/get" | "experiments/get-by-name" | "experiments/search" => "experiments/read",
        "experiments/create"
        | "experiments/update"
        | "experiments/restore"
        | "experiments/set-experiment-tag" => "experiments/write",
        "experiments/delete" => "experiments/delete",
        "runs/get" | "runs/search" | "metrics/get-history" | "metrics/get-history-bulk-interval" => {
            "experiments/runs/read"
        }
        "runs/create"
        | "runs/update"
        | "runs/restore"
        | "runs/log-metric"
        | "runs/log-parameter"
        | "runs/log-batch"
        | "runs/log-batch-async"
        | "runs/set-tag"
        | "runs/delete-tag"
        | "runs/log-inputs"
        | "runs/log-model" => "experiments/runs/write",
        "runs/delete" => "experiments/runs/delete",
        "artifacts/list" => "metadata/artifacts/read",
        "registered-models/get" | "registered-models/search" | "registered-models/get-latest-versions" => {
            "models/read"
        }
        "registered-models/create"
        | "registered-models/update"
        | "registered-models/set-tag"
        | "registered-models/delete-tag"
        | "registered-models/rename" => "models/write",
        "registered-models/delete" => "models/delete",
        "model-versions/get" | "model-versions/search" | "model-versions/get-download-uri" => {
            "models/versions/read"
        }
        "model-versions/create"
        | "model-versions/update"
        | "model-versions/set-tag"
        | "model-versions/delete-tag"
        | "model-versions/transition-stage" => "models/versions/write",
        "model-versions/delete" => "models/versions/delete",
        _ => return None,
    })
}

/// Answers `.../api/2.0/mlflow/{operation}`.
///
/// # Errors
/// 404 for an operation that Azure does not serve, and what the operation refuses.
pub fn route(shared: &Shared, inside: &Inside<'_>) -> Reply {
    let operation = match inside.rest.as_slice() {
        ["api", "2.0", "mlflow", a, b] | ["api", "2.0", "preview", "mlflow", a, b] => format!("{a}/{b}"),
        _ => String::new(),
    };
    let unknown =
        || Refusal::new(StatusCode::NOT_FOUND, "NotFound", &format!("'{}' is not served.", inside.call.path));
    inside.demand(shared, right(&operation).ok_or_else(unknown)?)?;
    let fields = fields(inside)?;
    let now = shared.clock.now().as_millis();
    shared.with(|world| {
        if world.get(&inside.workspace).is_none() {
            return Err(Refusal::not_found(&inside.workspace));
        }
        match operation.split_once('/') {
            Some(("experiments", verb)) => experiments(world, inside, verb, &fields, now),
            Some(("runs" | "metrics", verb)) => runs(world, inside, verb, &fields, now),
            Some(("registered-models" | "model-versions", _)) => {
                models::route(shared, world, inside, &operation, &fields)
            }
            Some(("artifacts", "list")) => super::artifacts::list(world, inside, &fields),
            Some(_) | None => Err(unknown()),
        }
    })
}

/// The parameters: the query of a `GET`, else the JSON body.
fn fields(inside: &Inside<'_>) -> Result<Value, Refusal> {
    if inside.call.method == Method::GET {
        let pairs = inside.call.query.iter().map(|(k, v)| (k.clone(), Value::String(v.clone())));
        return Ok(Value::Object(pairs.collect::<Map<_, _>>()));
    }
    inside.call.json()
}

/// A required text field.
pub fn text<'a>(fields: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    fields
        .member(name)
        .as_str()
        .filter(|v| !v.is_empty())
        .ok_or_else(|| Refusal::bad_request(&format!("Missing value for required parameter '{name}'.")))
}

fn pairs(tags: &BTreeMap<String, String>) -> Value {
    tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

pub fn unpaired(list: &Value) -> BTreeMap<String, String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|t| Some((t.member("key").as_str()?.to_owned(), t.member("value").as_str()?.to_owned())))
        .collect()
}

pub fn no_such(what: &str, id: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "NotFound", &format!("No {what} with id or name '{id}' exists."))
}

fn experiment_json(experiment: &Experiment, inside: &Inside<'_>) -> Value {
    json!({
        "experiment_id": experiment.id,
        "name": experiment.name,
        "artifact_location": format!("{}/dcid.{}", artifact_root(inside), experiment.id),
        "lifecycle_stage": experiment.stage,
        "creation_time": experiment.created,
        "last_update_time": experiment.created,
        "tags": pairs(&experiment.tags),
    })
}

fn artifact_root(inside: &Inside<'_>) -> String {
    format!(
        "azureml://{}/artifact/v2.0{}/ExperimentRun",
        inside.call.urls().data_plane().trim_start_matches("https://"),
        inside.workspace
    )
}

/// A run in MLflow's shape.
fn run_json(run: &Run, inside: &Inside<'_>) -> Value {
    let latest: Vec<&Value> = run.metrics.values().filter_map(|history| history.last()).collect();
    json!({
        "info": {
            "run_id": run.id,
            "run_uuid": run.id,
            "run_name": run.name,
            "experiment_id": run.experiment,
            "user_id": run.user,
            "status": run.status,
            "start_time": run.started,
            "end_time": run.ended,
            "artifact_uri": format!("{}/dcid.{}", artifact_root(inside), run.id),
            "lifecycle_stage": run.stage,
        },
        "data": {"metrics": latest, "params": pairs(&run.params), "tags": pairs(&run.tags)},
        "inputs": {},
    })
}

fn experiments(world: &mut World, inside: &Inside<'_>, verb: &str, fields: &Value, now: u64) -> Reply {
    let store = world.tracking.entry(inside.workspace.to_ascii_lowercase()).or_default();
    let by_id = |store: &mut Store| -> Result<String, Refusal> {
        let id = text(fields, "experiment_id")?;
        store.experiments.get(id).map(|e| e.id.clone()).ok_or_else(|| no_such("experiment", id))
    };
    match verb {
        "create" => {
            let name = text(fields, "name")?;
            if store.experiments.values().any(|e| e.name == name) {
                return Err(Refusal::new(
                    StatusCode::CONFLICT,
                    "Conflict",
                    &format!("Experiment '{name}' already exists."),
                ));
            }
            let id = store.experiment(name, now);
            if let Some(experiment) = store.experiments.get_mut(&id) {
                experiment.tags = unpaired(fields.member("tags"));
            }
            Ok(ok(json!({"experiment_id": id})))
        }
        "get-by-name" => {
            let name = text(fields, "experiment_name")?;
            let found = store
                .experiments
                .values()
                .find(|e| e.name == name)
                .ok_or_else(|| no_such("experiment", name))?;
            Ok(ok(json!({"experiment": experiment_json(found, inside)})))
        }
        "search" => {
            let all: Vec<Value> = store.experiments.values().map(|e| experiment_json(e, inside)).collect();
            Ok(ok(json!({"experiments": all})))
        }
        _ => {
            let id = by_id(store)?;
            let experiment = store.experiments.get_mut(&id).ok_or_else(|| no_such("experiment", &id))?;
            match verb {
                "delete" => experiment.stage = "deleted",
                "restore" => experiment.stage = "active",
                "update" => text(fields, "new_name")?.clone_into(&mut experiment.name),
                "set-experiment-tag" => {
                    let (key, value) =
                        (text(fields, "key")?, fields.member("value").as_str().unwrap_or_default());
                    experiment.tags.insert(key.to_owned(), value.to_owned());
                }
                _ => return Ok(ok(json!({"experiment": experiment_json(experiment, inside)}))),
            }
            Ok(ok(json!({})))
        }
    }
}

fn runs(world: &mut World, inside: &Inside<'_>, verb: &str, fields: &Value, now: u64) -> Reply {
    let store = world.tracking.entry(inside.workspace.to_ascii_lowercase()).or_default();
    match verb {
        "create" => {
            let experiment = text(fields, "experiment_id")?;
            if !store.experiments.contains_key(experiment) {
                return Err(no_such("experiment", experiment));
            }
            let id = uuid::Uuid::new_v4().to_string();
            let mut tags = unpaired(fields.member("tags"));
            let name = fields.member("run_name").as_str().map_or_else(
                || {
                    tags.get("mlflow.runName")
                        .cloned()
                        .unwrap_or_else(|| format!("run-{}", store.runs.len() + 1))
                },
                ToOwned::to_owned,
            );
            tags.insert("mlflow.runName".to_owned(), name.clone());
            let run = Run {
                id: id.clone(),
                experiment: experiment.to_owned(),
                name,
                status: "RUNNING".to_owned(),
                started: fields.member("start_time").as_u64().unwrap_or(now),
                ended: 0,
                stage: "active",
                user: inside.caller.object_id.clone(),
                params: BTreeMap::new(),
                metrics: BTreeMap::new(),
                tags,
            };
            let shown = run_json(&run, inside);
            store.runs.insert(id, run);
            Ok(ok(json!({ "run": shown })))
        }
        "search" => {
            let experiments: Vec<&str> = fields
                .member("experiment_ids")
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let found: Vec<Value> = store
                .runs
                .values()
                .filter(|r| experiments.contains(&r.experiment.as_str()) && r.stage == "active")
                .map(|r| run_json(r, inside))
                .collect();
            Ok(ok(json!({ "runs": found })))
        }
        _ => {
            let id = text(fields, "run_id").or_else(|_| text(fields, "run_uuid"))?.to_owned();
            adopt(world, inside, &id);
            let store = world.tracking.entry(inside.workspace.to_ascii_lowercase()).or_default();
            let run = store.runs.get_mut(&id).ok_or_else(|| no_such("run", &id))?;
            on_run(run, inside, verb, fields, now)
        }
    }
}

/// A job has a run of its own name, to which its code logs.
fn adopt(world: &mut World, inside: &Inside<'_>, id: &str) {
    let Some(job) = world.get(&format!("{}/jobs/{id}", inside.workspace)) else { return };
    let properties = job.body.member("properties");
    let ended = matches!(properties.member("status").as_str(), Some("Completed" | "Failed" | "Canceled"));
    let run = Run {
        id: id.to_owned(),
        experiment: properties.member("experimentName").as_str().unwrap_or_default().to_owned(),
        name: properties.member("displayName").as_str().unwrap_or(id).to_owned(),
        status: if ended { "FINISHED" } else { "RUNNING" }.to_owned(),
        started: job.created.as_millis(),
        ended: if ended { job.modified.as_millis() } else { 0 },
        stage: "active",
        user: job.created_by.clone(),
        params: BTreeMap::new(),
        metrics: BTreeMap::new(),
        tags: BTreeMap::new(),
    };
    let store = world.tracking.entry(inside.workspace.to_ascii_lowercase()).or_default();
    let known = store.runs.entry(id.to_owned()).or_insert_with(|| run.clone());
    known.status.clone_from(&run.status);
    known.ended = run.ended;
}

fn on_run(run: &mut Run, inside: &Inside<'_>, verb: &str, fields: &Value, now: u64) -> Reply {
    match verb {
        "get" => return Ok(ok(json!({"run": run_json(run, inside)}))),
        "get-history" => {
            let history = run.metrics.get(text(fields, "metric_key")?).cloned().unwrap_or_default();
            return Ok(ok(json!({ "metrics": history })));
        }
        "update" => {
            if let Some(status) = fields.member("status").as_str() {
                status.clone_into(&mut run.status);
            }
            if let Some(ended) = fields.member("end_time").as_u64() {
                run.ended = ended;
            }
            if let Some(name) = fields.member("run_name").as_str() {
                name.clone_into(&mut run.name);
            }
            return Ok(ok(json!({"run_info": run_json(run, inside).member("info")})));
        }
        "log-metric" => metric(run, fields, now)?,
        "log-parameter" => parameter(run, fields)?,
        "log-batch" | "log-batch-async" => {
            for entry in fields.member("metrics").as_array().into_iter().flatten() {
                metric(run, entry, now)?;
            }
            for entry in fields.member("params").as_array().into_iter().flatten() {
                parameter(run, entry)?;
            }
            run.tags.extend(unpaired(fields.member("tags")));
        }
        "set-tag" => {
            let (key, value) = (text(fields, "key")?, fields.member("value").as_str().unwrap_or_default());
            run.tags.insert(key.to_owned(), value.to_owned());
        }
        "delete-tag" => {
            run.tags.remove(text(fields, "key")?);
        }
        "delete" => run.stage = "deleted",
        "restore" => run.stage = "active",
        // Inputs and models of a run are accepted and not shown.
        _ => {}
    }
    Ok(ok(json!({})))
}

fn metric(run: &mut Run, entry: &Value, now: u64) -> Result<(), Refusal> {
    let key = text(entry, "key")?;
    if !(entry.member("value").is_number() || entry.member("value").is_string()) {
        return Err(Refusal::bad_request(&format!("Metric '{key}' has no numeric value.")));
    }
    run.metrics.entry(key.to_owned()).or_default().push(json!({
        "key": key,
        "value": entry.member("value"),
        "timestamp": entry.member("timestamp").as_u64().unwrap_or(now),
        "step": entry.member("step").as_i64().unwrap_or_default(),
    }));
    Ok(())
}

/// Parameters are written once.
fn parameter(run: &mut Run, entry: &Value) -> Result<(), Refusal> {
    let (key, value) = (text(entry, "key")?, entry.member("value").as_str().unwrap_or_default());
    if run.params.get(key).is_some_and(|old| old != value) {
        return Err(Refusal::bad_request(&format!(
            "Parameter '{key}' was already logged with another value."
        )));
    }
    run.params.insert(key.to_owned(), value.to_owned());
    Ok(())
}
