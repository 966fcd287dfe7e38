//! `amlgate audit evidence`: makes a pack for an auditor, and checks one.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use secrecy::ExposeSecret as _;

use super::{
    super::{Output, exit, print_data, put, report, serve::refused},
    text, with_causes,
};
use crate::{
    audit::{
        evidence::{self, Asked, Control, EvidenceError, Manifest, Named},
        note::{Signer, VerifierKeys},
        storage::Directory,
        verify::claimed_origin,
    },
    config::{self, Settings},
    secrets, server,
    time::{Clock as _, SharedClock, SystemClock, Timestamp},
};

/// `audit evidence`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// A control of SOC 2 (`CC6.1`, or `CC6` for all of them) or ISO 27001 (`A.5.15`, `A.8.15`);
    /// repeatable. All that the record has evidence for, by default.
    #[arg(long = "control", value_name = "ID")]
    controls: Vec<Named>,
    /// From when on: RFC 3339, or a day (UTC).
    #[arg(long, value_parser = instant, required = true)]
    from: Option<Timestamp>,
    /// Until when, exclusive: RFC 3339, or a day (UTC).
    #[arg(long, value_parser = instant, required = true)]
    to: Option<Timestamp>,
    /// The folder of the pack, which must not be there yet.
    #[arg(long, value_name = "DIR", default_value = "evidence")]
    out: PathBuf,
    /// The configuration: it names the log, its signing key and the policies.
    #[arg(long, default_value = "amlgate.yaml")]
    config: PathBuf,
    /// The directory of the log instead; of a fleet's logs each has a pack of its own.
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// The key that signs the log's heads instead: Ed25519, PKCS#8 PEM.
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
    /// A further folder where files of policies are looked for by their digests, such as a checkout of
    /// how they were then; repeatable.
    #[arg(long, value_name = "DIR")]
    policies: Vec<PathBuf>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// What else is done with packs.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Checks a pack: every file of it, every proof in it. Needs no network and no log.
    Verify {
        /// The folder of the pack.
        pack: PathBuf,
        /// The log's verifier keys, kept where the gate cannot write; those in the pack by default.
        #[arg(long = "key", value_name = "FILE")]
        keys: Vec<PathBuf>,
        /// How to print.
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
}

type Failure = Box<dyn std::error::Error>;

/// A time, or the beginning of a day.
fn instant(text: &str) -> Result<Timestamp, String> {
    let day = || {
        let day = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        Some(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis())
    };
    let time = chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis());
    let millis = time.or_else(day).and_then(|millis| u64::try_from(millis).ok());
    millis
        .map(Timestamp::from_millis)
        .ok_or_else(|| "write a day such as `2026-01-31` or a time such as `2026-01-31T09:00:00Z`".to_owned())
}

/// Runs the verb.
pub fn run(args: &Args) -> ExitCode {
    if let Some(Verb::Verify { pack, keys, output }) = &args.verb {
        return verify(pack, keys, *output);
    }
    let (Some(from), Some(until)) = (args.from, args.to) else { return exit::usage() };
    if from >= until {
        eprintln!("amlgate: `--from` is not before `--to`");
        return exit::usage();
    }
    let configured = args.log.is_none() || args.signing_key.is_none() || args.config.exists();
    let settings = match configured.then(|| config::load(&args.config)).transpose() {
        Ok(settings) => settings,
        Err(problems) => return refused(&problems),
    };
    match made(args, settings.as_ref(), from, until) {
        Ok(manifest) => {
            match args.output {
                Output::Table => print(&manifest),
                Output::Json | Output::Yaml => print_data(&manifest, args.output),
            }
            eprintln!(
                "amlgate: the pack is in `{}`; `amlgate audit evidence verify` checks it",
                args.out.display()
            );
            exit::DONE
        }
        Err(error) => report(&*error, exit::unreachable()),
    }
}

