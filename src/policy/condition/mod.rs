//! `when`: conditions in CEL.

use super::Question;
use crate::azureml::Act;

/// A compiled condition.
#[derive(Debug, Clone)]
pub struct Condition(());

/// What a condition reads: the question, and the act that is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Roots<'a> {
    /// Who, what, the request, now.
    pub question: &'a Question<'a>,
    /// The (action, resource) pair that is looked at.
    pub act: &'a Act,
}

/// Why a text is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConditionError {
    /// Bytes from the start of the text.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

/// Why a condition has no value on these roots, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unevaluable(pub String);

impl Condition {
    /// Parses and checks a condition.
    ///
    /// # Errors
    /// Every text for now: the language comes with its own change.
    pub fn compile(text: &str) -> Result<Self, ConditionError> {
        let _ = text;
        Err(ConditionError { offset: 0, message: "`when` is not in this version".to_owned(), hint: None })
    }

    /// Whether the condition holds.
    ///
    /// # Errors
    /// [`Unevaluable`] where a value that it needs is absent or of another type.
    pub fn evaluate(&self, roots: &Roots<'_>) -> Result<bool, Unevaluable> {
        let _ = roots;
        Err(Unevaluable("not in this version".to_owned()))
    }

    /// The values that the condition reads on these roots, redacted and bounded, for the record.
    #[must_use]
    pub fn read(&self, roots: &Roots<'_>) -> Vec<(String, serde_json::Value)> {
        let _ = roots;
        Vec::new()
    }

    /// Whether it reads the request's body.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        false
    }

    /// Whether it reads the time.
    #[must_use]
    pub fn reads_now(&self) -> bool {
        false
    }
}
