use http::Method;
use serde_json::json;

use super::*;
use crate::{
    azureml::{Inspected, Naming, Protocol, name},
    http::Target,
};

const HOME: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w";
const REGISTRY: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/registries/r";

/// What a request descends from, named as the gate names it.
fn through(protocol: Protocol, method: Method, path: &str, body: Option<&Value>) -> Vec<Descent> {
    let naming = Naming { protocol, upstream_host: "h".into(), resource: None };
    let target = Target::parse("h", path).unwrap();
    let body = body.map(|body| Inspected::parse(body.to_string().as_bytes()).unwrap());
    let named = name(&naming, &method, &target).unwrap();
    named.complete(body.as_ref()).unwrap().facts.descends
}

fn arm(method: Method, below: &str, body: &Value) -> Vec<Descent> {
    let direct = through(Protocol::Arm, method.clone(), &format!("{HOME}{below}"), Some(body));
    let front = format!("/mferp/managementfrontend{HOME}{below}");
    assert_eq!(direct, through(Protocol::Azureml, method, &front, Some(body)), "the other door: {below}");
    direct
}

fn data(method: Method, service: &str, rest: &str, body: &Value) -> Vec<Descent> {
    through(Protocol::Azureml, method, &format!("/{service}{HOME}{rest}"), Some(body))
}

fn job(name: &str, output: Option<&str>) -> Vec<Descent> {
    let id = ResourceId::parse(&format!("{HOME}/jobs/{name}")).unwrap();
    vec![Descent::Job { id, output: output.map(Into::into) }]
}

fn version(of: &str) -> Vec<Descent> {
    vec![Descent::Model(ResourceId::parse(&format!("{HOME}/models/{of}")).unwrap())]
}

fn is_unknown(found: &[Descent]) -> bool {
    matches!(found, [Descent::Unknown(_)])
}

fn put_model(properties: Value) -> Vec<Descent> {
    arm(Method::PUT, "/models/m/versions/1", &json!({ "properties": properties }))
}

#[test]
fn a_version_put_at_resource_manager_descends_from_the_job_in_whose_outputs_it_lies() {
    for (uri, output) in [
        ("azureml://jobs/train-1/outputs/model", Some("model")),
        ("azureml://jobs/train-1/outputs/model/paths/best/", Some("model")),
        ("azureml://jobs/train-1/outputs/artifacts/paths/model/", None),
        ("AzureML://Jobs/train-1/Outputs/Artifacts/Paths/model", None),
        (
            "azureml://subscriptions/s/resourcegroups/g/workspaces/w/jobs/train-1/outputs/model/paths/x",
            Some("model"),
        ),
        (
            "azureml://subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/jobs/train-1/outputs/model",
            Some("model"),
        ),
        (
            "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/workspaceartifactstore/paths/ExperimentRun/dcid.train-1/model",
            None,
        ),
        ("azureml://datastores/workspaceartifactstore/paths/ExperimentRun/dcid.train-1/model", None),
        ("azureml://datastores/workspaceblobstore/paths/azureml/train-1/model/", Some("model")),
        ("runs:/train-1/model", None),
    ] {
        assert_eq!(put_model(json!({ "modelUri": uri })), job("train-1", output), "{uri}");
        for named in ["train-1", "TRAIN-1", &format!("{HOME}/jobs/train-1")] {
            let found = put_model(json!({ "modelUri": uri, "jobName": named }));
            assert_eq!(found, job("train-1", output), "{uri} {named}");
        }
        assert!(is_unknown(&put_model(json!({ "modelUri": uri, "jobName": "other" }))), "{uri}");
    }
}

