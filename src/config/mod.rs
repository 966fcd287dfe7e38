//! `amlgate.yaml`: raw (serde only), then typed settings, with every problem at its place.

pub mod raw;
