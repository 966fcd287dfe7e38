//! Who is in Gerrit's groups that policies name, kept beside the gate and kept fresh.
//!
//! One task reads ([`Mirror::keep`]); a request looks into what it read last, and waits only where that
//! is not fresh. A reading is used until it is stale and no longer; a group that Gerrit says is not there,
//! or does not let the gate read, is forgotten at once. Of a group that is not known nothing is concluded:
//! nobody is let in as one of it, and entries of `deny` and `require` count everybody. Another server or
//! another token forgets all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use super::{
    Servers,
    gerrit::group::{Group, Unread},
    members::Members,
};
use crate::{
    identity::{Caller, GerritGroup, Principal, ReviewerGroups},
    time::{SharedClock, Timestamp},
};

/// A request waits at most so long for a reading.
const PATIENCE: Duration = Duration::from_secs(10);
/// Reading one group takes at most so long.
const READ_IN: Duration = Duration::from_secs(60);
/// After a failure Gerrit is asked again after so long.
const PAUSE: Duration = Duration::from_secs(5);

/// How old a reading may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    /// It is used without question for so long.
    pub fresh: Duration,
    /// One that could not be renewed is used for so long.
    pub stale: Duration,
}

/// What is known of a group.
#[derive(Debug, Clone)]
struct Held {
    members: Option<(Arc<Members>, Timestamp)>,
    /// Why the last attempt failed, if it did.
    failure: Option<Arc<str>>,
    /// When it was last tried.
    tried: Timestamp,
}

impl Held {
    fn is_due(&self, now: Timestamp, fresh: Duration) -> bool {
        let wait = if self.failure.is_some() { PAUSE.min(fresh) } else { fresh };
        now.since(self.tried) >= wait || now < self.tried
    }

    fn answer(&self, now: Timestamp, stale: Duration) -> Result<&Members, Arc<str>> {
        match &self.members {
            Some((members, read)) if now.since(*read) < stale => Ok(members),
            Some(_) | None => {
                Err(self.failure.clone().unwrap_or_else(|| "what Gerrit said last is too old".into()))
            }
        }
    }

    /// After another attempt: what was known stands beside silence, and not against an answer.
    fn after(before: Option<&Self>, read: Result<Members, Unread>, now: Timestamp) -> Self {
        let (members, failure) = match read {
            Ok(members) => (Some((Arc::new(members), now)), None),
            Err(Unread::Silent(why)) => (before.and_then(|held| held.members.clone()), Some(why.into())),
            Err(Unread::Gone(why)) => (None, Some(why.into())),
        };
        Self { members, failure, tried: now }
    }
}

/// What was read under some servers.
#[derive(Default)]
struct Known {
    servers: Arc<Servers>,
    groups: BTreeMap<GerritGroup, Held>,
}

/// Who is in the groups that policies name. One for the whole process.
pub struct Mirror {
    clock: SharedClock,
    known: ArcSwap<Known>,
    ages: ArcSwap<Ages>,
    /// Groups that somebody waits for.
    wanted: Mutex<BTreeSet<GerritGroup>>,
    asked: Notify,
    news: watch::Sender<u64>,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mirror({} groups)", self.known.load().groups.len())
    }
}

impl Mirror {
    pub(super) fn new(clock: SharedClock) -> Self {
        let ages = Ages { fresh: Duration::from_secs(300), stale: Duration::from_secs(900) };
        Self {
            clock,
            known: ArcSwap::default(),
            ages: ArcSwap::from_pointee(ages),
            wanted: Mutex::default(),
            asked: Notify::new(),
            news: watch::channel(0).0,
        }
    }

    /// Whom to ask from here on. What others said is forgotten; what the same said stands.
    pub(super) fn by(&self, servers: Arc<Servers>) {
        self.known.rcu(|before| {
            let stays = |group: &GerritGroup| {
                let pair = before.servers.get(&group.server).zip(servers.get(&group.server));
                pair.is_some_and(|(before, now)| now.is(before))
            };
            let held = before.groups.iter().filter(|(group, _)| stays(group));
            let groups = held.map(|(group, held)| (group.clone(), held.clone())).collect();
            Arc::new(Known { servers: Arc::clone(&servers), groups })
        });
        self.asked.notify_one();
    }

    /// How old a reading may be from here on.
    pub fn aged(&self, ages: Ages) {
        if **self.ages.load() != ages {
            self.ages.store(Arc::new(ages));
        }
    }

