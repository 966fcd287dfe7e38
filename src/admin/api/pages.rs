//! Where a page of a list ended, so that the next begins there: when the last item was made, and its id.

use super::{
    call::Refused,
    openapi::{Parameter, Shape},
};
use crate::time::Timestamp;

/// The parameter.
pub const CURSOR: Parameter = Parameter::query(
    "cursor",
    "`next` of the page before.",
    Shape::Pattern(r"^[0-9]{1,19}\.[A-Za-z0-9-]{0,64}$"),
);

/// What a page says as `next`.
pub fn cursor(made: Timestamp, id: &str) -> String {
    format!("{}.{id}", made.as_millis())
}

/// What a caller says as `cursor`.
pub fn before(cursor: &str) -> Result<(Timestamp, String), Refused> {
    let parts = cursor.split_once('.').and_then(|(made, id)| {
        let fits = id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        Some((Timestamp::from_millis(made.parse().ok()?), fits.then(|| id.to_owned())?))
    });
    parts.ok_or_else(|| Refused::malformed("`cursor` is what the page before said as `next`"))
}
