//! The one place where a request may carry its token: a single `Authorization: Bearer` header
//! (RFC 6750 section 2.1).
//!
//! Tokens in queries, cookies, forms and other headers are not looked for. Two headers, a comma,
//! another scheme: unauthenticated, rather than a guess which of them is meant.

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use super::jws::MAX_TOKEN;

/// How a token is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// By whoever bears it (RFC 6750).
    Bearer,
    /// With a proof of the key that it is bound to (RFC 9449, 7.1).
    Dpop,
}

/// Why a request carries no bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoBearer {
    /// There is no `Authorization` header.
    #[error("there is no `Authorization` header")]
    Absent,
    /// There is more than one.
    #[error("there is more than one `Authorization` header")]
    Several,
    /// It has another scheme.
    #[error("the scheme of the `Authorization` header is neither `Bearer` nor `DPoP`")]
    Scheme,
    /// What follows the scheme is not one token.
    #[error("the `Authorization` header holds no single token")]
    Malformed,
}

impl NoBearer {
    /// A stable name for records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "no_credentials",
            Self::Several => "several_credentials",
            Self::Scheme => "other_scheme",
            Self::Malformed => "malformed_credentials",
        }
    }
}

/// The only `Authorization` header, not looked into: enough to ask a connection's memo.
///
/// # Errors
/// [`NoBearer::Absent`] or [`NoBearer::Several`].
pub fn sole(headers: &HeaderMap) -> Result<&HeaderValue, NoBearer> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let first = all.next().ok_or(NoBearer::Absent)?;
    match all.next() {
        None => Ok(first),
        Some(_) => Err(NoBearer::Several),
    }
}

/// The token in an `Authorization` header's value, if anybody may bear it.
///
/// # Errors
/// [`NoBearer::Scheme`] or [`NoBearer::Malformed`], as [`credentials`]; a token that is sent with a
/// proof is none that is borne.
pub fn token(value: &HeaderValue) -> Result<&str, NoBearer> {
    match credentials(value)? {
        (Scheme::Bearer, token) => Ok(token),
        (Scheme::Dpop, _) => Err(NoBearer::Scheme),
    }
}

/// How a token is sent, by an `Authorization` header that was found to hold one.
#[must_use]
pub fn scheme(value: &HeaderValue) -> Scheme {
    match value.as_bytes().first() {
        Some(b'D' | b'd') => Scheme::Dpop,
        Some(_) | None => Scheme::Bearer,
    }
}

/// The token in an `Authorization` header's value and how it is sent; the scheme is compared without
/// case.
///
/// # Errors
/// [`NoBearer::Scheme`] or [`NoBearer::Malformed`]: anything but one run of the characters of
/// RFC 6750 `b64token`, at most [`MAX_TOKEN`] long.
pub fn credentials(value: &HeaderValue) -> Result<(Scheme, &str), NoBearer> {
    let text = value.to_str().map_err(|_| NoBearer::Malformed)?;
    let (scheme, rest) = text.split_once(' ').ok_or(NoBearer::Scheme)?;
    let scheme = if scheme.eq_ignore_ascii_case("bearer") {
        Scheme::Bearer
    } else if scheme.eq_ignore_ascii_case("dpop") {
        Scheme::Dpop
    } else {
        return Err(NoBearer::Scheme);
    };
    let token = rest.trim_matches(' ');
    let allowed =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(allowed) {
        return Err(NoBearer::Malformed);
    }
    Ok((scheme, token))
}

/// The request's token: [`sole`], then [`token`].
///
/// # Errors
/// [`NoBearer`].
pub fn of(headers: &HeaderMap) -> Result<&str, NoBearer> {
    token(sole(headers)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|v| (AUTHORIZATION, HeaderValue::from_bytes(v.as_bytes()).unwrap())).collect()
    }

    #[test]
    fn one_bearer_header_gives_its_token_whatever_the_scheme_s_case() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "Bearer  a.b.c", "Bearer a.b.c "] {
            assert_eq!(of(&headers(&[value])), Ok("a.b.c"), "{value}");
        }
    }

    #[test]
    fn everything_else_is_unauthenticated() {
        for (values, why) in [
            (&[][..], NoBearer::Absent),
            (&["Bearer a.b.c", "Bearer a.b.c"], NoBearer::Several),
            (&["Bearer a.b.c", "Basic eDp5"], NoBearer::Several),
            (&["Basic eDp5"], NoBearer::Scheme),
            (&["Bearer"], NoBearer::Scheme),
            (&["Bearer\ta.b.c"], NoBearer::Scheme),
            (&["DPoP a.b.c"], NoBearer::Scheme),
            (&["BearerX a.b.c"], NoBearer::Scheme),
            (&[" Bearer a.b.c"], NoBearer::Scheme),
            (&["Bearer "], NoBearer::Malformed),
            (&["Bearer a.b.c, Bearer d.e.f"], NoBearer::Malformed),
            (&["Bearer a.b.c,d.e.f"], NoBearer::Malformed),
            (&["Bearer a.b.c d"], NoBearer::Malformed),
            (&["Bearer \"a.b.c\""], NoBearer::Malformed),
            (&["Bearer a.b.\u{e9}"], NoBearer::Malformed),
        ] {
            assert_eq!(of(&headers(values)), Err(why), "{values:?}");
        }
        let long = format!("Bearer {}", "a".repeat(MAX_TOKEN + 1));
        assert_eq!(of(&headers(&[&long])), Err(NoBearer::Malformed));
    }

    #[test]
    fn other_places_are_not_looked_at() {
        let mut map = HeaderMap::new();
        for name in ["cookie", "x-authorization", "x-ms-token-aad-access-token", "proxy-authorization"] {
            map.insert(name, HeaderValue::from_static("Bearer a.b.c"));
        }
        assert_eq!(of(&map), Err(NoBearer::Absent));
    }
}
