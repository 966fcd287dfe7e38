//! What has the form of a token, a key or a URL with a password, whatever name it has.

use std::ops::RangeInclusive;

use super::LONGEST_NAME;

/// A token is not shorter, in bytes.
const SHORTEST_TOKEN: usize = 20;
/// The part of a URL that names host and user is not longer.
const LONGEST_AUTHORITY: usize = 1_024;
/// Tokens by how they begin.
const BEGINNINGS: &[&[u8]] = &[
    b"ghp_",
    b"gho_",
    b"ghu_",
    b"ghs_",
    b"ghr_",
    b"github_pat_",
    b"glpat-",
    b"xoxb-",
    b"xoxp-",
    b"xapp-",
    b"hf_",
    b"sk-",
    b"npm_",
    b"pypi-",
];
/// How long a key of 64 bytes is in base64, without its `==`; where it begins with `+` or `/`, no word
/// begins.
const KEYS: RangeInclusive<usize> = 83..=86;

/// How far letters of tokens and of base64 reach from somewhere on, so that nobody looks twice.
#[derive(Default)]
pub(super) struct Runs {
    /// Behind the last letter of a token, and where its last dot is.
    token: usize,
    dot: usize,
    /// Behind the last letter of base64.
    base64: usize,
}

pub(super) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The token or the key in the word that begins at `at` and is so long: how much before it stays, and how
/// long it is.
pub(super) fn formed(text: &[u8], at: usize, word: usize, runs: &mut Runs) -> Option<(usize, usize)> {
    let (name, behind) = text.get(at..)?.split_at_checked(word)?;
    web_token(text, at, name, runs)
        .or_else(|| known_token(text, at, name))
        .or_else(|| client_secret(name, behind))
        .or_else(|| key(text, at, runs))
        .or_else(|| private_key(name, behind))
}

/// A JSON web token, or a handle of the gate.
fn web_token(text: &[u8], at: usize, name: &[u8], runs: &mut Runs) -> Option<(usize, usize)> {
    let begins =
        [&b"eyJ"[..], b"amlgh"].into_iter().filter_map(|begin| memchr::memmem::find(name, begin)).min()?;
    let from = at + begins;
    if from >= runs.token {
        let letter = |byte: &&u8| is_word(**byte) || matches!(byte, b'.' | b'+' | b'/' | b'=');
        let run = text.get(from..)?;
        let run = run.get(..run.iter().take_while(letter).count())?;
        runs.token = from + run.len();
        runs.dot = memchr::memrchr(b'.', run).map_or(0, |dot| from + dot);
    }
    let length = runs.token - from;
    (runs.dot > from && length >= SHORTEST_TOKEN).then_some((begins, length))
}

/// A token that is known by how it begins.
fn known_token(text: &[u8], at: usize, name: &[u8]) -> Option<(usize, usize)> {
    if name.len() < SHORTEST_TOKEN {
        return None;
    }
    let percent = at.checked_sub(1).and_then(|before| text.get(before)) == Some(&b'%');
    BEGINNINGS.iter().find_map(|begin| {
        let from = memchr::memmem::find(name, begin)?;
        let before = from.checked_sub(1).and_then(|before| name.get(before));
        let apart = before.is_none_or(|byte| !byte.is_ascii_alphanumeric()) || (percent && from == 2);
        let random = name.get(from + begin.len()..)?;
        let mixed = random.iter().any(u8::is_ascii_digit) && random.iter().any(u8::is_ascii_alphabetic);
        // Words that are joined have no long part.
        let long = random.split(|byte| !byte.is_ascii_alphanumeric()).any(|part| part.len() >= 16);
        (apart && mixed && long).then_some((from, name.len() - from))
    })
}

/// A secret of an application in Entra ID: three letters, a digit, `Q~`, and more than 30 letters.
fn client_secret(name: &[u8], behind: &[u8]) -> Option<(usize, usize)> {
    let [.., digit, b'Q'] = name else { return None };
    if !digit.is_ascii_digit() || behind.first() != Some(&b'~') {
        return None;
    }
    let more = behind.iter().take_while(|byte| is_word(**byte) || matches!(byte, b'~' | b'.')).count();
    (more > 30).then_some((0, name.len() + more))
}

/// A key of an account of Azure.
fn key(text: &[u8], at: usize, runs: &mut Runs) -> Option<(usize, usize)> {
    if at < runs.base64 {
        return None;
    }
    let letter = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let length = text.get(at..)?.iter().take_while(letter).count();
    runs.base64 = at + length;
    (KEYS.contains(&length) && text.get(runs.base64..)?.starts_with(b"==")).then_some((0, length + 2))
}

/// A private key in PEM, to its end.
fn private_key(name: &[u8], behind: &[u8]) -> Option<(usize, usize)> {
    const END: &[u8] = b"-----END";
    if !name.ends_with(b"-----BEGIN") {
        return None;
    }
    let label = behind.get(..behind.len().min(LONGEST_NAME))?;
    let label = label.get(..memchr::memmem::find(label, b"-----")?)?;
    memchr::memmem::find(label, b"PRIVATE KEY")?;
    let length = memchr::memmem::find(behind, END).map_or(behind.len(), |end| {
        let closing = behind.get(end + END.len()..).unwrap_or_default();
        let closing = closing.get(..closing.len().min(LONGEST_NAME)).unwrap_or_default();
        end + END.len() + memchr::memmem::find(closing, b"-----").map_or(0, |at| at + 5)
    });
    Some((name.len(), length))
}

/// The password (or the token that stands for a user) in the URL whose `://` the text begins with.
pub(super) fn in_url(text: &[u8]) -> Option<(usize, usize)> {
    let authority = text.strip_prefix(b"://")?;
    let ends = |byte: &&u8| {
        !byte.is_ascii_whitespace()
            && !matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'\\')
    };
    let length = authority.iter().take(LONGEST_AUTHORITY).take_while(ends).count();
    let user = memchr::memrchr(b'@', authority.get(..length)?)?;
    match memchr::memchr(b':', authority.get(..user)?) {
        Some(colon) => (user > colon + 1).then_some((3 + colon + 1, user - colon - 1)),
        // A short one is a name: `abfss://container@account...`
        None => (user >= SHORTEST_TOKEN).then_some((3, user)),
    }
}
