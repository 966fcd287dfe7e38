//! Tokens that were verified: who, never may.
//!
//! Two rungs. [`ConnectionMemo`] compares a header with the one that was verified last on the same
//! connection; the process's cache is keyed by the SHA-256 of the whole token. Only verified tokens
//! enter, so junk displaces nothing; on every hit the token's times and its issuer's epoch are
//! checked, so that an expired token, a withdrawn key or a removed issuer is forgotten at once.
//! The cache keeps no token.

use std::{
    fmt,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderValue;
use moka::{Expiry, sync::Cache};
use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use super::{Groups, PeerCertificate, Principal, keyring::Keyring};
use crate::time::Timestamp;

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RememberedSettings {
    /// At most this many tokens.
    pub tokens: u64,
    /// At most about this many bytes of claims.
    pub bytes: u64,
}

impl Default for RememberedSettings {
    fn default() -> Self {
        Self { tokens: 100_000, bytes: 256 << 20 }
    }
}

/// A verified token's holder, and what must still be so for that to stand.
#[derive(Debug)]
pub(super) struct Verified {
    pub principal: Principal,
    pub not_before: Timestamp,
    pub keyring: Arc<Keyring>,
    pub epoch: u64,
    /// With whose keys a token inside it was verified, and when.
    pub inner: Option<(Arc<Keyring>, u64)>,
}

impl Verified {
    /// Exactly until `exp`: what the leeway allows beyond is verified anew.
    fn stands(&self, now: Timestamp) -> bool {
        self.not_before <= now
            && now < self.principal.expires
            && self.keyring.stands(self.epoch, now)
            && self.inner.as_ref().is_none_or(|(keyring, epoch)| keyring.stands(*epoch, now))
    }
}

/// SHA-256 of a token.
pub(super) type Digest = [u8; 32];

pub(super) struct Remembered {
    cache: Cache<Digest, Arc<Verified>, BuildHasherDefault<Prefix>>,
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remembered({} tokens)", self.cache.entry_count())
    }
}

impl Remembered {
    pub fn new(settings: RememberedSettings) -> Self {
        // One bound for both: no entry weighs less than its share of the bytes.
        let least = settings.bytes / settings.tokens.max(1);
        let least = u32::try_from(least.max(1)).unwrap_or(u32::MAX);
        let cache = Cache::builder()
            .max_capacity(settings.bytes)
            .weigher(move |_, verified: &Arc<Verified>| weight(&verified.principal).max(least))
            .expire_after(UntilExpiry)
            .build_with_hasher(BuildHasherDefault::default());
        Self { cache }
    }

    pub fn get(&self, digest: &Digest, now: Timestamp) -> Option<Arc<Verified>> {
        let verified = self.cache.get(digest)?;
        if verified.stands(now) {
            return Some(verified);
        }
        if verified.not_before <= now {
            self.cache.invalidate(digest);
        }
        None
    }

    pub fn insert(&self, digest: Digest, verified: Arc<Verified>, now: Timestamp) {
        if verified.stands(now) {
            self.cache.insert(digest, verified);
        }
    }

    /// How many are held, about.
    pub fn len(&self) -> u64 {
        self.cache.entry_count()
    }

    #[cfg(test)]
    pub fn settle(&self) {
        self.cache.run_pending_tasks();
    }
}

/// Frees the memory of tokens that have expired. Whether one stands is judged on the injected clock
/// on every hit; this is only housekeeping, on the machine's.
struct UntilExpiry;

/// Housekeeping looks again at the latest after this.
const LONGEST: Duration = Duration::from_secs(48 * 3_600);

impl Expiry<Digest, Arc<Verified>> for UntilExpiry {
    fn expire_after_create(&self, _: &Digest, verified: &Arc<Verified>, _: Instant) -> Option<Duration> {
        let issued = verified.principal.claims.get("iat").and_then(Value::as_u64).map(Timestamp::from_secs);
        Some(issued.map_or(LONGEST, |iat| verified.principal.expires.since(iat).min(LONGEST)))
    }
}

/// About how many bytes a principal holds, and what the cache holds for it. Rather too many than too
/// few: `benches/verify.rs` compares it with what the process really has.
fn weight(principal: &Principal) -> u32 {
    /// The cache's own entry and its places in the orders of use and of expiry, the principal, its id.
    const ENTRY: usize = 1_000;
    let groups = match &principal.groups {
        Groups::Known(all) => all.iter().map(|g| g.len() + 44).sum(),
        Groups::Overage | Groups::Asked(_) => 0,
    };
    let bytes = ENTRY + groups + members(&principal.claims);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn members(map: &Map<String, Value>) -> usize {
    // A map's nodes have room for eleven, and are half full where names came in order.
    map.iter().map(|(name, value)| name.len() + 128 + held(value)).sum()
}

fn held(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity() + 16,
        Value::Array(all) => all.iter().map(|one| 32 + held(one)).sum(),
        Value::Object(map) => members(map),
    }
}

/// The keys are digests already: eight of their bytes are as good a hash as any.
#[derive(Default)]
pub(super) struct Prefix(u64);

impl Hasher for Prefix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(eight) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*eight);
        }
    }

    // The length, which is always the same.
    fn write_usize(&mut self, _: usize) {}
}

/// Longer headers are not kept on connections: an idle connection must stay small, also after a
/// token of 32 KiB, which then costs a digest instead of a comparison.
const MEMO_LIMIT: usize = 4 << 10;

/// The header that was verified last on one connection. It belongs to that connection alone and
/// is wiped with it.
#[derive(Default)]
pub struct ConnectionMemo {
    // Kept when the header changes, so that connections that carry several callers allocate once.
    header: Zeroizing<Vec<u8>>,
    last: Option<Arc<Verified>>,
    /// The certificate of the connection, verified: whether it stands is asked for each request.
    pub certificate: Option<PeerCertificate>,
}

impl fmt::Debug for ConnectionMemo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.last {
            Some(verified) => write!(f, "ConnectionMemo({:?})", verified.principal),
            None => f.write_str("ConnectionMemo(empty)"),
        }
    }
}

impl ConnectionMemo {
    /// The holder of the token in `header`, if it is the header that was verified last and its
    /// verification still stands. The comparison may end early: a header is a token with a
    /// signature, and whoever could time single bytes of it would have to guess 32 of them at once.
    #[must_use]
    pub fn recall(&self, header: &HeaderValue, now: Timestamp) -> Option<Principal> {
        let verified = self.last.as_ref()?;
        (self.header.as_slice() == header.as_bytes() && verified.stands(now))
            .then(|| verified.principal.clone())
    }

    pub(super) fn keep(&mut self, header: &HeaderValue, verified: Arc<Verified>) {
        self.last = None;
        self.header.zeroize();
        let bytes = header.as_bytes();
        if bytes.len() <= MEMO_LIMIT {
            self.header.reserve_exact(bytes.len());
            self.header.extend_from_slice(bytes);
            self.last = Some(verified);
        }
    }
}
