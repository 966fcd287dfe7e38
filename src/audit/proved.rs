//! Proofs as texts that stand alone: C2SP tlog-proof for a record, with the record itself as its
//! extra data, and the body of C2SP tlog-witness's `add-checkpoint` for two trees.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    merkle::{self, Hash},
    note::{Head, NoteError, VerifierKeys},
    proof,
};

/// The first line of a proof of a record.
const FIRST: &str = "c2sp.org/tlog-proof@v1";
/// More hashes than any tree has levels.
const MAX_PATH: usize = 63;

/// That a record is in the tree of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// The record's position.
    pub index: u64,
    /// The record.
    pub leaf: Vec<u8>,
    /// From the leaf's sibling to the root.
    pub path: Vec<Hash>,
    /// The signed head.
    pub checkpoint: String,
}

/// That the tree of a head begins with a smaller one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    /// The size of the smaller one.
    pub old: u64,
    /// RFC 6962, 2.1.2.
    pub path: Vec<Hash>,
    /// The signed head.
    pub checkpoint: String,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// Not a proof.
    #[error("it is not a proof: {0}")]
    Malformed(&'static str),
    /// The head in it.
    #[error("its head is not good")]
    Head(#[source] NoteError),
    /// The hashes do not lead there.
    #[error("its hashes do not lead to the tree that was signed")]
    Path,
    /// The smaller tree is another.
    #[error("it is about a tree of {found} records, and the head that it is held against has {expected}")]
    Other {
        /// In the proof.
        found: u64,
        /// In the head.
        expected: u64,
    },
}

impl Inclusion {
    /// Reads the proofs in a text, one behind the other.
    ///
    /// # Errors
    /// [`Unproven::Malformed`] for the first that is none.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, Unproven> {
        let marker = format!("{FIRST}\n");
        let mut parts = text.split(marker.as_str());
        if parts.next() != Some("") {
            return Err(Unproven::Malformed("it does not begin with its name"));
        }
        parts.map(Self::parse).collect()
    }

    fn parse(text: &str) -> Result<Self, Unproven> {
        let wrong = Unproven::Malformed;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(wrong("it has no head"))?;
        let mut lines = head.lines();
        let leaf = lines.next().and_then(|l| l.strip_prefix("extra ")).ok_or(wrong("it has no record"))?;
        let index = lines.next().and_then(|l| l.strip_prefix("index ")).ok_or(wrong("it has no index"))?;
        Ok(Self {
            index: number(index).ok_or(wrong("its index is not a number"))?,
            leaf: STANDARD.decode(leaf).map_err(|_| wrong("its record is not base64"))?,
            path: path(lines)?,
            checkpoint: checkpoint.trim_end_matches('\n').to_owned() + "\n",
        })
    }

    /// Checks the proof under the keys of its log.
    ///
    /// # Errors
    /// [`Unproven`].
    pub fn verify(&self, keys: &VerifierKeys) -> Result<Head, Unproven> {
        let (head, _) = keys.open(&self.checkpoint, 0).map_err(Unproven::Head)?;
        let leaf = merkle::leaf(&self.leaf);
        let fits = proof::includes(head.size, &head.root, self.index, &leaf, &self.path);
        if fits { Ok(head) } else { Err(Unproven::Path) }
    }
}

impl fmt::Display for Inclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST}\nextra {}\nindex {}", STANDARD.encode(&self.leaf), self.index)?;
        hashes(f, &self.path)?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl Consistency {
    /// Reads a proof.
    ///
    /// # Errors
    /// [`Unproven::Malformed`].
    pub fn parse(text: &str) -> Result<Self, Unproven> {
        let wrong = Unproven::Malformed;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(wrong("it has no head"))?;
        let mut lines = head.lines();
        let old = lines.next().and_then(|l| l.strip_prefix("old ")).ok_or(wrong("it has no old size"))?;
        let old = number(old).ok_or(wrong("its old size is not a number"))?;
        Ok(Self { old, path: path(lines)?, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that the tree of the proof's head begins with the tree of `old`.
    ///
    /// # Errors
    /// [`Unproven`].
    pub fn verify(&self, keys: &VerifierKeys, old: &Head) -> Result<Head, Unproven> {
        let (head, _) = keys.open(&self.checkpoint, 0).map_err(Unproven::Head)?;
        if old.size != self.old {
            return Err(Unproven::Other { found: self.old, expected: old.size });
        }
        let fits = head.origin == old.origin
            && proof::extends(old.size, &old.root, head.size, &head.root, &self.path);
        if fits { Ok(head) } else { Err(Unproven::Path) }
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        hashes(f, &self.path)?;
        write!(f, "\n{}", self.checkpoint)
    }
}

fn hashes(f: &mut fmt::Formatter<'_>, path: &[Hash]) -> fmt::Result {
    path.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash)))
}

