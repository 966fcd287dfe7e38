//! A request for approval, from pending to its end: a pure function of the request, an event and the
//! time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    call::What,
    claimed::Claimed,
    people::{self, NoVoice, Party, Vote, Voter},
};
use crate::{
    policy::{Approvers, Covers},
    time::Timestamp,
};

/// Answers that one request keeps; more people are never needed.
const MOST_VOTES: usize = 64;

/// What was asked; it does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Who asked.
    pub requester: Party,
    /// In whose name, by the word of who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<Claimed>,
    /// The entry that demands it, by name.
    pub entry: String,
    /// The entry as it was, by its version in hex.
    pub version: String,
    /// What it demands of people.
    pub demands: Vec<Approvers>,
    /// What a grant will be good for.
    pub covers: Covers,
    /// How often; `None` for as often as it holds.
    pub uses: Option<u32>,
    /// How long, in seconds.
    pub valid_for: u64,
    /// What a grant will be bound to.
    pub bound: String,
    /// Persons who may not approve it, because they wrote the code that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never: Vec<String>,
    /// The call, for people to read.
    pub what: What,
    /// The decision that refused the call.
    pub decision: String,
    /// The policies that were in force, by their digest in hex.
    pub policies: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RequestState")]
pub enum State {
    /// People have not answered yet, or not enough of them.
    Pending,
    /// Enough said yes: there is a grant.
    Approved,
    /// Somebody said no.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// Whoever asked does not want it any more.
    Withdrawn,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Approved, Self::Denied, Self::Expired, Self::Withdrawn];

    /// The word in the store, in answers and in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// From the word.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A request for approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its id.
    pub id: String,
    /// Counts its changes.
    pub version: i64,
    /// What was asked.
    pub asked: Asked,
    /// How far it had come when it was last changed.
    pub state: State,
    /// Who said yes; the last of a denied one said no.
    pub votes: Vec<Vote>,
    /// When it was made.
    pub made: Timestamp,
    /// Until when it is waited for answers.
    pub expires: Timestamp,
    /// When it came to its end.
    pub decided: Option<Timestamp>,
}

/// Something that happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody says yes.
    Approve {
        /// Who.
        by: Voter,
        /// What they say to it.
        note: Option<String>,
    },
    /// Somebody says no.
    Deny {
        /// Who.
        by: Voter,
        /// What they say to it.
        note: Option<String>,
    },
    /// Whoever asked takes it back.
    Withdraw {
        /// Who.
        by: Party,
    },
    /// Time goes by.
    Pass,
}

/// Why nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmoved {
    /// It has come to its end.
    #[error("the request is {} already", .0.name())]
    Over(State),
    /// The answer does not count.
    #[error(transparent)]
    NoVoice(NoVoice),
    /// It is somebody else's.
    #[error("only whoever asked takes a request back")]
    NotTheirs,
    /// Nothing is to be done.
    #[error("its time has not come")]
    Waits,
}

impl Request {
    /// How far it has come at `now`.
    #[must_use]
    pub fn state_at(&self, now: Timestamp) -> State {
        if self.state == State::Pending && now >= self.expires { State::Expired } else { self.state }
    }

    /// The demands that somebody's yes would meet.
    ///
    /// # Errors
    /// [`NoVoice`].
    pub fn voice(&self, by: &Voter) -> Result<Vec<usize>, NoVoice> {
        let meets = people::voice(&self.asked.requester, &self.asked.demands, by)?;
        if self.asked.never.iter().any(|author| [&by.party.id, &by.party.person].contains(&author)) {
            return Err(NoVoice::Author);
        }
        let twice = self.votes.iter().any(|vote| vote.by.is_human_of(&by.party));
        if twice || self.votes.len() >= MOST_VOTES { Err(NoVoice::Twice) } else { Ok(meets) }
    }

    /// Who is still needed.
    #[must_use]
    pub fn open(&self) -> Vec<(Approvers, u32)> {
        let open = people::open(&self.asked.demands, &self.votes).into_iter();
        open.filter_map(|(at, count)| Some((self.asked.demands.get(at)?.clone(), count))).collect()
    }

