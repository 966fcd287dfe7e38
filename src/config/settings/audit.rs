//! `audit`: the record, where it goes, and who sees its heads.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use super::{super::values::BaseUrl, Reference, Sink};
use crate::audit::{note::VerifierKeys, witness::WitnessKey};

/// The record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The log's origin.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    /// Ed25519, PKCS#8 PEM.
    pub signing_key: Reference,
    /// The key that signed before, while it is replaced.
    pub previous_key: Option<Reference>,
    /// What happens to plain reads when the disk fails.
    pub reads: Reads,
    /// A segment ends when it is larger, in bytes.
    pub segment: Option<u64>,
    /// Older records are removed.
    pub retain_for: Option<Duration>,
    /// The oldest records are removed while there are more bytes.
    pub retain_size: Option<u64>,
    /// Where old segments go.
    pub archive: Option<ArchiveSettings>,
    /// Where each new head is shown.
    pub witnesses: Vec<WitnessSettings>,
    /// The logs for which the gate is a witness.
    pub witness: Option<WitnessedLogs>,
    /// Where records go besides.
    pub sinks: Vec<Sink>,
}

/// Where old segments of the record go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSettings {
    /// A container of blobs.
    pub container: ContainerSettings,
    /// Segments whose records are all older go there.
    pub after: Duration,
}

/// A place where each new head of the record is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessSettings {
    /// Its name.
    pub name: Arc<str>,
    /// At most so often a head is shown there.
    pub every: Duration,
    /// What it is.
    pub place: WitnessPlace,
}

/// What such a place is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WitnessPlace {
    /// A folder where heads are added.
    Folder(PathBuf),
    /// A branch of a git repository where heads are committed.
    Git(GitSettings),
    /// A container of blobs where heads are added.
    Container(ContainerSettings),
    /// A C2SP witness.
    Witness {
        /// Where it is.
        url: BaseUrl,
        /// The path before its endpoints.
        prefix: String,
        /// What it signs with.
        key: WitnessKey,
        /// Roots besides the system's.
        trust: Option<Arc<[u8]>>,
        /// Where to connect instead of resolving the name.
        address: Option<SocketAddr>,
    },
}

/// A branch of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSettings {
    /// Where it is, as git says it.
    pub remote: String,
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// What is shown to a remote over HTTPS.
    pub token: Option<Reference>,
    /// A file with the roots that such a remote is believed by, PEM.
    pub trust: Option<PathBuf>,
}

/// A container of blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSettings {
    /// The account.
    pub url: BaseUrl,
    /// The container.
    pub container: String,
    /// What stands before the names of blobs: empty, or ends with `/`.
    pub prefix: String,
    /// Who adds them.
    pub credential: Arc<str>,
    /// Connect here instead of resolving the name.
    pub address: Option<SocketAddr>,
    /// Roots besides the system's, PEM.
    pub trust: Option<Arc<[u8]>>,
}

/// The logs for which the gate is a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessedLogs {
    /// Its name in what it signs.
    pub name: String,
    /// Ed25519, PKCS#8 PEM.
    pub signing_key: Reference,
    /// The keys of the logs.
    pub logs: VerifierKeys,
}

/// What happens to plain reads when the disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reads {
    /// They are refused.
    #[default]
    Required,
    /// They go on and are counted.
    BestEffort,
}
