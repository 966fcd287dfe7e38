//! One run: what is known of it, and what follows from that without asking anybody.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    gates::review::merges::{Merge, Party},
    http::legible,
    policy::{ActsAs, trigger::OURS},
    time::Timestamp,
};

/// Characters of a tag's value: what Azure takes.
const LONGEST_TAG: usize = 256;
/// The first wait before something is tried again, and the longest.
const WAIT: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(900));

/// The tag by which a run knows again what it has put.
pub(super) const RUN_TAG: &str = "amlgate.run";

/// What is kept of a run: JSON in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// What was merged.
    pub merge: Merge,
    /// How far it is.
    pub stage: Stage,
    /// For whom it acts, once that is known: issuer and subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// What it puts: once that is known it stays the same, whatever becomes of the policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put: Option<Asked>,
    /// The decision that was last made on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// How often the same was tried in vain.
    #[serde(default)]
    pub tries: u32,
    /// What is to be said on the change, in order.
    #[serde(default)]
    pub say: Vec<Say>,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// It is to be started.
    Due,
    /// People are asked whether it may be.
    Waits {
        /// The request that they answer.
        request: String,
    },
    /// What it put is there, and has not ended.
    Started,
    /// Nothing more comes of it.
    Over,
}

/// What is put at Resource Manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// Path and query.
    pub target: String,
    /// The body.
    pub body: String,
}

impl Asked {
    /// The id of what is put.
    pub fn resource(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// Whether it is something that goes on and ends.
    pub fn is_job(&self) -> bool {
        self.resource().rsplit('/').nth(1).is_some_and(|kind| kind.eq_ignore_ascii_case("jobs"))
    }
}

/// What is to be said on the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Say {
    /// The message without its mark.
    pub text: String,
    /// The last line, which no other message has.
    pub mark: String,
    /// A label and the vote on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vote: Option<(String, i8)>,
    /// Since when, in milliseconds since 1970.
    pub since: u64,
    /// How often that failed.
    #[serde(default)]
    pub tries: u32,
}

impl Run {
    /// Of something that was merged.
    pub fn of(merge: Merge) -> Self {
        Self { merge, stage: Stage::Due, person: None, put: None, decision: None, tries: 0, say: Vec::new() }
    }

    /// As it is kept.
    pub fn written(&self) -> String {
        // What is made of texts and numbers has a form in JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// For whom it acts.
    pub fn served(&self, acts_as: ActsAs) -> Option<&Party> {
        match acts_as {
            ActsAs::Submitter => self.merge.submitter.as_ref(),
            ActsAs::Owner => Some(&self.merge.owner),
            ActsAs::Uploader => Some(&self.merge.uploader),
        }
    }

    /// The gate's tags on what is put.
    pub fn tags(
        &self,
        id: &str,
        trigger: &str,
        person: &str,
        approvers: &[String],
    ) -> Vec<(&'static str, String)> {
        let merge = &self.merge;
        let tags = [
            (RUN_TAG, id.to_owned()),
            ("amlgate.trigger", trigger.to_owned()),
            ("amlgate.commit", merge.commit.clone()),
            ("amlgate.change", merge.url.clone()),
            ("amlgate.subject", merge.subject.clone()),
            ("amlgate.for", person.to_owned()),
            ("amlgate.approvers", approvers.join(", ")),
        ];
        debug_assert!(tags.iter().all(|(name, _)| name.starts_with(OURS)), "policies keep these names free");
        let cut = |value: String| legible(&value.chars().take(LONGEST_TAG).collect::<String>());
        tags.into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name, cut(value)))
            .collect()
    }
}

/// How long is waited before something is tried again that was tried so often in vain.
pub(super) fn wait(tries: u32) -> Duration {
    let (first, longest) = WAIT;
    first.saturating_mul(1 << tries.min(16)).min(longest)
}

/// Whether what is there was put by a run.
pub(super) fn is_of(found: &serde_json::Value, run: &str) -> bool {
    let tag = found.pointer("/properties/tags").and_then(|tags| tags.get(RUN_TAG));
    tag.and_then(serde_json::Value::as_str) == Some(run)
}

