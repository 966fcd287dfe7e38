//! What a well-formed token of a known issuer must hold, and who its holder is: pure.
//!
//! Types are checked here, not left to a library: a claim of another JSON type is a refusal, never
//! an absent claim (CVE-2026-25537). Everything is checked before the signature, because it costs
//! a hundredth of it; nothing is believed before it.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use super::{
    Binding, Caller, Groups, PrincipalId, PrincipalKind, agents,
    offline::GLASS,
    rejection::{Reason, Rejection},
    revoked::MARK,
    settings::{IssuerKind, IssuerSettings, Unscoped},
};
use crate::time::Timestamp;

/// The last second of year 9999: what lies behind is no date.
const LAST_SECOND: u64 = 253_402_300_799;
/// The longest subject, in bytes: OpenID Connect says 255, CI systems say more.
const MAX_SUBJECT: usize = 1_024;
/// The longest name for display, in characters.
const MAX_DISPLAY: usize = 200;

/// A caller that the claims describe, and from when on; not yet believed.
pub(super) struct Described {
    pub caller: Caller,
    pub not_before: Timestamp,
    /// What the token is bound to.
    pub binding: Option<Binding>,
}

/// Judges the claims of a token of `issuer` at `now`. `iss` was compared before.
pub(super) fn describe(
    claims: Map<String, Value>,
    token_digest: [u8; 32],
    issuer: &IssuerSettings,
    now: Timestamp,
) -> Result<Described, Rejection> {
    audience(&claims, &issuer.audiences)?;
    let (expires, not_before) = times(&claims, issuer, now)?;
    kind_of_token(&claims)?;
    let binding = Binding::of(&claims)?;
    let caller = holder(claims, token_digest, issuer, expires)?;
    Ok(Described { caller, not_before, binding })
}

/// The name of the issuer from whose token one of the gate's came.
pub(super) fn origin(claims: &Map<String, Value>) -> Result<String, Rejection> {
    let named = claims.get(MARK).and_then(|mark| mark.get("issuer")).and_then(Value::as_str);
    named.map(ToOwned::to_owned).ok_or_else(|| missing(MARK))
}

/// Judges a token that the gate gave out in exchange for one of `origin`'s: its own claims as the
/// gate's, its holder by the claims that it came from. In the holder's claims the gate's mark says
/// which token it was; a claim of that name that `origin` made up is gone.
pub(super) fn describe_exchanged(
    mut claims: Map<String, Value>,
    token_digest: [u8; 32],
    own: &IssuerSettings,
    origin: &IssuerSettings,
    now: Timestamp,
) -> Result<Described, Rejection> {
    audience(&claims, &own.audiences)?;
    let (expires, not_before) = times(&claims, own, now)?;
    kind_of_token(&claims)?;
    let binding = Binding::of(&claims)?;
    let mut held = match claims.get_mut(MARK).and_then(|mark| mark.get_mut("claims")).map(Value::take) {
        Some(Value::Object(held)) => held,
        Some(_) | None => return Err(missing(MARK)),
    };
    let mut mark = serde_json::json!({"jti": claims.get("jti"), "iat": claims.get("iat")});
    if let Some(glass) = claims.get(MARK).and_then(|mark| mark.get(GLASS))
        && let Some(mark) = mark.as_object_mut()
    {
        mark.insert(GLASS.to_owned(), glass.clone());
    }
    held.insert(MARK.to_owned(), mark);
    let caller = holder(held, token_digest, origin, expires)?;
    Ok(Described { caller, not_before, binding })
}

/// Whom the claims of a token of `issuer` speak of that was verified once, and whose holder comes now
/// by other means.
pub(super) fn vouched(
    claims: Map<String, Value>,
    token_digest: [u8; 32],
    issuer: &IssuerSettings,
    until: Timestamp,
) -> Result<Caller, Rejection> {
    holder(claims, token_digest, issuer, until)
}

