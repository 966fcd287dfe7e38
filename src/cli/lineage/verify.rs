//! `lineage verify`: are statements signed by a key that is trusted, and what do they vouch for?

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;

use super::{
    super::{Output, exit, print_data, put, report},
    flat,
    source::{Found, Trusted, Unchecked},
};
use crate::lineage::{Chain, ModelId, Opened, SUMMARY, Statement, Subject};

/// `lineage verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files of DSSE envelopes with in-toto statements: one as JSON, or one a line.
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The model that every statement must be about: `azureml://...`, or its Resource Manager id.
    #[arg(long, value_name = "MODEL", value_parser = model)]
    pub(super) model: Option<ModelId>,
    #[command(flatten)]
    pub(super) trusted: Trusted,
}

fn model(text: &str) -> Result<ModelId, String> {
    ModelId::parse(text).ok_or_else(|| {
        "write `azureml://subscriptions/S/resourceGroups/G/workspaces/W/models/M/versions/V`, or the id that \
         Resource Manager gives it"
            .to_owned()
    })
}

/// What became of one envelope.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    file: String,
    /// The line in the file, or 1.
    line: usize,
    pub verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicate_type: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<Subject>,
    /// The keys whose signatures are good.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<Chain>,
}

/// Runs the verb.
pub fn run(args: &Args) -> ExitCode {
    let verdicts = match judged(args) {
        Ok(verdicts) => verdicts,
        Err(failure) => return report(&failure, exit::unreachable()),
    };
    match args.trusted.output {
        Output::Table => verdicts.iter().for_each(print),
        Output::Json | Output::Yaml => print_data(&verdicts, args.trusted.output),
    }
    if verdicts.iter().all(|one| one.verified) { exit::DONE } else { exit::FINDING }
}

pub(super) fn judged(args: &Args) -> Result<Vec<Verdict>, Unchecked> {
    let mut verdicts = Vec::new();
    for path in &args.files {
        let found = args.trusted.in_file(path)?;
        verdicts.extend(found.into_iter().map(|one| Verdict::of(one, args.model.as_ref())));
    }
    Ok(verdicts)
}

impl Verdict {
    fn of(found: Found, wanted: Option<&ModelId>) -> Self {
        let Found { place: file, line, opened } = found;
        let refused = |problem: String| Self {
            file: file.clone(),
            line,
            verified: false,
            problem: Some(problem),
            predicate_type: None,
            subjects: Vec::new(),
            signers: Vec::new(),
            chain: None,
        };
        let Opened { statement, signers } = match opened {
            Ok(opened) => opened,
            Err(error) => return refused(flat(&error.to_string())),
        };
        if let Some(problem) = wanted.and_then(|wanted| about_another(&statement, wanted)) {
            return refused(problem);
        }
        Self {
            file,
            line,
            verified: true,
            problem: None,
            predicate_type: Some(statement.predicate_type().to_owned()),
            subjects: statement.subjects().to_vec(),
            signers: signers.iter().map(ToString::to_string).collect(),
            chain: Chain::of(&statement),
        }
    }
}

fn about_another(statement: &Statement, wanted: &ModelId) -> Option<String> {
    let names = || statement.subjects().iter().filter_map(|subject| subject.name.as_deref());
    let is_about = names().any(|name| ModelId::parse(name).as_ref() == Some(wanted));
    (!is_about).then(|| {
        let found: Vec<&str> = names().take(4).collect();
        flat(&format!("the signature is good, but the statement is about {}, not {wanted}", found.join(", ")))
    })
}

fn print(verdict: &Verdict) {
    let Verdict { file, line, .. } = verdict;
    if let Some(problem) = &verdict.problem {
        return put(format_args!("{file}:{line}: refused: {problem}"));
    }
    put(format_args!("{file}:{line}: verified, signed by {}", verdict.signers.join(", ")));
    for subject in &verdict.subjects {
        let digests: Vec<_> = subject.digest.iter().map(|(kind, value)| format!("{kind}:{value}")).collect();
        put(format_args!("  about     {}", flat(subject.name.as_deref().unwrap_or("-"))));
        put(format_args!("  digest    {}", flat(&digests.join(" "))));
        if subject.digest_of.as_deref() == Some("id") {
            put(format_args!("            of the model's id: Azure ML gave none of its content"));
        }
    }
    put(format_args!("  says      {}", flat(verdict.predicate_type.as_deref().unwrap_or_default())));
    if verdict.predicate_type.as_deref() == Some(SUMMARY) {
        put(format_args!("            that the signer verified it"));
    }
    if let Some(chain) = &verdict.chain {
        let commit = format!("{} of {} ({})", chain.commit.id, chain.repository, chain.commit.basis);
        for (what, which) in [
            ("commit", commit),
            ("change", chain.change_url.clone()),
            ("approved", chain.approvers.join(", ")),
        ] {
            put(format_args!("  {what:<9} {}", flat(&which)));
        }
    }
}
