//! One of `triggers`, as it is written.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    super::{
        document::{Fields, Node, Reader, Text, Tree},
        trigger::{ActsAs, IN_BODY, IN_PATH, OURS, Report, Trigger},
    },
    entries::choice,
    review::{self, checked, is_branch, is_label, is_project},
};
use crate::yaml::Place;

/// Its keys.
pub(in crate::policy) const KEYS: &[&str] = &["name", "on", "as", "put", "scope", "body", "report"];
/// How it is written.
const FORM: &str = "write `{name: train, on: {gerrit: main, project: ml/vision, branch: main}, as: submitter, put: \"${scope}/jobs/train-${change}-${commit12}\", scope: ws-a, body: {...}}`";
/// Characters of a name.
const LONGEST_NAME: usize = 64;
/// Bytes of what a body is written as.
const LARGEST_BODY: usize = 64 << 10;

/// One of `triggers`.
#[derive(Debug)]
pub(in crate::policy) struct RawTrigger {
    pub place: Place,
    pub name: Text,
    pub gerrit: Text,
    pub project: Arc<str>,
    pub branch: Arc<str>,
    pub acts_as: ActsAs,
    pub put: Text,
    pub scope: Option<Text>,
    pub body: Map<String, Value>,
    pub body_place: Place,
    pub report: Report,
}

pub(super) fn trigger(reader: &mut Reader<'_>, tree: Tree) -> Option<RawTrigger> {
    let place = tree.place;
    let before = reader.problems.len();
    let mut fields = reader.fields(tree, "one of `triggers`", KEYS, &[])?;
    let name = needed(reader, &mut fields, place, "name").and_then(|tree| {
        let text = reader.text(tree, "`name`")?;
        let hint = format!(
            "names of triggers have up to {LONGEST_NAME} letters, digits, spaces, dots, dashes and underscores"
        );
        checked(reader, text, "is no name of a trigger", &hint, |text| {
            text.len() <= LONGEST_NAME
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b" ._-".contains(&b))
        })
    });
    let on = needed(reader, &mut fields, place, "on").and_then(|tree| on(reader, tree));
    let acts_as = needed(reader, &mut fields, place, "as").and_then(|tree| {
        let text = reader.text(tree, "`as`")?;
        let known = [ActsAs::Submitter, ActsAs::Owner, ActsAs::Uploader].map(|one| (one.name(), one));
        choice(reader, &text, "`as`", &known)
    });
    let put = needed(reader, &mut fields, place, "put").and_then(|tree| {
        let text = reader.text(tree, "`put`")?;
        placeholders(reader, &text.value, text.place, "`put`", IN_PATH).then_some(text)
    });
    let scope = fields.take("scope").map(|tree| reader.text(tree, "`scope`"));
    if let (Some(put), None) = (&put, &scope)
        && put.value.contains("${scope}")
    {
        reader.error_with(put.place, "nothing stands for `${scope}`", "write `scope: NAME` or an ARM id");
    }
    if let Some(put) = &put
        && !["${change}", "${commit}", "${commit12}"].iter().any(|one| put.value.contains(one))
    {
        let hint = "name the change or its commit in it: `${scope}/jobs/train-${change}-${commit12}`";
        reader.error_with(put.place, "what is put would be the same for every change", hint);
    }
    let (mut body, mut body_place) = (None, place);
    if let Some(tree) = needed(reader, &mut fields, place, "body") {
        body_place = tree.place;
        body = document(reader, tree);
    }
    let report = match fields.take("report") {
        None => Some(Report { label: None, url: true }),
        Some(tree) => report(reader, tree),
    };
    if reader.problems.len() > before {
        return None;
    }
    let (gerrit, project, branch) = on?;
    Some(RawTrigger {
        place,
        name: name?,
        gerrit,
        project,
        branch,
        acts_as: acts_as?,
        put: put?,
        scope: match scope {
            None => None,
            Some(text) => Some(text?),
        },
        body: body?,
        body_place,
        report: report?,
    })
}

/// A key that must be there.
fn needed(reader: &mut Reader<'_>, fields: &mut Fields, place: Place, key: &str) -> Option<Tree> {
    let found = fields.take(key);
    if found.is_none() {
        reader.error_with(place, format!("one of `triggers` needs `{key}`"), FORM);
    }
    found
}

