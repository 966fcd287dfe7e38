//! The index of one segment: a row of fixed size for each record, and the names that occur in them.
//!
//! `query/SIZE.rows` is a line of JSON (what it covers), the names as JSON, and the rows. It covers a
//! prefix of its segment; what came since is added when somebody looks.

use std::{borrow::Cow, collections::HashMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{FOLDER, Filter, QueryError, filter::holds, first_of};
use crate::audit::{
    segment,
    storage::{Directory, Storage as _},
};

/// The version of the form; another is made anew.
const VERSION: u32 = 1;
/// The bytes of a row.
const ROW: usize = 48;
/// A record has none of the kind.
const NONE: u32 = u32::MAX;
/// A record has several: only the record itself says which.
const SEVERAL: u32 = u32::MAX - 1;
/// So much of an unfinished segment is read anew each time, rather than written down each time.
const LEFT: u64 = 256 << 10;
/// The first line of the file is not longer.
const HEAD: usize = 512;

/// What an index covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cover {
    amlgate_index: u32,
    /// Bytes of the segment, its header included.
    pub bytes: u64,
    pub records: u64,
    /// The earliest and latest time, in milliseconds.
    pub from: u64,
    pub until: u64,
    names: u64,
    /// Whether it covers all that its segment will ever have.
    pub ended: bool,
}

/// The names that occur, by their number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Names {
    callers: Vec<String>,
    actions: Vec<String>,
    resources: Vec<String>,
    codes: Vec<String>,
    phases: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    time: u64,
    offset: u64,
    caller: u32,
    action: u32,
    resource: u32,
    code: u16,
    phase: u16,
    decision: [u8; 16],
}

/// An index in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    pub cover: Cover,
    names: Names,
    rows: Vec<Row>,
}

/// What of a record is in the index; the rest is passed over.
#[derive(Deserialize)]
struct Leaf<'a> {
    #[serde(default)]
    time: u64,
    #[serde(borrow, default)]
    actor: Actor<'a>,
    #[serde(borrow, default)]
    api: Api<'a>,
    #[serde(borrow, default)]
    resources: Vec<Resource<'a>>,
    #[serde(borrow, default)]
    unmapped: Unmapped<'a>,
}

#[derive(Deserialize, Default)]
struct Actor<'a> {
    #[serde(borrow)]
    user: Option<User<'a>>,
}

#[derive(Deserialize)]
struct User<'a> {
    #[serde(borrow)]
    uid: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
struct Api<'a> {
    #[serde(borrow)]
    operation: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Resource<'a> {
    #[serde(borrow)]
    uid: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
struct Unmapped<'a> {
    #[serde(borrow)]
    amlgate: Option<Own<'a>>,
}

#[derive(Deserialize)]
struct Own<'a> {
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    phase: Option<Cow<'a, str>>,
    #[serde(borrow)]
    decision: Option<Cow<'a, str>>,
    #[serde(borrow)]
    denial: Option<Denial<'a>>,
    acts_count: Option<u64>,
}

#[derive(Deserialize)]
struct Denial<'a> {
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
}

/// Gives names their numbers.
#[derive(Default)]
struct Numbers {
    kinds: [HashMap<String, u32>; 5],
}

impl Numbers {
    fn of(names: &Names) -> Self {
        let lists = [&names.callers, &names.actions, &names.resources, &names.codes, &names.phases];
        let map = |list: &Vec<String>| list.iter().cloned().zip(0..).collect();
        Self { kinds: lists.map(map) }
    }

    fn number(&mut self, kind: usize, list: &mut Vec<String>, name: Option<&str>) -> u32 {
        let (Some(name), Some(known)) = (name, self.kinds.get_mut(kind)) else { return NONE };
        if let Some(number) = known.get(name) {
            return *number;
        }
        let number = u32::try_from(list.len()).unwrap_or(SEVERAL);
        known.insert(name.to_owned(), number);
        list.push(name.to_owned());
        number
    }
}

/// A number that a row has few bits for; too many names are as good as not known.
fn small(number: u32) -> u16 {
    match number {
        NONE => u16::MAX,
        number => u16::try_from(number).unwrap_or(u16::MAX - 1).min(u16::MAX - 1),
    }
}

impl Index {
    fn empty(header: u64) -> Self {
        let cover = Cover {
            amlgate_index: VERSION,
            bytes: header,
            records: 0,
            from: u64::MAX,
            until: 0,
            names: 0,
            ended: false,
        };
        Self { cover, names: Names::default(), rows: Vec::new() }
    }

