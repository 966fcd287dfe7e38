//! `audit`.

use serde::Deserialize;

use super::{Reference, Sink, Text, Trust};
use crate::yaml::Spanned;

/// `audit`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The log's origin.
    pub name: Text,
    /// Its directory.
    pub directory: Text,
    /// Ed25519, PKCS#8 PEM.
    pub signing_key: Spanned<Reference>,
    /// The key that signed before, while it is replaced.
    pub previous_key: Option<Spanned<Reference>>,
    /// What happens to reads when the disk fails.
    pub reads: Option<Text>,
    /// A segment ends when it is larger.
    pub segment: Option<Text>,
    /// How long records are kept; for ever if it says nothing.
    pub retain: Option<Retain>,
    /// Where old segments go.
    pub archive: Option<Archive>,
    /// Where each new head is shown.
    #[serde(default)]
    pub witnesses: Vec<Spanned<WitnessPlace>>,
    /// The gate as a witness of other logs.
    pub witness: Option<Witness>,
    /// Where records go besides.
    #[serde(default)]
    pub sinks: Vec<Spanned<Sink>>,
}

/// `audit.retain`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retain {
    /// Older records are removed.
    #[serde(rename = "for")]
    pub age: Option<Text>,
    /// The oldest records are removed while there are more bytes.
    pub size: Option<Text>,
}

/// `audit.archive`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// The URL of a container of blobs.
    pub container: Text,
    /// Who adds to it.
    pub credential: Text,
    /// Segments whose records are all older go there.
    pub after: Text,
    /// Where to connect instead of resolving the name.
    pub address: Option<Text>,
    /// Roots besides the system's.
    pub trust: Option<Trust>,
}

/// One of `audit.witnesses`: `url` and `key`, `folder`, `git`, or `container` and `credential`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessPlace {
    /// Its name, in messages and metrics.
    pub name: Text,
    /// The prefix of a C2SP witness.
    pub url: Option<Text>,
    /// The witness's verifier key.
    pub key: Option<Text>,
    /// Where to connect instead of resolving the name.
    pub address: Option<Text>,
    /// Roots besides the system's.
    pub trust: Option<Trust>,
    /// A folder where heads are added.
    pub folder: Option<Text>,
    /// A repository where heads are committed.
    pub git: Option<Spanned<Git>>,
    /// The URL of a container where heads are added.
    pub container: Option<Text>,
    /// Who adds them.
    pub credential: Option<Text>,
    /// At most so often, in a repository and a container.
    pub every: Option<Text>,
}

/// `git`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Git {
    /// Where it is: `https://`, `ssh://`, `git@host:path` or a folder of this machine.
    pub remote: Text,
    /// The branch; `heads` by default.
    pub branch: Option<Text>,
    /// What is shown to a remote over HTTPS.
    pub token: Option<Spanned<Reference>>,
}

/// `audit.witness`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// Its name in what it signs.
    pub name: Text,
    /// Ed25519, PKCS#8 PEM; not the key that signs the gate's own log.
    pub signing_key: Spanned<Reference>,
    /// A file with the verifier keys of the logs.
    pub logs: Text,
}
