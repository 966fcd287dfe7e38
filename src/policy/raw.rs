//! The shape of a policy file: keys and types, before any name is looked up.
//!
//! Keys that belong to features which are not built are refused by name, never ignored. A problem
//! in one entry does not hide those of the next.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{
    LimitPer, SecretTreatment,
    calendar::{self, Calendar, DAY, DAYS},
    document::{Fields, Located, Node, Reader, Text, Tree, listed, near, parse},
    path::PathPattern,
    who::{Description, Expected},
};
use crate::{
    azureml::{Effect, Effects, Kind, SecretClass, Secrets},
    identity::PrincipalKind,
    time::Timestamp,
    yaml::{Place, Problem},
};

/// Which of the three lists an entry stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum List {
    /// Some entry must match.
    Allow,
    /// No entry may match.
    Deny,
    /// What a matching entry demands must hold.
    Require,
}

impl List {
    /// The key of the list in a policy file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Require => "require",
        }
    }
}

/// One file.
#[derive(Debug, Default)]
pub(super) struct RawFile {
    pub subjects: Vec<(Text, Vec<Located<Description>>)>,
    pub scopes: Vec<(Text, Vec<Text>)>,
    pub networks: Vec<(Text, Vec<IpNet>)>,
    pub calendars: Vec<(Text, Calendar)>,
    pub entries: Vec<RawEntry>,
}

/// One entry; `None` where the key is absent.
#[derive(Debug)]
pub(super) struct RawEntry {
    pub list: List,
    pub place: Place,
    pub name: Text,
    pub who: Option<Vec<Text>>,
    pub role: Option<Text>,
    pub actions: Option<Vec<Text>>,
    pub kinds: Option<Vec<Kind>>,
    pub effects: Option<Effects>,
    pub secrets: Option<RawSecrets>,
    pub scope: Option<Vec<Text>>,
    pub routes: Option<Vec<Text>>,
    pub methods: Option<Vec<http::Method>>,
    pub path: Option<Vec<PathPattern>>,
    pub from: Option<Vec<Text>>,
    pub during: Option<Vec<Text>>,
    pub when: Option<Text>,
    pub unless: Option<Vec<Text>>,
    pub dry_run_until: Option<Timestamp>,
    pub limit: Option<RawLimit>,
}

/// `secrets` of an entry.
#[derive(Debug, Clone)]
pub(super) enum RawSecrets {
    /// In `deny` and `require`: the entry concerns answers that hold one of these.
    Selected(Secrets),
    /// In `allow`: the entry names these, each with its treatment.
    Granted(Vec<(SecretClass, SecretTreatment)>),
}

/// `limit` of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawLimit {
    pub requests: u32,
    pub every: Duration,
    pub per: LimitPer,
}

/// The keys of a policy file.
pub(super) const FILE_KEYS: &[&str] =
    &["version", "subjects", "scopes", "networks", "calendars", "allow", "deny", "require"];

/// The keys of a description of callers.
pub(super) const DESCRIPTION_KEYS: &[&str] =
    &["issuer", "group", "claims", "subject", "client", "kind", "tenant", "agent"];

/// The keys of an entry.
pub(super) fn entry_keys(list: List) -> Vec<&'static str> {
    let mut known = vec![
        "name", "who", "actions", "kinds", "effects", "secrets", "scope", "routes", "methods", "path",
        "from", "during", "when",
    ];
    match list {
        List::Allow => known.push("role"),
        List::Deny => known.extend(["unless", "dry_run_until"]),
        List::Require => known.extend(["unless", "dry_run_until", "limit"]),
    }
    known
}

/// Keys of later versions, in any list.
const LATER: &[&str] = &["rights", "as", "step_up", "people", "approval", "review", "lists", "record"];

