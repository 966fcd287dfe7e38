//! From deployments, versions and jobs to their commit, over a real store and an Azure of a few rows.

use std::collections::BTreeMap;

use http::{HeaderMap, Method};
use serde_json::json;

use super::*;
use crate::{
    azureml::{Naming, Protocol, name},
    http::Target,
    identity::{Caller, Groups, Principal, PrincipalId, PrincipalKind},
    policy::{DecisionId, FileSet, PolicySet, RequestFacts, Standing, Surroundings, decide},
    store::StoreAddress,
    time::{ManualClock, Timestamp},
};

const HOME: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w";
const COMMIT: &str = "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const SENT_AT: u64 = 1_796_032_800;

type Shown = BTreeMap<String, Result<Value, String>>;

struct Scene {
    custody: Custody,
    policies: PolicySet,
    _directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(StoreAddress::Sqlite(directory.path().join("amlgate.db"))).unwrap();
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_secs(SENT_AT)));
        let policies = "version: 1\nallow:\n  - name: all\n    who: [authenticated]\n    actions: ['*']\n";
        let files = FileSet::from_texts([("p.yaml", policies)]);
        let (policies, _) = PolicySet::compile(&files, &Surroundings::default()).unwrap();
        Self { custody: Custody::new(clock, Some(store)), policies, _directory: directory }
    }

    /// What Azure shows from here on.
    fn azure(&self, shown: Shown) {
        self.custody.read_by(Some(Reader::new(move |id| {
            let found = shown.get(id.folded()).cloned().transpose();
            Box::pin(async move { found })
        })));
    }

    fn permit(&self, claims: Value, method: Method, below: &str, body: &Value) -> Permit {
        let caller = Caller {
            id: PrincipalId { issuer: "github".into(), subject: "ci".into() },
            kind: PrincipalKind::Machine,
            tenant: None,
            client: None,
            display: None,
            groups: Groups::Known(Arc::new([])),
            roles: Arc::new([]),
            claims: Arc::new(claims.as_object().unwrap().clone()),
            expires: Timestamp::from_secs(2_000_000_000),
            from_pull_request: false,
            subjects_at_issue: None,
            reviewers: None,
            human: None,
            token_digest: [0; 32],
        };
        let target = Target::parse("gate", &format!("{HOME}{below}")).unwrap();
        let naming = Naming { protocol: Protocol::Arm, upstream_host: "h".into(), resource: None };
        let body = Inspected::parse(body.to_string().as_bytes()).unwrap();
        let operation = name(&naming, &method, &target).unwrap().complete(Some(&body)).unwrap();
        let now = self.custody.clock.now();
        let request = RequestFacts {
            decision: DecisionId::fresh(),
            route: "arm".into(),
            method,
            target,
            headers: HeaderMap::new(),
            body: Some(Arc::new(body)),
            source: "10.0.0.1:1".parse().unwrap(),
            received: now,
            glass: None,
        };
        let principal = Principal::for_tests(caller);
        let azure = crate::policy::Azure::default();
        decide(&self.policies, principal, operation, request, Standing::Entries, azure, now).unwrap()
    }

    /// Submits `train-1`, and lets Azure show it as it was sent, completed.
    async fn trained(&self, claims: Value, properties: Value) -> (Value, String) {
        self.azure(Shown::new());
        let permit = self.permit(claims, Method::PUT, "/jobs/train-1", &json!({ "properties": properties }));
        let sent = self.custody.submitted(&permit).await.unwrap().unwrap();
        let mut shown = sent.value().clone();
        shown["properties"]["status"] = json!("Completed");
        shown["systemData"] = json!({"createdAt": Timestamp::from_secs(SENT_AT + 1).to_rfc3339()});
        (shown, permit.decision().to_string())
    }

    async fn registered(&self, uri: &str) -> Result<Vec<CommitOf>, Broken> {
        let body = json!({"properties": {"modelUri": uri}});
        let permit = self.permit(json!({}), Method::PUT, "/models/m/versions/1", &body);
        self.custody.commits_of(&permit).await
    }
}

