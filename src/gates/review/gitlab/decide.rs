//! Whether a commit was reviewed at GitLab: pure.
//!
//! Exactly one merge request must have been merged into the branch with it, and the branch must still hold
//! it. Either it is the commit that was reviewed, to the letter, or what came to the branch differs from it
//! in nothing: GitLab takes for merged also what somebody pushed, so that who made it is not known. Others
//! than those who had a hand in it must have approved since that commit was pushed and before it was merged,
//! with accounts of humans that may write, and nobody asked for changes. Whatever cannot be read is a no.

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
    facts::{Details, Facts, Merge},
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
    no(Step::Reading, format!("what GitLab answered does not say {what}"))
}

/// The merge request of a commit, if it is the only one that was merged with it.
///
/// # Errors
/// [`Unreviewed`].
pub(super) fn request<'m>(
    review: &Review,
    project: u64,
    sha: &str,
    requests: &'m [Merge],
) -> Result<&'m Merge, Unreviewed> {
    let is_here = |one: &&Merge| one.project_id == project && one.target_branch == *review.branch;
    let of_branch: Vec<_> = requests.iter().filter(is_here).collect();
    let merged: Vec<_> = of_branch.iter().filter(|one| one.state == "merged").copied().collect();
    let is_of = |one: &&Merge| {
        [&one.sha, &one.merge_commit_sha, &one.squash_commit_sha]
            .iter()
            .any(|its| its.as_deref() == Some(sha))
    };
    let of_commit: Vec<_> = merged.iter().filter(|one| is_of(one)).copied().collect();
    if let [found] = of_commit[..] {
        return Ok(found);
    }
    Err(no(
        Step::Change,
        match (of_commit.first(), merged.first(), of_branch.first()) {
            (Some(_), _, _) => "several merged merge requests have this commit".to_owned(),
            (None, Some(one), _) => {
                format!("merge request {} was merged with another commit than this one", one.iid)
            }
            (None, None, Some(one)) => format!("merge request {} is not merged", one.iid),
            (None, None, None) => {
                "no merge request that the gate may see has this commit: it was pushed around review, or is of another branch".to_owned()
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
    let listed = request(review, facts.project, sha, &facts.requests)?;
    if !facts.on_branch {
        let why = format!("branch `{}` does not hold the commit, as far as the gate may see", review.branch);
        return Err(no(Step::Branch, why));
    }
    let details = facts.details.as_deref().filter(|details| details.request.iid == listed.iid);
    let details = details.ok_or_else(|| unread("enough about the merge request"))?;
    // What was asked later is what counts.
    let found = request(review, facts.project, sha, std::slice::from_ref(&details.request))?;
    let merged = found.merged_at.as_deref().and_then(|text| Some((text, time(text)?)));
    let (submitted, at) = merged.ok_or_else(|| unread("when it was merged"))?;
    let head = found.sha.as_deref().filter(|head| is_commit(head));
    let head = head.ok_or_else(|| unread("what was merged"))?;
    if !details.commits.iter().any(|commit| commit.sha == head) {
        return Err(unread("the commits of the merge request"));
    }
    let how = landed(review, sha, head, details)?;
    let requirements = checks::met(review, &details.checks)?;
    if !details.approvals.approved {
        let why = "not all approvals that the project itself demands are there";
        return Err(no(Step::Requirements, why));
    }
    let hands = hands(review, head, details, at)?;
    let objects = |reviewer: &&super::facts::Reviewer| reviewer.state == "requested_changes";
    // Of whom nothing is known may be somebody who may write.
    let may = |id: u64| details.people.get(&id).is_none_or(|person| person.writes);
    if details.reviewers.iter().filter(objects).any(|reviewer| may(reviewer.user.id)) {
        return Err(no(Step::Veto, "somebody asked for changes and has not approved since"));
    }
    let pushed = pushed(head, details)?;
    let mut approvers = BTreeSet::new();
    for approval in &details.approvals.approved_by {
        let id = approval.user.id;
        let when = approval.approved_at.as_deref().and_then(time);
        let when = when.ok_or_else(|| unread("when it was approved"))?;
        // Which commit was approved is not said; what was not there yet cannot be it.
        let is_of_it = when > pushed && when <= at;
        let counts = details.people.get(&id).is_some_and(|person| person.is_human && person.writes);
        let human = accounts.human(id);
        let had_a_hand = hands.iter().any(|hand| *hand == id || accounts.human(*hand) == human);
        if is_of_it && counts && accounts.knows(id) && !had_a_hand {
            approvers.insert(id);
        }
    }
    let approvers = enough(review, &approvers, accounts, &details.groups)?;
    if let Some(age) = review.max_age
        && (now.since(at) > age || at > now.plus(SKEW))
    {
        let hours = age.as_secs() / 3_600;
        let why = format!("merge request {} was not merged within the last {hours} h", found.iid);
        return Err(no(Step::Age, why));
    }
    let authors = details.commits.iter().map(|commit| commit.author);
    Ok(Evidence {
        entry: Arc::clone(&review.entry.name),
        server: Arc::clone(review.host.name()),
        url: found.web_url.chars().take(LONGEST_URL).collect(),
        project: Arc::clone(&review.project),
        branch: Arc::clone(&review.branch),
        sha: sha.to_owned(),
        revision: head.to_owned(),
        number: found.iid,
        change_id: format!("{}!{}", review.project, found.iid),
        meta_rev_id: None,
        submitted: submitted.to_owned(),
        submit_type: Some(how.to_owned()),
        approvers,
        authors: authors.collect::<Option<BTreeSet<_>>>().and_then(|all| accounts.persons(&all)),
        requirements,
        asked: facts.asked,
    })
}

/// How the commit came to the branch, if it contains what was reviewed.
fn landed(review: &Review, sha: &str, head: &str, details: &Details) -> Result<&'static str, Unreviewed> {
    let landed = details.landed.as_ref().filter(|landed| landed.commit.id == sha);
    let landed = landed.ok_or_else(|| unread("what came to the branch"))?;
    if landed.commit.parent_ids.len() > 1 && !review.merge_commits {
        return Err(no(Step::Change, "the commit is a merge, which the entry does not take"));
    }
    if sha == head {
        return Ok("MERGE");
    }
    if !landed.is_the_same {
        let why = "it contains something else than what was reviewed, and GitLab does not say who made it";
        return Err(no(Step::Change, why));
    }
    Ok(if landed.commit.parent_ids.len() > 1 { "MERGE" } else { "SQUASH_OR_REBASE" })
}

/// Since when the commit that was merged was what there was to review.
fn pushed(head: &str, details: &Details) -> Result<Timestamp, Unreviewed> {
    let last = details.versions.first().filter(|version| version.head_commit_sha == head);
    last.and_then(|version| time(&version.created_at)).ok_or_else(|| unread("when it was pushed"))
}

/// Whoever had a hand in it, of those whom the entry leaves out.
fn hands(
    review: &Review,
    head: &str,
    details: &Details,
    merged: Timestamp,
) -> Result<BTreeSet<u64>, Unreviewed> {
    let mut hands = BTreeSet::new();
    if review.not_by.has(Contributor::Owner) {
        hands.insert(details.request.author.id);
    }
    if review.not_by.has(Contributor::Uploader) {
        hands.extend(pushers(head, details, merged)?);
    }
    let nobodys = |whose: &str| {
        let why = format!("the e-mail of a commit's {whose} is no account's, so that anybody may be them");
        no(Step::Approval, why)
    };
    let by_mail = |mail: &str| {
        details.commits.iter().filter(|commit| commit.author_mail == mail).find_map(|commit| commit.author)
    };
    for commit in &details.commits {
        if review.not_by.has(Contributor::Author) {
            hands.insert(commit.author.ok_or_else(|| nobodys("author"))?);
            for mail in co_authors(&commit.message) {
                let own = mail.split_once("@users.noreply.").and_then(|(name, _)| name.split_once('-'));
                hands.extend(own.and_then(|(id, _)| id.parse::<u64>().ok()));
                hands.extend(by_mail(&mail));
            }
        }
        if review.not_by.has(Contributor::Committer) {
            hands.insert(by_mail(&commit.committer_mail).ok_or_else(|| nobodys("committer"))?);
        }
    }
    if review.not_by.has(Contributor::Committer) {
        hands.extend(&details.committers);
    }
    Ok(hands)
}

/// Whoever pushed to the branch of the merge request, back to where it was made of commits that are the
/// target's. Whether a push was forced is not said, so that each may have left something of those before.
fn pushers(head: &str, details: &Details, merged: Timestamp) -> Result<BTreeSet<u64>, Unreviewed> {
    let unknown = || unread("who pushed it");
    let pushes = details.pushes.as_ref().ok_or_else(unknown)?;
    let is_of_request =
        |sha: &Option<String>| details.commits.iter().any(|commit| Some(&commit.sha) == sha.as_ref());
    let mut of_branch = Vec::new();
    for event in &pushes.all {
        let Some(pushed) = &event.push_data else { continue };
        let is_it =
            pushed.ref_type == "branch" && pushed.name.as_deref() == Some(&details.request.source_branch);
        if is_it && time(&event.created_at).ok_or_else(unknown)? <= merged {
            of_branch.push((event.author_id, pushed));
        }
    }
    let is_last = |(_, pushed): &(u64, &super::facts::Pushed)| pushed.commit_to.as_deref() == Some(head);
    let last = of_branch.iter().position(is_last).ok_or_else(unknown)?;
    let mut pushers = BTreeSet::new();
    for (author, pushed) in of_branch.into_iter().skip(last) {
        if pushed.action == "removed" {
            // What was there before has nothing to do with it.
            if !is_of_request(&pushed.commit_from) {
                return Ok(pushers);
            }
            continue;
        }
        pushers.insert(author);
        if pushed.action == "created" && !is_of_request(&pushed.commit_to) {
            return Ok(pushers);
        }
    }
    if pushes.is_whole { Ok(pushers) } else { Err(unread("who pushed all of it")) }
}
