//! The policies in force: one snapshot for all, replaced whole or not at all.
//!
//! A reload reads the files twice, half a second apart, and takes them only if both readings agree, so
//! that a copy in progress is never judged by. A set with problems, and files that are gone, leave
//! the last good set in force; the problems stay to be shown until a reload succeeds. Files are
//! compared by content, so that a `ConfigMap` swap is noticed and a touched file is not. It does not
//! decide who hears of it: [`LivePolicies::subscribe`] tells generations, [`LivePolicies::status`] the rest.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};

use super::{FileSet, PolicySet, Surroundings};
use crate::{
    time::{SharedClock, SystemClock, Timestamp},
    yaml::Problem,
};

/// How long two readings lie apart.
pub const BETWEEN_READINGS: Duration = Duration::from_millis(500);

/// How many pairs of readings may differ before a reload gives up; the next look tries again.
const MOST_READINGS: usize = 10;

/// What is known of the files and the set in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The digest of the set in force.
    pub digest: [u8; 32],
    /// Its generation.
    pub generation: u64,
    /// Since when it is in force.
    pub since: Timestamp,
    /// Warnings of the set in force.
    pub warnings: Vec<Problem>,
    /// Why the files as they are now are not in force; empty if they are.
    pub problems: Vec<Problem>,
}

/// What a reload came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// The files are those in force.
    Unchanged,
    /// A new set is in force.
    Replaced {
        /// The digest of the set before.
        before: [u8; 32],
        /// The digest of the set in force.
        after: [u8; 32],
        /// Its generation.
        generation: u64,
    },
    /// The last good set stays in force.
    Refused(Vec<Problem>),
}

/// The policies in force. Readers take a snapshot without waiting.
#[derive(Debug)]
pub struct LivePolicies {
    current: ArcSwap<PolicySet>,
    generation: watch::Sender<u64>,
    status: ArcSwap<Status>,
    source: Option<Source>,
}

/// Where sets come from.
#[derive(Debug)]
struct Source {
    directory: PathBuf,
    around: Mutex<Surroundings>,
    clock: SharedClock,
    /// What readings wait for each other by. Files are written in the machine's own time, whatever
    /// time it is for decisions: a gate whose clock stands starts and reloads all the same.
    machine: SharedClock,
}

impl LivePolicies {
    /// Puts a set in force that never changes.
    #[must_use]
    pub fn starting_with(set: PolicySet) -> Self {
        Self::new(set, Vec::new(), Timestamp::default(), None)
    }

    /// Loads the files below a directory, once two readings agree, and puts them in force.
    ///
    /// # Errors
    /// Every problem: without a good set nothing starts.
    pub async fn load(
        directory: &Path,
        around: Surroundings,
        clock: SharedClock,
    ) -> Result<Self, Vec<Problem>> {
        Self::load_by(directory, around, clock, Arc::new(SystemClock)).await
    }

    async fn load_by(
        directory: &Path,
        around: Surroundings,
        clock: SharedClock,
        machine: SharedClock,
    ) -> Result<Self, Vec<Problem>> {
        let source = Source { directory: directory.to_owned(), around: Mutex::new(around), clock, machine };
        let files = source.settled(None).await?.unwrap_or_default();
        let around = source.around.lock().await.clone();
        let (set, warnings) = blocking(move || PolicySet::compile(&files, &around)).await?;
        let now = source.clock.now();
        Ok(Self::new(set, warnings, now, Some(source)))
    }

    fn new(set: PolicySet, warnings: Vec<Problem>, since: Timestamp, source: Option<Source>) -> Self {
        let set = set.with_generation(1);
        let status = Status { digest: *set.digest(), generation: 1, since, warnings, problems: Vec::new() };
        Self {
            generation: watch::Sender::new(1),
            status: ArcSwap::from_pointee(status),
            current: ArcSwap::from_pointee(set),
            source,
        }
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

    /// Changes to the generation in force.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// What is known of the files and the set in force.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.status.load_full()
    }

    /// Reads the files and puts them in force if they are good and differ from those in force.
    pub async fn reload(&self) -> Reload {
        self.look(true).await
    }

    /// The configuration now defines other names; the files are compiled again with them.
    pub async fn surrounded_by(&self, around: Surroundings) -> Reload {
        let Some(source) = &self.source else { return Reload::Unchanged };
        let changed = {
            let mut known = source.around.lock().await;
            let changed = known.issuers != around.issuers || known.routes != around.routes;
            *known = around;
            changed
        };
        if changed { self.look_for(None, true).await } else { Reload::Unchanged }
    }

