//! People who come with their Backstage token.

use std::sync::Arc;

use amlgate::{
    sandbox::{
        Fault, Person,
        azure::{UserToken, names},
        portal::Portal,
    },
    time::SystemClock,
};
use http::StatusCode;

use crate::world::{Changes, VERSION, World, workspace};

const POLICIES: &str = r#"
version: 1
subjects:
  ml-team: [{issuer: portal, group: "group:default/ml-team"}]
allow:
  - {name: the team reads, who: [ml-team], kinds: [read]}
"#;

async fn world() -> (Portal, World) {
    let portal = Portal::start(Arc::new(SystemClock)).await.unwrap();
    let issuers = format!("issuers:\n  - name: portal\n    backstage: {{url: \"{}\"}}\n", portal.url());
    let configuration = [("issuers:\n", issuers.as_str())];
    let changes = Changes { configuration: &configuration, policies: Some(POLICIES) };
    (portal, World::changed(changes).await)
}

#[tokio::test]
async fn whom_people_links_to_an_object_id_is_that_human_and_the_record_shows_both() {
    let rita = Person::named("rita").unwrap();
    let person = format!("{}/{}", names::TENANT, rita.object_id);
    let portal = Portal::start(Arc::new(SystemClock)).await.unwrap();
    let issuers = format!(
        "people: {{canonical: entra, links: [{{issuer: portal, claim: entra_oid}}]}}\nissuers:\n  - name: portal\n    backstage: {{url: \"{}\"}}\n",
        portal.url()
    );
    let policies = format!(
        "version: 1\nsubjects:\n  rita: [{{issuer: entra, subject: {person}}}]\nallow:\n  - {{name: rita reads, who: [rita], kinds: [read]}}\n"
    );
    let configuration = [("issuers:\n", issuers.as_str())];
    let world = World::changed(Changes { configuration: &configuration, policies: Some(&policies) }).await;
    for (object, status) in [
        (Some(rita.object_id), 200),
        (Some("bbbbbbbb-0000-4000-8000-000000000003"), 403),
        (None, 403),
        (Some("ana@example.com"), 401),
        (Some("BBBBBBBB-0000-4000-8000-000000000003"), 401),
    ] {
        let token = portal.token_of("user:default/rita", &[], object).unwrap();
        let answer = world.bearing(&token).get(&here()).await;
        assert_eq!(answer.status, status, "{object:?} {answer:?}");
    }
    let direct = world.sandbox.azure.user_token(rita, &UserToken::default()).unwrap();
    assert_eq!(world.bearing(&direct).get(&here()).await.status, 200);
    let log = world.stop().await;
    let requests = log.requests();
    let user = &requests.first().unwrap()["actor"]["user"];
    assert_eq!(user["uid"], "portal:user:default/rita");
    assert_eq!(user["uid_alt"], format!("entra:{person}"));
}

fn here() -> String {
    workspace(&format!("?{VERSION}"))
}

#[tokio::test]
async fn a_user_of_the_portal_may_what_its_groups_may_and_userinfo_is_asked_once_a_token() {
    let (portal, world) = world().await;
    let ana = portal.token("user:default/ana", &["group:default/ml-team"]).unwrap();
    let bob = portal.token("user:default/bob", &["group:default/sales"]).unwrap();
    for _ in 0..3 {
        assert_eq!(world.bearing(&ana).get(&here()).await.status, 200);
        assert_eq!(world.bearing(&bob).get(&here()).await.status, 403);
    }
    assert_eq!(portal.observer().seen_at("/v1/userinfo").len(), 2);
    let log = world.stop().await;
    let text = format!("{:?}", log.requests());
    assert!(text.contains("user:default/ana"), "the record names the person");
    assert!(!text.contains(&ana), "and not the token");
}

#[tokio::test]
async fn a_limited_user_token_is_refused_with_a_sentence() {
    let (portal, world) = world().await;
    let limited = portal.limited("user:default/ana", &[]).unwrap();
    let answer = world.bearing(&limited).get(&here()).await;
    assert_eq!(answer.status, 401);
    assert!(answer.text().contains("a limited Backstage user token is no bearer"), "{answer:?}");
    assert!(portal.observer().seen_at("/v1/userinfo").is_empty());
}

#[tokio::test]
async fn while_the_portal_tells_no_groups_its_users_are_told_to_come_again() {
    let (portal, world) = world().await;
    let ana = portal.token("user:default/ana", &["group:default/ml-team"]).unwrap();
    portal.observer().trap("/v1/userinfo", None, Fault::status(StatusCode::BAD_GATEWAY, "Down"));
    let answer = world.bearing(&ana).get(&here()).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    assert!(answer.text().contains("which groups the caller is in"), "{answer:?}");
    portal.observer().disarm();
    assert_eq!(world.bearing(&ana).get(&here()).await.status, 200);
}

const WITH_PLUGINS: &str = r#"
version: 1
subjects:
  ml-team: [{issuer: portal, group: "group:default/ml-team"}]
  azureml: [{issuer: portal, subject: "plugin:azureml"}]