/// Reads one file. What could be read is returned beside the problems.
pub(super) fn read(file: &Arc<str>, text: &str, problems: &mut Vec<Problem>) -> RawFile {
    let mut raw = RawFile::default();
    let tree = match parse(file, text) {
        Ok(tree) => tree,
        Err(problem) => {
            problems.push(problem);
            return raw;
        }
    };
    let mut reader = Reader { file, problems };
    if let Node::Null = tree.value {
        reader.error_with(Place { line: 1, column: 1 }, "the file is empty", "begin with `version: 1`");
        return raw;
    }
    let Some(mut fields) = reader.fields(tree, "a policy file", FILE_KEYS, LATER) else { return raw };
    version(&mut reader, &mut fields);
    for (name, tree) in named(&mut reader, fields.take("subjects"), "`subjects`") {
        let what = format!("subject `{}`", name.value);
        let descriptions = items(&mut reader, tree, &what);
        let read = descriptions.into_iter().filter_map(|d| description(&mut reader, d)).collect();
        raw.subjects.push((name, read));
    }
    for (name, tree) in named(&mut reader, fields.take("scopes"), "`scopes`") {
        let ids = reader.texts(tree, &format!("scope `{}`", name.value));
        raw.scopes.push((name, ids));
    }
    for (name, tree) in named(&mut reader, fields.take("networks"), "`networks`") {
        let texts = reader.texts(tree, &format!("network `{}`", name.value));
        let nets = texts.iter().filter_map(|text| network(&mut reader, text)).collect();
        raw.networks.push((name, nets));
    }
    for (name, tree) in named(&mut reader, fields.take("calendars"), "`calendars`") {
        if let Some(calendar) = read_calendar(&mut reader, &name, tree) {
            raw.calendars.push((name, calendar));
        }
    }
    for list in [List::Allow, List::Deny, List::Require] {
        let Some(tree) = fields.take(list.name()) else { continue };
        for item in reader.list(tree, &format!("`{}`", list.name())) {
            raw.entries.extend(entry(&mut reader, list, item));
        }
    }
    raw
}

fn version(reader: &mut Reader<'_>, fields: &mut Fields) {
    let first = fields.first().map(|key| (key.value == "version", key.place));
    let hint = "begin the file with `version: 1`";
    match (fields.take("version"), first) {
        (None, first) => {
            let place = first.map_or(fields.place, |(_, place)| place);
            reader.error_with(place, "`version` is missing", hint);
        }
        (Some(tree), first) => {
            let known = matches!(&tree.value, Node::Number(n) if n.as_u64() == Some(1));
            if !known {
                reader.error_with(
                    tree.place,
                    "this version of a policy file is not known",
                    "write `version: 1`",
                );
            } else if first.is_some_and(|(is_first, _)| !is_first) {
                reader.error_with(tree.place, "`version` comes first", hint);
            }
        }
    }
}

fn named(reader: &mut Reader<'_>, tree: Option<Tree>, what: &str) -> Vec<(Text, Tree)> {
    tree.map(|tree| reader.any_fields(tree, what)).unwrap_or_default()
}

fn items(reader: &mut Reader<'_>, tree: Tree, what: &str) -> Vec<Tree> {
    let place = tree.place;
    let before = reader.problems.len();
    let items = reader.list(tree, what);
    if items.is_empty() && reader.problems.len() == before {
        reader.error_with(place, format!("{what} is empty"), "an empty list matches nobody");
    }
    items
}

