//! Who calls, as an API server of Kubernetes is told: user impersonation, in the gate's words alone.
//!
//! The gate's identity may impersonate and needs no other right at the cluster; what a person may do
//! there is what the cluster's own rules say of `ISSUER:SUBJECT` and of the groups `ISSUER:GROUP`.
//! The issuer stands in front, so that no issuer can make anybody a member of `system:masters`.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::identity::{Caller, Groups};

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
/// Browsers carry a bearer in the list of WebSocket's protocols; it would be believed before ours.
const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";
/// What a header cannot say is written as escapes, and so is what would look like one.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'"').add(b',');

/// Where a name could not be written at all: a user that nobody is.
const NOBODY: HeaderValue = HeaderValue::from_static("amlgate:unwritable");

/// Puts `caller` into the headers of a request to a cluster; nobody if the request's token is the
/// caller's own. What the caller said of that kind is gone already ([`crate::http::headers`]).
pub(super) fn put(headers: &mut HeaderMap, caller: Option<&Caller>) {
    without_bearer(headers);
    let Some(caller) = caller else { return };
    let mut text = String::new();
    let mut value = |name: &str| {
        text.clear();
        // Writing into a string does not fail.
        let _ = write!(text, "{}", utf8_percent_encode(&caller.id.issuer, ESCAPED));
        let _ = write!(text, ":{}", utf8_percent_encode(name, ESCAPED));
        HeaderValue::from_str(&text).unwrap_or(NOBODY)
    };
    headers.insert(USER, value(&caller.id.subject));
    headers.remove(GROUP);
    // Kubernetes only grants: of whom not all groups are known, the known ones are named.
    let groups: &[Box<str>] = match &caller.groups {
        Groups::Known(groups) => groups,
        Groups::Asked(asked) => asked.member().unwrap_or_default(),
        Groups::Overage => &[],
    };
    for group in groups {
        headers.append(GROUP, value(group));
    }
}

/// Removes a token of the caller's from the protocols that a WebSocket offers.
fn without_bearer(headers: &mut HeaderMap) {
    let holds = |value: &HeaderValue| {
        String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase().contains(BEARER_PROTOCOL)
    };
    if !headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().any(holds) {
        return;
    }
    let kept: Vec<String> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|protocol| !protocol.to_ascii_lowercase().starts_with(BEARER_PROTOCOL))
        .map(str::to_owned)
        .collect();
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Ok(value) = HeaderValue::try_from(kept.join(", "))
        && !kept.is_empty()
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        identity::{PrincipalId, PrincipalKind},
        time::Timestamp,
    };

    fn caller(subject: &str, groups: &[&str]) -> Caller {
        Caller {
            id: PrincipalId { issuer: "corp".into(), subject: subject.into() },
            human: None,
            from_pull_request: false,
            kind: PrincipalKind::Person,
            tenant: None,
            client: None,
            display: None,
            groups: Groups::Known(groups.iter().map(|g| Box::from(*g)).collect()),
            roles: Arc::new([]),
            claims: Arc::default(),
            expires: Timestamp::from_secs(0),
            subjects_at_issue: None,
            reviewers: None,
            token_digest: [0; 32],
        }
    }

    #[test]
    fn no_issuer_makes_anybody_a_master_and_no_name_is_taken_for_another() {
        let mut headers = HeaderMap::new();
        put(&mut headers, Some(&caller("t/ann", &["system:masters", "data science", "100%", "zürich"])));
        assert_eq!(headers[USER], "corp:t/ann");
        let groups: Vec<_> = headers.get_all(GROUP).iter().map(|g| g.to_str().unwrap()).collect();
        assert_eq!(groups, ["corp:system:masters", "corp:data%20science", "corp:100%25", "corp:z%C3%BCrich"]);
    }

    #[test]
    fn a_bearer_among_the_protocols_of_a_websocket_stays_here() {
        for caller in [None, Some(&caller("ann", &[]))] {
            let mut headers = HeaderMap::new();
            let offered = "base64url.bearer.authorization.k8s.io.dG9rZW4, v5.channel.k8s.io";
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offered));
            put(&mut headers, caller);
            assert_eq!(headers[header::SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
            assert_eq!(headers.contains_key(USER), caller.is_some());
        }
    }
}
