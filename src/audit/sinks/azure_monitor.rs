//! Azure Monitor's Logs Ingestion: a data collection rule and its table, `AmlGateAudit_CL`.

use std::fmt;

use bytes::Bytes;
use http::Response;

use super::{
    BatchLimits, Delivered, Exported, Pending, Sink, Undelivered,
    connection::{judged, said},
    mapping::azure_monitor,
};
use crate::time::SharedClock;

/// Sends a body to an ingestion endpoint with a token of the gate's own; tokens and hosts are no
/// business of this room.
pub trait Ingest: Send + Sync {
    /// Posts JSON to a path of the endpoint.
    fn post(&self, path: String, body: Bytes) -> Pending<'_, Result<Response<Bytes>, String>>;
}

/// Where a rule takes records.
#[derive(Debug, Clone)]
pub struct Ingestion {
    /// The rule's immutable id, `dcr-...`.
    pub rule: String,
    /// `Custom-AmlGateAudit_CL`.
    pub stream: String,
}

/// A table in Azure Monitor.
pub struct AzureMonitor {
    ingest: Box<dyn Ingest>,
    ingestion: Ingestion,
    clock: SharedClock,
}

impl fmt::Debug for AzureMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureMonitor").field("ingestion", &self.ingestion).finish_non_exhaustive()
    }
}

impl AzureMonitor {
    /// A table that is reached through `ingest`.
    #[must_use]
    pub fn new(ingest: Box<dyn Ingest>, ingestion: Ingestion, clock: SharedClock) -> Self {
        Self { ingest, ingestion, clock }
    }

    async fn send(&self, body: Bytes) -> Result<Response<Bytes>, String> {
        let Ingestion { rule, stream } = &self.ingestion;
        let path = format!("/dataCollectionRules/{rule}/streams/{stream}?api-version=2023-01-01");
        self.ingest.post(path, body).await
    }
}

impl Sink for AzureMonitor {
    fn limits(&self) -> BatchLimits {
        // 1 MiB a call, and a row is its record and the columns made of it.
        BatchLimits { records: 400, bytes: 384 << 10 }
    }

    fn deliver<'a>(&'a mut self, batch: &'a [Exported]) -> Pending<'a, Result<Delivered, Undelivered>> {
        Box::pin(async move {
            let rows: Vec<_> = batch.iter().map(azure_monitor).collect();
            let body = Bytes::from(serde_json::to_vec(&rows).unwrap_or_default());
            let answer = self.send(body).await.map_err(Undelivered::later)?;
            judged(answer, self.clock.now())?;
            Ok(Delivered::all(batch))
        })
    }

    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(async move {
            let answer = self.send(Bytes::from_static(b"[]")).await?;
            match answer.status().as_u16() {
                // A rule that is there and a right to write: what it says of no rows does not matter.
                200..=299 | 400 => Ok(format!("the rule `{}` takes rows", self.ingestion.rule)),
                _ => Err(said(&answer)),
            }
        })
    }
}
