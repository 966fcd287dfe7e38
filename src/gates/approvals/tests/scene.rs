//! A gate with its policies and store, people, and the calls that they send.

use std::{collections::BTreeSet, sync::Arc};

use http::{HeaderMap, HeaderValue, Method};

use super::super::*;
use crate::{
    azureml::{
        Act, Action, Audience, Effects, Facts, Inspected, Kind, Operation, Protocol, ResourceId, Secrets,
    },
    gates::{Cleared, Gates, Held},
    http::Target,
    identity::{Groups, Principal, PrincipalId, PrincipalKind, Revoked},
    policy::{Azure, DecisionId, DenialCode, FileSet, Permit, RequestFacts, Standing, Surroundings, decide},
    store::StoreAddress,
    time::{Clock as _, ManualClock},
};

pub const POLICIES: &str = "
version: 1
subjects:
  team: [{issuer: corp, group: team}]
  platform: [{issuer: corp, group: platform}]
  copilots: [{issuer: corp, agent: {client_id: copilot}}]
allow:
  - {name: all, who: [authenticated], actions: [\"*\"]}
  - {name: agents, who: [copilots], actions: [\"*\"]}
require:
  - {name: once, who: [team], kinds: [write], approval: {by: [{subject: platform}]}}
  - {name: while, who: [team], kinds: [delete], approval: {by: [{subject: platform}], covers: entry, valid_for: 4h}}
  - {name: words, who: [team], kinds: [action], approval: {by: [{subject: platform}], ask: {reason: required, ticket: 'CHG[0-9]+'}}}
  - {name: own human, who: [copilots], kinds: [write], approval: {by: [human]}}
";

pub struct Scene {
    pub clock: Arc<ManualClock>,
    pub gates: Gates,
    pub store: Store,
    pub policies: PolicySet,
    pub revoked: Revoked,
    _directory: tempfile::TempDir,
}

/// A call: who, what, where.
#[derive(Clone)]
pub struct Sent {
    pub caller: Caller,
    pub kind: Kind,
    pub method: Method,
    pub path: &'static str,
    pub body: Option<&'static str>,
    pub client_id: Option<&'static str>,
}

pub fn caller(subject: &str, groups: &[&str]) -> Caller {
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

pub fn ann() -> Caller {
    caller("ann", &["team"])
}

pub fn bob() -> Caller {
    caller("bob", &["platform"])
}

pub fn write() -> Sent {
    Sent {
        caller: ann(),
        kind: Kind::Write,
        method: Method::PUT,
        path: "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/a/jobs/j",
        body: Some("{\"a\":1}"),
        client_id: None,
    }
}

pub fn compiled(text: &str) -> PolicySet {
    PolicySet::compile(&FileSet::from_texts([("p.yaml", text)]), &Surroundings::default())
        .unwrap_or_else(|problems| panic!("{problems:?}"))
        .0
}

impl Scene {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(StoreAddress::Sqlite(directory.path().join("a.db"))).unwrap();
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_secs(1_800_000_000)));
        let gates = Gates::keeping(Arc::clone(&clock) as SharedClock, Some(store.clone()));
        gates.approvals().at_console(Some("https://console/"));
        let policies = compiled(POLICIES);
        Self { clock, gates, store, policies, revoked: Revoked::default(), _directory: directory }
    }

    /// Another gate over the same store, with the same policies.
    pub fn replica(&self) -> Gates {
        Gates::keeping(Arc::clone(&self.clock) as SharedClock, Some(self.store.clone()))
    }

    pub fn permit(&self, sent: &Sent) -> Permit {
        let operation = Operation {
            name: "Test".into(),
            acts: vec![Act {
                action: Action::new("Microsoft.MachineLearningServices/workspaces/jobs/write"),
                resource: ResourceId::parse(sent.path.split('?').next().unwrap()),
            }],
            kind: sent.kind,
            effects: Effects::NONE,
            unclear_effects: Effects::NONE,
            secrets: Secrets::NONE,
            facts: Facts::default(),
            audience: Audience::Arm,
            long_running: false,
            protocol: Protocol::Arm,
        };
        let mut headers = HeaderMap::new();
        if let Some(id) = sent.client_id {
            headers.insert("x-ms-client-request-id", HeaderValue::from_static(id));
        }
        let request = RequestFacts {
            decision: DecisionId::fresh(),
            route: "arm".into(),
            method: sent.method.clone(),
            target: Target::parse("gate", sent.path).unwrap(),
            headers,
            body: sent.body.map(|body| Arc::new(Inspected::parse(body.as_bytes()).unwrap())),
            source: "10.0.0.1:1".parse().unwrap(),
            received: self.clock.now(),
            glass: None,
        };
        let principal = Principal::for_tests(sent.caller.clone());
        let (standing, now) = (Standing::Entries, self.clock.now());
        decide(&self.policies, principal, operation, request, standing, Azure::default(), now).unwrap()
    }

    pub async fn send(&self, sent: &Sent) -> Result<Cleared, Box<Held>> {
        self.gates.clear_approved(self.permit(sent), BodyKnown::Whole, &self.revoked).await
    }

    /// What the call is refused with.
    pub async fn refused(&self, sent: &Sent) -> (DenialCode, String, Held) {
        let held = *self.send(sent).await.unwrap_err();
        (held.denial.code, format!("{}\n{}", held.denial.cause, held.denial.cure), held)
    }

    pub async fn ask(
        &self,
        by: &Caller,
        decision: String,
        reason: Option<&str>,
    ) -> Result<Request, AskError> {
        let wanted = Wanted { decision, reason: reason.map(Into::into), ticket: None, claimed: None };
        self.gates.approvals().ask(&self.policies, by, wanted).await.map(|mut all| all.remove(0).0)
    }

    /// Sends the call, asks for it and has bob approve it.
    pub async fn granted(&self, sent: &Sent) -> Grant {
        let (code, said, held) = self.refused(sent).await;
        assert_eq!(code, DenialCode::ApprovalRequired, "{said}");
        let request = self.ask(&sent.caller, held.permit.decision().to_string(), None).await.unwrap();
        self.answer(&bob(), &request.id, Answer::Approve(None)).await.unwrap().grant.unwrap()
    }

    pub async fn answer(&self, by: &Caller, id: &str, answer: Answer) -> Result<Answered, AnswerError> {
        self.gates.approvals().answer(&self.policies, by, id, &answer).await
    }

    pub async fn used(&self, grant: &Grant) -> u32 {
        self.gates.approvals().grant(&grant.id).await.unwrap().unwrap().used
    }

    /// Waits until what became of a call is noted.
    pub async fn noted(&self, sent: &Sent, wanted: Option<&str>) {
        let call = Call::of(&self.permit(sent), BodyKnown::Whole, BTreeSet::new());
        let bound = call.bound(self.policies.approval("once").unwrap()).unwrap();
        for _ in 0..10_000 {
            let found =
                self.store.grants_for(&bound, call.resend.as_deref(), self.clock.now()).await.unwrap();
            let state = found.first().and_then(|(_, last)| Some(last.as_ref()?.state.clone()));
            if state.as_deref() == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("it is not noted");
    }
}

/// All of them at the same time.
pub async fn join_all<F: Future + Unpin>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(Some).collect();
    let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (slot, out) in waiting.iter_mut().zip(&mut done) {
            if let Some(future) = slot
                && let std::task::Poll::Ready(value) = std::pin::Pin::new(future).poll(context)
            {
                *out = Some(value);
                *slot = None;
            }
        }
        if waiting.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}
