//! The authority of the sandbox's machines: certificates with SPIFFE ids and other names, and a
//! revocation list.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use super::SandboxError;

/// The trust domain of the sandbox's machines.
pub const TRUST_DOMAIN: &str = "sandbox.example";

/// The authority.
pub struct MeshCa {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    key_pem: String,
}

impl std::fmt::Debug for MeshCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshCa").finish_non_exhaustive()
    }
}

/// A certificate that is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// URIs among its names.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// What its key may be used for, besides signing.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    /// When it begins, before now.
    pub since: Duration,
    /// When it ends, after now.
    pub until: Duration,
}

impl Wanted {
    /// A workload's of the sandbox's trust domain, for a day.
    #[must_use]
    pub fn workload(path: &str) -> Self {
        Self {
            uris: vec![format!("spiffe://{TRUST_DOMAIN}/{path}")],
            dns: Vec::new(),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
            since: Duration::hours(1),
            until: Duration::days(1),
        }
    }
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Machine {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
    /// Its number.
    pub serial: Vec<u8>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

impl MeshCa {
    /// A new authority, for a year.
    ///
    /// # Errors
    /// [`SandboxError::Certificate`] if the machine gives no randomness.
    pub fn generate() -> Result<Self, SandboxError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, "amlgate sandbox machines");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(365);
        let certificate = params.self_signed(&key)?.pem();
        Self::from_pem(&certificate, &key.serialize_pem())
    }

    /// One that was written before.
    ///
    /// # Errors
    /// [`SandboxError::Certificate`] if the two are not an authority and its key.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, SandboxError> {
        let issuer = Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?;
        Ok(Self { issuer, certificate_pem: certificate.to_owned(), key_pem: key.to_owned() })
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its key, PEM.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A certificate.
    ///
    /// # Errors
    /// [`SandboxError::Certificate`] if a name cannot stand in a certificate.
    pub fn machine(&self, wanted: &Wanted) -> Result<Machine, SandboxError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(wanted.dns.clone())?;
        for uri in &wanted.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
        }
        let serial = uuid::Uuid::new_v4().as_bytes().to_vec();
        params.serial_number = Some(SerialNumber::from(serial.clone()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.clone_from(&wanted.usages);
        params.use_authority_key_identifier_extension = true;
        params.not_before = OffsetDateTime::now_utc() - wanted.since;
        params.not_after = OffsetDateTime::now_utc() + wanted.until;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Machine { certificate, key: key.serialize_pem(), serial })
    }

    /// The list of what is revoked, PEM, to be renewed after `life`.
    ///
    /// # Errors
    /// [`SandboxError::Certificate`] if it cannot be signed.
    pub fn revoked(&self, machines: &[&Machine], life: Duration) -> Result<String, SandboxError> {
        let now = OffsetDateTime::now_utc();
        let revoked = |machine: &&Machine| RevokedCertParams {
            serial_number: SerialNumber::from(machine.serial.clone()),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let number = u64::try_from(now.unix_timestamp()).unwrap_or_default();
        let list = CertificateRevocationListParams {
            this_update: now - Duration::hours(1),
            next_update: now + life,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: machines.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}
