//! What witnesses vouch for, of the heads beside a log and those that are given.

use std::path::Path;

use crate::audit::{
    COSIGNED, note,
    witness::{WitnessKey, vouchers},
};

/// The newest head for which enough witnesses vouch.
pub(super) struct Vouched {
    /// The head, to be checked like one that was kept elsewhere.
    pub note: String,
    /// What is said of it.
    pub said: String,
}

/// Finds the newest head of a log for which at least `required` of the witnesses vouch.
pub(super) fn newest(
    directory: &Path,
    origin: &str,
    heads: &[String],
    keys: &[WitnessKey],
    required: usize,
) -> Result<Vouched, String> {
    let beside = std::fs::read_to_string(directory.join(COSIGNED)).ok();
    let of_log = heads.iter().chain(&beside).filter(|head| note::claimed_origin(head) == origin);
    let mut found: Vec<_> = of_log
        .filter_map(|text| {
            let vouchers = vouchers(text, keys);
            let head = note::unverified(text).filter(|_| vouchers.len() >= required)?;
            Some((head.size, text, vouchers))
        })
        .collect();
    found.sort_by_key(|(size, ..)| *size);
    let Some((size, text, vouchers)) = found.pop() else {
        return Err(format!("no head of it is vouched for by {required} of the {} witnesses", keys.len()));
    };
    let names: Vec<_> =
        vouchers.iter().map(|(key, time)| format!("{} at {}", key.name(), time.to_rfc3339())).collect();
    Ok(Vouched {
        note: text.clone(),
        said: format!("{size} records are vouched for by {}", names.join(", ")),
    })
}
