use http::Method;
use serde_json::json;

use super::*;
use crate::{
    azureml::{Naming, Protocol, name},
    http::Target,
};

const HOME: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w";

fn through(protocol: Protocol, method: Method, path: &str, body: &Value) -> Vec<Registered> {
    let naming = Naming { protocol, upstream_host: "h".into(), resource: None };
    let body = Inspected::parse(body.to_string().as_bytes()).unwrap();
    let named = name(&naming, &method, &Target::parse("h", path).unwrap()).unwrap();
    Registered::of(&named.complete(Some(&body)).unwrap(), Some(&body))
}

fn arm(method: Method, below: &str, body: &Value) -> Vec<Registered> {
    through(Protocol::Arm, method, &format!("{HOME}{below}"), body)
}

fn of_name(name: &str) -> Registered {
    Registered::Named { home: ResourceId::parse(HOME).unwrap(), name: name.into() }
}

fn version(of: &str) -> Registered {
    Registered::Version(ResourceId::parse(&format!("{HOME}/models/{of}")).unwrap())
}

#[test]
fn each_door_says_which_model_it_registers() {
    let lies = json!({"properties": {"modelUri": "runs:/t/model"}});
    assert_eq!(arm(Method::PUT, "/models/m/versions/7", &lies), [version("m/versions/7")]);
    let front = format!("/mferp/managementfrontend{HOME}/models/m/versions/7");
    assert_eq!(through(Protocol::Azureml, Method::PUT, &front, &lies), [version("m/versions/7")]);
    let registry = format!("/modelregistry/v1.0{HOME}/models");
    let body = json!({"name": "m", "url": "runs:/t/model"});
    assert_eq!(through(Protocol::Azureml, Method::POST, &registry, &body), [of_name("m")]);
    let mlflow = format!("/mlflow/v1.0{HOME}/api/2.0/mlflow/model-versions/create");
    let body = json!({"name": "m", "source": "runs:/t/model"});
    assert_eq!(through(Protocol::Azureml, Method::POST, &mlflow, &body), [of_name("m")]);
    let nameless = through(Protocol::Azureml, Method::POST, &mlflow, &json!({"source": "runs:/t/model"}));
    assert!(matches!(&*nameless, [Registered::Unknown(_)]), "{nameless:?}");
    let published = arm(Method::POST, "/models/m/versions/7/publish", &json!({"registryName": "r"}));
    assert!(matches!(&*published, [Registered::Unknown(_)]), "{published:?}");
}

#[test]
fn a_job_registers_each_model_among_its_outputs_and_those_of_its_children() {
    let job = json!({"properties": {
        "jobType": "Pipeline",
        "outputs": {
            "a": {"jobOutputType": "mlflow_model", "assetName": "a"},
            "b": {"jobOutputType": "custom_model", "assetName": "b", "assetVersion": "3"},
            "data": {"jobOutputType": "uri_folder", "assetName": "d"},
            "unnamed": {"jobOutputType": "mlflow_model"},
        },
        "jobs": {"inner": {"type": "command", "outputs": {"c": {"type": "mlflow_model", "name": "c"}}}},
    }});
    let found = arm(Method::PUT, "/jobs/train", &job);
    assert_eq!(found, [of_name("a"), version("b/versions/3"), of_name("c")]);
    assert_eq!(arm(Method::PUT, "/jobs/train", &json!({"properties": {"jobType": "Command"}})), []);
}
