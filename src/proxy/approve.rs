//! A call that people must approve: their grants are looked for, the call waits for people where its
//! entry or its caller wants that, and that a grant is used is recorded before the call is. One whose
//! code is not reviewed yet waits for that the same way, and one whose code host does not answer where
//! its entry wants it.
//!
//! What waits is judged again before it goes on, and while it waits whatever ends a live stream ends
//! it. Who hangs up ends it by that; the request for approval stays, and the call that comes again
//! joins it (DECISIONS 23 and 24).

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use tokio::sync::watch;

use super::{Gate, answer, denied_by, respond::Refusal, rights};
use crate::{
    audit::event::{Event, GrantChange, Verdict},
    gates::{
        Cleared, Held,
        approvals::{AskError, BodyKnown, Refused, Request, State, Waits, Wanted},
        review::{Lacks, ReviewWait},
    },
    http::headers::{REASON, TICKET},
    policy::{self, Denial, DenialCode, Permit, approval::MAX_HOLD, review::Unreachable},
};

/// How often a call that waits is asked whether it may.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// And how often a code host that does not answer.
const ASK_HOST_EVERY: Duration = Duration::from_secs(2);

/// And how often one that answers, where nobody hints at anything.
const ASK_AGAIN_EVERY: Duration = Duration::from_secs(10);

/// A hint has it asked no sooner than this after the last time.
const ASK_AT_MOST_EVERY: Duration = Duration::from_millis(500);

/// The permit cleared by the grants that it needs; or what the caller is told, recorded.
pub(super) async fn cleared(gate: &Gate, permit: Permit, body: BodyKnown) -> Result<Cleared, Refusal> {
    let parts = gate.parts();
    let cleared = match parts.gates.clear_approved(permit, body, parts.verifier.revoked()).await {
        Err(held) => match reviewed_within(&held, body) {
            Duration::ZERO => Err(held),
            wait => until_reviewed(gate, held, wait).await?,
        },
        cleared => cleared,
    };
    match cleared {
        Ok(cleared) => used(gate, cleared).await,
        Err(mut held) => {
            let wait = how_long(&held, body);
            match held.waits.take() {
                // A trigger asks by itself and comes again: nobody could ask in its place.
                Some(waits) if !wait.is_zero() || held.permit.principal().trigger().is_some() => {
                    hold(gate, held, *waits, wait).await
                }
                Some(_) | None => Err(refused(gate, held).await),
            }
        }
    }
}

/// How long a call waits until its code is reviewed: as its caller wants, else as its entry does. Nobody
/// would see that the caller of one whose body streams is gone.
fn reviewed_within(held: &Held, body: BodyKnown) -> Duration {
    let Some(waits) = held.unreviewed.as_ref().filter(|_| body == BodyKnown::Whole) else {
        return Duration::ZERO;
    };
    match waits.lacks {
        Lacks::Answer(Unreachable::Hold) => MAX_HOLD,
        Lacks::Answer(Unreachable::Refuse) => Duration::ZERO,
        Lacks::Review(hold) => preferred(&held.permit.request().headers).unwrap_or(hold).min(MAX_HOLD),
    }
}