    /// The request after an event.
    ///
    /// # Errors
    /// [`Unmoved`]: it stays as it is.
    pub fn after(&self, event: &Event, now: Timestamp) -> Result<Self, Unmoved> {
        let ended = |state| Self {
            state,
            version: self.version.saturating_add(1),
            decided: Some(now),
            ..self.clone()
        };
        match (self.state_at(now), event) {
            (State::Expired, Event::Pass) if self.state == State::Pending => Ok(ended(State::Expired)),
            (State::Pending, Event::Pass) => Err(Unmoved::Waits),
            (State::Pending, Event::Withdraw { by }) => {
                // An agent's request is its human's, too; its human's is not the agent's.
                if by.may_end(&self.asked.requester) {
                    Ok(ended(State::Withdrawn))
                } else {
                    Err(Unmoved::NotTheirs)
                }
            }
            (State::Pending, Event::Approve { by, note }) => {
                let meets = self.voice(by).map_err(Unmoved::NoVoice)?;
                let mut votes = self.votes.clone();
                votes.push(Vote { by: by.party.clone(), meets, at: now.as_millis(), note: note.clone() });
                let version = self.version.saturating_add(1);
                let met = people::are_met(&self.asked.demands, &votes);
                let state = if met { State::Approved } else { State::Pending };
                Ok(Self { state, version, votes, decided: met.then_some(now), ..self.clone() })
            }
            (State::Pending, Event::Deny { by, note }) => {
                let meets = match self.voice(by) {
                    Ok(meets) => meets,
                    // Whoever said yes may think better of it.
                    Err(NoVoice::Twice) => Vec::new(),
                    Err(why) => return Err(Unmoved::NoVoice(why)),
                };
                let mut request = ended(State::Denied);
                request.votes.push(Vote {
                    by: by.party.clone(),
                    meets,
                    at: now.as_millis(),
                    note: note.clone(),
                });
                Ok(request)
            }
            (state @ (State::Approved | State::Denied | State::Expired | State::Withdrawn), _) => {
                Err(Unmoved::Over(state))
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::identity::PrincipalKind;

    pub fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + secs)
    }

    pub fn party(id: &str) -> Party {
        Party { id: id.into(), person: id.into(), agent: None, name: None }
    }

    pub fn voter(id: &str, meets: &[usize]) -> Voter {
        let claimed = super::super::claimed::Likeness::Other;
        Voter { party: party(id), kind: PrincipalKind::Person, meets: meets.to_vec(), claimed }
    }

    /// Ann asks; two of `platform` and one of `risk` must say yes within an hour.
    pub fn request() -> Request {
        let of = |name: &str, count| Approvers::Subject { name: name.into(), count };
        Request {
            id: "r".into(),
            version: 3,
            asked: Asked {
                requester: party("corp:ann"),
                claimed: None,
                entry: "big clusters".into(),
                version: "00".into(),
                demands: vec![of("platform", 2), of("risk", 1)],
                covers: Covers::Request,
                uses: Some(1),
                valid_for: 3_600,
                bound: "bound".into(),
                never: Vec::new(),
                what: What::default(),
                decision: "d".into(),
                policies: "11".into(),
                reason: None,
                ticket: None,
            },
            state: State::Pending,
            votes: Vec::new(),
            made: at(0),
            expires: at(3_600),
            decided: None,
        }
    }

    fn yes(by: Voter) -> Event {
        Event::Approve { by, note: None }
    }

    fn no(by: Voter) -> Event {
        Event::Deny { by, note: Some("not now".into()) }
    }

    #[test]
    fn it_is_approved_when_all_that_are_demanded_have_said_yes_and_not_before() {
        let mut request = request();
        for (by, meets, state, open) in [
            ("corp:bob", &[0, 1][..], State::Pending, vec![(0, 1), (1, 1)]),
            ("corp:eve", &[0], State::Pending, vec![(1, 1)]),
            ("corp:joe", &[0], State::Approved, vec![]),
        ] {
            request = request.after(&yes(voter(by, meets)), at(10)).unwrap();
            assert_eq!(request.state, state, "{by}");
            assert_eq!(people::open(&request.asked.demands, &request.votes), open, "{by}");
        }
        assert_eq!((request.decided, request.version), (Some(at(10)), 6));
    }

    #[test]
    fn one_no_is_enough_and_whoever_said_yes_may_say_it() {
        let bob = voter("corp:bob", &[0]);
        let half = request().after(&yes(bob.clone()), at(1)).unwrap();
        assert_eq!(half.after(&yes(bob.clone()), at(2)), Err(Unmoved::NoVoice(NoVoice::Twice)));
        let denied = half.after(&no(bob), at(2)).unwrap();
        assert_eq!((denied.state, denied.decided), (State::Denied, Some(at(2))));
        assert_eq!(denied.votes.last().unwrap().note.as_deref(), Some("not now"));
        let stranger = no(voter("corp:joe", &[]));
        assert_eq!(request().after(&stranger, at(1)), Err(Unmoved::NoVoice(NoVoice::NotAnApprover)));
        let own = no(voter("corp:ann", &[0]));
        assert_eq!(request().after(&own, at(1)), Err(Unmoved::NoVoice(NoVoice::Own)));
    }

    #[test]
    fn whoever_wrote_the_code_does_not_approve_it_under_any_identity() {
        let mut request = request();
        request.asked.never = vec!["corp:bob".into()];
        let author = Err(NoVoice::Author);
        assert_eq!(request.voice(&voter("corp:bob", &[0])), author);
        let mut mapped = voter("portal:bob", &[0]);
        mapped.party.person = "corp:bob".into();
        assert_eq!(request.voice(&mapped), author);
        assert_eq!(request.after(&no(mapped), at(1)), Err(Unmoved::NoVoice(NoVoice::Author)));
        assert_eq!(request.voice(&voter("corp:eve", &[0])), Ok(vec![0]));
    }

    /// Every state and every event, before and after the request's time: what becomes of it.
    #[test]
    fn the_table() {
        let events: [(&str, Event); 7] = [
            ("yes", yes(voter("corp:bob", &[0]))),
            ("last yes", yes(voter("corp:joe", &[0, 1]))),
            ("own yes", yes(voter("corp:ann", &[0, 1]))),
            ("no", no(voter("corp:bob", &[0]))),
            ("withdraw", Event::Withdraw { by: party("corp:ann") }),
            ("others withdraw", Event::Withdraw { by: party("corp:bob") }),
            ("pass", Event::Pass),
        ];
        for state in State::ALL {
            for late in [false, true] {
                for (name, event) in &events {
                    let mut before = Request { state, ..request() };
                    before.asked.demands = vec![Approvers::Subject {
                        name: "platform".into(),
                        count: if *name == "last yes" { 1 } else { 2 },
                    }];
                    let now = if late { at(3_600) } else { at(3_599) };
                    let after = before.after(event, now).map(|request| request.state);
                    let wanted = match (state, late, *name) {
                        (State::Pending, false, "yes") => Ok(State::Pending),
                        (State::Pending, false, "last yes") => Ok(State::Approved),
                        (State::Pending, false, "own yes") => Err(Unmoved::NoVoice(NoVoice::Own)),
                        (State::Pending, false, "no") => Ok(State::Denied),
                        (State::Pending, false, "withdraw") => Ok(State::Withdrawn),
                        (State::Pending, false, "others withdraw") => Err(Unmoved::NotTheirs),
                        (State::Pending, false, _) => Err(Unmoved::Waits),
                        (State::Pending, true, "pass") => Ok(State::Expired),
                        (State::Pending, true, _) => Err(Unmoved::Over(State::Expired)),
                        (over, _, _) => Err(Unmoved::Over(over)),
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
        No(usize, Vec<usize>),
        Back(usize),
        Time(u64),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let meets = || prop::collection::vec(0_usize..2, 0..2);
        prop::collection::vec(
            prop_oneof![
                6 => (0_usize..5, meets()).prop_map(|(who, meets)| Move::Yes(who, meets)),
                1 => (0_usize..5, meets()).prop_map(|(who, meets)| Move::No(who, meets)),
                1 => (0_usize..5).prop_map(Move::Back),
                2 => (0_u64..2_000).prop_map(Move::Time),
            ],
            0..20,
        )
    }

    proptest! {
        #[test]
        fn whatever_happens_it_ends_once_by_others_than_who_asked_and_in_time(moves in moves()) {
            const NAMES: [&str; 5] = ["corp:ann", "corp:bob", "corp:eve", "corp:joe", "corp:kim"];
            let (mut request, mut now) = (request(), at(0));
            for one in moves {
                let event = match one {
                    Move::Yes(who, meets) => yes(voter(NAMES[who], &meets)),
                    Move::No(who, meets) => no(voter(NAMES[who], &meets)),
                    Move::Back(who) => Event::Withdraw { by: party(NAMES[who]) },
                    Move::Time(secs) => {
                        now = now.plus(Duration::from_secs(secs));
                        Event::Pass
                    }
                };
                let before = request.clone();
                if let Ok(after) = request.after(&event, now) {
                    prop_assert_eq!(before.state, State::Pending, "an end is the end");
                    prop_assert_eq!(after.version, before.version + 1);
                    prop_assert!(after.state == State::Expired || now < before.expires);
                    prop_assert_eq!(after.decided.is_some(), after.state != State::Pending);
                    request = after;
                }
                if request.state == State::Approved {
                    prop_assert!(people::are_met(&request.asked.demands, &request.votes));
                    let mut humans: Vec<_> = request.votes.iter().map(|vote| &vote.by.person).collect();
                    humans.sort();
                    humans.dedup();
                    prop_assert_eq!(humans.len(), request.votes.len(), "different humans");
                    prop_assert!(!humans.iter().any(|human| **human == request.asked.requester.person));
                }
            }
        }
    }
}
