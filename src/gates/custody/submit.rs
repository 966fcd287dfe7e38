//! A job's submission: which commit it comes from, and the stamp that says by which decision it went.
//!
//! A CI job's token names its commit, and whoever issued it vouches for that. Where the caller's does
//! not, the commit that the job's own properties name is taken for what it is, a claim. Neither counts
//! with changes that are in no commit.

use serde_json::{Map, Value, json};

use crate::{
    azureml::{BodyRefusal, Inspected},
    identity::{Caller, PrincipalKind},
};

/// Properties in which clients write the commit.
const COMMITS: [&str; 2] = ["mlflow.source.git.commit", "azureml.git.commit"];
/// Properties in which they write whether the tree had other changes.
const DIRTY: [&str; 2] = ["azureml.git.dirty", "mlflow.source.git.dirty"];
/// What the gate alone writes.
const OURS: &str = "amlgate.";
/// The decision by which a job was sent.
pub(super) const DECISION: &str = "amlgate.decision";
const COMMIT: &str = "amlgate.commit";
const KNOWN: &str = "amlgate.commit_known_by";

/// How a job's commit is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Whoever issued the CI job's token says so.
    Token,
    /// The job's own properties say so: whoever submitted it could have written another.
    Claimed,
    /// The gate itself says so: a trigger started the job when it was merged.
    Trigger,
}

impl Known {
    /// The word in the record and in the job's properties.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Claimed => "claimed",
            Self::Trigger => "trigger",
        }
    }
}

/// The commit that a job is submitted from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tie {
    /// The commit, in lower case.
    pub commit: String,
    /// How it is known.
    pub known: Known,
    /// The repository or project that the token is for: a claim's name and its value.
    pub repository: Option<(String, String)>,
}

/// The commit that a job with these properties is submitted from, by this caller.
///
/// # Errors
/// Why none can be told.
pub fn tie(caller: &Caller, job: &Value) -> Result<Tie, String> {
    let written = member(job, "properties").and_then(Value::as_object);
    let claimed = claimed(written)?;
    let dirty = dirty(written)?;
    if dirty == Some(true) {
        return Err("it was submitted from a tree with changes that are in no commit".to_owned());
    }
    match (vouched(caller)?, claimed) {
        (Some(Vouched { commit, known: Known::Trigger, .. }), Some(claimed)) if commit != claimed => {
            Err(format!("it claims commit {claimed}, and it was started because {commit} was merged"))
        }
        (Some(Vouched { commit, .. }), Some(claimed)) if commit != claimed => {
            Err(format!("it claims commit {claimed}, and the caller's token is for {commit}"))
        }
        (Some(Vouched { commit, known, repository }), _) => {
            Ok(Tie { commit, known, repository: Some(repository) })
        }
        (None, Some(_)) if dirty.is_none() => {
            Err(format!("it claims a commit, and not by `{}` that nothing was changed since", DIRTY[0]))
        }
        (None, Some(commit)) => Ok(Tie { commit, known: Known::Claimed, repository: None }),
        (None, None) => Err("neither the caller's token nor its own properties name a commit".to_owned()),
    }
}

/// What the token of a CI job says, or the gate of a trigger.
struct Vouched {
    commit: String,
    known: Known,
    /// The claim that names the repository or project, and its value.
    repository: (String, String),
}

/// The commit in the token of a CI job, and of which repository or project: `sha` and `repository_id`
/// of GitHub Actions, `sha` and `project_id` of GitLab.
fn vouched(caller: &Caller) -> Result<Option<Vouched>, String> {
    if let Some((sha, project)) = caller.merged() {
        let commit = commit(sha).ok_or("the merge that started it names no whole commit")?;
        let repository = ("gerrit".to_owned(), project);
        return Ok(Some(Vouched { commit, known: Known::Trigger, repository }));
    }
    // A person's token may carry claims that the person wrote.
    if caller.kind != PrincipalKind::Machine {
        return Ok(None);
    }
    let text = |name: &str| match caller.claims.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    let repository = ["repository_id", "project_id"]
        .into_iter()
        .find_map(|name| text(name).map(|value| (name.to_owned(), value)));
    let (Some(sha), Some(repository)) = (text("sha"), repository) else { return Ok(None) };
    if caller.from_pull_request {
        return Err("the caller's token is of a run that a pull request started".to_owned());
    }
    let commit = commit(&sha).ok_or("the caller's token names no whole commit by `sha`")?;
    Ok(Some(Vouched { commit, known: Known::Token, repository }))
}

