//! The outcome of a decision, and the proof of a favourable one.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Approval, Azure, Change, DecisionId, Lease, PolicySet, Question, Recording, RequestFacts, Review,
    Standing, StepUpWanted, StreamLimits,
};
use crate::{
    azureml::{Operation, SecretClass},
    identity::Principal,
    time::Timestamp,
};

/// Names an entry and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, schemars::JsonSchema)]
pub struct EntryRef {
    /// The entry's name.
    pub name: Arc<str>,
    /// The file, as given.
    pub file: Arc<str>,
    /// Its line, from 1.
    pub line: u32,
}

/// How a class of secrets in the answer is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretTreatment {
    /// The caller gets a handle that only the gate can redeem.
    Substitute,
    /// The caller gets the secret.
    Reveal,
}

/// What must still be satisfied before the request goes on: a closed set, so that a new gate
/// breaks every `match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obligation {
    /// At most `requests` in `every`, counted per `per`.
    Limit {
        /// The entry that demands it.
        entry: EntryRef,
        /// Requests in the window.
        requests: u32,
        /// The window.
        every: std::time::Duration,
        /// What is counted together.
        per: LimitPer,
    },
    /// People must have said yes.
    Approval(Arc<Approval>),
    /// Clutch must let the caller do it, too.
    Opinion {
        /// The entry that demands it.
        entry: EntryRef,
    },
    /// The code behind it must have been reviewed and merged.
    Review(Arc<Review>),
}

impl Obligation {
    /// The entry that demands it.
    #[must_use]
    pub fn entry(&self) -> &EntryRef {
        match self {
            Self::Limit { entry, .. } | Self::Opinion { entry } => entry,
            Self::Approval(approval) => &approval.entry,
            Self::Review(review) => &review.entry,
        }
    }
}

/// What a limit counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitPer {
    /// Each principal on its own.
    Person,
    /// All who match the entry together.
    Entry,
}

/// Codes of CONTRACT section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenialCode {
    /// No entry allows.
    AuthorizationFailed,
    /// An entry denies.
    RequestDisallowedByPolicy,
    /// The answer holds secrets that no entry names.
    SecretsNotGranted,
    /// A demanded network does not hold the caller.
    OutsideNetwork,
    /// A demanded time has passed or not come.
    OutsideHours,
    /// The sign-in is not what an entry demands (401).
    StepUpRequired,
    /// Too many in the window (429).
    LimitExceeded,
    /// The request cannot be named.
    UnknownOperation,
    /// People must say yes first, and nobody has been asked.
    ApprovalRequired,
    /// People have been asked, and have not answered yet.
    ApprovalPending,
    /// The code behind it is not known to be reviewed and merged.
    ReviewRequired,
    /// The same call was sent on an approval before, and its outcome is not known (409).
    AlreadySent,
}

impl DenialCode {
    /// The code as callers see it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AuthorizationFailed => "AuthorizationFailed",
            Self::RequestDisallowedByPolicy => "RequestDisallowedByPolicy",
            Self::SecretsNotGranted => "SecretsNotGranted",
            Self::OutsideNetwork => "OutsideNetwork",
            Self::OutsideHours => "OutsideHours",
            Self::StepUpRequired => "StepUpRequired",
            Self::LimitExceeded => "LimitExceeded",
            Self::UnknownOperation => "UnknownOperation",
            Self::ApprovalRequired => "ApprovalRequired",
            Self::ApprovalPending => "ApprovalPending",
            Self::ReviewRequired => "ReviewRequired",
            Self::AlreadySent => "AlreadySent",
        }
    }
}

