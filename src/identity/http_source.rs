//! Issuers' documents over HTTP, through the one connector.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};

use super::{
    IssuerSettings, MAX_DOCUMENT,
    discovery::{Fetching, KeySource, SourceError},
};
use crate::net::{Connector, Destination, FetchLimits, Reach, Trust};

/// The longest fetch of one document.
const TIME: Duration = Duration::from_secs(5);

/// Fetches with GET over the gate's connector: bounded, verified, no redirect followed.
///
/// The hosts that the settings name may be private or, by their own word, on this machine. A host
/// that only a discovery document names must be public: no issuer steers the gate into its own
/// network.
#[derive(Debug, Clone)]
pub struct HttpKeySource {
    connector: Connector,
}

impl HttpKeySource {
    /// A source that dials with `connector`.
    #[must_use]
    pub fn new(connector: Connector) -> Self {
        Self { connector }
    }

    async fn fetch(&self, uri: &Uri, issuer: &IssuerSettings, bearer: Option<&str>) -> Result<Bytes, String> {
        let to = destination(uri, issuer)?;
        let mut request = Request::get(uri.clone()).body(Bytes::new()).map_err(|e| e.to_string())?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(token) = bearer {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| "the token does not fit into a header")?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let limits = FetchLimits { body: MAX_DOCUMENT, time: TIME };
        let answer = self.connector.send(&to, request, limits).await.map_err(|e| e.to_string())?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status if status.is_redirection() => {
                Err(format!("it answered {status}, and redirects are not followed"))
            }
            status => Err(format!("it answered {status}")),
        }
    }
}

/// Where a document's host is dialled.
pub(super) fn destination(uri: &Uri, issuer: &IssuerSettings) -> Result<Destination, String> {
    let mut to = Destination::of(uri).ok_or("it is no URL that can be fetched")?;
    let trust = issuer.trust.as_deref().map(|pem| Trust::new(Some(pem))).transpose();
    to.trust = trust.map_err(|e| e.to_string())?;
    let configured = issuer.forms().iter().any(|form| {
        Destination::of(form.keys.uri()).is_some_and(|named| named.host == to.host && named.port == to.port)
    });
    match (configured, to.reach) {
        (true, Reach::Loopback) => {}
        (true, Reach::Public | Reach::Private) => to.reach = Reach::Private,
        (false, _) => to.reach = Reach::Public,
    }
    if configured {
        to.address = issuer.address;
    }
    Ok(to)
}

impl KeySource for HttpKeySource {
    fn get<'a>(&'a self, uri: &'a Uri, issuer: &'a IssuerSettings) -> Fetching<'a> {
        Box::pin(async move {
            self.fetch(uri, issuer, None).await.map_err(|why| SourceError { uri: uri.to_string(), why })
        })
    }

    fn get_as<'a>(&'a self, uri: &'a Uri, issuer: &'a IssuerSettings, token: &'a str) -> Fetching<'a> {
        Box::pin(async move {
            self.fetch(uri, issuer, Some(token))
                .await
                .map_err(|why| SourceError { uri: uri.to_string(), why })
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::net::ConnectorSettings;

    fn issuer(url: &str) -> IssuerSettings {
        IssuerSettings::oidc("idp", url, &["amlgate"]).unwrap()
    }

    async fn answered(answer: String) -> Result<Bytes, String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 2048];
            let read = stream.read(&mut seen).await.unwrap();
            assert!(seen[..read].starts_with(b"GET /jwks HTTP/1.1\r\n"));
            // The reader may hang up at its bound.
            drop(stream.write_all(answer.as_bytes()).await);
        });
        let source = HttpKeySource::new(Connector::new(ConnectorSettings::default()).unwrap());
        let uri: Uri = format!("{url}/jwks").parse().unwrap();
        source.get(&uri, &issuer(&url)).await.map_err(|e| e.why)
    }

    #[tokio::test]
    async fn a_document_comes_from_a_200_only() {
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"keys\":[]}";
        assert_eq!(answered(ok.to_owned()).await.unwrap(), "{\"keys\":[]}");
        for (status, why) in [
            ("302 Found\r\nlocation: http://127.0.0.1:1/", "redirects are not followed"),
            ("404 Not Found", "404"),
            ("500 Oops", "500"),
            ("204 No Content", "204"),
        ] {
            let said = answered(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await.unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[tokio::test]
    async fn a_document_without_end_is_cut() {
        let body = "x".repeat(MAX_DOCUMENT + 1);
        let said = answered(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
            .await
            .unwrap_err();
        assert!(said.contains("larger than"), "{said}");
    }

    #[test]
    fn a_host_that_only_a_document_names_must_be_public() {
        let reach = |uri: &str, settings: &IssuerSettings| {
            destination(&uri.parse().unwrap(), settings).unwrap().reach
        };
        let corporate = issuer("https://sso.corp");
        assert_eq!(reach("https://sso.corp/jwks", &corporate), Reach::Private);
        assert_eq!(reach("https://keys.corp/jwks", &corporate), Reach::Public);
        assert_eq!(reach("https://sso.corp:8443/jwks", &corporate), Reach::Public);
        assert_eq!(reach("https://127.0.0.1/jwks", &corporate), Reach::Public);
        assert_eq!(reach("https://169.254.169.254/jwks", &corporate), Reach::Public);
        let local = issuer("http://127.0.0.1:9000");
        assert_eq!(reach("http://127.0.0.1:9000/jwks", &local), Reach::Loopback);
        assert_eq!(reach("http://127.0.0.1:9001/jwks", &local), Reach::Public);
    }

    #[test]
    fn the_fixed_address_is_the_configured_host_s_alone() {
        let mut settings = issuer("https://sso.corp");
        settings.address = Some("10.0.0.4:8443".parse().unwrap());
        let to = |uri: &str| destination(&uri.parse().unwrap(), &settings).unwrap();
        assert_eq!(to("https://sso.corp/jwks").address, settings.address);
        assert_eq!(&*to("https://sso.corp/jwks").host, "sso.corp");
        assert_eq!(to("https://keys.corp/jwks").address, None);
    }
}
