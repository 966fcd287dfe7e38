//! What a condition says of a request.

mod refused;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::{
    azureml::{
        Action, Allocation, Audience, Effect, Effects, Facts, Inspected, Kind, Operation, Protocol,
        ResourceId, Secrets,
    },
    http::Target,
    identity::{Caller, Groups, PrincipalId, PrincipalKind},
    policy::{DecisionId, RequestFacts, Standing},
    time::Timestamp,
};

const JOB: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/Vision/jobs/J1";

/// A request with something of everything.
struct Scene {
    caller: Caller,
    operation: Operation,
    request: RequestFacts,
}

fn scene() -> Scene {
    let claims = json!({
        "repository_id": "42", "ref": "refs/heads/main", "level": 3, "ratio": 0.5, "admin": true, "none": null,
        "amr": ["pwd", "mfa"], "nested": {"team": "A", "size": 18_446_744_073_709_551_615_u64}, "Mixed": "Case"
    });
    let Value::Object(claims) = claims else { panic!("an object") };
    let body = json!({"properties": {"computeType": "AmlCompute", "count": 4, "list": [1, 2, 3],
        "items": [{"name": "a"}, {"Name": "b"}]}, "tags": {"Team": "Red"}});
    let mut headers = http::HeaderMap::new();
    headers.append("x-one", "1".parse().unwrap());
    headers.append("x-two", "a".parse().unwrap());
    headers.append("x-two", "b".parse().unwrap());
    Scene {
        caller: Caller {
            id: PrincipalId { issuer: "corp".into(), subject: "t/ann".into() },
            kind: PrincipalKind::Person,
            tenant: Some("t".into()),
            client: None,
            display: None,
            groups: Groups::Known(["g1".into(), "g2".into()].into()),
            roles: ["Reader".into()].into(),
            claims: Arc::new(claims),
            expires: Timestamp::from_secs(2_000_000_000),
            from_pull_request: false,
            subjects_at_issue: None,
            reviewers: None,
            human: None,
            token_digest: [0; 32],
        },
        operation: Operation {
            name: "Jobs_CreateOrUpdate".into(),
            acts: vec![Act {
                action: Action::new("Microsoft.MachineLearningServices/workspaces/jobs/write"),
                resource: ResourceId::parse(JOB),
            }],
            kind: Kind::Write,
            effects: Effects::NONE.with(Effect::AllocateCompute),
            unclear_effects: Effects::NONE,
            secrets: Secrets::NONE,
            facts: Facts {
                allocates: Some(Box::new(Allocation {
                    nodes: Some(8),
                    skus: Some(vec!["Standard_ND96isr_H100_v5".to_owned()]),
                    gpus: None,
                    hours: Some(1.5),
                })),
                experiment: Some("churn".to_owned()),
                container: None,
                blob: None,
                tags: Some(BTreeMap::from([("Team".to_owned(), "Red".to_owned())])),
                descends: Vec::new(),
            },
            audience: Audience::Arm,
            long_running: false,
            protocol: Protocol::Arm,
        },
        request: RequestFacts {
            decision: DecisionId::fresh(),
            route: "arm".into(),
            method: http::Method::PUT,
            target: Target::parse("management.azure.com", &format!("{JOB}?api-version=2025-12-01&a=1&A=2"))
                .unwrap(),
            headers,
            body: Some(Arc::new(Inspected::parse(body.to_string().as_bytes()).unwrap())),
            source: "[::ffff:10.1.2.3]:4000".parse().unwrap(),
            received: noon(),
            glass: None,
        },
    }
}

/// Monday, 23 November 2026, 12:00 UTC: 13:00 in Zurich.
fn noon() -> Timestamp {
    Timestamp::from_secs(1_795_435_200)
}

