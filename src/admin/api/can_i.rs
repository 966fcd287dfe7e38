//! `POST /api/v1/can-i` and `POST /api/v1/can-i/list`: what the caller may do, judged now as their
//! request would be, from where they ask.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use axum::{
    Extension,
    extract::{Request, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Api, Peer,
    call::{Allowed, Refused, json_of},
    openapi::{self, Body, Operation},
};
use crate::{
    azureml::{self, Kind, ResourceId},
    identity::{Caller, Principal},
    policy::{
        Azure, PolicySet,
        described::{Described, DescribedAct, NoQuestion},
        may::{self, Answer, Line},
    },
};

/// What this is called in policies and in the record.
const ACTION: &str = "amlgate/can-i/read";
/// The largest question, in bytes: an action and an ARM id.
const MAX_QUESTION: usize = 8 << 10;
/// The most scopes at which everything is listed at once.
const MAX_SCOPES: usize = 256;
/// How many actions are judged before others have their turn.
const BETWEEN: usize = 64;
/// Lists of everything at the same time: each takes a core for as long as it lasts.
pub const LISTS: usize = 2;

/// Something that is still to come.
pub type Coming<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A question and the answer that comes.
pub type Asking<Q, A> = Box<dyn Fn(Q) -> Coming<A> + Send + Sync>;

/// A caller, and the groups about which something is to be said.
pub type OfGroups = (Principal, Arc<[Box<str>]>);

/// What is said of callers elsewhere. The gate's parts in force find it as they do for requests; this
/// room does not know them.
pub struct Elsewhere {
    /// The caller with what Microsoft Graph says of these groups.
    pub groups: Asking<OfGroups, Principal>,
    /// What Azure lets a caller do at these scopes.
    pub rights: Asking<(Caller, Vec<ResourceId>), Azure>,
    /// The route by which requests for Resource Manager come.
    pub route: Box<dyn Fn() -> Arc<str> + Send + Sync>,
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}

pub(super) const ONE: Operation = Operation {
    body: Some(Body::json::<Asked>(MAX_QUESTION)),
    ..Operation::judged(
        "canI",
        "Whether the caller may do something, and by which entry or why not",
        &[ACTION],
        &[openapi::Answer::json::<Answer>(StatusCode::OK, "The decision, as a request's would be.")],
    )
};

pub(super) const LIST: Operation = Operation {
    about: "Everything at a scope, or at the scopes that entries name, if these are at most 256.",
    body: Some(Body::json::<Listed>(MAX_QUESTION)),
    ..Operation::judged(
        "canIList",
        "Everything that the caller may do",
        &[ACTION],
        &[openapi::Answer::json::<Can>(StatusCode::OK, "What they may do, line by line.")],
    )
};

/// May I do this?
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CanIQuestion")]
struct Asked {
    /// The Azure action.
    action: String,
    /// The ARM id of what it is done to.
    scope: String,
}

/// What may I do?
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CanIListQuestion")]
struct Listed {
    /// Where; the scopes that entries name, if it is not given.
    scope: Option<String>,
}

/// What somebody may do.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CanIList")]
struct Can {
    /// Action by action, and scope by scope.
    can: Vec<Line>,
}

pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (allowed, asker, asked) = match begun::<Asked>(&api, peer, request).await {
        Ok(begun) => begun,
        Err(refused) => return *refused,
    };
    match asker.answer(&asked.action, &asked.scope).await {
        Ok(answer) => allowed.answer(StatusCode::OK, &answer),
        Err(none) => allowed.refuse(none.into()),
    }
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (allowed, asker, asked) = match begun::<Listed>(&api, peer, request).await {
        Ok(begun) => begun,
        Err(refused) => return *refused,
    };
    match asker.list(asked.scope).await {
        Ok(lines) => allowed.answer(StatusCode::OK, &Can { can: lines }),
        Err(refused) => allowed.refuse(refused),
    }
}

