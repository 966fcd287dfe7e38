//! Events that are no request: life cycle (class 6002), configuration and policies (3004),
//! refusals before anybody was known (6003).

use std::net::IpAddr;

use super::{
    canonical::{self, Line},
    record,
};
use crate::time::Timestamp;

/// Something that happened to the gate itself.
#[derive(Debug, Clone)]
pub enum Event {
    /// The gate began to serve.
    Started {
        /// SHA-256 of the configuration.
        configuration: [u8; 32],
        /// SHA-256 of the policies.
        policies: [u8; 32],
    },
    /// The gate stopped serving; nothing is under way any more.
    Stopped,
    /// Another set of policies is in force.
    PoliciesChanged {
        /// SHA-256 of the policies.
        policies: [u8; 32],
        /// The number of the set.
        generation: u64,
    },
    /// A change was not taken over; what was in force stays.
    ReloadRefused {
        /// `policies`, `certificates` or `configuration`.
        what: &'static str,
        /// The first problem.
        problem: String,
        /// How many there are.
        count: u64,
    },
    /// Certificates, sealing keys or the configuration were read anew and are in force.
    Reloaded {
        /// `certificates`, `keys` or `configuration`.
        what: &'static str,
        /// SHA-256 of what is in force (of keys: of their public halves).
        digest: [u8; 32],
    },
    /// A credential proves itself by another secret, certificate or identity from here on.
    CredentialChanged {
        /// Its name.
        name: String,
        /// Where its secret lies, with the version if the place has versions; nothing of it.
        place: String,
    },
    /// Heads are signed with another key from here on; both as verifier keys.
    SigningKeyChanged {
        /// The key that signed before.
        before: String,
        /// The key that signs now.
        after: String,
    },
    /// The journal was found with an unfinished end and went on behind it.
    Recovered {
        /// Bytes of an unfinished record that were left out.
        torn_bytes: u64,
        /// Intents whose outcome is not known.
        unresolved: Vec<String>,
    },
    /// Bytes pass untouched between a caller and a host from here on.
    TunnelOpened(Tunnel),
    /// They do no longer.
    TunnelEnded {
        /// Which.
        tunnel: Tunnel,
        /// Bytes from the caller.
        sent: u64,
        /// Bytes to the caller.
        received: u64,
        /// `completed`, or `cut` when the gate ended it.
        ending: &'static str,
    },
    /// Requests were refused before anybody was known.
    Refused {
        /// From where.
        peer: IpAddr,
        /// Why.
        reason: &'static str,
        /// How often since the last such record.
        count: u64,
    },
}

/// A tunnel through which bytes pass untouched.
#[derive(Debug, Clone)]
pub struct Tunnel {
    /// Tells it from every other: the opening and the end have the same.
    pub id: uuid::Uuid,
    /// For whom: issuer and subject.
    pub caller: String,
    /// The caller's address.
    pub peer: IpAddr,
    /// Where to.
    pub host: String,
    /// The port there.
    pub port: u16,
}

impl Event {
    pub(super) fn render(&self, now: Timestamp) -> Vec<u8> {
        let (class, activity, category) = match self {
            Self::Started { .. } => (6_002, 3, 6),
            Self::Stopped => (6_002, 4, 6),
            Self::Recovered { .. } => (6_002, 99, 6),
            Self::PoliciesChanged { .. }
            | Self::Reloaded { .. }
            | Self::CredentialChanged { .. }
            | Self::SigningKeyChanged { .. } => (3_004, 3, 3),
            Self::ReloadRefused { .. } => (3_004, 99, 3),
            Self::Refused { .. } | Self::TunnelOpened(_) | Self::TunnelEnded { .. } => (6_003, 99, 6),
        };
        let tunnel = self.tunnel();
        let failed =
            matches!(self, Self::ReloadRefused { .. } | Self::Refused { .. } | Self::Recovered { .. });
        Line::new(canonical::MAX_TEXT).object(|l| {
            l.number("activity_id", activity);
            if class == 6_003 {
                match tunnel {
                    Some(tunnel) => {
                        l.nested("actor", |l| l.nested("user", |l| l.text("uid", &*tunnel.caller)))
                    }
                    None => l.nested("actor", |l| l.text("app_name", "unknown")),
                }
                l.nested("api", |l| {
                    l.text("operation", if tunnel.is_some() { "CONNECT" } else { "unknown" })
                });
            }
            if class == 6_002 {
                l.nested("app", record::product_name);
            }
            l.number("category_uid", category);
            l.number("class_uid", class);
            if class == 3_004 {
                l.nested("entity", |l| {
                    l.text("name", self.subject());
                    l.text("type", "configuration");
                });
            }
            l.nested("metadata", |l| {
                record::product(l);
                l.text("uid", &*uuid::Uuid::now_v7().to_string());
                l.text("version", record::ocsf());
            });
            l.number("severity_id", if failed { 3 } else { 1 });
            if let Some(peer) = self.peer() {
                l.nested("src_endpoint", |l| l.text("ip", &*peer.to_canonical().to_string()));
            }
            l.number("status_id", if failed { 2 } else { 1 });
            l.number("time", now.as_millis());
            l.number("type_uid", class * 100 + activity);
            l.nested("unmapped", |l| l.nested("amlgate", |l| self.own(l)));
        })
    }

