//! Forms that pages send back.

use axum::body::Body;
use http_body_util::{BodyExt as _, Limited};

use super::super::api::Refused;

/// The largest form, in bytes: a reason or a note.
const MAX_FORM: usize = 16 << 10;
/// More fields than any form has.
const MAX_FIELDS: usize = 16;

/// The fields of a form.
pub(super) async fn fields(body: Body) -> Result<Vec<(String, String)>, Refused> {
    let body = Limited::new(body, MAX_FORM).collect().await;
    let body = body.map_err(|_| Refused::malformed("the form is too large or too slow, or broke off"))?;
    read_form(&body.to_bytes())
}

/// Each field once: of two, nobody could tell which was meant.
fn read_form(body: &[u8]) -> Result<Vec<(String, String)>, Refused> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for (key, value) in form_urlencoded::parse(body) {
        if fields.iter().any(|(known, _)| *known == key) {
            return Err(Refused::malformed("a field of the form stands twice"));
        }
        if fields.len() == MAX_FIELDS {
            return Err(Refused::malformed(format!("a form has at most {MAX_FIELDS} fields")));
        }
        fields.push((key.into_owned(), value.trim().to_owned()));
    }
    fields.retain(|(_, value)| !value.is_empty());
    Ok(fields)
}

/// One of them.
pub(super) fn field(fields: &[(String, String)], name: &str) -> Option<String> {
    fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_a_form_stands_once_however_it_is_written() {
        let read = |form: &str| read_form(form.as_bytes()).map_err(|refused| refused.message);
        assert_eq!(read("note=go+ahead&empty=").unwrap(), [("note".to_owned(), "go ahead".to_owned())]);
        for twice in ["note=no&note=yes", "note=no&n%6fte=yes", "note=&note=yes"] {
            assert!(read(twice).unwrap_err().contains("twice"), "{twice}");
        }
        let many = (0..17).map(|n| format!("f{n}=&")).collect::<String>();
        assert!(read(&many).unwrap_err().contains("at most"));
        assert_eq!(field(&read_form(b"note=%ff%00").unwrap(), "note").as_deref(), Some("\u{fffd}\0"));
    }
}
