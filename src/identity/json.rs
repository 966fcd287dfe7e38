//! JSON objects that admit one reading: no duplicate members, bounded depth, UTF-8, nothing after.
//!
//! serde_json keeps the last of several members with the same name, others the first; a token that
//! two programs read differently is refused here instead. Numbers beyond a 64-bit float, lone
//! surrogates, byte order marks and trailing text are refused by serde_json itself.

use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads one object, nested at most `depth` deep (the object itself is 1).
///
/// # Errors
/// Words that say what is wrong and where; they hold no value of the document, only a member's name.
pub(crate) fn object(bytes: &[u8], depth: u8) -> Result<Map<String, Value>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth }.deserialize(&mut reader)?;
    reader.end()?;
    match value {
        Value::Object(map) => Ok(map),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(de::Error::custom("not an object"))
        }
    }
}

/// Reads a value with `depth` levels left.
#[derive(Clone, Copy)]
struct Strict {
    depth: u8,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth }),
            None => Err(E::custom("nested too deep")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
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
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                let shown: String = name.chars().take(64).collect();
                return Err(de::Error::custom(format_args!("duplicate member `{shown}`")));
            }
            let value = members.next_value_seed(inner)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for (text, why) in [
            (r#"{"a":1,"a":2}"#, "duplicate member `a`"),
            (r#"{"a":{"b":1,"b":1}}"#, "duplicate member `b`"),
            (r#"{"a":1,"\u0061":2}"#, "duplicate member `a`"),
            (r#"{"a":[[[1]]]}"#, "nested too deep"),
            (r#"{"a":1}x"#, "trailing"),
            (r#"{"a":1}{"a":1}"#, "trailing"),
            (r#"{"a":1e400}"#, "number out of range"),
            (r#"{"a":NaN}"#, "expected"),
            (r#"{"a":"\ud800"}"#, "hex escape"),
            (r#"{"a":"\udc00x"}"#, "surrogate"),
            ("\u{feff}{}", "expected"),
            ("[1]", "not an object"),
            (r#""a""#, "not an object"),
            (r#"{"a":1,}"#, "trailing comma"),
            ("{'a':1}", "key must be a string"),
            ("", "EOF"),
        ] {
            let said = object(text.as_bytes(), 3).unwrap_err().to_string();
            assert!(said.contains(why), "{text}: {said}");
        }
        assert!(object(b"{\"a\":\"\xff\"}", 3).is_err());
        let utf16: Vec<u8> = "{\"a\":1}".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert!(object(&utf16, 3).is_err());
    }

    #[test]
    fn nesting_a_million_deep_is_refused_without_harm() {
        assert!(object(format!("{{\"a\":{}", "[".repeat(1_000_000)).as_bytes(), 32).is_err());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_what_is_read_is_what_serde_json_reads(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)
        ) {
            if let Ok(map) = object(&bytes, 8) {
                let plain: Value = serde_json::from_slice(&bytes).unwrap();
                proptest::prop_assert_eq!(Value::Object(map), plain);
            }
        }

        #[test]
        fn objects_without_duplicates_are_read_as_they_are(
            members in proptest::collection::btree_map("[a-z]{0,3}", "\\PC{0,5}", 0..6)
        ) {
            let text = serde_json::to_vec(&members).unwrap();
            let map = object(&text, 2).unwrap();
            proptest::prop_assert_eq!(serde_json::to_value(&members).unwrap(), Value::Object(map));
        }
    }
}
