//! Clutch's globs: those of gobwas/glob with `/` as their separator.

use regex::Regex;

use super::Why;

const NO_GLOB: Why = Why {
    message: "is no glob that amlgate reads",
    hint: Some(
        "`*` stands for what lies between two `/`, `**` for all, `?` for one character, `{a,b}` for either",
    ),
};

/// The largest compiled pattern, in bytes.
const MAX_PATTERN: usize = 64 << 10;

/// A glob, as a pattern that fits the same texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    /// What every text that fits begins with.
    pub literal: String,
    /// Whether that is all of it.
    pub is_exact: bool,
    /// A regular expression, without anchors.
    pub expression: String,
}

impl Glob {
    /// Reads a glob. A single `*` is everything, as it is for Clutch.
    ///
    /// # Errors
    /// Why it is not read: what could be read in two ways is not guessed.
    pub fn parse(text: &str) -> Result<Self, Why> {
        if text == "*" {
            return Ok(Self { literal: String::new(), is_exact: false, expression: "(?s:.*)".into() });
        }
        let mut glob = Self { literal: String::new(), is_exact: true, expression: String::new() };
        let mut depth = 0_u32;
        let mut left = text.chars().peekable();
        while let Some(c) = left.next() {
            let piece = match c {
                '*' => {
                    let mut all = false;
                    while left.next_if_eq(&'*').is_some() {
                        all = true;
                    }
                    if all { "(?s:.*)".to_owned() } else { "[^/]*".to_owned() }
                }
                '?' => "[^/]".to_owned(),
                '{' => {
                    depth += 1;
                    "(?:".to_owned()
                }
                '}' => {
                    depth = depth.checked_sub(1).ok_or(NO_GLOB)?;
                    ")".to_owned()
                }
                ',' if depth > 0 => "|".to_owned(),
                // Classes and escapes: rare in roles, and easily read otherwise than they were meant.
                '[' | ']' | '\\' => return Err(NO_GLOB),
                c if c.is_control() => return Err(NO_GLOB),
                c => {
                    if glob.is_exact {
                        glob.literal.push(c);
                    }
                    glob.expression.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
                    continue;
                }
            };
            glob.is_exact = false;
            glob.expression.push_str(&piece);
        }
        if depth > 0 {
            return Err(NO_GLOB);
        }
        Ok(glob)
    }

    /// Whether a text fits.
    ///
    /// # Errors
    /// It is too large to be compiled.
    pub fn compiled(&self) -> Result<Regex, Why> {
        regex::RegexBuilder::new(&format!("^(?:{})$", self.expression))
            .size_limit(MAX_PATTERN)
            .build()
            .map_err(|_| NO_GLOB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(glob: &str, text: &str) -> bool {
        Glob::parse(glob).unwrap().compiled().unwrap().is_match(text)
    }

    #[test]
    fn a_star_ends_at_a_slash_two_do_not_and_alone_it_is_everything() {
        assert!(fits("*", "/a/b"));
        assert!(fits("/a/*", "/a/b"));
        assert!(!fits("/a/*", "/a/b/c"));
        assert!(fits("/a/*", "/a/"));
        assert!(fits("/a/**", "/a/b/c"));
        assert!(!fits("/a/**", "/a"));
        assert!(fits("/*.v1.*/Get", "/a.v1.JobsAPI/Get"));
        assert!(fits("/{a,b*}/c?", "/bat/c1"));
        assert!(!fits("/{a,b*}/c?", "/cat/c1"));
        assert!(!fits("/a.b", "/axb"));
    }

    #[test]
    fn what_every_text_begins_with_is_known() {
        let glob = Glob::parse("/a/b/{c,d}").unwrap();
        assert_eq!((glob.literal.as_str(), glob.is_exact), ("/a/b/", false));
        let exact = Glob::parse("/a/b").unwrap();
        assert_eq!((exact.literal.as_str(), exact.is_exact), ("/a/b", true));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        for bad in ["/a[bc]", "/a\\*", "/{a", "/a}", "a\nb"] {
            assert_eq!(Glob::parse(bad).unwrap_err(), NO_GLOB, "{bad}");
        }
    }
}
