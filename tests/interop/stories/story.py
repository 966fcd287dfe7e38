"""A project whose merges a gate follows, and what a merge has the gate do."""

import subprocess

import requests
import yaml
from between import Between
from callers import Clients
from conftest import joined
from history import LENIENT, OBJECT_IDS, quoted
from hooks import Webhooks
from running import AMLGATE, Gate, Process, listens, wait_for
from simulated import TENANT, WORKSPACE_ID

PROJECT = "ml/ci"
SECRET = "5f" * 32
BODY = {"properties": {
    "jobType": "Pipeline",
    "experimentName": "churn",
    "settings": {"defaultComputeId": f"{WORKSPACE_ID}/computes/cpu-cluster"},
    "jobs": {"train": {
        "type": "command",
        "component": {"command": "python train.py --commit ${commit}", "environment": "azureml:sklearn:1"},
    }},
    "outputs": {"model": {"jobOutputType": "mlflow_model", "assetName": "vision-ci"}},
    "tags": {"team": "vision"},
}}
POLICIES = {
    "version": 1,
    "subjects": {
        "everybody": [{"issuer": "sandbox", "group": "data-science"}],
        "whoever-merges": [{"issuer": "entra", "subject": f"{TENANT}/{OBJECT_IDS['cy']}"}],
        "pipelines": [{"agent": {"trigger": "train"}}],
    },
    "scopes": {"vision": WORKSPACE_ID},
    "allow": [
        {"name": "people work", "who": ["everybody", "whoever-merges"], "actions": ["Microsoft.MachineLearningServices/*"]},
        {"name": "people ask the gate", "who": ["everybody"], "actions": ["amlgate/*"]},
        {"name": "triggers do what whoever merged may", "who": ["pipelines"], "as": "human", "scope": "vision"},
    ],
    "require": [
        {
            "name": "models come from reviewed code", "effects": ["register_model"],
            "review": {"gerrit": "main", "project": PROJECT, "branch": "main"},
        },
        {
            "name": "what serves is stated", "effects": ["deploy_model"],
            "review": {"gerrit": "main", "project": PROJECT, "branch": "main", "statement": "required"},
        },
    ],
    "triggers": [{
        "name": "train",
        "on": {"gerrit": "main", "project": PROJECT, "branch": "main"},
        "as": "submitter",
        "put": "${scope}/jobs/vision-${change}-${commit12}",
        "scope": "vision",
        "body": BODY,
        "report": {"label": "Verified"},
    }],
}


