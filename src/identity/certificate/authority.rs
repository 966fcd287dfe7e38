//! One authority: what its chains must be like, and by which bytes they are verified.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, RootCertStore,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::{BadCertificate, CertificateSettings, Judged, LapsedList, names};
use crate::{identity::IssuerSettings, time::Timestamp};

/// Why authorities or revocation lists cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAuthority {
    /// The bundle.
    #[error("the bundle holds no authority's certificate in PEM form that can be used")]
    Bundle,
    /// A list.
    #[error("a revocation list cannot be read: it is one or more lists in PEM form, or one in DER form")]
    List,
    /// Together.
    #[error("the authorities and revocation lists cannot be used: {0}")]
    Verifier(Box<str>),
}

/// How an issuer's authorities and lists stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityStatus {
    /// The issuer's name.
    pub name: Arc<str>,
    /// Whether certificates can be verified: something is read.
    pub usable: bool,
    /// When the first of its authorities' certificates ends.
    pub expires: Option<Timestamp>,
    /// By when the first revocation list is to be renewed.
    pub renew: Option<Timestamp>,
    /// How many revocation lists there are.
    pub lists: usize,
}

/// An issuer's authority, or a listener's bundle.
pub(super) struct Authority {
    of: Of,
    material: Option<Arc<Material>>,
}

enum Of {
    Issuer(Arc<IssuerSettings>, CertificateSettings),
    Bundle(&'static str),
}

/// What was read.
struct Material {
    verifier: Arc<dyn ClientCertVerifier>,
    /// When the first authority ends.
    expires: Timestamp,
    /// By when the first list is to be renewed.
    renew: Option<Timestamp>,
    lists: usize,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.name())
    }
}

impl Authority {
    /// The authority of an issuer, with what was read for the same one before.
    pub fn of(issuer: &IssuerSettings, settings: &CertificateSettings, kept: Option<&Self>) -> Self {
        let material = kept.and_then(|kept| match &kept.of {
            Of::Issuer(_, old) if old == settings => kept.material.clone(),
            Of::Issuer(..) | Of::Bundle(_) => None,
        });
        Self { of: Of::Issuer(Arc::new(issuer.clone()), settings.clone()), material }
    }

    /// A listener's bundle.
    pub fn bundle(listener: &'static str, ca: &[u8]) -> Result<Self, BadAuthority> {
        let material = Material::read(ca, &[], LapsedList::Refuse)?;
        Ok(Self { of: Of::Bundle(listener), material: Some(Arc::new(material)) })
    }

    /// Whether such bytes could be used.
    pub fn tried(ca: &[u8], lists: &[Vec<u8>]) -> Result<(), BadAuthority> {
        Material::read(ca, lists, LapsedList::Refuse).map(drop)
    }

    /// The same with other bytes.
    pub fn with(&self, ca: &[u8], lists: &[Vec<u8>]) -> Result<Self, BadAuthority> {
        let of = match &self.of {
            Of::Issuer(issuer, settings) => Of::Issuer(Arc::clone(issuer), settings.clone()),
            Of::Bundle(listener) => Of::Bundle(listener),
        };
        let lapsed = match &of {
            Of::Issuer(_, settings) => settings.lapsed,
            Of::Bundle(_) => LapsedList::Refuse,
        };
        Ok(Self { of, material: Some(Arc::new(Material::read(ca, lists, lapsed)?)) })
    }

    /// The issuer's name, or the listener's.
    pub fn name(&self) -> &str {
        match &self.of {
            Of::Issuer(issuer, _) => &issuer.name,
            Of::Bundle(listener) => listener,
        }
    }

    /// Whether it is the authority of this issuer.
    pub fn is_of(&self, issuer: &str) -> bool {
        matches!(&self.of, Of::Issuer(own, _) if *own.name == *issuer)
    }

    /// Whether it is a listener's bundle.
    pub const fn is_bundle(&self) -> bool {
        matches!(self.of, Of::Bundle(_))
    }

