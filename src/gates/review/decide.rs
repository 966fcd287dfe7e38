//! Whether a commit was reviewed: pure.
//!
//! Exactly one change must have it as its last patch set and be merged into the branch, the branch must
//! still hold it, and what Gerrit demanded when it was merged must have been met. Besides, and whatever
//! Gerrit's own rules let through, other humans than those who wrote it must have voted for it, before it
//! was merged, and nobody against it. Whatever cannot be read is a no.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    evidence::{Approver, Evidence},
    facts::{Change, Commit, Facts, Merge, Vote, time},
    people::{Account, Humans, People, folded},
};
use crate::{
    gates::approvals::people::seated,
    http::legible,
    policy::review::{Contributor, Requirements, Review},
    time::Timestamp,
};

/// Clocks may differ by this much.
const SKEW: Duration = Duration::from_secs(300);
/// So many reviewers of a group can be demanded.
const MOST_SEATS: usize = 64;

/// What stands in the path of a change's URL as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

pub(super) fn escaped_path(project: &str) -> impl std::fmt::Display {
    utf8_percent_encode(project, PLAIN)
}

/// Why a commit does not count as reviewed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unreviewed {
    /// Where it failed.
    pub step: Step,
    /// In words, which name nobody.
    pub why: String,
}

/// What is looked at, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Which commit it is about.
    Commit,
    /// Nobody answered: another time somebody may.
    Asking,
    /// Who answered said nothing that can be relied on.
    Reading,
    /// The merged change.
    Change,
    /// That the branch holds it.
    Branch,
    /// What Gerrit demanded.
    Requirements,
    /// Votes against it.
    Veto,
    /// Who approved.
    Approval,
    /// How long ago it was merged.
    Age,
    /// The statement of the model.
    Statement,
}

impl Step {
    /// What whoever calls can do about it.
    #[must_use]
    pub const fn cure(self) -> &'static str {
        match self {
            Self::Commit => "send it, or the job that made it, from the CI job that built the commit",
            Self::Asking => "try again",
            Self::Reading => "tell whoever runs the gate",
            Self::Change => "have the commit reviewed and merged, and send it again",
            Self::Branch => "use a commit that the branch holds",
            Self::Requirements | Self::Veto | Self::Approval => {
                "have the code reviewed by people who did not write it, and merged, and use what was merged"
            }
            Self::Age => "use a commit that was merged more recently",
            Self::Statement => {
                "register the model again, from its job and through this gate, and deploy that"
            }
        }
    }
}

pub(super) fn no(step: Step, why: impl Into<String>) -> Unreviewed {
    Unreviewed { step, why: why.into() }
}

fn unread(what: &str) -> Unreviewed {
    no(Step::Reading, format!("what Gerrit answered does not say {what}"))
}

/// What must be asked about accounts and e-mails before one can decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Accounts, by their numbers.
    pub accounts: BTreeSet<u64>,
    /// E-mails, in lower case.
    pub mails: BTreeSet<String>,
}

impl Wanted {
    /// Of a change whose review is looked at.
    pub fn add(&mut self, review: &Review, change: &Change) {
        // Of what cannot be read there is nothing to ask.
        for hand in hands(review, change).unwrap_or_default() {
            match hand {
                Hand::Account(account) => drop(self.accounts.insert(account.id)),
                Hand::Mail(mail) => drop(self.mails.insert(folded(mail))),
            }
        }
        for (name, least) in &review.labels {
            let votes = change.labels.get(&**name).into_iter().flat_map(|label| &label.all);
            self.accounts.extend(votes.filter(|vote| approves(vote, *least)).map(|vote| vote.by.id));
        }
    }
}

/// Somebody who had a hand in a change.
enum Hand<'c> {
    /// By their account.
    Account(&'c Account),
    /// By what a commit says.
    Mail(&'c str),
}

/// The current patch set's name and commit.
fn current(change: &Change) -> Result<(&str, &Commit), Unreviewed> {
    let sha = change.current_revision.as_deref().unwrap_or_default();
    let revision = change.revisions.get(sha).ok_or_else(|| unread("who uploaded the patch set"))?;
    Ok((sha, revision.commit.as_ref().ok_or_else(|| unread("who wrote the commit"))?))
}

/// All whose votes an entry does not count: of the current patch set, and of those before it that brought
/// code.
fn hands<'c>(review: &Review, change: &'c Change) -> Result<Vec<Hand<'c>>, Unreviewed> {
    let (sha, _) = current(change)?;
    let by_gerrit = change.revisions.get(sha).is_some_and(|current| change.is_made_at_submit(current));
    let mut hands = Vec::new();
    if review.not_by.has(Contributor::Owner) {
        hands.push(Hand::Account(&change.owner));
    }
    for (name, revision) in change.revisions.iter() {
        let is_current = name == sha;
        if !is_current && revision.is_trivial() {
            continue;
        }
        let commit = revision.commit.as_ref().ok_or_else(|| unread("who wrote the commit"))?;
        for (contributor, hand) in [
            (Contributor::Uploader, Hand::Account(&revision.uploader)),
            (Contributor::Author, Hand::Mail(&commit.author.email)),
            (Contributor::Committer, Hand::Mail(&commit.committer.email)),
        ] {
            let is_gerrits = is_current && by_gerrit && contributor != Contributor::Author;
            if review.not_by.has(contributor) && !is_gerrits {
                hands.push(hand);
            }
        }
    }
    Ok(hands)
}

