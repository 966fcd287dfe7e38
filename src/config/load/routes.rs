//! `routes`: which requests go where, and as whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    super::{
        Problems, issuers, raw,
        values::{self, BaseUrl},
    },
    Reader,
};
use crate::{
    azureml::{Protocol, ResourceId},
    cloud::Cloud,
    config::settings::{Credential, CredentialChoice, EndpointAuth, Route},
    credentials::ActsFor,
    http::{RESERVED, is_reserved},
    yaml::{Place, Spanned},
};

/// The keys under `credential:` of a route, besides `default`: which operations take which identity.
const CREDENTIAL_KINDS: &[&str] =
    &["default", "read", "write", "delete", "action", "register_model", "deploy_model", "change_access"];

impl Reader<'_> {
    pub(super) fn routes(
        &self,
        found: &[Spanned<raw::Route>],
        credentials: &[Credential],
        forward: bool,
        cloud: &Cloud,
        problems: &mut Problems,
    ) -> Vec<Route> {
        let mut names = BTreeSet::new();
        let mut doors: BTreeMap<(String, String), String> = BTreeMap::new();
        let mut read = Vec::new();
        for route in found {
            let raw = &route.value;
            let Some(name) = problems.read(&raw.name, values::name) else { continue };
            if !names.insert(name.clone()) {
                problems.error(Place::of(&raw.name), format!("the route `{name}` is there twice"));
            }
            let Some(upstream) = problems.read(&raw.upstream, |text| upstream(text, forward)) else {
                continue;
            };
            without_tokens(&upstream, raw, problems);
            let many = upstream.host.starts_with("*.");
            if many && !(raw.paths.is_empty() && raw.hosts.is_empty() && raw.address.is_none()) {
                problems.error_with(
                    Place::of(route),
                    format!("the route `{name}` has many hosts, which only forward mode can tell apart"),
                    "remove its `paths`, `hosts` and `address`, or name one host",
                );
            }
            let address = raw.address.as_ref().and_then(|a| problems.read(a, values::address));
            let paths: Vec<_> = raw.paths.iter().filter_map(|p| problems.read(p, prefix)).collect();
            let hosts: Vec<_> = raw.hosts.iter().filter_map(|h| problems.read(h, host)).collect();
            if raw.paths.is_empty() && raw.hosts.is_empty() && !forward {
                problems.error_with(
                    Place::of(route),
                    format!("no request can reach the route `{name}`"),
                    "name its `paths` or its `hosts`",
                );
            }
            let any_host = vec![String::new()];
            let any_path = vec!["/".to_owned()];
            let no_door: &Vec<String> = if paths.is_empty() { &Vec::new() } else { &any_host };
            for host in if hosts.is_empty() { no_door } else { &hosts } {
                for path in if paths.is_empty() { &any_path } else { &paths } {
                    if let Some(other) = doors.insert((host.clone(), path.to_lowercase()), name.clone()) {
                        problems.error(
                            Place::of(route),
                            format!("`{host}{path}` leads to the route `{other}` already"),
                        );
                    }
                }
            }
            let credential = self.choice(route, credentials, problems);
            let auth = raw.auth.as_ref().and_then(|a| problems.read(a, endpoint_auth)).unwrap_or_default();
            by_nobody(credential.as_ref(), credentials, auth, Place::of(route), problems);
            let built = Route {
                credential,
                name: name.into(),
                upstream,
                paths,
                hosts,
                protocol: raw.protocol.value,
                resource: raw.resource.as_ref().and_then(|r| problems.read(r, resource)),
                auth,
                address,
                trust: raw.trust.as_ref().and_then(|t| issuers::pem(&t.value.ca, self.base, problems)),
            };
            super::cloud::of_route(&built, Place::of(&raw.upstream), cloud, problems);
            read.push(built);
            if raw.protocol.value == Protocol::Inference && raw.resource.is_none() {
                problems.warning(
                    Place::of(route),
                    "without `resource` no entry with a `scope` can allow this endpoint",
                    "name its id: .../workspaces/W/onlineEndpoints/E",
                );
            }
        }
        read
    }

    fn choice(
        &self,
        route: &Spanned<raw::Route>,
        credentials: &[Credential],
        problems: &mut Problems,
    ) -> Option<CredentialChoice> {
        let raw = &route.value;
        let Some(found) = &raw.credential else {
            if raw.protocol.value != Protocol::Http {
                problems.error_with(
                    Place::of(route),
                    format!("the route `{}` has no credential", raw.name.value),
                    "name one of `credentials`; only `protocol: http` may go without",
                );
            }
            return None;
        };
        let place = Place::of(found);
        let mut choice = CredentialChoice::default();
        let several = match &found.value {
            raw::CredentialChoice::One(name) => {
                choice.by_kind = by_kind([("default", name)], place, credentials, problems);
                return Some(choice);
            }
            raw::CredentialChoice::Several(several) => several,
        };
        let kinds = several.iter().filter_map(|(kind, value)| match value {
            raw::CredentialFor::One(name) => Some((kind.as_str(), name)),
            raw::CredentialFor::Subscriptions(_) => None,
        });
        choice.by_kind = by_kind(kinds, place, credentials, problems);
        for (key, value) in several {
            let raw::CredentialFor::Subscriptions(subscriptions) = value else { continue };
            if key != "subscriptions" {
                let message = format!("`{key}` names one credential, not several");
                problems.error_with(place, message, "only `subscriptions` holds a map");
                continue;
            }
            for (id, chosen) in subscriptions {
                if uuid::Uuid::try_parse(id).is_err() {
                    let message = format!("`{id}` is no subscription's id");
                    problems.error_with(place, message, "`az account list --query '[].id'` shows them");
                }
                let chosen = match chosen {
                    raw::SubscriptionChoice::One(name) => {
                        by_kind([("default", name)], place, credentials, problems)
                    }
                    raw::SubscriptionChoice::ByKind(kinds) => {
                        let kinds = kinds.iter().map(|(kind, name)| (kind.as_str(), name));
                        by_kind(kinds, place, credentials, problems)
                    }
                };
                if choice.by_subscription.insert(id.to_ascii_lowercase(), chosen).is_some() {
                    problems.error(place, format!("the subscription `{id}` is there twice"));
                }
            }
        }
        Some(choice)
    }
}

