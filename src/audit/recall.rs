//! From a record back to the question that was decided: for `policy replay` and `policy why`.
//!
//! What a record does not hold is absent here, and
//! [`replay`](crate::policy::replay::replay) knows what that is. What it holds only in part
//! (a list or a text that was cut) makes no question: nothing is guessed.

use std::{net::SocketAddr, str::FromStr, sync::Arc};

use http::{HeaderMap, Method};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::record::MAX_LISTED;
use crate::{
    azureml::{
        Act, Action, Allocation, Audience, Effects, Facts, Kind, Operation, Protocol, ResourceId,
        SecretClass, Secrets,
    },
    http::Target,
    identity::{AskedGroups, Caller, GerritGroup, Groups, PrincipalId, PrincipalKind, ReviewerGroups},
    policy::{DecisionId, OpenGlass, Question, RequestFacts, SecretTreatment, Standing, rights::UNREAD},
    time::Timestamp,
};

/// A past request, as its record tells it.
#[derive(Debug, Clone)]
pub struct Recalled {
    /// Who asked, without claims.
    pub caller: Caller,
    /// For what.
    pub operation: Operation,
    /// The request, without query, headers and body.
    pub request: RequestFacts,
    /// What entitled the caller, besides entries.
    pub standing: Standing,
    /// The instant of the decision.
    pub at: Timestamp,
    /// The code of the denial; `None` if it was allowed.
    pub denied: Option<String>,
    /// How each class of secrets in the answer was treated, if it was allowed.
    pub secrets: Vec<(SecretClass, SecretTreatment)>,
    /// The entries whose demands it had to meet, limits and approvals.
    pub obligations: Vec<String>,
    /// Whether all VM sizes that it may have reserved were recorded.
    pub skus: bool,
}

/// Why a record is no question any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record does not hold {0}")]
pub struct NotRecorded(pub String);

impl Recalled {
    /// The question that was decided.
    #[must_use]
    pub fn question(&self) -> Question<'_> {
        Question {
            caller: &self.caller,
            operation: &self.operation,
            request: &self.request,
            now: self.at,
            standing: self.standing,
            azure: &UNREAD,
        }
    }
}

/// Reads the question out of a record; `None` if the record is of no decision on an operation (an
/// event of the gate, a request that could not be named).
///
/// # Errors
/// [`NotRecorded`] if a part that every decision needs is missing or was cut.
pub fn recall(record: &Value) -> Option<Result<Recalled, NotRecorded>> {
    let own = record.pointer("/unmapped/amlgate")?;
    own.get("phase")?;
    own.get("operation")?;
    Some(Record { record, own }.recall())
}

struct Record<'r> {
    record: &'r Value,
    own: &'r Value,
}

fn not_recorded<T>(what: &str) -> Result<T, NotRecorded> {
    Err(NotRecorded(what.to_owned()))
}

/// Text that was not cut: what was ends with an ellipsis.
fn whole<'v>(value: &'v Value, what: &str) -> Result<&'v str, NotRecorded> {
    match value.as_str() {
        Some(text) if !text.ends_with('\u{2026}') => Ok(text),
        Some(_) => not_recorded(&format!("all of {what}")),
        None => not_recorded(what),
    }
}

impl<'r> Record<'r> {
    fn recall(&self) -> Result<Recalled, NotRecorded> {
        if self.own.get("shortened").is_some() {
            return not_recorded("all of its lists: it was shortened");
        }
        let operation = self.operation()?;
        let phase = self.own_text("phase")?;
        let denied = match phase {
            "denial" => Some(self.text("/unmapped/amlgate/denial/code", "the denial's code")?.to_owned()),
            _ => None,
        };
        let Some(time) = self.record.get("time").and_then(Value::as_u64) else {
            return not_recorded("the time");
        };
        // A plain read has one record only, from its end.
        let took = match phase {
            "outcome" => self.record.get("duration").and_then(Value::as_u64).unwrap_or_default(),
            _ => 0,
        };
        let at = Timestamp::from_millis(time.saturating_sub(took));
        let skus = self.own.pointer("/allocates/skus").and_then(Value::as_array);
        Ok(Recalled {
            caller: self.caller(at)?,
            request: self.request(at)?,
            standing: match self.own.get("standing").and_then(Value::as_str) {
                None => Standing::Entries,
                Some("polling_capability") => Standing::PollingCapability,
                Some(_) => return not_recorded("a standing that is known here"),
            },
            at,
            secrets: if denied.is_none() { self.treatments()? } else { Vec::new() },
            denied,
            obligations: self.obligations(),
            skus: skus.is_some_and(|all| all.len() < MAX_LISTED),
            operation,
        })
    }

    /// The break-glass that the request was made under.
    fn glass(&self) -> Result<Option<Arc<OpenGlass>>, NotRecorded> {
        let Some(found) = self.own.get("break_glass") else { return Ok(None) };
        let id = whole(found.get("id").unwrap_or(&Value::Null), "the break-glass")?;
        Ok(Some(Arc::new(OpenGlass { id: id.into() })))
    }

