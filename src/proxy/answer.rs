//! The upstream's answer on its way back: URLs rewritten, keys replaced, everything else passed on
//! frame by frame.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use super::{Gate, respond::Refusal, routes::Chosen};
use crate::{
    audit::Ending,
    azureml::{Operation, Protocol, SecretClass},
    credentials::{Attempt, Bearer, Challenge, LiveGroups, LiveRights},
    gates::{Gates, approvals::GrantUse},
    http::{Body, headers},
    identity::{Principal, Slot, Standing, Verifier},
    net::{Destination, Scheme},
    policy::{Lease, LivePolicies, OnTokenExpiry, Permit, PolicySet, SecretTreatment, StreamLimits},
    time::{SharedClock, Timestamp},
    upstream::{Answer, Passing, Upload, Watch, polling, rewrite},
};

/// Passes an answer on.
pub(super) async fn pass_on(
    gate: &Gate,
    mut attempt: Attempt,
    answer: Answer,
    upload: Upload,
    chosen: &Chosen,
    policies: &PolicySet,
) -> Result<Response<Body>, Refusal> {
    let Answer { response, connection } = answer;
    let (mut head, body) = response.into_parts();
    let correlation = head
        .headers
        .get("x-ms-correlation-request-id")
        .or_else(|| head.headers.get("x-ms-request-id"))
        .and_then(|v| v.to_str().ok());
    attempt.outcome().answered(head.status.as_u16(), correlation);
    if let Some(refusal) = refused_gate(&attempt, &head) {
        attempt.outcome().sent(upload.sent());
        attempt.outcome().ended(Ending::Completed);
        return Err(refusal);
    }
    headers::strip_answer(&mut head.headers);
    if gate.parts().console_beside && !chosen.tunnelled {
        // A page that a caller stored in Azure could act there as whoever opens it and is signed in.
        head.headers.append(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    }
    if !upload.is_whole() {
        // What the caller still sends may never be read, so that nothing can follow it. HTTP/2 has no
        // such header, and needs none: there a stream ends alone.
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let permit = attempt.recorded().permit();
    rewrite_headers(gate, permit, chosen, &mut head.headers);
    let operation = permit.operation();
    let surgery = is_json(&head.headers)
        && head.status.is_success()
        && (!chosen.tunnelled && rewrite::concerns(&operation.name) || substituted(permit).next().is_some());
    if surgery {
        let patience = gate.parts().limits.upstream.idle;
        let collected = Limited::new(body, rewrite::MAX_BODY).collect();
        let collected = match tokio::time::timeout(patience, collected).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(_)) => {
                attempt.outcome().ended(Ending::UpstreamFailed);
                let why = "the answer is larger than the 8 MiB that are rewritten, or broke off".to_owned();
                return Err(Refusal::Upstream(why));
            }
            Err(_) => {
                attempt.outcome().ended(Ending::TimedOut);
                let why = format!("the answer did not end within {} s", patience.as_secs());
                return Err(Refusal::TimedOut(why));
            }
        };
        let outcome = attempt.outcome();
        if upload.answered(outcome) {
            connection.reuse();
        }
        outcome.sent(upload.sent());
        outcome.received(collected.len() as u64);
        outcome.ended(Ending::Completed);
        let bytes = operate(gate, attempt.recorded().permit(), policies, chosen, &collected)?;
        attempt.outcome().response_is(&bytes, &head.headers);
        head.headers.remove(header::CONTENT_LENGTH);
        return Ok(Response::from_parts(head, Body::full(bytes)));
    }
    if substituted(permit).next().is_some() && head.status.is_success() {
        // A secret that cannot be replaced is not shown.
        attempt.outcome().ended(Ending::Completed);
        return Err(Refusal::Upstream(
            "the answer holds a secret in a form that cannot be replaced".to_owned(),
        ));
    }
    let lease = permit.lease(stream_limits(gate, &attempt));
    let watch = Leased::new(gate, lease, attempt.recorded().grants());
    let limits = &gate.parts().limits;
    // A cluster's watch or log is silent for as long as nothing happens there.
    let quiet = chosen.route.settings.protocol == Protocol::Kubernetes;
    let idle = if quiet { limits.streams.max_age } else { limits.upstream.idle };
    let mut outcome = attempt.into_outcome();
    let taker = outcome.takes_response(&head.headers);
    let passing = Passing::new(body, outcome, upload, connection, Box::new(watch), idle, taker);
    Ok(Response::from_parts(head, Body::stream(passing)))
}

