//! Signed heads: C2SP tlog-checkpoint in a C2SP signed note, with Ed25519.

use std::fmt;

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

use super::merkle::Hash;

/// The algorithm's byte in key ids and verifier keys.
const ED25519_BYTE: u8 = 1;

/// A tree's size and root, which a signature vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The log's name.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// Their root.
    pub root: Hash,
}

/// The line by which a head says that it is the last of its log.
const END: &str = "amlgate-end\n";

/// Signs heads.
pub struct Signer {
    origin: String,
    key: Ed25519KeyPair,
}

/// Checks heads: the public half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    origin: String,
    public: Vec<u8>,
}

/// Why a note or key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not an Ed25519 private key in PKCS#8 PEM.
    #[error("the signing key is not an Ed25519 key in PKCS#8 PEM: `amlgate certs init` makes one")]
    SigningKey,
    /// Not a verifier key.
    #[error("`{0}` is not a verifier key: it looks like NAME+HASH+KEY")]
    VerifierKey(String),
    /// Not a checkpoint.
    #[error("the head is not a checkpoint: {0}")]
    Malformed(&'static str),
    /// Of another log.
    #[error("the head is of the log `{found}`, not of `{expected}`")]
    Origin {
        /// What it says.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// No signature of this key is good.
    #[error("no signature of `{0}` under the head is good")]
    Signature(String),
}

impl Signer {
    /// From an Ed25519 key in PKCS#8 PEM.
    ///
    /// # Errors
    /// [`NoteError::SigningKey`].
    pub fn from_pem(origin: &str, pem: &[u8]) -> Result<Self, NoteError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| NoteError::SigningKey)?;
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map_err(|_| NoteError::SigningKey)?;
        Ok(Self { origin: origin.to_owned(), key })
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { origin: self.origin.clone(), public: self.key.public_key().as_ref().to_vec() }
    }

    /// The signed note of a tree.
    #[must_use]
    pub fn sign(&self, size: u64, root: &Hash) -> String {
        self.note(&body(&self.origin, size, root))
    }

    /// The signed note that says that the log ends with this tree: nothing comes behind it.
    #[must_use]
    pub fn sign_end(&self, size: u64, root: &Hash) -> String {
        self.note(&format!("{}{END}", body(&self.origin, size, root)))
    }

    /// Signs a list of files and their digests, as it is: no note. `None` for what might be taken for a
    /// head.
    #[must_use]
    pub fn sign_list(&self, list: &str) -> Option<Vec<u8>> {
        let is_head = parse_body(list.strip_suffix(END).unwrap_or(list)).is_ok();
        (!is_head).then(|| self.key.sign(list.as_bytes()).as_ref().to_vec())
    }

    fn note(&self, text: &str) -> String {
        let mut signature = key_id(&self.origin, self.key.public_key().as_ref()).to_vec();
        signature.extend_from_slice(self.key.sign(text.as_bytes()).as_ref());
        format!("{text}\n\u{2014} {} {}\n", self.origin, STANDARD.encode(signature))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.origin)
    }
}

