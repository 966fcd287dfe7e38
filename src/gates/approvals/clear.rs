//! A permit whose approvals are looked for, taken, and given back if nothing came of them.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, OnceLock},
};

use http::Method;

use super::{
    Approvals, BodyKnown, REMEMBERED, REMEMBERED_FOR,
    call::{Call, Refused},
    grant::{Came, Grant, RESEND, Resend, Use, resend},
    people::{self, Party},
    rows,
};
use crate::{
    gates::review::mirror::Mirror,
    identity::{GerritGroup, Revoked},
    policy::{Approval, Denial, DenialCode, Permit},
    store::{CallRow, Settled, Store, StoreError, Taken, UseRow},
    time::Timestamp,
};

/// A grant by which a call goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantUse {
    /// Its id.
    pub id: String,
    /// The entry whose approval it is.
    pub entry: Arc<str>,
    /// Whose it is.
    pub holder: String,
    /// Until when it holds.
    pub expires: Timestamp,
    /// Whether its uses are counted.
    pub counted: bool,
}

/// The grants by which one call goes on. What was counted is settled when this is dropped: given back
/// unless it was said what came of it.
pub struct Uses {
    grants: Vec<GrantUse>,
    /// The uses that were counted, by their ids.
    taken: Vec<String>,
    store: Option<Store>,
    came: OnceLock<Came>,
}

impl fmt::Debug for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uses({:?})", self.grants)
    }
}

impl Uses {
    /// None, for a call that needs none.
    #[must_use]
    pub const fn none() -> Self {
        Self { grants: Vec::new(), taken: Vec::new(), store: None, came: OnceLock::new() }
    }

    /// The grants.
    #[must_use]
    pub fn grants(&self) -> &[GrantUse] {
        &self.grants
    }

    /// Says what came of the call; the first word counts.
    pub fn came(&self, came: Came) {
        let _first_counts = self.came.set(came);
    }
}

impl Drop for Uses {
    fn drop(&mut self) {
        let Some(store) = &self.store else { return };
        let settled = match self.came.get().copied().unwrap_or(Came::NotSent) {
            Came::NotSent => Settled::Back,
            Came::Unknown => Settled::Unknown,
            Came::Known => Settled::Known,
        };
        for id in self.taken.drain(..) {
            store.settle_use_later(id, settled);
        }
    }
}

/// What a call that is held up waits for.
#[derive(Debug, Clone)]
pub struct Waits {
    /// What people would be asked: one for each entry for which nobody was asked yet.
    pub unasked: Vec<Refused>,
    /// The requests that wait already, by their ids.
    pub asked: Vec<String>,
    /// The longest that any of the entries holds a call.
    pub hold: std::time::Duration,
    /// Whether asking takes words that only the caller has.
    pub wants_words: bool,
}

/// What looking for approvals came to.
#[derive(Debug)]
pub enum Found {
    /// All are there, and taken.
    All(Uses),
    /// Some are not.
    Missing {
        /// What to tell the caller.
        denial: Box<Denial>,
        /// What can be waited for, if anything can.
        waits: Option<Box<Waits>>,
    },
}

/// By what approvers are looked at again.
#[derive(Debug, Clone, Copy)]
pub struct Looking<'a> {
    /// Who was revoked.
    pub revoked: &'a Revoked,
    /// Who is in the groups of code hosts.
    pub mirror: &'a Mirror,
}

/// Why an approval is not taken.
enum NotTaken {
    /// There is none.
    Missing,
    /// The call was sent before, and what came of that is not known.
    Sent {
        /// Its first decision.
        decision: String,
    },
}

/// An approval that was found: by which grant, and the use that the same call took of it.
struct Candidate {
    grant: Grant,
    again: Option<Use>,
}

impl Approvals {
    /// Looks for every approval that a permit needs, and takes them together or not at all. `authors`
    /// are the persons who wrote the code behind it, where entries leave these out.
    ///
    /// # Errors
    /// [`StoreError`]: nothing was taken.
    pub async fn find(
        &self,
        permit: &Permit,
        body: BodyKnown,
        authors: BTreeSet<String>,
        looking: &Looking<'_>,
    ) -> Result<Found, StoreError> {
        let wanted: Vec<_> = permit.judgement().approvals().cloned().collect();
        if wanted.is_empty() {
            return Ok(Found::All(Uses::none()));
        }
        if let Some(denial) = self.hopeless(permit, &wanted, body) {
            return Ok(Found::Missing { denial: Box::new(denial), waits: None });
        }
        let store = self.store()?;
        let call = Call::of(permit, body, authors);
        let method = &permit.request().method;
        let mut missing = Vec::new();
        let mut candidates = Vec::new();
        for approval in &wanted {
            match self.candidate(store, &call, approval, method, looking).await? {
                Ok(found) => candidates.push((approval, found)),
                Err(NotTaken::Missing) => missing.push(Arc::clone(approval)),
                Err(NotTaken::Sent { decision }) => return Ok(sent(approval, &decision)),
            }
        }
        if !missing.is_empty() {
            return self.missing(store, permit, &call, &missing).await;
        }
        let mut uses = Uses::none();
        uses.store = Some(store.clone());
        for (approval, candidate) in candidates {
            match self.take(store, permit, &call, candidate, &mut uses).await? {
                Ok(()) => {}
                Err(NotTaken::Missing) => {
                    return self.missing(store, permit, &call, std::slice::from_ref(approval)).await;
                }
                Err(NotTaken::Sent { decision }) => return Ok(sent(approval, &decision)),
            }
        }
        Ok(Found::All(uses))
    }

