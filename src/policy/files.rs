//! The files of a policy set: which are read, and their digest.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::yaml::{Place, Problem};

/// How deep directories are followed; symbolic links could make a circle.
const DEEPEST: usize = 16;

/// The most that one file may hold, in bytes.
const LARGEST: u64 = 16 * 1024 * 1024;

/// All files of a set, as they were at one reading.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileSet {
    /// Policy files by the name that problems show.
    pub policies: Vec<(Arc<str>, String)>,
    /// Role definitions likewise.
    pub roles: Vec<(Arc<str>, String)>,
    /// Files that look as if they were meant to be read and are not.
    pub ignored: Vec<Arc<str>>,
    digest: [u8; 32],
}

impl FileSet {
    /// Files given as text: `roles/*.json` are role definitions, the rest policies.
    #[must_use]
    pub fn from_texts<'t>(files: impl IntoIterator<Item = (&'t str, &'t str)>) -> Self {
        let files = files.into_iter().map(|(name, text)| (PathBuf::from(name), text.to_owned())).collect();
        Self::sorted(Path::new(""), files, Vec::new())
    }

    /// Reads `**/*.yaml` but not `*.test.yaml`, and `roles/*.json`, below a directory. Names that begin
    /// with a dot are passed over: a Kubernetes `ConfigMap` keeps its versions there and links to them.
    ///
    /// # Errors
    /// Everything that cannot be read; a directory without policy files.
    pub fn read(directory: &Path) -> Result<Self, Vec<Problem>> {
        let (mut files, mut ignored, mut problems) = (BTreeMap::new(), Vec::new(), Vec::new());
        walk(directory, Path::new(""), 0, &mut |relative, full| {
            let name = shown(directory, &relative);
            match kind(&relative) {
                Kind::Policy | Kind::Role => match text(full) {
                    Ok(text) => drop(files.insert(relative, text)),
                    Err(why) => problems.push(problem(&name, why)),
                },
                Kind::Misnamed => ignored.push(name),
                Kind::Other => {}
            }
        })
        .unwrap_or_else(|why| problems.push(problem(&shown(directory, Path::new("")), why)));
        if problems.is_empty() && !files.keys().any(|path| matches!(kind(path), Kind::Policy)) {
            let none = problem(&shown(directory, Path::new("")), "holds no policy file".to_owned());
            problems.push(none.hint("policies are `*.yaml`; without any, nothing would be allowed"));
        }
        if problems.is_empty() { Ok(Self::sorted(directory, files, ignored)) } else { Err(problems) }
    }

    fn sorted(directory: &Path, files: BTreeMap<PathBuf, String>, ignored: Vec<Arc<str>>) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut set = Self { ignored, ..Self::default() };
        for (path, text) in files {
            let name = path.to_string_lossy();
            for part in [name.as_bytes(), text.as_bytes()] {
                context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                context.update(part);
            }
            let list = if matches!(kind(&path), Kind::Role) { &mut set.roles } else { &mut set.policies };
            list.push((shown(directory, &path), text));
        }
        set.digest.copy_from_slice(context.finish().as_ref());
        set
    }

    /// SHA-256 over the names and contents, in the order of the names.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Each file with the SHA-256 of its content.
    #[must_use]
    pub fn digests(&self) -> super::FileDigests {
        let files = self.policies.iter().chain(&self.roles);
        let digest = |text: &str| {
            let mut out = [0; 32];
            let found = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            out.copy_from_slice(found.as_ref());
            out
        };
        files.map(|(name, text)| (Arc::clone(name), digest(text))).collect()
    }
}

enum Kind {
    Policy,
    Role,
    /// `.yml`: neither read nor passed over in silence.
    Misnamed,
    Other,
}

