//! Texts of others, made fit to stand beside words of the gate.

/// The longest value in a message, in bytes: a reason or a note, whole.
pub(super) const LONG: usize = 1_024;
/// The longest of the others.
pub(super) const SHORT: usize = 512;

/// One line of visible characters that no client makes a link of: control characters and white space
/// become single spaces, what is invisible or turns the direction of writing is left out, and the
/// scheme of a URL is broken visibly (`https[:]//`). Cut to so many bytes.
pub(super) fn plain(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !is_invisible(*c)) {
        let c = if c.is_control() || c.is_whitespace() { ' ' } else { c };
        if c != ' ' || !out.ends_with(' ') {
            out.push(c);
        }
    }
    cut(&out.trim().replace("://", "[:]//"), most)
}

/// At most so many bytes, and a sign that there were more.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub('\u{2026}'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}\u{2026}", text.get(..end).unwrap_or_default())
}

/// Format characters (Unicode's Cf): joiners, marks and overrides of direction, tags.
const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}
