//! Values inside strings: durations, sizes, addresses, base URLs. Each says what it wanted.

use std::{net::SocketAddr, time::Duration};

/// A base URL: scheme, host, port; no path, query or user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// In lower case; an IPv6 address without its brackets.
    pub host: String,
    /// As written, or the scheme's own.
    pub port: u16,
}

/// The two schemes that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plaintext: loopback only, or an outgoing proxy.
    Http,
    /// TLS.
    Https,
}

/// `500ms`, `10s`, `4m`, `2h`, `1d`.
///
/// # Errors
/// Words that say what is wanted.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wanted = || {
        format!(
            "`{text}` is not a duration: write a whole number and a unit, as in `500ms`, `10s`, `5m`, `12h`"
        )
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wanted()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wanted)
}

/// `4MiB`, `64KiB`, `1GiB`, or plain bytes.
///
/// # Errors
/// Words that say what is wanted.
pub fn size(text: &str) -> Result<usize, String> {
    let wanted = || format!("`{text}` is not a size: write a whole number and a unit, as in `64KiB`, `4MiB`");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: usize = number.parse().map_err(|_| wanted())?;
    let unit = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wanted()),
    };
    number.checked_mul(unit).ok_or_else(wanted)
}

/// `[::]:8443`, `127.0.0.1:0`, `localhost:8443`.
///
/// # Errors
/// Words that say what is wanted.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let text =
        text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| {
        format!("`{text}` is not an address: write an IP address and a port, as in `[::]:8443` or `127.0.0.1:8444`")
    })
}

/// `https://host[:port]`, nothing behind it.
///
/// # Errors
/// Words that say what is wanted.
pub fn base_url(text: &str) -> Result<BaseUrl, String> {
    let wanted = |why: &str| format!("`{text}` {why}: write `https://host` or `https://host:port`");
    let uri: http::Uri = text.parse().map_err(|_| wanted("is not a URL"))?;
    let (scheme, port) = match uri.scheme_str() {
        Some("https") => (Scheme::Https, 443),
        Some("http") => (Scheme::Http, 80),
        _ => return Err(wanted("has no scheme that is spoken here")),
    };
    let authority = uri.authority().ok_or_else(|| wanted("names no host"))?;
    if authority.as_str().contains('@') {
        return Err(wanted("names a user"));
    }
    if uri.path() != "/" || uri.query().is_some() || text.contains('#') {
        return Err(wanted("has more than a host"));
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    if host.is_empty() {
        return Err(wanted("names no host"));
    }
    Ok(BaseUrl { scheme, host, port: uri.port_u16().unwrap_or(port) })
}

/// A base URL that nobody on the way can read along: `https`, or a loopback address.
///
/// # Errors
/// Words that say what is wanted.
pub fn confidential(text: &str) -> Result<BaseUrl, String> {
    let url = base_url(text)?;
    let loopback =
        url.host == "localhost" || url.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme == Scheme::Http && !loopback {
        return Err(format!("`{text}` would be plaintext: use `https`"));
    }
    Ok(url)
}

/// A URL with a path: its base, which is [`confidential`], and path and query.
///
/// # Errors
/// Words that say what is wanted.
pub fn url(text: &str) -> Result<(BaseUrl, String), String> {
    let wanted = || format!("`{text}` is not a URL: write `https://host/path`");
    let uri: http::Uri = text.parse().map_err(|_| wanted())?;
    let base = match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => confidential(&format!("{scheme}://{authority}"))?,
        _ => return Err(wanted()),
    };
    Ok((base, uri.path_and_query().map_or("/", |path| path.as_str()).to_owned()))
}

impl BaseUrl {
    /// `https://host:port`, the port left out where it is the scheme's own.
    #[must_use]
    pub fn to_text(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.scheme, self.port) {
            (Scheme::Https, 443) => format!("https://{host}"),
            (Scheme::Http, 80) => format!("http://{host}"),
            (Scheme::Https, port) => format!("https://{host}:{port}"),
            (Scheme::Http, port) => format!("http://{host}:{port}"),
        }
    }

    /// The same as a URI.
    #[must_use]
    pub fn to_uri(&self) -> http::Uri {
        self.to_text().parse().unwrap_or_default()
    }
}

/// A name in policies, records and metrics: letters, digits, `-`, `_`, `.`; at most 64.
///
/// # Errors
/// Words that say what is wanted.
pub fn name(text: &str) -> Result<String, String> {
    let clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if text.is_empty() || text.len() > 64 || !clean {
        return Err(format!("`{text}` is not a name: use up to 64 letters, digits, `-`, `_` and `.`"));
    }
    Ok(text.to_owned())
}

/// What stands before the colon of an external id of Gerrit's.
///
/// # Errors
/// Words that say what is wanted.
pub fn scheme(text: &str) -> Result<String, String> {
    name(text).map_err(|_| {
        format!("`{text}` is not the scheme of an external id: write what stands before its `:`, as in `azure-oauth`")
    })
}

/// A tenant's id: a GUID. `common` and `organizations` would accept every tenant of the world.
///
/// # Errors
/// Words that say what is wanted.
pub fn tenant(text: &str) -> Result<String, String> {
    if matches!(text, "common" | "organizations" | "consumers") {
        return Err(format!(
            "`{text}` stands for every tenant: name one tenant by its id, and add an issuer for each further one"
        ));
    }
    match uuid::Uuid::try_parse(text) {
        Ok(id) if text.len() == 36 => Ok(id.hyphenated().to_string()),
        _ => Err(format!(
            "`{text}` is not a tenant's id: it is a GUID, as `az account show --query tenantId` prints it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_their_unit() {
        assert_eq!(duration("12h"), Ok(Duration::from_secs(43_200)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("12").unwrap_err().contains("`12` is not a duration"));
        assert!(duration("99999999999999999999h").is_err());
        assert_eq!(size("4MiB"), Ok(4 << 20));
        assert!(size("4MB").is_err());
    }

    #[test]
    fn a_base_url_holds_nothing_but_host_and_port() {
        let url = base_url("https://Management.Azure.com").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("management.azure.com", 443));
        assert_eq!(base_url("https://[::1]:8443").unwrap().host, "::1");
        for wrong in [
            "management.azure.com",
            "https://a@b",
            "https://a/b",
            "https://a?b",
            "ftp://a",
            "https://",
            "https://a#b",
        ] {
            assert!(base_url(wrong).is_err(), "{wrong}");
        }
    }
}
