//! A recorded request's right to be sent: made by [`Credentials::open`] alone.

use std::{collections::BTreeMap, fmt, sync::Arc};

use http::HeaderValue;

use super::{
    ActsFor, CallerToken, Challenge, CredentialError, Credentials, EndpointKeys, KeySlot, cache::Refused,
    person::Caused,
};
use crate::{
    audit::{OutcomeGuard, Recorded},
    azureml::{Audience, Effect, Kind, Operation, ResourceId},
};

/// One of the credentials that a route may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenCredential {
    /// Its name.
    pub name: Arc<str>,
    /// In whose name it asks for tokens.
    pub acts_for: ActsFor,
}

/// Which credential serves which operation: several narrow identities instead of a wide one, and
/// others for other subscriptions.
#[derive(Debug, Clone, Default)]
pub struct CredentialChoice {
    by_kind: BTreeMap<String, ChosenCredential>,
    /// By subscription id, in lower case.
    by_subscription: BTreeMap<String, BTreeMap<String, ChosenCredential>>,
    acts_for_callers: bool,
}

impl CredentialChoice {
    /// From the words of the configuration: `default`, kinds and effects; and the same for single
    /// subscriptions, by their ids.
    #[must_use]
    pub fn new(
        by_kind: BTreeMap<String, ChosenCredential>,
        by_subscription: BTreeMap<String, BTreeMap<String, ChosenCredential>>,
    ) -> Self {
        let acts_for_callers = std::iter::once(&by_kind)
            .chain(by_subscription.values())
            .flat_map(BTreeMap::values)
            .any(|credential| credential.acts_for == ActsFor::Caller);
        let folded = |(id, choice): (String, _)| (id.to_ascii_lowercase(), choice);
        let by_subscription = by_subscription.into_iter().map(folded).collect();
        Self { by_kind, by_subscription, acts_for_callers }
    }

    /// Whether some of them act for callers, so that the caller's token is needed.
    #[must_use]
    pub const fn acts_for_callers(&self) -> bool {
        self.acts_for_callers
    }

    /// The names of all credentials in it, each once, in order.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        let all = std::iter::once(&self.by_kind).chain(self.by_subscription.values());
        let mut names: Vec<_> = all.flat_map(BTreeMap::values).map(|one| Arc::clone(&one.name)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The credential with which the gate itself does something of these kinds: the first of them that has
    /// one which acts for itself.
    #[must_use]
    pub fn own(&self, kinds: &[&str]) -> Option<&Arc<str>> {
        let mut all = kinds.iter().filter_map(|kind| self.by_kind.get(*kind));
        all.find(|chosen| chosen.acts_for == ActsFor::Itself).map(|chosen| &chosen.name)
    }

    /// The credential for an operation: by its subscription if that has a choice of its own, there
    /// by its gravest effect, else its kind, else the default.
    #[must_use]
    pub fn of(&self, operation: &Operation) -> Option<&ChosenCredential> {
        if self.by_subscription.is_empty() {
            return among(&self.by_kind, operation);
        }
        let resource = operation.acts.iter().find_map(|act| act.resource.as_ref());
        let of_subscription = resource.and_then(|resource| resource.after("subscriptions")).and_then(|id| {
            self.by_subscription
                .iter()
                .find_map(|(own, choice)| own.eq_ignore_ascii_case(id).then_some(choice))
        });
        // A subscription with a choice of its own never falls back to the identity of others.
        of_subscription.map_or_else(|| among(&self.by_kind, operation), |choice| among(choice, operation))
    }
}

/// The narrowest of a choice.
fn among<'c>(
    by_kind: &'c BTreeMap<String, ChosenCredential>,
    operation: &Operation,
) -> Option<&'c ChosenCredential> {
    const GRAVE: [Effect; 3] = [Effect::ChangeAccess, Effect::RegisterModel, Effect::DeployModel];
    let effect = GRAVE.iter().filter(|e| operation.effects.contains(**e)).find_map(|e| by_kind.get(e.name()));
    let kind = match operation.kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Delete => "delete",
        Kind::Action => "action",
    };
    effect.or_else(|| by_kind.get(kind)).or_else(|| by_kind.get("default"))
}

/// What Azure, or an endpoint, is to see.
#[derive(Debug, Clone)]
pub enum Bearer {
    /// A token of a credential for the operation's audience.
    Token {
        /// Which credential.
        credential: Arc<str>,
        /// The caller's token, for a credential that acts for callers.
        caller: Option<CallerToken>,
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
    /// Nothing either, and so it is not sent: the route has credentials, but none for this operation
    /// or subscription.
    Unchosen,
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
            (Bearer::Token { credential, caller }, Some(token)) => {
                let caused = caused(&attempt.recorded, caller.as_ref());
                self.bearer_for(credential, audience, Some((challenge, token)), caused).await.map(drop)
            }
            (Bearer::Token { .. } | Bearer::EndpointKey { .. } | Bearer::Nothing | Bearer::Unchosen, _) => {
                Ok(())
            }
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
            Bearer::Unchosen => {
                return Err(CredentialError::Unknown("(of this operation or subscription)".to_owned()));
            }
            Bearer::Token { credential, caller } => {
                let caused = caused(recorded, caller.as_ref());
                self.bearer_for(credential, audience, refused, caused).await?
            }
            Bearer::EndpointKey { credential, endpoint, slot } => {
                Some(keys.bearer(endpoint.folded(), *slot, credential).await?)
            }
        };
        let second = match bearer {
            Bearer::Token { credential, caller } if ml_token => {
                let caused = caused(recorded, caller.as_ref());
                self.bearer_for(credential, Audience::MachineLearning, None, caused).await?
            }
            Bearer::Token { .. } | Bearer::EndpointKey { .. } | Bearer::Nothing | Bearer::Unchosen => None,
        };
        Ok(UpstreamToken { header, second })
    }
}

/// By whom a request was caused, and with which token.
fn caused<'a>(recorded: &'a Recorded, caller: Option<&'a CallerToken>) -> Option<Caused<'a>> {
    caller.map(|token| Caused::by(recorded.permit().principal(), token))
}

impl Bearer {
    /// Whether Azure is to see the caller.
    #[must_use]
    pub const fn is_on_behalf(&self) -> bool {
        matches!(self, Self::Token { caller: Some(_), .. })
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
