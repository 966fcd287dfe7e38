//! Any HTTP receiver: CloudEvents 1.0 in structured mode, signed as Standard Webhooks.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    BatchLimits, Delivered, Exported, Pending, Receiver, Sink, Undelivered,
    mapping::{cloud_events, hex},
};
use crate::time::Timestamp;

/// The media type of one event.
pub const EVENT: &str = "application/cloudevents+json; charset=utf-8";

/// Signs what is posted: `whsec_` and Base64 of 24 to 64 bytes.
#[derive(Clone)]
pub struct WebhookKey(hmac::Key);

impl std::fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookKey")
    }
}

/// It is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook's secret is `whsec_` and Base64 of 24 to 64 random bytes")]
pub struct WebhookKeyError;

impl WebhookKey {
    /// From the text that sender and receiver share.
    ///
    /// # Errors
    /// [`WebhookKeyError`].
    pub fn new(text: &SecretString) -> Result<Self, WebhookKeyError> {
        let text = text.expose_secret().trim();
        let bytes = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text));
        let bytes = zeroize::Zeroizing::new(bytes.map_err(|_| WebhookKeyError)?);
        if !(24..=64).contains(&bytes.len()) {
            return Err(WebhookKeyError);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The headers of a signed message: the same id however often it is sent.
    #[must_use]
    pub fn headers(&self, id: &str, now: Timestamp, kind: &'static str, body: &[u8]) -> HeaderMap {
        let seconds = now.as_secs();
        message(id, seconds, kind, Some(self.signature(id, seconds, body)))
    }

    /// `webhook-signature` of a message.
    fn signature(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

fn message(id: &str, seconds: u64, kind: &'static str, signature: Option<String>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in [
        ("webhook-id", Some(id.to_owned())),
        ("webhook-timestamp", Some(seconds.to_string())),
        ("webhook-signature", signature),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// Posts records to a receiver.
#[derive(Debug)]
pub struct Webhook {
    receiver: Receiver,
    key: Option<WebhookKey>,
    batch: usize,
}

impl Webhook {
    /// A receiver that takes `batch` events a request: one as an event, more as a batch of them.
    #[must_use]
    pub fn new(receiver: Receiver, key: Option<WebhookKey>, batch: usize) -> Self {
        Self { receiver, key, batch: batch.max(1) }
    }

    fn headers(&self, batch: &[Exported], body: &[u8]) -> HeaderMap {
        // The same records have the same id, however often they are sent.
        let (first, count) = (batch.first(), batch.len());
        let leaf = first.map(|record| hex(record.leaf.get(..16).unwrap_or_default())).unwrap_or_default();
        let id = if self.batch == 1 { format!("rec_{leaf}") } else { format!("rec_{leaf}_{count}") };
        let kind = match self.batch {
            1 => EVENT,
            _ => "application/cloudevents-batch+json; charset=utf-8",
        };
        let now = self.receiver.now();
        match &self.key {
            Some(key) => key.headers(&id, now, kind, body),
            None => message(&id, now.as_secs(), kind, None),
        }
    }
}

impl Sink for Webhook {
    fn limits(&self) -> BatchLimits {
        BatchLimits { records: self.batch, bytes: 512 << 10 }
    }

    fn deliver<'a>(&'a mut self, batch: &'a [Exported]) -> Pending<'a, Result<Delivered, Undelivered>> {
        Box::pin(async move {
            let events: Vec<_> = batch.iter().map(cloud_events).collect();
            let body = match (self.batch, events.first()) {
                (1, Some(event)) => serde_json::to_vec(event),
                _ => serde_json::to_vec(&events),
            };
            let body = Bytes::from(body.unwrap_or_default());
            self.receiver.post(self.headers(batch, &body), body).await?;
            Ok(Delivered::all(batch))
        })
    }

    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(async move {
            // Whatever is answered: there is somebody, and TLS believes them.
            self.receiver.ask(Method::OPTIONS, HeaderMap::new(), Bytes::new()).await?;
            Ok(format!("`{}` answers", self.receiver.name()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_standards_own_example() {
        let key = WebhookKey::new(&"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()).unwrap();
        let signature =
            key.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_none_is_refused_without_being_shown() {
        for text in ["whsec_", "whsec_AAAA", "not base64!"] {
            assert_eq!(WebhookKey::new(&text.into()).unwrap_err(), WebhookKeyError, "{text}");
        }
        let key = WebhookKey::new(&"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()).unwrap();
        assert_eq!(format!("{key:?}"), "WebhookKey");
    }
}