fn ci() -> Value {
    json!({"sha": COMMIT, "repository_id": "42"})
}

fn at(below: &str) -> String {
    format!("{HOME}{below}").to_ascii_lowercase()
}

fn command() -> Value {
    json!({"jobType": "Command", "codeId": format!("{HOME}/codes/c/versions/1"), "outputs": {"model": {}}})
}

fn said(found: Result<Vec<CommitOf>, Broken>) -> String {
    found.unwrap_err().to_string()
}

#[tokio::test]
async fn a_model_comes_from_the_commit_of_the_job_in_whose_outputs_it_lies() {
    let scene = Scene::new();
    let (job, decision) = scene.trained(ci(), command()).await;
    assert_eq!(job["properties"]["properties"]["amlgate.commit"], COMMIT);
    scene.azure([(at("/jobs/train-1"), Ok(job))].into());
    for uri in ["azureml://jobs/train-1/outputs/model/paths/best", "runs:/train-1/model"] {
        let found = scene.registered(uri).await.unwrap();
        let [commit] = &*found else { panic!("{found:?}") };
        assert_eq!((&*commit.tie.commit, commit.tie.known), (COMMIT, Known::Token));
        assert_eq!(commit.decision, decision);
        assert_eq!(commit.through, [ResourceId::parse(&format!("{HOME}/jobs/train-1")).unwrap()]);
    }
    assert!(
        said(scene.registered("azureml://jobs/train-1/outputs/other").await).contains("no output `other`")
    );
    assert!(said(scene.registered("https://example.com/m").await).contains("not said to lie"));
    assert!(said(scene.registered("runs:/train-2/model").await).contains("is not there"));
}

#[tokio::test]
async fn traffic_is_followed_to_every_commit_that_it_serves() {
    let scene = Scene::new();
    let (job, _) = scene.trained(ci(), command()).await;
    let deployment = |version: &str| Ok(json!({"properties": {"model": format!("azureml:m:{version}")}}));
    let version = |uri: &str| Ok(json!({"properties": {"modelUri": uri}}));
    scene.azure(
        [
            (at("/jobs/train-1"), Ok(job)),
            (at("/onlineEndpoints/e/deployments/blue"), deployment("1")),
            (at("/onlineEndpoints/e/deployments/green"), deployment("2")),
            (at("/models/m/versions/1"), version("azureml://jobs/train-1/outputs/model")),
            (at("/models/m/versions/2"), version("https://example.com/m")),
        ]
        .into(),
    );
    let traffic = async |shares: Value| {
        let body = json!({"properties": {"traffic": shares}});
        scene.custody.commits_of(&scene.permit(json!({}), Method::PATCH, "/onlineEndpoints/e", &body)).await
    };
    let found = traffic(json!({"blue": 100, "green": 0})).await.unwrap();
    let through: Vec<_> = found[0].through.iter().map(|id| id.folded().to_owned()).collect();
    assert_eq!(
        through,
        [at("/onlineEndpoints/e/deployments/blue"), at("/models/m/versions/1"), at("/jobs/train-1")]
    );
    assert!(said(traffic(json!({"blue": 90, "green": 10})).await).contains("`https://example.com/m`"));
    assert!(said(traffic(json!({"grey": 1})).await).contains("grey` is not there"));
}

#[tokio::test]
async fn copies_are_followed_to_an_end() {
    let scene = Scene::new();
    let round = |to: &str| Ok(json!({"properties": {"modelUri": format!("models:/m/{to}")}}));
    scene.azure([(at("/models/m/versions/1"), round("2")), (at("/models/m/versions/2"), round("1"))].into());
    assert!(said(scene.registered("models:/m/1").await).contains("copy of a copy"));
}

