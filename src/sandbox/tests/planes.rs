//! Inference, MLflow, the vault and storage.

use super::*;

#[tokio::test]
async fn an_endpoint_scores_for_its_key_and_for_nothing_else() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let keys =
        w.client.send(Method::POST, ARM, &below("/onlineEndpoints/churn/listKeys"), &token, None).await;
    let key = keys.json()["primaryKey"].as_str().unwrap().to_owned();
    let input = json!({"input_data": {"data": [[0.0, 0.0], [9.0, 9.0]]}});
    let got = w.client.send(Method::POST, SCORING, "/score", &key, Some(input.clone())).await;
    assert_eq!(got.headers["azureml-model-deployment"], "blue");
    assert_eq!(got.json()["predictions"][0], 0.5);
    assert!(got.json()["predictions"][1].as_f64().unwrap() > 0.99);
    let refused = w.client.send(Method::POST, SCORING, "/score", &token, Some(input.clone())).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let aad = "churn-aad.westeurope.inference.ml.azure.com";
    assert_eq!(
        w.client.send(Method::POST, aad, "/score", &token, Some(input.clone())).await.code(),
        "InvalidAuthenticationTokenAudience"
    );
    let own = w
        .client
        .token(&[("client_secret", names::GATE_SECRET), ("scope", "https://ml.azure.com/.default")])
        .await;
    let own = own.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(w.client.send(Method::POST, aad, "/score", &own, Some(input)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_chat_streams_an_event_at_a_time_by_the_clock_and_notices_a_hang_up() {
    let w = world_with(|s| s.stream_interval = Duration::from_secs(5)).await;
    let id = format!("{}/onlineEndpoints/churn", names::workspace_id(names::WORKSPACE));
    let key = w.azure.secret_of(&id).unwrap()["primaryKey"].as_str().unwrap().to_owned();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(w.client.connect(SCORING).await)).await.unwrap();
    let connection = tokio::spawn(connection);
    let body = json!({"stream": true, "messages": [{"role": "user", "content": "hello"}]}).to_string();
    let request = Request::post("/v1/chat/completions")
        .header("host", SCORING)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"data: {"));
    w.azure.streams().wait_for(1).await;
    w.clock.advance(Duration::from_secs(5));
    let second = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_ne!(first, second);
    drop((response, sender));
    connection.abort();
    w.azure.streams().wait_for(0).await;
}

