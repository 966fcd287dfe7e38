//! What a condition may read: the roots, their members, and paths into them.

use std::fmt;

use super::types::{Element, Type};

/// A name that a condition begins a path with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Root {
    Caller,
    Action,
    Resource,
    Route,
    Request,
    Allocates,
    Now,
}

/// How texts below a member compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    /// Letter by letter.
    Exact,
    /// Without case, because Azure does so: `vision` and `Vision` are one workspace, and a body's
    /// `maxNodeCount` is read as `MaxNodeCount` too.
    Ignored,
}

/// Whether a member has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Always,
    Optional,
}

/// A member of a root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub name: &'static str,
    pub kind: Type,
    pub case: Case,
    pub presence: Presence,
}

const fn member(name: &'static str, kind: Type, case: Case, presence: Presence) -> Member {
    Member { name, kind, case, presence }
}

use Case::{Exact, Ignored};
use Presence::{Always, Optional};

const TEXTS: Type = Type::List(Element::Text);

const CALLER: &[Member] = &[
    member("issuer", Type::Text, Exact, Always),
    member("subject", Type::Text, Exact, Always),
    member("kind", Type::Text, Exact, Always),
    member("tenant", Type::Text, Exact, Optional),
    member("client", Type::Text, Exact, Optional),
    member("groups", TEXTS, Exact, Always),
    member("roles", TEXTS, Exact, Always),
    member("claims", Type::Object, Exact, Always),
];

const RESOURCE: &[Member] = &[
    member("id", Type::Text, Ignored, Always),
    member("type", Type::Text, Ignored, Always),
    member("name", Type::Text, Ignored, Always),
    member("workspace", Type::Text, Ignored, Optional),
    member("tags", Type::Object, Ignored, Optional),
    member("experiment", Type::Text, Ignored, Optional),
    member("container", Type::Text, Exact, Optional),
    member("blob", Type::Text, Exact, Optional),
];

const REQUEST: &[Member] = &[
    member("method", Type::Text, Exact, Always),
    member("path", Type::Text, Ignored, Always),
    member("query", Type::Object, Exact, Always),
    member("headers", Type::Object, Exact, Always),
    member("body", Type::Any, Ignored, Optional),
    member("source", Type::Text, Exact, Always),
];

const ALLOCATES: &[Member] = &[
    member("nodes", Type::Int, Exact, Always),
    member("skus", TEXTS, Ignored, Always),
    member("gpus", Type::Int, Exact, Always),
    member("hours", Type::Double, Exact, Always),
];

impl Root {
    pub(super) const ALL: [Self; 7] =
        [Self::Caller, Self::Action, Self::Resource, Self::Route, Self::Request, Self::Allocates, Self::Now];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Action => "action",
            Self::Resource => "resource",
            Self::Route => "route",
            Self::Request => "request",
            Self::Allocates => "allocates",
            Self::Now => "now",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|root| root.name() == name)
    }

    /// Its members; none for a root that is a value itself.
    pub(super) const fn members(self) -> &'static [Member] {
        match self {
            Self::Caller => CALLER,
            Self::Resource => RESOURCE,
            Self::Request => REQUEST,
            Self::Allocates => ALLOCATES,
            Self::Action | Self::Route | Self::Now => &[],
        }
    }

    pub(super) fn member(self, name: &str) -> Option<&'static Member> {
        self.members().iter().find(|member| member.name == name)
    }

    /// The type and case of a root that is a value itself.
    pub(super) const fn value(self) -> Option<(Type, Case)> {
        match self {
            Self::Action => Some((Type::Text, Ignored)),
            Self::Route => Some((Type::Text, Exact)),
            Self::Now => Some((Type::Timestamp, Exact)),
            Self::Caller | Self::Resource | Self::Request | Self::Allocates => None,
        }
    }
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    Key(Box<str>),
    Index(i64),
}

