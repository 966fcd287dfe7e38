//! `/api/v1/break-glass/codes`, `/offline` and `/{id}/confirm-offline`: codes for whoever is on call,
//! and what they do while the identity provider is down.
//!
//! A code is shown like a bearer token and taken nowhere else. Its holder is judged under the same
//! actions as whoever opens or confirms with a token, and by the same rules. What it brings is a token
//! of the gate's own that identifies the opener while the break-glass is open. Each attempt is
//! recorded; of those that are not accepted it is not said why.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Request as Call, State as Shared},
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    Asked, BreakGlassView, CONFIRMING, ID, MAX_BODY, Noted, OPENING, UNKNOWN, UNMOVED, Wanted, not_changed,
    not_opened, not_yours, recorded, shown, shut,
};
use crate::{
    admin::api::{
        Api, Peer,
        call::{Allowed, Named, Refused, Said, json_of},
        changes::{to_its_end, unavailable, unrecorded},
        openapi::{Answer, Body, Operation},
    },
    audit::event::Event,
    azureml::Kind,
    gates::break_glass::{
        BreakGlass, State,
        codes::{Attempt, MOST_CODES, NoCodes, NotRedeemed, USUAL_CODES},
    },
    identity::{KeptCode, NoCode, Principal, Standing, bearer},
    policy::DenialCode,
    time::Timestamp,
};

const READING: &str = "amlgate/break-glass/codes/read";
const MAKING: &str = "amlgate/break-glass/codes/write";
/// Whom a code identifies is so for as long as it takes to do what they ask for with it.
const AT_HAND: Duration = Duration::from_secs(60);

const NOT_CONFIGURED: (StatusCode, &str) = (
    StatusCode::NOT_IMPLEMENTED,
    "The configuration has no `break_glass`, or lets the gate give out no tokens.",
);

pub const LEFT: Operation = Operation {
    problems: &[NOT_CONFIGURED],
    ..Operation::judged(
        "readBreakGlassCodes",
        "How many codes the caller has left",
        &[READING],
        &[Answer::json::<CodesLeft>(StatusCode::OK, "How many, and until when.")],
    )
};

pub const CODES: Operation = Operation {
    about: "For whoever `break_glass.who` or `by` of the configuration names, in place of the codes that they have \
            not spent. Each says who they are for one break-glass while the identity provider is down, counts for \
            30 days, and is shown in this answer and never again.",
    body: Some(Body::json::<Making>(MAX_BODY)),
    problems: &[NOT_CONFIGURED],
    ..Operation::judged(
        "makeBreakGlassCodes",
        "Makes codes that break the glass without the identity provider",
        &[MAKING],
        &[Answer::json::<NewCodes>(StatusCode::CREATED, "The codes.")],
    )
};

pub const OPEN_BY_CODE: Operation = Operation {
    about: "The bearer token is a code instead of a token. It opens the glass under the same rules as with a token, \
            or finds the one that its holder has broken already (429 if too many were tried lately), and brings a token of the gate that identifies \
            them while that one is open and not longer.",
    body: Some(Body::json::<Asked>(MAX_BODY)),
    problems: &[
        (StatusCode::CONFLICT, "The one before is not over, or its review is not closed."),
        NOT_CONFIGURED,
    ],
    ..Operation::judged(
        "openBreakGlassOffline",
        "Breaks the glass with a code",
        &[OPENING],
        &[Answer::json::<Opened>(StatusCode::CREATED, "It is open, or waits for others.")],
    )
};

pub const CONFIRM_BY_CODE: Operation = Operation {
    about: "The bearer token is a code of the caller's own instead of a token; it does nothing besides.",
    parameters: &[ID],
    body: Some(Body::json::<Noted>(MAX_BODY)),
    problems: &[UNKNOWN, UNMOVED, NOT_CONFIGURED],
    ..Operation::judged(
        "confirmBreakGlassOffline",
        "Says yes to another's with a code",
        &[CONFIRMING],
        &[Answer::json::<BreakGlassView>(StatusCode::OK, "It, as it is now.")],
    )
};

/// How many codes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MakeBreakGlassCodes")]
struct Making {
    /// So many; five, if it is not said.
    #[schemars(range(min = 1, max = MOST_CODES))]
    count: Option<u32>,
}

