//! Leaf certificates for hosts whose TLS is ended here, minted by the interception authority.
//!
//! A leaf names exactly one host and lives for a day. All leaves share one key, which lives as long
//! as they do: what costs is the authority's signature, once for each host and half day, for any
//! number of handshakes that wait for it.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use moka::sync::Cache;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
    SerialNumber,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::NoServerSessionStorage,
};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;

use crate::time::Timestamp;

/// From when a leaf holds, before now: clocks differ.
const BACKDATED: Duration = Duration::from_secs(3_600);
/// How long a leaf holds from now.
const LIFE: Duration = Duration::from_secs(24 * 3_600);
/// How long a leaf and the leaves' key are used.
const USE: Duration = Duration::from_secs(12 * 3_600);
/// Leaves that are kept: hosts come from the configuration, a wildcard's from callers.
const LEAVES: u64 = 1_024;
/// An authority's own times.
const AUTHORITY_BACKDATED: Duration = Duration::from_secs(24 * 3_600);
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// Why the authority cannot be used, or a leaf not be minted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InterceptError {
    /// Its files.
    #[error("the interception authority cannot be used: {0}; it is a certificate and its key in PEM form")]
    Authority(String),
    /// A leaf.
    #[error("no certificate can be made for `{host}`: {why}")]
    Leaf {
        /// For whom.
        host: String,
        /// Why.
        why: String,
    },
}

/// Mints certificates; its authority is replaced while serving.
pub struct Interceptor {
    authority: ArcSwap<Authority>,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    leaves: Cache<Arc<str>, Arc<ServerConfig>>,
    keys: Cache<(), Arc<KeyPair>>,
}

impl fmt::Debug for Interceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interceptor")
    }
}

impl Interceptor {
    /// From the authority's PEM texts.
    ///
    /// # Errors
    /// [`InterceptError::Authority`].
    pub fn new(certificate: &str, key: &str) -> Result<Self, InterceptError> {
        Ok(Self { authority: ArcSwap::from_pointee(Authority::new(certificate, key)?) })
    }

    /// Mints from another authority from now on; connections that are open stay as they are.
    ///
    /// # Errors
    /// [`InterceptError::Authority`]; then the old one stays.
    pub fn replace(&self, certificate: &str, key: &str) -> Result<(), InterceptError> {
        self.authority.store(Arc::new(Authority::new(certificate, key)?));
        Ok(())
    }

    /// What a client of `host` is shown.
    ///
    /// # Errors
    /// [`InterceptError::Leaf`] for a host that no certificate can name.
    pub fn leaf(&self, host: &Arc<str>, now: Timestamp) -> Result<Arc<ServerConfig>, InterceptError> {
        let authority = self.authority.load();
        if let Some(known) = authority.leaves.get(host) {
            return Ok(known);
        }
        // Whoever waits for the same host waits for this one.
        authority
            .leaves
            .try_get_with(Arc::clone(host), || authority.mint(host, now))
            .map_err(|error| InterceptError::clone(&error))
    }
}

/// An interception authority: certificate and key, PEM. It can vouch for nothing but these domains
/// and what lies below them (RFC 5280, 4.2.1.10), so that trusting it means trusting it with Azure's
/// names and no others. It holds for ten years; its leaves for a day.
///
/// # Errors
/// [`InterceptError::Authority`] for a domain that no certificate can name.
pub fn new_authority(domains: &[String], now: Timestamp) -> Result<(String, String), InterceptError> {
    let failed = |error: rcgen::Error| InterceptError::Authority(error.to_string());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, "amlgate interception authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: domains.iter().cloned().map(GeneralSubtree::DnsName).collect(),
        excluded_subtrees: Vec::new(),
    });
    params.not_before = instant(now.minus(AUTHORITY_BACKDATED));
    params.not_after = instant(now.plus(AUTHORITY_LIFE));
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// The domains that an authority can vouch for, from its PEM text; `None` if it is not constrained
/// or cannot be read.
#[must_use]
pub fn domains(certificate: &str) -> Option<Vec<String>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).ok()?;
    let parsed = pem.parse_x509().ok()?;
    let constraints = parsed.name_constraints().ok()??.value;
    let permitted = constraints.permitted_subtrees.as_ref()?;
    let name = |subtree: &x509_parser::extensions::GeneralSubtree<'_>| {
        if let GeneralName::DNSName(name) = subtree.base { Some(name.to_ascii_lowercase()) } else { None }
    };
    Some(permitted.iter().filter_map(name).collect())
}

impl Authority {
    fn new(certificate: &str, key: &str) -> Result<Self, InterceptError> {
        let failed = |error: rcgen::Error| InterceptError::Authority(error.to_string());
        let key = KeyPair::from_pem(key).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(failed)?;
        let found = Self {
            issuer,
            leaves: Cache::builder().max_capacity(LEAVES).time_to_live(USE).build(),
            keys: Cache::builder().max_capacity(1).time_to_live(USE).build(),
        };
        // A key that is another certificate's shows here, not at the first handshake.
        found.fits(certificate)?;
        Ok(found)
    }

