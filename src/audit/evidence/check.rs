//! Checking a pack, without a network and without the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    path::Path,
};

use serde_json::Value;

use super::{
    BEGIN, Class, Control, END, EvidenceError, GROWN, KEYS, MANIFEST, MAX_FILE, Manifest, PEM, READ_ME,
    SIGNATURE, SUMS,
    manifest::{self, Part, PolicySet},
    sums,
    write::{bodies_of, policies_of},
};
use crate::audit::{
    note::{Head, VerifierKeys},
    proved::{Consistency, Inclusion},
};

/// A pack in which everything holds.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Checked {
    /// What it says of itself.
    pub manifest: Manifest,
    /// How many records were proven.
    pub records: u64,
    /// Files of policies that are enclosed, and that were in force and are not.
    pub policies_enclosed: u64,
    /// See there.
    pub policies_missing: u64,
}

/// Checks that a pack is whole, that the log's key signed it, and that each record is in the log.
/// `keys` are those that the auditor kept; without them those in the pack are believed.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(pack: &Path, keys: Option<&VerifierKeys>) -> Result<Checked, EvidenceError> {
    let reading = Reading { pack };
    // Whose pack it claims to be is believed once a key of that log vouches for it.
    let list = reading.text(SUMS)?;
    let signature = reading.bytes(SIGNATURE)?;
    let enclosed = VerifierKeys::parse(&reading.text(KEYS)?)?;
    let manifest: Manifest = serde_json::from_str(&reading.text(MANIFEST)?)
        .map_err(|error| EvidenceError::flawed(MANIFEST, format!("is none: {error}")))?;
    let keys = keys.unwrap_or(&enclosed).of(&manifest.log);
    let signed = (0..).map_while(|number| keys.get(number)).find(|key| key.vouches(&list, &signature));
    let Some(signed) = signed else {
        let why = format!("is not the signature of `{SUMS}` by a key of the log `{}`", manifest.log);
        return Err(EvidenceError::flawed(SIGNATURE, why));
    };
    let files = sums::read(&list)?;
    reading.whole(&files)?;
    let flawed = |why: &str| Err(EvidenceError::flawed(MANIFEST, why));
    if manifest.amlgate_evidence != manifest::VERSION {
        return flawed("is of another version: use the amlgate that made it, or a newer one");
    }
    if reading.text(PEM)? != signed.to_pem() {
        return Err(EvidenceError::flawed(PEM, "is not the key that signed the pack"));
    }
    if enclosed.of(&manifest.log).to_string() != enclosed.to_string() || !is_among(signed, &enclosed) {
        return Err(EvidenceError::flawed(KEYS, "does not hold the keys of the log"));
    }
    let end = reading.heads(&manifest, &keys)?;
    let mut controls = BTreeSet::new();
    for shown in &manifest.controls {
        match Control::named(&shown.id) {
            Some(control) if control.shown_by == shown.shown_by => controls.extend(control.shown_by),
            Some(_) | None => return flawed("has a control that this program does not know so"),
        }
    }
    let mut seen = Seen {
        classes: BTreeMap::new(),
        policies: Vec::new(),
        bodies: BTreeSet::new(),
        last: None,
        records: 0,
    };
    for part in &manifest.parts {
        reading.part(part, &manifest, &keys, &end, &controls, &mut seen)?;
    }
    if seen.classes != manifest.classes {
        return flawed("counts other records than there are");
    }
    if seen.bodies != manifest.bodies {
        return flawed("names other bodies than the records do");
    }
    let (mut enclosed, mut missing) = (BTreeSet::new(), 0);
    let named: Vec<PolicySet> = manifest.policies.iter().map(plain).collect();
    if named != seen.policies {
        return flawed("names other policies than the records do");
    }
    for file in manifest.policies.iter().flat_map(|set| &set.files) {
        let name = format!("policies/{}", file.sha256);
        match files.get(&name) {
            Some(digest) if *digest == file.sha256 && file.enclosed => drop(enclosed.insert(name)),
            None if !file.enclosed => missing += 1,
            Some(_) | None => return Err(EvidenceError::flawed(&name, "is not what the manifest says")),
        }
    }
    let known = |name: &String| {
        [MANIFEST, KEYS, PEM, READ_ME, END].contains(&name.as_str())
            || (manifest.begin.is_some() && [BEGIN, GROWN].contains(&name.as_str()))
            || enclosed.contains(name)
            || manifest.parts.iter().any(|part| part.records == *name || part.proofs == *name)
    };
    if let Some(name) = files.keys().find(|name| !known(name)) {
        return Err(EvidenceError::flawed(name, "is nothing that the manifest knows of"));
    }
    let policies_enclosed = enclosed.len() as u64;
    Ok(Checked { manifest, records: seen.records, policies_enclosed, policies_missing: missing })
}

fn is_among(key: &crate::audit::note::VerifierKey, keys: &VerifierKeys) -> bool {
    (0..).map_while(|number| keys.get(number)).any(|one| one == key)
}

/// A set without what only the pack knows of it.
fn plain(set: &PolicySet) -> PolicySet {
    let mut set = set.clone();
    set.files.iter_mut().for_each(|file| file.enclosed = false);
    set
}

