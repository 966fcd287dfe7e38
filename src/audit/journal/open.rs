//! Opening the log: what a crash left is found, and its threads begin.

use std::{
    fs,
    sync::{Arc, Mutex, atomic::AtomicU64, mpsc},
    thread,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use secrecy::ExposeSecret;
use tokio::sync::{Semaphore, oneshot};

use super::{
    super::{
        Condition, JournalSettings, OpenError, Recovery, Refusals,
        event::Event,
        inbox,
        keeper::{GivenUp, Keeper, Wish},
        note::Signer,
        recovery,
        segment::{END, PUBLIC_KEY},
        storage::{Directory, Storage},
        writer::{Message, Missed, Shared, Writer},
    },
    Inner, Journal, bodies,
};
use crate::{secrets::Mac, time::SharedClock};

impl Journal {
    /// Opens the log in a directory, or begins one; finds its end and says what a crash left
    /// unfinished. The verifier key is written beside it.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is changed then.
    pub fn open(
        settings: &JournalSettings,
        thumbprint: Mac,
        clock: SharedClock,
    ) -> Result<(Self, Recovery), OpenError> {
        let path = &settings.directory;
        let failed = |source| OpenError::Directory { path: path.clone(), source };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(OpenError::Locked(path.clone())),
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        if path.join(END).exists() {
            return Err(OpenError::Ended(path.clone()));
        }
        Self::open_on(Directory::at(path.clone()), settings, thumbprint, clock, Some(lock))
    }

    /// As [`Self::open`], on any storage: for tests of what the disk does.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_on<S: Storage + Clone>(
        mut storage: S,
        settings: &JournalSettings,
        thumbprint: Mac,
        clock: SharedClock,
        lock: Option<fs::File>,
    ) -> Result<(Self, Recovery), OpenError> {
        let signer = Signer::from_pem(&settings.origin, settings.signing_key.expose_secret().as_bytes())?;
        let mut recovered = recovery::recover(&mut storage, signer.origin())?;
        let key = signer.verifier();
        // The newest head tells whose log it is: a crash may lie between the new key and its record.
        let before = recovered.signed_by.clone().or_else(|| recovered.keys.newest().cloned());
        let replaced = before.filter(|before| *before != key).map(|before| before.to_string());
        let retiring = match (&replaced, &settings.previous_key) {
            (Some(before), Some(pem)) => {
                let retiring = Signer::from_pem(&settings.origin, pem.expose_secret().as_bytes())?;
                if retiring.verifier().to_string() != *before {
                    return Err(OpenError::PreviousKey(before.clone()));
                }
                Some(retiring)
            }
            (Some(_), None) => {
                tracing::warn!("heads are signed with another key, for which the one before does not vouch");
                None
            }
            (None, _) => None,
        };
        let vouched = retiring.is_some();
        if recovered.keys.rotate(key.clone()) {
            storage
                .replace(PUBLIC_KEY, recovered.keys.to_string().as_bytes())
                .map_err(|source| OpenError::Directory { path: settings.directory.clone(), source })?;
        }
        let condition = Arc::new(ArcSwap::from_pointee(Condition::Healthy));
        metrics::gauge!("amlgate_journal_healthy").set(1.0);
        let (wish, given_up, (heads, signed)) = (Wish::default(), GivenUp::default(), mpsc::channel());
        let keeper = Keeper::new(
            storage.clone(),
            settings.pack,
            settings.retain,
            Arc::clone(&clock),
            (Arc::clone(&wish), Arc::clone(&given_up)),
        );
        let missed = Arc::new(Missed::default());
        let shared = Shared {
            condition: Arc::clone(&condition),
            missed: Arc::clone(&missed),
            clock: Arc::clone(&clock),
        };
        let writer =
            Writer::new(storage, signer, retiring, heads, &recovered, settings.segment_bytes, shared);
        let durable = writer.durable.subscribe();
        let (messages, inbox) = inbox::pair();
        let (done, kept) = oneshot::channel();
        thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || {
                keeper.run(&signed);
                // Nobody may wait for it.
                let _gone = done.send(());
            })
            .map_err(OpenError::Thread)?;
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&inbox))
            .map_err(OpenError::Thread)?;
        let apart = bodies::sealing()?;
        let inner = Inner {
            messages,
            slots: Arc::new(Semaphore::new(settings.slots)),
            space: Arc::new(Semaphore::new((settings.queued_bytes >> 10).clamp(1, Semaphore::MAX_PERMITS))),
            capacity: settings.slots,
            slot_wait: settings.slot_wait,
            sync_wait: settings.sync_wait,
            condition,
            missed,
            durable,
            reads: settings.reads,
            clock,
            thumbprint,
            refusals: Refusals::default(),
            wish,
            given_up,
            retired: AtomicU64::new(0),
            bodies: ArcSwapOption::empty(),
            apart,
            kept: Mutex::new(Some(kept)),
            _lock: lock,
        };
        let journal = Self { inner: Arc::new(inner) };
        if let Some(before) = replaced {
            journal.push_unbounded(Event::SigningKeyChanged { before, after: key.to_string() });
            if vouched {
                drop(journal.inner.messages.send(Message::Head));
            }
        }
        if recovered.crashed || recovered.torn_bytes > 0 || !recovered.unresolved.is_empty() {
            journal.push_unbounded(Event::Recovered {
                torn_bytes: recovered.torn_bytes,
                unresolved: recovered.unresolved.clone(),
            });
        }
        Ok((journal, recovered))
    }
}
