//! `triggers`: what the gate starts when a change is merged, and for whom.
//!
//! A trigger gives nobody a right: what it asks for is judged as the call of an agent that acts for the
//! person whose doing it was, and is allowed only where an entry says so. What stands for its
//! placeholders is what the gate read at the code host and nobody may choose: numbers, commits, and names
//! that stand in the policies themselves. Words of a change's author never get into a body.

pub(super) mod fits;
pub mod template;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::template::{Unfilled, fill};
use super::EntryRef;
use crate::azureml::{BodyRefusal, Inspected};

/// Which version of Resource Manager's API is spoken where the trigger does not say.
pub const API_VERSION: &str = "2025-12-01";
/// What the tags begin with that only the gate writes.
pub const OURS: &str = "amlgate.";

/// What is started, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// Its name and place.
    pub entry: EntryRef,
    /// The Gerrit, by its name in the configuration.
    pub server: Arc<str>,
    /// The project.
    pub project: Arc<str>,
    /// The branch, without `refs/heads/`.
    pub branch: Arc<str>,
    /// For whom it acts.
    pub acts_as: ActsAs,
    /// The path and query of what is put at Resource Manager, with placeholders.
    pub(super) put: Box<str>,
    /// What stands for `${scope}`.
    pub(super) scope: Option<Box<str>>,
    /// What is put there, with placeholders.
    pub(super) body: Map<String, Value>,
    /// What is told to the change.
    pub report: Report,
}

/// Whose doing it is that a change was merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActsAs {
    /// Whoever had it merged.
    Submitter,
    /// Whoever made the change.
    Owner,
    /// Whoever uploaded what was merged.
    Uploader,
}

impl ActsAs {
    /// The word in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Submitter => "submitter",
            Self::Owner => "owner",
            Self::Uploader => "uploader",
        }
    }
}

/// What is told to the change besides what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The label that is voted on: +1 for what went well, -1 for what did not.
    pub label: Option<Arc<str>>,
    /// Whether links stand in the message.
    pub url: bool,
}

/// The change that a trigger starts by.
#[derive(Debug, Clone, Copy)]
pub struct Change<'c> {
    /// Its number.
    pub number: u64,
    /// The commit that was merged, whole and in lower case.
    pub commit: &'c str,
}

/// What is put at Resource Manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Path and query.
    pub target: String,
    /// The body: JSON.
    pub body: String,
}

impl Put {
    /// The id of what is put.
    #[must_use]
    pub fn resource(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }
}

impl Trigger {
    /// What is put for a change, with the gate's tags in it.
    ///
    /// # Errors
    /// [`BodyRefusal`] where what comes out is no body; compiling a trigger has tried that.
    pub fn put(&self, change: Change<'_>, tags: &[(&str, String)]) -> Result<Put, BodyRefusal> {
        let filled = |text: &str| {
            fill(text, |name| self.word(name, change)).map_err(|why| BodyRefusal::Ambiguous(why.to_string()))
        };
        let mut target = filled(&self.put)?;
        if !target.contains('?') {
            target.push_str("?api-version=");
            target.push_str(API_VERSION);
        }
        let mut body = Value::Object(self.body.clone());
        each_text(&mut body, &mut |text| {
            *text = filled(text)?;
            Ok(())
        })?;
        tagged(&mut body, tags).ok_or_else(|| {
            BodyRefusal::Ambiguous("`$.properties` and `$.properties.tags` must be objects".to_owned())
        })?;
        let body = body.to_string();
        Inspected::parse(body.as_bytes())?;
        Ok(Put { target, body })
    }

    /// What stands for a placeholder.
    fn word(&self, name: &str, change: Change<'_>) -> Option<String> {
        Some(match name {
            "scope" => self.scope.as_deref()?.to_owned(),
            "trigger" => self.entry.name.to_string(),
            "server" => self.server.to_string(),
            "project" => self.project.to_string(),
            "branch" => self.branch.to_string(),
            "change" => change.number.to_string(),
            "commit" => change.commit.to_owned(),
            "commit12" => change.commit.get(..12)?.to_owned(),
            _ => return None,
        })
    }

