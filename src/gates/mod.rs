//! Obligations of a [`Permit`]: each is checked, and only then is the request [`Cleared`].
//!
//! A gate exists when its feature does; they are a closed set, so that a new obligation breaks
//! every `match`. A gate knows nothing of HTTP and appends nothing to the record.

pub mod approvals;
pub mod break_glass;
pub mod custody;
mod limits;
pub mod opinions;
pub mod registrations;
pub mod review;
#[cfg(test)]
mod tests;
mod words;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use approvals::{Approvals, BodyKnown, Found, GrantUse, Uses, Waits};
use break_glass::BreakGlasses;
use custody::{Broken, CommitOf, Custody};
use limits::Limits;
use opinions::Opinions;
use registrations::Registrations;
use review::{Evidence, ReviewWait, Reviews, hints::Hints, merges::Merges};

use crate::{
    identity::{GerritGroup, Revoked},
    policy::{Approval, Approvers, Denial, DenialCode, Obligation, Permit},
    store::{Came, Store, StoreError},
    time::SharedClock,
};

/// The gates that can satisfy obligations. One for the whole process: limits count across cores.
#[derive(Debug)]
pub struct Gates {
    limits: Limits,
    approvals: Approvals,
    opinions: Opinions,
    reviews: Reviews,
    merges: Merges,
    hints: Hints,
    registrations: Registrations,
    break_glass: BreakGlasses,
    custody: Custody,
}

/// A permit whose obligations were all satisfied: made by [`Gates::clear`] alone.
#[derive(Debug)]
pub struct Cleared {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    permit: Permit,
    uses: Uses,
    reviews: Vec<Evidence>,
    /// The jobs whose commits were reviewed.
    commits: Vec<CommitOf>,
    owes: OnceLock<custody::Owes>,
}

/// An obligation is not satisfied.
#[derive(Debug)]
pub struct Held {
    /// The permit that it stops, for the record.
    pub permit: Permit,
    /// What to tell the caller.
    pub denial: Denial,
    /// For a limit: when the next request would pass.
    pub retry_after: Option<Duration>,
    /// For an approval: what can be waited for.
    pub waits: Option<Box<Waits>>,
    /// For a review: what can be waited for.
    pub unreviewed: Option<Box<ReviewWait>>,
}

impl Held {
    /// Something stops it that does not change by waiting.
    fn back(permit: Permit, denial: Denial) -> Box<Self> {
        Box::new(Self { permit, denial, retry_after: None, waits: None, unreviewed: None })
    }
}

