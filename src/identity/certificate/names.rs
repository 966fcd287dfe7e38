//! Whom a certificate names: its subject alternative names as subject and claims. The common name is
//! nobody's (RFC 9525): authorities let applicants write into it what they like.

use std::sync::Arc;

use serde_json::{Map, Value};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, KeyUsage},
};

use super::{BadCertificate, CertificateName, digest_of};
use crate::{
    identity::{Caller, Groups, IssuerSettings, PrincipalId, PrincipalKind},
    time::Timestamp,
};

/// More names of a kind than this are no identity.
const MAX_NAMES: usize = 64;
/// The longest subject, in bytes, as for tokens.
const MAX_SUBJECT: usize = 1_024;

/// The names in a certificate, by kind.
#[derive(Default)]
struct Names<'a> {
    dns: Vec<&'a str>,
    uri: Vec<&'a str>,
    email: Vec<&'a str>,
    ip: Vec<String>,
}

/// The caller that a verified certificate of an issuer identifies.
pub(super) fn caller(
    certificate: &X509Certificate<'_>,
    der: &[u8],
    issuer: &IssuerSettings,
    named: &CertificateName,
    expires: Timestamp,
) -> Result<Caller, BadCertificate> {
    let names = read(certificate)?;
    let sole = |all: &[&str]| match all {
        [one] => Ok((*one).to_owned()),
        [] | [_, ..] => Err(BadCertificate::Name),
    };
    let subject = match named {
        CertificateName::Spiffe { trust_domain } => {
            svid(certificate)?;
            let id = sole(&names.uri)?;
            if spiffe(&id) != Some(trust_domain) {
                return Err(BadCertificate::Name);
            }
            id
        }
        CertificateName::Dns => sole(&names.dns)?,
        CertificateName::Uri => sole(&names.uri)?,
        CertificateName::Email => sole(&names.email)?,
    };
    if subject.is_empty() || subject.len() > MAX_SUBJECT || subject.chars().any(char::is_control) {
        return Err(BadCertificate::Name);
    }
    let fingerprint = digest_of([der]);
    let claims = claims(certificate, &names, &subject, named, &fingerprint);
    if issuer.accept.as_ref().and_then(|accept| accept.unmet(&claims)).is_some() {
        return Err(BadCertificate::NotAccepted);
    }
    Ok(Caller {
        id: PrincipalId { issuer: Arc::clone(&issuer.name), subject: subject.into() },
        kind: PrincipalKind::Machine,
        tenant: None,
        client: None,
        display: None,
        // A certificate names no groups, and there are no others elsewhere.
        groups: Groups::Known(Arc::default()),
        roles: Arc::default(),
        claims: Arc::new(claims),
        expires,
        from_pull_request: false,
        subjects_at_issue: None,
        reviewers: None,
        human: None,
        // What is remembered of a caller is remembered for the issuer that vouched, too.
        token_digest: digest_of([issuer.name.as_bytes(), &[0], &fingerprint]),
    })
}

fn read<'a>(certificate: &'a X509Certificate<'_>) -> Result<Names<'a>, BadCertificate> {
    let extension = certificate.subject_alternative_name().map_err(|_| BadCertificate::Name)?;
    let mut names = Names::default();
    let Some(extension) = extension else { return Ok(names) };
    let all = &extension.value.general_names;
    if all.len() > MAX_NAMES {
        return Err(BadCertificate::Name);
    }
    for name in all {
        match name {
            GeneralName::DNSName(name) => names.dns.push(name),
            GeneralName::URI(name) => names.uri.push(name),
            GeneralName::RFC822Name(name) => names.email.push(name),
            GeneralName::IPAddress(bytes) => names.ip.extend(address(bytes)),
            GeneralName::Invalid(..) => return Err(BadCertificate::Name),
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::RegisteredID(_) => {}
        }
    }
    Ok(names)
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::IpAddr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|six| std::net::IpAddr::from(six).to_string())
}

fn claims(
    certificate: &X509Certificate<'_>,
    names: &Names<'_>,
    subject: &str,
    named: &CertificateName,
    fingerprint: &[u8; 32],
) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("sub", subject.into());
    if matches!(named, CertificateName::Spiffe { .. }) {
        put("spiffe_id", subject.into());
    }
    for (name, all) in [("dns", &names.dns), ("uri", &names.uri), ("email", &names.email)] {
        if !all.is_empty() {
            put(name, all.as_slice().into());
        }
    }
    if !names.ip.is_empty() {
        put("ip", names.ip.as_slice().into());
    }
    put("issuer_dn", certificate.issuer().to_string().into());
    put("subject_dn", certificate.subject().to_string().into());
    put("serial", hex(certificate.raw_serial()).into());
    put("x5t#S256", hex(fingerprint).into());
    claims
}

/// What the SPIFFE X.509-SVID standard (sections 4 and 5) demands of a leaf: it signs nothing but
/// handshakes.
fn svid(certificate: &X509Certificate<'_>) -> Result<(), BadCertificate> {
    let usage = certificate.key_usage().map_err(|_| BadCertificate::Purpose)?;
    let signs = |usage: &KeyUsage| usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign();
    if certificate.is_ca() || usage.is_some_and(|usage| !signs(usage.value)) {
        return Err(BadCertificate::Purpose);
    }
    Ok(())
}

/// The trust domain of a SPIFFE id that names a workload; `None` for anything else (SPIFFE-ID,
/// section 2).
pub(super) fn spiffe(id: &str) -> Option<&str> {
    let (domain, path) = id.strip_prefix("spiffe://").filter(|_| id.len() <= 2_048)?.split_once('/')?;
    is_trust_domain(domain).then_some(())?;
    let segment = |text: &str| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        !text.is_empty() && text != "." && text != ".." && text.bytes().all(letter)
    };
    path.split('/').all(segment).then_some(domain)
}

/// Whether a text is a SPIFFE trust domain.
pub(in crate::identity) fn is_trust_domain(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_');
    !text.is_empty() && text.len() <= 255 && text.bytes().all(letter)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|d| char::from_digit(d.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_has_one_form() {
        for id in ["spiffe://prod.example/ns/ml/sa/trainer", "spiffe://a/b", "spiffe://a-b_c.d/E.f_g-h"] {
            assert!(spiffe(id).is_some(), "{id}");
        }
        assert_eq!(spiffe("spiffe://prod.example/a"), Some("prod.example"));
        for id in [
            "spiffe://prod.example",
            "spiffe://prod.example/",
            "spiffe://prod.example/a/",
            "spiffe://prod.example//a",
            "spiffe://prod.example/a/../b",
            "spiffe://prod.example/.",
            "spiffe://PROD.example/a",
            "SPIFFE://prod.example/a",
            "spiffe://prod.example:8443/a",
            "spiffe://user@prod.example/a",
            "spiffe://prod.example/a%20b",
            "spiffe://prod.example/a?b",
            "spiffe://prod.example/a#b",
            "spiffe:///a",
            "https://prod.example/a",
            "",
        ] {
            assert_eq!(spiffe(id), None, "{id}");
        }
    }
}
