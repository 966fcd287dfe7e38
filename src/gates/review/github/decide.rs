//! Whether a commit was reviewed at GitHub: pure.
//!
//! Exactly one pull request must have been merged into the branch with it, and the branch must still hold
//! it. Either it is the commit that was reviewed, to the letter, or what GitHub made of it when it merged:
//! then it contains the same, or GitHub's own record of the branch says that merging moved it there. What
//! anybody else pushed and GitHub takes for a merge afterwards is neither. Others than those who had a hand
//! in it must have approved that commit before it was merged, with accounts that may write, and nobody who
//! may write asked for changes since. Whatever cannot be read is a no.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    super::{
        accounts::{Accounts, co_authors},
        checks,
        decide::{Step, Unreviewed, no},
        evidence::Evidence,
        facts::is_commit,
        votes::{enough, time},
    },
    facts::{Access, Account, Details, Facts, Landed, Pull, Push, Said},
};
use crate::{
    policy::review::{Contributor, Review},
    time::Timestamp,
};

/// Clocks may differ by this much.
const SKEW: Duration = Duration::from_secs(300);
/// Characters of a URL that are recorded.
const LONGEST_URL: usize = 512;

fn unread(what: &str) -> Unreviewed {
    no(Step::Reading, format!("what GitHub answered does not say {what}"))
}

/// The pull request of a commit, if it is the only one that was merged with it.
///
/// # Errors
/// [`Unreviewed`].
pub(super) fn pull<'p>(review: &Review, sha: &str, pulls: &'p [Pull]) -> Result<&'p Pull, Unreviewed> {
    let is_here = |pull: &&Pull| {
        let name = pull.base.repo.as_ref().map(|repository| repository.full_name.as_str());
        pull.base.branch == *review.branch
            && name.is_some_and(|name| name.eq_ignore_ascii_case(&review.project))
    };
    let of_branch: Vec<_> = pulls.iter().filter(is_here).collect();
    let merged: Vec<_> = of_branch.iter().filter(|pull| pull.merged_at.is_some()).copied().collect();
    let is_of = |pull: &&Pull| pull.head.sha == sha || pull.merge_commit_sha.as_deref() == Some(sha);
    let of_commit: Vec<_> = merged.iter().filter(|pull| is_of(pull)).copied().collect();
    if let [found] = of_commit[..] {
        return Ok(found);
    }
    Err(no(
        Step::Change,
        match (of_commit.first(), merged.first(), of_branch.first()) {
            (Some(_), _, _) => "several merged pull requests have this commit".to_owned(),
            (None, Some(pull), _) => {
                format!("pull request {} was merged with another commit than this one", pull.number)
            }
            (None, None, Some(pull)) => format!("pull request {} is not merged", pull.number),
            (None, None, None) => {
                "no pull request that the gate may see has this commit: it was pushed around review, or is of another branch".to_owned()
            }
        },
    ))
}

/// Whether a commit was reviewed as an entry demands.
///
/// # Errors
/// [`Unreviewed`]: the first step that fails.
pub(super) fn decide(
    review: &Review,
    sha: &str,
    accounts: &Accounts,
    facts: &Facts,
    now: Timestamp,
) -> Result<Evidence, Unreviewed> {
    let listed = pull(review, sha, &facts.pulls)?;
    if !facts.on_branch {
        let why = format!("branch `{}` does not hold the commit, as far as the gate may see", review.branch);
        return Err(no(Step::Branch, why));
    }
    let details = facts.details.as_deref().filter(|details| details.pull.number == listed.number);
    let details = details.ok_or_else(|| unread("enough about the pull request"))?;
    // What was asked later is what counts.
    let found = pull(review, sha, std::slice::from_ref(&details.pull))?;
    let merged = found.merged_at.as_deref().and_then(|text| Some((text, time(text)?)));
    let (submitted, at) = merged.ok_or_else(|| unread("when it was merged"))?;
    let is_whole = u64::try_from(details.commits.len()).ok() == found.commits
        && details.commits.iter().any(|commit| commit.sha == found.head.sha);
    if !is_whole || !is_commit(&found.head.sha) {
        return Err(unread("all commits of the pull request"));
    }
    let how = landed(review, sha, details)?;
    let requirements = checks::met(review, &details.checks)?;
    let hands = hands(review, details, at)?;
    vetoed(details)?;
    let approvers: BTreeSet<u64> = approving(details, aimed(details)?, at)
        .filter(|account| {
            account.is_human()
                && accounts.knows(account.id)
                && details.access.get(&account.id).is_some_and(|access| access.writes(account.id))
                && !hands.has(account, accounts)
        })
        .map(|account| account.id)
        .collect();
    let approvers = enough(review, &approvers, accounts, &details.teams)?;
    if let Some(age) = review.max_age
        && (now.since(at) > age || at > now.plus(SKEW))
    {
        let hours = age.as_secs() / 3_600;
        let why = format!("pull request {} was not merged within the last {hours} h", found.number);
        return Err(no(Step::Age, why));
    }
    Ok(Evidence {
        entry: Arc::clone(&review.entry.name),
        server: Arc::clone(review.host.name()),
        url: found.html_url.chars().take(LONGEST_URL).collect(),
        project: Arc::clone(&review.project),
        branch: Arc::clone(&review.branch),
        sha: sha.to_owned(),
        revision: found.head.sha.clone(),
        number: found.number,
        change_id: format!("{}#{}", review.project, found.number),
        meta_rev_id: None,
        submitted: submitted.to_owned(),
        submit_type: Some(how.to_owned()),
        approvers,
        authors: written_by(details, accounts),
        requirements,
        asked: facts.asked,
    })
}

