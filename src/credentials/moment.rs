//! Now, by two clocks, so that setting the machine's clock lengthens no token's life.

use std::time::{Duration, Instant};

use crate::time::{Clock, Timestamp};

/// An instant by the wall clock and by the steady one. A deadline has come as soon as one of them
/// says so: the wall clock may be set back, and the steady one stands still while the machine
/// sleeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    wall: Timestamp,
    steady: Instant,
}

impl Moment {
    pub(super) fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), steady: Instant::now() }
    }

    /// So much later; a length that cannot be represented has passed already.
    pub(super) fn plus(self, by: Duration) -> Self {
        Self { wall: self.wall.plus(by), steady: self.steady.checked_add(by).unwrap_or(self.steady) }
    }

    pub(super) fn has_reached(self, deadline: Self) -> bool {
        self.wall >= deadline.wall || self.steady >= deadline.steady
    }

    /// The one that comes first, by either clock.
    pub(super) fn earlier(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), steady: self.steady.min(other.steady) }
    }

    /// How long it is until `deadline`, by the steady clock; nothing if it has come.
    pub(super) fn until(self, deadline: Self) -> Duration {
        deadline.steady.saturating_duration_since(self.steady)
    }

    pub(super) fn wall(self) -> Timestamp {
        self.wall
    }

    pub(super) fn is_before(self, other: Self) -> bool {
        self.steady < other.steady
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_lengthens_nothing() {
        let start = Moment { wall: Timestamp::from_secs(1_800_000_000), steady: Instant::now() };
        let deadline = start.plus(Duration::from_secs(60));
        let later = |wall_moves: i64, steady: u64| Moment {
            wall: Timestamp::from_secs(1_800_000_000_u64.saturating_add_signed(wall_moves)),
            steady: start.steady + Duration::from_secs(steady),
        };
        assert!(!later(59, 59).has_reached(deadline));
        assert!(later(-86_400, 60).has_reached(deadline), "the wall clock was set back by a day");
        assert!(later(3_600, 1).has_reached(deadline), "the machine slept, or the clock was set forward");
    }

    #[test]
    fn a_length_beyond_all_bounds_has_passed() {
        let start = Moment { wall: Timestamp::from_secs(1), steady: Instant::now() };
        assert!(start.has_reached(start.plus(Duration::MAX)));
    }
}
