//! A request's values as conditions see them: found when they are asked for, never copied whole.
//!
//! An object (a claim, a part of a body, the headers) stays where it is and is looked into key by
//! key; only what a condition names is turned into a value. Lists are turned whole, up to a bound,
//! because conditions go through them.

use std::{borrow::Cow, collections::BTreeMap, fmt, slice, sync::OnceLock};

use cel::{
    ExecutionError,
    common::{
        traits::{Container, Indexer, Iterable, Iterator as Items, Sizer},
        types::{
            CelBool, CelDouble, CelInt, CelList, CelNull, CelString, CelTimestamp, CelUInt, MAP_TYPE, Type,
        },
        value::{CowVal, Val},
    },
};
use http::HeaderMap;
use serde_json::{Map, Value};

use super::{
    Roots,
    members::{Case, Root},
};
use crate::{
    azureml::{Effect, ResourceId},
    identity::{Groups, PrincipalKind},
};

type Boxed<'q> = Box<dyn Val + 'q>;

/// What is found under a name.
enum Found<'q> {
    Value(Boxed<'q>),
    /// There is nothing: `has` is false.
    Absent,
    /// There may be something, but what is not to be known: even `has` has no answer.
    Unknown(&'static str),
}

/// An object of a request, found key by key.
pub(super) struct Object<'q> {
    inner: Inner<'q>,
    /// The longest list that is turned into values.
    longest: usize,
    /// Its names, once a loop has asked for them.
    keys: OnceLock<Vec<CelString<'q>>>,
}

