//! Claims about decisions, on small sets.

mod agents;
mod approvals;
mod break_glass;
mod decisions;
mod loading;
mod opinions;
mod properties;
mod recorded;
mod reviewers;
mod reviews;
mod rights;
mod selectors;
mod step_up;
mod triggers;

use std::sync::Arc;

use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::{
    DecisionId, FileSet, Judgement, PolicySet, Question, RequestFacts, Standing, Surroundings, judge,
};
use crate::{
    azureml::{Act, Action, Audience, Effects, Facts, Kind, Operation, Protocol, ResourceId, Secrets},
    http::Target,
    identity::{Caller, Groups, PrincipalId, PrincipalKind},
    time::Timestamp,
};

pub(super) const ML: &str = "Microsoft.MachineLearningServices";
pub(super) const WS_A: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/a";

/// Monday, 23 November 2026, 12:00 UTC: 13:00 in Zurich.
pub(super) fn noon() -> Timestamp {
    Timestamp::from_secs(1_795_435_200)
}

pub(super) fn set(text: &str) -> PolicySet {
    let files = FileSet::from_texts([("p.yaml", text)]);
    match PolicySet::compile(&files, &Surroundings::default()) {
        Ok((set, warnings)) => {
            assert_eq!(warnings, vec![]);
            set
        }
        Err(problems) => {
            panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// A caller of issuer `corp` in these groups.
pub(super) fn caller(groups: &[&str]) -> Caller {
    Caller {
        id: PrincipalId { issuer: "corp".into(), subject: "t/ann".into() },
        kind: PrincipalKind::Person,
        tenant: Some("t".into()),
        client: Some("app".into()),
        display: None,
        groups: Groups::Known(groups.iter().map(|g| (*g).into()).collect()),
        roles: Arc::new([]),
        claims: Arc::new(json!({"sub": "ann"}).as_object().cloned().unwrap_or_default()),
        expires: noon().plus(std::time::Duration::from_secs(3600)),
        from_pull_request: false,
        subjects_at_issue: None,
        reviewers: None,
        human: None,
        token_digest: [0; 32],
    }
}

/// `jobs/read` and the like on a resource.
pub(super) fn act(action: &str, resource: &str) -> Act {
    Act { action: Action::new(&format!("{ML}/workspaces/{action}")), resource: ResourceId::parse(resource) }
}

pub(super) fn operation(kind: Kind, acts: Vec<Act>) -> Operation {
    Operation {
        name: "Test".into(),
        acts,
        kind,
        effects: Effects::NONE,
        unclear_effects: Effects::NONE,
        secrets: Secrets::NONE,
        facts: Facts::default(),
        audience: Audience::Arm,
        long_running: false,
        protocol: Protocol::Arm,
    }
}

/// Reads jobs of workspace a.
pub(super) fn list_jobs() -> Operation {
    operation(Kind::Read, vec![act("jobs/read", WS_A)])
}

pub(super) fn request(method: Method, path: &str) -> RequestFacts {
    RequestFacts {
        decision: DecisionId::fresh(),
        route: "arm".into(),
        method,
        target: Target::parse("gate", path).unwrap(),
        headers: HeaderMap::new(),
        body: None,
        source: "10.1.2.3:4000".parse().unwrap(),
        received: noon(),
        glass: None,
    }
}

/// Judges at noon, by the index and by looking at every entry, which must agree.
pub(super) fn judge_at(
    set: &PolicySet,
    caller: &Caller,
    operation: &Operation,
    request: &RequestFacts,
    now: Timestamp,
) -> Judgement {
    let question = Question {
        caller,
        operation,
        request,
        now,
        standing: Standing::Entries,
        azure: &crate::policy::rights::UNREAD,
    };
    agreed(set, &question)
}

pub(super) fn agreed(set: &PolicySet, question: &Question<'_>) -> Judgement {
    let indexed = set.judge(question);
    let everything = judge::judge(set, question, &super::Hypothesis::default(), judge::Reach::Everything);
    assert_eq!(indexed, everything);
    indexed
}

pub(super) fn judged(set: &PolicySet, caller: &Caller, operation: &Operation) -> Judgement {
    judge_at(set, caller, operation, &request(Method::GET, "/x"), noon())
}

/// `allow`, or the code of the denial.
pub(super) fn verdict(judgement: &Judgement) -> &'static str {
    judgement.denial.as_ref().map_or("allow", |denial| denial.code.name())
}
