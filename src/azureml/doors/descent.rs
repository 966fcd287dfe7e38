//! What a registration or a deployment descends from, through every door.
//!
//! The content counts: `jobName` and `run_id` are the caller's word on who made it, and only where
//! both agree that a job did is it that job's. A place that anybody may write to (a datastore, a URL)
//! is nobody's.

use serde_json::Value;

use super::{
    Result,
    reading::{Door, refuse},
};
use crate::{
    azureml::{Descent, Effect, Operation, ResourceId},
    cloud::{Cloud, Service},
};

/// The provider in whose ids jobs and models stand.
const PROVIDER: &str = "Microsoft.MachineLearningServices";
/// The datastore to which the service itself writes what runs leave.
const ARTIFACTS: &str = "workspaceartifactstore";
/// The one to which it writes a job's outputs, each below `azureml/JOB/OUTPUT`, unless the job says
/// another place.
const OUTPUTS: &str = "workspaceblobstore";

/// What the models of an operation descend from; nothing for one that neither registers nor deploys.
/// Without a body, all that the path does not say is unknown.
pub(super) fn of(operation: &Operation, body: Option<&Door<'_>>) -> Result<Vec<Descent>> {
    let effects = operation.effects.union(operation.unclear_effects);
    if !effects.contains(Effect::RegisterModel) && !effects.contains(Effect::DeployModel) {
        return Ok(Vec::new());
    }
    let resource = operation.acts.first().and_then(|act| act.resource.as_ref());
    let home = resource.and_then(home_of);
    let home = home.as_ref();
    let one = match (&*operation.name, body) {
        ("ModelVersions_Publish", _) => resource.and_then(model_version).map_or_else(
            || unknown("the path names no version of a model".to_owned()),
            |version| Ok(Descent::Model(version)),
        ),
        ("Jobs_CreateOrUpdate" | "Schedules_CreateOrUpdate", _) => Ok(Descent::ThisJob),
        (_, None) => unknown("its body was not read".to_owned()),
        ("ModelVersions_CreateOrUpdate" | "RegistryModelVersions_CreateOrUpdate", Some(body)) => {
            let properties = body.child("properties")?;
            let properties = super::needed(properties.as_ref(), "$.properties")?;
            content(properties, ["modelUri", "jobName"], home)
        }
        ("Models.register", Some(body)) => content(body, ["url", "runId"], home),
        ("mlflow.model-versions.create", Some(body)) => content(body, ["source", "run_id"], home),
        ("mlflow.model-versions.transition-stage" | "mlflow.registered-models.alias", Some(body)) => {
            named(body, home)
        }
        ("OnlineDeployments_CreateOrUpdate" | "OnlineDeployments_Update", Some(body)) => {
            served(body, home, Serves::OneModel)
        }
        ("BatchDeployments_CreateOrUpdate" | "BatchDeployments_Update", Some(body)) => {
            served(body, home, Serves::Reference)
        }
        (
            "OnlineEndpoints_CreateOrUpdate"
            | "OnlineEndpoints_Update"
            | "BatchEndpoints_CreateOrUpdate"
            | "BatchEndpoints_Update"
            | "Workspaces_Endpoints_Put",
            Some(body),
        ) => return serving(body, resource),
        (name, Some(_)) => unknown(format!("`{name}` does not say what its model comes from")),
    };
    Ok(vec![one?])
}

/// What a model's version descends from, as Azure shows it.
pub(in crate::azureml) fn of_version(id: &ResourceId, shown: &Value) -> Descent {
    let properties = Door::at(shown, "$").and_then(|shown| shown.child("properties"));
    let descent = properties.and_then(|properties| {
        let properties = super::needed(properties.as_ref(), "$.properties")?;
        content(properties, ["modelUri", "jobName"], home_of(id).as_ref())
    });
    descent.unwrap_or_else(|why| Descent::Unknown(why.to_string().into()))
}

/// What a deployment serves, as Azure shows it.
pub(in crate::azureml) fn of_deployment(id: &ResourceId, shown: &Value) -> Descent {
    let serves = match id.after("batchEndpoints") {
        Some(_) => Serves::Reference,
        None => Serves::OneModel,
    };
    let descent = Door::at(shown, "$").and_then(|shown| served(&shown, home_of(id).as_ref(), serves));
    descent.unwrap_or_else(|why| Descent::Unknown(why.to_string().into()))
}

