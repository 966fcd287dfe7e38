//! Who is calling: bearer tokens of configured issuers become a [`Principal`].
//!
//! Verification is pure ([`verify`]); keys come from a bounded cache that a refresher fills. What
//! is remembered is who, never may: authorisation is judged on every request.

pub mod principal;

pub use principal::{Caller, Groups, Principal, PrincipalId, PrincipalKind};
