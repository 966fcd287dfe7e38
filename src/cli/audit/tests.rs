//! The verbs on logs of a fleet.

use std::sync::Arc;

use super::*;
use crate::{
    audit::{
        Journal, JournalSettings,
        event::Event,
        query::Bounds,
        storage::{Storage as _, faulty::FaultyDisk},
    },
    secrets::{Purpose, Seal, SecretString},
    time::{ManualClock, Timestamp},
};

/// A log of `count` policy changes beside others in `fleet`.
fn log(fleet: &Path, name: &str, count: u64) -> PathBuf {
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    log_under(fleet, name, count, &pem)
}

/// The same, under a key that is known, and going on with what is there.
fn log_under(fleet: &Path, name: &str, count: u64, pem: &str) -> PathBuf {
    let directory = fleet.join(name);
    let settings = JournalSettings::new(name, directory.clone(), SecretString::from(pem.to_owned()));
    let root = SecretString::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let mac = Seal::new([&root]).unwrap().mac(Purpose::Thumbprint);
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_secs(1_800_000_000)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (journal, _) = Journal::open(&settings, mac, clock).unwrap();
        for generation in 0..count {
            let event = Event::PoliciesChanged { policies: [1; 32], generation, files: Arc::default() };
            journal.happened(&event).await.unwrap();
        }
        assert!(journal.close().await);
    });
    directory
}

/// So many heads that the file of them is thinned.
const MANY: u64 = 2_100;

/// A log with a head for each record but the first ones, and the first of its heads: of four records.
fn signed_often(fleet: &Path, name: &str, generation: u64, pem: &str) -> (PathBuf, String) {
    let directory = fleet.join(name);
    let settings = JournalSettings::new(name, directory.clone(), SecretString::from(pem.to_owned()));
    let root = SecretString::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let mac = Seal::new([&root]).unwrap().mac(Purpose::Thumbprint);
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_secs(1_800_000_000)));
    let disk = FaultyDisk::default();
    let mut early = String::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (journal, _) = Journal::open_on(disk.clone(), &settings, mac, clock, None).unwrap();
        for number in 0..MANY {
            let generation = generation + number;
            let event = Event::PoliciesChanged { policies: [1; 32], generation, files: Arc::default() };
            journal.happened(&event).await.unwrap();
            if number == 4 {
                early = String::from_utf8(disk.read("heads").unwrap()).unwrap();
            }
            if number >= 3 {
                journal.sign_head();
            }
        }
        assert!(journal.close().await);
    });
    for name in disk.names() {
        let path = directory.join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, disk.read(&name).unwrap()).unwrap();
    }
    (directory, early.trim_end().to_owned() + "\n")
}

fn asked(directories: &[&PathBuf], keys: &[&PathBuf], heads: &[&PathBuf]) -> Verify {
    let owned = |paths: &[&PathBuf]| paths.iter().map(|p| (*p).clone()).collect();
    Verify {
        directories: owned(directories),
        keys: owned(keys),
        heads: owned(heads),
        ends: Vec::new(),
        witnesses: Vec::new(),
        required: None,
        kept: Vec::new(),
        archive: Vec::new(),
        proofs: Vec::new(),
        output: Output::Json,
    }
}

fn problems(args: &Verify) -> Vec<String> {
    verdicts(args).unwrap().0.into_iter().filter_map(|v| v.problem).collect()
}

#[test]
fn a_fleet_is_whole_only_with_every_log_that_has_a_key_or_a_head() {
    let fleet = tempfile::tempdir().unwrap();
    let (a, b) = (log(fleet.path(), "gate-a", 3), log(fleet.path(), "gate-b", 4));
    let keys = fleet.path().join("fleet.pub");
    let both = [&a, &b].map(|d| fs::read_to_string(d.join(PUBLIC_KEY)).unwrap()).concat();
    fs::write(&keys, format!("# the fleet\n{both}")).unwrap();

    let (found, _) = verdicts(&asked(&[&a, &b], &[&keys], &[])).unwrap();
    let vouched: Vec<_> = found.iter().map(|v| v.whole.as_ref().unwrap().vouched).collect();
    assert_eq!(vouched, [4, 5]);
    let missing = problems(&asked(&[&a], &[&keys], &[]));
    assert!(
        matches!(&missing[..], [one] if one.contains("neither its directory nor its signed end")),
        "{missing:?}"
    );
    let head = b.join("heads");
    assert_eq!(problems(&asked(&[&a], &[], &[&head])).len(), 1);
    assert!(problems(&asked(&[&a, &b], &[&keys], &[&head])).is_empty());
}

