//! `review` of an entry: from which reviewed and merged change the code must come.
//!
//! It is a demand of `require`. The judge says which reviews a request needs
//! ([`Obligation::Review`](super::Obligation)); whether there is one is a fact of a code host, and the
//! gates ask for it. Nothing of a host is known here, so that a decision stays a pure function.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    EntryRef, PolicySet,
    entry::{Context, Entry},
};

/// What an entry demands of the code behind a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// The entry that demands it.
    pub entry: EntryRef,
    /// Where the change was reviewed.
    pub host: CodeHost,
    /// The project, by the host's own name of it.
    pub project: Arc<str>,
    /// The branch that it was merged to, without `refs/heads/`.
    pub branch: Arc<str>,
    /// At Gerrit: labels, each with the least vote that counts; at least one. Elsewhere none.
    pub labels: Box<[(Arc<str>, i16)]>,
    /// Elsewhere: how many people must have approved, at least 1.
    pub approvals: u32,
    /// Of which groups the reviewers must be, all of which must be met; empty if anybody may.
    pub by: Box<[Reviewers]>,
    /// Whose votes never count; at least one.
    pub not_by: Authors,
    /// Which commit it is about.
    pub commit: CommitFrom,
    /// Which submit requirements must be satisfied.
    pub requirements: Requirements,
    /// What counts as satisfied besides what is.
    pub accept: Accepted,
    /// How long ago it may have been merged.
    pub max_age: Option<Duration>,
    /// Whether the commit may be a merge.
    pub merge_commits: bool,
    /// Whether a model that begins to serve must have a statement of where it came from.
    pub statement: bool,
    /// What becomes of the request while the host does not answer.
    pub on_unreachable: Unreachable,
    /// How long a request waits until its code is reviewed and merged; zero if it is refused at once.
    pub hold: Duration,
}

/// A code host, by its name in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeHost {
    /// A Gerrit server of `gerrit`.
    Gerrit(Arc<str>),
    /// GitHub.
    GitHub(Arc<str>),
    /// GitLab.
    GitLab(Arc<str>),
}

impl CodeHost {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Gerrit(name) | Self::GitHub(name) | Self::GitLab(name) => name,
        }
    }

    /// Which it is.
    #[must_use]
    pub const fn kind(&self) -> HostKind {
        match self {
            Self::Gerrit(_) => HostKind::Gerrit,
            Self::GitHub(_) => HostKind::GitHub,
            Self::GitLab(_) => HostKind::GitLab,
        }
    }
}

/// The code hosts that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKind {
    /// Gerrit.
    Gerrit,
    /// GitHub, or a GitHub Enterprise Server.
    GitHub,
    /// GitLab.
    GitLab,
}

impl HostKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Gerrit, Self::GitHub, Self::GitLab];

    /// As people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gerrit => "Gerrit",
            Self::GitHub => "GitHub",
            Self::GitLab => "GitLab",
        }
    }

    /// By which key a review names one, and the configuration lists them.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Gerrit => "gerrit",
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
        }
    }

    /// By which key a demand of `by` names people there.
    #[must_use]
    pub const fn group_key(self) -> &'static str {
        match self {
            Self::Gerrit => "gerrit_group",
            Self::GitHub => "github_team",
            Self::GitLab => "gitlab_group",
        }
    }

    /// The one of a name in the configuration.
    #[must_use]
    pub fn named(self, name: &str) -> CodeHost {
        match self {
            Self::Gerrit => CodeHost::Gerrit(name.into()),
            Self::GitHub => CodeHost::GitHub(name.into()),
            Self::GitLab => CodeHost::GitLab(name.into()),
        }
    }

    /// What is reviewed there.
    const fn change(self) -> &'static str {
        match self {
            Self::Gerrit => "change",
            Self::GitHub => "pull request",
            Self::GitLab => "merge request",
        }
    }
}

impl fmt::Display for CodeHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind().name(), self.name())
    }
}

/// So many people of a group of the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewers {
    /// The group.
    pub group: Arc<str>,
    /// How many different people of it, at least 1.
    pub count: u32,
}

/// Who had a hand in a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contributor {
    /// Whose change it is.
    Owner,
    /// Who uploaded the revision.
    Uploader,
    /// Who wrote the commit.
    Author,
    /// Who committed it.
    Committer,
}

impl Contributor {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Uploader, Self::Author, Self::Committer];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Uploader => "uploader",
            Self::Author => "author",
            Self::Committer => "committer",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Owner => 1,
            Self::Uploader => 2,
            Self::Author => 4,
            Self::Committer => 8,
        }
    }
}

/// A set of [`Contributor`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authors(u8);

impl Authors {
    /// All of them.
    pub const ALL: Self = Self(15);

    /// Whether one is among them.
    #[must_use]
    pub const fn has(self, one: Contributor) -> bool {
        self.0 & one.bit() != 0
    }

    /// Those that are, in the order in which they are told.
    pub fn iter(self) -> impl Iterator<Item = Contributor> {
        Contributor::ALL.into_iter().filter(move |one| self.has(*one))
    }
}

impl FromIterator<Contributor> for Authors {
    fn from_iter<I: IntoIterator<Item = Contributor>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |set, one| set | one.bit()))
    }
}

/// Which commit a review must be of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitFrom {
    /// The one that this claim of the caller's token names.
    Claim(Arc<str>),
    /// The one from which the job was submitted that the request is about, or that made the model.
    Job,
}

/// Which submit requirements of a change must be satisfied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirements {
    /// Every one that applied to the change, and one must have been met.
    All,
    /// Those of these names.
    Named(Box<[Arc<str>]>),
}

