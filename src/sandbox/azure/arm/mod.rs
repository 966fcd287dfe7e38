//! Azure Resource Manager: subscriptions, role assignments, and the machine learning provider.
//!
//! The order is Azure's: who, then whether the request is well formed, then whether a role
//! assignment lets it, and only then whether the resource is there.

pub mod items;
pub mod jobs;
mod kinds;
mod schema;
mod verbs;

use crate::sandbox::members::Members as _;
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    Shared,
    access::{self, Caller, Service},
    call::{Call, Refusal, Reply, ok},
    clouds::SimulatedCloud,
    monitor, names, operations,
    roles::{DenyAssignment, ROLES, Role, covers},
    world::World,
};
use kinds::Kind;

const PROVIDER: &str = "microsoft.machinelearningservices";

/// Answers a request to Resource Manager.
pub fn serve(shared: &Shared, call: &Call) -> Response {
    route(shared, call, Service::Arm).unwrap_or_else(Refusal::arm)
}

/// Answers a request, authenticated for `service` (the data plane serves the same paths).
///
/// # Errors
/// As Resource Manager refuses.
pub fn route(shared: &Shared, call: &Call, service: Service) -> Reply {
    let lower: Vec<String> = call.segments.iter().map(|s| s.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    if lower == ["metadata", "endpoints"] {
        return Ok(endpoints(call));
    }
    let caller = access::authenticate(shared, call, service)?;
    let remaining = match service {
        Service::Arm => shared.throttle(&caller.object_id, &call.method)?,
        Service::DataPlane
        | Service::Inference
        | Service::Vault
        | Service::Graph
        | Service::Storage
        | Service::Monitor => None,
    };
    let mut reply = route_authenticated(shared, call, &caller, &lower);
    if let (Ok(response), Some((name, value))) = (&mut reply, remaining) {
        response.headers_mut().insert(name, value);
    }
    reply
}

fn route_authenticated(shared: &Shared, call: &Call, caller: &Caller, lower: &[&str]) -> Reply {
    api_version(call)?;
    if let Some(at) = lower.windows(2).rposition(|w| w == ["providers", "microsoft.authorization"]) {
        return authorization(shared, call, caller, at);
    }
    match lower {
        ["subscriptions"] => Ok(ok(json!({"value": [subscription()]}))),
        ["tenants"] => Ok(ok(
            json!({"value": [{"id": format!("/tenants/{}", names::TENANT), "tenantId": names::TENANT}]}),
        )),
        ["providers", PROVIDER, "operations"] => Ok(ok(json!({"value": operation_names()}))),
        ["subscriptions", id, rest @ ..] => {
            if !id.eq_ignore_ascii_case(names::SUBSCRIPTION) {
                return Err(Refusal::new(
                    StatusCode::NOT_FOUND,
                    "SubscriptionNotFound",
                    &format!("The subscription '{id}' could not be found."),
                ));
            }
            in_subscription(shared, call, caller, rest)
        }
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "NotFound", "The requested resource does not exist.")),
    }
}

/// `api-version` is mandatory and has a form.
fn api_version(call: &Call) -> Result<(), Refusal> {
    let version = call.query("api-version").unwrap_or_default();
    if version.is_empty() {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        ));
    }
    let date = version.get(..10).unwrap_or_default();
    let suffix = version.get(10..).unwrap_or_default();
    let is_date = chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").is_ok();
    if !is_date
        || !(suffix.is_empty() || matches!(suffix, "-preview" | "-dataplanepreview" | "-privatepreview"))
    {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "InvalidApiVersionParameter",
            &format!("The api-version '{version}' is invalid."),
        ));
    }
    Ok(())
}

fn subscription() -> Value {
    json!({
        "id": format!("/subscriptions/{}", names::SUBSCRIPTION),
        "subscriptionId": names::SUBSCRIPTION,
        "tenantId": names::TENANT,
        "displayName": "amlgate sandbox",
        "state": "Enabled",
    })
}