    fn obligations(&self) -> Vec<String> {
        let all = self.own.get("obligations").and_then(Value::as_array);
        let names = all.into_iter().flatten().filter_map(|one| one.get("name").and_then(Value::as_str));
        names.map(ToOwned::to_owned).collect()
    }

    fn text(&self, pointer: &str, what: &str) -> Result<&'r str, NotRecorded> {
        whole(self.record.pointer(pointer).unwrap_or(&Value::Null), what)
    }

    fn own_text(&self, key: &str) -> Result<&'r str, NotRecorded> {
        whole(self.own.get(key).unwrap_or(&Value::Null), &format!("`{key}`"))
    }

    /// A text that the record may lack.
    fn some(&self, pointer: &str, what: &str) -> Result<Option<Arc<str>>, NotRecorded> {
        match self.record.pointer(pointer) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => whole(value, what).map(|text| Some(text.into())),
        }
    }

    fn items(&self, key: &str) -> impl Iterator<Item = &'r Value> {
        self.own.get(key).and_then(Value::as_array).into_iter().flatten()
    }

    fn words<T: DeserializeOwned>(&self, key: &str) -> Result<Vec<T>, NotRecorded> {
        self.items(key).map(|word| known(word, key)).collect()
    }

    fn caller(&self, at: Timestamp) -> Result<Caller, NotRecorded> {
        let issuer = self.text("/actor/idp/name", "the issuer")?;
        let id = self.text("/actor/user/uid", "the caller")?;
        let Some(subject) = id.strip_prefix(issuer).and_then(|rest| rest.strip_prefix(':')) else {
            return not_recorded("the caller's subject");
        };
        let human: Option<Arc<str>> = self.some("/actor/user/uid_alt", "the human")?;
        let human = match human.as_deref().map(|id| id.split_once(':')) {
            None => None,
            Some(Some((issuer, subject))) => {
                Some(PrincipalId { issuer: issuer.into(), subject: subject.into() })
            }
            Some(None) => return not_recorded("the human"),
        };
        let texts = |all: Option<&'r Value>, key: Option<&str>, what: &str| {
            let all = all.and_then(Value::as_array).into_iter().flatten();
            let one = |item: &'r Value| match key {
                Some(key) => whole(item.get(key).unwrap_or(&Value::Null), what),
                None => whole(item, what),
            };
            all.map(|item| one(item).map(Into::into)).collect::<Result<Vec<Box<str>>, _>>()
        };
        let groups = if self.own.get("groups_unknown").is_some() {
            Groups::Overage
        } else if self.own.get("groups_count").is_some() {
            return not_recorded("all of the caller's groups");
        } else {
            let listed = texts(self.record.pointer("/actor/user/groups"), Some("uid"), "a group")?;
            let asked = texts(self.own.get("groups_asked"), None, "a group")?;
            let in_order = |mut groups: Vec<Box<str>>| {
                groups.sort_unstable();
                groups
            };
            if asked.is_empty() {
                Groups::Known(listed.into())
            } else {
                let member = Arc::new(in_order(listed).into());
                Groups::Asked(Arc::new(AskedGroups::new(in_order(asked).into(), Ok(member))))
            }
        };
        let subjects: Vec<Arc<str>> = self
            .items("subjects_at_issue")
            .map(|name| whole(name, "the subjects of a handle").map(Into::into))
            .collect::<Result<_, _>>()?;
        Ok(Caller {
            id: PrincipalId { issuer: issuer.into(), subject: subject.into() },
            kind: {
                let kind = match self.record.pointer("/actor/user/type_id").and_then(Value::as_u64) {
                    Some(1) => PrincipalKind::Person,
                    Some(4) => PrincipalKind::Machine,
                    Some(_) | None => return not_recorded("whether the caller is a person"),
                };
                if self.own.get("agent").is_some() { kind.acting() } else { kind }
            },
            tenant: self.some("/actor/user/domain", "the tenant")?,
            client: self.some("/actor/app_uid", "the client")?,
            display: None,
            groups,
            roles: texts(self.own.get("roles"), None, "a role")?.into(),
            claims: Arc::new(Map::new()),
            expires: self
                .record
                .pointer("/actor/session/expiration_time")
                .and_then(Value::as_u64)
                .map_or(at, Timestamp::from_millis),
            human,
            from_pull_request: self.own.get("from_pull_request").is_some(),
            reviewers: self.reviewers()?,
            subjects_at_issue: (!subjects.is_empty()).then(|| subjects.into()),
            token_digest: [0; 32],
        })
    }

    /// What was known of the caller's groups at code hosts, if anything was asked.
    fn reviewers(&self) -> Result<Option<Arc<ReviewerGroups>>, NotRecorded> {
        let groups = |key: &str| {
            let named = |name| match GerritGroup::named(whole(name, "a group of Gerrit's")?) {
                Some(group) => Ok(group),
                None => not_recorded("a group of Gerrit's"),
            };
            self.items(key).map(named).collect::<Result<Vec<_>, _>>()
        };
        let about = groups("gerrit_groups_asked")?;
        if about.is_empty() {
            return Ok(None);
        }
        let why: Arc<str> = "it could not be read then".into();
        let unread = groups("gerrit_groups_unread")?.into_iter().map(|group| (group, Arc::clone(&why)));
        let (member, unread) = (groups("gerrit_groups")?, unread.collect());
        Ok(Some(Arc::new(ReviewerGroups::told(about.into(), member, unread))))
    }

    fn operation(&self) -> Result<Operation, NotRecorded> {
        let act = |action: &str, resource: Option<&Value>| {
            let resource = match resource {
                None | Some(Value::Null) => None,
                Some(id) => match ResourceId::parse(whole(id, "a resource")?) {
                    Some(id) => Some(id),
                    None => return not_recorded("a resource that can be read"),
                },
            };
            Ok(Act { action: Action::new(action), resource })
        };
        let acts = match self.own.get("acts_count").and_then(Value::as_u64) {
            None => {
                let action = self.text("/api/operation", "the action")?;
                vec![act(action, self.record.pointer("/resources/0/uid"))?]
            }
            Some(count) => {
                let listed: Vec<_> = self.items("acts").collect();
                if u64::try_from(listed.len()) != Ok(count) {
                    return not_recorded("all that the request did");
                }
                let one = |item: &&Value| {
                    let action = whole(item.get("action").unwrap_or(&Value::Null), "an action")?;
                    act(action, item.get("resource"))
                };
                listed.iter().map(one).collect::<Result<Vec<_>, _>>()?
            }
        };
        let number = |key: &str| self.own.pointer(&format!("/allocates/{key}")).and_then(Value::as_u64);
        let skus = self
            .own
            .pointer("/allocates/skus")
            .and_then(Value::as_array)
            .map(|all| all.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect::<Vec<_>>());
        let allocates = self.own.get("allocates").map(|_| {
            Box::new(Allocation { nodes: number("nodes"), skus, gpus: number("gpus"), hours: None })
        });
        let secrets = self.items("secrets").map(class).collect::<Result<Secrets, _>>()?;
        Ok(Operation {
            name: self.own_text("operation")?.into(),
            acts,
            kind: known::<Kind>(self.own.get("kind").unwrap_or(&Value::Null), "kind")?,
            effects: self.words("effects")?.into_iter().collect::<Effects>(),
            unclear_effects: self.words("unclear_effects")?.into_iter().collect::<Effects>(),
            secrets,
            facts: Facts { allocates, ..Facts::default() },
            // What nobody judges by.
            audience: Audience::None,
            long_running: false,
            protocol: known::<Protocol>(self.own.get("protocol").unwrap_or(&Value::Null), "protocol")?,
        })
    }

    fn treatments(&self) -> Result<Vec<(SecretClass, SecretTreatment)>, NotRecorded> {
        self.items("secrets")
            .map(|item| {
                let how = match item.get("treatment").and_then(Value::as_str) {
                    Some("substitute") => SecretTreatment::Substitute,
                    Some("reveal") => SecretTreatment::Reveal,
                    Some(_) | None => return not_recorded("how a secret was treated"),
                };
                Ok((class(item)?, how))
            })
            .collect()
    }

    fn request(&self, at: Timestamp) -> Result<RequestFacts, NotRecorded> {
        let host = self.text("/http_request/url/hostname", "the host")?;
        let path = self.text("/http_request/url/path", "the path")?;
        let Ok(target) = Target::parse(host, path) else { return not_recorded("a path that can be read") };
        let Ok(method) = Method::from_str(self.text("/http_request/http_method", "the method")?) else {
            return not_recorded("a method that can be read");
        };
        let Some(decision) = DecisionId::parse(self.own_text("decision")?) else {
            return not_recorded("the decision's id");
        };
        let address = self.text("/src_endpoint/ip", "the caller's address")?.parse();
        let Ok(address) = address else { return not_recorded("the caller's address") };
        Ok(RequestFacts {
            decision,
            route: self.text("/api/service/name", "the route")?.into(),
            method,
            target,
            headers: HeaderMap::new(),
            body: None,
            source: SocketAddr::new(address, 0),
            received: at,
            glass: self.glass()?,
        })
    }
}

fn class(item: &Value) -> Result<SecretClass, NotRecorded> {
    known(item.get("class").unwrap_or(&Value::Null), "secrets")
}

/// A word of ours.
fn known<T: DeserializeOwned>(word: &Value, key: &str) -> Result<T, NotRecorded> {
    serde_json::from_value(word.clone())
        .map_err(|_| NotRecorded(format!("`{key}` in words that are known here")))
}