impl Gates {
    /// Gates whose limits count by `clock`, without a store: nothing that people must approve passes.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self::keeping(clock, None)
    }

    /// Gates that keep approvals in a store, if there is one.
    #[must_use]
    pub fn keeping(clock: SharedClock, store: Option<Store>) -> Self {
        let approvals = Approvals::new(SharedClock::clone(&clock), store.clone());
        let opinions = Opinions::new(SharedClock::clone(&clock));
        let reviews = Reviews::new(SharedClock::clone(&clock));
        let break_glass = BreakGlasses::new(SharedClock::clone(&clock), store.clone());
        let merges = Merges::new(store.clone());
        let registrations = Registrations::new(store.clone());
        let custody = Custody::new(SharedClock::clone(&clock), store);
        Self {
            limits: Limits::new(clock),
            approvals,
            opinions,
            reviews,
            merges,
            hints: Hints::default(),
            registrations,
            break_glass,
            custody,
        }
    }

    /// Requests for approval, and grants.
    #[must_use]
    pub const fn approvals(&self) -> &Approvals {
        &self.approvals
    }

    /// Whose word is asked for where an entry wants it.
    #[must_use]
    pub const fn opinions(&self) -> &Opinions {
        &self.opinions
    }

    /// Who is asked whether code was reviewed.
    #[must_use]
    pub const fn reviews(&self) -> &Reviews {
        &self.reviews
    }

    /// Changes that code hosts say were merged.
    #[must_use]
    pub const fn merges(&self) -> &Merges {
        &self.merges
    }

    /// Word that something happened at a code host.
    #[must_use]
    pub const fn hints(&self) -> &Hints {
        &self.hints
    }

    /// Models of which Azure itself tells that they were registered.
    #[must_use]
    pub const fn registrations(&self) -> &Registrations {
        &self.registrations
    }

    /// Those who broke the glass.
    #[must_use]
    pub const fn break_glass(&self) -> &BreakGlasses {
        &self.break_glass
    }

    /// From which commits jobs came, and the models that they made.
    #[must_use]
    pub const fn custody(&self) -> &Custody {
        &self.custody
    }

    /// Checks every obligation of the permit, in order; the first that is not satisfied stops it. What
    /// people must approve is stopped, and so is what others are asked about: that is looked for by
    /// [`Self::clear_approved`].
    ///
    /// # Errors
    /// [`Held`], with the permit for the record.
    pub fn clear(&self, permit: Permit) -> Result<Cleared, Box<Held>> {
        let permit = self.limited(permit)?;
        let unreviewed = permit.judgement().reviews().next().map(|review| review::unasked(review));
        let unheard = || permit.judgement().opinions().next().map(opinions::unasked);
        if let Some(denial) = unreviewed.or_else(unheard) {
            return Err(Held::back(permit, denial));
        }
        let approval = permit.judgement().approvals().next().cloned();
        match approval {
            None => Ok(Cleared::new(permit, Uses::none(), (Vec::new(), Vec::new()))),
            Some(approval) => {
                let denial = unapproved(&approval, "approvals cannot be asked for here");
                Err(Held::back(permit, denial))
            }
        }
    }

    /// The same for a permit that people may have approved: their grants are looked for in the store,
    /// and taken together, so that a grant for one use is used once. Limits count whether or not it
    /// was approved.
    ///
    /// # Errors
    /// [`Held`], with the permit for the record.
    pub async fn clear_approved(
        &self,
        permit: Permit,
        body: BodyKnown,
        revoked: &Revoked,
    ) -> Result<Cleared, Box<Held>> {
        let permit = self.limited(permit)?;
        self.approved(permit, body, revoked).await
    }

    /// The same for a permit whose limits were counted already: of a call that waited.
    ///
    /// # Errors
    /// [`Held`], with the permit for the record.
    pub async fn approved(
        &self,
        permit: Permit,
        body: BodyKnown,
        revoked: &Revoked,
    ) -> Result<Cleared, Box<Held>> {
        // People are asked for what was reviewed.
        let shown = match self.reviews.shown(&permit, &self.custody).await {
            Ok(shown) => shown,
            Err(unshown) => {
                let review::Unshown { denial, waits } = *unshown;
                return Err(Box::new(Held { unreviewed: waits, ..*Held::back(permit, denial) }));
            }
        };
        // What is asked is the same for each entry that wants it.
        let wanted = permit.judgement().opinions().next().cloned();
        if let Some(entry) = wanted
            && let Err(denial) = self.opinions.heard(&permit, &entry).await
        {
            return Err(Held::back(permit, denial));
        }
        let authors = match authors(&permit, &shown.0) {
            Ok(authors) => authors,
            Err(denial) => return Err(Held::back(permit, *denial)),
        };
        let mirror = self.reviews.mirror();
        mirror.settle(&approving_groups(&permit)).await;
        let looking = approvals::Looking { revoked, mirror };
        let (denial, waits) = match self.approvals.find(&permit, body, authors, &looking).await {
            Ok(Found::All(uses)) => return Ok(Cleared::new(permit, uses, shown)),
            Ok(Found::Missing { denial, waits }) => (*denial, waits),
            Err(error) => {
                let approval = permit.judgement().approvals().next();
                let denial =
                    approval.map_or_else(|| unread(&error), |approval| unapproved(approval, &said(&error)));
                (denial, None)
            }
        };
        Err(Box::new(Held { waits, ..*Held::back(permit, denial) }))
    }

    fn limited(&self, permit: Permit) -> Result<Permit, Box<Held>> {
        for obligation in &permit.judgement().obligations {
            match obligation {
                Obligation::Limit { .. } => {
                    if let Err(early) = self.limits.take(obligation, permit.principal()) {
                        let (denial, wait) = *early;
                        let held = Held::back(permit, denial);
                        return Err(Box::new(Held { retry_after: Some(wait), ..*held }));
                    }
                }
                Obligation::Approval(_) | Obligation::Opinion { .. } | Obligation::Review(_) => {}
            }
        }
        Ok(permit)
    }

    /// Forgets counters that are as good as new; called at intervals.
    pub fn tidy(&self) {
        self.limits.tidy();
    }
}

