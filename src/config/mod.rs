//! `amlgate.yaml`: raw (serde only), then typed settings of every room, with every problem at its place.
//!
//! [`load()`] is all or nothing: it reads the file and what it refers to, and gives either settings
//! from which [`crate::server`] builds the gate, or every problem at once. It opens no connection:
//! `doctor` tries what is configured.

mod issuers;
mod load;
mod problems;
pub mod raw;
pub mod settings;
pub mod values;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use load::{Notified, around_policies, load, notified, on_call, upstream_hosts};
pub use problems::Problems;
pub use settings::Settings;

use crate::yaml::{self, Place, Problem};

/// The largest `amlgate.yaml` that is read.
const MAX_FILE: u64 = 4 << 20;

/// Reads a file that the user named, bounded.
///
/// # Errors
/// One problem that says which file and why.
pub fn read_text(path: &Path, max: u64) -> Result<String, Problem> {
    let file: Arc<str> = path.display().to_string().into();
    let failed = |why: String| Problem::error(&file, Place::default(), why);
    let size = std::fs::metadata(path).map_err(|e| failed(format!("cannot be read: {e}")))?.len();
    if size > max {
        return Err(failed(format!("has {size} bytes; at most {max} are read")));
    }
    std::fs::read_to_string(path).map_err(|e| failed(format!("cannot be read: {e}")))
}

/// SHA-256 of a file's bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

/// The parsed file, the paths in it still relative.
struct Parsed {
    raw: raw::File,
    name: Arc<str>,
    /// What relative paths are relative to.
    base: PathBuf,
    text: String,
}

fn parse(path: &Path) -> Result<Parsed, Problem> {
    let text = read_text(path, MAX_FILE)
        .map_err(|p| p.hint("`amlgate init` writes one; `--config` names another"))?;
    let name: Arc<str> = path.display().to_string().into();
    let raw = yaml::parse(&name, &text)?;
    let base = path.parent().map(Path::to_owned).unwrap_or_default();
    Ok(Parsed { raw, name, base, text })
}

/// Every `UNSET` that `init` left and nobody filled in.
fn unset(text: &str, problems: &mut Problems) {
    for (line, content) in (1_u32..).zip(text.lines()) {
        let code = content.split_once(" #").map_or(content, |(code, _)| code);
        if code.trim_start().starts_with('#') {
            continue;
        }
        let mut from = 0;
        while let Some(at) = code.get(from..).and_then(|rest| rest.find("UNSET")) {
            let column = u32::try_from(from + at + 1).unwrap_or(u32::MAX);
            problems.error_with(
                Place { line, column },
                "`UNSET` is not filled in",
                "the comment beside it says with what",
            );
            from += at + "UNSET".len();
        }
    }
}

#[cfg(test)]
mod tests;