fn group() -> Value {
    json!({
        "id": names::group_id(),
        "name": names::RESOURCE_GROUP,
        "type": "Microsoft.Resources/resourceGroups",
        "location": names::REGION,
        "properties": {"provisioningState": "Succeeded"},
    })
}

/// Paths below `/subscriptions/{id}`.
fn in_subscription(shared: &Shared, call: &Call, caller: &Caller, rest: &[&str]) -> Reply {
    let scope = format!("/subscriptions/{}", names::SUBSCRIPTION);
    let allow = |action: &str, scope: &str| access::authorize(shared, caller, action, scope);
    match rest {
        [] => {
            allow("Microsoft.Resources/subscriptions/read", &scope)?;
            Ok(ok(subscription()))
        }
        ["resourcegroups"] => {
            allow("Microsoft.Resources/subscriptions/resourceGroups/read", &scope)?;
            Ok(ok(json!({"value": [group()]})))
        }
        ["resourcegroups", name, rest @ ..] => {
            let here = format!("{scope}/resourceGroups/{name}");
            match rest {
                [] => {
                    allow("Microsoft.Resources/subscriptions/resourceGroups/read", &here)?;
                    known_group(name)?;
                    Ok(ok(group()))
                }
                ["providers", PROVIDER, rest @ ..] => in_group(shared, call, caller, name, rest),
                ["providers", provider, ..] => Err(unregistered(provider)),
                _ => Err(Refusal::not_found(&call.path)),
            }
        }
        ["providers", "microsoft.insights", "eventtypes", "management", "values"] => {
            monitor::activity(shared, call, caller)
        }
        ["providers", PROVIDER, "workspaces"] => {
            known_method(call, &Method::GET)?;
            allow("Microsoft.MachineLearningServices/workspaces/read", &scope)?;
            list_workspaces(shared, call)
        }
        ["providers", PROVIDER, "locations", location, kind, id]
            if kind.ends_with("operationsstatus") || kind.ends_with("operationresults") =>
        {
            known_method(call, &Method::GET)?;
            if *location != names::REGION {
                return Err(Refusal::not_found(id));
            }
            operations::poll(shared, call, caller, kind, id)
        }
        ["providers", PROVIDER, "locations", _, kind @ ("usages" | "quotas" | "vmsizes")] => {
            known_method(call, &Method::GET)?;
            allow(&format!("Microsoft.MachineLearningServices/locations/{kind}/read"), &scope)?;
            Ok(ok(json!({"value": [], "aggregateUsages": []})))
        }
        ["providers", PROVIDER, ..] => Err(Refusal::not_found(&call.path)),
        ["providers", provider, ..] => Err(unregistered(provider)),
        _ => Err(Refusal::not_found(&call.path)),
    }
}

fn unregistered(provider: &str) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "InvalidResourceNamespace",
        &format!("The resource namespace '{provider}' is invalid."),
    )
}

fn known_group(name: &str) -> Result<(), Refusal> {
    if World::has_group(name) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::NOT_FOUND,
        "ResourceGroupNotFound",
        &format!("Resource group '{name}' could not be found."),
    ))
}

fn known_method(call: &Call, method: &Method) -> Result<(), Refusal> {
    if call.method == method { Ok(()) } else { Err(Refusal::method(&call.method)) }
}

fn list_workspaces(shared: &Shared, call: &Call) -> Reply {
    let kind = Kind::find("workspaces").ok_or_else(|| Refusal::not_found("workspaces"))?;
    let provider = format!("{}/providers/Microsoft.MachineLearningServices", names::group_id());
    shared.with(|world| items::list(shared, world, call, kind, &provider))
}

