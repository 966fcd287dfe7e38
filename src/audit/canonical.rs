//! Canonical JSON (RFC 8785), written straight into the line.
//!
//! Keys are written in their canonical order by the code that calls; a debug assertion and the
//! tests hold it to that. Numbers are integers below 2^53, where every JSON library agrees.

use std::fmt::Write as _;

/// The longest string of a record as it is written, in bytes; longer ones end with `…`.
pub(super) const MAX_TEXT: usize = 1_024;

/// A JSON line being written.
#[derive(Debug)]
pub(super) struct Line {
    out: String,
    /// For each open object or array: whether it has a member already, and its last key.
    open: Vec<(bool, &'static str)>,
    /// The longest string, in bytes.
    longest: usize,
}

impl Line {
    /// A line whose strings take at most `longest` bytes each.
    pub fn new(longest: usize) -> Self {
        Self { out: String::with_capacity(2_048), open: Vec::with_capacity(8), longest }
    }

    fn comma(&mut self) {
        if let Some((used, _)) = self.open.last_mut() {
            if *used {
                self.out.push(',');
            }
            *used = true;
        }
    }

    fn key(&mut self, key: &'static str) {
        self.comma();
        if let Some((_, last)) = self.open.last_mut() {
            debug_assert!(*last < key, "`{key}` is written behind `{last}`");
            *last = key;
        }
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
    }

    /// The outermost object.
    pub fn object(mut self, members: impl FnOnce(&mut Self)) -> Vec<u8> {
        self.within('{', '}', members);
        self.out.into_bytes()
    }

    fn within(&mut self, from: char, to: char, members: impl FnOnce(&mut Self)) {
        self.out.push(from);
        self.open.push((false, ""));
        members(self);
        self.open.pop();
        self.out.push(to);
    }

    /// A member that is an object.
    pub fn nested(&mut self, key: &'static str, members: impl FnOnce(&mut Self)) {
        self.key(key);
        self.within('{', '}', members);
    }

    /// A member that is an array of objects; nothing is written if there are none.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        items: impl IntoIterator<Item = T>,
        mut item: impl FnMut(&mut Self, T),
    ) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            return;
        }
        self.key(key);
        self.within('[', ']', |line| {
            for one in items {
                line.comma();
                line.within('{', '}', |line| item(line, one));
            }
        });
    }

    /// A member that is an array of strings; nothing is written if there are none.
    pub fn texts<'t>(&mut self, key: &'static str, items: impl IntoIterator<Item = &'t str>) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            return;
        }
        self.key(key);
        self.within('[', ']', |line| {
            for text in items {
                line.comma();
                line.string(text);
            }
        });
    }

    /// A string; nothing is written for `None`.
    pub fn text<'t>(&mut self, key: &'static str, value: impl Into<Option<&'t str>>) {
        if let Some(text) = value.into() {
            self.key(key);
            self.string(text);
        }
    }

    /// A number below 2^53.
    pub fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        let _infallible = write!(self.out, "{}", value.min((1 << 53) - 1));
    }

    /// Bytes in hexadecimal.
    pub fn hex(&mut self, key: &'static str, bytes: &[u8]) {
        self.key(key);
        self.out.push('"');
        for byte in bytes {
            let _infallible = write!(self.out, "{byte:02x}");
        }
        self.out.push('"');
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        if text.len() <= self.longest
            && text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\')
        {
            self.out.push_str(text);
        } else {
            let end = self.out.len() + self.longest;
            for c in text.chars() {
                let before = self.out.len();
                self.character(c);
                if self.out.len() > end {
                    self.out.truncate(before);
                    self.out.push('…');
                    break;
                }
            }
        }
        self.out.push('"');
    }

    fn character(&mut self, c: char) {
        match c {
            '"' => self.out.push_str("\\\""),
            '\\' => self.out.push_str("\\\\"),
            // What a terminal or a viewer would obey instead of show is written as words: canonical
            // JSON has no escape for it beyond the C0 controls.
            c if is_deceptive(c) => {
                let _infallible = write!(self.out, "\\\\u{{{:x}}}", u32::from(c));
            }
            c => self.out.push(c),
        }
    }
}

/// C0 and C1 controls, DEL, line and paragraph separators, bidirectional controls, and what is
/// invisible: joiners, soft hyphens, fillers, interlinear marks, tags.
pub(super) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_another_library_would_write(text in ".*", number in 0..1_u64 << 53) {
            let line = Line::new(MAX_TEXT).object(|l| {
                l.list("a", ["x", "y"], |l, s| l.text("k", s));
                l.text("b", text.as_str());
                l.nested("c", |l| l.number("n", number));
                l.texts("d", ["é", "\u{202e}"]);
            });
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(serde_json::to_vec(&value).unwrap(), line);
        }

        #[test]
        fn no_character_that_deceives_is_left(text in "\\PC*|[\\x00-\\x1f\\x7f-\\x9f\u{2028}\u{202e}\u{2066}]*") {
            let line = Line::new(MAX_TEXT).object(|l| l.text("t", text.as_str()));
            prop_assert!(!String::from_utf8(line).unwrap().chars().any(is_deceptive));
        }
    }

    proptest! {
        #[test]
        fn no_string_takes_more_than_its_bound(text in "[a\u{202e}é\"\\\\]{0,400}", longest in 0..600_usize) {
            let line = Line::new(longest).object(|l| l.text("t", text.as_str()));
            let around = r#"{"t":""}"#.len();
            prop_assert!(line.len() <= longest + around + "…".len());
            let whole = Line::new(usize::MAX >> 1).object(|l| l.text("t", text.as_str()));
            if whole.len() <= longest + around {
                prop_assert_eq!(line, whole);
            }
        }
    }

    #[test]
    fn long_text_is_cut_and_marked() {
        let line = Line::new(MAX_TEXT).object(|l| l.text("t", "x".repeat(5_000).as_str()));
        assert!(line.len() < 1_100 && String::from_utf8(line).unwrap().ends_with("x…\"}"));
    }
}
