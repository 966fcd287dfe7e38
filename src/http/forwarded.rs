//! Who the caller is by address: the peer, or what trusted proxies say of it.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// The caller's address: the peer's, unless the peer is a trusted proxy. Then the right-most hop of
/// `X-Forwarded-For` that is no trusted proxy itself counts; what stands left of it was written by
/// the caller. A hop that is no address ends the search at the proxy that wrote it.
#[must_use]
pub fn source(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> SocketAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(&ip.to_canonical()));
    if trusted.is_empty() || !is_trusted(peer.ip()) {
        return peer;
    }
    let mut source = peer;
    for line in headers.get_all("x-forwarded-for").iter().rev() {
        let Ok(line) = line.to_str() else { return source };
        for hop in line.rsplit(',') {
            let Some(address) = address(hop.trim()) else { return source };
            source = address;
            if !is_trusted(address.ip()) {
                return source;
            }
        }
    }
    source
}

/// `10.0.0.1`, `10.0.0.1:80`, `::1`, `[::1]:80`; the port is 0 where none is written.
fn address(hop: &str) -> Option<SocketAddr> {
    hop.parse()
        .or_else(|_| hop.trim_matches(['[', ']']).parse().map(|ip: IpAddr| SocketAddr::new(ip, 0)))
        .ok()
        .map(|a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        source(peer.parse().unwrap(), &headers, &trusted).ip().to_string()
    }

    #[test]
    fn an_untrusted_peer_is_who_it_is_whatever_it_says() {
        assert_eq!(seen("203.0.113.9:5", &["198.51.100.1"]), "203.0.113.9");
    }

    #[test]
    fn behind_trusted_proxies_the_right_most_untrusted_hop_counts() {
        assert_eq!(seen("10.0.0.1:5", &["1.1.1.1, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(seen("10.0.0.1:5", &["1.1.1.1", "198.51.100.7:443, [fd00::2]:9"]), "198.51.100.7");
        assert_eq!(seen("[::ffff:10.0.0.1]:5", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(seen("10.0.0.1:5", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(seen("10.0.0.1:5", &[]), "10.0.0.1");
    }

    #[test]
    fn nonsense_ends_the_search_at_the_proxy_that_wrote_it() {
        assert_eq!(seen("10.0.0.1:5", &["198.51.100.7, unknown"]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1:5", &["198.51.100.7, _x, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(seen("10.0.0.1:5", &["198.51.100.7,"]), "10.0.0.1");
    }
}
