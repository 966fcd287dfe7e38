//! Runs: one for a trigger and a change, and one who works on it.

use super::*;

fn row(id: &str, change: u64) -> RunRow {
    RunRow {
        id: id.to_owned(),
        trigger: "train".to_owned(),
        server: "main".to_owned(),
        change,
        commit: "c0ffee".to_owned(),
        made: at(1_000),
        due: at(1_000),
        version: 0,
        about: "{}".to_owned(),
    }
}

#[tokio::test]
async fn a_change_is_run_once_and_worked_on_by_one() {
    let bench = Bench::new().await;
    let other = bench.replica();
    assert!(bench.store.keep_run(row("a", 42)).await.unwrap());
    assert!(!other.keep_run(row("b", 42)).await.unwrap(), "of two the first stays");
    assert!(other.keep_run(row("c", 43)).await.unwrap());
    assert_eq!(bench.store.runs_due(at(999), 9).await.unwrap(), []);
    let due = bench.store.runs_due(at(1_000), 9).await.unwrap();
    assert_eq!(due, [row("a", 42), row("c", 43)]);
    let mut taken = due[0].clone();
    assert!(bench.store.take_run(&taken, at(1_000), at(1_600)).await.unwrap());
    assert!(!other.take_run(&due[0], at(1_000), at(1_600)).await.unwrap());
    assert_eq!(other.runs_due(at(1_000), 9).await.unwrap(), [row("c", 43)]);
    taken.version += 1;
    "{\"x\":1}".clone_into(&mut taken.about);
    taken.due = at(2_000);
    assert!(bench.store.change_run(&taken, at(0)).await.unwrap());
    assert!(!bench.store.change_run(&taken, at(0)).await.unwrap(), "it is another since");
    taken.version += 1;
    assert_eq!(other.run_of("train", "main", 42, "c0ffee").await.unwrap(), Some(taken));
    assert_eq!(other.run_of("train", "main", 42, "beef").await.unwrap(), None);
}

#[tokio::test]
async fn what_nobody_gave_back_is_anybodys_when_its_lease_ends() {
    let bench = Bench::new().await;
    let other = bench.replica();
    assert!(bench.store.keep_run(row("a", 42)).await.unwrap());
    assert!(bench.store.take_run(&row("a", 42), at(1_000), at(1_600)).await.unwrap());
    assert_eq!(other.runs_due(at(1_599), 9).await.unwrap(), []);
    let due = other.runs_due(at(1_600), 9).await.unwrap();
    assert!(other.take_run(&due[0], at(1_600), at(2_200)).await.unwrap());
    // Whoever was late changes nothing any more.
    assert!(!bench.store.change_run(&RunRow { version: 1, ..row("a", 42) }, at(0)).await.unwrap());
    let mut over = due[0].clone();
    (over.version, over.due) = (2, NEVER);
    assert!(other.change_run(&over, at(0)).await.unwrap());
    assert_eq!(bench.store.runs_due(at(9_000_000), 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_trigger_begins_when_it_is_first_seen_and_never_looks_back() {
    let bench = Bench::new().await;
    let of = |trigger: &str| TriggerBranch {
        trigger: trigger.to_owned(),
        server: "main".to_owned(),
        project: "ml/vision".to_owned(),
        branch: "main".to_owned(),
    };
    let began = Looked { since: at(1_000), walked: at(1_000) };
    assert_eq!(bench.store.trigger_looked(of("train"), at(1_000)).await.unwrap(), began);
    bench.store.trigger_walked(of("train"), at(1_500)).await.unwrap();
    bench.store.trigger_walked(of("train"), at(1_200)).await.unwrap();
    let later = Looked { since: at(1_000), walked: at(1_500) };
    assert_eq!(bench.replica().trigger_looked(of("train"), at(2_000)).await.unwrap(), later);
    assert_eq!(bench.store.trigger_looked(of("other"), at(2_000)).await.unwrap().since, at(2_000));
}
