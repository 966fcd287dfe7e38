//! Run history and metrics: the older API beside MLflow's, over the same runs and over jobs.

use crate::sandbox::members::Members as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Inside, tracking::Run};
use crate::sandbox::azure::{
    Shared,
    arm::jobs,
    call::{Refusal, Reply, ok},
    world::World,
};

/// Answers `/history/v1.0/{workspace}/...`.
///
/// # Errors
/// 403, 404.
pub fn route(shared: &Shared, inside: &Inside<'_>) -> Reply {
    // A run is addressed with or without its experiment.
    let rest = match inside.rest.as_slice() {
        ["experiments" | "experimentids", _, rest @ ..] if !rest.is_empty() => rest,
        rest => rest,
    };
    let get = inside.call.method == Method::GET;
    let not_found = || Refusal::not_found(&inside.call.path);
    match rest {
        ["experiments" | "experimentids", name] if get => {
            inside.demand(shared, "experiments/read")?;
            shared.with(|world| {
                let store = world.tracking.entry(inside.workspace.to_ascii_lowercase()).or_default();
                let found = store.experiments.values().find(|e| e.name == *name || e.id == *name);
                found
                    .map(|e| ok(json!({"experimentId": e.id, "name": e.name, "tags": e.tags})))
                    .ok_or_else(not_found)
            })
        }
        ["experiments", name] if inside.call.method == Method::POST => {
            inside.demand(shared, "experiments/write")?;
            let now = shared.clock.now().as_millis();
            shared.with(|world| {
                let store = world.tracking.entry(inside.workspace.to_ascii_lowercase()).or_default();
                Ok(ok(json!({"experimentId": store.experiment(name, now), "name": name})))
            })
        }
        ["experiments:query"] => {
            inside.demand(shared, "experiments/read")?;
            shared.with(|world| {
                let store = world.tracking.entry(inside.workspace.to_ascii_lowercase()).or_default();
                let all: Vec<Value> = store
                    .experiments
                    .values()
                    .map(|e| json!({"experimentId": e.id, "name": e.name}))
                    .collect();
                Ok(ok(json!({ "value": all })))
            })
        }
        ["runs:query"] => {
            inside.demand(shared, "experiments/runs/read")?;
            shared.with(|world| Ok(ok(json!({"value": all_runs(world, inside)}))))
        }
        ["rundata"] => {
            inside.demand(shared, "experiments/runs/read")?;
            let body = inside.call.json()?;
            let id = body.member("runId").as_str().unwrap_or_default().to_owned();
            shared.with(|world| {
                one_run(shared, world, inside, &id)
                    .map(|run| ok(json!({ "runMetadata": run })))
                    .ok_or_else(not_found)
            })
        }
        ["runs", id] | ["runs", id, "details"] if get => {
            inside.demand(shared, "experiments/runs/read")?;
            shared.with(|world| one_run(shared, world, inside, id).map(ok).ok_or_else(not_found))
        }
        ["runs", id] if inside.call.method == Method::PATCH => {
            inside.demand(shared, "experiments/runs/write")?;
            let body = inside.call.json()?;
            shared.with(|world| {
                let store = world.tracking.entry(inside.workspace.to_ascii_lowercase()).or_default();
                let run = store.runs.get_mut(*id).ok_or_else(not_found)?;
                for (key, value) in body.member("tags").as_object().into_iter().flatten() {
                    run.tags.insert(key.clone(), value.as_str().unwrap_or_default().to_owned());
                }
                Ok(ok(shown(run)))
            })
        }
        ["runs", id, "events"] if inside.call.method == Method::POST => {
            inside.demand(shared, "experiments/runs/write")?;
            shared
                .with(|world| one_run(shared, world, inside, id).map(|_| ok(json!({}))).ok_or_else(not_found))
        }
        ["runs", id, "cancel"] if inside.call.method == Method::POST => {
            inside.demand(shared, "experiments/runs/write")?;
            shared.with(|world| {
                let store = world.tracking.entry(inside.workspace.to_ascii_lowercase()).or_default();
                let run = store.runs.get_mut(*id).ok_or_else(not_found)?;
                "KILLED".clone_into(&mut run.status);
                Ok(ok(shown(run)))
            })
        }
        ["runs", id, "children"] if get => {
            inside.demand(shared, "experiments/runs/read")?;
            shared.with(|world| {
                one_run(shared, world, inside, id).map(|_| ok(json!({"value": []}))).ok_or_else(not_found)
            })
        }
        // A token that speaks for the run: a secret in a read.
        ["runs", id, "token"] if get => {
            inside.demand(shared, "experiments/runs/read")?;
            let token = format!("sandbox-run-token-{id}");
            let expires = shared.clock.now().plus(std::time::Duration::from_secs(3_600)).to_rfc3339();
            shared.with(|world| {
                one_run(shared, world, inside, id)
                    .map(|_| ok(json!({"token": token, "expiryTimeUtc": expires})))
                    .ok_or_else(not_found)
            })
        }
        ["runs", id, "artifacts"] if get => {
            inside.demand(shared, "metadata/artifacts/read")?;
            shared.with(|world| super::artifacts::list_run(world, inside, id))
        }
        ["runs", id, "artifacts", "contentinfo" | "artifacturi"] if get => {
            inside.demand(shared, "metadata/artifacts/read")?;
            super::artifacts::content_info(shared, inside, id)
        }
        _ => {
            Err(Refusal::new(StatusCode::NOT_FOUND, "NotFound", "The run history does not serve this path."))
        }
    }
}

