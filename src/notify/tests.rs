//! Each message against its golden file, and what nobody's words can do to it.
//! `UPDATE_GOLDEN=1 cargo test --lib notify` writes the files anew; what changed is for a person to read.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    audit::sinks::Exported,
    gates::approvals::{Claimed, Grant, Party, Request, State, Vote, call::What, request::Asked},
    policy::{Approvers, Covers},
    time::Timestamp,
};

const CONSOLE: &str = "https://console.example.com";
const ID: &str = "0192a1b2-0000-7000-8000-000000000001";
const GRANT: &str = "0192a1b2-0000-7000-8000-000000000002";

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + secs)
}

fn record(actor: &str, own: Value) -> Exported {
    let line = json!({
        "actor": {"user": {"uid": actor}},
        "time": at(0).as_millis(),
        "unmapped": {"amlgate": own},
        "user": {"uid": "corp:ann"},
    });
    Exported::new(&"amlgate-0".into(), 17, line.to_string().into_bytes())
}

fn of_request(event: &str, by: &str) -> Exported {
    let own = json!({
        "by": by, "entry": "big clusters need a second person", "event": event, "form": "1",
        "reason": "to retrain", "request": ID, "requester": "corp:ann",
    });
    record(by, own)
}

fn of_grant(event: &str) -> Exported {
    let own = json!({
        "entry": "big clusters need a second person", "event": event, "form": "1", "grant": GRANT,
        "until": at(3_600).as_millis(),
    });
    record("corp:eve", own)
}

fn party(id: &str, name: &str) -> Party {
    Party { id: id.into(), person: id.into(), agent: None, name: Some(name.into()) }
}

fn yes(id: &str, name: &str, note: Option<&str>) -> Vote {
    Vote { by: party(id, name), meets: vec![0], at: at(30).as_millis(), note: note.map(Into::into) }
}

fn request() -> Request {
    let of = |name: &str, count| Approvers::Subject { name: name.into(), count };
    let workspace =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/vision";
    Request {
        id: ID.into(),
        version: 0,
        asked: Asked {
            requester: Party { agent: Some("copilot".into()), ..party("corp:ann", "Ann Example") },
            claimed: None,
            entry: "big clusters need a second person".into(),
            version: "00".into(),
            demands: vec![of("platform", 2), Approvers::Human],
            covers: Covers::Request,
            uses: Some(1),
            valid_for: 14_400,
            bound: "bound".into(),
            never: Vec::new(),
            what: What {
                operation: "Compute_CreateOrUpdate".into(),
                actions: vec!["Microsoft.MachineLearningServices/workspaces/computes/write".into()],
                resources: vec![format!("{workspace}/computes/gpu")],
                effects: vec!["allocate_compute".into()],
                reserves: vec!["8 nodes".into(), "Standard_ND96isr_H100_v5".into()],
                method: "PUT".into(),
                route: "arm".into(),
                path: format!("{workspace}/computes/gpu"),
                ..What::default()
            },
            decision: "0192a1b2-0000-7000-8000-000000000000".into(),
            policies: "11".into(),
            reason: Some("to retrain".into()),
            ticket: Some("CHG0000001".into()),
        },
        state: State::Pending,
        votes: Vec::new(),
        made: at(0),
        expires: at(86_400),
        decided: None,
    }
}

fn answered(state: State, votes: Vec<Vote>) -> Found {
    Found::Request(Box::new(Request { state, votes, decided: Some(at(30)), ..request() }))
}

fn noticed(record: &Exported, found: &Found, now: Timestamp) -> Option<Notice> {
    let word = notice::own(record, "event").unwrap();
    let told = EVENTS.iter().find(|told| told.is(word.as_bytes())).unwrap();
    Notice::of(record, told, found, Some(CONSOLE), now)
}

