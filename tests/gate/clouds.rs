//! Which Azure: every name that the gate uses is that of the configured cloud, or of its own table.

use std::sync::Arc;

use amlgate::{
    config,
    sandbox::{
        Person,
        azure::{CLOUDS, SimulatedCloud, TokenVersion, UserToken, names},
        home::{Sandbox, SandboxSettings},
    },
    time::SystemClock,
};
use http::StatusCode;
use serde_json::json;

use crate::world::{Changes, VERSION, World, workspace};

/// The public cloud, name by name, in a table that takes nothing else from it.
const OWN: &str = "version: 1
cloud:
  like: china
  name: Ours
  login: https://login.microsoftonline.com
  sts: https://sts.windows.net
  resource_manager: https://management.azure.com
  classic_management: https://management.core.windows.net/
  machine_learning: https://ml.azure.com
  data_plane: api.azureml.ms
  inference: inference.ml.azure.com
  key_vault: vault.azure.net
  storage: core.windows.net
  graph: https://graph.microsoft.com
  portal: https://portal.ours.example
";

async fn jobs(world: &World) -> StatusCode {
    world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await.status
}

#[tokio::test]
async fn a_table_of_hosts_is_the_cloud_that_it_says() {
    let vault = format!(
        "    client_secret:\n      key_vault: {{vault: https://{}.vault.azure.net, secret: gate-client-secret, credential: machine, address: \"{{azure}}\", trust: {{ca: certs/ca.pem}}}}\n",
        names::VAULT
    );
    let configuration = [
        ("version: 1\n", OWN),
        ("    client_secret: {file: certs/gate-client.secret}\n", vault.as_str()),
        (
            "credentials:\n",
            "credentials:\n  - name: machine\n    managed_identity: {endpoint: \"http://{identity}\"}\n",
        ),
    ];
    let world = World::changed(Changes { configuration: &configuration, ..Changes::default() }).await;
    // The vault's token, Resource Manager's, the endpoint's key and its scoring.
    assert_eq!(jobs(&world).await, StatusCode::OK);
    assert_eq!(world.caller("sam").get("/endpoints/churn/").await.status, StatusCode::OK);
    let said = world.nobody().get("/metadata/endpoints?api-version=2022-09-01").await.json();
    assert_eq!((&said["name"], &said["portal"]), (&json!("Ours"), &json!("https://portal.ours.example")));
    assert_eq!(
        said["suffixes"]["acrLoginServer"], "azurecr.cn",
        "what the table does not say is as in china"
    );
    world.stop().await;
}

/// The configuration of the sandbox's gate, in another cloud.
fn moved(word: &str, names: &SimulatedCloud) -> Vec<(String, String)> {
    let public = SimulatedCloud::public();
    vec![
        ("version: 1\n".to_owned(), format!("version: 1\ncloud: {word}\n")),
        (format!("https://{}", public.arm), format!("https://{}", names.arm)),
        (public.data_plane.to_owned(), names.data_plane.to_owned()),
        (public.scoring(), names.scoring()),
        (public.storage.to_owned(), names.storage.to_owned()),
        (
            "    client_secret: {file: certs/gate-client.secret}\n".to_owned(),
            format!(
                "    client_secret:\n      key_vault: {{vault: https://{}.{}, secret: gate-client-secret, credential: machine, address: \"{{azure}}\", trust: {{ca: certs/ca.pem}}}}\n",
                names::VAULT,
                names.vault
            ),
        ),
        (
            "credentials:\n".to_owned(),
            "credentials:\n  - name: machine\n    managed_identity: {endpoint: \"http://{identity}\"}\n"
                .to_owned(),
        ),
    ]
}

fn in_pairs(changes: &[(String, String)]) -> Vec<(&str, &str)> {
    changes.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect()
}

#[tokio::test]
async fn a_sovereign_cloud_takes_its_own_tokens_at_its_own_hosts_and_nothing_goes_to_another() {
    for (word, theirs) in [("usgov", &CLOUDS[1]), ("china", &CLOUDS[2])] {
        let changes = moved(word, theirs);
        let configuration = in_pairs(&changes);
        let world = World::changed(Changes { configuration: &configuration, ..Changes::default() }).await;
        assert_eq!(jobs(&world).await, StatusCode::OK, "{word}");
        assert_eq!(world.caller("sam").get("/endpoints/churn/").await.status, StatusCode::OK, "{word}");

        // A person of that cloud's Entra, by a token of either version.
        for (version, iss) in [
            (TokenVersion::V1, theirs.issuer_v1(names::TENANT)),
            (TokenVersion::V2, theirs.issuer_v2(names::TENANT)),
        ] {
            let wanted = UserToken { version, ..UserToken::default() };
            let person = Person::named("sam").unwrap();
            let token = world.sandbox.azure.user_token_with(person, &wanted, |claims| {
                claims.insert("iss".to_owned(), json!(iss));
            });
            let answer = world.bearing(&token.unwrap()).get(&workspace(&format!("/jobs?{VERSION}"))).await;
            // Known, and without an entry of its own in the sandbox's policies.
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{word} {iss} {answer:?}");
        }
        let public = world.sandbox.azure.user_token(Person::named("sam").unwrap(), &UserToken::default());
        let answer = world.bearing(&public.unwrap()).get(&workspace(&format!("/jobs?{VERSION}"))).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{word}: a token of the public cloud");

        let said = world.nobody().get("/metadata/endpoints?api-version=2022-09-01").await.json();
        assert_eq!(said["name"], theirs.name);
        assert_eq!(said["authentication"]["loginEndpoint"], format!("https://{}", theirs.login));
        assert_eq!(
            said["suffixes"],
            json!({"storage": theirs.storage, "keyVaultDns": theirs.vault, "acrLoginServer": said["suffixes"]["acrLoginServer"]})
        );
        // The public cloud's names were never dialled.
        let seen = world.sandbox.azure.observer().seen();
        let strays: Vec<_> = seen.iter().filter(|seen| SimulatedCloud::of(&seen.host) != theirs).collect();
        assert!(!seen.is_empty() && strays.is_empty(), "{strays:?}");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_gate_that_takes_a_sovereign_cloud_for_the_public_one_is_refused_before_it_starts() {
    let dir = tempfile::tempdir().unwrap();
    let settings = SandboxSettings::new(dir.path().to_owned(), Arc::new(SystemClock));
    let sandbox = Sandbox::start(settings).await.unwrap();
    let file = sandbox.configuration();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("https://management.azure.com", "https://management.usgovcloudapi.net"),
    )
    .unwrap();
    let problems = config::load(&file).unwrap_err();
    let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert!(
        said.iter().any(|said| said.contains(
            "`management.usgovcloudapi.net` is a host of the cloud `usgov`, and the gate's tokens are for another"
        )),
        "{said:?}"
    );
}
