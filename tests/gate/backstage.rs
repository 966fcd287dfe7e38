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
    let limited = portal.limited("user:default/ana").unwrap();
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
