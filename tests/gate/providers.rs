//! CI systems, workloads and identity providers: the table of `integrations/workloads.md`, each row
//! with tokens as the provider documents them.

use std::{fs, process::Command};

use amlgate::{config, sandbox::Person};
use serde_json::{Map, Value, json};

use crate::world::{Changes, VERSION, World, workspace};

const TABLE: &str = include_str!("../../integrations/workloads.md");

struct Row {
    provider: &'static str,
    issuer: &'static str,
    subject: &'static str,
}

fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for line in TABLE.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let [provider, issuer, subject, _] = line.trim_matches('|').split(" | ").collect::<Vec<_>>()[..]
        else {
            panic!("four columns: {line}");
        };
        let issuer =
            if issuer == "the same" { rows.last().unwrap().issuer } else { issuer.trim_matches('`') };
        rows.push(Row { provider: provider.trim(), issuer, subject: subject.trim_matches('`') });
    }
    rows
}

/// Claims but for issuer, audience and times, who the record says acts (1 a person, 4 a machine), and
/// what becomes of the token with some of them changed.
struct Provider {
    claims: Value,
    acts_as: u64,
    changed: Vec<(Value, u16)>,
}

fn github() -> Provider {
    Provider {
        claims: json!({
            "jti": "example-id", "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
            "ref": "refs/heads/main", "sha": "example-sha", "repository": "octo-org/octo-repo",
            "repository_owner": "octo-org", "actor_id": "12", "repository_visibility": "private",
            "repository_id": "74", "repository_owner_id": "65", "run_id": "example-run-id",
            "run_number": "10", "run_attempt": "2", "runner_environment": "github-hosted",
            "actor": "octocat", "workflow": "example-workflow", "head_ref": "", "base_ref": "",
            "event_name": "workflow_dispatch", "ref_type": "branch", "ref_protected": "true",
            "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
        }),
        acts_as: 4,
        changed: vec![
            (json!({"sub": "repo:octo-org@65/octo-repo@74:ref:refs/heads/main"}), 200),
            (json!({"sub": "repo:octo-org@65/octo-repo@74:environment:prod", "environment": "prod"}), 200),
            (
                json!({"repository": "octo-org/renamed", "sub": "repo:octo-org/renamed:ref:refs/heads/main"}),
                200,
            ),
            // The same names, which somebody else has taken since.
            (json!({"repository_id": "75"}), 403),
            (json!({"repository_id": 74}), 403),
            (
                json!({"ref": "refs/heads/feature", "sub": "repo:octo-org/octo-repo:ref:refs/heads/feature"}),
                403,
            ),
            (json!({"ref": "refs/tags/main", "ref_type": "tag"}), 403),
            (
                json!({"event_name": "pull_request", "ref": "refs/pull/7/merge", "head_ref": "patch-1",
                    "base_ref": "main", "sub": "repo:octo-org/octo-repo:pull_request"}),
                403,
            ),
            // It runs on the base's branch with the head's words.
            (json!({"event_name": "pull_request_target", "head_ref": "patch-1", "base_ref": "main"}), 403),
        ],
    }
}

fn gitlab() -> Provider {
    Provider {
        claims: json!({
            "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b",
            "sub": "project_path:my-group/my-project:ref_type:branch:ref:main", "namespace_id": "72",
            "namespace_path": "my-group", "project_id": "20", "project_path": "my-group/my-project",
            "user_id": "1", "user_login": "sample-user", "user_email": "sample-user@example.com",
            "user_identities": [{"provider": "github", "extern_uid": "2435223452345"}],
            "pipeline_id": "574", "pipeline_source": "push", "job_id": "302", "ref": "main",
            "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true",
            "groups_direct": ["my-group/my-subgroup"], "runner_id": 1, "runner_environment": "self-hosted",
            "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc", "project_visibility": "public",
            "ci_config_ref_uri": "gitlab.example.com/my-group/my-project//.gitlab-ci.yml@refs/heads/main",
            "ci_config_sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
        }),
        acts_as: 4,
        changed: vec![
            (json!({"project_path": "my-group/renamed"}), 200),
            (json!({"ref": "v1", "ref_type": "tag", "ref_path": "refs/tags/v1"}), 200),
            (
                json!({"ref": "feature-branch-1", "ref_path": "refs/heads/feature-branch-1", "ref_protected": "false"}),
                403,
            ),
            (json!({"ref_protected": true}), 403),
            (json!({"project_id": 20}), 403),
            // A fork's merge request runs as the fork.
            (
                json!({"pipeline_source": "merge_request_event", "project_id": "21", "project_path": "fork/my-project",
                    "ref_path": "refs/merge-requests/1/head", "ref_protected": "false"}),
                403,
            ),
        ],
    }
}

fn jenkins() -> Provider {
    Provider {
        claims: json!({"sub": "https://jenkins.example.com/job/ml/job/train/", "build_number": 42}),
        acts_as: 4,
        changed: vec![
            (json!({"build_number": 43}), 200),
            (json!({"sub": "https://jenkins.example.com/job/ml/job/train-2/"}), 403),
            (json!({"sub": "https://jenkins.example.com/job/ml/"}), 403),
            (json!({"sub": null}), 401),
        ],
    }
}

