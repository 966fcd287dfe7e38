//! The way through all records of a log: the tree grows with each, and must fit every head and every
//! tile on the way.

use super::{Broken, named};
use crate::audit::{
    event,
    keeper::{self, Gone},
    merkle::{self, Range},
    note::Head,
    segment::{self, Header},
    storage::Storage,
    tiles::{self, Edge, File, Tile},
};

/// A record that says that another key signs from here on.
pub(super) struct Rotation {
    pub position: u64,
    pub before: String,
    pub after: String,
}

pub(super) struct Walk<'a, S> {
    storage: &'a S,
    origin: &'a str,
    range: Range,
    /// By size.
    heads: &'a [Head],
    /// How many of them lie behind.
    passed: usize,
    /// The size of the last head that fits.
    good: u64,
    /// The tiles so far, and the size up to which they are published; `None` if none are.
    edge: Option<(Edge, u64)>,
    /// The position of the first record that is there.
    pub first: u64,
    /// Bytes behind the last record.
    pub torn: u64,
    /// Files of tiles that were checked.
    pub tiles: u64,
    pub rotations: Vec<Rotation>,
    /// The positions of records that say what was removed, and what they say.
    gone: Vec<(u64, Gone)>,
    /// Bundles of entries that are not there, each by the position behind it: those of records that
    /// were removed go with them.
    pub bundles_missing: Vec<u64>,
}

impl<'a, S: Storage> Walk<'a, S> {
    /// Goes through all segments; `published` is the size up to which there must be tiles.
    pub fn through(
        storage: &'a S,
        origin: &'a str,
        heads: &'a [Head],
        published: Option<u64>,
    ) -> Result<Self, Broken> {
        let mut walk = Self {
            storage,
            origin,
            range: Range::default(),
            heads,
            passed: 0,
            good: 0,
            edge: published.map(|size| (Edge::default(), size)),
            first: 0,
            torn: 0,
            tiles: 0,
            rotations: Vec::new(),
            gone: Vec::new(),
            bundles_missing: Vec::new(),
        };
        let names = crate::audit::segment_names(storage)?;
        if let Some(name) = names.first() {
            let until = names.get(1).map(|_| ());
            walk.begin(name, &segment::read(storage, name)?, until.is_none())?;
        }
        let mut segments = names.iter().peekable();
        while let Some(name) = segments.next() {
            let until = segments.peek().and_then(|next| segment::first_of(next));
            let bytes = segment::read(storage, name)?;
            walk.segment(name, &bytes, until).map_err(|broken| named(storage, name, &bytes, broken))?;
        }
        Ok(walk)
    }

    /// How many records there were, with those that were removed.
    pub const fn size(&self) -> u64 {
        self.range.size()
    }

    /// Where the log may begin, by the records that so many vouch for; and before which position
    /// nothing is anywhere.
    pub fn allowed(&self, vouched: u64) -> (u64, u64) {
        let (mut allowed, mut retired) = (0, 0);
        for (_, gone) in self.gone.iter().filter(|(position, _)| *position < vouched) {
            let (Gone::Retired(before) | Gone::Archived(before)) = *gone;
            allowed = before.max(allowed);
            if matches!(gone, Gone::Retired(_)) {
                retired = before.max(retired);
            }
        }
        (allowed, retired)
    }

    /// A log whose beginning was removed starts from the tree that its first segment names: every
    /// head behind it proves that it is the right one.
    fn begin(&mut self, name: &str, bytes: &[u8], last: bool) -> Result<(), Broken> {
        if last && segment::is_only_begun(bytes) {
            return Ok(());
        }
        let wrong = |why: &str| Broken::Segment { name: name.to_owned(), why: why.to_owned() };
        let (header, ..) = segment::split(bytes).map_err(wrong)?;
        if header.first == 0 {
            return Ok(());
        }
        self.range = header.range().ok_or_else(|| wrong("its header contradicts itself"))?;
        self.first = header.first;
        self.passed = self.heads.partition_point(|head| head.size < self.first);
        for head in self.heads.iter().skip(self.passed).take_while(|head| head.size == self.first) {
            if head.root != self.range.root() {
                return Err(wrong("its header is not of the tree that was signed"));
            }
            self.good = self.first;
            self.passed += 1;
        }
        if let Some((edge, _)) = &mut self.edge {
            let path = "tile".to_owned();
            let found = Edge::restore(self.storage, self.first).filter(|e| e.root() == self.range.root());
            let why = "does not hold what the tree was when older records were removed";
            *edge = found.ok_or(Broken::Tile { path, why })?;
        }
        Ok(())
    }

