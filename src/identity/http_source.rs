//! Issuers' documents over HTTP, through the one connector.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};

use super::{
    IssuerSettings, MAX_DOCUMENT,
    discovery::{Fetching, KeySource, SourceError},
};
use crate::{
    net::{Connector, Destination, FetchLimits, Reach, Trust},
    secrets::{self, ExposeSecret as _},
};

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

    /// A document with keys, by the token that the settings name for it. The token goes to the hosts
    /// that the settings name and to no other, and is read anew each time, because it is renewed.
    async fn keys(&self, uri: &Uri, issuer: &IssuerSettings) -> Result<Bytes, String> {
        let Some(file) = &issuer.keys_token else {
            return self.fetch(uri, issuer, None).await.map_err(|why| match why {
                Unfetched::Answered(status) if is_refusal(status) => {
                    format!("{why}: if its keys are told to the bearer of a token alone, as a cluster's are, name that in `keys_token`")
                }
                Unfetched::Answered(_) | Unfetched::Redirected(_) | Unfetched::Failed(_) => why.to_string(),
            });
        };
        if !named(uri, issuer, Compared::Scheme) {
            return self.fetch(uri, issuer, None).await.map_err(|why| {
                format!("{why}; the token of `keys_token` goes only to hosts that the configuration names: say in `jwks_uri` by which of those the keys are reached")
            });
        }
        let token = secrets::from_projected(file).map_err(|error| error.with_cause())?;
        self.fetch(uri, issuer, Some(token.expose_secret())).await.map_err(|why| match why {
            Unfetched::Answered(StatusCode::UNAUTHORIZED) => {
                format!("{why}: it does not accept the token of `{}`", file.display())
            }
            Unfetched::Answered(StatusCode::FORBIDDEN) => format!(
                "{why}: the holder of the token of `{}` may not read its keys; in Kubernetes bind the ClusterRole `system:service-account-issuer-discovery` to it",
                file.display()
            ),
            Unfetched::Answered(_) | Unfetched::Redirected(_) | Unfetched::Failed(_) => why.to_string(),
        })
    }

    async fn fetch(
        &self,
        uri: &Uri,
        issuer: &IssuerSettings,
        bearer: Option<&str>,
    ) -> Result<Bytes, Unfetched> {
        let to = destination(uri, issuer)?;
        let mut request = Request::get(uri.clone()).body(Bytes::new()).map_err(|e| e.to_string())?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(token) = bearer {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| "the token does not fit into a header".to_owned())?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let limits = FetchLimits { body: MAX_DOCUMENT, time: TIME };
        let answer = self.connector.send(&to, request, limits).await.map_err(|e| e.to_string())?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status if status.is_redirection() => Err(Unfetched::Redirected(status)),
            status => Err(Unfetched::Answered(status)),
        }
    }
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
enum Unfetched {
    /// The issuer says something else than 200.
    #[error("it answered {0}")]
    Answered(StatusCode),
    /// It sends the gate elsewhere.
    #[error("it answered {0}, and redirects are not followed")]
    Redirected(StatusCode),
    /// It says nothing that can be used.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for Unfetched {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// What must be the same beside host and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    Nothing,
    Scheme,
}

/// Whether the settings themselves name the host of `uri`.
fn named(uri: &Uri, issuer: &IssuerSettings, compared: Compared) -> bool {
    let Some(to) = Destination::of(uri) else { return false };
    issuer.forms().iter().any(|form| {
        Destination::of(form.keys.uri()).is_some_and(|named| {
            named.host == to.host
                && named.port == to.port
                && (compared == Compared::Nothing || named.scheme == to.scheme)
        })
    })
}

