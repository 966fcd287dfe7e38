//! The one way out: every outgoing connection is dialled by [`Connector`].
//!
//! It resolves once, checks every address that came back, dials the address that it checked, and
//! verifies TLS against the name, never against the address. Plaintext, private ranges and
//! metadata services are unreachable unless the configuration names the address itself. It follows
//! no redirect and keeps no pool: the data plane has its own.

mod address;
mod connector;
mod destination;
mod fetch;
mod race;
mod resolve;
mod skew;
mod stream;
#[cfg(test)]
mod tests;
mod trust;

pub use address::forbidden;
pub use connector::{Connector, ConnectorSettings, EgressProxy};
pub use destination::{Destination, Reach, Scheme};
pub use fetch::{FetchError, FetchLimits};
pub use skew::{ClockSkew, DOUBTFUL_SKEW, Skew};
pub use stream::{Protocols, Stream};
pub use trust::{Trust, TrustError};