#[test]
fn a_job_that_is_only_named_has_made_nothing() {
    for uri in [
        "https://evil.example.com/model.onnx?sig=secret",
        "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/workspaceblobstore/paths/upload/model",
        "azureml://datastores/workspaceblobstore/paths/LocalUpload/train-1/model/",
        "azureml://datastores/other/paths/azureml/train-1/model/",
        "azureml://jobs/train-1/outputs/artifacts/paths/../../../../other",
        "azureml://jobs/train-1/outputs/artifacts/paths/%2e%2e/other",
        "azureml://jobs/train-1/outputs/artifacts//model",
        "azureml://jobs/train-1/outputs/artifacts/paths/a\\b",
        "azureml://jobs/train-1",
        "azureml://jobs/train-1%2foutputs/outputs/model",
        "azureml:///jobs/train-1/outputs/model",
        "azureml://jobs.evil.com/artifact/v2.0/subscriptions/s/resourceGroups/g/workspaces/w/ExperimentRun/dcid.train-1/m",
        "azureml://locations/westeurope/workspaces/5f1e/models/m/versions/1",
        "azureml://registries/r/models/m/versions/1",
        "runs://profile@databricks/train-1/model",
        "dbfs:/models/train-1",
        "jobs/train-1/outputs/model",
        "",
    ] {
        let found = put_model(json!({ "modelUri": uri, "jobName": "train-1" }));
        assert!(is_unknown(&found), "{uri}: {found:?}");
        assert!(!format!("{found:?}").contains("secret"), "what signs a URL is not repeated");
    }
    assert!(is_unknown(&put_model(json!({ "jobName": "train-1" }))));
}

#[test]
fn a_body_that_nobody_read_says_nothing() {
    let path = format!("{HOME}/models/m/versions/1");
    assert!(is_unknown(&through(Protocol::Arm, Method::PUT, &path, None)));
}

#[test]
fn a_version_may_be_a_copy_of_another() {
    let other = "azureml://subscriptions/s/resourceGroups/g/workspaces/w/models/m/versions/3";
    assert_eq!(put_model(json!({ "modelUri": other })), version("m/versions/3"));
    assert_eq!(put_model(json!({ "modelUri": "models:/m/3" })), version("m/versions/3"));
    assert!(is_unknown(&put_model(json!({ "modelUri": "models:/m/Production" }))));
}

#[test]
fn a_registry_has_no_jobs_of_its_own() {
    let put = |uri: &str| {
        let body = json!({"properties": {"modelUri": uri, "jobName": "train-1"}});
        through(Protocol::Arm, Method::PUT, &format!("{REGISTRY}/models/m/versions/1"), Some(&body))
    };
    let far = "azureml://subscriptions/s/resourceGroups/g/workspaces/w/jobs/train-1/outputs/model";
    assert_eq!(put(far), job("train-1", Some("model")));
    assert!(is_unknown(&put("azureml://jobs/train-1/outputs/model")));
    assert!(is_unknown(&put("runs:/train-1/model")));
}

#[test]
fn what_is_published_is_the_version_itself() {
    let path = "/models/m/versions/1/publish";
    assert_eq!(arm(Method::POST, path, &json!({"registryName": "r"})), version("m/versions/1"));
    let unread = through(Protocol::Arm, Method::POST, &format!("{HOME}{path}"), None);
    assert_eq!(unread, version("m/versions/1"));
}

#[test]
fn the_model_registry_of_the_data_plane_says_it_by_url_and_run() {
    let register = |body: Value| data(Method::POST, "modelregistry/v1.0", "/models", &body);
    for url in [
        "aml://artifact/ExperimentRun/dcid.train-1/model",
        "azureml://jobs/train-1/outputs/artifacts/paths/m",
    ] {
        assert_eq!(
            register(json!({"name": "m", "url": url, "runId": "train-1"})),
            job("train-1", None),
            "{url}"
        );
        assert!(is_unknown(&register(json!({"name": "m", "url": url, "runId": "other"}))));
    }
    assert!(is_unknown(&register(json!({"name": "m", "url": "aml://asset/5f1e", "runId": "train-1"}))));
    assert!(is_unknown(&register(json!({"name": "m", "runId": "train-1"}))));
    let made =
        data(Method::POST, "modelregistry/v1.0", "/models/createUnregisteredOutput", &json!({"runId": "x"}));
    assert!(is_unknown(&made));
}

