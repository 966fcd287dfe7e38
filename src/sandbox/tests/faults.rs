//! Faults strike as told.

use super::*;

#[tokio::test]
async fn faults_strike_once_and_as_told() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let observer = w.azure.observer();
    let request = |method: Method, body: Value| {
        Request::builder()
            .method(method)
            .uri(below("/jobs/faulty"))
            .header("host", ARM)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap()
    };
    observer.trap("/jobs/", None, Fault::throttle(7));
    let got = w.client.try_send(ARM, request(Method::PUT, command())).await.unwrap();
    assert_eq!((got.status.as_u16(), got.headers["retry-after"].as_bytes()), (429, &b"7"[..]));
    let id = format!("{}/jobs/faulty", names::workspace_id(names::WORKSPACE));
    observer.trap("/jobs/", None, Fault::Reset);
    assert!(w.client.try_send(ARM, request(Method::PUT, command())).await.is_err());
    assert!(w.azure.resource(&id).is_none());
    observer.trap("/jobs/", None, Fault::ResetAfterEffect);
    assert!(w.client.try_send(ARM, request(Method::PUT, command())).await.is_err());
    assert!(w.azure.resource(&id).is_some());
    observer.trap("/jobs/", Some(Method::GET), Fault::Truncate);
    assert!(w.client.try_send(ARM, request(Method::GET, json!({}))).await.is_err());
    observer.trap("/jobs/", None, Fault::Hang);
    let hung = tokio::time::timeout(
        Duration::from_millis(50),
        w.client.try_send(ARM, request(Method::GET, json!({}))),
    )
    .await;
    assert!(hung.is_err());
    assert_eq!(w.client.try_send(ARM, request(Method::GET, json!({}))).await.unwrap().status, StatusCode::OK);
    let seen = observer.seen_at("/jobs/faulty");
    assert_eq!(seen.len(), 6);
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {token}"));
}