/// Azure refuses the gate's own identity: that is the operator's business, and the caller is told
/// so instead of being asked for another token.
fn refused_gate(attempt: &Attempt, head: &http::response::Parts) -> Option<Refusal> {
    match (head.status, attempt.bearer()) {
        // What Azure says of a person's own rights goes to that person as it is.
        (StatusCode::FORBIDDEN, Bearer::Token { caller: Some(_), .. }) => None,
        (StatusCode::UNAUTHORIZED, Bearer::Token { caller: Some(_), .. }) => {
            let Some(challenge) = Challenge::of(&head.headers) else {
                return Some(Refusal::UpstreamRefusesGate);
            };
            Some(Refusal::SignInWanted {
                issuer: Arc::clone(&attempt.recorded().permit().principal().id.issuer),
                claims: challenge.asked().into(),
                code: "insufficient_claims".into(),
            })
        }
        (StatusCode::UNAUTHORIZED, Bearer::Token { .. }) => Some(Refusal::UpstreamRefusesGate),
        // Keys are not fetched anew for each refusal: the endpoint could make the gate ask for ever.
        (StatusCode::UNAUTHORIZED, Bearer::EndpointKey { .. }) => Some(Refusal::Stale {
            why: "the endpoint refuses the key that the gate has just fetched; try again in a moment",
            retry_after: 10,
        }),
        (StatusCode::FORBIDDEN, Bearer::Token { .. })
            if attempt.recorded().permit().operation().protocol == Protocol::Arm =>
        {
            Some(Refusal::UpstreamRefusesGate)
        }
        _ => None,
    }
}

/// How long a live stream may go on. One on behalf of a person ends with that person's token,
/// whatever is configured: so does the one that Azure was given for it.
pub(super) fn stream_limits(gate: &Gate, attempt: &Attempt) -> StreamLimits {
    let configured = gate.parts().limits.streams;
    if attempt.bearer().is_on_behalf() {
        StreamLimits { on_token_expiry: OnTokenExpiry::End, ..configured }
    } else {
        configured
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|e| e != "identity");
    let media = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    !encoded && media.to_ascii_lowercase().contains("json")
}

/// The classes of secrets in the answer that the caller gets handles for.
fn substituted(permit: &Permit) -> impl Iterator<Item = SecretClass> + '_ {
    permit
        .judgement()
        .secrets
        .iter()
        .filter(|(_, t)| *t == SecretTreatment::Substitute)
        .map(|(class, _)| *class)
}

/// Rewrites and replaces in an answer's JSON.
fn operate(
    gate: &Gate,
    permit: &Permit,
    policies: &PolicySet,
    chosen: &Chosen,
    bytes: &Bytes,
) -> Result<Bytes, Refusal> {
    if substituted(permit).next().is_none() && !rewrite::may_hold_urls(bytes) {
        return Ok(bytes.clone());
    }
    let refuse = || Refusal::Upstream("the answer is not the JSON that it says it is".to_owned());
    let mut value: Value = serde_json::from_slice(bytes).map_err(|_| refuse())?;
    let mut changed = !chosen.tunnelled
        && rewrite::body(&GateDoors::of(gate, chosen), &permit.operation().name, &mut value);
    for class in substituted(permit) {
        replace_keys(gate, permit, policies, class, &mut value)?;
        changed = true;
    }
    if !changed {
        return Ok(bytes.clone());
    }
    serde_json::to_vec(&value).map(Bytes::from).map_err(|_| refuse())
}

