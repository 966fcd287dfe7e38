//! `/metadata/endpoints`: which Azure a client finds behind the gate.
//!
//! `az cloud register` and `azure-ai-ml` ask Resource Manager for it before they sign in. It names the
//! gate as Resource Manager, and as the audience of tokens the gate's own, so that what a person's
//! `az login` brings is a token that the gate accepts. Every other service is Azure's own.

use serde_json::{Value, json};

use crate::{cloud::Cloud, config::Settings, identity::IssuerKind, proxy::CloudDocuments};

/// The documents for those who come to the gate's own address and those who come through a tunnel.
pub(super) fn documents(settings: &Settings) -> CloudDocuments {
    let cloud = &settings.cloud;
    let azure = [&cloud.classic_management, &cloud.resource_manager_audience].map(|name| format!("{name}/"));
    let mut here = None;
    if let Some(reverse) = &settings.reverse {
        let entra = settings.issuers.iter().find_map(|issuer| match &issuer.kind {
            IssuerKind::Entra { tenant, authority, .. } => Some((tenant, authority, &issuer.audiences)),
            IssuerKind::Oidc { .. } | IssuerKind::Backstage { .. } | IssuerKind::Certificate(_) => None,
        });
        let gate = reverse.public_url.to_text();
        here = Some(match entra {
            // Clients take the first audience, with `/.default` behind it, as the scope of their tokens.
            Some((tenant, authority, ours)) => {
                let audiences: Vec<&str> =
                    ours.iter().map(AsRef::as_ref).chain(azure.iter().map(String::as_str)).collect();
                let login = authority.to_string();
                document(cloud, &gate, login.trim_end_matches('/'), tenant, &audiences)
            }
            None => document(cloud, &gate, &cloud.login, "common", &azure.each_ref().map(String::as_str)),
        });
    }
    let azure = azure.each_ref().map(String::as_str);
    let through = document(cloud, &cloud.resource_manager, &cloud.login, "common", &azure);
    CloudDocuments { here, through }
}

fn document(cloud: &Cloud, arm: &str, login: &str, tenant: &str, audiences: &[&str]) -> Value {
    json!({
        "name": cloud.name,
        "portal": cloud.portal,
        "authentication": {
            "loginEndpoint": login,
            "audiences": audiences,
            "tenant": tenant,
            "identityProvider": "AAD",
        },
        "resourceManager": arm,
        "graph": format!("{}/", cloud.graph),
        "microsoftGraphResourceId": format!("{}/", cloud.graph),
        "suffixes": {
            "storage": cloud.storage,
            "keyVaultDns": cloud.key_vault,
            "acrLoginServer": cloud.container_registry,
        },
    })
}
