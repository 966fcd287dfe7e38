//! Absolute URLs in answers point at the gate, where the gate serves their host (DECISIONS 15).
//!
//! Which members of which answers hold such URLs stands in one table, by operation; nothing else of
//! a body is looked at. URLs of hosts without a route stay and are counted. Pure.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// An answer whose body is rewritten is no larger.
pub const MAX_BODY: usize = 8 << 20;

/// Headers that hold absolute URLs.
const HEADERS: [&str; 3] = ["location", "azure-asyncoperation", "operation-location"];

/// Members with absolute URLs, by the beginning of the operation's name. `*` stands for every
/// member or item.
const MEMBERS: &[(&str, &[&str])] = &[
    (
        "Workspaces_",
        &[
            "properties.discoveryUrl",
            "properties.mlFlowTrackingUri",
            "value.*.properties.discoveryUrl",
            "value.*.properties.mlFlowTrackingUri",
        ],
    ),
    (
        "OnlineEndpoints_",
        &[
            "properties.scoringUri",
            "properties.swaggerUri",
            "value.*.properties.scoringUri",
            "value.*.properties.swaggerUri",
        ],
    ),
    (
        "BatchEndpoints_",
        &[
            "properties.scoringUri",
            "properties.swaggerUri",
            "value.*.properties.scoringUri",
            "value.*.properties.swaggerUri",
        ],
    ),
    (
        "ServerlessEndpoints_",
        &["properties.inferenceEndpoint.uri", "value.*.properties.inferenceEndpoint.uri"],
    ),
    ("Jobs_", &["properties.services.*.endpoint", "value.*.properties.services.*.endpoint"]),
    ("Registries_", &["properties.discoveryUrl", "value.*.properties.discoveryUrl"]),
    ("Discovery_", &["*"]),
    ("RegistryManagementNonWorkspace.", &["registryFqdns.*.*", "*"]),
];

/// Where a host's URLs lead at the gate.
pub trait Doors {
    /// The gate's base for URLs of `host:port`, without a slash at the end; `None` if no route
    /// serves it.
    fn base(&self, host: &str, port: u16) -> Option<String>;
}

/// Whether JSON may hold an absolute URL in some string. Most answers hold none, and are then not
/// taken apart. An escape may spell anything, so one is reason enough to look.
#[must_use]
pub fn may_hold_urls(json: &[u8]) -> bool {
    json.contains(&b'\\') || json.windows(3).any(|w| w == b"://")
}

/// Whether answers of an operation are rewritten, so that `identity` encoding is asked for.
#[must_use]
pub fn concerns(operation: &str) -> bool {
    is_list(operation) || MEMBERS.iter().any(|(name, _)| operation.starts_with(name))
}

fn is_list(operation: &str) -> bool {
    operation.contains("List")
        || operation.ends_with("_Read")
        || operation.contains(".list")
        || operation.contains("query")
}

/// An absolute URL, rewritten; `None` if it is none, or of a host that no route serves.
#[must_use]
pub fn url(doors: &impl Doors, text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let default = match scheme.as_str() {
        "https" | "azureml" => 443,
        "http" => 80,
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    if authority.contains('@') {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, port.parse().ok()?)
        }
        Some(_) | None => (authority, default),
    };
    let Some(base) = doors.base(&host.to_ascii_lowercase(), port) else {
        metrics::counter!("amlgate_urls_left_total").increment(1);
        return None;
    };
    let base = match (scheme.as_str(), base.split_once("://")) {
        // The tracking URI keeps its own scheme: MLflow's plugin is chosen by it.
        ("azureml", Some((_, authority))) => format!("azureml://{authority}"),
        _ => base,
    };
    Some(format!("{base}{path}"))
}

