//! Kept statements, read again. A store is no witness: whoever can write to it may put or change rows,
//! so that each is checked under the keys in force before it counts, and nothing is shown of one that
//! does not hold but that it is there.

use std::time::Duration;

use super::{
    Keys, Opened, Statements,
    chain::Chain,
    dsse::{Envelope, EnvelopeError},
    keys::KeyId,
    model::ModelId,
    named::{Version, Versions},
    statement::{SUMMARY, Statement},
    statements::{MOST, sha256},
};
use crate::{
    audit::note::hex,
    store::{Below, StatementRow, StoreError},
    time::Timestamp,
};

/// Statements that are looked at for one page, however few of them hold.
const LOOKED_AT: usize = 500;
/// Statements that are read from the store at once.
const BATCH: u32 = 50;
/// So much may the clocks of two replicas differ.
const SKEW: Duration = Duration::from_secs(300);

/// A statement as it was kept, and what the check made of it.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The row, which nothing vouches for.
    pub row: StatementRow,
    /// What its signatures vouch for, or why they do not.
    pub checked: Result<Verified, Unverified>,
}

/// What a key in force vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The chain that the provenance tells.
    pub chain: Chain,
    /// The keys whose signatures of the provenance are good.
    pub signers: Vec<KeyId>,
}

/// Why a kept statement does not count.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unverified {
    /// One of its two envelopes is not to be believed.
    #[error("{what} is refused: {why}")]
    Envelope {
        /// Which.
        what: &'static str,
        /// Why, on one line.
        why: String,
    },
    /// Both are, and are kept for something else than they say.
    #[error("it is signed, but {0}")]
    Other(&'static str),
}

/// What is asked of a list of statements.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Made before this instant, or in it under a smaller id.
    pub before: (Timestamp, String),
    /// Of these models alone.
    pub of: Option<Versions>,
    /// Only those that hold.
    pub verified: bool,
    /// The most.
    pub most: usize,
}

/// A part of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The newest first.
    pub kept: Vec<Kept>,
    /// Where to go on, if more may be there.
    pub next: Option<(Timestamp, String)>,
}

/// What was stated of one version of a model.
#[derive(Debug, Clone)]
pub struct OfModel {
    /// Its id, as it was spelled.
    pub model: String,
    /// The newest first; never empty.
    pub kept: Vec<Kept>,
}

/// Why nothing is told of a model.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nobody stated anything of it.
    #[error("no statement is kept of this model: it was not let in by an entry that demands a review")]
    Nothing,
    /// The name is not enough.
    #[error("several models are called so, name one by its id: {}", .0.join(", "))]
    Several(Vec<String>),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OfModel {
    /// The newest statement that holds.
    #[must_use]
    pub fn verified(&self) -> Option<(&StatementRow, &Verified)> {
        self.kept.iter().find_map(|kept| Some((&kept.row, kept.checked.as_ref().ok()?)))
    }
}

impl Keys {
    /// Checks a kept statement: both envelopes, that the summary is of this very provenance, and that they
    /// say what the row is found by.
    ///
    /// # Errors
    /// [`Unverified`].
    pub fn check(&self, row: &StatementRow) -> Result<Verified, Unverified> {
        let other = |why| Err(Unverified::Other(why));
        let Opened { statement, signers } = self.open("the provenance", &row.provenance)?;
        let Opened { statement: summary, .. } = self.open("the summary", &row.summary)?;
        if hex(&sha256(row.provenance.as_bytes())) != row.id {
            return other("its id is not the digest of its envelope");
        }
        let Some(chain) = Chain::of(&statement) else { return other("it tells no chain of custody") };
        let about = ModelId::parse(&chain.model);
        if !about
            .is_some_and(|id| id.folded() == row.model && id.tail() == row.tail && id.as_str() == row.named)
        {
            return other("it is about another model than it is kept for");
        }
        if chain.decision != row.decision {
            return other("it is of another decision than it is kept for");
        }
        let digests = &chain.subject.digest;
        if !digests.iter().any(|(algorithm, value)| format!("{algorithm}:{value}") == row.digest) {
            return other("it knows the model by another digest than it is kept with");
        }
        if !is_summary(&summary, &statement, &row.id) {
            return other("the summary beside it is not of this provenance");
        }
        // When it was made is not signed; when it was decided is, and comes before.
        let decided = chrono::DateTime::parse_from_rfc3339(&chain.decided).ok();
        let decided = decided.and_then(|at| u64::try_from(at.timestamp_millis()).ok());
        if decided.is_none_or(|at| Timestamp::from_millis(at) > row.made.plus(SKEW)) {
            return other("it is said to be made before it was decided");
        }
        Ok(Verified { chain, signers })
    }

