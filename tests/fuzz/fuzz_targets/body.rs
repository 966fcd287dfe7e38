//! A judged body that is accepted has one reading: what is forwarded reads the same.
#![no_main]

use amlgate::azureml::Inspected;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(body) = Inspected::parse(bytes) {
        let again = Inspected::parse(body.bytes()).expect("what is forwarded is accepted");
        assert_eq!(again.value(), body.value());
    }
});
