//! Reading, writing, listing and deleting resources of any type.

use crate::sandbox::members::Members as _;
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    jobs,
    kinds::{Flow, Kind},
    schema,
};
use crate::{
    sandbox::azure::{
        Shared,
        access::Caller,
        call::{Call, Refusal, Reply, answer, ok},
        names,
        operations::{self, Effect},
        world::{Resource, World},
    },
    time::Timestamp,
};

/// A resource as this caller sees it, absolute URLs included.
pub fn shown(resource: &Resource, call: &Call) -> Value {
    let canonical = Kind::find(&resource.kind).map_or(resource.kind.as_str(), |k| k.canonical);
    let mut shown = World::show(resource, canonical);
    *shown.member_mut("etag") = json!(format!("W/\"{:08x}\"", resource.version));
    let urls = call.urls();
    let properties = shown.member_mut("properties");
    match resource.kind.as_str() {
        "workspaces" => {
            let data_plane = urls.data_plane();
            *properties.member_mut("discoveryUrl") = json!(format!("{data_plane}/discovery"));
            *properties.member_mut("mlFlowTrackingUri") = json!(format!(
                "azureml://{}/mlflow/v1.0{}",
                data_plane.trim_start_matches("https://"),
                resource.id
            ));
        }
        "workspaces/jobs" => {
            let tracking = format!(
                "azureml://{}/mlflow/v1.0{}",
                urls.data_plane().trim_start_matches("https://"),
                resource.parent()
            );
            *properties.member_mut("services") = json!({
                "Tracking": {"jobServiceType": "Tracking", "status": null, "endpoint": tracking},
                "Studio": {
                    "jobServiceType": "Studio", "status": null,
                    "endpoint": format!("{}/runs/{}?wsid={}", urls.studio(), resource.name(), resource.parent()),
                },
            });
        }
        "workspaces/onlineendpoints" => {
            let base = urls.inference(resource.name());
            *properties.member_mut("scoringUri") = json!(format!("{base}/score"));
            *properties.member_mut("swaggerUri") = json!(format!("{base}/swagger.json"));
        }
        _ => {}
    }
    shown
}

/// `GET` of one resource.
///
/// # Errors
/// 404.
pub fn get(shared: &Shared, world: &mut World, call: &Call, kind: &Kind, id: &str) -> Reply {
    if kind.path == "workspaces/jobs" {
        jobs::advance(world, id, shared.clock.now());
    }
    let resource = world.get(id).ok_or_else(|| Refusal::not_found(id))?;
    Ok(ok(with_latest(world, resource, shown(resource, call))))
}

/// `GET` of a collection: filtered, ordered, paged.
///
/// # Errors
/// 400 for a paging token that is none.
pub fn list(shared: &Shared, world: &World, call: &Call, kind: &Kind, parent: &str) -> Reply {
    let mut found = if kind.path == "workspaces/codes/versions" && call.query("hash").is_some() {
        // A content hash finds code whatever it is called: clients name it at random.
        let workspace = parent.rsplitn(3, '/').nth(2).unwrap_or_default();
        let codes = world.children(workspace, "workspaces/codes");
        codes.iter().flat_map(|code| world.children(&code.id, kind.path)).collect()
    } else {
        world.children(parent, kind.path)
    };
    let view = call.query("listViewType").unwrap_or("ActiveOnly");
    found.retain(|r| {
        let archived = r.body.member("properties").member("isArchived").as_bool().unwrap_or(false);
        match view {
            "All" => true,
            "ArchivedOnly" => archived,
            _ => !archived,
        }
    });
    if let Some(wanted) = call.query("jobType") {
        found.retain(|r| {
            r.body
                .member("properties")
                .member("jobType")
                .as_str()
                .is_some_and(|v| v.eq_ignore_ascii_case(wanted))
        });
    }
    if let Some(wanted) = call.query("hash") {
        found.retain(|r| {
            r.body.member("properties").member("properties").member("hash_sha256").as_str() == Some(wanted)
        });
    }
    if let Some(tag) = call.query("tag") {
        found.retain(|r| r.body.member("properties").member("tags").get(tag).is_some());
    }
    // Newest first, as the studio shows it.
    if kind.path == "workspaces/jobs"
        || call.query("$orderBy").is_some_and(|o| o.to_ascii_lowercase().contains("desc"))
    {
        found.reverse();
    }
    let top = call.query("$top").and_then(|t| t.parse::<usize>().ok());
    if let Some(top) = top {
        found.truncate(top);
    }
    let skip = match call.query("$skip").or_else(|| call.query("$skipToken")) {
        None => 0,
        Some(skip) => skip
            .parse::<usize>()
            .map_err(|_| Refusal::bad_request(&format!("The continuation token '{skip}' is invalid.")))?,
    };
    let page: Vec<Value> = found
        .iter()
        .skip(skip)
        .take(shared.page_size)
        .map(|r| with_latest(world, r, shown(r, call)))
        .collect();
    let next = skip + shared.page_size;
    let mut body = json!({ "value": page });
    if next < found.len() {
        *body.member_mut("nextLink") = json!(next_link(call, next));
    }
    Ok(ok(body))
}

