//! Upstreams that behave as no router of the sandbox does: byte by byte, over TLS.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use amlgate::sandbox::SandboxCa;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::world::{Changes, World};

/// An upstream before it is listened to.
pub struct Peer {
    pub address: SocketAddr,
    /// What vouches for it.
    pub ca: String,
    listener: TcpListener,
    tls: TlsAcceptor,
}

pub type Connection = TlsStream<TcpStream>;

impl Peer {
    /// One that answers to a name and speaks one protocol.
    pub async fn new(name: &str, protocol: &str) -> Self {
        let ca = SandboxCa::generate().unwrap();
        let (certificate, key) = ca.server_pem(&[name]).unwrap();
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap());
        let mut config =
            rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            ca: ca.certificate_pem().to_owned(),
            listener,
            tls: TlsAcceptor::from(Arc::new(config)),
        }
    }

    /// A gate whose route has this upstream: `before` is what stands before the route's address.
    pub async fn world(&self, before: &str, more: &[(&str, &str)]) -> World {
        let old = format!("{before}\n    address: ");
        let new = format!("{old}\"{}\" # ", self.address);
        let mut configuration = vec![(old.as_str(), new.as_str())];
        configuration.extend(more);
        let changes = Changes { configuration: &configuration, ..Changes::default() };
        World::trusting(&self.ca, changes).await
    }

    /// Before the inference endpoint.
    pub async fn as_endpoint(&self, more: &[(&str, &str)]) -> World {
        self.world("onlineEndpoints/churn", more).await
    }

    /// Before Resource Manager.
    pub async fn as_arm(&self, more: &[(&str, &str)]) -> World {
        self.world("protocol: arm\n    credential: gate", more).await
    }

    /// Does with each connection what `keep` says, until the test ends.
    pub fn serve<F: Future<Output = ()> + Send + 'static>(
        self,
        mut keep: impl FnMut(Connection) -> F + Send + 'static,
    ) {
        tokio::spawn(async move {
            while let Ok((stream, _)) = self.listener.accept().await {
                // What it says is on its way before it closes.
                stream.set_nodelay(true).unwrap();
                if let Ok(stream) = self.tls.accept(stream).await {
                    tokio::spawn(keep(stream));
                }
            }
        });
    }
}

/// Reads the head of an HTTP/1.1 request; what of the body came with it is left out of account.
pub async fn head(stream: &mut Connection) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A count that somebody waits for.
#[derive(Clone)]
pub struct Count(Arc<watch::Sender<u64>>);

impl Count {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    pub fn add(&self, n: usize) {
        self.0.send_modify(|count| *count += n as u64);
    }

    pub fn get(&self) -> u64 {
        *self.0.borrow()
    }

    /// Waits until nothing was added for a while; what it is then.
    pub async fn standstill(&self) -> u64 {
        let mut changed = self.0.subscribe();
        while timeout(Duration::from_millis(700), changed.changed()).await.is_ok() {}
        self.get()
    }

    pub async fn reaches(&self, n: u64) {
        self.0.subscribe().wait_for(|count| *count >= n).await.unwrap();
    }
}

/// What an HTTP/2 upstream does with the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Answers 200.
    Answer,
    /// Refuses the stream without a look.
    Refuse,
    /// Goes away and names an earlier stream as the last that it looked at.
    GoAwayBefore,
    /// Goes away, names this stream as looked at, and closes.
    GoAwayAfter,
    /// Resets the stream for another reason.
    Reset,
}

/// What an HTTP/2 upstream has seen.
#[derive(Default)]
struct Told {
    acts: VecDeque<Act>,
    /// The most streams at once of each connection.
    most: Vec<usize>,
    /// The heads of all requests came so often.
    requests: usize,
}

/// An upstream that speaks HTTP/2 frame by frame.
#[derive(Clone)]
pub struct Http2 {
    told: Arc<Mutex<Told>>,
    /// Streams that wait for their answer until there are so many.
    together: usize,
    waiting: Count,
    max_streams: u32,
}

impl Http2 {
    /// One that does these things and then answers; it allows so many streams at once.
    pub fn new(acts: &[Act], max_streams: u32) -> Self {
        let told = Told { acts: acts.iter().copied().collect(), ..Told::default() };
        Self { told: Arc::new(Mutex::new(told)), together: 0, waiting: Count::new(), max_streams }
    }

    /// Answers only when so many requests are there, on whichever connections.
    pub fn together(self, together: usize) -> Self {
        Self { together, ..self }
    }

    pub fn requests(&self) -> usize {
        self.told.lock().unwrap().requests
    }

    pub fn most_at_once(&self) -> Vec<usize> {
        self.told.lock().unwrap().most.clone()
    }

    /// Keeps a connection.
    pub async fn keep(self, stream: Connection) {
        let number = {
            let mut told = self.told.lock().unwrap();
            told.most.push(0);
            told.most.len() - 1
        };
        // A peer that goes away ends it.
        let _ = self.converse(stream, number).await;
    }

    async fn converse(&self, stream: Connection, number: usize) -> std::io::Result<()> {
        let (mut read, mut write) = tokio::io::split(stream);
        let mut preface = [0; 24];
        read.read_exact(&mut preface).await?;
        let mut settings = vec![0, 3];
        settings.extend_from_slice(&self.max_streams.to_be_bytes());
        write.write_all(&frame(4, 0, 0, &settings)).await?;
        let (answers, mut due) = tokio::sync::mpsc::unbounded_channel::<u32>();
        let mut open = 0;
        loop {
            let mut head = [0; 9];
            tokio::select! {
                got = read.read_exact(&mut head) => { got?; }
                Some(stream) = due.recv() => {
                    open -= 1;
                    // `:status: 200` of the static table, then a body.
                    write.write_all(&frame(1, 4, stream, &[0x88])).await?;
                    write.write_all(&frame(0, 1, stream, b"{}")).await?;
                    continue;
                }
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; length as usize];
            read.read_exact(&mut payload).await?;
            match (head[3], head[4]) {
                // SETTINGS and PING are acknowledged.
                (4, 0) => write.write_all(&frame(4, 1, 0, &[])).await?,
                (6, 0) => write.write_all(&frame(6, 1, 0, &payload)).await?,
                (1, _) => {
                    let act = {
                        let mut told = self.told.lock().unwrap();
                        open += 1;
                        told.most[number] = told.most[number].max(open);
                        told.requests += 1;
                        told.acts.pop_front().unwrap_or(Act::Answer)
                    };
                    let goes = |last: u32| [last.to_be_bytes(), 0_u32.to_be_bytes()].concat();
                    match act {
                        Act::Answer => {
                            self.waiting.add(1);
                            let (waiting, together, answers) =
                                (self.waiting.clone(), self.together, answers.clone());
                            tokio::spawn(async move {
                                waiting.reaches(together as u64).await;
                                // The connection may be gone.
                                let _ = answers.send(stream);
                            });
                        }
                        Act::Refuse => write.write_all(&frame(3, 0, stream, &7_u32.to_be_bytes())).await?,
                        Act::Reset => write.write_all(&frame(3, 0, stream, &2_u32.to_be_bytes())).await?,
                        Act::GoAwayBefore => {
                            write.write_all(&frame(7, 0, 0, &goes(stream.saturating_sub(2)))).await?;
                        }
                        Act::GoAwayAfter => {
                            write.write_all(&frame(7, 0, 0, &goes(stream))).await?;
                            return write.shutdown().await;
                        }
                    }
                    if act != Act::Answer {
                        open -= 1;
                    }
                }
                _ => {}
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}