    /// What the index of a segment covers, if there is one.
    pub fn cover(directory: &Path, segment: &str) -> Option<Cover> {
        let storage = Directory::at(directory.join(FOLDER));
        let head = storage.read_part(&file_of(segment), 0, HEAD).ok()?;
        let end = head.iter().position(|b| *b == b'\n')?;
        let cover: Cover = serde_json::from_slice(head.get(..end)?).ok()?;
        (cover.amlgate_index == VERSION).then_some(cover)
    }

    /// What it takes to go through it.
    pub fn bytes(&self) -> u64 {
        (self.rows.len() as u64).saturating_mul(ROW as u64)
    }

    fn load(directory: &Path, segment: &str) -> Option<Self> {
        let bytes = fs::read(directory.join(FOLDER).join(file_of(segment))).ok()?;
        let end = bytes.iter().take(HEAD).position(|b| *b == b'\n')?;
        let cover: Cover = serde_json::from_slice(bytes.get(..end)?).ok()?;
        let (names, rows) = bytes.get(end + 1..)?.split_at_checked(usize::try_from(cover.names).ok()?)?;
        let rows: Vec<Row> = rows.chunks_exact(ROW).filter_map(Row::read).collect();
        let whole = cover.amlgate_index == VERSION && rows.len() as u64 == cover.records;
        Some(Self { names: serde_json::from_slice(names).ok()?, cover, rows }).filter(|_| whole)
    }

    /// The index of a segment as it is now, and whether there was anything to add. It is kept where
    /// that is possible; an index that does not fit its segment is made anew. `ended` says that
    /// nothing will be added to the segment.
    pub fn refreshed(
        directory: &Path,
        storage: &Directory,
        name: &str,
        ended: bool,
    ) -> Result<(Self, bool), QueryError> {
        let before = Self::load(directory, name);
        if let Some(index) = before.as_ref().filter(|index| index.cover.ended && ended) {
            return Ok((index.clone(), false));
        }
        // Of a packed segment nothing can be read but all of it.
        let from = before.as_ref().filter(|_| !segment::is_packed(name)).map(|index| index.cover.bytes);
        let more = segment::read_from(storage, name, from.unwrap_or_default())?;
        let (mut index, more) = match before.filter(|_| from.is_some()) {
            Some(index) => (index, more.as_slice()),
            None => {
                let broken =
                    || QueryError::Broken { segment: name.to_owned(), why: "has no header".to_owned() };
                let header = more.iter().position(|b| *b == b'\n').ok_or_else(broken)?;
                (Self::empty(header as u64 + 1), more.get(header + 1..).unwrap_or_default())
            }
        };
        let kept = from.unwrap_or_default();
        index.extend(more);
        index.cover.ended = ended;
        if ended || index.cover.bytes.saturating_sub(kept) > LEFT {
            // Without it the next who looks does the same work again.
            drop(index.save(directory, name));
        }
        Ok((index, true))
    }