/// Rewrites the headers; `seal` may add a polling capability to what is polled.
pub fn headers(doors: &impl Doors, headers: &mut HeaderMap, mut seal: impl FnMut(String) -> String) {
    for name in HEADERS {
        let Some(value) = headers.get(name).and_then(|v| v.to_str().ok()) else { continue };
        if let Some(rewritten) = url(doors, value)
            && let Ok(value) = HeaderValue::try_from(seal(rewritten))
        {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Rewrites the members of an answer that the table names; whether anything changed.
pub fn body(doors: &impl Doors, operation: &str, answer: &mut Value) -> bool {
    let mut changed = false;
    if is_list(operation) {
        changed |= at(answer, &["nextLink"], &mut |text| url(doors, text));
    }
    for (_, members) in MEMBERS.iter().filter(|(name, _)| operation.starts_with(name)) {
        for member in *members {
            let path: Vec<&str> = member.split('.').collect();
            changed |= at(answer, &path, &mut |text| url(doors, text));
        }
    }
    changed
}

fn at(value: &mut Value, path: &[&str], rewrite: &mut impl FnMut(&str) -> Option<String>) -> bool {
    let Some((first, rest)) = path.split_first() else {
        let new = value.as_str().and_then(rewrite);
        return new.is_some_and(|new| {
            *value = Value::String(new);
            true
        });
    };
    let mut changed = false;
    if let Some(members) = value.as_object_mut() {
        for (name, member) in members {
            if *first == "*" || name.eq_ignore_ascii_case(first) {
                changed |= at(member, rest, rewrite);
            }
        }
    } else if let Some(items) = value.as_array_mut()
        && *first == "*"
    {
        for item in items {
            changed |= at(item, rest, rewrite);
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Gate;

    impl Doors for Gate {
        fn base(&self, host: &str, port: u16) -> Option<String> {
            match (host, port) {
                ("management.azure.com", 443) => Some("https://gate:8443".into()),
                ("westeurope.api.azureml.ms", 443) => Some("https://ml.gate:8443".into()),
                ("churn.westeurope.inference.ml.azure.com", 443) => {
                    Some("https://gate:8443/endpoints/churn".into())
                }
                _ => None,
            }
        }
    }

    #[test]
    fn an_answer_without_urls_is_told_from_one_that_may_hold_some() {
        assert!(!may_hold_urls(br#"{"value":[{"id":"/subscriptions/s/jobs/j","n":1.5}]}"#));
        assert!(may_hold_urls(br#"{"nextLink":"https://management.azure.com/x"}"#));
        assert!(may_hold_urls(br#"{"nextLink":"https:\/\/management.azure.com\/x"}"#));
        assert!(may_hold_urls(br#"{"nextLink":"https\u003a//management.azure.com/x"}"#));
    }

    #[test]
    fn only_hosts_with_a_route_are_rewritten_and_the_rest_of_the_url_stays_byte_for_byte() {
        for (from, to) in [
            (
                "https://management.azure.com/subscriptions/s?api-version=1&%24skip=%2Fa",
                Some("https://gate:8443/subscriptions/s?api-version=1&%24skip=%2Fa"),
            ),
            ("https://Management.Azure.com:443/x", Some("https://gate:8443/x")),
            (
                "azureml://westeurope.api.azureml.ms/mlflow/v1.0/x",
                Some("azureml://ml.gate:8443/mlflow/v1.0/x"),
            ),
            (
                "https://churn.westeurope.inference.ml.azure.com/score",
                Some("https://gate:8443/endpoints/churn/score"),
            ),
            ("https://evil.example/subscriptions", None),
            ("https://management.azure.com@evil.example/", None),
            ("https://management.azure.com:444/", None),
            ("/subscriptions/s", None),
            ("ftp://management.azure.com/", None),
        ] {
            assert_eq!(url(&Gate, from).as_deref(), to, "{from}");
        }
    }

    #[test]
    fn the_members_of_the_table_are_rewritten_and_nothing_else() {
        let mut list = json!({"value": [{"properties": {"scoringUri": "https://churn.westeurope.inference.ml.azure.com/score", "description": "https://management.azure.com/x"}}], "nextLink": "https://management.azure.com/s?$skipToken=a"});
        assert!(body(&Gate, "OnlineEndpoints_List", &mut list));
        assert_eq!(list["value"][0]["properties"]["scoringUri"], "https://gate:8443/endpoints/churn/score");
        assert_eq!(list["value"][0]["properties"]["description"], "https://management.azure.com/x");
        assert_eq!(list["nextLink"], "https://gate:8443/s?$skipToken=a");
        let mut job = json!({"properties": {"services": {"Studio": {"endpoint": "https://ml.azure.com/runs/x"}, "Tracking": {"endpoint": "azureml://westeurope.api.azureml.ms/mlflow/x"}}}});
        assert!(body(&Gate, "Jobs_Get", &mut job));
        assert_eq!(job["properties"]["services"]["Studio"]["endpoint"], "https://ml.azure.com/runs/x");
        assert_eq!(job["properties"]["services"]["Tracking"]["endpoint"], "azureml://ml.gate:8443/mlflow/x");
        assert!(!body(&Gate, "Models_Get", &mut json!({"nextLink": "https://management.azure.com/s"})));
    }

    #[test]
    fn polling_urls_are_rewritten_and_sealed() {
        let mut map = HeaderMap::new();
        map.insert("azure-asyncoperation", HeaderValue::from_static("https://management.azure.com/op?t=1"));
        map.insert("location", HeaderValue::from_static("https://elsewhere.example/op"));
        headers(&Gate, &mut map, |url| format!("{url}&sealed"));
        assert_eq!(map["azure-asyncoperation"], "https://gate:8443/op?t=1&sealed");
        assert_eq!(map["location"], "https://elsewhere.example/op");
    }
}
