//! Dialling: resolve once, check every address, connect to the checked one, verify the name.

use std::{io, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    ClockSkew, Destination, Protocols, Reach, Scheme, Stream, Trust, TrustError,
    race::{HEAD_START, race},
    resolve::{check_literal, resolve},
    stream::Heeded,
};

/// How outgoing connections are made.
#[derive(Debug, Clone)]
pub struct ConnectorSettings {
    /// The proxy that the gate's own connections go through, if any.
    pub proxy: Option<EgressProxy>,
    /// The time for each address to answer, and for the TLS handshake.
    pub connect_timeout: Duration,
}

impl Default for ConnectorSettings {
    fn default() -> Self {
        Self { proxy: None, connect_timeout: Duration::from_secs(10) }
    }
}

/// An HTTP proxy that is asked to CONNECT.
#[derive(Debug, Clone)]
pub struct EgressProxy {
    /// The proxy's host; any address, because the configuration names it.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Hosts (`vault.corp`), suffixes (`.corp`) and addresses that are dialled directly.
    pub except: Arc<[Box<str>]>,
}

impl EgressProxy {
    fn serves(&self, host: &str) -> bool {
        !self.except.iter().any(|e| {
            e.as_ref() == "*"
                || e.eq_ignore_ascii_case(host)
                || (e.starts_with('.') && host.len() > e.len() && host.to_ascii_lowercase().ends_with(&**e))
        })
    }
}

/// The one that dials. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connector {
    settings: Arc<ConnectorSettings>,
    system: Trust,
    pub(super) skew: Option<Arc<ClockSkew>>,
}

impl Connector {
    /// A connector that believes the system's roots.
    ///
    /// # Errors
    /// [`TrustError`] if the system's roots cannot be read.
    pub fn new(settings: ConnectorSettings) -> Result<Self, TrustError> {
        Ok(Self { settings: Arc::new(settings), system: Trust::new(None)?, skew: None })
    }

    /// The same, which notes what answers say of other clocks.
    #[must_use]
    pub fn noting(self, skew: Arc<ClockSkew>) -> Self {
        Self { skew: Some(skew), ..self }
    }

    /// What answers said of other clocks, if it is noted.
    #[must_use]
    pub const fn skew(&self) -> Option<&Arc<ClockSkew>> {
        self.skew.as_ref()
    }

    /// Connects, with TLS where the scheme says so.
    ///
    /// # Errors
    /// `TimedOut`, `PermissionDenied` for a forbidden address, or what the system or TLS says.
    pub async fn dial(&self, to: &Destination, protocols: Protocols) -> io::Result<Stream> {
        if to.scheme == Scheme::Http && to.address.is_none() && to.reach == Reach::Public {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("`{to}` would be plaintext over the internet: use `https`"),
            ));
        }
        let stream = self.tunnel(to).await?;
        let peer = stream.peer_addr()?;
        let stream = Heeded::new(stream, protocols);
        match to.scheme {
            Scheme::Http => Ok(Stream::plain(stream, peer)),
            Scheme::Https => {
                let trust = to.trust.as_ref().unwrap_or(&self.system);
                let name = ServerName::try_from(to.host.to_string()).map_err(|_| {
                    io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` is not a name", to.host))
                })?;
                let connector = TlsConnector::from(trust.config(protocols));
                Ok(Stream::tls(
                    within(self.settings.connect_timeout, connector.connect(name, stream)).await?,
                    peer,
                ))
            }
        }
    }

    /// Connects without TLS of the gate's own, for bytes that pass untouched.
    ///
    /// # Errors
    /// As [`Self::dial`].
    pub async fn tunnel(&self, to: &Destination) -> io::Result<TcpStream> {
        let limit = self.settings.connect_timeout;
        let stream = match &self.settings.proxy {
            Some(proxy) if to.address.is_none() && to.reach != Reach::Loopback && proxy.serves(&to.host) => {
                check_literal(to)?;
                within(limit, through(proxy, to)).await?
            }
            Some(_) | None => self.direct(to).await?,
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn direct(&self, to: &Destination) -> io::Result<TcpStream> {
        let limit = self.settings.connect_timeout;
        let candidates = match to.address {
            Some(address) => vec![address],
            None => within(limit, resolve(to)).await?,
        };
        race(candidates, HEAD_START, |address| within(limit, TcpStream::connect(address))).await
    }
}

/// Asks the egress proxy for a tunnel.
async fn through(proxy: &EgressProxy, to: &Destination) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((&*proxy.host, proxy.port)).await?;
    let host = if to.host.contains(':') { format!("[{}]", to.host) } else { to.host.to_string() };
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n", port = to.port);
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(256);
    // Byte by byte, so that nothing behind the head is taken from the tunnel; bounded.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= 8 << 10 {
            return Err(io::Error::other("the egress proxy's answer to CONNECT has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    let status = head.split(|b| b.is_ascii_whitespace()).nth(1).unwrap_or_default();
    if status.len() != 3 || !status.starts_with(b"2") {
        return Err(io::Error::other(format!(
            "the egress proxy `{}:{}` refuses to connect to `{host}`: {}",
            proxy.host,
            proxy.port,
            String::from_utf8_lossy(status)
        )));
    }
    Ok(stream)
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector() -> Connector {
        Connector::new(ConnectorSettings::default()).unwrap()
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_refused_with_the_mend() {
        let error =
            connector().dial(&Destination::https("localhost", 443), Protocols::Http1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("`address`"), "{error}");
    }

    #[tokio::test]
    async fn the_metadata_service_is_refused_by_number() {
        for host in ["169.254.169.254", "::ffff:169.254.169.254", "168.63.129.16"] {
            let private = Destination { reach: Reach::Private, ..Destination::https(host, 443) };
            let error = connector().dial(&private, Protocols::Http1).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{host}");
        }
    }

    #[tokio::test]
    async fn nothing_goes_out_in_plaintext_over_the_internet() {
        let public = Destination { scheme: Scheme::Http, ..Destination::https("example.com", 80) };
        let error = connector().dial(&public, Protocols::Http1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("use `https`"), "{error}");
    }

    #[tokio::test]
    async fn the_egress_proxy_is_not_asked_for_the_metadata_service() {
        let proxy = EgressProxy { host: "127.0.0.1".into(), port: 1, except: [].into() };
        let connector =
            Connector::new(ConnectorSettings { proxy: Some(proxy), ..Default::default() }).unwrap();
        let metadata = Destination::https("169.254.169.254", 443);
        let error = connector.dial(&metadata, Protocols::Http1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn the_egress_proxy_is_asked_for_a_tunnel_and_its_refusal_is_said() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 1024];
            let read = stream.read(&mut seen).await.unwrap();
            stream.write_all(b"HTTP/1.1 403 No\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&seen[..read]).into_owned()
        });
        let egress = EgressProxy { host: "127.0.0.1".into(), port, except: [".corp".into()].into() };
        assert!(!egress.serves("vault.corp") && egress.serves("corp"));
        let settings = ConnectorSettings { proxy: Some(egress), ..ConnectorSettings::default() };
        let connector = Connector::new(settings).unwrap();
        let error = connector
            .dial(&Destination::https("management.azure.com", 443), Protocols::Http1)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("403"), "{error}");
        assert!(proxy.await.unwrap().starts_with(
            "CONNECT management.azure.com:443 HTTP/1.1\r\nHost: management.azure.com:443\r\n\r\n"
        ));
    }
}
