//! Making a pack.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use super::{
    BEGIN, Class, Control, END, EvidenceError, GROWN, KEYS, MANIFEST, Manifest, PART, PEM, READ_ME,
    SIGNATURE, SUMS, Verifier,
    manifest::{self, Instant, Part, PolicyFile, PolicySet, Shown},
    sums,
};
use crate::{
    audit::{
        HEADS, archive,
        note::{self, Signer},
        prover::Prover,
        read::{Reader, Record},
        recovery::split_heads,
        storage::Directory,
    },
    time::Timestamp,
};

/// A policy file is not larger, in bytes.
const MAX_POLICY: u64 = 4 << 20;
/// Folders of policies are looked through so deep, and no more than so many files are.
const MAX_DEPTH: usize = 8;
const MAX_POLICIES: usize = 20_000;

/// What a pack is to hold.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The log's directory.
    pub directory: &'a Path,
    /// The controls.
    pub controls: Vec<&'static Control>,
    /// Not before.
    pub from: Timestamp,
    /// Before.
    pub until: Timestamp,
    /// Folders in which files of policies are looked for by their digests: those in force, and older
    /// versions of them.
    pub policies: Vec<PathBuf>,
    /// The program that makes the pack.
    pub program: &'a Path,
    /// Now.
    pub made: Timestamp,
}

/// The time of a record; the rest is passed over.
#[derive(Deserialize)]
struct Timed {
    time: u64,
}

/// The folder that is being filled.
struct Pack<'p> {
    root: &'p Path,
    files: BTreeMap<String, String>,
    parts: Vec<Part>,
    classes: BTreeMap<Class, u64>,
    records: Vec<u8>,
    proofs: String,
    count: u64,
    policies: Vec<PolicySet>,
    bodies: BTreeSet<String>,
}

/// Makes a pack in a folder, which must not be there.
///
/// # Errors
/// [`EvidenceError`]; the folder is removed then.
pub fn write(asked: &Asked<'_>, signer: &Signer, out: &Path) -> Result<Manifest, EvidenceError> {
    let prover = Prover::of(asked.directory)?;
    if prover.keys().of(signer.origin()).newest() != Some(&signer.verifier()) {
        return Err(EvidenceError::Key(prover.head().0.origin.clone()));
    }
    let archived = archive::missing(&Directory::at(asked.directory.to_owned()), Some(asked.from));
    if let Some(newest) = archived.map_err(EvidenceError::Log)?.pop() {
        return Err(EvidenceError::Archived { until: newest.until, url: newest.url });
    }
    fs::create_dir(out).map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            EvidenceError::There(out.to_owned())
        } else {
            EvidenceError::File { path: out.to_owned(), source }
        }
    })?;
    let made = filled(asked, signer, &prover, out);
    if made.is_err() {
        // What is left of it is no pack, and nobody is to take it for one.
        drop(fs::remove_dir_all(out));
    }
    made
}

