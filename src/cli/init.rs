//! `amlgate init`: a configuration for one workspace, to be completed and started.
//!
//! What it can derive from the workspace's id and the issuer's URL is written; what it cannot know
//! is `UNSET` with a comment that says where to find it, and `validate` and `serve` reject it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{certs, exit, put_whole, report};
use crate::{azureml::ResourceId, cloud::Cloud, config::values};

/// Writes `amlgate.yaml`, starter policies with tests, and certificates for one workspace.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The workspace's ARM id: `az ml workspace show --name W --resource-group G --query id -o tsv`.
    #[arg(long)]
    workspace: String,
    /// Who vouches for callers: `https://login.microsoftonline.com/TENANT/v2.0`, or any OpenID issuer.
    #[arg(long)]
    issuer: String,
    /// Where to write.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// The name that callers reach the gate by.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// Which Azure the workspace is in; by default the one whose login host the issuer is, else `public`.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(Cloud::WORDS))]
    cloud: Option<String>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The id is not a workspace's.
    #[error(
        "`{0}` is not a workspace's id: it looks like /subscriptions/S/resourceGroups/G/providers/Microsoft.MachineLearningServices/workspaces/W"
    )]
    Workspace(String),
    /// The issuer is not a URL.
    #[error("`{0}` is not an issuer: write the `iss` of its tokens, an https URL")]
    Issuer(String),
    /// A file is already there.
    #[error("`{0}` exists already and is not overwritten: remove it or choose another `--dir`")]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("cannot write `{path}`")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Certificates could not be made.
    #[error("cannot make certificates")]
    Certs(#[from] certs::CertsError),
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    match write(args) {
        Ok(workspace) => {
            eprintln!(
                "\nNext: fill in every UNSET, then `amlgate validate`, `amlgate doctor`, `amlgate serve`."
            );
            eprintln!("The gate's identity needs these rights and no others:");
            put_whole(format_args!("{}", rights(&workspace)));
            exit::DONE
        }
        Err(error @ (InitError::Workspace(_) | InitError::Issuer(_))) => report(&error, exit::usage()),
        Err(error) => report(&error, exit::FINDING),
    }
}

/// The parts of a workspace's id.
struct Workspace {
    id: ResourceId,
    name: String,
}

fn write(args: &Args) -> Result<Workspace, InitError> {
    let workspace = workspace(&args.workspace)?;
    let issuer = issuer_block(&args.issuer)?;
    let said = args.cloud.as_deref().and_then(Cloud::named);
    let cloud = said.or_else(|| issuer.cloud.clone()).unwrap_or_default();
    let files = [
        ("amlgate.yaml", configuration(&workspace, &issuer, &args.host, &cloud)),
        ("policies/starter.yaml", policies(&workspace, issuer.name)),
        ("policies/starter.test.yaml", tests(&workspace, issuer.name, &cloud)),
    ];
    for (name, _) in &files {
        let path = args.dir.join(name);
        if path.exists() {
            return Err(InitError::Exists(path));
        }
    }
    let certs_dir = args.dir.join("certs");
    let mut hosts = vec![args.host.clone()];
    if args.host != "localhost" {
        hosts.push("localhost".to_owned());
    }
    for (path, what) in certs::init(&certs_dir, &hosts, &certs::azure(&cloud))? {
        eprintln!("made {}: {what}", path.display());
    }
    for (name, text) in &files {
        put(&args.dir.join(name), text)?;
    }
    Ok(workspace)
}

fn put(path: &Path, text: &str) -> Result<(), InitError> {
    let failed = |source| InitError::Write { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)?;
    eprintln!("made {}", path.display());
    Ok(())
}

fn workspace(text: &str) -> Result<Workspace, InitError> {
    let wrong = || InitError::Workspace(text.to_owned());
    let id = ResourceId::parse(text).ok_or_else(wrong)?;
    let shape = ["subscriptions", "resourceGroups", "providers", "workspaces"];
    let segments = id.as_str().split('/').count();
    let complete = shape.iter().all(|s| id.after(s).is_some())
        && id.after("providers").is_some_and(|p| p.eq_ignore_ascii_case("Microsoft.MachineLearningServices"));
    if segments != 9 || !complete {
        return Err(wrong());
    }
    let name = id.after("workspaces").ok_or_else(wrong)?.to_owned();
    Ok(Workspace { id, name })
}

