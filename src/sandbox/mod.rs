//! The whole world around the gate, on loopback: a development issuer and a simulated Azure.
//!
//! `amlgate sandbox` runs them so that a newcomer sees the product without an Azure account, and
//! the whole-gate tests run them as the other side of every request. They judge what reaches them
//! as the real ones would: signatures, audiences, role assignments, mandatory parameters, body
//! shapes, state. To stay a judge, this room shares no code with the rooms that it judges
//! (`azureml`, `upstream`, `credentials`): what is named or derived twice is derived twice on
//! purpose. `tests/interop/sdk` shows the official SDK working against it without the gate.
//!
//! It is no Azure: nothing computes, prices or trains, and what no test and no client needs is
//! answered 404 rather than guessed. It listens on loopback only.

pub mod azure;
pub mod cluster;
pub mod home;
pub mod issuer;
mod jwt;
mod keys;
mod members;
pub mod mesh;
mod observe;
mod people;
pub mod portal;
mod serve;
#[cfg(test)]
mod tests;
mod texts;
mod tls;

pub use keys::{KeyRing, SigningKey};
pub use observe::{Fault, Observer, Seen};
pub use people::{PEOPLE, Person};
pub use tls::SandboxCa;

/// Why a part of the sandbox could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The address cannot be bound.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// What was asked for.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Only loopback is served: the sandbox's secrets are public.
    #[error("`{0}` is not a loopback address: the sandbox serves this machine only")]
    NotLoopback(std::net::IpAddr),
    /// A key or certificate could not be made or read.
    #[error("cannot make a certificate or key")]
    Certificate(#[from] rcgen::Error),
    /// TLS refused the certificate.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// A token could not be signed.
    #[error("cannot sign a token")]
    Token(#[from] jsonwebtoken::errors::Error),
    /// A file of the sandbox's folder could not be used.
    #[error("cannot {verb} `{path}`")]
    File {
        /// `read`, `write`, `create` or `protect`.
        verb: &'static str,
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The gate does not start.
    #[error("the gate does not start")]
    Gate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is nobody of that name.
    #[error("nobody in the sandbox is called `{0}`")]
    Nobody(String),
}