/// How a job ended, if it has.
pub(super) fn ended(job: &serde_json::Value) -> Option<&str> {
    let status = job.pointer("/properties/status").and_then(serde_json::Value::as_str)?;
    ["Completed", "Failed", "Canceled", "NotResponding"]
        .into_iter()
        .find(|end| status.eq_ignore_ascii_case(end))
}

impl Say {
    /// Whether it makes no sense to say it any more.
    pub fn is_stale(&self, now: Timestamp, after: Duration) -> bool {
        now.since(Timestamp::from_millis(self.since)) > after
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub fn merge() -> Merge {
        let party = |account, person: Option<&str>| Party {
            account,
            name: None,
            person: person.map(ToOwned::to_owned),
        };
        Merge {
            server: "main".into(),
            project: "ml/vision".to_owned(),
            branch: "main".to_owned(),
            number: 42,
            change_id: "I84".to_owned(),
            commit: "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651".to_owned(),
            merged: Timestamp::from_secs(1_800_000_000),
            subject: "Train\nv3 \u{202e}".to_owned(),
            url: "https://gerrit.corp/c/ml/vision/+/42".to_owned(),
            owner: party(1, Some("corp:t/a")),
            uploader: party(2, None),
            submitter: Some(party(3, Some("corp:t/b"))),
        }
    }

    #[test]
    fn a_run_is_read_as_it_was_kept() {
        let mut run = Run::of(merge());
        assert_eq!(serde_json::from_str::<Run>(&run.written()).unwrap(), run);
        run.stage = Stage::Waits { request: "r".into() };
        run.put = Some(Asked { target: "/w/jobs/j?v=1".into(), body: "{}".into() });
        run.say = vec![Say {
            text: "x".into(),
            mark: "m".into(),
            vote: Some(("Verified".into(), -1)),
            since: 7,
            tries: 2,
        }];
        assert_eq!(serde_json::from_str::<Run>(&run.written()).unwrap(), run);
    }

    #[test]
    fn it_acts_for_whoever_the_trigger_says() {
        let run = Run::of(merge());
        let person = |acts_as| run.served(acts_as).and_then(|party| party.person.as_deref());
        assert_eq!(person(ActsAs::Submitter), Some("corp:t/b"));
        assert_eq!(person(ActsAs::Owner), Some("corp:t/a"));
        assert_eq!(person(ActsAs::Uploader), None);
    }

    #[test]
    fn tags_say_where_it_comes_from_in_what_azure_takes() {
        let run = Run::of(merge());
        let approvers = vec!["corp:t/c".to_owned(); 60];
        let tags = run.tags("id", "train", "corp:t/b", &approvers);
        let of = |name: &str| &tags.iter().find(|(tag, _)| *tag == name).unwrap().1;
        assert_eq!((&**of(RUN_TAG), &**of("amlgate.for")), ("id", "corp:t/b"));
        assert!(tags.iter().all(|(_, value)| value.chars().count() <= LONGEST_TAG), "{tags:?}");
        assert!(!of("amlgate.subject").contains(['\n', '\u{202e}']), "{tags:?}");
        assert!(run.tags("id", "train", "p", &[]).iter().all(|(tag, _)| *tag != "amlgate.approvers"));
    }

    #[test]
    fn what_is_there_is_known_again_by_its_tag_alone() {
        assert!(is_of(&json!({"properties": {"tags": {"amlgate.run": "a"}}}), "a"));
        for other in [
            json!({}),
            json!({"properties": {"tags": {"amlgate.run": "b"}}}),
            json!({"tags": {"amlgate.run": "a"}}),
        ] {
            assert!(!is_of(&other, "a"), "{other}");
        }
        let job = |status: &str| json!({"properties": {"status": status}});
        assert_eq!(ended(&job("Completed")), Some("Completed"));
        assert_eq!(
            (ended(&job("Running")), ended(&job("CancelRequested")), ended(&json!({}))),
            (None, None, None)
        );
        let put = |target: &str| Asked { target: target.into(), body: String::new() };
        assert!(put("/w/jobs/j?api-version=1").is_job() && !put("/w/data/jobs/versions/1").is_job());
    }

    #[test]
    fn waits_grow_and_are_bounded() {
        let waits: Vec<_> = [0, 1, 2, 5, 6, 40, u32::MAX].map(|tries| wait(tries).as_secs()).into();
        assert_eq!(waits, [15, 30, 60, 480, 900, 900, 900]);
    }
}
