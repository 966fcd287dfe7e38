//! Models that were registered past the gate are told of: in the record, and from there wherever people
//! hear of it.

use std::time::Duration;

use crate::{
    audit::{Journal, event::Event},
    gates::{Gates, registrations::Unstated},
    store::RegistrationRow,
    time::SharedClock,
};

/// How often it is looked at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often what was settled long ago is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);

/// Looks for ever.
pub(super) async fn follow(gates: &Gates, journal: &Journal, clock: &SharedClock) {
    let mut forgotten = clock.now();
    let mut told = Vec::new();
    loop {
        clock.sleep(LOOK_EVERY).await;
        look(gates, journal, clock, &mut told).await;
        let now = clock.now();
        if now.since(forgotten) >= FORGET_EVERY {
            forgotten = now;
            if let Err(error) = gates.registrations().forget(now).await {
                tracing::warn!(%error, "registrations that were settled long ago could not be forgotten");
            }
        }
    }
}

/// Looks once. `told` is what was told of and could not be settled: that is not told of again.
async fn look(gates: &Gates, journal: &Journal, clock: &SharedClock, told: &mut Vec<RegistrationRow>) {
    let registrations = gates.registrations();
    let unstated = match registrations.unstated(gates.custody(), clock.now()).await {
        Ok(unstated) => unstated,
        Err(error) => {
            tracing::warn!(%error, "registrations cannot be looked at");
            return;
        }
    };
    for found in unstated {
        let registration = &found.registration;
        if !told.contains(registration) {
            if !tell(&found, journal).await {
                continue;
            }
            told.push(registration.clone());
        }
        match registrations.settled(&found, clock.now()).await {
            Ok(()) => told.retain(|other| other != registration),
            Err(error) => {
                tracing::warn!(%error, "a model that was registered past the gate waits to be settled");
            }
        }
    }
}

/// Whether it is told of: what is not in the record, nobody heard of.
async fn tell(found: &Unstated, journal: &Journal) -> bool {
    let registration = &found.registration;
    tracing::error!(model = registration.named, "a model was registered past the gate");
    let event = Event::UnstatedModel {
        model: registration.named.clone(),
        hook: registration.hook.clone(),
        registered: registration.happened.as_millis(),
        seen: found.seen,
    };
    let recorded = journal.happened(&event).await.is_ok();
    if recorded {
        metrics::counter!("amlgate_unstated_models_total", "hook" => registration.hook.clone()).increment(1);
    } else {
        tracing::error!("that a model was registered past the gate could not be recorded");
    }
    recorded
}
