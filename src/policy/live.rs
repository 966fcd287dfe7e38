//! The policies in force: one snapshot for all, replaced whole.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::PolicySet;

/// The policies in force. Readers take a snapshot; a reload replaces it whole, or not at all.
#[derive(Debug)]
pub struct LivePolicies {
    current: ArcSwap<PolicySet>,
    generation: watch::Sender<u64>,
}

impl LivePolicies {
    /// Puts a set in force as the first generation.
    #[must_use]
    pub fn starting_with(set: PolicySet) -> Self {
        let set = set.with_generation(1);
        Self { generation: watch::Sender::new(1), current: ArcSwap::from_pointee(set) }
    }

    /// The set in force.
    #[must_use]
    pub fn current(&self) -> Arc<PolicySet> {
        self.current.load_full()
    }

    /// The set in force, without touching its reference count: for one request, not across waits.
    #[must_use]
    pub fn peek(&self) -> arc_swap::Guard<Arc<PolicySet>> {
        self.current.load()
    }

    /// Changes to the number of the set in force.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}