fn filled(
    asked: &Asked<'_>,
    signer: &Signer,
    prover: &Prover,
    out: &Path,
) -> Result<Manifest, EvidenceError> {
    let (head, newest) = prover.head();
    let mut pack = Pack {
        root: out,
        files: BTreeMap::new(),
        parts: Vec::new(),
        classes: BTreeMap::new(),
        records: Vec::new(),
        proofs: String::new(),
        count: 0,
        policies: Vec::new(),
        bodies: BTreeSet::new(),
    };
    let wanted: BTreeSet<Class> =
        asked.controls.iter().flat_map(|control| control.shown_by).copied().collect();
    let mut reader = Reader::new(Directory::at(asked.directory.to_owned()));
    let (mut before, mut first, mut too_new) = (None, None, 0);
    while let Some(record) = reader.record().map_err(EvidenceError::Log)? {
        let Ok(Timed { time }) = serde_json::from_slice(&record.line) else { continue };
        if time >= asked.until.as_millis() {
            continue;
        }
        if time < asked.from.as_millis() {
            if is_policies(&record) {
                before = Some(record);
            }
            continue;
        }
        first.get_or_insert(record.position);
        let Ok(value) = serde_json::from_slice::<Value>(&record.line) else { continue };
        let Some(class) = Class::of(&value).filter(|class| wanted.contains(class)) else { continue };
        if record.position >= head.size {
            too_new += 1;
            continue;
        }
        if let Some(before) = before.take() {
            pack.begin(prover, before)?;
        }
        pack.add(prover, record, &value, class)?;
    }
    if let Some(before) = before.take() {
        pack.begin(prover, before)?;
    }
    pack.end_part()?;
    pack.put(END, newest.as_bytes())?;
    let begin = match first {
        Some(first) => pack.grown(asked.directory, prover, first)?,
        None => None,
    };
    pack.enclose(&asked.policies)?;
    pack.put(KEYS, prover.keys().to_string().as_bytes())?;
    pack.put(PEM, signer.verifier().to_pem().as_bytes())?;
    let manifest = Manifest {
        amlgate_evidence: manifest::VERSION,
        log: head.origin.clone(),
        made: asked.made.to_rfc3339(),
        from: instant(asked.from),
        until: instant(asked.until),
        controls: asked.controls.iter().map(|control| shown(control)).collect(),
        begin,
        end: head.size,
        parts: std::mem::take(&mut pack.parts),
        classes: std::mem::take(&mut pack.classes),
        too_new,
        policies: std::mem::take(&mut pack.policies),
        bodies: std::mem::take(&mut pack.bodies),
        verifier: Verifier {
            program: "amlgate".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            sha256: sums::digest_at(asked.program)?,
        },
    };
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| EvidenceError::Log(error.into()))?;
    pack.put(MANIFEST, format!("{text}\n").as_bytes())?;
    pack.put(READ_ME, include_bytes!("README.txt"))?;
    let list = sums::listed(&pack.files);
    let signature = signer.sign_list(&list).ok_or_else(|| EvidenceError::flawed(SUMS, "cannot be signed"))?;
    pack.put(SUMS, list.as_bytes())?;
    pack.put(SIGNATURE, &signature)?;
    Ok(manifest)
}

fn instant(time: Timestamp) -> Instant {
    Instant { millis: time.as_millis(), text: time.to_rfc3339() }
}

fn shown(control: &Control) -> Shown {
    Shown {
        id: control.id.to_owned(),
        framework: control.framework.to_owned(),
        asks: control.asks.to_owned(),
        shown_by: control.shown_by.to_vec(),
    }
}

