//! Heads as they come off the wire: what two readers could read differently is refused.

use amlgate::sandbox::Seen;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{VERSION, World, whole, workspace};

/// Sends bytes; what comes back until the gate closes the connection.
async fn raw(world: &World, head: &str) -> String {
    let mut stream = world.dial().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is cut off is an answer too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_two_readers_could_read_differently_is_refused_and_the_connection_closed() {
    let world = World::new().await;
    let (host, jobs) = (world.host(), workspace(&format!("/jobs?{VERSION}")));
    for (what, head) in [
        ("no host", format!("GET {jobs} HTTP/1.1\r\n\r\n")),
        ("two hosts", format!("GET {jobs} HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n\r\n")),
        (
            "length and chunks",
            format!(
                "POST {jobs} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        (
            "two lengths",
            format!(
                "POST {jobs} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"
            ),
        ),
        (
            "an unknown coding",
            format!(
                "POST {jobs} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        (
            "a folded header",
            format!("GET {jobs} HTTP/1.1\r\nHost: {host}\r\nX-A: b\r\n c\r\nConnection: close\r\n\r\n"),
        ),
        ("space before the colon", format!("GET {jobs} HTTP/1.1\r\nHost: {host}\r\nX-A : b\r\n\r\n")),
        ("a bare line feed in the target", format!("GET {jobs}\n HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        (
            "CONNECT",
            format!("CONNECT management.azure.com:443 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        ),
        ("TRACE", format!("TRACE {jobs} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")),
        (
            "another expectation",
            format!("GET {jobs} HTTP/1.1\r\nHost: {host}\r\nExpect: 200-maybe\r\nConnection: close\r\n\r\n"),
        ),
    ] {
        let answer = raw(&world, &head).await;
        let status: u16 = answer.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
        assert!(answer.is_empty() || (400..=505).contains(&status), "{what}: {answer}");
    }
    assert_eq!(world.sandbox.azure.observer().seen_at("management.azure.com").len(), 0);
}

#[tokio::test]
async fn a_head_beyond_the_limits_is_refused_with_its_number() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let jobs = workspace(&format!("/jobs?{VERSION}"));
    let mut many = sam.request(Method::GET, &jobs);
    for n in 0..120 {
        many = many.header(format!("x-{n}"), "1");
    }
    let long = sam.request(Method::GET, &jobs).header("x-long", "a".repeat(20 << 10));
    for request in [many, long] {
        let answer = sam.send(request.body(whole("")).unwrap()).await;
        assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "{answer:?}");
    }
    let target = format!("{jobs}&x={}", "a".repeat(17 << 10));
    let answer = sam.send(sam.request(Method::GET, &target).body(whole("")).unwrap()).await;
    assert_eq!(answer.status, StatusCode::URI_TOO_LONG, "{answer:?}");
}

#[tokio::test]
async fn a_caller_who_expects_100_gets_it_before_the_body() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let token = sam.request(Method::GET, "/").body(()).unwrap().headers()["authorization"].clone();
    let body = r#"{"input_data":{"data":[[1,2,3]]}}"#;
    let mut stream = world.dial().await;
    let head = format!(
        "POST /endpoints/churn/score HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        world.host(),
        token.to_str().unwrap(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn who_is_refused_need_not_send_the_body() {
    let world = World::new().await;
    let mut stream = world.dial().await;
    let head = format!(
        "POST /endpoints/churn/score HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n",
        world.host()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test]
async fn who_is_refused_while_sending_hears_why_and_keeps_the_connection() {
    let world = World::new().await;
    let mut sender = world.connect().await;
    for (name, expected) in [("rita", 403), ("sam", 200), ("rita", 403), ("ci", 200)] {
        let caller = world.caller(name);
        let body = format!(r#"{{"input_data":{{"data":[[1]]}},"pad":"{}"}}"#, "x".repeat(300_000));
        let request = caller.request(Method::POST, "/endpoints/churn/score");
        let request = request.header("content-type", "application/json").body(whole(body)).unwrap();
        sender.ready().await.unwrap();
        let answer = crate::world::Answer::of(sender.send_request(request).await.unwrap()).await;
        assert_eq!(answer.status.as_u16(), expected, "{answer:?}");
        assert!(expected == 200 || answer.text().contains("no entry allows you"), "{answer:?}");
    }
    // What is longer than the gate throws away ends the connection, and the answer says so.
    let rita = world.caller("rita");
    let token = rita.request(Method::GET, "/").body(()).unwrap().headers()["authorization"].clone();
    let head = format!(
        "POST /endpoints/churn/score HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Length: 9999999\r\n\r\n",
        world.host(),
        token.to_str().unwrap()
    );
    let answer = raw(&world, &format!("{head}{}", "x".repeat((1 << 20) + 1))).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn many_requests_of_one_http2_connection_are_answered_each_for_itself() {
    let world = World::new().await;
    let mut sender = world.connect_http2().await;
    let url = |path: &str| format!("https://{}{path}", world.host());
    let jobs = workspace(&format!("/jobs?{VERSION}"));
    let mut answers = Vec::new();
    for (name, expected) in [("sam", 200), ("ci", 403), ("rita", 200), ("sam", 200)] {
        let caller = world.caller(name);
        let token = caller.request(Method::GET, "/").body(()).unwrap().headers()["authorization"].clone();
        let request =
            http::Request::builder().uri(url(&jobs)).header("authorization", token).body(whole("")).unwrap();
        sender.ready().await.unwrap();
        answers.push((name, expected, sender.send_request(request)));
    }
    for (name, expected, answer) in answers {
        let answer = crate::world::Answer::of(answer.await.unwrap()).await;
        assert_eq!(answer.status.as_u16(), expected, "{name}: {answer:?}");
    }
    // The authority is what counts, and it must be the gate's.
    let sam = world.caller("sam");
    let token = sam.request(Method::GET, "/").body(()).unwrap().headers()["authorization"].clone();
    let request = http::Request::builder()
        .uri(url(&jobs))
        .header("host", "evil.example")
        .header("authorization", token)
        .body(whole(""))
        .unwrap();
    let answer = crate::world::Answer::of(sender.send_request(request).await.unwrap()).await;
    assert!(answer.status.is_client_error(), "{answer:?}");
}

#[tokio::test]
async fn the_absolute_form_names_the_host() {
    let world = World::new().await;
    let jobs = workspace(&format!("/jobs?{VERSION}"));
    let sam = world.caller("sam");
    let token = sam.request(Method::GET, "/").body(()).unwrap().headers()["authorization"].clone();
    let head = format!(
        "GET https://{host}{jobs} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {}\r\nConnection: close\r\n\r\n",
        token.to_str().unwrap(),
        host = world.host()
    );
    let answer = raw(&world, &head).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let evil = head.replace(&format!("https://{}", world.host()), "https://management.azure.com");
    let answer = raw(&world, &evil).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

/// Of a request with trailers stays its body, and of them what would have crossed as a header:
/// nothing that says who calls, and never as a header.
fn arrived(seen: &Seen, body: &str, trailers: &[(&str, &str)]) {
    assert_eq!(String::from_utf8_lossy(&seen.body), body);
    let came: Vec<_> = seen.trailers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    assert_eq!(came, trailers);
    for name in ["x-checksum", "x-ms-client-principal"] {
        assert!(!seen.headers.contains_key(name), "{name}: {:?}", seen.headers);
    }
    let tokens: Vec<_> = seen.headers.get_all("authorization").iter().collect();
    assert!(tokens.len() == 1 && tokens[0] != "Bearer forged", "{tokens:?}");
}

const SCORED: &str = r#"{"input_data":{"data":[[1,2,3]]}}"#;

#[tokio::test]
async fn announced_trailers_of_a_chunked_request_go_on_but_for_those_that_say_who_calls() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let request = sam.request(Method::POST, "/endpoints/churn/score").body(()).unwrap();
    let mut head = "POST /endpoints/churn/score HTTP/1.1\r\ncontent-type: application/json\r\n".to_owned();
    for (name, value) in request.headers() {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    let (first, rest) = SCORED.split_at(7);
    let whole = format!(
        "{head}Trailer: x-checksum, Authorization\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\
         x-checksum: 1\r\nauthorization: Bearer forged\r\nx-ms-client-principal: root\r\n\r\n",
        first.len(),
        rest.len()
    );
    let again = format!("{head}Content-Length: {}\r\nConnection: close\r\n\r\n{SCORED}", SCORED.len());
    let answers = raw(&world, &format!("{whole}{again}")).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    for seen in world.sandbox.azure.observer().seen_at("/score") {
        assert_eq!(String::from_utf8_lossy(&seen.body), SCORED);
    }
    let seen = world.sandbox.azure.observer().seen_at("/score");
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].headers["trailer"], "x-checksum");
    arrived(&seen[0], SCORED, &[("x-checksum", "1")]);
    arrived(&seen[1], SCORED, &[]);
}

#[tokio::test]
async fn trailers_that_nobody_announced_end_where_http2_does() {
    let world = World::new().await;
    let mut trailers = http::HeaderMap::new();
    for (name, value) in
        [("x-checksum", "1"), ("authorization", "Bearer forged"), ("x-ms-client-principal", "root")]
    {
        trailers.insert(name, value.parse().unwrap());
    }
    let uri = format!("https://{}/endpoints/churn/score", world.host());
    let mut request = world
        .caller("sam")
        .request(Method::POST, &uri)
        .header("content-type", "application/json")
        .body(whole(SCORED).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed())
        .unwrap();
    request.headers_mut().remove("host");
    let answer = world.connect_http2().await.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    arrived(&world.sandbox.azure.observer().seen_at("/score").pop().unwrap(), SCORED, &[]);
}
