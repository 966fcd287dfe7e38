//! What is read at Azure of models that were let in, and what is written to them: as the credentials that
//! the routes name for it, by tokens for that purpose.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    azureml::{Protocol, ResourceId},
    credentials::{CredentialError, ServicePurpose},
    net::Destination,
    proxy::GateParts,
};

const API_VERSION: &str = "2025-12-01";
/// The tag, and the property, by which a model says which statement is about it.
pub(super) const MARK: &str = "amlgate.statement";
/// So many pages of a model's versions are read.
const PAGES: usize = 10;
const MEND: &str = "give the gate's identity a role with `Microsoft.MachineLearningServices/workspaces/models/versions/write` on the workspace";

/// Azure did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Another time it may.
    #[error("{0}")]
    Passing(String),
    /// It will not, as things are.
    #[error("{0}")]
    Lasting(String),
}

/// Azure, as the gate itself reaches it under the configuration in force.
#[derive(Debug)]
pub(super) struct Azure<'p>(pub &'p GateParts);

impl Azure<'_> {
    /// A resource as Azure shows it; `None` if it is not there.
    pub async fn shown(&self, id: &ResourceId) -> Result<Option<Value>, Failure> {
        self.arm(Method::GET, &format!("{id}?api-version={API_VERSION}"), Bytes::new()).await
    }

    /// The versions of a model, each with its id; the newest first, if Azure keeps to that. Nothing if
    /// there is no such model.
    pub async fn versions(&self, model: &ResourceId) -> Result<Vec<(ResourceId, Value)>, Failure> {
        let first = format!(
            "{model}/versions?api-version={API_VERSION}&$orderBy=createdtime%20desc&listViewType=All"
        );
        let (mut next, mut found) = (Some(first), Vec::new());
        for _ in 0..PAGES {
            let Some(path) = next.take() else { break };
            let Some(page) = self.arm(Method::GET, &path, Bytes::new()).await? else { break };
            for one in page.get("value").and_then(Value::as_array).into_iter().flatten() {
                let id = one.get("id").and_then(Value::as_str).and_then(ResourceId::parse);
                // What lies elsewhere is not what was asked for.
                found.extend(id.filter(|id| id.is_within(model)).map(|id| (id, one.clone())));
            }
            // Whatever host it names, it is asked where the first page was.
            let link = page.get("nextLink").and_then(Value::as_str).and_then(|link| link.parse().ok());
            next = link.and_then(|link: http::Uri| link.path_and_query().map(ToString::to_string));
        }
        Ok(found)
    }

    /// The run of a job, as the run history shows it; `None` where it shows none, or no route leads there.
    pub async fn run(&self, job: &ResourceId) -> Result<Option<Value>, Failure> {
        let Some((to, credential)) = self.way(Protocol::Azureml, &["read", "default"]) else {
            return Ok(None);
        };
        let Some((workspace, name)) = job.as_str().rsplit_once("/jobs/") else { return Ok(None) };
        let path = format!("/mlflow/v1.0{workspace}/api/2.0/mlflow/runs/get?run_id={name}");
        self.send(ServicePurpose::RunHistory, (&to, &credential), Method::GET, &path, Bytes::new()).await
    }

    /// Writes the statement's id into a model's tags and properties; both are left as they are where it
    /// stands there already.
    pub async fn mark(&self, model: &ResourceId, statement: &str) -> Result<(), Failure> {
        let Some(mut shown) = self.shown(model).await? else {
            return Err(Failure::Lasting(format!("`{model}` is not there any more")));
        };
        let properties = shown.get_mut("properties").map(Value::take);
        let Some(Value::Object(mut properties)) = properties else {
            return Err(Failure::Lasting(format!("Azure's answer about `{model}` has no properties")));
        };
        let mut changed = false;
        for bag in ["tags", "properties"] {
            let bag = properties.entry(bag).or_insert(Value::Null);
            if bag.is_null() {
                *bag = json!({});
            }
            let Some(bag) = bag.as_object_mut() else { continue };
            // A property, once written, stays as it is.
            changed |= bag.insert(MARK.to_owned(), json!(statement)) != Some(json!(statement));
        }
        if !changed {
            return Ok(());
        }
        properties.remove("provisioningState");
        let body = json!({ "properties": properties }).to_string();
        let path = format!("{model}?api-version={API_VERSION}");
        let written = self.arm(Method::PUT, &path, body.into()).await?;
        written.map(drop).ok_or_else(|| Failure::Lasting(format!("`{model}` is not there any more")))
    }

    async fn arm(&self, method: Method, path: &str, body: Bytes) -> Result<Option<Value>, Failure> {
        let kinds: &[&str] = match method {
            Method::PUT => &["register_model", "write", "default"],
            _ => &["read", "default"],
        };
        let (to, credential) = self.way(Protocol::Arm, kinds).ok_or_else(|| {
            Failure::Lasting("no route to Resource Manager has a credential of the gate's own".to_owned())
        })?;
        self.send(ServicePurpose::Custody, (&to, &credential), method, path, body).await
    }

    /// Where a protocol's route leads, and as whom the gate itself goes there.
    fn way(&self, protocol: Protocol, kinds: &[&str]) -> Option<(Destination, Arc<str>)> {
        let route = self.0.routes.iter().find(|route| route.settings.protocol == protocol)?;
        let credential = route.settings.credential.as_ref()?.own(kinds)?;
        Some((route.settings.upstream.clone(), Arc::clone(credential)))
    }

    async fn send(
        &self,
        purpose: ServicePurpose,
        (to, credential): (&Destination, &str),
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Option<Value>, Failure> {
        let request = Request::builder().method(method.clone()).uri(path);
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        let request =
            request.map_err(|_| Failure::Lasting(format!("`{path}` is no path that could be asked for")))?;
        let failed = |error: CredentialError| match error.is_passing() {
            true => Failure::Passing(error.to_string()),
            false => Failure::Lasting(error.to_string()),
        };
        let credentials = &self.0.credentials;
        let token = credentials.service(purpose, credential).await.map_err(failed)?;
        let answer = credentials.call(&token, to, request).await.map_err(failed)?;
        let about = path.split('?').next().unwrap_or_default();
        match answer.status() {
            StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED => {
                serde_json::from_slice(answer.body())
                    .map(Some)
                    .map_err(|_| Failure::Lasting(format!("Azure's answer about `{about}` is not JSON")))
            }
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::FORBIDDEN if method == Method::PUT => {
                Err(Failure::Lasting(format!("Azure does not let the gate write `{about}`: {MEND}")))
            }
            status @ (StatusCode::TOO_MANY_REQUESTS | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(Failure::Passing(format!("Azure answered {status} about `{about}`")))
            }
            status if status.is_server_error() => {
                Err(Failure::Passing(format!("Azure answered {status} about `{about}`")))
            }
            status => Err(Failure::Lasting(format!("Azure answered {status} about `{about}`"))),
        }
    }
}