/// Whom the claims of a token of `issuer` speak of, as the gate would see them: for `policy why`,
/// which asks about callers and not about tokens. Nothing is verified, so nothing is proven.
///
/// # Errors
/// Claims that the gate refuses whatever the signature says; audience and times are not looked at.
pub fn described(claims: Map<String, Value>, issuer: &IssuerSettings) -> Result<Caller, Rejection> {
    holder(claims, [0; 32], issuer, Timestamp::from_secs(LAST_SECOND))
}

fn holder(
    mut claims: Map<String, Value>,
    token_digest: [u8; 32],
    issuer: &IssuerSettings,
    expires: Timestamp,
) -> Result<Caller, Rejection> {
    if matches!(issuer.kind, IssuerKind::Backstage { .. }) {
        // With the other claims it makes a limited user token: a secret, which nobody shall read.
        claims.remove("uip");
    }
    let subject = text(&claims, "sub")?.ok_or_else(|| missing("sub"))?;
    plain(subject, "sub")?;
    let client = text(&claims, "azp")?.or(text(&claims, "appid")?).or(text(&claims, "client_id")?);
    let (subject, tenant, kind): (Arc<str>, Option<Arc<str>>, _) = match &issuer.kind {
        IssuerKind::Entra { tenant, unscoped, .. } => {
            let person = entra(&claims, tenant)?;
            let kind = entra_kind(&claims, *unscoped)?;
            (person.into(), Some(tenant.as_ref().into()), kind)
        }
        IssuerKind::Backstage { .. } => (backstage(subject)?.into(), None, PrincipalKind::Person),
        // Its callers have no tokens; what describes one to `policy why` has a certificate's names.
        IssuerKind::Certificate(_) => (subject.into(), None, PrincipalKind::Machine),
        IssuerKind::Oidc { .. } => (subject.into(), None, oidc_kind(&claims, subject, client)),
    };
    let acting = agents::acting(&claims)?;
    let kind = agents::kind(acting.as_ref(), kind);
    accepted(&claims, issuer)?;
    let human = match kind {
        PrincipalKind::Person | PrincipalKind::Agent => human(&claims, issuer)?,
        PrincipalKind::Machine | PrincipalKind::AutonomousAgent => None,
    };
    let groups = groups(&claims, issuer)?;
    let roles = roles(&claims, &issuer.kind)?;
    let actor = acting.and_then(|acting| acting.name);
    let client = actor.as_deref().or(client).map(Into::into);
    let display = display(&claims);
    let from_pull_request = from_pull_request(&claims, issuer);
    let id = PrincipalId { issuer: Arc::clone(&issuer.name), subject };
    let claims = Arc::new(claims);
    Ok(Caller {
        id,
        kind,
        tenant,
        client,
        display,
        groups,
        roles,
        claims,
        expires,
        from_pull_request,
        subjects_at_issue: None,
        reviewers: None,
        human,
        token_digest,
    })
}

/// What the issuer's `accept` demands of every token.
pub(super) fn accepted(claims: &Map<String, Value>, issuer: &IssuerSettings) -> Result<(), Rejection> {
    let Some((name, wanted)) = issuer.accept.as_ref().and_then(|accept| accept.unmet(claims)) else {
        return Ok(());
    };
    let held = claims.get(name).unwrap_or(&Value::Null);
    Err(Rejection::new(Reason::NotAccepted)
        .found(format_args!("`{name}`: {held}"))
        .expected(format_args!("`{name}`: {wanted}")))
}

pub(super) fn missing(name: &str) -> Rejection {
    Rejection::new(Reason::Claim).found(format_args!("no `{name}`")).expected(format_args!("`{name}`"))
}

pub(super) fn odd(name: &str, value: &Value, wanted: &str) -> Rejection {
    Rejection::new(Reason::Claim)
        .found(format_args!("`{name}`: {value}"))
        .expected(format_args!("`{name}`: {wanted}"))
}

/// A claim that is a string where it is there.
pub(super) fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Rejection> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(odd(name, other, "a string")),
    }
}

