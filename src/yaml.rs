//! The one place where YAML is read, and the shape of what is wrong with it.
//!
//! serde-saphyr refuses duplicate keys, unbounded aliases and excessive depth, and knows line and
//! column of every value, so that each [`Problem`] says where, what and how to mend it. Nothing
//! here knows what the documents mean.

use std::{fmt, sync::Arc};

use serde::de::DeserializeOwned;
pub use serde_yaml::Spanned;

/// A line and a column, both from 1; 0 where the parser could not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Place {
    /// Where a spanned value stands in its file.
    #[must_use]
    pub fn of<T>(value: &Spanned<T>) -> Self {
        Self::from(value.referenced)
    }
}

impl From<serde_yaml::Location> for Place {
    fn from(location: serde_yaml::Location) -> Self {
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: narrow(location.line()), column: narrow(location.column()) }
    }
}

/// Whether a problem forbids to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted; somebody should look.
    Warning,
}

/// Something wrong in a file: where, what, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Where in it.
    pub place: Place,
    /// Whether it forbids to go on.
    pub severity: Severity,
    /// What is wrong: lower case, no final period, input in backticks.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl Problem {
    /// An error at a place.
    pub fn error(file: &Arc<str>, place: Place, message: impl Into<String>) -> Self {
        Self { file: Arc::clone(file), place, severity: Severity::Error, message: message.into(), hint: None }
    }

    /// A warning at a place.
    pub fn warning(file: &Arc<str>, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(file, place, message) }
    }

    /// Adds how to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        // What is said of a file as a whole has no place in it.
        match self.place {
            Place { line: 0, .. } => write!(f, "{}: {kind}{}", self.file, self.message)?,
            Place { line, column } => write!(f, "{}:{line}:{column}: {kind}{}", self.file, self.message)?,
        }
        match &self.hint {
            Some(hint) => write!(f, "\n    hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Reads one document into `T`.
///
/// # Errors
/// The first thing that the parser or the shape of `T` refuses, with its place.
pub fn parse<T: DeserializeOwned>(file: &Arc<str>, text: &str) -> Result<T, Problem> {
    // YAML 1.2 booleans only, and numbers as people write them: `on`, `no` and `0042` are text, so that
    // a claim's value is compared as it was meant.
    let options = serde_yaml::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    };
    serde_yaml::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map(Place::from).unwrap_or_default();
        Problem::error(file, place, first_line(&error.without_snippet().to_string()))
    })
}

/// The parser's message without its own place and picture: the place is printed in front.
fn first_line(message: &str) -> String {
    let line = message.lines().find(|l| !l.trim().is_empty()).unwrap_or("cannot be read").trim();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let end = line.find(" at line ").unwrap_or(line.len());
    let mut text = line.get(..end).unwrap_or(line).to_owned();
    if let Some(rest) = text.strip_prefix("line ")
        && let Some((_, rest)) = rest.split_once(": ")
    {
        text = rest.to_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read through Debug in the assertions")]
    struct Doc {
        name: String,
        #[serde(default)]
        claims: std::collections::BTreeMap<String, String>,
    }

    fn problem(text: &str) -> String {
        parse::<Doc>(&"p.yaml".into(), text).unwrap_err().to_string()
    }

    #[test]
    fn a_duplicate_key_in_a_map_is_refused_where_it_stands() {
        let said = problem("name: a\nclaims:\n  branch: main\n  branch: evil\n");
        assert!(said.starts_with("p.yaml:4:3: "), "{said}");
        assert!(said.contains("branch"), "{said}");
    }

    #[test]
    fn an_unknown_key_is_refused_where_it_stands() {
        let said = problem("name: a\nnmae: b\n");
        assert!(said.starts_with("p.yaml:2:1: "), "{said}");
        assert!(said.contains("nmae"), "{said}");
    }

    #[test]
    fn what_is_said_of_a_whole_file_names_no_line() {
        let problem = Problem::error(&"p.yaml".into(), Place::default(), "cannot be read");
        assert_eq!(problem.to_string(), "p.yaml: cannot be read");
    }

    #[test]
    fn a_wrong_type_names_its_place() {
        let said = problem("name: [1, 2]\n");
        assert!(said.starts_with("p.yaml:1:7: "), "{said}");
    }

    #[test]
    fn nesting_and_alias_bombs_are_refused() {
        assert!(parse::<Doc>(&"p".into(), &"[".repeat(20_000)).is_err());
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for i in 1..10 {
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(",")));
        }
        assert!(
            parse::<std::collections::BTreeMap<String, Vec<serde::de::IgnoredAny>>>(&"p".into(), &bomb)
                .is_err()
        );
    }
}
