//! Which headers cross the gate, in both directions.
//!
//! Towards Azure's own services a list per protocol says what goes; everything else stays here.
//! Towards endpoints and other services everything goes but what is hop-by-hop, who the caller is,
//! and what other proxies are believed by. Names are compared after mapping `_` and `.` to `-`,
//! because servers behind CGI-like interfaces cannot tell them apart.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// How much of a request's headers an upstream is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// These alone; a final `*` stands for any rest.
    Listed(&'static [&'static str]),
    /// All but what is removed.
    AllButRemoved,
}

/// Azure Resource Manager.
pub const ARM: Told = Told::Listed(&[
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "client-request-id",
    "commandname",
    "content-encoding",
    "content-language",
    "content-type",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "parametersetname",
    "prefer",
    "repeatability-first-sent",
    "repeatability-request-id",
    "repeatability_request-id",
    "return-client-request-id",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-ms-client-request-id",
    "x-ms-client-session-id",
    "x-ms-correlation-request-id",
    "x-ms-return-client-request-id",
    "x-ms-useragent",
]);

/// The regional data plane: ARM's, and what artifacts and MLflow's clients need.
pub const AZUREML: Told = Told::Listed(&[
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "client-request-id",
    "commandname",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-range",
    "content-type",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "parametersetname",
    "prefer",
    "range",
    "repeatability-first-sent",
    "repeatability-request-id",
    "repeatability_request-id",
    "return-client-request-id",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-mlflow-*",
    "x-ms-caller-name",
    "x-ms-client-request-id",
    "x-ms-client-session-id",
    "x-ms-correlation-request-id",
    "x-ms-return-client-request-id",
    "x-ms-useragent",
]);

/// Key Vault.
pub const KEY_VAULT: Told = Told::Listed(&[
    "accept",
    "accept-encoding",
    "accept-language",
    "content-type",
    "if-match",
    "if-none-match",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-ms-client-request-id",
    "x-ms-return-client-request-id",
]);

/// Blob storage. `x-ms-copy-source` is not in it: the gate's identity would read what the caller
/// may not.
pub const STORAGE: Told = Told::Listed(&[
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-ms-access-tier",
    "x-ms-blob-cache-control",
    "x-ms-blob-condition-*",
    "x-ms-blob-content-*",
    "x-ms-blob-sequence-number",
    "x-ms-blob-type",
    "x-ms-client-request-id",
    "x-ms-content-crc64",
    "x-ms-date",
    "x-ms-if-*",
    "x-ms-lease-id",
    "x-ms-meta-*",
    "x-ms-page-write",
    "x-ms-range",
    "x-ms-range-get-content-crc64",
    "x-ms-range-get-content-md5",
    "x-ms-return-client-request-id",
    "x-ms-structured-body",
    "x-ms-structured-content-length",
    "x-ms-tags",
    "x-ms-version",
]);

/// Hop-by-hop (RFC 9110, 7.6.1), and what the next hop's framing decides.
const HOP: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Credentials, wherever they hide: they neither go upstream nor into conditions.
const CREDENTIALS: &[&str] = &[
    "aml-user-token",
    "api-key",
    "authorization",
    "cookie",
    "dpop",
    "ocp-apim-subscription-key",
    "proxy-authorization",
    "subscription-key",
    "x-api-key",
    "x-azureml-token",
    "x-ms-authorization-auxiliary",
];

/// Who the caller is, who forwarded, what the method and path really are: said by the gate or by
/// nobody.
const IDENTITY: &[&str] = &[
    "client-cert*",
    "forwarded",
    "impersonate-*",
    "metadata",
    "ssl-client-*",
    "true-client-ip",
    "via",
    "x-amlgate-*",
    "x-arr-clientcert",
    "x-auth-request-*",
    "x-client-cert*",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded-*",
    "x-http-method",
    "x-http-method-override",
    "x-identity-header",
    "x-method-override",
    "x-ms-client-principal*",
    "x-ms-token-*",
    "x-original-*",
    "x-real-ip",
    "x-remote-*",
    "x-rewrite-url",
    "x-ssl-*",
    "x-user",
    "x-webauth-*",
];

