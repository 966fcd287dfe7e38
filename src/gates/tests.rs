//! Limits on permits of real policies, with a clock that is moved by hand.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method};

use super::*;
use crate::{
    azureml::{Act, Action, Audience, Effects, Facts, Kind, Operation, Protocol, ResourceId, Secrets},
    http::Target,
    identity::{Caller, Groups, Principal, PrincipalId, PrincipalKind},
    policy::{
        DecisionId, DenialCode, FileSet, PolicySet, RequestFacts, Standing, StreamLimits, Surroundings,
        decide,
    },
    time::{Clock as _, ManualClock, Timestamp},
};

struct Scene {
    clock: Arc<ManualClock>,
    gates: Gates,
}

impl Scene {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_secs(1_795_435_200)));
        Self { gates: Gates::new(Arc::clone(&clock) as SharedClock), clock }
    }

    fn permit(&self, set: &PolicySet, who: &str) -> Permit {
        let caller = Caller {
            id: PrincipalId { issuer: "corp".into(), subject: who.into() },
            kind: PrincipalKind::Person,
            tenant: None,
            client: None,
            display: None,
            groups: Groups::Known(Arc::new([])),
            roles: Arc::new([]),
            claims: Arc::default(),
            expires: Timestamp::from_secs(2_000_000_000),
            from_pull_request: false,
            subjects_at_issue: None,
            reviewers: None,
            human: None,
            token_digest: [0; 32],
        };
        let operation = Operation {
            name: "Test".into(),
            acts: vec![Act {
                action: Action::new("Microsoft.MachineLearningServices/workspaces/read"),
                resource: ResourceId::parse("/subscriptions/s"),
            }],
            kind: Kind::Read,
            effects: Effects::NONE,
            unclear_effects: Effects::NONE,
            secrets: Secrets::NONE,
            facts: Facts::default(),
            audience: Audience::Arm,
            long_running: false,
            protocol: Protocol::Arm,
        };
        let request = RequestFacts {
            decision: DecisionId::fresh(),
            route: "arm".into(),
            method: Method::GET,
            target: Target::parse("gate", "/x").unwrap(),
            headers: HeaderMap::new(),
            body: None,
            source: "10.0.0.1:1".parse().unwrap(),
            received: self.clock.now(),
            glass: None,
        };
        let principal = Principal::for_tests(caller);
        decide(
            set,
            principal,
            operation,
            request,
            Standing::Entries,
            crate::policy::Azure::default(),
            self.clock.now(),
        )
        .unwrap()
    }

    /// How long to wait; `None` if it is let through.
    fn wait(&self, set: &PolicySet, who: &str) -> Option<Duration> {
        match self.gates.clear(self.permit(set, who)) {
            Ok(_) => None,
            Err(held) => {
                assert_eq!(held.denial.code, DenialCode::LimitExceeded);
                Some(held.retry_after.unwrap())
            }
        }
    }
}

fn policies(limits: &str) -> PolicySet {
    let text = format!(
        "version: 1\nallow:\n  - {{name: all, who: [authenticated], kinds: [read]}}\nrequire:\n{limits}"
    );
    let files = FileSet::from_texts([("p.yaml", text.as_str())]);
    PolicySet::compile(&files, &Surroundings::default()).unwrap_or_else(|p| panic!("{p:?}")).0
}

const TWO_A_SECOND: &str = "  - {name: two, limit: {requests: 2, every: 1s, per: person}}\n";

#[test]
fn each_person_has_a_count_of_their_own_and_it_fills_again_with_time() {
    let scene = Scene::new();
    let set = policies(TWO_A_SECOND);
    assert_eq!((scene.wait(&set, "ann"), scene.wait(&set, "ann")), (None, None));
    assert_eq!(scene.wait(&set, "ann"), Some(Duration::from_millis(500)));
    assert_eq!(scene.wait(&set, "bob"), None);
    scene.clock.advance(Duration::from_millis(499));
    assert!(scene.wait(&set, "ann").is_some());
    scene.clock.advance(Duration::from_millis(1));
    assert_eq!(scene.wait(&set, "ann"), None);
    assert!(scene.wait(&set, "ann").is_some());
}

