//! What becomes of one request: named, judged, swapped, forwarded, recorded.

use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::world::{Changes, Log, VERSION, World, job, whole, workspace};

fn jobs() -> String {
    workspace(&format!("/jobs?{VERSION}"))
}

/// What one record says, in the words of the product.
fn said(record: &Value) -> (&str, &str, &str, &str) {
    let amlgate = &record["unmapped"]["amlgate"];
    let text =
        |value: &'_ Value| -> &'static str { Box::leak(value.as_str().unwrap_or("").to_owned().into()) };
    (
        text(&record["actor"]["user"]["uid"]),
        text(&record["api"]["operation"]),
        text(&amlgate["phase"]),
        text(&record["status_code"]),
    )
}

fn verified(log: &Log) {
    let verified = std::process::Command::new(env!("CARGO_BIN_EXE_amlgate"))
        .args(["audit", "verify"])
        .arg(log.dir.path().join("var/audit"))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

#[tokio::test]
async fn a_scientist_lists_jobs_and_the_record_says_so() {
    let world = World::new().await;
    let answer = world.caller("sam").get(&jobs()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json()["value"].as_array().unwrap().len(), 3);
    let decision = answer.header("x-amlgate-decision").to_owned();
    let log = world.stop().await;
    let [record] = log.requests()[..] else { panic!("one record: {:#?}", log.records) };
    let read = "Microsoft.MachineLearningServices/workspaces/jobs/read";
    assert_eq!(said(record), ("sandbox:user-sam", read, "outcome", "completed"));
    assert_eq!(record["metadata"]["uid"], *decision);
    assert_eq!(record["http_response"]["code"], 200);
    verified(&log);
}

#[tokio::test]
async fn what_reaches_azure_is_the_gates_token_and_nothing_of_the_callers_identity() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let request = sam
        .request(Method::GET, &jobs())
        .header("cookie", "session=canary-cookie")
        .header("proxy-authorization", "Basic canary-proxy")
        .header("x-ms-authorization-auxiliary", "Bearer canary-auxiliary")
        .header("x-forwarded-for", "203.0.113.9")
        .header("forwarded", "for=203.0.113.9")
        .header("x-forwarded-host", "evil.example")
        .header("x-original-url", "/evil")
        .header("x-http-method-override", "DELETE")
        .header("connection", "x-hop")
        .header("x-hop", "canary-hop")
        .header("x-ms-client-request-id", "kept");
    let answer = sam.send(request.body(whole("")).unwrap()).await;
    // A method that is not the one that was judged may not be smuggled.
    if answer.status == StatusCode::OK {
        let [seen] = &world.sandbox.azure.observer().seen_at("/jobs")[..] else { panic!("one request") };
        assert!(!seen.headers.contains_key("x-http-method-override"));
    } else {
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    }
    let request = sam
        .request(Method::GET, &jobs())
        .header("cookie", "session=canary-cookie")
        .header("proxy-authorization", "Basic canary-proxy")
        .header("x-ms-authorization-auxiliary", "Bearer canary-auxiliary")
        .header("x-forwarded-for", "203.0.113.9")
        .header("forwarded", "for=203.0.113.9")
        .header("x-forwarded-host", "evil.example")
        .header("x-original-url", "/evil")
        .header("connection", "x-hop")
        .header("x-hop", "canary-hop")
        .header("x-ms-client-request-id", "kept");
    let before = world.sandbox.azure.observer().seen_at("/jobs").len();
    let answer = sam.send(request.body(whole("")).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let seen = world.sandbox.azure.observer().seen_at("/jobs").remove(before);
    let sent = format!("{:?}", seen.headers);
    assert!(!sent.contains("canary") && !sent.contains("203.0.113.9") && !sent.contains("evil"), "{sent}");
    assert_eq!(seen.host, "management.azure.com");
    assert_eq!(seen.headers["x-ms-client-request-id"], "kept");
    let own = sam.request(Method::GET, "/").body(()).unwrap().headers()[header::AUTHORIZATION].clone();
    assert_ne!(seen.headers[header::AUTHORIZATION], own);
}

#[tokio::test]
async fn a_write_is_recorded_before_and_after() {
    let world = World::new().await;
    let answer = world.caller("sam").put(&workspace(&format!("/jobs/first?{VERSION}")), &job()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    assert!(world.sandbox.azure.resource(&workspace("/jobs/first")).is_some());
    let log = world.stop().await;
    let write = "Microsoft.MachineLearningServices/workspaces/jobs/write";
    let phases: Vec<_> = log.requests().into_iter().map(said).collect();
    assert_eq!(
        phases,
        [("sandbox:user-sam", write, "intent", ""), ("sandbox:user-sam", write, "outcome", "completed")]
    );
    let [intent, outcome] = log.requests()[..] else { panic!("two") };
    assert_eq!(intent["metadata"]["uid"], outcome["metadata"]["uid"]);
    assert_eq!(intent["unmapped"]["amlgate"]["allocates"]["nodes"], 1);
    verified(&log);
}

#[tokio::test]
async fn what_nobody_allows_is_refused_with_its_reason_and_never_sent() {
    let world = World::new().await;
    let answer = world.caller("sam").delete(&workspace(&format!("?{VERSION}"))).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "AuthorizationFailed");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`Microsoft.MachineLearningServices/workspaces/delete`"), "{message}");
    assert_eq!(world.sandbox.azure.observer().seen_at("management.azure.com").len(), 0);
    let log = world.stop().await;
    let [record] = log.requests()[..] else { panic!("one record") };
    assert_eq!(record["action_id"], 2, "{record:#}");
    assert_eq!(said(record).0, "sandbox:user-sam");
    verified(&log);
}

#[tokio::test]
async fn what_is_not_known_is_refused_whoever_asks() {
    let world = World::new().await;
    let pat = world.caller("pat");
    for target in [
        workspace(&format!("/flights/one?{VERSION}")),
        format!("/subscriptions/x/resourceGroups/y/providers/Microsoft.Nothing/things/z?{VERSION}"),
        workspace(&format!("/jobs/a%2fb?{VERSION}")),
        workspace(&format!("/jobs/../computes/cpu-cluster?{VERSION}")),
        workspace(&format!("//jobs?{VERSION}")),
    ] {
        let answer = pat.put(&target, &json!({})).await;
        assert!(matches!(answer.status.as_u16(), 400 | 403), "{target}: {answer:?}");
    }
    let answer = pat.get("/nothing/here").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.text().contains("no route"), "{answer:?}");
    assert_eq!(world.sandbox.azure.observer().seen_at("management.azure.com").len(), 0);
}

