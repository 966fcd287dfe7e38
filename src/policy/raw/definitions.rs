//! Subjects, networks and calendars: the names that entries use.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    super::{
        calendar::{self, Calendar, DAY, DAYS},
        document::{Located, Node, Reader, Text, Tree, listed, near},
        who::{ANY_ISSUER, Description, Expected, Member},
    },
    DESCRIPTION_KEYS,
    reviewers::group,
};
use crate::identity::{PrincipalKind, TRIGGER};

pub(super) fn items(reader: &mut Reader<'_>, tree: Tree, what: &str) -> Vec<Tree> {
    let place = tree.place;
    let before = reader.problems.len();
    let items = reader.list(tree, what);
    if items.is_empty() && reader.problems.len() == before {
        reader.error_with(place, format!("{what} is empty"), "an empty list matches nobody");
    }
    items
}

pub(super) fn description(reader: &mut Reader<'_>, tree: Tree) -> Option<Located<Member>> {
    let place = tree.place;
    let mut fields = reader.fields(tree, "a description of callers", DESCRIPTION_KEYS, &["as"])?;
    if let Some(tree) = fields.take("gerrit") {
        let others = DESCRIPTION_KEYS.iter().find_map(|key| Some((key, fields.place_of(key)?)));
        if let Some((key, place)) = others {
            let hint =
                "the people of a group are known by their accounts alone: make it another item of the list";
            reader.error_with(place, format!("`{key}` stands beside `gerrit`"), hint);
        }
        return group(reader, tree, "`gerrit`")
            .map(|one| Located::new(Member::Reviewers(one.value), one.place));
    }
    let mut text = |reader: &mut Reader<'_>, key: &str| -> Option<Box<str>> {
        let tree = fields.take(key)?;
        reader.text(tree, &format!("`{key}`")).map(|text| text.value.into())
    };
    let issuer = text(reader, "issuer");
    let [group, subject, client, tenant] = ["group", "subject", "client", "tenant"].map(|k| text(reader, k));
    let kind = text(reader, "kind").and_then(|kind| match &*kind {
        "person" => Some(PrincipalKind::Person),
        "machine" => Some(PrincipalKind::Machine),
        "agent" => Some(PrincipalKind::Agent),
        other => {
            reader.error_with(
                place,
                format!("unknown kind `{other}`"),
                "a caller is a `person`, a `machine` or an `agent`",
            );
            None
        }
    });
    let claims = fields.take("claims").map(|tree| members(reader, tree, "`claims`")).unwrap_or_default();
    let agent = fields.take("agent").and_then(|tree| agent(reader, tree));
    if client.is_some() && agent.is_some() {
        let hint = "an agent is known by its client: keep `agent`";
        reader.error_with(place, "`client` and `agent` say the same", hint);
    }
    if agent.is_some() && kind.is_some_and(|kind| !kind.is_agent()) {
        let hint = "leave `kind` out: `agent` names software that acts";
        reader.error_with(place, "`kind` and `agent` contradict each other", hint);
    }
    // For whom a trigger acts, whichever issuer they are of, is said where it is defined.
    let of_any = || agent.as_deref().filter(|agent| agent.starts_with(TRIGGER)).map(|_| ANY_ISSUER.into());
    let Some(issuer) = issuer.or_else(of_any) else {
        reader.error_with(
            place,
            "a description of callers needs `issuer`",
            "the same group or claim of another issuer means something else; write the issuer's name",
        );
        return None;
    };
    let described = Description { issuer, group, subject, client, agent, kind, tenant, claims };
    Some(Located::new(Member::Caller(described), place))
}

/// The client that an agent is known by.
fn agent(reader: &mut Reader<'_>, tree: Tree) -> Option<Box<str>> {
    let place = tree.place;
    let mut fields = reader.fields(tree, "`agent`", &["client_id", "trigger"], &[])?;
    match (fields.take("client_id"), fields.take("trigger")) {
        (Some(tree), None) => {
            let text = reader.text(tree, "`client_id`")?;
            if let Some(name) = text.value.strip_prefix(TRIGGER) {
                let message = format!("no client is called `{}`", text.value);
                reader.error_with(text.place, message, format!("write `agent: {{trigger: {name}}}`"));
                return None;
            }
            Some(text.value.into())
        }
        (None, Some(tree)) => {
            let text = reader.text(tree, "`trigger`")?;
            Some(format!("{TRIGGER}{}", text.value).into())
        }
        (Some(_), Some(_)) => {
            reader.error_with(place, "`agent` names both a client and a trigger", "keep one of them");
            None
        }
        (None, None) => {
            reader.error(place, "`agent` needs `client_id` or `trigger`");
            None
        }
    }
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

pub(super) fn network(reader: &mut Reader<'_>, text: &Text) -> Option<IpNet> {
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

pub(super) fn read_calendar(reader: &mut Reader<'_>, name: &Text, tree: Tree) -> Option<Calendar> {
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
