//! Codes for a break-glass: of many who come with one, on whichever replica, one spends it.

use super::*;

fn row(tag: &str, person: &str) -> CodeRow {
    CodeRow {
        tag: tag.to_owned(),
        person: person.to_owned(),
        made: at(1_000),
        expires: at(2_000),
        sealed: "sealed".to_owned(),
    }
}

#[tokio::test]
async fn of_many_who_come_with_a_code_at_once_one_spends_it_and_what_opened_nothing_comes_back() {
    let bench = Bench::new().await;
    bench.store.replace_codes("ann", vec![row("a", "ann"), row("b", "ann")]).await.unwrap();
    let stores = [bench.replica(), bench.replica()];
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..8 {
        let store = stores[i % 2].clone();
        tasks.spawn(async move { store.spend_code("a", &format!("g{i}"), at(1_500)).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.iter().filter(|spent| **spent).count(), 1);
    assert_eq!(bench.store.offline_code("a", at(1_500)).await.unwrap(), None);
    assert_eq!(bench.store.offline_code("b", at(1_500)).await.unwrap(), Some(row("b", "ann")));
    assert_eq!(bench.store.offline_code("b", at(2_000)).await.unwrap(), None, "it is over");
    assert!(!bench.store.spend_code("b", "g", at(2_000)).await.unwrap());
    assert!(bench.store.spend_code("b", "g", at(1_999)).await.unwrap());
    assert!(!bench.store.return_code("b", "other").await.unwrap(), "by whoever spent it alone");
    assert!(bench.store.return_code("b", "g").await.unwrap());
    assert!(bench.store.spend_code("b", "h", at(1_999)).await.unwrap());
}

#[tokio::test]
async fn a_new_set_takes_the_place_of_what_its_holder_has_left_and_of_nothing_else() {
    let bench = Bench::new().await;
    bench.store.replace_codes("ann", vec![row("a", "ann"), row("b", "ann")]).await.unwrap();
    bench.store.replace_codes("bob", vec![row("c", "bob")]).await.unwrap();
    assert!(bench.store.spend_code("a", "g", at(1_500)).await.unwrap());
    bench.store.replace_codes("ann", vec![row("d", "ann")]).await.unwrap();
    assert_eq!(bench.store.codes_left("ann", at(1_500)).await.unwrap(), [at(2_000)]);
    assert_eq!(bench.store.codes_left("bob", at(1_500)).await.unwrap(), [at(2_000)]);
    assert_eq!(bench.store.codes_left("bob", at(2_000)).await.unwrap(), []);
    assert_eq!(bench.store.offline_code("b", at(1_500)).await.unwrap(), None);
    assert!(!bench.store.return_code("b", "g").await.unwrap());
    assert!(bench.store.forget_expired(at(2_000)).await.unwrap() >= 3);
    assert!(!bench.store.return_code("a", "g").await.unwrap(), "it is forgotten");
}
