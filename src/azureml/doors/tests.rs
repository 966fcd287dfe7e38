use serde_json::json;

use super::{reading::hours, *};
use crate::azureml::{Audience, Facts, Kind, Protocol, ResourceId, Secrets};

fn meaning(name: &str, body: &Value) -> Result<Operation> {
    let id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/x/y";
    let operation = Operation {
        name: name.into(),
        acts: vec![Act { action: Action::new("a/write"), resource: ResourceId::parse(id) }],
        kind: Kind::Write,
        effects: Effects::NONE,
        unclear_effects: Effects::NONE,
        secrets: Secrets::NONE,
        facts: Facts::default(),
        audience: Audience::Arm,
        long_running: false,
        protocol: Protocol::Arm,
    };
    complete(operation, body)
}

fn reserved(name: &str, body: &Value) -> Allocation {
    *meaning(name, body).unwrap().facts.allocates.unwrap()
}

#[test]
fn a_command_job_reserves_its_instances_for_its_timeout() {
    let body = json!({"properties": {"jobType": "Command", "resources": {"instanceCount": 4, "instanceType": "Standard_NC24rs_v3"}, "limits": {"timeout": "PT2H30M"}}});
    let sum = reserved("Jobs_CreateOrUpdate", &body);
    assert_eq!(
        sum,
        Allocation {
            nodes: Some(4),
            skus: Some(vec!["Standard_NC24rs_v3".into()]),
            gpus: Some(16),
            hours: Some(10.0)
        }
    );
}

#[test]
fn what_a_job_does_not_say_is_unknown_and_never_small() {
    let sum =
        reserved("Jobs_CreateOrUpdate", &json!({"properties": {"jobType": "Command", "computeId": "/x"}}));
    assert_eq!(sum, Allocation { nodes: Some(1), skus: None, gpus: None, hours: None });
    let kind = meaning("Jobs_CreateOrUpdate", &json!({"properties": {"jobType": "Invented"}})).unwrap();
    let nothing = Allocation { nodes: None, skus: None, gpus: None, hours: None };
    assert_eq!(kind.facts.allocates.as_deref(), Some(&nothing));
    assert!(kind.unclear_effects.contains(Effect::RegisterModel));
}

#[test]
fn a_sweep_reserves_for_all_its_trials() {
    let body = json!({"properties": {"jobType": "Sweep", "limits": {"maxTotalTrials": 20, "maxConcurrentTrials": 5, "trialTimeout": "PT1H"},
        "trial": {"resources": {"instanceCount": 2, "instanceType": "Standard_DS3_v2"}}}});
    let sum = reserved("Jobs_CreateOrUpdate", &body);
    assert_eq!((sum.nodes, sum.gpus, sum.hours), (Some(10), Some(0), Some(40.0)));
    let unbounded =
        reserved("Jobs_CreateOrUpdate", &json!({"properties": {"jobType": "Sweep", "trial": {}}}));
    assert_eq!(unbounded.nodes, Some(DEFAULT_TRIALS));
}

#[test]
fn a_pipeline_is_the_sum_of_its_children_in_both_spellings() {
    let body = json!({"properties": {"jobType": "Pipeline", "jobs": {
        "a": {"type": "command", "resources": {"instance_count": 3, "instance_type": "Standard_NC6s_v3"}, "limits": {"timeout": 3600}},
        "b": {"jobType": "Command", "resources": {"instanceCount": 1, "instanceType": "Standard_DS3_v2"}, "limits": {"timeout": "PT1H"}},
        "c": {"type": "pipeline", "jobs": {"d": {"type": "command", "resources": {"instance_count": 2, "instance_type": "Standard_DS3_v2"}, "limits": {"timeout": "P1D"}}}}}}});
    let sum = reserved("Jobs_CreateOrUpdate", &body);
    assert_eq!((sum.nodes, sum.gpus, sum.hours), (Some(6), Some(3), Some(52.0)));
}

#[test]
fn a_job_that_names_a_model_output_registers_a_model_whichever_way_it_is_wrapped() {
    let output = json!({"m": {"jobOutputType": "mlflow_model", "assetName": "churn"}});
    for body in [
        json!({"properties": {"jobType": "Command", "outputs": output}}),
        json!({"properties": {"jobType": "Command", "Outputs": {"m": {"JobOutputType": "MLFLOW_MODEL", "ASSETNAME": "churn"}}}}),
        json!({"properties": {"jobType": "Pipeline", "jobs": {"a": {"type": "command", "outputs": {"m": {"type": "mlflow_model", "name": "churn"}}}}}}),
    ] {
        let operation = meaning("Jobs_CreateOrUpdate", &body).unwrap();
        assert!(operation.effects.contains(Effect::RegisterModel), "{body}");
        assert_eq!(operation.acts.len(), 2, "the right to register is asked for as well");
        assert!(operation.acts[1].resource.as_ref().unwrap().as_str().ends_with("/workspaces/w"));
    }
    let scheduled = json!({"properties": {"action": {"actionType": "CreateJob", "jobDefinition": {"jobType": "Command", "outputs": output, "limits": {"timeout": "PT1H"}}}}});
    let operation = meaning("Schedules_CreateOrUpdate", &scheduled).unwrap();
    assert!(operation.effects.contains(Effect::RegisterModel));
    assert_eq!(operation.facts.allocates.unwrap().hours, None);
    let data = json!({"properties": {"jobType": "Command", "outputs": {"d": {"jobOutputType": "uri_folder", "assetName": "set"}}}});
    assert!(!meaning("Jobs_CreateOrUpdate", &data).unwrap().effects.contains(Effect::RegisterModel));
}