/// In which form a deployment names its model.
#[derive(Debug, Clone, Copy)]
enum Serves {
    /// An online deployment: by its id.
    OneModel,
    /// A batch deployment: by a reference of several kinds.
    Reference,
}

fn served(deployment: &Door<'_>, home: Option<&ResourceId>, serves: Serves) -> Result<Descent> {
    let none = || unknown("the deployment names no `properties.model`".to_owned());
    let Some(properties) = deployment.child("properties")? else { return none() };
    match serves {
        Serves::OneModel => properties.text("model")?.map_or_else(none, |asset| Ok(model(asset, home))),
        Serves::Reference => match properties.child("model")? {
            Some(reference) => batch(&reference, home),
            None => none(),
        },
    }
}

/// Whether a share of the traffic is none.
pub(super) fn takes_none(share: &Value) -> bool {
    share.is_null() || share.as_f64() == Some(0.0)
}

fn unknown(why: String) -> Result<Descent> {
    Ok(Descent::Unknown(why.into()))
}

/// Where the content of a registration lies, and the job that it is said to be of.
fn content(body: &Door<'_>, [place, job]: [&str; 2], home: Option<&ResourceId>) -> Result<Descent> {
    let claimed = body.text(job)?.filter(|name| !name.is_empty());
    let Some(text) = body.text(place)? else {
        return unknown(format!("it has no `{}`, which says where the model lies", body.path(place)));
    };
    let found = uri(text, home);
    let (Descent::Job { id, .. }, Some(claimed)) = (&found, claimed) else { return Ok(found) };
    let agrees = match ResourceId::parse(claimed) {
        Some(claimed) => claimed == *id,
        None => id.after("jobs").is_some_and(|name| name.eq_ignore_ascii_case(claimed)),
    };
    if agrees {
        return Ok(found);
    }
    unknown(format!(
        "`{}` names job `{}`, and `{}` lies in the outputs of another",
        body.path(job),
        short(claimed),
        body.path(place)
    ))
}

/// A version that MLflow calls by name and number.
fn named(body: &Door<'_>, home: Option<&ResourceId>) -> Result<Descent> {
    let (name, version) = (body.text("name")?, version_of(body)?);
    let id = home.zip(name).zip(version).and_then(|((home, name), version)| version_at(home, name, &version));
    match id {
        Some(id) => Ok(Descent::Model(id)),
        None => unknown("it does not say which version of the model".to_owned()),
    }
}

/// MLflow's clients write versions as text or as numbers.
fn version_of(body: &Door<'_>) -> Result<Option<String>> {
    match body.get("version") {
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) | None => Ok(body.text("version")?.map(ToOwned::to_owned)),
    }
}

/// What a batch deployment serves.
fn batch(reference: &Door<'_>, home: Option<&ResourceId>) -> Result<Descent> {
    let (asset, job) = (reference.text("assetId")?, reference.text("jobId")?);
    match (asset, job) {
        (Some(asset), None) => Ok(model(asset, home)),
        (None, Some(job)) => match ResourceId::parse(bare(job)).filter(is_job) {
            Some(id) => Ok(Descent::Job { id, output: None }),
            None => unknown(format!("`{}` is no id of a job", short(job))),
        },
        (Some(_), Some(_)) => refuse(&reference.path, "an `assetId` or a `jobId`, not both"),
        (None, None) => {
            unknown("the deployment's model is a path of a datastore, to which anybody may write".to_owned())
        }
    }
}

/// The deployments among which an endpoint's requests are shared.
fn serving(body: &Door<'_>, endpoint: Option<&ResourceId>) -> Result<Vec<Descent>> {
    let mut found: Vec<Descent> = Vec::new();
    let mut add = |name: &str| {
        let id = endpoint
            .filter(|_| is_name(name))
            .and_then(|endpoint| ResourceId::parse(&format!("{endpoint}/deployments/{name}")));
        let descent = match id {
            Some(id) => Descent::Deployment(id),
            None => Descent::Unknown(format!("`{}` is no name of a deployment", short(name)).into()),
        };
        if !found.contains(&descent) {
            found.push(descent);
        }
    };
    let properties = body.child("properties")?;
    let properties = super::needed(properties.as_ref(), "$.properties")?;
    for shares in ["traffic", "mirrorTraffic"] {
        let Some(shares) = properties.child(shares)? else { continue };
        for (name, share) in shares.members {
            if !takes_none(share) {
                add(name);
            }
        }
    }
    if let Some(defaults) = properties.child("defaults")?
        && let Some(name) = defaults.text("deploymentName")?
    {
        add(name);
    }
    if found.is_empty() {
        found.push(Descent::Unknown("it does not say which deployment serves".into()));
    }
    Ok(found)
}

