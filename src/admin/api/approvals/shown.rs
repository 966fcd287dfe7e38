//! Requests and grants as callers see them.

use serde_json::{Value, json};

use crate::{
    gates::approvals::{Approvals, Grant, Party, Request, State, Vote},
    identity::Principal,
    policy::{Approvers, PolicySet},
    time::Timestamp,
};

fn party(party: &Party) -> Value {
    json!({"id": party.id, "person": party.person, "agent": party.agent, "name": party.name})
}

fn vote(vote: &Vote) -> Value {
    let at = Timestamp::from_millis(vote.at).to_rfc3339();
    json!({"by": party(&vote.by), "at": at, "note": vote.note})
}

fn demand(by: &Approvers, count: u32) -> Value {
    match by {
        Approvers::Human => json!("human"),
        Approvers::Subject { name, .. } => json!({"subject": &**name, "count": count}),
    }
}

/// A request, and what `viewer` may do with it.
pub fn request(request: &Request, viewer: &Principal, policies: &PolicySet, now: Timestamp) -> Value {
    let asked = &request.asked;
    let state = request.state_at(now);
    let voter = Approvals::voter(policies, viewer, request);
    let demands = asked.demands.iter().map(|by| match by {
        Approvers::Human => demand(by, 1),
        Approvers::Subject { count, .. } => demand(by, *count),
    });
    let open: Vec<_> = match state {
        State::Pending => request.open().iter().map(|(by, count)| demand(by, *count)).collect(),
        State::Approved | State::Denied | State::Expired | State::Withdrawn => Vec::new(),
    };
    let mut can = Vec::new();
    if state == State::Pending {
        if request.voice(&voter).is_ok() {
            can.extend(["approve", "deny"]);
        }
        if voter.party.is_human_of(&asked.requester) {
            can.push("withdraw");
        }
    }
    json!({
        "id": request.id,
        "state": state.name(),
        "entry": asked.entry,
        "requester": party(&asked.requester),
        "reason": asked.reason,
        "ticket": asked.ticket,
        "what": asked.what,
        "demands": demands.collect::<Vec<_>>(),
        "open": open,
        "votes": request.votes.iter().map(vote).collect::<Vec<_>>(),
        "covers": asked.covers,
        "uses": asked.uses,
        "valid_for": asked.valid_for,
        "decision": asked.decision,
        "policies": asked.policies,
        "made": request.made.to_rfc3339(),
        "expires": request.expires.to_rfc3339(),
        "decided": request.decided.map(Timestamp::to_rfc3339),
        "can": can,
    })
}

/// A grant.
pub fn grant(grant: &Grant, now: Timestamp) -> Value {
    json!({
        "id": grant.id,
        "state": grant.state(now).name(),
        "entry": grant.terms.entry,
        "holder": party(&grant.terms.holder),
        "request": grant.terms.request,
        "approvers": grant.terms.approvers.iter().map(vote).collect::<Vec<_>>(),
        "what": grant.terms.what,
        "uses": grant.uses,
        "used": grant.used,
        "made": grant.made.to_rfc3339(),
        "expires": grant.expires.to_rfc3339(),
    })
}
