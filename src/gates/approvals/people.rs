//! Who asked, who answers, and who is the same human: pure.
//!
//! Nobody answers their own request, whatever else they may: not under another identity that
//! `people` maps to the same human, and not through software. The human for whom an agent acts
//! counts as who asked, too, except where an entry wants that very human. Several demands are met by
//! different humans.

use serde::{Deserialize, Serialize};

use super::claimed::Likeness;
use crate::{
    http::legible,
    identity::{Caller, GerritGroup, PrincipalKind},
    policy::Approvers,
};

/// Somebody as a request remembers them. Issuers have no colon in their names, so that the texts are
/// as good as what they were made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Issuer and subject, as records and `whoami` say them.
    pub id: String,
    /// The human behind that, or the same again.
    pub person: String,
    /// The client of an agent; nothing for whoever acts themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// A name for people to read; never decides anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Party {
    /// A caller, taken for this kind by the policies.
    #[must_use]
    pub fn of(caller: &Caller, kind: PrincipalKind) -> Self {
        let agent = kind.is_agent().then(|| caller.client.as_deref().unwrap_or("unknown").to_owned());
        let name = caller.display.as_deref().map(|name| legible(&name.chars().take(128).collect::<String>()));
        Self { id: caller.id.to_string(), person: caller.person().to_string(), agent, name }
    }

    /// Whether what is another's is theirs to end: a human's own and their agents', an agent's what it
    /// began itself.
    #[must_use]
    pub fn may_end(&self, other: &Self) -> bool {
        self.is_human_of(other) && (self.agent.is_none() || self.agent == other.agent)
    }

    /// Whether both are one human, by any of their identities.
    #[must_use]
    pub fn is_human_of(&self, other: &Self) -> bool {
        [&self.id, &self.person].into_iter().any(|own| *own == other.id || *own == other.person)
    }
}

/// Somebody who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Who.
    pub party: Party,
    /// As what the policies see them.
    pub kind: PrincipalKind,
    /// The demands for people of a subject that they meet, by their places.
    pub meets: Vec<usize>,
    /// Whether it was asked in their name.
    pub claimed: Likeness,
}

/// An answer that was given and counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Who gave it.
    pub by: Party,
    /// The demands that it can meet, by their places.
    pub meets: Vec<usize>,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// What they said to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Why somebody's answer does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoVoice {
    /// It is software, or a machine.
    #[error("only a person who is signed in answers a request, no software and no machine")]
    NotAPerson,
    /// They asked themselves.
    #[error("nobody answers their own request, under whatever identity")]
    Own,
    /// Software asked in their name.
    #[error("it was asked in your name, and nobody answers their own request")]
    Claimed,
    /// Software asked in somebody's name, which may be theirs.
    #[error("your token does not say whether it was asked in your name: answer with one that does")]
    PerhapsClaimed,
    /// They wrote the code that it is about.
    #[error("you wrote the code that this is about, and its entry wants others to answer")]
    Author,
    /// No demand is for people like them.
    #[error("this request is for others to answer")]
    NotAnApprover,
    /// They said yes already.
    #[error("you have answered it already")]
    Twice,
}

/// The demands that somebody's answer can meet.
///
/// # Errors
/// [`NoVoice`].
pub fn voice(requester: &Party, demands: &[Approvers], voter: &Voter) -> Result<Vec<usize>, NoVoice> {
    if voter.kind != PrincipalKind::Person {
        return Err(NoVoice::NotAPerson);
    }
    match voter.claimed {
        Likeness::Other => {}
        Likeness::Same => return Err(NoVoice::Claimed),
        Likeness::Unknown => return Err(NoVoice::PerhapsClaimed),
    }
    let is_human = |at: &usize| demands.get(*at) == Some(&Approvers::Human);
    if voter.party.is_human_of(requester) {
        let own: Vec<_> = match requester.agent {
            Some(_) => (0..demands.len()).filter(is_human).collect(),
            None => Vec::new(),
        };
        return if own.is_empty() { Err(NoVoice::Own) } else { Ok(own) };
    }
    let others: Vec<_> =
        voter.meets.iter().copied().filter(|at| *at < demands.len() && !is_human(at)).collect();
    if others.is_empty() { Err(NoVoice::NotAnApprover) } else { Ok(others) }
}