    fn fits(&self, certificate: &str) -> Result<(), InterceptError> {
        use rcgen::PublicKeyData as _;
        let unread = || InterceptError::Authority("the certificate cannot be read".to_owned());
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).map_err(|_| unread())?;
        let parsed = pem.parse_x509().map_err(|_| unread())?;
        let ours = self.issuer.key().subject_public_key_info();
        if parsed.public_key().raw != ours {
            return Err(InterceptError::Authority("the key is not the certificate's".to_owned()));
        }
        if !parsed.is_ca() {
            return Err(InterceptError::Authority("the certificate is no authority's".to_owned()));
        }
        Ok(())
    }

    fn mint(&self, host: &Arc<str>, now: Timestamp) -> Result<Arc<ServerConfig>, InterceptError> {
        metrics::counter!("amlgate_leaves_minted_total").increment(1);
        let failed = |why: String| InterceptError::Leaf { host: host.to_string(), why };
        let made = |error: rcgen::Error| failed(error.to_string());
        let key = self
            .keys
            .try_get_with((), || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Arc::new))
            .map_err(|error| failed(error.to_string()))?;
        let leaf = self.leaf(host, &key, now).map_err(made)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        config(leaf.der().clone(), private).map(Arc::new).map_err(|error| failed(error.to_string()))
    }

    fn leaf(&self, host: &str, key: &KeyPair, now: Timestamp) -> Result<Certificate, rcgen::Error> {
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(uuid::Uuid::new_v4().as_bytes().to_vec()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = instant(now.minus(BACKDATED));
        params.not_after = instant(now.plus(LIFE));
        params.signed_by(key, &self.issuer)
    }
}

fn instant(at: Timestamp) -> OffsetDateTime {
    i64::try_from(at.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn config(leaf: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Resumption by tickets, without state here: a busy client opens many tunnels to one host.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;

    fn authority(is_ca: bool) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        }
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    #[test]
    fn a_leaf_is_minted_once_for_each_host_and_anew_by_another_authority() {
        let (certificate, key) = authority(true);
        let interceptor = Interceptor::new(&certificate, &key).unwrap();
        let host: Arc<str> = "management.azure.com".into();
        let first = interceptor.leaf(&host, now()).unwrap();
        assert!(Arc::ptr_eq(&first, &interceptor.leaf(&host, now()).unwrap()));
        assert!(!Arc::ptr_eq(&first, &interceptor.leaf(&"ml.azure.com".into(), now()).unwrap()));
        let (certificate, key) = authority(true);
        interceptor.replace(&certificate, &key).unwrap();
        assert!(!Arc::ptr_eq(&first, &interceptor.leaf(&host, now()).unwrap()));
    }

    #[test]
    fn handshakes_that_wait_for_one_host_cause_one_mint() {
        let (certificate, key) = authority(true);
        let interceptor = Arc::new(Interceptor::new(&certificate, &key).unwrap());
        let waiting: Vec<_> = (0..16)
            .map(|_| {
                let interceptor = Arc::clone(&interceptor);
                std::thread::spawn(move || interceptor.leaf(&"management.azure.com".into(), now()).unwrap())
            })
            .collect();
        let leaves: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(leaves.iter().all(|leaf| Arc::ptr_eq(leaf, &leaves[0])));
    }

    #[test]
    fn what_is_no_authority_is_refused_before_it_is_used() {
        let (certificate, key) = authority(true);
        let (_, other) = authority(true);
        let (leaf, leaf_key) = authority(false);
        for (certificate, key) in [(&certificate, &other), (&leaf, &leaf_key), (&key, &certificate)] {
            assert!(Interceptor::new(certificate, key).is_err());
        }
        let interceptor = Interceptor::new(&certificate, &key).unwrap();
        assert!(interceptor.replace(&leaf, &leaf_key).is_err());
        assert!(interceptor.leaf(&"management.azure.com".into(), now()).is_ok());
    }

    #[test]
    fn an_authority_is_constrained_to_its_domains() {
        let wanted = ["management.azure.com".to_owned(), "api.azureml.ms".to_owned()];
        let (certificate, key) = new_authority(&wanted, now()).unwrap();
        assert_eq!(domains(&certificate).unwrap(), wanted);
        assert!(Interceptor::new(&certificate, &key).is_ok());
        assert_eq!(domains(&authority(true).0), None);
    }

    #[test]
    fn a_leaf_names_its_host_alone_and_is_short_lived() {
        let (certificate, key) = authority(true);
        let found = Authority::new(&certificate, &key).unwrap();
        let leaf = found.leaf("management.azure.com", &KeyPair::generate().unwrap(), now()).unwrap();
        let (_, parsed) = X509Certificate::from_der(leaf.der()).unwrap();
        let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(*names, [GeneralName::DNSName("management.azure.com")]);
        assert!(!parsed.is_ca());
        let held = parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp();
        assert!(held <= 26 * 3_600, "{held} s");
        let config = found.mint(&"management.azure.com".into(), now()).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert!(found.mint(&"n\u{f6}".into(), now()).is_err());
    }
}
