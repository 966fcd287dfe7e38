//! One core's meters: what `/metrics` shows of requests.
//!
//! A meter is looked up in the process's registry once for each core and label set and kept, so that
//! counting a request takes no lock and makes no text.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use metrics::{Counter, Histogram};

use super::Route;

/// What a request goes through, in order.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    /// Whose token it is.
    Identify,
    /// What it means, the body's reading included where it is judged.
    Name,
    /// Whether it may, limits included.
    Decide,
    /// Until its intent is recorded.
    Record,
    /// Until there is a token for Azure.
    Token,
    /// From the head that is sent to the head that comes back.
    Upstream,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Name => "name",
            Self::Decide => "decide",
            Self::Record => "record",
            Self::Token => "token",
            Self::Upstream => "upstream",
        }
    }
}

/// Route by its name's address, decision, status. A route that was taken out of the configuration keeps its
/// line until the gate is started again.
type Answered = (usize, &'static str, StatusCode);

#[derive(Default)]
struct Kept {
    answered: HashMap<Answered, Counter>,
    took: HashMap<usize, Histogram>,
    /// By [`Stage`].
    stages: [Option<Histogram>; 6],
    /// Keeps the names alive whose addresses are keys.
    names: HashMap<usize, Arc<str>>,
}

/// The meters of one core.
#[derive(Clone, Default)]
pub(super) struct Meters {
    kept: Rc<RefCell<Kept>>,
}

impl Meters {
    /// Counts an answered request.
    pub fn answered(
        &self,
        route: Option<&Arc<Route>>,
        decision: &'static str,
        status: StatusCode,
        took: Duration,
    ) {
        let key = route.map_or(0, |route| Arc::as_ptr(&route.settings.name).addr());
        let name = || route.map_or("", |route| &*route.settings.name).to_owned();
        let kept = &mut *self.kept.borrow_mut();
        if let Some(route) = route {
            kept.names.entry(key).or_insert_with(|| Arc::clone(&route.settings.name));
        }
        let counter = kept.answered.entry((key, decision, status)).or_insert_with(|| {
            let status = status.as_str().to_owned();
            metrics::counter!("amlgate_requests_total", "route" => name(), "decision" => decision, "status" => status)
        });
        counter.increment(1);
        let histogram = kept
            .took
            .entry(key)
            .or_insert_with(|| metrics::histogram!("amlgate_request_seconds", "route" => name()));
        histogram.record(took.as_secs_f64());
    }

    fn spent(&self, stage: Stage, time: Duration) {
        let kept = &mut *self.kept.borrow_mut();
        if let Some(place) = kept.stages.get_mut(stage as usize) {
            place
                .get_or_insert_with(|| metrics::histogram!("amlgate_stage_seconds", "stage" => stage.name()))
                .record(time.as_secs_f64());
        }
    }
}

/// Measures one stage after another.
pub(super) struct Stopwatch<'m> {
    meters: &'m Meters,
    since: Instant,
}

impl<'m> Stopwatch<'m> {
    /// Starts now.
    pub fn start(meters: &'m Meters) -> Self {
        Self { meters, since: Instant::now() }
    }

    /// The stage that ends now; the next begins.
    pub fn ended(&mut self, stage: Stage) {
        let now = Instant::now();
        self.meters.spent(stage, now.duration_since(self.since));
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        telemetry,
        time::{ManualClock, SharedClock, Timestamp},
    };

    #[tokio::test]
    async fn samples_do_not_pile_up_where_nobody_scrapes() {
        let recorder = telemetry::builder().unwrap().build_recorder();
        let scraped = recorder.handle();
        let meters = Meters::default();
        metrics::with_local_recorder(&recorder, || {
            (0..1_000).for_each(|_| meters.spent(Stage::Decide, Duration::from_millis(1)));
        });
        // To render would fold; what the recorder holds is looked at without.
        let folded = || format!("{scraped:?}").contains("count: 1000,");
        assert!(!folded(), "samples lie one by one until they are folded");
        let clock = ManualClock::starting_at(Timestamp::from_secs(1_000));
        let shared: SharedClock = Arc::new(clock.clone());
        let waits = async {
            clock.advance(Duration::from_secs(60));
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = telemetry::fold(&scraped, &shared) => {}
            () = waits => {}
        }
        assert!(folded(), "nobody asked for them, and they are folded: {scraped:?}");
    }
}
