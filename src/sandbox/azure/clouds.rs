//! The clouds that the sandbox plays, told apart by the host that a request names.
//!
//! Each has its own login host, resources and issuer, and takes no token of another: a gate that
//! mixed them up would be refused here as it would be by Azure. These names are the sandbox's own
//! reading, not the gate's table.

use super::{front::is_local, names};

/// What one cloud calls things.
#[derive(Debug, PartialEq, Eq)]
pub struct SimulatedCloud {
    /// Its name in `az cloud list`.
    pub name: &'static str,
    /// The login host.
    pub login: &'static str,
    /// The host in `iss` of v1 tokens.
    pub sts: &'static str,
    /// Resource Manager.
    pub arm: &'static str,
    /// The older management API, whose tokens Resource Manager takes too.
    pub core: &'static str,
    /// The studio, and the resource of Azure Machine Learning.
    pub studio: &'static str,
    /// The data plane's suffix.
    pub data_plane: &'static str,
    /// The suffix of vaults.
    pub vault: &'static str,
    /// The suffix of storage.
    pub storage: &'static str,
    /// Microsoft Graph.
    pub graph: &'static str,
    /// The resource of Azure Monitor's ingestion, and the end of its hosts.
    pub monitor: &'static str,
    /// The portal.
    pub portal: &'static str,
}

/// Azure, Azure Government, Azure in China.
pub static CLOUDS: [SimulatedCloud; 3] = [
    SimulatedCloud {
        name: "AzureCloud",
        login: "login.microsoftonline.com",
        sts: "sts.windows.net",
        arm: "management.azure.com",
        core: "management.core.windows.net",
        studio: "ml.azure.com",
        data_plane: "api.azureml.ms",
        vault: "vault.azure.net",
        storage: "core.windows.net",
        graph: "graph.microsoft.com",
        monitor: "monitor.azure.com",
        portal: "portal.azure.com",
    },
    SimulatedCloud {
        name: "AzureUSGovernment",
        login: "login.microsoftonline.us",
        sts: "sts.windows.net",
        arm: "management.usgovcloudapi.net",
        core: "management.core.usgovcloudapi.net",
        studio: "ml.azure.us",
        data_plane: "api.ml.azure.us",
        vault: "vault.usgovcloudapi.net",
        storage: "core.usgovcloudapi.net",
        graph: "graph.microsoft.us",
        monitor: "monitor.azure.us",
        portal: "portal.azure.us",
    },
    SimulatedCloud {
        name: "AzureChinaCloud",
        login: "login.partner.microsoftonline.cn",
        sts: "sts.chinacloudapi.cn",
        arm: "management.chinacloudapi.cn",
        core: "management.core.chinacloudapi.cn",
        studio: "ml.azure.cn",
        data_plane: "api.ml.azure.cn",
        vault: "vault.azure.cn",
        storage: "core.chinacloudapi.cn",
        graph: "microsoftgraph.chinacloudapi.cn",
        monitor: "monitor.azure.cn",
        portal: "portal.azure.cn",
    },
];

impl SimulatedCloud {
    /// The public one.
    pub const fn public() -> &'static Self {
        let [public, ..] = &CLOUDS;
        public
    }

    /// The one that a host belongs to; the public one for this machine's own and unknown names.
    pub fn of(authority: &str) -> &'static Self {
        let host = authority.split(':').next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        if is_local(authority) {
            return Self::public();
        }
        CLOUDS.iter().find(|cloud| cloud.has(&host)).unwrap_or_else(|| Self::public())
    }

    /// The one that has a resource; the public one for those of nobody's.
    pub fn of_resource(resource: &str) -> &'static Self {
        let plain = resource.trim_end_matches('/');
        CLOUDS
            .iter()
            .find(|cloud| cloud.own_resources().iter().any(|own| own == plain))
            .unwrap_or(Self::public())
    }

    fn has(&self, host: &str) -> bool {
        [self.login, self.arm, self.core, self.graph].contains(&host)
            || [self.data_plane, self.vault, self.storage]
                .iter()
                .any(|suffix| host.ends_with(&format!(".{suffix}")))
            || host.ends_with(&format!(".inference.{}", self.studio))
            || host.ends_with(&format!(".ingest.{}", self.monitor))
    }

    /// The resources that only this cloud has, without a slash at the end.
    pub fn own_resources(&self) -> [String; 6] {
        [self.arm, self.core, self.studio, self.vault, self.graph, self.monitor]
            .map(|host| format!("https://{host}"))
    }

    /// `iss` of v1 tokens.
    pub fn issuer_v1(&self, tenant: &str) -> String {
        format!("https://{}/{tenant}/", self.sts)
    }

    /// `iss` of v2 tokens.
    pub fn issuer_v2(&self, tenant: &str) -> String {
        format!("https://{}/{tenant}/v2.0", self.login)
    }

    /// The suffix of scoring hosts, region included.
    pub fn scoring(&self) -> String {
        format!("{}.inference.{}", names::REGION, self.studio)
    }
}

/// The names that the server's certificate holds.
pub fn certified() -> Vec<String> {
    let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    for cloud in &CLOUDS {
        all.extend([cloud.login, cloud.sts, cloud.arm, cloud.graph].map(str::to_owned));
        all.extend([cloud.vault, cloud.data_plane].map(|suffix| format!("*.{suffix}")));
        all.push(format!("*.blob.{}", cloud.storage));
        all.push(format!("*.{}", cloud.scoring()));
        all.push(format!("*.{}-1.ingest.{}", names::REGION, cloud.monitor));
    }
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_resource_belong_to_one_cloud() {
        for cloud in &CLOUDS {
            for host in [
                cloud.login.to_owned(),
                cloud.arm.to_owned(),
                format!("x.{}:443", cloud.data_plane),
                format!("x.{}", cloud.vault),
                format!("x.blob.{}", cloud.storage),
                format!("x.{}", cloud.scoring()),
            ] {
                assert_eq!(SimulatedCloud::of(&host), cloud, "{host}");
            }
            for resource in cloud.own_resources() {
                assert_eq!(SimulatedCloud::of_resource(&format!("{resource}/")), cloud, "{resource}");
            }
        }
        assert_eq!(SimulatedCloud::of("localhost:1"), SimulatedCloud::public());
        assert_eq!(SimulatedCloud::of_resource("api://amlgate"), SimulatedCloud::public());
    }
}