/// Puts handles where the keys were; every other member of such an answer is removed if it is a
/// string that could be a key under another name.
fn replace_keys(
    gate: &Gate,
    permit: &Permit,
    policies: &PolicySet,
    class: SecretClass,
    value: &mut Value,
) -> Result<(), Refusal> {
    const PLAIN: &[&str] = &["tokenType", "expiryTimeUtc", "refreshAfterTimeUtc", "type"];
    let slots: &[(&str, Slot)] = match class {
        SecretClass::EndpointKey => &[("primaryKey", Slot::Primary), ("secondaryKey", Slot::Secondary)],
        SecretClass::EndpointToken => &[("accessToken", Slot::Token)],
        SecretClass::UploadSas
        | SecretClass::DownloadSas
        | SecretClass::RunToken
        | SecretClass::Connection
        | SecretClass::Datastore
        | SecretClass::WorkspaceKey
        | SecretClass::ComputeKey
        | SecretClass::NotebookToken => {
            return Err(Refusal::Upstream(format!(
                "`{}` cannot be replaced by a handle: grant it as `reveal`",
                class.name()
            )));
        }
    };
    let endpoint = permit.operation().acts.first().and_then(|a| a.resource.as_ref());
    let (Some(endpoint), Some(members)) = (endpoint, value.as_object_mut()) else {
        return Err(Refusal::Upstream("the answer holds keys of an endpoint that is not named".to_owned()));
    };
    let subjects = policies.subjects_of(permit.principal());
    members.retain(|name, _| {
        slots.iter().any(|(slot, _)| slot.eq_ignore_ascii_case(name))
            || PLAIN.iter().any(|p| p.eq_ignore_ascii_case(name))
    });
    for (name, member) in members.iter_mut() {
        let Some((_, slot)) = slots.iter().find(|(slot, _)| slot.eq_ignore_ascii_case(name)) else {
            continue;
        };
        let handle = gate
            .parts()
            .handles
            .issue(permit.principal(), subjects.clone(), endpoint.folded(), *slot, gate.now())
            .map_err(|_| Refusal::Upstream("a handle for the key could not be made".to_owned()))?;
        *member = Value::String(handle);
    }
    Ok(())
}

fn rewrite_headers(gate: &Gate, permit: &Permit, chosen: &Chosen, map: &mut HeaderMap) {
    let doors = GateDoors::of(gate, chosen);
    let principal = permit.principal().id.to_string();
    let bound = polling::Bound { route: &chosen.route.settings.name, principal: &principal };
    let polls = is_polled(permit.operation());
    rewrite::headers(&doors, map, |url| {
        if polls { polling::seal(&gate.parts().polling, &url, bound, gate.now()) } else { url }
    });
}

/// Whether what an answer's `Location` leads to is the operation's own status.
fn is_polled(operation: &Operation) -> bool {
    let status = operation.name.starts_with("Locations_");
    matches!(operation.protocol, Protocol::Arm | Protocol::Azureml) && (operation.long_running || status)
}

/// Where a host's URLs lead at the gate.
pub(super) struct GateDoors<'a> {
    gate: &'a Gate,
    /// Through a tunnel the upstream has its own name: its URLs stay as they are.
    tunnelled: bool,
}

impl<'a> GateDoors<'a> {
    pub const fn of(gate: &'a Gate, chosen: &Chosen) -> Self {
        Self { gate, tunnelled: chosen.tunnelled }
    }
}

impl rewrite::Doors for GateDoors<'_> {
    fn base(&self, host: &str, port: u16) -> Option<String> {
        let parts = self.gate.parts();
        if self.tunnelled {
            let own = match port {
                443 => format!("https://{host}"),
                _ => format!("https://{host}:{port}"),
            };
            return parts.routes.tunnels_to(host, port).then_some(own);
        }
        let serves = |to: &Destination| {
            let scheme = matches!(to.scheme, Scheme::Https | Scheme::Http);
            scheme && *to.host == *host && to.port == port
        };
        let route = parts.routes.iter().find(|r| serves(&r.settings.upstream))?;
        let base = &parts.public_url;
        let authority = match (route.settings.hosts.first(), base.split_once("://")) {
            (Some(host), Some((scheme, rest))) => {
                let port = rest.rsplit_once(':').filter(|(_, p)| p.bytes().all(|b| b.is_ascii_digit()));
                port.map_or_else(
                    || format!("{scheme}://{host}"),
                    |(_, port)| format!("{scheme}://{host}:{port}"),
                )
            }
            _ => base.clone(),
        };
        let own = matches!(route.settings.protocol, Protocol::Arm | Protocol::Azureml);
        let prefix = route.settings.paths.first().filter(|p| !own && p.as_str() != "/");
        Some(format!("{authority}{}", prefix.map_or("", String::as_str)))
    }
}

