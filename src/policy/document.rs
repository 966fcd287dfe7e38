//! A policy file as a tree in which every value knows its place, and readers that collect problems.
//!
//! Typed deserialising stops at the first thing that it does not like. A policy is edited by people
//! who want all of its mistakes at once, so the file becomes a tree first (duplicate keys, alias
//! bombs and depth are refused there), and the readers go on after each problem.

use std::{fmt, sync::Arc};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::yaml::{self, Place, Problem, Spanned};

/// A value with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

impl<T> Located<T> {
    pub(super) fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }
}

/// Text with its place.
pub(super) type Text = Located<String>;

/// One value of the file.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(Text, Tree)>),
}

/// A value of the file and where it stands.
pub(super) type Tree = Located<Node>;

impl Node {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// As read: the places come from the parser's spans.
struct Read(Node);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Read)
    }
}

fn located(read: Spanned<Read>) -> Tree {
    let place = Place::of(&read);
    Located::new(read.value.0, place)
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        serde_json::Number::from_f64(value)
            .map(Node::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Read>>()? {
            items.push(located(item));
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = map.next_value::<Spanned<Read>>()?;
            let place = Place::of(&key);
            entries.push((Located::new(key.value, place), located(value)));
        }
        Ok(Node::Map(entries))
    }
}

/// Reads one document; the first error of syntax ends it.
pub(super) fn parse(file: &Arc<str>, text: &str) -> Result<Tree, Problem> {
    yaml::parse::<Spanned<Read>>(file, text).map(located)
}

/// The keys of a map, taken one by one.
pub(super) struct Fields {
    /// Where the map stands.
    pub place: Place,
    entries: Vec<(Text, Tree)>,
}

/// Reads values out of one file and collects what is wrong with them.
pub(super) struct Reader<'a> {
    /// The file's name.
    pub file: &'a Arc<str>,
    /// What was found so far.
    pub problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    /// Notes a problem.
    pub(super) fn error(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(Problem::error(self.file, place, message));
    }

    /// Notes a problem and how to mend it.
    pub(super) fn error_with(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::error(self.file, place, message).hint(hint));
    }

    fn unexpected(&mut self, tree: &Tree, what: &str, wanted: &str) {
        self.error(tree.place, format!("{what} must be {wanted}, not {}", tree.value.kind()));
    }

    /// The map's keys; a key that is neither known nor planned is a problem, as is a planned one.
    pub(super) fn fields(
        &mut self,
        tree: Tree,
        what: &str,
        known: &[&str],
        later: &[&str],
    ) -> Option<Fields> {
        self.fields_but(tree, what, known, later, |_| None)
    }

    /// Like [`Reader::fields`], with a hint of its own for some keys that are unknown here.
    pub(super) fn fields_but(
        &mut self,
        tree: Tree,
        what: &str,
        known: &[&str],
        later: &[&str],
        hint_for: impl Fn(&str) -> Option<&'static str>,
    ) -> Option<Fields> {
        let place = tree.place;
        let Node::Map(entries) = tree.value else {
            self.unexpected(&tree, what, "a map");
            return None;
        };
        let mut kept = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if known.contains(&&*key.value) {
                kept.push((key, value));
            } else if later.contains(&&*key.value) {
                self.error(key.place, format!("`{}` is not in this version", key.value));
            } else if let Some(hint) = hint_for(&key.value) {
                self.error_with(key.place, format!("{what} has no `{}`", key.value), hint);
            } else {
                let hint = near(&key.value, known.iter().copied())
                    .unwrap_or_else(|| format!("{what} knows {}", listed(known.iter().copied())));
                self.error_with(key.place, format!("unknown key `{}`", key.value), hint);
            }
        }
        Some(Fields { place, entries: kept })
    }

    /// The map's keys, whatever they are called.
    pub(super) fn any_fields(&mut self, tree: Tree, what: &str) -> Vec<(Text, Tree)> {
        match tree.value {
            Node::Map(entries) => entries,
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) | Node::List(_) => {
                self.unexpected(&tree, what, "a map");
                Vec::new()
            }
        }
    }

    /// The list's items.
    pub(super) fn list(&mut self, tree: Tree, what: &str) -> Vec<Tree> {
        match tree.value {
            Node::List(items) => items,
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) | Node::Map(_) => {
                self.unexpected(&tree, what, "a list");
                Vec::new()
            }
        }
    }

    /// Text that is not empty.
    pub(super) fn text(&mut self, tree: Tree, what: &str) -> Option<Text> {
        match tree.value {
            // What `amlgate init` could not know; it must not become a name that somebody has.
            Node::Text(text) if text.contains("UNSET") => {
                self.error_with(tree.place, format!("{what} is `{text}`"), "write what `UNSET` stands for");
                None
            }
            Node::Text(text) if !text.trim().is_empty() => Some(Located::new(text, tree.place)),
            Node::Text(_) => {
                self.error(tree.place, format!("{what} is empty"));
                None
            }
            Node::Number(_) | Node::Bool(_) => {
                let message = format!("{what} must be text, not {}", tree.value.kind());
                self.error_with(tree.place, message, "put it in quotes");
                None
            }
            Node::Null | Node::List(_) | Node::Map(_) => {
                self.unexpected(&tree, what, "text");
                None
            }
        }
    }

    /// A text, or a list of texts; never empty, or it would match nothing.
    pub(super) fn texts(&mut self, tree: Tree, what: &str) -> Vec<Text> {
        let place = tree.place;
        let Node::List(items) = tree.value else { return self.text(tree, what).into_iter().collect() };
        if items.is_empty() {
            self.error_with(
                place,
                format!("{what} is an empty list"),
                "an empty list matches nothing: leave the key out, or name something",
            );
        }
        items.into_iter().filter_map(|item| self.text(item, what)).collect()
    }

    /// A whole number of at least 1.
    pub(super) fn count(&mut self, tree: Tree, what: &str) -> Option<u32> {
        let number = match &tree.value {
            Node::Number(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
            Node::Null | Node::Bool(_) | Node::Text(_) | Node::List(_) | Node::Map(_) => None,
        };
        if number.is_none() {
            self.error(tree.place, format!("{what} must be a whole number from 1 to {}", u32::MAX));
        }
        number
    }
}