/// What an upstream says of itself or sets at the caller: none of it is the caller's business.
const UPSTREAM_ONLY: &[&str] = &[
    "alt-svc",
    "proxy-authenticate",
    "public-key-pins",
    "server",
    "set-cookie",
    "strict-transport-security",
    "www-authenticate",
    "x-amlgate-*",
    "x-azureml-token",
    "x-aspnet-version",
    "x-powered-by",
];

/// Headers that `Connection` cannot remove, whatever it lists.
const KEPT: &[&str] = &["accept", "content-encoding", "content-type", "user-agent"];

/// The words with which a call asks for the approval that it waits for: they are for the gate, and go
/// to nobody behind it.
pub const REASON: &str = "x-amlgate-reason";
/// And the ticket.
pub const TICKET: &str = "x-amlgate-ticket";

/// The request headers that policies may read and the record may hold: no credential is among them.
#[must_use]
pub fn without_credentials(mut headers: HeaderMap) -> HeaderMap {
    let secret = |name: &HeaderName, value: &HeaderValue| {
        let text = name.as_str();
        value.is_sensitive() || HIDDEN.hold(text) && text != REASON && text != TICKET
    };
    // Mostly one, the token's: the map that the request brought is not built a second time.
    let gone: Vec<HeaderName> =
        headers.iter().filter(|(name, value)| secret(name, value)).map(|(name, _)| name.clone()).collect();
    for name in gone {
        let kept: Vec<_> = headers.get_all(&name).iter().filter(|v| !secret(&name, v)).cloned().collect();
        headers.remove(&name);
        for value in kept {
            headers.append(&name, value);
        }
    }
    headers
}

/// The headers that go upstream; `host`, framing and the gate's own credential are not among them.
#[must_use]
pub fn upstream(headers: &HeaderMap, rule: Told) -> HeaderMap {
    let listed = connection_lists(headers);
    let mut out = HeaderMap::with_capacity(headers.len() + 4);
    for (name, value) in headers {
        let text = name.as_str();
        let goes = match rule {
            Told::Listed(list) => matches(list, text),
            // `repeatability_request-id` is the one real header with an underscore.
            Told::AllButRemoved => {
                (!text.contains(['_', '.']) || text == "repeatability_request-id") && !is_removed(text)
            }
        };
        if goes && !is_listed(&listed, text) {
            out.append(name.clone(), value.clone());
        }
    }
    if rule == Told::AllButRemoved
        && let Some(announced) = announced(headers)
    {
        out.insert(header::TRAILER, announced);
    }
    out
}

/// The trailers that are announced and cross: HTTP/1.1 sends no others (RFC 9110, 6.6.2).
fn announced(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut kept = String::new();
    let named = headers.get_all(header::TRAILER).iter().filter_map(|value| value.to_str().ok());
    for name in named.flat_map(|value| value.split(',')).map(str::trim) {
        let Ok(name) = HeaderName::try_from(name) else { continue };
        if crosses_behind(&name) {
            let between = if kept.is_empty() { "" } else { ", " };
            kept = kept + between + name.as_str();
        }
    }
    HeaderValue::try_from(kept).ok().filter(|value| !value.is_empty())
}

/// Whether a trailer of this name crosses: it would as a header, and it changes nothing of what the
/// message was taken for (RFC 9110, 6.5.1).
fn crosses_behind(name: &HeaderName) -> bool {
    let text = name.as_str();
    !is_removed(text)
        && !text.contains(['_', '.'])
        && !NOT_ANSWERED.are(text)
        && !matches!(*name, header::CONTENT_TYPE | header::CONTENT_ENCODING | header::LOCATION)
}

