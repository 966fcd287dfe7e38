//! What is tracked: experiments and runs, seen through MLflow's API and through run history's.

use std::collections::BTreeMap;

use serde_json::Value;

/// What is tracked, by lower-case workspace id.
pub type Tracking = BTreeMap<String, Store>;

/// The experiments and runs of one workspace.
#[derive(Debug, Default, Clone)]
pub struct Store {
    /// By id.
    pub experiments: BTreeMap<String, Experiment>,
    /// By id.
    pub runs: BTreeMap<String, Run>,
}

/// An experiment.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `active` or `deleted`.
    pub stage: &'static str,
    /// Milliseconds.
    pub created: u64,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// The experiment's id.
    pub experiment: String,
    /// What people call it.
    pub name: String,
    /// `RUNNING`, `FINISHED`, `FAILED`, `KILLED`, `SCHEDULED`.
    pub status: String,
    /// Milliseconds.
    pub started: u64,
    /// Milliseconds; 0 while it runs.
    pub ended: u64,
    /// `active` or `deleted`.
    pub stage: &'static str,
    /// Object id of who made it.
    pub user: String,
    /// Parameters, written once.
    pub params: BTreeMap<String, String>,
    /// Every value of every metric, oldest first.
    pub metrics: BTreeMap<String, Vec<Value>>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

impl Store {
    /// The id of the experiment of that name, made if it is not there.
    pub fn experiment(&mut self, name: &str, now: u64) -> String {
        if let Some(found) = self.experiments.values().find(|e| e.name == name) {
            return found.id.clone();
        }
        let id = uuid::Uuid::new_v4().to_string();
        let experiment = Experiment {
            id: id.clone(),
            name: name.to_owned(),
            stage: "active",
            created: now,
            tags: BTreeMap::new(),
        };
        self.experiments.insert(id.clone(), experiment);
        id
    }
}