/// The same request with the next page's token, on the authority that it came to.
fn next_link(call: &Call, skip: usize) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in &call.query {
        if !name.eq_ignore_ascii_case("$skip") && !name.eq_ignore_ascii_case("$skipToken") {
            query.append_pair(name, value);
        }
    }
    query.append_pair("$skip", &skip.to_string());
    format!("{}{}?{}", call.urls().here(), call.path, query.finish())
}

/// Containers of versions know their latest version and the next one.
fn with_latest(world: &World, resource: &Resource, mut shown: Value) -> Value {
    let versions = world.children(&resource.id, &format!("{}/versions", resource.kind));
    if Kind::find(&format!("{}/versions", resource.kind)).is_some() {
        *shown.member_mut("properties").member_mut("latestVersion") =
            json!(versions.last().map(|v| v.name().to_owned()));
        *shown.member_mut("properties").member_mut("nextVersion") = json!(next_version(world, &resource.id));
    }
    shown
}

/// The number after the greatest numeric version below a container; `1` if there is none.
pub fn next_version(world: &World, container: &str) -> String {
    let prefix = format!("{}/versions/", container.to_ascii_lowercase());
    let greatest = world
        .resources
        .range(prefix.clone()..)
        .take_while(|(key, _)| key.starts_with(&prefix))
        .filter_map(|(_, r)| r.name().parse::<u64>().ok())
        .max();
    greatest.map_or(1, |g| g + 1).to_string()
}

/// Makes a version of an asset and, if need be, its container.
#[expect(clippy::too_many_arguments, reason = "the coordinates of an asset version")]
pub fn put_version(
    world: &mut World,
    workspace: &str,
    assets: &str,
    name: &str,
    version: &str,
    properties: Value,
    by: &str,
    now: Timestamp,
) {
    let container = format!("{workspace}/{assets}/{name}");
    if world.get(&container).is_none() {
        let body = json!({"properties": {"isArchived": false}});
        world.put(&container, &format!("workspaces/{assets}"), body, by, now);
    }
    let id = format!("{container}/versions/{version}");
    let path = format!("workspaces/{assets}/versions");
    let mut body = json!({ "properties": properties });
    complete(&path, &mut body);
    world.put(&id, &path, body, by, now);
}

/// `PUT` of one resource.
///
/// # Errors
/// 400 for a body that is not this type's, 409 for a version that exists with other content, 412 for
/// an `If-Match` that does not.
pub fn put(shared: &Shared, world: &mut World, call: &Call, caller: &Caller, kind: &Kind, id: &str) -> Reply {
    let mut body = call.json()?;
    schema::check(kind.path, &body)?;
    // What the service fills in is not the caller's to say.
    if let Some(members) = body.as_object_mut() {
        for own in ["id", "name", "type", "systemData", "etag"] {
            members.remove(own);
        }
    }
    let now = shared.clock.now();
    let existing = world.get(id).cloned();
    precondition(call, existing.as_ref())?;
    if kind.path == "workspaces/jobs" {
        body = jobs::accept(existing.as_ref(), body)?;
    }
    if kind.is_version()
        && let Some(existing) = &existing
    {
        unchanged(existing, &body)?;
    }
    if kind.is_version()
        && let Some(container) = id.rsplitn(3, '/').nth(2)
        && world.get(container).is_none()
    {
        let parent = kind.path.trim_end_matches("/versions");
        let empty = json!({"properties": {"isArchived": false}});
        world.put(container, parent, empty, &caller.object_id, now);
    }
    complete(kind.path, &mut body);
    let secret = split_secret(kind, &mut body, existing.as_ref());
    let created = existing.is_none();
    match kind.write {
        Flow::Direct => {
            let resource = world.put(id, kind.path, body, &caller.object_id, now);
            resource.secret = secret;
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            let resource = resource.clone();
            Ok(answer(status, &[], Some(shown(&resource, call))))
        }
        Flow::Long(family) => {
            *body.member_mut("properties").member_mut("provisioningState") =
                json!(if created { "Creating" } else { "Updating" });
            let resource = world.put(id, kind.path, body, &caller.object_id, now);
            resource.secret = secret;
            let resource = resource.clone();
            let properties = provisioned(kind, &resource);
            let effect = Effect::Provision { id: id.to_owned(), properties };
            let started = operations::start(shared, world, family, caller, jobs::version(call), effect);
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            Ok(answer(status, &started.by_status(call), Some(shown(&resource, call))))
        }
    }
}

