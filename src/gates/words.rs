//! What people write to those who decide, and the ids by which they name what they mean.

use crate::http::is_deceptive;

/// A text without what surrounds it; `None` if there is nothing in it.
pub(super) fn given(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Whether a text has at most so many bytes and nothing that misleads the people who decide by it.
pub(super) fn is_plain(text: &str, most: usize) -> bool {
    text.len() <= most && !text.chars().any(|c| is_deceptive(c) && c != '\n')
}

/// Whether a text is of the form of the ids that are given here: no other goes to the store.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_misleads_whoever_reads_it_is_no_plain_text_and_what_no_gate_gives_is_no_id() {
        assert!(is_plain("the region is down\nsee CHG0000001, größer", 64));
        for text in ["\u{1b}[2J", "\u{202e}enon", "in\u{200b}visible", "a\rb", &"x".repeat(65)] {
            assert!(!is_plain(text, 64), "{text:?}");
        }
        assert!(is_id("01a22c7f-aeb5-702b-a1a1-dc388ce0b4d7"));
        for text in ["", "x", "01A22C7F-AEB5-702B-A1A1-DC388CE0B4D7", "01a22c7f-aeb5-702b-a1a1-dc388ce0b4d\0"]
        {
            assert!(!is_id(text), "{text:?}");
        }
        assert_eq!((given(Some("  a ".into())), given(Some(" \n".into()))), (Some("a".into()), None));
    }
}
