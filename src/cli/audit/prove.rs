//! `amlgate audit prove` and `audit end`: what can be shown to somebody who has nothing of the log but
//! its key.

use std::{fs, io, path::PathBuf, process::ExitCode, sync::Arc};

use super::{super::put_whole, exit, report, text};
use crate::{
    audit::{
        Journal, JournalSettings, PUBLIC_KEY,
        archive::{self, WithArchive},
        event::Event,
        note::{self, Signer, VerifierKeys},
        proved::{Consistency, Inclusion, Unproven},
        prover::{Prover, ProverError},
        read::{Reader, Record},
        storage::Directory,
        tiles::CHECKPOINT,
    },
    secrets::{Purpose, Seal, SecretString},
    time::SystemClock,
};

/// `audit prove`: that a record is in the log, or that the log grew out of an older state of it.
#[derive(Debug, clap::Args)]
pub struct Prove {
    /// The directory of a log.
    directory: PathBuf,
    /// A record: its position, its id, or the id of a decision, whose records are all proven.
    #[arg(required_unless_present = "since")]
    id: Option<String>,
    /// A signed head that was kept: proves that the log begins with what it vouches for.
    #[arg(long, value_name = "FILE", conflicts_with = "id")]
    since: Option<PathBuf>,
    /// A folder with segments that were fetched from an archive; repeatable.
    #[arg(long, value_name = "DIR")]
    archive: Vec<PathBuf>,
}

/// `audit end`: signs that a log ends, when its gate is given up.
#[derive(Debug, clap::Args)]
pub struct End {
    /// The directory of the log.
    directory: PathBuf,
    /// The key that signs the log's heads: Ed25519, PKCS#8 PEM.
    #[arg(long, value_name = "FILE")]
    signing_key: PathBuf,
}

type Failure = Box<dyn std::error::Error>;

/// Runs `audit prove`.
pub(super) fn prove(args: &Prove) -> ExitCode {
    let storage = match WithArchive::new(args.directory.clone(), &args.archive) {
        Ok(storage) => storage,
        Err(error) => return report(&error, exit::unreachable()),
    };
    match (&args.id, &args.since) {
        (_, Some(since)) => match text(since).map_err(Failure::from).and_then(|note| grown(args, &note)) {
            Ok(proof) => put_whole(format_args!("{proof}")),
            Err(error) => return report(&*error, exit::FINDING),
        },
        (Some(id), None) => match found(args, &storage, id) {
            Ok(proofs) if proofs.is_empty() => {
                eprintln!("amlgate: no record has the id `{id}`{}", elsewhere(&storage, args));
                return exit::FINDING;
            }
            Ok(proofs) => proofs.iter().for_each(|proof| put_whole(format_args!("{proof}"))),
            Err(error) => return report(&*error, exit::FINDING),
        },
        (None, None) => return exit::FINDING, // Clap demands one.
    }
    exit::DONE
}

fn grown(args: &Prove, note: &str) -> Result<Consistency, Failure> {
    let note = format!("{}\n", note.trim_end_matches('\n'));
    Prover::of(&args.directory).and_then(|prover| prover.consistency(&note)).map_err(told)
}

/// With its causes, in one line.
fn told(why: ProverError) -> Failure {
    super::with_causes(&why).into()
}

/// Where a record may be that is not there: what of the log is archived and was not given.
fn elsewhere(storage: &WithArchive, args: &Prove) -> String {
    let missing = archive::missing(storage, None).unwrap_or_default();
    let missing: Vec<_> = missing.into_iter().map(|archived| archived.url).collect();
    let (Some(oldest), Some(newest)) = (missing.first(), missing.last()) else { return String::new() };
    let which = if oldest == newest { format!("`{oldest}`") } else { format!("`{oldest}` to `{newest}`") };
    format!(
        " among those on the disk; {} segments of `{}` are archived: fetch {which} and name their folder with `--archive`",
        missing.len(),
        args.directory.display()
    )
}

