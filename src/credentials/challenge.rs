//! Claims challenges of Azure: continuous access evaluation asks for a token with certain claims.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, header::WWW_AUTHENTICATE};
use serde_json::{Value, json};

/// Both alphabets occur, with and without padding.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// The claims that Azure wants in the next token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    claims: String,
}

impl Challenge {
    /// From a 401's headers: `Bearer ... error="insufficient_claims", claims="BASE64"`. There may be
    /// several challenges and their parameters come in any order.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok()).find_map(|value| {
            if parameter(value, "error")? != "insufficient_claims" {
                return None;
            }
            let encoded = parameter(value, "claims")?;
            let decoded = GeneralPurpose::new(&alphabet::STANDARD, LENIENT)
                .decode(encoded)
                .or_else(|_| GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT).decode(encoded))
                .ok()?;
            let value: Value = serde_json::from_slice(&decoded).ok()?;
            value.is_object().then(|| Self { claims: merged(value).to_string() })
        })
    }

    /// The `claims` parameter of the next token request.
    pub(super) fn claims(&self) -> &str {
        &self.claims
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, self.claims.as_bytes()).as_ref());
        out
    }
}

/// What every token is asked with: only then does Azure send challenges at all.
pub(super) fn capable() -> Value {
    json!({"access_token": {"xms_cc": {"values": ["CP1"]}}})
}

fn merged(mut claims: Value) -> Value {
    if let Some(tokens) = claims.as_object_mut()
        && let Some(access) = tokens.entry("access_token").or_insert_with(|| json!({})).as_object_mut()
    {
        access.insert("xms_cc".to_owned(), json!({"values": ["CP1"]}));
    }
    claims
}

/// A quoted parameter of a challenge.
fn parameter<'h>(value: &'h str, name: &str) -> Option<&'h str> {
    let mut rest = value;
    while let Some(at) = rest.find(name) {
        let (before, behind) = rest.split_at_checked(at)?;
        let behind = behind.get(name.len()..)?;
        let bounded = before.chars().next_back().is_none_or(|c| matches!(c, ' ' | ',' | '\t'));
        if bounded
            && let Some(quoted) =
                behind.trim_start().strip_prefix('=').and_then(|b| b.trim_start().strip_prefix('"'))
        {
            return quoted.split('"').next();
        }
        rest = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(value: &str) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"x\""));
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        Challenge::of(&headers)
    }

    #[test]
    fn a_challenge_is_found_among_others_in_any_order_and_alphabet() {
        let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;
        let encoded = base64::engine::general_purpose::STANDARD.encode(claims);
        for value in [
            format!("Bearer realm=\"\", error=\"insufficient_claims\", claims=\"{encoded}\""),
            format!("Bearer claims=\"{}\", error=\"insufficient_claims\"", encoded.trim_end_matches('=')),
        ] {
            let challenge = of(&value).unwrap();
            assert!(challenge.claims().contains("1604106651") && challenge.claims().contains("CP1"));
        }
    }

    #[test]
    fn any_other_401_is_no_challenge() {
        for value in [
            "Bearer error=\"invalid_token\", claims=\"e30=\"",
            "Bearer error=\"insufficient_claims\"",
            "Bearer error=\"insufficient_claims\", claims=\"!!\"",
        ] {
            assert_eq!(of(value), None, "{value}");
        }
    }
}