/// Members of `properties` that the service shows even if nobody wrote them; the official SDK counts
/// on them.
pub fn complete(kind: &str, body: &mut Value) {
    let defaults = match kind {
        "workspaces/models/versions" => {
            json!({"flavors": {}, "tags": {}, "properties": {}, "isArchived": false, "isAnonymous": false})
        }
        _ if kind.ends_with("/versions") => {
            json!({"tags": {}, "properties": {}, "isArchived": false, "isAnonymous": false})
        }
        "workspaces/jobs" => json!({"tags": {}, "properties": {}, "isArchived": false}),
        "workspaces/onlineendpoints/deployments" => json!({
            "scaleSettings": {"scaleType": "Default"}, "environmentVariables": {}, "properties": {},
            "appInsightsEnabled": false, "egressPublicNetworkAccess": "Enabled",
        }),
        "workspaces/onlineendpoints" => json!({
            "traffic": {}, "mirrorTraffic": {}, "properties": {}, "publicNetworkAccess": "Enabled",
        }),
        _ => json!({}),
    };
    for (name, value) in defaults.as_object().into_iter().flatten() {
        let member = body.member_mut("properties").member_mut(name.as_str());
        if member.is_null() {
            *member = value.clone();
        }
    }
}

/// `If-Match` and `If-None-Match: *`.
fn precondition(call: &Call, existing: Option<&Resource>) -> Result<(), Refusal> {
    let failed = || {
        Refusal::new(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailed",
            "The condition specified using HTTP conditional header(s) is not met.",
        )
    };
    if call.header("if-none-match") == Some("*") && existing.is_some() {
        return Err(failed());
    }
    if let Some(wanted) = call.header("if-match")
        && wanted != "*"
        && existing.is_none_or(|r| wanted != format!("W/\"{:08x}\"", r.version))
    {
        return Err(failed());
    }
    Ok(())
}

/// Versions of assets are written once; tags, description and archiving may change.
fn unchanged(existing: &Resource, body: &Value) -> Result<(), Refusal> {
    for fixed in ["modelUri", "codeUri", "dataUri", "image", "condaFile", "componentSpec"] {
        let new = body.member("properties").member(fixed);
        if !new.is_null() && new != existing.body.member("properties").member(fixed) {
            return Err(Refusal::new(
                StatusCode::CONFLICT,
                "Conflict",
                &format!(
                    "Asset version '{}' already exists, and its {fixed} cannot be changed.",
                    existing.name()
                ),
            ));
        }
    }
    Ok(())
}

/// Takes what no `GET` shows out of a body, or makes it.
fn split_secret(kind: &Kind, body: &mut Value, existing: Option<&Resource>) -> Value {
    match kind.path {
        "workspaces/datastores" => body
            .member_mut("properties")
            .member_mut("credentials")
            .as_object_mut()
            .and_then(|c| c.remove("secrets"))
            .or_else(|| existing.map(|e| e.secret.clone()))
            .unwrap_or_default(),
        "workspaces/connections" => body
            .member_mut("properties")
            .as_object_mut()
            .and_then(|p| p.remove("credentials"))
            .or_else(|| existing.map(|e| e.secret.clone()))
            .unwrap_or_default(),
        "workspaces/onlineendpoints" | "workspaces/batchendpoints" => {
            existing.map_or_else(new_keys, |e| e.secret.clone())
        }
        _ => existing.map(|e| e.secret.clone()).unwrap_or_default(),
    }
}