struct IssuerBlock {
    name: &'static str,
    yaml: String,
    tenant: String,
    /// The cloud whose login host it is.
    cloud: Option<Cloud>,
}

/// Issuers from which anybody can get a token, and the claim that narrows them to one customer.
const OPEN_ISSUERS: &[(&str, &str, &str)] = &[
    ("https://token.actions.githubusercontent.com", "repository_owner_id", "gh api /orgs/ORG --jq .id"),
    ("https://gitlab.com", "namespace_id", "the group's page shows its id"),
    ("https://accounts.google.com", "hd", "your Workspace domain"),
];

fn issuer_block(url: &str) -> Result<IssuerBlock, InitError> {
    let wrong = || InitError::Issuer(url.to_owned());
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    let origin = format!("https://{}", uri.authority().ok_or_else(wrong)?);
    values::base_url(&origin).map_err(|_| wrong())?;
    if uri.scheme_str() != Some("https") {
        return Err(wrong());
    }
    let of = |host: &str, cloud: &Cloud| host == cloud.login_host() || origin == cloud.sts;
    let cloud = uri.host().and_then(|host| Cloud::all().into_iter().find(|cloud| of(host, cloud)));
    if cloud.is_some() {
        let tenant = uri.path().split('/').find(|s| !s.is_empty()).ok_or_else(wrong)?.to_owned();
        let yaml = format!(
            "  - name: corp\n    entra:\n      tenant: {tenant}\n      audiences: [UNSET]          # the gate's own application: its client id, or api://amlgate\n      # groups: {{overage: graph, credential: gate}}   # ask Microsoft Graph for groups that tokens do not carry\n"
        );
        return Ok(IssuerBlock { name: "corp", yaml, tenant, cloud });
    }
    let mut yaml = format!(
        "  - name: corp\n    oidc:\n      issuer: {url}\n      audiences: [amlgate]        # what its tokens must be addressed to\n"
    );
    if let Some((_, claim, where_to)) =
        OPEN_ISSUERS.iter().find(|(open, ..)| url.trim_end_matches('/') == *open)
    {
        yaml.push_str(&format!(
            "    accept: {{claims: {{{claim}: UNSET}}}}   # mandatory: anybody can get a token from this issuer ({where_to})\n"
        ));
    }
    Ok(IssuerBlock { name: "corp", yaml, tenant: "UNSET".to_owned(), cloud: None })
}

