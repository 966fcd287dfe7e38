//! What allow entries let through, while a judgement is made.

use super::super::{EntryRef, SecretTreatment, entry::Entry};
use crate::azureml::SecretClass;

/// Classes that every role brings, because jobs cannot be submitted without them.
pub(super) const BROUGHT_BY_ROLES: [SecretClass; 3] =
    [SecretClass::UploadSas, SecretClass::DownloadSas, SecretClass::RunToken];

/// What allow entries let through.
pub(super) struct Granted {
    /// For each act, by its number: the entry that allows it.
    pub(super) allowed: Vec<Option<EntryRef>>,
    pub(super) secrets: SecretsGranted,
}

impl Granted {
    pub(super) fn new(acts: usize) -> Self {
        Self { allowed: vec![None; acts], secrets: SecretsGranted::new(acts) }
    }
}

/// What allow entries grant of secrets, act by act.
pub(super) struct SecretsGranted {
    /// For each act and class, by its number: the best treatment named for it.
    named: Vec<Vec<(SecretClass, SecretTreatment)>>,
    /// Whether some act is allowed by a role.
    by_role: bool,
}

impl SecretsGranted {
    fn new(acts: usize) -> Self {
        Self { named: vec![Vec::new(); acts], by_role: false }
    }

    pub(super) fn add(&mut self, entry: &Entry, act: usize, matches: bool, reaches: impl FnOnce() -> bool) {
        self.by_role |= matches && (entry.role.is_some() || entry.rights.is_some());
        if entry.secrets.is_none() || !reaches() {
            return;
        }
        let Some(named) = self.named.get_mut(act) else { return };
        named.extend(SecretClass::ALL.iter().filter_map(|class| Some((*class, entry.names(*class)?))));
    }

    /// Whether no treatment of a class is named for an act.
    pub(super) fn lacks(&self, class: SecretClass, act: usize) -> bool {
        self.named.get(act).is_some_and(|named| !named.iter().any(|(known, _)| *known == class))
    }

    /// A class is treated as every act allows: revealed only if each of them has an entry that says
    /// so, because the request does not tell which of them the answer comes from.
    pub(super) fn treatment(&self, class: SecretClass) -> Option<SecretTreatment> {
        if self.by_role && BROUGHT_BY_ROLES.contains(&class) {
            return Some(SecretTreatment::Reveal);
        }
        let best = self.named.iter().map(|named| {
            let mut of_class = named.iter().filter(|(c, _)| *c == class).map(|(_, how)| *how).peekable();
            of_class.peek()?;
            let revealed = of_class.any(|how| how == SecretTreatment::Reveal);
            Some(if revealed { SecretTreatment::Reveal } else { SecretTreatment::Substitute })
        });
        best.reduce(|one, other| match (one?, other?) {
            (SecretTreatment::Reveal, SecretTreatment::Reveal) => Some(SecretTreatment::Reveal),
            (SecretTreatment::Substitute, _) | (_, SecretTreatment::Substitute) => {
                Some(SecretTreatment::Substitute)
            }
        })
        .flatten()
    }
}
