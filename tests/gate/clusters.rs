//! Pods of a cluster whose API server tells its keys to nobody without a token.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use amlgate::{
    identity::ASK_EVERY,
    sandbox::{SandboxCa, cluster::Cluster},
    time::{Clock as _, ManualClock, SharedClock, SystemClock},
};

use crate::{
    operations::ask,
    world::{Changes, VERSION, World, workspace},
};

const POLICIES: &str = r#"
version: 1
subjects:
  trainers: [{issuer: cluster, claims: {kubernetes.io: {namespace: ml, serviceaccount: {name: trainer}}}}]
allow:
  - {name: trainers read, who: [trainers], kinds: [read]}
"#;

/// A cluster, a gate before it that has a service account's token, and the file with that.
struct Pods {
    cluster: Cluster,
    world: World,
    clock: ManualClock,
    token: PathBuf,
    _folder: tempfile::TempDir,
}

/// The gate reads the keys by `held`, and the cluster admits `admitted`.
async fn pods(held: &str, admitted: &str, how: &str) -> Pods {
    let clock = ManualClock::starting_at(SystemClock.now());
    let shared: SharedClock = Arc::new(clock.clone());
    let ca = SandboxCa::generate().unwrap();
    let cluster = Cluster::start(Arc::clone(&shared), &ca).await.unwrap();
    cluster.admit(admitted);
    let folder = tempfile::tempdir().unwrap();
    let (token, authority) = (folder.path().join("token"), folder.path().join("ca.pem"));
    fs::write(&token, held).unwrap();
    fs::write(&authority, ca.certificate_pem()).unwrap();
    let url = cluster.url();
    let how = how.replace("{url}", &url).replace("{token}", &token.display().to_string());
    let issuers = format!(
        "issuers:\n  - name: cluster\n    oidc: {{issuer: \"{url}\", audiences: [amlgate], {how}}}\n    address: \"{}\"\n    trust: {{ca: \"{}\"}}\n",
        cluster.address(),
        authority.display()
    );
    let configuration = [("issuers:\n", issuers.as_str())];
    let changes = Changes { configuration: &configuration, policies: Some(POLICIES) };
    let world = World::at(changes, shared).await;
    Pods { cluster, world, clock, token, _folder: folder }
}

impl Pods {
    /// What a pod's request comes to.
    async fn reads(&self, namespace: &str, account: &str) -> u16 {
        let token = self.cluster.token(namespace, account, "amlgate").unwrap();
        self.world.bearing(&token).get(&workspace(&format!("?{VERSION}"))).await.status.as_u16()
    }

    fn doctor(&self) -> String {
        let Output { stdout, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_amlgate"))
            .args(["doctor", "--config"])
            .arg(self.world.sandbox.configuration())
            .output()
            .unwrap();
        format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
    }
}

const BY_DISCOVERY: &str = "keys_token: {file: \"{token}\"}";
const BY_KEYS: &str = "jwks_uri: \"{url}/openid/v1/jwks\", keys_token: {file: \"{token}\"}";

#[tokio::test]
async fn keys_that_only_a_service_account_may_read_are_read_by_its_token() {
    for how in [BY_DISCOVERY, BY_KEYS] {
        let pods = pods("gate-token\n", "gate-token", how).await;
        assert_eq!(pods.reads("ml", "trainer").await, 200, "{how}");
        assert_eq!(pods.reads("ml", "default").await, 403);
        assert_eq!(pods.reads("other", "trainer").await, 403);
        let seen = pods.cluster.observer().seen();
        assert!(seen.iter().all(|seen| seen.headers["authorization"] == "Bearer gate-token"), "{seen:?}");
        let discovered = seen.iter().any(|seen| seen.target.contains("openid-configuration"));
        assert_eq!(discovered, how == BY_DISCOVERY, "{seen:?}");
        let token = pods.cluster.token("ml", "trainer", "vault").unwrap();
        let answer = pods.world.bearing(&token).get(&workspace(&format!("?{VERSION}"))).await;
        assert_eq!(answer.status, 401, "a token for another audience");
    }
}

#[tokio::test]
async fn a_token_that_is_renewed_in_its_file_is_used_from_the_next_fetch_on() {
    let pods = pods("first", "first", BY_DISCOVERY).await;
    assert_eq!(pods.reads("ml", "trainer").await, 200);
    // The kubelet renews the token, the old one ends, and the cluster signs with another key.
    fs::write(&pods.token, "second").unwrap();
    pods.cluster.admit("second");
    pods.cluster.rotate().unwrap();
    pods.clock.advance(ASK_EVERY);
    assert_eq!(pods.reads("ml", "trainer").await, 200);
    let used: Vec<_> =
        pods.cluster.observer().seen().iter().map(|s| s.headers["authorization"].clone()).collect();
    assert_eq!(used, ["Bearer first", "Bearer first", "Bearer second", "Bearer second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_cluster_refuses_stops_nobody_whose_keys_are_known_and_is_named_nowhere() {
    let pods = pods("sesame-1", "sesame-1", BY_DISCOVERY).await;
    assert_eq!(pods.reads("ml", "trainer").await, 200);
    assert!(pods.doctor().contains("1 key that can be used"));
    pods.cluster.admit("sesame-2");
    pods.clock.advance(Duration::from_secs(901));
    pods.cluster.observer().wait_for(|seen| seen.iter().any(|s| s.status.is_some_and(|s| s == 401))).await;
    assert_eq!(pods.reads("ml", "trainer").await, 200, "the last good keys stand in");
    let said = pods.doctor();
    assert!(said.contains("it does not accept the token of"), "{said}");
    fs::remove_file(&pods.token).unwrap();
    let gone = pods.doctor();
    assert!(gone.contains("keys_token") || gone.contains("cannot be read"), "{gone}");
    let ready = ask(&pods.world, "/readyz").await.text();
    let log = pods.world.stop().await;
    let record = format!("{:?}", log.records);
    for place in [said, gone, ready, record] {
        assert!(!place.contains("sesame"), "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_the_keys_are_not_read_and_the_mend_is_said() {
    let pods = pods("unused", "gate-token", "client_id: x").await;
    assert_eq!(pods.reads("ml", "trainer").await, 503);
    let said = pods.doctor();
    assert!(said.contains("it answered 403 Forbidden") && said.contains("`keys_token`"), "{said}");
}
