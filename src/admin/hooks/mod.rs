//! What others tell the gate without being asked: `/hooks/KIND/NAME/SECRET`.
//!
//! Nobody signs in here. Whoever knows the path, and comes from where they should, is heard at once and
//! believed in nothing: what they say is where something may have happened, and the gate looks for itself.
//! So whatever is wrong about a hook, a stranger who found its path included, costs some questions that
//! would have been asked anyhow.

mod doors;
mod gerrit;

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use http_body_util::{BodyExt as _, Limited};

use self::doors::{Door, Knock, Taken, nobody};
pub use self::doors::{DoorSettings, sha256};
use super::{
    api::{Api, Peer},
    serve::Certified,
};

/// The largest body.
const MAX_BODY: usize = 256 << 10;

/// Who tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Gerrit's webhooks plugin.
    Gerrit,
}

impl Kind {
    /// Its word in paths and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gerrit => "gerrit",
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
    /// Lets somebody in and hears what they say.
    async fn heard(
        &self,
        kind: Kind,
        (name, secret): (&str, &str),
        peer: Peer,
        request: Request,
    ) -> Result<Heard, Response> {
        let certified = request.extensions().get::<Certified>().is_some();
        let knock = Knock { secret, from: peer.0.ip(), certified };
        let door = self.hooks.door(kind, name);
        let door = door.ok_or_else(|| nobody(&knock)).and_then(|door| door.lets_in(&knock).map(|()| door));
        let door = match door {
            Ok(door) => door,
            Err(turned) => {
                self.journal.refused(peer.0.ip(), turned.reason());
                count(kind, "refused");
                return Err(StatusCode::NOT_FOUND.into_response());
            }
        };
        let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
        let Ok(body) = body else {
            count(kind, "unreadable");
            let said = format!("a body has at most {} KiB", MAX_BODY >> 10);
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
    Router::new().route("/hooks/gerrit/{name}/{secret}", post(from_gerrit)).with_state(api)
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