/// Every event once, and those that come late.
fn cases() -> Vec<(&'static str, Exported, Found, Timestamp)> {
    let (bob, eve) = (yes("corp:bob", "Bob Example", Some("go")), yes("corp:eve", "Eve Example", None));
    let pending = |votes| Found::Request(Box::new(Request { votes, ..request() }));
    let both = answered(State::Approved, vec![bob.clone(), eve.clone()]);
    let grant = |revoked| {
        let Found::Request(request) = &both else { unreachable!() };
        Found::Grant(Box::new(Grant { revoked, ..Grant::of(request, GRANT.into(), at(0)) }))
    };
    let glass = json!({
        "break_glass": ID, "by": "corp:bob", "event": "break_glass_review_overdue", "form": "1",
        "opener": "corp:ann", "reason": "the ingress is down", "until": at(900).as_millis(),
    });
    let exporter = json!({
        "behind": 12, "event": "exporter_failing", "form": "1", "problem": "503 Service Unavailable: <busy>",
        "sink": "siem",
    });
    // The gate itself: nobody acted.
    let exporter = json!({"time": at(0).as_millis(), "unmapped": {"amlgate": exporter}}).to_string();
    let exporter = Exported::new(&"amlgate-0".into(), 17, exporter.into_bytes());
    let refused = answered(State::Denied, vec![yes("corp:bob", "Bob Example", Some("not now"))]);
    vec![
        ("asked", of_request("approval_asked", "corp:ann"), pending(Vec::new()), at(1)),
        (
            "asked, told when it was answered",
            of_request("approval_asked", "corp:ann"),
            both.clone(),
            at(2_520),
        ),
        ("asked, the store is away", of_request("approval_asked", "corp:ann"), Found::Unknown, at(200)),
        ("voted", of_request("approval_voted", "corp:bob"), pending(vec![bob]), at(1)),
        ("approved", of_request("approved", "corp:eve"), both.clone(), at(1)),
        ("denied", of_request("approval_denied", "corp:bob"), refused, at(1)),
        (
            "withdrawn",
            of_request("approval_withdrawn", "corp:ann"),
            answered(State::Withdrawn, Vec::new()),
            at(1),
        ),
        (
            "expired",
            of_request("approval_expired", "corp:ann"),
            answered(State::Expired, Vec::new()),
            at(86_400),
        ),
        (
            "denied, long forgotten",
            of_request("approval_denied", "corp:bob"),
            Found::Nothing,
            at(40 * 86_400),
        ),
        ("granted", of_grant("grant_given"), grant(false), at(1)),
        ("granted, told when it was taken back", of_grant("grant_given"), grant(true), at(600)),
        ("revoked", of_grant("grant_revoked"), grant(true), at(1)),
        ("ended", of_grant("grant_expired"), grant(false), at(14_401)),
        ("break-glass", record("corp:ann", glass), Found::Nothing, at(1)),
        ("an exporter fails", exporter, Found::Nothing, at(1)),
    ]
}

fn held(name: &str, message: impl Fn(&Exported, &Notice) -> Value) {
    let all: serde_json::Map<String, Value> = cases()
        .into_iter()
        .map(|(case, record, found, now)| {
            let notice = noticed(&record, &found, now).unwrap();
            (case.to_owned(), message(&record, &notice))
        })
        .collect();
    let text = serde_json::to_string_pretty(&all).unwrap() + "\n";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/notify/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (at, (line, expected)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(line, expected, "{name}:{}", at + 1);
    }
    assert_eq!(text.len(), expected.len(), "{name}");
}

#[test]
fn golden_slack() {
    held("slack.json", |_, notice| slack(notice));
}

#[test]
fn golden_teams() {
    held("teams.json", |_, notice| teams(notice));
}

#[test]
fn golden_webhook() {
    held("webhook.json", |record, notice| serde_json::from_slice(&data::event(record, notice)).unwrap());
}

#[test]
fn who_is_asked_sees_who_asks_for_what_on_which_resource_and_why() {
    let record = of_request("approval_asked", "corp:ann");
    let notice = noticed(&record, &Found::Request(Box::new(request())), at(1)).unwrap();
    let value = |label: &str| {
        notice.rows.iter().find(|row| row.label == label).map(|row| row.value.as_str()).unwrap_or_default()
    };
    assert_eq!(value("Who"), "Ann Example (corp:ann), through the agent copilot");
    assert!(value("On").ends_with("/workspaces/vision/computes/gpu"));
    assert_eq!((value("Why"), value("Ticket")), ("to retrain", "CHG0000001"));
    assert_eq!(value("Wanted"), "2 of platform, and the agent's own human");
    assert_eq!(notice.link.unwrap().url, format!("{CONSOLE}/requests/{ID}"));
}

#[test]
fn in_whose_name_software_asks_is_said_to_be_its_word_alone() {
    let mut asked = request();
    asked.asked.claimed =
        Some(Claimed { user: "eve@example.com".into(), issuer: "corp".into(), claim: "email".into() });
    let record = of_request("approval_asked", "corp:ann");
    let notice = noticed(&record, &Found::Request(Box::new(asked)), at(1)).unwrap();
    let row = notice.rows.iter().find(|row| row.label == "In whose name").unwrap();
    assert_eq!(row.value, "unproved: eve@example.com");
    assert_eq!(notice.data["request"]["claimed"]["user"], "eve@example.com");
}

