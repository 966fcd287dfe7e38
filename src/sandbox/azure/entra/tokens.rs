//! The claims of Entra's tokens, versions 1 and 2.

use crate::sandbox::members::Members as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{App, Denied, field};
use crate::{
    sandbox::{
        Person,
        azure::{Shared, SimulatedCloud, names},
        people::PersonKind,
    },
    time::Timestamp,
};

/// The life of a token whose client can answer claims challenges.
const LONG_LIFE: Duration = Duration::from_secs(24 * 3_600);

/// The form of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenVersion {
    /// `iss` is `https://sts.windows.net/{tenant}/`, the client is `appid`.
    V1,
    /// `iss` is `https://login.microsoftonline.com/{tenant}/v2.0`, the client is `azp`.
    V2,
}

/// A token for a person at the gate, as Entra would issue it.
#[derive(Debug, Clone)]
pub struct UserToken {
    /// Its form.
    pub version: TokenVersion,
    /// Its `aud`: the gate's client id or App ID URI.
    pub audience: String,
    /// How long it lives.
    pub lifetime: Duration,
}

impl Default for UserToken {
    /// Version 2, for the gate's client id, an hour.
    fn default() -> Self {
        Self {
            version: TokenVersion::V2,
            audience: names::GATE_CLIENT.to_owned(),
            lifetime: Duration::from_secs(3_600),
        }
    }
}

/// What every token has.
fn base(now: Timestamp, audience: &str, version: TokenVersion, life: Duration) -> Map<String, Value> {
    let cloud = SimulatedCloud::of_resource(audience);
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("aud", json!(audience));
    put("iat", json!(now.as_secs()));
    put("nbf", json!(now.as_secs()));
    put("exp", json!(now.plus(life).as_secs()));
    put("tid", json!(names::TENANT));
    put("uti", json!(uuid::Uuid::new_v4().simple().to_string()));
    put("rh", json!("1.sandbox"));
    match version {
        TokenVersion::V1 => {
            put("iss", json!(cloud.issuer_v1(names::TENANT)));
            put("ver", json!("1.0"));
        }
        TokenVersion::V2 => {
            put("iss", json!(cloud.issuer_v2(names::TENANT)));
            put("ver", json!("2.0"));
        }
    }
    claims
}

/// Takes the `claims` parameter into account: client capabilities and answered challenges.
fn capabilities(claims: &mut Map<String, Value>, form: &[(String, String)], shared: &Shared) {
    let Some(asked) = field(form, "claims").and_then(|c| serde_json::from_str::<Value>(c).ok()) else {
        return;
    };
    let asked = asked.member("access_token");
    let able = asked
        .member("xms_cc")
        .member("values")
        .as_array()
        .is_some_and(|v| v.iter().filter_map(Value::as_str).any(|v| v.eq_ignore_ascii_case("cp1")));
    if able {
        claims.insert("xms_cc".to_owned(), json!(["CP1"]));
        claims.insert("exp".to_owned(), json!(shared.clock.now().plus(LONG_LIFE).as_secs()));
    }
    if let Some(demanded) = asked.member("nbf").member("value").as_str() {
        claims.insert("xms_sandbox_challenge".to_owned(), json!(demanded));
    }
}

/// An application's own token. Resource Manager and its kin take version 1.
pub fn application(
    shared: &Shared,
    app: &App,
    resource: &str,
    form: &[(String, String)],
) -> Map<String, Value> {
    let mut claims = machine(shared, &app.client_id, &app.principal, resource);
    capabilities(&mut claims, form, shared);
    claims
}

