//! Spellings that two readers could read differently.

use amlgate::{azureml::Effect, http::Target};
use http::Method;
use proptest::prelude::*;

use crate::facts::{FACTS, named};

const WORKSPACE: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w";

/// What comes of a target: refused, unknown, or the name and resource of its operation.
fn reading(method: &Method, target: &str) -> String {
    if Target::parse("management.azure.com", target).is_err() {
        return "refused".to_owned();
    }
    match named(method, target) {
        Err(_) => "unknown".to_owned(),
        Ok(named) => {
            let act = &named.so_far().acts[0];
            let resource = act.resource.as_ref().map(|r| r.folded().to_owned()).unwrap_or_default();
            format!("{} {resource}", named.so_far().name)
        }
    }
}

#[test]
fn an_ambiguous_spelling_is_read_as_azure_reads_it_or_refused() {
    let jobs = format!("Jobs_Get {}/jobs/a", WORKSPACE.to_ascii_lowercase());
    for (target, expected) in [
        // Azure compares names of types and providers without case.
        (format!("{WORKSPACE}/jobs/a"), jobs.as_str()),
        (format!("{WORKSPACE}/JOBS/a"), &jobs),
        (WORKSPACE.to_ascii_uppercase() + "/JOBS/a", &jobs),
        // Unreserved characters may be encoded (RFC 3986, 6.2.2.2).
        (format!("{WORKSPACE}/%6aobs/a"), &jobs),
        (format!("{WORKSPACE}/jobs/%61"), &jobs),
        // An encoded slash is no slash, and Azure's front ends disagree about it.
        (format!("{WORKSPACE}/jobs%2fa"), "refused"),
        (format!("{WORKSPACE}/jobs%2Fa"), "refused"),
        (format!("{WORKSPACE}/jobs%5ca"), "refused"),
        // Decoded once: what is encoded twice is refused.
        (format!("{WORKSPACE}/jobs%252fa"), "refused"),
        (format!("{WORKSPACE}/%256aobs/a"), "refused"),
        // Dot segments, empty segments, parameters.
        (format!("{WORKSPACE}/computes/../jobs/a"), "refused"),
        (format!("{WORKSPACE}/computes/%2e%2e/jobs/a"), "refused"),
        (format!("{WORKSPACE}/./jobs/a"), "refused"),
        (format!("{WORKSPACE}/%2e/jobs/a"), "refused"),
        (format!("{WORKSPACE}//jobs/a"), "refused"),
        (format!("/{WORKSPACE}/jobs/a"), "refused"),
        (format!("{WORKSPACE}/jobs;x=1/a"), "refused"),
        (format!("{WORKSPACE}/jobs/a;x=1"), "refused"),
        // Bytes that do not belong into a target.
        (format!("{WORKSPACE}\\jobs\\a"), "refused"),
        (format!("{WORKSPACE}/jobs/a#b"), "refused"),
        (format!("{WORKSPACE}/jobs/%00a"), "refused"),
        (format!("{WORKSPACE}/jobs/a%0d%0aX: y"), "refused"),
        (format!("{WORKSPACE}/jobs/%0a"), "refused"),
        (format!("{WORKSPACE}/jobs/a b"), "refused"),
        (format!("{WORKSPACE}/jobs/\u{e9}"), "refused"),
        (format!("{WORKSPACE}/jobs/%zz"), "refused"),
        (format!("{WORKSPACE}/jobs/%6"), "refused"),
        // Overlong and broken UTF-8.
        (format!("{WORKSPACE}/jobs/%c0%af"), "refused"),
        (format!("{WORKSPACE}/jobs/%ff"), "refused"),
        ("*".to_owned(), "refused"),
        (format!("https://evil.example{WORKSPACE}/jobs/a"), "refused"),
        (format!("{WORKSPACE}/jobs/{}", "a".repeat(17 << 10)), "refused"),
        // A homoglyph is another name.
        (format!("{WORKSPACE}/%D1%98obs/a"), "unknown"),
        (format!("{WORKSPACE}/jobs%20/a"), "refused"),
    ] {
        let found = reading(&Method::GET, &target);
        let shown: String = target.chars().take(160).collect();
        // Azure takes a trailing slash and a broken spelling nowhere; unknown is as good as refused.
        if expected == "refused" {
            assert!(matches!(found.as_str(), "refused" | "unknown"), "{shown}: {found}");
        } else {
            assert_eq!(found, expected, "{shown}");
        }
    }
}

