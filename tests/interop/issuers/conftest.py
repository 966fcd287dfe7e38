"""Issuers that others wrote, and a gate that knows them beside the sandbox's own."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import urllib.parse

import pytest
import requests
from running import Gate, Process, Sandbox, free_port, listens

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
        # Whoever did not even start has said why already.
        if self.process.process.poll() is None:
            os.killpg(self.process.process.pid, signal.SIGTERM)
            self.process.process.wait(60)
        shutil.rmtree(self.home)


class Dex(Issuer):
    """Dex with people of its own and a connector that knows somebody else."""

    name = "dex"
    algorithm = "RS256"
    trust = True
    # A port where nobody listens: the code is read from the way there.
    callback = "http://127.0.0.1:9/callback"
    kim = "08a8684b-db88-4b73-90a9-3cd1661f5466"

    def __init__(self, folder):
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}/dex"
        self.token_endpoint = f"{self.url}/token"
        self.settings = {}
        clients = [
            {"id": client, "name": client, "secret": SECRET, "redirectURIs": [self.callback]}
            for client in ("amlgate", "for-another")
        ]
        # The hash is of `password`.
        kim = {
            "email": "kim@dex.example", "username": "kim", "userID": self.kim,
            "hash": "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W",
        }
        config = {
            "issuer": self.url,
            "storage": {"type": "memory"},
            "web": {"http": self.address},
            "oauth2": {"skipApprovalScreen": True, "passwordConnector": "local"},
            "staticClients": clients,
            "connectors": [{"type": "mockCallback", "id": "mock", "name": "mock"}],
            "enablePasswordDB": True,
            "staticPasswords": [kim],
        }
        (folder / "dex.json").write_text(json.dumps(config))
        self.start()

    def start(self):
        """Its keys lie in memory: each start has new ones."""
        command = [os.environ["AMLGATE_DEX"], "serve", str(self.folder / "dex.json")]
        self.process = Process(command, self.folder / "dex.log")
        self.process.wait_for("Dex", lambda: listens(self.address))

    def signed_in(self, scope="openid email groups federated:id", client="amlgate"):
        """What Dex answers to the name and password of one of its own people."""
        form = {"grant_type": "password", "client_id": client, "client_secret": SECRET, "scope": scope}
        answer = requests.post(
            self.token_endpoint, data=form | {"username": "kim@dex.example", "password": "password"}, timeout=30
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def through_connector(self, scope="openid email groups federated:id"):
        """What it answers to somebody whom the connector knows, by way of a browser's redirects."""
        wanted = {
            "client_id": "amlgate", "redirect_uri": self.callback, "response_type": "code", "scope": scope,
            "state": "x",
        }
        browser = requests.Session()
        answer = browser.get(f"{self.url}/auth/mock", params=wanted, timeout=30, allow_redirects=False)
        for _ in range(5):
            there = urllib.parse.urljoin(answer.url, answer.headers["location"])
            if there.startswith(self.callback):
                break
            answer = browser.get(there, timeout=30, allow_redirects=False)
        (code,) = urllib.parse.parse_qs(urllib.parse.urlparse(there).query)["code"]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self.callback}
        answer = requests.post(self.token_endpoint, data=form, auth=("amlgate", SECRET), timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stop(self):
        # It is told to end, and does not call that an end without a fault.
        self.process.process.send_signal(signal.SIGTERM)
        self.process.process.wait(20)


@pytest.fixture(scope="session")
def issuers(sandbox, tmp_path_factory):
    keycloak = Keycloak(tmp_path_factory.mktemp("keycloak"))
    started = [keycloak]
    try:
        started.append(Dex(tmp_path_factory.mktemp("dex")))
        panva = OidcProvider(sandbox)
        started.append(panva)
        keycloak.ready()
        yield {issuer.name: issuer for issuer in started}
    finally:
        for issuer in started:
            issuer.stop()


@pytest.fixture(scope="session")
def gate(sandbox, issuers):
    """`amlgate serve` with all of them beside the sandbox's issuer."""
    of_dex = f"claims: {{federated_claims: {{connector_id: local, user_id: {Dex.kim}}}}}"
    subjects = "".join(
        f"  {name}: [{{issuer: {name}, {who}}}]\n"
        for name, who in (("panva", "subject: training-job"), ("keycloak", "group: data-science"), ("dex", of_dex))
    )
    (sandbox.home / "policies/issuers.yaml").write_text(
        f"version: 1\nsubjects:\n{subjects}allow:\n"
        "  - name: those whom others vouch for read\n    who: [panva, keycloak, dex]\n    role: Reader\n    scope: group\n"
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


