//! Application Insights: custom events, by the connection string of a component.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

use super::{
    BatchLimits, Delivered, Exported, Pending, Receiver, Sink, Undelivered, connection::said, mapping,
};

/// What of a connection string is needed to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Names the component. Whoever has it can send telemetry to it, and nothing else.
    pub instrumentation_key: String,
    /// `https://HOST`.
    pub endpoint: String,
}

impl Connection {
    /// Reads `InstrumentationKey=...;IngestionEndpoint=https://...;...`.
    ///
    /// # Errors
    /// Words that say what is missing; nothing of the string is in them.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let part = |wanted: &str| {
            let parts = text.trim().split(';').filter_map(|part| part.split_once('='));
            let mut found = parts.filter(|(key, _)| key.trim().eq_ignore_ascii_case(wanted));
            found.next().map(|(_, value)| value.trim().trim_end_matches('/').to_owned())
        };
        let instrumentation_key = part("InstrumentationKey")
            .filter(|key| uuid::Uuid::try_parse(key).is_ok())
            .ok_or("the connection string has no `InstrumentationKey` that is a GUID")?;
        let endpoint = match (part("IngestionEndpoint"), part("EndpointSuffix")) {
            (Some(endpoint), _) => endpoint,
            (None, Some(suffix)) => format!("https://dc.{suffix}"),
            (None, None) => "https://dc.services.visualstudio.com".to_owned(),
        };
        Ok(Self { instrumentation_key, endpoint })
    }
}

/// A component of Application Insights.
#[derive(Debug)]
pub struct ApplicationInsights {
    receiver: Receiver,
    instrumentation_key: String,
}

/// Codes of single items that may be taken another time.
const AGAIN: &[u64] = &[401, 403, 408, 429, 439, 500, 502, 503, 504];

impl ApplicationInsights {
    /// A component, whose receiver is at `/v2.1/track` of its endpoint.
    #[must_use]
    pub const fn new(receiver: Receiver, instrumentation_key: String) -> Self {
        Self { receiver, instrumentation_key }
    }

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers
    }
}

/// Reads an answer that took some items and not others: everything before the first that may be
/// taken another time is dealt with.
fn partly(batch: usize, answer: &Value) -> Delivered {
    let errors = answer.get("errors").and_then(Value::as_array).into_iter().flatten();
    let mut delivered = Delivered { taken: batch, refused: Vec::new() };
    for error in errors {
        let Some(at) = error.get("index").and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok())
        else {
            continue;
        };
        let status = error.get("statusCode").and_then(Value::as_u64).unwrap_or_default();
        if AGAIN.contains(&status) {
            delivered.taken = delivered.taken.min(at);
        } else {
            let said = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
            delivered.refused.push((at, format!("{status}: {said}")));
        }
    }
    let taken = delivered.taken;
    delivered.refused.retain(|(at, _)| *at < taken);
    delivered
}

impl Sink for ApplicationInsights {
    fn limits(&self) -> BatchLimits {
        BatchLimits { records: 400, bytes: 512 << 10 }
    }

    fn deliver<'a>(&'a mut self, batch: &'a [Exported]) -> Pending<'a, Result<Delivered, Undelivered>> {
        Box::pin(async move {
            let items: Vec<_> =
                batch.iter().map(|record| mapping::insights(record, &self.instrumentation_key)).collect();
            let body = Bytes::from(serde_json::to_vec(&items).unwrap_or_default());
            let answer = self.receiver.post(Self::headers(), body).await?;
            if answer.status() != 206 {
                return Ok(Delivered::all(batch));
            }
            let content: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
            match partly(batch.len(), &content) {
                Delivered { taken: 0, .. } => Err(Undelivered::later(said(&answer))),
                delivered => Ok(delivered),
            }
        })
    }

    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(async move {
            let nothing = Bytes::from_static(b"[]");
            let answer = self.receiver.ask(http::Method::POST, Self::headers(), nothing).await?;
            match answer.status().as_u16() {
                200..=299 | 400 => Ok(format!("`{}` answers", self.receiver.name())),
                _ => Err(said(&answer)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = "00000000-0000-0000-0000-0000000000aa";

    #[test]
    fn a_connection_string_is_read_whatever_the_order_and_case() {
        let text = format!(
            "ingestionendpoint=https://westeurope-5.in.applicationinsights.azure.com/;instrumentationkey={KEY};LiveEndpoint=x"
        );
        let read = Connection::parse(&text).unwrap();
        assert_eq!(read.endpoint, "https://westeurope-5.in.applicationinsights.azure.com");
        assert_eq!(read.instrumentation_key, KEY);
        let short = Connection::parse(&format!("InstrumentationKey={KEY}")).unwrap();
        assert_eq!(short.endpoint, "https://dc.services.visualstudio.com");
        assert!(Connection::parse("InstrumentationKey=canary").is_err_and(|e| !e.contains("canary")));
    }

    #[test]
    fn what_may_be_taken_another_time_is_sent_again_and_what_may_not_is_not() {
        let answer = json!({"errors": [
            {"index": 1, "statusCode": 400, "message": "bad"},
            {"index": 3, "statusCode": 500, "message": "later"},
            {"index": 4, "statusCode": 400, "message": "bad"},
        ]});
        let delivered = partly(6, &answer);
        assert_eq!(delivered, Delivered { taken: 3, refused: vec![(1, "400: bad".to_owned())] });
        assert_eq!(partly(6, &json!({})).taken, 6);
    }
}
