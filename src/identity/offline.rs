//! Codes that say who somebody is while no identity provider answers, for a break-glass and nothing
//! else.
//!
//! A code is 128 random bits, made for a person who is signed in and shown to them once. What is kept
//! of it tells nobody what it is: a tag under a key that is not in the store, and, sealed under
//! another, what the person's token said. Whoever types the code is described from that by the same
//! rules and under the same issuer's configuration as then, so that a code adds no right, and loses
//! its holder's rights with that issuer. It is as old as the code: whoever has left since must be
//! revoked.
//!
//! What a code brings is a token of the gate's own for one break-glass. It identifies its holder while
//! that one is open ([`Vouching`]) and at no other time, is not exchanged, and no handle comes of it.
//! Which code counts, and how often somebody may guess, is the gates' business.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{
    Caller, Exchanged, Groups, NotExchanged, Principal, Rejection, Standing, Verifier, claims,
    rejection::Reason,
    revoked::{MARK, MAX_AGE},
    verifier::digest_of,
};
use crate::{
    secrets::{Mac, Purpose, Seal, Sealer},
    time::Timestamp,
};

/// Bytes of a code.
const BYTES: usize = 16;
/// The longest text that is read as one.
const LONGEST: usize = 128;
/// In the gate's mark: the break-glass that a token is for.
pub(super) const GLASS: &str = "glass";
/// In the gate's mark: the caller typed a code.
const CODE: &str = "code";

/// With which keys codes are tagged and sealed.
#[derive(Debug)]
pub struct OfflineCodes {
    tags: Mac,
    sealer: Sealer,
}

/// What is kept of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptCode {
    /// A keyed tag of it: 64 hexadecimal digits.
    pub tag: String,
    /// What its holder's token said, sealed for this tag.
    pub sealed: String,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Content {
    issuer: String,
    claims: Map<String, Value>,
}

/// Why no code is made for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoCode {
    /// The gate gives out no tokens of its own.
    #[error(
        "codes bring tokens of the gate, which it gives out where `listen.admin.public_url` (or `on_reverse`) and `store` are configured"
    )]
    Unsigned,
    /// What identifies them says too little, or came from the gate itself.
    #[error(
        "codes are made with a token of your identity provider that says what groups you are in, and not with one of the gate's own or a certificate"
    )]
    NoClaims,
    /// The machine gives no random bytes.
    #[error("no code can be made now")]
    Random,
}

impl OfflineCodes {
    /// With keys of these uses.
    #[must_use]
    pub fn new(seal: &Seal) -> Self {
        Self { tags: seal.mac(Purpose::OfflineCodeTags), sealer: seal.sealer(Purpose::OfflineCodes) }
    }
}

/// A code as it is written down: groups of four hexadecimal digits.
fn written(bytes: &[u8; BYTES]) -> SecretString {
    let groups: Vec<String> = bytes.chunks(2).map(hex).collect();
    groups.join("-").into()
}

/// The bytes of a code as somebody types it.
fn read(text: &str) -> Option<Zeroizing<[u8; BYTES]>> {
    let mut digits = text.chars().filter(|c| *c != '-' && !c.is_whitespace());
    let mut digit = || digits.next()?.to_digit(16);
    let mut bytes = Zeroizing::new([0; BYTES]);
    if text.len() > LONGEST {
        return None;
    }
    for byte in bytes.iter_mut() {
        *byte = u8::try_from(digit()? << 4 | digit()?).ok()?;
    }
    digits.next().is_none().then_some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Caller {
    /// The break-glass for which a code identifies the caller, if one does.
    #[must_use]
    pub fn offline_glass(&self) -> Option<&str> {
        self.claims.get(MARK)?.get(GLASS)?.as_str()
    }
}

impl Verifier {
    /// A code for a verified caller, and what is to be kept of it.
    ///
    /// # Errors
    /// [`NoCode`].
    pub fn code_for(&self, holder: &Principal) -> Result<(SecretString, KeptCode), NoCode> {
        let keys = self.codes().filter(|_| self.own().is_some()).ok_or(NoCode::Unsigned)?;
        let content = self.content(holder).ok_or(NoCode::NoClaims)?;
        let plain = serde_json::to_vec(&content).map(Zeroizing::new).map_err(|_| NoCode::NoClaims)?;
        let mut bytes = Zeroizing::new([0; BYTES]);
        aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| NoCode::Random)?;
        let tag = hex(&keys.tags.tag(&*bytes));
        let sealed = keys.sealer.seal(tag.as_bytes(), &plain).ok_or(NoCode::Random)?;
        Ok((written(&bytes), KeptCode { tag, sealed }))
    }

    /// What a verified caller's token said, with their groups.
    fn content(&self, holder: &Principal) -> Option<Content> {
        if holder.claims.is_empty() || holder.subjects_at_issue.is_some() || holder.claims.contains_key(MARK)
        {
            return None;
        }
        let keyring = self.named(&holder.id.issuer)?;
        let groups: &[Box<str>] = match &holder.groups {
            Groups::Known(groups) => groups,
            Groups::Asked(asked) => asked.member().ok()?,
            Groups::Overage => return None,
        };
        let groups: Vec<_> = groups.iter().map(|group| Value::from(&**group)).collect();
        let mut claims = Map::clone(&holder.claims);
        // Where they are is said no more, now that they are here; and what the token was bound to.
        for name in ["_claim_names", "_claim_sources", "hasgroups", "cnf"] {
            claims.remove(name);
        }
        claims.insert(keyring.issuer.groups_claim.to_string(), Value::Array(groups));
        Some(Content { issuer: holder.id.issuer.to_string(), claims })
    }

    /// The tags by which the code that somebody typed may be kept: of the present key, and of those
    /// before it. None for what is no code.
    #[must_use]
    pub fn tags_of_code(&self, typed: &str) -> Vec<String> {
        let (Some(keys), Some(bytes)) = (self.codes(), read(typed)) else { return Vec::new() };
        keys.tags.tags(&*bytes).map(|tag| hex(&tag)).collect()
    }

    /// Whose code it is; for as long as it takes to do what they ask for with it.
    ///
    /// # Errors
    /// [`Rejection`]: it was not sealed here, or its holder's issuer vouches for them no more.
    pub fn holder_of_code(&self, kept: &KeptCode, until: Timestamp) -> Result<Principal, Rejection> {
        let forged =
            || Rejection::new(Reason::Signature).found("a code that was not sealed with `keys.seal`");
        let keys = self.codes().ok_or_else(forged)?;
        let plain = keys.sealer.open(kept.tag.as_bytes(), &kept.sealed).ok_or_else(forged)?;
        let Content { issuer, mut claims } = serde_json::from_slice(&plain).map_err(|_| forged())?;
        let gone = || Rejection::new(Reason::Issuer).found(format_args!("a code of {issuer}"));
        let keyring = self.named(&issuer).ok_or_else(gone)?;
        claims.insert(MARK.to_owned(), serde_json::json!({ CODE: true }));
        let caller = claims::vouched(claims, digest_of(&kept.tag), &keyring.issuer, until)?;
        Ok(Principal::verified(caller))
    }

    /// A token for the holder of a code, for one break-glass and not beyond `until`.
    ///
    /// # Errors
    /// [`NotExchanged`].
    pub fn offline_token(
        &self,
        holder: &Principal,
        glass: &str,
        until: Timestamp,
    ) -> Result<Exchanged, NotExchanged> {
        let own = self.own().ok_or(NotExchanged::Unsigned)?;
        if holder.claims.get(MARK).is_none_or(|mark| mark.get(CODE).is_none()) {
            return Err(NotExchanged::NoClaims);
        }
        let mut claims = Map::clone(&holder.claims);
        claims.remove(MARK);
        own.vouch(holder, claims, glass, until, self.now())
    }
}

