//! Requests and grants as people read them in a terminal. What others wrote is shown as text.

use std::fmt::Write as _;

use serde_json::Value;

/// A text that others chose, without what speaks to a terminal.
pub(in crate::cli) fn text(value: &Value, pointer: &str) -> String {
    let Some(found) = value.pointer(pointer).filter(|found| !found.is_null()) else { return String::new() };
    let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
    found.replace(crate::http::is_deceptive, " ")
}

pub(in crate::cli) fn list<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// How somebody is called: by name, else by id; and the agent that acts for them.
pub(in crate::cli) fn party(value: &Value) -> String {
    let (name, id) = (text(value, "/name"), text(value, "/id"));
    let who = if name.is_empty() { id } else { format!("{name} ({id})") };
    match text(value, "/agent") {
        agent if agent.is_empty() => who,
        agent => format!("the agent {agent} for {who}"),
    }
}

/// What was done or is to be done, on which resource.
fn what(value: &Value) -> String {
    let all = |key: &str| list(value, key).map(|one| text(one, "")).collect::<Vec<_>>().join(", ");
    let (actions, on) = (all("/what/actions"), all("/what/resources"));
    if on.is_empty() { actions } else { format!("{actions} on {on}") }
}

fn demand(one: &Value) -> String {
    if one.is_string() {
        return "their own human".to_owned();
    }
    format!("{} of {}", text(one, "/count"), text(one, "/subject"))
}

/// Whose answers are waited for.
pub(super) fn open(value: &Value) -> String {
    let all: Vec<_> = list(value, "/open").map(demand).collect();
    if all.is_empty() { "nobody".to_owned() } else { all.join(" and ") }
}

/// A request on one line: its id, how far it has come, who, for what.
pub(super) fn request_row(value: &Value) -> String {
    let claimed = match text(value, "/claimed/user") {
        none if none.is_empty() => none,
        user => format!(" (claims {user})"),
    };
    format!(
        "{}  {:<9}  {}{claimed}  {}  `{}`",
        text(value, "/id"),
        text(value, "/state"),
        text(value, "/requester/id"),
        what(value),
        text(value, "/entry")
    )
}

/// A request, whole.
pub(super) fn request(value: &Value) -> String {
    let mut all = format!("{}  {}\n", text(value, "/id"), text(value, "/state"));
    let mut line = |name: &str, what: &str| {
        if !what.is_empty() {
            let _infallible = writeln!(all, "  {name:<9} {what}");
        }
    };
    line("who", &value.get("requester").map(party).unwrap_or_default());
    let claimed = text(value, "/claimed/user");
    if !claimed.is_empty() {
        line("claimed", &format!("{claimed}, as who asks says; nobody has proved it"));
    }
    line("what", &what(value));
    let words = |key: &str| list(value, key).map(|one| text(one, "")).collect::<Vec<_>>().join(", ");
    line("effects", &words("/what/effects"));
    line("reserves", &words("/what/reserves"));
    line("secrets", &words("/what/secrets"));
    line("why", &text(value, "/reason"));
    line("ticket", &text(value, "/ticket"));
    line("entry", &text(value, "/entry"));
    let demands: Vec<_> = list(value, "/demands").map(demand).collect();
    line("wants", &demands.join(" and "));
    let (covers, uses) = (text(value, "/covers"), text(value, "/uses"));
    let uses = if uses.is_empty() { String::new() } else { format!(", {uses} times") };
    line("grants", &format!("the {covers}{uses}, for {} s", text(value, "/valid_for")));
    for vote in list(value, "/votes") {
        let note = text(vote, "/note");
        let note = if note.is_empty() { note } else { format!(": {note}") };
        let by = vote.get("by").map(party).unwrap_or_default();
        line("answered", &format!("{by} at {}{note}", text(vote, "/at")));
    }
    if text(value, "/state") == "pending" {
        line("waits", &format!("for {}, until {}", open(value), text(value, "/expires")));
    }
    line("grant", &text(value, "/grant/id"));
    let can: Vec<_> = list(value, "/can").map(|verb| text(verb, "")).collect();
    line("you may", &can.join(", "));
    all.trim_end().to_owned()
}

/// A grant on one line.
pub(super) fn grant_row(value: &Value) -> String {
    let uses = match text(value, "/uses") {
        uses if uses.is_empty() => "as often as wanted".to_owned(),
        uses => format!("{} of {uses} used", text(value, "/used")),
    };
    format!(
        "{}  {:<8}  {}  {}  `{}`  {uses}, until {}",
        text(value, "/id"),
        text(value, "/state"),
        text(value, "/holder/id"),
        what(value),
        text(value, "/entry"),
        text(value, "/expires")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_approver_reads_who_asks_for_what_and_why_and_no_words_speak_to_the_terminal() {
        let asked = json!({
            "id": "r-1", "state": "pending", "entry": "big clusters",
            "requester": {"id": "corp:ann", "person": "corp:ann", "agent": null, "name": "Ann"},
            "reason": "retrain\u{1b}[2J\nforged:\u{202e}line", "ticket": null,
            "what": {"actions": ["jobs/write"], "resources": ["/subscriptions/1"]},
            "demands": [{"subject": "platform", "count": 2}, "human"], "open": [{"subject": "platform", "count": 1}],
            "votes": [{"by": {"id": "corp:bob", "name": null}, "at": "2026-11-30T09:00:00Z", "note": "fine"}],
            "covers": "request", "uses": 1, "valid_for": 3600, "expires": "2026-12-01T09:00:00Z",
            "can": ["approve", "deny"],
        });
        let shown = request(&asked);
        for told in [
            "who       Ann (corp:ann)",
            "what      jobs/write on /subscriptions/1",
            "why       retrain [2J forged: line",
            "wants     2 of platform and their own human",
            "grants    the request, 1 times, for 3600 s",
            "answered  corp:bob at 2026-11-30T09:00:00Z: fine",
            "waits     for 1 of platform, until 2026-12-01T09:00:00Z",
            "you may   approve, deny",
        ] {
            assert!(shown.contains(told), "{told} in {shown}");
        }
        assert!(!shown.contains('\u{202e}') && !shown.contains('\u{1b}') && !shown.contains("ticket"));
        let claimed =
            json!({"claimed": {"user": "eve\u{7}@example.com", "issuer": "corp", "claim": "email"}});
        assert!(request(&claimed).contains("claimed   eve @example.com, as who asks says"));
        assert!(request_row(&claimed).contains("(claims eve @example.com)"));
        assert_eq!(
            request_row(&asked),
            "r-1  pending    corp:ann  jobs/write on /subscriptions/1  `big clusters`"
        );
    }
}
