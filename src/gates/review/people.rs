//! Which human an account of Gerrit's is: pure.
//!
//! Two accounts are one human if anything ties them: an e-mail, an external id, or the person whom
//! `people.links` sees behind different ones. Whoever is tied to somebody who wrote the code is them;
//! whoever is tied to another reviewer is counted with them. So knowing more never lets more through.

use std::{collections::BTreeSet, sync::Arc};

use serde::Deserialize;

/// What marks an account as nobody's.
const BOT: &str = "SERVICE_USER";

/// `AccountInfo`, and what else is known of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// Its number.
    #[serde(rename = "_account_id")]
    pub id: u64,
    /// The e-mail that it prefers.
    pub email: Option<String>,
    /// Its other e-mails, where the gate's user may see them.
    #[serde(default)]
    pub secondary_emails: Vec<String>,
    /// Whether it was closed.
    #[serde(default)]
    pub inactive: bool,
    /// Whether it was deleted.
    #[serde(default)]
    pub deleted: bool,
    /// `SERVICE_USER`.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Its external ids, where the gate's user may see them.
    #[serde(skip)]
    pub externals: Vec<External>,
}

/// `AccountExternalIdInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct External {
    /// `azure-oauth:5b1f...`.
    pub identity: String,
    /// Whether Gerrit believes whoever vouches for it.
    #[serde(default)]
    pub trusted: bool,
}

impl Account {
    /// Whether a human uses it now.
    #[must_use]
    pub fn is_used(&self) -> bool {
        !self.inactive && !self.deleted && !self.tags.iter().any(|tag| tag == BOT)
    }

    /// Its e-mails, in the form that comparing needs.
    pub fn mails(&self) -> impl Iterator<Item = String> {
        self.email.iter().chain(&self.secondary_emails).map(|mail| folded(mail)).filter(|m| !m.is_empty())
    }
}

/// An e-mail in the one form that comparing needs.
#[must_use]
pub fn folded(mail: &str) -> String {
    mail.trim().to_lowercase()
}

/// How the accounts of a Gerrit are known to be people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct People {
    /// What an account must have for its vote to count.
    pub demand: Demand,
    /// The schemes of external ids that say who somebody is at another issuer.
    pub links: Box<[Linked]>,
    /// The issuer by which people are told apart, whose word on their e-mails counts.
    pub mails_of: Option<Arc<str>>,
}

/// What an account must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// An external id of this scheme, or of one that is linked.
    External(Arc<str>),
    /// An e-mail.
    Mail,
}

/// What follows the scheme is the Entra object id of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// The scheme.
    pub scheme: Arc<str>,
    /// The name of the Entra issuer.
    pub issuer: Arc<str>,
    /// Its tenant.
    pub tenant: Box<str>,
}

impl People {
    /// Whether an account is known to be somebody's, as far as is demanded.
    #[must_use]
    pub fn knows(&self, account: &Account) -> bool {
        match &self.demand {
            Demand::Mail => account.mails().next().is_some(),
            Demand::External(scheme) => account.externals.iter().filter(|one| one.trusted).any(|one| {
                let (of, id) = one.identity.split_once(':').unwrap_or_default();
                let linked = self.links.iter().any(|link| *link.scheme == *of);
                if linked { self.behind(one).is_some() } else { *of == **scheme && !id.is_empty() }
            }),
        }
    }

    /// Who an account is at the issuer by which people are told apart, if it says so.
    #[must_use]
    pub fn person(&self, account: &Account) -> Option<String> {
        account.externals.iter().filter(|one| one.trusted).find_map(|one| self.behind(one))
    }

    /// Everybody who an account is there: it should be one.
    #[must_use]
    pub fn persons(&self, account: &Account) -> BTreeSet<String> {
        account.externals.iter().filter(|one| one.trusted).filter_map(|one| self.behind(one)).collect()
    }

    /// Whether an account can be known to be a certain caller at all.
    #[must_use]
    pub fn have_faces(&self) -> bool {
        !self.links.is_empty() || self.demand == Demand::Mail && self.mails_of.is_some()
    }

    fn behind(&self, external: &External) -> Option<String> {
        let (scheme, id) = external.identity.split_once(':')?;
        let link = self.links.iter().find(|link| *link.scheme == *scheme)?;
        let id = uuid::Uuid::try_parse(id).ok().filter(|_| id.len() == 36)?;
        Some(format!("{}:{}/{}", link.issuer, link.tenant, id.hyphenated()))
    }

    fn keys(&self, account: &Account) -> BTreeSet<Key> {
        let externals = account.externals.iter();
        let mut keys: BTreeSet<_> = account.mails().map(Key::Mail).collect();
        // Also what is not believed ties: it can only take votes away.
        keys.extend(externals.clone().map(|one| Key::External(one.identity.clone())));
        keys.extend(externals.filter_map(|one| self.behind(one)).map(Key::Person));
        keys
    }
}

