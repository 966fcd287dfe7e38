//! What the journal does for recorded bodies: they are sealed apart, beside the request path and beside
//! the writer.

use std::{
    path::Path,
    sync::{Arc, mpsc},
    thread,
};

use tokio::sync::oneshot;

use super::{Apart, Journal};
use crate::{
    audit::{
        Exchange, OpenError,
        bodies::{Blob, Bodies, BodyError, BodyNote, BodySettings, Opened},
    },
    policy::{DecisionId, Permit, Recording},
};

impl Journal {
    /// Bodies are kept like this from here on, where an entry says so.
    pub fn keep_bodies(&self, settings: BodySettings) {
        self.inner.bodies.store(Some(Arc::new(settings)));
    }

    /// A body that was kept beside the log in a directory, opened with the keys that seal now.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn body(&self, directory: &Path, digest: &str) -> Result<Opened, BodyError> {
        let settings = self.inner.bodies.load_full().ok_or(BodyError::Sealed)?;
        settings.open(directory, digest)
    }

    /// The bodies of a request that an entry wants recorded.
    pub(in crate::audit) fn bodies_of(&self, permit: &Permit, exchange: &Exchange) -> Option<Box<Bodies>> {
        let recording = permit.judgement().record.as_ref()?;
        let mut bodies = Bodies::new(self.inner.bodies.load_full()?, Recording::clone(recording));
        if exchange.upgrade {
            bodies.refuse("upgraded");
        } else {
            if let Some(judged) = &permit.request().body {
                // It is at hand, so that nothing is taken.
                let _none = bodies.request(Some(judged.bytes().clone()), &permit.request().headers);
            }
            if !permit.operation().secrets.is_empty() {
                bodies.bar_response("holds_secrets");
            }
        }
        Some(Box::new(bodies))
    }

    /// Does work in the thread that seals bodies; here, if that one has ended.
    pub(in crate::audit) fn apart(&self, work: Apart) {
        if let Err(mpsc::SendError(work)) = self.inner.apart.send(work) {
            work();
        }
    }

    /// The request's body, where it was judged and an entry wants it recorded: it is in the intent.
    pub(super) fn judged_body(&self, permit: &Permit, exchange: &Exchange) -> Option<Box<Bodies>> {
        let recording = permit.judgement().record.as_ref()?;
        (recording.request && permit.request().body.is_some() && !exchange.upgrade)
            .then(|| self.bodies_of(permit, exchange))
            .flatten()
            .map(|mut bodies| {
                bodies.forget_response();
                bodies
            })
    }

    /// Seals bodies apart; `None` if that failed.
    pub(super) async fn sealed(
        &self,
        decision: DecisionId,
        bodies: Box<Bodies>,
    ) -> Option<(Vec<BodyNote>, Vec<Blob>)> {
        let (done, sealed) = oneshot::channel();
        let now = self.now();
        self.apart(Box::new(move || {
            // Whoever asked may have gone: then nothing goes on.
            let _gone = done.send(bodies.kept(decision, now));
        }));
        sealed.await.ok()
    }
}

/// Starts the thread that seals; it ends when nobody is left who could give it work.
pub(super) fn sealing() -> Result<mpsc::Sender<Apart>, OpenError> {
    let (apart, work) = mpsc::channel::<Apart>();
    thread::Builder::new()
        .name("bodies".to_owned())
        .spawn(move || {
            for work in work {
                // What is sealed is others' data: whatever goes wrong with one body, the next is kept.
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
                    metrics::counter!("amlgate_journal_lost_records_total").increment(1);
                    tracing::error!("a body could not be sealed, and the record of it is lost");
                }
            }
        })
        .map_err(OpenError::Thread)?;
    Ok(apart)
}
