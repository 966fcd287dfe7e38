//! Codes that break the glass while the identity provider is down: who has some, which of them count,
//! and how often somebody may try.
//!
//! Whoever `who` or `by` names makes codes for themselves while they can sign in, and keeps them
//! sealed. A code of somebody of `who` opens the glass, under the same rules as ever; where `by` wants
//! another's yes, a code of theirs says it. Each is good once. One that opened nothing is given back.
//! What a code is, and whom it identifies for how long, is [`crate::identity`]'s business.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{BreakGlass, BreakGlasses, ChangeError, Deed, NotOpened, Wanted, rows, voter};
use crate::{
    gates::break_glass::{Became, State},
    identity::{Caller, KeptCode, PrincipalKind},
    policy::PolicySet,
    store::{CodeRow, StoreError},
    time::Timestamp,
};

/// A code counts so long: what it says of its holder is as old.
pub const LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Codes that are made at once, if it is not said how many.
pub const USUAL_CODES: u32 = 5;
/// And at most.
pub const MOST_CODES: u32 = 10;
/// Within this time so many attempts are looked at, of one address (of IPv6, one network of 64 bits)
/// and of all: guessing is hopeless by the length of a code, and this keeps it cheap.
const WINDOW: Duration = Duration::from_secs(60);
const EACH: u32 = 5;
const ALL: u32 = 600;
/// So many that came to nothing are told loudly within it, of each address the first.
const LOUD: u32 = 10;

