//! `GET /api/v1/audit`: the record, to those whom the policies let read it. That somebody read it is a
//! record itself, durable before anything is given.
//!
//! Filters are those of `audit query`. Pages follow each other by an opaque cursor, which is of this
//! gate's log alone; `wait` makes a tail of it. Every page is bounded in records, in bytes and in what
//! is looked at for it, and so are searches and waiting callers at the same time.

mod asked;
mod cursor;
mod proof;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub(in crate::admin) use asked::Asked;
pub(super) use asked::time;
use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
pub(super) use proof::{DESCRIBED as PROOF, proof};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use super::{
    Api, Peer,
    call::{Allowed, Refused, Said},
    openapi::{self, Operation},
};
use crate::{
    audit::{
        PUBLIC_KEY,
        event::Event,
        note::VerifierKeys,
        query::{Bounds, Filter, Look, Page, QueryError, search},
    },
    azureml::Kind,
    identity::{Principal, Standing},
};

/// What reads of the record are called in policies and in the record.
pub(in crate::admin) const ACTION: &str = "amlgate/audit/read";
/// Searches at the same time: each takes a core and a segment's index.
const SEARCHES: usize = 4;
/// Callers who wait for records to come at the same time.
const WAITING: usize = 32;
/// The largest page, in bytes of records.
const MAX_BYTES: usize = 4 << 20;
/// After so much of the log was looked at the page ends, whatever was found.
const MAX_LOOKED: u64 = 256 << 20;
/// Whoever waits looks at most so often.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) const READ: Operation = Operation {
    about: "Pages follow each other by `next` as `cursor`; a page may end early, even empty, when much was \
            looked through: go on while `more` says so. That somebody read is recorded before it is given.",
    parameters: asked::PARAMETERS,
    problems: &[NOT_WHOLE],
    ..Operation::judged(
        "readRecord",
        "The record, in its order, with the filters of `audit query`",
        &[ACTION],
        &[openapi::Answer::json::<Answer<'_>>(StatusCode::OK, "A page.")],
    )
};

/// Whoever reads is told, and gets nothing that may be forged.
const NOT_WHOLE: (StatusCode, &str) =
    (StatusCode::INTERNAL_SERVER_ERROR, "The record was changed or is damaged, and says so.");

/// The log that is read.
#[derive(Debug)]
pub struct LogRead {
    origin: Arc<str>,
    directory: PathBuf,
    searches: Arc<Semaphore>,
    waiting: Semaphore,
}

impl LogRead {
    /// The log of this name, in this directory.
    #[must_use]
    pub fn new(origin: &str, directory: PathBuf) -> Self {
        let searches = Arc::new(Semaphore::new(SEARCHES));
        Self { origin: origin.into(), directory, searches, waiting: Semaphore::new(WAITING) }
    }

    /// Its name.
    pub(in crate::admin) fn origin(&self) -> &str {
        &self.origin
    }

    /// Where to go on behind a page.
    pub(in crate::admin) fn behind(&self, page: &Page) -> String {
        cursor::write(&self.origin, page.until)
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A place among those who look into it.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let place = Arc::clone(&self.searches).acquire_owned().await;
        place.map_err(|_| Refused::unavailable("the gate stops"))
    }

    pub(in crate::admin) async fn search(
        &self,
        filter: &Filter,
        from: u64,
        records: usize,
    ) -> Result<Page, Refused> {
        let place = self.place().await?;
        let (directory, filter) = (self.directory.clone(), filter.clone());
        let bounds = Bounds { records, bytes: MAX_BYTES, looked: MAX_LOOKED };
        let searched = spawn_blocking(move || {
            // Held until it is done, even if whoever asked has gone.
            let _place = place;
            let text = fs::read_to_string(directory.join(PUBLIC_KEY))?;
            let keys = VerifierKeys::parse(&text).map_err(std::io::Error::other)?;
            search(&directory, &keys, &filter, Look::Indexed, from, bounds)
        });
        searched.await.map_err(|_| Refused::unavailable("the search failed"))?.map_err(|error| match error {
            QueryError::Io(error) => Refused::unavailable(format!("the log cannot be read: {error}")),
            QueryError::Broken { .. } => {
                Refused::new(StatusCode::INTERNAL_SERVER_ERROR, Said::NotWhole, error.to_string())
            }
        })
    }
}

/// A page as it is answered.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RecordPage")]
struct Answer<'a> {
    /// The log's name.
    log: &'a str,
    /// What was found, in the log's order.
    records: Vec<Entry<'a>>,
    /// Where to go on: `cursor` of the next call.
    next: String,
    /// Whether more is there already.
    more: bool,
}