class Story:
    """A gate that follows a project's merges, and what came of them."""

    def __init__(self, sandbox, gerrit, history):
        self.sandbox, self.gerrit, self.history = sandbox, gerrit, history
        # Gerrit itself is content with whoever approves.
        self.project = history.project(PROJECT, "REBASE_ALWAYS", LENIENT)
        self.let_the_gate_vote()
        self.between = Between(sandbox, ["management.azure.com", "westeurope.api.azureml.ms"])
        (sandbox.home / "policies-ci").mkdir()
        (sandbox.home / "policies-ci/ci.yaml").write_text(yaml.safe_dump(POLICIES, sort_keys=False))
        secret = sandbox.home / "certs/gerrit.hook"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        self.gate = Gate(sandbox, "ci", self.configured)
        self.logs = [self.gate.log]
        self.hook = f"http://{self.admin}/hooks/gerrit/main"
        self.webhooks = Webhooks(gerrit)
        self.follow()
        self.session = requests.Session()
        self.session.verify, self.session.trust_env = sandbox.ca, False
        self.ml = Clients(sandbox).of("sam", base=self.gate.url)

    def follow(self):
        self.webhooks.post_to("amlgate", f"{self.hook}/{SECRET}")

    def let_the_gate_vote(self):
        admin, path = self.history.admin, f"projects/{quoted(PROJECT)}"
        admin.put(f"{path}/labels/Verified", {
            "function": "NoBlock", "values": {"-1": "Fails", " 0": "Nothing was tried", "+1": "Works"}, "allow_post_submit": True,
        })
        gates = self.history.groups["gates that see accounts"]
        rule = {"label": "Verified", "rules": {gates: {"action": "ALLOW", "min": -1, "max": 1}}}
        admin.post(f"{path}/access", {"add": {"refs/heads/*": {"permissions": {"label-Verified": rule}}}})

    def configured(self, settings):
        joined(settings, self.sandbox, self.gerrit)
        settings["gerrit"][0] |= {
            "watch": [{"project": PROJECT, "branch": "main"}],
            # So seldom that whatever happens soon happens because of an event.
            "poll": "1h",
            "hook": {"path_secret": {"file": "certs/gerrit.hook"}, "from": ["127.0.0.0/8"]},
        }
        settings["policies"] = "policies-ci/"
        settings["store"] = {"sqlite": "var/ci.db"}
        self.admin = settings["listen"]["admin"]["address"]
        settings["listen"]["admin"]["public_url"] = f"http://{self.admin}"
        for route in settings["routes"]:
            if route["name"] in ("arm", "data-plane"):
                route["address"] = self.between.address

    def start_anew(self):
        """The gate that was stopped, as it was configured."""
        gate, log = self.gate, self.gate.log.with_suffix(".again.log")
        self.logs.append(log)
        Process.__init__(gate, [AMLGATE, "serve", "--config", str(gate.file)], log)
        gate.wait_for("listener", lambda: listens(gate.url.removeprefix("https://").replace("localhost", "127.0.0.1")))

    def get(self, path, who="sam"):
        return self.session.get(f"{self.gate.url}{path}", headers={"Authorization": f"Bearer {self.sandbox.token(who)}"})

    def api(self, path, who="sam"):
        headers = {"Authorization": f"Bearer {self.sandbox.token(who)}"}
        return self.session.get(f"http://{self.admin}/api/v1{path}", headers=headers)

    def amlgate(self, *arguments):
        """A verb of the command line's that asks the gate, as Sam."""
        options = ["--as", "-", "--gate", self.gate.url, "--ca", self.sandbox.ca]
        return subprocess.run(
            [AMLGATE, *arguments, *options], input=self.sandbox.token("sam"), capture_output=True, text=True, timeout=60
        )

    def puts(self, name):
        """What was put of a job."""
        return self.between.at(f"/jobs/{name}?", "PUT")

    def stop(self):
        self.webhooks.stop()
        self.gate.stop()
        self.between.stop()


class Run:
    """What a change that was merged has the gate do."""

    def __init__(self, story, change):
        self.story, self.change = story, change
        self.commit = change.submit("cy")
        self.name = f"vision-{change.number}-{self.commit[:12]}"
        self.path = f"{WORKSPACE_ID}/jobs/{self.name}?api-version=2025-12-01"

    def started(self):
        """The job, as Azure shows it."""

        def there():
            answer = self.story.get(self.path)
            return answer.json() if answer.status_code == 200 else None

        return wait_for(f"job {self.name}", there, self.story.gate.process, self.story.gate.log)

    def model(self):
        """The version of the model that the job registered."""

        def made():
            listed = self.story.get(f"{WORKSPACE_ID}/models/vision-ci/versions?api-version=2025-12-01").json()
            return next((m for m in listed.get("value", []) if m["properties"]["jobName"] == self.name), None)

        return wait_for(f"model of {self.name}", made, seconds=90)

    def stated(self):
        """The same, once it bears the id of its statement."""
        return wait_for("statement", lambda: (m := self.model())["properties"]["tags"].get("amlgate.statement") and m, seconds=90)

    def said(self, least=1):
        """What the gate said about it at the change, once it said so much."""
        return wait_for(f"{least} words", lambda: len(said := self.at_the_change()[0]) >= least and said, seconds=90)

    def at_the_change(self):
        told = self.story.history.admin.get(f"{self.change.path}/detail")
        return [m["message"] for m in told["messages"] if m.get("tag") == "autogenerated:amlgate"], told
