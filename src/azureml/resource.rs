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
        let mut segments = self.text.split('/');
        while let Some(s) = segments.next() {
            if s.eq_ignore_ascii_case(segment) {
                return segments.next();
            }
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