/// Waits until nothing is wrong with the review any more, or the time is over: what came of the call then.
/// It is asked about again whenever somebody hints at its project.
async fn until_reviewed(
    gate: &Gate,
    mut held: Box<Held>,
    wait: Duration,
) -> Result<Result<Cleared, Box<Held>>, Refusal> {
    let parts = gate.parts();
    let person = held.permit.principal().person().to_string();
    let Some(_place) = parts.gates.approvals().place(&person) else { return Ok(Err(held)) };
    let until = gate.now().plus(wait);
    let mut word: Option<(ReviewWait, watch::Receiver<u64>)> = None;
    while let Some(waits) = held.unreviewed.as_deref().filter(|_| gate.now() < until) {
        // Somebody answered, and nobody wants to wait for more.
        if waits.lacks == Lacks::Review(Duration::ZERO) && reviewed_within(&held, BodyKnown::Whole).is_zero()
        {
            break;
        }
        let asked = gate.now();
        match &mut word {
            Some((of, word)) if (&of.server, &of.project) == (&waits.server, &waits.project) => {
                let every = match waits.lacks {
                    Lacks::Answer(_) => ASK_HOST_EVERY,
                    Lacks::Review(_) => ASK_AGAIN_EVERY,
                };
                tokio::select! {
                    () = parts.clock.sleep_until(until.min(asked.plus(every))) => {}
                    // Whoever gives hints is there as long as the gates are.
                    _ = word.changed() => {
                        parts.clock.sleep_until(until.min(asked.plus(ASK_AT_MOST_EVERY))).await;
                    }
                }
                word.borrow_and_update();
            }
            // What happened before anybody listened is seen by asking once more.
            Some(_) | None => {
                let heard = parts.gates.hints().of(&waits.server, &waits.project);
                word = Some((waits.clone(), heard));
            }
        }
        if let Err(why) = may_wait(gate, &held.permit, gate.now()) {
            held.denial.cause.push_str(&format!("; {why}"));
            return Ok(Err(held));
        }
        let permit = again(gate, &held.permit).await?;
        match parts.gates.approved(permit, BodyKnown::Whole, parts.verifier.revoked()).await {
            Ok(cleared) => return Ok(Ok(cleared)),
            Err(still) => held = still,
        }
    }
    Ok(Err(held))
}

/// Records what holds a call up.
pub(super) async fn refused(gate: &Gate, held: Box<Held>) -> Refusal {
    match gate.parts().journal.held(&held).await {
        Ok(()) => Refusal::Denied { denial: Box::new(held.denial), retry_after: held.retry_after },
        Err(_) => Refusal::Unrecorded,
    }
}

/// Records the grants that are used; what is not recorded is not sent, and gives them back.
async fn used(gate: &Gate, cleared: Cleared) -> Result<Cleared, Refusal> {
    for grant in cleared.grants().iter().filter(|grant| grant.counted) {
        let event = Event::Grant {
            id: grant.id.clone(),
            entry: grant.entry.to_string(),
            subject: grant.holder.clone(),
            by: None,
            change: GrantChange::Used,
            until: grant.expires.as_millis(),
        };
        gate.parts().journal.happened(&event).await.map_err(|_| Refusal::Unrecorded)?;
    }
    Ok(cleared)
}

/// How long a call waits for people: as its caller wants, else as its entry does. One whose body
/// streams does not: nobody would see that its caller is gone.
fn how_long(held: &Held, body: BodyKnown) -> Duration {
    let Some(waits) = &held.waits else { return Duration::ZERO };
    let headers = &held.permit.request().headers;
    let wordless = waits.wants_words && !headers.contains_key(REASON) && !headers.contains_key(TICKET);
    if body == BodyKnown::Streams || (wordless && !waits.unasked.is_empty()) {
        return Duration::ZERO;
    }
    preferred(headers).unwrap_or(waits.hold).min(MAX_HOLD)
}

/// `Prefer: wait=SECONDS` (RFC 7240, 4.3): the first that stands there counts, if it says how long.
fn preferred(headers: &HeaderMap) -> Option<Duration> {
    let all = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let each = all.flat_map(|value| value.split(','));
    let mut each = each.map(|preference| {
        let preference = preference.split(';').next().unwrap_or_default();
        preference.split_once('=').unwrap_or((preference, ""))
    });
    let (_, seconds) = each.find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))?;
    seconds.trim().trim_matches('"').parse().ok().map(Duration::from_secs)
}

/// The words of a header that stands once. Of two, nobody could tell which people are to read.
fn word(headers: &HeaderMap, name: &str) -> Result<Option<String>, AskError> {
    let mut all = headers.get_all(name).iter();
    let Some(value) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(AskError::Text);
    }
    String::from_utf8(value.as_bytes().to_vec()).map(Some).map_err(|_| AskError::Text)
}

fn wanted(permit: &Permit) -> Result<Wanted, AskError> {
    let headers = &permit.request().headers;
    let (reason, ticket) = (word(headers, REASON)?, word(headers, TICKET)?);
    Ok(Wanted { decision: permit.decision().to_string(), reason, ticket, claimed: None })
}