/// Takes out of an answer's headers what belongs to the hop or to the upstream alone.
pub fn strip_answer(headers: &mut HeaderMap) {
    let listed = connection_lists(headers);
    let gone: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let text = name.as_str();
            (text != "content-length" && NOT_ANSWERED.are(text)) || is_listed(&listed, text)
        })
        .cloned()
        .collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Which trailers cross: those that would cross as headers. None where a list decides, because no
/// client of those services sends or reads any.
pub fn keep_trailers(trailers: &mut HeaderMap, rule: Told) -> bool {
    match rule {
        Told::Listed(_) => false,
        Told::AllButRemoved => {
            let gone: Vec<_> = trailers.keys().filter(|name| !crosses_behind(name)).cloned().collect();
            for name in gone {
                trailers.remove(name);
            }
            !trailers.is_empty()
        }
    }
}

/// A header value from text that is known to be one; what cannot be one is left out.
#[must_use]
pub fn value(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What `Connection` lists, in lower case.
fn connection_lists(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|t| t.trim().to_ascii_lowercase())
        .filter(|t| !t.is_empty() && t != "keep-alive" && t != "close" && t != "upgrade")
        .collect()
}

fn is_listed(listed: &[String], name: &str) -> bool {
    // What tells requests apart, or what the answer is, is not for a hop to take away.
    !listed.is_empty()
        && listed.iter().any(|l| l == name)
        && !KEPT.contains(&name)
        && !name.starts_with("x-ms-")
        && !name.starts_with("trace")
}

fn is_removed(name: &str) -> bool {
    REMOVED.hold(name)
}

/// What neither goes upstream where everything else goes, nor is forwarded by a hop.
static REMOVED: LazyLock<Names> = LazyLock::new(|| Names::of(&[HOP, CREDENTIALS, IDENTITY]));
/// What policies do not read and records do not hold.
static HIDDEN: LazyLock<Names> = LazyLock::new(|| Names::of(&[CREDENTIALS, IDENTITY]));
/// What an answer does not keep.
static NOT_ANSWERED: LazyLock<Names> = LazyLock::new(|| Names::of(&[HOP, UPSTREAM_ONLY]));

/// Several lists, arranged so that a name is compared with few of their patterns.
struct Names {
    /// Whole names, by their length.
    whole: Vec<Vec<&'static str>>,
    /// What stands before a final `*`.
    starts: Vec<&'static str>,
}

impl Names {
    fn of(lists: &[&[&'static str]]) -> Self {
        let mut names = Self { whole: Vec::new(), starts: Vec::new() };
        for pattern in lists.iter().copied().flatten().copied() {
            if let Some(start) = pattern.strip_suffix('*') {
                names.starts.push(start);
                continue;
            }
            if names.whole.len() <= pattern.len() {
                names.whole.resize_with(pattern.len() + 1, Vec::new);
            }
            names.whole.get_mut(pattern.len()).into_iter().for_each(|all| all.push(pattern));
        }
        names
    }

    /// Whether a pattern fits the name to the letter.
    fn are(&self, name: &str) -> bool {
        self.whole.get(name.len()).is_some_and(|all| all.contains(&name))
            || self.starts.iter().any(|start| name.starts_with(start))
    }

    /// As [`Self::are`], after mapping `_` and `.` to `-`.
    fn hold(&self, name: &str) -> bool {
        if name.bytes().fold(false, |found, b| found | (b == b'_') | (b == b'.')) {
            self.are(&name.replace(['_', '.'], "-"))
        } else {
            self.are(name)
        }
    }
}

fn matches(list: &[&str], name: &str) -> bool {
    let name = name.as_bytes();
    list.iter().any(|pattern| match pattern.as_bytes() {
        [start @ .., b'*'] => name.starts_with(start),
        whole => whole == name,
    })
}

#[cfg(test)]
mod tests;
