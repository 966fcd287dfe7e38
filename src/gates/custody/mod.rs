//! The chain of custody: from which commit the job came that made a model.
//!
//! What a request says of a model's descent is followed to the job with the gate's own eyes: each step
//! is read at Azure with the gate's credential, and the job's commit is the one that the gate kept when
//! it sent the job, bound to it by a stamp in the job's properties. Azure lets nobody change what stands
//! there. What was kept is a row that is added before the job is sent; a job whose outcome nobody knows
//! has its commit too, and a name that is used twice has two rows, of which the stamp names one.
//!
//! A job that did not pass the gate has no commit, and neither have the children of a pipeline or sweep
//! by themselves: what they write is registered by their parent's outputs.

mod chain;
mod owed;
mod submit;
mod vouched;

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;
use tokio::sync::watch;

pub(in crate::gates) use self::owed::Owes;
pub use self::{
    chain::{Break, Sent, Submission, chain},
    owed::{Decided, Owed, Reviewed, Wanted, came, owed, written},
    submit::{Known, Stamp, Tie, stamped, tie},
    vouched::{Voucher, Vouching},
};
use super::approvals::call::hex;
use crate::{
    azureml::{BodyRefusal, Descent, Inspected, Kind, ResourceId},
    policy::Permit,
    store::{JobRow, Store, StoreError},
    time::SharedClock,
};

/// All of one walk takes at most so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many steps lead from a deployment to a job: deployment, version, a copy of it, the job.
const STEPS: u8 = 4;
/// So many models one request may put to serve.
const MODELS: usize = 16;

/// A resource as Azure shows it; `None` if it is not there.
///
/// # Errors
/// Why it could not be read.
pub type Reading = Pin<Box<dyn Future<Output = Result<Option<Value>, String>> + Send>>;

/// Reads resources at Azure with the gate's own credential.
pub struct Reader(Box<dyn Fn(ResourceId) -> Reading + Send + Sync>);

impl Reader {
    /// One that reads by a function.
    pub fn new(read: impl Fn(ResourceId) -> Reading + Send + Sync + 'static) -> Self {
        Self(Box::new(read))
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

/// The commit that a model, or a job that registers one, comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOf {
    /// The commit, and how it is known.
    pub tie: Tie,
    /// What led to it, from what the request names to the job.
    pub through: Vec<ResourceId>,
    /// The decision by which the job was sent.
    pub decision: String,
    /// The code and environment that it ran, as it was sent.
    pub sent: Sent,
}

/// There is no commit to be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Nobody can tell it, now or later.
    #[error("{0}")]
    Chain(String),
    /// It cannot be looked up now.
    #[error("{0}")]
    Unread(String),
}

/// Keeps jobs' commits, and follows models to them. One for the whole process.
#[derive(Debug)]
pub struct Custody {
    clock: SharedClock,
    store: Option<Store>,
    reader: ArcSwapOption<Reader>,
    voucher: ArcSwapOption<Voucher>,
    /// Changes whenever something is owed anew, or may be found out.
    owing: watch::Sender<u64>,
}

impl Custody {
    pub(super) fn new(clock: SharedClock, store: Option<Store>) -> Self {
        Self {
            clock,
            store,
            reader: ArcSwapOption::empty(),
            voucher: ArcSwapOption::empty(),
            owing: watch::Sender::new(0),
        }
    }

    /// With what Azure is read from here on.
    pub fn read_by(&self, reader: Option<Reader>) {
        self.reader.store(reader.map(Arc::new));
    }

    /// The commits that the models descend from that a permit registers or deploys; at least one.
    ///
    /// # Errors
    /// [`Broken`], at the first of which none can be told.
    pub async fn commits_of(&self, permit: &Permit) -> Result<Vec<CommitOf>, Broken> {
        let descends = &permit.operation().facts.descends;
        if descends.is_empty() {
            return Err(Broken::Chain(
                "it is about no model and no job whose commit could be told".to_owned(),
            ));
        }
        if descends.len() > MODELS {
            return Err(Broken::Chain(format!("more than {MODELS} models at once are not looked at")));
        }
        let all = async {
            let mut found: Vec<CommitOf> = Vec::new();
            for descent in descends {
                let commit = self.followed(Some(permit), descent).await?;
                if !found.contains(&commit) {
                    found.push(commit);
                }
            }
            Ok(found)
        };
        tokio::select! {
            found = all => found,
            () = self.clock.sleep(PATIENCE) => Err(late()),
        }
    }