fn description(reader: &mut Reader<'_>, tree: Tree) -> Option<Located<Description>> {
    let place = tree.place;
    let mut fields = reader.fields(tree, "a description of callers", DESCRIPTION_KEYS, &["as"])?;
    let mut text = |reader: &mut Reader<'_>, key: &str| -> Option<Box<str>> {
        let tree = fields.take(key)?;
        reader.text(tree, &format!("`{key}`")).map(|text| text.value.into())
    };
    let issuer = text(reader, "issuer");
    let [group, subject, client, tenant] = ["group", "subject", "client", "tenant"].map(|k| text(reader, k));
    let kind = text(reader, "kind").and_then(|kind| match &*kind {
        "person" => Some(PrincipalKind::Person),
        "machine" => Some(PrincipalKind::Machine),
        other => {
            reader.error_with(
                place,
                format!("unknown kind `{other}`"),
                "a caller is a `person` or a `machine`",
            );
            None
        }
    });
    let claims = fields.take("claims").map(|tree| members(reader, tree, "`claims`")).unwrap_or_default();
    let agent = fields.take("agent").and_then(|tree| {
        let place = tree.place;
        let mut fields = reader.fields(tree, "`agent`", &["client_id"], &[])?;
        match fields.take("client_id") {
            Some(tree) => reader.text(tree, "`client_id`").map(|text| text.value.into_boxed_str()),
            None => {
                reader.error(place, "`agent` needs `client_id`");
                None
            }
        }
    });
    let client = match (client, agent) {
        (Some(_), Some(_)) => {
            reader.error_with(
                place,
                "`client` and `agent` say the same",
                "an agent is known by its client: keep one of them",
            );
            None
        }
        (client, agent) => client.or(agent),
    };
    let Some(issuer) = issuer else {
        reader.error_with(
            place,
            "a description of callers needs `issuer`",
            "the same group or claim of another issuer means something else; write the issuer's name",
        );
        return None;
    };
    Some(Located::new(Description { issuer, group, subject, client, kind, tenant, claims }, place))
}

fn members(reader: &mut Reader<'_>, tree: Tree, what: &str) -> Box<[(Box<str>, Expected)]> {
    let place = tree.place;
    let fields = reader.any_fields(tree, what);
    if fields.is_empty() {
        reader.error(place, format!("{what} is empty"));
    }
    fields
        .into_iter()
        .filter_map(|(name, tree)| {
            let expected = expected(reader, tree, &name.value)?;
            Some((name.value.into(), expected))
        })
        .collect()
}

fn expected(reader: &mut Reader<'_>, tree: Tree, claim: &str) -> Option<Expected> {
    let what = format!("claim `{claim}`");
    match tree.value {
        Node::Map(_) => Some(Expected::Members(members(reader, tree, &what))),
        Node::List(_) => {
            let items = items(reader, tree, &what);
            Some(Expected::AnyOf(items.into_iter().filter_map(|i| scalar(reader, i, &what)).collect()))
        }
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => {
            scalar(reader, tree, &what).map(|value| Expected::AnyOf(Box::new([value])))
        }
    }
}

fn scalar(reader: &mut Reader<'_>, tree: Tree, what: &str) -> Option<serde_json::Value> {
    match tree.value {
        Node::Text(_) => reader.text(tree, what).map(|text| text.value.into()),
        Node::Bool(value) => Some(value.into()),
        Node::Number(number) => Some(number.into()),
        Node::Null | Node::List(_) | Node::Map(_) => {
            reader.error(tree.place, format!("{what} must be text, a number, a boolean or a list of these"));
            None
        }
    }
}

fn network(reader: &mut Reader<'_>, text: &Text) -> Option<IpNet> {
    if let Ok(address) = text.value.parse::<IpAddr>() {
        return Some(address.into());
    }
    let Ok(net) = text.value.parse::<IpNet>() else {
        reader.error_with(
            text.place,
            format!("`{}` is no network", text.value),
            "write `10.0.0.0/8` or `2001:db8::/32`",
        );
        return None;
    };
    if net != net.trunc() {
        reader.error_with(
            text.place,
            format!("`{}` has bits beyond its prefix", text.value),
            format!("write `{}`", net.trunc()),
        );
    }
    Some(net)
}

