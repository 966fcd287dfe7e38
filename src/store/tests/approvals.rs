//! Requests, grants and uses: what only one may do, one does, on whichever replica.

use super::*;

fn row(id: &str, waiting: &str) -> RequestRow {
    RequestRow {
        id: id.to_owned(),
        version: 0,
        state: "pending".to_owned(),
        waiting: waiting.to_owned(),
        person: "corp:ann".to_owned(),
        made: at(1_000),
        expires: at(2_000),
        decided: None,
        asked: "{\"why\":\"\u{1f512} 'quoted'\"}".to_owned(),
        votes: "[]".to_owned(),
    }
}

fn most(waiting: u32) -> AskBounds {
    AskBounds { waiting, made: 1_000, since: at(0) }
}

fn grant(id: &str, uses: i64) -> GrantRow {
    GrantRow {
        id: id.to_owned(),
        version: 0,
        state: "active".to_owned(),
        bound: "bound".to_owned(),
        person: "corp:ann".to_owned(),
        uses,
        used: 0,
        made: at(1_000),
        expires: at(2_000),
        terms: "{}".to_owned(),
    }
}

fn used(id: &str, resend: &str, secs: u64) -> UseRow {
    UseRow {
        id: id.to_owned(),
        version: 0,
        grant: "g".to_owned(),
        resend: resend.to_owned(),
        decision: format!("decision of {id}"),
        state: "open".to_owned(),
        tries: 1,
        at: at(secs),
    }
}

/// A store with one grant, approved out of a request.
async fn granted(bench: &Bench, uses: i64) {
    bench.store.ask_approval(row("r", "bound"), most(9)).await.unwrap();
    let approved = RequestRow {
        version: 1,
        state: "approved".to_owned(),
        waiting: "r".to_owned(),
        decided: Some(at(1_001)),
        ..row("r", "")
    };
    assert!(bench.store.change_request(approved, Some(grant("g", uses))).await.unwrap());
}

