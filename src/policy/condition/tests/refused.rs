//! Texts that are no condition.

use super::*;

fn refused(text: &str) -> ConditionError {
    Condition::compile(text).expect_err(text)
}

#[test]
fn a_text_outside_the_subset_is_refused_with_its_place() {
    for (text, offset, message, hint) in [
        (
            "caller.claims.a == 1 && reqest.method == 'GET'",
            24,
            "`reqest` is nothing that a condition can read",
            "did you mean `request`?",
        ),
        ("caller.isuer == 'x'", 0, "`caller` has no member `isuer`", "did you mean `issuer`?"),
        (
            "size(request) > 1",
            5,
            "`request` is read member by member",
            "its members are `method`, `path`, `query`, `headers`, `body`, `source`",
        ),
        (
            "request[caller.subject] == 'x'",
            0,
            "`request` is read by members that are written out",
            "write `request.MEMBER`",
        ),
        ("route", 0, "a condition is true or false, and this is text", "compare it with something"),
        (
            "allocates.nodes > '4'",
            16,
            "an integer and text have no order",
            "compare numbers with numbers, texts with texts",
        ),
        (
            "allocates.nodes == '4'",
            16,
            "an integer is never equal to text",
            "convert one, as in `string(...)` or `.orValue(...)`",
        ),
        (
            "route && true",
            0,
            "`&&` takes a boolean, and this is text",
            "compare it with something, or convert it",
        ),
        (
            "route + 1 == 'x'",
            6,
            "`+` does not take text and an integer",
            "convert one with `int(...)`, `double(...)` or `string(...)`",
        ),
        (
            "route.matches(caller.subject)",
            14,
            "`matches` takes a pattern that is written out",
            "a pattern that a request could choose could take any time",
        ),
        (
            "route.matches('(')",
            14,
            "`(` is no pattern: unclosed group",
            "patterns are those of RE2: no look-around, no back-references",
        ),
        (
            "route.matches('(?=x)')",
            14,
            "`(?=x)` is no pattern: look-around, including look-ahead and look-behind, is not supported",
            "patterns are those of RE2: no look-around, no back-references",
        ),
        (
            "route.matches('(a{1000}){1000}')",
            14,
            "`(a{1000}){1000}` is no pattern: it is too large",
            "patterns are those of RE2: no look-around, no back-references",
        ),
        ("route.startWith('x')", 0, "there is no function `startWith` here", "did you mean `startsWith`?"),
        (
            "route.startsWith(1)",
            0,
            "`startsWith` cannot be called on text with (an integer)",
            "call it on text with (text)",
        ),
        (
            "size(1) == 1",
            4,
            "`size` cannot be called with (an integer)",
            "call it with (text or bytes or a list or an object)",
        ),
        ("{'a': 1}.a == 1", 0, "a condition makes no objects", "compare members one by one"),
        ("route.exists(x, x == 'a')", 0, "text cannot be gone through", "only lists and objects can"),
        (
            "caller.groups.exists(now, now == 'a')",
            0,
            "`now` means something else already",
            "choose another name",
        ),
        (
            "caller.groups.exists(a, caller.groups.exists(b, caller.groups.exists(c, c == a)))",
            48,
            "more than 2 loops inside each other",
            "the time that a condition takes must be bounded",
        ),
        (
            "timestamp('2026-13-01T00:00:00Z') < now",
            9,
            "this has no value",
            "write `timestamp('2026-11-23T12:00:00Z')`, `duration('1h30m')`",
        ),
        ("now.getHours('Mars') == 1", 13, "this is no time zone", "write an IANA name, `'Europe/Zurich'`"),
        ("has(caller.?tenant.x)", 10, "`has` asks members, not optional values", "write `.hasValue()`"),
        (
            "caller.?tenant == 't'",
            15,
            "an optional value is never equal to text",
            "convert one, as in `string(...)` or `.orValue(...)`",
        ),
        (
            "'a' in route",
            4,
            "`in` looks into lists and objects, not into text",
            "write `.contains(...)` for a part of a text",
        ),
        ("1 in caller.groups", 2, "an integer is never among texts", "convert it with `string(...)`"),
        ("caller.groups.first == 'a'", 0, "a list has no members", "write `[0]`, or `.exists(x, ...)`"),
        (
            "[caller.?tenant] == []",
            7,
            "a list holds no optional values",
            "give a default with `.orValue(...)`",
        ),
        (
            "size(caller.?tenant) == 1",
            11,
            "`size` takes no optional value",
            "give a default with `.orValue(...)`",
        ),
    ] {
        let error = refused(text);
        assert_eq!((error.offset, error.message.as_str()), (offset, message), "{text}");
        assert_eq!(error.hint.as_deref(), Some(hint), "{text}");
    }
}

#[test]
fn what_is_no_cel_is_refused_with_its_place() {
    for (text, offset, complaint) in [
        ("", 0, "mismatched input `<EOF>`"),
        ("a &&", 4, "mismatched input `<EOF>`"),
        ("caller.issuer = 'x'", 14, "token recognition error at: `= `"),
        ("caller.issuer == 'x", 17, "token recognition error at: ``x`"),
        ("'ä' == \n caller.issuer == ) ", 27, "mismatched input `)`"),
    ] {
        let error = refused(text);
        let message = format!("the condition cannot be parsed: {complaint}");
        assert_eq!((error.offset, error.message), (offset, message), "{text:?}");
    }
}
