"""The official SDK through the reverse listener: only its base URL and its credential differ."""

import json

import pytest
from azure.ai.ml import command as command_job
from azure.core.exceptions import HttpResponseError
from simulated import WORKSPACE, WORKSPACE_ID

ML = "Microsoft.MachineLearningServices/workspaces"


def command(**extra):
    return command_job(
        command="python train.py",
        environment="azureml:sklearn:1",
        compute="cpu-cluster",
        experiment_name="churn",
        **extra,
    )


def test_the_workspace_is_read_and_its_urls_lead_to_the_gate(client, sandbox):
    workspace = client("sam").workspaces.get(WORKSPACE)
    assert workspace.location == "westeurope"
    authority = sandbox.gate.removeprefix("https://")
    assert workspace.mlflow_tracking_uri.startswith(f"azureml://{authority}/mlflow/"), workspace
    assert workspace.discovery_url.startswith(f"https://{authority}/"), workspace


def test_every_page_of_the_jobs_comes_through_the_gate(client, sandbox):
    names = [job.name for job in client("sam").jobs.list()]
    seeded = ["churn-train-4", "churn-sweep-1", "churn-train-3", "churn-train-2", "churn-train-1"]
    assert [n for n in names if n in seeded] == seeded
    page = sandbox.record.expect(
        "--action", f"{ML}/jobs/read", fits=lambda e: "skip" in e.record["http_request"].get("args", "")
    )
    assert (page.caller, page.decision, page.status) == ("sandbox:user-sam", "allow", 200)


def test_a_job_is_submitted_watched_and_cancelled(client, sandbox, capsys):
    ml = client("sam")
    job = ml.jobs.create_or_update(command())
    assert job.status == "Starting"
    for phase in ("intent", "outcome"):
        entry = sandbox.record.expect("--resource", f"jobs/{job.name}", "--phase", phase, "--action", "jobs/write")
        assert (entry.caller, entry.decision) == ("sandbox:user-sam", "allow")
    assert entry.status in (200, 201)
    assert "azure-ai-ml" in entry.agent
    # The SDK asks for the discovery document without a token, then for the run's history with one.
    ml.jobs.stream(job.name)
    assert job.name in capsys.readouterr().out
    assert ml.jobs.get(job.name).status == "Completed"
    second = ml.jobs.create_or_update(command())
    ml.jobs.begin_cancel(second.name).result()
    assert ml.jobs.get(second.name).status == "Canceled"


def test_the_code_of_a_job_goes_to_storage_directly_under_a_signature_from_the_gate(client, sandbox, names, tmp_path):
    (tmp_path / "train.py").write_text("print('trained')\n")
    names.asked.clear()
    job = client("sam").jobs.create_or_update(command(code=str(tmp_path)))
    assert "/codes/" in job.code or job.code.startswith("azureml:")
    # Storage names its account as a host: these uploads go around the gate, which handed the signature out.
    assert [n for n in names.asked if n and "blob" in n] == ["visionstore.blob.core.windows.net"]
    pending = sandbox.record.expect(
        "--action", f"{ML}/codes/versions", "--phase", "outcome", fits=lambda e: "startPendingUpload" in e.path
    )
    assert (pending.caller, pending.decision, pending.status) == ("sandbox:user-sam", "allow", 200)
    assert b"sig=" not in sandbox.record.text()


def test_a_model_is_uploaded_with_a_datastores_secret_that_an_entry_must_name(client, sandbox, tmp_path):
    from azure.ai.ml.entities import Model

    ml = client("sam")
    with pytest.raises(HttpResponseError) as denied:
        ml.datastores.get("workspaceblobstore", include_secrets=True)
    assert denied.value.error.code == "SecretsNotGranted"
    assert "`secrets: {datastore: reveal}`" in denied.value.message
    sandbox.allow(
        "data scientists upload models",
        f"""
    who: [data-scientists]
    actions: [{ML}/datastores/listSecrets/action]
    secrets: {{datastore: reveal}}
    scope: vision
""",
    )
    (tmp_path / "model.pkl").write_bytes(b"weights")
    made = ml.models.create_or_update(Model(name="gated", path=str(tmp_path / "model.pkl"), type="custom_model"))
    assert (made.version, ml.models.get("gated", label="latest").version) == ("1", "1")
    ml.models.download("gated", "1", download_path=str(tmp_path / "back"))
    assert [f.read_bytes() for f in (tmp_path / "back").rglob("*") if f.is_file()] == [b"weights"]
    entry = sandbox.record.expect("--resource", "models/gated", "--phase", "outcome", "--action", "models/versions/write")
    assert (entry.caller, entry.decision, entry.status) == ("sandbox:user-sam", "allow", 201)