/// What an approval demands of people where `agent` acts, or nobody does for another: a human who calls is
/// the human already.
#[must_use]
pub fn demands(by: &[Approvers], agent: Option<&str>) -> Vec<Approvers> {
    by.iter().filter(|by| agent.is_some() || **by != Approvers::Human).cloned().collect()
}

/// Whether answers that met all demands still do: one for a group of a code host by somebody who is in it
/// now.
#[must_use]
pub fn are_still_met(
    demands: &[Approvers],
    votes: &[Vote],
    is_in: impl Fn(&GerritGroup, &Party) -> bool,
) -> bool {
    if !demands.iter().any(|demand| matches!(demand, Approvers::GerritGroup { .. })) {
        return true;
    }
    let counts = |vote: &Vote, at: usize| match demands.get(at) {
        Some(Approvers::GerritGroup { group, .. }) => is_in(group, &vote.by),
        Some(Approvers::Human | Approvers::Subject { .. }) | None => true,
    };
    let now = |vote: &Vote| {
        let meets = vote.meets.iter().copied().filter(|at| counts(vote, *at)).collect();
        Vote { meets, ..vote.clone() }
    };
    are_met(demands, &votes.iter().map(now).collect::<Vec<_>>())
}

/// Whether these answers meet all demands, each human counted for one of them.
#[must_use]
pub fn are_met(demands: &[Approvers], votes: &[Vote]) -> bool {
    open(demands, votes).is_empty()
}

/// How many people are still needed of which demand, once as many are met as can be.
#[must_use]
pub fn open(demands: &[Approvers], votes: &[Vote]) -> Vec<(usize, u32)> {
    let places: Vec<usize> = demands
        .iter()
        .enumerate()
        .flat_map(|(at, demand)| {
            let count = match demand {
                Approvers::Human => 1,
                Approvers::Subject { count, .. } | Approvers::GerritGroup { count, .. } => *count,
            };
            std::iter::repeat_n(at, usize::try_from(count).unwrap_or(usize::MAX).min(64))
        })
        .collect();
    let meets: Vec<_> = votes.iter().map(|vote| vote.meets.as_slice()).collect();
    let taken = seated(&places, &meets);
    let mut open: Vec<(usize, u32)> = Vec::new();
    for (place, by) in places.iter().zip(&taken) {
        if by.is_some() {
            continue;
        }
        match open.last_mut() {
            Some((at, count)) if at == place => *count += 1,
            _ => open.push((*place, 1)),
        }
    }
    open
}

/// Who takes which place, so that as many are taken as can be: each place is for one demand, and each
/// one who came is given one place of those that they can take, by their demands.
pub(in crate::gates) fn seated(places: &[usize], meets: &[&[usize]]) -> Vec<Option<usize>> {
    // Each moves to another place where that frees one (Kuhn's algorithm).
    let mut taken: Vec<Option<usize>> = vec![None; places.len()];
    for one in 0..meets.len() {
        let mut seen = vec![false; places.len()];
        seat(one, meets, places, &mut taken, &mut seen);
    }
    taken
}

