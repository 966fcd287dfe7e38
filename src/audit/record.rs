//! One event as one line: OCSF API Activity (class 6003), canonical, at most 32 KiB.
//!
//! Only typed values come in, and each is either ours or escaped and bounded; no header, no body,
//! no token, and of the query only the keys and the values that are known to be harmless.

mod own;

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use super::{
    bodies::BodyNote,
    canonical::{Digits, Line, MAX_TEXT},
};
use crate::{
    azureml::{Kind, Operation},
    gates::{approvals::GrantUse, review::Evidence},
    identity::{Caller, Groups, Principal},
    policy::{Denial, EntryRef, Judgement, RequestFacts, Standing},
    secrets::Mac,
    time::Timestamp,
};

/// The largest record, in bytes.
pub const MAX_RECORD: usize = 32 << 10;

/// The version of the form, in every record.
pub(super) const FORM: &str = "amlgate-1";
/// The version of OCSF whose names are used.
const OCSF: &str = "1.5.0";
/// At most so many acts, entries or values of each kind are written.
pub(super) const MAX_LISTED: usize = 16;
/// At most so many groups and roles of the caller: policies are judged again by them.
const MAX_GROUPS: usize = 64;
/// The longest string of a record that would be too large otherwise, in bytes.
const SHORT_TEXT: usize = 256;
/// The longest query key, plain query value or correlation id that is written; they are short by
/// nature, so anything longer is something else.
const MAX_WORD: usize = 128;
/// Query keys whose values tell an auditor something and cannot hold a secret.
const PLAIN_QUERY: &[&str] = &["api-version", "$top", "$skip", "$orderby", "listviewtype", "jobtype"];

/// How a request came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The answer was passed on to its last byte.
    Completed,
    /// The caller hung up.
    ClientGone,
    /// The upstream broke off or could not be reached.
    UpstreamFailed,
    /// The upstream did not answer in time.
    TimedOut,
    /// No token could be had, or the gate stopped before anything was sent.
    NotSent,
    /// The gate let go of the request without saying how it ended.
    Aborted,
    /// An upgrade was established.
    Established,
    /// An upgraded connection ended.
    Ended,
    /// The policies no longer allow a stream.
    Cut,
}

impl Ending {
    /// The word in records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientGone => "client_gone",
            Self::UpstreamFailed => "upstream_failed",
            Self::TimedOut => "timed_out",
            Self::NotSent => "not_sent",
            Self::Aborted => "aborted",
            Self::Established => "established",
            Self::Ended => "ended",
            Self::Cut => "cut",
        }
    }

    const fn is_success(self) -> bool {
        matches!(self, Self::Completed | Self::Established | Self::Ended)
    }
}

/// Which of a request's records this is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase<'a> {
    /// Before anything is sent.
    Intent,
    /// What came of it.
    Outcome(&'a super::Outcome),
    /// It was refused.
    Denial(&'a Denial),
}

/// What a record is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub phase: Phase<'a>,
    pub caller: &'a Principal,
    /// None where the request could not be named.
    pub operation: Option<&'a Operation>,
    pub request: &'a RequestFacts,
    pub judgement: Option<&'a Judgement>,
    /// What stood in for an `allow` entry.
    pub standing: Standing,
    pub policy_digest: Option<&'a [u8; 32]>,
    /// The credential that Azure sees.
    pub credential: Option<&'a str>,
    /// The grants by which it goes on.
    pub grants: &'a [GrantUse],
    /// What was found of the reviews that it needs.
    pub reviews: &'a [Evidence],
    /// The bodies that an entry wants recorded.
    pub bodies: &'a [BodyNote],
    pub thumbprint: &'a Mac,
    pub now: Timestamp,
}

/// Writes the record; if it is too large lists are left out, strings are cut, and that is said.
pub(super) fn render(parts: &Parts<'_>) -> Vec<u8> {
    let line = write(parts, MAX_LISTED, Line::new(MAX_TEXT));
    if line.len() <= MAX_RECORD { line } else { write(parts, 0, Line::new(SHORT_TEXT)) }
}

/// What a caller sent as an id or a key, if it has the form of one: nothing else is worth keeping,
/// and everything else might be a secret.
fn word(text: &str) -> Option<&str> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.:|$@".contains(&b);
    (text.len() <= MAX_WORD && text.bytes().all(fits)).then_some(text)
}

