//! What is said on the change: pure.

use serde_json::Value;

use super::run::{Asked, Say};
use crate::{cloud::Cloud, http::legible, policy::trigger::Report, time::Timestamp};

/// Characters of a reason that is told.
const LONGEST_WHY: usize = 1_000;

/// What a message is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    /// The run's id.
    pub run: &'a str,
    /// The trigger's name.
    pub trigger: &'a str,
    /// What the trigger has told.
    pub report: &'a Report,
    /// What it puts.
    pub put: Option<&'a Asked>,
    /// The host of Resource Manager.
    pub host: &'a str,
    /// The decision on it.
    pub decision: Option<&'a str>,
}

impl About<'_> {
    /// It was started, or is registered.
    pub fn started(&self, now: Timestamp) -> Say {
        let is_job = self.put.is_some_and(Asked::is_job);
        let verb = if is_job { "started" } else { "registered" };
        // Of what ends by itself it is not known yet whether it is well.
        self.say("started", &format!("{verb} {}", self.what()), if is_job { None } else { Some(1) }, now)
    }

    /// It is not started.
    pub fn refused(&self, why: &str, now: Timestamp) -> Say {
        self.say("refused", &format!("did not start {}: {}", self.what(), told(why)), Some(-1), now)
    }

    /// It has ended.
    pub fn ended(&self, how: &str, well: bool, now: Timestamp) -> Say {
        let text = format!("{} has ended: {}", self.what(), told(how));
        self.say("ended", &text, Some(if well { 1 } else { -1 }), now)
    }

    fn say(&self, key: &str, text: &str, vote: Option<i8>, now: Timestamp) -> Say {
        let mut lines = vec![format!("amlgate: trigger `{}`: {text}", self.trigger)];
        lines.extend(self.link().filter(|_| self.report.url));
        lines.extend(self.decision.map(|decision| format!("decision {decision}")));
        let vote = self.report.label.as_ref().zip(vote).map(|(label, vote)| (label.to_string(), vote));
        let mark = format!("amlgate-run: {} {key}", self.run);
        Say { text: lines.join("\n"), mark, vote, since: now.as_millis(), tries: 0 }
    }

    /// What is put, by its place in its workspace or registry.
    fn what(&self) -> String {
        let Some(put) = self.put else { return "anything".to_owned() };
        let tail = put.resource().rsplit_once("/Microsoft.MachineLearningServices/");
        format!("`{}`", tail.map_or_else(|| put.resource(), |(_, tail)| tail))
    }

    /// A job in its cloud's studio.
    fn link(&self) -> Option<String> {
        let resource = self.put.filter(|put| put.is_job())?.resource();
        let (workspace, name) = resource.rsplit_once("/jobs/")?;
        let studio = Cloud::studio_beside(self.host)?;
        Some(format!("{studio}/runs/{name}?wsid={workspace}"))
    }
}

/// A reason in one paragraph that ends somewhere.
fn told(why: &str) -> String {
    let line = why.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    legible(&line.chars().take(LONGEST_WHY).collect::<String>())
}

/// What Azure says is wrong, as far as it says so.
pub(super) fn error_of(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = body.pointer("/error/message").and_then(Value::as_str);
    message.map(|message| format!(": {}", told(message))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/jobs/j";

    fn with<T>(label: Option<&str>, url: bool, target: &str, say: impl FnOnce(About<'_>) -> T) -> T {
        let report = Report { label: label.map(Into::into), url };
        let put = Asked { target: target.to_owned(), body: String::new() };
        say(About {
            run: "r",
            trigger: "train",
            report: &report,
            put: Some(&put),
            host: "management.azure.com",
            decision: Some("d"),
        })
    }

    fn now() -> Timestamp {
        Timestamp::from_secs(9)
    }

    #[test]
    fn messages_say_what_came_of_it_with_links_and_votes_where_they_are_wanted() {
        let said = with(Some("Verified"), true, JOB, |about| about.started(now()));
        let expected = "amlgate: trigger `train`: started `workspaces/w/jobs/j`\nhttps://ml.azure.com/runs/j?wsid=/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w\ndecision d";
        assert_eq!((&*said.text, &*said.mark, &said.vote), (expected, "amlgate-run: r started", &None));
        let said = with(Some("Verified"), false, JOB, |about| about.ended("Completed", true, now()));
        assert!(said.text.contains("has ended: Completed") && !said.text.contains("https"), "{said:?}");
        assert_eq!(said.vote, Some(("Verified".into(), 1)));
        let said = with(Some("Verified"), true, JOB, |about| about.ended("Failed", false, now()));
        assert_eq!((&*said.mark, said.vote), ("amlgate-run: r ended", Some(("Verified".into(), -1))));
        let said = with(None, true, JOB, |about| about.refused("no\n entry\u{202e}", now()));
        assert!(said.text.contains("did not start `workspaces/w/jobs/j`: no; entry\u{fffd}"), "{said:?}");
        assert_eq!(said.vote, None);
        let asset = JOB.replace("jobs/j", "data/d/versions/1");
        let said = with(Some("V"), true, &asset, |about| about.started(now()));
        assert!(said.text.contains("registered `workspaces/w/data/d/versions/1`"), "{said:?}");
        assert!(!said.text.contains("https") && said.vote == Some(("V".into(), 1)), "{said:?}");
    }

    #[test]
    fn what_azure_says_is_told_in_one_line() {
        assert_eq!(error_of(br#"{"error":{"code":"X","message":"no such\ncompute"}}"#), ": no such; compute");
        assert_eq!(error_of(b"<html>"), "");
    }
}
