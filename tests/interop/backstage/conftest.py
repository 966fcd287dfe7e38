"""A Backstage backend before a gate: people sign in to the portal, and the portal calls the gate."""

import os
import pathlib
import secrets
import shutil
import urllib.parse

import postgres
import pytest
import requests
from pages import Form
from running import Gate, Process, Sandbox, free_port

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    sandbox = Sandbox(tmp_path_factory.mktemp("run") / "sandbox", "--without-gate")
    yield sandbox
    sandbox.stop()


class Portal:
    """Backstage, with its tables in a PostgreSQL, so that it can be started anew."""

    def __init__(self, folder, sandbox, database):
        self.folder, self.ca, self.starts = folder, sandbox.ca, 0
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.static_token = secrets.token_urlsafe(24)
        self.settings = {
            "PORTAL_URL": self.url,
            "PORTAL_PORT": str(port),
            "POSTGRES_PORT": str(database),
            "ISSUER_URL": sandbox.layout["issuer"],
            "STATIC_TOKEN": self.static_token,
            # The certificates of the gate and the issuer are of an authority of the sandbox's own.
            "NODE_EXTRA_CA_CERTS": sandbox.ca,
        }
        # Node looks for packages beside the program, and Backstage for its root.
        for name in ("backend.mjs", "app-config.yaml", "package.json"):
            shutil.copy(HERE / name, folder)
        (folder / "node_modules").symlink_to(os.environ["AMLGATE_BACKSTAGE_MODULES"])

    def start(self, gate=None):
        """With the gate's address, which it keeps when it is started anew."""
        self.settings["GATE_URL"] = gate or self.settings["GATE_URL"]
        self.starts += 1
        self.log = self.folder / f"backstage-{self.starts}.log"
        self.process = Process(
            ["node", "backend.mjs", "--config", "app-config.yaml"], self.log, cwd=self.folder,
            env=os.environ | self.settings,
        )

        def answers():
            try:
                return requests.get(f"{self.url}/.backstage/health/v1/readiness", timeout=5).status_code == 200
            except requests.RequestException:
                return False

        self.process.wait_for("Backstage", answers, seconds=120)

    def stop(self):
        self.process.stop()

    def sign_in(self, person):
        """As the portal's page does it: a window that comes back from the issuer, then the session's token."""
        browser = requests.Session()
        browser.verify, browser.trust_env = self.ca, False
        query = {"env": "production", "scope": "openid profile email"}
        page = browser.get(f"{self.url}/api/auth/oidc/start", params=query)
        form = Form(page.text)
        assert form.action, page.text
        chosen = {**form.fields, "person": person}
        done = browser.post(urllib.parse.urljoin(page.url, form.action), data=chosen)
        assert done.status_code == 200 and done.url.startswith(f"{self.url}/api/auth/oidc/handler/frame"), done.text
        answer = browser.get(
            f"{self.url}/api/auth/oidc/refresh", params=query, headers={"X-Requested-With": "XMLHttpRequest"}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["backstageIdentity"]["token"]

    def ask(self, path, token, method="GET", **options):
        """Anything of the portal's own, with its own token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.request(method, f"{self.url}/api/{path}", headers=headers, timeout=30, **options)

    def through_a_plugin(self, plugin, way, token, path, method="GET"):
        """What came of the plugin's own call to the gate."""
        answer = self.ask(f"{plugin}/{way}{path}", token, method)
        assert answer.status_code == 200, answer.text
        return answer.json()


POLICIES = """version: 1
subjects:
  the portal's team: [{issuer: portal, group: "group:default/data-science"}]
  pat of Entra: [{issuer: entra, subject: 72f988bf-0000-4000-8000-000000000001/5a000000-0000-4000-8000-000000000003}]
  the plugin: [{issuer: portal, subject: "plugin:azureml"}]
allow:
  - {name: the portal's team reads, who: [the portal's team], kinds: [read], scope: group}
  - {name: pat may by an object id, who: [pat of Entra], role: Contributor, scope: group}
  - name: the plugin sees the workspace
    who: [the plugin]
    actions: [Microsoft.MachineLearningServices/workspaces/read]
    scope: group
"""


@pytest.fixture(scope="session")
def portal_and_gate(sandbox, tmp_path_factory):
    (sandbox.home / "policies/portal.yaml").write_text(POLICIES)
    with postgres.server() as database:
        portal = Portal(tmp_path_factory.mktemp("portal"), sandbox, database)

        def change(settings):
            settings["issuers"].append(
                {"name": "portal", "backstage": {"url": portal.url, "plugins": ["azureml"]}}
            )
            settings["people"] = {"canonical": "entra", "links": [{"issuer": "portal", "claim": "entra_oid"}]}
            portal.start(settings["listen"]["reverse"]["public_url"])
            # A plugin publishes a key once it has signed; it has nobody to send it to yet.
            portal.ask("azureml/for-itself/", portal.sign_in("sam"))

        try:
            gate = Gate(sandbox, "portal", change)
            yield portal, gate
            gate.stop()
        finally:
            portal.stop()
    gate.record.verify()


@pytest.fixture(scope="session")
def portal(portal_and_gate):
    return portal_and_gate[0]


@pytest.fixture(scope="session")
def gate(portal_and_gate, sandbox):
    gate = portal_and_gate[1]
    gate.session = requests.Session()
    gate.session.verify, gate.session.trust_env = sandbox.ca, False
    return gate
