//! The chain of one model, read back from a provenance statement of a gate; and how two differ.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    custody::Basis,
    model::ModelId,
    statement::{PROVENANCE, Statement, Subject},
    written::BUILD_TYPE,
};

/// One link's other end, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "LineageLink")]
pub struct Link {
    /// The id.
    pub id: String,
    /// Its digest, as `algorithm:value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What that rests on.
    pub basis: Basis,
}

/// Model ← job ← commit ← change ← approvers, as a statement tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "LineageChain")]
pub struct Chain {
    /// The model.
    pub model: String,
    /// What the statement knows it by.
    pub subject: Subject,
    /// The job that made it.
    pub job: String,
    /// When the job began and ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// When the job ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<String>,
    /// The commit that the job ran: its id is its name.
    pub commit: Link,
    /// The repository.
    pub repository: String,
    /// The project on its host.
    pub project: String,
    /// The branch.
    pub branch: String,
    /// The change's number.
    pub change: String,
    /// Where people read it.
    pub change_url: String,
    /// The state of the review that was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_revision: Option<String>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_owner: Option<String>,
    /// Who approved it, as `ACCOUNT (PERSON): LABEL VALUE`.
    pub approvers: Vec<String>,
    /// The snapshot of code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Link>,
    /// The environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Link>,
    /// What the job read, by what it calls it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, Link>,
    /// What the job measured, which its own code claims.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, String>,
    /// Who registered the model.
    pub caller: String,
    /// The decision's id.
    pub decision: String,
    /// When the gate verified the review.
    pub decided: String,
    /// The entry that demanded it.
    pub entry: String,
    /// The digest of the policies.
    pub policies: String,
    /// Whose statement it is.
    pub gate: String,
}

impl Chain {
    /// The chain that a statement tells; `None` if it is of another kind, or lacks a link.
    #[must_use]
    pub fn of(statement: &Statement) -> Option<Self> {
        let [subject] = statement.subjects() else { return None };
        let predicate = Value::Object(statement.predicate().clone());
        let text = |at: &str| predicate.pointer(at).and_then(Value::as_str).map(ToOwned::to_owned);
        let ours = text("/buildDefinition/buildType")? == BUILD_TYPE;
        if statement.predicate_type() != PROVENANCE || !ours {
            return None;
        }
        let given = |name: &str| text(&format!("/buildDefinition/externalParameters/{name}"));
        let judged = |name: &str| text(&format!("/buildDefinition/internalParameters/{name}"));
        let list = |at: &str| predicate.pointer(at).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let dependencies = list("/buildDefinition/resolvedDependencies");
        let called = |name: &str| {
            dependencies.iter().find(|one| one.get("name").and_then(Value::as_str) == Some(name))
        };
        let commit = called("commit")?;
        let digest = commit.pointer("/digest/gitCommit").and_then(Value::as_str)?;
        let data = dependencies.iter().filter(|one| one.get("name").and_then(Value::as_str) == Some("data"));
        let measured = list("/runDetails/byproducts")
            .iter()
            .filter_map(|one| one.pointer("/annotations/metrics")?.as_array());
        let approvers = list("/buildDefinition/internalParameters/approvers");
        if approvers.is_empty() {
            return None;
        }
        let member = |one: &Value, name: &str| one.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
        Some(Self {
            model: ModelId::parse(subject.name.as_deref()?)?.as_str().to_owned(),
            subject: subject.clone(),
            job: given("job")?,
            started: text("/runDetails/metadata/startedOn"),
            finished: text("/runDetails/metadata/finishedOn"),
            commit: Link { id: digest.to_owned(), digest: None, basis: basis(commit) },
            repository: given("repository")?,
            project: given("project")?,
            branch: given("branch")?,
            change: judged("change/number")?,
            change_url: judged("change/url")?,
            change_revision: judged("change/metaRevision"),
            change_owner: judged("change/owner"),
            approvers: approvers.iter().map(approver).collect::<Option<_>>()?,
            code: called("code").and_then(link),
            environment: called("environment").and_then(link),
            data: data
                .map(|one| Some((one.pointer("/annotations/input")?.as_str()?.to_owned(), link(one)?)))
                .collect::<Option<_>>()?,
            metrics: measured
                .flatten()
                .map(|one| Some((member(one, "name")?, member(one, "value")?)))
                .collect::<Option<_>>()?,
            caller: judged("caller")?,
            decision: judged("decision")?,
            decided: judged("decided")?,
            entry: judged("entry")?,
            policies: judged("policies")?,
            gate: text("/runDetails/builder/id")?,
        })
    }
}

fn basis(dependency: &Value) -> Basis {
    let word = dependency.pointer("/annotations/basis").and_then(Value::as_str);
    word.map_or(Basis::Claimed, Basis::of_word)
}

fn link(dependency: &Value) -> Option<Link> {
    let digest = dependency.get("digest").and_then(Value::as_object).and_then(|all| all.iter().next());
    Some(Link {
        id: dependency.get("uri")?.as_str()?.to_owned(),
        digest: digest.and_then(|(algorithm, value)| Some(format!("{algorithm}:{}", value.as_str()?))),
        basis: basis(dependency),
    })
}

fn approver(one: &Value) -> Option<String> {
    let text = |name: &str| one.get(name).and_then(Value::as_str);
    let mut shown = text("account")?.to_owned();
    if let Some(person) = text("person") {
        shown.push_str(&format!(" ({person})"));
    }
    if let Some(label) = text("label") {
        shown.push_str(&format!(": {label} {}", text("value").unwrap_or_default()));
    }
    Some(shown)
}

/// Something in which two models differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What: `commit`, `data train`, `metric accuracy`.
    pub what: String,
    /// In the first; `None` if it has none.
    pub first: Option<String>,
    /// In the second.
    pub second: Option<String>,
}

/// In what two models differ: code, environment, data and metrics, as far as their statements hold them.
#[must_use]
pub fn differences(first: &Chain, second: &Chain) -> Vec<Difference> {
    let link = |link: &Link| match &link.digest {
        Some(digest) => format!("{} ({digest})", link.id),
        None => link.id.clone(),
    };
    let facts = |chain: &Chain| {
        let mut facts: Vec<(String, String)> = vec![
            ("repository".to_owned(), chain.repository.clone()),
            ("branch".to_owned(), chain.branch.clone()),
            ("commit".to_owned(), chain.commit.id.clone()),
            ("change".to_owned(), chain.change_url.clone()),
        ];
        facts.extend(chain.code.as_ref().map(|code| ("code".to_owned(), link(code))));
        facts.extend(chain.environment.as_ref().map(|one| ("environment".to_owned(), link(one))));
        facts.extend(chain.data.iter().map(|(name, one)| (format!("data {name}"), link(one))));
        facts.extend(chain.metrics.iter().map(|(name, value)| (format!("metric {name}"), value.clone())));
        facts
    };
    let (ours, theirs) = (facts(first), facts(second));
    let find = |all: &[(String, String)], what: &str| {
        all.iter().find(|(name, _)| name == what).map(|(_, value)| value.clone())
    };
    let mut names: Vec<&String> = ours.iter().map(|(name, _)| name).collect();
    names.extend(theirs.iter().map(|(name, _)| name).filter(|name| find(&ours, name).is_none()));
    names
        .into_iter()
        .map(|what| Difference { what: what.clone(), first: find(&ours, what), second: find(&theirs, what) })
        .filter(|one| one.first != one.second)
        .collect()
}