/// What counts as a satisfied submit requirement besides one that is; nothing unless it is named. One
/// that did not apply stops nobody where all are asked for and others were met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    /// Somebody overrode it.
    pub overridden: bool,
    /// It did not apply to the change.
    pub not_applicable: bool,
    /// It was passed by at submission.
    pub forced: bool,
}

/// What becomes of a request while the host does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// It is refused.
    Refuse,
    /// It waits, and is refused in the end.
    Hold,
}

impl Review {
    /// What is demanded, in words: `a change merged to ...`.
    #[must_use]
    pub fn words(&self) -> String {
        let labels = self.labels.iter().map(|(label, least)| format!("{label} {least}"));
        let contributors = listed(self.not_by.iter().map(Contributor::name), " or ");
        let groups = listed(self.by.iter().map(|by| format!("{} of `{}`", by.count, by.group)), " and ");
        let by = match (self.labels.is_empty(), self.by.is_empty()) {
            (false, true) => format!("by somebody who is not its {contributors}"),
            (false, false) => format!("by {groups}, none of them its {contributors}"),
            (true, true) => format!("not its {contributors}"),
            (true, false) => format!("not its {contributors}, with {groups} among them"),
        };
        let recent = self.max_age.map(|age| format!(", at most {} ago", length(age))).unwrap_or_default();
        let (change, branch, project) = (self.host.kind().change(), &self.branch, &self.project);
        let how = if self.labels.is_empty() {
            format!("approved by {} {by}", self.people())
        } else {
            format!("reviewed with {} {by}", listed(labels, " and "))
        };
        format!("a {change} merged to `{branch}` of `{project}` at {}{recent}, {how}", self.host)
    }

    fn people(&self) -> String {
        if self.approvals == 1 { "1 person".to_owned() } else { format!("{} people", self.approvals) }
    }

    /// The demand in words, with its entry.
    #[must_use]
    pub fn demand(&self) -> String {
        format!("entry `{}` demands {}", self.entry.name, self.words())
    }

    /// Whether another demands the same under the same name, wherever the two stand.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        self.entry.name == other.entry.name && *self == Self { entry: self.entry.clone(), ..other.clone() }
    }

    /// Everything that it demands, each thing by itself.
    pub(super) fn expanded(&self) -> Vec<String> {
        let mut words = vec![
            self.host.to_string(),
            format!("project `{}`", self.project),
            format!("branch `{}`", self.branch),
        ];
        words.extend(self.labels.iter().map(|(label, least)| format!("{label} {least} or more")));
        words.extend(self.labels.is_empty().then(|| format!("approved by {}", self.people())));
        words.extend(self.by.iter().map(|by| format!("by {} of `{}`", by.count, by.group)));
        words.extend(self.not_by.iter().map(|one| format!("not by its {}", one.name())));
        words.push(match &self.commit {
            CommitFrom::Claim(claim) => format!("of the commit in the caller's claim `{claim}`"),
            CommitFrom::Job => "of the commit that the job was submitted from".to_owned(),
        });
        let what = match self.host {
            CodeHost::Gerrit(_) => "submit requirement",
            CodeHost::GitHub(_) | CodeHost::GitLab(_) => "check",
        };
        match &self.requirements {
            Requirements::All => words.push(format!("every {what}")),
            Requirements::Named(names) => {
                words.extend(names.iter().map(|name| format!("{what} `{name}`")));
            }
        }
        let Accepted { overridden, not_applicable, forced } = self.accept;
        words.extend(overridden.then(|| "accepts overridden ones".to_owned()));
        words.extend(not_applicable.then(|| "accepts ones that do not apply".to_owned()));
        words.extend(forced.then(|| "accepts forced ones".to_owned()));
        words.extend(self.max_age.map(|age| format!("merged at most {} ago", length(age))));
        words.extend(self.merge_commits.then(|| "merge commits, too".to_owned()));
        words.extend(self.statement.then(|| "what is deployed has a statement".to_owned()));
        words.push(match self.on_unreachable {
            Unreachable::Refuse => "refuses while the host does not answer".to_owned(),
            Unreachable::Hold => "holds while the host does not answer".to_owned(),
        });
        words.extend((!self.hold.is_zero()).then(|| format!("waits {} for it", length(self.hold))));
        words
    }
}

/// `a, b or c`.
fn listed(all: impl Iterator<Item = impl Into<String>>, last: &str) -> String {
    let mut all: Vec<String> = all.map(Into::into).collect();
    match all.pop() {
        None => String::new(),
        Some(end) if all.is_empty() => end,
        Some(end) => format!("{}{last}{end}", all.join(", ")),
    }
}

/// A time in the greatest unit that divides it.
fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

impl Entry {
    /// The review that a request needs which this entry matches.
    pub(super) fn review_wanted(&self, context: &Context<'_>) -> Option<&Arc<Review>> {
        // What people ask of each other and answer comes from no commit.
        self.review.as_ref().filter(|_| !context.asks_people())
    }
}

impl PolicySet {
    /// The reviews that entries demand, in the order of the files.
    pub fn reviews(&self) -> impl Iterator<Item = &Arc<Review>> {
        self.entries.iter().filter_map(|entry| entry.review.as_ref())
    }

    /// Whether some entry asks from which commit a job was submitted: then every job's is kept.
    #[must_use]
    pub fn follows_jobs(&self) -> bool {
        self.reviews().any(|review| review.commit == CommitFrom::Job)
    }
}
