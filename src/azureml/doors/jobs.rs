//! Jobs of every type, and schedules that make them.

use serde_json::Value;

use super::{
    DEFAULT_TRIALS, Found, MAX_NESTING, Result,
    reading::{Door, alike, needed, refuse, times},
};
use crate::azureml::Effect;

pub(super) fn job(job: &Door<'_>, found: &mut Found, depth: u8) -> Result<()> {
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

pub(super) fn count_of(resources: Option<&Door<'_>>) -> Result<Option<u64>> {
    match resources {
        Some(resources) => Ok(Some(resources.count("instanceCount")?.unwrap_or(1))),
        None => Ok(Some(1)),
    }
}

/// The VM size of a serverless job; on an existing cluster the size is not said.
pub(super) fn size_of<'a>(resources: Option<&Door<'a>>) -> Result<Option<&'a str>> {
    match resources {
        Some(resources) => match resources.text("instanceType")? {
            Some(size) => Ok(Some(size)),
            None => resources.text("vmSize"),
        },
        None => Ok(None),
    }
}

/// `assetName` set: the service registers what the job wrote when it ends.
pub(super) fn outputs(job: &Door<'_>, found: &mut Found) -> Result<()> {
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

pub(super) fn identity(job: &Door<'_>, found: &mut Found) -> Result<()> {
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

pub(super) fn sweep(job: &Door<'_>, found: &mut Found) -> Result<()> {
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

pub(super) fn automl(job: &Door<'_>, found: &mut Found) -> Result<()> {
    let task = job.child("taskDetails")?;
    let limits = match &task {
        Some(task) => task.child("limitSettings")?,
        None => job.child("limits")?,
    };
    let limit = |name: &str| limits.as_ref().map_or(Ok(None), |l| l.count(name));
    let concurrent = limit("maxConcurrentTrials")?.unwrap_or(1).max(1);
    let resources = job.child("resources")?;
    // Distributed training: each model may take all of `maxNodes`, and a forecast's at least two.
    let distributed = limit("maxNodes")?.map_or(0, |most| most.max(2));
    let nodes = count_of(resources.as_ref())?.map(|n| n.max(distributed).saturating_mul(concurrent));
    let timeout = limits.as_ref().map_or(Ok(None), |l| l.hours("timeout"))?;
    found.reserve(
        nodes,
        size_of(resources.as_ref())?.as_ref().map(std::slice::from_ref),
        times(timeout, nodes),
    );
    Ok(())
}

pub(super) fn pipeline(parent: &Door<'_>, found: &mut Found, depth: u8) -> Result<()> {
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

pub(super) fn spark(job: &Door<'_>, found: &mut Found) -> Result<()> {
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

pub(super) fn schedule(properties: &Door<'_>, found: &mut Found) -> Result<()> {
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