/// Paths below `.../resourceGroups/{rg}/providers/Microsoft.MachineLearningServices`, `rest` in
/// lower case.
fn in_group(shared: &Shared, call: &Call, caller: &Caller, group: &str, rest: &[&str]) -> Reply {
    // The caller's spelling of names is kept, the service's of types.
    let spelled = call.segments.get(call.segments.len() - rest.len()..).unwrap_or_default();
    let invalid = || {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "InvalidResourceType",
            &format!(
                "The resource type could not be found in the namespace 'Microsoft.MachineLearningServices' for '{}'.",
                call.path
            ),
        )
    };
    let types = |upto: usize| rest.iter().take(upto).step_by(2).copied().collect::<Vec<_>>().join("/");
    let collection = (rest.len() % 2 == 1).then(|| Kind::find(&types(rest.len()))).flatten();
    let item = Kind::find(&types(rest.len() - rest.len() % 2)).filter(|_| rest.len() > 1);
    let base = format!(
        "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.MachineLearningServices",
        names::SUBSCRIPTION,
        if World::has_group(group) { names::RESOURCE_GROUP } else { group },
    );
    let id_of = |kind: &Kind, upto: usize| {
        let mut id = base.clone();
        for (name, kind) in spelled.iter().take(upto).skip(1).step_by(2).zip(kind.canonical.split('/')) {
            id = format!("{id}/{kind}/{name}");
        }
        id
    };
    let prefix = "Microsoft.MachineLearningServices";
    if let Some(kind) = collection {
        known_method(call, &Method::GET)?;
        let parent = match rest.len() {
            1 => base.clone(),
            n => Kind::find(&types(n - 1)).map(|k| id_of(k, n - 1)).ok_or_else(invalid)?,
        };
        access::authorize(shared, caller, &format!("{prefix}/{}/read", kind.canonical), &parent)?;
        known_group(group)?;
        return shared.with(|world| {
            // The versions of an asset that is not there are an empty list.
            if !kind.is_version() {
                parents(world, &parent, &base)?;
            }
            items::list(shared, world, call, kind, &parent)
        });
    }
    let kind = item.ok_or_else(invalid)?;
    let id = id_of(kind, rest.len() - rest.len() % 2);
    if rest.len() % 2 == 1 {
        let verb = rest.last().copied().unwrap_or_default();
        let action = kind.verb(verb).ok_or_else(invalid)?;
        known_method(call, &Method::POST)?;
        access::authorize(shared, caller, &format!("{prefix}/{}/{action}", kind.canonical), &id)?;
        known_group(group)?;
        return shared.with(|world| {
            // Uploads are prepared before the version exists.
            if verb != "startpendingupload" && world.get(&id).is_none() {
                return Err(Refusal::not_found(&id));
            }
            verbs::run(shared, world, call, caller, kind, &id, verb)
        });
    }
    let right = items::action_of(&call.method)?;
    access::authorize(shared, caller, &format!("{prefix}/{}/{right}", kind.canonical), &id)?;
    known_group(group)?;
    shared.with(|world| {
        let parent = id.rsplitn(3, '/').nth(2).unwrap_or_default().to_owned();
        // The container of a version is made with its first version.
        let parent = if kind.is_version() && call.method == Method::PUT {
            parent.rsplitn(3, '/').nth(2).unwrap_or_default().to_owned()
        } else {
            parent
        };
        parents(world, &parent, &base)?;
        if call.method == Method::PUT {
            items::put(shared, world, call, caller, kind, &id)
        } else if call.method == Method::PATCH {
            items::patch(shared, world, call, caller, kind, &id)
        } else if call.method == Method::DELETE {
            items::delete(shared, world, call, caller, kind, &id)
        } else {
            items::get(shared, world, call, kind, &id)
        }
    })
}

/// Demands that the parent exists.
fn parents(world: &World, parent: &str, base: &str) -> Result<(), Refusal> {
    if parent.eq_ignore_ascii_case(base) || world.get(parent).is_some() {
        Ok(())
    } else {
        Err(Refusal::not_found(parent))
    }
}

