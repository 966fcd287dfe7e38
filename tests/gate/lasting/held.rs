//! A call that waits for people is under way, too: it ends with what let it, and its neighbour waits on.
//! It lasts two minutes at most, so that it has a world and a column of its own.

use std::{fs, sync::Arc, time::Duration};

use amlgate::{
    config,
    sandbox::{
        Person,
        azure::{UserToken, names},
    },
    store::{Revocation, RevocationKind, Store, StoreAddress},
    time::{Clock as _, ManualClock, SystemClock},
};
use http::{Method, StatusCode, header};
use serde_json::json;
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    api::{claims, revoke},
    approvals::call_with,
    world::{Answer, Changes, VERSION, World, job, whole, workspace},
};

const SOON: Duration = Duration::from_secs(60);

const POLICIES: &str = "version: 1
subjects:
  ones: [{issuer: sandbox, group: data-science}]
  others: [{issuer: entra, claims: {tid: TENANT}}]
  platform: [{issuer: sandbox, group: platform}, {issuer: entra, claims: {oid: PAT}}]
allow:
  - {name: ones, who: [ones], actions: [Microsoft.MachineLearningServices/*]}
  - {name: others, who: [others], actions: [Microsoft.MachineLearningServices/*]}
  - {name: all ask, who: [authenticated], actions: [amlgate/requests/*, amlgate/grants/*]}
  - {name: operators revoke, who: [platform], actions: [amlgate/revocations/*]}
require:
  - {name: jobs wait, actions: [Microsoft.MachineLearningServices/workspaces/jobs/write], approval: {by: [{subject: platform}], hold: 100s}}
";

/// Sam's call, by a token for a short time, and rita's beside it.
struct Held {
    world: World,
    clock: ManualClock,
    token: String,
    affected: JoinHandle<Answer>,
    neighbour: JoinHandle<Answer>,
    /// Rita's request.
    request: String,
}

impl Held {
    async fn opened() -> Self {
        Self::for_seconds(60).await
    }

    /// The same, whose token is good for so long.
    async fn for_seconds(life: u64) -> Self {
        let pat = Person::named("pat").unwrap();
        let policies = POLICIES.replace("TENANT", names::TENANT).replace("PAT", pat.object_id);
        let clock = ManualClock::starting_at(SystemClock.now());
        let changes = Changes { policies: Some(&policies), ..Changes::default() };
        let world = World::at(changes, Arc::new(clock.clone())).await;
        let soon = clock.now().as_secs() + life;
        let mint = world.sandbox.issuer.mint();
        let sam = Person::named("sam").unwrap();
        let token = mint.token_with(sam, |claims| drop(claims.insert("exp".into(), soon.into()))).unwrap();
        let (affected, _) = waits(&world, "affected", &token).await;
        let (neighbour, request) = waits(&world, "neighbour", &of_entra(&world, "rita")).await;
        Self { world, clock, token, affected, neighbour, request }
    }

    /// The affected is told why, with this status, half a second after another; the neighbour waits on and
    /// goes through once it is approved.
    async fn judged(mut self, status: StatusCode, why: &str) {
        let mut told = None;
        for _ in 0..40 {
            self.clock.advance(Duration::from_millis(500));
            if let Ok(answer) = timeout(Duration::from_millis(250), &mut self.affected).await {
                told = Some(answer.unwrap());
                break;
            }
        }
        let told = told.expect("it waits on");
        assert_eq!(told.status, status, "{told:?}");
        assert!(told.text().contains(why), "{told:?}");
        assert!(!self.neighbour.is_finished());
        let path = format!("/api/v1/requests/{}/approve", self.request);
        let pat = of_entra(&self.world, "pat");
        let given = call_with(&self.world, &pat, Method::POST, &path, Some(json!({}))).await;
        assert_eq!(given.status, StatusCode::OK, "{given:?}");
        let passed = timeout(SOON, self.neighbour).await.unwrap().unwrap();
        assert!(passed.status.is_success(), "{passed:?}");
        let log = self.world.stop().await;
        assert_eq!(log.events("grant_used").len(), 1, "the neighbour's alone");
        assert_eq!(log.events("approval_asked").len(), 2);
    }
}

fn of_entra(world: &World, name: &str) -> String {
    world.sandbox.azure.user_token(Person::named(name).unwrap(), &UserToken::default()).unwrap()
}

/// Sends a call that waits; the id of the request that it made.
async fn waits(world: &World, name: &str, token: &str) -> (JoinHandle<Answer>, String) {
    let mut connection = world.connect().await;
    let request = world
        .bearing(token)
        .request(Method::PUT, &workspace(&format!("/jobs/{name}?{VERSION}")))
        .header(header::CONTENT_TYPE, "application/json")
        .body(whole(job().to_string()))
        .unwrap();
    let call = tokio::spawn(async move { Answer::of(connection.send_request(request).await.unwrap()).await });
    let id = timeout(SOON, async {
        loop {
            let mine = call_with(world, token, Method::GET, "/api/v1/requests", None).await.json();
            if let Some(id) = mine["requests"][0]["id"].as_str() {
                return id.to_owned();
            }
            assert!(!call.is_finished(), "it does not wait");
        }
    });
    let id = id.await.unwrap();
    (call, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_ends_with_the_right() {
    let held = Held::opened().await;
    let file = held.world.directory().join("policies/sandbox.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let kept = text.lines().filter(|line| !line.contains("name: ones"));
    fs::write(&file, kept.fold(String::new(), |all, line| all + line + "\n")).unwrap();
    held.world.server.reload().await;
    held.judged(StatusCode::FORBIDDEN, "AuthorizationFailed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_ends_with_its_token() {
    // Time goes by in the steps of the looks: after a leap what the gate knows of others is old, too.
    let held = Held::for_seconds(5).await;
    held.judged(StatusCode::FORBIDDEN, "your token has expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_ends_when_its_issuer_is_removed() {
    let held = Held::opened().await;
    let file = held.world.sandbox.configuration();
    let text = fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once("  - name: sandbox ").unwrap();
    let (_, after) = rest.split_once("  - name: entra ").unwrap();
    // Nobody signs in at an issuer that is gone.
    let before = before.replace(", sign_in: {issuer: sandbox}", "");
    fs::write(&file, format!("{before}  - name: entra {after}")).unwrap();
    held.world.server.reload().await;
    held.judged(StatusCode::FORBIDDEN, "vouches for nobody here any more").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_ends_when_whoever_sent_it_is_revoked() {
    let held = Held::opened().await;
    let made = revoke(&held.world, "pat", json!({"principal": "sandbox:user-sam", "reason": "left"})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    held.judged(StatusCode::FORBIDDEN, "it was revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_ends_when_its_token_is_revoked() {
    let held = Held::opened().await;
    let what = json!({"token": claims(&held.token)["jti"], "issuer": "sandbox", "reason": "it was in a log"});
    let made = revoke(&held.world, "pat", what).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    held.judged(StatusCode::FORBIDDEN, "it was revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_ends_when_whoever_sent_it_is_revoked_at_another_replica() {
    let held = Held::opened().await;
    let settings = config::load(&held.world.sandbox.configuration()).unwrap();
    let Some(config::settings::Store::Sqlite(file)) = settings.store else {
        panic!("the sandbox keeps a file")
    };
    let now = held.clock.now();
    let revocation = Revocation {
        id: "elsewhere".to_owned(),
        kind: RevocationKind::Principal,
        issuer: "sandbox".to_owned(),
        value: "user-sam".to_owned(),
        issued_before: None,
        made: now,
        expires: now.plus(Duration::from_secs(3_600)),
        by: "sandbox:user-pat".to_owned(),
        reason: "left".to_owned(),
    };
    Store::new(StoreAddress::Sqlite(file)).unwrap().revoke(revocation).await.unwrap();
    held.judged(StatusCode::FORBIDDEN, "it was revoked").await;
}