/// The change of a commit, if it is the only one that was merged with it as its last patch set.
///
/// # Errors
/// [`Unreviewed`].
pub fn change<'c>(review: &Review, sha: &str, changes: &'c [Change]) -> Result<&'c Change, Unreviewed> {
    if changes.iter().any(|change| change.more) {
        return Err(no(Step::Change, "there are more changes with this commit than can be looked through"));
    }
    let of_branch: Vec<_> = changes
        .iter()
        .filter(|change| change.project == *review.project && change.branch == *review.branch)
        .collect();
    let merged: Vec<_> = of_branch.iter().filter(|change| change.status == "MERGED").collect();
    let [found] = merged[..] else {
        return Err(no(
            Step::Change,
            match (merged.is_empty(), of_branch.first()) {
                (false, _) => "several merged changes have this commit".to_owned(),
                (true, Some(change)) if change.is_private => "its change is not merged".to_owned(),
                (true, Some(change)) => format!("change {} is not merged", change.number),
                (true, None) => {
                    "no change that the gate may see has this commit: it was pushed around review, is of another branch, or was merged so lately that not every Gerrit knows it".to_owned()
                }
            },
        ));
    };
    if found.is_private {
        return Err(no(Step::Change, "its change is private"));
    }
    if found.current_revision.as_deref() != Some(sha) {
        let why = format!("change {} was merged with another patch set than this commit", found.number);
        return Err(no(Step::Change, why));
    }
    Ok(found)
}

/// Whether a commit was reviewed as an entry demands.
///
/// # Errors
/// [`Unreviewed`]: the first step that fails.
pub fn decide(
    review: &Review,
    sha: &str,
    people: &People,
    facts: &Facts,
    now: Timestamp,
) -> Result<Evidence, Unreviewed> {
    let (found, together) = match facts.merge.as_ref().filter(|_| review.merge_commits) {
        None => (change(review, sha, &facts.changes)?, Vec::new()),
        Some(merge) => merged(review, merge, &facts.changes)?,
    };
    if !facts.on_branch {
        let why = format!("branch `{}` does not hold the commit, as far as the gate may see", review.branch);
        return Err(no(Step::Branch, why));
    }
    let mut evidence = reviewed(review, sha, found, people, facts, now)?;
    for other in together {
        let other = reviewed(review, sha, other, people, facts, now)?;
        evidence.authors = evidence.authors.zip(other.authors).map(|(these, those)| &these | &those);
    }
    Ok(evidence)
}

/// The change that a commit of Gerrit's own merges, and all that it merges along with it.
fn merged<'c>(
    review: &Review,
    merge: &'c Merge,
    changes: &'c [Change],
) -> Result<(&'c Change, Vec<&'c Change>), Unreviewed> {
    let [_, merges] = &merge.parents[..] else {
        return Err(no(Step::Change, "the commit is no patch set, and merges none alone"));
    };
    if !merge.committed_by.is_empty() {
        return Err(no(Step::Change, "somebody merged by hand, where only Gerrit may"));
    }
    let found = change(review, merges, changes)?;
    let unknown = || no(Step::Change, "not all that was merged together with it is known");
    if merge.together.iter().any(|other| other.more) {
        return Err(unknown());
    }
    let here = |other: &&Change| other.project == found.project && other.branch == found.branch;
    let together: Vec<_> = merge.together.iter().filter(here).collect();
    let is_whole = together.iter().all(|other| other.status == "MERGED" && !other.is_private)
        && together.iter().any(|other| other.number == found.number);
    if is_whole { Ok((found, together)) } else { Err(unknown()) }
}

