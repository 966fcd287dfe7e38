//! Who may knock: whoever knows the secret of a path, comes from where they should, and not too often.
//!
//! A stranger learns nothing: every refusal but the one of somebody who knows the secret is the same.

use std::{
    collections::VecDeque,
    fmt,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use ipnet::IpNet;

use crate::time::Timestamp;

/// What is told is looked at so often, on the average.
const EVERY: Duration = Duration::from_millis(100);
/// And so much of it at once.
const BURST: u32 = 100;
/// The same, as CloudEvents' handshake has it.
pub(super) const PER_MINUTE: u32 = 600;
/// Bodies that are known again.
const REMEMBERED: usize = 256;

/// The SHA-256 of something.
pub type Digest = [u8; 32];

/// What a configuration says of a door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorSettings {
    /// The SHA-256 of its secret.
    pub secret: Digest,
    /// Whence it may be knocked at; from everywhere if there is none.
    pub from: Vec<IpNet>,
    /// Whether whoever knocks shows a certificate that the listener's `client_ca` vouches for.
    pub client_certificate: bool,
    /// How long what is told has before it is looked at, where that is later.
    pub grace: Duration,
}

/// How somebody came.
#[derive(Debug, Clone, Copy)]
pub struct Knock<'k> {
    /// The secret that they know.
    pub secret: &'k str,
    /// From where.
    pub from: IpAddr,
    /// Whether the listener's `client_ca` vouches for their certificate.
    pub certified: bool,
}

/// Why somebody is not let in. The words are for the record, and the same for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// They do not know the secret, or there is no such door.
    Unknown,
    /// They know the secret, and come from elsewhere.
    Elsewhere,
    /// They know the secret, and nobody vouches for them.
    Uncertified,
}

impl Turned {
    /// For the record.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "the path of a hook is not known",
            Self::Elsewhere => "a hook is told something from a network that it does not take it from",
            Self::Uncertified => "a hook is told something without a certificate",
        }
    }
}

/// What becomes of something that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is looked at.
    Fresh,
    /// It was told before.
    Again,
    /// Too much is told at once; less after so long.
    TooMuch(Duration),
}

/// One path.
pub struct Door {
    settings: DoorSettings,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// When all that was taken would have come at the even pace.
    paced: Timestamp,
    recent: VecDeque<Digest>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Door(from {:?})", self.settings.from)
    }
}

impl Door {
    /// A door at which nobody has knocked yet.
    #[must_use]
    pub fn new(settings: DoorSettings) -> Self {
        Self { settings, told: Mutex::default() }
    }

    /// How long what is told has before it is looked at.
    #[must_use]
    pub const fn grace(&self) -> Duration {
        self.settings.grace
    }

    /// Whether somebody may tell something here.
    ///
    /// # Errors
    /// [`Turned`].
    pub fn lets_in(&self, knock: &Knock<'_>) -> Result<(), Turned> {
        if !is(knock.secret, &self.settings.secret) {
            return Err(Turned::Unknown);
        }
        let from = knock.from.to_canonical();
        if !self.settings.from.is_empty() && !self.settings.from.iter().any(|net| net.contains(&from)) {
            return Err(Turned::Elsewhere);
        }
        if self.settings.client_certificate && !knock.certified {
            return Err(Turned::Uncertified);
        }
        Ok(())
    }

    /// What becomes of a body.
    pub fn takes(&self, body: &[u8], now: Timestamp) -> Taken {
        let body = sha256(body);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.recent.contains(&body) {
            return Taken::Again;
        }
        let paced = told.paced.max(now).plus(EVERY);
        let early = paced.since(now.plus(EVERY.saturating_mul(BURST)));
        if !early.is_zero() {
            return Taken::TooMuch(early);
        }
        told.paced = paced;
        if told.recent.len() == REMEMBERED {
            told.recent.pop_front();
        }
        told.recent.push_back(body);
        Taken::Fresh
    }

