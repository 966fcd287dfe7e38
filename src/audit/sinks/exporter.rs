//! The loop of one exporter: read on in the log, hand over, move the cursor.
//!
//! It runs on the control runtime; what it reads and keeps on the disk is done on threads for that.

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use metrics::{counter, gauge};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;

use super::{
    Delivered, Exported, Sink, Undelivered,
    cursor::Cursor,
    dead_letter::DeadLetters,
    tape::{Batch, Tape},
};
use crate::{
    audit::{Journal, event::Event, storage::Directory},
    time::{SharedClock, Timestamp},
};

/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A receiver that refuses so many in a row, and takes none between, is wrong about more than a
/// record: nothing further is put aside.
const REFUSED_IN_A_ROW: usize = 16;
/// How far a sink has come through records that are not its business is kept at most so often: after a
/// restart they are passed over once more.
const KEPT_EVERY: Duration = Duration::from_secs(60);
/// That a sink fails is recorded at most so often, and that it refuses records too.
const SAID_EVERY: Duration = Duration::from_secs(15 * 60);

/// Where a sink without a cursor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the oldest record of the log.
    #[default]
    Beginning,
    /// With what comes.
    Now,
}

/// What an exporter needs besides its sink.
#[derive(Debug, Clone)]
pub struct ExporterSettings {
    /// The sink's name.
    pub name: Arc<str>,
    /// The log's name.
    pub origin: Arc<str>,
    /// The log's directory; cursors and dead letters lie in `sinks` below it.
    pub directory: PathBuf,
    /// Where it begins if there is no cursor.
    pub start: Start,
}

/// How a sink does, for whoever asks.
#[derive(Debug)]
pub struct SinkStatus {
    /// Its name.
    pub name: Arc<str>,
    next: AtomicU64,
    failing: ArcSwapOption<String>,
}

impl SinkStatus {
    /// The first record that it does not have.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Why it has not, if that is not because nothing is there.
    #[must_use]
    pub fn failing(&self) -> Option<Arc<String>> {
        self.failing.load_full()
    }
}

/// Puts another sink in the place of an exporter's: the same receiver, reached in another way.
#[derive(Clone)]
pub struct Exchange(mpsc::Sender<Box<dyn Sink>>);

impl Exchange {
    /// Whether the exporter will take it, before the next batch and without waiting out a pause. It
    /// does not while earlier ones wait behind a batch that is under way, and not when it has ended.
    #[must_use]
    pub fn offer(&self, sink: Box<dyn Sink>) -> bool {
        self.0.try_send(sink).is_ok()
    }
}

/// So many sinks may wait for an exporter whose batch is under way.
const EXCHANGES: usize = 4;

/// One exporter.
pub struct Exporter {
    settings: ExporterSettings,
    sink: Box<dyn Sink>,
    exchange: Exchange,
    offered: mpsc::Receiver<Box<dyn Sink>>,
    journal: Journal,
    durable: watch::Receiver<u64>,
    clock: SharedClock,
    cursor: Cursor,
    dead: DeadLetters,
    tape: Option<Tape>,
    next: u64,
    /// What the cursor says, and when it was kept.
    kept: (u64, Timestamp),
    refused_in_a_row: usize,
    pauses: Option<ExponentialBackoff>,
    /// When it was recorded last that the sink fails, and whether it was recorded that it no longer does.
    said: Said,
    status: Arc<SinkStatus>,
}

#[derive(Debug, Default)]
struct Said {
    failing: Option<Timestamp>,
    open: bool,
    refused: Option<Timestamp>,
    refused_since: u64,
}

