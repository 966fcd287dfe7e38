//! `/api/v1`: authenticated by the same issuers as the data plane, judged by the same policies under
//! actions of the gate's own (`amlgate/...`), and recorded, reads included.
//!
//! Azure's roles grant none of these actions, `*` included: an entry names them under `actions`. Every
//! call goes the road of any request (caller, decision, gates, record) and only then does anything.
//! What changes something waits until its intent is durable. It does not serve pages.

pub(super) mod approvals;
mod bodies;
pub(super) mod break_glass;
mod call;
mod can_i;
mod changes;
mod exchange;
mod lineage;
mod openapi;
mod pages;
mod policies;
mod record;
mod revocations;
mod routes;
mod table;
mod whoami;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::{Extension, Router, extract::DefaultBodyLimit};

pub use approvals::{of_grant, of_request};
pub use break_glass::of_break_glass;
pub use call::Peer;
pub(super) use call::{Allowed, Refused, Said};
pub(super) use can_i::Asker;
pub use can_i::{Asking, Coming, Elsewhere, LISTS, OfGroups};
pub use lineage::Stated;
pub(super) use lineage::{
    ACTION as READ_LINEAGE, Asked as AskedOfLineage, Line as StatementLine, version as version_of,
};
pub(super) use pages::cursor as cursor_of;
pub(super) use policies::{ACTION as READ_POLICIES, Words};
pub use record::LogRead;
pub(super) use record::{ACTION as READ_RECORD, Asked, is_news};
pub(super) use routes::{ACTION as READ_ROUTES, Line};
pub use routes::{Doors, RouteView};
use table::Table;
use tokio::sync::Semaphore;
use tower_http::csrf::CsrfLayer;

use super::{Health, Mount, console, hooks, sign_in};
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
    /// What was stated of models.
    pub stated: Stated,
    /// What the gate needs, and how that does.
    pub health: Arc<Health>,
    /// Places for lists of everything that somebody may do.
    pub lists: Semaphore,
    /// What others tell the gate without being asked.
    pub hooks: Arc<hooks::Hooks>,
    /// The log that the record is read from.
    pub log: LogRead,
    /// Time.
    pub clock: SharedClock,
}

/// Routes of the API and of signing in, and the keys of what the gate signs, where they are mounted.
pub fn router(api: Arc<Api>, mount: Mount) -> Router {
    let own = CsrfLayer::new();
    // A URL that is no origin adds none: then the request's own host is compared alone.
    let csrf = mount
        .origin
        .as_deref()
        .and_then(|origin| own.clone().add_trusted_origin(origin.trim_end_matches('/')).ok())
        .unwrap_or(own);
    table()
        .router()
        .with_state(Arc::clone(&api))
        .merge(sign_in::router(Arc::clone(&api)))
        .merge(hooks::router(Arc::clone(&api)))
        .merge(console::router(api))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(csrf)
        .layer(Extension(Arc::new(mount)))
}

/// Every route, with what is said of it: a new one gets a line here and a constant beside its handler.
fn table() -> Table {
    Table::default()
        .get("/api/v1/openapi.json", &openapi::READ, openapi::read)
        .get("/api/v1/whoami", &whoami::READ, whoami::whoami)
        .post("/api/v1/can-i", &can_i::ONE, can_i::one)
        .post("/api/v1/can-i/list", &can_i::LIST, can_i::list)
        .get("/api/v1/audit", &record::READ, record::read)
        .get("/api/v1/audit/{decision}/proof", &record::PROOF, record::proof)
        .get("/api/v1/audit/bodies/{digest}", &bodies::READ, bodies::read)
        .get("/api/v1/policies", &policies::LIST, policies::list)
        .post("/api/v1/policies/why", &policies::WHY, policies::why)
        .get("/api/v1/routes", &routes::LIST, routes::list)
        .get("/api/v1/lineage", &lineage::LIST, lineage::list)
        .get("/api/v1/lineage/of", &lineage::OF, lineage::of)
        .get("/api/v1/lineage/keys", &lineage::KEYS, lineage::keys)
        .get("/api/v1/lineage/statements/{id}", &lineage::ONE, lineage::one)
        .post("/api/v1/token", &exchange::EXCHANGE, exchange::exchange)
        .get("/api/v1/revocations", &revocations::LIST, revocations::list)
        .post("/api/v1/revocations", &revocations::ADD, revocations::add)
        .delete("/api/v1/revocations/{id}", &revocations::LIFT, revocations::lift)
        .get("/api/v1/requests", &approvals::LIST, approvals::list)
        .post("/api/v1/requests", &approvals::ASK, approvals::ask)
        .get("/api/v1/requests/{id}", &approvals::ONE, approvals::one)
        .post("/api/v1/requests/{id}/approve", &approvals::APPROVE, approvals::approve)
        .post("/api/v1/requests/{id}/deny", &approvals::DENY, approvals::deny)
        .post("/api/v1/requests/{id}/withdraw", &approvals::WITHDRAW, approvals::withdraw)
        .get("/api/v1/break-glass", &break_glass::LIST, break_glass::list)
        .post("/api/v1/break-glass", &break_glass::OPEN, break_glass::open)
        .get("/api/v1/break-glass/codes", &break_glass::LEFT, break_glass::left)
        .post("/api/v1/break-glass/codes", &break_glass::CODES, break_glass::codes)
        .post("/api/v1/break-glass/offline", &break_glass::OPEN_BY_CODE, break_glass::open_by_code)
        .get("/api/v1/break-glass/{id}", &break_glass::ONE, break_glass::one)
        .post("/api/v1/break-glass/{id}/confirm", &break_glass::CONFIRM, break_glass::confirm)
        .post(
            "/api/v1/break-glass/{id}/confirm-offline",
            &break_glass::CONFIRM_BY_CODE,
            break_glass::confirm_by_code,
        )
        .post("/api/v1/break-glass/{id}/close", &break_glass::CLOSE, break_glass::close)
        .post("/api/v1/break-glass/{id}/review", &break_glass::REVIEW, break_glass::review)
        .get("/api/v1/grants", &approvals::LIST_GRANTS, approvals::list_grants)
        .post("/api/v1/grants/{id}/revoke", &approvals::REVOKE, approvals::revoke)
        .get("/.well-known/jwks.json", &exchange::JWKS, exchange::jwks)
        .get("/.well-known/openid-configuration", &exchange::DISCOVERY, exchange::discovery)
}
