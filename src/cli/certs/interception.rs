//! `amlgate certs rotate interception`: another authority for what is shown inside tunnels.
//!
//! In two steps, because a client must believe an authority before it meets its first leaf. First
//! the next authority is made and handed to clients beside the one in use (`also_trust`); then the
//! two change places. At any time between, what the two files name together is both, so that a gate
//! that reads them in the middle of a step, or after one that was broken off, says nothing wrong.

use std::{fs, path::Path};

use super::{CertsError, Readers, write};
use crate::{
    listen::{self, Interceptor},
    time::{Clock as _, SystemClock},
};

/// The authority in use, and its key.
const CERTIFICATE: &str = "interception-ca.pem";
const KEY: &str = "interception-ca.key";
/// The one that clients believe besides: the next before the change, the previous after it.
const OTHER: &str = "interception-ca.other.pem";
/// The next one's key, which becomes [`KEY`].
const OTHER_KEY: &str = "interception-ca.other.key";

/// Which step of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make the next authority, for clients to believe.
    Announce,
    /// Mint leaves from it.
    Switch,
}

/// Takes a step; says what to do now.
///
/// # Errors
/// [`CertsError`]; then every file is whole, and the step can be taken again.
pub fn rotate(dir: &Path, domains: &[String], step: Step) -> Result<Vec<String>, CertsError> {
    match step {
        Step::Announce => announce(dir, domains),
        Step::Switch => switch(dir),
    }
}

fn announce(dir: &Path, domains: &[String]) -> Result<Vec<String>, CertsError> {
    let (other, other_key) = (dir.join(OTHER), dir.join(OTHER_KEY));
    if other_key.exists() {
        return Err(CertsError::Announced(other));
    }
    let (certificate, key) = listen::new_authority(domains, SystemClock.now())?;
    // The key last: it says that the certificate beside it is the next one.
    write(&other, certificate.as_bytes(), Readers::All)?;
    write(&other_key, key.as_bytes(), Readers::Owner)?;
    Ok(vec![
        format!("made {}: the next interception authority", other.display()),
        format!(
            "name it under `listen.forward.interception_ca`, also_trust: [{}], and the gate hands both to clients",
            other.display()
        ),
        "when they have it (`amlgate run`, `relay`, `env` and `login` take it by themselves): amlgate certs rotate interception --switch".to_owned(),
    ])
}

fn switch(dir: &Path) -> Result<Vec<String>, CertsError> {
    let path = |name: &str| dir.join(name);
    let read = |name: &str| {
        fs::read_to_string(path(name)).map_err(|source| CertsError::File {
            verb: "read",
            path: path(name),
            source,
        })
    };
    if !path(OTHER_KEY).exists() {
        return Err(CertsError::NotAnnounced(dir.to_owned()));
    }
    let key = zeroize::Zeroizing::new(read(OTHER_KEY)?);
    let known = certificates(&[read(CERTIFICATE)?, read(OTHER)?])?;
    // A step that was broken off may have changed one of them already.
    let (next, previous): (Vec<_>, Vec<_>) =
        known.iter().partition(|certificate| Interceptor::new(certificate, &key).is_ok());
    let [next] = next.as_slice() else { return Err(CertsError::NotAnnounced(dir.to_owned())) };
    let text = |all: &[&String]| all.iter().map(|one| one.as_str()).collect::<String>();
    let previous = text(&previous);
    write(&path(OTHER), format!("{next}{previous}").as_bytes(), Readers::All)?;
    write(&path(CERTIFICATE), next.as_bytes(), Readers::All)?;
    write(&path(KEY), key.as_bytes(), Readers::Owner)?;
    write(&path(OTHER), previous.as_bytes(), Readers::All)?;
    fs::remove_file(path(OTHER_KEY)).map_err(|source| CertsError::File {
        verb: "remove",
        path: path(OTHER_KEY),
        source,
    })?;
    Ok(vec![
        format!(
            "leaves are minted from the new {}; a running gate takes it up by itself",
            path(CERTIFICATE).display()
        ),
        format!(
            "the previous one's key is gone; keep `also_trust` until every replica has the new one, then remove {}",
            path(OTHER).display()
        ),
    ])
}

/// Every certificate of these files once, as PEM.
fn certificates(texts: &[String]) -> Result<Vec<String>, CertsError> {
    let mut found = Vec::new();
    for text in texts {
        for one in pem::parse_many(text).map_err(|_| CertsError::NoCertificate)? {
            let one = pem::encode(&one);
            if !found.contains(&one) {
                found.push(one);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> (tempfile::TempDir, [String; 1]) {
        let dir = tempfile::tempdir().unwrap();
        let domains = ["management.azure.com".to_owned()];
        let (certificate, key) = listen::new_authority(&domains, SystemClock.now()).unwrap();
        fs::write(dir.path().join(CERTIFICATE), certificate).unwrap();
        fs::write(dir.path().join(KEY), key).unwrap();
        (dir, domains)
    }

    fn read(dir: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(dir.path().join(name)).unwrap().replace('\r', "")
    }

    fn is_pair(dir: &tempfile::TempDir) -> bool {
        Interceptor::new(&read(dir, CERTIFICATE), &read(dir, KEY)).is_ok()
    }

    #[test]
    fn the_next_authority_takes_the_place_of_the_one_in_use_and_leaves_it_believed() {
        let (dir, domains) = begun();
        let first = read(&dir, CERTIFICATE);
        rotate(dir.path(), &domains, Step::Announce).unwrap();
        let next = read(&dir, OTHER);
        assert_eq!(listen::domains(&next).unwrap(), domains, "it can vouch for no more than the first");
        assert_eq!(read(&dir, CERTIFICATE), first, "nothing is minted from it yet");
        let again = rotate(dir.path(), &domains, Step::Announce).unwrap_err();
        assert!(again.to_string().contains("--switch"), "{again}");

        rotate(dir.path(), &domains, Step::Switch).unwrap();
        let same = |a: &str, b: &str| {
            certificates(&[a.to_owned()]).unwrap() == certificates(&[b.to_owned()]).unwrap()
        };
        assert!(same(&read(&dir, CERTIFICATE), &next) && same(&read(&dir, OTHER), &first));
        assert!(is_pair(&dir));
        assert!(!dir.path().join(OTHER_KEY).exists(), "the previous one's key is nowhere");
        assert!(rotate(dir.path(), &domains, Step::Switch).is_err());
        rotate(dir.path(), &domains, Step::Announce).unwrap();
        rotate(dir.path(), &domains, Step::Switch).unwrap();
        assert!(is_pair(&dir) && same(&read(&dir, OTHER), &next));
    }

    #[test]
    fn a_switch_that_was_broken_off_is_taken_up_again() {
        // After each of its writes.
        for broken_after in 1..=4 {
            let (dir, domains) = begun();
            rotate(dir.path(), &domains, Step::Announce).unwrap();
            let (first, next) = (read(&dir, CERTIFICATE), read(&dir, OTHER));
            let key = read(&dir, OTHER_KEY);
            let files = [(OTHER, format!("{next}{first}")), (CERTIFICATE, next), (KEY, key), (OTHER, first)];
            for (name, text) in files.into_iter().take(broken_after) {
                fs::write(dir.path().join(name), text).unwrap();
                let both = certificates(&[read(&dir, CERTIFICATE), read(&dir, OTHER)]).unwrap();
                assert_eq!(both.len(), 2, "both are believed at any time");
            }
            rotate(dir.path(), &domains, Step::Switch).unwrap();
            assert!(is_pair(&dir), "after {broken_after}");
        }
    }
}
