"""Issuers that others wrote, and a gate that knows them beside the sandbox's own."""

import json
import os
import pathlib
import shutil
import signal
import subprocess

import pytest
import requests
from running import Gate, Process, Sandbox, free_port

HERE = pathlib.Path(__file__).parent
SECRET = "not-a-secret-it-lives-for-one-test"


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    sandbox = Sandbox(tmp_path_factory.mktemp("run") / "sandbox", "--without-gate")
    yield sandbox
    sandbox.stop()


class Issuer:
    """What the tests ask of an issuer: tokens of its kinds."""

    def ask(self, **form):
        answer = requests.post(self.token_endpoint, data=form, verify=self.trust, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def machine(self, client):
        return self.ask(grant_type="client_credentials", client_id=client, client_secret=SECRET)


class OidcProvider(Issuer):
    """panva's oidc-provider."""

    name = "panva"
    algorithm = "ES256"

    def __init__(self, sandbox):
        certs = sandbox.home / "certs"
        self.trust = sandbox.ca
        self.process = subprocess.Popen(
            ["node", str(HERE / "oidc-provider.mjs"), str(certs / "server.pem"), str(certs / "server.key")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        self.url = self.said()["issuer"]
        self.token_endpoint = f"{self.url}/token"
        self.settings = {"trust": {"ca": "certs/ca.pem"}}

    def tell(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.said()["keys"]

    def said(self):
        """What the script says; the library's own notices come the same way."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError(f"oidc-provider ended with {self.process.wait(10)}")

    def good(self):
        return self.machine("training-job")

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0


class Keycloak(Issuer):
    """Keycloak in its development mode, with a realm of its own."""

    name = "keycloak"
    algorithm = "RS256"
    trust = True

    def __init__(self, folder):
        self.home = folder / "keycloak"
        shutil.copytree(os.environ["AMLGATE_KEYCLOAK"], self.home)
        imported = self.home / "data/import"
        imported.mkdir(parents=True)
        shutil.copy(HERE / "realm.json", imported)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/realms/amlgate"
        self.token_endpoint = f"{self.url}/protocol/openid-connect/token"
        self.settings = {}
        # Its own process group, because the script starts Java beneath itself.
        self.process = Process(
            [str(self.home / "bin/kc.sh"), "start-dev", "--import-realm", "--db=dev-mem", "--cache=local",
             "--http-host=127.0.0.1", f"--http-port={port}", f"--hostname=http://127.0.0.1:{port}"],
            folder / "keycloak.log",
            start_new_session=True,
            env=os.environ | {"JAVA_OPTS_APPEND": "-Xmx512m"},
        )

    def ready(self):
        def answers():
            try:
                return requests.get(f"{self.url}/.well-known/openid-configuration", timeout=5).status_code == 200
            except requests.RequestException:
                return False

        self.process.wait_for("realm", answers, seconds=180)

    def good(self):
        return self.ask(
            grant_type="password", client_id="notebook", client_secret=SECRET, username="kim", password="not-a-secret"
        )

    def stop(self):
        os.killpg(self.process.process.pid, signal.SIGTERM)
        self.process.process.wait(60)
        shutil.rmtree(self.home)


@pytest.fixture(scope="session")
def issuers(sandbox, tmp_path_factory):
    keycloak = Keycloak(tmp_path_factory.mktemp("keycloak"))
    started = [keycloak]
    try:
        panva = OidcProvider(sandbox)
        started.append(panva)
        keycloak.ready()
        yield {issuer.name: issuer for issuer in started}
    finally:
        for issuer in started:
            issuer.stop()


@pytest.fixture(scope="session")
def gate(sandbox, issuers):
    """`amlgate serve` with both beside the sandbox's issuer."""
    subjects = "".join(
        f"  {name}: [{{issuer: {name}, {who}}}]\n"
        for name, who in (("panva", "subject: training-job"), ("keycloak", "group: data-science"))
    )
    (sandbox.home / "policies/issuers.yaml").write_text(
        f"version: 1\nsubjects:\n{subjects}allow:\n"
        "  - name: those whom others vouch for read\n    who: [panva, keycloak]\n    role: Reader\n    scope: group\n"
    )

    def change(settings):
        for issuer in issuers.values():
            settings["issuers"].append(
                {
                    "name": issuer.name,
                    "oidc": {"issuer": issuer.url, "audiences": ["amlgate"]},
                    "leeway": "0s",
                    **issuer.settings,
                }
            )

    gate = Gate(sandbox, "issuers", change)
    gate.session = requests.Session()
    gate.session.verify, gate.session.trust_env = sandbox.ca, False
    yield gate
    gate.stop()
    gate.record.verify()


