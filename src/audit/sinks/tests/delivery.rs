//! What every exporter keeps to, whatever its receiver is.

use super::*;

fn webhook(gate: &Gate, stand_in: &StandIn, batch: usize) -> Webhook {
    Webhook::new(gate.receiver(stand_in, "/hook"), None, batch)
}

#[tokio::test]
async fn records_arrive_in_their_order_across_segments_while_more_are_written() {
    let gate = Gate::start();
    let mut stand_in = StandIn::taking().await;
    gate.record(0..40).await;
    let running = gate.run(webhook(&gate, &stand_in, 7));
    gate.record(40..60).await;
    assert_eq!(stand_in.until(59).await, (0..60).collect::<Vec<_>>());
    running.finish().await;
    assert!(!gate.events().iter().any(|event| event.starts_with("export")));
}

#[tokio::test]
async fn what_was_under_way_when_the_gate_ended_is_sent_again_and_nothing_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    let mut gate = Gate::over(dir);
    for round in 0..4_u64 {
        let from = gate.journal.durable().borrow().to_owned();
        gate.record(from..from + 10).await;
        let mut left = 5;
        let mut stand_in = StandIn::start(move |_| {
            left -= 1;
            // The fifth is never answered.
            (left > 0).then(|| answer(204, ""))
        })
        .await;
        let running = gate.run(webhook(&gate, &stand_in, 1));
        for _ in 0..5 {
            seen.extend(stand_in.next().await.positions());
        }
        running.abort().await;
        // The process ends here, and another begins on the same folder.
        assert!(gate.journal.close().await);
        let Gate { dir, journal, .. } = gate;
        drop(journal);
        gate = Gate::over(dir);
        assert_eq!(seen.last(), Some(&(4 + round * 4)), "{seen:?}");
    }
    let mut once = seen.clone();
    once.dedup();
    assert_eq!(once, (0..=16).collect::<Vec<_>>(), "in order, none missing");
    assert!(seen.len() > once.len(), "at least once");
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it() {
    for (status, header) in [(429, "7"), (503, "7")] {
        let gate = Gate::start();
        gate.record(0..3).await;
        let mut refusals = 1;
        let mut stand_in = StandIn::start(move |_| {
            let mut said = answer(if refusals > 0 { status } else { 200 }, "busy");
            said.headers_mut().insert("retry-after", header.parse().unwrap());
            refusals -= 1;
            Some(said)
        })
        .await;
        let asked = gate.clock.now();
        let running = gate.run(webhook(&gate, &stand_in, 10));
        assert_eq!(stand_in.next().await.positions(), [0, 1, 2]);
        gate.recorded(4).await;
        assert!(running.status.failing().unwrap().contains("busy"));
        let again = gate.pass_until(|| stand_in.got.try_recv().ok()).await;
        assert!(gate.clock.now().since(asked) >= Duration::from_secs(7), "{status}");
        assert_eq!(again.positions(), [0, 1, 2]);
        // That it failed and goes on is in the record, and is exported like everything else.
        assert_eq!(stand_in.until(4).await, [3, 4]);
        running.finish().await;
        assert_eq!(gate.events()[3..], ["exporter_failing", "exporter_recovered"]);
    }
}

#[tokio::test]
async fn pauses_grow_and_failures_are_recorded_once_in_a_while() {
    let gate = Gate::start();
    gate.record(0..1).await;
    let mut stand_in = StandIn::start(|_| Some(answer(500, ""))).await;
    let running = gate.run(webhook(&gate, &stand_in, 10));
    stand_in.next().await;
    gate.recorded(2).await;
    let mut asked = vec![gate.clock.now()];
    for _ in 0..7 {
        gate.pass_until(|| stand_in.got.try_recv().ok()).await;
        asked.push(gate.clock.now());
    }
    let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1].since(pair[0]).as_secs_f64()).collect();
    // 1, 2, 4, ... 60 s, each with up to as much again by chance; the clock runs on while we look.
    for (pause, least) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]) {
        assert!(*pause >= least / 2.0, "{pauses:?}");
    }
    running.finish().await;
    assert_eq!(gate.events().iter().filter(|event| *event == "exporter_failing").count(), 1);
}

