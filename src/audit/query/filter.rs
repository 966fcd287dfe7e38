//! What is looked for.

use serde_json::Value;

use crate::time::Timestamp;

/// What is given must all fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The caller, as `issuer:subject`, or a part of it.
    pub caller: Option<String>,
    /// A decision's id.
    pub decision: Option<uuid::Uuid>,
    /// An Azure action or an event of the gate, or a part of it.
    pub action: Option<String>,
    /// A resource's id, or a part of it.
    pub resource: Option<String>,
    /// `intent`, `outcome`, `denial`.
    pub phase: Option<String>,
    /// A denial's code.
    pub code: Option<String>,
    /// Anything that stands in the record.
    pub text: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// Whether a part is in a text, whatever the case.
pub(super) fn holds(part: Option<&str>, text: Option<&str>) -> bool {
    part.is_none_or(|part| {
        text.is_some_and(|text| text.to_ascii_lowercase().contains(&part.to_ascii_lowercase()))
    })
}

impl Filter {
    /// Whether a record fits.
    #[must_use]
    pub fn fits(&self, line: &[u8], value: &Value) -> bool {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let any = |list: &str, key: &str, part: &Option<String>| {
            let items = value.pointer(list).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(|item| item.get(key)?.as_str()).any(|text| holds(part.as_deref(), Some(text)))
        };
        let is = |wanted: &Option<String>, pointer: &str| {
            wanted.as_ref().is_none_or(|wanted| text(pointer) == Some(wanted))
        };
        let time = value.get("time").and_then(Value::as_u64).map(Timestamp::from_millis);
        let action = self.action.as_deref();
        holds(self.caller.as_deref(), text("/actor/user/uid"))
            && self
                .decision
                .is_none_or(|id| text("/unmapped/amlgate/decision").and_then(|d| d.parse().ok()) == Some(id))
            && (holds(action, text("/api/operation"))
                || holds(action, text("/unmapped/amlgate/event"))
                || any("/unmapped/amlgate/acts", "action", &self.action))
            && (self.resource.is_none() || any("/resources", "uid", &self.resource))
            && is(&self.phase, "/unmapped/amlgate/phase")
            && is(&self.code, "/unmapped/amlgate/denial/code")
            && self.since.is_none_or(|since| time.is_some_and(|time| time >= since))
            && self.until.is_none_or(|until| time.is_some_and(|time| time < until))
            && (self.text.is_none() || holds(self.text.as_deref(), str::from_utf8(line).ok()))
    }
}
