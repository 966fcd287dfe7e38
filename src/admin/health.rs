//! `/healthz`, `/readyz`, `/metrics` and `/.well-known/amlgate`.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::State as Shared,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use schemars::JsonSchema;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::api::Line;

/// How a dependency does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// It does what it should.
    Ready,
    /// The gate serves without it for now; somebody should look.
    Degraded {
        /// What is wrong and how to mend it.
        detail: String,
    },
    /// The gate cannot do its work without it.
    Unready {
        /// What is wrong and how to mend it.
        detail: String,
    },
}

/// Something that the gate needs, by name.
pub struct Dependency {
    name: String,
    state: Box<dyn Fn() -> State + Send + Sync>,
}

impl Dependency {
    /// A dependency whose state is asked for at each `/readyz`; `state` must not block.
    pub fn new(name: impl Into<String>, state: impl Fn() -> State + Send + Sync + 'static) -> Self {
        Self { name: name.into(), state: Box::new(state) }
    }
}

impl fmt::Debug for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dependency({})", self.name)
    }
}

/// What the endpoints answer from.
#[derive(Debug)]
pub struct Health {
    /// What the gate needs.
    pub dependencies: ArcSwap<Vec<Dependency>>,
    /// Cancelled when the gate drains: readiness goes first, so that balancers look elsewhere.
    pub draining: CancellationToken,
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
    /// What `/.well-known/amlgate` says: issuers, clients and scopes to sign in with.
    pub discovery: ArcSwap<serde_json::Value>,
}

impl Health {
    /// What the gate needs, and how that does now.
    pub(super) fn lines(&self) -> Vec<Line> {
        let dependencies = self.dependencies.load();
        dependencies.iter().map(|d| Line { name: d.name.clone(), state: (d.state)() }).collect()
    }

    /// The gate needs and says other things from here on.
    pub fn follow(&self, dependencies: Vec<Dependency>, discovery: serde_json::Value) {
        self.dependencies.store(Arc::new(dependencies));
        self.describe(discovery);
    }

    /// The gate says other things from here on.
    pub fn describe(&self, discovery: serde_json::Value) {
        self.discovery.store(Arc::new(discovery));
    }
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    draining: bool,
    dependencies: Vec<Line>,
}

/// The four endpoints; anything else is 404.
pub fn router(health: Arc<Health>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route(
            "/.well-known/amlgate",
            get(|Shared(h): Shared<Arc<Health>>| async move {
                Json(serde_json::Value::clone(&h.discovery.load()))
            }),
        )
        .with_state(health)
}

async fn readyz(Shared(health): Shared<Arc<Health>>) -> Response {
    let dependencies = health.lines();
    let draining = health.draining.is_cancelled();
    let ready = !draining && !dependencies.iter().any(|d| matches!(d.state, State::Unready { .. }));
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, draining, dependencies })).into_response()
}

async fn metrics(Shared(health): Shared<Arc<Health>>) -> Response {
    health.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], health.metrics.render()).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(states: Vec<State>, draining: bool) -> (StatusCode, String) {
        let token = CancellationToken::new();
        if draining {
            token.cancel();
        }
        let dependencies = states
            .into_iter()
            .enumerate()
            .map(|(i, s)| Dependency::new(format!("part {i}"), move || s.clone()))
            .collect::<Vec<_>>();
        let health = Health {
            dependencies: ArcSwap::from_pointee(dependencies),
            draining: token,
            metrics: crate::telemetry::detached_metrics(),
            discovery: ArcSwap::from_pointee(serde_json::Value::Null),
        };
        let request = axum::http::Request::get("/readyz").body(Body::empty()).unwrap();
        let response = router(Arc::new(health)).oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_degraded_dependency_is_named_but_the_gate_stays_ready() {
        let (status, body) =
            ask(vec![State::Ready, State::Degraded { detail: "keys are 3 h old".into() }], false).await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            body.contains(r#"{"name":"part 1","state":"degraded","detail":"keys are 3 h old"}"#),
            "{body}"
        );
    }

    #[tokio::test]
    async fn an_unready_dependency_takes_the_gate_out_of_rotation() {
        let (status, body) = ask(vec![State::Unready { detail: "disk full".into() }], false).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("disk full"));
    }

    #[tokio::test]
    async fn a_draining_gate_is_not_ready() {
        assert_eq!(ask(vec![State::Ready], true).await.0, StatusCode::SERVICE_UNAVAILABLE);
    }
}
