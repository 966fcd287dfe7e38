//! Where a page ended: opaque to callers, and of one log alone, so that behind a load balancer nobody
//! goes on in the log of another gate without noticing.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::audit::merkle;

/// The version of the form.
const VERSION: u8 = 1;

/// The cursor of a position.
pub(super) fn write(origin: &str, position: u64) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&tag(origin));
    bytes.extend_from_slice(&position.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position of a cursor.
///
/// # Errors
/// Why it is none of this log.
pub(super) fn read(origin: &str, text: &str) -> Result<u64, &'static str> {
    const NONE: &str = "`cursor` is none that this gate gave";
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NONE)?;
    let (version, rest) = bytes.split_first().ok_or(NONE)?;
    let (log, position) = rest.split_first_chunk::<4>().ok_or(NONE)?;
    let position = <[u8; 8]>::try_from(position).map_err(|_| NONE)?;
    if *version != VERSION {
        return Err(NONE);
    }
    if *log != tag(origin) {
        return Err("`cursor` is of another gate's log: begin anew, or ask the gate that gave it");
    }
    Ok(u64::from_be_bytes(position))
}

fn tag(origin: &str) -> [u8; 4] {
    let [a, b, c, d, ..] = merkle::leaf(origin.as_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_by_its_own_log_alone() {
        for position in [0, 1, 40_000, u64::MAX] {
            let cursor = write("gate-a", position);
            assert_eq!(read("gate-a", &cursor), Ok(position));
            assert!(read("gate-b", &cursor).unwrap_err().contains("another gate's"));
        }
        for text in ["", "0", "AAAA", "nonsense!", &write("gate-a", 7)[1..], &(write("gate-a", 7) + "AA")] {
            assert!(read("gate-a", text).is_err(), "{text}");
        }
    }
}
