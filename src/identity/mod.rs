//! Who is calling: bearer tokens of configured issuers become a [`Principal`].
//!
//! [`bearer`] finds the token, [`Verifier`] verifies it with keys that one task keeps fresh, and
//! remembers whom it verified. What is remembered is who, never may: authorisation is judged on
//! every request. A token's own words decide nothing about how it is verified: the issuer is one
//! of the configured, the algorithm one of that issuer's, the key one that it publishes.

mod admission;
mod agents;
pub mod bearer;
mod binding;
pub mod certificate;
mod claims;
mod discovery;
pub mod dpop;
pub mod handle;
mod http_source;
pub(crate) mod json;
mod jwks;
mod jws;
mod keyring;
mod logout;
mod offline;
pub mod own;
mod plugins;
pub mod principal;
mod rejection;
mod remembered;
mod reviewers;
pub mod revoked;
pub mod sessions;
pub mod settings;
#[cfg(test)]
pub(crate) mod tests;
mod triggered;
mod userinfo;
mod verifier;

pub use admission::{SettingsProblem, open_to_anybody, problems};
pub use bearer::NoBearer;
pub use binding::{Binding, Proven};
pub use certificate::{
    BadCertificate, CertificateName, CertificateSettings, Certificates, LapsedList, PeerCertificate,
};
pub use claims::described;
pub use discovery::{Fetching, KeySource, SourceError};
pub use handle::{HandleError, HandlePrincipal, Handles, Slot};
pub use http_source::HttpKeySource;
pub use jwks::{Key, KeySet, KeySetError, MAX_DOCUMENT, Note};
pub use jws::MAX_TOKEN;
pub use keyring::{ASK_EVERY, IssuerStatus};
pub use logout::LogoutToken;
pub use offline::{KeptCode, NoCode, OfflineCodes, Vouching};
pub use own::{Exchanged, NotExchanged, OwnIssuer};
pub use principal::{AskedGroups, Caller, GroupNames, Groups, Principal, PrincipalId, PrincipalKind};
pub use rejection::{Reason, Rejection};
pub use remembered::{ConnectionMemo, RememberedSettings};
pub use reviewers::{GerritGroup, ReviewerGroups};
pub use revoked::{Revoked, Standing};
pub use settings::{Accept, IssuerKind, IssuerSettings, KeysAt, Link, Plugins, SignatureAlgorithm};
pub use triggered::{Merged, NobodyServed, TRIGGER};
pub use verifier::Verifier;
