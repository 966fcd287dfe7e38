//! Asking and answering: in the console, and by `amlgate request` and `amlgate grant`.

use std::process::{Command, Output};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{FORM, SAME, escaped, form, is_page};
use crate::{
    api::{call, token},
    sessions::Browser,
    world::{Changes, VERSION, World, fed, job, workspace},
};

pub const POLICIES: &str = "version: 1
subjects:
  scientists: [{issuer: sandbox, group: data-science}]
  platform: [{issuer: sandbox, group: platform}]
allow:
  - {name: scientists work, who: [scientists, platform], actions: [Microsoft.MachineLearningServices/*]}
  - {name: all ask, who: [authenticated], actions: [amlgate/requests/*, amlgate/grants/*, amlgate/can-i/read]}
  - {name: platform sees all, who: [platform], actions: [amlgate/others/*]}
require:
  - {name: jobs need a second person, who: [scientists], actions: [Microsoft.MachineLearningServices/workspaces/jobs/write], approval: {by: [{subject: platform}], ask: {reason: required}}}
";

async fn world() -> World {
    World::changed(Changes { policies: Some(POLICIES), ..Changes::default() }).await
}

/// A call of sam's that is refused for want of an approval, or not: its status and decision.
pub async fn submits(world: &World, name: &str) -> (StatusCode, String) {
    let answer = world.caller("sam").put(&workspace(&format!("/jobs/{name}?{VERSION}")), &job()).await;
    (answer.status, answer.header("x-amlgate-decision").to_owned())
}

/// Asks by the API; the request's id.
async fn asks(world: &World, decision: &str, reason: &str) -> String {
    let body = json!({"decision": decision, "reason": reason});
    let made = call(world, Method::POST, "/api/v1/requests", &token(world, "sam"), Some(body)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    made.json()["requests"][0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_asks_another_says_yes_and_the_call_goes_on() {
    let world = world().await;
    let (status, decision) = submits(&world, "one").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let mut sam = Browser::new(&world);
    // The link of the refusal leads through the sign-in to the form.
    let link = format!("/requests/new?decision={decision}");
    let sent = sam.get(&link).await;
    let at_issuer = sam.get(sent.header("location")).await;
    let back = sam.pick(at_issuer.header("location"), "sam").await;
    assert_eq!(sam.get(&back).await.header("location"), link);
    assert!(is_page(&sam.get(&link).await).contains(&format!("value=\"{decision}\"")));
    let without = form(&[("decision", &decision)]);
    let wordless = sam.submit(Method::POST, "/requests", &[SAME, FORM], &without).await;
    assert_eq!(wordless.status, StatusCode::BAD_REQUEST, "{wordless:?}");
    assert!(is_page(&wordless).contains("reason"), "{wordless:?}");
    let reason = "to <b>retrain</b>";
    let asked = form(&[("decision", &decision), ("reason", reason), ("ticket", "")]);
    for foreign in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        let lured = sam.submit(Method::POST, "/requests", &[foreign, FORM], &asked).await;
        assert_eq!(lured.status, StatusCode::FORBIDDEN, "{foreign:?}");
    }
    let made = sam.submit(Method::POST, "/requests", &[SAME, FORM], &asked).await;
    assert_eq!(made.status, StatusCode::SEE_OTHER, "{made:?}");
    let request = made.header("location").to_owned();
    let page = is_page(&sam.get(&request).await);
    assert!(page.contains(&escaped(reason)) && page.contains("/withdraw\""), "{page}");
    assert!(!page.contains("/approve\""), "nobody approves their own: {page}");
    let approve = format!("{request}/approve");
    let own = sam.submit(Method::POST, &approve, &[SAME, FORM], "").await;
    assert_eq!(own.status, StatusCode::FORBIDDEN, "{own:?}");
    is_page(&own);

    let mut pat = Browser::new(&world);
    pat.sign_in("pat").await;
    let waiting = is_page(&pat.get("/requests").await);
    assert!(waiting.contains(&request) && waiting.contains("jobs need a second person"), "{waiting}");
    let page = is_page(&pat.get(&request).await);
    for told in ["sandbox:user-sam", "workspaces/jobs/write", "/jobs/one", &escaped(reason), "1 of platform"]
    {
        assert!(page.contains(told), "{told} in {page}");
    }
    assert_eq!(pat.get(&approve).await.status, StatusCode::METHOD_NOT_ALLOWED, "no link approves");
    let lured = pat.submit(Method::POST, &approve, &[("sec-fetch-site", "cross-site"), FORM], "").await;
    assert_eq!(lured.status, StatusCode::FORBIDDEN, "{lured:?}");
    assert_eq!(submits(&world, "one").await.0, StatusCode::FORBIDDEN, "nothing was approved yet");
    let said = pat.submit(Method::POST, &approve, &[SAME, FORM], &form(&[("note", "go ahead")])).await;
    assert_eq!((said.status, said.header("location")), (StatusCode::SEE_OTHER, &*request), "{said:?}");
    assert!(is_page(&pat.get(&request).await).contains("go ahead"));
    assert!(submits(&world, "one").await.0.is_success());

    // The grant is seen by whose it is, and taken back by who gave it.
    let page = is_page(&sam.get("/grants").await);
    assert!(page.contains("1 of 1 used"), "{page}");
    assert_eq!(sam.get("/grants?show=all").await.status, StatusCode::FORBIDDEN);
    let page = is_page(&pat.get("/grants?show=all").await);
    let begin = page.find("/grants/").unwrap_or_else(|| panic!("{page}"));
    let revoke = page[begin..].split('"').next().unwrap().to_owned();
    let taken = pat.submit(Method::POST, &revoke, &[SAME, FORM], "").await;
    assert_eq!(taken.status, StatusCode::SEE_OTHER, "{taken:?}");
    let page = is_page(&sam.get("/grants").await);
    assert!(page.contains(">revoked<") && !page.contains("/revoke\""), "{page}");
    let log = world.stop().await;
    for event in ["approval_asked", "approved", "grant_given", "grant_used", "grant_revoked"] {
        assert_eq!(log.events(event).len(), 1, "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_form_says_twice_or_another_site_sends_is_no_answer() {
    let world = world().await;
    let (_, decision) = submits(&world, "forged").await;
    let id = asks(&world, &decision, "to retrain").await;
    let approve = format!("/requests/{id}/approve");
    let mut rita = Browser::new(&world);
    rita.sign_in("rita").await;
    for path in [approve.clone(), approve.replace(&id, "01938000-0000-7000-8000-000000000000")] {
        let hidden = rita.submit(Method::POST, &path, &[SAME, FORM], "").await;
        assert_eq!(hidden.status, StatusCode::NOT_FOUND, "{hidden:?}");
        assert!(is_page(&hidden).contains("no such request"), "{hidden:?}");
    }
    let mut pat = Browser::new(&world);
    pat.sign_in("pat").await;
    let long = format!("note={}", "x".repeat(17 << 10));
    for said in ["note=no&note=yes", "note=no&n%6fte=yes", &long, "note=a%E2%80%AEb", "note=a%00b"] {
        let answer = pat.submit(Method::POST, &approve, &[SAME, FORM], said).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{said:.40}: {answer:?}");
        is_page(&answer);
    }
    for path in ["/requests/%27/approve", "/grants/%27/revoke"] {
        let answer = pat.submit(Method::POST, path, &[SAME, FORM], "").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: {answer:?}");
    }
    let other = pat.submit(Method::POST, &approve.replace("approve", "Approve"), &[SAME, FORM], "").await;
    assert_eq!(other.status, StatusCode::NOT_FOUND, "{other:?}");
    let foreign = [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "null")];
    for foreign in foreign {
        for path in [&approve, &approve.replace("approve", "deny")] {
            let lured = pat.submit(Method::POST, path, &[foreign, FORM], "").await;
            assert_eq!(lured.status, StatusCode::FORBIDDEN, "{foreign:?}");
        }
    }
    assert!(is_page(&pat.get(&format!("/requests/{id}")).await).contains(">pending<"));
    let said = pat.submit(Method::POST, &approve, &[SAME, FORM], "").await;
    assert_eq!(said.status, StatusCode::SEE_OTHER, "{said:?}");
    let page = is_page(&pat.get("/grants?show=all").await);
    let revoke = page[page.find("/grants/").unwrap()..].split('"').next().unwrap().to_owned();
    assert_eq!(pat.get(&revoke).await.status, StatusCode::METHOD_NOT_ALLOWED, "no link takes back");
    for foreign in foreign {
        let lured = pat.submit(Method::POST, &revoke, &[foreign, FORM], "").await;
        assert_eq!(lured.status, StatusCode::FORBIDDEN, "{foreign:?}");
    }
    assert!(submits(&world, "forged").await.0.is_success(), "the grant holds");
}

#[tokio::test]
async fn what_one_may_do_once_others_approve_is_no_plain_yes() {
    let world = world().await;
    let mut sam = Browser::new(&world);
    sam.sign_in("sam").await;
    let write = "Microsoft.MachineLearningServices/workspaces/jobs/write";
    let asked = form(&[("action", write), ("scope", &workspace(""))]);
    let page = is_page(&sam.get(&format!("/access?{asked}")).await);
    assert!(page.contains("Yes, once people approve") && page.contains("ApprovalRequired"), "{page}");
}

/// The command, with somebody's token on its standard input.
pub fn amlgate(world: &World, arguments: &[&str], by: &str) -> Output {
    let nowhere = tempfile::tempdir().unwrap();
    let gate = format!("https://{}", world.host());
    let mut command = Command::new(env!("CARGO_BIN_EXE_amlgate"));
    command
        .args(arguments)
        .args(["--as", "-", "--gate", &gate, "--ca"])
        .arg(world.sandbox.ca())
        .env("AMLGATE_HOME", nowhere.path())
        .env_remove("AMLGATE_GATE")
        .current_dir(nowhere.path());
    fed(&mut command, &token(world, by))
}

pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub fn data(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?} is JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_is_done_by_commands_whose_codes_say_what_came_of_it() {
    let world = world().await;
    let (_, decision) = submits(&world, "one").await;
    let wordless = amlgate(&world, &["request", "create", &decision], "sam");
    assert_eq!(wordless.status.code(), Some(1), "{wordless:?}");
    assert!(said(&wordless).contains("reason"), "{wordless:?}");
    let create = ["request", "create", &decision, "--reason", "to retrain", "-o", "json"];
    let made = data(&amlgate(&world, &create, "sam"));
    let id = made[0]["id"].as_str().unwrap();
    let mine = amlgate(&world, &["request", "list"], "sam");
    assert!(mine.status.success() && said(&mine).contains(id) && said(&mine).contains("pending"), "{mine:?}");
    let own = amlgate(&world, &["request", "approve", id], "sam");
    assert_eq!(own.status.code(), Some(1), "{own:?}");
    let waiting = data(&amlgate(&world, &["request", "list", "--show", "to-answer", "-o", "json"], "pat"));
    assert_eq!((&waiting[0]["id"], waiting.as_array().unwrap().len()), (&json!(id), 1));
    let nobody = amlgate(&world, &["request", "list", "--show", "to-answer"], "rita");
    assert!(nobody.status.success() && nobody.stdout.is_empty(), "{nobody:?}");
    let shown = amlgate(&world, &["request", "show", id], "pat");
    for told in
        ["sandbox:user-sam", "why       to retrain", "wants     1 of platform", "you may   approve, deny"]
    {
        assert!(said(&shown).contains(told), "{told} in {}", said(&shown));
    }
    let approved = amlgate(&world, &["request", "approve", id, "--note", "fine", "-o", "yaml"], "pat");
    assert!(approved.status.success() && said(&approved).contains("state: approved"), "{approved:?}");
    assert!(amlgate(&world, &["request", "watch", id], "sam").status.success(), "it is decided");
    assert!(submits(&world, "one").await.0.is_success());
    let grants = data(&amlgate(&world, &["grant", "list", "-o", "json"], "sam"));
    let grant = grants[0]["id"].as_str().unwrap();
    let revoked = amlgate(&world, &["grant", "revoke", grant], "pat");
    assert!(revoked.status.success() && said(&revoked).contains("revoked"), "{revoked:?}");
    assert_eq!(amlgate(&world, &["grant", "revoke", grant], "pat").status.code(), Some(1), "it is already");

    // What is denied, taken back or not there.
    let (_, decision) = submits(&world, "two").await;
    let id = asks(&world, &decision, "again").await;
    assert!(amlgate(&world, &["request", "deny", &id], "pat").status.success());
    assert_eq!(amlgate(&world, &["request", "watch", &id], "sam").status.code(), Some(1), "it was denied");
    let (_, decision) = submits(&world, "three").await;
    let id = asks(&world, &decision, "again").await;
    assert!(amlgate(&world, &["request", "withdraw", &id], "sam").status.success());
    assert_eq!(amlgate(&world, &["request", "show", "../grants"], "sam").status.code(), Some(1));
    assert_eq!(amlgate(&world, &["request", "list", "--state", "lost"], "sam").status.code(), Some(1));
    assert_eq!(amlgate(&world, &["request", "list", "--show", "others"], "sam").status.code(), Some(2));
}
