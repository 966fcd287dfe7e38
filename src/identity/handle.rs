//! Handles: what a caller gets in place of an endpoint's key.
//!
//! A handle seals who asked, for which endpoint and key slot, and until when; it contains no key.
//! The gate alone can read it, and swaps it for the real key on that endpoint's route. Subjects are
//! those that matched when it was issued, because a handle carries no claims; policies and
//! revocations are the present ones. It ends within [`MAX_LIFE`], never after the token that asked.
//!
//! AES-256-GCM with a random nonce; the sealing keys are derived for this use alone, the first
//! seals, all open, so that rotation breaks nothing (DECISIONS 8 and 11).

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{Binding, Caller, Groups, Principal, PrincipalId, PrincipalKind, Verifier, verifier::digest_of};
use crate::{
    secrets::{Purpose, Seal},
    time::Timestamp,
};

/// Every handle begins with this: the version of its format.
pub const PREFIX: &str = "amlgh1.";
/// The longest life of a handle.
pub const MAX_LIFE: Duration = Duration::from_secs(3_600);
/// The longest handle, in bytes: it travels in headers of clients that were written for keys.
const MAX_LEN: usize = 8 << 10;

/// Which of an endpoint's keys a handle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// `primaryKey`.
    Primary,
    /// `secondaryKey`.
    Secondary,
    /// `accessToken` of an endpoint with Azure ML tokens.
    Token,
}

/// Why a handle is not issued or not redeemed. Callers learn nothing of it but 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// It does not begin with [`PREFIX`].
    #[error("it is not a handle")]
    NotAHandle,
    /// No sealing key of ours opens it: forged, changed, or of another gate.
    #[error("the handle was not sealed by this gate")]
    Sealed,
    /// Its time has passed.
    #[error("the handle has expired")]
    Expired,
    /// The issuer that vouched for its holder is no longer configured.
    #[error("the issuer of the handle's holder is no longer configured")]
    Issuer,
    /// The caller's token ends now or counts for a break-glass alone, there is too much to seal, or
    /// software acts with the token: what a handle keeps of its holder says too little of the human
    /// behind.
    #[error("no handle can be issued for this caller")]
    Unissuable,
}

/// Issues and redeems handles. Shared by all cores.
pub struct Handles {
    seals: Vec<RandomizedNonceKey>,
    verifier: Arc<Verifier>,
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handles({} keys)", self.seals.len())
    }
}

/// What a handle says, proven.
#[derive(Debug, Clone)]
pub struct HandlePrincipal {
    /// Its holder; `subjects_at_issue` is set, claims are empty.
    pub principal: Principal,
    /// The endpoint that it is worth something at: the caller of [`Handles::redeem`] compares.
    pub endpoint: Arc<str>,
    /// Which key it stands for.
    pub slot: Slot,
    /// When it was issued.
    pub issued: Timestamp,
}

/// The digest of a certificate, and the thumbprint of a key.
type Bound = (Option<[u8; 32]>, Option<Box<str>>);

/// What is sealed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    issuer: Arc<str>,
    subject: Arc<str>,
    machine: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    from_pull_request: bool,
    /// The human's issuer and subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    human: Option<(Arc<str>, Arc<str>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    display: Option<Arc<str>>,
    /// What the caller was bound to: SHA-256 of a certificate, and the thumbprint of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound: Option<Bound>,
    subjects: Arc<[Arc<str>]>,
    endpoint: Arc<str>,
    slot: Slot,
    issued: u64,
    expires: u64,
}

impl Handles {
    /// Handles sealed with the first key of `seal`, opened with any. Holders must come from an
    /// issuer that `verifier` knows.
    #[must_use]
    pub fn new(seal: &Seal, verifier: Arc<Verifier>) -> Self {
        let keys = seal.keys(Purpose::Handle);
        // A key of this length is never refused.
        let seals =
            keys.iter().filter_map(|key| RandomizedNonceKey::new(&AES_256_GCM, &**key).ok()).collect();
        Self { seals, verifier }
    }

