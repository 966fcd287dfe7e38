//! The life of a job: it starts, runs and ends as it is polled or as time goes by.

use crate::sandbox::members::Members as _;
use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    sandbox::azure::{
        Shared,
        access::Caller,
        call::{Call, Refusal, Reply, answer},
        operations::{self, Effect, Family},
        world::{Resource, World},
    },
    time::Timestamp,
};

/// How long each step takes when nobody polls.
const STEP: Duration = Duration::from_secs(10);

/// The states in which nothing changes any more.
fn is_over(status: &str) -> bool {
    matches!(status, "Completed" | "Failed" | "Canceled")
}

/// Moves a job on: by one step for this poll, or as far as the clock says.
pub fn advance(world: &mut World, id: &str, now: Timestamp) {
    let Some(job) = world.get_mut(id) else { return };
    let status = job.body.member("properties").member("status").as_str().unwrap_or_default().to_owned();
    if is_over(&status) || status == "CancelRequested" {
        return;
    }
    job.polls += 1;
    let elapsed = now.since(job.created).as_secs() / STEP.as_secs();
    let step = u64::from(job.polls).max(elapsed);
    // A command that cannot succeed does not.
    let fails =
        job.body.member("properties").member("command").as_str().is_some_and(|c| c.trim() == "exit 1");
    let next = match (step, fails) {
        (0, _) => "Starting",
        (1 | 2, _) => "Running",
        (_, true) => "Failed",
        (_, false) => "Completed",
    };
    *job.body.member_mut("properties").member_mut("status") = json!(next);
    if next == "Completed" {
        let job = job.clone();
        register_outputs(world, &job, now);
    }
}

/// A finished job registers the outputs that name a model: one of the doors to a registered model.
fn register_outputs(world: &mut World, job: &Resource, now: Timestamp) {
    let Some(outputs) = job.body.member("properties").member("outputs").as_object() else { return };
    let workspace = job.parent().to_owned();
    for (output, spec) in outputs {
        let (Some(name), Some(kind)) =
            (spec.member("assetName").as_str(), spec.member("jobOutputType").as_str())
        else {
            continue;
        };
        if !kind.to_ascii_lowercase().ends_with("_model") {
            continue;
        }
        let version = spec.member("assetVersion").as_str().map_or_else(
            || super::items::next_version(world, &format!("{workspace}/models/{name}")),
            ToOwned::to_owned,
        );
        let properties = json!({
            "modelType": kind,
            "modelUri": format!("azureml://jobs/{}/outputs/{output}", job.name()),
            "jobName": job.name(),
            "isArchived": false,
            "isAnonymous": false,
        });
        super::items::put_version(
            world,
            &workspace,
            "models",
            name,
            &version,
            properties,
            &job.created_by,
            now,
        );
    }
}

/// What a `PUT` of a job leaves in the state.
///
/// # Errors
/// 400 if it changes what cannot be changed in a job that exists.
pub fn accept(existing: Option<&Resource>, mut body: Value) -> Result<Value, Refusal> {
    let Some(existing) = existing else {
        let properties = body.member_mut("properties");
        *properties.member_mut("status") = json!("Starting");
        if properties.member("experimentName").is_null() {
            *properties.member_mut("experimentName") = json!("Default");
        }
        if properties.member("isArchived").is_null() {
            *properties.member_mut("isArchived") = json!(false);
        }
        return Ok(body);
    };
    let old = existing.body.member("properties");
    for fixed in ["jobType", "command", "codeId", "environmentId", "computeId", "experimentName"] {
        let new = body.member("properties").member(fixed);
        if !new.is_null() && new != old.member(fixed) {
            return Err(Refusal::bad_request(&format!(
                "A job with this name already exists. If you are trying to submit a new job, use a different name. If you are trying to update an existing job, the existing job's properties.{fixed} cannot be changed."
            )));
        }
    }
    let mut merged = existing.body.clone();
    for open in ["displayName", "description", "tags", "isArchived"] {
        let new = body.member("properties").member(open);
        if !new.is_null() {
            *merged.member_mut("properties").member_mut(open) = new.clone();
        }
    }
    // Only new properties: what is written stays.
    if let Some(new) = body.member("properties").member("properties").as_object() {
        for (name, value) in new {
            if merged.member("properties").member("properties").member(name).is_null() {
                *merged.member_mut("properties").member_mut("properties").member_mut(name) = value.clone();
            }
        }
    }
    Ok(merged)
}

/// `POST .../jobs/{id}/cancel`.
///
/// # Errors
/// None of its own.
pub fn cancel(shared: &Shared, world: &mut World, call: &Call, caller: &Caller, id: &str) -> Reply {
    let job = world.get_mut(id).ok_or_else(|| Refusal::not_found(id))?;
    let status = job.body.member("properties").member("status").as_str().unwrap_or_default();
    if is_over(status) {
        return Ok(answer(StatusCode::OK, &[], None));
    }
    *job.body.member_mut("properties").member_mut("status") = json!("CancelRequested");
    let effect = Effect::Provision { id: id.to_owned(), properties: json!({"status": "Canceled"}) };
    let started = operations::start(shared, world, Family::Mfe, caller, version(call), effect);
    Ok::<Response, _>(answer(StatusCode::ACCEPTED, &started.by_location(call), None))
}

/// The api-version that the caller used.
pub fn version(call: &Call) -> &str {
    call.query("api-version").unwrap_or_default()
}
