//! Any text is a policy file, or a list of problems that stand in it.
#![no_main]

use amlgate::policy::{FileSet, PolicySet, Surroundings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let files = FileSet::from_texts([("fuzz.yaml", text)]);
    match PolicySet::compile(&files, &Surroundings::default()) {
        Ok((set, _)) => assert_eq!(set.digest(), files.digest()),
        Err(problems) => {
            assert!(!problems.is_empty());
            let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
            assert!(problems.iter().all(|problem| problem.place.line <= lines.saturating_add(1)));
        }
    }
});
