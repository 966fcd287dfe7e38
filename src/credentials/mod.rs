//! Who the gate is towards Azure.
//!
//! [`Credentials::open`] turns a recorded request into an [`Attempt`]: the request's right to be
//! sent, with the token that Azure sees. Tokens are cached under everything that scopes them,
//! fetched once for any number of waiting requests, and refreshed in the background while the old
//! one is good. The gate's own calls have tokens of another type, for a closed list of purposes;
//! neither can be used for the other.

mod attempt;
mod cache;
mod challenge;
mod entra;
mod error;
mod groups;
mod holder;
mod keys;
mod managed;
mod moment;
mod person;
mod readings;
mod rights;
mod service;
mod settings;
mod token;
mod vault;

pub use attempt::{Attempt, Bearer, ChosenCredential, CredentialChoice, Unminted, UpstreamToken};
pub use cache::{CredentialStatus, Credentials};
pub use challenge::Challenge;
pub use error::{CredentialError, Remedy};
pub use groups::{GroupSource, LiveGroups};
pub use holder::Holder;
pub use keys::{EndpointKeys, KeySlot};
pub use person::CallerToken;
pub use rights::{LiveRights, RightsSettings};
pub use service::{ServicePurpose, ServiceToken};
pub use settings::{ActsFor, CredentialSettings, Proof, resource};
pub use vault::VaultSecret;

#[cfg(test)]
mod tests;
