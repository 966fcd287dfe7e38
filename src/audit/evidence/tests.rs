//! Packs of a real log: what they hold, and that nobody changes them unnoticed.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use super::*;
use crate::{
    audit::{
        Journal, JournalSettings, PUBLIC_KEY,
        event::Event,
        note::{Signer, VerifierKeys},
    },
    secrets::{Purpose, Seal, SecretString},
    time::{ManualClock, Timestamp},
};

const START: u64 = 1_800_000_000;

struct Scene {
    dir: tempfile::TempDir,
    signer: Signer,
    keys: VerifierKeys,
}

impl Scene {
    /// A log with two sets of policies, sign-ins and reads of the record: an event a minute.
    async fn of(events: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        let signer = Signer::from_pem("gate-a", pem.as_bytes()).unwrap();
        let mut settings = JournalSettings::new("gate-a", dir.path().join("log"), SecretString::from(pem));
        settings.segment_bytes = 20_000;
        let root = SecretString::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        let mac = Seal::new([&root]).unwrap().mac(Purpose::Thumbprint);
        let clock = ManualClock::starting_at(Timestamp::from_secs(START));
        let (journal, _) = Journal::open(&settings, mac, Arc::new(clock.clone())).unwrap();
        let policies = dir.path().join("policies");
        fs::create_dir(&policies).unwrap();
        let files = |number: u64| -> crate::audit::event::Files {
            let text = format!("version: 1\n# {number}\n");
            let name: Arc<str> = format!("policies/{number}.yaml").into();
            fs::write(policies.join(format!("{number}.yaml")), &text).unwrap();
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            Arc::from([(name, digest.as_ref().try_into().unwrap())])
        };
        for number in 0..events {
            let event = match number {
                0 => Event::Started { configuration: [1; 32], policies: [1; 32], files: files(1) },
                20 => Event::PoliciesChanged { policies: [2; 32], generation: 2, files: files(2) },
                _ if number % 2 == 0 => Event::SignedOut { caller: "corp:ann".into(), issuer: "corp".into() },
                _ => Event::Exporter { sink: "siem".into(), problem: None, behind: number },
            };
            journal.happened(&event).await.unwrap();
            journal.sign_head();
            clock.advance(Duration::from_secs(60));
        }
        assert!(journal.close().await);
        let keys = fs::read_to_string(settings.directory.join(PUBLIC_KEY)).unwrap();
        Self { dir, signer, keys: VerifierKeys::parse(&keys).unwrap() }
    }

    fn at(minute: u64) -> Timestamp {
        Timestamp::from_secs(START + 60 * minute)
    }

    fn pack(&self, name: &str, controls: &str, from: u64, until: u64) -> (PathBuf, Manifest) {
        let out = self.dir.path().join(name);
        let asked = self.asked(controls, from, until);
        let manifest = write(&asked, &self.signer, &out).unwrap();
        (out, manifest)
    }

    fn asked(&self, controls: &str, from: u64, until: u64) -> Asked<'_> {
        Asked {
            directory: Box::leak(self.dir.path().join("log").into_boxed_path()),
            controls: controls.split(' ').flat_map(|c| c.parse::<Named>().unwrap().0).collect(),
            from: Self::at(from),
            until: Self::at(until),
            policies: vec![self.dir.path().join("policies")],
            program: std::path::Path::new("/proc/self/exe"),
            made: Self::at(1_000),
        }
    }
}

fn files(pack: &std::path::Path) -> Vec<PathBuf> {
    let mut names = sums::found(pack).unwrap();
    names.sort();
    names.into_iter().map(|name| pack.join(name)).collect()
}

#[tokio::test]
async fn a_pack_holds_what_shows_its_controls_and_is_proven_without_the_log() {
    let scene = Scene::of(60).await;
    let (pack, manifest) = scene.pack("pack", "CC6.2 CC7.1", 30, 50);
    // Sign-outs, and the policies that were in force when the period began: changed ten minutes before.
    let of = |class| manifest.classes.get(&class).copied();
    assert_eq!((of(Class::SignIn), of(Class::Policies), of(Class::Export)), (Some(10), Some(1), None));
    assert_eq!((manifest.end, manifest.too_new), (61, 0));
    assert!(manifest.begin.is_some_and(|size| size > 20 && size <= 30), "{:?}", manifest.begin);
    assert_eq!((manifest.policies.len(), manifest.policies[0].position), (1, 20));
    assert_eq!(manifest.policies[0].digest, "02".repeat(32));
    assert_eq!(manifest.controls.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["CC6.2", "CC7.1"]);

    fs::rename(scene.dir.path().join("log"), scene.dir.path().join("gone")).unwrap();
    for keys in [Some(&scene.keys), None] {
        let checked = check(&pack, keys).unwrap();
        assert_eq!((checked.records, checked.policies_enclosed, checked.policies_missing), (11, 1, 0));
        assert_eq!(checked.manifest, manifest);
    }
    let policy = pack.join("policies").join(&manifest.policies[0].files[0].sha256);
    assert_eq!(fs::read_to_string(policy).unwrap(), "version: 1\n# 2\n");
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let other = VerifierKeys::from(Signer::from_pem("gate-a", other.as_bytes()).unwrap().verifier());
    assert!(check(&pack, Some(&other)).unwrap_err().to_string().contains("SHA256SUMS.sig"));
}

