//! Tokens that are bound to a key of the caller's machine (DPoP, RFC 9449), and the relay that proves it.

use std::{fs, net::SocketAddr, sync::Arc};

use amlgate::{
    client::{ForwardDoor, Key, Relay, Session, SessionError, Sessions, SignIn, SignInError, Source},
    time::{Clock as _, SystemClock},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::ThumbprintHash};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{ask, connect, connector, signed_in_with},
    world::World,
};

/// A session whose tokens are bound to the key of its folder.
async fn bound(world: &World) -> (tempfile::TempDir, Sessions, String, Session) {
    let home = tempfile::tempdir().unwrap();
    let sessions = Sessions::at(home.path().join("amlgate"));
    let sign_in = SignIn::new(connector()).holding(sessions.key().unwrap());
    let (gate, session) = signed_in_with(world, "sam", sign_in).await;
    sessions.keep(&gate, session.clone()).unwrap();
    (home, sessions, gate, session)
}

fn jkt(session: &Session) -> Value {
    session.tokens.claims()["cnf"]["jkt"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_in_with_a_key_gets_tokens_that_are_its_own_and_renews_them_with_it_alone() {
    let world = World::new().await;
    let (_home, sessions, gate, mut session) = bound(&world).await;
    assert!(session.tokens.bound);
    assert_eq!(jkt(&session), sessions.key().unwrap().thumbprint());
    // An old one is renewed by the same key, which is found in the folder.
    session.tokens.expires = SystemClock.now().as_secs();
    sessions.keep(&gate, session.clone()).unwrap();
    let (_, renewed) = sessions.fresh(None, &SignIn::new(connector()), SystemClock.now()).await.unwrap();
    assert!(renewed.tokens.bound && renewed.tokens.is_fresh(SystemClock.now()));
    assert_eq!(jkt(&renewed), jkt(&session));

    // The file of sessions alone, on another machine, brings nothing.
    let mut stolen = renewed;
    stolen.tokens.expires = SystemClock.now().as_secs();
    let elsewhere = tempfile::tempdir().unwrap();
    let thief = Sessions::at(elsewhere.path().to_owned());
    thief.keep(&gate, stolen).unwrap();
    let over = thief.fresh(None, &SignIn::new(connector()), SystemClock.now()).await.unwrap_err();
    assert!(matches!(over, SessionError::Over { why: Some(SignInError::Refused(_)), .. }), "{over:?}");
    // What was signed in without a key stays what it was.
    let (_, plain) = signed_in_with(&world, "sam", SignIn::new(connector())).await;
    assert!(!plain.tokens.bound && plain.tokens.claims().get("cnf").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_proves_its_key_anew_for_each_tunnel() {
    let world = World::new().await;
    let (_home, sessions, gate, session) = bound(&world).await;
    // In the place of the gate: what the relay sends is looked at here.
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let described =
        ForwardDoor { address: door.local_addr().unwrap().to_string(), tls: false, ca: String::new() };
    let source = Source::Session { sessions, sign_in: SignIn::new(connector()), gate };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let relay =
        Relay::listen(any, &described, None, source, connector(), Arc::new(SystemClock)).await.unwrap();
    let (address, word) = (relay.address().unwrap(), relay.word().to_owned());
    tokio::spawn(relay.serve(CancellationToken::new()));
    let mut seen = Vec::new();
    for _ in 0..2 {
        let asked = connect("management.azure.com", &word);
        let (answer, head) = tokio::join!(ask(address, &asked), async {
            let (mut stream, _) = door.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            String::from_utf8(head).unwrap()
        });
        assert!(answer.0.contains(" 403 "), "{}", answer.0);
        seen.push(head);
    }
    let token = session.tokens.access.expose_secret();
    let mut proofs = Vec::new();
    for head in &seen {
        let line = |name: &str| {
            let found = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
            found.unwrap_or_else(|| panic!("{head}")).split_once(": ").unwrap().1
        };
        assert_eq!(line("proxy-authorization:"), format!("DPoP {token}"));
        let proof = line("dpop:");
        let jwk = jsonwebtoken::decode_header(proof).unwrap().jwk.unwrap();
        assert_eq!(jwk.thumbprint(ThumbprintHash::SHA256).unwrap(), jkt(&session).as_str().unwrap());
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        let claims = jsonwebtoken::decode::<Value>(proof, &key, &validation).unwrap().claims;
        assert_eq!(claims["htm"], "CONNECT");
        assert_eq!(claims["htu"], "https://management.azure.com:443/");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        assert_eq!(claims["ath"], URL_SAFE_NO_PAD.encode(digest));
        proofs.push(claims["jti"].clone());
    }
    assert_ne!(proofs[0], proofs[1], "a proof is good once");
}

#[test]
fn a_sign_out_takes_the_key_along_where_nobody_else_is_signed_in() {
    let home = tempfile::tempdir().unwrap();
    let sessions = Sessions::at(home.path().join("amlgate"));
    let key: Arc<Key> = sessions.key().unwrap();
    assert_eq!(sessions.key().unwrap().thumbprint(), key.thumbprint());
    assert!(sessions.clear().unwrap(), "nobody is signed in");
    assert!(fs::metadata(sessions.folder()).is_err(), "nothing is left");
    assert_ne!(sessions.key().unwrap().thumbprint(), key.thumbprint());
}
