//! `when`: conditions in CEL, a subset of it that is checked at load.
//!
//! CEL's functions and operators are the crate `cel`'s; what is ours is what may be read
//! (`members`), which texts are admitted (`subset`), and that nothing a caller sends can make a
//! condition costly or quietly false: what is absent, of another type, too long or not to be known
//! leaves it without a value, and the list of the entry decides what follows (DECISIONS 3 and 4).
//!
//! Texts that Azure compares without case compare without case here too: `action`, `resource` (but
//! for `container` and `blob`), `allocates.skus`, `request.path` and `request.body`, names of its
//! members included. Claims, headers and query values compare letter by letter.

mod functions;
mod guards;
mod members;
mod record;
mod subset;
#[cfg(test)]
mod tests;
mod types;
mod values;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use cel::{
    Context, ExecutionError, ParseErrors, Value,
    common::{ast::IdedExpr, types::CelBool, value::Val},
};
use functions::{ENVIRONMENT, Pattern};
pub use members::Path;
use members::Root;

use super::Question;
use crate::azureml::Act;

/// The longest text of a condition, in bytes.
const MAX_TEXT: usize = 4096;
/// The longest list that a condition goes through.
const LONGEST: usize = 10_000;
/// The same, where it goes through one list for every item of another.
const LONGEST_NESTED: usize = 1_000;

/// A compiled condition.
#[derive(Debug, Clone)]
pub struct Condition {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    written: Box<str>,
    expression: IdedExpr,
    patterns: Vec<(String, Pattern)>,
    reads: Vec<Path>,
    roots: BTreeSet<Root>,
    longest: usize,
    unguarded: Vec<Warning>,
}

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

/// Something that a condition says and may not mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Bytes from the start of the text.
    pub offset: usize,
    /// What may go wrong.
    pub message: String,
    /// How to mend it.
    pub hint: String,
}

/// Why a condition has no value on these roots, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unevaluable(pub String);

impl Condition {
    /// Parses and checks a condition.
    ///
    /// # Errors
    /// A text that is no CEL, or CEL outside the subset, with the place and how to mend it.
    pub fn compile(text: &str) -> Result<Self, ConditionError> {
        if text.len() > MAX_TEXT {
            let message = format!("a condition has at most {MAX_TEXT} bytes");
            let hint = Some("split it into several entries".to_owned());
            return Err(ConditionError { offset: MAX_TEXT, message, hint });
        }
        // A text that the parser cannot cope with must not take the process with it.
        let parsed = catch_unwind(AssertUnwindSafe(|| ENVIRONMENT.compile(text)));
        let Ok(parsed) = parsed else {
            let message = "the condition cannot be parsed".to_owned();
            return Err(ConditionError { offset: 0, message, hint: Some("write it more simply".to_owned()) });
        };
        let program = parsed.map_err(|errors| unparsable(text, &errors))?;
        let unguarded = guards::unguarded(program.expression(), program.source_info());
        let admitted = subset::admit(program.expression().clone(), program.source_info())?;
        let reads: Vec<Path> = admitted.reads.into_iter().collect();
        Ok(Self {
            inner: Arc::new(Inner {
                written: text.into(),
                expression: admitted.expression,
                patterns: admitted.patterns,
                roots: reads.iter().map(|path| path.root).collect(),
                reads,
                longest: if admitted.nested { LONGEST_NESTED } else { LONGEST },
                unguarded,
            }),
        })
    }

    /// Whether the condition holds. Takes time bounded by the condition and by what it reads; of
    /// the request only that is looked at.
    ///
    /// # Errors
    /// [`Unevaluable`] where a value that it needs is absent, of another type or not to be known.
    pub fn evaluate(&self, roots: &Roots<'_>) -> Result<bool, Unevaluable> {
        let context = self.context(roots);
        let value =
            Value::resolve_val(&self.inner.expression, &context).map_err(|error| self.why(&error, roots))?;
        match value.downcast_ref::<CelBool>() {
            Some(boolean) => Ok(*boolean.inner()),
            None => Err(Unevaluable(format!("it is {} and not true or false", value.get_type().name()))),
        }
    }

    /// The values that the condition reads on these roots, redacted and at most 256 bytes each, for
    /// the record. What is absent is `null`.
    #[must_use]
    pub fn read(&self, roots: &Roots<'_>) -> Vec<(String, serde_json::Value)> {
        let context = self.context(roots);
        self.inner.reads.iter().map(|path| (path.to_string(), record::value(path, &context))).collect()
    }