    /// Looks at the files every `every` for ever, and reloads when their content changes; each reload
    /// that did something is told to `tell`.
    pub async fn watch(&self, every: Duration, mut tell: impl FnMut(&Reload)) {
        let Some(source) = &self.source else { return };
        loop {
            source.clock.sleep(every).await;
            let reload = self.look(false).await;
            if reload != Reload::Unchanged {
                tell(&reload);
            }
        }
    }

    async fn look(&self, asked: bool) -> Reload {
        let in_force = self.status.load().digest;
        self.look_for(Some(in_force), asked).await
    }

    /// `in_force`: the digest that needs no compiling. `asked`: whether problems that are known
    /// already are told again.
    async fn look_for(&self, in_force: Option<[u8; 32]>, asked: bool) -> Reload {
        let Some(source) = &self.source else { return Reload::Unchanged };
        // One reload at a time: the lock is held over the readings.
        let around = source.around.lock().await;
        let read = match source.settled(in_force).await {
            Ok(None) => {
                self.note_problems(Vec::new());
                return Reload::Unchanged;
            }
            Ok(Some(files)) => files,
            Err(problems) => return self.refuse(problems, asked),
        };
        let around_now = around.clone();
        let compiled = blocking(move || PolicySet::compile(&read, &around_now)).await;
        match compiled {
            Err(problems) => self.refuse(problems, asked),
            Ok((set, warnings)) => self.replace(set, warnings, source.clock.now()),
        }
    }

    fn replace(&self, set: PolicySet, warnings: Vec<Problem>, now: Timestamp) -> Reload {
        let before = self.status.load().digest;
        let generation = self.current.load().generation().saturating_add(1);
        let after = *set.digest();
        self.current.store(Arc::new(set.with_generation(generation)));
        let status = Status { digest: after, generation, since: now, warnings, problems: Vec::new() };
        self.status.store(Arc::new(status));
        // Told last: whoever hears of the number finds the set.
        self.generation.send_replace(generation);
        Reload::Replaced { before, after, generation }
    }

    fn refuse(&self, problems: Vec<Problem>, asked: bool) -> Reload {
        let known = self.note_problems(problems.clone());
        if known && !asked { Reload::Unchanged } else { Reload::Refused(problems) }
    }

    /// Returns whether these were known.
    fn note_problems(&self, problems: Vec<Problem>) -> bool {
        let status = self.status.load_full();
        let known = status.problems == problems;
        if !known {
            self.status.store(Arc::new(Status { problems, ..Status::clone(&status) }));
        }
        known
    }
}

impl Source {
    /// The files as two readings in a row found them; `None` if they are those in force.
    async fn settled(&self, in_force: Option<[u8; 32]>) -> Result<Option<FileSet>, Vec<Problem>> {
        let mut last = self.read().await;
        if let Ok(files) = &last
            && Some(*files.digest()) == in_force
        {
            return Ok(None);
        }
        for _ in 0..MOST_READINGS {
            self.machine.sleep(BETWEEN_READINGS).await;
            let again = self.read().await;
            if again == last {
                return match last {
                    Ok(files) if Some(*files.digest()) == in_force => Ok(None),
                    Ok(files) => Ok(Some(files)),
                    Err(problems) => Err(problems),
                };
            }
            last = again;
        }
        let file = self.directory.to_string_lossy().into();
        let message = "the files keep changing while they are read";
        Err(vec![Problem::error(&file, crate::yaml::Place::default(), message)])
    }

    async fn read(&self) -> Result<FileSet, Vec<Problem>> {
        let directory = self.directory.clone();
        blocking(move || FileSet::read(&directory)).await
    }
}

