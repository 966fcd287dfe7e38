//! `lineage MODEL` and `lineage FILE`: the chain of each model, drawn in the terminal, with what each link rests on.

use std::{fmt::Write as _, process::ExitCode};

use super::{
    super::{Output, print_data, put},
    flat,
    source::{Source, Trusted},
};
use crate::lineage::{Basis, Chain, Link, ModelId};

/// Shows what is told of a model, or in a file.
pub fn run(what: &str, trusted: &Trusted) -> ExitCode {
    let (chains, code) = match Source::new(trusted).chains(what) {
        Ok(found) => found,
        Err(code) => return code,
    };
    if trusted.output() == Output::Table {
        for (chain, signers) in &chains {
            put(format_args!("{}", drawn(chain, signers)));
        }
    } else {
        let data: Vec<&Chain> = chains.iter().map(|(chain, _)| chain).collect();
        print_data(&data, trusted.output());
    }
    code
}

/// One line of the drawing: what, which, and what that rests on.
fn row(out: &mut String, indent: &str, what: &str, which: &str, basis: Option<Basis>) {
    let shown = match basis {
        Some(Basis::Witnessed) => "proven: the gate saw it",
        Some(Basis::Read) => "proven: the gate read it",
        Some(Basis::Claimed) => "only said",
        None => "",
    };
    let gap = if shown.is_empty() { "" } else { "   " };
    // Strings take what is written.
    let _infallible = writeln!(out, "{indent}{:<12} {}{gap}{shown}", flat(what), flat(which));
}

/// The chain as lines, without a line's end behind the last.
pub(super) fn drawn(chain: &Chain, signers: &[String]) -> String {
    let mut out = String::new();
    let name = ModelId::parse(&chain.model).map_or_else(|| chain.model.clone(), |model| model.short());
    row(&mut out, "", &name, &chain.model, None);
    let digests: Vec<String> =
        chain.subject.digest.iter().map(|(kind, value)| format!("{kind}:{value}")).collect();
    let of = match chain.subject.digest_of.as_deref() {
        Some("id") => "   of its id: Azure ML gave none of its content",
        _ => "",
    };
    row(&mut out, "│  ", "digest", &format!("{}{of}", digests.join(" ")), None);
    row(&mut out, "│  ", "registered", &format!("by {}", chain.caller), Some(Basis::Witnessed));
    row(&mut out, "└─ ", "job", &chain.job, Some(Basis::Read));
    let times = [("began", &chain.started), ("ended", &chain.finished)];
    for (what, at) in times.into_iter().filter_map(|(what, at)| Some((what, at.as_ref()?))) {
        row(&mut out, "   │  ", what, at, Some(Basis::Read));
    }
    let mut went_in = |what: &str, link: &Link| {
        let digest = link.digest.as_ref().map(|digest| format!(" {digest}")).unwrap_or_default();
        row(&mut out, "   │  ", what, &format!("{}{digest}", link.id), Some(link.basis));
    };
    if let Some(code) = &chain.code {
        went_in("code", code);
    }
    if let Some(environment) = &chain.environment {
        went_in("environment", environment);
    }
    for (name, link) in &chain.data {
        went_in(&format!("data {name}"), link);
    }
    for (name, value) in &chain.metrics {
        row(&mut out, "   │  ", &format!("metric {name}"), value, Some(Basis::Claimed));
    }
    row(&mut out, "   └─ ", "commit", &chain.commit.id, Some(chain.commit.basis));
    row(&mut out, "      │  ", "of", &format!("{} on {}", chain.repository, chain.branch), None);
    row(
        &mut out,
        "      └─ ",
        "change",
        &format!("{} {}", chain.change, chain.change_url),
        Some(Basis::Read),
    );
    if let Some(owner) = &chain.change_owner {
        row(&mut out, "         │  ", "of", owner, None);
    }
    let last = chain.approvers.len().saturating_sub(1);
    for (number, approver) in chain.approvers.iter().enumerate() {
        let branch = if number == last { "         └─ " } else { "         ├─ " };
        row(&mut out, branch, "approved by", approver, Some(Basis::Read));
    }
    row(
        &mut out,
        "",
        "let in",
        &format!("by `{}`, {}, decision {}", chain.entry, chain.decided, chain.decision),
        None,
    );
    row(&mut out, "", "stated", &format!("by {}, signed by {}", chain.gate, signers.join(", ")), None);
    out.truncate(out.trim_end().len());
    out
}
