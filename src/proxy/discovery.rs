//! What the gate answers itself, to anybody: its own description, which Azure is behind it, and the
//! data plane's discovery document.
//!
//! A workspace's `discoveryUrl` leads here, and Azure's SDKs fetch it without a token, as Azure
//! serves it without one (`reference/azure.md`). The gate forwards nothing without a caller, so it
//! answers with what the caller has just used: its own address, for every service of the data plane.
//! Whoever brings a token is judged and forwarded like anybody else. Nothing is looked up and nothing
//! said about the workspace, not even that it exists, so that there is nothing to record.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header};

use super::{Gate, answer::GateDoors, routes::Chosen};
use crate::{azureml::Protocol, http::Body, upstream::rewrite::Doors as _};

/// The services of the document that the data plane serves. The others are pages of a browser, which
/// goes there directly.
const SERVICES: [&str; 7] =
    ["api", "experimentation", "history", "hyperdrive", "labeling", "modelmanagement", "pipelines"];

/// The document, if that is what an anonymous request asks of a data plane; `None` for every other.
pub(super) fn answer(
    gate: &Gate,
    method: &Method,
    headers: &HeaderMap,
    chosen: &Chosen,
) -> Option<Response<Body>> {
    let settings = &chosen.route.settings;
    if settings.protocol == Protocol::Arm && method == Method::GET && chosen.tunnelled {
        let path = chosen.target.path();
        return is_metadata(path)
            .then(|| cloud(&gate.parts().clouds.through, chosen.target.query().get("api-version")));
    }
    let asked = settings.protocol == Protocol::Azureml
        && method == Method::GET
        && !headers.contains_key(header::AUTHORIZATION)
        && is_document(chosen.target.path());
    if !asked {
        return None;
    }
    let base = if chosen.tunnelled {
        // Whoever is in a tunnel has Azure's own names for the gate's.
        match (chosen.target.host(), settings.upstream.port) {
            (host, 443) => format!("https://{host}"),
            (host, port) => format!("https://{host}:{port}"),
        }
    } else {
        GateDoors::of(gate, chosen).base(&settings.upstream.host, settings.upstream.port)?
    };
    let services = SERVICES.map(|name| (name.to_owned(), serde_json::Value::from(base.as_str())));
    let document = serde_json::Value::Object(services.into_iter().collect());
    Some(json(document.to_string()))
}

/// Where a gate says how to sign in to it.
const WELL_KNOWN: &str = "/.well-known/amlgate";

/// The gate's own description or that of its Azure, if that is what is asked for. They say nothing
/// that a client does not need before it can sign in, and so they need no caller.
pub(super) fn own(gate: &Gate, method: &Method, target: &str) -> Option<Response<Body>> {
    if method != Method::GET {
        return None;
    }
    if target == WELL_KNOWN {
        return Some(json(gate.parts().well_known.clone()));
    }
    if target.ends_with(PLUGIN_KEYS) {
        return plugin_keys(gate, target);
    }
    if !target.as_bytes().get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"/metadata/")) {
        return None;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let here = gate.parts().clouds.here.as_ref().filter(|_| is_metadata(path))?;
    let mut keys = form_urlencoded::parse(query.as_bytes());
    let version = keys.find(|(key, _)| key.eq_ignore_ascii_case("api-version")).map(|(_, value)| value);
    Some(cloud(here, version.as_deref()))
}

/// Where Backstage looks for the keys of a plugin, to see whether it can be called as one.
const PLUGIN_KEYS: &str = "/.backstage/auth/v1/jwks.json";

/// The gate's keys as a plugin of Backstage: none, because it calls nobody. Below `/api/ID`, or at the
/// root, as the portal's `discovery.endpoints` says.
fn plugin_keys(gate: &Gate, target: &str) -> Option<Response<Body>> {
    let base = target.strip_suffix(PLUGIN_KEYS)?;
    let verifier = &gate.parts().verifier;
    let ours = match base.strip_prefix("/api/") {
        Some(id) => verifier.is_plugin(id),
        None => base.is_empty() && verifier.has_plugins(),
    };
    ours.then(|| json(r#"{"keys":[]}"#))
}

/// What `GET /metadata/endpoints` of Resource Manager says, by where it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudDocuments {
    /// At the gate's own address, if it has one: the gate is Resource Manager.
    pub here: Option<serde_json::Value>,
    /// In a tunnel, where Azure has its own names.
    pub through: serde_json::Value,
}

fn is_metadata(path: &str) -> bool {
    path.trim_end_matches('/').eq_ignore_ascii_case("/metadata/endpoints")
}

/// A list of clouds in versions until 2019, of which Azure ML's clients ask one; one cloud since.
fn cloud(document: &serde_json::Value, version: Option<&str>) -> Response<Body> {
    let listed = version.is_some_and(|version| version < "2020");
    json(if listed { format!("[{document}]") } else { document.to_string() })
}

fn json(body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// `/discovery`, or `/discovery/workspaces/ID` with or without a version.
fn is_document(path: &str) -> bool {
    let mut segments = path.trim_start_matches('/').split('/');
    let first = segments.next().is_some_and(|s| s.eq_ignore_ascii_case("discovery"));
    let rest: Vec<&str> = segments.filter(|s| !s.starts_with("v1.0")).collect();
    first
        && match rest.as_slice() {
            [] => true,
            [workspaces, id] => workspaces.eq_ignore_ascii_case("workspaces") && !id.is_empty(),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::is_document;

    #[test]
    fn only_the_document_is_answered_without_a_caller() {
        for path in ["/discovery", "/discovery/workspaces/1", "/Discovery/v1.0/workspaces/1"] {
            assert!(is_document(path), "{path}");
        }
        for path in
            ["/", "/discovery/workspaces", "/discovery/workspaces/1/x", "/history/v1.0", "/discoveryx"]
        {
            assert!(!is_document(path), "{path}");
        }
    }
}
