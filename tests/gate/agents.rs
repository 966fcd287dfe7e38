//! Software that acts for people, and for itself.

use amlgate::sandbox::{
    Person,
    azure::{UserToken, names},
};
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::world::{Answer, Changes, VERSION, World, workspace};

/// The agent's client id.
const COPILOT: &str = "11111111-1111-4111-8111-111111111111";
/// Sam's group.
const SCIENTISTS: &str = "6f9619ff-8b86-4011-b42d-00cf4fc964f1";
const AUDITORS: &str = "6f9619ff-8b86-4011-b42d-00cf4fc964f4";

fn policies(more: &str) -> String {
    format!(
        "
version: 1
subjects:
  scientists: [{{issuer: entra, group: {SCIENTISTS}}}]
  auditors: [{{issuer: entra, group: {AUDITORS}}}]
  copilots: [{{issuer: entra, agent: {{client_id: {COPILOT}}}}}]
scopes: {{workspace: {}}}
allow:
  - {{name: scientists work, who: [scientists], role: AzureML Data Scientist, scope: workspace}}
  - {{name: auditors read, who: [auditors], role: Reader, scope: workspace}}
  - {{name: agents read what their human may, who: [copilots], as: human, kinds: [read]}}
deny:
  - {{name: auditors see no jobs, who: [auditors], actions: [Microsoft.MachineLearningServices/workspaces/jobs/read]}}
{more}",
        workspace("")
    )
}

async fn world(more: &str) -> World {
    World::changed(Changes { policies: Some(&policies(more)), ..Changes::default() }).await
}

fn token(world: &World, name: &str, change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let person = Person::named(name).unwrap();
    world.sandbox.azure.user_token_with(person, &UserToken::default(), change).unwrap()
}

/// As Entra says that an agent identity acts for the person who signed in.
fn for_the_person(claims: &mut Map<String, Value>) {
    claims.insert("azp".to_owned(), json!(COPILOT));
    claims.insert("xms_act_fct".to_owned(), json!("3 9 11"));
    claims.insert("xms_sub_fct".to_owned(), json!("1 2"));
    claims.insert("xms_par_app_azp".to_owned(), json!("30cf4c22-9985-4ef7-8756-91cc888176bd"));
}

async fn gets(world: &World, token: &str, what: &str) -> Answer {
    world.bearing(token).get(&workspace(&format!("/{what}?{VERSION}"))).await
}

#[tokio::test]
async fn an_agent_reads_what_its_human_may_and_the_record_names_both() {
    let world = world("").await;
    let sams = token(&world, "sam", for_the_person);
    assert_eq!(gets(&world, &sams, "jobs").await.status, StatusCode::OK);
    let refused = world.bearing(&sams).delete(&workspace(&format!("/jobs/churn-train-1?{VERSION}"))).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let ritas = token(&world, "rita", for_the_person);
    assert_eq!(gets(&world, &ritas, "jobs").await.status, StatusCode::FORBIDDEN, "rita may nothing");
    let log = world.stop().await;
    let record = log.requests()[0];
    let own = &record["unmapped"]["amlgate"];
    assert_eq!(own["agent"], json!({"acts_for": "human", "uid": COPILOT}), "{own}");
    let sam = format!("entra:{}/{}", names::TENANT, Person::named("sam").unwrap().object_id);
    assert_eq!(record["actor"]["user"]["uid"], json!(sam));
    assert_eq!(record["actor"]["app_uid"], json!(COPILOT));
}

#[tokio::test]
async fn an_agent_that_no_entry_names_is_not_let_in_as_its_human() {
    let world = world("").await;
    let other = token(&world, "sam", |claims| {
        for_the_person(claims);
        claims.insert("azp".to_owned(), json!("22222222-2222-4222-8222-222222222222"));
    });
    let refused = gets(&world, &other, "jobs").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.text().contains("software acts with the token"), "{refused:?}");
}

