//! Tokens that are bound to a key of the caller's machine (DPoP, RFC 9449), and the relay that proves it.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, sync::Arc};

use amlgate::{
    client::{ForwardDoor, Key, Relay, Session, SessionError, Sessions, SignIn, SignInError, Source},
    net::{Destination, Trust},
    time::{Clock as _, SystemClock},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, StatusCode};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::ThumbprintHash};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    process::{Child, ChildStderr, Command},
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{ask, connect, connector, signed_in_with},
    forward::{Tunnel, jobs, trusting},
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

/// The program itself, with its files in `home`.
fn program(home: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_amlgate"))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("AMLGATE_HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The first line that has these words.
async fn line(from: &mut BufReader<ChildStderr>, words: &str) -> String {
    let mut lines = from.lines();
    let mut all = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains(words) {
            return line;
        }
        all += &line;
    }
    panic!("`{words}` was not said: {all}");
}

/// `amlgate login --bound --device-code`, by sam on another device.
async fn login(world: &World, home: &Path) -> String {
    let gate = format!("https://{}", world.host());
    let ca = world.directory().join("certs/ca.pem");
    let ca_path = ca.to_str().unwrap();
    let arguments = [
        "login",
        "--gate",
        &gate,
        "--issuer",
        "sandbox",
        "--bound",
        "--device-code",
        "--ca",
        ca_path,
        "--no-keyring",
    ];
    let mut asking = program(home, &arguments);
    // Held open: it has more to say.
    let mut messages = BufReader::new(asking.stderr.take().unwrap());
    let said = line(&mut messages, "enter the code").await;
    let words: Vec<_> = said.split(' ').collect();
    let (page, code) = (words[1], words[words.len() - 1]);
    let roots = Trust::new(Some(&fs::read(&ca).unwrap())).unwrap();
    let request = Request::post(page).body(Bytes::from(format!("user_code={code}&person=sam"))).unwrap();
    let to = Destination::of(request.uri()).unwrap().trusting(Some(roots));
    let answer = connector().send(&to, request, Default::default()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(asking.wait().await.unwrap().success());
    gate
}

/// The status of a listing of jobs by a relay.
async fn listed(world: &World, relay: SocketAddr, word: &str) -> String {
    let (head, stream) = ask(relay, &connect("management.azure.com", word)).await;
    assert!(head.contains(" 200 "), "{head}");
    let name = "management.azure.com".try_into().unwrap();
    let mut inside = trusting(world, b"http/1.1").connect(name, stream).await.unwrap();
    let host = "Host: management.azure.com\r\nConnection: close";
    inside.write_all(format!("GET {} HTTP/1.1\r\n{host}\r\n\r\n", jobs()).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The gate may end the connection without TLS's own farewell.
    drop(inside.read_to_end(&mut answer).await);
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_sign_in_works_by_relay_and_run_and_what_is_stolen_of_it_does_not() {
    let world = World::new().await;
    let home = tempfile::tempdir().unwrap();
    let gate = login(&world, home.path()).await;
    let sessions = Sessions::at(home.path().to_owned());
    let (_, first) = sessions.find(Some(&gate)).unwrap();
    assert!(first.tokens.bound);
    assert_eq!(jkt(&first), sessions.key().unwrap().thumbprint());

    let mut relaying = program(home.path(), &["relay"]);
    let mut messages = BufReader::new(relaying.stderr.take().unwrap());
    line(&mut messages, "Relay to").await;
    let running: Value = serde_json::from_slice(&fs::read(home.path().join("relay.json")).unwrap()).unwrap();
    let relay = running["address"].as_str().unwrap().parse().unwrap();
    let word = running["word"].as_str().unwrap();
    let answer = listed(&world, relay, word).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    // When the token is old, the relay gets the next one for the same key.
    let mut old = first.clone();
    old.tokens.expires = SystemClock.now().as_secs();
    sessions.keep(&gate, old).unwrap();
    let answer = listed(&world, relay, word).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, renewed) = sessions.find(Some(&gate)).unwrap();
    assert_ne!(renewed.tokens.access.expose_secret(), first.tokens.access.expose_secret());
    assert!(renewed.tokens.bound && jkt(&renewed) == jkt(&first));

    // A program that is started knows a relay, and neither token nor key.
    let mut started = program(home.path(), &["run", "--", "sh", "-c", "env; echo that is all; read end"]);
    let mut said = BufReader::new(started.stdout.take().unwrap()).lines();
    let mut environment = Vec::new();
    while let Some(line) = said.next_line().await.unwrap().filter(|line| line != "that is all") {
        assert!(!line.contains("eyJ"), "{line}");
        environment.push(line);
    }
    let proxy = environment.iter().find_map(|line| line.strip_prefix("HTTPS_PROXY=http://")).unwrap();
    let (who, own) = proxy.trim_end_matches('/').split_once('@').unwrap();
    let answer = listed(&world, own.parse().unwrap(), who.split_once(':').unwrap().1).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(started.stdin.take());
    started.wait().await.unwrap();

    // Whoever has the token and not the key: as a bearer at either door, or with a key of their own.
    let stolen = renewed.tokens.access.expose_secret();
    assert_eq!(world.bearing(stolen).get(&jobs()).await.status, StatusCode::UNAUTHORIZED);
    let mut tunnel = Tunnel::with(&world, stolen, "management.azure.com").await;
    let refused = tunnel.get(&jobs()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{refused:?}");
    assert!(refused.text().contains("bound to a key"), "{refused:?}");
    let elsewhere = tempfile::tempdir().unwrap();
    let thief = Sessions::at(elsewhere.path().to_owned());
    thief.keep(&gate, renewed.clone()).unwrap();
    let source = Source::Session { sessions: thief, sign_in: SignIn::new(connector()), gate };
    let (theirs, word, _stop) = crate::client::relay(&world, source).await;
    let answer = listed(&world, theirs, &word).await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("by another key"), "{answer}");

    drop((relaying, tunnel));
    let log = world.stop().await;
    let requests = log.requests();
    let let_in: Vec<_> = requests.iter().filter(|r| r["actor"]["user"].is_object()).collect();
    assert_eq!(let_in.len(), 3, "{let_in:#?}");
    assert!(let_in.iter().all(|r| r["unmapped"]["amlgate"]["proof"] == "dpop"), "{let_in:#?}");
    assert!(!format!("{:?}", log.records).contains(stolen));
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
