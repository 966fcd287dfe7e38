//! A channel: the sink that tells people of the records that it picks, one message each.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use metrics::counter;

use super::{
    data,
    events::{About, Filter, Told},
    notice::{Found, Notice, own},
    slack::slack,
    teams::teams,
};
use crate::{
    audit::sinks::{
        BatchLimits, Delivered, EVENT, Exported, Pending, Picks, Receiver, Sink, Undelivered, WebhookKey,
    },
    gates::{
        Gates,
        approvals::{Approvals, Request},
    },
    policy::Approvers,
};

/// Words of Slack and of Teams' workflows with which they refuse every message: the hook is at fault,
/// and none of the records.
const OF_THE_HOOK: [&str; 7] = [
    "no_service",
    "no_active_hooks",
    "no_team",
    "team_disabled",
    "invalid_token",
    "user_not_found",
    "WorkflowTriggerIsNotEnabled",
];

/// How a channel is spoken to.
#[derive(Debug)]
pub enum Messenger {
    /// An incoming webhook of Slack.
    Slack,
    /// A workflow of Microsoft Teams.
    Teams,
    /// Any receiver of CloudEvents, signed as Standard Webhooks.
    Webhook(Box<WebhookKey>),
}

/// A channel.
pub struct Channel {
    name: Arc<str>,
    messenger: Messenger,
    receiver: Receiver,
    filter: Filter,
    picks: Picks,
    gates: Arc<Gates>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({}, {:?}, {:?})", self.name, self.messenger, self.receiver)
    }
}

impl Channel {
    /// A channel of that name; requests and grants are looked up with `gates`.
    #[must_use]
    pub fn new(
        name: Arc<str>,
        messenger: Messenger,
        receiver: Receiver,
        filter: Filter,
        gates: Arc<Gates>,
    ) -> Self {
        let picks = filter.picks();
        Self { name, messenger, receiver, filter, picks, gates }
    }

    /// What there is to tell of a record, if this channel wants to hear it.
    async fn notice(&self, record: &Exported) -> Option<Notice> {
        let told = self.filter.wants(own(record, "event")?)?;
        // Whoever is not reached is not told that: by the time they hear it they are.
        if own(record, "sink") == Some(&*self.name) {
            return None;
        }
        let approvals = self.gates.approvals();
        let found = found(approvals, record, told).await;
        if !self.filter.is_of(record, told, &found) {
            return None;
        }
        let console = approvals.console();
        let console = console.as_ref().map(|url| url.as_str());
        let notice = Notice::of(record, told, &found, console, self.receiver.now());
        if notice.is_none() {
            counter!("amlgate_notices_stale_total", "channel" => self.name.to_string()).increment(1);
        }
        notice
    }

    async fn tell(&self, record: &Exported, notice: &Notice) -> Result<(), Undelivered> {
        let json = |message: serde_json::Value| Bytes::from(message.to_string());
        let (headers, body) = match &self.messenger {
            Messenger::Slack => (plain_headers(), json(slack(notice))),
            Messenger::Teams => (plain_headers(), json(teams(notice))),
            Messenger::Webhook(key) => {
                let body = data::event(record, notice);
                let leaf: String = record.leaf.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
                (key.headers(&format!("msg_{leaf}"), self.receiver.now(), EVENT, &body), body)
            }
        };
        match self.receiver.post(headers, body).await {
            Ok(_) => {
                counter!("amlgate_notices_total", "channel" => self.name.to_string(), "event" => notice.told.name)
                    .increment(1);
                Ok(())
            }
            Err(Undelivered::Refused { why }) if OF_THE_HOOK.iter().any(|word| why.contains(word)) => {
                Err(Undelivered::later(why))
            }
            Err(error @ (Undelivered::Refused { .. } | Undelivered::Later { .. })) => Err(error),
        }
    }
}

fn plain_headers() -> HeaderMap {
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    HeaderMap::from_iter([(header::CONTENT_TYPE, kind)])
}

/// The request or the grant that a record is about. A store that cannot be asked keeps no message
/// back: it then says what the record says.
async fn found(approvals: &Approvals, record: &Exported, told: &Told) -> Found {
    let found = match (told.about, own(record, "request"), own(record, "grant")) {
        (About::Request, Some(id), _) => {
            approvals.request(id).await.map(|found| found.map(|request| Found::Request(request.into())))
        }
        (About::Grant, _, Some(id)) => {
            approvals.grant(id).await.map(|found| found.map(|grant| Found::Grant(grant.into())))
        }
        (About::Request | About::Grant | About::Record, _, _) => return Found::Nothing,
    };
    match found {
        Ok(found) => found.unwrap_or(Found::Nothing),
        Err(error) => {
            tracing::warn!(%error, "what a message is about cannot be looked up");
            Found::Unknown
        }
    }
}

impl Filter {
    /// Whether an event is of an entry and for approvers that are wanted; where that is not known, it
    /// is told rather than left out.
    fn is_of(&self, record: &Exported, told: &Told, found: &Found) -> bool {
        if told.about == About::Record {
            return true;
        }
        let entry = own(record, "entry");
        let entries = self.entries.is_empty() || self.entries.iter().any(|name| Some(&**name) == entry);
        let approvers = match found {
            Found::Request(request) if !self.approvers.is_empty() => self.can_approve(request),
            Found::Request(_) | Found::Grant(_) | Found::Nothing | Found::Unknown => true,
        };
        entries && approvers
    }

    fn can_approve(&self, request: &Request) -> bool {
        let wanted = |by: &Approvers| {
            let name = match by {
                Approvers::Human => "human",
                Approvers::Subject { name, .. } => name,
                // Channels are for subjects.
                Approvers::GerritGroup { .. } => return false,
            };
            self.approvers.iter().any(|wanted| **wanted == *name)
        };
        request.asked.demands.iter().any(wanted)
    }
}

impl Sink for Channel {
    fn limits(&self) -> BatchLimits {
        BatchLimits { records: 1, bytes: 64 << 10 }
    }

    fn picks(&self) -> Option<Picks> {
        Some(Arc::clone(&self.picks))
    }

    fn deliver<'a>(&'a mut self, batch: &'a [Exported]) -> Pending<'a, Result<Delivered, Undelivered>> {
        Box::pin(async move {
            let Some(record) = batch.first() else { return Ok(Delivered::default()) };
            if let Some(notice) = self.notice(record).await {
                self.tell(record, &notice).await?;
            }
            Ok(Delivered { taken: 1, refused: Vec::new() })
        })
    }

    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(async move {
            // Whatever is answered: there is somebody, and TLS believes them. A message would be seen.
            self.receiver.ask(Method::OPTIONS, HeaderMap::new(), Bytes::new()).await?;
            Ok(format!("`{}` answers; no message was sent", self.receiver.name()))
        })
    }
}