/// What ties accounts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Account(u64),
    Mail(String),
    External(String),
    Person(String),
}

/// Who is who among some accounts.
#[derive(Debug)]
pub struct Humans<'p> {
    people: &'p People,
    humans: Vec<BTreeSet<Key>>,
}

impl<'p> Humans<'p> {
    /// Nobody yet.
    #[must_use]
    pub const fn among(people: &'p People) -> Self {
        Self { people, humans: Vec::new() }
    }

    /// Here is an account, with what is known of it.
    pub fn add(&mut self, account: &Account) {
        let mut keys = self.people.keys(account);
        keys.insert(Key::Account(account.id));
        self.tie(keys);
    }

    /// The account has this e-mail, whether or not it shows it.
    pub fn has(&mut self, account: u64, mail: &str) {
        self.tie(BTreeSet::from([Key::Account(account), Key::Mail(folded(mail))]));
    }

    fn tie(&mut self, mut keys: BTreeSet<Key>) {
        let tied = |human: &mut BTreeSet<Key>| !human.is_disjoint(&keys);
        let joined: Vec<_> = self.humans.extract_if(.., tied).collect();
        keys.extend(joined.into_iter().flatten());
        self.humans.push(keys);
    }

    fn holding(&self, key: &Key) -> Option<usize> {
        self.humans.iter().position(|human| human.contains(key))
    }

    /// Whose an account is: the same number for the same human, until the next is added.
    #[must_use]
    pub fn of(&self, account: u64) -> Option<usize> {
        self.holding(&Key::Account(account))
    }

    /// Whose an e-mail is, if anybody's here.
    #[must_use]
    pub fn of_mail(&self, mail: &str) -> Option<usize> {
        self.holding(&Key::Mail(folded(mail)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: &str = "5b1f0000-0000-4000-8000-000000000001";

    fn people() -> People {
        let link = |scheme: &str| Linked { scheme: scheme.into(), issuer: "corp".into(), tenant: "t".into() };
        People {
            demand: Demand::External("azure-oauth".into()),
            links: ["azure-oauth", "office365-oauth"].map(link).into(),
            mails_of: None,
        }
    }

    fn account(id: u64, mail: &str, identity: &str) -> Account {
        Account {
            id,
            email: (!mail.is_empty()).then(|| mail.to_owned()),
            externals: vec![External { identity: identity.to_owned(), trusted: true }],
            ..Account::default()
        }
    }

    #[test]
    fn whatever_ties_two_accounts_makes_them_one_human_and_so_on() {
        let people = people();
        let mut humans = Humans::among(&people);
        humans.add(&account(1, "ana@x.example", &format!("azure-oauth:{ANA}")));
        humans.add(&account(2, "other@x.example", &format!("office365-oauth:{}", ANA.to_uppercase())));
        humans.add(&account(3, "third@x.example", "ldap:ana"));
        humans.add(&account(4, "", "ldap:bo"));
        assert_eq!(humans.of(1), humans.of(2), "one object id");
        assert_ne!(humans.of(1), humans.of(3));
        humans.has(3, "OTHER@x.example ");
        assert_eq!(humans.of(1), humans.of(3), "an e-mail of an account that is tied already");
        assert_eq!(humans.of_mail("Ana@X.example"), humans.of(3));
        assert_ne!(humans.of(4), humans.of(1));
        assert_eq!((humans.of(5), humans.of_mail("nobody@x.example")), (None, None));
    }

    #[test]
    fn an_account_counts_by_what_is_demanded_and_believed() {
        let people = people();
        let of = |identity: &str| account(1, "a@x.example", identity);
        let entra = of(&format!("azure-oauth:{ANA}"));
        assert!(people.knows(&entra));
        assert_eq!(people.person(&entra), Some(format!("corp:t/{ANA}")));
        for odd in ["azure-oauth:", "azure-oauth:ana", "azure-oauth", "gerrit:ana", "", "mailto:a@x.example"]
        {
            assert!(!people.knows(&of(odd)), "{odd}");
            assert_eq!(people.person(&of(odd)), None, "{odd}");
        }
        let mut doubted = entra;
        doubted.externals[0].trusted = false;
        assert!(!people.knows(&doubted));
        let by_mail = People { demand: Demand::Mail, links: [].into(), mails_of: None };
        assert!(by_mail.knows(&doubted) && !by_mail.knows(&account(2, " ", "gerrit:bo")));
        let unlinked = People { links: [].into(), ..people };
        assert!(unlinked.knows(&of("azure-oauth:anything")) && !unlinked.knows(&of("azure-oauth:")));
    }

    #[test]
    fn closed_accounts_and_bots_are_nobodys() {
        let used = Account::default();
        assert!(used.is_used());
        assert!(!Account { inactive: true, ..used.clone() }.is_used());
        assert!(!Account { deleted: true, ..used.clone() }.is_used());
        assert!(!Account { tags: vec!["SERVICE_USER".into()], ..used }.is_used());
    }
}
