//! Whom outgoing TLS believes.

use std::{fmt, hash, sync::Arc};

use ::aws_lc_rs::digest;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use rustls_platform_verifier::Verifier;

/// Roots: the system's, or the system's and some more. Cheap to clone; equal if made together.
#[derive(Clone)]
pub struct Trust {
    http1: Arc<ClientConfig>,
    either: Arc<ClientConfig>,
    silent: Arc<ClientConfig>,
}

/// Why roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The PEM text holds no readable certificate.
    #[error("the text holds no readable certificate in PEM form")]
    Pem,
    /// The system's roots cannot be read, or TLS refuses the given ones.
    #[error("the roots cannot be used")]
    Roots(#[from] rustls::Error),
}

/// The one cryptographic provider of this program.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()))
}

impl Trust {
    /// The system's roots, and those in `pem` besides.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn new(pem: Option<&[u8]>) -> Result<Self, TrustError> {
        let provider = provider();
        let verifier = match pem {
            None => Verifier::new(Arc::clone(&provider))?,
            Some(pem) => {
                let roots: Vec<_> = CertificateDer::pem_slice_iter(pem)
                    .collect::<Result<_, _>>()
                    .map_err(|_| TrustError::Pem)?;
                if roots.is_empty() {
                    return Err(TrustError::Pem);
                }
                Verifier::new_with_extra_roots(roots, Arc::clone(&provider))?
            }
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous() // the name of the door to the platform's own verifier, which checks in full
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let silent = Arc::new(config.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = Arc::new(config.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { http1, either: Arc::new(config), silent })
    }

    /// Exactly one certificate, by its SHA-1 thumbprint in hexadecimal: Service Fabric's managed
    /// identity endpoint has no other proof of itself. The handshake's signature is still checked.
    ///
    /// # Errors
    /// [`TrustError::Pem`] if the thumbprint is none.
    pub fn pinned(thumbprint: &str) -> Result<Self, TrustError> {
        let digits: String =
            thumbprint.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
        if digits.len() != 40 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(TrustError::Pem);
        }
        let provider = provider();
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { thumbprint: digits, provider }))
            .with_no_client_auth();
        let config = Arc::new(config);
        Ok(Self { http1: Arc::clone(&config), either: Arc::clone(&config), silent: config })
    }

    pub(super) fn config(&self, protocols: super::Protocols) -> Arc<ClientConfig> {
        match protocols {
            super::Protocols::Http1 => Arc::clone(&self.http1),
            super::Protocols::Either => Arc::clone(&self.either),
            super::Protocols::None => Arc::clone(&self.silent),
        }
    }
}

/// Verifies that the server has the pinned certificate and its key.
#[derive(Debug)]
struct Pinned {
    thumbprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate);
        let found: String = found.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        if found == self.thumbprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.http1, &other.http1)
    }
}

impl Eq for Trust {}

impl hash::Hash for Trust {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.http1).hash(state);
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}
