//! Models of which Azure itself tells that they were registered: whether the gate stated where they came
//! from. One that has no statement came in by a door that the gate does not guard.
//!
//! What is told is kept, looked at when a statement has had its time, and believed in nothing but that it
//! is worth a look: whether the model is there is asked of Azure. Where Azure does not answer for long, the
//! model counts as there: somebody who can keep the gate from asking would not be heard of otherwise.

use std::time::Duration;

use tokio::sync::watch;

use super::custody::Custody;
use crate::{
    azureml::ResourceId,
    store::{RegistrationRow, Store, StoreError},
    time::Timestamp,
};

/// So many wait at most; who tells of more is asked to come again.
const MOST: u32 = 10_000;
/// Looked at in one go.
const AT_ONCE: u32 = 50;
/// Who looks at one has so long for it.
const CLAIM: Duration = Duration::from_secs(60);
/// So long is Azure asked whether a model is there.
const DOUBT: Duration = Duration::from_secs(3_600);
/// A statement is not made before its model is registered, but for clocks that do not agree.
const SKEW: Duration = Duration::from_secs(300);
/// So long what was settled is known again.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 86_400);
/// Statements of one model that are looked through.
const STATEMENTS: u32 = 16;

/// What was told. One for the whole process.
#[derive(Debug)]
pub struct Registrations {
    store: Option<Store>,
    told: watch::Sender<u64>,
}

/// A model that was registered, and nobody stated where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unstated {
    /// The model.
    pub registration: RegistrationRow,
    /// Whether Azure says that it is there; else Azure says nothing.
    pub seen: bool,
}

impl Registrations {
    pub(super) fn new(store: Option<Store>) -> Self {
        Self { store, told: watch::Sender::new(0) }
    }

    /// Keeps what was told of a model.
    ///
    /// # Errors
    /// [`StoreError`]: it is to be told again.
    pub async fn registered(&self, row: RegistrationRow) -> Result<(), StoreError> {
        let store = self.store.as_ref();
        let store = store.ok_or_else(|| StoreError::Unavailable("this gate has none".to_owned()))?;
        store.keep_registration(row, MOST).await.map(drop)
    }

    /// Something ended at Azure, or so somebody tells: whoever waits for the end of a job or an operation
    /// looks sooner.
    pub fn hint(&self) {
        self.told.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Counts the hints.
    #[must_use]
    pub fn hints(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// Of what is due, what has no statement; this replica alone is told of it, for a minute. The rest is
    /// settled, or looked at again later.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unstated(&self, custody: &Custody, now: Timestamp) -> Result<Vec<Unstated>, StoreError> {
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for registration in store.due_registrations(now, AT_ONCE).await? {
            if !store.claim_registration(&registration.model, now, now.plus(CLAIM)).await? {
                continue;
            }
            let stated = store.statements_of(&registration.model, STATEMENTS).await?;
            if stated.iter().any(|row| row.made.plus(SKEW) >= registration.happened) {
                store.settle_registration(&registration.model, now).await?;
                continue;
            }
            let there = match ResourceId::parse(&registration.resource) {
                Some(id) => custody.is_there(&id).await,
                None => Err("it is no resource that could be asked about".to_owned()),
            };
            match there {
                Ok(true) => found.push(Unstated { registration, seen: true }),
                Ok(false) => store.settle_registration(&registration.model, now).await?,
                Err(why) => {
                    tracing::warn!(model = registration.named, why, "whether a model is there is not known");
                    if now.since(registration.due) >= DOUBT {
                        found.push(Unstated { registration, seen: false });
                    }
                }
            }
        }
        Ok(found)
    }

    /// It is told of to whom it concerns.
    ///
    /// # Errors
    /// [`StoreError`]: then it is told of once more.
    pub async fn settled(&self, unstated: &Unstated, now: Timestamp) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        store.settle_registration(&unstated.registration.model, now).await
    }

    /// Forgets what was settled long ago.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget(&self, now: Timestamp) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        store.forget_registrations(now.minus(KNOWN_FOR)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;
    use crate::{
        gates::{Gates, custody::Reader},
        store::{StatementRow, StoreAddress},
        time::ManualClock,
    };

    type Answer = Result<Option<Value>, String>;

