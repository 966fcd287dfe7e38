//! What looks like a secret in a text that is no document: what follows the name of one, and what has
//! the form of a token or a key.
//!
//! Each byte is looked at a bounded number of times, whatever the text: whoever sends it decides what it
//! is. What is left out rather reaches too far than not far enough.

mod forms;

use self::forms::{Runs, formed, in_url, is_word};
use super::{Prepared, REDACTED, is_secret};

/// The name of a secret is not longer.
const LONGEST_NAME: usize = 64;

/// Replaces in a text what follows the name of a secret, and what looks like a token.
pub(in crate::audit::bodies) fn scrub(text: &[u8]) -> Prepared {
    let found = match unescaped(text) {
        Some(plain) => scrubbed(&plain),
        None => scrubbed(text),
    };
    // What has none stays as it is spelled.
    if found.redacted > 0 { found } else { Prepared { bytes: text.to_vec(), redacted: 0 } }
}

/// With letters that JSON may escape and needs not (`\u003d` is `=`) as they are; `None` if there are
/// none.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut from = 0;
    for at in memchr::memmem::find_iter(text, b"\\u00") {
        let digits = text.get(at + 4..at + 6).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let Some(byte) = byte.filter(|byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\'))
        else {
            continue;
        };
        out.extend_from_slice(text.get(from..at)?);
        out.push(byte);
        from = at + 6;
    }
    if from == 0 {
        return None;
    }
    out.extend_from_slice(text.get(from..)?);
    Some(out)
}

fn scrubbed(text: &[u8]) -> Prepared {
    let mut out = Vec::with_capacity(text.len());
    let (mut redacted, mut at) = (0, 0);
    let mut runs = Runs::default();
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let word = rest.iter().take_while(|byte| is_word(**byte)).count();
        let found = if word == 0 { in_url(rest) } else { secret(text, at, word, &mut runs) };
        let Some((before, length)) = found else {
            let step = word.max(1);
            out.extend(rest.iter().take(step));
            at += step;
            continue;
        };
        out.extend(rest.iter().take(before));
        out.extend_from_slice(REDACTED.as_bytes());
        (redacted, at) = (redacted + 1, at + before + length);
    }
    Prepared { bytes: out, redacted }
}

/// What of a text is a secret, from the word on that begins at `at`: how much before it stays, and how
/// long it is.
fn secret(text: &[u8], at: usize, word: usize, runs: &mut Runs) -> Option<(usize, usize)> {
    let rest = text.get(at..)?;
    let (name, behind) = rest.split_at_checked(word)?;
    let found = formed(text, at, word, runs);
    if found.is_some() {
        return found;
    }
    let (between, ends) = value_at(text, at, name, behind)?;
    let value = value(behind, between, ends);
    (value > 0).then_some((word + between, value))
}

/// What a value reaches to.
#[derive(Clone, Copy)]
enum Ends {
    /// A blank or a separator.
    Plain,
    /// The end of the line, or of what is quoted: a header's.
    Line(Option<u8>),
    /// The tag that closes an element.
    Tag,
}

/// Where behind the name of a secret its value begins, and what it reaches to.
fn value_at(text: &[u8], at: usize, name: &[u8], behind: &[u8]) -> Option<(usize, Ends)> {
    let before = at.checked_sub(1).and_then(|before| text.get(before)).copied();
    // `%3F` and the like are no part of a name.
    let hex = name.get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    let name = if before == Some(b'%') && hex { name.get(2..)? } else { name };
    if name.eq_ignore_ascii_case(b"bearer") {
        let blank = [&b"%20"[..], b"+"].into_iter().find(|blank| behind.starts_with(blank));
        let from = blank.map_or_else(|| opened(behind, 0), <[u8]>::len);
        return (from > 0).then_some((from, Ends::Plain));
    }
    // That is looked at last, because most words have no sign behind them.
    sign(before, name, behind).filter(|_| name.len() <= LONGEST_NAME && is_secret(name))
}

