//! What becomes of a break-glass: pure.
//!
//! ```text
//!  asked ──(all who must have said yes)──▶ open ──(closed, or its time is over)──▶ over ──▶ reviewed
//!    └──(closed, or nobody answered)──▶ dropped
//! ```
//! Where nobody else must say yes it is open at once. The glass is whole again when it was dropped or
//! reviewed, and only then can the next be broken. Who opened it reviews nothing.

use serde::{Deserialize, Serialize};

use crate::{
    gates::approvals::{
        NoVoice, Party, Vote, Voter,
        people::{are_met, open, voice},
    },
    identity::PrincipalKind,
    policy::Approvers,
    time::Timestamp,
};

/// Yeses of one break-glass; nobody needs as many.
const MOST_VOTES: usize = 32;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Who asked, and who acts under it.
    pub by: Party,
    /// Why.
    pub reason: String,
    /// The ticket, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Whether a code said who asked, and no identity provider.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
    /// For how long, in seconds.
    pub seconds: u64,
    /// Who else must say yes before it opens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub demands: Vec<Approvers>,
    /// How long after its end the review is due, in seconds.
    pub review_within: u64,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Who closed it; nobody did if its time was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Party>,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Others have not said yes yet.
    Asked,
    /// It lifts what it lifts, for whoever opened it.
    Open,
    /// It lifts nothing any more, and waits for its review.
    Over,
    /// Its review is closed.
    Reviewed,
    /// It never opened.
    Dropped,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Asked, Self::Open, Self::Over, Self::Reviewed, Self::Dropped];

    /// The word in the store and in answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Open => "open",
            Self::Over => "over",
            Self::Reviewed => "reviewed",
            Self::Dropped => "dropped",
        }
    }

    /// From the word.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether the next can be opened.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        match self {
            Self::Asked | Self::Open | Self::Over => false,
            Self::Reviewed | Self::Dropped => true,
        }
    }
}

/// One time that somebody broke the glass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakGlass {
    /// Its id.
    pub id: String,
    /// Counts its changes.
    pub version: i64,
    /// What was asked for.
    pub asked: Asked,
    /// How far it had come when it was last changed.
    pub state: State,
    /// Who else said yes.
    pub votes: Vec<Vote>,
    /// When it was asked for.
    pub made: Timestamp,
    /// When something comes of it by itself: nobody answered, its time is over, its review is due.
    pub due: Timestamp,
    /// Since when it was open, if it ever was.
    pub opened: Option<Timestamp>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// Whether its review was not closed in time.
    pub overdue: bool,
    /// Who reviewed it, and what they found.
    pub review: Option<Vote>,
}

/// Something that happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody else says yes.
    Confirm {
        /// Who.
        by: Voter,
        /// What they say to it.
        note: Option<String>,
    },
    /// Somebody ends it.
    Close {
        /// Who.
        by: Party,
    },
    /// Somebody closes its review.
    Review {
        /// Who.
        by: Voter,
        /// What they found.
        note: String,
    },
    /// Time goes by.
    Pass,
}

/// What became of it, for the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Became {
    /// Others are waited for.
    Asked,
    /// Somebody said yes, and others must, too.
    Confirmed,
    /// It is open.
    Opened,
    /// Somebody ended it.
    Closed,
    /// Its time was over.
    Expired,
    /// It never opened.
    Dropped,
    /// Its review is closed.
    Reviewed,
    /// Its review was not closed in time.
    Overdue,
}

impl Became {
    /// The word in metrics and in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Confirmed => "confirmed",
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
            Self::Reviewed => "reviewed",
            Self::Overdue => "review_overdue",
        }
    }
}

/// Why nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmoved {
    /// It has gone beyond that.
    #[error("it is {} already", .0.name())]
    Past(State),
    /// It has not come so far.
    #[error("it is {} still: what is not over is not reviewed", .0.name())]
    NotYet(State),
    /// The yes does not count.
    #[error(transparent)]
    NoVoice(NoVoice),
    /// Who opened it wants to review it.
    #[error("nobody reviews their own break-glass, under whatever identity")]
    Own,
    /// Software or a machine wants to review it.
    #[error("only a person who is signed in reviews a break-glass, no software and no machine")]
    NotAPerson,
    /// Nothing is to be done.
    #[error("its time has not come")]
    Waits,
}

impl BreakGlass {
    /// How far it has come at `now`.
    #[must_use]
    pub fn state_at(&self, now: Timestamp) -> State {
        match self.state {
            State::Asked if now >= self.due => State::Dropped,
            State::Open if now >= self.due => State::Over,
            state @ (State::Asked | State::Open | State::Over | State::Reviewed | State::Dropped) => state,
        }
    }

