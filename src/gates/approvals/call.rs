//! A call as approvals know it: what a grant for it is bound to, what makes another the same call,
//! and what people are shown of it. Pure.
//!
//! Everything is a digest over parts with their lengths, so that no two calls are mistaken for each
//! other. What people see is cut and holds no query: its values may be secrets.

use std::{collections::BTreeSet, sync::Arc};

use aws_lc_rs::digest::{Context, SHA256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::people::Party;
use crate::{
    azureml::{Operation, ResourceId},
    http::legible,
    policy::{Approval, Covers, Permit},
};

/// At most so many actions, resources or sizes are shown, and how many there are besides.
const SHOWN: usize = 8;
/// The longest text that is shown, in characters.
const LONGEST: usize = 512;
/// The header by which clients number their calls.
const CLIENT_REQUEST_ID: &str = "x-ms-client-request-id";

/// Whether what the request carries is known whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKnown {
    /// There is none, or it was read.
    Whole,
    /// It streams, and nobody has read it.
    Streams,
}

/// A call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who calls.
    pub by: Party,
    /// Method, path, query and body, if the body is known.
    exact: Option<[u8; 32]>,
    /// Where it is done.
    place: String,
    /// What makes another the same call sent again, if the body is known.
    pub resend: Option<String>,
    /// Who wrote the code behind it, as far as reviews that it needs have shown: their persons, sorted.
    authors: Arc<[String]>,
    /// For people.
    pub what: What,
}

/// A call, for people to read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Call")]
pub struct What {
    /// The operation's name.
    pub operation: String,
    /// What it does, as Azure actions.
    pub actions: Vec<String>,
    /// To what.
    pub resources: Vec<String>,
    /// What it brings about.
    pub effects: Vec<String>,
    /// The classes of secrets in its answer.
    pub secrets: Vec<String>,
    /// The method.
    pub method: String,
    /// The route's name.
    pub route: String,
    /// The path.
    pub path: String,
    /// What it reserves, in words: nodes, sizes, hours.
    pub reserves: Vec<String>,
    /// SHA-256 of the body in hex; empty without one.
    pub body: String,
    /// From where it was sent.
    pub from: String,
}

/// A digest over parts, each with its length.
struct Parts(Context);

impl Parts {
    fn new(purpose: &str) -> Self {
        let mut parts = Self(Context::new(&SHA256));
        parts.put(purpose.as_bytes());
        parts
    }

    fn put(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    fn end(self) -> [u8; 32] {
        self.0.finish().as_ref().try_into().unwrap_or_default()
    }
}

/// A digest in hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

impl Call {
    /// The call that a permit is for, with the persons who wrote the code behind it, where that is known.
    #[must_use]
    pub fn of(permit: &Permit, body: BodyKnown, authors: BTreeSet<String>) -> Self {
        let authors = authors.into_iter().collect();
        let (principal, operation, request) = (permit.principal(), permit.operation(), permit.request());
        let by = Party::of(principal, principal.kind);
        let bytes = request.body.as_ref().map(|body| body.bytes());
        let exact = (body == BodyKnown::Whole).then(|| {
            let mut parts = Parts::new("amlgate call v1");
            parts.put(request.route.as_bytes());
            parts.put(request.method.as_str().as_bytes());
            parts.put(request.target.host().as_bytes());
            parts.put(request.target.path_and_query().as_bytes());
            parts.put(bytes.map_or(&b""[..], |bytes| bytes));
            parts.end()
        });
        let client_id = request.headers.get(CLIENT_REQUEST_ID).map_or(&b""[..], |id| id.as_bytes());
        let resend = exact.map(|exact| {
            let mut parts = Parts::new("amlgate resend v1");
            parts.put(principal.id.to_string().as_bytes());
            parts.put(by.agent.as_deref().unwrap_or_default().as_bytes());
            parts.put(&exact);
            parts.put(client_id);
            hex(&parts.end())
        });
        let digest = bytes.map(|bytes| hex(aws_lc_rs::digest::digest(&SHA256, bytes).as_ref()));
        Self { place: place(operation), exact, resend, what: what(permit, digest), authors, by }
    }

    /// Those who may not approve it because they wrote the code.
    fn never<'c>(&'c self, approval: &Approval) -> &'c [String] {
        if approval.never_author { &self.authors } else { &[] }
    }

    /// What a grant of an entry's for this call is bound to: who, which agent of theirs, the entry as
    /// it is, the call itself or the place where it is done, and who wrote its code, if these may not
    /// approve it. `None` if the call itself is wanted and its body was not read.
    #[must_use]
    pub fn bound(&self, approval: &Approval) -> Option<String> {
        let mut parts = Parts::new("amlgate grant v1");
        parts.put(self.by.person.as_bytes());
        parts.put(if self.by.agent.is_some() { b"agent" } else { b"self" });
        parts.put(self.by.agent.as_deref().unwrap_or_default().as_bytes());
        parts.put(approval.entry.name.as_bytes());
        parts.put(&approval.version);
        match approval.covers {
            Covers::Request => parts.put(&self.exact?),
            Covers::Entry => parts.put(self.place.as_bytes()),
        }
        for author in self.never(approval) {
            parts.put(author.as_bytes());
        }
        Some(hex(&parts.end()))
    }
}