/// The same for a word that may be the name of a secret: where the sign behind it says that a value
/// begins.
fn sign(before: Option<u8>, name: &[u8], behind: &[u8]) -> Option<(usize, Ends)> {
    if behind.first() == Some(&b'>') && matches!(before, Some(b'<' | b':')) {
        return Some((1, Ends::Tag));
    }
    for code in [&b"%3d"[..], b"%3a", b"%253d", b"%253a"] {
        if behind.get(..code.len()).is_some_and(|some| some.eq_ignore_ascii_case(code)) {
            return Some((opened(behind, code.len()), Ends::Plain));
        }
    }
    let blanks = behind.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\\' | b'"' | b'\'')).count();
    let signs = behind.get(blanks..)?.iter().take_while(|b| matches!(b, b':' | b'=' | b'>')).count();
    match behind.get(blanks) {
        Some(b'=') => Some((opened(behind, blanks + signs), Ends::Plain)),
        Some(b':') if signs == 1 && is_header(name) => {
            let quote = before.filter(|byte| matches!(byte, b'"' | b'\''));
            Some((opened(behind, blanks + 1), Ends::Line(quote)))
        }
        Some(b':') => Some((opened(behind, blanks + signs), Ends::Plain)),
        // `--password secret`
        Some(_) | None if name.starts_with(b"-") => {
            let from = opened(behind, 0);
            (from > 0 && behind.get(from) != Some(&b'-')).then_some((from, Ends::Plain))
        }
        Some(_) | None => None,
    }
}

fn is_header(name: &[u8]) -> bool {
    let ends = |end: &[u8]| {
        name.len()
            .checked_sub(end.len())
            .and_then(|at| name.get(at..))
            .is_some_and(|n| n.eq_ignore_ascii_case(end))
    };
    ends(b"authorization") || ends(b"cookie")
}

/// Behind blanks, and the quote that opens a value.
fn opened(text: &[u8], from: usize) -> usize {
    let count = |from: usize, of: &[u8]| {
        text.get(from..).unwrap_or_default().iter().take_while(|byte| of.contains(byte)).count()
    };
    let from = from + count(from, b" \t");
    let slashes = count(from, b"\\");
    match text.get(from + slashes) {
        Some(b'"' | b'\'') => from + slashes + 1,
        Some(_) | None => from,
    }
}

/// How long the value is that begins at `from`: up to the quote or the bracket that closes it, or as
/// far as `ends` says.
fn value(text: &[u8], from: usize, ends: Ends) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let before = text.get(..from).unwrap_or_default();
    if let Ends::Tag = ends {
        return memchr::memchr(b'<', rest).unwrap_or(rest.len());
    }
    if let Some((quote @ (b'"' | b'\''), before)) = before.split_last() {
        let depth = before.iter().rev().take_while(|byte| **byte == b'\\').count();
        return quoted(rest, *quote, depth);
    }
    if let Some(b'{' | b'[') = rest.first() {
        return bracketed(rest);
    }
    let plain = |rest: &[u8]| {
        let length = rest.iter().enumerate().take_while(|(at, byte)| !ends_value(rest, *at, **byte, ends));
        length.count()
    };
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

/// Up to the quote that closes what one with so many backslashes before it opened.
fn quoted(rest: &[u8], quote: u8, depth: usize) -> usize {
    let mut slashes = 0;
    for (at, byte) in rest.iter().enumerate() {
        if *byte == b'\\' {
            slashes += 1;
            continue;
        }
        // Outside of a string in a string, two backslashes are one that is meant.
        let closes = if depth == 0 { slashes % 2 == 0 } else { slashes <= depth };
        if *byte == quote && closes {
            return at - slashes;
        }
        slashes = 0;
    }
    rest.len()
}

/// Up to behind the bracket that closes the first one; to the end, if none does.
fn bracketed(rest: &[u8]) -> usize {
    let (mut open, mut slashes, mut within) = (0_usize, 0, None);
    for (at, byte) in rest.iter().enumerate() {
        match (byte, within) {
            (b'\\', _) => {
                slashes += 1;
                continue;
            }
            (b'"', None) => within = Some(slashes),
            // A quote within has more before it.
            (b'"', Some(depth)) if slashes == depth || (depth == 0 && slashes % 2 == 0) => within = None,
            (b'{' | b'[', None) => open += 1,
            (b'}' | b']', None) => {
                open = open.saturating_sub(1);
                if open == 0 {
                    return at + 1;
                }
            }
            (_, _) => {}
        }
        slashes = 0;
    }
    rest.len()
}

