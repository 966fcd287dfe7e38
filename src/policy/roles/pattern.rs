//! Azure's wildcards for actions, compiled once.
//!
//! Azure compares actions without case; `*` stands for any characters, slashes included, and `/*/`
//! also for a single slash, so that `workspaces/*/read` grants reading the workspace itself. That
//! last rule decides what the role AzureML Data Scientist may do. A pattern is a list of literal
//! pieces with gaps between them, matched left to right without backtracking: whatever a gap can
//! reach from a later position it can reach from an earlier one, so the first fit is as good as any.

use std::fmt;

/// What may stand between two literal pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// `*`: any characters, or none.
    Anything,
    /// The inside of `/*/`, after its first slash: nothing, or anything that ends with a slash.
    Segments,
}

/// An action with wildcards.
#[derive(Clone, PartialEq, Eq)]
pub struct ActionPattern {
    text: Box<str>,
    /// The literal start, in lower case.
    head: Box<[u8]>,
    /// Each gap with the literal after it, in lower case.
    rest: Box<[(Gap, Box<[u8]>)]>,
}

impl ActionPattern {
    /// Compiles a pattern; every text is one.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let folded = text.to_ascii_lowercase();
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut gap = None;
        let mut left = folded.as_bytes();
        while let Some((&byte, after)) = left.split_first() {
            if let Some(after) = left.strip_prefix(b"/*/") {
                literal.push(b'/');
                pieces.push((gap.replace(Gap::Segments), std::mem::take(&mut literal)));
                left = after;
            } else if byte == b'*' {
                pieces.push((gap.replace(Gap::Anything), std::mem::take(&mut literal)));
                left = after;
            } else {
                literal.push(byte);
                left = after;
            }
        }
        pieces.push((gap, literal));
        let mut pieces = pieces.into_iter();
        let head = pieces.next().map(|(_, literal)| literal).unwrap_or_default();
        let rest = pieces.map(|(gap, literal)| (gap.unwrap_or(Gap::Anything), literal.into())).collect();
        Self { text: text.into(), head: head.into(), rest }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern holds no wildcard, so that it names one action.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether the pattern covers `action`.
    #[must_use]
    pub fn matches(&self, action: &str) -> bool {
        let action = action.as_bytes();
        let Some((start, mut left)) = action.split_at_checked(self.head.len()) else { return false };
        if !start.eq_ignore_ascii_case(&self.head) {
            return false;
        }
        let Some(((last_gap, tail), middle)) = self.rest.split_last() else { return left.is_empty() };
        for (gap, literal) in middle {
            let Some(after) = skip(*gap, literal, left) else { return false };
            left = after;
        }
        let Some(length) = left.len().checked_sub(tail.len()) else { return false };
        let (skipped, end) = left.split_at(length);
        end.eq_ignore_ascii_case(tail) && bridges(*last_gap, skipped)
    }
}

/// Whether a gap can stand for `skipped`.
fn bridges(gap: Gap, skipped: &[u8]) -> bool {
    match gap {
        Gap::Anything => true,
        Gap::Segments => skipped.is_empty() || skipped.ends_with(b"/"),
    }
}

/// What is left of `text` after the first fit of a gap and the literal behind it.
fn skip<'t>(gap: Gap, literal: &[u8], text: &'t [u8]) -> Option<&'t [u8]> {
    (0..=text.len().checked_sub(literal.len())?).find_map(|at| {
        let (skipped, from) = text.split_at_checked(at)?;
        let (candidate, after) = from.split_at_checked(literal.len())?;
        (candidate.eq_ignore_ascii_case(literal) && bridges(gap, skipped)).then_some(after)
    })
}

impl fmt::Display for ActionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ActionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, action: &str) -> bool {
        ActionPattern::new(pattern).matches(action)
    }

    #[test]
    fn a_star_between_slashes_spans_zero_segments() {
        assert!(covers("a/*/b", "a/b"));
        assert!(covers("M/workspaces/*/read", "M/workspaces/read"));
        assert!(covers("M/workspaces/computes/*/write", "M/workspaces/computes/write"));
    }

    #[test]
    fn a_star_spans_slashes() {
        assert!(covers("a/*/b", "a/x/y/b"));
        assert!(covers("*/read", "a/b/c/read"));
        assert!(covers("*", "a/b"));
        assert!(covers("a/*", "a/b/c"));
    }

    #[test]
    fn a_trailing_star_does_not_cover_the_parent_itself() {
        assert!(!covers("a/*", "a"));
        assert!(!covers("*/read", "read"));
    }

    #[test]
    fn comparison_ignores_case() {
        assert!(covers("MICROSOFT.X/*/Read", "microsoft.x/y/READ"));
        assert!(covers("Microsoft.X/y/read", "microsoft.x/Y/Read"));
    }

    #[test]
    fn a_pattern_is_anchored_on_both_sides() {
        assert!(!covers("a/b", "a/b/c"));
        assert!(!covers("b/c", "a/b/c"));
        assert!(!covers("a/*/b", "a/xb"));
        assert!(!covers("a/*/b", "ab"));
        assert!(!covers("a/*/b", "a/b/c"));
    }

    #[test]
    fn two_wildcards_find_a_fit_beyond_the_first() {
        assert!(covers("a/*/b/*/c", "a/b/c"));
        assert!(covers("a/*/b/*/c", "a/x/b/b/y/c"));
        assert!(covers("a*b*c", "axxbxbxc"));
        assert!(!covers("a*b*c", "axxcxb"));
    }
}