#[test]
fn a_log_under_another_name_or_given_twice_is_a_finding() {
    let fleet = tempfile::tempdir().unwrap();
    let a = log(fleet.path(), "gate-a", 3);
    assert_eq!(problems(&asked(&[&a, &a], &[], &[])).len(), 1);
    let b = log(fleet.path(), "gate-b", 3);
    let key_of_b = b.join(PUBLIC_KEY);
    assert_eq!(problems(&asked(&[&a], &[&key_of_b], &[])).len(), 2, "no key of a, no log of b");
    let empty = fleet.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(problems(&asked(&[&empty], &[], &[])).len(), 1);
    assert!(verdicts(&asked(&[&fleet.path().join("nowhere")], &[], &[])).is_err());
}

#[test]
fn a_changed_record_fails_with_its_segment_and_position() {
    let fleet = tempfile::tempdir().unwrap();
    let a = log(fleet.path(), "gate-a", 5);
    let segment = a.join("00000000000000000000.log");
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replace("\"generation\":2", "\"generation\":9")).unwrap();
    let found = problems(&asked(&[&a], &[], &[]));
    assert!(found[0].contains("00000000000000000000.log") && found[0].contains("position 2"), "{found:?}");
    assert_eq!(run(Args::Verify(asked(&[&a], &[], &[]))), exit::FINDING);
}

#[test]
fn a_query_fits_what_is_asked_and_a_missing_log_is_unreachable() {
    let fleet = tempfile::tempdir().unwrap();
    let a = log(fleet.path(), "gate-a", 5);
    let keys = VerifierKeys::parse(&fs::read_to_string(a.join(PUBLIC_KEY)).unwrap()).unwrap();
    let filter = crate::audit::query::Filter { action: Some("policies".into()), ..Default::default() };
    let page =
        crate::audit::query::search(&a, &keys, &filter, Default::default(), 0, Bounds::records(3)).unwrap();
    let seen: Vec<_> = page
        .found
        .into_iter()
        .map(|f| {
            Line { record: crate::audit::read::Record { position: f.position, line: f.line }, value: f.value }
                .row()
        })
        .collect();
    assert_eq!((page.next, seen.len()), (Some(3), 3));
    assert!(
        seen[0].contains("policies_changed") && seen[0].starts_with("2027-01-15 08:00:00"),
        "{}",
        seen[0]
    );
    let nowhere = fleet.path().join("nowhere");
    assert!(
        crate::audit::query::search(&nowhere, &keys, &filter, Default::default(), 0, Bounds::records(3))
            .is_err()
    );
    let tail = Tail { directory: nowhere, count: 3, follow: false, output: Output::Table };
    assert_eq!(run(Args::Tail(tail)), exit::unreachable());
}

/// What the verb does is what its command line says.
fn amlgate(line: &[&str]) -> ExitCode {
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        args: Args,
    }
    run(<Line as clap::Parser>::try_parse_from([&["audit"], line].concat()).unwrap().args)
}

