//! `credentials: on_behalf_of`: Azure sees the person, with that person's rights and no others.

use std::{sync::Arc, time::Duration};

use amlgate::{
    sandbox::{
        Person,
        azure::{FederatedCredential, UserToken, names},
    },
    time::{Clock as _, ManualClock, SystemClock},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    forward::Tunnel,
    world::{Answer, Changes, VERSION, World, workspace},
};

const ALL: &str = r"
version: 1
allow:
  - {name: Azure decides, who: [authenticated], actions: ['*']}
";

const ROUTE: (&str, &str) = ("protocol: arm\n    credential: gate", "protocol: arm\n    credential: person");
const PERSON: (&str, &str) = (
    "credentials:\n",
    "credentials:\n  - name: person
    tenant: 72f988bf-0000-4000-8000-000000000001
    client_id: 9a7e0000-0000-4000-8000-00000000a001
    on_behalf_of: {client_secret: {file: certs/gate-client.secret}}
    address: \"{azure}\"
    trust: {ca: certs/ca.pem}
",
);
const SECRET: &str = "on_behalf_of: {client_secret: {file: certs/gate-client.secret}}";

fn acting(configuration: &'static [(&'static str, &'static str)]) -> Changes<'static> {
    Changes { configuration, policies: Some(ALL) }
}

async fn world() -> World {
    World::changed(acting(&[PERSON, ROUTE])).await
}

/// A person's token of the simulated Entra, with these claims besides.
fn token(world: &World, name: &str, claims: &Value) -> String {
    let more = claims.as_object().unwrap().clone();
    let person = Person::named(name).unwrap();
    world.sandbox.azure.user_token_with(person, &UserToken::default(), |own| own.extend(more)).unwrap()
}

async fn read(world: &World, token: &str) -> Answer {
    world.bearing(token).get(&workspace(&format!("?{VERSION}"))).await
}

fn claims_of(header: &http::HeaderValue) -> Value {
    let token = header.to_str().unwrap().strip_prefix("Bearer ").unwrap();
    jsonwebtoken::dangerous::insecure_decode(token).unwrap().claims
}

/// How often Entra was asked to exchange a token.
fn exchanges(world: &World) -> usize {
    let seen = world.sandbox.azure.observer().seen_at("/oauth2/v2.0/token");
    seen.iter().filter(|s| String::from_utf8_lossy(&s.body).contains("on_behalf_of")).count()
}

#[tokio::test]
async fn azure_sees_each_person_and_never_the_token_that_they_came_with() {
    let world = world().await;
    let (sam, rita) = (token(&world, "sam", &json!({})), token(&world, "rita", &json!({})));
    for _ in 0..3 {
        assert_eq!(read(&world, &sam).await.status, StatusCode::OK);
        assert_eq!(read(&world, &rita).await.status, StatusCode::OK);
    }
    let seen = world.sandbox.azure.observer().seen_at("/workspaces/vision?");
    let people: Vec<_> = seen
        .iter()
        .map(|request| {
            let header = &request.headers["authorization"];
            assert!(![&sam, &rita].iter().any(|own| header.to_str().unwrap().contains(own.as_str())));
            let claims = claims_of(header);
            assert_eq!((&claims["scp"], &claims["idtyp"]), (&json!("user_impersonation"), &json!("user")));
            claims["oid"].as_str().unwrap().to_owned()
        })
        .collect();
    let (s, r) = (Person::named("sam").unwrap().object_id, Person::named("rita").unwrap().object_id);
    assert_eq!(people, [s, r, s, r, s, r]);
    assert_eq!(exchanges(&world), 2, "one for each person, and then they are remembered");
    let log = world.stop().await;
    assert_eq!(log.requests().len(), 6);
}

#[tokio::test]
async fn what_azure_does_not_allow_the_person_it_tells_the_person() {
    let world = world().await;
    // The gate's policies let everything through; Azure knows that Rita only reads.
    let rita = token(&world, "rita", &json!({}));
    let answer = world.bearing(&rita).delete(&workspace(&format!("/computes/cpu-cluster?{VERSION}"))).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains(Person::named("rita").unwrap().object_id), "{message}");
}

