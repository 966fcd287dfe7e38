//! What `POST` does to a resource: keys, tokens, uploads, starting and stopping.

use crate::sandbox::members::Members as _;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::{items, jobs, kinds::Kind};
use crate::sandbox::azure::{
    Shared,
    access::Caller,
    call::{Call, Refusal, Reply, answer, ok},
    names,
    operations::{self, Effect, Family},
    storage,
    world::World,
};

/// How long an endpoint's token lives.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);

/// Runs a verb that its kind names, on a resource that exists.
///
/// # Errors
/// What the verb refuses.
pub fn run(
    shared: &Shared,
    world: &mut World,
    call: &Call,
    caller: &Caller,
    kind: &Kind,
    id: &str,
    verb: &str,
) -> Reply {
    let body = call.json_or_empty()?;
    let now = shared.clock.now();
    let missing = || Refusal::not_found(id);
    let secret = world.get(id).map(|r| r.secret.clone()).unwrap_or_default();
    match (kind.path, verb) {
        ("workspaces/jobs", "cancel") => jobs::cancel(shared, world, call, caller, id),
        (_, "startpendingupload") => {
            let path = format!("LocalUpload/{}", uuid::Uuid::new_v4().simple());
            let blob = format!("{}/{}/{path}", call.urls().blob(), names::CONTAINER);
            let sas = shared.sas.container(names::CONTAINER, "racwl", now);
            Ok(ok(json!({
                "pendingUploadId": uuid::Uuid::new_v4().to_string(),
                "pendingUploadType": body.member("pendingUploadType").as_str().unwrap_or("TemporaryBlobReference"),
                "blobReferenceForConsumption": {
                    "blobUri": blob,
                    "storageAccountArmId": storage::account_id(),
                    "credential": {"credentialType": "SAS", "sasUri": format!("{blob}?{sas}")},
                },
            })))
        }
        ("workspaces/datastores", "listsecrets") => {
            let of_account = world.get(id).is_some_and(|r| {
                r.body.member("properties").member("accountName").as_str() == Some(names::ACCOUNT)
            });
            Ok(ok(if of_account {
                let sas = shared.sas.container(names::CONTAINER, "racwdl", now);
                json!({"secretsType": "Sas", "sasToken": sas})
            } else {
                secret
            }))
        }
        ("workspaces/connections", "listsecrets") => {
            let resource = world.get(id).ok_or_else(missing)?;
            let mut shown = items::shown(resource, call);
            *shown.member_mut("properties").member_mut("credentials") = secret;
            Ok(ok(shown))
        }
        ("workspaces/onlineendpoints", "listkeys") => {
            let endpoint = world.get(id).ok_or_else(missing)?;
            if endpoint.body.member("properties").member("authMode").as_str() != Some("Key") {
                return Err(Refusal::bad_request(
                    "Listing keys is not supported for this authentication mode.",
                ));
            }
            Ok(ok(secret))
        }
        ("workspaces/batchendpoints", "listkeys") => Ok(ok(secret)),
        ("workspaces/onlineendpoints", "token") => {
            let endpoint = world.get(id).ok_or_else(missing)?;
            if endpoint.body.member("properties").member("authMode").as_str() == Some("Key") {
                return Err(Refusal::bad_request("Tokens are not supported for this authentication mode."));
            }
            let token = shared
                .endpoint_token(endpoint.name(), &caller.object_id, TOKEN_LIFE)
                .map_err(|e| Refusal::bad_request(&e.to_string()))?;
            Ok(ok(json!({
                "accessToken": token,
                "tokenType": "Bearer",
                "expiryTimeUtc": now.plus(TOKEN_LIFE).as_secs(),
                "refreshAfterTimeUtc": now.plus(TOKEN_LIFE / 2).as_secs(),
            })))
        }
        ("workspaces/onlineendpoints", "regeneratekeys") => {
            let which = match body.member("keyType").as_str() {
                Some("Primary") => "primaryKey",
                Some("Secondary") => "secondaryKey",
                Some(_) | None => return Err(Refusal::bad_request("keyType must be Primary or Secondary.")),
            };
            let fresh = body
                .member("keyValue")
                .as_str()
                .map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), ToOwned::to_owned);
            let endpoint = world.get_mut(id).ok_or_else(missing)?;
            *endpoint.secret.member_mut(which) = json!(fresh);
            long(shared, world, call, caller, Family::Mfe, id, json!({}))
        }
        ("workspaces/onlineendpoints/deployments", "getlogs") => {
            Ok(ok(json!({"content": "the sandbox's deployment has nothing to say\n"})))
        }
        ("workspaces/computes", "start" | "restart") => long(
            shared,
            world,
            call,
            caller,
            Family::Compute,
            id,
            json!({"properties": {"state": "Running"}}),
        ),
        ("workspaces/computes", "stop") => long(
            shared,
            world,
            call,
            caller,
            Family::Compute,
            id,
            json!({"properties": {"state": "Stopped"}}),
        ),
        ("workspaces/computes", "listnodes") => Ok(ok(json!({"nodes": []}))),
        ("workspaces/computes", "listkeys") => {
            Ok(ok(json!({"computeType": "AKS", "userKubeConfig": "sandbox", "adminKubeConfig": "sandbox"})))
        }
        ("workspaces", "listkeys") => Ok(ok(json!({
            "userStorageKey": "sandbox-storage-key",
            "userStorageResourceId": storage::account_id(),
            "appInsightsInstrumentationKey": "sandbox-instrumentation-key",
        }))),
        ("workspaces", "liststorageaccountkeys") => Ok(ok(json!({"userStorageKey": "sandbox-storage-key"}))),
        ("workspaces", "listnotebookkeys") => Ok(ok(
            json!({"primaryAccessKey": "sandbox-notebook-key", "secondaryAccessKey": "sandbox-notebook-key-2"}),
        )),
        ("workspaces", "listnotebookaccesstoken") => Ok(ok(json!({
            "accessToken": "sandbox-notebook-token", "tokenType": "Bearer", "expiresIn": 3600, "scope": "sandbox",
        }))),
        ("workspaces", "resynckeys" | "diagnose") => {
            long(shared, world, call, caller, Family::Workspace, id, json!({}))
        }
        _ => Err(Refusal::method(&call.method)),
    }
}

fn long(
    shared: &Shared,
    world: &mut World,
    call: &Call,
    caller: &Caller,
    family: Family,
    id: &str,
    properties: Value,
) -> Reply {
    let effect = Effect::Provision { id: id.to_owned(), properties };
    let started = operations::start(shared, world, family, caller, jobs::version(call), effect);
    Ok(answer(StatusCode::ACCEPTED, &started.by_location(call), None))
}
