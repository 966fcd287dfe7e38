//! The two pages of the development issuer: who are you, and done.

use axum::response::Html;

use crate::sandbox::{PEOPLE, people::PersonKind};

/// A page with one button for each person; the fields are sent along with the choice.
pub fn who(action: &str, fields: &[(&str, &str)]) -> Html<String> {
    let hidden: String = fields
        .iter()
        .map(|(name, value)| {
            format!("<input type=\"hidden\" name=\"{}\" value=\"{}\">\n", escaped(name), escaped(value))
        })
        .collect();
    let buttons: String = PEOPLE
        .iter()
        .filter(|p| p.kind == PersonKind::Human)
        .map(|p| {
            format!("<p><button name=\"person\" value=\"{}\">{}</button></p>\n", p.name, escaped(p.display))
        })
        .collect();
    page(
        "Who are you?",
        &format!("<form method=\"post\" action=\"{}\">\n{hidden}{buttons}</form>", escaped(action)),
    )
}

/// A page that asks for the code shown on the device.
pub fn which_code() -> Html<String> {
    page(
        "Which code does the other window show?",
        "<form method=\"get\" action=\"/device\"><input name=\"user_code\" autofocus> <button>Go on</button></form>",
    )
}

/// A page that says one thing.
pub fn say(what: &str) -> Html<String> {
    page("amlgate sandbox", &format!("<p>{}</p>", escaped(what)))
}

fn page(title: &str, body: &str) -> Html<String> {
    let title = escaped(title);
    Html(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body><h1>{title}</h1>\n{body}\n<p><small>The sandbox's development issuer: no passwords, this machine \
         only.</small></p></body></html>\n"
    ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
