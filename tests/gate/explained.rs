//! One decision, one story: the 403, `policy why` out of the record, `policy replay` and `can-i`.

use std::process::{Command, Output};

use amlgate::sandbox::Person;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD};
use http::StatusCode;
use serde_json::Value;

use crate::world::{Changes, VERSION, World, fed, workspace};

const POLICIES: &str = r#"
version: 1
subjects:
  data-scientists: [{issuer: sandbox, group: data-science}]
  keepers-of-models: [{issuer: sandbox, group: nobody-has-it}]
allow:
  - {name: scientists work, who: [data-scientists], role: AzureML Data Scientist}
  - {name: keepers delete, who: [keepers-of-models], actions: ["*/delete"]}
deny:
  - {name: the workspace stays, kinds: [delete], actions: [Microsoft.MachineLearningServices/workspaces/delete]}
  - {name: nothing public, effects: [expose_network]}
"#;

fn amlgate(world: &World, arguments: &[&str], input: &str) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amlgate"));
    command.args(arguments).args(["--output", "json", "--config"]).arg(world.sandbox.configuration());
    let output = fed(&mut command, input);
    let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_the_record_and_the_verbs_agree_on_why() {
    let world = World::changed(Changes { policies: Some(POLICIES), ..Changes::default() }).await;
    let answer = world.caller("sam").delete(&workspace(&format!("?{VERSION}"))).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    let (cause, cure) = message.strip_prefix("amlgate: ").unwrap().split_once('\n').unwrap();
    assert!(cause.contains("`the workspace stays` denies"), "{message}");
    assert!(cure.contains("besides, no entry allows you"), "{message}");
    // Nothing of what others may do.
    for others in ["keepers", "data-scientists"] {
        assert!(!answer.text().contains(others), "{message}");
    }
    let decision = answer.header("x-amlgate-decision").to_owned();
    let token = world.sandbox.issuer.mint().token(Person::named("sam").unwrap()).unwrap();
    let action = "Microsoft.MachineLearningServices/workspaces/delete";
    let (output, can) = amlgate(&world, &["can-i", action, "--scope", &workspace("")], &token);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!((can["cause"].as_str(), can["cure"].as_str()), (Some(cause), Some(cure)));
    let flips = can["flips"].to_string();
    assert!(flips.contains("the workspace stays") && flips.contains("keepers-of-models"), "{can:#}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains(&token));

    // The claims of a token are the caller that the gate sees in it.
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims = world.directory().join("claims.json");
    std::fs::write(&claims, payload).unwrap();
    let url = format!("https://management.azure.com{}", workspace(&format!("?{VERSION}")));
    let (output, why) =
        amlgate(&world, &["policy", "why", "--as", claims.to_str().unwrap(), "DELETE", &url], "");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!((why["cause"].as_str(), why["cure"].as_str()), (Some(cause), Some(cure)));

    // Writing an endpoint is allowed, but not every one; the verb says where it ends.
    let write = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/write";
    let endpoint = workspace("/onlineEndpoints/e");
    let (output, can) = amlgate(&world, &["can-i", write, "--scope", &endpoint], &token);
    assert_eq!((output.status.code(), can["decision"].as_str()), (Some(0), Some("allow")), "{can:#}");
    assert_eq!(can["but"][0]["effect"], "expose_network", "{can:#}");
    let (output, _) = amlgate(&world, &["can-i", write, "--scope", &endpoint], "no.token.at-all");
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    assert_eq!(world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await.status, StatusCode::OK);
    let World { sandbox, server, dir, .. } = world;
    assert!(server.stop().await);
    let log = dir.path().join("var/audit").display().to_string();
    let configuration = sandbox.configuration();
    let verb = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_amlgate"))
            .args(arguments)
            .args(["--output", "json", "--config"])
            .arg(&configuration)
            .output()
            .unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.code(), said)
    };
    let (code, why) = verb(&["policy", "why", "--decision", &decision, "--log", &log]);
    assert_eq!(code, Some(1));
    assert_eq!((why["cause"].as_str(), why["cure"].as_str()), (Some(cause), Some(cure)));
    let (code, replayed) = verb(&["policy", "replay", &log]);
    assert_eq!((code, &replayed["replayed"], &replayed["unchanged"]), (Some(0), &2.into(), &2.into()));
    std::fs::write(
        dir.path().join("policies/sandbox.yaml"),
        POLICIES
            .replace("[delete]", "[delete, read]")
            .replace("actions: [Microsoft.MachineLearningServices/workspaces/delete]", "actions: [\"*\"]"),
    )
    .unwrap();
    let (code, replayed) = verb(&["policy", "replay", &log]);
    assert_eq!((code, replayed["changes"].as_array().unwrap().len()), (Some(1), 1), "{replayed:#}");
    assert_eq!(replayed["changes"][0]["would"]["be"], "RequestDisallowedByPolicy");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_knows_no_host_that_no_route_names() {
    let world = World::new().await;
    let caller = world.dir.path().join("sam.json");
    std::fs::write(&caller, r#"{"issuer": "sandbox", "groups": ["data-science"]}"#).unwrap();
    let why =
        |url: &str| amlgate(&world, &["policy", "why", "--as", caller.to_str().unwrap(), "GET", url], "").0;
    let unrouted = why("https://example.com/things");
    let said = String::from_utf8_lossy(&unrouted.stderr).into_owned();
    assert!(said.contains("no route has the host `example.com`"), "{said}");
    assert!(unrouted.stdout.is_empty() && unrouted.status.code() == Some(2), "{unrouted:?}");
    let jobs = format!("https://management.azure.com{}", workspace(&format!("/jobs?{VERSION}")));
    let routed = why(&jobs);
    assert!(!routed.stdout.is_empty(), "{routed:?}");
}
