//! `/api/v1/break-glass`: opening, confirming, closing and reviewing, each under an action of its own
//! (`amlgate/break-glass/...`).
//!
//! An entry of the policies lets somebody call this; who may break the glass says `break_glass.who` of
//! the configuration, and both must. What changes something runs to its end and its record, even if
//! whoever wanted it hangs up; one whose opening cannot be recorded is closed again.

mod offline;
mod shown;

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Request as Call, State as Shared},
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

pub(super) use self::offline::{
    CODES, CONFIRM_BY_CODE, LEFT, OPEN_BY_CODE, codes, confirm_by_code, left, open_by_code,
};
use self::shown::BreakGlassView;
use super::{
    Api, Peer,
    call::{Allowed, Named, Refused, Said, json_of},
    changes::{conflict, to_its_end, unavailable, unknown, unrecorded},
    openapi::{Answer, Body, Operation, Parameter, Shape},
    pages::{CURSOR, before, cursor},
};
use crate::{
    audit::event::Event,
    azureml::Kind,
    gates::{
        approvals::{MAX_REASON, MAX_TICKET},
        break_glass::{Became, BreakGlass, ChangeError, Deed, LONGEST, NotOpened, Unmoved, Wanted},
    },
    identity::Principal,
    policy::PolicySet,
    time::Timestamp,
};

/// The largest body: a reason and a ticket.
const MAX_BODY: usize = 8 << 10;
/// Items of a page.
const PAGE: u32 = 50;

pub(in crate::admin) const READ: &str = "amlgate/break-glass/read";
pub(in crate::admin) const OPENING: &str = "amlgate/break-glass/open/action";
pub(in crate::admin) const CONFIRMING: &str = "amlgate/break-glass/confirm/action";
pub(in crate::admin) const CLOSING: &str = "amlgate/break-glass/close/action";
pub(in crate::admin) const REVIEWING: &str = "amlgate/break-glass/review/action";

const ID: Parameter = Parameter::path("id", "The break-glass's id.", Shape::Id);
const AS_IT_IS: Answer = Answer::json::<BreakGlassView>(StatusCode::OK, "It, as it is now.");
const UNKNOWN: (StatusCode, &str) = (StatusCode::NOT_FOUND, "There is no such break-glass.");
const UNMOVED: (StatusCode, &str) = (StatusCode::CONFLICT, "It has gone beyond that, or not come so far.");

pub const LIST: Operation = Operation {
    parameters: &[CURSOR],
    ..Operation::judged(
        "listBreakGlass",
        "Every time that the glass was broken, the newest first",
        &[READ],
        &[Answer::json::<Listing>(StatusCode::OK, "A page.")],
    )
};

pub const ONE: Operation = Operation {
    parameters: &[ID],
    problems: &[UNKNOWN],
    ..Operation::judged("readBreakGlass", "One time that the glass was broken", &[READ], &[AS_IT_IS])
};

pub const OPEN: Operation = Operation {
    about: "For whoever `break_glass.who` of the configuration names. Until it ends, entries that say `unless: \
            {break_glass: true}` do not count for the caller; where `break_glass.by` says so, only once others \
            have confirmed it.",
    body: Some(Body::json::<Asked>(MAX_BODY)),
    problems: &[
        (StatusCode::CONFLICT, "The one before is not over, or its review is not closed."),
        (StatusCode::NOT_IMPLEMENTED, "The configuration has no `break_glass`."),
    ],
    ..Operation::judged(
        "openBreakGlass",
        "Breaks the glass",
        &[OPENING],
        &[Answer::json::<BreakGlassView>(StatusCode::CREATED, "It is open, or waits for others.")],
    )
};

pub const CONFIRM: Operation = Operation {
    parameters: &[ID],
    body: Some(Body::json::<Noted>(MAX_BODY)),
    problems: &[UNKNOWN, UNMOVED],
    ..Operation::judged("confirmBreakGlass", "Says yes to another's", &[CONFIRMING], &[AS_IT_IS])
};

pub const CLOSE: Operation = Operation {
    about: "What streams by it and would be denied without is cut within a second.",
    parameters: &[ID],
    body: Some(Body::json::<Nothing>(MAX_BODY)),
    problems: &[UNKNOWN, UNMOVED],
    ..Operation::judged("closeBreakGlass", "Ends one", &[CLOSING], &[AS_IT_IS])
};

