//! Which headers go on, in both directions.
//!
//! To Azure's own protocols only a list of request headers goes on; to models and other services
//! everything but what is hop-by-hop, a credential, or an identity that somebody downstream might
//! believe. Names are compared as a careless server would: `_`, `.` and space count as `-`.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Meaningful for one connection only (RFC 9110, 7.6.1, and what came before it).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Never sent on: credentials, identities, and what would choose another method or path.
const REMOVED: &[&str] = &[
    "authorization",
    "cookie",
    "forwarded",
    "x-azureml-token",
    "x-forwarded",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-ms-authorization-auxiliary",
    "x-original-method",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-client-cert",
    "x-remote-user",
    "x-user",
    "api-key",
    "x-api-key",
    "ocp-apim-subscription-key",
    "via",
    "expect",
];
/// Families of the same.
const REMOVED_FAMILIES: &[&str] =
    &["x-amlgate-", "x-forwarded-", "x-ms-client-principal", "x-auth-request-", "x-webauth-"];

/// What ARM, the data plane, Key Vault and storage may be told (`clients.md`: each is sent by an
/// official client).
const AZURE: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "aml-user-token",
    "azureml-model-deployment",
    "cache-control",
    "client-request-id",
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "prefer",
    "range",
    "repeatability-first-sent",
    "repeatability-request-id",
    "request-id",
    "return-client-request-id",
    "traceparent",
    "tracestate",
    "user-agent",
];
/// Families of the same; what they hold of credentials is in [`REMOVED`].
const AZURE_FAMILIES: &[&str] = &["x-ms-", "x-azureml-", "azureml-", "x-mlflow-"];

/// How much of a request's headers an upstream is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// What is on the list.
    Listed,
    /// Everything but what is removed.
    AllButRemoved,
}

/// The name as a careless server reads it.
fn folded(name: &str) -> std::borrow::Cow<'_, str> {
    if name.contains(['_', '.', ' ']) { name.replace(['_', '.', ' '], "-").into() } else { name.into() }
}

fn is_in(name: &str, names: &[&str], families: &[&str]) -> bool {
    names.contains(&name) || families.iter().any(|f| name.starts_with(f))
}

/// The headers that `Connection` names, so that they end here too; it cannot name what every
/// message needs.
fn connection_names(headers: &HeaderMap) -> Vec<String> {
    const KEPT: &[&str] =
        &["host", "authorization", "content-length", "content-type", "x-ms-client-request-id"];
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !KEPT.contains(&name.as_str()))
        .collect()
}

/// The request headers that go upstream. Framing, `Host` and credentials are added by whoever
/// sends.
#[must_use]
pub fn upstream(headers: &HeaderMap, told: Told) -> HeaderMap {
    let named = connection_names(headers);
    let mut out = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let text = name.as_str();
        let read = folded(text);
        let goes = match told {
            // `repeatability_request-id` is spelled so by the official client.
            Told::Listed => is_in(&read, AZURE, AZURE_FAMILIES),
            Told::AllButRemoved => true,
        };
        let stays = is_in(&read, HOP_BY_HOP, &[])
            || is_in(&read, REMOVED, REMOVED_FAMILIES)
            || matches!(text, "host" | "content-length")
            || named.iter().any(|n| n == text);
        if goes && !stays {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

/// The request headers that policies may read: no credential is among them.
#[must_use]
pub fn without_credentials(headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let read = folded(name.as_str());
        if !is_in(&read, REMOVED, &["x-amlgate-", "x-ms-client-principal"])
            && read != "proxy-authorization"
            && !value.is_sensitive()
        {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

/// Removes from an answer what ends at the gate.
pub fn strip_answer(headers: &mut HeaderMap) {
    for name in connection_names(headers) {
        headers.remove(name.as_str());
    }
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
    for name in
        ["server", "set-cookie", "alt-svc", "strict-transport-security", "x-azureml-token", "x-powered-by"]
    {
        headers.remove(name);
    }
    let ours: Vec<HeaderName> =
        headers.keys().filter(|n| n.as_str().starts_with("x-amlgate-")).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

/// A header value from text that is known to be one; what cannot be one is left out.
#[must_use]
pub fn value(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn no_credential_and_no_identity_of_the_caller_goes_upstream() {
        let sent = map(&[
            ("authorization", "Bearer x"),
            ("proxy-authorization", "Basic x"),
            ("cookie", "a=b"),
            ("x-azureml-token", "x"),
            ("x-ms-authorization-auxiliary", "Bearer y"),
            ("x-amlgate-user", "root"),
            ("x_amlgate_user", "root"),
            ("x-ms-client-principal-id", "root"),
            ("x_ms_client_principal", "root"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x_forwarded_for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-original-url", "/admin"),
            ("x-http-method-override", "DELETE"),
            ("accept", "*/*"),
        ]);
        for told in [Told::Listed, Told::AllButRemoved] {
            assert_eq!(names(&upstream(&sent, told)), ["accept"], "{told:?}");
        }
        assert_eq!(names(&without_credentials(&map(&[("authorization", "x"), ("accept", "y")]))), ["accept"]);
    }

    #[test]
    fn azure_is_told_what_is_on_the_list_and_a_model_everything_else_too() {
        let sent = map(&[
            ("x-ms-client-request-id", "1"),
            ("azureml-model-deployment", "blue"),
            ("repeatability_request-id", "2"),
            ("x-own", "3"),
            ("if-match", "4"),
        ]);
        assert_eq!(
            names(&upstream(&sent, Told::Listed)),
            ["azureml-model-deployment", "if-match", "repeatability_request-id", "x-ms-client-request-id"]
        );
        assert_eq!(upstream(&sent, Told::AllButRemoved).len(), 5);
    }

    #[test]
    fn connection_names_end_here_but_cannot_take_what_every_message_needs() {
        let sent = map(&[
            ("connection", "x-own, Content-Type, keep-alive"),
            ("x-own", "1"),
            ("content-type", "a/b"),
            ("keep-alive", "5"),
        ]);
        assert_eq!(names(&upstream(&sent, Told::AllButRemoved)), ["content-type"]);
    }

    #[test]
    fn an_answer_loses_what_is_for_one_connection_or_would_speak_for_the_gate() {
        let mut answer = map(&[
            ("server", "x"),
            ("set-cookie", "a=b"),
            ("x-amlgate-decision", "forged"),
            ("connection", "x-a"),
            ("x-a", "1"),
            ("etag", "2"),
        ]);
        strip_answer(&mut answer);
        assert_eq!(names(&answer), ["etag"]);
    }
}
