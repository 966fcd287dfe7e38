//! What a live stream holds, so that it can be judged again while it runs (DECISIONS 25).
//!
//! Upgrades, event streams, long bodies and tunnels outlive the decision that admitted them. Their
//! lease keeps everything that the decision was made of; [`PolicySet::renew`](super::PolicySet::renew)
//! asks the policies in force now. Obligations that were satisfied once (a limit) are not asked for
//! again. It does not know who else ends a stream: revocations and drains are not its business.

use std::{sync::Arc, time::Duration};

use super::{
    Approval, Azure, DecisionId, Denial, EntryRef, Permit, Question, RequestFacts, Review, Standing,
};
use crate::{
    azureml::Operation,
    identity::{BadCertificate, Principal},
    time::Timestamp,
};

/// What becomes of a stream when the token that opened it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTokenExpiry {
    /// It ends with the token.
    #[default]
    End,
    /// It goes on until its greatest age.
    Keep,
}

/// Bounds on live streams (`streams` in the configuration).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// `on_token_expiry`.
    pub on_token_expiry: OnTokenExpiry,
    /// `max_age`.
    pub max_age: Duration,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { on_token_expiry: OnTokenExpiry::End, max_age: Duration::from_secs(12 * 3600) }
    }
}

/// The right to go on, until it is asked for again.
#[derive(Debug, Clone)]
pub struct Lease {
    principal: Principal,
    operation: Operation,
    request: RequestFacts,
    standing: Standing,
    azure: Azure,
    generation: u64,
    limits: StreamLimits,
    /// The approvals that it had when it was opened, by their versions.
    approved: Box<[[u8; 32]]>,
    /// The entries for which another's word was heard when it was opened, by their names.
    heard: Box<[Arc<str>]>,
    /// The reviews that it had when it was opened.
    reviewed: Box<[Arc<Review>]>,
}

/// Why a live stream ends.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Cut {
    /// The policies in force no longer allow it.
    #[error("the policies no longer allow it: {}", .0.cause)]
    Denied(Box<Denial>),
    /// The policies in force demand an approval that it does not have.
    #[error("entry `{0}` demands an approval that it does not have")]
    Unapproved(Arc<str>),
    /// The policies in force want another's word that was not heard of it.
    #[error("entry `{0}` wants Clutch's word, which was not asked for when it was opened")]
    Unheard(Arc<str>),
    /// The policies in force demand a review that was not looked for.
    #[error("entry `{0}` demands reviewed code, which was not looked for when it was opened")]
    Unreviewed(Arc<str>),
    /// The token that opened it ended.
    #[error("the token that opened it expired at {0:?}")]
    TokenExpired(Timestamp),
    /// The certificate with which it was opened no longer stands.
    #[error("{0}")]
    Certificate(BadCertificate),
    /// It reached the greatest age that a stream may have.
    #[error("it reached the greatest age of a stream, {} s", .0.as_secs())]
    TooOld(Duration),
}

impl Lease {
    pub(super) fn of(permit: &Permit, limits: StreamLimits) -> Self {
        Self {
            principal: permit.principal().clone(),
            operation: permit.operation().clone(),
            request: permit.request().clone(),
            standing: permit.standing(),
            azure: permit.azure().clone(),
            generation: permit.generation(),
            limits,
            approved: permit.judgement().approvals().map(|approval| approval.version).collect(),
            heard: permit.judgement().opinions().map(|entry| Arc::clone(&entry.name)).collect(),
            reviewed: permit.judgement().reviews().cloned().collect(),
        }
    }

    /// Whether the word that is wanted now was heard.
    pub(super) fn is_heard(&self, wanted: &EntryRef) -> bool {
        self.heard.contains(&wanted.name)
    }

    /// Whether the review that is wanted now is one that it had.
    pub(super) fn is_reviewed(&self, wanted: &Review) -> bool {
        self.reviewed.iter().any(|had| had.is_as(wanted))
    }

    /// Whether the approval that is wanted now is one that it had.
    pub(super) fn is_approved(&self, wanted: &Approval) -> bool {
        self.approved.contains(&wanted.version)
    }

    /// The decision that opened the stream.
    #[must_use]
    pub fn decision(&self) -> DecisionId {
        self.request.decision
    }

    /// The number of the policies that allowed it, or that were asked last.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whose stream it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What it does.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// The request that opened it.
    #[must_use]
    pub fn request(&self) -> &RequestFacts {
        &self.request
    }

    /// The instant at which it ends whatever the policies say.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        let oldest = self.request.received.plus(self.limits.max_age);
        match self.limits.on_token_expiry {
            OnTokenExpiry::End => oldest.min(self.principal.expires),
            OnTokenExpiry::Keep => oldest,
        }
    }

    /// Whether the certificate with which it was opened was revoked, or its authority exchanged: to
    /// be asked often, and cheap.
    #[must_use]
    pub fn is_certified(&self, now: Timestamp) -> bool {
        self.principal.stands(now).is_ok()
    }

    /// What was known of the caller's rights in Azure.
    #[must_use]
    pub fn azure(&self) -> &Azure {
        &self.azure
    }

    /// The lease with what is known now of the caller's rights in Azure.
    pub fn refresh(&mut self, azure: Azure) {
        self.azure = azure;
    }

    /// The lease with what is known now of the caller's groups.
    pub fn regroup(&mut self, principal: Principal) {
        self.principal = principal;
    }

    /// The lease without the break-glass that its request was made under: that is over.
    pub fn mend(&mut self) {
        self.request.glass = None;
    }

    /// The lease as policies of this number are asked.
    pub fn asks(&mut self, generation: u64) {
        self.generation = generation;
    }

    pub(super) fn ended(&self, now: Timestamp) -> Result<(), Cut> {
        if self.limits.on_token_expiry == OnTokenExpiry::End && now >= self.principal.expires {
            return Err(Cut::TokenExpired(self.principal.expires));
        }
        match (self.principal.stands(now), self.limits.on_token_expiry) {
            (Ok(()), _) | (Err(BadCertificate::Expired), OnTokenExpiry::Keep) => {}
            (Err(why), _) => return Err(Cut::Certificate(why)),
        }
        if now.since(self.request.received) >= self.limits.max_age {
            return Err(Cut::TooOld(self.limits.max_age));
        }
        Ok(())
    }

    pub(super) fn question(&self, now: Timestamp) -> Question<'_> {
        Question {
            caller: &self.principal,
            operation: &self.operation,
            request: &self.request,
            now,
            standing: self.standing,
            azure: &self.azure,
        }
    }
}
