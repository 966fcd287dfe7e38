//! Accepting connections: one runtime and one listener per core, TLS, limits, drain.
//!
//! Generic over what handles requests: nothing here knows the proxy.

mod serve;
mod tls;

pub use serve::{Connection, Counts, Handler, ListenLimits, bind, serve};
pub use tls::{ServerTls, TlsError};
