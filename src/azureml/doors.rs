//! What a body adds to the meaning: effects through every door, and what may be reserved.
//!
//! Member names are compared without case, as Azure's services do; [`super::Inspected`] refuses a
//! body in which two members differ only in case. A guarded member of another type is refused: its
//! effect would be a guess. What a body leaves to a default that is not written here is unknown,
//! and unknown is never small.

use serde_json::{Map, Value};

use super::{Act, Action, Allocation, BodyRefusal, Effect, Effects, Operation, sizes};

type Result<T> = std::result::Result<T, BodyRefusal>;

/// Trials of a sweep or AutoML job that does not say how many: Azure's own ceiling.
const DEFAULT_TRIALS: u64 = 1_000;
/// Children of children are followed so deep.
const MAX_NESTING: u8 = 16;

/// Completes an operation whose row says `body`.
pub(super) fn complete(mut operation: Operation, body: &Value) -> Result<Operation> {
    let body = Door::at(body, "$")?;
    let mut found = Found::default();
    let name = operation.name.to_string();
    let properties = body.child("properties")?;
    match name.as_str() {
        "Jobs_CreateOrUpdate" => job(needed(properties.as_ref(), "$.properties")?, &mut found, 0)?,
        "Schedules_CreateOrUpdate" => schedule(needed(properties.as_ref(), "$.properties")?, &mut found)?,
        "Compute_CreateOrUpdate" | "Compute_Update" | "Workspaces_Computes_Post" => {
            compute(&body, &mut found)?;
        }
        "OnlineDeployments_CreateOrUpdate" | "OnlineDeployments_Update" | "Endpoints_Deployments_Put" => {
            online_deployment(&body, &mut found)?;
        }
        "BatchDeployments_CreateOrUpdate" | "BatchDeployments_Update" => batch_deployment(&body, &mut found)?,
        "OnlineEndpoints_CreateOrUpdate"
        | "OnlineEndpoints_Update"
        | "BatchEndpoints_CreateOrUpdate"
        | "BatchEndpoints_Update"
        | "Workspaces_Endpoints_Put" => endpoint(&body, &name, &mut found)?,
        "ServerlessEndpoints_CreateOrUpdate" | "ServerlessEndpoints_Update" => serverless(&body, &mut found)?,
        "Workspaces_CreateOrUpdate"
        | "Workspaces_Update"
        | "Registries_CreateOrUpdate"
        | "Registries_Update" => {
            account(properties.as_ref(), &name, &mut found)?;
        }
        _ => materialisation(&body, &mut found)?,
    }
    if let Some(tags) = body.child("tags")?.or(match &properties {
        Some(properties) => properties.child("tags")?,
        None => None,
    }) {
        operation.facts.tags = Some(tags.texts());
    }
    operation.effects = operation.effects.union(found.effects);
    operation.unclear_effects = operation.unclear_effects.union(found.unclear);
    operation.facts.experiment = found.experiment;
    if let Some(sum) = found.sum {
        operation.effects = operation.effects.with(Effect::AllocateCompute);
        operation.facts.allocates = Some(sum);
    }
    if found.effects.contains(Effect::RegisterModel) {
        // The service registers the model when the job ends: the right to do it is asked for now.
        let resource = operation.acts.first().and_then(|a| a.resource.as_ref()).and_then(workspace_of);
        operation.acts.push(Act {
            action: Action::new("Microsoft.MachineLearningServices/workspaces/models/versions/write"),
            resource,
        });
    }
    Ok(operation)
}

fn workspace_of(id: &super::ResourceId) -> Option<super::ResourceId> {
    let at = id.folded().find("/workspaces/")? + "/workspaces/".len();
    let name = id.as_str().get(at..)?.split('/').next()?;
    super::ResourceId::parse(id.as_str().get(..at + name.len())?)
}

#[derive(Debug, Default)]
struct Found {
    effects: Effects,
    unclear: Effects,
    sum: Option<Allocation>,
    experiment: Option<String>,
}

impl Found {
    fn effect(&mut self, effect: Effect) {
        self.effects = self.effects.with(effect);
    }

    fn unclear(&mut self, effect: Effect) {
        self.unclear = self.unclear.with(effect);
    }