/// Asks, and records what is new: to its end, even if the caller hangs up meanwhile. Nothing waits for
/// people that the record does not know of.
async fn asked_for(
    gate: &Gate,
    unasked: Vec<Refused>,
    wanted: Wanted,
) -> Result<Result<Vec<String>, AskError>, Refusal> {
    let parts = gate.parts();
    let (gates, journal) = (Arc::clone(&parts.gates), parts.journal.clone());
    let policies = parts.policies.current();
    let asking = tokio::spawn(async move {
        let requests = match gates.approvals().open(&policies, unasked, wanted).await {
            Ok(requests) => requests,
            Err(error) => return Ok(Err(error)),
        };
        for (request, _) in requests.iter().filter(|(_, new)| *new) {
            journal.happened(&asked_event(request)).await.map_err(|_| Refusal::Unrecorded)?;
        }
        Ok(Ok(requests.into_iter().map(|(request, _)| request.id).collect()))
    });
    asking.await.unwrap_or(Err(Refusal::Internal))
}

/// Asks for what nobody was asked for yet, and waits.
async fn hold(gate: &Gate, held: Box<Held>, waits: Waits, wait: Duration) -> Result<Cleared, Refusal> {
    let approvals = gate.parts().gates.approvals();
    let person = held.permit.principal().person().to_string();
    let Some(_place) = approvals.place(&person) else { return Err(refused(gate, held).await) };
    let until = gate.now().plus(wait);
    let Waits { unasked, mut asked, .. } = waits;
    if !unasked.is_empty() {
        let wanted = match wanted(&held.permit) {
            Ok(wanted) => wanted,
            Err(error) => return Err(unasked_for(gate, held, &error).await),
        };
        match asked_for(gate, unasked, wanted).await? {
            Ok(requests) => asked.extend(requests),
            Err(error) => return Err(unasked_for(gate, held, &error).await),
        }
    }
    wait_for(gate, held, &asked, until).await
}

fn asked_event(request: &Request) -> Event {
    Event::Approval {
        id: request.id.clone(),
        entry: request.asked.entry.clone(),
        requester: request.asked.requester.id.clone(),
        claimed: None,
        by: None,
        verdict: Verdict::Asked,
        reason: request.asked.reason.clone(),
    }
}

/// Nothing could be asked: the caller is told why, beside what they were told anyhow.
async fn unasked_for(gate: &Gate, mut held: Box<Held>, error: &AskError) -> Refusal {
    held.denial.cause.push_str(&format!("; nobody was asked: {error}"));
    refused(gate, held).await
}

/// Waits until all are approved, one is not, the time is over, or the call may no longer wait.
async fn wait_for(
    gate: &Gate,
    mut held: Box<Held>,
    asked: &[String],
    until: crate::time::Timestamp,
) -> Result<Cleared, Refusal> {
    let parts = gate.parts();
    let approvals = parts.gates.approvals();
    let mut changes = approvals.changes();
    let mut generation = held.permit.generation();
    loop {
        changes.borrow_and_update();
        let now = gate.now();
        if let Err(why) = may_wait(gate, &held.permit, now) {
            held.denial = Denial { code: DenialCode::ApprovalRequired, cause: why, ..held.denial };
            "the call waited for an approval; send it again".clone_into(&mut held.denial.cure);
            return Err(refused(gate, held).await);
        }
        if parts.policies.peek().generation() != generation {
            generation = parts.policies.peek().generation();
            // What they no longer allow waits no longer.
            drop(again(gate, &held.permit).await?);
        }
        match answered(gate, asked).await {
            Come::Approved => {
                let permit = again(gate, &held.permit).await?;
                let revoked = parts.verifier.revoked();
                match parts.gates.approved(permit, BodyKnown::Whole, revoked).await {
                    Ok(cleared) => return used(gate, cleared).await,
                    Err(held) => return Err(refused(gate, held).await),
                }
            }
            Come::Not(request) => {
                held.denial = not_given(&held, &request, gate.now());
                return Err(refused(gate, held).await);
            }
            Come::Waits if now >= until => {
                held.denial.code = DenialCode::ApprovalPending;
                held.denial.request = asked.first().map(|id| id.as_str().into());
                let id = asked.first().map(String::as_str).unwrap_or_default();
                held.denial.cure = format!(
                    "request {id} still waits: send the call again once it is answered; `amlgate request watch {id}` tells you when"
                );
                return Err(refused(gate, held).await);
            }
            Come::Waits => {}
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = parts.clock.sleep_until(until.min(now.plus(ASK_EVERY))) => {}
        }
    }
}

