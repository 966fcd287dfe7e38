//! Path patterns for services that Azure has no actions for: `{x}` is one segment, `**` the rest.

use std::fmt;

use crate::http::Target;

/// A pattern over decoded path segments.
#[derive(Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    /// `None` stands for any one segment.
    segments: Box<[Option<Box<str>>]>,
    /// Whether any number of segments may follow, none included.
    open: bool,
}

/// Whether letters are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterCase {
    /// Spelling counts: what an entry allows.
    Sensitive,
    /// It does not: what an entry denies or demands, because some services ignore it.
    Ignored,
}

impl PathPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it: it must begin with `/`, hold no empty or dot segment and no `%`, and
    /// `**` only at its end.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(rest) = text.strip_prefix('/') else { return Err("a path begins with `/`") };
        let mut segments = Vec::new();
        let mut open = false;
        for segment in rest.split('/').filter(|_| !rest.is_empty()) {
            if open {
                return Err("`**` stands for the rest, so it comes last");
            }
            match segment {
                "" | "." | ".." => return Err("a path has no empty or dot segment"),
                "**" => open = true,
                s if s.starts_with('{') && s.ends_with('}') && s.len() > 2 => segments.push(None),
                s if s.contains(['{', '}', '*']) => {
                    return Err("`{x}` stands for one whole segment and `**` for the rest");
                }
                s if s.contains(['%', '?', '#', ';', '\\']) => {
                    return Err("a path is compared decoded and without its query");
                }
                s => segments.push(Some(s.into())),
            }
        }
        Ok(Self { text: text.into(), segments: segments.into(), open })
    }

    /// Whether the pattern covers the target's path.
    #[must_use]
    pub fn matches(&self, target: &Target, case: LetterCase) -> bool {
        let mut given = target.segments().iter().filter(|s| !s.is_empty());
        let all = self.segments.iter().all(|wanted| match (given.next(), wanted, case) {
            (None, _, _) => false,
            (Some(_), None, _) => true,
            (Some(s), Some(wanted), LetterCase::Sensitive) => s == wanted,
            (Some(s), Some(wanted), LetterCase::Ignored) => s.to_lowercase() == wanted.to_lowercase(),
        });
        all && (self.open || given.next().is_none())
    }
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, path: &str, case: LetterCase) -> bool {
        PathPattern::parse(pattern).unwrap().matches(&Target::parse("h", path).unwrap(), case)
    }

    #[test]
    fn a_name_in_braces_is_one_segment_and_two_stars_are_the_rest() {
        use LetterCase::Sensitive;
        assert!(covers("/api/{ns}/pods", "/api/a/pods", Sensitive));
        assert!(!covers("/api/{ns}/pods", "/api/a/b/pods", Sensitive));
        assert!(!covers("/api/{ns}/pods", "/api/a/pods/x", Sensitive));
        assert!(covers("/api/**", "/api/a/b", Sensitive));
        assert!(covers("/api/**", "/api", Sensitive));
        assert!(!covers("/api/**", "/apix", Sensitive));
        assert!(covers("/**", "/anything", Sensitive));
    }

    #[test]
    fn an_encoded_path_is_compared_decoded_and_case_counts_only_where_asked() {
        assert!(!covers("/Admin", "/admin", LetterCase::Sensitive));
        assert!(covers("/Admin", "/aDMIN", LetterCase::Ignored));
    }

    #[test]
    fn a_pattern_that_could_be_read_in_two_ways_is_refused() {
        for bad in ["api", "/a//b", "/a/../b", "/**/a", "/a*", "/{x", "/a%2fb", "/a/"] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
