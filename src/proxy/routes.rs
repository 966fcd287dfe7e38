//! Which route a request takes: the host name, then the longest path prefix.

use std::sync::Arc;

use crate::{
    azureml::{Naming, Protocol, ResourceId},
    credentials::CredentialChoice,
    http::Target,
    net::Destination,
};

/// How a scoring endpoint authenticates the gate, where the caller brought no handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndpointAuth {
    /// By an Entra token for `https://ml.azure.com`.
    #[default]
    Entra,
    /// By the endpoint's key, which the gate fetches.
    Key,
}

/// A route as configured.
#[derive(Debug, Clone)]
pub struct RouteSettings {
    /// Its name in policies and records.
    pub name: Arc<str>,
    /// Where to.
    pub upstream: Destination,
    /// Path prefixes, without a slash at the end.
    pub paths: Vec<String>,
    /// Host names, in lower case.
    pub hosts: Vec<String>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Which credential for what; `None` forwards without one.
    pub credential: Option<CredentialChoice>,
    /// The ARM id that `scope` compares with, where the host does not say.
    pub resource: Option<ResourceId>,
    /// How a scoring endpoint authenticates the gate.
    pub auth: EndpointAuth,
}

/// A route, ready.
#[derive(Debug)]
pub struct Route {
    /// As configured.
    pub settings: RouteSettings,
    /// What naming may know of it.
    pub naming: Naming,
}

/// All routes.
#[derive(Debug, Default)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
    /// Every door, the most exact first: those with a host, then the longer prefixes.
    doors: Vec<(Option<String>, String, usize)>,
}

/// Where a request goes, and what is left of its target there.
#[derive(Debug)]
pub struct Chosen {
    /// The route.
    pub route: Arc<Route>,
    /// The target, the prefix removed where the protocol's paths do not begin with it.
    pub target: Target,
    /// What was removed.
    pub prefix: String,
}

impl Routes {
    /// From the settings; validated before.
    #[must_use]
    pub fn new(settings: Vec<RouteSettings>) -> Self {
        let mut doors = Vec::new();
        let routes: Vec<_> = settings
            .into_iter()
            .enumerate()
            .map(|(at, settings)| {
                let hosts = settings.hosts.iter().cloned().map(Some);
                let hosts: Vec<_> = if settings.hosts.is_empty() { vec![None] } else { hosts.collect() };
                let paths =
                    if settings.paths.is_empty() { vec!["/".to_owned()] } else { settings.paths.clone() };
                for host in &hosts {
                    doors.extend(paths.iter().map(|path| (host.clone(), path.clone(), at)));
                }
                let naming = Naming {
                    protocol: settings.protocol,
                    upstream_host: Arc::clone(&settings.upstream.host),
                    resource: settings.resource.clone(),
                };
                Arc::new(Route { settings, naming })
            })
            .collect();
        doors.sort_by_key(|(host, path, _)| (host.is_none(), usize::MAX - path.len()));
        Self { routes, doors }
    }

    /// The route of a target.
    #[must_use]
    pub fn choose(&self, target: &Target) -> Option<Chosen> {
        let (_, prefix, at) = self.doors.iter().find(|(host, path, _)| {
            host.as_ref().is_none_or(|h| h == target.host()) && begins_with(target.path(), path)
        })?;
        let route = Arc::clone(self.routes.get(*at)?);
        // ARM and the data plane are served at the root: their prefixes are parts of their paths.
        let own = matches!(route.settings.protocol, Protocol::Arm | Protocol::Azureml);
        let (target, prefix) = match target.without_prefix(prefix) {
            Some(rest) if !own && prefix != "/" => (rest, prefix.clone()),
            _ => (target.clone(), String::new()),
        };
        Some(Chosen { route, target, prefix })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// Whether some route has this host name.
    #[must_use]
    pub fn has_host(&self, host: &str) -> bool {
        self.doors.iter().any(|(h, ..)| h.as_deref() == Some(host))
    }
}

/// Whether a path begins with a prefix, on whole segments and without case: ARM's paths have none.
fn begins_with(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.split_at_checked(prefix.len()).is_some_and(|(head, rest)| {
        head.eq_ignore_ascii_case(prefix) && (rest.is_empty() || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, protocol: Protocol, hosts: &[&str], paths: &[&str]) -> RouteSettings {
        RouteSettings {
            name: name.into(),
            upstream: Destination::https("upstream.example", 443),
            paths: paths.iter().map(|&p| p.to_owned()).collect(),
            hosts: hosts.iter().map(|&h| h.to_owned()).collect(),
            protocol,
            credential: None,
            resource: None,
            auth: EndpointAuth::Entra,
        }
    }

    fn chosen(host: &str, path: &str) -> Option<(String, String)> {
        let routes = Routes::new(vec![
            route("arm", Protocol::Arm, &[], &["/subscriptions", "/providers"]),
            route("plane", Protocol::Azureml, &["ml.gate"], &[]),
            route("churn", Protocol::Inference, &[], &["/endpoints/churn"]),
            route("churn-blue", Protocol::Inference, &[], &["/endpoints/churn/blue"]),
        ]);
        let chosen = routes.choose(&Target::parse(host, path).unwrap())?;
        Some((chosen.route.settings.name.to_string(), chosen.target.path_and_query()))
    }

    #[test]
    fn the_host_then_the_longest_prefix_selects_and_endpoints_lose_their_prefix() {
        let some = |name: &str, path: &str| Some((name.to_owned(), path.to_owned()));
        assert_eq!(chosen("gate", "/subscriptions/s?a=b"), some("arm", "/subscriptions/s?a=b"));
        assert_eq!(chosen("gate", "/Subscriptions/s"), some("arm", "/Subscriptions/s"));
        assert_eq!(chosen("ml.gate", "/subscriptions/s"), some("plane", "/subscriptions/s"));
        assert_eq!(chosen("gate", "/endpoints/churn/score?a"), some("churn", "/score?a"));
        assert_eq!(chosen("gate", "/endpoints/churn/blue/score"), some("churn-blue", "/score"));
        assert_eq!(chosen("gate", "/endpoints/churnx/score"), None);
        assert_eq!(chosen("gate", "/"), None);
    }
}
