//! Which of Azure's services a request is for, by the host that it names.
//!
//! By Azure's own names when the client resolves them to the sandbox; all services by path when it
//! came to `localhost`.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;

use super::{
    Shared, access, arm, call::Call, clouds::SimulatedCloud, entra, graph, inference, managed, monitor,
    names, plane, storage, vault,
};

/// The largest body that is read whole.
const LARGEST: usize = 64 * 1024 * 1024;

/// A service of Azure.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    Login,
    Arm,
    DataPlane,
    Vault,
    Graph,
    Ingestion,
    /// Segments before the container.
    Blob(usize),
    /// The endpoint, and the path below its base.
    Inference(String, String),
    Nobody,
}

/// The host without its port.
fn host_of(authority: &str) -> &str {
    let end = authority.rfind(':').filter(|at| !authority.get(*at..).is_some_and(|p| p.contains(']')));
    end.and_then(|at| authority.get(..at)).unwrap_or(authority)
}

/// Whether the authority is this machine's and not one of Azure's names.
pub fn is_local(authority: &str) -> bool {
    matches!(host_of(authority), "localhost" | "127.0.0.1" | "[::1]")
}

fn side(authority: &str, path: &str) -> Side {
    let host = host_of(authority).trim_end_matches('.').to_ascii_lowercase();
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default().to_ascii_lowercase();
    if !is_local(authority) {
        let cloud = SimulatedCloud::of(&host);
        return match host.as_str() {
            _ if [cloud.login, cloud.sts].contains(&host.as_str()) => Side::Login,
            _ if [cloud.arm, cloud.core].contains(&host.as_str()) => Side::Arm,
            _ if host == cloud.graph => Side::Graph,
            _ if host == format!("{}.{}", names::VAULT, cloud.vault) => Side::Vault,
            _ if host == format!("{}.blob.{}", names::ACCOUNT, cloud.storage) => Side::Blob(0),
            _ if host.ends_with(&format!(".ingest.{}", cloud.monitor)) => Side::Ingestion,
            _ if host.ends_with(&format!(".{}", cloud.data_plane)) => Side::DataPlane,
            _ => host
                .strip_suffix(&format!(".{}", cloud.scoring()))
                .map_or(Side::Nobody, |endpoint| Side::Inference(endpoint.to_owned(), path.to_owned())),
        };
    }
    match first.as_str() {
        "subscriptions" | "providers" | "tenants" | "metadata" => Side::Arm,
        "mlflow" | "history" | "metric" | "artifact" | "discovery" | "mferp" | "modelregistry"
        | "registrymanagement" => Side::DataPlane,
        "secrets" => Side::Vault,
        "v1.0" => Side::Graph,
        "datacollectionrules" => Side::Ingestion,
        "blob" => Side::Blob(1),
        "inference" => {
            let rest = path.trim_start_matches('/').split_once('/').map_or("", |(_, r)| r);
            let (endpoint, rest) = rest.split_once('/').unwrap_or((rest, ""));
            Side::Inference(endpoint.to_owned(), format!("/{rest}"))
        }
        _ if path.contains("/oauth2/") || path.contains("/.well-known/") || path.contains("/discovery/") => {
            Side::Login
        }
        _ => Side::Nobody,
    }
}

fn authority(request: &Request) -> String {
    request
        .uri()
        .authority()
        .map(ToString::to_string)
        .or_else(|| {
            let host = request.headers().get(http::header::HOST)?;
            host.to_str().ok().map(ToOwned::to_owned)
        })
        .unwrap_or_default()
}

/// Answers a request to any of Azure's hosts.
pub async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let host = authority(&request);
    let side = side(&host, request.uri().path());
    if let Side::Inference(endpoint, path) = side {
        return inference::serve(&shared, &endpoint, &path, host, request).await;
    }
    let call = match whole(request, host).await {
        Ok(call) => call,
        Err(response) => return response,
    };
    let arm = side == Side::Arm;
    let response = match side {
        Side::Login => entra::serve(&shared, &call),
        Side::Arm => arm::serve(&shared, &call),
        Side::DataPlane => plane::serve(&shared, &call),
        Side::Vault => vault::serve(&shared, &call),
        Side::Graph => graph::serve(&shared, &call),
        Side::Ingestion => monitor::ingest(&shared, &call),
        Side::Blob(skip) => storage::serve(&shared, &call, skip),
        // Nothing of the sandbox has this name.
        Side::Inference(..) | Side::Nobody => StatusCode::MISDIRECTED_REQUEST.into_response(),
    };
    let response = access::stamp(&call, response);
    if arm {
        monitor::note(&shared, &call, &response);
    }
    response
}

/// Answers a request to the machine's identity endpoint.
pub async fn serve_identity(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let host = authority(&request);
    match whole(request, host).await {
        Ok(call) => managed::serve(&shared, &call),
        Err(response) => response,
    }
}

async fn whole(request: Request, host: String) -> Result<Call, Response> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, LARGEST)
        .await
        .map_err(|_| StatusCode::PAYLOAD_TOO_LARGE.into_response())?;
    Ok(Call::new(&head, host, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azures_names_select_the_service() {
        assert_eq!(side("management.azure.com", "/subscriptions"), Side::Arm);
        assert_eq!(side("westeurope.api.azureml.ms:443", "/mlflow/v2.0/x"), Side::DataPlane);
        let scored = side("churn.westeurope.inference.ml.azure.com", "/score");
        assert_eq!(scored, Side::Inference("churn".to_owned(), "/score".to_owned()));
        assert_eq!(side("example.com", "/subscriptions"), Side::Nobody);
    }

    #[test]
    fn the_path_selects_the_service_on_this_machine() {
        assert_eq!(side("localhost:8443", "/subscriptions/x"), Side::Arm);
        assert_eq!(side("127.0.0.1:1", "/t/oauth2/v2.0/token"), Side::Login);
        assert_eq!(
            side("[::1]:1", "/inference/churn/v1/chat/completions"),
            Side::Inference("churn".to_owned(), "/v1/chat/completions".to_owned())
        );
    }
}
