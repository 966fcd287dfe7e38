//! Statements and an envelope as they are written, byte for byte: `golden/*`.
//!
//! `AMLGATE_GOLDEN=write cargo test golden` writes them anew, to be looked at before they are kept.
//! The envelope of ECDSA was signed once, because no two signatures of it are the same.

use std::{fs, path::PathBuf};

use super::*;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/lineage/tests/golden").join(name)
}

fn is_golden(name: &str, bytes: &[u8]) {
    if std::env::var("AMLGATE_GOLDEN").is_ok_and(|v| v == "write") {
        fs::write(file(name), bytes).unwrap();
    }
    let kept = fs::read(file(name)).unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(bytes), String::from_utf8_lossy(&kept), "{name}");
}

#[test]
fn statements_are_written_as_they_were() {
    let stated = provenance(&custody(), GATE).unwrap();
    is_golden("provenance.json", &stated);
    let envelope = seal(&stated, &ed25519()).unwrap();
    is_golden("provenance.ed25519.dsse.json", &envelope);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &envelope);
    is_golden("summary.json", &summary(&custody(), GATE, digest.as_ref().try_into().unwrap()).unwrap());
    is_golden("ed25519.pem", ed25519().public().to_pem().as_bytes());
}

#[test]
fn an_envelope_that_ecdsa_signed_once_is_good_ever_after() {
    let once = std::env::var("AMLGATE_GOLDEN").is_ok_and(|v| v == "write") && !file("p256.pem").exists();
    if once {
        let key = p256();
        fs::write(
            file("provenance.p256.dsse.json"),
            seal(&provenance(&custody(), GATE).unwrap(), &key).unwrap(),
        )
        .unwrap();
        fs::write(file("p256.pem"), key.public().to_pem()).unwrap();
    }
    let keys = PublicKey::all_from_pem(&fs::read_to_string(file("p256.pem")).unwrap()).unwrap();
    let envelope = Envelope::parse(&fs::read(file("provenance.p256.dsse.json")).unwrap()).unwrap();
    assert!(Chain::of(&envelope.open(&keys).unwrap().statement).is_some());
}

#[test]
fn the_encoding_that_is_signed_is_that_of_the_specification() {
    // The test vector of DSSE's protocol, version 1.0.0.
    let encoded = pae("http://example.com/HelloWorld", b"hello world");
    assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    // Lengths are of bytes.
    assert_eq!(pae("é", &[0xff, 0]), b"DSSEv1 2 \xc3\xa9 2 \xff\x00");
}
