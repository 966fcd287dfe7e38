//! Members of JSON objects, without the panics of an index.

use serde_json::{Map, Value};

/// What a missing member is.
static NULL: Value = Value::Null;

/// Reads and makes members.
pub trait Members {
    /// The member of that name; null if there is none, or this is no object.
    fn member(&self, name: &str) -> &Value;

    /// The member of that name to be written, made if need be; what is no object becomes one.
    fn member_mut(&mut self, name: &str) -> &mut Value;
}

impl Members for Value {
    fn member(&self, name: &str) -> &Value {
        self.get(name).unwrap_or(&NULL)
    }

    fn member_mut(&mut self, name: &str) -> &mut Value {
        if !self.is_object() {
            *self = Self::Object(Map::new());
        }
        match self {
            Self::Object(members) => members.entry(name.to_owned()).or_insert(Self::Null),
            // Not reached: it was made an object above.
            other @ (Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) | Self::Array(_)) => {
                other
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reading_what_is_not_there_is_null_and_writing_makes_it() {
        let mut value = json!({"a": 1});
        assert!(value.member("b").member("c").is_null());
        *value.member_mut("a").member_mut("c") = json!(2);
        assert_eq!(value, json!({"a": {"c": 2}}));
    }
}
