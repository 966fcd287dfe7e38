//! Forwarding: an attempt goes out, an answer comes back.
//!
//! [`forward()`] takes an [`crate::credentials::Attempt`], so that nothing is sent without a decision, a record and a
//! token of ours. Connections are pooled per core. A request is sent again only if nothing of it
//! was sent, and what the upstream says it has not looked at comes back as such. Bodies pass frame by
//! frame with back-pressure; nothing here collects one.

mod forward;
mod passing;
pub mod polling;
mod pool;
pub mod rewrite;
mod upload;

pub use forward::{Answer, Failure, Sending, Until, Watching, forward};
pub use passing::{Passing, Watch};
pub use pool::Pools;
pub use upload::{Counted, Upload};

/// How long an upstream is given.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamTimeouts {
    /// For the head of its answer, from the last of what it took of the request; there is no limit
    /// on bodies that flow.
    pub head: std::time::Duration,
    /// For the next frame of its answer's body.
    pub idle: std::time::Duration,
    /// The caller is given so long for the next frame of the request's body.
    pub body: std::time::Duration,
}
