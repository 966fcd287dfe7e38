//! How the chain of custody reads jobs, models and deployments: as the credential that reads at Resource
//! Manager, by tokens for that purpose.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::Value;

use super::build;
use crate::{
    azureml::ResourceId,
    config::Settings,
    credentials::{Credentials, ServicePurpose},
    gates::custody::Reader,
    net::Destination,
};

const API_VERSION: &str = "2025-12-01";
const MEND: &str = "give the gate's identity a role with `Microsoft.MachineLearningServices/workspaces/*/read` on the workspace";

/// Reads through Resource Manager; `None` if the configuration has no credential for that.
pub(super) fn reader(settings: &Settings, credentials: &Credentials, arm: &Destination) -> Option<Reader> {
    let name = build::rights(settings).credential?;
    let (credentials, arm) = (credentials.clone(), arm.clone());
    Some(Reader::new(move |id| {
        let (credentials, arm, name) = (credentials.clone(), arm.clone(), Arc::clone(&name));
        Box::pin(async move { read(&credentials, &arm, &name, &id).await })
    }))
}

async fn read(
    credentials: &Credentials,
    arm: &Destination,
    name: &str,
    id: &ResourceId,
) -> Result<Option<Value>, String> {
    let request = Request::get(format!("{id}?api-version={API_VERSION}")).body(Bytes::new());
    let request = request.map_err(|_| format!("`{id}` is no id that Azure could be asked about"))?;
    let token =
        credentials.service(ServicePurpose::Custody, name).await.map_err(|error| error.to_string())?;
    let answer = credentials.call(&token, arm, request).await.map_err(|error| error.to_string())?;
    match answer.status() {
        StatusCode::OK => serde_json::from_slice(answer.body())
            .map(Some)
            .map_err(|_| format!("Azure's answer about `{id}` is not JSON")),
        StatusCode::NOT_FOUND => Ok(None),
        StatusCode::FORBIDDEN => Err(format!("Azure does not let the gate read `{id}`: {MEND}")),
        status => Err(format!("Azure answered {status} when the gate read `{id}`")),
    }
}