#[tokio::test]
async fn only_people_of_entra_with_our_audience_can_be_acted_for() {
    let world = world().await;
    let asked = |answer: Answer| {
        let error = answer.json()["error"].clone();
        (answer.status.as_u16(), error["code"].as_str().unwrap().to_owned(), error["message"].to_string())
    };
    // Of another issuer.
    let (status, code, message) = asked(world.caller("sam").get(&workspace(&format!("?{VERSION}"))).await);
    assert_eq!((status, code.as_str()), (403, "PersonRequired"), "{message}");
    assert!(message.contains("`sandbox` is no tenant of Entra"), "{message}");
    // An application.
    let (status, code, message) = asked(read(&world, &token(&world, "ci", &json!({}))).await);
    assert_eq!((status, code.as_str()), (403, "PersonRequired"), "{message}");
    assert!(message.contains("an application's own"), "{message}");
    assert_eq!(exchanges(&world), 0, "Entra was asked nothing");
    // For another application: no token of the gate's at all.
    let other = token(&world, "sam", &json!({"aud": "00000000-0000-4000-8000-00000000ffff"}));
    assert_eq!(read(&world, &other).await.status, StatusCode::UNAUTHORIZED);
    let log = world.stop().await;
    let unsent = |r: &&Value| r["unmapped"]["amlgate"]["ending"] == "not_sent";
    assert_eq!(log.requests().into_iter().filter(unsent).count(), 2, "both are on record");
}

#[tokio::test]
async fn conditional_access_reaches_the_person_as_a_claims_challenge() {
    let world = world().await;
    let sam = Person::named("sam").unwrap();
    world.sandbox.azure.demand_step_up(sam.object_id, "c1");
    let answer = read(&world, &token(&world, "sam", &json!({}))).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
    let challenge = answer.header("www-authenticate").to_owned();
    assert!(challenge.contains("error=\"insufficient_claims\""), "{challenge}");
    assert!(challenge.contains("authorization_uri=\"https://login.microsoftonline.com/"), "{challenge}");
    let claims = challenge.split_once("claims=\"").unwrap().1.split_once('"').unwrap().0;
    let claims: Value = serde_json::from_slice(&STANDARD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims, json!({"access_token": {"acrs": {"essential": true, "value": "c1"}}}));
    // Who answers it passes, and nobody else was in the way.
    assert_eq!(read(&world, &token(&world, "sam", &json!({"acrs": "c1"}))).await.status, StatusCode::OK);
    assert_eq!(read(&world, &token(&world, "rita", &json!({}))).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_resources_own_challenge_is_the_persons_to_answer() {
    let world = world().await;
    let sam = token(&world, "sam", &json!({}));
    assert_eq!(read(&world, &sam).await.status, StatusCode::OK);
    world.sandbox.azure.challenge(Person::named("sam").unwrap().object_id);
    // A read without a body is asked once more with the claims, which Entra grants without the person.
    assert_eq!(read(&world, &sam).await.status, StatusCode::OK);
    assert_eq!(exchanges(&world), 2);
}

#[tokio::test]
async fn what_was_had_for_a_token_ends_with_it() {
    let clock = ManualClock::starting_at(SystemClock.now());
    let world = World::at(acting(&[PERSON, ROUTE]), Arc::new(clock.clone())).await;
    let brief = UserToken { lifetime: Duration::from_secs(600), ..UserToken::default() };
    let sam = world.sandbox.azure.user_token(Person::named("sam").unwrap(), &brief).unwrap();
    assert_eq!(read(&world, &sam).await.status, StatusCode::OK);
    clock.advance(Duration::from_secs(3_000));
    assert_eq!(read(&world, &sam).await.status, StatusCode::UNAUTHORIZED, "the caller's own is over");
    let again = world.sandbox.azure.user_token(Person::named("sam").unwrap(), &brief).unwrap();
    assert_eq!(read(&world, &again).await.status, StatusCode::OK);
    assert_eq!(exchanges(&world), 2, "the first one's is not used for the second");
}

#[tokio::test]
async fn without_any_secret_a_managed_identity_vouches_for_the_application() {
    const SECRETLESS: &[(&str, &str)] =
        &[PERSON, ROUTE, (SECRET, "on_behalf_of: {managed_identity: {endpoint: \"http://{identity}\"}}")];
    let world = World::changed(acting(SECRETLESS)).await;
    let mut app = world.sandbox.azure.app(names::GATE_CLIENT).unwrap();
    app.secrets.clear();
    app.federated.push(FederatedCredential {
        issuer: format!("https://login.microsoftonline.com/{}/v2.0", names::TENANT),
        subject: names::MACHINE_PRINCIPAL.to_owned(),
    });
    world.sandbox.azure.register(app);
    let answer = read(&world, &token(&world, "sam", &json!({}))).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

#[tokio::test]
async fn in_a_tunnel_it_is_the_tunnels_token_that_is_exchanged() {
    let world = world().await;
    let sam = token(&world, "sam", &json!({}));
    let mut tunnel = Tunnel::with(&world, &sam, "management.azure.com").await;
    // What a program sends inside says nothing of who calls.
    let request =
        http::Request::get(workspace(&format!("?{VERSION}"))).header("authorization", "Bearer nothing");
    assert_eq!(tunnel.send(request, "").await.status, StatusCode::OK);
    let seen = world.sandbox.azure.observer().seen_at("/workspaces/vision?");
    let oid = claims_of(&seen.last().unwrap().headers["authorization"])["oid"].clone();
    assert_eq!(oid, Person::named("sam").unwrap().object_id);
}
