//! A grant, from the approval to its end, and its uses: pure.
//!
//! A grant adds no right. It stands for the approval of one entry, for one person and agent, and for
//! the call or the place that it is bound to.

use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};

use super::{
    people::{Party, Vote},
    request::Request,
};
use crate::time::Timestamp;

/// For so long the same call sent again is known as that (DECISIONS 24).
pub const RESEND: Duration = Duration::from_secs(600);
/// So often a call whose outcome is not known may go again.
pub const TRIES: i64 = 5;
/// After so long nobody waits for an answer any more: the gate that sent it was stopped.
pub const UNDER_WAY: Duration = Duration::from_secs(300);

/// What was granted; it does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Who may use it.
    pub holder: Party,
    /// The entry, by name.
    pub entry: String,
    /// The request that it came of.
    pub request: String,
    /// Who said yes.
    pub approvers: Vec<Vote>,
    /// The operation, and what it is done to, for people.
    pub what: super::call::What,
}

/// How far a grant has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrantState {
    /// It can be used.
    Active,
    /// It was used as often as it can be.
    Used,
    /// Somebody took it back.
    Revoked,
    /// Its time is over.
    Expired,
}

impl GrantState {
    /// The word in answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Used => "used",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: String,
    /// Counts its changes.
    pub version: i64,
    /// What was granted.
    pub terms: Terms,
    /// What it is bound to ([`Call::bound`](super::call::Call::bound)).
    pub bound: String,
    /// How often it can be used; `None` for as often as it holds.
    pub uses: Option<u32>,
    /// How often it was.
    pub used: u32,
    /// Whether somebody took it back.
    pub revoked: bool,
    /// Since when it holds.
    pub made: Timestamp,
    /// Until when.
    pub expires: Timestamp,
}

impl Grant {
    /// The grant that an approved request brings.
    #[must_use]
    pub fn of(request: &Request, id: String, now: Timestamp) -> Self {
        let asked = &request.asked;
        Self {
            id,
            version: 0,
            terms: Terms {
                holder: asked.requester.clone(),
                entry: asked.entry.clone(),
                request: request.id.clone(),
                approvers: request.votes.clone(),
                what: asked.what.clone(),
            },
            bound: asked.bound.clone(),
            uses: asked.uses,
            used: 0,
            revoked: false,
            made: now,
            expires: now.plus(Duration::from_secs(asked.valid_for)),
        }
    }

    /// How far it has come at `now`. What was taken back stays so; what is over says so first.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> GrantState {
        if self.revoked {
            GrantState::Revoked
        } else if now >= self.expires {
            GrantState::Expired
        } else if self.uses.is_some_and(|uses| self.used >= uses) {
            GrantState::Used
        } else {
            GrantState::Active
        }
    }

    /// Whether what was begun with it may go on: using it up ends nothing.
    #[must_use]
    pub fn stands(&self, now: Timestamp) -> bool {
        match self.state(now) {
            GrantState::Active | GrantState::Used => true,
            GrantState::Revoked | GrantState::Expired => false,
        }
    }
}

/// What came of a call that used a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Came {
    /// Nothing reached Azure: the use is given back.
    NotSent,
    /// It may have been done, or not: no answer, 429 or 5xx.
    Unknown,
    /// Azure answered.
    Known,
}

impl Came {
    /// By the status of the answer, if there was one.
    #[must_use]
    pub const fn answered(status: Option<u16>) -> Self {
        match status {
            None | Some(429 | 500..) => Self::Unknown,
            Some(_) => Self::Known,
        }
    }
}

/// How far a use has come, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UseState {
    /// The call is under way.
    Open,
    /// It may have been done, or not.
    Unknown,
    /// It was answered.
    Known,
}

impl UseState {
    /// The word in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Unknown => "unknown",
            Self::Known => "known",
        }
    }

    /// From the word; what is not known here counts as under way.
    #[must_use]
    pub fn named(name: &str) -> Self {
        [Self::Unknown, Self::Known].into_iter().find(|state| state.name() == name).unwrap_or(Self::Open)
    }
}

/// The last use of a grant by the same call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Its id.
    pub id: String,
    /// Counts its changes.
    pub version: i64,
    /// The decision of the first attempt.
    pub decision: String,
    /// How far it has come.
    pub state: UseState,
    /// How often it was sent.
    pub tries: i64,
    /// When it was last sent.
    pub at: Timestamp,
}

/// What a call that may be one sent again is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    /// It is a new call, and takes a use of its own.
    New,
    /// It goes again on the use that it has.
    Again,
    /// It is the same call, and must not go again: 409.
    Conflict,
}

