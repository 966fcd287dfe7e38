//! Works off the statements that are owed: each model is looked for at Azure, followed once more to the
//! commit of the job that made it, and stated. What is not there yet is looked for later; what never comes
//! is recorded as a statement that could not be made.
//!
//! A row goes when all of it is done. A gate that stops in the middle, or crashes, leaves it, and whoever
//! works next begins it anew: a decision states a model once, so that nothing is stated twice.

use std::time::Duration;

use serde_json::Value;

use super::azure::{Azure, Failure};
use crate::{
    audit::{
        event::{Event, Signed},
        note::hex,
    },
    azureml::{Descent, ResourceId},
    gates::custody::{Broken, Owed, Wanted, sent_by, written},
    lineage::{Custody, ModelId, Statements, facts, made_after},
    proxy::{GateParts, SharedParts},
    store::{OwedRow, Store, StoreError},
    time::Timestamp,
};

/// Other replicas add rows of which nothing is heard here.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A store that does not answer is asked again so soon.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// So many rows are worked on before the next look.
const BATCH: u32 = 32;
/// Whoever works on a row is gone if it is not done after so long.
const LEASE: Duration = Duration::from_secs(120);
/// What is not there yet is looked for again after a quarter of the time that it has been owed, within
/// these bounds.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// A call of which nobody knows whether Azure took it was not taken, if nothing is there after so long.
const UNHEARD: Duration = Duration::from_secs(3_600);
/// A model that Azure took in is there after so long, a long-running operation included.
const TAKEN: Duration = Duration::from_secs(86_400);
/// A job has ended after so long.
const LONGEST_JOB: Duration = Duration::from_secs(30 * 86_400);
/// The run history is waited for so long; what it says is not needed.
const HISTORY: Duration = Duration::from_secs(600);
/// A model's statements that are looked at.
const MOST: u32 = 16;

/// Works until it is cancelled.
pub async fn follow(shared: SharedParts) {
    let mut changes = shared.load().gates.custody().owing();
    let mut hints = shared.load().gates.registrations().hints();
    loop {
        changes.borrow_and_update();
        let parts = shared.load_full();
        let began = parts.clock.now();
        let next = match round(&parts).await {
            Ok(next) => {
                let latest = began.plus(LOOK_EVERY);
                next.map_or(latest, |next| next.min(latest))
            }
            Err(error) => {
                tracing::warn!(%error, "statements that are owed cannot be looked up now");
                began.plus(ASK_AGAIN)
            }
        };
        tokio::select! {
            _ = changes.changed() => {}
            // Event Grid says that a run has ended, or a model was registered.
            Ok(()) = hints.changed() => parts.gates.custody().hurry().await,
            () = parts.clock.sleep_until(next) => {}
        }
    }
}

/// Works on all that is due; when the next one is.
async fn round(parts: &GateParts) -> Result<Option<Timestamp>, StoreError> {
    let (Some(store), Some(statements)) = (&parts.store, &parts.statements) else { return Ok(None) };
    loop {
        let due = store.owed(parts.clock.now(), BATCH).await?;
        if due.is_empty() {
            break;
        }
        for row in due {
            Work { parts, store, statements, row }.done().await?;
        }
    }
    store.next_owed().await
}

/// One row, while it is worked on.
struct Work<'p> {
    parts: &'p GateParts,
    store: &'p Store,
    statements: &'p Statements,
    row: OwedRow,
}

/// What becomes of a row.
enum Next {
    /// Nothing is owed any more.
    Paid,
    /// It is looked at later; why, for the log.
    Later(String),
    /// It is stated, and that remains to be written to the model.
    Mark(Box<Owed>),
}

/// Why nothing can be stated now.
enum Hitch {
    /// It may come.
    NotYet(String),
    /// It will not.
    Never(String),
    /// Nothing was registered.
    Void,
}

impl From<Failure> for Hitch {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Passing(why) => Self::NotYet(why),
            Failure::Lasting(why) => Self::Never(why),
        }
    }
}

impl From<Broken> for Hitch {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Unread(why) => Self::NotYet(why),
            Broken::Chain(why) => Self::Never(why),
        }
    }
}

