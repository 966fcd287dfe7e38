//! The members of a body: read one way, or refused.

use serde_json::{Map, Value};

use super::Result;
use crate::azureml::BodyRefusal;

/// An object of the body, and how to name it.
pub(super) struct Door<'a> {
    pub(super) members: &'a Map<String, Value>,
    pub(super) path: String,
}

pub(super) fn refuse<T>(path: &str, wanted: &str) -> Result<T> {
    Err(BodyRefusal::Ambiguous(format!("`{path}` must be {wanted}, because the decision depends on it")))
}

pub(super) fn needed<'d, 'a>(door: Option<&'d Door<'a>>, path: &str) -> Result<&'d Door<'a>> {
    match door {
        Some(door) => Ok(door),
        None => refuse(path, "there, an object"),
    }
}

impl<'a> Door<'a> {
    pub(super) fn at(value: &'a Value, path: &str) -> Result<Self> {
        match value.as_object() {
            Some(members) => Ok(Self { members, path: path.to_owned() }),
            None => refuse(path, "an object"),
        }
    }

    /// A member that is there and not null; underscores do not count, because the SDK writes
    /// pipelines' children in both spellings.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.members.iter().find(|(key, _)| alike(key, name)).map(|(_, v)| v).filter(|v| !v.is_null())
    }

    pub(super) fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    pub(super) fn child(&self, name: &str) -> Result<Option<Self>> {
        self.get(name).map(|v| Self::at(v, &self.path(name))).transpose()
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => refuse(&self.path(name), "a string"),
        }
    }

    /// A whole number; Spark writes numbers as strings.
    pub(super) fn count(&self, name: &str) -> Result<Option<u64>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Number(n)) if n.as_u64().is_some() => Ok(n.as_u64()),
            Some(Value::String(text)) if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => {
                text.parse().map(Some).or_else(|_| refuse(&self.path(name), "a whole number"))
            }
            Some(_) => refuse(&self.path(name), "a whole number"),
        }
    }

    /// An ISO 8601 duration, in hours.
    pub(super) fn hours(&self, name: &str) -> Result<Option<f64>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => match hours(text) {
                Some(hours) => Ok(Some(hours)),
                None => refuse(&self.path(name), "an ISO 8601 duration such as `PT8H`"),
            },
            // The SDK writes seconds into pipelines' children.
            Some(Value::Number(n)) if n.as_f64().is_some_and(|n| n >= 0.0) => {
                Ok(n.as_f64().map(|s| s / 3_600.0))
            }
            Some(_) => refuse(&self.path(name), "an ISO 8601 duration such as `PT8H`"),
        }
    }

    pub(super) fn texts(&self) -> std::collections::BTreeMap<String, String> {
        self.members.iter().filter_map(|(k, v)| v.as_str().map(|v| (k.clone(), v.to_owned()))).collect()
    }
}

/// Whether two member names are the same but for case and underscores.
pub(super) fn alike(a: &str, b: &str) -> bool {
    let letters =
        |s: &'_ str| s.bytes().filter(|b| *b != b'_').map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>();
    a.eq_ignore_ascii_case(b) || (a.contains('_') && letters(a) == letters(b))
}

/// Days, hours, minutes and seconds of an ISO 8601 duration; months and years have no fixed length.
pub(super) fn hours(text: &str) -> Option<f64> {
    let rest = text.strip_prefix(['P', 'p'])?;
    let (days, time) = rest.split_once(['T', 't']).unwrap_or((rest, ""));
    let part = |text: &str, units: &[(char, f64)]| -> Option<f64> {
        let mut sum = 0.0;
        let mut number = String::new();
        for c in text.chars() {
            if c.is_ascii_digit() || c == '.' {
                number.push(c);
            } else {
                let (_, factor) = units.iter().find(|(u, _)| c.eq_ignore_ascii_case(u))?;
                sum += number.parse::<f64>().ok()? * factor;
                number.clear();
            }
        }
        number.is_empty().then_some(sum)
    };
    if rest.is_empty() || (text.contains(['T', 't']) && time.is_empty()) {
        return None;
    }
    Some(
        part(days, &[('W', 168.0), ('D', 24.0)])?
            + part(time, &[('H', 1.0), ('M', 1.0 / 60.0), ('S', 1.0 / 3_600.0)])?,
    )
}

pub(super) fn times(a: Option<f64>, b: Option<u64>) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "an upper bound in hours")]
    a.zip(b).map(|(a, b)| a * b as f64)
}
