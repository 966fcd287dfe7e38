//! `gerrit`: who is asked whether code was reviewed.

use std::collections::BTreeSet;

use super::{
    super::{Problems, issuers, raw, settings, values},
    Reader,
};
use crate::{
    gates::review::people::{Demand, Linked, People},
    yaml::{Place, Spanned},
};

/// The scheme of whoever signs in at Gerrit with Entra.
const ENTRA: &str = "azure-oauth";

impl Reader<'_> {
    /// The servers, each with the schemes that `people.links` says of it.
    pub(super) fn gerrits(
        &self,
        found: &[Spanned<raw::Gerrit>],
        links: &[(String, Linked)],
        problems: &mut Problems,
    ) -> Vec<settings::Gerrit> {
        let mut names = BTreeSet::new();
        let mut read = Vec::new();
        for gerrit in found {
            let raw = &gerrit.value;
            let name = problems.read(&raw.name, values::name);
            if !names.insert(&raw.name.value) {
                let message = format!("a Gerrit called `{}` is there already", raw.name.value);
                problems.error(Place::of(&raw.name), message);
            }
            let of_it = links.iter().filter(|(of, _)| *of == raw.name.value);
            let people = People {
                demand: demand(raw.accounts.as_ref(), problems),
                links: of_it.map(|(_, link)| link.clone()).collect(),
            };
            let url = problems.read(&raw.url, values::url);
            let user = problems.read(&raw.user, user);
            let token = self.reference(&raw.token, problems);
            let address = raw.address.as_ref().and_then(|address| problems.read(address, values::address));
            let trust = raw.trust.as_ref().and_then(|t| issuers::pem(&t.value.ca, self.base, problems));
            let (Some(name), Some((url, path)), Some(user), Some(token)) = (name, url, user, token) else {
                continue;
            };
            if path.contains('?') {
                let hint = "write where Gerrit lies, as in `https://gerrit.example.com`";
                problems.error_with(Place::of(&raw.url), "a Gerrit's URL has no query", hint);
            }
            let base = path.trim_end_matches('/').to_owned();
            read.push(settings::Gerrit { name: name.into(), url, base, user, token, people, address, trust });
        }
        read
    }
}

fn demand(found: Option<&Spanned<raw::Accounts>>, problems: &mut Problems) -> Demand {
    let Some(found) = found else { return Demand::External(ENTRA.into()) };
    let raw = &found.value;
    let scheme = raw.scheme.as_ref().and_then(|scheme| problems.read(scheme, values::scheme));
    match (raw.by.value.as_str(), &raw.scheme) {
        ("external_id", _) => Demand::External(scheme.as_deref().unwrap_or(ENTRA).into()),
        ("email", None) => Demand::Mail,
        ("email", Some(scheme)) => {
            let hint = "remove `scheme`, or write `match: external_id`";
            problems.error_with(Place::of(scheme), "an e-mail has no scheme", hint);
            Demand::Mail
        }
        (other, _) => {
            let message = format!("`{other}` is neither `external_id` nor `email`");
            problems.error(Place::of(&raw.by), message);
            Demand::Mail
        }
    }
}

/// A user that Basic authentication can name (RFC 7617, 2).
fn user(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c == ':' || c.is_control()) {
        return Err(format!("`{text}` is not the name of a user"));
    }
    Ok(text.to_owned())
}
