//! `can-i` and `whoami --can` without the gate's configuration: the API's answer is the gate's own
//! decision, in its own words, and the command line's.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use amlgate::{
    client::{Session, Sessions, Tokens},
    sandbox::{Person, azure::UserToken, issuer::Forgery},
    time::{Clock as _, SystemClock},
};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    api,
    world::{Answer, Changes, VERSION, World, fed, whole, workspace},
};

const ACTIONS: &str = "Microsoft.MachineLearningServices/workspaces";

async fn post(world: &World, path: &str, token: &str, body: &Value) -> Answer {
    let builder = api::request(world, Method::POST, path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json");
    api::ask(world, builder.body(whole(body.to_string())).unwrap()).await
}

async fn can_i(world: &World, token: &str, action: &str, scope: &str) -> Value {
    let answer = post(world, "/api/v1/can-i", token, &json!({"action": action, "scope": scope})).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}

/// The command, where no configuration lies, with a token on its standard input.
fn amlgate(world: &World, arguments: &[&str], token: &str) -> Output {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_amlgate"));
    command
        .args(arguments)
        .arg("--ca")
        .arg(world.sandbox.ca())
        .env("AMLGATE_HOME", nowhere.path())
        .env_remove("AMLGATE_GATE")
        .current_dir(nowhere.path());
    fed(&mut command, token)
}

/// The same by the gate's own configuration.
fn by_configuration(world: &World, arguments: &[&str], token: &str) -> Output {
    let config = world.sandbox.configuration().display().to_string();
    amlgate(world, &[arguments, &["--config", &config]].concat(), token)
}

fn data(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?} is JSON"))
}

