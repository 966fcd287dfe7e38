//! Who is signed in on this machine: one file that only its owner can read, sealed with a key that the
//! keyring holds, where there is one.
//!
//! It is written beside and renamed, so that it is whole at any time, and changed under an exclusive
//! lock: of twenty processes that find the token old, one asks the issuer, the others find its answer.
//! It is as it was made, sealed or not, until somebody signs in again.

mod sealed;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use self::sealed::{Form, Seals};
pub use self::sealed::{Kept, Unopened};
use super::{Key, KeyError, Keyring, KeyringError, SignIn, SignInError, possession::FILE};
use crate::time::Timestamp;

/// A token that ends within this is fetched anew: it must outlive the request that it is for.
const MARGIN: Duration = Duration::from_secs(90);
/// The version of what is in the file.
const VERSION: u32 = 1;

/// The tokens of a person at one gate.
#[derive(Clone, Serialize, Deserialize)]
pub struct Tokens {
    /// What the gate is shown.
    #[serde(serialize_with = "exposed")]
    pub access: SecretString,
    /// What brings the next one, if the issuer gave it.
    #[serde(serialize_with = "exposed_if_any", default)]
    pub refresh: Option<SecretString>,
    /// When `access` ends, in seconds since 1970.
    pub expires: u64,
    /// Whether they are bound to this machine's key, and worth nothing without it.
    #[serde(default)]
    pub bound: bool,
}

fn exposed<S: Serializer>(secret: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose_secret())
}

#[allow(clippy::ref_option, reason = "serde hands the field over by reference")]
fn exposed_if_any<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => to.serialize_some(secret.expose_secret()),
        None => to.serialize_none(),
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("expires", &self.expires)
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Whether the access token lives long enough to be used.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        Timestamp::from_secs(self.expires) > now.plus(MARGIN)
    }

    /// What the access token says, unverified: for the person's own eyes.
    #[must_use]
    pub fn claims(&self) -> Map<String, Value> {
        let payload = self.access.expose_secret().split('.').nth(1).unwrap_or_default();
        let bytes = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

/// A person signed in to a gate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// The issuer's name at the gate.
    pub issuer_name: String,
    /// The issuer's URL.
    pub issuer: String,
    /// The public client.
    pub client_id: String,
    /// What was asked for.
    pub scopes: Vec<String>,
    /// Authorities that are believed besides the system's, PEM.
    pub trust: Option<String>,
    /// The tokens.
    pub tokens: Tokens,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Contents {
    version: u32,
    /// The gate that was signed in to last.
    current: Option<String>,
    sessions: BTreeMap<String, Session>,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No place for the file.
    #[error("there is no home directory to keep tokens in: set AMLGATE_HOME to a directory of your own")]
    NoHome,
    /// The file.
    #[error("`{path}` cannot be used")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error(
        "`{0}` can be read by others, and so its tokens are not used: run `chmod 600` on it, or remove it and sign in again"
    )]
    Exposed(PathBuf),
    /// What is in the file.
    #[error("`{path}` is not what `amlgate login` writes ({why}); remove it and sign in again")]
    Contents {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It is sealed.
    #[error(
        "the tokens in `{path}` are sealed and cannot be opened: run `amlgate login --gate URL`, or unlock the keyring"
    )]
    Sealed {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Unopened,
    },
    /// The entry in the keyring stays.
    #[error(
        "nobody is signed in any more, but the keyring still holds the key (`amlgate`, `{name}`), which opens nothing now"
    )]
    Left {
        /// Its name there.
        name: String,
        /// Why.
        source: KeyringError,
    },
    /// This machine's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Nobody is signed in.
    #[error("nobody is signed in{}: run `amlgate login --gate URL`", .0.as_ref().map(|gate| format!(" to `{gate}`")).unwrap_or_default())]
    Nobody(Option<String>),
    /// The token is over and there is no other.
    #[error("the sign-in to `{gate}` is over: run `amlgate login --gate {gate}`")]
    Over {
        /// Where.
        gate: String,
        /// What the issuer said.
        #[source]
        why: Option<SignInError>,
    },
    /// The issuer could not be asked.
    #[error("the token for `{gate}` cannot be renewed now")]
    NotRenewed {
        /// Where.
        gate: String,
        /// Why.
        source: SignInError,
    },
}

/// The file of sessions.
#[derive(Debug, Clone)]
pub struct Sessions {
    folder: PathBuf,
    seals: Seals,
}

