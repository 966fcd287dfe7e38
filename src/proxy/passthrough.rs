//! Tunnels through which bytes pass untouched: two records, and an end when the caller's token
//! ends or is revoked, or its issuer is one of the gate's no longer. Policies say nothing of them.

use tokio::{io::copy_bidirectional_with_sizes, net::TcpStream, sync::oneshot, time::interval};

use super::{Gate, answer, upgrade::Watched};
use crate::{
    audit::event::{Event, Tunnel},
    http::Upgraded,
    identity::{BadCertificate, Principal},
    policy::{Cut, OnTokenExpiry},
    time::Timestamp,
};

/// What each direction buffers.
const BUFFER: usize = 16 << 10;
/// How often a tunnel is asked whether it may go on.
const ASK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

/// Whether the caller may go on: what is asked of whoever wants a tunnel, once more.
fn may_go_on(gate: &Gate, principal: &Principal, opened: Timestamp) -> Result<(), String> {
    let now = gate.now();
    answer::is_vouched_for(&gate.parts().verifier, principal, now)?;
    let limits = gate.parts().limits.streams;
    let over = |cut: Cut| Err(cut.to_string());
    let ends_with_token = limits.on_token_expiry == OnTokenExpiry::End;
    if ends_with_token && now >= principal.expires {
        return over(Cut::TokenExpired(principal.expires));
    }
    match principal.stands(now) {
        Ok(()) => {}
        Err(BadCertificate::Expired) if !ends_with_token => {}
        Err(why) => return over(Cut::Certificate(why)),
    }
    if now.since(opened) >= limits.max_age { over(Cut::TooOld(limits.max_age)) } else { Ok(()) }
}

/// Copies both ways until one side ends or the caller's time is over; the end is recorded.
pub(super) async fn flow(
    gate: Gate,
    caller: oneshot::Receiver<Upgraded>,
    upstream: TcpStream,
    principal: Principal,
    tunnel: Tunnel,
) {
    let opened = gate.now();
    let (mut sent, mut received, mut ending, mut because) = (0, 0, "aborted", None);
    if let Ok(caller) = caller.await {
        let mut caller = Watched::new(caller);
        let mut upstream = Watched::new(upstream);
        (ending, because) = {
            let copy = copy_bidirectional_with_sizes(&mut caller, &mut upstream, BUFFER, BUFFER);
            tokio::pin!(copy);
            let mut ask = interval(ASK_EVERY);
            loop {
                tokio::select! {
                    _ = &mut copy => break ("completed", None),
                    _ = ask.tick() => if let Err(why) = may_go_on(&gate, &principal, opened) {
                        break ("cut", Some(why));
                    },
                }
            }
        };
        (sent, received) = (caller.read(), caller.written());
    }
    let ended = Event::TunnelEnded { tunnel, sent, received, ending, because };
    if gate.parts().journal.happened(&ended).await.is_err() {
        tracing::error!(?ended, "the end of a tunnel could not be recorded");
    }
}
