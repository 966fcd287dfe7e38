//! What is known of a value before there is one: types, as far as a condition's text tells them.
//!
//! Claims and bodies have any type, so a check at load cannot find every mistake; it finds those
//! that need no request, and what it lets through and goes wrong is unevaluable.

/// The type of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    List(Element),
    Object,
    Null,
    Timestamp,
    Duration,
    Optional,
    /// Only the request tells.
    Any,
}

/// The type of a list's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Text,
    Any,
}

use Type::{Any, Bool, Bytes, Double, Duration, Int, List, Null, Object, Optional, Text, Timestamp, Uint};

/// A list of anything.
pub(super) const LIST: Type = List(Element::Any);

impl Type {
    /// As people say it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Bool => "a boolean",
            Int => "an integer",
            Uint => "an unsigned integer",
            Double => "a fraction",
            Text => "text",
            Bytes => "bytes",
            List(_) => "a list",
            Object => "an object",
            Null => "null",
            Timestamp => "a timestamp",
            Duration => "a duration",
            Optional => "an optional value",
            Any => "anything",
        }
    }

    pub(super) const fn is_number(self) -> bool {
        matches!(self, Int | Uint | Double)
    }

    /// Whether a value of this type can be one of `wanted`.
    pub(super) const fn fits(self, wanted: Self) -> bool {
        match (self, wanted) {
            (Any, _) | (_, Any) | (List(_), List(_)) => true,
            (Bool, Bool)
            | (Int, Int)
            | (Uint, Uint)
            | (Double, Double)
            | (Text, Text)
            | (Bytes, Bytes)
            | (Object, Object)
            | (Null, Null)
            | (Timestamp, Timestamp)
            | (Duration, Duration)
            | (Optional, Optional) => true,
            (
                Bool | Int | Uint | Double | Text | Bytes | List(_) | Object | Null | Timestamp | Duration
                | Optional,
                _,
            ) => false,
        }
    }

    /// Whether two values of these types can be equal at all.
    pub(super) const fn comparable(self, other: Self) -> bool {
        self.fits(other)
            || (self.is_number() && other.is_number())
            || matches!(self, Null)
            || matches!(other, Null)
    }

    /// What a value is that is of one of two types.
    pub(super) fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (List(_), List(_)) => LIST,
            _ => Any,
        }
    }
}

/// One way to call a function.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signature {
    pub name: &'static str,
    /// For a call on a value: what the value may be.
    pub target: Option<&'static [Type]>,
    pub arguments: &'static [&'static [Type]],
    pub result: Type,
}

const fn on(
    name: &'static str,
    target: &'static [Type],
    arguments: &'static [&'static [Type]],
    result: Type,
) -> Signature {
    Signature { name, target: Some(target), arguments, result }
}

const fn of(name: &'static str, arguments: &'static [&'static [Type]], result: Type) -> Signature {
    Signature { name, target: None, arguments, result }
}

const SIZED: &[Type] = &[Text, Bytes, LIST, Object];
const CLOCK: &[Type] = &[Timestamp, Duration];
const DATE: &[Type] = &[Timestamp];
const TEXT: &[Type] = &[Text];
const ANY: &[Type] = &[Any];

/// The functions that a condition may call.
pub(super) const FUNCTIONS: &[Signature] = &[
    of("size", &[SIZED], Int),
    on("size", SIZED, &[], Int),
    on("contains", TEXT, &[TEXT], Bool),
    on("startsWith", TEXT, &[TEXT], Bool),
    on("endsWith", TEXT, &[TEXT], Bool),
    on("matches", TEXT, &[TEXT], Bool),
    of("matches", &[TEXT, TEXT], Bool),
    of("string", &[&[Bool, Int, Uint, Double, Text, Bytes, Timestamp, Duration]], Text),
    of("int", &[&[Int, Uint, Double, Text, Timestamp]], Int),
    of("uint", &[&[Int, Uint, Double, Text]], Uint),
    of("double", &[&[Int, Uint, Double, Text]], Double),
    of("bool", &[&[Bool, Text]], Bool),
    of("bytes", &[&[Bytes, Text]], Bytes),
    of("duration", &[&[Duration, Text]], Duration),
    of("timestamp", &[&[Timestamp, Text, Int]], Timestamp),
    of("optional.of", &[ANY], Optional),
    of("optional.ofNonZeroValue", &[ANY], Optional),
    of("optional.none", &[], Optional),
    on("value", &[Optional], &[], Any),
    on("hasValue", &[Optional], &[], Bool),
    on("or", &[Optional], &[&[Optional]], Optional),
    on("orValue", &[Optional], &[ANY], Any),
    on("getFullYear", DATE, &[], Int),
    on("getFullYear", DATE, &[TEXT], Int),
    on("getMonth", DATE, &[], Int),
    on("getMonth", DATE, &[TEXT], Int),
    on("getDate", DATE, &[], Int),
    on("getDate", DATE, &[TEXT], Int),
    on("getDayOfMonth", DATE, &[], Int),
    on("getDayOfMonth", DATE, &[TEXT], Int),
    on("getDayOfWeek", DATE, &[], Int),
    on("getDayOfWeek", DATE, &[TEXT], Int),
    on("getDayOfYear", DATE, &[], Int),
    on("getDayOfYear", DATE, &[TEXT], Int),
    on("getHours", CLOCK, &[], Int),
    on("getHours", DATE, &[TEXT], Int),
    on("getMinutes", CLOCK, &[], Int),
    on("getMinutes", DATE, &[TEXT], Int),
    on("getSeconds", CLOCK, &[], Int),
    on("getSeconds", DATE, &[TEXT], Int),
    on("getMilliseconds", CLOCK, &[], Int),
    on("getMilliseconds", DATE, &[TEXT], Int),
];

/// What `a OP b` gives, or `None` if these types have no such operation.
pub(super) fn arithmetic(operator: &str, a: Type, b: Type) -> Option<Type> {
    let result = match (a, b) {
        (Any, Any) => Any,
        (Timestamp, Duration) if matches!(operator, "+" | "-") => Timestamp,
        (Duration, Timestamp) if operator == "+" => Timestamp,
        (Timestamp, Timestamp) if operator == "-" => Duration,
        (Duration, Duration) if matches!(operator, "+" | "-") => Duration,
        (Timestamp | Duration, Any) | (Any, Timestamp | Duration) if matches!(operator, "+" | "-") => Any,
        (List(x), List(y)) if operator == "+" => {
            if x == y {
                List(x)
            } else {
                LIST
            }
        }
        (List(_), Any) | (Any, List(_)) if operator == "+" => LIST,
        (Text | Bytes, _) if operator == "+" && b.fits(a) => a,
        (_, Text | Bytes) if operator == "+" && a.fits(b) => b,
        (Double, Double | Any) | (Any, Double) if operator == "%" => return None,
        (Int | Uint | Double, _) if b.fits(a) => a,
        (_, Int | Uint | Double) if a.fits(b) => b,
        _ => return None,
    };
    Some(result)
}

/// Whether values of these types have an order.
pub(super) fn ordered(a: Type, b: Type) -> bool {
    let orderable = |t| matches!(t, Any | Bool | Int | Uint | Double | Text | Bytes | Timestamp | Duration);
    orderable(a) && orderable(b) && (a.fits(b) || (a.is_number() && b.is_number()))
}
