//! `doctor --as`: what the gate and Azure make of somebody.

use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Finding, credentials};
use crate::{
    config::Settings,
    credentials::{ActsFor, CallerToken, Credentials},
    identity::{Caller, Groups, Verifier},
};

/// Claims that tell how somebody came by a token; their values are shown.
const TELLING: [&str; 8] = ["tid", "oid", "appid", "azp", "scp", "roles", "acrs", "amr"];

/// Whether a token is accepted, what came with it, and what each credential that acts for callers
/// brings for its bearer.
pub(super) async fn all(
    token: &SecretString,
    settings: &Settings,
    verifier: &Verifier,
    opened: &Credentials,
) -> Vec<Finding> {
    let text = token.expose_secret();
    let caller = match verifier.present(text).await {
        Ok(principal) => Caller::clone(&principal),
        Err(rejection) if rejection.is_outage() => {
            let mend = "look at the issuers above: their keys were not to be had";
            return vec![Finding::unreachable("you", rejection.to_string(), mend)];
        }
        Err(rejection) => {
            let mend = "`amlgate token verify` says more; `amlgate login` signs in anew";
            let why = format!("your token is not accepted: {rejection}");
            return vec![Finding::broken("you", why, mend)];
        }
    };
    let mut found = vec![known(&caller)];
    let Ok(header) = HeaderValue::try_from(format!("Bearer {text}")) else { return found };
    let token = CallerToken::new(&header);
    for credential in settings.credentials.iter().filter(|c| c.acts_for == ActsFor::Caller) {
        found.extend(credentials::on_behalf(credential, settings, opened, (&caller, &token)).await);
    }
    found
}

fn known(caller: &Caller) -> Finding {
    let mut seen = format!("you are `{}` of `{}`", caller.id.subject, caller.id.issuer);
    for (name, value) in TELLING.iter().filter_map(|name| Some((name, caller.claims.get(*name)?))) {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        seen.push_str(&format!(", {name} {value}"));
    }
    if let Groups::Known(groups) = &caller.groups {
        Finding::fine("you", format!("{seen}, {} groups", groups.len()))
    } else {
        let mend = "have the application put only its assigned groups into tokens (`groupMembershipClaims: ApplicationGroup`), or use application roles";
        let seen = format!(
            "{seen}; you are in more groups than the token holds, and entries for groups do not match"
        );
        Finding::doubtful("you", seen, mend)
    }
}
