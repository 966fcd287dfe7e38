//! What Event Grid announced of guarded workspaces and this record does not have: models that were
//! registered or deployed, and runs that completed, around the gate.
//!
//! An announcement carries no correlation id. It is joined by what it names; where a record does not
//! name it (a model that MLflow registers is named in the body), the record stands for one
//! announcement of its time and no more. What a job registers is announced without the job: such an
//! announcement is named, with the recorded jobs that may have done it.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::Value;

use crate::time::Timestamp;

/// What Azure's event types of this kind begin with.
const TYPES: &str = "Microsoft.MachineLearningServices.";
/// A record that does not say which model it registers counts for announcements of this time around it.
const NEAR: std::time::Duration = std::time::Duration::from_secs(3_600);
/// At most so many jobs are named that may have registered a model.
const MOST_JOBS: usize = 8;

/// What was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A model, or a version of one.
    ModelRegistered,
    /// A model at an endpoint.
    ModelDeployed,
    /// A run.
    RunCompleted,
}

/// An announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Event Grid's id: it delivers at least once.
    id: String,
    kind: Kind,
    time: String,
    at: Timestamp,
    /// The workspace's ARM id.
    workspace: String,
    /// The model, the endpoint or the run.
    name: String,
    version: String,
    /// The run that this one is a part of.
    parent: String,
}

impl Announced {
    /// The workspace's ARM id.
    #[must_use]
    pub fn workspace(&self) -> &str {
        &self.workspace
    }

    /// When.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }
}

/// Reads an export: events in Event Grid's schema or as CloudEvents 1.0, one JSON value with one or
/// many of them, or one on each line. Each once, other types left out.
///
/// # Errors
/// Words on the first event that cannot be read.
pub fn parse(text: &str) -> Result<Vec<Announced>, String> {
    let mut values = Vec::new();
    for (number, value) in (1..).zip(serde_json::Deserializer::from_str(text).into_iter::<Value>()) {
        match value {
            Ok(Value::Array(events)) => values.extend(events),
            Ok(event) => values.push(event),
            Err(error) => return Err(format!("the value number {number} is not JSON: {error}")),
        }
    }
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for (number, event) in (1..).zip(&values) {
        let one = announced(event).map_err(|why| format!("the event number {number} {why}"))?;
        found.extend(one.filter(|one| seen.insert((one.workspace.clone(), one.id.clone()))));
    }
    Ok(found)
}

fn announced(event: &Value) -> Result<Option<Announced>, &'static str> {
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
    // Event Grid's own names, then those of CloudEvents.
    let either =
        |one: &str, other: &str| if text(one).is_empty() { text(other) } else { text(one) }.to_owned();
    let kind = either("eventType", "type");
    if kind.is_empty() {
        return Err("has no `eventType` and no `type`");
    }
    let kind = match kind.strip_prefix(TYPES) {
        Some("ModelRegistered") => Kind::ModelRegistered,
        Some("ModelDeployed") => Kind::ModelDeployed,
        Some("RunCompleted") => Kind::RunCompleted,
        Some(_) | None => return Ok(None),
    };
    let data = |keys: &[&str]| {
        let found = keys.iter().find_map(|key| event.pointer(&format!("/data/{key}"))?.as_str());
        found.unwrap_or_default().to_owned()
    };
    let subject = text("subject");
    let last = subject.rsplit('/').next().unwrap_or_default();
    let or = |said: String, otherwise: &str| if said.is_empty() { otherwise.to_owned() } else { said };
    let (name, version) = match kind {
        Kind::ModelRegistered => {
            let (name, version) = last.rsplit_once(':').unwrap_or((last, ""));
            (
                or(data(&["ModelName", "modelName"]), name),
                or(data(&["ModelVersion", "modelVersion"]), version),
            )
        }
        Kind::ModelDeployed => (or(data(&["ServiceName", "serviceName"]), last), String::new()),
        Kind::RunCompleted => (or(data(&["runId", "RunId"]), last), String::new()),
    };
    let time = either("eventTime", "time");
    let at = chrono::DateTime::parse_from_rfc3339(&time).map_err(|_| "has no time that can be read")?;
    let workspace = either("topic", "source");
    if workspace.is_empty() || name.is_empty() {
        return Err("does not say which workspace, or what in it");
    }
    Ok(Some(Announced {
        id: text("id").to_owned(),
        kind,
        time,
        at: Timestamp::from_millis(u64::try_from(at.timestamp_millis()).unwrap_or_default()),
        workspace: workspace.trim_end_matches('/').to_owned(),
        name,
        version,
        parent: data(&["runProperties/azureml.pipelinerunid"]),
    }))
}