#[tokio::test]
async fn of_the_same_call_one_request_waits_at_a_time_whoever_asks_at_once() {
    let bench = Bench::new().await;
    let stores: Vec<_> = (0..2).map(|_| bench.replica()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..10 {
        let store = stores[i % 2].clone();
        tasks
            .spawn(async move { store.ask_approval(row(&format!("r{i}"), "bound"), most(9)).await.unwrap() });
    }
    let asked = tasks.join_all().await;
    assert_eq!(asked.iter().filter(|asked| **asked == Asked::New).count(), 1);
    let waiting = bench.store.waiting_request("bound").await.unwrap().unwrap();
    for other in asked.iter().filter(|asked| **asked != Asked::New) {
        assert_eq!(*other, Asked::Waits(Box::new(waiting.clone())));
    }
    assert_eq!(waiting, row(&waiting.id, "bound"), "it is read as it was kept");
    assert_eq!(bench.store.approval_request(&waiting.id).await.unwrap(), Some(waiting.clone()));
    // Once it is decided the same call may be asked about again.
    let over = RequestRow { version: 1, state: "denied".to_owned(), waiting: waiting.id.clone(), ..waiting };
    assert!(bench.store.change_request(over, None).await.unwrap());
    assert_eq!(bench.store.waiting_request("bound").await.unwrap(), None);
    assert_eq!(bench.store.ask_approval(row("next", "bound"), most(9)).await.unwrap(), Asked::New);
}

#[tokio::test]
async fn a_person_has_so_many_requests_waiting_and_no_more() {
    let bench = Bench::new().await;
    for i in 0..3 {
        let asked = bench.store.ask_approval(row(&format!("r{i}"), &format!("b{i}")), most(2)).await.unwrap();
        assert_eq!(asked == Asked::TooMany, i == 2, "{asked:?}");
    }
    let other = RequestRow { person: "corp:bob".to_owned(), ..row("r9", "b9") };
    assert_eq!(bench.store.ask_approval(other, most(2)).await.unwrap(), Asked::New);
}

#[tokio::test]
async fn a_person_makes_so_many_requests_in_a_time_whatever_becomes_of_them() {
    let bench = Bench::new().await;
    let bounds = AskBounds { waiting: 1, made: 3, since: at(999) };
    for i in 0..4 {
        let id = format!("r{i}");
        let asked = bench.store.ask_approval(row(&id, "bound"), bounds).await.unwrap();
        assert_eq!(asked, if i == 3 { Asked::TooOften } else { Asked::New });
        let back =
            RequestRow { version: 1, state: "withdrawn".to_owned(), waiting: id.clone(), ..row(&id, "") };
        assert_eq!(bench.store.change_request(back, None).await.unwrap(), i < 3);
    }
    let other = RequestRow { person: "corp:bob".to_owned(), ..row("r9", "bound") };
    assert_eq!(bench.store.ask_approval(other, bounds).await.unwrap(), Asked::New);
    let later = AskBounds { since: at(1_000), ..bounds };
    assert_eq!(bench.store.ask_approval(row("r10", "b"), later).await.unwrap(), Asked::New);
}

#[tokio::test]
async fn however_many_grants_are_used_up_the_one_that_is_left_is_found_and_the_calls_own_behind_it() {
    let bench = Bench::new().await;
    for i in 0..40 {
        let id = format!("r{i:02}");
        bench.store.ask_approval(row(&id, "bound"), most(9)).await.unwrap();
        let approved =
            RequestRow { version: 1, state: "approved".to_owned(), waiting: id.clone(), ..row(&id, "") };
        let one = GrantRow { expires: at(2_000 + i), ..grant(&format!("g{i:02}"), 1) };
        assert!(bench.store.change_request(approved, Some(one)).await.unwrap());
        if i < 39 {
            let call = UseRow { grant: format!("g{i:02}"), ..used(&format!("u{i:02}"), "same", 1_000 + i) };
            assert_eq!(bench.store.take_use(call, at(999 + i)).await.unwrap(), Taken::Yes);
            bench.store.settle_use(&format!("u{i:02}"), Settled::Known).await.unwrap();
        }
    }
    let ids = async |resend: Option<&str>| {
        let found = bench.store.grants_for("bound", resend, at(1_100)).await.unwrap();
        found.into_iter().map(|(grant, _)| grant.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None).await, ["g39"]);
    assert_eq!(ids(Some("another")).await, ["g39"]);
    assert_eq!(ids(Some("same")).await[..3], ["g39", "g38", "g37"]);
}

#[tokio::test]
async fn of_two_who_answer_at_once_one_counts_and_the_grant_comes_with_it() {
    let bench = Bench::new().await;
    bench.store.ask_approval(row("r", "bound"), most(9)).await.unwrap();
    let stores: Vec<_> = (0..2).map(|_| bench.replica()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..8 {
        let store = stores[i % 2].clone();
        tasks.spawn(async move {
            let state = if i % 2 == 0 { "approved" } else { "denied" };
            let answered = RequestRow {
                version: 1,
                state: state.to_owned(),
                waiting: "r".to_owned(),
                decided: Some(at(1_001)),
                votes: format!("[{i}]"),
                ..row("r", "")
            };
            let brings = (i % 2 == 0).then(|| grant(&format!("g{i}"), 1));
            store.change_request(answered, brings).await.unwrap().then_some(i)
        });
    }
    let won: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(won.len(), 1, "{won:?}");
    let after = bench.store.approval_request("r").await.unwrap().unwrap();
    assert_eq!((after.version, &*after.votes), (1, &*format!("[{}]", won[0])));
    let grants = bench.store.grants_for("bound", None, at(1_500)).await.unwrap();
    assert_eq!(grants.len(), usize::from(won[0] % 2 == 0), "a grant exactly if it was approved");
    assert_eq!(grants.is_empty(), after.state == "denied");
}

#[tokio::test]
async fn a_grant_is_used_as_often_as_it_says_under_any_race() {
    for (uses, wanted) in [(1, 1), (3, 3), (0, 20)] {
        let bench = Bench::new().await;
        granted(&bench, uses).await;
        let stores: Vec<_> = (0..2).map(|_| bench.replica()).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..20 {
            let store = stores[i % 2].clone();
            tasks.spawn(async move {
                store.take_use(used(&format!("u{i}"), &format!("call {i}"), 1_500), at(900)).await.unwrap()
            });
        }
        let taken = tasks.join_all().await.into_iter().filter(|taken| *taken == Taken::Yes).count();
        assert_eq!(taken, wanted, "{uses}");
    }
}

#[tokio::test]
async fn the_same_call_sent_twice_at_once_takes_one_use() {
    let bench = Bench::new().await;
    granted(&bench, 5).await;
    let stores: Vec<_> = (0..2).map(|_| bench.replica()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..10 {
        let store = stores[i % 2].clone();
        tasks.spawn(
            async move { store.take_use(used(&format!("u{i}"), "same", 1_500), at(900)).await.unwrap() },
        );
    }
    let taken = tasks.join_all().await;
    assert_eq!(taken.iter().filter(|taken| **taken == Taken::Yes).count(), 1);
    assert_eq!(taken.iter().filter(|taken| **taken == Taken::Again).count(), 9);
    let grants = bench.store.grants_for("bound", Some("same"), at(1_500)).await.unwrap();
    assert_eq!((grants[0].0.used, grants[0].1.as_ref().unwrap().state.as_str()), (1, "open"));
    // It was answered: what comes next is another call.
    let id = grants[0].1.as_ref().unwrap().id.clone();
    bench.store.settle_use(&id, Settled::Known).await.unwrap();
    assert_eq!(bench.store.take_use(used("next", "same", 1_501), at(901)).await.unwrap(), Taken::Yes);
}

#[tokio::test]
async fn what_never_reached_azure_is_given_back_and_what_may_have_is_not() {
    let bench = Bench::new().await;
    granted(&bench, 1).await;
    let last = async || bench.store.grants_for("bound", Some("c"), at(1_500)).await.unwrap().remove(0);
    assert_eq!(bench.store.take_use(used("u1", "c", 1_400), at(900)).await.unwrap(), Taken::Yes);
    bench.store.settle_use("u1", Settled::Back).await.unwrap();
    assert_eq!((last().await.0.used, last().await.1), (0, None));
    assert_eq!(bench.store.take_use(used("u2", "c", 1_401), at(900)).await.unwrap(), Taken::Yes);
    bench.store.settle_use("u2", Settled::Unknown).await.unwrap();
    let read = last().await.1.unwrap();
    assert_eq!((read.state.as_str(), read.tries), ("unknown", 1));
    assert!(bench.store.take_again(&read, at(1_402)).await.unwrap());
    assert!(!bench.store.take_again(&read, at(1_402)).await.unwrap(), "of two one goes again");
    // The second attempt did not reach it; the first may have.
    bench.store.settle_use("u2", Settled::Back).await.unwrap();
    let read = last().await.1.unwrap();
    assert_eq!((read.state.as_str(), read.tries, last().await.0.used), ("unknown", 1, 1));
    assert!(bench.store.revoke_grant("g", at(1_403)).await.unwrap());
    assert!(!bench.store.take_again(&read, at(1_404)).await.unwrap(), "it was taken back");
}

#[tokio::test]
async fn a_grant_that_was_taken_back_or_is_over_is_used_no_more_and_replicas_hear_of_it() {
    let bench = Bench::new().await;
    granted(&bench, 0).await;
    let other = bench.replica();
    let (version, revoked) = other.approvals_changed(None, at(1_500)).await.unwrap().unwrap();
    assert_eq!(revoked, Vec::<String>::new());
    assert_eq!(other.approvals_changed(Some(version), at(1_500)).await.unwrap(), None);
    assert_eq!(bench.store.take_use(used("late", "c", 2_000), at(900)).await.unwrap(), Taken::No, "over");
    assert!(bench.store.revoke_grant("g", at(1_500)).await.unwrap());
    assert!(!bench.store.revoke_grant("g", at(1_500)).await.unwrap());
    assert_eq!(bench.store.take_use(used("u", "c", 1_501), at(900)).await.unwrap(), Taken::No);
    assert_eq!(bench.store.grants_for("bound", None, at(1_501)).await.unwrap(), []);
    let (_, revoked) = other.approvals_changed(Some(version), at(1_501)).await.unwrap().unwrap();
    assert_eq!(revoked, ["g"]);
    let (_, revoked) = other.approvals_changed(Some(version), at(2_000)).await.unwrap().unwrap();
    assert_eq!(revoked, Vec::<String>::new(), "it would be over anyhow");
}

#[tokio::test]
async fn what_is_over_ends_once_on_one_replica() {
    let bench = Bench::new().await;
    granted(&bench, 0).await;
    bench.store.ask_approval(row("waits", "other"), most(9)).await.unwrap();
    let other = bench.replica();
    assert_eq!(other.expire_requests(at(1_999)).await.unwrap(), []);
    let (one, two) = tokio::join!(bench.store.expire_requests(at(2_000)), other.expire_requests(at(2_000)));
    let ended = [one.unwrap(), two.unwrap()].concat();
    assert_eq!(ended.iter().map(|row| (&*row.id, &*row.state)).collect::<Vec<_>>(), [("waits", "expired")]);
    let (one, two) = tokio::join!(bench.store.expire_grants(at(2_000)), other.expire_grants(at(2_000)));
    let ended = [one.unwrap(), two.unwrap()].concat();
    assert_eq!(ended.iter().map(|row| (&*row.id, &*row.state)).collect::<Vec<_>>(), [("g", "expired")]);
    assert_eq!(bench.store.approval_request("r").await.unwrap().unwrap().state, "approved");
}

#[tokio::test]
async fn refused_calls_are_remembered_for_a_time_and_so_many_of_each_person() {
    let bench = Bench::new().await;
    let call = |decision: &str, entry: &str, person: &str, secs| CallRow {
        decision: decision.to_owned(),
        entry: entry.to_owned(),
        person: person.to_owned(),
        made: at(secs),
        expires: at(secs + 100),
        about: "{}".to_owned(),
    };
    let both = vec![call("d1", "b", "corp:ann", 1), call("d1", "a", "corp:ann", 1)];
    bench.store.remember_calls(both.clone(), 4).await.unwrap();
    bench.store.remember_calls(both.clone(), 4).await.unwrap();
    let known = bench.store.refused_call("d1", at(2)).await.unwrap();
    assert_eq!(known, [both[1].clone(), both[0].clone()]);
    bench.store.remember_calls(vec![call("d0", "a", "corp:bob", 0)], 4).await.unwrap();
    for i in 2..6 {
        bench.store.remember_calls(vec![call(&format!("d{i}"), "a", "corp:ann", i)], 4).await.unwrap();
    }
    let count =
        async |decision: &str, secs| bench.store.refused_call(decision, at(secs)).await.unwrap().len();
    assert_eq!((count("d1", 6).await, count("d2", 6).await, count("d5", 6).await), (0, 1, 1));
    assert_eq!(count("d0", 6).await, 1, "another person's");
    assert_eq!((count("d5", 104).await, count("d5", 105).await), (1, 0));
    assert_eq!(bench.store.forget_approvals(at(1_000)).await.unwrap(), 5);
}

#[tokio::test]
async fn pages_follow_each_other_from_the_newest_on() {
    let bench = Bench::new().await;
    for i in 0..7 {
        let person = if i == 3 { "corp:bob" } else { "corp:ann" };
        let one = row(&format!("r{i}"), &format!("b{i}"));
        let one = RequestRow { person: person.to_owned(), made: at(1_000 + i / 2), ..one };
        bench.store.ask_approval(one, most(99)).await.unwrap();
    }
    let mut before = None;
    let mut seen = Vec::new();
    loop {
        let page = Page { person: Some("corp:ann".to_owned()), state: Some("pending"), before, limit: 2 };
        let rows = bench.store.approval_requests(page).await.unwrap();
        let Some(last) = rows.last() else { break };
        before = Some((last.made, last.id.clone()));
        seen.extend(rows.into_iter().map(|row| row.id));
    }
    assert_eq!(seen, ["r6", "r5", "r4", "r2", "r1", "r0"]);
    let denied = Page { state: Some("denied"), limit: 9, ..Page::default() };
    assert_eq!(bench.store.approval_requests(denied).await.unwrap(), []);
    granted(&bench, 1).await;
    let page = Page { person: Some("corp:ann".to_owned()), limit: 9, ..Page::default() };
    assert_eq!(bench.store.approval_grants(page.clone()).await.unwrap(), [grant("g", 1)]);
    assert_eq!(bench.store.approval_grant("g").await.unwrap(), Some(grant("g", 1)));
    let page = Page { person: Some("corp:bob".to_owned()), ..page };
    assert_eq!(bench.store.approval_grants(page).await.unwrap(), []);
}

#[tokio::test]
async fn what_was_asked_and_granted_survives_a_restart() {
    let bench = Bench::new().await;
    granted(&bench, 2).await;
    assert_eq!(bench.store.take_use(used("u", "c", 1_500), at(900)).await.unwrap(), Taken::Yes);
    let again = bench.replica();
    assert_eq!(again.approval_request("r").await.unwrap().unwrap().state, "approved");
    let grants = again.grants_for("bound", Some("c"), at(1_501)).await.unwrap();
    assert_eq!((grants[0].0.used, grants[0].1.as_ref().unwrap().decision.as_str()), (1, "decision of u"));
}
