//! A GitLab, asked over its REST API, and over GraphQL for whose the e-mails of commits are, which REST does
//! not say.
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
use serde_json::json;

pub use self::facts::Facts;
use self::facts::{Account, Bare, Commit, Details, Event, Landed, Merge, Person, Pushes, Version};
use super::{
    accounts::Accounts,
    checks::{Check, CheckState},
    decide::{Step, Unreviewed, no},
    evidence::Evidence,
    facts::is_commit,
    rest::{NoAnswer, PAGE, Rest, escaped},
};
use crate::{policy::Review, time::Timestamp};

/// Pages of what a merge request has of one kind.
const MOST_PAGES: usize = 3;
/// Pages of what was pushed to a project.
const MOST_PUSHES: usize = 5;
/// Accounts that are looked at.
const MOST_ACCOUNTS: usize = 32;
/// The least access with which one may push: Developer.
const WRITES: u64 = 30;

/// Whose the e-mails of a merge request's commits are.
const COMMITS: &str = "query($project: ID!, $number: String!) { project(fullPath: $project) { mergeRequest(iid: $number) { \
     commits(first: 100) { pageInfo { hasNextPage } nodes { sha authorEmail committerEmail message author { id } } } \
     committers(first: 100) { pageInfo { hasNextPage } nodes { id } } } } }";

/// One of the configured GitLabs.
#[derive(Debug, Clone)]
pub struct GitLab {
    name: Arc<str>,
    rest: Rest,
    accounts: Accounts,
}

impl GitLab {
    /// A GitLab, by its name in the configuration.
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
        #[derive(Deserialize)]
        struct Project {
            id: u64,
            path_with_namespace: String,
        }
        let project = format!("/api/v4/projects/{}", escaped(&review.project));
        let asking = Asking { rest: &self.rest, review, project };
        let (project, requests, on_branch) = tokio::join!(
            self.rest.get::<Project>(&asking.project),
            asking.requests(sha),
            asking.on_branch(sha)
        );
        let project = project.map_err(asking.failed("the project"))?;
        if !project.path_with_namespace.eq_ignore_ascii_case(&review.project) {
            return Err(no(Step::Reading, "GitLab answered about another project"));
        }
        let mut facts = Facts {
            project: project.id,
            requests: requests?,
            on_branch: on_branch?,
            details: None,
            asked: now,
        };
        // What is denied for its merge request alone needs no more questions.
        let Ok(found) = decide::request(review, facts.project, sha, &facts.requests) else {
            return Ok(facts);
        };
        facts.details = Some(Box::new(asking.details(sha, found).await?));
        Ok(facts)
    }

    /// Whom the gate is there.
    ///
    /// # Errors
    /// Words on what is wrong, and whether nobody answered.
    pub async fn greet(&self) -> Result<String, (String, bool)> {
        #[derive(Deserialize)]
        struct Own {
            username: String,
        }
        match self.rest.get::<Own>("/api/v4/user").await {
            Ok(own) => Ok(own.username),
            Err(why) => Err((why.to_string(), matches!(why, NoAnswer::Silent(_)))),
        }
    }
}

/// Questions about one review.
struct Asking<'a> {
    rest: &'a Rest,
    review: &'a Review,
    /// The path of the project.
    project: String,
}

