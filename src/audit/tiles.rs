//! The tree as tiles: C2SP tlog-tiles, so that any client of a tiled log reads this one.
//!
//! Tiles and bundles of entries are derived from the same leaves as the segments, and nothing waits
//! for them: they are built behind the newest signed head and can be built again at any time.

use std::{collections::HashMap, io};

use super::{
    merkle::{Hash, Range},
    proof::{Nodes, whole},
    storage::Storage,
};

/// The file of the newest head whose tiles are all there, as the layout wants it.
pub const CHECKPOINT: &str = "checkpoint";
/// Hashes in a whole tile, entries in a whole bundle.
pub const WIDTH: u64 = 256;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tile {
    /// The hashes of one level, of which each stands for `256^level` leaves.
    Hashes(u32),
    /// The leaves themselves, each behind its length in two bytes.
    Entries,
}

/// The path of a tile below the log's directory.
#[must_use]
pub fn path(tile: Tile, index: u64, width: u64) -> String {
    let mut path = match tile {
        Tile::Hashes(level) => format!("tile/{level}/"),
        Tile::Entries => "tile/entries/".to_owned(),
    };
    let mut parts = Vec::new();
    let mut rest = index;
    loop {
        parts.push(rest % 1_000);
        rest /= 1_000;
        if rest == 0 {
            break;
        }
    }
    for (left, part) in parts.iter().enumerate().rev() {
        path.push_str(&if left > 0 { format!("x{part:03}/") } else { format!("{part:03}") });
    }
    if width < WIDTH {
        path.push_str(&format!(".p/{width}"));
    }
    path
}

/// The folder of a tile's unfinished states.
#[must_use]
pub fn unfinished(tile: Tile, index: u64) -> String {
    format!("{}.p", path(tile, index, WIDTH))
}

/// A file of the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What it holds.
    pub tile: Tile,
    /// Which, in its level.
    pub index: u64,
    /// How many hashes or entries.
    pub width: u64,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// The right edge of the tree: the tiles that are not whole yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    levels: Vec<Vec<Hash>>,
    entries: Vec<u8>,
}

impl Edge {
    /// How many leaves it stands behind.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf and its hash; gives every tile that is whole with it.
    pub fn push(&mut self, leaf: &[u8], hash: Hash, mut ready: impl FnMut(File)) {
        // A leaf is at most 32 KiB, so its length fits.
        let length = u16::try_from(leaf.len()).unwrap_or(u16::MAX);
        self.entries.extend_from_slice(&length.to_be_bytes());
        self.entries.extend_from_slice(leaf.get(..usize::from(length)).unwrap_or_default());
        let mut carried = Some(hash);
        for level in 0.. {
            let Some(hash) = carried.take() else { break };
            if self.levels.len() <= level {
                self.levels.push(Vec::with_capacity(WIDTH as usize));
            }
            let Some(hashes) = self.levels.get_mut(level) else { break };
            hashes.push(hash);
            if hashes.len() as u64 == WIDTH {
                let index = (self.size >> (8 * level)) / WIDTH;
                let bytes = hashes.concat();
                ready(File { tile: Tile::Hashes(level as u32), index, width: WIDTH, bytes });
                carried = whole(hashes);
                hashes.clear();
            }
        }
        self.size += 1;
        if self.size.is_multiple_of(WIDTH) {
            let bytes = std::mem::take(&mut self.entries);
            ready(File { tile: Tile::Entries, index: self.size / WIDTH - 1, width: WIDTH, bytes });
        }
    }

