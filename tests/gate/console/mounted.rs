//! The console and the API as a path of the reverse listener.

use http::{Method, Request, StatusCode, header};
use serde_json::json;

use super::{
    FORM, PAGES, SAME, form, is_page,
    requests::{POLICIES, amlgate, data, submits},
};
use crate::{
    api::{call, token},
    forward::jobs,
    sessions::Browser,
    world::{Answer, Changes, World, whole},
};

const MOUNTED: [(&str, &str); 1] =
    [("sign_in: {issuer: sandbox}", "sign_in: {issuer: sandbox}, on_reverse: true")];

async fn world(policies: Option<&str>) -> World {
    World::changed(Changes { configuration: &MOUNTED, policies }).await
}

/// Where a page leads, and what it is made of.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let each = ["href=\"", "action=\"", "url="].into_iter().flat_map(move |mark| page.split(mark).skip(1));
    each.map(|rest| rest.split('"').next().unwrap())
}

/// Goes to a page, through the sign-in.
async fn signs_in(browser: &mut Browser<'_>, page: &str, name: &str) {
    let sent = browser.get(page).await;
    let at_issuer = browser.get(sent.header("location")).await;
    let back = browser.pick(at_issuer.header("location"), name).await;
    assert!(back.starts_with("/.amlgate/callback?"), "{back}");
    assert_eq!(browser.get(&back).await.header("location"), page);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_below_the_path_that_is_the_gates_own_and_leads_nowhere_else() {
    let world = world(None).await;
    let mut pat = Browser::at_reverse(&world);
    for first in ["/.amlgate", "/.amlgate/"] {
        assert_eq!(pat.get(first).await.header("location"), "/.amlgate/access");
    }
    let sent = pat.get("/.amlgate/access").await;
    assert_eq!(sent.header("location"), "/.amlgate/sign-in?return_to=%2F.amlgate%2Faccess");
    for elsewhere in ["/", "/subscriptions/1", "/access", "/.amlgatex", "//evil.example"] {
        let answer = pat.get(&format!("/.amlgate/sign-in?return_to={elsewhere}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{elsewhere}: {answer:?}");
    }
    signs_in(&mut pat, "/.amlgate/audit?code=UnknownOperation", "pat").await;
    for page in PAGES {
        let shown = pat.get(&format!("/.amlgate{page}")).await;
        assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
        let page = is_page(&shown);
        let here = |link: &str| link.starts_with("/.amlgate/") || link.starts_with(['#', '?']);
        assert!(links(&page).all(here) && links(&page).count() > 8, "{page}");
    }
    let style = pat.get("/.amlgate/console.css").await;
    assert_eq!((style.status, style.header("content-type")), (StatusCode::OK, "text/css; charset=utf-8"));
    let out = pat.submit(Method::POST, "/.amlgate/sign-out", &[SAME], "").await;
    let signed_out = form(&[("", &format!("https://{}/.amlgate/signed-out", world.host()))]);
    assert!(out.header("location").contains(&signed_out), "{out:?}");
    assert_eq!(pat.get("/.amlgate/audit").await.status, StatusCode::SEE_OTHER);
    assert_eq!(pat.get("/.amlgate/signed-out").await.status, StatusCode::OK);
    // At the listener of their own browsers are sent there.
    let mut pat = Browser::new(&world);
    let sent = pat.get("/access").await;
    let there = pat.get(sent.header("location")).await;
    let expected = format!("https://{}/.amlgate/sign-in?return_to=%2F.amlgate%2Faccess", world.host());
    assert_eq!(there.header("location"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_is_led_there_and_another_says_yes_there() {
    let world = world(Some(POLICIES)).await;
    let there = format!("https://{}/.amlgate", world.host());
    let sam = world.caller("sam");
    let job = crate::world::workspace(&format!("/jobs/there?{}", crate::world::VERSION));
    let refusal = sam.put(&job, &crate::world::job()).await;
    let decision = refusal.header("x-amlgate-decision").to_owned();
    let message = refusal.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&format!("{there}/requests/new?decision={decision}")), "{message}");
    assert_eq!(world.nobody().get("/.well-known/amlgate").await.json()["api"], json!(there));
    let asked = json!({"decision": decision, "reason": "to retrain"});
    let nobody = world.nobody().post("/.amlgate/api/v1/requests", &asked).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED, "{nobody:?}");
    let made = sam.post("/.amlgate/api/v1/requests", &asked).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let id = made.json()["requests"][0]["id"].as_str().unwrap().to_owned();
    // Commands find it by what the gate says of itself.
    let listed = data(&amlgate(&world, &["request", "list", "-o", "json"], "sam"));
    assert_eq!(listed[0]["id"], json!(id));
    let mut pat = Browser::at_reverse(&world);
    let page = format!("/.amlgate/requests/{id}");
    signs_in(&mut pat, &page, "pat").await;
    assert!(is_page(&pat.get(&page).await).contains(&format!("\"{page}/approve\"")));
    let approve = format!("{page}/approve");
    for foreign in [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "null")] {
        let lured = pat.submit(Method::POST, &approve, &[foreign, FORM], "").await;
        assert_eq!(lured.status, StatusCode::FORBIDDEN, "{foreign:?}");
    }
    assert_eq!(pat.get(&approve).await.status, StatusCode::METHOD_NOT_ALLOWED, "no link approves");
    let origin = format!("https://{}", world.host());
    let said = pat.submit(Method::POST, &approve, &[("origin", &origin), FORM], "note=fine").await;
    assert_eq!((said.status, said.header("location")), (StatusCode::SEE_OTHER, &*page), "{said:?}");
    let own = call(&world, Method::GET, &format!("/api/v1/requests/{id}"), &token(&world, "sam"), None).await;
    assert_eq!(own.json()["state"], json!("approved"), "at the other listener it is the same");
    assert!(submits(&world, "there").await.0.is_success());
    let log = world.stop().await;
    let approved = log.events("approved");
    assert_eq!((approved.len(), log.events("grant_used").len()), (1, 1));
}

/// What the reverse listener answers to a path, under some name of the gate.
async fn answer(world: &World, host: &str, path: &str) -> Answer {
    let request = Request::get(path).header(header::HOST, host).body(whole("")).unwrap();
    Answer::of(world.connect().await.send_request(request).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_leads_there_and_without_it_nothing_does() {
    for on in [true, false] {
        let world = if on { world(None).await } else { World::new().await };
        let host = world.host();
        let known = answer(&world, &host, "/.amlgate/api/v1/whoami").await;
        let status = if on { StatusCode::UNAUTHORIZED } else { StatusCode::NOT_FOUND };
        assert_eq!(known.status, status, "{known:?}");
        for path in [
            "/.AMLGATE/api/v1/whoami",
            "/%2eamlgate/api/v1/whoami",
            "/.amlgate%2Fapi/v1/whoami",
            "/.amlgate;/api/v1/whoami",
            "//.amlgate/api/v1/whoami",
            "/subscriptions/../.amlgate/api/v1/whoami",
            "/.amlgatex/api/v1/whoami",
            // What is not for whoever reaches the reverse listener.
            "/.amlgate/metrics",
            "/.amlgate/healthz",
            "/.amlgate/witness",
            "/.amlgate/.amlgate/api/v1/whoami",
            // Only the reserved path is the console's.
            "/access",
            "/sign-in",
            "/api/v1/whoami",
        ] {
            let answer = answer(&world, &host, path).await;
            let unread = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST];
            assert!(unread.contains(&answer.status), "{path}: {answer:?}");
        }
        let data_plane = world.data_plane();
        for other in [data_plane.to_str().unwrap(), "evil.example"] {
            let answer = answer(&world, other, "/.amlgate/api/v1/whoami").await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{other}: {answer:?}");
        }
        // A page that lies in Azure is in no browser what acts as whoever opens it.
        let azures = world.caller("sam").get(&jobs()).await;
        assert_eq!(azures.status, StatusCode::OK, "{azures:?}");
        assert_eq!(azures.header("content-security-policy"), if on { "sandbox" } else { "" });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_http2_it_is_the_same() {
    let world = world(None).await;
    let mut connection = world.connect_http2().await;
    let uri = format!("https://{}/.amlgate/api/v1", world.host());
    let bearer = format!("Bearer {}", token(&world, "sam"));
    let request = Request::get(format!("{uri}/whoami")).header(header::AUTHORIZATION, &bearer);
    let answer = Answer::of(connection.send_request(request.body(whole("")).unwrap()).await.unwrap()).await;
    assert_eq!(answer.json()["principal"], json!("sandbox:user-sam"), "{answer:?}");
    assert!(!answer.header("x-amlgate-decision").is_empty(), "{answer:?}");
    for (name, value, status) in [
        ("origin", "https://evil.example".to_owned(), StatusCode::FORBIDDEN),
        ("origin", format!("https://{}", world.host()), StatusCode::OK),
    ] {
        let action = "Microsoft.MachineLearningServices/workspaces/read";
        let asked = json!({"action": action, "scope": crate::world::workspace("")});
        let request = Request::post(format!("{uri}/can-i"))
            .header(header::AUTHORIZATION, &bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .header(name, &value);
        let request = request.body(whole(asked.to_string())).unwrap();
        let answer = Answer::of(connection.send_request(request).await.unwrap()).await;
        assert_eq!(answer.status, status, "{value}: {answer:?}");
    }
}
