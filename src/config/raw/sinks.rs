//! `audit.sinks` as it is written: one block per kind of receiver.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Later, Reference, Text, Trust};
use crate::yaml::Spanned;

/// One of `audit.sinks`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// Its name in metrics and records, and of its cursor.
    pub name: Text,
    /// `beginning` or `now`: where it begins when it is new.
    pub start: Option<Text>,
    /// Connect here instead of resolving the name.
    pub address: Option<Text>,
    /// Extra roots.
    pub trust: Option<Spanned<Trust>>,
    /// A file.
    pub file: Option<Spanned<FileSink>>,
    /// CloudEvents over HTTP.
    pub webhook: Option<Spanned<Webhook>>,
    /// RFC 5424 over TLS.
    pub syslog: Option<Spanned<Syslog>>,
    /// Splunk's HTTP Event Collector.
    pub splunk_hec: Option<Spanned<SplunkHec>>,
    /// OpenTelemetry.
    pub otlp: Option<Spanned<Otlp>>,
    /// Logs Ingestion.
    pub azure_monitor: Option<Spanned<AzureMonitor>>,
    /// Application Insights.
    pub application_insights: Option<Spanned<ApplicationInsights>>,
    /// Kafka's own protocol: not in this version.
    pub kafka: Later,
}

/// `file`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSink {
    /// The file, which is made.
    pub path: Text,
    /// `ocsf`, `ecs`, `cef`, `cloudevents` or `clutch`.
    pub format: Option<Text>,
}

/// `webhook`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where events are posted.
    pub url: Text,
    /// Signs them: `whsec_...`.
    pub secret: Option<Spanned<Reference>>,
    /// Events in a request.
    pub batch: Option<Spanned<usize>>,
}

/// `syslog`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Syslog {
    /// `host` or `host:port`; 6514 by default.
    pub server: Text,
    /// `ocsf`, `ecs`, `cef`, `cloudevents` or `clutch`.
    pub format: Option<Text>,
    /// 0 to 23; 13 (log audit) by default.
    pub facility: Option<Spanned<u8>>,
}

/// `splunk_hec`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplunkHec {
    /// `https://host:8088`.
    pub url: Text,
    /// The token of the input.
    pub token: Spanned<Reference>,
    /// The index.
    pub index: Option<Text>,
    /// The source type.
    pub source_type: Option<Text>,
    /// Wait until a batch is indexed.
    #[serde(default)]
    pub acknowledged: bool,
}

/// `otlp`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// `https://host:4318`, to which `/v1/logs` is added, or a URL with a path of its own.
    pub url: Text,
    /// Headers whose values are secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, Spanned<Reference>>,
}

/// `azure_monitor`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AzureMonitor {
    /// The ingestion endpoint of the rule, or of a data collection endpoint.
    pub endpoint: Text,
    /// The rule's immutable id, `dcr-...`.
    pub rule: Text,
    /// The stream; `Custom-AmlGateAudit_CL` by default.
    pub stream: Option<Text>,
    /// Who writes.
    pub credential: Text,
}

/// `application_insights`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationInsights {
    /// The component's connection string.
    pub connection_string: Spanned<Reference>,
}
