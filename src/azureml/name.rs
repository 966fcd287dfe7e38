//! Naming: method, host and path become an operation, or the request is unknown.

use std::sync::Arc;

use http::Method;

use super::{
    Act, Action, Audience, BodyNeed, Effect, Effects, Facts, Kind, Named, Naming, Operation, Protocol,
    ResourceId, SecretClass, Secrets, UnknownOperation,
    catalogue::{Catalogue, Plane, Row},
};
use crate::http::Target;

/// The data plane's door to the whole of Azure Resource Manager's ML provider.
const FRONT_END: [&str; 2] = ["mferp", "managementfrontend"];
/// The provider whose resources are scopes of their own.
const AUTHORIZATION: &str = "Microsoft.Authorization";
/// Query keys that MLflow sends as lists, by repetition.
const MLFLOW_LISTS: &[&str] = &["order_by", "run_ids", "experiment_ids", "metric_keys"];

/// Names a request. `target` has the route's prefix removed already.
///
/// # Errors
/// [`UnknownOperation`] for everything that the catalogue does not hold, and for a query whose
/// meaning the server would choose (a key that stands twice).
pub fn name(naming: &Naming, method: &Method, target: &Target) -> Result<Named, UnknownOperation> {
    let unknown = || UnknownOperation { method: method.to_string(), path: target.path().to_owned() };
    let named = match naming.protocol {
        Protocol::Arm => arm(naming.protocol, method, target.segments()),
        Protocol::Azureml => data_plane(method, target.segments()),
        Protocol::Inference => inference(naming, method, target),
        Protocol::KeyVault => key_vault(naming, method, target.segments()),
        Protocol::Storage => storage(naming, method, target),
        Protocol::Kubernetes => super::kubernetes::name(naming, method, target),
        Protocol::Http => http(naming, method),
    };
    let named = named.ok_or_else(unknown)?;
    let lists_are_ours =
        matches!(naming.protocol, Protocol::Inference | Protocol::Kubernetes | Protocol::Http);
    match target.query().repeated() {
        None => Ok(named),
        Some(_) if lists_are_ours => Ok(named),
        Some(_) if named.operation.name.starts_with("mlflow.") && only_lists_repeat(target) => Ok(named),
        Some(_) => Err(unknown()),
    }
}

fn only_lists_repeat(target: &Target) -> bool {
    let pairs = target.query().pairs().map(|(key, _)| key).collect::<Vec<_>>();
    pairs.iter().enumerate().all(|(at, key)| {
        let twice = pairs.iter().take(at).any(|k| k.eq_ignore_ascii_case(key));
        !twice || MLFLOW_LISTS.contains(key)
    })
}

/// HEAD answers what GET would, without the body: it needs the same right.
pub(super) fn read_as_get(method: &Method) -> &Method {
    if *method == Method::HEAD { &Method::GET } else { method }
}

fn arm(protocol: Protocol, method: &Method, segments: &[Box<str>]) -> Option<Named> {
    let row = Catalogue::get().find(Plane::Arm, read_as_get(method), segments)?;
    let resource = arm_resource(segments)?;
    Some(named(row, protocol, Some(resource)))
}

fn data_plane(method: &Method, segments: &[Box<str>]) -> Option<Named> {
    if let [first, second, rest @ ..] = segments
        && first.eq_ignore_ascii_case(FRONT_END[0])
        && second.eq_ignore_ascii_case(FRONT_END[1])
    {
        return arm(Protocol::Azureml, method, rest);
    }
    let row = Catalogue::get().find(Plane::Data, read_as_get(method), segments)?;
    Some(named(row, Protocol::Azureml, workspace_within(segments)))
}

fn named(row: &Row, protocol: Protocol, resource: Option<ResourceId>) -> Named {
    let operation = Operation {
        name: Arc::clone(&row.name),
        acts: vec![Act { action: row.action.clone(), resource }],
        kind: row.kind,
        effects: row.effects,
        unclear_effects: Effects::NONE,
        secrets: row.secrets,
        facts: Facts::default(),
        audience: Audience::Arm,
        long_running: row.long_running,
        protocol,
    };
    Named { operation, need: if row.body { BodyNeed::Inspect } else { BodyNeed::Opaque } }
}

/// What an ARM path is about: the resource itself, for a list its parent, for a verb what it is
/// done to. For role assignments and the like, the scope they are in.
fn arm_resource(segments: &[Box<str>]) -> Option<ResourceId> {
    let provider = segments.iter().rposition(|s| s.eq_ignore_ascii_case("providers"));
    let keep = match provider {
        None => match segments.first().map(AsRef::as_ref) {
            // A list directly below a subscription or group is about that.
            Some(first) if first.eq_ignore_ascii_case("subscriptions") => segments.len() & !1,
            _ => 0,
        },
        Some(at) if segments.get(at + 1).is_some_and(|n| n.eq_ignore_ascii_case(AUTHORIZATION)) => at,
        Some(at) => {
            let below = segments.len().saturating_sub(at + 2);
            match below & !1 {
                0 => at,
                pairs => at + 2 + pairs,
            }
        }
    };
    let mut id = String::with_capacity(192);
    for segment in segments.get(..keep)? {
        id.push('/');
        id.push_str(segment);
    }
    if id.is_empty() {
        id.push('/');
    }
    ResourceId::parse(&id)
}

