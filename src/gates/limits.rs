//! Limits: so many requests in a window, counted per person or per entry, by the generic cell rate
//! algorithm. A reload that leaves an entry's limit as it was leaves its counts as they were.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use governor::{
    Quota, RateLimiter,
    clock::{Clock as GovernorClock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::keyed::DashMapStateStore,
};

use crate::{
    identity::PrincipalId,
    policy::{Denial, DenialCode, LimitPer, Obligation},
    time::SharedClock,
};

/// Who is counted together: nobody stands for everybody.
type Counted = Option<PrincipalId>;
type Limiter = RateLimiter<Counted, DashMapStateStore<Counted>, Ticks, NoOpMiddleware<Tick>>;

/// An instant of our clock, as the limiter counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tick(u64);

impl std::ops::Add<Nanos> for Tick {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0.saturating_add(millis(nanos)))
    }
}

impl Reference for Tick {
    fn duration_since(&self, earlier: Self) -> Nanos {
        Duration::from_millis(self.0.saturating_sub(earlier.0)).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

fn millis(nanos: Nanos) -> u64 {
    nanos.as_u64() / 1_000_000
}

/// Our clock, as the limiter asks it.
#[derive(Debug, Clone)]
struct Ticks(SharedClock);

impl GovernorClock for Ticks {
    type Instant = Tick;

    fn now(&self) -> Tick {
        Tick(self.0.now().as_millis())
    }
}

/// What makes a limit the same limit after a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    entry: Arc<str>,
    requests: u32,
    every: Duration,
}

/// The counters of all limits.
#[derive(Debug)]
pub(super) struct Limits {
    clock: SharedClock,
    /// Few and rarely changed: a list that is replaced whole.
    limiters: ArcSwap<Vec<(Rule, Arc<Limiter>)>>,
}

impl Limits {
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, limiters: ArcSwap::default() }
    }

    /// Counts one request; if it is one too many, what to say and how long to wait.
    pub fn take(
        &self,
        obligation: &Obligation,
        principal: &crate::identity::Principal,
    ) -> Result<(), Box<(Denial, Duration)>> {
        let Obligation::Limit { entry, requests, every, per } = obligation else { return Ok(()) };
        let rule = Rule { entry: Arc::clone(&entry.name), requests: *requests, every: *every };
        let counted = match per {
            LimitPer::Person => Some(principal.person().clone()),
            LimitPer::Entry => None,
        };
        let Some(limiter) = self.limiter(rule) else { return Ok(()) };
        limiter.check_key(&counted).map_err(|early| {
            let wait =
                early.wait_time_from(Ticks(Arc::clone(&self.clock)).now()).max(Duration::from_millis(1));
            let whom = match per {
                LimitPer::Person => "each person",
                LimitPer::Entry => "everybody together",
            };
            let denial = Denial {
                code: DenialCode::LimitExceeded,
                cause: format!(
                    "`{}` lets {whom} send {requests} requests in {} s",
                    entry.name,
                    every.as_secs_f64()
                ),
                cure: format!("try again in {} s", wait.as_secs().max(1)),
                entry: Some(entry.clone()),
                missing: Vec::new(),
                step_up: None,
                request: None,
            };
            Box::new((denial, wait))
        })
    }

    fn limiter(&self, rule: Rule) -> Option<Arc<Limiter>> {
        let known =
            |list: &[(Rule, Arc<Limiter>)]| list.iter().find(|(r, _)| *r == rule).map(|(_, l)| Arc::clone(l));
        if let Some(limiter) = known(&self.limiters.load()) {
            return Some(limiter);
        }
        let burst = NonZeroU32::new(rule.requests)?;
        let quota = Quota::with_period(rule.every / rule.requests)?.allow_burst(burst);
        let fresh =
            Arc::new(RateLimiter::new(quota, DashMapStateStore::default(), Ticks(Arc::clone(&self.clock))));
        self.limiters.rcu(|list| match known(list) {
            Some(_) => Vec::clone(list),
            None => {
                let mut list = Vec::clone(list);
                // An entry whose numbers changed begins anew.
                list.retain(|(r, _)| r.entry != rule.entry);
                list.push((rule.clone(), Arc::clone(&fresh)));
                list
            }
        });
        known(&self.limiters.load())
    }

    pub fn tidy(&self) {
        for (_, limiter) in self.limiters.load().iter() {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}
