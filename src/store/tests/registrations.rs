//! Registrations that somebody tells of: each waits once, and one replica looks at it.

use super::*;

fn row(model: &str, event: &str, due: u64) -> RegistrationRow {
    RegistrationRow {
        model: model.to_lowercase(),
        named: model.to_owned(),
        resource: format!("/w/{model}"),
        hook: "vision".to_owned(),
        event: event.to_owned(),
        happened: at(900),
        due: at(due),
    }
}

#[tokio::test]
async fn what_is_told_waits_once_until_it_is_settled() {
    let bench = Bench::new().await;
    assert!(bench.store.keep_registration(row("M:1", "e1", 1_000), 10).await.unwrap());
    for again in [row("M:1", "e1", 2_000), row("M:1", "e2", 2_000)] {
        assert!(!bench.replica().keep_registration(again, 10).await.unwrap(), "it waits already");
    }
    assert_eq!(bench.store.due_registrations(at(999), 10).await.unwrap(), []);
    assert_eq!(bench.store.due_registrations(at(1_000), 10).await.unwrap(), [row("M:1", "e1", 1_000)]);
    bench.store.settle_registration("m:1", at(1_001)).await.unwrap();
    assert_eq!(bench.store.due_registrations(at(9_000), 10).await.unwrap(), []);
    assert!(
        !bench.store.keep_registration(row("M:1", "e1", 3_000), 10).await.unwrap(),
        "that was a repetition"
    );
    assert!(
        bench.store.keep_registration(row("M:1", "e3", 3_000), 10).await.unwrap(),
        "it was registered anew"
    );
    assert_eq!(bench.store.due_registrations(at(9_000), 10).await.unwrap(), [row("M:1", "e3", 3_000)]);
}

#[tokio::test]
async fn one_replica_looks_and_another_may_when_that_one_does_no_longer() {
    let bench = Bench::new().await;
    bench.store.keep_registration(row("m:1", "e", 1_000), 10).await.unwrap();
    assert!(bench.store.claim_registration("m:1", at(1_000), at(1_060)).await.unwrap());
    let other = bench.replica();
    assert!(!other.claim_registration("m:1", at(1_059), at(1_119)).await.unwrap());
    assert_eq!(other.due_registrations(at(1_059), 10).await.unwrap(), []);
    assert_eq!(other.due_registrations(at(1_060), 10).await.unwrap().len(), 1);
    assert!(other.claim_registration("m:1", at(1_060), at(1_120)).await.unwrap());
    other.settle_registration("m:1", at(1_061)).await.unwrap();
    assert!(!other.claim_registration("m:1", at(9_000), at(9_060)).await.unwrap(), "it is settled");
    other.forget_registrations(at(1_061)).await.unwrap();
    assert!(!other.keep_registration(row("m:1", "e", 1_000), 10).await.unwrap());
    other.forget_registrations(at(1_062)).await.unwrap();
    assert!(other.keep_registration(row("m:1", "e", 1_000), 10).await.unwrap());
}

#[tokio::test]
async fn no_more_wait_than_there_is_room_for() {
    let bench = Bench::new().await;
    for number in 0..3 {
        assert!(bench.store.keep_registration(row(&format!("m:{number}"), "e", 1_000), 3).await.unwrap());
    }
    assert_eq!(bench.store.keep_registration(row("m:3", "e", 1_000), 3).await, Err(StoreError::Busy));
    bench.store.settle_registration("m:0", at(1_001)).await.unwrap();
    assert!(bench.store.keep_registration(row("m:3", "e", 1_000), 3).await.unwrap());
}