#[tokio::test]
async fn a_poison_record_is_put_aside_and_its_neighbours_arrive() {
    let gate = Gate::start();
    gate.record(0..20).await;
    let mut stand_in = StandIn::start(|got| {
        let poison = got.positions().iter().any(|position| matches!(position, 3 | 12));
        Some(if poison { answer(400, "I cannot\nread this") } else { answer(200, "") })
    })
    .await;
    let running = gate.run(webhook(&gate, &stand_in, 20));
    let mut taken = Vec::new();
    while taken.last() != Some(&20) {
        let positions = stand_in.next().await.positions();
        if !positions.iter().any(|position| matches!(position, 3 | 12)) {
            taken.extend(positions);
        }
    }
    running.finish().await;
    // Record 20 says that 3 was refused.
    assert_eq!(taken, (0..21).filter(|position| !matches!(position, 3 | 12)).collect::<Vec<_>>());
    let dead = gate.dead();
    let positions: Vec<_> = dead.iter().map(|letter| letter["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, [3, 12]);
    assert_eq!(dead[0]["reason"], "400 Bad Request: I cannot read this");
    assert_eq!(dead[0]["record"]["unmapped"]["amlgate"]["generation"], 3);
    assert_eq!(gate.events().iter().filter(|event| *event == "exporter_failing").count(), 1);
}

#[tokio::test]
async fn a_receiver_that_refuses_everything_is_wrong_itself_and_gets_it_all_later() {
    let gate = Gate::start();
    gate.record(0..50).await;
    let mended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let says = Arc::clone(&mended);
    let mut stand_in = StandIn::start(move |_| {
        let mended = says.load(std::sync::atomic::Ordering::Relaxed);
        Some(answer(if mended { 200 } else { 400 }, "no such table"))
    })
    .await;
    let running = gate.run(webhook(&gate, &stand_in, 10));
    // 50, that records are refused, that the sink fails.
    gate.recorded(52).await;
    assert!(running.status.failing().unwrap().contains("in a row"));
    assert_eq!(running.status.next(), 16);
    mended.store(true, std::sync::atomic::Ordering::Relaxed);
    while stand_in.got.try_recv().is_ok() {}
    let first = gate.pass_until(|| stand_in.got.try_recv().ok()).await;
    assert_eq!(first.positions(), [16]);
    assert_eq!(stand_in.until(52).await, (17..53).collect::<Vec<_>>());
    running.finish().await;
    assert_eq!(gate.dead().len(), 16);
}

#[tokio::test]
async fn a_receiver_that_never_answers_costs_no_record_its_place() {
    let gate = Gate::start();
    let mut stand_in = StandIn::start(|_| None).await;
    gate.record(0..1).await;
    let running = gate.run(webhook(&gate, &stand_in, 1));
    assert_eq!(stand_in.next().await.positions(), [0]);
    gate.record(1..500).await;
    assert_eq!((gate.journal.depth(), running.status.next()), (0, 0));
    running.abort().await;
}

#[tokio::test]
async fn a_sink_that_starts_now_gets_what_comes_also_after_a_restart() {
    let gate = Gate::start();
    gate.record(0..5).await;
    let mut stand_in = StandIn::taking().await;
    drop(gate.exporter(webhook(&gate, &stand_in, 1), Start::Now));
    gate.record(5..7).await;
    let running = gate.run(webhook(&gate, &stand_in, 1));
    assert_eq!(stand_in.until(6).await, [5, 6]);
    running.finish().await;
}

#[tokio::test]
async fn what_is_durable_when_the_gate_stops_is_exported_before_it_ends() {
    let gate = Gate::start();
    let mut stand_in = StandIn::taking().await;
    let running = gate.run(webhook(&gate, &stand_in, 100));
    gate.record(0..30).await;
    assert!(gate.journal.close().await);
    running.finish().await;
    let mut positions = Vec::new();
    while let Ok(got) = stand_in.got.try_recv() {
        positions.extend(got.positions());
    }
    assert_eq!(positions, (0..31).collect::<Vec<_>>(), "the last says that the gate stopped");
}

#[tokio::test]
async fn records_that_are_no_longer_in_the_log_are_named() {
    let gate = Gate::start();
    gate.record(0..60).await;
    let names =
        crate::audit::segment_names(&crate::audit::storage::Directory::at(gate.dir.path().to_owned()));
    let names = names.unwrap();
    assert!(names.len() > 2, "{names:?}");
    std::fs::remove_file(gate.dir.path().join(&names[0])).unwrap();
    let first: u64 = names[1][..20].parse().unwrap();
    let mut stand_in = StandIn::taking().await;
    let running = gate.run(webhook(&gate, &stand_in, 100));
    let mut got = stand_in.until(60).await;
    assert_eq!(got.remove(0), first);
    running.finish().await;
    assert_eq!(gate.events().last().unwrap(), "exporter_failing");
}

/// A webhook that wants few records.
struct Choosy(Webhook, &'static str);

impl Sink for Choosy {
    fn limits(&self) -> BatchLimits {
        self.0.limits()
    }

    fn picks(&self) -> Option<Picks> {
        let wanted = self.1.as_bytes();
        Some(Arc::new(move |line| memchr::memmem::find(line, wanted).is_some()))
    }

    fn deliver<'a>(&'a mut self, batch: &'a [Exported]) -> Pending<'a, Result<Delivered, Undelivered>> {
        self.0.deliver(batch)
    }

    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        self.0.probe()
    }
}

fn cursor(gate: &Gate) -> Option<u64> {
    let text = std::fs::read(gate.dir.path().join("sinks/siem.cursor")).ok()?;
    serde_json::from_slice::<Value>(&text).unwrap()["next"].as_u64()
}

#[tokio::test]
async fn a_sink_gets_what_it_picks_and_passes_over_the_rest() {
    let gate = Gate::start();
    let mut stand_in = StandIn::taking().await;
    gate.record(0..40).await;
    let running = gate.run(Choosy(webhook(&gate, &stand_in, 7), r#""generation":3"#));
    assert_eq!(stand_in.until(39).await, [3, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39]);
    gate.record(40..60).await;
    let turn = async || tokio::task::spawn_blocking(|| ()).await.unwrap();
    while running.status.next() < 60 {
        turn().await;
    }
    assert_eq!(cursor(&gate), Some(40), "how far it came through the rest is not kept each time");
    gate.clock.advance(Duration::from_secs(60));
    gate.record(60..61).await;
    while cursor(&gate) != Some(61) {
        turn().await;
    }
    gate.record(61..62).await;
    running.finish().await;
    assert_eq!(cursor(&gate), Some(62), "but when it ends");
    assert!(stand_in.got.try_recv().is_err());
    assert_eq!(gate.events().len(), 62, "nothing is said to be missing");
}