/// The workspace (or registry) whose id stands inside a data-plane path.
fn workspace_within(segments: &[Box<str>]) -> Option<ResourceId> {
    let from = segments.iter().position(|s| s.eq_ignore_ascii_case("subscriptions"))?;
    let mut id = String::with_capacity(192);
    for segment in segments.get(from..from + 8)? {
        id.push('/');
        id.push_str(segment);
    }
    ResourceId::parse(&id)
}

/// An operation of a protocol without a catalogue.
pub(super) fn plain(naming: &Naming, name: &str, action: &str, kind: Kind, audience: Audience) -> Operation {
    Operation {
        name: name.into(),
        acts: vec![Act { action: Action::new(action), resource: naming.resource.clone() }],
        kind,
        effects: Effects::NONE,
        unclear_effects: Effects::NONE,
        secrets: Secrets::NONE,
        facts: Facts::default(),
        audience,
        long_running: false,
        protocol: naming.protocol,
    }
}

pub(super) fn opaque(operation: Operation) -> Named {
    Named { operation, need: BodyNeed::Opaque }
}

fn inference(naming: &Naming, method: &Method, target: &Target) -> Option<Named> {
    let batch = naming.resource.as_ref().is_some_and(|r| r.after("batchEndpoints").is_some());
    let score = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action";
    let last = target.segments().last().map(AsRef::as_ref).unwrap_or_default();
    let operation = match *method {
        Method::POST if batch && last.eq_ignore_ascii_case("jobs") => plain(
            naming,
            "BatchEndpoint.Invoke",
            "Microsoft.MachineLearningServices/workspaces/batchEndpoints/jobs/write",
            Kind::Write,
            Audience::MachineLearning,
        ),
        _ if batch => return None,
        Method::GET if last.eq_ignore_ascii_case("swagger.json") => {
            plain(naming, "OnlineEndpoint.Swagger", score, Kind::Read, Audience::MachineLearning)
        }
        // What a model serves is its own business: every path is scoring, a GET that upgrades too.
        Method::POST | Method::GET | Method::HEAD | Method::PUT | Method::PATCH | Method::DELETE => {
            plain(naming, "OnlineEndpoint.Score", score, Kind::Action, Audience::MachineLearning)
        }
        _ => return None,
    };
    Some(opaque(operation))
}

fn key_vault(naming: &Naming, method: &Method, segments: &[Box<str>]) -> Option<Named> {
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    let (name, action, kind) = match (read_as_get(method), segments.as_slice()) {
        (&Method::GET, ["secrets"] | ["secrets", _, "versions"]) => {
            ("Secrets_List", "readMetadata/action", Kind::Read)
        }
        (&Method::GET, ["secrets", _] | ["secrets", _, _]) => ("Secrets_Get", "getSecret/action", Kind::Read),
        (&Method::PUT, ["secrets", _]) => ("Secrets_Set", "setSecret/action", Kind::Write),
        (&Method::DELETE, ["secrets", _]) => ("Secrets_Delete", "delete", Kind::Delete),
        _ => return None,
    };
    let mut operation =
        plain(naming, name, &format!("Microsoft.KeyVault/vaults/secrets/{action}"), kind, Audience::KeyVault);
    if name == "Secrets_Get" {
        // The workspace's vault holds what its datastores and connections are opened with.
        operation.secrets = Secrets::NONE.with(SecretClass::WorkspaceKey);
    }
    Some(opaque(operation))
}

/// `comp=` values of a PUT that write content or describe it; leases, access lists and copies from
/// elsewhere are not among them.
const BLOB_WRITES: &[&str] = &["", "block", "blocklist", "appendblock", "page", "metadata", "tags"];

fn storage(naming: &Naming, method: &Method, target: &Target) -> Option<Named> {
    let segments = target.segments();
    let container = segments.first()?;
    let blob = segments.get(1..).filter(|b| !b.is_empty()).map(|b| b.join("/"));
    let comp = target.query().get("comp").unwrap_or_default().to_ascii_lowercase();
    let (name, verb, kind, effect) = match (read_as_get(method), &blob, comp.as_str()) {
        (&Method::GET, None, "list") => ("Blobs_List", "read", Kind::Read, None),
        (&Method::GET, Some(_), "" | "blocklist" | "metadata" | "tags") => {
            ("Blobs_Get", "read", Kind::Read, Some(Effect::DownloadData))
        }
        (&Method::PUT, Some(_), comp) if BLOB_WRITES.contains(&comp) => {
            ("Blobs_Put", "write", Kind::Write, Some(Effect::UploadData))
        }
        (&Method::DELETE, Some(_), "") => ("Blobs_Delete", "delete", Kind::Delete, None),
        _ => return None,
    };
    let action = format!("Microsoft.Storage/storageAccounts/blobServices/containers/blobs/{verb}");
    // A signed URL is Azure's own word for this one request: a token beside it would be another's.
    let signed = target.query().get("sig").is_some();
    let audience = if signed { Audience::None } else { Audience::Storage };
    let mut operation = plain(naming, name, &action, kind, audience);
    operation.effects = effect.into_iter().collect();
    operation.facts.container = Some(container.to_string());
    operation.facts.blob = blob;
    Some(opaque(operation))
}

fn http(naming: &Naming, method: &Method) -> Option<Named> {
    let kind = match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Kind::Read,
        Method::POST | Method::PUT | Method::PATCH => Kind::Write,
        Method::DELETE => Kind::Delete,
        _ => return None,
    };
    let action = format!("http/{}", method.as_str().to_ascii_lowercase());
    Some(opaque(plain(naming, &action, &action, kind, Audience::None)))
}
