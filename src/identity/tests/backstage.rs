//! Tokens of a Backstage portal.

use super::*;

const PORTAL: &str = "https://portal.example";
const ANA: &str = "user:default/ana";

fn userinfo() -> String {
    format!("{PORTAL}/api/auth/v1/userinfo")
}

async fn world(key: &Signer) -> World {
    let world = World::of(vec![oidc(), IssuerSettings::backstage("portal", PORTAL).unwrap()]);
    let jwks = format!("{PORTAL}/api/auth/.well-known/jwks.json");
    world.documents.put(&jwks, json!({"keys": [key.jwk("b1")]}));
    world.documents.publish(OIDC, &[key.jwk("b1")]);
    world.verifier.refresh_once().await;
    world
}

fn claims(changes: &Value) -> Value {
    let usual = json!({"iss": format!("{PORTAL}/api/auth"), "sub": ANA, "aud": "backstage", "iat": START,
        "exp": START + 3_600, "uip": "signature-of-the-limited-token"});
    patched(usual, changes)
}

fn token(key: &Signer, typ: &str, claims: &Value) -> String {
    key.raw(&json!({"alg": "ES256", "typ": typ, "kid": "b1"}).to_string(), &claims.to_string())
}

fn answer(subject: &str, groups: &[&str]) -> Value {
    json!({"claims": {"sub": subject, "ent": groups}})
}

#[tokio::test]
async fn a_user_is_a_person_with_the_groups_of_userinfo_asked_for_once_a_token() {
    let key = Signer::p256();
    let world = world(&key).await;
    world.documents.put(&userinfo(), answer(ANA, &["group:default/ml-team"]));
    let token = token(&key, "vnd.backstage.user", &claims(&json!({})));
    for _ in 0..3 {
        let ana = world.verifier.authenticate(&token).await.unwrap();
        assert_eq!(ana.id.to_string(), format!("portal:{ANA}"));
        assert_eq!(ana.kind, PrincipalKind::Person);
        assert_eq!(ana.groups, Groups::Known(["group:default/ml-team".into()].into()));
        assert!(!ana.claims.contains_key("uip"), "what makes a limited token is kept from everybody");
    }
    assert_eq!(world.documents.uris().iter().filter(|uri| **uri == userinfo()).count(), 1);
}

#[tokio::test]
async fn groups_in_the_token_are_taken_without_asking() {
    let key = Signer::p256();
    let world = world(&key).await;
    let token = token(&key, "vnd.backstage.user", &claims(&json!({"ent": ["group:default/a"]})));
    let ana = world.verifier.authenticate(&token).await.unwrap();
    assert_eq!(ana.groups, Groups::Known(["group:default/a".into()].into()));
    assert!(!world.documents.uris().contains(&userinfo()));
}

#[tokio::test]
async fn without_an_answer_about_the_same_person_nobody_is_let_in_and_nothing_is_remembered() {
    let key = Signer::p256();
    let world = world(&key).await;
    let token = token(&key, "vnd.backstage.user", &claims(&json!({})));
    assert_eq!(world.refused(&token).await, Reason::GroupsUnavailable);
    world.documents.put(&userinfo(), answer("user:default/bob", &["group:default/admins"]));
    let rejection = world.verifier.authenticate(&token).await.unwrap_err();
    assert_eq!(rejection.reason(), Reason::GroupsUnavailable);
    assert!(rejection.is_outage());
    assert!(world.verifier.remembered(&token).is_none());
    world.documents.put(&userinfo(), answer(ANA, &[]));
    assert_eq!(world.verifier.authenticate(&token).await.unwrap().groups, Groups::Known([].into()));
}

#[tokio::test]
async fn userinfo_is_not_asked_about_a_token_that_does_not_verify() {
    let (key, other) = (Signer::p256(), Signer::p256());
    let world = world(&key).await;
    world.documents.put(&userinfo(), answer(ANA, &["group:default/admins"]));
    let forged = token(&other, "vnd.backstage.user", &claims(&json!({})));
    assert_eq!(world.refused(&forged).await, Reason::Signature);
    assert!(!world.documents.uris().contains(&userinfo()));
}

#[tokio::test]
async fn each_kind_of_token_counts_where_it_belongs_and_nowhere_else() {
    let key = Signer::p256();
    let world = world(&key).await;
    world.documents.put(&userinfo(), answer(ANA, &[]));
    let usual = claims(&json!({}));
    for (typ, claims, reason) in [
        ("JWT", usual.clone(), Reason::Type),
        ("VND.backstage.user", usual.clone(), Reason::Type),
        (
            "vnd.backstage.plugin",
            json!({"sub": "azureml", "aud": "amlgate", "iat": START, "exp": START + 60}),
            Reason::Type,
        ),
        (
            "vnd.backstage.limited-user",
            json!({"sub": ANA, "iat": START, "exp": START + 60}),
            Reason::LimitedUser,
        ),
        ("vnd.backstage.limited-user", usual, Reason::LimitedUser),
        ("vnd.backstage.user", super::claims(), Reason::Type),
        ("vnd.backstage.user", claims(&json!({"aud": "amlgate"})), Reason::Audience),
        ("vnd.backstage.user", claims(&json!({"iss": PORTAL})), Reason::Issuer),
        ("vnd.backstage.user", claims(&json!({"sub": "group:default/ml-team"})), Reason::Claim),
        ("vnd.backstage.user", claims(&json!({"sub": "ana"})), Reason::Claim),
        ("vnd.backstage.user", claims(&json!({"sub": "user:default/"})), Reason::Claim),
        ("vnd.backstage.user", claims(&json!({"sub": "user:default/a/b"})), Reason::Claim),
    ] {
        assert_eq!(world.refused(&token(&key, typ, &claims)).await, reason, "{typ} {claims}");
    }
}
