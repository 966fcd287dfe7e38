//! The request target: parsed once, judged and forwarded from the same value.

use std::{fmt, sync::Arc};

/// A request target that admits one reading only: host, decoded path segments, decoded query.
///
/// What is authorised is what is forwarded: policy reads the decoded segments, the upstream gets
/// [`Target::path_and_query`], and both come from this value. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Target(Arc<Parsed>);

#[derive(Clone, PartialEq, Eq)]
struct Parsed {
    host: Box<str>,
    path: Box<str>,
    segments: Vec<Box<str>>,
    query: Query,
}

/// The decoded query: each key once (keys are compared without case), order kept.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Query {
    raw: Box<str>,
    pairs: Vec<(Box<str>, Box<str>)>,
}

/// Why a target is refused, in words for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(pub Box<str>);

/// The longest origin-form target, in bytes: status URLs of long-running operations exceed 4 KiB.
pub const MAX_TARGET: usize = 16 << 10;

impl Target {
    /// Parses `host` (as in `Host`, port removed by the caller) and an origin-form target.
    ///
    /// Decoding happens once. What is forwarded is the same path with the escapes of unreserved
    /// characters resolved and all others in upper case (RFC 3986, 6.2.2), and the query's exact
    /// bytes.
    ///
    /// # Errors
    /// Anything that two parsers could read differently: encoded slashes, backslashes or percent
    /// signs, empty or dot segments, control bytes, `;`, `#`, invalid UTF-8. Repeated query keys are
    /// for naming to judge ([`Query::repeated`]).
    pub fn parse(host: &str, path_and_query: &str) -> Result<Self, TargetError> {
        let refuse = |why: &str| Err(TargetError(why.into()));
        if path_and_query.len() > MAX_TARGET {
            return refuse("the target is longer than 16 KiB");
        }
        // All of it is looked at, because that is done many bytes at a time.
        if path_and_query.bytes().fold(false, |bad, b| bad | !is_of_target(b)) {
            return refuse("the target holds a character that must be percent-encoded");
        }
        let (raw_path, raw_query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let Some(rest) = raw_path.strip_prefix('/') else {
            return refuse("the target does not begin with `/`");
        };
        let mut path = String::with_capacity(raw_path.len());
        let mut segments = Vec::with_capacity(16);
        // One slash at the end names the same resource; it is not forwarded.
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            path.push('/');
        } else {
            for raw in pieces(rest, b'/') {
                path.push('/');
                if is_literal(raw) {
                    path.push_str(raw);
                    segments.push(raw.into());
                } else {
                    let segment = segment(raw)?;
                    encode(&segment, &mut path);
                    segments.push(segment);
                }
            }
        }
        let query = Query::parse(raw_query)?;
        let host = host.trim_end_matches('.').to_ascii_lowercase().into();
        Ok(Self(Arc::new(Parsed { host, path: path.into(), segments, query })))
    }

    /// The host in lower case, without port or trailing dot.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// The path as it is forwarded (percent-encoded, canonical).
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The decoded path segments, in order, none empty.
    #[must_use]
    pub fn segments(&self) -> &[Box<str>] {
        &self.0.segments
    }

    /// The decoded query.
    #[must_use]
    pub fn query(&self) -> &Query {
        &self.0.query
    }

    /// What the upstream's request line carries: path, and `?` with the query's exact bytes if any.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        let Parsed { path, query, .. } = &*self.0;
        if query.raw.is_empty() { path.to_string() } else { [path, "?", &query.raw].concat() }
    }

    /// Whether `text` is [`Self::path_and_query`], byte for byte.
    #[must_use]
    pub fn is_written(&self, text: &str) -> bool {
        let Parsed { path, query, .. } = &*self.0;
        text.strip_prefix(&**path).is_some_and(|rest| match rest.strip_prefix('?') {
            Some(raw) => !raw.is_empty() && *raw == *query.raw,
            None => rest.is_empty() && query.raw.is_empty(),
        })
    }

    /// The same target without the route's path prefix (whole segments, compared exactly);
    /// `None` if the path does not start with it.
    #[must_use]
    pub fn without_prefix(&self, prefix: &str) -> Option<Self> {
        let Parsed { host, path, segments, query } = &*self.0;
        let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        let path: Box<str> = if rest.is_empty() { "/".into() } else { rest.into() };
        let skip = prefix.split('/').filter(|s| !s.is_empty()).count();
        let segments = segments.get(skip..).unwrap_or_default().to_vec();
        Some(Self(Arc::new(Parsed { host: host.clone(), path, segments, query: query.clone() })))
    }

    /// The same target without one query parameter, all other query bytes kept exactly
    /// (the polling capability of DECISIONS 16 is removed so).
    #[must_use]
    pub fn without_query(&self, key: &str) -> Self {
        let raw = self
            .query()
            .raw
            .split('&')
            .filter(|pair| {
                let name = pair.split('=').next().unwrap_or_default();
                !decode(name, true).is_ok_and(|k| k.eq_ignore_ascii_case(key))
            })
            .collect::<Vec<_>>()
            .join("&");
        let kept = self.query().pairs.iter().filter(|(k, _)| !k.eq_ignore_ascii_case(key));
        let query = Query { raw: raw.into(), pairs: kept.cloned().collect() };
        Self(Arc::new(Parsed { query, ..Parsed::clone(&self.0) }))
    }
}

