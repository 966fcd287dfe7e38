//! One entry: its keys and their types.

use std::time::Duration;

use super::{
    super::{
        LimitPer, SecretTreatment,
        document::{Fields, Node, Reader, Text, Tree, listed, near},
        entry::Rights,
        path::PathPattern,
    },
    LATER, List, RawEntry, RawLimit, RawSecrets, RawUnless,
    approval::approval,
    record::record,
    review::review,
    step_up::step_up,
};
use crate::{
    azureml::{Effect, Kind, SecretClass, Secrets},
    time::Timestamp,
};

/// The keys of an entry.
pub(in crate::policy) fn entry_keys(list: List) -> Vec<&'static str> {
    let mut known = vec![
        "name", "who", "actions", "kinds", "effects", "secrets", "scope", "routes", "methods", "path",
        "from", "during", "when",
    ];
    match list {
        List::Allow => known.extend(["role", "rights", "as", "approval", "record"]),
        List::Deny => known.extend(["unless", "dry_run_until"]),
        List::Require => {
            known.extend(["unless", "dry_run_until", "limit", "step_up"]);
            known.extend(["approval", "opinion", "review", "record"]);
        }
    }
    known
}

pub(super) fn entry(reader: &mut Reader<'_>, list: List, tree: Tree) -> Option<RawEntry> {
    let place = tree.place;
    let before = reader.problems.len();
    let what = format!("an entry of `{}`", list.name());
    let mut fields = reader.fields_but(tree, &what, &entry_keys(list), LATER, |key| misplaced(list, key))?;
    let name = match fields.take("name") {
        Some(tree) => reader.text(tree, "`name`"),
        None => {
            let hint = "the name stands in answers, records and tests";
            reader.error_with(place, format!("{what} needs `name`"), hint);
            None
        }
    };
    let who = texts(reader, &mut fields, "who");
    if list == List::Allow && who.is_none() {
        let hint = "name subjects, or write `who: [authenticated]` for every caller with a valid token";
        reader.error_with(place, format!("{what} needs `who`"), hint);
    }
    let kinds = choices(reader, &mut fields, "kinds", &KINDS);
    let effects = choices(reader, &mut fields, "effects", &effects_by_name())
        .map(|effects| effects.into_iter().collect());
    let secrets = fields.take("secrets").map(|tree| secrets(reader, list, tree));
    let methods = texts(reader, &mut fields, "methods")
        .map(|texts| texts.iter().filter_map(|text| method(reader, text)).collect());
    let path = texts(reader, &mut fields, "path").map(|texts| {
        texts
            .iter()
            .filter_map(|text| match PathPattern::parse(&text.value) {
                Ok(pattern) => Some(pattern),
                Err(why) => {
                    let message = format!("`{}` is no path pattern", text.value);
                    reader.error_with(text.place, message, why);
                    None
                }
            })
            .collect()
    });
    let dry_run_until = fields.take("dry_run_until").and_then(|tree| instant(reader, tree));
    let limit_place = fields.place_of("limit");
    let limit = fields.take("limit").and_then(|tree| limit(reader, tree));
    if let (Some(place), Some(_)) = (limit_place, dry_run_until) {
        let hint = "a limit counts before it can tell; leave `dry_run_until` out";
        reader.error_with(place, "`limit` beside `dry_run_until` is not in this version", hint);
    }
    let opinion_place = fields.place_of("opinion");
    let opinion = fields.take("opinion").and_then(|tree| {
        let text = reader.text(tree, "`opinion`")?;
        choice(reader, &text, "`opinion`", &[("clutch", ())])
    });
    if let (Some(place), Some(_)) = (opinion_place, dry_run_until) {
        let hint = "nobody is asked for what is not enforced; leave `dry_run_until` out";
        reader.error_with(place, "`opinion` beside `dry_run_until` is not in this version", hint);
    }
    let record_place = fields.place_of("record");
    let record = fields.take("record").and_then(|tree| record(reader, tree));
    if let (Some(place), Some(_)) = (record_place, dry_run_until) {
        let hint = "what is recorded changes nothing for the caller; leave `dry_run_until` out";
        reader.error_with(place, "`record` beside `dry_run_until` is not in this version", hint);
    }
    let rights_place = fields.place_of("rights");
    let as_human = fields.take("as").and_then(|tree| {
        let place = tree.place;
        let text = reader.text(tree, "`as`")?;
        choice(reader, &text, "`as`", &[("human", ())])?;
        Some(place)
    });
    let entry = RawEntry {
        list,
        place,
        who,
        role: fields.take("role").and_then(|tree| reader.text(tree, "`role`")),
        rights: fields.take("rights").and_then(|tree| {
            let text = reader.text(tree, "`rights`")?;
            choice(reader, &text, "`rights`", &[("azure", Rights::Azure)])
        }),
        as_human: as_human.is_some(),
        actions: texts(reader, &mut fields, "actions"),
        kinds,
        effects,
        secrets,
        scope: texts(reader, &mut fields, "scope"),
        routes: texts(reader, &mut fields, "routes"),
        methods,
        path,
        from: texts(reader, &mut fields, "from"),
        during: texts(reader, &mut fields, "during"),
        when: fields.take("when").and_then(|tree| reader.text(tree, "`when`")),
        unless: fields.take("unless").and_then(|tree| unless(reader, tree)),
        dry_run_until,
        limit,
        step_up: fields.take("step_up").and_then(|tree| step_up(reader, tree)),
        approval: fields.take("approval").and_then(|tree| approval(reader, tree)),
        opinion: opinion.is_some(),
        review: fields.take("review").and_then(|tree| review(reader, tree)),
        record,
        name: name?,
    };
    // What is said of an entry as a whole holds only if all of it could be read.
    if reader.problems.len() > before {
        return Some(entry);
    }
    let demands = entry.from.is_some()
        || entry.during.is_some()
        || entry.limit.is_some()
        || entry.step_up.is_some()
        || entry.approval.is_some()
        || entry.opinion
        || entry.review.is_some()
        || entry.record.is_some();
    if let (Some(place), Some(_), None) = (rights_place, entry.rights, &entry.scope) {
        let hint = "role assignments are read at a scope: name the workspace, group or subscription";
        reader.error_with(place, "`rights` needs `scope`", hint);
    }
    if let Some(place) = as_human
        && (entry.role.is_some() || entry.rights.is_some() || entry.secrets.is_some())
    {
        let hint = "the human's own entries say what may be done; narrow it with `kinds`, `actions` or `scope`, and name secrets in an entry of the agents' own";
        reader.error_with(place, "`as` stands beside `role`, `rights` or `secrets`", hint);
    }
    let narrowed = entry.as_human
        || entry.role.is_some()
        || entry.rights.is_some()
        || entry.actions.is_some()
        || entry.kinds.is_some()
        || entry.effects.is_some()
        || entry.secrets.is_some()
        || entry.routes.is_some()
        || entry.path.is_some()
        || entry.when.is_some();
    if list == List::Require && !demands {
        let hint = "add `from`, `during`, `limit`, `step_up`, `approval`, `opinion`, `review` or `record`: in `require` these are what must hold";
        reader.error_with(place, format!("entry `{}` demands nothing", entry.name.value), hint);
    } else if list == List::Allow && !narrowed {
        let hint =
            "say which with `role`, `actions` or `kinds`, or write `actions: [\"*\"]` if all are meant";
        reader.error_with(place, format!("entry `{}` allows every action", entry.name.value), hint);
    }
    Some(entry)
}

