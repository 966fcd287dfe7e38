//! Callers who are known by a certificate: on TLS that the gate ends, or as a trusted terminator in
//! front of it passes it on (DECISIONS 10).
//!
//! The handshake proves that the caller holds the key. Here the chain is verified once, and the
//! names in it become a caller; after that each request asks [`PeerCertificate::stands`], which looks
//! at two numbers: has the certificate's time passed, and were authorities or revocation lists
//! exchanged since it was verified. Only then is the chain verified anew, so that neither a resumed
//! session nor an open connection outlives a revocation.
//!
//! Chains, signatures and lists are verified by rustls-webpki, names are read by x509-parser.

mod authority;
mod names;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use moka::sync::Cache;
use rustls::pki_types::CertificateDer;

use self::authority::Authority;
pub use self::authority::{AuthorityStatus, BadAuthority};
pub(super) use self::names::is_trust_domain;
use super::{Caller, IssuerKind, IssuerSettings, Principal};
use crate::time::Timestamp;

/// The longest chain that is looked at, the caller's own certificate included.
pub const MAX_CHAIN: usize = 8;
/// So many callers' certificates are remembered.
const REMEMBERED: u64 = 10_000;
/// Housekeeping: a certificate that nobody shows is forgotten after this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

/// Which of a certificate's names is its holder's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateName {
    /// The SPIFFE id, the only URI, of this trust domain (SPIFFE X.509-SVID).
    Spiffe {
        /// In lower case.
        trust_domain: Box<str>,
    },
    /// The only DNS name.
    Dns,
    /// The only URI.
    Uri,
    /// The only e-mail address.
    Email,
}

/// What becomes of certificates when a revocation list was not renewed in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LapsedList {
    /// They are refused: whoever can keep the new list away could keep a revoked key in use.
    #[default]
    Refuse,
    /// The old list counts on.
    Accept,
}

/// An authority whose certificates are identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSettings {
    /// Which name is the holder's.
    pub name: CertificateName,
    /// The authority's certificates, PEM: read when the gate starts and whenever they change.
    pub ca: PathBuf,
    /// Revocation lists, PEM or DER, one for each authority of a chain; none asks for none.
    pub crl: Vec<PathBuf>,
    /// When a list has lapsed.
    pub lapsed: LapsedList,
}

/// Why a certificate identifies nobody. Names are stable: they stand in records and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadCertificate {
    /// The chain is empty, too long, or cannot be read.
    #[error("the client certificate cannot be read")]
    Malformed,
    /// No authority of the configuration signed it.
    #[error("no authority that the gate knows vouches for the client certificate")]
    Authority,
    /// Its time has passed, or that of a certificate above it.
    #[error("the client certificate has expired")]
    Expired,
    /// Its time has not come.
    #[error("the client certificate is not valid yet")]
    NotYetValid,
    /// Its authority has revoked it.
    #[error("the client certificate is revoked")]
    Revoked,
    /// No revocation list tells.
    #[error("no revocation list says whether the client certificate is revoked")]
    Unlisted,
    /// The revocation list was to be renewed before now.
    #[error("the revocation list of the client certificate's authority has lapsed")]
    ListLapsed,
    /// Its extended key usage, or its key usage, is not a client's.
    #[error("the client certificate is not one for clients")]
    Purpose,
    /// It does not bear exactly one name of the kind that is its holder's, or of another domain.
    #[error("the client certificate does not name its holder as the issuer's certificates do")]
    Name,
    /// It lacks a claim that the issuer's `accept` demands.
    #[error("the client certificate lacks what the issuer's `accept` demands")]
    NotAccepted,
}

impl BadCertificate {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "certificate_malformed",
            Self::Authority => "certificate_authority",
            Self::Expired => "certificate_expired",
            Self::NotYetValid => "certificate_not_yet_valid",
            Self::Revoked => "certificate_revoked",
            Self::Unlisted => "certificate_unlisted",
            Self::ListLapsed => "certificate_list_lapsed",
            Self::Purpose => "certificate_purpose",
            Self::Name => "certificate_name",
            Self::NotAccepted => "certificate_not_accepted",
        }
    }
}

/// The authorities in force, and the certificates that they vouched for. Shared by all cores.
#[derive(Debug, Clone)]
pub struct Certificates(Arc<Shared>);

struct Shared {
    authorities: ArcSwap<Vec<Arc<Authority>>>,
    /// Raised at each exchange: what was verified before is verified anew.
    generation: AtomicU64,
    known: Cache<[u8; 32], PeerCertificate>,
    // Serialises exchanges, which the control runtime makes, never a request.
    changing: Mutex<()>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.authorities.load().iter().map(|a| a.name())).finish()
    }
}

