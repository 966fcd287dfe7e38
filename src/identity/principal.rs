//! The verified caller.

use std::{fmt, ops::Deref, sync::Arc};

use serde_json::{Map, Value};

use crate::time::Timestamp;

/// Issuer and subject: the identity key. For Entra the subject is `tid/oid`, never an e-mail.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrincipalId {
    /// The configured issuer's name.
    pub issuer: Arc<str>,
    /// `sub`, or `tid/oid` for Entra.
    pub subject: Arc<str>,
}

impl fmt::Display for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.issuer, self.subject)
    }
}

impl fmt::Debug for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What kind of caller it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A human, signed in.
    Person,
    /// An application or workload with its own identity.
    Machine,
}

impl Caller {
    /// The human behind the caller, or the caller itself: whoever is counted or compared as one
    /// person is so by this.
    #[must_use]
    pub fn person(&self) -> &PrincipalId {
        self.human.as_ref().unwrap_or(&self.id)
    }
}

/// The groups of a caller, scoped by issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// All of them, exact values.
    Known(Arc<[Box<str>]>),
    /// The token says that there are more than it carries: nothing may be concluded from absence.
    Overage,
}

/// Everything that policies may know of a caller. Plain data: holding one proves nothing.
#[derive(Clone)]
pub struct Caller {
    /// Issuer and subject.
    pub id: PrincipalId,
    /// Who the caller is at the issuer that `people.canonical` names, for whom `people.links` takes
    /// to be the same human.
    pub human: Option<PrincipalId>,
    /// Person or machine.
    pub kind: PrincipalKind,
    /// The Entra tenant, if any.
    pub tenant: Option<Arc<str>>,
    /// The client that the token was issued to (`azp`, `appid`, `client_id`).
    pub client: Option<Arc<str>>,
    /// A name for people to read; never decides anything.
    pub display: Option<Arc<str>>,
    /// Group memberships.
    pub groups: Groups,
    /// Application roles (`roles`).
    pub roles: Arc<[Box<str>]>,
    /// All claims of the token, for subjects and conditions.
    pub claims: Arc<Map<String, Value>>,
    /// When the token ends.
    pub expires: Timestamp,
    /// The token is of a CI run that somebody's pull request started, and the issuer's `accept` does
    /// not name such events. What ran was written by whoever opened the request, so only a subject
    /// that names the claim `event_name` takes such a caller in.
    pub from_pull_request: bool,
    /// For a caller who came with a handle (DECISIONS 8): the names of the policy subjects that
    /// matched when it was issued. They stand instead of claims and groups, which a handle lacks.
    pub subjects_at_issue: Option<Arc<[Arc<str>]>>,
    /// SHA-256 of the whole token, or zeroes for a caller who was described, not verified.
    pub token_digest: [u8; 32],
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A caller whose token was verified. Only this room makes one.
#[derive(Clone)]
pub struct Principal(Arc<Caller>);

impl Principal {
    /// The proof: called where the signature and every claim were checked, and nowhere else.
    pub(in crate::identity) fn verified(caller: Caller) -> Self {
        Self(Arc::new(caller))
    }

    /// A principal out of nothing, for unit tests of the rooms behind this one.
    #[cfg(test)]
    pub(crate) fn for_tests(caller: Caller) -> Self {
        Self(Arc::new(caller))
    }
}

impl Deref for Principal {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({})", self.0.id)
    }
}