    /// The caller with what is known of the groups `about`; waits where that is not fresh.
    pub async fn told(&self, principal: Principal, about: Arc<[GerritGroup]>) -> Principal {
        self.settle(&about).await;
        let known = self.now_known(&principal, about);
        principal.with_reviewers(Arc::new(known))
    }

    /// The caller with what is known now of the groups that were asked about, without asking; `None` if
    /// nothing changed: for streams that are judged again.
    #[must_use]
    pub fn again(&self, principal: &Principal) -> Option<Principal> {
        let before = principal.reviewers.as_ref()?;
        let now_known = self.now_known(principal, Arc::clone(before.about()?));
        (now_known != **before).then(|| principal.with_reviewers(Arc::new(now_known)))
    }

    /// Waits, for a while, until what is known of groups is fresh.
    pub async fn settle(&self, about: &[GerritGroup]) {
        if self.is_any_due(about) {
            self.wait_for(about).await;
        }
    }

    /// Whether a person is in a group, for all that is known; nobody is where it is not.
    #[must_use]
    pub fn has(&self, group: &GerritGroup, person: &str) -> bool {
        let (known, now, stale) = (self.known.load(), self.clock.now(), self.ages.load().stale);
        let answer = known.groups.get(group).map(|held| held.answer(now, stale));
        matches!(answer, Some(Ok(members)) if members.may_hold(person))
    }

    fn now_known(&self, caller: &Caller, about: Arc<[GerritGroup]>) -> ReviewerGroups {
        let (known, now, stale) = (self.known.load(), self.clock.now(), self.ages.load().stale);
        let (mut member, mut unread) = (Vec::new(), Vec::new());
        for group in about.iter() {
            let answer = match known.groups.get(group) {
                Some(held) => held.answer(now, stale),
                None => Err(format!("{group} was not read yet").into()),
            };
            match answer {
                Ok(members) if members.hold(caller) => member.push(group.clone()),
                Ok(_) => {}
                Err(why) => unread.push((group.clone(), why)),
            }
        }
        ReviewerGroups::told(about, member, unread)
    }

    fn is_any_due(&self, about: &[GerritGroup]) -> bool {
        let (known, now, fresh) = (self.known.load(), self.clock.now(), self.ages.load().fresh);
        about.iter().any(|group| known.groups.get(group).is_none_or(|held| held.is_due(now, fresh)))
    }

    async fn wait_for(&self, about: &[GerritGroup]) {
        let mut news = self.news.subscribe();
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).extend(about.iter().cloned());
        self.asked.notify_one();
        let read = async {
            while self.is_any_due(about) {
                if news.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = read => {}
            () = self.clock.sleep(PATIENCE) => {}
        }
    }

    /// Reads what will soon not be fresh of the groups that policies name now, then waits until something
    /// may be due: to be repeated, by one task.
    pub async fn keep(&self, named: impl Fn() -> Arc<[GerritGroup]>) {
        self.renew(&named()).await;
        let fresh = self.ages.load().fresh;
        tokio::select! {
            () = self.asked.notified() => {}
            () = self.clock.sleep((fresh / 4).min(PAUSE)) => {}
        }
    }

    async fn renew(&self, named: &[GerritGroup]) {
        let wanted = std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        let (before, fresh) = (self.known.load_full(), self.ages.load().fresh);
        let due = |group: &&GerritGroup| {
            // What somebody waits for is read when it is due, and the rest before anybody waits.
            let fresh = if wanted.contains(*group) { fresh } else { fresh / 2 };
            let now = self.clock.now();
            before.groups.get(*group).is_none_or(|held| held.is_due(now, fresh))
        };
        for group in named.iter().filter(due) {
            let now = self.clock.now();
            let read = self.read(&before.servers, group).await;
            let held = Held::after(before.groups.get(group), read, now);
            let is_of_these = |known: &Known| Arc::ptr_eq(&known.servers, &before.servers);
            self.known.rcu(|known| {
                if !is_of_these(known) {
                    return Arc::clone(known);
                }
                let mut groups = known.groups.clone();
                groups.retain(|one, _| named.contains(one));
                groups.insert(group.clone(), held.clone());
                Arc::new(Known { servers: Arc::clone(&known.servers), groups })
            });
            if !is_of_these(&self.known.load()) {
                // Another configuration: what this one said counts no more.
                self.asked.notify_one();
                return;
            }
            self.news.send_modify(|number| *number += 1);
        }
    }