fn read_calendar(reader: &mut Reader<'_>, name: &Text, tree: Tree) -> Option<Calendar> {
    let place = tree.place;
    let what = format!("calendar `{}`", name.value);
    let mut fields = reader.fields(tree, &what, &["zone", "days", "from", "to"], &[])?;
    let zone = match fields.take("zone") {
        None => {
            reader.error_with(place, format!("{what} needs `zone`"), "write an IANA name, `Europe/Zurich`");
            None
        }
        Some(tree) => reader.text(tree, "`zone`").and_then(|text| {
            let zone = text.value.parse::<chrono_tz::Tz>().ok();
            if zone.is_none() {
                let hint = near(&text.value, chrono_tz::TZ_VARIANTS.iter().map(|z| z.name()))
                    .unwrap_or_else(|| "write an IANA name, `Europe/Zurich`".to_owned());
                reader.error_with(text.place, format!("unknown time zone `{}`", text.value), hint);
            }
            zone
        }),
    };
    let mut days = [fields.place_of("days").is_none(); 7];
    if let Some(tree) = fields.take("days") {
        for day in reader.texts(tree, "`days`") {
            match DAYS.iter().position(|known| *known == day.value).and_then(|at| days.get_mut(at)) {
                Some(on) => *on = true,
                None => reader.error_with(
                    day.place,
                    format!("unknown day `{}`", day.value),
                    format!("days are {}", listed(DAYS.into_iter())),
                ),
            }
        }
    }
    let mut clock = |key: &str, default: u16| match fields.take(key) {
        None => Some(default),
        Some(tree) => {
            let text = reader.text(tree, &format!("`{key}`"))?;
            let minutes = calendar::minutes(&text.value).filter(|m| key == "to" || *m < DAY);
            if minutes.is_none() {
                let message = format!("`{}` is no time of day", text.value);
                reader.error_with(text.place, message, "write `\"08:00\"`, from `00:00` to `24:00`");
            }
            minutes
        }
    };
    let (from, to) = (clock("from", 0), clock("to", DAY));
    let (zone, from, to) = (zone?, from?, to?);
    if from == to {
        reader.error_with(place, format!("{what} ends when it begins"), "a whole day is `00:00` to `24:00`");
    }
    Some(Calendar { name: name.value.as_str().into(), zone, days, from, to })
}

fn entry(reader: &mut Reader<'_>, list: List, tree: Tree) -> Option<RawEntry> {
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
    let entry = RawEntry {
        list,
        place,
        who,
        role: fields.take("role").and_then(|tree| reader.text(tree, "`role`")),
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
        name: name?,
    };
    // What is said of an entry as a whole holds only if all of it could be read.
    if reader.problems.len() > before {
        return Some(entry);
    }
    let demands = entry.from.is_some() || entry.during.is_some() || entry.limit.is_some();
    let narrowed = entry.role.is_some()
        || entry.actions.is_some()
        || entry.kinds.is_some()
        || entry.effects.is_some()
        || entry.secrets.is_some()
        || entry.routes.is_some()
        || entry.path.is_some()
        || entry.when.is_some();
    if list == List::Require && !demands {
        let hint = "add `from`, `during` or `limit`: in `require` these are what must hold";
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
        (List::Allow | List::Deny, "limit") => Some("it is a demand: put it in an entry of `require`"),
        (List::Deny | List::Require, "role") => Some("a role grants: here select with `actions`"),
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

fn choice<T: Copy>(
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

fn unless(reader: &mut Reader<'_>, tree: Tree) -> Option<Vec<Text>> {
    let place = tree.place;
    let before = reader.problems.len();
    let mut fields = reader.fields(tree, "`unless`", &["who"], &["break_glass"])?;
    let who = texts(reader, &mut fields, "who");
    if who.is_none() && reader.problems.len() == before {
        reader.error_with(place, "`unless` names nobody", "write `unless: {who: [NAME]}`, or leave it out");
    }
    who
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
fn duration(text: &str) -> Option<Duration> {
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
    (1..=366 * 86_400_000).contains(&total).then(|| Duration::from_millis(total))
}
