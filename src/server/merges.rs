//! What was merged at the code hosts is read: at intervals, and at once when somebody hints at it.
//!
//! Each branch has a reader of its own, so that one server that does not answer keeps up nobody else.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::rand;
use tokio::task::JoinSet;

use crate::{
    config::Settings,
    gates::{
        Gates,
        review::{
            merges::{Branch, Wanting},
            reconcile::Kept,
        },
    },
    time::SharedClock,
};

/// Hints make nobody ask more often than this.
const LEAST: Duration = Duration::from_secs(1);
/// A code host that has told of something may take so long to list it.
const SETTLES_IN: Duration = Duration::from_secs(5);
/// Who does not answer is asked again after so long, then after twice as long, and so on.
const AGAIN: Duration = Duration::from_secs(5);

/// From here on what the configuration watches is read.
pub(super) fn configured(gates: &Gates, settings: &Settings) {
    let of = |gerrit: &crate::config::settings::Gerrit| {
        let (server, poll) = (Arc::clone(&gerrit.name), gerrit.poll);
        let branch = move |(project, branch): &(Arc<str>, Arc<str>)| Branch {
            server: Arc::clone(&server),
            project: Arc::clone(project),
            branch: Arc::clone(branch),
            poll,
        };
        gerrit.watch.iter().map(branch).collect::<Vec<_>>()
    };
    gates.merges().watch(Wanting::Configuration, settings.gerrits.iter().flat_map(of).collect());
}

/// Reads for ever whatever is watched.
pub(super) async fn follow(gates: &Arc<Gates>, clock: &SharedClock) {
    let mut branches = gates.merges().branches();
    loop {
        let mut readers = JoinSet::new();
        for branch in branches.borrow_and_update().iter() {
            readers.spawn(read_on(Arc::clone(gates), branch.clone(), Arc::clone(clock)));
        }
        // Readers end with their set, wherever they are: what they kept is kept.
        if branches.changed().await.is_err() {
            return;
        }
    }
}

async fn read_on(gates: Arc<Gates>, branch: Branch, clock: SharedClock) {
    let mut hints = gates.hints().of(&branch.server, &branch.project);
    let (mut kept, mut failures) = (Kept::default(), 0_u32);
    let mut complaint: Option<String> = None;
    let mut hinted = false;
    loop {
        hints.borrow_and_update();
        let read = look(&gates, &branch, &mut kept, &clock).await;
        let wait = match read {
            Ok(new) => {
                if new > 0 {
                    let Branch { server, project, branch, .. } = &branch;
                    tracing::info!(%server, %project, %branch, new, "changes were merged");
                    metrics::counter!("amlgate_merges_total", "server" => server.to_string()).increment(new);
                }
                (failures, complaint) = (0, None);
                if hinted && new == 0 { SETTLES_IN.min(branch.poll) } else { varied(branch.poll) }
            }
            Err(why) => {
                let Branch { server, project, branch: name, .. } = &branch;
                metrics::counter!("amlgate_merges_unread_total", "server" => server.to_string()).increment(1);
                if complaint.as_ref() != Some(&why) {
                    tracing::error!(%server, %project, branch = %name, why, "what was merged cannot be read");
                    complaint = Some(why);
                }
                failures = failures.saturating_add(1);
                varied(AGAIN.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(branch.poll))
            }
        };
        let began = clock.now();
        hinted = tokio::select! {
            () = clock.sleep_until(began.plus(wait)) => false,
            // Whoever gives hints is there as long as the gates are.
            _ = hints.changed() => true,
        };
        if hinted {
            clock.sleep_until(began.plus(LEAST)).await;
        }
    }
}

async fn look(gates: &Gates, branch: &Branch, kept: &mut Kept, clock: &SharedClock) -> Result<u64, String> {
    let gerrit = gates.reviews().gerrit(&branch.server);
    let gerrit = gerrit.ok_or_else(|| format!("this gate has no Gerrit `{}` to ask", branch.server))?;
    gates.merges().read(&gerrit, branch, kept, &**clock).await.map_err(|why| why.to_string())
}

/// Up to a tenth longer, so that replicas do not ask in step.
fn varied(wait: Duration) -> Duration {
    let mut byte = [0];
    // Without chance they do.
    if rand::fill(&mut byte).is_err() {
        return wait;
    }
    wait.saturating_add(wait.mul_f64(f64::from(byte[0]) / 2_560.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_never_shorter_than_it_is_written_and_hardly_longer() {
        for _ in 0..256 {
            let wait = varied(Duration::from_secs(60));
            assert!((60_000..66_000).contains(&wait.as_millis()), "{wait:?}");
        }
    }
}
