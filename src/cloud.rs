//! The clouds: one table of every name that Azure has in each of them.
//!
//! Whatever names a host, suffix or resource of Azure's takes it from here: the login host and what
//! `iss` says, Resource Manager, the data plane, scoring, Key Vault, storage, Graph and what
//! `/metadata/endpoints` answers. `tests/architecture.rs` finds a name that stands anywhere else.
//!
//! It does not know what is asked of them, nor which addresses they have.

use std::{borrow::Cow, fmt, ops::Deref, sync::Arc};

/// A name in the table.
type Name = Cow<'static, str>;

/// Every name of one cloud. URLs have no slash at the end, suffixes no dot at the start.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// What `az cloud list` calls it.
    pub name: Name,
    /// Where people and applications get tokens: `https://login.microsoftonline.com`.
    pub login: Name,
    /// What `iss` of v1 tokens starts with: `https://sts.windows.net`.
    pub sts: Name,
    /// Resource Manager: `https://management.azure.com`.
    pub resource_manager: Name,
    /// The resource of tokens for it, where it is another than its URL.
    pub resource_manager_audience: Name,
    /// The resource of Azure's older management API, which old clients ask tokens for.
    pub classic_management: Name,
    /// The resource of Azure Machine Learning's own tokens, and the studio: `https://ml.azure.com`.
    pub machine_learning: Name,
    /// Behind `REGION.`: the data plane.
    pub data_plane: Name,
    /// Behind `ENDPOINT.REGION.`: scoring.
    pub inference: Name,
    /// Behind `VAULT.`; with `https://` before it the resource of tokens for vaults.
    pub key_vault: Name,
    /// Behind `ACCOUNT.blob.`.
    pub storage: Name,
    /// The resource of tokens for storage.
    pub storage_audience: Name,
    /// Microsoft Graph, and the resource of tokens for it.
    pub graph: Name,
    /// The resource of tokens for Azure Monitor's ingestion: `https://monitor.azure.com`. Behind
    /// `RULE.REGION.ingest.` its hosts.
    pub monitor: Name,
    /// The portal.
    pub portal: Name,
    /// Behind `REGISTRY.`: container images.
    pub container_registry: Name,
}

/// Azure.
const PUBLIC: Endpoints = Endpoints {
    name: Cow::Borrowed("AzureCloud"),
    login: Cow::Borrowed("https://login.microsoftonline.com"),
    sts: Cow::Borrowed("https://sts.windows.net"),
    resource_manager: Cow::Borrowed("https://management.azure.com"),
    resource_manager_audience: Cow::Borrowed("https://management.azure.com"),
    classic_management: Cow::Borrowed("https://management.core.windows.net"),
    machine_learning: Cow::Borrowed("https://ml.azure.com"),
    data_plane: Cow::Borrowed("api.azureml.ms"),
    inference: Cow::Borrowed("inference.ml.azure.com"),
    key_vault: Cow::Borrowed("vault.azure.net"),
    storage: Cow::Borrowed("core.windows.net"),
    storage_audience: Cow::Borrowed("https://storage.azure.com"),
    graph: Cow::Borrowed("https://graph.microsoft.com"),
    monitor: Cow::Borrowed("https://monitor.azure.com"),
    portal: Cow::Borrowed("https://portal.azure.com"),
    container_registry: Cow::Borrowed("azurecr.io"),
};

/// Azure Government, whose v1 tokens have the public cloud's `iss`.
const USGOV: Endpoints = Endpoints {
    name: Cow::Borrowed("AzureUSGovernment"),
    login: Cow::Borrowed("https://login.microsoftonline.us"),
    sts: Cow::Borrowed("https://sts.windows.net"),
    resource_manager: Cow::Borrowed("https://management.usgovcloudapi.net"),
    resource_manager_audience: Cow::Borrowed("https://management.usgovcloudapi.net"),
    classic_management: Cow::Borrowed("https://management.core.usgovcloudapi.net"),
    machine_learning: Cow::Borrowed("https://ml.azure.us"),
    data_plane: Cow::Borrowed("api.ml.azure.us"),
    inference: Cow::Borrowed("inference.ml.azure.us"),
    key_vault: Cow::Borrowed("vault.usgovcloudapi.net"),
    storage: Cow::Borrowed("core.usgovcloudapi.net"),
    storage_audience: Cow::Borrowed("https://storage.azure.com"),
    graph: Cow::Borrowed("https://graph.microsoft.us"),
    monitor: Cow::Borrowed("https://monitor.azure.us"),
    portal: Cow::Borrowed("https://portal.azure.us"),
    container_registry: Cow::Borrowed("azurecr.us"),
};

