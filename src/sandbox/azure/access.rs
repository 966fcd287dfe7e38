//! Who is calling the simulated Azure, and whether a role assignment lets it.

use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

use super::{
    Shared,
    call::{Call, Refusal},
    clouds::SimulatedCloud,
    names, roles,
};
use crate::sandbox::{PEOPLE, jwt};

/// The service that a token is presented to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Azure Resource Manager.
    Arm,
    /// The workspace's data plane: takes Resource Manager's tokens and its own.
    DataPlane,
    /// An online endpoint with Entra authentication.
    Inference,
    /// Key Vault.
    Vault,
    /// Microsoft Graph.
    Graph,
    /// Blob storage.
    Storage,
    /// Ingestion of Azure Monitor.
    Monitor,
}

impl Service {
    /// The audiences that it accepts in a cloud, without a slash at the end.
    fn audiences(self, cloud: &SimulatedCloud) -> Vec<String> {
        let hosts: &[&str] = match self {
            Self::Arm => &[cloud.arm, cloud.core],
            Self::DataPlane => &[cloud.arm, cloud.core, cloud.studio],
            Self::Inference => &[cloud.studio],
            Self::Vault => &[cloud.vault],
            Self::Graph => &[cloud.graph],
            Self::Monitor => &[cloud.monitor],
            // The same in every cloud.
            Self::Storage => &["storage.azure.com"],
        };
        hosts.iter().map(|host| format!("https://{host}")).collect()
    }
}

/// A caller whose token stood.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The object id of the user or service principal.
    pub object_id: String,
    /// The client id of the application.
    pub client_id: String,
    /// The application permissions that the token carries.
    pub permissions: Vec<String>,
}

impl Caller {
    fn groups(&self) -> &'static [&'static str] {
        PEOPLE.iter().find(|p| p.object_id == self.object_id).map_or(&[], |p| p.group_ids)
    }

    /// The object ids that role assignments may name for it.
    pub fn principals(&self) -> Vec<&str> {
        let mut all = vec![self.object_id.as_str()];
        all.extend(self.groups());
        all
    }
}

/// The bearer token of a call, if it has one.
pub fn bearer(call: &Call) -> Option<&str> {
    let value = call.header("authorization")?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Verifies the caller's token for `service`.
///
/// # Errors
/// 401 as Azure Resource Manager gives it: missing, unverifiable, expired, for another audience or
/// tenant, or challenged for fresher claims.
pub fn authenticate(shared: &Shared, call: &Call, service: Service) -> Result<Caller, Refusal> {
    let login = call.urls().login();
    let refuse = |code: &str, message: &str| Refusal::unauthorized(code, message, &login, "invalid_token");
    let token = bearer(call).ok_or_else(|| {
        refuse(
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing or is not of the form 'Bearer <token>'.",
        )
    })?;
    let claims = jwt::verify(&shared.keys, token, shared.clock.now()).map_err(|flaw| match flaw {
        jwt::Flaw::Expired => refuse("ExpiredAuthenticationToken", "The access token has expired."),
        jwt::Flaw::Malformed | jwt::Flaw::Signature | jwt::Flaw::Early => {
            refuse("InvalidAuthenticationToken", &format!("The access token is invalid: {flaw}."))
        }
    })?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let cloud = SimulatedCloud::of(&call.host);
    // A subscription trusts the tokens of its own tenant.
    let partners =
        call.segments.get(1).is_some_and(|id| id.eq_ignore_ascii_case(names::PARTNER_SUBSCRIPTION));
    let tenant = if partners { names::PARTNER_TENANT } else { names::TENANT };
    let issuers = [cloud.issuer_v1(tenant), cloud.issuer_v2(tenant)];
    if !issuers.contains(&text("iss")) {
        return Err(refuse(
            "InvalidAuthenticationTokenTenant",
            "The access token is from the wrong issuer. It must match one of the tenants associated with this subscription.",
        ));
    }
    let audience = text("aud");
    let audiences = service.audiences(cloud);
    if !audiences.iter().any(|own| own == audience.trim_end_matches('/')) {
        return Err(refuse(
            "InvalidAuthenticationTokenAudience",
            &format!(
                "The access token has been obtained for wrong audience or resource '{audience}'. It should exactly match with one of the allowed audiences {}.",
                audiences.join(",")
            ),
        ));
    }
    let object_id = text("oid");
    if let Some(demanded) = shared.challenge_for(&object_id)
        && text("xms_sandbox_challenge") != demanded
    {
        return Err(claims_challenge(&login, &demanded));
    }
    let permissions = claims.get("roles").and_then(Value::as_array).into_iter().flatten();
    let permissions = permissions.filter_map(Value::as_str).map(ToOwned::to_owned).collect();
    Ok(Caller { client_id: text("appid"), object_id, permissions })
}

/// Continuous access evaluation: 401 with the claims that a fresh token must be asked with.
fn claims_challenge(login: &str, demanded: &str) -> Refusal {
    use base64::Engine as _;
    let claims = serde_json::json!({"access_token": {"nbf": {"essential": true, "value": demanded}}});
    let encoded = base64::engine::general_purpose::STANDARD.encode(claims.to_string());
    Refusal {
        challenge: Some(format!(
            "Bearer realm=\"\", authorization_uri=\"{login}/common/oauth2/authorize\", error=\"insufficient_claims\", claims=\"{encoded}\""
        )),
        ..Refusal::new(
            StatusCode::UNAUTHORIZED,
            "InvalidAuthenticationToken",
            "Continuous access evaluation resulted in challenge with result: InteractionRequired and code: TokenIssuedBeforeRevocationTimestamp",
        )
    }
}

/// Demands that some role assignment grants `action` at `scope` to the caller.
///
/// # Errors
/// 403 `AuthorizationFailed` in Azure's words.
pub fn authorize(shared: &Shared, caller: &Caller, action: &str, scope: &str) -> Result<(), Refusal> {
    let principals = caller.principals();
    if is_allowed(shared, &principals, action, scope) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "AuthorizationFailed",
        &format!(
            "The client '{}' with object id '{}' does not have authorization to perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
            caller.client_id, caller.object_id
        ),
    ))
}

/// Whether deny assignments and role assignments let one with these object ids do it.
pub fn is_allowed(shared: &Shared, principals: &[&str], action: &str, scope: &str) -> bool {
    shared.with(|world| {
        let denied = world.denials.iter().any(|d| d.concerns(principals) && d.takes(action, scope));
        !denied
            && world.assignments.iter().any(|a| {
                principals.contains(&a.principal.as_str())
                    && a.condition.is_none()
                    && roles::covers(&a.scope, scope)
                    && a.role.grants(action)
            })
    })
}

/// Puts the ids that Azure puts on every answer.
pub fn stamp(call: &Call, mut response: Response) -> Response {
    let headers = response.headers_mut();
    let id = uuid::Uuid::new_v4().to_string();
    let correlation = call
        .header("x-ms-correlation-request-id")
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), ToOwned::to_owned);
    for (name, value) in [
        ("x-ms-request-id", id.clone()),
        ("x-ms-correlation-request-id", correlation),
        ("x-ms-routing-request-id", format!("WESTEUROPE:{id}")),
    ] {
        if let Ok(value) = http::HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}
