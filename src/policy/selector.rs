//! The keys of an entry that select, and what each of them says of a request.

use std::{fmt, sync::Arc};

use crate::azureml::Effects;

/// A key of an entry that decides whether it concerns a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// `who`: the caller's subjects.
    Who,
    /// `routes`.
    Routes,
    /// `kinds`.
    Kinds,
    /// `effects`.
    Effects,
    /// `secrets`, where it selects.
    Secrets,
    /// `methods`.
    Methods,
    /// `path`.
    Path,
    /// `from`, where it is no demand.
    From,
    /// `during`, where it is no demand.
    During,
    /// `unless`: matches unless the caller is exempt.
    Unless,
    /// `scope`, of one act.
    Scope,
    /// `role`, of one act.
    Role,
    /// `rights`, of one act.
    Rights,
    /// `actions`, of one act.
    Actions,
    /// `as`, of one act: what the human behind an agent may do.
    As,
    /// `when`, of one act.
    When,
    /// `step_up`: never a selector, always a demand.
    StepUp,
}

impl Selector {
    /// Those that look at the request as a whole, cheapest first.
    pub const OF_REQUEST: [Self; 10] = [
        Self::Who,
        Self::Routes,
        Self::Kinds,
        Self::Effects,
        Self::Secrets,
        Self::Methods,
        Self::Path,
        Self::From,
        Self::During,
        Self::Unless,
    ];

    /// Those that look at one (action, resource) pair, cheapest first.
    pub const OF_ACT: [Self; 6] =
        [Self::Scope, Self::Role, Self::Actions, Self::Rights, Self::When, Self::As];

    /// The key in a policy file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Who => "who",
            Self::Routes => "routes",
            Self::Kinds => "kinds",
            Self::Effects => "effects",
            Self::Secrets => "secrets",
            Self::Methods => "methods",
            Self::Path => "path",
            Self::From => "from",
            Self::During => "during",
            Self::Unless => "unless",
            Self::Scope => "scope",
            Self::Role => "role",
            Self::Rights => "rights",
            Self::Actions => "actions",
            Self::As => "as",
            Self::When => "when",
            Self::StepUp => "step_up",
        }
    }
}

/// What a selector says of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Check {
    Matches,
    Fails,
    Unevaluable(Cause),
}

/// Why a selector cannot be evaluated.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cause {
    /// The token names more groups than it carries.
    Overage,
    /// The token does not carry all groups, and the directory that was asked did not tell.
    Groups(Arc<str>),
    /// Who is in a group of a code host could not be read.
    Reviewers(Arc<str>),
    /// A pull request started the run that calls, and nothing names such events.
    PullRequest,
    /// Software acts, and nothing names such callers.
    Agent,
    /// The request does not say what it is done to.
    NoResource,
    /// These effects could not be determined.
    UnclearEffects(Effects),
    /// What Azure lets the caller do is not known, or hangs on a condition.
    Azure(String),
    /// The condition has no value.
    Condition(String),
    /// It reads what the record of a past request does not hold.
    NotRecorded(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overage => f.write_str("the token does not carry all of the caller's groups"),
            Self::Groups(why) => {
                write!(
                    f,
                    "the token does not carry all of the caller's groups, and they could not be read: {why}"
                )
            }
            Self::Reviewers(why) => {
                write!(f, "whether the caller is in a group of reviewers is not known: {why}")
            }
            Self::PullRequest => f.write_str(
                "a pull request started the run that calls, and no subject of it names its `event_name`",
            ),
            Self::Agent => f.write_str(
                "software acts with the token, and no subject of it names agents (`agent`, or `kind: agent`)",
            ),
            Self::NoResource => f.write_str("the request does not say which resource it concerns"),
            Self::UnclearEffects(effects) => {
                let names: Vec<_> = effects.iter().map(|e| format!("`{}`", e.name())).collect();
                write!(f, "the request does not say whether it brings about {}", names.join(", "))
            }
            Self::Condition(why) | Self::Azure(why) => f.write_str(why),
            Self::NotRecorded(what) => write!(f, "{what} is not in the record"),
        }
    }
}

impl From<bool> for Check {
    fn from(matches: bool) -> Self {
        if matches { Self::Matches } else { Self::Fails }
    }
}
