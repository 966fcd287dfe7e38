//! The line of each event: its OCSF class, and what is amlgate's own in `unmapped`.

use std::net::IpAddr;

use super::{Event, GrantChange, RunBecame, Tunnel, Verdict};
use crate::{
    audit::{
        canonical::{self, Line},
        record,
    },
    gates::break_glass::Became,
    time::Timestamp,
};

/// At most so many policy files are named.
const MAX_FILES: usize = 64;

/// Of which OCSF class an event is, and who and what stands in the places that the class has.
struct Form<'a> {
    class: u64,
    activity: u64,
    severity: u64,
    failed: bool,
    /// The caller, where a class has one: issuer and subject.
    actor: Option<&'a str>,
    peer: Option<IpAddr>,
    /// `api.operation`, `entity.name` or `service.name`.
    subject: &'a str,
}

const API: u64 = 6_003;
const LIFE_CYCLE: u64 = 6_002;
const ENTITY: u64 = 3_004;
const AUTHENTICATION: u64 = 3_002;
const USER_ACCESS: u64 = 3_005;

impl Event {
    fn form(&self) -> Form<'_> {
        let form = |class, activity, subject| Form {
            class,
            activity,
            severity: 1,
            failed: false,
            actor: None,
            peer: None,
            subject,
        };
        let failed = |form: Form<'static>| Form { severity: 3, failed: true, ..form };
        match self {
            Self::Started { .. } => form(LIFE_CYCLE, 3, "gate"),
            Self::Stopped | Self::LogEnded => form(LIFE_CYCLE, 4, "gate"),
            Self::Recovered { .. } | Self::RecordResumed { .. } => failed(form(LIFE_CYCLE, 99, "gate")),
            Self::Exporter { problem, .. } => {
                let form = form(LIFE_CYCLE, 99, "gate");
                if problem.is_some() { failed(form) } else { form }
            }
            Self::PoliciesChanged { .. } => form(ENTITY, 3, "policies"),
            Self::Reloaded { what, .. } => form(ENTITY, 3, what),
            Self::ReloadRefused { what, .. } => failed(form(ENTITY, 99, what)),
            Self::CredentialChanged { .. } => form(ENTITY, 3, "credentials"),
            Self::ExporterChanged { .. } => form(ENTITY, 3, "sinks"),
            Self::SigningKeyChanged { .. } => form(ENTITY, 3, "audit signing key"),
            Self::RecordsRetired { .. } => form(ENTITY, 4, "audit log"),
            Self::RecordsArchived { .. } => form(ENTITY, 3, "audit log"),
            Self::TunnelOpened(tunnel) | Self::TunnelEnded { tunnel, .. } => {
                Form { actor: Some(&tunnel.caller), peer: Some(tunnel.peer), ..form(API, 99, "CONNECT") }
            }
            Self::SignedIn { caller, issuer, peer, refused } => Form {
                severity: if refused.is_some() { 3 } else { 1 },
                failed: refused.is_some(),
                actor: caller.as_deref().or(Some(issuer)),
                peer: Some(*peer),
                ..form(AUTHENTICATION, 1, "amlgate")
            },
            Self::SignedOut { caller, .. } => {
                Form { actor: Some(caller), ..form(AUTHENTICATION, 2, "amlgate") }
            }
            Self::Approval { requester, by, verdict, .. } => Form {
                actor: by.as_deref().or(Some(requester)),
                ..form(
                    API,
                    if *verdict == Verdict::Asked { 1 } else { 3 },
                    match verdict {
                        Verdict::Asked => "amlgate/requests/write",
                        Verdict::Voted | Verdict::Approved => "amlgate/requests/approve/action",
                        Verdict::Denied => "amlgate/requests/deny/action",
                        Verdict::Expired => "amlgate/requests/expire/action",
                        Verdict::Withdrawn => "amlgate/requests/withdraw/action",
                    },
                )
            },
            Self::Grant { subject, change, .. } => Form {
                actor: Some(subject),
                ..form(
                    USER_ACCESS,
                    match change {
                        GrantChange::Given => 1,
                        GrantChange::Revoked | GrantChange::Expired => 2,
                        GrantChange::Used => 99,
                    },
                    "amlgate",
                )
            },
            Self::BreakGlass { opener, by, became, .. } => {
                let form = match became {
                    Became::Opened => form(USER_ACCESS, 1, "amlgate"),
                    Became::Closed | Became::Expired => form(USER_ACCESS, 2, "amlgate"),
                    Became::Asked
                    | Became::Confirmed
                    | Became::Dropped
                    | Became::Reviewed
                    | Became::Overdue => form(API, became_activity(*became), became_action(*became)),
                };
                let severity = became_severity(*became);
                let failed = *became == Became::Overdue;
                let actor = match form.class {
                    // Whose access it is.
                    USER_ACCESS => Some(opener),
                    _ => by.as_ref().or(Some(opener)),
                };
                Form { severity, failed, actor: actor.map(String::as_str), ..form }
            }
            Self::BreakGlassRefused { caller, peer, .. } => Form {
                actor: Some(caller),
                peer: Some(*peer),
                severity: 4,
                ..failed(form(API, 99, "amlgate/break-glass/open/action"))
            },
            Self::BreakGlassCodes { holder, peer, .. } => Form {
                actor: Some(holder),
                peer: Some(*peer),
                severity: 3,
                ..form(API, 1, "amlgate/break-glass/codes/write")
            },
            Self::BreakGlassCode { holder, peer, why, .. } => Form {
                actor: holder.as_deref().or(Some("unknown")),
                peer: Some(*peer),
                severity: 4,
                failed: why.is_some(),
                ..form(AUTHENTICATION, 1, "amlgate")
            },
            Self::RecordRead { caller, peer, .. } => {
                Form { actor: Some(caller), peer: Some(*peer), ..form(API, 2, "amlgate/audit/read") }
            }
            Self::BodyRead { caller, peer, .. } => {
                Form { actor: Some(caller), peer: Some(*peer), ..form(API, 2, "amlgate/audit/bodies/read") }
            }
            Self::Stated { caller, stated, .. } => Form {
                actor: Some(caller),
                failed: stated.is_err(),
                severity: if stated.is_err() { 4 } else { 1 },
                ..form(API, 1, "amlgate/lineage/write")
            },
            Self::UnstatedModel { .. } => {
                Form { severity: 4, failed: true, ..form(API, 99, "amlgate/lineage/write") }
            }
            Self::Trigger { person, became, .. } => Form {
                actor: person.as_deref(),
                failed: *became == RunBecame::Refused,
                severity: if *became == RunBecame::Refused { 3 } else { 1 },
                ..form(API, if *became == RunBecame::Started { 1 } else { 99 }, "amlgate/triggers/run/action")
            },
            Self::Refused { peer, .. } => Form { peer: Some(*peer), ..failed(form(API, 99, "unknown")) },
        }
    }

    pub(in crate::audit) fn render(&self, now: Timestamp) -> Vec<u8> {
        let form = self.form();
        let Form { class, activity, .. } = form;
        let category = class / 1_000;
        Line::new(canonical::MAX_TEXT).object(|l| {
            l.number("activity_id", activity);
            match (class, form.actor) {
                (API, Some(actor)) => l.nested("actor", |l| l.nested("user", |l| l.text("uid", actor))),
                (API, None) => l.nested("actor", |l| l.text("app_name", "unknown")),
                (USER_ACCESS, _) => self.giver(l),
                _ => {}
            }
            if class == API {
                l.nested("api", |l| l.text("operation", form.subject));
            }
            if class == LIFE_CYCLE {
                l.nested("app", record::product_name);
            }
            l.number("category_uid", category);
            l.number("class_uid", class);
            if class == API {
                l.nested("cloud", |l| l.word("provider", "Azure"));
            }
            if class == ENTITY {
                l.nested("entity", |l| {
                    l.text("name", form.subject);
                    l.text("type", "configuration");
                });
            }
            l.nested("metadata", |l| {
                record::product(l);
                if class == API {
                    l.texts("profiles", ["cloud"]);
                }
                l.text("uid", &*uuid::Uuid::now_v7().to_string());
                l.text("version", record::ocsf());
            });
            if let Self::Grant { entry, .. } = self {
                l.texts("privileges", [&**entry]);
            }
            if let (Self::BreakGlass { .. }, USER_ACCESS) = (self, class) {
                l.texts("privileges", ["break-glass"]);
            }
            if class == AUTHENTICATION {
                l.nested("service", |l| l.text("name", form.subject));
            }
            l.number("severity_id", form.severity);
            if class == API || form.peer.is_some() {
                l.nested("src_endpoint", |l| match form.peer {
                    Some(peer) => l.text("ip", &*peer.to_canonical().to_string()),
                    None => l.text("svc_name", "amlgate"),
                });
            }
            if let Self::SignedIn { refused: Some(refused), .. } = self {
                l.text("status_detail", *refused);
            }
            l.number("status_id", if form.failed { 2 } else { 1 });
            l.number("time", now.as_millis());
            l.number("type_uid", class * 100 + activity);
            l.nested("unmapped", |l| l.nested("amlgate", |l| self.own(l)));
            if let (AUTHENTICATION | USER_ACCESS, Some(user)) = (class, form.actor) {
                l.nested("user", |l| l.text("uid", user));
            }
        })
    }

    /// Who gave or took a grant, or opened or closed a break-glass.
    fn giver(&self, l: &mut Line) {
        if let Self::Grant { by: Some(by), .. } | Self::BreakGlass { by: Some(by), .. } = self {
            l.nested("actor", |l| l.nested("user", |l| l.text("uid", &**by)));
        }
    }

    fn own(&self, l: &mut Line) {
        match self {
            Self::Started { configuration, policies, files } => {
                l.hex("configuration_digest", configuration);
                named(l, "started");
                listed(l, files);
                l.text("form", record::FORM);
                l.hex("policy_digest", policies);
            }
            Self::Stopped => plain(l, "stopped"),
            Self::LogEnded => plain(l, "log_ended"),
            Self::PoliciesChanged { policies, generation, files } => {
                named(l, "policies_changed");
                listed(l, files);
                l.text("form", record::FORM);
                l.number("generation", *generation);
                l.hex("policy_digest", policies);
            }
            Self::ReloadRefused { what, problem, count } => {
                l.number("count", *count);
                plain(l, "reload_refused");
                l.text("problem", &**problem);
                l.text("what", *what);
            }
            Self::Reloaded { what, digest } => {
                l.hex("digest", digest);
                plain(l, "reloaded");
                l.text("what", *what);
            }
            Self::CredentialChanged { name, place } => {
                l.text("credential", &**name);
                plain(l, "credential_changed");
                l.text("place", &**place);
            }
            Self::ExporterChanged { sink, places } => {
                plain(l, "exporter_changed");
                l.texts("places", places.iter().map(String::as_str));
                l.text("sink", &**sink);
            }
            Self::SigningKeyChanged { before, after } => {
                l.text("after", &**after);
                l.text("before", &**before);
                plain(l, "signing_key_changed");
            }
            Self::RecordsRetired { before } => {
                l.number("before", *before);
                plain(l, "records_retired");
            }
            Self::RecordsArchived { before, first, url, digest } => {
                l.number("before", *before);
                named(l, "records_archived");
                l.number("first", *first);
                l.text("form", record::FORM);
                l.hex("sha256", digest);
                l.text("url", &**url);
            }
            Self::Recovered { torn_bytes, unresolved } => {
                plain(l, "recovered");
                l.number("torn_bytes", *torn_bytes);
                l.texts("unresolved", unresolved.iter().take(256).map(String::as_str));
                l.number("unresolved_count", unresolved.len() as u64);
            }
            Self::RecordResumed { since, why, refused, unrecorded } => {
                plain(l, "record_resumed");
                l.text("problem", &**why);
                l.number("refused", *refused);
                l.number("since", *since);
                l.number("unrecorded_reads", *unrecorded);
            }
            Self::TunnelOpened(tunnel) => {
                plain(l, "tunnel_opened");
                to(l, tunnel);
                l.text("tunnel", &*tunnel.id.to_string());
            }
            Self::TunnelEnded { tunnel, sent, received, ending, because } => {
                l.text("because", because.as_deref());
                l.text("ending", *ending);
                plain(l, "tunnel_ended");
                to(l, tunnel);
                l.number("received", *received);
                l.number("sent", *sent);
                l.text("tunnel", &*tunnel.id.to_string());
            }
            Self::SignedIn { issuer, refused, .. } => {
                plain(l, if refused.is_some() { "sign_in_refused" } else { "signed_in" });
                l.text("issuer", &**issuer);
            }
            Self::SignedOut { issuer, .. } => {
                plain(l, "signed_out");
                l.text("issuer", &**issuer);
            }
            Self::Approval { id, entry, requester, claimed, by, verdict, reason } => {
                l.text("by", by.as_deref());
                l.text("claimed", claimed.as_deref());
                l.text("entry", &**entry);
                plain(
                    l,
                    match verdict {
                        Verdict::Asked => "approval_asked",
                        Verdict::Voted => "approval_voted",
                        Verdict::Approved => "approved",
                        Verdict::Denied => "approval_denied",
                        Verdict::Expired => "approval_expired",
                        Verdict::Withdrawn => "approval_withdrawn",
                    },
                );
                l.text("reason", reason.as_deref());
                l.text("request", &**id);
                l.text("requester", &**requester);
            }
            Self::Grant { id, entry, change, until, .. } => {
                l.text("entry", &**entry);
                plain(
                    l,
                    match change {
                        GrantChange::Given => "grant_given",
                        GrantChange::Used => "grant_used",
                        GrantChange::Revoked => "grant_revoked",
                        GrantChange::Expired => "grant_expired",
                    },
                );
                l.text("grant", &**id);
                l.number("until", *until);
            }
            Self::BreakGlass { id, opener, by, became, reason, until } => {
                l.text("break_glass", &**id);
                l.text("by", by.as_deref());
                plain(
                    l,
                    match became {
                        Became::Asked => "break_glass_asked",
                        Became::Confirmed => "break_glass_confirmed",
                        Became::Opened => "break_glass_opened",
                        Became::Closed => "break_glass_closed",
                        Became::Expired => "break_glass_expired",
                        Became::Dropped => "break_glass_dropped",
                        Became::Reviewed => "break_glass_reviewed",
                        Became::Overdue => "break_glass_review_overdue",
                    },
                );
                l.text("opener", &**opener);
                l.text("reason", reason.as_deref());
                l.number("until", *until);
            }
            Self::BreakGlassRefused { why, .. } => {
                plain(l, "break_glass_refused");
                l.text("why", *why);
            }
            Self::BreakGlassCodes { count, until, .. } => {
                l.number("count", *count);
                plain(l, "break_glass_codes_made");
                l.number("until", *until);
            }
            Self::BreakGlassCode { glass, why, .. } => {
                l.text("break_glass", glass.as_deref());
                plain(l, if why.is_some() { "break_glass_code_refused" } else { "break_glass_code_used" });
                l.text("why", *why);
            }
            Self::Exporter { sink, problem, behind } => {
                l.number("behind", *behind);
                plain(l, if problem.is_some() { "exporter_failing" } else { "exporter_recovered" });
                l.text("problem", problem.as_deref());
                l.text("sink", &**sink);
            }
            Self::RecordRead { decision, query, records, .. } => {
                l.text("decision", decision.written(&mut [0; 36]));
                plain(l, "record_read");
                l.text("query", &**query);
                l.number("records", *records);
            }
            Self::BodyRead { decision, blob, of, side, .. } => {
                l.text("blob", &**blob);
                l.text("decision", decision.written(&mut [0; 36]));
                plain(l, "body_read");
                l.text("of", &**of);
                l.text("side", *side);
            }
            Self::Stated { model, decision, stated, .. } => {
                l.text("decision", &**decision);
                match stated {
                    Ok(signed) => {
                        l.text("digest", &*signed.digest);
                        plain(l, "model_stated");
                        l.text("key", &*signed.key);
                        l.text("model", &**model);
                        l.hex("provenance", &signed.provenance);
                        l.hex("summary", &signed.summary);
                    }
                    Err(problem) => {
                        plain(l, "model_not_stated");
                        l.text("model", &**model);
                        l.text("problem", &**problem);
                    }
                }
            }
            Self::UnstatedModel { model, hook, registered, seen } => {
                plain(l, "unstated_model");
                l.text("hook", &**hook);
                l.text("model", &**model);
                l.number("registered", *registered);
                l.text("seen", if *seen { "yes" } else { "not known" });
            }
            Self::Trigger {
                run,
                trigger,
                server,
                project,
                change,
                commit,
                became,
                resource,
                decision,
                why,
                ..
            } => {
                l.number("change", *change);
                l.text("commit", &**commit);
                l.text("decision", decision.as_deref());
                plain(l, became.event());
                l.text("project", &**project);
                l.text("resource", resource.as_deref());
                l.text("run", &**run);
                l.text("server", &**server);
                l.text("trigger", &**trigger);
                l.text("why", why.as_deref());
            }
            Self::Refused { reason, count, .. } => {
                l.number("count", *count);
                plain(l, "refused");
                l.text("reason", *reason);
            }
        }
    }
}

