//! What a request's head must be before anything is believed of it (`security.md` E).
//!
//! Requests reach Azure only re-framed from the decoded body, so what hyper normalises is
//! harmless; what it shows is refused here: several framings, foreign transfer codings, authorities
//! that differ, methods and forms of target that no upstream of ours takes.

use http::{HeaderMap, Method, Version, header, request::Parts};

/// A head that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHead {
    /// 400: the framing, the authority or the target can be read in two ways.
    Ambiguous(&'static str),
    /// 405: CONNECT and TRACE have no place here.
    Method,
    /// 501: not a method or coding of ours.
    Unsupported(&'static str),
    /// 417.
    Expectation,
    /// 414: the target is too long.
    TargetTooLong,
    /// 431: the head, or a single header, is too large.
    TooLarge,
    /// 421: not a name of ours, or none.
    Misdirected,
}

impl BadHead {
    /// The word in records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ambiguous(_) => "ambiguous_head",
            Self::Method => "method",
            Self::Unsupported(_) => "unsupported",
            Self::Expectation => "expectation",
            Self::TargetTooLong => "long_target",
            Self::TooLarge => "large_head",
            Self::Misdirected => "misdirected",
        }
    }
}

/// The largest head: a token of 48 KiB and room for the rest (DECISIONS 7).
pub const MAX_HEAD: usize = 96 << 10;
/// The largest single header but the token's.
const MAX_HEADER: usize = 16 << 10;
/// The largest token's header.
const MAX_TOKEN_HEADER: usize = (48 << 10) + 16;
/// Headers in one head.
const MAX_HEADERS: usize = 100;

/// Judges a head and gives its host, in lower case and without a port.
///
/// # Errors
/// [`BadHead`]: RFC 9112 sections 3.2, 6.1 and 6.3, RFC 9113 section 8.3.1.
pub fn check(head: &Parts) -> Result<String, BadHead> {
    match head.method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS => {}
        Method::CONNECT | Method::TRACE => return Err(BadHead::Method),
        _ => return Err(BadHead::Unsupported("the method is not one that is served")),
    }
    sizes(head)?;
    lengths(head.version, &head.headers)?;
    let mut expectations = head.headers.get_all(header::EXPECT).iter();
    match (expectations.next(), expectations.next()) {
        (None, _) => {}
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"100-continue") => {}
        (Some(_), _) => return Err(BadHead::Expectation),
    }
    if head.uri.path_and_query().is_none_or(|p| !p.as_str().starts_with('/')) {
        return Err(BadHead::Ambiguous("the target is not a path"));
    }
    authority(head)
}

fn sizes(head: &Parts) -> Result<(), BadHead> {
    let target = head.uri.path_and_query().map_or(0, |p| p.as_str().len());
    if target > super::MAX_TARGET {
        return Err(BadHead::TargetTooLong);
    }
    let mut all = target;
    for (name, value) in &head.headers {
        let limit = if name == header::AUTHORIZATION { MAX_TOKEN_HEADER } else { MAX_HEADER };
        if value.len() > limit {
            return Err(BadHead::TooLarge);
        }
        all += name.as_str().len() + value.len() + 4;
    }
    if all > MAX_HEAD || head.headers.len() > MAX_HEADERS { Err(BadHead::TooLarge) } else { Ok(()) }
}

fn lengths(version: Version, headers: &HeaderMap) -> Result<(), BadHead> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let (coding, length) = (codings.next(), lengths.next());
    if codings.next().is_some() || lengths.next().is_some() || (coding.is_some() && length.is_some()) {
        return Err(BadHead::Ambiguous("the body is framed more than once"));
    }
    if let Some(coding) = coding {
        if version != Version::HTTP_11 {
            return Err(BadHead::Ambiguous("only HTTP/1.1 has transfer codings"));
        }
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(BadHead::Unsupported("the only transfer coding is `chunked`"));
        }
    }
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u64>().is_ok();
    if length.is_some_and(|l| !l.to_str().is_ok_and(is_number)) {
        return Err(BadHead::Ambiguous("Content-Length is not a number"));
    }
    Ok(())
}

