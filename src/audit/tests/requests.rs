//! What the request path sees of the journal.

use std::{future::Future, time::Duration};

use http::{HeaderMap, Method};

use super::*;
use crate::{
    azureml::{
        Act, Action, Audience, Effects, Facts, Kind, Operation, Protocol, ResourceId, SecretClass, Secrets,
    },
    gates::{Cleared, Gates},
    http::Target,
    identity::{Caller, Groups, Principal, PrincipalId, PrincipalKind},
    policy::{DecisionId, Denied, FileSet, PolicySet, RequestFacts, Standing, Surroundings, decide},
};

pub(super) const WORKSPACE: &str =
    "/subscriptions/s1/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/vision";

pub(super) fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

pub(super) fn caller() -> Caller {
    Caller {
        id: PrincipalId { issuer: "corp".into(), subject: "tid/oid-ann".into() },
        kind: PrincipalKind::Person,
        tenant: Some("tid".into()),
        client: Some("app-1".into()),
        display: Some("Ann".into()),
        groups: Groups::Known(["g1".into(), "g2".into()].into()),
        roles: Arc::new([]),
        claims: Arc::default(),
        expires: now().plus(Duration::from_secs(3_600)),
        from_pull_request: false,
        subjects_at_issue: None,
        reviewers: None,
        human: None,
        token_digest: [9; 32],
    }
}

pub(super) fn operation(kind: Kind, action: &str) -> Operation {
    Operation {
        name: "Jobs_Test".into(),
        acts: vec![Act {
            action: Action::new(&format!("Microsoft.MachineLearningServices/workspaces/{action}")),
            resource: ResourceId::parse(WORKSPACE),
        }],
        kind,
        effects: Effects::NONE,
        unclear_effects: Effects::NONE,
        secrets: Secrets::NONE,
        facts: Facts::default(),
        audience: Audience::Arm,
        long_running: false,
        protocol: Protocol::Arm,
    }
}

pub(super) fn request(method: Method, target: &str) -> RequestFacts {
    RequestFacts {
        decision: DecisionId::fresh(),
        route: "arm".into(),
        method,
        target: Target::parse("gate", target).unwrap(),
        headers: HeaderMap::new(),
        body: None,
        source: "10.1.2.3:4000".parse().unwrap(),
        received: now(),
        glass: None,
    }
}

pub(super) fn policies() -> PolicySet {
    let text = "version: 1\nsubjects:\n  team: [{issuer: corp, group: g1}]\nallow:\n  - name: team works\n    who: [team]\n    \
                actions: ['Microsoft.MachineLearningServices/workspaces/jobs/*', 'Microsoft.MachineLearningServices/workspaces/onlineEndpoints/listKeys/action']\n    \
                secrets: {endpoint_key: reveal}\n    scope: /subscriptions/s1\n";
    let files = FileSet::from_texts([("team.yaml", text)]);
    PolicySet::compile(&files, &Surroundings::default()).unwrap_or_else(|p| panic!("{p:?}")).0
}

pub(super) fn judged(
    operation: Operation,
    request: RequestFacts,
    caller: Caller,
) -> Result<Cleared, Box<Denied>> {
    let principal = Principal::for_tests(caller);
    let permit = decide(
        &policies(),
        principal,
        operation,
        request,
        Standing::Entries,
        crate::policy::Azure::default(),
        now(),
    )?;
    Ok(Gates::new(Arc::new(ManualClock::starting_at(now()))).clear(permit).unwrap())
}

fn cleared(kind: Kind) -> Cleared {
    let (method, action) = match kind {
        Kind::Read => (Method::GET, "jobs/read"),
        Kind::Write => (Method::PUT, "jobs/write"),
        Kind::Delete => (Method::DELETE, "jobs/delete"),
        Kind::Action => (Method::POST, "jobs/cancel/action"),
    };
    judged(operation(kind, action), request(method, "/x"), caller()).unwrap()
}

fn plain() -> Exchange {
    Exchange::default()
}

