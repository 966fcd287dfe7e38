//! Requests to API servers of Kubernetes: clusters on which Azure ML computes (AKS, Arc).
//!
//! The verbs are those of Kubernetes' own authorization ("Determine the Request Verb").

use http::Method;

use super::{
    Audience, Effect, Effects, Kind, Named, Naming, SecretClass, Secrets,
    name::{opaque, plain, read_as_get},
};
use crate::http::Target;

/// Subresources through which code runs in somebody else's pod.
const RUNS_CODE: &[&str] = &["exec", "attach", "portforward", "proxy", "ephemeralcontainers"];
/// Those of them that a connection is made to: by POST with SPDY, by GET with WebSocket. Both are the
/// same act, and so they have one verb.
const CONNECTS: &[&str] = &["exec", "attach", "portforward"];
/// Paths that say what the server can do, which every client asks first.
const DISCOVERY: &[&str] = &["api", "apis", "openapi", "version"];

/// Named as Kubernetes' own authorization names a request (`RequestInfo`): group, resource,
/// subresource, verb. A path of which another reading is possible has no name.
pub(super) fn name(naming: &Naming, method: &Method, target: &Target) -> Option<Named> {
    let segments: Vec<&str> = target.segments().iter().map(AsRef::as_ref).collect();
    let (group, rest) = match segments.as_slice() {
        ["api", _version, rest @ ..] if !rest.is_empty() => ("core", rest),
        ["apis", group, _version, rest @ ..] if !rest.is_empty() => (*group, rest),
        [first, ..] if DISCOVERY.contains(first) && *read_as_get(method) == Method::GET => {
            let action = "kubernetes/nonresource/discovery/get";
            return Some(opaque(plain(naming, action, action, Kind::Read, Audience::Kubernetes)));
        }
        _ => return None,
    };
    let (resource, object, sub) = match rest {
        ["namespaces", _namespace, resource, rest @ ..] if !matches!(*resource, "status" | "finalize") => {
            (*resource, rest.first(), rest.get(1))
        }
        // The old forms, in which the verb stands in front of what is meant.
        ["watch" | "proxy" | "redirect", ..] | [] => return None,
        [resource, rest @ ..] => (*resource, rest.first(), rest.get(1)),
    };
    let sub = sub.copied();
    let connects = sub.is_some_and(|s| CONNECTS.contains(&s));
    let watch = target.query().get("watch").is_some_and(|w| matches!(w, "true" | "1" | ""));
    let (verb, kind) = match (read_as_get(method), object) {
        (&Method::GET | &Method::POST, Some(_)) if connects => ("create", Kind::Action),
        (&Method::GET, _) if watch => ("watch", Kind::Read),
        (&Method::GET, None) => ("list", Kind::Read),
        (&Method::GET, Some(_)) => ("get", Kind::Read),
        (&Method::POST, _) => ("create", Kind::Write),
        (&Method::PUT, Some(_)) => ("update", Kind::Write),
        (&Method::PATCH, Some(_)) => ("patch", Kind::Write),
        (&Method::DELETE, Some(_)) => ("delete", Kind::Delete),
        (&Method::DELETE, None) => ("deletecollection", Kind::Delete),
        _ => return None,
    };
    let runs_code = sub.is_some_and(|s| RUNS_CODE.contains(&s));
    let place = sub.map_or_else(|| resource.to_owned(), |s| format!("{resource}/{s}"));
    let action = format!("kubernetes/{group}/{place}/{verb}");
    let kind = if runs_code { Kind::Action } else { kind };
    let mut operation = plain(naming, &action, &action, kind, Audience::Kubernetes);
    if runs_code {
        operation.effects = Effects::NONE.with(Effect::RunCodeAsAnother);
    }
    let reads_secrets = resource == "secrets" && kind == Kind::Read;
    let mints = resource == "serviceaccounts" && sub == Some("token");
    if group == "core" && (reads_secrets || mints) {
        operation.secrets = Secrets::NONE.with(SecretClass::ComputeKey);
    }
    if group == "rbac.authorization.k8s.io" && kind != Kind::Read {
        operation.effects = Effects::NONE.with(Effect::ChangeAccess);
    }
    Some(opaque(operation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azureml::{Operation, Protocol};

    fn named(method: &str, target: &str) -> Option<Operation> {
        let naming =
            Naming { protocol: Protocol::Kubernetes, resource: None, upstream_host: "cluster".into() };
        let target = Target::parse("cluster", target).unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        name(&naming, &method, &target).map(|named| named.operation)
    }

    fn action(method: &str, target: &str) -> String {
        named(method, target).map_or_else(|| "-".into(), |o| o.acts[0].action.as_str().to_owned())
    }

    #[test]
    fn requests_have_the_names_that_the_cluster_itself_authorizes_by() {
        for (method, target, expected) in [
            ("GET", "/api/v1/namespaces/ml/pods", "kubernetes/core/pods/list"),
            ("GET", "/api/v1/pods?watch=true", "kubernetes/core/pods/watch"),
            ("GET", "/api/v1/namespaces/ml/pods/p", "kubernetes/core/pods/get"),
            ("GET", "/api/v1/namespaces/ml/pods/p/log?follow=true", "kubernetes/core/pods/log/get"),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/ml/deployments/d/scale",
                "kubernetes/apps/deployments/scale/patch",
            ),
            ("DELETE", "/apis/batch/v1/namespaces/ml/jobs", "kubernetes/batch/jobs/deletecollection"),
            ("GET", "/api/v1/namespaces/ml", "kubernetes/core/namespaces/get"),
            ("PUT", "/api/v1/namespaces/ml/finalize", "kubernetes/core/namespaces/finalize/update"),
            ("GET", "/apis", "kubernetes/nonresource/discovery/get"),
            ("GET", "/api/v1", "kubernetes/nonresource/discovery/get"),
            ("GET", "/apis/apps/v1?timeout=32s", "kubernetes/nonresource/discovery/get"),
            ("GET", "/openapi/v3/apis/apps/v1", "kubernetes/nonresource/discovery/get"),
            ("GET", "/version", "kubernetes/nonresource/discovery/get"),
        ] {
            assert_eq!(action(method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn a_shell_in_a_pod_has_one_name_whichever_way_it_is_opened() {
        for sub in ["exec", "attach", "portforward"] {
            let target = format!("/api/v1/namespaces/ml/pods/p/{sub}?command=sh&command=-i");
            for method in ["GET", "POST"] {
                let operation = named(method, &target).unwrap();
                assert_eq!(operation.acts[0].action.as_str(), format!("kubernetes/core/pods/{sub}/create"));
                assert_eq!(operation.kind, Kind::Action);
                assert!(operation.effects.contains(Effect::RunCodeAsAnother));
            }
        }
    }

    #[test]
    fn what_hands_out_a_secret_says_so_and_forms_with_another_reading_have_no_name() {
        for (method, target) in [
            ("GET", "/api/v1/namespaces/ml/secrets"),
            ("GET", "/api/v1/secrets?watch=1"),
            ("POST", "/api/v1/namespaces/ml/serviceaccounts/default/token"),
        ] {
            assert!(!named(method, target).unwrap().secrets.is_empty(), "{target}");
        }
        for target in [
            "/api/v1/watch/namespaces/ml/secrets",
            "/api/v1/proxy/namespaces/ml/pods/p",
            "/api/v1/redirect/nodes/n",
            "/metrics",
            "/logs/kube-apiserver.log",
            "/",
        ] {
            assert_eq!(action("GET", target), "-", "{target}");
        }
        assert_eq!(action("POST", "/apis"), "-");
    }
}