/// Where a value that a condition reads is found: `request.body.properties.computeType`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    pub(super) root: Root,
    pub(super) steps: Vec<Step>,
}

impl Path {
    pub(super) const fn of(root: Root) -> Self {
        Self { root, steps: Vec::new() }
    }

    pub(super) fn then(&self, step: Step) -> Self {
        let mut steps = self.steps.clone();
        steps.push(step);
        Self { root: self.root, steps }
    }

    /// The paths that lead to it, the shortest first, itself last.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = Self> + '_ {
        let ends = 1..=self.steps.len();
        ends.filter_map(|end| Some(Self { root: self.root, steps: self.steps.get(..end)?.to_vec() }))
    }

    /// Whether its last step is a member of this name.
    pub(super) fn ends_with(&self, name: &str) -> bool {
        matches!(self.steps.last(), Some(Step::Key(key)) if **key == *name)
    }

    /// The member of the root that it leads through.
    pub(super) fn member(&self) -> Option<&'static Member> {
        match self.steps.first()? {
            Step::Key(name) => self.root.member(name),
            Step::Index(_) => None,
        }
    }

    /// Whether the record of a request holds it, where the request `reserves` compute and all VM
    /// sizes are known (`skus`). What holds secrets or is long is not recorded.
    pub(super) fn is_recorded(&self, reserves: bool, skus: bool) -> bool {
        let member = self.member().map(|member| member.name);
        match self.root {
            Root::Action | Root::Route | Root::Now => true,
            Root::Caller => member.is_some_and(|name| name != "claims"),
            Root::Resource => member.is_some_and(|name| ["id", "type", "name", "workspace"].contains(&name)),
            Root::Request => member.is_some_and(|name| ["method", "path", "source"].contains(&name)),
            // Hours are recorded in whole minutes.
            Root::Allocates => match member {
                Some("nodes" | "gpus") => true,
                Some("skus") => skus || !reserves,
                Some(_) | None => !reserves,
            },
        }
    }

    /// Whether a request may lack what its last step leads to, though it has what is before it.
    pub(super) fn is_optional(&self) -> bool {
        match self.steps.as_slice() {
            [] => false,
            [_] => self.member().is_some_and(|member| member.presence == Optional),
            [_, _, ..] => true,
        }
    }

    /// The type of what it leads to, as far as the members tell it.
    pub(super) fn kind(&self) -> (Type, Case) {
        let Some(member) = self.member() else {
            return self.root.value().unwrap_or((Type::Object, Exact));
        };
        let kind = match (self.steps.len(), member.kind) {
            (1, kind) => kind,
            (2, Type::List(Element::Text)) => Type::Text,
            (2, Type::Object) if matches!(member.name, "tags" | "query" | "headers") => Type::Text,
            _ => Type::Any,
        };
        (kind, member.case)
    }

    pub(super) fn reads_body(&self) -> bool {
        self.root == Root::Request && self.member().is_some_and(|member| member.name == "body")
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root.name())?;
        for step in &self.steps {
            match step {
                Step::Key(key) if is_name(key) => write!(f, ".{key}")?,
                Step::Key(key) => write!(f, "['{}']", key.escape_debug())?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

fn is_name(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The type of what a loop over a value sees: a list's items, an object's keys.
pub(super) const fn item(kind: Type) -> Type {
    match kind {
        Type::List(Element::Text) | Type::Object => Type::Text,
        Type::List(Element::Any) | Type::Any => Type::Any,
        Type::Bool
        | Type::Int
        | Type::Uint
        | Type::Double
        | Type::Text
        | Type::Bytes
        | Type::Null
        | Type::Timestamp
        | Type::Duration
        | Type::Optional => Type::Any,
    }
}

/// Whether a value of this type can be gone through.
pub(super) const fn iterable(kind: Type) -> bool {
    matches!(kind, Type::List(_) | Type::Object | Type::Any)
}
