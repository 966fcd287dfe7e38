//! OpenTelemetry logs: OTLP over HTTP, JSON.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

use super::{
    BatchLimits, Delivered, Exported, Pending, Receiver, Sink, Undelivered, connection::said, mapping,
};

/// An OTLP receiver.
#[derive(Debug)]
pub struct Otlp {
    receiver: Receiver,
    headers: HeaderMap,
}

impl Otlp {
    /// A receiver at its path (`/v1/logs`), with headers that it wants (a key, for example).
    #[must_use]
    pub fn new(receiver: Receiver, mut headers: HeaderMap) -> Self {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { receiver, headers }
    }
}

impl Sink for Otlp {
    fn limits(&self) -> BatchLimits {
        BatchLimits { records: 500, bytes: 1 << 20 }
    }

    fn deliver<'a>(&'a mut self, batch: &'a [Exported]) -> Pending<'a, Result<Delivered, Undelivered>> {
        Box::pin(async move {
            let body = Bytes::from(mapping::otlp(batch).to_string());
            let answer = self.receiver.post(self.headers.clone(), body).await?;
            let content: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
            let partly = content.get("partialSuccess").unwrap_or(&Value::Null);
            // 64-bit numbers are strings in this JSON.
            let rejected = partly.get("rejectedLogRecords");
            let rejected = rejected.and_then(|n| n.as_u64().or_else(|| n.as_str()?.parse().ok()));
            match rejected {
                None | Some(0) => Ok(Delivered::all(batch)),
                // It does not say which, and wants none of them again.
                Some(count) => {
                    let why = format!(
                        "{count} of these {} were rejected: {}",
                        batch.len(),
                        partly.get("errorMessage").and_then(Value::as_str).unwrap_or("no reason given")
                    );
                    let refused = (0..batch.len()).map(|at| (at, why.clone())).collect();
                    Ok(Delivered { taken: batch.len(), refused })
                }
            }
        })
    }

    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(async move {
            let nothing = Bytes::from(mapping::otlp(&[]).to_string());
            let answer = self.receiver.ask(http::Method::POST, self.headers.clone(), nothing).await?;
            if answer.status().is_success() {
                Ok(format!("`{}` takes logs", self.receiver.name()))
            } else {
                Err(said(&answer))
            }
        })
    }
}