pub const REVIEW: Operation = Operation {
    about: "By another human than whoever opened it. Until then nobody can break the glass again.",
    parameters: &[ID],
    body: Some(Body::json::<Finding>(MAX_BODY)),
    problems: &[UNKNOWN, UNMOVED],
    ..Operation::judged("reviewBreakGlass", "Closes the review of another's", &[REVIEWING], &[AS_IT_IS])
};

/// What to open.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewBreakGlass")]
struct Asked {
    /// Why: whoever reviews it reads this.
    #[serde(default)]
    #[schemars(length(min = 1, max = MAX_REASON))]
    reason: String,
    /// The ticket.
    #[schemars(length(max = MAX_TICKET))]
    ticket: Option<String>,
    /// For how many seconds; as long as the configuration lets, if it is not said.
    #[schemars(range(min = 1, max = LONGEST.as_secs()))]
    seconds: Option<u64>,
}

impl Asked {
    fn wanted(self) -> Wanted {
        let Self { reason, ticket, seconds } = self;
        Wanted { reason, ticket, length: seconds.map(Duration::from_secs), offline: false }
    }
}

/// What is said to a yes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ConfirmBreakGlass")]
struct Noted {
    /// In words, for the record.
    #[schemars(length(max = MAX_REASON))]
    note: Option<String>,
}

/// Nothing more than that it is closed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloseBreakGlass")]
struct Nothing {}

/// What a review found.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReviewBreakGlass")]
struct Finding {
    /// In words, for the record.
    #[schemars(length(min = 1, max = MAX_REASON))]
    note: String,
}

/// A page.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BreakGlassPage")]
struct Listing {
    /// The newest first.
    break_glass: Vec<BreakGlassView>,
    /// Where to go on, if there is more: `cursor` of the next call.
    next: Option<String>,
}

/// What is recorded of one that has become something.
pub fn of_break_glass(glass: &BreakGlass, became: Became, by: Option<String>) -> Event {
    let reason = match became {
        Became::Asked | Became::Opened => Some(glass.asked.reason.clone()),
        Became::Confirmed => glass.votes.last().and_then(|vote| vote.note.clone()),
        Became::Reviewed => glass.review.as_ref().and_then(|review| review.note.clone()),
        Became::Closed | Became::Expired | Became::Dropped | Became::Overdue => None,
    };
    Event::BreakGlass {
        id: glass.id.clone(),
        opener: glass.asked.by.id.clone(),
        by,
        became,
        reason,
        until: glass.due.as_millis(),
    }
}

fn not_yours(why: String) -> Refused {
    Refused::new(StatusCode::FORBIDDEN, Said::NotYours, why)
}

fn not_opened(error: &NotOpened) -> Refused {
    let message = error.to_string();
    match error {
        NotOpened::NotConfigured => Refused::new(StatusCode::NOT_IMPLEMENTED, Said::NotConfigured, message),
        NotOpened::NotAPerson | NotOpened::NotYou => not_yours(message),
        NotOpened::NoReason | NotOpened::Text | NotOpened::Length(_) => Refused::malformed(message),
        NotOpened::Unreviewed { .. } => conflict(message),
        NotOpened::Store(error) => unavailable(error),
    }
}

fn not_changed(error: &ChangeError) -> Refused {
    let message = error.to_string();
    match error {
        ChangeError::Unknown => unknown("break-glass"),
        ChangeError::Unmoved(Unmoved::NoVoice(_) | Unmoved::Own | Unmoved::NotAPerson) => not_yours(message),
        ChangeError::Unmoved(Unmoved::Past(_) | Unmoved::NotYet(_) | Unmoved::Waits) => conflict(message),
        ChangeError::Text | ChangeError::NoNote => Refused::malformed(message),
        ChangeError::Store(error) => unavailable(error),
    }
}

impl Api {
    /// Who calls, with their groups, if they may.
    async fn at_the_glass(
        &self,
        head: &Parts,
        peer: Peer,
        action: &str,
        kind: Kind,
    ) -> Result<(Allowed, Principal), Refused> {
        let principal = self.known(head, peer).await?;
        let allowed = self.allowed(head, peer, principal.clone(), action, kind).await?;
        Ok((allowed, principal))
    }

    /// Records what has come of it by time.
    async fn let_time_pass(&self) -> Result<(), Refused> {
        let passed = self.gates.break_glass().pass().await.map_err(|error| unavailable(&error))?;
        for (glass, became) in &passed {
            let event = of_break_glass(glass, *became, None);
            self.journal.happened(&event).await.map_err(|_| unrecorded())?;
        }
        Ok(())
    }
}