const fn became_activity(became: Became) -> u64 {
    match became {
        Became::Asked => 1,
        Became::Confirmed | Became::Opened | Became::Closed | Became::Expired => 3,
        Became::Dropped | Became::Reviewed => 3,
        Became::Overdue => 99,
    }
}

const fn became_action(became: Became) -> &'static str {
    match became {
        Became::Asked | Became::Opened => "amlgate/break-glass/open/action",
        Became::Confirmed => "amlgate/break-glass/confirm/action",
        Became::Closed | Became::Expired | Became::Dropped => "amlgate/break-glass/close/action",
        Became::Reviewed | Became::Overdue => "amlgate/break-glass/review/action",
    }
}

/// Of OCSF's: 1 tells, 4 is high, 5 critical.
const fn became_severity(became: Became) -> u64 {
    match became {
        Became::Opened => 5,
        Became::Asked | Became::Confirmed | Became::Closed | Became::Expired | Became::Overdue => 4,
        Became::Dropped | Became::Reviewed => 1,
    }
}

fn named(l: &mut Line, event: &'static str) {
    l.text("event", event);
}

fn plain(l: &mut Line, event: &'static str) {
    named(l, event);
    l.text("form", record::FORM);
}

fn to(l: &mut Line, tunnel: &Tunnel) {
    l.text("host", &*tunnel.host);
    l.number("port", u64::from(tunnel.port));
}

/// Each policy file with its digest; of more than are listed the number.
fn listed(l: &mut Line, files: &super::Files) {
    l.list("files", files.iter().take(MAX_FILES), |l, (name, digest)| {
        l.text("name", &**name);
        l.hex("sha256", digest);
    });
    if files.len() > MAX_FILES {
        l.number("files_count", files.len() as u64);
    }
}
