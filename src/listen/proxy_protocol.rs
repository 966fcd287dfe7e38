//! The PROXY protocol (HAProxy's specification, versions 1 and 2): a trusted peer says first whom it
//! speaks for. Not one byte behind the header is read.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// How version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1.
const MAX_LINE: usize = 107;
/// The longest version 2 header that is read: addresses and some extensions.
const MAX_HEADER: u16 = 2_048;

/// Reads the header; `None` where the peer speaks for itself (`LOCAL`, `UNKNOWN`: health checks).
///
/// # Errors
/// `InvalidData` if what comes is no such header, or what the socket says.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    // Shorter than any header of either version, and enough to tell them apart.
    let mut start = [0; 13];
    stream.read_exact(&mut start).await?;
    if start.starts_with(b"PROXY ") {
        return line(stream, &start).await;
    }
    match start.split_first_chunk() {
        Some((signature, &[command])) if *signature == SIGNATURE => binary(stream, command).await,
        _ => Err(wrong("no PROXY header")),
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

async fn line<S: AsyncRead + Unpin>(stream: &mut S, start: &[u8]) -> io::Result<Option<SocketAddr>> {
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_LINE {
            return Err(wrong("the PROXY line has no end"));
        }
        line.push(stream.read_u8().await?);
    }
    let text = std::str::from_utf8(&line).map_err(|_| wrong("the PROXY line is not text"))?;
    let words: Vec<&str> = text.trim_end_matches("\r\n").split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, _, port, _] => {
            let ip: IpAddr = source.parse().map_err(|_| wrong("the PROXY line has no address"))?;
            if ip.is_ipv4() != (*family == "TCP4") {
                return Err(wrong("the PROXY line mixes families"));
            }
            let port = port.parse().map_err(|_| wrong("the PROXY line has no port"))?;
            Ok(Some(SocketAddr::new(ip, port)))
        }
        _ => Err(wrong("the PROXY line is malformed")),
    }
}

async fn binary<S: AsyncRead + Unpin>(stream: &mut S, command: u8) -> io::Result<Option<SocketAddr>> {
    let family = stream.read_u8().await?;
    let length = stream.read_u16().await?;
    if length > MAX_HEADER {
        return Err(wrong("the PROXY header is too long"));
    }
    let mut rest = vec![0; usize::from(length)];
    stream.read_exact(&mut rest).await?;
    match (command, family) {
        (0x20, _) => Ok(None),
        (0x21, 0x11) => {
            let (ip, rest) = rest.split_first_chunk::<4>().ok_or_else(|| wrong("too short"))?;
            port(IpAddr::V4(Ipv4Addr::from(*ip)), rest.get(4..))
        }
        (0x21, 0x21) => {
            let (ip, rest) = rest.split_first_chunk::<16>().ok_or_else(|| wrong("too short"))?;
            port(IpAddr::V6(Ipv6Addr::from(*ip)).to_canonical(), rest.get(16..))
        }
        // Another transport than TCP: nothing that could be judged by.
        (0x21, _) => Ok(None),
        _ => Err(wrong("the PROXY header has an unknown version or command")),
    }
}

/// Behind the destination's address stand the two ports, the source's first.
fn port(ip: IpAddr, rest: Option<&[u8]>) -> io::Result<Option<SocketAddr>> {
    let (port, _) = rest.and_then(<[u8]>::split_first_chunk::<2>).ok_or_else(|| wrong("too short"))?;
    Ok(Some(SocketAddr::new(ip, u16::from_be_bytes(*port))))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parsed(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, usize) {
        let mut rest = bytes;
        let found = read(&mut rest).await;
        (found, rest.len())
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend([command, family]);
        out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        out.extend(body);
        out
    }

    #[tokio::test]
    async fn both_versions_name_the_source_and_leave_what_follows() {
        let (found, left) = parsed(b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\r\nGET /").await;
        assert_eq!((found.unwrap(), left), (Some("198.51.100.7:4711".parse().unwrap()), 5));
        let (found, left) = parsed(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n").await;
        assert_eq!((found.unwrap(), left), (Some("[2001:db8::1]:1".parse().unwrap()), 0));
        let body = [198, 51, 100, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 187, 4, 0, 0];
        let bytes = [v2(0x21, 0x11, &body), b"GET".to_vec()].concat();
        let (found, left) = parsed(&bytes).await;
        assert_eq!((found.unwrap(), left), (Some("198.51.100.7:4711".parse().unwrap()), 3));
        let mut body = [0_u8; 36];
        body[..2].copy_from_slice(&[0x20, 1]);
        body[33] = 9;
        assert_eq!(parsed(&v2(0x21, 0x21, &body)).await.0.unwrap(), Some("[2001::]:9".parse().unwrap()));
    }

    #[tokio::test]
    async fn health_checks_speak_for_themselves() {
        assert_eq!(parsed(b"PROXY UNKNOWN\r\n").await.0.unwrap(), None);
        assert_eq!(parsed(&v2(0x20, 0, &[])).await.0.unwrap(), None);
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let long = format!("PROXY TCP4 {}", "1".repeat(200));
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(),
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 99999 2\r\n",
            b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 1.2.3.4",
            long.as_bytes(),
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 9]),
        ] {
            assert!(parsed(bytes).await.0.is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