    /// Who else is still needed, before it opens.
    #[must_use]
    pub fn wanted(&self) -> Vec<(Approvers, u32)> {
        let wanted = open(&self.asked.demands, &self.votes).into_iter();
        wanted.filter_map(|(at, count)| Some((self.asked.demands.get(at)?.clone(), count))).collect()
    }

    /// The demands that somebody's yes would meet.
    ///
    /// # Errors
    /// [`NoVoice`].
    pub fn voice(&self, by: &Voter) -> Result<Vec<usize>, NoVoice> {
        let meets = voice(&self.asked.by, &self.asked.demands, by)?;
        let twice = self.votes.iter().any(|vote| vote.by.is_human_of(&by.party));
        if twice || self.votes.len() >= MOST_VOTES { Err(NoVoice::Twice) } else { Ok(meets) }
    }

    /// Whether somebody may review it, once it is over.
    ///
    /// # Errors
    /// [`Unmoved`].
    pub fn is_for_review_by(&self, by: &Voter) -> Result<(), Unmoved> {
        if by.kind != PrincipalKind::Person {
            return Err(Unmoved::NotAPerson);
        }
        if by.party.is_human_of(&self.asked.by) { Err(Unmoved::Own) } else { Ok(()) }
    }

    /// It after an event, and what that is called.
    ///
    /// # Errors
    /// [`Unmoved`]: it stays as it is. What is over by its time moves by [`Event::Pass`] first.
    pub fn after(&self, event: &Event, now: Timestamp) -> Result<(Self, Became), Unmoved> {
        let next = |state| Self { state, version: self.version.saturating_add(1), ..self.clone() };
        let ended = |state, at: Timestamp, by: Option<Party>| Self {
            ended: Some(Ended { at: at.as_millis(), by }),
            due: at.plus(std::time::Duration::from_secs(self.asked.review_within)),
            ..next(state)
        };
        let due = now >= self.due;
        match (self.state, event) {
            (State::Asked, Event::Pass) if due => {
                Ok((ended(State::Dropped, self.due, None), Became::Dropped))
            }
            (State::Open, Event::Pass) if due => Ok((ended(State::Over, self.due, None), Became::Expired)),
            (State::Over, Event::Pass) if due && !self.overdue => {
                Ok((Self { overdue: true, ..next(State::Over) }, Became::Overdue))
            }
            (State::Asked | State::Open | State::Over, Event::Pass) => Err(Unmoved::Waits),
            (State::Asked | State::Open, _) if due => Err(Unmoved::Past(self.state_at(now))),
            (State::Asked, Event::Close { by }) => {
                Ok((ended(State::Dropped, now, Some(by.clone())), Became::Dropped))
            }
            (State::Open, Event::Close { by }) => {
                Ok((ended(State::Over, now, Some(by.clone())), Became::Closed))
            }
            (State::Asked, Event::Confirm { by, note }) => {
                let meets = self.voice(by).map_err(Unmoved::NoVoice)?;
                let mut votes = self.votes.clone();
                votes.push(Vote { by: by.party.clone(), meets, at: now.as_millis(), note: note.clone() });
                if are_met(&self.asked.demands, &votes) {
                    Ok((Self { votes, ..next(State::Open).opened_at(now) }, Became::Opened))
                } else {
                    Ok((Self { votes, ..next(State::Asked) }, Became::Confirmed))
                }
            }
            (State::Over, Event::Review { by, note }) => {
                self.is_for_review_by(by)?;
                let note = Some(note.clone());
                let review = Vote { by: by.party.clone(), meets: Vec::new(), at: now.as_millis(), note };
                Ok((Self { review: Some(review), ..next(State::Reviewed) }, Became::Reviewed))
            }
            (State::Asked | State::Open, Event::Review { .. }) => Err(Unmoved::NotYet(self.state)),
            (State::Open | State::Over | State::Reviewed | State::Dropped, _) => {
                Err(Unmoved::Past(self.state))
            }
        }
    }

