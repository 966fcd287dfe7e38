//! Jobs: each submission is kept, and none is changed by another.

use super::*;

fn row(job: &str, decision: &str, commit: Option<&str>) -> JobRow {
    JobRow {
        job: job.to_owned(),
        decision: decision.to_owned(),
        commit: commit.map(ToOwned::to_owned),
        made: at(1_000),
        about: "{\"why\":\"\u{1f512} 'quoted'\"}".to_owned(),
    }
}

#[tokio::test]
async fn a_submission_is_read_as_it_was_kept_by_whichever_replica() {
    let bench = Bench::new().await;
    for kept in [row("/w/jobs/a", "d1", Some("c0ffee")), row("/w/jobs/b", "d2", None)] {
        assert!(bench.store.keep_job(kept.clone()).await.unwrap());
        assert_eq!(bench.replica().job(&kept.job, &kept.decision).await.unwrap(), Some(kept));
    }
    assert_eq!(bench.store.job("/w/jobs/a", "d2").await.unwrap(), None, "it is another's decision");
    assert_eq!(bench.store.job("/w/jobs/c", "d1").await.unwrap(), None);
}

#[tokio::test]
async fn a_second_submission_of_a_name_leaves_the_first_as_it_was() {
    let bench = Bench::new().await;
    let first = row("/w/jobs/a", "d1", Some("c0ffee"));
    assert!(bench.store.keep_job(first.clone()).await.unwrap());
    assert!(bench.store.keep_job(row("/w/jobs/a", "d2", Some("beef"))).await.unwrap());
    assert_eq!(bench.store.job("/w/jobs/a", "d1").await.unwrap(), Some(first.clone()));
    assert!(!bench.store.keep_job(row("/w/jobs/a", "d1", Some("evil"))).await.unwrap());
    assert_eq!(bench.store.job("/w/jobs/a", "d1").await.unwrap(), Some(first));
}
