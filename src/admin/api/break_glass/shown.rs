//! A break-glass as callers see it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    admin::api::approvals::shown::{DemandView, PartyView, VoteView, demand, party, vote},
    gates::break_glass::{BreakGlass, BreakGlasses, State},
    identity::Principal,
    policy::PolicySet,
    time::Timestamp,
};

/// How it ended.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BreakGlassEnd")]
pub struct EndView {
    /// When.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// Who closed it; null if its time was over.
    by: Option<PartyView>,
}

/// One time that somebody broke the glass, and what the caller may do with it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BreakGlass")]
pub struct BreakGlassView {
    /// Its id.
    id: String,
    /// How far it has come.
    #[schemars(extend("enum" = ["asked", "open", "over", "reviewed", "dropped"]))]
    state: &'static str,
    /// Who opened it, or asked to.
    opener: PartyView,
    /// Whether a code said who asked, and no identity provider.
    offline: bool,
    /// Why.
    reason: String,
    /// The ticket.
    ticket: Option<String>,
    /// For how many seconds it was asked for.
    seconds: u64,
    /// Whose yes is still wanted.
    wanted: Vec<DemandView>,
    /// Who said yes.
    votes: Vec<VoteView>,
    /// When it was asked for.
    #[schemars(extend("format" = "date-time"))]
    made: String,
    /// Since when it was open.
    #[schemars(extend("format" = "date-time"))]
    opened: Option<String>,
    /// Until when it is open, or others are waited for.
    #[schemars(extend("format" = "date-time"))]
    until: Option<String>,
    /// How it ended.
    ended: Option<EndView>,
    /// When its review is due.
    #[schemars(extend("format" = "date-time"))]
    review_by: Option<String>,
    /// Whether its review was not closed in time.
    overdue: bool,
    /// Who reviewed it, and what they found.
    review: Option<VoteView>,
    /// What the caller may do with it: `confirm`, `close`, `review`.
    can: Vec<&'static str>,
}

/// One of them, for `viewer`.
pub fn one(glass: &BreakGlass, viewer: &Principal, policies: &PolicySet, now: Timestamp) -> BreakGlassView {
    let state = glass.state_at(now);
    let voter = BreakGlasses::voter(policies, viewer, glass);
    let mut can = Vec::new();
    match state {
        State::Asked => {
            can.extend(glass.voice(&voter).is_ok().then_some("confirm"));
            can.push("close");
        }
        State::Open => can.push("close"),
        State::Over => can.extend(glass.is_for_review_by(&voter).is_ok().then_some("review")),
        State::Reviewed | State::Dropped => {}
    }
    let wanted = match state {
        State::Asked => glass.wanted(),
        State::Open | State::Over | State::Reviewed | State::Dropped => Vec::new(),
    };
    let ended = glass.ended.as_ref().map(|ended| EndView {
        at: Timestamp::from_millis(ended.at).to_rfc3339(),
        by: ended.by.as_ref().map(party),
    });
    let is_over = glass.state == State::Over;
    BreakGlassView {
        id: glass.id.clone(),
        state: state.name(),
        opener: party(&glass.asked.by),
        offline: glass.asked.offline,
        reason: glass.asked.reason.clone(),
        ticket: glass.asked.ticket.clone(),
        seconds: glass.asked.seconds,
        wanted: wanted.iter().map(|(by, count)| demand(by, *count)).collect(),
        votes: glass.votes.iter().map(vote).collect(),
        made: glass.made.to_rfc3339(),
        opened: glass.opened.map(Timestamp::to_rfc3339),
        until: matches!(state, State::Asked | State::Open).then(|| glass.due.to_rfc3339()),
        ended,
        review_by: is_over.then(|| glass.due.to_rfc3339()),
        overdue: glass.overdue || (is_over && now >= glass.due),
        review: glass.review.as_ref().map(vote),
        can,
    }
}