    /// Open from `now` on, for as long as was asked.
    pub(super) fn opened_at(self, now: Timestamp) -> Self {
        let due = now.plus(std::time::Duration::from_secs(self.asked.seconds));
        Self { state: State::Open, opened: Some(now), due, ..self }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    pub fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + secs)
    }

    fn party(id: &str) -> Party {
        Party { id: id.into(), person: id.into(), agent: None, name: None }
    }

    fn voter(id: &str, meets: &[usize]) -> Voter {
        let claimed = crate::gates::approvals::Likeness::Other;
        Voter { party: party(id), kind: PrincipalKind::Person, meets: meets.to_vec(), claimed }
    }

    /// Ann asks for an hour; two of `security` must say yes within a quarter of one, and the review is
    /// due a day after its end.
    pub fn asked() -> BreakGlass {
        BreakGlass {
            id: "g".into(),
            version: 0,
            asked: Asked {
                by: party("corp:ann"),
                reason: "the region is down".into(),
                ticket: None,
                offline: false,
                seconds: 3_600,
                demands: vec![Approvers::Subject { name: "security".into(), count: 2 }],
                review_within: 86_400,
            },
            state: State::Asked,
            votes: Vec::new(),
            made: at(0),
            due: at(900),
            opened: None,
            ended: None,
            overdue: false,
            review: None,
        }
    }

    fn yes(by: Voter) -> Event {
        Event::Confirm { by, note: None }
    }

    fn close(by: &str) -> Event {
        Event::Close { by: party(by) }
    }

    fn review(by: Voter) -> Event {
        Event::Review { by, note: "all was as it said".into() }
    }

    fn open() -> BreakGlass {
        let half = asked().after(&yes(voter("corp:bob", &[0])), at(1)).unwrap().0;
        half.after(&yes(voter("corp:eve", &[0])), at(2)).unwrap().0
    }

    #[test]
    fn it_opens_when_enough_others_have_said_yes_and_not_before_and_ends_after_what_was_asked() {
        let (half, became) = asked().after(&yes(voter("corp:bob", &[0])), at(1)).unwrap();
        assert_eq!((half.state, became, half.opened), (State::Asked, Became::Confirmed, None));
        assert_eq!(half.wanted()[0].1, 1);
        let twice = half.after(&yes(voter("corp:bob", &[0])), at(2));
        assert_eq!(twice, Err(Unmoved::NoVoice(NoVoice::Twice)));
        let own = half.after(&yes(voter("corp:ann", &[0])), at(2));
        assert_eq!(own, Err(Unmoved::NoVoice(NoVoice::Own)));
        let software = Voter { kind: PrincipalKind::Agent, ..voter("corp:joe", &[0]) };
        assert_eq!(half.after(&yes(software), at(2)), Err(Unmoved::NoVoice(NoVoice::NotAPerson)));
        let (open, became) = half.after(&yes(voter("corp:eve", &[0])), at(2)).unwrap();
        assert_eq!((open.state, became), (State::Open, Became::Opened));
        assert_eq!((open.opened, open.due), (Some(at(2)), at(3_602)));
        assert_eq!((open.state_at(at(3_601)), open.state_at(at(3_602))), (State::Open, State::Over));
        assert_eq!(open.after(&Event::Pass, at(3_601)), Err(Unmoved::Waits));
        let (over, became) = open.after(&Event::Pass, at(9_999)).unwrap();
        assert_eq!((over.state, became), (State::Over, Became::Expired));
        let ended = Ended { at: at(3_602).as_millis(), by: None };
        assert_eq!((over.ended, over.due), (Some(ended), at(3_602 + 86_400)), "it ended when it was due");
    }

    #[test]
    fn another_human_than_who_opened_it_reviews_it_and_only_when_it_is_over() {
        let open = open();
        assert_eq!(open.after(&review(voter("corp:bob", &[])), at(9)), Err(Unmoved::NotYet(State::Open)));
        let (over, became) = open.after(&close("corp:bob"), at(10)).unwrap();
        assert_eq!((over.state, became, over.due), (State::Over, Became::Closed, at(10 + 86_400)));
        assert_eq!(over.after(&review(voter("corp:ann", &[])), at(11)), Err(Unmoved::Own));
        let linked = Voter {
            party: Party { person: "corp:ann".into(), ..party("portal:ann") },
            ..voter("portal:ann", &[])
        };
        assert_eq!(over.after(&review(linked), at(11)), Err(Unmoved::Own), "by no identity of theirs");
        let machine = Voter { kind: PrincipalKind::Machine, ..voter("ci:run", &[]) };
        assert_eq!(over.after(&review(machine), at(11)), Err(Unmoved::NotAPerson));
        let (late, became) = over.after(&Event::Pass, at(10 + 86_400)).unwrap();
        assert_eq!((late.state, late.overdue, became), (State::Over, true, Became::Overdue));
        assert_eq!(late.after(&Event::Pass, at(999_999)), Err(Unmoved::Waits), "it is said once");
        let (done, became) = late.after(&review(voter("corp:joe", &[])), at(999_999)).unwrap();
        assert_eq!((done.state, became), (State::Reviewed, Became::Reviewed));
        assert!(done.state.is_whole() && done.review.is_some());
    }

    /// Every state and every event, before and after its time: what becomes of it.
    #[test]
    fn the_table() {
        let events: [(&str, Event); 5] = [
            ("yes", yes(voter("corp:bob", &[0]))),
            ("close", close("corp:ann")),
            ("review", review(voter("corp:bob", &[]))),
            ("own review", review(voter("corp:ann", &[]))),
            ("pass", Event::Pass),
        ];
        for state in State::ALL {
            for late in [false, true] {
                for (name, event) in &events {
                    let before = BreakGlass { state, ..asked() };
                    let now = if late { at(900) } else { at(899) };
                    let after = before.after(event, now).map(|(glass, became)| (glass.state, became));
                    let wanted = match (state, late, *name) {
                        (State::Asked, false, "yes") => Ok((State::Asked, Became::Confirmed)),
                        (State::Asked, false, "close") => Ok((State::Dropped, Became::Dropped)),
                        (State::Asked, true, "pass") => Ok((State::Dropped, Became::Dropped)),
                        (State::Asked, true, _) => Err(Unmoved::Past(State::Dropped)),
                        (State::Open, false, "close") => Ok((State::Over, Became::Closed)),
                        (State::Open, true, "pass") => Ok((State::Over, Became::Expired)),
                        (State::Open, true, _) => Err(Unmoved::Past(State::Over)),
                        (State::Asked | State::Open, false, "review" | "own review") => {
                            Err(Unmoved::NotYet(state))
                        }
                        (State::Over, _, "review") => Ok((State::Reviewed, Became::Reviewed)),
                        (State::Over, _, "own review") => Err(Unmoved::Own),
                        (State::Over, true, "pass") => Ok((State::Over, Became::Overdue)),
                        (State::Asked | State::Open | State::Over, _, "pass") => Err(Unmoved::Waits),
                        (past, _, _) => Err(Unmoved::Past(past)),
                    };
                    assert_eq!(after, wanted, "{state:?} {name}, late: {late}");
                }
            }
        }
        assert!(State::ALL.into_iter().all(|state| State::named(state.name()) == Some(state)));
    }

    #[derive(Debug, Clone)]
    enum Move {
        Yes(usize, Vec<usize>),
        Close(usize),
        Review(usize),
        Time(u64),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let meets = || prop::collection::vec(0_usize..2, 0..2);
        prop::collection::vec(
            prop_oneof![
                4 => (0_usize..4, meets()).prop_map(|(who, meets)| Move::Yes(who, meets)),
                1 => (0_usize..4).prop_map(Move::Close),
                2 => (0_usize..4).prop_map(Move::Review),
                2 => (0_u64..2_000).prop_map(Move::Time),
            ],
            0..24,
        )
    }

    proptest! {
        #[test]
        fn whatever_happens_others_let_it_open_it_ends_in_time_and_another_human_reviews_it(
            moves in moves(),
        ) {
            const NAMES: [&str; 4] = ["corp:ann", "corp:bob", "corp:eve", "corp:joe"];
            let (mut glass, mut now) = (asked(), at(0));
            for one in moves {
                let event = match one {
                    Move::Yes(who, meets) => yes(voter(NAMES[who], &meets)),
                    Move::Close(who) => close(NAMES[who]),
                    Move::Review(who) => review(voter(NAMES[who], &[])),
                    Move::Time(secs) => {
                        now = now.plus(Duration::from_secs(secs));
                        Event::Pass
                    }
                };
                let before = glass.clone();
                if let Ok((after, became)) = glass.after(&event, now) {
                    prop_assert!(!before.state.is_whole(), "an end is the end");
                    prop_assert_eq!(after.version, before.version + 1);
                    if became == Became::Opened {
                        prop_assert!(now < before.due);
                        prop_assert!(are_met(&after.asked.demands, &after.votes));
                    }
                    prop_assert_eq!(after.ended.is_some(), !matches!(after.state, State::Asked | State::Open));
                    if let Some(ended) = &after.ended {
                        let opened = after.opened.map_or(0, |opened| opened.as_millis());
                        prop_assert!(after.opened.is_none() || ended.at <= opened + 3_600_000, "in time");
                    }
                    glass = after;
                }
                if let Some(review) = &glass.review {
                    prop_assert_eq!(glass.state, State::Reviewed);
                    prop_assert!(review.by.person != "corp:ann");
                    prop_assert!(glass.opened.is_some() && glass.ended.is_some());
                }
                prop_assert!(!glass.votes.iter().any(|vote| vote.by.person == "corp:ann"));
            }
        }
    }
}
