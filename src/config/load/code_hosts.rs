//! `github` and `gitlab`: who else is asked whether code was reviewed.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{Problems, issuers, raw, settings, values},
    Reader,
};
use crate::{
    gates::review::accounts::Accounts,
    identity::{IssuerKind, IssuerSettings},
    policy::review::HostKind,
    yaml::{Place, Spanned},
};

/// So many accounts can be named.
const MOST_ACCOUNTS: usize = 10_000;

impl Reader<'_> {
    /// The code hosts besides Gerrits.
    pub(super) fn code_hosts(
        &self,
        raw: &raw::File,
        issuers: &[IssuerSettings],
        problems: &mut Problems,
    ) -> Vec<settings::Host> {
        let canonical = raw.people.as_ref().and_then(|people| {
            let named = issuers.iter().find(|issuer| *issuer.name == *people.value.canonical.value)?;
            match &named.kind {
                IssuerKind::Entra { tenant, .. } => Some(format!("{}:{tenant}", named.name)),
                IssuerKind::Oidc { .. } | IssuerKind::Backstage { .. } | IssuerKind::Certificate(_) => None,
            }
        });
        let canonical = canonical.as_deref();
        let mut read = self.of_kind(HostKind::GitHub, &raw.github, canonical, problems);
        read.extend(self.of_kind(HostKind::GitLab, &raw.gitlab, canonical, problems));
        read
    }

    fn of_kind(
        &self,
        kind: HostKind,
        found: &[Spanned<raw::CodeHost>],
        canonical: Option<&str>,
        problems: &mut Problems,
    ) -> Vec<settings::Host> {
        let mut read = Vec::new();
        let mut names = BTreeSet::new();
        for host in found {
            if !names.insert(&host.value.name.value) {
                let message =
                    format!("a {} called `{}` is there already", kind.name(), host.value.name.value);
                problems.error(Place::of(&host.value.name), message);
            }
            read.extend(self.code_host(kind, host, canonical, problems));
        }
        read
    }

    fn code_host(
        &self,
        kind: HostKind,
        host: &Spanned<raw::CodeHost>,
        canonical: Option<&str>,
        problems: &mut Problems,
    ) -> Option<settings::Host> {
        let raw = &host.value;
        let name = problems.read(&raw.name, values::name);
        let usual = match kind {
            HostKind::GitHub => "https://api.github.com",
            HostKind::GitLab | HostKind::Gerrit => "https://gitlab.com",
        };
        let url = match &raw.url {
            Some(url) => problems.read(url, values::url),
            None => values::url(usual).ok(),
        };
        let place = raw.url.as_ref().map_or_else(|| Place::of(host), Place::of);
        let token = self.reference(&raw.token, problems);
        let accounts = accounts(&raw.accounts, canonical, problems);
        let address = raw.address.as_ref().and_then(|address| problems.read(address, values::address));
        let trust = raw.trust.as_ref().and_then(|t| issuers::pem(&t.value.ca, self.base, problems));
        let (url, path) = url?;
        if path.contains('?') || path.trim_end_matches('/').ends_with("/api/v4") {
            let hint =
                format!("write where it lies, as in `{usual}`, or `https://github.corp.example/api/v3`");
            problems.error_with(place, format!("that is not the URL of a {}", kind.name()), hint);
        }
        // A github.com that is asked at its pages answers with pages.
        if kind == HostKind::GitHub && url.to_text() == "https://github.com" {
            problems.error_with(place, "GitHub's API lies elsewhere", format!("write `{usual}`"));
        }
        let base = path.trim_end_matches('/').to_owned();
        Some(settings::Host { kind, name: name?.into(), url, base, token: token?, accounts, address, trust })
    }
}

fn accounts(
    found: &[Spanned<raw::HostAccount>],
    canonical: Option<&str>,
    problems: &mut Problems,
) -> Accounts {
    let mut persons = BTreeMap::new();
    if let (Some(first), None) = (found.first(), canonical) {
        let hint =
            "write `people: {canonical: NAME}`: the Entra issuer by whose object ids people are told apart";
        problems.error_with(Place::of(first), "nothing says whose the object ids are", hint);
    }
    if let Some(one) = found.get(MOST_ACCOUNTS) {
        problems.error(Place::of(one), format!("`accounts` has more than {MOST_ACCOUNTS} accounts"));
    }
    for one in found {
        let Some(id) = problems.read(&one.value.person, object_id) else { continue };
        let person = format!("{}/{id}", canonical.unwrap_or_default());
        if persons.insert(one.value.id.value, person).is_some() {
            let message = format!("account {} is there already", one.value.id.value);
            problems.error(Place::of(&one.value.id), message);
        }
    }
    Accounts::new(persons)
}

fn object_id(text: &str) -> Result<String, String> {
    let id = uuid::Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
    id.map(|id| id.hyphenated().to_string()).ok_or_else(|| {
        format!("`{text}` is not an object id: write it as Entra does, as in `5b1f0000-0000-4000-8000-000000000001`")
    })
}
