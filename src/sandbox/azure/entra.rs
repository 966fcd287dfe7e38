//! The simulated Entra: discovery, keys and the token endpoint, with its own error codes.

mod assertion;
mod people;
mod tokens;

use crate::sandbox::members::Members as _;
use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use http::{Method, StatusCode, header};
use serde_json::{Map, Value, json};

pub use assertion::{App, FederatedCredential};
pub use people::SignIns;
pub use tokens::{TokenVersion, UserToken, inbound, machine};

use super::{
    Shared,
    call::{Call, ok},
    clouds::SimulatedCloud,
    names,
};
use crate::sandbox::{PEOPLE, jwt, people::PersonKind};

/// The resources that tokens can be had for in every cloud, without a slash at the end; besides the
/// cloud's own.
const RESOURCES: &[&str] = &[
    "https://storage.azure.com",
    "api://AzureADTokenExchange",
    // API servers of Azure Kubernetes Service.
    "6dae42f8-4368-4678-94ff-3960e28e3630",
];

/// An error of the token endpoint.
#[derive(Debug)]
pub struct Denied {
    error: &'static str,
    code: u32,
    text: String,
    claims: Option<String>,
}

impl Denied {
    pub(super) fn new(error: &'static str, code: u32, text: impl Into<String>) -> Self {
        Self { error, code, text: text.into(), claims: None }
    }

