//! Whatever is in a file of envelopes, its reader comes to an end, and without keys it believes none.
#![no_main]

use amlgate::lineage::{Chain, Statement, bundle};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for (_, envelope) in bundle(bytes).unwrap_or_default() {
        assert!(envelope.open(&[]).is_err(), "nobody vouches for it");
    }
    if let Ok(statement) = Statement::parse(bytes) {
        assert!(!statement.subjects().is_empty());
        let _told_or_not = Chain::of(&statement);
    }
});
