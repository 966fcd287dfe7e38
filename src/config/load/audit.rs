//! The blocks below `audit` that say who vouches for the record, and for whom the gate does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    super::{
        issuers, raw,
        settings::{
            ArchiveSettings, ContainerSettings, Credential, GitSettings, WitnessPlace, WitnessSettings,
            WitnessedLogs,
        },
        values::{self, BaseUrl, Scheme},
    },
    Place, Problems, Reader, Spanned,
};
use crate::{
    audit::{note::VerifierKeys, witness::WitnessKey},
    credentials::ActsFor,
};

/// How often heads are shown where each is kept for ever, and where they are not.
const KEPT_EVERY: Duration = Duration::from_secs(300);
const SHOWN_EVERY: Duration = Duration::from_secs(10);

/// The host of a URL, and the path before the endpoints there.
fn split(text: &str) -> Result<(BaseUrl, String), String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    if !plain || path.contains("..") {
        return Err(format!("`{text}` has a path that is none: write `https://host/prefix`"));
    }
    Ok((values::base_url(&format!("{scheme}://{host}"))?, path.trim_end_matches('/').to_owned()))
}

/// The name of a witness: by custom a URL without its scheme.
fn witness_name(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:".contains(&b));
    if text.is_empty() || text.len() > 128 || !plain {
        return Err(format!("`{text}` is not the name of a witness: write `gate.example.com/witness`"));
    }
    Ok(text.to_owned())
}

/// Where a repository is, as git says it; nothing secret is in it.
fn remote(text: &str) -> Result<String, String> {
    let wanted = |why: &str| {
        format!(
            "`{text}` {why}: write `https://host/path`, `ssh://git@host/path`, `git@host:path` or `/path`"
        )
    };
    if text.starts_with('-') || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(wanted("is no remote"));
    }
    match text.split_once("://") {
        Some(("https", rest)) if rest.split('/').next().is_some_and(|host| host.contains('@')) => {
            Err(wanted("names a user: `token` says what is shown there"))
        }
        Some(("https" | "ssh" | "file", _)) => Ok(text.to_owned()),
        Some(_) => Err(wanted("is reached in no way that is allowed here")),
        None if text.starts_with('/') => Ok(text.to_owned()),
        None if text.contains(':') && !text.contains("::") => Ok(text.to_owned()),
        None => Err(wanted("is no remote")),
    }
}

fn branch(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    let parts = text.split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '-']));
    if !plain || !parts || text.contains("..") || text.ends_with('.') || text.ends_with(".lock") {
        return Err(format!("`{text}` is not the name of a branch: write for example `heads`"));
    }
    Ok(text.to_owned())
}

/// The account, the container, and the prefix of its blobs.
fn container(text: &str) -> Result<(BaseUrl, String, String), String> {
    let wanted = || {
        format!(
            "`{text}` is not a container: write the URL of the account's blobs and the container, `https://ACCOUNT.blob.CLOUD/CONTAINER`, a prefix behind it if need be"
        )
    };
    let (url, path) = split(text).map_err(|_| wanted())?;
    let (container, prefix) = path.split_once('/').unwrap_or((&path, ""));
    let fits = container.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if url.scheme != Scheme::Https || !(3..=63).contains(&container.len()) || !fits {
        return Err(wanted());
    }
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    Ok((url, container.to_owned(), prefix))
}

