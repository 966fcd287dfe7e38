//! Another's word: Clutch is asked whether it would let the caller do this, and its no counts.
//!
//! `POST /v1/authz/check` decides by Clutch's own roles. Its yes grants nothing, because the policies
//! have said theirs before; everything else is a no: a refusal, an answer that is none, silence.
//! Each pair of action and resource is asked about with each of Clutch's action types that it comes
//! to, and all must be allowed. A yes or a no is remembered for a moment and never longer, so that a
//! client's burst asks once.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    azureml::method::{ActionType, FullMethod},
    identity::{Caller, Groups},
    net::{Connector, Destination, FetchLimits},
    policy::{Denial, DenialCode, EntryRef, Permit},
    time::{SharedClock, Timestamp},
};

/// All questions of one call together take at most so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer counts so long.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// So many answers are remembered; each takes some 64 bytes.
const REMEMBERED: usize = 16_384;
/// So many calls ask at the same time; more are told to come again.
const AT_A_TIME: usize = 64;
/// Questions that one call may come to.
const MOST: usize = 32;
/// Groups that are told of a caller.
const MOST_GROUPS: usize = 1_024;
/// An answer is small.
const ANSWER: usize = 64 << 10;

/// Whom to ask, and how people are called there.
#[derive(Clone)]
pub struct Adviser {
    connector: Connector,
    to: Destination,
    /// The path: `/v1/authz/check`, below where Clutch lies.
    path: String,
    /// `Token ...`.
    token: Option<HeaderValue>,
    /// The issuer of the people whom it knows.
    people: String,
    /// The claim that says what it calls them.
    claim: String,
}

impl fmt::Debug for Adviser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Adviser({}{})", self.to, self.path)
    }
}

impl Adviser {
    /// Clutch at a destination, asked with its own kind of token.
    #[must_use]
    pub fn new(
        connector: Connector,
        to: Destination,
        path: String,
        token: Option<HeaderValue>,
        people: String,
        claim: String,
    ) -> Self {
        Self { connector, to, path, token, people, claim }
    }

    /// The bodies of all questions that a permit comes to; `None` if these are too many.
    fn questions(&self, permit: &Permit) -> Option<Vec<Bytes>> {
        let (user, groups) = self.subject(permit.principal());
        let operation = permit.operation();
        let mut questions = Vec::new();
        for act in &operation.acts {
            let method = FullMethod::of(act.action.as_str()).to_string();
            let resource = act.resource.as_ref().map_or("", |resource| resource.as_str());
            for action_type in ActionType::all_of(operation.kind) {
                let body = json!({
                    "subject": {"user": user, "groups": groups},
                    "method": method,
                    "action_type": action_type.name(),
                    "resource": resource,
                });
                questions.push(Bytes::from(body.to_string()));
            }
        }
        (1..=MOST).contains(&questions.len()).then_some(questions)
    }

    /// Whom Clutch knows the caller as. Names and groups of other issuers say nothing there.
    fn subject(&self, caller: &Caller) -> (String, Vec<String>) {
        if *caller.id.issuer != *self.people {
            return (caller.id.to_string(), Vec::new());
        }
        let named = caller.claims.get(&self.claim).and_then(|value| value.as_str());
        let user = named.map_or_else(|| caller.id.to_string(), ToOwned::to_owned);
        let groups = match &caller.groups {
            Groups::Known(groups) => &**groups,
            Groups::Asked(asked) => asked.member().unwrap_or_default(),
            // Groups only ever allow in Clutch: without them it allows less.
            Groups::Overage => &[],
        };
        let mut groups: Vec<_> = groups.iter().take(MOST_GROUPS).map(|group| group.to_string()).collect();
        groups.sort_unstable();
        (user, groups)
    }