fn made(
    args: &Args,
    settings: Option<&Settings>,
    from: Timestamp,
    until: Timestamp,
) -> Result<Manifest, Failure> {
    let directory =
        args.log.as_deref().or_else(|| settings.map(|settings| settings.audit.directory.as_path()));
    let directory = directory.ok_or("there is no log: give `--log`")?;
    let origin =
        claimed_origin(&Directory::at(directory.to_owned()))?.ok_or("there is no segment of a log")?;
    let signer = signer(args, settings, &origin)?;
    let mut controls: Vec<&'static Control> = Vec::new();
    for control in args.controls.iter().flat_map(|named| &named.0) {
        if !controls.contains(control) {
            controls.push(control);
        }
    }
    if controls.is_empty() {
        controls = Control::all();
    }
    let policies =
        settings.map(|settings| settings.policies.clone()).into_iter().chain(args.policies.clone());
    let asked = Asked {
        directory,
        controls,
        from,
        until,
        policies: policies.collect(),
        program: &std::env::current_exe()?,
        made: SystemClock.now(),
    };
    Ok(evidence::write(&asked, &signer, &args.out)?)
}

fn signer(args: &Args, settings: Option<&Settings>, origin: &str) -> Result<Signer, Failure> {
    let key = match (&args.signing_key, settings) {
        (Some(path), _) => secrets::from_file(path)?,
        (None, Some(settings)) => {
            drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
            let clock: SharedClock = Arc::new(SystemClock);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(server::keeping::signing_key(settings, &clock))?
        }
        (None, None) => return Err("there is no key: give `--signing-key`".into()),
    };
    Ok(Signer::from_pem(origin, key.expose_secret().as_bytes())?)
}

fn print(manifest: &Manifest) {
    let records: u64 = manifest.classes.values().sum();
    put(format_args!(
        "{}: {records} records from {} until {}, each proven under the head of {} records",
        manifest.log, manifest.from.text, manifest.until.text, manifest.end
    ));
    for shown in &manifest.controls {
        let of_it: u64 = shown.shown_by.iter().filter_map(|class| manifest.classes.get(class)).sum();
        put(format_args!("  {} {}: {of_it} records: {}", shown.framework, shown.id, shown.asks));
    }
    for set in &manifest.policies {
        let enclosed = set.files.iter().filter(|file| file.enclosed).count();
        let all = set.files.len() as u64 + set.not_named;
        put(format_args!(
            "  policies {} from position {} on: {enclosed} of {all} files are enclosed",
            set.digest.get(..16).unwrap_or_default(),
            set.position
        ));
    }
    if manifest.too_new > 0 {
        put(format_args!(
            "  {} records were newer than the newest head, and are not in it",
            manifest.too_new
        ));
    }
}

fn verify(pack: &Path, files: &[PathBuf], output: Output) -> ExitCode {
    let mut keys = None;
    for path in files {
        match text(path).map_err(Failure::from).and_then(|text| Ok(VerifierKeys::parse(&text)?)) {
            Ok(more) => keys.get_or_insert_with(VerifierKeys::default).extend(more),
            Err(error) => return report(&*error, exit::unreachable()),
        }
    }
    if !pack.is_dir() {
        eprintln!("amlgate: `{}` is not the folder of a pack", pack.display());
        return exit::unreachable();
    }
    let checked = match evidence::check(pack, keys.as_ref()) {
        Ok(checked) => checked,
        Err(error) => return found_wrong(pack, &error),
    };
    match output {
        Output::Table => {
            print(&checked.manifest);
            put(format_args!("the pack is whole: {} records are in the log", checked.records));
        }
        Output::Json | Output::Yaml => print_data(&checked, output),
    }
    if keys.is_none() {
        eprintln!(
            "amlgate: the keys are those in the pack, which whoever made it put there; give `--key` a copy that \
             is kept elsewhere"
        );
    }
    if checked.policies_missing > 0 {
        eprintln!(
            "amlgate: {} files of policies that were in force are not enclosed: the manifest has their digests",
            checked.policies_missing
        );
    }
    exit::DONE
}

fn found_wrong(pack: &Path, error: &EvidenceError) -> ExitCode {
    eprintln!("amlgate: {}: not whole: {}", pack.display(), with_causes(error));
    if error.is_unreadable() { exit::unreachable() } else { exit::FINDING }
}
