"""Behind HTTPS_PROXY: programs that know nothing of amlgate, started with `amlgate run`."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from hosts import every_host_is_listed
from running import AMLGATE, Sandbox
from simulated import GROUP, SUBSCRIPTION, WORKSPACE, WORKSPACE_ID

PROGRAMS = pathlib.Path(__file__).parent / "programs"
JOBS = f"https://management.azure.com{WORKSPACE_ID}/jobs?api-version=2025-12-01"
SCORING = "https://churn.westeurope.inference.ml.azure.com"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # Refused hosts stand in the log alone.
        patch.setenv("RUST_LOG", "warn,amlgate::proxy::forward=info")
        patch.setenv("NO_COLOR", "1")
        sandbox = Sandbox(tmp_path_factory.mktemp("forward") / "sandbox")
    yield sandbox
    sandbox.stop()
    sandbox.record.verify()
    found = every_host_is_listed(sandbox)
    assert "example.com" in found["refused"] and "management.azure.com" in found["routed"], found
    written = sandbox.record.text() + sandbox.log.read_bytes()
    for token in sandbox.tokens.values():
        assert token.encode() not in written


@pytest.fixture
def run(sandbox, tmp_path):
    """Runs a command as a person, with nothing of the surrounding session but PATH."""

    def run(person, *command, **more):
        token = tmp_path / "token"
        token.write_text(sandbox.token(person))
        token.chmod(0o600)
        clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true", **more}
        options = ["--gate", sandbox.gate, "--ca", sandbox.ca, "--token-file", str(token)]
        return subprocess.run(
            [AMLGATE, "run", *options, "--", *command],
            env=clean,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=180,
        )

    return run


def last_line(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_a_notebook_with_the_official_sdk_and_no_azure_credentials(run, sandbox, tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text("print('trained')\n")
    (folder / "request.json").write_text('{"input_data": {"data": [[1, 2, 3]]}}')
    said = last_line(
        run("sam", sys.executable, str(PROGRAMS / "sdk.py"), SUBSCRIPTION, GROUP, WORKSPACE, str(folder))
    )
    assert said["jobs"] >= 5 and said["job"] == "Completed", said
    assert said["scored"], said
    # What she may not do she is told in the SDK's own exception, by the gate.
    assert said["delete"].startswith("403 ") and "amlgate" in said["delete"], said
    assert said["compute"].startswith("403 ") and "expose_network" in said["compute"], said
    # Storage is judged too: without a signed URL there is no writing, and its own client says the code.
    assert "AuthorizationFailed" in said["model"], said
    submitted = sandbox.record.expect("--caller", "user-sam", "--action", "jobs/write", "--phase", "outcome")
    assert (submitted.decision, submitted.record["api"]["service"]["name"]) == ("allow", "arm")
    assert b"sig=" not in sandbox.record.text()


def test_clients_of_every_family_need_no_credential_and_other_hosts_are_refused(run):
    said = last_line(run("sam", sys.executable, str(PROGRAMS / "plain.py"), JOBS, SCORING))
    assert (said["requests"], said["httpx"], said["urllib"]) == (200, 200, 200)
    assert said["openai"] == "You said: hello there"
    assert "403" in said["elsewhere"], said
    assert said["entra"] == 200 and "`amlgate login`" in said["own"], said


def test_mlflow_tracks_at_azures_own_address(run):
    uri = f"https://westeurope.api.azureml.ms/mlflow/v2.0{WORKSPACE_ID}"
    said = last_line(run("sam", sys.executable, str(PROGRAMS / "tracking.py"), uri))
    assert said["runs"] == [["FINISHED", {"auc": 0.9}]]


def test_curl_goes_through_and_the_commands_exit_code_is_kept(run):
    done = run("sam", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", JOBS)
    assert (done.returncode, done.stdout) == (0, "200"), done.stderr
    refused = run("sam", "curl", "-sS", "https://example.com/")
    assert refused.returncode == 56 and "403" in refused.stderr, refused.stderr
    # Plaintext goes the same way, and is refused with its reason.
    plain = run("sam", "curl", "-sS", "-w", "%{http_code}", "http://example.com/")
    assert plain.returncode == 0 and plain.stdout.endswith("403") and "over plain http" in plain.stdout, plain.stdout
    assert run("sam", "sh", "-c", "exit 7").returncode == 7
    assert run("sam", "no-such-command").returncode == 127


def test_node_believes_the_gate_and_another_person_is_judged_for_herself(run):
    # Node reads NODE_EXTRA_CA_CERTS always, and the proxy from version 24 on, or as here from its own agent.
    script = """
