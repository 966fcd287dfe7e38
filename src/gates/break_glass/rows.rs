//! A break-glass as the store keeps it. What cannot be read back is an error, and so lifts nothing.

use serde::{Deserialize, Serialize};

use super::state::{Asked, BreakGlass, Ended, State};
use crate::{
    gates::approvals::Vote,
    store::{self, GlassRow, StoreError},
    time::Timestamp,
};

/// What is in no column.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    asked: Asked,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    votes: Vec<Vote>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opened: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
    #[serde(default)]
    overdue: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    review: Option<Vote>,
}

fn unreadable<T>(_: T) -> StoreError {
    StoreError::Unavailable("it holds a break-glass in a form that this gate does not know".to_owned())
}

/// As a row: what is not whole holds the one slot.
pub fn of(glass: &BreakGlass) -> Result<GlassRow, StoreError> {
    let about = About {
        asked: glass.asked.clone(),
        votes: glass.votes.clone(),
        opened: glass.opened.map(Timestamp::as_millis),
        ended: glass.ended.clone(),
        overdue: glass.overdue,
        review: glass.review.clone(),
    };
    Ok(GlassRow {
        id: glass.id.clone(),
        version: glass.version,
        state: glass.state.name().to_owned(),
        slot: if glass.state.is_whole() { glass.id.clone() } else { store::CURRENT.to_owned() },
        person: glass.asked.by.person.clone(),
        made: glass.made,
        due: glass.due,
        about: serde_json::to_string(&about).map_err(unreadable)?,
    })
}

/// From a row.
pub fn read(row: GlassRow) -> Result<BreakGlass, StoreError> {
    let about: About = serde_json::from_str(&row.about).map_err(unreadable)?;
    Ok(BreakGlass {
        state: State::named(&row.state).ok_or_else(|| unreadable(()))?,
        id: row.id,
        version: row.version,
        asked: about.asked,
        votes: about.votes,
        made: row.made,
        due: row.due,
        opened: about.opened.map(Timestamp::from_millis),
        ended: about.ended,
        overdue: about.overdue,
        review: about.review,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::state::{
            Event,
            tests::{asked, at},
        },
        *,
    };

    #[test]
    fn what_is_kept_comes_back_as_it_was_and_leaves_the_slot_when_it_is_whole() {
        let open = asked().opened_at(at(1));
        let (over, _) = open.after(&Event::Pass, at(9_999)).unwrap();
        let (late, _) = over.after(&Event::Pass, at(999_999)).unwrap();
        for glass in [asked(), open, over, late] {
            let row = of(&glass).unwrap();
            assert_eq!(row.slot, store::CURRENT);
            assert_eq!(read(row), Ok(glass));
        }
        let (dropped, _) = asked().after(&Event::Pass, at(9_999)).unwrap();
        assert_eq!(of(&dropped).unwrap().slot, dropped.id);
    }

    #[test]
    fn a_row_that_a_newer_gate_wrote_is_nothing_to_go_by() {
        let row = of(&asked()).unwrap();
        assert!(read(GlassRow { state: "half open".into(), ..row.clone() }).is_err());
        assert!(read(GlassRow { about: "{}".into(), ..row }).is_err());
    }
}