/// Runs work that reads files or takes long away from the runtime's own thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Vec<Problem>> + Send + 'static,
) -> Result<T, Vec<Problem>> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => {
            let file = "policies".into();
            let message = format!("the reload ended before it was done: {failed}");
            Err(vec![Problem::error(&file, crate::yaml::Place::default(), message)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ManualClock;

    const GOOD: &str = "version: 1\nallow: [{name: a, who: [authenticated], kinds: [read]}]\n";
    const OTHER: &str = "version: 1\nallow: [{name: b, who: [authenticated], kinds: [read]}]\n";

    struct Bench {
        directory: tempfile::TempDir,
        clock: ManualClock,
        live: LivePolicies,
    }

    /// Waits for `work` while the clock goes on whenever nothing else does; `between` is called with
    /// the number of each step.
    async fn ticking<T>(
        clock: &ManualClock,
        work: impl Future<Output = T>,
        mut between: impl FnMut(u32),
    ) -> T {
        let ticks = async {
            for step in 0.. {
                // The readings run on another thread: the clock waits for a timer to be set.
                tokio::task::spawn_blocking(|| {}).await.unwrap();
                tokio::task::yield_now().await;
                between(step);
                clock.advance(BETWEEN_READINGS);
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            () = ticks => unreachable!("it goes on until the work is done"),
        }
    }

    impl Bench {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("p.yaml"), GOOD).unwrap();
            let clock = ManualClock::starting_at(Timestamp::from_secs(1_000));
            let shared = || -> SharedClock { Arc::new(clock.clone()) };
            let load = LivePolicies::load_by(directory.path(), Surroundings::default(), shared(), shared());
            let live = ticking(&clock, load, |_| {}).await.unwrap();
            Self { directory, clock, live }
        }

        fn write(&self, text: &str) {
            std::fs::write(self.directory.path().join("p.yaml"), text).unwrap();
        }

        async fn reload(&self, between: impl FnMut(u32)) -> Reload {
            ticking(&self.clock, self.live.reload(), between).await
        }

        fn names(&self) -> Vec<String> {
            self.live.current().entries().map(|(_, entry)| entry.name.to_string()).collect()
        }
    }

    #[tokio::test]
    async fn a_good_edit_replaces_the_set_and_counts_up() {
        let bench = Bench::new().await;
        let mut generations = bench.live.subscribe();
        assert_eq!((bench.live.current().generation(), *generations.borrow_and_update()), (1, 1));
        assert_eq!(bench.reload(|_| {}).await, Reload::Unchanged);
        let before = *bench.live.current().digest();
        bench.write(OTHER);
        let reload = bench.reload(|_| {}).await;
        let after = *bench.live.current().digest();
        assert_eq!(reload, Reload::Replaced { before, after, generation: 2 });
        assert_ne!(before, after);
        assert!(generations.has_changed().unwrap());
        assert_eq!(*generations.borrow_and_update(), 2);
        assert_eq!(bench.names(), ["b"]);
        assert_eq!(bench.live.status().generation, 2);
    }

    #[tokio::test]
    async fn a_bad_edit_keeps_the_last_good_set_until_it_is_mended() {
        let bench = Bench::new().await;
        bench.write("version: 1\nallow: [{name: a}]\n");
        let Reload::Refused(problems) = bench.reload(|_| {}).await else { panic!() };
        assert!(problems[0].message.contains("needs `who`"));
        assert_eq!(bench.names(), ["a"]);
        assert_eq!(bench.live.status().problems, problems);
        assert_eq!(bench.live.current().generation(), 1);
        bench.write(GOOD);
        assert_eq!(bench.reload(|_| {}).await, Reload::Unchanged);
        assert_eq!(bench.live.status().problems, vec![]);
    }

    #[tokio::test]
    async fn removed_files_are_a_bad_edit() {
        let bench = Bench::new().await;
        std::fs::remove_file(bench.directory.path().join("p.yaml")).unwrap();
        assert!(matches!(bench.reload(|_| {}).await, Reload::Refused(_)));
        std::fs::remove_dir_all(bench.directory.path()).unwrap();
        assert!(matches!(bench.reload(|_| {}).await, Reload::Refused(_)));
        assert_eq!(bench.names(), ["a"]);
    }

    #[tokio::test]
    async fn files_are_taken_only_when_two_readings_agree() {
        let bench = Bench::new().await;
        bench.write("version: 1\nallow: [{name: torn, who: [authenticated], kinds: [read]}]\n");
        let reload = bench
            .reload(|step| {
                if step == 0 {
                    bench.write(OTHER)
                }
            })
            .await;
        assert!(matches!(reload, Reload::Replaced { generation: 2, .. }), "{reload:?}");
        assert_eq!(bench.names(), ["b"]);
    }

    #[tokio::test]
    async fn names_of_the_configuration_that_go_away_refuse_the_set() {
        let bench = Bench::new().await;
        bench.write("version: 1\ndeny: [{name: d, routes: [arm]}]\n");
        bench.reload(|_| {}).await;
        let around = Surroundings { routes: Some(["other".to_owned()].into()), ..Surroundings::default() };
        let reload = ticking(&bench.clock, bench.live.surrounded_by(around), |_| {}).await;
        assert!(matches!(reload, Reload::Refused(_)), "{reload:?}");
        assert_eq!(bench.names(), ["d"]);
    }
}