#[test]
fn a_key_that_stands_twice_in_the_query_is_not_the_callers_choice() {
    for query in
        ["api-version=a&api-version=b", "api-version=a&API-VERSION=b", "api-version=a&%61pi-version=b"]
    {
        let found = reading(&Method::GET, &format!("{WORKSPACE}/jobs/a?{query}"));
        assert!(matches!(found.as_str(), "refused" | "unknown"), "{query}: {found}");
    }
}

#[test]
fn no_back_door_is_named_as_anything_else() {
    for (method, path) in [
        (Method::POST, "/batch".to_owned()),
        (Method::POST, "/subscriptions/batch".to_owned()),
        (
            Method::PUT,
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Resources/deployments/d".to_owned(),
        ),
        (
            Method::POST,
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Resources/deployments/d/validate"
                .to_owned(),
        ),
        (Method::PUT, "/subscriptions/s/providers/Microsoft.Resources/deployments/d".to_owned()),
        (Method::POST, "/subscriptions/s/resourceGroups/g/moveResources".to_owned()),
        (Method::POST, "/subscriptions/s/resourceGroups/g/exportTemplate".to_owned()),
        (Method::POST, "/providers/Microsoft.ResourceGraph/resources".to_owned()),
    ] {
        assert_eq!(reading(&method, &path), "unknown", "{method} {path}");
    }
    // Writes of role assignments have their own action and effect, at every scope.
    for scope in ["/subscriptions/s", "/subscriptions/s/resourceGroups/g", WORKSPACE] {
        let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments/r");
        for (method, verb) in [(Method::PUT, "write"), (Method::DELETE, "delete")] {
            let named = named(&method, &path).unwrap_or_else(|_| panic!("{method} {path} has no name"));
            let operation = named.so_far();
            assert_eq!(
                operation.acts[0].action.as_str().to_ascii_lowercase(),
                format!("microsoft.authorization/roleassignments/{verb}"),
                "{method} {path}"
            );
            assert!(
                operation.effects.contains(Effect::ChangeAccess),
                "{method} {path}: {:?}",
                operation.effects
            );
        }
    }
}

#[test]
fn a_slash_at_the_end_changes_nothing() {
    for fact in FACTS.iter() {
        let path = fact.example();
        assert_eq!(reading(&fact.method, &path), reading(&fact.method, &format!("{path}/")), "{path}");
    }
}

fn any_fact() -> impl Strategy<Value = usize> {
    0..FACTS.len()
}

proptest! {
    #[test]
    fn the_case_of_what_azure_compares_without_case_changes_nothing(at in any_fact(), flips in any::<u64>()) {
        let fact = &FACTS[at];
        let path = fact.example();
        let arm = path.starts_with("/subscriptions");
        let flipped: String = path
            .split('/')
            .map(|segment| {
                // The data plane's own words are letter by letter; what follows the provider is Azure's.
                if !arm || segment == "one-2" { return segment.to_owned() }
                segment
                    .chars()
                    .enumerate()
                    .map(|(n, c)| if flips >> (n % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
                    .collect()
            })
            .collect::<Vec<_>>()
            .join("/");
        let read = |path: &str| named(&fact.method, path).map(|n| n.so_far().acts[0].action.as_str().to_ascii_lowercase());
        prop_assert_eq!(read(&path).ok(), read(&flipped).ok());
    }

    #[test]
    fn encoding_what_needs_no_encoding_changes_nothing(at in any_fact(), which in any::<u64>()) {
        let fact = &FACTS[at];
        let path = fact.example();
        // The first segment stays: by it these tests choose the route.
        let first = path.split('/').nth(1).map_or(0, str::len) + 1;
        let encoded: String = path
            .bytes()
            .enumerate()
            .map(|(n, b)| match b {
                b if n > first && b.is_ascii_alphanumeric() && which >> (n % 64) & 1 == 1 => format!("%{b:02X}"),
                b => char::from(b).to_string(),
            })
            .collect();
        let read = |path: &str| {
            named(&fact.method, path).map(|n| (n.so_far().acts[0].clone(), n.so_far().name.clone())).ok()
        };
        prop_assert_eq!(read(&path), read(&encoded));
    }

    #[test]
    fn no_junk_is_an_operation(junk in "[ -~]{0,60}", at in any_fact()) {
        let fact = &FACTS[at];
        let path = format!("{}/zz{junk}", fact.example());
        if let Ok(found) = named(&fact.method, &path) {
            let path_only = path.split('?').next().unwrap_or("");
            prop_assert!(crate::facts::known(&fact.method, path_only).is_some(), "{}: {}", path, found.so_far().name);
        }
    }
}
