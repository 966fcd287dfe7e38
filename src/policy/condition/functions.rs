//! The functions of conditions: CEL's own, and those that stand in for some of them.
//!
//! What stands in has a name that no text can spell (`@...`): equality that refuses to compare a
//! number with a text instead of finding them different, comparison without case where Azure has
//! none, steps into what may be absent that do not cover up what is not to be known, and patterns
//! that were compiled at load.

use std::sync::{Arc, LazyLock};

use cel::{
    Env, ExecutionError,
    common::{
        functions::Function,
        types::{CelBool, CelList, CelOptional, CelString, DYN_TYPE, Kind, STRING_TYPE, Type as CelType},
        value::{CowVal, StaticVal, Val},
    },
};

pub(super) const EQUAL: &str = "@eq";
pub(super) const DIFFERENT: &str = "@ne";
/// Not `@in`, which is how CEL itself calls its own.
pub(super) const IN: &str = "@within";
pub(super) const EQUAL_FOLDED: &str = "@eq_folded";
pub(super) const DIFFERENT_FOLDED: &str = "@ne_folded";
pub(super) const IN_FOLDED: &str = "@within_folded";
pub(super) const OPTIONAL_MEMBER: &str = "@optional_member";
pub(super) const MATCHES: &str = "@matches";

/// The name of a text function's form without case.
pub(super) fn folded(name: &str) -> Option<&'static str> {
    match name {
        "contains" => Some("@contains_folded"),
        "startsWith" => Some("@startsWith_folded"),
        "endsWith" => Some("@endsWith_folded"),
        _ => None,
    }
}

/// Where conditions are compiled and evaluated.
pub(super) static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    let any = || vec![DYN_TYPE, DYN_TYPE];
    let texts = || vec![STRING_TYPE, STRING_TYPE];
    let ours: [(&str, Vec<CelType>, Function); 11] = [
        (EQUAL, any(), |a| two(&a, |a, b| equal(a, b, Ignore::Nothing))),
        (DIFFERENT, any(), |a| two(&a, |a, b| Ok(!equal(a, b, Ignore::Nothing)?))),
        (IN, any(), |a| two(&a, |a, b| within(a, b, Ignore::Nothing))),
        (EQUAL_FOLDED, any(), |a| two(&a, |a, b| equal(a, b, Ignore::Case))),
        (DIFFERENT_FOLDED, any(), |a| two(&a, |a, b| Ok(!equal(a, b, Ignore::Case)?))),
        (IN_FOLDED, any(), |a| two(&a, |a, b| within(a, b, Ignore::Case))),
        ("@contains_folded", texts(), |a| two_texts(&a, |a, b| a.contains(b))),
        ("@startsWith_folded", texts(), |a| two_texts(&a, |a, b| a.starts_with(b))),
        ("@endsWith_folded", texts(), |a| two_texts(&a, |a, b| a.ends_with(b))),
        (OPTIONAL_MEMBER, any(), optional_member),
        (MATCHES, vec![STRING_TYPE, PATTERN], matches),
    ];
    for (name, arguments, function) in ours {
        let declared = env.add_overload(name, name, arguments, function);
        debug_assert!(declared.is_ok(), "{name} is declared once");
    }
    Arc::new(env)
});

/// Whether letters' case counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ignore {
    Nothing,
    Case,
}

fn failed(why: String) -> ExecutionError {
    ExecutionError::InternalError(why)
}

/// The words of an error of these functions.
pub(super) fn why_failed(error: &ExecutionError) -> Option<&str> {
    if let ExecutionError::InternalError(why) = error { Some(why) } else { None }
}

fn boolean<'b, 'v>(value: bool) -> CowVal<'b, 'v> {
    CowVal::owned(CelBool::from(value))
}

fn two<'b, 'v>(
    arguments: &[CowVal<'b, 'v>],
    function: impl FnOnce(&dyn Val, &dyn Val) -> Result<bool, ExecutionError>,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    match arguments {
        [a, b] => function(a.as_ref(), b.as_ref()).map(boolean),
        _ => Err(failed("a function of two values was not given two".to_owned())),
    }
}