fn ends_value(rest: &[u8], at: usize, byte: u8, ends: Ends) -> bool {
    match (byte, ends) {
        (b'\n' | b'\r', _) => true,
        // An escaped quote or line's end, as in a string of JSON.
        (b'\\', _) => matches!(rest.get(at + 1), None | Some(b'"' | b'\'' | b'n' | b'r' | b't')),
        (_, Ends::Line(quote)) => quote == Some(byte),
        (b'"' | b'\'' | b'&' | b';', Ends::Plain | Ends::Tag) => true,
        (_, Ends::Plain | Ends::Tag) => byte.is_ascii_whitespace(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In pieces, so that no tool takes it for one.
    fn known(begin: &str) -> String {
        format!("{begin}{}", "aB3dE5gH".repeat(5))
    }

    fn scrubbed(text: &str) -> String {
        String::from_utf8(scrub(text.as_bytes()).bytes).unwrap()
    }

    #[test]
    fn a_secret_is_left_out_however_its_name_and_its_sign_are_spelled() {
        for text in [
            "sig%3Dhunter2%26se%3D1",
            "https%3A%2F%2Fs%2Fc%3Fsig%3Dhunter2",
            "url=a%253Fsig%253Dhunter2",
            r"https://s/c?sv=1\u0026sig\u003dhunter2\u0026se=1",
            r#"{"p\u0061ssword": "hunter2""#,
            r#"{\"password\": \"a hunter2, b\", \"c\": 1}"#,
            r#"{"a": "{\"cs\": \"x;AccountKey=hunter2\"}""#,
            r#""credentials": {"key": "hunter2", "n": ["}", 1]}, "b": 1"#,
            r#""secrets": ["x", {"a": "hunter2"#,
            r#""password": 7hunter2"#,
            "<Password>a hunter2 &amp; b</Password>",
            "<n:sharedKey>hunter2</n:sharedKey>",
            "python train.py --api-key hunter2 --epochs 3",
            "x --db-password 'a hunter2'",
            "password => 'hunter2'",
            "password := hunter2",
            "PWD={a;hunter2};Server=x",
            "Password=a,b{hunter2};Server=x",
            "DB_PASS=a<hunter2>",
            "postgres://sam:hunter2@db/x",
            "postgres://sam:a@b:hunter2@db/x",
            "https://aaaaaaaaaaaaaaaaaahunter2@git.example/x",
            "Cookie: a=1; b=hunter2\nx: 1",
            "Authorization: AWS4-HMAC-SHA256 Credential=x, Signature=hunter2",
            "Authorization: Digest username=\"x\", response=hunter2",
            "Bearer%20hunter2",
            "Bearer+hunter2",
            "?X-Amz-Signature=hunter2&x=1",
            "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
            r"key: a\n-----BEGIN PRIVATE KEY-----\nhunter2",
        ] {
            let found = scrub(text.as_bytes());
            let kept = String::from_utf8(found.bytes).unwrap();
            assert!(!kept.contains("hunter2") && found.redacted > 0, "{text}: {kept}");
        }
        assert_eq!(scrubbed("a --token x --epochs 3"), "a --token [redacted] --epochs 3");
        assert_eq!(
            scrubbed(r#"{\"password\": \"a b\", \"c\": 1}"#),
            r#"{\"password\": \"[redacted]\", \"c\": 1}"#
        );
        assert_eq!(scrubbed("postgres://sam:x@db/y"), "postgres://sam:[redacted]@db/y");
    }

    #[test]
    fn what_has_the_form_of_a_token_or_a_key_is_left_out_wherever_it_stands() {
        let web = ["eyJhbGciOiJub25lIn0", "e30", "AAAA"].join(".");
        let key = format!("{}==", "aB3+/".repeat(18).get(..86).unwrap());
        let odd = format!("+/{}==", "aB3+/".repeat(18).get(..84).unwrap());
        let entra = format!("abc8Q~{}", "aB3dE5gH".repeat(4));
        for token in
            [&web, &known("ghp_"), &known("hf_"), &known("github_pat_"), &known("sk-proj-"), &key, &entra]
        {
            for text in [
                token.clone(),
                format!("x {token} y"),
                format!("a%20{token}"),
                format!("{{\"n\":\"{token}\"}}"),
            ] {
                if text.starts_with("a%20") && *token == key {
                    continue; // Its `+` and `/` would be encoded as well.
                }
                assert!(!scrubbed(&text).contains(token.as_str()), "{text}");
            }
        }
        assert!(!scrubbed(&format!("id_{web}")).contains("e30"));
        assert_eq!(scrubbed(&format!("x {odd} y")), "x +/[redacted] y");
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for text in [
            "the token of our esteem; keys: none",
            "abfss://container@account.dfs.core.windows.net/path",
            "https://example.com/a@b?x=1",
            r"a\u0026b\u003dc",
            "sk-learn-version-1-2-experiment-of-mine",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "config=1&design=2&tokens=3&bypass=4",
        ] {
            assert_eq!(scrubbed(text), text);
        }
    }

    #[test]
    fn no_text_takes_longer_than_its_length_allows() {
        // Looked at anew from each of its words, a MiB of these would take hours.
        for piece in [
            "a.",
            "eyJ/",
            "eyJ.",
            "password ",
            "password=\"\"",
            "://",
            "-----BEGIN ",
            "a+",
            "\\u0061",
            "sig>",
            "<sig>",
        ] {
            scrub(piece.repeat((1 << 20) / piece.len()).as_bytes());
        }
    }
}