#[test]
fn what_waits_no_longer_is_not_said_to_wait() {
    let asked = of_request("approval_asked", "corp:ann");
    let pending = Found::Request(Box::new(request()));
    assert!(noticed(&asked, &pending, at(86_399)).is_some());
    assert_eq!(noticed(&asked, &pending, at(86_400)), None, "its time is over");
    // What is forgotten, or cannot be looked up, is judged by the longest that it can have waited.
    for found in [Found::Nothing, Found::Unknown] {
        assert!(noticed(&asked, &found, at(86_399)).is_some());
        assert_eq!(noticed(&asked, &found, at(86_400)), None);
    }
    let late = noticed(&asked, &answered(State::Denied, Vec::new()), at(4_000)).unwrap();
    assert_eq!(late.title, "Approval asked (since then: denied)");
    assert!(!late.rows.iter().any(|row| ["Wanted", "Waits until"].contains(&row.label.as_str())));
    assert!(late.foot.starts_with("2027-01-15 08:00:00 UTC, told 66 min later"), "{}", late.foot);
    // What happened is told however late.
    let denied = of_request("approval_denied", "corp:bob");
    assert!(noticed(&denied, &Found::Nothing, at(10_000_000)).is_some());
}

#[test]
fn a_channel_that_says_nothing_hears_of_what_concerns_people_and_each_word_is_told_once() {
    let names: Vec<_> = Filter::usual().events.iter().map(|told| told.name).collect();
    assert_eq!(
        names,
        [
            "break_glass",
            "asked",
            "voted",
            "approved",
            "denied",
            "withdrawn",
            "expired",
            "revoked",
            "unstated_model"
        ]
    );
    for told in EVENTS {
        let word = format!("{}x", told.record);
        let word = if told.record.ends_with('_') { &word } else { told.record };
        assert_eq!(EVENTS.iter().filter(|other| other.is(word.as_bytes())).count(), 1, "{word}");
        assert_eq!(Told::named(told.name), Ok(told));
        assert_eq!(told.heard != Heard::Named, names.contains(&told.name));
    }
    assert!(Told::named("approval").unwrap_err().starts_with("`approval` is none of `asked`, "));
}

#[test]
fn lines_are_picked_by_their_event_and_by_nothing_that_somebody_wrote() {
    let filter = Filter::of(vec![Told::named("asked").unwrap()]);
    let picks = filter.picks();
    assert!(picks(&of_request("approval_asked", "corp:ann").line));
    assert!(!picks(&of_request("approved", "corp:ann").line));
    // A text that looks like it stands escaped in its line.
    let text = r#""event":"approval_asked""#;
    assert!(!picks(&record("corp:ann", json!({"event": "started", "reason": text})).line));
    // One that another member hides is found all the same, and looked at again when it is read.
    let nested = json!({"condition": {"event": "x"}, "event": "approval_asked"});
    assert!(picks(&record("corp:ann", nested).line));
    assert!(
        picks(&record("corp:ann", json!({"event": "break_glass_reviewed"})).line),
        "loud on every channel"
    );
}

/// Attacks on Slack, on Teams, and on whoever reads.
const HOSTILE: &[&str] = &[
    "<!channel> <!here> <@U012AB3CD> <#C1> <!subteam^S1>",
    "<https://evil.example|Approve now> https://evil.example www.evil.example",
    "*bold* _it_ ~no~ `code` ```block``` > quote :smile:",
    "[Approve](https://evil.example) **bold** <at>everyone</at> # head\r- item",
    "{{DATE(2027-01-15T08:00:00Z,SHORT)}} ${secret} @everyone @here",
    "ok\nApproved by: corp:bob\r\nSince then: approved\u{2028}x\u{85}y\tz",
    "\u{202e}devorppa\u{202c} in\u{200b}vis\u{2066}ible http:\u{200d}//evil.example \u{7}\u{1b}[31m",
    "&lt;!channel&gt; &amp; \" \\ \u{0} </script>",
];

