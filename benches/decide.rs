//! What a decision costs with 10, 100 and 10,000 entries, in the shapes that policies grow in.
//!
//! `cargo bench --bench decide`; figures that were seen stand in `benches/README.md`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a bench that cannot go on should say so and stop"
)]

use std::{fmt::Write, hint::black_box, sync::Arc};

use amlgate::{
    azureml::{Act, Action, Audience, Effects, Facts, Kind, Operation, Protocol, ResourceId, Secrets},
    http::Target,
    identity::{Caller, Groups, PrincipalId, PrincipalKind},
    policy::{DecisionId, FileSet, PolicySet, Question, RequestFacts, Standing, Surroundings},
    time::Timestamp,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const WORKSPACES: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces";

/// How a set grows: what tells its entries apart.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Each team has its workspace.
    Teams,
    /// One team, many workspaces.
    Scopes,
    /// One team, many single actions.
    Actions,
    /// Many workspaces with a guardrail each.
    Guardrails,
    /// Each team has its workspace, on a condition; the entry that allows has one, too.
    Conditions,
    /// Many workspaces with a guardrail each, on a condition; the entry that allows has one, too.
    ConditionalGuardrails,
}

/// What entries with conditions read: a fact of the request, a claim, the time.
const CONDITION: &str = "when: \"resource.name == 'mine' && caller.claims.?level.orValue(3) >= 3 && now < timestamp('2030-01-01T00:00:00Z')\"";

/// A set of so many entries, the first of which allows the question.
fn set(shape: Shape, entries: usize) -> PolicySet {
    let mut text = String::from("version: 1\nsubjects:\n  mine: [{issuer: corp, group: mine}]\n");
    for number in 0..entries {
        let _ = writeln!(text, "  t{number}: [{{issuer: corp, group: g{number}}}]");
    }
    let condition = match shape {
        Shape::Teams | Shape::Scopes | Shape::Actions | Shape::Guardrails => String::new(),
        Shape::Conditions | Shape::ConditionalGuardrails => format!(", {CONDITION}"),
    };
    let _ = write!(
        text,
        "allow:\n  - {{name: mine, who: [mine], role: AzureML Data Scientist, scope: {WORKSPACES}/mine{condition}}}\n"
    );
    let (mut allow, mut deny) = (String::new(), String::new());
    for number in 1..entries {
        let scope = format!("{WORKSPACES}/w{number}");
        let _ = match shape {
            Shape::Teams | Shape::Conditions => writeln!(
                allow,
                "  - {{name: e{number}, who: [t{number}], role: AzureML Data Scientist, scope: {scope}{condition}}}"
            ),
            Shape::Scopes => writeln!(
                allow,
                "  - {{name: e{number}, who: [mine], role: AzureML Data Scientist, scope: {scope}}}"
            ),
            Shape::Actions => writeln!(
                allow,
                "  - {{name: e{number}, who: [mine], actions: [Microsoft.Other/things{number}/read]}}"
            ),
            Shape::Guardrails | Shape::ConditionalGuardrails => {
                writeln!(
                    deny,
                    "  - {{name: e{number}, effects: [expose_network], scope: {scope}{condition}}}"
                )
            }
        };
    }
    text.push_str(&allow);
    if !deny.is_empty() {
        text.push_str("deny:\n");
        text.push_str(&deny);
    }
    let files = FileSet::from_texts([("bench.yaml", text.as_str())]);
    PolicySet::compile(&files, &Surroundings::default()).expect("the set compiles").0
}

fn decide(criterion: &mut Criterion) {
    let caller = Caller {
        id: PrincipalId { issuer: "corp".into(), subject: "t/ann".into() },
        kind: PrincipalKind::Person,
        tenant: Some("t".into()),
        client: Some("app".into()),
        display: None,
        groups: Groups::Known((0..20).map(|n| format!("other{n}").into()).chain(["mine".into()]).collect()),
        reviewers: None,
        roles: Arc::new([]),
        claims: Arc::default(),
        expires: Timestamp::from_secs(2_000_000_000),
        from_pull_request: false,
        subjects_at_issue: None,
        human: None,
        token_digest: [7; 32],
    };
    let operation = Operation {
        name: "Jobs_List".into(),
        acts: vec![Act {
            action: Action::new("Microsoft.MachineLearningServices/workspaces/jobs/read"),
            resource: ResourceId::parse(&format!("{WORKSPACES}/mine")),
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
    let now = Timestamp::from_secs(1_795_435_200);
    let request = RequestFacts {
        decision: DecisionId::fresh(),
        route: "arm".into(),
        method: http::Method::GET,
        target: Target::parse("gate", "/subscriptions/s/jobs").expect("a target"),
        headers: http::HeaderMap::new(),
        body: None,
        source: "10.0.0.1:1".parse().expect("an address"),
        received: now,
        glass: None,
    };
    let question = Question {
        caller: &caller,
        operation: &operation,
        request: &request,
        now,
        standing: Standing::Entries,
        azure: &amlgate::policy::rights::UNREAD,
    };
    let mut group = criterion.benchmark_group("decide");
    let stranger = Caller { groups: Groups::Known(Arc::new([])), token_digest: [8; 32], ..caller.clone() };
    let refused = Question { caller: &stranger, ..question };
    for shape in [
        Shape::Teams,
        Shape::Scopes,
        Shape::Actions,
        Shape::Guardrails,
        Shape::Conditions,
        Shape::ConditionalGuardrails,
    ] {
        for entries in [10, 100, 10_000] {
            let set = set(shape, entries);
            assert!(set.judge(&question).denial.is_none());
            group.bench_function(BenchmarkId::new(format!("{shape:?}"), entries), |bencher| {
                bencher.iter(|| set.judge(black_box(&question)));
            });
            // A denial with its cause and cure.
            assert!(set.judge(&refused).denial.is_some());
            group.bench_function(BenchmarkId::new(format!("{shape:?}, denied"), entries), |bencher| {
                bencher.iter(|| set.judge(black_box(&refused)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
