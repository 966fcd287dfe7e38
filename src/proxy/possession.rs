//! What a caller shows besides a token, and whether it fits: the certificate of the connection, or
//! the one that a trusted terminator passes on, and the proof of a key.
//!
//! A certificate alone identifies its holder. A token that is bound counts only with what it is bound
//! to. A token that is not bound may stand beside a certificate only if both name the same caller:
//! otherwise a stolen token would be worth more to whoever has a certificate of their own.

use std::sync::Arc;

use http::{HeaderMap, Method};
use ipnet::IpNet;

use super::{Gate, respond::Refusal};
use crate::{
    http::{CertificateHeader, Connection, Target, forwarded_chain},
    identity::{
        BadCertificate, ConnectionMemo, PeerCertificate, Principal,
        bearer::Scheme,
        dpop::{self, Asked, BadProof, Unproven},
    },
};

/// A peer in front of the gate that ends TLS and passes the caller's certificate on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminator {
    /// From where it connects.
    pub peer: IpNet,
    /// In which header it says whose certificate it was shown.
    pub form: CertificateHeader,
    /// How it is known to be the terminator.
    pub known_by: KnownBy,
}

/// How a terminator is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownBy {
    /// By its address alone.
    Network,
    /// By its own certificate.
    Certificate {
        /// The issuer's name.
        issuer: Arc<str>,
        /// The subject, to the letter.
        subject: Box<str>,
    },
}

/// What is missing of a proof, and what the answer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asks {
    /// A certificate, another one, or the token that goes with it.
    Certificate,
    /// A proof, with this error code and perhaps a nonce.
    Proof {
        /// As RFC 9449 and RFC 6750 name it.
        error: &'static str,
        /// To be used in the next proof.
        nonce: Option<String>,
    },
    /// Nothing: the gate cannot remember a proof now.
    Later,
}

type Refuses = (Refusal, &'static str);

fn unproven(why: impl ToString, asks: Asks, reason: &'static str) -> Refuses {
    metrics::counter!("amlgate_possession_refused_total", "reason" => reason).increment(1);
    (Refusal::Unproven { why: why.to_string(), asks }, reason)
}

pub(super) fn bad_certificate(why: BadCertificate) -> Refuses {
    unproven(why, Asks::Certificate, why.name())
}

/// The caller's certificate: of the connection's own TLS, or as a terminator says. It is verified
/// once for each connection; whether it still stands is looked at for each request.
pub(super) fn certificate(
    gate: &Gate,
    connection: &Connection<ConnectionMemo>,
    headers: &HeaderMap,
) -> Result<Option<PeerCertificate>, Refuses> {
    let terminators = &gate.parts().terminators;
    if connection.certificates().is_empty() && terminators.is_empty() {
        return Ok(None);
    }
    let own = own(gate, connection);
    let peer = connection.peer.ip().to_canonical();
    let is = |terminator: &&Terminator| {
        terminator.peer.contains(&peer)
            && match &terminator.known_by {
                KnownBy::Network => true,
                KnownBy::Certificate { issuer, subject } => {
                    let caller = own.as_ref().ok().and_then(|own| own.as_ref()?.caller());
                    caller.is_some_and(|c| c.id.issuer == *issuer && *c.id.subject == **subject)
                }
            }
    };
    let Some(terminator) = terminators.iter().find(is) else {
        // From anybody else such headers say nothing; they never go on.
        return own.map_err(bad_certificate);
    };
    let chain = forwarded_chain(headers, terminator.form)
        .map_err(|why| unproven(why, Asks::Certificate, "certificate_header"))?;
    if chain.is_empty() {
        return Ok(None);
    }
    gate.parts().verifier.certificates().verify(&chain, gate.now()).map(Some).map_err(bad_certificate)
}

/// The certificate of the connection's own TLS.
pub(super) fn own(
    gate: &Gate,
    connection: &Connection<ConnectionMemo>,
) -> Result<Option<PeerCertificate>, BadCertificate> {
    let chain = connection.certificates();
    if chain.is_empty() {
        return Ok(None);
    }
    let mut memo = connection.memory.borrow_mut();
    match memo.certificate.as_ref().map(|known| known.stands(gate.now())) {
        Some(Ok(())) => return Ok(memo.certificate.clone()),
        Some(Err(_)) => memo.certificate = None,
        None => {}
    }
    let verified = gate.parts().verifier.certificates().verify(chain, gate.now())?;
    memo.certificate = Some(verified.clone());
    Ok(Some(verified))
}

/// Whom a certificate identifies by itself.
pub(super) fn holder(certificate: &PeerCertificate) -> Result<Principal, Refuses> {
    certificate.principal().ok_or_else(|| {
        unproven(
            "no issuer makes an identity of the client certificate: it counts beside a token that is bound to it",
            Asks::Certificate,
            "certificate_alone",
        )
    })
}

/// A request as a proof must describe it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Described<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    pub urls: Urls<'a>,
}

/// By which URLs a request's target is known outside.
#[derive(Debug, Clone, Copy)]
pub(super) enum Urls<'a> {
    /// Below the gate's own address, or a host of a route.
    Own { target: &'a Target, host: Option<&'a str> },
    /// At the host of a tunnel.
    At { host: &'a str, port: u16, path: &'a str },
}

