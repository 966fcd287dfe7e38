//! `record` of an entry: which bodies of a request are kept in the record, and what of them is not.
//!
//! What several entries say of one request counts together: each body that one of them names, without
//! what any of them leaves out, for as long as the longest of them says.

use std::{fmt, sync::Arc, time::Duration};

/// Which bodies are kept, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recording {
    /// The request's.
    pub request: bool,
    /// The answer's.
    pub response: bool,
    /// What of them is left out.
    pub redact: Vec<Pointer>,
    /// For how long they are kept at least; as long as records are, without it.
    pub keep: Option<Duration>,
}

impl Recording {
    /// Both bodies, as long as records are kept.
    pub(super) fn everything() -> Self {
        Self { request: true, response: true, ..Self::default() }
    }

    /// What another entry says counts too.
    pub(super) fn join(&mut self, other: &Self) {
        let first = !self.request && !self.response;
        self.request |= other.request;
        self.response |= other.response;
        self.redact
            .extend(other.redact.iter().filter(|p| !self.redact.contains(p)).cloned().collect::<Vec<_>>());
        self.keep = match (self.keep, other.keep) {
            (_, keep) if first => keep,
            (Some(one), Some(other)) => Some(one.max(other)),
            // As long as records are: for ever, or as long as all of them.
            (None, _) | (_, None) => None,
        };
    }

    /// The entry's own words.
    pub(super) fn words(&self) -> Vec<String> {
        let bodies = [(self.request, "request"), (self.response, "response")];
        let mut words: Vec<String> =
            bodies.into_iter().filter(|(kept, _)| *kept).map(|(_, name)| name.to_owned()).collect();
        words.extend(self.redact.iter().map(|pointer| format!("without {pointer}")));
        words.extend(self.keep.map(|keep| format!("for {keep:?}")));
        words
    }
}

/// A place in a JSON document (RFC 6901), in which a step `*` is every member and every element.
/// Letters of members are compared without case, as Azure does.
#[derive(Clone, PartialEq, Eq)]
pub struct Pointer(Arc<[Box<str>]>);

impl Pointer {
    /// From its text.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(Self(Arc::new([])));
        }
        let rest = text.strip_prefix('/').ok_or("a JSON pointer begins with `/`: `/properties/password`")?;
        let steps = rest.split('/').map(|step| {
            let mut escapes = step.split('~').skip(1);
            if escapes.any(|behind| !behind.starts_with(['0', '1'])) {
                return Err("in a JSON pointer `~` is written `~0`, and `/` in a name `~1`");
            }
            Ok(step.replace("~1", "/").replace("~0", "~").into())
        });
        steps.collect::<Result<_, _>>().map(Self)
    }

    /// The names and numbers on the way; none for the whole document.
    #[must_use]
    pub fn steps(&self) -> &[Box<str>] {
        &self.0
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "/{}", step.replace('~', "~0").replace('/', "~1")))
    }
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(request: bool, redact: &[&str], keep: Option<u64>) -> Recording {
        Recording {
            request,
            response: !request,
            redact: redact.iter().map(|text| Pointer::parse(text).unwrap()).collect(),
            keep: keep.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_pointer_is_read_as_it_is_printed() {
        for text in ["", "/a", "/properties/environmentVariables/*", "/a~1b/~0c", "/0", "/"] {
            assert_eq!(Pointer::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Pointer::parse("/a~1b/~01").unwrap().steps(), ["a/b".into(), "~1".into()]);
        for text in ["a", "a/b", "/a~", "/~2"] {
            assert!(Pointer::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_several_entries_say_counts_together() {
        let mut all = Recording::default();
        all.join(&recording(true, &["/a"], Some(5)));
        assert_eq!(all, recording(true, &["/a"], Some(5)));
        all.join(&recording(false, &["/a", "/b"], Some(3)));
        assert!(all.request && all.response);
        assert_eq!((all.redact.len(), all.keep), (2, Some(Duration::from_secs(5))));
        all.join(&recording(true, &[], None));
        assert_eq!(all.keep, None, "as long as records are");
    }
}
