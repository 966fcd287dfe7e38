//! Splunk's HTTP Event Collector, with indexer acknowledgement where the token demands it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{
    BatchLimits, Delivered, Exported, Pending, Receiver, Sink, Undelivered,
    connection::{judged, said},
    mapping::splunk,
};

/// Splunk's codes for an event that it will never take: invalid data, no event, blank event, fields
/// that cannot be indexed. Every other refusal is about the token, the channel or the index.
const OF_THE_EVENT: &[u64] = &[6, 12, 13, 15];
/// How often it is asked whether a batch is indexed, and how many times.
const ASK_EVERY: Duration = Duration::from_secs(1);
const ASK_TIMES: usize = 60;

/// How a collector is spoken to.
#[derive(Debug, Clone)]
pub struct SplunkSettings {
    /// The token of the input.
    pub token: SecretString,
    /// The index; the token's own if none.
    pub index: Option<String>,
    /// The source type.
    pub source_type: String,
    /// Wait until a batch is indexed.
    pub acknowledged: bool,
}

/// A Splunk event collector.
#[derive(Debug)]
pub struct Splunk {
    receiver: Receiver,
    settings: SplunkSettings,
    channel: String,
}

impl Splunk {
    /// A collector, whose receiver is at its root.
    #[must_use]
    pub fn new(receiver: Receiver, settings: SplunkSettings) -> Self {
        Self { receiver, settings, channel: uuid::Uuid::new_v4().to_string() }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let token = format!("Splunk {}", self.settings.token.expose_secret());
        if let Ok(mut token) = HeaderValue::try_from(token) {
            token.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, token);
        }
        if let (true, Ok(channel)) = (self.settings.acknowledged, HeaderValue::try_from(&self.channel)) {
            headers.insert(HeaderName::from_static("x-splunk-request-channel"), channel);
        }
        headers
    }

    async fn indexed(&self, acknowledgement: u64) -> Result<(), Undelivered> {
        let receiver = self.receiver.at(format!("/services/collector/ack?channel={}", self.channel));
        let asked = Bytes::from(json!({"acks": [acknowledgement]}).to_string());
        for _ in 0..ASK_TIMES {
            let answer = receiver.post(self.headers(), asked.clone()).await.map_err(|error| match error {
                Undelivered::Refused { why } => Undelivered::later(why),
                later @ Undelivered::Later { .. } => later,
            })?;
            let answer: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
            if answer.pointer(&format!("/acks/{acknowledgement}")) == Some(&Value::Bool(true)) {
                return Ok(());
            }
            self.receiver.clock().sleep(ASK_EVERY).await;
        }
        Err(Undelivered::later("the batch was taken, but its indexing was not acknowledged in time"))
    }
}

impl Sink for Splunk {
    fn limits(&self) -> BatchLimits {
        BatchLimits { records: 500, bytes: 512 << 10 }
    }

    fn deliver<'a>(&'a mut self, batch: &'a [Exported]) -> Pending<'a, Result<Delivered, Undelivered>> {
        Box::pin(async move {
            let mut body = String::new();
            for record in batch {
                let event = splunk(record, self.settings.index.as_deref(), &self.settings.source_type);
                body.push_str(&event.to_string());
                body.push('\n');
            }
            let receiver = self.receiver.at("/services/collector/event");
            let answer = receiver.ask(Method::POST, self.headers(), body.into()).await;
            let answer = answer.map_err(Undelivered::later)?;
            let content: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
            let code = content.get("code").and_then(Value::as_u64);
            if answer.status() == 400 && !code.is_some_and(|code| OF_THE_EVENT.contains(&code)) {
                return Err(Undelivered::later(said(&answer)));
            }
            judged(answer, self.receiver.now())?;
            if self.settings.acknowledged {
                let Some(acknowledgement) = content.get("ackId").and_then(Value::as_u64) else {
                    return Err(Undelivered::later(
                        "the token has no indexer acknowledgement: enable it, or leave `acknowledged` out",
                    ));
                };
                self.indexed(acknowledgement).await?;
            }
            Ok(Delivered::all(batch))
        })
    }

    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(async move {
            let receiver = self.receiver.at("/services/collector/health");
            let answer = receiver.ask(Method::GET, self.headers(), Bytes::new()).await?;
            if answer.status().is_success() {
                Ok(format!("`{}` is healthy", self.receiver.name()))
            } else {
                Err(said(&answer))
            }
        })
    }
}
