//! A notice as a message of Slack's incoming webhooks, in Block Kit.
//!
//! Values are `plain_text`, in which Slack looks for no markup; `&`, `<` and `>` are escaped
//! everywhere, because they are its control characters in every text. Names are linked to nobody
//! (`parse: none`), and links unfold to nothing. A row is a label and a value side by side.

use serde_json::{Value, json};

use super::{
    notice::{Notice, Row},
    plain::cut,
};

/// The longest text of a field, in characters, is 2,000 by Slack's reference.
const FIELD: usize = 1_900;
/// The longest header is 150.
const HEADER: usize = 140;
/// Fields of one section, of at most ten.
const FIELDS: usize = 10;

/// Slack's three control characters as entities; cut between characters, never within an entity.
fn escaped(text: &str, most: usize) -> String {
    let (mut out, mut length) = (String::with_capacity(text.len()), 0);
    for c in text.chars() {
        let (entity, takes) = match c {
            '&' => (Some("&amp;"), 5),
            '<' => (Some("&lt;"), 4),
            '>' => (Some("&gt;"), 4),
            _ => (None, 1),
        };
        if length + takes > most {
            out.push('\u{2026}');
            break;
        }
        length += takes;
        match entity {
            Some(entity) => out.push_str(entity),
            None => out.push(c),
        }
    }
    out
}

fn plain_text(text: &str, most: usize) -> Value {
    json!({"type": "plain_text", "text": escaped(text, most), "emoji": false})
}

/// Words of the gate alone.
fn marked(text: String) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

fn fields(row: &Row) -> [Value; 2] {
    [marked(format!("*{}*", escaped(&row.label, HEADER))), plain_text(&row.value, FIELD)]
}

/// The message.
#[must_use]
pub fn slack(notice: &Notice) -> Value {
    let header = json!({"type": "header", "text": plain_text(&cut(&notice.title, HEADER), HEADER)});
    let mut blocks = vec![header];
    let fields: Vec<Value> = notice.rows.iter().flat_map(fields).collect();
    blocks.extend(fields.chunks(FIELDS).map(|fields| json!({"type": "section", "fields": fields})));
    if let Some(link) = &notice.link {
        // What is in a link is the gate's own, and holds none of the characters that end it.
        let text = format!("<{}|{}>", escaped(&link.url, FIELD), link.words);
        blocks.push(json!({"type": "section", "text": marked(text)}));
    }
    blocks.push(json!({"type": "context", "elements": [plain_text(&notice.foot, FIELD)]}));
    json!({
        "text": escaped(&notice.line, FIELD),
        "mrkdwn": false,
        "parse": "none",
        "link_names": false,
        "unfurl_links": false,
        "unfurl_media": false,
        "blocks": blocks,
    })
}