    fn into_response(self, shared: &Shared) -> Response {
        let status = match self.error {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        };
        let (trace, correlation) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let time = shared.clock.now().to_rfc3339();
        let mut body = json!({
            "error": self.error,
            "error_description": format!(
                "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {time}",
                self.code, self.text
            ),
            "error_codes": [self.code],
            "timestamp": time,
            "trace_id": trace.to_string(),
            "correlation_id": correlation.to_string(),
            "error_uri": format!("https://login.microsoftonline.com/error?code={}", self.code),
        });
        if let Some(claims) = self.claims {
            *body.member_mut("claims") = json!(claims);
            *body.member_mut("suberror") = json!("basic_action");
        }
        (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
    }
}

/// Answers a request to the login host.
pub fn serve(shared: &Shared, call: &Call) -> Response {
    let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let get = call.method == Method::GET;
    match segments.as_slice() {
        ["common", "discovery", "instance"] if get => instance(call),
        [tenant, ".well-known", "openid-configuration"] if get => {
            discovery(shared, call, tenant, TokenVersion::V1)
        }
        [tenant, "v2.0", ".well-known", "openid-configuration"] if get => {
            discovery(shared, call, tenant, TokenVersion::V2)
        }
        [_, "discovery", "keys"] | [_, "discovery", "v2.0", "keys"] if get => keys(shared, call),
        [tenant, "oauth2", "token"] | [tenant, "oauth2", "v2.0", "token"] if call.method == Method::POST => {
            token(shared, call, tenant).unwrap_or_else(|denied| denied.into_response(shared))
        }
        [tenant, "oauth2", "v2.0", "authorize"] if get && is_tenant(tenant) => {
            people::authorize(shared, call)
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn instance(call: &Call) -> Response {
    let cloud = SimulatedCloud::of(&call.host);
    let public = cloud == SimulatedCloud::public();
    ok(json!({
        "tenant_discovery_endpoint": format!("{}/{}/v2.0/.well-known/openid-configuration", call.urls().login(), names::TENANT),
        "api-version": "1.1",
        "metadata": [{
            "preferred_network": cloud.login,
            "preferred_cache": if public { "login.windows.net" } else { cloud.login },
            "aliases": if public {
                vec![cloud.login, "login.windows.net", "login.microsoft.com", "sts.windows.net"]
            } else {
                vec![cloud.login]
            },
        }],
    }))
}

fn unknown_tenant(tenant: &str) -> Denied {
    Denied::new(
        "invalid_tenant",
        90_002,
        format!("Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."),
    )
}

fn is_tenant(tenant: &str) -> bool {
    [names::TENANT, names::PARTNER_TENANT].iter().any(|own| tenant.eq_ignore_ascii_case(own))
}

/// The claims of a token, as a tenant issues it.
fn in_tenant(mut claims: Map<String, Value>, tenant: &str) -> Map<String, Value> {
    if tenant.eq_ignore_ascii_case(names::PARTNER_TENANT) {
        for name in ["iss", "tid", "idp"] {
            if let Some(Value::String(text)) = claims.get_mut(name) {
                *text = text.replace(names::TENANT, names::PARTNER_TENANT);
            }
        }
    }
    claims
}

fn discovery(shared: &Shared, call: &Call, tenant: &str, version: TokenVersion) -> Response {
    let templated = matches!(tenant, "common" | "organizations");
    if !templated && !is_tenant(tenant) {
        return unknown_tenant(tenant).into_response(shared);
    }
    let low = tenant.to_ascii_lowercase();
    let shown = if templated { "{tenantid}" } else { &low };
    let (login, cloud) = (call.urls().login(), SimulatedCloud::of(&call.host));
    let (issuer, infix) = match version {
        TokenVersion::V1 => (cloud.issuer_v1(shown), ""),
        TokenVersion::V2 => (cloud.issuer_v2(shown), "/v2.0"),
    };
    let here = format!("{login}/{tenant}");
    ok(json!({
        "issuer": issuer,
        "token_endpoint": format!("{here}/oauth2{infix}/token"),
        "authorization_endpoint": format!("{here}/oauth2{infix}/authorize"),
        "device_authorization_endpoint": format!("{here}/oauth2{infix}/devicecode"),
        "jwks_uri": format!("{here}/discovery{infix}/keys"),
        "response_types_supported": ["code", "id_token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "tenant_region_scope": "EU",
        "cloud_instance_name": cloud.login.trim_start_matches("login."),
    }))
}

fn keys(shared: &Shared, call: &Call) -> Response {
    let issuer = SimulatedCloud::of(&call.host).issuer_v2("{tenantid}");
    let keys: Vec<Value> = shared
        .keys
        .public()
        .into_iter()
        .map(|mut key| {
            *key.member_mut("x5t") = key.member("kid").clone();
            *key.member_mut("issuer") = json!(issuer);
            key
        })
        .collect();
    ok(json!({ "keys": keys }))
}

/// A form field of a token request.
fn field<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
}

fn required<'a>(form: &'a [(String, String)], name: &str) -> Result<&'a str, Denied> {
    field(form, name).ok_or_else(|| {
        Denied::new(
            "invalid_request",
            900_144,
            format!("The request body must contain the following parameter: '{name}'."),
        )
    })
}

fn token(shared: &Shared, call: &Call, tenant: &str) -> Result<Response, Denied> {
    let kind = call.header("content-type").unwrap_or_default();
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return Err(Denied::new(
            "invalid_request",
            900_144,
            "The request body must contain the following parameter: 'grant_type'.",
        ));
    }
    if matches!(tenant, "common" | "organizations") {
        return Err(Denied::new(
            "unauthorized_client",
            9_001_023,
            "The grant type is not supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific endpoint.",
        ));
    }
    if !is_tenant(tenant) {
        return Err(unknown_tenant(tenant));
    }
    let form: Vec<(String, String)> = form_urlencoded::parse(&call.body).into_owned().collect();
    let grant = required(&form, "grant_type")?;
    if matches!(grant, "authorization_code" | "refresh_token") {
        return people::redeem(shared, call, &form);
    }
    let client = required(&form, "client_id")?;
    let app = shared.app(client).ok_or_else(|| {
        Denied::new(
            "unauthorized_client",
            700_016,
            format!("Application with identifier '{client}' was not found in the directory '{tenant}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant."),
        )
    })?;
    assertion::prove(shared, call, &app, &form)?;
    let resource = resource(&form, SimulatedCloud::of(&call.host))?;
    match grant {
        "client_credentials" => {
            let claims = tokens::application(shared, &app, &resource, &form);
            issue(shared, in_tenant(claims, tenant))
        }
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => on_behalf_of(shared, &app, tenant, &resource, &form),
        other => Err(Denied::new(
            "unsupported_grant_type",
            70_003,
            format!("The app requested an unsupported grant type '{other}'."),
        )),
    }
}

/// The resource of `scope` (or of version 1's `resource`).
fn resource(form: &[(String, String)], cloud: &SimulatedCloud) -> Result<String, Denied> {
    let resource = match (field(form, "scope"), field(form, "resource")) {
        (Some(scope), _) => {
            let asked: Vec<&str> = scope
                .split_whitespace()
                .filter(|s| !matches!(*s, "openid" | "profile" | "offline_access"))
                .collect();
            let [one] = asked.as_slice() else {
                return Err(Denied::new(
                    "invalid_scope",
                    28_003,
                    "Provided value for the input parameter scope is not valid. Scopes must be of one resource.",
                ));
            };
            one.strip_suffix("/.default")
                .or_else(|| one.strip_suffix("/user_impersonation"))
                .ok_or_else(|| {
                    Denied::new(
                        "invalid_scope",
                        1_002_012,
                        format!("The provided value for scope {one} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."),
                    )
                })?
                .to_owned()
        }
        (None, Some(resource)) => resource.to_owned(),
        (None, None) => required(form, "scope")?.to_owned(),
    };
    let plain = resource.trim_end_matches('/');
    let known = RESOURCES.contains(&plain) || cloud.own_resources().iter().any(|own| own == plain);
    if known || plain == names::GATE_APP_ID_URI {
        return Ok(resource);
    }
    Err(Denied::new(
        "invalid_resource",
        500_011,
        format!(
            "The resource principal named {resource} was not found in the tenant named amlgate sandbox. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant."
        ),
    ))
}

fn on_behalf_of(
    shared: &Shared,
    app: &App,
    tenant: &str,
    resource: &str,
    form: &[(String, String)],
) -> Result<Response, Denied> {
    if required(form, "requested_token_use")? != "on_behalf_of" {
        return Err(Denied::new("invalid_request", 90_014, "requested_token_use must be 'on_behalf_of'."));
    }
    let claims = jwt::verify(&shared.keys, required(form, "assertion")?, shared.clock.now()).map_err(
        |flaw| match flaw {
            jwt::Flaw::Expired => Denied::new(
                "invalid_grant",
                500_133,
                "Assertion is not within its valid time range. Ensure that the access token is not expired before using it for user assertion, or request a new token.",
            ),
            jwt::Flaw::Malformed | jwt::Flaw::Signature | jwt::Flaw::Early => {
                Denied::new("invalid_grant", 50_013, "Assertion failed signature validation.")
            }
        },
    )?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("aud") != app.client_id && Some(text("aud").trim_end_matches('/')) != app.id_uri.as_deref() {
        return Err(Denied::new(
            "invalid_grant",
            50_013,
            "Assertion audience claim does not match the required value. The audience in the assertion has to match the application that asks.",
        ));
    }
    if !text("tid").eq_ignore_ascii_case(tenant) {
        return Err(Denied::new("invalid_grant", 50_013, "The assertion is of another tenant."));
    }
    if text("idtyp") == "app" || text("scp").is_empty() {
        return Err(Denied::new(
            "invalid_request",
            7_000_114,
            "Application is not allowed to make application on-behalf-of calls.",
        ));
    }
    let person =
        PEOPLE.iter().find(|p| p.object_id == text("oid") && p.kind == PersonKind::Human).ok_or_else(
            || Denied::new("invalid_grant", 50_020, "The user account does not exist in the tenant."),
        )?;
    if !shared.is_consented(resource) {
        return Err(Denied::new(
            "invalid_grant",
            65_001,
            format!(
                "The user or administrator has not consented to use the application with ID '{}' named 'amlgate'. Send an interactive authorization request for this user and resource.",
                app.client_id
            ),
        ));
    }
    if let Some(demanded) = shared.step_up_for(person.object_id)
        && !claims.get("acrs").is_some_and(|held| {
            held == &json!(demanded) || held.as_array().is_some_and(|all| all.contains(&json!(demanded)))
        })
    {
        let mut denied = Denied::new(
            "interaction_required",
            50_076,
            "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access the resource.",
        );
        denied.claims =
            Some(json!({"access_token": {"acrs": {"essential": true, "value": demanded}}}).to_string());
        return Err(denied);
    }
    issue(shared, in_tenant(tokens::delegated(shared, app, person, resource, form), tenant))
}

/// Signs and answers.
fn issue(shared: &Shared, claims: Map<String, Value>) -> Result<Response, Denied> {
    let failed = || Denied::new("server_error", 90_033, "A transient error has occurred. Please try again.");
    let now = shared.clock.now().as_secs();
    let life = claims.get("exp").and_then(Value::as_u64).unwrap_or_default().saturating_sub(now);
    let token = shared.sign(&Value::Object(claims)).map_err(|_| failed())?;
    let mut body = json!({
        "token_type": "Bearer",
        "expires_in": life,
        "ext_expires_in": life,
        "access_token": token,
    });
    if life >= 7_200 {
        *body.member_mut("refresh_in") = json!(life / 2);
    }
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}