impl VerifierKey {
    /// From `NAME+HASH+KEY`, as it is printed.
    ///
    /// # Errors
    /// [`NoteError::VerifierKey`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let wrong = || NoteError::VerifierKey(text.trim().chars().take(120).collect());
        let mut parts = text.trim().splitn(3, '+');
        let (Some(origin), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong());
        };
        let bytes = STANDARD.decode(key).map_err(|_| wrong())?;
        let Some((&ED25519_BYTE, public)) = bytes.split_first() else { return Err(wrong()) };
        if public.len() != 32 || hex(&key_id(origin, public)) != id {
            return Err(wrong());
        }
        Ok(Self { origin: origin.to_owned(), public: public.to_vec() })
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether it vouches for a list that [`Signer::sign_list`] signed.
    #[must_use]
    pub fn vouches(&self, list: &str, signature: &[u8]) -> bool {
        parse_body(list.strip_suffix(END).unwrap_or(list)).is_err()
            && UnparsedPublicKey::new(&ED25519, &self.public).verify(list.as_bytes(), signature).is_ok()
    }

    /// The key as other programs read it: `SubjectPublicKeyInfo` in PEM (RFC 8410).
    #[must_use]
    pub fn to_pem(&self) -> String {
        const ALGORITHM: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let der = [&ALGORITHM[..], &self.public].concat();
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        pem::encode_config(&pem::Pem::new("PUBLIC KEY", der), config)
    }

    /// Reads a signed note and checks it.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open(&self, note: &str) -> Result<Head, NoteError> {
        let (text, signatures) =
            note.split_once("\n\n").ok_or(NoteError::Malformed("it has no signature"))?;
        let text = format!("{text}\n");
        let head = parse_body(text.strip_suffix(END).unwrap_or(&text))?;
        if head.origin != self.origin {
            return Err(NoteError::Origin { found: head.origin, expected: self.origin.clone() });
        }
        let id = key_id(&self.origin, &self.public);
        let good = signatures.lines().any(|line| {
            let Some((name, signature)) = line.strip_prefix("\u{2014} ").and_then(|l| l.split_once(' '))
            else {
                return false;
            };
            let Ok(bytes) = STANDARD.decode(signature) else { return false };
            let Some(signature) = bytes.strip_prefix(&id) else { return false };
            name == self.origin
                && UnparsedPublicKey::new(&ED25519, &self.public).verify(text.as_bytes(), signature).is_ok()
        });
        if good { Ok(head) } else { Err(NoteError::Signature(self.origin.clone())) }
    }
}

/// The keys of a log, oldest first: a rotation adds one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifierKeys(Vec<VerifierKey>);

impl VerifierKeys {
    /// From lines of `NAME+HASH+KEY`; empty lines and lines that begin with `#` say nothing.
    ///
    /// # Errors
    /// [`NoteError::VerifierKey`] for the first line that is none.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        lines.map(VerifierKey::parse).collect::<Result<_, _>>().map(Self)
    }

    /// The keys of one log.
    #[must_use]
    pub fn of(&self, origin: &str) -> Self {
        Self(self.0.iter().filter(|k| k.origin == origin).cloned().collect())
    }

    /// The names of all logs that have a key here, each once.
    #[must_use]
    pub fn origins(&self) -> Vec<&str> {
        let mut origins: Vec<&str> = Vec::new();
        for key in &self.0 {
            if !origins.contains(&key.origin()) {
                origins.push(key.origin());
            }
        }
        origins
    }

    /// The key of that number.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<&VerifierKey> {
        self.0.get(number)
    }

    /// The key that signs now.
    #[must_use]
    pub fn newest(&self) -> Option<&VerifierKey> {
        self.0.last()
    }

    /// Adds the key that signs from now on; whether it was not the one that signed before.
    pub fn rotate(&mut self, key: VerifierKey) -> bool {
        let new = self.0.last() != Some(&key);
        if new {
            self.0.push(key);
        }
        new
    }

    /// Adds all of `more`.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Reads a signed note under a key that is not older than `oldest`, and says which: a key that
    /// was rotated out vouches for nothing new.
    ///
    /// # Errors
    /// What the newest key says.
    pub fn open(&self, note: &str, oldest: usize) -> Result<(Head, usize), NoteError> {
        let mut error = NoteError::Malformed("there is no key of its log");
        for (number, key) in self.0.iter().enumerate().skip(oldest) {
            match key.open(note) {
                Ok(head) => return Ok((head, number)),
                Err(e) => error = e,
            }
        }
        Err(error)
    }
}

impl From<VerifierKey> for VerifierKeys {
    fn from(key: VerifierKey) -> Self {
        Self(vec![key])
    }
}

impl fmt::Display for VerifierKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|key| writeln!(f, "{key}"))
    }
}

/// Whether a head says that it is the last of its log.
#[must_use]
pub fn is_end(note: &str) -> bool {
    note.split_once("\n\n")
        .is_some_and(|(text, _)| text.ends_with(END.trim_end()) && text.lines().count() == 4)
}

/// What a head says, which nobody has checked yet.
#[must_use]
pub fn unverified(note: &str) -> Option<Head> {
    let (text, _) = note.split_once("\n\n")?;
    let text = format!("{text}\n");
    parse_body(text.strip_suffix(END).unwrap_or(&text)).ok()
}

