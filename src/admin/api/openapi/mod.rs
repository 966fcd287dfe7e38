//! `GET /api/v1/openapi.json`: this API, described (OpenAPI 3.1), made of the table of its routes, of
//! the constant beside each handler, and of the very types that handlers read and answer with.

mod document;
mod operation;

use std::sync::{Arc, LazyLock};

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use schemars::{Schema, SchemaGenerator, json_schema};

pub use self::operation::{Answer, Body, Operation, Parameter, Shape};
use super::{Api, Peer, call::Refused};
use crate::azureml::Kind;

/// What this is called in policies and in the record.
const ACTION: &str = "amlgate/openapi/read";

/// It depends on the program alone.
static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| Bytes::from(document::of(super::table().routes()).to_string()));

pub const READ: Operation = Operation::judged(
    "describe",
    "This document",
    &[ACTION],
    &[Answer::shaped(StatusCode::OK, "The API, as OpenAPI 3.1.", any_object)],
);

/// A JSON object whose members are somebody else's to define.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object"})
}

pub async fn read(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let (allowed, _) = api.entered(&head, peer, ACTION, Kind::Read).await?;
    let mut response = allowed.give(DOCUMENT.clone());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