/// Polls once.
async fn begun<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(out) => Some(out),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn an_intent_is_durable_before_the_request_goes_on_and_its_outcome_follows() {
    for kind in [Kind::Write, Kind::Delete, Kind::Action] {
        let disk = FaultyDisk::default();
        let (journal, _) = open(&disk, &settings());
        let mut recorded = journal.intend(cleared(kind), plain()).await.unwrap();
        assert_eq!(story(&disk.after_power_loss(Tear::Cut(0))), ["intent"]);
        recorded.outcome().answered(201, Some("corr-1"));
        recorded.outcome().ended(Ending::Completed);
        drop(recorded);
        assert!(journal.close().await);
        assert_eq!(story(&disk), ["intent", "completed", "stopped"]);
        let both = records(&disk);
        assert_eq!(both[0]["unmapped"]["amlgate"]["decision"], both[1]["unmapped"]["amlgate"]["decision"]);
        assert_eq!(both[1]["http_response"]["code"], 201);
    }
}

#[tokio::test]
async fn a_plain_read_is_one_record_and_nobody_waits_for_the_disk() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    disk.suffer(Trouble::Hangs);
    let mut recorded = journal.intend(cleared(Kind::Read), plain()).await.unwrap();
    recorded.outcome().answered(200, None);
    let mut outcome = recorded.into_outcome();
    outcome.received(7);
    outcome.ended(Ending::Completed);
    drop(outcome);
    disk.suffer(Trouble::None);
    assert!(journal.close().await);
    assert_eq!(story(&disk), ["completed", "stopped"]);
    assert_eq!(records(&disk)[0]["http_response"]["body_length"], 7);
}

#[tokio::test]
async fn a_read_that_returns_secrets_or_upgrades_is_no_plain_read() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    let mut keys = operation(Kind::Read, "onlineEndpoints/listKeys/action");
    keys.secrets = Secrets::NONE.with(SecretClass::EndpointKey);
    let keys = judged(keys, request(Method::POST, "/x"), caller()).unwrap();
    drop(journal.intend(keys, plain()).await.unwrap());
    let upgrade = Exchange { upgrade: true, ..plain() };
    let mut recorded = journal.intend(cleared(Kind::Read), upgrade).await.unwrap();
    recorded.outcome().established().await.unwrap();
    recorded.outcome().ended(Ending::Ended);
    drop(recorded);
    journal.close().await;
    assert_eq!(story(&disk), ["intent", "aborted", "intent", "established", "ended", "stopped"]);
}

#[tokio::test]
async fn a_caller_who_hangs_up_while_the_intent_is_written_leaves_an_outcome() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    disk.suffer(Trouble::Hangs);
    let mut intent = Box::pin(journal.intend(cleared(Kind::Write), plain()));
    assert!(begun(&mut intent).await.is_none());
    drop(intent);
    disk.suffer(Trouble::None);
    assert!(journal.close().await);
    assert_eq!(story(&disk), ["intent", "aborted", "stopped"]);
}

#[tokio::test]
async fn a_disk_that_hangs_holds_no_request_for_longer_than_the_bound() {
    let disk = FaultyDisk::default();
    let clock = Arc::new(ManualClock::starting_at(now()));
    let (journal, _) = open_at(&disk, &settings(), Arc::clone(&clock)).unwrap();
    disk.suffer(Trouble::Hangs);
    let mut intent = Box::pin(journal.intend(cleared(Kind::Write), plain()));
    assert!(begun(&mut intent).await.is_none());
    clock.advance(Duration::from_millis(4_999));
    assert!(begun(&mut intent).await.is_none());
    clock.advance(Duration::from_millis(1));
    assert!(intent.await.is_err());
    disk.suffer(Trouble::None);
    assert!(journal.close().await);
    assert_eq!(story(&disk), ["intent", "not_sent", "stopped"]);
}

#[tokio::test]
async fn without_a_place_in_time_nothing_goes_on_and_what_is_under_way_keeps_its_own() {
    let disk = FaultyDisk::default();
    let clock = Arc::new(ManualClock::starting_at(now()));
    let three = JournalSettings { slots: 3, ..settings() };
    let (journal, _) = open_at(&disk, &three, Arc::clone(&clock)).unwrap();
    let mut under_way = Vec::new();
    for _ in 0..2 {
        under_way.push(journal.intend(cleared(Kind::Write), plain()).await.unwrap());
    }
    // A write needs two places, and one is free.
    let mut third = Box::pin(journal.intend(cleared(Kind::Write), plain()));
    assert!(begun(&mut third).await.is_none());
    clock.advance(Duration::from_millis(50));
    assert!(third.await.is_err());
    let read = journal.intend(cleared(Kind::Read), plain()).await.unwrap();
    let denied =
        judged(operation(Kind::Read, "models/read"), request(Method::GET, "/x"), caller()).unwrap_err();
    let mut denial = Box::pin(journal.denied(&denied));
    assert!(begun(&mut denial).await.is_none());
    clock.advance(Duration::from_millis(50));
    assert_eq!(denial.await, Err(Unwritable));
    drop((under_way, read));
    assert!(journal.close().await);
    let story = story(&disk);
    assert_eq!(story.iter().filter(|s| *s == "aborted").count(), 3, "{story:?}");
}

