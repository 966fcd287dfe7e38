//! Break-glass: what is open now and for how long, the form that opens it, and every time before.
//!
//! A link only opens a page; what opens, confirms, closes or reviews is a form that is POSTed from here,
//! by whoever is signed in.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::{
    Extension,
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    super::{
        Mount,
        api::{
            Api, Peer, Refused,
            break_glass::{self, CLOSING, CONFIRMING, OPENING, READ, REVIEWING},
        },
    },
    Frame, Notice, Visit, entered,
    forms::{field, fields},
    html, refusal,
};
use crate::{
    azureml::Kind,
    gates::break_glass::{Deed, Wanted},
    time::Timestamp,
};

const HERE: &str = "/break-glass";

#[derive(Template)]
#[template(path = "break_glass.html")]
struct Page {
    frame: Frame,
    /// The one that is not whole.
    current: Option<Glass>,
    /// Every other one, the newest first.
    others: Vec<Glass>,
    /// Whether it begins with the newest.
    first: bool,
    /// Where the list goes on.
    next: Option<String>,
    /// Whether the configuration lets anybody.
    configured: bool,
    /// The most minutes.
    most: u64,
    said: Said,
    /// Why nothing was opened.
    wrong: Option<String>,
}

#[derive(Template)]
#[template(path = "break_glass_one.html")]
struct One {
    frame: Frame,
    one: Glass,
}

/// What a form said.
#[derive(Debug, Default)]
struct Said {
    reason: String,
    ticket: String,
    minutes: String,
}

/// A break-glass, as the API answers it.
#[derive(Debug, Deserialize)]
struct Glass {
    id: String,
    state: String,
    opener: Somebody,
    offline: bool,
    reason: String,
    ticket: Option<String>,
    seconds: u64,
    wanted: Vec<Demand>,
    votes: Vec<Vote>,
    made: String,
    opened: Option<String>,
    until: Option<String>,
    ended: Option<End>,
    review_by: Option<String>,
    overdue: bool,
    review: Option<Vote>,
    can: Vec<String>,
    /// What is left of the time until when it is open, or others are waited for.
    #[serde(skip)]
    left: Option<Duration>,
}

impl Glass {
    fn may(&self, verb: &str) -> bool {
        self.can.iter().any(|can| can == verb)
    }

    /// Whether the next waits for it.
    fn is_current(&self) -> bool {
        matches!(self.state.as_str(), "asked" | "open" | "over")
    }

    /// For the style.
    fn class(&self) -> &'static str {
        match self.state.as_str() {
            "open" => "denied",
            "asked" | "over" => "failed",
            "reviewed" => "allowed",
            _ => "open",
        }
    }

    /// For how long it was asked for, in words.
    fn lasts(&self) -> String {
        words(Duration::from_secs(self.seconds))
    }

    /// What is left of its time, in words.
    fn remains(&self) -> Option<String> {
        self.left.map(words)
    }
}

#[derive(Debug, Deserialize)]
struct Somebody {
    id: String,
    name: Option<String>,
}

/// Whose yes is wanted.
#[derive(Debug, Deserialize)]
struct Demand {
    subject: String,
    count: u32,
}

#[derive(Debug, Deserialize)]
struct Vote {
    by: Somebody,
    at: String,
    note: Option<String>,
}

#[derive(Debug, Deserialize)]
struct End {
    at: String,
    by: Option<Somebody>,
}

#[derive(Debug, Deserialize)]
struct Listing {
    break_glass: Vec<Value>,
    next: Option<String>,
}

