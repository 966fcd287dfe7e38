//! Tokens of Backstage's plugins: a plugin calls the gate as one of its own kind, for a user or for
//! itself. Pure.
//!
//! Such a token has no `iss`: `sub` is the plugin that calls, whose keys lie at its own place below
//! the portal's address, and `aud` the plugin that is called. `obo` is the limited token of the user
//! for whom it calls; it is verified with the keys of the portal's sign-in, and its user is the
//! caller. It goes nowhere else: whoever holds it can ask for the user's groups.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    Binding, Caller, Groups, PrincipalId, PrincipalKind,
    claims::{self, backstage, missing, odd, plain, text},
    rejection::{Reason, Rejection},
    settings::{IssuerSettings, Plugins},
};
use crate::time::Timestamp;

/// A plugin that calls, and for whom; not yet believed.
pub(super) struct Calling {
    /// The plugin as a caller of its own.
    pub caller: Caller,
    pub not_before: Timestamp,
    /// What the plugin's token is bound to.
    pub binding: Option<Binding>,
    /// The user's limited token, if it calls for one.
    pub on_behalf_of: Option<String>,
}

/// A user as a limited token names them.
pub(super) struct Limited {
    pub subject: Arc<str>,
    pub expires: Timestamp,
    pub not_before: Timestamp,
}

/// Judges the claims of a plugin's token at `now`. That its `sub` is one of the configured plugins was
/// seen before.
pub(super) fn describe(
    mut claims: Map<String, Value>,
    token_digest: [u8; 32],
    issuer: &IssuerSettings,
    plugins: &Plugins,
    now: Timestamp,
) -> Result<Calling, Rejection> {
    claims::audience(&claims, std::slice::from_ref(&plugins.audience))?;
    let (expires, not_before) = claims::times(&claims, issuer, now)?;
    claims::kind_of_token(&claims)?;
    claims::accepted(&claims, issuer)?;
    let binding = Binding::of(&claims)?;
    let plugin: Arc<str> = text(&claims, "sub")?.ok_or_else(|| missing("sub"))?.into();
    let on_behalf_of = match claims.remove("obo") {
        None => None,
        Some(Value::String(token)) => Some(token),
        Some(_) => return Err(odd("obo", &Value::Null, "the user's limited token")),
    };
    let subject = format!("plugin:{plugin}").into();
    let caller = Caller {
        id: PrincipalId { issuer: Arc::clone(&issuer.name), subject },
        human: None,
        kind: PrincipalKind::Machine,
        tenant: None,
        client: Some(Arc::clone(&plugin)),
        display: Some(plugin),
        groups: Groups::Known(Arc::default()),
        roles: Arc::default(),
        claims: Arc::new(claims),
        expires,
        from_pull_request: false,
        subjects_at_issue: None,
        reviewers: None,
        token_digest,
    };
    Ok(Calling { caller, not_before, binding, on_behalf_of })
}

/// Judges the claims of a limited user token at `now`: it has no issuer and no audience, because it
/// counts only inside a plugin's token.
pub(super) fn limited(
    claims: &Map<String, Value>,
    issuer: &IssuerSettings,
    now: Timestamp,
) -> Result<Limited, Rejection> {
    let (expires, not_before) = claims::times(claims, issuer, now)?;
    if Binding::of(claims)?.is_some() {
        // Whoever proves a key proves that of the plugin's token.
        return Err(Rejection::new(Reason::Bound).found("`obo`: `cnf`").expected("`obo`: no `cnf`"));
    }
    let subject = text(claims, "sub")?.ok_or_else(|| missing("sub"))?;
    plain(subject, "sub")?;
    Ok(Limited { subject: backstage(subject)?.into(), expires, not_before })
}

impl Calling {
    /// The user is the caller, by way of the plugin, as long as both tokens stand.
    pub(super) fn by(self, user: Limited, groups: Groups) -> (Caller, Timestamp) {
        let Self { caller, not_before, .. } = self;
        let id = PrincipalId { subject: Arc::clone(&user.subject), ..caller.id.clone() };
        let caller = Caller {
            id,
            kind: PrincipalKind::Person,
            display: Some(user.subject),
            groups,
            expires: caller.expires.min(user.expires),
            ..caller
        };
        (caller, not_before.max(user.not_before))
    }
}
