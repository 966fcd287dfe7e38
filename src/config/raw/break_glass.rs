//! `break_glass` as it is written.

use serde::Deserialize;

use super::Text;
use crate::yaml::Spanned;

/// `break_glass`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// Subjects of the policies: whoever is of one of them may.
    pub who: Vec<Text>,
    /// Who else must say yes.
    #[serde(default)]
    pub by: Vec<Spanned<Confirming>>,
    /// How long it is open at most.
    pub max: Option<Text>,
    /// How long after its end the review is due.
    pub review_by: Option<Text>,
    /// Channels of `notify` that must be there to hear of it.
    pub notify: Option<Spanned<Vec<Text>>>,
}

/// One of `by`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirming {
    /// A subject of the policies.
    pub subject: Text,
    /// So many different people of it; one, if it is not said.
    pub count: Option<Spanned<u32>>,
}
