//! Artifacts of runs: kept as blobs, handed out by signed URLs.

use crate::sandbox::members::Members as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Inside;
use crate::sandbox::azure::{
    Shared,
    call::{Call, Refusal, Reply, answer, ok},
    names,
    world::{Blob, World},
};

/// Where the artifacts of `origin/container` lie.
fn folder(origin: &str, container: &str) -> String {
    format!("{}/{origin}/{container}/", names::CONTAINER)
}

/// Answers `/artifact/v2.0/{workspace}/artifacts/...`.
///
/// # Errors
/// 403, 404, 400 without a path.
pub fn route(shared: &Shared, inside: &Inside<'_>) -> Reply {
    let call = inside.call;
    let get = call.method == Method::GET;
    let path =
        || call.query("path").ok_or_else(|| Refusal::bad_request("The path query parameter is required."));
    match inside.rest.as_slice() {
        ["artifacts", "metadata" | "register"] if call.method == Method::POST => {
            inside.demand(shared, "metadata/artifacts/write")?;
            Ok(ok(call.json()?))
        }
        ["artifacts", origin, container] if get => {
            inside.demand(shared, "metadata/artifacts/read")?;
            shared.with(|world| Ok(ok(listing(world, &folder(origin, container), origin, container))))
        }
        ["artifacts", origin, container, "metadata"] if get => {
            inside.demand(shared, "metadata/artifacts/read")?;
            Ok(ok(described(origin, container, path()?)))
        }
        ["artifacts", origin, container, "batch", "metadata"] if call.method == Method::POST => {
            inside.demand(shared, "metadata/artifacts/write")?;
            let body = call.json()?;
            let (mut artifacts, mut contents) = (serde_json::Map::new(), serde_json::Map::new());
            for entry in body.member("paths").as_array().into_iter().flatten() {
                let Some(path) = entry.member("path").as_str() else { continue };
                artifacts.insert(path.to_owned(), described(origin, container, path));
                contents.insert(path.to_owned(), signed(shared, call, origin, container, path, "rcw"));
            }
            Ok(ok(json!({"artifacts": artifacts, "artifactContentInformation": contents, "errors": {}})))
        }
        ["artifacts", origin, container, "contentinfo"] if get => {
            inside.demand(shared, "metadata/artifacts/read")?;
            Ok(ok(signed(shared, call, origin, container, path()?, "r")))
        }
        ["artifacts", origin, container, "write"] if get => {
            inside.demand(shared, "metadata/artifacts/write")?;
            Ok(ok(signed(shared, call, origin, container, path()?, "rcw")))
        }
        ["artifacts", origin, container, "prefix", "contentinfo"] if get => {
            inside.demand(shared, "metadata/artifacts/read")?;
            let folder = folder(origin, container);
            let paths: Vec<String> = shared.with(|world| names_below(world, &folder));
            let all: Vec<Value> =
                paths.iter().map(|p| signed(shared, call, origin, container, p, "r")).collect();
            Ok(ok(json!({ "value": all })))
        }
        ["artifacts", origin, container, "content"] => {
            let key = format!("{}{}", folder(origin, container), path()?);
            if get {
                inside.demand(shared, "metadata/artifacts/read")?;
                let blob = shared.with(|world| world.blobs.get(&key).cloned());
                let blob = blob.ok_or_else(|| Refusal::not_found(&key))?;
                return Ok(axum::response::IntoResponse::into_response((
                    [(http::header::CONTENT_TYPE, blob.content_type)],
                    blob.bytes,
                )));
            }
            inside.demand(shared, "metadata/artifacts/write")?;
            let blob = Blob {
                bytes: call.body.clone(),
                content_type: call.header("content-type").unwrap_or("application/octet-stream").to_owned(),
                metadata: std::collections::BTreeMap::new(),
                modified: shared.clock.now(),
                etag: uuid::Uuid::new_v4().simple().to_string(),
            };
            shared.with(|world| world.blobs.insert(key, blob));
            Ok(ok(described(origin, container, path()?)))
        }
        _ => Ok(answer(
            StatusCode::NOT_FOUND,
            &[],
            Some(
                json!({"error": {"code": "NotFound", "message": "The artifact service does not serve this path."}}),
            ),
        )),
    }
}

fn described(origin: &str, container: &str, path: &str) -> Value {
    json!({
        "artifactId": format!("{origin}/{container}/{path}"),
        "origin": origin,
        "container": container,
        "path": path,
        "etag": null,
        "createdTime": null,
    })
}

fn signed(
    shared: &Shared,
    call: &Call,
    origin: &str,
    container: &str,
    path: &str,
    permissions: &str,
) -> Value {
    let sas = shared.sas.container(names::CONTAINER, permissions, shared.clock.now());
    let mut info = described(origin, container, path);
    *info.member_mut("contentUri") =
        json!(format!("{}/{}{path}?{sas}", call.urls().blob(), folder(origin, container)));
    info
}

fn names_below(world: &World, folder: &str) -> Vec<String> {
    world.blobs.keys().filter_map(|k| k.strip_prefix(folder)).map(ToOwned::to_owned).collect()
}

fn listing(world: &World, folder: &str, origin: &str, container: &str) -> Value {
    let all: Vec<Value> =
        names_below(world, folder).iter().map(|p| described(origin, container, p)).collect();
    json!({ "value": all })
}

/// The artifacts of a run, in run history's shape.
///
/// # Errors
/// None of its own.
pub fn list_run(world: &World, _: &Inside<'_>, run: &str) -> Reply {
    let container = format!("dcid.{run}");
    Ok(ok(listing(world, &folder("ExperimentRun", &container), "ExperimentRun", &container)))
}

/// The signed URL of one artifact of a run.
///
/// # Errors
/// 400 without a path.
pub fn content_info(shared: &Shared, inside: &Inside<'_>, run: &str) -> Reply {
    let path = inside
        .call
        .query("path")
        .ok_or_else(|| Refusal::bad_request("The path query parameter is required."))?;
    Ok(ok(signed(shared, inside.call, "ExperimentRun", &format!("dcid.{run}"), path, "r")))
}

/// MLflow's `artifacts/list`.
///
/// # Errors
/// 400 without a run.
pub fn list(world: &World, inside: &Inside<'_>, fields: &Value) -> Reply {
    let run = fields.member("run_id").as_str().ok_or_else(|| Refusal::bad_request("run_id is required."))?;
    let container = format!("dcid.{run}");
    let folder = folder("ExperimentRun", &container);
    let files: Vec<Value> = world
        .blobs
        .iter()
        .filter_map(|(key, blob)| Some((key.strip_prefix(&folder)?, blob)))
        .map(|(path, blob)| json!({"path": path, "is_dir": false, "file_size": blob.bytes.len()}))
        .collect();
    let root = format!("{}/{}", inside.call.urls().blob(), folder);
    Ok(ok(json!({"root_uri": root, "files": files})))
}
