//! What of a body is not kept: the places that an entry names, and always what is a secret by its name
//! or looks like a token.
//!
//! A document is read, and what stands in the named places is replaced in it. What cannot be read as
//! one (because it is something else, or was cut) is not kept where places are named: nobody could say
//! that they are left out. Where none are, it is kept without what looks like a secret in plain text
//! (`scrub`); what is compressed or in another alphabet than ASCII's cannot be looked into, and is not
//! kept at all.

mod scrub;

use serde_json::Value;

pub(super) use self::scrub::scrub;
use crate::policy::Pointer;

/// What stands in the place of what is left out.
pub(super) const REDACTED: &str = "[redacted]";
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
    "sasurl",
    "subscriptionkey",
    "functionskey",
    "masterkey",
    "adminkey",
    "hostkey",
    "signingkey",
    "encryptionkey",
    "storagekey",
    "sshkey",
    "passcode",
    "accesstoken",
    "refreshtoken",
    "bearertoken",
    "clientassertion",
    "securevalue",
    "protectedsettings",
    "dockerconfig",
    "amzsignature",
    "amzcredential",
    "googsignature",
];
/// Names that are those of secrets as a whole, or end one.
const SECRET_ENDS: &[&str] =
    &["token", "pwd", "pass", "sig", "cookie", "cookies", "jwt", "credential", "credentials"];
/// Names that end so and say something else: whom a firewall lets through.
const HARMLESS: &[&str] = &["bypass"];
/// Names that are those of secrets as a whole only.
const SECRET_NAMES: &[&str] = &["sas", "pat", "psk", "pw", "auth", "key1", "key2"];
/// Members that name the thing whose value stands beside them.
const NAMING: &[&str] = &["name", "key", "header", "variable", "parameter", "field"];
/// Members in which the value of such a thing stands.
const VALUES: &[&str] = &["value", "values", "val", "default", "defaultvalue"];
/// How what is compressed begins: gzip, zip, zstd, xz, bzip2.
const COMPRESSED: &[&[u8]] = &[b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh"];
/// Alphabets in which secrets look like ASCII.
const PLAIN: &[&str] = &["utf-8", "utf8", "us-ascii", "ascii", "iso-8859-", "latin1", "windows-125"];

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
    // A mark of the order of bytes says nothing in UTF-8, and no reader of JSON takes it.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
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
        (true, _) => text(body, media),
        (false, true) => Err("unparsable"),
        (false, false) => Err("too_large"),
    }
}