#[test]
fn mlflow_says_it_by_source_and_run() {
    for service in ["mlflow/v1.0", "mlflow/v2.0"] {
        let call = |operation: &str, body: Value| {
            data(Method::POST, service, &format!("/api/2.0/mlflow/{operation}"), &body)
        };
        let create = |source: &str, run: Option<&str>| {
            call("model-versions/create", json!({"name": "m", "source": source, "run_id": run}))
        };
        let lies = format!(
            "azureml://westeurope.api.azureml.ms/artifact/v2.0{HOME}/ExperimentRun/dcid.train-1/artifacts/model"
        );
        for source in [&lies, "runs:/train-1/model", "azureml://jobs/train-1/outputs/artifacts/paths/model"] {
            assert_eq!(create(source, Some("train-1")), job("train-1", None), "{source}");
            assert_eq!(create(source, None), job("train-1", None), "{source}");
            assert_eq!(create(source, Some("")), job("train-1", None), "{source}");
            assert!(is_unknown(&create(source, Some("other"))), "{source}");
        }
        for source in ["dbfs:/m", "s3://b/m", "models:/m-5f1e", "mlflow-artifacts:/x", "file:///x", "/tmp/m"]
        {
            assert!(is_unknown(&create(source, Some("train-1"))), "{source}");
        }
        let elsewhere =
            create(&lies.replace("westeurope.api.azureml.ms", "evil.example.com"), Some("train-1"));
        assert!(is_unknown(&elsewhere));
        for version_text in [json!("3"), json!(3)] {
            let stage = json!({"name": "m", "version": version_text, "stage": "Production"});
            assert_eq!(call("model-versions/transition-stage", stage), version("m/versions/3"));
            let alias = json!({"name": "m", "version": version_text, "alias": "champion"});
            assert_eq!(call("registered-models/alias", alias), version("m/versions/3"));
        }
        assert!(is_unknown(&call("registered-models/alias", json!({"name": "m", "alias": "champion"}))));
        assert!(is_unknown(&call(
            "model-versions/transition-stage",
            json!({"name": "m/../n", "version": "3"})
        )));
    }
}

#[test]
fn a_job_that_registers_what_it_writes_is_where_that_comes_from() {
    let put = |properties: Value| arm(Method::PUT, "/jobs/train-1", &json!({ "properties": properties }));
    let named =
        json!({"jobType": "Command", "outputs": {"m": {"jobOutputType": "mlflow_model", "assetName": "m"}}});
    assert_eq!(put(named.clone()), [Descent::ThisJob]);
    assert_eq!(put(json!({"jobType": "Pipeline", "jobs": {"train": named}})), [Descent::ThisJob]);
    let best = json!({"best_model": {"jobOutputType": "mlflow_model", "assetName": "m"}});
    assert_eq!(put(json!({"jobType": "AutoML", "outputs": best})), [Descent::ThisJob]);
    assert_eq!(put(json!({"jobType": "Pipeline"})), [Descent::ThisJob], "its component is not in the body");
    assert_eq!(put(json!({"jobType": "Command"})), [], "it registers nothing");
    let schedule = json!({"properties": {"action": {"jobDefinition": named}}});
    assert_eq!(arm(Method::PUT, "/schedules/nightly", &schedule), [Descent::ThisJob]);
}

