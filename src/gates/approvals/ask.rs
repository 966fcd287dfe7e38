//! Asking, and answering.

use super::{
    Approvals, Caller, Claimed, DAY, Event, Grant, MAX_CLAIMED, MAX_REASON, MAX_TICKET, PENDING_FOR, Party,
    Request, State,
    call::{Refused, hex},
    people,
    request::{Asked, Unmoved},
    rows,
};
use crate::{
    gates::words::{given, is_id, is_plain},
    http::is_deceptive,
    policy::{PolicySet, approval::Reason},
    store::{self, AskBounds, StoreError},
};

/// How often an answer is tried again when others answer at the same time.
const TRIES: usize = 8;

/// What somebody asks.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The decision that refused the call.
    pub decision: String,
    /// Why.
    pub reason: Option<String>,
    /// The ticket.
    pub ticket: Option<String>,
    /// In whose name, where software asks that may.
    pub claimed: Option<String>,
}

/// Why nothing can be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// There is no such call of theirs, or it was too long ago.
    #[error(
        "no call of yours was refused under this decision for want of an approval within the last hour: send the call again"
    )]
    Unknown,
    /// The policies are others by now.
    #[error("the policies have changed since: send the call again")]
    Changed,
    /// The reason, or the ticket, is not what the entry wants.
    #[error("entry `{entry}` wants {what}")]
    Wants {
        /// Which entry.
        entry: String,
        /// What it wants.
        what: String,
    },
    /// A text is too long, or holds what nobody writes.
    #[error(
        "a reason has at most {MAX_REASON} bytes, a ticket {MAX_TICKET}; each is given once, as UTF-8 without control, invisible or bidirectional characters"
    )]
    Text,
    /// They may not ask in somebody's name.
    #[error("nobody but the service that `clutch` in the configuration names asks in somebody's name")]
    MayNotClaim,
    /// They must say in whose name.
    #[error("say in whose name you ask, in at most {MAX_CLAIMED} bytes: `claimed`")]
    Unclaimed,
    /// They have too many waiting.
    #[error("no more than {0} requests of yours may wait: withdraw one first")]
    TooMany(u32),
    /// They have asked too often.
    #[error("you have asked {0} times within a day: ask again tomorrow")]
    TooOften(u32),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What somebody answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Approve(Option<String>),
    /// No.
    Deny(Option<String>),
    /// They asked, and do not want it any more. What they say to it stands in the record alone.
    Withdraw(Option<String>),
}

