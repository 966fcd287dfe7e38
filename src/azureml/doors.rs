//! What a body adds to the meaning: effects through every door, and what may be reserved.
//!
//! Member names are compared without case, as Azure's services do; [`super::Inspected`] refuses a
//! body in which two members differ only in case. A guarded member of another type is refused: its
//! effect would be a guess. What a body leaves to a default that is not written here is unknown,
//! and unknown is never small.

mod descent;
mod hosts;
mod jobs;
mod reading;
mod registered;

use serde_json::Value;

pub(super) use self::{
    descent::{of_deployment, of_version},
    registered::registered,
};
use self::{
    hosts::{account, batch_deployment, compute, endpoint, materialisation, online_deployment, serverless},
    jobs::{job, schedule},
    reading::{Door, needed},
};
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
        operation.facts.allocates = Some(Box::new(sum));
    }
    operation.facts.descends = descent::of(&operation, Some(&body))?;
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

/// The same of one whose meaning does not depend on its body: that may say what its model descends from.
pub(super) fn descends(mut operation: Operation, body: Option<&Value>) -> Result<Operation> {
    let effects = operation.effects.union(operation.unclear_effects);
    if effects.contains(Effect::RegisterModel) || effects.contains(Effect::DeployModel) {
        let body = body.map(|body| Door::at(body, "$")).transpose()?;
        operation.facts.descends = descent::of(&operation, body.as_ref())?;
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

#[cfg(test)]
mod tests;
