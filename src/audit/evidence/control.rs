//! Which records show what about a control of SOC 2 or ISO 27001.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a record is about, as far as controls ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A request that was allowed, and what came of it.
    Access,
    /// A request of a known caller that was refused.
    Denial,
    /// Refusals before anybody was known.
    Refusal,
    /// Somebody signed in, tried to, or signed out.
    SignIn,
    /// A request for approval and what became of it.
    Approval,
    /// A grant and what became of it.
    Grant,
    /// Somebody broke the glass, or wanted to, and what became of it.
    BreakGlass,
    /// Tokens, sessions or people were revoked, or that was lifted.
    Revocation,
    /// Which policies are in force: each start and each change, and changes that were refused.
    Policies,
    /// The configuration or a certificate was changed, or a change was refused.
    Configuration,
    /// A key or a secret was exchanged for another.
    Keys,
    /// Bytes passed that the gate cannot read.
    Tunnel,
    /// The gate stopped, or the log ended.
    Stop,
    /// The log was recovered, or old records were removed.
    Log,
    /// The record could not be exported, or can be again.
    Export,
    /// Somebody read the record.
    Reading,
}

impl Class {
    /// What a record is about; `None` for one that no control asks for.
    #[must_use]
    pub fn of(record: &Value) -> Option<Self> {
        let own = |key: &str| record.pointer(&format!("/unmapped/amlgate/{key}")).and_then(Value::as_str);
        let operation = record.pointer("/api/operation").and_then(Value::as_str).unwrap_or_default();
        Some(match own("event") {
            None if own("phase") == Some("denial") => Self::Denial,
            None if operation.starts_with("amlgate/revocations") => Self::Revocation,
            None if operation.starts_with("amlgate/audit") => Self::Reading,
            None if own("phase").is_some() => Self::Access,
            None => return None,
            Some("started" | "policies_changed") => Self::Policies,
            Some("reload_refused") if own("what") == Some("policies") => Self::Policies,
            Some("reload_refused" | "reloaded") => Self::Configuration,
            Some("credential_changed" | "exporter_changed" | "signing_key_changed") => Self::Keys,
            Some("tunnel_opened" | "tunnel_ended") => Self::Tunnel,
            Some("signed_in" | "sign_in_refused" | "signed_out") => Self::SignIn,
            Some(
                "approval_asked" | "approval_voted" | "approved" | "approval_denied" | "approval_expired"
                | "approval_withdrawn",
            ) => Self::Approval,
            Some("grant_given" | "grant_used" | "grant_revoked" | "grant_expired") => Self::Grant,
            Some(event) if event.starts_with("break_glass_") => Self::BreakGlass,
            Some("stopped" | "log_ended") => Self::Stop,
            Some("recovered" | "record_resumed" | "records_retired" | "records_archived") => Self::Log,
            Some("exporter_failing" | "exporter_recovered") => Self::Export,
            Some("record_read" | "body_read") => Self::Reading,
            Some("model_stated" | "model_not_stated" | "unstated_model") => Self::Access,
            Some("trigger_waits" | "trigger_started" | "trigger_refused" | "trigger_ended") => Self::Access,
            Some("refused") => Self::Refusal,
            Some(_) => return None,
        })
    }
}

/// A control for which there is evidence in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// As auditors write it.
    pub id: &'static str,
    /// Of which framework it is.
    pub framework: &'static str,
    /// What it asks, in a few words.
    pub asks: &'static str,
    /// The records that show it.
    pub shown_by: &'static [Class],
}

const SOC: &str = "SOC 2";
const ISO: &str = "ISO/IEC 27001";