#[test]
fn a_log_that_was_ended_need_not_be_there_and_is_not_gone_on_with() {
    let fleet = tempfile::tempdir().unwrap();
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let (a, b) = (log(fleet.path(), "gate-a", 3), log_under(fleet.path(), "gate-b", 4, &pem));
    let (key, keys, end) = (fleet.path().join("b.key"), fleet.path().join("fleet.pub"), b.join("end"));
    let both = [&a, &b].map(|d| fs::read_to_string(d.join(PUBLIC_KEY)).unwrap()).concat();
    fs::write(&keys, both).unwrap();
    fs::write(&key, &pem).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    assert_eq!(amlgate(&["end", &path(&b), "--signing-key", &path(&key)]), exit::DONE);
    // Its directory alone, or its end alone: both say that it is all there.
    assert!(problems(&asked(&[&a, &b], &[&keys], &[])).is_empty());
    let ended = Verify { ends: vec![end.clone()], ..asked(&[&a], &[&keys], &[]) };
    assert!(problems(&ended).is_empty());
    assert_eq!(
        problems(&Verify { ends: vec![end.clone()], ..asked(&[&a], &[&a.join(PUBLIC_KEY)], &[]) }).len(),
        1
    );
    // Nobody goes on with it, and whoever does all the same is found.
    assert_ne!(amlgate(&["end", &path(&b), "--signing-key", &path(&key)]), exit::DONE);
    let kept = fs::read(&end).unwrap();
    fs::remove_file(&end).unwrap();
    log_under(fleet.path(), "gate-b", 1, &pem);
    fs::write(&end, kept).unwrap();
    let found = problems(&asked(&[&b], &[], &[]));
    assert!(found[0].contains("the log was ended at 7 records"), "{found:?}");
}

#[test]
fn a_pack_of_evidence_is_made_and_checked_and_one_that_was_changed_is_a_finding() {
    let fleet = tempfile::tempdir().unwrap();
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let a = log_under(fleet.path(), "gate-a", 3, &pem);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let key = fleet.path().join("a.key");
    fs::write(&key, &pem).unwrap();
    let (pack, keys) = (fleet.path().join("pack"), path(&a.join(PUBLIC_KEY)));
    let make = |more: &[&str]| {
        let (log, key, out) = (path(&a), path(&key), path(&pack));
        let line = ["evidence", "--log", &log, "--signing-key", &key, "--out", &out];
        amlgate(&[&line[..], more].concat())
    };
    let period = ["--from", "2027-01-01", "--to", "2027-02-01T00:00:00Z"];
    assert_eq!(make(&["--from", "2027-02-01", "--to", "2027-02-01"]), exit::usage());
    assert_eq!(make(&[&period[..], &["--control", "cc6", "--control", "A.8.15"]].concat()), exit::DONE);
    assert_ne!(make(&period), exit::DONE, "what is there is not overwritten");
    let verify = |pack: &Path| amlgate(&["evidence", "verify", &path(pack), "--key", &keys]);
    assert_eq!(verify(&pack), exit::DONE);
    let manifest = pack.join("manifest.json");
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap() + " ").unwrap();
    assert_eq!(verify(&pack), exit::FINDING);
    assert_eq!(verify(&fleet.path().join("nowhere")), exit::unreachable());
}

#[test]
fn what_is_proven_is_checked_without_the_log() {
    let fleet = tempfile::tempdir().unwrap();
    let a = log(fleet.path(), "gate-a", 300);
    let storage = Directory::at(a.clone());
    let proof = fleet.path().join("a.tlog-proof");
    let line = Reader::from(storage, 257).unwrap().record().unwrap().unwrap().line;
    let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    for id in ["257", value["metadata"]["uid"].as_str().unwrap()] {
        fs::write(&proof, prove::tests::proven(&a, id)).unwrap();
        let keys = a.join(PUBLIC_KEY);
        assert_eq!(amlgate(&["verify", "--proof", &path(&proof), "--key", &path(&keys)]), exit::DONE);
        let other = log(fleet.path(), "gate-b", 1).join(PUBLIC_KEY);
        assert_eq!(amlgate(&["verify", "--proof", &path(&proof), "--key", &path(&other)]), exit::FINDING);
        fs::remove_dir_all(fleet.path().join("gate-b")).unwrap();
    }
    assert_eq!(amlgate(&["prove", &path(&a), "no-such-id"]), exit::FINDING);
    assert_eq!(amlgate(&["prove", &path(&a), "100000"]), exit::FINDING);
}