    async fn read(&self, servers: &Servers, group: &GerritGroup) -> Result<Members, Unread> {
        let Some(server) = servers.get(&group.server) else {
            return Err(Unread::Gone(format!("there is no Gerrit `{}` to ask", group.server)));
        };
        let read = tokio::select! {
            read = server.group(&group.group) => read,
            () = self.clock.sleep(READ_IN) => Err(Unread::Silent(format!("{group} was not read within {} s", READ_IN.as_secs()))),
        };
        let outcome = match &read {
            Ok(_) => "read",
            Err(Unread::Silent(_)) => "silent",
            Err(Unread::Gone(_)) => "gone",
        };
        metrics::counter!("amlgate_gerrit_group_reads_total", "server" => group.server.to_string(), "outcome" => outcome)
            .increment(1);
        match read {
            Ok(Group { accounts, uuid, .. }) => {
                let members = Members::of(server.people(), &accounts);
                let (people, strangers) = members.count();
                tracing::debug!(%group, uuid, people, strangers, "a group of reviewers was read");
                Ok(members)
            }
            Err(why) => {
                tracing::warn!(%group, %why, "nobody is known to be in a group of reviewers");
                Err(why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            gerrit::Gerrit,
            people::{Demand, People},
        },
        *,
    };
    use crate::{
        net::{Connector, ConnectorSettings, Destination},
        time::ManualClock,
    };

    const STALE: Duration = Duration::from_secs(900);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + secs)
    }

    fn silent() -> Result<Members, Unread> {
        Err(Unread::Silent("it is away".into()))
    }

    #[test]
    fn what_was_known_stands_beside_silence_until_it_is_stale_and_never_against_an_answer() {
        let read = Held::after(None, Ok(Members::default()), at(0));
        assert!(read.answer(at(899), STALE).is_ok());
        assert_eq!(read.answer(at(900), STALE), Err("what Gerrit said last is too old".into()));
        let away = Held::after(Some(&read), silent(), at(300));
        assert!(away.answer(at(899), STALE).is_ok());
        assert_eq!(away.answer(at(900), STALE), Err("it is away".into()));
        let gone = Held::after(Some(&away), Err(Unread::Gone("it is gone".into())), at(310));
        assert_eq!(gone.answer(at(310), STALE), Err("it is gone".into()));
        let still = Held::after(Some(&gone), silent(), at(320));
        assert_eq!(
            still.answer(at(320), STALE),
            Err("it is away".into()),
            "it does not come back by silence"
        );
    }

    #[test]
    fn a_failure_is_tried_again_soon_and_a_reading_when_it_is_no_longer_fresh() {
        let fresh = Duration::from_secs(300);
        let read = Held::after(None, Ok(Members::default()), at(0));
        assert!(!read.is_due(at(299), fresh) && read.is_due(at(300), fresh));
        let failed = Held::after(None, silent(), at(10));
        assert!(!failed.is_due(at(14), fresh) && failed.is_due(at(15), fresh));
        assert!(failed.is_due(at(9), fresh), "a clock that was set back");
    }

    fn made_of(digest: Option<u8>) -> Arc<Servers> {
        let people = People { demand: Demand::Mail, links: Box::default(), mails_of: None };
        let gerrit = Gerrit::new(
            "main".into(),
            Connector::new(ConnectorSettings::default()).unwrap(),
            Destination::https("gerrit.example", 443),
            String::new(),
            http::HeaderValue::from_static("Basic eDp5"),
            "https://gerrit.example".into(),
            people,
        );
        let gerrit = match digest {
            Some(digest) => gerrit.made_of([digest; 32]),
            None => gerrit,
        };
        Arc::new([("main".into(), gerrit)].into())
    }

    #[test]
    fn what_a_server_said_stands_when_it_is_named_again_and_not_when_another_is() {
        let group = GerritGroup { server: "main".into(), group: "risk".into() };
        let held = Held::after(None, Ok(Members::default()), at(0));
        for (before, now, stands) in
            [(Some(1), Some(1), true), (Some(1), Some(2), false), (Some(1), None, false), (None, None, false)]
        {
            let mirror = Mirror::new(Arc::new(ManualClock::starting_at(at(0))));
            let groups = [(group.clone(), held.clone())].into();
            mirror.known.store(Arc::new(Known { servers: made_of(before), groups }));
            mirror.by(made_of(now));
            assert_eq!(mirror.known.load().groups.contains_key(&group), stands, "{before:?} {now:?}");
            mirror.by(Arc::default());
            assert!(mirror.known.load().groups.is_empty(), "whom nobody names says nothing");
        }
    }
}
