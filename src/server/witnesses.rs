//! Shows each new head of the record to the places that are configured: to witnesses, whose
//! cosignatures are kept beside the log, and to folders, repositories and containers where the gate
//! can add and not change.

mod client;
mod container;
mod git;

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use self::{client::Client, git::Git};
use super::{
    StartError,
    blobs::{Container, Kept},
    checkup::Finding,
    secrets::Secrets,
};
use crate::{
    admin::witness::Witness,
    audit::{
        COSIGNED, folder_of,
        note::{self, Head},
        proof,
        storage::{Directory, Storage as _},
        tiles::{CHECKPOINT, Tiled},
        witness::Cosigner,
    },
    config::settings::{Outgoing, Settings, WitnessPlace, WitnessSettings},
    credentials::Credentials,
    net::Connector,
    secrets::ExposeSecret,
    time::{SharedClock, Timestamp},
};

/// What is said of a place that has another head of the same size.
const FORKED: &str = "another head of that size is there: the log was forked";

/// Where heads are shown.
pub(super) struct Witnesses {
    log: Directory,
    places: Vec<Place>,
    clock: SharedClock,
    /// What is kept in [`COSIGNED`].
    cosigned: String,
}

/// What places are made with.
pub(super) struct Making<'m> {
    pub connector: &'m Connector,
    pub credentials: &'m Credentials,
    pub secrets: &'m mut Secrets,
    pub clock: &'m SharedClock,
}

/// What the configuration says of witnesses: who sees this record, and whose record is seen here.
pub(super) async fn built(
    settings: &Settings,
    making: &mut Making<'_>,
) -> Result<(Option<Witnesses>, Option<Arc<Witness>>), StartError> {
    let audit = &settings.audit;
    let mut places = Vec::new();
    for found in &audit.witnesses {
        let to = To::of(found, &audit.directory, &settings.outgoing, making).await?;
        places.push(Place::new(found, to));
    }
    let clock = making.clock;
    let shown =
        (!places.is_empty()).then(|| Witnesses::new(audit.directory.clone(), places, Arc::clone(clock)));
    let Some(seen) = &audit.witness else { return Ok((shown, None)) };
    let key = making.secrets.read(&seen.signing_key, "audit.witness.signing_key").await?;
    let cosigner = Cosigner::from_pem(&seen.name, key.expose_secret().as_bytes())
        .map_err(|e| StartError::Witness(e.to_string()))?;
    let directory = audit.directory.join("witnessed");
    let witness = Witness::new(cosigner, seen.logs.clone(), directory.clone(), Arc::clone(clock))
        .map_err(|source| StartError::File { path: directory, source })?;
    Ok((shown, Some(Arc::new(witness))))
}

/// Tries each place, without showing anything: for `doctor`.
pub(super) async fn findings(settings: &Settings, making: &mut Making<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for found in &settings.audit.witnesses {
        let part = format!("witness {}", found.name);
        let to = To::of(found, &settings.audit.directory, &settings.outgoing, making).await;
        findings.push(match to {
            Err(error) => Finding::broken(
                part,
                super::checkup::causes(&error),
                "mend what `audit.witnesses` says of it",
            ),
            Ok(to) => to.finding(part).await,
        });
    }
    findings
}

struct Place {
    name: Arc<str>,
    every: Duration,
    to: To,
    /// The newest head that it has, and since when.
    shown: String,
    at: Option<Timestamp>,
    /// The line by which it vouches for that.
    line: String,
    failing: bool,
}

enum To {
    Witness(Box<Client>),
    Folder(PathBuf),
    Git(Box<Git>),
    Container(Box<Container>),
}

impl Witnesses {
    fn new(log: PathBuf, places: Vec<Place>, clock: SharedClock) -> Self {
        Self { log: Directory::at(log), places, clock, cosigned: String::new() }
    }

    /// Shows what is new every `every`; told to stop, when no further head can come, the last one.
    pub async fn run(mut self, every: Duration, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.show(false).await;
            tokio::select! {
                () = self.clock.sleep(every) => {}
                () = stop.cancelled() => {}
            }
        }
        self.show(true).await;
    }

    /// Shows the newest head wherever it is due, or to everybody who lacks it.
    async fn show(&mut self, everywhere: bool) {
        let checkpoint = self.log.read(CHECKPOINT).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(checkpoint) = checkpoint else { return };
        let now = self.clock.now();
        for place in &mut self.places {
            let rests = place.at.is_some_and(|at| now.since(at) < place.every);
            if place.shown != checkpoint && (everywhere || !rests) {
                place.show(&checkpoint, &self.log, now).await;
            }
        }
        let lines = self.places.iter().filter(|place| place.shown == checkpoint);
        let lines: String = lines.map(|place| place.line.as_str()).collect();
        let cosigned = format!("{checkpoint}{lines}");
        if lines.is_empty() || cosigned == self.cosigned {
            return;
        }
        match self.log.replace(COSIGNED, cosigned.as_bytes()) {
            Ok(()) => self.cosigned = cosigned,
            Err(error) => tracing::error!(%error, "cosignatures cannot be kept"),
        }
    }
}

