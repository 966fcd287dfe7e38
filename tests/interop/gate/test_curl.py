"""curl at the reverse listener: protocols, expectations, streams, and what is refused."""

import json
import os
import subprocess

import pytest
from simulated import WORKSPACE_ID

JOBS = f"{WORKSPACE_ID}/jobs?api-version=2025-12-01"
ROWS = '{"input_data":{"data":[[0,0]]}}'


class Answer:
    def __init__(self, done):
        self.exit, self.trace = done.returncode, done.stderr.decode(errors="replace")
        body, _, told = done.stdout.rpartition(b"\n#")
        self.body = body
        status, self.version, uploaded = told.decode().split(" ")
        self.status, self.uploaded = int(status), int(uploaded)

    def json(self):
        return json.loads(self.body)


@pytest.fixture
def curl(sandbox):
    def curl(path, *options, who="sam", token=None, **pipes):
        token = sandbox.token(who) if token is None else token
        caller = ["-H", f"Authorization: Bearer {token}"] if token else []
        told = "\n#%{http_code} %{http_version} %{size_upload}"
        command = ["curl", "-sS", "--max-time", "60", "--cacert", sandbox.ca, "-w", told, *caller, *options]
        return Answer(subprocess.run([*command, sandbox.gate + path], capture_output=True, timeout=90, **pipes))

    return curl


@pytest.mark.parametrize(("option", "version"), [("--http1.1", "1.1"), ("--http2", "2"), ("--http1.0", "1.0")])
def test_every_version_of_http_is_answered_alike(curl, option, version):
    got = curl(JOBS, option)
    assert (got.exit, got.status, len(got.json()["value"])) == (0, 200, 3), got.trace
    # An answer to HTTP/1.0 may say 1.1, but never in chunks (RFC 9112 section 7.1).
    assert got.version == version or version == "1.0"
    denied = curl(JOBS, option, who="ci")
    assert denied.status == 403 and denied.json()["error"]["code"] == "AuthorizationFailed"
    assert denied.json()["error"]["message"].startswith("amlgate: no entry allows you")


def test_an_answer_to_http_1_0_has_no_chunks(curl):
    got = curl("/endpoints/churn/v1/chat/completions", "--http1.0", "-i", "-H", "Content-Type: application/json",
               "-d", '{"stream":true,"messages":[{"content":"hello"}]}')
    assert got.status == 200 and b"transfer-encoding" not in got.body.lower(), got.body
    assert got.body.endswith(b"data: [DONE]\n\n")


def test_a_body_waits_for_100_continue_and_comes_back_whole(curl, tmp_path):
    body = os.urandom(3_000_000)
    (tmp_path / "body").write_bytes(body)
    options = ["--http1.1", "-v", "-H", "Expect: 100-continue", "-H", "Content-Type: application/octet-stream"]
    got = curl("/endpoints/churn/echo", *options, "--data-binary", f"@{tmp_path / 'body'}")
    assert got.status == 200 and got.body == body
    assert "< HTTP/1.1 100 Continue" in got.trace
    # Who is refused is not asked for the body.
    refused = curl("/endpoints/churn/echo", *options, "--data-binary", f"@{tmp_path / 'body'}", who="rita")
    assert (refused.status, refused.uploaded) == (403, 0) and "100 Continue" not in refused.trace, refused.trace
    wrong = curl("/endpoints/churn/echo", *options, "-H", "Expect: the-unexpected", "--data-binary", "x")
    assert wrong.status == 417, wrong.trace


@pytest.mark.parametrize("option", ["--http1.1", "--http2"])
def test_an_upload_of_unknown_length_streams_through(curl, option):
    body = os.urandom(1_500_000)
    got = curl("/endpoints/churn/echo", option, "-X", "POST", "-T", "-", "-H",
               "Content-Type: application/octet-stream", input=body)
    assert got.status == 200 and got.body == body, got.trace


def test_events_arrive_one_by_one_and_a_hang_up_is_recorded(sandbox):
    command = ["curl", "-sSN", "--cacert", sandbox.ca, "-H", f"Authorization: Bearer {sandbox.token('ci')}",
               "-H", "Content-Type: application/json", "-H", "User-Agent: curl-that-hangs-up",
               f"{sandbox.gate}/endpoints/churn/v1/chat/completions",
               "-d", '{"stream":true,"max_tokens":100000000,"messages":[{"content":"hello"}]}']
    curl = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert curl.stdout.readline().startswith(b"data: {")
    assert curl.stdout.readline() == b"\n"
    curl.terminate()
    curl.wait(10)
    entry = sandbox.record.expect("--phase", "outcome", fits=lambda e: e.agent == "curl-that-hangs-up" and e.ending)
    assert (entry.caller, entry.ending) == ("sandbox:repo:contoso/vision:ref:refs/heads/main", "client_gone")


