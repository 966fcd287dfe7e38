//! Canonical JSON (RFC 8785), written straight into the line.
//!
//! Keys are written in their canonical order by the code that calls; a debug assertion and the
//! tests hold it to that. Numbers are integers below 2^53, where every JSON library agrees.

use std::{cell::Cell, fmt::Write as _};

use crate::http::is_deceptive;

/// The longest string of a record as it is written, in bytes; longer ones end with `…`.
pub(super) const MAX_TEXT: usize = 1_024;
/// A buffer that grew beyond this is not kept.
const MAX_KEPT: usize = 16 << 10;

thread_local! {
    /// What lines are written into before they are as long as they get.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A JSON line being written.
#[derive(Debug)]
pub(crate) struct Line {
    out: Vec<u8>,
    /// The last key of each open object or array.
    #[cfg(debug_assertions)]
    open: Vec<&'static str>,
    /// The longest string, in bytes.
    longest: usize,
}

impl Line {
    /// A line whose strings take at most `longest` bytes each.
    pub fn new(longest: usize) -> Self {
        Self {
            out: SCRATCH.take(),
            #[cfg(debug_assertions)]
            open: Vec::new(),
            longest,
        }
    }

    #[inline]
    fn comma(&mut self) {
        // No value ends like this.
        if !matches!(self.out.last(), Some(b'{' | b'[')) {
            self.out.push(b',');
        }
    }

    #[inline]
    fn key(&mut self, key: &'static str) {
        self.comma();
        #[cfg(debug_assertions)]
        if let Some(last) = self.open.last_mut() {
            assert!(*last < key, "`{key}` is written behind `{last}`");
            *last = key;
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// The outermost object.
    pub fn object(mut self, members: impl FnOnce(&mut Self)) -> Vec<u8> {
        self.out.clear();
        self.within(b'{', b'}', members);
        let line = self.out.as_slice().to_vec();
        if self.out.capacity() <= MAX_KEPT {
            SCRATCH.set(self.out);
        }
        line
    }

    #[inline]
    fn within(&mut self, from: u8, to: u8, members: impl FnOnce(&mut Self)) {
        self.out.push(from);
        #[cfg(debug_assertions)]
        self.open.push("");
        members(self);
        #[cfg(debug_assertions)]
        self.open.pop();
        self.out.push(to);
    }

    /// A member that is an object.
    #[inline]
    pub fn nested(&mut self, key: &'static str, members: impl FnOnce(&mut Self)) {
        self.key(key);
        self.within(b'{', b'}', members);
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
        self.within(b'[', b']', |line| {
            for one in items {
                line.comma();
                line.within(b'{', b'}', |line| item(line, one));
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
        self.within(b'[', b']', |line| {
            for text in items {
                line.comma();
                line.string(text);
            }
        });
    }

    /// A string; nothing is written for `None`.
    #[inline]
    pub fn text<'t>(&mut self, key: &'static str, value: impl Into<Option<&'t str>>) {
        if let Some(text) = value.into() {
            self.key(key);
            self.string(text);
        }
    }

    /// A word of the form itself: it needs no escapes.
    #[inline]
    pub fn word(&mut self, key: &'static str, word: &'static str) {
        debug_assert!(is_plain(word), "`{word}` needs escapes");
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(word.as_bytes());
        self.out.push(b'"');
    }

    /// One string out of several.
    pub fn joined(&mut self, key: &'static str, parts: &[&str]) {
        self.key(key);
        let length: usize = parts.iter().map(|p| p.len()).sum();
        if length <= self.longest && parts.iter().all(|p| is_plain(p)) {
            self.out.push(b'"');
            parts.iter().for_each(|p| self.out.extend_from_slice(p.as_bytes()));
            self.out.push(b'"');
        } else {
            self.string(&parts.concat());
        }
    }

    /// A number below 2^53.
    #[inline]
    pub fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        self.out.extend_from_slice(Digits::of(value.min((1 << 53) - 1)).as_bytes());
    }

    /// Bytes in hexadecimal.
    pub fn hex(&mut self, key: &'static str, bytes: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        for eight in bytes.chunks(8) {
            let mut text = [0; 16];
            for (pair, byte) in text.chunks_exact_mut(2).zip(eight) {
                pair.copy_from_slice(&[nibble(byte >> 4), nibble(byte & 15)]);
            }
            self.out.extend_from_slice(text.get(..2 * eight.len()).unwrap_or_default());
        }
        self.out.push(b'"');
    }

    fn string(&mut self, text: &str) {
        self.out.push(b'"');
        if text.len() <= self.longest && is_plain(text) {
            self.out.extend_from_slice(text.as_bytes());
        } else {
            let end = self.out.len() + self.longest;
            let mut shown = String::new();
            for c in text.chars() {
                shown.clear();
                character(c, &mut shown);
                if self.out.len() + shown.len() > end {
                    self.out.extend_from_slice("…".as_bytes());
                    break;
                }
                self.out.extend_from_slice(shown.as_bytes());
            }
        }
        self.out.push(b'"');
    }
}

/// A character as it stands in a string.
fn character(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        // What a terminal or a viewer would obey instead of show is written as words: canonical
        // JSON has no escape for it beyond the C0 controls.
        c if is_deceptive(c) => {
            let _infallible = write!(out, "\\\\u{{{:x}}}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// Whether a text is written as it stands. Looks at all of it, because that is done many bytes at a
/// time.
fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, b| plain & (0x20..0x7f).contains(&b) & (b != b'"') & (b != b'\\'))
}

const fn nibble(four: u8) -> u8 {
    if four < 10 { b'0' + four } else { b'a' + four - 10 }
}

/// A number in decimal digits, without an allocation.
#[derive(Debug)]
pub(super) struct Digits {
    text: [u8; 20],
    from: usize,
}

impl Digits {
    pub fn of(mut value: u64) -> Self {
        let mut text = [b'0'; 20];
        let mut from = text.len();
        for place in text.iter_mut().rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
            from -= 1;
            if value == 0 {
                break;
            }
        }
        Self { text, from }
    }

    fn as_bytes(&self) -> &[u8] {
        self.text.get(self.from..).unwrap_or_default()
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
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
                l.hex("e", &number.to_be_bytes()[1..]);
                l.joined("f", &[text.as_str(), ":", Digits::of(number).as_str()]);
                l.word("g", "word");
            });
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(serde_json::to_vec(&value).unwrap(), line);
            prop_assert_eq!(&value["c"]["n"], number);
            prop_assert_eq!(value["e"].as_str().unwrap(), &format!("{number:014x}"));
            let end = format!(":{number}");
            prop_assert!(value["f"].as_str().unwrap().ends_with(&end) || text.len() > 100);
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
