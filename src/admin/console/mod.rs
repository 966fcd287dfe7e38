//! The console: what the API answers, as pages for people.
//!
//! Every page is made here, whole, and works without a script: there is none, and the policy that
//! browsers are given forbids any. What a page shows is judged and recorded like the API's answer that
//! it is made of, under the same action. Who comes without a session is sent to sign in and back.
//! What changes something is a form that is POSTed, which a page of another site cannot do (the CSRF
//! layer of [`super::api::router`]).

mod access;
mod break_glass;
mod chart;
mod decisions;
mod forms;
mod frame;
mod lineage;
mod policies;
mod requests;
mod routes;
mod rows;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header, request::Parts},
    middleware,
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use frame::{Choice, Frame, Notice, html};

use super::{
    Mount,
    api::{Allowed, Api, Peer, Refused},
    sign_in,
};
use crate::{azureml::Kind, identity::Principal};

/// What browsers may do with a page: show it with its own style, and send its forms back here.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// The pages.
pub(super) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/", get(first))
        .route("/access", get(access::page))
        .route("/decisions", get(decisions::live))
        .route("/decisions/{id}", get(decisions::one))
        .route("/audit", get(decisions::search))
        .route("/requests", get(requests::list).post(requests::ask))
        .route("/requests/new", get(requests::new))
        .route("/requests/{id}", get(requests::one))
        .route("/requests/{id}/{verb}", post(requests::answer))
        .route("/grants", get(requests::grants))
        .route("/grants/{id}/revoke", post(requests::revoke))
        .route("/break-glass", get(break_glass::page).post(break_glass::open))
        .route("/break-glass/{id}", get(break_glass::one))
        .route("/break-glass/{id}/{verb}", post(break_glass::told))
        .route("/lineage", get(lineage::list))
        .route("/lineage/of", get(lineage::one))
        .route("/routes", get(routes::page))
        .route("/policies", get(policies::page).post(policies::what_if))
        .with_state(api)
        .layer(middleware::map_response(closed))
        .route("/console.css", get(style))
}

/// The page that people begin with.
async fn first(request: Request) -> Redirect {
    Redirect::to(&format!("{}/access", Mount::of(request.extensions())))
}

/// Kept by nobody, shown in no frame, and telling no other site where it came from. Where a page's form
/// leads elsewhere it says so itself.
async fn closed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    response
}

async fn style() -> Response {
    let head = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "max-age=300"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (head, include_str!("console.css")).into_response()
}

/// Somebody who looks at a page.
struct Visit {
    head: Parts,
    peer: Peer,
    principal: Principal,
    frame: Frame,
}

/// Who comes, and the frame of their page; where nobody does, the way to the sign-in.
async fn visit(api: &Api, peer: Peer, head: Parts, active: &'static str) -> Result<Visit, Box<Response>> {
    let sessions = api.sessions.load_full();
    let base = Mount::of(&head.extensions);
    let signs_in = |sent_from: &Parts| {
        let query = sent_from.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("{base}{}", sent_from.uri.path());
        let to = [format!("{path}{query}"), path, format!("{base}/")];
        let to = to.into_iter().find(|to| sign_in::is_own_path(to)).unwrap_or_default();
        let to = form_urlencoded::Serializer::new(String::new()).append_pair("return_to", &to).finish();
        Box::new(Redirect::to(&format!("{base}/sign-in?{to}")).into_response())
    };
    let anonymous = !head.headers.contains_key(header::AUTHORIZATION)
        && matches!(sign_in::session(&head.headers), Ok(None));
    match &sessions {
        Some(_) if anonymous => return Err(signs_in(&head)),
        None if anonymous => {
            let why = "Nobody signs in here: the configuration has no `listen.admin.sign_in`.";
            let frame = Frame::nobody(base);
            return Err(Box::new(Notice::page(StatusCode::NOT_FOUND, frame, why)));
        }
        Some(_) | None => {}
    }
    match api.known(&head, peer).await {
        Ok(principal) => {
            let frame = Frame::of(base, &principal, active, sessions.as_deref());
            Ok(Visit { head, peer, principal, frame })
        }
        Err(refused) if refused.status == StatusCode::UNAUTHORIZED && sessions.is_some() => {
            Err(signs_in(&head))
        }
        Err(refused) => Err(Box::new(refusal(refused, Frame::nobody(base)))),
    }
}

/// Who comes, if they may do this.
async fn entered(
    api: &Api,
    peer: Peer,
    head: Parts,
    active: &'static str,
    action: &str,
    kind: Kind,
) -> Result<(Visit, Allowed), Box<Response>> {
    let visit = visit(api, peer, head, active).await?;
    match api.allowed(&visit.head, visit.peer, visit.principal.clone(), action, kind).await {
        Ok(allowed) => Ok((visit, allowed)),
        Err(refused) => Err(Box::new(refusal(refused, visit.frame))),
    }
}

/// A refusal as a page: in the words of the API.
fn refusal(refused: Refused, frame: Frame) -> Response {
    let (status, message) = (refused.status, refused.message.clone());
    let mut response = Notice::page(status, frame, &message);
    for (name, value) in refused.into_response().headers() {
        if name == "x-amlgate-decision" || name == header::RETRY_AFTER {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}
