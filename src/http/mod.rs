//! What HTTP itself demands, as pure functions: request targets, headers, limits, problem bodies.

pub mod target;

pub use target::{Query, Target, TargetError};