impl Reader<'_> {
    pub(super) fn witnesses(
        &self,
        raw: &[Spanned<raw::WitnessPlace>],
        credentials: &[Credential],
        problems: &mut Problems,
    ) -> Vec<WitnessSettings> {
        let mut names = BTreeSet::new();
        let places = raw.iter().filter_map(|place| {
            let found = self.witness_place(place, credentials, problems)?;
            if !names.insert(Arc::clone(&found.name)) {
                let message = format!("the witness `{}` is there twice", found.name);
                problems.error(Place::of(&place.value.name), message);
            }
            Some(found)
        });
        places.collect()
    }

    fn witness_place(
        &self,
        spanned: &Spanned<raw::WitnessPlace>,
        credentials: &[Credential],
        problems: &mut Problems,
    ) -> Option<WitnessSettings> {
        let raw = &spanned.value;
        let name = problems.read(&raw.name, values::name)?;
        let with = (&raw.key, &raw.credential);
        let place = match (&raw.url, &raw.folder, &raw.git, &raw.container, with) {
            (Some(url), None, None, None, (Some(key), None)) => {
                let url = problems.read(url, split);
                let key = problems.read(key, |text| WitnessKey::parse(text).map_err(|e| e.to_string()));
                let (url, prefix) = url?;
                WitnessPlace::Witness {
                    url,
                    prefix,
                    key: key?,
                    trust: raw.trust.as_ref().and_then(|t| issuers::pem(&t.ca, self.base, problems)),
                    address: raw.address.as_ref().and_then(|a| problems.read(a, values::address)),
                }
            }
            (None, Some(folder), None, None, (None, None)) => WitnessPlace::Folder(self.file(&folder.value)),
            (None, None, Some(git), None, (None, None)) => {
                let remote = problems.read(&git.value.remote, remote);
                let branch = match &git.value.branch {
                    Some(found) => problems.read(found, branch),
                    None => Some("heads".to_owned()),
                };
                WitnessPlace::Git(GitSettings {
                    token: git.value.token.as_ref().and_then(|token| self.reference(token, problems)),
                    trust: raw.trust.as_ref().and_then(|t| {
                        issuers::pem(&t.ca, self.base, problems).map(|_| self.file(&t.ca.value))
                    }),
                    remote: remote?,
                    branch: branch?,
                })
            }
            (None, None, None, Some(url), (None, Some(credential))) => {
                let reached = (raw.address.as_ref(), raw.trust.as_ref());
                WitnessPlace::Container(self.container(url, credential, reached, credentials, problems)?)
            }
            _ => {
                problems.error_with(
                    Place::of(spanned),
                    "a witness is `{name, url, key}`; a place where heads are kept is `{name, folder}`, `{name, git}` or `{name, container, credential}`",
                    "write for example `{name: kept, git: {remote: \"ssh://git@git.corp/heads.git\"}}`",
                );
                return None;
            }
        };
        let kept = matches!(place, WitnessPlace::Git(_) | WitnessPlace::Container(_));
        let every = match &raw.every {
            None if kept => KEPT_EVERY,
            None => SHOWN_EVERY,
            Some(every) if kept => problems.read(every, |text| match values::duration(text)? {
                every if every < SHOWN_EVERY => {
                    Err(format!("`{text}` is too often: a head is signed every 10s"))
                }
                every => Ok(every),
            })?,
            Some(every) => {
                problems
                    .error(Place::of(every), "`every` is for `git` and `container`: others see each head");
                return None;
            }
        };
        Some(WitnessSettings { name: name.into(), every, place })
    }

    pub(super) fn archive(
        &self,
        raw: &raw::Archive,
        credentials: &[Credential],
        problems: &mut Problems,
    ) -> Option<ArchiveSettings> {
        let reached = (raw.address.as_ref(), raw.trust.as_ref());
        let container = self.container(&raw.container, &raw.credential, reached, credentials, problems);
        let after = problems.read(&raw.after, values::duration);
        Some(ArchiveSettings { container: container?, after: after? })
    }

    /// A container of blobs, which a credential of the gate's own adds to.
    pub(super) fn container(
        &self,
        url: &raw::Text,
        credential: &raw::Text,
        (address, trust): (Option<&raw::Text>, Option<&raw::Trust>),
        credentials: &[Credential],
        problems: &mut Problems,
    ) -> Option<ContainerSettings> {
        let read = problems.read(url, container);
        own(credential, credentials, problems);
        let address = address.and_then(|a| problems.read(a, values::address));
        let trust = trust.and_then(|t| issuers::pem(&t.ca, self.base, problems));
        let (url, container, prefix) = read?;
        let credential = credential.value.as_str().into();
        Some(ContainerSettings { url, container, prefix, credential, address, trust })
    }

    pub(super) fn witness(&self, raw: &raw::Witness, problems: &mut Problems) -> Option<WitnessedLogs> {
        let name = problems.read(&raw.name, witness_name);
        let key = self.reference(&raw.signing_key, problems);
        let logs = self.existing(&raw.logs, problems).and_then(|path| {
            let text = std::fs::read_to_string(path).map_err(|e| e.to_string());
            match text.and_then(|text| VerifierKeys::parse(&text).map_err(|e| e.to_string())) {
                Ok(keys) => Some(keys),
                Err(why) => {
                    problems.error(Place::of(&raw.logs), why);
                    None
                }
            }
        });
        Some(WitnessedLogs { name: name?, signing_key: key?, logs: logs? })
    }
}

/// Demands that a credential is there and is the gate's own.
pub(super) fn own(name: &raw::Text, credentials: &[Credential], problems: &mut Problems) {
    match credentials.iter().find(|c| *c.name == *name.value) {
        Some(found) if found.acts_for == ActsFor::Itself => {}
        Some(_) => problems.error(
            Place::of(name),
            format!("the credential `{}` acts for callers, and nobody calls for this", name.value),
        ),
        None => {
            problems.error(Place::of(name), format!("there is no credential called `{}`", name.value));
        }
    }
}
