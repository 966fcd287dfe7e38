//! The file of signed heads stays small, and nothing that was proven by a head that is gone is lost.

use super::*;
use crate::audit::{
    heads::FINE,
    note,
    prover::Prover,
    query::{Bounds, Filter, Look, search},
    read::Reader,
    recovery::split_heads,
};

/// As many heads as make the file thinner, and some more.
const HEADS: u64 = 2 * FINE as u64 + 200;

fn heads(disk: &FaultyDisk) -> Vec<String> {
    let text = String::from_utf8(disk.read(segment::HEADS).unwrap()).unwrap();
    split_heads(&text).0.into_iter().map(str::to_owned).collect()
}

/// The same log in a folder of the machine.
fn folder(disk: &FaultyDisk) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in disk.names() {
        let path = directory.path().join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, disk.read(&name).unwrap()).unwrap();
    }
    directory
}

#[tokio::test]
async fn a_log_of_many_heads_keeps_few_and_everything_that_was_ever_signed_still_fits() {
    let disk = FaultyDisk::default();
    let small = JournalSettings { segment_bytes: 100_000, ..settings() };
    let mut elsewhere = Vec::new();
    let mut number = 0;
    // Begun anew between, with another key: what is thinned then is of both.
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let rotated = JournalSettings {
        signing_key: SecretString::from(pem),
        previous_key: Some(small.signing_key.clone()),
        ..small.clone()
    };
    for (settings, until) in [(&small, HEADS / 2), (&rotated, HEADS)] {
        let (journal, _) = open(&disk, settings);
        while number < until {
            journal.happened(&event(number)).await.unwrap();
            journal.sign_head();
            number += 1;
            if number % 500 == 100 {
                // Signed with the batch before the next record is durable.
                journal.happened(&event(number)).await.unwrap();
                elsewhere.push(heads(&disk).pop().unwrap());
            }
        }
        assert!(journal.close().await);
    }
    let (found, keys) = (heads(&disk), key(&disk));
    assert!(found.len() < 2 * FINE && found.len() > FINE, "{}", found.len());
    assert!(
        elsewhere.iter().any(|note| !found.contains(note)),
        "some that were kept elsewhere are gone here"
    );
    // Whoever verifies, with the heads that were kept elsewhere and without, and from the first key alone.
    let whole = verified_by(&disk, &keys, &elsewhere).unwrap();
    assert_eq!((whole.beyond, whole.heads), (0, (found.len() + elsewhere.len()) as u64));
    let first: note::VerifierKeys = keys.get(0).unwrap().clone().into();
    verified_by(&disk, &first, &[]).unwrap();
    // Whoever proves, from any of them and for any record.
    let directory = folder(&disk);
    let prover = Prover::of(directory.path()).unwrap();
    for note in &elsewhere {
        prover.consistency(note).unwrap();
    }
    for position in [0, 1, 700, HEADS - 1] {
        let mut reader = Reader::from(disk.clone(), position).unwrap();
        prover.inclusion(reader.record().unwrap().unwrap()).unwrap();
    }
    // Whoever searches: all of it is vouched for, and the file is not read whole for that.
    let bounds = Bounds::records(usize::MAX);
    let page = search(directory.path(), &keys, &Filter::default(), Look::Everywhere, 0, bounds).unwrap();
    assert!(page.found.len() as u64 > HEADS && page.found.iter().all(|found| found.vouched));
    // And an end that was cut off is still found by a head that stayed.
    let cut = disk.after_power_loss(Tear::Cut(usize::MAX));
    let last = segment_names(&cut).unwrap().pop().unwrap();
    cut.tamper(&last, |bytes| bytes.truncate(bytes.len() / 2));
    assert!(verified_by(&cut, &keys, &[]).is_err());
}