fn two_texts<'b, 'v>(
    arguments: &[CowVal<'b, 'v>],
    function: impl FnOnce(&str, &str) -> bool,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    two(arguments, |a, b| match (a.downcast_ref::<CelString>(), b.downcast_ref::<CelString>()) {
        (Some(a), Some(b)) => Ok(function(&a.inner().to_lowercase(), &b.inner().to_lowercase())),
        _ => Err(failed("a function of texts was given something else".to_owned())),
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the evaluator's kinds may grow; the rest is never a caller's"
)]
fn kind_name(value: &dyn Val) -> &'static str {
    match value.get_type().kind() {
        Kind::Boolean => "a boolean",
        Kind::Int | Kind::UInt | Kind::Double => "a number",
        Kind::String => "text",
        Kind::Bytes => "bytes",
        Kind::List => "a list",
        Kind::Map => "an object",
        Kind::NullType => "null",
        Kind::Timestamp => "a timestamp",
        Kind::Duration => "a duration",
        _ => "an optional value",
    }
}

/// Equality of values of one type; numbers are of one type. Nothing equals null but null.
fn equal(a: &dyn Val, b: &dyn Val, ignore: Ignore) -> Result<bool, ExecutionError> {
    let (one, other) = (a.get_type().kind(), b.get_type().kind());
    if one == Kind::NullType || other == Kind::NullType {
        return Ok(one == other);
    }
    if one == Kind::Map && other == Kind::Map {
        return Err(failed("objects cannot be compared: compare their members".to_owned()));
    }
    let (name, other_name) = (kind_name(a), kind_name(b));
    if name != other_name {
        return Err(failed(format!("{name} cannot be compared with {other_name}")));
    }
    if let (Some(a), Some(b)) = (a.downcast_ref::<CelList>(), b.downcast_ref::<CelList>()) {
        let (a, b) = (a.inner(), b.inner());
        if a.len() != b.len() {
            return Ok(false);
        }
        for (a, b) in a.iter().zip(b) {
            if !equal(a.as_ref(), b.as_ref(), ignore)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    match (ignore, a.downcast_ref::<CelString>(), b.downcast_ref::<CelString>()) {
        (Ignore::Case, Some(a), Some(b)) => Ok(a.inner().to_lowercase() == b.inner().to_lowercase()),
        _ => Ok(a.equals(b)),
    }
}

/// Membership; an item of another type than the one looked for leaves the answer open unless
/// another item is it.
fn within(item: &dyn Val, all: &dyn Val, ignore: Ignore) -> Result<bool, ExecutionError> {
    let Some(list) = all.downcast_ref::<CelList>() else {
        let container = all.as_container().filter(|_| all.get_type().kind() == Kind::Map);
        return match container {
            Some(object) => object.contains(item),
            None => Err(failed(format!("`in` looks into lists and objects, not into {}", kind_name(all)))),
        };
    };
    let mut open = None;
    for other in list.inner() {
        match equal(item, other.as_ref(), ignore) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => open = Some(error),
        }
    }
    open.map_or(Ok(false), Err)
}

/// `a.?b`, and `a[?b]`: nothing where there is nothing; what is not to be known stays an error.
fn optional_member<'b, 'v>(mut arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (Some(key), Some(value), None) = (arguments.pop(), arguments.pop(), arguments.pop()) else {
        return Err(failed("a step into an optional value takes two values".to_owned()));
    };
    let inner;
    let value: &(dyn Val + 'v) = match value.downcast_ref::<CelOptional>() {
        Some(optional) => match optional.option() {
            Some(value) => value,
            None => return Ok(CowVal::owned(CelOptional::none())),
        },
        None => {
            inner = value;
            inner.as_ref()
        }
    };
    let Some(indexer) = value.as_indexer() else {
        return Err(failed(format!("{} has no members", kind_name(value))));
    };
    match indexer.get(key.as_ref()) {
        Ok(found) => Ok(CowVal::owned(CelOptional::of(found.into_owned()))),
        Err(ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_)) => {
            Ok(CowVal::owned(CelOptional::none()))
        }
        Err(error) => Err(error),
    }
}

const PATTERN: CelType = CelType::new_unspecified_type("amlgate.Pattern");
static PATTERN_TYPE: CelType = PATTERN;

/// A pattern, compiled at load.
#[derive(Debug, Clone)]
pub(super) struct Pattern(pub Arc<regex::Regex>);

impl Val for Pattern {
    fn get_type(&self) -> &CelType {
        &PATTERN_TYPE
    }

    fn cel_type() -> &'static CelType {
        &PATTERN_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

#[expect(clippy::needless_pass_by_value, reason = "the signature of a function of the evaluator")]
fn matches<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    two(&arguments, |text, pattern| {
        match (text.downcast_ref::<CelString>(), pattern.downcast_ref::<Pattern>()) {
            (Some(text), Some(Pattern(pattern))) => Ok(pattern.is_match(text.inner())),
            _ => Err(failed("`matches` compares text with a pattern".to_owned())),
        }
    })
}
