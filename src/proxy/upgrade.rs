//! Upgraded connections: WebSocket and whatever else an upstream agrees to.
//!
//! The gate becomes a tunnel only after the upstream's own 101 for the protocol that was asked
//! for. Two records: established, before a byte flows, and ended.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderValue, Response, StatusCode, Version, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    sync::oneshot,
    time::interval,
};

use super::{
    Gate, Route,
    answer::{self, Leased},
    respond::Refusal,
    send::{self, Sent},
};
use crate::{
    audit::{Ending, OutcomeGuard, Recorded},
    azureml::Protocol,
    credentials::Bearer,
    http::{Body, Connection, Upgraded},
    identity::ConnectionMemo,
    upstream::{self, Watch},
};

/// What each direction of a tunnel buffers.
const BUFFER: usize = 16 << 10;
/// How often a tunnel is asked whether it may go on.
const ASK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

/// The protocol that a request asks to change to. Azure's own services have none; `h2c` is not one
/// (RFC 9113, 3.1); a list of them would leave the choice to somebody else.
pub(super) fn wanted(head: &Parts, route: &Route) -> Option<HeaderValue> {
    let tunnels = match route.settings.protocol {
        Protocol::Inference | Protocol::Kubernetes | Protocol::Http => true,
        Protocol::Arm | Protocol::Azureml | Protocol::KeyVault | Protocol::Storage => false,
    };
    if !tunnels || head.version != Version::HTTP_11 {
        return None;
    }
    let asks = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .any(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case("upgrade")));
    let mut all = head.headers.get_all(header::UPGRADE).iter();
    let one = all.next().filter(|_| asks && all.next().is_none())?;
    let token = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/' | b'.' | b'_' | b'+');
    let good = !one.is_empty() && one.as_bytes().iter().all(token);
    (good && !one.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| one.clone())
}

/// Sends a request that asks for an upgrade, and becomes a tunnel if the upstream agrees.
pub(super) async fn tunnel(
    gate: &Gate,
    connection: &Connection<ConnectionMemo>,
    recorded: Recorded,
    bearer: Bearer,
    sent: Sent,
    protocol: HeaderValue,
) -> Result<Response<Body>, Refusal> {
    let parts = gate.parts();
    let attempt = parts
        .credentials
        .open(recorded, bearer, &parts.keys, sent.onward.ml_token)
        .await
        .map_err(send::unminted)?;
    let (upload, body) = send::body_of(sent.body, &sent.chosen.route, None);
    let mut sending = send::sending(&attempt, &sent.onward, body, &sent.chosen);
    sending.upgrade = Some(protocol.clone());
    let limits = &parts.limits.upstream;
    let mut answer = match upstream::forward(gate.pools(), &attempt, sending, &upload, None, limits).await {
        Ok(answer) => answer,
        Err(failure) => return Err(send::failed(attempt, &failure, upload.sent())),
    };
    if !answer.is_upgrade() {
        return answer::pass_on(gate, attempt, answer, upload, &sent.chosen, &sent.policies).await;
    }
    let agreed = answer.response.headers().get(header::UPGRADE);
    if !agreed.is_some_and(|p| p.as_bytes().eq_ignore_ascii_case(protocol.as_bytes())) {
        return Err(Refusal::Upstream("the upstream changed to a protocol that nobody asked for".to_owned()));
    }
    let upstream = hyper::upgrade::on(&mut answer.response);
    let lease = attempt.recorded().permit().lease(answer::stream_limits(gate, &attempt));
    let mut outcome = attempt.into_outcome();
    outcome.answered(StatusCode::SWITCHING_PROTOCOLS.as_u16(), None);
    outcome.established().await.map_err(|_| Refusal::Unrecorded)?;
    let (head, _body) = answer.response.into_parts();
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let map = response.headers_mut();
    for (name, value) in &head.headers {
        // The second is SPDY's, by which kubectl learns which version of its streams was agreed on.
        if name.as_str().starts_with("sec-websocket-") || name == "x-stream-protocol-version" {
            map.append(name.clone(), value.clone());
        }
    }
    map.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    map.insert(header::UPGRADE, protocol);
    let watch = Leased::new(gate, lease, outcome.grants());
    // The listener waits for it when it drains.
    connection.tasks().spawn_local(flow(connection.upgraded(), upstream, outcome, watch));
    Ok(response)
}

/// Copies both ways until one side ends, or the tunnel may not go on.
async fn flow(
    caller: oneshot::Receiver<Upgraded>,
    upstream: OnUpgrade,
    mut outcome: OutcomeGuard,
    mut watch: Leased,
) {
    let (Ok(caller), Ok(upstream)) = (caller.await, upstream.await) else {
        outcome.ended(Ending::Aborted);
        return;
    };
    let mut caller = Watched::new(caller);
    let mut upstream = Watched::new(TokioIo::new(upstream));
    let ending = {
        let copy = copy_bidirectional_with_sizes(&mut caller, &mut upstream, BUFFER, BUFFER);
        tokio::pin!(copy);
        let mut ask = interval(ASK_EVERY);
        loop {
            tokio::select! {
                ended = &mut copy => break ended.map(|_| Ending::Ended),
                _ = ask.tick() => if let Err(why) = watch.may_go_on() {
                    tracing::info!(%why, "a tunnel is cut");
                    outcome.because(&why);
                    break Ok(Ending::Cut);
                },
            }
        }
    };
    // Once a side has said its last word, the other may go without one.
    let ending = ending.unwrap_or(match (caller.shut || upstream.shut, upstream.failed) {
        (true, _) => Ending::Ended,
        (false, true) => Ending::UpstreamFailed,
        (false, false) => Ending::ClientGone,
    });
    outcome.sent(caller.read);
    outcome.received(caller.written);
    outcome.ended(ending);
}

/// One side of a tunnel: counts what flows, also when the copy is cut, and knows how it ended.
pub(super) struct Watched<S> {
    inner: S,
    read: u64,
    written: u64,
    /// Whether it was told that nothing more comes from the other side.
    shut: bool,
    /// Whether it broke.
    failed: bool,
}

impl<S> Watched<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self { inner, read: 0, written: 0, shut: false, failed: false }
    }

    /// Bytes that came from it.
    pub(super) const fn read(&self) -> u64 {
        self.read
    }

    /// Bytes that went to it.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    fn heard<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.failed |= matches!(polled, Poll::Ready(Err(_)));
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.read += (buf.filled().len() - before) as u64;
        self.heard(polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &polled {
            self.written += *written as u64;
        }
        self.heard(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.heard(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.heard(polled)
    }
}
