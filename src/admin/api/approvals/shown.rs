//! Requests and grants as callers see them.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    gates::approvals::{Approvals, Claimed, Grant, Party, Request, State, Vote, What},
    identity::Principal,
    policy::{Approvers, Covers, PolicySet},
    time::Timestamp,
};

/// Somebody, as a request remembers them.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Party")]
pub struct PartyView {
    /// Issuer and subject, as `ISSUER:SUBJECT`.
    id: String,
    /// The human behind that, or the same again.
    person: String,
    /// The client of an agent.
    agent: Option<String>,
    /// A name to read; decides nothing.
    name: Option<String>,
}

/// In whose name software asked, as it says.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ClaimedUser")]
pub struct ClaimedView {
    /// What they are called.
    user: String,
    /// The issuer whose people are called so.
    issuer: String,
    /// The claim of its tokens that says it.
    claim: String,
}

/// An answer that counts.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Vote")]
pub struct VoteView {
    /// Who gave it.
    by: PartyView,
    /// When.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// What they said to it.
    note: Option<String>,
}

/// Whose answer is wanted.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Demand")]
pub enum DemandView {
    /// Of an agent: its own human, the word `human`.
    Human(#[schemars(extend("const" = "human"))] &'static str),
    /// So many of a subject.
    Subject {
        /// The subject's name in the policies.
        subject: String,
        /// How many.
        count: u32,
    },
    /// So many people of a group of a Gerrit.
    Reviewers {
        /// The group.
        gerrit_group: GroupView,
        /// How many.
        count: u32,
    },
}

/// A group of a Gerrit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "GerritGroup")]
pub struct GroupView {
    /// The server's name in the configuration.
    server: String,
    /// The group's name or UUID there.
    group: String,
}

/// A request for approval, and what the caller may do with it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ApprovalRequest")]
pub struct RequestView {
    /// Its id.
    id: String,
    /// How far it has come.
    state: State,
    /// The entry that demands the approval, by name.
    entry: String,
    /// Who asked.
    requester: PartyView,
    /// In whose name, by the word of who asked: nobody has proved it.
    claimed: Option<ClaimedView>,
    /// Why.
    reason: Option<String>,
    /// The ticket.
    ticket: Option<String>,
    /// The call that was refused.
    what: What,
    /// Whose answers the entry demands.
    demands: Vec<DemandView>,
    /// Whose are still wanted.
    open: Vec<DemandView>,
    /// The answers so far.
    votes: Vec<VoteView>,
    /// What a grant will be good for.
    covers: Covers,
    /// How often; null for as often as it holds.
    uses: Option<u32>,
    /// For how many seconds.
    valid_for: u64,
    /// The decision that refused the call.
    decision: String,
    /// The policies that were in force, by their digest in hex.
    policies: String,
    /// When it was made.
    #[schemars(extend("format" = "date-time"))]
    made: String,
    /// Until when answers are waited for.
    #[schemars(extend("format" = "date-time"))]
    expires: String,
    /// When it came to its end.
    #[schemars(extend("format" = "date-time"))]
    decided: Option<String>,
    /// What the caller may do with it: `approve`, `deny`, `withdraw`.
    can: Vec<&'static str>,
    /// The grant, in the answer to the approval that gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantView>,
}

/// A grant: it satisfies the approval of one entry, and adds no right.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Grant")]
pub struct GrantView {
    /// Its id.
    id: String,
    /// How far it has come.
    #[schemars(extend("enum" = ["active", "used", "revoked", "expired"]))]
    state: &'static str,
    /// The entry, by name.
    entry: String,
    /// Who may use it.
    holder: PartyView,
    /// The request for which it was given.
    request: String,
    /// Who approved.
    approvers: Vec<VoteView>,
    /// The call that was asked about.
    what: What,
    /// How often it can be used; null for as often as it holds.
    uses: Option<u32>,
    /// How often it was.
    used: u32,
    /// Since when.
    #[schemars(extend("format" = "date-time"))]
    made: String,
    /// Until when.
    #[schemars(extend("format" = "date-time"))]
    expires: String,
}

pub fn party(party: &Party) -> PartyView {
    let Party { id, person, agent, name } = party.clone();
    PartyView { id, person, agent, name }
}

fn claimed(claimed: &Claimed) -> ClaimedView {
    let Claimed { user, issuer, claim } = claimed.clone();
    ClaimedView { user, issuer, claim }
}

pub fn vote(vote: &Vote) -> VoteView {
    let at = Timestamp::from_millis(vote.at).to_rfc3339();
    VoteView { by: party(&vote.by), at, note: vote.note.clone() }
}

pub fn demand(by: &Approvers, count: u32) -> DemandView {
    match by {
        Approvers::Human => DemandView::Human("human"),
        Approvers::Subject { name, .. } => DemandView::Subject { subject: name.to_string(), count },
        Approvers::GerritGroup { group, .. } => {
            let (server, group) = (group.server.to_string(), group.group.to_string());
            DemandView::Reviewers { gerrit_group: GroupView { server, group }, count }
        }
    }
}

/// A request, and what `viewer` may do with it.
pub fn request(request: &Request, viewer: &Principal, policies: &PolicySet, now: Timestamp) -> RequestView {
    let asked = &request.asked;
    let state = request.state_at(now);
    let voter = Approvals::voter(policies, viewer, request);
    let demands = asked.demands.iter().map(|by| match by {
        Approvers::Human => demand(by, 1),
        Approvers::Subject { count, .. } | Approvers::GerritGroup { count, .. } => demand(by, *count),
    });
    let open = match state {
        State::Pending => request.open().iter().map(|(by, count)| demand(by, *count)).collect(),
        State::Approved | State::Denied | State::Expired | State::Withdrawn => Vec::new(),
    };
    let mut can = Vec::new();
    if state == State::Pending {
        if request.voice(&voter).is_ok() {
            can.extend(["approve", "deny"]);
        }
        if voter.party.may_end(&asked.requester) {
            can.push("withdraw");
        }
    }
    RequestView {
        id: request.id.clone(),
        state,
        entry: asked.entry.clone(),
        requester: party(&asked.requester),
        claimed: asked.claimed.as_ref().map(claimed),
        reason: asked.reason.clone(),
        ticket: asked.ticket.clone(),
        what: asked.what.clone(),
        demands: demands.collect(),
        open,
        votes: request.votes.iter().map(vote).collect(),
        covers: asked.covers,
        uses: asked.uses,
        valid_for: asked.valid_for,
        decision: asked.decision.clone(),
        policies: asked.policies.clone(),
        made: request.made.to_rfc3339(),
        expires: request.expires.to_rfc3339(),
        decided: request.decided.map(Timestamp::to_rfc3339),
        can,
        grant: None,
    }
}

/// A grant.
pub fn grant(grant: &Grant, now: Timestamp) -> GrantView {
    GrantView {
        id: grant.id.clone(),
        state: grant.state(now).name(),
        entry: grant.terms.entry.clone(),
        holder: party(&grant.terms.holder),
        request: grant.terms.request.clone(),
        approvers: grant.terms.approvers.iter().map(vote).collect(),
        what: grant.terms.what.clone(),
        uses: grant.uses,
        used: grant.used,
        made: grant.made.to_rfc3339(),
        expires: grant.expires.to_rfc3339(),
    }
}
