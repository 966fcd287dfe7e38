//! One look at one run: whoever has its lease does what is next, and gives it back with when to look again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::{
    run::{Asked, Run, Say, Stage, ended, is_of, wait},
    words::{About, error_of},
};
use crate::{
    audit::event::{Event, RunBecame},
    azureml::{Protocol, ResourceId},
    gates::{
        approvals::State,
        review::{
            decide::Step,
            gerrit::say::{Said, Unsaid},
        },
    },
    http::headers::REASON,
    identity::Merged,
    policy::{
        Trigger,
        trigger::{Change, Report},
    },
    proxy::{
        Gate,
        errand::{self, Answered, Errand, Next},
    },
    store::{NEVER, RunRow, StoreError},
    time::Timestamp,
};

/// Nobody else works on a run for so long: longer than any call takes.
const LEASE: Duration = Duration::from_secs(1_800);
/// How often it is looked whether people have answered.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether a job has ended.
const FOLLOW_EVERY: Duration = Duration::from_secs(30);
/// What cannot be started for so long is not started any more.
const START_WITHIN: Duration = Duration::from_secs(24 * 3_600);
/// A code host knows what was merged, and how it was reviewed, within this.
const REVIEWED_WITHIN: Duration = Duration::from_secs(600);
/// What cannot be said for so long is not said any more.
const SAY_WITHIN: Duration = Duration::from_secs(24 * 3_600);
/// A job that has not ended by then is nobody's news.
const FOLLOW_FOR: Duration = Duration::from_secs(30 * 24 * 3_600);

/// A run that this one works on.
pub(super) struct Work {
    gate: Gate,
    row: RunRow,
    run: Run,
    trigger: Option<Arc<Trigger>>,
}

/// Somebody else works on it: the lease is over, or the row cannot be kept now.
struct Lost;

