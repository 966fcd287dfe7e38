//! What TLS believes, over real sockets.

use std::{net::SocketAddr, sync::Arc};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::{Connector, ConnectorSettings, Destination, EgressProxy, Protocols, Reach, Trust};
use crate::sandbox::SandboxCa;

const NAME: &str = "vault.example.com";

/// A TLS server that greets every connection.
async fn server(ca: &SandboxCa, alpn: &[&[u8]]) -> SocketAddr {
    let (certificate, key) = ca.server_pem(&[NAME]).unwrap();
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap());
    let mut config = rustls::ServerConfig::builder_with_provider(super::trust::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                // The client may be gone already: some tests look at the handshake only.
                drop(stream.write_all(b"hello").await);
                drop(stream.shutdown().await);
            }
        }
    });
    address
}

fn connector() -> Connector {
    Connector::new(ConnectorSettings::default()).unwrap()
}

fn to(host: &str, address: SocketAddr, ca: Option<&SandboxCa>) -> Destination {
    let trust = ca.map(|ca| Trust::new(Some(ca.certificate_pem().as_bytes())).unwrap());
    Destination::https(host, 443).at(Some(address)).trusting(trust)
}

#[tokio::test]
async fn the_named_authority_is_believed_for_its_destination_only() {
    let ca = SandboxCa::generate().unwrap();
    let address = server(&ca, &[b"http/1.1"]).await;
    let mut stream = connector().dial(&to(NAME, address, Some(&ca)), Protocols::Http1).await.unwrap();
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting).await.unwrap();
    assert_eq!((greeting.as_str(), stream.peer()), ("hello", address));

    let other = SandboxCa::generate().unwrap();
    for trust in [None, Some(&other)] {
        let error = connector().dial(&to(NAME, address, trust), Protocols::Http1).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    }
}

#[tokio::test]
async fn the_name_is_verified_although_the_address_was_given() {
    let ca = SandboxCa::generate().unwrap();
    let address = server(&ca, &[b"http/1.1"]).await;
    let error =
        connector().dial(&to("other.example.com", address, Some(&ca)), Protocols::Http1).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
}

#[tokio::test]
async fn http2_is_spoken_only_where_it_is_offered_and_chosen() {
    let ca = SandboxCa::generate().unwrap();
    let both = server(&ca, &[b"h2", b"http/1.1"]).await;
    let old = server(&ca, &[b"http/1.1"]).await;
    for (address, offered, http2) in
        [(both, Protocols::Either, true), (both, Protocols::Http1, false), (old, Protocols::Either, false)]
    {
        let stream = connector().dial(&to(NAME, address, Some(&ca)), offered).await.unwrap();
        assert_eq!(stream.is_http2(), http2, "{offered:?}");
    }
}

#[tokio::test]
async fn through_an_egress_proxy_tls_still_ends_at_the_name() {
    let ca = SandboxCa::generate().unwrap();
    let address = server(&ca, &[b"http/1.1"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        let mut upstream = TcpStream::connect(address).await.unwrap();
        // No reason phrase, and a header: both are allowed.
        client.write_all(b"HTTP/1.1 200\r\nvia: 1.1 corp\r\n\r\n").await.unwrap();
        drop(tokio::io::copy_bidirectional(&mut client, &mut upstream).await);
        String::from_utf8(head).unwrap()
    });
    let proxy = EgressProxy { host: "127.0.0.1".into(), port, except: [].into() };
    let connector = Connector::new(ConnectorSettings { proxy: Some(proxy), ..Default::default() }).unwrap();
    let to = Destination { address: None, reach: Reach::Private, ..to(NAME, address, Some(&ca)) };
    let mut stream = connector.dial(&to, Protocols::Http1).await.unwrap();
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting).await.unwrap();
    drop(stream);
    assert_eq!(greeting, "hello");
    assert!(asked.await.unwrap().starts_with("CONNECT vault.example.com:443 HTTP/1.1\r\n"));
}