    /// Adds what one job, child, cluster or deployment may reserve.
    fn reserve(&mut self, nodes: Option<u64>, sizes: Option<&[&str]>, hours: Option<f64>) {
        let per_node = sizes
            .map(|s| s.iter().map(|s| sizes::gpus(s)).try_fold(0, |most: u64, g| g.map(|g| most.max(g))));
        let gpus = match (nodes, per_node.flatten()) {
            (_, Some(0)) => Some(0),
            (Some(nodes), Some(gpus)) => Some(nodes.saturating_mul(gpus)),
            _ => None,
        };
        let one =
            Allocation { nodes, skus: sizes.map(|s| s.iter().map(|&s| s.to_owned()).collect()), gpus, hours };
        self.sum = Some(match self.sum.take() {
            None => one,
            Some(sum) => Allocation {
                nodes: sum.nodes.zip(one.nodes).map(|(a, b)| a.saturating_add(b)),
                skus: sum.skus.zip(one.skus).map(|(mut all, more)| {
                    all.extend(more);
                    all
                }),
                gpus: sum.gpus.zip(one.gpus).map(|(a, b)| a.saturating_add(b)),
                hours: sum.hours.zip(one.hours).map(|(a, b)| a + b),
            },
        });
    }
}

/// An object of the body, and how to name it.
struct Door<'a> {
    members: &'a Map<String, Value>,
    path: String,
}

fn refuse<T>(path: &str, wanted: &str) -> Result<T> {
    Err(BodyRefusal::Ambiguous(format!("`{path}` must be {wanted}, because the decision depends on it")))
}

fn needed<'d, 'a>(door: Option<&'d Door<'a>>, path: &str) -> Result<&'d Door<'a>> {
    match door {
        Some(door) => Ok(door),
        None => refuse(path, "there, an object"),
    }
}

impl<'a> Door<'a> {
    fn at(value: &'a Value, path: &str) -> Result<Self> {
        match value.as_object() {
            Some(members) => Ok(Self { members, path: path.to_owned() }),
            None => refuse(path, "an object"),
        }
    }

    /// A member that is there and not null; underscores do not count, because the SDK writes
    /// pipelines' children in both spellings.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.members.iter().find(|(key, _)| alike(key, name)).map(|(_, v)| v).filter(|v| !v.is_null())
    }

    fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    fn child(&self, name: &str) -> Result<Option<Self>> {
        self.get(name).map(|v| Self::at(v, &self.path(name))).transpose()
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => refuse(&self.path(name), "a string"),
        }
    }

    /// A whole number; Spark writes numbers as strings.
    fn count(&self, name: &str) -> Result<Option<u64>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Number(n)) if n.as_u64().is_some() => Ok(n.as_u64()),
            Some(Value::String(text)) if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => {
                text.parse().map(Some).or_else(|_| refuse(&self.path(name), "a whole number"))
            }
            Some(_) => refuse(&self.path(name), "a whole number"),
        }
    }

    /// An ISO 8601 duration, in hours.
    fn hours(&self, name: &str) -> Result<Option<f64>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => match hours(text) {
                Some(hours) => Ok(Some(hours)),
                None => refuse(&self.path(name), "an ISO 8601 duration such as `PT8H`"),
            },
            // The SDK writes seconds into pipelines' children.
            Some(Value::Number(n)) if n.as_f64().is_some_and(|n| n >= 0.0) => {
                Ok(n.as_f64().map(|s| s / 3_600.0))
            }
            Some(_) => refuse(&self.path(name), "an ISO 8601 duration such as `PT8H`"),
        }
    }

    fn texts(&self) -> std::collections::BTreeMap<String, String> {
        self.members.iter().filter_map(|(k, v)| v.as_str().map(|v| (k.clone(), v.to_owned()))).collect()
    }
}

/// Whether two member names are the same but for case and underscores.
fn alike(a: &str, b: &str) -> bool {
    let letters =
        |s: &'_ str| s.bytes().filter(|b| *b != b'_').map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>();
    a.eq_ignore_ascii_case(b) || (a.contains('_') && letters(a) == letters(b))
}

/// Days, hours, minutes and seconds of an ISO 8601 duration; months and years have no fixed length.
fn hours(text: &str) -> Option<f64> {
    let rest = text.strip_prefix(['P', 'p'])?;
    let (days, time) = rest.split_once(['T', 't']).unwrap_or((rest, ""));
    let part = |text: &str, units: &[(char, f64)]| -> Option<f64> {
        let mut sum = 0.0;
        let mut number = String::new();
        for c in text.chars() {
            if c.is_ascii_digit() || c == '.' {
                number.push(c);
            } else {
                let (_, factor) = units.iter().find(|(u, _)| c.eq_ignore_ascii_case(u))?;
                sum += number.parse::<f64>().ok()? * factor;
                number.clear();
            }
        }
        number.is_empty().then_some(sum)
    };
    if rest.is_empty() || (text.contains(['T', 't']) && time.is_empty()) {
        return None;
    }
    Some(
        part(days, &[('W', 168.0), ('D', 24.0)])?
            + part(time, &[('H', 1.0), ('M', 1.0 / 60.0), ('S', 1.0 / 3_600.0)])?,
    )
}

