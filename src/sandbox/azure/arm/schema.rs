//! What a body must be before Azure takes it: the models of the official SDK.
//!
//! `models.tsv` is written from the pinned SDK by `tests/interop/sdk/models.py`, and the interop
//! suite fails when the two differ. Members that no row names are taken as they come, as the service
//! does with what it does not know; enumerations are compared without case.

use std::{collections::HashMap, sync::LazyLock};

use serde_json::Value;

use crate::sandbox::azure::call::Refusal;

static MODELS: LazyLock<Models> = LazyLock::new(|| Models::read(include_str!("models.tsv")));

#[derive(Debug, PartialEq, Eq)]
enum Shape {
    Any,
    Text,
    Number,
    Truth,
    Model(&'static str),
    List(Box<Self>),
    Map(Box<Self>),
    OneOf(Vec<&'static str>),
}

impl Shape {
    fn read(word: &'static str) -> Option<Self> {
        let (head, rest) = word.split_once(':').unwrap_or((word, ""));
        Some(match head {
            "any" => Self::Any,
            "text" => Self::Text,
            "number" => Self::Number,
            "truth" => Self::Truth,
            "model" => Self::Model(rest),
            "list" => Self::List(Box::new(Self::read(rest)?)),
            "map" => Self::Map(Box::new(Self::read(rest)?)),
            "one_of" => Self::OneOf(rest.split('|').collect()),
            _ => return None,
        })
    }

    fn wanted(&self) -> String {
        match self {
            Self::Any => "anything".to_owned(),
            Self::Text => "a string".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Truth => "a boolean".to_owned(),
            Self::Model(_) | Self::Map(_) => "an object".to_owned(),
            Self::List(_) => "an array".to_owned(),
            Self::OneOf(values) => format!("one of {}", values.join(", ")),
        }
    }
}

#[derive(Debug)]
struct Field {
    name: &'static str,
    required: bool,
    shape: Shape,
}

#[derive(Debug, Default)]
struct Model {
    fields: Vec<Field>,
    /// The member that says which variant it is, and the variants.
    discriminator: Option<&'static str>,
    variants: Vec<(&'static str, &'static str)>,
}

#[derive(Debug, Default)]
struct Models {
    models: HashMap<&'static str, Model>,
    /// Resource type to the model of its bodies.
    roots: HashMap<&'static str, &'static str>,
    /// Rows that say nothing known; a test asserts that there are none.
    unread: Vec<&'static str>,
}

impl Models {
    fn read(text: &'static str) -> Self {
        let mut read = Self::default();
        for line in text.lines() {
            if read.row(line).is_none() {
                read.unread.push(line);
            }
        }
        read
    }

    fn row(&mut self, line: &'static str) -> Option<()> {
        let mut columns = line.split('\t');
        let (model, name, need, shape) =
            (columns.next()?, columns.next()?, columns.next()?, Shape::read(columns.next()?)?);
        match (need, shape) {
            ("is", Shape::Model(root)) => {
                self.roots.insert(model, root);
            }
            ("must" | "may", shape) => {
                let field = Field { name, required: need == "must", shape };
                self.models.entry(model).or_default().fields.push(field);
            }
            (need, Shape::Model(variant)) => {
                let model = self.models.entry(model).or_default();
                model.discriminator = Some(name);
                model.variants.push((need.strip_prefix("is ")?, variant));
            }
            _ => return None,
        }
        Some(())
    }

    fn judge(&self, path: &str, shape: &Shape, value: &Value) -> Result<(), Refusal> {
        let fits = match shape {
            Shape::Any => true,
            // The service turns scalars into strings; the official SDK counts on it for `hash_version`.
            Shape::Text => value.is_string() || value.is_number() || value.is_boolean(),
            Shape::Number => value.is_number(),
            Shape::Truth => value.is_boolean(),
            Shape::OneOf(values) => {
                value.as_str().is_some_and(|v| values.iter().any(|w| w.eq_ignore_ascii_case(v)))
            }
            Shape::List(item) => match value.as_array() {
                None => false,
                Some(items) => {
                    let mut items = items.iter().filter(|i| !i.is_null());
                    return items.try_for_each(|i| self.judge(&format!("{path}[]"), item, i));
                }
            },
            Shape::Map(member) => match value.as_object() {
                None => false,
                Some(members) => {
                    let mut members = members.iter().filter(|(_, m)| !m.is_null());
                    return members.try_for_each(|(n, m)| self.judge(&format!("{path}.{n}"), member, m));
                }
            },
            Shape::Model(model) => match value.as_object() {
                None => false,
                Some(_) => return self.model(path, model, value),
            },
        };
        if fits {
            return Ok(());
        }
        Err(Refusal::bad_request(&format!(
            "The request is invalid: error converting value {value} of {path}, expected {}.",
            shape.wanted()
        )))
    }

    fn model(&self, path: &str, name: &str, value: &Value) -> Result<(), Refusal> {
        let Some(model) = self.models.get(name) else { return Ok(()) };
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for field in &model.fields {
            match value.get(field.name).filter(|v| !v.is_null()) {
                Some(found) => self.judge(&below(field.name), &field.shape, found)?,
                None if field.required => {
                    return Err(Refusal::bad_request(&format!(
                        "The request is invalid: the {} field is required.",
                        below(field.name)
                    )));
                }
                None => {}
            }
        }
        let Some(discriminator) = model.discriminator else { return Ok(()) };
        // A discriminator that may be missing has a default that is not in the table.
        let Some(chosen) = value.get(discriminator).and_then(Value::as_str) else { return Ok(()) };
        match model.variants.iter().find(|(value, _)| value.eq_ignore_ascii_case(chosen)) {
            Some((_, variant)) => self.model(path, variant, value),
            None => {
                let known: Vec<&str> = model.variants.iter().map(|(value, _)| *value).collect();
                Err(Refusal::bad_request(&format!(
                    "The request is invalid: error converting value \"{chosen}\" of {}, expected one of {}.",
                    below(discriminator),
                    known.join(", ")
                )))
            }
        }
    }
}

/// Judges the body of a `PUT` of this type.
///
/// # Errors
/// 400 with the member and what is wrong with it.
pub fn check(kind: &str, body: &Value) -> Result<(), Refusal> {
    match MODELS.roots.get(kind) {
        Some(model) => MODELS.judge("", &Shape::Model(model), body),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_row_is_read_and_every_named_model_is_there() {
        assert_eq!(MODELS.unread, Vec::<&str>::new());
        assert!(MODELS.models.len() > 100);
        for (kind, model) in &MODELS.roots {
            assert!(MODELS.models.contains_key(model), "{kind}: {model}");
        }
    }

    fn message(kind: &str, body: Value) -> String {
        check(kind, &body).err().map(|r| r.message).unwrap_or_default()
    }

    #[test]
    fn a_job_is_judged_as_what_its_type_says() {
        let job = json!({"properties": {"jobType": "command", "command": "x", "environmentId": "y"}});
        assert_eq!(message("workspaces/jobs", job.clone()), "");
        let mut wrong = job.clone();
        wrong["properties"]["environmentId"] = Value::Null;
        assert!(message("workspaces/jobs", wrong).contains("properties.environmentId field is required"));
        let mut wrong = job.clone();
        wrong["properties"]["resources"] = json!({"instanceCount": "four"});
        assert!(
            message("workspaces/jobs", wrong)
                .contains("properties.resources.instanceCount, expected a number")
        );
        let mut wrong = job.clone();
        wrong["properties"]["outputs"] = json!({"model": {"jobOutputType": "nonsense"}});
        assert!(message("workspaces/jobs", wrong).contains("properties.outputs.model.jobOutputType"));
        let mut wrong = job;
        wrong["properties"]["jobType"] = json!("Mining");
        assert!(message("workspaces/jobs", wrong).contains("expected one of AutoML, Command"));
    }
}
