"""A Gerrit, a sandbox and a gate between callers and its Azure: what the stories are told with."""

import os
import shutil
import socket

import pytest
import requests
from between import Between
from callers import Clients, Names, real_getaddrinfo
from history import History
from running import Gate, Sandbox
from server import Gerrit

POLICIES = """
version: 1
subjects:
  everybody: [{issuer: sandbox, group: data-science}, {issuer: sandbox, group: platform}, {issuer: sandbox, kind: machine}]
allow:
  # Whoever is refused here is refused for want of a review, and for nothing else.
  - name: everybody may do everything
    who: [everybody]
    actions: [Microsoft.MachineLearningServices/*, Microsoft.Resources/subscriptions/read, Microsoft.Resources/tenants/read]
    secrets: {datastore: reveal}
  - name: everybody asks the gate
    who: [everybody]
    actions: [amlgate/*]
require:
  - name: models come from reviewed code
    effects: [register_model, deploy_model]
    review: {gerrit: main, project: ml/vision, branch: main}
"""


def joined(settings, sandbox, gerrit):
    """What a gate's configuration says of that Gerrit and of who is who there."""
    token = sandbox.home / "certs/gerrit.token"
    token.write_text(gerrit.password("gate"))
    token.chmod(0o600)
    settings["gerrit"] = [{
        "name": "main", "url": gerrit.url, "user": "gate", "token": {"file": "certs/gerrit.token"},
        "trust": {"ca": str(gerrit.ca)},
    }]
    settings["people"] = {"canonical": "entra", "links": [{"gerrit": "main", "external_id": "azure-oauth"}]}


@pytest.fixture(scope="session")
def gerrit(tmp_path_factory):
    gerrit = Gerrit(tmp_path_factory.mktemp("gerrit"))
    try:
        gerrit.start()
        yield gerrit
    finally:
        gerrit.remove()


@pytest.fixture(scope="session")
def history(gerrit):
    return History(gerrit)


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    sandbox = Sandbox(tmp_path_factory.mktemp("run") / "sandbox", "--without-gate")
    for name in [n for n in os.environ if n.startswith(("AZURE_TENANT", "AZURE_CLIENT", "AZUREML_"))]:
        del os.environ[name]
    os.environ.update(dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"), sandbox.ca))
    shutil.rmtree(sandbox.home / "policies")
    (sandbox.home / "policies").mkdir()
    (sandbox.home / "policies/story.yaml").write_text(POLICIES)
    yield sandbox
    sandbox.stop()


@pytest.fixture(scope="session", autouse=True)
def names(sandbox):
    names = Names(sandbox.layout["azure_address"])
    socket.getaddrinfo = names.getaddrinfo
    yield names
    socket.getaddrinfo = real_getaddrinfo


@pytest.fixture(scope="session")
def between(sandbox):
    between = Between(sandbox, ["management.azure.com", "westeurope.api.azureml.ms"])
    yield between
    between.stop()


@pytest.fixture(scope="session")
def gate(sandbox, gerrit, history, between):
    """A gate before that Gerrit, whose way to Azure leads through us."""

    def change(settings):
        joined(settings, sandbox, gerrit)
        for route in settings["routes"]:
            if route["name"] in ("arm", "data-plane"):
                route["address"] = between.address
            if route["name"] == "data-plane":
                route["paths"] += ["/modelmanagement", "/data"]

    gate = Gate(sandbox, "story", change)
    yield gate
    gate.stop()
    gate.record.verify()
    written = gate.record.text() + gate.log.read_bytes()
    secrets = [*sandbox.tokens.values(), gerrit.password("gate")]
    assert not any(secret.encode() in written for secret in secrets)


@pytest.fixture(scope="session")
def client(sandbox, gate):
    """`MLClient` of a person, whose base URL is that gate's."""
    clients = Clients(sandbox)
    return lambda name: clients.of(name, base=gate.url)


@pytest.fixture(scope="session")
def call(sandbox, gate):
    """One request of a person's."""
    session = requests.Session()
    session.verify, session.trust_env = sandbox.ca, False

    def call(who, method, path, body=None):
        headers = {"Authorization": f"Bearer {sandbox.token(who)}"}
        return session.request(method, f"{gate.url}{path}", json=body, headers=headers, timeout=60)

    return call


@pytest.fixture(scope="session")
def story(sandbox, gerrit, history):
    from story import SECRET, Story

    story = Story(sandbox, gerrit, history)
    yield story
    story.stop()
    story.gate.record.verify()
    written = b"".join([story.gate.record.text(), *(log.read_bytes() for log in story.logs)])
    secrets = [*sandbox.tokens.values(), gerrit.password("gate"), SECRET]
    assert not any(secret.encode() in written for secret in secrets)


@pytest.fixture(scope="session")
def run(story):
    """A change that somebody else approved, merged."""
    from story import Run

    return Run(story, story.project.reviewed(by="bo"))
