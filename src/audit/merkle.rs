//! The Merkle tree of RFC 6962, as the shortest list of whole subtrees: appending costs one hash a
//! record on average, and the root costs the logarithm of the size.

use aws_lc_rs::digest::{Context, SHA256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The roots of the whole subtrees that the leaves so far make up, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Range {
    size: u64,
    stack: Vec<Hash>,
}

/// The hash of a leaf: SHA-256 of 0x00 and its bytes (RFC 6962, 2.1).
#[must_use]
pub fn leaf(bytes: &[u8]) -> Hash {
    hash(&[&[0], bytes])
}

/// The hash of two subtrees: SHA-256 of 0x01 and both hashes.
#[must_use]
pub fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

impl Range {
    /// The range of a tree of `size` leaves whose subtrees have these roots, largest first; `None`
    /// if their number does not fit the size.
    #[must_use]
    pub fn restore(size: u64, stack: Vec<Hash>) -> Option<Self> {
        (stack.len() == size.count_ones() as usize).then_some(Self { size, stack })
    }

    /// How many leaves there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the subtrees, largest first.
    #[must_use]
    pub fn stack(&self) -> &[Hash] {
        &self.stack
    }

    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each trailing one of the size is a subtree as large as the one that grows.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.stack.pop() {
                hash = node(&left, &hash);
            }
        }
        self.stack.push(hash);
        self.size += 1;
    }

    /// The tree's root; of the empty tree the hash of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut subtrees = self.stack.iter().rev();
        match subtrees.next() {
            None => hash(&[]),
            Some(smallest) => subtrees.fold(*smallest, |right, left| node(left, &right)),
        }
    }
}

#[cfg(test)]
mod tests {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use sha2::Sha256;

    use super::*;

    #[test]
    fn the_root_is_the_one_that_an_independent_implementation_computes() {
        let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        let mut ours = Range::default();
        for i in 0..200_u32 {
            let bytes = format!("record {i}").into_bytes();
            ours.push(leaf(&bytes));
            theirs.push(bytes);
            assert_eq!(ours.root().as_slice(), theirs.root().as_bytes().as_slice(), "at size {}", i + 1);
        }
    }

    #[test]
    fn a_restored_range_goes_on_as_if_it_had_never_stopped() {
        let mut whole = Range::default();
        for i in 0..77_u8 {
            let mut restored = Range::restore(whole.size(), whole.stack().to_vec()).unwrap();
            whole.push(leaf(&[i]));
            restored.push(leaf(&[i]));
            assert_eq!(whole, restored);
        }
        assert!(Range::restore(3, vec![[0; 32]]).is_none());
    }

    #[test]
    fn the_empty_tree_has_the_root_of_the_standard() {
        let hex: String = Range::default().root().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
