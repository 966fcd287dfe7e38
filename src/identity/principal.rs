//! The verified caller.

use std::{fmt, ops::Deref, sync::Arc};

use serde_json::{Map, Value};

use super::{
    Binding, PeerCertificate, Proven, ReviewerGroups, certificate::BadCertificate, triggered::TRIGGER,
};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A human, signed in.
    Person,
    /// An application or workload with its own identity.
    Machine,
    /// Software that acts for a human, who is the subject.
    Agent,
    /// Software of that kind that acts for nobody but itself.
    AutonomousAgent,
}

impl PrincipalKind {
    /// The word in policies, records and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Machine => "machine",
            Self::Agent => "agent",
            Self::AutonomousAgent => "autonomous_agent",
        }
    }

    /// Whether it is software that acts, for a human or for itself.
    #[must_use]
    pub const fn is_agent(self) -> bool {
        match self {
            Self::Agent | Self::AutonomousAgent => true,
            Self::Person | Self::Machine => false,
        }
    }

    /// Whether the subject is a human.
    #[must_use]
    pub const fn has_human(self) -> bool {
        match self {
            Self::Person | Self::Agent => true,
            Self::Machine | Self::AutonomousAgent => false,
        }
    }

    /// The kind of one with whose token software acts.
    #[must_use]
    pub const fn acting(self) -> Self {
        if self.has_human() { Self::Agent } else { Self::AutonomousAgent }
    }
}

impl Caller {
    /// The human behind the caller, or the caller itself: whoever is counted or compared as one
    /// person is so by this.
    #[must_use]
    pub fn person(&self) -> &PrincipalId {
        self.human.as_ref().unwrap_or(&self.id)
    }

    /// The same token, held by software that acts with it.
    #[must_use]
    pub fn as_agent(&self) -> Self {
        Self { kind: self.kind.acting(), ..self.clone() }
    }

    /// The human for whom an agent acts, as if they called themselves; `None` for everybody else. The
    /// client is the agent's, so the human has none.
    #[must_use]
    pub fn human_served(&self) -> Option<Self> {
        let served = || Self {
            kind: PrincipalKind::Person,
            client: None,
            // A trigger's are no words of the human's issuer.
            claims: if self.trigger().is_some() { Arc::default() } else { Arc::clone(&self.claims) },
            // Nothing that is remembered of the token is the human's.
            token_digest: [0; 32],
            ..self.clone()
        };
        (self.kind == PrincipalKind::Agent).then(served)
    }
}

/// The groups of a caller, scoped by issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// All of them, exact values.
    Known(Arc<[Box<str>]>),
    /// The token says that there are more than it carries: nothing may be concluded from absence.
    Overage,
    /// The token carries only some, and a directory was asked about those that matter.
    Asked(Arc<AskedGroups>),
}

/// Names of groups, or why nobody could tell them.
pub type GroupNames = Result<Arc<Box<[Box<str>]>>, Arc<str>>;

/// What a directory said of some groups of a caller whose token does not carry all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedGroups {
    about: Arc<[Box<str>]>,
    member: GroupNames,
}

impl AskedGroups {
    /// The caller belongs to these of the groups `about`, both in order; or why nobody could tell.
    #[must_use]
    pub fn new(about: Arc<[Box<str>]>, member: GroupNames) -> Self {
        Self { about, member }
    }

    /// The groups that were asked about.
    #[must_use]
    pub fn about(&self) -> &Arc<[Box<str>]> {
        &self.about
    }

    /// Those of them that the caller belongs to.
    ///
    /// # Errors
    /// Why nobody could tell.
    pub fn member(&self) -> Result<&[Box<str>], &Arc<str>> {
        self.member.as_ref().map(|groups| &***groups)
    }

    /// Whether the caller belongs to `group`; `None` if that was not asked or not told.
    #[must_use]
    pub fn holds(&self, group: &str) -> Option<bool> {
        let is = |groups: &[Box<str>]| groups.binary_search_by(|one| (**one).cmp(group)).is_ok();
        let member = self.member().ok()?;
        is(&self.about).then(|| is(member))
    }
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
    /// The client that the token was issued to (`azp`, `appid`, `client_id`); for an agent, the agent.
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
    /// Which groups of a code host the caller belongs to; `None` as long as nobody was asked.
    pub reviewers: Option<Arc<ReviewerGroups>>,
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
pub struct Principal {
    caller: Arc<Caller>,
    /// What the caller's token is bound to, if anything.
    binding: Option<Arc<Binding>>,
    /// The certificate with which the caller came.
    certificate: Option<PeerCertificate>,
}

impl Principal {
    /// The proof: called where the signature and every claim were checked, and nowhere else.
    pub(in crate::identity) fn verified(mut caller: Caller) -> Self {
        // Nobody takes themselves for a trigger of the gate's, whatever an issuer calls its clients.
        caller.client = caller.client.filter(|client| !client.starts_with(TRIGGER));
        Self::of_trigger(caller)
    }

