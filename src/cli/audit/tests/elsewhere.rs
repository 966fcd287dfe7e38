//! Heads that are kept elsewhere, by witnesses, in folders and in repositories: what the log must fit.

use super::*;
use crate::audit::{
    COSIGNED,
    storage::{Storage as _, faulty::FaultyDisk},
};

/// So many that the file is thinned though every second one comes to nothing: what it would count was
/// counted with the batch before.
const MANY: u64 = 4_400;

/// A log with a head for each record but the first ones, and the second of its heads: the first one
/// of many stays.
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
            if number == 20 {
                let heads = String::from_utf8(disk.read("heads").unwrap()).unwrap();
                // Each is its text, an empty line, its signature, and an empty line.
                let parts: Vec<_> = heads.trim_end().split("\n\n").collect();
                early = parts[2..4].join("\n\n") + "\n";
            }
            if number >= 2 {
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
    (directory, early)
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
#[cfg(unix)]
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

#[cfg(unix)]
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
    fs::write(folder.join("gate-a/early.checkpoint"), &early).unwrap();
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
    let size = early.lines().nth(1).unwrap();
    assert!(found[0].witnessed.as_ref().unwrap().starts_with(&format!("{size} records")), "{found:?}");
    assert!(found[0].kept[0].contains(&format!("counts {size} records")), "{found:?}");
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

/// A folder with all that is in it.
fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, beside) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copied(&path, &beside);
        } else {
            fs::copy(&path, &beside).unwrap();
        }
    }
}

/// Whoever has the signing key itself writes another past, or goes back to an older one.
#[test]
fn neither_a_fork_nor_a_log_that_was_set_back_is_what_a_witness_saw() {
    use crate::audit::{tiles::CHECKPOINT, witness::Cosigner};
    let fleet = tempfile::tempdir().unwrap();
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let witness = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let witness = Cosigner::from_pem("w", witness.as_bytes()).unwrap();
    let key = fleet.path().join("w.pub");
    fs::write(&key, format!("{}\n", witness.verifier())).unwrap();
    let a = log_under(fleet.path(), "gate-a", 3, &pem);
    let old = fleet.path().join("old");
    copied(&a, &old);
    log_under(fleet.path(), "gate-a", 6, &pem);
    let head = fs::read_to_string(a.join(CHECKPOINT)).unwrap();
    let text = format!("{}\n", head.split_once("\n\n").unwrap().0);
    let seen = head + &witness.cosign(&text, Timestamp::from_secs(1_800_000_000));
    let found = || {
        fs::write(a.join(COSIGNED), &seen).unwrap();
        let (witnesses, required) = (vec![key.clone()], Some(1));
        problems(&Verify { witnesses, required, ..asked(&[&a], &[], &[]) })
    };
    assert!(found().is_empty());
    // Each is whole in itself, under the same name and the same key.
    for more in [0..0, 100..103, 100..106, 100..120] {
        fs::remove_dir_all(&a).unwrap();
        copied(&old, &a);
        if !more.is_empty() {
            log_of(fleet.path(), "gate-a", more.clone(), &pem);
        }
        assert!(problems(&asked(&[&a], &[], &[])).is_empty(), "{more:?}");
        assert_eq!(found().len(), 1, "{more:?}");
    }
}
