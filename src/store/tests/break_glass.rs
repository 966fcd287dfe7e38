//! Break-glass: there is one at a time, on whichever replica, and one change of it counts.

use super::*;

fn row(id: &str, slot: &str) -> GlassRow {
    GlassRow {
        id: id.to_owned(),
        version: 0,
        state: "open".to_owned(),
        slot: slot.to_owned(),
        person: "corp:ann".to_owned(),
        made: at(1_000),
        due: at(2_000),
        about: "{\"why\":\"\u{1f512} 'quoted'\"}".to_owned(),
    }
}

#[tokio::test]
async fn of_many_who_break_the_glass_at_once_one_does() {
    let bench = Bench::new().await;
    let stores: Vec<_> = (0..2).map(|_| bench.replica()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..8 {
        let store = stores[i % 2].clone();
        tasks.spawn(async move { store.begin_glass(row(&format!("g{i}"), CURRENT)).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.iter().filter(|won| **won).count(), 1);
    let current = bench.store.current_glass().await.unwrap().unwrap();
    assert_eq!(current, row(&current.id, CURRENT), "it is read as it was kept");
    assert_eq!(bench.store.glass(&current.id).await.unwrap(), Some(current.clone()));
    // Once its slot is left, there may be another.
    let left = GlassRow { version: 1, state: "reviewed".into(), slot: current.id.clone(), ..current.clone() };
    assert!(bench.store.change_glass(left).await.unwrap());
    assert_eq!(bench.store.current_glass().await.unwrap(), None);
    let next = GlassRow { made: at(1_001), ..row("next", CURRENT) };
    assert!(bench.store.begin_glass(next).await.unwrap());
    let all = bench.store.glasses(None, 9).await.unwrap();
    assert_eq!(all.iter().map(|row| &*row.id).collect::<Vec<_>>(), ["next", &*current.id]);
    let older = bench.store.glasses(Some((all[0].made, all[0].id.clone())), 9).await.unwrap();
    assert_eq!(older.len(), 1);
}

#[tokio::test]
async fn of_two_who_change_it_at_once_one_counts_and_the_other_replica_hears_of_it() {
    let bench = Bench::new().await;
    assert!(bench.store.begin_glass(row("g", CURRENT)).await.unwrap());
    let theirs = bench.replica();
    let (seen, found) = theirs.glass_changed(None).await.unwrap().unwrap();
    assert_eq!(found, Some(row("g", CURRENT)));
    assert_eq!(theirs.glass_changed(Some(seen)).await.unwrap(), None, "nothing is new");
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..8 {
        let store = if i % 2 == 0 { bench.store.clone() } else { theirs.clone() };
        let changed = GlassRow { version: 1, state: format!("s{i}"), ..row("g", CURRENT) };
        tasks.spawn(async move { store.change_glass(changed).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.iter().filter(|won| **won).count(), 1);
    let (next, found) = theirs.glass_changed(Some(seen)).await.unwrap().unwrap();
    assert!(next > seen && found.is_some_and(|row| row.version == 1));
}