impl Scene {
    fn with<T>(&self, look: impl FnOnce(&Roots<'_>) -> T) -> T {
        let question = Question {
            caller: &self.caller,
            operation: &self.operation,
            request: &self.request,
            now: noon(),
            standing: Standing::Entries,
            azure: &crate::policy::rights::UNREAD,
        };
        look(&Roots { question: &question, act: &self.operation.acts[0] })
    }

    fn holds(&self, text: &str) -> Result<bool, Unevaluable> {
        let condition = Condition::compile(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        self.with(|roots| condition.evaluate(roots))
    }

    fn read(&self, text: &str) -> Vec<(String, Value)> {
        let condition = Condition::compile(text).unwrap();
        self.with(|roots| condition.read(roots))
    }
}

fn holds(text: &str) -> Result<bool, Unevaluable> {
    scene().holds(text)
}

fn why(text: &str) -> String {
    scene().holds(text).expect_err(text).0
}

#[test]
fn every_member_is_read() {
    for text in [
        "caller.issuer == 'corp'",
        "caller.subject.endsWith('/ann')",
        "caller.kind == 'person'",
        "caller.tenant == 't'",
        "!has(caller.client)",
        "caller.groups == ['g1', 'g2']",
        "'g1' in caller.groups && !('g3' in caller.groups)",
        "caller.roles.exists(r, r == 'Reader')",
        "caller.claims.repository_id == '42'",
        "caller.claims['ref'].startsWith('refs/heads/')",
        "caller.claims.level >= 3 && caller.claims.level < 3.5",
        "caller.claims.ratio == 0.5",
        "caller.claims.admin",
        "caller.claims.none == null && caller.claims.level != null",
        "caller.claims.amr[1] == 'mfa' && size(caller.claims.amr) == 2",
        "caller.claims.nested.size == 18446744073709551615u",
        "'nested' in caller.claims && !('other' in caller.claims)",
        "caller.claims.nested.exists(k, k == 'team')",
        "action == 'Microsoft.MachineLearningServices/workspaces/jobs/write'",
        "resource.id.startsWith('/subscriptions/s/')",
        "resource.type == 'Microsoft.MachineLearningServices/workspaces/jobs'",
        "resource.name == 'J1'",
        "resource.workspace == 'Vision'",
        "resource.tags.Team == 'Red'",
        "resource.experiment == 'churn'",
        "!has(resource.container) && !has(resource.blob)",
        "route == 'arm'",
        "request.method == 'PUT'",
        "request.path.contains('/workspaces/')",
        "request.query['api-version'] == '2025-12-01'",
        "request.headers['x-one'] == '1' && request.headers['x-two'] == 'a, b'",
        "!has(request.headers.missing)",
        "request.body.properties.computeType == 'AmlCompute'",
        "request.body.properties.list.all(n, n > 0) && request.body.properties.list[2] == 3",
        "request.body.properties.items.exists(i, i.name == 'b')",
        "request.source == '10.1.2.3'",
        "allocates.nodes > 4",
        "allocates.hours == 1.5",
        "allocates.skus.exists(s, s.matches('(?i)^standard_(nd|nc).*h100'))",
        "now > timestamp('2026-11-23T00:00:00Z') && now.getHours('Europe/Zurich') == 13",
        "now.getDayOfWeek() == 1 && now - timestamp('2026-11-23T11:00:00Z') == duration('1h')",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
        assert_eq!(holds(&format!("!({text})")), Ok(false), "{text}");
    }
}

#[test]
fn optional_values_have_defaults() {
    for text in [
        "caller.?client.orValue('none') == 'none'",
        "caller.claims.?missing.orValue('x') == 'x'",
        "caller.claims.?ref.orValue('x') == 'refs/heads/main'",
        "caller.claims[?'ref'].hasValue() && !caller.claims[?'missing'].hasValue()",
        "caller.claims.?nested.team.orValue('') == 'A'",
        "caller.claims.?missing.team.orValue('') == ''",
        "caller.claims.amr[?7].orValue('') == ''",
        "resource.?experiment.orValue('').startsWith('ch')",
        "request.body.?properties.?nothing.?more.orValue(7) == 7",
        "optional.of('x').orValue('y') == 'x' && optional.none().orValue('y') == 'y'",
        "caller.claims.?missing.or(caller.claims.?ref).value() == 'refs/heads/main'",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
    }
}

#[test]
fn what_azure_compares_without_case_compares_without_case() {
    for text in [
        "resource.workspace == 'VISION' && resource.workspace != 'other'",
        "!(resource.workspace != 'vision')",
        "resource.name in ['j0', 'j1']",
        "resource.type.endsWith('/JOBS')",
        "resource.id.contains('/WORKSPACES/vision/')",
        "resource.tags.team == 'red'",
        "action.startsWith('microsoft.')",
        "action.matches('^microsoft[.]')",
        "'STANDARD_nd96isr_h100_V5' in allocates.skus",
        "allocates.skus.exists(s, s.startsWith('standard_nd'))",
        "allocates.skus == ['standard_ND96isr_H100_v5']",
        "request.path.startsWith('/SUBSCRIPTIONS/')",
        "request.body.PROPERTIES.ComputeType == 'amlcompute'",
        "has(request.body.Properties.Computetype)",
        "'TEAM' in request.body.tags",
        "request.body.tags.exists(k, k == 'team')",
        "request.body.?TAGS.?TEAM.orValue('') == 'RED'",
        "request.body.properties.items.all(i, i.NAME.matches('^[AB]$'))",
        "['VISION', 'x'].exists(w, resource.workspace == w)",
        "request.headers['X-One'] == '1' && request.query['API-Version'] == '2025-12-01'",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
    }
    for text in [
        "caller.claims.Mixed == 'case'",
        "caller.claims.Mixed.startsWith('ca')",
        "caller.claims.Mixed.matches('^case$')",
        "has(caller.claims.mixed)",
        "caller.groups.exists(g, g == 'G1')",
        "route == 'ARM'",
    ] {
        assert_eq!(holds(text), Ok(false), "{text}");
    }
}

#[test]
fn what_has_no_value_says_why() {
    for (text, expected) in [
        ("caller.claims.missing == 'x'", "`caller.claims.missing` is absent"),
        ("caller.claims.nested.missing == 'x'", "`caller.claims.nested.missing` is absent"),
        ("has(caller.claims.missing.more)", "`caller.claims.missing` is absent"),
        ("caller.client == 'x'", "`caller.client` is absent"),
        ("resource.blob == 'x'", "`resource.blob` is absent"),
        ("caller.claims.level == '3'", "a number cannot be compared with text"),
        ("caller.claims.level != '3'", "a number cannot be compared with text"),
        ("caller.claims.ref in [1, 2]", "text cannot be compared with a number"),
        ("3 in caller.claims.amr", "a number cannot be compared with text"),
        ("'a' in caller.claims.ref", "`in` looks into lists and objects, not into text"),
        ("caller.claims.nested == caller.claims.nested", "objects cannot be compared: compare their members"),
        ("caller.claims.level.startsWith('x')", "a value is of another type than the condition needs"),
        ("caller.claims.level > 'x'", "a value is of another type than the condition needs"),
        ("caller.claims.ref.missing == 1", "a value is of another type than the condition needs"),
        ("caller.claims.?ref.?more.hasValue()", "text has no members"),
        ("caller.claims.level / 0 == 1", "a division by zero"),
        ("caller.claims.level * 9223372036854775807 == 1", "a number is too large"),
        ("caller.claims.amr[7] == 'x'", "a list has no such item"),
        ("int(caller.claims.ref) == 1", "a value cannot be converted"),
        ("caller.claims.ref", "it is string and not true or false"),
        ("allocates.gpus > 1", "the request does not tell how much it may reserve"),
        ("request.query.a == '1'", "the query has the key twice"),
    ] {
        assert_eq!(why(text), expected, "{text}");
    }
}

#[test]
fn a_side_that_decides_is_enough() {
    for text in [
        "caller.claims.missing == 'x' || caller.issuer == 'corp'",
        "allocates.gpus > 4 || allocates.nodes > 4",
        "!(caller.claims.missing == 'x' && caller.issuer == 'other')",
        "!(has(caller.claims.missing) && caller.claims.missing == 'x')",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
    }
}

#[test]
fn what_is_not_to_be_known_is_covered_up_by_nothing() {
    let mut unknown = scene();
    unknown.caller.groups = Groups::Overage;
    unknown.operation.acts[0].resource = None;
    unknown.operation.facts.allocates = None;
    for text in [
        "'g9' in caller.groups",
        "has(caller.groups)",
        "caller.?groups.hasValue()",
        "caller.?groups.orValue([]).exists(g, g == 'g9')",
        "has(resource.id)",
        "has(resource.workspace) && resource.workspace == 'Vision'",
        "resource.?workspace.orValue('') == 'Vision'",
        "has(allocates.nodes) && allocates.nodes > 4",
        "allocates.?nodes.orValue(0) > 4",
        "allocates[?'nodes'].orValue(0) > 4",
    ] {
        assert!(unknown.holds(text).is_err(), "{text}");
    }
    // A handle stands for a person without carrying the person's claims.
    let mut handle = scene();
    handle.caller.subjects_at_issue = Some([].into());
    for text in ["has(caller.claims.ref)", "caller.?groups.orValue([]) == []", "has(caller.tenant)"] {
        assert_eq!(
            handle.holds(text),
            Err(Unevaluable("a caller with a handle has no claims".to_owned())),
            "{text}"
        );
    }
    assert_eq!(handle.holds("caller.issuer == 'corp'"), Ok(true));
}

#[test]
fn what_reserves_nothing_reserves_no_node() {
    let mut plain = scene();
    plain.operation.facts.allocates = None;
    plain.operation.effects = Effects::NONE;
    assert_eq!(
        plain.holds("allocates.nodes == 0 && allocates.gpus == 0 && allocates.hours == 0.0"),
        Ok(true)
    );
    assert_eq!(plain.holds("allocates.skus == []"), Ok(true));
    plain.operation.unclear_effects = Effects::NONE.with(Effect::AllocateCompute);
    assert!(plain.holds("allocates.nodes == 0").is_err());
}

#[test]
fn a_body_that_is_not_there_is_absent() {
    let mut empty = scene();
    empty.request.body = None;
    assert_eq!(empty.holds("has(request.body)"), Ok(false));
    assert_eq!(empty.holds("request.body.a == 1"), Err(Unevaluable("`request.body` is absent".to_owned())));
}

#[test]
fn the_record_has_what_was_read_and_no_secret() {
    let text = "caller.claims.level == 3 && request.body.properties.count == 4 && has(caller.claims.missing) \
                && caller.claims.access_token == 'x' && request.headers.authorization != ''";
    let mut scene = scene();
    scene.request.headers.insert("authorization", "Bearer canary".parse().unwrap());
    let claims = json!({"level": 3, "access_token": "canary"});
    let Value::Object(claims) = claims else { panic!("an object") };
    scene.caller.claims = Arc::new(claims);
    assert_eq!(
        scene.read(text),
        [
            ("caller.claims.access_token".to_owned(), json!("(redacted)")),
            ("caller.claims.level".to_owned(), json!(3)),
            ("caller.claims.missing".to_owned(), Value::Null),
            ("request.headers.authorization".to_owned(), json!("(redacted)")),
            ("request.body.properties.count".to_owned(), json!(4)),
        ]
        .into_iter()
        .collect::<BTreeMap<_, _>>()
        .into_iter()
        .collect::<Vec<_>>()
    );
    let long = scene.read("caller.subject == 'x'");
    assert_eq!(long, [("caller.subject".to_owned(), json!("t/ann"))]);
}

#[test]
fn a_long_value_is_cut_in_the_record() {
    let mut scene = scene();
    scene.caller.id.subject = "x".repeat(5_000).into();
    let read = scene.read("caller.subject == 'x'");
    assert!(read[0].1.to_string().len() <= 300, "{}", read[0].1);
}