/// A pair of endpoint keys.
pub fn new_keys() -> Value {
    json!({
        "primaryKey": uuid::Uuid::new_v4().simple().to_string(),
        "secondaryKey": uuid::Uuid::new_v4().simple().to_string(),
    })
}

/// What the service fills in once a resource is provisioned.
fn provisioned(kind: &Kind, resource: &Resource) -> Value {
    let properties = resource.body.member("properties");
    match (kind.path, properties.member("computeType").as_str()) {
        ("workspaces/computes", Some("AmlCompute")) => json!({
            "computeLocation": names::REGION,
            "isAttachedCompute": false,
            "properties": {
                "allocationState": "Steady",
                "currentNodeCount": properties.member("properties").member("scaleSettings").member("minNodeCount").as_u64().unwrap_or(0),
                "targetNodeCount": properties.member("properties").member("scaleSettings").member("minNodeCount").as_u64().unwrap_or(0),
            },
        }),
        ("workspaces/computes", Some("ComputeInstance")) => {
            json!({"computeLocation": names::REGION, "properties": {"state": "Running"}})
        }
        _ => json!({}),
    }
}

/// `PATCH` of one resource.
///
/// # Errors
/// 404, 400.
pub fn patch(
    shared: &Shared,
    world: &mut World,
    call: &Call,
    caller: &Caller,
    kind: &Kind,
    id: &str,
) -> Reply {
    let change = call.json()?;
    let now = shared.clock.now();
    let resource = world.get_mut(id).ok_or_else(|| Refusal::not_found(id))?;
    for (name, value) in change.as_object().into_iter().flatten() {
        if matches!(name.as_str(), "tags" | "properties" | "identity" | "sku") {
            let target = resource.body.member_mut(name.as_str());
            if target.is_object() {
                operations::merge(target, value);
            } else {
                *target = value.clone();
            }
        }
    }
    resource.modified = now;
    resource.version += 1;
    match kind.write {
        Flow::Direct => Ok(ok(shown(&resource.clone(), call))),
        Flow::Long(family) => {
            *resource.body.member_mut("properties").member_mut("provisioningState") = json!("Updating");
            let resource = resource.clone();
            let effect = Effect::Provision { id: id.to_owned(), properties: json!({}) };
            let started = operations::start(shared, world, family, caller, jobs::version(call), effect);
            Ok(answer(StatusCode::ACCEPTED, &started.by_location(call), Some(shown(&resource, call))))
        }
    }
}

/// `DELETE` of one resource; deleting what is not there is done already (204).
///
/// # Errors
/// 409 for a workspace that is being changed.
pub fn delete(
    shared: &Shared,
    world: &mut World,
    call: &Call,
    caller: &Caller,
    kind: &Kind,
    id: &str,
) -> Reply {
    let Some(resource) = world.get_mut(id) else {
        return Ok(answer(StatusCode::NO_CONTENT, &[], None));
    };
    match kind.delete {
        Flow::Direct => {
            world.remove(id);
            Ok(answer(StatusCode::OK, &[], None))
        }
        Flow::Long(family) => {
            let state = resource.body.member_mut("properties").member_mut("provisioningState");
            if state.as_str() == Some("Deleting") {
                return Err(Refusal::new(
                    StatusCode::CONFLICT,
                    "Conflict",
                    &format!("The resource '{id}' is being deleted."),
                ));
            }
            *state = json!("Deleting");
            let effect = Effect::Remove { id: id.to_owned() };
            let started = operations::start(shared, world, family, caller, jobs::version(call), effect);
            Ok::<Response, Refusal>(answer(StatusCode::ACCEPTED, &started.by_location(call), None))
        }
    }
}

/// The part of an action that a method stands for.
///
/// # Errors
/// 405 for a method that no resource has.
pub fn action_of(method: &Method) -> Result<&'static str, Refusal> {
    if method == Method::GET || method == Method::HEAD {
        Ok("read")
    } else if method == Method::PUT || method == Method::PATCH {
        Ok("write")
    } else if method == Method::DELETE {
        Ok("delete")
    } else {
        Err(Refusal::method(method))
    }
}