#[test]
fn an_online_deployment_serves_the_version_that_it_names() {
    let put = |model: Value| {
        let body = json!({"properties": {"model": model}, "sku": {"capacity": 1}});
        arm(Method::PUT, "/onlineEndpoints/e/deployments/blue", &body)
    };
    for model in [
        format!("{HOME}/models/m/versions/3"),
        format!("azureml:{HOME}/models/m/versions/3"),
        format!("azureml:/{}/models/m/versions/3", HOME.trim_start_matches('/')),
        "azureml:m:3".to_owned(),
        "azureml://subscriptions/s/resourcegroups/g/workspaces/w/models/m/versions/3".to_owned(),
    ] {
        assert_eq!(put(json!(model)), version("m/versions/3"), "{model}");
    }
    let shared = format!("{REGISTRY}/models/m/versions/3");
    assert_eq!(put(json!(shared)), [Descent::Model(ResourceId::parse(&shared).unwrap())]);
    assert_eq!(put(json!("azureml://jobs/train-1/outputs/model")), job("train-1", Some("model")));
    for model in [
        json!("azureml://registries/r/models/m/versions/3"),
        json!("azureml:m@latest"),
        json!(format!("{HOME}/models/m")),
        json!("https://x/m"),
        Value::Null,
    ] {
        assert!(is_unknown(&put(model.clone())), "{model}");
    }
    let patch = |body: Value| arm(Method::PATCH, "/onlineEndpoints/e/deployments/blue", &body);
    assert_eq!(patch(json!({"sku": {"capacity": 3}})), [], "more of the same");
    assert_eq!(patch(json!({"properties": {"model": "azureml:m:3"}})), version("m/versions/3"));
}

#[test]
fn a_batch_deployment_serves_an_asset_or_what_a_job_wrote() {
    let put = |model: Value| {
        arm(Method::PUT, "/batchEndpoints/e/deployments/d", &json!({"properties": {"model": model}}))
    };
    let asset = json!({"referenceType": "Id", "assetId": format!("{HOME}/models/m/versions/3")});
    assert_eq!(put(asset), version("m/versions/3"));
    let output = json!({"referenceType": "OutputPath", "jobId": format!("{HOME}/jobs/train-1"), "path": "m"});
    assert_eq!(put(output), job("train-1", None));
    assert!(is_unknown(&put(json!({"referenceType": "DataPath", "datastoreId": "x", "path": "m"}))));
    assert!(is_unknown(&put(json!({"referenceType": "OutputPath", "jobId": format!("{HOME}/models/m")}))));
    assert!(is_unknown(&put(Value::Null)));
}

#[test]
fn traffic_serves_what_its_deployments_serve() {
    let deployment = |kind: &str, name: &str| {
        Descent::Deployment(ResourceId::parse(&format!("{HOME}/{kind}/e/deployments/{name}")).unwrap())
    };
    let online = |body: Value| arm(Method::PATCH, "/onlineEndpoints/e", &json!({ "properties": body }));
    assert_eq!(
        online(json!({"traffic": {"blue": 90, "green": 10}, "mirrorTraffic": {"blue": 10, "grey": 0}})),
        [deployment("onlineEndpoints", "blue"), deployment("onlineEndpoints", "green")]
    );
    assert_eq!(online(json!({"traffic": {"blue": 0}})), [], "nothing begins to serve");
    assert_eq!(online(json!({"description": "x"})), []);
    assert!(is_unknown(&online(json!({"traffic": {"../../f/deployments/blue": 100}}))));
    let batch = arm(
        Method::PATCH,
        "/batchEndpoints/e",
        &json!({"properties": {"defaults": {"deploymentName": "d"}}}),
    );
    assert_eq!(batch, [deployment("batchEndpoints", "d")]);
}

#[test]
fn doors_that_do_not_say_it_are_never_silent() {
    for (method, service, rest) in [
        (Method::POST, "modelmanagement/v1.0", "/services"),
        (Method::PUT, "modelmanagement/v1.0", "/onlineEndpoints/e"),
        (Method::POST, "data/v1.0", "/dataversion/createUnregisteredOutput"),
    ] {
        assert!(is_unknown(&data(method, service, rest, &json!({}))), "{rest}");
    }
    let serverless = json!({"properties": {"modelSettings": {"modelId": "azureml://registries/r/models/m"}}});
    assert!(is_unknown(&arm(Method::PUT, "/serverlessEndpoints/e", &serverless)));
}

