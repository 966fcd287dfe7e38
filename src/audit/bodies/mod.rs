//! Bodies of requests and answers, kept where an entry of the policies says so.
//!
//! What passes is copied as it passes, up to a bound, and holds nobody up. When the request ends, what
//! must not be kept is left out of the copy (`redact`), the rest is sealed with a key of its own and
//! becomes a blob beside the log (`shelf`), named by the digest of its ciphertext; the leaf has that
//! digest, the size, and a keyed tag of all that passed. Blobs go hour by hour when their time is over;
//! the leaves that name them stay.
//!
//! The writer makes a blob durable before the record that names it: if the disk fails, it fails for
//! both.

mod redact;
mod shelf;
mod taken;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::{HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::redact::Prepared;
pub(super) use self::shelf::{BODIES, is_over};
pub use self::{
    shelf::{BodyError, Opened, open},
    taken::Taker,
};
use crate::{
    policy::{DecisionId, Recording},
    secrets::{BlobSealer, Mac, Purpose, Seal},
    time::Timestamp,
};

/// Whose body it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The request's.
    Request,
    /// The answer's.
    Response,
}

impl Side {
    /// The word in records, and in the blob.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// How bodies are kept.
#[derive(Debug)]
pub struct BodySettings {
    sealer: BlobSealer,
    tags: Mac,
    /// Of a body at most so many bytes are kept.
    limit: usize,
    /// What copies under way may take together, in KiB.
    room: Arc<Semaphore>,
    /// As long as records are kept; `None` is for ever.
    keep: Option<Duration>,
}

impl BodySettings {
    /// With keys of `seal`; at most `limit` bytes of each body, `room` bytes under way in all, for as
    /// long as `keep` says where an entry says nothing.
    #[must_use]
    pub fn new(seal: &Seal, limit: usize, room: usize, keep: Option<Duration>) -> Self {
        Self {
            sealer: seal.blob_sealer(Purpose::Bodies),
            tags: seal.mac(Purpose::BodyTags),
            limit,
            room: Arc::new(Semaphore::new((room >> 10).clamp(1, Semaphore::MAX_PERMITS))),
            keep,
        }
    }

    /// A body that was kept.
    pub(super) fn open(&self, directory: &Path, digest: &str) -> Result<Opened, BodyError> {
        shelf::open(directory, digest, &self.sealer)
    }
}

/// A body's ciphertext on its way to the disk.
pub(super) struct Blob {
    /// Where it lies below the log's directory.
    pub name: String,
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({})", self.name)
    }
}

/// What a record says of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BodyNote {
    pub side: Side,
    /// Bytes that passed.
    pub size: u64,
    /// The keyed tag of all of them.
    pub tag: [u8; 32],
    pub kept: Kept,
}

/// What became of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is a blob.
    Blob {
        /// SHA-256 of the blob.
        digest: [u8; 32],
        /// Bytes of the body in it.
        bytes: u64,
        /// Why not all of it is.
        cut: Option<&'static str>,
        /// How many things were left out of it.
        redacted: u64,
        /// Until when it is kept, in milliseconds since 1970; for ever, without it.
        until: Option<u64>,
    },
    /// It is not kept.
    Not(&'static str),
}

/// A body, or what was copied of it.
enum Source {
    /// It is at hand, and takes so much room if it waits to be sealed.
    Whole(Bytes, Option<OwnedSemaphorePermit>),
    /// It passes, or did.
    Passing(Taker),
    /// It must not be kept.
    Not(&'static str),
}

impl Source {
    fn take_room(&mut self, room: &Arc<Semaphore>) {
        let Self::Whole(bytes, held) = self else { return };
        let kib = u32::try_from(bytes.len().div_ceil(1 << 10)).unwrap_or(u32::MAX);
        match Arc::clone(room).try_acquire_many_owned(kib) {
            Ok(taken) => *held = Some(taken),
            Err(_) => *self = Self::Not("memory"),
        }
    }
}

/// A body with what its head says of it.
struct Body {
    source: Source,
    media: Box<str>,
    encoded: bool,
}

impl Body {
    fn new(source: Source, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let encoding = text(header::CONTENT_ENCODING);
        let encoded = !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity");
        Self { source, media: text(header::CONTENT_TYPE).into(), encoded }
    }
}

/// The bodies of one request that are to be kept.
pub(super) struct Bodies {
    settings: Arc<BodySettings>,
    recording: Recording,
    request: Option<Body>,
    response: Option<Body>,
    /// Why the answer's must not be kept, whatever comes.
    barred: Option<&'static str>,
}

impl Bodies {
    pub fn new(settings: Arc<BodySettings>, recording: Recording) -> Self {
        Self { settings, recording, request: None, response: None, barred: None }
    }

    /// The request's body is this, or what the taker is given of it.
    pub fn request(&mut self, whole: Option<Bytes>, headers: &HeaderMap) -> Option<Taker> {
        let wanted = self.recording.request;
        wanted.then(|| Self::begin(&self.settings, &mut self.request, whole, headers)).flatten()
    }