/// A page of them, as the API answers it: for whoever may read it.
pub(in crate::admin) async fn listing(
    api: &Api,
    principal: &Principal,
    query: &str,
) -> Result<Value, Refused> {
    answered(listed(api, principal, asked_before(query)?).await?)
}

/// One of them, as the API answers it: for whoever may read it.
pub(in crate::admin) async fn found(api: &Api, principal: &Principal, id: &str) -> Result<Value, Refused> {
    let found = api.gates.break_glass().one(id).await.map_err(|error| unavailable(&error))?;
    let found = found.ok_or_else(|| unknown("break-glass"))?;
    answered(shown::one(&found, principal, &api.policies.current(), api.clock.now()))
}

/// Opens one, for whoever may call that.
pub(in crate::admin) async fn open_for(
    api: &Arc<Api>,
    principal: &Principal,
    peer: Peer,
    wanted: Wanted,
) -> Result<Value, Refused> {
    let (api, principal) = (Arc::clone(api), principal.clone());
    answered(to_its_end(async move { opened(&api, &principal, peer, wanted).await }).await?)
}

/// Does something to one, for whoever may call that.
pub(in crate::admin) async fn do_for(
    api: &Arc<Api>,
    principal: &Principal,
    id: &str,
    deed: Deed,
) -> Result<Value, Refused> {
    let (api, principal, id) = (Arc::clone(api), principal.clone(), id.to_owned());
    answered(to_its_end(async move { done(&api, &principal, &id, &deed).await }).await?)
}

fn answered(answer: impl Serialize) -> Result<Value, Refused> {
    serde_json::to_value(answer).map_err(|error| Refused::unavailable(error.to_string()))
}

pub(super) async fn list(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    call: Call,
) -> Response {
    let (head, _) = call.into_parts();
    let (allowed, principal) = match api.at_the_glass(&head, peer, READ, Kind::Read).await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    let listed = async {
        let before = asked_before(head.uri.query().unwrap_or_default())?;
        listed(&api, &principal, before).await
    };
    match listed.await {
        Ok(answer) => allowed.answer(StatusCode::OK, &answer),
        Err(refused) => allowed.refuse(refused),
    }
}

/// A page, the newest first.
async fn listed(
    api: &Api,
    principal: &Principal,
    before: Option<(Timestamp, String)>,
) -> Result<Listing, Refused> {
    let found = api.gates.break_glass().list(before, PAGE).await.map_err(|error| unavailable(&error))?;
    let whole = found.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
    let next = found.last().filter(|_| !whole);
    let next = next.map(|last| cursor(last.made, &last.id));
    let (policies, now) = (api.policies.current(), api.clock.now());
    let break_glass = found.iter().map(|glass| shown::one(glass, principal, &policies, now)).collect();
    Ok(Listing { break_glass, next })
}

/// Where the page before ended, if there was one.
fn asked_before(query: &str) -> Result<Option<(Timestamp, String)>, Refused> {
    let mut found = None;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if key != "cursor" {
            return Err(Refused::malformed(format!("`{key}` is no filter")));
        }
        if found.replace(before(&value)?).is_some() {
            return Err(Refused::malformed("`cursor` stands twice"));
        }
    }
    Ok(found)
}

pub(super) async fn one(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Named(id): Named,
    call: Call,
) -> Response {
    let (head, _) = call.into_parts();
    let (allowed, principal) = match api.at_the_glass(&head, peer, READ, Kind::Read).await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    let found = api.gates.break_glass().one(&id).await;
    match found.map_err(ChangeError::Store).and_then(|found| found.ok_or(ChangeError::Unknown)) {
        Ok(glass) => {
            let answer = shown::one(&glass, &principal, &api.policies.current(), api.clock.now());
            allowed.answer(StatusCode::OK, &answer)
        }
        Err(error) => allowed.refuse(not_changed(&error)),
    }
}

pub(super) async fn open(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    call: Call,
) -> Response {
    let (head, body) = call.into_parts();
    let (allowed, principal) = match api.at_the_glass(&head, peer, OPENING, Kind::Action).await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    let opened = async {
        let wanted = json_of::<Asked>(&head, body, MAX_BODY).await?.wanted();
        let api = Arc::clone(&api);
        to_its_end(async move { opened(&api, &principal, peer, wanted).await }).await
    };
    match opened.await {
        Ok(answer) => allowed.answer(StatusCode::CREATED, &answer),
        Err(refused) => allowed.refuse(refused),
    }
}