/// An unfavourable answer, in words for the caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Denial {
    /// The code.
    pub code: DenialCode,
    /// One line: what is missing or what forbids it, with action and scope.
    pub cause: String,
    /// One line: the smallest change that would turn the decision, and who can make it; or that
    /// nobody can.
    pub cure: String,
    /// The entry that denies or demands, if one does.
    pub entry: Option<EntryRef>,
    /// Actions that no entry grants, with their scopes.
    pub missing: Vec<(String, String)>,
    /// What the next sign-in must be, if that would mend it.
    pub step_up: Option<Box<StepUpWanted>>,
    /// The request for approval that people have been asked with, if it is theirs to answer.
    pub request: Option<Box<str>>,
}

/// The whole answer of [`PolicySet::judge`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judgement {
    /// `None` allows.
    pub denial: Option<Denial>,
    /// The entries that allow, one for each act.
    pub allowed_by: Vec<EntryRef>,
    /// What must still be satisfied.
    pub obligations: Vec<Obligation>,
    /// Treatment of each class of secrets in the answer.
    pub secrets: Vec<(SecretClass, SecretTreatment)>,
    /// Dry-run entries that would have denied, where nothing else does.
    pub would_deny: Vec<EntryRef>,
    /// Selectors that could not be evaluated: entry, selector, cause.
    pub unevaluable: Vec<(EntryRef, &'static str, String)>,
    /// Values that conditions read, redacted and bounded, for the record.
    pub read: Vec<(String, serde_json::Value)>,
    /// Which bodies are kept in the record, if an entry says so.
    pub record: Option<Box<Recording>>,
    /// Entries that would have counted, had the caller not broken the glass.
    pub lifted: Vec<EntryRef>,
    /// If it is denied: the smallest set of changes, none of which makes the caller somebody else,
    /// that turns it; empty if none does. `Denial::cure` says it in words, and
    /// [`flips`](super::flip::flips) finds what joining subjects would save.
    pub flip: BTreeSet<Change>,
}

impl Judgement {
    /// The approvals that it still needs.
    pub fn approvals(&self) -> impl Iterator<Item = &Arc<Approval>> {
        self.obligations.iter().filter_map(|obligation| match obligation {
            Obligation::Approval(approval) => Some(approval),
            Obligation::Limit { .. } | Obligation::Opinion { .. } | Obligation::Review(_) => None,
        })
    }

    /// The entries that want another's word.
    pub fn opinions(&self) -> impl Iterator<Item = &EntryRef> {
        self.obligations.iter().filter_map(|obligation| match obligation {
            Obligation::Opinion { entry } => Some(entry),
            Obligation::Limit { .. } | Obligation::Approval(_) | Obligation::Review(_) => None,
        })
    }

    /// The reviews that the code behind it needs.
    pub fn reviews(&self) -> impl Iterator<Item = &Arc<Review>> {
        self.obligations.iter().filter_map(|obligation| match obligation {
            Obligation::Review(review) => Some(review),
            Obligation::Limit { .. } | Obligation::Approval(_) | Obligation::Opinion { .. } => None,
        })
    }

    /// Whether anybody has to be asked before the request goes on.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.approvals().next().is_some()
            || self.opinions().next().is_some()
            || self.reviews().next().is_some()
    }

    /// The reviews and approvals that it still needs, in words, with the code with which it is refused
    /// without them; `None` if it needs none. People are asked for what was reviewed, so that comes
    /// first.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted> {
        let reviews = self.reviews().map(|review| (review.demand(), &review.entry));
        let approvals = self.approvals().map(|approval| (approval.demand(), &approval.entry));
        let (words, entries): (Vec<_>, Vec<_>) = reviews.chain(approvals).unzip();
        let code = match self.reviews().next() {
            Some(_) => DenialCode::ReviewRequired,
            None => DenialCode::ApprovalRequired,
        };
        let entries = entries.into_iter().cloned().collect();
        (!words.is_empty()).then(|| Wanted { code, words: words.join(", and "), entries })
    }

    /// What it comes to.
    #[must_use]
    pub fn told(&self) -> Told {
        let (decision, code, cause) = match (&self.denial, self.wanted()) {
            (Some(denial), _) => ("deny", Some(denial.code), Some(denial.cause.clone())),
            (None, Some(Wanted { code, words, .. })) => {
                let reviewed = self.reviews().next().is_some();
                (if reviewed { "needs_review" } else { "needs_approval" }, Some(code), Some(words))
            }
            (None, None) => ("allow", None, None),
        };
        Told { decision, code: code.map(DenialCode::name), cause }
    }
}