/// Codes that were made.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NewBreakGlassCodes")]
struct NewCodes {
    /// The codes, each good once. Nobody can show them again.
    codes: Vec<String>,
    /// Until when they count.
    #[schemars(extend("format" = "date-time"))]
    expires: String,
}

/// Codes that are left.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BreakGlassCodesLeft")]
struct CodesLeft {
    /// How many.
    left: usize,
    /// Until when they count; null if there is none.
    #[schemars(extend("format" = "date-time"))]
    expires: Option<String>,
}

/// What a code brings.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OpenedOffline")]
struct Opened {
    /// What is open, or waits for others.
    break_glass: BreakGlassView,
    /// Says who the caller is while it is open.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds, at most.
    expires_in: u64,
}

fn not_configured(why: impl Into<String>) -> Refused {
    Refused::new(StatusCode::NOT_IMPLEMENTED, Said::NotConfigured, why)
}

fn no_codes(error: &NoCodes) -> Refused {
    match error {
        NoCodes::NotConfigured => not_configured(error.to_string()),
        NoCodes::NotAPerson | NoCodes::NotYou => not_yours(error.to_string()),
        NoCodes::Store(error) => unavailable(error),
    }
}

pub(in crate::admin::api) async fn left(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    call: Call,
) -> Response {
    let (head, _) = call.into_parts();
    let (allowed, principal) = match api.at_the_glass(&head, peer, READING, Kind::Read).await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    let policies = api.policies.current();
    match api.gates.break_glass().codes_left(&policies, &principal).await {
        Ok(left) => {
            let expires = left.first().copied().map(Timestamp::to_rfc3339);
            allowed.answer(StatusCode::OK, &CodesLeft { left: left.len(), expires })
        }
        Err(error) => allowed.refuse(no_codes(&error)),
    }
}

pub(in crate::admin::api) async fn codes(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    call: Call,
) -> Response {
    let (head, body) = call.into_parts();
    let (allowed, principal) = match api.at_the_glass(&head, peer, MAKING, Kind::Write).await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    let made = async {
        let Making { count } = json_of(&head, body, MAX_BODY).await?;
        let api = Arc::clone(&api);
        to_its_end(async move { made(&api, &principal, peer, count.unwrap_or(USUAL_CODES)).await }).await
    };
    match made.await {
        Ok(answer) => allowed.answer(StatusCode::CREATED, &answer),
        Err(refused) => allowed.refuse(refused),
    }
}

async fn made(api: &Api, principal: &Principal, peer: Peer, count: u32) -> Result<NewCodes, Refused> {
    if !(1..=MOST_CODES).contains(&count) {
        return Err(Refused::malformed(format!("`count` is 1 to {MOST_CODES}")));
    }
    let (policies, glass) = (api.policies.current(), api.gates.break_glass());
    // Who may have none learns that, and not what their token lacks.
    glass.codes_left(&policies, principal).await.map_err(|error| no_codes(&error))?;
    let mut codes = Vec::new();
    let mut kept = Vec::new();
    for _ in 0..count {
        let (code, what) = api.verifier.code_for(principal).map_err(|why| match why {
            NoCode::Unsigned => not_configured(why.to_string()),
            NoCode::NoClaims => Refused::malformed(why.to_string()),
            NoCode::Random => Refused::unavailable(why.to_string()),
        })?;
        codes.push(code);
        kept.push(what);
    }
    let expires = glass.keep_codes(&policies, principal, kept).await.map_err(|error| no_codes(&error))?;
    let holder = principal.id.to_string();
    let (peer, count, until) = (peer.0.ip(), u64::from(count), expires.as_millis());
    // Codes that nobody was shown are worth nothing.
    let event = Event::BreakGlassCodes { holder, peer, count, until };
    api.journal.happened(&event).await.map_err(|_| unrecorded())?;
    metrics::counter!("amlgate_break_glass_total", "what" => "codes_made").increment(1);
    let codes = codes.iter().map(|code| code.expose_secret().to_owned()).collect();
    Ok(NewCodes { codes, expires: expires.to_rfc3339() })
}