/// Whether a record says which policies are in force from it on.
fn is_policies(record: &Record) -> bool {
    [&br#""event":"started""#[..], br#""event":"policies_changed""#]
        .iter()
        .any(|event| memchr::memmem::find(&record.line, event).is_some())
}

/// What a record says of the policies that are in force from it on.
pub(super) fn policies_of(record: &Value, position: u64) -> Option<PolicySet> {
    let own = record.pointer("/unmapped/amlgate")?;
    if !matches!(own.get("event")?.as_str()?, "started" | "policies_changed") {
        return None;
    }
    let files = own.get("files").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let text = |file: &Value, key: &str| Some(file.get(key)?.as_str()?.to_owned());
    let named: Option<Vec<_>> = files
        .iter()
        .map(|file| {
            Some(PolicyFile { name: text(file, "name")?, sha256: text(file, "sha256")?, enclosed: false })
        })
        .collect();
    let count = own.get("files_count").and_then(Value::as_u64).unwrap_or(files.len() as u64);
    Some(PolicySet {
        digest: own.get("policy_digest")?.as_str()?.to_owned(),
        position,
        not_named: count.saturating_sub(files.len() as u64),
        files: named?,
    })
}

/// The digests of the recorded bodies that a record names.
pub(super) fn bodies_of(record: &Value) -> impl Iterator<Item = String> {
    let bodies = record.pointer("/unmapped/amlgate/bodies").and_then(Value::as_array);
    bodies.into_iter().flatten().filter_map(|body| Some(body.get("blob")?.as_str()?.to_owned()))
}

impl Pack<'_> {
    fn put(&mut self, name: &str, content: &[u8]) -> Result<(), EvidenceError> {
        let path = self.root.join(name);
        let failed = |source| EvidenceError::File { path: path.clone(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = fs::File::create_new(&path).map_err(failed)?;
        file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
        self.files.insert(name.to_owned(), sums::digest_of(content).map_err(failed)?);
        Ok(())
    }

    /// The policies that were in force when the period began.
    fn begin(&mut self, prover: &Prover, record: Record) -> Result<(), EvidenceError> {
        if record.position >= prover.head().0.size {
            return Ok(());
        }
        let value = serde_json::from_slice(&record.line).unwrap_or_default();
        self.add(prover, record, &value, Class::Policies)
    }

    fn add(
        &mut self,
        prover: &Prover,
        record: Record,
        value: &Value,
        class: Class,
    ) -> Result<(), EvidenceError> {
        if let Some(set) = policies_of(value, record.position)
            && self.policies.last().is_none_or(|last| last.digest != set.digest)
        {
            self.policies.push(set);
        }
        self.bodies.extend(bodies_of(value));
        self.records.extend_from_slice(&record.line);
        self.records.push(b'\n');
        self.proofs.push_str(&prover.inclusion_under_newest(record)?.to_string());
        self.count += 1;
        *self.classes.entry(class).or_default() += 1;
        if self.count == PART as u64 { self.end_part() } else { Ok(()) }
    }

    fn end_part(&mut self) -> Result<(), EvidenceError> {
        if self.count == 0 {
            return Ok(());
        }
        let number = self.parts.len();
        let part = Part {
            records: format!("records/{number:06}.ndjson"),
            proofs: format!("proofs/{number:06}.tlog-proofs"),
            count: std::mem::take(&mut self.count),
        };
        let (records, proofs) = (std::mem::take(&mut self.records), std::mem::take(&mut self.proofs));
        self.put(&part.records, &records)?;
        self.put(&part.proofs, proofs.as_bytes())?;
        self.parts.push(part);
        Ok(())
    }

    /// The newest head that counts nothing of the period, and that the log grew out of it.
    fn grown(&mut self, directory: &Path, prover: &Prover, first: u64) -> Result<Option<u64>, EvidenceError> {
        let path = directory.join(HEADS);
        let heads = fs::read_to_string(&path).map_err(|source| EvidenceError::File { path, source })?;
        let (notes, _) = split_heads(&heads);
        let before = notes.iter().rev().find(|text| {
            note::unverified(text)
                .is_some_and(|head| head.size > 0 && head.size <= first.min(prover.head().0.size))
        });
        let Some(before) = before else { return Ok(None) };
        let proof = prover.consistency(before)?;
        self.put(BEGIN, before.as_bytes())?;
        self.put(GROWN, proof.to_string().as_bytes())?;
        Ok(Some(proof.old))
    }

    /// Puts in the files of the policies that are found by their digests.
    fn enclose(&mut self, folders: &[PathBuf]) -> Result<(), EvidenceError> {
        let mut found = HashMap::new();
        for folder in folders {
            look(folder, 0, &mut found);
        }
        let mut sets = std::mem::take(&mut self.policies);
        for file in sets.iter_mut().flat_map(|set| &mut set.files) {
            let name = format!("policies/{}", file.sha256);
            if !self.files.contains_key(&name) {
                // It may have been changed since it was looked at.
                let content = found.get(&file.sha256).and_then(|path| fs::read(path).ok());
                let content = content.filter(|content| {
                    sums::digest_of(&content[..]).is_ok_and(|digest| digest == file.sha256)
                });
                let Some(content) = content else { continue };
                self.put(&name, &content)?;
            }
            file.enclosed = true;
        }
        self.policies = sets;
        Ok(())
    }
}

/// The digests of files of policies and roles below a folder; what cannot be read is passed over.
fn look(folder: &Path, depth: usize, found: &mut HashMap<String, PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(about) = fs::metadata(&path) else { continue };
        if about.is_dir() && depth < MAX_DEPTH {
            look(&path, depth + 1, found);
        } else if path.extension().is_some_and(|kind| kind == "yaml" || kind == "json")
            && about.len() <= MAX_POLICY
            && found.len() < MAX_POLICIES
            && let Ok(digest) = sums::digest_at(&path)
        {
            found.insert(digest, path);
        }
    }
}
