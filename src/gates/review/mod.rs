//! Only from reviewed code: whether the commit behind a call was reviewed and merged.
//!
//! A code host is asked each time, as a user of the gate's own, and [`decide`](decide::decide) judges by
//! what it says, which is a pure function. What was found is remembered for a moment, so that a client's
//! burst asks once, and never longer: branches are rewound, accounts closed, groups changed. A no is not
//! remembered. About the commit the gate believes whoever issued the caller's token, and what it kept itself
//! of the jobs that passed it.

pub mod accounts;
mod checks;
pub mod decide;
pub mod evidence;
pub mod facts;
pub mod gerrit;
pub mod github;
pub mod gitlab;
pub mod hints;
pub mod hosts;
pub mod members;
pub mod merges;
pub mod mirror;
pub mod people;
pub mod reconcile;
pub mod rest;
#[cfg(test)]
mod tests;
mod votes;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::Semaphore;

pub use self::evidence::{Approver, Evidence};
use self::{
    decide::{Step, Unreviewed, no},
    facts::is_commit,
    gerrit::Gerrit,
    hosts::{Found, Host, Others},
    mirror::Mirror,
};
use super::custody::{Broken, CommitOf, Custody};
use crate::{
    azureml::Effect,
    policy::{
        Denial, DenialCode, Permit, Review,
        review::{CommitFrom, Unreachable},
    },
    time::{SharedClock, Timestamp},
};

/// All questions about one review together take at most so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// What was found counts so long.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// So many reviews are remembered; each takes some 16 KiB.
const REMEMBERED: usize = 256;
/// So many reviews are asked about at the same time; more are told to come again.
const AT_A_TIME: usize = 16;

type Digest = [u8; 32];
type Servers = BTreeMap<Arc<str>, Gerrit>;

/// Asks code hosts, and remembers for a moment what they said. One for the whole process.
pub struct Reviews {
    clock: SharedClock,
    servers: ArcSwap<Servers>,
    others: ArcSwap<Others>,
    known: Mutex<HashMap<Digest, (Arc<Found>, Timestamp)>>,
    asking: Semaphore,
    mirror: Mirror,
}

/// Why a call does not go on.
#[derive(Debug)]
pub(super) struct Unshown {
    /// What to tell the caller.
    pub denial: Denial,
    /// What it may wait for.
    pub waits: Option<Box<ReviewWait>>,
}

/// What a call may wait for: that its code is reviewed and merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewWait {
    /// The code host, by its name in the configuration.
    pub server: Arc<str>,
    /// The project.
    pub project: Arc<str>,
    /// What it lacks.
    pub lacks: Lacks,
}

/// What a call lacks that time may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacks {
    /// Nobody answered; whether its entry has it wait until somebody does.
    Answer(Unreachable),
    /// A review: how long its entry has it wait for one by itself.
    Review(Duration),
}

impl fmt::Debug for Reviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reviews({:?}, {:?})", self.servers.load(), self.others.load())
    }
}

impl Reviews {
    pub(super) fn new(clock: SharedClock) -> Self {
        let (servers, others, known) = (ArcSwap::default(), ArcSwap::default(), Mutex::default());
        let mirror = Mirror::new(SharedClock::clone(&clock));
        Self { clock, servers, others, known, asking: Semaphore::new(AT_A_TIME), mirror }
    }

