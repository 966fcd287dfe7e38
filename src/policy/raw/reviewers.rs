//! A group of a code host, as it is written: `{server: main, group: risk-reviewers}`.

use super::{
    super::document::{Located, Node, Reader, Tree},
    review::{is_group, name},
};
use crate::identity::GerritGroup;

/// How it is written.
const FORM: &str =
    "write `{server: NAME, group: risk-reviewers}`, the server as `gerrit` in amlgate.yaml calls it";

/// A group, at the place of its server.
pub(super) fn group(reader: &mut Reader<'_>, tree: Tree, what: &str) -> Option<Located<GerritGroup>> {
    let place = tree.place;
    match &tree.value {
        Node::Map(_) => {}
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) | Node::List(_) => {
            reader.error_with(place, format!("{what} does not say of which server the group is"), FORM);
            return None;
        }
    }
    let mut fields = reader.fields(tree, what, &["server", "group"], &[])?;
    let mut text = |reader: &mut Reader<'_>, key: &str| match fields.take(key) {
        Some(tree) => reader.text(tree, &format!("`{key}`")),
        None => {
            reader.error_with(place, format!("{what} needs `{key}`"), FORM);
            None
        }
    };
    let (server, group) = (text(reader, "server"), text(reader, "group"));
    let server = server.and_then(|text| name(reader, text, "of a server"));
    let group = group.and_then(|text| is_group(reader, text));
    let (server, group) = (server?, group?);
    let found = GerritGroup { server: server.value.into(), group: group.value.into() };
    Some(Located::new(found, server.place))
}
