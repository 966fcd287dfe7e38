//! What of a body is not kept: the places that an entry names, and always what is a secret by its name
//! or looks like a token.
//!
//! A document is read, and what stands in the named places is replaced in it. What cannot be read as
//! one (because it is something else, or was cut) is not kept where places are named: nobody could say
//! that they are left out. Where none are, it is kept without what looks like a secret in plain text.

use serde_json::Value;

use crate::policy::Pointer;

/// What stands in the place of what is left out.
pub(super) const REDACTED: &str = "[redacted]";
/// A token is not shorter, in bytes.
const SHORTEST_TOKEN: usize = 20;

/// Words that make the name of a member one of a secret, wherever they stand in it.
const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "accountkey",
    "accesskey",
    "primarykey",
    "secondarykey",
    "sharedkey",
    "privatekey",
    "connectionstring",
    "authorization",
    "sharedaccesssignature",
    "saskey",
    "sasuri",
];
/// Names that are those of secrets as a whole, or end one.
const SECRET_ENDS: &[&str] = &["token", "pwd", "sig", "cookie", "jwt", "credential"];

/// What may be kept of a body.
pub(super) struct Prepared {
    pub bytes: Vec<u8>,
    /// How many things were left out.
    pub redacted: u64,
}

/// Leaves out of a body what must not be kept; `whole` says whether it is all of it.
///
/// # Errors
/// The word for why nothing of it may be kept.
pub(super) fn prepare(
    body: &[u8],
    whole: bool,
    media: &str,
    places: &[Pointer],
) -> Result<Prepared, &'static str> {
    let looks = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let json = media.to_ascii_lowercase().contains("json") || matches!(looks, Some(b'{' | b'['));
    let document =
        (whole && (json || !places.is_empty())).then(|| serde_json::from_slice::<Value>(body).ok());
    if let Some(mut value) = document.flatten() {
        let mut redacted = 0;
        for place in places {
            redacted += hide(&mut value, place.steps());
        }
        redacted += clean(&mut value);
        return match serde_json::to_vec(&value) {
            Ok(bytes) => Ok(Prepared { bytes, redacted }),
            Err(_) => Err("unparsable"),
        };
    }
    match (places.is_empty() || body.is_empty(), whole) {
        (true, _) => Ok(scrub(body)),
        (false, true) => Err("unparsable"),
        (false, false) => Err("too_large"),
    }
}

