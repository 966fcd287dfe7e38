//! A notice as a message that a workflow of Microsoft Teams posts: an Adaptive Card.
//!
//! Every text is a `TextRun`, in which no Markdown is read, and mentions take an entity that is never
//! there. What Adaptive Cards would take for a function or a template is broken up.

use serde_json::{Value, json};

use super::notice::{Notice, Row};

/// No `{` directly behind another or behind a `$`, however many there are.
fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '{' && out.ends_with(['{', '$']) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

fn row(row: &Row) -> Value {
    json!({
        "type": "RichTextBlock",
        "spacing": "Small",
        "inlines": [
            {"type": "TextRun", "text": format!("{}: ", inert(&row.label)), "weight": "Bolder"},
            {"type": "TextRun", "text": inert(&row.value)},
        ],
    })
}

/// The message.
#[must_use]
pub fn teams(notice: &Notice) -> Value {
    let title = json!({"type": "TextRun", "text": inert(&notice.title), "size": "Large", "weight": "Bolder"});
    let mut body = vec![json!({"type": "RichTextBlock", "inlines": [title]})];
    body.extend(notice.rows.iter().map(row));
    let foot = json!({"type": "TextRun", "text": inert(&notice.foot), "size": "Small", "isSubtle": true});
    body.push(json!({"type": "RichTextBlock", "separator": true, "inlines": [foot]}));
    let actions: Vec<_> = notice
        .link
        .iter()
        .map(|link| json!({"type": "Action.OpenUrl", "title": link.words, "url": link.url}))
        .collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.2",
                "msteams": {"width": "Full"},
                "body": body,
                "actions": actions,
            },
        }],
    })
}
