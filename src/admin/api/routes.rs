//! `GET /api/v1/routes`: what is forwarded where, and how what the gate needs does.

use std::{fmt, sync::Arc};

use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Api, Peer,
    call::Refused,
    openapi::{Answer, Operation},
};
use crate::{
    admin::State as Condition,
    azureml::{Kind, Protocol},
    policy::described::Door,
};

/// What this is called in policies and in the record.
pub(in crate::admin) const ACTION: &str = "amlgate/routes/read";

/// The door to a host, if some route leads there.
pub type DoorOf = Box<dyn Fn(&str) -> Option<Door> + Send + Sync>;

/// The gate's routes as they are now. Its parts in force know them; this room does not know those.
pub struct Doors {
    /// Every route.
    pub routes: Box<dyn Fn() -> Vec<RouteView> + Send + Sync>,
    /// The door to a host of Azure's, by the route that leads there.
    pub door: DoorOf,
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doors")
    }
}

/// A route as people read it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Route")]
pub struct RouteView {
    /// Its name in policies and records.
    pub name: Arc<str>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where to: scheme, host and port.
    pub upstream: String,
    /// Its prefixes at the reverse proxy.
    pub paths: Vec<String>,
    /// Its host names there.
    pub hosts: Vec<String>,
    /// The credentials that it may take, each once.
    pub credentials: Vec<Arc<str>>,
    /// The ARM id that `scope` compares with, where the host does not say.
    pub resource: Option<String>,
}

/// Something that the gate needs, and how it does.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Dependency")]
pub(in crate::admin) struct Line {
    /// Its name.
    pub name: String,
    #[serde(flatten)]
    pub state: Condition,
}

impl Api {
    /// What the gate needs, and how that does now.
    pub(in crate::admin) fn dependencies(&self) -> Vec<Line> {
        self.health.lines()
    }
}

pub(super) const LIST: Operation = Operation::judged(
    "listRoutes",
    "What is forwarded where, and how what the gate needs does",
    &[ACTION],
    &[Answer::json::<Shown>(StatusCode::OK, "Every route and dependency.")],
);

/// Where requests go.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Routes")]
struct Shown {
    /// Every route.
    routes: Vec<RouteView>,
    /// What the gate needs.
    dependencies: Vec<Line>,
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let (allowed, _) = api.entered(&head, peer, ACTION, Kind::Read).await?;
    let body = Shown { routes: (api.doors.routes)(), dependencies: api.dependencies() };
    Ok(allowed.answer(StatusCode::OK, &body))
}
