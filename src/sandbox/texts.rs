//! The texts that a sandbox writes: the gate's configuration, its policies with their tests, and
//! commands to copy and paste.

use std::path::Path;

use super::{
    azure::names::{self, workspace_id},
    home::Layout,
    mesh::TRUST_DOMAIN,
};

/// The api-version of the commands.
const VERSION: &str = "2025-12-01";

/// `amlgate.yaml`.
pub fn configuration(layout: &Layout) -> String {
    let scoring = format!("https://{}.{}.inference.ml.azure.com", names::ENDPOINT, names::REGION);
    format!(
        r#"# Written by `amlgate sandbox` at each start; edit the policies instead.
version: 1

listen:
  reverse:
    address: "{reverse}"
    public_url: {gate}
    tls: {{certificate: certs/server.pem, private_key: {{file: certs/server.key}}, client_ca: certs/mesh-ca.pem}}
  forward:                        # HTTPS_PROXY; in plaintext because it is on loopback
    address: "{forward}"
    interception_ca: {{certificate: certs/interception-ca.pem, private_key: {{file: certs/interception-ca.key}}}}
    login: answer                 # code that insists on signing in to Entra gets what is worth nothing
  admin: {{address: "{admin}", public_url: "http://{admin}", sign_in: {{issuer: sandbox}}}}
  health: {{address: "{health}"}}

issuers:
  - name: sandbox                 # the development issuer: sam, rita, pat, alex and ci
    oidc: {{issuer: "{issuer}", audiences: [amlgate], client_id: amlgate-cli, scopes: [openid, profile, offline_access]}}
    address: "{issuer_address}"
    trust: {{ca: certs/ca.pem}}
  - name: entra                   # the simulated Entra, for tokens of its shape
    entra: {{tenant: {tenant}, client_id: {client}, audiences: [{client}, "{uri}"]}}
    address: "{azure}"
    trust: {{ca: certs/ca.pem}}
  - name: mesh                    # machines with certificates: ci
    certificate: {{ca: certs/mesh-ca.pem, spiffe: {{trust_domain: {domain}}}, crl: [certs/mesh.crl]}}

credentials:
  - name: gate                    # who the gate is towards Azure
    tenant: {tenant}
    client_id: {client}
    client_secret: {{file: certs/gate-client.secret}}
    address: "{azure}"
    trust: {{ca: certs/ca.pem}}

routes:                           # Azure's own names, served by the sandbox
  - name: arm
    upstream: https://management.azure.com
    paths: [/subscriptions, /providers, /tenants]
    protocol: arm
    credential: gate
    address: "{azure}"
    trust: {{ca: certs/ca.pem}}
  - name: data-plane
    upstream: https://{region}.api.azureml.ms
    paths: [/mlflow, /history, /metric, /artifact, /mferp, /modelregistry, /discovery]
    protocol: azureml
    credential: gate
    address: "{azure}"
    trust: {{ca: certs/ca.pem}}
  - name: {endpoint}
    upstream: {scoring}
    paths: [/endpoints/{endpoint}]
    protocol: inference
    credential: gate
    auth: key                     # the gate fetches the endpoint's key; nobody else sees it
    resource: {workspace}/onlineEndpoints/{endpoint}
    address: "{azure}"
    trust: {{ca: certs/ca.pem}}
  - name: storage                 # uploads and downloads by signed URL; forward mode only
    upstream: https://{account}.blob.core.windows.net
    protocol: storage
    credential: gate
    resource: {account_id}
    address: "{azure}"
    trust: {{ca: certs/ca.pem}}

policies: policies/
store: {{sqlite: var/amlgate.db}}
evidence: {{signing_key: {{file: certs/evidence.key}}}}
audit: {{name: amlgate-sandbox, directory: var/audit, signing_key: {{file: certs/audit.key}}, reads: required}}
keys: {{seal: [{{file: certs/seal.key}}]}}
"#,
        reverse = layout.reverse_address,
        gate = layout.gate,
        forward = layout.forward_address,
        account = names::ACCOUNT,
        account_id = names::account_id(),
        admin = layout.admin_address,
        health = layout.health_address,
        issuer = layout.issuer,
        issuer_address = layout.issuer_address,
        azure = layout.azure_address,
        tenant = names::TENANT,
        client = names::GATE_CLIENT,
        uri = names::GATE_APP_ID_URI,
        region = names::REGION,
        domain = TRUST_DOMAIN,
        endpoint = names::ENDPOINT,
        workspace = workspace_id(names::WORKSPACE),
    )
}

