//! ARM resource ids, compared the way Azure compares them: without case, on whole segments.

use std::{fmt, hash, sync::Arc};

/// An ARM id or scope: `/`, `/subscriptions/S`, `.../resourceGroups/G`, a resource or a child.
///
/// Spelling is kept for display; equality, hashing and containment ignore case.
#[derive(Clone)]
pub struct ResourceId {
    text: Arc<str>,
    folded: Arc<str>,
}

impl ResourceId {
    /// From an id that starts with `/`; a trailing `/` is dropped. `None` for anything else, for
    /// an empty or dot segment, and for `%`, `\`, `;`, `?`, `#`, control or non-ASCII characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "/" {
            return Some(Self { text: "/".into(), folded: "/".into() });
        }
        let text = text.strip_suffix('/').unwrap_or(text);
        let segments = text.strip_prefix('/')?.as_bytes().split(|b| *b == b'/');
        // All of it is looked at, because that is done many bytes at a time.
        let clean = text.bytes().fold(true, |clean, b| clean & is_of_id(b))
            && !segments.into_iter().any(|s| matches!(s, b"" | b"." | b".."));
        clean.then(|| Self { text: text.into(), folded: text.to_ascii_lowercase().into() })
    }

    /// The id as it was spelled.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The id in lower case: the form to index by.
    #[must_use]
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// Whether this id is `scope` or lies below it, on whole segments.
    #[must_use]
    pub fn is_within(&self, scope: &Self) -> bool {
        if &*scope.folded == "/" {
            return true;
        }
        self.folded.strip_prefix(&*scope.folded).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The value after a type segment (`workspaces`, `onlineEndpoints`, `subscriptions`), spelled as given.
    #[must_use]
    pub fn after(&self, segment: &str) -> Option<&str> {
        let (from, to) = self.named(segment)?;
        self.text.get(from..to)
    }

    /// The id in lower case up to the resource of a type (`workspaces`): whatever lies below the same
    /// gives the same.
    #[must_use]
    pub fn up_to(&self, segment: &str) -> Option<&str> {
        self.folded.get(..self.named(segment)?.1)
    }

    /// Where the name behind a type segment stands. An id is pairs of a type and a name, so that what
    /// somebody called `workspaces` (a resource group, say) is no type.
    fn named(&self, wanted: &str) -> Option<(usize, usize)> {
        let mut at = 1;
        let mut segments = self.text.get(at..)?.split('/');
        while let (Some(kind), Some(name)) = (segments.next(), segments.next()) {
            let from = at + kind.len() + 1;
            let to = from + name.len();
            if kind.eq_ignore_ascii_case(wanted) {
                return Some((from, to));
            }
            at = to + 1;
        }
        None
    }
}

const fn is_of_id(b: u8) -> bool {
    (b.is_ascii_graphic() | (b == b' '))
        & (b != b'%')
        & (b != b'\\')
        & (b != b';')
        & (b != b'?')
        & (b != b'#')
}

impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        self.folded == other.folded
    }
}

impl Eq for ResourceId {}

impl hash::Hash for ResourceId {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.folded.hash(state);
    }
}

impl fmt::Debug for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_called_as_a_type_is_called_is_no_type() {
        let id = |text: &str| ResourceId::parse(text).unwrap();
        let named = id(
            "/subscriptions/s/resourceGroups/workspaces/providers/Microsoft.MachineLearningServices/Workspaces/A/jobs/workspaces",
        );
        assert_eq!((named.after("workspaces"), named.after("JOBS")), (Some("A"), Some("workspaces")));
        assert_eq!(
            named.up_to("workspaces"),
            Some(
                "/subscriptions/s/resourcegroups/workspaces/providers/microsoft.machinelearningservices/workspaces/a"
            )
        );
        for without in ["/", "/workspaces", "/subscriptions/workspaces", "/subscriptions/s/workspaces"] {
            assert_eq!(
                (id(without).after("workspaces"), id(without).up_to("workspaces")),
                (None, None),
                "{without}"
            );
        }
        assert_eq!(id("/workspaces/a").up_to("workspaces"), Some("/workspaces/a"));
    }
}