impl Work {
    /// Takes a run, if nobody else has, does what is next, and gives it back.
    pub async fn on(gate: Gate, mut row: RunRow) {
        let Some(store) = gate.parts().store.clone() else { return };
        let now = gate.parts().clock.now();
        match store.take_run(&row, now, now.plus(LEASE)).await {
            Ok(true) => row.version += 1,
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, run = row.id, "a run cannot be taken");
                return;
            }
        }
        let policies = gate.parts().policies.current();
        let Ok(run) = serde_json::from_str::<Run>(&row.about) else {
            tracing::error!(run = row.id, "a run is kept in a form that this gate does not know");
            row.due = NEVER;
            if let Err(error) = store.change_run(&row, Timestamp::default()).await {
                tracing::warn!(%error, run = row.id, "a run cannot be given back");
            }
            return;
        };
        let of_it = |trigger: &&Arc<Trigger>| {
            *trigger.entry.name == *row.trigger
                && (&trigger.server, &*trigger.project, &*trigger.branch)
                    == (&run.merge.server, &*run.merge.project, &*run.merge.branch)
        };
        let trigger = policies.triggers().iter().find(of_it).cloned();
        let mut work = Self { gate, row, run, trigger };
        if work.step().await.is_ok() && work.say().await.is_ok() && work.keep(None).await.is_err() {
            tracing::warn!(run = work.row.id, "a run was not given back: its lease ends by itself");
        }
    }

    fn now(&self) -> Timestamp {
        self.gate.parts().clock.now()
    }

    /// Keeps what is known; with a lease until then, or given back.
    async fn keep(&mut self, lease: Option<Timestamp>) -> Result<(), Lost> {
        self.row.about = self.run.written();
        let store = self.gate.parts().store.as_ref().ok_or(Lost)?;
        match store.change_run(&self.row, lease.unwrap_or_default()).await {
            Ok(true) => {
                self.row.version += 1;
                Ok(())
            }
            Ok(false) => Err(Lost),
            Err(error) => {
                tracing::warn!(%error, run = self.row.id, "a run cannot be kept");
                Err(Lost)
            }
        }
    }

    async fn step(&mut self) -> Result<(), Lost> {
        match self.run.stage.clone() {
            Stage::Due => self.start().await,
            Stage::Waits { request } => self.answered(&request).await,
            Stage::Started => {
                self.follow().await;
                Ok(())
            }
            Stage::Over => {
                self.row.due = NEVER;
                Ok(())
            }
        }
    }

    /// Whether people have answered, and what follows from that.
    async fn answered(&mut self, id: &str) -> Result<(), Lost> {
        let now = self.now();
        let state = match self.gate.parts().gates.approvals().request(id).await {
            Ok(request) => request.map(|request| request.state_at(now)),
            Err(StoreError::Busy | StoreError::Late | StoreError::Unavailable(_)) => Some(State::Pending),
        };
        match state {
            Some(State::Pending) => {
                self.row.due = now.plus(ASK_EVERY);
                Ok(())
            }
            // What is forgotten is asked again.
            Some(State::Approved) | None => {
                self.run.stage = Stage::Due;
                self.start().await
            }
            Some(state @ (State::Denied | State::Expired | State::Withdrawn)) => {
                self.refuse(&format!("request {id} for approval was {}", state.name())).await;
                Ok(())
            }
        }
    }

    async fn start(&mut self) -> Result<(), Lost> {
        let Some(trigger) = self.trigger.clone() else {
            self.refuse("the policies have no such trigger for it any more").await;
            return Ok(());
        };
        let served = self.run.served(trigger.acts_as);
        let Some(person) = served.and_then(|party| party.person.clone()) else {
            let whose = trigger.acts_as.name();
            self.refuse(&format!("who its {whose} is as a person is not known: `people.links` says so"))
                .await;
            return Ok(());
        };
        self.run.person = Some(person.clone());
        if self.run.put.is_none() {
            match self.prepared(&trigger, &person).await {
                Ok(put) => self.run.put = Some(put),
                Err(Some((again, within))) => {
                    self.later(&again, within).await;
                    return Ok(());
                }
                Err(None) => return Ok(()),
            }
            // From here on the same is put, by whichever replica.
            let lease = self.now().plus(LEASE);
            self.keep(Some(lease)).await?;
        }
        let Some(put) = self.run.put.clone() else { return Ok(()) };
        match self.there(&put).await {
            Ok(false) => {}
            Ok(true) => {
                self.started().await;
                return Ok(());
            }
            Err(Unstarted::Never(why)) => {
                self.refuse(&why).await;
                return Ok(());
            }
            Err(Unstarted::Later(why)) => {
                self.later(&why, START_WITHIN).await;
                return Ok(());
            }
        }
        let merge = &self.run.merge;
        let merged = Merged {
            trigger: Arc::clone(&trigger.entry.name),
            server: Arc::clone(&merge.server),
            project: merge.project.clone(),
            branch: merge.branch.clone(),
            change: merge.number,
            commit: merge.commit.clone(),
            at: merge.merged,
        };
        let principal = match self.gate.parts().verifier.triggered(&person, &merged) {
            Ok(principal) => principal,
            Err(nobody) => {
                self.refuse(&nobody.to_string()).await;
                return Ok(());
            }
        };
        let mut headers = HeaderMap::new();
        let reason =
            format!("trigger `{}`: change {} was merged: {}", trigger.entry.name, merge.number, merge.url);
        if let Ok(reason) = HeaderValue::from_str(&reason) {
            headers.insert(REASON, reason);
        }
        let errand = Errand { method: Method::PUT, target: put.target, headers, body: Bytes::from(put.body) };
        match errand::run(&self.gate, principal, errand).await {
            Ok(answered) => self.put(answered).await,
            Err(undone) => {
                self.run.decision = Some(undone.decision.to_string());
                match undone.next {
                    Next::Nothing => self.refuse(&undone.why).await,
                    Next::Again(_) if undone.code == "ReviewRequired" => {
                        self.later(&undone.why, REVIEWED_WITHIN).await;
                    }
                    Next::Again(after) => {
                        self.later(&undone.why, START_WITHIN).await;
                        self.row.due = self.row.due.max(self.now().plus(after));
                    }
                    Next::Answered(request) => self.waits(request.into()).await,
                }
            }
        }
        Ok(())
    }

    /// What is put, with who approved the change; why not now, or nothing if that was told for good.
    async fn prepared(
        &mut self,
        trigger: &Trigger,
        person: &str,
    ) -> Result<Asked, Option<(String, Duration)>> {
        let merge = self.run.merge.clone();
        let Some(gerrit) = self.gate.parts().gates.reviews().gerrit(&merge.server) else {
            self.refuse(&format!("amlgate.yaml names no Gerrit `{}` any more", merge.server)).await;
            return Err(None);
        };
        let approvers = match gerrit.approvers(&merge).await {
            Ok(approvers) => approvers,
            Err(why) if why.step == Step::Asking => return Err(Some((why.why, START_WITHIN))),
            // What was merged a moment ago may not be found by its commit yet.
            Err(why) if why.step == Step::Change => return Err(Some((why.why, REVIEWED_WITHIN))),
            Err(why) => {
                self.refuse(&why.why).await;
                return Err(None);
            }
        };
        let tags = self.run.tags(&self.row.id, &trigger.entry.name, person, &approvers);
        match trigger.put(Change { number: merge.number, commit: &merge.commit }, &tags) {
            Ok(put) => Ok(Asked { target: put.target, body: put.body }),
            Err(why) => {
                self.refuse(&why.to_string()).await;
                Err(None)
            }
        }
    }

    /// Whether what is put is there already, because this run has put it.
    async fn there(&self, put: &Asked) -> Result<bool, Unstarted> {
        let id = ResourceId::parse(put.resource())
            .ok_or_else(|| Unstarted::Never(format!("`{}` is no ARM id", put.resource())))?;
        match self.gate.parts().gates.custody().shown(&id).await {
            Ok(None) => Ok(false),
            Ok(Some(found)) if is_of(&found, &self.row.id) => Ok(true),
            Ok(Some(_)) => {
                Err(Unstarted::Never(format!("`{id}` is there already, and of somebody else's making")))
            }
            Err(broken) => Err(Unstarted::Later(broken.to_string())),
        }
    }

    /// Azure has answered.
    async fn put(&mut self, answered: Answered) {
        self.run.decision = Some(answered.decision.to_string());
        let status = answered.status;
        if status.is_success() {
            return self.started().await;
        }
        let why = format!("Azure answered {status}{}", error_of(&answered.body.unwrap_or_default()));
        let passes = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        if passes { self.later(&why, START_WITHIN).await } else { self.refuse(&why).await }
    }

    /// Whether a job has ended.
    async fn follow(&mut self) {
        let now = self.now();
        self.row.due = now.plus(FOLLOW_EVERY);
        let id = self.run.put.as_ref().and_then(|put| ResourceId::parse(put.resource()));
        let found = match &id {
            Some(id) => self.gate.parts().gates.custody().shown(id).await,
            None => Ok(None),
        };
        let how = match found {
            Ok(Some(job)) => ended(&job).map(ToOwned::to_owned),
            Ok(None) => Some("it is gone".to_owned()),
            Err(broken) => {
                tracing::warn!(%broken, run = self.row.id, "whether a job has ended cannot be read");
                None
            }
        };
        let late = now.since(self.row.made) > FOLLOW_FOR;
        let Some(how) = how.or_else(|| late.then(|| "it has not in 30 days".to_owned())) else { return };
        if self.became(RunBecame::Ended, Some(&how)).await {
            let said = self.about(|about| about.ended(&how, how == "Completed", now));
            self.over(said);
        }
    }

    async fn waits(&mut self, request: String) {
        if self.became(RunBecame::Waits, Some(&format!("request {request} waits for an answer"))).await {
            self.run.stage = Stage::Waits { request };
            self.run.tries = 0;
            self.row.due = self.now().plus(ASK_EVERY);
        }
    }

    async fn started(&mut self) {
        if !self.became(RunBecame::Started, None).await {
            return;
        }
        let now = self.now();
        let said = self.about(|about| about.started(now));
        if self.run.put.as_ref().is_some_and(Asked::is_job) {
            self.run.stage = Stage::Started;
            self.run.tries = 0;
            self.run.say.push(said);
            self.row.due = now.plus(FOLLOW_EVERY);
        } else {
            self.over(said);
        }
    }

    async fn refuse(&mut self, why: &str) {
        if self.became(RunBecame::Refused, Some(why)).await {
            let now = self.now();
            let said = self.about(|about| about.refused(why, now));
            self.over(said);
        }
    }

    /// It may go better later; not for ever.
    async fn later(&mut self, why: &str, within: Duration) {
        let now = self.now();
        if now.since(self.row.made) > within {
            return self.refuse(why).await;
        }
        tracing::warn!(why, run = self.row.id, trigger = self.row.trigger, "a run is not started yet");
        self.row.due = now.plus(wait(self.run.tries));
        self.run.tries = self.run.tries.saturating_add(1);
    }

    fn over(&mut self, said: Say) {
        self.run.stage = Stage::Over;
        self.run.say.push(said);
        self.row.due = NEVER;
    }

    /// Records what became of it; nothing becomes of it that cannot be recorded, and it is tried again.
    async fn became(&mut self, became: RunBecame, why: Option<&str>) -> bool {
        let merge = &self.run.merge;
        let event = Event::Trigger {
            run: self.row.id.clone(),
            trigger: self.row.trigger.clone(),
            server: merge.server.to_string(),
            project: merge.project.clone(),
            change: merge.number,
            commit: merge.commit.clone(),
            person: self.run.person.clone(),
            became,
            resource: self.run.put.as_ref().map(|put| put.resource().to_owned()),
            decision: self.run.decision.clone(),
            why: why.map(ToOwned::to_owned),
        };
        let recorded = self.gate.parts().journal.happened(&event).await.is_ok();
        if !recorded {
            self.row.due = self.now().plus(wait(0));
        }
        recorded
    }

    fn about(&self, say: impl FnOnce(About<'_>) -> Say) -> Say {
        let usual = Report { label: None, url: true };
        let arm = self.gate.parts().routes.iter().find(|route| route.settings.protocol == Protocol::Arm);
        say(About {
            run: &self.row.id,
            trigger: &self.row.trigger,
            report: self.trigger.as_ref().map_or(&usual, |trigger| &trigger.report),
            put: self.run.put.as_ref(),
            host: arm.map_or("", |route| &route.settings.upstream.host),
            decision: self.run.decision.as_deref(),
        })
    }

    /// Says what is to be said, in order; what fails is said another time.
    async fn say(&mut self) -> Result<(), Lost> {
        while let Some(say) = self.run.say.first().cloned() {
            let now = self.now();
            let merge = &self.run.merge;
            let message = format!("{}\n{}", say.text, say.mark);
            let vote = say.vote.as_ref().map(|(label, vote)| (label.as_str(), *vote));
            let said = Said { message: &message, mark: &say.mark, vote };
            let said = match self.gate.parts().gates.reviews().gerrit(&merge.server) {
                Some(gerrit) => gerrit.say(&merge.project, merge.number, &merge.commit, &said).await,
                None => Err(Unsaid::Refused(format!("amlgate.yaml names no Gerrit `{}`", merge.server))),
            };
            match said {
                Ok(()) => drop(self.run.say.remove(0)),
                Err(why) if say.is_stale(now, SAY_WITHIN) => {
                    tracing::error!(%why, run = self.row.id, "what came of a run was not said on its change");
                    self.run.say.remove(0);
                }
                Err(why) => {
                    tracing::warn!(%why, run = self.row.id, "what came of a run cannot be said on its change");
                    let again = now.plus(wait(say.tries));
                    if let Some(say) = self.run.say.first_mut() {
                        say.tries = say.tries.saturating_add(1);
                    }
                    self.row.due = self.row.due.min(again);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Why what is put is not put.
enum Unstarted {
    Never(String),
    Later(String),
}