/// Refuses what would be one identity for people and another for programs.
pub(super) fn plain(value: &str, name: &str) -> Result<(), Rejection> {
    if value.is_empty() || value.len() > MAX_SUBJECT || value.chars().any(char::is_control) {
        return Err(Rejection::new(Reason::Claim)
            .found(format_args!("`{name}`: {value:?}"))
            .expected(format_args!("`{name}`: 1 to {MAX_SUBJECT} bytes, no control characters")));
    }
    Ok(())
}

/// RFC 7519, 4.1.3: exact; an array only if all its members are strings.
pub(super) fn audience(claims: &Map<String, Value>, audiences: &[Box<str>]) -> Result<(), Rejection> {
    let ours = |held: &str| audiences.iter().any(|audience| audience.as_ref() == held);
    let held = claims.get("aud").ok_or_else(|| missing("aud"))?;
    let stands = if let Some(one) = held.as_str() {
        ours(one)
    } else if let Some(all) = held.as_array().filter(|all| all.iter().all(Value::is_string)) {
        all.iter().filter_map(Value::as_str).any(ours)
    } else {
        return Err(odd("aud", held, "a string or an array of strings"));
    };
    if stands {
        return Ok(());
    }
    Err(Rejection::new(Reason::Audience).found(held).expected(audiences.join(" or ")))
}

/// RFC 7519, 2: seconds since the epoch, fractions allowed.
pub(super) fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, Rejection> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let wanted = || odd(name, value, "a number of seconds since 1970");
    let Value::Number(number) = value else { return Err(wanted()) };
    if let Some(seconds) = number.as_u64() {
        return if seconds <= LAST_SECOND { Ok(Some(Timestamp::from_secs(seconds))) } else { Err(wanted()) };
    }
    match number.as_f64() {
        Some(seconds) if seconds >= 0.0 && seconds <= LAST_SECOND as f64 => {
            Ok(Some(Timestamp::from_millis((seconds * 1_000.0) as u64)))
        }
        Some(_) | None => Err(wanted()),
    }
}

pub(super) fn times(
    claims: &Map<String, Value>,
    issuer: &IssuerSettings,
    now: Timestamp,
) -> Result<(Timestamp, Timestamp), Rejection> {
    let leeway = issuer.leeway;
    let expires = date(claims, "exp")?.ok_or_else(|| missing("exp"))?;
    let not_before = date(claims, "nbf")?;
    let issued = date(claims, "iat")?;
    let at =
        |reason, name: &str, when: Timestamp, wanted: &str| {
            Rejection::new(reason)
                .found(format_args!("`{name}` {}", when.to_rfc3339()))
                .expected(format_args!("{wanted} {} (leeway {} s)", now.to_rfc3339(), leeway.as_secs()))
        };
    if now >= expires.plus(leeway) {
        return Err(at(Reason::Expired, "exp", expires, "after"));
    }
    if let Some(not_before) = not_before.filter(|nbf| now.plus(leeway) < *nbf) {
        return Err(at(Reason::NotYetValid, "nbf", not_before, "at or before"));
    }
    if let Some(issued) = issued.filter(|iat| now.plus(leeway) < *iat) {
        return Err(at(Reason::IssuedInFuture, "iat", issued, "at or before"));
    }
    // A token that says a false `iat` is measured from now.
    let life = expires.since(issued.unwrap_or(now)).max(expires.since(now.plus(leeway)));
    if life > issuer.max_lifetime {
        let hours = |d: Duration| format!("{:.1} hours", d.as_secs_f64() / 3_600.0);
        return Err(Rejection::new(Reason::Lifetime)
            .found(hours(life))
            .expected(format_args!("at most {}", hours(issuer.max_lifetime))));
    }
    Ok((expires, not_before.unwrap_or_default()))
}

