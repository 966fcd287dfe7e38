//! The code hosts behind one face: asked, and judged by what they said.

use std::{fmt, sync::Arc};

use super::{
    decide::{Step, Unreviewed, decide, no},
    evidence::Evidence,
    facts,
    gerrit::Gerrit,
    github::{self, GitHub},
    gitlab::{self, GitLab},
};
use crate::{
    policy::{Review, review::CodeHost},
    time::Timestamp,
};

/// Code hosts besides Gerrits, in no order.
#[derive(Debug, Default)]
pub struct Others {
    /// GitHubs.
    pub githubs: Vec<GitHub>,
    /// GitLabs.
    pub gitlabs: Vec<GitLab>,
}

/// Whom a review is asked of.
#[derive(Clone, Copy)]
pub(super) enum Host<'s> {
    Gerrit(&'s Gerrit),
    GitHub(&'s GitHub),
    GitLab(&'s GitLab),
}

/// What one of them said.
pub(super) enum Found {
    Gerrit(Box<facts::Facts>),
    GitHub(Box<github::Facts>),
    GitLab(Box<gitlab::Facts>),
}

impl fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gerrit(host) => host.fmt(f),
            Self::GitHub(host) => host.fmt(f),
            Self::GitLab(host) => host.fmt(f),
        }
    }
}

impl Others {
    /// Whom the gate is at the first of them; for doctors.
    ///
    /// # Errors
    /// Words on what is wrong, and whether nobody answered.
    pub async fn greet(&self) -> Result<String, (String, bool)> {
        match (self.githubs.first(), self.gitlabs.first()) {
            (Some(host), _) => host.greet().await,
            (None, Some(host)) => host.greet().await,
            (None, None) => Err(("there is nobody to ask".to_owned(), false)),
        }
    }

    /// The one that a review names.
    fn named(&self, host: &CodeHost) -> Option<Host<'_>> {
        let is_it = |name: &Arc<str>| name == host.name();
        match host {
            CodeHost::Gerrit(_) => None,
            CodeHost::GitHub(_) => self.githubs.iter().find(|one| is_it(one.name())).map(Host::GitHub),
            CodeHost::GitLab(_) => self.gitlabs.iter().find(|one| is_it(one.name())).map(Host::GitLab),
        }
    }
}

impl<'s> Host<'s> {
    /// Whom a review is asked of.
    ///
    /// # Errors
    /// [`Unreviewed`] if it is nobody whom the gate knows.
    pub(super) fn of(
        review: &Review,
        gerrits: &'s super::Servers,
        others: &'s Others,
    ) -> Result<Self, Unreviewed> {
        let found = match &review.host {
            CodeHost::Gerrit(name) => gerrits.get(name).map(Self::Gerrit),
            CodeHost::GitHub(_) | CodeHost::GitLab(_) => others.named(&review.host),
        };
        found.ok_or_else(|| no(Step::Reading, format!("this gate has no {} to ask", review.host)))
    }

    /// Everything that a decision about a commit needs.
    ///
    /// # Errors
    /// [`Unreviewed`] if it is not to be had.
    pub(super) async fn facts(self, review: &Review, sha: &str, now: Timestamp) -> Result<Found, Unreviewed> {
        Ok(match self {
            Self::Gerrit(host) => Found::Gerrit(Box::new(host.facts(review, sha, now).await?)),
            Self::GitHub(host) => Found::GitHub(Box::new(Box::pin(host.facts(review, sha, now)).await?)),
            Self::GitLab(host) => Found::GitLab(Box::new(Box::pin(host.facts(review, sha, now)).await?)),
        })
    }

    /// Whether a commit was reviewed as an entry demands, by what was found.
    ///
    /// # Errors
    /// [`Unreviewed`]: the first step that fails.
    pub(super) fn decide(
        self,
        review: &Review,
        sha: &str,
        found: &Found,
        now: Timestamp,
    ) -> Result<Evidence, Unreviewed> {
        match (self, found) {
            (Self::Gerrit(host), Found::Gerrit(facts)) => decide(review, sha, host.people(), facts, now),
            (Self::GitHub(host), Found::GitHub(facts)) => host.decide(review, sha, facts, now),
            (Self::GitLab(host), Found::GitLab(facts)) => host.decide(review, sha, facts, now),
            // Another host has its name meanwhile.
            (Self::Gerrit(_), Found::GitHub(_) | Found::GitLab(_))
            | (Self::GitHub(_), Found::Gerrit(_) | Found::GitLab(_))
            | (Self::GitLab(_), Found::Gerrit(_) | Found::GitHub(_)) => {
                Err(no(Step::Asking, format!("{} is another one than a moment ago", review.host)))
            }
        }
    }
}
