//! The glass over a real store, by one gate and by two.

use super::*;
use crate::{
    gates::Gates,
    identity::{Groups, PrincipalId},
    policy::{FileSet, Surroundings},
    store::StoreAddress,
    time::{Clock as _, ManualClock},
};

const POLICIES: &str = "
version: 1
subjects:
  on-call: [{issuer: corp, group: on-call}]
  security: [{issuer: corp, group: security}]
allow:
  - {name: all, who: [authenticated], actions: [\"*\"]}
";

fn compiled(text: &str) -> PolicySet {
    let compiled = PolicySet::compile(&FileSet::from_texts([("p.yaml", text)]), &Surroundings::default());
    compiled.unwrap_or_else(|problems| panic!("{problems:?}")).0
}

fn caller(subject: &str, groups: &[&str]) -> Caller {
    Caller {
        id: PrincipalId { issuer: "corp".into(), subject: subject.into() },
        kind: PrincipalKind::Person,
        tenant: None,
        client: None,
        display: Some(subject.into()),
        groups: Groups::Known(groups.iter().map(|group| (*group).into()).collect()),
        roles: Arc::new([]),
        claims: Arc::default(),
        expires: Timestamp::from_secs(2_000_000_000),
        from_pull_request: false,
        subjects_at_issue: None,
        reviewers: None,
        human: None,
        token_digest: [0; 32],
    }
}

struct Scene {
    clock: Arc<ManualClock>,
    gates: Gates,
    store: Store,
    policies: PolicySet,
    _directory: tempfile::TempDir,
}

fn rules(by: &[&str]) -> Rules {
    let of = |name: &&str| Approvers::Subject { name: (*name).into(), count: 1 };
    Rules {
        who: Box::new([of(&"on-call")]),
        by: by.iter().map(of).collect(),
        max: USUAL,
        review_by: REVIEW_BY,
    }
}

fn ann() -> Caller {
    caller("ann", &["on-call"])
}

fn eve() -> Caller {
    caller("eve", &["on-call"])
}

fn bob() -> Caller {
    caller("bob", &["security"])
}

fn because(reason: &str) -> Wanted {
    Wanted { reason: reason.into(), ..Wanted::default() }
}

impl Scene {
    fn new(by: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(StoreAddress::Sqlite(directory.path().join("a.db"))).unwrap();
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_secs(1_800_000_000)));
        let gates = Gates::keeping(Arc::clone(&clock) as SharedClock, Some(store.clone()));
        gates.break_glass().ruled(Some(rules(by)));
        Self { clock, gates, store, policies: compiled(POLICIES), _directory: directory }
    }

    fn glass(&self) -> &BreakGlasses {
        self.gates.break_glass()
    }

    fn replica(&self) -> Gates {
        let gates = Gates::keeping(Arc::clone(&self.clock) as SharedClock, Some(self.store.clone()));
        gates.break_glass().ruled(Some(rules(&[])));
        gates
    }

    fn under(&self, who: &Caller) -> Option<Box<str>> {
        self.glass().under(&self.policies, who, self.clock.now()).map(|glass| glass.id.clone())
    }

    async fn opened(&self) -> BreakGlass {
        let (glass, became) = self.glass().open(&self.policies, &ann(), because("fire")).await.unwrap();
        assert_eq!(became, Became::Opened);
        glass
    }

    async fn change(&self, by: &Caller, id: &str, deed: Deed) -> Result<(BreakGlass, Became), ChangeError> {
        self.glass().change(&self.policies, by, id, &deed).await
    }
}

#[tokio::test]
async fn it_is_open_for_whoever_opened_it_alone_and_no_longer_than_was_asked() {
    let scene = Scene::new(&[]);
    assert_eq!(scene.under(&ann()), None);
    let wanted = Wanted { length: Some(Duration::from_secs(4)), ..because("fire") };
    let (glass, _) = scene.glass().open(&scene.policies, &ann(), wanted).await.unwrap();
    assert_eq!(scene.under(&ann()).as_deref(), Some(&*glass.id));
    assert_eq!(scene.under(&eve()), None, "another who is on call");
    assert_eq!(scene.under(&caller("ann", &[])), None, "who is not on call any more");
    let software = Caller { kind: PrincipalKind::Agent, ..ann() };
    assert_eq!(scene.under(&software), None);
    let holder = Caller { subjects_at_issue: Some(Arc::new(["on-call".into()])), ..ann() };
    assert_eq!(scene.under(&holder), None, "a handle of an endpoint's key");
    let open = OpenGlass { id: glass.id.as_str().into() };
    assert!(scene.glass().stands(&open, scene.clock.now()));
    assert!(!scene.glass().stands(&OpenGlass { id: "other".into() }, scene.clock.now()));
    scene.clock.advance(Duration::from_secs(4));
    assert_eq!(scene.under(&ann()), None);
    assert!(!scene.glass().stands(&open, scene.clock.now()));
}

