//! Every operation of Azure ML is named, and nothing else is (DECISIONS 33).
//!
//! The facts in `operations.tsv` come from Azure's published API descriptions and from what its
//! clients send. They are not made from the catalogue that names requests, nor it from them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so and stop"
)]

mod allocations;
mod consequences;
mod coverage;
mod facts;
mod paths;