/// One record.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Record")]
struct Entry<'a> {
    /// Its place in the log, from 0.
    position: u64,
    /// Whether a signed head vouches for it; the newest have none yet.
    vouched: bool,
    /// An event of OCSF, its bytes as they are in the log: the leaf is their hash.
    #[schemars(with = "Map<String, Value>")]
    record: &'a RawValue,
}

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let (allowed, principal) = api.entered(&head, peer, ACTION, Kind::Read).await?;
    let asked = match Asked::read(head.uri.query().unwrap_or_default(), &api.log.origin) {
        Ok(asked) => asked,
        Err(refused) => return Ok(allowed.refuse(refused)),
    };
    Ok(match api.found(&asked, &principal).await {
        Ok((page, from)) => api.given(allowed, &principal, peer, &asked, &page, from).await,
        Err(refused) => allowed.refuse(refused),
    })
}

/// Whether a record tells something else than that the record was read: whoever waits would wait for
/// himself otherwise.
pub(in crate::admin) fn is_news(value: &Value) -> bool {
    value.pointer("/api/operation").and_then(Value::as_str) != Some(ACTION)
}

impl Api {
    /// The page, and where it begins; waits for it if that is asked and nothing is there.
    pub(in crate::admin) async fn found(
        &self,
        asked: &Asked,
        principal: &Principal,
    ) -> Result<(Page, u64), Refused> {
        let mut durable = self.journal.durable();
        let mut from = match asked.last {
            Some(last) => durable.borrow().saturating_sub(last),
            None => asked.from,
        };
        if asked.wait.is_zero() {
            return Ok((self.log.search(&asked.filter, from, asked.limit).await?, from));
        }
        let _place = self
            .log
            .waiting
            .try_acquire()
            .map_err(|_| Refused::unavailable(format!("{WAITING} callers wait already")))?;
        let policies = self.policies.status().digest;
        let until = self.clock.now().plus(asked.wait);
        let page = loop {
            durable.borrow_and_update();
            let page = self.log.search(&asked.filter, from, asked.limit).await?;
            if page.found.iter().any(|found| is_news(&found.value)) || self.clock.now() >= until {
                break page;
            }
            if page.found.is_empty() {
                from = page.until;
            }
            if page.next.is_some() {
                if page.found.is_empty() {
                    continue;
                }
                break page;
            }
            tokio::select! {
                () = self.clock.sleep_until(until) => break page,
                changed = durable.changed() => if changed.is_err() { break page },
            }
            self.clock.sleep(PAUSE).await;
        };
        // What held when it was asked may not hold any more.
        let now = self.clock.now();
        match self.verifier.revoked().standing(principal, now) {
            Standing::Stands if principal.expires > now => {}
            Standing::Stands | Standing::Revoked => {
                return Err(Refused::nobody("the token is no longer accepted"));
            }
            Standing::Unknown => return Err(Refused::unavailable("revocations cannot be read now")),
        }
        if self.policies.status().digest == policies {
            Ok((page, from))
        } else {
            // Whoever asks again is judged by those that are in force now.
            Ok((Page { until: from, ..Page::default() }, from))
        }
    }

    /// Records that somebody is given so many records.
    pub(in crate::admin) async fn told_read(
        &self,
        allowed: &Allowed,
        principal: &Principal,
        peer: Peer,
        query: String,
        records: usize,
    ) -> Result<(), Refused> {
        let event = Event::RecordRead {
            caller: principal.id.to_string(),
            peer: peer.0.ip(),
            decision: allowed.decision(),
            query,
            records: records as u64,
        };
        let unrecorded = |_| Refused::unavailable("that the record is read cannot be recorded");
        self.journal.happened(&event).await.map_err(unrecorded)
    }

    /// Records that the page is given, and gives it.
    async fn given(
        &self,
        allowed: Allowed,
        principal: &Principal,
        peer: Peer,
        asked: &Asked,
        page: &Page,
        from: u64,
    ) -> Response {
        let told = self.told_read(&allowed, principal, peer, asked.shown(from), page.found.len()).await;
        if let Err(refused) = told {
            return allowed.refuse(refused);
        }
        let mut records = Vec::with_capacity(page.found.len());
        for found in &page.found {
            let Ok(record) = serde_json::from_slice(&found.line) else { continue };
            records.push(Entry { position: found.position, vouched: found.vouched, record });
        }
        let next = self.log.behind(page);
        let answer = Answer { log: &self.log.origin, records, next, more: page.next.is_some() };
        allowed.answer(StatusCode::OK, &answer)
    }
}