/// A caller's certificate that was verified. Cheap to clone.
#[derive(Clone)]
pub struct PeerCertificate(Arc<Peer>);

struct Peer {
    chain: Vec<CertificateDer<'static>>,
    fingerprint: [u8; 32],
    expires: Timestamp,
    /// Whom it identifies; nobody if it was verified by a listener's own bundle alone, and then only
    /// a token that is bound to it counts.
    caller: Option<Arc<Caller>>,
    /// The generation of authorities and lists by which it was verified last.
    generation: AtomicU64,
    /// Until when that stands, in milliseconds.
    until: AtomicU64,
    shared: Arc<Shared>,
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerCertificate({})", self.fingerprint_text())
    }
}

/// A chain that was judged.
struct Judged {
    caller: Option<Caller>,
    expires: Timestamp,
    until: Timestamp,
}

impl Certificates {
    /// Authorities of which nothing is read yet, so that they vouch for nobody: [`Self::load`].
    #[must_use]
    pub fn new(issuers: &[IssuerSettings]) -> Self {
        Self(Arc::new(Shared {
            authorities: ArcSwap::from_pointee(named(issuers, &[])),
            generation: AtomicU64::new(1),
            known: Cache::builder().max_capacity(REMEMBERED).time_to_idle(FORGOTTEN_AFTER).build(),
            changing: Mutex::new(()),
        }))
    }

    /// Puts other issuers in force. Those that stay as they were keep what was read for them.
    pub fn reconfigure(&self, issuers: &[IssuerSettings]) {
        self.exchange(|old| named(issuers, old));
    }

    /// Puts an issuer's authorities and revocation lists in force, PEM (lists DER too).
    ///
    /// # Errors
    /// [`BadAuthority`]; then what was in force stays.
    pub fn load(&self, issuer: &str, ca: &[u8], lists: &[Vec<u8>]) -> Result<(), BadAuthority> {
        let Some(old) = self.0.authorities.load().iter().find(|a| a.is_of(issuer)).cloned() else {
            return Ok(());
        };
        let loaded = Arc::new(old.with(ca, lists)?);
        self.exchange(|all| {
            all.iter().map(|a| if a.is_of(issuer) { Arc::clone(&loaded) } else { Arc::clone(a) }).collect()
        });
        Ok(())
    }

    /// Puts the bundle of a listener in force: certificates that no issuer vouches for, but one of
    /// these authorities does, identify nobody, and tokens that are bound to them count.
    ///
    /// # Errors
    /// [`BadAuthority`]; then what was in force stays.
    pub fn load_bundle(&self, listener: &'static str, ca: &[u8]) -> Result<(), BadAuthority> {
        let loaded = Arc::new(Authority::bundle(listener, ca)?);
        self.exchange(|all| {
            let others = all.iter().filter(|a| a.name() != loaded.name()).cloned();
            others.chain([Arc::clone(&loaded)]).collect()
        });
        Ok(())
    }

    /// Whether authorities and lists could be put in force, for whoever checks a configuration.
    ///
    /// # Errors
    /// [`BadAuthority`].
    pub fn tried(ca: &[u8], lists: &[Vec<u8>]) -> Result<(), BadAuthority> {
        Authority::tried(ca, lists)
    }