/// What came of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The request as it is now.
    pub request: Request,
    /// The grant that came of it.
    pub grant: Option<Grant>,
}

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// There is no such request.
    #[error("there is no such request")]
    Unknown,
    /// It does not move.
    #[error(transparent)]
    Unmoved(Unmoved),
    /// The entry is another by now.
    #[error("entry `{0}` has changed since it was asked for: whoever asked must send the call again")]
    Changed(String),
    /// A text is too long, or holds what nobody writes.
    #[error("a note has at most {MAX_REASON} bytes and no control, invisible or bidirectional characters")]
    Text,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Approvals {
    /// Asks for the approvals for want of which a call was refused: one request for each entry, and
    /// whether it is new. The same is not asked twice.
    ///
    /// # Errors
    /// [`AskError`]; nothing was asked then.
    pub async fn ask(
        &self,
        policies: &PolicySet,
        by: &Caller,
        wanted: Wanted,
    ) -> Result<Vec<(Request, bool)>, AskError> {
        let now = self.clock.now();
        let by = Party::of(by, policies.kind_of(by));
        if !is_id(&wanted.decision) {
            return Err(AskError::Unknown);
        }
        let calls = self.store()?.refused_call(&wanted.decision, now).await?;
        let mut refused = Vec::new();
        for call in calls {
            let call: Refused = serde_json::from_str(&call.about).map_err(|_| AskError::Unknown)?;
            // An agent asks for itself; its human may ask for it.
            if by.may_end(&call.by) {
                refused.push(call);
            }
        }
        if refused.is_empty() {
            return Err(AskError::Unknown);
        }
        self.open(policies, refused, wanted).await
    }

    /// Asks for the approvals of calls that were refused, by who calls now. Where that goes wrong after
    /// some were asked for, these come back alone, to be recorded: the call asks for the rest when it
    /// is sent again.
    ///
    /// # Errors
    /// [`AskError`]; nothing was asked then.
    pub async fn open(
        &self,
        policies: &PolicySet,
        refused: Vec<Refused>,
        wanted: Wanted,
    ) -> Result<Vec<(Request, bool)>, AskError> {
        let (reason, ticket) = (given(wanted.reason), given(wanted.ticket));
        let claimed = given(wanted.claimed);
        let plain = |text: &Option<String>, most| text.as_deref().is_none_or(|text| is_plain(text, most));
        if !plain(&reason, MAX_REASON) || !plain(&ticket, MAX_TICKET) {
            return Err(AskError::Text);
        }
        let mut all = Vec::with_capacity(refused.len());
        for call in refused {
            let approval = policies.approval(&call.entry).filter(|now| hex(&now.version) == call.version);
            let approval = approval.ok_or(AskError::Changed)?;
            let wants = |what: String| AskError::Wants { entry: call.entry.to_string(), what };
            if approval.reason == Reason::Required && reason.is_none() {
                return Err(wants("a reason".to_owned()));
            }
            if let Some(pattern) = &approval.ticket
                && !ticket.as_ref().is_some_and(|ticket| pattern.is(ticket))
            {
                return Err(wants(format!("a ticket of the form `{}`", pattern.written())));
            }
            let claimed = self.in_whose_name(&call.by, claimed.as_ref())?;
            all.push(Asked {
                demands: people::demands(&approval.by, call.by.agent.as_deref()),
                entry: call.entry.to_string(),
                version: call.version,
                covers: approval.covers,
                uses: approval.uses,
                valid_for: approval.valid_for.as_secs(),
                bound: call.bound,
                never: call.never,
                requester: call.by,
                claimed,
                what: call.what,
                decision: wanted.decision.clone(),
                policies: call.policies,
                reason: reason.clone(),
                ticket: ticket.clone(),
            });
        }
        let now = self.clock.now();
        let mut requests = Vec::with_capacity(all.len());
        for asked in all {
            let request = Request {
                id: uuid::Uuid::now_v7().to_string(),
                version: 0,
                asked,
                state: State::Pending,
                votes: Vec::new(),
                made: now,
                expires: now.plus(PENDING_FOR),
                decided: None,
            };
            match self.opened(request).await {
                Ok(opened) => requests.push(opened),
                Err(error) if requests.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        self.look_again().await;
        Ok(requests)
    }

    /// In whose name somebody asks: the service that may must say it, so that whoever is behind it
    /// never answers themselves, and nobody else may.
    fn in_whose_name(&self, by: &Party, claimed: Option<&String>) -> Result<Option<Claimed>, AskError> {
        let speaker = self.speaker().filter(|speaker| speaker.is(&by.id));
        match (speaker, claimed) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(AskError::MayNotClaim),
            (Some(speaker), Some(user)) if user.len() <= MAX_CLAIMED && !user.chars().any(is_deceptive) => {
                Ok(Some(speaker.claimed(user.clone())))
            }
            (Some(_), Some(_) | None) => Err(AskError::Unclaimed),
        }
    }

    async fn opened(&self, request: Request) -> Result<(Request, bool), AskError> {
        let store = self.store()?;
        let bounds = **self.bounds.load();
        let most = AskBounds {
            waiting: bounds.pending_each,
            made: bounds.daily_each,
            since: request.made.minus(DAY),
        };
        for _ in 0..2 {
            let row = rows::of_request(&request)?;
            let waits = match store.ask_approval(row, most).await? {
                store::Asked::New => return Ok((request, true)),
                store::Asked::TooMany => return Err(AskError::TooMany(most.waiting)),
                store::Asked::TooOften => return Err(AskError::TooOften(most.made)),
                store::Asked::Waits(row) => rows::request(*row)?,
            };
            // What is over is still there until somebody looks.
            match waits.after(&Event::Pass, request.made) {
                Ok(over) => drop(store.change_request(rows::of_request(&over)?, None).await?),
                Err(_) => return Ok((waits, false)),
            }
        }
        Err(StoreError::Busy.into())
    }

    /// Answers a request, for somebody.
    ///
    /// # Errors
    /// [`AnswerError`]; it stays as it is.
    pub async fn answer(
        &self,
        policies: &PolicySet,
        by: &Caller,
        id: &str,
        answer: &Answer,
    ) -> Result<Answered, AnswerError> {
        let store = self.store()?;
        let note = match answer {
            Answer::Approve(note) | Answer::Deny(note) | Answer::Withdraw(note) => given(note.clone()),
        };
        if note.as_deref().is_some_and(|note| !is_plain(note, MAX_REASON)) {
            return Err(AnswerError::Text);
        }
        if !is_id(id) {
            return Err(AnswerError::Unknown);
        }
        for _ in 0..TRIES {
            let now = self.clock.now();
            let row = store.approval_request(id).await?.ok_or(AnswerError::Unknown)?;
            let before = rows::request(row)?;
            let voter = Self::voter(policies, by, &before);
            let event = match answer {
                Answer::Approve(_) => Event::Approve { by: voter, note: note.clone() },
                Answer::Deny(_) => Event::Deny { by: voter, note: note.clone() },
                Answer::Withdraw(_) => Event::Withdraw { by: voter.party },
            };
            let request = before.after(&event, now).map_err(AnswerError::Unmoved)?;
            let entry = &request.asked.entry;
            let same = policies.approval(entry).is_some_and(|now| hex(&now.version) == request.asked.version);
            if matches!(answer, Answer::Approve(_)) && !same {
                return Err(AnswerError::Changed(entry.clone()));
            }
            let grant = (request.state == State::Approved)
                .then(|| Grant::of(&request, uuid::Uuid::now_v7().to_string(), now));
            let brings = grant.as_ref().map(rows::of_grant).transpose()?;
            if store.change_request(rows::of_request(&request)?, brings).await? {
                self.look_again().await;
                return Ok(Answered { request, grant });
            }
        }
        Err(AnswerError::Store(StoreError::Busy))
    }
}
