//! Whether a job is what was submitted from its commit: a pure function of what the gate kept and what
//! Azure shows.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::submit::{DECISION, Tie, dirty, member, property};
use crate::{azureml::ResourceId, time::Timestamp};

/// Azure's clock may be so much behind the gate's.
const SKEW: Duration = Duration::from_secs(60);
/// A job is made so soon after its decision: a call may wait for people meanwhile.
const MADE_WITHIN: Duration = Duration::from_secs(600);

/// What the gate kept of a submission besides its commit: JSON in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The commit, or why it cannot be told.
    pub from: Result<Tie, String>,
    /// Who submitted it.
    pub principal: String,
    /// The code as the body named it.
    pub code: Option<String>,
    /// The environment, likewise.
    pub environment: Option<String>,
    /// Outputs that the body put at a place of its own choice.
    pub placed: Vec<String>,
    /// SHA-256 of the body as it was sent, in hexadecimal.
    pub body: String,
}

impl Sent {
    /// What a job's `properties` say of it; `body` is the digest.
    #[must_use]
    pub fn of(job: &Value, from: Result<Tie, String>, principal: String, body: String) -> Self {
        let outputs = member(job, "outputs").and_then(Value::as_object);
        let placed = outputs.into_iter().flatten().filter(|(_, output)| member(output, "uri").is_some());
        Self {
            from,
            principal,
            code: said(job, "codeId"),
            environment: said(job, "environmentId"),
            placed: placed.map(|(name, _)| name.clone()).collect(),
            body,
        }
    }
}

/// An output that a job registers when it ends, and that lies at a place of its submitter's choice:
/// what is there may be somebody else's. Children included; deeper than bodies are read there are none.
pub(super) fn registers_elsewhere(job: &Value) -> Option<&str> {
    let outputs = member(job, "outputs").and_then(Value::as_object);
    let chosen = |output: &Value| {
        let named = ["assetName", "asset_name", "name"].iter().any(|name| member(output, name).is_some());
        named && ["uri", "path"].iter().any(|name| member(output, name).is_some())
    };
    let own = outputs.into_iter().flatten().find(|(_, output)| chosen(output));
    let children = member(job, "jobs").and_then(Value::as_object);
    own.map(|(name, _)| name.as_str())
        .or_else(|| children.into_iter().flatten().find_map(|(_, child)| registers_elsewhere(child)))
}

/// A submission as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The decision by which it was sent.
    pub decision: String,
    /// When.
    pub made: Timestamp,
    /// The rest.
    pub sent: Sent,
}

/// Where a chain of custody breaks, in words for the caller: behind "the job ...".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// It was not sent by the gate.
    #[error("was not submitted through this gate while it kept jobs' commits")]
    Unknown,
    /// Its commit could not be told then.
    #[error("has no commit: {0}")]
    Untied(String),
    /// It has not ended well.
    #[error("is {0}, not Completed")]
    NotCompleted(String),
    /// It is not what was sent.
    #[error("is not what was submitted: {0}")]
    Changed(String),
    /// It did not make this.
    #[error("did not make this: {0}")]
    NotItsOutput(String),
    /// Its tree had changes.
    #[error("was submitted from a tree with changes that are in no commit")]
    Dirty,
}

/// The decision by which a job was sent, as the job itself has it.
///
/// # Errors
/// [`Break::Unknown`] for one that bears no stamp.
pub fn decision(job: &Value) -> Result<&str, Break> {
    let written = member(job, "properties").and_then(|properties| member(properties, "properties"));
    let stamp = written.and_then(|written| member(written, DECISION)).and_then(Value::as_str);
    stamp.ok_or(Break::Unknown)
}

/// The commit of a job whose output is a model: `job` as Azure shows it, `kept` as the gate sent it.
///
/// # Errors
/// [`Break`].
pub fn chain(
    id: &ResourceId,
    job: &Value,
    kept: Option<&Submission>,
    output: Option<&Arc<str>>,
) -> Result<Tie, Break> {
    let stamp = decision(job)?;
    let kept = kept.filter(|kept| kept.decision == stamp).ok_or(Break::Unknown)?;
    let properties = member(job, "properties").ok_or(Break::Unknown)?;
    made(job, kept.made)?;
    let written = member(properties, "properties").and_then(Value::as_object);
    match dirty(written) {
        Ok(Some(true)) => return Err(Break::Dirty),
        Ok(Some(false) | None) => {}
        Err(why) => return Err(Break::Changed(why)),
    }
    let tie = kept.sent.from.as_ref().map_err(|why| Break::Untied(why.clone()))?;
    let status = member(properties, "status").and_then(Value::as_str).unwrap_or("of no known status");
    if !status.eq_ignore_ascii_case("Completed") {
        return Err(Break::NotCompleted(status.to_owned()));
    }
    let home = id.as_str().rsplit_once("/jobs/").map_or("", |(home, _)| home);
    let same = |name: &str, kind: &str, sent: Option<&str>| {
        let shown = said(properties, name);
        sent.map(|sent| whole(sent, home, kind)) == shown.map(|shown| whole(&shown, home, kind))
    };
    if !same("codeId", "codes", kept.sent.code.as_deref()) {
        return Err(Break::Changed("its `codeId` is another".to_owned()));
    }
    // Where the job named none, Azure chose.
    if kept.sent.environment.is_some()
        && !same("environmentId", "environments", kept.sent.environment.as_deref())
    {
        return Err(Break::Changed("its `environmentId` is another".to_owned()));
    }
    if let Some(output) = output {
        let outputs = member(properties, "outputs").and_then(Value::as_object);
        if outputs.and_then(|outputs| property(outputs, output)).is_none() {
            return Err(Break::NotItsOutput(format!("it has no output `{output}`")));
        }
        if kept.sent.placed.iter().any(|placed| placed.eq_ignore_ascii_case(output)) {
            let why = format!("output `{output}` lies where whoever submitted it chose");
            return Err(Break::NotItsOutput(why));
        }
    }
    Ok(tie.clone())
}

/// A job that was made at another time than it was sent is another of the same name.
fn made(job: &Value, sent: Timestamp) -> Result<(), Break> {
    let created = member(job, "systemData").and_then(|data| member(data, "createdAt"));
    let created = created.and_then(Value::as_str).and_then(instant);
    let Some(created) = created else {
        return Err(Break::Changed("Azure does not say when it was made".to_owned()));
    };
    if created.plus(SKEW) < sent || created > sent.plus(MADE_WITHIN) {
        return Err(Break::Changed(format!("it was made at {}", created.to_rfc3339())));
    }
    Ok(())
}

fn instant(text: &str) -> Option<Timestamp> {
    let found = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    u64::try_from(found.timestamp_millis()).ok().map(Timestamp::from_millis)
}

fn said(of: &Value, name: &str) -> Option<String> {
    member(of, name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

/// An asset's id in one spelling: clients may write `azureml:NAME:VERSION`, and Azure shows the id.
fn whole(text: &str, home: &str, kind: &str) -> String {
    let text = text.trim_end_matches('/');
    let bare = match text.split_at_checked("azureml:".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("azureml:") && !rest.starts_with("//") => rest,
        Some(_) | None => text,
    };
    match bare.split_once(':') {
        Some((name, version)) if !bare.contains('/') => format!("{home}/{kind}/{name}/versions/{version}"),
        Some(_) | None => bare.to_owned(),
    }
    .to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