/// A model as a deployment names it: by its id, or by name and version in the same workspace.
fn model(text: &str, home: Option<&ResourceId>) -> Descent {
    let bare = bare(text);
    if bare.starts_with('/') && !bare.starts_with("//") {
        return ResourceId::parse(bare).as_ref().and_then(model_version).map_or_else(
            || Descent::Unknown(format!("`{}` is no id of a model's version", short(text)).into()),
            Descent::Model,
        );
    }
    if let (Some(home), Some((name, version))) = (home, bare.split_once(':'))
        && let Some(id) = version_at(home, name, version)
    {
        return Descent::Model(id);
    }
    uri(text, home)
}

/// `azureml:` before an id or a name; `azureml://` is a URI and stays.
fn bare(text: &str) -> &str {
    match text.split_at_checked("azureml:".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("azureml:") && !rest.starts_with("//") => rest,
        Some(_) | None => text,
    }
}

/// What a URI of content says.
fn uri(text: &str, home: Option<&ResourceId>) -> Descent {
    // What a service might resolve or decode to something else is not followed.
    let plain = |rest: &str| {
        let mut segments = rest.trim_end_matches('/').split('/');
        !rest.contains(['%', '\\', '?', '#', ';']) && segments.all(|s| !matches!(s, "" | "." | ".."))
    };
    let Some((scheme, rest)) = text.split_once(':') else { return nobodys(text) };
    let rest = match rest.strip_prefix("//").or_else(|| rest.strip_prefix('/')) {
        Some(rest) if plain(rest) => rest,
        Some(_) | None => return nobodys(text),
    };
    let segments: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
    let by_two = text.get(scheme.len()..).is_some_and(|rest| rest.starts_with("://"));
    let found = match (scheme.to_ascii_lowercase().as_str(), by_two) {
        ("runs", false) => match segments.as_slice() {
            [run, ..] => home.and_then(|home| job_at(home, run, None)),
            [] => None,
        },
        ("models", false) => match segments.as_slice() {
            [name, version] if version.bytes().all(|b| b.is_ascii_digit()) => {
                home.and_then(|home| version_at(home, name, version)).map(Descent::Model)
            }
            _ => None,
        },
        ("aml", true) => match segments.as_slice() {
            [kind, rest @ ..] if alike(kind, "artifact") => home.and_then(|home| artifact(home, rest)),
            _ => None,
        },
        ("azureml", true) => asset(&segments, home),
        _ => None,
    };
    found.unwrap_or_else(|| nobodys(text))
}

fn nobodys(text: &str) -> Descent {
    Descent::Unknown(format!("`{}` is not said to lie in the outputs of a job", short(text)).into())
}

/// `azureml://...`, by its segments.
fn asset(segments: &[&str], home: Option<&ResourceId>) -> Option<Descent> {
    match segments {
        ["registries" | "locations", ..] => {
            let kind = segments.first()?;
            let why = format!(
                "it is named by `azureml://{kind}/...`, which cannot be followed: name it by its Azure Resource Manager id"
            );
            Some(Descent::Unknown(why.into()))
        }
        [first, sub, groups, group, rest @ ..]
            if alike(first, "subscriptions") && alike(groups, "resourceGroups") =>
        {
            let rest = match rest {
                [providers, provider, rest @ ..]
                    if alike(providers, "providers") && alike(provider, PROVIDER) =>
                {
                    rest
                }
                rest => rest,
            };
            let [workspaces, workspace, rest @ ..] = rest else { return None };
            alike(workspaces, "workspaces").then_some(())?;
            let home = ResourceId::parse(&format!(
                "/subscriptions/{sub}/resourceGroups/{group}/providers/{PROVIDER}/workspaces/{workspace}"
            ))?;
            match rest {
                [kind, ..] if alike(kind, "ExperimentRun") => artifact(&home, rest),
                rest => within(&home, rest),
            }
        }
        [host, kind, _version, rest @ ..] if alike(kind, "artifact") => {
            let is_data_plane = |cloud: &Cloud| cloud.service(host) == Some(Service::DataPlane);
            Cloud::all().iter().any(is_data_plane).then(|| asset(rest, home))?
        }
        rest => within(home?, rest),
    }
}

