//! A GitHub, asked over its REST API: github.com, or a GitHub Enterprise Server.
//!
//! What decides is asked each time. Lists are read whole or not at all.

mod decide;
mod facts;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Deserialize;

pub use self::facts::Facts;
use self::facts::{Access, Account, Commit, Details, Landed, Name, Pull, Push, Pushes};
use super::{
    accounts::Accounts,
    checks::{Check, CheckState},
    decide::{Step, Unreviewed, no},
    evidence::Evidence,
    rest::{NoAnswer, PAGE, Rest, escaped},
    votes::time,
};
use crate::{policy::Review, time::Timestamp};

/// Pages of commits of a pull request, which GitHub ends at 250, of reviews, and of checks.
const MOST_PAGES: usize = 3;
/// Pages of what happened to a pull request.
const MOST_EVENTS: usize = 10;
/// Pages of what became of a branch.
const MOST_PUSHES: usize = 5;
/// Accounts that are looked at.
const MOST_ACCOUNTS: usize = 32;

/// One of the configured GitHubs.
#[derive(Debug, Clone)]
pub struct GitHub {
    name: Arc<str>,
    rest: Rest,
    accounts: Accounts,
}

impl GitHub {
    /// A GitHub, by its name in the configuration.
    #[must_use]
    pub const fn new(name: Arc<str>, rest: Rest, accounts: Accounts) -> Self {
        Self { name, rest, accounts }
    }

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether a commit was reviewed as an entry demands, by what was found.
    ///
    /// # Errors
    /// [`Unreviewed`]: the first step that fails.
    pub fn decide(
        &self,
        review: &Review,
        sha: &str,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<Evidence, Unreviewed> {
        decide::decide(review, sha, &self.accounts, facts, now)
    }

    /// Everything that a decision about a commit needs.
    ///
    /// # Errors
    /// [`Unreviewed`] if it is not to be had.
    pub async fn facts(&self, review: &Review, sha: &str, now: Timestamp) -> Result<Facts, Unreviewed> {
        let asking = Asking { rest: &self.rest, review, repository: format!("/repos/{}", review.project) };
        let mut facts = Facts { asked: now, ..Facts::default() };
        let (pulls, on_branch) = tokio::join!(asking.pulls(sha), asking.on_branch(sha));
        facts.pulls = pulls?;
        facts.on_branch = on_branch?;
        // What is denied for its pull request alone needs no more questions.
        let Ok(found) = decide::pull(review, sha, &facts.pulls) else { return Ok(facts) };
        facts.details = Some(Box::new(asking.details(sha, found).await?));
        Ok(facts)
    }

    /// Whom the gate is there.
    ///
    /// # Errors
    /// Words on what is wrong, and whether nobody answered.
    pub async fn greet(&self) -> Result<String, (String, bool)> {
        let own: Result<Account, _> = self.rest.get("/user").await;
        match own {
            Ok(own) => Ok(own.login),
            Err(why) => Err((why.to_string(), matches!(why, NoAnswer::Silent(_)))),
        }
    }
}

/// Questions about one review.
struct Asking<'a> {
    rest: &'a Rest,
    review: &'a Review,
    /// The path of the repository.
    repository: String,
}

