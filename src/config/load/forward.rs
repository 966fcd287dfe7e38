//! `listen.forward`: the proxy that clients find by `HTTPS_PROXY`.

use std::path::PathBuf;

use super::{
    super::{Problems, raw, values},
    Reader, plaintext, routes,
};
use crate::{
    config::settings::{Forward, Route},
    listen,
    proxy::forward::{Identities, TunnelSettings},
    yaml::{Place, Spanned},
};

/// `login`: the gate answers in the place of the login host.
pub(super) const ANSWER: &str = "answer";

impl Reader<'_> {
    pub(super) fn forward(
        &self,
        found: &Spanned<raw::Forward>,
        login_host: &str,
        problems: &mut Problems,
    ) -> Option<Forward> {
        let raw = &found.value;
        let address = problems.read(&raw.address, values::address);
        let tls = raw.tls.as_ref().map(|t| self.tls(t, problems));
        if let (Some(address), None, false) = (address, &tls, raw.insecure_plaintext) {
            plaintext(address, Place::of(&raw.address), problems);
        }
        let ca = &raw.interception_ca.value;
        let authority = self.existing(&ca.certificate, problems);
        let authority_key = self.reference(&ca.private_key, problems);
        let also_trust = ca.also_trust.iter().filter_map(|path| self.believed(path, problems)).collect();
        let mut passthrough: Vec<_> =
            raw.passthrough.iter().filter_map(|h| problems.read(h, pattern)).collect();
        let mut identities = Identities::default();
        if let Some(named) = &raw.identity {
            identities = Identities { proxy_authorization: false, inner: false, certificate: false };
            for name in named {
                match name.value.as_str() {
                    "proxy_authorization" => identities.proxy_authorization = true,
                    "inner" => identities.inner = true,
                    "certificate" if raw.tls.as_ref().is_some_and(|t| t.value.client_ca.is_some()) => {
                        identities.certificate = true;
                    }
                    "certificate" => problems.error_with(
                        Place::of(name),
                        "nobody is asked for a certificate here",
                        "add `client_ca: certs/clients.pem` to `listen.forward.tls`",
                    ),
                    other => problems.error_with(
                        Place::of(name),
                        format!("`{other}` is no way to say who one is"),
                        "write `proxy_authorization`, `inner`, `certificate` or several of them",
                    ),
                }
            }
            if named.is_empty() {
                problems.error(Place::of(found), "`identity` is empty, so that nobody could be known");
            }
        }
        let mut answered = Vec::new();
        match raw.login.as_ref().map(|login| (login, login.value.as_str())) {
            None | Some((_, "refuse")) => {}
            Some((_, "passthrough")) => passthrough.push(login_host.into()),
            Some((_, ANSWER)) => answered.push(login_host.into()),
            Some((login, other)) => problems.error_with(
                Place::of(login),
                format!("`{other}` is nothing that becomes of the login host"),
                "write `refuse`, `passthrough` or `answer`",
            ),
        }
        Some(Forward {
            address: address?,
            tls: match tls {
                None => None,
                Some(tls) => Some(tls?),
            },
            authority: authority?,
            authority_key: authority_key?,
            also_trust,
            tunnels: TunnelSettings { passthrough, identities, answered },
        })
    }

    /// A file of authorities that clients are to believe.
    fn believed(&self, path: &Spanned<String>, problems: &mut Problems) -> Option<PathBuf> {
        let found = self.existing(path, problems)?;
        let text = std::fs::read_to_string(&found).unwrap_or_default();
        let all = pem::parse_many(&text).unwrap_or_default();
        if all.is_empty() || all.iter().any(|one| one.tag() != "CERTIFICATE") {
            problems.error_with(
                Place::of(path),
                format!("`{}` holds something else than certificates in PEM form", path.value),
                "`amlgate certs rotate interception` makes the next authority",
            );
        }
        Some(found)
    }
}

/// Each route's host must be one that the interception authority can vouch for: clients refuse the
/// leaf otherwise, with words that say nothing of it.
pub(super) fn vouched(forward: &Forward, routes: &[Route], raw: &raw::File, problems: &mut Problems) {
    let text = std::fs::read_to_string(&forward.authority).unwrap_or_default();
    let Some(domains) = listen::domains(&text) else {
        if let Some(found) = &raw.listen.value.forward {
            problems.warning(
                Place::of(&found.value.interception_ca.value.certificate),
                "this authority can vouch for every name, or cannot be read",
                "`amlgate certs init` makes one that is confined to the hosts of routes",
            );
        }
        return;
    };
    let within = |host: &str, domain: &String| {
        let domain = domain.trim_start_matches('.');
        host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    };
    // The next authority of a rotation will have to vouch for them too.
    let written = raw.listen.value.forward.iter().flat_map(|f| &f.value.interception_ca.value.also_trust);
    for (path, written) in forward.also_trust.iter().zip(written) {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let Some(domains) = listen::domains(&text) else { continue };
        let outside = |route: &&Route| {
            let host = route.upstream.host.trim_start_matches("*.");
            !domains.iter().any(|domain| within(host, domain))
        };
        for route in routes.iter().filter(|route| is_intercepted(route)).filter(outside) {
            problems.warning(
                Place::of(written),
                format!("this authority cannot vouch for `{}`", route.upstream.host),
                "if it is the next one, make it again before clients take it; if it is the previous one, nothing is amiss",
            );
        }
    }
    let login = raw.listen.value.forward.as_ref().and_then(|forward| forward.value.login.as_ref());
    for host in &forward.tunnels.answered {
        if let Some(login) = login.filter(|_| !domains.iter().any(|domain| within(host, domain))) {
            problems.error_with(
                Place::of(login),
                format!("the interception authority cannot vouch for `{host}`"),
                "`amlgate certs rotate interception` makes an authority for all hosts of the configuration; or write `login: refuse`",
            );
        }
    }
    for (route, written) in routes.iter().zip(&raw.routes).filter(|(route, _)| is_intercepted(route)) {
        let host = route.upstream.host.trim_start_matches("*.");
        if !domains.iter().any(|domain| within(host, domain)) {
            problems.error_with(
                Place::of(&written.value.upstream),
                format!("the interception authority cannot vouch for `{host}`"),
                "`amlgate certs rotate interception` makes an authority for all hosts of the configuration; or remove the route",
            );
        }
    }
}

/// Whether TLS is ended on the way to it: what is plaintext, or on this machine, is asked for without.
fn is_intercepted(route: &Route) -> bool {
    route.upstream.scheme == values::Scheme::Https
}

/// A host, or `*.` and a domain.
fn pattern(text: &str) -> Result<Box<str>, String> {
    match text.strip_prefix("*.") {
        Some(domain) if domain.contains('.') => {
            routes::host(domain).map(|domain| format!("*.{domain}").into())
        }
        Some(_) => Err(format!("`{text}`: behind `*.` stands a domain with two labels at least")),
        None => routes::host(text).map(Into::into),
    }
}