/// What the record says was registered, deployed and submitted.
#[derive(Debug, Default)]
pub struct Known {
    /// By the workspace's ARM id in small letters.
    acts: HashMap<String, Vec<Act>>,
}

#[derive(Debug)]
struct Act {
    effects: Vec<String>,
    job: bool,
    /// What follows the workspace's id, in small letters.
    rest: String,
    at: Timestamp,
    spent: bool,
}

impl Known {
    /// Takes in a record; what is no outcome of a request that Azure took says nothing here.
    pub fn add(&mut self, record: &Value) {
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
        let taken = record.pointer("/http_response/code").and_then(Value::as_u64);
        if text("/unmapped/amlgate/phase") != Some("outcome") || taken.is_none_or(|code| code >= 400) {
            return;
        }
        let effects = record.pointer("/unmapped/amlgate/effects").and_then(Value::as_array);
        let effects: Vec<String> =
            effects.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let at = Timestamp::from_millis(record.get("time").and_then(Value::as_u64).unwrap_or_default());
        let mut add = |action: Option<&str>, resource: Option<&str>| {
            let (action, resource) = (action.unwrap_or_default(), resource.unwrap_or_default());
            let Some((workspace, rest)) = split(resource) else { return };
            let job = action.to_ascii_lowercase().ends_with("/jobs/write");
            let act = Act { effects: effects.clone(), job, rest, at, spent: false };
            self.acts.entry(workspace).or_default().push(act);
        };
        match record.pointer("/unmapped/amlgate/acts").and_then(Value::as_array) {
            None => add(text("/api/operation"), text("/resources/0/uid")),
            Some(acts) => {
                for act in acts {
                    let member = |key: &str| act.get(key).and_then(Value::as_str);
                    add(member("action"), member("resource"));
                }
            }
        }
    }
}

/// The id of the workspace (or registry) that a resource is in, and what follows it; in small letters.
fn split(resource: &str) -> Option<(String, String)> {
    let resource = resource.to_ascii_lowercase();
    let kind = ["/workspaces/", "/registries/"].into_iter().find(|kind| resource.contains(kind))?;
    let (before, behind) = resource.split_once(kind)?;
    let (name, rest) = behind.split_once('/').unwrap_or((behind, ""));
    Some((format!("{before}{kind}{name}"), rest.trim_end_matches('/').to_owned()))
}

/// Why an announcement counts as made around the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// No record has it.
    NoRecord,
    /// No record has it, but a recorded job may have done it.
    PerhapsByJob,
}

/// An announcement that the record does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unrecorded {
    /// What happened.
    pub kind: Kind,
    /// When, as Azure says.
    pub time: String,
    /// The workspace's ARM id.
    pub workspace: String,
    /// The model (`NAME:VERSION`), the endpoint or the run.
    pub name: String,
    /// Event Grid's id.
    pub event: String,
    /// Why it counts as done around the gate.
    pub why: Unknown,
    /// Recorded jobs that may have done it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<String>,
}

