//! Whose accounts are in a group: pure.
//!
//! An account stands for a person as `people` says: by an external id that is linked and that Gerrit
//! believes, else, only where the server's `accounts` say so, by an e-mail that both Gerrit and the issuer
//! of the caller's token have seen to be theirs. Bots and closed accounts stand for nobody, and so does an
//! account that would be two people.

use std::{collections::BTreeSet, sync::Arc};

use super::people::{Account, Demand, People, folded};
use crate::identity::Caller;

/// The people of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Issuer and subject of each, as records have them.
    persons: BTreeSet<String>,
    /// E-mails of those whom no external id names.
    mails: BTreeSet<String>,
    /// The issuer whose word on e-mails counts.
    mails_of: Option<Arc<str>>,
    /// Accounts that are used, and of nobody who is known.
    strangers: usize,
}

impl Members {
    /// The people behind a group's accounts.
    #[must_use]
    pub fn of(people: &People, accounts: &[Account]) -> Self {
        let mails_of = match people.demand {
            Demand::External(_) => None,
            Demand::Mail => people.mails_of.clone(),
        };
        let mut members = Self { mails_of, ..Self::default() };
        for account in accounts.iter().filter(|account| account.is_used()) {
            let mut persons = people.persons(account);
            match (persons.len(), persons.pop_first()) {
                (1, Some(person)) => drop(members.persons.insert(person)),
                (0, _) if members.mails_of.is_some() && account.mails().next().is_some() => {
                    members.mails.extend(account.mails());
                }
                _ => members.strangers += 1,
            }
        }
        members
    }

    /// How many accounts are known to be somebody's, at least, and how many are not.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        (self.persons.len() + self.mails.len(), self.strangers)
    }

    /// Whether a person can still be one of these people: whom an e-mail makes one is not known by name.
    #[must_use]
    pub fn may_hold(&self, person: &str) -> bool {
        self.persons.contains(person) || !self.mails.is_empty()
    }

    /// Whether a caller is one of these people.
    #[must_use]
    pub fn hold(&self, caller: &Caller) -> bool {
        if !caller.kind.has_human() {
            return false;
        }
        let by_mail = || {
            let of_it = self.mails_of.as_deref() == Some(&*caller.id.issuer);
            of_it && vouched_mail(caller).is_some_and(|mail| self.mails.contains(&mail))
        };
        self.persons.contains(&caller.person().to_string()) || by_mail()
    }
}

