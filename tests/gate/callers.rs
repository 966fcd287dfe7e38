//! Who is let in, and what the others are told.

use amlgate::sandbox::{Person, issuer::Forgery};
use http::{Method, StatusCode};
use serde_json::json;

use crate::world::{Changes, VERSION, World, whole, workspace};

fn jobs() -> String {
    workspace(&format!("/jobs?{VERSION}"))
}

#[tokio::test]
async fn a_token_that_is_not_right_gets_401_and_the_way_in() {
    let world = World::new().await;
    let mint = world.sandbox.issuer.mint();
    let sam = Person::named("sam").unwrap();
    let with = |name: &str, value: serde_json::Value| {
        mint.token_with(sam, |claims| drop(claims.insert(name.to_owned(), value))).unwrap()
    };
    for (what, caller) in [
        ("no token", world.nobody()),
        ("no JWT", world.bearing("not-a-token")),
        ("another key", world.forged("sam", Forgery::ForeignKey)),
        ("changed", world.forged("sam", Forgery::Altered)),
        ("unsigned", world.forged("sam", Forgery::Unsigned)),
        ("for somebody else", world.bearing(&with("aud", json!("https://management.azure.com")))),
        ("of another issuer", world.bearing(&with("iss", json!("https://evil.example")))),
        ("expired", world.bearing(&with("exp", json!(1_600_000_000)))),
        ("not valid yet", world.bearing(&with("nbf", json!(4_000_000_000_u64)))),
        ("for ever", world.bearing(&with("exp", json!(null)))),
    ] {
        let answer = caller.get(&jobs()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}: {answer:?}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}: {answer:?}");
        assert_eq!(answer.json()["error"]["code"], "AuthenticationFailed", "{what}");
    }
    assert_eq!(world.sandbox.azure.observer().seen_at("management.azure.com").len(), 0);
    let log = world.stop().await;
    assert!(log.requests().iter().all(|r| r["http_response"]["code"] != 200));
}

#[tokio::test]
async fn two_tokens_are_none() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let mut request = sam.request(Method::GET, &jobs()).body(whole("")).unwrap();
    request.headers_mut().append("authorization", "Bearer another".parse().unwrap());
    assert_eq!(sam.send(request).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_of_32_kib_is_verified_like_any_other() {
    let world = World::new().await;
    let sam = Person::named("sam").unwrap();
    let groups: Vec<String> = (0..560).map(|n| format!("6f9619ff-8b86-4011-b42d-0000{n:08}")).collect();
    let mut all = vec!["data-science".to_owned()];
    all.extend(groups);
    let change = |claims: &mut serde_json::Map<_, _>| drop(claims.insert("groups".to_owned(), json!(all)));
    let token = world.sandbox.issuer.mint().token_with(sam, change).unwrap();
    assert!((28 << 10..=32 << 10).contains(&token.len()), "{}", token.len());
    let answer = world.bearing(&token).get(&jobs()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

#[tokio::test]
async fn an_entra_token_is_the_person_of_its_object_id() {
    let policies = r#"
version: 1
subjects: {sam: [{issuer: entra, subject: "72f988bf-0000-4000-8000-000000000001/5a000000-0000-4000-8000-000000000001"}]}
allow:
  - {name: sam reads, who: [sam], role: Reader}
"#;
    let world = World::changed(Changes { policies: Some(policies), ..Changes::default() }).await;
    let token = |name: &str| {
        let person = Person::named(name).unwrap();
        amlgate::sandbox::home::entra_token(
            world.dir.path(),
            person,
            &(std::sync::Arc::new(amlgate::time::SystemClock) as amlgate::time::SharedClock),
        )
        .unwrap()
    };
    assert_eq!(world.bearing(&token("sam")).get(&jobs()).await.status, StatusCode::OK);
    assert_eq!(world.bearing(&token("rita")).get(&jobs()).await.status, StatusCode::FORBIDDEN);
    let log = world.stop().await;
    let who = &log.requests()[0]["actor"]["user"];
    assert!(who["uid"].as_str().unwrap().ends_with("5a000000-0000-4000-8000-000000000001"), "{who:#}");
}

#[tokio::test]
async fn the_method_of_a_caller_is_what_azure_sees() {
    let world = World::new().await;
    let sam = world.caller("sam");
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        let request = sam.request(Method::GET, &jobs()).header(name, "DELETE");
        let answer = sam.send(request.body(whole("")).unwrap()).await;
        for seen in world.sandbox.azure.observer().seen_at("/jobs") {
            assert!(!seen.headers.contains_key(name), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn the_discovery_document_needs_no_token_and_names_the_gate() {
    let world = World::new().await;
    let workspace = world.caller("sam").get(&workspace(&format!("?{VERSION}"))).await.json();
    let url = workspace["properties"]["discoveryUrl"].as_str().unwrap();
    let path = url.strip_prefix(world.sandbox.layout.gate.as_str()).unwrap().to_owned();
    let seen = world.sandbox.azure.observer().seen_at("/discovery").len();
    let document = world.nobody().get(&path).await;
    assert_eq!(document.status, StatusCode::OK, "{document:?}");
    assert_eq!(document.json()["api"], world.sandbox.layout.gate.as_str());
    assert_eq!(document.json()["history"], world.sandbox.layout.gate.as_str());
    assert_eq!(world.sandbox.azure.observer().seen_at("/discovery").len(), seen, "nothing was forwarded");
    // Nothing else is to be had without a token, and who brings one is judged.
    for other in [format!("{path}/x"), "/history/v1.0".to_owned()] {
        assert_eq!(world.nobody().get(&other).await.status, StatusCode::UNAUTHORIZED, "{other}");
    }
    let forged = world.forged("sam", Forgery::ForeignKey).get(&path).await;
    assert_eq!(forged.status, StatusCode::UNAUTHORIZED, "{forged:?}");
}