/// The announcements that the record does not have, oldest first.
#[must_use]
pub fn unrecorded(mut announced: Vec<Announced>, mut known: Known) -> Vec<Unrecorded> {
    announced.sort_by_key(|one| one.at);
    let mut found = Vec::new();
    for one in announced {
        let acts = known.acts.get_mut(&one.workspace.to_ascii_lowercase());
        let acts = acts.map(Vec::as_mut_slice).unwrap_or_default();
        if is_known(&one, acts) {
            continue;
        }
        let may = |act: &&Act| {
            let effects = match one.kind {
                Kind::ModelRegistered => act.effects.iter().any(|effect| effect == "register_model"),
                Kind::ModelDeployed | Kind::RunCompleted => false,
            };
            act.job && effects && act.at <= one.at
        };
        let jobs = acts.iter().filter(may).filter_map(|act| act.rest.strip_prefix("jobs/"));
        let jobs: Vec<String> = jobs.rev().take(MOST_JOBS).map(str::to_owned).collect();
        let name = if one.version.is_empty() { one.name } else { format!("{}:{}", one.name, one.version) };
        found.push(Unrecorded {
            kind: one.kind,
            time: one.time,
            workspace: one.workspace,
            name,
            event: one.id,
            why: if jobs.is_empty() { Unknown::NoRecord } else { Unknown::PerhapsByJob },
            jobs,
        });
    }
    found
}

