//! `/api/v1`: authenticated by the same issuers as the data plane, judged by the same policies under
//! actions of the gate's own (`amlgate/...`), and recorded, reads included.
//!
//! Azure's roles grant none of these actions, `*` included: an entry names them under `actions`. Every
//! call goes the road of any request (caller, decision, gates, record) and only then does anything.
//! What changes something waits until its intent is durable. It does not serve pages.

pub(super) mod approvals;
mod bodies;
mod call;
mod can_i;
mod exchange;
mod policies;
mod record;
mod revocations;
mod routes;
mod whoami;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{delete, get, post},
};

pub use approvals::{of_grant, of_request};
pub use call::Peer;
pub(super) use call::{Allowed, Refused, Said};
pub(super) use can_i::Asker;
pub use can_i::{Asking, Coming, Elsewhere, LISTS, OfGroups};
pub(super) use policies::{ACTION as READ_POLICIES, Words};
pub use record::LogRead;
pub(super) use record::{ACTION as READ_RECORD, Asked, is_news};
pub(super) use routes::{ACTION as READ_ROUTES, Line};
pub use routes::{Doors, RouteView};
use tokio::sync::Semaphore;
use tower_http::csrf::CsrfLayer;

use super::{Health, console, sign_in};
use crate::{
    audit::Journal,
    gates::Gates,
    identity::{Verifier, dpop::Replays, sessions::Sessions},
    policy::LivePolicies,
    store::Store,
    time::SharedClock,
};

/// The largest body: a token in a form, with room for what percent encoding adds.
const MAX_BODY: usize = 256 << 10;

/// What the API works with: the gate's own parts, which outlive every reload.
#[derive(Debug)]
pub struct Api {
    /// Who callers are.
    pub verifier: Arc<Verifier>,
    /// What they may.
    pub policies: Arc<LivePolicies>,
    /// Obligations.
    pub gates: Arc<Gates>,
    /// The record.
    pub journal: Journal,
    /// What outlives requests, if the configuration names a store.
    pub store: Option<Store>,
    /// Browsers' sessions, where the configuration lets them sign in.
    pub sessions: Arc<ArcSwapOption<Sessions>>,
    /// Proofs of possession that were used to ask for tokens.
    pub proofs: Replays,
    /// What is said of callers elsewhere.
    pub elsewhere: Elsewhere,
    /// What is forwarded where.
    pub doors: Doors,
    /// What the gate needs, and how that does.
    pub health: Arc<Health>,
    /// Places for lists of everything that somebody may do.
    pub lists: Semaphore,
    /// The log that the record is read from.
    pub log: LogRead,
    /// Time.
    pub clock: SharedClock,
}

/// Routes of the API and of signing in, and the keys of what the gate signs. `origin` is the URL by
/// which browsers reach them: a POST that a page of another origin sent is refused.
pub fn router(api: Arc<Api>, origin: Option<&str>) -> Router {
    let own = CsrfLayer::new();
    // A URL that is no origin adds none: then the request's own host is compared alone.
    let csrf = origin
        .and_then(|origin| own.clone().add_trusted_origin(origin.trim_end_matches('/')).ok())
        .unwrap_or(own);
    Router::new()
        .route("/api/v1/whoami", get(whoami::whoami))
        .route("/api/v1/can-i", post(can_i::one))
        .route("/api/v1/can-i/list", post(can_i::list))
        .route("/api/v1/audit", get(record::read))
        .route("/api/v1/audit/{decision}/proof", get(record::proof))
        .route("/api/v1/policies", get(policies::list))
        .route("/api/v1/policies/why", post(policies::why))
        .route("/api/v1/routes", get(routes::list))
        .route("/api/v1/audit/bodies/{digest}", get(bodies::read))
        .route("/api/v1/token", post(exchange::exchange))
        .route("/api/v1/revocations", get(revocations::list).post(revocations::add))
        .route("/api/v1/revocations/{id}", delete(revocations::lift))
        .route("/api/v1/requests", get(approvals::list).post(approvals::ask))
        .route("/api/v1/requests/{id}", get(approvals::one))
        .route("/api/v1/requests/{id}/approve", post(approvals::approve))
        .route("/api/v1/requests/{id}/deny", post(approvals::deny))
        .route("/api/v1/requests/{id}/withdraw", post(approvals::withdraw))
        .route("/api/v1/grants", get(approvals::list_grants))
        .route("/api/v1/grants/{id}/revoke", post(approvals::revoke))
        .route("/.well-known/jwks.json", get(exchange::jwks))
        .route("/.well-known/openid-configuration", get(exchange::discovery))
        .route("/api/{*rest}", axum::routing::any(unknown))
        .with_state(Arc::clone(&api))
        .merge(sign_in::router(Arc::clone(&api)))
        .merge(console::router(api))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(csrf)
}

async fn unknown() -> Response {
    Refused::new(StatusCode::NOT_FOUND, Said::NotFound, "the API has nothing of this name").into_response()
}