/// Azure operated by 21Vianet.
const CHINA: Endpoints = Endpoints {
    name: Cow::Borrowed("AzureChinaCloud"),
    login: Cow::Borrowed("https://login.partner.microsoftonline.cn"),
    sts: Cow::Borrowed("https://sts.chinacloudapi.cn"),
    resource_manager: Cow::Borrowed("https://management.chinacloudapi.cn"),
    resource_manager_audience: Cow::Borrowed("https://management.chinacloudapi.cn"),
    classic_management: Cow::Borrowed("https://management.core.chinacloudapi.cn"),
    machine_learning: Cow::Borrowed("https://ml.azure.cn"),
    data_plane: Cow::Borrowed("api.ml.azure.cn"),
    inference: Cow::Borrowed("inference.ml.azure.cn"),
    key_vault: Cow::Borrowed("vault.azure.cn"),
    storage: Cow::Borrowed("core.chinacloudapi.cn"),
    storage_audience: Cow::Borrowed("https://storage.azure.com"),
    graph: Cow::Borrowed("https://microsoftgraph.chinacloudapi.cn"),
    monitor: Cow::Borrowed("https://monitor.azure.cn"),
    portal: Cow::Borrowed("https://portal.azure.cn"),
    container_registry: Cow::Borrowed("azurecr.cn"),
};

/// Further names of login hosts, which no configuration needs: under these too an issuer is Entra.
const OTHER_LOGINS: &[&str] = &[
    "login.microsoft.com",
    "login.windows.net",
    "login.chinacloudapi.cn",
    "login.sovcloud-identity.fr",
    "login.sovcloud-identity.de",
    "login.sovcloud-identity.sg",
];

/// Resources of Azure that the gate asks no token for, in no cloud's table.
const OTHER_RESOURCES: &[&str] = &["https://graph.windows.net", "https://ai.azure.com"];

/// Which Azure: one row of the table, or one of the operator's own.
#[derive(Clone, PartialEq, Eq)]
pub struct Cloud(Arc<Endpoints>);

impl Default for Cloud {
    fn default() -> Self {
        Self::public()
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cloud({} at {})", self.name, self.resource_manager)
    }
}

impl Deref for Cloud {
    type Target = Endpoints;

    fn deref(&self) -> &Endpoints {
        &self.0
    }
}

impl From<Endpoints> for Cloud {
    fn from(endpoints: Endpoints) -> Self {
        Self(Arc::new(endpoints))
    }
}

/// What a host of Azure's serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Resource Manager.
    ResourceManager,
    /// Azure Machine Learning's data plane.
    DataPlane,
    /// A scoring endpoint.
    Inference,
    /// A vault.
    KeyVault,
    /// Blobs.
    Storage,
}

impl Cloud {
    /// The words of `cloud:`.
    pub const WORDS: [&'static str; 3] = ["public", "usgov", "china"];

    /// Azure.
    #[must_use]
    pub fn public() -> Self {
        PUBLIC.into()
    }

    /// A cloud by its word; `None` for another word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "public" => Some(PUBLIC.into()),
            "usgov" => Some(USGOV.into()),
            "china" => Some(CHINA.into()),
            _ => None,
        }
    }

    /// The clouds that everybody can have.
    #[must_use]
    pub fn all() -> [Self; 3] {
        [PUBLIC.into(), USGOV.into(), CHINA.into()]
    }

    /// The word of the cloud, if it has one.
    #[must_use]
    pub fn word(&self) -> Option<&'static str> {
        Self::WORDS.into_iter().find(|word| Self::named(word).is_some_and(|cloud| cloud == *self))
    }

    /// The resource of tokens for vaults.
    #[must_use]
    pub fn key_vault_audience(&self) -> String {
        format!("https://{}", self.key_vault)
    }

    /// Where people of a tenant sign in.
    #[must_use]
    pub fn login_host(&self) -> &str {
        host_of(&self.login)
    }

    /// The host of Resource Manager.
    #[must_use]
    pub fn resource_manager_host(&self) -> &str {
        host_of(&self.resource_manager)
    }

    /// The studio of the cloud in whose table a host is Resource Manager's: `https://ml.azure.com`.
    #[must_use]
    pub fn studio_beside(resource_manager: &str) -> Option<String> {
        let is = |cloud: &Self| cloud.resource_manager_host().eq_ignore_ascii_case(resource_manager);
        Self::all().into_iter().find(is).map(|cloud| cloud.machine_learning.to_string())
    }

    /// What a host serves, if it is this cloud's.
    #[must_use]
    pub fn service(&self, host: &str) -> Option<Service> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let below = |suffix: &str| {
            let start = host.len().checked_sub(suffix.len())?;
            let (before, end) = (host.get(..start)?, host.get(start..)?);
            end.eq_ignore_ascii_case(suffix).then(|| before.strip_suffix('.')).flatten()
        };
        if host.eq_ignore_ascii_case(self.resource_manager_host()) {
            Some(Service::ResourceManager)
        } else if below(&self.data_plane).is_some() {
            Some(Service::DataPlane)
        } else if below(&self.inference).is_some() {
            Some(Service::Inference)
        } else if below(&self.key_vault).is_some() {
            Some(Service::KeyVault)
        } else {
            let account = below(&self.storage)?.to_ascii_lowercase();
            account.strip_suffix(".blob").is_some_and(|name| !name.is_empty()).then_some(Service::Storage)
        }
    }

    /// Whether a vault is this cloud's: one name before the suffix.
    #[must_use]
    pub fn is_vault(&self, host: &str) -> bool {
        host.strip_suffix(&*self.key_vault)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|vault| !vault.is_empty() && !vault.contains('.'))
    }

    /// Whether it is a host of Azure Monitor's ingestion: `RULE.REGION.ingest.monitor.azure.com`.
    #[must_use]
    pub fn is_ingestion(&self, host: &str) -> bool {
        host.strip_suffix(host_of(&self.monitor))
            .and_then(|rest| rest.strip_suffix(".ingest."))
            .is_some_and(|rule| !rule.is_empty())
    }

    /// Whether tokens for this audience are for Azure itself: whoever receives one could use it there.
    fn has_audience(&self, audience: &str) -> bool {
        let vaults = self.key_vault_audience();
        [
            &*self.resource_manager,
            &*self.resource_manager_audience,
            &*self.classic_management,
            &*self.machine_learning,
            &*vaults,
            &*self.storage_audience,
            &*self.monitor,
            &*self.graph,
        ]
        .iter()
        .any(|own| own.eq_ignore_ascii_case(audience))
    }
}

