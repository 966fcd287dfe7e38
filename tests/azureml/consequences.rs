//! What follows from each operation besides its action: kind, effects, secrets, a judged body, and
//! for whom Azure wants a token.

use std::collections::{BTreeMap, BTreeSet};

use amlgate::azureml::{self, Audience, BodyNeed, Kind, Named, Naming, Protocol, ResourceId};
use amlgate::http::Target;
use http::Method;

use crate::facts::{FACTS, named};

const ML: &str = "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.MachineLearningServices";

/// Kind, effects, secrets, and whether the body is judged, by method and path.
fn expected() -> BTreeMap<(Method, String), [String; 4]> {
    let rows = include_str!("consequences.tsv").lines().filter(|line| !line.starts_with('#'));
    let row = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [method, path, kind, effects, secrets, body] = columns[..] else { panic!("six columns: {line}") };
        let path = path.replace("@ml", ML).to_ascii_lowercase();
        ((method.parse().unwrap(), path), [kind, effects, secrets, body].map(ToOwned::to_owned))
    };
    rows.map(row).collect()
}

fn words(named: &Named) -> [String; 4] {
    let operation = named.so_far();
    let list = |names: Vec<&str>| if names.is_empty() { "-".to_owned() } else { names.join(",") };
    let mut effects: Vec<_> = operation.effects.iter().map(|effect| effect.name()).collect();
    effects.sort_unstable();
    let secrets = operation.secrets.iter().map(|class| class.name()).collect();
    let body = if named.body_need() == BodyNeed::Inspect { "judged" } else { "-" };
    [kind(operation.kind).to_owned(), list(effects), list(secrets), body.to_owned()]
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Delete => "delete",
        Kind::Action => "action",
    }
}

#[test]
fn every_operation_has_exactly_the_consequences_that_are_listed() {
    let expected = expected();
    let (mut wrong, mut met) = (Vec::new(), BTreeSet::new());
    for fact in FACTS.iter() {
        let Ok(named) = named(&fact.method, &fact.example()) else { continue };
        let key = (fact.method.clone(), fact.path.to_ascii_lowercase());
        let found = words(&named);
        let right = match expected.get(&key) {
            Some(listed) => *listed == found,
            None => {
                let [kind, effects, secrets, body] = &found;
                let plain = [effects, secrets, body].iter().all(|word| *word == "-");
                plain
                    && match fact.method {
                        Method::GET => kind == "read",
                        Method::PUT | Method::PATCH => kind == "write",
                        // To take a tag away is to write what had it.
                        Method::DELETE => kind == "delete" || kind == "write",
                        _ => true,
                    }
            }
        };
        if !right {
            wrong.push(format!("{} {}: {found:?}, not {:?}", fact.method, fact.path, expected.get(&key)));
        }
        met.insert(key);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let unmet: Vec<_> = expected.keys().filter(|key| !met.contains(key)).collect();
    assert!(unmet.is_empty(), "listed, but no fact: {unmet:#?}");
    assert!(expected.len() > 100, "{}", expected.len());
}

fn endpoint(kind: &str, method: &Method, path: &str) -> Named {
    let id = format!("{}/workspaces/w/{kind}/e", ML.replace("{}", "one-2"));
    let naming = Naming {
        protocol: Protocol::Inference,
        upstream_host: "e.westeurope.inference.ml.azure.com".into(),
        resource: ResourceId::parse(&id),
    };
    let target = Target::parse(&naming.upstream_host, path).unwrap();
    azureml::name(&naming, method, &target).unwrap()
}

#[test]
fn scoring_asks_for_a_token_of_azure_ml_and_not_of_resource_manager() {
    let score = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action";
    let batch = "Microsoft.MachineLearningServices/workspaces/batchEndpoints/jobs/write";
    for (named, action, wanted) in [
        (endpoint("onlineEndpoints", &Method::POST, "/score"), score, ["action", "-", "-", "-"]),
        (endpoint("batchEndpoints", &Method::POST, "/jobs"), batch, ["write", "-", "-", "-"]),
    ] {
        let operation = named.so_far();
        assert_eq!(operation.audience, Audience::MachineLearning, "{action}");
        let [act] = &operation.acts[..] else { panic!("one act: {:?}", operation.acts) };
        assert_eq!(act.action.as_str(), action);
        assert!(act.resource.is_some(), "its scope is the endpoint: {act:?}");
        assert_eq!(words(&named), wanted.map(ToOwned::to_owned), "{action}");
    }
}

/// Azure publishes no action for these. They are called as their neighbours are, and are about
/// nothing that an entry's `scope` could hold: so only an entry without `scope` allows them, and a
/// role that is given at a workspace does not by accident. Joining a hub is about its workspace.
#[test]
fn what_azure_documents_no_action_for_is_allowed_by_no_entry_with_a_scope() {
    let mut found = BTreeSet::new();
    for fact in FACTS.iter().filter(|fact| fact.action.is_none()) {
        let named = named(&fact.method, &fact.example()).unwrap();
        let operation = named.so_far();
        let [act] = &operation.acts[..] else { panic!("one act: {:?}", operation.acts) };
        let action = act.action.as_str().trim_start_matches("Microsoft.MachineLearningServices/").to_owned();
        assert_eq!(act.resource.is_some(), &*operation.name == "Workspaces.hub_join", "{act:?}");
        found.insert((operation.name.to_string(), action));
    }
    let pinned = [
        ("Async.get_status", "registries/read"),
        ("IndexEntities.get_entites_cross_region", "workspaces/metadata/artifacts/read"),
        ("Indexes.create_or_update", "workspaces/indexes/versions/write"),
        ("Indexes.get", "workspaces/indexes/versions/read"),
        ("Indexes.get_latest", "workspaces/indexes/read"),
        ("Indexes.get_next_version", "workspaces/indexes/read"),
        ("Indexes.list", "workspaces/indexes/versions/read"),
        ("Indexes.list_latest", "workspaces/indexes/read"),
        ("Prompts.create_or_update", "workspaces/prompts/versions/write"),
        ("Prompts.get", "workspaces/prompts/versions/read"),
        ("Prompts.get_latest", "workspaces/prompts/read"),
        ("Prompts.get_next_version", "workspaces/prompts/read"),
        ("Prompts.list", "workspaces/prompts/versions/read"),
        ("Prompts.list_latest", "workspaces/prompts/read"),
        ("Workspaces.hub_join", "workspaces/hubs/join/action"),
    ];
    assert_eq!(found, pinned.map(|(name, action)| (name.to_owned(), action.to_owned())).into());
}
