//! `audit.sinks`: where the record goes besides the disk.

use std::collections::BTreeSet;

use super::{
    super::{
        Problems, issuers, raw,
        settings::{Credential, Sink, SinkKind},
        values::{self, BaseUrl, Scheme},
    },
    Reader,
};
use crate::{
    audit::sinks::{Format, Start},
    yaml::{Place, Spanned},
};

const KINDS: &str =
    "write one of `file`, `webhook`, `syslog`, `splunk_hec`, `otlp`, `azure_monitor`, `application_insights`";

impl Reader<'_> {
    pub(super) fn sinks(
        &self,
        found: &[Spanned<raw::Sink>],
        credentials: &[Credential],
        problems: &mut Problems,
    ) -> Vec<Sink> {
        let mut names = BTreeSet::new();
        let mut read = Vec::new();
        for sink in found {
            let raw = &sink.value;
            let Some(name) = problems.read(&raw.name, values::name) else { continue };
            if !names.insert(name.clone()) {
                problems.error(Place::of(&raw.name), format!("the sink `{name}` is there twice"));
            }
            let Some(kind) = self.kind(&name, sink, credentials, problems) else { continue };
            if let (SinkKind::File { .. }, Some(address)) = (&kind, &raw.address) {
                problems.error(Place::of(address), "a file has no `address`");
            }
            let start = |text: &str| match text {
                "beginning" => Ok(Start::Beginning),
                "now" => Ok(Start::Now),
                _ => Err(format!("`{text}` is neither `beginning` nor `now`")),
            };
            read.push(Sink {
                name: name.into(),
                start: raw.start.as_ref().and_then(|s| problems.read(s, start)).unwrap_or_default(),
                address: raw.address.as_ref().and_then(|a| problems.read(a, values::address)),
                trust: raw.trust.as_ref().and_then(|t| {
                    // What is in it is read when it is used, and again when it was exchanged.
                    issuers::pem(&t.value.ca, self.base, problems).map(|_| self.file(&t.value.ca.value))
                }),
                kind,
            });
        }
        read
    }

    fn kind(
        &self,
        name: &str,
        sink: &Spanned<raw::Sink>,
        credentials: &[Credential],
        problems: &mut Problems,
    ) -> Option<SinkKind> {
        let raw = &sink.value;
        if let Some(kafka) = &raw.kafka {
            problems.error_with(
                Place::of(kafka),
                "`kafka` is not in this version: no client of it dials through the gate's own connector",
                "use `otlp` or `webhook` with a collector that writes to Kafka",
            );
            return None;
        }
        let mut kinds: Vec<Option<SinkKind>> = Vec::new();
        kinds.extend(raw.file.as_ref().map(|f| {
            let format = format(f.value.format.as_ref(), problems);
            Some(SinkKind::File { path: self.file(&f.value.path.value), format })
        }));
        kinds.extend(raw.webhook.as_ref().map(|w| self.webhook(&w.value, problems)));
        kinds.extend(raw.syslog.as_ref().map(|s| syslog(&s.value, problems)));
        kinds.extend(raw.splunk_hec.as_ref().map(|s| self.splunk(&s.value, problems)));
        kinds.extend(raw.otlp.as_ref().map(|o| self.otlp(&o.value, problems)));
        kinds.extend(raw.azure_monitor.as_ref().map(|a| azure_monitor(&a.value, credentials, problems)));
        kinds.extend(raw.application_insights.as_ref().map(|a| {
            let connection_string = self.reference(&a.value.connection_string, problems)?;
            Some(SinkKind::ApplicationInsights { connection_string })
        }));
        if kinds.len() != 1 {
            let count = kinds.len();
            problems.error_with(
                Place::of(sink),
                format!("the sink `{name}` has {count} receivers instead of one"),
                KINDS,
            );
        }
        kinds.pop().flatten()
    }

    fn webhook(&self, raw: &raw::Webhook, problems: &mut Problems) -> Option<SinkKind> {
        let batch = raw.batch.as_ref().map_or(1, |batch| {
            if !(1..=1_000).contains(&batch.value) {
                problems.error(Place::of(batch), format!("`{}` is not between 1 and 1000", batch.value));
            }
            batch.value
        });
        let secret = match &raw.secret {
            Some(found) => Some(self.reference(found, problems)?),
            None => {
                problems.warning(
                    Place::of(&raw.url),
                    "the webhook is not signed: its receiver cannot tell who posts",
                    "add `secret: {env: NAME}` with `whsec_` and Base64 of 32 random bytes",
                );
                None
            }
        };
        let (url, target) = problems.read(&raw.url, values::url)?;
        Some(SinkKind::Webhook { url, target, secret, batch })
    }

    fn splunk(&self, raw: &raw::SplunkHec, problems: &mut Problems) -> Option<SinkKind> {
        let token = self.reference(&raw.token, problems);
        let url = problems.read(&raw.url, values::confidential)?;
        Some(SinkKind::Splunk {
            url,
            token: token?,
            index: raw.index.as_ref().map(|i| i.value.clone()),
            source_type: raw.source_type.as_ref().map_or_else(|| "amlgate:ocsf".into(), |s| s.value.clone()),
            acknowledged: raw.acknowledged,
        })
    }

    fn otlp(&self, raw: &raw::Otlp, problems: &mut Problems) -> Option<SinkKind> {
        let mut headers = Vec::new();
        for (name, value) in &raw.headers {
            match name.parse::<http::HeaderName>() {
                Ok(name) => headers.extend(self.reference(value, problems).map(|value| (name, value))),
                Err(_) => problems.error(Place::of(value), format!("`{name}` is not the name of a header")),
            }
        }
        let (url, target) = problems.read(&raw.url, values::url)?;
        let target = if target == "/" { "/v1/logs".to_owned() } else { target };
        Some(SinkKind::Otlp { url, target, headers })
    }
}

