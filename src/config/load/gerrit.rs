//! `gerrit`: who is asked whether code was reviewed, and what was merged.

use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc, time::Duration};

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
/// How often a branch is asked about where nobody hints at anything, by itself and at all.
const POLL: Duration = Duration::from_secs(60);
const POLLS: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3_600);
/// Branches of one server that are watched.
const MOST_WATCHED: usize = 100;
/// Characters of a project or a branch.
const LONGEST: usize = 255;

impl Reader<'_> {
    /// The servers, each with the schemes that `people.links` says of it.
    pub(super) fn gerrits(
        &self,
        found: &[Spanned<raw::Gerrit>],
        links: &[(String, Linked)],
        (canonical, admin): (Option<&str>, Option<&settings::Admin>),
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
                mails_of: canonical.map(Into::into),
            };
            let url = problems.read(&raw.url, values::url);
            let user = problems.read(&raw.user, user);
            let token = self.reference(&raw.token, problems);
            let address = raw.address.as_ref().and_then(|address| problems.read(address, values::address));
            let trust = raw.trust.as_ref().and_then(|t| issuers::pem(&t.value.ca, self.base, problems));
            let hook = raw.hook.as_ref().and_then(|hook| self.gerrit_hook(hook, admin, problems));
            let (Some(name), Some((url, path)), Some(user), Some(token)) = (name, url, user, token) else {
                continue;
            };
            if path.contains('?') {
                let hint = "write where Gerrit lies, as in `https://gerrit.example.com`";
                problems.error_with(Place::of(&raw.url), "a Gerrit's URL has no query", hint);
            }
            let base = path.trim_end_matches('/').to_owned();
            read.push(settings::Gerrit {
                name: name.into(),
                url,
                base,
                user,
                token,
                people,
                address,
                trust,
                hook,
                watch: watched(&raw.watch, problems),
                poll: raw.poll.as_ref().and_then(|poll| problems.read(poll, interval)).unwrap_or(POLL),
            });
        }
        read
    }
}

/// What is read is kept somewhere.
pub(super) fn kept(found: &[Spanned<raw::Gerrit>], has_store: bool, problems: &mut Problems) {
    let watched = found.iter().find_map(|gerrit| gerrit.value.watch.first());
    if let Some(first) = watched.filter(|_| !has_store) {
        let hint = "add `store: {sqlite: var/amlgate.db}`";
        problems.error_with(Place::of(first), "what is merged is kept in a store, and there is none", hint);
    }
}

fn watched(found: &[Spanned<raw::Watch>], problems: &mut Problems) -> Vec<(Arc<str>, Arc<str>)> {
    let mut all: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    for watch in found {
        let project = problems.read(&watch.value.project, project);
        let branch = problems.read(&watch.value.branch, branch);
        let (Some(project), Some(branch)) = (project, branch) else { continue };
        let one = (Arc::from(project), Arc::from(branch));
        if all.contains(&one) {
            let message = format!("`{}` of `{}` is watched already", one.1, one.0);
            problems.error(Place::of(watch), message);
            continue;
        }
        if all.len() == MOST_WATCHED {
            let message = format!("`watch` has more than {MOST_WATCHED} branches");
            problems.error(Place::of(watch), message);
            break;
        }
        all.push(one);
    }
    all
}

/// Whether a name means nothing else in a search of Gerrit's.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.chars().count() <= LONGEST
        && !text.starts_with('/')
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() || "\"'\\^{}*?".contains(c))
}

fn project(text: &str) -> Result<String, String> {
    if !is_plain(text) {
        return Err(format!("`{text}` is no project: write it as Gerrit calls it, as in `ml/vision`"));
    }
    Ok(text.to_owned())
}

fn branch(text: &str) -> Result<String, String> {
    if let Some(short) = text.strip_prefix("refs/heads/") {
        return Err(format!("`{text}` is a reference: write the branch alone, `{short}`"));
    }
    if !is_plain(text) {
        return Err(format!("`{text}` is no branch: write one, as in `main`"));
    }
    Ok(text.to_owned())
}

fn interval(text: &str) -> Result<Duration, String> {
    let wait = values::duration(text)?;
    if !POLLS.contains(&wait) {
        return Err(format!("`{text}` is no interval from `5s` to `1h`"));
    }
    Ok(wait)
}

/// Those of the servers that nothing takes their accounts for people, in a file that need not be right
/// otherwise.
pub(super) fn faceless(raw: &raw::File) -> BTreeSet<String> {
    let linked = |name: &str| {
        let links = raw.people.iter().flat_map(|people| &people.value.links);
        let mut gerrits = links.filter_map(|link| link.value.gerrit.as_ref());
        gerrits.any(|gerrit| gerrit.value == name)
    };
    let by_mail = |gerrit: &raw::Gerrit| {
        let accounts = gerrit.accounts.as_ref();
        raw.people.is_some() && accounts.is_some_and(|accounts| accounts.value.by.value == "email")
    };
    let faceless = raw.gerrit.iter().map(|gerrit| &gerrit.value);
    let faceless = faceless.filter(|gerrit| !linked(&gerrit.name.value) && !by_mail(gerrit));
    faceless.map(|gerrit| gerrit.name.value.clone()).collect()
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
