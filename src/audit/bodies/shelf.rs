//! Where blobs lie, and what is in them.
//!
//! `bodies/HOUR/DIGEST` is kept until that hour (UTC) is over, `bodies/kept/DIGEST` for ever. DIGEST is
//! the SHA-256 of the file. The file is two lines and the ciphertext that is bound to them: the form,
//! and the decision with the side whose body it is.

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::Path,
};

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::{super::note::hex, Side};
use crate::{policy::DecisionId, secrets::BlobSealer, time::Timestamp};

/// The folder of all blobs.
pub(in crate::audit) const BODIES: &str = "bodies";
/// The folder of those that are kept for ever.
const FOR_EVER: &str = "kept";
/// The first line.
const FORM: &str = "amlgate-body 1";
/// No blob is larger: the largest bound, and room for the head.
const MAX_BLOB: u64 = (64 << 20) + 4_096;

/// Where a blob with that digest lies.
pub(super) fn place(until: Option<Timestamp>, digest: &[u8; 32]) -> String {
    let hour = until.map_or_else(|| FOR_EVER.to_owned(), hour);
    format!("{BODIES}/{hour}/{}", hex(digest))
}

fn hour(time: Timestamp) -> String {
    time.to_utc().format("%Y-%m-%dT%H").to_string()
}

/// Whether the blobs in a folder of that name need not be kept any longer.
pub(in crate::audit) fn is_over(folder: &str, now: Timestamp) -> bool {
    let form = |text: &str| {
        text.len() == 13
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                10 => byte == b'T',
                _ => byte.is_ascii_digit(),
            })
    };
    form(folder) && *folder < *hour(now)
}

fn head(decision: &str, side: Side) -> String {
    format!("{FORM}\n{decision} {}\n", side.name())
}

/// A blob.
pub(super) fn seal(sealer: &BlobSealer, decision: DecisionId, side: Side, body: &[u8]) -> Option<Vec<u8>> {
    let mut blob = head(&decision.to_string(), side).into_bytes();
    let sealed = sealer.seal(&blob, body)?;
    blob.extend_from_slice(&sealed);
    Some(blob)
}

/// A body that was kept.
pub struct Opened {
    /// The decision on the request that it is of.
    pub decision: String,
    /// Whose it is.
    pub side: Side,
    /// What was kept of it.
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({} of {}, {} bytes)", self.side.name(), self.decision, self.body.len())
    }
}

/// Why a body cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The name is none.
    #[error("`{0}` is no digest of a body: it has 64 hexadecimal digits, as `bodies` of a record says")]
    Digest(String),
    /// The disk.
    #[error("cannot read the body")]
    Io(#[from] io::Error),
    /// There is none.
    #[error(
        "there is no body of this digest here: its time may be over, or another gate of the fleet has it"
    )]
    Missing,
    /// It is not what was kept.
    #[error("the body is not what was kept: its digest is another")]
    Changed,
    /// No key opens it.
    #[error("no key of `keys.seal` opens the body: it was sealed with one that is not listed any more")]
    Sealed,
}

/// Finds a blob in a log's directory by its digest and opens it.
///
/// # Errors
/// [`BodyError`].
pub fn open(directory: &Path, name: &str, sealer: &BlobSealer) -> Result<Opened, BodyError> {
    let name = name.strip_prefix("sha256:").unwrap_or(name);
    if name.len() != 64 || !name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(BodyError::Digest(name.chars().take(80).filter(|c| c.is_ascii_graphic()).collect()));
    }
    let blob = found(directory, name)?.ok_or(BodyError::Missing)?;
    if hex(digest(&SHA256, &blob).as_ref()) != name {
        return Err(BodyError::Changed);
    }
    opened(&blob, sealer).ok_or(BodyError::Sealed)
}

/// The blob of that digest, in whichever folder it is.
fn found(directory: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let folders = match fs::read_dir(directory.join(BODIES)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        folders => folders?,
    };
    for folder in folders {
        match fs::File::open(folder?.path().join(name)) {
            Ok(file) => {
                let mut blob = Vec::new();
                file.take(MAX_BLOB).read_to_end(&mut blob)?;
                return Ok(Some(blob));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn opened(blob: &[u8], sealer: &BlobSealer) -> Option<Opened> {
    let mut ends = memchr::memchr_iter(b'\n', blob);
    let (form_end, head_end) = (ends.next()?, ends.next()?);
    let line = std::str::from_utf8(blob.get(form_end + 1..head_end)?).ok()?;
    let (decision, side) = line.split_once(' ')?;
    let side = [Side::Request, Side::Response].into_iter().find(|known| known.name() == side)?;
    let (bound, sealed) = blob.split_at_checked(head_end + 1)?;
    if bound != head(decision, side).as_bytes() {
        return None;
    }
    let body = sealer.open(bound, sealed)?;
    Some(Opened { decision: decision.to_owned(), side, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{Purpose, Seal, SecretString};

    fn sealer(root: &str) -> BlobSealer {
        Seal::new([&SecretString::from(root)]).unwrap().blob_sealer(Purpose::Bodies)
    }

    const ROOT: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    /// A blob in a folder of its own, and its digest.
    fn kept(directory: &Path, until: Option<Timestamp>) -> String {
        let blob = seal(&sealer(ROOT), DecisionId::fresh(), Side::Response, b"a body").unwrap();
        let mut name = [0; 32];
        name.copy_from_slice(digest(&SHA256, &blob).as_ref());
        let path = directory.join(place(until, &name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, blob).unwrap();
        hex(&name)
    }

    #[test]
    fn a_body_is_found_by_its_digest_and_opened_with_the_key_alone() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        assert!(matches!(open(at, &"0".repeat(64), &sealer(ROOT)), Err(BodyError::Missing)));
        for until in [None, Some(Timestamp::from_secs(1_800_000_000))] {
            let name = kept(at, until);
            let opened = open(at, &name, &sealer(ROOT)).unwrap();
            assert_eq!((opened.side, opened.body.as_slice()), (Side::Response, &b"a body"[..]));
            let other = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";
            assert!(matches!(open(at, &name, &sealer(other)), Err(BodyError::Sealed)));
        }
        for odd in ["", "abc", "../../etc/passwd", &"A".repeat(64), &"é".repeat(32)] {
            assert!(matches!(open(at, odd, &sealer(ROOT)), Err(BodyError::Digest(_))), "{odd}");
        }
    }

    #[test]
    fn a_body_that_was_changed_is_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let name = kept(directory.path(), None);
        let path = directory.path().join("bodies/kept").join(&name);
        let mut blob = fs::read(&path).unwrap();
        *blob.last_mut().unwrap() ^= 1;
        fs::write(&path, blob).unwrap();
        assert!(matches!(open(directory.path(), &name, &sealer(ROOT)), Err(BodyError::Changed)));
    }

    #[test]
    fn an_hour_is_over_when_the_next_one_has_begun_and_nothing_else_ever_is() {
        let now = Timestamp::from_secs(1_800_000_000);
        let own = hour(now);
        assert_eq!(own, "2027-01-15T08");
        assert!(is_over("2027-01-15T07", now) && is_over("1999-12-31T23", now));
        for other in
            [own.as_str(), "2027-01-15T09", "kept", "2027-01-14", "2027-01-14T0", "2027-01-14T007", ""]
        {
            assert!(!is_over(other, now), "{other}");
        }
    }
}
