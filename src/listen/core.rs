//! One core: it accepts, takes what others hand it, and serves.

use std::{
    any::Any,
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::LocalSet,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Handler, ListenSettings,
    admission::{Admission, Full, Place},
    connection::{self, Keeping},
    io::Socket,
    proxy_protocol,
};
use crate::http::Connection;

/// A connection on its way to the core that serves it.
#[derive(Debug)]
pub(super) struct Handed {
    stream: StdStream,
    peer: SocketAddr,
    place: Place,
}

/// What all cores of a listener share.
#[derive(Debug)]
pub(super) struct Cores {
    loads: Vec<AtomicUsize>,
    inboxes: Vec<UnboundedSender<Handed>>,
    admission: Arc<Admission>,
    parked: Arc<AtomicUsize>,
    settings: ListenSettings,
}

impl Cores {
    pub fn new(
        count: usize,
        admission: Arc<Admission>,
        parked: Arc<AtomicUsize>,
        settings: ListenSettings,
    ) -> (Arc<Self>, Vec<UnboundedReceiver<Handed>>) {
        let (inboxes, receivers) = (0..count).map(|_| unbounded_channel()).unzip();
        let loads = (0..count).map(|_| AtomicUsize::new(0)).collect();
        (Arc::new(Self { loads, inboxes, admission, parked, settings }), receivers)
    }

    pub fn settings(&self) -> &ListenSettings {
        &self.settings
    }

    fn load(&self, core: usize) -> usize {
        self.loads.get(core).map_or(usize::MAX, |l| l.load(Ordering::Relaxed))
    }

    /// Who serves what `core` accepted: itself, unless another is idle beyond 2 : 1. With one
    /// socket for all, that spreads connections; with one each, it corrects the system's dice.
    fn server(&self, core: usize) -> usize {
        let mine = self.load(core);
        let (least, load) =
            (0..self.loads.len()).map(|n| (n, self.load(n))).min_by_key(|(_, l)| *l).unwrap_or((core, mine));
        if mine > load.saturating_mul(2) { least } else { core }
    }
}

/// Counts a connection among a core's.
struct Load {
    cores: Arc<Cores>,
    core: usize,
}

