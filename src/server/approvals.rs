//! What is done about approvals without anybody asking: what is over ends, what was taken back at
//! another replica is heard of.

use std::time::Duration;

use crate::{
    admin::api::{of_grant, of_request},
    audit::{
        Journal,
        event::{Event, GrantChange, Verdict},
    },
    config::Settings,
    gates::Gates,
    time::SharedClock,
};

/// How often the store is asked for changes (DECISIONS 26).
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often what is over ends: that it is over counts at once, by its time.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);
/// How often what ended long ago is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);

/// From here on so much waits for people, refusals name the console, if there is one, and the service
/// may ask in people's names that the configuration names.
pub(super) fn configured(gates: &Gates, settings: &Settings) {
    gates.approvals().at_console(settings.admin_url().as_deref());
    gates.approvals().bound_by(settings.limits.approvals);
    let speaker = settings.clutch.as_ref().and_then(|clutch| clutch.speaker.as_ref());
    gates.approvals().asked_for_by(speaker);
}

/// Looks once.
pub(super) async fn look(gates: &Gates) {
    if let Err(error) = gates.approvals().look().await {
        tracing::debug!(%error, "approvals cannot be read");
    }
}

/// Looks for ever, ends what is over and records that.
pub(super) async fn follow(gates: &Gates, journal: &Journal, clock: &SharedClock) {
    let (mut expired, mut forgotten) = (clock.now(), clock.now());
    let mut heard = None;
    loop {
        tokio::select! {
            () = clock.sleep(LOOK_EVERY) => {}
            () = gates.approvals().told(&mut heard) => {}
        }
        look(gates).await;
        let now = clock.now();
        if now.since(expired) >= EXPIRE_EVERY {
            expired = now;
            expire(gates, journal).await;
        }
        if now.since(forgotten) >= FORGET_EVERY {
            forgotten = now;
            if let Err(error) = gates.approvals().forget().await {
                tracing::warn!(%error, "approvals that ended long ago could not be forgotten");
            }
        }
    }
}

async fn expire(gates: &Gates, journal: &Journal) {
    let (requests, grants) = match gates.approvals().expire().await {
        Ok(ended) => ended,
        Err(error) => {
            tracing::warn!(%error, "approvals that are over could not be ended");
            return;
        }
    };
    let requests = requests.iter().map(|request| of_request(request, None, Verdict::Expired, None));
    let grants = grants.iter().map(|grant| of_grant(grant, None, GrantChange::Expired));
    let events: Vec<Event> = requests.chain(grants).collect();
    for event in events {
        if journal.happened(&event).await.is_err() {
            tracing::error!("that an approval is over could not be recorded");
        }
    }
}