impl Place {
    fn new(settings: &WitnessSettings, to: To) -> Self {
        Self {
            name: Arc::clone(&settings.name),
            every: settings.every,
            to,
            shown: String::new(),
            at: None,
            line: String::new(),
            failing: false,
        }
    }

    async fn show(&mut self, checkpoint: &str, log: &Directory, now: Timestamp) {
        let witness = self.name.to_string();
        let shown = match note::unverified(checkpoint) {
            Some(head) => self.to.show(&head, checkpoint, log).await.map(|line| (head.size, line)),
            None => Err("the log's own head cannot be read".to_owned()),
        };
        match shown {
            Ok((size, line)) => {
                (self.shown, self.line, self.at) = (checkpoint.to_owned(), line, Some(now));
                metrics::gauge!("amlgate_journal_witnessed_size", "witness" => witness.clone())
                    .set(size as f64);
                if std::mem::replace(&mut self.failing, false) {
                    tracing::info!(witness, "the witness sees the record again");
                }
            }
            Err(error) => {
                metrics::counter!("amlgate_journal_witness_failures_total", "witness" => witness.clone())
                    .increment(1);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(witness, %error, "the witness does not see the record");
                }
            }
        }
    }
}

impl To {
    async fn of(
        found: &WitnessSettings,
        log: &Path,
        outgoing: &Outgoing,
        making: &mut Making<'_>,
    ) -> Result<Self, StartError> {
        Ok(match &found.place {
            WitnessPlace::Folder(folder) => Self::Folder(folder.clone()),
            WitnessPlace::Witness { url, prefix, key, trust, address } => {
                let trust = trust.as_deref();
                let client = Client::new((url, prefix), key.clone(), trust, *address, making.connector);
                Self::Witness(Box::new(client.map_err(StartError::Witness)?))
            }
            WitnessPlace::Git(git) => {
                let token = match &git.token {
                    Some(token) => {
                        Some(making.secrets.read(token, &format!("the witness `{}`", found.name)).await?)
                    }
                    None => None,
                };
                let clone = log.join("witnesses").join(format!("{}.git", found.name));
                Self::Git(Box::new(Git::new(git, clone, token, outgoing, making.clock)))
            }
            WitnessPlace::Container(container) => {
                Self::Container(Box::new(Container::new(container, making.credentials, making.clock)?))
            }
        })
    }

    /// Shows a head; gives the line that vouches for it, of a witness that signs.
    async fn show(&mut self, head: &Head, checkpoint: &str, log: &Directory) -> Result<String, String> {
        match self {
            Self::Witness(client) => return client.show(head, checkpoint, log).await,
            Self::Folder(folder) => {
                keep(folder, head, checkpoint).map_err(|e| format!("`{}`: {e}", folder.display()))?;
            }
            Self::Git(git) => git.show(head, checkpoint, log).await?,
            Self::Container(container) => container::add(container, head, checkpoint).await?,
        }
        Ok(String::new())
    }

    async fn finding(&self, part: String) -> Finding {
        let seen = match self {
            Self::Witness(client) => client.probe().await,
            Self::Git(git) => git.probe().await,
            Self::Folder(folder) if folder.is_dir() => Ok(format!("`{}` is there", folder.display())),
            Self::Folder(folder) => Err(format!("`{}` is no folder", folder.display())),
            Self::Container(container) => match container.kept().await {
                Ok(Kept::Immutable) => Ok(format!("`{}` is immutable", container.url(""))),
                Ok(Kept::Mutable) => {
                    let seen = format!("`{}` is there, and what is in it can be changed", container.url(""));
                    let mend = "give the container an immutability policy (`az storage container immutability-policy create`)";
                    return Finding::doubtful(part, seen, mend);
                }
                Err(why) => Err(why),
            },
        };
        match seen {
            Ok(seen) => Finding::fine(part, seen),
            Err(why) => Finding::unreachable(part, why, "check what `audit.witnesses` says of it"),
        }
    }
}

/// The name of a head where each has one of its own.
fn name_of(head: &Head) -> String {
    format!("{}/{:020}.checkpoint", folder_of(&head.origin), head.size)
}

/// Whether the log goes on where a head of it that is kept elsewhere ended.
fn follows(there: &Head, head: &Head, log: &Directory) -> Result<(), String> {
    if there.size > head.size {
        return Err(format!(
            "it holds a head of {} records, and the log has {}: the log was cut",
            there.size, head.size
        ));
    }
    if there.size == 0 {
        return Ok(());
    }
    let root = proof::root(&mut Tiled::new(log, head.size), 0, there.size)
        .map_err(|e| format!("cannot prove that the log only grew: {e}"))?;
    if root == there.root {
        Ok(())
    } else {
        Err(format!("its head of {} records is of another log: the log was forked", there.size))
    }
}

/// Adds a head to a folder; one that is there already must be the same.
fn keep(folder: &Path, head: &Head, checkpoint: &str) -> io::Result<()> {
    let path = folder.join(name_of(head));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => file.write_all(checkpoint.as_bytes()).and_then(|()| file.sync_all()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let there = fs::read_to_string(&path)?;
            let same = note::unverified(&there).is_some_and(|there| there == *head);
            if same { Ok(()) } else { Err(io::Error::other(FORKED)) }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
