//! Placeholders in the texts of a trigger: `${commit}`.
//!
//! `${{...}}` is Azure ML's own and stays, as does a `$` before anything else; `$${` stands for `${`.

/// A placeholder that nothing stands for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfilled {
    /// Nobody knows it.
    #[error("nothing stands for `${{{0}}}`")]
    Unknown(String),
    /// It does not end.
    #[error("`${{` is not closed by `}}`")]
    Open,
}

/// A text in which each placeholder is replaced by what stands for it.
///
/// # Errors
/// [`Unfilled`], for the first that `word` does not know.
pub fn fill(text: &str, word: impl Fn(&str) -> Option<String>) -> Result<String, Unfilled> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        filled.push_str(before);
        if let Some(literal) = behind.strip_prefix("${") {
            filled.push_str("${");
            rest = literal;
        } else if let Some(azures) = behind.strip_prefix("{{") {
            filled.push_str("${{");
            rest = azures;
        } else if let Some(named) = behind.strip_prefix('{') {
            let (name, after) = named.split_once('}').ok_or(Unfilled::Open)?;
            filled.push_str(&word(name).ok_or_else(|| Unfilled::Unknown(name.to_owned()))?);
            rest = after;
        } else {
            filled.push('$');
            rest = behind;
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, Unfilled> {
        fill(text, |name| (name == "a").then(|| "${a}$".to_owned()))
    }

    #[test]
    fn placeholders_are_replaced_once_and_everything_else_stays() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("x ${a} y", "x ${a}$ y"),
            ("${a}${a}", "${a}$${a}$"),
            ("$${a}", "${a}"),
            ("$$${a}", "$${a}"),
            ("${{inputs.a}}", "${{inputs.a}}"),
            ("$a $1 $", "$a $1 $"),
            ("ä${a}ö", "ä${a}$ö"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(filled("${b}"), Err(Unfilled::Unknown("b".into())));
        assert_eq!(filled("${}"), Err(Unfilled::Unknown(String::new())));
        assert_eq!(filled("x ${a"), Err(Unfilled::Open));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_and_text_without_dollars_is_its_own(text in ".{0,60}") {
            let filled = filled(&text);
            if !text.contains('$') {
                proptest::prop_assert_eq!(filled, Ok(text));
            }
        }
    }
}