#[test]
fn a_log_is_whole_only_with_as_many_witnesses_as_are_required() {
    use crate::audit::{COSIGNED, tiles::CHECKPOINT, witness::Cosigner};
    let fleet = tempfile::tempdir().unwrap();
    let a = log(fleet.path(), "gate-a", 5);
    let pem = || rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let [one, two] = ["one", "two"].map(|name| Cosigner::from_pem(name, pem().as_bytes()).unwrap());
    let keys = fleet.path().join("witnesses.pub");
    fs::write(&keys, format!("{}\n{}\n", one.verifier(), two.verifier())).unwrap();
    let checkpoint = fs::read_to_string(a.join(CHECKPOINT)).unwrap();
    let text = format!("{}\n", checkpoint.split_once("\n\n").unwrap().0);
    let asked = |required| {
        let witnesses = vec![keys.clone()];
        problems(&Verify { witnesses, required: Some(required), ..asked(&[&a], &[], &[]) })
    };
    assert_eq!(asked(1).len(), 1, "nobody vouched yet");
    let line = one.cosign(&text, Timestamp::from_secs(1_800_000_000));
    fs::write(a.join(COSIGNED), format!("{checkpoint}{line}{line}")).unwrap();
    assert!(asked(1).is_empty());
    assert_eq!(asked(2).len(), 1, "one is not two, however often it signs");
    let more = two.cosign(&text, Timestamp::from_secs(1_800_000_000));
    fs::write(a.join(COSIGNED), format!("{checkpoint}{line}{more}")).unwrap();
    assert!(asked(2).is_empty());
    // A log that somebody wrote anew does not reach what was witnessed.
    let kept = fs::read(a.join(COSIGNED)).unwrap();
    fs::remove_dir_all(&a).unwrap();
    log(fleet.path(), "gate-a", 2);
    fs::write(a.join(COSIGNED), kept).unwrap();
    assert_eq!(asked(1).len(), 1);
}

/// Commits what is in a folder.
fn commit(folder: &Path) {
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        let who = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
        command.args(arguments).current_dir(folder).env_remove("GIT_DIR");
        let done = command.envs(who.map(|name| (name, "somebody"))).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "--quiet", "."]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "heads"]);
}

#[test]
fn a_log_fits_every_head_that_is_kept_elsewhere_and_has_some_there() {
    let fleet = tempfile::tempdir().unwrap();
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let a = log_under(fleet.path(), "gate-a", 3, &pem);
    let (folder, clone) = (fleet.path().join("kept"), fleet.path().join("clone"));
    for place in [&folder, &clone] {
        fs::create_dir_all(place.join("gate-a")).unwrap();
    }
    let head = || fs::read_to_string(a.join("checkpoint")).unwrap();
    fs::write(folder.join("gate-a/00000000000000000004.checkpoint"), head()).unwrap();
    fs::write(clone.join("gate-a/checkpoint"), head()).unwrap();
    commit(&clone);
    log_under(fleet.path(), "gate-a", 3, &pem);
    fs::write(clone.join("gate-a/checkpoint"), head()).unwrap();
    commit(&clone);
    let kept = |places: &[&PathBuf], log: &PathBuf| Verify {
        kept: places.iter().map(|place| (*place).clone()).collect(),
        ..asked(&[log], &[], &[])
    };
    let (found, _) = verdicts(&kept(&[&folder, &clone], &a)).unwrap();
    assert!(found[0].is_good(), "{:?}", found[0].problem);
    assert!(
        found[0].kept[0].contains("the 1 heads") && found[0].kept[1].contains("the 2 heads"),
        "{found:?}"
    );
    assert!(found[0].kept[1].contains("counts 8 records"));

    // The same gate with another past, of which the newest head of the repository knows nothing.
    fs::remove_dir_all(&a).unwrap();
    log_under(fleet.path(), "gate-a", 20, &pem);
    fs::write(clone.join("gate-a/checkpoint"), head()).unwrap();
    commit(&clone);
    for place in [&folder, &clone] {
        assert_eq!(problems(&kept(&[place], &a)).len(), 1, "{}", place.display());
    }
    // A log that is shown nowhere is no log that fits.
    let b = log(fleet.path(), "gate-b", 3);
    assert!(problems(&kept(&[&folder], &b))[0].contains("no head of it is kept"));
    assert!(verdicts(&kept(&[&fleet.path().join("nowhere")], &a)).is_err());
}

