//! My access: everything that whoever looks may do, and why not where they may not.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};

use super::{
    super::api::{Api, Asker, Peer},
    Frame, Visit, html, refusal, visit,
};
use crate::policy::may::{Answer, Line};

#[derive(Template)]
#[template(path = "access.html")]
struct Page {
    frame: Frame,
    action: String,
    scope: String,
    /// The answer to a question, if one was asked.
    answer: Option<Answer>,
    /// Why the question was none.
    wrong: Option<String>,
    places: Vec<AtScope>,
    /// Why there is no list.
    unlisted: Option<String>,
}

/// What they may do at one scope.
struct AtScope {
    scope: String,
    /// The last part of the scope.
    short: String,
    lines: Vec<Line>,
}

pub(super) async fn page(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let Visit { head, peer, principal, frame } = match visit(&api, peer, head, "/access").await {
        Ok(visit) => visit,
        Err(response) => return *response,
    };
    let query = head.uri.query().unwrap_or_default();
    let field = |name: &str| {
        let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
        found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let (action, scope) = (field("action"), field("scope"));
    let (allowed, asker) = match Asker::of(&api, &head, peer, principal).await {
        Ok(entered) => entered,
        Err(refused) => return refusal(refused, frame),
    };
    let (mut answer, mut wrong) = (None, None);
    if !action.is_empty() {
        match asker.answer(&action, &scope).await {
            Ok(found) => answer = Some(found),
            Err(why) => wrong = Some(why.to_string()),
        }
    }
    let listed = if wrong.is_none() {
        asker.list(Some(scope.clone()).filter(|s| !s.is_empty())).await
    } else {
        Ok(Vec::new())
    };
    let (places, unlisted) = match listed {
        Ok(lines) => (by_scope(lines), None),
        Err(refused) => (Vec::new(), Some(refused.message)),
    };
    let page = Page { frame, action, scope, answer, wrong, places, unlisted };
    allowed.shown(html(StatusCode::OK, &page.frame, &page))
}

fn by_scope(lines: Vec<Line>) -> Vec<AtScope> {
    let mut all: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for line in lines {
        all.entry(line.scope.clone()).or_default().push(line);
    }
    all.into_iter()
        .map(|(scope, lines)| {
            let short = scope.rsplit('/').next().unwrap_or_default().to_owned();
            AtScope { scope, short, lines }
        })
        .collect()
}
