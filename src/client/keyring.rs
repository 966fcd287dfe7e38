//! The system's keyring (Secret Service, macOS Keychain, Windows Credential Manager), which holds the
//! key that a person's tokens are sealed with.
//!
//! It holds that key alone and not the tokens: entries of some keyrings are too small for them, and
//! none can be changed under a lock. Each question goes from a thread of its own and is given up after
//! a while: a keyring that is locked waits for somebody to type a password, who may not be there.

use std::{fmt, sync::Arc, thread, time::Duration};

use secrecy::SecretString;

/// How long a keyring may take: a person may have to unlock it first.
const PATIENCE: Duration = Duration::from_secs(60);
/// What its entries are filed under.
#[cfg(feature = "keyring")]
const SERVICE: &str = "amlgate";

/// A way to a keyring.
#[cfg(feature = "keyring")]
type Store = Arc<keyring_core::CredentialStore>;
/// There is no way to one in this build.
#[cfg(not(feature = "keyring"))]
type Store = std::convert::Infallible;

/// A keyring that can be asked.
#[derive(Clone)]
pub struct Keyring {
    open: Arc<dyn Fn() -> Result<Store, KeyringError> + Send + Sync>,
    patience: Duration,
}

/// Why a keyring is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// There is none, or it refuses.
    #[error("no keyring answers here ({0})")]
    None(String),
    /// It does not answer.
    #[error("the keyring gives no answer within {} s; it may wait to be unlocked", .0.as_secs())]
    Silent(Duration),
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Keyring {
    /// The one of whoever is logged in to this machine. It is opened when it is first asked.
    #[must_use]
    pub fn of_system() -> Self {
        Self { open: Arc::new(system), patience: PATIENCE }
    }

    /// One that is open.
    #[cfg(feature = "keyring")]
    #[must_use]
    pub fn of(store: Store) -> Self {
        Self { open: Arc::new(move || Ok(Arc::clone(&store))), patience: PATIENCE }
    }

    /// What it holds under a name.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub(super) fn find(&self, name: &str) -> Result<Option<SecretString>, KeyringError> {
        self.ask(name, found)
    }

    /// Holds a secret under a name from now on.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub(super) fn keep(&self, name: &str, secret: &SecretString) -> Result<(), KeyringError> {
        let secret = secret.clone();
        self.ask(name, move |store, name| kept(store, name, &secret))
    }

    /// Holds nothing under a name from now on.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub(super) fn remove(&self, name: &str) -> Result<(), KeyringError> {
        self.ask(name, removed)
    }

    fn ask<T: Send + 'static>(
        &self,
        name: &str,
        question: impl FnOnce(&Store, &str) -> Result<T, KeyringError> + Send + 'static,
    ) -> Result<T, KeyringError> {
        let (answer, answered) = std::sync::mpsc::channel();
        let (open, name) = (Arc::clone(&self.open), name.to_owned());
        let asking = move || {
            let asked = open().and_then(|store| question(&store, &name));
            // Whoever asked may have given up.
            drop(answer.send(asked));
        };
        let thread = thread::Builder::new().name("keyring".to_owned()).spawn(asking);
        thread.map_err(|error| KeyringError::None(error.to_string()))?;
        answered.recv_timeout(self.patience).map_err(|_| KeyringError::Silent(self.patience))?
    }
}

#[cfg(feature = "keyring")]
fn system() -> Result<Store, KeyringError> {
    #[cfg(target_os = "macos")]
    let store = apple_native_keyring_store::keychain::Store::new();
    #[cfg(target_os = "windows")]
    let store = windows_native_keyring_store::Store::new();
    #[cfg(all(unix, not(target_os = "macos")))]
    let store = zbus_secret_service_keyring_store::Store::new();
    let store: Store = store.map_err(|error| refused(&error))?;
    Ok(store)
}

#[cfg(not(feature = "keyring"))]
fn system() -> Result<Store, KeyringError> {
    Err(KeyringError::None("this program was built without keyrings".to_owned()))
}

/// Its own words: they hold no secret.
#[cfg(feature = "keyring")]
fn refused(error: &keyring_core::Error) -> KeyringError {
    KeyringError::None(error.to_string())
}

#[cfg(feature = "keyring")]
fn entry(store: &Store, name: &str) -> Result<keyring_core::Entry, KeyringError> {
    store.build(SERVICE, name, None).map_err(|error| refused(&error))
}

#[cfg(feature = "keyring")]
fn found(store: &Store, name: &str) -> Result<Option<SecretString>, KeyringError> {
    match entry(store, name)?.get_password() {
        Ok(secret) => Ok(Some(SecretString::from(secret))),
        Err(keyring_core::Error::NoEntry) => Ok(None),
        Err(error) => Err(refused(&error)),
    }
}

#[cfg(feature = "keyring")]
fn kept(store: &Store, name: &str, secret: &SecretString) -> Result<(), KeyringError> {
    let secret = secrecy::ExposeSecret::expose_secret(secret);
    entry(store, name)?.set_password(secret).map_err(|error| refused(&error))
}

#[cfg(feature = "keyring")]
fn removed(store: &Store, name: &str) -> Result<(), KeyringError> {
    match entry(store, name)?.delete_credential() {
        Ok(()) | Err(keyring_core::Error::NoEntry) => Ok(()),
        Err(error) => Err(refused(&error)),
    }
}

#[cfg(not(feature = "keyring"))]
fn found(store: &Store, _: &str) -> Result<Option<SecretString>, KeyringError> {
    match *store {}
}

#[cfg(not(feature = "keyring"))]
fn kept(store: &Store, _: &str, _: &SecretString) -> Result<(), KeyringError> {
    match *store {}
}

#[cfg(not(feature = "keyring"))]
fn removed(store: &Store, _: &str) -> Result<(), KeyringError> {
    match *store {}
}

#[cfg(test)]
impl Keyring {
    /// One that cannot be opened.
    pub(super) fn absent() -> Self {
        Self { open: Arc::new(|| Err(KeyringError::None("none".to_owned()))), patience: PATIENCE }
    }

    /// One that is locked, and waits for somebody who is not there for as long as it is held.
    pub(super) fn locked() -> (Self, std::sync::mpsc::Sender<()>) {
        let (unlock, unlocked) = std::sync::mpsc::channel();
        let unlocked = std::sync::Mutex::new(unlocked);
        let open = move || {
            let _ended = unlocked.lock().unwrap().recv();
            Err(KeyringError::None("it stayed locked".to_owned()))
        };
        (Self { open: Arc::new(open), patience: Duration::from_millis(20) }, unlock)
    }
}