impl Exporter {
    /// An exporter that goes on where its cursor stands.
    ///
    /// # Errors
    /// What the disk says of the cursor.
    pub fn open(
        settings: ExporterSettings,
        sink: Box<dyn Sink>,
        journal: Journal,
        clock: SharedClock,
    ) -> io::Result<Self> {
        let directory = settings.directory.join("sinks");
        fs::create_dir_all(&directory)?;
        let cursor = Cursor::at(&directory, &settings.name, &settings.origin);
        let durable = journal.durable();
        let end = *durable.borrow();
        let next = match (cursor.load()?, settings.start) {
            (Some(next), _) if next > end => {
                tracing::warn!(
                    sink = &*settings.name,
                    next,
                    end,
                    "the log is shorter than what was exported of it: going on at its end"
                );
                end
            }
            (Some(next), _) => next,
            (None, Start::Beginning) => 0,
            (None, Start::Now) => {
                cursor.save(end)?;
                end
            }
        };
        let status = Arc::new(SinkStatus {
            name: Arc::clone(&settings.name),
            next: AtomicU64::new(next),
            failing: ArcSwapOption::empty(),
        });
        let dead = DeadLetters::at(&directory, &settings.name);
        let (exchange, offered) = mpsc::channel(EXCHANGES);
        let kept = (next, clock.now());
        Ok(Self {
            settings,
            sink,
            exchange: Exchange(exchange),
            offered,
            journal,
            durable,
            clock,
            cursor,
            dead,
            tape: None,
            next,
            kept,
            refused_in_a_row: 0,
            pauses: None,
            said: Said::default(),
            status,
        })
    }

    /// How it does, from now on.
    #[must_use]
    pub fn status(&self) -> Arc<SinkStatus> {
        Arc::clone(&self.status)
    }

    /// To have it use another sink from now on.
    #[must_use]
    pub fn exchange(&self) -> Exchange {
        self.exchange.clone()
    }