/// The break-glass for which codes identify people, as it is known now. Shared by all cores; the gates
/// tell it.
#[derive(Default)]
pub struct Vouching {
    open: ArcSwapOption<(Box<str>, Timestamp)>,
    /// When the store was last read, in milliseconds.
    read: AtomicU64,
}

impl fmt::Debug for Vouching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vouching")
    }
}

impl Vouching {
    /// Takes over what is known at `now`: which break-glass is open, and until when.
    pub fn follow(&self, open: Option<(&str, Timestamp)>, now: Timestamp) {
        let same = self.open.load().as_ref().map(|open| (&*open.0, open.1)) == open;
        if !same {
            self.open.store(open.map(|(id, until)| Arc::new((id.into(), until))));
        }
        self.read.store(now.as_millis(), Ordering::Relaxed);
    }

    /// Whether whoever a code identifies for the break-glass `id` may go on.
    pub(super) fn standing(&self, id: &str, now: Timestamp) -> Standing {
        let read = Timestamp::from_millis(self.read.load(Ordering::Relaxed));
        if now.since(read) > MAX_AGE {
            return Standing::Unknown;
        }
        match &*self.open.load() {
            Some(open) if *open.0 == *id && now < open.1 => Standing::Stands,
            Some(_) | None => Standing::Revoked,
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + secs)
    }

    #[test]
    fn a_code_is_read_as_it_is_written_however_it_is_typed() {
        let bytes = *b"\x00\x01\xfe\xff23456789abcd";
        let code = written(&bytes);
        let written = code.expose_secret();
        assert_eq!(written, "0001-feff-3233-3435-3637-3839-6162-6364");
        for typed in [written.to_owned(), written.to_uppercase(), written.replace('-', " ") + "\n"] {
            assert_eq!(read(&typed).as_deref(), Some(&bytes), "{typed}");
        }
        for odd in ["", "0", &written[1..], "g123", &format!("{written}0"), "é", &"-".repeat(200)] {
            assert_eq!(read(odd).as_deref(), None, "{odd}");
        }
    }

    #[test]
    fn a_code_counts_for_the_break_glass_that_is_open_and_while_that_is_known() {
        let vouching = Vouching::default();
        assert_eq!(vouching.standing("g", at(0)), Standing::Unknown, "nothing was ever read");
        vouching.follow(None, at(0));
        assert_eq!(vouching.standing("g", at(1)), Standing::Revoked);
        vouching.follow(Some(("g", at(10))), at(1));
        assert_eq!(vouching.standing("g", at(1)), Standing::Stands);
        assert_eq!(vouching.standing("h", at(1)), Standing::Revoked, "another's");
        assert_eq!(vouching.standing("g", at(7)), Standing::Unknown, "no news for too long");
        vouching.follow(Some(("g", at(10))), at(9));
        assert_eq!(vouching.standing("g", at(9)), Standing::Stands);
        assert_eq!(vouching.standing("g", at(10)), Standing::Revoked, "its time is over");
        vouching.follow(None, at(10));
        assert_eq!(vouching.standing("g", at(9)), Standing::Revoked, "it was closed");
    }
}
