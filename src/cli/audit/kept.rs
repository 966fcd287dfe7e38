//! Heads of logs as they were kept elsewhere: in a folder (a witness's own, or what was fetched from a
//! container), or in the whole history of a git repository.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::audit::note;

/// A head is a few lines.
const MOST: u64 = 64 << 10;
/// How deep a folder is looked through: a prefix, a log, a head.
const DEPTH: usize = 6;

/// What is kept in one place.
pub(super) struct Kept {
    /// The place.
    pub path: PathBuf,
    heads: Vec<String>,
}

impl Kept {
    /// Reads all heads of a folder or of a clone.
    pub fn at(path: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot read `{}`: {error}", path.display());
        let cloned =
            path.join(".git").exists() || (path.join("HEAD").exists() && path.join("objects").exists());
        let mut heads = Vec::new();
        if cloned {
            history(path, &mut heads).map_err(failed)?;
        } else {
            walk(path, DEPTH, &mut heads).map_err(failed)?;
        }
        heads.retain(|head| note::unverified(head).is_some());
        if heads.is_empty() {
            return Err(format!("no head of a log is kept in `{}`", path.display()));
        }
        Ok(Self { path: path.to_owned(), heads })
    }

    /// Those of one log, and what is said of them when the log fits.
    pub fn of(&self, origin: &str) -> Result<(Vec<String>, String), String> {
        let heads = self.heads.iter().filter(|head| note::claimed_origin(head) == origin);
        let heads: Vec<String> = heads.cloned().collect();
        let newest = heads.iter().filter_map(|head| note::unverified(head)).map(|head| head.size).max();
        let Some(newest) = newest else {
            return Err(format!("no head of it is kept in `{}`", self.path.display()));
        };
        let said = format!(
            "it fits the {} heads that are kept in `{}`, of which the newest counts {newest} records",
            heads.len(),
            self.path.display()
        );
        Ok((heads, said))
    }
}

fn walk(folder: &Path, depth: usize, heads: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && depth > 0 {
            walk(&path, depth - 1, heads)?;
        } else if path.extension().is_some_and(|extension| extension == "checkpoint") {
            let mut text = String::new();
            fs::File::open(&path)?.take(MOST).read_to_string(&mut text)?;
            heads.push(text);
        }
    }
    Ok(())
}

/// Every head that was ever in a file `checkpoint`, in any commit of any branch.
fn history(clone: &Path, heads: &mut Vec<String>) -> io::Result<()> {
    let all =
        ["log", "--all", "-m", "--raw", "--no-abbrev", "--no-renames", "--format=", "--", "*checkpoint"];
    let listed = git(clone, &all, "")?;
    // `:100644 100644 OLD NEW M<TAB>PATH`
    let mut blobs: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').nth(3)).collect();
    blobs.retain(|id| id.bytes().any(|b| b != b'0'));
    blobs.sort_unstable();
    blobs.dedup();
    let printed = git(clone, &["cat-file", "--batch"], &(blobs.join("\n") + "\n"))?;
    let mut rest = printed.as_str();
    // `ID blob SIZE`, a line's end, so many bytes, a line's end.
    while let Some((line, behind)) = rest.split_once('\n') {
        let size = line.rsplit(' ').next().and_then(|size| size.parse::<usize>().ok());
        let Some((blob, behind)) = size.and_then(|size| behind.split_at_checked(size)) else { break };
        heads.push(blob.to_owned());
        rest = behind.strip_prefix('\n').unwrap_or(behind);
    }
    Ok(())
}

fn git(clone: &Path, arguments: &[&str], input: &str) -> io::Result<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(clone).args(arguments).env_remove("GIT_DIR");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    let input = input.to_owned();
    // It is fed while its output is read, so that neither waits for the other.
    let feeder = std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
    let done = child.wait_with_output()?;
    // One that reads nothing has ended, and says why itself.
    drop(feeder.join());
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        return Err(io::Error::other(format!("git failed: {said}")));
    }
    String::from_utf8(done.stdout).map_err(io::Error::other)
}