allow:
  - {name: the team reads, who: [ml-team], kinds: [read]}
  - {name: the plugin sees the workspace, who: [azureml], actions: [Microsoft.MachineLearningServices/workspaces/read]}
"#;

/// A portal of which two plugins may call the gate.
async fn called_by_plugins() -> (Portal, World) {
    let portal = Portal::start(Arc::new(SystemClock)).await.unwrap();
    let issuers = format!(
        "issuers:\n  - name: portal\n    backstage: {{url: \"{}\", plugins: [azureml, scaffolder]}}\n",
        portal.url()
    );
    // The plugins have signed before the gate starts, so that their keys are there.
    portal.plugin("azureml", "amlgate", None).unwrap();
    let configuration = [("issuers:\n", issuers.as_str())];
    let changes = Changes { configuration: &configuration, policies: Some(WITH_PLUGINS) };
    (portal, World::changed(changes).await)
}

#[tokio::test]
async fn a_plugin_calls_for_its_user_who_is_the_caller() {
    let (portal, world) = called_by_plugins().await;
    let ana = portal.limited("user:default/ana", &["group:default/ml-team"]).unwrap();
    let bob = portal.limited("user:default/bob", &["group:default/sales"]).unwrap();
    let by = |obo: &str| portal.plugin("azureml", "amlgate", Some(obo)).unwrap();
    let jobs = workspace(&format!("/jobs?{VERSION}"));
    let anas = by(&ana);
    assert_eq!(world.bearing(&anas).get(&jobs).await.status, 200);
    assert_eq!(world.bearing(&by(&bob)).get(&jobs).await.status, 403);
    let log = world.stop().await;
    let record = log.requests()[0];
    assert_eq!(record["actor"]["user"]["uid"], "portal:user:default/ana");
    assert_eq!(record["actor"]["app_uid"], "azureml");
    let text = format!("{:?}", log.records);
    assert!(!text.contains(&ana) && !text.contains(&anas), "no token is in the record");
}

#[tokio::test]
async fn a_plugin_that_calls_for_nobody_is_a_machine_of_its_own() {
    let (portal, world) = called_by_plugins().await;
    let alone = portal.plugin("azureml", "amlgate", None).unwrap();
    assert_eq!(world.bearing(&alone).get(&here()).await.status, 200);
    let jobs = workspace(&format!("/jobs?{VERSION}"));
    assert_eq!(world.bearing(&alone).get(&jobs).await.status, 403);
    let log = world.stop().await;
    assert_eq!(log.requests()[0]["actor"]["user"]["uid"], "portal:plugin:azureml");
    assert_eq!(log.requests()[0]["actor"]["user"]["type_id"], 4);
}

#[tokio::test]
async fn plugins_that_are_not_named_other_targets_and_forged_users_are_refused() {
    let (portal, world) = called_by_plugins().await;
    let stranger = Portal::start(Arc::new(SystemClock)).await.unwrap();
    let ana = portal.limited("user:default/ana", &["group:default/ml-team"]).unwrap();
    let forged = stranger.limited("user:default/ana", &["group:default/ml-team"]).unwrap();
    let whole = portal.token("user:default/ana", &["group:default/ml-team"]).unwrap();
    for (why, token) in [
        ("a plugin that is not named", portal.plugin("catalog", "amlgate", Some(&ana))),
        ("a place outside the plugins", portal.plugin("../auth", "amlgate", Some(&ana))),
        ("another target", portal.plugin("azureml", "catalog", Some(&ana))),
        ("a user of another portal", portal.plugin("azureml", "amlgate", Some(&forged))),
        ("a user's own token inside", portal.plugin("azureml", "amlgate", Some(&whole))),
        ("a plugin's token inside", {
            let inner = portal.plugin("azureml", "amlgate", None).unwrap();
            portal.plugin("azureml", "amlgate", Some(&inner))
        }),
        ("nonsense inside", portal.plugin("azureml", "amlgate", Some("x"))),
        ("a plugin of another portal", stranger.plugin("azureml", "amlgate", None)),
    ] {
        assert_eq!(world.bearing(&token.unwrap()).get(&here()).await.status, 401, "{why}");
    }
}

#[tokio::test]
async fn the_gate_publishes_that_it_signs_nothing_as_a_plugin() {
    let (_portal, world) = called_by_plugins().await;
    for path in ["/api/amlgate/.backstage/auth/v1/jwks.json", "/.backstage/auth/v1/jwks.json"] {
        let answer = world.nobody().get(path).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, serde_json::json!({"keys": []})), "{path}");
    }
    let other = world.nobody().get("/api/other/.backstage/auth/v1/jwks.json").await;
    assert_ne!(other.status, 200);
    let without = World::new().await;
    let answer = without.nobody().get("/api/amlgate/.backstage/auth/v1/jwks.json").await;
    assert_ne!(answer.status, 200, "no portal knows it");
}
