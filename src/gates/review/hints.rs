//! Word that something happened at a code host: whoever waits for it asks sooner.
//!
//! A hint says neither what happened nor that anything did. Anybody who can reach the gate may give one,
//! and all that comes of it is a question that would have been asked later. Only what somebody waits for
//! is remembered, so that hints take no room.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// A project at a code host.
type Place = (Arc<str>, Arc<str>);

/// Who waits for word of which project. One for the whole process.
#[derive(Debug, Default)]
pub struct Hints {
    places: Mutex<HashMap<Place, watch::Sender<u64>>>,
}

impl Hints {
    /// Hears of a project from now on, by the code host's name in the configuration.
    #[must_use]
    pub fn of(&self, server: &Arc<str>, project: &Arc<str>) -> watch::Receiver<u64> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, heard| heard.receiver_count() > 0);
        places.entry((Arc::clone(server), Arc::clone(project))).or_default().subscribe()
    }

    /// Something may have happened in a project; whether anybody waits for that.
    pub fn give(&self, server: &str, project: &str) -> bool {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = places.get(&(Arc::from(server), Arc::from(project)));
        let waiting = waiting.filter(|heard| heard.receiver_count() > 0);
        if let Some(heard) = waiting {
            heard.send_modify(|count| *count = count.wrapping_add(1));
        }
        waiting.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_a_project_is_told_and_nobody_else() {
        let hints = Hints::default();
        let (main, vision, churn): (Arc<str>, Arc<str>, Arc<str>) =
            ("main".into(), "vision".into(), "churn".into());
        let (mut of_vision, of_churn) = (hints.of(&main, &vision), hints.of(&main, &churn));
        assert!(hints.give("main", "vision"));
        assert!(of_vision.has_changed().unwrap() && !of_churn.has_changed().unwrap());
        of_vision.mark_unchanged();
        for (server, project) in [("other", "vision"), ("main", "none"), ("", "")] {
            assert!(!hints.give(server, project), "{server} {project}");
        }
        assert!(!of_vision.has_changed().unwrap());
        assert_eq!(hints.places.lock().unwrap().len(), 2, "who waits for nothing is not remembered");
    }

    #[test]
    fn who_has_gone_takes_no_room() {
        let hints = Hints::default();
        let main: Arc<str> = "main".into();
        for project in 0..100 {
            drop(hints.of(&main, &project.to_string().into()));
        }
        assert!(!hints.give("main", "99"));
        let kept = hints.of(&main, &"kept".into());
        assert_eq!(hints.places.lock().unwrap().len(), 1);
        drop(kept);
    }
}