impl Work<'_> {
    async fn done(self) -> Result<(), StoreError> {
        let (id, version, now) = (&self.row.id, self.row.version, self.now());
        if !self.store.put_off_owed(id, version, now.plus(LEASE), &self.row.about).await? {
            return Ok(());
        }
        let Ok(owed) = serde_json::from_str::<Owed>(&self.row.about) else {
            tracing::error!(id, "what is owed is kept in a form that this gate does not know");
            return self.later(now.plus(PAUSES.1), &self.row.about).await;
        };
        match self.next(owed).await {
            Next::Paid => self.store.paid(id).await,
            Next::Later(why) => {
                tracing::debug!(id, why, "a statement is owed still");
                let age = self.age() / 4;
                self.later(self.now().plus(age.clamp(PAUSES.0, PAUSES.1)), &self.row.about).await
            }
            Next::Mark(owed) => match written(&owed) {
                Ok(about) => self.later(self.now(), &about).await,
                Err(_) => self.store.paid(id).await,
            },
        }
    }

    async fn later(&self, due: Timestamp, about: &str) -> Result<(), StoreError> {
        self.store.put_off_owed(&self.row.id, self.row.version + 1, due, about).await.map(drop)
    }

    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// How long it has been owed.
    fn age(&self) -> Duration {
        self.now().since(self.row.made)
    }

    async fn next(&self, owed: Owed) -> Next {
        if let Some(statement) = &owed.stated {
            return self.marked(&owed, statement).await;
        }
        let custody = match self.found(&owed).await {
            Ok(custody) => custody,
            Err(Hitch::Void) => return Next::Paid,
            Err(Hitch::NotYet(why)) if !self.is_over(&owed) => return Next::Later(why),
            Err(Hitch::NotYet(why) | Hitch::Never(why)) => return self.unstated(&owed, why).await,
        };
        match self.statements.state(&custody, self.now()).await {
            Ok(signed) => {
                let statement = hex(&signed.provenance);
                let event = Statements::told(&custody, Ok(signed));
                match self.parts.journal.happened(&event).await {
                    Ok(()) => self.stated(owed, &custody, statement),
                    Err(_) => Next::Later("the record takes nothing".to_owned()),
                }
            }
            Err(why) if why.is_passing() => Next::Later(why.to_string()),
            Err(why) => self.unstated(&owed, why.to_string()).await,
        }
    }

    fn stated(&self, owed: Owed, custody: &Custody, statement: String) -> Next {
        match custody.model.id.arm() {
            Some(id) => {
                let model = Wanted::Version(id.to_string());
                Next::Mark(Box::new(Owed { model, stated: Some(statement), ..owed }))
            }
            None => Next::Paid,
        }
    }

    /// Writes the statement's id to its model. What cannot be written is no harm to the statement.
    async fn marked(&self, owed: &Owed, statement: &str) -> Next {
        let Wanted::Version(id) = &owed.model else { return Next::Paid };
        let Some(id) = ResourceId::parse(id) else { return Next::Paid };
        let result = match Azure(self.parts).mark(&id, statement).await {
            Ok(()) => "written",
            Err(Failure::Passing(why)) if self.age() < TAKEN => return Next::Later(why),
            Err(Failure::Passing(why) | Failure::Lasting(why)) => {
                tracing::warn!(model = %id, why, "the statement is made, and not named in the model's tags");
                "failed"
            }
        };
        metrics::counter!("amlgate_statement_marks_total", "result" => result).increment(1);
        Next::Paid
    }

    /// Whether nobody waits for it any longer.
    fn is_over(&self, owed: &Owed) -> bool {
        let patience = match (self.row.answered, owed.by_itself) {
            (false, _) => UNHEARD,
            (true, false) => TAKEN,
            (true, true) => LONGEST_JOB,
        };
        self.age() >= patience
    }

    /// Records that a model which Azure took in has no statement; of one that was never taken nothing is
    /// to be said.
    async fn unstated(&self, owed: &Owed, why: String) -> Next {
        if !self.row.answered {
            tracing::info!(model = owed.called(), why, "nothing was registered, so that nothing is stated");
            return Next::Paid;
        }
        let event = Event::Stated {
            model: owed.called(),
            decision: owed.decided.decision.clone(),
            caller: owed.decided.caller.clone(),
            stated: Err::<Signed, String>(why),
        };
        metrics::counter!("amlgate_statements_total", "result" => "failed").increment(1);
        match self.parts.journal.happened(&event).await {
            Ok(()) => Next::Paid,
            Err(_) => Next::Later("the record takes nothing".to_owned()),
        }
    }

    /// The facts of the model that was registered.
    async fn found(&self, owed: &Owed) -> Result<Custody, Hitch> {
        let job = owed.job_id().ok_or_else(|| Hitch::Never("its job has no name".to_owned()))?;
        let azure = Azure(self.parts);
        if owed.by_itself {
            ended(&azure, &job, owed).await?;
        }
        let (id, shown) = self.model(&azure, owed).await?;
        let descent = Descent::of_version(&id, &shown);
        if !leads_to(&descent, &owed.from) {
            return Err(Hitch::Never(format!("`{id}` does not lie in `{}` any more", owed.from)));
        }
        let commit = self.parts.gates.custody().follow(&descent).await?;
        if commit.tie != owed.tie || commit.through.last() != Some(&job) {
            return Err(Hitch::Never(format!("`{id}` comes from another job or commit than was let in")));
        }
        let made = azure.shown(&job).await?.ok_or_else(|| Hitch::Never(format!("`{job}` is gone")))?;
        let run = match azure.run(&job).await {
            Ok(run) => run,
            Err(Failure::Passing(why)) if self.age() < HISTORY => return Err(Hitch::NotYet(why)),
            Err(Failure::Passing(_) | Failure::Lasting(_)) => None,
        };
        let model = ModelId::parse(id.as_str())
            .ok_or_else(|| Hitch::Never(format!("`{id}` is no version of a model")))?;
        Ok(facts(owed, model, &job, &made, run.as_ref()))
    }

    /// The version that was registered, as Azure shows it.
    async fn model(&self, azure: &Azure<'_>, owed: &Owed) -> Result<(ResourceId, Value), Hitch> {
        let not_there = || Hitch::NotYet(format!("`{}` is not there", owed.called()));
        match &owed.model {
            Wanted::Unknown(why) => {
                Err(if self.row.answered { Hitch::Never(why.clone()) } else { Hitch::NotYet(why.clone()) })
            }
            Wanted::Version(id) => {
                let id = ResourceId::parse(id).ok_or_else(not_there)?;
                let shown = azure.shown(&id).await?.ok_or_else(not_there)?;
                match provisioned(&shown) {
                    None | Some("Succeeded") => Ok((id, shown)),
                    Some("Failed" | "Canceled") => Err(Hitch::Void),
                    Some(state) => Err(Hitch::NotYet(format!("`{id}` is {state}"))),
                }
            }
            Wanted::Named { .. } => {
                let model = ResourceId::parse(&owed.called()).ok_or_else(not_there)?;
                let mut versions = azure.versions(&model).await?;
                // The first that was made since: the newest come first.
                versions.reverse();
                for (id, shown) in versions {
                    let ours = made_after(&shown, self.row.made)
                        && leads_to(&Descent::of_version(&id, &shown), &owed.from);
                    if ours && !self.is_anothers(&id).await? {
                        return Ok((id, shown));
                    }
                }
                Err(not_there())
            }
        }
    }

    /// Whether another decision registered a version, and stated it.
    async fn is_anothers(&self, id: &ResourceId) -> Result<bool, Hitch> {
        let Some(model) = ModelId::parse(id.as_str()) else { return Ok(true) };
        let stated = self.store.statements_of(model.folded(), MOST).await;
        let stated = stated.map_err(|error| Hitch::NotYet(error.to_string()))?;
        Ok(!stated.is_empty() && stated.iter().all(|row| row.decision != self.row.decision))
    }
}

