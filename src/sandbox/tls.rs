//! The sandbox's own certificate authority.
//!
//! Clients are handed its certificate; it never enters the system's trust. It signs server
//! certificates for real Azure names too, which is why its key must stay where it was made.

use std::sync::Arc;

use chrono::Datelike as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};

use super::SandboxError;

/// A certificate authority for one sandbox.
pub struct SandboxCa {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    key_pem: String,
}

impl std::fmt::Debug for SandboxCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SandboxCa").finish_non_exhaustive()
    }
}

impl SandboxCa {
    /// A new authority, valid for two years from yesterday.
    ///
    /// # Errors
    /// [`SandboxError::Certificate`] if the machine gives no randomness.
    pub fn generate() -> Result<Self, SandboxError> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, "amlgate sandbox authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = validity(2);
        let key = KeyPair::generate()?;
        let key_pem = key.serialize_pem();
        let certified = CertifiedIssuer::self_signed(params, key)?;
        Self::from_pem(&certified.pem(), &key_pem)
    }

    /// An authority written earlier by [`certificate_pem`](Self::certificate_pem) and
    /// [`key_pem`](Self::key_pem).
    ///
    /// # Errors
    /// [`SandboxError::Certificate`] if the two are not an authority and its key.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, SandboxError> {
        let issuer = Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?;
        Ok(Self { issuer, certificate_pem: certificate.to_owned(), key_pem: key.to_owned() })
    }

    /// The authority's certificate, to be given to clients.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's private key; for a file of mode 0600 only.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Trust anchors with this authority and nothing else, for clients in tests.
    ///
    /// # Errors
    /// [`SandboxError::Tls`] if rustls refuses the certificate.
    pub fn roots(&self) -> Result<rustls::RootCertStore, SandboxError> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes()) {
            let certificate =
                certificate.map_err(|_| rustls::Error::General("the certificate is not PEM".to_owned()))?;
            roots.add(certificate)?;
        }
        Ok(roots)
    }

    /// A server certificate for `names` (DNS names, wildcards, addresses) and its key, as PEM.
    ///
    /// # Errors
    /// [`SandboxError::Certificate`] if a name cannot stand in a certificate.
    pub fn server_pem(&self, names: &[&str]) -> Result<(String, String), SandboxError> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "amlgate sandbox");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(1);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// TLS settings of a server that answers to `names`, HTTP/2 and HTTP/1.1 by ALPN.
    ///
    /// # Errors
    /// [`SandboxError::Certificate`] or [`SandboxError::Tls`].
    pub(super) fn server(&self, names: &[&str]) -> Result<Arc<rustls::ServerConfig>, SandboxError> {
        let (certificate, key) = self.server_pem(names)?;
        let malformed = |_| rustls::Error::General("the certificate is not PEM".to_owned());
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(malformed)?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(malformed)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// A self-signed RSA certificate of an application and its key, as PEM.
///
/// # Errors
/// [`SandboxError::Certificate`] if the machine gives no randomness.
pub fn client_certificate() -> Result<(String, String), SandboxError> {
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, "amlgate sandbox client");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = validity(1);
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// The first certificate of a PEM text, as DER.
///
/// # Errors
/// [`SandboxError::Tls`] if there is none.
pub fn der(pem: &str) -> Result<Vec<u8>, SandboxError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map(|der| der.to_vec())
        .map_err(|_| rustls::Error::General("the certificate is not PEM".to_owned()).into())
}

/// From yesterday (clocks differ) for so many years.
fn validity(years: i32) -> (time::OffsetDateTime, time::OffsetDateTime) {
    let start = chrono::Utc::now().date_naive() - chrono::Days::new(1);
    let narrow = |n: u32| u8::try_from(n).unwrap_or(1);
    let day = |year: i32| {
        // The 29th of February has no anniversary.
        rcgen::date_time_ymd(year, narrow(start.month()), narrow(start.day().min(28)))
    };
    (day(start.year()), day(start.year().saturating_add(years)))
}