    /// The text that it was compiled from.
    pub(super) fn written(&self) -> &str {
        &self.inner.written
    }

    /// The paths that the condition reads.
    #[must_use]
    pub fn reads(&self) -> &[Path] {
        &self.inner.reads
    }

    /// The first path that the record of a past request does not hold. `skus`: whether it holds all
    /// VM sizes.
    pub(super) fn lacks(&self, operation: &crate::azureml::Operation, skus: bool) -> Option<&Path> {
        let reserves = operation.facts.allocates.is_some();
        self.inner.reads.iter().find(|path| !path.is_recorded(reserves, skus))
    }

    /// Whether it reads the request's body.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        self.inner.reads.iter().any(Path::reads_body)
    }

    /// Whether it reads the time.
    #[must_use]
    pub fn reads_now(&self) -> bool {
        self.inner.roots.contains(&Root::Now)
    }

    /// Paths that a request may lack and that nothing guards: there the condition has no value.
    #[must_use]
    pub fn unguarded(&self) -> &[Warning] {
        &self.inner.unguarded
    }

    fn context<'r>(&self, roots: &Roots<'r>) -> Context<'r, 'r> {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        for root in &self.inner.roots {
            let value = values::root(*root, *roots, self.inner.longest);
            context.add_variable_as_val(root.name(), value);
        }
        for (name, pattern) in &self.inner.patterns {
            context.add_variable_as_val(name.as_str(), Box::new(pattern.clone()) as Box<dyn Val>);
        }
        context
    }

    /// The words of an error, without any value of the request.
    fn why(&self, error: &ExecutionError, roots: &Roots<'_>) -> Unevaluable {
        if let Some(why) = values::why_unknown(error).or_else(|| functions::why_failed(error)) {
            return Unevaluable(why.to_owned());
        }
        if let ExecutionError::NoSuchKey(name) = error {
            // The error names the last step only; the path that it ended says more.
            let context = self.context(roots);
            let absent = self.inner.reads.iter().flat_map(Path::prefixes).find(|path| {
                path.ends_with(name)
                    && Value::resolve_val(&record::expression(path), &context).as_ref().err() == Some(error)
            });
            return Unevaluable(
                absent.map_or_else(|| format!("`{name}` is absent"), |path| format!("`{path}` is absent")),
            );
        }
        Unevaluable(words(error).to_owned())
    }
}

/// What went wrong, without the values with which it did.
#[expect(clippy::wildcard_enum_match_arm, reason = "the evaluator's errors may grow")]
fn words(error: &ExecutionError) -> &'static str {
    match error {
        ExecutionError::NoSuchOverload(_)
        | ExecutionError::UnsupportedTargetType { .. }
        | ExecutionError::NotSupportedAsMethod { .. }
        | ExecutionError::UnexpectedType { .. }
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::UnsupportedIndex(..)
        | ExecutionError::UnsupportedKeyType(_) => "a value is of another type than the condition needs",
        ExecutionError::ValuesNotComparable(..) => "two values have no order",
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "a division by zero",
        ExecutionError::Overflow(..) => "a number is too large",
        ExecutionError::IndexOutOfBounds(_) => "a list has no such item",
        ExecutionError::FunctionError { .. } => "a value cannot be converted",
        _ => "the condition has no value",
    }
}

/// The first complaint of the parser, in our words.
fn unparsable(text: &str, errors: &ParseErrors) -> ConditionError {
    let first = errors.errors.first();
    let (line, column) = first.map_or((1, 1), |error| error.pos);
    let before: usize =
        text.split_inclusive('\n').take(usize::try_from(line - 1).unwrap_or_default()).map(str::len).sum();
    let within = text.get(before..).unwrap_or_default();
    let column = usize::try_from(column - 1).unwrap_or_default();
    let offset = before + within.chars().take(column).map(char::len_utf8).sum::<usize>();
    let complaint = first.map_or("", |error| error.msg.as_str());
    let complaint = complaint.strip_prefix("Syntax error: ").unwrap_or(complaint);
    // What the grammar would take instead is a list of its tokens, which helps nobody.
    let complaint = complaint.split(" expecting ").next().unwrap_or_default().replace('\'', "`");
    let message = if complaint.is_empty() {
        "the condition cannot be parsed".to_owned()
    } else {
        format!("the condition cannot be parsed: {complaint}")
    };
    ConditionError {
        offset,
        message,
        hint: Some("conditions are CEL: `a.b == 'c' && !(d in [1, 2])`".to_owned()),
    }
}