def test_a_compute_is_made_by_a_poller_that_never_leaves_the_gate(client, sandbox):
    from azure.ai.ml.entities import AmlCompute

    ml = client("pat")
    wanted = AmlCompute(name="gated", size="Standard_NC6", max_instances=2)
    # Left to itself the SDK asks for an open login port, and the sandbox's policies deny it.
    with pytest.raises(HttpResponseError, match="`nothing is opened to public networks` denies") as denied:
        ml.compute.begin_create_or_update(wanted)
    assert denied.value.error.code == "RequestDisallowedByPolicy"
    wanted.ssh_public_access_enabled = False
    cluster = ml.compute.begin_create_or_update(wanted).result()
    assert (cluster.provisioning_state, cluster.max_instances) == ("Succeeded", 2)
    entry = sandbox.record.expect("--resource", "computes/gated", "--phase", "outcome", "--action", "computes/write")
    assert (entry.caller, entry.decision) == ("sandbox:user-pat", "allow")
    assert entry.status in (200, 201, 202)
    polls = [e for e in sandbox.record.query("--caller", "user-pat") if "perations" in (e.path or "")]
    assert polls and all(e.status == 200 for e in polls), polls
    ml.compute.begin_delete("gated").result()
    assert "gated" not in [c.name for c in ml.compute.list()]


def test_an_endpoint_is_invoked_with_a_key_that_never_leaves(client, sandbox, azure, tmp_path):
    ml = client("sam")
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"input_data": {"data": [[0, 0]]}}))
    answer = json.loads(ml.online_endpoints.invoke("churn", request_file=str(request)))
    assert answer == {"predictions": [0.5], "deployment": "blue"}
    scored = sandbox.record.expect("--action", f"{ML}/onlineEndpoints/score/action", "--phase", "outcome")
    assert (scored.caller, scored.decision, scored.status) == ("sandbox:user-sam", "allow", 200)
    handle = ml.online_endpoints.get_keys("churn").primary_key
    keys = azure.post(f"{WORKSPACE_ID}/onlineEndpoints/churn/listKeys?api-version=2025-12-01").json()
    assert handle not in keys.values() and not any(key in handle for key in keys.values())
    # What the caller holds is worth nothing at Azure.
    assert azure.score(handle).status_code == 401
    assert azure.score(keys["primaryKey"]).status_code == 200
    written = sandbox.record.text() + sandbox.log.read_bytes()
    assert not any(secret.encode() in written for secret in [handle, *keys.values()])


def test_a_denial_says_in_the_sdk_what_is_missing_and_who_can_mend_it(client, sandbox):
    with pytest.raises(HttpResponseError) as denied:
        client("rita").jobs.create_or_update(command())
    error = denied.value
    assert error.status_code == 403 and error.error.code == "AuthorizationFailed"
    sentence = f"amlgate: no entry allows you `{ML}/jobs/write` at `{WORKSPACE_ID}/jobs/"
    assert sentence in error.message and "can grant it with an `allow` entry" in error.message, error.message
    decision = error.response.headers["x-amlgate-decision"]
    entry = sandbox.record.expect("--decision", decision)
    assert (entry.caller, entry.decision, entry.code) == ("sandbox:user-rita", "deny", "AuthorizationFailed")
    with pytest.raises(HttpResponseError, match=f"amlgate: .*{WORKSPACE}") as denied:
        client("sam").workspaces.begin_delete(WORKSPACE, delete_dependent_resources=False)
    assert denied.value.status_code == 403


def test_a_token_that_is_not_right_is_a_401_that_the_sdk_does_not_repeat(client, sandbox):
    from azure.core.exceptions import ClientAuthenticationError

    forged = sandbox.token("sam", "--forged")
    with pytest.raises(ClientAuthenticationError, match="amlgate") as refused:
        client("sam", token=forged).workspaces.get(WORKSPACE)
    assert refused.value.status_code == 401
