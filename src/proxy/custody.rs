//! A job is sent with the stamp by which its commit is known again, and what will be owed of a registration
//! is kept before it is sent.

use super::{Gate, Outgoing, approve, respond::Refusal};
use crate::{
    gates::{
        Cleared,
        approvals::BodyKnown,
        custody::{Broken, submits},
    },
    policy::{Denial, DenialCode, Permit, PolicySet},
};

/// Whether a permit submits a job whose commit an entry may ask for later.
pub(super) fn concerns(policies: &PolicySet, permit: &Permit) -> bool {
    submits(permit) && policies.follows_jobs()
}

/// The permit cleared by all that it needs. If it submits a job whose commit may be asked for, that is
/// kept first, and the body that is sent has the stamp by which it is known again. So are the statements
/// that it will owe.
pub(super) async fn cleared(
    gate: &Gate,
    permit: Permit,
    known: BodyKnown,
    body: &mut Outgoing,
) -> Result<Cleared, Refusal> {
    let cleared = approve::cleared(gate, permit, known).await?;
    let Err(broken) = kept(gate, &cleared, body).await else { return Ok(cleared) };
    let (cause, cure) = match broken {
        Broken::Chain(why) => (why, "mend the request"),
        Broken::Unread(why) => (why, "try again, or tell whoever runs the gate"),
    };
    let denial = Denial {
        code: DenialCode::ReviewRequired,
        cause: format!("what this comes from is kept, because an entry demands reviewed code; {cause}"),
        cure: cure.to_owned(),
        entry: None,
        missing: Vec::new(),
        step_up: None,
        request: None,
    };
    match cleared.stopped(denial) {
        Some(held) => Err(approve::refused(gate, held).await),
        None => Err(Refusal::Internal),
    }
}

/// Keeps the commit of a job that is submitted, and the statements that a registration will owe.
async fn kept(gate: &Gate, cleared: &Cleared, body: &mut Outgoing) -> Result<(), Broken> {
    let parts = gate.parts();
    let custody = parts.gates.custody();
    if concerns(&parts.policies.current(), cleared.permit())
        && let Some(stamped) = custody.submitted(cleared.permit()).await?
    {
        *body = Outgoing::Judged(stamped.bytes().clone());
    }
    if parts.statements.is_some() {
        cleared.owe(custody).await?;
    }
    Ok(())
}
