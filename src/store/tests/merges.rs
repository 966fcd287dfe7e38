//! Merges: each is kept once, by whichever replica, and what was read stays read.

use super::*;

fn row(number: u64, branch: &str, seen: u64) -> MergeRow {
    MergeRow {
        server: "main".to_owned(),
        project: "ml/vision".to_owned(),
        branch: branch.to_owned(),
        number,
        commit: format!("{number:040x}"),
        merged: at(900),
        seen: at(seen),
        about: "{\"subject\":\"\u{1f512} 'quoted'\"}".to_owned(),
    }
}

#[tokio::test]
async fn a_merge_is_kept_once_by_whichever_replica_reads_of_it_first() {
    let bench = Bench::new().await;
    assert!(bench.store.keep_merge(row(1, "main", 1_000)).await.unwrap());
    let again = MergeRow { about: "evil".to_owned(), ..row(1, "main", 2_000) };
    assert!(!bench.replica().keep_merge(again).await.unwrap());
    let kept = bench.store.merges_since("main", "ml/vision", "main", at(0), 10).await.unwrap();
    assert_eq!(kept, [row(1, "main", 1_000)], "as the first read of it");
    let amended = MergeRow { commit: "f".repeat(40), ..row(1, "main", 1_001) };
    assert!(bench.store.keep_merge(amended).await.unwrap(), "another commit is another merge");
}

#[tokio::test]
async fn merges_are_found_in_the_order_in_which_they_were_read_from_an_instant_on() {
    let bench = Bench::new().await;
    for kept in [row(3, "main", 1_003), row(1, "main", 1_001), row(2, "main", 1_002), row(4, "next", 1_002)] {
        assert!(bench.store.keep_merge(kept).await.unwrap());
    }
    let found = async |branch: &str, since, most| {
        let found = bench.store.merges_since("main", "ml/vision", branch, at(since), most).await.unwrap();
        found.iter().map(|row| row.number).collect::<Vec<_>>()
    };
    assert_eq!(found("main", 1_002, 10).await, [2, 3]);
    assert_eq!(found("main", 0, 2).await, [1, 2]);
    assert_eq!(found("next", 0, 10).await, [4]);
    assert_eq!(bench.store.merges_since("other", "ml/vision", "main", at(0), 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_branch_is_watched_from_the_first_look_and_read_ever_further() {
    let bench = Bench::new().await;
    let watched = async |store: &Store, since| {
        let row = store.watched("main", "ml/vision", "main", at(since)).await.unwrap();
        (row.since, row.walked)
    };
    assert_eq!(watched(&bench.store, 100).await, (at(100), at(100)));
    assert_eq!(watched(&bench.replica(), 500).await, (at(100), at(100)), "somebody looked before");
    bench.store.walked("main", "ml/vision", "main", at(300)).await.unwrap();
    bench.replica().walked("main", "ml/vision", "main", at(200)).await.unwrap();
    assert_eq!(watched(&bench.store, 600).await, (at(100), at(300)), "what was read stays read");
    bench.store.walked("main", "ml/vision", "next", at(900)).await.unwrap();
    assert_eq!(watched(&bench.store, 600).await, (at(100), at(300)), "another branch is another matter");
}