/// What lies in a workspace.
fn within(home: &ResourceId, segments: &[&str]) -> Option<Descent> {
    match segments {
        [jobs, job, outputs, output] | [jobs, job, outputs, output, _, ..]
            if alike(jobs, "jobs") && alike(outputs, "outputs") =>
        {
            job_at(home, job, Some(output))
        }
        [datastores, store, paths, rest @ ..]
            if alike(datastores, "datastores") && alike(store, ARTIFACTS) && alike(paths, "paths") =>
        {
            artifact(home, rest)
        }
        [datastores, store, paths, service, job, output, ..]
            if alike(datastores, "datastores")
                && alike(store, OUTPUTS)
                && alike(paths, "paths")
                && alike(service, "azureml") =>
        {
            job_at(home, job, Some(output))
        }
        [models, name, versions, version] if alike(models, "models") && alike(versions, "versions") => {
            version_at(home, name, version).map(Descent::Model)
        }
        _ => None,
    }
}

/// `ExperimentRun/dcid.RUN/...`: what a run left.
fn artifact(home: &ResourceId, segments: &[&str]) -> Option<Descent> {
    match segments {
        [kind, run, ..] if alike(kind, "ExperimentRun") => job_at(home, run.strip_prefix("dcid.")?, None),
        _ => None,
    }
}

fn job_at(home: &ResourceId, job: &str, output: Option<&str>) -> Option<Descent> {
    home.after("workspaces")?;
    let id = ResourceId::parse(&format!("{home}/jobs/{job}")).filter(|_| is_name(job))?;
    // All that a run leaves is one output, whatever is called by it.
    let output = output.filter(|output| !alike(output, "artifacts"));
    Some(Descent::Job { id, output: output.map(Into::into) })
}

fn version_at(home: &ResourceId, name: &str, version: &str) -> Option<ResourceId> {
    let named = is_name(name) && is_name(version);
    ResourceId::parse(&format!("{home}/models/{name}/versions/{version}")).filter(|_| named)
}

/// Whether it is one segment, and says no more than a name.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['/', ':', '@'])
}

/// The workspace or registry that an id lies in.
fn home_of(id: &ResourceId) -> Option<ResourceId> {
    let segments: Vec<&str> = id.as_str().split('/').collect();
    let is_home = |kind: &str| alike(kind, "workspaces") || alike(kind, "registries");
    match segments.get(..9)? {
        ["", subs, _, groups, _, providers, provider, kind, _]
            if alike(subs, "subscriptions")
                && alike(groups, "resourceGroups")
                && alike(providers, "providers")
                && alike(provider, PROVIDER)
                && is_home(kind) =>
        {
            ResourceId::parse(&segments.get(..9)?.join("/"))
        }
        _ => None,
    }
}

fn below(id: &ResourceId, types: &[&str]) -> bool {
    let Some(home) = home_of(id) else { return false };
    let rest = id.as_str().get(home.as_str().len()..).unwrap_or_default();
    let rest: Vec<&str> = rest.split('/').skip(1).collect();
    rest.len() == types.len() * 2 && rest.iter().step_by(2).zip(types).all(|(a, b)| alike(a, b))
}

/// The id, if it is one of a model's version.
fn model_version(id: &ResourceId) -> Option<ResourceId> {
    below(id, &["models", "versions"]).then(|| id.clone())
}

fn is_job(id: &ResourceId) -> bool {
    below(id, &["jobs"]) && id.after("workspaces").is_some()
}

fn alike(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// What the caller wrote, as far as it is worth repeating.
fn short(text: &str) -> String {
    let kept: String = text.chars().filter(|c| !c.is_control() && *c != '`').take(120).collect();
    // What stands behind `?` may be a signature.
    kept.split('?').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