/// Replaces what stands at a place; how much that was.
fn hide(value: &mut Value, steps: &[Box<str>]) -> u64 {
    let Some((step, rest)) = steps.split_first() else {
        *value = REDACTED.into();
        return 1;
    };
    match value {
        Value::Object(members) => members
            .iter_mut()
            .filter(|(name, _)| **step == *"*" || name.eq_ignore_ascii_case(step))
            .map(|(_, member)| hide(member, rest))
            .sum(),
        Value::Array(items) if **step == *"*" => items.iter_mut().map(|item| hide(item, rest)).sum(),
        Value::Array(items) => step
            .parse()
            .ok()
            .and_then(|number: usize| items.get_mut(number))
            .map_or(0, |item| hide(item, rest)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Replaces what is a secret by its name, or looks like a token.
fn clean(value: &mut Value) -> u64 {
    match value {
        Value::Object(members) => {
            let mut redacted = 0;
            for (name, member) in members.iter_mut() {
                let held = match member {
                    Value::Null | Value::Bool(_) | Value::Number(_) => false,
                    Value::String(text) => !text.is_empty() && text != REDACTED,
                    Value::Array(_) | Value::Object(_) => true,
                };
                if held && is_secret(name) {
                    *member = REDACTED.into();
                    redacted += 1;
                } else {
                    redacted += clean(member);
                }
            }
            // A token may be a name, too.
            let tokens: Vec<String> =
                members.keys().filter(|name| scrub(name.as_bytes()).redacted > 0).cloned().collect();
            for name in tokens {
                members.remove(&name);
                redacted += 1;
            }
            redacted
        }
        Value::Array(items) => items.iter_mut().map(clean).sum(),
        Value::String(text) => {
            let found = scrub(text.as_bytes());
            if found.redacted > 0 {
                // Nothing but ASCII was replaced.
                *text = String::from_utf8_lossy(&found.bytes).into_owned();
            }
            found.redacted
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// Whether a member of that name holds a secret.
fn is_secret(name: &str) -> bool {
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word)) || SECRET_ENDS.iter().any(|end| name.ends_with(end))
}

/// Replaces in a text what follows the name of a secret, and what looks like a token.
pub(super) fn scrub(text: &[u8]) -> Prepared {
    let mut out = Vec::with_capacity(text.len());
    let (mut redacted, mut at) = (0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let word = rest.iter().take_while(|byte| is_word(**byte)).count();
        let (name, behind) = rest.split_at(word);
        if word == 0 {
            out.extend(rest.first());
            at += 1;
            continue;
        }
        let token = token(rest);
        if token > 0 {
            out.extend_from_slice(REDACTED.as_bytes());
            (redacted, at) = (redacted + 1, at + token);
            continue;
        }
        out.extend_from_slice(name);
        at += word;
        let between = value_at(name, behind);
        let value = between.map_or(0, |between| value(behind, between));
        if let Some(between) = between.filter(|_| value > 0) {
            out.extend_from_slice(behind.get(..between).unwrap_or_default());
            out.extend_from_slice(REDACTED.as_bytes());
            (redacted, at) = (redacted + 1, at + between + value);
        }
    }
    Prepared { bytes: out, redacted }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// How long the token is with which a text begins: a JSON web token, or a handle of the gate.
fn token(text: &[u8]) -> usize {
    let length =
        text.iter().take_while(|byte| is_word(**byte) || matches!(byte, b'.' | b'+' | b'/' | b'=')).count();
    let found = text.get(..length).unwrap_or_default();
    let is_token = (found.starts_with(b"eyJ") || found.starts_with(b"amlgh"))
        && found.contains(&b'.')
        && length >= SHORTEST_TOKEN;
    if is_token { length } else { 0 }
}

/// Where behind the name of a secret its value begins: behind `=` or `:`, or behind the word `Bearer`.
fn value_at(name: &[u8], behind: &[u8]) -> Option<usize> {
    let blanks = |from: usize| {
        behind
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|b| matches!(b, b' ' | b'\t' | b'\\' | b'"' | b'\''))
            .count()
    };
    if name.eq_ignore_ascii_case(b"bearer") {
        let before = blanks(0);
        return (before > 0).then_some(before);
    }
    if name.len() > 64 || !std::str::from_utf8(name).is_ok_and(is_secret) {
        return None;
    }
    let before = blanks(0);
    matches!(behind.get(before), Some(b':' | b'=')).then(|| before + 1 + blanks(before + 1))
}

/// How long the value is that begins at `from`: up to the quote that ends it, or the blank or the
/// separator behind it; with what follows the name of a scheme.
fn value(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let before = |back: usize| from.checked_sub(back).and_then(|at| text.get(at)).copied();
    if let (Some(quote @ (b'"' | b'\'')), other) = (before(1), before(2))
        && other != Some(b'\\')
    {
        let mut escaped = false;
        let ends = |byte: &u8| {
            let ends = *byte == quote && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        };
        return rest.iter().position(ends).unwrap_or(rest.len());
    }
    let plain = |rest: &[u8]| rest.iter().take_while(|byte| !ends_value(**byte)).count();
    let first = plain(rest);
    let (scheme, behind) = rest.split_at(first);
    if [&b"bearer"[..], b"basic", b"dpop", b"sharedkey", b"negotiate"]
        .iter()
        .any(|s| scheme.eq_ignore_ascii_case(s))
    {
        let blanks = behind.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        return first + blanks + plain(behind.get(blanks..).unwrap_or_default());
    }
    first
}

const fn ends_value(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(byte, b'"' | b'\'' | b'&' | b';' | b',' | b'{' | b'[' | b'}' | b']' | b'<' | b'>' | b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzYW0ifQ.c2lnbmF0dXJl";

    fn kept(body: &str, places: &[&str]) -> Result<(String, u64), &'static str> {
        let places: Vec<_> = places.iter().map(|place| Pointer::parse(place).unwrap()).collect();
        let prepared = prepare(body.as_bytes(), true, "application/json", &places)?;
        Ok((String::from_utf8(prepared.bytes).unwrap(), prepared.redacted))
    }

    fn document(value: &Value, places: &[&str]) -> (Value, u64) {
        let (text, redacted) = kept(&value.to_string(), places).unwrap();
        (serde_json::from_str(&text).unwrap(), redacted)
    }

    #[test]
    fn what_a_pointer_names_is_left_out_whatever_its_case() {
        let body =
            json!({"properties": {"Variables": {"A": "x", "B": 2}, "inputs": [{"uri": "u"}, {"uri": "v"}]}});
        let (found, redacted) = document(&body, &["/properties/variables/*", "/properties/inputs/1/uri"]);
        assert_eq!(
            found,
            json!({"properties": {"Variables": {"A": REDACTED, "B": REDACTED}, "inputs": [{"uri": "u"}, {"uri": REDACTED}]}})
        );
        assert_eq!(redacted, 3);
        assert_eq!(document(&body, &["/properties/inputs/*/uri"]).1, 2);
        assert_eq!(document(&body, &["/nothing/there", "/properties/inputs/7"]), (body.clone(), 0));
        assert_eq!(document(&body, &[""]).0, json!(REDACTED));
    }

    #[test]
    fn what_is_a_secret_by_its_name_or_looks_like_a_token_is_always_left_out() {
        let body = json!({
            "clientSecret": "s", "PASSWORD": "s", "access_token": "s", "account-key": "s", "secrets": {"key": "s"},
            "note": format!("use Bearer abc123 or {TOKEN}, or https://x/y?sv=1&sig=abc%2f&se=2"),
            "max_tokens": 100, "token": null, "kind": "secretless", "tokens": ["s", TOKEN],
            TOKEN: 1,
        });
        let (found, _) = document(&body, &[]);
        for name in ["clientSecret", "PASSWORD", "access_token", "account-key", "secrets"] {
            assert_eq!(found[name], REDACTED, "{name}");
        }
        assert_eq!(
            found["note"],
            "use Bearer [redacted] or [redacted], or https://x/y?sv=1&sig=[redacted]&se=2"
        );
        assert_eq!((&found["max_tokens"], &found["kind"]), (&json!(100), &json!("secretless")));
        assert_eq!(found["tokens"], json!(["s", REDACTED]));
        assert!(!found.to_string().contains("eyJ"), "{found}");
    }

    #[test]
    fn what_is_no_document_is_kept_only_where_no_place_is_named_and_without_secrets() {
        assert_eq!(kept("no json", &["/a"]), Err("unparsable"));
        assert_eq!(kept("{\"a\": 1", &["/a"]), Err("unparsable"));
        let form = "client_id=1&client_secret=s3cr%21t&assertion=eyJhbGciOiJub25lIn0.e30.AAAA&x=1";
        let (text, redacted) = kept(form, &[]).unwrap();
        assert_eq!(
            (text.as_str(), redacted),
            ("client_id=1&client_secret=[redacted]&assertion=[redacted]&x=1", 2)
        );
        let cut = r#"{"a": 1, "password" : "s3cr\"t", "b": "c", "apiKey":"half"#;
        let pointer = Pointer::parse("/a").unwrap();
        assert_eq!(
            prepare(cut.as_bytes(), false, "application/json", std::slice::from_ref(&pointer)).err(),
            Some("too_large")
        );
        let prepared = prepare(cut.as_bytes(), false, "application/json", &[]).unwrap();
        let text = String::from_utf8(prepared.bytes).unwrap();
        assert_eq!(text, r#"{"a": 1, "password" : "[redacted]", "b": "c", "apiKey":"[redacted]"#);
        let head = scrub(b"Authorization: Basic c2FtOnB3\ncookie=a; x: 1");
        assert_eq!(head.bytes, b"Authorization: [redacted]\ncookie=[redacted]; x: 1");
        let inner = scrub(br#"{\"password\": \"abc\", \"b\": 1}"#);
        assert_eq!(inner.bytes, br#"{\"password\": \"[redacted]\", \"b\": 1}"#);
        // Of two members of a name the reader takes the last, and nothing of the first is kept.
        assert_eq!(kept(r#"{"a": "first", "a": "second"}"#, &["/a"]).unwrap().0, r#"{"a":"[redacted]"}"#);
    }

    #[test]
    fn a_body_without_secrets_is_kept_as_it_is() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(prepare(&bytes, true, "application/octet-stream", &[]).unwrap().bytes, bytes);
        let text = "the token of our esteem; keys: none";
        assert_eq!(scrub(text.as_bytes()).bytes, text.as_bytes());
    }

    proptest! {
        #[test]
        fn no_bytes_are_lost_or_looked_for_behind_the_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let Prepared { bytes: kept, redacted } = scrub(&bytes);
            prop_assert!(redacted > 0 || kept == bytes);
        }

        #[test]
        fn a_named_place_is_left_out_of_whatever_it_stands_in(name in "[a-zA-Z]{1,8}", secret in "[a-z0-9]{12}", deep in 0..4_usize) {
            let mut value = json!({&name: &secret, "other": 1});
            let mut place = format!("/{}", name.to_uppercase());
            for level in 0..deep {
                value = if level % 2 == 0 { json!([value]) } else { json!({"in": value}) };
                place = format!("{}{place}", if level % 2 == 0 { "/*" } else { "/in" });
            }
            let (text, _) = kept(&value.to_string(), &[&place]).unwrap();
            prop_assert!(!text.contains(&secret), "{text}");
        }
    }
}
