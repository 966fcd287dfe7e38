//! A job is sent with the stamp by which its commit is known again.

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
/// kept first, and the body that is sent has the stamp by which it is known again.
pub(super) async fn cleared(
    gate: &Gate,
    permit: Permit,
    known: BodyKnown,
    body: &mut Outgoing,
) -> Result<Cleared, Refusal> {
    let cleared = approve::cleared(gate, permit, known).await?;
    if !concerns(&gate.parts().policies.current(), cleared.permit()) {
        return Ok(cleared);
    }
    let broken = match gate.parts().gates.custody().submitted(cleared.permit()).await {
        Ok(stamped) => {
            if let Some(stamped) = stamped {
                *body = Outgoing::Judged(stamped.bytes().clone());
            }
            return Ok(cleared);
        }
        Err(broken) => broken,
    };
    let (cause, cure) = match broken {
        Broken::Chain(why) => (why, "mend the job"),
        Broken::Unread(why) => (why, "try again, or tell whoever runs the gate"),
    };
    let denial = Denial {
        code: DenialCode::ReviewRequired,
        cause: format!(
            "the commit of this job is kept, because an entry demands reviewed code of what it makes; {cause}"
        ),
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