    fn tunnel(&self) -> Option<&Tunnel> {
        match self {
            Self::TunnelOpened(tunnel) | Self::TunnelEnded { tunnel, .. } => Some(tunnel),
            Self::Started { .. }
            | Self::Stopped
            | Self::PoliciesChanged { .. }
            | Self::ReloadRefused { .. }
            | Self::Reloaded { .. }
            | Self::CredentialChanged { .. }
            | Self::SigningKeyChanged { .. }
            | Self::Recovered { .. }
            | Self::Refused { .. } => None,
        }
    }

    /// Who called.
    fn peer(&self) -> Option<IpAddr> {
        if let Self::Refused { peer, .. } = self { Some(*peer) } else { self.tunnel().map(|t| t.peer) }
    }

    /// What was edited.
    fn subject(&self) -> &'static str {
        match self {
            Self::PoliciesChanged { .. } => "policies",
            Self::Reloaded { what, .. } | Self::ReloadRefused { what, .. } => what,
            Self::CredentialChanged { .. } => "credentials",
            Self::SigningKeyChanged { .. } => "audit signing key",
            Self::Started { .. }
            | Self::Stopped
            | Self::Recovered { .. }
            | Self::TunnelOpened(_)
            | Self::TunnelEnded { .. }
            | Self::Refused { .. } => "gate",
        }
    }

    fn own(&self, l: &mut Line) {
        match self {
            Self::Started { configuration, policies } => {
                l.hex("configuration_digest", configuration);
                l.text("event", "started");
                l.text("form", record::FORM);
                l.hex("policy_digest", policies);
            }
            Self::Stopped => {
                l.text("event", "stopped");
                l.text("form", record::FORM);
            }
            Self::PoliciesChanged { policies, generation } => {
                l.text("event", "policies_changed");
                l.text("form", record::FORM);
                l.number("generation", *generation);
                l.hex("policy_digest", policies);
            }
            Self::ReloadRefused { what, problem, count } => {
                l.number("count", *count);
                l.text("event", "reload_refused");
                l.text("form", record::FORM);
                l.text("problem", &**problem);
                l.text("what", *what);
            }
            Self::Reloaded { what, digest } => {
                l.hex("digest", digest);
                l.text("event", "reloaded");
                l.text("form", record::FORM);
                l.text("what", *what);
            }
            Self::CredentialChanged { name, place } => {
                l.text("credential", &**name);
                l.text("event", "credential_changed");
                l.text("form", record::FORM);
                l.text("place", &**place);
            }
            Self::SigningKeyChanged { before, after } => {
                l.text("after", &**after);
                l.text("before", &**before);
                l.text("event", "signing_key_changed");
                l.text("form", record::FORM);
            }
            Self::Recovered { torn_bytes, unresolved } => {
                l.text("event", "recovered");
                l.text("form", record::FORM);
                l.number("torn_bytes", *torn_bytes);
                l.texts("unresolved", unresolved.iter().take(256).map(String::as_str));
                l.number("unresolved_count", unresolved.len() as u64);
            }
            Self::TunnelOpened(tunnel) => {
                l.text("event", "tunnel_opened");
                l.text("form", record::FORM);
                l.text("host", &*tunnel.host);
                l.number("port", u64::from(tunnel.port));
                l.text("tunnel", &*tunnel.id.to_string());
            }
            Self::TunnelEnded { tunnel, sent, received, ending } => {
                l.text("ending", *ending);
                l.text("event", "tunnel_ended");
                l.text("form", record::FORM);
                l.text("host", &*tunnel.host);
                l.number("port", u64::from(tunnel.port));
                l.number("received", *received);
                l.number("sent", *sent);
                l.text("tunnel", &*tunnel.id.to_string());
            }
            Self::Refused { reason, count, .. } => {
                l.number("count", *count);
                l.text("event", "refused");
                l.text("form", record::FORM);
                l.text("reason", *reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel() -> Tunnel {
        Tunnel {
            id: uuid::Uuid::nil(),
            caller: "corp:ann".into(),
            peer: IpAddr::from([192, 0, 2, 1]),
            host: "login.microsoftonline.com".into(),
            port: 443,
        }
    }

    #[test]
    fn every_event_is_canonical_json() {
        let events = [
            Event::Started { configuration: [1; 32], policies: [2; 32] },
            Event::TunnelOpened(tunnel()),
            Event::TunnelEnded { tunnel: tunnel(), sent: 1, received: 2, ending: "completed" },
            Event::CredentialChanged { name: "gate".into(), place: "`s` in `v`, version 1".into() },
            Event::Stopped,
            Event::PoliciesChanged { policies: [2; 32], generation: 7 },
            Event::ReloadRefused { what: "policies", problem: "a.yaml:1:2: no".into(), count: 3 },
            Event::Reloaded { what: "certificates", digest: [3; 32] },
            Event::SigningKeyChanged { before: "a+1+x".into(), after: "a+2+y".into() },
            Event::Recovered { torn_bytes: 9, unresolved: vec!["d".into()] },
            Event::Refused { peer: "::1".parse().unwrap(), reason: "no token", count: 4 },
        ];
        for event in events {
            let line = event.render(Timestamp::from_secs(1));
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(serde_json::to_vec(&value).unwrap(), line, "{event:?}");
        }
    }
}