    /// Asks; words on why there is no answer.
    async fn ask(&self, body: Bytes) -> Result<Verdict, String> {
        let mut request = Request::post(&*self.path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(body)
            .map_err(|error| error.to_string())?;
        if let Some(token) = &self.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        let limits = FetchLimits { body: ANSWER, time: PATIENCE };
        let answer = self.connector.send(&self.to, request, limits).await.map_err(|e| e.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(format!("`{}` answered {}", self.to, answer.status()));
        }
        match serde_json::from_slice::<Answer>(answer.body()) {
            Ok(Answer { decision }) if decision == "ALLOW" => Ok(Verdict::Allows),
            Ok(Answer { decision }) if decision == "DENY" => Ok(Verdict::Denies),
            Ok(_) | Err(_) => Err(format!("`{}` answered neither ALLOW nor DENY", self.to)),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    decision: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allows,
    Denies,
}

type Digest = [u8; 32];

/// Asks for others' words, and remembers them for a moment. One for the whole process.
#[derive(Debug)]
pub struct Opinions {
    clock: SharedClock,
    adviser: ArcSwapOption<Adviser>,
    known: Mutex<HashMap<Digest, (Verdict, Timestamp)>>,
    asking: Semaphore,
}

impl Opinions {
    pub(super) fn new(clock: SharedClock) -> Self {
        let (adviser, known) = (ArcSwapOption::empty(), Mutex::default());
        Self { clock, adviser, known, asking: Semaphore::new(AT_A_TIME) }
    }

    /// Whom to ask from here on. What another said is forgotten.
    pub fn by(&self, adviser: Option<Adviser>) {
        self.adviser.store(adviser.map(Arc::new));
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether Clutch lets the caller do all that the permit is for.
    ///
    /// # Errors
    /// What to tell the caller, whom it does not, or of whom it does not say so in time.
    pub(super) async fn heard(&self, permit: &Permit, entry: &EntryRef) -> Result<(), Denial> {
        let unheard = |why: &str| {
            let cause = format!("entry `{}` wants Clutch's word, and there is none: {why}", entry.name);
            denied(entry, cause, "try again, or tell whoever runs the gate")
        };
        let Some(adviser) = self.adviser.load_full() else {
            return Err(unheard("this gate has no `clutch.check`"));
        };
        let questions = adviser.questions(permit).ok_or_else(|| unheard("there is too much to ask"))?;
        let all = async {
            for question in questions {
                match self.answer(&adviser, question).await? {
                    Verdict::Allows => {}
                    Verdict::Denies => return Ok(Verdict::Denies),
                }
            }
            Ok(Verdict::Allows)
        };
        let answered = tokio::select! {
            answered = all => answered,
            () = self.clock.sleep(PATIENCE) => Err(format!("it took longer than {} s", PATIENCE.as_secs())),
        };
        match answered {
            Ok(Verdict::Allows) => Ok(()),
            Ok(Verdict::Denies) => {
                let acts = permit.operation().acts.iter().map(|act| FullMethod::of(act.action.as_str()));
                let methods = acts.map(|method| format!("`{method}`")).collect::<Vec<_>>().join(", ");
                let cause =
                    format!("entry `{}` wants Clutch's word, and Clutch denies {methods}", entry.name);
                Err(denied(entry, cause, "ask whoever keeps Clutch's roles"))
            }
            Err(why) => {
                tracing::warn!(entry = %entry.name, why, "Clutch's word was not to be had");
                Err(unheard(&why))
            }
        }
    }

    async fn answer(&self, adviser: &Adviser, question: Bytes) -> Result<Verdict, String> {
        let mut key = Digest::default();
        key.copy_from_slice(digest(&SHA256, &question).as_ref());
        let now = self.clock.now();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some((verdict, until)) = known
            && now < until
        {
            return Ok(verdict);
        }
        let Ok(_permit) = self.asking.try_acquire() else {
            return Err("too many others ask at the same time".to_owned());
        };
        let verdict = adviser.ask(question).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() < REMEMBERED {
            known.insert(key, (verdict, now.plus(REMEMBERED_FOR)));
        }
        Ok(verdict)
    }
}

/// Nobody can be asked here.
pub(super) fn unasked(entry: &EntryRef) -> Denial {
    let cause = format!("entry `{}` wants Clutch's word, and it cannot be asked for here", entry.name);
    denied(entry, cause, "tell whoever runs the gate")
}

fn denied(entry: &EntryRef, cause: String, cure: &str) -> Denial {
    Denial {
        code: DenialCode::RequestDisallowedByPolicy,
        cause,
        cure: cure.to_owned(),
        entry: Some(entry.clone()),
        missing: Vec::new(),
        step_up: None,
        request: None,
    }
}
