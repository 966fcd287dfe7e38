//! Resource Manager: tokens, rights, jobs, operations, lists.

use super::*;

#[tokio::test]
async fn a_list_of_jobs_comes_in_pages_that_end() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let mut target = below("/jobs");
    let mut found = Vec::new();
    loop {
        let page = w.client.get(ARM, &target, &token).await;
        assert_eq!(page.status, StatusCode::OK);
        let page = page.json();
        found
            .extend(page["value"].as_array().unwrap().iter().map(|j| j["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["nextLink"].as_str() else { break };
        target = next.strip_prefix("https://management.azure.com").unwrap().to_owned();
    }
    assert_eq!(found.len(), 5);
    assert_eq!(found[0], "churn-train-4");
    assert_eq!(w.azure.observer().seen_at("/jobs").len(), 2);
}

#[tokio::test]
async fn resource_manager_refuses_what_azure_refuses() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let jobs = below("/jobs");
    let code = async |target: &str, token: &str| {
        let got = w.client.get(ARM, target, token).await;
        (got.status.as_u16(), got.code())
    };
    assert_eq!(code(&jobs, "").await, (401, "AuthenticationFailed".to_owned()));
    let got = w.client.get(ARM, &jobs, "").await;
    assert!(got.headers["www-authenticate"].to_str().unwrap().contains("authorization_uri="));
    let other = w
        .client
        .token(&[("client_secret", names::GATE_SECRET), ("scope", "https://vault.azure.net/.default")])
        .await;
    let other = other.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(code(&jobs, &other).await, (401, "InvalidAuthenticationTokenAudience".to_owned()));
    let user = w.azure.user_token(Person::named("pat").unwrap(), &UserToken::default()).unwrap();
    assert_eq!(code(&jobs, &user).await, (401, "InvalidAuthenticationTokenAudience".to_owned()));
    let bent = format!("{}x", token.trim_end_matches('A'));
    assert_eq!(code(&jobs, &bent).await, (401, "InvalidAuthenticationToken".to_owned()));
    let bare = jobs.split('?').next().unwrap();
    assert_eq!(code(bare, &token).await, (400, "MissingApiVersionParameter".to_owned()));
    assert_eq!(
        code(&format!("{bare}?api-version=latest"), &token).await,
        (400, "InvalidApiVersionParameter".to_owned())
    );
    assert_eq!(code(&below("/jobs/none"), &token).await, (404, "ResourceNotFound".to_owned()));
    assert_eq!(code(&below("/nonsense"), &token).await, (404, "InvalidResourceType".to_owned()));
    let stranger = w
        .azure
        .machine_token(names::STRANGER_CLIENT, names::STRANGER_PRINCIPAL, "https://management.azure.com")
        .unwrap();
    assert_eq!(code(&jobs, &stranger).await, (403, "AuthorizationFailed".to_owned()));
    w.clock.advance(Duration::from_secs(7_200));
    assert_eq!(code(&jobs, &token).await, (401, "ExpiredAuthenticationToken".to_owned()));
}

#[tokio::test]
async fn types_and_names_are_found_in_any_case() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let target = below("/jobs/churn-train-1").to_lowercase().replace("/jobs/", "/JOBS/");
    let got = w.client.get(ARM, &target, &token).await;
    assert_eq!(got.status, StatusCode::OK);
    assert!(got.json()["id"].as_str().unwrap().contains("resourceGroups/rg-vision"));
}

