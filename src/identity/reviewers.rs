//! Which groups of a code host a caller belongs to: told by whoever mirrors them, never by a token.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// A group of a Gerrit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GerritGroup {
    /// The server, by its name in the configuration: it holds no `/`.
    pub server: Arc<str>,
    /// The group, by its name or UUID there.
    pub group: Arc<str>,
}

impl fmt::Display for GerritGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group `{}` of Gerrit `{}`", self.group, self.server)
    }
}

impl GerritGroup {
    /// From `SERVER/GROUP`, as records have it.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        let (server, group) = text.split_once('/')?;
        Some(Self { server: server.into(), group: group.into() })
    }
}

/// What is known of a caller's membership in some groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReviewerGroups {
    /// The groups that were asked about; `None` for all that there are.
    about: Option<Arc<[GerritGroup]>>,
    member: Box<[GerritGroup]>,
    unread: Box<[(GerritGroup, Arc<str>)]>,
}

impl ReviewerGroups {
    /// Of the groups `about` the caller belongs to `member`, and those of `unread` could not be read,
    /// each for its reason.
    #[must_use]
    pub fn told(
        about: Arc<[GerritGroup]>,
        member: Vec<GerritGroup>,
        unread: Vec<(GerritGroup, Arc<str>)>,
    ) -> Self {
        Self { about: Some(about), member: member.into(), unread: unread.into() }
    }

    /// The caller belongs to these groups, and to no others that there are: of a caller in words.
    #[must_use]
    pub fn all(member: Vec<GerritGroup>) -> Self {
        Self { about: None, member: member.into(), unread: Box::default() }
    }

    /// Whether the caller belongs to a group; `None` if that was not asked or could not be read.
    #[must_use]
    pub fn holds(&self, group: &GerritGroup) -> Option<bool> {
        let asked = self.about.as_ref().is_none_or(|about| about.contains(group));
        let read = !self.unread.iter().any(|(one, _)| one == group);
        (asked && read).then(|| self.member.contains(group))
    }

    /// The groups that were asked about, unless these were all.
    #[must_use]
    pub fn about(&self) -> Option<&Arc<[GerritGroup]>> {
        self.about.as_ref()
    }

    /// The groups that the caller belongs to.
    #[must_use]
    pub fn member(&self) -> &[GerritGroup] {
        &self.member
    }

    /// The groups that could not be read, and why.
    #[must_use]
    pub fn unread(&self) -> &[(GerritGroup, Arc<str>)] {
        &self.unread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(group: &str) -> GerritGroup {
        GerritGroup { server: "main".into(), group: group.into() }
    }

    #[test]
    fn of_what_was_not_asked_or_not_read_nothing_is_concluded() {
        let about = ["a", "b", "c"].map(group).into();
        let told = ReviewerGroups::told(about, vec![group("a")], vec![(group("c"), "down".into())]);
        assert_eq!(
            ["a", "b", "c", "d"].map(|one| told.holds(&group(one))),
            [Some(true), Some(false), None, None]
        );
        let all = ReviewerGroups::all(vec![group("a")]);
        assert_eq!(["a", "b"].map(|one| all.holds(&group(one))), [Some(true), Some(false)]);
    }

    #[test]
    fn a_group_is_itself_again_after_a_record() {
        let of = |text: &str| GerritGroup::named(text);
        assert_eq!(of("main/ml/risk"), Some(GerritGroup { server: "main".into(), group: "ml/risk".into() }));
        assert_eq!(of("main"), None);
    }
}
