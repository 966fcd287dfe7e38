//! A Gerrit, asked over its REST API as a user of its own.
//!
//! Each answer is bounded in size and time, redirects are not followed, and whatever is not Gerrit's own
//! JSON is no answer. What decides is asked each time: of a merged change nothing is for ever but the
//! commit, and that comes along anyhow.

pub mod group;
pub(super) mod merged;
pub mod say;

use std::{
    collections::BTreeSet,
    fmt::{self, Display},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, de::IgnoredAny};

use super::{
    decide::{Step, Unreviewed, Wanted, change, no},
    facts::{Change, Facts, Merge, Parent, Signature, Unique, is_commit, read},
    people::{Account, Demand, People},
};
use crate::{
    net::{Connector, Destination, FetchLimits},
    policy::review::Review,
    time::Timestamp,
};

/// One answer is at most so large.
const ANSWER: usize = 2 << 20;
/// One answer takes at most so long.
const ANSWER_IN: Duration = Duration::from_secs(5);
/// Changes of one commit, or merged in one go, that are looked through.
const MOST_CHANGES: usize = 16;
/// Accounts that are looked at.
const MOST_ACCOUNTS: usize = 64;
/// Members of a group.
const MOST_MEMBERS: usize = 10_000;

/// What is asked of a change.
const OPTIONS: &str =
    "o=ALL_REVISIONS&o=ALL_COMMITS&o=DETAILED_LABELS&o=DETAILED_ACCOUNTS&o=SUBMIT_REQUIREMENTS";

/// One of the configured servers.
#[derive(Clone)]
pub struct Gerrit {
    name: Arc<str>,
    connector: Connector,
    to: Destination,
    /// The path below which it lies, without a slash at its end.
    base: String,
    /// `Basic ...`.
    authorization: HeaderValue,
    /// Its URL for people, without a slash at its end.
    web: Arc<str>,
    people: People,
    /// Of what it was made, as a digest; `None` if nobody said.
    made_of: Option<[u8; 32]>,
}

impl fmt::Debug for Gerrit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gerrit({}: {}{})", self.name, self.to, self.base)
    }
}

/// Why an answer is none.
enum NoAnswer {
    /// Nobody answered, or only that they cannot now.
    Silent(String),
    /// There is nothing of that name, or the gate's user may not see it.
    Absent,
    /// The gate's user may not ask that.
    Refused(StatusCode),
    /// It is not Gerrit's.
    Odd(String),
}

impl Gerrit {
    /// A server, by its name in the configuration.
    #[must_use]
    pub fn new(
        name: Arc<str>,
        connector: Connector,
        to: Destination,
        base: String,
        authorization: HeaderValue,
        web: Arc<str>,
        people: People,
    ) -> Self {
        Self { name, connector, to, base, authorization, web, people, made_of: None }
    }

    /// The same, with the digest of the configuration and the token that it was made of.
    #[must_use]
    pub fn made_of(self, digest: [u8; 32]) -> Self {
        Self { made_of: Some(digest), ..self }
    }