fn activity(operation: Option<&Operation>) -> u64 {
    match operation.map(|o| o.kind) {
        Some(Kind::Write) => 3,
        Some(Kind::Read) => 2,
        Some(Kind::Delete) => 4,
        Some(Kind::Action) | None => 99,
    }
}

fn write(parts: &Parts<'_>, listed: usize, line: Line) -> Vec<u8> {
    let Parts { phase, caller, operation, request, judgement, .. } = *parts;
    let acts = operation.map_or(&[][..], |o| &o.acts);
    let activity = activity(operation);
    let denied = matches!(phase, Phase::Denial(_));
    let outcome = match phase {
        Phase::Outcome(outcome) => Some(outcome),
        Phase::Intent | Phase::Denial(_) => None,
    };
    let header = |name: &str| request.headers.get(name).and_then(|v| v.to_str().ok()).and_then(word);
    line.object(|l| {
        l.number("action_id", if denied { 2 } else { 1 });
        l.number("activity_id", activity);
        l.nested("actor", |l| actor(l, caller, judgement, parts, listed));
        l.nested("api", |l| {
            // The class demands one; what cannot be named is none of those that there are.
            l.text("operation", acts.first().map_or("unknown", |a| a.action.as_str()));
            if let Some(id) = header("x-ms-client-request-id") {
                l.nested("request", |l| l.text("uid", id));
            }
            if let Some(code) = outcome.and_then(|o| o.status) {
                l.nested("response", |l| l.number("code", u64::from(code)));
            }
            l.nested("service", |l| l.text("name", &*request.route));
            l.text("version", request.target.query().get("api-version").and_then(word));
        });
        l.number("category_uid", 6);
        l.number("class_uid", 6_003);
        l.nested("cloud", |l| {
            let subscription = acts.iter().find_map(|a| a.resource.as_ref()?.after("subscriptions"));
            if subscription.is_some() {
                l.nested("account", |l| l.text("uid", subscription));
            }
            l.word("provider", "Azure");
        });
        l.number(
            "disposition_id",
            match phase {
                Phase::Denial(_) => 2,
                Phase::Outcome(o) if o.ending == Ending::Cut => 24,
                Phase::Intent | Phase::Outcome(_) => 1,
            },
        );
        if let Some(outcome) = outcome {
            l.number("duration", millis(outcome.took));
        }
        l.nested("http_request", |l| http_request(l, request, outcome));
        // The class demands the code; without an answer there is none.
        if let Some((outcome, code)) = outcome.and_then(|o| Some((o, o.status?))) {
            l.nested("http_response", |l| {
                l.number("body_length", outcome.received);
                l.number("code", u64::from(code));
                if let Some(latency) = outcome.latency {
                    l.number("latency", millis(latency));
                }
            });
        }
        l.nested("metadata", |l| {
            let sent = || header("x-ms-correlation-request-id");
            l.text(
                "correlation_uid",
                outcome.and_then(|o| o.correlation.as_deref()).and_then(word).or_else(sent),
            );
            product(l);
            l.texts("profiles", ["cloud", "security_control"]);
            l.text("uid", request.decision.written(&mut [0; 36]));
            l.word("version", OCSF);
        });
        l.list("resources", acts.iter().take(listed.max(1)), |l, act| {
            let id = act.resource.as_ref();
            l.text("name", id.and_then(|r| r.as_str().rsplit('/').next()));
            l.text("uid", id.map(|r| r.as_str()));
        });
        l.number("severity_id", 1);
        l.nested("src_endpoint", |l| {
            address(l, request.source.ip());
            l.number("port", u64::from(request.source.port()));
        });
        l.text(
            "status_code",
            match phase {
                Phase::Intent => None,
                Phase::Denial(denial) => Some(denial.code.name()),
                Phase::Outcome(outcome) => Some(outcome.ending.name()),
            },
        );
        l.number(
            "status_id",
            match phase {
                Phase::Intent => 0,
                Phase::Denial(_) => 2,
                Phase::Outcome(o) => {
                    if o.ending.is_success() && o.status.is_none_or(|s| s < 400) {
                        1
                    } else {
                        2
                    }
                }
            },
        );
        l.number("time", parts.now.as_millis());
        l.number("type_uid", 600_300 + activity);
        l.nested("unmapped", |l| l.nested("amlgate", |l| own::write(l, parts, acts.len(), listed)));
    })
}

