//! Secrets from the places that the configuration names: the environment and files. (What lies in
//! a vault is fetched by `credentials`, which have the token for it.)

use std::{
    env,
    error::Error as _,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use zeroize::Zeroizing;

/// The largest secret that is read, in bytes: a key with its chain fits.
pub const MAX_SECRET: usize = 64 << 10;

/// Why a secret cannot be read. Nothing of its content is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not there.
    #[error("the environment variable `{0}` is not set: set it where the gate starts")]
    Unset(String),
    /// The file cannot be read.
    #[error("the file `{}` cannot be read", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is something, but no secret.
    #[error("{place} {flaw}")]
    Unfit {
        /// The variable or file.
        place: String,
        /// `is empty`, `is not UTF-8`, `is larger than ...`.
        flaw: &'static str,
    },
}

impl SecretError {
    /// What is wrong and why, on one line.
    #[must_use]
    pub fn with_cause(&self) -> String {
        self.source().map_or_else(|| self.to_string(), |cause| format!("{self}: {cause}"))
    }
}

/// The value of an environment variable, without a line end at its end.
///
/// # Errors
/// [`SecretError`].
pub fn from_env(name: &str) -> Result<SecretString, SecretError> {
    let value = env::var_os(name).ok_or_else(|| SecretError::Unset(name.to_owned()))?;
    fit(value.into_encoded_bytes(), &|| format!("the environment variable `{name}`"))
}

/// The content of a file, without a line end at its end. That others on this machine may read the
/// file is logged, once for each reading.
///
/// # Errors
/// [`SecretError`].
pub fn from_file(path: &Path) -> Result<SecretString, SecretError> {
    if let Ok(Some(exposure)) = exposure(path) {
        tracing::warn!(path = %path.display(), "{exposure}");
    }
    from_projected(path)
}

/// As [`from_file`], for what a platform writes and renews: who in the container may read it is the
/// platform's choice, and nothing is logged of it.
///
/// # Errors
/// [`SecretError`].
pub fn from_projected(path: &Path) -> Result<SecretString, SecretError> {
    let failed = |source| SecretError::File { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(failed)?;
    // Bounded while reading: what a pipe or a growing file holds is known only then.
    let mut bytes = Vec::with_capacity(4 << 10);
    file.take(MAX_SECRET as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    fit(bytes, &|| format!("the file `{}`", path.display()))
}

/// Whether others on this machine may read a secret's file, in words that say how to mend it.
///
/// # Errors
/// What the system says of the file.
pub fn exposure(path: &Path) -> io::Result<Option<&'static str>> {
    fs::metadata(path).map(|found| found.exposure())
}

fn fit(bytes: Vec<u8>, place: &dyn Fn() -> String) -> Result<SecretString, SecretError> {
    let bytes = Zeroizing::new(bytes);
    let unfit = |flaw| SecretError::Unfit { place: place(), flaw };
    if bytes.len() > MAX_SECRET {
        return Err(unfit("is larger than 64 KiB, which no secret is"));
    }
    let text = str::from_utf8(&bytes).map_err(|_| unfit("is not UTF-8"))?;
    // Editors and `echo` end a file with one line end; further white space may be meant.
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() { Err(unfit("is empty")) } else { Ok(SecretString::from(text)) }
}

trait Exposure {
    fn exposure(&self) -> Option<&'static str>;
}

impl Exposure for fs::Metadata {
    #[cfg(unix)]
    fn exposure(&self) -> Option<&'static str> {
        use std::os::unix::fs::MetadataExt as _;
        let mode = self.mode();
        match () {
            () if mode & 0o007 != 0 => Some(
                "everybody on this machine may use this secret: `chmod 600` the file, in Kubernetes set `defaultMode: 0400`",
            ),
            () if mode & 0o070 != 0 => Some("a group may use this secret: `chmod 600` unless that is meant"),
            () => None,
        }
    }

    #[cfg(not(unix))]
    fn exposure(&self) -> Option<&'static str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(content: &[u8]) -> Result<String, SecretError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, content).unwrap();
        from_file(&path).map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn one_line_end_is_not_part_of_the_secret_and_other_space_is() {
        assert_eq!(read(b"s3cret\n").unwrap(), "s3cret");
        assert_eq!(read(b"s3cret\r\n").unwrap(), "s3cret");
        assert_eq!(read(b" s3cret \n\n").unwrap(), " s3cret \n");
    }

    #[test]
    fn what_is_no_secret_is_refused_without_being_shown() {
        for (content, flaw) in
            [(&b"\n"[..], "is empty"), (b"\xffcanary", "not UTF-8"), (&[b'x'; MAX_SECRET + 2], "larger")]
        {
            let said = read(content).unwrap_err().to_string();
            assert!(said.contains(flaw) && !said.contains("canary") && !said.contains("xx"), "{said}");
        }
        assert!(read(&[b'x'; MAX_SECRET]).is_ok());
    }

    #[test]
    fn a_missing_place_is_named() {
        let missing = from_file(Path::new("/nowhere/client.secret")).unwrap_err().to_string();
        assert!(missing.contains("`/nowhere/client.secret`"), "{missing}");
        let unset = from_env("AMLGATE_TEST_UNSET_SECRET").unwrap_err().to_string();
        assert!(unset.contains("`AMLGATE_TEST_UNSET_SECRET` is not set"), "{unset}");
    }

    #[test]
    fn the_environment_is_read() {
        // Cargo sets it for every test.
        assert_eq!(from_env("CARGO_PKG_NAME").unwrap().expose_secret(), "amlgate");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_pointed_out() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, said) in [(0o600, None), (0o640, Some("a group")), (0o644, Some("everybody"))] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let exposure = exposure(file.path()).unwrap();
            assert_eq!(exposure.is_some(), said.is_some(), "{mode:o}");
            assert!(exposure.unwrap_or_default().starts_with(said.unwrap_or_default()), "{mode:o}");
        }
    }
}
