//! How much may wait for people.

/// How many calls wait for people, and how much one person asks of them. The configuration's
/// (`limits`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Calls of everybody that are held at the same time.
    pub held: usize,
    /// Calls of one person that are held at the same time.
    pub held_each: usize,
    /// Requests that one person may have waiting at the same time.
    pub pending_each: u32,
    /// Requests that one person may make within a day, whatever became of them: what was asked is kept
    /// for long, and read by others.
    pub daily_each: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { held: 1_000, held_each: 64, pending_each: 32, daily_each: 256 }
    }
}
