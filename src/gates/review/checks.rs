//! What ran on a commit at GitHub or GitLab, and whether it is what an entry demands: pure.

use super::decide::{Step, Unreviewed, no};
use crate::{
    http::legible,
    policy::review::{Requirements, Review},
};

/// Something that ran on a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub state: CheckState,
}

/// What became of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    /// It found nothing.
    Passed,
    /// It did not apply.
    Skipped,
    /// It found something, or came to nothing.
    Failed,
    /// It has not ended.
    Pending,
}

impl CheckState {
    /// As it is told and recorded.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Skipped => "SKIPPED",
            Self::Failed => "FAILED",
            Self::Pending => "PENDING",
        }
    }
}

/// What ran, and what became of it, if that is what an entry demands.
///
/// # Errors
/// [`Unreviewed`]: the first that is not.
pub(super) fn met(review: &Review, checks: &[Check]) -> Result<Vec<(String, String)>, Unreviewed> {
    let refused = |check: &Check| {
        let (name, state) = (legible(&check.name), check.state.name());
        Err(no(Step::Requirements, format!("check `{name}` is {state}")))
    };
    let passed = |check: &&Check| check.state == CheckState::Passed;
    let skipped = |check: &&Check| check.state == CheckState::Skipped;
    match &review.requirements {
        Requirements::All => {
            if let Some(one) = checks.iter().find(|one| !passed(one) && !skipped(one)) {
                return refused(one);
            }
        }
        Requirements::Named(names) => {
            for name in names {
                let mut named = checks.iter().filter(|one| one.name == **name).peekable();
                if named.peek().is_none() {
                    return Err(no(Step::Requirements, format!("there was no check `{name}`")));
                }
                let meets = |one: &&Check| passed(one) || (review.accept.not_applicable && skipped(one));
                if let Some(one) = named.find(|one| !meets(one)) {
                    return refused(one);
                }
            }
        }
    }
    Ok(checks.iter().map(|check| (check.name.clone(), check.state.name().to_owned())).collect())
}
