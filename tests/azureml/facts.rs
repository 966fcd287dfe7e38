//! The facts, and questions to them that the catalogue has no part in.

use std::sync::{Arc, LazyLock};

use amlgate::{
    azureml::{self, Named, Naming, Protocol, UnknownOperation},
    http::Target,
};
use http::Method;

/// One operation of Azure's.
pub struct Fact {
    pub method: Method,
    pub path: String,
    /// Its action, where it is known.
    pub action: Option<&'static str>,
    pub long_running: bool,
    /// Whether its answer holds a secret, where that is said.
    pub secret: Option<bool>,
}

pub static FACTS: LazyLock<Vec<Fact>> = LazyLock::new(|| {
    include_str!("operations.tsv").lines().filter(|l| !l.starts_with('#')).map(fact).collect()
});

fn fact(line: &'static str) -> Fact {
    let columns: Vec<&'static str> = line.split('\t').collect();
    let [method, path, action, long_running, secret] = columns[..] else { panic!("five columns: {line}") };
    let said = |word: &str| match word {
        "yes" => Some(true),
        "no" => Some(false),
        "-" => None,
        other => panic!("`{other}` in {line}"),
    };
    Fact {
        method: method.parse().unwrap(),
        path: path.to_owned(),
        action: (action != "-").then_some(action),
        long_running: said(long_running).unwrap(),
        secret: said(secret),
    }
}

impl Fact {
    /// A path of this operation, with something in each of its holes.
    pub fn example(&self) -> String {
        self.path.replace("{}", "one-2")
    }

    fn matches(&self, method: &Method, segments: &[&str]) -> bool {
        let pattern: Vec<&str> = self.path.trim_start_matches('/').split('/').collect();
        self.method == *method
            && pattern.len() == segments.len()
            && pattern.iter().zip(segments).all(|(p, s)| fits(p, s))
    }

    /// How many of its segments are written out.
    fn literals(&self) -> usize {
        self.path.split('/').filter(|s| !s.contains("{}")).count()
    }
}

/// Whether a segment fits a pattern: holes take anything, the rest compares without case.
fn fits(pattern: &str, segment: &str) -> bool {
    match pattern.split_once("{}") {
        None => pattern.eq_ignore_ascii_case(segment),
        Some((before, after)) => {
            let (pattern, segment) = ((before, after), segment.to_ascii_lowercase());
            segment.len() > before.len() + after.len()
                && segment.starts_with(&pattern.0.to_ascii_lowercase())
                && segment.ends_with(&pattern.1.to_ascii_lowercase())
        }
    }
}

/// What the facts say about a request: the most exact operation that it is. Azure drops one `/` at a
/// path's end before it routes.
pub fn known(method: &Method, path: &str) -> Option<&'static Fact> {
    let exactly = |path: &str| {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let segments = segments.strip_suffix(&[""]).unwrap_or(&segments);
        FACTS.iter().filter(|f| f.matches(method, segments)).max_by_key(|f| f.literals())
    };
    // The data plane's door to Resource Manager leads to the same operations.
    let within = path.strip_prefix("/mferp/managementfrontend").filter(|p| p.starts_with("/subscriptions/"));
    exactly(path).or_else(|| exactly(within?))
}

/// The protocol of the route that has this path.
pub fn protocol(path: &str) -> Protocol {
    let first = path.split('/').nth(1).unwrap_or("");
    if ["subscriptions", "providers", "batch", "tenants"].iter().any(|p| first.eq_ignore_ascii_case(p)) {
        Protocol::Arm
    } else {
        Protocol::Azureml
    }
}

pub fn naming(protocol: Protocol) -> Naming {
    let host: Arc<str> = match protocol {
        Protocol::Arm => "management.azure.com".into(),
        Protocol::Azureml
        | Protocol::Inference
        | Protocol::Storage
        | Protocol::KeyVault
        | Protocol::Kubernetes
        | Protocol::Http => "westeurope.api.azureml.ms".into(),
    };
    Naming { protocol, upstream_host: host, resource: None }
}

/// What the product says about a request; a target that it refuses is named by nobody.
pub fn named(method: &Method, path: &str) -> Result<Named, UnknownOperation> {
    let naming = naming(protocol(path));
    match Target::parse(&naming.upstream_host, path) {
        Ok(target) => azureml::name(&naming, method, &target),
        Err(_) => Err(UnknownOperation { method: method.to_string(), path: path.to_owned() }),
    }
}
