//! The list of a pack's files, in the form that `sha256sum --check` reads, and its signature.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::Path,
};

use aws_lc_rs::digest::{Context, SHA256};

use super::{EvidenceError, MAX_FILES, SIGNATURE, SUMS};
use crate::audit::note::hex;

/// The digest of everything that comes.
pub(super) fn digest_of(mut bytes: impl Read) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match bytes.read(&mut buffer)? {
            0 => return Ok(hex(context.finish().as_ref())),
            read => context.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

/// The digest of a file.
pub(super) fn digest_at(path: &Path) -> Result<String, EvidenceError> {
    let failed = |source| EvidenceError::File { path: path.to_owned(), source };
    digest_of(fs::File::open(path).map_err(failed)?).map_err(failed)
}

/// Names and digests as the list has them.
pub(super) fn listed(files: &BTreeMap<String, String>) -> String {
    files.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
}

/// Reads the list. A name leads nowhere but into the pack.
pub(super) fn read(text: &str) -> Result<BTreeMap<String, String>, EvidenceError> {
    let mut files = BTreeMap::new();
    for line in text.lines() {
        let wrong =
            || EvidenceError::flawed(SUMS, format!("has the line `{line}`, which is none of such a list"));
        let (digest, name) = line.split_once("  ").ok_or_else(wrong)?;
        let is_digest =
            digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let of_names = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let is_name = name.split('/').count() <= 2 && name.split('/').all(of_names);
        let new = is_digest && is_name && name != SUMS && name != SIGNATURE;
        if !new || files.insert(name.to_owned(), digest.to_owned()).is_some() || files.len() > MAX_FILES {
            return Err(wrong());
        }
    }
    Ok(files)
}

/// The names of all files below a folder; anything that is neither a file nor a folder is a flaw.
pub(super) fn found(pack: &Path) -> Result<Vec<String>, EvidenceError> {
    let mut names = Vec::new();
    look(pack, "", 0, &mut names)?;
    Ok(names)
}

fn look(folder: &Path, before: &str, depth: usize, names: &mut Vec<String>) -> Result<(), EvidenceError> {
    let failed = |source| EvidenceError::File { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = format!("{before}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && depth == 0 {
            look(&entry.path(), &format!("{name}/"), 1, names)?;
        } else if kind.is_file() && names.len() < MAX_FILES {
            names.push(name);
        } else {
            return Err(EvidenceError::flawed(&name, "is nothing that a pack has"));
        }
    }
    Ok(())
}