fn times(a: Option<f64>, b: Option<u64>) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "an upper bound in hours")]
    a.zip(b).map(|(a, b)| a * b as f64)
}

fn job(job: &Door<'_>, found: &mut Found, depth: u8) -> Result<()> {
    if depth > MAX_NESTING {
        return refuse(&job.path, "nested less deeply");
    }
    if depth == 0 {
        found.experiment = job.text("experimentName")?.map(str::to_owned);
    }
    outputs(job, found)?;
    identity(job, found)?;
    if job.child("services")?.is_some_and(|s| !s.members.is_empty()) {
        // Interactive services let whoever reaches them run code on the node.
        found.unclear(Effect::ExposeNetwork);
    }
    let kind = match job.text("jobType")? {
        Some(kind) => Some(kind),
        None => job.text("type")?,
    };
    match kind.map(str::to_ascii_lowercase).as_deref() {
        Some("sweep") => sweep(job, found),
        Some("automl") => automl(job, found),
        Some("pipeline") => pipeline(job, found, depth),
        Some("spark") => spark(job, found),
        Some("finetuning") => {
            let resources = job.child("resources")?;
            let sizes = match resources.as_ref().and_then(|r| r.get("instanceTypes")) {
                Some(Value::Array(list)) => list.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
                _ => None,
            };
            found.reserve(None, sizes.as_deref(), None);
            found.effect(Effect::RegisterModel);
            Ok(())
        }
        // A labelling project has people for workers.
        Some("labeling") => Ok(()),
        Some("command" | "commandcomponent") | None => {
            let resources = job.child("resources")?;
            let nodes = count_of(resources.as_ref())?;
            let sizes = size_of(resources.as_ref())?;
            let timeout = match job.child("limits")? {
                Some(limits) => limits.hours("timeout")?,
                None => None,
            };
            found.reserve(nodes, sizes.as_ref().map(std::slice::from_ref), times(timeout, nodes));
            Ok(())
        }
        Some(_) => {
            // A kind of job that is not known here may reserve and register anything.
            found.reserve(None, None, None);
            found.unclear(Effect::RegisterModel);
            Ok(())
        }
    }
}

fn count_of(resources: Option<&Door<'_>>) -> Result<Option<u64>> {
    match resources {
        Some(resources) => Ok(Some(resources.count("instanceCount")?.unwrap_or(1))),
        None => Ok(Some(1)),
    }
}

/// The VM size of a serverless job; on an existing cluster the size is not said.
fn size_of<'a>(resources: Option<&Door<'a>>) -> Result<Option<&'a str>> {
    match resources {
        Some(resources) => match resources.text("instanceType")? {
            Some(size) => Ok(Some(size)),
            None => resources.text("vmSize"),
        },
        None => Ok(None),
    }
}

/// `assetName` set: the service registers what the job wrote when it ends.
fn outputs(job: &Door<'_>, found: &mut Found) -> Result<()> {
    let Some(outputs) = job.child("outputs")? else { return Ok(()) };
    for (name, value) in outputs.members {
        let Value::Object(_) = value else { continue };
        let output = Door::at(value, &outputs.path(name))?;
        let named = output.get("assetName").is_some() || output.get("name").is_some();
        let kind = match output.text("jobOutputType")? {
            Some(kind) => Some(kind),
            None => output.text("type")?,
        };
        let model = kind.is_none_or(|k| k.to_ascii_lowercase().contains("model"));
        if named && model {
            found.effect(Effect::RegisterModel);
        }
    }
    Ok(())
}

fn identity(job: &Door<'_>, found: &mut Found) -> Result<()> {
    let Some(identity) = job.child("identity")? else { return Ok(()) };
    let kind = match identity.text("identityType")? {
        Some(kind) => Some(kind),
        None => identity.text("type")?,
    };
    // `AMLToken` is the run's own; a managed identity, and the user identity, which behind the gate
    // is the gate's, are somebody else's.
    if !kind.is_some_and(|k| alike(k, "AMLToken")) {
        found.effect(Effect::RunCodeAsAnother);
    }
    Ok(())
}