/// A token of a service principal or managed identity.
pub fn machine(shared: &Shared, client: &str, principal: &str, resource: &str) -> Map<String, Value> {
    // Only what stands for an application's secret is of version 2.
    let version = if resource == super::assertion::EXCHANGE { TokenVersion::V2 } else { TokenVersion::V1 };
    let mut claims = base(shared.clock.now(), resource, version, shared.token_lifetime);
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("appid", json!(client));
    put("appidacr", json!("1"));
    put("idp", json!(SimulatedCloud::of_resource(resource).issuer_v1(names::TENANT)));
    put("idtyp", json!("app"));
    put("oid", json!(principal));
    put("sub", json!(principal));
    // Resource Manager knows role assignments, Graph the permissions in the token.
    let permitted = shared.with(|world| world.graph_permissions.get(principal).cloned());
    let graph = format!("https://{}", SimulatedCloud::of_resource(resource).graph);
    if let Some(permitted) = permitted.filter(|_| resource.trim_end_matches('/') == graph) {
        put("roles", json!(permitted));
    }
    claims
}

/// A token for a person at a resource, got by `app` on her behalf.
pub fn delegated(
    shared: &Shared,
    app: &App,
    person: &Person,
    resource: &str,
    form: &[(String, String)],
) -> Map<String, Value> {
    let mut claims = base(shared.clock.now(), resource, TokenVersion::V1, shared.token_lifetime);
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("appid", json!(app.client_id));
    put("appidacr", json!("1"));
    put("idtyp", json!("user"));
    put("oid", json!(person.object_id));
    put("sub", json!(format!("pairwise-{}-arm", person.name)));
    put("scp", json!("user_impersonation"));
    put("name", json!(person.display));
    put("upn", json!(person.email()));
    put("groups", json!(person.group_ids));
    capabilities(&mut claims, form, shared);
    claims
}

/// The token of somebody who signed in at `client`, for the gate or for a resource of Azure.
///
/// # Errors
/// As Entra refuses an unknown resource.
pub fn signed_in(
    shared: &Shared,
    person: &Person,
    (client, at): (&str, Timestamp),
    contexts: &[String],
    form: &[(String, String)],
) -> Result<Map<String, Value>, Denied> {
    let scope = field(form, "scope").unwrap_or_default();
    let ours = |scope: &str| {
        [names::GATE_CLIENT, names::GATE_APP_ID_URI]
            .iter()
            .any(|own| scope.strip_prefix(own).is_some_and(|rest| matches!(rest, "/.default" | "/access")))
    };
    if !scope.split_whitespace().any(ours) {
        return Err(Denied::new(
            "invalid_grant",
            65_001,
            format!(
                "The user or administrator has not consented to use the application with ID '{client}' for '{scope}'. Send an interactive authorization request for this user and resource."
            ),
        ));
    }
    let mut claims = inbound(shared.clock.now(), person, &UserToken::default());
    claims.insert("azp".to_owned(), json!(client));
    if !contexts.is_empty() {
        claims.insert("acrs".to_owned(), json!(contexts));
    }
    let asked = field(form, "claims").and_then(|c| serde_json::from_str::<Value>(c).ok()).unwrap_or_default();
    if asked.member("access_token").as_object().is_some_and(|wanted| wanted.contains_key("auth_time")) {
        claims.insert("auth_time".to_owned(), json!(at.as_secs()));
    }
    capabilities(&mut claims, form, shared);
    Ok(claims)
}

/// A person's (or machine's) token for the gate.
pub fn inbound(now: Timestamp, person: &Person, wanted: &UserToken) -> Map<String, Value> {
    let mut claims = base(now, &wanted.audience, wanted.version, wanted.lifetime);
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    let client = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
    let (id, class) = match wanted.version {
        TokenVersion::V1 => ("appid", "appidacr"),
        TokenVersion::V2 => ("azp", "azpacr"),
    };
    put("oid", json!(person.object_id));
    match person.kind {
        PersonKind::Human => {
            put(id, json!(client));
            put(class, json!("0"));
            put("sub", json!(format!("pairwise-{}-gate", person.name)));
            put("scp", json!("access"));
            put("name", json!(person.display));
            put("preferred_username", json!(person.email()));
            put("groups", json!(person.group_ids));
        }
        PersonKind::Machine => {
            put(id, json!(person.object_id));
            put(class, json!("2"));
            put("sub", json!(person.object_id));
            put("idtyp", json!("app"));
            put("roles", json!(["Gate.Use"]));
        }
    }
    claims
}
