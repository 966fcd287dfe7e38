//! `clutch`: who asks for approvals in people's names, and whose opinion is asked.

use super::{
    super::{Problems, issuers, raw, settings, values},
    Reader,
};
use crate::{
    gates::approvals::Speaker,
    identity::IssuerSettings,
    yaml::{Place, Spanned},
};

/// Headers that say something else already.
const TAKEN: &[&str] =
    &["authorization", "content-length", "content-type", "cookie", "host", "x-forwarded-for"];

impl Reader<'_> {
    pub(super) fn clutch(
        &self,
        found: &Spanned<raw::Clutch>,
        issuers: &[IssuerSettings],
        problems: &mut Problems,
    ) -> settings::Clutch {
        let users = &found.value.users.value;
        let service = found.value.service.as_ref().map(|service| &service.value);
        for named in service.map(|service| &service.issuer).into_iter().chain([&users.issuer]) {
            if !issuers.iter().any(|issuer| *issuer.name == *named.value) {
                problems.error_with(
                    Place::of(named),
                    format!("`{}` is no issuer of this file", named.value),
                    "write the name of one of `issuers`",
                );
            }
        }
        for (key, text) in [("subject", service.map(|s| &s.subject)), ("claim", users.claim.as_ref())] {
            if let Some(text) = text.filter(|text| text.value.trim().is_empty()) {
                problems.error(Place::of(text), format!("`{key}` is empty"));
            }
        }
        let header = users.header.as_ref().and_then(|header| {
            problems.read(header, |text| match text.parse::<http::HeaderName>() {
                Ok(name) if !TAKEN.contains(&name.as_str()) => Ok(name),
                Ok(_) => Err(format!("`{text}` says something else: write `x-clutch-user`")),
                Err(_) => Err(format!("`{text}` is not the name of a header")),
            })
        });
        let people = users.issuer.value.clone();
        let claim = users.claim.as_ref().map_or_else(|| "email".to_owned(), |claim| claim.value.clone());
        let speaker = service.map(|service| Speaker {
            issuer: service.issuer.value.clone(),
            subject: service.subject.value.clone(),
            people: people.clone(),
            claim: claim.clone(),
            header,
        });
        let check = found.value.check.as_ref().and_then(|check| self.check(&check.value, problems));
        if found.value.service.is_none() && found.value.check.is_none() {
            let hint = "add `service`, `check` or both";
            problems.error_with(Place::of(found), "`clutch` says nothing of what it is for", hint);
        }
        settings::Clutch { people, claim, speaker, check }
    }

    fn check(&self, raw: &raw::Check, problems: &mut Problems) -> Option<settings::ClutchCheck> {
        let token = raw.token.as_ref().map(|token| self.reference(token, problems));
        if raw.token.is_none() {
            let hint = "add `token: {env: NAME}` with a service token of Clutch's";
            problems.warning(Place::of(&raw.url), "Clutch is asked without a token", hint);
        }
        let (url, path) = problems.read(&raw.url, values::url)?;
        Some(settings::ClutchCheck {
            url,
            path: format!("{}/v1/authz/check", path.trim_end_matches('/')),
            token: match token {
                Some(token) => Some(token?),
                None => None,
            },
            address: raw.address.as_ref().and_then(|address| problems.read(address, values::address)),
            trust: raw.trust.as_ref().and_then(|t| issuers::pem(&t.value.ca, self.base, problems)),
        })
    }
}
