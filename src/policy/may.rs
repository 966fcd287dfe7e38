//! What somebody may do, in the words that they themselves are told: for `can-i`, `whoami --can` and
//! the API.
//!
//! The decision is the gate's own, and so is what is said of it: a refusal's code, cause and cure,
//! and the entries that allow. The entries that came close are about others, and are shown to whoever
//! may read the policies alone (`policy why`).

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DenialCode, PolicySet, described::Described, permit::Told};

/// Whether they may do one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CanI")]
pub struct Answer {
    /// `allow`, `needs_review`, `needs_approval` or `deny`.
    #[schemars(extend("enum" = ["allow", "needs_review", "needs_approval", "deny"]))]
    pub decision: String,
    /// What was asked.
    pub about: String,
    /// The code of the refusal.
    pub code: Option<String>,
    /// Why it is refused.
    pub cause: Option<String>,
    /// How to mend that.
    pub cure: Option<String>,
    /// The entries that allow it.
    pub allowed_by: Vec<Named>,
    /// The role assignment in Azure that an entry with `rights: azure` goes by.
    pub through: Option<String>,
    /// Where it is refused all the same.
    pub but: Vec<But>,
}

/// An entry, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "EntryName")]
pub struct Named {
    /// Its name.
    pub name: String,
}

/// An effect with which something is refused that is allowed without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RefusedEffect")]
pub struct But {
    /// The effect.
    pub effect: String,
    /// The code of the refusal.
    pub code: String,
    /// Why.
    pub cause: String,
}

impl Answer {
    /// The gate's own decision on a question, as the caller is told it.
    #[must_use]
    pub fn of(set: &PolicySet, described: &Described) -> Self {
        let judgement = described.judge(set);
        let denial = judgement.denial.as_ref();
        let Told { decision, code, cause } = judgement.told();
        Self {
            decision: decision.to_owned(),
            about: described.about(),
            code: code.map(ToOwned::to_owned),
            cause,
            cure: denial.map(|denial| denial.cure.clone()),
            allowed_by: judgement
                .allowed_by
                .iter()
                .map(|entry| Named { name: entry.name.to_string() })
                .collect(),
            through: described.assignment().filter(|_| denial.is_none()),
            but: But::all(set, described),
        }
    }
}

impl But {
    /// Every effect that a question hinges on.
    pub(super) fn all(set: &PolicySet, described: &Described) -> Vec<Self> {
        let hinges = described.hinges(set).into_iter();
        let each = hinges.map(|(effect, code, cause)| Self {
            effect: effect.name().to_owned(),
            code: code.name().to_owned(),
            cause,
        });
        each.collect()
    }
}

/// What somebody may do, or could if one thing more were so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CanILine")]
pub struct Line {
    /// The Azure action.
    pub action: String,
    /// Where.
    pub scope: String,
    /// `allow`, or the code of what is still demanded.
    pub decision: String,
    /// The entries that allow it.
    pub by: BTreeSet<String>,
    /// The role assignment in Azure that an entry with `rights: azure` goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// What is still demanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demanded: Option<String>,
    /// Effects with which it is refused all the same, or needs a review or an approval.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub not_with: BTreeSet<String>,
}

impl Line {
    /// What is to be said of an action at a scope; `None` where nothing but another entry would let
    /// them do it.
    #[must_use]
    pub fn of(set: &PolicySet, described: &Described, action: &str, scope: &str) -> Option<Self> {
        let judgement = described.judge(set);
        let (decision, demanded) = match &judgement.denial {
            None => match judgement.wanted() {
                None => ("allow", None),
                Some(wanted) => (wanted.code.name(), Some(wanted.words)),
            },
            // These no sign-in, place or hour changes.
            Some(denial)
                if [
                    DenialCode::AuthorizationFailed,
                    DenialCode::RequestDisallowedByPolicy,
                    DenialCode::UnknownOperation,
                ]
                .contains(&denial.code) =>
            {
                return None;
            }
            Some(denial) => (denial.code.name(), Some(denial.cause.clone())),
        };
        Some(Self {
            action: action.to_owned(),
            scope: scope.to_owned(),
            decision: decision.to_owned(),
            by: judgement.allowed_by.iter().map(|entry| entry.name.to_string()).collect(),
            through: described.assignment(),
            demanded,
            not_with: described.hinges(set).iter().map(|(effect, ..)| effect.name().to_owned()).collect(),
        })
    }
}

/// The scopes that entries name, each once, in order.
#[must_use]
pub fn scopes(set: &PolicySet) -> Vec<String> {
    let named = set.allowed_scopes().into_iter().chain(set.mirrored_scopes());
    let mut all: Vec<_> = named.map(|scope| scope.as_str().to_owned()).collect();
    all.sort_unstable_by_key(|scope| scope.to_lowercase());
    all.dedup_by_key(|scope| scope.to_lowercase());
    all
}