fn configuration(workspace: &Workspace, issuer: &IssuerBlock, host: &str, cloud: &Cloud) -> String {
    let tenant_hint =
        if issuer.tenant == "UNSET" { "   # az account show --query tenantId -o tsv" } else { "" };
    format!(
        r#"# amlgate for the workspace `{name}`. Every UNSET must be filled in: `amlgate validate` lists them.
version: 1
{which}
listen:
  reverse:                        # Backstage, CI jobs, SDKs with a base URL
    address: "[::]:8443"
    public_url: https://{host}:8443
    tls: {{certificate: certs/server.pem, private_key: {{file: certs/server.key}}}}
  forward:                        # HTTPS_PROXY: notebooks and SDKs, nothing in their code changed
    address: "[::]:3128"
    tls: {{certificate: certs/server.pem, private_key: {{file: certs/server.key}}}}
    interception_ca: {{certificate: certs/interception-ca.pem, private_key: {{file: certs/interception-ca.key}}}}
    # passthrough: [{login}]      # tunnelled untouched; every other host that no route names is refused
  health: {{address: "127.0.0.1:8445"}}   # /healthz, /readyz, /metrics
  # The console and the API (/api/v1), here and below /.amlgate of `reverse`, where browsers sign in (register
  # the callback https://{host}:8443/.amlgate/callback):
  # admin: {{address: "127.0.0.1:8444", on_reverse: true, sign_in: {{issuer: {name_of_issuer}, client_id: UNSET}}}}

issuers:                          # who vouches for callers
{issuer}
credentials:                      # who the gate is towards Azure
  - name: gate
    tenant: {tenant}{tenant_hint}
    managed_identity: {{}}          # or client_id with client_secret, client_certificate or workload_identity

routes:
  - name: arm
    upstream: {arm}
    paths: [/subscriptions, /providers, /tenants]
    protocol: arm
    credential: gate
  - name: data-plane              # run history, MLflow, artifacts
    upstream: https://UNSET.{data_plane}        # the workspace's region: az ml workspace show --query location
    hosts: [ml.{host}]            # the azureml-mlflow plugin takes no path prefix
    paths: [/mlflow, /history, /mferp, /artifact, /metric, /modelregistry]
    protocol: azureml
    credential: gate
  - name: storage                 # code, models and data by signed URL; forward mode only
    upstream: https://UNSET.blob.{storage}  # the workspace's account: az ml workspace show --query storage_account
    protocol: storage
    credential: gate
    resource: {group}/providers/Microsoft.Storage/storageAccounts/UNSET     # its id
  # One such route for each scoring endpoint:
  # - name: churn
  #   upstream: https://churn.REGION.{inference}
  #   paths: [/endpoints/churn]   # this prefix is removed before forwarding
  #   protocol: inference
  #   credential: gate
  #   resource: {id}/onlineEndpoints/churn

policies: policies/
# Requests for approval, grants, sessions, revocations: a file, or {{postgres: {{url: {{env: DATABASE_URL}}}}}} where
# replicas share them.
store: {{sqlite: var/amlgate.db}}
# Where people hear of approvals; also `teams` and `webhook`:
# notify: [{{name: approvals, slack: {{url: {{env: SLACK_WEBHOOK_URL}}}}}}]
# In an emergency, entries of the policies that say `unless: {{break_glass: true}}` are lifted for people of `who`, once
# others of `by` have said yes (`amlgate break-glass`); every channel of `notify` hears of it, and those named here must be
# there:
# break_glass: {{who: [platform], by: [{{subject: platform, count: 1}}], max: 1h, review_by: 24h, notify: [approvals]}}
# Who knows whether code was reviewed, for entries of the policies with `review` (integrations/gerrit.md, github.md, gitlab.md):
# gerrit: [{{name: main, url: https://gerrit.example.com, user: amlgate, token: {{file: certs/gerrit.token}}}}]
# github: [{{name: main, token: {{file: certs/github.token}}}}]
# gitlab: [{{name: main, url: https://gitlab.example.com, token: {{file: certs/gitlab.token}}}}]
# Which reviewed code models came from is stated, signed and kept in the store (integrations/lineage.md):
evidence: {{signing_key: {{file: certs/evidence.key}}}}
# Where Event Grid tells of models, so that those are found that came in past the gate (integrations/azure-events.md):
# azure_events: [{{name: vision, path_secret: {{file: certs/azure.hook}}, from: [20.38.80.0/20]}}]
audit: {{name: amlgate-0, directory: var/audit, signing_key: {{file: certs/audit.key}}, reads: required}}
keys: {{seal: [{{file: certs/seal.key}}]}}
"#,
        name = workspace.name,
        id = workspace.id,
        group = workspace.id.as_str().split("/providers/").next().unwrap_or_default(),
        issuer = issuer.yaml,
        name_of_issuer = issuer.name,
        tenant = issuer.tenant,
        which = cloud
            .word()
            .filter(|_| *cloud != Cloud::public())
            .map(|word| format!("cloud: {word}\n"))
            .unwrap_or_default(),
        login = cloud.login_host(),
        arm = cloud.resource_manager,
        data_plane = cloud.data_plane,
        storage = cloud.storage,
        inference = cloud.inference,
    )
}

