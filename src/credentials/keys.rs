//! Keys of scoring endpoints: fetched by the gate, used by the gate, shown to nobody.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request};
use moka::future::Cache;
use secrecy::{ExposeSecret, SecretString};

use super::{CredentialError, Credentials, ServicePurpose};
use crate::{net::Destination, time::Timestamp};

/// A key is believed so long; a refusal by the endpoint has it fetched at once.
const KEEP: Duration = Duration::from_secs(300);
const API_VERSION: &str = "2024-10-01";

/// Which of an endpoint's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeySlot {
    /// `primaryKey`.
    Primary,
    /// `secondaryKey`.
    Secondary,
    /// A token of the endpoint.
    Token,
}

#[derive(Clone)]
struct Key {
    header: HeaderValue,
    until: Timestamp,
}

/// The keys of scoring endpoints. Cheap to clone.
#[derive(Clone)]
pub struct EndpointKeys {
    credentials: Credentials,
    arm: Destination,
    cache: Cache<(Arc<str>, KeySlot), Key>,
}

impl fmt::Debug for EndpointKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointKeys({} cached)", self.cache.entry_count())
    }
}

impl EndpointKeys {
    /// Fetches through `arm` with the credentials' service tokens.
    #[must_use]
    pub fn new(credentials: Credentials, arm: Destination) -> Self {
        Self { credentials, arm, cache: Cache::builder().max_capacity(10_000).build() }
    }

    /// The `Authorization` of an endpoint (by its ARM id, in lower case).
    ///
    /// # Errors
    /// [`CredentialError`] if Azure does not give the key.
    pub(super) async fn bearer(
        &self,
        endpoint: &str,
        slot: KeySlot,
        credential: &str,
    ) -> Result<HeaderValue, CredentialError> {
        let now = self.credentials.clock().now();
        let key = (Arc::from(endpoint), slot);
        let fetch = self.fetch(endpoint, slot, credential, now);
        if let Some(cached) = self.cache.get(&key).await.filter(|k| now < k.until) {
            return Ok(cached.header);
        }
        self.cache.invalidate(&key).await;
        self.cache.try_get_with(key, fetch).await.map(|k| k.header).map_err(|e| CredentialError::clone(&e))
    }

    /// The endpoint refused its key: the next request fetches it anew.
    pub async fn forget(&self, endpoint: &str, slot: KeySlot) {
        self.cache.invalidate(&(Arc::from(endpoint), slot)).await;
    }

    async fn fetch(
        &self,
        endpoint: &str,
        slot: KeySlot,
        credential: &str,
        now: Timestamp,
    ) -> Result<Key, CredentialError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            primary_key: Option<SecretString>,
            secondary_key: Option<SecretString>,
            access_token: Option<SecretString>,
            expiry_time_utc: Option<u64>,
        }
        const MEND: &str =
            "give the gate's identity a role with onlineEndpoints/listKeys/action on the endpoint";
        let verb = match slot {
            KeySlot::Primary | KeySlot::Secondary => "listKeys",
            KeySlot::Token => "token",
        };
        let token = self.credentials.service(ServicePurpose::EndpointKeys, credential).await?;
        let request = Request::post(format!("{endpoint}/{verb}?api-version={API_VERSION}"))
            .header(http::header::CONTENT_LENGTH, 0)
            .body(Bytes::new())
            .map_err(|_| CredentialError::local(format!("`{endpoint}` is no endpoint's id"), MEND))?;
        let answer = self.credentials.call(&token, &self.arm, request).await?;
        if !answer.status().is_success() {
            let what =
                format!("Azure answered {} when the gate asked for the key of `{endpoint}`", answer.status());
            return Err(if answer.status().is_server_error() {
                CredentialError::passing(what)
            } else {
                CredentialError::Fatal { code: answer.status().as_str().to_owned(), what, mend: MEND }
            });
        }
        let none = || CredentialError::passing(format!("Azure gave no key of `{endpoint}`"));
        let answer: Answer = serde_json::from_slice(answer.body()).map_err(|_| none())?;
        let expires = answer.expiry_time_utc.map(Timestamp::from_secs);
        let secret = match slot {
            KeySlot::Primary => answer.primary_key,
            KeySlot::Secondary => answer.secondary_key,
            KeySlot::Token => answer.access_token,
        };
        let secret = secret.ok_or_else(none)?;
        let mut header =
            HeaderValue::try_from(format!("Bearer {}", secret.expose_secret())).map_err(|_| none())?;
        header.set_sensitive(true);
        let until = now.plus(KEEP);
        Ok(Key { header, until: expires.map_or(until, |e| until.min(e)) })
    }
}
