//! Shows each new head of the record to the places that are configured: to witnesses, whose
//! cosignatures are kept beside the log, and to folders where the gate can add and not change.

use std::{fs, io, io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};

use super::{StartError, secrets::Secrets};
use crate::{
    admin::witness::Witness,
    audit::{
        COSIGNED, note, proof,
        proved::Consistency,
        storage::{Directory, Storage as _},
        tiles::{CHECKPOINT, Tiled},
        witness::{Cosigner, WitnessKey},
    },
    config::settings::{Settings, WitnessPlace, WitnessSettings},
    net::{Connector, Destination, FetchLimits, Trust},
    secrets::ExposeSecret,
    time::SharedClock,
};

/// What a witness answers is a few lines.
const LIMITS: FetchLimits = FetchLimits { body: 64 << 10, time: Duration::from_secs(10) };

/// Where heads are shown.
pub(super) struct Witnesses {
    log: Directory,
    places: Vec<Place>,
    connector: Connector,
    clock: SharedClock,
    /// The newest head that was shown.
    shown: String,
}

/// What the configuration says of witnesses: who sees this record, and whose record is seen here.
pub(super) async fn built(
    settings: &Settings,
    secrets: &mut Secrets,
    connector: &Connector,
    clock: &SharedClock,
) -> Result<(Option<Witnesses>, Option<Arc<Witness>>), StartError> {
    let audit = &settings.audit;
    let shown =
        Witnesses::new(audit.directory.clone(), &audit.witnesses, connector.clone(), Arc::clone(clock))
            .map_err(StartError::Witness)?;
    let Some(seen) = &audit.witness else { return Ok((shown, None)) };
    let key = secrets.read(&seen.signing_key, "audit.witness.signing_key").await?;
    let cosigner = Cosigner::from_pem(&seen.name, key.expose_secret().as_bytes())
        .map_err(|e| StartError::Witness(e.to_string()))?;
    let directory = audit.directory.join("witnessed");
    let witness = Witness::new(cosigner, seen.logs.clone(), directory.clone(), Arc::clone(clock))
        .map_err(|source| StartError::File { path: directory, source })?;
    Ok((shown, Some(Arc::new(witness))))
}

struct Place {
    name: Arc<str>,
    to: To,
    failing: bool,
}

enum To {
    Witness { prefix: String, to: Box<Destination>, key: WitnessKey, seen: u64 },
    Folder(PathBuf),
}

impl Witnesses {
    /// The configured places; `None` if there are none.
    ///
    /// # Errors
    /// Words for a place that cannot be used.
    pub fn new(
        log: PathBuf,
        places: &[WitnessSettings],
        connector: Connector,
        clock: SharedClock,
    ) -> Result<Option<Self>, String> {
        let places = places.iter().map(Place::new).collect::<Result<Vec<_>, _>>()?;
        let log = Directory::at(log);
        Ok((!places.is_empty()).then_some(Self { log, places, connector, clock, shown: String::new() }))
    }

    /// Shows what is new every `every`, for ever.
    pub async fn run(mut self, every: Duration) {
        loop {
            self.show().await;
            self.clock.sleep(every).await;
        }
    }

    async fn show(&mut self) {
        let checkpoint = self.log.read(CHECKPOINT).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(checkpoint) = checkpoint.filter(|note| *note != self.shown) else { return };
        let (mut all, mut lines) = (true, String::new());
        for place in &mut self.places {
            match place.show(&checkpoint, &self.log, &self.connector).await {
                Ok(line) => {
                    lines.push_str(&line);
                    if std::mem::replace(&mut place.failing, false) {
                        tracing::info!(witness = &*place.name, "the witness sees the record again");
                    }
                }
                Err(error) => {
                    all = false;
                    metrics::counter!("amlgate_journal_witness_failures_total", "witness" => place.name.to_string())
                        .increment(1);
                    if !std::mem::replace(&mut place.failing, true) {
                        tracing::error!(witness = &*place.name, %error, "the witness does not see the record");
                    }
                }
            }
        }
        if !lines.is_empty()
            && let Err(error) = self.log.replace(COSIGNED, format!("{checkpoint}{lines}").as_bytes())
        {
            tracing::error!(%error, "cosignatures cannot be kept");
        } else if all {
            self.shown = checkpoint;
        }
    }
}

