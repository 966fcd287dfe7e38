//! `lineage verify`: are statements signed by a key that is trusted, and what do they vouch for?

use std::process::ExitCode;

use serde::Serialize;

use super::{
    super::{Output, exit, print_data, put},
    flat,
    source::{Found, Place, Source, Told, Trusted},
};
use crate::lineage::{Chain, ModelId, NameError, SUMMARY, Subject, Version};

/// `lineage verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Models: ids (`azureml://...`), or `M:V` with --workspace or --registry; or files of DSSE envelopes
    /// with in-toto statements, one as JSON or one a line.
    #[arg(required = true, value_name = "MODEL|FILE")]
    pub(super) what: Vec<String>,
    /// The model that every statement must be about: `azureml://...`, or its Resource Manager id.
    #[arg(long, value_name = "MODEL", value_parser = model)]
    pub(super) model: Option<ModelId>,
    #[command(flatten)]
    pub(super) trusted: Trusted,
}

fn model(text: &str) -> Result<ModelId, String> {
    ModelId::parse(text).ok_or_else(|| NameError::Model.to_string())
}

/// What became of one envelope.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    #[serde(flatten)]
    place: Place,
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
        Err(code) => return code,
    };
    match args.trusted.output() {
        Output::Table => verdicts.iter().for_each(print),
        Output::Json | Output::Yaml => print_data(&verdicts, args.trusted.output()),
    }
    // Of nothing nothing is verified.
    let all = !verdicts.is_empty() && verdicts.iter().all(|one| one.verified);
    if all { exit::DONE } else { exit::FINDING }
}

pub(super) fn judged(args: &Args) -> Result<Vec<Verdict>, ExitCode> {
    let source = Source::new(&args.trusted);
    let wanted = args.model.clone().map(Version::Id);
    let mut verdicts = Vec::new();
    for what in &args.what {
        let found = source.found(what)?;
        verdicts.extend(found.into_iter().map(|one| Verdict::of(one, wanted.as_ref())));
    }
    Ok(verdicts)
}

impl Verdict {
    fn of(found: Found, wanted: Option<&Version>) -> Self {
        let Found { place, told } = found;
        let told = match wanted {
            Some(wanted) => told.and_then(|told| told.about(wanted)),
            None => told,
        };
        match told {
            Ok(Told { predicate_type, subjects, signers, chain }) => Self {
                place,
                verified: true,
                problem: None,
                predicate_type: Some(predicate_type),
                subjects,
                signers,
                chain,
            },
            Err(problem) => Self {
                place,
                verified: false,
                problem: Some(problem),
                predicate_type: None,
                subjects: Vec::new(),
                signers: Vec::new(),
                chain: None,
            },
        }
    }
}

fn print(verdict: &Verdict) {
    let place = &verdict.place;
    if let Some(problem) = &verdict.problem {
        return put(format_args!("{place}: refused: {problem}"));
    }
    put(format_args!("{place}: verified, signed by {}", verdict.signers.join(", ")));
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
        let commit = format!("{} of {} ({})", chain.commit.id, chain.repository, chain.commit.basis.word());
        for (what, which) in [
            ("commit", commit),
            ("change", chain.change_url.clone()),
            ("approved", chain.approvers.join(", ")),
        ] {
            put(format_args!("  {what:<9} {}", flat(&which)));
        }
    }
}