#[tokio::test]
async fn a_websocket_says_back_what_it_hears() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let w = world().await;
    let id = format!("{}/onlineEndpoints/churn", names::workspace_id(names::WORKSPACE));
    let key = w.azure.secret_of(&id).unwrap()["primaryKey"].as_str().unwrap().to_owned();
    let mut stream = w.client.connect(SCORING).await;
    let head = format!(
        "GET /ws HTTP/1.1\r\nhost: {SCORING}\r\nauthorization: Bearer {key}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    // The sample handshake of RFC 6455 section 1.3.
    assert!(answer.contains(&"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_lowercase()));
    stream.write_all(&[0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]).await.unwrap();
    let mut frame = [0; 4];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame, [0x81, 2, b'h', b'i']);
}

#[tokio::test]
async fn mlflow_logs_a_run_and_registers_the_model_that_resource_manager_shows() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let host = "westeurope.api.azureml.ms";
    let base = format!("/mlflow/v2.0{}/api/2.0/mlflow", names::workspace_id(names::WORKSPACE));
    let post = async |op: &str, body: Value| {
        w.client.send(Method::POST, host, &format!("{base}/{op}"), &token, Some(body)).await
    };
    let missing =
        w.client.get(host, &format!("{base}/experiments/get-by-name?experiment_name=new"), &token).await;
    assert_eq!(
        (missing.status.as_u16(), missing.json()["error_code"].clone()),
        (404, json!("RESOURCE_DOES_NOT_EXIST"))
    );
    let experiment = post("experiments/create", json!({"name": "new"})).await.json()["experiment_id"].clone();
    let run = post("runs/create", json!({"experiment_id": experiment})).await.json()["run"]["info"]["run_id"]
        .clone();
    assert_eq!(post("runs/log-batch", json!({"run_id": run, "metrics": [{"key": "auc", "value": 0.9}], "params": [{"key": "lr", "value": "1"}]})).await.status, StatusCode::OK);
    assert_eq!(
        post("runs/log-parameter", json!({"run_id": run, "key": "lr", "value": "2"})).await.status,
        StatusCode::BAD_REQUEST
    );
    let got =
        w.client.get(host, &format!("{base}/runs/get?run_id={}", run.as_str().unwrap()), &token).await.json();
    assert_eq!(got["run"]["data"]["metrics"][0]["value"], 0.9);
    post("registered-models/create", json!({"name": "by-mlflow"})).await;
    post("model-versions/create", json!({"name": "by-mlflow", "source": "azureml://x", "run_id": run})).await;
    let shown = w.client.get(ARM, &below("/models/by-mlflow/versions/1"), &token).await.json();
    assert_eq!(shown["properties"]["modelUri"], "azureml://x");
    let again =
        w.client.get(host, &format!("/mferp/managementfrontend{}", below("/models/by-mlflow")), &token).await;
    assert_eq!(again.json()["properties"]["latestVersion"], "1");
    assert_eq!(w.client.get(host, &format!("{base}/traces/x"), &token).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_vault_challenges_before_it_tells() {
    let w = world().await;
    let host = "vision-kv.vault.azure.net";
    let target = "/secrets/gate-client-secret?api-version=7.4";
    let got = w.client.get(host, target, "").await;
    let challenge = got.headers["www-authenticate"].to_str().unwrap().to_owned();
    assert_eq!(
        challenge,
        format!(
            "Bearer authorization=\"https://{LOGIN}/{}\", resource=\"https://vault.azure.net\"",
            names::TENANT
        )
    );
    let token = w
        .client
        .token(&[("client_secret", names::GATE_SECRET), ("scope", "https://vault.azure.net/.default")])
        .await;
    let token = token.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(w.client.get(host, target, &token).await.json()["value"], names::GATE_SECRET);
    w.azure.set_vault_secret("gate-client-secret", "next");
    assert_eq!(w.client.get(host, target, &token).await.json()["value"], "next");
}

#[tokio::test]
async fn an_upload_needs_the_signature_that_was_handed_out() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let got = w
        .client
        .send(
            Method::POST,
            ARM,
            &below("/codes/c/versions/1/startPendingUpload"),
            &token,
            Some(json!({"pendingUploadType": "TemporaryBlobReference"})),
        )
        .await;
    let reference = got.json()["blobReferenceForConsumption"].clone();
    let uri = reference["credential"]["sasUri"].as_str().unwrap().to_owned();
    let (host, target) = uri.strip_prefix("https://").unwrap().split_once('/').unwrap();
    let (path, query) = target.split_once('?').unwrap();
    let put = async |query: &str| {
        let request = Request::put(format!("/{path}/train.py?{query}"))
            .header("host", host)
            .header("x-ms-blob-type", "BlockBlob")
            .body(Full::new(Bytes::from_static(b"print(1)")))
            .unwrap();
        w.client.try_send(host, request).await.unwrap().status
    };
    assert_eq!(put(&query.replace("sp=racwl", "sp=racwdl")).await, StatusCode::FORBIDDEN);
    assert_eq!(put("").await, StatusCode::UNAUTHORIZED);
    assert_eq!(put(query).await, StatusCode::CREATED);
    assert_eq!(w.azure.blob(&format!("{path}/train.py")).unwrap(), "print(1)");
    w.clock.advance(Duration::from_secs(9 * 3_600));
    assert_eq!(put(query).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_model_registry_is_a_third_door_to_the_same_models() {
    let w = world().await;
    let token = w.client.gate_token().await;
    let host = "westeurope.api.azureml.ms";
    let models = format!("/modelregistry/v1.0{}/models", names::workspace_id(names::WORKSPACE));
    let post = async |body: Value| w.client.send(Method::POST, host, &models, &token, Some(body)).await;
    assert_eq!(post(json!({"name": "third"})).await.status, StatusCode::BAD_REQUEST);
    let made =
        post(json!({"name": "third", "url": "aml://artifact/x", "mimeType": "application/x-python"})).await;
    assert_eq!(made.json()["id"], "third:1");
    let shown = w.client.get(ARM, &below("/models/third/versions/1"), &token).await.json();
    assert_eq!(shown["properties"]["modelUri"], "aml://artifact/x");
    let listed = w.client.get(host, &format!("{models}?name=third"), &token).await.json();
    assert_eq!(listed["value"][0]["version"], 1);
}
