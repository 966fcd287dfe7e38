use std::{path::Path, sync::Arc};

use amlgate::{
    azureml::{
        Act, Action, Audience, Effect, Effects, Facts, Kind, Operation, Protocol, ResourceId, SecretClass,
        Secrets,
    },
    http::Target,
    identity::{Caller, Groups, PrincipalId, PrincipalKind},
    policy::{
        DecisionId, Judgement, PolicySet, Question, RequestFacts, SecretTreatment, Standing, Surroundings,
    },
    time::Timestamp,
};
use serde_json::{Value, json};

use super::golden;

const VISION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/vision";
const OTHER: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/vision2";

/// Monday, 23 November 2026, 12:00 UTC: 13:00 in Zurich.
const NOON: Timestamp = Timestamp::from_secs(1_795_435_200);
/// The same day, 23:00 in Zurich.
const NIGHT: Timestamp = Timestamp::from_secs(1_795_471_200);
/// 2 February 2027, noon: after the dry runs.
const LATER: Timestamp = Timestamp::from_secs(1_801_569_600);

const DATA_SCIENTISTS: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
const PLATFORM: &str = "0f1bb3f1-51b8-4cd9-8a3f-6a5f3fb2b0aa";
const AUDITORS: &str = "a4b1d5c2-7a54-4b8c-9f0e-1d2c3b4a5f60";

struct Asker {
    label: &'static str,
    caller: Caller,
    source: &'static str,
    now: Timestamp,
}

fn caller(issuer: &str, groups: Groups, claims: Value) -> Caller {
    Caller {
        id: PrincipalId { issuer: issuer.into(), subject: "s".into() },
        kind: PrincipalKind::Person,
        tenant: None,
        client: None,
        display: None,
        groups,
        roles: Arc::new([]),
        claims: Arc::new(claims.as_object().cloned().unwrap_or_default()),
        expires: LATER,
        subjects_at_issue: None,
        token_digest: [0; 32],
    }
}

fn askers() -> Vec<Asker> {
    let groups = |all: &[&str]| Groups::Known(all.iter().map(|g| (*g).into()).collect());
    let corp = |all: &[&str]| caller("corp", groups(all), json!({}));
    let github = |git_ref: &str, event: &str| {
        caller("github", groups(&[]), json!({"repository_id": "42", "ref": git_ref, "event_name": event}))
    };
    let (office, home) = ("10.1.2.3:1", "192.0.2.1:1");
    let asker = |label, caller, source, now| Asker { label, caller, source, now };
    vec![
        asker("data scientist", corp(&[DATA_SCIENTISTS]), office, NOON),
        asker("data scientist, at home", corp(&[DATA_SCIENTISTS]), home, NOON),
        asker("data scientist, at home, 2027", corp(&[DATA_SCIENTISTS]), home, LATER),
        asker("platform", corp(&[PLATFORM]), office, NOON),
        asker("platform, at night", corp(&[PLATFORM]), office, NIGHT),
        asker("platform, 2027", corp(&[PLATFORM]), office, LATER),
        asker("CI, main", github("refs/heads/main", "push"), home, NOON),
        asker("CI, pull request", github("refs/pull/7/merge", "pull_request"), home, NOON),
        asker("auditor", corp(&[AUDITORS]), office, NOON),
        asker("stranger", corp(&[]), office, NOON),
        asker("groups not in the token", caller("corp", Groups::Overage, json!({})), office, NOON),
        asker("same group, other issuer", caller("portal", groups(&[PLATFORM]), json!({})), office, NOON),
    ]
}

struct Asked {
    label: &'static str,
    operation: Operation,
}

fn asked(label: &'static str, kind: Kind, acts: &[(&str, &str)]) -> Asked {
    let acts = acts
        .iter()
        .map(|(action, resource)| Act {
            action: Action::new(&format!("Microsoft.MachineLearningServices/workspaces/{action}")),
            resource: ResourceId::parse(resource),
        })
        .collect();
    let operation = Operation {
        name: label.into(),
        acts,
        kind,
        effects: Effects::NONE,
        unclear_effects: Effects::NONE,
        secrets: Secrets::NONE,
        facts: Facts::default(),
        audience: Audience::Arm,
        long_running: false,
        protocol: Protocol::Arm,
    };
    Asked { label, operation }
}

impl Asked {
    fn effects(mut self, effects: &[Effect]) -> Self {
        self.operation.effects = effects.iter().copied().collect();
        self
    }

    fn secrets(mut self, secrets: &[SecretClass]) -> Self {
        self.operation.secrets = secrets.iter().copied().collect();
        self
    }
}

