//! Secrets and trust of sinks that are exchanged while the gate runs. The new ones are tried, and
//! taken over when the receiver can be had with them; until then the old ones stay in use, unless
//! they are worth nothing any more.

use std::{sync::Arc, time::Duration};

use super::{Material, Workshop, references};
use crate::{
    audit::{
        event::Event,
        sinks::{Exchange, Exporter, SinkStatus},
    },
    config::settings,
    net::Connector,
    proxy::GateParts,
    server::{
        checkup::causes,
        reload::{record, refused},
        secrets::Secrets,
    },
    time::Timestamp,
};

/// What the receiver does not take yet is tried again so often: the other side may be later.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// The sinks of the running exporters.
pub(in crate::server) struct Renewal {
    running: Vec<Running>,
    connector: Connector,
}

struct Running {
    /// As the exporter was started: another configuration of it takes a restart.
    sink: settings::Sink,
    status: Arc<SinkStatus>,
    exchange: Exchange,
    /// SHA-256 of what is in use.
    digest: [u8; 32],
    refused: Option<Refused>,
}

struct Refused {
    /// Of what was tried, or of the reason why there was nothing to try.
    digest: [u8; 32],
    tried: Timestamp,
}

impl Renewal {
    pub const fn new(connector: Connector) -> Self {
        Self { running: Vec::new(), connector }
    }

    /// Takes in an exporter and what its sink was made with.
    pub fn follow(&mut self, sink: &settings::Sink, exporter: &Exporter, material: &Material) {
        self.running.push(Running {
            sink: sink.clone(),
            status: exporter.status(),
            exchange: exporter.exchange(),
            digest: material.digest,
            refused: None,
        });
    }

    /// Looks at what each sink is reached with as it lies there now.
    pub async fn look(&mut self, parts: &GateParts, secrets: &mut Secrets, asked: bool) {
        let mut workshop = Workshop {
            connector: &self.connector,
            credentials: &parts.credentials,
            secrets,
            gates: &parts.gates,
            clock: &parts.clock,
        };
        for running in &mut self.running {
            running.look(parts, &mut workshop, asked).await;
        }
    }
}

impl Running {
    async fn look(&mut self, parts: &GateParts, workshop: &mut Workshop<'_>, asked: bool) {
        let now = workshop.clock.now();
        let material = match workshop.material(&self.sink).await {
            Ok(material) => material,
            Err(error) => {
                let problem = causes(&error);
                return self.refuse(parts, crate::config::digest(problem.as_bytes()), problem, now).await;
            }
        };
        if material.digest == self.digest {
            self.refused = None;
            return;
        }
        let again = self.refused.as_ref().filter(|refused| refused.digest == material.digest);
        if again.is_some_and(|refused| now.since(refused.tried) < TRY_AGAIN) && !asked {
            return;
        }
        let mut sink = match workshop.sink(&self.sink, &material) {
            Ok(sink) => sink,
            Err(error) => return self.refuse(parts, material.digest, causes(&error), now).await,
        };
        // With an old one that fails there is nothing to lose.
        if self.status.failing().is_none()
            && let Err(why) = sink.probe().await
        {
            let problem = format!(
                "the sink `{}` keeps its old secrets and trust, with the new ones: {why}",
                self.sink.name
            );
            return self.refuse(parts, material.digest, problem, now).await;
        }
        if !self.exchange.offer(sink) {
            return; // It is asked again when it has done what it is at.
        }
        (self.digest, self.refused) = (material.digest, None);
        let secrets = references(&self.sink.kind);
        let places = secrets.into_iter().map(|(_, reference)| workshop.secrets.age(reference).place);
        let trust = self.sink.trust.iter().map(|path| format!("`{}`", path.display()));
        let places: Vec<String> = places.chain(trust).collect();
        tracing::info!(sink = &*self.sink.name, ?places, "the sink's new secrets and trust are in use");
        record(parts, &Event::ExporterChanged { sink: self.sink.name.to_string(), places }).await;
    }

    /// Notes a failure, and says it if it is another than the one before.
    async fn refuse(&mut self, parts: &GateParts, digest: [u8; 32], problem: String, now: Timestamp) {
        let before = self.refused.replace(Refused { digest, tried: now });
        if before.is_none_or(|before| before.digest != digest) {
            refused(parts, "sinks", &problem, 1).await;
        }
    }
}
