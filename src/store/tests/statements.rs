//! Statements: kept once, found by model and by time, on whichever replica.

use super::*;

fn row(id: &str, model: &str, decision: &str, secs: u64) -> StatementRow {
    StatementRow {
        id: id.to_owned(),
        model: model.to_lowercase(),
        tail: model.to_lowercase().chars().rev().take(3).collect::<String>().chars().rev().collect(),
        named: model.to_owned(),
        digest: "azuremlAssetId:00ff".to_owned(),
        decision: decision.to_owned(),
        made: at(secs),
        provenance: "{\"payload\":\"\u{1f512} 'quoted'\"}".to_owned(),
        summary: "{}".to_owned(),
    }
}

fn ids(rows: &[StatementRow]) -> Vec<&str> {
    rows.iter().map(|row| &*row.id).collect()
}

#[tokio::test]
async fn a_decision_states_a_model_once_whichever_replica_is_asked() {
    let bench = Bench::new().await;
    let stores: Vec<_> = (0..2).map(|_| bench.replica()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..8 {
        let store = stores[i % 2].clone();
        tasks
            .spawn(async move { store.keep_statement(row(&format!("s{i}"), "M/1", "d", 10)).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.iter().filter(|kept| **kept).count(), 1);
    let found = bench.store.statements_of("m/1", 9).await.unwrap();
    assert_eq!(found, [row(&found[0].id, "M/1", "d", 10)], "it is read as it was kept");
    // Another decision, and another model under the same decision (a job that registers two).
    assert!(bench.store.keep_statement(row("later", "M/1", "e", 11)).await.unwrap());
    assert!(bench.store.keep_statement(row("beside", "M/2", "d", 10)).await.unwrap());
    let found = bench.store.statements_of("m/1", 9).await.unwrap();
    assert_eq!((found.len(), &*found[0].id), (2, "later"), "the newest first");
    assert_eq!(bench.store.statements_of("m/1", 1).await.unwrap().len(), 1);
    assert_eq!(bench.store.statements_of("m/3", 9).await.unwrap(), []);
    // The same name elsewhere.
    assert!(bench.store.keep_statement(row("elsewhere", "other/M/1", "f", 12)).await.unwrap());
    let called = bench.store.statements_called("m/1", 9).await.unwrap();
    assert_eq!(ids(&called)[..2], ["elsewhere", "later"]);
    assert_eq!(called.len(), 3);
}

#[tokio::test]
async fn what_was_stated_before_a_time_is_found_page_by_page_without_loss() {
    let bench = Bench::new().await;
    for (id, secs) in [("a", 1), ("b", 2), ("c", 2), ("d", 2), ("e", 3), ("f", 4)] {
        assert!(bench.store.keep_statement(row(id, id, id, secs)).await.unwrap());
    }
    let before = |secs, id: &'static str| {
        let store = bench.store.clone();
        async move { store.statements_before(at(secs), id, &Below::Everything, 2).await.unwrap() }
    };
    let first = before(4, "").await;
    assert_eq!(ids(&first), ["e", "d"], "of the instant itself nothing is before it");
    let second = before(2, "d").await;
    assert_eq!(ids(&second), ["c", "b"]);
    assert_eq!(ids(&before(2, "b").await), ["a"]);
    assert!(before(1, "a").await.is_empty());
}

#[tokio::test]
async fn a_statement_is_found_by_its_id_and_those_of_a_model_by_its_path() {
    let bench = Bench::new().await;
    for (id, model) in [("a", "w/m/1"), ("b", "w/m2/1"), ("c", "W/M/10"), ("d", "v/m/1"), ("e", "w/m_/1")] {
        let tail = model.to_lowercase();
        let row = StatementRow { tail, ..row(id, &format!("s/{model}"), id, 5) };
        assert!(bench.store.keep_statement(row).await.unwrap());
    }
    let one = bench.store.statement("c").await.unwrap().unwrap();
    assert_eq!((&*one.named, &*one.model), ("s/W/M/10", "s/w/m/10"));
    assert_eq!(bench.store.statement("z").await.unwrap(), None);
    let below = |below: Below| {
        let store = bench.store.clone();
        async move {
            let found = store.statements_before(at(9), "", &below, 9).await.unwrap();
            ids(&found).concat()
        }
    };
    assert_eq!(below(Below::Everything).await, "edcba");
    assert_eq!(below(Below::Tail("w".to_owned())).await, "ecba");
    assert_eq!(below(Below::Tail("w/m".to_owned())).await, "ca", "and of no model that begins alike");
    assert_eq!(below(Below::Tail("w/m/1".to_owned())).await, "a", "nor of a version that does");
    assert_eq!(below(Below::Id("s/w/m".to_owned())).await, "ca");
    assert_eq!(below(Below::Id("w/m".to_owned())).await, "");
}
