//! What is owed is kept until it is paid, and one replica at a time works on it.

use super::*;

fn row(id: &str, due: u64) -> OwedRow {
    OwedRow {
        id: id.to_owned(),
        decision: id.split('/').next().unwrap().to_owned(),
        made: at(10),
        due: at(due),
        answered: false,
        version: 0,
        about: "{}".to_owned(),
    }
}

async fn due(store: &Store, secs: u64) -> Vec<String> {
    store.owed(at(secs), 9).await.unwrap().into_iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn what_azure_took_is_due_at_once_and_what_it_did_not_is_owed_no_more() {
    let Bench { store, .. } = &Bench::new().await;
    store.owe(vec![row("a/0", 100), row("a/1", 100)]).await.unwrap();
    store.owe(vec![row("b/0", 90)]).await.unwrap();
    store.owe(vec![row("c/0", 80)]).await.unwrap();
    assert!(store.owe(vec![row("d/0", 70), row("a/0", 70)]).await.is_err(), "all of it or nothing");
    assert_eq!(due(store, 100).await, ["c/0", "b/0", "a/0", "a/1"]);
    store.settle_owed("a", Came::Taken, at(20)).await.unwrap();
    store.settle_owed("b", Came::Not, at(20)).await.unwrap();
    store.settle_owed("c", Came::Unknown, at(20)).await.unwrap();
    let found = store.owed(at(20), 9).await.unwrap();
    assert!(found.iter().all(|row| row.answered && row.decision == "a"), "{found:?}");
    assert_eq!(due(store, 100).await, ["a/0", "a/1", "c/0"]);
    assert_eq!(store.next_owed().await.unwrap(), Some(at(20)));
    store.paid("a/0").await.unwrap();
    store.put_off_owed("a/1", 1, at(500), "{}").await.unwrap();
    assert_eq!(store.next_owed().await.unwrap(), Some(at(80)));
    // Only what was taken: of the other nobody knows anything yet.
    store.hurry_owed(at(30)).await.unwrap();
    assert_eq!(due(store, 30).await, ["a/1"]);
}

#[tokio::test]
async fn of_two_replicas_one_works_on_a_row() {
    let bench = Bench::new().await;
    bench.store.owe(vec![row("a/0", 10)]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for store in [bench.replica(), bench.replica(), bench.store.clone(), bench.replica()] {
        tasks.spawn(async move { store.put_off_owed("a/0", 0, at(99), "{\"stated\":1}").await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.iter().filter(|claimed| **claimed).count(), 1);
    let found = bench.store.owed(at(99), 9).await.unwrap();
    assert_eq!((found[0].version, &*found[0].about), (1, "{\"stated\":1}"));
    assert_eq!(due(&bench.store, 98).await, Vec::<String>::new());
}
