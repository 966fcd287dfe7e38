//! Sinks as the configuration says: each with its secrets, its trust and the gate's one way out.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use secrecy::ExposeSecret as _;

use super::{StartError, build, secrets::Secrets};
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
        settings::SinkKind,
        values::{self, BaseUrl},
    },
    credentials::{Credentials, ServicePurpose},
    net::{Connector, Destination, Reach, Scheme},
    time::SharedClock,
};

/// What sinks are made with.
pub(super) struct Workshop<'w> {
    pub connector: &'w Connector,
    pub credentials: &'w Credentials,
    pub secrets: &'w mut Secrets,
    pub clock: &'w SharedClock,
}

/// The exporters of a configuration, not yet running.
pub(super) async fn exporters(
    settings: &Settings,
    workshop: &mut Workshop<'_>,
    journal: &Journal,
) -> Result<Vec<Exporter>, StartError> {
    let mut exporters = Vec::new();
    for found in &settings.audit.sinks {
        let sink = workshop.sink(found).await?;
        let settings = ExporterSettings {
            name: Arc::clone(&found.name),
            origin: settings.audit.name.as_str().into(),
            directory: settings.audit.directory.clone(),
            start: found.start,
        };
        let opened = Exporter::open(settings, sink, journal.clone(), Arc::clone(workshop.clock));
        let failed = |source| StartError::Cursor { sink: found.name.to_string(), source };
        exporters.push(opened.map_err(failed)?);
    }
    Ok(exporters)
}

impl Workshop<'_> {
    /// The sink that the configuration describes.
    pub(super) async fn sink(&mut self, found: &settings::Sink) -> Result<Box<dyn Sink>, StartError> {
        let name = &*found.name;
        let unfit = |why: String| StartError::Sink { name: name.to_owned(), why };
        Ok(match &found.kind {
            SinkKind::File { path, format } => Box::new(FileSink::new(path.clone(), *format)),
            SinkKind::Webhook { url, target, secret, batch } => {
                let key = match secret {
                    Some(reference) => {
                        let secret = self.secrets.read(reference, &of(name, "secret")).await?;
                        Some(WebhookKey::new(&secret).map_err(|error| unfit(error.to_string()))?)
                    }
                    None => None,
                };
                Box::new(Webhook::new(self.receiver(found, url, target)?, key, *batch))
            }
            SinkKind::Syslog { server, format, facility } => {
                let to = to(found, server)?;
                Box::new(Syslog::new(self.connector.clone(), to, *format, *facility))
            }
            SinkKind::Splunk { url, token, index, source_type, acknowledged } => {
                let settings = SplunkSettings {
                    token: self.secrets.read(token, &of(name, "token")).await?,
                    index: index.clone(),
                    source_type: source_type.clone(),
                    acknowledged: *acknowledged,
                };
                Box::new(Splunk::new(self.receiver(found, url, "/")?, settings))
            }
            SinkKind::Otlp { url, target, headers } => {
                let mut sent = HeaderMap::new();
                for (header, reference) in headers {
                    let secret = self.secrets.read(reference, &of(name, header.as_str())).await?;
                    let value = HeaderValue::try_from(secret.expose_secret());
                    let mut value = value
                        .map_err(|_| unfit(format!("what is to stand in `{header}` cannot be a header")))?;
                    value.set_sensitive(true);
                    sent.insert(header.clone(), value);
                }
                Box::new(Otlp::new(self.receiver(found, url, target)?, sent))
            }
            SinkKind::AzureMonitor { endpoint, rule, stream, credential } => {
                let ingest = Azure {
                    credentials: self.credentials.clone(),
                    credential: Arc::clone(credential),
                    to: to(found, endpoint)?,
                };
                let ingestion = Ingestion { rule: rule.clone(), stream: stream.clone() };
                Box::new(AzureMonitor::new(Box::new(ingest), ingestion, Arc::clone(self.clock)))
            }
            SinkKind::ApplicationInsights { connection_string } => {
                let what = of(name, "connection_string");
                let text = self.secrets.read(connection_string, &what).await?;
                let connection =
                    Connection::parse(text.expose_secret()).map_err(|why| unfit(why.to_owned()))?;
                let endpoint = values::base_url(&connection.endpoint)
                    .map_err(|_| unfit("its `IngestionEndpoint` is not a base URL".to_owned()))?;
                let receiver = self.receiver(found, &endpoint, "/v2.1/track")?;
                Box::new(ApplicationInsights::new(receiver, connection.instrumentation_key))
            }
        })
    }

    fn receiver(&self, found: &settings::Sink, url: &BaseUrl, target: &str) -> Result<Receiver, StartError> {
        let to = to(found, url)?;
        Ok(Receiver::new(self.connector.clone(), to, target.to_owned(), Arc::clone(self.clock)))
    }
}

fn of(sink: &str, what: &str) -> String {
    format!("`{what}` of the sink `{sink}`")
}

/// Where a sink is. Collectors stand in private networks as a rule, so their addresses are not
/// forbidden; this machine's own and the metadata service's are, unless named.
fn to(found: &settings::Sink, url: &BaseUrl) -> Result<Destination, StartError> {
    let mut to = build::destination(url).at(found.address);
    if to.reach == Reach::Public && to.scheme == Scheme::Https {
        to.reach = Reach::Private;
    }
    build::trusting(to, &found.name, found.trust.as_ref())
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
