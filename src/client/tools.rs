//! What single clients need: which of the variables they read, and what no variable can say.
//!
//! `integrations/clients.md` is the same for people; a test compares the two.

use crate::cloud::Cloud;

/// A client, or a family of clients that read the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tool {
    /// azure-ai-ml, azure-mgmt, Key Vault and storage clients of Python.
    AzureAiMl,
    /// The Azure CLI.
    Az,
    /// MLflow, with and without Azure ML's plugin.
    Mlflow,
    /// openai, httpx, aiohttp, urllib, websockets.
    Openai,
    /// The Azure SDK for JavaScript, Node.
    Node,
    /// curl.
    Curl,
    /// git, pip.
    Git,
    /// kubectl and what is built on client-go.
    Kubectl,
}

const PROXY: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"];
const SMALL: [&str; 3] = ["https_proxy", "http_proxy", "no_proxy"];
const IDENTITY: [&str; 2] = ["IDENTITY_ENDPOINT", "IDENTITY_HEADER"];

impl Tool {
    /// Whether it reads a variable.
    #[must_use]
    pub fn reads(self, variable: &str) -> bool {
        let (ways, own, identity): (&[&str], &[&str], bool) = match self {
            Self::AzureAiMl => (&PROXY, &["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"], true),
            Self::Az | Self::Mlflow => (&PROXY, &["REQUESTS_CA_BUNDLE"], true),
            Self::Openai => (&PROXY, &["SSL_CERT_FILE"], false),
            Self::Node => (&PROXY, &["NODE_USE_ENV_PROXY", "NODE_EXTRA_CA_CERTS"], true),
            Self::Curl => (&SMALL, &["CURL_CA_BUNDLE"], false),
            Self::Git => (&SMALL, &["GIT_SSL_CAINFO", "PIP_CERT"], false),
            Self::Kubectl => (&["HTTPS_PROXY", "NO_PROXY"], &[], false),
        };
        let identity = identity && IDENTITY.contains(&variable);
        identity || ways.contains(&variable) || own.contains(&variable)
    }

