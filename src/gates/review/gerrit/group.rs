//! A group with its accounts, for the mirror.

use std::collections::BTreeSet;

use serde::Deserialize;
use tokio::task::JoinSet;

use super::{
    super::{decide::Step, people::Account},
    Gerrit, NoAnswer, escaped,
};

/// So many accounts of one group are mirrored.
const MOST: usize = 1_000;
/// So many accounts are asked about at the same time.
const AT_ONCE: usize = 8;

/// Why who is in a group is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Nobody answered: what was known before may stand for a while.
    #[error("{0}")]
    Silent(String),
    /// Gerrit answered, and it is no group whose people can be known.
    #[error("{0}")]
    Gone(String),
}

/// A group, as Gerrit has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its UUID, which is never given to another.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// The accounts in it, and in the groups that it includes.
    pub accounts: Vec<Account>,
}

/// `GroupInfo`.
#[derive(Debug, Deserialize)]
struct GroupInfo {
    /// The UUID, escaped for a path.
    id: String,
    name: String,
}

impl Gerrit {
    /// Who is in a group, by its name or UUID, directly or not.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn group(&self, group: &str) -> Result<Group, Unread> {
        let info: GroupInfo =
            self.get(&format!("/groups/{}", escaped(group))).await.map_err(|why| self.unread(group, &why))?;
        let uuid = percent_encoding::percent_decode_str(&info.id).decode_utf8_lossy().into_owned();
        // A number would be taken for another's, and whatever is not what was asked for is another.
        if uuid != group && info.name != group {
            return Err(Unread::Gone(format!(
                "Gerrit `{}` has no group of the name or UUID `{group}`",
                self.name
            )));
        }
        let path = format!("/groups/{}/members/?recursive", escaped(&uuid));
        let listed: Vec<Account> = self.get(&path).await.map_err(|why| self.unread(group, &why))?;
        let ids: BTreeSet<u64> = listed.into_iter().map(|account| account.id).collect();
        if ids.len() > MOST {
            return Err(Unread::Gone(format!("group `{group}` has more than {MOST} accounts")));
        }
        Ok(Group { uuid, name: info.name, accounts: self.accounts(ids).await? })
    }

    /// Accounts with their external ids; who is gone is left out.
    async fn accounts(&self, ids: BTreeSet<u64>) -> Result<Vec<Account>, Unread> {
        let mut ids = ids.into_iter();
        let mut asking = JoinSet::new();
        let mut found = Vec::new();
        loop {
            while asking.len() < AT_ONCE
                && let Some(id) = ids.next()
            {
                let server = self.clone();
                asking.spawn(async move { server.account(id).await });
            }
            match asking.join_next().await {
                None => return Ok(found),
                Some(Ok(Ok(account))) => found.extend(account),
                Some(Ok(Err(unreviewed))) => {
                    let why = unreviewed.to_string();
                    let silent = unreviewed.step == Step::Asking;
                    return Err(if silent { Unread::Silent(why) } else { Unread::Gone(why) });
                }
                Some(Err(error)) => return Err(Unread::Silent(error.to_string())),
            }
        }
    }

    fn unread(&self, group: &str, why: &NoAnswer) -> Unread {
        let name = &self.name;
        match why {
            NoAnswer::Silent(_) => Unread::Silent(format!("Gerrit `{name}` does not answer")),
            NoAnswer::Absent => Unread::Gone(format!("the gate sees no group `{group}` in Gerrit `{name}`")),
            NoAnswer::Refused(_) => {
                Unread::Gone(format!("Gerrit `{name}` does not let the gate read group `{group}`"))
            }
            NoAnswer::Odd(_) => {
                Unread::Gone(format!("Gerrit `{name}` does not tell who is in group `{group}`"))
            }
        }
    }
}
