//! A database that goes away under the whole gate and comes back: what needs it is denied and says why,
//! everything else goes on, nothing is half done, and nobody has to start anything again.
//!
//! On SQLite its tables are taken away. Where `AMLGATE_TEST_POSTGRES` names a server (the interop suite
//! starts one), the same is done to a PostgreSQL by cutting the line to it.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use amlgate::time::{Clock as _, ManualClock, SystemClock};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use sqlx::{AnyPool, Row as _};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    api,
    approvals::{answer, call, recorded},
    world::{Answer, Changes, Log, VERSION, World, job, whole, workspace},
};

const POLICIES: &str = "version: 1
subjects:
  scientists: [{issuer: sandbox, group: data-science}]
  platform: [{issuer: sandbox, group: platform}]
allow:
  - {name: all work, who: [scientists, platform], actions: [Microsoft.MachineLearningServices/*]}
  - {name: all ask, who: [authenticated], actions: [amlgate/requests/*, amlgate/grants/*, amlgate/break-glass/*, amlgate/revocations/*]}
require:
  - {name: jobs need a second person, who: [scientists], actions: [Microsoft.MachineLearningServices/workspaces/jobs/write], approval: {by: [{subject: platform}]}}
";
const GLASS: &str = "break_glass: {who: [scientists]}\npolicies: policies/";
/// Long enough for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(60);

/// What can be taken away.
enum Database {
    Sqlite(PathBuf),
    Postgres(watch::Sender<bool>),
}

impl Database {
    /// It goes, or comes back.
    async fn is_there(&self, there: bool) {
        match self {
            Self::Sqlite(file) => named(file, if there { ("away_", "") } else { ("", "away_") }).await,
            Self::Postgres(line) => drop(line.send_replace(there)),
        }
    }
}

/// Gives all tables of a file that begin with `from` another beginning, all at once.
async fn named(file: &std::path::Path, (from, to): (&str, &str)) {
    sqlx::any::install_default_drivers();
    let pool = AnyPool::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let mut all = pool.begin().await.unwrap();
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table'");
    for table in tables.fetch_all(&mut *all).await.unwrap() {
        let name: String = table.get(0);
        let Some(rest) =
            name.strip_prefix(from).filter(|rest| !rest.starts_with('_') && !rest.starts_with("sqlite"))
        else {
            continue;
        };
        let rename = sqlx::AssertSqlSafe(format!("ALTER TABLE {name} RENAME TO {to}{rest}"));
        sqlx::query(rename).execute(&mut *all).await.unwrap();
    }
    all.commit().await.unwrap();
    pool.close().await;
}

/// A fresh database of the server at `url`, its URL by way of a line that can be cut, and the line.
async fn on_a_line(url: &str) -> (String, watch::Sender<bool>) {
    sqlx::any::install_default_drivers();
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    let server = AnyPool::connect(url).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&server).await.unwrap();
    server.close().await;
    let (before, rest) = url.split_once('@').unwrap();
    let (address, _) = rest.split_once('/').unwrap();
    let to: SocketAddr = address.parse().unwrap();
    let (cut, line) = watch::channel(true);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut line = line.clone();
            tokio::spawn(async move {
                if !*line.borrow_and_update() {
                    return;
                }
                let Ok(mut far) = TcpStream::connect(to).await else { return };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = line.changed() => {}
                }
            });
        }
    });
    (format!("{before}@{own}/{name}"), cut)
}

fn target(name: &str) -> String {
    workspace(&format!("/jobs/{name}?{VERSION}"))
}

async fn put(world: &World, by: &str, name: &str) -> Answer {
    world.caller(by).put(&target(name), &job()).await
}

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// A job of sam's that needs an approval, and is asked for; the request's id.
async fn asked(world: &World, name: &str) -> String {
    let refused = put(world, "sam", name).await;
    assert_eq!(code(&refused), "ApprovalRequired", "{refused:?}");
    let body = json!({"decision": refused.header("x-amlgate-decision"), "reason": "to retrain"});
    let made = call(world, "sam", Method::POST, "/api/v1/requests", Some(body)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    made.json()["requests"][0]["id"].as_str().unwrap().to_owned()
}

/// A job of sam's that waits for its approval.
async fn held(world: &World, name: &str) -> (JoinHandle<Answer>, String) {
    let mut connection = world.connect().await;
    let request = world
        .caller("sam")
        .request(Method::PUT, &target(name))
        .header(header::CONTENT_TYPE, "application/json")
        .header("prefer", "wait=110")
        .body(whole(job().to_string()))
        .unwrap();
    let held = tokio::spawn(async move { Answer::of(connection.send_request(request).await.unwrap()).await });
    let id = timeout(SOON, async {
        loop {
            let listed =
                call(world, "pat", Method::GET, "/api/v1/requests?show=to_answer", None).await.json();
            let all = listed["requests"].as_array().unwrap().clone();
            let resource = json!(format!("/jobs/{name}"));
            let own = all.iter().find(|one| {
                one["what"]["resources"][0].as_str().unwrap().ends_with(resource.as_str().unwrap())
            });
            if let Some(own) = own {
                return own["id"].as_str().unwrap().to_owned();
            }
            assert!(!held.is_finished(), "it does not wait");
        }
    });
    let id = id.await.unwrap();
    (held, id)
}

async fn readyz(world: &World) -> String {
    api::ask(world, api::request(world, Method::GET, "/readyz").body(whole("")).unwrap()).await.text()
}

fn sent(world: &World, name: &str) -> usize {
    world.sandbox.azure.observer().seen_at(&format!("/jobs/{name}")).len()
}

/// What is denied while it is away: each with a cause, and nothing is done.
async fn is_denied(world: &World, pending: &str) {
    for name in ["one", "two", "three"] {
        let denied = put(world, "sam", name).await;
        assert_eq!(
            (denied.status, &*code(&denied)),
            (StatusCode::FORBIDDEN, "ApprovalRequired"),
            "{denied:?}"
        );
        assert!(denied.text().contains("approvals cannot be looked up now"), "{denied:?}");
    }
    let opening = json!({"reason": "the store is down"});
    let revoking = json!({"principal": "sandbox:user-rita", "reason": "left"});
    let decision = json!({"decision": "01938000-0000-7000-8000-000000000000"});
    for (by, method, path, body) in [
        ("pat", Method::POST, format!("/api/v1/requests/{pending}/approve"), Some(json!({}))),
        ("pat", Method::GET, "/api/v1/requests?show=to_answer".to_owned(), None),
        ("sam", Method::GET, "/api/v1/grants".to_owned(), None),
        ("sam", Method::POST, "/api/v1/break-glass".to_owned(), Some(opening)),
        ("pat", Method::POST, "/api/v1/revocations".to_owned(), Some(revoking)),
    ] {
        let refused = call(world, by, method, &path, body).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {refused:?}");
        assert_eq!(refused.header("retry-after"), "1", "{path}");
        assert!(refused.text().contains("the store"), "{path}: {refused:?}");
    }
    let unknown = call(world, "sam", Method::POST, "/api/v1/requests", Some(decision)).await;
    assert!(!unknown.status.is_success(), "{unknown:?}");
}

async fn goes_and_comes_back(world: World, clock: ManualClock, database: Database) -> Log {
    let granted = asked(&world, "one").await;
    assert_eq!(answer(&world, "pat", &granted, "approve").await.status, StatusCode::OK);
    let pending = asked(&world, "two").await;
    let (waits, waiting) = held(&world, "held").await;
    // Others see the request before its caller's gate has heard that it is kept; once that has, it is recorded.
    let kept = async {
        while recorded(&world, "approval_asked") < 3 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, kept).await.expect("that it was asked for is recorded");

    database.is_there(false).await;
    // Whatever is known of it is old.
    clock.advance(Duration::from_secs(6));
    is_denied(&world, &pending).await;
    let read = world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await;
    assert_eq!(read.status, StatusCode::OK, "{read:?}");
    let plain = put(&world, "pat", "plain").await;
    assert!(plain.status.is_success(), "{plain:?}");
    let ready = readyz(&world).await;
    assert!(ready.contains("what needs it is denied"), "{ready}");
    assert!(!waits.is_finished(), "who waits goes on waiting: {:?}", waits.await);

    database.is_there(true).await;
    let back = timeout(SOON, async {
        loop {
            // Every look of the gate at its store is half a second after the one before.
            clock.advance(Duration::from_millis(500));
            let passed = put(&world, "sam", "one").await;
            if passed.status.is_success() {
                return;
            }
            assert_eq!(code(&passed), "ApprovalRequired", "{passed:?}");
        }
    });
    back.await.expect("it comes back by itself");
    let ready = readyz(&world).await;
    assert!(!ready.contains("what needs it is denied"), "{ready}");
    // What was begun while it was away has not happened.
    let still = call(&world, "pat", Method::GET, &format!("/api/v1/requests/{pending}"), None).await.json();
    assert_eq!((&still["state"], &still["votes"]), (&json!("pending"), &json!([])), "{still}");
    let glass = call(&world, "pat", Method::GET, "/api/v1/break-glass", None).await.json();
    assert_eq!(glass["break_glass"], json!([]), "{glass}");
    for (name, count) in [("one", 1), ("two", 0), ("three", 0), ("held", 0)] {
        assert_eq!(sent(&world, name), count, "{name}");
    }
    assert_eq!(code(&put(&world, "sam", "one").await), "ApprovalRequired", "it was good once");
    for id in [&pending, &waiting] {
        assert_eq!(answer(&world, "pat", id, "approve").await.status, StatusCode::OK);
    }
    assert!(put(&world, "sam", "two").await.status.is_success());
    let waited = timeout(SOON, waits).await.unwrap().unwrap();
    assert!(waited.status.is_success(), "{waited:?}");
    let log = world.stop().await;
    for (event, count) in [("grant_given", 3), ("grant_used", 3), ("break_glass_opened", 0)] {
        assert_eq!(log.events(event).len(), count, "{event}");
    }
    let phases = |decision: &Value| {
        let own = log.requests().into_iter().map(|record| &record["unmapped"]["amlgate"]);
        own.filter(|own| own["decision"] == *decision).map(|own| own["phase"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(phases(&json!(plain.header("x-amlgate-decision"))), ["intent", "outcome"]);
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_a_gate_denies_what_needs_it_and_goes_on_when_it_is_back() {
    let clock = ManualClock::starting_at(SystemClock.now());
    let configuration = [("policies: policies/", GLASS)];
    let changes = Changes { policies: Some(POLICIES), configuration: &configuration };
    let world = World::at(changes, Arc::new(clock.clone())).await;
    let file = world.directory().join("var/amlgate.db");
    goes_and_comes_back(world, clock, Database::Sqlite(file)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_line_to_its_postgresql_a_gate_does_the_same() {
    // Where there is none, the interop suite does this.
    let Ok(url) = std::env::var("AMLGATE_TEST_POSTGRES") else { return };
    let (url, line) = on_a_line(&url).await;
    let clock = ManualClock::starting_at(SystemClock.now());
    let store = ("store: {sqlite: var/amlgate.db}", "store: {postgres: {url: {file: database.url}}}");
    let configuration = [("policies: policies/", GLASS), store];
    let changes = Changes { policies: Some(POLICIES), configuration: &configuration };
    let files = [("database.url", url.as_str())];
    let world = World::having_at(&files, changes, Arc::new(clock.clone())).await;
    goes_and_comes_back(world, clock, Database::Postgres(line)).await;
}
