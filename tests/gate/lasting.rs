//! Whatever lasts ends when what let it is over, and its neighbour goes on (DECISIONS 25).
//!
//! Two people open everything that lasts, one of each kind. Then one of them loses the right, the
//! token, or whoever vouched for it; and each cell of the table is looked at.

mod held;
mod live;
mod upstream;

use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

use amlgate::{
    config,
    sandbox::{
        Person,
        azure::{UserToken, names},
    },
    store::{Revocation, RevocationKind, Store, StoreAddress},
    time::{Clock as _, ManualClock, SystemClock},
};
use http::{Method, Request, StatusCode, header};
use serde_json::json;

use self::{
    live::{KINDS, Live, Opener, UNTOUCHED},
    upstream::Upstream,
};
use crate::{
    api::{claims, revoke},
    approvals::{self, call_with},
    break_glass,
    forward::{Tunnel, jobs},
    world::{Changes, Log, World, whole},
};

const POLICIES: &str = "version: 1
subjects:
  ones: [{issuer: sandbox, group: data-science}]
  others: [{issuer: entra, claims: {tid: TENANT}}]
  platform: [{issuer: sandbox, group: platform}]
allow:
  - {name: ones, who: [ones], actions: [kubernetes/core/pods/*, Microsoft.MachineLearningServices/*]}
  - {name: ones too, who: [ones], routes: [depot], methods: [GET, POST, PUT], path: '/**'}
  - {name: others, who: [others], actions: [kubernetes/core/pods/*, Microsoft.MachineLearningServices/*]}
  - {name: others too, who: [others], routes: [depot], methods: [GET, POST, PUT], path: '/**'}
  - {name: operators revoke, who: [platform], actions: [amlgate/revocations/*]}
";

/// What the affected may only do with somebody's approval, for five minutes: everything.
const APPROVED: &str =
    "  - {name: all ask, who: [authenticated], actions: [amlgate/requests/*, amlgate/grants/*]}
require:
  - {name: ones ask, who: [ones], approval: {by: [{subject: platform}], covers: entry, valid_for: 5m}}
";

/// What the affected may only do while they hold a break-glass open: everything.
const FROZEN: &str = "  - {name: all call it, who: [authenticated], actions: [amlgate/break-glass/*]}
deny:
  - {name: all is frozen, who: [ones], unless: {break_glass: true}}
";

/// How something that lasts meets the end of what let it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// It ends within a second, and the record says why.
    Cut,
    /// What comes next is refused; there is nothing under way.
    Refused,
    /// It goes on.
    Stands,
}

/// The table: what becomes of a kind when `lost` is over.
fn cell(kind: &str, lost: &str) -> Cell {
    match (kind, lost) {
        // It cannot be unsaid, and whoever began it is told what came of it.
        ("a write that waits for its answer", _) => Cell::Stands,
        // No policy speaks of it: who may come to the gate at all may dig it.
        ("a tunnel that passes untouched", "the right" | "the approval" | "the break-glass") => Cell::Stands,
        ("a tunnel between two requests", _) => Cell::Refused,
        // `streams: {on_token_expiry: keep}` is for whatever is under way.
        (_, "the token, which need not last") => Cell::Stands,
        _ => Cell::Cut,
    }
}

/// With what the affected opens everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opens {
    /// A token of their issuer's.
    Token,
    /// What a sealed code brought for a break-glass.
    Code,
}

/// Who is affected (a person of the sandbox's issuer, for ten minutes), and the neighbour (of Entra's).
struct Lasting {
    world: World,
    clock: ManualClock,
    upstream: Upstream,
    token: String,
    live: Vec<(&'static str, Live, Live)>,
    /// The grants by which the affected opened theirs.
    grants: Vec<String>,
    /// The break-glass under which they did.
    glass: Option<String>,
}

impl Lasting {
    async fn opened() -> Self {
        Self::opened_where("", "").await
    }

    /// The same with more in the configuration and in the policies.
    async fn opened_where(more: &str, policies: &str) -> Self {
        Self::opened_by(Opens::Token, more, policies).await
    }

    async fn opened_by(opens: Opens, more: &str, policies: &str) -> Self {
        let (upstream, company) = (Upstream::new().await, upstream::company(UNTOUCHED).await);
        let routes = format!(
            "  - {{name: cluster, upstream: \"http://{0}\", paths: [/clusters/prod], protocol: kubernetes, credential: gate}}
  - {{name: depot, upstream: \"http://{0}\", paths: [/depot], protocol: http}}
  - {{name: model, upstream: \"http://{0}\", paths: [/model], protocol: inference, credential: gate, resource: {1}}}
  - name: storage",
            upstream.address,
            names::workspace_id(names::WORKSPACE) + "/onlineEndpoints/" + names::ENDPOINT,
        );
        let outgoing = format!("{more}outgoing: {{proxy: \"http://{company}\"}}\npolicies: policies/");
        let passthrough = format!("    passthrough: [{UNTOUCHED}]\n    interception_ca:");
        let configuration = [
            ("  - name: storage", routes.as_str()),
            ("policies: policies/", &outgoing),
            ("    interception_ca:", &passthrough),
        ];
        let (asks, breaks) = (policies == APPROVED, policies == FROZEN);
        let policies = POLICIES.replace("TENANT", names::TENANT) + policies;
        let changes = Changes { configuration: &configuration, policies: Some(&policies) };
        let clock = ManualClock::starting_at(SystemClock.now());
        let world = World::at(changes, Arc::new(clock.clone())).await;
        let token = short(&world, &clock);
        let rita = Person::named("rita").unwrap();
        let neighbour = world.sandbox.azure.user_token(rita, &UserToken::default()).unwrap();
        let grants = if asks { approved(&world, &token).await } else { Vec::new() };
        let (glass, token) = match opens {
            Opens::Code => {
                let (id, token) = break_glass::offline::opened(&world, "sam").await;
                (Some(id), token)
            }
            Opens::Token if breaks => (Some(break_glass::opened(&world, "sam").await), token),
            Opens::Token => (None, token),
        };
        let shared = world.connect_http2().await;
        let opener =
            |name, token| Opener { world: &world, upstream: &upstream, name, token, shared: shared.clone() };
        let (one, other) = (opener("one", token.as_str()), opener("other", neighbour.as_str()));
        let mut live = Vec::new();
        for kind in KINDS {
            let (mut affected, mut neighbour) = (one.open(kind).await, other.open(kind).await);
            affected.flows(kind).await;
            neighbour.flows(kind).await;
            live.push((kind, affected, neighbour));
        }
        Self { world, clock, upstream, token, live, grants, glass }
    }

    /// Each cell of the column is as the table says, the neighbours lose nothing, and each cut's
    /// record says `why`.
    async fn judged(mut self, lost: &str, why: &str) {
        let mut cut = 0;
        for (kind, affected, neighbour) in &mut self.live {
            match cell(kind, lost) {
                Cell::Stands => affected.flows(kind).await,
                Cell::Refused => affected.ends(kind).await,
                Cell::Cut => {
                    affected.ends(kind).await;
                    cut += 1;
                }
            }
            neighbour.flows(kind).await;
        }
        self.upstream.answers.send_replace(true);
        for (kind, affected, neighbour) in self.live {
            if cell(kind, lost) == Cell::Stands {
                affected.finishes(kind).await;
            }
            neighbour.finishes(kind).await;
        }
        let log = self.world.stop().await;
        let reasons = reasons(&log);
        assert_eq!(reasons.len(), cut, "{lost}: {reasons:#?}");
        assert!(reasons.iter().all(|reason| reason.contains(why)), "{lost}: {reasons:#?}");
        let tunnels = |event| {
            let of_event = log.events(event).into_iter();
            of_event.map(|own| own["tunnel"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
        };
        let (opened, ended) = (tunnels("tunnel_opened"), tunnels("tunnel_ended"));
        assert_eq!((opened.len(), &opened), (2, &ended), "the affected's and the neighbour's");
    }
}

/// Asks for the approvals that everything which lasts needs, each where it is done, and has them
/// given; the grants.
async fn approved(world: &World, token: &str) -> Vec<String> {
    let caller = world.bearing(token);
    let mut grants = Vec::new();
    for (method, path) in [
        (Method::GET, jobs()),
        (Method::POST, "/clusters/prod/api/v1/namespaces/ml/pods/p/exec?command=sh&stdin=true".to_owned()),
        (Method::GET, "/depot/download".to_owned()),
    ] {
        // What passes is done where another was approved.
        let answer = caller.open(caller.request(method, &path).body(whole("")).unwrap()).await;
        if answer.status() != StatusCode::FORBIDDEN {
            continue;
        }
        let body = json!({"decision": answer.headers()["x-amlgate-decision"].to_str().unwrap()});
        let asked = call_with(world, token, Method::POST, "/api/v1/requests", Some(body)).await;
        assert_eq!(asked.status, StatusCode::CREATED, "{path}: {asked:?}");
        let id = asked.json()["requests"][0]["id"].as_str().unwrap().to_owned();
        let given = approvals::answer(world, "pat", &id, "approve").await.json();
        grants.push(given["grant"]["id"].as_str().unwrap_or_else(|| panic!("{given}")).to_owned());
    }
    grants
}

/// A token of sam's for ten minutes.
fn short(world: &World, clock: &ManualClock) -> String {
    let soon = clock.now().as_secs() + 600;
    let sam = Person::named("sam").unwrap();
    world
        .sandbox
        .issuer
        .mint()
        .token_with(sam, |claims| drop(claims.insert("exp".into(), soon.into())))
        .unwrap()
}

/// Why each of what was cut was cut, tunnels among them.
fn reasons(log: &Log) -> Vec<String> {
    let own = log.requests().into_iter().map(|record| &record["unmapped"]["amlgate"]);
    own.filter(|own| own["ending"] == "cut")
        .map(|own| own["because"].as_str().unwrap_or_else(|| panic!("{own}")).to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_policies_ends_what_it_forbids_and_nothing_else() {
    let lasting = Lasting::opened().await;
    let file = lasting.world.directory().join("policies/sandbox.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let kept = text.lines().filter(|line| !line.contains("name: ones"));
    fs::write(&file, kept.fold(String::new(), |all, line| all + line + "\n")).unwrap();
    lasting.world.server.reload().await;
    lasting.judged("the right", "the policies no longer allow it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_opened_ends_with_it() {
    let lasting = Lasting::opened().await;
    lasting.clock.advance(Duration::from_secs(700));
    lasting.judged("the token", "the token that opened it expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_outlive_its_token_ends_at_its_greatest_age() {
    let mut lasting = Lasting::opened_where("streams: {on_token_expiry: keep, max_age: 20m}\n", "").await;
    lasting.clock.advance(Duration::from_secs(700));
    for (kind, affected, _) in &mut lasting.live {
        match cell(kind, "the token, which need not last") {
            Cell::Stands => affected.flows(kind).await,
            Cell::Refused | Cell::Cut => affected.ends(kind).await,
        }
    }
    lasting.clock.advance(Duration::from_secs(600));
    let mut cut = 0;
    for (kind, affected, neighbour) in &mut lasting.live {
        if cell(kind, "its time") == Cell::Cut {
            affected.ends(kind).await;
            neighbour.ends(kind).await;
            cut += 2;
        }
    }
    lasting.upstream.answers.send_replace(true);
    drop(lasting.live);
    let reasons = reasons(&lasting.world.stop().await);
    assert_eq!(reasons.len(), cut, "{reasons:#?}");
    assert!(reasons.iter().all(|reason| reason.contains("greatest age of a stream, 1200 s")), "{reasons:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_of_an_issuer_opened_ends_when_it_is_removed() {
    let lasting = Lasting::opened().await;
    let file = lasting.world.sandbox.configuration();
    let text = fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once("  - name: sandbox ").unwrap();
    let (_, after) = rest.split_once("  - name: entra ").unwrap();
    // Nobody signs in at an issuer that is gone.
    let before = before.replace(", sign_in: {issuer: sandbox}", "");
    fs::write(&file, format!("{before}  - name: entra {after}")).unwrap();
    lasting.world.server.reload().await;
    lasting.judged("the issuer", "the issuer `sandbox` vouches for nobody here any more").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_opened_ends_when_they_are_revoked() {
    let lasting = Lasting::opened().await;
    let made =
        revoke(&lasting.world, "pat", json!({"principal": "sandbox:user-sam", "reason": "left"})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    lasting.judged("the person", "it was revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_opened_ends_when_it_is_revoked_and_the_persons_other_tokens_open_it_again() {
    let lasting = Lasting::opened().await;
    let id = claims(&lasting.token)["jti"].clone();
    let what = json!({"token": id, "issuer": "sandbox", "reason": "it was in a log"});
    let made = revoke(&lasting.world, "pat", what).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let again = short(&lasting.world, &lasting.clock);
    assert_eq!(lasting.world.bearing(&again).get(&jobs()).await.status, StatusCode::OK);
    lasting.judged("the token's good name", "it was revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_at_another_replica_ends_here() {
    let lasting = Lasting::opened().await;
    let settings = config::load(&lasting.world.sandbox.configuration()).unwrap();
    let Some(config::settings::Store::Sqlite(file)) = settings.store else {
        panic!("the sandbox keeps a file")
    };
    let store = Store::new(StoreAddress::Sqlite(file)).unwrap();
    let now = lasting.clock.now();
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
    store.revoke(revocation).await.unwrap();
    // Each replica looks twice a second.
    lasting.clock.advance(Duration::from_millis(500));
    lasting.judged("the person, elsewhere", "it was revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_approval_opened_ends_when_it_is_taken_back() {
    let lasting = Lasting::opened_where("", APPROVED).await;
    for grant in &lasting.grants {
        let path = format!("/api/v1/grants/{grant}/revoke");
        let revoked = approvals::call(&lasting.world, "pat", Method::POST, &path, Some(json!({}))).await;
        assert_eq!(revoked.status, StatusCode::OK, "{revoked:?}");
    }
    lasting.judged("the approval", "the approval of entry `ones ask` was taken back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_approval_opened_ends_when_its_time_is_over() {
    let lasting = Lasting::opened_where("", APPROVED).await;
    lasting.clock.advance(Duration::from_secs(301));
    lasting.judged("the approval", "the approval of entry `ones ask` is over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_glass_opened_ends_when_it_is_closed() {
    let lasting = Lasting::opened_where("break_glass: {who: [ones]}\n", FROZEN).await;
    let id = lasting.glass.clone().unwrap();
    let closed = break_glass::told(&lasting.world, "pat", &id, "close", json!({})).await;
    assert_eq!(closed.status, StatusCode::OK, "{closed:?}");
    lasting.judged("the break-glass", "entry `all is frozen` denies").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_glass_opened_ends_when_its_time_is_over() {
    let lasting = Lasting::opened_where("break_glass: {who: [ones], max: 5m}\n", FROZEN).await;
    lasting.clock.advance(Duration::from_secs(301));
    lasting.judged("the break-glass", "entry `all is frozen` denies").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_code_opened_ends_with_the_break_glass_that_it_was_for() {
    let lasting = Lasting::opened_by(Opens::Code, "break_glass: {who: [ones]}\n", FROZEN).await;
    let id = lasting.glass.clone().unwrap();
    let closed = break_glass::told(&lasting.world, "pat", &id, "close", json!({})).await;
    assert_eq!(closed.status, StatusCode::OK, "{closed:?}");
    lasting.judged("the code", "it was revoked").await;
}

/// What binds a tunnel to its caller is not its beginning: each request in it is asked whose it is.
#[tokio::test]
async fn a_tunnel_is_its_callers_for_as_long_as_the_token_lives_and_no_longer() {
    let clock = ManualClock::starting_at(SystemClock.now());
    let world = World::at(Changes::default(), Arc::new(clock.clone())).await;
    let soon = clock.now().as_secs() + 600;
    let sam = Person::named("sam").unwrap();
    let mint = world.sandbox.issuer.mint();
    let token = mint.token_with(sam, |claims| drop(claims.insert("exp".into(), soon.into()))).unwrap();
    let rita = format!("Bearer {}", mint.token(Person::named("rita").unwrap()).unwrap());
    let mut tunnel = Tunnel::with(&world, &token, "management.azure.com").await;
    assert_eq!(tunnel.get(&jobs()).await.status, StatusCode::OK);
    clock.advance(Duration::from_secs(700));
    assert_eq!(tunnel.get(&jobs()).await.status, StatusCode::UNAUTHORIZED);
    // Nobody else's token inside opens it again, and none inside makes another of its caller.
    let other = Request::get(jobs()).header(header::AUTHORIZATION, &rita);
    assert_eq!(tunnel.send(other, "").await.status, StatusCode::UNAUTHORIZED);
    let mut fresh = Tunnel::with(&world, &crate::forward::token(&world, "sam"), "management.azure.com").await;
    let other = Request::get(jobs()).header(header::AUTHORIZATION, &rita);
    assert_eq!(fresh.send(other, "").await.status, StatusCode::OK);
    drop((tunnel, fresh));
    let log = world.stop().await;
    assert!(log.requests().iter().all(|r| r["actor"]["user"]["uid"] != "sandbox:user-rita"));
}