#[tokio::test]
async fn no_back_door_writes_role_assignments_or_templates() {
    let world = World::new().await;
    let pat = world.caller("pat");
    let assignment =
        workspace("/providers/Microsoft.Authorization/roleAssignments/5a7a0000-0000-4000-8000-000000000009");
    let group = amlgate::sandbox::azure::names::group_id();
    for (method, target, body) in [
        (Method::PUT, format!("{assignment}?api-version=2022-04-01"), json!({"properties": {}})),
        (
            Method::PUT,
            format!("{group}/providers/Microsoft.Resources/deployments/x?api-version=2024-03-01"),
            json!({"properties": {"mode": "Incremental", "template": {"resources": []}}}),
        ),
        (
            Method::POST,
            "/batch?api-version=2020-06-01".to_owned(),
            json!({"requests": [{"httpMethod": "DELETE", "url": workspace("?api-version=2025-12-01")}]}),
        ),
        (
            Method::POST,
            "/subscriptions/batch?api-version=2020-06-01".to_owned(),
            json!({"requests": [{"httpMethod": "DELETE", "url": workspace("?api-version=2025-12-01")}]}),
        ),
    ] {
        let request = pat.request(method, &target).header("content-type", "application/json");
        let answer = pat.send(request.body(whole(body.to_string())).unwrap()).await;
        assert!(matches!(answer.status.as_u16(), 403 | 404), "{target}: {answer:?}");
    }
    assert_eq!(world.sandbox.azure.observer().seen_at("management.azure.com").len(), 0);
}

