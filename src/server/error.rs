//! Why the gate does not start.

use std::{io, net::SocketAddr};

use crate::{
    audit::OpenError,
    credentials::CredentialError,
    identity::certificate::BadAuthority,
    listen::{InterceptError, TlsError},
    net::TrustError,
    secrets::{SealError, SecretError},
    yaml::Problem,
};

/// Why the gate does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The policies.
    #[error("the policies are refused")]
    Policies(Vec<Problem>),
    /// A secret.
    #[error("cannot read the secret for {what}")]
    Secret {
        /// What it is for.
        what: String,
        /// Why.
        source: SecretError,
    },
    /// A secret of a vault.
    #[error("cannot read the secret for {what} from its vault")]
    Vault {
        /// What it is for.
        what: String,
        /// Why.
        source: CredentialError,
    },
    /// A file.
    #[error("cannot read `{path}`")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The sealing keys.
    #[error("the sealing keys cannot be used")]
    Seal(#[from] SealError),
    /// The server certificate.
    #[error("the certificate of `{listener}` cannot be used")]
    Tls {
        /// Which listener.
        listener: &'static str,
        /// Why.
        source: TlsError,
    },
    /// The interception authority.
    #[error("`listen.forward.interception_ca` cannot be used")]
    Interception(#[from] InterceptError),
    /// Authorities or revocation lists of callers' certificates.
    #[error("client certificates of `{name}` cannot be judged")]
    Authority {
        /// The issuer, or the listener.
        name: String,
        /// Why.
        source: BadAuthority,
    },
    /// Roots.
    #[error("the roots of `{name}` cannot be used")]
    Trust {
        /// Whose.
        name: String,
        /// Why.
        source: TrustError,
    },
    /// A witness.
    #[error("the witnesses of the record cannot be set up: {0}")]
    Witness(String),
    /// A key of statements.
    #[error("the keys of statements cannot be used: `{what}`")]
    Evidence {
        /// Which key or file.
        what: String,
        /// Why.
        source: crate::lineage::KeyError,
    },
    /// The record.
    #[error("the record cannot be kept")]
    Journal(#[from] OpenError),
    /// The store.
    #[error("the store cannot be used")]
    Store(#[from] crate::store::OpenError),
    /// A sink.
    #[error("the sink `{name}` cannot be used: {why}")]
    Sink {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
    /// A sink's cursor.
    #[error("the cursor of the sink `{sink}` cannot be used")]
    Cursor {
        /// Whose.
        sink: String,
        /// Why.
        source: io::Error,
    },
    /// The record takes no first event.
    #[error("the record takes nothing: is there space on the disk of `audit.directory`?")]
    Unrecorded,
    /// An address.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A thread or runtime.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}