    fn segment(&mut self, name: &str, bytes: &[u8], until: Option<u64>) -> Result<(), Broken> {
        let wrong = |why: &str| Broken::Segment { name: name.to_owned(), why: why.to_owned() };
        if until.is_none() && segment::is_only_begun(bytes) {
            self.torn = bytes.len() as u64;
            return Ok(()); // Begun, and nothing was acknowledged from it.
        }
        let (header, leaves, rest) = segment::split(bytes).map_err(wrong)?;
        if header.origin != self.origin {
            return Err(wrong("it is of another log"));
        }
        if segment::first_of(name) != Some(header.first) {
            return Err(wrong("its name does not fit its header"));
        }
        let before = header.range().ok_or_else(|| wrong("its header contradicts itself"))?;
        if before != self.range {
            return Err(wrong(
                "it does not go on where the one before it ends: there something was changed, or records or a segment are missing",
            ));
        }
        if !bytes.starts_with(&Header::after(self.origin, &self.range).line()) {
            return Err(wrong("its header is not in the one form that a header has"));
        }
        let count = until.map_or(leaves.len() as u64, |until| until.saturating_sub(header.first));
        if count > leaves.len() as u64 {
            return Err(wrong("records at its end are missing"));
        }
        if until.is_some() && count < leaves.len() as u64 {
            return Err(wrong("it has more records than the next one counts"));
        }
        if rest > 0 && until.is_some() {
            return Err(wrong("it has something behind its last record"));
        }
        self.torn = rest as u64;
        for leaf in leaves {
            self.leaf(name, leaf)?;
        }
        Ok(())
    }

    fn leaf(&mut self, name: &str, leaf: &[u8]) -> Result<(), Broken> {
        let hash = merkle::leaf(leaf);
        self.note(leaf);
        self.range.push(hash);
        let size = self.range.size();
        let mut signed = false;
        while let Some(head) = self.heads.get(self.passed).filter(|head| head.size == size) {
            if head.root != self.range.root() {
                return Err(Broken::Changed { name: name.to_owned(), size, good: self.good });
            }
            self.good = size;
            self.passed += 1;
            signed = true;
        }
        let Some((edge, published)) = &mut self.edge else { return Ok(()) };
        if size > *published {
            self.edge = None;
            return Ok(());
        }
        let mut ready = Vec::new();
        edge.push(leaf, hash, |file| ready.push(file));
        let last = size == *published;
        // Of an older head the unfinished tiles may be gone, but none may be wrong.
        let partial: Vec<File> = if signed { edge.partial().collect() } else { Vec::new() };
        for file in ready.iter().chain(&partial) {
            self.tile(file, last || file.width == tiles::WIDTH)?;
        }
        Ok(())
    }

    fn tile(&mut self, file: &File, demanded: bool) -> Result<(), Broken> {
        let path = tiles::path(file.tile, file.index, file.width);
        let mut read = self.storage.read(&path);
        let missing = |read: &std::io::Result<Vec<u8>>| {
            read.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        // The unfinished form goes when the whole one is there, which begins with it.
        if missing(&read) && file.width < tiles::WIDTH {
            read = self.storage.read(&tiles::path(file.tile, file.index, tiles::WIDTH));
            if let Ok(whole) = &mut read {
                whole.truncate(file.bytes.len());
            }
        }
        match read {
            Ok(found) if found == file.bytes => {
                self.tiles += 1;
                Ok(())
            }
            Ok(_) => Err(Broken::Tile { path, why: "is not what the records make of it" }),
            read if missing(&read) && !demanded => Ok(()),
            read if missing(&read) && file.tile == Tile::Entries && file.width == tiles::WIDTH => {
                self.bundles_missing.push((file.index + 1) * tiles::WIDTH);
                Ok(())
            }
            read if missing(&read) => Err(Broken::Tile { path, why: "is missing" }),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps what a record says of the log itself.
    fn note(&mut self, leaf: &[u8]) {
        // The marker cannot stand inside a string: a quote in one is escaped.
        let own = |marker| memchr::memmem::find(leaf, marker).is_some();
        if let Some(gone) = keeper::gone(leaf) {
            self.gone.push((self.range.size(), gone));
        }
        if own(event::ROTATED)
            && let Ok(value) = serde_json::from_slice::<serde_json::Value>(leaf)
            && let Some(own) = value.pointer("/unmapped/amlgate")
            && own.get("event").and_then(|e| e.as_str()) == Some("signing_key_changed")
        {
            let text = |key: &str| own.get(key).and_then(|k| k.as_str()).unwrap_or_default().to_owned();
            let position = self.range.size();
            self.rotations.push(Rotation { position, before: text("before"), after: text("after") });
        }
    }
}