    /// A trigger of the policies, of which the gate itself knows for whom it acts.
    pub(in crate::identity) fn of_trigger(caller: Caller) -> Self {
        Self { caller: Arc::new(caller), binding: None, certificate: None }
    }

    /// The same whose token counts only with what it is bound to: whoever admits the caller to
    /// something looks at [`Self::binding`] first.
    pub(in crate::identity) fn bound(self, binding: Option<Binding>) -> Self {
        Self { binding: binding.map(Arc::new), ..self }
    }

    /// The holder of a certificate that was verified.
    pub(in crate::identity) const fn certified(caller: Arc<Caller>, certificate: PeerCertificate) -> Self {
        Self { caller, binding: None, certificate: Some(certificate) }
    }

    /// The same who came with this certificate: they stand no longer than it does.
    #[must_use]
    pub fn with_certificate(self, certificate: PeerCertificate) -> Self {
        Self { certificate: Some(certificate), ..self }
    }

    /// What the caller's token is bound to.
    #[must_use]
    pub fn binding(&self) -> Option<&Binding> {
        self.binding.as_deref()
    }

    /// The certificate with which the caller came.
    #[must_use]
    pub const fn certificate(&self) -> Option<&PeerCertificate> {
        self.certificate.as_ref()
    }

    /// What a handle for this caller is bound to: what the caller is.
    pub(in crate::identity) fn binds(&self) -> Option<Binding> {
        match (self.binding(), &self.certificate) {
            (Some(binding), _) => Some(binding.clone()),
            (None, Some(certificate)) if self.proven() == Proven::Certificate => {
                Some(Binding { certificate: Some(*certificate.fingerprint()), key: None })
            }
            (None, _) => None,
        }
    }

    /// How the caller proved who they are.
    #[must_use]
    pub fn proven(&self) -> Proven {
        let by_certificate = |certificate: &PeerCertificate| {
            certificate.caller().is_some_and(|holder| holder.token_digest == self.caller.token_digest)
        };
        if self.subjects_at_issue.is_some() {
            return Proven::Handle;
        }
        match self.binding() {
            Some(Binding { key: Some(_), .. }) => Proven::KeyBound,
            Some(Binding { key: None, .. }) => Proven::CertificateBound,
            None if self.certificate.as_ref().is_some_and(by_certificate) => Proven::Certificate,
            None => Proven::Bearer,
        }
    }

    /// Whether what the caller came with still stands: for now only a certificate can be withdrawn.
    ///
    /// # Errors
    /// [`BadCertificate`].
    pub fn stands(&self, now: Timestamp) -> Result<(), BadCertificate> {
        self.certificate.as_ref().map_or(Ok(()), |certificate| certificate.stands(now))
    }

    /// The same caller, as software that acts with their token.
    #[must_use]
    pub fn as_agent(&self) -> Self {
        Self { caller: Arc::new(self.caller.as_agent()), ..self.clone() }
    }

    /// The same caller, of whom a directory was asked because the token does not carry all groups.
    #[must_use]
    pub fn with_groups_asked(&self, asked: Arc<AskedGroups>) -> Self {
        let caller = Caller { groups: Groups::Asked(asked), ..Caller::clone(&self.caller) };
        Self { caller: Arc::new(caller), ..self.clone() }
    }

    /// The same caller, with what is known of their groups at code hosts.
    #[must_use]
    pub fn with_reviewers(&self, reviewers: Arc<ReviewerGroups>) -> Self {
        let caller = Caller { reviewers: Some(reviewers), ..Caller::clone(&self.caller) };
        Self { caller: Arc::new(caller), ..self.clone() }
    }

    /// A principal out of nothing, for unit tests of the rooms behind this one.
    #[cfg(test)]
    pub(crate) fn for_tests(caller: Caller) -> Self {
        Self::verified(caller)
    }
}

impl Deref for Principal {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({})", self.caller.id)
    }
}