fn by_kind<'r>(
    found: impl IntoIterator<Item = (&'r str, &'r String)>,
    place: Place,
    credentials: &[Credential],
    problems: &mut Problems,
) -> BTreeMap<String, Arc<str>> {
    let mut choice = BTreeMap::new();
    for (kind, name) in found {
        if !CREDENTIAL_KINDS.contains(&kind) {
            let message = format!("`{kind}` is no kind of operation that a credential is chosen by");
            problems.error_with(
                place,
                message,
                format!("write one of {}, or `subscriptions`", CREDENTIAL_KINDS.join(", ")),
            );
        }
        match credentials.iter().find(|c| *c.name == *name) {
            Some(credential) => drop(choice.insert(kind.to_owned(), Arc::clone(&credential.name))),
            None => problems.error(place, format!("there is no credential called `{name}`")),
        }
    }
    choice
}

/// The keys of an endpoint are kept for everybody, so no person's rights may fetch them.
fn by_nobody(
    choice: Option<&CredentialChoice>,
    credentials: &[Credential],
    auth: EndpointAuth,
    place: Place,
    problems: &mut Problems,
) {
    let for_callers =
        |name: &&Arc<str>| credentials.iter().any(|c| c.name == **name && c.acts_for == ActsFor::Caller);
    let name = choice.and_then(|choice| choice.names().find(for_callers));
    if let (EndpointAuth::Key, Some(name)) = (auth, name) {
        problems.error_with(
            place,
            format!("`auth: key` has the gate fetch the endpoint's key, and `{name}` acts for callers"),
            "name a credential that speaks for itself, or write `auth: entra`",
        );
    }
}

fn endpoint_auth(text: &str) -> Result<EndpointAuth, String> {
    match text {
        "entra" => Ok(EndpointAuth::Entra),
        "key" => Ok(EndpointAuth::Key),
        _ => Err(format!("`{text}` is neither `entra` nor `key`")),
    }
}

/// Plaintext goes to loopback, where it cannot be listened to; elsewhere in forward mode alone, where
/// [`without_tokens`] sees to it that no token goes along.
pub(super) fn upstream(text: &str, forward: bool) -> Result<BaseUrl, String> {
    if let Some(suffix) = text.strip_prefix("https://*.") {
        if !forward {
            return Err(format!("`{text}`: many hosts in one route need `listen.forward`"));
        }
        let url = values::base_url(&format!("https://{suffix}"))?;
        if !url.host.contains('.') || url.host.parse::<IpAddr>().is_ok() {
            return Err(format!("`{text}`: behind `*.` stands a domain with two labels at least"));
        }
        return Ok(BaseUrl { host: format!("*.{}", url.host), ..url });
    }
    if text.contains('*') {
        return Err(format!("`{text}`: `*` stands for the first label alone, as in `https://*.example.com`"));
    }
    let url = values::base_url(text)?;
    if is_plain(&url) && !forward {
        return Err(format!("`{text}`: the gate's tokens go over https only (http is for loopback)"));
    }
    Ok(url)
}

/// Whether it is spoken to in plaintext off this machine.
fn is_plain(url: &BaseUrl) -> bool {
    let loopback = url.host == "localhost" || url.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    url.scheme == values::Scheme::Http && !loopback
}

/// What is asked for by absolute `http://` URLs gets no token of the gate's.
fn without_tokens(upstream: &BaseUrl, raw: &raw::Route, problems: &mut Problems) {
    if is_plain(upstream) && (raw.protocol.value != Protocol::Http || raw.credential.is_some()) {
        problems.error_with(
            Place::of(&raw.upstream),
            format!("`{}`: the gate's tokens go over https only (http is for loopback)", raw.upstream.value),
            "write https; `protocol: http` without `credential` may be plaintext in forward mode",
        );
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let clean = text.starts_with('/')
        && !text.contains("//")
        && !text.split('/').any(|s| s == "." || s == "..")
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'%' | b'?' | b'#' | b';' | b'\\' | b'*'));
    if !clean {
        return Err(format!("`{text}` is not a path prefix: write for example `/endpoints/churn`"));
    }
    if is_reserved(text) {
        return Err(format!("`{RESERVED}` is the gate's own path: no route leads there"));
    }
    Ok(if text == "/" { text.to_owned() } else { text.trim_end_matches('/').to_owned() })
}

pub(super) fn host(text: &str) -> Result<String, String> {
    let clean =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    if !clean || text.starts_with('.') {
        return Err(format!("`{text}` is not a host name: write it without scheme, port or path"));
    }
    Ok(text.trim_end_matches('.').to_ascii_lowercase())
}

fn resource(text: &str) -> Result<ResourceId, String> {
    ResourceId::parse(text)
        .ok_or_else(|| format!("`{text}` is not an ARM id: it starts with /subscriptions/"))
}
