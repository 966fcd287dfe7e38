//! Reads Azure's activity log and the record, and names what is only in the former: for
//! `audit reconcile`.

use std::{collections::BTreeSet, path::PathBuf};

use bytes::Bytes;
use http::Request;
use serde::Serialize;
use serde_json::Value;

use super::{StartError, build};
use crate::{
    audit::{
        note::VerifierKeys,
        query::{Bounds, Filter, Look, QueryError, search},
        reconcile::{
            Around, Recorded, around,
            events::{Announced, Known, Unrecorded, unrecorded},
        },
    },
    azureml::{Protocol, ResourceId},
    config::Settings,
    credentials::{CredentialError, Credentials, ServicePurpose},
    net::Destination,
    policy::PolicySet,
    time::{SharedClock, Timestamp},
};

/// Azure's provider whose operations are compared.
const PROVIDER: &str = "Microsoft.MachineLearningServices";
/// Records from so long before and after the time in question are looked at too: Azure's clock and
/// the end of an operation are others than the gate's.
const AROUND: std::time::Duration = std::time::Duration::from_secs(3_600);
/// A run takes at most so long.
const RUNS: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);
/// At most so many pages of Azure's log are read.
const MOST_PAGES: usize = 1_000;
/// So many records are read at a time.
const PAGE: usize = 1_000;

/// What is compared.
#[derive(Debug, Clone)]
pub struct Asked {
    /// At and below which resources; what policies allow something at, if none.
    pub scopes: Vec<ResourceId>,
    /// From when on.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Directories of logs: all of a fleet's.
    pub logs: Vec<PathBuf>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// The scopes that were compared.
    pub scopes: Vec<String>,
    /// Operations that Azure has of them.
    pub operations: usize,
    /// Those that the record does not have.
    pub around: Vec<Around>,
}

/// What came of announcements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heard {
    /// The scopes that were compared.
    pub scopes: Vec<String>,
    /// What was announced of them.
    pub announced: usize,
    /// What of that the record does not have.
    pub unrecorded: Vec<Unrecorded>,
}