#[derive(Clone, Copy)]
enum Inner<'q> {
    Caller(Roots<'q>),
    Resource(Roots<'q>),
    Request(Roots<'q>),
    Allocates(Roots<'q>),
    Json(&'q Map<String, Value>, Case),
    Headers(&'q HeaderMap),
    Query(&'q crate::http::target::Query),
    Tags(&'q BTreeMap<String, String>),
}

/// The value of a root.
pub(super) fn root<'q>(root: Root, roots: Roots<'q>, longest: usize) -> Boxed<'q> {
    let inner = match root {
        Root::Caller => Inner::Caller(roots),
        Root::Resource => Inner::Resource(roots),
        Root::Request => Inner::Request(roots),
        Root::Allocates => Inner::Allocates(roots),
        Root::Action => return text(roots.act.action.as_str()),
        Root::Route => return text(&roots.question.request.route),
        Root::Now => {
            return Box::new(CelTimestamp::from(roots.question.now.to_utc().fixed_offset()));
        }
    };
    Box::new(Object::new(inner, longest))
}

fn text(text: &str) -> Boxed<'_> {
    Box::new(CelString::from(text))
}

fn owned<'q>(text: String) -> Boxed<'q> {
    Box::new(CelString::from(text))
}

fn texts<'q>(texts: impl Iterator<Item = &'q str>) -> Boxed<'q> {
    Box::new(CelList::from(texts.map(text).collect::<Vec<_>>()))
}

fn integer<'q>(number: u64) -> Boxed<'q> {
    match i64::try_from(number) {
        Ok(number) => Box::new(CelInt::from(number)),
        Err(_) => Box::new(CelUInt::from(number)),
    }
}

const NO_RESOURCE: &str = "the request does not say which resource it concerns";
const UNBOUNDED: &str = "the request does not tell how much it may reserve";
const OVERAGE: &str = "the token does not carry all of the caller's groups";
const HANDLE: &str = "a caller with a handle has no claims";
const TOO_LONG: &str = "the list is too long for a condition";

impl<'q> Object<'q> {
    const fn new(inner: Inner<'q>, longest: usize) -> Self {
        Self { inner, longest, keys: OnceLock::new() }
    }

    fn find(&self, name: &str) -> Found<'q> {
        match self.inner {
            Inner::Caller(roots) => of_caller(roots, name, self.longest),
            Inner::Resource(roots) => of_resource(roots, name, self.longest),
            Inner::Request(roots) => of_request(roots, name, self.longest),
            Inner::Allocates(roots) => of_allocates(roots, name),
            Inner::Json(map, case) => {
                let found = map.get(name).or_else(|| match case {
                    Case::Exact => None,
                    Case::Ignored => map.iter().find(|(key, _)| same(key, name)).map(|(_, value)| value),
                });
                found.map_or(Found::Absent, |value| json(value, case, self.longest))
            }
            Inner::Headers(headers) => header(headers, name),
            Inner::Query(query) => {
                let mut values = query.pairs().filter(|(key, _)| key.eq_ignore_ascii_case(name));
                match (values.next(), values.next()) {
                    (None, _) => Found::Absent,
                    (Some((_, value)), None) => Found::Value(text(value)),
                    (Some(_), Some(_)) => Found::Unknown("the query has the key twice"),
                }
            }
            Inner::Tags(tags) => tags
                .iter()
                .find(|(key, _)| same(key, name))
                .map_or(Found::Absent, |(_, value)| Found::Value(text(value))),
        }
    }

    /// The names of what there is, each once.
    fn names(&self) -> Vec<Cow<'q, str>> {
        match self.inner {
            Inner::Json(map, _) => map.keys().map(|key| key.as_str().into()).collect(),
            Inner::Headers(headers) => headers.keys().map(|key| key.as_str().into()).collect(),
            Inner::Query(query) => {
                let mut keys: Vec<_> = query.pairs().map(|(key, _)| key.to_ascii_lowercase()).collect();
                keys.sort();
                keys.dedup();
                keys.into_iter().map(Cow::Owned).collect()
            }
            Inner::Tags(tags) => tags.keys().map(|key| key.as_str().into()).collect(),
            Inner::Caller(_) | Inner::Resource(_) | Inner::Request(_) | Inner::Allocates(_) => Vec::new(),
        }
    }

    fn lookup(&self, key: &dyn Val) -> Result<Option<Boxed<'q>>, ExecutionError> {
        let Some(name) = key.downcast_ref::<CelString>() else {
            return Err(ExecutionError::UnexpectedType {
                got: key.get_type().name().to_owned(),
                want: "string".to_owned(),
            });
        };
        match self.find(name.inner()) {
            Found::Value(value) => Ok(Some(value)),
            Found::Absent => Ok(None),
            Found::Unknown(why) => Err(unknown(why)),
        }
    }

    fn get_at(&self, key: &dyn Val) -> Result<Boxed<'q>, ExecutionError> {
        self.lookup(key)?.ok_or_else(|| {
            let name = key.downcast_ref::<CelString>().map(|name| name.inner().to_owned());
            ExecutionError::NoSuchKey(name.unwrap_or_default().into())
        })
    }
}

/// Not to be known: an error that no presence test and no default covers up.
fn unknown(why: &str) -> ExecutionError {
    ExecutionError::FunctionError { function: String::new(), message: why.to_owned() }
}

/// The words of an error made by [`unknown`].
pub(super) fn why_unknown(error: &ExecutionError) -> Option<&str> {
    if let ExecutionError::FunctionError { function, message } = error
        && function.is_empty()
    {
        return Some(message);
    }
    None
}

/// Whether two names are one, as Azure's services compare them.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || one.to_lowercase() == other.to_lowercase()
}

