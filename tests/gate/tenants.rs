//! Several tenants: whose token is taken, and whose the gate brings, by route and by subscription.

use amlgate::sandbox::{
    Person,
    azure::{UserToken, names},
};
use http::StatusCode;
use serde_json::Value;

use crate::world::{Answer, Changes, VERSION, World, workspace};

const ALL: &str = "version: 1
subjects:
  own: [{issuer: entra, claims: {tid: 72f988bf-0000-4000-8000-000000000001}}]
  partners: [{issuer: partner, claims: {tid: 72f988bf-0000-4000-8000-000000000002}}]
allow:
  - {name: our people, who: [own], actions: ['*']}
  - {name: their people read, who: [partners], actions: ['*'], kinds: [read]}
";

fn credential(name: &str, tenant: &str, proof: &str) -> String {
    format!(
        "  - name: {name}\n    tenant: {tenant}\n    client_id: {}\n    {proof}\n    address: \"{{azure}}\"\n    trust: {{ca: certs/ca.pem}}\n",
        names::GATE_CLIENT
    )
}

/// A gate for two tenants; `arm` is what the route to Resource Manager chooses from.
async fn world(arm: &str) -> World {
    let secret = "client_secret: {file: certs/gate-client.secret}";
    let person = "on_behalf_of: {client_secret: {file: certs/gate-client.secret}}";
    let issuer = format!(
        "issuers:\n  - name: partner\n    entra: {{tenant: {}, audiences: [{}]}}\n    address: \"{{azure}}\"\n    trust: {{ca: certs/ca.pem}}\n",
        names::PARTNER_TENANT,
        names::GATE_CLIENT
    );
    let credentials = format!(
        "credentials:\n{}{}{}",
        credential("partner", names::PARTNER_TENANT, secret),
        credential("our-person", names::TENANT, person),
        credential("their-person", names::PARTNER_TENANT, person)
    );
    let route = format!("protocol: arm\n    credential: {arm}");
    let configuration = [
        ("issuers:\n", issuer.as_str()),
        ("credentials:\n", credentials.as_str()),
        ("protocol: arm\n    credential: gate", route.as_str()),
    ];
    let world = World::changed(Changes { configuration: &configuration, policies: Some(ALL) }).await;
    let theirs = format!("/subscriptions/{}", names::PARTNER_SUBSCRIPTION);
    world.sandbox.azure.assign(names::GATE_PRINCIPAL, "Reader", &theirs).unwrap();
    world.sandbox.azure.assign(Person::named("rita").unwrap().object_id, "Reader", &theirs).unwrap();
    world
}

/// The token of one of the people at one of the tenants.
fn token(world: &World, name: &str, tenant: &str) -> String {
    let person = Person::named(name).unwrap();
    let token = world.sandbox.azure.user_token_with(person, &UserToken::default(), |claims| {
        for name in ["iss", "tid"] {
            if let Some(Value::String(text)) = claims.get_mut(name) {
                *text = text.replace(names::TENANT, tenant);
            }
        }
    });
    token.unwrap()
}

fn theirs() -> String {
    workspace(&format!("?{VERSION}")).replace(names::SUBSCRIPTION, names::PARTNER_SUBSCRIPTION)
}

/// The tenant and the object of the token that Azure saw last at a subscription.
fn seen(world: &World, subscription: &str) -> (String, String) {
    let seen =
        world.sandbox.azure.observer().seen_at(&format!("management.azure.com/subscriptions/{subscription}"));
    let header = seen.last().unwrap().headers["authorization"].to_str().unwrap().to_owned();
    let claims: Value =
        jsonwebtoken::dangerous::insecure_decode(header.trim_start_matches("Bearer ")).unwrap().claims;
    let text = |name: &str| claims[name].as_str().unwrap().to_owned();
    (text("tid"), text("oid"))
}

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn each_subscription_gets_the_tokens_of_its_own_tenant() {
    let arm = format!("{{default: gate, subscriptions: {{{}: partner}}}}", names::PARTNER_SUBSCRIPTION);
    let world = world(&arm).await;
    let sam = token(&world, "sam", names::TENANT);
    for _ in 0..2 {
        let ours = world.bearing(&sam).get(&workspace(&format!("?{VERSION}"))).await;
        assert_eq!(ours.status, StatusCode::OK, "{ours:?}");
        assert_eq!(seen(&world, names::SUBSCRIPTION).0, names::TENANT);
        // Azure takes the token: the subscription is empty.
        let answer = world.bearing(&sam).get(&theirs()).await;
        assert_eq!((answer.status, code(&answer).as_str()), (StatusCode::NOT_FOUND, "SubscriptionNotFound"));
        assert_eq!(seen(&world, names::PARTNER_SUBSCRIPTION).0, names::PARTNER_TENANT);
    }
    // A subscription in other letters is the same one.
    let upper = theirs().replace(names::PARTNER_SUBSCRIPTION, &names::PARTNER_SUBSCRIPTION.to_uppercase());
    assert_eq!(world.bearing(&sam).get(&upper).await.status, StatusCode::NOT_FOUND);
    world.stop().await;
}