    /// Whether placeholders of a text are known, and whether they may stand where only `these` may.
    ///
    /// # Errors
    /// [`Unfilled`].
    pub(super) fn check(text: &str, these: &[&str]) -> Result<(), Unfilled> {
        fill(text, |name| these.contains(&name).then(String::new)).map(drop)
    }
}

/// The placeholders of a body; those of a path are the ones whose values are names in Azure, too.
pub(super) const IN_BODY: &[&str] =
    &["scope", "trigger", "server", "project", "branch", "change", "commit", "commit12"];
/// See [`IN_BODY`].
pub(super) const IN_PATH: &[&str] = &["scope", "change", "commit", "commit12"];

/// Does something to each text of a document, names of members left out.
fn each_text<E>(value: &mut Value, change: &mut dyn FnMut(&mut String) -> Result<(), E>) -> Result<(), E> {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().try_for_each(|item| each_text(item, change)),
        Value::Object(members) => members.values_mut().try_for_each(|member| each_text(member, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Puts the gate's tags beside those that stand there; `None` if there is nowhere to put them.
fn tagged(body: &mut Value, tags: &[(&str, String)]) -> Option<()> {
    let properties = member(body.as_object_mut()?, "properties")?;
    let all = member(properties, "tags")?;
    all.extend(tags.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    Some(())
}

/// An object among the members, whatever its case; made if there is none.
fn member<'m>(of: &'m mut Map<String, Value>, name: &str) -> Option<&'m mut Map<String, Value>> {
    let spelled = of.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
    of.entry(spelled.unwrap_or_else(|| name.to_owned())).or_insert_with(|| json!({})).as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(put: &str, body: Value) -> Trigger {
        Trigger {
            entry: EntryRef { name: "train".into(), file: "p.yaml".into(), line: 1 },
            server: "main".into(),
            project: "ml/vision".into(),
            branch: "main".into(),
            acts_as: ActsAs::Submitter,
            put: put.into(),
            scope: Some("/subscriptions/s/w".into()),
            body: body.as_object().unwrap().clone(),
            report: Report { label: None, url: true },
        }
    }

    const COMMIT: &str = "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651";

    #[test]
    fn what_is_put_names_the_change_and_leaves_azures_own_expressions_alone() {
        let body = json!({"properties": {
            "command": "train --sha ${commit} --in ${{inputs.data}} $HOME $${scope} ${branch}",
            "Tags": {"team": "a"},
            "list": ["${change}", 7, true, null],
        }});
        let tags = [("amlgate.change", "42".to_owned())];
        let put = trigger("${scope}/jobs/vision-${change}-${commit12}", body)
            .put(Change { number: 42, commit: COMMIT }, &tags)
            .unwrap();
        assert_eq!(put.resource(), "/subscriptions/s/w/jobs/vision-42-b2b5f7c8fb8f");
        assert_eq!(put.target, format!("{}?api-version={API_VERSION}", put.resource()));
        let body: Value = serde_json::from_str(&put.body).unwrap();
        let properties = &body["properties"];
        let command = format!("train --sha {COMMIT} --in ${{{{inputs.data}}}} $HOME ${{scope}} main");
        assert_eq!(properties["command"], command);
        assert_eq!(properties["Tags"], json!({"team": "a", "amlgate.change": "42"}));
        assert_eq!(properties["list"], json!(["42", 7, true, null]));
    }

    #[test]
    fn the_same_change_is_put_as_the_same_bytes() {
        let one = trigger("${scope}/jobs/a?api-version=1", json!({"properties": {"z": 1, "a": "${commit}"}}));
        let change = Change { number: 1, commit: COMMIT };
        assert_eq!(one.put(change, &[]).unwrap(), one.put(change, &[]).unwrap());
        assert!(one.put(change, &[]).unwrap().target.ends_with("/jobs/a?api-version=1"));
    }

    #[test]
    fn tags_need_a_place_to_stand() {
        for body in [json!({"properties": 1}), json!({"properties": {"tags": []}})] {
            assert!(trigger("/x", body).tried().is_err());
        }
        assert!(trigger("/x", json!({})).tried().unwrap().body.contains("amlgate.trigger"));
    }
}