    /// The unfinished tiles of this size.
    pub fn partial(&self) -> impl Iterator<Item = File> {
        let hashes =
            self.levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()).map(|(level, hashes)| {
                File {
                    tile: Tile::Hashes(level as u32),
                    index: (self.size >> (8 * level)) / WIDTH,
                    width: hashes.len() as u64,
                    bytes: hashes.concat(),
                }
            });
        let width = self.size % WIDTH;
        let entries = (width > 0).then(|| File {
            tile: Tile::Entries,
            index: self.size / WIDTH,
            width,
            bytes: self.entries.clone(),
        });
        hashes.chain(entries)
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut range = Vec::new();
        for hashes in self.levels.iter().rev() {
            let mut rest = &hashes[..];
            while !rest.is_empty() {
                let wide = 1 << (usize::BITS - 1 - rest.len().leading_zeros());
                let (left, right) = rest.split_at(wide);
                range.extend(whole(left));
                rest = right;
            }
        }
        Range::restore(self.size, range).unwrap_or_default().root()
    }

    /// The edge of a tree of that size, from the tiles that were kept of it, whole ones too; `None` if
    /// one is missing or not of its size.
    pub fn restore<S: Storage>(storage: &S, size: u64) -> Option<Self> {
        let mut levels = Vec::new();
        for level in 0..8_u32 {
            let count = size >> (8 * level);
            if count == 0 {
                break;
            }
            levels.push(match count % WIDTH {
                0 => Vec::new(),
                width => hashes(storage, level, count / WIDTH, width).ok()?,
            });
        }
        let width = size % WIDTH;
        let entries = match width {
            0 => Vec::new(),
            width => {
                let mut bundle = at_least(storage, Tile::Entries, size / WIDTH, width).ok()?;
                let kept: usize = leaves(&bundle).take(width as usize).map(|leaf| leaf.len() + 2).sum();
                bundle.truncate(kept);
                bundle
            }
        };
        (leaves(&entries).count() as u64 == width).then_some(Self { size, levels, entries })
    }
}

/// The leaves in a bundle, up to where it breaks off.
pub fn leaves(bundle: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bundle;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let (leaf, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        rest = behind;
        Some(leaf)
    })
}

/// The tile of that width, or the next larger one that is there: a smaller one may be gone, or no
/// head of its size was ever published.
fn at_least<S: Storage>(storage: &S, tile: Tile, index: u64, width: u64) -> io::Result<Vec<u8>> {
    for wider in width..WIDTH {
        match storage.read(&path(tile, index, wider)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
    }
    storage.read(&path(tile, index, WIDTH))
}

/// The first `width` hashes of a tile, from its file of that width or from the whole one.
fn hashes<S: Storage>(storage: &S, level: u32, index: u64, width: u64) -> io::Result<Vec<Hash>> {
    let tile = Tile::Hashes(level);
    let bytes = at_least(storage, tile, index, width)?;
    let (hashes, rest) = bytes.as_chunks::<32>();
    let width = usize::try_from(width).unwrap_or(usize::MAX);
    match hashes.get(..width) {
        Some(hashes) if rest.is_empty() => Ok(hashes.to_vec()),
        Some(_) | None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the tile `{}` has not the size of one", path(tile, index, width as u64)),
        )),
    }
}

/// The tree of one size, read from its tiles.
#[derive(Debug)]
pub struct Tiled<'a, S> {
    storage: &'a S,
    size: u64,
    read: HashMap<(u32, u64), Vec<Hash>>,
}

impl<'a, S: Storage> Tiled<'a, S> {
    /// The tree of `size` leaves.
    #[must_use]
    pub fn new(storage: &'a S, size: u64) -> Self {
        Self { storage, size, read: HashMap::new() }
    }
}