impl Cleared {
    fn new(permit: Permit, uses: Uses, (reviews, commits): (Vec<Evidence>, Vec<CommitOf>)) -> Self {
        let owes = OnceLock::new();
        Self { inner: Arc::new(Inner { permit, uses, reviews, commits, owes }) }
    }

    /// The same, for the record, which keeps it beside the right to send until the outcome is known.
    pub(crate) fn beside(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }

    /// The permit.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.inner.permit
    }

    /// Something that is known only now stops it; the grants that it used are given back. `None` if it
    /// is on its way already.
    #[must_use]
    pub fn stopped(self, denial: Denial) -> Option<Box<Held>> {
        Some(Held::back(Arc::into_inner(self.inner)?.permit, denial))
    }

    /// The grants by which it goes on.
    #[must_use]
    pub fn grants(&self) -> &[GrantUse] {
        self.inner.uses.grants()
    }

    /// What was found of the reviews that it needs, in the order of the entries.
    #[must_use]
    pub fn reviews(&self) -> &[Evidence] {
        &self.inner.reviews
    }

    /// The jobs whose commits these reviews are about, where they follow what is registered or deployed to
    /// its job.
    #[must_use]
    pub fn commits(&self) -> &[CommitOf] {
        &self.inner.commits
    }

    /// Keeps the statements that it will owe if Azure takes it, before it is sent.
    ///
    /// # Errors
    /// [`Broken`] if they cannot be kept: then it must not go on.
    pub async fn owe(&self, custody: &Custody) -> Result<(), Broken> {
        let Inner { permit, reviews, commits, owes, .. } = &*self.inner;
        if let Some(owed) = custody.owe(permit, reviews, commits).await? {
            // It is asked once.
            drop(owes.set(owed));
        }
        Ok(())
    }

    /// Says what came of the call, for the statements that it owes.
    pub fn registered(&self, came: Came) {
        if let Some(owes) = self.inner.owes.get() {
            owes.came(came);
        }
    }

    /// Says what came of the call, for the grants that it used.
    pub fn came(&self, came: approvals::Came) {
        self.inner.uses.came(came);
    }
}

/// Who wrote the code behind a call, where an approval that it needs leaves these out: nobody approves
/// what may be their own.
fn authors(permit: &Permit, reviews: &[Evidence]) -> Result<BTreeSet<String>, Box<Denial>> {
    let mut all = BTreeSet::new();
    for approval in permit.judgement().approvals().filter(|approval| approval.never_author) {
        let shown = reviews.iter().find(|review| review.entry == approval.entry.name);
        match shown.and_then(|review| review.authors.as_ref()) {
            Some(authors) => all.extend(authors.iter().cloned()),
            None => {
                let why = "who wrote the code is not known as a person, and they must not approve it";
                let cure = "have `people.links` tell who the accounts of the code host are";
                return Err(Box::new(Denial { cure: cure.to_owned(), ..unapproved(approval, why) }));
            }
        }
    }
    Ok(all)
}

/// The groups of code hosts whose members approve what a permit is for.
fn approving_groups(permit: &Permit) -> Vec<GerritGroup> {
    let demands = permit.judgement().approvals().flat_map(|approval| &approval.by);
    let groups = demands.filter_map(|by| match by {
        Approvers::GerritGroup { group, .. } => Some(group.clone()),
        Approvers::Human | Approvers::Subject { .. } => None,
    });
    groups.collect()
}

fn said(error: &StoreError) -> String {
    format!("approvals cannot be looked up now: {error}")
}

fn unread(error: &StoreError) -> Denial {
    Denial {
        code: DenialCode::ApprovalRequired,
        cause: said(error),
        cure: "try again".to_owned(),
        entry: None,
        missing: Vec::new(),
        step_up: None,
        request: None,
    }
}

fn unapproved(approval: &Approval, why: &str) -> Denial {
    Denial {
        code: DenialCode::ApprovalRequired,
        cause: format!("{}; {why}", approval.demand()),
        cure: "try again later, or ask whoever runs the gate".to_owned(),
        entry: Some(approval.entry.clone()),
        missing: Vec::new(),
        step_up: None,
        request: None,
    }
}