fn path<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Hash>, Unproven> {
    let wrong = || Unproven::Malformed("one of its lines is not a hash");
    let path: Vec<Hash> = lines
        .take(MAX_PATH + 1)
        .map(|line| STANDARD.decode(line).ok().and_then(|hash| Hash::try_from(hash).ok()).ok_or_else(wrong))
        .collect::<Result<_, _>>()?;
    if path.len() > MAX_PATH { Err(Unproven::Malformed("it has too many hashes")) } else { Ok(path) }
}

/// A number in its one form.
fn number(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{merkle::Range, note};

    fn log(count: u64) -> (Vec<Vec<u8>>, Vec<Hash>) {
        let leaves: Vec<_> = (0..count).map(|n| format!("{{\"n\":{n}}}").into_bytes()).collect();
        let hashes = leaves.iter().map(|l| merkle::leaf(l)).collect();
        (leaves, hashes)
    }

    fn head(signer: &note::Signer, hashes: &[Hash]) -> String {
        let mut range = Range::default();
        hashes.iter().for_each(|h| range.push(*h));
        signer.sign(range.size(), &range.root())
    }

    #[test]
    fn a_proof_of_a_record_stands_alone_and_no_edit_of_it_does() {
        let signer = note::tests::signer();
        let keys = VerifierKeys::from(signer.verifier());
        let (leaves, hashes) = log(11);
        let whole = |index: u64| Inclusion {
            index,
            leaf: leaves[index as usize].clone(),
            path: proof::inclusion(&mut &hashes[..], index, 11).unwrap(),
            checkpoint: head(&signer, &hashes),
        };
        let text = format!("{}{}", whole(3), whole(10));
        let parsed = Inclusion::parse_all(&text).unwrap();
        assert_eq!(parsed, [whole(3), whole(10)]);
        assert!(parsed.iter().all(|p| p.verify(&keys).unwrap().size == 11));
        assert!(matches!(parsed[0].verify(&note::tests::signer().verifier().into()), Err(Unproven::Head(_))));
        assert_eq!(Inclusion { index: 4, ..whole(3) }.verify(&keys), Err(Unproven::Path));
        assert_eq!(Inclusion { leaf: b"{}".to_vec(), ..whole(3) }.verify(&keys), Err(Unproven::Path));
        let text = whole(3).to_string();
        for at in 0..text.find("\n\n").unwrap() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let good =
                Inclusion::parse_all(&changed).is_ok_and(|all| all.iter().all(|p| p.verify(&keys).is_ok()));
            assert!(!good, "byte {at}: {changed}");
        }
    }

    #[test]
    fn a_proof_that_a_log_grew_fits_the_head_that_was_kept_and_no_other() {
        let signer = note::tests::signer();
        let keys = VerifierKeys::from(signer.verifier());
        let (_, hashes) = log(11);
        let old = keys.open(&head(&signer, &hashes[..6]), 0).unwrap().0;
        let path = proof::consistency(&mut &hashes[..], 6, 11).unwrap();
        let grown = Consistency { old: 6, path, checkpoint: head(&signer, &hashes) };
        let parsed = Consistency::parse(&grown.to_string()).unwrap();
        assert_eq!(parsed, grown);
        assert_eq!(parsed.verify(&keys, &old).unwrap().size, 11);
        let forked = Head { root: [1; 32], ..old.clone() };
        assert_eq!(parsed.verify(&keys, &forked), Err(Unproven::Path));
        let other = keys.open(&head(&signer, &hashes[..5]), 0).unwrap().0;
        assert_eq!(parsed.verify(&keys, &other), Err(Unproven::Other { found: 6, expected: 5 }));
        assert!(Consistency::parse(&grown.to_string().replace("old 6", "old 06")).is_err());
    }
}
