//! Connections to Azure: which version of HTTP, shared or not, and what becomes of broken ones.

use amlgate::sandbox::Fault;
use http::{Method, StatusCode, Version};
use http_body_util::BodyExt as _;

use crate::world::{VERSION, World, job, whole, workspace};

fn jobs() -> String {
    workspace(&format!("/jobs?{VERSION}"))
}

#[tokio::test]
async fn reads_and_judged_bodies_go_by_http2_and_bulk_bodies_and_upgrades_by_http1() {
    let world = World::new().await;
    let sam = world.caller("sam");
    assert_eq!(sam.get(&jobs()).await.status, StatusCode::OK);
    let put = sam.put(&workspace(&format!("/jobs/first?{VERSION}")), &job()).await;
    assert_eq!(put.status, StatusCode::CREATED, "{put:?}");
    let score = sam
        .request(Method::POST, "/endpoints/churn/score")
        .header("content-type", "application/json")
        .body(whole(r#"{"input_data":{"data":[[1,2,3]]}}"#))
        .unwrap();
    assert_eq!(sam.send(score).await.status, StatusCode::OK);
    let by = |part: &str| world.sandbox.azure.observer().seen_at(part).last().unwrap().version;
    assert_eq!(by("/jobs?"), Version::HTTP_2);
    assert_eq!(by("/jobs/first"), Version::HTTP_2);
    assert_eq!(by("/score"), Version::HTTP_11);
    let seen = world.sandbox.azure.observer().seen_at("/jobs/first").remove(0);
    assert_eq!(seen.host, "management.azure.com");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&seen.body).unwrap(), job());
}

#[tokio::test]
async fn a_connection_that_broke_serves_nobody_else() {
    let world = World::new().await;
    let sam = world.caller("sam");
    assert_eq!(sam.get(&jobs()).await.status, StatusCode::OK);
    for _ in 0..3 {
        world.sandbox.azure.observer().trap("/jobs", None, Fault::Reset);
        let broken = sam.get(&jobs()).await;
        assert_eq!(broken.status, StatusCode::BAD_GATEWAY, "{broken:?}");
        let next = sam.get(&jobs()).await;
        assert_eq!(next.status, StatusCode::OK, "{next:?}");
    }
}

#[tokio::test]
async fn many_callers_at_once_each_get_their_own_answer() {
    let world = World::new().await;
    let sam = world.caller("sam");
    // One first, so that there is a connection to share.
    assert_eq!(sam.get(&jobs()).await.status, StatusCode::OK);
    let mut connections = Vec::new();
    for n in 0..40 {
        let mut sender = world.connect().await;
        let name = format!("churn-train-{}", n % 4 + 1);
        let target = workspace(&format!("/jobs/{name}?{VERSION}"));
        let answer = sender.send_request(sam.request(Method::GET, &target).body(whole("")).unwrap());
        connections.push((name, tokio::spawn(answer), sender));
    }
    for (name, answer, _sender) in connections {
        let response = answer.await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{name}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let job: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(job["name"], *name);
    }
}
