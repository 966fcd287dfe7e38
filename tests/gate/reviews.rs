//! Only from reviewed code: a Gerrit is asked, and whatever it does not say clearly is a no.

pub mod stand_in;

use std::{sync::Arc, time::Duration};

use amlgate::{
    sandbox::{
        Person,
        azure::{UserToken, names},
    },
    time::{Clock as _, ManualClock, SystemClock},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use self::stand_in::{ANA, BO, Gerrit, Mood, SHA, TOKEN};
use crate::{
    approvals::call_with,
    world::{Answer, Changes, VERSION, World, job, workspace},
};

const POLICIES: &str = "version: 1
subjects:
  everybody: [{issuer: sandbox, group: data-science}, {issuer: sandbox, kind: machine}]
allow:
  - {name: they work, who: [everybody], actions: [Microsoft.MachineLearningServices/*]}
require:
  - name: jobs come from reviewed code
    actions: [Microsoft.MachineLearningServices/workspaces/jobs/write]
    review: {gerrit: main, project: ml/vision, branch: main, commit: caller.sha, by: [{gerrit_group: risk reviewers, count: 1}]}
";

/// A gate that asks the stand-in, by a clock that is moved by hand.
pub async fn world(gerrit: &Gerrit, policies: &str) -> (World, ManualClock) {
    let linked = "{gerrit: main, external_id: azure-oauth}";
    world_with(gerrit, policies, "accounts: {match: external_id}", linked).await
}

/// The same with other keys of the Gerrit, and other links of people.
pub async fn world_with(gerrit: &Gerrit, policies: &str, more: &str, links: &str) -> (World, ManualClock) {
    let clock = ManualClock::starting_at(SystemClock.now());
    let block = format!(
        "gerrit:\n  - {{name: main, url: \"http://{}/r/\", user: amlgate, token: {{file: gerrit.token}}, {more}}}\npeople: {{canonical: entra, links: [{links}]}}\npolicies: policies/",
        gerrit.address
    );
    let configuration = &[("policies: policies/", block.as_str())];
    let changes = Changes { policies: Some(policies), configuration };
    (World::having_at(&[("gerrit.token", TOKEN)], changes, Arc::new(clock.clone())).await, clock)
}

/// The CI job's token for a build of a commit.
pub fn built(world: &World, sha: &str) -> String {
    let ci = Person::named("ci").unwrap();
    world
        .sandbox
        .issuer
        .mint()
        .token_with(ci, |claims| drop(claims.insert("sha".into(), sha.into())))
        .unwrap()
}

async fn submits(world: &World, token: &str, name: &str) -> Answer {
    world.bearing(token).put(&workspace(&format!("/jobs/{name}?{VERSION}")), &job()).await
}

/// A refusal for want of a review; its cause.
fn refused(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "ReviewRequired", "{answer:?}");
    let message = error["message"].as_str().unwrap().to_owned();
    assert!(message.contains("`jobs come from reviewed code`"), "{message}");
    assert!(!message.contains(TOKEN) && !message.contains("ana@"), "{message}");
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reviewed_commit_goes_on_and_the_record_says_who_reviewed_it() {
    let gerrit = Gerrit::start().await;
    let (world, _) = world(&gerrit, POLICIES).await;
    // What no entry asks about is not asked.
    let read = world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await;
    assert_eq!(read.status, StatusCode::OK);
    assert_eq!(gerrit.asked(), Vec::<(String, String)>::new());
    let answer = submits(&world, &built(&world, SHA), "one").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let asked = gerrit.asked();
    let basic = "Basic YW1sZ2F0ZTpnZXJyaXQtdG9rZW4tY2FuYXJ5";
    assert!(
        asked.iter().all(|(authorization, path)| authorization == basic && path.starts_with("/r/a/")),
        "{asked:?}"
    );
    assert!(
        asked.iter().any(|(_, path)| path.starts_with("/r/a/projects/ml%2Fvision/commits:in?")),
        "{asked:?}"
    );
    let log = world.stop().await;
    assert!(!format!("{:?}", log.records).contains(TOKEN), "the record holds the token");
    let own = |record: &&Value| record["unmapped"]["amlgate"].clone();
    let written: Vec<_> = log.requests().iter().map(own).filter(|own| own["kind"] == "write").collect();
    let phases: Vec<_> = written.iter().map(|own| own["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["intent", "outcome"]);
    for own in written {
        let review = &own["reviews"][0];
        assert_eq!(review["entry"], "jobs come from reviewed code");
        assert_eq!((review["change"].as_u64(), review["sha"].as_str()), (Some(42), Some(SHA)));
        assert_eq!(review["url"], format!("http://{}/r/c/ml/vision/+/42", gerrit.address));
        assert_eq!(review["meta_rev_id"], "9f00000000000000000000000000000000000000");
        assert_eq!(review["server"], "main");
        assert_eq!(review["requirements"], json!([{"name": "Code-Review", "status": "SATISFIED"}]));
        let person = format!("entra:{}/{}", names::TENANT, stand_in::oid(BO));
        assert_eq!(review["approvers"], json!([{"account": BO, "person": person}]));
        assert!(review["asked"].as_u64().is_some() && review["submitted"].as_str().is_some());
    }
}

/// What is changed at the Gerrit.
type Edit = fn(&mut stand_in::State);

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_with_a_review_is_refused_and_said() {
    let gerrit = Gerrit::start().await;
    let (world, _) = world(&gerrit, POLICIES).await;
    let cases: [(Edit, &str); 14] = [
        (|g| g.change["status"] = "NEW".into(), "change 42 is not merged"),
        (|g| g.change["branch"] = "release".into(), "no change that the gate may see has this commit"),
        (|g| g.change["current_revision"] = "c".repeat(40).into(), "merged with another patch set"),
        (|g| g.change["is_private"] = true.into(), "its change is private"),
        (|g| g.held.clear(), "branch `main` does not hold the commit"),
        (
            |g| g.change["submit_requirements"][0]["status"] = "FORCED".into(),
            "submit requirement `Code-Review` was FORCED",
        ),
        (|g| g.change["submit_requirements"] = json!([]), "no submit requirement"),
        (|g| g.vote()["post_submit"] = true.into(), "nobody whose vote counts"),
        (|g| g.vote()["_account_id"] = ANA.into(), "nobody whose vote counts"),
        (|g| g.account(BO)["tags"] = json!(["SERVICE_USER"]), "nobody whose vote counts"),
        (|g| g.account(BO)["secondary_emails"] = json!(["ana@x.example"]), "nobody whose vote counts"),
        (|g| drop(g.externals.insert(BO, json!([]))), "nobody whose vote counts"),
        (
            |g| drop(g.groups.insert("risk reviewers".into(), vec![ANA])),
            "not enough members of Gerrit's group `risk reviewers`",
        ),
        (|g| g.groups.clear(), "the gate sees no group `risk reviewers`"),
    ];
    for (number, (edit, expected)) in cases.into_iter().enumerate() {
        gerrit.reset(edit);
        let message = refused(&submits(&world, &built(&world, SHA), &format!("no-{number}")).await);
        assert!(message.contains(expected), "{expected}: {message}");
    }
    // Whose token does not say what was built is not asked about.
    gerrit.reset(|_| {});
    gerrit.asked();
    for token in
        [world.sandbox.issuer.token("sam").unwrap(), built(&world, "main"), built(&world, &SHA[..12])]
    {
        let message = refused(&submits(&world, &token, "claimed").await);
        assert!(message.contains("no claim `sha` that names a commit"), "{message}");
    }
    assert_eq!(gerrit.asked(), Vec::<(String, String)>::new());
    // Another commit than the reviewed one is a push around review.
    let message = refused(&submits(&world, &built(&world, &"d".repeat(40)), "pushed").await);
    assert!(message.contains("pushed around review"), "{message}");
    assert_eq!(world.sandbox.azure.observer().seen_at("/jobs/").len(), 0, "nothing was sent");
    let log = world.stop().await;
    assert_eq!(log.requests().iter().filter(|r| r["action_id"] == 2).count(), 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_of_gerrits_is_a_no() {
    let gerrit = Gerrit::start().await;
    let (world, clock) = world(&gerrit, POLICIES).await;
    let token = built(&world, SHA);
    for (mood, expected) in [
        (Mood::Status(401), "does not let the gate read its"),
        (Mood::Status(403), "does not let the gate read its"),
        (Mood::Status(404), "knows nothing of changes"),
        (Mood::Status(500), "Gerrit `main` does not answer"),
        (Mood::Status(503), "Gerrit `main` does not answer"),
        (Mood::Status(429), "Gerrit `main` does not answer"),
        (Mood::Redirect, "gave no answer that can be read"),
        (Mood::Body("<html><form action=/login></form></html>"), "gave no answer that can be read"),
        (Mood::Body("[]"), "gave no answer that can be read"),
        (Mood::Body(")]}'\n{}"), "gave no answer that can be read"),
        (Mood::Body(")]}'\n"), "gave no answer that can be read"),
        (Mood::Huge, "gave no answer that can be read"),
        (Mood::Breaks, "Gerrit `main` does not answer"),
    ] {
        gerrit.is(mood);
        let message = refused(&submits(&world, &token, "odd").await);
        assert!(message.contains(expected), "{mood:?}: {message}");
    }
    // Who says nothing is waited for no longer than ten seconds.
    gerrit.is(Mood::Silent);
    gerrit.asked();
    let waits = submits(&world, &token, "silent");
    let passes = async {
        gerrit.is_asked().await;
        clock.advance(Duration::from_secs(10));
    };
    let (silent, ()) = tokio::join!(waits, passes);
    assert!(refused(&silent).contains("did not answer within 10 s"), "{silent:?}");
    // A part that is missing is no less.
    gerrit.is(Mood::Well);
    for part in ["commits:in", "/detail", "/external.ids", "/members/", "accounts/?q="] {
        gerrit.is(Mood::FailsAt(part));
        let message = refused(&submits(&world, &token, "part").await);
        assert!(message.contains("does not answer"), "{part}: {message}");
    }
    gerrit.is(Mood::Well);
    assert_eq!(submits(&world, &token, "well").await.status, StatusCode::CREATED);
    assert_eq!(world.sandbox.azure.observer().seen_at("/jobs/").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_counts_for_a_moment_and_no_longer() {
    let gerrit = Gerrit::start().await;
    let (world, clock) = world(&gerrit, POLICIES).await;
    let token = built(&world, SHA);
    assert_eq!(submits(&world, &token, "first").await.status, StatusCode::CREATED);
    gerrit.asked();
    gerrit.reset(|g| g.held.clear());
    clock.advance(Duration::from_secs(4));
    assert!(submits(&world, &token, "burst").await.status.is_success());
    assert_eq!(gerrit.asked(), Vec::<(String, String)>::new());
    clock.advance(Duration::from_secs(1));
    assert!(refused(&submits(&world, &token, "rewound").await).contains("does not hold the commit"));
    // A no is not remembered.
    gerrit.reset(|_| {});
    assert_eq!(submits(&world, &token, "again").await.status, StatusCode::CREATED);
}

/// What comes of a call while the clock moves on whenever nothing has come of it yet.
async fn moved<F: Future<Output = Answer> + Unpin>(clock: &ManualClock, by: Duration, mut call: F) -> Answer {
    loop {
        match tokio::time::timeout(Duration::from_millis(50), &mut call).await {
            Ok(answer) => return answer,
            Err(_) => clock.advance(by),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_entry_holds_it_waits_until_gerrit_answers_and_no_longer_than_two_minutes() {
    let gerrit = Gerrit::start().await;
    let holding = POLICIES.replace("commit: caller.sha", "commit: caller.sha, on_unreachable: hold");
    let (world, clock) = world(&gerrit, &holding).await;
    let token = built(&world, SHA);
    gerrit.is(Mood::Status(503));
    let mut waits = Box::pin(submits(&world, &token, "held"));
    let held = tokio::select! {
        early = &mut waits => early,
        () = gerrit.is_asked() => {
            gerrit.is(Mood::Well);
            moved(&clock, Duration::from_secs(2), waits).await
        }
    };
    assert_eq!(held.status, StatusCode::CREATED, "{held:?}");
    // What is wrong is not waited for, and nobody is waited for longer.
    gerrit.reset(|g| g.held.clear());
    clock.advance(Duration::from_secs(5));
    assert!(refused(&submits(&world, &token, "wrong").await).contains("does not hold the commit"));
    gerrit.is(Mood::Status(503));
    let began = clock.now();
    let never = moved(&clock, Duration::from_secs(5), Box::pin(submits(&world, &token, "never"))).await;
    assert!(refused(&never).contains("Gerrit `main` does not answer"), "{never:?}");
    assert!(clock.now().since(began) >= Duration::from_secs(120));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_token_is_used_without_a_restart_and_the_doctor_says_what_it_may_read() {
    let gerrit = Gerrit::start().await;
    let (world, clock) = world(&gerrit, POLICIES).await;
    let token = built(&world, SHA);
    assert_eq!(submits(&world, &token, "first").await.status, StatusCode::CREATED);
    gerrit.asked();
    std::fs::write(world.dir.path().join("gerrit.token"), "renewed").unwrap();
    world.server.reload().await;
    clock.advance(Duration::from_secs(5));
    assert_eq!(submits(&world, &token, "second").await.status, StatusCode::CREATED);
    assert_eq!(gerrit.asked()[0].0, "Basic YW1sZ2F0ZTpyZW5ld2Vk");
    let doctor = || {
        let settings = amlgate::config::load(&world.sandbox.configuration()).unwrap();
        let clock: amlgate::time::SharedClock = Arc::new(SystemClock);
        async move {
            let found = amlgate::server::checkup::check_up(&settings, &clock, None).await.unwrap();
            found.into_iter().find(|finding| finding.part == "gerrit main").unwrap()
        }
    };
    let found = serde_json::to_value(doctor().await).unwrap();
    assert_eq!(found["state"], "fine", "{found}");
    assert!(found["seen"].as_str().unwrap().contains("Gerrit 3.13.2 knows it as account 1000009"), "{found}");
    gerrit.reset(|g| g.capabilities = json!({}));
    let found = serde_json::to_value(doctor().await).unwrap();
    assert_eq!(found["state"], "broken", "{found}");
    assert!(found["mend"].as_str().unwrap().contains("Modify Account"), "{found}");
    gerrit.is(Mood::Status(401));
    let found = serde_json::to_value(doctor().await).unwrap();
    assert!(found["why"].as_str().unwrap().contains("it refused the gate's own user"), "{found}");
}

/// What the CI job builds needs somebody's yes, who is not the author of the commit.
const APPROVED: &str = "version: 1
subjects:
  ci: [{issuer: sandbox, kind: machine}]
  approvers: [{issuer: entra, subject: TENANT/5a000000-0000-4000-8000-000000000002}, {issuer: entra, subject: TENANT/5a000000-0000-4000-8000-000000000003}]
allow:
  - {name: it works, who: [ci], actions: [Microsoft.MachineLearningServices/*, amlgate/requests/*]}
  - {name: they answer, who: [approvers], actions: [amlgate/requests/*]}
require:
  - name: jobs come from reviewed code
    actions: [Microsoft.MachineLearningServices/workspaces/jobs/write]
    review: {gerrit: main, project: ml/vision, branch: main, commit: caller.sha}
    approval: {by: [{subject: approvers}], uses: 3, never: [requester, commit_author]}
";

/// Makes somebody of the simulated Entra the human behind the author's account.
fn writes(gerrit: &Gerrit, name: &str) {
    let person = Person::named(name).unwrap();
    gerrit.reset(|g| {
        let identity = format!("azure-oauth:{}", person.object_id);
        g.externals.insert(ANA, json!([{"identity": identity, "trusted": true}]));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_wrote_the_code_does_not_approve_its_use_and_a_yes_is_for_their_code_alone() {
    let gerrit = Gerrit::start().await;
    writes(&gerrit, "rita");
    let (world, clock) = world(&gerrit, &APPROVED.replace("TENANT", names::TENANT)).await;
    let ci = built(&world, SHA);
    let error = |answer: &Answer| answer.json()["error"].clone();
    let refused = submits(&world, &ci, "one").await;
    assert_eq!(error(&refused)["code"], "ApprovalRequired", "{refused:?}");
    let message = error(&refused)["message"].as_str().unwrap().to_owned();
    assert!(message.contains("none of whom wrote the code"), "{message}");
    let decision = json!({"decision": refused.header("x-amlgate-decision")});
    let asked = call_with(&world, &ci, Method::POST, "/api/v1/requests", Some(decision)).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{asked:?}");
    let path = format!("/api/v1/requests/{}/approve", asked.json()["requests"][0]["id"].as_str().unwrap());
    let says_yes = async |name: &str| {
        let person = Person::named(name).unwrap();
        let token = world.sandbox.azure.user_token_with(person, &UserToken::default(), |_| {}).unwrap();
        call_with(&world, &token, Method::POST, &path, Some(json!({}))).await
    };
    let author = says_yes("rita").await;
    assert_eq!(author.status, StatusCode::FORBIDDEN, "{author:?}");
    assert!(author.text().contains("you wrote the code"), "{author:?}");
    assert_eq!(says_yes("pat").await.status, StatusCode::OK);
    assert_eq!(submits(&world, &ci, "one").await.status, StatusCode::CREATED);
    // Were pat the author, pat would have approved their own: that yes is for nothing now.
    writes(&gerrit, "pat");
    clock.advance(Duration::from_secs(601));
    let other = submits(&world, &ci, "one").await;
    assert_eq!(error(&other)["code"], "ApprovalRequired", "{other:?}");
    // And whoever nobody knows as a person may be anybody.
    gerrit.reset(|g| {
        g.externals.insert(ANA, json!([]));
    });
    clock.advance(Duration::from_secs(10));
    let unknown = submits(&world, &ci, "one").await;
    assert!(unknown.text().contains("who wrote the code is not known as a person"), "{unknown:?}");
    assert!(!unknown.text().contains("request create"), "{unknown:?}");
}
