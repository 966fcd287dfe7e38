//! Which route a request takes. At the reverse proxy: the host name, then the longest path prefix.
//! Inside a tunnel: the host that the tunnel leads to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    azureml::{Naming, Protocol, ResourceId},
    credentials::CredentialChoice,
    http::{Target, is_reserved},
    net::{Destination, Reach, Scheme},
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
    /// Where to; `*.` and a domain in place of a host: every host directly below it, in tunnels.
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

impl Route {
    fn new(settings: RouteSettings) -> Self {
        let naming = Naming {
            protocol: settings.protocol,
            upstream_host: Arc::clone(&settings.upstream.host),
            resource: settings.resource.clone(),
        };
        Self { settings, naming }
    }

    fn has_many_hosts(&self) -> bool {
        self.settings.upstream.host.starts_with("*.")
    }

    /// Whether its upstream is, or its many are among others, this host. What runs on the gate's own
    /// machine has no name that anybody could ask for: only `address` leads there.
    fn leads_to(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        let upstream = &self.settings.upstream;
        upstream.scheme == scheme
            && upstream.port == port
            && (upstream.reach != Reach::Loopback || upstream.address.is_some())
            && match upstream.host.strip_prefix("*.") {
                None => *upstream.host == *host,
                Some(domain) => is_below(host, domain),
            }
    }
}

/// Whether a host lies directly below a domain.
pub(super) fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .and_then(|rest| rest.strip_suffix('.'))
        .is_some_and(|label| !label.is_empty() && !label.contains('.'))
}

/// All routes.
#[derive(Debug, Default)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
    /// Every door, the most exact first: those with a host, then the longer prefixes.
    doors: Vec<(Option<String>, String, usize)>,
    /// Routes to many hosts, as the route to one of them.
    of_hosts: Mutex<HashMap<Box<str>, Arc<Route>>>,
}

/// Hosts of routes to many that are kept: callers choose them.
const MANY: usize = 1_024;

