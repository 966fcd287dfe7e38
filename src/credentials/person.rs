//! On behalf of whom: the caller's own token, and who may be spoken for with it.
//!
//! The exchange ("OAuth 2.0 On-Behalf-Of flow", Microsoft identity platform) turns the token that a
//! person sent to the gate into one for Azure in which the same person stands, so that Azure's own
//! rights and logs are the person's. It can be done for people of Entra only, with the very token
//! that proved who they are; so everybody else is told why not before anything is asked of Entra.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;
use secrecy::SecretString;
use serde_json::Value;

use super::{CredentialError, CredentialSettings};
use crate::{
    identity::{Caller, PrincipalId},
    time::Timestamp,
};

/// The `Authorization` by which a caller came. It is the request's own copy, shared, not another one.
#[derive(Clone)]
pub struct CallerToken(HeaderValue);

impl CallerToken {
    /// From the request's header.
    #[must_use]
    pub fn new(authorization: &HeaderValue) -> Self {
        let mut header = authorization.clone();
        header.set_sensitive(true);
        Self(header)
    }

    /// The bare token.
    fn text(&self) -> Option<&str> {
        let (scheme, token) = self.0.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
    }
}

impl fmt::Debug for CallerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerToken")
    }
}

/// Whose token an exchange brought: the person, and the token that was exchanged, by its digest. Two
/// people never share a key, nor do two tokens of one person: what one of them proved, a sign-in with
/// a second factor for example, the other may not have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Person {
    id: PrincipalId,
    tenant: Arc<str>,
    token: [u8; 32],
}

/// Someone who may be spoken for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caused<'a> {
    caller: &'a Caller,
    token: &'a CallerToken,
}

/// What is exchanged. It is wiped when the exchange is over.
pub(super) struct Assertion {
    pub token: SecretString,
    /// When the caller's token ends, and with it whatever was had for it.
    pub expires: Timestamp,
}

impl<'a> Caused<'a> {
    pub(super) const fn by(caller: &'a Caller, token: &'a CallerToken) -> Self {
        Self { caller, token }
    }

    /// Whom the credential would speak for.
    ///
    /// # Errors
    /// [`CredentialError::NotAPerson`], with the reason and what the caller can do.
    pub(super) fn person(&self, settings: &CredentialSettings) -> Result<Person, CredentialError> {
        const SIGN_IN: &str = "sign in as a person and send that token; machines need a route whose credential speaks for itself";
        let Caller { id, kind, tenant, claims, token_digest, subjects_at_issue, .. } = self.caller;
        let refused = |why: String, cure| Err(CredentialError::NotAPerson { why, cure });
        if subjects_at_issue.is_some() {
            return refused("an endpoint key is no sign-in".to_owned(), SIGN_IN);
        }
        let claim = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let Some(tenant) = tenant.as_ref().filter(|_| claim("tid").is_some() && claim("oid").is_some())
        else {
            let why =
                format!("`{}` is no tenant of Entra, which alone exchanges tokens of people", id.issuer);
            return refused(why, "send a token of Entra for the gate's application");
        };
        let speaks_for_a_person = claim("scp").is_some() && claim("idtyp") != Some("app");
        if !kind.has_human() || !speaks_for_a_person {
            return refused("the token is an application's own, not a person's".to_owned(), SIGN_IN);
        }
        let home = settings.tenant.as_deref();
        if home.is_none_or(|home| !home.eq_ignore_ascii_case(tenant)) || claim("tid") != Some(&**tenant) {
            let why = "the token is of another tenant than the credential".to_owned();
            return refused(why, "sign in to the tenant of the credential");
        }
        // An App ID URI does not tell whose it is; an application's id does.
        let ours = settings.client_id.as_deref();
        let audience = claim("aud").unwrap_or_default();
        if uuid::Uuid::try_parse(audience).is_ok()
            && ours.is_none_or(|ours| !ours.eq_ignore_ascii_case(audience))
        {
            let why = "the token is for another application than the credential's".to_owned();
            return refused(why, "ask for a token whose audience is the credential's application");
        }
        Ok(Person { id: id.clone(), tenant: Arc::clone(tenant), token: *token_digest })
    }

    /// The token to be exchanged: the one that was verified, and no other.
    pub(super) fn assertion(&self) -> Result<Assertion, CredentialError> {
        let text = self
            .token
            .text()
            .filter(|text| digest(&SHA256, text.as_bytes()).as_ref() == self.caller.token_digest.as_slice());
        let Some(text) = text else {
            return Err(CredentialError::NotAPerson {
                why: "the request does not carry the token by which you are known".to_owned(),
                cure: "send it as `Authorization: Bearer TOKEN`",
            });
        };
        Ok(Assertion { token: SecretString::from(text.to_owned()), expires: self.caller.expires })
    }
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assertion")
    }
}
