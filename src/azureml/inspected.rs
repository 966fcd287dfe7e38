//! A body that was read whole because its meaning matters, and that is forwarded as it was judged.

use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The deepest nesting of a judged body.
const MAX_DEPTH: u8 = 64;

/// A JSON body with one reading only, and the bytes that are forwarded: serialised from it.
#[derive(Clone)]
pub struct Inspected {
    value: Value,
    bytes: Bytes,
}

/// Why a body cannot be inspected, in words for the caller, with the status that says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyRefusal {
    /// 413.
    #[error("the body is larger than the {limit} bytes that a judged body may have")]
    TooLarge {
        /// `limits.inspected_body`.
        limit: usize,
    },
    /// 415.
    #[error("{0}")]
    Unreadable(String),
    /// 400.
    #[error("{0}")]
    Ambiguous(String),
    /// 408.
    #[error("nothing more came of the body for {} s", .limit.as_secs())]
    Slow {
        /// `timeouts.idle`.
        limit: std::time::Duration,
    },
}

impl Inspected {
    /// Parses a body that admits one reading: UTF-8, one JSON document, no duplicate member (also
    /// none that differs only in case, because Azure's services compare without it), depth at most
    /// 64, no number that a double or a 64-bit integer cannot hold.
    ///
    /// # Errors
    /// [`BodyRefusal::Ambiguous`] otherwise.
    pub fn parse(body: &[u8]) -> Result<Self, BodyRefusal> {
        let refused =
            |error: serde_json::Error| BodyRefusal::Ambiguous(format!("the body cannot be judged: {error}"));
        let text = std::str::from_utf8(body)
            .map_err(|_| BodyRefusal::Ambiguous("the body cannot be judged: it is not UTF-8".to_owned()))?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let value = OneReading { depth: 0 }.deserialize(&mut deserializer).map_err(refused)?;
        deserializer.end().map_err(refused)?;
        let bytes = serde_json::to_vec(&value).map_err(refused)?;
        Ok(Self { value, bytes: bytes.into() })
    }

    /// The document.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// What is forwarded.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl fmt::Debug for Inspected {
    /// A body may hold secrets: only its size is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inspected({} bytes)", self.bytes.len())
    }
}

/// Builds a value and refuses what could be read in two ways.
#[derive(Clone, Copy)]
struct OneReading {
    depth: u8,
}

impl OneReading {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format!("it is nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for OneReading {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneReading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("it has a number without bound"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        let mut folded = std::collections::BTreeSet::new();
        while let Some(key) = members.next_key::<String>()? {
            if !folded.insert(key.to_lowercase()) {
                let key: String = key.chars().take(64).collect();
                return Err(de::Error::custom(format!(
                    "it has the member `{key}` twice (case does not count)"
                )));
            }
            let value = members.next_value_seed(inner)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_with_two_readings_is_refused() {
        for body in [
            r#"{"a":1,"a":2}"#,
            r#"{"nodeCount":1,"NODECOUNT":9}"#,
            r#"{"a":{"b":1,"\u0062":2}}"#,
            "\u{feff}{}",
            "{} {}",
            "{}x",
            "// c\n{}",
            "{'a':1}",
            r#"{"a":NaN}"#,
            r#"{"a":1e999}"#,
            r#"{"a":"\ud800"}"#,
            "{\"a\":\"\u{1}\"}",
            "",
        ] {
            assert!(matches!(Inspected::parse(body.as_bytes()), Err(BodyRefusal::Ambiguous(_))), "{body}");
        }
        assert!(Inspected::parse(&[b'"', 0xff, b'"']).is_err());
        assert!(Inspected::parse("[".repeat(65).as_bytes()).is_err());
        assert!(Inspected::parse(format!("{}1{}", "[".repeat(64), "]".repeat(64)).as_bytes()).is_ok());
        assert!(Inspected::parse(format!("{}1{}", "[".repeat(65), "]".repeat(65)).as_bytes()).is_err());
    }

    #[test]
    fn what_is_forwarded_is_what_was_judged() {
        let body =
            Inspected::parse(br#" { "b" : 1.0 , "a" : [ true , null ] , "n": 18446744073709551615 } "#)
                .unwrap();
        assert_eq!(&body.bytes()[..], br#"{"a":[true,null],"b":1.0,"n":18446744073709551615}"#);
    }

    #[test]
    fn nothing_of_a_body_is_printed() {
        assert_eq!(format!("{:?}", Inspected::parse(br#"{"key":"s3cret"}"#).unwrap()), "Inspected(16 bytes)");
    }

    proptest! {
        #[test]
        fn reading_what_is_forwarded_changes_nothing(text in r#"[\[\]{}",:a-c0-9. ]{0,40}"#) {
            if let Ok(body) = Inspected::parse(text.as_bytes()) {
                let again = Inspected::parse(body.bytes()).unwrap();
                prop_assert_eq!(again.value(), body.value());
                prop_assert_eq!(again.bytes(), body.bytes());
            }
        }
    }
}