/// Requests, the actions that they are, and what they are done to, below the workspace.
const REQUESTS: &[(Method, &str, &str, &str)] = &[
    (Method::GET, "", "read", ""),
    (Method::GET, "/jobs", "jobs/read", ""),
    (Method::DELETE, "/jobs/none", "jobs/delete", "/jobs/none"),
    (Method::POST, "/jobs/none/cancel", "jobs/cancel/action", "/jobs/none"),
    (Method::DELETE, "", "delete", ""),
    (Method::GET, "/computes", "computes/read", ""),
    (Method::DELETE, "/computes/none", "computes/delete", "/computes/none"),
    (Method::POST, "/computes/none/start", "computes/start/action", "/computes/none"),
    (Method::DELETE, "/models/none", "models/delete", "/models/none"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_api_says_what_the_gate_does_in_its_words_and_so_does_the_command_line() {
    let world = World::new().await;
    let gate = format!("https://{}", world.host());
    for name in ["sam", "rita", "pat", "alex", "ci"] {
        let token = api::token(&world, name);
        for (method, path, action, resource) in REQUESTS {
            let (action, scope) = (format!("{ACTIONS}/{action}"), workspace(resource));
            let said = can_i(&world, &token, &action, &scope).await;
            let caller = world.bearing(&token);
            let request = caller.request(method.clone(), &workspace(&format!("{path}?{VERSION}")));
            let answer = caller.send(request.body(whole("")).unwrap()).await;
            let refused = answer.status == StatusCode::FORBIDDEN;
            assert_eq!(said["decision"] == "deny", refused, "{name} {method} {path}: {said} {answer:?}");
            if refused {
                let error = &answer.json()["error"];
                assert_eq!(said["code"], error["code"], "{name} {method} {path}: {said} {answer:?}");
                // A list has no name of its own.
                if *method != Method::GET {
                    let message = error["message"].as_str().unwrap();
                    let cause = said["cause"].as_str().unwrap();
                    assert!(message.contains(cause), "{name} {method} {path}: {cause} / {message}");
                }
            } else {
                assert!(!said["allowed_by"].as_array().unwrap().is_empty(), "{said}");
            }
            if !["sam", "rita"].contains(&name) {
                continue;
            }
            let asked = ["can-i", &action, "--scope", &scope, "--as", "-", "--output", "json"];
            let there = amlgate(&world, &[&asked[..], &["--gate", &gate]].concat(), &token);
            assert_eq!(data(&there), said, "the command says what the API does");
            assert_eq!(there.status.code(), Some(i32::from(refused)), "{there:?}");
            let here = data(&by_configuration(&world, &asked, &token));
            for key in ["decision", "about", "code", "cause", "cure"] {
                assert_eq!(here[key], said[key], "{name} {action}: {key}");
            }
            let names = |list: &Value| -> Vec<Value> {
                list.as_array().unwrap().iter().map(|entry| entry["name"].clone()).collect()
            };
            assert_eq!(names(&here["allowed_by"]), names(&said["allowed_by"]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_listed_is_the_same_from_the_api_from_the_gate_and_from_its_configuration() {
    let world = World::new().await;
    let gate = format!("https://{}", world.host());
    let scope = workspace("");
    for name in ["sam", "ci"] {
        let token = api::token(&world, name);
        for (body, more) in [(json!({}), vec![]), (json!({ "scope": scope }), vec!["--scope", &*scope])] {
            let said = post(&world, "/api/v1/can-i/list", &token, &body).await;
            assert_eq!(said.status, StatusCode::OK, "{said:?}");
            let said = said.json()["can"].clone();
            assert!(said.as_array().unwrap().len() > 1, "{name}: {said}");
            let list = [&["can-i", "--list", "--as", "-", "--output", "json"][..], &more].concat();
            let there = amlgate(&world, &[&list[..], &["--gate", &gate]].concat(), &token);
            assert_eq!(data(&there), said, "{name} {body}");
            assert_eq!(data(&by_configuration(&world, &list, &token)), said, "{name} {body}");
        }
    }
    let log = world.stop().await;
    let asked = format!("{:?}", log.requests());
    assert!(asked.contains("amlgate/can-i/read"), "who asks is recorded");
}

/// Somebody who signed in to the gate, and lists without a configuration.
fn signed_in(world: &World, home: &Path, gate: &str) {
    let session = Session {
        issuer_name: "sandbox".to_owned(),
        issuer: world.sandbox.issuer.url(),
        client_id: "amlgate-cli".to_owned(),
        scopes: Vec::new(),
        trust: Some(std::fs::read_to_string(world.sandbox.ca()).unwrap()),
        tokens: Tokens {
            access: api::token(world, "sam").into(),
            refresh: None,
            expires: SystemClock.now().as_secs() + 3_600,
            bound: false,
        },
    };
    Sessions::at(home.to_owned()).keep(gate, session).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_signed_in_needs_no_configuration_to_know_what_they_may() {
    let world = World::new().await;
    let gate = format!("https://{}", world.host());
    let home = tempfile::tempdir().unwrap();
    signed_in(&world, home.path(), &gate);
    let amlgate = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_amlgate"))
            .args(arguments)
            .env("AMLGATE_HOME", home.path())
            .env_remove("AMLGATE_GATE")
            .current_dir(home.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let output = amlgate(&["whoami", "--can", "--output", "json"]);
    assert!(output.status.success(), "{output:?}");
    let listed = post(&world, "/api/v1/can-i/list", &api::token(&world, "sam"), &json!({})).await;
    assert_eq!(data(&output)["can"], listed.json()["can"]);
    let write = format!("{ACTIONS}/jobs/write");
    let output = amlgate(&["can-i", &write, "--scope", &workspace(""), "--as", "me"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("allowed by `data scientists work in the workspace`"), "{said}");
    let delete = format!("{ACTIONS}/delete");
    let output = amlgate(&["can-i", &delete, "--scope", &workspace(""), "--as", "me"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.contains("denied, AuthorizationFailed"), "{said}");
    let output = amlgate(&["can-i", &delete, "--scope", &workspace(""), "--as", "me", "--from", "10.0.0.1"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_or_may_not_ask_is_told_nothing() {
    let policies = format!(
        "version: 1\nsubjects: {{sam: [{{issuer: sandbox, subject: user-sam}}]}}\nscopes: {{vision: {}}}\nallow:\n  - {{name: sam reads, who: [sam], kinds: [read], scope: vision}}\n",
        workspace("")
    );
    let world = World::changed(Changes { policies: Some(&policies), ..Changes::default() }).await;
    let gate = format!("https://{}", world.host());
    let sam = api::token(&world, "sam");
    let question = json!({"action": format!("{ACTIONS}/read"), "scope": workspace("")});
    let forged = world.sandbox.issuer.mint().forge(Person::named("sam").unwrap(), Forgery::Altered).unwrap();
    for path in ["/api/v1/can-i", "/api/v1/can-i/list"] {
        let answer = post(&world, path, &sam, &question).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "no entry names `amlgate/can-i/read`: {answer:?}");
        assert!(!answer.text().contains("sam reads"), "{answer:?}");
        assert_eq!(post(&world, path, &forged, &question).await.status, StatusCode::UNAUTHORIZED);
        let nobody =
            api::request(&world, Method::POST, path).header(header::CONTENT_TYPE, "application/json");
        let nobody = api::ask(&world, nobody.body(whole(question.to_string())).unwrap()).await;
        assert_eq!(nobody.status, StatusCode::UNAUTHORIZED, "{nobody:?}");
    }
    let read = format!("{ACTIONS}/read");
    let arguments = ["can-i", &read, "--scope", &workspace(""), "--as", "-", "--gate", &gate];
    for (token, why) in [(&sam, "the gate answers 403"), (&forged, "the gate answers 401")] {
        let output = amlgate(&world, &arguments, token);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(said.contains(why) && !said.contains(token.as_str()), "{said}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    // Where nobody listens, and where the gate's name is not known.
    let away = ["can-i", &read, "--scope", &workspace(""), "--as", "-", "--gate", "https://localhost:9"];
    assert_eq!(amlgate(&world, &away, &sam).status.code(), Some(3));
    let unnamed = ["can-i", &read, "--scope", &workspace(""), "--as", "-"];
    let output = amlgate(&world, &unnamed, &sam);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("name it with --gate"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_none_are_refused_by_what_is_wrong_with_them() {
    let world = World::new().await;
    let sam = api::token(&world, "sam");
    let read = format!("{ACTIONS}/read");
    for (path, body, why) in [
        ("/api/v1/can-i", json!({"action": read}), "missing field `scope`"),
        ("/api/v1/can-i", json!({"action": read, "scope": "vision"}), "`vision` is no resource's id"),
        ("/api/v1/can-i", json!({"action": read, "scope": workspace(""), "as": "pat"}), "unknown field `as`"),
        ("/api/v1/can-i", json!({"action": 1, "scope": workspace("")}), "expected a string"),
        ("/api/v1/can-i", json!({"action": "x".repeat(9_000), "scope": workspace("")}), "too large"),
        ("/api/v1/can-i/list", json!({"scope": "vision"}), "`vision` is no resource's id"),
        ("/api/v1/can-i/list", json!([]), "invalid"),
    ] {
        let answer = post(&world, path, &sam, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {answer:?}");
        assert!(answer.text().contains(why), "{why}: {answer:?}");
    }
    let plain = api::request(&world, Method::POST, "/api/v1/can-i")
        .header(header::AUTHORIZATION, format!("Bearer {sam}"))
        .body(whole("{}"));
    let answer = api::ask(&world, plain.unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{answer:?}");
    // What is no action of Azure's is nobody's right, and no error.
    let said = can_i(&world, &sam, "Microsoft.Nothing/never/action", &workspace("")).await;
    assert_eq!(said["decision"], "deny", "{said}");
}

/// A list takes a core for as long as it lasts: of a set with a scope for each of many teams, a part.
#[tokio::test(flavor = "multi_thread")]
async fn everything_is_listed_at_so_many_scopes_and_beyond_them_by_name() {
    let scopes: String = (0..256).map(|n| format!("  w{n}: {}-{n}\n", workspace(""))).collect();
    let entries: String = (0..256)
        .map(|n| format!("  - {{name: team {n}, who: [sam], kinds: [read], scope: w{n}}}\n"))
        .collect();
    let policies = format!(
        "version: 1\nsubjects: {{sam: [{{issuer: sandbox, subject: user-sam}}]}}\nscopes:\n  vision: {}\n{scopes}allow:\n  - {{name: asks, who: [sam], actions: [amlgate/can-i/read]}}\n  - {{name: reads, who: [sam], kinds: [read], scope: vision}}\n{entries}",
        workspace("")
    );
    let world = World::changed(Changes { policies: Some(&policies), ..Changes::default() }).await;
    let sam = api::token(&world, "sam");
    let all = post(&world, "/api/v1/can-i/list", &sam, &json!({})).await;
    assert_eq!(all.status, StatusCode::BAD_REQUEST, "{all:?}");
    assert!(all.text().contains("name 257 scopes, more than 256: ask by `scope`"), "{all:?}");
    let one = post(&world, "/api/v1/can-i/list", &sam, &json!({"scope": workspace("")})).await;
    assert_eq!(one.status, StatusCode::OK, "{one:?}");
    let lines = one.json()["can"].as_array().unwrap().len();
    assert!(lines > 20, "{lines}");
}

/// Something at whose address the same is answered to everybody.
async fn answering(body: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 8192];
            let read = stream.read(&mut seen).await.unwrap();
            assert!(!String::from_utf8_lossy(&seen[..read]).contains("Bearer"), "no token is sent here");
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_only_where_a_gate_says_that_its_api_is_and_never_unprotected() {
    let world = World::new().await;
    let known = world.nobody().get("/.well-known/amlgate").await.json();
    let admin = world.server.admin().unwrap();
    assert_eq!(known["api"], format!("http://{admin}"), "{known}");
    let sam = api::token(&world, "sam");
    let read = format!("{ACTIONS}/read");
    for (body, why) in [
        (r#"{"version":1,"issuers":[]}"#, "says no address of its API"),
        (r#"{"version":1,"issuers":[],"api":"http://amlgate.example.com"}"#, "no token is sent there"),
        (r#"{"version":1,"issuers":[],"api":"nowhere"}"#, "no token is sent there"),
    ] {
        let gate = answering(body).await;
        let asked = ["can-i", &read, "--scope", &workspace(""), "--as", "-", "--gate", &gate];
        let output = amlgate(&world, &asked, &sam);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(said.contains(why) && !said.contains(&sam), "{said}");
    }
}

const MIRRORED: &str = "version: 1
subjects:
  people: [{issuer: entra, claims: {tid: 72f988bf-0000-4000-8000-000000000001}}]
  scientists: [{issuer: entra, group: 6f9619ff-8b86-4011-b42d-00cf4fc964f1}]
scopes: {vision: WORKSPACE}
allow:
  - {name: as Azure says, who: [people], rights: azure, scope: vision}
  - {name: scientists delete it, who: [scientists], actions: [Microsoft.MachineLearningServices/workspaces/delete], scope: vision}
  - {name: everybody asks, who: [authenticated], actions: [amlgate/can-i/read]}
";
const ENTRA: &str = "audiences: [9a7e0000-0000-4000-8000-00000000a001, \"api://amlgate\"]}";
const OVERAGE: &str = "audiences: [9a7e0000-0000-4000-8000-00000000a001, \"api://amlgate\"], groups: {overage: graph, credential: gate, address: \"{azure}\", trust: {ca: certs/ca.pem}}}";

#[tokio::test(flavor = "multi_thread")]
async fn what_azure_and_its_directory_say_of_a_caller_counts_here_as_it_does_at_the_gate() {
    let policies = MIRRORED.replace("WORKSPACE", &workspace(""));
    let configuration = [(ENTRA, OVERAGE)];
    let changes = Changes { policies: Some(&policies), configuration: &configuration };
    let world = World::changed(changes).await;
    let sam = Person::named("sam").unwrap();
    world.sandbox.azure.unassign(sam.object_id);
    for group in sam.group_ids {
        world.sandbox.azure.unassign(group);
    }
    world.sandbox.azure.assign(sam.object_id, "AzureML Data Scientist", &workspace("")).unwrap();
    // A token that carries no groups, and says so.
    let wanted = UserToken { lifetime: Duration::from_secs(3_600), ..UserToken::default() };
    let token = world.sandbox.azure.user_token_with(sam, &wanted, |claims| {
        claims.remove("groups");
        claims.insert("hasgroups".to_owned(), json!(true));
    });
    let token = token.unwrap();
    let jobs = can_i(&world, &token, &format!("{ACTIONS}/jobs/read"), &workspace("")).await;
    assert_eq!(
        (&jobs["decision"], &jobs["allowed_by"]),
        (&json!("allow"), &json!([{"name": "as Azure says"}]))
    );
    let through = jobs["through"].as_str().unwrap();
    assert!(through.contains("AzureML Data Scientist"), "{through}");
    // Graph alone knows of the group.
    let delete = can_i(&world, &token, &format!("{ACTIONS}/delete"), &workspace("")).await;
    assert_eq!(delete["allowed_by"], json!([{"name": "scientists delete it"}]), "{delete}");
    // What Azure does not give, and no group does.
    let compute = workspace("/computes/none");
    let denied = can_i(&world, &token, &format!("{ACTIONS}/computes/delete"), &compute).await;
    assert_eq!(denied["decision"], "deny", "{denied}");
    for (resource, refused) in [("/computes/none", true), ("", false)] {
        let answer = world.bearing(&token).delete(&workspace(&format!("{resource}?{VERSION}"))).await;
        assert_eq!(answer.status == StatusCode::FORBIDDEN, refused, "{answer:?}");
    }
}
