"""What clients do that a proxy must bear: resends, headers, polling, audiences (reference/clients.md).

Beside these: events, versions of HTTP and 100-continue in test_curl.py, absolute URLs in test_sdk.py;
tokens of 32 KiB in tests/gate/callers.rs, framing in tests/gate/framing.rs, challenges of Azure in
tests/gate/endpoints.rs, streams that are cut in tests/gate/streams.rs.
"""

import subprocess

import pytest
from azure.ai.ml import dsl
from azure.core.exceptions import HttpResponseError
from between import Between, Fault, certificate
from running import Gate, wait_for
from simulated import WORKSPACE_ID
from test_sdk import command

ML = "Microsoft.MachineLearningServices/workspaces"


@pytest.fixture(scope="module")
def between(sandbox):
    between = Between(
        sandbox,
        ["management.azure.com", "westeurope.api.azureml.ms", "churn.westeurope.inference.ml.azure.com"],
    )
    yield between
    between.stop()


@pytest.fixture(scope="module")
def gate(sandbox, between):
    """A gate whose way to Azure leads through us."""

    def change(settings):
        for route in settings["routes"]:
            route["address"] = between.address

    gate = Gate(sandbox, "habits", change)
    yield gate
    gate.stop()
    gate.record.verify()


@pytest.fixture
def ml(client, gate, between):
    between.forget()
    yield client("sam", base=gate.url)
    between.forget()


def ids(seen):
    return {s.headers.get("x-ms-client-request-id") for s in seen}


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_a_resend_of_the_client_is_one_request_more_and_each_is_recorded(ml, gate, between, status):
    """The SDK sends again after these, POST included; the gate adds none of its own."""
    headers = {"Retry-After": "0"} if status in (429, 503) else {}
    before = len(gate.record.query("--phase", "outcome"))
    for method, part, call in (
        ("GET", "/models/churn/versions/1", lambda: ml.models.get("churn", "1")),
        ("POST", "/listKeys", lambda: ml.online_endpoints.get_keys("churn")),
    ):
        between.faults = [Fault(method, part, status, headers), Fault(method, part, status, headers)]
        call()
        seen = between.at(part, method)
        assert len(seen) == 3 and len(ids(seen)) == 1, [vars(s) for s in seen]

    def outcomes():
        recorded = gate.record.query("--phase", "outcome")[before:]
        six = [e for e in recorded if e.path.endswith(("versions/1", "listKeys"))]
        return six if len(six) == 6 else None

    statuses = [e.status for e in wait_for("six outcomes", outcomes) if e.path.endswith("listKeys")]
    assert statuses == [status, status, 200]


def test_a_broken_connection_is_502_and_a_post_is_never_sent_twice(ml, gate, between):
    between.faults = [Fault("POST", "/listKeys", how="reset")]
    with pytest.raises(HttpResponseError) as broken:
        ml.online_endpoints.get_keys("churn")
    assert broken.value.status_code == 502 and "amlgate:" in broken.value.message
    assert len(between.at("/listKeys")) == 1
    # A read is the client's to repeat.
    between.faults = [Fault("GET", "/models/churn/versions/1", how="reset")]
    assert ml.models.get("churn", "1").name == "churn"
    entry = gate.record.expect("--phase", "outcome", fits=lambda e: e.path.endswith("listKeys") and e.status != 200)
    assert (entry.caller, entry.ending) != ("sandbox:user-sam", "completed")


def test_half_an_answer_is_never_a_whole_one(gate, between, sandbox):
    between.forget()
    between.faults = [Fault("GET", "/models/churn/versions/1", how="truncated")]
    done = subprocess.run(
        ["curl", "-sS", "--cacert", sandbox.ca, "-H", f"Authorization: Bearer {sandbox.token('sam')}",
         f"{gate.url}{WORKSPACE_ID}/models/churn/versions/1?api-version=2025-12-01"], capture_output=True,
    )
    assert done.returncode != 0, done.stdout
    between.forget()


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_of_azure_is_told_once(ml, between, status):
    between.faults = [Fault("GET", "/models/churn/versions/1", status)]
    with pytest.raises(HttpResponseError) as refused:
        ml.models.get("churn", "1")
    assert refused.value.status_code == status
    assert len(between.at("/models/churn/versions/1")) == 1


