//! What a request means to Azure ML.
//!
//! Method, host and path (and the body where the door needs it) become an [`Operation`]: the
//! Azure actions on their resources, the kind, the effects, the classes of secrets in the answer,
//! and the facts that conditions read. Everything here is pure; what cannot be named is refused
//! with [`UnknownOperation`] and is never guessed.

pub mod action;
mod catalogue;
mod descent;
mod doors;
pub mod inspected;
mod kubernetes;
pub mod method;
mod name;
pub mod operation;
mod registered;
pub mod resource;
mod sizes;

pub use descent::Descent;
pub use inspected::{BodyRefusal, Inspected};
pub use name::name;
pub use operation::{
    Act, Action, Allocation, Audience, BodyNeed, Effect, Effects, Facts, Kind, Named, Naming, Operation,
    Protocol, SecretClass, Secrets, UnknownOperation,
};
pub use registered::Registered;
pub use resource::ResourceId;