/// Whether the issuer of a caller is still one of the gate's, and nobody revoked the caller.
pub(super) fn is_vouched_for(
    verifier: &Verifier,
    principal: &Principal,
    now: Timestamp,
) -> Result<(), String> {
    let issuer = &principal.id.issuer;
    if !verifier.knows(issuer) {
        return Err(format!("the issuer `{issuer}` vouches for nobody here any more"));
    }
    match verifier.revoked().standing(principal, now) {
        Standing::Stands => Ok(()),
        Standing::Revoked => Err("it was revoked".to_owned()),
        Standing::Unknown => Err("whether it was revoked cannot be known".to_owned()),
    }
}

/// Judges a live stream by its lease: at each change of the policies, at its end, and each second
/// while they read the time.
pub(super) struct Leased {
    lease: Lease,
    /// The grants by which it began, and who knows whether they and its break-glass stand; nothing where
    /// it had neither.
    lent: Option<(Arc<Gates>, Box<[GrantUse]>)>,
    gates: Arc<Gates>,
    policies: Arc<LivePolicies>,
    verifier: Arc<Verifier>,
    clock: SharedClock,
    rights: LiveRights,
    groups: LiveGroups,
}

impl Leased {
    /// `grants`: those by which it began.
    pub fn new(gate: &Gate, lease: Lease, grants: &[GrantUse]) -> Self {
        let policies = Arc::clone(&gate.parts().policies);
        let rights = gate.parts().rights.clone();
        let (clock, verifier) = (Arc::clone(&gate.parts().clock), Arc::clone(&gate.parts().verifier));
        let groups = gate.parts().groups.clone();
        let lends = !grants.is_empty() || lease.request().glass.is_some();
        let lent = lends.then(|| (Arc::clone(&gate.parts().gates), grants.into()));
        let gates = Arc::clone(&gate.parts().gates);
        Self { lease, lent, gates, policies, clock, rights, groups, verifier }
    }
}

impl Watch for Leased {
    fn may_go_on(&mut self) -> Result<(), String> {
        let now = self.clock.now();
        is_vouched_for(&self.verifier, self.lease.principal(), now)?;
        if let Some((gates, grants)) = &self.lent {
            grants.iter().try_for_each(|grant| gates.approvals().stands(grant, now))?;
        }
        let policies = self.policies.peek();
        let changed = policies.generation() != self.lease.generation();
        let stands = self.lease.is_certified(now);
        let regrouped = self.groups.again(self.lease.principal());
        let holder = regrouped.as_ref().unwrap_or_else(|| self.lease.principal());
        let regrouped = self.gates.reviews().mirror().again(holder).or(regrouped);
        let glass = self.lent.as_ref().zip(self.lease.request().glass.as_deref());
        let mended = glass.is_some_and(|((gates, _), glass)| !gates.break_glass().stands(glass, now));
        let unchanged = !changed && stands && regrouped.is_none() && !mended;
        if unchanged && now < self.lease.ends() && !policies.depends_on_time() {
            return Ok(());
        }
        if mended {
            // Judged as whoever has not broken it; where nothing was lifted it goes on.
            self.lease.mend();
        }
        if let Some(principal) = regrouped {
            self.lease.regroup(principal);
        }
        self.lease.asks(policies.generation());
        if policies.asks_azure() {
            let now_known = self.rights.again(self.lease.principal(), self.lease.azure());
            self.lease.refresh(now_known);
        }
        policies.renew(&self.lease, now).map_err(|cut| cut.to_string())
    }
}