    fn exchange(&self, change: impl FnOnce(&[Arc<Authority>]) -> Vec<Arc<Authority>>) {
        let _one_at_a_time = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let new = change(&self.0.authorities.load());
        self.0.authorities.store(Arc::new(new));
        self.0.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether an issuer of this name is configured.
    #[must_use]
    pub fn knows(&self, issuer: &str) -> bool {
        self.0.authorities.load().iter().any(|authority| authority.is_of(issuer))
    }

    /// Whose certificate it is, the caller's own first. A chain that is known is found by its digest.
    ///
    /// # Errors
    /// [`BadCertificate`].
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<PeerCertificate, BadCertificate> {
        let outcome = self.known_or_verified(chain, now);
        let result = outcome.as_ref().map_or_else(|bad| bad.name(), |_| "verified");
        metrics::counter!(CERTIFICATES, "result" => result).increment(1);
        outcome
    }

    fn known_or_verified(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<PeerCertificate, BadCertificate> {
        let own = chain.first().filter(|_| chain.len() <= MAX_CHAIN).ok_or(BadCertificate::Malformed)?;
        let digest = digest_of(chain.iter().map(AsRef::as_ref));
        if let Some(known) = self.0.known.get(&digest) {
            match known.stands(now) {
                Ok(()) => return Ok(known),
                Err(_) => self.0.known.invalidate(&digest),
            }
        }
        let generation = self.0.generation.load(Ordering::Acquire);
        let judged = self.0.judge(chain, now)?;
        let peer = PeerCertificate(Arc::new(Peer {
            fingerprint: digest_of([own.as_ref()]),
            chain: chain.iter().map(|one| one.clone().into_owned()).collect(),
            expires: judged.expires,
            caller: judged.caller.map(Arc::new),
            generation: AtomicU64::new(generation),
            until: AtomicU64::new(judged.until.as_millis()),
            shared: Arc::clone(&self.0),
        }));
        self.0.known.insert(digest, peer.clone());
        Ok(peer)
    }

    /// How each issuer's authorities and lists stand, for readiness and `doctor`.
    #[must_use]
    pub fn status(&self) -> Vec<AuthorityStatus> {
        self.0.authorities.load().iter().filter_map(|authority| authority.status()).collect()
    }
}

/// Counts certificates by what became of them.
const CERTIFICATES: &str = "amlgate_client_certificates_total";

fn named(issuers: &[IssuerSettings], old: &[Arc<Authority>]) -> Vec<Arc<Authority>> {
    let issuers = issuers.iter().filter_map(|issuer| match &issuer.kind {
        IssuerKind::Certificate(settings) => {
            let kept = old.iter().find(|a| a.is_of(&issuer.name));
            Some(Arc::new(Authority::of(issuer, settings, kept.map(AsRef::as_ref))))
        }
        IssuerKind::Entra { .. } | IssuerKind::Oidc { .. } | IssuerKind::Backstage { .. } => None,
    });
    issuers.chain(old.iter().filter(|a| a.is_bundle()).cloned()).collect()
}

impl Shared {
    /// The first issuer that vouches for the chain, in the order of the configuration. Where an
    /// issuer's authority signed it and something else is wrong, nobody else is asked.
    fn judge(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Judged, BadCertificate> {
        let mut found = BadCertificate::Authority;
        let authorities = self.authorities.load();
        for authority in authorities.iter() {
            if authority.is_bundle() && found != BadCertificate::Authority {
                break;
            }
            match authority.judge(chain, now) {
                Ok(judged) => return Ok(judged),
                Err(BadCertificate::Authority) => {}
                // Another issuer may have the same authority and another kind of name.
                Err(why) if found == BadCertificate::Authority => found = why,
                Err(_) => {}
            }
        }
        Err(found)
    }
}

impl PeerCertificate {
    /// SHA-256 of the certificate, as `cnf.x5t#S256` has it (RFC 8705).
    #[must_use]
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.0.fingerprint
    }

    /// The same in lower-case hexadecimal digits.
    #[must_use]
    pub fn fingerprint_text(&self) -> String {
        names::hex(&self.0.fingerprint)
    }

    /// When it ends.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.0.expires
    }

    /// Whom it identifies.
    #[must_use]
    pub fn caller(&self) -> Option<&Arc<Caller>> {
        self.0.caller.as_ref()
    }

    /// Its holder as the caller, if it identifies somebody.
    #[must_use]
    pub fn principal(&self) -> Option<Principal> {
        let caller = self.0.caller.as_ref()?;
        Some(Principal::certified(Arc::clone(caller), self.clone()))
    }

    /// Whether it still stands: its time has not passed, and the authorities and lists in force
    /// vouch for it as the same holder's. Allocates nothing unless one of them was exchanged or has
    /// lapsed since.
    ///
    /// # Errors
    /// [`BadCertificate`].
    pub fn stands(&self, now: Timestamp) -> Result<(), BadCertificate> {
        let Peer { chain, expires, caller, generation, until, shared, .. } = &*self.0;
        if now >= *expires {
            return Err(BadCertificate::Expired);
        }
        let current = shared.generation.load(Ordering::Acquire);
        let verified = generation.load(Ordering::Acquire);
        if verified == current && now.as_millis() < until.load(Ordering::Acquire) {
            return Ok(());
        }
        let judged = shared.judge(chain, now)?;
        let id = |caller: &Caller| caller.id.clone();
        if judged.caller.as_ref().map(id) != caller.as_deref().map(id) {
            // Another issuer would vouch for it now, as somebody else's: it is asked of anew.
            return Err(BadCertificate::Authority);
        }
        until.store(judged.until.as_millis(), Ordering::Release);
        generation.store(current, Ordering::Release);
        Ok(())
    }
}

fn digest_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