fn kubernetes() -> Provider {
    let account = |namespace: &str, name: &str| {
        json!({
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "kubernetes.io": {
                "namespace": namespace,
                "node": {"name": "127.0.0.1", "uid": "58456cb0-dd00-45ed-b797-5578fdceaced"},
                "pod": {"name": format!("{name}-69cbfb9798-jv9gn"), "uid": "778a530c-b3f4-47c0-9cd5-ab018fb64f33"},
                "serviceaccount": {"name": name, "uid": "a087d5a0-e1dd-43ec-93ac-f13d89cd13af"},
                "warnafter": 1_700_081_768,
            },
        })
    };
    let mut claims = account("ml", "trainer");
    claims["jti"] = json!("ea28ed49-2e11-4280-9ec5-bc3d1d84661a");
    Provider {
        claims,
        acts_as: 4,
        changed: vec![
            (account("ml", "default"), 403),
            (account("other", "trainer"), 403),
            // A subject's text is not the account's.
            (json!({"kubernetes.io": null}), 403),
            (json!({"kubernetes.io": "ml"}), 403),
        ],
    }
}

fn keycloak() -> Value {
    json!({
        "jti": "onrtac:7c3f", "sub": "1f0b5b1e-1c0e-4d2b-9a1b-5f1d0c1a2b3c", "typ": "Bearer", "azp": "notebook",
        "sid": "f6a1c6a5", "acr": "1", "allowed-origins": ["/*"], "scope": "profile email",
        "realm_access": {"roles": ["offline_access", "default-roles-ml"]},
        "resource_access": {"account": {"roles": ["manage-account", "view-profile"]}},
        "email_verified": true, "name": "Kim Keycloak", "preferred_username": "kim", "given_name": "Kim",
        "family_name": "Keycloak", "email": "kim@keycloak.example",
    })
}

fn keycloak_with(claims: Value, mut changed: Vec<(Value, u16)>) -> Provider {
    // The same keys sign them, and some name the same audience.
    changed.extend(["ID", "Refresh", "Offline", "Logout"].map(|typ| (json!({"typ": typ}), 401)));
    changed.push((json!({"typ": null}), 200));
    let mut all = keycloak();
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    Provider { claims: all, acts_as: 1, changed }
}

fn dex() -> Provider {
    Provider {
        claims: json!({
            "sub": "CgQxMDAxEgRsZGFw", "at_hash": "bKJ0G5qC", "email": "kim@dex.example",
            "email_verified": true, "groups": ["ml"], "name": "Kim",
            "federated_claims": {"connector_id": "ldap", "user_id": "1001"},
        }),
        acts_as: 1,
        changed: vec![
            (json!({"federated_claims": {"connector_id": "github", "user_id": "1001"}}), 403),
            (json!({"federated_claims": {"connector_id": "ldap", "user_id": "1002"}}), 403),
            (json!({"federated_claims": {"connector_id": "ldap", "user_id": 1001}}), 403),
            (json!({"federated_claims": null}), 403),
        ],
    }
}

fn google_account() -> Provider {
    let account = "112233445566778899000";
    Provider {
        claims: json!({
            "sub": account, "azp": account, "email": "trainer@project.iam.gserviceaccount.com",
            "email_verified": true,
        }),
        acts_as: 4,
        changed: vec![
            (json!({"email": "renamed@project.iam.gserviceaccount.com"}), 200),
            // Deleted, and made anew under the same address.
            (json!({"sub": "998877665544332211000", "azp": "998877665544332211000"}), 403),
        ],
    }
}

fn google_person() -> Provider {
    Provider {
        claims: json!({
            "sub": "110169484474386276334", "azp": "1234987819200.apps.googleusercontent.com",
            "hd": "example.com", "email": "ana@example.com", "email_verified": true, "name": "Ana",
        }),
        acts_as: 1,
        changed: vec![
            (json!({"email_verified": false}), 403),
            (json!({"email_verified": "true"}), 403),
            (json!({"email_verified": null}), 403),
            (json!({"email": "Ana@example.com"}), 403),
        ],
    }
}

fn provider(name: &str) -> Provider {
    match name {
        "GitHub Actions" => github(),
        "GitLab" => gitlab(),
        "Jenkins, by the plugin `oidc-provider`" => jenkins(),
        "Kubernetes" => kubernetes(),
        "Keycloak, a realm's role" => keycloak_with(
            json!({"realm_access": {"roles": ["offline_access", "trainer"]}}),
            vec![
                (json!({"realm_access": {"roles": ["offline_access"]}}), 403),
                (json!({"realm_access": null, "resource_access": {"amlgate": {"roles": ["trainer"]}}}), 403),
                (json!({"realm_access": null, "roles": ["trainer"]}), 403),
            ],
        ),
        "Keycloak, a client's role" => keycloak_with(
            json!({"resource_access": {"amlgate": {"roles": ["trainer"]}}}),
            vec![
                (json!({"resource_access": {"other": {"roles": ["trainer"]}}}), 403),
                (json!({"resource_access": null, "realm_access": {"roles": ["trainer"]}}), 403),
            ],
        ),
        "Keycloak, a group" => keycloak_with(
            json!({"groups": ["/data-science", "/all"]}),
            vec![
                (json!({"groups": ["/contractors/data-science"]}), 403),
                (json!({"groups": ["data-science"]}), 403),
                (json!({"groups": null}), 403),
                (json!({"groups": "/data-science"}), 401),
            ],
        ),
        "Dex" => dex(),
        "Google, a service account" => google_account(),
        "Google, people of a Workspace" => google_person(),
        other => panic!("the row `{other}` has no tokens here"),
    }
}