fn reviewed(
    review: &Review,
    sha: &str,
    change: &Change,
    people: &People,
    facts: &Facts,
    now: Timestamp,
) -> Result<Evidence, Unreviewed> {
    let submitted = change.submitted.as_deref().and_then(|text| Some((text, time(text)?)));
    let (submitted, at) = submitted.ok_or_else(|| unread("when it was merged"))?;
    if !review.merge_commits && current(change)?.1.parents.len() > 1 {
        return Err(no(Step::Change, "the commit is a merge, which the entry does not take"));
    }
    requirements(review, change)?;
    let votes = Votes::of(review, change, people, facts)?;
    let approvers = votes.independent(review, facts)?;
    if let Some(age) = review.max_age
        && (now.since(at) > age || at > now.plus(SKEW))
    {
        let why =
            format!("change {} was not merged within the last {} h", change.number, age.as_secs() / 3_600);
        return Err(no(Step::Age, why));
    }
    Ok(Evidence {
        entry: Arc::clone(&review.entry.name),
        server: Arc::clone(&facts.server),
        url: format!("{}/c/{}/+/{}", facts.web, escaped_path(&change.project), change.number),
        project: Arc::clone(&review.project),
        branch: Arc::clone(&review.branch),
        sha: sha.to_owned(),
        revision: change.current_revision.clone().unwrap_or_default(),
        number: change.number,
        change_id: change.change_id.clone(),
        meta_rev_id: change.meta_rev_id.clone(),
        submitted: submitted.to_owned(),
        submit_type: change.submit_type.clone(),
        approvers,
        authors: votes.written_by(change, facts),
        requirements: change.submit_requirements.iter().map(|r| (r.name.clone(), r.status.clone())).collect(),
        asked: facts.asked,
    })
}

fn requirements(review: &Review, change: &Change) -> Result<(), Unreviewed> {
    let refused = |why: String| Err(no(Step::Requirements, why));
    let all = &change.submit_requirements;
    if all.is_empty() {
        return refused("no submit requirement stood in the way of merging it".to_owned());
    }
    let met = |status: &str| match status {
        "SATISFIED" => true,
        "OVERRIDDEN" => review.accept.overridden,
        "NOT_APPLICABLE" => review.accept.not_applicable,
        "FORCED" => review.accept.forced,
        _ => false,
    };
    let unmet = |name: &str, status: &str| {
        let known = ["UNSATISFIED", "OVERRIDDEN", "NOT_APPLICABLE", "FORCED", "ERROR", "TIMEOUT"];
        let status = known.into_iter().find(|known| *known == status).unwrap_or("something else");
        refused(format!(
            "submit requirement `{}` was {status}, which the entry does not accept",
            legible(name)
        ))
    };
    match &review.requirements {
        Requirements::All => {
            // A server as it comes has one that applies to hardly any change: others must then be met.
            if let Some(one) = all.iter().find(|one| one.status != "NOT_APPLICABLE" && !met(&one.status)) {
                return unmet(&one.name, &one.status);
            }
            if all.iter().all(|one| one.status == "NOT_APPLICABLE") {
                return refused("no submit requirement applied to it".to_owned());
            }
        }
        Requirements::Named(names) => {
            for name in names {
                let mut named = all.iter().filter(|one| one.name == **name).peekable();
                if named.peek().is_none() {
                    return refused(format!("there was no submit requirement `{name}`"));
                }
                if let Some(one) = named.find(|one| !met(&one.status)) {
                    return unmet(name, &one.status);
                }
            }
        }
    }
    Ok(())
}

/// Whether a vote is one of those that may count; nothing below 1 ever is.
fn approves(vote: &Vote, least: i16) -> bool {
    !vote.post_submit && vote.value.is_some_and(|value| value >= i64::from(least.max(1)))
}

/// The votes that count, of those who are not among the authors.
struct Votes<'f> {
    humans: Humans<'f>,
    people: &'f People,
    /// By label, in the order of the demands: whose, each account once.
    by_label: Vec<Vec<&'f Account>>,
}

impl<'f> Votes<'f> {
    fn of(
        review: &Review,
        change: &Change,
        people: &'f People,
        facts: &'f Facts,
    ) -> Result<Self, Unreviewed> {
        let mut humans = Humans::among(people);
        for account in facts.accounts.values() {
            humans.add(account);
        }
        for (mail, accounts) in &facts.by_mail {
            for account in accounts {
                humans.has(*account, mail);
            }
        }
        // What stands beside votes is of the same accounts.
        let votes = change.labels.values().flat_map(|label| &label.all);
        for vote in votes {
            humans.add(&vote.by);
        }
        let authors = authors(review, change, facts, &mut humans)?;
        let mut by_label = Vec::new();
        for (name, least) in &review.labels {
            let label = change.labels.get(&**name);
            let label =
                label.ok_or_else(|| no(Step::Approval, format!("the change has no label `{name}`")))?;
            let floor = label.floor().ok_or_else(|| unread("what can be voted"))?;
            // Whoever it is, and whenever: a no is a no.
            if label.all.iter().filter_map(|vote| vote.value).any(|value| value < 0 && value <= floor) {
                return Err(no(Step::Veto, format!("somebody vetoed it by `{name}`")));
            }
            let counts = |vote: &&Vote| {
                let known = facts.accounts.get(&vote.by.id);
                approves(vote, *least)
                    && vote.by.is_used()
                    && known.is_some_and(|known| known.is_used() && people.knows(known))
                    && humans.of(vote.by.id).is_some_and(|human| !authors.contains(&human))
            };
            let counting = label.all.iter().filter(counts);
            let counting: Vec<_> = counting.filter_map(|vote| facts.accounts.get(&vote.by.id)).collect();
            if counting.is_empty() {
                let least = least.max(&1);
                let why = format!(
                    "nobody whose vote counts gave `{name}` {least} before change {} was merged",
                    change.number
                );
                return Err(no(Step::Approval, why));
            }
            by_label.push(counting);
        }
        Ok(Self { humans, people, by_label })
    }