    /// What was told came to nothing: it may be told again.
    pub fn forgets(&self, body: &[u8]) {
        let body = sha256(body);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.recent.retain(|known| *known != body);
    }
}

/// Where there is no door, knocking takes as long as at one.
pub(super) fn nobody(knock: &Knock<'_>) -> Turned {
    // Whatever hashes to this is not known to anybody.
    is(knock.secret, &[0; 32]);
    Turned::Unknown
}

fn is(secret: &str, known: &Digest) -> bool {
    verify_slices_are_equal(&sha256(secret.as_bytes()), known).is_ok()
}

/// The digest by which a secret is known here, and a body known again.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut found = Digest::default();
    found.copy_from_slice(digest(&SHA256, bytes).as_ref());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn door(from: &[&str], client_certificate: bool) -> Door {
        let from = from.iter().map(|net| net.parse().unwrap()).collect();
        let grace = Duration::ZERO;
        Door::new(DoorSettings { secret: sha256(SECRET.as_bytes()), from, client_certificate, grace })
    }

    fn knocks(door: &Door, secret: &str, from: &str, certified: bool) -> Result<(), Turned> {
        door.lets_in(&Knock { secret, from: from.parse().unwrap(), certified })
    }

    #[test]
    fn only_who_knows_the_secret_and_comes_from_there_is_let_in() {
        let open = door(&["10.0.0.0/8", "fd00::/8"], false);
        for from in ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1"] {
            assert_eq!(knocks(&open, SECRET, from, false), Ok(()), "{from}");
        }
        for from in ["11.1.2.3", "::1", "fe80::1"] {
            assert_eq!(knocks(&open, SECRET, from, true), Err(Turned::Elsewhere), "{from}");
        }
        for secret in ["", "0", &SECRET[1..], &SECRET.to_uppercase(), &format!("{SECRET}0")] {
            assert_eq!(knocks(&open, secret, "10.1.2.3", true), Err(Turned::Unknown), "{secret}");
        }
        let certified = door(&[], true);
        assert_eq!(knocks(&certified, SECRET, "192.0.2.1", true), Ok(()));
        assert_eq!(knocks(&certified, SECRET, "192.0.2.1", false), Err(Turned::Uncertified));
        assert_eq!(
            knocks(&certified, "", "192.0.2.1", false),
            Err(Turned::Unknown),
            "who is a stranger learns nothing"
        );
    }

    #[test]
    fn what_was_told_is_known_again_and_a_flood_is_slowed_down() {
        let door = door(&[], false);
        let now = Timestamp::from_secs(1_000);
        assert_eq!(door.takes(b"one", now), Taken::Fresh);
        assert_eq!(door.takes(b"one", now), Taken::Again);
        door.forgets(b"one");
        assert_eq!(door.takes(b"one", now), Taken::Fresh);
        let taken = (0..200_u8).filter(|n| door.takes(&[*n], now) == Taken::Fresh).count();
        assert_eq!(taken, 98, "of a hundred, two were taken before");
        assert_eq!(door.takes(b"more", now), Taken::TooMuch(EVERY));
        assert_eq!(door.takes(b"one", now), Taken::Again, "that is no more");
        let later = now.plus(Duration::from_secs(1));
        let taken = (0..200_u8).filter(|n| door.takes(&[*n, 1], later) == Taken::Fresh).count();
        assert_eq!(taken, 10, "ten a second");
    }

    #[test]
    fn not_everything_that_was_told_is_remembered() {
        let door = door(&[], false);
        for second in 0..1_000_u64 {
            assert_eq!(door.takes(&second.to_be_bytes(), Timestamp::from_secs(second)), Taken::Fresh);
        }
        assert_eq!(door.told.lock().unwrap().recent.len(), REMEMBERED);
    }

    #[test]
    fn a_door_says_nothing_of_its_secret() {
        let digest = format!("{:?}", sha256(SECRET.as_bytes()));
        let said = format!("{:?}", door(&["10.0.0.0/8"], false));
        assert!(!said.contains(SECRET) && !said.contains(&digest[1..20]), "{said}");
    }
}
