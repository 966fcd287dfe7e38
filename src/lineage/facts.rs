//! The facts of a statement, out of what is owed and what Azure shows: pure.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    custody::{
        Approver, Asset, Basis, Change, Custody, Decided, Dependency, Job, MAX_ITEMS, Metric, Source, is_text,
    },
    model::ModelId,
};
use crate::{
    azureml::ResourceId,
    gates::{
        custody::{Known, Owed},
        review::facts::time,
    },
    time::Timestamp,
};

/// What is stated of a model that was let in: `job` as Azure shows it, `run` as the run history shows the
/// job's run, where it does.
#[must_use]
pub fn facts(owed: &Owed, model: ModelId, job: &ResourceId, shown: &Value, run: Option<&Value>) -> Custody {
    let properties = shown.get("properties").unwrap_or(&Value::Null);
    let said = |name: &str| properties.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let read = |name: &str, id: &str| Dependency {
        name: name.to_owned(),
        id: id.to_owned(),
        content: None,
        basis: Basis::Read,
    };
    let info = |name: &str| {
        let millis = run?.pointer("/run/info")?.get(name)?;
        let millis = millis.as_u64().or_else(|| millis.as_str()?.parse().ok())?;
        (millis > 0).then(|| Timestamp::from_millis(millis))
    };
    let review = &owed.review;
    let approver = |(account, person): &(u64, Option<String>)| Approver {
        account: account.to_string(),
        person: person.clone(),
        label: None,
        value: None,
    };
    Custody {
        model: Asset { id: model, content: None },
        job: Job {
            id: job.to_string(),
            started: info("start_time"),
            finished: info("end_time"),
            code: said("codeId").map(|id| read("code", id)),
            environment: said("environmentId").map(|id| read("environment", id)),
            data: inputs(properties).map(|(name, id)| read(name, id)).collect(),
            metrics: metrics(run),
        },
        source: Source {
            repository: repository(&review.url, &review.project),
            project: review.project.clone(),
            branch: review.branch.clone(),
            commit: owed.tie.commit.clone(),
            basis: if owed.tie.known == Known::Claimed { Basis::Claimed } else { Basis::Witnessed },
        },
        change: Change {
            number: review.number.to_string(),
            url: review.url.clone(),
            meta_revision: review.meta_revision.clone(),
            owner: None,
            merged: time(&review.submitted).or_else(|| instant(&review.submitted)),
            approvers: review.approvers.iter().map(approver).collect(),
        },
        decided: Decided {
            decision: owed.decided.decision.clone(),
            policy: owed.decided.policy,
            entry: owed.decided.entry.clone(),
            caller: owed.decided.caller.clone(),
            at: Timestamp::from_millis(owed.decided.asked),
        },
    }
}

/// What a job read, by what it calls it; values that stand in the job itself are none.
fn inputs(properties: &Value) -> impl Iterator<Item = (&str, &str)> {
    let all = properties.get("inputs").and_then(Value::as_object);
    all.into_iter().flat_map(Map::iter).filter_map(|(name, input)| {
        let uri = input.get("uri").and_then(Value::as_str).filter(|uri| !uri.is_empty())?;
        Some((name.as_str(), uri))
    })
}

/// What the job's code logged. More than a statement holds, or what cannot stand in one, is left out: a
/// job's claims keep nobody from stating what is known of it.
fn metrics(run: Option<&Value>) -> Vec<Metric> {
    let all = run.and_then(|run| run.pointer("/run/data/metrics")).and_then(Value::as_array);
    let metric = |one: &Value| {
        let value = match one.get("value")? {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
        };
        let name = one.get("key").and_then(Value::as_str)?;
        (is_text(name) && is_text(&value)).then(|| Metric { name: name.to_owned(), value })
    };
    let mut found: Vec<Metric> = all.into_iter().flatten().filter_map(metric).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.truncate(MAX_ITEMS);
    found
}

/// Where the repository is, out of where people read the change.
fn repository(change: &str, project: &str) -> String {
    let below = format!("/c/{project}/");
    let base = change.split_once(&below).map(|(base, _)| base);
    // Not every host has changes below `/c/`; all name the project.
    let base = base.or_else(|| change.split_once(&format!("/{project}/")).map(|(base, _)| base));
    base.map_or_else(|| change.to_owned(), |base| format!("{base}/{project}"))
}

/// Clocks may differ by so much.
const SKEW: Duration = Duration::from_secs(60);

/// Whether a resource was made after an instant, as Azure shows it; not, if it does not say when.
#[must_use]
pub fn made_after(shown: &Value, instant: Timestamp) -> bool {
    let created = shown.pointer("/systemData/createdAt").and_then(Value::as_str).and_then(self::instant);
    created.is_some_and(|created| created.plus(SKEW) >= instant)
}