fn sweep(job: &Door<'_>, found: &mut Found) -> Result<()> {
    let limits = job.child("limits")?;
    let limit = |name: &str| limits.as_ref().map_or(Ok(None), |l| l.count(name));
    let trials = limit("maxTotalTrials")?.unwrap_or(DEFAULT_TRIALS);
    let concurrent = limit("maxConcurrentTrials")?.unwrap_or(trials).min(trials);
    let trial = job.child("trial")?;
    let resources = match (&trial, job.child("resources")?) {
        (_, Some(resources)) => Some(resources),
        (Some(trial), None) => trial.child("resources")?,
        (None, None) => None,
    };
    let each = count_of(resources.as_ref())?;
    let nodes = each.map(|n| n.saturating_mul(concurrent));
    let hour = |name: &str| limits.as_ref().map_or(Ok(None), |l| l.hours(name));
    let by_trial = times(hour("trialTimeout")?, each.map(|n| n.saturating_mul(trials)));
    let in_all = times(hour("timeout")?, nodes);
    let hours = match (by_trial, in_all) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    found.reserve(nodes, size_of(resources.as_ref())?.as_ref().map(std::slice::from_ref), hours);
    Ok(())
}

fn automl(job: &Door<'_>, found: &mut Found) -> Result<()> {
    let task = job.child("taskDetails")?;
    let limits = match &task {
        Some(task) => task.child("limitSettings")?,
        None => job.child("limits")?,
    };
    let limit = |name: &str| limits.as_ref().map_or(Ok(None), |l| l.count(name));
    let concurrent = limit("maxConcurrentTrials")?.unwrap_or(1).max(1);
    let resources = job.child("resources")?;
    let nodes = count_of(resources.as_ref())?.map(|n| n.saturating_mul(concurrent));
    let timeout = limits.as_ref().map_or(Ok(None), |l| l.hours("timeout"))?;
    found.reserve(
        nodes,
        size_of(resources.as_ref())?.as_ref().map(std::slice::from_ref),
        times(timeout, nodes),
    );
    Ok(())
}

fn pipeline(parent: &Door<'_>, found: &mut Found, depth: u8) -> Result<()> {
    match parent.child("jobs")? {
        Some(children) if !children.members.is_empty() => {
            for (name, value) in children.members {
                job(&Door::at(value, &children.path(name))?, found, depth + 1)?;
                if Door::at(value, &children.path(name))?.get("componentId").is_some() {
                    // The component's own definition is not in the body.
                    found.unclear(Effect::RegisterModel);
                }
            }
        }
        // A pipeline component is named, and what it holds is not in the body.
        _ => {
            found.reserve(None, None, None);
            found.unclear(Effect::RegisterModel);
        }
    }
    Ok(())
}

fn spark(job: &Door<'_>, found: &mut Found) -> Result<()> {
    let resources = job.child("resources")?;
    let size = size_of(resources.as_ref())?;
    let conf = job.child("conf")?;
    let setting = |name: &str| conf.as_ref().map_or(Ok(None), |c| c.count(name));
    let fixed = setting("spark.executor.instances")?;
    let most = setting("spark.dynamicAllocation.maxExecutors")?;
    // One node more for the driver.
    let nodes = most.max(fixed).map(|n| n.saturating_add(1));
    found.reserve(nodes, size.as_ref().map(std::slice::from_ref), None);
    Ok(())
}

fn schedule(properties: &Door<'_>, found: &mut Found) -> Result<()> {
    let action = properties.child("action")?;
    let action = needed(action.as_ref(), &properties.path("action"))?;
    match action.child("jobDefinition")? {
        Some(definition) => {
            // Each occurrence reserves as much again: the hours have no bound.
            job(&definition, found, 0)?;
            if let Some(sum) = &mut found.sum {
                sum.hours = None;
            }
        }
        None => found.reserve(None, None, None),
    }
    Ok(())
}

fn compute(body: &Door<'_>, found: &mut Found) -> Result<()> {
    let outer = body.child("properties")?;
    let outer = needed(outer.as_ref(), "$.properties")?;
    let inner = outer.child("properties")?;
    let kind = outer.text("computeType")?.unwrap_or_default().to_ascii_lowercase();
    let Some(inner) = inner else {
        // Attached compute is not made here; a bare update changes nothing that is reserved.
        if outer.get("resourceId").is_none()
            && !kind.is_empty()
            && matches!(kind.as_str(), "amlcompute" | "computeinstance")
        {
            found.reserve(None, None, None);
        }
        return Ok(());
    };
    let size = inner.text("vmSize")?;
    let sizes = size.as_ref().map(std::slice::from_ref);
    if let Some(scale) = inner.child("scaleSettings")? {
        found.reserve(scale.count("maxNodeCount")?, sizes, None);
    } else if kind == "computeinstance" {
        found.reserve(Some(1), sizes, None);
    } else if kind == "amlcompute" {
        found.reserve(None, sizes, None);
    }
    if let Some(personal) = inner.child("personalComputeInstanceSettings")?
        && personal.get("assignedUser").is_some()
    {
        found.effect(Effect::RunCodeAsAnother);
    }
    if let Some(identity) = body.child("identity")?
        && !identity.text("type")?.is_none_or(|t| t.eq_ignore_ascii_case("None"))
    {
        found.effect(Effect::RunCodeAsAnother);
    }
    if let Some(ssh) = inner.child("sshSettings")?
        && ssh.text("sshPublicAccess")?.is_some_and(|a| a.eq_ignore_ascii_case("Enabled"))
    {
        found.effect(Effect::ExposeNetwork);
    }
    if inner.text("remoteLoginPortPublicAccess")?.is_some_and(|a| !a.eq_ignore_ascii_case("Disabled")) {
        found.effect(Effect::ExposeNetwork);
    }
    Ok(())
}

