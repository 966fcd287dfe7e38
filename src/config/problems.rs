//! Collects everything that is wrong with one file, so that all of it is said at once.

use std::sync::Arc;

use crate::yaml::{Place, Problem, Severity, Spanned};

/// The problems of one file so far.
#[derive(Debug)]
pub struct Problems {
    file: Arc<str>,
    found: Vec<Problem>,
}

impl Problems {
    /// None so far.
    #[must_use]
    pub fn of(file: &Arc<str>) -> Self {
        Self { file: Arc::clone(file), found: Vec::new() }
    }

    /// Adds an error at a place.
    pub fn error(&mut self, place: Place, message: impl Into<String>) {
        self.found.push(Problem::error(&self.file, place, message));
    }

    /// Adds an error at a place, with how to mend it.
    pub fn error_with(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Problem::error(&self.file, place, message).hint(hint));
    }

    /// Adds a warning at a place, with how to mend it.
    pub fn warning(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Problem::warning(&self.file, place, message).hint(hint));
    }

    /// Adds a problem of another file.
    pub fn push(&mut self, problem: Problem) {
        self.found.push(problem);
    }

    /// Reads a value; what is wrong with it is said at its place.
    pub fn read<T>(
        &mut self,
        value: &Spanned<String>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match read(&value.value) {
            Ok(read) => Some(read),
            Err(message) => {
                self.error(Place::of(value), message);
                None
            }
        }
    }

    /// Refuses a key whose feature is not built.
    pub fn later<T>(&mut self, key: &str, value: Option<&Spanned<T>>) {
        if let Some(value) = value {
            self.error_with(Place::of(value), format!("`{key}` is not in this version"), "remove it");
        }
    }

    /// Whether an error is among them.
    #[must_use]
    pub fn any_error(&self) -> bool {
        self.found.iter().any(|p| p.severity == Severity::Error)
    }

    /// All of them, in the order of the file.
    #[must_use]
    pub fn sorted(mut self) -> Vec<Problem> {
        self.found.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
        self.found.dedup();
        self.found
    }
}
