//! What changes something that is kept: done to its end, and in which words it is refused.

use std::future::Future;

use axum::http::StatusCode;

use super::call::{Refused, Said};
use crate::store::StoreError;

/// Does what changes something to its end and its record, even if whoever wanted it hangs up meanwhile.
pub async fn to_its_end<T: Send + 'static>(
    doing: impl Future<Output = Result<T, Refused>> + Send + 'static,
) -> Result<T, Refused> {
    tokio::spawn(doing).await.unwrap_or_else(|_| Err(Refused::unavailable("the gate is stopping")))
}

pub fn unavailable(error: &StoreError) -> Refused {
    Refused::unavailable(error.to_string())
}

pub fn unrecorded() -> Refused {
    Refused::unavailable("what came of it cannot be recorded")
}

pub fn unknown(what: &str) -> Refused {
    Refused::new(StatusCode::NOT_FOUND, Said::NotFound, format!("there is no such {what}"))
}

pub fn conflict(why: impl Into<String>) -> Refused {
    Refused::new(StatusCode::CONFLICT, Said::Conflict, why)
}