#[test]
fn a_count_per_entry_is_everybodys_together() {
    let scene = Scene::new();
    let set = policies("  - {name: two, limit: {requests: 2, every: 1s, per: entry}}\n");
    assert_eq!((scene.wait(&set, "ann"), scene.wait(&set, "bob")), (None, None));
    assert!(scene.wait(&set, "eve").is_some());
}

#[test]
fn every_limit_that_concerns_a_request_holds() {
    let scene = Scene::new();
    let set =
        policies(&format!("{TWO_A_SECOND}  - {{name: one a day, limit: {{requests: 1, every: 1d}}}}\n"));
    assert_eq!(scene.wait(&set, "ann"), None);
    scene.clock.advance(Duration::from_secs(3_600));
    let wait = scene.wait(&set, "ann").unwrap();
    assert_eq!(wait, Duration::from_secs(23 * 3_600));
}

#[test]
fn a_reload_keeps_the_counts_of_a_limit_that_it_leaves_and_begins_a_changed_one_anew() {
    let scene = Scene::new();
    let set = policies(TWO_A_SECOND);
    for _ in 0..2 {
        scene.wait(&set, "ann");
    }
    let other = policies(&format!("{TWO_A_SECOND}  - {{name: else, limit: {{requests: 9, every: 1s}}}}\n"));
    assert!(scene.wait(&other, "ann").is_some());
    let wider = policies(&TWO_A_SECOND.replace("requests: 2", "requests: 3"));
    assert_eq!(scene.wait(&wider, "ann"), None);
}

#[test]
fn a_stream_that_goes_on_is_not_counted_again() {
    let scene = Scene::new();
    let set = policies("  - {name: one, limit: {requests: 1, every: 1h}}\n");
    let cleared = scene.gates.clear(scene.permit(&set, "ann")).unwrap();
    let lease = cleared.permit().lease(StreamLimits::default());
    scene.clock.advance(Duration::from_secs(60));
    assert!(scene.wait(&set, "ann").is_some());
    assert_eq!(set.renew(&lease, scene.clock.now()), Ok(()));
}

#[tokio::test]
async fn what_must_be_reviewed_is_held_by_a_gate_that_can_ask_no_code_host() {
    let scene = Scene::new();
    let set = policies(
        "  - {name: reviewed, review: {gerrit: main, project: ml/vision, branch: main}, approval: {by: [{subject: boss}]}}\nsubjects: {boss: [{issuer: corp, group: boss}]}\n",
    );
    let held = [
        scene.gates.clear(scene.permit(&set, "ann")).unwrap_err(),
        scene
            .gates
            .clear_approved(scene.permit(&set, "ann"), BodyKnown::Whole, &Revoked::default())
            .await
            .unwrap_err(),
    ];
    let words = ["it cannot be asked for here", "it is about no model and no job whose commit could be told"];
    for (held, why) in held.into_iter().zip(words) {
        let Denial { code, cause, entry, .. } = held.denial;
        assert_eq!(code, DenialCode::ReviewRequired);
        assert!(
            cause.starts_with("entry `reviewed` demands a change merged to") && cause.ends_with(why),
            "{cause}"
        );
        assert_eq!(entry.unwrap().line, 5);
        // Nobody is asked about what was not reviewed.
        assert!(held.waits.is_none() && held.permit.judgement().asks());
    }
}

#[test]
fn counters_that_are_forgotten_are_those_that_are_full_again() {
    let scene = Scene::new();
    let set = policies(TWO_A_SECOND);
    for _ in 0..2 {
        scene.wait(&set, "ann");
    }
    scene.gates.tidy();
    assert!(scene.wait(&set, "ann").is_some());
    scene.clock.advance(Duration::from_secs(60));
    scene.gates.tidy();
    assert_eq!(scene.wait(&set, "ann"), None);
}