fn operations() -> Vec<Asked> {
    use Kind::{Action as Act, Delete, Read, Write};
    let below = |path: &str| format!("{VISION}/{path}");
    let (job, model) = (below("jobs/j"), below("models/churn/versions/3"));
    let (compute, endpoint) = (below("computes/c"), below("onlineEndpoints/e"));
    let (datastore, connection) = (below("datastores/d"), below("connections/c"));
    vec![
        asked("read the workspace", Read, &[("read", VISION)]),
        asked("list jobs", Read, &[("jobs/read", VISION)]),
        asked("list jobs of another workspace", Read, &[("jobs/read", OTHER)]),
        asked("submit a job", Write, &[("jobs/write", &job)])
            .secrets(&[SecretClass::RunToken])
            .effects(&[Effect::AllocateCompute]),
        asked(
            "submit a job that registers",
            Write,
            &[("jobs/write", &job), ("models/versions/write", &model)],
        )
        .effects(&[Effect::AllocateCompute, Effect::RegisterModel]),
        asked("get an upload URL", Act, &[("datastores/read", &datastore)])
            .secrets(&[SecretClass::UploadSas]),
        asked("cancel a job", Act, &[("jobs/cancel/action", &job)]),
        asked("register a model", Write, &[("models/versions/write", &model)])
            .effects(&[Effect::RegisterModel]),
        asked("delete a model", Delete, &[("models/versions/delete", &model)]),
        asked("create a compute", Write, &[("computes/write", &compute)]).effects(&[Effect::AllocateCompute]),
        asked("stop a compute", Act, &[("computes/stop/action", &compute)]).effects(&[Effect::StopCompute]),
        asked("list a compute's keys", Act, &[("computes/listKeys/action", &compute)])
            .secrets(&[SecretClass::ComputeKey]),
        asked("create an endpoint", Write, &[("onlineEndpoints/write", &endpoint)]),
        asked("create a public endpoint", Write, &[("onlineEndpoints/write", &endpoint)])
            .effects(&[Effect::ExposeNetwork]),
        asked("deploy to an endpoint", Write, &[("onlineEndpoints/deployments/write", &endpoint)])
            .effects(&[Effect::DeployModel]),
        asked("score", Act, &[("onlineEndpoints/score/action", &endpoint)]),
        asked("list an endpoint's keys", Act, &[("onlineEndpoints/listKeys/action", &endpoint)])
            .secrets(&[SecretClass::EndpointKey]),
        asked("list a datastore's secrets", Act, &[("datastores/listsecrets/action", &datastore)])
            .secrets(&[SecretClass::Datastore]),
        asked("list a connection's secrets", Act, &[("connections/listsecrets/action", &connection)])
            .secrets(&[SecretClass::Connection]),
        asked("list the workspace's keys", Act, &[("listKeys/action", VISION)])
            .secrets(&[SecretClass::WorkspaceKey]),
        asked("open the workspace to the internet", Write, &[("write", VISION)])
            .effects(&[Effect::ExposeNetwork]),
        asked("change who may access", Write, &[("write", VISION)]).effects(&[Effect::ChangeAccess]),
        asked("delete the workspace", Delete, &[("delete", VISION)]),
    ]
}

fn line(asker: &str, asked: &str, judgement: &Judgement) -> String {
    let names = |entries: &mut dyn Iterator<Item = &amlgate::policy::EntryRef>| {
        let mut names: Vec<_> = entries.map(|e| e.name.to_string()).collect();
        names.dedup();
        names.join(" + ")
    };
    let (decision, by) = match &judgement.denial {
        None => ("allow", names(&mut judgement.allowed_by.iter())),
        Some(denial) => {
            let by = denial.entry.as_ref().map(|entry| entry.name.to_string()).unwrap_or_default();
            (denial.code.name(), by)
        }
    };
    let mut notes = Vec::new();
    if judgement.denial.is_none() {
        notes.extend(judgement.secrets.iter().map(|(class, how)| match how {
            SecretTreatment::Substitute => format!("{} as a handle", class.name()),
            SecretTreatment::Reveal => format!("{} revealed", class.name()),
        }));
    }
    if !judgement.would_deny.is_empty() {
        notes.push(format!("would be denied by: {}", names(&mut judgement.would_deny.iter())));
    }
    let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) };
    format!("{asker:29}  {asked:34}  {decision:25}  {by}{notes}").trim_end().to_owned()
}

#[test]
fn the_shipped_policies_decide_as_the_matrix_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let around = Surroundings {
        issuers: Some(["corp", "github"].map(ToOwned::to_owned).into()),
        routes: Some(["arm", "data-plane"].map(ToOwned::to_owned).into()),
    };
    let (set, warnings) = PolicySet::load(&directory, &around).expect("the shipped policies compile");
    assert_eq!(warnings, vec![]);
    let mut table = String::from(
        "What the policies under policies/ decide: who, what, decision, by which entry.\n\
         Office is 10.1.2.3 on Monday, 23 November 2026, 13:00 in Zurich; home is 192.0.2.1.\n",
    );
    for asker in askers() {
        table.push('\n');
        for Asked { label, operation } in operations() {
            let request = RequestFacts {
                decision: DecisionId::fresh(),
                route: "arm".into(),
                method: http::Method::GET,
                target: Target::parse("gate", "/x").expect("a plain target"),
                headers: http::HeaderMap::new(),
                body: None,
                source: asker.source.parse().expect("an address"),
                received: asker.now,
            };
            let judgement = set.judge(&Question {
                caller: &asker.caller,
                operation: &operation,
                request: &request,
                now: asker.now,
                standing: Standing::Entries,
            });
            table.push_str(&line(asker.label, label, &judgement));
            table.push('\n');
        }
    }
    golden("shipped.txt", &table);
}
