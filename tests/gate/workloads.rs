//! CI jobs and workloads: which of their tokens the gate takes for what.

use amlgate::sandbox::Person;
use serde_json::{Value, json};

use crate::world::{Changes, VERSION, World, workspace};

const POLICIES: &str = r#"
version: 1
subjects:
  repository: [{issuer: sandbox, claims: {repository_id: "42"}}]
  reviewed: [{issuer: sandbox, claims: {repository_id: "42", event_name: [merge_group, pull_request]}}]
  realm: [{issuer: sandbox, claims: {realm_access: {roles: trainer}}}]
  pods: [{issuer: sandbox, claims: {kubernetes.io: {namespace: ml, serviceaccount: {name: trainer}}}}]
  jobs: [{issuer: sandbox, claims: {project_id: "7", ref_protected: "true"}}]
  strangers: [{issuer: sandbox, claims: {repository_id: "44"}}]
allow:
  - {name: the repository reads, who: [repository], kinds: [read]}
  - {name: pull requests read jobs, who: [reviewed], actions: [Microsoft.MachineLearningServices/workspaces/jobs/read]}
  - {name: others read, who: [realm, pods, jobs, strangers], kinds: [read]}
  - {name: everybody reads compute, who: [authenticated], actions: [Microsoft.MachineLearningServices/workspaces/computes/read]}
deny:
  - {name: strangers, who: [strangers]}
"#;

async fn world() -> World {
    World::changed(Changes { policies: Some(POLICIES), ..Changes::default() }).await
}

/// A token of the CI user's with these claims besides; `null` takes one away.
fn token(world: &World, claims: &Value) -> String {
    let changes = claims.as_object().unwrap().clone();
    world
        .sandbox
        .issuer
        .mint()
        .token_with(Person::named("ci").unwrap(), |held| {
            for (name, value) in changes {
                if value.is_null() {
                    held.remove(&name)
                } else {
                    held.insert(name, value)
                };
            }
        })
        .unwrap()
}

#[tokio::test]
async fn a_run_of_a_pull_request_may_only_what_names_its_event() {
    let world = world().await;
    let (here, jobs) = (workspace(&format!("?{VERSION}")), workspace(&format!("/jobs?{VERSION}")));
    let computes = workspace(&format!("/computes?{VERSION}"));
    for (event, statuses) in [
        ("push", [200, 200, 200]),
        ("pull_request", [403, 200, 403]),
        ("pull_request_target", [403, 403, 403]),
    ] {
        let token = token(&world, &json!({"event_name": event}));
        for (path, status) in [&here, &jobs, &computes].into_iter().zip(statuses) {
            let answer = world.bearing(&token).get(path).await;
            assert_eq!(answer.status, status, "{event} {path} {answer:?}");
        }
    }
    // In doubt a deny takes it in.
    let stranger = token(&world, &json!({"event_name": "pull_request", "repository_id": "44"}));
    let answer = world.bearing(&stranger).get(&here).await;
    assert!(answer.text().contains("RequestDisallowedByPolicy"), "{answer:?}");
    // What a pull request proposes is such a run, whatever started it.
    let proposed = token(&world, &json!({"event_name": "workflow_dispatch", "ref": "refs/pull/7/merge"}));
    assert_eq!(world.bearing(&proposed).get(&here).await.status, 403);
    let log = world.stop().await;
    let marked = format!("{:?}", log.requests()).matches("not_named").count();
    assert_eq!(marked, 8, "the record says which runs were of a pull request");
}

#[tokio::test]
async fn keycloak_kubernetes_and_gitlab_are_told_by_what_their_tokens_nest() {
    let world = world().await;
    let here = workspace(&format!("?{VERSION}"));
    let none = json!({"repository": null, "repository_id": null, "repository_owner_id": null, "ref": null,
        "event_name": null});
    let pod = |namespace: &str, name: &str| {
        json!({"sub": format!("system:serviceaccount:{namespace}:{name}"),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": "u"}}})
    };
    for (claims, status) in [
        (json!({}), 403),
        (json!({"typ": "Bearer", "realm_access": {"roles": ["offline_access", "trainer"]}}), 200),
        (json!({"typ": "Bearer", "resource_access": {"ml": {"roles": ["trainer"]}}}), 403),
        (json!({"typ": "ID", "realm_access": {"roles": ["trainer"]}}), 401),
        (json!({"typ": "Refresh", "realm_access": {"roles": ["trainer"]}}), 401),
        (pod("ml", "trainer"), 200),
        (pod("ml", "default"), 403),
        (pod("other", "trainer"), 403),
        (json!({"project_id": "7", "job_id": "1", "ref_protected": "true"}), 200),
        (json!({"project_id": "7", "job_id": "1", "ref_protected": "false"}), 403),
        (json!({"project_id": 7, "job_id": "1", "ref_protected": "true"}), 403),
    ] {
        let mut all = none.clone();
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let answer = world.bearing(&token(&world, &all)).get(&here).await;
        assert_eq!(answer.status, status, "{claims} {answer:?}");
    }
}
