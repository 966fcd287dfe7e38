//! The blocks below `audit` that say who vouches for the record, and for whom the gate does.

use super::{
    super::{
        issuers, raw,
        settings::{WitnessPlace, WitnessSettings, WitnessedLogs},
        values::{self, BaseUrl},
    },
    Place, Problems, Reader, Spanned,
};
use crate::audit::{note::VerifierKeys, witness::WitnessKey};

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

impl Reader<'_> {
    pub(super) fn witnesses(
        &self,
        raw: &[Spanned<raw::WitnessPlace>],
        problems: &mut Problems,
    ) -> Vec<WitnessSettings> {
        raw.iter().filter_map(|place| self.witness_place(place, problems)).collect()
    }

    fn witness_place(
        &self,
        spanned: &Spanned<raw::WitnessPlace>,
        problems: &mut Problems,
    ) -> Option<WitnessSettings> {
        let raw = &spanned.value;
        let name = problems.read(&raw.name, values::name)?;
        let place = match (&raw.url, &raw.key, &raw.folder) {
            (Some(url), Some(key), None) => {
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
            (None, None, Some(folder)) => WitnessPlace::Folder(self.file(&folder.value)),
            _ => {
                problems.error_with(
                    Place::of(spanned),
                    "a witness is `{name, url, key}`, and a place where heads are kept is `{name, folder}`",
                    "blob containers and git repositories are not in this version: a folder may be either's",
                );
                return None;
            }
        };
        Some(WitnessSettings { name: name.into(), place })
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