/// Compares what Event Grid announced with the record; Azure is not asked.
///
/// # Errors
/// [`ReconcileError`].
pub fn heard(settings: &Settings, asked: &Asked, events: Vec<Announced>) -> Result<Heard, ReconcileError> {
    let scopes = scopes(settings, asked)?;
    let guarded = |event: &Announced| {
        let workspace = ResourceId::parse(event.workspace());
        workspace.is_some_and(|id| scopes.iter().any(|scope| id.is_within(scope)))
    };
    let events: Vec<Announced> = events.into_iter().filter(guarded).collect();
    let mut known = Known::default();
    let times = || events.iter().map(Announced::at);
    if let (Some(first), Some(last)) = (times().min(), times().max()) {
        // A run is announced when it is over, whenever it began.
        each_outcome(&asked.logs, first.minus(RUNS), last.plus(AROUND), |record| known.add(record))?;
    }
    Ok(Heard {
        scopes: scopes.iter().map(|s| s.as_str().to_owned()).collect(),
        announced: events.len(),
        unrecorded: unrecorded(events, known),
    })
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A part of the gate that is needed for it.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is nothing to compare.
    #[error("{0}")]
    Nothing(&'static str),
    /// Azure.
    #[error("Azure's activity log cannot be read")]
    Azure(#[from] CredentialError),
    /// Azure's answer.
    #[error("Azure's activity log cannot be read: {0}")]
    Answer(String),
    /// The record.
    #[error("the record cannot be read")]
    Record(#[from] QueryError),
}

/// Compares.
///
/// # Errors
/// [`ReconcileError`].
pub async fn reconcile(
    settings: &Settings,
    clock: &SharedClock,
    asked: &Asked,
) -> Result<Reconciled, ReconcileError> {
    let scopes = scopes(settings, asked)?;
    let credential = build::rights(settings).credential.ok_or(ReconcileError::Nothing(
        "no credential reads at Resource Manager as itself: a route with `protocol: arm` needs one",
    ))?;
    let connector = build::connector(settings, clock)?;
    let (credentials, _) = build::credentials(settings, &connector, clock).await?;
    let mut routes = settings.routes.iter();
    let route = routes.find(|route| route.protocol == Protocol::Arm);
    let arm = build::upstream(route.ok_or(ReconcileError::Nothing("no route leads to Resource Manager"))?)?;
    let log = Activity { credentials: &credentials, credential: &credential, arm: &arm };
    let subscriptions: BTreeSet<&str> =
        scopes.iter().filter_map(|scope| scope.after("subscriptions")).collect();
    let mut events = Vec::new();
    for subscription in subscriptions {
        for event in log.events(subscription, asked.since, asked.until).await? {
            let resource = event.get("resourceId").and_then(Value::as_str).and_then(ResourceId::parse);
            if resource.is_some_and(|id| scopes.iter().any(|scope| id.is_within(scope))) {
                events.push(event);
            }
        }
    }
    let (around, operations) = around(&events, recorded(asked)?);
    Ok(Reconciled { scopes: scopes.iter().map(|s| s.as_str().to_owned()).collect(), operations, around })
}

fn scopes(settings: &Settings, asked: &Asked) -> Result<Vec<ResourceId>, ReconcileError> {
    let scopes = if asked.scopes.is_empty() {
        let (set, _) = PolicySet::load(&settings.policies, &settings.surroundings())
            .map_err(|problems| ReconcileError::Start(StartError::Policies(problems)))?;
        set.allowed_scopes().into_iter().cloned().collect()
    } else {
        asked.scopes.clone()
    };
    if scopes.iter().all(|scope| scope.after("subscriptions").is_none()) {
        return Err(ReconcileError::Nothing(
            "no entry of the policies has a scope in a subscription: name one with `--scope`",
        ));
    }
    Ok(scopes)
}

/// What the logs say was done.
fn recorded(asked: &Asked) -> Result<Recorded, QueryError> {
    let mut recorded = Recorded::default();
    let (since, until) = (asked.since.minus(AROUND), asked.until.plus(AROUND));
    each_outcome(&asked.logs, since, until, |record| recorded.add(record))?;
    Ok(recorded)
}

/// Goes through the outcomes of requests that the logs have of a time.
fn each_outcome(
    logs: &[PathBuf],
    since: Timestamp,
    until: Timestamp,
    mut take: impl FnMut(&Value),
) -> Result<(), QueryError> {
    let filter = Filter {
        phase: Some("outcome".to_owned()),
        since: Some(since),
        until: Some(until),
        ..Filter::default()
    };
    for log in logs {
        let mut from = Some(0);
        while let Some(position) = from {
            // Whether the record is whole is another question, which `audit verify` answers.
            let page = search(
                log,
                &VerifierKeys::default(),
                &filter,
                Look::Indexed,
                position,
                Bounds::records(PAGE),
            )?;
            page.found.iter().for_each(|found| take(&found.value));
            from = page.next;
        }
    }
    Ok(())
}

/// Azure's activity log.
struct Activity<'a> {
    credentials: &'a Credentials,
    credential: &'a str,
    arm: &'a Destination,
}

impl Activity<'_> {
    async fn events(
        &self,
        subscription: &str,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Value>, ReconcileError> {
        let filter = format!(
            "eventTimestamp ge '{}' and eventTimestamp le '{}' and resourceProvider eq '{PROVIDER}'",
            since.to_rfc3339(),
            until.to_rfc3339()
        );
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("api-version", "2015-04-01")
            .append_pair("$filter", &filter)
            .finish();
        let mut next = Some(format!(
            "/subscriptions/{subscription}/providers/Microsoft.Insights/eventtypes/management/values?{query}"
        ));
        let mut events = Vec::new();
        for _ in 0..MOST_PAGES {
            let Some(target) = next else { return Ok(events) };
            let mut page = self.page(&target).await?;
            if let Some(Value::Array(found)) = page.get_mut("value").map(Value::take) {
                events.extend(found);
            }
            // Wherever the link leads, it is asked of Resource Manager.
            let link = page.get("nextLink").and_then(Value::as_str).filter(|link| !link.is_empty());
            next = match link.map(str::parse::<http::Uri>) {
                None => None,
                Some(Ok(link)) => link.path_and_query().map(ToString::to_string),
                Some(Err(_)) => return Err(ReconcileError::Answer("its `nextLink` is no URL".to_owned())),
            };
        }
        Err(ReconcileError::Answer(format!("it has more than {MOST_PAGES} pages: ask for less time")))
    }

    async fn page(&self, target: &str) -> Result<Value, ReconcileError> {
        let token = self.credentials.service(ServicePurpose::ActivityLog, self.credential).await?;
        let request = Request::get(target).body(Bytes::new());
        let request = request.map_err(|error| ReconcileError::Answer(error.to_string()))?;
        let answer = self.credentials.call(&token, self.arm, request).await?;
        let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        if answer.status() != http::StatusCode::OK {
            let code = body.pointer("/error/code").and_then(Value::as_str).unwrap_or("no code");
            return Err(ReconcileError::Answer(format!(
                "{} ({code}): `{}` needs `Microsoft.Insights/eventtypes/values/read` at the subscription, which Monitoring Reader has",
                answer.status(),
                self.credential
            )));
        }
        Ok(body)
    }
}