/// The key that a note names first, which nobody has checked yet: its name and its hash.
#[must_use]
pub(super) fn signer(note: &str) -> Option<(&str, [u8; 4])> {
    let (_, signatures) = note.split_once("\n\n")?;
    let (name, signature) = signatures.lines().next()?.strip_prefix("\u{2014} ")?.split_once(' ')?;
    // Six bytes, the first four of which are the hash of the key.
    let begin = STANDARD.decode(signature.get(..8)?).ok()?;
    Some((name, *begin.first_chunk()?))
}

/// The last whole note of a file of heads.
#[must_use]
pub fn last(heads: &str) -> Option<&str> {
    super::recovery::split_heads(heads).0.last().copied()
}

/// The log's name in a note that nobody has checked yet.
#[must_use]
pub fn claimed_origin(note: &str) -> &str {
    note.lines().next().unwrap_or_default()
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![ED25519_BYTE];
        bytes.extend_from_slice(&self.public);
        write!(f, "{}+{}+{}", self.origin, hex(&key_id(&self.origin, &self.public)), STANDARD.encode(bytes))
    }
}

fn body(origin: &str, size: u64, root: &Hash) -> String {
    format!("{origin}\n{size}\n{}\n", STANDARD.encode(root))
}

fn parse_body(text: &str) -> Result<Head, NoteError> {
    let mut lines = text.lines();
    let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
        return Err(NoteError::Malformed("it has fewer than three lines"));
    };
    let size: u64 = size.parse().map_err(|_| NoteError::Malformed("its size is not a number"))?;
    let root = STANDARD
        .decode(root)
        .ok()
        .and_then(|r| Hash::try_from(r).ok())
        .ok_or(NoteError::Malformed("its root is not a hash"))?;
    if body(origin, size, &root) != text {
        return Err(NoteError::Malformed("it is not in the one form that such a head has"));
    }
    Ok(Head { origin: origin.to_owned(), size, root })
}

fn key_id(origin: &str, public: &[u8]) -> [u8; 4] {
    let mut bytes = origin.as_bytes().to_vec();
    bytes.extend_from_slice(&[b'\n', ED25519_BYTE]);
    bytes.extend_from_slice(public);
    let mut id = [0; 4];
    for (to, from) in id.iter_mut().zip(digest(&SHA256, &bytes).as_ref()) {
        *to = *from;
    }
    id
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn signer() -> Signer {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        Signer::from_pem("amlgate-test", key.serialize_pem().as_bytes()).unwrap()
    }

    #[test]
    fn a_signed_head_opens_with_its_key_only() {
        let (ours, other) = (signer(), signer());
        let note = ours.sign(7, &[9; 32]);
        let head = ours.verifier().open(&note).unwrap();
        assert_eq!(head, Head { origin: "amlgate-test".into(), size: 7, root: [9; 32] });
        assert!(matches!(other.verifier().open(&note), Err(NoteError::Signature(_))));
    }

    #[test]
    fn the_end_of_a_log_is_signed_like_a_head_and_is_no_plain_one() {
        let ours = signer();
        let (end, head) = (ours.sign_end(7, &[9; 32]), ours.sign(7, &[9; 32]));
        assert_eq!(ours.verifier().open(&end), ours.verifier().open(&head));
        assert!(is_end(&end) && !is_end(&head));
        assert!(ours.verifier().open(&end.replacen(END, "", 1)).is_err());
        assert!(ours.verifier().open(&head.replacen("\n\n", &format!("\n{END}\n"), 1)).is_err());
    }

    #[test]
    fn every_changed_byte_of_a_head_is_found() {
        let ours = signer();
        let note = ours.sign(123, &[5; 32]);
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let opened = ours.verifier().open(&changed);
            assert!(opened.is_err() || opened == ours.verifier().open(&note), "byte {at}: {changed:?}");
            if at < note.find("\n\n").unwrap() {
                assert!(opened.is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn a_verifier_key_is_read_as_it_is_printed() {
        let key = signer().verifier();
        assert_eq!(VerifierKey::parse(&key.to_string()).unwrap(), key);
        assert!(VerifierKey::parse(&key.to_string().replace('a', "b")).is_err());
        assert!(VerifierKey::parse("nonsense").is_err());
    }
}