fn seat(
    one: usize,
    all: &[&[usize]],
    places: &[usize],
    taken: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    let Some(meets) = all.get(one) else { return false };
    for (at, demand) in places.iter().enumerate() {
        let Some(was) = seen.get_mut(at) else { continue };
        if *was || !meets.contains(demand) {
            continue;
        }
        *was = true;
        let holder = taken.get(at).copied().flatten();
        if holder.is_none_or(|holder| seat(holder, all, places, taken, seen)) {
            if let Some(place) = taken.get_mut(at) {
                *place = Some(one);
            }
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn party(id: &str, person: &str) -> Party {
        Party { id: id.into(), person: person.into(), agent: None, name: None }
    }

    fn voter(id: &str, person: &str, kind: PrincipalKind, meets: &[usize]) -> Voter {
        Voter { party: party(id, person), kind, meets: meets.to_vec(), claimed: Likeness::Other }
    }

    fn of(name: &str, count: u32) -> Approvers {
        Approvers::Subject { name: name.into(), count }
    }

    fn vote(id: &str, meets: &[usize]) -> Vote {
        Vote { by: party(id, id), meets: meets.to_vec(), at: 0, note: None }
    }

    #[test]
    fn nobody_answers_their_own_request_under_any_identity_that_is_theirs() {
        let demands = [of("platform", 1)];
        let asked = party("corp:ann", "corp:ann");
        for (id, person) in [
            ("corp:ann", "corp:ann"),
            // She signed in elsewhere, and `people` knows it.
            ("portal:ann", "corp:ann"),
            // `people` has another canonical issuer since.
            ("corp:ann", "portal:ann"),
        ] {
            let voter = voter(id, person, PrincipalKind::Person, &[0]);
            assert_eq!(voice(&asked, &demands, &voter), Err(NoVoice::Own), "{id} {person}");
        }
        let mapped = party("portal:ann", "corp:ann");
        let own = voter("corp:ann", "corp:ann", PrincipalKind::Person, &[0]);
        assert_eq!(voice(&mapped, &demands, &own), Err(NoVoice::Own));
        let bob = voter("corp:bob", "corp:bob", PrincipalKind::Person, &[0]);
        assert_eq!(voice(&asked, &demands, &bob), Ok(vec![0]));
    }

    #[test]
    fn who_was_named_answers_nothing_and_neither_does_who_may_be() {
        let demands = [of("platform", 1)];
        let portal = party("corp:portal", "corp:portal");
        let bob = voter("corp:bob", "corp:bob", PrincipalKind::Person, &[0]);
        for (claimed, heard) in [
            (Likeness::Other, Ok(vec![0])),
            (Likeness::Same, Err(NoVoice::Claimed)),
            (Likeness::Unknown, Err(NoVoice::PerhapsClaimed)),
        ] {
            assert_eq!(voice(&portal, &demands, &Voter { claimed, ..bob.clone() }), heard);
        }
    }

    #[test]
    fn software_and_machines_answer_nothing_whatever_they_belong_to() {
        let demands = [of("platform", 1), Approvers::Human];
        let asked = party("corp:ann", "corp:ann");
        for kind in [PrincipalKind::Machine, PrincipalKind::Agent, PrincipalKind::AutonomousAgent] {
            let bot = voter("corp:bob", "corp:bob", kind, &[0]);
            assert_eq!(voice(&asked, &demands, &bot), Err(NoVoice::NotAPerson), "{kind:?}");
        }
    }

    #[test]
    fn the_human_of_an_agent_answers_for_themselves_and_for_nothing_else() {
        let agent = Party { agent: Some("copilot".into()), ..party("corp:ann", "corp:ann") };
        let ann = voter("portal:ann", "corp:ann", PrincipalKind::Person, &[0]);
        let bob = voter("corp:bob", "corp:bob", PrincipalKind::Person, &[0]);
        let both = [of("platform", 1), Approvers::Human];
        assert_eq!(voice(&agent, &both, &ann), Ok(vec![1]));
        assert_eq!(voice(&agent, &both, &bob), Ok(vec![0]), "nobody else is the human");
        assert_eq!(voice(&agent, &[of("platform", 1)], &ann), Err(NoVoice::Own), "it asked in her name");
        assert_eq!(voice(&agent, &[Approvers::Human], &bob), Err(NoVoice::NotAnApprover));
        let herself = party("corp:ann", "corp:ann");
        assert_eq!(voice(&herself, &both, &ann), Err(NoVoice::Own), "no agent asked");
        let through_it = Voter { kind: PrincipalKind::Agent, ..ann };
        assert_eq!(voice(&agent, &both, &through_it), Err(NoVoice::NotAPerson));
    }

    #[test]
    fn an_agent_ends_what_it_began_and_nothing_of_its_humans_or_of_another_agents() {
        let of =
            |agent: Option<&str>| Party { agent: agent.map(Into::into), ..party("corp:ann", "corp:ann") };
        for (by, whose, may) in [
            (None, None, true),
            (None, Some("copilot"), true),
            (Some("copilot"), Some("copilot"), true),
            (Some("copilot"), None, false),
            (Some("copilot"), Some("other"), false),
        ] {
            assert_eq!(of(by).may_end(&of(whose)), may, "{by:?} {whose:?}");
        }
        assert!(!party("corp:bob", "corp:bob").may_end(&of(None)));
    }

    #[test]
    fn a_name_that_an_issuer_gives_deceives_nobody() {
        let caller = Caller {
            display: Some("Ann\u{202e}\u{1b}[2J".into()),
            ..crate::gates::approvals::tests::scene::caller("ann", &[])
        };
        let name = Party::of(&caller, PrincipalKind::Person).name.unwrap();
        assert_eq!(name, "Ann\u{fffd}\u{fffd}[2J");
    }

    #[test]
    fn each_human_counts_for_one_demand() {
        let demands = [of("platform", 1), of("risk", 1)];
        assert!(!are_met(&demands, &[vote("a", &[0, 1])]));
        assert!(are_met(&demands, &[vote("a", &[0, 1]), vote("b", &[0])]), "a moves to the other place");
        assert!(!are_met(&demands, &[vote("a", &[0]), vote("b", &[0])]));
        assert_eq!(open(&demands, &[vote("a", &[0]), vote("b", &[0])]), [(1, 1)]);
        let three = [of("platform", 3), Approvers::Human];
        assert_eq!(open(&three, &[vote("a", &[0])]), [(0, 2), (1, 1)]);
        assert!(are_met(&[], &[]));
    }

    #[test]
    fn who_left_the_group_for_which_they_said_yes_said_it_for_nothing() {
        let group = |name: &str| GerritGroup { server: "main".into(), group: name.into() };
        let of_group = |name, count| Approvers::GerritGroup { group: group(name), count };
        let demands = [of_group("risk", 1), of("platform", 1), of_group("owners", 1)];
        let votes = [vote("a", &[0, 1]), vote("b", &[0, 2]), vote("c", &[1])];
        let met = |is_in: &dyn Fn(&str, &str) -> bool| {
            are_still_met(&demands, &votes, |group, by| is_in(&group.group, &by.person))
        };
        assert!(met(&|_, _| true));
        assert!(!met(&|_, _| false));
        assert!(met(&|group, by| (group, by) != ("risk", "b")), "each has another place");
        assert!(!met(&|group, _| group != "owners"));
        assert!(!met(&|group, by| (group, by) != ("risk", "a")), "b is needed elsewhere");
        // Whoever answered for a subject was looked at when they did.
        let subjects = [of("platform", 1), Approvers::Human];
        assert!(are_still_met(&subjects, &[], |_, _| false));
    }

    #[test]
    fn a_human_who_calls_need_not_be_asked_for() {
        let by = [of("platform", 1), Approvers::Human];
        assert_eq!(super::demands(&by, None), [of("platform", 1)]);
        assert_eq!(super::demands(&by, Some("copilot")), by);
    }

    /// By trying every way to give votes places.
    fn naively(places: &[usize], votes: &[Vote]) -> bool {
        match places.split_first() {
            None => true,
            Some((place, rest)) => (0..votes.len()).any(|at| {
                votes[at].meets.contains(place) && {
                    let mut left = votes.to_vec();
                    left.remove(at);
                    naively(rest, &left)
                }
            }),
        }
    }

    proptest! {
        #[test]
        fn demands_are_met_exactly_if_there_is_a_way_to_meet_them(
            counts in prop::collection::vec(1_u32..3, 1..4),
            meets in prop::collection::vec(prop::collection::vec(0_usize..4, 0..4), 0..6),
        ) {
            let demands: Vec<_> = counts.iter().map(|count| of("s", *count)).collect();
            let votes: Vec<_> = meets.iter().enumerate().map(|(n, meets)| vote(&n.to_string(), meets)).collect();
            let places: Vec<usize> = counts.iter().enumerate().flat_map(|(at, n)| vec![at; *n as usize]).collect();
            prop_assert_eq!(are_met(&demands, &votes), naively(&places, &votes));
        }

        #[test]
        fn no_identity_of_the_requester_is_ever_heard_for_others_demands(
            id in "[ab]", person in "[ab]", own in "[ab]", own_person in "[ab]", meets in prop::collection::vec(0_usize..3, 0..3), agent in any::<bool>(),
        ) {
            let demands = [of("s", 1), Approvers::Human, of("t", 1)];
            let asked = Party { agent: agent.then(|| "bot".to_owned()), ..party(&id, &person) };
            let voter = voter(&own, &own_person, PrincipalKind::Person, &meets);
            if let Ok(heard) = voice(&asked, &demands, &voter) {
                let same = voter.party.is_human_of(&asked);
                prop_assert_eq!(same, heard == [1]);
                prop_assert!(!same || agent);
            }
        }
    }
}
