//! The polling capability (DECISIONS 16): whoever started a long-running operation may read its
//! status, by a sealed and expiring word in the URL that the gate handed out.
//!
//! Status URLs name no workspace, so that no entry with a scope could allow them. The capability
//! stands in for an `allow`; a `deny` still denies. Pure but for the key.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{http::Target, secrets::Mac, time::Timestamp};

/// The query parameter that carries it; it never goes upstream.
pub const PARAMETER: &str = "amlgate-op";
/// How long it is good for; each poll gives a new one.
const LIFE: Duration = Duration::from_secs(24 * 3_600);

/// What a capability is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a> {
    /// The route by name.
    pub route: &'a str,
    /// Whose operation it is, as `issuer:subject`.
    pub principal: &'a str,
}

/// Adds a capability to a URL of the gate.
#[must_use]
pub fn seal(mac: &Mac, url: &str, bound: Bound<'_>, now: Timestamp) -> String {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let path_and_query = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
    let Ok(target) = Target::parse("", path_and_query) else { return url.to_owned() };
    let expires = now.plus(LIFE).as_secs();
    let tag = mac.tag(&message(&target, bound, expires));
    let mut word = expires.to_be_bytes().to_vec();
    word.extend_from_slice(&tag);
    let separator = if path_and_query.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{PARAMETER}={}", URL_SAFE_NO_PAD.encode(word))
}

/// Whether a target carries a capability of this principal for this route that is still good; the
/// target is given without its parameter either way.
#[must_use]
pub fn open(mac: &Mac, target: &Target, bound: Bound<'_>, now: Timestamp) -> (Target, bool) {
    let Some(word) = target.query().get(PARAMETER) else { return (target.clone(), false) };
    let rest = target.without_query(PARAMETER);
    let good = URL_SAFE_NO_PAD.decode(word).ok().is_some_and(|bytes| {
        let Some((expires, tag)) = bytes.split_first_chunk::<8>() else { return false };
        let expires = u64::from_be_bytes(*expires);
        now.as_secs() < expires && mac.verify(&message(&rest, bound, expires), tag)
    });
    (rest, good)
}

fn message(target: &Target, bound: Bound<'_>, expires: u64) -> Vec<u8> {
    // Lengths in front, so that no two lists of parts give the same bytes.
    let path = target.path_and_query();
    let mut message = Vec::with_capacity(path.len() + 128);
    for part in [bound.route, bound.principal, path.as_str()] {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part.as_bytes());
    }
    message.extend_from_slice(&expires.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::secrets::{Purpose, Seal, SecretString};

    const SAM: Bound<'_> = Bound { route: "arm", principal: "corp:sam" };
    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn mac() -> Mac {
        Seal::new([&SecretString::from(STANDARD.encode([7; 32]))]).unwrap().mac(Purpose::Polling)
    }

    fn target(url: &str) -> Target {
        Target::parse("gate", url.strip_prefix("https://gate").unwrap()).unwrap()
    }

    #[test]
    fn whoever_started_an_operation_may_poll_it_and_azure_sees_its_own_url() {
        let sealed = seal(&mac(), "https://gate/op/1?t=%2Fa&s=b", SAM, NOW);
        let (rest, good) = open(&mac(), &target(&sealed), SAM, NOW);
        assert!(good);
        assert_eq!(rest.path_and_query(), "/op/1?t=%2Fa&s=b");
    }

    #[test]
    fn another_person_route_url_or_time_has_no_use_for_it() {
        let sealed = seal(&mac(), "https://gate/op/1?t=a", SAM, NOW);
        let at = |url: &str, bound, now| open(&mac(), &target(url), bound, now).1;
        assert!(!at(&sealed, Bound { principal: "corp:eve", ..SAM }, NOW));
        assert!(!at(&sealed, Bound { route: "other", ..SAM }, NOW));
        assert!(!at(&sealed.replace("/op/1", "/op/2"), SAM, NOW));
        assert!(!at(&sealed.replace("t=a", "t=b"), SAM, NOW));
        assert!(!at(&format!("{sealed}&u=1"), SAM, NOW));
        assert!(!at(&sealed, SAM, NOW.plus(LIFE)));
        assert!(!at("https://gate/op/1?t=a&amlgate-op=AAAA", SAM, NOW));
        assert!(!at("https://gate/op/1?t=a", SAM, NOW));
    }
}