#[tokio::test]
async fn pages_lead_back_to_the_gate_until_the_last() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let gate = world.sandbox.layout.gate.clone();
    let mut target = jobs();
    let mut names = Vec::new();
    loop {
        let page = sam.get(&target).await.json();
        names
            .extend(page["value"].as_array().unwrap().iter().map(|j| j["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["nextLink"].as_str() else { break };
        target = next.strip_prefix(&gate).unwrap_or_else(|| panic!("{next} leads to {gate}")).to_owned();
    }
    assert!(names.len() > 3, "{names:?}");
    names.dedup();
    assert!(names.contains(&"churn-train-1".to_owned()), "{names:?}");
}

#[tokio::test]
async fn a_body_that_is_denied_for_what_it_says_never_leaves() {
    let policies = r#"
version: 1
subjects: {scientists: [{issuer: sandbox, group: data-science}]}
allow:
  - {name: scientists work, who: [scientists], role: AzureML Data Scientist}
deny:
  - name: no job of more than four nodes
    actions: [Microsoft.MachineLearningServices/workspaces/jobs/write]
    when: allocates.nodes > 4
"#;
    let world = World::changed(Changes { policies: Some(policies), ..Changes::default() }).await;
    let sam = world.caller("sam");
    let mut large = job();
    large["properties"]["resources"] = json!({"instanceCount": 5});
    let answer = sam.put(&workspace(&format!("/jobs/large?{VERSION}")), &large).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    assert!(answer.text().contains("no job of more than four nodes"), "{answer:?}");
    large["properties"]["resources"] = json!({"instanceCount": 4});
    let answer = sam.put(&workspace(&format!("/jobs/large?{VERSION}")), &large).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");

    // Two keys of one name, and a body that is no JSON, are refused: nobody knows what Azure reads.
    for body in [
        r#"{"properties":{"jobType":"Command","resources":{"instanceCount":1},"resources":{"instanceCount":9}}}"#,
        r#"{"properties":"#,
    ] {
        let target = workspace(&format!("/jobs/twice?{VERSION}"));
        let request = sam.request(Method::PUT, &target).header("content-type", "application/json");
        let answer = sam.send(request.body(whole(body)).unwrap()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    }
    assert!(world.sandbox.azure.resource(&workspace("/jobs/twice")).is_none());
}

#[tokio::test]
async fn a_limit_answers_429_with_the_time_to_wait() {
    let policies = r#"
version: 1
subjects: {scientists: [{issuer: sandbox, group: data-science}]}
allow:
  - {name: scientists work, who: [scientists], role: AzureML Data Scientist}
require:
  - {name: two lists an hour, actions: [Microsoft.MachineLearningServices/workspaces/jobs/read], limit: {requests: 2, every: 1h, per: person}}
"#;
    let world = World::changed(Changes { policies: Some(policies), ..Changes::default() }).await;
    let sam = world.caller("sam");
    assert_eq!(sam.get(&jobs()).await.status, StatusCode::OK);
    assert_eq!(sam.get(&jobs()).await.status, StatusCode::OK);
    let answer = sam.get(&jobs()).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=3_600).contains(&seconds), "{seconds}");
    assert!(answer.text().contains("two lists an hour"), "{answer:?}");
    assert_eq!(world.sandbox.azure.observer().seen_at("/jobs").len(), 2);
}

#[tokio::test]
async fn a_users_token_for_the_other_header_of_mlflow_is_swapped() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let target = format!("/mlflow/v1.0{}/api/2.0/mlflow/experiments/search", workspace(""));
    let mut request = sam.request(Method::POST, &target).header("x-azureml-token", "canary");
    request.headers_mut().unwrap().insert("host", world.data_plane());
    let request = request.header("content-type", "application/json");
    let answer = sam.send(request.body(whole(r#"{"max_results":5}"#)).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let [seen] = &world.sandbox.azure.observer().seen_at("/mlflow/")[..] else { panic!("one") };
    assert!(!format!("{:?}", seen.headers).contains("canary"), "{seen:?}");
}

#[tokio::test]
async fn no_secret_of_a_request_is_written_down() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let token = sam.request(Method::GET, "/").body(()).unwrap().headers()[header::AUTHORIZATION]
        .to_str()
        .unwrap()
        .trim_start_matches("Bearer ")
        .to_owned();
    for target in [
        workspace(&format!("/jobs?{VERSION}&sig=canary-query&$filter=canary-filter")),
        workspace(&format!("?{VERSION}&code=canary-code")),
        "/nowhere?access_token=canary-nowhere".to_owned(),
    ] {
        let request = sam
            .request(Method::GET, &target)
            .header("cookie", "canary-cookie")
            .header("x-functions-key", "canary-header");
        sam.send(request.body(whole("")).unwrap()).await;
    }
    let mut secret = job();
    secret["properties"]["environmentVariables"] = json!({"PASSWORD": "canary-body"});
    sam.put(&workspace(&format!("/jobs/secret?{VERSION}")), &secret).await;
    world.bearing("canary-token").get(&jobs()).await;
    let log = world.stop().await;
    let signature = token.rsplit('.').next().unwrap();
    let mut written = Vec::new();
    crate::taint::files(&log.dir.path().join("var/audit"), &mut written);
    for (path, text) in &written {
        for secret in ["canary", signature] {
            assert!(
                !text.contains(secret),
                "{path}: {secret}: {:?}",
                text.match_indices(secret).map(|(at, _)| text.get(at - 80..at + 30)).collect::<Vec<_>>()
            );
        }
    }
    assert!(log.requests().len() >= 4);
}
