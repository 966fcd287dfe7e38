//! Client certificates: who is asked for one, who may pass one on, and whether anybody vouches.

use std::{net::IpAddr, path::PathBuf};

use ipnet::IpNet;

use super::{
    super::{Problems, raw},
    Reader,
};
use crate::{
    config::settings::{Forward, Reverse},
    http::CertificateHeader,
    identity::{Certificates, IssuerKind, IssuerSettings},
    proxy::possession::{KnownBy, Terminator},
    yaml::{Place, Spanned},
};

impl Reader<'_> {
    /// `client_ca`.
    pub(super) fn bundle(&self, found: &Spanned<String>, problems: &mut Problems) -> Option<PathBuf> {
        let path = self.existing(found, problems)?;
        let read = std::fs::read(&path).ok()?;
        if let Err(error) = Certificates::tried(&read, &[]) {
            problems.error(Place::of(found), error.to_string());
            return None;
        }
        Some(path)
    }
}

/// `trusted_proxies`: the networks of all, and those that pass certificates on.
pub(super) fn trusted(
    found: &[Spanned<raw::TrustedProxy>],
    problems: &mut Problems,
) -> (Vec<IpNet>, Vec<Terminator>) {
    let (mut networks, mut terminators) = (Vec::new(), Vec::new());
    for one in found {
        let read = match &one.value {
            raw::TrustedProxy::Network(text) => network(text).map(|network| (network, None)),
            raw::TrustedProxy::Terminator(raw) => terminator(raw).map(|found| (found.peer, Some(found))),
        };
        match read {
            Ok((network, terminator)) => {
                networks.push(network);
                terminators.extend(terminator);
            }
            Err(message) => problems.error(Place::of(one), message),
        }
    }
    (networks, terminators)
}

fn terminator(raw: &raw::Terminator) -> Result<Terminator, String> {
    let form = match raw.certificate_header.as_str() {
        "client_cert" => CertificateHeader::ClientCert,
        "xfcc" => CertificateHeader::Xfcc,
        other => return Err(format!("`{other}` is neither `client_cert` (RFC 9440) nor `xfcc` (Envoy)")),
    };
    let known_by = match &raw.authenticated_by {
        raw::AuthenticatedBy::Word(word) if word == "network" => KnownBy::Network,
        raw::AuthenticatedBy::Word(word) => {
            return Err(format!(
                "`{word}` is no way to know a terminator: write `{{issuer: mesh, subject: spiffe://prod.example.com/ingress}}`, its own certificate, or `network` if nobody else can have its address"
            ));
        }
        raw::AuthenticatedBy::Certificate { issuer, subject } => {
            KnownBy::Certificate { issuer: issuer.as_str().into(), subject: subject.as_str().into() }
        }
    };
    Ok(Terminator { peer: network(&raw.peer)?, form, known_by })
}

/// What must fit together.
pub(super) fn agree(
    reverse: Option<&Reverse>,
    forward: Option<&Forward>,
    issuers: &[IssuerSettings],
    raw: &raw::File,
    problems: &mut Problems,
) {
    let asks = |tls: Option<&crate::config::settings::Tls>| tls.is_some_and(|tls| tls.client_ca.is_some());
    let reverse_asks = asks(reverse.and_then(|r| r.tls.as_ref()));
    let terminators = reverse.map(|r| r.terminators.as_slice()).unwrap_or_default();
    let vouches = |issuer: &&IssuerSettings| matches!(issuer.kind, IssuerKind::Certificate(_));
    let heard = reverse_asks || asks(forward.and_then(|f| f.tls.as_ref())) || !terminators.is_empty();
    if let Some(issuer) = issuers.iter().find(vouches).filter(|_| !heard)
        && let Some(found) = raw.issuers.iter().find(|found| *found.value.name.value == *issuer.name)
    {
        problems.error_with(
            Place::of(found),
            format!("nobody is asked for a certificate of `{}`", issuer.name),
            "add `client_ca` to the `tls` of a listener, or a terminator to `trusted_proxies`",
        );
    }
    let entries = raw.listen.value.reverse.iter().flat_map(|reverse| &reverse.value.trusted_proxies);
    for entry in entries {
        let raw::TrustedProxy::Terminator(terminator) = &entry.value else { continue };
        if !issuers.iter().any(|issuer| vouches(&issuer)) {
            problems.error_with(
                Place::of(entry),
                "no issuer vouches for the certificates that it passes on",
                "add `{name: mesh, certificate: {ca: ..., spiffe: {trust_domain: ...}}}` to `issuers`",
            );
        }
        if let raw::AuthenticatedBy::Certificate { issuer, .. } = &terminator.authenticated_by {
            if !issuers.iter().any(|known| vouches(&known) && *known.name == **issuer) {
                let message = format!("`{issuer}` is no issuer with a `certificate` block");
                problems.error(Place::of(entry), message);
            } else if !reverse_asks {
                problems.error_with(
                    Place::of(entry),
                    "the terminator is not asked for its certificate",
                    "add `client_ca` to `listen.reverse.tls`",
                );
            }
        }
    }
}

pub(super) fn network(text: &str) -> Result<IpNet, String> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("`{text}` is not an address or network: write `10.1.2.3` or `10.0.0.0/8`"))
}