    fn open(&self, what: &'static str, envelope: &str) -> Result<Opened, Unverified> {
        let open = |text: &str| -> Result<Opened, EnvelopeError> {
            Envelope::parse(text.as_bytes())?.open(self.trusted())
        };
        open(envelope)
            .map_err(|error| Unverified::Envelope { what, why: error.to_string().replace('\n', " ") })
    }
}

fn is_summary(summary: &Statement, provenance: &Statement, envelope: &str) -> bool {
    let text = |value: Option<&serde_json::Value>| value.and_then(|v| v.as_str()).map(str::to_owned);
    let predicate = summary.predicate();
    let rests_on = predicate.get("inputAttestations").and_then(|all| all.pointer("/0/digest/sha256"));
    summary.predicate_type() == SUMMARY
        && summary.subjects() == provenance.subjects()
        && text(rests_on).as_deref() == Some(envelope)
        && text(predicate.get("verificationResult")).as_deref() == Some("PASSED")
}

impl Statements {
    /// The statement of this id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn one(&self, id: &str) -> Result<Option<Kept>, StoreError> {
        Ok(self.judged(self.store().statement(id).await?.into_iter().collect()).await.pop())
    }

    /// What was stated of a version of a model, the newest first, at most 16.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn of(&self, version: &Version) -> Result<OfModel, ReadError> {
        let rows = match version {
            // A registry is one, with or without the subscription that it is in.
            Version::Id(id) if id.tail().starts_with("registries/") => {
                let mut rows = self.store().statements_called(id.tail(), MOST).await?;
                rows.retain(|row| is_same_registry(id, row));
                rows
            }
            Version::Id(id) => self.store().statements_of(id.folded(), MOST).await?,
            Version::Tail(tail) => {
                let rows = self.store().statements_called(tail, MOST).await?;
                let mut named: Vec<String> = rows.iter().map(|row| row.model.clone()).collect();
                named.sort_unstable();
                named.dedup();
                if named.len() > 1 && !tail.starts_with("registries/") {
                    return Err(ReadError::Several(named));
                }
                rows
            }
        };
        let model = rows.first().map(|row| row.named.clone()).ok_or(ReadError::Nothing)?;
        Ok(OfModel { model, kept: self.judged(rows).await })
    }

    /// A part of everything that was stated, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn listed(&self, asked: &Listed) -> Result<Page, StoreError> {
        let below = match &asked.of {
            None => Below::Everything,
            Some(Versions::Id(path)) => Below::Id(path.clone()),
            Some(Versions::Tail(path)) => Below::Tail(path.clone()),
        };
        let (mut kept, mut looked_at) = (Vec::new(), 0);
        let (mut before, mut id) = asked.before.clone();
        loop {
            let rows = self.store().statements_before(before, &id, &below, BATCH).await?;
            let is_last = rows.len() < BATCH as usize;
            for one in self.judged(rows).await {
                (before, id) = (one.row.made, one.row.id.clone());
                looked_at += 1;
                if !asked.verified || one.checked.is_ok() {
                    kept.push(one);
                }
                if kept.len() >= asked.most {
                    return Ok(Page { kept, next: Some((before, id)) });
                }
            }
            if is_last {
                return Ok(Page { kept, next: None });
            }
            if looked_at >= LOOKED_AT {
                return Ok(Page { kept, next: Some((before, id)) });
            }
        }
    }

    async fn judged(&self, rows: Vec<StatementRow>) -> Vec<Kept> {
        let keys = self.keys();
        let mut kept = Vec::with_capacity(rows.len());
        for row in rows {
            // Signatures take a core for a while.
            tokio::task::yield_now().await;
            kept.push(Kept { checked: keys.check(&row), row });
        }
        kept
    }
}

fn is_same_registry(id: &ModelId, row: &StatementRow) -> bool {
    let theirs = ModelId::parse(&row.model);
    match (id.arm(), theirs.as_ref().and_then(ModelId::arm)) {
        (Some(ours), Some(theirs)) => ours.folded() == theirs.folded(),
        _ => true,
    }
}
