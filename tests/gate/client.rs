//! The caller's own side: signing in, keeping tokens fresh, and the relay.

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use amlgate::{
    client::{At, Relay, Session, SessionError, Sessions, SignIn, SignInError, Source, Tokens, describe},
    net::{Connector, ConnectorSettings, Trust},
    time::{Clock as _, ManualClock, SystemClock},
};
use bytes::Bytes;
use http::{Request, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use crate::{
    forward::{jobs, trusting},
    world::{Changes, World},
};

fn authorities(world: &World) -> String {
    fs::read_to_string(world.directory().join("certs/ca.pem")).unwrap()
}

pub fn connector() -> Connector {
    Connector::new(ConnectorSettings::default()).unwrap()
}

/// A person at a browser: opens the page, picks a name, and is sent back.
async fn browse(world: &World, page: String, name: &str) {
    let trust = Trust::new(Some(authorities(world).as_bytes())).unwrap();
    let (at, query) = page.split_once('?').unwrap();
    let request = Request::post(at).body(Bytes::from(format!("{query}&person={name}"))).unwrap();
    let to = amlgate::net::Destination::of(request.uri()).unwrap().trusting(Some(trust));
    let answer = connector().send(&to, request, Default::default()).await.unwrap();
    let back: http::Uri = answer.headers()["location"].to_str().unwrap().parse().unwrap();
    let to = amlgate::net::Destination::of(&back).unwrap();
    let request = Request::get(back).body(Bytes::new()).unwrap();
    let page = connector().send(&to, request, Default::default()).await.unwrap();
    assert!(page.body().starts_with(b"You are signed in"), "{:?}", page.body());
}

/// A session as `amlgate login` makes it, with a browser.
async fn signed_in(world: &World, name: &str) -> (String, Session) {
    signed_in_with(world, name, SignIn::new(connector())).await
}

pub async fn signed_in_with(world: &World, name: &str, sign_in: SignIn) -> (String, Session) {
    let gate = format!("https://{}", world.host());
    let trust = authorities(world);
    let roots = Trust::new(Some(trust.as_bytes())).unwrap();
    let described = describe(&connector(), &gate, Some(roots)).await.unwrap();
    let issuer = described.issuers.iter().find(|issuer| issuer.name == "sandbox").unwrap();
    let client_id = issuer.client_id.clone().unwrap();
    let at =
        At { issuer: &issuer.issuer, client_id: &client_id, scopes: &issuer.scopes, trust: Some(&trust) };
    let (opened, page) = tokio::sync::oneshot::channel();
    let (tokens, ()) = tokio::join!(
        sign_in.with_browser(at, || SystemClock.now(), |page| opened.send(page.to_owned()).unwrap()),
        async { browse(world, page.await.unwrap(), name).await },
    );
    let session = Session {
        issuer_name: issuer.name.clone(),
        issuer: issuer.issuer.clone(),
        client_id,
        scopes: issuer.scopes.clone(),
        trust: Some(trust),
        tokens: tokens.unwrap(),
    };
    (gate, session)
}

fn kept(gate: &str, session: Session) -> (tempfile::TempDir, Sessions) {
    let home = tempfile::tempdir().unwrap();
    let sessions = Sessions::at(home.path().join("amlgate"));
    sessions.keep(gate, session).unwrap();
    (home, sessions)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_with_a_browser_and_the_gate_takes_the_token() {
    let world = World::new().await;
    let (_, session) = signed_in(&world, "sam").await;
    let token = secrecy::ExposeSecret::expose_secret(&session.tokens.access).to_owned();
    let answer = world.bearing(&token).get(&jobs()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(session.tokens.refresh.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_on_another_device_signs_in_too_and_a_wrong_issuer_says_so() {
    let world = World::new().await;
    let trust = authorities(&world);
    let issuer = world.sandbox.issuer.url();
    let scopes = ["openid".to_owned(), "offline_access".to_owned()];
    let at = At { issuer: &issuer, client_id: "amlgate-cli", scopes: &scopes, trust: Some(&trust) };
    let (shown, seen) = tokio::sync::oneshot::channel();
    let sign_in = SignIn::new(connector());
    let show = |page: &str, code: &str| shown.send((page.to_owned(), code.to_owned())).unwrap();
    let (tokens, ()) = tokio::join!(sign_in.with_device_code(at, || SystemClock.now(), show), async {
        let (page, code) = seen.await.unwrap();
        let request = Request::post(&page).body(Bytes::from(format!("user_code={code}&person=rita")));
        let request = request.unwrap();
        let roots = Trust::new(Some(trust.as_bytes())).unwrap();
        let to = amlgate::net::Destination::of(request.uri()).unwrap().trusting(Some(roots));
        let answer = connector().send(&to, request, Default::default()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    });
    assert_eq!(tokens.unwrap().claims()["sub"], "user-rita");
    let elsewhere = format!("{issuer}/nothing");
    let wrong = At { issuer: &elsewhere, ..at };
    let refused = sign_in.with_device_code(wrong, || SystemClock.now(), |_, _| ()).await;
    assert!(matches!(refused, Err(SignInError::Discovery { .. })), "{refused:?}");
}

/// The issuer takes each refresh token once: a second request with the same one would be refused.
#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_that_find_the_token_old_one_renews_it_and_all_have_the_new_one() {
    let world = World::new().await;
    let (gate, mut session) = signed_in(&world, "sam").await;
    session.tokens.expires = SystemClock.now().as_secs();
    let (_home, sessions) = kept(&gate, session.clone());
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let sessions = sessions.clone();
            tokio::spawn(async move {
                sessions.fresh(None, &SignIn::new(connector()), SystemClock.now()).await.map(|(_, s)| s)
            })
        })
        .collect();
    let mut ends = Vec::new();
    for asked in asking {
        ends.push(asked.await.unwrap().unwrap().tokens.expires);
    }
    assert!(ends.iter().all(|end| *end == ends[0] && *end > session.tokens.expires), "{ends:?}");

    // With the old refresh token, which is used now, there is no going on.
    let (_home, again) = kept(&gate, session);
    let over = again.fresh(None, &SignIn::new(connector()), SystemClock.now()).await.unwrap_err();
    assert!(matches!(over, SessionError::Over { why: Some(SignInError::Refused(_)), .. }), "{over:?}");
    assert!(over.to_string().contains("amlgate login --gate https://"), "{over}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_the_owners_and_are_forgotten_on_demand() {
    let world = World::new().await;
    let (gate, session) = signed_in(&world, "sam").await;
    assert!(!format!("{session:?}").contains("eyJ"));
    let (_home, sessions) = kept(&format!("{gate}/"), session);
    let file = sessions.folder().join("sessions.json");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(sessions.find(None), Err(SessionError::Exposed(_))));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(sessions.find(None).unwrap().0, gate);
    assert_eq!(sessions.forget(Some(&gate)).unwrap(), gate);
    assert!(matches!(sessions.find(None), Err(SessionError::Nobody(None))));
    assert!(!fs::read_to_string(&file).unwrap().contains("eyJ"));
    fs::write(&file, "{}").unwrap();
    assert!(matches!(sessions.find(None), Err(SessionError::Contents { .. })));
}

pub async fn relay(world: &World, source: Source) -> (SocketAddr, String, CancellationToken) {
    let gate = format!("https://{}", world.host());
    let trust = authorities(world);
    let roots = Trust::new(Some(trust.as_bytes())).unwrap();
    let door = describe(&connector(), &gate, Some(roots)).await.unwrap().forward.unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let clock = Arc::new(SystemClock);
    let relay = Relay::listen(any, &door, Some(&trust), source, connector(), clock).await.unwrap();
    let (address, word, stop) = (relay.address().unwrap(), relay.word().to_owned(), CancellationToken::new());
    tokio::spawn(relay.serve(stop.clone()));
    (address, word, stop)
}

/// What the relay answers to a head, and the connection behind it.
pub async fn ask(relay: SocketAddr, head: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(relay).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(answer).unwrap(), stream)
}

pub fn connect(host: &str, word: &str) -> String {
    use base64::Engine as _;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("amlgate:{word}"));
    format!("CONNECT {host}:443 HTTP/1.0\r\nProxy-Authorization: Basic {basic}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notebook_that_holds_no_secret_reaches_azure_through_the_relay() {
    let world = World::new().await;
    let (gate, session) = signed_in(&world, "sam").await;
    let (_home, sessions) = kept(&gate, session);
    let source = Source::Session { sessions, sign_in: SignIn::new(connector()), gate };
    let (address, word, stop) = relay(&world, source).await;
    let (head, stream) = ask(address, &connect("management.azure.com", &word)).await;
    assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{head}");
    let name = "management.azure.com".try_into().unwrap();
    let mut inside = trusting(&world, b"http/1.1").connect(name, stream).await.unwrap();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: management.azure.com\r\nAuthorization: Bearer placeholder\r\nConnection: close\r\n\r\n",
        jobs()
    );
    inside.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The gate may end the connection without TLS's own farewell.
    drop(inside.read_to_end(&mut answer).await);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));

    // What the gate refuses is refused here in its words.
    let (head, _) = ask(address, &connect("example.com", &word)).await;
    assert!(head.contains(" 403 "), "{head}");
    // Other users of the machine do not know the word.
    for wrong in ["", "another"] {
        let (head, _) = ask(address, &connect("management.azure.com", wrong)).await;
        assert!(head.contains(" 407 "), "{head}");
    }
    stop.cancel();
    let log = world.stop().await;
    let asked: Vec<_> = log.requests().iter().filter(|r| r["actor"]["user"].is_object()).copied().collect();
    assert_eq!(asked.len(), 1, "{asked:#?}");
    assert_eq!(asked[0]["actor"]["user"]["uid"], "sandbox:user-sam");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_replaced_in_its_file_is_read_anew_and_one_that_is_gone_is_explained() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let (address, word, _stop) = relay(&world, Source::File(file.clone())).await;
    let (head, _) = ask(address, &connect("management.azure.com", &word)).await;
    assert!(head.contains(" 502 "), "{head}");
    let person = amlgate::sandbox::Person::named("ci").unwrap();
    fs::write(&file, world.sandbox.issuer.mint().token(person).unwrap()).unwrap();
    let (head, _) = ask(address, &connect("management.azure.com", &word)).await;
    assert!(head.contains(" 200 "), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_insists_on_a_credential_gets_one_that_is_worth_nothing() {
    let world = World::new().await;
    let (gate, session) = signed_in(&world, "sam").await;
    let (_home, sessions) = kept(&gate, session);
    let source = Source::Session { sessions, sign_in: SignIn::new(connector()), gate };
    let (address, word, _stop) = relay(&world, source).await;
    let ask = async |word: &str| {
        let url =
            format!("http://{address}/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fml.azure.com");
        let request = Request::get(url).header("x-identity-header", word).body(Bytes::new()).unwrap();
        let to = amlgate::net::Destination::of(request.uri()).unwrap();
        connector().send(&to, request, Default::default()).await.unwrap()
    };
    assert_eq!(ask("another").await.status(), StatusCode::UNAUTHORIZED);
    let answer = ask(&word).await;
    let answer: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(
        (&answer["resource"], &answer["token_type"]),
        (&"https://ml.azure.com".into(), &"Bearer".into())
    );
    // Shown to the gate it is nobody's.
    let refused = world.bearing(answer["access_token"].as_str().unwrap()).get(&jobs()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let clock = ManualClock::starting_at(amlgate::time::Timestamp::from_secs(1_800_000_000));
    let tokens =
        Tokens { access: "t".into(), refresh: None, expires: clock.now().as_secs() + 600, bound: false };
    assert!(tokens.is_fresh(clock.now()));
    clock.advance(Duration::from_secs(515));
    assert!(!tokens.is_fresh(clock.now()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_describes_itself_at_both_doors_and_says_no_more_than_a_client_needs() {
    let world = World::at(Changes::default(), Arc::new(SystemClock)).await;
    let own = world.nobody().get("/.well-known/amlgate").await;
    assert_eq!(own.status, StatusCode::OK);
    let keys: Vec<_> = own.json().as_object().unwrap().keys().cloned().collect();
    let expected = ["api", "dpop_signing_alg_values_supported", "forward", "issuers", "reverse", "version"];
    assert_eq!(keys, expected);
    assert!(!own.text().contains("PRIVATE KEY"));
    let forward = world.server.forward().unwrap();
    let request = Request::get(format!("http://{forward}/.well-known/amlgate")).body(Bytes::new()).unwrap();
    let to = amlgate::net::Destination::of(request.uri()).unwrap();
    let same = connector().send(&to, request, Default::default()).await.unwrap();
    assert_eq!(same.body(), own.text().as_bytes());
}