const http = require('http'), https = require('https');
const proxy = new URL(process.env.HTTPS_PROXY);
const auth = 'Basic ' + Buffer.from(`${proxy.username}:${proxy.password}`).toString('base64');
const url = new URL(process.argv[1]);
http.request({host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: `${url.host}:443`,
  headers: {'Proxy-Authorization': auth}}).on('connect', (answer, socket) => {
    https.request({host: url.host, servername: url.host, path: url.pathname + url.search, method: 'DELETE',
      createConnection: () => require('tls').connect({socket, servername: url.host})}, r => {
        console.log(JSON.stringify({status: r.statusCode})); r.resume(); socket.end();
      }).end();
  }).end();
"""
    workspace = JOBS.replace("/jobs?", "?")
    assert last_line(run("rita", "node", "-e", script, workspace)) == {"status": 403}


def test_a_notebook_registers_a_model_and_makes_a_cluster(run, sandbox, tmp_path):
    # What uploads by a datastore's key needs: the key in the notebook's hands, and the blobs without a signed URL.
    sandbox.allow(
        "the platform team uploads models",
        """
    who: [platform]
    actions:
      - Microsoft.MachineLearningServices/workspaces/datastores/listSecrets/action
      - Microsoft.Storage/storageAccounts/blobServices/containers/read
      - Microsoft.Storage/storageAccounts/blobServices/containers/blobs/*
    secrets: {datastore: reveal}
    scope: group
""",
    )
    (tmp_path / "model.pkl").write_bytes(b"weights")
    script = str(PROGRAMS / "notebook.py")
    printed = last_line(run("pat", sys.executable, script, SUBSCRIPTION, GROUP, WORKSPACE, str(tmp_path)))
    assert [json.loads(line) for line in printed] == [["1", "Succeeded", "noted"]], printed
    assert [f.read_bytes() for f in (tmp_path / "back").rglob("*") if f.is_file()] == [b"weights"]
    made = sandbox.record.expect("--resource", "computes/noted", "--phase", "outcome", "--action", "computes/write")
    assert (made.caller, made.decision) == ("sandbox:user-pat", "allow")


def test_mlflows_plugin_of_azure_ml_tracks(run):
    uri = f"azureml://westeurope.api.azureml.ms/mlflow/v1.0{WORKSPACE_ID}"
    said = last_line(run("sam", sys.executable, str(PROGRAMS / "plugin.py"), uri))
    assert said == {"store": "AzureMLRestStore", "metrics": {"auc": 0.9}}


def test_aiohttp_is_judged_like_everybody(run):
    assert last_line(run("sam", sys.executable, str(PROGRAMS / "asynchronous.py"), JOBS)) == {"aiohttp": 200}


def test_the_sdk_for_javascript_needs_no_credential(run):
    # A module finds its packages beside itself.
    said = last_line(run("sam", "node", os.environ["AMLGATE_NODE_SDK"], SUBSCRIPTION, GROUP, WORKSPACE))
    assert said["jobs"] >= 5, said
    assert said["delete"][:2] == [403, "AuthorizationFailed"] and "amlgate" in said["delete"][2], said


def test_az_signs_in_with_nothing_and_asks_anything(run, tmp_path):
    az = os.environ["AMLGATE_AZ"]
    own = {"AZURE_CONFIG_DIR": str(tmp_path / "azure"), "AZURE_CORE_COLLECT_TELEMETRY": "0"}
    signed = run("sam", az, "login", "--identity", "--output", "json", **own)
    assert signed.returncode == 0, signed.stderr
    assert [s["id"] for s in json.loads(signed.stdout)] == [SUBSCRIPTION]
    listed = run("sam", az, "rest", "--url", JOBS, **own)
    assert listed.returncode == 0 and json.loads(listed.stdout)["value"], listed.stderr
    refused = run("sam", az, "rest", "--method", "delete", "--url", JOBS.replace("/jobs?", "?"), **own)
    assert refused.returncode == 1 and "amlgate: no entry allows you" in refused.stderr, refused.stderr
