//! Why there is no tunnel, said so that a person can mend it. Of a refused CONNECT most clients show
//! the status line alone; whoever asks with curl or reads a trace gets the sentence.

use http::{HeaderValue, Response, StatusCode, header};

use crate::http::Body;

/// Why there is no tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoTunnel {
    /// 400: not a host and a port.
    Target,
    /// 403: no route and no passthrough.
    Host(String),
    /// 403: an address of this machine, its network or its metadata.
    Inside(String),
    /// 407: nobody is known.
    Nobody(&'static str),
    /// 407: too many of this peer's tunnels are nobody's yet.
    Strangers,
    /// 403: plaintext.
    Plaintext(String),
    /// 403: a question for an instance's metadata.
    Metadata(String),
    /// 400: a request to the proxy itself.
    Itself,
    /// 502.
    Unreachable(String),
    /// 503.
    Unrecorded,
    /// 503: the issuer's keys are not there.
    IssuerDown,
    /// The caller's groups cannot be had from the issuer.
    GroupsUnknown,
}

impl NoTunnel {
    fn status(&self) -> StatusCode {
        match self {
            Self::Target | Self::Itself => StatusCode::BAD_REQUEST,
            Self::Host(_) | Self::Inside(_) | Self::Plaintext(_) | Self::Metadata(_) => StatusCode::FORBIDDEN,
            Self::Nobody(_) | Self::Strangers => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Self::Unreachable(_) => StatusCode::BAD_GATEWAY,
            Self::Unrecorded | Self::IssuerDown | Self::GroupsUnknown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The word in records and metrics.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Target => "bad_target",
            Self::Host(_) => "host_not_routed",
            Self::Inside(_) => "forbidden_address",
            Self::Nobody(why) => why,
            Self::Strangers => "too_many_unknown",
            Self::Plaintext(_) => "plaintext",
            Self::Metadata(_) => "metadata",
            Self::Itself => "not_a_proxy_request",
            Self::Unreachable(_) => "unreachable",
            Self::Unrecorded => "unrecorded",
            Self::IssuerDown => "issuer_down",
            Self::GroupsUnknown => "groups_unavailable",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Target => "a tunnel leads to a host and a port: CONNECT HOST:443".to_owned(),
            Self::Host(host) => format!(
                "`{host}` is not tunnelled: no route of the gate names it, and `listen.forward.passthrough` does not list it; whoever runs the gate can add it, or name it in NO_PROXY to go there directly"
            ),
            Self::Inside(host) => format!(
                "`{host}` is an address of a machine's own (instance metadata, loopback, link-local or private), which the gate never reaches for anybody; name it in NO_PROXY if your own machine\'s is meant"
            ),
            Self::Nobody(_) => "nobody is known: put a token of one of the gate's issuers into the proxy's URL as password, HTTPS_PROXY=https://token:TOKEN@HOST:PORT, or send Proxy-Authorization: Bearer TOKEN".to_owned(),
            Self::Strangers => "too many tunnels from here are nobody's yet: say who you are when you ask for one, or ask again when those have said it".to_owned(),
            Self::Plaintext(host) => format!("`{host}` over plain http is not forwarded, because no route of the gate has it as upstream: use https, or name it in NO_PROXY to go there directly"),
            Self::Metadata(host) => format!("a request with `Metadata` to `{host}` is not forwarded: it asks for a machine's identity, which the gate gives nobody"),
            Self::Itself => "this is a forward proxy: set HTTPS_PROXY to its address".to_owned(),
            Self::Unreachable(why) => why.clone(),
            Self::Unrecorded => "the tunnel cannot be recorded now, and what is not recorded is not dug; try again".to_owned(),
            Self::GroupsUnknown => "the issuer does not say which groups the caller is in, so that nothing can be decided; try again".to_owned(),
            Self::IssuerDown => "the issuer's keys are not to be had, so that no token can be checked; try again".to_owned(),
        }
    }

    pub(super) fn answer(&self) -> Response<Body> {
        let mut response = Response::new(Body::full(format!("amlgate: {}\n", self.message())));
        *response.status_mut() = self.status();
        let map = response.headers_mut();
        map.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if matches!(self, Self::Nobody(_) | Self::Strangers) {
            map.append(header::PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"amlgate\""));
            map.append(header::PROXY_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"amlgate\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_what_to_do_and_only_nobody_is_asked_for_credentials() {
        for refusal in [
            NoTunnel::Target,
            NoTunnel::Host("pypi.org".into()),
            NoTunnel::Inside("169.254.169.254".into()),
            NoTunnel::Nobody("no_credentials"),
            NoTunnel::Plaintext("example.com".into()),
            NoTunnel::Metadata("example.com".into()),
            NoTunnel::Strangers,
            NoTunnel::Itself,
        ] {
            let answer = refusal.answer();
            let asks = answer.headers().get_all(header::PROXY_AUTHENTICATE).iter().count();
            let nobody = answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
            assert_eq!(asks, if nobody { 2 } else { 0 }, "{refusal:?}");
        }
        assert!(NoTunnel::Host("pypi.org".into()).message().contains("`pypi.org`"));
    }
}
