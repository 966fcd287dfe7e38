//! The shipped policies and the built-in roles, as tables that a security person can read.
//!
//! Each table is compared with a file under `golden/`. After a change that is meant, run the tests
//! with `AMLGATE_BLESS=1` and review the difference of the files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so and stop"
)]

mod cases;
mod init;
mod roles;
mod shipped;

use std::path::Path;

/// Compares a table with its file.
fn golden(name: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy/golden").join(name);
    if std::env::var_os("AMLGATE_BLESS").is_some() {
        std::fs::write(&path, table).expect("the golden file can be written");
        return;
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let mut differences = Vec::new();
    let (mut old, mut new) = (known.lines(), table.lines());
    loop {
        match (old.next(), new.next()) {
            (None, None) => break,
            (old, new) if old == new => {}
            (old, new) => {
                differences.push(format!(
                    "- {}\n+ {}",
                    old.unwrap_or("(nothing)"),
                    new.unwrap_or("(nothing)")
                ));
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{name} changed; review it and accept it with AMLGATE_BLESS=1:\n{}",
        differences.join("\n")
    );
}