    /// The persons who wrote the commit, by its author's e-mail; `None` if nobody is known by it.
    fn written_by(&self, change: &Change, facts: &Facts) -> Option<BTreeSet<String>> {
        let (_, commit) = current(change).ok()?;
        let human = self.humans.of_mail(&commit.author.email)?;
        let theirs = facts.accounts.values().filter(|account| self.humans.of(account.id) == Some(human));
        let persons: BTreeSet<_> = theirs.filter_map(|account| self.people.person(account)).collect();
        (!persons.is_empty()).then_some(persons)
    }

    /// Whoever approved, if all groups that must have did.
    fn independent(&self, review: &Review, facts: &Facts) -> Result<Vec<Approver>, Unreviewed> {
        let mut approvers: Vec<&Account> = self.by_label.iter().flatten().copied().collect();
        approvers.sort_by_key(|account| account.id);
        approvers.dedup_by_key(|account| account.id);
        if approvers.is_empty() {
            return Err(no(Step::Approval, "the entry demands no label"));
        }
        let mut meets: Vec<(usize, Vec<usize>)> = Vec::new();
        for account in &approvers {
            let Some(human) = self.humans.of(account.id) else { continue };
            let at = match meets.iter().position(|(one, _)| *one == human) {
                Some(at) => at,
                None => {
                    meets.push((human, Vec::new()));
                    meets.len() - 1
                }
            };
            for (number, by) in review.by.iter().enumerate() {
                let members = facts.groups.get(&by.group).ok_or_else(|| unread("who is in a group"))?;
                if let Some((_, can)) = meets.get_mut(at).filter(|_| members.contains(&account.id)) {
                    can.push(number);
                }
            }
        }
        let places: Vec<usize> = review
            .by
            .iter()
            .enumerate()
            .flat_map(|(at, by)| {
                std::iter::repeat_n(at, usize::try_from(by.count).unwrap_or(usize::MAX).min(MOST_SEATS))
            })
            .collect();
        let can: Vec<_> = meets.iter().map(|(_, can)| can.as_slice()).collect();
        let seats = seated(&places, &can);
        if let Some((place, _)) = places.iter().zip(&seats).find(|(_, by)| by.is_none()) {
            let group = review.by.get(*place).map(|by| &*by.group).unwrap_or_default();
            let why = format!("not enough members of Gerrit's group `{group}` approved it");
            return Err(no(Step::Approval, why));
        }
        let of = |account: &&Account| Approver { account: account.id, person: self.people.person(account) };
        Ok(approvers.iter().map(of).collect())
    }
}

/// The humans whose votes do not count.
fn authors(
    review: &Review,
    change: &Change,
    facts: &Facts,
    humans: &mut Humans<'_>,
) -> Result<BTreeSet<usize>, Unreviewed> {
    let (mut accounts, mut mails) = (BTreeSet::new(), BTreeSet::new());
    for hand in hands(review, change)? {
        match hand {
            Hand::Account(account) => {
                humans.add(account);
                accounts.insert(account.id);
            }
            Hand::Mail(mail) => {
                let mail = folded(mail);
                let having = facts.by_mail.get(&mail);
                accounts.extend(having.ok_or_else(|| unread("whose e-mails those of the commit are"))?);
                mails.insert(mail);
            }
        }
    }
    // What is not known of them could tie them to somebody.
    if accounts.iter().any(|account| !facts.accounts.contains_key(account)) {
        return Err(unread("who had a hand in it"));
    }
    let of_accounts = accounts.iter().filter_map(|account| humans.of(*account));
    let of_mails = mails.iter().filter_map(|mail| humans.of_mail(mail));
    Ok(of_accounts.chain(of_mails).collect())
}
