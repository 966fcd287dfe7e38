//! What a request may reserve, by every door through which compute is made.

use std::collections::BTreeSet;

use amlgate::azureml::{Effect, Inspected, Kind};
use http::Method;

use crate::facts::named;

const WORKSPACE: &str = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w";

struct Row {
    method: Method,
    path: String,
    body: String,
    /// Nodes, sizes, GPUs, hours.
    reserved: [&'static str; 4],
}

fn rows() -> Vec<Row> {
    let lines = include_str!("allocations.tsv").lines().filter(|line| !line.starts_with('#'));
    let row = |line: &'static str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [method, path, body, nodes, skus, gpus, hours] = columns[..] else { panic!("{line}") };
        let [path, body] = [path, body].map(|text| text.replace("@w", WORKSPACE));
        Row { method: method.parse().unwrap(), path, body, reserved: [nodes, skus, gpus, hours] }
    };
    lines.map(row).collect()
}

fn reserved(method: &Method, path: &str, body: &str) -> [String; 4] {
    let body = Inspected::parse(body.as_bytes()).unwrap();
    let operation = named(method, path).unwrap().complete(Some(&body)).unwrap();
    assert!(operation.effects.contains(Effect::AllocateCompute), "{method} {path}");
    let sum = operation.facts.allocates.unwrap();
    let or_unknown = |said: Option<String>| said.unwrap_or_else(|| "?".to_owned());
    [
        or_unknown(sum.nodes.map(|nodes| nodes.to_string())),
        or_unknown(sum.skus.map(|sizes| sizes.join(","))),
        or_unknown(sum.gpus.map(|gpus| gpus.to_string())),
        or_unknown(sum.hours.map(|hours| hours.to_string())),
    ]
}

#[test]
fn every_door_to_compute_says_how_much_it_reserves_at_most() {
    for Row { method, path, body, reserved: expected } in rows() {
        assert_eq!(reserved(&method, &path, &body), expected, "{method} {path} {body}");
    }
}

#[test]
fn the_data_plane_s_door_to_resource_manager_reserves_as_much() {
    for Row { method, path, body, reserved: expected } in rows() {
        let path = format!("/mferp/managementfrontend{path}");
        assert_eq!(reserved(&method, &path, &body), expected, "{method} {path} {body}");
    }
}

/// Spelling changes nothing: what Azure reads without case is counted without case.
#[test]
fn other_spellings_reserve_as_much() {
    for Row { method, path, body, reserved: expected } in rows() {
        let path = path.replace("/computes/", "/COMPUTES/").replace("/jobs/", "/JOBS/");
        for member in ["maxNodeCount", "instanceCount", "maxConcurrentTrials", "capacity", "maxNodes"] {
            let loud = body.replace(&format!("\"{member}\""), &format!("\"{}\"", member.to_uppercase()));
            assert_eq!(reserved(&method, &path, &loud), expected, "{method} {path} {loud}");
        }
    }
}

/// The table knows every operation that the facts say makes compute.
#[test]
fn no_operation_that_allocates_is_missing_from_the_table() {
    let named = |method: &Method, path: &str| {
        let named = named(method, path).ok()?;
        let operation = named.so_far();
        let allocates = operation.effects.contains(Effect::AllocateCompute) && operation.kind != Kind::Read;
        allocates.then(|| operation.name.to_string())
    };
    let arm = crate::facts::FACTS.iter().filter(|fact| fact.path.starts_with("/subscriptions/"));
    let all: BTreeSet<_> = arm.filter_map(|fact| named(&fact.method, &fact.example())).collect();
    let met: BTreeSet<_> = rows().iter().filter_map(|row| named(&row.method, &row.path)).collect();
    let missing: Vec<_> = all.difference(&met).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(met.len() > 9, "{met:?}");
}
