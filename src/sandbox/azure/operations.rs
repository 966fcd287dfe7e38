//! Long-running operations: what an answer of 201 or 202 leaves behind until it is done.
//!
//! The status URLs are signed and compared byte for byte when they come back, because Azure's are.

use crate::sandbox::members::Members as _;
use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Shared,
    access::{self, Caller},
    call::{Call, Refusal, Reply, answer, ok},
    names,
    world::World,
};
use crate::time::Timestamp;

/// How long an operation takes by the clock when nobody polls it.
const DURATION: Duration = Duration::from_secs(20);

/// Which part of the service runs it; names the status URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Jobs, endpoints, deployments, schedules.
    Mfe,
    /// Computes.
    Compute,
    /// Workspaces.
    Workspace,
}

impl Family {
    const fn status(self) -> &'static str {
        match self {
            Self::Mfe => "mfeOperationsStatus",
            Self::Compute => "computeOperationsStatus",
            Self::Workspace => "workspaceOperationsStatus",
        }
    }

    const fn result(self) -> &'static str {
        match self {
            Self::Mfe => "mfeOperationResults",
            Self::Compute => "computeOperationResults",
            Self::Workspace => "workspaceOperationResults",
        }
    }
}

/// What happens when it is done.
#[derive(Debug, Clone)]
pub enum Effect {
    /// The resource is provisioned, and these members of `properties` change with it.
    Provision {
        /// Which resource.
        id: String,
        /// Merged into `properties`, two levels deep.
        properties: Value,
    },
    /// The resource goes, with all below it.
    Remove {
        /// Which resource.
        id: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    Running,
    Succeeded,
    Failed { code: String, message: String },
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Operation {
    started_by: String,
    started: Timestamp,
    polls_left: u32,
    effect: Effect,
    fails: Option<(String, String)>,
    progress: Progress,
    status_target: String,
    result_target: String,
}

/// The URLs of a started operation, as paths with query.
#[derive(Debug)]
pub struct Started {
    status: String,
    result: String,
    retry_after: u64,
}

impl Started {
    /// Headers of an answer that is polled by `Azure-AsyncOperation`.
    pub fn by_status(&self, call: &Call) -> Vec<(&'static str, String)> {
        vec![
            ("azure-asyncoperation", format!("{}{}", call.urls().here(), self.status)),
            ("x-ms-async-operation-timeout", "PT1H".to_owned()),
            ("retry-after", self.retry_after.to_string()),
        ]
    }

    /// Headers of an answer that is polled by `Location`.
    pub fn by_location(&self, call: &Call) -> Vec<(&'static str, String)> {
        vec![
            ("location", format!("{}{}", call.urls().here(), self.result)),
            ("x-ms-async-operation-timeout", "PT1H".to_owned()),
            ("retry-after", self.retry_after.to_string()),
        ]
    }
}

/// Starts an operation.
pub fn start(
    shared: &Shared,
    world: &mut World,
    family: Family,
    caller: &Caller,
    version: &str,
    effect: Effect,
) -> Started {
    let id = uuid::Uuid::new_v4().to_string();
    let now = shared.clock.now();
    let target = |kind: &str| {
        // The form of Azure's own: ticks, certificate, signature and hash, with escapes that must
        // survive the way there and back.
        let signature = uuid::Uuid::new_v4().simple();
        format!(
            "/subscriptions/{}/providers/Microsoft.MachineLearningServices/locations/{}/{kind}/{id}?api-version={version}&t={}&c=MIIHpTCC.{signature}&s=Ab%2F{signature}%2Bz%3D%3D&h=-{signature}_x",
            names::SUBSCRIPTION,
            names::REGION,
            now.as_millis(),
        )
    };
    let (status_target, result_target) = (target(family.status()), target(family.result()));
    let operation = Operation {
        started_by: caller.object_id.clone(),
        started: now,
        polls_left: shared.operation_polls,
        effect,
        fails: world.next_failure.take(),
        progress: Progress::Running,
        status_target: status_target.clone(),
        result_target: result_target.clone(),
    };
    world.operations.insert(id, operation);
    Started { status: status_target, result: result_target, retry_after: shared.retry_after.as_secs() }
}

/// Finishes what the clock has finished.
pub fn settle(world: &mut World, now: Timestamp) {
    let due: Vec<String> = world
        .operations
        .iter()
        .filter(|(_, o)| o.progress == Progress::Running && now.since(o.started) >= DURATION)
        .map(|(id, _)| id.clone())
        .collect();
    for id in due {
        finish(world, &id);
    }
}

fn finish(world: &mut World, id: &str) {
    let Some(operation) = world.operations.get_mut(id) else { return };
    let failure = operation.fails.clone();
    operation.progress = match &failure {
        None => Progress::Succeeded,
        Some((code, message)) => Progress::Failed { code: code.clone(), message: message.clone() },
    };
    match (operation.effect.clone(), failure) {
        (Effect::Provision { id, properties }, None) => {
            if let Some(resource) = world.get_mut(&id) {
                let target = resource.body.member_mut("properties");
                merge(target, &properties);
                *target.member_mut("provisioningState") = json!("Succeeded");
            }
        }
        (Effect::Provision { id, .. }, Some(_)) => {
            if let Some(resource) = world.get_mut(&id) {
                *resource.body.member_mut("properties").member_mut("provisioningState") = json!("Failed");
            }
        }
        (Effect::Remove { id }, None) => {
            world.remove(&id);
        }
        (Effect::Remove { .. }, Some(_)) => {}
    }
}

/// Puts the members of `from` into `into`, objects member by member.
pub fn merge(into: &mut Value, from: &Value) {
    match (into.as_object_mut(), from.as_object()) {
        (Some(into), Some(from)) => {
            for (name, value) in from {
                if value.is_object() && into.get(name).is_some_and(Value::is_object) {
                    if let Some(member) = into.get_mut(name) {
                        merge(member, value);
                    }
                } else {
                    into.insert(name.clone(), value.clone());
                }
            }
        }
        (None | Some(_), _) => *into = from.clone(),
    }
}

/// `GET .../locations/L/{family}Operations{Status|Results}/{id}`.
///
/// # Errors
/// 404 for an unknown operation, 400 if the URL is not byte for byte the one that was handed out,
/// 403 for somebody who neither started it nor may read in the subscription.
pub fn poll(shared: &Shared, call: &Call, caller: &Caller, kind: &str, id: &str) -> Reply {
    let scope = format!("/subscriptions/{}", names::SUBSCRIPTION);
    let action = format!("Microsoft.MachineLearningServices/locations/{kind}/read");
    let may_read = access::authorize(shared, caller, &action, &scope);
    shared.with(|world| {
        let operation = world.operations.get_mut(id).ok_or_else(|| Refusal::not_found(id))?;
        if operation.started_by != caller.object_id {
            may_read?;
        }
        if call.target != operation.status_target && call.target != operation.result_target {
            return Err(Refusal::bad_request(
                "The asynchronous operation URL is not the one that was issued: its parameters were changed.",
            ));
        }
        let by_status = call.target == operation.status_target;
        if operation.progress == Progress::Running {
            if operation.polls_left > 0 {
                operation.polls_left -= 1;
            } else {
                finish(world, id);
            }
        }
        let operation = world.operations.get(id).ok_or_else(|| Refusal::not_found(id))?;
        Ok(if by_status {
            status(shared, call, id, operation)
        } else {
            result(shared, world, call, operation)
        })
    })
}

fn status(shared: &Shared, call: &Call, id: &str, operation: &Operation) -> Response {
    let mut body = json!({
        "id": call.path,
        "name": id,
        "startTime": operation.started.to_rfc3339(),
    });
    match &operation.progress {
        Progress::Running => {
            *body.member_mut("status") = json!("InProgress");
            *body.member_mut("percentComplete") = json!(50.0);
            // Without it here too, the official SDK waits its own thirty seconds.
            let again = [("retry-after", shared.retry_after.as_secs().to_string())];
            return answer(StatusCode::OK, &again, Some(body));
        }
        Progress::Succeeded => {
            *body.member_mut("status") = json!("Succeeded");
            *body.member_mut("percentComplete") = json!(100.0);
        }
        Progress::Failed { code, message } => {
            *body.member_mut("status") = json!("Failed");
            *body.member_mut("error") = json!({"code": code, "message": message});
        }
    }
    ok(body)
}

fn result(shared: &Shared, world: &World, call: &Call, operation: &Operation) -> Response {
    match (&operation.progress, &operation.effect) {
        (Progress::Running, _) => answer(
            StatusCode::ACCEPTED,
            &[
                ("location", format!("{}{}", call.urls().here(), operation.result_target)),
                ("retry-after", shared.retry_after.as_secs().to_string()),
            ],
            None,
        ),
        (Progress::Failed { code, message }, _) => Refusal::new(StatusCode::CONFLICT, code, message).arm(),
        (Progress::Succeeded, Effect::Remove { .. }) => answer(StatusCode::NO_CONTENT, &[], None),
        (Progress::Succeeded, Effect::Provision { id, .. }) => match world.get(id) {
            None => answer(StatusCode::NO_CONTENT, &[], None),
            Some(resource) => ok(super::arm::items::shown(resource, call)),
        },
    }
}