/// Answers `/metric/v2.0/{workspace}/runs/{id}/...`.
///
/// # Errors
/// 403, 404.
pub fn metrics(shared: &Shared, inside: &Inside<'_>) -> Reply {
    let not_found = || Refusal::not_found(&inside.call.path);
    let ["runs", id, verb] = inside.rest.as_slice() else { return Err(not_found()) };
    if inside.call.method != Method::POST {
        return Err(Refusal::method(&inside.call.method));
    }
    let right = if *verb == "batch" { "experiments/runs/write" } else { "experiments/runs/read" };
    inside.demand(shared, right)?;
    let body = inside.call.json()?;
    shared.with(|world| {
        let store = world.tracking.entry(inside.workspace.to_ascii_lowercase()).or_default();
        let run = store.runs.get_mut(*id).ok_or_else(not_found)?;
        match *verb {
            "batch" => {
                for entry in body.member("values").as_array().into_iter().flatten() {
                    let name = entry.member("name").as_str().unwrap_or_default();
                    for value in entry.member("value").as_array().into_iter().flatten() {
                        run.metrics.entry(name.to_owned()).or_default().push(
                            json!({"key": name, "value": value.member("data").member(name), "timestamp": 0, "step": value.member("step")}),
                        );
                    }
                }
                Ok(ok(json!({"errors": []})))
            }
            "list" => {
                let names: Vec<Value> = run
                    .metrics
                    .keys()
                    .map(|n| json!({"dataContainerId": format!("dcid.{id}"), "name": n}))
                    .collect();
                Ok(ok(json!({ "value": names })))
            }
            "full" | "sample" => {
                let name = body.member("metricName").as_str().unwrap_or_default();
                let values = run.metrics.get(name).cloned().unwrap_or_default();
                Ok(ok(json!({"name": name, "value": values})))
            }
            _ => Err(not_found()),
        }
    })
}

fn shown(run: &Run) -> Value {
    json!({
        "runId": run.id,
        "experimentId": run.experiment,
        "displayName": run.name,
        "status": run.status,
        "dataContainerId": format!("dcid.{}", run.id),
        "tags": run.tags,
        "properties": {},
    })
}

/// A tracked run, or the run of a job, which has the job's name.
fn one_run(shared: &Shared, world: &mut World, inside: &Inside<'_>, id: &str) -> Option<Value> {
    let tracked = world.tracking.get(&inside.workspace.to_ascii_lowercase()).and_then(|s| s.runs.get(id));
    if let Some(run) = tracked {
        return Some(shown(run));
    }
    // Whoever watches the run sees the job move on.
    let job = format!("{}/jobs/{id}", inside.workspace);
    jobs::advance(world, &job, shared.clock.now());
    let job = world.get(&job)?;
    let properties = job.body.member("properties");
    Some(json!({
        "runId": id,
        "experimentName": properties.member("experimentName"),
        "displayName": properties.member("displayName"),
        "status": properties.member("status"),
        "dataContainerId": format!("dcid.{id}"),
        "tags": properties.member("tags"),
        "properties": properties.member("properties"),
        "logFiles": {},
    }))
}

fn all_runs(world: &World, inside: &Inside<'_>) -> Vec<Value> {
    world
        .tracking
        .get(&inside.workspace.to_ascii_lowercase())
        .map(|s| s.runs.values().map(shown).collect())
        .unwrap_or_default()
}