/// What may stand in a target at all.
const fn is_of_target(b: u8) -> bool {
    b.is_ascii_graphic() & (b != b'\\') & (b != b'#') & (b != b'"') & (b != b'<') & (b != b'>') & (b != b'`')
}

/// Whether a segment is written as it is read, so that there is nothing to decode or to judge in
/// it: most are names and ids.
fn is_literal(raw: &str) -> bool {
    let plain = raw.bytes().fold(true, |plain, b| {
        plain & (b.is_ascii_alphanumeric() | (b == b'-') | (b == b'.') | (b == b'_') | (b == b':'))
    });
    plain && !raw.is_empty() && !raw.ends_with('.')
}

/// The pieces between separators; one more than there are separators.
fn pieces(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let whole = rest.take()?;
        let Some(at) = whole.bytes().position(|b| b == separator) else { return Some(whole) };
        rest = whole.get(at + 1..);
        whole.get(..at)
    })
}

/// One decoded path segment.
fn segment(raw: &str) -> Result<Box<str>, TargetError> {
    let refuse = |why: &str| Err(TargetError(why.into()));
    if raw.is_empty() {
        return refuse("the path has an empty segment (`//`)");
    }
    let decoded = decode(raw, false)?;
    if decoded == "." || decoded == ".." {
        return refuse("the path has a dot segment");
    }
    if decoded.ends_with(['.', ' ']) || decoded.starts_with(' ') {
        return refuse("a path segment begins or ends with a dot or a space, which some servers remove");
    }
    for c in decoded.chars() {
        match c {
            '/' | '\\' => return refuse("the path has an encoded slash or backslash"),
            '%' => return refuse("the path is encoded twice"),
            ';' => return refuse("the path has a `;`, which some servers cut at"),
            '?' | '#' => return refuse("the path has an encoded `?` or `#`"),
            c if c.is_control() => return refuse("the path has a control character"),
            '\u{ff01}'..='\u{ff5e}' | '\u{2024}' | '\u{2215}' | '\u{2044}' | '\u{29f8}' => {
                return refuse("the path has a look-alike of an ASCII character");
            }
            _ => {}
        }
    }
    Ok(decoded.into())
}

/// Decodes percent-escapes once.
fn decode(raw: &str, plus_is_space: bool) -> Result<String, TargetError> {
    if !raw.bytes().any(|b| b == b'%' || (plus_is_space && b == b'+')) {
        return Ok(raw.to_owned());
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |b: Option<u8>| {
                    b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok())
                };
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(high), Some(low)) => high << 4 | low,
                    _ => {
                        return Err(TargetError(
                            "a percent sign is not followed by two hexadecimal digits".into(),
                        ));
                    }
                }
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| TargetError("what is percent-encoded is not UTF-8".into()))
}

/// The characters of a segment that are never escaped in the canonical form: RFC 3986's `pchar`
/// but for `;`.
const ESCAPED: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

fn encode(segment: &str, path: &mut String) {
    path.extend(percent_encoding::utf8_percent_encode(segment, &ESCAPED));
}

impl fmt::Debug for Target {
    /// The query's values stay out: they may hold signatures.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.host, self.0.path)
    }
}

impl Query {
    fn parse(raw: &str) -> Result<Self, TargetError> {
        let mut pairs: Vec<(Box<str>, Box<str>)> = Vec::new();
        for pair in pieces(raw, b'&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key, true)?, decode(value, true)?);
            if pair.contains('%') && key.chars().chain(value.chars()).any(char::is_control) {
                return Err(TargetError("the query has a control character".into()));
            }
            pairs.push((key.into(), value.into()));
        }
        Ok(Self { raw: raw.into(), pairs })
    }

    /// The first key that stands more than once, compared without case: what it means is then for
    /// the server to choose, so that only operations known to take lists may have one.
    #[must_use]
    pub fn repeated(&self) -> Option<&str> {
        let mut seen = self.pairs.iter().enumerate();
        seen.find(|(at, (key, _))| self.pairs.iter().take(*at).any(|(k, _)| k.eq_ignore_ascii_case(key)))
            .map(|(_, (key, _))| key.as_ref())
    }

