//! What a pack says of itself, under the signature of the log's key.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Class;

/// The version of the form.
pub(super) const VERSION: u32 = 1;

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the form.
    pub amlgate_evidence: u32,
    /// The log's name.
    pub log: String,
    /// When the pack was made.
    pub made: String,
    /// From when on its records are, in milliseconds since 1970 and in words.
    pub from: Instant,
    /// Until when.
    pub until: Instant,
    /// For which controls it was made, and by what each is shown.
    pub controls: Vec<Shown>,
    /// How many records the log had by the newest head before the first of these, if there is one.
    pub begin: Option<u64>,
    /// How many it had by the head that all proofs lead to.
    pub end: u64,
    /// The records, in their files.
    pub parts: Vec<Part>,
    /// How many records there are of each class.
    pub classes: BTreeMap<Class, u64>,
    /// Records of the period that no head counted yet when the pack was made: they are not in it.
    pub too_new: u64,
    /// The sets of policies that were in force, in their order: the first was when the period began.
    pub policies: Vec<PolicySet>,
    /// The digests of the recorded bodies that its records name. They are not in it: whoever may read
    /// them asks the gate, or opens them beside the log.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub bodies: BTreeSet<String>,
    /// The program that made the pack, and can check it.
    pub verifier: Verifier,
}

/// A time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instant {
    /// Milliseconds since 1970.
    pub millis: u64,
    /// RFC 3339.
    pub text: String,
}

/// What shows a control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// The control.
    pub id: String,
    /// Its framework.
    pub framework: String,
    /// What it asks.
    pub asks: String,
    /// By records of these classes.
    pub shown_by: Vec<Class>,
}

/// A file of records and that of their proofs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The records, a line each.
    pub records: String,
    /// The proofs, in the same order.
    pub proofs: String,
    /// How many.
    pub count: u64,
}

/// A set of policies that was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySet {
    /// The digest that each decision's record names.
    pub digest: String,
    /// The position of the record that says that it came into force.
    pub position: u64,
    /// Its files, as far as the record names them.
    pub files: Vec<PolicyFile>,
    /// Files that the record does not name: it names the first 64.
    pub not_named: u64,
}

/// A file of a set of policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Where it was.
    pub name: String,
    /// The digest of its content.
    pub sha256: String,
    /// Whether it is in the pack, as `policies/SHA256`.
    pub enclosed: bool,
}

/// The program that made a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verifier {
    /// Its name.
    pub program: String,
    /// Its version.
    pub version: String,
    /// For which machines.
    pub platform: String,
    /// The digest of its file.
    pub sha256: String,
}