/// Opens it, or asks others, and records that.
async fn opened(
    api: &Api,
    principal: &Principal,
    peer: Peer,
    wanted: Wanted,
) -> Result<BreakGlassView, Refused> {
    api.let_time_pass().await?;
    let policies = api.policies.current();
    let opened = api.gates.break_glass().open(&policies, principal, wanted).await;
    let (glass, became) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!(caller = %principal.id, %error, "break-glass is refused");
            metrics::counter!("amlgate_break_glass_total", "what" => "refused").increment(1);
            let caller = principal.id.to_string();
            let event = Event::BreakGlassRefused { caller, peer: peer.0.ip(), why: error.name() };
            api.journal.happened(&event).await.map_err(|_| unrecorded())?;
            return Err(not_opened(&error));
        }
    };
    recorded(api, &policies, &glass, became, principal).await?;
    Ok(shown::one(&glass, principal, &policies, api.clock.now()))
}

/// Closes one again that is not in the record.
async fn shut(api: &Api, policies: &PolicySet, glass: &BreakGlass, by: &Principal) {
    let closed = api.gates.break_glass().change(policies, by, &glass.id, &Deed::Close).await;
    if let Err(error) = closed {
        tracing::error!(%error, id = glass.id, "a break-glass is open that is not in the record");
    }
}

/// Records what became of one. What is not in the record is not open: it is closed again.
async fn recorded(
    api: &Api,
    policies: &PolicySet,
    glass: &BreakGlass,
    became: Became,
    by: &Principal,
) -> Result<(), Refused> {
    let event = of_break_glass(glass, became, Some(by.id.to_string()));
    let kept = api.journal.happened(&event).await;
    if kept.is_err() && matches!(became, Became::Asked | Became::Opened) {
        shut(api, policies, glass, by).await;
    }
    kept.map_err(|_| unrecorded())
}

pub(super) async fn confirm(api: Shared<Arc<Api>>, peer: Extension<Peer>, id: Named, call: Call) -> Response {
    changed(api, peer, id, call, CONFIRMING, |Noted { note }| Deed::Confirm(note)).await
}

pub(super) async fn close(api: Shared<Arc<Api>>, peer: Extension<Peer>, id: Named, call: Call) -> Response {
    changed(api, peer, id, call, CLOSING, |Nothing {}| Deed::Close).await
}

pub(super) async fn review(api: Shared<Arc<Api>>, peer: Extension<Peer>, id: Named, call: Call) -> Response {
    changed(api, peer, id, call, REVIEWING, |Finding { note }| Deed::Review(note)).await
}

async fn changed<T: DeserializeOwned>(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Named(id): Named,
    call: Call,
    action: &'static str,
    deed: impl FnOnce(T) -> Deed + Send,
) -> Response {
    let (head, body) = call.into_parts();
    let (allowed, principal) = match api.at_the_glass(&head, peer, action, Kind::Action).await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    let done = async {
        let deed = deed(json_of::<T>(&head, body, MAX_BODY).await?);
        let api = Arc::clone(&api);
        to_its_end(async move { done(&api, &principal, &id, &deed).await }).await
    };
    match done.await {
        Ok(answer) => allowed.answer(StatusCode::OK, &answer),
        Err(refused) => allowed.refuse(refused),
    }
}

async fn done(api: &Api, principal: &Principal, id: &str, deed: &Deed) -> Result<BreakGlassView, Refused> {
    api.let_time_pass().await?;
    let policies = api.policies.current();
    let changed = api.gates.break_glass().change(&policies, principal, id, deed).await;
    let (glass, became) = changed.map_err(|error| not_changed(&error))?;
    recorded(api, &policies, &glass, became, principal).await?;
    Ok(shown::one(&glass, principal, &policies, api.clock.now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_where_the_one_before_said_and_nowhere_else() {
        let read = |query: &str| asked_before(query).map_err(|refused| refused.message);
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("cursor=17.a-b"), Ok(Some((Timestamp::from_millis(17), "a-b".to_owned()))));
        for query in ["cursor=x", "cursor=1.'", "show=all", "cursor=-1.a", "cursor=1.a&cursor=1.a"] {
            assert!(read(query).is_err(), "{query}");
        }
    }
}