/// A time in whole minutes, and in seconds only where there are no whole ones.
fn words(time: Duration) -> String {
    let (hours, minutes, seconds) = (time.as_secs() / 3_600, time.as_secs() / 60 % 60, time.as_secs() % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, Refused> {
    serde_json::from_value(value).map_err(|error| Refused::unavailable(error.to_string()))
}

/// One, with what is left of its time at `now`.
fn glass(value: Value, now: Timestamp) -> Result<Glass, Refused> {
    let mut glass: Glass = read(value)?;
    let until = glass.until.as_deref().and_then(|until| chrono::DateTime::parse_from_rfc3339(until).ok());
    let until = until.and_then(|until| u64::try_from(until.timestamp_millis()).ok());
    glass.left = until.map(|until| Timestamp::from_millis(until).since(now));
    Ok(glass)
}

/// The page, with what a form said that opened nothing.
async fn made(
    api: &Api,
    visit: Visit,
    said: Said,
    wrong: Option<Refused>,
) -> Result<(StatusCode, Page), (Refused, Frame)> {
    let Visit { head, principal, frame, .. } = visit;
    let query = head.uri.query().filter(|_| wrong.is_none()).unwrap_or_default();
    let now = api.clock.now();
    let found = async {
        let Listing { break_glass, next } = read(break_glass::listing(api, &principal, query).await?)?;
        let all = break_glass.into_iter().map(|one| glass(one, now)).collect::<Result<Vec<_>, _>>()?;
        Ok((all, next))
    };
    let (all, next) = match found.await {
        Ok(found) => found,
        Err(refused) => return Err((refused, frame)),
    };
    let (mut current, others): (Vec<_>, Vec<_>) = all.into_iter().partition(Glass::is_current);
    let longest = api.gates.break_glass().longest();
    let (status, wrong) =
        wrong.map_or((StatusCode::OK, None), |refused| (refused.status, Some(refused.message)));
    let page = Page {
        frame,
        // There is one at a time.
        current: current.pop(),
        others,
        first: query.is_empty(),
        next,
        configured: longest.is_some(),
        most: longest.unwrap_or_default().as_secs() / 60,
        said,
        wrong,
    };
    Ok((status, page))
}

pub(super) async fn page(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let (visit, allowed) = match entered(&api, peer, head, HERE, READ, Kind::Read).await {
        Ok(entered) => entered,
        Err(response) => return *response,
    };
    match made(&api, visit, Said::default(), None).await {
        Ok((status, page)) => allowed.shown(html(status, &page.frame, &page)),
        Err((refused, frame)) => allowed.shown(refusal(refused, frame)),
    }
}

pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let entered = entered(&api, peer, head, HERE, READ, Kind::Read).await;
    let (Visit { principal, frame, .. }, allowed) = match entered {
        Ok(entered) => entered,
        Err(response) => return *response,
    };
    let found = break_glass::found(&api, &principal, &id).await;
    match found.and_then(|found| glass(found, api.clock.now())) {
        Ok(one) => {
            let page = One { frame, one };
            allowed.shown(html(StatusCode::OK, &page.frame, &page))
        }
        Err(refused) => allowed.shown(refusal(refused, frame)),
    }
}

pub(super) async fn open(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let (visit, allowed) = match entered(&api, peer, head, HERE, OPENING, Kind::Action).await {
        Ok(entered) => entered,
        Err(response) => return *response,
    };
    let fields = match fields(body).await {
        Ok(fields) => fields,
        Err(refused) => return allowed.shown(refusal(refused, visit.frame)),
    };
    let text = |name: &str| field(&fields, name).unwrap_or_default();
    let said = Said { reason: text("reason"), ticket: text("ticket"), minutes: text("minutes") };
    let opened = async {
        let ticket = Some(said.ticket.clone()).filter(|ticket| !ticket.is_empty());
        let (reason, length) = (said.reason.clone(), length(&said.minutes)?);
        let wanted = Wanted { reason, ticket, length, offline: false };
        glass(break_glass::open_for(&api, &visit.principal, peer, wanted).await?, api.clock.now())
    };
    match opened.await {
        Ok(one) => {
            let to = visit.frame.at(&format!("{HERE}/{}", one.id));
            allowed.shown(Redirect::to(&to).into_response())
        }
        // Whoever may open it and read nothing is told so without a list.
        Err(refused) => {
            let reads = api.allowed(&visit.head, peer, visit.principal.clone(), READ, Kind::Read).await;
            let Ok(reads) = reads else { return allowed.shown(refusal(refused, visit.frame)) };
            reads.done();
            match made(&api, visit, said, Some(refused)).await {
                Ok((status, page)) => allowed.shown(html(status, &page.frame, &page)),
                Err((refused, frame)) => allowed.shown(refusal(refused, frame)),
            }
        }
    }
}

/// A length in minutes; none is as long as may be.
fn length(minutes: &str) -> Result<Option<Duration>, Refused> {
    if minutes.is_empty() {
        return Ok(None);
    }
    let minutes: u64 = minutes.parse().map_err(|_| Refused::malformed("the minutes are a whole number"))?;
    Ok(Some(Duration::from_secs(minutes.saturating_mul(60))))
}

pub(super) async fn told(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Path((id, verb)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    type Said = fn(Option<String>) -> Deed;
    let (action, said): (_, Said) = match &*verb {
        "confirm" => (CONFIRMING, Deed::Confirm),
        "close" => (CLOSING, |_| Deed::Close),
        "review" => (REVIEWING, |note| Deed::Review(note.unwrap_or_default())),
        _ => {
            let frame = Frame::nobody(Mount::of(&head.extensions));
            let why = "Break-glass is confirmed, closed or reviewed.";
            return Notice::page(StatusCode::NOT_FOUND, frame, why);
        }
    };
    let entered = entered(&api, peer, head, HERE, action, Kind::Action).await;
    let (Visit { principal, frame, .. }, allowed) = match entered {
        Ok(entered) => entered,
        Err(response) => return *response,
    };
    let done = async {
        let note = field(&fields(body).await?, "note");
        glass(break_glass::do_for(&api, &principal, &id, said(note)).await?, api.clock.now())
    };
    match done.await {
        Ok(one) => {
            let to = frame.at(&format!("{HERE}/{}", one.id));
            allowed.shown(Redirect::to(&to).into_response())
        }
        Err(refused) => allowed.shown(refusal(refused, frame)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_whole_minutes_where_there_are_some() {
        let said = |secs| words(Duration::from_secs(secs));
        assert_eq!([said(0), said(59), said(60), said(119)], ["0 s", "59 s", "1 min", "1 min"]);
        assert_eq!([said(3_600), said(5_400), said(28_800)], ["1 h", "1 h 30 min", "8 h"]);
        assert_eq!(length("").unwrap(), None);
        assert_eq!(length("30").unwrap(), Some(Duration::from_secs(1_800)));
        for odd in ["x", "-1", "1.5", "99999999999999999999999"] {
            assert!(length(odd).is_err(), "{odd}");
        }
        assert!(length("18446744073709551615").unwrap() > Some(Duration::from_secs(1 << 40)));
    }
}
