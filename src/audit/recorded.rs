//! A recorded request, and the place that is kept for its outcome.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Journal, Unwritable,
    bodies::{Bodies, Taker},
    record::{self, Ending, Phase},
    writer::Entry,
};
use crate::{
    gates::{
        Cleared,
        approvals::{Came, GrantUse},
        custody,
    },
    policy::Permit,
    time::Timestamp,
};

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
    pub because: Option<Box<str>>,
    /// `x-ms-correlation-request-id`: joins the record with Azure's activity log.
    pub correlation: Option<Box<str>>,
}

/// A request that was cleared and is recorded: made by [`Journal::intend`] alone, so that nothing
/// is sent of which there is no record:
/// ```compile_fail
/// use amlgate::{audit::{OutcomeGuard, Recorded}, gates::Cleared};
/// fn forged(_: Cleared, outcome: OutcomeGuard) -> Recorded {
///     Recorded { outcome }
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
    pub(super) outcome: OutcomeGuard,
}

/// The request cannot be recorded, so it must not go on.
#[derive(Debug)]
pub struct Unrecorded {
    /// What was cleared.
    pub cleared: Cleared,
}

/// The place that is kept for a request's outcome. When it is dropped, what was last said of the
/// request is recorded: nothing said is `aborted`.
pub struct OutcomeGuard {
    journal: Journal,
    /// `None` for a read that goes on unrecorded, and was counted.
    pub(super) slot: Option<OwnedSemaphorePermit>,
    subject: Subject,
    outcome: Outcome,
    /// Where an entry wants bodies recorded.
    pub(super) bodies: Option<Box<Bodies>>,
}

/// What the records of one request share.
struct Subject {
    cleared: Cleared,
    exchange: Exchange,
    started: Timestamp,
}

impl Subject {
    /// The same, for another thread.
    fn beside(&self) -> Self {
        let Self { cleared, exchange, started } = self;
        Self { cleared: cleared.beside(), exchange: exchange.clone(), started: *started }
    }
}

impl Recorded {
    pub(super) fn new(
        journal: Journal,
        cleared: Cleared,
        exchange: Exchange,
        slot: Option<OwnedSemaphorePermit>,
        started: Timestamp,
    ) -> Self {
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
        let bodies = journal.bodies_of(cleared.permit(), &exchange);
        let subject = Subject { cleared, exchange, started };
        Self { outcome: OutcomeGuard { journal, slot, subject, outcome, bodies } }
    }

    /// The permit that was recorded.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        self.outcome.subject.cleared.permit()
    }

    /// What was cleared, of a request that does not go on.
    pub(super) fn given_up(self) -> Cleared {
        self.outcome.subject.cleared.beside()
    }

    /// The grants by which it goes on.
    #[must_use]
    pub fn grants(&self) -> &[GrantUse] {
        self.outcome.grants()
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
        self.outcome.because = Some(why.into());
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

    /// The grants by which the request goes on.
    #[must_use]
    pub fn grants(&self) -> &[GrantUse] {
        self.subject.cleared.grants()
    }

    /// Whoever is given what passes of the request's body, if an entry wants it recorded.
    #[must_use]
    pub fn takes_request(&mut self) -> Option<Taker> {
        let headers = &self.subject.cleared.permit().request().headers;
        self.bodies.as_mut()?.request(None, headers)
    }

    /// Whoever is given what passes of the answer's body, if an entry wants it recorded.
    #[must_use]
    pub fn takes_response(&mut self, headers: &HeaderMap) -> Option<Taker> {
        self.bodies.as_mut()?.response(None, headers)
    }

    /// The answer's body, where it is at hand.
    pub fn response_is(&mut self, body: &Bytes, headers: &HeaderMap) {
        if let Some(bodies) = &mut self.bodies {
            // It is at hand, so that nothing is taken.
            let _none = bodies.response(Some(body.clone()), headers);
        }
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

    /// What it means for the grants that were used. What was never sent gives its use back.
    const fn came(&self) -> Came {
        match (self.outcome.ending, self.outcome.status) {
            (Ending::NotSent, None) => Came::NotSent,
            (_, status) => Came::answered(status),
        }
    }

    fn render(&mut self) -> Vec<u8> {
        self.outcome.took = self.journal.now().since(self.subject.started);
        let Subject { cleared, exchange, .. } = &self.subject;
        let phase = Phase::Outcome(&self.outcome);
        record::render(&self.journal.parts(cleared, exchange, phase))
    }

    /// Seals the bodies and records the outcome with them, in another thread.
    fn record_with(&mut self, bodies: Bodies) {
        self.outcome.took = self.journal.now().since(self.subject.started);
        let (journal, subject, outcome) = (self.journal.clone(), self.subject.beside(), self.outcome.clone());
        let slot = self.slot.take();
        self.journal.apart(Box::new(move || {
            let permit = subject.cleared.permit();
            let now = journal.now();
            let (notes, blobs) = bodies.kept(permit.decision(), now);
            let parts = journal.parts(&subject.cleared, &subject.exchange, Phase::Outcome(&outcome));
            let line = record::render(&record::Parts { bodies: &notes, ..parts });
            journal.push(Entry { line, blobs, slot, durable: None, weight: None });
        }));
    }
}

impl Drop for OutcomeGuard {
    fn drop(&mut self) {
        let sent = !matches!(self.came(), Came::NotSent);
        self.subject.cleared.registered(custody::came(sent, self.outcome.status));
        self.subject.cleared.came(self.came());
        if self.slot.is_none() {
            return; // A read that went on unrecorded, and was counted.
        }
        if let Some(bodies) = self.bodies.take().filter(|bodies| !bodies.is_empty()) {
            return self.record_with(*bodies);
        }
        let line = self.render();
        let (slot, blobs) = (self.slot.take(), Vec::new());
        self.journal.push(Entry { line, blobs, slot, durable: None, weight: None });
    }
}

impl fmt::Debug for OutcomeGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutcomeGuard({:?})", self.outcome.ending)
    }
}