/// A notice in which every text of others is `text`.
fn hostile(text: &str) -> Vec<(Exported, Notice)> {
    let by =
        Party { id: text.into(), person: text.into(), agent: Some(text.into()), name: Some(text.into()) };
    let list = vec![text.to_owned(); 8];
    let mut asked = request();
    asked.votes = vec![Vote { by: by.clone(), meets: vec![0], at: 0, note: Some(text.into()) }; 3];
    asked.asked.requester = by;
    asked.asked.claimed = Some(Claimed { user: text.into(), issuer: "corp".into(), claim: "email".into() });
    asked.asked.entry = text.into();
    asked.asked.demands = vec![Approvers::Subject { name: text.into(), count: 9 }; 3];
    (asked.asked.reason, asked.asked.ticket) = (Some(text.into()), Some(text.into()));
    asked.asked.what = What {
        actions: list.clone(),
        resources: list.clone(),
        effects: list.clone(),
        secrets: list.clone(),
        reserves: list,
        ..What::default()
    };
    let own = |event: &str| {
        json!({
            "by": text, "entry": text, "event": event, "reason": text, "request": ID, "requester": text, "problem": text,
            "grant": GRANT, "places": [text, text],
        })
    };
    let grant = Found::Grant(Box::new(Grant::of(&asked, GRANT.into(), at(0))));
    let found = Found::Request(Box::new(asked));
    let all = [
        ("approval_asked", &found),
        ("approval_denied", &found),
        ("approval_withdrawn", &found),
        ("grant_revoked", &grant),
        ("approval_asked", &Found::Unknown),
        ("grant_given", &Found::Nothing),
        ("break_glass_opened", &Found::Nothing),
    ];
    all.into_iter()
        .map(|(event, found)| {
            let record = record(text, own(event));
            let notice = noticed(&record, found, at(1)).unwrap();
            (record, notice)
        })
        .collect()
}