#[tokio::test]
async fn a_job_is_judged_runs_and_registers_its_model() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let target = below("/jobs/mine");
    let mut wrong = command();
    wrong["properties"]["environmentId"] = Value::Null;
    let got = w.client.send(Method::PUT, ARM, &target, &token, Some(wrong)).await;
    assert_eq!(got.status, StatusCode::BAD_REQUEST);
    assert!(got.json()["error"]["message"].as_str().unwrap().contains("environmentId"));
    let mut body = command();
    body["properties"]["outputs"] = json!({"model": {"jobOutputType": "mlflow_model", "assetName": "fresh"}});
    let got = w.client.send(Method::PUT, ARM, &target, &token, Some(body.clone())).await;
    assert_eq!(got.status, StatusCode::CREATED);
    assert_eq!(got.json()["properties"]["status"], "Starting");
    let mut status = String::new();
    for _ in 0..3 {
        let got = w.client.get(ARM, &target, &token).await;
        got.json()["properties"]["status"].as_str().unwrap().clone_into(&mut status);
    }
    assert_eq!(status, "Completed");
    let model = w.client.get(ARM, &below("/models/fresh/versions/1"), &token).await;
    assert_eq!(model.json()["properties"]["jobName"], "mine");
    body["properties"]["command"] = json!("something else");
    let got = w.client.send(Method::PUT, ARM, &target, &token, Some(body)).await;
    assert_eq!(got.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_compute_is_made_by_a_long_running_operation() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let target = below("/computes/gpu");
    let body = json!({"location": "westeurope", "properties": {"computeType": "AmlCompute", "properties": {"vmSize": "Standard_NC6"}}});
    let got = w.client.send(Method::PUT, ARM, &target, &token, Some(body)).await;
    assert_eq!(got.status, StatusCode::CREATED);
    assert_eq!(got.headers["retry-after"], "1");
    assert_eq!(got.json()["properties"]["provisioningState"], "Creating");
    let status = got.headers["azure-asyncoperation"].to_str().unwrap();
    let status = status.strip_prefix("https://management.azure.com").unwrap().to_owned();
    assert_eq!(w.client.get(ARM, &status, &token).await.json()["status"], "InProgress");
    let changed = w.client.get(ARM, &format!("{status}&extra=1"), &token).await;
    assert_eq!(changed.status, StatusCode::BAD_REQUEST);
    assert_eq!(w.client.get(ARM, &status, &token).await.json()["status"], "Succeeded");
    let made = w.client.get(ARM, &target, &token).await.json();
    assert_eq!(made["properties"]["provisioningState"], "Succeeded");
    let gone = w.client.send(Method::DELETE, ARM, &target, &token, None).await;
    assert_eq!(gone.status, StatusCode::ACCEPTED);
    let location = gone.headers["location"].to_str().unwrap();
    let location = location.strip_prefix("https://management.azure.com").unwrap();
    assert_eq!(w.client.get(ARM, location, &token).await.status, StatusCode::ACCEPTED);
    assert_eq!(w.client.get(ARM, location, &token).await.status, StatusCode::NO_CONTENT);
    assert_eq!(w.client.get(ARM, &target, &token).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_operation_ends_by_the_clock_when_nobody_polls_and_fails_when_told_to() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let stop = below("/computes/cpu-cluster/stop");
    assert_eq!(w.client.send(Method::POST, ARM, &stop, &token, None).await.status, StatusCode::ACCEPTED);
    w.clock.advance(Duration::from_secs(30));
    let id = format!("{}/computes/cpu-cluster", names::workspace_id(names::WORKSPACE));
    assert_eq!(w.azure.resource(&id).unwrap()["properties"]["properties"]["state"], "Stopped");
    w.azure.fail_next_operation("QuotaExceeded", "no more nodes");
    let body = json!({"location": "westeurope", "properties": {"computeType": "AmlCompute", "properties": {"vmSize": "S"}}});
    let got = w.client.send(Method::PUT, ARM, &below("/computes/big"), &token, Some(body)).await;
    w.clock.advance(Duration::from_secs(30));
    let status = got.headers["azure-asyncoperation"].to_str().unwrap();
    let status = status.strip_prefix("https://management.azure.com").unwrap();
    let status = w.client.get(ARM, status, &token).await.json();
    assert_eq!(status["error"]["code"], "QuotaExceeded");
}

#[tokio::test]
async fn role_assignments_are_listed_as_azure_filters_them() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let sam = Person::named("sam").unwrap().object_id;
    let count = async |filter: &str| {
        let target = format!(
            "{}/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01&$filter={filter}",
            names::workspace_id(names::WORKSPACE)
        );
        w.client.get(ARM, &target, &token).await.json()["value"].as_array().map(Vec::len)
    };
    // Sam has her role through a group.
    assert_eq!(count(&format!("atScope()%20and%20assignedTo('{sam}')")).await, Some(1));
    assert_eq!(count(&format!("principalId%20eq%20'{sam}'")).await, Some(0));
    assert_eq!(count("nonsense").await, None);
}

#[tokio::test]
async fn a_principal_that_asks_too_much_is_throttled_until_its_bucket_fills() {
    let bucket = Bucket { burst: 1, per_second: 1 };
    let w = world_with(|s| s.buckets = Some((bucket, bucket))).await;
    let token = w.client.gate_token().await;
    let first = w.client.get(ARM, &below("/jobs"), &token).await;
    assert_eq!(first.headers["x-ms-ratelimit-remaining-subscription-reads"], "0");
    let second = w.client.get(ARM, &below("/jobs"), &token).await;
    assert_eq!((second.status.as_u16(), second.headers["retry-after"].as_bytes()), (429, &b"1"[..]));
    w.clock.advance(Duration::from_secs(1));
    assert_eq!(w.client.get(ARM, &below("/jobs"), &token).await.status, StatusCode::OK);
}
