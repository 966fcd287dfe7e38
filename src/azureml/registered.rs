//! What a request registers, in the words of the request: a version of a model, or one whose version the
//! service will choose.

use std::sync::Arc;

use super::{Inspected, Operation, ResourceId, doors};

/// A model that a request registers, or that the job that it submits will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// This version.
    Version(ResourceId),
    /// A version of this model, which the service numbers.
    Named {
        /// The workspace or registry.
        home: ResourceId,
        /// The model's name.
        name: Arc<str>,
    },
    /// It is not said so that it could be found; why, in words for whoever runs the gate.
    Unknown(Arc<str>),
}

impl Registered {
    /// Each model that an operation registers; nothing for one that registers none.
    #[must_use]
    pub fn of(operation: &Operation, body: Option<&Inspected>) -> Vec<Self> {
        doors::registered(operation, body)
    }
}