impl Load {
    fn on(cores: &Arc<Cores>, core: usize) -> Self {
        if let Some(load) = cores.loads.get(core) {
            load.fetch_add(1, Ordering::Relaxed);
        }
        Self { cores: Arc::clone(cores), core }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(load) = self.cores.loads.get(self.core) {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A core about to run.
pub(super) struct Core {
    pub number: usize,
    pub listener: Option<StdListener>,
    pub inbox: UnboundedReceiver<Handed>,
    pub cores: Arc<Cores>,
    pub stop: CancellationToken,
}

/// Runs a core until it was stopped and its connections have ended or run out of time.
pub(super) fn run<H: Handler>(runtime: &Runtime, core: Core, factory: impl Fn(usize) -> H) -> bool {
    let local = LocalSet::new();
    local.block_on(runtime, async {
        let handler = factory(core.number);
        let drain = core.cores.settings.drain;
        let tasks = TaskTracker::new();
        core.accept(&handler, &tasks).await;
        tasks.close();
        // What has not ended by now is cut off when the runtime goes.
        let clean = timeout(drain, tasks.wait()).await.is_ok();
        if !clean {
            tracing::warn!(open = tasks.len(), "the time to drain is over: what is left is cut off");
        }
        clean
    })
}

impl Core {
    async fn accept<H: Handler>(mut self, handler: &H, tasks: &TaskTracker) {
        let listener = self.listener.take().and_then(|l| match TcpListener::from_std(l) {
            Ok(listener) => Some(listener),
            Err(error) => {
                tracing::error!(%error, "a socket cannot be listened on");
                None
            }
        });
        let stop = self.stop.clone();
        let mut stopped = std::pin::pin!(stop.cancelled());
        loop {
            let accepted = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut stopped => return,
                Some(handed) = self.inbox.recv() => {
                    if let Ok(stream) = TcpStream::from_std(handed.stream) {
                        self.serve(stream, handed.peer, handed.place, handler, tasks);
                    }
                }
                accepted = accepted => match accepted {
                    Ok((stream, peer)) => self.place(stream, peer, handler, tasks),
                    Err(error) => {
                        // Out of descriptors, most likely: whoever waits in the queue waits a little longer.
                        metrics::counter!("amlgate_accept_errors_total").increment(1);
                        tracing::warn!(%error, "cannot accept a connection");
                        sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
    }

    /// Finds a place for a connection, and the core that serves it.
    fn place<H: Handler>(&self, stream: TcpStream, peer: SocketAddr, handler: &H, tasks: &TaskTracker) {
        let counted = !is_trusted(&self.cores.settings, peer.ip());
        let place = match self.cores.admission.admit(peer.ip(), counted) {
            Ok(place) => place,
            Err(full) => {
                let reason = match full {
                    Full::All => "too_many_connections",
                    Full::Peer => "too_many_connections_of_peer",
                };
                handler.rejected(peer.ip(), reason);
                return;
            }
        };
        let server = self.cores.server(self.number);
        let Some(inbox) = self.cores.inboxes.get(server).filter(|_| server != self.number) else {
            self.serve(stream, peer, place, handler, tasks);
            return;
        };
        if let Ok(stream) = stream.into_std() {
            // A core that is gone is one that drains, and so does this one.
            let _ = inbox.send(Handed { stream, peer, place });
        }
    }

    fn serve<H: Handler>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        place: Place,
        handler: &H,
        tasks: &TaskTracker,
    ) {
        let (handler, cores, stop) = (handler.clone(), Arc::clone(&self.cores), self.stop.clone());
        let load = Load::on(&cores, self.number);
        let connection_tasks = tasks.clone();
        tasks.spawn_local(async move {
            // An upgraded connection counts for as long as its bytes flow.
            let held: Rc<dyn Any> = Rc::new((place, load));
            // Small answers must not wait for the next one; if the socket is gone, reading says so.
            let _ = stream.set_nodelay(true);
            let opened =
                timeout(cores.settings.handshake, Box::pin(open(stream, peer, &cores.settings))).await;
            let (socket, source, http2) = match opened {
                Ok(Ok(opened)) => opened,
                Ok(Err(reason)) => return handler.rejected(peer.ip(), reason),
                Err(_) => return handler.rejected(peer.ip(), "slow_handshake"),
            };
            let secure = !matches!(socket, Socket::Plain(_));
            let connection = Connection::new(source, secure, connection_tasks);
            let connection = Rc::new(connection.showing(socket.certificates()));
            let keeping = Keeping {
                settings: &cores.settings,
                stop: &stop,
                parked: &cores.parked,
                connection,
                handler,
                held,
            };
            if http2 {
                connection::keep_http2(socket, keeping).await;
            } else {
                connection::keep_http1(socket, keeping).await;
            }
        });
    }
}

fn is_trusted(settings: &ListenSettings, peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    settings.trusted_proxies.iter().any(|net| net.contains(&peer))
}

/// From the first byte to the last of the handshake: who it is, and whether HTTP/2 is spoken.
async fn open(
    mut stream: TcpStream,
    peer: SocketAddr,
    settings: &ListenSettings,
) -> Result<(Socket, SocketAddr, bool), &'static str> {
    let mut source = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    if settings.proxy_protocol && is_trusted(settings, peer.ip()) {
        match proxy_protocol::read(&mut stream).await {
            Ok(Some(said)) => source = said,
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err("proxy_header"),
            Err(_) => return Err("gone_before_handshake"),
        }
    }
    let Some(tls) = &settings.tls else {
        return Ok((Socket::Plain(stream), source, false));
    };
    let stream = tls.acceptor().accept(stream).await.map_err(|error| handshake(&error))?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Socket::Tls(Box::new(stream)), source, http2))
}

/// The word for a handshake that failed.
fn handshake(error: &io::Error) -> &'static str {
    use rustls::CertificateError as E;
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = error else { return "tls_handshake" };
    if matches!(why, E::UnknownIssuer | E::BadSignature) {
        "certificate_authority"
    } else if matches!(why, E::Expired | E::ExpiredContext { .. }) {
        "certificate_expired"
    } else if matches!(why, E::NotValidYet | E::NotValidYetContext { .. }) {
        "certificate_not_yet_valid"
    } else if matches!(why, E::InvalidPurpose | E::InvalidPurposeContext { .. }) {
        "certificate_purpose"
    } else {
        "certificate_malformed"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_with_more_than_twice_the_least_hands_over() {
        let admission = Admission::new(10, 10);
        let (cores, _inboxes) = Cores::new(
            2,
            admission,
            Arc::default(),
            ListenSettings { cores: 2, ..ListenSettings::default() },
        );
        let on = |core| Load::on(&cores, core);
        assert_eq!(cores.server(0), 0);
        let one = on(0);
        assert_eq!(cores.server(0), 1);
        let _other = on(1);
        let (_two, _three) = (on(0), on(0));
        assert_eq!(cores.server(0), 1, "3 against 1");
        drop(one);
        assert_eq!(cores.server(0), 0, "2 against 1");
        assert_eq!(cores.server(1), 1);
    }
}
