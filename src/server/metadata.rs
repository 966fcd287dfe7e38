//! `/metadata/endpoints`: which Azure a client finds behind the gate.
//!
//! `az cloud register` and `azure-ai-ml` ask Resource Manager for it before they sign in. It names the
//! gate as Resource Manager, and as the audience of tokens the gate's own, so that what a person's
//! `az login` brings is a token that the gate accepts. Every other service is Azure's own.

use serde_json::{Value, json};

use crate::{
    config::settings::{Cloud, Settings},
    identity::IssuerKind,
    proxy::CloudDocuments,
};

/// What the clouds call their services (`GET /metadata/endpoints` of each).
struct Names {
    cloud: &'static str,
    portal: &'static str,
    arm: &'static str,
    core: &'static str,
    graph: &'static str,
    storage: &'static str,
    vault: &'static str,
    registry: &'static str,
}

const fn names(cloud: Cloud) -> Names {
    match cloud {
        Cloud::Public => Names {
            cloud: "AzureCloud",
            portal: "https://portal.azure.com",
            arm: "https://management.azure.com",
            core: "https://management.core.windows.net/",
            graph: "https://graph.microsoft.com/",
            storage: "core.windows.net",
            vault: "vault.azure.net",
            registry: "azurecr.io",
        },
        Cloud::UsGov => Names {
            cloud: "AzureUSGovernment",
            portal: "https://portal.azure.us",
            arm: "https://management.usgovcloudapi.net",
            core: "https://management.core.usgovcloudapi.net/",
            graph: "https://graph.microsoft.us/",
            storage: "core.usgovcloudapi.net",
            vault: "vault.usgovcloudapi.net",
            registry: "azurecr.us",
        },
        Cloud::China => Names {
            cloud: "AzureChinaCloud",
            portal: "https://portal.azure.cn",
            arm: "https://management.chinacloudapi.cn",
            core: "https://management.core.chinacloudapi.cn/",
            graph: "https://microsoftgraph.chinacloudapi.cn/",
            storage: "core.chinacloudapi.cn",
            vault: "vault.azure.cn",
            registry: "azurecr.cn",
        },
    }
}

/// The documents for those who come to the gate's own address and those who come through a tunnel.
pub(super) fn documents(settings: &Settings) -> CloudDocuments {
    let names = names(settings.cloud);
    let azure = [names.core.to_owned(), format!("{}/", names.arm)];
    let mut here = None;
    if let Some(reverse) = &settings.reverse {
        let entra = settings.issuers.iter().find_map(|issuer| match &issuer.kind {
            IssuerKind::Entra { tenant, authority, .. } => Some((tenant, authority, &issuer.audiences)),
            IssuerKind::Oidc { .. } | IssuerKind::Backstage { .. } => None,
        });
        let gate = reverse.public_url.to_text();
        here = Some(match entra {
            // Clients take the first audience, with `/.default` behind it, as the scope of their tokens.
            Some((tenant, authority, ours)) => {
                let audiences: Vec<&str> =
                    ours.iter().map(AsRef::as_ref).chain(azure.iter().map(String::as_str)).collect();
                let login = authority.to_string();
                document(&names, &gate, login.trim_end_matches('/'), tenant, &audiences)
            }
            None => {
                let login = settings.cloud.login().to_text();
                document(&names, &gate, &login, "common", &azure.each_ref().map(String::as_str))
            }
        });
    }
    let login = settings.cloud.login().to_text();
    let through = document(&names, names.arm, &login, "common", &azure.each_ref().map(String::as_str));
    CloudDocuments { here, through }
}

fn document(names: &Names, arm: &str, login: &str, tenant: &str, audiences: &[&str]) -> Value {
    json!({
        "name": names.cloud,
        "portal": names.portal,
        "authentication": {
            "loginEndpoint": login,
            "audiences": audiences,
            "tenant": tenant,
            "identityProvider": "AAD",
        },
        "resourceManager": arm,
        "graph": names.graph,
        "microsoftGraphResourceId": names.graph,
        "suffixes": {
            "storage": names.storage,
            "keyVaultDns": names.vault,
            "acrLoginServer": names.registry,
        },
    })
}
