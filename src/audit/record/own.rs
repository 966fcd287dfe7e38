//! `unmapped.amlgate` of a record: what the gate knows and OCSF has no name for.

use super::{
    super::{
        bodies::{BodyNote, Kept},
        canonical::Line,
    },
    FORM, MAX_GROUPS, MAX_LISTED, Parts, Phase,
};
use crate::{
    azureml::{Allocation, Kind, Protocol},
    gates::review::Evidence,
    identity::{Caller, GerritGroup, Groups},
    policy::{EntryRef, Obligation, SecretTreatment, Standing},
};

/// The actors behind the one who acts, nearest first, as the token names them.
fn actors_behind(caller: &Caller) -> Vec<&str> {
    let mut behind = Vec::new();
    let mut next = caller.claims.get("act").and_then(|act| act.get("act"));
    while let Some(actor) = next {
        let name = actor.get("client_id").or_else(|| actor.get("sub"));
        behind.extend(name.and_then(serde_json::Value::as_str));
        next = actor.get("act");
    }
    behind
}

/// The groups of code hosts that were asked about: those that the caller is in, all, and those that could
/// not be read. Nothing where they are more than `most`: of a part nothing could be concluded.
fn reviewers(l: &mut Line, caller: &Caller, most: usize) {
    let Some(reviewers) = &caller.reviewers else { return };
    let Some(about) = reviewers.about().filter(|about| about.len() <= most) else { return };
    let name = |group: &GerritGroup| format!("{}/{}", group.server, group.group);
    let member: Vec<_> = reviewers.member().iter().map(name).collect();
    let asked: Vec<_> = about.iter().map(name).collect();
    let unread: Vec<_> = reviewers.unread().iter().map(|(group, _)| name(group)).collect();
    l.texts("gerrit_groups", member.iter().map(String::as_str));
    l.texts("gerrit_groups_asked", asked.iter().map(String::as_str));
    l.texts("gerrit_groups_unread", unread.iter().map(String::as_str));
}

pub(super) fn write(l: &mut Line, parts: &Parts<'_>, acts: usize, listed: usize) {
    let Parts { phase, operation, judgement, .. } = *parts;
    if let Some(operation) = operation.filter(|_| acts > 1) {
        l.list("acts", operation.acts.iter().take(listed), |l, act| {
            l.text("action", act.action.as_str());
            l.text("resource", act.resource.as_ref().map(|r| r.as_str()));
        });
        l.number("acts_count", acts as u64);
    }
    if parts.caller.kind.is_agent() {
        l.nested("agent", |l| {
            l.word("acts_for", if parts.caller.kind.has_human() { "human" } else { "itself" });
            l.texts("through", actors_behind(parts.caller));
            l.text("uid", parts.caller.client.as_deref());
        });
    }
    if let Some(reserved) = operation.and_then(|o| o.facts.allocates.as_ref()) {
        l.nested("allocates", |l| allocates(l, reserved));
    }
    if let Phase::Outcome(outcome) = phase {
        l.text("because", outcome.because.as_deref());
    }
    l.list("bodies", parts.bodies, body);
    if let Some(glass) = &parts.request.glass {
        l.nested("break_glass", |l| {
            l.text("id", &*glass.id);
            l.list("lifted", judgement.iter().flat_map(|j| &j.lifted).take(listed), entry_ref);
        });
    }
    if let Some(shown) = parts.caller.certificate() {
        l.hex("certificate", shown.fingerprint());
    }
    l.text("credential", parts.credential);
    l.text("decision", parts.request.decision.written(&mut [0; 36]));
    if let Phase::Denial(denial) = phase {
        l.nested("denial", |l| {
            l.text("cause", &*denial.cause);
            l.word("code", denial.code.name());
            if let Some(entry) = &denial.entry {
                l.nested("entry", |l| entry_ref(l, entry));
            }
            l.list("missing", denial.missing.iter().take(listed), |l, (action, scope)| {
                l.text("action", &**action);
                l.text("scope", &**scope);
            });
        });
    }
    l.texts("effects", operation.iter().flat_map(|o| o.effects.iter()).map(|e| e.name()));
    if let Phase::Outcome(outcome) = phase {
        l.word("ending", outcome.ending.name());
    }
    l.word("form", FORM);
    if parts.caller.from_pull_request {
        l.word("from_pull_request", "not_named");
    }
    let written = if listed == 0 { 0 } else { MAX_GROUPS };
    reviewers(l, parts.caller, written);
    l.texts("grants", parts.grants.iter().take(MAX_LISTED).map(|grant| &*grant.id));
    match &parts.caller.groups {
        Groups::Known(groups) => {
            if groups.len() > written {
                l.number("groups_count", groups.len() as u64);
            }
        }
        // Who a directory was asked about: of other groups nothing is known.
        Groups::Asked(asked) if asked.member().is_ok() => {
            let about = asked.about();
            l.texts("groups_asked", about.iter().take(written).map(|group| &**group));
            if about.len() > written {
                l.number("groups_count", about.len() as u64);
            }
        }
        Groups::Asked(_) => l.word("groups_unknown", "unread"),
        Groups::Overage => l.word("groups_unknown", "overage"),
    }
    l.text("kind", operation.map(|o| kind(o.kind)));
    l.word("mode", "reverse");
    let demanded = judgement.iter().flat_map(|j| &j.obligations).map(Obligation::entry);
    l.list("obligations", demanded.take(listed), entry_ref);
    l.text("operation", operation.map(|o| &*o.name));
    l.text(
        "phase",
        match phase {
            Phase::Intent => "intent",
            Phase::Outcome(_) => "outcome",
            Phase::Denial(_) => "denial",
        },
    );
    if let Some(digest) = parts.policy_digest {
        l.hex("policy_digest", digest);
    }
    l.word("proof", parts.caller.proven().name());
    let judgement = judgement.filter(|_| listed > 0);
    l.text("protocol", operation.map(|o| protocol(o.protocol)));
    l.list("read", judgement.iter().flat_map(|j| &j.read).take(listed), |l, (name, value)| {
        l.text("name", &**name);
        l.text("value", &*value.to_string());
    });
    l.list("reviews", parts.reviews.iter().take(MAX_LISTED), review);
    l.texts("roles", parts.caller.roles.iter().take(if listed == 0 { 0 } else { MAX_GROUPS }).map(|r| &**r));
    l.list("secrets", operation.iter().flat_map(|o| o.secrets.iter()), |l, class| {
        let treatment = judgement.iter().flat_map(|j| &j.secrets).find(|(c, _)| *c == class);
        l.word("class", class.name());
        l.text(
            "treatment",
            treatment.map(|(_, how)| match how {
                SecretTreatment::Substitute => "substitute",
                SecretTreatment::Reveal => "reveal",
            }),
        );
    });
    if listed == 0 {
        l.word("shortened", "the record would exceed 32 KiB");
    }
    l.text(
        "standing",
        match parts.standing {
            Standing::Entries => None,
            Standing::PollingCapability => Some("polling_capability"),
        },
    );
    // Whoever came with a handle has these instead of claims and groups.
    l.texts(
        "subjects_at_issue",
        parts.caller.subjects_at_issue.iter().flat_map(|all| all.iter()).map(|s| &**s),
    );
    l.texts("unclear_effects", operation.iter().flat_map(|o| o.unclear_effects.iter()).map(|e| e.name()));
    l.list(
        "unevaluable",
        judgement.iter().flat_map(|j| &j.unevaluable).take(listed),
        |l, (entry, selector, cause)| {
            l.text("cause", &**cause);
            l.text("entry", &*entry.name);
            l.text("selector", *selector);
        },
    );
    l.list("would_deny", judgement.iter().flat_map(|j| &j.would_deny).take(listed), entry_ref);
}

