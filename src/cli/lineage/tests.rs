//! `lineage`, `lineage verify` and `lineage diff` on files.

use std::path::{Path, PathBuf};

use super::{
    super::exit,
    chain, diff,
    source::{Source, Trusted},
    verify::{Args, Verdict, judged, run},
};
use crate::lineage::{Basis, ModelId};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lineage/tests/golden/");

fn args(files: &[PathBuf], keys: &[&str]) -> Args {
    Args { what: files.iter().map(|file| word(file)).collect(), model: None, trusted: trusted(keys) }
}

fn trusted(keys: &[&str]) -> Trusted {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        trusted: Trusted,
    }
    let keys = keys.iter().flat_map(|key| ["--key".to_owned(), format!("{GOLDEN}{key}")]);
    let line = ["lineage", "-o", "json"].map(str::to_owned).into_iter().chain(keys);
    let Line { trusted } = clap::Parser::try_parse_from(line).unwrap();
    trusted
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(format!("{GOLDEN}{name}"))
}

fn word(file: &Path) -> String {
    file.to_str().unwrap().to_owned()
}

fn code(args: &Args) -> String {
    format!("{:?}", run(args))
}

fn one(args: &Args) -> Verdict {
    judged(args).unwrap().remove(0)
}

#[test]
fn a_signed_statement_is_verified_and_a_tampered_one_is_a_finding() {
    let directory = tempfile::tempdir().unwrap();
    let tampered = directory.path().join("tampered.json");
    for (envelope, key) in
        [("provenance.ed25519.dsse.json", "ed25519.pem"), ("provenance.p256.dsse.json", "p256.pem")]
    {
        let good = args(&[golden(envelope)], &[key]);
        assert_eq!(code(&good), format!("{:?}", exit::DONE));
        let verdict = one(&good);
        assert_eq!(verdict.chain.unwrap().commit.basis, Basis::Witnessed);
        let text = std::fs::read_to_string(golden(envelope)).unwrap();
        let payload = text.find("payload\":\"").unwrap() + 20;
        let mut bytes = text.into_bytes();
        bytes[payload] = if bytes[payload] == b'A' { b'B' } else { b'A' };
        std::fs::write(&tampered, bytes).unwrap();
        let changed = args(&[golden(envelope), tampered.clone()], &[key]);
        assert_eq!(code(&changed), format!("{:?}", exit::FINDING), "one of two is changed");
        let verdicts = judged(&changed).unwrap();
        assert!(verdicts[0].verified && !verdicts[1].verified);
        let problem = verdicts[1].problem.clone().unwrap();
        assert!(problem.contains("the signature is not good"), "{problem}");
        assert!(verdicts[1].chain.is_none() && verdicts[1].subjects.is_empty(), "nothing is shown of it");
    }
}

#[test]
fn a_statement_by_a_stranger_or_about_another_model_is_a_finding() {
    let stranger = args(&[golden("provenance.ed25519.dsse.json")], &["p256.pem"]);
    assert_eq!(code(&stranger), format!("{:?}", exit::FINDING));
    assert!(one(&stranger).problem.unwrap().contains("no signature is of a key that is trusted here"));
    let both = args(&[golden("provenance.ed25519.dsse.json")], &["p256.pem", "ed25519.pem"]);
    assert_eq!(one(&both).signers.len(), 1);
    let about = |id: &str| Args {
        model: ModelId::parse(id),
        ..args(&[golden("provenance.ed25519.dsse.json")], &["ed25519.pem"])
    };
    let churn = "/subscriptions/S/resourceGroups/G/providers/Microsoft.MachineLearningServices/workspaces/w/models/churn/versions/3";
    assert!(one(&about(churn)).verified, "however the model is spelled");
    let other = one(&about(&churn.replace("/3", "/4"))).problem.unwrap();
    assert!(other.contains("the statement is about azureml://"), "{other}");
}

#[test]
fn what_is_no_envelope_is_a_finding_and_what_cannot_be_read_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.json");
    std::fs::write(&file, "{\"payload\":1,\"payload\":1}").unwrap();
    let twice = args(&[file], &["ed25519.pem"]);
    assert_eq!(code(&twice), format!("{:?}", exit::FINDING));
    assert!(one(&twice).problem.unwrap().contains("duplicate member"));
    // What a stranger wrote is no line of ours.
    let forged = directory.path().join("forged.json");
    let envelope = r#"{"payload":"e30=","payloadType":"t","signatures":[{"keyid":"x\nfine: verified","sig":"e30="}],"a\nb":1,"a\nb":1}"#;
    for text in [envelope.to_owned(), envelope.replace(r#","a\nb":1,"a\nb":1"#, "")] {
        std::fs::write(&forged, text).unwrap();
        let problem = one(&args(std::slice::from_ref(&forged), &["ed25519.pem"])).problem.unwrap();
        assert_eq!(problem.lines().count(), 1, "{problem}");
    }
    let missing = args(&[directory.path().join("none")], &["ed25519.pem"]);
    assert_eq!(code(&missing), format!("{:?}", exit::unreachable()));
    let keyless = args(&[golden("provenance.ed25519.dsse.json")], &[]);
    assert_eq!(code(&keyless), format!("{:?}", exit::usage()), "nobody is trusted unless it is said");
    let no_key = args(&[golden("provenance.ed25519.dsse.json")], &["provenance.json"]);
    assert_eq!(code(&no_key), format!("{:?}", exit::unreachable()));
}

#[test]
fn a_chain_is_drawn_with_what_is_proven_and_what_is_only_said() {
    let chains = |key: &str| {
        let trusted = trusted(&[key]);
        Source::new(&trusted).chains(&word(&golden("provenance.ed25519.dsse.json")))
    };
    let (found, code) = chains("ed25519.pem").unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", exit::DONE));
    let drawn = chain::drawn(&found[0].0, &found[0].1);
    let line =
        |what: &str| drawn.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{drawn}"));
    assert!(line("digest").ends_with("of its id: Azure ML gave none of its content"), "{drawn}");
    assert!(
        line("commit").contains("b2b5f7c8fb8f") && line("commit").ends_with("the gate saw it"),
        "{drawn}"
    );
    assert!(line("data train").ends_with("only said") && line("data test").ends_with("the gate read it"));
    assert!(line("metric accuracy").contains("0.93") && line("metric accuracy").ends_with("only said"));
    assert!(line("1000002 (corp:bo): Code-Review +2").contains("approved by"), "{drawn}");
    // Each link further in than the one before.
    let depth = |what: &str| line(what).chars().take_while(|c| " │├└─".contains(*c)).count();
    let depths = ["churn:3", "job ", "commit ", "change ", "approved by"].map(depth);
    assert!(depths.is_sorted_by(|a, b| a < b), "{depths:?}\n{drawn}");
    assert_eq!(
        format!("{:?}", chains("p256.pem").unwrap_err()),
        format!("{:?}", exit::FINDING),
        "a stranger's tells nothing"
    );
}

#[test]
fn two_files_are_compared_if_both_are_signed() {
    let compared = |keys: &[&str]| {
        let args = diff::Args {
            first: word(&golden("provenance.ed25519.dsse.json")),
            second: word(&golden("provenance.p256.dsse.json")),
            trusted: trusted(keys),
        };
        format!("{:?}", diff::run(&args))
    };
    assert_eq!(compared(&["ed25519.pem", "p256.pem"]), format!("{:?}", exit::DONE));
    assert_eq!(compared(&["ed25519.pem"]), format!("{:?}", exit::FINDING), "one of them is a stranger's");
}
