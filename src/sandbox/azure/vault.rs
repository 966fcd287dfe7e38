//! Key Vault: secrets, read only, with the challenge that its clients wait for.

use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    Shared,
    access::{self, Service},
    call::{Call, Refusal, Reply, ok},
    clouds::SimulatedCloud,
    names,
    world::SecretVersion,
};

/// The vault's id.
pub fn vault_id() -> String {
    format!("{}/providers/Microsoft.KeyVault/vaults/{}", names::group_id(), names::VAULT)
}

/// Answers a request to the vault.
pub fn serve(shared: &Shared, call: &Call) -> Response {
    route(shared, call).unwrap_or_else(Refusal::arm)
}

fn route(shared: &Shared, call: &Call) -> Reply {
    // Clients ask without a token first, to learn from the challenge where to get one.
    let caller = access::authenticate(shared, call, Service::Vault).map_err(|refusal| Refusal {
        code: "Unauthorized".to_owned(),
        challenge: Some(format!(
            "Bearer authorization=\"{}/{}\", resource=\"https://{}\"",
            call.urls().login(),
            names::TENANT,
            SimulatedCloud::of(&call.host).vault
        )),
        ..refusal
    })?;
    if call.query("api-version").is_none() {
        return Err(Refusal::bad_request("api-version must be specified"));
    }
    if call.method != Method::GET {
        return Err(Refusal::method(&call.method));
    }
    let demand = |right: &str| {
        let action = format!("Microsoft.KeyVault/vaults/secrets/{right}/action");
        access::authorize(shared, &caller, &action, &vault_id())
            .map_err(|r| Refusal { code: "Forbidden".to_owned(), ..r })
    };
    let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["secrets"] => {
            demand("readMetadata")?;
            let base = call.urls().here();
            let all: Vec<Value> = shared.with(|world| {
                world
                    .secrets
                    .keys()
                    .map(|n| json!({"id": format!("{base}/secrets/{n}"), "attributes": {"enabled": true}}))
                    .collect()
            });
            Ok(ok(json!({"value": all, "nextLink": null})))
        }
        ["secrets", name] | ["secrets", name, ""] => {
            demand("getSecret")?;
            secret(shared, call, name, None)
        }
        ["secrets", name, version] => {
            demand("getSecret")?;
            secret(shared, call, name, Some(version))
        }
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "NotFound", "The vault does not serve this path.")),
    }
}

fn secret(shared: &Shared, call: &Call, name: &str, version: Option<&str>) -> Reply {
    let found: Option<SecretVersion> = shared.with(|world| world.secret(name, version).cloned());
    let found = found.ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "SecretNotFound",
            &format!("A secret with (name/id) {name} was not found in this key vault."),
        )
    })?;
    Ok(ok(json!({
        "value": found.value,
        "id": format!("{}/secrets/{name}/{}", call.urls().here(), found.version),
        "attributes": {
            "enabled": true,
            "created": found.created.as_secs(),
            "updated": found.created.as_secs(),
            "recoveryLevel": "Recoverable+Purgeable",
            "recoverableDays": 90,
        },
        "tags": {},
    })))
}
