//! A recorded request, and the place that is kept for its outcome.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    Journal, Unwritable,
    record::{self, Ending, Phase},
    writer::Entry,
};
use crate::{gates::Cleared, policy::Permit, time::Timestamp};

/// What the record says of the way to Azure.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// The credential that Azure sees.
    pub credential: Option<Arc<str>>,
    /// Whether the request asks for another protocol: then it is no plain read.
    pub upgrade: bool,
}

/// What came of a request.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The upstream's status, if it answered.
    pub status: Option<u16>,
    /// Bytes of the request's body that were sent.
    pub sent: u64,
    /// Bytes of the answer's body that came.
    pub received: u64,
    /// From the intent to the end.
    pub took: Duration,
    /// From the intent to the answer's head.
    pub latency: Option<Duration>,
    /// Why the gate ended it, if it did.
    pub because: Option<String>,
    /// `x-ms-correlation-request-id`: joins the record with Azure's activity log.
    pub correlation: Option<String>,
}

/// A request that was cleared and is recorded: made by [`Journal::intend`] alone, so that nothing
/// is sent of which there is no record:
/// ```compile_fail
/// use amlgate::{audit::{OutcomeGuard, Recorded}, gates::Cleared};
/// fn forged(cleared: std::sync::Arc<Cleared>, outcome: OutcomeGuard) -> Recorded {
///     Recorded { cleared, outcome }
/// }
/// ```
/// It is spent once: the right to send is gone with it.
/// ```compile_fail
/// use amlgate::audit::Recorded;
/// fn twice(recorded: Recorded) -> (Recorded, Recorded) {
///     (recorded, recorded)
/// }
/// ```
#[derive(Debug)]
pub struct Recorded {
    pub(super) cleared: Arc<Cleared>,
    pub(super) outcome: OutcomeGuard,
}

/// The request cannot be recorded, so it must not go on.
#[derive(Debug)]
pub struct Unrecorded {
    /// What was cleared.
    pub cleared: Arc<Cleared>,
}

/// The place that is kept for a request's outcome. When it is dropped, what was last said of the
/// request is recorded: nothing said is `aborted`.
pub struct OutcomeGuard {
    journal: Journal,
    /// `None` for a read that goes on unrecorded, and was counted.
    pub(super) slot: Option<OwnedSemaphorePermit>,
    subject: Subject,
    outcome: Outcome,
}

/// What the records of one request share.
struct Subject {
    cleared: Arc<Cleared>,
    exchange: Exchange,
    started: Timestamp,
}

impl Recorded {
    pub(super) fn new(
        journal: Journal,
        cleared: Cleared,
        exchange: Exchange,
        slot: Option<OwnedSemaphorePermit>,
        started: Timestamp,
    ) -> Self {
        let cleared = Arc::new(cleared);
        let outcome = Outcome {
            ending: Ending::Aborted,
            status: None,
            sent: 0,
            received: 0,
            took: Duration::ZERO,
            latency: None,
            because: None,
            correlation: None,
        };
        let subject = Subject { cleared: Arc::clone(&cleared), exchange, started };
        Self { cleared, outcome: OutcomeGuard { journal, slot, subject, outcome } }
    }

    /// The permit that was recorded.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        self.cleared.permit()
    }

    /// What is to be said of the request's end.
    pub fn outcome(&mut self) -> &mut OutcomeGuard {
        &mut self.outcome
    }

    /// Gives up the right to send anything and keeps the place for the outcome: the answer streams.
    #[must_use]
    pub fn into_outcome(self) -> OutcomeGuard {
        self.outcome
    }
}

impl OutcomeGuard {
    /// How the request ended; the last word counts.
    pub fn ended(&mut self, ending: Ending) {
        self.outcome.ending = ending;
    }

    /// Why the gate itself ended it: for a cut stream, with the entry. Bounded, and no text of the
    /// caller's or the upstream's.
    pub fn because(&mut self, why: &str) {
        self.outcome.because = Some(why.to_owned());
    }

    /// The upstream answered.
    pub fn answered(&mut self, status: u16, correlation: Option<&str>) {
        self.outcome.status = Some(status);
        self.outcome.latency = Some(self.journal.now().since(self.subject.started));
        self.outcome.correlation = correlation.map(|c| c.chars().take(128).collect());
    }

    /// More of the request's body was sent.
    pub fn sent(&mut self, bytes: u64) {
        self.outcome.sent += bytes;
    }

    /// More of the answer's body came.
    pub fn received(&mut self, bytes: u64) {
        self.outcome.received += bytes;
    }

    /// What is said so far.
    #[must_use]
    pub fn so_far(&self) -> &Outcome {
        &self.outcome
    }

    /// Records an upgrade as established and keeps a place for its end; waits until the record is
    /// durable.
    ///
    /// # Errors
    /// [`Unwritable`]: the upgrade must not go on.
    pub async fn established(&mut self) -> Result<(), Unwritable> {
        self.outcome.ending = Ending::Established;
        let line = self.render();
        self.outcome.ending = Ending::Aborted;
        self.journal.written(line).await
    }

    fn render(&mut self) -> Vec<u8> {
        self.outcome.took = self.journal.now().since(self.subject.started);
        let permit = self.subject.cleared.permit();
        record::render(&self.journal.parts(permit, &self.subject.exchange, Phase::Outcome(&self.outcome)))
    }
}

impl Drop for OutcomeGuard {
    fn drop(&mut self) {
        if self.slot.is_none() {
            return; // A read that went on unrecorded, and was counted.
        }
        let line = self.render();
        self.journal.push(Entry { line, slot: self.slot.take(), durable: None, weight: None });
    }
}

impl fmt::Debug for OutcomeGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutcomeGuard({:?})", self.outcome.ending)
    }
}
