//! Each kind of receiver, by its documented protocol.

use secrecy::SecretString;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{net::Trust, sandbox::SandboxCa};

#[tokio::test]
async fn a_webhook_gets_one_signed_event_a_request() {
    let gate = Gate::start();
    gate.record(0..2).await;
    let mut stand_in = StandIn::taking().await;
    let secret = WebhookKey::new(&"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()).unwrap();
    let running = gate.run(Webhook::new(gate.receiver(&stand_in, "/in?x=1"), Some(secret), 1));
    let (first, second) = (stand_in.next().await, stand_in.next().await);
    running.finish().await;
    assert_eq!(first.target, "/in?x=1");
    assert_eq!(first.headers["content-type"], "application/cloudevents+json; charset=utf-8");
    assert_eq!(first.headers["webhook-timestamp"], "1800000000");
    assert!(first.headers["webhook-signature"].to_str().unwrap().starts_with("v1,"));
    assert_ne!(first.headers["webhook-id"], second.headers["webhook-id"]);
    let event = first.json();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["source"], "//amlgate/log");
    assert_eq!(event["data"]["unmapped"]["amlgate"]["event"], "policies_changed");
}

#[tokio::test]
async fn splunk_is_asked_until_it_has_indexed_the_batch() {
    let gate = Gate::start();
    gate.record(0..3).await;
    let mut asked = 0;
    let mut stand_in = StandIn::start(move |got| {
        if got.target == "/services/collector/event" {
            return Some(answer(200, r#"{"text":"Success","code":0,"ackId":4}"#));
        }
        asked += 1;
        Some(answer(200, if asked < 3 { r#"{"acks":{"4":false}}"# } else { r#"{"acks":{"4":true}}"# }))
    })
    .await;
    let settings = SplunkSettings {
        token: SecretString::from("t0ken".to_owned()),
        index: Some("ml".into()),
        source_type: "amlgate:ocsf".into(),
        acknowledged: true,
    };
    let running = gate.run(Splunk::new(gate.receiver(&stand_in, "/"), settings));
    let batch = stand_in.next().await;
    assert_eq!(batch.headers["authorization"], "Splunk t0ken");
    let channel = batch.headers["x-splunk-request-channel"].to_str().unwrap().to_owned();
    let events: Vec<Value> =
        String::from_utf8(batch.body).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(events.len(), 3);
    assert_eq!(events[2]["fields"]["position"], "2");
    assert_eq!((&events[0]["time"], &events[0]["index"]), (&json!("1800000000.000"), &json!("ml")));
    for _ in 0..3 {
        let ask = gate.pass_until(|| stand_in.got.try_recv().ok()).await;
        assert_eq!(ask.target, format!("/services/collector/ack?channel={channel}"));
        assert_eq!(ask.json(), json!({"acks": [4]}));
    }
    running.finish().await;
    assert_eq!(gate.events().len(), 3);
}

#[tokio::test]
async fn splunks_word_on_the_token_or_index_is_no_fault_of_a_record() {
    for (code, status) in [(7, 400), (4, 403), (6, 400)] {
        let gate = Gate::start();
        gate.record(0..1).await;
        let body: &'static str = Box::leak(format!(r#"{{"text":"no","code":{code}}}"#).into_boxed_str());
        let stand_in = StandIn::start(answers([(status, body), (200, r#"{"code":0}"#)])).await;
        let settings = SplunkSettings {
            token: SecretString::from("t0ken".to_owned()),
            index: None,
            source_type: "x".into(),
            acknowledged: false,
        };
        let running = gate.run(Splunk::new(gate.receiver(&stand_in, "/"), settings));
        // Either the sink fails, or the record is refused: both are recorded.
        gate.recorded(2).await;
        assert_eq!(gate.dead().len(), usize::from(code == 6), "{code}");
        running.abort().await;
    }
}

#[tokio::test]
async fn opentelemetry_gets_log_records_and_what_it_rejects_is_put_aside() {
    let gate = Gate::start();
    gate.record(0..2).await;
    let partly = r#"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old"}}"#;
    let mut stand_in = StandIn::start(answers([(200, partly), (200, "{}")])).await;
    let mut headers = HeaderMap::new();
    headers.insert("x-key", "k".parse().unwrap());
    let running = gate.run(Otlp::new(gate.receiver(&stand_in, "/v1/logs"), headers));
    let batch = stand_in.next().await;
    assert_eq!((batch.target.as_str(), batch.headers["x-key"].to_str().unwrap()), ("/v1/logs", "k"));
    let records = batch.json()["resourceLogs"][0]["scopeLogs"][0]["logRecords"].clone();
    assert_eq!(records.as_array().unwrap().len(), 2);
    assert_eq!(records[0]["timeUnixNano"], "1800000000000000000");
    stand_in.next().await;
    running.finish().await;
    let dead = gate.dead();
    assert_eq!(dead.len(), 2);
    assert_eq!(dead[0]["reason"], "1 of these 2 were rejected: too old");
}

#[tokio::test]
async fn application_insights_takes_a_part_and_gets_the_rest_again() {
    let gate = Gate::start();
    gate.record(0..4).await;
    let partly = r#"{"itemsReceived":4,"itemsAccepted":2,"errors":[{"index":1,"statusCode":400,"message":"bad"},{"index":2,"statusCode":503,"message":"busy"}]}"#;
    let mut stand_in = StandIn::start(answers([(206, partly), (200, "{}")])).await;
    let key = "00000000-0000-0000-0000-0000000000aa".to_owned();
    let running = gate.run(ApplicationInsights::new(gate.receiver(&stand_in, "/v2.1/track"), key));
    let positions = |got: &Got| -> Vec<String> {
        let items = got.json();
        let position =
            |item: &Value| item["data"]["baseData"]["properties"]["position"].as_str().unwrap().to_owned();
        items.as_array().unwrap().iter().map(position).collect()
    };
    assert_eq!(positions(&stand_in.next().await), ["0", "1", "2", "3"]);
    assert_eq!(positions(&stand_in.next().await), ["2", "3"]);
    assert_eq!(positions(&stand_in.next().await), ["4"], "that 1 was refused");
    running.finish().await;
    assert_eq!(gate.dead()[0]["position"], 1);
}

/// Posts to a stand-in, as the credentials of a gate would with a token.
struct Untokened(Receiver);

impl Ingest for Untokened {
    fn post(
        &self,
        path: String,
        body: bytes::Bytes,
    ) -> Pending<'_, Result<http::Response<bytes::Bytes>, String>> {
        let receiver = self.0.at(path);
        Box::pin(async move { receiver.ask(http::Method::POST, HeaderMap::new(), body).await })
    }
}

#[tokio::test]
async fn azure_monitor_gets_rows_of_its_table_and_less_at_a_time_if_that_was_too_much() {
    let gate = Gate::start();
    gate.record(0..8).await;
    let mut stand_in = StandIn::start(|got| {
        let rows = got.json().as_array().unwrap().len();
        Some(if rows > 2 { answer(413, "ContentLengthLimitExceeded") } else { answer(204, "") })
    })
    .await;
    let ingest = Untokened(gate.receiver(&stand_in, "/"));
    let ingestion = Ingestion { rule: "dcr-1".into(), stream: "Custom-AmlGateAudit_CL".into() };
    let running = gate.run(AzureMonitor::new(Box::new(ingest), ingestion, gate.shared_clock()));
    let mut taken = Vec::new();
    while taken.len() < 8 {
        let got = stand_in.next().await;
        let path = "/dataCollectionRules/dcr-1/streams/Custom-AmlGateAudit_CL?api-version=2023-01-01";
        assert_eq!(got.target, path);
        let rows = got.json();
        let rows = rows.as_array().unwrap();
        if rows.len() <= 2 {
            taken.extend(rows.iter().map(|row| row["LeafIndex"].as_u64().unwrap()));
        }
    }
    running.finish().await;
    assert_eq!(taken, (0..8).collect::<Vec<_>>());
    assert!(gate.dead().is_empty());
}

#[tokio::test]
async fn a_file_has_a_whole_line_for_each_record_even_after_half_of_one() {
    let gate = Gate::start();
    gate.record(0..3).await;
    let path = gate.dir.path().join("export/audit.ndjson");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "{\"half").unwrap();
    gate.run(FileSink::new(path.clone(), Format::Ecs)).finish().await;
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (4, "{\"half"));
    for (at, line) in lines[1..].iter().enumerate() {
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["event"]["sequence"], at);
    }
}

fn acceptor(ca: &SandboxCa) -> tokio_rustls::TlsAcceptor {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let (certificate, key) = ca.server_pem(&["siem.corp"]).unwrap();
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

/// Takes octet-counted messages apart.
fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|b| *b == b' ').unwrap();
        let length: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
        let (message, rest) = bytes[space + 1..].split_at(length);
        found.push(String::from_utf8(message.to_vec()).unwrap());
        bytes = rest;
    }
    found
}

#[tokio::test]
async fn syslog_goes_over_tls_and_a_connection_that_breaks_is_no_delivery() {
    let gate = Gate::start();
    gate.record(0..5).await;
    connector();
    let ca = SandboxCa::generate().unwrap();
    let acceptor = acceptor(&ca);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, mut got) = mpsc::unbounded_channel();
    let server = tokio::spawn(async move {
        let mut connections = 0;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections += 1;
            let mut stream = acceptor.accept(stream).await.unwrap();
            if connections == 1 {
                // Gone with bytes unread: the peer's kernel resets the connection.
                let mut some = [0; 10];
                stream.read_exact(&mut some).await.unwrap();
                stream.get_ref().0.set_zero_linger().unwrap();
                continue;
            }
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            drop(stream.shutdown().await);
            tell.send(messages(&bytes)).unwrap();
        }
    });
    let trust = Trust::new(Some(ca.certificate_pem().as_bytes())).unwrap();
    let to = Destination::https("siem.corp", 6514).at(Some(address)).trusting(Some(trust));
    let running = gate.run(Syslog::new(connector(), to, Format::Ocsf, 13));
    gate.recorded(6).await;
    let batch = gate.pass_until(|| got.try_recv().ok()).await;
    assert_eq!(batch.len(), 5, "{batch:#?}");
    let first = &batch[0];
    assert!(first.starts_with("<110>1 2027-01-15T08:00:00.000Z log amlgate - policies_changed [amlgate@32473 position=\"0\" leaf=\""), "{first}");
    let (_, record) = first.split_once("] \u{feff}").unwrap();
    let record: Value = serde_json::from_str(record).unwrap();
    assert_eq!(record["unmapped"]["amlgate"]["generation"], 0);
    running.abort().await;
    server.abort();
}
