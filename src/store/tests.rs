//! The same claims on SQLite, and on the PostgreSQL that `AMLGATE_TEST_POSTGRES` names: the interop
//! suite starts one and runs these tests again.

mod approvals;
mod break_glass;
mod jobs;
mod merges;
mod offline_codes;
mod owed;
mod registrations;
mod runs;
mod statements;

use super::*;

/// A store of its own for each test.
struct Bench {
    store: Store,
    address: StoreAddress,
    _directory: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = match std::env::var("AMLGATE_TEST_POSTGRES") {
            Ok(url) => database(&url).await,
            Err(_) => StoreAddress::Sqlite(directory.path().join("new folder/amlgate?#.db")),
        };
        let store = Store::new(address.clone()).unwrap();
        Self { store, address, _directory: directory }
    }

    /// A second gate over the same state.
    fn replica(&self) -> Store {
        Store::new(self.address.clone()).unwrap()
    }

    fn on_sqlite(&self) -> bool {
        matches!(self.address, StoreAddress::Sqlite(_))
    }
}

/// A fresh database of a server.
async fn database(url: &str) -> StoreAddress {
    sqlx::any::install_default_drivers();
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    let server = AnyPool::connect(url).await.unwrap();
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::query(create).execute(&server).await.unwrap();
    server.close().await;
    let mut url = url.parse::<AnyConnectOptions>().unwrap().database_url;
    url.set_path(&name);
    StoreAddress::Postgres(url.to_string().into())
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn session(id: &str, subject: &str, issuer_session: Option<&str>) -> SessionRow {
    SessionRow {
        id: id.to_owned(),
        version: 0,
        issuer: "corp".to_owned(),
        subject: subject.to_owned(),
        issuer_session: issuer_session.map(ToOwned::to_owned),
        sealed: "sealed".to_owned(),
        created: at(1_800_000_000),
        seen: at(1_800_000_000),
        expires: at(1_800_003_600),
    }
}

fn revocation(id: &str, issued_before: Option<Timestamp>) -> Revocation {
    Revocation {
        id: id.to_owned(),
        kind: RevocationKind::Principal,
        issuer: "corp".to_owned(),
        value: "sub-of-ada".to_owned(),
        issued_before,
        made: at(100),
        expires: at(1_000),
        by: "corp:operator".to_owned(),
        reason: "a lost laptop; 'quoted' \u{1f512}".to_owned(),
    }
}

#[tokio::test]
async fn a_replica_hears_of_a_change_when_it_is_made() {
    let bench = Bench::new().await;
    let theirs = bench.replica();
    let mut heard = theirs.heard();
    if bench.on_sqlite() {
        // Nobody else has the file open: there is nothing to hear, and nothing is made up.
        bench.store.revoke(revocation("a", None)).await.unwrap();
        tokio::select! {
            biased;
            () = theirs.listen() => unreachable!(),
            () = theirs.changed(&mut heard) => panic!("heard of what nobody told"),
            () = std::future::ready(()) => {}
        }
        return;
    }
    let listening = theirs.clone();
    let listening = tokio::spawn(async move { listening.listen().await });
    let hears = async |heard: &mut Heard| {
        tokio::time::timeout(Duration::from_secs(30), theirs.changed(heard)).await.expect("nothing is heard")
    };
    // That it listens now: what was told before may have been missed.
    hears(&mut heard).await;
    bench.store.revoke(revocation("a", None)).await.unwrap();
    hears(&mut heard).await;
    assert_eq!(theirs.revocations(None, at(200)).await.unwrap().unwrap().list.len(), 1);
    assert!(bench.store.lift_revocation("a").await.unwrap());
    hears(&mut heard).await;
    listening.abort();
}

#[tokio::test]
async fn a_session_is_read_as_it_was_kept() {
    let bench = Bench::new().await;
    for row in [session("a", "ada", Some("s1")), session("b", "ada", None)] {
        bench.store.begin_session(row.clone()).await.unwrap();
        assert_eq!(bench.replica().session(&row.id).await.unwrap(), Some(row));
    }
    assert_eq!(bench.store.session("c").await.unwrap(), None);
    assert!(bench.store.begin_session(session("a", "eve", None)).await.is_err(), "an id is taken once");
}

#[tokio::test]
async fn of_two_who_change_a_session_one_wins() {
    let bench = Bench::new().await;
    let row = session("a", "ada", None);
    bench.store.begin_session(row.clone()).await.unwrap();
    let stores: Vec<_> = (0..2).map(|_| bench.replica()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..10 {
        let (store, row) = (stores[i % 2].clone(), row.clone());
        tasks.spawn(async move {
            store.renew_session(&row, format!("by {i}"), at(1_800_000_060), row.expires).await.unwrap()
        });
    }
    let won = tasks.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    let after = bench.store.session("a").await.unwrap().unwrap();
    assert_eq!(after.version, 1);
    assert!(bench.store.renew_session(&after, "next".to_owned(), after.seen, after.expires).await.unwrap());
}

#[tokio::test]
async fn sessions_end_one_by_one_by_subject_or_by_the_issuers_session() {
    let bench = Bench::new().await;
    for (id, subject, sid) in
        [("a", "ada", Some("s1")), ("b", "ada", Some("s2")), ("c", "ada", None), ("d", "ben", Some("s1"))]
    {
        bench.store.begin_session(session(id, subject, sid)).await.unwrap();
    }
    let end = async |subject: Option<&str>, sid: Option<&str>| {
        let ended = bench.store.end_sessions("corp", subject, sid).await.unwrap();
        let mut ended: Vec<_> = ended.into_iter().map(|(id, _)| id).collect();
        ended.sort();
        ended
    };
    assert_eq!(end(None, None).await, Vec::<String>::new(), "nobody is named");
    assert_eq!(bench.store.end_sessions("other", Some("ada"), None).await.unwrap(), []);
    assert_eq!(end(Some("ada"), Some("s1")).await, ["a"]);
    assert_eq!(end(None, Some("s1")).await, ["d"]);
    assert_eq!(end(Some("ada"), None).await, ["b", "c"]);
    bench.store.begin_session(session("e", "eve", None)).await.unwrap();
    assert!(bench.store.end_session("e").await.unwrap());
    assert!(!bench.store.end_session("e").await.unwrap());
}

#[tokio::test]
async fn what_may_be_used_once_is_used_once_by_whichever_replica() {
    let bench = Bench::new().await;
    let stores: Vec<_> = (0..2).map(|_| bench.replica()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..20 {
        let store = stores[i % 2].clone();
        tasks.spawn(async move { store.spend("logout", "jti-1", at(100)).await.unwrap() });
    }
    let first = tasks.join_all().await.into_iter().filter(|first| *first).count();
    assert_eq!(first, 1);
    assert!(bench.store.spend("logout", "jti-2", at(100)).await.unwrap());
    assert!(bench.store.spend("other", "jti-1", at(100)).await.unwrap(), "purposes do not mix");
}

#[tokio::test]
async fn replicas_see_revocations_and_read_them_only_when_they_changed() {
    let bench = Bench::new().await;
    let other = bench.replica();
    let before = other.revocations(None, at(1)).await.unwrap().unwrap();
    assert_eq!((before.version, before.list.len()), (0, 0));
    assert_eq!(other.revocations(Some(0), at(1)).await.unwrap(), None);
    let both = [revocation("r1", None), revocation("r2", Some(at(99)))];
    for one in &both {
        bench.store.revoke(one.clone()).await.unwrap();
    }
    let after = other.revocations(Some(0), at(1)).await.unwrap().unwrap();
    assert_eq!((after.version, after.list), (2, both.to_vec()));
    assert!(bench.store.lift_revocation("r1").await.unwrap());
    assert!(!bench.store.lift_revocation("r1").await.unwrap());
    let lifted = other.revocations(Some(2), at(1)).await.unwrap().unwrap();
    assert_eq!(lifted.list, both[1..]);
    let late = other.revocations(None, at(1_000)).await.unwrap().unwrap();
    assert_eq!(late.list, [], "what nothing can be refused by any more is left out");
}

#[tokio::test]
async fn what_has_ended_is_forgotten_and_the_rest_stays() {
    let bench = Bench::new().await;
    bench.store.begin_session(session("a", "ada", None)).await.unwrap();
    bench.store.spend("logout", "old", at(10)).await.unwrap();
    bench.store.spend("logout", "new", at(1_800_009_999)).await.unwrap();
    bench.store.revoke(revocation("r", None)).await.unwrap();
    assert_eq!(bench.store.forget_expired(at(999)).await.unwrap(), 1);
    assert_eq!(bench.store.forget_expired(at(1_800_003_600)).await.unwrap(), 2);
    assert!(!bench.store.spend("logout", "new", at(1_800_009_999)).await.unwrap());
}

#[tokio::test]
async fn a_newer_store_is_refused_and_an_own_one_opens_again() {
    let bench = Bench::new().await;
    assert_eq!(bench.store.check().await.unwrap().version, None);
    bench.store.prepare().await.unwrap();
    let checked = bench.store.check().await.unwrap();
    assert_eq!((checked.version, checked.damage.len()), (Some(checked.known), 0));
    bench.replica().prepare().await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT 9000, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
    )
    .execute(&bench.store.inner.pool)
    .await
    .unwrap();
    let error = bench.replica().prepare().await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 9_000, .. }), "{error}");
    let asked = bench.replica().session("a").await.unwrap_err();
    assert!(asked.to_string().contains("version 9000"), "{asked}");
}