fn instant(text: &str) -> Option<Timestamp> {
    let found = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    u64::try_from(found.timestamp_millis()).ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gates::custody::{Reviewed, Tie, Wanted};

    const HOME: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w";

    fn owed(known: Known) -> Owed {
        Owed {
            model: Wanted::Version(format!("{HOME}/models/m/versions/1")),
            from: format!("{HOME}/jobs/t"),
            job: format!("{HOME}/jobs/t"),
            by_itself: false,
            tie: Tie { commit: "ab".repeat(20), known, repository: None },
            decided: crate::gates::custody::Decided {
                decision: "0197b6b0-0000-7000-8000-000000000001".to_owned(),
                policy: [7; 32],
                entry: "models".to_owned(),
                caller: "corp:ann".to_owned(),
                asked: 1_800_000_000_000,
            },
            review: Reviewed {
                url: "https://gerrit.example.com/r/c/ml/vision/+/42".to_owned(),
                project: "ml/vision".to_owned(),
                branch: "main".to_owned(),
                number: 42,
                meta_revision: Some("9f".repeat(20)),
                submitted: "2026-11-01 12:00:00.000000000".to_owned(),
                approvers: vec![(1_000_002, Some("corp:bo".to_owned())), (1_000_003, None)],
            },
            stated: None,
        }
    }

    fn stated(known: Known, shown: &Value, run: Option<&Value>) -> Custody {
        let model = ModelId::parse(&format!("{HOME}/models/m/versions/1")).unwrap();
        let job = ResourceId::parse(&format!("{HOME}/jobs/t")).unwrap();
        let custody = facts(&owed(known), model, &job, shown, run);
        custody.check().unwrap();
        custody
    }

    #[test]
    fn what_azure_shows_of_the_job_is_stated_beside_what_was_decided() {
        let job = json!({"properties": {
            "codeId": format!("{HOME}/codes/c/versions/1"),
            "environmentId": format!("{HOME}/environments/e/versions/2"),
            "inputs": {
                "train": {"jobInputType": "uri_folder", "uri": "azureml:churn:7"},
                "rate": {"jobInputType": "literal", "value": "0.1"},
            },
        }});
        let run = json!({"run": {
            "info": {"start_time": 1_800_000_000_000_u64, "end_time": "1800000060000"},
            "data": {"metrics": [
                {"key": "loss", "value": 0.5, "step": 3}, {"key": "auc", "value": "NaN"}, {"key": "", "value": 1},
            ]},
        }});
        let custody = stated(Known::Token, &job, Some(&run));
        assert_eq!(custody.source.repository, "https://gerrit.example.com/r/ml/vision");
        assert_eq!(custody.source.basis, Basis::Witnessed);
        assert_eq!(custody.change.merged.unwrap().to_rfc3339(), "2026-11-01T12:00:00.000Z");
        assert_eq!(custody.change.approvers[0].account, "1000002");
        let job = &custody.job;
        assert_eq!(job.finished.unwrap().since(job.started.unwrap()), Duration::from_secs(60));
        let data: Vec<_> = job.data.iter().map(|one| (&*one.name, &*one.id)).collect();
        assert_eq!(data, [("train", "azureml:churn:7")]);
        let metrics: Vec<_> = job.metrics.iter().map(|one| (&*one.name, &*one.value)).collect();
        assert_eq!(metrics, [("auc", "NaN"), ("loss", "0.5")]);
        assert!(job.code.is_some() && job.environment.is_some());
    }

    #[test]
    fn what_azure_does_not_show_is_not_stated_and_a_claim_stays_one() {
        let custody = stated(Known::Claimed, &json!({}), None);
        assert_eq!(custody.source.basis, Basis::Claimed);
        let Job { started, finished, code, environment, data, metrics, .. } = custody.job;
        assert_eq!((started, finished, code, environment), (None, None, None, None));
        assert!(data.is_empty() && metrics.is_empty());
        let zero = json!({"run": {"info": {"start_time": 0}, "data": {}}});
        assert_eq!(stated(Known::Token, &json!({}), Some(&zero)).job.started, None);
    }

    #[test]
    fn the_repository_is_named_as_its_host_does() {
        for (url, repository) in [
            ("https://g.example.com/c/ml/vision/+/42", "https://g.example.com/ml/vision"),
            ("https://github.com/ml/vision/pull/5", "https://github.com/ml/vision"),
            ("https://gitlab.com/ml/vision/-/merge_requests/5", "https://gitlab.com/ml/vision"),
            ("https://g.example.com/q/42", "https://g.example.com/q/42"),
        ] {
            assert_eq!(super::repository(url, "ml/vision"), repository);
        }
    }

    #[test]
    fn what_was_there_before_is_not_taken_for_new() {
        let at = |text: &str| json!({"systemData": {"createdAt": text}});
        let sent = time("2026-11-01 12:00:00.000000000").unwrap();
        assert!(made_after(&at("2026-11-01T12:00:05.1234567+00:00"), sent));
        assert!(made_after(&at("2026-11-01T11:59:30Z"), sent), "clocks differ");
        assert!(!made_after(&at("2026-11-01T11:00:00Z"), sent));
        assert!(!made_after(&json!({}), sent));
    }
}
