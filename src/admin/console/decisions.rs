//! Decisions as they are made, the search in the record, and one decision with its proofs.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::{
    Extension,
    extract::{Path, Request, State},
    http::StatusCode,
    response::Response,
};
use uuid::Uuid;

use super::{
    super::api::{Allowed, Api, Asked, Peer, READ_RECORD, Refused, Said, is_news},
    Choice, Frame, Visit,
    chart::Chart,
    entered, html, refusal,
    rows::Row,
};
use crate::{audit::query::Filter, azureml::Kind, identity::Principal};

/// Rows of the live page.
const ROWS: usize = 60;
/// At most so many of the newest records are counted.
const COUNTED: usize = 5_000;
/// And none that are older.
const AGE: Duration = Duration::from_secs(24 * 3_600);
/// The live page comes anew this often, in seconds, and so many times: a page that nobody looks at any
/// more fills no record and keeps nobody signed in.
const EVERY: u32 = 5;
const TIMES: u32 = 60;
/// Records of a page of the search.
const FOUND: usize = 50;

#[derive(Template)]
#[template(path = "decisions.html")]
struct Live {
    frame: Frame,
    chart: Chart,
    rows: Vec<Row>,
    counted: usize,
    /// How often it comes anew.
    left: u32,
    every: u32,
    times: u32,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Search {
    frame: Frame,
    /// The filters, by name and value.
    fields: Vec<Field>,
    phases: [Choice; 3],
    rows: Vec<Row>,
    /// The query of the next page.
    next: Option<String>,
    /// Why the question was none.
    wrong: Option<String>,
    log: String,
    asked: bool,
}

struct Field {
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    value: String,
}

#[derive(Template)]
#[template(path = "decision.html")]
struct One {
    frame: Frame,
    id: String,
    records: Vec<Shown>,
    provable: bool,
}

/// A record, as it reads and as it stands.
struct Shown {
    row: Row,
    text: String,
}

/// Who looks, if they may read the record.
async fn reader(
    api: &Api,
    peer: Peer,
    request: Request,
    active: &'static str,
) -> Result<(Visit, Allowed), Box<Response>> {
    let (head, _) = request.into_parts();
    entered(api, peer, head, active, READ_RECORD, Kind::Read).await
}

/// The newest records, as many as are counted: of requests to what is behind the gate, and others.
pub(super) async fn newest(api: &Api) -> Result<Vec<Row>, Refused> {
    let end = *api.journal.durable().borrow();
    let since =
        api.clock.now().as_millis().saturating_sub(u64::try_from(AGE.as_millis()).unwrap_or(u64::MAX));
    let filter = Filter { since: Some(crate::time::Timestamp::from_millis(since)), ..Filter::default() };
    let (mut rows, mut from) = (Vec::new(), end.saturating_sub(COUNTED as u64));
    loop {
        let page = api.log.search(&filter, from, COUNTED).await?;
        rows.extend(page.found.iter().filter(|found| is_news(&found.value)).map(Row::of));
        match page.next {
            Some(next) if rows.len() < COUNTED => from = next,
            Some(_) | None => return Ok(rows),
        }
    }
}

pub(super) async fn live(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (Visit { head, peer, principal, mut frame }, allowed) =
        match reader(&api, peer, request, "/decisions").await {
            Ok(entered) => entered,
            Err(response) => return *response,
        };
    let query = head.uri.query().unwrap_or_default();
    let left = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "live");
    let left = left.and_then(|(_, value)| value.parse().ok()).unwrap_or(0_u32).min(TIMES);
    if left > 0 {
        frame.next = Some((EVERY, frame.at(&format!("/decisions?live={}", left - 1))));
    }
    let rows = match newest(&api).await {
        Ok(rows) => rows,
        Err(refused) => return refusal_of(allowed, refused, frame),
    };
    if let Err(refused) = read(&api, &allowed, &principal, peer, "console live", rows.len()).await {
        return refusal_of(allowed, refused, frame);
    }
    let to = api.clock.now().as_millis().saturating_add(1);
    let from = rows.first().map_or(to, |row| row.time).min(to);
    let chart = Chart::of(&rows, from, to);
    let counted = rows.len();
    let rows: Vec<Row> = rows.into_iter().rev().filter(Row::decides).take(ROWS).collect();
    let page = Live { frame, chart, rows, counted, left, every: EVERY, times: TIMES };
    allowed.shown(html(StatusCode::OK, &page.frame, &page))
}

