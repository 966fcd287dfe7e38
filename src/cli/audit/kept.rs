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
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if depth > 0 {
                walk(&path, depth - 1, heads)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "checkpoint") {
            // A pipe would be waited for, and a device has no end.
            if !fs::metadata(&path)?.is_file() {
                continue;
            }
            let mut text = Vec::new();
            fs::File::open(&path)?.take(MOST).read_to_end(&mut text)?;
            heads.extend(String::from_utf8(text));
        }
    }
    Ok(())
}

/// Every head that was ever in a file `checkpoint`, in any commit of any branch.
fn history(clone: &Path, heads: &mut Vec<String>) -> io::Result<()> {
    let mirror = Mirror::of(clone)?;
    let all =
        ["log", "--all", "-m", "--raw", "--no-abbrev", "--no-renames", "--format=", "--", "*checkpoint"];
    let listed = mirror.git(&all, "")?;
    let listed = String::from_utf8_lossy(&listed);
    // `:100644 100644 OLD NEW M<TAB>PATH`
    let mut blobs: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').nth(3)).collect();
    blobs.retain(|id| id.bytes().any(|b| b != b'0'));
    blobs.sort_unstable();
    blobs.dedup();
    // `ID blob SIZE`
    let sizes = mirror.git(&["cat-file", "--batch-check"], &(blobs.join("\n") + "\n"))?;
    let sizes = String::from_utf8_lossy(&sizes);
    let small = sizes.lines().filter_map(|line| {
        let (id, size) = line.split_once(" blob ")?;
        size.parse::<u64>().is_ok_and(|size| size <= MOST).then_some(id)
    });
    let small: String = small.flat_map(|id| [id, "\n"]).collect();
    let printed = mirror.git(&["cat-file", "--batch"], &small)?;
    let mut rest = printed.as_slice();
    // `ID blob SIZE`, a line's end, so many bytes, a line's end.
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, behind) = rest.split_at(end);
        let size = std::str::from_utf8(line).ok().and_then(|line| line.rsplit(' ').next()?.parse().ok());
        let Some((blob, behind)) = size.and_then(|size: usize| behind.get(1..)?.split_at_checked(size))
        else {
            break;
        };
        heads.extend(String::from_utf8(blob.to_vec()));
        rest = behind.strip_prefix(b"\n").unwrap_or(behind);
    }
    Ok(())
}

/// A repository of our own with what is in a clone. Git obeys the configuration of the repository in
/// which it works, and that may name programs to be run; whoever hands over a clone has written it. To
/// what it is cloned from, git gives no such trust.
struct Mirror(PathBuf);

impl Mirror {
    fn of(clone: &Path) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("amlgate-{}", uuid::Uuid::new_v4()));
        let mut own = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut own, 0o700);
        own.create(&folder)?;
        let mirror = Self(folder);
        let from = fs::canonicalize(clone)?;
        let from = from.to_str().ok_or_else(|| io::Error::other("its name is no text"))?;
        mirror.git(&["clone", "--quiet", "--mirror", "--no-local", "--template=", "--", from, "."], "")?;
        Ok(mirror)
    }

    /// Runs git in it; what it printed.
    fn git(&self, arguments: &[&str], input: &str) -> io::Result<Vec<u8>> {
        let mut command = Command::new("git");
        command.current_dir(&self.0).args(arguments).env("GIT_CEILING_DIRECTORIES", &self.0);
        for inherited in ["GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"] {
            command.env_remove(inherited);
        }
        // Nothing is fetched from where the clone says that the rest of it is.
        command
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_ALLOW_PROTOCOL", "file")
            .env("GIT_TERMINAL_PROMPT", "0");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let input = input.to_owned();
        // It is fed while its output is read, so that neither waits for the other.
        let feeder = std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        let done = child.wait_with_output()?;
        // One that reads nothing has ended, and says why itself.
        drop(feeder.join());
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
            return Err(io::Error::other(format!("git failed: {}", said.trim())));
        }
        Ok(done.stdout)
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // What cannot be removed lies among other temporary files.
        drop(fs::remove_dir_all(&self.0));
    }
}
