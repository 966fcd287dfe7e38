//! The catalogue: which method and path is which operation. One table (`catalogue.tsv`), compiled
//! once into a tree over path segments, so that a look-up costs the length of the path and not the
//! length of the table. Literals win over `{}`; case does not count.

use std::{
    cmp::Ordering,
    sync::{Arc, OnceLock},
};

use http::Method;

use super::{Action, Effect, Effects, Kind, SecretClass, Secrets};

const TABLE: &str = include_str!("catalogue.tsv");
const RESOURCE_GROUP: &str =
    "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.MachineLearningServices";

/// Whose paths they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    /// Azure Resource Manager.
    Arm,
    /// The regional data plane.
    Data,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub plane: Plane,
    pub method: Method,
    pub name: Arc<str>,
    pub action: Action,
    pub kind: Kind,
    pub effects: Effects,
    pub secrets: Secrets,
    pub long_running: bool,
    /// Whether the body may add to the meaning.
    pub body: bool,
}

#[derive(Debug, Default)]
struct Node {
    /// Sorted by length, then without case.
    literals: Vec<(&'static str, Node)>,
    /// `{}`.
    any: Option<Box<Node>>,
    /// `{}:query`: one segment with a fixed end.
    ends: Vec<(&'static str, Node)>,
    /// `name={}`: one segment with a fixed beginning.
    begins: Vec<(&'static str, Node)>,
    rows: Vec<Row>,
}

/// The compiled table.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    arm: Node,
    data: Node,
}

impl Catalogue {
    /// The one catalogue of the process.
    pub fn get() -> &'static Self {
        static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
        CATALOGUE.get_or_init(|| {
            let mut catalogue = Self::default();
            for line in TABLE.lines().filter(|l| !l.starts_with('#')) {
                // A row that cannot be read is left out, and then denied; the tests read every row.
                if let Some((path, row)) = read(line) {
                    catalogue.insert(&path, row);
                }
            }
            catalogue
        })
    }

    fn insert(&mut self, path: &[&'static str], row: Row) {
        let mut node = match row.plane {
            Plane::Arm => &mut self.arm,
            Plane::Data => &mut self.data,
        };
        for segment in path {
            node = match segment.split_once("{}") {
                Some(("", "")) => node.any.get_or_insert_default(),
                Some(("", end)) => within(&mut node.ends, end),
                Some((start, _)) => within(&mut node.begins, start),
                None => within(&mut node.literals, segment),
            };
        }
        node.rows.push(row);
    }

    /// The rights of all rows of Azure Resource Manager, each once, in order.
    pub fn arm_actions(&self) -> Vec<&Action> {
        let mut found = Vec::new();
        self.arm.visit(&mut |row| found.push(&row.action));
        found.sort_unstable_by_key(|action| action.as_str());
        found.dedup();
        found
    }

    /// The rights of all rows, in no order.
    pub fn actions(&self) -> Vec<&Action> {
        let mut found = Vec::new();
        self.arm.visit(&mut |row| found.push(&row.action));
        self.data.visit(&mut |row| found.push(&row.action));
        found
    }

    /// All rows whose right is `action`: the requests that do it.
    pub fn of_action<'c>(&'c self, action: &Action) -> Vec<&'c Row> {
        let mut found = Vec::new();
        self.arm.visit(&mut |row| found.extend((row.action == *action).then_some(row)));
        self.data.visit(&mut |row| found.extend((row.action == *action).then_some(row)));
        found
    }

    /// The operation of a method and decoded path segments.
    pub fn find(&self, plane: Plane, method: &Method, segments: &[Box<str>]) -> Option<&Row> {
        let node = match plane {
            Plane::Arm => &self.arm,
            Plane::Data => &self.data,
        };
        node.find(method, segments)
    }
}