/// The records with that id: their own, their decision's, or their position.
fn found(args: &Prove, storage: &WithArchive, id: &str) -> Result<Vec<Inclusion>, Failure> {
    let prover = Prover::of(&args.directory).map_err(told)?;
    let proven = |record| prover.inclusion(record).map_err(told);
    if let Ok(position) = id.parse() {
        let record = Reader::from(storage.clone(), position)?.record()?.filter(|r| r.position == position);
        return record.into_iter().map(proven).collect();
    }
    let finder = memchr::memmem::Finder::new(id.as_bytes());
    let is = |record: &Record| {
        let value: Option<serde_json::Value> = serde_json::from_slice(&record.line).ok();
        ["/metadata/uid", "/unmapped/amlgate/decision"]
            .iter()
            .any(|at| value.as_ref().and_then(|v| v.pointer(at)).and_then(|v| v.as_str()) == Some(id))
    };
    let (mut reader, mut proofs) = (Reader::new(storage.clone()), Vec::new());
    while let Some(record) = reader.record()? {
        if finder.find(&record.line).is_some() && is(&record) {
            proofs.push(proven(record)?);
        }
    }
    Ok(proofs)
}

/// Checks proofs, without the log.
pub(super) fn check(
    files: &[PathBuf],
    keys: &VerifierKeys,
    heads: &[String],
) -> Result<Vec<String>, Failure> {
    let mut said = Vec::new();
    for file in files {
        let name = file.display();
        let proof = text(file)?;
        let keys = |checkpoint: &str| keys.of(note::claimed_origin(checkpoint));
        let failed = |why: Unproven| format!("`{name}` proves nothing: {}", super::with_causes(&why));
        if proof.starts_with("old ") {
            let proof = Consistency::parse(&proof).map_err(failed)?;
            let keys = keys(&proof.checkpoint);
            let old =
                heads.iter().filter_map(|h| keys.open(h, 0).ok()).find(|(head, _)| head.size == proof.old);
            let (old, _) = old.ok_or_else(|| {
                format!("`{name}` is about a head of {} records: give it with `--head`", proof.old)
            })?;
            let head = proof.verify(&keys, &old).map_err(failed)?;
            said.push(format!(
                "{}: the {} records of the head are the first of the log's {}",
                head.origin, old.size, head.size
            ));
            continue;
        }
        for proof in Inclusion::parse_all(&proof).map_err(failed)? {
            let head = proof.verify(&keys(&proof.checkpoint)).map_err(failed)?;
            said.push(format!(
                "{}: the record at position {} is one of the log's {}",
                head.origin, proof.index, head.size
            ));
        }
    }
    Ok(said)
}

/// Runs `audit end`.
pub(super) fn end(args: &End) -> ExitCode {
    match ended(args) {
        Ok(note) => {
            put_whole(format_args!("{note}"));
            exit::DONE
        }
        Err(error) => report(&*error, exit::unreachable()),
    }
}

/// Records the end, signs it, and keeps it beside the log, which no gate opens from then on.
fn ended(args: &End) -> Result<String, Failure> {
    let storage = Directory::at(args.directory.clone());
    let origin = crate::audit::verify::claimed_origin(&storage)?.ok_or("there is no segment of a log")?;
    let key = SecretString::from(text(&args.signing_key)?);
    let signer = Signer::from_pem(&origin, secrecy::ExposeSecret::expose_secret(&key).as_bytes())?;
    let keys = VerifierKeys::parse(&text(&args.directory.join(PUBLIC_KEY))?)?;
    if keys.of(&origin).newest() != Some(&signer.verifier()) {
        return Err("the key is not the one that signs this log".into());
    }
    let settings = JournalSettings::new(&origin, args.directory.clone(), key);
    // No record that is written here has a thumbprint of a token.
    let unused = Seal::new([&SecretString::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let closed = runtime.block_on(async {
        let (journal, _) = Journal::open(&settings, unused.mac(Purpose::Thumbprint), Arc::new(SystemClock))?;
        journal.happened(&Event::LogEnded).await?;
        Ok::<bool, Failure>(journal.close().await)
    })?;
    if !closed {
        return Err("the end could not be recorded".into());
    }
    let (head, _) = keys.open(&text(&args.directory.join(CHECKPOINT))?, 0)?;
    let note = signer.sign_end(head.size, &head.root);
    fs::write(args.directory.join(crate::audit::END), &note)
        .map_err(|e| io::Error::new(e.kind(), format!("cannot keep the end beside the log: {e}")))?;
    Ok(note)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What `audit prove DIRECTORY ID` prints.
    pub fn proven(directory: &std::path::Path, id: &str) -> String {
        let (id, archive) = (Some(id.to_owned()), Vec::new());
        let args = Prove { directory: directory.to_owned(), id, since: None, archive };
        let storage = WithArchive::new(args.directory.clone(), &[]).unwrap();
        let proofs = found(&args, &storage, args.id.as_deref().unwrap()).unwrap();
        proofs.iter().map(ToString::to_string).collect()
    }
}