/// Who asks, if they may, and their question.
async fn begun<Q: DeserializeOwned>(
    api: &Arc<Api>,
    peer: Peer,
    request: Request,
) -> Result<(Allowed, Asker, Q), Box<Response>> {
    let (head, body) = request.into_parts();
    let (allowed, asker) =
        entered(api, &head, peer).await.map_err(|refused| Box::new(refused.into_response()))?;
    match json_of(&head, body, MAX_QUESTION).await {
        Ok(question) => Ok((allowed, asker, question)),
        Err(refused) => Err(Box::new(allowed.refuse(refused))),
    }
}

async fn entered(api: &Arc<Api>, head: &Parts, peer: Peer) -> Result<(Allowed, Asker), Refused> {
    let principal = api.caller(&head.headers, peer).await?;
    Asker::of(api, head, peer, principal).await
}

impl From<NoQuestion> for Refused {
    fn from(none: NoQuestion) -> Self {
        Self::malformed(none.to_string())
    }
}

/// Somebody who asks.
pub(in crate::admin) struct Asker {
    api: Arc<Api>,
    pub set: Arc<PolicySet>,
    caller: Caller,
    peer: Peer,
}

impl Asker {
    /// Lets somebody ask what they may do, if they may ask that.
    pub async fn of(
        api: &Arc<Api>,
        head: &Parts,
        peer: Peer,
        principal: Principal,
    ) -> Result<(Allowed, Self), Refused> {
        let set = api.policies.current();
        let principal = match set.groups_to_ask(&principal) {
            None => principal,
            Some(about) => (api.elsewhere.groups)((principal, about)).await,
        };
        let caller = Caller::clone(&principal);
        let allowed = api.allowed(head, peer, principal, ACTION, Kind::Read).await?;
        Ok((allowed, Self { api: Arc::clone(api), set, caller, peer }))
    }

    /// Whether they may do `action` at `scope`, in the words of a refusal.
    pub async fn answer(&self, action: &str, scope: &str) -> Result<Answer, NoQuestion> {
        Ok(Answer::of(&self.set, &self.ask(action, scope).await?))
    }

    /// The question whether they may do `action` at `scope`, with what Azure says of them.
    async fn ask(&self, action: &str, scope: &str) -> Result<Described, NoQuestion> {
        let elsewhere = &self.api.elsewhere;
        let route = (elsewhere.route)();
        let words = DescribedAct {
            action,
            resource: scope,
            route: &route,
            from: self.peer.0,
            at: self.api.clock.now(),
        };
        let glass = self.api.gates.break_glass().under(&self.set, &self.caller, words.at);
        let described = Described::act(self.caller.clone(), &words)?.under(glass);
        match described.azure_scopes(&self.set) {
            none if none.is_empty() => Ok(described),
            scopes => {
                let azure = (elsewhere.rights)((self.caller.clone(), scopes)).await;
                Ok(described.with_azure(azure))
            }
        }
    }

    /// Everything that they may do at a scope, or at those that entries name.
    pub async fn list(&self, scope: Option<String>) -> Result<Vec<Line>, Refused> {
        let scopes = scope.map_or_else(|| may::scopes(&self.set), |scope| vec![scope]);
        if scopes.len() > MAX_SCOPES {
            let why = format!("entries name {} scopes, more than {MAX_SCOPES}: ask by `scope`", scopes.len());
            return Err(Refused::malformed(why));
        }
        let _place = self.api.lists.acquire().await.map_err(|_| Refused::unavailable("the gate stops"))?;
        let mut lines = Vec::new();
        for scope in &scopes {
            for (number, action) in azureml::action::all().into_iter().enumerate() {
                // Others ask on this runtime, too.
                if number % BETWEEN == 0 {
                    tokio::task::yield_now().await;
                }
                let described = self.ask(action.as_str(), scope).await?;
                lines.extend(Line::of(&self.set, &described, action.as_str(), scope));
            }
        }
        Ok(lines)
    }
}
