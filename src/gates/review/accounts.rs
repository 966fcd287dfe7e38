//! Which person an account of GitHub's or GitLab's is: as the configuration says, by the account's number.
//!
//! Names of accounts can be given up and taken by others; their numbers cannot. Where the configuration
//! names accounts, nobody else's vote counts. Where it names none, each account is somebody of their own.

use std::collections::{BTreeMap, BTreeSet};

/// The accounts of a code host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    persons: BTreeMap<u64, String>,
}

/// A human, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Human<'a> {
    /// Somebody who is known at the issuer by which people are told apart.
    Person(&'a str),
    /// Whoever has that account.
    Account(u64),
}

impl Accounts {
    /// Accounts by their numbers, each with the person who has it: `issuer:tenant/object-id`.
    #[must_use]
    pub const fn new(persons: BTreeMap<u64, String>) -> Self {
        Self { persons }
    }

    /// Whether an account's vote may count.
    pub(super) fn knows(&self, account: u64) -> bool {
        self.persons.is_empty() || self.persons.contains_key(&account)
    }

    /// Who an account is, if it is said.
    pub(super) fn person(&self, account: u64) -> Option<&str> {
        self.persons.get(&account).map(String::as_str)
    }

    /// Whose it is.
    pub(super) fn human(&self, account: u64) -> Human<'_> {
        self.person(account).map_or(Human::Account(account), Human::Person)
    }

    /// The persons of some accounts; `None` if one is not known.
    pub(super) fn persons(&self, accounts: &BTreeSet<u64>) -> Option<BTreeSet<String>> {
        let persons = accounts.iter().map(|account| self.person(*account).map(str::to_owned));
        persons.collect::<Option<BTreeSet<_>>>().filter(|persons| !persons.is_empty())
    }
}

/// The e-mails of those who are said to have written a commit together with its author, in lower case.
pub(super) fn co_authors(message: &str) -> impl Iterator<Item = String> {
    message.lines().filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        if !key.trim().eq_ignore_ascii_case("co-authored-by") {
            return None;
        }
        let (_, mail) = value.rsplit_once('<')?;
        let (mail, _) = mail.split_once('>')?;
        Some(mail.trim().to_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_the_person_whom_the_configuration_says_and_nobody_else_counts_then() {
        let open = Accounts::default();
        assert!(open.knows(7) && open.person(7).is_none());
        assert_eq!(open.human(7), Human::Account(7));
        assert_eq!(open.persons(&[7].into()), None);
        let person = |name: &str| format!("corp:t/{name}");
        let named = Accounts::new([(7, person("ana")), (8, person("ana")), (9, person("bo"))].into());
        assert!(named.knows(7) && !named.knows(1));
        assert_eq!(named.human(7), named.human(8));
        assert_ne!(named.human(7), named.human(9));
        assert_eq!(named.persons(&[7, 9].into()), Some([person("ana"), person("bo")].into()));
        assert_eq!(named.persons(&[7, 1].into()), None);
        assert_eq!(named.persons(&BTreeSet::new()), None, "nobody wrote it: that is not known");
    }

    #[test]
    fn co_authors_are_read_from_the_message() {
        let message = "Train\n\nCo-authored-by: Bo <Bo@x.example>\nco-authored-by:Eve<e@x>\nSigned-off-by: A <a@x>\nCo-authored-by: nobody\n";
        assert_eq!(co_authors(message).collect::<Vec<_>>(), ["bo@x.example", "e@x"]);
    }
}
