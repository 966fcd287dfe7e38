//! What operators and clients ask the gate itself: health, readiness, metrics, discovery.
//!
//! Health and discovery are not behind authentication because they tell nothing about callers or Azure:
//! readiness names dependencies, not secrets, and belongs on loopback or a private network. The API
//! ([`api`]) is, all of it, and so are the pages of the console.

pub mod api;
mod console;
mod health;
pub mod hooks;
mod mount;
mod serve;
mod sign_in;
pub mod witness;

pub use health::{Dependency, Health, State, router};
pub use mount::{Mount, Mounted};
pub use serve::serve;
