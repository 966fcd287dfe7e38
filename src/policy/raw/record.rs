//! `record` of an entry, as it is written.

use std::time::Duration;

use super::{
    super::{
        document::{Reader, Tree},
        recording::{Pointer, Recording},
    },
    entries::length,
};

/// Its keys.
const KEYS: &[&str] = &["bodies", "redact", "keep"];
/// How it is written.
const FORM: &str =
    "write `record: {bodies: [request, response], redact: [/properties/environmentVariables], keep: 90d}`";
/// Bodies are kept so long at most: ten years.
const LONGEST: Duration = Duration::from_secs(3_660 * 86_400);

pub(super) fn record(reader: &mut Reader<'_>, tree: Tree) -> Option<Recording> {
    let place = tree.place;
    let mut fields = reader.fields(tree, "`record`", KEYS, &[])?;
    let mut recording = Recording::default();
    match fields.take("bodies") {
        None => reader.error_with(place, "`record` needs `bodies`", FORM),
        Some(tree) => {
            for text in reader.texts(tree, "`bodies`") {
                match text.value.as_str() {
                    "request" => recording.request = true,
                    "response" => recording.response = true,
                    other => {
                        let message = format!("`bodies` does not know `{other}`");
                        reader.error_with(text.place, message, "`bodies` knows `request` and `response`");
                    }
                }
            }
        }
    }
    if let Some(tree) = fields.take("redact") {
        for text in reader.texts(tree, "`redact`") {
            match Pointer::parse(&text.value) {
                Ok(pointer) => recording.redact.push(pointer),
                Err(why) => {
                    reader.error_with(text.place, format!("`{}` is no JSON pointer", text.value), why);
                }
            }
        }
    }
    if let Some(tree) = fields.take("keep") {
        let text = reader.text(tree, "`keep`")?;
        // Bodies go hour by hour.
        recording.keep = length(&text.value, LONGEST).filter(|keep| keep.as_secs() >= 3_600);
        if recording.keep.is_none() {
            let message = format!("`{}` is not for how long bodies are kept", text.value);
            reader.error_with(text.place, message, "write from `1h` to `3660d`");
        }
    }
    Some(recording)
}
