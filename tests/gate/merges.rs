//! What was merged is read from Gerrit: once each, however long the gate was away, and at once when
//! somebody hints at it.

use std::{sync::Arc, time::Duration};

use amlgate::{
    gates::review::merges::Merge,
    sandbox::azure::names,
    time::{Clock as _, ManualClock, SystemClock, Timestamp},
};
use serde_json::json;

use crate::{
    reviews::stand_in::{self, ANA, BO, Gerrit, Mood, TOKEN},
    world::{Changes, World},
};

/// A gate that reads what is merged to `main` of `ml/vision`, by a clock that is moved by hand.
async fn world(gerrit: &Gerrit) -> (World, ManualClock) {
    let clock = ManualClock::starting_at(SystemClock.now());
    gerrit.now(|g| g.clock = Some(clock.clone()));
    let block = format!(
        "gerrit:\n  - {{name: main, url: \"http://{}/r/\", user: amlgate, token: {{file: gerrit.token}}, watch: [{{project: ml/vision, branch: main}}]}}\npeople: {{canonical: entra, links: [{{gerrit: main, external_id: azure-oauth}}]}}\npolicies: policies/",
        gerrit.address
    );
    let changes = Changes { configuration: &[("policies: policies/", &block)], ..Changes::default() };
    (World::having_at(&[("gerrit.token", TOKEN)], changes, Arc::new(clock.clone())).await, clock)
}

/// What the gate has kept, in the order in which it was read.
async fn kept(world: &World) -> Vec<(Timestamp, Merge)> {
    let parts = world.server.parts();
    parts.gates.merges().since("main", "ml/vision", "main", Timestamp::default(), 1_000).await.unwrap()
}

/// Waits until so many merges are kept, while the clock moves on whenever nothing happens.
async fn until(world: &World, clock: &ManualClock, count: usize, step: Duration) -> Vec<(Timestamp, Merge)> {
    let mut changes = world.server.parts().gates.merges().changes();
    loop {
        changes.borrow_and_update();
        let found = kept(world).await;
        if found.len() >= count {
            return found;
        }
        if tokio::time::timeout(Duration::from_millis(50), changes.changed()).await.is_err() {
            clock.advance(step);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_is_read_with_its_people_and_kept_once_whatever_happens_to_it_later() {
    let gerrit = Gerrit::start().await;
    let (world, clock) = world(&gerrit).await;
    let long_ago = clock.now().minus(Duration::from_secs(86_400));
    // Somebody comments on what was merged before anybody watched.
    gerrit.now(|g| g.merges(1, long_ago, clock.now()));
    gerrit.now(|g| g.merges(2, clock.now(), clock.now()));
    // Whoever has left is nobody, and nobody's merge is of another branch.
    gerrit.now(|g| g.account(BO)["inactive"] = json!(true));
    gerrit.now(|g| {
        let mut other = stand_in::merged(9, clock.now());
        other["branch"] = json!("release");
        g.merged.push((clock.now(), other));
    });
    let found = until(&world, &clock, 1, Duration::from_secs(30)).await;
    let [(_, merge)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(
        (&*merge.server, merge.project.as_str(), merge.branch.as_str()),
        ("main", "ml/vision", "main")
    );
    assert_eq!((merge.number, merge.commit.as_str()), (2, format!("{:040x}", 2).as_str()));
    assert_eq!(merge.url, format!("http://{}/r/c/ml/vision/+/2", gerrit.address));
    let ana = format!("entra:{}/{}", names::TENANT, stand_in::oid(ANA));
    assert_eq!((merge.owner.account, merge.owner.person.as_deref()), (ANA, Some(&*ana)));
    assert_eq!(merge.uploader.person.as_deref(), Some(&*ana));
    let submitter = merge.submitter.as_ref().unwrap();
    assert_eq!(
        (submitter.account, submitter.name.as_deref(), submitter.person.as_deref()),
        (BO, Some("bo"), None)
    );
    // It is updated, and another one comes; the gate starts anew in between.
    let began = merge.merged;
    gerrit.now(|g| g.merges(2, began, clock.now()));
    let shared: amlgate::time::SharedClock = Arc::new(clock.clone());
    let world = world.started_anew(shared).await;
    gerrit.now(|g| g.merges(3, clock.now(), clock.now()));
    let found = until(&world, &clock, 2, Duration::from_secs(30)).await;
    assert_eq!(found.iter().map(|(_, merge)| merge.number).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missed_however_long_gerrit_was_away_and_however_much_was_merged() {
    let gerrit = Gerrit::start().await;
    let (world, clock) = world(&gerrit).await;
    gerrit.is_asked().await;
    gerrit.is(Mood::Status(503));
    let hour = Duration::from_secs(3_600);
    // Three days, in one of whose hours more is merged than a page of an answer holds.
    for number in 1..=190 {
        if number <= 70 {
            clock.advance(hour);
        }
        gerrit.now(|g| g.merges(number, clock.now(), clock.now()));
    }
    // Who took part cannot be asked at first.
    gerrit.is(Mood::FailsAt("/external.ids"));
    while !gerrit.asked().iter().any(|(_, path)| path.contains("/external.ids")) {
        clock.advance(Duration::from_secs(60));
        tokio::time::timeout(Duration::from_millis(50), gerrit.is_asked()).await.ok();
    }
    assert_eq!(kept(&world).await.len(), 0, "whose people are not known is not kept");
    gerrit.is(Mood::Well);
    let found = until(&world, &clock, 190, Duration::from_secs(60)).await;
    let mut numbers: Vec<_> = found.iter().map(|(_, merge)| merge.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=190).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_has_the_gate_ask_at_once_and_is_believed_in_nothing() {
    let gerrit = Gerrit::start().await;
    let (world, clock) = world(&gerrit).await;
    gerrit.is_asked().await;
    let parts = world.server.parts();
    gerrit.now(|g| g.merges(7, clock.now(), clock.now()));
    // Far less than the interval, and no more than what keeps hints from becoming a flood.
    let mut changes = parts.gates.merges().changes();
    let began = clock.now();
    loop {
        assert!(parts.gates.hints().give("main", "ml/vision"));
        if tokio::time::timeout(Duration::from_millis(50), changes.changed()).await.is_ok() {
            break;
        }
        clock.advance(Duration::from_millis(500));
        assert!(clock.now().since(began) < Duration::from_secs(30), "the hint came to nothing");
    }
    assert_eq!(kept(&world).await.len(), 1);
    // What nobody watches, nobody is asked about.
    assert!(!parts.gates.hints().give("main", "ml/other") && !parts.gates.hints().give("other", "ml/vision"));
}