fn actor(l: &mut Line, caller: &Caller, judgement: Option<&Judgement>, parts: &Parts<'_>, listed: usize) {
    l.text("app_uid", caller.client.as_deref());
    let applied: &[EntryRef] = judgement.map_or(&[], |j| &j.allowed_by);
    l.list("authorizations", applied.iter().take(listed), |l, entry| {
        l.word("decision", "allow");
        l.nested("policy", |l| {
            l.text("name", &*entry.name);
            l.joined("uid", &[&entry.file, ":", Digits::of(u64::from(entry.line)).as_str()]);
            if let Some(digest) = parts.policy_digest {
                l.hex("version", short(digest));
            }
        });
    });
    l.nested("idp", |l| l.text("name", &*caller.id.issuer));
    l.nested("session", |l| {
        l.hex("credential_uid", short(&parts.thumbprint.tag(&caller.token_digest)));
        l.number("expiration_time", caller.expires.as_millis());
    });
    l.nested("user", |l| {
        l.text("domain", caller.tenant.as_deref());
        let groups: Option<&[Box<str>]> = match &caller.groups {
            Groups::Known(groups) => Some(groups),
            Groups::Asked(asked) => asked.member().ok(),
            Groups::Overage => None,
        };
        if let Some(groups) = groups {
            l.list("groups", groups.iter().take(if listed == 0 { 0 } else { MAX_GROUPS }), |l, group| {
                l.text("uid", &**group);
            });
        }
        l.text("name", caller.display.as_deref());
        l.number(
            "type_id",
            // OCSF has no word for software that acts: its subject is the user.
            if caller.kind.has_human() { 1 } else { 4 },
        );
        l.joined("uid", &[&caller.id.issuer, ":", &caller.id.subject]);
        if let Some(human) = &caller.human {
            l.joined("uid_alt", &[&human.issuer, ":", &human.subject]);
        }
    });
}

fn http_request(l: &mut Line, request: &RequestFacts, outcome: Option<&super::Outcome>) {
    // Keys, and the values that are known to be harmless; what does not look like a key is counted.
    let plain = |key: &str| PLAIN_QUERY.iter().any(|p| p.eq_ignore_ascii_case(key));
    let (mut arguments, mut withheld) = (String::new(), 0);
    for (number, (key, value)) in request.target.query().pairs().enumerate() {
        let Some(key) = word(key).filter(|k| number < MAX_LISTED && !k.is_empty()) else {
            withheld += 1;
            continue;
        };
        if !arguments.is_empty() {
            arguments.push('&');
        }
        arguments.push_str(key);
        if let Some(value) = word(value).filter(|_| plain(key)) {
            arguments.push('=');
            arguments.push_str(value);
        }
    }
    if withheld > 0 {
        let between = if arguments.is_empty() { "" } else { "&" };
        let _infallible = write!(arguments, "{between}…{withheld}");
    }
    l.text("args", (!arguments.is_empty()).then_some(arguments.as_str()));
    if let Some(outcome) = outcome {
        l.number("body_length", outcome.sent);
    }
    l.text("http_method", request.method.as_str());
    l.nested("url", |l| {
        l.text("hostname", request.target.host());
        l.text("path", request.target.path());
    });
    l.text("user_agent", request.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()));
}

/// `metadata.product`: the same in every class.
pub(super) fn product(l: &mut Line) {
    l.nested("product", product_name);
}

pub(super) fn product_name(l: &mut Line) {
    l.word("name", "amlgate");
    l.word("vendor_name", "amlgate");
    l.word("version", env!("CARGO_PKG_VERSION"));
}

pub(super) const fn ocsf() -> &'static str {
    OCSF
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The first 16 bytes: enough to tell apart, short enough to read.
fn short(bytes: &[u8; 32]) -> &[u8] {
    bytes.get(..16).unwrap_or_default()
}

fn address(l: &mut Line, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets().map(|part| Digits::of(u64::from(part)));
            l.joined("ip", &[a.as_str(), ".", b.as_str(), ".", c.as_str(), ".", d.as_str()]);
        }
        IpAddr::V6(ip) => l.text("ip", &*ip.to_string()),
    }
}