impl<S: Storage> Nodes for Tiled<'_, S> {
    type Error = io::Error;

    fn subtree(&mut self, level: u32, index: u64) -> io::Result<Hash> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let (tile, inside) = (level / 8, level % 8);
        let first = index << inside;
        let key = (tile, first / WIDTH);
        let hashes = match self.read.entry(key) {
            std::collections::hash_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let count = self.size.checked_shr(8 * tile).unwrap_or_default();
                let width = if key.1 == count / WIDTH { count % WIDTH } else { WIDTH };
                place.insert(hashes(self.storage, tile, key.1, width)?)
            }
        };
        let from = (first % WIDTH) as usize;
        hashes.get(from..from + (1 << inside)).and_then(whole).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{
        merkle::leaf,
        proof::{consistency, inclusion},
        storage::faulty::FaultyDisk,
    };

    fn text(n: u64) -> Vec<u8> {
        format!("{{\"record\":{n}}}").into_bytes()
    }

    /// Builds a log of that size, a checkpoint at each of `at`.
    fn built(size: u64, at: &[u64]) -> (FaultyDisk, Edge, Vec<Hash>) {
        let (mut disk, mut edge, mut all) = (FaultyDisk::default(), Edge::default(), Vec::new());
        for n in 0..size {
            let hash = leaf(&text(n));
            all.push(hash);
            let mut ready = Vec::new();
            edge.push(&text(n), hash, |file| ready.push(file));
            if at.contains(&(n + 1)) {
                ready.extend(edge.partial());
            }
            for file in ready {
                disk.replace(&path(file.tile, file.index, file.width), &file.bytes).unwrap();
            }
        }
        (disk, edge, all)
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(path(Tile::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(Tile::Hashes(2), 0, 1), "tile/2/000.p/1");
        assert_eq!(path(Tile::Entries, 273, 112), "tile/entries/273.p/112");
        assert_eq!(path(Tile::Entries, 1_000, 256), "tile/entries/x001/000");
    }

    #[test]
    fn a_tree_of_seventy_thousand_has_the_tiles_that_the_specification_counts() {
        let (disk, edge, all) = built(70_000, &[70_000]);
        let mut names: Vec<_> = edge.partial().map(|f| path(f.tile, f.index, f.width)).collect();
        names.sort();
        assert_eq!(
            names,
            ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1", "tile/entries/273.p/112"]
        );
        assert!(disk.read("tile/0/272").is_ok() && disk.read("tile/0/273").is_err());
        assert_eq!(disk.read("tile/1/000").unwrap().len(), 8_192);
        let mut tiled = Tiled::new(&disk, 70_000);
        assert_eq!(proof_root(&mut tiled, 70_000), edge.root());
        for (index, old) in [(0, 1), (65_536, 65_536), (69_999, 69_999), (12_345, 257)] {
            assert_eq!(
                inclusion(&mut tiled, index, 70_000).unwrap(),
                inclusion(&mut &all[..], index, 70_000).unwrap()
            );
            assert_eq!(
                consistency(&mut tiled, old, 70_000).unwrap(),
                consistency(&mut &all[..], old, 70_000).unwrap()
            );
        }
    }

    fn proof_root(nodes: &mut Tiled<'_, FaultyDisk>, size: u64) -> Hash {
        super::super::proof::root(nodes, 0, size).unwrap()
    }

    #[test]
    fn an_edge_that_is_restored_goes_on_as_if_it_had_never_stopped() {
        for size in [1, 255, 256, 257, 600, 1_024] {
            let (disk, edge, all) = built(size, &[size]);
            let mut range = Range::default();
            all.iter().for_each(|l| range.push(*l));
            assert_eq!(edge.root(), range.root());
            assert_eq!(Edge::restore(&disk, size).unwrap(), edge, "{size}");
            assert!(Edge::restore(&disk, size + 1).is_none());
        }
        assert_eq!(Edge::restore(&FaultyDisk::default(), 0).unwrap(), Edge::default());
    }

    #[test]
    fn bundles_hold_the_leaves_as_they_are() {
        let (disk, edge, _) = built(300, &[300]);
        let bundle = disk.read("tile/entries/000").unwrap();
        let last = edge.partial().find(|f| f.tile == Tile::Entries).unwrap().bytes;
        let found: Vec<_> = leaves(&bundle).chain(leaves(&last)).map(<[u8]>::to_vec).collect();
        assert_eq!(found, (0..300).map(text).collect::<Vec<_>>());
        assert_eq!(leaves(&bundle[..bundle.len() - 1]).count(), 255);
    }
}