fn online_deployment(body: &Door<'_>, found: &mut Found) -> Result<()> {
    let sku = body.child("sku")?;
    let properties = body.child("properties")?;
    let mut nodes = sku.as_ref().map_or(Ok(None), |s| s.count("capacity"))?;
    let mut size = None;
    if let Some(properties) = &properties {
        size = properties.text("instanceType")?;
        if let Some(scale) = properties.child("scaleSettings")? {
            let most = scale.count("maxInstances")?;
            nodes = match (nodes, most) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => b.or(a),
            };
        }
        if properties.text("egressPublicNetworkAccess")?.is_some_and(|a| a.eq_ignore_ascii_case("Enabled")) {
            found.effect(Effect::ExposeNetwork);
        }
    }
    found.reserve(nodes, size.as_ref().map(std::slice::from_ref), None);
    Ok(())
}

fn batch_deployment(body: &Door<'_>, found: &mut Found) -> Result<()> {
    let properties = body.child("properties")?;
    let resources = properties.as_ref().map_or(Ok(None), |p| p.child("resources"))?;
    let nodes = match &resources {
        Some(resources) => resources.count("instanceCount")?,
        None => None,
    };
    found.reserve(nodes, size_of(resources.as_ref())?.as_ref().map(std::slice::from_ref), None);
    Ok(())
}

fn endpoint(body: &Door<'_>, name: &str, found: &mut Found) -> Result<()> {
    let Some(properties) = body.child("properties")? else { return Ok(()) };
    for traffic in ["traffic", "mirrorTraffic"] {
        if properties.child(traffic)?.is_some_and(|t| !t.members.is_empty()) {
            found.effect(Effect::DeployModel);
        }
    }
    if properties.child("defaults")?.is_some_and(|d| d.get("deploymentName").is_some()) {
        found.effect(Effect::DeployModel);
    }
    // An online endpoint that says nothing is public.
    let creates = name == "OnlineEndpoints_CreateOrUpdate";
    match properties.text("publicNetworkAccess")? {
        Some(access) if access.eq_ignore_ascii_case("Disabled") => {}
        Some(_) => found.effect(Effect::ExposeNetwork),
        None if creates => found.effect(Effect::ExposeNetwork),
        None => {}
    }
    if properties.get("keys").is_some() {
        found.effect(Effect::ChangeAccess);
    }
    Ok(())
}

fn serverless(body: &Door<'_>, found: &mut Found) -> Result<()> {
    let nodes = body.child("sku")?.map_or(Ok(None), |s| s.count("capacity"))?;
    found.reserve(nodes, None, None);
    Ok(())
}

/// A workspace or registry that says nothing when it is made is public.
fn account(properties: Option<&Door<'_>>, name: &str, found: &mut Found) -> Result<()> {
    let creates = name.ends_with("CreateOrUpdate");
    let access = properties.map_or(Ok(None), |p| p.text("publicNetworkAccess"))?;
    match access {
        Some(access) if access.eq_ignore_ascii_case("Disabled") => {}
        Some(_) => found.effect(Effect::ExposeNetwork),
        None if creates => found.effect(Effect::ExposeNetwork),
        None => {}
    }
    Ok(())
}

/// Feature sets: a materialisation reserves Spark nodes without a bound.
fn materialisation(body: &Door<'_>, found: &mut Found) -> Result<()> {
    let settings = match body.child("properties")? {
        Some(properties) => properties.child("materializationSettings")?,
        None => None,
    };
    let resource = match settings {
        Some(settings) => settings.child("resource")?,
        None => body.child("resource")?,
    };
    if let Some(resource) = resource {
        found.reserve(None, size_of(Some(&resource))?.as_ref().map(std::slice::from_ref), None);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