    /// Exports until told to stop; then what is durable by then, unless the sink fails.
    pub async fn run(self, stop: CancellationToken) {
        let (name, status, mut durable) = (self.name(), self.status(), self.durable.clone());
        // What waits grows while a receiver takes its time, and during pauses.
        let follow = async move {
            while durable.changed().await.is_ok() {
                let waiting = durable.borrow_and_update().saturating_sub(status.next());
                gauge!("amlgate_sink_lag_records", "sink" => name.clone()).set(waiting as f64);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.export(stop) => {}
            () = follow => {}
        }
    }

    async fn export(mut self, stop: CancellationToken) {
        loop {
            self.measure(None);
            let batch = match self.read().await {
                Ok(batch) => batch,
                Err(error) => {
                    self.tape = None;
                    if !self.pause(&format!("cannot read the log: {error}"), None, &stop).await {
                        return;
                    }
                    continue;
                }
            };
            if batch.through <= self.next {
                if stop.is_cancelled() {
                    if self.kept.0 < self.next {
                        self.keep().await;
                    }
                    return;
                }
                let durable = &mut self.durable;
                let closed = tokio::select! {
                    changed = durable.changed() => changed.is_err(),
                    () = stop.cancelled() => false,
                };
                if closed {
                    return;
                }
            } else if self.hand_over(&batch.records, &stop).await {
                self.passed(batch.through).await;
            } else {
                return;
            }
        }
    }

    /// The next batch: durable records that the sink picks, within its limits.
    async fn read(&mut self) -> io::Result<Batch> {
        let end = *self.durable.borrow_and_update();
        if self.next >= end {
            return Ok(Batch { records: Vec::new(), first: None, through: self.next });
        }
        let (tape, next, limits) = (self.tape.take(), self.next, self.sink.limits());
        let picks = self.sink.picks();
        let (directory, origin) = (self.settings.directory.clone(), Arc::clone(&self.settings.origin));
        let read = spawn_blocking(move || {
            let mut tape = match tape {
                Some(tape) => tape,
                None => Tape::from(Directory::at(directory), next)?,
            };
            let batch = tape.batch(next..end, limits, picks.as_ref(), &origin)?;
            Ok::<_, io::Error>((tape, batch))
        });
        let (tape, batch) = read.await.map_err(io::Error::other)??;
        self.tape = Some(tape);
        if let Some(first) = batch.first.filter(|first| *first > next) {
            let problem = format!("the records {next} to {} are no longer in the log", first - 1);
            tracing::error!(sink = &*self.settings.name, problem, "records were not exported");
            counter!("amlgate_sink_missed_records_total", "sink" => self.name()).increment(first - next);
            self.record(Some(problem)).await;
        }
        Ok(batch)
    }

    /// Hands over a batch, in parts where the sink refuses something in it; whether to go on.
    async fn hand_over(&mut self, batch: &[Exported], stop: &CancellationToken) -> bool {
        let mut rest = batch;
        let mut size = rest.len();
        while let Some(first) = rest.first() {
            self.measure(Some(first));
            while let Ok(sink) = self.offered.try_recv() {
                self.sink = sink;
            }
            let part = rest.get(..size.min(rest.len())).unwrap_or(rest);
            match self.sink.deliver(part).await {
                Ok(delivered) => {
                    let taken = delivered.taken.clamp(1, part.len());
                    self.taken(part, delivered).await;
                    rest = rest.get(taken..).unwrap_or_default();
                    size = size.saturating_mul(2).min(batch.len());
                }
                // Which one it is, is found by halves.
                Err(Undelivered::Refused { .. }) if part.len() > 1 => size = part.len() / 2,
                Err(Undelivered::Refused { why }) if self.refused_in_a_row < REFUSED_IN_A_ROW => {
                    self.taken(part, Delivered { taken: 1, refused: vec![(0, why)] }).await;
                    rest = rest.get(1..).unwrap_or_default();
                }
                Err(Undelivered::Refused { why }) => {
                    let why = format!("{REFUSED_IN_A_ROW} records in a row are refused: {why}");
                    if !self.pause(&why, None, stop).await {
                        return false;
                    }
                }
                Err(Undelivered::Later { why, after }) => {
                    if !self.pause(&why, after, stop).await {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// The beginning of a part is dealt with: what was refused of it is put aside, the cursor moves on.
    async fn taken(&mut self, part: &[Exported], delivered: Delivered) {
        let name = self.name();
        let refused: Vec<(Exported, String)> = delivered
            .refused
            .into_iter()
            .filter_map(|(at, why)| part.get(at).cloned().map(|record| (record, why)))
            .collect();
        let taken = part.get(..delivered.taken.max(1)).unwrap_or(part);
        let Some(last) = taken.last() else { return };
        let count = refused.len();
        if count == 0 || count < taken.len() {
            self.refused_in_a_row = 0;
        } else {
            self.refused_in_a_row += count;
        }
        if let Some((first, why)) = refused.first() {
            counter!("amlgate_sink_refused_records_total", "sink" => name.clone()).increment(count as u64);
            tracing::warn!(
                sink = name,
                position = first.position,
                count,
                why,
                "records were refused for good and put aside"
            );
            let (position, problem) = (first.position, why.clone());
            let (dead, now) = (self.dead.clone(), self.clock.now());
            let kept = spawn_blocking(move || dead.put(&refused, now)).await;
            if let Err(error) = kept.map_err(io::Error::other).and_then(|kept| kept) {
                tracing::error!(sink = name, %error, "the dead letters cannot be kept; the records are still in the log");
            }
            self.say_refused(position, problem, count as u64).await;
        }
        self.next = last.position + 1;
        self.status.next.store(self.next, Ordering::Relaxed);
        counter!("amlgate_sink_records_total", "sink" => name.clone())
            .increment((taken.len() - count) as u64);
        self.keep().await;
        self.pauses = None;
        if self.status.failing.swap(None).is_some() {
            tracing::info!(sink = name, position = self.next, "the sink takes records again");
            if std::mem::take(&mut self.said.open) {
                self.record(None).await;
            }
        }
    }

    /// What lies before a position is dealt with: what was not handed over was not picked.
    async fn passed(&mut self, through: u64) {
        if through <= self.next {
            return;
        }
        self.next = through;
        self.status.next.store(through, Ordering::Relaxed);
        gauge!("amlgate_sink_lag_seconds", "sink" => self.name()).set(0.0);
        if self.clock.now().since(self.kept.1) >= KEPT_EVERY {
            self.keep().await;
        }
    }

    /// Keeps the cursor.
    async fn keep(&mut self) {
        self.kept = (self.next, self.clock.now());
        let (cursor, next) = (self.cursor.clone(), self.next);
        let kept = spawn_blocking(move || cursor.save(next)).await;
        if let Err(error) = kept.map_err(io::Error::other).and_then(|kept| kept) {
            tracing::error!(sink = self.name(), %error, "the cursor cannot be kept: after a restart records would be exported again");
        }
    }

    /// Waits after a failure, longer each time and never less than the receiver asked; whether to go on.
    async fn pause(&mut self, why: &str, after: Option<Duration>, stop: &CancellationToken) -> bool {
        let name = self.name();
        counter!("amlgate_sink_failures_total", "sink" => name.clone()).increment(1);
        let now = self.clock.now();
        if self.status.failing.swap(Some(Arc::new(why.to_owned()))).is_none() {
            tracing::warn!(sink = name, why, "the sink does not take records; they wait in the log");
        }
        if self.said.failing.is_none_or(|said| now.since(said) >= SAID_EVERY) {
            self.said.failing = Some(now);
            self.said.open = true;
            let problem = why.to_owned();
            self.record(Some(problem)).await;
        }
        if stop.is_cancelled() {
            return false;
        }
        let pauses = self.pauses.get_or_insert_with(|| {
            let (first, longest) = PAUSES;
            let builder = ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest);
            builder.with_jitter().without_max_times().build()
        });
        // Jitter goes beyond the longest pause by as much again, and is cut there.
        let pause = pauses.next().unwrap_or(PAUSES.1).min(PAUSES.1).max(after.unwrap_or_default());
        tokio::select! {
            () = self.clock.sleep(pause) => true,
            // What failed may not be what it fails by now.
            Some(sink) = self.offered.recv() => {
                self.sink = sink;
                self.pauses = None;
                true
            }
            () = stop.cancelled() => false,
        }
    }

    async fn say_refused(&mut self, position: u64, problem: String, count: u64) {
        let now = self.clock.now();
        self.said.refused_since += count;
        if self.said.refused.is_some_and(|said| now.since(said) < SAID_EVERY) {
            return;
        }
        self.said.refused = Some(now);
        let count = std::mem::take(&mut self.said.refused_since);
        let problem =
            format!("{count} records were refused for good, the first at position {position}: {problem}");
        self.record(Some(problem)).await;
    }

    async fn record(&self, problem: Option<String>) {
        let behind = self.durable.borrow().saturating_sub(self.next);
        let event = Event::Exporter { sink: self.name(), problem, behind };
        if self.journal.happened(&event).await.is_err() {
            tracing::error!(?event, "what an exporter did could not be recorded");
        }
    }

    /// How far behind the sink is: in records, and by the age of the oldest that waits.
    fn measure(&self, oldest: Option<&Exported>) {
        let waiting = self.durable.borrow().saturating_sub(self.next);
        gauge!("amlgate_sink_lag_records", "sink" => self.name()).set(waiting as f64);
        let age = oldest.and_then(|record| record.value.get("time")?.as_u64());
        let age = age.map(|time| self.clock.now().since(Timestamp::from_millis(time)).as_secs_f64());
        if waiting == 0 || age.is_some() {
            gauge!("amlgate_sink_lag_seconds", "sink" => self.name()).set(age.unwrap_or_default());
        }
    }

    fn name(&self) -> String {
        self.settings.name.to_string()
    }
}