/// Role definitions, assignments and permissions at a scope.
fn authorization(shared: &Shared, call: &Call, caller: &Caller, at: usize) -> Reply {
    let scope: String = call.segments.iter().take(at).map(|s| format!("/{s}")).collect();
    let scope = if scope.is_empty() { "/".to_owned() } else { scope };
    let rest: Vec<&str> = call.segments.iter().skip(at + 2).map(String::as_str).collect();
    let is = |name: &str| rest.first().is_some_and(|r| r.eq_ignore_ascii_case(name));
    let filter = call.query("$filter").unwrap_or_default().replace('+', " ");
    let read = |kind: &str| {
        known_method(call, &Method::GET)?;
        access::authorize(shared, caller, &format!("Microsoft.Authorization/{kind}/read"), &scope)
    };
    if is("roleAssignments") {
        if call.method != Method::GET {
            let action = items::action_of(&call.method)?;
            access::authorize(
                shared,
                caller,
                &format!("Microsoft.Authorization/roleAssignments/{action}"),
                &scope,
            )?;
            return Err(Refusal::method(&call.method));
        }
        read("roleAssignments")?;
        return assignments(shared, call, &scope, &filter);
    }
    if is("roleDefinitions") {
        read("roleDefinitions")?;
        if let Some(id) = rest.get(1) {
            let custom =
                shared.with(|world| world.roles.iter().find(|r| r.id.eq_ignore_ascii_case(id)).copied());
            let role = Role::find(id).or(custom).ok_or_else(|| {
                Refusal::new(
                    StatusCode::NOT_FOUND,
                    "RoleDefinitionDoesNotExist",
                    &format!("The specified role definition with ID '{id}' does not exist."),
                )
            })?;
            return Ok(ok(role.to_json(names::SUBSCRIPTION)));
        }
        let wanted = quoted(&filter, "roleName eq ");
        let found: Vec<Value> = ROLES
            .iter()
            .filter(|r| wanted.as_deref().is_none_or(|w| r.name.eq_ignore_ascii_case(w)))
            .map(|r| r.to_json(names::SUBSCRIPTION))
            .collect();
        return Ok(ok(json!({ "value": found })));
    }
    if is("denyAssignments") {
        read("denyAssignments")?;
        return denials(shared, call, &scope, &filter);
    }
    if is("permissions") {
        known_method(call, &Method::GET)?;
        let principals = caller.principals();
        let found: Vec<Value> = shared.with(|world| {
            world
                .assignments
                .iter()
                .filter(|a| covers(&a.scope, &scope) && principals.contains(&a.principal.as_str()))
                .filter_map(|a| {
                    a.role
                        .to_json(names::SUBSCRIPTION)
                        .member("properties")
                        .member("permissions")
                        .get(0)
                        .cloned()
                })
                .collect()
        });
        return Ok(ok(json!({ "value": found })));
    }
    Err(Refusal::not_found(&call.path))
}

/// `roleAssignments` with `atScope()`, `assignedTo('oid')` and `principalId eq 'oid'`.
fn assignments(shared: &Shared, call: &Call, scope: &str, filter: &str) -> Reply {
    let at_scope = filter.contains("atScope()");
    let assigned = quoted(filter, "assignedTo(");
    let principal = quoted(filter, "principalId eq ");
    if !filter.is_empty() && !at_scope && assigned.is_none() && principal.is_none() {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "UnsupportedQuery",
            &format!("The filter '{filter}' is not supported."),
        ));
    }
    // `assignedTo` follows groups, `principalId` does not.
    let with_groups = assigned.map(with_groups);
    let found = shared.with(|world| {
        world
            .assignments
            .iter()
            .filter(|a| covers(&a.scope, scope) || (!at_scope && covers(scope, &a.scope)))
            .filter(|a| with_groups.as_ref().is_none_or(|all| all.contains(&a.principal)))
            .filter(|a| principal.as_ref().is_none_or(|p| *p == a.principal))
            .map(|a| a.to_json(names::SUBSCRIPTION))
            .collect::<Vec<_>>()
    });
    Ok(paged(shared, call, &found))
}