    /// Whether another was made of the same: what one of them said, the other would say.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.made_of.is_some() && self.made_of == other.made_of
    }

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How its accounts are known to be people.
    #[must_use]
    pub const fn people(&self) -> &People {
        &self.people
    }

    /// Everything that a decision about a commit needs.
    ///
    /// # Errors
    /// [`Unreviewed`] if it is not to be had.
    pub async fn facts(&self, review: &Review, sha: &str, now: Timestamp) -> Result<Facts, Unreviewed> {
        let mut facts = Facts {
            server: Arc::clone(&self.name),
            web: Arc::clone(&self.web),
            asked: now,
            ..Facts::default()
        };
        let query = format!("commit:{sha}");
        let (changes, on_branch) = tokio::join!(self.changes(&query), self.on_branch(review, sha));
        facts.changes = changes?;
        facts.on_branch = on_branch?;
        if facts.changes.is_empty() && review.merge_commits {
            self.merge(review, sha, &mut facts).await?;
        }
        let mut wanted = Wanted::default();
        let about = facts.merge.iter().find_map(|merge| merge.parents.get(1)).map_or(sha, String::as_str);
        // What is denied for its change alone needs no more questions.
        let Ok(found) = change(review, about, &facts.changes) else { return Ok(facts) };
        wanted.add(review, found);
        for other in facts.merge.iter().flat_map(|merge| &merge.together) {
            wanted.add(review, other);
        }
        for mail in wanted.mails {
            let accounts = self.having(&mail).await?;
            wanted.accounts.extend(&accounts);
            facts.by_mail.insert(mail, accounts);
        }
        if wanted.accounts.len() > MOST_ACCOUNTS {
            return Err(no(Step::Reading, "more people took part than can be looked at"));
        }
        for id in wanted.accounts {
            // Who is gone is nobody, and what depends on them fails.
            if let Some(account) = self.account(id).await? {
                facts.accounts.insert(id, account);
            }
        }
        for by in &review.by {
            let members = self.members(&by.group).await?;
            facts.groups.insert(Arc::clone(&by.group), members);
        }
        Ok(facts)
    }

    /// The changes that a query finds.
    async fn changes(&self, query: &str) -> Result<Vec<Change>, Unreviewed> {
        let path = format!("/changes/?q={}&{OPTIONS}&n={MOST_CHANGES}", escaped(query));
        self.get(&path).await.map_err(|why| self.failed("changes", why))
    }

    async fn on_branch(&self, review: &Review, sha: &str) -> Result<bool, Unreviewed> {
        let branch = format!("refs/heads/{}", review.branch);
        let path = format!(
            "/projects/{}/commits:in?commit={sha}&ref={}",
            escaped(&review.project),
            escaped(&branch)
        );
        match self.get::<Unique<Vec<String>>>(&path).await {
            Ok(held) => Ok(held.get(sha).is_some_and(|branches| branches.contains(&branch))),
            Err(NoAnswer::Absent) => Ok(false),
            Err(why) => Err(self.failed("branches", why)),
        }
    }

    /// What a commit that is no patch set merges.
    async fn merge(&self, review: &Review, sha: &str, facts: &mut Facts) -> Result<(), Unreviewed> {
        #[derive(Deserialize)]
        struct Merging {
            parents: Vec<Parent>,
            committer: Signature,
        }
        let path = format!("/projects/{}/commits/{sha}", escaped(&review.project));
        let merging: Merging = match self.get(&path).await {
            Ok(merging) => merging,
            Err(NoAnswer::Absent) => return Ok(()),
            Err(why) => return Err(self.failed("commits", why)),
        };
        let parents: Vec<_> = merging.parents.into_iter().map(|parent| parent.commit).collect();
        let [_, second] = &parents[..] else { return Ok(()) };
        if !is_commit(second) {
            return Err(no(Step::Reading, "what Gerrit answered does not say what the commit merges"));
        }
        facts.changes = self.changes(&format!("commit:{second}")).await?;
        let Ok(found) = change(review, second, &facts.changes) else {
            facts.merge = Some(Merge { parents, committed_by: Vec::new(), together: Vec::new() });
            return Ok(());
        };
        let together = match found.submission_id.as_deref().and_then(quoted) {
            Some(id) => self.changes(&format!("submissionid:{id}")).await?,
            None => Vec::new(),
        };
        let committed_by = self.having(&merging.committer.email).await?;
        facts.merge = Some(Merge { parents, committed_by, together });
        Ok(())
    }

    /// The accounts that have an e-mail, closed ones too.
    async fn having(&self, mail: &str) -> Result<Vec<u64>, Unreviewed> {
        let Some(mail) = quoted(mail) else {
            return Err(no(Step::Reading, "the commit names an e-mail that cannot be asked about"));
        };
        let query = format!("email:{mail} (is:active OR is:inactive)");
        // Whoever may not see all e-mails would find nobody by most; who asks for all is told so.
        let path = format!("/accounts/?q={}&o=DETAILS&o=ALL_EMAILS&n={MOST_ACCOUNTS}", escaped(&query));
        let accounts: Vec<Account> = self.get(&path).await.map_err(|why| self.failed("accounts", why))?;
        Ok(accounts.into_iter().map(|account| account.id).collect())
    }

    /// An account with its external ids, as far as they are needed; `None` if there is none.
    async fn account(&self, id: u64) -> Result<Option<Account>, Unreviewed> {
        let mut account: Account = match self.get(&format!("/accounts/{id}/detail")).await {
            Ok(account) => account,
            Err(NoAnswer::Absent) => return Ok(None),
            Err(why) => return Err(self.failed("accounts", why)),
        };
        if account.id != id {
            return Err(no(Step::Reading, "Gerrit answered about another account"));
        }
        if self.people.demand == Demand::Mail && self.people.links.is_empty() {
            return Ok(Some(account));
        }
        account.externals = match self.get(&format!("/accounts/{id}/external.ids")).await {
            Ok(externals) => externals,
            // By e-mail they only add to what is known.
            Err(NoAnswer::Absent | NoAnswer::Refused(_)) if self.people.demand == Demand::Mail => Vec::new(),
            Err(why) => return Err(self.failed("external ids of others", why)),
        };
        Ok(Some(account))
    }

    /// Whoever is in a group, directly or not.
    async fn members(&self, group: &str) -> Result<BTreeSet<u64>, Unreviewed> {
        let path = format!("/groups/{}/members/?recursive", escaped(group));
        match self.get::<Vec<Account>>(&path).await {
            Ok(members) if members.len() > MOST_MEMBERS => {
                Err(no(Step::Reading, format!("Gerrit's group `{group}` has too many members")))
            }
            Ok(members) => Ok(members.into_iter().map(|member| member.id).collect()),
            Err(NoAnswer::Absent) => {
                Err(no(Step::Reading, format!("the gate sees no group `{group}` in Gerrit")))
            }
            Err(why) => Err(self.failed("groups", why)),
        }
    }

    /// Whom the gate is there, the server's version, and what it may.
    ///
    /// # Errors
    /// Words on what is wrong, and whether nobody answered.
    pub async fn greet(&self) -> Result<Greeting, (String, bool)> {
        let failed = |why: NoAnswer| {
            let silent = matches!(why, NoAnswer::Silent(_));
            (why.to_string(), silent)
        };
        let own: Account = self.get("/accounts/self").await.map_err(failed)?;
        let version: String = self.get("/config/server/version").await.map_err(failed)?;
        let capabilities = "/accounts/self/capabilities?q=modifyAccount&q=viewSecondaryEmails";
        let may: Unique<IgnoredAny> = self.get(capabilities).await.map_err(failed)?;
        let reads_external_ids = may.contains_key("modifyAccount");
        let reads_mails = reads_external_ids || may.contains_key("viewSecondaryEmails");
        Ok(Greeting { account: own.id, version, reads_external_ids, reads_mails })
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, NoAnswer> {
        let request = Request::get(format!("{}/a{path}", self.base))
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, self.authorization.clone())
            .body(Bytes::new())
            .map_err(|error| NoAnswer::Odd(error.to_string()))?;
        let limits = FetchLimits { body: ANSWER, time: ANSWER_IN };
        let answer = self.connector.send(&self.to, request, limits).await;
        let answer = answer.map_err(|error| match error {
            crate::net::FetchError::TooLarge { .. } => NoAnswer::Odd(error.to_string()),
            crate::net::FetchError::Connect { .. }
            | crate::net::FetchError::Exchange { .. }
            | crate::net::FetchError::TimedOut { .. } => NoAnswer::Silent(error.to_string()),
        })?;
        let status = answer.status();
        match status {
            StatusCode::OK => read(answer.body()).ok_or_else(|| {
                let (path, _) = path.split_once('?').unwrap_or((path, ""));
                NoAnswer::Odd(format!("`{}` answered `{path}` with something that is not Gerrit's", self.to))
            }),
            StatusCode::NOT_FOUND => Err(NoAnswer::Absent),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(NoAnswer::Refused(status)),
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(NoAnswer::Silent(format!("`{}` answered {status}", self.to)))
            }
            _ => Err(NoAnswer::Odd(format!("`{}` answered {status}", self.to))),
        }
    }

    /// What the caller is told; the rest is for the log.
    fn failed(&self, what: &str, why: NoAnswer) -> Unreviewed {
        tracing::warn!(gerrit = %self.name, what, %why, "Gerrit could not be asked");
        let name = &self.name;
        match why {
            NoAnswer::Silent(_) => no(Step::Asking, format!("Gerrit `{name}` does not answer")),
            NoAnswer::Absent => no(Step::Reading, format!("Gerrit `{name}` knows nothing of {what}")),
            NoAnswer::Refused(_) => {
                no(Step::Reading, format!("Gerrit `{name}` does not let the gate read its {what}"))
            }
            NoAnswer::Odd(_) => no(Step::Reading, format!("Gerrit `{name}` gave no answer that can be read")),
        }
    }
}