#[tokio::test]
async fn a_backup_is_a_store_of_its_own_and_overwrites_nothing() {
    let bench = Bench::new().await;
    bench.store.begin_session(session("a", "ada", None)).await.unwrap();
    let copy = bench._directory.path().join("copy.db");
    let made = bench.store.backup(&copy).await;
    if !bench.on_sqlite() {
        assert!(made.unwrap_err().to_string().contains("pg_dump"));
        return;
    }
    made.unwrap();
    assert!(bench.store.backup(&copy).await.is_err(), "it is there already");
    let restored = Store::new(StoreAddress::Sqlite(copy.clone())).unwrap();
    assert_eq!(restored.session("a").await.unwrap().unwrap().subject, "ada");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(copy).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_said_so_and_the_store_recovers() {
    let dead =
        Store::new(StoreAddress::Postgres("postgres://u:hunter2@127.0.0.1:1/x".to_owned().into())).unwrap();
    let error = dead.session("a").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_) | StoreError::Late), "{error}");
    assert_eq!(dead.failure().as_deref(), Some(&error));
    assert!(!format!("{dead:?} {error} {error:?}").contains("hunter2"));
    let bench = Bench::new().await;
    assert_eq!(bench.store.session("a").await, Ok(None));
    assert_eq!(bench.store.failure(), None);
}

#[tokio::test]
async fn a_url_that_says_nothing_of_protection_is_refused_off_this_machine() {
    let open = |url: &str| Store::new(StoreAddress::Postgres(url.to_owned().into())).map(drop);
    for url in ["", "mysql://h/x", "postgres://u:hunter2@db.example.com/x", "postgres://[::g]/x"] {
        let error = open(url).unwrap_err().to_string();
        assert!(
            error.starts_with("the URL of the store cannot be used") && !error.contains("hunter2"),
            "{error}"
        );
    }
    for url in [
        "postgres://u:p@db.example.com/x?sslmode=verify-full",
        "postgres://u:p@localhost/x",
        "postgres://u:p@[::1]:5432/x",
        "postgresql:///x?host=/run/postgresql",
    ] {
        open(url).unwrap();
    }
}