/// `policies/sandbox.yaml`.
pub fn policies() -> String {
    format!(
        r#"# Default deny. Edit this file while the sandbox runs: the gate takes it up within a second.
version: 1

subjects:
  data-scientists: [{{issuer: sandbox, group: data-science}}]
  reviewers: [{{issuer: sandbox, group: model-review}}]
  platform: [{{issuer: sandbox, group: platform}}]
  auditors: [{{issuer: sandbox, group: audit}}]
  ci:
    - {{issuer: sandbox, claims: {{repository_id: "42", ref: refs/heads/main, event_name: push}}}}
    - {{issuer: mesh, subject: "spiffe://{domain}/ci"}}

scopes:
  vision: {workspace}
  group: {group}

allow:
  - name: data scientists work in the workspace
    who: [data-scientists]
    role: AzureML Data Scientist
    scope: vision
  - name: endpoints are scored with keys that nobody sees
    who: [data-scientists, ci]
    actions:
      - Microsoft.MachineLearningServices/workspaces/onlineEndpoints/read
      - Microsoft.MachineLearningServices/workspaces/onlineEndpoints/listKeys/action
      - Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action
    secrets: {{endpoint_key: substitute, endpoint_token: substitute}}
    scope: vision
  - name: data scientists upload and download what their signed URLs are for
    who: [data-scientists]
    actions:
      - Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read
      - Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write
    when: has(request.query.sig)
    scope: group
  - name: reviewers and auditors read
    who: [reviewers, auditors]
    role: Reader
    scope: group
  - name: the platform team runs it
    who: [platform]
    role: Contributor
    scope: group
  # What `az login` asks first: the subscriptions and tenants of the gate's own identity.
  - name: whoever signs in with az finds the subscription
    who: [data-scientists, reviewers, platform]
    actions: [Microsoft.Resources/subscriptions/read, Microsoft.Resources/tenants/read]
  # The gate's own API (`/api/v1`); Azure's roles grant none of it.
  - name: everybody may ask who they are and what they may do, and exchange their token for a short one
    who: [authenticated]
    actions: [amlgate/whoami/read, amlgate/can-i/read, amlgate/token/action, amlgate/openapi/read]
  - name: everybody sees which reviewed code models came from
    who: [authenticated]
    actions: [amlgate/lineage/read]
  - name: people ask for approvals, and answer the requests that are theirs to answer
    who: [authenticated]
    actions: [amlgate/requests/*, amlgate/grants/*]
  - name: the platform team sees all requests, and takes back any grant
    who: [platform]
    actions: [amlgate/others/*]
  - name: the platform team revokes
    who: [platform]
    actions: [amlgate/revocations/*]
  - name: the platform team and auditors read the record
    who: [platform, auditors]
    actions: [amlgate/audit/read]
  - name: auditors read recorded bodies
    who: [auditors]
    actions: [amlgate/audit/bodies/read]
  - name: the platform team and auditors read routes and policies
    who: [platform, auditors]
    actions: [amlgate/routes/read, amlgate/policies/read, amlgate/break-glass/read]

deny:
  - name: nothing is opened to public networks
    effects: [expose_network]

require:
  - name: jobs of more than four nodes need a reviewer
    who: [data-scientists]
    effects: [allocate_compute]
    when: allocates.nodes > 4
    approval: {{by: [{{subject: reviewers, count: 1}}], ask: {{reason: required}}}}
"#,
        workspace = workspace_id(names::WORKSPACE),
        group = names::group_id(),
        domain = TRUST_DOMAIN,
    )
}

/// `policies/sandbox.test.yaml`.
pub fn policy_tests() -> String {
    let url = format!("https://management.azure.com{}", workspace_id(names::WORKSPACE));
    format!(
        r#"version: 1
cases:
  - name: sam lists jobs
    as: {{issuer: sandbox, subject: user-sam, groups: [data-science]}}
    request: {{method: GET, url: "{url}/jobs?api-version={VERSION}"}}
    expect: {{decision: allow, entry: data scientists work in the workspace}}
  - name: sam may not delete the workspace
    as: {{issuer: sandbox, subject: user-sam, groups: [data-science]}}
    request: {{method: DELETE, url: "{url}?api-version={VERSION}"}}
    expect: {{decision: deny, code: AuthorizationFailed}}
  - name: rita reads and submits nothing
    as: {{issuer: sandbox, subject: user-rita, groups: [model-review]}}
    request: {{method: GET, url: "{url}/models?api-version={VERSION}"}}
    expect: {{decision: allow, entry: reviewers and auditors read}}
  - name: ci reads no jobs
    as: {{issuer: sandbox, subject: "repo:contoso/vision:ref:refs/heads/main", claims: {{repository_id: "42", ref: refs/heads/main, event_name: push}}}}
    request: {{method: GET, url: "{url}/jobs?api-version={VERSION}"}}
    expect: {{decision: deny, code: AuthorizationFailed}}
  - name: sam asks before she takes eight nodes
    as: {{issuer: sandbox, subject: user-sam, groups: [data-science]}}
    request: {{method: PUT, url: "{url}/jobs/big?api-version={VERSION}", body: {big}}}
    expect: {{decision: needs_approval, entry: jobs of more than four nodes need a reviewer}}
"#,
        big = job(8),
    )
}

/// The body that submits a job of so many nodes.
fn job(nodes: u32) -> String {
    let workspace = workspace_id(names::WORKSPACE);
    format!(
        r#"{{"properties":{{"jobType":"Command","command":"python train.py","experimentName":"churn","environmentId":"{workspace}/environments/sklearn/versions/1","computeId":"{workspace}/computes/cpu-cluster","resources":{{"instanceCount":{nodes}}}}}}}"#
    )
}

/// Commands for a scientist, a reviewer and a CI job; `program` is how this program is called.
pub fn commands(program: &str, dir: &Path, layout: &Layout) -> String {
    let workspace = workspace_id(names::WORKSPACE);
    let dir = quoted(&dir.display().to_string());
    let program = quoted(program);
    let (job, big) = (job(1), job(8));
    format!(
        r#"
# Paste this into another terminal first.
amlgate() {{ {program} "$@"; }}
SANDBOX={dir}
GATE={gate}
WS={workspace}
V='api-version={VERSION}'
as() {{ who=$1; shift; curl -sS --cacert "$SANDBOX/certs/ca.pem" -w '\n-> %{{http_code}}\n' -H "Authorization: Bearer $(amlgate sandbox token "$who" --dir "$SANDBOX")" "$@"; }}

# Sam is a data scientist. She lists jobs (200), ...
as sam "$GATE$WS/jobs?$V"
# ... submits one (201), ...
as sam -X PUT -H 'Content-Type: application/json' "$GATE$WS/jobs/sams-first?$V" -d '{job}'
# ... and is told exactly why she may not delete the workspace (403).
as sam -X DELETE "$GATE$WS?$V"

# Rita reviews models: she reads them (200) and submits nothing (403).
as rita "$GATE$WS/models?$V"
as rita -X PUT -H 'Content-Type: application/json' "$GATE$WS/jobs/ritas?$V" -d '{job}'

# Eight nodes need Rita's yes: Sam is refused (403) and told how to ask, asks, Rita approves, and the call passes (201), once.
big() {{ as sam -X PUT -H 'Content-Type: application/json' "$GATE$WS/jobs/sams-big?$V" -d '{big}'; }}
ask() {{ who=$1; shift; amlgate sandbox token "$who" --dir "$SANDBOX" | amlgate request "$@" --as - --gate "$GATE" --ca "$SANDBOX/certs/ca.pem"; }}
DECISION=$(big | tee -a /dev/stderr | sed -n 's/.*request create \([0-9a-f-]*\).*/\1/p')
ask sam create "$DECISION" --reason 'to retrain on the new data'
ask rita approve "$(ask rita list --show to-answer | cut -d' ' -f1)"
big
# Or answer in a browser, signed in as rita: http://{admin}/requests

# A CI job scores the endpoint (200). It is a caller of the gate; the endpoint's key it never sees.
as ci -X POST -H 'Content-Type: application/json' "$GATE/endpoints/{endpoint}/score" -d '{{"input_data":{{"data":[[1,2,3],[-4,0,1]]}}}}'

# The same job with a certificate in the place of a token (200).
curl -sS --cacert "$SANDBOX/certs/ca.pem" --cert "$SANDBOX/certs/ci.pem" --key "$SANDBOX/certs/ci.key" -w '\n-> %{{http_code}}\n' -X POST -H 'Content-Type: application/json' "$GATE/endpoints/{endpoint}/score" -d '{{"input_data":{{"data":[[1,2,3]]}}}}'

# Behind HTTPS_PROXY: the same, and Azure's own addresses. curl believes the gate's authority there.
via() {{ who=$1; shift; curl -sS --proxy "http://token:$(amlgate sandbox token "$who" --dir "$SANDBOX")@{forward}" --cacert "$SANDBOX/certs/interception-ca.pem" -w '\n-> %{{http_code}}\n' "$@"; }}
via sam "https://management.azure.com$WS/jobs?$V"
via sam -X DELETE "https://management.azure.com$WS?$V"
# Or sign in, with a browser, as whom you like; programs that hold no secret go through the gate then:
#   amlgate login --gate "$GATE" --issuer sandbox --ca "$SANDBOX/certs/ca.pem"
#   amlgate run -- curl -sS "https://management.azure.com$WS/jobs?$V"

# A forged token gets 401.
curl -sS --cacert "$SANDBOX/certs/ca.pem" -w '\n-> %{{http_code}}\n' -H "Authorization: Bearer $(amlgate sandbox token sam --forged --dir "$SANDBOX")" "$GATE$WS/jobs?$V"

# The record shows all of it, and is whole.
amlgate audit query "$SANDBOX/var/audit"
amlgate audit verify "$SANDBOX/var/audit"
"#,
        gate = layout.gate,
        forward = layout.forward_address,
        admin = layout.admin_address,
        endpoint = names::ENDPOINT,
    )
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_spaces_and_quotes_is_one_word() {
        assert_eq!(quoted("a 'b'"), r"'a '\''b'\'''");
    }
}
