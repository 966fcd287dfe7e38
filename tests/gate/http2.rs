//! Upstreams that speak HTTP/2 and take no request, or not so many at once.

use http::StatusCode;

use crate::{
    peer::{Act, Http2, Peer},
    world::{VERSION, World, job, workspace},
};

const AZURE: &str = "management.azure.com";

async fn before(acts: &[Act]) -> (World, Http2) {
    let peer = Peer::new(AZURE, "h2").await;
    let world = peer.as_arm(&[]).await;
    let upstream = Http2::new(acts, 100);
    let kept = upstream.clone();
    peer.serve(move |stream| kept.clone().keep(stream));
    (world, upstream)
}

fn jobs() -> String {
    workspace(&format!("/jobs?{VERSION}"))
}

#[tokio::test]
async fn what_the_upstream_has_not_looked_at_is_sent_once_more() {
    for act in [Act::Refuse, Act::GoAwayBefore] {
        let (world, upstream) = before(&[act, Act::Answer, Act::Answer, act]).await;
        let sam = world.caller("sam");
        assert_eq!(sam.get(&jobs()).await.status, StatusCode::OK, "{act:?}");
        assert_eq!(upstream.requests(), 2);
        assert_eq!(sam.get(&jobs()).await.status, StatusCode::OK, "{act:?}: afterwards");
        // A write too: nothing of it has happened.
        let put = sam.put(&workspace(&format!("/jobs/first?{VERSION}")), &job()).await;
        assert_eq!(put.status, StatusCode::OK, "{act:?}: {put:?}");
        assert_eq!(upstream.requests(), 5, "{act:?}");
        let log = world.stop().await;
        let outcomes: Vec<_> =
            log.requests().into_iter().filter(|r| r["unmapped"]["amlgate"]["ending"].is_string()).collect();
        assert_eq!(outcomes.len(), 3, "one request has one outcome: {outcomes:#?}");
    }
}

#[tokio::test]
async fn what_is_refused_twice_is_a_502_and_not_tried_a_third_time() {
    for acts in [[Act::Refuse, Act::Refuse], [Act::GoAwayBefore, Act::GoAwayBefore]] {
        let (world, upstream) = before(&acts).await;
        let answer = world.caller("sam").get(&jobs()).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{answer:?}");
        assert_eq!(upstream.requests(), 2);
        let log = world.stop().await;
        let last = &log.requests().into_iter().next_back().unwrap()["unmapped"]["amlgate"];
        assert_eq!(last["ending"], "upstream_failed");
        assert_eq!(last["because"], "the upstream said that it had not looked at it");
    }
}

#[tokio::test]
async fn what_the_upstream_may_have_acted_on_is_not_sent_again() {
    for act in [Act::GoAwayAfter, Act::Reset] {
        let (world, upstream) = before(&[act]).await;
        let sam = world.caller("sam");
        let put = sam.put(&workspace(&format!("/jobs/first?{VERSION}")), &job()).await;
        assert_eq!(put.status, StatusCode::BAD_GATEWAY, "{act:?}: {put:?}");
        assert_eq!(upstream.requests(), 1, "{act:?}");
        assert_eq!(sam.get(&jobs()).await.status, StatusCode::OK, "{act:?}: the next goes its way");
    }
}

#[tokio::test]
async fn no_connection_has_more_streams_than_the_upstream_allows() {
    let peer = Peer::new(AZURE, "h2").await;
    let world = peer.as_arm(&[]).await;
    let upstream = Http2::new(&[], 2).together(7);
    let kept = upstream.clone();
    peer.serve(move |stream| kept.clone().keep(stream));
    let sam = world.caller("sam");
    // Nobody is answered before all seven are there: none waits for another's end.
    let (target, mut callers) = (jobs(), Vec::new());
    for _ in 0..7 {
        let mut sender = world.connect().await;
        let request = sam.request(http::Method::GET, &target).body(crate::world::whole("")).unwrap();
        callers.push((tokio::spawn(sender.send_request(request)), sender));
    }
    for (answer, _sender) in callers {
        assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    let most = upstream.most_at_once();
    assert!(most.iter().all(|most| *most <= 2), "{most:?}");
    assert_eq!(upstream.requests(), 7, "none was refused on the way");
}