    /// What is to be said besides, for the gate at `gate`, whose interception authorities lie in
    /// `authorities`: lines without a mark in front of them. Words in capitals are the reader's own.
    #[must_use]
    pub fn says(self, gate: &str, authorities: &str) -> Vec<String> {
        let gate = gate.trim_end_matches('/');
        // Examples, as the words in capitals are: at another cloud the reader has its names.
        let azure = Cloud::public();
        match self {
            Self::AzureAiMl => vec![
                "with these variables: MLClient(DefaultAzureCredential(), SUBSCRIPTION, GROUP, WORKSPACE)".to_owned(),
                "without a proxy, at the gate's own address:".to_owned(),
                format!(
                    "  MLClient(credential, SUBSCRIPTION, GROUP, WORKSPACE, cloud=\"gate\", cloud_metadata={{\"azure_portal\": \"{gate}/\", \"resource_manager\": \"{gate}/\", \"active_directory\": \"{gate}/\", \"aml_resource_id\": AUDIENCE, \"storage_endpoint\": \"{}\", \"registry_discovery_endpoint\": \"{gate}/\"}})",
                    azure.storage
                ),
                "  credential: an object whose get_token(*scopes, **kwargs) gives AccessToken(what `amlgate token` prints, when it ends); AUDIENCE: the gate's `audiences`".to_owned(),
                format!("  azure-mgmt packages: base_url=\"{gate}\", credential_scopes=[\"AUDIENCE/.default\"]"),
            ],
            Self::Az => vec![
                "with these variables: az login --identity".to_owned(),
                format!(
                    "without a proxy, at the gate's own address: az cloud register --name gate --endpoint-resource-manager {gate} && az cloud set --name gate"
                ),
            ],
            Self::Mlflow => vec![
                format!(
                    "the tracking URI is Azure's own: azureml://REGION.{}/mlflow/v1.0/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.MachineLearningServices/workspaces/WORKSPACE",
                    azure.data_plane
                ),
                "plain mlflow, without the plugin: https:// for azureml://, and v2.0 for v1.0".to_owned(),
                format!("without a proxy: the data plane's own host at the gate (`hosts` of its route) for REGION.{}, and MLFLOW_TRACKING_TOKEN=\"$(amlgate token)\"", azure.data_plane),
            ],
            Self::Openai => vec![
                format!("OpenAI(base_url=\"https://ENDPOINT.REGION.{}/v1\", api_key=\"none\"): the gate brings the endpoint's key", azure.inference),
                format!(
                    "without a proxy: base_url=\"{gate}/PATH/v1\" (`paths` of the endpoint's route), api_key=\"$(amlgate token)\""
                ),
            ],
            Self::Node => vec![
                "fetch and https read the proxy from Node 24 on; the Azure SDK for JavaScript always does".to_owned(),
            ],
            Self::Curl | Self::Git => Vec::new(),
            Self::Kubectl => vec![
                "once, for a cluster that the gate has a route to:".to_owned(),
                format!("  kubectl config set-cluster CLUSTER --server=https://API-SERVER --certificate-authority='{authorities}'"),
                "  kubectl config set-credentials gate --exec-api-version=client.authentication.k8s.io/v1 --exec-command=amlgate --exec-arg=token --exec-arg=-o --exec-arg=exec-credential --exec-interactive-mode=Never".to_owned(),
                "  kubectl config set-context CLUSTER --cluster=CLUSTER --user=gate".to_owned(),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::SocketAddr, path::Path};

    use clap::ValueEnum as _;

    use super::{
        super::environment::{Environment, Files},
        *,
    };

    const TABLE: &str = include_str!("../../integrations/clients.md");

    /// Each row's client, and the variables that stand in it.
    fn rows() -> Vec<(Tool, BTreeSet<&'static str>)> {
        let words = |text: &'static str| text.split('`').skip(1).step_by(2);
        TABLE
            .lines()
            .filter(|line| line.starts_with("| ") && !line.starts_with("| client"))
            .map(|line| {
                let cells: Vec<_> = line.split('|').collect();
                let tool = Tool::from_str(words(cells[2]).next().unwrap(), false).unwrap();
                let variable = |word: &&str| {
                    word.contains('_') && word.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
                };
                (tool, cells[3..].iter().flat_map(|cell| words(cell)).filter(variable).collect())
            })
            .collect()
    }

    #[test]
    fn every_variable_that_a_client_reads_is_set_and_no_other_is() {
        let relay = SocketAddr::from(([127, 0, 0, 1], 3128));
        let all = Environment::through(relay, "word", &Files::below(Path::new("/home")), "");
        let set: BTreeSet<&str> = all.iter().map(|(name, _)| name).collect();
        let rows = rows();
        assert_eq!(rows.len(), Tool::value_variants().len(), "a row for each client");
        for (tool, listed) in &rows {
            let read: BTreeSet<&str> = set.iter().copied().filter(|name| tool.reads(name)).collect();
            assert_eq!(*listed, read, "{tool:?}");
            assert!(listed.is_subset(&set), "{tool:?}");
        }
        let listed: BTreeSet<&str> = rows.into_iter().flat_map(|(_, listed)| listed).collect();
        assert_eq!(listed, set, "what is set is read by somebody");
    }

    #[test]
    fn what_is_said_names_the_gate_and_breaks_no_line() {
        for tool in Tool::value_variants() {
            let lines = tool.says("https://gate.example/", "/home/gate-ca.pem");
            assert!(
                lines.iter().all(|line| !line.contains(['\n', '\r']) && !line.contains("example//")),
                "{lines:?}"
            );
        }
        assert!(
            Tool::Az
                .says("https://gate.example/", "")
                .concat()
                .contains("--endpoint-resource-manager https://gate.example ")
        );
        assert!(Tool::Kubectl.says("", "/home/gate-ca.pem").concat().contains("'/home/gate-ca.pem'"));
    }
}
