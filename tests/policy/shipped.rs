use std::{path::Path, sync::Arc};

use amlgate::{
    azureml::{Inspected, Naming, Operation, Protocol, ResourceId, name},
    http::Target,
    identity::{Caller, Groups, PrincipalId, PrincipalKind},
    policy::{
        DecisionId, Judgement, PolicySet, Question, RequestFacts, SecretTreatment, Standing, Surroundings,
    },
    time::Timestamp,
};
use http::Method;
use serde_json::{Value, json};

use super::golden;

const VISION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/vision";
const OTHER: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/vision2";

/// Monday, 23 November 2026, 12:00 UTC: 13:00 in Zurich.
const NOON: Timestamp = Timestamp::from_secs(1_795_435_200);
/// The same day, 23:00 in Zurich.
const NIGHT: Timestamp = Timestamp::from_secs(1_795_471_200);
/// 2 February 2027, noon: after the dry runs.
const LATER: Timestamp = Timestamp::from_secs(1_801_569_600);

const DATA_SCIENTISTS: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
const PLATFORM: &str = "0f1bb3f1-51b8-4cd9-8a3f-6a5f3fb2b0aa";
const AUDITORS: &str = "a4b1d5c2-7a54-4b8c-9f0e-1d2c3b4a5f60";

struct Asker {
    label: &'static str,
    caller: Caller,
    source: &'static str,
    now: Timestamp,
}

fn caller(issuer: &str, groups: Groups, claims: Value) -> Caller {
    Caller {
        id: PrincipalId { issuer: issuer.into(), subject: "s".into() },
        kind: PrincipalKind::Person,
        tenant: None,
        client: None,
        display: None,
        groups,
        roles: Arc::new([]),
        claims: Arc::new(claims.as_object().cloned().unwrap_or_default()),
        expires: LATER,
        from_pull_request: false,
        subjects_at_issue: None,
        reviewers: None,
        human: None,
        token_digest: [0; 32],
    }
}

fn askers() -> Vec<Asker> {
    let groups = |all: &[&str]| Groups::Known(all.iter().map(|g| (*g).into()).collect());
    let corp = |all: &[&str]| caller("corp", groups(all), json!({}));
    let github = |git_ref: &str, event: &str| {
        caller("github", groups(&[]), json!({"repository_id": "42", "ref": git_ref, "event_name": event}))
    };
    let (office, home) = ("10.1.2.3:1", "192.0.2.1:1");
    let asker = |label, caller, source, now| Asker { label, caller, source, now };
    vec![
        asker("data scientist", corp(&[DATA_SCIENTISTS]), office, NOON),
        asker("data scientist, at home", corp(&[DATA_SCIENTISTS]), home, NOON),
        asker("data scientist, at home, 2027", corp(&[DATA_SCIENTISTS]), home, LATER),
        asker("platform", corp(&[PLATFORM]), office, NOON),
        asker("platform, at night", corp(&[PLATFORM]), office, NIGHT),
        asker("platform, 2027", corp(&[PLATFORM]), office, LATER),
        asker("CI, main", github("refs/heads/main", "push"), home, NOON),
        asker("CI, pull request", github("refs/pull/7/merge", "pull_request"), home, NOON),
        asker("auditor", corp(&[AUDITORS]), office, NOON),
        asker("stranger", corp(&[]), office, NOON),
        asker("groups not in the token", caller("corp", Groups::Overage, json!({})), office, NOON),
        asker("same group, other issuer", caller("portal", groups(&[PLATFORM]), json!({})), office, NOON),
    ]
}

/// A request as a client sends it, by the workspace's own path.
struct Asked {
    label: &'static str,
    method: Method,
    workspace: &'static str,
    path: &'static str,
    body: Value,
    protocol: Protocol,
}

fn asked(label: &'static str, method: Method, path: &'static str, body: Value) -> Asked {
    Asked { label, method, workspace: VISION, path, body, protocol: Protocol::Arm }
}

impl Asked {
    /// What the request means, by the catalogue.
    fn operation(&self, request: &RequestFacts) -> Operation {
        let resource = ResourceId::parse(&format!("{VISION}/onlineEndpoints/e"))
            .filter(|_| self.protocol == Protocol::Inference);
        let upstream_host = request.target.host().into();
        let naming = Naming { protocol: self.protocol, upstream_host, resource };
        let named = name(&naming, &self.method, &request.target).expect("the catalogue knows it");
        named.complete(request.body.as_deref()).expect("its body is complete")
    }
}