    /// The grant that serves best: the one that this call uses already, else the one that ends first.
    async fn candidate(
        &self,
        store: &Store,
        call: &Call,
        approval: &Approval,
        method: &Method,
        looking: &Looking<'_>,
    ) -> Result<Result<Candidate, NotTaken>, StoreError> {
        let now = self.clock.now();
        let Some(bound) = call.bound(approval) else { return Ok(Err(NotTaken::Missing)) };
        let mut fresh = None;
        for (row, last) in store.grants_for(&bound, call.resend.as_deref(), now).await? {
            let grant = rows::grant(row)?;
            // Approvers are looked at again: who was revoked since, or left, has approved nothing.
            let heard = grant.terms.approvers.iter().all(|vote| {
                let at = Timestamp::from_millis(vote.at);
                ![&vote.by.id, &vote.by.person].into_iter().any(|id| looking.revoked.revokes(id, at, now))
            });
            let demands = people::demands(&approval.by, grant.terms.holder.agent.as_deref());
            let is_in = |group: &GerritGroup, by: &Party| looking.mirror.has(group, &by.person);
            let heard = heard && people::are_still_met(&demands, &grant.terms.approvers, is_in);
            if !heard || !grant.stands(now) {
                continue;
            }
            let last = last.as_ref().map(rows::used);
            match resend(last.as_ref(), method, now) {
                Resend::Again => return Ok(Ok(Candidate { grant, again: last })),
                Resend::Conflict => {
                    let decision = last.map(|last| last.decision).unwrap_or_default();
                    return Ok(Err(NotTaken::Sent { decision }));
                }
                Resend::New if grant.state(now) == super::GrantState::Active && fresh.is_none() => {
                    fresh = Some(Candidate { grant, again: None });
                }
                Resend::New => {}
            }
        }
        Ok(fresh.ok_or(NotTaken::Missing))
    }

    async fn take(
        &self,
        store: &Store,
        permit: &Permit,
        call: &Call,
        candidate: Candidate,
        uses: &mut Uses,
    ) -> Result<Result<(), NotTaken>, StoreError> {
        let now = self.clock.now();
        let Candidate { grant, again } = candidate;
        let counted = grant.uses.is_some();
        if let Some(last) = again {
            let row = UseRow {
                id: last.id.clone(),
                version: last.version,
                grant: grant.id.clone(),
                resend: String::new(),
                decision: last.decision.clone(),
                state: last.state.name().to_owned(),
                tries: last.tries,
                at: last.at,
            };
            if !store.take_again(&row, now).await? {
                return Ok(Err(NotTaken::Sent { decision: last.decision }));
            }
            uses.taken.push(last.id);
        } else if counted {
            let id = uuid::Uuid::now_v7().to_string();
            let row = UseRow {
                id: id.clone(),
                version: 0,
                grant: grant.id.clone(),
                resend: call.resend.clone().unwrap_or_default(),
                decision: permit.decision().to_string(),
                state: "open".to_owned(),
                tries: 1,
                at: now,
            };
            match store.take_use(row, now.minus(RESEND)).await? {
                Taken::Yes => uses.taken.push(id),
                Taken::No => return Ok(Err(NotTaken::Missing)),
                Taken::Again => {
                    let first = self.first(store, call, &grant, now).await?;
                    return Ok(Err(NotTaken::Sent { decision: first }));
                }
            }
        }
        uses.grants.push(GrantUse {
            entry: grant.terms.entry.as_str().into(),
            holder: grant.terms.holder.id.clone(),
            id: grant.id,
            expires: grant.expires,
            counted,
        });
        Ok(Ok(()))
    }

    /// The first decision of a call that has just been sent.
    async fn first(
        &self,
        store: &Store,
        call: &Call,
        grant: &Grant,
        now: Timestamp,
    ) -> Result<String, StoreError> {
        let found = store.grants_for(&grant.bound, call.resend.as_deref(), now).await?;
        let last = found.into_iter().find(|(row, _)| row.id == grant.id).and_then(|(_, last)| last);
        Ok(last.map(|last| last.decision).unwrap_or_default())
    }