/// `denyAssignments` with `atScope()` and `assignedTo('oid')`.
fn denials(shared: &Shared, call: &Call, scope: &str, filter: &str) -> Reply {
    known_method(call, &Method::GET)?;
    let at_scope = filter.contains("atScope()");
    let assigned = quoted(filter, "assignedTo(").map(with_groups);
    let concerned = |denial: &DenyAssignment| {
        assigned.as_ref().is_none_or(|all| {
            let all: Vec<_> = all.iter().map(String::as_str).collect();
            denial.principals.iter().any(|(id, _)| all.contains(&id.as_str()))
        })
    };
    let found = shared.with(|world| {
        let here = world
            .denials
            .iter()
            .filter(|d| covers(&d.scope, scope) || (!at_scope && covers(scope, &d.scope)));
        here.filter(|d| concerned(d)).map(DenyAssignment::to_json).collect::<Vec<_>>()
    });
    Ok(paged(shared, call, &found))
}

/// An object and its groups.
fn with_groups(object: String) -> Vec<String> {
    let groups =
        crate::sandbox::PEOPLE.iter().find(|p| p.object_id == object).map_or(&[][..], |p| p.group_ids);
    std::iter::once(object).chain(groups.iter().map(|g| (*g).to_owned())).collect()
}

/// One page of a list, with the link to the next.
fn paged(shared: &Shared, call: &Call, found: &[Value]) -> Response {
    let skip = call.query("$skipToken").and_then(|t| t.parse::<usize>().ok()).unwrap_or_default();
    let next = skip + shared.page_size;
    let page: Vec<&Value> = found.iter().skip(skip).take(shared.page_size).collect();
    let mut body = json!({ "value": page });
    if next < found.len() {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in call.query.iter().filter(|(n, _)| !n.eq_ignore_ascii_case("$skipToken")) {
            query.append_pair(name, value);
        }
        query.append_pair("$skipToken", &next.to_string());
        *body.member_mut("nextLink") =
            json!(format!("{}{}?{}", call.urls().here(), call.path, query.finish()));
    }
    ok(body)
}

/// The quoted word after `lead` in an OData filter.
fn quoted(filter: &str, lead: &str) -> Option<String> {
    let at = filter.to_ascii_lowercase().find(&lead.to_ascii_lowercase())?;
    let rest = filter.get(at + lead.len()..)?.trim_start().strip_prefix('\'')?;
    rest.split('\'').next().map(ToOwned::to_owned)
}

fn operation_names() -> Vec<Value> {
    kinds::KINDS
        .iter()
        .flat_map(|k| {
            let name = |right: &str| {
                json!({"name": format!("Microsoft.MachineLearningServices/{}/{right}", k.canonical), "isDataAction": false})
            };
            let mut all = vec![name("read"), name("write"), name("delete")];
            all.extend(k.verbs.iter().map(|(_, action)| name(action)));
            all
        })
        .collect()
}

/// `/metadata/endpoints`: a list for the version that azure-ai-ml asks for, an object for the one
/// that the Azure CLI does.
fn endpoints(call: &Call) -> Response {
    let (urls, named) = (call.urls(), SimulatedCloud::of(&call.host));
    let suffix = urls.blob().split_once(".blob.").map_or_else(|| call.host.clone(), |(_, s)| s.to_owned());
    let cloud = json!({
        "name": named.name,
        "portal": format!("https://{}", named.portal),
        "authentication": {
            "loginEndpoint": urls.login(),
            "audiences": [format!("https://{}/", named.core), format!("https://{}/", named.arm)],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "resourceManager": urls.arm(),
        "graph": format!("https://{}/", named.graph),
        "media": "https://rest.media.azure.net",
        "batch": "https://batch.core.windows.net/",
        "suffixes": {"storage": suffix, "keyVaultDns": named.vault, "acrLoginServer": "azurecr.io"},
    });
    if call.query("api-version") == Some("2019-05-01") { ok(json!([cloud])) } else { ok(cloud) }
}