#[test]
fn every_door_of_the_catalogue_that_registers_or_deploys_says_something() {
    use crate::azureml::{Act, Action, Audience, Effects, Facts, Kind, Secrets};
    let id = ResourceId::parse(&format!("{HOME}/x/y")).unwrap();
    for action in crate::azureml::catalogue::Catalogue::get().actions() {
        for row in crate::azureml::catalogue::Catalogue::get().of_action(action) {
            let operation = Operation {
                name: row.name.clone(),
                acts: vec![Act { action: Action::new("a"), resource: Some(id.clone()) }],
                kind: Kind::Write,
                effects: row.effects,
                unclear_effects: Effects::NONE,
                secrets: Secrets::NONE,
                facts: Facts::default(),
                audience: Audience::Arm,
                long_running: false,
                protocol: Protocol::Arm,
            };
            let wanted =
                row.effects.contains(Effect::RegisterModel) || row.effects.contains(Effect::DeployModel);
            assert_eq!(!of(&operation, None).unwrap().is_empty(), wanted, "{}", row.name);
        }
    }
}

#[test]
fn a_member_of_another_type_is_refused_by_its_path() {
    for (path, body, member) in [
        ("/models/m/versions/1", json!({"properties": {"modelUri": ["x"]}}), "$.properties.modelUri"),
        (
            "/models/m/versions/1",
            json!({"properties": {"modelUri": "x", "jobName": 1}}),
            "$.properties.jobName",
        ),
        ("/models/m/versions/1", json!({}), "$.properties"),
        ("/onlineEndpoints/e/deployments/d", json!({"properties": {"model": {}}}), "$.properties.model"),
        ("/batchEndpoints/e/deployments/d", json!({"properties": {"model": "x"}}), "$.properties.model"),
        (
            "/batchEndpoints/e/deployments/d",
            json!({"properties": {"model": {"assetId": "a", "jobId": "b"}}}),
            "$.properties.model",
        ),
    ] {
        let naming = Naming { protocol: Protocol::Arm, upstream_host: "h".into(), resource: None };
        let target = Target::parse("h", &format!("{HOME}{path}")).unwrap();
        let body = Inspected::parse(body.to_string().as_bytes()).unwrap();
        let error = name(&naming, &Method::PUT, &target).unwrap().complete(Some(&body)).unwrap_err();
        assert!(error.to_string().contains(member), "{error}");
    }
}

#[test]
fn what_azure_shows_is_followed_in_the_same_way() {
    let id = |below: &str| ResourceId::parse(&format!("{HOME}{below}")).unwrap();
    let shown =
        json!({"properties": {"modelUri": "azureml://jobs/train-1/outputs/model", "jobName": "train-1"}});
    assert_eq!([of_version(&id("/models/m/versions/1"), &shown)], job("train-1", Some("model"))[..]);
    let online = json!({"properties": {"model": format!("{HOME}/models/m/versions/3")}});
    let blue = id("/onlineEndpoints/e/deployments/blue");
    assert_eq!([of_deployment(&blue, &online)], version("m/versions/3")[..]);
    let batch = json!({"properties": {"model": {"referenceType": "Id", "assetId": "azureml:m:3"}}});
    let nightly = id("/batchEndpoints/e/deployments/nightly");
    assert_eq!([of_deployment(&nightly, &batch)], version("m/versions/3")[..]);
    for (of, shown) in [(&blue, &batch), (&nightly, &online), (&blue, &json!({})), (&blue, &json!("x"))] {
        assert!(is_unknown(&[of_deployment(of, shown)]), "{shown}");
    }
    assert!(is_unknown(&[of_version(&blue, &json!({"properties": {"modelUri": 1}}))]));
}
