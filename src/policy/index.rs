//! Which entries could concern a request, without looking at the others.
//!
//! Each entry stands in buckets keyed by (subject, scope, door): the door is what its selectors pin
//! down best (an exact action, a route, an effect, a class of secrets), or nothing. A request looks
//! up the few keys that it has. Whatever the index leaves out fails a selector for sure, so judging
//! the candidates is judging all entries; a property test compares the two.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::{
    Question,
    entry::{Entry, SecretsRule},
    raw::List,
    who::Membership,
};
use crate::azureml::{Effect, ResourceId, SecretClass};

/// The number of an entry within its set.
pub(super) type EntryIx = u32;

/// Numbers of a key's parts; [`ANY`] for what the entry leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    subject: u32,
    scope: u32,
    door: u32,
}

const ANY: u32 = u32::MAX;

/// Above this number of keys an entry gives up a part of them.
const MOST_KEYS: usize = 256;

/// Numbers below this belong to effects and classes of secrets.
const FIRST_NAME: u32 = 64;

#[derive(Debug, Default)]
struct ListIndex {
    buckets: HashMap<Key, Vec<EntryIx>, BuildHasherDefault<KeyHasher>>,
    all: Vec<EntryIx>,
}

/// Whether entries count that cannot be told to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// They do: in `deny`, in `require`, and where an answer names what could not be evaluated.
    Counts,
    /// They do not: in `allow`.
    Fails,
}

/// The buckets of all three lists.
#[derive(Debug, Default)]
pub(super) struct Index {
    allow: ListIndex,
    deny: ListIndex,
    require: ListIndex,
    /// Exact actions in lower case.
    actions: HashMap<Box<str>, u32>,
    routes: HashMap<Box<str>, u32>,
    /// Scopes in lower case.
    scopes: HashMap<Box<str>, u32>,
    /// At which depths there are scopes at all; depth 63 stands for all beyond.
    depths: u64,
}

impl Index {
    pub(super) fn new(entries: &[Entry]) -> Self {
        let mut index = Self::default();
        for (number, entry) in (0..).zip(entries) {
            let mut doors = index.doors(entry);
            let mut scopes = index.scope_numbers(entry);
            let subjects = entry.who.as_deref().map_or_else(|| vec![ANY], <[_]>::to_vec);
            if subjects.len() * scopes.len() * doors.len() > MOST_KEYS {
                doors = vec![ANY];
            }
            if subjects.len() * scopes.len() > MOST_KEYS {
                scopes = vec![ANY];
            }
            let list = match entry.list {
                List::Allow => &mut index.allow,
                List::Deny => &mut index.deny,
                List::Require => &mut index.require,
            };
            list.all.push(number);
            for &subject in &subjects {
                for &scope in &scopes {
                    for &door in &doors {
                        list.buckets.entry(Key { subject, scope, door }).or_default().push(number);
                    }
                }
            }
        }
        index
    }

    fn doors(&mut self, entry: &Entry) -> Vec<u32> {
        // What an entry grants of secrets is granted whatever the action is called, so its
        // actions must not hide it.
        let granted = match &entry.secrets {
            Some(SecretsRule::Granted(named)) => named.iter().map(|(class, _)| secret_door(*class)).collect(),
            Some(SecretsRule::Selected(_)) | None => Vec::new(),
        };
        let names_acts = entry.names_acts();
        if let Some(SecretsRule::Selected(classes)) = &entry.secrets {
            classes.iter().map(secret_door).collect()
        } else if !granted.is_empty() && !names_acts {
            granted
        } else if let Some(routes) = &entry.routes {
            routes.iter().map(|route| number(&mut self.routes, route)).collect()
        } else if let Some(effects) = entry.effects {
            effects.iter().map(effect_door).collect()
        } else if let Some(actions) = entry.actions.as_ref().filter(|a| a.iter().all(|a| a.is_exact())) {
            let exact = actions.iter().map(|a| a.as_str().to_ascii_lowercase());
            granted.into_iter().chain(exact.map(|a| number(&mut self.actions, &a))).collect()
        } else {
            vec![ANY]
        }
    }