/// Whether a host issues Entra's tokens, in whichever cloud.
#[must_use]
pub fn issues_tokens(host: &str) -> bool {
    OTHER_LOGINS.contains(&host)
        || Cloud::all().iter().any(|cloud| [&cloud.login, &cloud.sts].map(|url| host_of(url)).contains(&host))
}

/// Whether an audience, without a slash at its end, is that of a service of Azure, in whichever cloud.
#[must_use]
pub fn is_audience(audience: &str) -> bool {
    OTHER_RESOURCES.iter().any(|other| other.eq_ignore_ascii_case(audience))
        || Cloud::all().iter().any(|cloud| cloud.has_audience(audience))
}

/// The host of a URL of the table.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', ':']).unwrap_or(rest.len());
    rest.get(..end).unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cloud_knows_its_own_hosts_and_none_of_another() {
        for (word, region, blob) in [
            ("public", "westeurope.api.azureml.ms", "a.blob.core.windows.net"),
            ("usgov", "usgovarizona.api.ml.azure.us", "a.blob.core.usgovcloudapi.net"),
            ("china", "chinaeast2.api.ml.azure.cn", "a.blob.core.chinacloudapi.cn"),
        ] {
            let own = Cloud::named(word).unwrap();
            assert_eq!(own.word(), Some(word));
            let arm = own.resource_manager_host().to_owned();
            let scoring = format!("e.r.{}", own.inference);
            let vault = format!("v.{}", own.key_vault);
            for (host, service) in [
                (arm.as_str(), Service::ResourceManager),
                (region, Service::DataPlane),
                (scoring.as_str(), Service::Inference),
                (vault.as_str(), Service::KeyVault),
                (blob, Service::Storage),
            ] {
                for cloud in Cloud::all() {
                    assert_eq!(cloud.service(host), (cloud == own).then_some(service), "{host} {cloud:?}");
                }
                assert_eq!(own.service(&host.to_uppercase()), Some(service));
                assert_eq!(own.service(&format!("{host}.evil.example")), None);
            }
            assert_eq!(own.service(&own.data_plane), None, "a suffix is no host");
            assert_eq!(own.service(&format!("evil{}", own.data_plane)), None);
        }
    }

    #[test]
    fn hosts_of_the_login_and_audiences_of_azure_are_known_in_every_cloud() {
        for host in ["login.microsoftonline.com", "sts.windows.net", "login.microsoftonline.us"] {
            assert!(issues_tokens(host), "{host}");
        }
        assert!(issues_tokens("login.partner.microsoftonline.cn") && issues_tokens("sts.chinacloudapi.cn"));
        assert!(!issues_tokens("login.example.com"));
        for audience in ["https://management.usgovcloudapi.net", "https://VAULT.azure.cn"] {
            assert!(is_audience(audience), "{audience}");
        }
        assert!(!is_audience("api://amlgate"));
    }

    #[test]
    fn urls_have_no_slash_and_suffixes_no_dot() {
        for cloud in Cloud::all() {
            for url in [&cloud.login, &cloud.sts, &cloud.resource_manager, &cloud.graph, &cloud.portal] {
                assert!(url.starts_with("https://") && !url.ends_with('/'), "{url}");
            }
            for suffix in [&cloud.data_plane, &cloud.inference, &cloud.key_vault, &cloud.storage] {
                assert!(!suffix.starts_with('.') && !suffix.contains('/'), "{suffix}");
            }
        }
    }
}
