//! Moves old segments of the record to a container of blobs: each is uploaded, read back, recorded as
//! archived, and only then removed from the disk, which the keeper of the record does with the next
//! head.
//!
//! Whatever is cut off between is done again: what is there already and is the same counts as
//! uploaded, blocks that arrived are not sent twice, and a record that says a second time what is
//! archived changes nothing. A segment that a sink has not exported yet stays.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{
    StartError,
    blobs::{Container, Kept},
    checkup::Finding,
};
use crate::{
    audit::{
        Journal,
        archive::{self, Archived, Due, Finder},
        event::Event,
        folder_of,
        sinks::SinkStatus,
        storage::{Directory, Storage as _},
    },
    config::Settings,
    credentials::Credentials,
    time::SharedClock,
};

/// How often it is looked for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// So many bytes are read back at a time.
const PART: usize = 4 << 20;

/// Archives what is due.
pub(super) struct Archive {
    directory: PathBuf,
    origin: String,
    container: Container,
    after: Duration,
    journal: Journal,
    sinks: Vec<Arc<SinkStatus>>,
    clock: SharedClock,
    finder: Finder,
    /// Everything before this position is archived and recorded as that.
    done: u64,
    failing: bool,
}

/// The container that a configuration names for old segments; `None` if it names none.
fn container(
    settings: &Settings,
    credentials: &Credentials,
    clock: &SharedClock,
) -> Result<Option<(Container, Duration)>, StartError> {
    let Some(found) = &settings.audit.archive else { return Ok(None) };
    Ok(Some((Container::new(&found.container, credentials, clock)?, found.after)))
}

/// What archives the record of a gate, if its configuration says so.
pub(super) fn built(
    settings: &Settings,
    credentials: &Credentials,
    journal: &Journal,
    sinks: &[Arc<SinkStatus>],
    clock: &SharedClock,
) -> Result<Option<Archive>, StartError> {
    let Some((container, after)) = container(settings, credentials, clock)? else { return Ok(None) };
    Ok(Some(Archive {
        directory: settings.audit.directory.clone(),
        origin: settings.audit.name.clone(),
        container,
        after,
        journal: journal.clone(),
        sinks: sinks.to_vec(),
        clock: Arc::clone(clock),
        finder: Finder::default(),
        done: 0,
        failing: false,
    }))
}

/// Tries the container, without adding anything: for `doctor`.
pub(super) async fn finding(
    settings: &Settings,
    credentials: &Credentials,
    clock: &SharedClock,
) -> Option<Finding> {
    let mend = "check what `audit.archive` says of it";
    let container = match container(settings, credentials, clock) {
        Ok(found) => found?.0,
        Err(error) => return Some(Finding::broken("archive", super::checkup::causes(&error), mend)),
    };
    Some(match container.kept().await {
        Ok(Kept::Immutable) => Finding::fine("archive", format!("`{}` is immutable", container.url(""))),
        // The heads vouch for what is in it; that it can be removed is the operator's choice.
        Ok(Kept::Mutable) => Finding::fine("archive", format!("`{}` is there", container.url(""))),
        Err(why) => Finding::unreachable("archive", why, mend),
    })
}

impl Archive {
    /// Archives what is due, for ever.
    pub async fn run(mut self) {
        loop {
            match self.look().await {
                Ok(()) => {
                    if std::mem::replace(&mut self.failing, false) {
                        tracing::info!("old segments are archived again");
                    }
                }
                Err(error) => {
                    metrics::counter!("amlgate_journal_archive_failures_total").increment(1);
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(%error, "old segments cannot be archived; they stay on the disk");
                    }
                }
            }
            self.clock.sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&mut self) -> Result<(), String> {
        while let Some(due) = self.due().await? {
            let archived = self.archive(&due).await?;
            self.done = due.until;
            metrics::gauge!("amlgate_journal_archived_size").set(due.until as f64);
            tracing::info!(segment = due.segment, url = archived.url, "an old segment is archived");
        }
        Ok(())
    }

    async fn due(&mut self) -> Result<Option<Due>, String> {
        let (mut finder, directory) = (std::mem::take(&mut self.finder), self.directory.clone());
        let taken = self.sinks.iter().map(|sink| sink.next()).min().unwrap_or(u64::MAX);
        let (done, after, now) = (self.done, self.after, self.clock.now());
        let looked = spawn_blocking(move || {
            let due = finder.due(&Directory::at(directory), done, taken, after, now);
            (finder, due)
        });
        let (finder, due) = looked.await.map_err(|e| e.to_string())?;
        self.finder = finder;
        due.map_err(|e| format!("cannot read the log: {e}"))
    }

    async fn archive(&self, due: &Due) -> Result<Archived, String> {
        let (directory, segment) = (self.directory.clone(), due.segment.clone());
        let read = spawn_blocking(move || Directory::at(directory).read(&segment));
        let bytes = read.await.map_err(io::Error::other).and_then(|read| read);
        let bytes = Bytes::from(bytes.map_err(|e| format!("`{}`: {e}", due.segment))?);
        let digest = sha256(&[&bytes]);
        let name = format!("{}/{}", folder_of(&self.origin), due.segment);
        if !self.is_there(&name, bytes.len(), &digest).await? {
            self.container.add_in_blocks(&name, &bytes, &digest).await?;
            if !self.is_there(&name, bytes.len(), &digest).await? {
                return Err(format!("`{}` was taken and cannot be read back", self.container.url(&name)));
            }
        }
        let archived = Archived {
            segment: due.segment.clone(),
            first: due.first,
            until: due.until,
            newest: due.newest.as_millis(),
            sha256: digest.iter().map(|b| format!("{b:02x}")).collect(),
            bytes: bytes.len() as u64,
            url: self.container.url(&name),
        };
        let (directory, noted) = (self.directory.clone(), archived.clone());
        let noted = spawn_blocking(move || archive::add(&mut Directory::at(directory), &noted));
        let noted = noted.await.map_err(io::Error::other).and_then(|noted| noted);
        noted.map_err(|e| format!("`{}`: {e}", archive::ARCHIVED))?;
        let event =
            Event::RecordsArchived { before: due.until, first: due.first, url: archived.url.clone(), digest };
        self.journal.happened(&event).await.map_err(|error| error.to_string())?;
        Ok(archived)
    }

    /// Whether the blob is there; it must be the one that is meant.
    async fn is_there(&self, name: &str, length: usize, digest: &[u8; 32]) -> Result<bool, String> {
        let mut parts = Vec::new();
        let mut read = 0;
        // One part more than it has, so that a longer one is seen.
        while read <= length {
            let Some(part) = self.container.part(name, read as u64, PART).await? else { return Ok(false) };
            if part.is_empty() {
                break;
            }
            read += part.len();
            parts.push(part);
        }
        let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
        if read == length && sha256(&parts) == *digest {
            return Ok(true);
        }
        Err(format!(
            "`{}` holds another segment: the log was forked, or another gate has its name",
            self.container.url(name)
        ))
    }
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