    fn scope_numbers(&mut self, entry: &Entry) -> Vec<u32> {
        let Some(scopes) = &entry.scope else { return vec![ANY] };
        let mut numbers = Vec::with_capacity(scopes.len());
        for scope in scopes {
            self.depths |= 1 << depth(scope).min(63);
            numbers.push(number(&mut self.scopes, scope.folded()));
        }
        numbers
    }

    /// What a question is looked up by.
    pub(super) fn look<'i>(&'i self, question: &Question<'_>, who: &'i Membership) -> Look<'i> {
        Look {
            index: self,
            who,
            scopes: self.scopes_of(question),
            doors: self.doors_of(question),
            unplaced: question.operation.acts.iter().any(|act| act.resource.is_none()),
        }
    }

    fn scopes_of(&self, question: &Question<'_>) -> Vec<u32> {
        let mut found = vec![ANY];
        for resource in question.operation.acts.iter().filter_map(|act| act.resource.as_ref()) {
            let text = resource.folded();
            if self.depths & 1 != 0 {
                found.extend(self.scopes.get("/"));
            }
            let ends = text.match_indices('/').map(|(at, _)| at).skip(1).chain([text.len()]);
            for (depth, end) in (1_u32..).zip(ends) {
                if self.depths & (1 << depth.min(63)) != 0 {
                    found.extend(text.get(..end).and_then(|scope| self.scopes.get(scope)));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn doors_of(&self, question: &Question<'_>) -> Vec<u32> {
        let operation = question.operation;
        let mut found = vec![ANY];
        if !self.actions.is_empty() {
            found.extend(
                operation
                    .acts
                    .iter()
                    .filter_map(|act| self.actions.get(act.action.as_str().to_ascii_lowercase().as_str())),
            );
        }
        found.extend(self.routes.get(&*question.request.route));
        found.extend(operation.effects.union(operation.unclear_effects).iter().map(effect_door));
        found.extend(operation.secrets.iter().map(secret_door));
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// The keys of one question.
#[derive(Debug)]
pub(super) struct Look<'i> {
    index: &'i Index,
    who: &'i Membership,
    scopes: Vec<u32>,
    doors: Vec<u32>,
    /// Whether some act does not say its resource.
    unplaced: bool,
}

impl Look<'_> {
    /// The entries of a list that could concern the request, in their order.
    pub(super) fn candidates(&self, list: List, doubt: Doubt) -> Vec<EntryIx> {
        let index = match list {
            List::Allow => &self.index.allow,
            List::Deny => &self.index.deny,
            List::Require => &self.index.require,
        };
        if index.all.is_empty() {
            return Vec::new();
        }
        let unknown = match doubt {
            Doubt::Counts => &self.who.unknown[..],
            Doubt::Fails => &[],
        };
        let keys = (1 + self.who.sure.len() + unknown.len()) * self.scopes.len() * self.doors.len();
        // A scope cannot be compared with nothing: then scoped entries count, and all are asked.
        if (self.unplaced && doubt == Doubt::Counts) || keys > index.all.len().max(64) {
            return index.all.clone();
        }
        let mut found = Vec::new();
        for &subject in [ANY].iter().chain(&self.who.sure).chain(unknown) {
            for &scope in &self.scopes {
                for &door in &self.doors {
                    if let Some(bucket) = index.buckets.get(&Key { subject, scope, door }) {
                        found.extend(bucket);
                    }
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// The number of a name, a new one if it is new. An action and a route may share one: the bucket then
/// holds a candidate too many, which its selectors refuse.
fn number(names: &mut HashMap<Box<str>, u32>, name: &str) -> u32 {
    if let Some(known) = names.get(name) {
        return *known;
    }
    let next = FIRST_NAME + u32::try_from(names.len()).unwrap_or(0);
    names.insert(name.into(), next);
    next
}

fn effect_door(effect: Effect) -> u32 {
    effect as u32
}

fn secret_door(class: SecretClass) -> u32 {
    32 + class as u32
}

/// How many segments a scope has.
fn depth(scope: &ResourceId) -> usize {
    if scope.folded() == "/" { 0 } else { scope.folded().matches('/').count() }
}

/// Mixes three small numbers that no caller chooses; the map's own defence against chosen keys
/// would cost more than the lookup.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, part: u32) {
        self.0 = (self.0.rotate_left(23) ^ u64::from(part)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