async fn read(
    api: &Api,
    allowed: &Allowed,
    principal: &Principal,
    peer: Peer,
    what: &str,
    records: usize,
) -> Result<(), Refused> {
    api.told_read(allowed, principal, peer, what.to_owned(), records).await
}

/// A refusal of what was allowed, as a page.
fn refusal_of(allowed: Allowed, refused: Refused, frame: Frame) -> Response {
    allowed.shown(refusal(refused, frame))
}

pub(super) async fn search(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (Visit { head, peer, principal, frame }, allowed) = match reader(&api, peer, request, "/audit").await
    {
        Ok(entered) => entered,
        Err(response) => return *response,
    };
    // A form sends the fields that were left empty, too.
    let given: Vec<(String, String)> =
        form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
            .map(|(key, value)| (key.into_owned(), value.trim().to_owned()))
            .filter(|(_, value)| !value.is_empty())
            .collect();
    let value = |name: &str| {
        let found = given.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let fields = FIELDS.map(|(name, label, hint)| Field { name, label, hint, value: value(name) });
    let mut page = Search {
        phases: Choice::of(["intent", "outcome", "denial"], &value("phase")),
        fields: fields.into(),
        rows: Vec::new(),
        next: None,
        wrong: None,
        log: api.log.origin().to_owned(),
        asked: !given.is_empty(),
        frame,
    };
    let mut pairs = given.clone();
    pairs.push(("limit".to_owned(), FOUND.to_string()));
    if given.is_empty() {
        pairs.push(("last".to_owned(), FOUND.to_string()));
    }
    let asked = match Asked::read(&query_of(&pairs), api.log.origin()) {
        Ok(asked) => asked,
        Err(refused) => {
            page.wrong = Some(refused.message);
            return allowed.shown(html(StatusCode::BAD_REQUEST, &page.frame, &page));
        }
    };
    let (found, from) = match api.found(&asked, &principal).await {
        Ok(found) => found,
        Err(refused) => return refusal_of(allowed, refused, page.frame),
    };
    let shown = asked.shown(from);
    if let Err(refused) = read(&api, &allowed, &principal, peer, &shown, found.found.len()).await {
        return refusal_of(allowed, refused, page.frame);
    }
    page.rows = found.found.iter().map(Row::of).collect();
    if given.is_empty() {
        // What happened last is looked for first.
        page.rows.reverse();
    } else if found.next.is_some() {
        let mut pairs = given;
        pairs.retain(|(key, _)| key != "cursor");
        pairs.push(("cursor".to_owned(), api.log.behind(&found)));
        page.next = Some(query_of(&pairs));
    }
    allowed.shown(html(StatusCode::OK, &page.frame, &page))
}

fn query_of(pairs: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// What can be looked for: the name, how it is called, an example.
const FIELDS: [(&str, &str, &str); 8] = [
    ("caller", "Who", "corp:… or a part"),
    ("action", "Action or event", "jobs/write"),
    ("resource", "Resource", "/subscriptions/…"),
    ("code", "Denial's code", "AuthorizationFailed"),
    ("decision", "Decision", "its id"),
    ("text", "Anything", "words of the record"),
    ("since", "Since", "2026-11-30T09:00:00Z"),
    ("until", "Until", "2026-11-30T10:00:00Z"),
];

pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let (Visit { peer, principal, frame, .. }, allowed) =
        match reader(&api, peer, request, "/decisions").await {
            Ok(entered) => entered,
            Err(response) => return *response,
        };
    let unknown = || {
        let why = "The log holds no record of this decision.";
        Refused::new(StatusCode::NOT_FOUND, Said::NotFound, why)
    };
    let Ok(decision) = Uuid::parse_str(&id) else { return refusal_of(allowed, unknown(), frame) };
    let found = match api.log.of_decision(decision).await {
        Ok(found) if found.is_empty() => return refusal_of(allowed, unknown(), frame),
        Ok(found) => found,
        Err(refused) => return refusal_of(allowed, refused, frame),
    };
    let what = format!("decision={decision}");
    if let Err(refused) = read(&api, &allowed, &principal, peer, &what, found.len()).await {
        return refusal_of(allowed, refused, frame);
    }
    let page = One {
        frame,
        id: decision.to_string(),
        records: found
            .iter()
            .map(|one| Shown { row: Row::of(one), text: format!("{:#}", one.value) })
            .collect(),
        provable: found.iter().all(|one| one.vouched),
    };
    allowed.shown(html(StatusCode::OK, &page.frame, &page))
}
