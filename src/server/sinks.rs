//! Sinks as the configuration says: each with its secrets, its trust and the gate's one way out.

mod renewal;

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use secrecy::{ExposeSecret as _, SecretString};

pub(super) use self::renewal::Renewal;
use super::{
    StartError, build,
    secrets::{self, Secrets},
};
use crate::{
    audit::{
        Journal,
        sinks::{
            ApplicationInsights, AzureMonitor, Connection, Exporter, ExporterSettings, FileSink, Ingest,
            Ingestion, Otlp, Pending, Receiver, Sink, Splunk, SplunkSettings, Syslog, Webhook, WebhookKey,
        },
    },
    config::{
        Settings, settings,
        settings::{Hook, Reference, SinkKind},
        values::{self, BaseUrl},
    },
    credentials::{Credentials, ServicePurpose},
    gates::Gates,
    net::{Connector, Destination, Reach, Scheme},
    notify::{Channel, Messenger},
    time::SharedClock,
};

/// What sinks are made with.
pub(super) struct Workshop<'w> {
    pub connector: &'w Connector,
    pub credentials: &'w Credentials,
    pub secrets: &'w mut Secrets,
    /// Where channels look up what they tell of.
    pub gates: &'w Arc<Gates>,
    pub clock: &'w SharedClock,
}

/// What a sink is reached with besides what the configuration says: read where it lies.
pub(super) struct Material {
    /// In the order of [`references`].
    secrets: Vec<SecretString>,
    /// PEM.
    trust: Option<Arc<[u8]>>,
    /// SHA-256 of it all.
    digest: [u8; 32],
}

/// The secrets of a sink, each with what it is called there.
fn references(kind: &SinkKind) -> Vec<(&str, &Reference)> {
    match kind {
        SinkKind::File { .. } | SinkKind::Syslog { .. } | SinkKind::AzureMonitor { .. } => Vec::new(),
        SinkKind::Webhook { secret, .. } => secret.iter().map(|secret| ("secret", secret)).collect(),
        SinkKind::Splunk { token, .. } => vec![("token", token)],
        SinkKind::Otlp { headers, .. } => {
            headers.iter().map(|(header, reference)| (header.as_str(), reference)).collect()
        }
        SinkKind::ApplicationInsights { connection_string } => {
            vec![("connection_string", connection_string)]
        }
        SinkKind::Channel { hook: Hook::Slack { url } | Hook::Teams { url }, .. } => vec![("url", url)],
        SinkKind::Channel { hook: Hook::Webhook { secret, .. }, .. } => vec![("secret", secret)],
    }
}

/// The exporters of a configuration, those of channels last, not yet running; and what renews their sinks while they run.
pub(super) async fn exporters(
    settings: &Settings,
    workshop: &mut Workshop<'_>,
    journal: &Journal,
) -> Result<(Vec<Exporter>, Renewal), StartError> {
    let (mut exporters, mut renewal) = (Vec::new(), Renewal::new(workshop.connector.clone()));
    for found in settings.audit.sinks.iter().chain(&settings.notify) {
        let material = workshop.material(found).await?;
        let sink = workshop.sink(found, &material)?;
        let settings = ExporterSettings {
            name: Arc::clone(&found.name),
            origin: settings.audit.name.as_str().into(),
            directory: settings.audit.directory.clone(),
            start: found.start,
        };
        let opened = Exporter::open(settings, sink, journal.clone(), Arc::clone(workshop.clock));
        let failed = |source| StartError::Cursor { sink: found.name.to_string(), source };
        let exporter = opened.map_err(failed)?;
        renewal.follow(found, &exporter, &material);
        exporters.push(exporter);
    }
    Ok((exporters, renewal))
}