/// All of them.
const CONTROLS: &[Control] = &[
    Control {
        id: "CC6.1",
        framework: SOC,
        asks: "access to systems and data is restricted to those who are authorized",
        shown_by: &[
            Class::Access,
            Class::Denial,
            Class::Refusal,
            Class::SignIn,
            Class::Policies,
            Class::Keys,
        ],
    },
    Control {
        id: "CC6.2",
        framework: SOC,
        asks: "access is authorized before it is given, and taken away when it is no longer",
        shown_by: &[
            Class::SignIn,
            Class::Approval,
            Class::Grant,
            Class::BreakGlass,
            Class::Revocation,
            Class::Policies,
        ],
    },
    Control {
        id: "CC6.3",
        framework: SOC,
        asks: "access follows roles, least privilege and separation of duties, and changes of it are governed",
        shown_by: &[
            Class::Policies,
            Class::Approval,
            Class::Grant,
            Class::BreakGlass,
            Class::Revocation,
            Class::Denial,
        ],
    },
    Control {
        id: "CC6.6",
        framework: SOC,
        asks: "access from outside the boundary is guarded",
        shown_by: &[Class::Refusal, Class::Denial, Class::SignIn, Class::Tunnel, Class::Policies],
    },
    Control {
        id: "CC6.7",
        framework: SOC,
        asks: "moving data is restricted to those who are authorized",
        shown_by: &[Class::Access, Class::Denial, Class::Tunnel, Class::Policies],
    },
    Control {
        id: "CC7.1",
        framework: SOC,
        asks: "changes of the configuration are noticed",
        shown_by: &[Class::Policies, Class::Configuration, Class::Keys],
    },
    Control {
        id: "CC7.2",
        framework: SOC,
        asks: "components are watched for what is out of the ordinary",
        shown_by: &[
            Class::Denial,
            Class::Refusal,
            Class::BreakGlass,
            Class::Export,
            Class::Log,
            Class::Stop,
            Class::Policies,
        ],
    },
    Control {
        id: "CC7.3",
        framework: SOC,
        asks: "security events are looked into",
        shown_by: &[Class::Reading, Class::Denial, Class::BreakGlass, Class::Revocation, Class::Policies],
    },
    Control {
        id: "CC7.4",
        framework: SOC,
        asks: "security incidents are answered",
        shown_by: &[Class::Revocation, Class::BreakGlass, Class::Keys, Class::Policies],
    },
    Control {
        id: "A.5.15",
        framework: ISO,
        asks: "rules for access are established and enforced",
        shown_by: &[
            Class::Access,
            Class::Denial,
            Class::Refusal,
            Class::Policies,
            Class::Approval,
            Class::Grant,
            Class::BreakGlass,
            Class::Revocation,
        ],
    },
    Control {
        id: "A.8.15",
        framework: ISO,
        asks: "activities, exceptions and faults are logged, and logs are protected and looked at",
        shown_by: &[
            Class::Policies,
            Class::Configuration,
            Class::Keys,
            Class::Stop,
            Class::Log,
            Class::Export,
            Class::Reading,
        ],
    },
];

/// A name that is no control's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no evidence for the control `{0}`: choose among {list}", list = Listed)]
pub struct UnknownControl(String);

struct Listed;

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = CONTROLS.iter().map(|control| control.id).collect();
        write!(f, "CC6, CC7, {}", ids.join(", "))
    }
}

/// What was named: one control, or a family of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named(pub Vec<&'static Control>);

impl FromStr for Named {
    type Err = UnknownControl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let family = |control: &&Control| {
            control.id.eq_ignore_ascii_case(text)
                || control
                    .id
                    .split_once('.')
                    .is_some_and(|(family, _)| family.starts_with("CC") && family.eq_ignore_ascii_case(text))
        };
        let found: Vec<_> = CONTROLS.iter().filter(family).collect();
        if found.is_empty() { Err(UnknownControl(text.chars().take(40).collect())) } else { Ok(Self(found)) }
    }
}

impl Control {
    /// All controls, in the order of their frameworks.
    #[must_use]
    pub fn all() -> Vec<&'static Self> {
        CONTROLS.iter().collect()
    }

    /// The control of that name.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        CONTROLS.iter().find(|control| control.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every golden line of a record is of a class, so that a new kind of event gets one.
    #[test]
    fn every_kind_of_record_belongs_to_a_class_and_every_class_to_a_control() {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/audit/tests/golden");
        let mut seen = std::collections::BTreeSet::new();
        for entry in std::fs::read_dir(golden).unwrap() {
            let path = entry.unwrap().path();
            let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let class = Class::of(&record).unwrap_or_else(|| panic!("{} is of no class", path.display()));
            assert!(CONTROLS.iter().any(|control| control.shown_by.contains(&class)), "{class:?}");
            seen.insert(class);
        }
        assert_eq!(seen.len(), 15, "all but revocations, which are requests to the API: {seen:?}");
    }

    #[test]
    fn a_family_is_all_of_its_controls_and_policies_are_part_of_each() {
        let named = |text: &str| text.parse::<Named>().map(|named| named.0.len());
        assert_eq!(
            (named("CC6"), named("cc7"), named("a.8.15"), named("CC6.1")),
            (Ok(5), Ok(4), Ok(1), Ok(1))
        );
        let unknown = named("CC9").unwrap_err().to_string();
        assert!(unknown.contains("`CC9`") && unknown.contains("A.5.15"), "{unknown}");
        assert!(named("A").is_err() && named("").is_err());
        assert!(CONTROLS.iter().all(|control| control.shown_by.contains(&Class::Policies)));
    }
}
