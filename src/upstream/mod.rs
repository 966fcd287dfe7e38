//! Forwarding: an attempt goes out, an answer comes back.
//!
//! [`forward()`] takes an [`crate::credentials::Attempt`], so that nothing is sent without a decision, a record and a
//! token of ours. Connections are pooled per core. A request is sent again only if nothing of it
//! was sent. Bodies pass frame by frame with back-pressure; nothing here collects one.

mod forward;
mod passing;
pub mod polling;
mod pool;
pub mod rewrite;

pub use forward::{Answer, Failure, Sending, forward};
pub use passing::{Counted, Passing, Watch};
pub use pool::Pools;

/// How long an upstream is given.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamTimeouts {
    /// For the head of its answer, from the end of what is sent; there is no limit on bodies that
    /// flow.
    pub head: std::time::Duration,
    /// For the next frame of a body.
    pub idle: std::time::Duration,
}