    /// Which Gerrits to ask from here on. What was said is forgotten.
    pub fn by(&self, servers: Vec<Gerrit>) {
        let servers = servers.into_iter().map(|server| (Arc::clone(server.name()), server)).collect();
        let servers = Arc::new(servers);
        self.mirror.by(Arc::clone(&servers));
        self.servers.store(servers);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A Gerrit by its name in the configuration.
    #[must_use]
    pub fn gerrit(&self, name: &str) -> Option<Gerrit> {
        self.servers.load().get(name).cloned()
    }

    /// Which other code hosts to ask from here on. What was said is forgotten.
    pub fn by_others(&self, others: Others) {
        self.others.store(Arc::new(others));
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Who is in the groups of reviewers that policies name.
    #[must_use]
    pub const fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// What was found of all reviews that a permit needs, and the jobs that they are about, where they
    /// are about jobs.
    ///
    /// # Errors
    /// [`Unshown`]: the first that is not there.
    pub(super) async fn shown(
        &self,
        permit: &Permit,
        custody: &Custody,
    ) -> Result<(Vec<Evidence>, Vec<CommitOf>), Box<Unshown>> {
        let mut found = (Vec::new(), Vec::new());
        for review in permit.judgement().reviews() {
            if let Err(why) = self.each(review, permit, custody, &mut found).await {
                return Err(Box::new(Unshown {
                    denial: denied(review, &why),
                    waits: waits(review, why.step),
                }));
            }
        }
        Ok(found)
    }

    /// What was found of each commit from which a call comes.
    async fn each(
        &self,
        review: &Review,
        permit: &Permit,
        custody: &Custody,
        (reviews, jobs): &mut (Vec<Evidence>, Vec<CommitOf>),
    ) -> Result<(), Unreviewed> {
        let (shas, of) = commits(review, permit, custody).await?;
        let operation = permit.operation();
        let effects = operation.effects.union(operation.unclear_effects);
        if review.statement && effects.contains(Effect::DeployModel) {
            for commit in &of {
                custody.vouched(commit).await.map_err(|broken| match broken {
                    Broken::Chain(why) => no(Step::Statement, format!("the model must be stated: {why}")),
                    Broken::Unread(why) => {
                        no(Step::Asking, format!("its statement cannot be looked up now: {why}"))
                    }
                })?;
            }
        }
        for sha in shas {
            reviews.push(self.of(review, &sha).await?);
        }
        jobs.extend(of);
        Ok(())
    }

    async fn of(&self, review: &Review, sha: &str) -> Result<Evidence, Unreviewed> {
        let (servers, others) = (self.servers.load_full(), self.others.load_full());
        let host = Host::of(review, &servers, &others)?;
        let mut key = Digest::default();
        key.copy_from_slice(digest(&SHA256, format!("{review:?}\0{sha}").as_bytes()).as_ref());
        let now = self.clock.now();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((facts, _)) = known.filter(|(_, until)| now < *until) {
            return host.decide(review, sha, &facts, now);
        }
        let Ok(_permit) = self.asking.try_acquire() else {
            return Err(no(Step::Asking, "too many others ask at the same time"));
        };
        let facts = tokio::select! {
            facts = Box::pin(host.facts(review, sha, now)) => Arc::new(facts?),
            () = self.clock.sleep(PATIENCE) => {
                let why = format!("{} did not answer within {} s", review.host, PATIENCE.as_secs());
                return Err(no(Step::Asking, why));
            }
        };
        let evidence = host.decide(review, sha, &facts, self.clock.now())?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() < REMEMBERED {
            known.insert(key, (facts, now.plus(REMEMBERED_FOR)));
        }
        Ok(evidence)
    }
}

/// The commits that a call comes from, at least one: by the word of whoever issued its caller's token, or
/// by what the gate kept of the jobs that made what it is about; and those jobs.
async fn commits(
    review: &Review,
    permit: &Permit,
    custody: &Custody,
) -> Result<(BTreeSet<String>, Vec<CommitOf>), Unreviewed> {
    let claim = match &review.commit {
        CommitFrom::Claim(claim) => claim,
        CommitFrom::Job => {
            let found = custody.commits_of(permit).await.map_err(|broken| match broken {
                Broken::Chain(why) => {
                    no(Step::Commit, format!("the gate does not know from which commit it came: {why}"))
                }
                Broken::Unread(why) => {
                    no(Step::Asking, format!("from which commit it came cannot be looked up now: {why}"))
                }
            })?;
            let shas: BTreeSet<_> = found.iter().map(|found| found.tie.commit.clone()).collect();
            // None is not all.
            let named = !shas.is_empty() && shas.iter().all(|sha| is_commit(sha));
            return if named {
                Ok((shas, found))
            } else {
                Err(no(Step::Commit, "its job names no commit whole"))
            };
        }
    };
    let named = permit.principal().claims.get(&**claim).and_then(|value| value.as_str());
    let named = named.map(str::to_ascii_lowercase).filter(|sha| is_commit(sha));
    named.map(|sha| (BTreeSet::from([sha]), Vec::new())).ok_or_else(|| {
        no(Step::Commit, format!("the caller's token has no claim `{claim}` that names a commit whole"))
    })
}

/// What a call may wait for that failed there.
fn waits(review: &Review, failed: Step) -> Option<Box<ReviewWait>> {
    let lacks = match failed {
        Step::Asking => Lacks::Answer(review.on_unreachable),
        Step::Change | Step::Branch | Step::Requirements | Step::Veto | Step::Approval => {
            Lacks::Review(review.hold)
        }
        // Time does not mend these.
        Step::Commit | Step::Reading | Step::Age | Step::Statement => return None,
    };
    let (server, project) = (Arc::clone(review.host.name()), Arc::clone(&review.project));
    Some(Box::new(ReviewWait { server, project, lacks }))
}

/// Nobody can be asked here.
pub(super) fn unasked(review: &Review) -> Denial {
    denied(review, &no(Step::Reading, "it cannot be asked for here"))
}

fn denied(review: &Review, why: &Unreviewed) -> Denial {
    Denial {
        code: DenialCode::ReviewRequired,
        cause: format!("{}; {why}", review.demand()),
        cure: why.step.cure().to_owned(),
        entry: Some(review.entry.clone()),
        missing: Vec::new(),
        step_up: None,
        request: None,
    }
}
