//! One decision in print: what decided, which entries come close, what would turn it.

use std::{collections::BTreeSet, process::ExitCode};

use crate::{
    cli::{Output, exit, print_data, put},
    policy::{
        PolicySet,
        described::Described,
        explained::{Considered, Explained},
    },
};

/// Prints a decision: what decided, every entry that was considered, and what would turn it.
pub fn explain(set: &PolicySet, described: &Described, all: bool, output: Output) -> ExitCode {
    let explained = Explained::of(set, described);
    let code = if explained.code.is_none() { exit::DONE } else { exit::FINDING };
    if output != Output::Table {
        print_data(&explained, output);
        return code;
    }
    put(format_args!("{}", explained.about));
    let cause = explained.cause.as_deref();
    match &explained.cure {
        None => {
            let by: BTreeSet<_> = explained.allowed_by.iter().map(|e| format!("`{}`", e.name)).collect();
            put(format_args!("allowed by {}", by.into_iter().collect::<Vec<_>>().join(", ")));
            match (explained.decision, cause) {
                ("needs_review", Some(wanted)) => {
                    put(format_args!("but not before it is known to be reviewed: {wanted}"));
                }
                (_, Some(wanted)) => put(format_args!("but not before people say yes: {wanted}")),
                (_, None) => {}
            }
            if let Some(assignment) = &explained.through {
                put(format_args!("through {assignment}"));
            }
        }
        Some(cure) => {
            let code = explained.code.unwrap_or_default();
            put(format_args!("denied, {code}: {}", cause.unwrap_or_default()));
            put(format_args!("the caller is told: {cure}"));
        }
    }
    for but in &explained.but {
        put(format_args!("but not where it brings about `{}`: {}", but.effect, but.cause));
    }
    for entry in &explained.would_deny {
        put(format_args!("would be denied by `{}`, which is only watched yet", entry.name));
    }
    for entry in explained.entries.iter().filter(|entry| all || entry.close) {
        print_entry(entry);
    }
    if explained.cure.is_some() {
        print_flips(&explained);
    }
    code
}

fn print_entry(considered: &Considered) {
    let Considered { list, entry, .. } = considered;
    let counts = if considered.counts { "counts" } else { "does not count" };
    let watched = if considered.dry_run { ", only watched" } else { "" };
    put(format_args!(""));
    put(format_args!("{list} `{}` ({}:{}) {counts}{watched}", entry.name, entry.file, entry.line));
    if let Some(words) = &considered.approval {
        put(format_args!("    with the approval of {words}"));
    }
    if let Some(words) = &considered.review {
        put(format_args!("    demands {words}"));
    }
    for held in &considered.selectors {
        let verdict = match held.verdict {
            "matches" => "yes",
            "fails" => "no ",
            _ => "?  ",
        };
        let of = held.of.as_ref().map(|action| format!(" [{action}]")).unwrap_or_default();
        put(format_args!("    {verdict} {}{of}: {}", held.selector, held.detail));
    }
}

fn print_flips(explained: &Explained) {
    put(format_args!(""));
    if explained.flips.is_empty() {
        put(format_args!("nothing turns it: what cannot be named or evaluated is let through by nobody"));
        return;
    }
    put(format_args!("any one of these turns it:"));
    for flip in &explained.flips {
        put(format_args!("  - {}", flip.join(", and ")));
    }
    if !explained.exhaustive {
        put(format_args!("  (there are so many subjects that not all of their combinations were tried)"));
    }
}
