use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use http_body_util::BodyExt as _;

use super::*;
use crate::{
    admin::api::table,
    http::problem::{self, Problem, Shape as ErrorShape},
};

fn document() -> Value {
    of(table().routes())
}

/// Every operation, by method and path.
fn operations(document: &Value) -> BTreeMap<(String, String), Value> {
    let mut all = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            all.insert((method.to_uppercase(), path.clone()), operation.clone());
        }
    }
    all
}

/// What stands at a reference, as far as it goes.
fn at<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
        None => value,
    }
}

fn walk<'v>(value: &'v Value, see: &mut impl FnMut(&'v Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            see(members);
            members.values().for_each(|member| walk(member, see));
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_route_is_described_and_nothing_else_is() {
    let routes = table();
    let routed: BTreeSet<_> =
        routes.routes().iter().map(|r| (r.method.to_string(), r.path.to_owned())).collect();
    assert_eq!(routed.len(), routes.routes().len(), "no route stands twice");
    let described: BTreeSet<_> = operations(&document()).into_keys().collect();
    assert_eq!(routed, described);
}

#[test]
fn no_route_of_the_api_is_made_but_by_the_table() {
    fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.file_name().is_some_and(|name| name != "tests.rs" && name != "table.rs") {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/api"), &mut found);
    assert!(found.len() > 10);
    for (path, text) in found {
        for other in [".route(", "axum::routing", "MethodRouter"] {
            assert!(
                !text.contains(other),
                "{path} has `{other}`: give the route a line in `table()` of api/mod.rs"
            );
        }
    }
}

#[test]
fn every_operation_is_named_once_and_says_what_it_does() {
    let document = document();
    let mut names = BTreeSet::new();
    for (place, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap().to_owned();
        assert!(names.insert(name), "{place:?}");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{place:?}");
        let judged = operation.get("x-amlgate-actions").is_some();
        assert_eq!(judged, operation.get("security").is_none(), "{place:?}");
        for action in operation["x-amlgate-actions"].as_array().into_iter().flatten() {
            assert!(action.as_str().unwrap().starts_with("amlgate/"), "{place:?}");
        }
        let statuses: Vec<_> = operation["responses"].as_object().unwrap().keys().collect();
        assert!(statuses.iter().any(|status| status.starts_with('2')), "{place:?}");
        assert!(
            !judged || ["400", "401", "403", "429", "503"].iter().all(|s| statuses.iter().any(|t| *t == s))
        );
    }
}

#[test]
fn the_parameters_of_the_path_are_those_of_the_route() {
    for ((method, path), operation) in operations(&document()) {
        let named: BTreeSet<_> = path
            .split('/')
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
            .map(ToOwned::to_owned)
            .collect();
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let described: BTreeSet<_> = parameters
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(named, described, "{method} {path}");
    }
}

#[test]
fn what_is_referred_to_is_there_and_what_is_there_is_referred_to() {
    let document = document();
    let mut referred = BTreeSet::new();
    walk(&document, &mut |members| {
        if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
            assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
            referred.insert(reference.to_owned());
        }
    });
    for kind in ["schemas", "responses"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(referred.contains(&format!("#/components/{kind}/{name}")), "{name}");
        }
    }
}

#[test]
fn types_have_names_of_their_own_and_words_for_people() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        // Of two types of one name the second would be `Name2`.
        assert!(!name.ends_with(|c: char| c.is_ascii_digit()), "{name}: rename one of the types");
        let text = schema.to_string();
        assert!(!text.contains("[`"), "{name}: a link of the code's documentation leads nowhere here");
        if name != "IssuerMetadata" {
            let fields = schema["properties"].as_object().into_iter().flatten();
            for (field, described) in fields {
                let words = described.get("description").is_some() || described.get("$ref").is_some();
                assert!(words, "{name}.{field} has no description");
            }
        }
    }
}

#[test]
fn fields_that_nobody_knows_are_refused_and_the_document_says_so() {
    let document = document();
    for (place, operation) in operations(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if !schema.is_null() {
            assert_eq!(at(&document, schema)["additionalProperties"], false, "{place:?}");
        }
    }
    assert_eq!(document["components"]["schemas"]["DescribedCaller"]["additionalProperties"], false);
}

#[test]
fn bounds_of_what_is_read_are_those_of_the_code() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["NewRevocation"]["properties"]["reason"]["maxLength"], 1_024);
    assert_eq!(schemas["NewRevocation"]["properties"]["seconds"]["maximum"], 366 * 24 * 3_600);
    assert_eq!(schemas["NewRevocation"]["required"], json!(["reason"]));
    assert_eq!(schemas["NewApprovalRequest"]["properties"]["ticket"]["maxLength"], 128);
    assert_eq!(schemas["NewApprovalRequest"]["required"], json!(["decision"]));
    let limit = operations(&document)[&("GET".into(), "/api/v1/audit".into())]["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .find(|parameter| parameter["name"] == "limit")
        .unwrap()["schema"]
        .clone();
    assert_eq!(limit, json!({"type": "integer", "minimum": 1, "maximum": 1_000}));
}

#[test]
fn the_version_is_the_programs() {
    let document = document();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test]
async fn errors_have_the_members_that_are_described() {
    let problem =
        Problem { status: StatusCode::NOT_FOUND, code: "NotFound", message: "no", info: Value::Null };
    let body = problem::answer(ErrorShape::Problem, &problem).into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let document = document();
    let described = &document["components"]["schemas"]["Problem"];
    assert_eq!(members(&body), members(&described["properties"]));
    let required: BTreeSet<_> = serde_json::from_value(described["required"].clone()).unwrap();
    assert_eq!(members(&body), required, "none is ever left out");
}
