//! Why there is no token, and what mends it.

use std::{sync::Arc, time::Duration};

/// Why a token could not be had. Nothing of a secret or token is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The configuration is wrong: trying again changes nothing.
    #[error("{what} ({code}): {mend}")]
    Fatal {
        /// `AADSTS7000215`, or the protocol's error word.
        code: String,
        /// What is wrong.
        what: String,
        /// How to mend it.
        mend: &'static str,
    },
    /// It may pass.
    #[error("{what}")]
    Passing {
        /// What happened.
        what: String,
        /// When the other side wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The credential speaks for the person who calls, and this caller is none whom it can speak for.
    #[error("nobody can be spoken for: {why}; {cure}")]
    NotAPerson {
        /// Why not.
        why: String,
        /// What the caller can do.
        cure: &'static str,
    },
    /// Entra wants the person to sign in again, with these claims where it names some.
    #[error("{what} ({code})")]
    SignInWanted {
        /// `AADSTS50076`, or the protocol's error word.
        code: String,
        /// What is wrong.
        what: String,
        /// A claims request, as JSON.
        claims: Option<Arc<str>>,
    },
    /// The caller's token has ended, or Entra does not take it any more.
    #[error("{0}")]
    CallerTokenOver(String),
    /// There is no credential of that name.
    #[error("there is no credential called `{0}`")]
    Unknown(String),
}

impl CredentialError {
    pub(super) fn passing(what: impl Into<String>) -> Self {
        Self::Passing { what: what.into(), retry_after: None }
    }

    pub(super) fn local(what: impl Into<String>, mend: &'static str) -> Self {
        Self::Fatal { code: "local".to_owned(), what: what.into(), mend }
    }

    /// Whether its cause is the caller's token or sign-in, not the credential.
    pub(super) const fn is_the_callers(&self) -> bool {
        match self {
            Self::NotAPerson { .. } | Self::SignInWanted { .. } | Self::CallerTokenOver(_) => true,
            Self::Fatal { .. } | Self::Passing { .. } | Self::Unknown(_) => false,
        }
    }

    /// Whether asking again may help.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Passing { .. })
    }
}

/// A known error of the token endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Remedy {
    /// The number behind `AADSTS`.
    pub code: u32,
    /// How to mend it.
    pub mend: &'static str,
}

/// Errors that say that the configuration is wrong, and what mends it.
const REMEDIES: &[(&[u32], &str)] = &[
    (&[7_000_215], "the client secret is wrong: give the secret's value, not its id"),
    (&[7_000_222], "the client secret has expired: make a new one and put it where `client_secret` points"),
    (&[7_000_218, 900_144, 900_971, 90_014], "the request was incomplete: check the credential's block"),
    (&[700_016], "the application is not in this tenant: check `client_id` and `tenant`"),
    (
        &[700_027, 50_012],
        "the certificate is not registered with the application, or has expired: upload its public half",
    ),
    (&[700_024], "the assertion is outside its time: check this machine's clock"),
    (
        &[70_021, 700_211, 700_212, 700_213],
        "no federated credential of the application fits the token's issuer, subject and audience",
    ),
    (&[70_011, 28_002, 28_003, 700_022, 700_023], "the scope is not known: check `cloud`"),
    (
        &[500_011, 50_001],
        "the tenant has no service principal of the resource: register Microsoft.MachineLearningServices in the subscription",
    ),
    (&[90_002, 9_001_023], "there is no such tenant: check `tenant`"),
    (&[65_001, 90_094], "an administrator must consent to the application"),
    (&[50_020], "the identity is not of this tenant"),
    (&[50_105], "the application must be assigned to the resource's application"),
    (&[53_003, 530_032], "Conditional Access blocks the application: exempt the gate's address or identity"),
    (&[900_382, 900_432], "the application is of another cloud: check `cloud`"),
];

/// Errors that pass although their status says otherwise.
const PASSING: &[u32] = &[90_006, 90_024, 90_033, 90_090, 90_012, 50_196, 90_055];

/// Errors of an exchange that only the person can mend, by signing in again.
const INTERACTIVE: &[u32] =
    &[50_055, 50_057, 50_072, 50_074, 50_076, 50_078, 50_079, 50_125, 50_158, 50_173, 53_000, 700_020];

/// Errors of an exchange whose cause is the caller's token.
const TOKEN_OVER: &[u32] = &[50_013, 500_133, 700_082, 70_043];