fn syslog(raw: &raw::Syslog, problems: &mut Problems) -> Option<SinkKind> {
    let facility = raw.facility.as_ref().map_or(13, |facility| {
        if facility.value > 23 {
            problems.error(Place::of(facility), format!("`{}` is not between 0 and 23", facility.value));
        }
        facility.value
    });
    let format = format(raw.format.as_ref(), problems);
    let server = problems.read(&raw.server, |text| {
        let url = values::base_url(&format!("https://{text}"))
            .map_err(|_| format!("`{text}` is not a server: write `host` or `host:port`"))?;
        // The port of syslog over TLS, where none is named.
        let port = if text.ends_with(&format!(":{}", url.port)) { url.port } else { 6_514 };
        Ok(BaseUrl { port, ..url })
    })?;
    Some(SinkKind::Syslog { server, format, facility })
}

fn azure_monitor(
    raw: &raw::AzureMonitor,
    credentials: &[Credential],
    problems: &mut Problems,
) -> Option<SinkKind> {
    let name = &raw.credential;
    super::audit::own(name, credentials, problems);
    let segment = |text: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if text.is_empty() || text.len() > 128 || !text.bytes().all(fits) {
            return Err(format!("`{text}` is not an id: letters, digits, `-` and `_`"));
        }
        Ok(text.to_owned())
    };
    let endpoint = problems.read(&raw.endpoint, |text| match values::base_url(text)? {
        url if url.scheme == Scheme::Https => Ok(url),
        _ => Err(format!("`{text}` is not `https`: a token goes there")),
    });
    let stream = match &raw.stream {
        Some(stream) => problems.read(stream, segment)?,
        None => "Custom-AmlGateAudit_CL".to_owned(),
    };
    Some(SinkKind::AzureMonitor {
        rule: problems.read(&raw.rule, segment)?,
        endpoint: endpoint?,
        stream,
        credential: name.value.as_str().into(),
    })
}

fn format(found: Option<&raw::Text>, problems: &mut Problems) -> Format {
    found.and_then(|f| problems.read(f, Format::parse)).unwrap_or_default()
}
