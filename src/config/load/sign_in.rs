//! `listen.admin.sign_in`.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        Problems, raw,
        settings::{Login, SignIn},
        values,
    },
    Reader,
};
use crate::{
    identity::{IssuerKind, IssuerSettings},
    yaml::Place,
};

const IDLE: Duration = Duration::from_secs(3_600);
const MAX_AGE: Duration = Duration::from_secs(12 * 3_600);
/// No session is older than this.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);

impl Reader<'_> {
    pub(super) fn sign_in(
        &self,
        admin: &raw::Admin,
        issuers: &[IssuerSettings],
        logins: &[Login],
        problems: &mut Problems,
    ) -> Option<SignIn> {
        let found = admin.sign_in.as_ref()?;
        let raw = &found.value;
        if admin.public_url.is_none() && !admin.on_reverse.as_ref().is_some_and(|on| on.value) {
            problems.error_with(
                Place::of(found),
                "browsers must come back to some URL",
                "write `public_url` beside `sign_in`: the URL by which people reach this listener; or `on_reverse: true`",
            );
        }
        let named = |issuer: &&IssuerSettings| *issuer.name == *raw.issuer.value;
        let known = issuers.iter().find(named);
        match known.map(|issuer| &issuer.kind) {
            None => {
                let message = format!("there is no issuer called `{}`", raw.issuer.value);
                problems.error(Place::of(&raw.issuer), message);
            }
            Some(IssuerKind::Backstage { .. }) => problems.error_with(
                Place::of(&raw.issuer),
                "nobody signs in at a Backstage portal: it is no OpenID provider",
                "name the issuer at which the portal's own users sign in",
            ),
            Some(IssuerKind::Certificate(_)) => problems.error_with(
                Place::of(&raw.issuer),
                "nobody signs in at an authority of certificates",
                "name an issuer with `entra` or `oidc`",
            ),
            Some(IssuerKind::Entra { .. } | IssuerKind::Oidc { .. }) => {}
        }
        let login = logins.iter().find(|login| login.name == raw.issuer.value);
        let of_issuer = login.and_then(|login| login.client_id.clone());
        let client_id = raw.client_id.as_ref().map(|id| id.value.clone()).or(of_issuer);
        if client_id.is_none() && known.is_some() {
            problems.error_with(
                Place::of(found),
                "the gate is no client of the issuer",
                "register one there, with the callback `PUBLIC_URL/callback`, and write its `client_id`",
            );
        }
        let secret = raw.client_secret.as_ref().map(|secret| self.reference(secret, problems));
        let scopes = match &raw.scopes {
            Some(scopes) => scopes.iter().map(|scope| scope.value.clone()).collect(),
            None => login.map(|login| login.scopes.clone()).unwrap_or_default(),
        };
        let mut read = |value: &Option<raw::Text>, default: Duration| match value {
            None => default,
            Some(text) => problems
                .read(text, |text| match values::duration(text)? {
                    life if life.is_zero() || life > LONGEST => {
                        Err(format!("`{text}` is not between a moment and seven days"))
                    }
                    life => Ok(life),
                })
                .unwrap_or(default),
        };
        let (idle, max_age) = (read(&raw.idle, IDLE), read(&raw.max_age, MAX_AGE));
        Some(SignIn {
            issuer: Arc::clone(&known?.name),
            client_id: client_id?,
            client_secret: match secret {
                None => None,
                Some(secret) => Some(secret?),
            },
            scopes,
            idle,
            max_age,
        })
    }
}