fn operations() -> Vec<Asked> {
    let (get, put, post, delete) = (Method::GET, Method::PUT, Method::POST, Method::DELETE);
    let none = || Value::Null;
    let job = |outputs: Value| {
        json!({"properties": {"jobType": "Command", "command": "python train.py", "environmentId": "azureml:e:1",
            "resources": {"instanceCount": 2, "instanceType": "STANDARD_DS3_V2"}, "outputs": outputs}})
    };
    let cluster = json!({"location": "westeurope", "properties": {"computeType": "AmlCompute",
        "properties": {"vmSize": "STANDARD_DS3_V2", "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 4}}}});
    let endpoint = |access: &str| json!({"location": "westeurope", "properties": {"authMode": "Key", "publicNetworkAccess": access}});
    let model =
        json!({"properties": {"modelUri": "azureml://jobs/j/outputs/model", "modelType": "mlflow_model"}});
    let deployment = json!({"location": "westeurope", "sku": {"name": "Default", "capacity": 1}, "properties": {
        "endpointComputeType": "Managed", "instanceType": "Standard_DS3_v2", "model": "azureml:churn:3"}});
    let access =
        |access: &str| json!({"location": "westeurope", "properties": {"publicNetworkAccess": access}});
    let registered = json!({"model": {"jobOutputType": "mlflow_model", "assetName": "churn"}});
    let mut all = vec![
        asked("read the workspace", get.clone(), "", none()),
        asked("list jobs", get.clone(), "/jobs", none()),
        asked("list jobs of another workspace", get, "/jobs", none()),
        asked("submit a job", put.clone(), "/jobs/j", job(json!({}))),
        asked("submit a job that registers", put.clone(), "/jobs/j", job(registered)),
        asked(
            "get an upload URL",
            post.clone(),
            "/codes/c/versions/1/startPendingUpload",
            json!({"pendingUploadType": "TemporaryBlobReference"}),
        ),
        asked("cancel a job", post.clone(), "/jobs/j/cancel", none()),
        asked("register a model", put.clone(), "/models/churn/versions/3", model),
        asked("delete a model", delete.clone(), "/models/churn/versions/3", none()),
        asked("create a compute", put.clone(), "/computes/c", cluster),
        asked("stop a compute", post.clone(), "/computes/c/stop", none()),
        asked("list a compute's keys", post.clone(), "/computes/c/listKeys", none()),
        asked("create a private endpoint", put.clone(), "/onlineEndpoints/e", endpoint("Disabled")),
        asked("create a public endpoint", put.clone(), "/onlineEndpoints/e", endpoint("Enabled")),
        asked("deploy to an endpoint", put.clone(), "/onlineEndpoints/e/deployments/blue", deployment),
        asked("list an endpoint's keys", post.clone(), "/onlineEndpoints/e/listKeys", none()),
        asked("get a token of an endpoint", post.clone(), "/onlineEndpoints/e/token", none()),
        asked("list a datastore's secrets", post.clone(), "/datastores/d/listSecrets", none()),
        asked("list a connection's secrets", post.clone(), "/connections/c/listsecrets", none()),
        asked("list the workspace's keys", post, "/listKeys", none()),
        asked("open the workspace to the internet", put.clone(), "", access("Enabled")),
        asked("change the workspace", put, "", access("Disabled")),
        asked("delete the workspace", delete, "", none()),
    ];
    all.push(Asked {
        workspace: "",
        protocol: Protocol::Inference,
        ..asked("score", Method::POST, "/score", json!({"data": [1]}))
    });
    all.push(asked(
        "assign a role",
        Method::PUT,
        "/providers/Microsoft.Authorization/roleAssignments/11111111-1111-1111-1111-111111111111",
        json!({"properties": {"principalId": "p", "roleDefinitionId": "/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/f6c7c914-8db3-469d-8ca1-694a8f32e121"}}),
    ));
    for one in all.iter_mut().filter(|one| one.label.contains("another workspace")) {
        one.workspace = OTHER;
    }
    all
}

fn line(asker: &str, asked: &str, judgement: &Judgement) -> String {
    let names = |entries: &mut dyn Iterator<Item = &amlgate::policy::EntryRef>| {
        let mut names: Vec<_> = entries.map(|e| e.name.to_string()).collect();
        names.dedup();
        names.join(" + ")
    };
    let (decision, by) = match &judgement.denial {
        None => ("allow", names(&mut judgement.allowed_by.iter())),
        Some(denial) => {
            let by = denial.entry.as_ref().map(|entry| entry.name.to_string()).unwrap_or_default();
            (denial.code.name(), by)
        }
    };
    let mut notes = Vec::new();
    if judgement.denial.is_none() {
        notes.extend(judgement.secrets.iter().map(|(class, how)| match how {
            SecretTreatment::Substitute => format!("{} as a handle", class.name()),
            SecretTreatment::Reveal => format!("{} revealed", class.name()),
        }));
    }
    if !judgement.would_deny.is_empty() {
        notes.push(format!("would be denied by: {}", names(&mut judgement.would_deny.iter())));
    }
    let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) };
    format!("{asker:29}  {asked:34}  {decision:25}  {by}{notes}").trim_end().to_owned()
}

#[test]
fn the_shipped_policies_decide_as_the_matrix_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let around = Surroundings {
        issuers: Some(["corp", "github"].map(ToOwned::to_owned).into()),
        routes: Some(["arm", "data-plane"].map(ToOwned::to_owned).into()),
        ..Surroundings::default()
    };
    let (set, warnings) = PolicySet::load(&directory, &around).expect("the shipped policies compile");
    assert_eq!(warnings, vec![]);
    let mut table = String::from(
        "What the policies under policies/ decide: who, what, decision, by which entry.\n\
         Office is 10.1.2.3 on Monday, 23 November 2026, 13:00 in Zurich; home is 192.0.2.1.\n",
    );
    for asker in askers() {
        table.push('\n');
        for asked in operations() {
            let path = format!("{}{}?api-version=2025-12-01", asked.workspace, asked.path);
            let body = (!asked.body.is_null())
                .then(|| Inspected::parse(asked.body.to_string().as_bytes()).expect("a plain body"));
            let request = RequestFacts {
                decision: DecisionId::fresh(),
                route: "arm".into(),
                method: asked.method.clone(),
                target: Target::parse("management.azure.com", &path).expect("a plain target"),
                headers: http::HeaderMap::new(),
                body: body.map(Arc::new),
                source: asker.source.parse().expect("an address"),
                received: asker.now,
                glass: None,
            };
            let operation = asked.operation(&request);
            let judgement = set.judge(&Question {
                caller: &asker.caller,
                operation: &operation,
                request: &request,
                now: asker.now,
                standing: Standing::Entries,
                azure: &amlgate::policy::rights::UNREAD,
            });
            table.push_str(&line(asker.label, asked.label, &judgement));
            table.push('\n');
        }
    }
    golden("shipped.txt", &table);
}
