//! The policies in force, line by line, and what they would make of a request.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use http_body_util::{BodyExt as _, Limited};

use super::{
    super::api::{Api, Peer, READ_POLICIES, Words},
    Choice, Frame, Visit, entered, html,
    rows::anchor,
};
use crate::{
    azureml::Kind,
    identity::Caller,
    policy::{described::DescribedCaller, explained::Explained},
    yaml::Problem,
};

/// The largest form, in bytes.
const MAX_FORM: usize = 192 << 10;

const METHODS: [&str; 6] = ["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD"];

#[derive(Template)]
#[template(path = "policies.html")]
struct Page {
    frame: Frame,
    entries: Vec<Entry>,
    digest: String,
    since: String,
    problems: Vec<String>,
    warnings: Vec<String>,
    asked: Question,
    methods: [Choice; 6],
    /// What would be decided.
    explained: Option<Explained>,
    /// Why the question was none.
    wrong: Option<String>,
}

/// The what-if box, as it was filled in.
#[derive(Debug, Default)]
struct Question {
    /// Claims, or nothing for whoever looks.
    caller: String,
    method: String,
    url: String,
    body: String,
    resource: String,
}

struct Entry {
    list: String,
    name: String,
    place: String,
    anchor: String,
    keys: Vec<(&'static str, Vec<String>)>,
}

pub(super) async fn page(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    answered(&api, peer, request, false).await
}

/// What would be decided of a request: the form is POSTed, because claims and bodies are no parts of
/// URLs. Nothing is changed.
pub(super) async fn what_if(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    answered(&api, peer, request, true).await
}

async fn answered(api: &Arc<Api>, peer: Peer, request: Request, asks: bool) -> Response {
    let (head, body) = request.into_parts();
    let entered = entered(api, peer, head, "/policies", READ_POLICIES, Kind::Read).await;
    let (Visit { peer, principal, frame, .. }, allowed) = match entered {
        Ok(entered) => entered,
        Err(response) => return *response,
    };
    let (set, status) = (api.policies.current(), api.policies.status());
    let entries = set.views().into_iter().map(|view| {
        let place = format!("{}:{}", view.entry.file, view.entry.line);
        let (name, anchor) = (view.entry.name.to_string(), anchor(&place));
        Entry { list: view.list, name, place, anchor, keys: view.keys }
    });
    let words = |problems: &[Problem]| problems.iter().map(ToString::to_string).collect();
    let mut page = Page {
        frame,
        entries: entries.collect(),
        digest: set.digest().iter().take(8).map(|b| format!("{b:02x}")).collect(),
        since: super::rows::moment(status.since.as_millis()),
        problems: words(&status.problems),
        warnings: words(&status.warnings),
        asked: Question::default(),
        methods: Choice::of(METHODS, "GET"),
        explained: None,
        wrong: None,
    };
    if asks {
        match Limited::new(body, MAX_FORM).collect().await {
            Ok(body) => {
                page.asked = Question::read(&body.to_bytes());
                page.methods = Choice::of(METHODS, &page.asked.method);
                match page.asked.answered(api, Caller::clone(&principal), peer).await {
                    Ok(explained) => page.explained = Some(explained),
                    Err(why) => page.wrong = Some(why),
                }
            }
            Err(_) => page.wrong = Some("the form is too large or too slow, or broke off".to_owned()),
        }
    }
    let status = if page.wrong.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    allowed.shown(html(status, &page.frame, &page))
}

impl Question {
    fn read(form: &[u8]) -> Self {
        let mut question = Self::default();
        for (key, value) in form_urlencoded::parse(form) {
            let place = match &*key {
                "caller" => &mut question.caller,
                "method" => &mut question.method,
                "url" => &mut question.url,
                "body" => &mut question.body,
                "resource" => &mut question.resource,
                _ => continue,
            };
            value.trim().clone_into(place);
        }
        question
    }

    async fn answered(&self, api: &Api, own: Caller, peer: Peer) -> Result<Explained, String> {
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let other: Option<DescribedCaller> = match some(&self.caller) {
            None => None,
            Some(text) => {
                let read = serde_json::from_str(&text);
                Some(read.map_err(|error| format!("the caller is no JSON that describes one: {error}"))?)
            }
        };
        let words = Words {
            method: self.method.clone(),
            url: self.url.clone(),
            body: some(&self.body).map(String::into_bytes),
            resource: some(&self.resource),
        };
        api.explained(own, other.as_ref(), &words, peer).await.map_err(|refused| refused.message)
    }
}