fn of_caller<'q>(roots: Roots<'q>, name: &str, longest: usize) -> Found<'q> {
    let caller = roots.question.caller;
    let optional = |value: Option<&'q str>| value.map_or(Found::Absent, |value| Found::Value(text(value)));
    let list = |items: &'q [Box<str>]| {
        if items.len() > longest {
            return Found::Unknown(TOO_LONG);
        }
        Found::Value(texts(items.iter().map(AsRef::as_ref)))
    };
    let by_handle = caller.subjects_at_issue.is_some();
    match name {
        "issuer" => Found::Value(text(&caller.id.issuer)),
        "subject" => Found::Value(text(&caller.id.subject)),
        // Software with a subject of its own is an agent too: `caller.client` tells which.
        "kind" if caller.kind.is_agent() => Found::Value(text(PrincipalKind::Agent.name())),
        "kind" => Found::Value(text(caller.kind.name())),
        "groups" | "roles" | "claims" | "tenant" | "client" if by_handle => Found::Unknown(HANDLE),
        "tenant" => optional(caller.tenant.as_deref()),
        "client" => optional(caller.client.as_deref()),
        "groups" => match &caller.groups {
            Groups::Known(groups) => list(groups),
            Groups::Overage | Groups::Asked(_) => Found::Unknown(OVERAGE),
        },
        "roles" => list(&caller.roles),
        "claims" => Found::Value(Box::new(Object::new(Inner::Json(&caller.claims, Case::Exact), longest))),
        _ => Found::Absent,
    }
}

fn of_resource<'q>(roots: Roots<'q>, name: &str, longest: usize) -> Found<'q> {
    let facts = &roots.question.operation.facts;
    let fact =
        |value: &'q Option<String>| value.as_deref().map_or(Found::Absent, |value| Found::Value(text(value)));
    match name {
        "tags" => facts
            .tags
            .as_ref()
            .map_or(Found::Absent, |tags| Found::Value(Box::new(Object::new(Inner::Tags(tags), longest)))),
        "experiment" => fact(&facts.experiment),
        "container" => fact(&facts.container),
        "blob" => fact(&facts.blob),
        "id" | "type" | "name" | "workspace" => {
            let Some(resource) = &roots.act.resource else { return Found::Unknown(NO_RESOURCE) };
            match name {
                "id" => Found::Value(text(resource.as_str())),
                "type" => Found::Value(owned(resource_type(resource))),
                "name" => Found::Value(text(resource.as_str().rsplit('/').next().unwrap_or_default())),
                _ => resource.after("workspaces").map_or(Found::Absent, |name| Found::Value(text(name))),
            }
        }
        _ => Found::Absent,
    }
}

/// The type that an id spells: `Microsoft.MachineLearningServices/workspaces/jobs`; of what is in
/// no provider, `Microsoft.Resources/subscriptions/resourceGroups` and its like.
fn resource_type(id: &ResourceId) -> String {
    let segments: Vec<&str> = id.as_str().split('/').filter(|s| !s.is_empty()).collect();
    let provider = segments.iter().rposition(|s| s.eq_ignore_ascii_case("providers"));
    let (mut kind, rest) =
        match provider.and_then(|at| Some((segments.get(at + 1)?, segments.get(at + 2..)?))) {
            Some((provider, rest)) => ((*provider).to_owned(), rest),
            None => ("Microsoft.Resources".to_owned(), segments.as_slice()),
        };
    for name in rest.iter().step_by(2) {
        kind.push('/');
        kind.push_str(name);
    }
    kind
}

fn of_request<'q>(roots: Roots<'q>, name: &str, longest: usize) -> Found<'q> {
    let request = roots.question.request;
    let object = |inner| Found::Value(Box::new(Object::new(inner, longest)) as Boxed<'q>);
    match name {
        "method" => Found::Value(text(request.method.as_str())),
        "path" => Found::Value(text(request.target.path())),
        "query" => object(Inner::Query(request.target.query())),
        "headers" => object(Inner::Headers(&request.headers)),
        "body" => match &request.body {
            Some(body) => json(body.value(), Case::Ignored, longest),
            None => Found::Absent,
        },
        "source" => Found::Value(owned(request.source.ip().to_canonical().to_string())),
        _ => Found::Absent,
    }
}