/// Every text of a message with the object that it stands in.
fn texts<'v>(value: &'v Value, found: &mut Vec<(&'v serde_json::Map<String, Value>, &'v str)>) {
    match value {
        Value::Object(object) => {
            found.extend(object.values().filter_map(Value::as_str).map(|text| (object, text)));
            object.values().for_each(|value| texts(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| texts(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn visible(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(!text.contains(['\u{200b}', '\u{200d}', '\u{202e}', '\u{2066}', '\u{2028}']), "{text:?}");
}

/// What Slack's reference says of a message, and that only our own words are read for markup.
fn is_inert_in_slack(message: &Value) {
    let blocks = message["blocks"].as_array().unwrap();
    assert!(blocks.len() <= 50);
    for block in blocks {
        match block["type"].as_str().unwrap() {
            "header" => assert!(block["text"]["text"].as_str().unwrap().chars().count() <= 150),
            "section" => {
                let none = Vec::new();
                let fields = block["fields"].as_array().unwrap_or(&none);
                assert!(fields.len() <= 10);
                for field in fields {
                    let length = field["text"].as_str().unwrap().chars().count();
                    assert!((1..=2_000).contains(&length), "{field}");
                }
            }
            "context" => assert_eq!(block["elements"].as_array().unwrap().len(), 1),
            other => panic!("{other}"),
        }
    }
    let link = format!("<{CONSOLE}/");
    let mut all = Vec::new();
    texts(message, &mut all);
    for (object, text) in all {
        visible(text);
        let own = object.get("type").is_some_and(|kind| kind == "mrkdwn");
        let label = text.strip_prefix('*').and_then(|text| text.strip_suffix('*'));
        if own && label.is_some_and(|label| label.chars().all(|c| c.is_ascii_alphabetic() || c == ' ')) {
            continue;
        }
        if own && text.starts_with(&link) {
            assert_eq!(text.matches(['<', '>', '|']).count(), 3, "{text}");
            continue;
        }
        assert!(!own || text == "mrkdwn", "{text}");
        assert!(!text.contains(['<', '>']) && !text.contains("://"), "{text}");
        for after in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;"].iter().any(|entity| after.starts_with(entity)), "{text}");
        }
    }
    assert_eq!((&message["parse"], &message["link_names"]), (&json!("none"), &json!(false)));
}

/// That a card has nothing in which Teams reads Markdown, and opens nothing but the console.
fn is_inert_in_teams(message: &Value) {
    assert!(message.to_string().len() < 28 << 10, "a workflow takes 28 KiB: {}", message.to_string().len());
    let card = &message["attachments"][0]["content"];
    assert_eq!(card["msteams"], json!({"width": "Full"}), "no entities, so that nobody is mentioned");
    for action in card["actions"].as_array().unwrap() {
        assert_eq!(action["type"], "Action.OpenUrl");
        assert!(action["url"].as_str().unwrap().starts_with(CONSOLE), "{action}");
    }
    for block in card["body"].as_array().unwrap() {
        assert_eq!(block["type"], "RichTextBlock");
        for run in block["inlines"].as_array().unwrap() {
            assert_eq!(run["type"], "TextRun");
            assert!(run.get("selectAction").is_none());
            let text = run["text"].as_str().unwrap();
            visible(text);
            assert!(["{{", "${", "://"].iter().all(|odd| !text.contains(odd)), "{text}");
        }
    }
}

#[test]
fn nobodys_words_are_markup_mention_anybody_or_lead_anywhere() {
    for text in HOSTILE {
        for (record, notice) in hostile(text) {
            is_inert_in_slack(&slack(&notice));
            is_inert_in_teams(&teams(&notice));
            let event: Value = serde_json::from_slice(&data::event(&record, &notice)).unwrap();
            assert_eq!(event["data"]["recorded"]["reason"], json!(text), "machines get it as it was written");
        }
    }
}

#[test]
fn a_message_keeps_the_limits_of_its_receiver_however_long_the_words_are() {
    for text in ["&", "<", "a", "\u{1f600}", "\\\"", "://"] {
        for (_, notice) in hostile(&text.repeat(20_000 / text.len())) {
            is_inert_in_slack(&slack(&notice));
            is_inert_in_teams(&teams(&notice));
        }
    }
}

#[test]
fn an_id_that_is_none_is_no_part_of_a_link() {
    for id in ["../grants", "a|b>", "a b", "", &"a".repeat(65)] {
        let own = json!({"event": "approval_denied", "entry": "e", "request": id, "requester": "corp:ann"});
        let notice = noticed(&record("corp:bob", own), &Found::Nothing, at(1)).unwrap();
        assert_eq!(notice.link, None::<Link>, "{id}");
        assert!(!notice.foot.contains("request show"), "{id}");
    }
}

#[test]
fn a_gate_without_a_console_names_the_command() {
    let record = of_request("approval_asked", "corp:ann");
    let told = Told::named("asked").unwrap();
    let notice = Notice::of(&record, told, &Found::Request(Box::new(request())), None, at(1)).unwrap();
    assert_eq!(notice.link, None);
    assert!(notice.foot.contains(&format!("`amlgate request show {ID}`")), "{}", notice.foot);
    assert_eq!(teams(&notice)["attachments"][0]["content"]["actions"], json!([]));
}

proptest! {
    #[test]
    fn whatever_people_write_stays_words(text in "\\PC{0,40}|.{0,40}|[<>&|!@#*_~`\\[\\](){}$:/a\\n]{0,40}") {
        for (_, notice) in hostile(&text) {
            is_inert_in_slack(&slack(&notice));
            is_inert_in_teams(&teams(&notice));
        }
    }

    #[test]
    fn times_only_add_what_became_of_it(secs in 0_u64..200_000) {
        let record = of_request("approval_asked", "corp:ann");
        let notice = noticed(&record, &Found::Request(Box::new(request())), at(secs));
        prop_assert_eq!(notice.is_some(), secs < 86_400);
        let late = Duration::from_secs(secs) > Duration::from_secs(120);
        prop_assert_eq!(notice.is_some_and(|notice| notice.foot.contains(" later")), late && secs < 86_400);
    }
}

#[test]
fn filters_are_of_entries_by_name() {
    let names: Vec<Arc<str>> = vec!["big clusters need a second person".into()];
    let filter = Filter { entries: names, ..Filter::usual() };
    assert_eq!(filter.wants("approval_asked").map(|told| told.name), Some("asked"));
    assert_eq!(filter.wants("grant_given"), None, "it is told where it is named");
    assert_eq!(filter.wants("break_glass_opened").map(|told| told.name), Some("break_glass"));
}

#[test]
fn a_model_that_came_in_past_the_gate_is_named() {
    let model = "azureml://subscriptions/s/resourceGroups/g/workspaces/w/models/churn/versions/3";
    let own = json!({
        "event": "unstated_model", "form": "1", "hook": "vision", "model": model,
        "registered": at(0).as_millis(), "seen": "yes",
    });
    let line = json!({"time": at(0).as_millis(), "unmapped": {"amlgate": own}}).to_string();
    let record = Exported::new(&"amlgate-0".into(), 17, line.into_bytes());
    let notice = noticed(&record, &Found::Nothing, at(1)).unwrap();
    // Nobody can click on it.
    let model = model.replace("://", "[:]//");
    assert_eq!(notice.line, format!("A model without a statement: {model}"));
    let rows: Vec<_> = notice.rows.iter().map(|row| (row.label.as_str(), row.value.as_str())).collect();
    assert!(rows.contains(&("Model", model.as_str())) && rows.contains(&("Hook", "vision")), "{rows:?}");
}
