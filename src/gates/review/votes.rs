//! Whether those who approved at GitHub or GitLab are as many, and of the groups, as an entry demands: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    accounts::{Accounts, Human},
    decide::{Step, Unreviewed, no},
    evidence::Approver,
};
use crate::{gates::approvals::people::seated, policy::review::Review, time::Timestamp};

/// So many reviewers of a group can be demanded.
const MOST_SEATS: usize = 64;

/// Those who approved, if they are enough. Each human counts once, whatever accounts they have.
///
/// # Errors
/// [`Unreviewed`] if somebody is missing.
pub(super) fn enough(
    review: &Review,
    approvers: &BTreeSet<u64>,
    accounts: &Accounts,
    groups: &BTreeMap<Arc<str>, BTreeSet<u64>>,
) -> Result<Vec<Approver>, Unreviewed> {
    let mut humans: BTreeMap<Human<'_>, Vec<usize>> = BTreeMap::new();
    for account in approvers {
        let can = humans.entry(accounts.human(*account)).or_default();
        for (number, by) in review.by.iter().enumerate() {
            let members = groups.get(&by.group);
            let members = members.ok_or_else(|| no(Step::Reading, "who is in a group is not known"))?;
            if members.contains(account) {
                can.push(number);
            }
        }
    }
    let least = usize::try_from(review.approvals.max(1)).unwrap_or(usize::MAX);
    if humans.len() < least {
        let why = match humans.len() {
            0 => "nobody whose vote counts approved what was merged, before it was".to_owned(),
            some => {
                format!("{some} of {least} people whose votes count approved what was merged, before it was")
            }
        };
        return Err(no(Step::Approval, why));
    }
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX).min(MOST_SEATS);
    let places: Vec<usize> =
        review.by.iter().enumerate().flat_map(|(at, by)| std::iter::repeat_n(at, count(by.count))).collect();
    let can: Vec<_> = humans.values().map(Vec::as_slice).collect();
    let seats = seated(&places, &can);
    if let Some((place, _)) = places.iter().zip(&seats).find(|(_, by)| by.is_none()) {
        let group = review.by.get(*place).map(|by| &*by.group).unwrap_or_default();
        return Err(no(Step::Approval, format!("not enough members of `{group}` approved it")));
    }
    let of =
        |account: &u64| Approver { account: *account, person: accounts.person(*account).map(str::to_owned) };
    Ok(approvers.iter().map(of).collect())
}

/// The form of time of both hosts (RFC 3339).
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let read = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    u64::try_from(read.timestamp_millis()).ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_letter() {
        assert_eq!(time("2026-11-01T12:00:00Z").unwrap().to_rfc3339(), "2026-11-01T12:00:00.000Z");
        assert_eq!(time("2026-11-01T12:00:00.123+01:00").unwrap().to_rfc3339(), "2026-11-01T11:00:00.123Z");
        for odd in ["", "2026-11-01", "2026-11-01T12:00:00", "1900-01-01T00:00:00Z"] {
            assert_eq!(time(odd), None, "{odd}");
        }
    }
}