def test_who_is_not_known_gets_401_and_the_way_in(curl, sandbox):
    for name, token in {
        "none": "",
        "forged": sandbox.token("sam", "--forged"),
        "for another": sandbox.token("sam", "--audience", "https://elsewhere.example"),
        "no token": "canary",
    }.items():
        got = curl(JOBS, "-i", token=token)
        assert got.status == 401, name
        assert b"\r\nwww-authenticate: Bearer" in got.body, name
        assert b"`amlgate token verify` says what is wrong" in got.body, name
    twice = curl(JOBS, "-H", f"Authorization: Bearer {sandbox.token('pat')}")
    assert twice.status == 401
    basic = curl(JOBS, "-u", "sam:password", token="")
    assert basic.status == 401


def test_the_absolute_form_is_the_gates_own_or_refused(curl, sandbox):
    own = curl("/", "--http1.1", "--request-target", f"{sandbox.gate}{JOBS}")
    assert own.status == 200 and len(own.json()["value"]) == 3, own.trace
    for elsewhere in ("https://management.azure.com", "http://169.254.169.254"):
        got = curl("/", "--http1.1", "--request-target", f"{elsewhere}{JOBS}")
        assert 400 <= got.status < 500, got.trace
    tunnel = curl("/", "--http1.1", "-X", "CONNECT", "--request-target", "management.azure.com:443")
    assert tunnel.status == 405, tunnel.trace


def test_spellings_of_a_path_are_one_operation_or_refused(curl):
    # Segments come in the client's case, and mean the same.
    loud = JOBS.replace("resourceGroups", "RESOURCEGROUPS").replace("/jobs", "/Jobs")
    assert curl(loud).status == 200
    assert curl(loud, who="ci").status == 403
    for path in (JOBS.replace("/jobs", "/models/../jobs"), JOBS.replace("/jobs", "%2fjobs"),
                 JOBS.replace("/jobs", "//jobs"), JOBS.replace("/jobs", "/jobs;x")):
        got = curl(path, "--path-as-is", who="rita")
        assert got.status in (400, 403, 404), (path, got.status)


def test_the_data_planes_copy_of_resource_manager_is_judged_alike(curl):
    for who, status in (("sam", 200), ("ci", 403)):
        assert curl(f"/mferp/managementfrontend{JOBS}", who=who).status == status
    denied = curl(f"/mferp/managementfrontend{WORKSPACE_ID}?api-version=2025-12-01", "-X", "DELETE")
    assert denied.status == 403 and b"workspaces/delete" in denied.body


def test_a_deployment_is_chosen_by_its_header(curl):
    headers = ["-H", "Content-Type: application/json", "-d", ROWS]
    blue = curl("/endpoints/churn/score", *headers, "-H", "azureml-model-deployment: blue")
    assert blue.json()["deployment"] == "blue"
    none = curl("/endpoints/churn/score", *headers, "-H", "azureml-model-deployment: green")
    assert none.status == 404 and b"green" in none.body


def test_compressed_answers_are_rewritten_all_the_same(curl, sandbox):
    got = curl(JOBS, "--compressed")
    assert got.json()["nextLink"].startswith(f"{sandbox.gate}/subscriptions/")


def test_a_head_request_ends(curl):
    assert curl("/endpoints/churn/", "-I").exit == 0


@pytest.mark.parametrize("size", [10, 20_000, 800_000])
def test_who_is_refused_while_sending_hears_why_and_keeps_the_connection(sandbox, size):
    import requests

    session = requests.Session()
    session.verify, session.trust_env = sandbox.ca, False
    body = {"input_data": {"data": [[0, 0]]}, "pad": "x" * size}
    for _ in range(20):
        for token, status in ((sandbox.token("rita"), 403), ("canary", 401), (sandbox.token("sam"), 200)):
            answer = session.post(
                f"{sandbox.gate}/endpoints/churn/score", headers={"Authorization": f"Bearer {token}"}, json=body
            )
            assert answer.status_code == status and "connection" not in answer.headers, answer.headers
            assert status == 200 or "amlgate:" in answer.json()["error"]["message"]