/// Why there are no codes for somebody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCodes {
    /// The configuration lets nobody.
    #[error("nobody breaks the glass here: the configuration has no `break_glass`")]
    NotConfigured,
    /// It is software, or a machine.
    #[error("only a person who is signed in has codes, no software and no machine")]
    NotAPerson,
    /// They are none of those who may.
    #[error("you are none of those whom `break_glass` names")]
    NotYou,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a code did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRedeemed {
    /// There is no such code, it was spent, or is over: it is not said which.
    #[error("the code is not accepted")]
    NotAccepted,
    /// It opens nothing.
    #[error(transparent)]
    NotOpened(#[from] NotOpened),
    /// It confirms nothing.
    #[error(transparent)]
    NotChanged(#[from] ChangeError),
}

/// What is done with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It is looked at, and everybody hears of it if it comes to nothing.
    Loud,
    /// It is looked at.
    Quiet,
    /// It is not looked at: wait for a minute.
    TooMany,
}

impl BreakGlasses {
    /// Whose codes somebody's are.
    fn has_codes(&self, policies: &PolicySet, by: &Caller) -> Result<String, NoCodes> {
        let rules = self.rules.load_full().ok_or(NoCodes::NotConfigured)?;
        let named: Vec<_> = rules.who.iter().chain(&rules.by).cloned().collect();
        let voter = voter(policies, by, &named);
        if voter.kind != PrincipalKind::Person {
            return Err(NoCodes::NotAPerson);
        }
        if voter.meets.is_empty() { Err(NoCodes::NotYou) } else { Ok(voter.party.person) }
    }

    /// Keeps codes of somebody in place of those that they have not spent; until when they count.
    ///
    /// # Errors
    /// [`NoCodes`].
    pub async fn keep_codes(
        &self,
        policies: &PolicySet,
        by: &Caller,
        codes: Vec<KeptCode>,
    ) -> Result<Timestamp, NoCodes> {
        let (person, made) = (self.has_codes(policies, by)?, self.clock.now());
        let expires = made.plus(LIFE);
        let row = |KeptCode { tag, sealed }| CodeRow { tag, person: person.clone(), made, expires, sealed };
        let rows = codes.into_iter().map(row).collect();
        self.store()?.replace_codes(&person, rows).await?;
        Ok(expires)
    }

    /// Until when each code counts that somebody has left.
    ///
    /// # Errors
    /// [`NoCodes`].
    pub async fn codes_left(&self, policies: &PolicySet, by: &Caller) -> Result<Vec<Timestamp>, NoCodes> {
        let person = self.has_codes(policies, by)?;
        Ok(self.store()?.codes_left(&person, self.clock.now()).await?)
    }

    /// What is done with one more attempt from an address.
    #[must_use]
    pub fn attempt(&self, from: IpAddr) -> Attempt {
        self.attempts.one_more(from, self.clock.now())
    }

    /// The code that is kept by one of these tags.
    ///
    /// # Errors
    /// [`NotRedeemed`].
    pub async fn code(&self, tags: &[String]) -> Result<KeptCode, NotRedeemed> {
        if !self.is_configured() {
            return Err(NotOpened::NotConfigured.into());
        }
        for tag in tags {
            let found = self.store().map_err(NotOpened::from)?.offline_code(tag, self.clock.now()).await;
            if let Some(CodeRow { tag, sealed, .. }) = found.map_err(NotOpened::from)? {
                return Ok(KeptCode { tag, sealed });
            }
        }
        Err(NotRedeemed::NotAccepted)
    }

    /// Breaks the glass for the holder of a code, or finds the one that they have broken already; what
    /// became of it by this, if anything did.
    ///
    /// # Errors
    /// [`NotRedeemed`]: the code can be used again, unless it was not accepted or the store failed.
    pub async fn open_by_code(
        &self,
        policies: &PolicySet,
        by: &Caller,
        code: &KeptCode,
        wanted: Wanted,
    ) -> Result<(BreakGlass, Option<Became>), NotRedeemed> {
        let (store, now) = (self.store().map_err(NotOpened::from)?, self.clock.now());
        let rules = self.rules.load_full().ok_or(NotOpened::NotConfigured)?;
        let current = store.current_glass().await.map_err(NotOpened::from)?;
        let current = current.map(rows::read).transpose().map_err(NotOpened::from)?;
        let voter = voter(policies, by, &rules.who);
        let own = current.filter(|glass| {
            let waits = matches!(glass.state_at(now), State::Asked | State::Open);
            waits && voter.party.is_human_of(&glass.asked.by) && !voter.meets.is_empty()
        });
        if let Some(glass) = own {
            self.spend(code, &glass.id).await?;
            return Ok((glass, None));
        }
        let id = uuid::Uuid::now_v7().to_string();
        self.spend(code, &id).await?;
        match self.open_as(id.clone(), policies, by, Wanted { offline: true, ..wanted }).await {
            Ok((glass, became)) => Ok((glass, Some(became))),
            Err(error) => {
                self.give_back(code, &id).await;
                Err(error.into())
            }
        }
    }

    /// Says yes to another's, for the holder of a code.
    ///
    /// # Errors
    /// [`NotRedeemed`]: the code can be used again, unless it was not accepted or the store failed.
    pub async fn confirm_by_code(
        &self,
        policies: &PolicySet,
        by: &Caller,
        code: &KeptCode,
        id: &str,
        note: Option<String>,
    ) -> Result<(BreakGlass, Became), NotRedeemed> {
        // What is no id is no break-glass, and nothing is spent on it.
        let known = self.one(id).await.map_err(ChangeError::Store)?.ok_or(ChangeError::Unknown)?;
        self.spend(code, &known.id).await?;
        match self.change(policies, by, &known.id, &Deed::Confirm(note)).await {
            Ok(done) => Ok(done),
            Err(error) => {
                self.give_back(code, &known.id).await;
                Err(error.into())
            }
        }
    }

    async fn spend(&self, code: &KeptCode, glass: &str) -> Result<(), NotRedeemed> {
        let store = self.store().map_err(NotOpened::from)?;
        let spent = store.spend_code(&code.tag, glass, self.clock.now()).await.map_err(NotOpened::from)?;
        if spent { Ok(()) } else { Err(NotRedeemed::NotAccepted) }
    }

    async fn give_back(&self, code: &KeptCode, glass: &str) {
        let returned = match self.store() {
            Ok(store) => store.return_code(&code.tag, glass).await,
            Err(error) => Err(error),
        };
        if let Err(error) = returned {
            tracing::warn!(%error, "a code that opened nothing stays spent");
        }
    }
}

/// Who tried how often lately. A lock is held for a look at a small map.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Tried>);

#[derive(Debug, Default)]
struct Tried {
    since: Option<Timestamp>,
    all: u32,
    loud: u32,
    each: HashMap<IpAddr, u32>,
}

impl Attempts {
    fn one_more(&self, from: IpAddr, now: Timestamp) -> Attempt {
        let mut tried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tried.since.is_none_or(|since| now.since(since) >= WINDOW) {
            *tried = Tried { since: Some(now), ..Tried::default() };
        }
        // What is over the bound of all adds nothing, so that the map stays small.
        if tried.all >= ALL {
            return Attempt::TooMany;
        }
        let own = tried.each.entry(network(from)).or_default();
        *own = own.saturating_add(1);
        let own = *own;
        if own > EACH {
            return Attempt::TooMany;
        }
        tried.all += 1;
        if own == 1 && tried.loud < LOUD {
            tried.loud += 1;
            return Attempt::Loud;
        }
        Attempt::Quiet
    }
}

/// Whoever has one address of IPv6 has its whole network.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_attempts_of_an_address_and_of_all_are_looked_at_in_a_minute_and_few_are_loud() {
        let (attempts, now) = (Attempts::default(), Timestamp::from_secs(100));
        let from = |n: u16| IpAddr::from([192, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
        assert_eq!(attempts.one_more(from(1), now), Attempt::Loud);
        assert!((1..EACH).all(|_| attempts.one_more(from(1), now) == Attempt::Quiet));
        assert_eq!(attempts.one_more(from(1), now.plus(WINDOW / 2)), Attempt::TooMany);
        assert_eq!(attempts.one_more(from(2), now), Attempt::Loud);
        let later = now.plus(WINDOW);
        assert_eq!(attempts.one_more(from(1), later), Attempt::Loud);
        let seen: Vec<_> = (2..1_000).map(|n| attempts.one_more(from(n), later)).collect();
        let count = |of: Attempt| seen.iter().filter(|one| **one == of).count();
        assert_eq!(count(Attempt::Loud) + 1, LOUD as usize);
        assert_eq!(count(Attempt::Loud) + count(Attempt::Quiet) + 1, ALL as usize, "of all");
    }

    #[test]
    fn the_addresses_of_one_network_of_ipv6_are_one() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