impl Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(why) | Self::Odd(why) => f.write_str(why),
            Self::Absent => f.write_str("it answered that there is no such thing"),
            Self::Refused(status) => write!(f, "it refused the gate's own user: {status}"),
        }
    }
}

/// What a server said of the gate's own user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The account's number.
    pub account: u64,
    /// The server's version.
    pub version: String,
    /// Whether it may read others' external ids.
    pub reads_external_ids: bool,
    /// Whether it may see others' further e-mails.
    pub reads_mails: bool,
}

fn escaped(text: &str) -> impl Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

/// A text as a query's value; `None` if it cannot stand in one, or would mean something else there.
fn quoted(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = !text.is_empty() && !text.starts_with('^') && text.len() <= 512;
    let plain = |c: char| !c.is_control() && !matches!(c, '"' | '\\' | '{' | '}');
    (fits && text.chars().all(plain)).then(|| format!("\"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_mean_something_else_in_a_query_is_not_asked() {
        assert_eq!(quoted("ana@x.example"), Some("\"ana@x.example\"".into()));
        for odd in ["", " ", "^.*", "a\" OR is:active", "a\\", "{a}", "a\nb", &"a".repeat(513)] {
            assert_eq!(quoted(odd), None, "{odd}");
        }
        assert_eq!(escaped("ml/vision").to_string(), "ml%2Fvision");
    }
}
