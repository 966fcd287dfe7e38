//! Texts that others chose, for people to read: without what hides, reorders or obeys.

/// C0 and C1 controls, DEL, line and paragraph separators, bidirectional controls, and what is
/// invisible: joiners, soft hyphens, fillers, interlinear marks, tags.
#[must_use]
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// The text with U+FFFD where it would deceive whoever reads it.
#[must_use]
pub fn legible(text: &str) -> String {
    text.replace(is_deceptive, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_deceive_is_seen_to_be_there_and_the_rest_is_as_it_was() {
        assert_eq!(legible("zażółć 機械 <b>"), "zażółć 機械 <b>");
        assert_eq!(legible("a\u{202e}b\u{1b}[2J\nc\u{200b}"), "a\u{fffd}b\u{fffd}[2J\u{fffd}c\u{fffd}");
    }
}