/// The sandbox's issuer, which mints what any of them would, stands for all.
fn policies(row: &Row) -> String {
    let (named, rest) = row.subject.split_once(", ").unwrap();
    assert!(named.starts_with("{issuer: "), "{named}");
    format!(
        "version: 1\nsubjects:\n  row: [{{issuer: sandbox, {rest}]\nallow:\n  - {{name: the row reads, who: [row], kinds: [read]}}\n"
    )
}

/// A token of exactly these claims besides issuer, audience and times.
fn token(world: &World, claims: &Map<String, Value>) -> String {
    let mint = world.sandbox.issuer.mint();
    let token = mint.token_with(Person::named("ci").unwrap(), |held| {
        held.retain(|name, _| ["iss", "aud", "iat", "nbf", "exp"].contains(&name.as_str()));
        held.extend(claims.clone().into_iter().filter(|(_, value)| !value.is_null()));
    });
    token.unwrap()
}

#[tokio::test]
async fn each_provider_s_tokens_are_taken_for_whom_the_table_says_and_no_others() {
    for row in rows() {
        let Provider { claims, acts_as, changed } = provider(row.provider);
        let policies = policies(&row);
        let world = World::changed(Changes { policies: Some(&policies), ..Changes::default() }).await;
        let here = workspace(&format!("?{VERSION}"));
        let claims = claims.as_object().unwrap();
        let whole = world.bearing(&token(&world, claims)).get(&here).await;
        assert_eq!(whole.status, 200, "{}: {whole:?}", row.provider);
        for (change, status) in changed {
            let mut claims = claims.clone();
            claims.extend(change.as_object().unwrap().clone());
            let answer = world.bearing(&token(&world, &claims)).get(&here).await;
            assert_eq!(answer.status, status, "{} with {change}: {answer:?}", row.provider);
        }
        let log = world.stop().await;
        let user = &log.requests().first().unwrap()["actor"]["user"];
        assert_eq!(user["type_id"], acts_as, "{}: {user}", row.provider);
        assert_eq!(user["uid"], format!("sandbox:{}", claims["sub"].as_str().unwrap()), "{}", row.provider);
    }
}

#[test]
fn each_issuer_of_the_table_is_a_configuration_and_each_subject_is_warned_of_or_not_as_said() {
    let folder = tempfile::tempdir().unwrap();
    let here = |name: &str| folder.path().join(name);
    fs::create_dir(here("policies")).unwrap();
    for name in ["audit.key", "seal.key", "token"] {
        fs::write(here(name), "key").unwrap();
    }
    fs::write(here("ca.crt"), amlgate::sandbox::SandboxCa::generate().unwrap().certificate_pem()).unwrap();
    for row in rows() {
        let issuer = row.issuer.replace("/var/run/secrets/kubernetes.io/serviceaccount/", "");
        let text = format!(
            "version: 1\nlisten:\n  reverse: {{address: \"127.0.0.1:8443\", public_url: http://127.0.0.1:8443}}\nissuers:\n  - {issuer}\n\
             credentials:\n  - {{name: machine, managed_identity: {{}}}}\n\
             routes:\n  - {{name: arm, upstream: https://management.azure.com, paths: [/subscriptions], protocol: arm, credential: machine}}\n\
             policies: policies/\naudit: {{name: a, directory: var/audit, signing_key: {{file: audit.key}}}}\nkeys: {{seal: [{{file: seal.key}}]}}\n"
        );
        fs::write(here("amlgate.yaml"), text).unwrap();
        config::load(&here("amlgate.yaml"))
            .unwrap_or_else(|problems| panic!("{}: {problems:#?}", row.provider));
        let policies = format!(
            "version: 1\nsubjects:\n  row: [{}]\nallow:\n  - {{name: a, who: [row], kinds: [read]}}\n",
            row.subject
        );
        fs::write(here("policies/row.yaml"), policies).unwrap();
        let done = Command::new(env!("CARGO_BIN_EXE_amlgate"))
            .args(["validate", "--config"])
            .arg(here("amlgate.yaml"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{}: {said}", row.provider);
        assert_eq!(
            said.contains("warning"),
            TABLE_WARNS_OF.contains(&row.provider),
            "{}: {said}",
            row.provider
        );
    }
}

/// The rows of which the table itself says that `validate` warns.
const TABLE_WARNS_OF: &[&str] = &["Google, people of a Workspace"];
