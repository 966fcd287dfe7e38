//! One connection's bytes, and what its keeper must know of them.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use crate::http::Upgraded;

/// A socket, plain or TLS.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS inside a tunnel through a connection of ours.
    Inner(Box<TlsStream<Upgraded>>),
}

/// A connection that left HTTP, with what was read of it already.
#[derive(Debug)]
pub(super) struct Unread {
    pub socket: Socket,
    pub prefix: Bytes,
}

/// What the keeper of a connection asks its bytes.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// Requests whose answers are not done.
    pub in_flight: Cell<usize>,
    /// Whether bytes came since the last answer was done: a head is being read.
    pub heard: Cell<bool>,
    /// Whether what was written is still held back.
    pub blocked: Cell<bool>,
    /// Whether the request read last had a body: then bytes that are still to come may be its rest.
    pub had_body: Cell<bool>,
    /// Requests so far.
    pub requests: Cell<u64>,
    /// Counts what happened: no change means idle.
    pub activity: Cell<u64>,
}

impl Track {
    pub fn note(&self) {
        self.activity.set(self.activity.get().wrapping_add(1));
    }
}

/// The bytes as hyper sees them.
#[derive(Debug)]
pub(super) struct Io {
    pub socket: Socket,
    /// Read before hyper was there.
    pub prefix: Bytes,
    pub track: Rc<Track>,
}

macro_rules! each {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Socket::Tls($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Socket::Inner($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
        }
    };
}

impl Socket {
    /// The certificates that the peer showed when TLS was ended here, its own first.
    pub fn certificates(&self) -> Box<[CertificateDer<'static>]> {
        let shown = match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.peer_certificates(),
            Self::Inner(stream) => stream.get_ref().1.peer_certificates(),
        };
        shown.unwrap_or_default().iter().map(|one| one.clone().into_owned()).collect()
    }

    /// Waits until there is something to read, or the peer is gone; reads nothing where that can
    /// be known without reading.
    pub async fn readable(&mut self, prefix: &mut Bytes) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.readable().await,
            // What the TCP socket has to say may be only half a record: TLS must be asked.
            Self::Tls(stream) => heard(stream, prefix).await,
            Self::Inner(stream) => heard(stream, prefix).await,
        }
    }
}

/// What a peer still sends behind its last answer is read so long, and so much of it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_FOR: usize = 8 << 20;

impl Socket {
    /// Throws away what the peer still sends. A socket that is closed with bytes unread resets its
    /// peer, who may lose the answer that says why nobody reads them (RFC 9112, 9.6).
    pub async fn linger(&mut self) {
        let mut some = vec![0; 16 << 10];
        let mut left = LINGER_FOR;
        let read = async {
            while left > 0 {
                let read = match self {
                    Self::Plain(stream) => stream.read(&mut some).await,
                    Self::Tls(stream) => stream.read(&mut some).await,
                    Self::Inner(stream) => stream.read(&mut some).await,
                };
                match read {
                    Ok(0) | Err(_) => return,
                    Ok(read) => left = left.saturating_sub(read),
                }
            }
        };
        // Whoever has not heard by then will not.
        let _ = timeout(LINGER, read).await;
    }
}

async fn heard(stream: &mut (impl AsyncRead + Unpin), prefix: &mut Bytes) -> io::Result<()> {
    let mut some = [0; 512];
    let read = stream.read(&mut some).await?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    *prefix = Bytes::copy_from_slice(some.get(..read).unwrap_or_default());
    Ok(())
}

fn read_prefix(prefix: &mut Bytes, buf: &mut ReadBuf<'_>) -> bool {
    if prefix.is_empty() {
        return false;
    }
    let taken = prefix.len().min(buf.remaining());
    buf.put_slice(&prefix.split_to(taken));
    if !prefix.has_remaining() {
        // Lets go of the buffer that it was cut from.
        *prefix = Bytes::new();
    }
    true
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if read_prefix(&mut this.prefix, buf) {
            this.track.heard.set(true);
            this.track.note();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = each!(&mut this.socket, stream => stream.poll_read(cx, buf));
        if buf.filled().len() > before {
            this.track.heard.set(true);
            this.track.note();
        }
        polled
    }
}

impl Io {
    fn wrote<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.track.blocked.set(polled.is_pending());
        if polled.is_ready() {
            self.track.note();
        }
        polled
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = each!(&mut self.socket, stream => stream.poll_write(cx, buf));
        self.wrote(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = each!(&mut self.socket, stream => stream.poll_flush(cx));
        self.track.blocked.set(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut self.socket, stream => stream.poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
            Socket::Inner(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = each!(&mut self.socket, stream => stream.poll_write_vectored(cx, bufs));
        self.wrote(polled)
    }
}

impl AsyncRead for Unread {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if read_prefix(&mut this.prefix, buf) {
            return Poll::Ready(Ok(()));
        }
        each!(&mut this.socket, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Unread {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(&mut self.socket, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut self.socket, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut self.socket, stream => stream.poll_shutdown(cx))
    }
}