/// Where something is done: the workspaces or registries that hold its resources, else the resources
/// themselves, in the one form that comparing needs.
fn place(operation: &Operation) -> String {
    let mut places: Vec<_> = operation.acts.iter().map(|act| act.resource.as_ref().map(holder)).collect();
    places.sort();
    places.dedup();
    let texts = places.into_iter().map(|place| place.unwrap_or_else(|| "unknown".to_owned()));
    texts.collect::<Vec<_>>().join("\n")
}

fn holder(resource: &ResourceId) -> String {
    let held = ["workspaces", "registries"].into_iter().filter_map(|holder| resource.up_to(holder));
    held.min_by_key(|held| held.len()).unwrap_or(resource.folded()).to_owned()
}

/// A text that whoever calls chose, for people who decide by it.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => legible(text),
        Some((at, _)) => format!("{}\u{2026}", legible(text.get(..at).unwrap_or_default())),
    }
}

/// The first of some texts, and how many there are besides: what is not shown is not hidden.
fn some<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<String> {
    let mut texts = texts.peekable();
    let mut shown: Vec<_> = texts.by_ref().take(SHOWN).map(cut).collect();
    if texts.peek().is_some() {
        shown.push(format!("\u{2026} and {} more", texts.count()));
    }
    shown
}

fn what(permit: &Permit, body: Option<String>) -> What {
    let (operation, request) = (permit.operation(), permit.request());
    let mut reserves = Vec::new();
    if let Some(reserved) = &operation.facts.allocates {
        reserves.extend(reserved.nodes.map(|nodes| format!("{nodes} nodes")));
        reserves.extend(reserved.gpus.map(|gpus| format!("{gpus} GPUs")));
        reserves.extend(reserved.hours.map(|hours| format!("{hours} hours")));
        reserves.extend(some(reserved.skus.iter().flatten().map(|sku| &**sku)));
    }
    let resources = operation.acts.iter().filter_map(|act| act.resource.as_ref());
    What {
        operation: cut(&operation.name),
        actions: some(operation.acts.iter().map(|act| act.action.as_str())),
        resources: some(resources.map(ResourceId::as_str)),
        effects: operation.effects.iter().map(|effect| effect.name().to_owned()).collect(),
        secrets: operation.secrets.iter().map(|class| class.name().to_owned()).collect(),
        method: request.method.to_string(),
        route: request.route.to_string(),
        path: cut(request.target.path()),
        reserves,
        body: body.unwrap_or_default(),
        from: request.source.ip().to_canonical().to_string(),
    }
}

/// What is remembered of a call that was refused for want of an approval, so that whoever made it can
/// ask for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Who called.
    pub by: Party,
    /// The entry that demands the approval.
    pub entry: Arc<str>,
    /// The entry as it was, in hex.
    pub version: String,
    /// What a grant would be bound to.
    pub bound: String,
    /// Persons who may not approve it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never: Vec<String>,
    /// For people.
    pub what: What,
    /// The policies that were in force, by their digest in hex.
    pub policies: String,
}

impl Refused {
    /// Of a call for which a grant can be bound.
    #[must_use]
    pub fn of(call: &Call, approval: &Approval, policies: &[u8; 32]) -> Option<Self> {
        Some(Self {
            by: call.by.clone(),
            entry: Arc::clone(&approval.entry.name),
            version: hex(&approval.version),
            bound: call.bound(approval)?,
            never: call.never(approval).to_vec(),
            what: call.what.clone(),
            policies: hex(policies),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_of_a_call_is_said_to_be_there() {
        let all: Vec<_> = (0..12).map(|n| format!("/subscriptions/{n}")).collect();
        let shown = some(all.iter().map(String::as_str));
        assert_eq!((shown.len(), shown[7].as_str()), (9, "/subscriptions/7"));
        assert_eq!(shown[8], "\u{2026} and 4 more");
        assert_eq!(some(all.iter().take(8).map(String::as_str)).len(), 8);
    }

    #[test]
    fn what_a_caller_chose_is_shown_to_people_without_what_deceives_them() {
        assert_eq!(cut("Standard_NC\u{202e}\u{1b}[2J\n"), "Standard_NC\u{fffd}\u{fffd}[2J\u{fffd}");
        assert_eq!(cut(&"x".repeat(LONGEST + 1)).chars().count(), LONGEST + 1, "cut, and an ellipsis");
    }
}