fn of_allocates<'q>(roots: Roots<'q>, name: &str) -> Found<'q> {
    let operation = roots.question.operation;
    let Some(allocation) = &operation.facts.allocates else {
        let effects = operation.effects.union(operation.unclear_effects);
        if effects.contains(Effect::AllocateCompute) {
            return Found::Unknown(UNBOUNDED);
        }
        // What reserves nothing reserves no node of no size.
        return match name {
            "nodes" | "gpus" => Found::Value(integer(0)),
            "hours" => Found::Value(Box::new(CelDouble::from(0.0))),
            "skus" => Found::Value(texts(std::iter::empty())),
            _ => Found::Absent,
        };
    };
    let number = |value: Option<u64>| value.map_or(Found::Unknown(UNBOUNDED), |n| Found::Value(integer(n)));
    match name {
        "nodes" => number(allocation.nodes),
        "gpus" => number(allocation.gpus),
        "hours" => allocation
            .hours
            .map_or(Found::Unknown(UNBOUNDED), |hours| Found::Value(Box::new(CelDouble::from(hours)))),
        "skus" => allocation
            .skus
            .as_ref()
            .map_or(Found::Unknown(UNBOUNDED), |skus| Found::Value(texts(skus.iter().map(String::as_str)))),
        _ => Found::Absent,
    }
}

/// A header's lines as one (RFC 9110, 5.3).
fn header<'q>(headers: &'q HeaderMap, name: &str) -> Found<'q> {
    let mut lines = Vec::new();
    for value in headers.get_all(name) {
        match value.to_str() {
            Ok(line) => lines.push(line),
            Err(_) => return Found::Unknown("the header is no plain text"),
        }
    }
    match lines.as_slice() {
        [] => Found::Absent,
        [line] => Found::Value(text(line)),
        lines => Found::Value(owned(lines.join(", "))),
    }
}

fn json(value: &Value, case: Case, longest: usize) -> Found<'_> {
    let mut left = longest;
    convert(value, case, longest, &mut left).map_or(Found::Unknown(TOO_LONG), Found::Value)
}

/// A value of JSON; `None` if its lists hold more than `left` items.
fn convert<'q>(value: &'q Value, case: Case, longest: usize, left: &mut usize) -> Option<Boxed<'q>> {
    Some(match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Box::new(CelInt::from(number)),
            (None, Some(number)) => Box::new(CelUInt::from(number)),
            (None, None) => Box::new(CelDouble::from(number.as_f64()?)),
        },
        Value::String(value) => text(value),
        Value::Array(items) => {
            *left = left.checked_sub(items.len())?;
            let items: Option<Vec<_>> = items.iter().map(|item| convert(item, case, longest, left)).collect();
            Box::new(CelList::from(items?))
        }
        Value::Object(map) => Box::new(Object::new(Inner::Json(map, case), longest)),
    })
}

impl fmt::Debug for Object<'_> {
    /// Claims and bodies may hold secrets: nothing of them is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Object")
    }
}

impl Val for Object<'_> {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        let keys = self.keys.get_or_init(|| self.names().into_iter().map(CelString::from).collect());
        (keys.len() <= self.longest).then_some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(Self::new(self.inner, self.longest))
    }
}

impl<'q> Iterable for Object<'q> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Items<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Keys(self.keys.get().map_or(&[][..], Vec::as_slice).iter()))
    }
}

struct Keys<'b, 'q>(slice::Iter<'b, CelString<'q>>);

impl<'b, 'q: 'v, 'v> Items<'b, 'v> for Keys<'b, 'q> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|key| key as &dyn Val)
    }
}

impl Container for Object<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.lookup(key)?.is_some())
    }
}

impl<'q> Indexer for Object<'q> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(CowVal::Owned(self.get_at(key)?))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get_at(key)
    }
}

impl Sizer for Object<'_> {
    fn size(&self) -> CelInt {
        i64::try_from(self.names().len()).unwrap_or(i64::MAX).into()
    }
}