pub(in crate::admin::api) async fn open_by_code(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    call: Call,
) -> Response {
    let (head, body) = call.into_parts();
    let (allowed, by) = match api.with_code(&head, peer, OPENING).await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    let opened = async {
        let wanted = json_of::<Asked>(&head, body, MAX_BODY).await?.wanted();
        let api = Arc::clone(&api);
        to_its_end(async move { opened(&api, &by, wanted).await }).await
    };
    match opened.await {
        Ok(answer) => allowed.answer(StatusCode::CREATED, &answer),
        Err(refused) => allowed.refuse(refused),
    }
}

async fn opened(api: &Api, by: &ByCode, wanted: Wanted) -> Result<Opened, Refused> {
    api.let_time_pass().await?;
    let (policies, glass) = (api.policies.current(), api.gates.break_glass());
    let opened = glass.open_by_code(&policies, &by.holder, &by.code, wanted).await;
    let (glass, became) = match opened {
        Ok(opened) => opened,
        Err(error) => return Err(by.did_nothing(api, &error).await),
    };
    if let Err(refused) = by.spent(api, &glass).await {
        // What is not in the record is not open.
        if became.is_some() {
            shut(api, &policies, &glass, &by.holder).await;
        }
        return Err(refused);
    }
    if let Some(became) = became {
        recorded(api, &policies, &glass, became, &by.holder).await?;
    }
    let now = api.clock.now();
    let until = match glass.state_at(now) {
        // Nobody knows yet when others will have said yes.
        State::Asked => glass.due.plus(Duration::from_secs(glass.asked.seconds)),
        State::Open | State::Over | State::Reviewed | State::Dropped => glass.due,
    };
    let token = api.verifier.offline_token(&by.holder, &glass.id, until);
    let token = token.map_err(|why| Refused::unavailable(why.to_string()))?;
    Ok(Opened {
        break_glass: shown::one(&glass, &by.holder, &policies, now),
        access_token: token.token,
        token_type: "Bearer",
        expires_in: token.life.as_secs(),
    })
}

pub(in crate::admin::api) async fn confirm_by_code(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Named(id): Named,
    call: Call,
) -> Response {
    let (head, body) = call.into_parts();
    let (allowed, by) = match api.with_code(&head, peer, CONFIRMING).await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    let confirmed = async {
        let Noted { note } = json_of(&head, body, MAX_BODY).await?;
        let api = Arc::clone(&api);
        to_its_end(async move { confirmed(&api, &by, &id, note).await }).await
    };
    match confirmed.await {
        Ok(answer) => allowed.answer(StatusCode::OK, &answer),
        Err(refused) => allowed.refuse(refused),
    }
}

async fn confirmed(
    api: &Api,
    by: &ByCode,
    id: &str,
    note: Option<String>,
) -> Result<BreakGlassView, Refused> {
    api.let_time_pass().await?;
    let (policies, glass) = (api.policies.current(), api.gates.break_glass());
    let confirmed = glass.confirm_by_code(&policies, &by.holder, &by.code, id, note).await;
    let (glass, became) = match confirmed {
        Ok(confirmed) => confirmed,
        Err(error) => return Err(by.did_nothing(api, &error).await),
    };
    let kept = by.spent(api, &glass).await;
    if kept.is_err() && glass.state == State::Open {
        shut(api, &policies, &glass, &by.holder).await;
    }
    kept?;
    recorded(api, &policies, &glass, became, &by.holder).await?;
    Ok(shown::one(&glass, &by.holder, &policies, api.clock.now()))
}

/// Somebody who came with a code.
struct ByCode {
    holder: Principal,
    code: KeptCode,
    peer: Peer,
}

impl ByCode {
    /// Records that the code was spent.
    async fn spent(&self, api: &Api, glass: &BreakGlass) -> Result<(), Refused> {
        tracing::error!(holder = %self.holder.id, id = glass.id, "a sealed code was used for a break-glass");
        metrics::counter!("amlgate_break_glass_total", "what" => "code_used").increment(1);
        let (holder, peer) = (Some(self.holder.id.to_string()), self.peer.0.ip());
        let event = Event::BreakGlassCode { holder, peer, glass: Some(glass.id.clone()), why: None };
        api.journal.happened(&event).await.map_err(|_| unrecorded())
    }

