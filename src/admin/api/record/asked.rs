//! What of the record is asked for, from the query of the URL.

use std::{fmt::Write as _, time::Duration};

use super::{
    super::{
        call::Refused,
        openapi::{Parameter, Shape},
    },
    cursor,
};
use crate::{audit::query::Filter, time::Timestamp};

/// The longest value, in bytes: a resource's id has its place.
const MAX_VALUE: usize = 1_024;
/// Records of a page, unless it is said.
const RECORDS: usize = 100;
/// The most records of a page.
const MAX_RECORDS: usize = 1_000;
/// The longest wait: proxies between give up on what is silent longer.
const MAX_WAIT: u64 = 30;
/// The longest word that is recorded of what was looked for: tokens and keys are longer.
const MAX_WORD: usize = 64;

/// Every key of a query.
pub const PARAMETERS: &[Parameter] = &[
    Parameter::query(
        "caller",
        "Issuer and subject of whoever did it, or a part of that.",
        Shape::Text(MAX_VALUE),
    ),
    Parameter::query("person", "The same as `caller`; not both.", Shape::Text(MAX_VALUE)),
    Parameter::query("decision", "A decision's id.", Shape::Id),
    Parameter::query("action", "An action, or a part of its name.", Shape::Text(MAX_VALUE)),
    Parameter::query("resource", "A resource's id, or a part of it.", Shape::Text(MAX_VALUE)),
    Parameter::query("phase", "`intent`, `outcome`, `denial` and so on.", Shape::Text(MAX_VALUE)),
    Parameter::query("code", "The code of a refusal.", Shape::Text(MAX_VALUE)),
    Parameter::query("text", "Anything that stands in the record.", Shape::Text(MAX_VALUE)),
    Parameter::query("since", "Not before.", Shape::Time),
    Parameter::query("until", "Before.", Shape::Time),
    Parameter::query(
        "limit",
        "The most records of the page; 100 unless it is said.",
        Shape::Number(1, MAX_RECORDS as u64),
    ),
    Parameter::query(
        "last",
        "Begin so many records before the end; not with `cursor`.",
        Shape::Number(0, MAX_RECORDS as u64),
    ),
    Parameter::query("cursor", "`next` of the page before.", Shape::Text(MAX_VALUE)),
    Parameter::query("wait", "Wait up to so many seconds for something to come.", Shape::Number(0, MAX_WAIT)),
];

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::admin) struct Asked {
    pub filter: Filter,
    /// The position to begin at.
    pub from: u64,
    /// Begins so many records before the end instead.
    pub last: Option<u64>,
    /// The most records of the page.
    pub limit: usize,
    /// How long to wait for some.
    pub wait: Duration,
}

impl Asked {
    /// Reads a query; every key stands at most once, and none is ignored.
    pub fn read(query: &str, origin: &str) -> Result<Self, Refused> {
        let mut asked =
            Self { filter: Filter::default(), from: 0, last: None, limit: RECORDS, wait: Duration::ZERO };
        let mut seen = Vec::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let wrong = |why: &str| Err(Refused::malformed(format!("`{key}` {why}")));
            if value.is_empty() || value.len() > MAX_VALUE {
                return wrong("has 1 to 1024 bytes");
            }
            if seen.contains(&key) {
                return wrong("stands twice");
            }
            let number = |most: u64| match value.parse::<u64>() {
                Ok(number) if number <= most => Ok(number),
                Ok(_) | Err(_) => Err(Refused::malformed(format!("`{key}` is a number up to {most}"))),
            };
            let filter = &mut asked.filter;
            let text = || Some(value.clone().into_owned());
            match &*key {
                "caller" | "person" => filter.caller = text(),
                "action" => filter.action = text(),
                "resource" => filter.resource = text(),
                "phase" => filter.phase = text(),
                "code" => filter.code = text(),
                "text" => filter.text = text(),
                "decision" => match uuid::Uuid::parse_str(&value) {
                    Ok(id) => filter.decision = Some(id),
                    Err(_) => return wrong("is a decision's id, as in `x-amlgate-decision`"),
                },
                "since" => filter.since = Some(time(&key, &value)?),
                "until" => filter.until = Some(time(&key, &value)?),
                "limit" => match usize::try_from(number(MAX_RECORDS as u64)?) {
                    Ok(limit) if limit > 0 => asked.limit = limit,
                    Ok(_) | Err(_) => return wrong("is at least 1"),
                },
                "last" => asked.last = Some(number(MAX_RECORDS as u64)?),
                "wait" => asked.wait = Duration::from_secs(number(MAX_WAIT)?),
                "cursor" => asked.from = cursor::read(origin, &value).map_err(Refused::malformed)?,
                _ => {
                    let known: Vec<_> = PARAMETERS.iter().map(|parameter| parameter.name).collect();
                    return wrong(&format!("is not known: `{}`", known.join("`, `")));
                }
            }
            seen.push(key);
        }
        let both = |one: &str, other: &str| [one, other].iter().all(|key| seen.iter().any(|s| s == key));
        for (one, other) in [("last", "cursor"), ("caller", "person")] {
            if both(one, other) {
                return Err(Refused::malformed(format!("`{one}` and `{other}` exclude each other")));
            }
        }
        Ok(asked)
    }

    /// What the record says of it. Whatever is not of the form of a name or of an id stands with its
    /// length alone: somebody may look for a secret to see whether it is there.
    pub fn shown(&self, from: u64) -> String {
        let filter = &self.filter;
        let mut shown = String::new();
        let texts = [
            ("caller", &filter.caller),
            ("action", &filter.action),
            ("resource", &filter.resource),
            ("phase", &filter.phase),
            ("code", &filter.code),
        ];
        for (key, value) in texts {
            if let Some(value) = value {
                let _infallible = match harmless(value) {
                    true => write!(shown, "{key}={value} "),
                    false => write!(shown, "{key}=…{} ", value.len()),
                };
            }
        }
        let times = [("since", filter.since), ("until", filter.until)];
        let _infallible = (|| {
            if let Some(text) = &filter.text {
                write!(shown, "text=…{} ", text.len())?;
            }
            if let Some(decision) = filter.decision {
                write!(shown, "decision={decision} ")?;
            }
            for (key, time) in times {
                if let Some(time) = time {
                    write!(shown, "{key}={} ", time.to_rfc3339())?;
                }
            }
            write!(shown, "from={from}")
        })();
        shown
    }
}

