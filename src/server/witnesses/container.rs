//! A container of blob storage as a place where heads are kept: one blob a head, which is added and
//! never overwritten.

use bytes::Bytes;

use crate::{
    audit::note::{self, Head},
    server::blobs::{Added, Container},
};

/// A head is a few lines.
const MOST: usize = 64 << 10;

/// Adds a head; one that is there already must be the same.
pub(super) async fn add(container: &Container, head: &Head, checkpoint: &str) -> Result<(), String> {
    let name = super::name_of(head);
    match container.add(&name, Bytes::from(checkpoint.to_owned())).await? {
        Added::Stored => Ok(()),
        Added::There => {
            let there = container.part(&name, 0, MOST).await?.unwrap_or_default();
            let there = std::str::from_utf8(&there).ok().and_then(note::unverified);
            if there.is_some_and(|there| there == *head) { Ok(()) } else { Err(super::FORKED.to_owned()) }
        }
    }
}
