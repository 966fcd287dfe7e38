//! Statements and chains as callers see them.

use schemars::JsonSchema;
use serde::Serialize;

use crate::lineage::{Chain, Kept, KeyId, ModelId, OfModel};

/// A page.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LineagePage")]
pub struct Listing {
    /// The newest first.
    pub statements: Vec<Line>,
    /// Where to go on, if more may be there: `cursor` of the next call.
    pub next: Option<String>,
}

/// A statement of where a model came from.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Statement")]
pub struct Line {
    /// Its id: the SHA-256 of the provenance's envelope.
    pub id: String,
    /// The model that it is kept for.
    pub model: String,
    /// That as people call it, `M:V`.
    pub name: String,
    /// When it was made.
    #[schemars(extend("format" = "date-time"))]
    pub made: String,
    /// The decision that let the model in.
    pub decision: String,
    /// Whether its signatures are good under the keys in force, and it says what it is kept for.
    pub verified: bool,
    /// Why it is not verified.
    pub problem: Option<String>,
    /// The keys whose signatures of it are good.
    pub signers: Vec<String>,
    /// What it knows the model by, as `algorithm:value`.
    pub digest: Option<String>,
    /// The commit, if it is verified.
    pub commit: Option<String>,
    /// Where the repository is.
    pub repository: Option<String>,
    /// The branch that the commit is on.
    pub branch: Option<String>,
    /// Where people read the reviewed change.
    pub change: Option<String>,
    /// Who approved it.
    pub approvers: Vec<String>,
}

/// The chain of custody of one version of a model.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Lineage")]
pub struct ChainView {
    /// The model.
    pub model: String,
    /// Whether some statement of it holds.
    pub verified: bool,
    /// The newest that does, by its id.
    pub statement: Option<String>,
    /// The keys whose signatures of that are good.
    pub signers: Vec<String>,
    /// What that tells.
    pub chain: Option<Chain>,
    /// Everything that was stated of the model, the newest first, at most 16.
    pub statements: Vec<Line>,
}

impl Line {
    /// Of a kept statement.
    pub fn of(kept: &Kept) -> Self {
        let row = &kept.row;
        let checked = kept.checked.as_ref();
        let chain = checked.ok().map(|verified| &verified.chain);
        let of_chain = |part: &dyn Fn(&Chain) -> &String| chain.map(|chain| part(chain).clone());
        Self {
            id: row.id.clone(),
            model: row.named.clone(),
            name: ModelId::parse(&row.named).map_or_else(|| row.named.clone(), |model| model.short()),
            made: row.made.to_rfc3339(),
            decision: row.decision.clone(),
            verified: checked.is_ok(),
            problem: checked.err().map(ToString::to_string),
            signers: checked.map(|verified| names(&verified.signers)).unwrap_or_default(),
            digest: chain.map(|_| row.digest.clone()),
            commit: of_chain(&|chain| &chain.commit.id),
            repository: of_chain(&|chain| &chain.repository),
            branch: of_chain(&|chain| &chain.branch),
            change: of_chain(&|chain| &chain.change_url),
            approvers: chain.map(|chain| chain.approvers.clone()).unwrap_or_default(),
        }
    }
}

impl ChainView {
    /// Of all that was stated of a model.
    pub fn of(found: &OfModel) -> Self {
        let newest = found.verified();
        Self {
            model: found.model.clone(),
            verified: newest.is_some(),
            statement: newest.map(|(row, _)| row.id.clone()),
            signers: newest.map(|(_, verified)| names(&verified.signers)).unwrap_or_default(),
            chain: newest.map(|(_, verified)| verified.chain.clone()),
            statements: found.kept.iter().map(Line::of).collect(),
        }
    }
}

fn names(keys: &[KeyId]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}