/// The caller's e-mail, if its issuer has seen to it that it is theirs: `email_verified` of OpenID Connect,
/// or Entra's `xms_edov`. Anybody may write another's into an account of their own.
fn vouched_mail(caller: &Caller) -> Option<String> {
    let is_true = |claim: &str| {
        caller
            .claims
            .get(claim)
            .is_some_and(|said| *said == true || *said == 1 || *said == "true" || *said == "1")
    };
    let mail = caller.claims.get("email")?.as_str().map(folded).filter(|mail| !mail.is_empty())?;
    (is_true("email_verified") || is_true("xms_edov")).then_some(mail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        gates::review::people::{External, Linked},
        identity::{PrincipalId, PrincipalKind},
        policy::described::DescribedCaller,
    };

    const ANA: &str = "5b1f0000-0000-4000-8000-000000000001";
    const BO: &str = "5b1f0000-0000-4000-8000-000000000002";

    fn people(demand: Demand) -> People {
        let link = Linked { scheme: "azure-oauth".into(), issuer: "corp".into(), tenant: "t".into() };
        People { demand, links: [link].into(), mails_of: Some("corp".into()) }
    }

    fn by_id() -> People {
        people(Demand::External("azure-oauth".into()))
    }

    fn account(id: u64, mail: &str, identities: &[&str]) -> Account {
        let external = |identity: &&str| External { identity: (*identity).to_owned(), trusted: true };
        Account {
            id,
            email: (!mail.is_empty()).then(|| mail.to_owned()),
            externals: identities.iter().map(external).collect(),
            ..Account::default()
        }
    }

    fn entra(oid: &str) -> String {
        format!("azure-oauth:{oid}")
    }

    fn caller(issuer: &str, subject: &str, claims: serde_json::Value) -> Caller {
        let words = json!({"issuer": issuer, "subject": subject, "claims": claims});
        serde_json::from_value::<DescribedCaller>(words).unwrap().caller()
    }

    fn ana() -> Caller {
        caller("corp", &format!("t/{ANA}"), json!({}))
    }

    #[test]
    fn whoever_an_external_id_names_is_in_it_under_each_identity_that_is_theirs() {
        let members = Members::of(&by_id(), &[account(1, "ana@x.example", &[&entra(ANA)])]);
        assert!(members.hold(&ana()));
        let human = Some(PrincipalId { issuer: "corp".into(), subject: format!("t/{ANA}").into() });
        assert!(members.hold(&Caller { human, ..caller("portal", "ana", json!({})) }));
        assert!(!members.hold(&caller("corp", &format!("t/{BO}"), json!({}))));
        assert!(!members.hold(&caller("other", &format!("t/{ANA}"), json!({}))), "another issuer's");
        assert!(!members.hold(&caller("corp", &format!("u/{ANA}"), json!({}))), "another tenant's");
        assert_eq!(members.count(), (1, 0));
    }

    #[test]
    fn machines_are_never_in_a_group_of_people() {
        let members = Members::of(&by_id(), &[account(1, "", &[&entra(ANA)])]);
        for kind in [PrincipalKind::Machine, PrincipalKind::AutonomousAgent] {
            assert!(!members.hold(&Caller { kind, ..ana() }), "{kind:?}");
        }
    }

    #[test]
    fn bots_closed_accounts_strangers_and_accounts_of_two_people_stand_for_nobody() {
        let plain = account(1, "ana@x.example", &[&entra(ANA)]);
        let odd = [
            Account { inactive: true, ..plain.clone() },
            Account { deleted: true, ..plain.clone() },
            Account { tags: vec!["SERVICE_USER".into()], ..plain.clone() },
            Account { externals: vec![External { identity: entra(ANA), trusted: false }], ..plain.clone() },
            account(1, "ana@x.example", &["gerrit:ana"]),
            account(1, "ana@x.example", &["azure-oauth:ana"]),
            account(1, "ana@x.example", &[&entra(ANA), &entra(BO)]),
        ];
        for one in odd {
            let said = format!("{one:?}");
            let members = Members::of(&by_id(), &[one]);
            assert!(!members.hold(&ana()), "{said}");
            assert_eq!(members.count().0, 0, "{said}");
        }
        assert_eq!(Members::of(&by_id(), &[account(1, "", &["gerrit:ana"]), plain]).count(), (1, 1));
    }

    #[test]
    fn an_e_mail_counts_only_where_the_server_says_so_and_both_have_seen_to_it() {
        let accounts = [account(1, "Ana@x.example", &["gerrit:ana"])];
        let by_mail = Members::of(&people(Demand::Mail), &accounts);
        let of = |issuer: &str, claims| caller(issuer, "t/x", claims);
        for claims in [
            json!({"email": "ana@X.example", "email_verified": true}),
            json!({"email": "ana@x.example", "xms_edov": true}),
            json!({"email": "ana@x.example", "xms_edov": "1"}),
        ] {
            assert!(by_mail.hold(&of("corp", claims.clone())), "{claims}");
            assert!(!by_mail.hold(&of("other", claims.clone())), "{claims}: another issuer's word");
            assert!(!Members::of(&by_id(), &accounts).hold(&of("corp", claims.clone())), "{claims}");
            let nowhere = People { mails_of: None, ..people(Demand::Mail) };
            assert!(!Members::of(&nowhere, &accounts).hold(&of("corp", claims)));
        }
        for claims in [
            json!({"email": "ana@x.example"}),
            json!({"email": "ana@x.example", "email_verified": false}),
            json!({"email": "ana@x.example", "xms_edov": false}),
            json!({"email": ["ana@x.example"], "email_verified": true}),
            json!({"email": "", "email_verified": true}),
            json!({"preferred_username": "ana@x.example", "email_verified": true}),
            json!({"email": "bo@x.example", "email_verified": true}),
        ] {
            assert!(!by_mail.hold(&of("corp", claims.clone())), "{claims}");
        }
    }

    #[test]
    fn where_an_external_id_says_who_it_is_an_e_mail_makes_nobody_else_of_it() {
        let accounts = [account(1, "bo@x.example", &[&entra(ANA)])];
        let members = Members::of(&people(Demand::Mail), &accounts);
        assert!(members.hold(&ana()));
        assert!(members.may_hold(&format!("corp:t/{ANA}")) && !members.may_hold(&format!("corp:t/{BO}")));
        let bo = caller("corp", &format!("t/{BO}"), json!({"email": "bo@x.example", "email_verified": true}));
        assert!(!members.hold(&bo));
    }
}
