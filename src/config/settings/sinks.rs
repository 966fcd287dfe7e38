//! `audit.sinks`, checked, secrets still references.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use super::{super::values::BaseUrl, Reference};
use crate::{
    audit::sinks::{Format, Start},
    notify::Filter,
};

/// One of `audit.sinks`, or of `notify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// Its name.
    pub name: Arc<str>,
    /// Where it begins when it is new.
    pub start: Start,
    /// Connect here instead of resolving the name.
    pub address: Option<SocketAddr>,
    /// A file with roots besides the system's, PEM.
    pub trust: Option<PathBuf>,
    /// What takes the records.
    pub kind: SinkKind,
}

/// A receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkKind {
    /// A file.
    File {
        /// Which.
        path: PathBuf,
        /// In which form.
        format: Format,
    },
    /// CloudEvents over HTTP.
    Webhook {
        /// Scheme, host and port.
        url: BaseUrl,
        /// Path and query.
        target: String,
        /// Signs.
        secret: Option<Reference>,
        /// Events in a request.
        batch: usize,
    },
    /// RFC 5424 over TLS.
    Syslog {
        /// Host and port.
        server: BaseUrl,
        /// In which form.
        format: Format,
        /// 0 to 23.
        facility: u8,
    },
    /// Splunk's HTTP Event Collector.
    Splunk {
        /// Its base.
        url: BaseUrl,
        /// The token of the input.
        token: Reference,
        /// The index.
        index: Option<String>,
        /// The source type.
        source_type: String,
        /// Wait until a batch is indexed.
        acknowledged: bool,
    },
    /// OpenTelemetry.
    Otlp {
        /// Scheme, host and port.
        url: BaseUrl,
        /// Path and query.
        target: String,
        /// Headers whose values are secrets.
        headers: Vec<(http::HeaderName, Reference)>,
    },
    /// Logs Ingestion.
    AzureMonitor {
        /// The ingestion endpoint.
        endpoint: BaseUrl,
        /// The rule's immutable id.
        rule: String,
        /// The stream.
        stream: String,
        /// Who writes.
        credential: Arc<str>,
    },
    /// Application Insights.
    ApplicationInsights {
        /// The component's connection string.
        connection_string: Reference,
    },
    /// Messages for people.
    Channel {
        /// How it is spoken to.
        hook: Hook,
        /// What it tells.
        filter: Filter,
    },
}

/// How a channel is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// An incoming webhook of Slack.
    Slack {
        /// Its URL.
        url: Reference,
    },
    /// A workflow of Microsoft Teams.
    Teams {
        /// Its URL.
        url: Reference,
    },
    /// CloudEvents over HTTP.
    Webhook {
        /// Scheme, host and port.
        url: BaseUrl,
        /// Path and query.
        target: String,
        /// Signs.
        secret: Reference,
    },
}