impl Urls<'_> {
    fn list(&self, public_url: &str) -> Vec<String> {
        match self {
            Self::At { host, port, path } => vec![format!("https://{host}:{port}{path}")],
            Self::Own { target, host } => {
                let own = format!("{public_url}{}", target.path());
                let at_host = host.and_then(|host| {
                    let uri: http::Uri = public_url.parse().ok()?;
                    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
                    Some(format!("{}://{host}{port}{}", uri.scheme_str()?, target.path()))
                });
                at_host.into_iter().chain([own]).collect()
            }
        }
    }
}

/// The thumbprint of the key that a request's proof shows for a token. Without an issuer, where it is
/// not known yet, a nonce is demanded if any issuer's proofs need one.
pub(super) fn proven_key(
    gate: &Gate,
    issuer: Option<&str>,
    token: &str,
    request: &Described<'_>,
) -> Result<Box<str>, Unproven> {
    let parts = gate.parts();
    let urls = request.urls.list(&parts.public_url);
    let asked = Asked {
        method: request.method.as_str(),
        urls: &urls,
        token: Some(token),
        nonce: parts.verifier.wants_nonce(issuer),
        now: gate.now(),
    };
    parts.proofs.judge(dpop::sole(request.headers), &asked)
}

/// What comes with a token.
pub(super) struct Shown<'a> {
    pub scheme: Scheme,
    pub certificate: Option<&'a PeerCertificate>,
}

/// The holder of a token with what they showed, if it is what the token is bound to. `key` is asked
/// for the key that they proved, and only if one is needed.
pub(super) fn holds(
    gate: &Gate,
    principal: Principal,
    shown: &Shown<'_>,
    key: impl FnOnce(&Principal) -> Result<Box<str>, Unproven>,
) -> Result<Principal, Refuses> {
    let Shown { scheme, certificate } = *shown;
    let Some(binding) = principal.binding() else {
        return match (scheme, certificate) {
            (Scheme::Bearer, None) => Ok(principal),
            (Scheme::Dpop, _) => Err(unproven(
                "the token is not bound to a key: send it as `Authorization: Bearer TOKEN`",
                Asks::Proof { error: "invalid_token", nonce: None },
                "dpop_unbound",
            )),
            (Scheme::Bearer, Some(certificate)) => beside(principal, certificate),
        };
    };
    match (&binding.key, scheme) {
        (None, Scheme::Bearer) => {}
        (None, Scheme::Dpop) => {
            return Err(unproven(
                "the token is not bound to a key: send it as `Authorization: Bearer TOKEN`",
                Asks::Proof { error: "invalid_token", nonce: None },
                "dpop_unbound",
            ));
        }
        (Some(_), Scheme::Bearer) => {
            return Err(unproven(
                "the token is bound to a key: send it as `Authorization: DPoP TOKEN` with a `DPoP` proof by that key",
                Asks::Proof { error: "invalid_token", nonce: None },
                "bound_as_bearer",
            ));
        }
        (Some(wanted), Scheme::Dpop) => {
            let shown = key(&principal).map_err(|why| no_proof(gate, why))?;
            if shown != *wanted {
                return Err(unproven(
                    "the `DPoP` proof is by another key than the token is bound to",
                    Asks::Proof { error: "invalid_token", nonce: None },
                    "dpop_other_key",
                ));
            }
        }
    }
    match (&binding.certificate, certificate) {
        (None, None) => Ok(principal),
        (None, Some(certificate)) => beside(principal, certificate),
        (Some(wanted), Some(certificate)) if wanted == certificate.fingerprint() => {
            Ok(principal.with_certificate(certificate.clone()))
        }
        (Some(_), Some(_)) => Err(unproven(
            "the token is bound to another client certificate",
            Asks::Certificate,
            "bound_to_another_certificate",
        )),
        (Some(_), None) => Err(unproven(
            "the token is bound to a client certificate, and counts only on a connection with it",
            Asks::Certificate,
            "bound_without_certificate",
        )),
    }
}

/// A token that is not bound to the certificate beside it: both must name the same caller.
fn beside(principal: Principal, certificate: &PeerCertificate) -> Result<Principal, Refuses> {
    let same = certificate.caller().is_some_and(|holder| {
        holder.person() == principal.person()
            // A workload with both forms of its SPIFFE id, a certificate and a token.
            || holder.id.subject.starts_with("spiffe://") && holder.id.subject == principal.id.subject
    });
    if same {
        return Ok(principal.with_certificate(certificate.clone()));
    }
    Err(unproven(
        "the token beside the client certificate is neither bound to it nor of the same caller",
        Asks::Certificate,
        "certificate_of_another",
    ))
}

fn no_proof(gate: &Gate, why: Unproven) -> Refuses {
    match why {
        Unproven::Bad(bad) => {
            let nonce = (bad == BadProof::Nonce).then(|| gate.parts().proofs.nonce(gate.now()));
            let error = if nonce.is_some() { "use_dpop_nonce" } else { "invalid_dpop_proof" };
            unproven(bad, Asks::Proof { error, nonce }, bad.name())
        }
        Unproven::Replayed => unproven(
            "the `DPoP` proof was used before: each is good once",
            Asks::Proof { error: "invalid_dpop_proof", nonce: None },
            "dpop_replayed",
        ),
        Unproven::Full => unproven(
            "the gate cannot remember another `DPoP` proof now; try again",
            Asks::Later,
            "dpop_replays_full",
        ),
    }
}