    /// What nobody can lift, whoever is asked: no link is given to it.
    fn hopeless(&self, permit: &Permit, wanted: &[Arc<Approval>], body: BodyKnown) -> Option<Denial> {
        let kind = permit.principal().kind;
        let denied = |approval: &Approval, cure: &str| denial(approval, approval.demand(), cure.to_owned());
        if let Some(approval) = wanted.iter().find(|a| a.asks_human() && !kind.has_human()) {
            let cure = "nobody can give it: no human is behind this caller";
            return Some(denied(approval, cure));
        }
        let approval = wanted.first()?;
        if self.store.is_none() {
            let cure = "nobody can give it: this gate has no `store` to keep approvals in";
            return Some(denied(approval, cure));
        }
        let unread = wanted.iter().find(|a| a.binds_body() && body == BodyKnown::Streams)?;
        Some(denied(unread, "its body was not read, and an approval is of all of a call: send it again"))
    }

    /// The approvals that are missing: are people asked already?
    async fn missing(
        &self,
        store: &Store,
        permit: &Permit,
        call: &Call,
        missing: &[Arc<Approval>],
    ) -> Result<Found, StoreError> {
        let now = self.clock.now();
        let decision = permit.decision().to_string();
        let mut waits = Waits {
            unasked: Vec::new(),
            asked: Vec::new(),
            hold: missing.iter().map(|approval| approval.hold).max().unwrap_or_default(),
            wants_words: false,
        };
        let mut calls = Vec::new();
        let mut unasked: Option<&Arc<Approval>> = None;
        for approval in missing {
            let Some(refused) = Refused::of(call, approval, permit.policy_digest()) else { continue };
            let waiting = store.waiting_request(&refused.bound).await?;
            if let Some(waiting) = waiting.filter(|waiting| waiting.expires > now) {
                waits.asked.push(waiting.id);
                continue;
            }
            unasked.get_or_insert(approval);
            waits.wants_words |=
                approval.reason == crate::policy::approval::Reason::Required || approval.ticket.is_some();
            calls.push(CallRow {
                decision: decision.clone(),
                entry: refused.entry.to_string(),
                person: refused.by.person.clone(),
                made: now,
                expires: now.plus(REMEMBERED_FOR),
                about: serde_json::to_string(&refused)
                    .map_err(|_| StoreError::Unavailable("the call cannot be kept".to_owned()))?,
            });
            waits.unasked.push(refused);
        }
        let denial = match (unasked, missing.first()) {
            (Some(approval), _) => {
                if self.places.remembers(&call.by.person, now) {
                    store.remember_calls(calls, REMEMBERED).await?;
                    self.required(missing, approval, &decision)
                } else {
                    let cure = "too many of your calls were refused just now: send it again in ten seconds";
                    denial(approval, demands(missing), cure.to_owned())
                }
            }
            (None, Some(approval)) => pending(missing, approval, waits.asked.first()),
            (None, None) => return Err(StoreError::Busy),
        };
        Ok(Found::Missing { denial: Box::new(denial), waits: Some(Box::new(waits)) })
    }

    fn required(&self, missing: &[Arc<Approval>], told: &Approval, decision: &str) -> Denial {
        let mut cure = format!("ask for it with `amlgate request create {decision}`");
        if let Some(console) = self.console.load_full() {
            cure.push_str(&format!(", or at {console}/requests/new?decision={decision}"));
        }
        let wants = match (&told.reason, &told.ticket) {
            (crate::policy::approval::Reason::Required, Some(_)) => "; give a reason and a ticket",
            (crate::policy::approval::Reason::Required, None) => "; give a reason",
            (crate::policy::approval::Reason::Optional, Some(_)) => "; give a ticket",
            (crate::policy::approval::Reason::Optional, None) => "",
        };
        cure.push_str(wants);
        denial(told, demands(missing), cure)
    }
}

fn demands(missing: &[Arc<Approval>]) -> String {
    missing.iter().map(|approval| approval.demand()).collect::<Vec<_>>().join(", and ")
}

fn denial(entry: &Approval, cause: String, cure: String) -> Denial {
    Denial {
        code: DenialCode::ApprovalRequired,
        cause,
        cure,
        entry: Some(entry.entry.clone()),
        missing: Vec::new(),
        step_up: None,
        request: None,
    }
}

fn pending(missing: &[Arc<Approval>], told: &Approval, request: Option<&String>) -> Denial {
    let id = request.map(String::as_str).unwrap_or_default();
    let cause = format!("{}; request {id} waits for it", demands(missing));
    let cure = format!("send it again once they have: `amlgate request watch {id}` tells you when");
    let code = DenialCode::ApprovalPending;
    Denial { code, request: Some(id.into()), ..denial(told, cause, cure) }
}

/// The call was sent, and what came of it is not known: it must not go again.
fn sent(approval: &Approval, decision: &str) -> Found {
    let cause = format!("this very call was sent under decision {decision}, and its outcome is not known");
    let cure =
        "look whether it was done before you send another: a resend on the same approval could do it twice";
    let told = denial(approval, cause, cure.to_owned());
    let denial = Box::new(Denial { code: DenialCode::AlreadySent, ..told });
    Found::Missing { denial, waits: None }
}
