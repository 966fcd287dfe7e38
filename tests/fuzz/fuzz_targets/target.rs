//! A request target that is accepted is canonical: read again, it is the same.
#![no_main]

use amlgate::http::Target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(target) = Target::parse("management.azure.com", text) {
        let forwarded = target.path_and_query();
        let again = Target::parse("management.azure.com", &forwarded).expect("what is forwarded is accepted");
        assert_eq!(again, target);
        assert!(target.segments().iter().all(|s| !s.contains('/') && &**s != ".."));
    }
});
