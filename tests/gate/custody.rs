//! Only from reviewed code, whichever door a model comes through: from what it descends is followed to
//! the commit of the job that made it, and nobody's word on that is taken.

use amlgate::sandbox::Person;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    reviews::{
        built,
        stand_in::{Gerrit, SHA},
        world,
    },
    world::{Answer, Caller, VERSION, World, job, whole, workspace},
};

pub const POLICIES: &str = "version: 1
subjects:
  everybody: [{issuer: sandbox, group: data-science}, {issuer: sandbox, kind: machine}]
allow:
  - {name: they work, who: [everybody], actions: [Microsoft.MachineLearningServices/*]}
require:
  - name: models come from reviewed code
    effects: [register_model, deploy_model]
    review: {gerrit: main, project: ml/vision, branch: main}
";

/// A commit that nobody reviewed.
const UNREVIEWED: &str = "6cf21d63b85d71ee66c3f0d1c9a0d8d2c0ffee00";

pub async fn submits(caller: &Caller<'_>, name: &str, body: &Value) -> Answer {
    caller.put(&workspace(&format!("/jobs/{name}?{VERSION}")), body).await
}

/// A job as Azure shows it.
pub async fn shown(world: &World, name: &str) -> Value {
    world.caller("sam").get(&workspace(&format!("/jobs/{name}?{VERSION}"))).await.json()
}

/// Submits a job and looks at it until it has completed.
pub async fn trained(world: &World, caller: &Caller<'_>, name: &str, body: &Value) -> Value {
    let answer = submits(caller, name, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    for _ in 0..8 {
        let job = shown(world, name).await;
        if job["properties"]["status"] == "Completed" {
            return job;
        }
    }
    panic!("job `{name}` does not complete");
}

/// A door, and what is sent to it.
pub struct Door {
    pub name: &'static str,
    pub method: Method,
    pub on_data_plane: bool,
    pub path: String,
    pub body: Value,
}

/// The doors through which a model that a job wrote can come into being.
pub fn doors(job: &str) -> Vec<Door> {
    let uri = format!("azureml://jobs/{job}/outputs/artifacts/paths/model");
    let version = json!({"properties": {"modelUri": uri, "jobName": job, "modelType": "mlflow_model"}});
    let door = |name, method, on_data_plane, path, body| Door { name, method, on_data_plane, path, body };
    let mut all = vec![
        door(
            "Resource Manager",
            Method::PUT,
            false,
            workspace(&format!("/models/by-arm/versions/1?{VERSION}")),
            version.clone(),
        ),
        door(
            "the front end of the data plane",
            Method::PUT,
            true,
            format!(
                "/mferp/managementfrontend{}",
                workspace(&format!("/models/by-mferp/versions/1?{VERSION}"))
            ),
            version,
        ),
        door(
            "the model registry of the data plane",
            Method::POST,
            true,
            format!("/modelregistry/v1.0{}", workspace("/models")),
            json!({"name": "by-registry", "url": format!("aml://artifact/ExperimentRun/dcid.{job}/model"), "runId": job}),
        ),
    ];
    for plane in ["v1.0", "v2.0"] {
        all.push(door(
            "MLflow",
            Method::POST,
            true,
            format!("/mlflow/{plane}{}", workspace("/api/2.0/mlflow/model-versions/create")),
            json!({"name": "by-mlflow", "source": format!("runs:/{job}/model"), "run_id": job}),
        ));
    }
    all
}

pub async fn sent(world: &World, caller: &Caller<'_>, door: &Door) -> Answer {
    let mut request = caller
        .request(door.method.clone(), &door.path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(whole(door.body.to_string()))
        .unwrap();
    if door.on_data_plane {
        request.headers_mut().insert(header::HOST, world.data_plane());
    }
    caller.send(request).await
}

/// A refusal for want of a review; all of it.
fn refused(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    let said = answer.text();
    assert!(said.contains("`models come from reviewed code`"), "{said}");
    said
}

/// The model that MLflow's doors add versions to.
pub async fn named(world: &World, caller: &Caller<'_>) {
    let path = format!("/mlflow/v2.0{}", workspace("/api/2.0/mlflow/registered-models/create"));
    let body = json!({"name": "by-mlflow"});
    let made =
        sent(world, caller, &Door { name: "", method: Method::POST, on_data_plane: true, path, body }).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_reviewed_code_passes_every_door_and_says_by_which_commit() {
    let gerrit = Gerrit::start().await;
    let (world, _) = world(&gerrit, POLICIES).await;
    let (token, sam) = (built(&world, SHA), world.caller("sam"));
    let ci = world.bearing(&token);
    let submitted = submits(&ci, "train", &job()).await;
    assert_eq!(submitted.status, StatusCode::CREATED, "{submitted:?}");
    assert_eq!(
        gerrit.asked(),
        Vec::<(String, String)>::new(),
        "a job that registers nothing needs no review"
    );
    let stamp = shown(&world, "train").await["properties"]["properties"].clone();
    assert_eq!(stamp["amlgate.commit"], SHA);
    assert_eq!(stamp["amlgate.commit_known_by"], "token");
    assert_eq!(stamp["amlgate.decision"], submitted.header("x-amlgate-decision"));
    let early = sent(&world, &sam, &doors("train")[0]).await;
    assert!(refused(&early).contains("not Completed"), "{early:?}");
    while shown(&world, "train").await["properties"]["status"] != "Completed" {}
    named(&world, &sam).await;
    // Whoever registers it: it is the job that has the commit.
    for door in doors("train") {
        let answer = sent(&world, &sam, &door).await;
        assert!(answer.status.is_success(), "{}: {answer:?}", door.name);
    }
    let deploy = |model: &str| {
        let model = workspace(&format!("/models/{model}"));
        json!({"location": "westeurope", "sku": {"name": "Default", "capacity": 1},
            "properties": {"endpointComputeType": "Managed", "model": model, "instanceType": "Standard_DS3_v2"}})
    };
    let deployment = workspace(&format!("/onlineEndpoints/churn/deployments/fresh?{VERSION}"));
    let deployed = sam.put(&deployment, &deploy("by-arm/versions/1")).await;
    assert!(deployed.status.is_success(), "{deployed:?}");
    let missing = sam.put(&deployment, &deploy("by-arm/versions/9")).await;
    assert!(refused(&missing).contains("is not there"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_reviewed_is_refused_at_every_door_and_the_job_says_why() {
    let gerrit = Gerrit::start().await;
    let (world, _) = world(&gerrit, POLICIES).await;
    let (token, sam) = (built(&world, UNREVIEWED), world.caller("sam"));
    let mut dirty = job();
    dirty["properties"]["properties"] = json!({"mlflow.source.git.commit": SHA, "azureml.git.dirty": "True"});
    let mut claimed = job();
    claimed["properties"]["properties"] =
        json!({"mlflow.source.git.commit": UNREVIEWED, "azureml.git.dirty": "False"});
    named(&world, &sam).await;
    for (name, caller, body, expected) in [
        ("unreviewed", &world.bearing(&token), job(), "no change that the gate may see has this commit"),
        ("claimed", &sam, claimed, "no change that the gate may see has this commit"),
        ("dirty", &sam, dirty, "changes that are in no commit"),
        ("from-nowhere", &sam, job(), "neither the caller's token nor its own properties name a commit"),
    ] {
        trained(&world, caller, name, &body).await;
        for door in doors(name) {
            let said = refused(&sent(&world, &sam, &door).await);
            assert!(said.contains(expected), "{name} through {}: {said}", door.name);
        }
    }
    for door in doors("never-submitted") {
        let said = refused(&sent(&world, &sam, &door).await);
        assert!(said.contains("is not there"), "{}: {said}", door.name);
    }
    let upload = json!({"properties": {"modelUri": "https://example.com/model", "jobName": "unreviewed"}});
    let answer = sam.put(&workspace(&format!("/models/m/versions/1?{VERSION}")), &upload).await;
    assert!(refused(&answer).contains("not said to lie in the outputs of a job"), "{answer:?}");
    // Nothing of it came to be.
    let models = sam.get(&workspace(&format!("/models?{VERSION}"))).await.json();
    let names: Vec<_> =
        models["value"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert!(
        !names.iter().any(|name| matches!(*name, "by-arm" | "by-mferp" | "by-registry" | "m")),
        "{names:?}"
    );
    let log = world.stop().await;
    let reviews = log.requests().iter().filter(|r| r.to_string().contains("ReviewRequired")).count();
    assert_eq!(reviews, doors("x").len() * 5 + 1, "each refusal is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_registers_what_it_makes_must_come_from_a_reviewed_commit_itself() {
    let gerrit = Gerrit::start().await;
    let (world, _) = world(&gerrit, POLICIES).await;
    let mut registers = job();
    registers["properties"]["outputs"] = json!({"m": {"jobOutputType": "mlflow_model", "assetName": "auto"}});
    let sam = world.caller("sam");
    let said = refused(&submits(&sam, "by-sam", &registers).await);
    assert!(said.contains("neither the caller's token"), "{said}");
    let token = built(&world, UNREVIEWED);
    refused(&submits(&world.bearing(&token), "unreviewed", &registers).await);
    let token = built(&world, SHA);
    let reviewed = submits(&world.bearing(&token), "reviewed", &registers).await;
    assert_eq!(reviewed.status, StatusCode::CREATED, "{reviewed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_writes_under_the_gates_names_is_not_sent() {
    let gerrit = Gerrit::start().await;
    let (world, _) = world(&gerrit, POLICIES).await;
    let mut forged = job();
    forged["properties"]["properties"] = json!({"amlgate.commit": SHA, "amlgate.decision": "0197b6b0-0000-7000-8000-000000000001", "mine": "x"});
    let done = trained(&world, &world.caller("sam"), "forged", &forged).await;
    let written = &done["properties"]["properties"];
    assert_eq!(written["mine"], "x");
    assert!(written["amlgate.commit"].is_null(), "{written}");
    assert_ne!(written["amlgate.decision"], "0197b6b0-0000-7000-8000-000000000001");
    // Nor later, by whoever changes what is there.
    let token = built(&world, SHA);
    let changed = submits(&world.bearing(&token), "forged", &forged).await;
    assert!(changed.status.is_success(), "{changed:?}");
    assert!(shown(&world, "forged").await["properties"]["properties"]["amlgate.commit"].is_null());
    refused(&sent(&world, &world.caller("sam"), &doors("forged")[0]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_entry_that_asks_for_it_a_job_is_sent_as_it_came() {
    let gerrit = Gerrit::start().await;
    let claims = POLICIES.replace("branch: main}", "branch: main, commit: caller.sha}");
    let (world, _) = world(&gerrit, &claims).await;
    let ci = Person::named("ci").unwrap();
    let token = world.sandbox.issuer.mint().token(ci).unwrap();
    let answer = submits(&world.bearing(&token), "plain", &job()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let job = shown(&world, "plain").await;
    assert!(!job["properties"]["properties"].to_string().contains("amlgate"), "{job}");
}