fn on(reader: &mut Reader<'_>, tree: Tree) -> Option<(Text, Arc<str>, Arc<str>)> {
    let place = tree.place;
    let mut fields = reader.fields(tree, "`on`", &["gerrit", "project", "branch"], &["github", "gitlab"])?;
    let mut text = |reader: &mut Reader<'_>, key: &str| {
        let tree = fields.take(key);
        if tree.is_none() {
            let hint = "write `on: {gerrit: NAME, project: ml/vision, branch: main}`";
            reader.error_with(place, format!("`on` needs `{key}`"), hint);
        }
        reader.text(tree?, &format!("`{key}`"))
    };
    let (gerrit, project, branch) = (text(reader, "gerrit"), text(reader, "project"), text(reader, "branch"));
    let gerrit = gerrit.and_then(|text| review::name(reader, text, "of a server"));
    let hint = "write the project as Gerrit calls it: `ml/vision`";
    let project = project.and_then(|text| checked(reader, text, "is no project", hint, is_project));
    let hint = "write the branch alone: `main`";
    let branch = branch.and_then(|text| checked(reader, text, "is no branch", hint, is_branch));
    Some((gerrit?, project?.value.into(), branch?.value.into()))
}

fn report(reader: &mut Reader<'_>, tree: Tree) -> Option<Report> {
    let mut fields = reader.fields(tree, "`report`", &["label", "url"], &[])?;
    let label = match fields.take("label") {
        None => None,
        Some(tree) => {
            let text = reader.text(tree, "`label`")?;
            let hint = "write a label of Gerrit's: `Verified`";
            Some(checked(reader, text, "is no label", hint, is_label)?.value.into())
        }
    };
    let url = match fields.take("url") {
        None => true,
        Some(Tree { value: Node::Bool(url), .. }) => url,
        Some(Tree { place, .. }) => {
            reader.error(place, "`url` is `true` or `false`");
            return None;
        }
    };
    Some(Report { label, url })
}

/// Whether all placeholders of a text are known there.
fn placeholders(reader: &mut Reader<'_>, text: &str, place: Place, what: &str, these: &[&str]) -> bool {
    match Trigger::check(text, these) {
        Ok(()) => true,
        Err(why) => {
            let known = these.iter().map(|name| format!("`${{{name}}}`")).collect::<Vec<_>>().join(", ");
            let hint = format!("{what} knows {known}; `$${{` stands for `${{`");
            reader.error_with(place, why.to_string(), hint);
            false
        }
    }
}

/// The body: a map.
fn document(reader: &mut Reader<'_>, tree: Tree) -> Option<Map<String, Value>> {
    let place = tree.place;
    let Node::Map(_) = tree.value else {
        reader.error_with(place, "`body` must be a map", "write what Azure takes: `{properties: {...}}`");
        return None;
    };
    let Some(Value::Object(body)) = value(reader, tree, "") else { return None };
    if serde_json::to_string(&body).map_or(true, |text| text.len() > LARGEST_BODY) {
        reader.error(place, format!("`body` is larger than {LARGEST_BODY} bytes"));
        return None;
    }
    Some(body)
}

fn value(reader: &mut Reader<'_>, tree: Tree, within: &str) -> Option<Value> {
    let place = tree.place;
    Some(match tree.value {
        Node::Null => Value::Null,
        Node::Bool(value) => value.into(),
        Node::Number(number) => number.into(),
        Node::Text(text) if text.contains("UNSET") => {
            reader.error_with(place, format!("`{text}` stands in a body"), "write what `UNSET` stands for");
            return None;
        }
        Node::Text(text) => {
            placeholders(reader, &text, place, "`body`", IN_BODY).then_some(())?;
            text.into()
        }
        Node::List(items) => {
            let items: Vec<_> = items.into_iter().map(|item| value(reader, item, within)).collect();
            items.into_iter().collect::<Option<Vec<_>>>()?.into()
        }
        Node::Map(members) => {
            let mut object = Map::new();
            let mut whole = true;
            for (name, member) in members {
                let is_ours =
                    name.value.get(..OURS.len()).is_some_and(|head| head.eq_ignore_ascii_case(OURS));
                if is_ours && ["tags", "properties"].contains(&&*within.to_ascii_lowercase()) {
                    let message = format!("`{}` is written by the gate alone", name.value);
                    reader.error_with(name.place, message, format!("no name there begins with `{OURS}`"));
                    whole = false;
                }
                match value(reader, member, &name.value) {
                    Some(value) => drop(object.insert(name.value, value)),
                    None => whole = false,
                }
            }
            whole.then_some(())?;
            Value::Object(object)
        }
    })
}
