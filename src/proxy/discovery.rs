//! What the gate answers itself, to anybody: its own description, and the data plane's discovery
//! document.
//!
//! A workspace's `discoveryUrl` leads here, and Azure's SDKs fetch it without a token, as Azure
//! serves it without one (`reference/azure.md`). The gate forwards nothing without a caller, so it
//! answers with what the caller has just used: its own address, for every service of the data plane.
//! Whoever brings a token is judged and forwarded like anybody else. Nothing is looked up and nothing
//! said about the workspace, not even that it exists, so that there is nothing to record.

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
    let mut response = Response::new(Body::full(document.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Some(response)
}

/// Where a gate says how to sign in to it.
const WELL_KNOWN: &str = "/.well-known/amlgate";

/// The gate's own description, if that is what is asked for. It says nothing that a client does not
/// need before it can sign in, and so it needs no caller.
pub(super) fn own(gate: &Gate, method: &Method, path: &str) -> Option<Response<Body>> {
    if path != WELL_KNOWN || method != Method::GET {
        return None;
    }
    let mut response = Response::new(Body::full(gate.parts().well_known.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Some(response)
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
