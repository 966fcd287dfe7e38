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
    config::settings::{Credential, EndpointAuth, Route},
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
            read.push(Route {
                credential: self.choice(route, credentials, problems),
                name: name.into(),
                upstream,
                paths,
                hosts,
                protocol: raw.protocol.value,
                resource: raw.resource.as_ref().and_then(|r| problems.read(r, resource)),
                auth: raw.auth.as_ref().and_then(|a| problems.read(a, endpoint_auth)).unwrap_or_default(),
                address,
                trust: raw.trust.as_ref().and_then(|t| issuers::pem(&t.value.ca, self.base, problems)),
            });
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
    ) -> Option<BTreeMap<String, Arc<str>>> {
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
        let by_kind = match &found.value {
            raw::CredentialChoice::One(name) => BTreeMap::from([("default".to_owned(), name.clone())]),
            raw::CredentialChoice::ByKind(by_kind) => by_kind.clone(),
        };
        let mut choice = BTreeMap::new();
        for (kind, name) in by_kind {
            if !CREDENTIAL_KINDS.contains(&kind.as_str()) {
                let message = format!("`{kind}` is no kind of operation that a credential is chosen by");
                problems.error_with(
                    Place::of(found),
                    message,
                    format!("write one of {}", CREDENTIAL_KINDS.join(", ")),
                );
            }
            match credentials.iter().find(|c| *c.name == *name) {
                Some(credential) => drop(choice.insert(kind, Arc::clone(&credential.name))),
                None => problems.error(Place::of(found), format!("there is no credential called `{name}`")),
            }
        }
        Some(choice)
    }
}

fn endpoint_auth(text: &str) -> Result<EndpointAuth, String> {
    match text {
        "entra" => Ok(EndpointAuth::Entra),
        "key" => Ok(EndpointAuth::Key),
        _ => Err(format!("`{text}` is neither `entra` nor `key`")),
    }
}

/// Plaintext goes to loopback only: there it cannot be listened to.
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
    let loopback = url.host == "localhost" || url.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme == values::Scheme::Http && !loopback {
        return Err(format!("`{text}`: the gate's tokens go over https only (http is for loopback)"));
    }
    Ok(url)
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