    /// The value of `key`, compared without case.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v.as_ref())
    }

    /// The exact bytes after `?`.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// All pairs in order, decoded.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(k, v)| (k.as_ref(), v.as_ref()))
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|(k, _)| k)).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Target, TargetError> {
        Target::parse("Management.Azure.com.", text)
    }

    #[test]
    fn a_target_knows_its_own_text() {
        for (text, written) in [
            ("/a/b?c=d", "/a/b?c=d"),
            ("/a/b", "/a/b"),
            ("/a/%62", "/a/b"),
            ("/a/", "/a"),
            ("/a?", "/a"),
            ("/?a", "/?a"),
        ] {
            let target = parse(text).unwrap();
            assert_eq!(target.path_and_query(), written, "{text}");
            assert!(target.is_written(&target.path_and_query()), "{text}");
            for other in ["/a/b?c=d", "/a/b", "/a", "/a?", "/a/b?", "/?a", "/", "/a/b?c=d&e"] {
                assert_eq!(target.is_written(other), target.path_and_query() == other, "{text} {other}");
            }
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for text in [
            "",
            "subscriptions",
            "*",
            "http://a/b",
            "//a",
            "/a//b",
            "/a/./b",
            "/a/../b",
            "/a/%2e%2e/b",
            "/a/%2E/b",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%252fb",
            "/a%25",
            "/a;b",
            "/a%3bb",
            "/a%00b",
            "/a%0ab",
            "/a%7f",
            "/a b",
            "/a\tb",
            "/a%zz",
            "/a%2",
            "/a%c0%af",
            "/a%ff",
            "/a#b",
            "/a%3fb",
            "/a%23b",
            "/a.",
            "/a%20",
            "/%20a",
            "/a%ef%bc%8fb",
            "/a%e2%88%95b",
            "/a?b=%00",
            "/a?b=%zz",
            "/ä",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(&format!("/{}", "a".repeat(MAX_TARGET))).is_err());
    }

    #[test]
    fn one_resource_has_one_spelling() {
        for (text, canonical) in [
            ("/", "/"),
            ("/a/", "/a"),
            ("/%61%2d%7e", "/a-~"),
            ("/a%20b", "/a%20b"),
            ("/%c3%a4", "/%C3%A4"),
            ("/runs:query", "/runs:query"),
            ("/runs%3Aquery", "/runs:query"),
            ("/a?%24filter=b%20c&x=1+2", "/a?%24filter=b%20c&x=1+2"),
        ] {
            assert_eq!(parse(text).unwrap().path_and_query(), canonical, "{text}");
        }
        let target = parse("/a?%24Filter=b%20c&x=1+2&flag").unwrap();
        assert_eq!(target.host(), "management.azure.com");
        assert_eq!(target.query().get("$filter"), Some("b c"));
        assert_eq!((target.query().get("x"), target.query().get("FLAG")), (Some("1 2"), Some("")));
    }

    #[test]
    fn a_key_that_stands_twice_is_seen_in_every_spelling() {
        assert_eq!(parse("/a?api-version=1&API-VERSION=2").unwrap().query().repeated(), Some("API-VERSION"));
        assert_eq!(parse("/a?x=1&%78=2").unwrap().query().repeated(), Some("x"));
        assert_eq!(parse("/a?x=1&y=1").unwrap().query().repeated(), None);
    }

    #[test]
    fn a_prefix_is_removed_on_whole_segments_only() {
        let target = parse("/endpoints/churn/score?a=b").unwrap();
        assert_eq!(target.without_prefix("/endpoints/churn").unwrap().path_and_query(), "/score?a=b");
        assert_eq!(target.without_prefix("/endpoints/churn").unwrap().segments().len(), 1);
        assert!(target.without_prefix("/endpoints/chu").is_none());
        assert_eq!(
            parse("/endpoints/churn").unwrap().without_prefix("/endpoints/churn").unwrap().path(),
            "/"
        );
    }

    #[test]
    fn one_parameter_is_removed_and_the_rest_stays_byte_for_byte() {
        let target = parse("/a?t=%2fx+y&Amlgate-Op=zz&s=%41").unwrap().without_query("amlgate-op");
        assert_eq!(target.path_and_query(), "/a?t=%2fx+y&s=%41");
        assert_eq!(target.query().get("amlgate-op"), None);
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own_canonical_form(text in "/[a-zA-Z0-9%/._~:;?&=+ -]{0,40}") {
            if let Ok(target) = parse(&text) {
                let again = parse(&target.path_and_query());
                prop_assert_eq!(again.as_ref(), Ok(&target));
            }
        }

        #[test]
        fn the_most_lenient_reader_of_what_is_forwarded_sees_what_was_judged(text in "/[a-z%0-9A-F/.;\\\\]{0,30}") {
            if let Ok(target) = parse(&text) {
                // A reader that decodes until nothing changes, takes `\\` for `/` and cuts at `;`.
                let mut path = target.path().to_owned();
                loop {
                    let next = percent_encoding::percent_decode_str(&path).decode_utf8_lossy().into_owned();
                    if next == path { break; }
                    path = next;
                }
                let lenient: Vec<&str> = path.split(['/', '\\']).filter(|s| !s.is_empty()).map(|s| s.split(';').next().unwrap()).collect();
                let judged: Vec<&str> = target.segments().iter().map(AsRef::as_ref).collect();
                prop_assert_eq!(lenient, judged);
            }
        }
    }
}