impl Place {
    fn new(settings: &WitnessSettings) -> Result<Self, String> {
        let to = match &settings.place {
            WitnessPlace::Folder(folder) => To::Folder(folder.clone()),
            WitnessPlace::Witness { url, prefix, key, trust, address } => {
                let mut to = Destination::of(&url.to_uri())
                    .ok_or_else(|| format!("`{}` cannot be reached", settings.name))?
                    .at(*address);
                let trust = trust.as_deref().map(|pem| Trust::new(Some(pem))).transpose();
                to = to.trusting(trust.map_err(|e| e.to_string())?);
                // It is configured, and may be a gate beside this one.
                if to.reach == crate::net::Reach::Public {
                    to.reach = crate::net::Reach::Private;
                }
                To::Witness { prefix: prefix.clone(), to: Box::new(to), key: key.clone(), seen: 0 }
            }
        };
        Ok(Self { name: Arc::clone(&settings.name), to, failing: false })
    }

    /// Shows a head; gives the line that vouches for it, of a witness that signs.
    async fn show(
        &mut self,
        checkpoint: &str,
        log: &Directory,
        connector: &Connector,
    ) -> Result<String, String> {
        let head = note::unverified(checkpoint).ok_or("the log's own head cannot be read")?;
        match &mut self.to {
            To::Folder(folder) => {
                keep(folder, &head, checkpoint).map_err(|e| format!("`{}`: {e}", folder.display()))?;
                Ok(String::new())
            }
            To::Witness { prefix, to, key, seen } => {
                // The second time with the size that it says it saw.
                for _ in 0..2 {
                    if *seen > head.size {
                        return Err(format!("it saw {seen} records, and the log has {}", head.size));
                    }
                    let path = proof::consistency(&mut Tiled::new(log, head.size), *seen, head.size)
                        .map_err(|e| format!("cannot prove that the log only grew: {e}"))?;
                    let asked = Consistency { old: *seen, path, checkpoint: checkpoint.to_owned() };
                    let between = if prefix.is_empty() { "" } else { "/" };
                    let path = format!("/{prefix}{between}add-checkpoint");
                    let request = Request::post(path)
                        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
                        .body(Bytes::from(asked.to_string()))
                        .map_err(|e| e.to_string())?;
                    let answer = connector.send(to, request, LIMITS).await.map_err(|e| e.to_string())?;
                    let status = answer.status();
                    let text = String::from_utf8_lossy(answer.body()).into_owned();
                    match status {
                        StatusCode::OK if key.vouched(&format!("{checkpoint}{text}")).is_some() => {
                            *seen = head.size;
                            metrics::gauge!("amlgate_journal_witnessed_size", "witness" => self.name.to_string())
                                .set(head.size as f64);
                            let its = |line: &&str| key.vouched(&format!("{checkpoint}{line}\n")).is_some();
                            return Ok(text.lines().find(its).map(|l| format!("{l}\n")).unwrap_or_default());
                        }
                        StatusCode::OK => return Err("what it signed is not good under its key".to_owned()),
                        StatusCode::CONFLICT => {
                            *seen = text.trim().parse().map_err(|_| "it did not say what it saw last")?;
                        }
                        status => {
                            let why: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
                            return Err(format!("it answered {status}: {why}"));
                        }
                    }
                }
                Err("it does not know what it saw last".to_owned())
            }
        }
    }
}

/// Adds a head to a folder; one that is there already must be the same.
fn keep(folder: &std::path::Path, head: &note::Head, checkpoint: &str) -> io::Result<()> {
    let below: String = head
        .origin
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .collect();
    let folder = folder.join(below.trim_start_matches('.'));
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{:020}.checkpoint", head.size));
    match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => file.write_all(checkpoint.as_bytes()).and_then(|()| file.sync_all()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let there = fs::read_to_string(&path)?;
            let same = note::unverified(&there).is_some_and(|there| there == *head);
            if same {
                Ok(())
            } else {
                Err(io::Error::other("another head of that size is there: the log was forked"))
            }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