/// Tokens that are signed by the same keys and mean something else.
pub(super) fn kind_of_token(claims: &Map<String, Value>) -> Result<(), Rejection> {
    // RFC 8417: a security event, of which a logout token is one.
    if claims.contains_key("events") {
        return Err(Rejection::new(Reason::Type)
            .found("`events`: a security event")
            .expected("an access token"));
    }
    // Keycloak says in a claim what others say in the header: its ID, refresh, offline, logout and
    // action tokens bear the signature of the same keys, and some of them the same audience.
    if let Some(typ) = text(claims, "typ")?
        && !["bearer", "dpop", "jwt", "at+jwt"].iter().any(|access| typ.eq_ignore_ascii_case(access))
    {
        return Err(Rejection::new(Reason::Type)
            .found(format_args!("claim `typ`: {typ}"))
            .expected("an access token"));
    }
    Ok(())
}

/// Whether a CI token speaks for a run that a pull request started (`pull_request` and
/// `pull_request_target`, which runs with the base's rights on the head's words) or that runs what
/// one proposes (`refs/pull/...`, whatever the event), unless `accept` says which are meant.
fn from_pull_request(claims: &Map<String, Value>, issuer: &IssuerSettings) -> bool {
    let accept = |name| issuer.accept.as_ref().is_some_and(|accept| accept.claims.contains_key(name));
    let starts = |name: &str, with: &str| {
        claims.get(name).is_some_and(|held| held.as_str().is_none_or(|held| held.starts_with(with)))
    };
    if accept("event_name") {
        return false;
    }
    // Elsewhere `ref` may be anything, and is not a text of this kind.
    let proposed = claims.contains_key("repository_id") && starts("ref", "refs/pull/") && !accept("ref");
    starts("event_name", "pull_request") || proposed
}

/// (`tid`, `oid`) is the person: `sub` differs from application to application, an e-mail changes.
fn entra(claims: &Map<String, Value>, tenant: &str) -> Result<String, Rejection> {
    let tid = text(claims, "tid")?.ok_or_else(|| missing("tid"))?;
    if tid != tenant {
        return Err(Rejection::new(Reason::Tenant).found(tid).expected(tenant));
    }
    let oid = text(claims, "oid")?.ok_or_else(|| missing("oid"))?;
    match uuid::Uuid::try_parse(oid) {
        Ok(parsed) if parsed.hyphenated().to_string() == oid => Ok(format!("{tid}/{oid}")),
        Ok(_) | Err(_) => Err(Rejection::new(Reason::Claim)
            .found(format_args!("`oid`: {oid:?}"))
            .expected("`oid`: a GUID in lower case")),
    }
}

/// Who the holder is at the canonical issuer, by the object id in the claim of the link. A token
/// without the claim is nobody else's; one with anything but an object id is refused.
fn human(claims: &Map<String, Value>, issuer: &IssuerSettings) -> Result<Option<PrincipalId>, Rejection> {
    let Some(link) = &issuer.link else { return Ok(None) };
    let Some(oid) = text(claims, &link.claim)? else { return Ok(None) };
    match uuid::Uuid::try_parse(oid) {
        Ok(parsed) if parsed.hyphenated().to_string() == oid => Ok(Some(PrincipalId {
            issuer: Arc::clone(&link.canonical),
            subject: format!("{}/{oid}", link.tenant).into(),
        })),
        Ok(_) | Err(_) => Err(Rejection::new(Reason::Claim)
            .found(format_args!("`{}`: {oid:?}", link.claim))
            .expected(format_args!("`{}`: a GUID in lower case", link.claim))),
    }
}

/// The entity of a user, `user:namespace/name`: no group, component or service signs in.
pub(super) fn backstage(subject: &str) -> Result<&str, Rejection> {
    let whole = subject
        .strip_prefix("user:")
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'));
    if whole {
        return Ok(subject);
    }
    Err(Rejection::new(Reason::Claim)
        .found(format_args!("`sub`: {subject:?}"))
        .expected("`sub`: user:NAMESPACE/NAME"))
}