def test_a_challenge_for_claims_is_answered_by_the_gate_alone(ml, between):
    """Passed on, it would make the caller's credential ask for what it cannot get."""
    challenge = (
        'Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", '
        'error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxIn19fQ=="'
    )
    between.faults = [Fault("GET", "/models/churn/versions/1", 401, {"WWW-Authenticate": challenge})]
    assert ml.models.get("churn", "1").name == "churn"
    first, second = between.at("/models/churn/versions/1")
    assert first.headers["authorization"] != second.headers["authorization"]


def test_azure_sees_the_client_and_the_gates_token_and_nothing_else_of_the_caller(ml, gate, between, sandbox):
    ml.models.get("churn", "1")
    [seen] = between.at("/models/churn/versions/1")
    assert seen.headers["user-agent"].startswith(("azure-ai-ml", "azsdk-python"))
    assert seen.headers["x-ms-client-request-id"]
    assert seen.headers["authorization"].startswith("Bearer ey")
    sent = repr(seen.headers)
    assert sandbox.token("sam") not in sent
    assert not [n for n in seen.headers if n.startswith(("x-forwarded", "forwarded", "via", "x-amlgate", "cookie"))]
    entry = gate.record.expect("--phase", "outcome", fits=lambda e: e.path.endswith("/models/churn/versions/1"))
    assert entry.agent == seen.headers["user-agent"]
    # Azure's name for the request joins its activity log with the record.
    assert len(entry.record["metadata"]["correlation_uid"]) == 36


def test_a_poller_asks_azure_with_azures_own_query(client, gate, between):
    from azure.ai.ml.entities import AmlCompute

    between.forget()
    pat = client("pat", base=gate.url)
    wanted = AmlCompute(name="polled", size="Standard_NC6", ssh_public_access_enabled=False)
    pat.compute.begin_create_or_update(wanted).result()
    pat.compute.begin_delete("polled").result()
    polls = [s for s in between.seen if "perations" in s.path]
    assert polls and all(s.method == "GET" and "amlgate-op" not in s.path for s in polls), [s.path for s in polls]
    between.forget()


def test_the_scope_that_the_sdk_asks_for_is_the_gates_and_never_azures(client, gate, sandbox):
    ml = client("sam", base=gate.url)
    ml.workspaces.get("vision")
    scopes = ml._credential.scopes
    assert scopes and all(scope.startswith((gate.url, "amlgate")) for scope in scopes), scopes


def test_a_limit_makes_the_sdk_wait_and_send_again(client, gate, between, sandbox):
    between.forget()
    sandbox.policies(
        "require",
        "keys come slowly",
        f"""
    who: [data-scientists]
    actions: [{ML}/onlineEndpoints/listKeys/action]
    limit: {{requests: 1, every: 1s, per: person}}
""",
    )
    gate.wait_for("reload", lambda: [e for e in gate.record.query() if e.own.get("event") == "policies_changed"])
    ml = client("sam", base=gate.url)
    for _ in range(3):
        assert ml.online_endpoints.get_keys("churn").primary_key
    limited = gate.record.expect("--code", "LimitExceeded")
    assert (limited.caller, limited.decision) == ("sandbox:user-sam", "deny")
    assert len(between.at("/listKeys")) == 3
    (sandbox.home / "policies/keys-come-slowly.yaml").unlink()


@dsl.pipeline(default_compute="cpu-cluster")
def pipeline():
    command()()


def test_a_pipeline_job_demands_an_audience_that_is_the_gates_if_the_client_is_told_so(
    ml, gate, between, sandbox, client
):
    # The SDK reads the token that it is given, and sends nothing if `aud` is not what it was told.
    with pytest.raises(Exception, match="token with aml scope could not be fetched"):
        azures = client("sam", base=gate.url, audience="https://ml.azure.com")
        azures.jobs.create_or_update(pipeline(), experiment_name="churn")
    assert not between.at("/jobs/", "PUT")
    # Told the gate's audience as `aml_resource_id`, it is content with the caller's ordinary token.
    job = client("sam", base=gate.url).jobs.create_or_update(pipeline(), experiment_name="churn")
    assert job.type == "pipeline"
    [put] = between.at(f"/jobs/{job.name}", "PUT")
    # The second token is swapped, as the first is.
    assert put.headers["x-azureml-token"].removeprefix("Bearer ").startswith("ey")
    assert sandbox.token("sam") not in repr(put.headers)


