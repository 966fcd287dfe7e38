//! `evidence`: what is wrong is said at its place.

use std::fs;

use rcgen::KeyPair;

use super::{GOOD, folder, load, said};

/// [`GOOD`] with a block, at line 15.
fn with(evidence: &str, store: &str) -> String {
    GOOD.replace("policies: policies/", &format!("evidence: {evidence}\n{store}policies: policies/"))
}

const STORE: &str = "store: {sqlite: var/amlgate.db}\n";

#[test]
fn the_key_and_those_before_it_are_taken_and_the_gate_has_a_name() {
    let folder = folder();
    let file = folder.path().join("amlgate.yaml");
    let before = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().public_key_pem();
    fs::write(folder.path().join("before.pub"), before).unwrap();
    let read = |block: &str| {
        fs::write(&file, with(block, STORE)).unwrap();
        load(&file).unwrap_or_else(|problems| panic!("{problems:?}")).evidence.unwrap()
    };
    let evidence = read("{signing_key: {file: seal.key}, previous: [before.pub]}");
    assert_eq!(&*evidence.gate, "http://127.0.0.1:8443", "by default it is where callers reach it");
    assert_eq!(evidence.previous, [folder.path().join("before.pub")]);
    let named = read("{signing_key: {file: seal.key}, gate: 'urn:example:gate'}");
    assert_eq!(&*named.gate, "urn:example:gate");
    fs::write(&file, GOOD).unwrap();
    assert_eq!(load(&file).unwrap().evidence, None);
}

#[test]
fn each_fault_of_it_is_said_at_its_place() {
    let folder = folder();
    for (block, store, expected) in [
        ("{}", STORE, "missing field `signing_key`"),
        ("{signing_key: {file: seal.key}, key: x}", STORE, "unknown field `key`"),
        ("{signing_key: {file: none.key}}", STORE, "cannot be read"),
        ("{signing_key: {file: seal.key}, previous: [none.pub]}", STORE, "cannot be read"),
        ("{signing_key: {file: seal.key}, previous: [audit.key]}", STORE, "not a public key of statements"),
        ("{signing_key: {file: seal.key}, gate: my gate}", STORE, "`my gate` is not a URI"),
        ("{signing_key: {file: seal.key}, gate: 'https:'}", STORE, "`https:` is not a URI"),
        ("{signing_key: {file: seal.key}}", "", "statements are kept in a store, and there is none"),
    ] {
        let said = said(folder.path(), &with(block, store));
        assert!(said.iter().any(|said| said.contains(expected)), "{block}: {said:?} has no `{expected}`");
        assert!(said.iter().all(|said| said.starts_with("15:")), "{block}: {said:?}");
    }
}
