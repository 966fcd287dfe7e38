//! Routes, what lately came of them, and how what the gate needs does.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use serde_json::Value;

use super::{
    super::{
        State as Condition,
        api::{Api, Peer, READ_ROUTES},
    },
    Frame, Visit, decisions, entered, html, refusal,
    rows::{Tally, by_route},
};
use crate::azureml::Kind;

#[derive(Template)]
#[template(path = "routes.html")]
struct Page {
    frame: Frame,
    needs: Vec<Need>,
    routes: Vec<Shown>,
    /// How many of the newest records were counted.
    counted: usize,
}

struct Need {
    name: String,
    state: &'static str,
    detail: String,
}

struct Shown {
    name: String,
    protocol: String,
    upstream: String,
    doors: Vec<String>,
    credentials: String,
    resource: String,
    tally: Tally,
}

pub(super) async fn page(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let entered = entered(&api, peer, head, "/routes", READ_ROUTES, Kind::Read).await;
    let (Visit { frame, .. }, allowed) = match entered {
        Ok(entered) => entered,
        Err(response) => return *response,
    };
    // Numbers of the record, and no record: how often, and how long.
    let rows = match decisions::newest(&api).await {
        Ok(rows) => rows,
        Err(refused) => return allowed.shown(refusal(refused, frame)),
    };
    let tallies = by_route(&rows);
    let routes = (api.doors.routes)().into_iter().map(|route| Shown {
        tally: tallies.get(&*route.name).cloned().unwrap_or_default(),
        name: route.name.to_string(),
        protocol: serde_json::to_value(route.protocol)
            .ok()
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        upstream: route.upstream,
        doors: route.hosts.into_iter().chain(route.paths).collect(),
        credentials: route.credentials.join(", "),
        resource: route.resource.unwrap_or_default(),
    });
    let needs = api.dependencies().into_iter().map(|line| {
        let (state, detail) = match line.state {
            Condition::Ready => ("ready", String::new()),
            Condition::Degraded { detail } => ("degraded", detail),
            Condition::Unready { detail } => ("unready", detail),
        };
        Need { name: line.name, state, detail }
    });
    let page = Page { frame, needs: needs.collect(), routes: routes.collect(), counted: rows.len() };
    allowed.shown(html(StatusCode::OK, &page.frame, &page))
}
