//! What it costs to know what a request means, by family of operations: the target's one reading,
//! the operation's name, and where the meaning stands in the body, the body's.
//!
//! `cargo bench --bench classify`; figures that were seen stand in `benches/README.md`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a bench that cannot go on should say so and stop"
)]

use std::hint::black_box;

use amlgate::{
    azureml::{self, BodyNeed, Inspected, Naming, Protocol, ResourceId},
    http::Target,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::Method;
use serde_json::{Value, json};

const WORKSPACE: &str = "/subscriptions/11111111-2222-4333-8444-555555555555/resourceGroups/rg-vision/providers/Microsoft.MachineLearningServices/workspaces/vision";

/// A request of a family, and what it is.
struct Sample {
    family: &'static str,
    protocol: Protocol,
    method: Method,
    target: String,
    body: Option<Value>,
    /// The operation's name; `None` if there is none, and it is refused.
    is: Option<&'static str>,
}

impl Sample {
    fn new(
        family: &'static str,
        protocol: Protocol,
        method: Method,
        target: impl Into<String>,
        is: &'static str,
    ) -> Self {
        Self { family, protocol, method, target: target.into(), body: None, is: Some(is) }
    }

    /// Below the workspace, at ARM.
    fn arm(family: &'static str, method: Method, below: &str, is: &'static str) -> Self {
        Self::new(family, Protocol::Arm, method, format!("{WORKSPACE}/{below}?api-version=2024-04-01"), is)
    }

    fn with(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }
}

/// A job on a cluster, about as the SDK writes it.
fn job() -> Value {
    json!({
        "jobType": "Command", "displayName": "train", "experimentName": "churn",
        "command": "python train.py --data ${{inputs.data}} --epochs 20",
        "codeId": format!("azureml:{WORKSPACE}/codes/c/versions/1"),
        "environmentId": format!("azureml:{WORKSPACE}/environments/e/versions/3"),
        "computeId": format!("{WORKSPACE}/computes/cluster"),
        "resources": {"instanceCount": 2, "shmSize": "2g", "properties": {}},
        "inputs": {"data": {"jobInputType": "uri_folder", "mode": "ReadOnlyMount", "uri": "azureml:d:1"}},
        "outputs": {"default": {"jobOutputType": "uri_folder", "mode": "ReadWriteMount"}},
        "environmentVariables": {"A": "1"}, "tags": {"team": "vision"}, "properties": {},
        "limits": {"jobLimitsType": "Command", "timeout": "PT4H"},
    })
}

/// A pipeline of so many steps.
fn pipeline(steps: usize) -> Value {
    let jobs: serde_json::Map<String, Value> =
        (0..steps).map(|number| (format!("step{number}"), job())).collect();
    json!({"properties": {"jobType": "Pipeline", "experimentName": "churn", "jobs": jobs}})
}

fn samples() -> Vec<Sample> {
    let data = |below: &str| format!("/{below}{WORKSPACE}");
    let mlflow = data("mlflow/v1.0");
    vec![
        Sample::arm("arm/list", Method::GET, "jobs", "Jobs_List"),
        Sample::arm("arm/read, deep", Method::GET, "models/m/versions/3", "ModelVersions_Get"),
        Sample::arm("arm/secrets", Method::POST, "onlineEndpoints/e/listKeys", "OnlineEndpoints_ListKeys"),
        Sample::arm("arm/job", Method::PUT, "jobs/j", "Jobs_CreateOrUpdate")
            .with(json!({"properties": job()})),
        Sample::arm("arm/pipeline of 100", Method::PUT, "jobs/j", "Jobs_CreateOrUpdate").with(pipeline(100)),
        Sample::arm("arm/deployment", Method::PUT, "onlineEndpoints/e/deployments/d", "OnlineDeployments_CreateOrUpdate")
            .with(json!({"location": "westeurope", "sku": {"name": "Default", "capacity": 2}, "properties": {
                "endpointComputeType": "Managed", "instanceType": "Standard_NC6s_v3", "model": "azureml:m:3"}})),
        Sample::new("data/mlflow, write", Protocol::Azureml, Method::POST,
            format!("{mlflow}/api/2.0/mlflow/runs/log-metric"), "mlflow.runs.log-metric"),
        Sample::new("data/mlflow, read", Protocol::Azureml, Method::GET,
            format!("{mlflow}/api/2.0/mlflow/experiments/get-by-name?experiment_name=churn%20model"),
            "mlflow.experiments.get-by-name"),
        Sample::new("data/artifacts", Protocol::Azureml, Method::GET,
            format!("{}/artifacts/ExperimentRun/dcid.run1", data("artifact/v2.0")), "artifacts.list_in_container"),
        Sample::new("data/ARM's own", Protocol::Azureml, Method::GET,
            format!("/mferp/managementfrontend{WORKSPACE}/jobs?api-version=2024-04-01"), "Jobs_List"),
        Sample::new("scoring", Protocol::Inference, Method::POST, "/score", "OnlineEndpoint.Score"),
        Sample::new("key vault", Protocol::KeyVault, Method::GET,
            "/secrets/db-password/6f9619ff8b86d011b42d00cf4fc96409?api-version=7.4", "Secrets_Get"),
        Sample::new("storage", Protocol::Storage, Method::PUT,
            "/azureml-blobstore/LocalUpload/6f96/model.pt?comp=block&blockid=QUFBQQ%3D%3D", "Blobs_Put"),
        Sample::new("kubernetes", Protocol::Kubernetes, Method::GET,
            "/api/v1/namespaces/ml/pods/train-0/log?follow=true", "kubernetes/core/pods/log/get"),
        Sample::new("http", Protocol::Http, Method::GET, "/v2/catalog/items?page=2", "http/get"),
        Sample { is: None, ..Sample::arm("unknown", Method::GET, "jobs/j/whatever/is/this", "") },
    ]
}

/// What the gate does with a request until it knows the operation, or refuses it.
fn classify(naming: &Naming, sample: &Sample, body: Option<&[u8]>) -> Option<azureml::Operation> {
    let target = Target::parse("gate.example", black_box(&sample.target)).expect("a target");
    let named = azureml::name(naming, &sample.method, &target).ok()?;
    let inspected = match named.body_need() {
        BodyNeed::Inspect => body.map(|body| Inspected::parse(body).expect("a body")),
        BodyNeed::Opaque => None,
    };
    Some(named.complete(inspected.as_ref()).expect("a meaning"))
}

fn families(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("classify");
    for sample in samples() {
        let naming = Naming {
            protocol: sample.protocol,
            upstream_host: "upstream.example".into(),
            resource: ResourceId::parse(WORKSPACE),
        };
        let body = sample.body.as_ref().map(|body| serde_json::to_vec(body).expect("JSON"));
        let body = body.as_deref();
        let found = classify(&naming, &sample, body).map(|operation| operation.name.to_string());
        assert_eq!(found.as_deref(), sample.is, "{}", sample.target);
        if let Some(body) = body {
            group.throughput(Throughput::Bytes(body.len() as u64));
        } else {
            group.throughput(Throughput::Elements(1));
        }
        group.bench_function(sample.family, |bencher| {
            bencher.iter(|| classify(&naming, black_box(&sample), body));
        });
    }
    group.finish();

    // What of it is the reading of the target alone.
    let mut group = criterion.benchmark_group("target");
    for (name, text) in [
        ("plain", format!("{WORKSPACE}/jobs?api-version=2024-04-01")),
        ("escaped", format!("{WORKSPACE}/jobs/a%20b%2Bc?api-version=2024-04-01&x=%41")),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| Target::parse("gate.example", black_box(&text)).expect("a target"));
        });
    }
    group.finish();
}

criterion_group!(benches, families);
criterion_main!(benches);