/// What the records told so far.
struct Seen {
    classes: BTreeMap<Class, u64>,
    policies: Vec<PolicySet>,
    bodies: BTreeSet<String>,
    last: Option<u64>,
    records: u64,
}

struct Reading<'p> {
    pack: &'p Path,
}

impl Reading<'_> {
    fn bytes(&self, name: &str) -> Result<Vec<u8>, EvidenceError> {
        let path = self.pack.join(name);
        let failed = |source| EvidenceError::File { path: path.clone(), source };
        if !fs::symlink_metadata(&path).map_err(|_| EvidenceError::flawed(name, "is missing"))?.is_file() {
            return Err(EvidenceError::flawed(name, "is no file"));
        }
        let mut bytes = Vec::new();
        let file = fs::File::open(&path).map_err(failed)?;
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(EvidenceError::flawed(name, "is larger than any file of a pack"));
        }
        Ok(bytes)
    }

    fn text(&self, name: &str) -> Result<String, EvidenceError> {
        String::from_utf8(self.bytes(name)?).map_err(|_| EvidenceError::flawed(name, "is not UTF-8"))
    }

    /// Every file is listed, and is what the list says.
    fn whole(&self, files: &BTreeMap<String, String>) -> Result<(), EvidenceError> {
        for name in sums::found(self.pack)? {
            if name != SUMS && name != SIGNATURE && !files.contains_key(&name) {
                return Err(EvidenceError::flawed(&name, "was added: the signed list does not have it"));
            }
        }
        for (name, digest) in files {
            let path = self.pack.join(name);
            if !fs::symlink_metadata(&path).is_ok_and(|about| about.is_file()) {
                return Err(EvidenceError::flawed(name, "is missing"));
            }
            if sums::digest_at(&path)? != *digest {
                return Err(EvidenceError::flawed(
                    name,
                    "was changed: the signed list has another digest of it",
                ));
            }
        }
        Ok(())
    }

    /// The heads are the log's, and the log at the end begins with the log at the beginning.
    fn heads(&self, manifest: &Manifest, keys: &VerifierKeys) -> Result<Head, EvidenceError> {
        let opened = |name: &str| {
            let (head, _) = keys.open(&self.text(name)?, 0)?;
            Ok::<_, EvidenceError>(head)
        };
        let end = opened(END)?;
        if end.size != manifest.end {
            return Err(EvidenceError::flawed(END, "counts other records than the manifest says"));
        }
        if let Some(size) = manifest.begin {
            let unproven = |source| EvidenceError::Unproven { file: GROWN.to_owned(), source };
            let begin = opened(BEGIN)?;
            let grown = Consistency::parse(&self.text(GROWN)?).map_err(unproven)?;
            if begin.size != size || grown.verify(keys, &begin).map_err(unproven)? != end {
                return Err(EvidenceError::flawed(BEGIN, "is not what the manifest says"));
            }
        }
        Ok(end)
    }

    /// Every record of a part is proven, in its place, and one that the pack is to hold.
    fn part(
        &self,
        part: &Part,
        manifest: &Manifest,
        keys: &VerifierKeys,
        end: &Head,
        classes: &BTreeSet<Class>,
        seen: &mut Seen,
    ) -> Result<(), EvidenceError> {
        let flawed = |why: String| EvidenceError::flawed(&part.records, why);
        let unproven = |source| EvidenceError::Unproven { file: part.proofs.clone(), source };
        let proofs = Inclusion::parse_all(&self.text(&part.proofs)?).map_err(unproven)?;
        let records = self.bytes(&part.records)?;
        let lines: Vec<_> = records.split_inclusive(|b| *b == b'\n').collect();
        if lines.len() != proofs.len() || proofs.len() as u64 != part.count {
            return Err(flawed("has another number of records than of proofs".to_owned()));
        }
        for (line, proof) in lines.iter().zip(&proofs) {
            let at = |why: &str| flawed(format!("{why} at position {}", proof.index));
            if proof.verify(keys).map_err(unproven)? != *end {
                return Err(at("is proven under another head"));
            }
            if line.strip_suffix(b"\n") != Some(&proof.leaf) {
                return Err(at("has another record than is proven"));
            }
            if seen.last.is_some_and(|last| last >= proof.index) {
                return Err(at("is out of the log's order"));
            }
            seen.last = Some(proof.index);
            let value: Value = serde_json::from_slice(&proof.leaf).map_err(|_| at("has no record"))?;
            let time = value.get("time").and_then(Value::as_u64).ok_or_else(|| at("has no time"))?;
            let class = Class::of(&value).filter(|class| classes.contains(class));
            let class = class.ok_or_else(|| at("has a record that shows none of the controls"))?;
            // The policies that were in force when the period began are from before it.
            let within = time >= manifest.from.millis || class == Class::Policies;
            if !within || time >= manifest.until.millis {
                return Err(at("has a record of another time"));
            }
            if let Some(set) = policies_of(&value, proof.index)
                && seen.policies.last().is_none_or(|last| last.digest != set.digest)
            {
                seen.policies.push(set);
            }
            seen.bodies.extend(bodies_of(&value));
            *seen.classes.entry(class).or_default() += 1;
            seen.records += 1;
        }
        Ok(())
    }
}
