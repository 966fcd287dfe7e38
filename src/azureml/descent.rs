//! What a model descends from, in the words of a request: a job, a model version, or nobody knows.

use std::sync::Arc;

use serde_json::Value;

use super::{ResourceId, doors};

/// What a model that comes into being, or begins to serve, descends from as the request has it. Of a
/// registration it is where the content lies, not who is said to have made it: a job that is named
/// beside content from elsewhere has made nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Descent {
    /// The job that the request submits: what it writes is registered when it ends.
    ThisJob,
    /// What a job wrote.
    Job {
        /// The job.
        id: ResourceId,
        /// Which of its outputs; `None` for the artifacts of its run.
        output: Option<Arc<str>>,
    },
    /// A version of a model, in a workspace or a registry.
    Model(ResourceId),
    /// Whatever a deployment serves.
    Deployment(ResourceId),
    /// It is not said, or not so that it could be followed; why, in words for the caller.
    Unknown(Arc<str>),
}

impl Descent {
    /// Of a model's version, as Azure shows it.
    #[must_use]
    pub fn of_version(id: &ResourceId, shown: &Value) -> Self {
        doors::of_version(id, shown)
    }

    /// Of what a deployment serves, as Azure shows the deployment.
    #[must_use]
    pub fn of_deployment(id: &ResourceId, shown: &Value) -> Self {
        doors::of_deployment(id, shown)
    }
}
