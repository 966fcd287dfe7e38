//! in-toto statements, version 1, as they are read: whoever wrote them.

use serde_json::{Map, Value};

use super::written::STATEMENT;
use crate::identity::json;

/// SLSA provenance, version 1.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// SLSA verification summary, version 1.
pub const SUMMARY: &str = "https://slsa.dev/verification_summary/v1";

/// The deepest nesting of a statement.
const DEPTH: u8 = 32;
/// The most subjects of a statement.
const MAX_SUBJECTS: usize = 1_024;

/// A statement that was read from a payload.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    subjects: Vec<Subject>,
    predicate_type: String,
    predicate: Map<String, Value>,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[schemars(rename = "StatementSubject")]
pub struct Subject {
    /// What it is called, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its digests: algorithm and value.
    pub digest: Vec<(String, String)>,
    /// What the digest is of, where the statement is of this gate: `content` or `id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_of: Option<String>,
}

/// Why a payload is no statement.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Not JSON, or JSON that has more than one reading.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// JSON of another form.
    #[error("{0}")]
    Form(&'static str),
}

impl Statement {
    /// Reads a statement. Members that in-toto does not know are passed over, as it demands.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn parse(text: &[u8]) -> Result<Self, StatementError> {
        let wrong = StatementError::Form;
        let mut all = json::object(text, DEPTH)?;
        if all.get("_type").and_then(Value::as_str) != Some(STATEMENT) {
            return Err(wrong("its `_type` is not `https://in-toto.io/Statement/v1`"));
        }
        let subjects = all.get("subject").and_then(Value::as_array).filter(|all| !all.is_empty());
        let subjects = subjects.ok_or(wrong("it is about nothing: it has no `subject`"))?;
        if subjects.len() > MAX_SUBJECTS {
            return Err(wrong("it has more than 1024 subjects"));
        }
        let subjects = subjects.iter().map(Subject::parse).collect::<Result<_, _>>()?;
        let predicate_type = all.get("predicateType").and_then(Value::as_str).map(ToOwned::to_owned);
        let predicate_type =
            predicate_type.filter(|t| !t.is_empty()).ok_or(wrong("it has no `predicateType`"))?;
        let predicate = match all.remove("predicate") {
            Some(Value::Object(predicate)) => predicate,
            // Unset is the same as empty.
            None | Some(Value::Null) => Map::new(),
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                return Err(wrong("its `predicate` is not an object"));
            }
        };
        Ok(Self { subjects, predicate_type, predicate })
    }

    /// What it is about; never empty.
    #[must_use]
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// What kind of statement it is.
    #[must_use]
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// What it states.
    #[must_use]
    pub fn predicate(&self) -> &Map<String, Value> {
        &self.predicate
    }
}

impl Subject {
    fn parse(value: &Value) -> Result<Self, StatementError> {
        let digest = value.get("digest").and_then(Value::as_object).filter(|all| !all.is_empty());
        let digest = digest.ok_or(StatementError::Form("a subject has no digest"))?;
        let text = |(algorithm, value): (&String, &Value)| {
            Some((algorithm.clone(), value.as_str().filter(|v| !v.is_empty())?.to_owned()))
        };
        let digest = digest.iter().map(text).collect::<Option<_>>();
        Ok(Self {
            name: value.get("name").and_then(Value::as_str).map(ToOwned::to_owned),
            digest: digest.ok_or(StatementError::Form("a subject's digest is not a string"))?,
            digest_of: value.pointer("/annotations/digestOf").and_then(Value::as_str).map(ToOwned::to_owned),
        })
    }
}