    /// Adds the whole lines of what follows in the segment.
    fn extend(&mut self, bytes: &[u8]) {
        let mut numbers = Numbers::of(&self.names);
        let names = &mut self.names;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let Some(text) = line.strip_suffix(b"\n") else { break };
            // What is no record of ours has a row all the same: rows count positions.
            let leaf: Option<Leaf<'_>> = serde_json::from_slice(text).ok();
            let mut row = Row { offset: self.cover.bytes, ..Row::UNKNOWN };
            if let Some(leaf) = leaf {
                let own = leaf.unmapped.amlgate.as_ref();
                let event = own.and_then(|own| own.event.as_deref());
                let several = own.is_some_and(|own| own.acts_count.is_some());
                let caller = leaf.actor.user.as_ref().and_then(|user| user.uid.as_deref());
                let code = own.and_then(|own| own.denial.as_ref()?.code.as_deref());
                row.time = leaf.time;
                row.caller = numbers.number(0, &mut names.callers, caller);
                row.action = match (several, event, leaf.api.operation.as_deref()) {
                    (true, ..) | (_, Some(_), Some(_)) => SEVERAL,
                    (false, event, action) => numbers.number(1, &mut names.actions, event.or(action)),
                };
                row.resource = match leaf.resources.as_slice() {
                    [] => NONE,
                    [one] => numbers.number(2, &mut names.resources, one.uid.as_deref()),
                    _ => SEVERAL,
                };
                row.code = small(numbers.number(3, &mut names.codes, code));
                row.phase =
                    small(numbers.number(4, &mut names.phases, own.and_then(|own| own.phase.as_deref())));
                let decision = own.and_then(|own| uuid::Uuid::parse_str(own.decision.as_deref()?).ok());
                row.decision = decision.unwrap_or_default().into_bytes();
            }
            self.cover.from = self.cover.from.min(row.time);
            self.cover.until = self.cover.until.max(row.time);
            self.cover.records += 1;
            self.cover.bytes += line.len() as u64;
            self.rows.push(row);
        }
    }

    fn save(&mut self, directory: &Path, segment: &str) -> io::Result<()> {
        let folder = directory.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let names = serde_json::to_vec(&self.names)?;
        self.cover.names = names.len() as u64;
        let mut bytes = serde_json::to_vec(&self.cover)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&names);
        bytes.reserve(self.rows.len() * ROW);
        self.rows.iter().for_each(|row| row.write(&mut bytes));
        let path = folder.join(file_of(segment));
        let beside = path.with_extension(format!("new-{}", std::process::id()));
        fs::write(&beside, bytes)?;
        fs::rename(&beside, &path)
    }

    /// Numbers, offsets and lengths of the records that may fit, from a number on.
    pub fn candidates<'i>(
        &'i self,
        filter: &'i Filter,
        from: u64,
    ) -> impl Iterator<Item = (u64, u64, usize)> + 'i {
        let part = |part: Option<&str>, names: &[String]| -> Option<Vec<bool>> {
            part.map(|part| names.iter().map(|name| holds(Some(part), Some(name))).collect())
        };
        let same = |wanted: Option<&str>, names: &[String]| -> Option<Vec<bool>> {
            wanted.map(|wanted| names.iter().map(|name| name == wanted).collect())
        };
        let callers = part(filter.caller.as_deref(), &self.names.callers);
        let actions = part(filter.action.as_deref(), &self.names.actions);
        let resources = part(filter.resource.as_deref(), &self.names.resources);
        let codes = same(filter.code.as_deref(), &self.names.codes);
        let phases = same(filter.phase.as_deref(), &self.names.phases);
        let may = |wanted: &Option<Vec<bool>>, number: u32| {
            wanted.as_ref().is_none_or(|wanted| {
                number == SEVERAL || wanted.get(number as usize).copied().unwrap_or_default()
            })
        };
        let wide = |number: u16| match number {
            u16::MAX => NONE,
            number if number == u16::MAX - 1 => SEVERAL,
            number => u32::from(number),
        };
        let decision = filter.decision.map(uuid::Uuid::into_bytes);
        let since = filter.since.map_or(0, |since| since.as_millis());
        let until = filter.until.map_or(u64::MAX, |until| until.as_millis());
        let ends = self.rows.iter().skip(1).map(|row| row.offset).chain([self.cover.bytes]);
        (0..).zip(self.rows.iter().zip(ends)).filter_map(move |(number, (row, end))| {
            let fits = number >= from
                && (since..until).contains(&row.time)
                && may(&callers, row.caller)
                && may(&actions, row.action)
                && may(&resources, row.resource)
                && may(&codes, wide(row.code))
                && may(&phases, wide(row.phase))
                && decision.is_none_or(|decision| row.decision == decision);
            let length = usize::try_from(end.saturating_sub(row.offset)).unwrap_or_default();
            fits.then_some((number, row.offset, length.saturating_sub(1)))
        })
    }
}

/// The file of a segment's index.
fn file_of(segment: &str) -> String {
    format!("{:020}.rows", first_of(segment))
}

impl Row {
    const UNKNOWN: Self = Self {
        time: 0,
        offset: 0,
        caller: SEVERAL,
        action: SEVERAL,
        resource: SEVERAL,
        code: u16::MAX - 1,
        phase: u16::MAX - 1,
        decision: [0; 16],
    };

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        for number in [self.caller, self.action, self.resource] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.code.to_le_bytes());
        out.extend_from_slice(&self.phase.to_le_bytes());
        out.extend_from_slice(&self.decision);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (time, bytes) = bytes.split_first_chunk()?;
        let (offset, bytes) = bytes.split_first_chunk()?;
        let (caller, bytes) = bytes.split_first_chunk()?;
        let (action, bytes) = bytes.split_first_chunk()?;
        let (resource, bytes) = bytes.split_first_chunk()?;
        let (code, bytes) = bytes.split_first_chunk()?;
        let (phase, bytes) = bytes.split_first_chunk()?;
        Some(Self {
            time: u64::from_le_bytes(*time),
            offset: u64::from_le_bytes(*offset),
            caller: u32::from_le_bytes(*caller),
            action: u32::from_le_bytes(*action),
            resource: u32::from_le_bytes(*resource),
            code: u16::from_le_bytes(*code),
            phase: u16::from_le_bytes(*phase),
            decision: bytes.try_into().ok()?,
        })
    }
}
