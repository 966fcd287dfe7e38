//! Ask, approve, go on: through the gate and its API, as people and clients do it.

mod attacks;
mod held;

use std::{sync::Arc, time::Duration};

use amlgate::{
    sandbox::{
        Person,
        azure::{UserToken, names},
    },
    time::{Clock as _, ManualClock, SystemClock},
};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    api,
    world::{Answer, Caller, Changes, VERSION, World, job, whole, workspace},
};

const POLICIES: &str = "version: 1
subjects:
  scientists: [{issuer: sandbox, group: data-science}, {issuer: entra, group: 6f9619ff-8b86-4011-b42d-00cf4fc964f1}]
  platform: [{issuer: sandbox, group: platform}, {issuer: entra, claims: {tid: TENANT}}]
  copilots: [{issuer: entra, agent: {client_id: 11111111-1111-4111-8111-111111111111}}]
allow:
  - {name: scientists work, who: [scientists, platform], actions: [Microsoft.MachineLearningServices/*]}
  - {name: agents work, who: [copilots], actions: [Microsoft.MachineLearningServices/*]}
  - {name: all ask, who: [authenticated], actions: [amlgate/requests/*, amlgate/grants/*]}
  - {name: agents ask too, who: [copilots], actions: [amlgate/requests/*]}
  - {name: platform sees all, who: [platform], actions: [amlgate/others/*, amlgate/revocations/*, amlgate/audit/read]}
require:
  - {name: jobs need a second person, who: [scientists], actions: [Microsoft.MachineLearningServices/workspaces/jobs/write], unless: {who: [copilots]}, approval: {by: [{subject: platform}]HOLD}}
  - {name: deletions need a second person, who: [scientists], kinds: [delete], approval: {by: [{subject: platform}], covers: entry, valid_for: 1h}}
  - {name: agents ask their human, who: [copilots], kinds: [write], approval: {by: [human]}}
";

fn policies(hold: &str) -> String {
    POLICIES.replace("TENANT", names::TENANT).replace("HOLD", hold)
}

/// A gate whose people are the same under both issuers, by their object ids.
async fn world(hold: &str) -> (World, ManualClock) {
    configured(hold, &[]).await
}

/// The same with another configuration.
async fn configured(hold: &str, configuration: &[(&str, &str)]) -> (World, ManualClock) {
    let clock = ManualClock::starting_at(SystemClock.now());
    let policies = policies(hold);
    let changes = Changes { policies: Some(&policies), configuration };
    (World::at(changes, Arc::new(clock.clone())).await, clock)
}

pub async fn call(world: &World, by: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    call_with(world, &api::token(world, by), method, path, body).await
}

pub async fn call_with(
    world: &World,
    token: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let mut builder =
        api::request(world, method, path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    if body.is_some() {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
    }
    api::ask(world, builder.body(whole(body.map(|body| body.to_string()).unwrap_or_default())).unwrap()).await
}

fn target(name: &str) -> String {
    workspace(&format!("/jobs/{name}?{VERSION}"))
}

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// Sends the call, which is refused for want of an approval; the decision.
async fn refused(caller: &Caller<'_>, name: &str) -> String {
    let answer = caller.put(&target(name), &job()).await;
    assert_eq!(
        (answer.status, code(&answer).as_str()),
        (StatusCode::FORBIDDEN, "ApprovalRequired"),
        "{answer:?}"
    );
    answer.header("x-amlgate-decision").to_owned()
}

/// Asks for the approval of what was refused; the request's id.
async fn ask(world: &World, by: &str, decision: &str) -> String {
    let body = json!({"decision": decision, "reason": "to retrain"});
    let answer = call(world, by, Method::POST, "/api/v1/requests", Some(body)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    answer.json()["requests"][0]["id"].as_str().unwrap().to_owned()
}

pub async fn answer(world: &World, by: &str, id: &str, verb: &str) -> Answer {
    call(world, by, Method::POST, &format!("/api/v1/requests/{id}/{verb}"), Some(json!({}))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_is_asked_for_approved_by_another_and_passes_once() {
    let (world, _) = world("").await;
    let sam = world.caller("sam");
    let refusal = sam.put(&target("one"), &job()).await;
    let decision = refusal.header("x-amlgate-decision").to_owned();
    let message = refusal.json()["error"]["message"].as_str().unwrap().to_owned();
    let admin = world.server.admin().unwrap();
    for part in [
        "entry `jobs need a second person` demands the approval of 1 of `platform`",
        &format!("`amlgate request create {decision}`"),
        &format!("http://{admin}/requests/new?decision={decision}"),
    ] {
        assert!(message.contains(part), "{message}");
    }
    let id = ask(&world, "sam", &decision).await;
    let pending = sam.put(&target("one"), &job()).await;
    assert_eq!(code(&pending), "ApprovalPending");
    let info = &pending.json()["error"]["additionalInfo"][0]["info"];
    assert_eq!(info["request"], json!(id), "{info}");
    let again = json!({"decision": decision});
    let again = call(&world, "sam", Method::POST, "/api/v1/requests", Some(again)).await;
    assert_eq!((again.status, &again.json()["requests"][0]["id"]), (StatusCode::OK, &json!(id)));
    // Pat sees it among those to answer, with what there is to know; rita does not.
    let to_answer = "/api/v1/requests?show=to_answer";
    let listed = call(&world, "pat", Method::GET, to_answer, None).await.json();
    let seen = &listed["requests"][0];
    assert_eq!((&seen["id"], &seen["can"]), (&json!(id), &json!(["approve", "deny"])), "{listed}");
    assert_eq!(
        (&seen["reason"], &seen["requester"]["id"]),
        (&json!("to retrain"), &json!("sandbox:user-sam"))
    );
    assert!(seen["what"]["resources"][0].as_str().unwrap().ends_with("/jobs/one"), "{seen}");
    assert_eq!(call(&world, "rita", Method::GET, to_answer, None).await.json()["requests"], json!([]));
    let hidden = call(&world, "rita", Method::GET, &format!("/api/v1/requests/{id}"), None).await;
    assert_eq!(hidden.status, StatusCode::NOT_FOUND, "{hidden:?}");
    let approved = answer(&world, "pat", &id, "approve").await;
    assert_eq!((approved.status, &approved.json()["state"]), (StatusCode::OK, &json!("approved")));
    let grant = approved.json()["grant"]["id"].as_str().unwrap().to_owned();
    let twice = answer(&world, "pat", &id, "approve").await;
    assert_eq!(twice.status, StatusCode::CONFLICT, "{twice:?}");
    // Another call is not this one.
    refused(&sam, "two").await;
    let passed = sam.put(&target("one"), &job()).await;
    assert!(passed.status.is_success(), "{passed:?}");
    let grants = call(&world, "sam", Method::GET, "/api/v1/grants", None).await.json();
    assert_eq!((&grants["grants"][0]["id"], &grants["grants"][0]["state"]), (&json!(grant), &json!("used")));
    let log = world.stop().await;
    for (event, count) in [("approval_asked", 1), ("approved", 1), ("grant_given", 1), ("grant_used", 1)] {
        assert_eq!(log.events(event).len(), count, "{event}");
    }
    let used: Vec<_> =
        log.requests().into_iter().filter(|r| r["unmapped"]["amlgate"]["grants"] != Value::Null).collect();
    assert_eq!(used.len(), 2, "intent and outcome");
    assert_eq!(used[0]["unmapped"]["amlgate"]["grants"], json!([grant]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_send_an_approved_call_at_once_one_passes() {
    let (world, _) = world("").await;
    let sam = world.caller("sam");
    let id = ask(&world, "sam", &refused(&sam, "raced").await).await;
    assert_eq!(answer(&world, "pat", &id, "approve").await.status, StatusCode::OK);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let mut connection = world.connect().await;
        let request = sam
            .request(Method::PUT, &target("raced"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-ms-client-request-id", format!("call-{}", n / 2))
            .body(whole(job().to_string()))
            .unwrap();
        tasks.spawn(async move { connection.send_request(request).await.unwrap().status() });
    }
    let statuses = tasks.join_all().await;
    assert_eq!(statuses.iter().filter(|status| status.is_success()).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|s| s.is_success() || [403, 409].contains(&s.as_u16())), "{statuses:?}");
    let log = world.stop().await;
    assert_eq!(log.events("grant_used").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_their_own_call_by_any_identity_that_people_maps_to_them() {
    let clock = ManualClock::starting_at(SystemClock.now());
    let policies = policies("");
    let people =
        "people: {canonical: entra, links: [{issuer: sandbox, claim: entra_oid}]}\npolicies: policies/";
    let changes = Changes { policies: Some(&policies), configuration: &[("policies: policies/", people)] };
    let world = World::at(changes, Arc::new(clock)).await;
    let sam = Person::named("sam").unwrap();
    let linked = world.sandbox.issuer.mint().token_with(sam, |claims| {
        drop(claims.insert("entra_oid".into(), sam.object_id.into()));
    });
    let (linked, plain) =
        (linked.unwrap(), world.sandbox.azure.user_token(sam, &UserToken::default()).unwrap());
    let decision = refused(&world.bearing(&linked), "own").await;
    let body = json!({"decision": decision});
    let asked = call_with(&world, &linked, Method::POST, "/api/v1/requests", Some(body)).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{asked:?}");
    let id = asked.json()["requests"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/requests/{id}/approve");
    // By the tenant, sam of Entra is of `platform`.
    for token in [&linked, &plain] {
        let answer = call_with(&world, token, Method::POST, &path, Some(json!({}))).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
        assert!(answer.text().contains("nobody answers their own request"), "{answer:?}");
    }
    let rita = Person::named("rita").unwrap();
    let rita = world.sandbox.azure.user_token(rita, &UserToken::default()).unwrap();
    let answer = call_with(&world, &rita, Method::POST, &path, Some(json!({}))).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

/// A token of an agent that acts for sam, and one of sam's own.
fn agent_and_human(world: &World) -> (String, String) {
    let sam = Person::named("sam").unwrap();
    let mint = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        world.sandbox.azure.user_token_with(sam, &UserToken::default(), |claims| change(claims)).unwrap()
    };
    let agent = mint(&|claims| {
        claims.insert("azp".to_owned(), json!("11111111-1111-4111-8111-111111111111"));
        claims.insert("xms_act_fct".to_owned(), json!("3 9 11"));
        claims.insert("xms_sub_fct".to_owned(), json!("1 2"));
        claims.insert("xms_par_app_azp".to_owned(), json!("30cf4c22-9985-4ef7-8756-91cc888176bd"));
    });
    (agent, mint(&|_| {}))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_human_approves_its_exact_call_and_the_agent_does_not() {
    let (world, _) = world("").await;
    let (agent, human) = agent_and_human(&world);
    let bot = world.bearing(&agent);
    let refusal = bot.put(&target("by-agent"), &job()).await;
    assert_eq!(code(&refusal), "ApprovalRequired", "{refusal:?}");
    let body = json!({"decision": refusal.header("x-amlgate-decision")});
    let asked = call_with(&world, &agent, Method::POST, "/api/v1/requests", Some(body)).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{asked:?}");
    let id = asked.json()["requests"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/requests/{id}/approve");
    let own = call_with(&world, &agent, Method::POST, &path, Some(json!({}))).await;
    assert_eq!(own.status, StatusCode::FORBIDDEN, "{own:?}");
    assert_eq!(answer(&world, "pat", &id, "approve").await.status, StatusCode::FORBIDDEN, "not hers to give");
    let given = call_with(&world, &human, Method::POST, &path, Some(json!({}))).await;
    assert_eq!(given.status, StatusCode::OK, "{given:?}");
    assert_eq!(code(&bot.put(&target("other"), &job()).await), "ApprovalRequired");
    let passed = bot.put(&target("by-agent"), &job()).await;
    assert!(passed.status.is_success(), "{passed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_of_an_entry_lasts_until_its_time_is_over_or_it_is_taken_back() {
    let (world, clock) = world("").await;
    // Tokens do not last as long as the grant.
    let delete = async |name: &str| world.caller("sam").delete(&target(name)).await;
    let grant = async || {
        let refusal = delete("none").await;
        assert_eq!(code(&refusal), "ApprovalRequired", "{refusal:?}");
        let id = ask(&world, "sam", refusal.header("x-amlgate-decision")).await;
        answer(&world, "pat", &id, "approve").await.json()["grant"]["id"].as_str().unwrap().to_owned()
    };
    grant().await;
    for name in ["none", "other"] {
        let answer = delete(name).await;
        assert_ne!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    }
    clock.advance(Duration::from_secs(3_599));
    assert_ne!(delete("none").await.status, StatusCode::FORBIDDEN);
    clock.advance(Duration::from_secs(1));
    let second = grant().await;
    assert_ne!(delete("none").await.status, StatusCode::FORBIDDEN);
    let path = format!("/api/v1/grants/{second}/revoke");
    let stranger = call(&world, "rita", Method::POST, &path, Some(json!({}))).await;
    assert_eq!(stranger.status, StatusCode::NOT_FOUND, "{stranger:?}");
    let revoked = call(&world, "pat", Method::POST, &path, Some(json!({}))).await;
    assert_eq!((revoked.status, &revoked.json()["state"]), (StatusCode::OK, &json!("revoked")));
    assert_eq!(code(&delete("none").await), "ApprovalRequired");
    let log = world.stop().await;
    assert_eq!(log.events("grant_revoked").len(), 1);
}

/// How many records of an event a running gate has written.
pub fn recorded(world: &World, event: &str) -> usize {
    let storage = amlgate::audit::storage::Directory::at(world.directory().join("var/audit"));
    let mut reader = amlgate::audit::read::Reader::new(storage);
    let records = std::iter::from_fn(|| reader.record().unwrap());
    let values = records.filter_map(|record| serde_json::from_slice::<Value>(&record.line).ok());
    values.filter(|value| value["unmapped"]["amlgate"]["event"] == event).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_a_request_or_a_grant_is_recorded_with_who_did_it() {
    let clock = ManualClock::starting_at(SystemClock.now());
    let policies = policies("")
        .replacen("by: [{subject: platform}]", "by: [{subject: platform}, {subject: reviewers}]", 1)
        .replacen("  copilots:", "  reviewers: [{issuer: sandbox, group: model-review}]\n  copilots:", 1);
    let changes = Changes { policies: Some(&policies), ..Changes::default() };
    let world = World::at(changes, Arc::new(clock.clone())).await;
    let mut asked = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let decision = refused(&world.caller("sam"), name).await;
        asked.push(ask(&world, "sam", &decision).await);
    }
    for (by, number, verb) in
        [("pat", 0, "approve"), ("rita", 0, "approve"), ("rita", 1, "deny"), ("sam", 2, "withdraw")]
    {
        let answer = answer(&world, by, &asked[number], verb).await;
        assert_eq!(answer.status, StatusCode::OK, "{by} {verb}: {answer:?}");
    }
    // Nobody answers the last, and nobody uses the grant: a day later both are over.
    clock.advance(Duration::from_secs(86_400));
    let over = async {
        while recorded(&world, "approval_expired") + recorded(&world, "grant_expired") < 2 {
            clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), over).await.expect("that they are over is recorded");
    let log = world.stop().await;
    for (event, number, by) in [
        ("approval_voted", 0, json!("sandbox:user-pat")),
        ("approved", 0, json!("sandbox:user-rita")),
        ("approval_denied", 1, json!("sandbox:user-rita")),
        ("approval_withdrawn", 2, json!("sandbox:user-sam")),
        ("approval_expired", 3, Value::Null),
    ] {
        let found = log.events(event);
        let [one] = &found[..] else { panic!("{event}: {found:?}") };
        assert_eq!((&one["request"], &one["by"]), (&json!(asked[number]), &by), "{event}");
    }
    let (given, expired) = (log.events("grant_given"), log.events("grant_expired"));
    assert_eq!((given.len(), expired.len(), &given[0]["grant"]), (1, 1, &expired[0]["grant"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_and_granted_outlives_the_gate() {
    let (world, clock) = world("").await;
    let decision = refused(&world.caller("sam"), "kept").await;
    let id = ask(&world, "sam", &decision).await;
    let world = world.started_anew(Arc::new(clock)).await;
    assert_eq!(answer(&world, "pat", &id, "approve").await.status, StatusCode::OK);
    let passed = world.caller("sam").put(&target("kept"), &job()).await;
    assert!(passed.status.is_success(), "{passed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_request_is_refused_in_words() {
    let (world, clock) = world("").await;
    let decision = refused(&world.caller("sam"), "x").await;
    let post =
        async |by: &str, body: Value| call(&world, by, Method::POST, "/api/v1/requests", Some(body)).await;
    assert_eq!(
        post("pat", json!({"decision": decision})).await.status,
        StatusCode::NOT_FOUND,
        "another's call"
    );
    assert_eq!(post("sam", json!({"decision": "none"})).await.status, StatusCode::NOT_FOUND);
    for body in [
        json!({}),
        json!({"decision": decision, "urgent": true}),
        json!({"decision": decision, "reason": "x".repeat(2_000)}),
        json!({"decision": decision, "reason": "a\u{7}b"}),
    ] {
        assert_eq!(post("sam", body.clone()).await.status, StatusCode::BAD_REQUEST, "{body}");
    }
    let id = ask(&world, "sam", &decision).await;
    for (by, verb, status) in [
        ("sam", "approve", 403),
        ("sam", "deny", 403),
        // Whoever may not see it is not told that it is there.
        ("rita", "approve", 404),
        ("rita", "withdraw", 404),
        ("sam", "withdraw", 200),
        ("pat", "approve", 409),
    ] {
        let answer = answer(&world, by, &id, verb).await;
        assert_eq!(answer.status.as_u16(), status, "{by} {verb}: {answer:?}");
    }
    // A form, which a page of another origin could send, is no answer; nor is a link.
    let path = format!("/api/v1/requests/{id}/approve");
    let form = api::request(&world, Method::POST, &path)
        .header(header::AUTHORIZATION, format!("Bearer {}", api::token(&world, "pat")))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let answer = api::ask(&world, form.body(whole("note=yes")).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{answer:?}");
    assert_eq!(call(&world, "pat", Method::GET, &path, None).await.status, StatusCode::METHOD_NOT_ALLOWED);
    let cross = api::request(&world, Method::POST, &path)
        .header(header::AUTHORIZATION, format!("Bearer {}", api::token(&world, "pat")))
        .header("sec-fetch-site", "cross-site")
        .header(header::CONTENT_TYPE, "application/json");
    let answer = api::ask(&world, cross.body(whole("{}")).unwrap()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    // The page of what is another's is for whom an entry lets see it.
    let all = "/api/v1/requests?show=all&state=withdrawn";
    assert_eq!(call(&world, "pat", Method::GET, all, None).await.json()["requests"][0]["id"], json!(id));
    assert_eq!(call(&world, "sam", Method::GET, all, None).await.status, StatusCode::FORBIDDEN);
    let later = refused(&world.caller("sam"), "y").await;
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(post("sam", json!({"decision": later})).await.status, StatusCode::NOT_FOUND, "too long ago");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_lift_names_no_request() {
    let machines = "  - {name: ci asks, who: [ci], kinds: [write], approval: {by: [human]}}\n";
    let policies = policies("")
        .replace("subjects:\n", "subjects:\n  ci: [{issuer: sandbox, claims: {repository_id: \"42\"}}]\n")
        .replace("[scientists, platform], actions", "[scientists, platform, ci], actions")
        + machines
        + "deny:\n  - {name: nothing is deleted, kinds: [delete]}\n";
    let world = World::changed(Changes { policies: Some(&policies), ..Changes::default() }).await;
    let answer = world.caller("ci").put(&target("x"), &job()).await;
    assert_eq!(code(&answer), "ApprovalRequired", "{answer:?}");
    assert!(answer.text().contains("nobody can give it"), "{answer:?}");
    let denied = world.caller("sam").delete(&target("x")).await;
    assert_eq!(code(&denied), "RequestDisallowedByPolicy", "{denied:?}");
    for answer in [answer, denied] {
        assert!(
            !answer.text().contains("request create") && !answer.text().contains("requests/new"),
            "{answer:?}"
        );
    }
}