fn kind(relative: &Path) -> Kind {
    let name = relative.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    if name.ends_with(".test.yaml") {
        Kind::Other
    } else if name.ends_with(".yaml") {
        Kind::Policy
    } else if name.ends_with(".yml") || name.ends_with(".YAML") {
        Kind::Misnamed
    } else if name.ends_with(".json") && relative.parent() == Some(Path::new("roles")) {
        Kind::Role
    } else {
        Kind::Other
    }
}

fn walk(
    directory: &Path,
    relative: &Path,
    depth: usize,
    visit: &mut impl FnMut(PathBuf, &Path),
) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("`{}` is nested too deeply", relative.display()));
    }
    let here = directory.join(relative);
    let entries = std::fs::read_dir(&here).map_err(|e| format!("cannot be listed: {e}"))?;
    for entry in entries {
        let name = entry.map_err(|e| format!("cannot be listed: {e}"))?.file_name();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let (relative, full) = (relative.join(&name), here.join(&name));
        // A dangling link is a file that cannot be read, not one that is absent.
        let is_directory = std::fs::metadata(&full).is_ok_and(|meta| meta.is_dir());
        if is_directory {
            walk(directory, &relative, depth + 1, visit)?;
        } else {
            visit(relative, &full);
        }
    }
    Ok(())
}

fn text(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|e| format!("cannot be read: {e}"))?.len();
    if size > LARGEST {
        return Err(format!("is larger than {LARGEST} bytes"));
    }
    std::fs::read_to_string(path).map_err(|e| format!("cannot be read: {e}"))
}

fn shown(directory: &Path, relative: &Path) -> Arc<str> {
    let path = if relative.as_os_str().is_empty() { directory.to_owned() } else { directory.join(relative) };
    path.to_string_lossy().into()
}

fn problem(file: &Arc<str>, message: String) -> Problem {
    Problem::error(file, Place::default(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn policies_and_roles_are_read_and_tests_and_hidden_files_are_not() {
        let directory = tempfile::tempdir().unwrap();
        write(
            directory.path(),
            &[
                ("b/two.yaml", "2"),
                ("one.yaml", "1"),
                ("one.test.yaml", "t"),
                (".hidden/three.yaml", "3"),
                ("roles/r.json", "[]"),
                ("other.json", "[]"),
                ("old.yml", "y"),
            ],
        );
        let set = FileSet::read(directory.path()).unwrap();
        let contents: Vec<_> = set.policies.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(contents, ["2", "1"]);
        assert_eq!(set.roles.len(), 1);
        assert_eq!(set.ignored.len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_config_map_is_read_once_and_its_swap_is_a_change() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        write(directory.path(), &[("..one/p.yaml", "1"), ("..two/p.yaml", "2")]);
        symlink("..one", at("..data")).unwrap();
        symlink("..data/p.yaml", at("p.yaml")).unwrap();
        let before = FileSet::read(directory.path()).unwrap();
        assert_eq!(before.policies.len(), 1);
        symlink("..two", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        let after = FileSet::read(directory.path()).unwrap();
        assert_eq!(after.policies[0].1, "2");
        assert_ne!(before.digest(), after.digest());
    }

    #[test]
    fn a_directory_without_policies_or_no_directory_is_a_problem() {
        let directory = tempfile::tempdir().unwrap();
        assert!(FileSet::read(directory.path()).unwrap_err()[0].message.contains("no policy file"));
        assert!(
            FileSet::read(&directory.path().join("x")).unwrap_err()[0].message.contains("cannot be listed")
        );
    }

    #[test]
    fn the_digest_tells_apart_what_stands_where() {
        let digest = |files: &[(&'static str, &'static str)]| *FileSet::from_texts(files.to_vec()).digest();
        let one = digest(&[("a.yaml", "x"), ("b.yaml", "")]);
        assert_eq!(one, digest(&[("b.yaml", ""), ("a.yaml", "x")]));
        assert_ne!(one, digest(&[("a.yaml", ""), ("b.yaml", "x")]));
        assert_ne!(one, digest(&[("a.yaml", "x")]));
    }
}
