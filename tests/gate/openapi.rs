//! The document that describes the API: who gets it, and that the gate serves just what it says.

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, StatusCode, header};
use serde_json::Value;

use crate::{
    api::{ask, call, request, token},
    world::{World, whole},
};

const DOCUMENT: &str = "/api/v1/openapi.json";

#[tokio::test]
async fn the_document_is_for_those_whom_the_policies_let_read_it_and_that_is_recorded() {
    let world = World::new().await;
    let nobody = ask(&world, request(&world, Method::GET, DOCUMENT).body(whole("")).unwrap()).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    let answer = call(&world, Method::GET, DOCUMENT, &token(&world, "sam"), None).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.json();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let decision = answer.header("x-amlgate-decision").to_owned();
    let log = world.stop().await;
    let text = log.records.iter().map(Value::to_string).find(|r| r.contains(&decision)).unwrap();
    assert!(text.contains("amlgate/openapi/read") && text.contains("user-sam"), "{text}");
}

#[tokio::test]
async fn each_described_method_is_served_and_no_other() {
    let world = World::new().await;
    let document = call(&world, Method::GET, DOCUMENT, &token(&world, "sam"), None).await.json();
    let mut seen = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let segments = path.split('/').map(|segment| if segment.starts_with('{') { "x" } else { segment });
        let concrete = segments.collect::<Vec<_>>().join("/");
        let methods: BTreeMap<Method, &Value> = methods
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, one)| (name.to_uppercase().parse().unwrap(), one))
            .collect();
        for (method, operation) in &methods {
            let asked = request(&world, method.clone(), &concrete).body(whole("")).unwrap();
            let answer = ask(&world, asked).await;
            let status = answer.status.as_u16().to_string();
            assert!(!operation["responses"][&status].is_null(), "{method} {path}: {answer:?}");
            let judged = operation.get("x-amlgate-actions").is_some();
            assert_eq!(judged, answer.status == StatusCode::UNAUTHORIZED, "{method} {path}: {answer:?}");
            seen += 1;
        }
        let mut allowed: BTreeSet<_> = methods.keys().map(Method::as_str).collect();
        if allowed.contains("GET") {
            allowed.insert("HEAD");
        }
        let other = request(&world, Method::PATCH, &concrete).body(whole("")).unwrap();
        let other = ask(&world, other).await;
        assert_eq!(other.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(
            other.header(header::ALLOW.as_str()).split(',').collect::<BTreeSet<_>>(),
            allowed,
            "{path}"
        );
        assert_eq!(other.json()["title"], "MethodNotAllowed", "{other:?}");
    }
    assert!(seen > 20, "{seen} operations");
}

#[tokio::test]
async fn a_path_that_is_no_text_is_refused_in_the_words_of_the_api() {
    let world = World::new().await;
    let pat = token(&world, "pat");
    for (method, path) in [
        (Method::GET, "/api/v1/requests/%FF"),
        (Method::DELETE, "/api/v1/revocations/%FF"),
        (Method::GET, "/api/v1/audit/%C3%28/proof"),
        (Method::GET, "/api/v1/audit/bodies/%80"),
    ] {
        let answer = call(&world, method, path, &pat, None).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}: {answer:?}");
    }
}