#[tokio::test]
async fn a_token_of_the_wrong_tenant_would_be_refused_by_azure() {
    // What the test above relies on.
    let world = world("gate").await;
    let sam = token(&world, "sam", names::TENANT);
    let answer = world.bearing(&sam).get(&theirs()).await;
    assert_eq!(
        (answer.status, code(&answer).as_str()),
        (StatusCode::FORBIDDEN, "UpstreamAuthorizationFailed")
    );
}

#[tokio::test]
async fn people_of_two_tenants_are_two_people_even_under_one_object_id() {
    let arm =
        format!("{{default: our-person, subscriptions: {{{}: their-person}}}}", names::PARTNER_SUBSCRIPTION);
    let world = world(&arm).await;
    let (own, guest) = (token(&world, "rita", names::TENANT), token(&world, "rita", names::PARTNER_TENANT));
    let ours = workspace(&format!("?{VERSION}"));
    let rita = Person::named("rita").unwrap().object_id;
    assert_eq!(world.bearing(&own).get(&ours).await.status, StatusCode::OK);
    assert_eq!(seen(&world, names::SUBSCRIPTION), (names::TENANT.to_owned(), rita.to_owned()));
    assert_eq!(world.bearing(&guest).get(&theirs()).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        seen(&world, names::PARTNER_SUBSCRIPTION),
        (names::PARTNER_TENANT.to_owned(), rita.to_owned())
    );
    let before = world.sandbox.azure.observer().seen_at("management.azure.com/subscriptions/").len();
    // Neither is spoken for by the other's credential, however lately the other was.
    for (token, target) in [(&guest, &ours), (&own, &theirs())] {
        let answer = world.bearing(token).get(target).await;
        assert_eq!((answer.status, code(&answer).as_str()), (StatusCode::FORBIDDEN, "PersonRequired"));
    }
    let after = world.sandbox.azure.observer().seen_at("management.azure.com/subscriptions/").len();
    assert_eq!(before, after, "nothing was sent");
    // And policies tell them apart: the guest only reads.
    assert_eq!(world.bearing(&guest).delete(&theirs()).await.status, StatusCode::FORBIDDEN);
    let log = world.stop().await;
    let callers: Vec<_> = log.requests().iter().map(|r| r["actor"]["user"]["uid"].to_string()).collect();
    let own = callers.iter().filter(|c| c.contains(&format!("entra:{}", names::TENANT))).count();
    let partner =
        callers.iter().filter(|c| c.contains(&format!("partner:{}", names::PARTNER_TENANT))).count();
    assert_eq!((own, partner), (2, 3), "{callers:?}");
}

#[tokio::test]
async fn a_tenant_that_is_no_issuer_of_the_gates_is_nobody() {
    let world = world("gate").await;
    let stranger = token(&world, "sam", "72f988bf-0000-4000-8000-0000000000ff");
    let answer = world.bearing(&stranger).get(&workspace(&format!("?{VERSION}"))).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    // One issuer's `iss` with another tenant inside.
    let person = Person::named("sam").unwrap();
    let mixed = world.sandbox.azure.user_token_with(person, &UserToken::default(), |claims| {
        claims.insert("tid".to_owned(), names::PARTNER_TENANT.into());
    });
    let answer = world.bearing(&mixed.unwrap()).get(&workspace(&format!("?{VERSION}"))).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}