/// The child of that name, made in its sorted place if need be.
fn within<'n>(children: &'n mut Vec<(&'static str, Node)>, name: &'static str) -> &'n mut Node {
    let at = match children.binary_search_by(|(n, _)| folded(n, name)) {
        Ok(at) => at,
        Err(at) => {
            children.insert(at, (name, Node::default()));
            at
        }
    };
    #[allow(clippy::indexing_slicing, reason = "the place was just found or made")]
    &mut children[at].1
}

impl Node {
    fn visit<'n>(&'n self, see: &mut impl FnMut(&'n Row)) {
        self.rows.iter().for_each(&mut *see);
        let children = [&self.literals, &self.ends, &self.begins].into_iter().flatten().map(|(_, node)| node);
        for node in children.chain(self.any.as_deref()) {
            node.visit(see);
        }
    }

    fn find(&self, method: &Method, segments: &[Box<str>]) -> Option<&Row> {
        let Some((first, rest)) = segments.split_first() else {
            return self.rows.iter().find(|r| r.method == *method);
        };
        if let Ok(at) = self.literals.binary_search_by(|(n, _)| folded(n, first))
            && let Some(row) = self.literals.get(at).and_then(|(_, n)| n.find(method, rest))
        {
            return Some(row);
        }
        for (end, node) in &self.ends {
            let name = first.len().checked_sub(end.len()).and_then(|at| first.split_at_checked(at));
            if name.is_some_and(|(name, tail)| {
                !name.is_empty() && !name.contains(':') && tail.eq_ignore_ascii_case(end)
            }) && let Some(row) = node.find(method, rest)
            {
                return Some(row);
            }
        }
        for (start, node) in &self.begins {
            let value = first.split_at_checked(start.len());
            if value.is_some_and(|(head, value)| head.eq_ignore_ascii_case(start) && !value.is_empty())
                && let Some(row) = node.find(method, rest)
            {
                return Some(row);
            }
        }
        // A name never holds what separates a verb: `runs:frobnicate` is not a run.
        match &self.any {
            Some(any) if !first.contains(':') => any.find(method, rest),
            Some(_) | None => None,
        }
    }
}

/// Compares by length, which mostly decides it, and then without ASCII case.
fn folded(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| {
        a.bytes().map(|b| b.to_ascii_lowercase()).cmp(b.bytes().map(|b| b.to_ascii_lowercase()))
    })
}

fn read(line: &'static str) -> Option<(Vec<&'static str>, Row)> {
    let mut columns = line.split('\t');
    let mut next = || columns.next();
    let plane = match next()? {
        "arm" => Plane::Arm,
        "data" => Plane::Data,
        _ => return None,
    };
    let method = next()?.parse().ok()?;
    let path = next()?;
    let name = next()?.into();
    let action = Action::new(next()?);
    let kind = match next()? {
        "read" => Kind::Read,
        "write" => Kind::Write,
        "delete" => Kind::Delete,
        "action" => Kind::Action,
        _ => return None,
    };
    let list = |text: &'static str| text.split(',').filter(|w| *w != "-");
    let effects = list(next()?)
        .map(|w| Effect::ALL.iter().copied().find(|e| e.name() == w))
        .collect::<Option<Effects>>()?;
    let secrets = list(next()?)
        .map(|w| SecretClass::ALL.iter().copied().find(|s| s.name() == w))
        .collect::<Option<Secrets>>()?;
    let flags = next()?;
    let (before, group) =
        path.split_once("@ml").map_or((path, None), |(before, behind)| (before, Some(behind)));
    let segments = |p: &'static str| p.split('/').filter(|s| !s.is_empty());
    let path = match group {
        None => segments(before).collect(),
        Some(behind) => segments(before).chain(segments(RESOURCE_GROUP)).chain(segments(behind)).collect(),
    };
    let has = |flag: &str| flags.split(',').any(|f| f == flag);
    Some((
        path,
        Row {
            plane,
            method,
            name,
            action,
            kind,
            effects,
            secrets,
            long_running: has("lro"),
            body: has("body"),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_read() {
        for line in TABLE.lines().filter(|l| !l.starts_with('#')) {
            assert!(read(line).is_some(), "{line}");
        }
    }
}