fn claimed(written: Option<&Map<String, Value>>) -> Result<Option<String>, String> {
    let mut found: Option<String> = None;
    for name in COMMITS {
        let Some(value) = written.and_then(|written| property(written, name)) else { continue };
        let named = value.as_str().and_then(commit);
        let named = named.ok_or_else(|| format!("its property `{name}` names no whole commit"))?;
        match &found {
            Some(other) if *other != named => {
                return Err("its properties name two commits".to_owned());
            }
            Some(_) | None => found = Some(named),
        }
    }
    Ok(found)
}

/// Whether the tree had changes; `None` if nothing says so.
pub(super) fn dirty(written: Option<&Map<String, Value>>) -> Result<Option<bool>, String> {
    let mut found = None;
    for name in DIRTY {
        let Some(value) = written.and_then(|written| property(written, name)) else { continue };
        let says = match value {
            Value::Bool(dirty) => Some(*dirty),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let says = says.ok_or_else(|| format!("its property `{name}` is neither `True` nor `False`"))?;
        found = Some(found.unwrap_or(false) || says);
    }
    Ok(found)
}

/// A whole commit, in lower case: SHA-1 or SHA-256.
fn commit(text: &str) -> Option<String> {
    let whole = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    whole.then(|| text.to_ascii_lowercase())
}

/// A member that is there and not null, whatever its case.
pub(super) fn member<'a>(of: &'a Value, name: &str) -> Option<&'a Value> {
    property(of.as_object()?, name)
}

pub(super) fn property<'a>(of: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    of.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).filter(|v| !v.is_null())
}

/// What the gate writes into a job that it sends.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'s> {
    /// The decision; none for a job that is there already, whose stamp stays.
    pub decision: Option<&'s str>,
    /// The commit, where it is known.
    pub tie: Option<&'s Tie>,
}

/// The body with the gate's stamp among the job's properties; whatever the client wrote under the
/// gate's own names is not sent. A client that changes a job sends back what it read, so that this is
/// no offence.
///
/// # Errors
/// If the job's properties are no object: then there is nowhere to write it.
pub fn stamped(body: &Inspected, stamp: Stamp<'_>) -> Result<Inspected, BodyRefusal> {
    let no_object = |path: &str| BodyRefusal::Ambiguous(format!("`{path}` must be an object"));
    let mut value = body.value().clone();
    let job = value.as_object_mut().and_then(|body| open(body, "properties"));
    let job = job.ok_or_else(|| no_object("$.properties"))?;
    let written = open(job, "properties").ok_or_else(|| no_object("$.properties.properties"))?;
    written.retain(|name, _| !name.get(..OURS.len()).is_some_and(|head| head.eq_ignore_ascii_case(OURS)));
    if let Some(decision) = stamp.decision {
        written.insert(DECISION.to_owned(), json!(decision));
        if let Some(tie) = stamp.tie {
            written.insert(COMMIT.to_owned(), json!(tie.commit));
            written.insert(KNOWN.to_owned(), json!(tie.known.name()));
        }
    }
    let bytes = serde_json::to_vec(&value).map_err(|error| BodyRefusal::Ambiguous(error.to_string()))?;
    Inspected::parse(&bytes)
}

/// An object among the members, made if there is none.
fn open<'m>(members: &'m mut Map<String, Value>, name: &str) -> Option<&'m mut Map<String, Value>> {
    let spelled = members.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
    let inner = members.entry(spelled.unwrap_or_else(|| name.to_owned())).or_insert(Value::Null);
    if inner.is_null() {
        *inner = Value::Object(Map::new());
    }
    inner.as_object_mut()
}

#[cfg(test)]
mod tests;