def test_a_management_client_takes_the_gate_as_its_base_url(gate, sandbox, between):
    from azure.mgmt.authorization import AuthorizationManagementClient
    from callers import Caller
    from simulated import SUBSCRIPTION

    between.forget()
    caller = Caller(sandbox.token("pat"))
    client = AuthorizationManagementClient(
        caller, SUBSCRIPTION, base_url=gate.url, credential_scopes=[f"{gate.url}/.default"]
    )
    found = list(client.role_assignments.list_for_scope(WORKSPACE_ID, filter="atScope()"))
    assert len(found) > 3 and caller.scopes
    # More than a page: each came through the gate.
    assert len(between.at("/roleAssignments")) > 1
    with pytest.raises(HttpResponseError, match="amlgate: no entry allows you") as denied:
        client.role_assignments.delete_by_id(found[0].id)
    assert denied.value.status_code == 403
    assert not between.at("/roleAssignments", "DELETE")


def test_a_data_plane_with_a_host_of_its_own_is_found_there(client, sandbox, between, monkeypatch):
    from mlflow.tracking import MlflowClient

    pem = certificate(sandbox.home / "certs", ["localhost", "ml.localhost"])

    def change(settings):
        settings["listen"]["reverse"]["tls"].update(certificate=str(pem), private_key={"file": str(pem)})
        route = next(r for r in settings["routes"] if r["name"] == "data-plane")
        route.update(hosts=["ml.localhost"], address=between.address)
        del route["paths"]

    gate = Gate(sandbox, "hosts", change)
    try:
        ml = client("sam", base=gate.url)
        host = f"ml.{gate.url.removeprefix('https://')}"
        uri = ml.workspaces.get("vision").mlflow_tracking_uri
        assert uri.startswith(f"azureml://{host}/mlflow/"), uri
        between.forget()
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", sandbox.token("sam"))
        tracking = MlflowClient(f"https://{host}/mlflow/v2.0{WORKSPACE_ID}")
        run = tracking.create_run(tracking.create_experiment("by-host"))
        tracking.log_metric(run.info.run_id, "auc", 0.5)
        assert between.at("/runs/log-metric", "POST")
        # And at the gate's own name the data plane is not served.
        elsewhere = MlflowClient(f"{gate.url}/mlflow/v2.0{WORKSPACE_ID}")
        with pytest.raises(Exception, match="no route has this path"):
            elsewhere.get_run(run.info.run_id)
    finally:
        gate.stop()
    gate.record.verify()
    between.forget()


def test_key_vaults_client_is_challenged_in_its_own_way(sandbox):
    from azure.keyvault.secrets import SecretClient
    from callers import Caller
    from simulated import CLIENT_SECRET

    pem = certificate(sandbox.home / "certs", ["localhost", "kv.localhost"])

    def change(settings):
        settings["listen"]["reverse"]["tls"].update(certificate=str(pem), private_key={"file": str(pem)})
        group = WORKSPACE_ID.split("/providers/")[0]
        settings["routes"].append(
            {
                "name": "vault",
                "upstream": "https://vision-kv.vault.azure.net",
                "hosts": ["kv.localhost"],
                "protocol": "key_vault",
                "credential": "gate",
                "resource": f"{group}/providers/Microsoft.KeyVault/vaults/vision-kv",
                "address": sandbox.layout["azure_address"],
                "trust": {"ca": "certs/ca.pem"},
            }
        )

    file = sandbox.allow(
        "the platform team reads the vault",
        """
    who: [platform]
    actions: [Microsoft.KeyVault/vaults/secrets/*]
    secrets: {workspace_key: reveal}
    scope: group
""",
    )
    gate = Gate(sandbox, "vault", change)
    try:

        def vault(name):
            url = gate.url.replace("localhost", "kv.localhost")
            # The resource of the challenge is Azure's, and this host's name is not.
            return SecretClient(url, Caller(sandbox.token(name)), verify_challenge_resource=False)

        assert vault("pat").get_secret("gate-client-secret").value == CLIENT_SECRET
        with pytest.raises(HttpResponseError, match="amlgate: no entry allows you") as denied:
            vault("sam").get_secret("gate-client-secret")
        assert denied.value.status_code == 403
        entry = gate.record.expect("--caller", "user-pat", "--phase", "outcome")
        assert (entry.action, entry.status) == ("Microsoft.KeyVault/vaults/secrets/getSecret/action", 200)
    finally:
        gate.stop()
        file.unlink()
    gate.record.verify()
    assert CLIENT_SECRET.encode() not in gate.record.text()
