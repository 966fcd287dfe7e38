//! Who is calling: the connection's memo, the process's memory, a handle, or the signature.

use std::cell::RefCell;

use http::{HeaderMap, HeaderValue, header};

use super::{Door, Gate, forward::Tunnel, respond::Refusal, routes::Chosen};
use crate::{
    azureml::Protocol,
    credentials::{CallerToken, CredentialChoice, KeySlot},
    identity::{ConnectionMemo, Handles, NoBearer, Principal, Reason, Slot, bearer},
};

/// Who is calling, and with what of an endpoint's.
pub(super) struct Caller {
    pub principal: Principal,
    /// The caller came with a handle: which key of the endpoint it stands for.
    pub slot: Option<KeySlot>,
}

/// Finds the caller, or says why nobody is known.
pub(super) async fn caller(
    gate: &Gate,
    memo: &RefCell<ConnectionMemo>,
    headers: &HeaderMap,
    chosen: &Chosen,
    door: Door<'_>,
) -> Result<Caller, (Refusal, &'static str)> {
    let Door::Tunnel(Tunnel { authorization: Some(header), .. }) = door else {
        return bearing(gate, memo, bearer::sole(headers).map_err(unknown)?, chosen).await;
    };
    // Whoever asked for the tunnel is who calls: a token inside is Azure's, or nobody's, and ends here.
    let mut caller = bearing(gate, memo, header, chosen).await?;
    let inner = bearer::of(headers).ok().filter(|token| Handles::is_handle(token));
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

/// Whose header it is.
async fn bearing(
    gate: &Gate,
    memo: &RefCell<ConnectionMemo>,
    header: &HeaderValue,
    chosen: &Chosen,
) -> Result<Caller, (Refusal, &'static str)> {
    let verifier = &gate.parts().verifier;
    let remembered = verifier.recall(&mut memo.borrow_mut(), header);
    if let Some(principal) = remembered {
        return Ok(Caller { principal, slot: None });
    }
    let token = bearer::token(header).map_err(unknown)?;
    if Handles::is_handle(token) {
        return redeem(gate, token, chosen);
    }
    match verifier.authenticate(token).await {
        Ok(principal) => Ok(Caller { principal, slot: None }),
        Err(rejection) if rejection.reason() == Reason::GroupsUnavailable => {
            Err((Refusal::GroupsUnknown, rejection.reason().name()))
        }
        Err(rejection) if rejection.is_outage() => Err((Refusal::IssuerDown, "issuer_down")),
        Err(rejection) if rejection.reason() == Reason::LimitedUser => {
            let why = "a limited Backstage user token is no bearer: it counts only inside a plugin's token";
            Err((Refusal::Unauthenticated { why }, rejection.reason().name()))
        }
        Err(rejection) => {
            let why = "the token is not accepted";
            Err((Refusal::Unauthenticated { why }, rejection.reason().name()))
        }
    }
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