/// Where a key belongs that this list does not know.
fn misplaced(list: List, key: &str) -> Option<&'static str> {
    match (list, key) {
        (List::Allow, "unless" | "dry_run_until") => {
            Some("it lifts or delays what `deny` and `require` forbid")
        }
        (List::Deny, "approval") => Some(
            "nothing that is approved lifts what `deny` forbids: put it in an entry of `allow` or `require`",
        ),
        (List::Allow | List::Deny, "limit" | "step_up" | "opinion" | "review") => {
            Some("it is a demand: put it in an entry of `require`")
        }
        (List::Deny, "record") => Some("of what is denied no body is read: put it in `allow` or `require`"),
        (List::Deny | List::Require, "as") => {
            Some("it lends what a human may do: `deny` and `require` count for agents as for their humans")
        }
        (List::Deny | List::Require, "role" | "rights") => Some("it grants: here select with `actions`"),
        (List::Allow | List::Deny | List::Require, _) => None,
    }
}

fn texts(reader: &mut Reader<'_>, fields: &mut Fields, key: &str) -> Option<Vec<Text>> {
    fields.take(key).map(|tree| reader.texts(tree, &format!("`{key}`")))
}

const KINDS: [(&str, Kind); 4] =
    [("read", Kind::Read), ("write", Kind::Write), ("delete", Kind::Delete), ("action", Kind::Action)];

