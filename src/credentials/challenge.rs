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
    asked: Box<str>,
}

impl Challenge {
    /// From a 401's headers: `Bearer ... error="insufficient_claims", claims="BASE64"`. There may be
    /// several challenges, in one header or in several, and their parameters come in any order
    /// (RFC 9110, section 11.6.1).
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenges)
            .find_map(|challenge| challenge.demand())
    }

    /// What was asked for, as JSON: for a caller who must ask for it in their own name.
    #[must_use]
    pub fn asked(&self) -> &str {
        &self.asked
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

/// One challenge of a header.
struct Read<'h> {
    scheme: &'h str,
    parameters: Vec<(&'h str, String)>,
}

impl Read<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The claims that it demands, if it is of that kind.
    fn demand(&self) -> Option<Challenge> {
        let wanted = self.scheme.eq_ignore_ascii_case("bearer")
            && self.parameter("error") == Some("insufficient_claims");
        let encoded = self.parameter("claims").filter(|_| wanted)?;
        let decoded = GeneralPurpose::new(&alphabet::STANDARD, LENIENT)
            .decode(encoded)
            .or_else(|_| GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT).decode(encoded))
            .ok()?;
        let value: Value = serde_json::from_slice(&decoded).ok()?;
        value.is_object().then(|| {
            let asked = value.to_string().into();
            Challenge { claims: merged(value).to_string(), asked }
        })
    }
}

/// The challenges of one header, as far as it can be read.
fn challenges(value: &str) -> Vec<Read<'_>> {
    let mut found: Vec<Read<'_>> = Vec::new();
    let mut rest = value;
    loop {
        let word;
        (word, rest) = token(rest.trim_start_matches([' ', '\t', ',']));
        if word.is_empty() {
            return found;
        }
        let Some(behind) = rest.trim_start_matches([' ', '\t']).strip_prefix('=') else {
            found.push(Read { scheme: word, parameters: Vec::new() });
            continue;
        };
        let behind = behind.trim_start_matches([' ', '\t']);
        let value;
        (value, rest) = match behind.strip_prefix('"').map(quoted) {
            Some(Some(read)) => read,
            // A quotation without an end: what is behind it cannot be told from what is in it.
            Some(None) => return found,
            // Unquoted, and with the padding of base64 where a server did not quote it.
            None => {
                let (value, rest) = token(behind);
                (value.to_owned(), rest.trim_start_matches('='))
            }
        };
        if let Some(challenge) = found.last_mut() {
            challenge.parameters.push((word, value));
        }
    }
}

/// A token, `/` included for unquoted base64, and what is behind it.
fn token(text: &str) -> (&str, &str) {
    let end = |c: char| !c.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~/".contains(c);
    text.split_at(text.find(end).unwrap_or(text.len()))
}

/// The content of a quotation, its escapes resolved, and what is behind it; `None` without an end.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut content = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return Some((content, characters.as_str())),
            '\\' => content.push(characters.next()?),
            c => content.push(c),
        }
    }
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
    fn several_challenges_in_one_header_are_told_apart() {
        let claims = base64::engine::general_purpose::STANDARD.encode(r#"{"access_token":{"a":">>??"}}"#);
        for value in [
            format!(
                "Bearer error=\"invalid_token\", Bearer error=\"insufficient_claims\", claims=\"{claims}\""
            ),
            format!("Negotiate abc==, bearer Error=insufficient_claims, Claims = {claims}"),
            format!(
                "Bearer realm=\"a, error=\\\"x\\\"\", error=\"insufficient_claims\",claims=\"{claims}\", Basic"
            ),
        ] {
            assert!(of(&value).unwrap().claims().contains(">>??"), "{value}");
        }
    }

    #[test]
    fn what_stands_inside_a_quotation_or_in_another_scheme_is_no_challenge() {
        for value in [
            r#"Bearer realm="error=\"insufficient_claims\", claims=\"e30=\"""#,
            r#"Basic error="insufficient_claims", claims="e30=""#,
            r#"Bearer error="insufficient_claims", Basic claims="e30=""#,
            r#"Bearer realm="open, error="insufficient_claims", claims="e30=""#,
            r#"error="insufficient_claims", claims="e30=""#,
        ] {
            assert_eq!(of(value), None, "{value}");
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
