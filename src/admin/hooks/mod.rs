//! What others tell the gate without being asked: `/hooks/KIND/NAME/SECRET`.
//!
//! Nobody signs in here. Whoever knows the path, and comes from where they should, is heard at once and
//! believed in nothing: what they say is where something may have happened, and the gate looks for itself.
//! So whatever is wrong about a hook, a stranger who found its path included, costs some questions that
//! would have been asked anyhow.

mod azure;
mod doors;
mod gerrit;

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{Extensions, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use http_body_util::{BodyExt as _, Limited};

use self::doors::{Door, Knock, PER_MINUTE, Taken, nobody};
pub use self::doors::{DoorSettings, sha256};
use super::{
    api::{Api, Peer},
    serve::Certified,
};
use crate::store::RegistrationRow;

/// Who tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Gerrit's webhooks plugin.
    Gerrit,
    /// Azure's Event Grid.
    Azure,
}

impl Kind {
    /// Its word in paths and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gerrit => "gerrit",
            Self::Azure => "azure",
        }
    }

    /// The largest body: what a Gerrit says is short, Event Grid delivers up to a mebibyte.
    const fn largest(self) -> usize {
        match self {
            Self::Gerrit => 256 << 10,
            Self::Azure => 1 << 20,
        }
    }
}

type Doors = BTreeMap<(Kind, Arc<str>), Arc<Door>>;

/// The doors that there are. One for the whole process.
#[derive(Default)]
pub struct Hooks {
    doors: ArcSwap<Doors>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hooks({:?})", self.doors.load())
    }
}

impl Hooks {
    /// These doors from here on, by who knocks there and the name in the configuration.
    pub fn open(&self, doors: impl IntoIterator<Item = (Kind, Arc<str>, DoorSettings)>) {
        let doors =
            doors.into_iter().map(|(kind, name, settings)| ((kind, name), Arc::new(Door::new(settings))));
        self.doors.store(Arc::new(doors.collect()));
    }

    /// The door of a name.
    fn door(&self, kind: Kind, name: &str) -> Option<Arc<Door>> {
        self.doors.load().get(&(kind, Arc::from(name))).cloned()
    }
}

/// Somebody who was let in, with all that they said.
struct Heard {
    door: Arc<Door>,
    body: Bytes,
}

impl Api {
    /// Lets somebody in.
    fn let_in(
        &self,
        kind: Kind,
        (name, secret): (&str, &str),
        peer: Peer,
        extensions: &Extensions,
    ) -> Result<Arc<Door>, StatusCode> {
        let certified = extensions.get::<Certified>().is_some();
        let knock = Knock { secret, from: peer.0.ip(), certified };
        let door = self.hooks.door(kind, name);
        let door = door.ok_or_else(|| nobody(&knock)).and_then(|door| door.lets_in(&knock).map(|()| door));
        door.map_err(|turned| {
            self.journal.refused(peer.0.ip(), turned.reason());
            count(kind, "refused");
            StatusCode::NOT_FOUND
        })
    }

    /// Lets somebody in and hears what they say.
    async fn heard(
        &self,
        kind: Kind,
        path: (&str, &str),
        peer: Peer,
        request: Request,
    ) -> Result<Heard, Response> {
        let door = self
            .let_in(kind, path, peer, request.extensions())
            .map_err(axum::response::IntoResponse::into_response)?;
        let body = Limited::new(request.into_body(), kind.largest()).collect().await;
        let Ok(body) = body else {
            count(kind, "unreadable");
            let said = format!("a body has at most {} KiB", kind.largest() >> 10);
            return Err((StatusCode::PAYLOAD_TOO_LARGE, said).into_response());
        };
        let body = body.to_bytes();
        match door.takes(&body, self.clock.now()) {
            Taken::Fresh => Ok(Heard { door, body }),
            Taken::Again => {
                count(kind, "again");
                Err(StatusCode::ACCEPTED.into_response())
            }
            Taken::TooMuch(wait) => {
                count(kind, "too_much");
                let wait = HeaderValue::from(wait.as_secs().max(1));
                Err((StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, wait)], Body::empty())
                    .into_response())
            }
        }
    }
}

