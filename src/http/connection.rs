//! One caller's connection, as whoever handles its requests sees it.

use std::{
    any::Any,
    cell::RefCell,
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};
use tokio_util::task::TaskTracker;

/// One connection: who is at its other end, and what its handler remembers of it.
pub struct Connection<M> {
    /// Who dialled, or whom a trusted peer speaks for by the PROXY protocol.
    pub peer: SocketAddr,
    /// Whether TLS was ended here.
    pub secure: bool,
    /// What the handler remembers.
    pub memory: RefCell<M>,
    certificates: Box<[CertificateDer<'static>]>,
    tasks: TaskTracker,
    upgrade: RefCell<Option<oneshot::Sender<Upgraded>>>,
}

impl<M> fmt::Debug for Connection<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.peer)
    }
}

impl<M: Default> Connection<M> {
    /// A connection of which nothing is remembered yet.
    #[must_use]
    pub fn new(peer: SocketAddr, secure: bool, tasks: TaskTracker) -> Self {
        Self {
            peer,
            secure,
            memory: RefCell::default(),
            certificates: Box::default(),
            tasks,
            upgrade: RefCell::default(),
        }
    }

    /// The same whose peer showed these certificates in the handshake, its own first.
    #[must_use]
    pub fn showing(self, certificates: Box<[CertificateDer<'static>]>) -> Self {
        Self { certificates, ..self }
    }
}

impl<M> Connection<M> {
    /// The certificates that the peer showed in the handshake that was ended here, its own first:
    /// whose key it has, and nothing of whether they still stand.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Tasks that the listener waits for when it drains, besides connections.
    #[must_use]
    pub const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// The bytes behind an answer of 101, once it is sent: to be asked for before that answer is
    /// given, on HTTP/1.1 only. An error means that the connection broke.
    #[must_use]
    pub fn upgraded(&self) -> oneshot::Receiver<Upgraded> {
        let (sender, receiver) = oneshot::channel();
        *self.upgrade.borrow_mut() = Some(sender);
        receiver
    }

    /// Whom to give the bytes behind an answer of 101, if somebody asked for them.
    pub fn take_upgrade(&self) -> Option<oneshot::Sender<Upgraded>> {
        self.upgrade.borrow_mut().take()
    }
}

/// Bytes both ways.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// A connection that left HTTP.
pub struct Upgraded {
    bytes: Box<dyn Duplex>,
    /// What counts the connection as open, for as long as it is.
    _held: Rc<dyn Any>,
}

impl Upgraded {
    /// From what the listener has in hand, bytes that it read ahead included. `held` is let go of
    /// with the bytes.
    #[must_use]
    pub fn new(bytes: impl AsyncRead + AsyncWrite + Unpin + 'static, held: Rc<dyn Any>) -> Self {
        Self { bytes: Box::new(bytes), _held: held }
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgraded")
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_read(cx, buf)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}