#[tokio::test]
async fn what_cannot_be_read_is_no_commit_and_is_told_from_what_is_not_there() {
    let scene = Scene::new();
    scene.azure([(at("/jobs/train-1"), Err("Azure answered 503".to_owned()))].into());
    let found = scene.registered("runs:/train-1/model").await;
    assert_eq!(found, Err(Broken::Unread("Azure answered 503".to_owned())));
    let permit = scene.permit(ci(), Method::PUT, "/jobs/train-1", &json!({"properties": {}}));
    let unread = scene.custody.submitted(&permit);
    assert!(matches!(unread.await, Err(Broken::Unread(_))));
    scene.custody.read_by(None);
    assert!(matches!(scene.registered("runs:/train-1/model").await, Err(Broken::Unread(_))));
}

#[tokio::test]
async fn a_job_that_is_there_already_keeps_its_commit_whoever_changes_it() {
    let scene = Scene::new();
    let (job, _) = scene.trained(ci(), command()).await;
    scene.azure([(at("/jobs/train-1"), Ok(job.clone()))].into());
    let other = json!({"sha": "c0ffee".repeat(7)[..40], "repository_id": "42"});
    let change = scene.permit(other, Method::PUT, "/jobs/train-1", &job);
    let sent = scene.custody.submitted(&change).await.unwrap().unwrap();
    assert_eq!(sent.value()["properties"]["properties"], json!({}), "no stamp is sent a second time");
    assert_eq!(scene.registered("runs:/train-1/model").await.unwrap()[0].tie.commit, COMMIT);
    // It is deleted, and another is put under its name by who knows whom.
    let mut another = job;
    another["systemData"]["createdAt"] = json!(Timestamp::from_secs(SENT_AT + 86_400).to_rfc3339());
    scene.azure([(at("/jobs/train-1"), Ok(another.clone()))].into());
    assert!(said(scene.registered("runs:/train-1/model").await).contains("it was made at"));
    another["properties"]["properties"] = json!({});
    scene.azure([(at("/jobs/train-1"), Ok(another))].into());
    assert!(said(scene.registered("runs:/train-1/model").await).contains("not submitted through this gate"));
}

#[tokio::test]
async fn a_job_without_a_commit_runs_and_what_it_makes_says_why_it_has_none() {
    let scene = Scene::new();
    let mut dirty = command();
    dirty["properties"] = json!({"azureml.git.commit": COMMIT, "azureml.git.dirty": "True"});
    let (mut job, _) = scene.trained(json!({}), dirty).await;
    assert!(job["properties"]["properties"]["amlgate.commit"].is_null());
    job["properties"]["properties"]["azureml.git.dirty"] = json!("False");
    scene.azure([(at("/jobs/train-1"), Ok(job))].into());
    assert!(said(scene.registered("runs:/train-1/model").await).contains("changes that are in no commit"));
}

#[tokio::test]
async fn a_job_that_registers_what_it_makes_has_the_commit_of_its_submission() {
    let scene = Scene::new();
    let put = async |claims: Value, output: Value| {
        let body = json!({"properties": {"jobType": "Command", "outputs": {"m": output}}});
        scene.custody.commits_of(&scene.permit(claims, Method::PUT, "/jobs/train-1", &body)).await
    };
    let named = json!({"jobOutputType": "mlflow_model", "assetName": "m"});
    let found = put(ci(), named.clone()).await.unwrap();
    assert_eq!(found[0].tie.commit, COMMIT);
    assert!(said(put(json!({}), named).await).contains("neither the caller's token"));
    let placed =
        json!({"jobOutputType": "mlflow_model", "assetName": "m", "uri": "azureml://datastores/x/paths/y"});
    assert!(said(put(ci(), placed).await).contains("leave out its `uri`"));
}

#[tokio::test]
async fn what_submits_no_job_is_not_kept_and_not_stamped() {
    let scene = Scene::new();
    let body = json!({"properties": {"modelUri": "runs:/train-1/model"}});
    let permit = scene.permit(ci(), Method::PUT, "/models/m/versions/1", &body);
    assert_eq!(scene.custody.submitted(&permit).await.unwrap().map(|_| ()), None);
}