/// What mends a missing consent, where a credential speaks for callers.
const CONSENT: &str = "consent is missing: grant the application the delegated permission `user_impersonation` of \"Azure Service Management\" (and of \"Azure Machine Learning Services\" for scoring), with an administrator's consent: `az ad app permission admin-consent --id CLIENT_ID`";

/// Reads the error of an exchange of a caller's token.
pub(super) fn refused_for_caller(
    status: http::StatusCode,
    body: &[u8],
    retry_after: Option<Duration>,
) -> CredentialError {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Refusal {
        error: String,
        error_codes: Vec<u32>,
        claims: Option<String>,
    }
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let has = |list: &[u32]| refusal.error_codes.iter().any(|code| list.contains(code));
    match refused(status, body, retry_after) {
        CredentialError::Fatal { code, what, .. } if has(TOKEN_OVER) => {
            CredentialError::CallerTokenOver(format!("{what} ({code})"))
        }
        CredentialError::Fatal { code, what, .. }
            if refusal.claims.is_some()
                || (refusal.error == "interaction_required" && !has(&[65_001, 90_094]))
                || has(INTERACTIVE) =>
        {
            // Only what is a claims request goes on to the caller.
            let claims = refusal.claims.filter(|claims| {
                serde_json::from_str::<serde_json::Value>(claims).is_ok_and(|claims| claims.is_object())
            });
            CredentialError::SignInWanted { code, what, claims: claims.map(Into::into) }
        }
        CredentialError::Fatal { code, what, .. } if has(&[65_001, 90_094]) => {
            CredentialError::Fatal { code, what, mend: CONSENT }
        }
        other @ (CredentialError::Fatal { .. }
        | CredentialError::Passing { .. }
        | CredentialError::NotAPerson { .. }
        | CredentialError::SignInWanted { .. }
        | CredentialError::CallerTokenOver(_)
        | CredentialError::Unknown(_)) => other,
    }
}

/// Reads a token endpoint's error.
pub(super) fn refused(
    status: http::StatusCode,
    body: &[u8],
    retry_after: Option<Duration>,
) -> CredentialError {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Refusal {
        error: String,
        error_description: String,
        error_codes: Vec<u32>,
    }
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let code = refusal.error_codes.first().copied().or_else(|| described(&refusal.error_description));
    // What names the fault: trace ids follow it, on the same line or on further ones.
    let what = refusal.error_description.lines().next().unwrap_or_default();
    let what: String = what.split(" Trace ID:").next().unwrap_or_default().chars().take(300).collect();
    let what = if what.is_empty() { format!("the token endpoint answered {status}") } else { what };
    let passing = status.is_server_error()
        || status == http::StatusCode::TOO_MANY_REQUESTS
        || refusal.error == "temporarily_unavailable"
        || code.is_some_and(|c| PASSING.contains(&c));
    if passing {
        return CredentialError::Passing { what, retry_after };
    }
    let mend = code
        .and_then(|c| REMEDIES.iter().find(|(codes, _)| codes.contains(&c)))
        .map_or("look the code up in Microsoft's list of sign-in errors", |(_, mend)| mend);
    let code = code.map_or(refusal.error, |c| format!("AADSTS{c}"));
    CredentialError::Fatal { code, what, mend }
}

fn described(text: &str) -> Option<u32> {
    let digits: String = text.strip_prefix("AADSTS")?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// `Retry-After` in seconds; a date is not worth the care here.
pub(super) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(300)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_secret_is_fatal_and_says_how_to_mend_it() {
        let body = br#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace ID: x","error_codes":[7000215]}"#;
        let error = refused(http::StatusCode::UNAUTHORIZED, body, None);
        assert!(!error.is_passing());
        let said = error.to_string();
        assert!(
            said.contains("AADSTS7000215") && said.contains("not its id") && !said.contains("Trace"),
            "{said}"
        );
    }

    #[test]
    fn throttling_and_outages_pass() {
        for status in [429, 500, 503] {
            let status = http::StatusCode::from_u16(status).unwrap();
            assert!(refused(status, b"<html>", Some(Duration::from_secs(7))).is_passing());
        }
        let body = br#"{"error":"invalid_request","error_codes":[90033]}"#;
        assert!(refused(http::StatusCode::BAD_REQUEST, body, None).is_passing());
    }
}