fn policies(workspace: &Workspace, issuer: &str) -> String {
    format!(
        r#"# Default deny: what no entry allows is refused, and told why. `amlgate policy test` runs the cases beside this file.
version: 1

subjects:
  data-scientists: [{{issuer: {issuer}, group: UNSET}}]      # the group's object id (Entra) or name
  platform: [{{issuer: {issuer}, group: UNSET}}]

scopes:
  workspace: {id}

allow:
  - name: data scientists work in the workspace
    who: [data-scientists]
    role: AzureML Data Scientist
    scope: workspace
  - name: data scientists score with keys they never see
    who: [data-scientists]
    actions:
      - Microsoft.MachineLearningServices/workspaces/onlineEndpoints/read
      - Microsoft.MachineLearningServices/workspaces/onlineEndpoints/listkeys/action
      - Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action
    secrets: {{endpoint_key: substitute, endpoint_token: substitute}}
    scope: workspace
  - name: data scientists upload and download what their signed URLs are for
    who: [data-scientists]
    actions:
      - Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read
      - Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write
    routes: [storage]
    when: has(request.query.sig)
  - name: the platform team reads everything
    who: [platform]
    role: Reader
    scope: workspace
  # What `az login` asks first: the subscriptions and tenants of the gate's own identity.
  - name: whoever signs in with az finds the subscription
    who: [data-scientists, platform]
    actions: [Microsoft.Resources/subscriptions/read, Microsoft.Resources/tenants/read]
  # By `amlgate request`, or in the console. Whom somebody may approve says `by` of the entry that asks for it.
  - name: people ask for approvals and answer them
    who: [data-scientists, platform]
    actions: [amlgate/requests/*, amlgate/grants/*]
  # By `amlgate lineage`, or in the console.
  - name: people see which reviewed code models came from
    who: [data-scientists, platform]
    actions: [amlgate/lineage/read]

deny:
  - name: nothing is opened to public networks
    effects: [expose_network]

require:
  # The call waits a minute for the answer; later it says how to ask. Nobody approves their own, and a yes
  # is good for this very call, once.
  - name: a deployment needs a second person
    who: [data-scientists]
    effects: [deploy_model]
    approval: {{by: [{{subject: platform, count: 1}}], valid_for: 4h, hold: 60s}}
"#,
        id = workspace.id,
    )
}

fn tests(workspace: &Workspace, issuer: &str, cloud: &Cloud) -> String {
    let url = format!("{}{}", cloud.resource_manager, workspace.id);
    format!(
        r#"version: 1
cases:
  - name: a data scientist lists jobs
    as: {{issuer: {issuer}, subject: someone, groups: [UNSET]}}     # the group of data-scientists
    request: {{method: GET, url: "{url}/jobs?api-version=2025-12-01"}}
    expect: {{decision: allow, entry: data scientists work in the workspace}}
  - name: a data scientist does not delete the workspace
    as: {{issuer: {issuer}, subject: someone, groups: [UNSET]}}     # the same
    request: {{method: DELETE, url: "{url}?api-version=2025-12-01"}}
    expect: {{decision: deny, code: AuthorizationFailed}}
  - name: a data scientist deploys once the platform team says yes
    as: {{issuer: {issuer}, subject: someone, groups: [UNSET]}}     # the same
    request:
      method: PUT
      url: "{url}/onlineEndpoints/churn/deployments/blue?api-version=2025-12-01"
      body: {{location: westeurope, properties: {{endpointComputeType: Managed, model: "{id}/models/churn/versions/1", instanceType: Standard_DS3_v2}}}}
    expect: {{decision: needs_approval, entry: a deployment needs a second person}}
  - name: a stranger reads nothing
    as: {{issuer: {issuer}, subject: stranger}}
    request: {{method: GET, url: "{url}?api-version=2025-12-01"}}
    expect: {{decision: deny, code: AuthorizationFailed}}
"#,
        id = workspace.id,
    )
}

/// What the gate's identity must be assigned for the starter policies: they pass on at most the
/// rights of these two roles.
fn rights(workspace: &Workspace) -> String {
    let id = &workspace.id;
    format!(
        r#"
# az
az role assignment create --assignee-object-id GATE_PRINCIPAL_ID --assignee-principal-type ServicePrincipal \
  --role "AzureML Data Scientist" --scope "{id}"

# Terraform
resource "azurerm_role_assignment" "amlgate" {{
  scope                = "{id}"
  role_definition_name = "AzureML Data Scientist"
  principal_id         = var.gate_principal_id
}}
"#
    )
}

#[cfg(test)]
mod tests_of_init {
    use super::*;

    const ID: &str = "/subscriptions/0b1f6471-1bf0-4dda-aec3-111122223333/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/vision";

    #[test]
    fn only_a_workspace_id_is_taken() {
        assert_eq!(workspace(ID).unwrap().name, "vision");
        for wrong in [
            "vision",
            "/subscriptions/a/resourceGroups/b",
            &format!("{ID}/jobs"),
            &ID.replace("MachineLearning", "Compute"),
        ] {
            assert!(workspace(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_tenant_is_read_from_an_entra_issuer() {
        let block =
            issuer_block("https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0")
                .unwrap();
        assert_eq!(block.tenant, "72f988bf-86f1-41af-91ab-2d7cd011db47");
        assert!(issuer_block("http://issuer.example").is_err());
    }

    #[test]
    fn an_issuer_open_to_everybody_must_be_narrowed() {
        assert!(
            issuer_block("https://token.actions.githubusercontent.com")
                .unwrap()
                .yaml
                .contains("repository_owner_id: UNSET")
        );
        assert!(!issuer_block("https://keycloak.example/realms/a").unwrap().yaml.contains("accept"));
    }
}