/// Where a document's host is dialled.
pub(super) fn destination(uri: &Uri, issuer: &IssuerSettings) -> Result<Destination, String> {
    let mut to = Destination::of(uri).ok_or("it is no URL that can be fetched")?;
    let trust = issuer.trust.as_deref().map(|pem| Trust::new(Some(pem))).transpose();
    to.trust = trust.map_err(|e| e.to_string())?;
    let configured = named(uri, issuer, Compared::Nothing);
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
            self.keys(uri, issuer).await.map_err(|why| SourceError { uri: uri.to_string(), why })
        })
    }

    fn get_as<'a>(&'a self, uri: &'a Uri, issuer: &'a IssuerSettings, token: &'a str) -> Fetching<'a> {
        Box::pin(async move {
            self.fetch(uri, issuer, Some(token))
                .await
                .map_err(|why| SourceError { uri: uri.to_string(), why: why.to_string() })
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

    /// What was sent to a server that answers every request so, and what the source said.
    async fn asked(
        change: impl FnOnce(&mut IssuerSettings),
        status: &'static str,
    ) -> (String, Result<Bytes, String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let read = stream.read(&mut seen).await.unwrap();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&seen[..read]).into_owned()
        });
        let mut settings = issuer(&url);
        change(&mut settings);
        let source = HttpKeySource::new(Connector::new(ConnectorSettings::default()).unwrap());
        let uri: Uri = format!("{url}/jwks").parse().unwrap();
        let said = source.get(&uri, &settings).await.map_err(|e| e.to_string());
        (server.await.unwrap(), said)
    }

    #[tokio::test]
    async fn the_token_of_the_keys_goes_to_the_host_that_the_settings_name_as_it_stands_then() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let with = |settings: &mut IssuerSettings| settings.keys_token = Some(file.as_path().into());
        for token in ["first", "second\n"] {
            std::fs::write(&file, token).unwrap();
            let (sent, said) = asked(with, "200 OK").await;
            assert!(sent.contains(&format!("authorization: Bearer {}\r\n", token.trim_end())), "{sent}");
            assert_eq!(said.unwrap(), "{}");
        }
        let (sent, _) = asked(|_| {}, "200 OK").await;
        assert!(!sent.contains("authorization"), "{sent}");
    }

    #[tokio::test]
    async fn a_refusal_says_the_mend_and_nothing_of_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "sesame").unwrap();
        let with = |settings: &mut IssuerSettings| settings.keys_token = Some(file.as_path().into());
        for (status, why) in [
            ("401 Unauthorized", "does not accept the token of"),
            ("403 Forbidden", "`system:service-account-issuer-discovery`"),
            ("500 Oops", "it answered 500"),
        ] {
            let said = asked(with, status).await.1.unwrap_err();
            assert!(said.contains(why) && !said.contains("sesame"), "{said}");
        }
        for status in ["401 Unauthorized", "403 Forbidden"] {
            let said = asked(|_| {}, status).await.1.unwrap_err();
            assert!(said.contains("`keys_token`"), "{said}");
        }
        // The file is gone: nothing is asked without it.
        let mut settings = issuer("http://127.0.0.1:9");
        settings.keys_token = Some(folder.path().join("gone").into());
        let source = HttpKeySource::new(Connector::new(ConnectorSettings::default()).unwrap());
        let uri = "http://127.0.0.1:9/jwks".parse().unwrap();
        let said = source.get(&uri, &settings).await.unwrap_err().to_string();
        assert!(said.contains("gone` cannot be read: No such file"), "{said}");
    }

    #[tokio::test]
    async fn a_host_that_only_the_discovery_document_names_never_sees_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "sesame").unwrap();
        let mut settings = issuer("https://kubernetes.default.svc");
        settings.keys_token = Some(file.as_path().into());
        let goes_to = |uri: &str| named(&uri.parse().unwrap(), &settings, Compared::Scheme);
        assert!(goes_to("https://kubernetes.default.svc/openid/v1/jwks"));
        for other in [
            "http://kubernetes.default.svc:443/openid/v1/jwks",
            "https://kubernetes.default.svc:6443/openid/v1/jwks",
            "https://kubernetes.default.svc.evil.example/openid/v1/jwks",
            "https://10.96.0.1/openid/v1/jwks",
            "/openid/v1/jwks",
        ] {
            assert!(!goes_to(other), "{other}");
        }
        let source = HttpKeySource::new(Connector::new(ConnectorSettings::default()).unwrap());
        let uri = "https://10.96.0.1:6443/openid/v1/jwks".parse().unwrap();
        let said = source.get(&uri, &settings).await.unwrap_err().to_string();
        assert!(said.contains("say in `jwks_uri`") && !said.contains("sesame"), "{said}");
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
