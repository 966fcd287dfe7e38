//! Which keys sign and vouch, and what is refused instead of being guessed at.

use super::*;

#[test]
fn a_key_is_known_by_the_digest_of_its_public_half() {
    for key in [ed25519(), p256()] {
        let text = key.public().to_pem();
        let read = PublicKey::all_from_pem(&text).unwrap();
        assert_eq!((read.len(), read[0].id()), (1, key.public().id()));
        let der = pem::parse(&text).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der.contents());
        assert_eq!(read[0].id().as_str(), crate::audit::note::hex(digest.as_ref()));
    }
    let both = format!("rotated\n{}{}", ed25519().public().to_pem(), p256().public().to_pem());
    assert_eq!(PublicKey::all_from_pem(&both).unwrap().len(), 2);
}

#[test]
fn only_ed25519_and_p256_are_keys_of_statements() {
    let pem = |tag: &str, der: &[u8]| pem::encode(&pem::Pem::new(tag, der));
    for other in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256] {
        let key = match rcgen::KeyPair::generate_for(other) {
            Ok(key) => key,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(SigningKey::from_pem(key.serialize_pem().as_bytes()).unwrap_err(), KeyError::Signing);
        assert_eq!(PublicKey::all_from_pem(&key.public_key_pem()).unwrap_err(), KeyError::Public);
    }
    for text in [
        String::new(),
        "nonsense".to_owned(),
        // Bare points, which say nothing of their algorithm.
        pem("PUBLIC KEY", &[9; 32]),
        pem("PUBLIC KEY", &[4; 65]),
        pem("CERTIFICATE", pem::parse(ed25519().public().to_pem()).unwrap().contents()),
    ] {
        assert_eq!(PublicKey::all_from_pem(&text).unwrap_err(), KeyError::Public, "{text}");
    }
    let mut longer = pem::parse(p256().public().to_pem()).unwrap().into_contents();
    longer.push(0);
    assert!(PublicKey::all_from_pem(&pem("PUBLIC KEY", &longer)).is_err(), "bytes behind the key");
    let many = ed25519().public().to_pem().repeat(65);
    assert_eq!(PublicKey::all_from_pem(&many).unwrap_err(), KeyError::Large);
    assert_eq!(SigningKey::from_pem(ed25519().public().to_pem().as_bytes()).unwrap_err(), KeyError::Signing);
}

#[test]
fn nothing_of_a_private_key_is_shown() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let signing = SigningKey::from_pem(key.serialize_pem().as_bytes()).unwrap();
    assert_eq!(format!("{signing:?}"), format!("SigningKey({})", signing.public().id()));
}
