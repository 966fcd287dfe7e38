//! Keys of scoring endpoints: fetched by the gate, used by the gate, shown to nobody.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use moka::future::Cache;
use secrecy::SecretString;

use super::{
    Attempt, Bearer, CredentialError, Credentials, ServicePurpose,
    entra::Fetched,
    error::retry_after,
    moment::Moment,
    token::{Cached, Token},
};
use crate::net::Destination;

/// A key is believed so long; a refusal by the endpoint has it fetched at once.
const KEEP: Duration = Duration::from_secs(300);
const API_VERSION: &str = "2024-10-01";
/// At most so many keys.
const CAPACITY: u64 = 10_000;

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

/// Whose key it is, and who may have it: what one credential got is not used for another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Which {
    credential: Arc<str>,
    endpoint: Arc<str>,
    slot: KeySlot,
}

/// The keys of scoring endpoints. Cheap to clone.
#[derive(Clone)]
pub struct EndpointKeys {
    credentials: Credentials,
    arm: Destination,
    cache: Cache<Which, Cached>,
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
        Self { credentials, arm, cache: Cache::builder().max_capacity(CAPACITY).build() }
    }

    /// The same keys, fetched through another `arm` from here on.
    #[must_use]
    pub fn through(&self, arm: Destination) -> Self {
        Self { arm, ..self.clone() }
    }

    /// The `Authorization` of an endpoint (by its ARM id, in lower case). One fetch serves all who
    /// wait; a failure is remembered for a while.
    ///
    /// # Errors
    /// [`CredentialError`] if Azure does not give the key.
    pub(super) async fn bearer(
        &self,
        endpoint: &str,
        slot: KeySlot,
        credential: &str,
    ) -> Result<HeaderValue, CredentialError> {
        let which = Which { credential: credential.into(), endpoint: endpoint.into(), slot };
        let now = Moment::now(&**self.credentials.clock());
        if let Some(cached) = self.cache.get(&which).await
            && !cached.is_over(now, None)
        {
            return cached.answer();
        }
        let fetch = async {
            match self.fetch(endpoint, slot, credential, now).await {
                Ok(key) => Cached::Token(Arc::new(key)),
                Err(error) => Cached::failure(error, Moment::now(&**self.credentials.clock())),
            }
        };
        let over = |cached: &Cached| cached.is_over(now, None);
        // Boxed: every request's future would have room for it, and it is rare.
        Box::pin(self.cache.entry(which).or_insert_with_if(fetch, over)).await.into_value().answer()
    }

    /// The endpoint refused the key of an attempt: it is forgotten, unless it was fetched only just
    /// now. Whether another attempt would carry another key.
    pub async fn forget(&self, attempt: &Attempt) -> bool {
        let (Bearer::EndpointKey { credential, endpoint, slot }, Some(refused)) =
            (attempt.bearer(), attempt.authorization())
        else {
            return false;
        };
        self.refused(credential, endpoint.folded(), *slot, refused).await
    }

    pub(super) async fn refused(
        &self,
        credential: &str,
        endpoint: &str,
        slot: KeySlot,
        refused: &HeaderValue,
    ) -> bool {
        let which = Which { credential: credential.into(), endpoint: endpoint.into(), slot };
        match self.cache.get(&which).await {
            Some(Cached::Token(key)) if key.header == *refused => {
                let now = Moment::now(&**self.credentials.clock());
                let old = key.was_refused(refused, now);
                if old {
                    self.cache.invalidate(&which).await;
                }
                old
            }
            // Somebody else was refused before, and the key has been fetched anew.
            Some(Cached::Token(_)) | None => true,
            Some(Cached::Failure { .. }) => false,
        }
    }

    async fn fetch(
        &self,
        endpoint: &str,
        slot: KeySlot,
        credential: &str,
        asked: Moment,
    ) -> Result<Token, CredentialError> {
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
        let status = answer.status();
        if !status.is_success() {
            let what = format!("Azure answered {status} when the gate asked for the key of `{endpoint}`");
            return Err(if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                CredentialError::Passing { what, retry_after: retry_after(answer.headers()) }
            } else {
                CredentialError::Fatal { code: status.as_str().to_owned(), what, mend: MEND }
            });
        }
        let none = || CredentialError::passing(format!("Azure gave no key of `{endpoint}`"));
        let answer: Answer = serde_json::from_slice(answer.body()).map_err(|_| none())?;
        let left =
            answer.expiry_time_utc.map(|end| Duration::from_secs(end.saturating_sub(asked.wall().as_secs())));
        let secret = match slot {
            KeySlot::Primary => answer.primary_key,
            KeySlot::Secondary => answer.secondary_key,
            KeySlot::Token => answer.access_token,
        };
        let expires_in = left.map_or(KEEP, |left| left.min(KEEP));
        Token::new(&Fetched { token: secret.ok_or_else(none)?, expires_in, refresh_in: None }, asked)
            .map_err(|_| none())
    }
}
