//! What a body must be before Azure takes it, after the models of the official SDK.
//!
//! Fields that no rule names are taken as they come, as the service does with what it does not know.

use crate::sandbox::members::Members as _;
use serde_json::Value;

use crate::sandbox::azure::call::Refusal;

#[derive(Debug, Clone, Copy)]
enum Shape {
    Text,
    Number,
    Truth,
    Object,
    List,
    OneOf(&'static [&'static str]),
}

#[derive(Debug, Clone, Copy)]
enum Need {
    Must,
    May,
}

struct Rule(&'static str, Need, Shape);

use Need::{May, Must};
use Shape::{List, Number, Object, OneOf, Text, Truth};

const JOB: &[Rule] = &[
    Rule("properties", Must, Object),
    Rule(
        "properties.jobType",
        Must,
        OneOf(&["AutoML", "Command", "Sweep", "Pipeline", "Spark", "Labeling", "FineTuning", "Distillation"]),
    ),
    Rule("properties.displayName", May, Text),
    Rule("properties.experimentName", May, Text),
    Rule("properties.computeId", May, Text),
    Rule("properties.tags", May, Object),
    Rule("properties.properties", May, Object),
    Rule("properties.isArchived", May, Truth),
    Rule("properties.inputs", May, Object),
    Rule("properties.outputs", May, Object),
    Rule("properties.identity", May, Object),
    Rule("properties.services", May, Object),
    Rule("properties.resources", May, Object),
    Rule("properties.resources.instanceCount", May, Number),
    Rule("properties.resources.instanceType", May, Text),
    Rule("properties.limits", May, Object),
    Rule("properties.limits.timeout", May, Text),
];
const COMMAND: &[Rule] = &[
    Rule("properties.command", Must, Text),
    Rule("properties.environmentId", Must, Text),
    Rule("properties.codeId", May, Text),
    Rule("properties.environmentVariables", May, Object),
    Rule("properties.distribution", May, Object),
];
const SWEEP: &[Rule] = &[
    Rule("properties.objective", Must, Object),
    Rule("properties.objective.primaryMetric", Must, Text),
    Rule("properties.objective.goal", Must, OneOf(&["Minimize", "Maximize"])),
    Rule("properties.samplingAlgorithm", Must, Object),
    Rule("properties.searchSpace", Must, Object),
    Rule("properties.trial", Must, Object),
    Rule("properties.trial.command", Must, Text),
    Rule("properties.trial.environmentId", Must, Text),
    Rule("properties.limits.maxTotalTrials", May, Number),
    Rule("properties.limits.maxConcurrentTrials", May, Number),
];
const PIPELINE: &[Rule] = &[Rule("properties.jobs", May, Object), Rule("properties.settings", May, Object)];
const SPARK: &[Rule] = &[Rule("properties.codeId", Must, Text), Rule("properties.entry", Must, Object)];
const AUTO_ML: &[Rule] = &[Rule("properties.taskDetails", Must, Object)];

const CONTAINER: &[Rule] = &[
    Rule("properties", Must, Object),
    Rule("properties.description", May, Text),
    Rule("properties.tags", May, Object),
    Rule("properties.isArchived", May, Truth),
];
const VERSION: &[Rule] = &[
    Rule("properties", Must, Object),
    Rule("properties.description", May, Text),
    Rule("properties.tags", May, Object),
    Rule("properties.properties", May, Object),
    Rule("properties.isAnonymous", May, Truth),
    Rule("properties.isArchived", May, Truth),
];
const MODEL: &[Rule] = &[
    Rule("properties.modelUri", May, Text),
    Rule("properties.modelType", May, Text),
    Rule("properties.jobName", May, Text),
    Rule("properties.flavors", May, Object),
    Rule("properties.stage", May, Text),
];
const CODE: &[Rule] = &[Rule("properties.codeUri", May, Text)];
const DATA: &[Rule] = &[
    Rule("properties.dataType", Must, OneOf(&["uri_file", "uri_folder", "mltable"])),
    Rule("properties.dataUri", Must, Text),
];
const ENVIRONMENT: &[Rule] = &[
    Rule("properties.image", May, Text),
    Rule("properties.condaFile", May, Text),
    Rule("properties.build", May, Object),
    Rule("properties.osType", May, OneOf(&["Linux", "Windows"])),
    Rule("properties.inferenceConfig", May, Object),
];
const COMPONENT: &[Rule] = &[Rule("properties.componentSpec", May, Object)];
const COMPUTE: &[Rule] = &[
    Rule("location", May, Text),
    Rule("tags", May, Object),
    Rule("properties", Must, Object),
    Rule(
        "properties.computeType",
        Must,
        OneOf(&[
            "AKS",
            "Kubernetes",
            "AmlCompute",
            "ComputeInstance",
            "DataFactory",
            "VirtualMachine",
            "HDInsight",
            "Databricks",
            "DataLakeAnalytics",
            "SynapseSpark",
        ]),
    ),
];
const AML_COMPUTE: &[Rule] = &[
    Rule("properties.properties", Must, Object),
    Rule("properties.properties.vmSize", Must, Text),
    Rule("properties.properties.vmPriority", May, OneOf(&["Dedicated", "LowPriority"])),
    Rule("properties.properties.scaleSettings", May, Object),
    Rule("properties.properties.scaleSettings.maxNodeCount", May, Number),
    Rule("properties.properties.scaleSettings.minNodeCount", May, Number),
];
const COMPUTE_INSTANCE: &[Rule] =
    &[Rule("properties.properties", Must, Object), Rule("properties.properties.vmSize", Must, Text)];
const ENDPOINT: &[Rule] = &[
    Rule("location", Must, Text),
    Rule("tags", May, Object),
    Rule("identity", May, Object),
    Rule("properties", Must, Object),
    Rule("properties.authMode", Must, OneOf(&["AMLToken", "Key", "AADToken"])),
    Rule("properties.traffic", May, Object),
    Rule("properties.mirrorTraffic", May, Object),
    Rule("properties.publicNetworkAccess", May, OneOf(&["Enabled", "Disabled"])),
    Rule("properties.description", May, Text),
];
const DEPLOYMENT: &[Rule] = &[
    Rule("location", Must, Text),
    Rule("sku", May, Object),
    Rule("sku.capacity", May, Number),
    Rule("properties", Must, Object),
    Rule("properties.endpointComputeType", Must, OneOf(&["Managed", "Kubernetes", "AzureMLCompute"])),
    Rule("properties.model", May, Text),
    Rule("properties.environmentId", May, Text),
    Rule("properties.instanceType", May, Text),
    Rule("properties.codeConfiguration", May, Object),
    Rule("properties.scaleSettings", May, Object),
];
const DATASTORE: &[Rule] = &[
    Rule("properties", Must, Object),
    Rule("properties.credentials", Must, Object),
    Rule("properties.datastoreType", Must, Text),
];
const CONNECTION: &[Rule] = &[
    Rule("properties", Must, Object),
    Rule("properties.authType", Must, Text),
    Rule("properties.category", May, Text),
    Rule("properties.target", May, Text),
];
const WORKSPACE: &[Rule] = &[
    Rule("location", Must, Text),
    Rule("identity", May, Object),
    Rule("tags", May, Object),
    Rule("properties", Must, Object),
    Rule("properties.publicNetworkAccess", May, OneOf(&["Enabled", "Disabled"])),
];
const SCHEDULE: &[Rule] = &[
    Rule("properties", Must, Object),
    Rule("properties.action", Must, Object),
    Rule("properties.action.actionType", Must, Text),
    Rule("properties.trigger", Must, Object),
    Rule("properties.trigger.triggerType", Must, OneOf(&["Recurrence", "Cron"])),
    Rule("properties.schedule", May, List),
];

/// Judges the body of a `PUT` of this type.
///
/// # Errors
/// 400 with the member and what is wrong with it.
pub fn check(kind: &str, body: &Value) -> Result<(), Refusal> {
    let discriminator =
        |name: &str| body.member("properties").member(name).as_str().unwrap_or_default().to_owned();
    let mut rules: Vec<&[Rule]> = Vec::new();
    match kind {
        "workspaces" => rules.push(WORKSPACE),
        "workspaces/jobs" => {
            rules.push(JOB);
            match discriminator("jobType").as_str() {
                "Command" => rules.push(COMMAND),
                "Sweep" => rules.push(SWEEP),
                "Pipeline" => rules.push(PIPELINE),
                "Spark" => rules.push(SPARK),
                "AutoML" => rules.push(AUTO_ML),
                _ => {}
            }
        }
        "workspaces/models/versions" => rules.extend([VERSION, MODEL]),
        "workspaces/codes/versions" => rules.extend([VERSION, CODE]),
        "workspaces/data/versions" => rules.extend([VERSION, DATA]),
        "workspaces/environments/versions" => rules.extend([VERSION, ENVIRONMENT]),
        "workspaces/components/versions" => rules.extend([VERSION, COMPONENT]),
        "workspaces/models"
        | "workspaces/codes"
        | "workspaces/data"
        | "workspaces/environments"
        | "workspaces/components" => rules.push(CONTAINER),
        "workspaces/computes" => {
            rules.push(COMPUTE);
            match discriminator("computeType").as_str() {
                "AmlCompute" => rules.push(AML_COMPUTE),
                "ComputeInstance" => rules.push(COMPUTE_INSTANCE),
                _ => {}
            }
        }
        "workspaces/onlineendpoints" | "workspaces/batchendpoints" => rules.push(ENDPOINT),
        "workspaces/onlineendpoints/deployments" => rules.push(DEPLOYMENT),
        "workspaces/datastores" => rules.push(DATASTORE),
        "workspaces/connections" => rules.push(CONNECTION),
        "workspaces/schedules" => rules.push(SCHEDULE),
        _ => {}
    }
    rules.into_iter().flatten().try_for_each(|rule| judge(rule, body))
}

fn judge(Rule(path, need, shape): &Rule, body: &Value) -> Result<(), Refusal> {
    let found = path.split('.').try_fold(body, |at, name| at.get(name)).filter(|v| !v.is_null());
    let Some(found) = found else {
        return match need {
            May => Ok(()),
            Must => {
                Err(Refusal::bad_request(&format!("The request is invalid: the {path} field is required.")))
            }
        };
    };
    let fits = match shape {
        Text => found.is_string(),
        Number => found.is_number(),
        Truth => found.is_boolean(),
        Object => found.is_object(),
        List => found.is_array(),
        OneOf(values) => found.as_str().is_some_and(|v| values.iter().any(|w| w.eq_ignore_ascii_case(v))),
    };
    if fits {
        return Ok(());
    }
    Err(Refusal::bad_request(&format!(
        "The request is invalid: error converting value {found} of {path}, expected {}.",
        match shape {
            Text => "a string".to_owned(),
            Number => "a number".to_owned(),
            Truth => "a boolean".to_owned(),
            Object => "an object".to_owned(),
            List => "an array".to_owned(),
            OneOf(values) => format!("one of {}", values.join(", ")),
        }
    )))
}
