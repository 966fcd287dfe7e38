//! What HTTP itself demands, as pure functions: request targets, headers, framing, error bodies.

mod body;
mod client_certificate;
mod connection;
mod forwarded;
pub mod framing;
pub mod headers;
mod legible;
pub mod problem;
mod reserved;
pub mod target;

pub use body::{Body, BodyError};
pub use client_certificate::{BadCertificateHeader, CertificateHeader, forwarded_chain};
pub use connection::{Connection, Upgraded};
pub use forwarded::source;
pub use legible::{is_deceptive, legible};
pub use reserved::{RESERVED, below_reserved, is_reserved};
pub use target::{MAX_TARGET, Query, Target, TargetError};