#[tokio::test]
async fn a_file_that_is_changed_dropped_or_added_is_found() {
    let scene = Scene::of(60).await;
    let (pack, _) = scene.pack("pack", "CC6 CC7 A.5.15 A.8.15", 10, 60);
    check(&pack, Some(&scene.keys)).unwrap();
    let all = files(&pack);
    assert!(all.len() >= 12, "{all:?}");
    for file in &all {
        let good = fs::read(file).unwrap();
        let mut edits = vec![[&good[..], b"\n"].concat(), good[..good.len() - 1].to_vec(), Vec::new()];
        for at in [0, good.len() / 3, good.len() / 2, good.len() - 2] {
            let mut edit = good.clone();
            edit[at] ^= 1;
            edits.push(edit);
        }
        for edit in edits {
            fs::write(file, &edit).unwrap();
            assert!(check(&pack, Some(&scene.keys)).is_err(), "{} was changed", file.display());
        }
        fs::remove_file(file).unwrap();
        assert!(check(&pack, Some(&scene.keys)).is_err(), "{} was dropped", file.display());
        // In its place what somebody put beside the pack.
        let beside = scene.dir.path().join("beside");
        fs::write(&beside, &good).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&beside, file).unwrap();
            assert!(check(&pack, Some(&scene.keys)).is_err(), "{} is a link", file.display());
            fs::remove_file(file).unwrap();
        }
        fs::write(file, &good).unwrap();
        check(&pack, Some(&scene.keys)).unwrap();
    }
    for added in ["more.txt", "records/000001.ndjson", "policies/none", ".hidden"] {
        fs::write(pack.join(added), "x").unwrap();
        let error = check(&pack, Some(&scene.keys)).unwrap_err().to_string();
        assert!(error.contains(added) && error.contains("added"), "{error}");
        fs::remove_file(pack.join(added)).unwrap();
    }
    // A name that would speak to the terminal is shown without what makes it do so.
    #[cfg(unix)]
    {
        fs::write(pack.join("\u{1b}[2Jall is well"), "x").unwrap();
        let error = check(&pack, Some(&scene.keys)).unwrap_err().to_string();
        assert!(error.contains("added") && !error.contains('\u{1b}'), "{error:?}");
    }
}

/// Somebody with the signing key itself, who signs whatever was changed: the proofs do not fit then.
#[tokio::test]
async fn whoever_signs_a_list_anew_does_not_put_records_into_the_log() {
    let scene = Scene::of(60).await;
    let (pack, manifest) = scene.pack("pack", "A.8.15", 10, 60);
    let sign = || {
        let mut sums: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
        for file in files(&pack) {
            let name = file.strip_prefix(&pack).unwrap().to_str().unwrap().to_owned();
            if name != SUMS && name != SIGNATURE {
                sums.insert(name, sums::digest_at(&file).unwrap());
            }
        }
        let list = sums::listed(&sums);
        fs::write(pack.join(SUMS), &list).unwrap();
        fs::write(pack.join(SIGNATURE), scene.signer.sign_list(&list).unwrap()).unwrap();
        check(&pack, Some(&scene.keys))
    };
    sign().unwrap();
    let edit = |name: &str, from: &str, to: &str| {
        let path = pack.join(name);
        let good = fs::read_to_string(&path).unwrap();
        assert!(good.contains(from), "{name}: {from}");
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let found = sign().err().map(|error| error.to_string());
        fs::write(&path, good).unwrap();
        found.unwrap_or_else(|| panic!("{name}: {from} -> {to} is not found"))
    };
    let part = &manifest.parts[0];
    edit(&part.records, "siem", "none");
    edit(&part.proofs, "index 1", "index 2");
    edit(MANIFEST, "\"export\": ", "\"export\": 1");
    edit(MANIFEST, &manifest.from.millis.to_string(), &(manifest.until.millis - 1).to_string());
    edit(MANIFEST, &manifest.policies[0].digest, &"03".repeat(32));
    edit(MANIFEST, "\"enclosed\": true", "\"enclosed\": false");
    edit(MANIFEST, "\"end\": 61", "\"end\": 60");
    edit(MANIFEST, "A.8.15", "CC6.1");
    edit(KEYS, "gate-a+", "gate-b+");
    sign().unwrap();
}

#[tokio::test]
async fn a_pack_of_many_records_has_several_parts_and_one_of_none_is_good_too() {
    let scene = Scene::of(2_300).await;
    let (pack, manifest) = scene.pack("pack", "CC6 A.8.15", 0, 2_300);
    assert_eq!(manifest.parts.iter().map(|part| part.count).collect::<Vec<_>>(), [1_000, 1_000, 300]);
    assert_eq!(check(&pack, Some(&scene.keys)).unwrap().records, 2_300);
    assert_eq!((manifest.begin, manifest.policies.len()), (None, 2));
    let (pack, manifest) = scene.pack("none", "CC6.1", 90_000, 90_001);
    assert_eq!((manifest.classes.len(), manifest.begin), (1, None), "the policies alone");
    check(&pack, Some(&scene.keys)).unwrap();
}

#[tokio::test]
async fn a_pack_is_made_by_the_key_of_the_log_alone_and_overwrites_nothing() {
    let scene = Scene::of(5).await;
    let asked = scene.asked("CC6", 0, 5);
    let out = scene.dir.path().join("pack");
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let other = Signer::from_pem("gate-a", pem.as_bytes()).unwrap();
    assert!(matches!(write(&asked, &other, &out), Err(EvidenceError::Key(_))) && !out.exists());
    fs::create_dir(&out).unwrap();
    fs::write(out.join("kept"), "x").unwrap();
    assert!(matches!(write(&asked, &scene.signer, &out), Err(EvidenceError::There(_))));
    assert_eq!(fs::read_to_string(out.join("kept")).unwrap(), "x");
}
