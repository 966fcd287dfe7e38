//! Who is calling: the connection's memo, the process's memory, a handle, a certificate, or the
//! signature.

use std::cell::RefCell;

use http::{HeaderMap, HeaderValue, Method, header};

use super::{
    Door, Gate,
    forward::Tunnel,
    possession::{self, Described, Shown, Urls},
    respond::Refusal,
    routes::Chosen,
};
use crate::{
    azureml::Protocol,
    credentials::{CallerToken, CredentialChoice, KeySlot},
    http::{Connection, Target},
    identity::{
        ConnectionMemo, Handles, NoBearer, PeerCertificate, Principal, Reason, Slot, Standing, bearer,
        bearer::Scheme, dpop::Unproven,
    },
};

/// Who is calling, and with what of an endpoint's.
pub(super) struct Caller {
    pub principal: Principal,
    /// The caller came with a handle: which key of the endpoint it stands for.
    pub slot: Option<KeySlot>,
}

/// What is asked, as far as it matters for who asks.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    /// As it was asked for, before a route took its prefix off.
    pub target: &'a Target,
}

/// Finds the caller, or says why nobody is known.
pub(super) async fn caller(
    gate: &Gate,
    connection: &Connection<ConnectionMemo>,
    asked: Asked<'_>,
    chosen: &Chosen,
    door: Door<'_>,
) -> Result<Caller, (Refusal, &'static str)> {
    let memo = &connection.memory;
    let Door::Tunnel(tunnel @ Tunnel { host, port, .. }) = door else {
        let certificate = possession::certificate(gate, connection, asked.headers)?;
        let own_host = chosen.route.settings.hosts.iter().any(|host| *host == *asked.target.host());
        let urls = Urls::Own { target: asked.target, host: own_host.then(|| asked.target.host()) };
        return alone(gate, memo, asked, urls, certificate, chosen).await;
    };
    // Whoever asked for the tunnel is who calls: a token inside is Azure's, or nobody's, and ends here.
    let mut caller = match (&tunnel.authorization, tunnel.certificate(gate)?) {
        (None, None) if !gate.parts().tunnels.identities.inner => {
            let why = "the tunnel was asked for without a certificate or a token";
            return Err((Refusal::Unauthenticated { why }, "no_credentials"));
        }
        (None, None) => {
            let urls = Urls::At { host, port: *port, path: asked.target.path() };
            let caller = alone(gate, memo, asked, urls, None, chosen).await?;
            if let Some(stranger) = &tunnel.stranger {
                stranger.is_known_now();
            }
            return Ok(caller);
        }
        (None, Some(_)) if !gate.parts().tunnels.identities.certificate => {
            let why =
                "a certificate is no identity at this proxy: `listen.forward.identity` does not name it";
            return Err((Refusal::Unauthenticated { why }, "certificate_alone"));
        }
        (None, Some(certificate)) => Caller { principal: possession::holder(&certificate)?, slot: None },
        (Some(header), certificate) => {
            // The key was proven once, when the tunnel was asked for.
            bearing(gate, memo, header, chosen, certificate.as_ref(), |_, _| tunnel.key()).await?
        }
    };
    let inner = bearer::of(asked.headers).ok().filter(|token| Handles::is_handle(token));
    if let Some(handle) = inner {
        let held = redeem(gate, handle, chosen)?;
        if held.principal.id != caller.principal.id {
            let why = "the endpoint key is another caller's";
            return Err((Refusal::Unauthenticated { why }, "handle_of_another"));
        }
        caller.slot = held.slot;
    }
    Ok(caller)
}

/// The caller of a request that says itself who calls.
async fn alone(
    gate: &Gate,
    memo: &RefCell<ConnectionMemo>,
    asked: Asked<'_>,
    urls: Urls<'_>,
    certificate: Option<PeerCertificate>,
    chosen: &Chosen,
) -> Result<Caller, (Refusal, &'static str)> {
    let header = match (bearer::sole(asked.headers), &certificate) {
        (Err(NoBearer::Absent), Some(certificate)) => {
            return Ok(Caller { principal: possession::holder(certificate)?, slot: None });
        }
        (header, _) => header.map_err(unknown)?,
    };
    let described = Described { method: asked.method, headers: asked.headers, urls };
    let key = |issuer: &str, token: &str| possession::proven_key(gate, Some(issuer), token, &described);
    bearing(gate, memo, header, chosen, certificate.as_ref(), key).await
}

/// The caller with what the policies ask about their groups that does not stand in their token.
pub(super) async fn belonging(gate: &Gate, caller: Caller) -> Caller {
    let Caller { principal, slot } = caller;
    let principal = match gate.parts().policies.peek().groups_to_ask(&principal) {
        None => principal,
        // Boxed, like the next: hardly any request waits for it.
        Some(about) => Box::pin(gate.parts().groups.of(principal, about)).await,
    };
    let principal = match gate.parts().policies.peek().gerrit_groups_to_ask(&principal) {
        None => principal,
        Some(about) => Box::pin(gate.parts().gates.reviews().mirror().told(principal, about)).await,
    };
    Caller { principal, slot }
}

