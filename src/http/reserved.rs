//! The path of the reverse listener that is the gate's own, whatever the routes say.

/// Everything at and below it is the console's and the API's where `listen.admin.on_reverse` puts them
/// there, and nobody's where it does not: no route serves it.
pub const RESERVED: &str = "/.amlgate";

/// What is left of a target (path and query) at or below the reserved path, a path of its own; `None`
/// for any other, and for other spellings.
#[must_use]
pub fn below_reserved(target: &str) -> Option<&str> {
    let rest = target.strip_prefix(RESERVED)?;
    matches!(rest.as_bytes().first(), None | Some(b'/' | b'?')).then_some(rest)
}

/// Whether a canonical path is reserved, in whichever case: routes are told apart without case, too.
#[must_use]
pub fn is_reserved(path: &str) -> bool {
    path.split_at_checked(RESERVED.len()).is_some_and(|(head, rest)| {
        head.eq_ignore_ascii_case(RESERVED) && (rest.is_empty() || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_is_told_from_what_only_looks_like_it() {
        for (target, rest) in [
            ("/.amlgate", Some("")),
            ("/.amlgate/", Some("/")),
            ("/.amlgate?a=b", Some("?a=b")),
            ("/.amlgate/api/v1/whoami?x", Some("/api/v1/whoami?x")),
            ("/.amlgatex", None),
            ("/.amlgat", None),
            ("/.AMLGATE/access", None),
            ("//.amlgate/access", None),
            ("/x/.amlgate/access", None),
        ] {
            assert_eq!(below_reserved(target), rest, "{target}");
        }
        for (path, reserved) in [
            ("/.amlgate", true),
            ("/.AmlGate/x", true),
            ("/.amlgatex", false),
            ("/x/.amlgate", false),
            ("/", false),
        ] {
            assert_eq!(is_reserved(path), reserved, "{path}");
        }
    }
}