fn count(kind: Kind, outcome: &'static str) {
    metrics::counter!("amlgate_hooks_total", "kind" => kind.name(), "outcome" => outcome).increment(1);
}

/// The doors of all kinds; each is there whether or not anybody may knock.
pub(super) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/hooks/gerrit/{name}/{secret}", post(from_gerrit))
        .route("/hooks/azure/{name}/{secret}", post(from_azure).options(asks_whether))
        .with_state(api)
}

async fn from_gerrit(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Path((name, secret)): Path<(String, String)>,
    request: Request,
) -> Response {
    let heard = match api.heard(Kind::Gerrit, (&name, &secret), peer, request).await {
        Ok(heard) => heard,
        Err(answer) => return answer,
    };
    match gerrit::projects(&heard.body) {
        Ok(projects) => {
            let waited = projects.iter().filter(|project| api.gates.hints().give(&name, project)).count();
            count(Kind::Gerrit, if waited > 0 { "hint" } else { "nothing" });
            StatusCode::ACCEPTED.into_response()
        }
        Err(why) => {
            heard.door.forgets(&heard.body);
            count(Kind::Gerrit, "unreadable");
            (StatusCode::BAD_REQUEST, why).into_response()
        }
    }
}

/// The handshake of CloudEvents (HTTP 1.1 Web Hooks, 4): whoever knows the path may send, and no faster
/// than is taken.
async fn asks_whether(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Path((name, secret)): Path<(String, String)>,
    request: Request,
) -> Response {
    if let Err(answer) = api.let_in(Kind::Azure, (&name, &secret), peer, request.extensions()) {
        return answer.into_response();
    }
    let asked = request.headers().get("webhook-request-origin").and_then(|origin| origin.to_str().ok());
    let allowed = asked.and_then(azure::origin).and_then(|origin| HeaderValue::from_str(origin).ok());
    let Some(allowed) = allowed else {
        return (StatusCode::BAD_REQUEST, "`WebHook-Request-Origin` names who would send").into_response();
    };
    count(Kind::Azure, "validation");
    [("webhook-allowed-origin", allowed), ("webhook-allowed-rate", HeaderValue::from(PER_MINUTE))]
        .into_response()
}

async fn from_azure(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Path((name, secret)): Path<(String, String)>,
    request: Request,
) -> Response {
    let Heard { door, body } = match api.heard(Kind::Azure, (&name, &secret), peer, request).await {
        Ok(heard) => heard,
        Err(answer) => return answer,
    };
    let delivery = match azure::read(&body) {
        Ok(delivery) => delivery,
        Err(why) => {
            door.forgets(&body);
            count(Kind::Azure, "unreadable");
            return (StatusCode::BAD_REQUEST, why).into_response();
        }
    };
    if let Some(code) = &delivery.validation {
        // Whoever validates once more is answered once more.
        door.forgets(&body);
        count(Kind::Azure, "validation");
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        return (json, azure::validated(code)).into_response();
    }
    let now = api.clock.now();
    let told = delivery.registered.len();
    for azure::Registered { model, event, happened } in delivery.registered {
        let row = RegistrationRow {
            model: model.folded().to_owned(),
            named: model.as_str().to_owned(),
            resource: model.arm().map(ToString::to_string).unwrap_or_default(),
            hook: name.clone(),
            event,
            happened: happened.unwrap_or(now).min(now),
            due: now.plus(door.grace()),
        };
        if let Err(error) = api.gates.registrations().registered(row).await {
            // It is told again: Event Grid tries for a day.
            door.forgets(&body);
            count(Kind::Azure, "unkept");
            tracing::warn!(%error, hook = name, "a registration that Event Grid tells of cannot be kept");
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    }
    if delivery.completed || told > 0 {
        api.gates.registrations().hint();
    }
    count(Kind::Azure, if delivery.completed || told > 0 { "hint" } else { "nothing" });
    StatusCode::ACCEPTED.into_response()
}