    /// Verifies a chain that is not empty, and reads whose it is.
    pub fn judge(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Judged, BadCertificate> {
        let Some(material) = &self.material else { return Err(BadCertificate::Authority) };
        let (own, above) = chain.split_first().ok_or(BadCertificate::Malformed)?;
        material
            .verifier
            .verify_client_cert(
                own,
                above,
                UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_secs())),
            )
            .map_err(|error| reason(&error))?;
        let (_, parsed) = X509Certificate::from_der(own).map_err(|_| BadCertificate::Malformed)?;
        let expires = instant(parsed.validity().not_after.timestamp());
        // Whatever of the chain or the lists ends first: then it is looked at again.
        let mut until = expires;
        for one in above {
            if let Ok((_, parsed)) = X509Certificate::from_der(one) {
                let end = instant(parsed.validity().not_after.timestamp());
                until = until.min(if end <= now { until } else { end });
            }
        }
        let lists = [Some(material.expires), material.renew];
        until = lists.into_iter().flatten().filter(|end| *end > now).fold(until, Timestamp::min);
        let caller = match &self.of {
            Of::Issuer(issuer, settings) => {
                Some(names::caller(&parsed, own, issuer, &settings.name, expires)?)
            }
            Of::Bundle(_) => None,
        };
        Ok(Judged { caller, expires, until })
    }

    pub fn status(&self) -> Option<AuthorityStatus> {
        let Of::Issuer(issuer, _) = &self.of else { return None };
        let material = self.material.as_ref();
        Some(AuthorityStatus {
            name: Arc::clone(&issuer.name),
            usable: material.is_some(),
            expires: material.map(|m| m.expires),
            renew: material.and_then(|m| m.renew),
            lists: material.map_or(0, |m| m.lists),
        })
    }
}

impl Material {
    fn read(ca: &[u8], lists: &[Vec<u8>], lapsed: LapsedList) -> Result<Self, BadAuthority> {
        let roots = anchors(ca)?;
        let mut expires = Timestamp::from_secs(u64::from(u32::MAX) << 4);
        let mut store = RootCertStore::empty();
        for root in roots {
            let (_, parsed) = X509Certificate::from_der(&root).map_err(|_| BadAuthority::Bundle)?;
            if !parsed.is_ca() {
                return Err(BadAuthority::Bundle);
            }
            expires = expires.min(instant(parsed.validity().not_after.timestamp()));
            store.add(root.clone()).map_err(|_| BadAuthority::Bundle)?;
        }
        let lists = lists.iter().map(|text| revoked(text)).collect::<Result<Vec<_>, _>>()?.concat();
        let mut renew: Option<Timestamp> = None;
        for list in &lists {
            let (_, parsed) = CertificateRevocationList::from_der(list).map_err(|_| BadAuthority::List)?;
            let next = parsed.next_update().map(|next| instant(next.timestamp()));
            renew = [renew, next].into_iter().flatten().min();
        }
        let count = lists.len();
        let builder = WebPkiClientVerifier::builder_with_provider(
            Arc::new(store),
            Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        );
        let builder = builder.with_crls(lists);
        let builder = match lapsed {
            LapsedList::Refuse => builder.enforce_revocation_expiration(),
            LapsedList::Accept => builder,
        };
        let verifier = builder.build().map_err(|error| BadAuthority::Verifier(error.to_string().into()))?;
        Ok(Self { verifier, expires, renew, lists: count })
    }
}

/// The certificates of a bundle.
fn anchors(ca: &[u8]) -> Result<Vec<CertificateDer<'static>>, BadAuthority> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(ca).collect();
    read.ok().filter(|all| !all.is_empty()).ok_or(BadAuthority::Bundle)
}

/// The lists of a file.
fn revoked(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, BadAuthority> {
    if text.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(text.to_vec())]);
    }
    let read: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(text).collect();
    read.ok().filter(|all| !all.is_empty()).ok_or(BadAuthority::List)
}

fn instant(seconds: i64) -> Timestamp {
    Timestamp::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn reason(error: &rustls::Error) -> BadCertificate {
    use CertificateError as E;
    let rustls::Error::InvalidCertificate(why) = error else { return BadCertificate::Malformed };
    if matches!(why, E::UnknownIssuer | E::BadSignature) {
        BadCertificate::Authority
    } else if matches!(why, E::Expired | E::ExpiredContext { .. }) {
        BadCertificate::Expired
    } else if matches!(why, E::NotValidYet | E::NotValidYetContext { .. }) {
        BadCertificate::NotYetValid
    } else if *why == E::Revoked {
        BadCertificate::Revoked
    } else if *why == E::UnknownRevocationStatus {
        BadCertificate::Unlisted
    } else if matches!(why, E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. }) {
        BadCertificate::ListLapsed
    } else if matches!(why, E::InvalidPurpose | E::InvalidPurposeContext { .. }) {
        BadCertificate::Purpose
    } else {
        BadCertificate::Malformed
    }
}