/// How the commit came to the branch, if it contains what was reviewed.
fn landed(review: &Review, sha: &str, details: &Details) -> Result<&'static str, Unreviewed> {
    let head = &details.pull.head.sha;
    let refuse_merges = |parents: usize| {
        if parents > 1 && !review.merge_commits {
            return Err(no(Step::Change, "the commit is a merge, which the entry does not take"));
        }
        Ok(())
    };
    if sha == head {
        let reviewed = details.commits.iter().find(|commit| commit.sha == *head);
        refuse_merges(reviewed.map_or(usize::MAX, |commit| commit.parents.len()))?;
        return Ok("MERGE");
    }
    let Landed { commit, reviewed, merges } =
        details.landed.as_ref().ok_or_else(|| unread("what came to the branch"))?;
    if commit.sha != sha {
        return Err(unread("what came to the branch"));
    }
    refuse_merges(commit.parents.len())?;
    let merge = match &commit.parents[..] {
        [_] => None,
        [first, second] if second.sha == *head => Some(first),
        _ => return Err(no(Step::Change, "the commit merges something else than what was reviewed")),
    };
    let branch = format!("refs/heads/{}", review.branch);
    let moved = |push: &&Push| {
        push.after == sha
            && push.branch == branch
            && ["pr_merge", "merge_queue_merge"].contains(&push.activity_type.as_str())
            && merge.is_none_or(|first| first.sha == push.before)
    };
    // It contains to the letter what was reviewed, or GitHub made it of that.
    if commit.tree.sha != *reviewed && !merges.iter().any(|push| moved(&push)) {
        let why = "it contains something else than what was reviewed, and GitHub does not say that it made it by merging";
        return Err(no(Step::Change, why));
    }
    Ok(if merge.is_some() { "MERGE" } else { "SQUASH_OR_REBASE" })
}

/// What was said that decides, each one's in order.
fn opinions(details: &Details) -> impl Iterator<Item = (&Account, &Said)> {
    let decides =
        |said: &&Said| ["APPROVED", "CHANGES_REQUESTED", "DISMISSED"].contains(&said.state.as_str());
    details.said.iter().filter(decides).filter_map(|said| Some((said.user.as_ref()?, said)))
}

/// Somebody whose last word asks for changes, whenever they said it.
pub(super) fn objecting(details: &Details) -> impl Iterator<Item = &Account> {
    let last = |of: u64| opinions(details).filter(move |(by, _)| by.id == of).last();
    let objects =
        move |account: &&Account| last(account.id).is_some_and(|(_, said)| said.state == "CHANGES_REQUESTED");
    opinions(details).map(|(by, _)| by).filter(objects)
}

/// Since when it was to be merged where it was: what was approved before was another difference, though of
/// the same commit.
fn aimed(details: &Details) -> Result<Timestamp, Unreviewed> {
    let turns = ["base_ref_changed", "automatic_base_change_succeeded"];
    let turned = details.happened.iter().filter(|one| turns.contains(&one.event.as_str()));
    turned.into_iter().try_fold(Timestamp::default(), |last, one| {
        let at = one.created_at.as_deref().and_then(time);
        at.map(|at| at.max(last)).ok_or_else(|| unread("since when it was to be merged there"))
    })
}

/// Whoever approved what was merged, after one time and before it was, and did not take it back.
pub(super) fn approving(
    details: &Details,
    since: Timestamp,
    merged: Timestamp,
) -> impl Iterator<Item = &Account> {
    let head = details.pull.head.sha.as_str();
    let said: Vec<_> = opinions(details).collect();
    let approves = move |said: &Said| {
        said.state == "APPROVED"
            && said.commit_id.as_deref() == Some(head)
            && said.submitted_at.as_deref().and_then(time).is_some_and(|at| at > since && at <= merged)
    };
    let mut found: Vec<&Account> = Vec::new();
    for (at, (by, one)) in said.iter().enumerate() {
        let later = said.iter().skip(at + 1).filter(|(other, _)| other.id == by.id);
        if approves(one) && later.into_iter().all(|(_, said)| said.state == "APPROVED") {
            found.push(by);
        }
    }
    found.into_iter()
}

fn vetoed(details: &Details) -> Result<(), Unreviewed> {
    // Of whom nothing is known may be somebody who may write.
    let may = |account: &&Account| {
        let access: Option<&Access> = details.access.get(&account.id);
        access.is_none_or(|access| access.writes(account.id))
    };
    if objecting(details).any(|account| may(&account)) {
        return Err(no(Step::Veto, "somebody asked for changes and has not approved since"));
    }
    Ok(())
}

