"""Models of jobs before a real Gerrit: what a job made has the commit that the job was submitted from, whoever registers
it, and waits for a Gerrit that is away where its entry says so."""

import threading

import jwt
import pytest
import requests
import yaml
from running import Gate, Sandbox, wait_for
from simulated import WORKSPACE_ID

VERSION = "api-version=2025-12-01"
PROJECT = "ml/fast-forward-only"
JOB = {
    "jobType": "Command", "command": "python train.py", "experimentName": "churn",
    "environmentId": f"{WORKSPACE_ID}/environments/sklearn/versions/1", "computeId": f"{WORKSPACE_ID}/computes/cpu-cluster",
}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    sandbox = Sandbox(tmp_path_factory.mktemp("jobs") / "sandbox", "--without-gate")
    yield sandbox
    sandbox.stop()


@pytest.fixture(scope="module")
def gate(sandbox, gerrit, history):
    review = {"gerrit": "main", "project": PROJECT, "branch": "main", "commit": "job"}
    policies = {
        "version": 1,
        "subjects": {"everybody": [{"issuer": "sandbox", "kind": "person"}, {"issuer": "sandbox", "kind": "machine"}]},
        "allow": [{"name": "they work", "who": ["everybody"], "actions": ["Microsoft.MachineLearningServices/*"]}],
        "require": [
            {"name": "models come from reviewed code", "effects": ["register_model"], "review": review},
            {"name": "what is deployed waits", "effects": ["deploy_model"], "review": review | {"on_unreachable": "hold"}},
        ],
    }
    for other in (sandbox.home / "policies").glob("*.yaml"):
        other.unlink()
    (sandbox.home / "policies/jobs.yaml").write_text(yaml.safe_dump(policies, sort_keys=False))

    def change(settings):
        token = sandbox.home / "certs/gerrit.token"
        token.write_text(gerrit.password("gate"))
        token.chmod(0o600)
        settings["gerrit"] = [{
            "name": "main", "url": gerrit.url, "user": "gate", "token": {"file": "certs/gerrit.token"},
            "trust": {"ca": str(gerrit.ca)},
        }]
        settings["people"] = {"canonical": "entra", "links": [{"gerrit": "main", "external_id": "azure-oauth"}]}

    gate = Gate(sandbox, "jobs", change)
    yield gate
    gate.stop()
    gate.record.verify()


class Caller:
    """Whoever calls the workspace through the gate."""

    def __init__(self, sandbox, gate, token):
        self.gate = gate
        self.session = requests.Session()
        self.session.verify, self.session.trust_env = sandbox.ca, False
        self.session.headers["Authorization"] = f"Bearer {token}"

    def put(self, what, properties, **more):
        body = {"properties": properties} | more
        return self.session.put(f"{self.gate.url}{WORKSPACE_ID}/{what}?{VERSION}", json=body)

    def get(self, what):
        return self.session.get(f"{self.gate.url}{WORKSPACE_ID}/{what}?{VERSION}")

    def trained(self, name, properties):
        """A job that has completed; its stamp."""
        submitted = self.put(f"jobs/{name}", properties)
        assert submitted.status_code == 201, submitted.text

        def completed():
            job = self.get(f"jobs/{name}").json()["properties"]
            return job if job["status"] == "Completed" else None

        return wait_for("completed job", completed)["properties"]

    def registers(self, job, name):
        uri = f"azureml://jobs/{job}/outputs/artifacts/paths/model"
        return self.put(f"models/{name}/versions/1", {"modelUri": uri, "jobName": job, "modelType": "mlflow_model"})


@pytest.fixture(scope="module")
def sam(sandbox, gate):
    return Caller(sandbox, gate, sandbox.token("sam"))


@pytest.fixture(scope="module")
def building(sandbox, gate):
    """CI as it builds a commit."""
    def building(sha):
        genuine = sandbox.token("ci")
        claims = jwt.decode(genuine, options={"verify_signature": False}) | {"sha": sha}
        key = (sandbox.home / "issuer.key").read_text()
        return Caller(sandbox, gate, jwt.encode(claims, key, "RS256", {"kid": jwt.get_unverified_header(genuine)["kid"]}))

    return building


def why(answer):
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "ReviewRequired"), answer.text
    return answer.json()["error"]["message"]


def test_a_model_has_the_commit_of_its_job_whoever_registers_it(building, sam, tell, gate):
    told = tell("fast_forward_only")
    stamp = building(told.case.sha).trained("reviewed", JOB)
    assert (stamp["amlgate.commit"], stamp["amlgate.commit_known_by"]) == (told.case.sha, "token")
    registered = sam.registers("reviewed", "churn-reviewed")
    assert registered.status_code == 201, registered.text
    entry = gate.record.expect("--decision", registered.headers["x-amlgate-decision"], "--phase", "outcome")
    [found] = entry.own["reviews"]
    assert (found["sha"], found["change"]) == (told.case.sha, told.change["_number"])


def test_a_job_that_claims_a_reviewed_commit_is_known_by_its_claim(sam, tell):
    properties = {"mlflow.source.git.commit": tell("fast_forward_only").case.sha, "azureml.git.dirty": "False"}
    stamp = sam.trained("claimed", JOB | {"properties": properties})
    assert stamp["amlgate.commit_known_by"] == "claimed"
    assert sam.registers("claimed", "churn-claimed").status_code == 201


def test_a_job_of_a_commit_that_nobody_reviewed_brings_no_model_in(building, sam, tell, history):
    pushed = tell("pushed_past_review").case.sha
    building(pushed).trained("pushed", JOB)
    assert "pushed around review" in why(sam.registers("pushed", "churn-pushed"))
    # Nor one that was changed since its commit, nor one that the gate never saw.
    sha = tell("fast_forward_only").case.sha
    dirty = {"mlflow.source.git.commit": sha, "azureml.git.dirty": "True"}
    sam.trained("dirty", JOB | {"properties": dirty})
    assert "changes that are in no commit" in why(sam.registers("dirty", "churn-dirty"))
    assert "was not submitted through this gate" in why(sam.registers("churn-train-1", "churn-old"))


def test_a_deployment_waits_for_a_gerrit_that_is_away_and_goes_on_by_itself(building, sam, tell, gerrit):
    if sam.get("models/churn-reviewed/versions/1").status_code != 200:
        building(tell("fast_forward_only").case.sha).trained("reviewed", JOB)
        assert sam.registers("reviewed", "churn-reviewed").status_code == 201
    endpoint = sam.put("onlineEndpoints/held", {"authMode": "Key"}, location="westeurope", identity={"type": "SystemAssigned"})
    assert endpoint.status_code in (200, 201), endpoint.text
    model = f"{WORKSPACE_ID}/models/churn-reviewed/versions/1"
    deployment = {"endpointComputeType": "Managed", "model": model, "instanceType": "Standard_DS3_v2"}
    sku = {"name": "Default", "capacity": 1}
    gerrit.stop()
    answers = []

    def deploys():
        answers.append(sam.put("onlineEndpoints/held/deployments/blue", deployment, location="westeurope", sku=sku))

    waiting = threading.Thread(target=deploys)
    waiting.start()
    # What is refused at once meanwhile is not what waits.
    assert "does not answer" in why(sam.registers("reviewed", "churn-meanwhile"))
    assert waiting.is_alive() and not answers
    gerrit.start()
    waiting.join(120)
    assert answers and answers[0].status_code in (200, 201), answers and answers[0].text