/// What is no document, without what looks like a secret in it, if that can be looked for.
fn text(body: &[u8], media: &str) -> Result<Prepared, &'static str> {
    let media = media.to_ascii_lowercase();
    let charset = media.split_once("charset=").map(|(_, behind)| behind.trim_start_matches('"'));
    let other = charset.is_some_and(|charset| !PLAIN.iter().any(|plain| charset.starts_with(plain)));
    let wide = body.starts_with(b"\xff\xfe") || body.starts_with(b"\xfe\xff");
    if other || wide || COMPRESSED.iter().any(|begin| body.starts_with(begin)) {
        return Err("encoded");
    }
    let found = scrub(body);
    if memchr::memchr(0, body).is_some() {
        // Of letters of two or four bytes each, only one tells.
        let narrow: Vec<u8> = body.iter().copied().filter(|byte| *byte != 0).collect();
        if scrub(&narrow).redacted > found.redacted {
            return Err("encoded");
        }
    }
    Ok(found)
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
            // `{"name": "PASSWORD", "value": ...}`
            let named = members.iter().any(|(name, member)| {
                is_one_of(NAMING, name) && member.as_str().is_some_and(|name| is_secret(name.as_bytes()))
            });
            for (name, member) in members.iter_mut() {
                let held = match member {
                    Value::Null | Value::Bool(_) => false,
                    Value::String(text) => !text.is_empty() && text != REDACTED,
                    Value::Number(_) | Value::Array(_) | Value::Object(_) => true,
                };
                if held && (is_secret(name.as_bytes()) || (named && is_one_of(VALUES, name))) {
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
        Value::Array(items) => {
            // `["--password", ...]`
            let (mut redacted, mut option) = (0, false);
            for item in items {
                let of_option = std::mem::replace(&mut option, item.as_str().is_some_and(is_secret_option));
                if of_option && !option && !item.is_null() {
                    *item = REDACTED.into();
                    redacted += 1;
                } else {
                    redacted += clean(item);
                }
            }
            redacted
        }
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

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether it is an option of a command line, the secret being the next word.
fn is_secret_option(word: &str) -> bool {
    word.starts_with('-')
        && word.len() <= 64
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && is_secret(word.as_bytes())
}

/// Whether a member of that name holds a secret.
fn is_secret(name: &[u8]) -> bool {
    let name: String = name
        .iter()
        .filter(|b| b.is_ascii_alphanumeric())
        .map(|b| char::from(b.to_ascii_lowercase()))
        .collect();
    SECRET_WORDS.iter().any(|word| name.contains(word))
        || (SECRET_ENDS.iter().any(|end| name.ends_with(end)) && !HARMLESS.contains(&&*name))
        || SECRET_NAMES.contains(&&*name)
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
    fn the_value_beside_a_secrets_name_and_behind_its_option_is_left_out() {
        let body = json!({
            "env": [{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "EPOCHS", "value": "kept 1"}],
            "tags": [{"Key": "api-key", "Value": {"in": "hunter2"}}],
            "args": ["--token", "hunter2", "--epochs", "kept 2", "--password"],
            "properties": {"authType": "ApiKey", "credentials": {"key": "hunter2"}},
            "pin": {"passcode": 7_351},
            "sas": "hunter2", "subscription-key": "hunter2", "notes": "kept 3",
        });
        let (text, _) = kept(&body.to_string(), &[]).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("7351"), "{text}");
        assert!((1..=3).all(|number| text.contains(&format!("kept {number}"))), "{text}");
        // A mark of the order of bytes makes it no other document.
        let marked = format!("\u{feff}{}", json!({"secret": {"a": ["hunter2"]}, "b": 1}));
        assert_eq!(kept(&marked, &[]).unwrap().0, r#"{"b":1,"secret":"[redacted]"}"#);
        // One that is too deep to be read is a text.
        let deep = format!("{}{{\"secrets\": {{\"k\": \"hunter2\"}}}}{}", "[".repeat(200), "]".repeat(200));
        assert!(!kept(&deep, &[]).unwrap().0.contains("hunter2"));
        assert_eq!(kept(&deep, &["/a"]), Err("unparsable"));
    }

    #[test]
    fn what_cannot_be_looked_into_is_not_kept() {
        let text = "{\"password\": \"hunter2\"}";
        let wide = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        let four: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
        let marked = [&b"\xff\xfe"[..], &wide(u16::to_le_bytes)].concat();
        for body in [wide(u16::to_le_bytes), wide(u16::to_be_bytes), four, marked] {
            for media in ["application/json", "text/plain", ""] {
                assert_eq!(prepare(&body, true, media, &[]).err(), Some("encoded"), "{media}");
                assert_eq!(prepare(&body, false, media, &[]).err(), Some("encoded"), "{media}");
            }
        }
        for (body, media) in [
            (&b"\x1f\x8b\x08rest"[..], "application/gzip"),
            (b"PK\x03\x04rest", "application/octet-stream"),
            (b"plain", "text/plain; charset=\"UTF-7\""),
            (b"plain", "text/plain;charset=ibm1047"),
        ] {
            assert_eq!(prepare(body, true, media, &[]).err(), Some("encoded"), "{media}");
        }
        assert!(prepare(b"plain", true, "text/plain; charset=UTF-8", &[]).is_ok());
        assert!(prepare(b"a\0b", true, "", &[]).is_ok(), "a NUL alone hides nothing");
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