fn is_known(one: &Announced, acts: &mut [Act]) -> bool {
    let name = one.name.to_ascii_lowercase();
    let effect = match one.kind {
        Kind::ModelRegistered => "register_model",
        Kind::ModelDeployed => "deploy_model",
        Kind::RunCompleted => {
            // The children of a sweep have the job's name before their own; those of a pipeline say it.
            let of = |act: &Act| {
                let Some(job) = act.rest.strip_prefix("jobs/").filter(|_| act.job) else { return false };
                let child =
                    name.strip_prefix(job).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
                child || one.parent.eq_ignore_ascii_case(job)
            };
            return acts.iter().any(of);
        }
    };
    let exactly = format!("models/{name}/versions/{}", one.version.to_ascii_lowercase());
    let named = |act: &Act| {
        act.effects.iter().any(|found| found == effect)
            && match one.kind {
                Kind::ModelRegistered => act.rest == exactly || act.rest == format!("models/{name}"),
                Kind::ModelDeployed | Kind::RunCompleted => {
                    act.rest.split('/').nth(1).is_some_and(|endpoint| endpoint == name)
                }
            }
    };
    if acts.iter().any(named) {
        return true;
    }
    let near = |act: &Act| {
        let unnamed = !act.rest.contains('/') && !act.job && !act.spent;
        let apart = act.at.since(one.at).max(one.at.since(act.at));
        unnamed && act.effects.iter().any(|found| found == effect) && apart <= NEAR
    };
    match acts.iter_mut().find(|act| near(act)) {
        Some(act) => {
            act.spent = true;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WORKSPACE: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/vision";

    fn event(id: &str, kind: &str, subject: &str, data: Value) -> Value {
        json!({
            "topic": WORKSPACE, "subject": subject, "id": id, "eventTime": "2026-11-30T08:00:00.5Z",
            "eventType": format!("{TYPES}{kind}"), "data": data, "dataVersion": "", "metadataVersion": "1",
        })
    }

    fn outcome(action: &str, rest: &str, effects: &[&str], code: u64) -> Value {
        let at = chrono::DateTime::parse_from_rfc3339("2026-11-30T07:59:59Z").unwrap().timestamp_millis();
        json!({
            "time": at, "api": {"operation": format!("Microsoft.MachineLearningServices/workspaces/{action}")},
            "http_response": {"code": code}, "resources": [{"uid": format!("{WORKSPACE}{rest}")}],
            "unmapped": {"amlgate": {"phase": "outcome", "effects": effects}},
        })
    }

    fn names(events: &[Value], records: &[Value]) -> Vec<(String, Unknown)> {
        let mut known = Known::default();
        records.iter().for_each(|record| known.add(record));
        let events = parse(&json!(events).to_string()).unwrap();
        unrecorded(events, known).into_iter().map(|one| (one.name, one.why)).collect()
    }

    fn registered(id: &str, version: &str) -> Value {
        let data =
            json!({"ModelName": "churn", "ModelVersion": version, "ModelTags": {}, "ModelProperties": {}});
        event(id, "ModelRegistered", &format!("models/churn:{version}"), data)
    }

    #[test]
    fn a_registration_is_known_by_the_model_that_a_record_names_and_by_no_other() {
        let events = [registered("1", "3"), registered("2", "4")];
        let record = outcome("models/versions/write", "/models/Churn/versions/3", &["register_model"], 201);
        assert_eq!(names(&events, std::slice::from_ref(&record)), [("churn:4".into(), Unknown::NoRecord)]);
        let failed = outcome("models/versions/write", "/models/churn/versions/4", &["register_model"], 403);
        assert_eq!(names(&events, &[record, failed]), [("churn:4".into(), Unknown::NoRecord)]);
    }

    #[test]
    fn a_record_that_names_no_model_stands_for_one_registration_near_it() {
        let events = [registered("1", "3"), registered("2", "4"), registered("2", "4")];
        let record = outcome("models/versions/write", "", &["register_model"], 200);
        assert_eq!(names(&events, std::slice::from_ref(&record)).len(), 1, "the third is the second again");
        let mut late = record.clone();
        late["time"] = (record["time"].as_u64().unwrap() - 2 * 3_600_000).into();
        assert_eq!(names(&events, &[record, late]).len(), 1);
    }

    #[test]
    fn what_a_job_may_have_registered_is_named_with_the_job() {
        let job = outcome("jobs/write", "/jobs/train-1", &["register_model"], 201);
        let mut known = Known::default();
        known.add(&job);
        let events = parse(&registered("1", "3").to_string()).unwrap();
        let [one] = &unrecorded(events, known)[..] else { panic!() };
        assert_eq!((one.why, &one.jobs[..]), (Unknown::PerhapsByJob, &["train-1".to_owned()][..]));
    }

    #[test]
    fn deployments_and_runs_are_known_by_endpoint_and_job() {
        let deployed = |id, service: &str| {
            event(id, "ModelDeployed", &format!("endpoints/{service}"), json!({"ServiceName": service}))
        };
        let run = |id, run: &str, properties: Value| {
            let data = json!({"runId": run, "runProperties": properties});
            event(id, "RunCompleted", &format!("experiments/e/runs/{run}"), data)
        };
        let records = [
            outcome(
                "onlineEndpoints/deployments/write",
                "/onlineEndpoints/churn/deployments/blue",
                &["deploy_model"],
                201,
            ),
            outcome("jobs/write", "/jobs/sweep", &[], 201),
        ];
        let events = [
            deployed("1", "churn"),
            deployed("2", "shadow"),
            run("3", "sweep", json!({})),
            run("4", "sweep_7", json!({})),
            run("5", "sweeper", json!({})),
            run("6", "0d9b7a3e", json!({"azureml.pipelinerunid": "sweep"})),
        ];
        let found: Vec<_> = names(&events, &records).into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, ["shadow", "sweeper"]);
    }

    #[test]
    fn both_schemas_are_read_in_any_arrangement_and_other_events_are_left_out() {
        let cloud = json!({
            "specversion": "1.0", "source": WORKSPACE, "type": format!("{TYPES}ModelRegistered"), "id": "9",
            "time": "2026-11-30T08:00:00Z", "subject": "models/churn:7", "data": {},
        });
        let other = json!({"type": "Microsoft.Storage.BlobCreated", "id": "10"});
        let text = format!("{cloud}\n{}\n{other}\n", json!([registered("1", "3")]));
        let read = parse(&text).unwrap();
        let read: Vec<_> = read.iter().map(|one| (one.name.as_str(), one.version.as_str())).collect();
        assert_eq!(read, [("churn", "7"), ("churn", "3")]);
        for wrong in ["{", "[{}]", r#"{"eventType": "Microsoft.MachineLearningServices.ModelRegistered"}"#] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