/// Whether the caller is still who they were.
fn may_wait(gate: &Gate, permit: &Permit, now: crate::time::Timestamp) -> Result<(), String> {
    let principal = permit.principal();
    if now >= principal.expires {
        return Err("your token has expired meanwhile".to_owned());
    }
    principal.stands(now).map_err(|why| why.to_string())?;
    answer::is_vouched_for(&gate.parts().verifier, principal, now)
}

/// The call as it is judged now.
async fn again(gate: &Gate, permit: &Permit) -> Result<Permit, Refusal> {
    let parts = gate.parts();
    let policies = parts.policies.current();
    let principal = permit.principal().clone();
    let (operation, mut request) = (permit.operation().clone(), permit.request().clone());
    request.glass = parts.gates.break_glass().under(&policies, &principal, gate.now());
    let azure = rights(gate, &policies, &principal, &operation, &request).await;
    match policy::decide(&policies, principal, operation, request, permit.standing(), azure, gate.now()) {
        Ok(permit) => Ok(permit),
        Err(denied) => Err(denied_by(gate, denied).await),
    }
}

/// How far what was asked has come.
enum Come {
    Waits,
    Approved,
    Not(Box<Request>),
}

async fn answered(gate: &Gate, asked: &[String]) -> Come {
    let mut come = Come::Approved;
    for id in asked {
        // A store that does not answer now may answer the next time.
        let Ok(Some(request)) = gate.parts().gates.approvals().request(id).await else {
            return Come::Waits;
        };
        match request.state_at(gate.now()) {
            State::Approved => {}
            State::Pending => come = Come::Waits,
            State::Denied | State::Expired | State::Withdrawn => return Come::Not(Box::new(request)),
        }
    }
    come
}

fn not_given(held: &Held, request: &Request, now: crate::time::Timestamp) -> Denial {
    let state = request.state_at(now).name();
    let last = request.votes.last().filter(|_| request.state == State::Denied);
    let note = last.and_then(|vote| vote.note.as_ref()).map(|note| format!(": {note}")).unwrap_or_default();
    Denial {
        code: DenialCode::ApprovalRequired,
        cause: format!("request {} for entry `{}` was {state}{note}", request.id, request.asked.entry),
        cure: "send the call again to ask again".to_owned(),
        request: Some(request.id.as_str().into()),
        ..held.denial.clone()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_words_of_a_call_stand_once_and_as_utf8() {
        let of = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(REASON, HeaderValue::from_bytes(value).unwrap());
            }
            word(&headers, REASON)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["größer".as_bytes()]), Ok(Some("größer".into())));
        assert_eq!(of(&[b"routine", b"give me everything"]), Err(AskError::Text));
        assert_eq!(of(&[b"gr\xf6\xdfer"]), Err(AskError::Text));
    }

    #[test]
    fn a_caller_says_how_long_in_the_form_of_rfc_7240() {
        for (values, seconds) in [
            (&["wait=30"][..], Some(30)),
            (&["respond-async, wait=10"], Some(10)),
            (&["return=minimal", "Wait = \"5\"; x=1"], Some(5)),
            (&["wait=0"], Some(0)),
            (&["wait=soon"], None),
            (&["wait=-1"], None),
            (&["wait=99999999999999999999"], None),
            (&["wait=18446744073709551615"], Some(u64::MAX)),
            (&["wait=5", "wait=0, wait=9"], Some(5)),
            (&["wait=soon", "wait=9"], None),
            (&["waiting=7, wait=9"], Some(9)),
            (&["wait"], None),
            (&["wait=\"\""], None),
            (&["respond-async"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("prefer", HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(preferred(&headers), seconds.map(Duration::from_secs), "{values:?}");
        }
    }
}