#[tokio::test]
async fn a_refused_intent_leaves_no_outcome() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    disk.suffer(Trouble::Dead);
    let refused = journal.intend(cleared(Kind::Write), plain()).await.unwrap_err();
    assert_eq!(refused.cleared.permit().operation().kind, Kind::Write);
    disk.suffer(Trouble::None);
    assert!(journal.close().await);
    assert_eq!(story(&disk), ["record_resumed", "stopped"]);
}

#[tokio::test]
async fn when_the_disk_fails_reads_are_refused_until_it_recovers_by_itself() {
    // Each is met differently: no segment can be begun, one is broken, the heads cannot be signed.
    for (trouble, before) in [(Trouble::Space(0), 0), (Trouble::Dead, 1), (Trouble::Heads, 1)] {
        let disk = FaultyDisk::default();
        let (journal, _) = open(&disk, &settings());
        for number in 0..before {
            journal.happened(&event(number)).await.unwrap();
        }
        disk.suffer(trouble);
        if trouble == Trouble::Heads {
            journal.sign_head();
        } else {
            assert!(journal.happened(&event(8)).await.is_err());
        }
        until(|| journal.condition() != Condition::Healthy);
        assert!(journal.intend(cleared(Kind::Read), plain()).await.is_err(), "{trouble:?}");
        disk.suffer(Trouble::None);
        // Nothing is written, and still the next head finds that the disk is good again.
        journal.sign_head();
        until(|| journal.condition() == Condition::Healthy);
        drop(journal.intend(cleared(Kind::Read), plain()).await.unwrap());
        assert!(journal.close().await, "{trouble:?}");
        verified(&disk).unwrap();
    }
}

/// Waits for another thread; the test ends by its own timeout if it never comes.
fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn with_best_effort_reads_go_on_when_the_disk_fails_and_what_fits_is_recorded_later() {
    let disk = FaultyDisk::default();
    let lax = JournalSettings { reads: Reads::BestEffort, slots: 2, ..settings() };
    let clock = Arc::new(ManualClock::starting_at(now()));
    let (journal, _) = open_at(&disk, &lax, Arc::clone(&clock)).unwrap();
    disk.suffer(Trouble::Dead);
    assert!(journal.happened(&event(0)).await.is_err());
    for _ in 0..5 {
        // None waits for a place: the clock stands still.
        let mut recorded = journal.intend(cleared(Kind::Read), plain()).await.unwrap();
        recorded.outcome().ended(Ending::Completed);
    }
    let mut write = Box::pin(journal.intend(cleared(Kind::Delete), plain()));
    assert!(begun(&mut write).await.is_none());
    clock.advance(Duration::from_millis(50));
    assert!(write.await.is_err());
    disk.suffer(Trouble::None);
    assert!(journal.close().await);
    assert_eq!(story(&disk), ["record_resumed", "completed", "completed", "stopped"]);
    let told = &records(&disk)[0]["unmapped"]["amlgate"];
    assert_eq!((&told["refused"], &told["unrecorded_reads"]), (&1.into(), &3.into()), "{told}");
}