    /// Gates over a store of their own, before an Azure that answers as it is told.
    fn gates(answer: Answer) -> (Gates, Store, Arc<Mutex<Answer>>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(StoreAddress::Sqlite(directory.path().join("s.db"))).unwrap();
        let gates = Gates::keeping(Arc::new(ManualClock::starting_at(at(1_000))), Some(store.clone()));
        let answer = Arc::new(Mutex::new(answer));
        let told = Arc::clone(&answer);
        let reader = Reader::new(move |_| {
            let answer = told.lock().unwrap().clone();
            Box::pin(async move { answer })
        });
        gates.custody().read_by(Some(reader));
        (gates, store, answer, directory)
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn row(due: u64) -> RegistrationRow {
        RegistrationRow {
            model: "azureml://m".to_owned(),
            named: "azureml://M".to_owned(),
            resource: "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/models/m/versions/1".to_owned(),
            hook: "vision".to_owned(),
            event: "e".to_owned(),
            happened: at(1_000),
            due: at(due),
        }
    }

    fn stated(made: u64) -> StatementRow {
        let text = String::new;
        StatementRow {
            id: "i".to_owned(),
            model: "azureml://m".to_owned(),
            tail: text(),
            named: text(),
            digest: text(),
            decision: "d".to_owned(),
            made: at(made),
            provenance: text(),
            summary: text(),
        }
    }

    async fn found(gates: &Gates, now: u64) -> Vec<bool> {
        let found = gates.registrations().unstated(gates.custody(), at(now)).await.unwrap();
        found.iter().map(|unstated| unstated.seen).collect()
    }

    #[tokio::test]
    async fn what_is_there_and_was_stated_by_nobody_is_found_when_it_is_due_until_it_was_told_of() {
        let (gates, _store, _answer, _directory) = gates(Ok(Some(Value::Null)));
        gates.registrations().registered(row(1_600)).await.unwrap();
        assert_eq!(found(&gates, 1_599).await, Vec::<bool>::new());
        let unstated = gates.registrations().unstated(gates.custody(), at(1_600)).await.unwrap();
        assert_eq!(unstated, [Unstated { registration: row(1_600), seen: true }]);
        assert_eq!(found(&gates, 1_601).await, Vec::<bool>::new(), "somebody is at it");
        assert_eq!(found(&gates, 1_660).await, [true], "and did not get to its end");
        gates.registrations().settled(&unstated[0], at(1_661)).await.unwrap();
        assert_eq!(found(&gates, 9_000).await, Vec::<bool>::new());
    }

    #[tokio::test]
    async fn what_is_stated_or_not_there_is_nobodys_business() {
        let (gates, store, answer, _directory) = gates(Ok(None));
        gates.registrations().registered(row(1_600)).await.unwrap();
        assert_eq!(found(&gates, 1_600).await, Vec::<bool>::new(), "somebody invented it");
        *answer.lock().unwrap() = Ok(Some(Value::Null));
        assert_eq!(found(&gates, 9_000).await, Vec::<bool>::new());
        // It is registered after all, and stated.
        gates
            .registrations()
            .registered(RegistrationRow { event: "f".to_owned(), ..row(1_700) })
            .await
            .unwrap();
        store.keep_statement(stated(1_001)).await.unwrap();
        assert_eq!(found(&gates, 1_700).await, Vec::<bool>::new());
        // What was stated of a model of that name before is of another one.
        let anew = RegistrationRow { event: "g".to_owned(), happened: at(5_000), ..row(5_600) };
        gates.registrations().registered(anew).await.unwrap();
        assert_eq!(found(&gates, 5_600).await, [true]);
    }

    #[tokio::test]
    async fn where_azure_does_not_answer_it_is_asked_for_an_hour_and_then_somebody_is_told() {
        let (gates, _store, answer, _directory) = gates(Err("away".to_owned()));
        gates.registrations().registered(row(1_600)).await.unwrap();
        assert_eq!(found(&gates, 1_600).await, Vec::<bool>::new());
        assert_eq!(found(&gates, 5_199).await, Vec::<bool>::new());
        assert_eq!(found(&gates, 5_260).await, [false]);
        *answer.lock().unwrap() = Ok(None);
        assert_eq!(found(&gates, 5_400).await, Vec::<bool>::new());
    }
}
