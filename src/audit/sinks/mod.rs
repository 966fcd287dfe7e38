//! Exporters: each is a cursor over the log with a receiver of its own.
//!
//! A record is exported once it is durable, in the log's order, at least once: the cursor moves on
//! when the receiver has taken what lies before it, and is durable itself. A receiver that is slow or
//! away costs lag, never a request and never a record; what it refuses for good is put aside in a
//! dead-letter file and named in the log. Mappings are pure functions of a record. Nothing here
//! decides what is recorded, and nothing that a receiver says is believed but "taken" and "refused".

mod azure_monitor;
mod connection;
mod cursor;
mod dead_letter;
mod exporter;
mod file;
mod insights;
pub mod mapping;
mod otlp;
mod splunk;
mod syslog;
mod tape;
mod webhook;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

pub use azure_monitor::{AzureMonitor, Ingest, Ingestion};
pub use connection::Receiver;
pub use exporter::{Exchange, Exporter, ExporterSettings, SinkStatus, Start};
pub use file::FileSink;
pub use insights::{ApplicationInsights, Connection};
pub use mapping::Format;
pub use otlp::Otlp;
use serde_json::Value;
pub use splunk::{Splunk, SplunkSettings};
pub use syslog::Syslog;
pub use webhook::{EVENT, Webhook, WebhookKey, WebhookKeyError};

use super::merkle::{self, Hash};

/// A record on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The log that it is in.
    pub origin: Arc<str>,
    /// Its number there.
    pub position: u64,
    /// Its bytes, as they were hashed.
    pub line: Vec<u8>,
    /// What they say.
    pub value: Value,
    /// Its leaf in the log's tree.
    pub leaf: Hash,
}

impl Exported {
    /// A record of a log.
    #[must_use]
    pub fn new(origin: &Arc<str>, position: u64, line: Vec<u8>) -> Self {
        // The writer writes nothing but JSON; what is not is exported as nothing, and `verify` names it.
        let value = serde_json::from_slice(&line).unwrap_or_default();
        Self { origin: Arc::clone(origin), position, leaf: merkle::leaf(&line), line, value }
    }
}

/// How much a receiver takes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Records.
    pub records: usize,
    /// Bytes of their lines in the log.
    pub bytes: usize,
}

/// What became of a batch that a receiver answered for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivered {
    /// So many from its beginning are dealt with.
    pub taken: usize,
    /// Which of them were refused for good, and why.
    pub refused: Vec<(usize, String)>,
}

impl Delivered {
    /// All of it was taken.
    #[must_use]
    pub const fn all(batch: &[Exported]) -> Self {
        Self { taken: batch.len(), refused: Vec::new() }
    }
}

/// Why a batch was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// It may be another time.
    Later {
        /// What was seen.
        why: String,
        /// Not before so long, by the receiver's word.
        after: Option<Duration>,
    },
    /// For what is in it: something among it will never be taken.
    Refused {
        /// What was seen.
        why: String,
    },
}

impl Undelivered {
    /// It may be taken another time.
    #[must_use]
    pub fn later(why: impl Into<String>) -> Self {
        Self::Later { why: why.into(), after: None }
    }
}

/// Something that is under way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whether a record is a sink's business, by its line: asked of each, before it is read any further.
pub type Picks = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Where records go.
pub trait Sink: Send + Sync {
    /// How much it takes at a time.
    fn limits(&self) -> BatchLimits;

    /// Which records are handed over at all; `None` for every one.
    fn picks(&self) -> Option<Picks> {
        None
    }

    /// Hands over a batch, which is not empty. When it is taken the receiver has it; of a failure
    /// nothing is known but that parts of it may have arrived.
    fn deliver<'a>(&'a mut self, batch: &'a [Exported]) -> Pending<'a, Result<Delivered, Undelivered>>;

    /// Tries whether the receiver can be had, without handing anything over: what was seen.
    fn probe(&mut self) -> Pending<'_, Result<String, String>>;
}

#[cfg(test)]
mod tests;