    /// The answer's body is this, or what the taker is given of it.
    pub fn response(&mut self, whole: Option<Bytes>, headers: &HeaderMap) -> Option<Taker> {
        if let Some(why) = self.barred {
            self.refuse_response(why);
            return None;
        }
        let wanted = self.recording.response;
        let taker = wanted.then(|| Self::begin(&self.settings, &mut self.response, whole, headers)).flatten();
        if let Some(Body { source, .. }) = &mut self.response {
            // The answer goes on, and what waits to be sealed is bounded as copies are.
            source.take_room(&self.settings.room);
        }
        taker
    }

    fn begin(
        settings: &Arc<BodySettings>,
        body: &mut Option<Body>,
        whole: Option<Bytes>,
        headers: &HeaderMap,
    ) -> Option<Taker> {
        let (source, taker) = match whole {
            Some(bytes) => (Source::Whole(bytes, None), None),
            None => {
                let taker = Taker::new(settings.limit, settings.tags.begin(), Arc::clone(&settings.room));
                (Source::Passing(taker.clone()), Some(taker))
            }
        };
        *body = Some(Body::new(source, headers));
        taker
    }

    /// The request's body was recorded already.
    pub fn forget_request(&mut self) {
        self.recording.request = false;
        self.request = None;
    }

    /// Of the answer's body nothing is said here.
    pub fn forget_response(&mut self) {
        self.recording.response = false;
        self.response = None;
    }

    /// None that is wanted is kept, for this reason.
    pub fn refuse(&mut self, why: &'static str) {
        for (wanted, body) in
            [(self.recording.request, &mut self.request), (self.recording.response, &mut self.response)]
        {
            if wanted {
                *body = Some(Body::new(Source::Not(why), &HeaderMap::new()));
            }
        }
    }

    /// The answer's body is not kept, for this reason, whatever comes.
    pub fn bar_response(&mut self, why: &'static str) {
        self.barred = Some(why);
    }

    fn refuse_response(&mut self, why: &'static str) {
        if self.recording.response {
            self.response = Some(Body::new(Source::Not(why), &HeaderMap::new()));
        }
    }

    /// Whether there is anything to be said.
    pub fn is_empty(&self) -> bool {
        self.request.is_none() && self.response.is_none()
    }

    /// What the record says of them, and the blobs that must be durable before it.
    pub fn kept(self, decision: DecisionId, now: Timestamp) -> (Vec<BodyNote>, Vec<Blob>) {
        let Self { settings, recording, request, response, barred: _ } = self;
        let (mut notes, mut blobs) = (Vec::new(), Vec::new());
        for (side, body) in [(Side::Request, request), (Side::Response, response)] {
            let Some(body) = body else { continue };
            let (note, blob) = keep(&settings, &recording, decision, side, body, now);
            notes.push(note);
            blobs.extend(blob);
        }
        (notes, blobs)
    }
}

impl fmt::Debug for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bodies({:?})", self.recording)
    }
}

fn keep(
    settings: &BodySettings,
    recording: &Recording,
    decision: DecisionId,
    side: Side,
    body: Body,
    now: Timestamp,
) -> (BodyNote, Option<Blob>) {
    let Body { source, media, encoded } = body;
    let (bytes, size, tag, cut, room) = match source {
        Source::Whole(bytes, room) => {
            let (size, tag) = (bytes.len() as u64, settings.tags.tag(&bytes));
            (bytes, size, tag, None, room)
        }
        Source::Passing(taker) => {
            let (taken, room) = taker.taken();
            (taken.bytes.into(), taken.size, taken.tag, taken.cut, room)
        }
        Source::Not(why) => {
            return (BodyNote { side, size: 0, tag: settings.tags.tag(&[]), kept: Kept::Not(why) }, None);
        }
    };
    let note = |kept| BodyNote { side, size, tag, kept };
    if encoded {
        return (note(Kept::Not("encoded")), None);
    }
    let prepared = redact::prepare(&bytes, cut.is_none(), &media, &recording.redact);
    drop(bytes);
    let Prepared { bytes, redacted } = match prepared {
        Ok(prepared) => prepared,
        Err(why) => return (note(Kept::Not(why)), None),
    };
    // What was redacted whole is cut only then.
    let (within, cut) = match bytes.get(..settings.limit) {
        Some(within) if bytes.len() > settings.limit => (within, Some("limit")),
        Some(_) | None => (&bytes[..], cut),
    };
    let Some(sealed) = shelf::seal(&settings.sealer, decision, side, within) else {
        return (note(Kept::Not("unsealed")), None);
    };
    let mut named = [0; 32];
    named.copy_from_slice(digest(&SHA256, &sealed).as_ref());
    let until = recording.keep.or(settings.keep).map(|keep| now.plus(keep));
    let blob = Blob { name: shelf::place(until, &named), bytes: sealed };
    let kept = Kept::Blob {
        digest: named,
        bytes: within.len() as u64,
        cut,
        redacted,
        until: until.map(Timestamp::as_millis),
    };
    // The copy is gone; its ciphertext counts among what waits for the disk.
    drop(room);
    (note(kept), Some(blob))
}