impl Asking<'_> {
    fn failed(&self, what: &str) -> impl Fn(NoAnswer) -> Unreviewed {
        let (host, what) = (self.review.host.clone(), what.to_owned());
        move |why| why.told(&host, &what)
    }

    fn too_many(&self, what: &str) -> Unreviewed {
        no(Step::Reading, format!("there are more {what} than can be looked through"))
    }

    /// The merge requests that have to do with a commit.
    async fn requests(&self, sha: &str) -> Result<Vec<Merge>, Unreviewed> {
        let path = format!("{}/repository/commits/{sha}/merge_requests", self.project);
        match self.rest.all(&path, 1).await {
            Ok(Some(requests)) => Ok(requests),
            Ok(None) => Err(self.too_many("merge requests")),
            Err(NoAnswer::Absent) => Ok(Vec::new()),
            Err(why) => Err(self.failed("merge requests")(why)),
        }
    }

    /// Whether the branch holds a commit: asked by the branch's own path, because a tag may have its name.
    async fn on_branch(&self, sha: &str) -> Result<bool, Unreviewed> {
        #[derive(Deserialize)]
        struct Branch {
            commit: Named,
        }
        #[derive(Deserialize)]
        struct Named {
            id: String,
        }
        let path = format!("{}/repository/branches/{}", self.project, escaped(&self.review.branch));
        let tip: Branch = self.rest.get(&path).await.map_err(self.failed("the branch"))?;
        if tip.commit.id == sha || !is_commit(&tip.commit.id) {
            return Ok(tip.commit.id == sha);
        }
        let (project, tip) = (&self.project, &tip.commit.id);
        let path = format!("{project}/repository/merge_base?refs%5B%5D={sha}&refs%5B%5D={tip}");
        match self.rest.get::<Named>(&path).await {
            Ok(base) => Ok(base.id == sha),
            Err(NoAnswer::Absent) => Ok(false),
            Err(why) => Err(self.failed("the branch")(why)),
        }
    }

    async fn details(&self, sha: &str, found: &Merge) -> Result<Details, Unreviewed> {
        let path = format!("{}/merge_requests/{}", self.project, found.iid);
        let head = found.sha.as_deref().filter(|head| is_commit(head));
        let head =
            head.ok_or_else(|| no(Step::Reading, "what GitLab answered does not say what was merged"))?;
        let (of_approvals, of_reviewers) = (format!("{path}/approvals"), format!("{path}/reviewers"));
        let of_versions = format!("{path}/versions");
        let (request, approvals, reviewers, versions, commits, pushes, checks, landed) = tokio::join!(
            self.rest.get::<Merge>(&path),
            self.rest.get(&of_approvals),
            self.rest.all(&of_reviewers, MOST_PAGES),
            self.rest.all::<Version>(&of_versions, MOST_PAGES),
            self.commits(found.iid),
            self.pushes(found),
            self.checks(head),
            self.landed(sha, head),
        );
        let (commits, committers) = commits?;
        let mut details = Details {
            request: request.map_err(self.failed("merge requests"))?,
            commits,
            committers,
            approvals: approvals.map_err(self.failed("approvals"))?,
            reviewers: reviewers
                .map_err(self.failed("reviewers"))?
                .ok_or_else(|| self.too_many("reviewers"))?,
            versions: versions.map_err(self.failed("versions"))?.ok_or_else(|| self.too_many("versions"))?,
            pushes: pushes?,
            landed: Some(landed?),
            people: BTreeMap::new(),
            groups: BTreeMap::new(),
            checks: checks?,
        };
        self.people(&mut details).await?;
        Ok(details)
    }

    /// The commits of a merge request, and the accounts that have their committers' e-mails.
    async fn commits(&self, number: u64) -> Result<(Vec<Commit>, BTreeSet<u64>), Unreviewed> {
        #[derive(Deserialize)]
        struct Answer {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            project: Option<Project>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Project {
            merge_request: Option<Request>,
        }
        #[derive(Deserialize)]
        struct Request {
            commits: Page<Node>,
            committers: Page<User>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page<T> {
            page_info: PageInfo,
            nodes: Vec<T>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct PageInfo {
            has_next_page: bool,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Node {
            sha: String,
            author_email: String,
            committer_email: String,
            message: String,
            author: Option<User>,
        }
        #[derive(Deserialize)]
        struct User {
            id: String,
        }
        // `gid://gitlab/User/12`; other kinds of users have other names before their numbers.
        let number_of = |user: &User| user.id.rsplit_once('/').and_then(|(_, id)| id.parse::<u64>().ok());
        let odd = || no(Step::Reading, "what GitLab answered does not say who wrote the commits");
        let variables = json!({"project": &*self.review.project, "number": number.to_string()});
        let question = json!({"query": COMMITS, "variables": variables});
        let answer: Answer =
            self.rest.post("/api/graphql", &question).await.map_err(self.failed("who wrote the commits"))?;
        let request = answer.data.project.and_then(|project| project.merge_request).ok_or_else(odd)?;
        if request.commits.page_info.has_next_page || request.committers.page_info.has_next_page {
            return Err(self.too_many("commits"));
        }
        let mut commits = Vec::new();
        for node in request.commits.nodes {
            let author = match &node.author {
                Some(author) => Some(number_of(author).ok_or_else(odd)?),
                None => None,
            };
            let folded = |mail: &str| mail.trim().to_lowercase();
            let (author_mail, committer_mail) = (folded(&node.author_email), folded(&node.committer_email));
            let (sha, message) = (node.sha, node.message);
            commits.push(Commit { sha, author_mail, committer_mail, message, author });
        }
        let committers = request.committers.nodes.iter().map(|user| number_of(user).ok_or_else(odd));
        Ok((commits, committers.collect::<Result<_, _>>()?))
    }

    /// Who pushed to the project of the branch that was merged.
    async fn pushes(&self, found: &Merge) -> Result<Option<Pushes>, Unreviewed> {
        let Some(project) = found.source_project_id else { return Ok(None) };
        let path = format!("/api/v4/projects/{project}/events?action=pushed&sort=desc");
        let mut all: Vec<Event> = Vec::new();
        for page in 1..=MOST_PUSHES {
            let path = format!("{path}&per_page={PAGE}&page={page}");
            let of_page: Vec<Event> = match self.rest.get(&path).await {
                Ok(of_page) => of_page,
                // Of a fork that the gate may not see.
                Err(NoAnswer::Absent | NoAnswer::Refused(_)) => return Ok(None),
                Err(why) => return Err(self.failed("who pushed")(why)),
            };
            let is_last = of_page.len() < PAGE;
            all.extend(of_page);
            if is_last {
                return Ok(Some(Pushes { all, is_whole: true }));
            }
        }
        Ok(Some(Pushes { all, is_whole: false }))
    }

    /// What came to the branch, and whether it is what was reviewed.
    async fn landed(&self, sha: &str, head: &str) -> Result<Landed, Unreviewed> {
        #[derive(Deserialize)]
        struct Comparison {
            diffs: Vec<serde::de::IgnoredAny>,
            compare_timeout: bool,
        }
        let path = format!("{}/repository/commits/{sha}", self.project);
        let commit: Bare = self.rest.get(&path).await.map_err(self.failed("commits"))?;
        if sha == head {
            return Ok(Landed { commit, is_the_same: true });
        }
        let path = format!("{}/repository/compare?from={head}&to={sha}&straight=true", self.project);
        let compared: Comparison = self.rest.get(&path).await.map_err(self.failed("commits"))?;
        Ok(Landed { commit, is_the_same: compared.diffs.is_empty() && !compared.compare_timeout })
    }

    /// Who those are who spoke, what they may do, and of which groups they are.
    async fn people(&self, details: &mut Details) -> Result<(), Unreviewed> {
        #[derive(Deserialize)]
        struct User {
            id: u64,
            state: String,
            bot: bool,
        }
        #[derive(Deserialize)]
        struct Member {
            id: u64,
            state: String,
            access_level: u64,
        }
        let approved = details.approvals.approved_by.iter().map(|approval| approval.user);
        let objects = details.reviewers.iter().filter(|one| one.state == "requested_changes");
        let all: BTreeSet<u64> =
            approved.chain(objects.map(|one| one.user)).map(|account: Account| account.id).collect();
        if all.len() > MOST_ACCOUNTS {
            return Err(no(Step::Reading, "more people took part than can be looked at"));
        }
        for id in &all {
            let user = match self.rest.get::<User>(&format!("/api/v4/users/{id}")).await {
                Ok(user) => Some(user),
                Err(NoAnswer::Absent) => None,
                Err(why) => return Err(self.failed("users")(why)),
            };
            let path = format!("{}/members/all/{id}", self.project);
            let member = self.member::<Member>(&path, "who may write").await?;
            let is_human = user.is_some_and(|user| user.id == *id && user.state == "active" && !user.bot);
            let writes = member.is_some_and(|member| {
                member.id == *id && member.state == "active" && member.access_level >= WRITES
            });
            details.people.insert(*id, Person { is_human, writes });
        }
        for by in &self.review.by {
            let mut members = BTreeSet::new();
            for id in &all {
                let path = format!("/api/v4/groups/{}/members/all/{id}", escaped(&by.group));
                let member = self.member::<Member>(&path, "groups").await?;
                members.extend(member.filter(|one| one.id == *id && one.state == "active").map(|one| one.id));
            }
            details.groups.insert(Arc::clone(&by.group), members);
        }
        Ok(())
    }

    async fn member<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        what: &str,
    ) -> Result<Option<T>, Unreviewed> {
        match self.rest.get(path).await {
            Ok(member) => Ok(Some(member)),
            Err(NoAnswer::Absent) => Ok(None),
            Err(why) => Err(self.failed(what)(why)),
        }
    }

    /// What ran on a commit: jobs of pipelines, and what others reported.
    async fn checks(&self, sha: &str) -> Result<Vec<Check>, Unreviewed> {
        #[derive(Deserialize)]
        struct Status {
            name: String,
            status: String,
            #[serde(default)]
            allow_failure: bool,
        }
        let path = format!("{}/repository/commits/{sha}/statuses", self.project);
        let found: Option<Vec<Status>> =
            self.rest.all(&path, MOST_PAGES).await.map_err(self.failed("checks"))?;
        let found = found.ok_or_else(|| self.too_many("checks"))?;
        let check = |one: Status| {
            let state = match one.status.as_str() {
                "success" => CheckState::Passed,
                "skipped" | "manual" => CheckState::Skipped,
                // The project lets it.
                "failed" if one.allow_failure => CheckState::Skipped,
                "failed" | "canceled" => CheckState::Failed,
                _ => CheckState::Pending,
            };
            Check { name: one.name, state }
        };
        Ok(found.into_iter().map(check).collect())
    }
}
