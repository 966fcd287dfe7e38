//! What operators and clients ask the gate itself: health, readiness, metrics, discovery.
//!
//! None of it is behind authentication because none of it tells anything about callers or Azure:
//! readiness names dependencies, not secrets, and belongs on loopback or a private network.

mod health;
mod serve;
pub mod witness;

pub use health::{Dependency, Health, State, router};
pub use serve::serve;