/// Those whose votes do not count.
#[derive(Debug, Default)]
struct Hands {
    accounts: BTreeSet<u64>,
    /// In lower case.
    logins: BTreeSet<String>,
}

impl Hands {
    fn has(&self, account: &Account, accounts: &Accounts) -> bool {
        let human = accounts.human(account.id);
        self.logins.contains(&account.login.to_lowercase())
            || self.accounts.iter().any(|hand| *hand == account.id || accounts.human(*hand) == human)
    }
}

/// Whoever had a hand in it, of those whom the entry leaves out.
fn hands(review: &Review, details: &Details, merged: Timestamp) -> Result<Hands, Unreviewed> {
    let mut hands = Hands::default();
    if review.not_by.has(Contributor::Owner) {
        let owner = details.pull.user.as_ref().ok_or_else(|| unread("whose pull request it is"))?;
        hands.accounts.insert(owner.id);
    }
    if review.not_by.has(Contributor::Uploader) {
        hands.accounts.extend(pushers(details, merged)?);
    }
    let nobodys = |whose: &str| {
        let why = format!("the e-mail of a commit's {whose} is no account's, so that anybody may be them");
        no(Step::Approval, why)
    };
    for commit in &details.commits {
        if review.not_by.has(Contributor::Author) {
            let author = commit.author.as_ref().ok_or_else(|| nobodys("author"))?;
            hands.accounts.insert(author.id);
            co_written(&commit.commit.message, details, &mut hands);
        }
        if review.not_by.has(Contributor::Committer) {
            let committer = commit.committer.as_ref().ok_or_else(|| nobodys("committer"))?;
            let signed = commit.commit.verification.as_ref().is_some_and(|found| found.verified);
            // Whoever had GitHub commit it is its author.
            let hand = match (committer.is_github(), signed) {
                (false, _) => committer,
                (true, true) => commit.author.as_ref().ok_or_else(|| nobodys("author"))?,
                (true, false) => {
                    let why = "a commit says that GitHub made it, which did not sign it";
                    return Err(no(Step::Approval, why));
                }
            };
            hands.accounts.insert(hand.id);
        }
    }
    Ok(hands)
}

/// Takes in those whom a message says to have written along, by GitHub's own addresses or those of other
/// commits of the pull request.
fn co_written(message: &str, details: &Details, hands: &mut Hands) {
    for mail in co_authors(message) {
        if let Some(name) = mail.strip_suffix("@users.noreply.github.com") {
            let (id, login) = name.split_once('+').unwrap_or(("", name));
            hands.accounts.extend(id.parse::<u64>().ok());
            hands.logins.insert(login.to_owned());
        }
        for commit in &details.commits {
            let its = commit.commit.author.as_ref().and_then(|author| author.email.as_deref());
            if its.is_some_and(|its| its.trim().to_lowercase() == mail) {
                hands.accounts.extend(commit.author.as_ref().map(|author| author.id));
            }
        }
    }
}

/// Whoever moved the branch of the pull request to what it was when it was merged: since it was made of
/// commits that are the target's, as far back as a forced push may have left something.
fn pushers(details: &Details, merged: Timestamp) -> Result<BTreeSet<u64>, Unreviewed> {
    let unknown = || unread("who pushed it");
    let pushes = details.pushes.as_ref().ok_or_else(unknown)?;
    let branch = format!("refs/heads/{}", details.pull.head.branch);
    let of_pull: BTreeSet<&str> = details.commits.iter().map(|commit| commit.sha.as_str()).collect();
    let mut before = Vec::new();
    for push in pushes.all.iter().filter(|push| push.branch == branch) {
        let at = time(&push.timestamp).ok_or_else(unknown)?;
        if at <= merged {
            before.push(push);
        }
    }
    let last = before.iter().position(|push| push.after == details.pull.head.sha).ok_or_else(unknown)?;
    let (mut pushers, mut forced) = (BTreeSet::new(), false);
    for push in before.into_iter().skip(last) {
        let (from, to) = (of_pull.contains(push.before.as_str()), of_pull.contains(push.after.as_str()));
        if push.activity_type == "branch_deletion" {
            // What was there before has nothing to do with it.
            if !from {
                return Ok(pushers);
            }
            continue;
        }
        pushers.extend(push.actor.as_ref().map(|actor| actor.id));
        let is_first = match push.activity_type.as_str() {
            "branch_creation" => !to,
            "push" | "pr_merge" | "merge_queue_merge" => !forced && !from,
            _ => {
                forced = true;
                false
            }
        };
        if is_first {
            return Ok(pushers);
        }
    }
    if pushes.is_whole { Ok(pushers) } else { Err(unread("who pushed all of it")) }
}

/// The persons who wrote the commits; `None` if one of them is not known as a person.
fn written_by(details: &Details, accounts: &Accounts) -> Option<BTreeSet<String>> {
    let authors = details.commits.iter().map(|commit| Some(commit.author.as_ref()?.id));
    accounts.persons(&authors.collect::<Option<BTreeSet<_>>>()?)
}
