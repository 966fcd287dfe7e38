//! What is done about break-glass without anybody asking: what is over ends, an overdue review is told
//! of, what another replica changed is heard of.

use std::{sync::Arc, time::Duration};

use crate::{
    admin::{Dependency, State, api::of_break_glass},
    audit::Journal,
    config::Settings,
    gates::{
        Gates,
        break_glass::{self, BreakGlass},
    },
    identity::Verifier,
    policy::PolicySet,
    time::SharedClock,
};

/// How often the store is asked for changes (DECISIONS 26).
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often what is over ends: that it is over counts at once, by its time.
const PASS_EVERY: Duration = Duration::from_secs(5);

/// Who may break the glass from here on.
pub(super) fn ruled(gates: &Gates, settings: &Settings, policies: &PolicySet, verifier: &Verifier) {
    if let Some(rules) = &settings.break_glass {
        let known = policies.subjects();
        for name in rules.subjects().filter(|name| !known.contains(name)) {
            tracing::error!(subject = %name, "`break_glass` names a subject that no policy defines: nobody belongs to it");
        }
    }
    gates.break_glass().vouches_by(Arc::clone(verifier.revoked().vouching()));
    gates.break_glass().ruled(settings.break_glass.clone());
}

/// Looks once.
pub(super) async fn look(gates: &Gates) {
    if let Err(error) = gates.break_glass().look().await {
        tracing::debug!(%error, "break-glass cannot be read");
    }
}

/// Looks for ever, ends what is over and records that.
pub(super) async fn follow(gates: &Gates, journal: &Journal, clock: &SharedClock) {
    let mut passed = clock.now();
    let mut heard = None;
    loop {
        tokio::select! {
            () = clock.sleep(LOOK_EVERY) => {}
            () = gates.break_glass().told(&mut heard) => {}
        }
        look(gates).await;
        let now = clock.now();
        if now.since(passed) >= PASS_EVERY {
            passed = now;
            pass(gates, journal).await;
        }
    }
}

async fn pass(gates: &Gates, journal: &Journal) {
    let became = match gates.break_glass().pass().await {
        Ok(became) => became,
        Err(error) => {
            tracing::warn!(%error, "a break-glass that is over could not be ended");
            return;
        }
    };
    for (glass, became) in &became {
        if journal.happened(&of_break_glass(glass, *became, None)).await.is_err() {
            tracing::error!(
                id = glass.id,
                what = became.name(),
                "what became of a break-glass could not be recorded"
            );
        }
    }
}

/// Whether the glass is whole: one that is open, or whose review is overdue, is for somebody to look at.
pub(super) fn dependency(gates: &Arc<Gates>, clock: &SharedClock) -> Dependency {
    let (gates, clock) = (Arc::clone(gates), Arc::clone(clock));
    Dependency::new("break-glass", move || {
        let Some(glass) = gates.break_glass().current() else { return State::Ready };
        let BreakGlass { id, asked, due, .. } = &glass;
        let now = clock.now();
        match glass.state_at(now) {
            break_glass::State::Open => State::Degraded {
                detail: format!(
                    "{} broke the glass until {}: break-glass {id}",
                    asked.by.id,
                    due.to_rfc3339()
                ),
            },
            break_glass::State::Over
                if glass.overdue || (glass.state == break_glass::State::Over && now >= *due) =>
            {
                State::Degraded {
                    detail: format!(
                        "the review of break-glass {id} is overdue, and nobody can break the glass before: `amlgate break-glass review {id} --note WORDS`"
                    ),
                }
            }
            break_glass::State::Asked
            | break_glass::State::Over
            | break_glass::State::Reviewed
            | break_glass::State::Dropped => State::Ready,
        }
    })
}