/// Refuses who was revoked, whichever way they were found.
pub(super) fn standing(gate: &Gate, principal: &Principal) -> Result<(), (Refusal, &'static str)> {
    match gate.parts().verifier.revoked().standing(principal, gate.now()) {
        Standing::Stands => Ok(()),
        Standing::Revoked => Err((Refusal::Unauthenticated { why: "the token is not accepted" }, "revoked")),
        Standing::Unknown => Err((Refusal::RevocationsUnknown, "revocations_unknown")),
    }
}

/// What the caller is known by, for a route whose credential may act for callers: the token of the
/// tunnel, else the request's own.
pub(super) fn known_by(chosen: &Chosen, headers: &HeaderMap, door: Door<'_>) -> Option<CallerToken> {
    if !chosen.route.settings.credential.as_ref().is_some_and(CredentialChoice::acts_for_callers) {
        return None;
    }
    let tunnels = match door {
        Door::Tunnel(tunnel) => tunnel.authorization.as_ref(),
        Door::Reverse => None,
    };
    tunnels.or_else(|| headers.get(header::AUTHORIZATION)).map(CallerToken::new)
}

/// Whose header it is, if what came with it is what it is bound to; `key` finds the key that was
/// proven for an issuer's token.
async fn bearing(
    gate: &Gate,
    memo: &RefCell<ConnectionMemo>,
    header: &HeaderValue,
    chosen: &Chosen,
    certificate: Option<&PeerCertificate>,
    key: impl FnOnce(&str, &str) -> Result<Box<str>, Unproven>,
) -> Result<Caller, (Refusal, &'static str)> {
    let verifier = &gate.parts().verifier;
    let remembered = verifier.recall(&mut memo.borrow_mut(), header);
    let (caller, scheme) = match remembered {
        Some(principal) => (Caller { principal, slot: None }, bearer::scheme(header)),
        None => {
            let (scheme, token) = bearer::credentials(header).map_err(unknown)?;
            let caller = if Handles::is_handle(token) {
                redeem(gate, token, chosen)?
            } else {
                // Boxed: a connection waits for it once.
                Caller { principal: Box::pin(verified(gate, token)).await?, slot: None }
            };
            (caller, scheme)
        }
    };
    if scheme == Scheme::Bearer && certificate.is_none() && caller.principal.binding().is_none() {
        return Ok(caller);
    }
    let Caller { principal, slot } = caller;
    let principal = possession::holds(gate, principal, &Shown { scheme, certificate }, |principal| {
        let token = bearer::credentials(header).map_or("", |(_, token)| token);
        key(&principal.id.issuer, token)
    })?;
    Ok(Caller { principal, slot })
}

async fn verified(gate: &Gate, token: &str) -> Result<Principal, (Refusal, &'static str)> {
    gate.parts().verifier.present(token).await.map_err(|rejection| {
        let reason = rejection.reason().name();
        if rejection.reason() == Reason::GroupsUnavailable {
            (Refusal::GroupsUnknown, reason)
        } else if rejection.is_outage() {
            (Refusal::IssuerDown, "issuer_down")
        } else if rejection.reason() == Reason::LimitedUser {
            let why = "a limited Backstage user token is no bearer: it counts only inside a plugin's token";
            (Refusal::Unauthenticated { why }, reason)
        } else {
            (Refusal::Unauthenticated { why: "the token is not accepted" }, reason)
        }
    })
}

fn unknown(why: NoBearer) -> (Refusal, &'static str) {
    (Refusal::Unauthenticated { why: "the request carries no bearer token, or more than one" }, why.name())
}

/// A handle authenticates at the endpoint that it was issued for, and nowhere else.
fn redeem(gate: &Gate, token: &str, chosen: &Chosen) -> Result<Caller, (Refusal, &'static str)> {
    let refused = |reason| {
        (Refusal::Unauthenticated { why: "the endpoint key is not accepted here, or has expired" }, reason)
    };
    let settings = &chosen.route.settings;
    let held = gate.parts().handles.redeem(token, gate.now()).map_err(|_| refused("handle"))?;
    let here = settings.protocol == Protocol::Inference
        && settings.resource.as_ref().is_some_and(|r| r.folded().eq_ignore_ascii_case(&held.endpoint));
    if !here {
        return Err(refused("handle_elsewhere"));
    }
    let slot = match held.slot {
        Slot::Primary => KeySlot::Primary,
        Slot::Secondary => KeySlot::Secondary,
        Slot::Token => KeySlot::Token,
    };
    Ok(Caller { principal: held.principal, slot: Some(slot) })
}