fn entra_kind(claims: &Map<String, Value>, unscoped: Unscoped) -> Result<PrincipalKind, Rejection> {
    let scope = text(claims, "scp")?.is_some_and(|scp| !scp.trim().is_empty());
    let roles =
        claims.get("roles").is_some_and(|roles| roles.as_array().is_some_and(|list| !list.is_empty()));
    if !scope && !roles && unscoped == Unscoped::Refuse {
        return Err(Rejection::new(Reason::Unscoped)
            .found("no `scp`, no `roles`")
            .expected("`scp` (a person) or `roles` (an application)"));
    }
    // Without the optional claim `idtyp`, only a token with a scope speaks for a person.
    Ok(match text(claims, "idtyp")? {
        Some("app") => PrincipalKind::Machine,
        _ if scope => PrincipalKind::Person,
        _ => PrincipalKind::Machine,
    })
}

/// No claim of OpenID Connect says whether a token speaks for a human. What is known of the marks
/// of workloads makes a machine; a machine may do less (it approves nothing), so doubt about a
/// mark is harmless.
fn oidc_kind(claims: &Map<String, Value>, subject: &str, client: Option<&str>) -> PrincipalKind {
    let has = |name: &str| claims.contains_key(name);
    let is = |name: &str, test: fn(&str) -> bool| claims.get(name).and_then(Value::as_str).is_some_and(test);
    let workload = client == Some(subject)
        || subject.starts_with("system:serviceaccount:")
        || has("kubernetes.io")
        || has("repository_id")
        || has("project_id") && has("job_id")
        || has("build_number")
        || is("gty", |gty| gty == "client-credentials" || gty == "client_credentials")
        || is("preferred_username", |name| name.starts_with("service-account-"));
    if workload { PrincipalKind::Machine } else { PrincipalKind::Person }
}

/// Groups are an array of strings or absent. A token that says that it carries only some of them
/// (`_claim_names`, `hasgroups`) proves nothing by what it lacks; the endpoint that it names is
/// never asked.
fn groups(claims: &Map<String, Value>, issuer: &IssuerSettings) -> Result<Groups, Rejection> {
    let name = issuer.groups_claim.as_ref();
    // A Backstage token without them is the usual one: userinfo has them.
    if matches!(issuer.kind, IssuerKind::Backstage { .. }) && !claims.contains_key(name) {
        return Ok(Groups::Overage);
    }
    let elsewhere = match claims.get("_claim_names") {
        None => false,
        Some(Value::Object(names)) => names.contains_key(name),
        Some(other) => return Err(odd("_claim_names", other, "an object")),
    };
    let flagged = claims.get("hasgroups").is_some_and(|flag| *flag != Value::Bool(false));
    let listed = strings(claims, name)?;
    if elsewhere || flagged {
        return Ok(Groups::Overage);
    }
    Ok(Groups::Known(listed.unwrap_or_default()))
}

fn roles(claims: &Map<String, Value>, kind: &IssuerKind) -> Result<Arc<[Box<str>]>, Rejection> {
    match kind {
        IssuerKind::Entra { .. } => Ok(strings(claims, "roles")?.unwrap_or_default()),
        // Elsewhere the name is nobody's in particular: another shape is another meaning.
        IssuerKind::Oidc { .. } | IssuerKind::Backstage { .. } | IssuerKind::Certificate(_) => {
            Ok(strings(claims, "roles").ok().flatten().unwrap_or_default())
        }
    }
}

fn strings(claims: &Map<String, Value>, name: &str) -> Result<Option<Arc<[Box<str>]>>, Rejection> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            let list = value.as_array().and_then(|all| {
                all.iter().map(|one| one.as_str().map(Into::into)).collect::<Option<Arc<[Box<str>]>>>()
            });
            list.map(Some).ok_or_else(|| odd(name, value, "an array of strings"))
        }
    }
}

/// For people to read, in logs and consoles; mutable and unverified, so it decides nothing.
fn display(claims: &Map<String, Value>) -> Option<Arc<str>> {
    let names = [
        "preferred_username",
        "upn",
        "unique_name",
        "email",
        "name",
        "app_displayname",
        "repository",
        "project_path",
    ];
    let name =
        names.iter().find_map(|name| claims.get(*name).and_then(Value::as_str).filter(|n| !n.is_empty()))?;
    Some(name.chars().filter(|c| !c.is_control()).take(MAX_DISPLAY).collect::<String>().into())
}