/// Whether a job that registers what it makes has ended well.
async fn ended(azure: &Azure<'_>, job: &ResourceId, owed: &Owed) -> Result<(), Hitch> {
    let shown = azure.shown(job).await?;
    let shown = shown.ok_or_else(|| Hitch::NotYet(format!("`{job}` is not there")))?;
    // One that was there before was not submitted, but changed.
    if sent_by(&shown) != Some(&owed.decided.decision) {
        return Err(Hitch::Void);
    }
    let status = shown.pointer("/properties/status").and_then(Value::as_str).unwrap_or_default();
    match status.to_ascii_lowercase().as_str() {
        "completed" => Ok(()),
        "failed" | "canceled" => Err(Hitch::Void),
        _ => Err(Hitch::NotYet(format!("`{job}` is {status}"))),
    }
}

fn provisioned(shown: &Value) -> Option<&str> {
    shown.pointer("/properties/provisioningState").and_then(Value::as_str)
}

/// Whether what a version descends from is what was judged when it was let in.
fn leads_to(descent: &Descent, from: &str) -> bool {
    match descent {
        Descent::Job { id, .. } | Descent::Model(id) => id.as_str().eq_ignore_ascii_case(from),
        Descent::Deployment(_) | Descent::ThisJob | Descent::Unknown(_) => false,
    }
}
