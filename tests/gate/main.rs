//! The gate through its public surfaces: real sockets, real TLS, the sandbox as the other side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so and stop"
)]

mod agents;
mod api;
mod approvals;
mod archive;
mod asked;
mod authorities;
mod azure_events;
mod backstage;
mod bodies;
mod bound;
mod break_glass;
mod callers;
mod can_i;
mod client;
mod clouds;
mod clusters;
mod clutch;
mod code_hosts;
mod console;
mod custody;
mod doctor;
mod early;
mod endpoints;
mod explained;
mod failing_disk;
mod failures;
mod forward;
mod framing;
mod gitlab;
mod groups;
mod hooks;
mod http2;
mod identity;
mod inner;
mod lasting;
mod lineage;
mod machines;
mod merges;
mod notices;
mod on_behalf_of;
mod openapi;
mod operations;
mod opinions;
mod outage;
mod peer;
mod plain;
mod possession;
mod pressure;
mod providers;
mod proxied_machines;
mod reading;
mod reconcile;
mod requests;
mod restart;
mod reviewers;
mod reviews;
mod rights;
mod rotation;
mod sessions;
mod sinks;
mod statements;
mod step_up;
mod streams;
mod taint;
mod tenants;
mod terminators;
mod triggers;
mod upstreams;
mod witnesses;
mod workloads;
mod world;