    /// The commit that a model descends from, by the words of Azure.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn follow(&self, descent: &Descent) -> Result<CommitOf, Broken> {
        tokio::select! {
            found = self.followed(None, descent) => found,
            () = self.clock.sleep(PATIENCE) => Err(late()),
        }
    }

    async fn followed(&self, permit: Option<&Permit>, descent: &Descent) -> Result<CommitOf, Broken> {
        let (mut descent, mut through) = (descent.clone(), Vec::new());
        for _ in 0..=STEPS {
            let next = match &descent {
                Descent::Unknown(why) => return Err(Broken::Chain(why.to_string())),
                Descent::ThisJob => {
                    let none = || Broken::Chain("no job is submitted".to_owned());
                    return this_job(permit.ok_or_else(none)?);
                }
                Descent::Job { id, output } => {
                    through.push(id.clone());
                    return self.of_job(id, output.as_ref(), through).await;
                }
                Descent::Model(id) => Descent::of_version(id, &self.there(id).await?),
                Descent::Deployment(id) => Descent::of_deployment(id, &self.there(id).await?),
            };
            if let Descent::Model(id) | Descent::Deployment(id) = &descent {
                through.push(id.clone());
            }
            descent = next;
        }
        Err(Broken::Chain("it is a copy of a copy, and so on: register it from its job".to_owned()))
    }

    async fn of_job(
        &self,
        id: &ResourceId,
        output: Option<&Arc<str>>,
        through: Vec<ResourceId>,
    ) -> Result<CommitOf, Broken> {
        let broken = |why: Break| Broken::Chain(format!("job `{id}` {why}"));
        let job = self.there(id).await?;
        let stamp = chain::decision(&job).map_err(broken)?;
        let row = self.store()?.job(id.folded(), stamp).await.map_err(|error| unread(&error))?;
        let kept = row.map(submission).transpose()?;
        let tie = chain(id, &job, kept.as_ref(), output).map_err(broken)?;
        let kept = kept.ok_or_else(|| broken(Break::Unknown))?;
        Ok(CommitOf { tie, through, decision: kept.decision, sent: kept.sent })
    }

    async fn there(&self, id: &ResourceId) -> Result<Value, Broken> {
        let found = self.read(id).await?;
        found.ok_or_else(|| Broken::Chain(format!("`{id}` is not there")))
    }

    /// Whether something is there, as Azure says.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub(super) async fn is_there(&self, id: &ResourceId) -> Result<bool, String> {
        let late = || format!("Azure did not answer within {} s", PATIENCE.as_secs());
        tokio::select! {
            found = self.read(id) => found.map(|found| found.is_some()).map_err(|broken| broken.to_string()),
            () = self.clock.sleep(PATIENCE) => Err(late()),
        }
    }

    /// A resource as Azure shows it to the gate itself; `None` if it is not there.
    ///
    /// # Errors
    /// [`Broken::Unread`].
    pub async fn shown(&self, id: &ResourceId) -> Result<Option<Value>, Broken> {
        tokio::select! {
            found = self.read(id) => found,
            () = self.clock.sleep(PATIENCE) => {
                Err(Broken::Unread(format!("Azure did not answer within {} s", PATIENCE.as_secs())))
            }
        }
    }

    async fn read(&self, id: &ResourceId) -> Result<Option<Value>, Broken> {
        let reader = self.reader.load_full();
        let reader = reader.ok_or_else(|| Broken::Unread("this gate reads nothing at Azure".to_owned()))?;
        (reader.0)(id.clone()).await.map_err(Broken::Unread)
    }

    fn store(&self) -> Result<&Store, Broken> {
        self.store.as_ref().ok_or_else(|| {
            Broken::Unread(
                "jobs' commits are kept in a store: add `store: {sqlite: var/amlgate.db}` to the configuration"
                    .to_owned(),
            )
        })
    }

    /// Keeps the commit of a job that a permit submits, before it is sent; the body with the stamp by
    /// which the job will say so, to be sent instead. `None` for whatever submits no job. A job whose
    /// commit cannot be told goes on without: it is what it makes that must have one.
    ///
    /// # Errors
    /// [`Broken`] if it cannot be kept, or not be seen whether the job is there already: that keeps the
    /// stamp that it has.
    pub async fn submitted(&self, permit: &Permit) -> Result<Option<Inspected>, Broken> {
        let Some((id, body)) = job_of(permit) else { return Ok(None) };
        let look = async {
            if self.read(id).await?.is_some() {
                let stamp = Stamp { decision: None, tie: None };
                return stamped(body, stamp).map(Some).map_err(unstamped);
            }
            let from = of_body(permit, body);
            let decision = permit.decision().to_string();
            let stamp = Stamp { decision: Some(&decision), tie: from.as_ref().ok() };
            let sent = stamped(body, stamp).map_err(unstamped)?;
            let job = submit::member(sent.value(), "properties").unwrap_or(&Value::Null);
            let hashed = hex(digest(&SHA256, sent.bytes()).as_ref());
            let about = Sent::of(job, from, permit.principal().id.to_string(), hashed);
            let row = JobRow {
                job: id.folded().to_owned(),
                decision,
                commit: about.from.as_ref().ok().map(|tie| tie.commit.clone()),
                made: self.clock.now(),
                about: serde_json::to_string(&about).map_err(|error| Broken::Unread(error.to_string()))?,
            };
            self.store()?.keep_job(row).await.map_err(|error| unread(&error))?;
            Ok(Some(sent))
        };
        tokio::select! {
            sent = look => sent,
            () = self.clock.sleep(PATIENCE) => Err(late()),
        }
    }
}

