//! Requests, grants and uses as the store keeps them. What cannot be read back is an error, and so a
//! denial: nothing is guessed.

use super::{
    grant::{Grant, Terms, Use, UseState},
    request::{Request, State},
};
use crate::store::{GrantRow, RequestRow, StoreError, UseRow};

/// What is said of a row that this gate cannot read: a newer one may have written it.
fn unreadable<T>(_: T) -> StoreError {
    StoreError::Unavailable("it holds an approval in a form that this gate does not know".to_owned())
}

/// As a row; what waits is found by what a grant would be bound to.
pub fn of_request(request: &Request) -> Result<RequestRow, StoreError> {
    let waits = request.state == State::Pending;
    Ok(RequestRow {
        id: request.id.clone(),
        version: request.version,
        state: request.state.name().to_owned(),
        waiting: if waits { request.asked.bound.clone() } else { request.id.clone() },
        person: request.asked.requester.person.clone(),
        made: request.made,
        expires: request.expires,
        decided: request.decided,
        asked: serde_json::to_string(&request.asked).map_err(unreadable)?,
        votes: serde_json::to_string(&request.votes).map_err(unreadable)?,
    })
}

/// From a row.
pub fn request(row: RequestRow) -> Result<Request, StoreError> {
    Ok(Request {
        state: State::named(&row.state).ok_or_else(|| unreadable(()))?,
        asked: serde_json::from_str(&row.asked).map_err(unreadable)?,
        votes: serde_json::from_str(&row.votes).map_err(unreadable)?,
        id: row.id,
        version: row.version,
        made: row.made,
        expires: row.expires,
        decided: row.decided,
    })
}

/// As a row.
pub fn of_grant(grant: &Grant) -> Result<GrantRow, StoreError> {
    Ok(GrantRow {
        id: grant.id.clone(),
        version: grant.version,
        state: if grant.revoked { "revoked" } else { "active" }.to_owned(),
        bound: grant.bound.clone(),
        person: grant.terms.holder.person.clone(),
        uses: grant.uses.map_or(0, i64::from),
        used: i64::from(grant.used),
        made: grant.made,
        expires: grant.expires,
        terms: serde_json::to_string(&grant.terms).map_err(unreadable)?,
    })
}

/// From a row.
pub fn grant(row: GrantRow) -> Result<Grant, StoreError> {
    let terms: Terms = serde_json::from_str(&row.terms).map_err(unreadable)?;
    let uses = u32::try_from(row.uses).map_err(unreadable)?;
    Ok(Grant {
        terms,
        uses: (uses > 0).then_some(uses),
        used: u32::try_from(row.used).unwrap_or(u32::MAX),
        revoked: match row.state.as_str() {
            "active" | "expired" => false,
            "revoked" => true,
            _ => return Err(unreadable(())),
        },
        id: row.id,
        version: row.version,
        bound: row.bound,
        made: row.made,
        expires: row.expires,
    })
}

/// From a row.
pub fn used(row: &UseRow) -> Use {
    Use {
        id: row.id.clone(),
        version: row.version,
        decision: row.decision.clone(),
        state: UseState::named(&row.state),
        tries: row.tries,
        at: row.at,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::request::tests::{at, request as asked, voter},
        *,
    };
    use crate::gates::approvals::request::Event;

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        let pending = asked();
        assert_eq!(request(of_request(&pending).unwrap()), Ok(pending.clone()));
        let note = Some("fine".to_owned());
        let half = pending.after(&Event::Approve { by: voter("corp:bob", &[0]), note }, at(1)).unwrap();
        assert_eq!(request(of_request(&half).unwrap()), Ok(half.clone()));
        assert_eq!(of_request(&half).unwrap().waiting, "bound");
        let over = half.after(&Event::Pass, at(3_600)).unwrap();
        assert_eq!(of_request(&over).unwrap().waiting, over.id, "the call may be asked about again");
        for uses in [None, Some(3)] {
            let one = Grant { uses, used: 2, revoked: true, ..Grant::of(&half, "g".into(), at(2)) };
            assert_eq!(grant(of_grant(&one).unwrap()), Ok(one));
        }
    }

    #[test]
    fn a_row_that_a_newer_gate_wrote_is_nothing_to_go_by() {
        let row = of_request(&asked()).unwrap();
        let newer = RequestRow { state: "escalated".into(), ..row.clone() };
        assert!(request(newer).is_err());
        assert!(request(RequestRow { asked: "{}".into(), ..row }).is_err());
        let row = of_grant(&Grant::of(&asked(), "g".into(), at(0))).unwrap();
        assert!(grant(GrantRow { state: "paused".into(), ..row }).is_err());
    }
}