/// The one host that `Host` and `:authority` name.
fn authority(head: &Parts) -> Result<String, BadHead> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(BadHead::Ambiguous("there is more than one Host"));
    }
    let host = host.map(|h| name(h.as_bytes())).transpose()?;
    let target = head.uri.authority().map(|a| name(a.as_str().as_bytes())).transpose()?;
    match (host, target) {
        (Some(host), Some(target)) if host != target => {
            Err(BadHead::Ambiguous("Host and the target's authority differ"))
        }
        (Some((host, _)), _) => Ok(host),
        // HTTP/2 needs no `Host`; an absolute target of HTTP/1.1 does (RFC 9112, 3.2.2).
        (None, Some((target, _))) if head.version == Version::HTTP_2 => Ok(target),
        (None, _) => Err(BadHead::Misdirected),
    }
}

/// A host in lower case without its final dot, and the port if one is written.
fn name(bytes: &[u8]) -> Result<(String, Option<u16>), BadHead> {
    const WRONG: BadHead = BadHead::Ambiguous("Host is not one name with at most a port");
    let text = std::str::from_utf8(bytes).map_err(|_| WRONG)?;
    let end = if text.starts_with('[') { text.find(']').map_or(0, |at| at + 1) } else { 0 };
    let (host, rest) = match text.get(end..).and_then(|rest| rest.find(':')) {
        Some(colon) => text.split_at_checked(end + colon).ok_or(WRONG)?,
        None => (text, ""),
    };
    // `host:` and ports beyond 65535 are read differently by different readers.
    let port = match rest.strip_prefix(':') {
        None => None,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Some(port.parse().map_err(|_| WRONG)?),
        Some(_) => return Err(WRONG),
    };
    let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = host.strip_suffix('.').unwrap_or(host);
    let clean = match literal {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && !host.ends_with('.')
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        }
    };
    if clean { Ok((host.to_ascii_lowercase(), port)) } else { Err(WRONG) }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn head(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Parts {
        build(Request::builder().method("POST").uri("/a")).body(()).unwrap().into_parts().0
    }

    fn with(version: Version, pairs: &[(&str, &str)]) -> Result<String, BadHead> {
        check(&head(|b| {
            pairs.iter().fold(b.version(version).header("host", "g"), |b, (k, v)| b.header(*k, *v))
        }))
    }

    fn post(pairs: &[(&str, &str)]) -> Result<String, BadHead> {
        with(Version::HTTP_11, pairs)
    }

    // `security.md` E, line by line.

    #[test]
    fn a_body_is_framed_once_or_refused() {
        assert!(post(&[("content-length", "5")]).is_ok());
        assert!(post(&[("transfer-encoding", "Chunked")]).is_ok());
        assert!(post(&[]).is_ok());
        for pairs in [
            &[("content-length", "5"), ("content-length", "5")][..],
            &[("content-length", "5"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("content-length", "+5")],
            &[("content-length", "-5")],
            &[("content-length", "0x5")],
            &[("content-length", "5, 5")],
            &[("content-length", "")],
            &[("content-length", "99999999999999999999")],
        ] {
            assert!(matches!(post(pairs), Err(BadHead::Ambiguous(_))), "{pairs:?}");
        }
    }

    #[test]
    fn any_other_coding_is_not_implemented() {
        for coding in
            ["gzip, chunked", "identity", "identity, chunked", "chunked, chunked", "chunked;q=1", ""]
        {
            assert!(
                matches!(post(&[("transfer-encoding", coding)]), Err(BadHead::Unsupported(_))),
                "{coding}"
            );
        }
    }

    #[test]
    fn http_1_0_and_http_2_have_no_transfer_codings() {
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let refused = with(version, &[("transfer-encoding", "chunked")]);
            assert!(matches!(refused, Err(BadHead::Ambiguous(_))), "{version:?}");
        }
    }

    #[test]
    fn no_expectation_but_continue() {
        assert!(post(&[("expect", "100-Continue")]).is_ok());
        assert_eq!(post(&[("expect", "200-ok")]), Err(BadHead::Expectation));
        assert_eq!(
            post(&[("expect", "100-continue"), ("expect", "100-continue")]),
            Err(BadHead::Expectation)
        );
    }

    #[test]
    fn there_is_one_host_and_it_is_a_name() {
        let host = |host: &str| check(&head(|b| b.header("host", host.as_bytes())));
        assert_eq!(host("Gate.Example.:8443").unwrap(), "gate.example");
        assert_eq!(host("[::1]:8443").unwrap(), "[::1]");
        for wrong in [
            "", "a b", "user@a", "a,b", "a/b", "a\u{e9}", "a:", "a:99999", "a:x", "a..", "a%2eb", "*.a",
            "a\\b", "::1", "[::1", "[x]", "[::1]x", "a:1:2",
        ] {
            assert!(matches!(host(wrong), Err(BadHead::Ambiguous(_))), "{wrong:?}");
        }
        assert!(check(&head(|b| b.header("host", "a").header("host", "a"))).is_err());
        assert_eq!(check(&head(|b| b)), Err(BadHead::Misdirected));
        assert_eq!(check(&head(|b| b.version(Version::HTTP_10))), Err(BadHead::Misdirected));
    }

    #[test]
    fn host_and_the_target_s_authority_agree() {
        let h2 = |b: http::request::Builder| b.version(Version::HTTP_2).uri("https://a/x");
        assert_eq!(check(&head(h2)).unwrap(), "a");
        assert!(check(&head(|b| h2(b).header("host", "A"))).is_ok());
        assert!(check(&head(|b| h2(b).header("host", "b"))).is_err());
        assert!(check(&head(|b| h2(b).header("host", "a:8443"))).is_err());
        let absolute = |b: http::request::Builder| b.uri("http://a/x");
        assert!(check(&head(|b| absolute(b).header("host", "a"))).is_ok());
        assert!(check(&head(|b| absolute(b).header("host", "b"))).is_err());
        assert_eq!(check(&head(absolute)), Err(BadHead::Misdirected));
    }

    #[test]
    fn connect_trace_and_invented_methods_are_not_served() {
        for method in ["TRACE", "CONNECT"] {
            assert_eq!(check(&head(|b| b.method(method).header("host", "g"))), Err(BadHead::Method));
        }
        for method in ["get", "PROPFIND", "GETX"] {
            let refused = check(&head(|b| b.method(method).header("host", "g")));
            assert!(matches!(refused, Err(BadHead::Unsupported(_))), "{method}");
        }
    }

    #[test]
    fn the_target_is_a_path() {
        for target in ["*", "g:443"] {
            let refused = check(&head(|b| b.method("OPTIONS").uri(target).header("host", "g")));
            assert!(matches!(refused, Err(BadHead::Ambiguous(_))), "{target}");
        }
    }

    #[test]
    fn heads_are_bounded_but_a_token_of_48_kib_fits() {
        let token = format!("Bearer {}", "a".repeat(48 << 10));
        assert!(post(&[("authorization", &token)]).is_ok());
        assert_eq!(post(&[("x-long", &token)]), Err(BadHead::TooLarge));
        let large = "a".repeat(15 << 10);
        let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"].iter().map(|n| (*n, large.as_str())).collect();
        assert_eq!(post(&many), Err(BadHead::TooLarge));
        let names: Vec<_> = (0..100).map(|_| ("x-a", "1")).collect();
        assert_eq!(post(&names), Err(BadHead::TooLarge));
        let long = format!("/{}", "a".repeat(17 << 10));
        assert_eq!(check(&head(|b| b.uri(long).header("host", "g"))), Err(BadHead::TargetTooLong));
    }

    proptest! {
        #[test]
        fn what_is_accepted_as_a_host_is_one_plain_name(text in "[a-zA-Z0-9.:@,/\\\\%\\[\\]_ *-]{0,24}") {
            if let Ok((host, _)) = name(text.as_bytes()) {
                prop_assert!(!host.is_empty() && !host.ends_with('.'));
                prop_assert!(!host.contains(['@', ',', '/', '\\', ' ', '%', '*']));
                prop_assert_eq!(host.to_ascii_lowercase(), host);
            }
        }
    }
}