/// Where a request goes, and what is left of its target there.
#[derive(Debug)]
pub struct Chosen {
    /// The route.
    pub route: Arc<Route>,
    /// The target, the prefix removed where the protocol's paths do not begin with it.
    pub target: Target,
    /// What was removed.
    pub prefix: String,
    /// Whether it came through a tunnel: then the caller speaks to the upstream by its own name, and
    /// no URL is rewritten.
    pub tunnelled: bool,
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
                if settings.hosts.is_empty() && settings.paths.is_empty() {
                    return Arc::new(Route::new(settings));
                }
                let hosts = settings.hosts.iter().cloned().map(Some);
                let hosts: Vec<_> = if settings.hosts.is_empty() { vec![None] } else { hosts.collect() };
                let paths =
                    if settings.paths.is_empty() { vec!["/".to_owned()] } else { settings.paths.clone() };
                for host in &hosts {
                    doors.extend(paths.iter().map(|path| (host.clone(), path.clone(), at)));
                }
                Arc::new(Route::new(settings))
            })
            .collect();
        doors.sort_by_key(|(host, path, _)| (host.is_none(), usize::MAX - path.len()));
        Self { routes, doors, of_hosts: Mutex::default() }
    }

    /// Whether a tunnel to this host may be asked for.
    #[must_use]
    pub fn tunnels_to(&self, host: &str, port: u16) -> bool {
        self.lead_to(Scheme::Https, host, port)
    }

    /// Whether a route leads to this host.
    #[must_use]
    pub fn lead_to(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        self.routes.iter().any(|route| route.leads_to(scheme, host, port))
    }

    /// The route of a target inside a tunnel: that of the tunnel's host; of several, the one whose
    /// path fits best.
    #[must_use]
    pub fn inside(&self, scheme: Scheme, port: u16, target: &Target) -> Option<Chosen> {
        let fit = |route: &&Arc<Route>| {
            let fits = route.settings.paths.iter().filter(|path| begins_with(target.path(), path));
            (!route.has_many_hosts(), fits.map(String::len).max())
        };
        let leading = self.routes.iter().filter(|route| route.leads_to(scheme, target.host(), port));
        // The first of those that fit alike.
        let route = leading.rev().max_by_key(fit)?;
        let route =
            if route.has_many_hosts() { self.of_host(route, target.host()) } else { Arc::clone(route) };
        Some(Chosen { route, target: target.clone(), prefix: String::new(), tunnelled: true })
    }

    fn of_host(&self, route: &Arc<Route>, host: &str) -> Arc<Route> {
        let mut known = self.of_hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(host) {
            return Arc::clone(known);
        }
        if known.len() >= MANY {
            known.clear();
        }
        let mut settings = route.settings.clone();
        settings.upstream.host = host.into();
        let one = Arc::new(Route::new(settings));
        known.insert(host.into(), Arc::clone(&one));
        one
    }

    /// The route of a target; none for the path that is the gate's own, whatever the routes say.
    #[must_use]
    pub fn choose(&self, target: &Target) -> Option<Chosen> {
        if is_reserved(target.path()) {
            return None;
        }
        let (_, prefix, at) = self.doors.iter().find(|(host, path, _)| {
            host.as_ref().is_none_or(|h| h == target.host()) && begins_with(target.path(), path)
        })?;
        let route = Arc::clone(self.routes.get(*at)?);
        // ARM and the data plane are served at the root: their prefixes are parts of their paths.
        let own = matches!(route.settings.protocol, Protocol::Arm | Protocol::Azureml);
        let rest = if own || prefix == "/" { None } else { target.without_prefix(prefix) };
        let (target, prefix) = match rest {
            Some(rest) => (rest, prefix.clone()),
            None => (target.clone(), String::new()),
        };
        Some(Chosen { route, target, prefix, tunnelled: false })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// The route that leads to an upstream's host, by name or among its many.
    #[must_use]
    pub fn to_host(&self, host: &str) -> Option<&Arc<Route>> {
        let named = self.routes.iter().find(|route| route.settings.upstream.host.eq_ignore_ascii_case(host));
        named.or_else(|| {
            self.routes.iter().find(|route| {
                route.settings.upstream.host.strip_prefix("*.").is_some_and(|domain| is_below(host, domain))
            })
        })
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
    fn nobody_asks_for_what_runs_on_the_gates_own_machine_but_where_a_route_names_its_address() {
        let here = |uri: &str| Destination::of(&uri.parse().unwrap()).unwrap();
        let to = |name: &str, upstream: Destination| RouteSettings {
            upstream,
            ..route(name, Protocol::Http, &[], &["/x"])
        };
        let named = here("http://tracking.example").at(Some(([127, 0, 0, 1], 5000).into()));
        let routes = Routes::new(vec![
            to("own", here("https://localhost:8443")),
            to("plain", here("http://127.0.0.1:5000")),
            to("meant", here("https://[::1]:8443").at(Some(([127, 0, 0, 1], 8443).into()))),
            to("named", named),
        ]);
        assert!(!routes.tunnels_to("localhost", 8443));
        assert!(!routes.lead_to(Scheme::Http, "127.0.0.1", 5000));
        assert!(routes.tunnels_to("::1", 8443));
        assert!(routes.lead_to(Scheme::Http, "tracking.example", 80));
        assert!(!routes.tunnels_to("tracking.example", 80), "what is plaintext has no tunnel");
    }

    #[test]
    fn no_route_leads_to_what_is_the_gates_own_however_it_is_spelled() {
        let routes = Routes::new(vec![
            route("all", Protocol::Http, &[], &["/"]),
            route("own", Protocol::Http, &["ml.gate"], &["/.amlgate"]),
        ]);
        for (host, path) in [
            ("gate", "/.amlgate"),
            ("gate", "/.amlgate/"),
            ("gate", "/.amlgate/api/v1/whoami?a=b"),
            ("gate", "/.AMLGATE/access"),
            ("gate", "/%2eamlgate/access"),
            ("gate", "/.%61mlgate/access"),
            ("ml.gate", "/.amlgate/x"),
        ] {
            assert!(routes.choose(&Target::parse(host, path).unwrap()).is_none(), "{host}{path}");
        }
        assert!(routes.choose(&Target::parse("gate", "/.amlgates").unwrap()).is_some());
        let inside =
            routes.inside(Scheme::Https, 443, &Target::parse("upstream.example", "/.amlgate").unwrap());
        assert!(inside.is_some(), "through a tunnel it is the upstream's own path");
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