#[test]
fn running_as_another_is_seen_at_jobs_clusters_and_instances() {
    for (name, body) in [
        (
            "Jobs_CreateOrUpdate",
            json!({"properties": {"jobType": "Command", "identity": {"identityType": "Managed"}}}),
        ),
        (
            "Jobs_CreateOrUpdate",
            json!({"properties": {"jobType": "Command", "identity": {"identityType": "UserIdentity"}}}),
        ),
        (
            "Compute_CreateOrUpdate",
            json!({"identity": {"type": "UserAssigned"}, "properties": {"computeType": "AmlCompute", "properties": {"vmSize": "x"}}}),
        ),
        (
            "Compute_CreateOrUpdate",
            json!({"properties": {"computeType": "ComputeInstance", "properties": {"personalComputeInstanceSettings": {"assignedUser": {"objectId": "o"}}}}}),
        ),
    ] {
        assert!(meaning(name, &body).unwrap().effects.contains(Effect::RunCodeAsAnother), "{body}");
    }
    let own = json!({"properties": {"jobType": "Command", "identity": {"identityType": "AMLToken"}}});
    assert!(!meaning("Jobs_CreateOrUpdate", &own).unwrap().effects.contains(Effect::RunCodeAsAnother));
}

#[test]
fn a_cluster_reserves_its_ceiling_and_says_what_it_opens() {
    let body = json!({"properties": {"computeType": "AmlCompute", "properties": {"vmSize": "STANDARD_ND96ISR_H100_V5", "scaleSettings": {"maxNodeCount": 8}, "remoteLoginPortPublicAccess": "Enabled"}}});
    let operation = meaning("Compute_CreateOrUpdate", &body).unwrap();
    assert_eq!(operation.facts.allocates.unwrap().gpus, Some(64));
    assert!(operation.effects.contains(Effect::ExposeNetwork));
    let update = json!({"properties": {"properties": {"scaleSettings": {"maxNodeCount": 90}}}});
    assert_eq!(reserved("Compute_Update", &update).nodes, Some(90));
}

#[test]
fn what_is_public_by_default_is_seen_as_public() {
    let public =
        |name: &str, body: Value| meaning(name, &body).unwrap().effects.contains(Effect::ExposeNetwork);
    assert!(public("OnlineEndpoints_CreateOrUpdate", json!({"properties": {"authMode": "Key"}})));
    assert!(!public(
        "OnlineEndpoints_CreateOrUpdate",
        json!({"properties": {"publicNetworkAccess": "disabled"}})
    ));
    assert!(!public("OnlineEndpoints_Update", json!({"properties": {"traffic": {"blue": 100}}})));
    assert!(public("Workspaces_CreateOrUpdate", json!({"location": "x", "properties": {}})));
    assert!(public("Workspaces_Update", json!({"properties": {"publicNetworkAccess": "Enabled"}})));
    assert!(!public("Workspaces_Update", json!({"tags": {}})));
}

#[test]
fn traffic_is_deployment() {
    let body = json!({"properties": {"traffic": {"blue": 10}}});
    assert!(meaning("OnlineEndpoints_Update", &body).unwrap().effects.contains(Effect::DeployModel));
    let defaults = json!({"properties": {"defaults": {"deploymentName": "blue"}}});
    assert!(meaning("BatchEndpoints_Update", &defaults).unwrap().effects.contains(Effect::DeployModel));
}

#[test]
fn a_guarded_member_of_another_type_is_refused_by_its_path() {
    for (name, body, path) in [
        (
            "Jobs_CreateOrUpdate",
            json!({"properties": {"resources": {"instanceCount": "many"}}}),
            "$.properties.resources.instanceCount",
        ),
        (
            "Jobs_CreateOrUpdate",
            json!({"properties": {"resources": {"instanceCount": 1.5}}}),
            "$.properties.resources.instanceCount",
        ),
        ("Jobs_CreateOrUpdate", json!({"properties": []}), "$.properties"),
        ("Jobs_CreateOrUpdate", json!({}), "$.properties"),
        (
            "Jobs_CreateOrUpdate",
            json!({"properties": {"limits": {"timeout": "two hours"}}}),
            "$.properties.limits.timeout",
        ),
        ("OnlineEndpoints_Update", json!({"properties": {"traffic": 100}}), "$.properties.traffic"),
        (
            "Compute_Update",
            json!({"properties": {"properties": {"scaleSettings": {"maxNodeCount": -1}}}}),
            "maxNodeCount",
        ),
    ] {
        let error = meaning(name, &body).unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
    }
}

#[test]
fn durations_are_read_as_azure_writes_them() {
    for (text, expected) in [
        ("PT1H", Some(1.0)),
        ("P1DT12H", Some(36.0)),
        ("PT90M", Some(1.5)),
        ("P1W", Some(168.0)),
        ("PT36S", Some(0.01)),
        ("P1M", None),
        ("PT", None),
        ("P", None),
        ("1H", None),
        ("PT1", None),
    ] {
        assert_eq!(hours(text), expected, "{text}");
    }
}