#[tokio::test]
async fn a_client_that_a_subject_names_is_an_agent_though_its_token_says_nothing() {
    let world = world("").await;
    let plain = token(&world, "sam", |claims| drop(claims.insert("azp".to_owned(), json!(COPILOT))));
    assert_eq!(gets(&world, &plain, "jobs").await.status, StatusCode::OK);
    let refused = world.bearing(&plain).delete(&workspace(&format!("/jobs/churn-train-1?{VERSION}"))).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let log = world.stop().await;
    assert_eq!(log.requests()[0]["unmapped"]["amlgate"]["agent"]["acts_for"], "human");
}

#[tokio::test]
async fn an_agent_that_acts_for_itself_is_lent_nothing() {
    let world = world("").await;
    // A user account that belongs to an agent is no human either.
    for facet in ["9 3 11", "13"] {
        let alone = token(&world, "rita", |claims| {
            for_the_person(claims);
            claims.insert("xms_sub_fct".to_owned(), json!(facet));
        });
        let refused = gets(&world, &alone, "jobs").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(refused.text().contains("but for its `as`"), "{refused:?}");
    }
    let app = token(&world, "ci", |claims| {
        for_the_person(claims);
        claims.insert("xms_sub_fct".to_owned(), json!("9 3 11"));
    });
    assert_eq!(gets(&world, &app, "jobs").await.status, StatusCode::FORBIDDEN);
    let log = world.stop().await;
    assert_eq!(log.requests()[0]["unmapped"]["amlgate"]["agent"]["acts_for"], "itself");
}

#[tokio::test]
async fn what_is_denied_to_the_human_is_denied_to_the_agent() {
    let world = world("").await;
    let alexs = token(&world, "alex", for_the_person);
    assert_eq!(gets(&world, &alexs, "computes").await.status, StatusCode::OK);
    let refused = gets(&world, &alexs, "jobs").await;
    assert!(refused.text().contains("`auditors see no jobs` denies"), "{refused:?}");
}

#[tokio::test]
async fn an_agent_and_its_human_are_one_person_to_a_limit() {
    let more = "require:\n  - {name: two, limit: {requests: 2, every: 1h, per: person}}\n";
    let world = world(more).await;
    let (agent, human) = (token(&world, "sam", for_the_person), token(&world, "sam", |_| ()));
    assert_eq!(gets(&world, &agent, "jobs").await.status, StatusCode::OK);
    assert_eq!(gets(&world, &human, "jobs").await.status, StatusCode::OK);
    assert_eq!(gets(&world, &agent, "jobs").await.status, StatusCode::TOO_MANY_REQUESTS);
    let other = token(&world, "alex", |_| ());
    assert_eq!(gets(&world, &other, "computes").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_with_an_actor_of_rfc_8693_is_an_agents() {
    let policies = format!(
        "
version: 1
subjects:
  scientists: [{{issuer: sandbox, group: data-science}}]
  helpers: [{{issuer: sandbox, agent: {{client_id: helper}}}}]
scopes: {{workspace: {}}}
allow:
  - {{name: scientists work, who: [scientists], role: AzureML Data Scientist, scope: workspace}}
  - {{name: helpers read, who: [helpers], as: human, kinds: [read]}}
",
        workspace("")
    );
    let world = World::changed(Changes { policies: Some(&policies), ..Changes::default() }).await;
    let with = |act: Value| {
        let sam = Person::named("sam").unwrap();
        world.sandbox.issuer.mint().token_with(sam, |c| drop(c.insert("act".to_owned(), act))).unwrap()
    };
    let chain = json!({"sub": "helper", "act": {"sub": "orchestrator"}});
    assert_eq!(gets(&world, &with(chain), "jobs").await.status, StatusCode::OK);
    let other = with(json!({"sub": "orchestrator", "act": {"sub": "helper"}}));
    assert_eq!(
        gets(&world, &other, "jobs").await.status,
        StatusCode::FORBIDDEN,
        "who was behind decides nothing"
    );
    for odd in [json!("helper"), json!({"sub": 1}), json!({})] {
        assert_eq!(gets(&world, &with(odd), "jobs").await.status, StatusCode::UNAUTHORIZED);
    }
    let log = world.stop().await;
    let agent = &log.requests()[0]["unmapped"]["amlgate"]["agent"];
    assert_eq!(*agent, json!({"acts_for": "human", "through": ["orchestrator"], "uid": "helper"}));
}
