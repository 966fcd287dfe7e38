//! `step_up` of an entry, as it is written.

use super::{
    super::{
        document::{Reader, Text, Tree},
        step_up::{SignIn, StepUp},
    },
    entries::duration,
};

/// Its keys.
const KEYS: &[&str] = &["acrs", "acr_values", "amr", "max_age"];
/// How it is written.
const FORM: &str = "write `step_up: {acrs: c1}`, `{acr_values: [gold]}` or `{amr: [mfa]}`, each with or without `max_age: 8h`";

pub(super) fn step_up(reader: &mut Reader<'_>, tree: Tree) -> Option<StepUp> {
    let place = tree.place;
    let before = reader.problems.len();
    let mut fields = reader.fields(tree, "`step_up`", KEYS, &[])?;
    let context = fields.take("acrs").and_then(|tree| {
        let text = reader.text(tree, "`acrs`")?;
        if !is_context(&text.value) {
            let message = format!("`{}` is no authentication context", text.value);
            reader.error_with(text.place, message, "Entra's are called `c1` to `c99`");
        }
        Some(SignIn::Context(text.value.into()))
    });
    let mut list = |key: &str| {
        let tree = fields.take(key)?;
        let texts = reader.texts(tree, &format!("`{key}`"));
        Some(texts.iter().filter_map(|text| plain(reader, key, text)).collect())
    };
    let classes = list("acr_values").map(SignIn::Classes);
    let methods = list("amr").map(SignIn::Methods);
    let max_age = fields.take("max_age").and_then(|tree| {
        let text = reader.text(tree, "`max_age`")?;
        // The claim counts whole seconds.
        let age = duration(&text.value).filter(|age| age.as_secs() > 0);
        if age.is_none() {
            let message = format!("`{}` is no age", text.value);
            reader.error_with(text.place, message, "write `30s`, `15m`, `8h` or `1d`");
        }
        age
    });
    let mut ways = [context, classes, methods].into_iter().flatten();
    let (sign_in, other) = (ways.next(), ways.next());
    if other.is_some() {
        let message = "`step_up` says in more than one way how to sign in";
        reader.error_with(place, message, "write an entry for each: all that match must hold");
    } else if sign_in.is_none() && max_age.is_none() && reader.problems.len() == before {
        reader.error_with(place, "`step_up` demands nothing", FORM);
    }
    Some(StepUp { sign_in, max_age })
}

/// An authentication context: `c1` to `c99`.
fn is_context(text: &str) -> bool {
    text.strip_prefix('c').is_some_and(|number| {
        matches!(number.len(), 1 | 2)
            && !number.starts_with('0')
            && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

/// Values go into a header and into a list that spaces separate.
fn plain(reader: &mut Reader<'_>, key: &str, text: &Text) -> Option<Box<str>> {
    let plain =
        !text.value.is_empty() && text.value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    if !plain {
        let message = format!("`{}` is no value of `{key}`", text.value);
        reader.error_with(text.place, message, "values have no spaces, quotes or backslashes");
    }
    plain.then(|| text.value.as_str().into())
}
