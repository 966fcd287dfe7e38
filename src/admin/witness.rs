//! The gate as a witness of other logs: C2SP tlog-witness.
//!
//! Nobody signs in here: what is asked proves itself by the signature of a log that is listed, and
//! what is answered is for everybody.

use std::{fs, io, io::Write as _, path::PathBuf, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::sync::Mutex;

use crate::{
    audit::{
        note::{self, VerifierKeys},
        witness::{Cosigner, MAX_REQUEST, Refusal, judge},
    },
    time::SharedClock,
};

/// What a witness is and has seen.
#[derive(Debug)]
pub struct Witness {
    cosigner: Cosigner,
    logs: VerifierKeys,
    directory: PathBuf,
    clock: SharedClock,
    /// What was seen is looked at and replaced by one request at a time.
    turn: Mutex<()>,
}

impl Witness {
    /// A witness of these logs, which keeps the newest head of each in the directory, and its own
    /// verifier key beside them.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn new(
        cosigner: Cosigner,
        logs: VerifierKeys,
        directory: PathBuf,
        clock: SharedClock,
    ) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("witness.pub"), format!("{}\n", cosigner.verifier()))?;
        Ok(Self { cosigner, logs, directory, clock, turn: Mutex::new(()) })
    }

    /// Where the newest head of a log is kept: named by the hash of its name.
    fn kept(&self, origin: &str) -> PathBuf {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, origin.as_bytes());
        self.directory.join(note::hex(hash.as_ref()))
    }

    async fn add(&self, request: &str) -> Result<String, Failure> {
        let _turn = self.turn.lock().await;
        let latest = |origin: &str| match fs::read_to_string(self.kept(origin)) {
            Ok(text) => note::unverified(&text).map(Some).ok_or(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(_) => Err(()),
        };
        // What was seen and cannot be read must not count as never seen.
        let mut unreadable = false;
        let judged = judge(request, &self.logs, |origin| {
            latest(origin).unwrap_or_else(|()| {
                unreadable = true;
                None
            })
        });
        if unreadable {
            return Err(Failure::Disk(io::Error::other("the newest head cannot be read")));
        }
        let (head, checkpoint) = judged.map_err(Failure::Refused)?;
        let (text, _) = checkpoint.split_once("\n\n").unwrap_or_default();
        let line = self.cosigner.cosign(&format!("{text}\n"), self.clock.now());
        let path = self.kept(&head.origin);
        let beside = path.with_extension("new");
        let mut file = fs::File::create(&beside).map_err(Failure::Disk)?;
        file.write_all(format!("{checkpoint}{line}").as_bytes()).map_err(Failure::Disk)?;
        file.sync_all().map_err(Failure::Disk)?;
        fs::rename(&beside, &path).map_err(Failure::Disk)?;
        fs::File::open(&self.directory).and_then(|d| d.sync_all()).map_err(Failure::Disk)?;
        Ok(line)
    }
}

#[derive(Debug)]
enum Failure {
    Refused(Refusal),
    Disk(io::Error),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let refusal = match self {
            Self::Disk(error) => {
                tracing::error!(%error, "a witness cannot keep what it saw");
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            Self::Refused(refusal) => refusal,
        };
        let text = format!("{refusal}\n");
        match refusal {
            Refusal::Malformed(_) => (StatusCode::BAD_REQUEST, text).into_response(),
            Refusal::Signature => (StatusCode::FORBIDDEN, text).into_response(),
            Refusal::Unknown => (StatusCode::NOT_FOUND, text).into_response(),
            Refusal::Inconsistent => {
                tracing::error!("a log that is witnessed here does not go on where it ended: it was forked");
                metrics::counter!("amlgate_witness_forks_total").increment(1);
                (StatusCode::UNPROCESSABLE_ENTITY, text).into_response()
            }
            Refusal::Conflict(size) => {
                let kind = [(header::CONTENT_TYPE, "text/x.tlog.size")];
                (StatusCode::CONFLICT, kind, format!("{size}\n")).into_response()
            }
        }
    }
}

/// The two endpoints, below `/witness`.
pub fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/witness/add-checkpoint", post(add))
        .route("/witness/{log}/checkpoint", get(newest))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(witness)
}

async fn add(State(witness): State<Arc<Witness>>, body: Bytes) -> Response {
    let text = String::from_utf8_lossy(&body);
    match witness.add(&text).await {
        Ok(line) => line.into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn newest(State(witness): State<Arc<Witness>>, Path(log): Path<String>) -> Response {
    let is_hash = log.len() == 64 && log.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match fs::read_to_string(witness.directory.join(&log)) {
        Ok(note) if is_hash => note.into_response(),
        Ok(_) | Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
