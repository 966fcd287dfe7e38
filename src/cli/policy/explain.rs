//! One decision in print: what decided, which entries come close, what would turn it.

use std::{collections::BTreeSet, process::ExitCode};

use serde_json::json;

use crate::{
    cli::{Output, exit, print_data, put},
    policy::{DenialCode, EntryTrace, PolicySet, Question, Verdict, described::Described, flip},
};

/// Prints a decision: what decided, every entry that was considered, and what would turn it.
pub fn explain(set: &PolicySet, described: &Described, all: bool, output: Output) -> ExitCode {
    let judgement = described.judge(set);
    let question = described.question();
    let traces = question.as_ref().map(|q| set.trace(q)).unwrap_or_default();
    let flips = question.as_ref().map(|q| flip::flips(set, q)).unwrap_or_default();
    let hinges = described.hinges(set);
    let wanted = judgement.wanted_approvals();
    let free = judgement.denial.is_none() && wanted.is_none();
    let code = if free { exit::DONE } else { exit::FINDING };
    if output != Output::Table {
        let data = json!({
            "decision": if judgement.denial.is_some() {
                "deny"
            } else if wanted.is_some() {
                "needs_approval"
            } else {
                "allow"
            },
            "about": described.about(),
            "code": judgement
                .denial
                .as_ref()
                .map(|d| d.code.name())
                .or(wanted.as_ref().map(|_| DenialCode::ApprovalRequired.name())),
            "cause": judgement.denial.as_ref().map(|d| &d.cause).or(wanted.as_ref()),
            "cure": judgement.denial.as_ref().map(|d| &d.cure),
            "allowed_by": judgement.allowed_by,
            "through": described.assignment(),
            "would_deny": judgement.would_deny,
            "but": hinges
                .iter()
                .map(|(effect, denial)| json!({"effect": effect.name(), "code": denial.code.name(), "cause": denial.cause}))
                .collect::<Vec<_>>(),
            "entries": traces.iter().map(trace_data).collect::<Vec<_>>(),
            "flips": flips.sets.iter().map(|f| f.iter().map(ToString::to_string).collect()).collect::<Vec<Vec<_>>>(),
        });
        print_data(&data, output);
        return code;
    }
    put(format_args!("{}", described.about()));
    match &judgement.denial {
        None => {
            let by: BTreeSet<_> = judgement.allowed_by.iter().map(|e| format!("`{}`", e.name)).collect();
            put(format_args!("allowed by {}", by.into_iter().collect::<Vec<_>>().join(", ")));
            if let Some(wanted) = &wanted {
                put(format_args!("but not before people say yes: {wanted}"));
            }
            if let Some(assignment) = described.assignment() {
                put(format_args!("through {assignment}"));
            }
        }
        Some(denial) => {
            put(format_args!("denied, {}: {}", denial.code.name(), denial.cause));
            put(format_args!("the caller is told: {}", denial.cure));
        }
    }
    for (effect, denial) in &hinges {
        put(format_args!("but not where it brings about `{}`: {}", effect.name(), denial.cause));
    }
    for entry in &judgement.would_deny {
        put(format_args!("would be denied by `{}`, which is only watched yet", entry.name));
    }
    for trace in traces.iter().filter(|t| all || is_concerned(t)) {
        print_trace(trace, question.as_ref());
    }
    if judgement.denial.is_some() {
        put(format_args!(""));
        if flips.sets.is_empty() {
            put(format_args!("nothing turns it: what cannot be named or evaluated is let through by nobody"));
        } else {
            put(format_args!("any one of these turns it:"));
            for flip in &flips.sets {
                let changes: Vec<_> = flip.iter().map(ToString::to_string).collect();
                put(format_args!("  - {}", changes.join(", and ")));
            }
            if !flips.exhaustive {
                put(format_args!(
                    "  (there are so many subjects that not all of their combinations were tried)"
                ));
            }
        }
    }
    code
}

/// Whether an entry comes close: it counts, or misses by one selector.
fn is_concerned(trace: &EntryTrace) -> bool {
    let missed: BTreeSet<_> =
        trace.selectors.iter().filter(|s| s.verdict != Verdict::Matches).map(|s| s.selector.name()).collect();
    trace.matches || missed.len() <= 1
}

fn print_trace(trace: &EntryTrace, question: Option<&Question<'_>>) {
    let list = format!("{:?}", trace.list).to_lowercase();
    let counts = if trace.matches { "counts" } else { "does not count" };
    let watched = if trace.dry_run { ", only watched" } else { "" };
    put(format_args!(""));
    put(format_args!(
        "{list} `{}` ({}:{}) {counts}{watched}",
        trace.entry.name, trace.entry.file, trace.entry.line
    ));
    if let Some(approval) = &trace.approval {
        put(format_args!("    with the approval of {}", approval.words()));
    }
    for selector in &trace.selectors {
        let verdict = match selector.verdict {
            Verdict::Matches => "yes",
            Verdict::Fails => "no ",
            Verdict::Unevaluable => "?  ",
        };
        let act = selector.act.and_then(|n| question?.operation.acts.get(n));
        let many = question.is_some_and(|q| q.operation.acts.len() > 1);
        let of = act.filter(|_| many).map(|a| format!(" [{}]", a.action.as_str())).unwrap_or_default();
        put(format_args!("    {verdict} {}{of}: {}", selector.selector.name(), selector.detail));
    }
}

fn trace_data(trace: &EntryTrace) -> serde_json::Value {
    let selectors: Vec<_> = trace
        .selectors
        .iter()
        .map(|s| {
            let verdict = match s.verdict {
                Verdict::Matches => "matches",
                Verdict::Fails => "fails",
                Verdict::Unevaluable => "unevaluable",
            };
            json!({"selector": s.selector.name(), "act": s.act, "verdict": verdict, "detail": s.detail})
        })
        .collect();
    json!({
        "list": format!("{:?}", trace.list).to_lowercase(),
        "entry": trace.entry,
        "counts": trace.matches,
        "dry_run": trace.dry_run,
        "approval": trace.approval.as_ref().map(|approval| approval.words()),
        "selectors": selectors,
    })
}
