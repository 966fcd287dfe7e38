//! The gate's own API: who may ask, what is revoked, and tokens for tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::{
    forward::jobs,
    world::{Answer, World, whole},
};

pub const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Sends a request to the admin listener.
pub async fn ask(world: &World, request: Request<crate::world::Sent>) -> Answer {
    let stream = tokio::net::TcpStream::connect(world.server.admin().unwrap()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    Answer::of(sender.send_request(request).await.unwrap()).await
}

pub fn request(world: &World, method: Method, path: &str) -> http::request::Builder {
    let host = world.server.admin().unwrap().to_string();
    Request::builder().method(method).uri(path).header(header::HOST, host)
}

pub fn token(world: &World, name: &str) -> String {
    world.sandbox.issuer.token(name).unwrap()
}

pub async fn call(world: &World, method: Method, path: &str, token: &str, body: Option<Value>) -> Answer {
    let mut builder = request(world, method, path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    if body.is_some() {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    ask(world, builder.body(whole(body)).unwrap()).await
}

pub async fn revoke(world: &World, by: &str, what: Value) -> Answer {
    call(world, Method::POST, "/api/v1/revocations", &token(world, by), Some(what)).await
}

async fn exchange(world: &World, parameters: &[(&str, &str)], proof: Option<&str>) -> Answer {
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let mut builder = request(world, Method::POST, "/api/v1/token")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(proof) = proof {
        builder = builder.header("dpop", proof);
    }
    ask(world, builder.body(whole(form)).unwrap()).await
}

async fn exchanged(world: &World, subject: &str) -> String {
    let parameters = [("grant_type", GRANT), ("subject_token", subject), ("subject_token_type", JWT)];
    let answer = exchange(world, &parameters, None).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

pub fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn whoami_says_whom_the_gate_takes_the_caller_for_and_is_recorded() {
    let world = World::new().await;
    let answer = call(&world, Method::GET, "/api/v1/whoami", &token(&world, "sam"), None).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    let said = answer.json();
    assert_eq!(said["principal"], "sandbox:user-sam");
    assert_eq!((&said["kind"], &said["groups"]), (&json!("person"), &json!(["data-science"])));
    let decision = answer.header("x-amlgate-decision").to_owned();
    let nobody = ask(&world, request(&world, Method::GET, "/api/v1/whoami").body(whole("")).unwrap()).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    assert!(nobody.header("www-authenticate").starts_with("Bearer"));
    let log = world.stop().await;
    let text = log.records.iter().map(Value::to_string).find(|r| r.contains(&decision)).unwrap();
    assert!(text.contains("amlgate/whoami/read") && text.contains("user-sam"), "{text}");
}

#[tokio::test]
async fn azures_roles_grant_nothing_of_the_gates_own() {
    let world = World::new().await;
    let what = json!({"principal": "sandbox:user-rita", "reason": "a test"});
    let answer = revoke(&world, "sam", what).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.json()["title"], "AuthorizationFailed", "{answer:?}");
    let rita = world.caller("rita").get(&jobs()).await;
    assert_ne!(rita.status, StatusCode::UNAUTHORIZED);
    let log = world.stop().await;
    assert!(log.records.iter().any(|r| r.to_string().contains("amlgate/revocations/write")));
}

#[tokio::test]
async fn a_revoked_person_is_refused_at_once_and_the_neighbour_is_not() {
    let world = World::new().await;
    let sam = world.caller("sam");
    assert_eq!(sam.get(&jobs()).await.status, StatusCode::OK);
    let made =
        revoke(&world, "pat", json!({"principal": "sandbox:user-sam", "reason": "a lost laptop"})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    assert_eq!(sam.get(&jobs()).await.status, StatusCode::UNAUTHORIZED);
    let fresh = world.caller("sam").get(&jobs()).await;
    assert_eq!(fresh.status, StatusCode::UNAUTHORIZED, "a new token does not help");
    let whoami = call(&world, Method::GET, "/api/v1/whoami", &token(&world, "sam"), None).await;
    assert_eq!(whoami.status, StatusCode::UNAUTHORIZED);
    let pat = world.caller("pat").get(&jobs()).await;
    assert_eq!(pat.status, StatusCode::OK);
    // Lifted, it is as before.
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let listed = call(&world, Method::GET, "/api/v1/revocations", &token(&world, "pat"), None).await;
    assert_eq!(listed.json()["revocations"][0]["id"], *id);
    let path = format!("/api/v1/revocations/{id}");
    let lifted = call(&world, Method::DELETE, &path, &token(&world, "pat"), None).await;
    assert_eq!(lifted.status, StatusCode::OK, "{lifted:?}");
    assert_eq!(sam.get(&jobs()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn one_token_is_revoked_by_its_id_and_the_persons_others_go_on() {
    let world = World::new().await;
    let (one, other) = (token(&world, "sam"), token(&world, "sam"));
    let id = claims(&one)["jti"].clone();
    let made =
        revoke(&world, "pat", json!({"token": id, "issuer": "sandbox", "reason": "it was in a log"})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    assert_eq!(world.bearing(&one).get(&jobs()).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.bearing(&other).get(&jobs()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_asked_for_must_be_one_revocation() {
    let world = World::new().await;
    for what in [
        json!({"reason": "nobody is named"}),
        json!({"principal": "sandbox:user-sam"}),
        json!({"principal": "user-sam", "reason": "no issuer"}),
        json!({"principal": "sandbox:user-sam", "token": "t", "reason": "two"}),
        json!({"token": "t", "reason": "no issuer"}),
        json!({"token": "t", "issuer": "sandbox", "issued_until_now": true, "reason": "no principal"}),
        json!({"principal": "sandbox:user-sam", "reason": " "}),
        json!({"principal": "sandbox:user-sam", "reason": "r", "seconds": 0}),
        json!({"principal": "sandbox:user-sam", "reason": "r", "forever": true}),
    ] {
        let answer = revoke(&world, "pat", what.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what}: {answer:?}");
    }
    assert_eq!(world.caller("sam").get(&jobs()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_is_exchanged_for_a_short_one_of_the_same_principal() {
    let world = World::new().await;
    let subject = token(&world, "sam");
    let parameters = [
        ("grant_type", GRANT),
        ("subject_token", &*subject),
        ("subject_token_type", JWT),
        ("audience", &*format!("https://{}", world.host())),
    ];
    let answer = exchange(&world, &parameters, None).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    let said = answer.json();
    assert_eq!(said["token_type"], "Bearer");
    assert_eq!(said["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    let own = said["access_token"].as_str().unwrap();
    let life = said["expires_in"].as_u64().unwrap();
    assert!(life > 0 && life <= 900, "{life}");
    let claims = claims(own);
    assert!(claims["exp"].as_u64() <= self::claims(&subject)["exp"].as_u64());
    assert_eq!(claims["aud"], *format!("https://{}", world.host()));
    // It is a caller's token like any, of the same person with the same rights.
    let caller = world.bearing(own);
    assert_eq!(caller.get(&jobs()).await.status, StatusCode::OK);
    assert_eq!(
        caller.delete(&format!("{}?{}", crate::world::workspace(""), crate::world::VERSION)).await.status,
        StatusCode::FORBIDDEN
    );
    let whoami = call(&world, Method::GET, "/api/v1/whoami", own, None).await.json();
    assert_eq!(
        (&whoami["principal"], &whoami["groups"]),
        (&json!("sandbox:user-sam"), &json!(["data-science"]))
    );
    // Its key is published.
    let jwks =
        ask(&world, request(&world, Method::GET, "/.well-known/jwks.json").body(whole("")).unwrap()).await;
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(own.split('.').next().unwrap()).unwrap()).unwrap();
    assert!(jwks.json()["keys"].as_array().unwrap().iter().any(|key| key["kid"] == header["kid"]));
    let log = world.stop().await;
    let text: String = log.records.iter().map(Value::to_string).collect();
    assert!(text.contains("amlgate/token/action") && !text.contains(&subject) && !text.contains(own));
}

#[tokio::test]
async fn an_exchanged_token_adds_no_time_and_ends_with_its_origin() {
    let world = World::new().await;
    let subject = token(&world, "ci");
    let own = exchanged(&world, &subject).await;
    let parameters = [("grant_type", GRANT), ("subject_token", &*own), ("subject_token_type", JWT)];
    let again = exchange(&world, &parameters, None).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
    assert_eq!(again.json()["error"], "invalid_request", "{again:?}");
    assert!(again.text().contains("not exchanged again"), "{again:?}");
    let score = |token: &str| {
        let caller = world.bearing(token);
        let body = json!({"input_data": {"data": [[1, 2, 3], [-4, 0, 1]]}});
        async move { caller.post("/endpoints/churn/score", &body).await.status }
    };
    assert_eq!(score(&own).await, StatusCode::OK);
    let id = claims(&subject)["jti"].clone();
    revoke(&world, "pat", json!({"token": id, "issuer": "sandbox", "reason": "leaked"})).await;
    assert_eq!(score(&own).await, StatusCode::UNAUTHORIZED, "what came of a revoked token is revoked");
    let another = exchanged(&world, &token(&world, "ci")).await;
    assert_eq!(score(&another).await, StatusCode::OK);
    let id = claims(&another)["jti"].clone();
    revoke(&world, "pat", json!({"token": id, "issuer": "amlgate", "reason": "leaked"})).await;
    assert_eq!(score(&another).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn forged_tokens_of_the_gate_are_refused() {
    let world = World::new().await;
    let own = exchanged(&world, &token(&world, "sam")).await;
    let mut parts: Vec<String> = own.split('.').map(ToOwned::to_owned).collect();
    let mut claims = claims(&own);
    claims["amlgate"]["claims"]["groups"] = json!(["platform"]);
    parts[1] = URL_SAFE_NO_PAD.encode(claims.to_string());
    assert_eq!(world.bearing(&parts.join(".")).get(&jobs()).await.status, StatusCode::UNAUTHORIZED);
    // An issuer that signs the gate's name with its own key is still itself.
    let person = amlgate::sandbox::Person::named("sam").unwrap();
    let iss = claims["iss"].clone();
    let posing = world.sandbox.issuer.mint().token_with(person, |c| {
        c.insert("iss".to_owned(), iss);
        c.insert("amlgate".to_owned(), json!({"issuer": "sandbox", "claims": {"sub": "user-pat"}}));
    });
    assert_eq!(world.bearing(&posing.unwrap()).get(&jobs()).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn flaws_of_an_exchange_are_said_as_rfc_8693_says_them() {
    let world = World::new().await;
    let subject = token(&world, "sam");
    let forged = world.sandbox.issuer.mint();
    let forged = forged
        .forge(amlgate::sandbox::Person::named("sam").unwrap(), amlgate::sandbox::issuer::Forgery::Altered)
        .unwrap();
    let good = [("grant_type", GRANT), ("subject_token", &*subject), ("subject_token_type", JWT)];
    let with = |extra: &[(&'static str, &str)]| {
        let mut all: Vec<(String, String)> =
            good.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        for (name, value) in extra {
            match all.iter_mut().find(|(n, _)| n == name) {
                Some(place) if *name != "repeated" => place.1 = (*value).to_owned(),
                _ => all.push(((*name).to_owned(), (*value).to_owned())),
            }
        }
        all
    };
    for (parameters, error) in [
        (with(&[("grant_type", "password")]), "unsupported_grant_type"),
        (with(&[("subject_token", &forged)]), "invalid_request"),
        (with(&[("subject_token", "")]), "invalid_request"),
        (with(&[("subject_token_type", "urn:ietf:params:oauth:token-type:saml2")]), "invalid_request"),
        (with(&[("audience", "https://elsewhere.example")]), "invalid_target"),
        (with(&[("resource", "https://elsewhere.example")]), "invalid_target"),
        (with(&[("scope", "everything")]), "invalid_scope"),
        (with(&[("actor_token", &subject)]), "invalid_request"),
        (
            with(&[("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")]),
            "invalid_request",
        ),
        ([with(&[]), with(&[])].concat(), "invalid_request"),
    ] {
        let pairs: Vec<(&str, &str)> = parameters.iter().map(|(n, v)| (&**n, &**v)).collect();
        let answer = exchange(&world, &pairs, None).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{error}: {answer:?}");
        assert_eq!(answer.json()["error"], error, "{answer:?}");
        assert!(!answer.text().contains(&subject));
    }
}

/// A proof of possession (RFC 9449) by a key of its own.
fn proof(world: &World, key: &aws_lc_rs::signature::Ed25519KeyPair, id: &str) -> String {
    use aws_lc_rs::signature::KeyPair as _;
    let x = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
    let header = json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": x}});
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let url = format!("http://{}/api/v1/token", world.server.admin().unwrap());
    let claims = json!({"jti": id, "htm": "POST", "htu": url, "iat": now});
    let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", text(&header), text(&claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()).as_ref());
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn whoever_proves_a_key_gets_a_token_that_is_worth_nothing_without_it() {
    let world = World::new().await;
    let key = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let subject = token(&world, "sam");
    let parameters = [("grant_type", GRANT), ("subject_token", &*subject), ("subject_token_type", JWT)];
    let shown = proof(&world, &key, "proof-1");
    let answer = exchange(&world, &parameters, Some(&shown)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json()["token_type"], "DPoP");
    let own = answer.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(claims(&own)["cnf"]["jkt"].as_str().unwrap().len(), 43);
    assert_eq!(world.bearing(&own).get(&jobs()).await.status, StatusCode::UNAUTHORIZED, "as a bearer");
    let replayed = exchange(&world, &parameters, Some(&shown)).await;
    assert_eq!(replayed.json()["error"], "invalid_dpop_proof", "{replayed:?}");
    let broken = exchange(&world, &parameters, Some("a.b.c")).await;
    assert_eq!(broken.json()["error"], "invalid_dpop_proof", "{broken:?}");
}

#[tokio::test]
async fn a_gate_without_a_store_needs_none_and_says_what_it_cannot_do() {
    let changes = crate::world::Changes {
        configuration: &[
            ("store: {sqlite: var/amlgate.db}\n", ""),
            ("evidence: {signing_key: {file: certs/evidence.key}}\n", ""),
            (", sign_in: {issuer: sandbox}", ""),
        ],
        ..Default::default()
    };
    let world = World::changed(changes).await;
    assert_eq!(world.caller("sam").get(&jobs()).await.status, StatusCode::OK);
    assert!(!world.directory().join("var/amlgate.db").exists());
    let answer = revoke(&world, "pat", json!({"principal": "sandbox:user-sam", "reason": "r"})).await;
    assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED, "{answer:?}");
    let subject = token(&world, "sam");
    let parameters = [("grant_type", GRANT), ("subject_token", &*subject), ("subject_token_type", JWT)];
    assert_eq!(exchange(&world, &parameters, None).await.status, StatusCode::NOT_IMPLEMENTED);
    let ready = ask(&world, request(&world, Method::GET, "/readyz").body(whole("")).unwrap()).await;
    assert!(!ready.text().contains("\"store\""), "{ready:?}");
}
