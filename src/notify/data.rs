//! A notice for machines: the data of a CloudEvent. Texts of others stand in it as they were written.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    events::Told,
    notice::{Found, Link, Notice, actor, at, own},
};
use crate::{
    audit::sinks::Exported,
    gates::approvals::{Claimed, Grant, Party, Request, Vote},
    policy::Approvers,
    time::Timestamp,
};

/// What is told, as it was recorded, and the request or the grant as it is now.
pub(super) fn of(
    record: &Exported,
    told: &Told,
    found: &Found,
    since: Option<&str>,
    link: Option<&Link>,
    now: Timestamp,
) -> Value {
    let (mut asked, mut granted) = (Value::Null, Value::Null);
    match found {
        Found::Request(found) => asked = request(found, now),
        Found::Grant(found) => granted = grant(found, now),
        Found::Nothing | Found::Unknown => {}
    }
    json!({
        "event": told.name,
        "at": at(record).to_rfc3339(),
        "actor": actor(record),
        "since": since,
        "link": link.map(|link| &link.url),
        "request": asked,
        "grant": granted,
        "recorded": record.value.pointer("/unmapped/amlgate"),
    })
}

fn party(party: &Party) -> Value {
    json!({"id": party.id, "person": party.person, "agent": party.agent, "name": party.name})
}

fn vote(vote: &Vote) -> Value {
    json!({"by": party(&vote.by), "at": Timestamp::from_millis(vote.at).to_rfc3339(), "note": vote.note})
}

fn demand((by, count): &(Approvers, u32)) -> Value {
    match by {
        Approvers::Human => json!("human"),
        Approvers::Subject { name, .. } => json!({"subject": &**name, "count": count}),
        Approvers::GerritGroup { group, .. } => json!({"gerrit_group": group, "count": count}),
    }
}

fn request(request: &Request, now: Timestamp) -> Value {
    let asked = &request.asked;
    let mut said = json!({
        "id": request.id,
        "state": request.state_at(now).name(),
        "entry": asked.entry,
        "requester": party(&asked.requester),
        "reason": asked.reason,
        "ticket": asked.ticket,
        "what": asked.what,
        "open": request.open().iter().map(demand).collect::<Vec<_>>(),
        "votes": request.votes.iter().map(vote).collect::<Vec<_>>(),
        "covers": asked.covers,
        "uses": asked.uses,
        "valid_for": asked.valid_for,
        "decision": asked.decision,
        "made": request.made.to_rfc3339(),
        "expires": request.expires.to_rfc3339(),
        "decided": request.decided.map(Timestamp::to_rfc3339),
    });
    if let (Some(claimed), Some(said)) = (&asked.claimed, said.as_object_mut()) {
        let Claimed { user, issuer, claim } = claimed;
        said.insert("claimed".to_owned(), json!({"user": user, "issuer": issuer, "claim": claim}));
    }
    said
}

fn grant(grant: &Grant, now: Timestamp) -> Value {
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
        "expires": grant.expires.to_rfc3339(),
    })
}

/// The notice as a CloudEvent in structured mode; the same id whenever it is sent.
pub(super) fn event(record: &Exported, notice: &Notice) -> Bytes {
    let subject = own(record, "request").or_else(|| own(record, "grant"));
    let mut event = json!({
        "specversion": "1.0",
        "id": record.position.to_string(),
        "source": format!("//amlgate/{}/notices", record.origin),
        "type": format!("dev.amlgate.notice.{}.v1", notice.told.name),
        "time": at(record).to_rfc3339(),
        "datacontenttype": "application/json",
        "data": notice.data,
    });
    if let (Some(subject), Some(event)) = (subject, event.as_object_mut()) {
        event.insert("subject".to_owned(), subject.into());
    }
    Bytes::from(serde_json::to_vec(&event).unwrap_or_default())
}