#[tokio::test]
async fn who_cannot_ask_the_store_lifts_nothing_and_no_rules_lift_nothing() {
    let scene = Scene::new(&[]);
    scene.opened().await;
    scene.clock.advance(MAX_AGE);
    assert!(scene.under(&ann()).is_some());
    scene.clock.advance(Duration::from_millis(1));
    assert_eq!(scene.under(&ann()), None, "what is known of it is too old");
    scene.glass().look().await.unwrap();
    assert!(scene.under(&ann()).is_some());
    scene.glass().ruled(None);
    assert_eq!(scene.under(&ann()), None);
    let refused = scene.glass().open(&scene.policies, &ann(), because("fire")).await;
    assert_eq!(refused.unwrap_err(), NotOpened::NotConfigured);
}

#[tokio::test]
async fn another_replica_knows_of_it_at_its_next_look_and_of_its_end() {
    let scene = Scene::new(&[]);
    let replica = scene.replica();
    let there = || replica.break_glass().under(&scene.policies, &ann(), scene.clock.now());
    let glass = scene.opened().await;
    replica.break_glass().look().await.unwrap();
    assert!(there().is_some());
    let twice = replica.break_glass().open(&scene.policies, &eve(), because("me too")).await.unwrap_err();
    assert!(matches!(&twice, NotOpened::Unreviewed { id, state: "open" } if *id == glass.id), "{twice}");
    scene.change(&bob(), &glass.id, Deed::Close).await.unwrap();
    replica.break_glass().look().await.unwrap();
    assert!(there().is_none());
    let next = replica.break_glass().open(&scene.policies, &eve(), because("me too")).await.unwrap_err();
    assert!(matches!(next, NotOpened::Unreviewed { state: "over", .. }), "{next}");
    scene.change(&bob(), &glass.id, Deed::Review("as it said".into())).await.unwrap();
    assert!(replica.break_glass().open(&scene.policies, &eve(), because("me too")).await.is_ok());
}

#[tokio::test]
async fn time_passes_once_whoever_looks() {
    let scene = Scene::new(&[]);
    let replica = scene.replica();
    let glass = scene.opened().await;
    assert_eq!(scene.glass().pass().await.unwrap(), []);
    scene.clock.advance(USUAL + REVIEW_BY);
    let (here, there) = tokio::join!(scene.glass().pass(), replica.break_glass().pass());
    let mut became: Vec<_> =
        here.unwrap().into_iter().chain(there.unwrap()).map(|(_, became)| became).collect();
    became.sort_by_key(|became| became.name());
    assert_eq!(became, [Became::Expired, Became::Overdue], "each once");
    assert!(scene.glass().one(&glass.id).await.unwrap().unwrap().overdue);
    assert_eq!(scene.glass().list(None, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn where_others_must_say_yes_nobody_waits_for_them_for_ever() {
    let scene = Scene::new(&["security"]);
    let (asked, became) = scene.glass().open(&scene.policies, &ann(), because("fire")).await.unwrap();
    assert_eq!((asked.state, became), (State::Asked, Became::Asked));
    assert_eq!(scene.under(&ann()), None);
    let own = scene.change(&eve(), &asked.id, Deed::Confirm(None)).await.unwrap_err();
    assert!(matches!(own, ChangeError::Unmoved(Unmoved::NoVoice(_))), "{own}");
    scene.clock.advance(CONFIRM_WITHIN);
    scene.glass().pass().await.unwrap();
    let (next, _) = scene.glass().open(&scene.policies, &eve(), because("fire")).await.unwrap();
    let (open, became) = scene.change(&bob(), &next.id, Deed::Confirm(None)).await.unwrap();
    assert_eq!((open.state, became), (State::Open, Became::Opened));
    assert!(scene.under(&eve()).is_some() && scene.under(&ann()).is_none());
}

#[tokio::test]
async fn what_is_said_is_words_and_not_too_many() {
    let scene = Scene::new(&[]);
    for reason in [String::new(), " \n".into(), "x".repeat(MAX_REASON + 1), "a\u{1b}[2J".into()] {
        let refused = scene.glass().open(&scene.policies, &ann(), because(&reason)).await.unwrap_err();
        assert!(matches!(refused, NotOpened::NoReason | NotOpened::Text), "{refused}");
    }
    for length in [Duration::ZERO, USUAL + Duration::from_secs(1)] {
        let wanted = Wanted { length: Some(length), ..because("fire") };
        let refused = scene.glass().open(&scene.policies, &ann(), wanted).await.unwrap_err();
        assert_eq!(refused, NotOpened::Length(USUAL));
    }
    let glass = scene.opened().await;
    scene.change(&bob(), &glass.id, Deed::Close).await.unwrap();
    for (note, wanted) in
        [(" ".to_owned(), ChangeError::NoNote), ("x".repeat(MAX_REASON + 1), ChangeError::Text)]
    {
        assert_eq!(scene.change(&bob(), &glass.id, Deed::Review(note)).await.unwrap_err(), wanted);
    }
    assert_eq!(scene.change(&bob(), "none", Deed::Close).await.unwrap_err(), ChangeError::Unknown);
}
