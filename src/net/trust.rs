//! Whom outgoing TLS believes.

use std::{fmt, hash, sync::Arc};

use rustls::{
    ClientConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;

/// Roots: the system's, or the system's and some more. Cheap to clone; equal if made together.
#[derive(Clone)]
pub struct Trust {
    http1: Arc<ClientConfig>,
    either: Arc<ClientConfig>,
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
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = Arc::new(config.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { http1, either: Arc::new(config) })
    }

    pub(super) fn config(&self, protocols: super::Protocols) -> Arc<ClientConfig> {
        match protocols {
            super::Protocols::Http1 => Arc::clone(&self.http1),
            super::Protocols::Either => Arc::clone(&self.either),
        }
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
