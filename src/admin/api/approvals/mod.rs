//! `/api/v1/requests` and `/api/v1/grants`: asking for approvals, answering, and taking grants back.
//!
//! A person asks for, sees and takes back their own, and answers what an entry lets them answer, under
//! `amlgate/requests/*` and `amlgate/grants/*`; what is others' is under `amlgate/others/*`. An entry
//! that lets somebody call this says nothing of whom they may approve: that says the `by` of the entry
//! that demands the approval, and never whoever asked. Links never approve: only a POST with a body of
//! JSON does, which no page of another origin can send.

mod grants;
mod requests;
pub(super) mod shown;

pub(super) use self::{
    grants::{LIST as LIST_GRANTS, REVOKE, list as list_grants, revoke},
    requests::{APPROVE, ASK, DENY, LIST, ONE, WITHDRAW, approve, ask, deny, list, one, withdraw},
};
pub(in crate::admin) use self::{
    grants::{listed as grants_of, taken_back},
    requests::{ask_for, found, listed as requests_of, taken},
};
use super::{
    Api, Peer,
    call::Refused,
    changes::{conflict, to_its_end, unavailable, unknown, unrecorded},
    openapi::{Parameter, Shape},
    pages::{CURSOR, before, cursor},
};
use crate::{
    audit::event::{Event, GrantChange, Verdict},
    gates::approvals::{Grant, Request},
    identity::Principal,
    time::Timestamp,
};

/// The largest body: a reason, a ticket, a decision.
const MAX_BODY: usize = 8 << 10;
/// Items of a page that does not say how many, and of the largest.
const PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 200;

impl Api {
    /// Who calls, with what is said elsewhere of groups that their token does not carry.
    pub(in crate::admin) async fn known(
        &self,
        head: &axum::http::request::Parts,
        peer: Peer,
    ) -> Result<Principal, Refused> {
        let principal = self.caller(&head.headers, peer).await?;
        Ok(match self.policies.peek().groups_to_ask(&principal) {
            None => principal,
            Some(about) => (self.elsewhere.groups)((principal, about)).await,
        })
    }
}

/// What is recorded of a request that has come so far.
pub fn of_request(request: &Request, by: Option<String>, verdict: Verdict, note: Option<String>) -> Event {
    Event::Approval {
        id: request.id.clone(),
        entry: request.asked.entry.clone(),
        requester: request.asked.requester.id.clone(),
        claimed: request.asked.claimed.as_ref().map(|claimed| claimed.user.clone()),
        by,
        verdict,
        reason: note,
    }
}

/// What is recorded of a grant.
pub fn of_grant(grant: &Grant, by: Option<String>, change: GrantChange) -> Event {
    Event::Grant {
        id: grant.id.clone(),
        entry: grant.terms.entry.clone(),
        subject: grant.terms.holder.id.clone(),
        by,
        change,
        until: grant.expires.as_millis(),
    }
}

/// Of a list.
const LIMIT: Parameter = Parameter::query(
    "limit",
    "The most items of the page; 50 unless it is said.",
    Shape::Number(1, LARGEST_PAGE as u64),
);

/// What of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    show: Show,
    state: Option<String>,
    before: Option<(Timestamp, String)>,
    limit: u32,
}

/// Whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    Mine,
    ToAnswer,
    All,
}

impl Listed {
    fn read(query: &str) -> Result<Self, Refused> {
        let mut listed = Self { show: Show::Mine, state: None, before: None, limit: PAGE };
        let mut seen = Vec::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            if seen.contains(&key) {
                return Err(Refused::malformed(format!("`{key}` stands twice")));
            }
            match &*key {
                "show" => {
                    listed.show = match &*value {
                        "mine" => Show::Mine,
                        "to_answer" => Show::ToAnswer,
                        "all" => Show::All,
                        _ => return Err(Refused::malformed("`show` is `mine`, `to_answer` or `all`")),
                    }
                }
                "state" => listed.state = Some(value.into_owned()),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LARGEST_PAGE).contains(limit));
                    listed.limit =
                        limit.ok_or_else(|| Refused::malformed(format!("`limit` is 1 to {LARGEST_PAGE}")))?;
                }
                "cursor" => listed.before = Some(before(&value)?),
                other => return Err(Refused::malformed(format!("`{other}` is no filter"))),
            }
            seen.push(key);
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_asked_for_in_few_words_and_no_others() {
        let read = |query: &str| Listed::read(query).map_err(|refused| refused.message);
        let listed = read("show=to_answer&state=pending&limit=3&cursor=17.a-b").unwrap();
        assert_eq!(
            (listed.show, listed.limit, listed.state.as_deref()),
            (Show::ToAnswer, 3, Some("pending"))
        );
        assert_eq!(listed.before, Some((Timestamp::from_millis(17), "a-b".to_owned())));
        assert_eq!(cursor(Timestamp::from_millis(17), "a-b"), "17.a-b");
        assert_eq!(read("").unwrap().show, Show::Mine);
        for query in [
            "show=others",
            "limit=0",
            "limit=201",
            "cursor=x",
            "cursor=1.'",
            "whose=mine",
            "show=mine&show=all",
            "limit=-1",
            "limit=1e2",
            "cursor=-1.a",
            "cursor=1.a%00",
            "state=denied&%73tate=denied",
        ] {
            assert!(read(query).is_err(), "{query}");
        }
    }
}
