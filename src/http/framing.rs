//! What a request's head must be before anything is believed of it (`security.md` E).
//!
//! Requests reach Azure only re-framed from the decoded body, so what hyper normalises is
//! harmless; what it shows is refused here: several framings, foreign transfer codings, authorities
//! that differ, methods and forms of target that no upstream of ours takes.

use http::{HeaderMap, Method, Version, header, request::Parts};

/// A head that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHead {
    /// 400: the framing or the authority can be read in two ways.
    Ambiguous(&'static str),
    /// 501: not a method or coding of ours.
    Unsupported(&'static str),
    /// 417.
    Expectation,
    /// 431: a single header is too large.
    TooLarge,
    /// 421: not a name of ours, or none.
    Misdirected,
}

/// The largest single header but the token's.
const MAX_HEADER: usize = 16 << 10;
/// The largest token's header.
const MAX_TOKEN_HEADER: usize = (48 << 10) + 16;

/// Judges a head and gives its host, in lower case and without a port.
///
/// # Errors
/// [`BadHead`].
pub fn check(head: &Parts) -> Result<String, BadHead> {
    match head.method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS => {}
        _ => return Err(BadHead::Unsupported("the method is not one that is served")),
    }
    lengths(&head.headers)?;
    for (name, value) in &head.headers {
        let limit = if name == header::AUTHORIZATION { MAX_TOKEN_HEADER } else { MAX_HEADER };
        if value.len() > limit {
            return Err(BadHead::TooLarge);
        }
    }
    if head.headers.get(header::EXPECT).is_some_and(|e| !e.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(BadHead::Expectation);
    }
    if head.version < Version::HTTP_11 && head.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(BadHead::Ambiguous("HTTP/1.0 has no transfer coding"));
    }
    authority(head)
}

fn lengths(headers: &HeaderMap) -> Result<(), BadHead> {
    let codings = headers.get_all(header::TRANSFER_ENCODING).iter().collect::<Vec<_>>();
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().collect::<Vec<_>>();
    if codings.len() > 1 || lengths.len() > 1 {
        return Err(BadHead::Ambiguous("the body is framed more than once"));
    }
    if let Some(coding) = codings.first()
        && !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
    {
        return Err(BadHead::Unsupported("the only transfer coding is `chunked`"));
    }
    if !codings.is_empty() && !lengths.is_empty() {
        return Err(BadHead::Ambiguous("Content-Length and Transfer-Encoding exclude each other"));
    }
    if lengths.first().is_some_and(|l| l.is_empty() || !l.as_bytes().iter().all(u8::is_ascii_digit)) {
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
    let host = host.map(|h| h.to_str().map_err(|_| BadHead::Ambiguous("Host is not a name"))).transpose()?;
    let target = head.uri.authority().map(http::uri::Authority::as_str);
    if head.version < Version::HTTP_2
        && target.is_some()
        && !target.zip(host).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
    {
        return Err(BadHead::Misdirected);
    }
    let named = match (host, target) {
        (Some(host), Some(target)) if !host.eq_ignore_ascii_case(target) => {
            return Err(BadHead::Ambiguous("Host and :authority differ"));
        }
        (Some(host), _) => host,
        (None, Some(target)) => target,
        (None, None) => return Err(BadHead::Misdirected),
    };
    let name = match named.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        Some(_) | None => named,
    };
    let name = name.trim_end_matches('.');
    let clean = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'[' | b']' | b':' | b'_'));
    if !clean {
        return Err(BadHead::Ambiguous("Host is not a name"));
    }
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Parts {
        build(Request::builder().method("GET").uri("/a")).body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_body_is_framed_once_or_refused() {
        let post = |pairs: &[(&str, &str)]| {
            check(&head(|b| pairs.iter().fold(b.header("host", "g"), |b, (k, v)| b.header(*k, *v))))
        };
        assert!(post(&[("content-length", "5")]).is_ok());
        assert!(post(&[("transfer-encoding", "Chunked")]).is_ok());
        for pairs in [
            &[("content-length", "5"), ("content-length", "6")][..],
            &[("content-length", "5"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "identity")],
            &[("content-length", "+5")],
            &[("content-length", "5, 5")],
            &[("content-length", "")],
        ] {
            assert!(post(pairs).is_err(), "{pairs:?}");
        }
        assert_eq!(post(&[("expect", "200-ok")]), Err(BadHead::Expectation));
        assert!(post(&[("expect", "100-Continue")]).is_ok());
    }

    #[test]
    fn there_is_one_host_and_it_is_a_name() {
        assert_eq!(check(&head(|b| b.header("host", "Gate.Example.:8443"))).unwrap(), "gate.example");
        assert_eq!(check(&head(|b| b.header("host", "[::1]:8443"))).unwrap(), "[::1]");
        for host in ["", "a b", "user@a", "a,b", "a/b", "a\u{e9}"] {
            assert!(check(&head(|b| b.header("host", host.as_bytes()))).is_err(), "{host:?}");
        }
        assert!(check(&head(|b| b.header("host", "a").header("host", "b"))).is_err());
        assert_eq!(check(&head(|b| b)), Err(BadHead::Misdirected));
        let h2 =
            |host: &str| check(&head(|b| b.version(Version::HTTP_2).uri("https://a/x").header("host", host)));
        assert!(h2("A").is_ok());
        assert_eq!(h2("b"), Err(BadHead::Ambiguous("Host and :authority differ")));
    }

    #[test]
    fn other_methods_are_not_served() {
        for method in ["TRACE", "CONNECT", "get", "PROPFIND"] {
            assert!(
                matches!(
                    check(&head(|b| b.method(method).header("host", "g"))),
                    Err(BadHead::Unsupported(_))
                ),
                "{method}"
            );
        }
    }

    #[test]
    fn a_token_of_48_kib_passes_and_another_header_of_that_size_does_not() {
        let long = "x".repeat(40 << 10);
        assert!(check(&head(|b| b.header("host", "g").header("authorization", &long))).is_ok());
        assert_eq!(check(&head(|b| b.header("host", "g").header("x-a", &long))), Err(BadHead::TooLarge));
    }
}