/// Whether a text is words such as names and ids are made of.
fn harmless(text: &str) -> bool {
    let of_words = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    text.split(['/', ':', ' ']).all(|word| word.len() <= MAX_WORD && word.bytes().all(of_words))
}

/// Reads a time.
pub fn time(key: &str, value: &str) -> Result<Timestamp, Refused> {
    let found = chrono::DateTime::parse_from_rfc3339(value).ok();
    let found = found.and_then(|time| u64::try_from(time.timestamp_millis()).ok());
    found.map(Timestamp::from_millis).ok_or_else(|| {
        Refused::malformed(format!("`{key}` is a time such as `2026-11-30T09:00:00Z` (`+` is `%2B`)"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(query: &str) -> String {
        Asked::read(query, "gate").unwrap_err().message
    }

    #[test]
    fn every_filter_of_the_verb_is_one_of_the_api() {
        let id = uuid::Uuid::nil();
        let query = format!(
            "caller=corp%3Aann&decision={id}&action=jobs&resource=/subscriptions/1&phase=denial&code=X\
             &text=a+b&since=2026-11-30T09:00:00Z&until=2026-11-30T10:00:00%2B01:00&limit=7&wait=3"
        );
        let asked = Asked::read(&query, "gate").unwrap();
        let hour = Timestamp::from_millis(1_796_029_200_000);
        assert_eq!((asked.filter.since, asked.filter.until), (Some(hour), Some(hour)));
        assert_eq!(asked.filter.caller.as_deref(), Some("corp:ann"));
        assert_eq!(asked.filter.text.as_deref(), Some("a b"));
        assert_eq!((asked.limit, asked.wait), (7, Duration::from_secs(3)));
        let plain = Asked::read("", "gate").unwrap();
        assert_eq!((plain.limit, plain.from, plain.last), (RECORDS, 0, None));
    }

    #[test]
    fn every_parameter_is_read_as_it_is_described() {
        for Parameter { name, shape, .. } in PARAMETERS {
            let (fits, does_not) = match shape {
                Shape::Text(_) if *name == "cursor" => (cursor::write("gate", 9), "x".into()),
                Shape::Text(most) => ("x".repeat(*most), "x".repeat(most + 1)),
                Shape::Number(least, most) => (least.to_string(), (most + 1).to_string()),
                Shape::Id => (uuid::Uuid::nil().to_string(), "1".into()),
                Shape::Time => ("2026-11-30T09:00:00Z".into(), "today".into()),
                Shape::OneOf(_) | Shape::Pattern(_) => panic!("`{name}` is of no such shape"),
            };
            assert!(Asked::read(&format!("{name}={fits}"), "gate").is_ok(), "{name}={fits}");
            assert!(!refused(&format!("{name}={does_not}")).contains("not known"), "{name}={does_not}");
        }
    }

    #[test]
    fn what_is_asked_wrongly_is_refused_and_nothing_is_ignored() {
        for (query, why) in [
            ("calller=x", "`calller` is not known"),
            ("caller=", "1 to 1024"),
            ("caller=a&caller=b", "stands twice"),
            ("caller=a&person=b", "exclude each other"),
            ("limit=0", "at least 1"),
            ("limit=1001", "up to 1000"),
            ("wait=31", "up to 30"),
            ("since=yesterday", "is a time"),
            ("decision=x", "a decision's id"),
            ("cursor=AAAA", "none that this gate gave"),
        ] {
            assert!(refused(query).contains(why), "{query}: {}", refused(query));
        }
        assert!(refused(&format!("text={}", "x".repeat(1_025))).contains("1 to 1024"));
        let cursor = cursor::write("gate", 9);
        assert!(refused(&format!("last=3&cursor={cursor}")).contains("exclude each other"));
    }

    #[test]
    fn what_may_be_a_secret_is_recorded_by_its_length_alone() {
        let query = "text=hunter2&caller=pass%3Dword&resource=/subscriptions/1/x&action=jobs/write";
        let shown = Asked::read(query, "gate").unwrap().shown(4);
        assert_eq!(shown, "caller=…9 action=jobs/write resource=/subscriptions/1/x text=…7 from=4");
        let long = format!("action={}", "a".repeat(65));
        assert_eq!(Asked::read(&long, "gate").unwrap().shown(0), "action=…65 from=0");
    }
}
