//! `WWW-Authenticate`: what a 401 asks of the caller, in the way that the caller's client understands.
//!
//! Nobody known: a bare `Bearer`, or Key Vault's own form. A sign-in that is not enough: the claims
//! challenge of Entra ("Claims challenges, claims requests, and client capabilities"), which MSAL and
//! the Azure SDKs answer by themselves, or for other issuers RFC 9470.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Response, header};

use super::{Gate, possession::Asks, respond::Refusal};
use crate::{
    azureml::Protocol,
    cloud::Cloud,
    http::{Body, headers},
    identity::dpop,
    policy::StepUpWanted,
};

/// Puts the challenge that fits a refusal into its answer; none if it is no 401.
pub(super) fn put(response: &mut Response<Body>, refusal: &Refusal, protocol: Option<Protocol>, gate: &Gate) {
    let parts = gate.parts();
    let authority = |issuer: &str| parts.verifier.entra_authority(issuer);
    let here = Here { public_url: &parts.public_url, cloud: parts.credentials.cloud() };
    if let Some(value) = of(refusal, protocol, &here, authority) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    if let Refusal::Unproven { asks: Asks::Proof { nonce: Some(nonce), .. }, .. } = refusal {
        response.headers_mut().insert("dpop-nonce", headers::value(nonce));
    }
}

/// What a challenge says of the gate.
struct Here<'a> {
    public_url: &'a str,
    cloud: &'a Cloud,
}

fn of(
    refusal: &Refusal,
    protocol: Option<Protocol>,
    here: &Here<'_>,
    authority: impl Fn(&str) -> Option<String>,
) -> Option<HeaderValue> {
    let text = match refusal {
        // Key Vault's clients ask without a token first, and take no other challenge: they read where
        // tokens come from and which resource they are for. The gate names itself.
        Refusal::Unauthenticated { .. } if protocol == Some(Protocol::KeyVault) => format!(
            "Bearer realm=\"amlgate\", authorization=\"{}\", resource=\"{}\"",
            here.public_url,
            here.cloud.key_vault_audience()
        ),
        Refusal::Unauthenticated { .. } => "Bearer realm=\"amlgate\"".to_owned(),
        Refusal::Unproven { asks: Asks::Certificate, .. } => {
            "Bearer realm=\"amlgate\", error=\"invalid_token\"".to_owned()
        }
        // RFC 9449, 7.1.
        Refusal::Unproven { asks: Asks::Proof { error, .. }, .. } => format!(
            "DPoP realm=\"amlgate\", error=\"{error}\", algs=\"{}\"",
            dpop::ALGORITHMS.map(|algorithm| algorithm.name()).join(" ")
        ),
        Refusal::Unproven { asks: Asks::Later, .. } => return None,
        Refusal::SignInWanted { issuer, claims, .. } => {
            insufficient_claims(authority(issuer).as_deref(), claims)
        }
        Refusal::Denied { denial, .. } => step_up(denial.step_up.as_deref()?, authority),
        Refusal::Head(_)
        | Refusal::Target(_)
        | Refusal::NoRoute
        | Refusal::NotAPerson { .. }
        | Refusal::IssuerDown
        | Refusal::GroupsUnknown
        | Refusal::RevocationsUnknown
        | Refusal::Body(_)
        | Refusal::Cut(_)
        | Refusal::Unrecorded
        | Refusal::NoToken { .. }
        | Refusal::Stale { .. }
        | Refusal::Upstream(_)
        | Refusal::TimedOut(_)
        | Refusal::UpstreamRefusesGate
        | Refusal::Internal => return None,
    };
    Some(headers::value(&text))
}

