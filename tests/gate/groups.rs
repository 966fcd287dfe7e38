//! Groups that a token does not carry: asked of Microsoft Graph, or not to be known.

use std::{sync::Arc, time::Duration};

use amlgate::{
    sandbox::{
        Fault, Person,
        azure::{UserToken, names},
    },
    time::{Clock as _, ManualClock, SystemClock},
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::world::{Answer, Changes, VERSION, World, workspace};

const ENTRA: &str = "audiences: [9a7e0000-0000-4000-8000-00000000a001, \"api://amlgate\"]}";
const OVERAGE: &str = "audiences: [9a7e0000-0000-4000-8000-00000000a001, \"api://amlgate\"], groups: {overage: graph, credential: gate, address: \"{azure}\", trust: {ca: certs/ca.pem}}}";
/// Sam's group.
const SCIENTISTS: &str = "6f9619ff-8b86-4011-b42d-00cf4fc964f1";
const BANNED: &str = "6f9619ff-8b86-4011-b42d-00cf4fc96666";

fn policies(more_groups: usize) -> String {
    let more: String = (0..more_groups)
        .map(|n| format!("  more-{n}: [{{issuer: entra, group: 6f9619ff-8b86-4011-b42d-{n:012}}}]\n"))
        .collect();
    format!(
        "
version: 1
subjects:
  scientists: [{{issuer: entra, group: {SCIENTISTS}}}]
  banned: [{{issuer: entra, group: {BANNED}}}]
{more}scopes: {{workspace: {}}}
allow:
  - {{name: scientists read, who: [scientists], role: AzureML Data Scientist, scope: workspace}}
  - {{name: everybody sees computes, who: [authenticated], actions: [Microsoft.MachineLearningServices/workspaces/computes/read], scope: workspace}}
deny:
  - {{name: the banned read nothing, who: [banned], kinds: [read]}}
",
        workspace("")
    )
}

struct Scene {
    world: World,
    clock: ManualClock,
}

/// How a token says that it carries too few groups.
fn claim_names(claims: &mut serde_json::Map<String, Value>) {
    claims.remove("groups");
    claims.insert("_claim_names".to_owned(), json!({"groups": "src1"}));
    // Nobody may ever go there.
    let endpoint = "https://graph.windows.net/72f988bf/users/5a/getMemberObjects";
    claims.insert("_claim_sources".to_owned(), json!({"src1": {"endpoint": endpoint}}));
}

fn has_groups(claims: &mut serde_json::Map<String, Value>) {
    claims.remove("groups");
    claims.insert("hasgroups".to_owned(), json!(true));
}

impl Scene {
    async fn new(policies: &str) -> Self {
        Self::of(policies, &[(ENTRA, OVERAGE)]).await
    }

    async fn of(policies: &str, configuration: &[(&str, &str)]) -> Self {
        let clock = ManualClock::starting_at(SystemClock.now());
        let changes = Changes { policies: Some(policies), configuration };
        let world = World::at(changes, Arc::new(clock.clone())).await;
        Self { world, clock }
    }

    fn token(&self, name: &str, how: fn(&mut serde_json::Map<String, Value>)) -> String {
        let person = Person::named(name).unwrap();
        let wanted = UserToken { lifetime: Duration::from_secs(12 * 3_600), ..UserToken::default() };
        self.world.sandbox.azure.user_token_with(person, &wanted, how).unwrap()
    }

    async fn gets(&self, token: &str, what: &str) -> Answer {
        self.world.bearing(token).get(&workspace(&format!("/{what}?{VERSION}"))).await
    }

    /// How often Graph was asked such a question.
    fn asked(&self, question: &str) -> usize {
        self.world.sandbox.azure.observer().seen_at(question).len()
    }
}

fn cause(answer: &Answer) -> String {
    answer.json()["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[tokio::test]
async fn a_member_of_a_named_group_is_known_whichever_way_the_token_says_that_it_carries_too_few() {
    for how in [claim_names, has_groups] {
        let scene = Scene::new(&policies(0)).await;
        let sam = scene.token("sam", how);
        for _ in 0..3 {
            assert_eq!(scene.gets(&sam, "jobs").await.status, StatusCode::OK);
        }
        assert_eq!(scene.asked("checkMemberGroups"), 1, "one answer serves until it is no longer fresh");
        let seen = scene.world.sandbox.azure.observer().seen_at("checkMemberGroups");
        let path = format!("/v1.0/users/{}/checkMemberGroups", Person::named("sam").unwrap().object_id);
        assert_eq!(seen[0].target, path, "{:?}", seen[0]);
        let rita = scene.token("rita", how);
        let refused = scene.gets(&rita, "jobs").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(!cause(&refused).contains("could not be evaluated"), "Graph told: {refused:?}");
        assert_eq!(scene.gets(&rita, "computes").await.status, StatusCode::OK, "she is not banned");
        let log = scene.world.stop().await;
        let own = &log.requests()[0]["unmapped"]["amlgate"];
        assert_eq!(own["groups_asked"], json!([SCIENTISTS, BANNED]), "{own}");
        assert_eq!(log.requests()[0]["actor"]["user"]["groups"], json!([{"uid": SCIENTISTS}]));
    }
}

#[tokio::test]
async fn a_machine_is_asked_for_as_a_service_principal() {
    let scene = Scene::new(&policies(0)).await;
    scene.world.sandbox.azure.regroup(Person::named("ci").unwrap().object_id, &[SCIENTISTS]);
    let ci = scene.token("ci", has_groups);
    assert_eq!(scene.gets(&ci, "jobs").await.status, StatusCode::OK);
    assert_eq!(scene.asked("/v1.0/servicePrincipals/"), 1);
}

#[tokio::test]
async fn a_token_that_carries_all_groups_asks_nobody() {
    let scene = Scene::new(&policies(0)).await;
    let sam = scene.token("sam", |_| ());
    assert_eq!(scene.gets(&sam, "jobs").await.status, StatusCode::OK);
    assert_eq!(scene.asked("/v1.0/"), 0);
}

#[tokio::test]
async fn policies_that_name_no_group_ask_nobody() {
    let without = format!(
        "
version: 1
scopes: {{workspace: {}}}
allow:
  - {{name: all, who: [authenticated], role: Reader, scope: workspace}}
",
        workspace("")
    );
    let scene = Scene::new(&without).await;
    assert_eq!(scene.gets(&scene.token("sam", claim_names), "jobs").await.status, StatusCode::OK);
    assert_eq!(scene.asked("/v1.0/"), 0);
}

#[tokio::test]
async fn only_groups_that_policies_name_are_asked_about_twenty_at_a_time_or_all_at_once() {
    for (more, checks, gets) in [(18, 1, 0), (19, 2, 0), (98, 5, 0), (99, 0, 1)] {
        let scene = Scene::new(&policies(more)).await;
        assert_eq!(scene.gets(&scene.token("sam", claim_names), "jobs").await.status, StatusCode::OK);
        let asked = (scene.asked("checkMemberGroups"), scene.asked("getMemberObjects"));
        assert_eq!(asked, (checks, gets), "{} groups", more + 2);
    }
}

#[tokio::test]
async fn all_requests_of_a_person_at_once_make_one_question() {
    let scene = Scene::new(&policies(0)).await;
    let sam = scene.token("sam", claim_names);
    let all = [(); 8].map(|()| scene.gets(&sam, "jobs"));
    let [a, b, c, d, e, f, g, h] = all;
    let answers = tokio::join!(a, b, c, d, e, f, g, h);
    for answer in [answers.0, answers.1, answers.2, answers.3, answers.4, answers.5, answers.6, answers.7] {
        assert_eq!(answer.status, StatusCode::OK);
    }
    assert_eq!(scene.asked("checkMemberGroups"), 1);
}

#[tokio::test]
async fn who_leaves_a_group_loses_what_it_gave_with_the_next_answer() {
    let scene = Scene::new(&policies(0)).await;
    let sam = scene.token("sam", claim_names);
    assert_eq!(scene.gets(&sam, "jobs").await.status, StatusCode::OK);
    scene.world.sandbox.azure.regroup(Person::named("sam").unwrap().object_id, &[]);
    assert_eq!(scene.gets(&sam, "jobs").await.status, StatusCode::OK, "it is still fresh");
    scene.clock.advance(Duration::from_secs(301));
    assert_eq!(scene.gets(&sam, "jobs").await.status, StatusCode::FORBIDDEN);
    scene.world.sandbox.azure.regroup(Person::named("sam").unwrap().object_id, &[SCIENTISTS, BANNED]);
    scene.clock.advance(Duration::from_secs(301));
    let answer = scene.gets(&sam, "jobs").await;
    assert!(cause(&answer).contains("`the banned read nothing` denies"), "{answer:?}");
}

#[tokio::test]
async fn an_answer_in_use_is_renewed_before_anybody_waits_for_it() {
    let scene = Scene::new(&policies(0)).await;
    assert_eq!(scene.gets(&scene.token("sam", claim_names), "jobs").await.status, StatusCode::OK);
    scene.clock.advance(Duration::from_secs(200));
    let renewed = |seen: &[amlgate::sandbox::Seen]| {
        seen.iter().filter(|s| s.target.contains("checkMemberGroups")).count() == 2
    };
    scene.world.sandbox.azure.observer().wait_for(renewed).await;
}

#[tokio::test]
async fn without_an_answer_a_deny_counts_an_allow_does_not_and_the_answer_says_why() {
    let scene = Scene::new(&policies(0)).await;
    let sam = scene.token("sam", claim_names);
    let down = || {
        for _ in 0..100 {
            let fault = Fault::status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
            scene.world.sandbox.azure.observer().trap("/v1.0/users/", None, fault);
        }
    };
    down();
    let answer = scene.gets(&sam, "computes").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(cause(&answer).contains("`the banned read nothing` denies"), "{answer:?}");
    assert!(cause(&answer).contains("Microsoft Graph answered 503"), "{answer:?}");
    scene.world.sandbox.azure.observer().disarm();
    scene.clock.advance(Duration::from_secs(6));
    assert_eq!(scene.gets(&sam, "computes").await.status, StatusCode::OK, "it is asked again");
    // What Graph said stands while it does not answer, until it is stale.
    down();
    scene.clock.advance(Duration::from_secs(600));
    assert_eq!(scene.gets(&sam, "jobs").await.status, StatusCode::OK);
    scene.clock.advance(Duration::from_secs(301));
    down();
    assert_eq!(scene.gets(&sam, "jobs").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_missing_permission_is_named_with_its_mend() {
    let scene = Scene::new(&policies(0)).await;
    scene.world.sandbox.azure.permit_at_graph(names::GATE_PRINCIPAL, &["User.Read.All"]);
    let answer = scene.gets(&scene.token("sam", claim_names), "jobs").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(cause(&answer).contains("GroupMember.Read.All"), "{answer:?}");
}

#[tokio::test]
async fn a_caller_whom_graph_does_not_know_has_unknown_groups() {
    let scene = Scene::new(&policies(0)).await;
    let stranger = scene.token("sam", |claims| {
        claim_names(claims);
        claims.insert("oid".to_owned(), json!("5a000000-0000-4000-8000-00000000dead"));
    });
    let answer = scene.gets(&stranger, "computes").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(cause(&answer).contains("knows no such caller"), "{answer:?}");
}

#[tokio::test]
async fn without_the_key_nobody_is_asked_and_the_groups_stay_unknown() {
    let scene = Scene::of(&policies(0), &[]).await;
    let answer = scene.gets(&scene.token("sam", claim_names), "jobs").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(cause(&answer).contains("does not carry all of the caller's groups"), "{answer:?}");
    assert_eq!(scene.asked("/v1.0/"), 0);
}

#[tokio::test]
async fn a_group_that_a_new_policy_names_is_asked_about_at_once() {
    let scene = Scene::new(&policies(0)).await;
    let sam = scene.token("sam", claim_names);
    assert_eq!(scene.gets(&sam, "jobs").await.status, StatusCode::OK);
    let other = policies(0).replace(SCIENTISTS, "6f9619ff-8b86-4011-b42d-00cf4fc964f3");
    std::fs::write(scene.world.directory().join("policies/sandbox.yaml"), other).unwrap();
    scene.world.server.reload().await;
    assert_eq!(scene.gets(&sam, "jobs").await.status, StatusCode::FORBIDDEN);
    assert_eq!(scene.asked("checkMemberGroups"), 2);
}
