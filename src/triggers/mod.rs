//! What starts by itself: each merged change that a trigger of the policies names is run once, for whoever
//! had it merged, as any call of theirs would be.
//!
//! A run is a row of the store from the moment on at which its merge was read of, and whoever works on it
//! has a lease: a replica that ends in the middle leaves it to another, and none runs it twice. What is put
//! at Azure has the run's id in its tags, so that whoever does not know whether it arrived looks there
//! first. What came of it is recorded and said on the change; what is to be said lies in the row until it
//! was.
//!
//! Nothing here decides: that do the policies, in [`errand`](crate::proxy::errand), and what they let
//! nobody do no trigger does.

mod run;
mod step;
mod words;

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{run::Run, step::Work};
use crate::{
    gates::review::merges::{Branch, Wanting},
    policy::Trigger,
    proxy::{Core, Gate},
    store::{RunRow, Store, StoreError, TriggerBranch},
    time::Timestamp,
};

/// How often it is looked for merges that another replica read of, and for runs that are due.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often a branch is asked about where nobody hints at anything.
const POLL: Duration = Duration::from_secs(60);
/// Replicas' clocks may differ so much, and a row may become visible so late.
const OVERLAP: Duration = Duration::from_secs(60);
/// Merges that are read at a time.
const PAGE: u32 = 500;
/// Runs that are worked on at a time.
const AT_A_TIME: usize = 4;

/// Starts what triggers name until it is told to stop; what is under way then is worked on to its end.
/// Belongs on a thread of its own, inside a `LocalSet`: like a core's, its connections are its own.
pub async fn run(core: Core, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    let mut news = core.gate().parts().gates.merges().changes();
    while !stop.is_cancelled() {
        news.borrow_and_update();
        let gate = core.gate();
        if let Some(store) = &gate.parts().store
            && let Err(error) = look(&gate, store).await
        {
            tracing::warn!(%error, "what triggers are to start cannot be looked up");
        }
        let clock = Arc::clone(&gate.parts().clock);
        work(&gate, &mut tasks).await;
        let mut next = clock.sleep(LOOK_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Ok(()) = news.changed() => break,
                () = &mut next => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Makes a run of each merge that has none.
async fn look(gate: &Gate, store: &Store) -> Result<(), StoreError> {
    let parts = gate.parts();
    let policies = parts.policies.current();
    let branch = |trigger: &Arc<Trigger>| Branch {
        server: Arc::clone(&trigger.server),
        project: Arc::clone(&trigger.project),
        branch: Arc::clone(&trigger.branch),
        poll: POLL,
    };
    parts.gates.merges().watch(Wanting::Triggers, policies.triggers().iter().map(branch).collect());
    for trigger in policies.triggers().iter() {
        gather(gate, store, trigger).await?;
    }
    Ok(())
}

async fn gather(gate: &Gate, store: &Store, trigger: &Trigger) -> Result<(), StoreError> {
    let now = gate.parts().clock.now();
    let of = TriggerBranch {
        trigger: trigger.entry.name.to_string(),
        server: trigger.server.to_string(),
        project: trigger.project.to_string(),
        branch: trigger.branch.to_string(),
    };
    let looked = store.trigger_looked(of.clone(), now).await?;
    let merges = gate.parts().gates.merges();
    let mut from = looked.walked.minus(OVERLAP);
    loop {
        let page = merges.since(&of.server, &of.project, &of.branch, from, PAGE).await?;
        let full = u32::try_from(page.len()).is_ok_and(|count| count >= PAGE);
        let last = page.last().map(|(seen, _)| *seen);
        for (_, merge) in page {
            // What was merged before anybody wanted this is nothing that it was to start.
            if merge.merged >= looked.since {
                keep(store, trigger, Run::of(merge), now).await?;
            }
        }
        match last {
            Some(last) if full && last > from => from = last,
            Some(last) => return store.trigger_walked(of, last).await,
            None => return Ok(()),
        }
    }
}

async fn keep(store: &Store, trigger: &Trigger, run: Run, now: Timestamp) -> Result<(), StoreError> {
    let row = RunRow {
        id: uuid::Uuid::now_v7().to_string(),
        trigger: trigger.entry.name.to_string(),
        server: run.merge.server.to_string(),
        change: run.merge.number,
        commit: run.merge.commit.clone(),
        made: now,
        due: now,
        version: 0,
        about: run.written(),
    };
    store.keep_run(row).await.map(drop)
}

/// Works on what is due, as far as there is room.
async fn work(gate: &Gate, tasks: &mut JoinSet<()>) {
    let Some(store) = &gate.parts().store else { return };
    while tasks.try_join_next().is_some() {}
    let room = AT_A_TIME.saturating_sub(tasks.len());
    let Ok(most) = u32::try_from(room) else { return };
    if most == 0 {
        return;
    }
    match store.runs_due(gate.parts().clock.now(), most).await {
        Ok(due) => {
            for row in due {
                tasks.spawn_local(Work::on(gate.clone(), row));
            }
        }
        Err(error) => tracing::warn!(%error, "what is due of what triggers started cannot be looked up"),
    }
}