/// A body: what it is called and how much of it is kept, or why it is not.
fn body(l: &mut Line, note: &BodyNote) {
    let kept = &note.kept;
    if let Kept::Blob { digest, .. } = kept {
        l.hex("blob", digest);
    }
    if let Kept::Blob { cut, bytes, .. } = kept {
        l.text("cut", *cut);
        l.number("kept", *bytes);
    }
    if let Kept::Not(reason) = kept {
        l.text("reason", *reason);
    }
    if let Kept::Blob { redacted, .. } = kept {
        l.number("redacted", *redacted);
    }
    l.word("side", note.side.name());
    l.number("size", note.size);
    l.hex("tag", &note.tag);
    if let Kept::Blob { until: Some(until), .. } = kept {
        l.number("until", *until);
    }
}

/// What was found of a review.
fn review(l: &mut Line, found: &Evidence) {
    l.list("approvers", found.approvers.iter().take(MAX_LISTED), |l, approver| {
        l.number("account", approver.account);
        l.text("person", approver.person.as_deref());
    });
    l.number("approvers_count", found.approvers.len() as u64);
    l.number("asked", found.asked.as_millis());
    l.text("branch", &*found.branch);
    l.number("change", found.number);
    l.text("change_id", &*found.change_id);
    l.text("entry", &*found.entry);
    l.text("meta_rev_id", found.meta_rev_id.as_deref());
    l.text("project", &*found.project);
    l.list("requirements", found.requirements.iter().take(MAX_LISTED), |l, (name, status)| {
        l.text("name", &**name);
        l.text("status", &**status);
    });
    l.text("revision", &*found.revision);
    l.text("server", &*found.server);
    l.text("sha", &*found.sha);
    l.text("submit_type", found.submit_type.as_deref());
    l.text("submitted", &*found.submitted);
    l.text("url", &*found.url);
}

fn allocates(l: &mut Line, reserved: &Allocation) {
    if let Some(gpus) = reserved.gpus {
        l.number("gpus", gpus);
    }
    // Whole minutes: canonical JSON of fractions is a matter of opinion between libraries.
    if let Some(hours) = reserved.hours {
        l.number("minutes", (hours * 60.0).ceil().clamp(0.0, 1e12) as u64);
    }
    if let Some(nodes) = reserved.nodes {
        l.number("nodes", nodes);
    }
    l.texts("skus", reserved.skus.iter().flatten().take(MAX_LISTED).map(String::as_str));
}

fn entry_ref(l: &mut Line, entry: &EntryRef) {
    l.text("file", &*entry.file);
    l.number("line", u64::from(entry.line));
    l.text("name", &*entry.name);
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Delete => "delete",
        Kind::Action => "action",
    }
}

const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Arm => "arm",
        Protocol::Azureml => "azureml",
        Protocol::Inference => "inference",
        Protocol::Storage => "storage",
        Protocol::KeyVault => "key_vault",
        Protocol::Kubernetes => "kubernetes",
        Protocol::Http => "http",
    }
}
