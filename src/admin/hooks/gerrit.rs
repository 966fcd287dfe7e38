//! `POST /hooks/gerrit/NAME/SECRET`: the events of Gerrit's webhooks plugin.
//!
//! They are neither signed nor authenticated, come late, twice, in any order or never. So an event names a
//! project in which something may have happened, and nothing else of it is read.

use std::collections::BTreeSet;

use serde::Deserialize;

/// Events after which a commit may be reviewed and merged that was not, or the other way round.
const TELLING: &[&str] = &[
    "change-merged",
    "comment-added",
    "vote-deleted",
    "change-restored",
    "private-state-changed",
    "ref-updated",
    "batch-ref-updated",
];
/// Where people's branches lie.
const BRANCHES: &str = "refs/heads/";

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    change: Option<Change>,
    #[serde(rename = "refUpdate")]
    updated: Option<Updated>,
    #[serde(default, rename = "refUpdates")]
    all_updated: Vec<Updated>,
}

#[derive(Deserialize)]
struct Change {
    project: String,
}

#[derive(Deserialize)]
struct Updated {
    project: String,
    #[serde(rename = "refName")]
    name: String,
}

/// The projects in which something may have happened; none if the event is about something else.
///
/// # Errors
/// What is wrong with it.
pub(super) fn projects(body: &[u8]) -> Result<BTreeSet<String>, String> {
    let event: Event = serde_json::from_slice(body)
        .map_err(|error| format!("this is no event of Gerrit's webhooks plugin: {error}"))?;
    if !TELLING.contains(&event.kind.as_str()) {
        return Ok(BTreeSet::new());
    }
    let updated = event.updated.into_iter().chain(event.all_updated);
    let updated = updated.filter(|updated| updated.name.starts_with(BRANCHES)).map(|updated| updated.project);
    Ok(event.change.map(|change| change.project).into_iter().chain(updated).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(body: &str) -> Result<Vec<String>, String> {
        projects(body.as_bytes()).map(|all| all.into_iter().collect())
    }

    #[test]
    fn what_a_real_gerrit_sends_names_its_project() {
        let of = |project: &str| Ok(vec![project.to_owned()]);
        assert_eq!(named(include_str!("events/change-merged.json")), of("ml/merge-if-necessary"));
        assert_eq!(named(include_str!("events/comment-added.json")), of("ml/merge-if-necessary"));
        assert_eq!(named(include_str!("events/project-created.json")), Ok(vec![]), "about no change");
        let meta = include_str!("events/ref-updated.json");
        assert_eq!(named(meta), Ok(vec![]), "Gerrit's own references are no branches");
        assert_eq!(named(&meta.replace("refs/meta/config", "refs/heads/main")), of("ml/merge-if-necessary"));
    }

    #[test]
    fn several_at_once_name_each_project_once() {
        let update = |project: &str, name: &str| format!(r#"{{"project":"{project}","refName":"{name}"}}"#);
        let all = [
            update("a", "refs/heads/main"),
            update("b", "refs/heads/x"),
            update("a", "refs/heads/y"),
            update("c", "refs/changes/1"),
        ];
        let body = format!(r#"{{"type":"batch-ref-updated","refUpdates":[{}]}}"#, all.join(","));
        assert_eq!(named(&body), Ok(vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn what_is_no_event_is_said_to_be_none() {
        for odd in ["", "[]", "{}", r#"{"type":1}"#, r#"{"type":"change-merged","change":{}}"#, "\u{0}"] {
            let why = named(odd).unwrap_err();
            assert!(why.starts_with("this is no event of Gerrit's webhooks plugin"), "{odd}: {why}");
        }
    }
}
