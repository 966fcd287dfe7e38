//! When something may happen: days and hours in a time zone.

use std::{fmt, sync::Arc};

use chrono::{Datelike, Days, NaiveTime, TimeZone, Timelike, Weekday};
use chrono_tz::Tz;

use crate::time::Timestamp;

/// The names of the days in policies, Monday first.
pub(super) const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Minutes in a day.
pub(super) const DAY: u16 = 24 * 60;

/// A weekly window. One that ends before it begins runs over midnight and belongs to the day on
/// which it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    pub(super) name: Arc<str>,
    pub(super) zone: Tz,
    /// Whether the window begins on a day, Monday first.
    pub(super) days: [bool; 7],
    /// Minutes after midnight, below 24 h.
    pub(super) from: u16,
    /// Minutes after midnight, at most 24 h, not equal to `from`.
    pub(super) to: u16,
}

impl Calendar {
    /// The calendar's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn begins_on(&self, day: Weekday) -> bool {
        self.days.get(day.num_days_from_monday() as usize).copied().unwrap_or(false)
    }

    /// Whether the window holds an instant; the end is not part of it.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        let local = now.to_utc().with_timezone(&self.zone);
        let minute = u16::try_from(local.hour() * 60 + local.minute()).unwrap_or(DAY);
        let (today, yesterday) = (local.weekday(), local.weekday().pred());
        if self.from < self.to {
            self.begins_on(today) && self.from <= minute && minute < self.to
        } else {
            (self.begins_on(today) && self.from <= minute) || (self.begins_on(yesterday) && minute < self.to)
        }
    }

    /// The next instant, after `now`, at which the window opens; `None` if no day is named.
    #[must_use]
    pub fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        let today = now.to_utc().with_timezone(&self.zone).date_naive();
        // A week and a day more: today's opening may have passed.
        (0..=8).filter_map(|ahead| today.checked_add_days(Days::new(ahead))).find_map(|day| {
            if !self.begins_on(day.weekday()) {
                return None;
            }
            // Where the clock jumps over the hour, the window opens with the first minute that exists.
            let opening = (self.from..DAY).find_map(|minute| {
                let time = NaiveTime::from_hms_opt(u32::from(minute / 60), u32::from(minute % 60), 0)?;
                self.zone.from_local_datetime(&day.and_time(time)).earliest()
            })?;
            let opening = Timestamp::from_millis(u64::try_from(opening.timestamp_millis()).ok()?);
            (opening > now).then_some(opening)
        })
    }

    /// How the wall clock of the calendar's zone reads at an instant: `Sat 20:13`.
    #[must_use]
    pub fn local(&self, now: Timestamp) -> String {
        now.to_utc().with_timezone(&self.zone).format("%a %H:%M").to_string()
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<_> = DAYS.iter().zip(self.days).filter_map(|(name, on)| on.then_some(*name)).collect();
        let clock = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
        write!(f, "{} {} to {} {}", days.join(" "), clock(self.from), clock(self.to), self.zone)
    }
}

/// `HH:MM` as minutes after midnight, `24:00` included.
pub(super) fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |digits: &str| {
        (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()))
            .then(|| digits.parse::<u16>().ok())?
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (minutes < 60 && hours * 60 + minutes <= DAY).then_some(hours * 60 + minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(days: [bool; 7], from: &str, to: &str) -> Calendar {
        let zone = chrono_tz::Europe::Zurich;
        Calendar { name: "office".into(), zone, days, from: minutes(from).unwrap(), to: minutes(to).unwrap() }
    }

    fn at(text: &str) -> Timestamp {
        let millis = chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis();
        Timestamp::from_millis(u64::try_from(millis).unwrap())
    }

    const WEEK: [bool; 7] = [true, true, true, true, true, false, false];

    #[test]
    fn the_window_is_read_on_the_local_wall_clock_summer_and_winter() {
        let office = calendar(WEEK, "08:00", "18:00");
        assert!(office.contains(at("2026-11-23T07:00:00Z")));
        assert!(!office.contains(at("2026-11-23T06:59:59Z")));
        assert!(office.contains(at("2026-07-06T06:00:00Z")));
        assert!(!office.contains(at("2026-11-23T17:00:00Z")));
        assert!(!office.contains(at("2026-11-22T10:00:00Z")), "a Sunday");
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_began_on() {
        let night = calendar([false, false, false, false, true, false, false], "22:00", "06:00");
        assert!(night.contains(at("2026-11-27T22:00:00+01:00")), "Friday night");
        assert!(night.contains(at("2026-11-28T05:59:00+01:00")), "until Saturday morning");
        assert!(!night.contains(at("2026-11-27T05:00:00+01:00")), "Friday morning is Thursday's night");
        assert!(!night.contains(at("2026-11-28T22:00:00+01:00")));
    }

    #[test]
    fn the_next_opening_is_told_over_the_weekend_and_over_the_change_of_clocks() {
        let office = calendar(WEEK, "08:00", "18:00");
        assert_eq!(office.next_opening(at("2026-11-21T12:00:00Z")), Some(at("2026-11-23T08:00:00+01:00")));
        let gap = calendar([false, false, false, false, false, false, true], "02:30", "04:00");
        assert_eq!(gap.next_opening(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T03:00:00+02:00")));
    }

    #[test]
    fn only_whole_times_of_day_are_read() {
        assert_eq!(minutes("24:00"), Some(DAY));
        for bad in ["24:01", "8:00", "08:60", "0800", "+8:00", "08:0x"] {
            assert_eq!(minutes(bad), None, "{bad}");
        }
    }
}
