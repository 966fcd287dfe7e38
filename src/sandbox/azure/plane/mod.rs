//! The data plane of a workspace: discovery, MLflow, run history, metrics, artifacts, and Resource
//! Manager's own paths again below `/mferp/managementfrontend`.

mod artifacts;
mod history;
mod mlflow;
mod models;
mod registry;
pub mod tracking;

use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::{
    Shared,
    access::{self, Caller, Service},
    arm,
    call::{Call, Refusal, Reply, ok},
    names,
    world::World,
};

/// A request to a workspace's data plane.
#[derive(Debug)]
pub struct Inside<'a> {
    /// The request.
    pub call: &'a Call,
    /// Who sends it.
    pub caller: &'a Caller,
    /// The workspace's id.
    pub workspace: String,
    /// The segments after the workspace.
    pub rest: Vec<&'a str>,
}

impl Inside<'_> {
    /// Demands a right in this workspace; `action` without the provider and `workspaces/`.
    ///
    /// # Errors
    /// 403.
    pub fn demand(&self, shared: &Shared, action: &str) -> Result<(), Refusal> {
        let action = format!("Microsoft.MachineLearningServices/workspaces/{action}");
        access::authorize(shared, self.caller, &action, &self.workspace)
    }
}

/// Answers a request to the data plane.
pub fn serve(shared: &Shared, call: &Call) -> Response {
    let is_mlflow = call.segments.first().is_some_and(|s| s == "mlflow");
    route(shared, call).unwrap_or_else(|refusal| if is_mlflow { refusal.mlflow() } else { refusal.arm() })
}

fn route(shared: &Shared, call: &Call) -> Reply {
    let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["discovery", ..] => return Ok(discovery(call)),
        ["mferp", "managementfrontend", rest @ ..] => {
            let inner = Call {
                method: call.method.clone(),
                host: call.host.clone(),
                path: call.path.clone(),
                target: call.target.clone(),
                segments: rest.iter().map(|s| (*s).to_owned()).collect(),
                query: call.query.clone(),
                headers: call.headers.clone(),
                body: call.body.clone(),
            };
            return arm::route(shared, &inner, Service::DataPlane);
        }
        _ => {}
    }
    let caller = access::authenticate(shared, call, Service::DataPlane)?;
    let not_found =
        || Refusal::new(StatusCode::NOT_FOUND, "NotFound", &format!("No service answers '{}'.", call.path));
    let at = segments.iter().position(|s| s.eq_ignore_ascii_case("subscriptions")).ok_or_else(not_found)?;
    let (service, scope) =
        (segments.first().copied().unwrap_or_default(), segments.get(at..).unwrap_or_default());
    let [_, subscription, groups, group, providers, provider, workspaces, workspace, rest @ ..] = scope
    else {
        return Err(not_found());
    };
    let fixed = [*groups, *providers, *provider, *workspaces].map(str::to_ascii_lowercase);
    let expected = ["resourcegroups", "providers", "microsoft.machinelearningservices", "workspaces"];
    if fixed != expected
        || !subscription.eq_ignore_ascii_case(names::SUBSCRIPTION)
        || !World::has_group(group)
    {
        return Err(not_found());
    }
    let inside =
        Inside { call, caller: &caller, workspace: names::workspace_id(workspace), rest: rest.to_vec() };
    // The right to anything inside is judged first; then the workspace must exist.
    let reply = match service {
        "mlflow" => mlflow::route(shared, &inside),
        "history" => history::route(shared, &inside),
        "metric" => history::metrics(shared, &inside),
        "artifact" => artifacts::route(shared, &inside),
        "modelregistry" => registry::route(shared, &inside),
        _ => Err(not_found()),
    };
    if shared.with(|world| world.get(&inside.workspace).is_none())
        && !matches!(&reply, Err(r) if r.status == StatusCode::FORBIDDEN)
    {
        return Err(Refusal::not_found(&inside.workspace));
    }
    reply
}

/// The discovery document: service names to base URLs. It needs no token.
fn discovery(call: &Call) -> Response {
    let base = call.urls().data_plane();
    ok(json!({
        "api": base,
        "catalog": "https://catalog.cortanaanalytics.com",
        "experimentation": base,
        "gallery": "https://gallery.cortanaintelligence.com/project",
        "history": base,
        "hyperdrive": base,
        "labeling": base,
        "modelmanagement": base,
        "pipelines": base,
        "studio": call.urls().studio(),
    }))
}