fn effects_by_name() -> Vec<(&'static str, Effect)> {
    Effect::ALL.iter().map(|e| (e.name(), *e)).collect()
}

fn secrets_by_name() -> Vec<(&'static str, SecretClass)> {
    SecretClass::ALL.iter().map(|c| (c.name(), *c)).collect()
}

fn choices<T: Copy>(
    reader: &mut Reader<'_>,
    fields: &mut Fields,
    key: &str,
    known: &[(&'static str, T)],
) -> Option<Vec<T>> {
    let texts = texts(reader, fields, key)?;
    Some(texts.iter().filter_map(|text| choice(reader, text, &format!("`{key}`"), known)).collect())
}

pub(super) fn choice<T: Copy>(
    reader: &mut Reader<'_>,
    text: &Text,
    what: &str,
    known: &[(&'static str, T)],
) -> Option<T> {
    let found = known.iter().find(|(name, _)| *name == text.value).map(|(_, value)| *value);
    if found.is_none() {
        let names = || known.iter().map(|(name, _)| *name);
        let hint = near(&text.value, names()).unwrap_or_else(|| format!("{what} knows {}", listed(names())));
        reader.error_with(text.place, format!("{what} does not know `{}`", text.value), hint);
    }
    found
}

fn secrets(reader: &mut Reader<'_>, list: List, tree: Tree) -> RawSecrets {
    let what = "`secrets`";
    if list != List::Allow {
        if let Node::Map(_) = tree.value {
            let hint = "here it selects: write a list, `secrets: [endpoint_key]`";
            reader.error_with(tree.place, format!("{what} is a map only in `allow`"), hint);
            return RawSecrets::Selected(Secrets::NONE);
        }
        let known = secrets_by_name();
        let texts = reader.texts(tree, what);
        return RawSecrets::Selected(texts.iter().filter_map(|t| choice(reader, t, what, &known)).collect());
    }
    if let Node::List(_) | Node::Text(_) = tree.value {
        let hint = "say how each is treated: `secrets: {endpoint_key: substitute}` or `reveal`";
        reader.error_with(tree.place, format!("{what} in `allow` is a map"), hint);
        return RawSecrets::Granted(Vec::new());
    }
    let place = tree.place;
    let mut granted = Vec::new();
    for (class, tree) in reader.any_fields(tree, what) {
        let class = choice(reader, &class, what, &secrets_by_name());
        let treatments = [("substitute", SecretTreatment::Substitute), ("reveal", SecretTreatment::Reveal)];
        let how = reader.text(tree, "the treatment of a class");
        let how = how.and_then(|how| choice(reader, &how, "the treatment of a class", &treatments));
        granted.extend(class.zip(how));
    }
    if granted.is_empty() {
        reader.error_with(place, format!("{what} names nothing"), "leave it out, or name a class of secrets");
    }
    RawSecrets::Granted(granted)
}

fn method(reader: &mut Reader<'_>, text: &Text) -> Option<http::Method> {
    let upper = text.value.bytes().all(|b| b.is_ascii_uppercase());
    let method = text.value.parse::<http::Method>().ok().filter(|_| upper);
    if method.is_none() {
        let message = format!("`{}` is no method", text.value);
        reader.error_with(text.place, message, "methods are written in capitals: `GET`, `POST`");
    }
    method
}

fn unless(reader: &mut Reader<'_>, tree: Tree) -> Option<RawUnless> {
    let place = tree.place;
    let before = reader.problems.len();
    let mut fields = reader.fields(tree, "`unless`", &["who", "break_glass"], &[])?;
    let who = texts(reader, &mut fields, "who");
    let break_glass = fields.take("break_glass").map(|tree| match tree.value {
        Node::Bool(true) => true,
        Node::Bool(false) | Node::Null | Node::Number(_) | Node::Text(_) | Node::List(_) | Node::Map(_) => {
            let hint = "leave it out where nothing lifts the entry";
            reader.error_with(tree.place, "`break_glass` is `true` or not there", hint);
            false
        }
    });
    if who.is_none() && break_glass.is_none() && reader.problems.len() == before {
        let hint = "write `unless: {who: [NAME]}` or `unless: {break_glass: true}`, or leave it out";
        reader.error_with(place, "`unless` names nobody", hint);
    }
    Some(RawUnless { who, break_glass: break_glass.unwrap_or_default() })
}

fn instant(reader: &mut Reader<'_>, tree: Tree) -> Option<Timestamp> {
    let text = reader.text(tree, "`dry_run_until`")?;
    let instant = chrono::DateTime::parse_from_rfc3339(&text.value)
        .ok()
        .and_then(|instant| u64::try_from(instant.timestamp_millis()).ok());
    if instant.is_none() {
        let message = format!("`{}` is no instant", text.value);
        reader.error_with(text.place, message, "write date, time and offset: `2026-12-01T09:00:00+01:00`");
    }
    instant.map(Timestamp::from_millis)
}

fn limit(reader: &mut Reader<'_>, tree: Tree) -> Option<RawLimit> {
    let place = tree.place;
    let mut fields = reader.fields(tree, "`limit`", &["requests", "every", "per"], &[])?;
    for key in ["requests", "every"] {
        if fields.place_of(key).is_none() {
            reader.error_with(
                place,
                format!("`limit` needs `{key}`"),
                "write `limit: {requests: 50, every: 1s}`",
            );
        }
    }
    let requests = fields.take("requests").and_then(|tree| reader.count(tree, "`requests`"));
    let every = fields.take("every").and_then(|tree| {
        let text = reader.text(tree, "`every`")?;
        let duration = duration(&text.value);
        if duration.is_none() {
            let message = format!("`{}` is no duration", text.value);
            reader.error_with(text.place, message, "write `250ms`, `1s`, `5m`, `1h` or `1d`");
        }
        duration
    });
    let per = match fields.take("per") {
        None => Some(LimitPer::Person),
        Some(tree) => reader.text(tree, "`per`").and_then(|text| {
            choice(reader, &text, "`per`", &[("person", LimitPer::Person), ("entry", LimitPer::Entry)])
        }),
    };
    Some(RawLimit { requests: requests?, every: every?, per: per? })
}

/// A whole number with its unit; at least a millisecond, at most a year.
pub(super) fn duration(text: &str) -> Option<Duration> {
    length(text, Duration::from_secs(366 * 86_400))
}

/// The same up to another bound.
pub(super) fn length(text: &str, most: Duration) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let total = number.parse::<u64>().ok()?.checked_mul(millis)?;
    (total > 0).then(|| Duration::from_millis(total)).filter(|length| *length <= most)
}