fn step_up(wanted: &StepUpWanted, authority: impl Fn(&str) -> Option<String>) -> String {
    let max_age = wanted.max_age.map(|age| format!(", max_age=\"{}\"", age.as_secs())).unwrap_or_default();
    if wanted.tenant.is_some() {
        return insufficient_claims(authority(&wanted.issuer).as_deref(), &wanted.claims().to_string())
            + &max_age;
    }
    // RFC 9470, section 3.
    let classes =
        wanted.acr_values().map(|classes| format!(", acr_values=\"{classes}\"")).unwrap_or_default();
    let methods = if wanted.methods.is_empty() {
        String::new()
    } else {
        format!(" by the method {}", wanted.methods.join(" or "))
    };
    format!(
        "Bearer realm=\"amlgate\", error=\"insufficient_user_authentication\", \
         error_description=\"another sign-in is needed{methods}\"{classes}{max_age}"
    )
}

/// A claims challenge. `authority` is the login host with the tenant.
fn insufficient_claims(authority: Option<&str>, claims: &str) -> String {
    let at =
        authority.map(|at| format!("authorization_uri=\"{at}/oauth2/v2.0/authorize\", ")).unwrap_or_default();
    format!("Bearer realm=\"\", {at}error=\"insufficient_claims\", claims=\"{}\"", STANDARD.encode(claims))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::policy::{Denial, DenialCode};

    fn told(refusal: &Refusal, protocol: Protocol) -> Option<String> {
        let authority = |issuer: &str| (issuer == "corp").then(|| "https://login.example/t".to_owned());
        let here = Here { public_url: "https://gate.example", cloud: &Cloud::public() };
        of(refusal, Some(protocol), &here, authority).map(|v| v.to_str().unwrap().to_owned())
    }

    fn denied(wanted: StepUpWanted) -> Refusal {
        let denial = Denial {
            code: DenialCode::StepUpRequired,
            cause: String::new(),
            cure: String::new(),
            entry: None,
            missing: Vec::new(),
            step_up: Some(Box::new(wanted)),
            request: None,
        };
        Refusal::Denied { denial: Box::new(denial), retry_after: None }
    }

    #[test]
    fn only_key_vaults_clients_are_challenged_in_key_vaults_way() {
        let nobody = Refusal::Unauthenticated { why: "no token" };
        assert_eq!(
            told(&nobody, Protocol::KeyVault).unwrap(),
            "Bearer realm=\"amlgate\", authorization=\"https://gate.example\", resource=\"https://vault.azure.net\""
        );
        assert_eq!(told(&nobody, Protocol::Arm).unwrap(), "Bearer realm=\"amlgate\"");
        assert_eq!(told(&Refusal::NoRoute, Protocol::KeyVault), None);
    }

    #[test]
    fn a_person_of_entra_is_asked_by_a_claims_challenge() {
        let wanted = StepUpWanted {
            issuer: "corp".into(),
            tenant: Some("t".into()),
            contexts: vec!["c1".into()],
            ..StepUpWanted::default()
        };
        for protocol in [Protocol::Arm, Protocol::KeyVault] {
            let said = told(&denied(wanted.clone()), protocol).unwrap();
            let (before, claims) = said.split_once("claims=\"").unwrap();
            assert_eq!(
                before,
                "Bearer realm=\"\", authorization_uri=\"https://login.example/t/oauth2/v2.0/authorize\", error=\"insufficient_claims\", "
            );
            let claims: Value =
                serde_json::from_slice(&STANDARD.decode(claims.trim_end_matches('"')).unwrap()).unwrap();
            assert_eq!(claims, json!({"access_token": {"acrs": {"essential": true, "value": "c1"}}}));
        }
    }

    #[test]
    fn others_are_asked_as_rfc_9470_says() {
        let wanted = StepUpWanted {
            issuer: "other".into(),
            classes: vec!["gold".into(), "silver".into()],
            methods: vec!["mfa".into()],
            max_age: Some(Duration::from_secs(300)),
            ..StepUpWanted::default()
        };
        assert_eq!(
            told(&denied(wanted), Protocol::Arm).unwrap(),
            "Bearer realm=\"amlgate\", error=\"insufficient_user_authentication\", error_description=\"another \
             sign-in is needed by the method mfa\", acr_values=\"gold silver\", max_age=\"300\""
        );
    }
}
