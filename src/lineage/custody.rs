//! The facts of one model's descent, and what each rests on.

use aws_lc_rs::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{audit::note::hex, http::is_deceptive, lineage::ModelId, time::Timestamp};

/// The longest text of a fact, in bytes: ids, URLs and names are far shorter.
const MAX_TEXT: usize = 2_048;
/// The most items of a list.
pub(super) const MAX_ITEMS: usize = 256;

/// What a fact rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", from = "String")]
#[schemars(rename = "LinkBasis")]
pub enum Basis {
    /// The gate saw it happen, and wrote it down then; or it stands in a token that it verified.
    Witnessed,
    /// The gate read it, with its own credential, where it is kept.
    Read,
    /// Somebody wrote it, and nothing else vouches for it.
    Claimed,
}

impl Basis {
    /// The word of statements.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Witnessed => "witnessed",
            Self::Read => "read",
            Self::Claimed => "claimed",
        }
    }

    /// From the word; what no version of the gate wrote is only claimed.
    #[must_use]
    pub fn of_word(word: &str) -> Self {
        [Self::Witnessed, Self::Read].into_iter().find(|b| b.word() == word).unwrap_or(Self::Claimed)
    }
}

/// A word that no version of the gate wrote is only a claim.
impl From<String> for Basis {
    fn from(word: String) -> Self {
        Self::of_word(&word)
    }
}

/// The registered model.
///
/// in-toto demands a digest of every subject, and Azure ML gives none of most models' contents. Then
/// the subject's digest is of the id alone, and under a name of its own, `azuremlAssetId`, which no
/// verifier takes for a digest of the content: the SHA-256 of the id in lower case, in hexadecimal.
/// in-toto allows other names than its own (digest set, version 1.1), and tells whoever does not know
/// one to pass over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// Which.
    pub id: ModelId,
    /// The SHA-256 of its content, where Azure gives one.
    pub content: Option<[u8; 32]>,
}

impl Asset {
    /// What statements know it by: `sha256:` and its content's digest, or `azuremlAssetId:` and its id's.
    #[must_use]
    pub fn digest(&self) -> String {
        match &self.content {
            Some(content) => format!("sha256:{}", hex(content)),
            None => format!("azuremlAssetId:{}", hex(&self.id_digest())),
        }
    }

    pub(super) fn id_digest(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, self.id.folded().as_bytes()).as_ref());
        out
    }
}

/// The job that made the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id: `azureml://.../jobs/NAME`, or as Resource Manager names it.
    pub id: String,
    /// When it began, as Azure tells.
    pub started: Option<Timestamp>,
    /// When it ended, as Azure tells.
    pub finished: Option<Timestamp>,
    /// The snapshot of code that it ran.
    pub code: Option<Dependency>,
    /// The environment that it ran in.
    pub environment: Option<Dependency>,
    /// What it read.
    pub data: Vec<Dependency>,
    /// What it measured.
    pub metrics: Vec<Metric>,
}

/// What went into the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// What the job calls it; of code and environment it is not written.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The SHA-256 of its content, where Azure gives one.
    pub content: Option<[u8; 32]>,
    /// How the gate knows.
    pub basis: Basis,
}

/// A number that the job logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its value in decimal digits, as Azure gives it.
    pub value: String,
}

/// The commit, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where the repository is: `https://...`.
    pub repository: String,
    /// The project's name on its host.
    pub project: String,
    /// The branch that the commit is on.
    pub branch: String,
    /// The commit: 40 or 64 hexadecimal digits.
    pub commit: String,
    /// How the gate knows that the job ran this commit.
    pub basis: Basis,
}

/// The reviewed change that brought the commit onto its branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number on its host, or what stands for it.
    pub number: String,
    /// Where people read it.
    pub url: String,
    /// The state of the review that was judged: Gerrit's `meta_rev_id`.
    pub meta_revision: Option<String>,
    /// Whose change it is.
    pub owner: Option<String>,
    /// When it was merged.
    pub merged: Option<Timestamp>,
    /// Who approved it.
    pub approvers: Vec<Approver>,
}

/// Somebody whose approval counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approver {
    /// The account on the code host.
    pub account: String,
    /// The person that the gate knows behind it.
    pub person: Option<String>,
    /// What they voted on: `Code-Review`.
    pub label: Option<String>,
    /// What they gave it.
    pub value: Option<i16>,
}

/// What the gate decided, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The decision's id, as in the record.
    pub decision: String,
    /// The digest of the policies in force.
    pub policy: [u8; 32],
    /// The entry that demanded the review.
    pub entry: String,
    /// Who registered the model.
    pub caller: String,
    /// When the review was verified.
    pub at: Timestamp,
}

/// A model's whole descent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Custody {
    /// The model.
    pub model: Asset,
    /// The job that made it.
    pub job: Job,
    /// The code that the job ran.
    pub source: Source,
    /// The review of that code.
    pub change: Change,
    /// What the gate made of it.
    pub decided: Decided,
}

/// Why no statement is made of facts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CustodyError {
    /// A text is too long, empty, or holds what would deceive a reader.
    #[error(
        "{0} cannot stand in a statement: it is empty, longer than {MAX_TEXT} bytes, or holds hidden characters"
    )]
    Text(&'static str),
    /// A list is too long.
    #[error("a statement holds at most {MAX_ITEMS} {0}")]
    Many(&'static str),
    /// Not the name of a commit.
    #[error("the commit is not 40 or 64 hexadecimal digits in lower case")]
    Commit,
    /// Nobody approved.
    #[error("nobody approved the change")]
    NoApprover,
}

impl Custody {
    /// Whether a statement can be made of it: nothing is cut or rewritten to fit, because what is signed
    /// is what was decided by.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub fn check(&self) -> Result<(), CustodyError> {
        let Self { model: _, job, source, change, decided } = self;
        text("the job's id", &job.id)?;
        for dependency in [&job.code, &job.environment].into_iter().flatten().chain(&job.data) {
            text("the name of what the job read", &dependency.name)?;
            text("the id of what the job read", &dependency.id)?;
        }
        few("inputs", job.data.len())?;
        for metric in &job.metrics {
            text("a metric's name", &metric.name)?;
            text("a metric's value", &metric.value)?;
        }
        few("metrics", job.metrics.len())?;
        text("the repository", &source.repository)?;
        text("the project", &source.project)?;
        text("the branch", &source.branch)?;
        let hex = source.commit.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !hex || !matches!(source.commit.len(), 40 | 64) {
            return Err(CustodyError::Commit);
        }
        text("the change's number", &change.number)?;
        text("the change's URL", &change.url)?;
        for some in [&change.meta_revision, &change.owner].into_iter().flatten() {
            text("the change's owner or revision", some)?;
        }
        if change.approvers.is_empty() {
            return Err(CustodyError::NoApprover);
        }
        few("approvers", change.approvers.len())?;
        for approver in &change.approvers {
            text("an approver", &approver.account)?;
            for some in [&approver.person, &approver.label].into_iter().flatten() {
                text("an approver's name or label", some)?;
            }
        }
        text("the decision", &decided.decision)?;
        text("the entry", &decided.entry)?;
        text("the caller", &decided.caller)
    }
}

fn text(what: &'static str, text: &str) -> Result<(), CustodyError> {
    if is_text(text) { Ok(()) } else { Err(CustodyError::Text(what)) }
}

/// Whether a text may stand in a statement.
pub(super) fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TEXT && !text.contains(is_deceptive)
}

fn few(what: &'static str, items: usize) -> Result<(), CustodyError> {
    if items > MAX_ITEMS { Err(CustodyError::Many(what)) } else { Ok(()) }
}
