//! A recorded request's right to be sent: made by [`Credentials::open`] alone.

use std::{collections::BTreeMap, fmt, sync::Arc};

use http::HeaderValue;

use super::{Challenge, CredentialError, Credentials, EndpointKeys, KeySlot, cache::Refused};
use crate::{
    audit::{OutcomeGuard, Recorded},
    azureml::{Audience, Effect, Kind, Operation, ResourceId},
};

/// Which credential serves which operation: several narrow identities instead of a wide one.
#[derive(Debug, Clone, Default)]
pub struct CredentialChoice {
    by_kind: BTreeMap<String, Arc<str>>,
}

impl CredentialChoice {
    /// From the words of the configuration: `default`, kinds and effects.
    #[must_use]
    pub fn new(by_kind: BTreeMap<String, Arc<str>>) -> Self {
        Self { by_kind }
    }

    /// The credential for an operation: by its gravest effect, else its kind, else the default.
    #[must_use]
    pub fn of(&self, operation: &Operation) -> Option<&Arc<str>> {
        const GRAVE: [Effect; 3] = [Effect::ChangeAccess, Effect::RegisterModel, Effect::DeployModel];
        let effect =
            GRAVE.iter().filter(|e| operation.effects.contains(**e)).find_map(|e| self.by_kind.get(e.name()));
        let kind = match operation.kind {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Delete => "delete",
            Kind::Action => "action",
        };
        effect.or_else(|| self.by_kind.get(kind)).or_else(|| self.by_kind.get("default"))
    }
}

/// What Azure, or an endpoint, is to see.
#[derive(Debug, Clone)]
pub enum Bearer {
    /// A token of a credential for the operation's audience.
    Token {
        /// Which credential.
        credential: Arc<str>,
    },
    /// An endpoint's key.
    EndpointKey {
        /// Which credential asks for it.
        credential: Arc<str>,
        /// The endpoint.
        endpoint: ResourceId,
        /// Which of its keys.
        slot: KeySlot,
    },
    /// Nothing: the route has no credential.
    Nothing,
}

/// The token of a caller's request. It is made from a recorded request and sent with it.
pub struct UpstreamToken {
    header: Option<HeaderValue>,
    /// For `x-azureml-token`, if the caller sent one: a second bearer for the ML service.
    second: Option<HeaderValue>,
}

impl fmt::Debug for UpstreamToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamToken")
    }
}

/// A recorded request with its token.
#[derive(Debug)]
pub struct Attempt {
    recorded: Recorded,
    token: UpstreamToken,
    bearer: Bearer,
    number: u8,
}

/// There is no token: the request goes back to be concluded.
#[derive(Debug)]
pub struct Unminted {
    /// The recorded request.
    pub recorded: Recorded,
    /// Why.
    pub error: CredentialError,
}

impl Credentials {
    /// Gets the token for a recorded request. `ml_token` asks for the second bearer that pipeline
    /// jobs carry.
    ///
    /// # Errors
    /// [`Unminted`], with the request to be concluded.
    pub async fn open(
        &self,
        recorded: Recorded,
        bearer: Bearer,
        keys: &EndpointKeys,
        ml_token: bool,
    ) -> Result<Attempt, Box<Unminted>> {
        match self.mint(&recorded, &bearer, keys, ml_token, None).await {
            Ok(token) => Ok(Attempt { recorded, token, bearer, number: 1 }),
            Err(error) => Err(Box::new(Unminted { recorded, error })),
        }
    }

    /// The one second attempt, with a token of its own (DECISIONS 13): after a claims challenge, or
    /// when nothing of the request was sent.
    ///
    /// # Errors
    /// [`Unminted`]; also when this was the second attempt already.
    pub async fn again(
        &self,
        attempt: Attempt,
        keys: &EndpointKeys,
        challenge: Option<&Challenge>,
    ) -> Result<Attempt, Box<Unminted>> {
        let Attempt { recorded, token, bearer, number } = attempt;
        if number > 1 {
            let error = CredentialError::passing("the request was attempted twice");
            return Err(Box::new(Unminted { recorded, error }));
        }
        let refused = challenge.zip(token.header.as_ref());
        match self.mint(&recorded, &bearer, keys, token.second.is_some(), refused).await {
            Ok(token) => Ok(Attempt { recorded, token, bearer, number: 2 }),
            Err(error) => Err(Box::new(Unminted { recorded, error })),
        }
    }

    /// Gets the token that a challenge demands without a second attempt, for a request whose body
    /// cannot be sent twice: the caller is told to send it again.
    ///
    /// # Errors
    /// [`CredentialError`] if there is none.
    pub async fn refresh(&self, attempt: &Attempt, challenge: &Challenge) -> Result<(), CredentialError> {
        let audience = attempt.recorded.permit().operation().audience;
        match (&attempt.bearer, &attempt.token.header) {
            (Bearer::Token { credential }, Some(token)) => {
                self.bearer(credential, audience, Some((challenge, token))).await.map(drop)
            }
            (Bearer::Token { .. } | Bearer::EndpointKey { .. } | Bearer::Nothing, _) => Ok(()),
        }
    }

    async fn mint(
        &self,
        recorded: &Recorded,
        bearer: &Bearer,
        keys: &EndpointKeys,
        ml_token: bool,
        refused: Option<Refused<'_>>,
    ) -> Result<UpstreamToken, CredentialError> {
        let audience = recorded.permit().operation().audience;
        let header = match bearer {
            Bearer::Nothing => None,
            Bearer::Token { credential } => self.bearer(credential, audience, refused).await?,
            Bearer::EndpointKey { credential, endpoint, slot } => {
                Some(keys.bearer(endpoint.folded(), *slot, credential).await?)
            }
        };
        let second = match bearer {
            Bearer::Token { credential } if ml_token => {
                self.bearer(credential, Audience::MachineLearning, None).await?
            }
            Bearer::Token { .. } | Bearer::EndpointKey { .. } | Bearer::Nothing => None,
        };
        Ok(UpstreamToken { header, second })
    }
}

impl Attempt {
    /// The `Authorization` that goes upstream.
    #[must_use]
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.token.header.as_ref()
    }

    /// The `x-azureml-token` that goes upstream, without its scheme.
    #[must_use]
    pub fn ml_token(&self) -> Option<HeaderValue> {
        let second = self.token.second.as_ref()?;
        let bare = second.as_bytes().strip_prefix(b"Bearer ")?;
        let mut header = HeaderValue::from_bytes(bare).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// What Azure sees.
    #[must_use]
    pub fn bearer(&self) -> &Bearer {
        &self.bearer
    }

    /// Whether there may be another.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.number == 1
    }

    /// The recorded request.
    #[must_use]
    pub fn recorded(&self) -> &Recorded {
        &self.recorded
    }

    /// What is to be said of the request's end.
    pub fn outcome(&mut self) -> &mut OutcomeGuard {
        self.recorded.outcome()
    }

    /// Gives up the token and keeps the place for the outcome: the answer streams.
    #[must_use]
    pub fn into_outcome(self) -> OutcomeGuard {
        self.recorded.into_outcome()
    }
}
