//! An id lies within itself and within each of its ancestors, and within nothing that only begins alike.
#![no_main]

use amlgate::azureml::ResourceId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(id) = ResourceId::parse(text) {
        assert!(id.is_within(&id));
        if let Some((parent, _)) = id.as_str().rsplit_once('/')
            && let Some(parent) = ResourceId::parse(parent)
        {
            assert!(id.is_within(&parent));
        }
        if let Some(longer) = ResourceId::parse(&format!("{id}x")) {
            assert_eq!(longer.is_within(&id), id.as_str() == "/");
        }
    }
});
