//! Reviewer roles: whoever may approve code decides what policies let them decide, and nothing else.

use std::{sync::Arc, time::Duration};

use amlgate::{
    sandbox::{Person, azure::UserToken},
    time::{ManualClock, SystemClock},
};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::{
    approvals::call_with,
    reviews::{
        self,
        stand_in::{ANA, BO, Gerrit, Mood, State},
    },
    world::{Answer, VERSION, World, job, workspace},
};

/// The group as the stand-in has it.
const GROUP: &str = "risk reviewers";

const POLICIES: &str = "version: 1
subjects:
  reviewers: [{gerrit: {server: main, group: risk reviewers}}]
  scientists: [{issuer: entra, group: 6f9619ff-8b86-4011-b42d-00cf4fc964f1}]
allow:
  - {name: reviewers see jobs, who: [reviewers], actions: [Microsoft.MachineLearningServices/workspaces/jobs/read]}
  - {name: all see computes, who: [authenticated], actions: [Microsoft.MachineLearningServices/workspaces/computes/read]}
  - {name: scientists submit, who: [scientists], actions: [Microsoft.MachineLearningServices/workspaces/jobs/write, amlgate/requests/*]}
  - {name: reviewers answer, who: [reviewers], actions: [amlgate/requests/*, amlgate/whoami/read]}
require:
  - name: jobs are approved by who may approve code
    actions: [Microsoft.MachineLearningServices/workspaces/jobs/write]
    approval: {by: [{gerrit_group: {server: main, group: risk reviewers}}]}
";

/// Makes people of the simulated Entra the humans behind Ana's and Bo's accounts, and then this.
fn are(gerrit: &Gerrit, ana: &str, bo: &str, edit: impl FnOnce(&mut State)) {
    gerrit.reset(|g| {
        for (account, name) in [(ANA, ana), (BO, bo)] {
            let identity = format!("azure-oauth:{}", Person::named(name).unwrap().object_id);
            g.externals.insert(account, json!([{"identity": identity, "trusted": true}]));
        }
        edit(g);
    });
}

/// Rita is in the group, and pat is not.
async fn scene(policies: &str) -> (Gerrit, World, ManualClock) {
    let gerrit = Gerrit::start().await;
    are(&gerrit, "pat", "rita", |_| {});
    let (world, clock) = reviews::world(&gerrit, policies).await;
    (gerrit, world, clock)
}

fn token_with(world: &World, name: &str, change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let person = Person::named(name).unwrap();
    let wanted = UserToken { lifetime: Duration::from_secs(12 * 3_600), ..UserToken::default() };
    world.sandbox.azure.user_token_with(person, &wanted, change).unwrap()
}

fn token(world: &World, name: &str) -> String {
    token_with(world, name, |_| {})
}

async fn sees(world: &World, name: &str, what: &str) -> Answer {
    world.bearing(&token(world, name)).get(&workspace(&format!("/{what}?{VERSION}"))).await
}

fn cause(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    answer.json()["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_people_of_a_group_may_what_the_policies_let_them_and_nobody_else_may() {
    let (gerrit, world, clock) = scene(POLICIES).await;
    for _ in 0..3 {
        assert_eq!(sees(&world, "rita", "jobs").await.status, StatusCode::OK);
    }
    let asked = gerrit.asked().iter().filter(|(_, path)| path.contains("/members/")).count();
    assert_eq!(asked, 1, "one reading serves until it is no longer fresh");
    assert_eq!(sees(&world, "pat", "jobs").await.status, StatusCode::FORBIDDEN);
    assert_eq!(sees(&world, "pat", "computes").await.status, StatusCode::OK);
    // Who leaves loses it with the next reading, and who joins has it.
    are(&gerrit, "pat", "rita", |g| drop(g.groups.insert(GROUP.into(), vec![ANA])));
    assert_eq!(sees(&world, "rita", "jobs").await.status, StatusCode::OK, "it is still fresh");
    clock.advance(Duration::from_secs(301));
    assert_eq!(sees(&world, "rita", "jobs").await.status, StatusCode::FORBIDDEN);
    assert_eq!(sees(&world, "pat", "jobs").await.status, StatusCode::OK);
    let log = world.stop().await;
    let own = |n: usize| log.requests()[n]["unmapped"]["amlgate"].clone();
    assert_eq!(own(0)["gerrit_groups"], json!([format!("main/{GROUP}")]), "{}", own(0));
    assert_eq!(own(0)["gerrit_groups_asked"], own(0)["gerrit_groups"]);
    assert!(
        log.requests().iter().all(|record| record["unmapped"]["amlgate"]["gerrit_groups_unread"].is_null())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_are_nobodys_bring_nobody_in() {
    let (gerrit, world, clock) = scene(POLICIES).await;
    assert_eq!(sees(&world, "rita", "jobs").await.status, StatusCode::OK);
    let cases: [fn(&mut State); 5] = [
        |g| g.account(BO)["inactive"] = true.into(),
        |g| g.account(BO)["tags"] = json!(["SERVICE_USER"]),
        |g| drop(g.externals.insert(BO, json!([]))),
        |g| g.externals.get_mut(&BO).unwrap()[0]["trusted"] = false.into(),
        |g| drop(g.accounts.remove(&BO)),
    ];
    for (number, edit) in cases.into_iter().enumerate() {
        are(&gerrit, "pat", "rita", edit);
        clock.advance(Duration::from_secs(301));
        assert_eq!(sees(&world, "rita", "jobs").await.status, StatusCode::FORBIDDEN, "{number}");
        are(&gerrit, "pat", "rita", |_| {});
        clock.advance(Duration::from_secs(301));
        assert_eq!(sees(&world, "rita", "jobs").await.status, StatusCode::OK, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_known_for_a_while_when_gerrit_is_away_and_then_nobody_is_in_it() {
    let denies = POLICIES.replace(
        "require:",
        "deny:\n  - {name: reviewers see no computes, who: [reviewers], actions: [Microsoft.MachineLearningServices/workspaces/computes/read]}\nrequire:",
    );
    let (gerrit, world, clock) = scene(&denies).await;
    assert_eq!(sees(&world, "rita", "jobs").await.status, StatusCode::OK);
    assert_eq!(sees(&world, "pat", "computes").await.status, StatusCode::OK);
    gerrit.is(Mood::Status(503));
    clock.advance(Duration::from_secs(600));
    assert_eq!(sees(&world, "rita", "jobs").await.status, StatusCode::OK);
    clock.advance(Duration::from_secs(301));
    let stale = cause(&sees(&world, "rita", "jobs").await);
    assert!(stale.contains("Gerrit `main` does not answer"), "{stale}");
    // What is denied to the group is denied to whoever may be in it.
    let denied = cause(&sees(&world, "pat", "computes").await);
    assert!(denied.contains("`reviewers see no computes`"), "{denied}");
    gerrit.is(Mood::Well);
    clock.advance(Duration::from_secs(6));
    assert_eq!(sees(&world, "rita", "jobs").await.status, StatusCode::OK, "it is asked again soon");
    assert_eq!(sees(&world, "pat", "computes").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_gone_or_not_shown_has_nobody_at_once() {
    let (gerrit, world, clock) = scene(POLICIES).await;
    for (mood, edit, expected) in [
        (Mood::Well, true, "the gate sees no group `risk reviewers` in Gerrit `main`"),
        (Mood::Status(403), false, "does not let the gate read group `risk reviewers`"),
        (Mood::Body("[]"), false, "does not tell who is in group `risk reviewers`"),
        (Mood::Redirect, false, "does not tell who is in group `risk reviewers`"),
        (Mood::Huge, false, "does not tell who is in group `risk reviewers`"),
    ] {
        assert_eq!(sees(&world, "rita", "jobs").await.status, StatusCode::OK, "{expected}");
        are(&gerrit, "pat", "rita", |g| {
            if edit {
                g.groups.clear();
            }
        });
        gerrit.is(mood);
        clock.advance(Duration::from_secs(301));
        let gone = cause(&sees(&world, "rita", "jobs").await);
        assert!(gone.contains(expected), "{gone}");
        are(&gerrit, "pat", "rita", |_| {});
        gerrit.is(Mood::Well);
        clock.advance(Duration::from_secs(6));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_named_by_its_uuid_too_and_never_by_a_number() {
    let uuid = reviews::stand_in::uuid(GROUP);
    let (_gerrit, world, _) =
        scene(&POLICIES.replace("group: risk reviewers", &format!("group: {uuid}"))).await;
    assert_eq!(sees(&world, "rita", "jobs").await.status, StatusCode::OK);
    let (_gerrit, world, _) = scene(&POLICIES.replace("group: risk reviewers", "group: '7'")).await;
    let other = cause(&sees(&world, "rita", "jobs").await);
    assert!(other.contains("has no group of the name or UUID `7`"), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_a_new_policy_names_is_asked_about_at_once() {
    let (gerrit, world, _) = scene(POLICIES).await;
    assert_eq!(sees(&world, "rita", "jobs").await.status, StatusCode::OK);
    are(&gerrit, "pat", "rita", |g| drop(g.groups.insert("others".into(), vec![ANA])));
    let other = POLICIES.replace("group: risk reviewers", "group: others");
    std::fs::write(world.directory().join("policies/sandbox.yaml"), other).unwrap();
    world.server.reload().await;
    assert_eq!(sees(&world, "rita", "jobs").await.status, StatusCode::FORBIDDEN);
    assert_eq!(sees(&world, "pat", "jobs").await.status, StatusCode::OK);
}

/// Their issuer says whether it has seen to it that an e-mail is theirs.
fn set(claims: &mut Map<String, Value>, mail: &str, vouched: bool) {
    claims.insert("email".into(), mail.into());
    claims.insert("xms_edov".into(), vouched.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_e_mail_makes_a_member_only_where_the_server_says_so_and_the_issuer_has_seen_to_it() {
    let gerrit = Gerrit::start().await;
    let mail = |g: &mut State| {
        g.externals.clear();
        g.externals.insert(BO, json!([{"identity": "gerrit:bo", "trusted": true}]));
    };
    gerrit.reset(mail);
    let (world, _) = reviews::world_with(&gerrit, POLICIES, "accounts: {match: email}", "").await;
    let sees = async |change: fn(&mut Map<String, Value>)| {
        let token = token_with(&world, "rita", change);
        world.bearing(&token).get(&workspace(&format!("/jobs?{VERSION}"))).await.status
    };
    assert_eq!(sees(|c| set(c, "BO@x.example", true)).await, StatusCode::OK);
    assert_eq!(sees(|c| set(c, "bo@x.example", false)).await, StatusCode::FORBIDDEN);
    assert_eq!(sees(|c| drop(c.insert("email".into(), "bo@x.example".into()))).await, StatusCode::FORBIDDEN);
    assert_eq!(sees(|c| set(c, "ana@x.example", true)).await, StatusCode::FORBIDDEN);
    drop(world);
    let (world, _) = reviews::world(&gerrit, POLICIES).await;
    let token = token_with(&world, "rita", |c| set(c, "bo@x.example", true));
    let answer = world.bearing(&token).get(&workspace(&format!("/jobs?{VERSION}"))).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "external ids are what counts");
}

async fn submits(world: &World, name: &str) -> Answer {
    world.bearing(&token(world, name)).put(&workspace(&format!("/jobs/one?{VERSION}")), &job()).await
}

/// Sam submits, is refused, and asks: the path of the request for approval.
async fn asked(world: &World) -> String {
    let refused = submits(world, "sam").await;
    assert!(
        cause(&refused).contains("the approval of 1 of group `risk reviewers` of Gerrit `main`"),
        "{refused:?}"
    );
    let decision = json!({"decision": refused.header("x-amlgate-decision")});
    let asked =
        call_with(world, &token(world, "sam"), Method::POST, "/api/v1/requests", Some(decision)).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{asked:?}");
    let request = asked.json()["requests"][0].clone();
    let demand = json!({"gerrit_group": {"server": "main", "group": GROUP}, "count": 1});
    assert_eq!(request["demands"], json!([demand]), "{request}");
    format!("/api/v1/requests/{}", request["id"].as_str().unwrap())
}

async fn approves(world: &World, name: &str, request: &str) -> Answer {
    call_with(world, &token(world, name), Method::POST, &format!("{request}/approve"), Some(json!({}))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_may_approve_code_approve_and_that_gives_them_nothing_themselves() {
    let (gerrit, world, clock) = scene(POLICIES).await;
    let request = asked(&world).await;
    // Whom the entries let answer, and who is in no group that is demanded.
    let pat = approves(&world, "pat", &request).await;
    assert_eq!(pat.status, StatusCode::FORBIDDEN, "{pat:?}");
    assert_eq!(submits(&world, "sam").await.status, StatusCode::FORBIDDEN);
    let seen = call_with(&world, &token(&world, "rita"), Method::GET, &request, None).await;
    assert_eq!(seen.json()["can"], json!(["approve", "deny"]), "{seen:?}");
    assert_eq!(approves(&world, "rita", &request).await.status, StatusCode::OK);
    // Whoever left since has approved nothing, and is heard again once they are back.
    are(&gerrit, "pat", "rita", |g| drop(g.groups.insert(GROUP.into(), vec![ANA])));
    clock.advance(Duration::from_secs(301));
    assert!(cause(&submits(&world, "sam").await).contains("the approval of 1 of group"));
    are(&gerrit, "pat", "rita", |_| {});
    clock.advance(Duration::from_secs(301));
    let passed = submits(&world, "sam").await;
    assert_eq!(passed.status, StatusCode::CREATED, "{passed:?}");
    // Approving code and its use lets nobody do what no entry says.
    assert!(cause(&submits(&world, "rita").await).contains("jobs/write"));
    // Whoever is in the group no more answers no more.
    clock.advance(Duration::from_secs(601));
    let request = asked(&world).await;
    are(&gerrit, "pat", "rita", |g| drop(g.groups.insert(GROUP.into(), vec![])));
    clock.advance(Duration::from_secs(301));
    assert_eq!(approves(&world, "rita", &request).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_their_own_however_they_are_known() {
    let policies =
        POLICIES.replace("who: [reviewers], actions: [amlgate", "who: [authenticated], actions: [amlgate");
    let (gerrit, world, _) = scene(&policies).await;
    are(&gerrit, "pat", "sam", |_| {});
    let request = asked(&world).await;
    let own = approves(&world, "sam", &request).await;
    assert_eq!(own.status, StatusCode::FORBIDDEN, "{own:?}");
    assert!(own.text().contains("nobody answers their own request"), "{own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_who_of_a_group_is_known_and_validate_what_can_never_be() {
    let (gerrit, world, _) = scene(POLICIES).await;
    let doctor = async || {
        let settings = amlgate::config::load(&world.sandbox.configuration()).unwrap();
        let clock: amlgate::time::SharedClock = Arc::new(SystemClock);
        let found = amlgate::server::checkup::check_up(&settings, &clock, None).await.unwrap();
        let part = format!("group `{GROUP}` of Gerrit `main`");
        let found = found.into_iter().find(|finding| finding.part == part).unwrap();
        serde_json::to_value(found).unwrap()
    };
    let fine = doctor().await;
    assert_eq!(fine["state"], "fine", "{fine}");
    let uuid = reviews::stand_in::uuid(GROUP);
    let seen = format!("1 people in it are known, and 0 accounts are nobody's; its UUID is {uuid}");
    assert_eq!(fine["seen"], seen);
    are(&gerrit, "pat", "rita", |g| drop(g.externals.insert(BO, json!([]))));
    let doubtful = doctor().await;
    assert_eq!(doubtful["state"], "doubtful", "{doubtful}");
    are(&gerrit, "pat", "rita", |g| g.groups.clear());
    let broken = doctor().await;
    assert_eq!(broken["state"], "broken", "{broken}");
    assert!(broken["why"].as_str().unwrap().contains("the gate sees no group"), "{broken}");
}