/// What a judgement that allows still needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// With which it is refused meanwhile.
    pub code: DenialCode,
    /// All of it, in words.
    pub words: String,
    /// The entries that demand it.
    pub entries: Vec<EntryRef>,
}

/// What a judgement comes to, in the words of `policy why`, `can-i`, the API and the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `allow`, `needs_review`, `needs_approval` or `deny`.
    pub decision: &'static str,
    /// Of what does not go on: the code with which it is refused.
    pub code: Option<&'static str>,
    /// And why.
    pub cause: Option<String>,
}

/// A favourable decision on one request: made by [`decide`] alone.
///
/// Nobody else can make one, so nothing is forwarded that was not decided:
/// ```compile_fail
/// use amlgate::policy::{Judgement, Permit};
/// fn forged(of: Permit) -> Permit {
///     Permit { judgement: Judgement::default(), ..of }
/// }
/// ```
#[derive(Debug)]
pub struct Permit {
    principal: Principal,
    operation: Operation,
    request: RequestFacts,
    judgement: Judgement,
    standing: Standing,
    azure: Azure,
    policy_digest: [u8; 32],
    generation: u64,
}

/// An unfavourable decision on one request, with what the record needs.
#[derive(Debug)]
pub struct Denied {
    /// Who asked.
    pub principal: Principal,
    /// For what.
    pub operation: Operation,
    /// The request.
    pub request: RequestFacts,
    /// The judgement; its denial is `Some`.
    pub judgement: Judgement,
    /// The policies that were in force.
    pub policy_digest: [u8; 32],
    /// Their generation.
    pub generation: u64,
}

/// Joins who and what into a decision.
///
/// # Errors
/// [`Denied`] unless the judgement allows.
pub fn decide(
    set: &PolicySet,
    principal: Principal,
    operation: Operation,
    request: RequestFacts,
    standing: Standing,
    azure: Azure,
    now: Timestamp,
) -> Result<Permit, Box<Denied>> {
    let principal = if set.is_mistaken(&principal) { principal.as_agent() } else { principal };
    let judgement = set.judge(&Question {
        caller: &principal,
        operation: &operation,
        request: &request,
        now,
        standing,
        azure: &azure,
    });
    let (policy_digest, generation) = (*set.digest(), set.generation());
    if judgement.denial.is_some() {
        return Err(Box::new(Denied { principal, operation, request, judgement, policy_digest, generation }));
    }
    Ok(Permit { principal, operation, request, judgement, standing, azure, policy_digest, generation })
}

impl Permit {
    /// The decision's id.
    #[must_use]
    pub fn decision(&self) -> DecisionId {
        self.request.decision
    }

    /// Who asked.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// For what.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> &RequestFacts {
        &self.request
    }

    /// The judgement.
    #[must_use]
    pub fn judgement(&self) -> &Judgement {
        &self.judgement
    }

    /// The policies that were in force.
    #[must_use]
    pub fn policy_digest(&self) -> &[u8; 32] {
        &self.policy_digest
    }

    /// Their generation: a live stream's lease is asked again when it is no longer the one in force.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What entitled the caller, besides entries.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// What was read of the caller's own rights in Azure.
    #[must_use]
    pub fn azure(&self) -> &Azure {
        &self.azure
    }

    /// What a live stream keeps of this decision, to be asked again while it runs.
    #[must_use]
    pub fn lease(&self, limits: StreamLimits) -> Lease {
        Lease::of(self, limits)
    }
}
