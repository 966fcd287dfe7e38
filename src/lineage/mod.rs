//! Chain of custody: which reviewed commit a model came from, as a statement that anybody can check.
//!
//! When a model was registered, the facts by which the gate let it through ([`Custody`]) become two
//! in-toto statements ([`provenance`], [`summary`]): how the model was made, as SLSA provenance, and
//! that the gate verified it, as a verification summary. Each is canonical JSON, signed in a DSSE
//! envelope ([`seal`]), so that stock verifiers read it. [`Envelope::open`] checks one, and
//! [`Chain::of`] reads the facts back.
//!
//! All but [`Statements`], which keeps them, is pure: facts in, bytes out. It does not find the facts
//! (`gates`), and it vouches for no bytes of a model that Azure gave no digest of: such a statement says
//! so, see [`Asset`].

mod chain;
mod custody;
mod dsse;
mod facts;
mod kept;
mod keys;
mod model;
mod named;
mod statement;
mod statements;
#[cfg(test)]
mod tests;
mod vouch;
mod written;

pub use chain::{Chain, Difference, Link, differences};
pub use custody::{
    Approver, Asset, Basis, Change, Custody, CustodyError, Decided, Dependency, Job, Metric, Source,
};
pub use dsse::{Envelope, EnvelopeError, MAX_BUNDLE, Opened, bundle, pae, seal};
pub use facts::{facts, made_after};
pub use kept::{Kept, Listed, OfModel, Page, ReadError, Unverified, Verified};
pub use keys::{KeyError, KeyId, PublicKey, SigningKey};
pub use model::ModelId;
pub use named::{Home, NameError, Version, Versions};
pub use statement::{PROVENANCE, SUMMARY, Statement, StatementError, Subject};
pub use statements::{Keys, Statements, Unstated, checked};
pub use written::{PAYLOAD_TYPE, provenance, summary};
