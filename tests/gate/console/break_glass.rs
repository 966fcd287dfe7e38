//! Break-glass in the console: opened, seen, closed and reviewed by forms, without a script.

use std::{sync::Arc, time::Duration};

use amlgate::time::{Clock as _, ManualClock, SystemClock};
use http::{Method, StatusCode};

use super::{FORM, SAME, escaped, form, is_page};
use crate::{
    sessions::Browser,
    world::{Changes, VERSION, World, job, workspace},
};

const POLICIES: &str = "version: 1
subjects:
  on-call: [{issuer: sandbox, group: data-science}]
  platform: [{issuer: sandbox, group: platform}]
  security: [{issuer: sandbox, group: model-review}]
allow:
  - {name: people work, who: [on-call, platform], actions: [Microsoft.MachineLearningServices/*]}
  - {name: they call it, who: [on-call, platform, security], actions: [amlgate/break-glass/*]}
deny:
  - {name: jobs are frozen, actions: [Microsoft.MachineLearningServices/workspaces/jobs/write], unless: {break_glass: true}}
";

async fn world(rules: &str) -> (World, ManualClock) {
    let clock = ManualClock::starting_at(SystemClock.now());
    let rules = format!("{rules}policies: policies/");
    let configuration = [("policies: policies/", rules.as_str())];
    let changes = Changes { policies: Some(POLICIES), configuration: &configuration };
    (World::at(changes, Arc::new(clock.clone())).await, clock)
}

async fn browser<'w>(world: &'w World, name: &str) -> Browser<'w> {
    let mut browser = Browser::new(world);
    browser.sign_in(name).await;
    browser
}

async fn submits(world: &World, name: &str) -> StatusCode {
    world.caller("sam").put(&workspace(&format!("/jobs/{name}?{VERSION}")), &job()).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_breaks_the_glass_sees_how_long_it_is_open_and_another_reviews_it() {
    let (world, clock) = world("break_glass: {who: [on-call], max: 30m, review_by: 2h}\n").await;
    let mut sam = browser(&world, "sam").await;
    let page = is_page(&sam.get("/break-glass").await);
    assert!(page.contains("The glass is whole") && page.contains("at most 30"), "{page}");
    let reason = "the <b>region</b> is down";
    let filled = form(&[("reason", reason), ("ticket", "CHG0000001"), ("minutes", "20")]);
    for foreign in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        let lured = sam.submit(Method::POST, "/break-glass", &[foreign, FORM], &filled).await;
        assert_eq!(lured.status, StatusCode::FORBIDDEN, "{foreign:?}");
    }
    for (said, told) in [
        (form(&[("minutes", "20")]), "say why"),
        (form(&[("reason", reason), ("minutes", "soon")]), "whole number"),
        (form(&[("reason", reason), ("minutes", "31")]), "1800 s"),
        (format!("reason=a&{filled}"), "twice"),
    ] {
        let wrong = sam.submit(Method::POST, "/break-glass", &[SAME, FORM], &said).await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{said}: {wrong:?}");
        assert!(is_page(&wrong).contains(told), "{told}: {wrong:?}");
    }
    assert_eq!(submits(&world, "early").await, StatusCode::FORBIDDEN);
    let kept = form(&[("reason", reason), ("minutes", "31")]);
    let page = is_page(&sam.submit(Method::POST, "/break-glass", &[SAME, FORM], &kept).await);
    assert!(
        page.contains(&escaped(reason)) && page.contains("value=\"31\""),
        "nothing is typed twice: {page}"
    );

    let opened = sam.submit(Method::POST, "/break-glass", &[SAME, FORM], &filled).await;
    assert_eq!(opened.status, StatusCode::SEE_OTHER, "{opened:?}");
    let at = opened.header("location").to_owned();
    assert!(submits(&world, "urgent").await.is_success());
    clock.advance(Duration::from_secs(300));
    let page = is_page(&sam.get(&at).await);
    for told in [">open<", "15 min more", "CHG0000001", &escaped(reason), "/close\""] {
        assert!(page.contains(told), "{told} in {page}");
    }
    assert!(!page.contains("/review\"") && !page.contains("/confirm\""), "{page}");

    let mut pat = browser(&world, "pat").await;
    let page = is_page(&pat.get("/break-glass").await);
    assert!(page.contains(&at) && page.contains("15 min more") && !page.contains("Break it"), "{page}");
    let close = format!("{at}/close");
    assert_eq!(pat.get(&close).await.status, StatusCode::METHOD_NOT_ALLOWED, "no link closes");
    let lured = pat.submit(Method::POST, &close, &[("sec-fetch-site", "cross-site"), FORM], "").await;
    assert_eq!(lured.status, StatusCode::FORBIDDEN, "{lured:?}");
    let closed = pat.submit(Method::POST, &close, &[SAME, FORM], "").await;
    assert_eq!((closed.status, closed.header("location")), (StatusCode::SEE_OTHER, &*at), "{closed:?}");
    assert_eq!(submits(&world, "late").await, StatusCode::FORBIDDEN);

    let page = is_page(&sam.get("/break-glass").await);
    assert!(
        page.contains(">over<") && page.contains("Another human") && !page.contains("/review\""),
        "{page}"
    );
    let review = format!("{at}/review");
    let note = form(&[("note", "one job, as it said")]);
    let own = sam.submit(Method::POST, &review, &[SAME, FORM], &note).await;
    assert_eq!(own.status, StatusCode::FORBIDDEN, "{own:?}");
    is_page(&own);
    let wordless = pat.submit(Method::POST, &review, &[SAME, FORM], "").await;
    assert_eq!(wordless.status, StatusCode::BAD_REQUEST, "{wordless:?}");
    let reviewed = pat.submit(Method::POST, &review, &[SAME, FORM], &note).await;
    assert_eq!(reviewed.status, StatusCode::SEE_OTHER, "{reviewed:?}");
    let page = is_page(&sam.get("/break-glass").await);
    for told in ["The glass is whole", "one job, as it said", ">reviewed<", "Break it"] {
        assert!(page.contains(told), "{told} in {page}");
    }
    let log = world.stop().await;
    for (event, count) in [("break_glass_opened", 1), ("break_glass_closed", 1), ("break_glass_reviewed", 1)]
    {
        assert_eq!(log.events(event).len(), count, "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_confirms_and_who_may_not_is_told_so_on_a_page() {
    let (world, _) = world("break_glass: {who: [on-call], by: [{subject: security}]}\n").await;
    let mut sam = browser(&world, "sam").await;
    let asked = form(&[("reason", "the region is down")]);
    let asked = sam.submit(Method::POST, "/break-glass", &[SAME, FORM], &asked).await;
    assert_eq!(asked.status, StatusCode::SEE_OTHER, "{asked:?}");
    let at = asked.header("location").to_owned();
    let page = is_page(&sam.get(&at).await);
    assert!(
        page.contains(">asked<") && page.contains("1 of security") && !page.contains("/confirm\""),
        "{page}"
    );
    let mut pat = browser(&world, "pat").await;
    let refused = pat.submit(Method::POST, &format!("{at}/confirm"), &[SAME, FORM], "").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    is_page(&refused);
    let mut rita = browser(&world, "rita").await;
    let page = is_page(&rita.get("/break-glass").await);
    assert!(page.contains(&format!("{at}/confirm\"")), "{page}");
    let note = form(&[("note", "I see it, too")]);
    let said = rita.submit(Method::POST, &format!("{at}/confirm"), &[SAME, FORM], &note).await;
    assert_eq!(said.status, StatusCode::SEE_OTHER, "{said:?}");
    let page = is_page(&rita.get(&at).await);
    assert!(page.contains(">open<") && page.contains("I see it, too"), "{page}");
    for path in ["/break-glass/%27", "/break-glass/01938000-0000-7000-8000-000000000000"] {
        let none = rita.get(path).await;
        assert_eq!(none.status, StatusCode::NOT_FOUND, "{path}: {none:?}");
        is_page(&none);
    }
    let odd = rita.submit(Method::POST, &format!("{at}/open"), &[SAME, FORM], "").await;
    assert_eq!(odd.status, StatusCode::NOT_FOUND, "{odd:?}");
    let mut alex = browser(&world, "alex").await;
    let hidden = alex.get("/break-glass").await;
    assert_eq!(hidden.status, StatusCode::FORBIDDEN, "{hidden:?}");
    assert!(!is_page(&hidden).contains("region"), "{hidden:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_configuration_says_nothing_of_it_the_page_says_so() {
    let (world, _) = world("").await;
    let mut sam = browser(&world, "sam").await;
    let page = is_page(&sam.get("/break-glass").await);
    assert!(page.contains("has no <code>break_glass</code>") && !page.contains("<textarea"), "{page}");
}
