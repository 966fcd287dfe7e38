//! amlgate: the front door to Azure Machine Learning.
//!
//! # The life of a request
//! ```text
//!               ┌─ identity ── Principal ─┐
//! listen ─ Target                         ├─ policy ─ gates ─ audit ─ credentials ─ upstream ─ audit ─ respond
//!               └─ azureml ── Operation ──┘  Permit  Cleared  Recorded  Attempt      stream     outcome
//!                  (Named, Inspected body)
//!    where?        who? what does it mean?    may they?  limits,  durable   Azure token   forward
//!                                                        gates    intent    of ours
//! ```
//! Each step consumes the value that only the step before it can make: private fields, one
//! constructor each, spent once. Forwarding without a decision, minting a token before the gates
//! and forwarding without a record do not compile.

pub mod admin;
pub mod audit;
pub mod azureml;
pub mod cli;
pub mod client;
pub mod cloud;
pub mod config;
pub mod credentials;
pub mod gates;
pub mod http;
pub mod identity;
pub mod lineage;
pub mod listen;
pub mod net;
pub mod notify;
pub mod placeholder;
pub mod policy;
pub mod proxy;
pub mod sandbox;
pub mod secrets;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod time;
pub mod triggers;
pub mod upstream;
pub mod yaml;