    /// Whether a bearer is a handle by its looks, so that it is redeemed and not verified.
    #[must_use]
    pub fn is_handle(bearer: &str) -> bool {
        bearer.starts_with(PREFIX)
    }

    /// A handle for `principal`, who matched `subjects`, at `endpoint`.
    ///
    /// # Errors
    /// [`HandleError::Unissuable`] if the principal's token has ended, or the subjects are too many.
    pub fn issue(
        &self,
        principal: &Principal,
        subjects: Vec<Arc<str>>,
        endpoint: &str,
        slot: Slot,
        now: Timestamp,
    ) -> Result<String, HandleError> {
        let expires = now.plus(MAX_LIFE).min(principal.expires);
        // Who is known by a code is known for a break-glass, and a handle would outlive that.
        if expires <= now || principal.kind.is_agent() || principal.offline_glass().is_some() {
            return Err(HandleError::Unissuable);
        }
        let content = Content {
            issuer: Arc::clone(&principal.id.issuer),
            subject: Arc::clone(&principal.id.subject),
            machine: principal.kind == PrincipalKind::Machine,
            from_pull_request: principal.from_pull_request,
            human: principal.human.as_ref().map(|h| (Arc::clone(&h.issuer), Arc::clone(&h.subject))),
            tenant: principal.tenant.clone(),
            client: principal.client.clone(),
            display: principal.display.clone(),
            bound: principal.binds().map(|binding| (binding.certificate, binding.key)),
            subjects: subjects.into(),
            endpoint: endpoint.into(),
            slot,
            issued: now.as_millis(),
            expires: expires.as_millis(),
        };
        let mut sealed = serde_json::to_vec(&content).map_err(|_| HandleError::Unissuable)?;
        let seal = self.seals.first().ok_or(HandleError::Unissuable)?;
        let nonce = seal
            .seal_in_place_append_tag(Aad::from(PREFIX.as_bytes()), &mut sealed)
            .map_err(|_| HandleError::Unissuable)?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        let handle = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        if handle.len() > MAX_LEN { Err(HandleError::Unissuable) } else { Ok(handle) }
    }

    /// What a handle says, if this gate sealed it, its time has not passed, and its holder's
    /// issuer is still configured.
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn redeem(&self, handle: &str, now: Timestamp) -> Result<HandlePrincipal, HandleError> {
        let text = handle.strip_prefix(PREFIX).ok_or(HandleError::NotAHandle)?;
        if handle.len() > MAX_LEN {
            return Err(HandleError::Sealed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| HandleError::Sealed)?;
        let content = self.open(&bytes).ok_or(HandleError::Sealed)?;
        let expires = Timestamp::from_millis(content.expires);
        if now >= expires {
            return Err(HandleError::Expired);
        }
        if !self.verifier.knows(&content.issuer) {
            return Err(HandleError::Issuer);
        }
        let principal = Principal::verified(Caller {
            id: PrincipalId { issuer: content.issuer, subject: content.subject },
            kind: if content.machine { PrincipalKind::Machine } else { PrincipalKind::Person },
            tenant: content.tenant,
            client: content.client,
            display: content.display,
            // The subjects stand instead; nothing may be concluded from claims that are not there.
            groups: Groups::Overage,
            roles: Arc::default(),
            claims: Arc::default(),
            expires,
            from_pull_request: content.from_pull_request,
            subjects_at_issue: Some(content.subjects),
            reviewers: None,
            human: content.human.map(|(issuer, subject)| PrincipalId { issuer, subject }),
            token_digest: digest_of(handle),
        })
        .bound(content.bound.map(|(certificate, key)| Binding { certificate, key }));
        let issued = Timestamp::from_millis(content.issued);
        Ok(HandlePrincipal { principal, endpoint: content.endpoint, slot: content.slot, issued })
    }

    fn open(&self, bytes: &[u8]) -> Option<Content> {
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        self.seals.iter().find_map(|seal| {
            let mut sealed = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let opened = seal.open_in_place(nonce, Aad::from(PREFIX.as_bytes()), &mut sealed).ok()?;
            serde_json::from_slice(opened).ok()
        })
    }
}
