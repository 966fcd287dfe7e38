//! Statements in files, checked under the keys that are trusted.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{
    super::{Output, exit, report},
    flat,
};
use crate::lineage::{Chain, EnvelopeError, KeyError, KeyId, MAX_BUNDLE, Opened, PublicKey, bundle};

/// Whom to trust, and how to print.
#[derive(Debug, clap::Args)]
pub struct Trusted {
    /// Public keys that are trusted, in PEM; a good signature of one of them is enough. Repeatable.
    #[arg(long = "key", value_name = "PEM", required = true)]
    pub keys: Vec<PathBuf>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
pub enum Unchecked {
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: io::Error },
    #[error("`{path}` cannot be trusted")]
    Key { path: PathBuf, source: KeyError },
}

/// One envelope, and what came of it.
pub struct Found {
    /// The file.
    pub place: String,
    /// The line in it, or 1.
    pub line: usize,
    pub opened: Result<Opened, EnvelopeError>,
}

/// Chains, each with who signed it.
pub type Chains = Vec<(Chain, Vec<KeyId>)>;

impl Trusted {
    /// The envelopes of a file.
    pub fn in_file(&self, path: &Path) -> Result<Vec<Found>, Unchecked> {
        let mut trusted = Vec::new();
        for path in &self.keys {
            let pem = String::from_utf8_lossy(&read(path)?).into_owned();
            let keys = PublicKey::all_from_pem(&pem);
            trusted.extend(keys.map_err(|source| Unchecked::Key { path: path.clone(), source })?);
        }
        let place = path.display().to_string();
        Ok(match bundle(&read(path)?) {
            Ok(envelopes) => envelopes
                .iter()
                .map(|(line, one)| Found { place: place.clone(), line: *line, opened: one.open(&trusted) })
                .collect(),
            Err((line, error)) => vec![Found { place, line, opened: Err(error) }],
        })
    }

    /// The chains that a file tells, each with who signed it; what is refused was said, and so was it
    /// if there is none.
    pub fn chains(&self, path: &Path) -> Result<(Chains, ExitCode), ExitCode> {
        let found = self.in_file(path).map_err(|error| report(&error, exit::unreachable()))?;
        let (mut chains, mut code) = (Vec::new(), exit::DONE);
        for Found { place, line, opened } in found {
            match opened {
                // A summary beside it, or a statement of somebody else's, tells none.
                Ok(Opened { statement, signers }) => {
                    chains.extend(Chain::of(&statement).map(|chain| (chain, signers)));
                }
                Err(error) => {
                    let why = flat(&error.to_string());
                    report(&Refused { place, line, why }, exit::FINDING);
                    code = exit::FINDING;
                }
            }
        }
        if chains.is_empty() {
            return Err(report(&Nothing(path.to_owned()), exit::FINDING));
        }
        Ok((chains, code))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{place}:{line}: refused: {why}")]
struct Refused {
    place: String,
    line: usize,
    why: String,
}

#[derive(Debug, thiserror::Error)]
#[error("nothing in `{0}` that is signed tells where a model came from")]
struct Nothing(PathBuf);

/// A file as far as one may be long, and one byte more, so that a longer one is seen to be.
fn read(path: &Path) -> Result<Vec<u8>, Unchecked> {
    let failed = |source| Unchecked::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BUNDLE).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
