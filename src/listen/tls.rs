//! The server's certificate: read, checked, replaced while connections go on.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain.
    #[error("the certificate cannot be read: it is a chain in PEM form, the server's own first")]
    Certificate,
    /// The key.
    #[error("the private key cannot be read: it is in PEM form, PKCS#8, PKCS#1 or SEC1")]
    Key,
    /// The bundle of authorities for clients.
    #[error("`client_ca` cannot be used: it holds certificates of authorities in PEM form")]
    Clients,
    /// They do not fit.
    #[error("the certificate and the private key cannot be used")]
    Pair(#[from] rustls::Error),
}

/// What is spoken inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2 or HTTP/1.
    Either,
    /// HTTP/1 alone.
    Http1,
}

/// What new connections are shown; replaced whole.
pub struct ServerTls {
    config: ArcSwap<ServerConfig>,
    protocols: Protocols,
}

impl ServerTls {
    /// From PEM texts.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(certificate: &[u8], key: &[u8], protocols: Protocols) -> Result<Self, TlsError> {
        Self::asking(certificate, key, None, protocols)
    }

    /// From PEM texts. With `clients`, a bundle of authorities, clients are asked for a certificate of
    /// one of them; who has none goes on without. Whether a certificate was revoked is not asked here,
    /// but for each request.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn asking(
        certificate: &[u8],
        key: &[u8],
        clients: Option<&[u8]>,
        protocols: Protocols,
    ) -> Result<Self, TlsError> {
        Ok(Self { config: ArcSwap::new(read(certificate, key, clients, protocols)?), protocols })
    }

    /// Shows another certificate from now on, and asks for those of other authorities; connections
    /// that are open stay as they are, and no session of before is resumed.
    ///
    /// # Errors
    /// [`TlsError`]; then the old one stays.
    pub fn replace(&self, certificate: &[u8], key: &[u8], clients: Option<&[u8]>) -> Result<(), TlsError> {
        self.config.store(read(certificate, key, clients, self.protocols)?);
        Ok(())
    }

    /// What the next connection is shown.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

fn read(
    certificate: &[u8],
    key: &[u8],
    clients: Option<&[u8]>,
    protocols: Protocols,
) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Certificate)?;
    if chain.is_empty() {
        return Err(TlsError::Certificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = match clients {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(bundle) => {
            let mut roots = RootCertStore::empty();
            for root in CertificateDer::pem_slice_iter(bundle) {
                roots.add(root.map_err(|_| TlsError::Clients)?).map_err(|_| TlsError::Clients)?;
            }
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(|_| TlsError::Clients)?
        }
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    // `http/1.0` (RFC 7301 section 6) is what curl offers when told to speak it; HTTP/1 reads both.
    let http2 = (protocols == Protocols::Either).then(|| b"h2".to_vec());
    config.alpn_protocols = http2.into_iter().chain([b"http/1.1".to_vec(), b"http/1.0".to_vec()]).collect();
    // Resumption without state here; the tickets' key changes by itself and with each certificate.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["gate.example".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_that_does_not_fit_leaves_the_one_in_force() {
        let (chain, key) = pair();
        let tls = ServerTls::new(chain.as_bytes(), key.as_bytes(), Protocols::Either).unwrap();
        let before = tls.config.load_full();
        let (_, other) = pair();
        assert!(tls.replace(chain.as_bytes(), other.as_bytes(), None).is_err());
        assert!(tls.replace(b"", key.as_bytes(), None).is_err());
        assert!(tls.replace(chain.as_bytes(), b"", None).is_err());
        assert!(tls.replace(chain.as_bytes(), key.as_bytes(), Some(b"")).is_err());
        assert!(Arc::ptr_eq(&before, &tls.config.load_full()));
        let (chain, key) = pair();
        tls.replace(chain.as_bytes(), key.as_bytes(), None).unwrap();
        assert!(!Arc::ptr_eq(&before, &tls.config.load_full()));
    }
}
