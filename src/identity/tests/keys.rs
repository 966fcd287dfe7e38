//! Key sets: what is used and what is left out, with its reason.

use super::*;

fn rsa_jwk(changes: &Value) -> Value {
    patched(Signer::rsa(0).jwk("k"), changes)
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

/// An odd number of exactly `bits` bits that no small-prime test marks.
fn modulus(bits: usize) -> String {
    let mut bytes = vec![0xC7_u8; bits.div_ceil(8)];
    bytes[0] = if bits.is_multiple_of(8) { 0xC7 } else { (1 << (bits % 8)) - 1 };
    *bytes.last_mut().unwrap() = 0xC5;
    b64(bytes)
}

/// The same number with a leading zero octet, as some issuers publish it.
fn zero_first(number: &str) -> String {
    b64([vec![0], URL_SAFE_NO_PAD.decode(number).unwrap()].concat())
}

/// 65537 to the power of 128: 2049 bits, and a power of 65537 modulo every prime.
fn broken_modulus() -> Vec<u8> {
    let mut number = vec![1_u8];
    for _ in 0..128 {
        // times 65537 = shifted by two bytes, plus itself
        let mut shifted = number.clone();
        shifted.extend([0, 0]);
        let mut carry = 0_u16;
        for i in 0..shifted.len() {
            let at = shifted.len() - 1 - i;
            let add = number.len().checked_sub(i + 1).map_or(0, |j| number[j]);
            let sum = u16::from(shifted[at]) + u16::from(add) + carry;
            shifted[at] = sum as u8;
            carry = sum >> 8;
        }
        if carry > 0 {
            shifted.insert(0, carry as u8);
        }
        number = shifted;
    }
    number
}

#[test]
fn fit_keys_are_used() {
    for key in [
        rsa_jwk(&json!({})),
        rsa_jwk(&json!({"use": "sig", "alg": "RS256", "key_ops": ["verify"], "x5c": ["x"], "issuer": "y"})),
        rsa_jwk(&json!({"n": zero_first(&modulus(2_048)), "e": b64([0, 1, 0, 1])})),
        rsa_jwk(&json!({"n": modulus(4_096), "e": b64([3])})),
        Signer::p256().jwk("k"),
        Signer::p384().jwk("k"),
        Signer::ed().jwk("k"),
        patched(Signer::ed().jwk("k"), &json!({"alg": "Ed25519"})),
    ] {
        let set = set(std::slice::from_ref(&key));
        assert_eq!((set.ids(), set.notes()), (vec!["k"], &[][..]), "{key}");
    }
}

#[test]
fn weak_mislabelled_and_misused_keys_are_left_out() {
    let p256 = Signer::p256().jwk("k");
    let with = |key: &Value, changes: Value| patched(key.clone(), &changes);
    for (key, why) in [
        (rsa_jwk(&json!({"n": modulus(1_024)})), "fewer than 2048"),
        (rsa_jwk(&json!({"n": modulus(2_047)})), "fewer than 2048"),
        (rsa_jwk(&json!({"n": modulus(16_384)})), "more than 8192"),
        (rsa_jwk(&json!({"n": b64([0xFE; 256])})), "even RSA modulus"),
        (rsa_jwk(&json!({"n": b64(broken_modulus())})), "CVE-2017-15361"),
        (rsa_jwk(&json!({"n": ""})), "fewer than 2048"),
        (rsa_jwk(&json!({"e": b64([1])})), "even or 1"),
        (rsa_jwk(&json!({"e": b64([0, 0, 1])})), "even or 1"),
        (rsa_jwk(&json!({"e": b64([2])})), "even or 1"),
        (rsa_jwk(&json!({"e": ""})), "even or 1"),
        (rsa_jwk(&json!({"e": b64([1, 0, 0, 0, 1])})), "32 bits"),
        (rsa_jwk(&json!({"e": "AQAB=="})), "base64url"),
        (rsa_jwk(&json!({"n": null})), "missing"),
        (rsa_jwk(&json!({"n": 7})), "missing"),
        (rsa_jwk(&json!({"use": "enc"})), "`use`"),
        (rsa_jwk(&json!({"use": "SIG"})), "`use`"),
        (rsa_jwk(&json!({"use": ["sig"]})), "`use`"),
        (rsa_jwk(&json!({"key_ops": ["sign"]})), "`key_ops`"),
        (rsa_jwk(&json!({"key_ops": []})), "`key_ops`"),
        (rsa_jwk(&json!({"key_ops": "verify"})), "`key_ops`"),
        (rsa_jwk(&json!({"alg": "HS256"})), "`alg`"),
        (rsa_jwk(&json!({"alg": "RSA-OAEP"})), "`alg`"),
        (rsa_jwk(&json!({"alg": "none"})), "`alg`"),
        (rsa_jwk(&json!({"alg": 1})), "`alg`"),
        (rsa_jwk(&json!({"alg": "ES256"})), "do not agree"),
        (rsa_jwk(&json!({"crv": "P-256"})), "mislabelled"),
        (rsa_jwk(&json!({"d": "AQAB"})), "private part"),
        (rsa_jwk(&json!({"kty": "rsa"})), "not supported"),
        (rsa_jwk(&json!({"kty": "EC"})), "`crv` is missing"),
        (rsa_jwk(&json!({"kty": "AKP"})), "not supported"),
        (rsa_jwk(&json!({"kty": null})), "`kty` is missing"),
        (rsa_jwk(&json!({"kid": null})), "`kid`"),
        (rsa_jwk(&json!({"kid": ""})), "`kid`"),
        (rsa_jwk(&json!({"kid": 7})), "`kid`"),
        (rsa_jwk(&json!({"kid": "k".repeat(257)})), "`kid`"),
        (json!({"kty": "oct", "kid": "k", "k": b64("secret")}), "symmetric"),
        (json!({"kty": "oct", "kid": "k", "k": "", "alg": "HS256"}), "symmetric"),
        (with(&p256, json!({"crv": "P-384"})), "do not fit"),
        (with(&p256, json!({"crv": "secp256k1"})), "not supported"),
        (with(&p256, json!({"crv": "P-521"})), "not supported"),
        (with(&p256, json!({"x": b64([7_u8; 32])})), "not on its curve"),
        (with(&p256, json!({"x": b64([0_u8; 32]), "y": b64([0_u8; 32])})), "not on its curve"),
        (with(&p256, json!({"alg": "ES384"})), "do not agree"),
        (with(&p256, json!({"alg": "RS256"})), "do not agree"),
        (with(&p256, json!({"d": b64([7_u8; 32])})), "private part"),
        (json!({"kty": "OKP", "crv": "X25519", "kid": "k", "x": b64([7_u8; 32])}), "not supported"),
        (json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": b64([7_u8; 31])}), "does not fit"),
    ] {
        let set = set(&[key.clone(), Signer::rsa(1).jwk("good")]);
        assert_eq!(set.ids(), ["good"], "{key}");
        assert!(set.notes()[0].why.contains(why), "{key}: {:?}", set.notes());
    }
}

#[test]
fn keys_that_share_an_id_are_all_left_out_unless_they_are_one_key() {
    let (a, b) = (Signer::rsa(0).jwk("k"), Signer::rsa(1).jwk("k"));
    let oct = json!({"kty": "oct", "kid": "k", "k": b64("secret")});
    for keys in [
        vec![a.clone(), b.clone()],
        vec![a.clone(), b.clone(), a.clone()],
        vec![a.clone(), oct.clone()],
        vec![oct, a.clone()],
        vec![a.clone(), patched(a.clone(), &json!({"alg": "PS256"}))],
        vec![a.clone(), Signer::p256().jwk("k")],
    ] {
        let set = set(&keys);
        assert!(set.is_empty(), "{keys:?}");
        assert!(set.notes().iter().any(|n| n.why.contains("another key has the same `kid`")));
    }
    assert_eq!(set(&[a.clone(), patched(a, &json!({"use": "sig"}))]).len(), 1);
}

#[test]
fn a_key_s_own_alg_and_curve_bound_what_it_verifies() {
    let set = set(&[patched(Signer::rsa(0).jwk("rsa"), &json!({"alg": "RS256"})), Signer::p256().jwk("ec")]);
    let fits = |id: &str| -> Vec<&str> {
        SignatureAlgorithm::ALL
            .into_iter()
            .filter(|a| set.find(id).unwrap().fits(*a))
            .map(SignatureAlgorithm::name)
            .collect()
    };
    assert_eq!(fits("rsa"), ["RS256"]);
    assert_eq!(fits("ec"), ["ES256"]);
}

#[test]
fn documents_that_are_no_key_set_are_refused_whole() {
    let many = json!({"keys": vec![json!({"kty": "x"}); 201]}).to_string();
    for document in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"keys":{}}"#,
        r#"{"keys":["k"]}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[{"kty":"RSA","kty":"oct"}]}"#,
        r#"{"keys":[]} "#.trim_end().repeat(2).as_str(),
        many.as_str(),
        &format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(MAX_DOCUMENT)),
    ] {
        let shown: String = document.chars().take(40).collect();
        assert!(KeySet::parse(document.as_bytes()).is_err(), "{shown}");
    }
    assert!(set(&[]).is_empty());
}

proptest::proptest! {
    #[test]
    fn arbitrary_documents_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        drop(KeySet::parse(&bytes));
    }

    #[test]
    fn arbitrary_keys_are_never_used(members in proptest::collection::btree_map("kty|kid|n|e|crv|x|y|alg|use", "[A-Za-z0-9_-]{0,12}", 0..9)) {
        let set = KeySet::parse(json!({"keys": [members]}).to_string().as_bytes()).unwrap();
        proptest::prop_assert!(set.is_empty());
    }
}