impl Asking<'_> {
    fn failed(&self, what: &str) -> impl Fn(NoAnswer) -> Unreviewed {
        let (host, what) = (self.review.host.clone(), what.to_owned());
        move |why| why.told(&host, &what)
    }

    fn too_many(&self, what: &str) -> Unreviewed {
        no(Step::Reading, format!("there are more {what} than can be looked through"))
    }

    /// The pull requests that have to do with a commit.
    async fn pulls(&self, sha: &str) -> Result<Vec<Pull>, Unreviewed> {
        let path = format!("{}/commits/{sha}/pulls", self.repository);
        match self.rest.all(&path, 1).await {
            Ok(Some(pulls)) => Ok(pulls),
            Ok(None) => Err(self.too_many("pull requests")),
            // There is no such commit, unless there is no such repository: what follows tells which.
            Err(NoAnswer::Absent) => Ok(Vec::new()),
            Err(why) => Err(self.failed("pull requests")(why)),
        }
    }

    /// Whether the branch holds a commit. The branch is asked for by its own path, because where a revision
    /// may stand a tag of that name would be taken first.
    async fn on_branch(&self, sha: &str) -> Result<bool, Unreviewed> {
        #[derive(Deserialize)]
        struct Branch {
            commit: Name,
        }
        #[derive(Deserialize)]
        struct Comparison {
            status: String,
            merge_base_commit: Name,
        }
        let path = format!("{}/branches/{}", self.repository, escaped(&self.review.branch));
        let tip: Branch = self.rest.get(&path).await.map_err(self.failed("the branch"))?;
        if tip.commit.sha == sha {
            return Ok(true);
        }
        // Further pages do not list what changed.
        let path = format!("{}/compare/{sha}...{}?per_page=1&page=2", self.repository, tip.commit.sha);
        match self.rest.get::<Comparison>(&path).await {
            Ok(found) => Ok(found.status == "ahead" && found.merge_base_commit.sha == sha),
            Err(NoAnswer::Absent) => Ok(false),
            Err(why) => Err(self.failed("the branch")(why)),
        }
    }

    async fn details(&self, sha: &str, found: &Pull) -> Result<Details, Unreviewed> {
        let path = format!("{}/pulls/{}", self.repository, found.number);
        let (of_commits, of_reviews) = (format!("{path}/commits"), format!("{path}/reviews"));
        let of_events = format!("{}/issues/{}/events", self.repository, found.number);
        let (pull, commits, said, happened, pushes, checks) = tokio::join!(
            self.rest.get::<Pull>(&path),
            self.rest.all::<Commit>(&of_commits, MOST_PAGES),
            self.rest.all(&of_reviews, MOST_PAGES),
            self.rest.all(&of_events, MOST_EVENTS),
            self.pushes(found),
            self.checks(&found.head.sha),
        );
        let commits = commits.map_err(self.failed("commits"))?.ok_or_else(|| self.too_many("commits"))?;
        let mut details = Details {
            pull: pull.map_err(self.failed("pull requests"))?,
            commits,
            said: said.map_err(self.failed("reviews"))?.ok_or_else(|| self.too_many("reviews"))?,
            happened: happened.map_err(self.failed("events"))?.ok_or_else(|| self.too_many("events"))?,
            pushes: pushes?,
            landed: None,
            access: BTreeMap::new(),
            teams: BTreeMap::new(),
            checks: checks?,
        };
        if details.pull.head.sha != sha {
            details.landed = Some(self.landed(sha, &details.pull).await?);
        }
        self.people(&mut details).await?;
        Ok(details)
    }

    /// Who moved the branch that was merged.
    async fn pushes(&self, found: &Pull) -> Result<Option<Pushes>, Unreviewed> {
        let Some(repository) = &found.head.repo else { return Ok(None) };
        let Some((owner, name)) = repository.full_name.split_once('/') else { return Ok(None) };
        let path = format!("/repos/{}/{}", escaped(owner), escaped(name));
        match self.moves(&path, &found.head.branch, "", |_| false).await {
            Ok(pushes) => Ok(Some(pushes)),
            // Of a fork that the gate may not see.
            Err(NoAnswer::Absent | NoAnswer::Refused(_)) => Ok(None),
            Err(why) => Err(self.failed("who pushed")(why)),
        }
    }

    /// How a branch was moved, the newest first, until that is found.
    async fn moves(
        &self,
        repository: &str,
        branch: &str,
        more: &str,
        is_it: impl Fn(&Push) -> bool,
    ) -> Result<Pushes, NoAnswer> {
        let reference = format!("refs/heads/{branch}");
        let path = format!("{repository}/activity?ref={}&per_page={PAGE}{more}", escaped(&reference));
        let (mut all, mut next) = (Vec::new(), None::<String>);
        for _ in 0..MOST_PUSHES {
            let after = next.map(|cursor| format!("&after={cursor}")).unwrap_or_default();
            let (of_page, cursor): (Vec<Push>, _) = self.rest.page(&format!("{path}{after}")).await?;
            let found = of_page.iter().any(&is_it);
            all.extend(of_page);
            next = cursor;
            if found || next.is_none() {
                break;
            }
        }
        Ok(Pushes { all, is_whole: next.is_none() })
    }

    /// What came to the branch, and whether GitHub says that it made it.
    async fn landed(&self, sha: &str, pull: &Pull) -> Result<Landed, Unreviewed> {
        let path = |sha: &str| format!("{}/git/commits/{}", self.repository, escaped(sha));
        let (of_branch, of_head) = (path(sha), path(&pull.head.sha));
        let (commit, reviewed) =
            tokio::join!(self.rest.get::<facts::Bare>(&of_branch), self.rest.get::<facts::Bare>(&of_head),);
        let commit = commit.map_err(self.failed("commits"))?;
        let reviewed = reviewed.map_err(self.failed("commits"))?.tree.sha;
        let mut merges = Vec::new();
        for kind in ["pr_merge", "merge_queue_merge"] {
            if commit.tree.sha == reviewed || !merges.is_empty() {
                break;
            }
            let more = format!("&activity_type={kind}");
            let moves = self.moves(&self.repository, &self.review.branch, &more, |push| push.after == sha);
            let moves = moves.await.map_err(self.failed("how the branch came to be"))?;
            merges.extend(moves.all.into_iter().filter(|push| push.after == sha));
        }
        Ok(Landed { commit, reviewed, merges })
    }

    /// What those who spoke may do, and of which teams they are.
    async fn people(&self, details: &mut Details) -> Result<(), Unreviewed> {
        let merged = details.pull.merged_at.as_deref().and_then(time).unwrap_or_default();
        let approving: Vec<Account> =
            decide::approving(details, Timestamp::default(), merged).cloned().collect();
        let mut all: Vec<Account> = decide::objecting(details).cloned().chain(approving.clone()).collect();
        all.sort_by_key(|account| account.id);
        all.dedup_by_key(|account| account.id);
        if all.len() > MOST_ACCOUNTS {
            return Err(no(Step::Reading, "more people took part than can be looked at"));
        }
        for account in &all {
            let login = escaped(&account.login);
            let path = format!("{}/collaborators/{login}/permission", self.repository);
            let access = match self.rest.get::<Access>(&path).await {
                Ok(access) => access,
                // Who is gone may nothing.
                Err(NoAnswer::Absent) => Access { permission: "none".to_owned(), user: None },
                Err(why) => return Err(self.failed("who may write")(why)),
            };
            details.access.insert(account.id, access);
        }
        for by in &self.review.by {
            let mut members = BTreeSet::new();
            for account in &approving {
                if self.is_member(&by.group, &account.login).await? {
                    members.insert(account.id);
                }
            }
            details.teams.insert(Arc::clone(&by.group), members);
        }
        Ok(())
    }

    /// Whether somebody is a member of a team, or of one within it.
    async fn is_member(&self, team: &str, login: &str) -> Result<bool, Unreviewed> {
        #[derive(Deserialize)]
        struct Membership {
            state: String,
        }
        let owner = self.review.project.split('/').next().unwrap_or_default();
        let (organization, team) = team.split_once('/').unwrap_or((owner, team));
        let (organization, team) = (escaped(organization), escaped(team));
        let path = format!("/orgs/{organization}/teams/{team}/memberships/{}", escaped(login));
        match self.rest.get::<Membership>(&path).await {
            Ok(membership) => Ok(membership.state == "active"),
            Err(NoAnswer::Absent) => Ok(false),
            Err(why) => Err(self.failed("teams")(why)),
        }
    }

    /// What ran on a commit: check runs, and what others reported as statuses.
    async fn checks(&self, sha: &str) -> Result<Vec<Check>, Unreviewed> {
        #[derive(Deserialize)]
        struct Runs {
            total_count: usize,
            check_runs: Vec<Run>,
        }
        #[derive(Deserialize)]
        struct Run {
            name: String,
            status: String,
            conclusion: Option<String>,
        }
        #[derive(Deserialize)]
        struct Statuses {
            total_count: usize,
            statuses: Vec<Status>,
        }
        #[derive(Deserialize)]
        struct Status {
            context: String,
            state: String,
        }
        let path = format!("{}/commits/{}", self.repository, escaped(sha));
        let mut checks = Vec::new();
        for page in 1..=MOST_PAGES {
            let path = format!("{path}/check-runs?per_page={PAGE}&page={page}");
            let runs: Runs = self.rest.get(&path).await.map_err(self.failed("checks"))?;
            let is_last = runs.check_runs.len() < PAGE;
            checks.extend(runs.check_runs.into_iter().map(|run| {
                let state = match (run.status.as_str(), run.conclusion.as_deref()) {
                    ("completed", Some("success")) => CheckState::Passed,
                    ("completed", Some("neutral" | "skipped")) => CheckState::Skipped,
                    ("completed", _) => CheckState::Failed,
                    _ => CheckState::Pending,
                };
                Check { name: run.name, state }
            }));
            if is_last && checks.len() >= runs.total_count {
                break;
            }
            if is_last || page == MOST_PAGES {
                return Err(self.too_many("checks"));
            }
        }
        let path = format!("{path}/status?per_page={PAGE}");
        let found: Statuses = self.rest.get(&path).await.map_err(self.failed("statuses"))?;
        if found.statuses.len() < found.total_count {
            return Err(self.too_many("statuses"));
        }
        checks.extend(found.statuses.into_iter().map(|status| {
            let state = match status.state.as_str() {
                "success" => CheckState::Passed,
                "pending" => CheckState::Pending,
                _ => CheckState::Failed,
            };
            Check { name: status.context, state }
        }));
        Ok(checks)
    }
}
