//! The console: pages that a browser shows, over the whole gate.

mod break_glass;
mod mounted;
mod requests;

use http::{Method, StatusCode, header};
use serde_json::json;

use crate::{
    api::{ask, call, request, token},
    forward::jobs,
    sessions::Browser,
    world::{Answer, Changes, VERSION, World, whole, workspace},
};

const PAGES: [&str; 9] = [
    "/access",
    "/requests",
    "/grants",
    "/break-glass",
    "/decisions",
    "/audit",
    "/lineage",
    "/routes",
    "/policies",
];
const SAME: (&str, &str) = ("sec-fetch-site", "same-origin");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A page as every page is: whole, without a script, and for this site alone.
fn is_page(answer: &Answer) -> String {
    let text = answer.text();
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{answer:?}");
    assert!(text.starts_with("<!doctype html>") && text.trim_end().ends_with("</html>"), "{text}");
    assert!(!text.contains("<script") && !text.contains("style=") && !text.contains("onclick="), "{text}");
    let policy = answer.header("content-security-policy");
    for demanded in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"]
    {
        assert!(policy.contains(demanded), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    text
}

#[tokio::test]
async fn who_comes_without_a_session_signs_in_and_comes_back_to_the_page() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    assert_eq!(browser.get("/").await.header("location"), "/access");
    for page in PAGES {
        let sent = browser.get(page).await;
        assert_eq!(sent.status, StatusCode::SEE_OTHER, "{sent:?}");
        assert_eq!(sent.header("location"), format!("/sign-in?return_to={}", page.replace('/', "%2F")));
    }
    let sent = browser.get("/audit?code=UnknownOperation").await;
    let at_issuer = browser.get(sent.header("location")).await;
    let back = browser.pick(at_issuer.header("location"), "pat").await;
    let landed = browser.get(&back).await;
    assert_eq!(landed.header("location"), "/audit?code=UnknownOperation", "{landed:?}");
    let page = is_page(&browser.get("/audit?code=UnknownOperation").await);
    assert!(page.contains("value=\"UnknownOperation\""), "{page}");
    // Signing out is a form, and leads where the issuer ends its own session.
    assert!(page.contains("<form method=\"post\" action=\"/sign-out\">"), "{page}");
    let policy = browser.get("/audit").await.header("content-security-policy").to_owned();
    let issuer: http::Uri = world.sandbox.issuer.url().parse().unwrap();
    assert!(
        policy.contains(&format!("form-action 'self' https://{}", issuer.authority().unwrap())),
        "{policy}"
    );
    let out = browser.submit(Method::POST, "/sign-out", &[SAME], "").await;
    assert_eq!(out.status, StatusCode::SEE_OTHER);
    assert_eq!(browser.get("/audit").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn without_a_sign_in_there_is_a_page_that_says_what_is_missing() {
    let configuration = [(", sign_in: {issuer: sandbox}", "")];
    let world = World::changed(Changes { configuration: &configuration, policies: None }).await;
    let answer = Browser::new(&world).get("/access").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(is_page(&answer).contains("listen.admin.sign_in"), "{answer:?}");
}

#[tokio::test]
async fn a_person_reads_what_they_may_do_and_why_not_in_the_words_of_the_gate() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in("sam").await;
    let page = is_page(&browser.get("/access").await);
    assert!(page.contains("Microsoft.MachineLearningServices/workspaces/jobs/write"), "{page}");
    assert!(!page.contains("amlgate/revocations/write"), "{page}");
    let scope = workspace("");
    let delete = "Microsoft.MachineLearningServices/workspaces/delete";
    let asked = browser.get(&format!("/access?{}", form(&[("action", delete), ("scope", &scope)]))).await;
    let page = is_page(&asked);
    let question = json!({"action": delete, "scope": scope});
    let said =
        call(&world, Method::POST, "/api/v1/can-i", &token(&world, "sam"), Some(question)).await.json();
    assert_eq!(said["decision"], "deny");
    for words in ["code", "cause", "cure"] {
        let words = said[words].as_str().unwrap();
        assert!(page.contains(&escaped(words)), "{words} in {page}");
    }
    let write = "Microsoft.MachineLearningServices/workspaces/jobs/write";
    let page =
        is_page(&browser.get(&format!("/access?{}", form(&[("action", write), ("scope", &scope)]))).await);
    assert!(page.contains(">Yes</p>"), "{page}");
    let wrong = is_page(&browser.get("/access?action=x&scope=nowhere").await);
    assert!(wrong.contains("is no resource"), "{wrong}");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&#38;")
        .replace('<', "&#60;")
        .replace('>', "&#62;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_decisions_finds_them_in_the_record_and_takes_a_proof_along() {
    let world = World::new().await;
    assert_eq!(world.caller("sam").get(&jobs()).await.status, StatusCode::OK);
    let denied = world.caller("sam").delete(&workspace(&format!("?{VERSION}"))).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    let decision = denied.header("x-amlgate-decision").to_owned();
    let mut browser = Browser::new(&world);
    browser.sign_in("pat").await;
    let page = is_page(&browser.get("/decisions").await);
    assert!(page.contains(&format!("/decisions/{decision}")), "{page}");
    assert!(page.contains("sandbox:user-sam") && page.contains("AuthorizationFailed"), "{page}");
    assert!(page.contains("1 denied") && page.contains("<rect class=\"denied\""), "{page}");
    assert!(!page.contains("http-equiv"), "it stands until somebody wants to follow: {page}");
    // Following ends by itself, so that a forgotten page keeps nobody signed in.
    let following = is_page(&browser.get("/decisions?live=2").await);
    assert!(
        following.contains("<meta http-equiv=\"refresh\" content=\"5;url=/decisions?live=1\">"),
        "{following}"
    );
    assert!(!is_page(&browser.get("/decisions?live=0").await).contains("http-equiv"));
    assert!(!is_page(&browser.get("/decisions?live=x").await).contains("http-equiv"));
    assert!(is_page(&browser.get("/decisions?live=99999").await).contains("live=59"));

    let found = is_page(&browser.get("/audit?caller=user-sam&phase=denial&action=&text=").await);
    assert!(found.contains(&decision) && found.contains("1 records"), "{found}");
    assert!(found.contains("<option selected>denial</option>"), "{found}");
    let one = is_page(&browser.get(&format!("/decisions/{decision}")).await);
    assert!(one.contains("no entry allows you") && one.contains("In the log"), "{one}");
    let wrong = browser.get("/audit?since=yesterday").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(is_page(&wrong).contains("is a time"), "{wrong:?}");
    for unknown in ["/decisions/00000000-0000-0000-0000-000000000000", "/decisions/x"] {
        let answer = browser.get(unknown).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{unknown}");
        is_page(&answer);
    }

    // A proof that needs neither the gate nor its log.
    let path = format!("/api/v1/audit/{decision}/proof");
    let key = std::fs::read_to_string(world.directory().join("var/audit/audit.pub")).unwrap();
    let keys = amlgate::audit::note::VerifierKeys::parse(&key).unwrap();
    world.server.journal().sign_head();
    // The tree's tiles follow the head.
    let proof = loop {
        let answer = browser.get(&path).await;
        if answer.status == StatusCode::OK {
            break answer;
        }
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    };
    assert_eq!(proof.header("content-type"), "text/plain; charset=utf-8");
    let proofs = amlgate::audit::proved::Inclusion::parse_all(&proof.text()).unwrap();
    assert_eq!(proofs.len(), 1);
    proofs[0].verify(&keys).unwrap();
    assert!(String::from_utf8_lossy(&proofs[0].leaf).contains(&decision));

    // That somebody looked is in the record, too.
    let log = world.stop().await;
    let reads: Vec<_> = log.events("record_read").iter().map(|own| own["query"].clone()).collect();
    assert!(reads.iter().any(|query| *query == "console live"), "{reads:?}");
    assert!(reads.iter().any(|query| *query == format!("proof decision={decision}")), "{reads:?}");
}

#[tokio::test]
async fn who_may_not_see_a_page_is_told_so_and_sees_nothing_of_it() {
    let world = World::new().await;
    assert_eq!(world.caller("rita").get(&jobs()).await.status, StatusCode::OK);
    let mut browser = Browser::new(&world);
    browser.sign_in("sam").await;
    for page in ["/decisions", "/audit", "/routes", "/policies"] {
        let answer = browser.get(page).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{page}");
        assert!(!answer.header("x-amlgate-decision").is_empty(), "{answer:?}");
        let text = is_page(&answer);
        assert!(text.contains("You may not see this") && !text.contains("user-rita"), "{text}");
    }
    for path in ["/api/v1/routes", "/api/v1/policies"] {
        let answer = call(&world, Method::GET, path, &token(&world, "sam"), None).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn routes_are_shown_with_what_lately_came_of_them_and_what_the_gate_needs() {
    let world = World::new().await;
    assert_eq!(world.caller("sam").get(&jobs()).await.status, StatusCode::OK);
    let mut browser = Browser::new(&world);
    browser.sign_in("pat").await;
    let page = is_page(&browser.get("/routes").await);
    let listed = call(&world, Method::GET, "/api/v1/routes", &token(&world, "pat"), None).await.json();
    let names = |list: &str| -> Vec<String> {
        listed[list].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(names("routes").contains(&"arm".to_owned()), "{listed}");
    assert!(names("dependencies").contains(&"journal".to_owned()), "{listed}");
    for name in names("routes").iter().chain(&names("dependencies")) {
        assert!(page.contains(name.as_str()), "{name} in {page}");
    }
    let arm = listed["routes"].as_array().unwrap().iter().find(|route| route["name"] == "arm").unwrap();
    assert_eq!((&arm["protocol"], &arm["upstream"]), (&json!("arm"), &json!("https://management.azure.com")));
    assert!(page.contains("<span class=\"tag allowed\">1</span>"), "{page}");
}

#[tokio::test]
async fn policies_are_shown_line_by_line_and_say_what_they_would_make_of_a_request() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in("pat").await;
    let page = is_page(&browser.get("/policies").await);
    let pat = token(&world, "pat");
    let listed = call(&world, Method::GET, "/api/v1/policies", &pat, None).await.json();
    for entry in listed["entries"].as_array().unwrap() {
        let entry = &entry["entry"];
        let place = format!("{}:{}", entry["file"].as_str().unwrap(), entry["line"]);
        assert!(page.contains(&place) && page.contains(&escaped(entry["name"].as_str().unwrap())), "{entry}");
    }
    let url = format!("https://management.azure.com{}", workspace(&format!("?{VERSION}")));
    let sam = json!({"issuer": "sandbox", "subject": "user-sam", "groups": ["data-science"]});
    let described = sam.to_string();
    let asked = [("method", "DELETE"), ("url", &*url), ("caller", &*described)];
    let answer = browser.submit(Method::POST, "/policies", &[SAME, FORM], &form(&asked)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let page = is_page(&answer);
    let why = json!({"as": sam, "method": "DELETE", "url": url});
    let said = call(&world, Method::POST, "/api/v1/policies/why", &pat, Some(why)).await;
    assert_eq!(said.status, StatusCode::OK, "{said:?}");
    let said = said.json();
    assert_eq!(said["decision"], "deny");
    assert!(
        page.contains("It would be denied") && page.contains(&escaped(said["cause"].as_str().unwrap())),
        "{page}"
    );
    let flip = said["flips"][0][0].as_str().unwrap();
    assert!(page.contains(&escaped(flip)), "{flip} in {page}");
    // Of whoever asks, where nobody else is named.
    let own = [("method", "GET"), ("url", &*url)];
    let page = is_page(&browser.submit(Method::POST, "/policies", &[SAME, FORM], &form(&own)).await);
    assert!(page.contains("It would be allowed"), "{page}");
    for (field, value, told) in [
        ("url", "https://nowhere.example/x", "no route has the host"),
        ("url", "ftp://x", "begins with"),
        ("caller", "{", "no JSON that describes one"),
        ("resource", "\"><script>alert(1)</script>", "is no resource"),
    ] {
        let mut asked = vec![("method", "GET"), ("url", &*url)];
        asked.retain(|(name, _)| *name != field);
        asked.push((field, value));
        let answer = browser.submit(Method::POST, "/policies", &[SAME, FORM], &form(&asked)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{field}");
        assert!(is_page(&answer).contains(told), "{told}: {answer:?}");
    }
    for foreign in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        let answer = browser.submit(Method::POST, "/policies", &[foreign, FORM], &form(&own)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{foreign:?}");
    }
}

#[tokio::test]
async fn the_style_is_the_only_thing_besides_and_needs_no_session() {
    let world = World::new().await;
    let style = ask(&world, request(&world, Method::GET, "/console.css").body(whole("")).unwrap()).await;
    assert_eq!(style.status, StatusCode::OK);
    assert_eq!(style.header(header::CONTENT_TYPE.as_str()), "text/css; charset=utf-8");
    let text = style.text();
    assert!(text.contains("prefers-color-scheme: dark") && !text.contains("url("), "{text}");
    // Nobody's mistake becomes a page of somebody else: a bearer is judged like a session.
    let bearer = format!("Bearer {}", token(&world, "sam"));
    let builder = request(&world, Method::GET, "/routes").header(header::AUTHORIZATION, &bearer);
    let answer = ask(&world, builder.body(whole("")).unwrap()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
}