    /// Records that it did nothing.
    async fn did_nothing(&self, api: &Api, error: &NotRedeemed) -> Refused {
        let (refused, why) = match error {
            NotRedeemed::NotAccepted => (not_accepted(), "not_accepted"),
            NotRedeemed::NotOpened(error) => (not_opened(error), error.name()),
            NotRedeemed::NotChanged(error) => (not_changed(error), "not_confirmed"),
        };
        let holder = Some(self.holder.id.to_string());
        match said(api, self.peer, holder, why).await {
            Ok(()) => refused,
            Err(unrecorded) => unrecorded,
        }
    }
}

fn not_accepted() -> Refused {
    Refused::nobody("the code is not accepted")
}

/// Records an attempt that came to nothing, so that everybody hears of it.
async fn said(api: &Api, peer: Peer, holder: Option<String>, why: &'static str) -> Result<(), Refused> {
    tracing::warn!(holder, why, "a code for a break-glass did nothing");
    metrics::counter!("amlgate_break_glass_total", "what" => "code_refused").increment(1);
    let event = Event::BreakGlassCode { holder, peer: peer.0.ip(), glass: None, why: Some(why) };
    api.journal.happened(&event).await.map_err(|_| unrecorded())
}

impl Api {
    /// Whose code the call shows, if they may do `action`: judged as if they came with a token.
    async fn with_code(
        &self,
        head: &Parts,
        peer: Peer,
        action: &'static str,
    ) -> Result<(Allowed, ByCode), Refused> {
        let code = match bearer::of(&head.headers) {
            Ok(code) => SecretString::from(code),
            Err(why) => {
                self.journal.refused(peer.0.ip(), why.name());
                return Err(Refused::nobody(
                    "the request carries no code as its bearer token, or more than one",
                ));
            }
        };
        let glass = self.gates.break_glass();
        if self.verifier.own().is_none() || !glass.is_configured() {
            return Err(not_configured(NOT_CONFIGURED.1));
        }
        let attempt = glass.attempt(peer.0.ip());
        if attempt == Attempt::TooMany {
            self.journal.refused(peer.0.ip(), "offline_code_limit");
            let said = Said::Denied(DenialCode::LimitExceeded);
            let why = "too many codes were tried: wait for a minute";
            let refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, said, why);
            return Err(Refused { retry_after: Some(60), ..refused });
        }
        let (holder, code) = match self.of_code(&code).await {
            Ok(found) => found,
            Err(refused) if refused.status.is_server_error() => return Err(refused),
            Err(refused) => {
                match attempt {
                    Attempt::Loud => said(self, peer, None, "not_accepted").await?,
                    // Counted in one record of a minute.
                    Attempt::Quiet | Attempt::TooMany => {
                        self.journal.refused(peer.0.ip(), "offline_code");
                    }
                }
                return Err(refused);
            }
        };
        let allowed = self.allowed(head, peer, holder.clone(), action, Kind::Action).await?;
        Ok((allowed, ByCode { holder, code, peer }))
    }

    /// Whose code it is, if it is accepted and they are not revoked.
    async fn of_code(&self, typed: &SecretString) -> Result<(Principal, KeptCode), Refused> {
        let tags = self.verifier.tags_of_code(typed.expose_secret());
        let code = self.gates.break_glass().code(&tags).await.map_err(|error| match error {
            NotRedeemed::NotAccepted => not_accepted(),
            NotRedeemed::NotOpened(error) => not_opened(&error),
            NotRedeemed::NotChanged(error) => not_changed(&error),
        })?;
        let now = self.clock.now();
        let holder = self.verifier.holder_of_code(&code, now.plus(AT_HAND)).map_err(|why| {
            tracing::warn!(%why, "a code that is kept is not accepted");
            not_accepted()
        })?;
        match self.verifier.revoked().standing(&holder, now) {
            Standing::Stands => Ok((holder, code)),
            Standing::Revoked => Err(not_accepted()),
            Standing::Unknown => Err(Refused::unavailable("revocations cannot be read now")),
        }
    }
}
