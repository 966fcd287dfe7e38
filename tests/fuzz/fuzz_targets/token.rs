//! Whatever the bytes: no token is accepted that no key signed, no key set holds an unfit key, no
//! handle is redeemed that was not sealed, and nothing panics.
#![no_main]

use std::{
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
};

use amlgate::{
    identity::{
        Handles, HttpKeySource, IssuerSettings, KeySet, RememberedSettings, SignatureAlgorithm, Verifier,
    },
    net::{Connector, ConnectorSettings},
    secrets::{Seal, SecretString},
    time::{ManualClock, Timestamp},
};
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Trusts two issuers and has none of their keys.
static VERIFIER: LazyLock<Arc<Verifier>> = LazyLock::new(|| {
    let issuers = vec![
        IssuerSettings::oidc("idp", "https://issuer.example", &["amlgate"]).expect("a URL"),
        IssuerSettings::entra("corp", "aaaaaaaa-0000-4000-8000-000000000001", &["api://amlgate"]),
    ];
    let connector = Connector::new(ConnectorSettings::default()).expect("the system's roots");
    let clock = Arc::new(ManualClock::starting_at(NOW));
    let source = Arc::new(HttpKeySource::new(connector));
    Arc::new(Verifier::new(issuers, RememberedSettings::default(), source, clock))
});

static HANDLES: LazyLock<Handles> = LazyLock::new(|| {
    let seal = Seal::new([&SecretString::from("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=")]).expect("a key");
    Handles::new(&seal, Arc::clone(&VERIFIER))
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(keys) = KeySet::parse(bytes) {
        for id in keys.ids() {
            let key = keys.find(id).expect("an id of the set");
            assert!(SignatureAlgorithm::ALL.into_iter().any(|algorithm| key.fits(algorithm)));
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert!(HANDLES.redeem(text, NOW).is_err());
    // Pending is as good as refused: it waits for keys that nobody fetches.
    let mut judged = pin!(VERIFIER.authenticate(text));
    if let Poll::Ready(outcome) = judged.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        assert!(outcome.is_err());
    }
});
