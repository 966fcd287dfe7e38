//! What a condition read, for the record and for people: redacted and bounded.

use cel::{
    Context, Value as Evaluated,
    common::{
        ast::{Expr, IdedExpr, SelectExpr},
        types::{CelBool, CelDouble, CelInt, CelList, CelString, CelTimestamp, CelUInt, Kind},
        value::Val,
    },
};
use serde_json::{Map, Value, json};

use super::{
    functions::why_failed,
    members::{Path, Step},
    values::why_unknown,
};

/// The most bytes that a value takes in the record.
const MAX_VALUE: usize = 256;
/// The most items and members of a value that are looked at.
const MAX_ITEMS: usize = 32;
/// The deepest that a value is looked into.
const MAX_DEPTH: u32 = 8;
/// What stands instead of a secret.
const REDACTED: &str = "(redacted)";
/// Parts of names whose values are not written down.
const SECRET_NAMES: &[&str] = &[
    "secret",
    "password",
    "passwd",
    "pwd",
    "token",
    "credential",
    "authorization",
    "cookie",
    "signature",
    "apikey",
    "api_key",
    "api-key",
    "accesskey",
    "access_key",
    "accountkey",
    "privatekey",
    "private_key",
    "sharedkey",
    "connectionstring",
    "connection_string",
    "sas",
    "passphrase",
    "assertion",
];

/// The value at a path, as the record has it: `null` where there is none.
pub(super) fn value(path: &Path, context: &Context<'_, '_>) -> Value {
    if path.steps.iter().any(|step| matches!(step, Step::Key(name) if is_secret_name(name))) {
        return REDACTED.into();
    }
    let expression = expression(path);
    let found = match Evaluated::resolve_val(&expression, context) {
        Ok(found) => json(found.as_ref(), 0),
        Err(error) => match why_unknown(&error).or(why_failed(&error)) {
            Some(why) => format!("({why})").into(),
            None => Value::Null,
        },
    };
    bounded(found)
}

/// The expression that a path spells.
pub(super) fn expression(path: &Path) -> IdedExpr {
    let root = IdedExpr { id: 0, expr: Expr::Ident(path.root.name().to_owned()) };
    path.steps.iter().fold(root, |operand, step| {
        let expr = match step {
            Step::Key(key) => {
                Expr::Select(SelectExpr { operand: Box::new(operand), field: key.to_string(), test: false })
            }
            Step::Index(index) => super::subset::at_index(operand, *index),
        };
        IdedExpr { id: 0, expr }
    })
}

fn json(value: &dyn Val, depth: u32) -> Value {
    if depth > MAX_DEPTH {
        return "...".into();
    }
    if let Some(text) = value.downcast_ref::<CelString>() {
        return text_of(text.inner());
    }
    if let Some(list) = value.downcast_ref::<CelList>() {
        return list.inner().iter().take(MAX_ITEMS).map(|item| json(item.as_ref(), depth + 1)).collect();
    }
    if let Some(number) = value.downcast_ref::<CelInt>() {
        return json!(number.inner());
    }
    if let Some(number) = value.downcast_ref::<CelUInt>() {
        return json!(number.inner());
    }
    if let Some(number) = value.downcast_ref::<CelDouble>() {
        return json!(number.inner());
    }
    if let Some(boolean) = value.downcast_ref::<CelBool>() {
        return json!(boolean.inner());
    }
    if let Some(at) = value.downcast_ref::<CelTimestamp>() {
        return at.inner().to_rfc3339_opts(chrono::SecondsFormat::Millis, true).into();
    }
    if value.get_type().kind() == Kind::Map {
        return object(value, depth);
    }
    Value::Null
}

fn object(value: &dyn Val, depth: u32) -> Value {
    let mut members = Map::new();
    if let (Some(names), Some(indexer)) = (value.as_iterable(), value.as_indexer()) {
        let mut names = names.iter();
        while let Some(name) = names.next() {
            if members.len() == MAX_ITEMS {
                break;
            }
            let Some(key) = name.downcast_ref::<CelString>() else { continue };
            let member = if is_secret_name(key.inner()) {
                REDACTED.into()
            } else {
                indexer.get(name).map_or(Value::Null, |member| json(member.as_ref(), depth + 1))
            };
            members.insert(key.inner().to_owned(), member);
        }
    }
    Value::Object(members)
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_key = name == "key" || name.ends_with("_key") || name.ends_with("key") && name.len() <= 12;
    is_key || name == "sig" || SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// A text, unless it looks like a token, a signed URL or a connection string.
fn text_of(text: &str) -> Value {
    let folded = text.to_ascii_lowercase();
    let token = text.starts_with("eyJ") && text.matches('.').count() >= 2;
    let signed =
        folded.contains("sig=") || folded.contains("accountkey=") || folded.contains("sharedaccesskey=");
    let header = folded.starts_with("bearer ") || folded.starts_with("basic ");
    if token || signed || header || folded.contains("-----begin") {
        return REDACTED.into();
    }
    text.into()
}

/// At most [`MAX_VALUE`] bytes of JSON; what is longer becomes the beginning of its text.
fn bounded(value: Value) -> Value {
    let written = value.to_string();
    if written.len() <= MAX_VALUE {
        return value;
    }
    let text = value.as_str().unwrap_or(&written);
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        // With the quotes, the dots and whatever must be escaped.
        if Value::from(short.as_str()).to_string().len() > MAX_VALUE - "...".len() {
            short.pop();
            break;
        }
    }
    short.push_str("...");
    short.into()
}
