//! Obligations of a [`Permit`]: each is checked, and only then is the request [`Cleared`].
//!
//! A gate exists when its feature does; they are a closed set, so that a new obligation breaks
//! every `match`. A gate knows nothing of HTTP and appends nothing to the record.

mod limits;
#[cfg(test)]
mod tests;

use std::time::Duration;

use limits::Limits;

use crate::{
    policy::{Denial, Obligation, Permit},
    time::SharedClock,
};

/// The gates that can satisfy obligations. One for the whole process: limits count across cores.
#[derive(Debug)]
pub struct Gates {
    limits: Limits,
}

/// A permit whose obligations were all satisfied: made by [`Gates::clear`] alone.
#[derive(Debug)]
pub struct Cleared {
    permit: Permit,
}

/// An obligation is not satisfied.
#[derive(Debug)]
pub struct Held {
    /// The permit that it stops, for the record.
    pub permit: Permit,
    /// What to tell the caller.
    pub denial: Denial,
    /// For a limit: when the next request would pass.
    pub retry_after: Option<Duration>,
}

impl Gates {
    /// Gates whose limits count by `clock`.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self { limits: Limits::new(clock) }
    }

    /// Checks every obligation of the permit, in order; the first that is not satisfied stops it.
    ///
    /// # Errors
    /// [`Held`], with the permit for the record.
    pub fn clear(&self, permit: Permit) -> Result<Cleared, Box<Held>> {
        for obligation in &permit.judgement().obligations {
            match obligation {
                Obligation::Limit { .. } => {
                    if let Err(early) = self.limits.take(obligation, permit.principal()) {
                        let (denial, wait) = *early;
                        return Err(Box::new(Held { permit, denial, retry_after: Some(wait) }));
                    }
                }
            }
        }
        Ok(Cleared { permit })
    }

    /// Forgets counters that are as good as new; called at intervals.
    pub fn tidy(&self) {
        self.limits.tidy();
    }
}

impl Cleared {
    /// The permit.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }
}