impl Fields {
    /// Takes the value of a key.
    pub(super) fn take(&mut self, key: &str) -> Option<Tree> {
        let at = self.entries.iter().position(|(known, _)| known.value == key)?;
        Some(self.entries.swap_remove(at).1)
    }

    /// Where a key stands.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        self.entries.iter().find(|(known, _)| known.value == key).map(|(known, _)| known.place)
    }

    /// The first key, as written.
    pub(super) fn first(&self) -> Option<&Text> {
        self.entries.first().map(|(key, _)| key)
    }
}

/// `did you mean` for a name that is close to a known one.
pub(super) fn near<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    let folded = name.to_lowercase();
    let (distance, best) = known
        .map(|candidate| (strsim::damerau_levenshtein(&folded, &candidate.to_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(name.len() / 4)).then(|| format!("did you mean `{best}`?"))
}

/// Names in backticks, separated by commas.
pub(super) fn listed<'k>(names: impl Iterator<Item = &'k str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        parse(&"p.yaml".into(), text).unwrap()
    }

    #[test]
    fn every_value_and_key_knows_its_line_and_column() {
        let Node::Map(entries) = tree("a: 1\nb:\n  - x\n  - c: true\n").value else { panic!() };
        let places: Vec<_> = entries
            .iter()
            .map(|(k, v)| (k.place.line, k.place.column, v.place.line, v.place.column))
            .collect();
        assert_eq!(places, [(1, 1, 1, 4), (2, 1, 3, 3)]);
        let Node::List(items) = &entries[1].1.value else { panic!() };
        assert_eq!((items[0].place.line, items[0].place.column), (3, 5));
    }

    #[test]
    fn text_numbers_and_booleans_are_what_they_look_like() {
        let Node::Map(entries) = tree("a: \"42\"\nb: 42\nc: no\nd: true\ne:\nf: 0042\n").value else {
            panic!()
        };
        let kinds: Vec<_> = entries.iter().map(|(_, v)| v.value.kind()).collect();
        assert_eq!(kinds, ["text", "a number", "text", "a boolean", "nothing", "text"]);
    }

    #[test]
    fn a_duplicate_key_is_refused_at_the_second() {
        let said = parse(&"p.yaml".into(), "a:\n  branch: main\n  branch: evil\n").unwrap_err().to_string();
        assert!(said.starts_with("p.yaml:3:3: "), "{said}");
    }

    #[test]
    fn a_near_name_is_offered() {
        assert_eq!(
            near("AzurML Data Scientist", ["AzureML Data Scientist", "Reader"].into_iter()).unwrap(),
            "did you mean `AzureML Data Scientist`?"
        );
        assert_eq!(near("zzz", ["Reader"].into_iter()), None);
    }
}
