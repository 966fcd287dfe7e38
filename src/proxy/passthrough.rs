//! Tunnels through which bytes pass untouched: two records, and an end when the caller's token
//! ends, or its issuer is one of the gate's no longer.

use tokio::{io::copy_bidirectional_with_sizes, net::TcpStream, sync::oneshot, time::interval};

use super::{Gate, upgrade::Watched};
use crate::{
    audit::event::{Event, Tunnel},
    http::Upgraded,
    identity::{BadCertificate, Principal},
    policy::OnTokenExpiry,
    time::Timestamp,
};

/// What each direction buffers.
const BUFFER: usize = 16 << 10;
/// How often a tunnel is asked whether it may go on.
const ASK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

/// Whether the caller's certificate was revoked, or has expired where that matters.
fn is_over(principal: &Principal, gate: &Gate, on_expiry: OnTokenExpiry) -> bool {
    match principal.stands(gate.now()) {
        Ok(()) => false,
        Err(BadCertificate::Expired) => on_expiry == OnTokenExpiry::End,
        Err(_) => true,
    }
}

/// Copies both ways until one side ends or the caller's time is over; the end is recorded.
pub(super) async fn flow(
    gate: Gate,
    caller: oneshot::Receiver<Upgraded>,
    upstream: TcpStream,
    principal: Principal,
    tunnel: Tunnel,
) {
    let limits = gate.parts().limits.streams;
    let oldest = gate.now().plus(limits.max_age);
    let ends: Timestamp = match limits.on_token_expiry {
        OnTokenExpiry::End => oldest.min(principal.expires),
        OnTokenExpiry::Keep => oldest,
    };
    let (mut sent, mut received, mut ending) = (0, 0, "aborted");
    if let Ok(caller) = caller.await {
        let mut caller = Watched::new(caller);
        let mut upstream = Watched::new(upstream);
        ending = {
            let copy = copy_bidirectional_with_sizes(&mut caller, &mut upstream, BUFFER, BUFFER);
            tokio::pin!(copy);
            let mut ask = interval(ASK_EVERY);
            loop {
                tokio::select! {
                    _ = &mut copy => break "completed",
                    _ = ask.tick() => {
                        // Policies say nothing of it; who may ask for it at all does.
                        let known = gate.parts().verifier.knows(&principal.id.issuer);
                        let over = is_over(&principal, &gate, limits.on_token_expiry);
                        if !known || over || gate.now() >= ends {
                            break "cut";
                        }
                    }
                }
            }
        };
        (sent, received) = (caller.read(), caller.written());
    }
    let ended = Event::TunnelEnded { tunnel, sent, received, ending };
    if gate.parts().journal.happened(&ended).await.is_err() {
        tracing::error!(?ended, "the end of a tunnel could not be recorded");
    }
}