impl Sessions {
    /// In `folder`, which is made when something is kept; with no keyring.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self { folder, seals: Seals::default() }
    }

    /// The same, sealed with a key that `keyring` holds from the next sign-in on.
    #[must_use]
    pub fn sealed_by(mut self, keyring: Keyring) -> Self {
        self.seals = Seals::by(keyring);
        self
    }

    /// Where the user's own are: `AMLGATE_HOME`, else `amlgate` below `XDG_CONFIG_HOME`, else below
    /// `.config` of the home directory (`APPDATA` on Windows). They are sealed by the system's keyring.
    ///
    /// # Errors
    /// [`SessionError::NoHome`].
    pub fn of_user() -> Result<Self, SessionError> {
        let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        named("AMLGATE_HOME")
            .or_else(|| named("XDG_CONFIG_HOME").map(|p| p.join("amlgate")))
            .or_else(|| named("APPDATA").map(|p| p.join("amlgate")))
            .or_else(|| named("HOME").map(|p| p.join(".config").join("amlgate")))
            .map(|folder| Self::at(folder).sealed_by(Keyring::of_system()))
            .ok_or(SessionError::NoHome)
    }

    /// The same without the keyring: the next sign-in is kept in the file as it is.
    #[must_use]
    pub fn without_keyring(self) -> Self {
        Self::at(self.folder)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn file(&self) -> PathBuf {
        self.folder.join("sessions.json")
    }

    /// This machine's key, which is made if there is none.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn key(&self) -> Result<Arc<Key>, SessionError> {
        // Made by one process; read by any.
        let _lock = if self.folder.join(FILE).exists() { None } else { Some(self.lock()?) };
        Ok(Key::of(&self.folder)?)
    }

    /// The session at a gate, or at the one that was signed in to last.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn find(&self, gate: Option<&str>) -> Result<(String, Session), SessionError> {
        let (mut contents, _) = self.read()?;
        let wanted = gate.map(named).or(contents.current);
        let nobody = || SessionError::Nobody(gate.map(named));
        let gate = wanted.ok_or_else(nobody)?;
        let session = contents.sessions.remove(&gate).ok_or_else(nobody)?;
        Ok((gate, session))
    }

    /// Keeps a session, and makes its gate the current one. Says how all of them are kept now.
    ///
    /// # Errors
    /// [`SessionError`]; then the file is as it was.
    pub fn keep(&self, gate: &str, session: Session) -> Result<Kept, SessionError> {
        let _lock = self.lock()?;
        let (mut contents, silent) = match self.read() {
            Ok((contents, _)) => (contents, None),
            // Whoever signs in anew is not held up by what nobody can open.
            Err(SessionError::Sealed { source, .. }) => (Contents::default(), source.silent()),
            Err(error) => return Err(error),
        };
        contents.current = Some(named(gate));
        contents.sessions.insert(named(gate), session);
        let kept = silent.map_or_else(|| self.seals.made(&self.entry()), Kept::Plain);
        let form = if kept == Kept::Sealed { Form::Sealed } else { Form::Plain };
        self.write(&contents, form)?;
        Ok(kept)
    }

    /// Forgets a session: the one at `gate`, or the current one. Says which it was. With the last one
    /// goes the key in the keyring.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn forget(&self, gate: Option<&str>) -> Result<String, SessionError> {
        let _lock = self.lock()?;
        let (mut contents, form) = self.read()?;
        let nobody = || SessionError::Nobody(gate.map(named));
        let wanted = gate.map(named).or_else(|| contents.current.clone()).ok_or_else(nobody)?;
        contents.sessions.remove(&wanted).ok_or_else(nobody)?;
        if contents.current.as_ref() == Some(&wanted) {
            contents.current = contents.sessions.keys().next().cloned();
        }
        if form == Form::Plain || !contents.sessions.is_empty() {
            self.write(&contents, form)?;
            return Ok(wanted);
        }
        self.write(&contents, Form::Plain)?;
        let name = self.entry();
        self.seals.gone(&name).map_err(|source| SessionError::Left { name, source })?;
        Ok(wanted)
    }

    /// The session with a token that is fresh; it is renewed if it has to be. Any number of processes
    /// may ask at once: the issuer is asked by one.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn fresh(
        &self,
        gate: Option<&str>,
        sign_in: &SignIn,
        now: Timestamp,
    ) -> Result<(String, Session), SessionError> {
        let wanted = gate.map(str::to_owned);
        // A keyring may have to be unlocked.
        let (gate, session) = self.beside(move |own| own.find(wanted.as_deref())).await?;
        if session.tokens.is_fresh(now) {
            return Ok((gate, session));
        }
        // Another process may hold the lock for as long as its issuer takes to answer.
        let _lock = self.beside(Self::lock).await?;
        let (_, mut session) = self.find(Some(&gate))?;
        if session.tokens.is_fresh(now) {
            return Ok((gate, session));
        }
        let Some(refresh) = &session.tokens.refresh else {
            return Err(SessionError::Over { gate, why: None });
        };
        let holding = if session.tokens.bound {
            sign_in.clone().holding(Key::of(&self.folder)?)
        } else {
            sign_in.clone()
        };
        let tokens = match holding.refresh(&session, refresh, now).await {
            Ok(tokens) => tokens,
            Err(why) if why.is_final() => return Err(SessionError::Over { gate, why: Some(why) }),
            Err(source) => return Err(SessionError::NotRenewed { gate, source }),
        };
        session.tokens = tokens;
        let (mut contents, form) = self.read()?;
        contents.sessions.insert(gate.clone(), session.clone());
        self.write(&contents, form)?;
        Ok((gate, session))
    }

    /// Does what may take a while where it holds up nothing else.
    async fn beside<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Self) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<T, SessionError> {
        let own = self.clone();
        let acting = tokio::task::spawn_blocking(move || act(&own));
        acting.await.map_err(|error| self.broken(io::Error::other(error)))?
    }

    /// Removes the files if nobody is signed in, and the folder if it is empty then; whether all of it
    /// is gone.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn clear(&self) -> Result<bool, SessionError> {
        if !self.folder.exists() {
            return Ok(true);
        }
        {
            let _lock = self.lock()?;
            match self.read() {
                Ok((contents, _)) if contents.sessions.is_empty() => {}
                Ok(_) => return Ok(false),
                // Nobody can be signed in by what nothing opens.
                Err(SessionError::Sealed { source: Unopened::Lost, .. }) => {}
                Err(error) => return Err(error),
            }
            for name in ["sessions.json", "sessions.lock", FILE] {
                match fs::remove_file(self.folder.join(name)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.broken(error)),
                    Ok(()) | Err(_) => {}
                }
            }
        }
        // What somebody else keeps there stays.
        Ok(fs::remove_dir(&self.folder).is_ok())
    }

    fn broken(&self, source: io::Error) -> SessionError {
        SessionError::File { path: self.file(), source }
    }

    /// Held until it is dropped.
    fn lock(&self) -> Result<File, SessionError> {
        private_folder(&self.folder).map_err(|e| self.broken(e))?;
        let lock = owned(OpenOptions::new().create(true).truncate(false).write(true))
            .open(self.folder.join("sessions.lock"))
            .map_err(|e| self.broken(e))?;
        lock.lock().map_err(|e| self.broken(e))?;
        Ok(lock)
    }

    /// What is in the file, and in which form.
    fn read(&self) -> Result<(Contents, Form), SessionError> {
        let path = self.file();
        let text = match fs::read(&path) {
            Ok(text) => zeroize::Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Contents::default(), Form::Plain));
            }
            Err(source) => return Err(SessionError::File { path, source }),
        };
        if !matches!(crate::secrets::exposure(&path), Ok(None)) {
            return Err(SessionError::Exposed(path));
        }
        let opened = self.seals.opened(&self.entry(), &text);
        let opened = opened.map_err(|source| SessionError::Sealed { path: path.clone(), source })?;
        let form = if opened.is_some() { Form::Sealed } else { Form::Plain };
        let contents: Contents = serde_json::from_slice(opened.as_ref().unwrap_or(&text))
            .map_err(|why| SessionError::Contents { path: path.clone(), why: why.to_string() })?;
        if contents.version != VERSION {
            let why = format!("its version is {}, this program writes {VERSION}", contents.version);
            return Err(SessionError::Contents { path, why });
        }
        Ok((contents, form))
    }

    fn write(&self, contents: &Contents, form: Form) -> Result<(), SessionError> {
        let contents = Contents {
            version: VERSION,
            current: contents.current.clone(),
            sessions: contents.sessions.clone(),
        };
        let text = zeroize::Zeroizing::new(serde_json::to_vec_pretty(&contents).unwrap_or_default());
        let text = match form {
            Form::Plain => text,
            Form::Sealed => {
                let sealed = self.seals.sealed(&text);
                sealed.map_err(|source| SessionError::Sealed { path: self.file(), source })?
            }
        };
        write_private(&self.file(), &text).map_err(|e| self.broken(e))
    }

    /// The name of its key in the keyring: the folder, which a person knows again there.
    fn entry(&self) -> String {
        let folder = fs::canonicalize(&self.folder).unwrap_or_else(|_| self.folder.clone());
        folder.display().to_string()
    }
}

/// How a gate is called in the file: without a slash at the end.
fn named(gate: &str) -> String {
    gate.trim_end_matches('/').to_owned()
}

#[cfg(unix)]
fn owned(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600)
}

#[cfg(not(unix))]
fn owned(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Makes a folder that nobody else can look into.
pub(super) fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// What the system says.
pub fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = owned(OpenOptions::new().create(true).truncate(true).write(true)).open(&beside)?;
    let written =
        file.write_all(text).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        drop(fs::remove_file(&beside));
    }
    written
}
