//! `can-i --list` and `whoami --can`: what somebody may do is what the gate lets them do.

use std::process::{Command, Output, Stdio};

use amlgate::{
    client::{Session, Sessions, Tokens},
    sandbox::{
        Person,
        azure::{UserToken, names},
    },
    time::{Clock as _, SystemClock},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Changes, VERSION, World, fed, workspace};

fn listed(world: &World, arguments: &[&str], token: &str) -> (Output, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amlgate"));
    command
        .args(["can-i", "--list", "--output", "json", "--config"])
        .arg(world.sandbox.configuration())
        .args(arguments);
    let output = fed(&mut command, token);
    let said = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, said)
}

fn of<'l>(lines: &'l [Value], action: &str) -> Option<&'l Value> {
    let action = format!("Microsoft.MachineLearningServices/workspaces/{action}");
    lines.iter().find(|line| line["action"].as_str().unwrap().eq_ignore_ascii_case(&action))
}

/// Requests and the actions that they are, below the workspace.
fn requests() -> Vec<(Method, String, &'static str)> {
    vec![
        (Method::GET, format!("?{VERSION}"), "read"),
        (Method::GET, format!("/jobs?{VERSION}"), "jobs/read"),
        (Method::DELETE, format!("/jobs/none?{VERSION}"), "jobs/delete"),
        (Method::POST, format!("/jobs/none/cancel?{VERSION}"), "jobs/cancel/action"),
        (Method::DELETE, format!("?{VERSION}"), "delete"),
        (Method::GET, format!("/computes?{VERSION}"), "computes/read"),
        (Method::DELETE, format!("/computes/none?{VERSION}"), "computes/delete"),
        (Method::POST, format!("/computes/none/start?{VERSION}"), "computes/start/action"),
        (Method::GET, format!("/models?{VERSION}"), "models/read"),
        (Method::DELETE, format!("/models/none?{VERSION}"), "models/delete"),
        (Method::POST, format!("/listKeys?{VERSION}"), "listKeys/action"),
        (Method::GET, format!("/datastores?{VERSION}"), "datastores/read"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_is_what_the_gate_lets_through_for_everybody() {
    let world = World::new().await;
    let scope = workspace("");
    for name in ["sam", "rita", "pat", "alex", "ci"] {
        let token = world.sandbox.issuer.mint().token(Person::named(name).unwrap()).unwrap();
        let (output, lines) = listed(&world, &["--scope", &scope], &token);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        for (method, target, action) in requests() {
            let caller = world.bearing(&token);
            let request = caller.request(method.clone(), &workspace(&target));
            let answer = caller.send(request.body(crate::world::whole("")).unwrap()).await;
            let let_through = answer.status != StatusCode::FORBIDDEN;
            let line = of(&lines, action);
            let said = line.is_some_and(|line| line["decision"] == "allow");
            // Secrets of a workspace hang on more than the action, and the list says so.
            assert_eq!(said, let_through, "{name} {method} {action}: {line:?} {answer:?}");
        }
        assert!(!String::from_utf8_lossy(&output.stdout).contains(&token));
    }
    let token = world.sandbox.issuer.mint().token(Person::named("sam").unwrap()).unwrap();
    let (_, lines) = listed(&world, &[], &token);
    let jobs = of(&lines, "jobs/write").unwrap();
    assert_eq!(jobs["by"], json!(["data scientists work in the workspace"]), "{jobs}");
    assert!(scope.eq_ignore_ascii_case(jobs["scope"].as_str().unwrap()), "the scopes that entries name");
    let endpoints = of(&lines, "onlineEndpoints/write").unwrap();
    // The one is denied, the other may need a reviewer's yes.
    assert_eq!(endpoints["not_with"], json!(["allocate_compute", "expose_network"]), "{endpoints}");
}

const MIRRORED: &str = "version: 1
subjects: {people: [{issuer: entra, claims: {tid: 72f988bf-0000-4000-8000-000000000001}}]}
scopes: {vision: WORKSPACE}
allow:
  - {name: as Azure says, who: [people], rights: azure, scope: vision}
require:
  - {name: deleted after a better sign-in, kinds: [delete], step_up: {acrs: c1}}
";

#[tokio::test(flavor = "multi_thread")]
async fn rights_in_azure_are_listed_with_their_assignment_and_what_is_still_demanded() {
    let policies = MIRRORED.replace("WORKSPACE", &workspace(""));
    let world = World::changed(Changes { policies: Some(&policies), ..Changes::default() }).await;
    let sam = Person::named("sam").unwrap();
    world.sandbox.azure.unassign(sam.object_id);
    for group in sam.group_ids {
        world.sandbox.azure.unassign(group);
    }
    let token = world.sandbox.azure.user_token(sam, &UserToken::default()).unwrap();
    let (output, lines) = listed(&world, &[], &token);
    assert!(output.status.success() && lines.is_empty(), "{output:?}");

    world.sandbox.azure.assign(sam.object_id, "AzureML Data Scientist", &workspace("")).unwrap();
    let (_, lines) = listed(&world, &[], &token);
    let read = of(&lines, "jobs/read").unwrap();
    assert_eq!((&read["decision"], &read["by"]), (&json!("allow"), &json!(["as Azure says"])));
    let through = read["through"].as_str().unwrap();
    assert!(
        through.starts_with("role assignment `") && through.contains("AzureML Data Scientist"),
        "{through}"
    );
    let delete = of(&lines, "jobs/delete").unwrap();
    assert_eq!(delete["decision"], "StepUpRequired", "{delete}");
    assert!(delete["demanded"].as_str().unwrap().contains("c1"), "{delete}");
    assert_eq!(of(&lines, "delete"), None, "what Azure does not give is not there");
    // Azure itself says the same of every action that is listed, and of every other.
    let all = amlgate::azureml::action::all();
    for action in all.iter().filter(|action| action.as_str().starts_with("Microsoft.MachineLearning")) {
        let azure = world.sandbox.azure.judges(sam, action.as_str(), &workspace(""));
        let line = lines.iter().find(|line| line["action"] == action.as_str());
        // A class of secrets needs an entry of its own, whatever Azure says.
        let listed = line.is_some() && line.unwrap()["decision"] != "SecretsNotGranted";
        let secret = line.is_some_and(|line| line["decision"] == "SecretsNotGranted");
        assert!(listed == azure || (azure && secret), "{} {azure} {line:?}", action.as_str());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_signed_in_asks_with_their_own_session() {
    let world = World::new().await;
    let sam = Person::named("sam").unwrap();
    let home = tempfile::tempdir().unwrap();
    let gate = format!("https://{}", world.host());
    let session = Session {
        issuer_name: "sandbox".to_owned(),
        issuer: world.sandbox.issuer.url(),
        client_id: "amlgate-cli".to_owned(),
        scopes: Vec::new(),
        trust: None,
        tokens: Tokens {
            access: world.sandbox.issuer.mint().token(sam).unwrap().into(),
            refresh: None,
            expires: SystemClock.now().as_secs() + 3_600,
            bound: false,
        },
    };
    Sessions::at(home.path().to_owned()).keep(&gate, session).unwrap();
    let amlgate = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_amlgate"))
            .args(arguments)
            .arg("--config")
            .arg(world.sandbox.configuration())
            .env("AMLGATE_HOME", home.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let output = amlgate(&["whoami", "--can", "--output", "json"]);
    assert!(output.status.success(), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["issuer"], "sandbox");
    let jobs = of(said["can"].as_array().unwrap(), "jobs/write").unwrap();
    assert_eq!(jobs["by"], json!(["data scientists work in the workspace"]));
    let table = amlgate(&["whoami", "--can", "--scope", &workspace("")]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(
        table.contains(&workspace("")) && table.contains("`data scientists work in the workspace`"),
        "{table}"
    );

    let write = "Microsoft.MachineLearningServices/workspaces/jobs/write";
    let output = amlgate(&["can-i", write, "--scope", &workspace(""), "--as", "me", "--output", "yaml"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("decision: allow"), "{output:?}");
    let delete = "Microsoft.MachineLearningServices/workspaces/delete";
    let output = amlgate(&["can-i", delete, "--scope", &workspace(""), "--as", "me"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let doctor = amlgate(&["doctor", "--as", "me"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("ok      you: you are `user-sam` of `sandbox`"), "{said}");
    assert!(!said.contains(names::GATE_SECRET));
}