fn late() -> Broken {
    Broken::Unread(format!("Azure did not answer within {} s", PATIENCE.as_secs()))
}

/// The decision by which a job was sent, as the job itself has it.
#[must_use]
pub fn sent_by(job: &Value) -> Option<&str> {
    chain::decision(job).ok()
}

/// Whether a permit submits a job.
#[must_use]
pub fn submits(permit: &Permit) -> bool {
    let operation = permit.operation();
    operation.kind == Kind::Write && &*operation.name == "Jobs_CreateOrUpdate"
}

/// The job that a permit submits, and its body.
fn job_of(permit: &Permit) -> Option<(&ResourceId, &Inspected)> {
    submits(permit).then_some(())?;
    Some((permit.operation().acts.first()?.resource.as_ref()?, permit.request().body.as_deref()?))
}

/// The commit of what a permit submits.
fn of_body(permit: &Permit, body: &Inspected) -> Result<Tie, String> {
    tie(permit.principal(), job_in(body).ok_or("its body holds no job")?)
}

/// The job's properties in the body of a job, or of a schedule of one.
fn job_in(body: &Inspected) -> Option<&Value> {
    let properties = submit::member(body.value(), "properties")?;
    match submit::member(properties, "action") {
        Some(action) => submit::member(action, "jobDefinition"),
        None => Some(properties),
    }
}

/// The commit of a job that registers what it makes, as it is submitted.
fn this_job(permit: &Permit) -> Result<CommitOf, Broken> {
    let broken = |why: String| Broken::Chain(format!("the job has no commit: {why}"));
    let body = permit.request().body.as_deref().ok_or_else(|| broken("its body was not read".to_owned()))?;
    let job = job_in(body).ok_or_else(|| broken("its body holds no job".to_owned()))?;
    let tie = tie(permit.principal(), job).map_err(broken)?;
    let hashed = hex(digest(&SHA256, body.bytes()).as_ref());
    let sent = Sent::of(job, Ok(tie.clone()), permit.principal().id.to_string(), hashed);
    if let Some(placed) = chain::registers_elsewhere(job) {
        let why = format!("output `{placed}` lies where whoever submits it chose: leave out its `uri`");
        return Err(Broken::Chain(why));
    }
    let through = permit.operation().acts.first().and_then(|act| act.resource.clone());
    let decision = permit.decision().to_string();
    Ok(CommitOf { tie, through: through.into_iter().collect(), decision, sent })
}

fn submission(row: JobRow) -> Result<Submission, Broken> {
    let unreadable =
        || Broken::Unread("the store holds a job in a form that this gate does not know".to_owned());
    let sent = serde_json::from_str(&row.about).map_err(|_| unreadable())?;
    Ok(Submission { decision: row.decision, made: row.made, sent })
}

fn unread(error: &StoreError) -> Broken {
    Broken::Unread(format!("jobs' commits cannot be looked up now: {error}"))
}

fn unstamped(refusal: BodyRefusal) -> Broken {
    Broken::Chain(format!("its commit cannot be written into it: {refusal}"))
}

#[cfg(test)]
mod tests;
