//! `GET /api/v1/audit/bodies/DIGEST`: a recorded body, to those whom the policies let read it. That is
//! another right than to read the record, and a record itself, durable before anything is given.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use tokio::task::spawn_blocking;

use super::{
    Api, Peer,
    call::{Named, Refused, Said},
    openapi::{Answer, Operation, Parameter, Shape},
};
use crate::{
    audit::{
        bodies::{BodyError, Opened},
        event::Event,
    },
    azureml::Kind,
};

/// What reads of bodies are called in policies and in the record.
const ACTION: &str = "amlgate/audit/bodies/read";

pub(super) const READ: Operation = Operation {
    about: "That somebody read it is recorded before it is given.",
    parameters: &[Parameter::path(
        "digest",
        "`blob` of one of a record's `bodies`.",
        Shape::Pattern("^[0-9a-f]{64}$"),
    )],
    problems: &[
        (StatusCode::NOT_FOUND, "It was never kept, or not so long."),
        (StatusCode::INTERNAL_SERVER_ERROR, "It was changed, or cannot be opened."),
    ],
    ..Operation::judged(
        "readBody",
        "A recorded body",
        &[ACTION],
        &[Answer {
            headers: &[
                ("x-amlgate-body-side", "`request` or `response`."),
                ("x-amlgate-body-of", "The decision whose body it is."),
            ],
            ..Answer::of(StatusCode::OK, "Its bytes.", "application/octet-stream")
        }],
    )
};

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Named(digest): Named,
    request: Request,
) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let (allowed, principal) = api.entered(&head, peer, ACTION, Kind::Read).await?;
    let opened = match api.opened(digest.clone()).await {
        Ok(opened) => opened,
        Err(refused) => return Ok(allowed.refuse(refused)),
    };
    let event = Event::BodyRead {
        caller: principal.id.to_string(),
        peer: peer.0.ip(),
        decision: allowed.decision(),
        blob: digest,
        of: opened.decision.clone(),
        side: opened.side.name(),
    };
    if api.journal.happened(&event).await.is_err() {
        return Ok(allowed.refuse(Refused::unavailable("that the body is read cannot be recorded")));
    }
    let mut response = allowed.give(opened.body.to_vec());
    let headers = response.headers_mut();
    // What others sent is shown as what it is: bytes.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("x-amlgate-body-side", HeaderValue::from_static(opened.side.name()));
    if let Ok(of) = HeaderValue::from_str(&opened.decision) {
        headers.insert("x-amlgate-body-of", of);
    }
    Ok(response)
}

impl Api {
    async fn opened(&self, digest: String) -> Result<Opened, Refused> {
        let journal = self.journal.clone();
        let place = self.log.place().await?;
        let directory = self.log.directory().to_owned();
        let opened = spawn_blocking(move || {
            let _place = place;
            journal.body(&directory, &digest)
        });
        opened.await.map_err(|_| Refused::unavailable("the body could not be read"))?.map_err(|error| {
            match &error {
                BodyError::Digest(_) => Refused::malformed(error.to_string()),
                BodyError::Missing => Refused::new(StatusCode::NOT_FOUND, Said::NotFound, error.to_string()),
                BodyError::Io(why) => Refused::unavailable(format!("the body cannot be read: {why}")),
                BodyError::Changed | BodyError::Sealed => {
                    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, Said::NotWhole, error.to_string())
                }
            }
        })
    }
}
