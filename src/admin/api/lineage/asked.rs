//! Of which models something is asked, from the query of the URL.

use std::collections::BTreeMap;

use super::super::{
    call::Refused,
    openapi::{Parameter, Shape},
    pages::{CURSOR, before},
    record::time,
};
use crate::{
    lineage::{Home, Listed, NameError, Version, Versions},
    time::Timestamp,
};

/// The longest name, in bytes.
const MAX_NAME: usize = 1_024;
/// Statements of a page that does not say how many, and of the largest.
const PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;
/// Later than anything that was made.
const EVER: Timestamp = Timestamp::from_secs(253_402_300_800);

const WORKSPACE: Parameter =
    Parameter::query("workspace", "The workspace's name, where `model` is no id.", Shape::Text(MAX_NAME));
const REGISTRY: Parameter =
    Parameter::query("registry", "The registry's name, where `model` is no id.", Shape::Text(MAX_NAME));

/// Every key of a query for one model.
pub const OF_ONE: &[Parameter] = &[
    Parameter::query(
        "model",
        "The model's id (`azureml://...` or as Resource Manager names it), or `M:V` beside `workspace` or \
         `registry`.",
        Shape::Text(MAX_NAME),
    ),
    WORKSPACE,
    REGISTRY,
];

/// Every key of a query for a list.
pub const OF_LISTS: &[Parameter] = &[
    Parameter::query(
        "model",
        "Only of this model: its id with or without a version, or `M` or `M:V` beside `workspace` or `registry`.",
        Shape::Text(MAX_NAME),
    ),
    WORKSPACE,
    REGISTRY,
    Parameter::query("before", "Only what was stated before.", Shape::Time),
    Parameter::query("verified", "`true`: only statements that hold.", Shape::OneOf(&["true", "false"])),
    Parameter::query(
        "limit",
        "The most items of the page; 50 unless it is said.",
        Shape::Number(1, LARGEST_PAGE as u64),
    ),
    CURSOR,
];

/// What of the list is asked for.
#[derive(Debug, Clone)]
pub(in crate::admin) struct Asked(pub Listed);

impl Asked {
    /// Reads a query; every key stands at most once, and none is ignored.
    pub fn read(query: &str) -> Result<Self, Refused> {
        let given = keys(query, OF_LISTS)?;
        let value = |key: &str| given.get(key).map(String::as_str);
        let home = home(&given)?;
        let of = match (value("model"), home) {
            (None, None) => None,
            (model, home) => Some(Versions::parse(model, home).map_err(named)?),
        };
        let verified = match value("verified") {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Refused::malformed("`verified` is `true` or `false`")),
        };
        let most = match value("limit").map(str::parse::<usize>) {
            None => PAGE,
            Some(Ok(most)) if (1..=LARGEST_PAGE).contains(&most) => most,
            Some(Ok(_) | Err(_)) => {
                return Err(Refused::malformed(format!("`limit` is 1 to {LARGEST_PAGE}")));
            }
        };
        let at = value("before").map(|value| time("before", value)).transpose()?;
        // Where a page ended, which began no later than what is asked for.
        let before = match value("cursor") {
            Some(cursor) => before(cursor)?,
            None => (at.unwrap_or(EVER), String::new()),
        };
        Ok(Self(Listed { before, of, verified, most }))
    }
}

/// The one version that a query names.
pub fn version(query: &str) -> Result<Version, Refused> {
    let given = keys(query, OF_ONE)?;
    let home = home(&given)?;
    let Some(model) = given.get("model") else { return Err(named(NameError::Model)) };
    Version::parse(model, home).map_err(named)
}

fn keys(query: &str, known: &[Parameter]) -> Result<BTreeMap<String, String>, Refused> {
    let mut given = BTreeMap::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let wrong = |why: &str| Err(Refused::malformed(format!("`{key}` {why}")));
        if !known.iter().any(|parameter| parameter.name == key) {
            return wrong("is not known here");
        }
        if value.is_empty() || value.len() > MAX_NAME {
            return wrong("has 1 to 1024 bytes");
        }
        if given.contains_key(&*key) {
            return wrong("stands twice");
        }
        given.insert(key.into_owned(), value.into_owned());
    }
    Ok(given)
}

fn home(given: &BTreeMap<String, String>) -> Result<Option<Home<'_>>, Refused> {
    match (given.get("workspace"), given.get("registry")) {
        (Some(_), Some(_)) => Err(Refused::malformed("`workspace` and `registry` exclude each other")),
        (Some(name), None) => Ok(Some(Home::Workspace(name))),
        (None, Some(name)) => Ok(Some(Home::Registry(name))),
        (None, None) => Ok(None),
    }
}

fn named(error: NameError) -> Refused {
    Refused::malformed(format!("`model`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(query: &str) -> String {
        Asked::read(query).unwrap_err().message
    }

    #[test]
    fn a_list_is_of_all_models_unless_some_are_named() {
        let all = Asked::read("").unwrap().0;
        assert_eq!((all.of, all.verified, all.most, all.before), (None, false, PAGE, (EVER, String::new())));
        let some = "model=churn&workspace=W&verified=true&before=2026-11-30T09:00:00Z&limit=3";
        let some = Asked::read(some).unwrap().0;
        assert_eq!(some.of, Some(Versions::Tail("workspaces/w/models/churn".to_owned())));
        assert_eq!((some.verified, some.most), (true, 3));
        assert_eq!(some.before, (Timestamp::from_secs(1_796_029_200), String::new()));
        let next = Asked::read("before=2026-11-30T09:00:00Z&cursor=5.ab").unwrap().0;
        assert_eq!(next.before, (Timestamp::from_millis(5), "ab".to_owned()));
    }

    #[test]
    fn what_is_asked_wrongly_is_refused_and_nothing_is_ignored() {
        for (query, why) in [
            ("modell=x", "`modell` is not known"),
            ("model=", "1 to 1024"),
            ("model=churn", "`model`: a model is named by its id"),
            ("workspace=a&registry=b", "exclude each other"),
            ("workspace=a&workspace=b", "stands twice"),
            ("verified=yes", "`verified` is"),
            ("limit=0", "1 to 200"),
            ("before=yesterday", "is a time"),
            ("cursor=x", "`cursor` is what"),
        ] {
            assert!(refused(query).contains(why), "{query}: {}", refused(query));
        }
        assert!(version("workspace=w").unwrap_err().message.contains("`model`"));
        assert!(version("workspace=w&model=churn").unwrap_err().message.contains("which version?"));
        assert!(version("model=m:1&workspace=w&verified=true").unwrap_err().message.contains("not known"));
    }

    #[test]
    fn every_key_that_is_described_is_read() {
        for Parameter { name, shape, .. } in OF_LISTS {
            let fits = match (*name, shape) {
                ("model", _) => "azureml%3A%2F%2Fregistries%2Fr%2Fmodels%2Fm",
                ("cursor", _) => "5.ab",
                (_, Shape::Text(_)) => "w",
                (_, Shape::Number(_, most)) => &most.to_string(),
                (_, Shape::OneOf(words)) => words[0],
                (_, Shape::Time) => "2026-11-30T09:00:00Z",
                (_, Shape::Pattern(_) | Shape::Id) => panic!("`{name}` is of no such shape"),
            };
            assert!(Asked::read(&format!("{name}={fits}")).is_ok(), "{name}={fits}");
        }
    }
}
