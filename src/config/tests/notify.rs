//! `notify`: what is wrong with a channel is said at its place.

use std::fs;

use super::{GOOD, folder, load, said};
use crate::config::{
    notified,
    settings::{Hook, SinkKind},
};

/// [`GOOD`] with channels, from line 15 on, and a sink.
fn with(channels: &str) -> String {
    let signing = "signing_key: {file: audit.key}";
    let sink = format!("{signing}, sinks: [{{name: siem, file: {{path: a}}}}]");
    GOOD.replace("policies: policies/", &format!("notify:\n{channels}\npolicies: policies/"))
        .replace(signing, &sink)
}

const SLACK: &str = "slack: {url: {file: seal.key}}";

#[test]
fn channels_of_each_kind_are_taken_and_begin_with_what_comes() {
    let folder = folder();
    let text = with(
        "  - {name: a, slack: {url: {file: seal.key}}}
  - {name: b, teams: {url: {file: seal.key}}, events: [asked], approvers: [platform]}
  - {name: c, webhook: {url: \"https://hooks.corp/in?x=1\", secret: {file: seal.key}}, entries: [one, two]}",
    );
    fs::write(folder.path().join("amlgate.yaml"), &text).unwrap();
    let settings = load(&folder.path().join("amlgate.yaml")).unwrap();
    let kinds: Vec<_> = settings.notify.iter().map(|channel| &channel.kind).collect();
    let [
        SinkKind::Channel { filter: usual, .. },
        SinkKind::Channel { filter, .. },
        SinkKind::Channel { hook, .. },
    ] = kinds[..]
    else {
        panic!("{kinds:?}")
    };
    assert_eq!(usual.events.len(), 9);
    assert_eq!(filter.events.iter().map(|told| told.name).collect::<Vec<_>>(), ["break_glass", "asked"]);
    assert!(matches!(hook, Hook::Webhook { target, .. } if target == "/in?x=1"));
    assert!(settings.notify.iter().all(|channel| channel.start == crate::audit::sinks::Start::Now));
    let warned =
        settings.warnings.iter().any(|w| w.message.contains("cannot say where requests are answered"));
    assert!(warned, "there is no console: {:?}", settings.warnings);
    let notified = notified(&folder.path().join("amlgate.yaml"));
    let entries: Vec<_> = notified.entries.iter().map(|entry| entry.value.as_str()).collect();
    assert_eq!(entries, ["one", "two"]);
}

#[test]
fn each_fault_of_a_channel_is_said_at_its_place() {
    let folder = folder();
    for (channel, expected) in [
        (String::new(), "16:5 the channel `a` is exactly one of `slack`, `teams`, `webhook`"),
        (format!("{SLACK}, teams: {{url: {{file: seal.key}}}}"), "16:5 the channel `a` is exactly one of"),
        ("slack: {url: \"https://hooks.slack.com/x\"}".into(), "16:28 expected mapping start"),
        ("slack: {url: {file: none.url}}".into(), "16:35 `"),
        ("webhook: {url: \"https://h/x\"}".into(), "16:25 missing field `secret`"),
        (
            "webhook: {url: \"http://h/x\", secret: {file: seal.key}}".into(),
            "16:30 `http://h` would be plaintext",
        ),
        ("webhook: {url: hooks, secret: {file: seal.key}}".into(), "16:30 `hooks` is not a URL"),
        (format!("{SLACK}, events: [answered]"), "16:56 `answered` is none of `asked`, `voted`,"),
        (format!("{SLACK}, events: []"), "16:55 `events` is empty, so that nothing would be told"),
        (format!("{SLACK}, approvers: []"), "16:58 `approvers` is empty"),
        (format!("{SLACK}, secret: x"), "16:47 unknown field `secret`"),
        (
            format!("{SLACK}}}\n  - {{name: a, {SLACK}"),
            "17:12 a channel or a sink called `a` is there already",
        ),
        (
            format!("{SLACK}}}\n  - {{name: siem, {SLACK}"),
            "17:12 a channel or a sink called `siem` is there already",
        ),
    ] {
        let said = said(folder.path(), &with(&format!("  - {{name: a, {channel}}}")));
        assert!(said.iter().any(|s| s.starts_with(expected)), "{channel}: {said:?} has no `{expected}`");
    }
}