/// A log with a clone in which its head is kept, and a program that leaves a mark when it is run.
fn cloned(fleet: &Path) -> (PathBuf, PathBuf, PathBuf, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let (a, clone) = (log(fleet, "gate-a", 3), fleet.join("clone"));
    fs::create_dir_all(clone.join("gate-a")).unwrap();
    fs::copy(a.join("checkpoint"), clone.join("gate-a/checkpoint")).unwrap();
    commit(&clone);
    let (program, mark) = (fleet.join("program"), fleet.join("mark"));
    fs::write(&program, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    (a, clone, program, mark)
}

fn git_in(clone: &Path, arguments: &[&str], input: &str) -> String {
    use std::io::Write as _;
    let mut command = std::process::Command::new("git");
    command.args(arguments).current_dir(clone).env_remove("GIT_DIR");
    let pipe = std::process::Stdio::piped;
    let mut child = command.stdin(pipe()).stdout(pipe()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

#[cfg(unix)]
#[test]
fn no_program_that_a_clone_names_is_run() {
    let fleet = tempfile::tempdir().unwrap();
    let (a, clone, program, mark) = cloned(fleet.path());
    let program = program.to_str().unwrap();
    // A commit that claims to be signed, and a configuration that has signatures looked at.
    let plain = git_in(&clone, &["cat-file", "commit", "HEAD"], "");
    let (head, message) = plain.split_once("\n\n").unwrap();
    let signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n AAAA\n -----END PGP SIGNATURE-----";
    let signed = format!("{head}\n{signature}\n\n{message}\n");
    let signed = git_in(&clone, &["hash-object", "-t", "commit", "-w", "--stdin"], &signed);
    git_in(&clone, &["update-ref", "HEAD", &signed], "");
    let everything = [
        ("log.showSignature", "true"),
        ("gpg.program", program),
        ("core.fsmonitor", program),
        ("core.pager", program),
        ("core.sshCommand", program),
        ("core.alternateRefsCommand", program),
        ("uploadpack.packObjectsHook", program),
        ("diff.external", program),
    ];
    for (key, value) in everything {
        git_in(&clone, &["config", key, value], "");
    }
    for hook in ["post-checkout", "reference-transaction", "pre-receive", "post-update"] {
        fs::create_dir_all(clone.join(".git/hooks")).unwrap();
        fs::copy(program, clone.join(".git/hooks").join(hook)).unwrap();
    }
    let args = Verify { kept: vec![clone.clone()], ..asked(&[&a], &[], &[]) };
    assert!(problems(&args).is_empty());
    assert!(!mark.exists());
    // One that is not whole, and says what fetches the rest.
    for (key, value) in [
        ("extensions.partialClone", "origin"),
        ("core.repositoryFormatVersion", "1"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", clone.to_str().unwrap()),
        ("remote.origin.uploadpack", program),
    ] {
        git_in(&clone, &["config", key, value], "");
    }
    let blob = git_in(&clone, &["rev-parse", "HEAD:gate-a/checkpoint"], "");
    let (folder, file) = blob.split_at(2);
    fs::remove_file(clone.join(".git/objects").join(folder).join(file)).unwrap();
    assert!(verdicts(&args).is_err(), "what is not there cannot be read");
    assert!(!mark.exists());
}

#[cfg(unix)]
#[test]
fn what_is_no_head_beside_those_that_are_kept_is_passed_over() {
    let fleet = tempfile::tempdir().unwrap();
    let (a, clone, ..) = cloned(fleet.path());
    let folder = fleet.path().join("kept");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(a.join("checkpoint"), folder.join("1.checkpoint")).unwrap();
    for place in [&clone, &folder] {
        fs::write(place.join("binary.checkpoint"), b"\xff\xfe\0").unwrap();
        fs::write(place.join("large.checkpoint"), vec![b'x'; 4 << 20]).unwrap();
        fs::write(place.join("empty.checkpoint"), "").unwrap();
    }
    commit(&clone);
    // Nobody waits for a pipe, follows a link to where it is, or reads what has no end.
    let pipe = std::process::Command::new("mkfifo").arg(folder.join("pipe.checkpoint")).status().unwrap();
    assert!(pipe.success());
    std::os::unix::fs::symlink("/dev/zero", folder.join("zero.checkpoint")).unwrap();
    for name in ["one", "two", "three"] {
        std::os::unix::fs::symlink(&folder, folder.join(name)).unwrap();
    }
    let args = Verify { kept: vec![folder, clone], ..asked(&[&a], &[], &[]) };
    let (found, _) = verdicts(&args).unwrap();
    assert!(found[0].is_good(), "{:?}", found[0].problem);
    assert!(found[0].kept.iter().all(|said| said.contains("the 1 heads")), "{:?}", found[0].kept);
}

#[test]
fn witnesses_and_a_fleet_vouch_for_heads_that_the_file_of_heads_no_longer_has() {
    let fleet = tempfile::tempdir().unwrap();
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let (a, early) = signed_often(fleet.path(), "gate-a", 0, &pem);
    let b = log(fleet.path(), "gate-b", 2);
    assert!(!fs::read_to_string(a.join("heads")).unwrap().contains(&early), "it is gone from there");
    let witness = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let witness = crate::audit::witness::Cosigner::from_pem("w", witness.as_bytes()).unwrap();
    let text = format!("{}\n", early.split_once("\n\n").unwrap().0);
    let cosigned = format!("{early}{}", witness.cosign(&text, Timestamp::from_secs(1_800_000_000)));
    let (key, head) = (fleet.path().join("w.pub"), fleet.path().join("early"));
    fs::write(&key, format!("{}\n", witness.verifier())).unwrap();
    fs::write(&head, format!("{early}\n")).unwrap();
    let folder = fleet.path().join("kept");
    fs::create_dir_all(folder.join("gate-a")).unwrap();
    fs::write(folder.join("gate-a/4.checkpoint"), &early).unwrap();
    fs::write(a.join(COSIGNED), cosigned).unwrap();
    let args = || Verify {
        witnesses: vec![key.clone()],
        required: Some(1),
        kept: vec![folder.clone()],
        heads: vec![head.clone()],
        ..asked(&[&a], &[], &[])
    };
    let (found, _) = verdicts(&args()).unwrap();
    assert!(found[0].is_good(), "{:?}", found[0].problem);
    assert!(found[0].witnessed.as_ref().unwrap().contains("4 records"), "{found:?}");
    assert!(found[0].kept[0].contains("counts 4 records"), "{found:?}");
    // In a fleet, the same.
    let keys = fleet.path().join("fleet.pub");
    let both = [&a, &b].map(|d| fs::read_to_string(d.join(PUBLIC_KEY)).unwrap()).concat();
    fs::write(&keys, both).unwrap();
    assert!(problems(&asked(&[&a, &b], &[&keys], &[&head])).is_empty());
    assert_eq!(problems(&asked(&[&b], &[&keys], &[&head])).len(), 1, "one log of it is missing");
    // A past that was written anew, however many heads it has, does not fit what is gone.
    fs::remove_dir_all(&a).unwrap();
    signed_often(fleet.path(), "gate-a", 1, &pem);
    for args in [
        Verify { heads: vec![head.clone()], ..asked(&[&a], &[], &[]) },
        Verify { kept: vec![folder.clone()], ..asked(&[&a], &[], &[]) },
        asked(&[&a, &b], &[&keys], &[&head]),
    ] {
        assert_eq!(problems(&args).len(), 1);
    }
}
