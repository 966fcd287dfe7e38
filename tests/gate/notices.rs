//! Where people are: approvals are told in Slack, in Teams and to a signed webhook, as receivers
//! document themselves; by links that ask to sign in, and from the record, so that none is lost.

mod receivers;

use std::{sync::Arc, time::Duration};

use amlgate::time::{Clock as _, ManualClock, SystemClock};
use http::{Method, StatusCode, header};
use receivers::{Got, Receivers};
use serde_json::{Value, json};

use crate::{
    api,
    approvals::{answer, call},
    world::{Changes, VERSION, World, job, whole, workspace},
};

const POLICIES: &str = "version: 1
subjects:
  scientists: [{issuer: sandbox, group: data-science}]
  platform: [{issuer: sandbox, group: platform}]
allow:
  - {name: all work, who: [scientists, platform], actions: [Microsoft.MachineLearningServices/*]}
  - {name: all ask, who: [authenticated], actions: [amlgate/requests/*, amlgate/grants/*]}
require:
  - {name: jobs need a second person, who: [scientists], actions: [Microsoft.MachineLearningServices/workspaces/jobs/write], approval: {by: [{subject: platform}]}}
";
const SLACK: &str = "/services/T00000000/B00000000/slacksslacksslacksslacks";
const TEAMS: &str = "/workflows/0123/triggers/manual/paths/invoke?api-version=1&sig=SIGSIGSIG";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ALL: [&str; 3] = ["slack", "teams", "hook"];

/// A gate that tells these channels.
async fn telling(receivers: &Receivers, channels: &[&str], clock: ManualClock) -> World {
    let reached = format!("address: \"{}\", trust: {{ca: chat-ca.pem}}", receivers.address);
    let channel = |name: &&str| match *name {
        "slack" => format!("  - {{name: slack, slack: {{url: {{file: slack.url}}}}, {reached}}}\n"),
        "teams" => format!("  - {{name: teams, teams: {{url: {{file: teams.url}}}}, {reached}}}\n"),
        _ => format!(
            "  - {{name: hook, events: [asked, approved, granted, revoked, exporter_failing], webhook: {{url: \"https://chat.example/hook\", secret: {{file: hook.key}}}}, {reached}}}\n"
        ),
    };
    let notify: String = channels.iter().map(channel).collect();
    let notify = format!("notify:\n{notify}policies: policies/");
    let (slack, teams) = (format!("https://chat.example{SLACK}\n"), format!("https://chat.example{TEAMS}"));
    let files = [
        ("chat-ca.pem", receivers.authority.as_str()),
        ("slack.url", slack.as_str()),
        ("teams.url", teams.as_str()),
        ("hook.key", SECRET),
    ];
    let configuration = [("policies: policies/", notify.as_str())];
    let changes = Changes { configuration: &configuration, policies: Some(POLICIES) };
    World::having_at(&files, changes, Arc::new(clock)).await
}

fn now() -> ManualClock {
    ManualClock::starting_at(SystemClock.now())
}

/// Has sam ask for a job of this name; the request's id.
async fn ask(world: &World, name: &str, reason: &str) -> String {
    let refused = world.caller("sam").put(&workspace(&format!("/jobs/{name}?{VERSION}")), &job()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    let body = json!({"decision": refused.header("x-amlgate-decision"), "reason": reason});
    let asked = call(world, "sam", Method::POST, "/api/v1/requests", Some(body)).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{asked:?}");
    asked.json()["requests"][0]["id"].as_str().unwrap().to_owned()
}

/// Rows of a message of Slack's: label and value side by side.
fn rows(message: &Value) -> Vec<(String, String)> {
    let sections =
        message["blocks"].as_array().unwrap().iter().filter_map(|block| block["fields"].as_array());
    let fields: Vec<_> = sections.flatten().map(|field| field["text"].as_str().unwrap().to_owned()).collect();
    fields.chunks(2).map(|pair| (pair[0].trim_matches('*').to_owned(), pair[1].clone())).collect()
}

fn row(message: &Value, label: &str) -> String {
    rows(message).into_iter().find(|(found, _)| found == label).map(|(_, value)| value).unwrap_or_default()
}

fn title(got: &Got) -> String {
    match got.to {
        "slack" => got.json["blocks"][0]["text"]["text"].as_str().unwrap().to_owned(),
        "teams" => {
            let body = &got.json["attachments"][0]["content"]["body"];
            body[0]["inlines"][0]["text"].as_str().unwrap().to_owned()
        }
        _ => got.json["type"].as_str().unwrap().to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_hear_who_asks_for_what_and_who_approved_and_the_link_only_opens_a_page() {
    let mut receivers = Receivers::start().await;
    let world = telling(&receivers, &ALL, now()).await;
    let id = ask(&world, "told", "to retrain").await;
    let asked = receivers.take(3).await;
    let link = format!("http://{}/requests/{id}", world.server.admin().unwrap());
    let by = |got: &[Got], to: &str| got.iter().find(|got| got.to == to).unwrap().clone();
    let slack = by(&asked, "slack");
    assert_eq!(slack.target, SLACK);
    for (label, value) in
        [("Who", "(sandbox:user-sam)"), ("Entry", "jobs need a second person"), ("Why", "to retrain")]
    {
        assert!(row(&slack.json, label).contains(value), "{label}: {slack:#?}");
    }
    assert!(row(&slack.json, "On").ends_with("/workspaces/vision/jobs/told"), "{slack:#?}");
    assert_eq!(row(&slack.json, "Wanted"), "1 of platform");
    let teams = by(&asked, "teams");
    assert_eq!(teams.target, TEAMS);
    assert_eq!(teams.json["attachments"][0]["content"]["actions"][0]["url"], json!(link));
    let hook = by(&asked, "hook");
    assert_eq!((title(&hook).as_str(), &hook.json["subject"]), ("dev.amlgate.notice.asked.v1", &json!(id)));
    let data = &hook.json["data"];
    assert_eq!((&data["request"]["state"], &data["link"]), (&json!("pending"), &json!(link)));
    assert_eq!(data["request"]["requester"]["id"], "sandbox:user-sam");
    // Whoever follows the link is asked who they are, and nothing is approved.
    let page = api::request(&world, Method::GET, &format!("/requests/{id}"));
    let page = api::ask(&world, page.header(header::ACCEPT, "text/html").body(whole("")).unwrap()).await;
    assert!(!page.status.is_success() && !page.text().contains("to retrain"), "{page:?}");
    let seen = call(&world, "sam", Method::GET, &format!("/api/v1/requests/{id}"), None).await;
    assert_eq!(seen.json()["state"], "pending");

    let approved = answer(&world, "pat", &id, "approve").await;
    assert_eq!(approved.status, StatusCode::OK, "{approved:?}");
    let grant = approved.json()["grant"]["id"].as_str().unwrap().to_owned();
    let approved = receivers.take(4).await;
    let slack = by(&approved, "slack");
    assert_eq!(title(&slack), "Approved");
    assert!(row(&slack.json, "Approved by").contains("(sandbox:user-pat)"), "{slack:#?}");
    let hooks: Vec<_> = approved.iter().filter(|got| got.to == "hook").map(title).collect();
    assert_eq!(hooks, ["dev.amlgate.notice.approved.v1", "dev.amlgate.notice.granted.v1"]);
    let path = format!("/api/v1/grants/{grant}/revoke");
    let revoked = call(&world, "pat", Method::POST, &path, Some(json!({}))).await;
    assert_eq!(revoked.status, StatusCode::OK, "{revoked:?}");
    let revoked = receivers.take(3).await;
    assert_eq!(title(&by(&revoked, "teams")), "Grant taken back");
    assert_eq!(row(&by(&revoked, "slack").json, "Taken back by"), "sandbox:user-pat");
    // Nothing of what the channels are reached with is anywhere else.
    let log = world.stop().await;
    let text = format!("{:?}", log.records);
    assert!(["slackss", "SIGSIG", "whsec"].iter().all(|secret| !text.contains(secret)), "{text}");
    assert!(receivers.got.try_recv().is_err(), "each was told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_others_are_no_markup_no_mention_and_no_link() {
    let mut receivers = Receivers::start().await;
    let world = telling(&receivers, &ALL, now()).await;
    let reason =
        "<!channel> <https://evil.example|Approve> [Approve](https://evil.example) *ok*\nApproved by: pat";
    ask(&world, "hostile", reason).await;
    for got in receivers.take(3).await {
        let text = got.json.to_string();
        match got.to {
            // What Slack would make of it: entities are words, and its controls are ours alone.
            "slack" => {
                let why = "&lt;!channel&gt; &lt;https[:]//evil.example|Approve&gt; [Approve](https[:]//evil.example) *ok* Approved by: pat";
                assert_eq!(row(&got.json, "Why"), why);
                assert_eq!(text.matches('<').count(), 1, "the console's link: {text}");
            }
            "teams" => {
                assert!(!text.contains(r#""TextBlock""#) && !text.contains("mention"), "{text}");
                assert_eq!(text.matches("://").count(), 2, "the schema and the console: {text}");
            }
            _ => assert_eq!(got.json["data"]["request"]["reason"], json!(reason)),
        }
    }
    assert!(world.server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_gets_everything_once_and_in_order_when_it_is_back_even_after_a_restart() {
    let mut receivers = Receivers::start().await;
    let clock = now();
    let world = telling(&receivers, &["slack"], clock.clone()).await;
    receivers.answer(503, "down");
    let first = ask(&world, "first", "one").await;
    let refused = receivers.refused().await;
    assert_eq!(title(&refused), "Approval asked");
    let mut written = world.server.journal().durable();
    // That it fails is in the record, and where the gate says how it does.
    while world.server.parts().sinks[0].failing().is_none() {
        written.changed().await.unwrap();
    }
    let ready = api::ask(&world, api::request(&world, Method::GET, "/readyz").body(whole("")).unwrap()).await;
    assert_eq!(ready.status, StatusCode::OK, "{ready:?}");
    assert!(ready.text().contains(r#"{"name":"sink slack","state":"degraded""#), "{ready:?}");
    assert!(!ready.text().contains("slackss"), "{ready:?}");
    // No request waits for it.
    assert_eq!(answer(&world, "pat", &first, "approve").await.status, StatusCode::OK);
    ask(&world, "second", "two").await;
    let world = world.started_anew(Arc::new(clock.clone())).await;
    receivers.mend();
    let got = receivers.take_while_time_passes(3, &clock).await;
    let told: Vec<_> = got.iter().map(|got| (title(got), row(&got.json, "Why"))).collect();
    let told: Vec<_> = told.iter().map(|(title, why)| (title.as_str(), why.as_str())).collect();
    assert_eq!(
        told,
        [("Approval asked (since then: approved)", "one"), ("Approved", "one"), ("Approval asked", "two")]
    );
    assert!(world.server.stop().await);
    assert!(receivers.got.try_recv().is_err(), "none twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_put_aside_a_wish_to_wait_is_followed_and_a_hook_that_is_gone_loses_nothing() {
    let mut receivers = Receivers::start().await;
    let clock = now();
    let world = telling(&receivers, &["slack"], clock.clone()).await;
    let aside = world.directory().join("var/audit/sinks/slack.dead");
    receivers.answer(400, "invalid_blocks");
    ask(&world, "refused", "one").await;
    receivers.refused().await;
    // The hook itself is at fault now: that is nobody's message's.
    receivers.answer(400, "no_service");
    ask(&world, "kept", "two").await;
    receivers.refused().await;
    receivers.wait(7);
    let second = receivers.refused_while_time_passes(&clock).await;
    assert_eq!(row(&second.json, "Why"), "two");
    let letters = std::fs::read_to_string(&aside).unwrap();
    let letters: Vec<Value> = letters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((letters.len(), &letters[0]["reason"]), (1, &json!("400 Bad Request: invalid_blocks")));
    assert_eq!(letters[0]["record"]["unmapped"]["amlgate"]["reason"], "one");
    let asked = clock.now();
    receivers.mend();
    let got = receivers.take_while_time_passes(1, &clock).await;
    assert_eq!(row(&got[0].json, "Why"), "two");
    assert!(clock.now().since(asked) >= Duration::from_secs(6), "{:?}", clock.now().since(asked));
    assert!(world.server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_time_is_over_is_not_said_to_wait() {
    let mut receivers = Receivers::start().await;
    let clock = now();
    let world = telling(&receivers, &["slack"], clock.clone()).await;
    receivers.answer(500, "rollup_error");
    ask(&world, "stale", "one").await;
    receivers.refused().await;
    clock.advance(Duration::from_secs(86_400));
    receivers.mend();
    let got = receivers.take_while_time_passes(1, &clock).await;
    assert_eq!(
        (title(&got[0]).as_str(), row(&got[0].json, "Why").as_str()),
        ("Nobody answered in time", "one")
    );
    assert!(world.server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_url_of_a_hook_is_exchanged_without_a_restart_and_doctor_tries_it_without_a_message() {
    let mut receivers = Receivers::start().await;
    let world = telling(&receivers, &["slack", "teams"], now()).await;
    let other = "/services/T00000000/B00000000/YYYYYYYYYYYYYYYYYYYYYYYY";
    crate::world::keep(&world.directory().join("slack.url"), &format!("https://chat.example{other}"));
    world.server.reload().await;
    ask(&world, "exchanged", "one").await;
    let got = receivers.take(2).await;
    assert_eq!(got.iter().find(|got| got.to == "slack").unwrap().target, other);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_amlgate"))
        .args(["doctor", "--output", "json", "--config"])
        .arg(world.sandbox.configuration())
        .output()
        .unwrap();
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for name in ["channel slack", "channel teams"] {
        let finding = found.iter().find(|finding| finding["part"] == name).unwrap();
        assert_eq!(finding["state"], "fine", "{finding}");
    }
    assert!(!String::from_utf8_lossy(&output.stdout).contains("YYYYYYYY"));
    let log = world.stop().await;
    assert_eq!(log.events("exporter_changed").len(), 1);
    assert!(receivers.got.try_recv().is_err(), "doctor sent nothing");
}
