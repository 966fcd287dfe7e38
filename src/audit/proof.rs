//! Proofs of RFC 6962: that a record is in a tree, and that a tree grew out of a smaller one.
//!
//! Pure: making a proof asks [`Nodes`] for the roots of whole subtrees, wherever they are kept;
//! checking one needs nothing but the proof (RFC 9162, 2.1.3.2 and 2.1.4.2).

use super::merkle::{Hash, node};

/// Where the roots of whole subtrees are kept.
pub trait Nodes {
    /// Why one cannot be had.
    type Error;

    /// The root of the subtree over the leaves from `index * 2^level` on, `2^level` of them.
    ///
    /// # Errors
    /// If it is not there.
    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The hashes of all leaves of a log, from its first.
impl Nodes for &[Hash] {
    type Error = Missing;

    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, Missing> {
        let wide = 1_u64.checked_shl(level).ok_or(Missing)?;
        let first = index.checked_mul(wide).and_then(|at| usize::try_from(at).ok()).ok_or(Missing)?;
        let wide = usize::try_from(wide).map_err(|_| Missing)?;
        let leaves = first.checked_add(wide).and_then(|end| self.get(first..end)).ok_or(Missing)?;
        whole(leaves).ok_or(Missing)
    }
}

/// A part of the tree is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a part of the tree is not there")]
pub struct Missing;

/// The root over so many hashes of one level, if they are a power of two.
#[must_use]
pub fn whole(hashes: &[Hash]) -> Option<Hash> {
    if !hashes.len().is_power_of_two() {
        return None;
    }
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level
            .chunks_exact(2)
            .filter_map(|pair| if let [left, right] = pair { Some(node(left, right)) } else { None })
            .collect();
    }
    level.first().copied()
}

/// The largest power of two below `count`, which is at least 2.
const fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// The root over the leaves from `from` to `to`.
///
/// # Errors
/// What the nodes say.
pub fn root<N: Nodes>(nodes: &mut N, from: u64, to: u64) -> Result<Hash, N::Error> {
    let count = to - from;
    if count.is_power_of_two() {
        return nodes.subtree(count.trailing_zeros(), from / count);
    }
    let middle = from + split(count);
    let left = root(nodes, from, middle)?;
    Ok(node(&left, &root(nodes, middle, to)?))
}

/// The path from the leaf at `index` to the root of a tree of `size`, the leaf's sibling first;
/// nothing if there is no such leaf.
///
/// # Errors
/// What the nodes say.
pub fn inclusion<N: Nodes>(nodes: &mut N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut from, mut to, mut path) = (0, size, Vec::new());
    while index < size && to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(root(nodes, middle, to)?);
            to = middle;
        } else {
            path.push(root(nodes, from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// What shows that the tree of `size` begins with the tree of `old` leaves; nothing if it is
/// empty, the same, or larger.
///
/// # Errors
/// What the nodes say.
pub fn consistency<N: Nodes>(nodes: &mut N, old: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    if old == 0 || old >= size {
        return Ok(path);
    }
    let (mut from, mut to, mut from_the_first) = (0, size, true);
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            path.push(root(nodes, middle, to)?);
            to = middle;
        } else {
            path.push(root(nodes, from, middle)?);
            from = middle;
            from_the_first = false;
        }
    }
    if !from_the_first {
        path.push(root(nodes, from, to)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether the path shows that the leaf is at `index` in the tree of that size and root.
#[must_use]
pub fn includes(size: u64, root: &Hash, index: u64, leaf: &Hash, path: &[Hash]) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether the path shows that the tree of `size` and `root` begins with the one of `old_size` and
/// `old_root`.
#[must_use]
pub fn extends(old_size: u64, old_root: &Hash, size: u64, root: &Hash, path: &[Hash]) -> bool {
    if old_size >= size || old_size == 0 {
        let empty_is_empty = old_size > 0 || *old_root == super::merkle::Range::default().root();
        return path.is_empty()
            && empty_is_empty
            && (old_size == 0 || (old_size == size && old_root == root));
    }
    let mut rest = path.iter();
    let first = if old_size.is_power_of_two() { Some(old_root) } else { rest.next() };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old_size - 1, size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old = node(sibling, &old);
            new = node(sibling, &new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new = node(&new, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old == *old_root && new == *root
}

#[cfg(test)]
mod tests {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use sha2::Sha256;

    use super::*;
    use crate::audit::merkle::{Range, leaf};

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|i| leaf(format!("record {i}").as_bytes())).collect()
    }

    fn root_of(leaves: &[Hash]) -> Hash {
        let mut range = Range::default();
        leaves.iter().for_each(|l| range.push(*l));
        range.root()
    }

    #[test]
    fn every_record_of_every_small_tree_is_proven_and_nothing_else_is() {
        for size in 1..70 {
            let leaves = leaves(size);
            let root = root_of(&leaves);
            for index in 0..size {
                let path = inclusion(&mut &leaves[..], index, size).unwrap();
                let leaf = leaves[index as usize];
                assert!(includes(size, &root, index, &leaf, &path), "{index} of {size}");
                assert!(!includes(size, &root, index, &[7; 32], &path));
                assert!(!includes(size, &root, (index + 1) % size, &leaf, &path) || size == 1);
                assert!(!includes(size, &[7; 32], index, &leaf, &path));
                if let Some((_, shorter)) = path.split_first() {
                    assert!(!includes(size, &root, index, &leaf, shorter));
                }
                assert!(!includes(size, &root, index, &leaf, &[&path[..], &[[0; 32]]].concat()));
            }
        }
    }

    #[test]
    fn every_small_tree_is_shown_to_begin_with_every_smaller_one() {
        let all = leaves(70);
        for size in 1..70_u64 {
            let root = root_of(&all[..size as usize]);
            for old in 1..=size {
                let before = root_of(&all[..old as usize]);
                let path = consistency(&mut &all[..], old, size).unwrap();
                assert!(extends(old, &before, size, &root, &path), "{old} of {size}");
                assert!(!extends(old, &[7; 32], size, &root, &path), "{old} of {size}");
                assert!(!extends(old, &before, size, &[7; 32], &path), "{old} of {size}");
                assert!(!extends(old, &before, size, &root, &[&path[..], &[[0; 32]]].concat()));
            }
        }
        assert!(extends(0, &Range::default().root(), 3, &[1; 32], &[]));
        assert!(!extends(0, &[9; 32], 3, &[1; 32], &[]));
        assert!(!extends(4, &[1; 32], 3, &[1; 32], &[]));
    }

    #[test]
    fn the_proofs_are_those_of_an_independent_implementation() {
        let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        for i in 0..100 {
            theirs.push(format!("record {i}").into_bytes());
        }
        let ours = leaves(100);
        let bytes = |path: Vec<Hash>| path.concat();
        for index in 0..100 {
            let path = inclusion(&mut &ours[..], index, 100).unwrap();
            assert_eq!(bytes(path), theirs.prove_inclusion(index as usize).as_bytes());
        }
        for added in 1..100 {
            let path = consistency(&mut &ours[..], 100 - added, 100).unwrap();
            assert_eq!(bytes(path), theirs.prove_consistency(added as usize).as_bytes(), "{added}");
        }
    }
}