/// Whether a call is one sent again (DECISIONS 24).
#[must_use]
pub fn resend(last: Option<&Use>, method: &Method, now: Timestamp) -> Resend {
    let Some(last) = last.filter(|last| now.since(last.at) < RESEND) else { return Resend::New };
    let idempotent = [Method::GET, Method::HEAD, Method::PUT, Method::DELETE].contains(method);
    match last.state {
        UseState::Known => Resend::New,
        // Somebody waits for its answer.
        UseState::Open if now.since(last.at) < UNDER_WAY => Resend::Conflict,
        UseState::Open | UseState::Unknown if idempotent && last.tries < TRIES => Resend::Again,
        UseState::Open | UseState::Unknown => Resend::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::request::tests as asked, *};

    fn grant(uses: Option<u32>, used: u32) -> Grant {
        let grant = Grant::of(&asked::request(), "g".into(), asked::at(0));
        Grant { uses, used, ..grant }
    }

    #[test]
    fn a_grant_holds_for_its_time_its_uses_and_until_it_is_taken_back() {
        use GrantState::{Active, Expired, Revoked, Used};
        for (uses, used, revoked, secs, state, stands) in [
            (Some(1), 0, false, 0, Active, true),
            (Some(1), 0, false, 3_599, Active, true),
            (Some(1), 0, false, 3_600, Expired, false),
            (Some(1), 1, false, 0, Used, true),
            (Some(1), 1, false, 3_600, Expired, false),
            (Some(2), 1, false, 0, Active, true),
            (None, 1_000, false, 0, Active, true),
            (Some(1), 0, true, 0, Revoked, false),
            (Some(1), 1, true, 3_600, Revoked, false),
        ] {
            let one = Grant { revoked, ..grant(uses, used) };
            assert_eq!((one.state(asked::at(secs)), one.stands(asked::at(secs))), (state, stands), "{one:?}");
        }
    }

    fn last(state: UseState, tries: i64) -> Use {
        Use { id: "u".into(), version: 1, decision: "d".into(), state, tries, at: asked::at(0) }
    }

    /// Each state of the first attempt, by method and age.
    #[test]
    fn the_table_of_calls_that_are_sent_again() {
        use Resend::{Again, Conflict, New};
        use UseState::{Known, Open, Unknown};
        for (state, tries, get, post, secs) in [
            (Open, 1, Conflict, Conflict, 0),
            (Open, 1, Conflict, Conflict, 299),
            (Open, 1, Again, Conflict, 300),
            (Open, 5, Conflict, Conflict, 300),
            (Open, 1, New, New, 600),
            (Unknown, 1, Again, Conflict, 0),
            (Unknown, 4, Again, Conflict, 599),
            (Unknown, 5, Conflict, Conflict, 1),
            (Unknown, 5, New, New, 600),
            (Known, 1, New, New, 0),
        ] {
            let last = last(state, tries);
            for (method, wanted) in [
                (Method::GET, get),
                (Method::PUT, get),
                (Method::DELETE, get),
                (Method::POST, post),
                (Method::PATCH, post),
            ] {
                assert_eq!(resend(Some(&last), &method, asked::at(secs)), wanted, "{last:?} {method} {secs}");
            }
        }
        assert_eq!(resend(None, &Method::POST, asked::at(0)), New);
    }

    #[test]
    fn only_an_answer_that_says_what_was_done_makes_an_outcome_known() {
        for (status, came) in [
            (None, Came::Unknown),
            (Some(200), Came::Known),
            (Some(202), Came::Known),
            (Some(404), Came::Known),
            (Some(429), Came::Unknown),
            (Some(500), Came::Unknown),
            (Some(503), Came::Unknown),
        ] {
            assert_eq!(Came::answered(status), came, "{status:?}");
        }
    }

    proptest! {
        #[test]
        fn a_post_whose_outcome_is_not_known_never_goes_again(secs in 0_u64..600, tries in 1_i64..9, open in any::<bool>()) {
            let state = if open { UseState::Open } else { UseState::Unknown };
            prop_assert_eq!(resend(Some(&last(state, tries)), &Method::POST, asked::at(secs)), Resend::Conflict);
        }

        #[test]
        fn time_and_uses_only_take_away(uses in prop::option::of(1_u32..4), used in 0_u32..5, revoked in any::<bool>(), secs in 0_u64..8_000, more in 0_u64..8_000) {
            let one = Grant { revoked, ..grant(uses, used) };
            let later = Grant { used: used + 1, ..one.clone() };
            let active = |grant: &Grant, secs| grant.state(asked::at(secs)) == GrantState::Active;
            prop_assert!(active(&one, secs) || !active(&later, secs + more));
        }
    }
}