impl Workshop<'_> {
    /// What a sink is reached with, as it lies there now.
    pub(super) async fn material(&mut self, found: &settings::Sink) -> Result<Material, StartError> {
        let mut read = Vec::new();
        for (what, reference) in references(&found.kind) {
            let what = format!("`{what}` of the sink `{}`", found.name);
            read.push(self.secrets.read(reference, &what).await?);
        }
        let trust: Option<Arc<[u8]>> = match &found.trust {
            Some(path) => Some(secrets::file(path)?.into()),
            None => None,
        };
        let mut context = Context::new(&SHA256);
        let texts = read.iter().map(|secret| secret.expose_secret().as_bytes());
        for part in texts.chain(trust.as_deref()) {
            // Lengths first, so that no two lists of parts read the same.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Ok(Material { secrets: read, trust, digest })
    }

    /// The sink that the configuration describes.
    pub(super) fn sink(
        &self,
        found: &settings::Sink,
        material: &Material,
    ) -> Result<Box<dyn Sink>, StartError> {
        let unfit = |why: String| StartError::Sink { name: found.name.to_string(), why };
        let to = |url: &BaseUrl| to(found, material, url);
        let receiver = |url: &BaseUrl, target: &str| {
            let (connector, clock) = (self.connector.clone(), Arc::clone(self.clock));
            to(url).map(|to| Receiver::new(connector, to, target.to_owned(), clock))
        };
        let first = || material.secrets.first().cloned().unwrap_or_default();
        Ok(match &found.kind {
            SinkKind::File { path, format } => Box::new(FileSink::new(path.clone(), *format)),
            SinkKind::Webhook { url, target, secret, batch } => {
                let key = secret.as_ref().map(|_| WebhookKey::new(&first())).transpose();
                let key = key.map_err(|error| unfit(error.to_string()))?;
                Box::new(Webhook::new(receiver(url, target)?, key, *batch))
            }
            SinkKind::Syslog { server, format, facility } => {
                Box::new(Syslog::new(self.connector.clone(), to(server)?, *format, *facility))
            }
            SinkKind::Splunk { url, index, source_type, acknowledged, .. } => {
                let settings = SplunkSettings {
                    token: first(),
                    index: index.clone(),
                    source_type: source_type.clone(),
                    acknowledged: *acknowledged,
                };
                Box::new(Splunk::new(receiver(url, "/")?, settings))
            }
            SinkKind::Otlp { url, target, headers } => {
                let mut sent = HeaderMap::new();
                for ((header, _), secret) in headers.iter().zip(&material.secrets) {
                    let value = HeaderValue::try_from(secret.expose_secret());
                    let mut value = value
                        .map_err(|_| unfit(format!("what is to stand in `{header}` cannot be a header")))?;
                    value.set_sensitive(true);
                    sent.insert(header.clone(), value);
                }
                Box::new(Otlp::new(receiver(url, target)?, sent))
            }
            SinkKind::AzureMonitor { endpoint, rule, stream, credential } => {
                let ingest = Azure {
                    credentials: self.credentials.clone(),
                    credential: Arc::clone(credential),
                    to: to(endpoint)?,
                };
                let ingestion = Ingestion { rule: rule.clone(), stream: stream.clone() };
                Box::new(AzureMonitor::new(Box::new(ingest), ingestion, Arc::clone(self.clock)))
            }
            SinkKind::ApplicationInsights { .. } => {
                let connection =
                    Connection::parse(first().expose_secret()).map_err(|why| unfit(why.to_owned()))?;
                let endpoint = values::base_url(&connection.endpoint)
                    .map_err(|_| unfit("its `IngestionEndpoint` is not a base URL".to_owned()))?;
                let receiver = receiver(&endpoint, "/v2.1/track")?;
                Box::new(ApplicationInsights::new(receiver, connection.instrumentation_key))
            }
            SinkKind::Channel { hook, filter } => {
                let secret_url = || {
                    // It is the secret, so that nothing of it is said.
                    let url = values::url(first().expose_secret().trim());
                    url.map_err(|_| unfit("its URL is none: it begins with `https://`".to_owned()))
                };
                let (messenger, receiver) = match hook {
                    Hook::Slack { .. } => {
                        let (url, target) = secret_url()?;
                        (Messenger::Slack, receiver(&url, &target)?)
                    }
                    Hook::Teams { .. } => {
                        let (url, target) = secret_url()?;
                        (Messenger::Teams, receiver(&url, &target)?)
                    }
                    Hook::Webhook { url, target, .. } => {
                        let key = WebhookKey::new(&first()).map_err(|error| unfit(error.to_string()))?;
                        (Messenger::Webhook(Box::new(key)), receiver(url, target)?)
                    }
                };
                let (name, gates) = (Arc::clone(&found.name), Arc::clone(self.gates));
                Box::new(Channel::new(name, messenger, receiver, filter.clone(), gates))
            }
        })
    }
}

/// Where a sink is. Collectors stand in private networks as a rule, so their addresses are not
/// forbidden; this machine's own and the metadata service's are, unless named.
fn to(found: &settings::Sink, material: &Material, url: &BaseUrl) -> Result<Destination, StartError> {
    let mut to = build::destination(url).at(found.address);
    if to.reach == Reach::Public && to.scheme == Scheme::Https {
        to.reach = Reach::Private;
    }
    build::trusting(to, &found.name, material.trust.as_ref())
}

/// Logs Ingestion with a token of the gate's own.
struct Azure {
    credentials: Credentials,
    credential: Arc<str>,
    to: Destination,
}

impl Ingest for Azure {
    fn post(&self, path: String, body: Bytes) -> Pending<'_, Result<Response<Bytes>, String>> {
        Box::pin(async move {
            let token = self.credentials.service(ServicePurpose::LogsIngestion, &self.credential).await;
            let token = token.map_err(|error| error.to_string())?;
            let request = Request::post(path).header(header::CONTENT_TYPE, "application/json").body(body);
            let request = request.map_err(|error| error.to_string())?;
            self.credentials.call(&token, &self.to, request).await.map_err(|error| error.to_string())
        })
    }
}
