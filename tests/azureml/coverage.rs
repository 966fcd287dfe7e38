//! The facts, row by row, and what lies beside each.

use std::collections::BTreeSet;

use amlgate::azureml::{Audience, Effect, Kind};
use http::Method;

use crate::facts::{FACTS, known, named};

const VERBS: [Method; 5] = [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE];

#[test]
fn every_operation_of_azure_ml_is_named() {
    assert!(FACTS.len() > 500, "{}", FACTS.len());
    let missing: Vec<String> = FACTS
        .iter()
        .filter(|f| named(&f.method, &f.example()).is_err())
        .map(|f| format!("{} {}", f.method, f.path))
        .collect();
    assert_eq!(missing, [] as [String; 0]);
}

#[test]
fn every_operation_has_the_action_that_azure_asks_for() {
    let mut wrong = Vec::new();
    for fact in FACTS.iter() {
        // Where Azure documents no action, the catalogue calls an operation by its neighbours' action,
        // which the facts can neither confirm nor deny.
        let (Some(action), Ok(named)) = (fact.action, named(&fact.method, &fact.example())) else { continue };
        let acts: Vec<&str> = named.so_far().acts.iter().map(|a| a.action.as_str()).collect();
        if !acts.iter().any(|a| a.eq_ignore_ascii_case(action)) {
            wrong.push(format!("{} {}: {acts:?} instead of {action}", fact.method, fact.path));
        }
    }
    assert_eq!(wrong, [] as [String; 0]);
}

#[test]
fn what_is_long_running_and_what_answers_with_secrets_is_known() {
    let mut wrong = Vec::new();
    for fact in FACTS.iter() {
        let Ok(named) = named(&fact.method, &fact.example()) else { continue };
        let operation = named.so_far();
        if operation.long_running != fact.long_running {
            wrong.push(format!("{} {}: long-running {}", fact.method, fact.path, operation.long_running));
        }
        if fact.secret.is_some_and(|secret| secret == operation.secrets.is_empty()) {
            wrong.push(format!("{} {}: secrets {:?}", fact.method, fact.path, operation.secrets));
        }
    }
    assert_eq!(wrong, [] as [String; 0]);
}

#[test]
fn a_read_is_asked_for_with_get_and_nothing_that_writes_is_called_a_read() {
    let mut posted = BTreeSet::new();
    for fact in FACTS.iter() {
        let Ok(named) = named(&fact.method, &fact.example()) else { continue };
        let operation = named.so_far();
        let what = format!("{} {} is {:?}", fact.method, fact.path, operation.kind);
        match fact.method {
            // A GET may hand out an address to write to.
            Method::GET => assert_ne!(operation.kind, Kind::Delete, "{what}"),
            // To delete a tag is to write what has it.
            Method::DELETE => assert!(matches!(operation.kind, Kind::Delete | Kind::Write), "{what}"),
            Method::PUT | Method::PATCH => assert_ne!(operation.kind, Kind::Read, "{what}"),
            _ => {
                if operation.kind == Kind::Read {
                    let action = fact.action.unwrap_or("").to_ascii_lowercase();
                    if !action.ends_with("/read") {
                        posted.insert(operation.name.to_string());
                    }
                }
                if operation.kind == Kind::Read {
                    let changes = operation.effects.iter().filter(|e| *e != Effect::DownloadData).count();
                    assert_eq!(changes, 0, "{what}: {:?}", operation.effects);
                }
            }
        }
        assert_eq!(operation.audience, Audience::Arm, "{what}");
    }
    // Azure asks for a right to write or act here, or says nothing, but nothing is changed: read one by one.
    let reads = [
        "Compute_ListNodes",
        "DataCall.get_preview_for_ml_table",
        "DataCall.get_quick_profile_for_ml_table",
        "DataCall.get_schema_for_ml_table",
        "DataVersionOps.get_by_asset_id",
        "IndexEntities.get_entites_cross_region",
        "Indexes.get_next_version",
        "Models.deployment_settings",
        "OnlineDeployments_GetLogs",
        "Prompts.get_next_version",
        "artifacts.batch_get_by_id",
        "artifacts.batch_get_storage_by_id",
        "services.export_query_post",
        "services.name_validation",
        "services.request_validation",
        "services.resource_validation",
    ];
    assert_eq!(posted, reads.map(ToOwned::to_owned).into());
}

#[test]
fn the_data_planes_door_to_resource_manager_is_resource_manager() {
    let arm: Vec<_> = FACTS.iter().filter(|f| f.path.starts_with("/subscriptions")).collect();
    assert!(arm.len() > 200);
    for fact in arm {
        let path = fact.example();
        let direct = named(&fact.method, &path);
        let through = named(&fact.method, &format!("/mferp/managementfrontend{path}"));
        match (direct, through) {
            (Ok(direct), Ok(through)) => {
                assert_eq!(direct.so_far().acts, through.so_far().acts, "{path}");
                assert_eq!(direct.so_far().kind, through.so_far().kind, "{path}");
                assert_eq!(direct.so_far().effects, through.so_far().effects, "{path}");
                assert_eq!(direct.so_far().secrets, through.so_far().secrets, "{path}");
            }
            (Err(_), Err(_)) => {}
            (direct, through) => panic!("{path}: {direct:?} and {through:?}"),
        }
    }
}

/// Beside each operation: other verbs, a segment more or fewer, another word. Each is another
/// operation that the facts know, by exactly that one's action, or nobody's.
#[test]
fn what_lies_beside_an_operation_is_another_one_or_unknown() {
    let mut wrong = BTreeSet::new();
    let mut looked_at = 0_usize;
    let mut look = |method: &Method, path: &str| {
        looked_at += 1;
        let expected = known(method, path);
        let found = named(method, path);
        match (expected, found) {
            (None, Err(_)) => {}
            // A colon begins a verb (`{}:getNextVersion`), and is no part of a name.
            (Some(_), Err(_)) if path.contains(':') => {}
            (Some(fact), Ok(found)) => {
                let acts: Vec<&str> = found.so_far().acts.iter().map(|a| a.action.as_str()).collect();
                if fact.action.is_some_and(|a| !acts.iter().any(|b| a.eq_ignore_ascii_case(b))) {
                    wrong.insert(format!("{method} {path}: {acts:?} instead of {:?}", fact.action));
                }
            }
            (Some(fact), Err(_)) => {
                wrong.insert(format!("{method} {path}: unknown instead of {:?}", fact.action));
            }
            (None, Ok(found)) => {
                wrong.insert(format!("{method} {path}: {} though nobody knows it", found.so_far().name));
            }
        }
    };
    for fact in FACTS.iter() {
        let path = fact.example();
        for verb in &VERBS {
            look(verb, &path);
        }
        look(&fact.method, &format!("{path}/more"));
        look(&fact.method, &format!("{path}/more/still"));
        if let Some((shorter, _)) = path.rsplit_once('/').filter(|(shorter, _)| !shorter.is_empty()) {
            look(&fact.method, shorter);
        }
        let segments: Vec<&str> = path.split('/').collect();
        for at in 1..segments.len() {
            let mut other = segments.clone();
            other[at] = "unheard-of";
            look(&fact.method, &other.join("/"));
        }
    }
    assert!(looked_at > 5_000, "{looked_at}");
    let shown: Vec<_> = wrong.iter().take(40).collect();
    assert!(wrong.is_empty(), "{} of {looked_at}: {shown:#?}", wrong.len());
}
