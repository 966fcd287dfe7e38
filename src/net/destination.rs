//! Where to: a name to verify, and how its address is found.

use std::{fmt, net::SocketAddr, sync::Arc};

use super::Trust;

/// The two schemes that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plaintext: loopback and metadata services only.
    Http,
    /// TLS.
    Https,
}

/// Which addresses a name may resolve to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reach {
    /// Public ones only.
    #[default]
    Public,
    /// Private ones too, but still no loopback, link-local or metadata address: a private endpoint.
    Private,
    /// Loopback alone: what runs on this machine, by the configuration's own word.
    Loopback,
}

/// One place to connect to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Plaintext or TLS.
    pub scheme: Scheme,
    /// The name: what TLS checks and `Host` says.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// Connect here instead of resolving the name; then no range is forbidden, because the
    /// configuration names the address itself.
    pub address: Option<SocketAddr>,
    /// Which addresses the name may resolve to.
    pub reach: Reach,
    /// Roots; the system's if none.
    pub trust: Option<Trust>,
}

impl Destination {
    /// A public TLS destination with the system's roots.
    #[must_use]
    pub fn https(host: &str, port: u16) -> Self {
        Self {
            scheme: Scheme::Https,
            host: host.to_ascii_lowercase().into(),
            port,
            address: None,
            reach: Reach::Public,
            trust: None,
        }
    }

    /// From a URI's scheme, host and port; `localhost` and loopback addresses get
    /// [`Reach::Loopback`]. `None` without a host or with another scheme.
    #[must_use]
    pub fn of(uri: &http::Uri) -> Option<Self> {
        let (scheme, port) = match uri.scheme_str()? {
            "https" => (Scheme::Https, 443),
            "http" => (Scheme::Http, 80),
            _ => return None,
        };
        let host = uri.host()?.trim_matches(['[', ']']);
        let loopback =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        Some(Self {
            scheme,
            reach: if loopback { Reach::Loopback } else { Reach::Public },
            ..Self::https(host, uri.port_u16().unwrap_or(port))
        })
    }

    /// The same, dialled at a fixed address.
    #[must_use]
    pub fn at(mut self, address: Option<SocketAddr>) -> Self {
        self.address = address;
        self
    }

    /// The same, with other roots.
    #[must_use]
    pub fn trusting(mut self, trust: Option<Trust>) -> Self {
        self.trust = trust;
        self
    }

    /// What `Host` and `:authority` say: the port only where it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        match (self.scheme, self.port) {
            (Scheme::Https, 443) | (Scheme::Http, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}", self.authority())
    }
}