#[tokio::test]
async fn a_record_waits_for_the_sync_in_progress_and_its_own_and_no_other() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    journal.happened(&event(0)).await.unwrap();
    let before = disk.syncs();
    disk.suffer(Trouble::Hangs);
    let mut waiting = Vec::new();
    for number in 1..=256 {
        let journal = journal.clone();
        let mut one = Box::pin(async move { journal.happened(&event(number)).await });
        assert!(begun(&mut one).await.is_none());
        waiting.push(one);
    }
    disk.suffer(Trouble::None);
    for one in waiting {
        one.await.unwrap();
    }
    // The writer held at most what had come when the disk began to hang, and then all the rest.
    assert!(disk.syncs() - before <= 2, "{}", disk.syncs() - before);
    assert_eq!(generations(&disk), (0..=256).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_closed_journal_refuses_everything() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    assert!(journal.close().await);
    assert!(journal.intend(cleared(Kind::Write), plain()).await.is_err());
    assert!(journal.intend(cleared(Kind::Read), plain()).await.is_err());
    assert!(journal.happened(&event(1)).await.is_err());
    assert!(matches!(journal.condition(), Condition::Failing { .. }));
}

#[tokio::test]
async fn intents_without_an_end_are_told_at_the_next_start_whichever_segment_they_are_in() {
    let disk = FaultyDisk::default();
    let small = JournalSettings { segment_bytes: 3_000, ..settings() };
    let (journal, _) = open(&disk, &small);
    let lost = journal.intend(cleared(Kind::Write), plain()).await.unwrap();
    let mut upgrade =
        journal.intend(cleared(Kind::Read), Exchange { upgrade: true, ..plain() }).await.unwrap();
    upgrade.outcome().established().await.unwrap();
    let expected: Vec<String> = [&lost, &upgrade].map(|r| r.permit().decision().to_string()).into();
    for _ in 0..5 {
        drop(journal.intend(cleared(Kind::Delete), plain()).await.unwrap());
    }
    journal.happened(&event(1)).await.unwrap();
    let found = disk.after_kill();
    assert!(segment_names(&found).unwrap().len() > 3);
    let (journal, recovery) = open(&found, &small);
    assert_eq!(recovery.unresolved, expected);
    journal.close().await;
    let told =
        records(&found).into_iter().find(|r| r["unmapped"]["amlgate"]["event"] == "recovered").unwrap();
    assert_eq!(told["unmapped"]["amlgate"]["unresolved_count"], 2);
    // Told once.
    let (_journal, recovery) = open(&found.after_kill(), &small);
    assert_eq!(recovery.unresolved, Vec::<String>::new());
}

#[tokio::test]
async fn after_a_rotation_of_the_key_old_and_new_heads_verify_in_their_order_only() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    journal.happened(&event(0)).await.unwrap();
    journal.close().await;
    let old = key(&disk);
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let rotated = JournalSettings { signing_key: SecretString::from(pem), ..settings() };
    let (journal, _) = open(&disk, &rotated);
    journal.happened(&event(1)).await.unwrap();
    journal.close().await;
    assert!(story(&disk).contains(&"signing_key_changed".to_owned()));
    assert_eq!(verified(&disk).unwrap().heads, 2);
    assert!(verified_by(&disk, &old, &[]).is_err(), "who knows only the old key is told");
    // Whoever stole the old key cannot sign behind the new one.
    let (journal, _) = open(&disk.clone(), &settings());
    journal.happened(&event(2)).await.unwrap();
    journal.close().await;
    let newest_two = {
        let text = key(&disk).to_string();
        note::VerifierKeys::parse(&text.lines().take(2).collect::<Vec<_>>().join("\n")).unwrap()
    };
    assert!(verified_by(&disk, &newest_two, &[]).is_err());
    verified(&disk).unwrap();
}

#[test]
fn two_processes_on_one_directory_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let settings = JournalSettings { directory: directory.path().to_owned(), ..settings() };
    let mac = Seal::new([&SecretString::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")])
        .unwrap()
        .mac(Purpose::Thumbprint);
    let clock: crate::time::SharedClock = Arc::new(ManualClock::starting_at(now()));
    let (first, _) = Journal::open(&settings, mac.clone(), Arc::clone(&clock)).unwrap();
    let error = Journal::open(&settings, mac.clone(), Arc::clone(&clock)).unwrap_err();
    assert!(error.to_string().contains("give each a directory of its own"), "{error}");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(async { first.happened(&event(1)).await.is_ok() && first.close().await }));
    drop(first);
    // A program that another test is just starting has the lock, too, until it runs.
    let mut again = std::iter::repeat_with(|| Journal::open(&settings, mac.clone(), Arc::clone(&clock)));
    again.by_ref().take(1_000).find_map(Result::ok).unwrap();
}
