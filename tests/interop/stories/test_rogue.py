"""The rogue: somebody who may do everything, and who would bring a model to serve whose code nobody else has looked at."""

import contextlib
import json
import os
import shutil
import subprocess

import doors
import pytest
from azure.ai.ml import Output, command, dsl
from azure.ai.ml.entities import ManagedOnlineDeployment, Model
from azure.core.exceptions import HttpResponseError
from history import LENIENT
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from running import AMLGATE, wait_for
from server import git
from simulated import WORKSPACE_ID

ENTRY = "`models come from reviewed code`"


@pytest.fixture(scope="session")
def project(history):
    """Where Gerrit itself is content with whoever approves: whatever else is demanded, the gate demands."""
    return history.project("ml/vision", "MERGE_IF_NECESSARY", LENIENT)


@pytest.fixture(scope="session")
def checkout(project, gerrit):
    """A working tree of a commit, as a data scientist has it."""

    def checkout(sha):
        folder = gerrit.folder / f"tree-{sha[:12]}"
        if not folder.exists():
            git(gerrit.folder, "clone", "--quiet", "--no-checkout", str(project.work), str(folder))
            git(folder, "remote", "set-url", "origin", f"{gerrit.url}/{project.name}")
            git(folder, "fetch", "--quiet", str(project.work), sha)
            git(folder, "checkout", "--quiet", "--detach", sha)
        return folder

    return checkout


@pytest.fixture(scope="session")
def submitted(client, checkout):
    """Submits a job with the SDK from a working tree, and waits until it has trained."""

    def submitted(tree, **more):
        ml = client("sam")
        job = command(
            command="python train.py", environment="azureml:sklearn:1", compute="cpu-cluster", experiment_name="churn", **more
        )
        with contextlib.chdir(tree):
            name = ml.jobs.create_or_update(job).name
        wait_for("the end of the job", lambda: ml.jobs.get(name).status == "Completed")
        return name

    return submitted


@pytest.fixture(scope="session")
def reviewed(project):
    """A commit that somebody else approved, and that was merged."""
    change = project.reviewed(by="bo")
    change.submit("cy")
    return change.sha


@pytest.fixture(scope="session")
def unreviewed(project):
    """One that is pushed for review, and that nobody has looked at yet."""
    return project.change().sha


@pytest.fixture(scope="session")
def rogue(submitted, checkout, unreviewed):
    """A job that trained on code which nobody else has looked at."""
    return submitted(checkout(unreviewed))


@pytest.fixture(autouse=True)
def nothing_gets_through(request, between):
    """Whatever a rogue tries, Azure is only asked what is there."""
    between.forget()
    yield
    if "may_write" not in request.fixturenames:
        # What a pipeline's step is made of is no model; the SDK leaves it there before it asks for the pipeline.
        written = [(s.method, s.path) for s in between.seen if s.method != "GET" and "/components/" not in s.path]
        assert not written
    between.forget()


@pytest.fixture
def may_write():
    """For a test whose point is that something comes to be."""


@pytest.fixture(scope="session")
def refusals():
    """What was refused, by decision, with the code and the words."""
    return {}


def refused(answer, refusals, door):
    """It was refused for want of a review, in words that a person can do something with."""
    assert answer.status_code == 403, (door.name, answer.status_code, answer.text)
    told = answer.json()
    if door.speaks_mlflow:
        assert told["error_code"] == "PERMISSION_DENIED", (door.name, told)
        message = told["message"]
    else:
        assert told["error"]["code"] == "ReviewRequired", (door.name, told)
        message = told["error"]["message"]
    cause, cure = message.split("\n", 1)
    assert cause.startswith("amlgate: ") and ENTRY in cause and cure.strip(), (door.name, message)
    refusals[answer.headers["x-amlgate-decision"]] = (door.name, message)
    return message


def why(excinfo, refusals):
    """The same, as the SDK says it."""
    error = excinfo.value
    assert (error.status_code, error.error.code) == (403, "ReviewRequired"), error
    assert "amlgate: " in error.message and ENTRY in error.message, error.message
    refusals[error.response.headers["x-amlgate-decision"]] = ("the SDK", error.message)
    return error.message


# --- whatever the code's story is


def test_each_way_around_review_is_refused_with_its_own_reason(
    project, reviewed, unreviewed, submitted, checkout, call, refusals, may_write
):
    """The SDK writes into a job what `git` says of the working tree; each of these trees has another story."""
    own = project.reviewed(by="ana")
    own.submit("ana")
    pushed, _, _ = project.commit("ana")
    project.push(pushed, "refs/heads/main", by="admin")
    forced, _, _ = project.commit("ana")
    project.push(forced, "refs/for/main%submit", by="admin")
    again = project.change()
    first = again.sha
    again.again()
    again.vote("bo", 2)
    again.submit("cy")
    abandoned = project.reviewed(by="bo")
    abandoned.as_("ana").post(f"{abandoned.path}/abandon")
    changed, nowhere = checkout(reviewed).with_name("changed"), checkout(reviewed).with_name("nowhere")
    shutil.copytree(checkout(reviewed), changed)
    next(changed.glob("train-*.py")).write_text("print('something else')\n")
    nowhere.mkdir()
    stories = {
        "not looked at": (checkout(unreviewed), {}, "is not merged"),
        "approved by its author": (checkout(own.sha), {}, "nobody whose vote counts"),
        "pushed past review": (checkout(pushed), {}, "no change that the gate may see has this commit"),
        "merged by force": (checkout(forced), {}, "was FORCED"),
        "an older patch set": (checkout(first), {}, "was merged with another patch set"),
        "abandoned": (checkout(abandoned.sha), {}, "is not merged"),
        "reviewed, and changed since": (changed, {}, "changes that are in no commit"),
        "no code at all": (nowhere, {}, "neither the caller's token nor its own properties name a commit"),
        "its own stamp": (nowhere, {"amlgate.commit": reviewed, "amlgate.decision": "mine"}, "name a commit"),
    }
    for story, (tree, properties, reason) in stories.items():
        job = submitted(tree, **({"properties": properties} if properties else {}))
        for door in doors.registrations(job)[:2]:
            message = refused(call("pat", door.method, door.path, door.body), refusals, door)
            assert reason in message, (story, message)
    for path in ("azureml://datastores/workspaceblobstore/paths/models/rogue", "https://example.com/model.zip"):
        door = doors.registrations("x")[0]
        body = {"properties": {"modelUri": path, "modelType": "custom_model", "jobName": "x"}}
        message = refused(call("pat", door.method, door.path, body), refusals, door)
        assert "is not said to lie in the outputs of a job" in message


def test_what_ran_before_or_beside_the_gate_has_no_story(call, refusals):
    for job, reason in (("churn-train-1", "was not submitted through this gate"), ("never", "is not there")):
        door = doors.registrations(job)[0]
        assert reason in refused(call("pat", door.method, door.path, door.body), refusals, door)


# --- whichever door is tried


def tried(job):
    claims = {"mlflow.source.git.commit": "6cf21d63b85d71ee66c3f0d1c9a0d8d2c0ffee00", "azureml.git.dirty": "False"}
    return [*doors.registrations(job), *doors.promotions(), *doors.deployments(), *doors.jobs(claims)]


def test_every_door_that_is_known_is_tried():
    found = [(door.method, door.path.partition("?")[0]) for door in tried("rogue")]
    for method, pattern in doors.known():
        assert any(m == method and pattern.fullmatch(path) for m, path in found), (method, pattern.pattern)


def test_every_door_is_shut_and_says_why(rogue, call, refusals):
    for door in tried(rogue):
        refused(call("pat", door.method, door.path, door.body), refusals, door)
        refused(call("ci", door.method, door.path, door.body), refusals, door)


# --- with the clients that people have


def test_the_sdk_registers_nothing(rogue, client, refusals):
    ml = client("pat")
    for path in (f"azureml://jobs/{rogue}/outputs/artifacts/paths/model", f"runs:/{rogue}/model"):
        with pytest.raises(HttpResponseError) as error:
            ml.models.create_or_update(Model(name="rogue", path=path, type="mlflow_model"))
        assert "is not merged" in why(error, refusals)


def test_the_sdk_submits_no_job_that_registers_and_no_pipeline(client, checkout, unreviewed, refusals):
    ml = client("pat")
    model = Output(type="mlflow_model", name="rogue")
    train = command(
        command="python train.py --out ${{outputs.model}}", environment="azureml:sklearn:1", compute="cpu-cluster",
        experiment_name="churn", outputs={"model": model},
    )

    @dsl.pipeline(default_compute="cpu-cluster")
    def pipeline():
        step = command(
            command="python train.py --out ${{outputs.model}}", environment="azureml:sklearn:1",
            outputs={"model": Output(type="mlflow_model")},
        )()
        return {"model": step.outputs.model}

    whole = pipeline()
    whole.outputs.model.name, whole.outputs.model.version = "rogue", "1"
    with contextlib.chdir(checkout(unreviewed)):
        for job in (train, whole):
            with pytest.raises(HttpResponseError) as error:
                ml.jobs.create_or_update(job, experiment_name="churn")
            why(error, refusals)


def test_the_sdk_deploys_nothing_and_moves_no_traffic(client, refusals):
    ml = client("pat")
    deployment = ManagedOnlineDeployment(
        name="rogue", endpoint_name="churn", model="azureml:churn:1", instance_type="Standard_DS3_v2", instance_count=1,
    )
    with pytest.raises(HttpResponseError) as error:
        ml.online_deployments.begin_create_or_update(deployment).result()
    assert "was not submitted through this gate" in why(error, refusals)
    endpoint = ml.online_endpoints.get("churn")
    endpoint.traffic = {"blue": 100}
    with pytest.raises(HttpResponseError) as error:
        ml.online_endpoints.begin_create_or_update(endpoint).result()
    why(error, refusals)


def test_mlflow_creates_stages_and_names_nothing(rogue, gate, sandbox, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", sandbox.token("pat"))
    client = MlflowClient(f"{gate.url}/mlflow/v2.0{WORKSPACE_ID}")
    attempts = [
        lambda: client.create_model_version("churn", f"runs:/{rogue}/model", rogue),
        lambda: client.transition_model_version_stage("churn", "1", "Production"),
        lambda: client.set_registered_model_alias("churn", "champion", "1"),
        lambda: client.delete_registered_model_alias("churn", "champion"),
    ]
    for attempt in attempts:
        with pytest.raises(MlflowException, match="amlgate: ") as error:
            attempt()
        assert error.value.get_http_status_code() == 403 and ENTRY in str(error.value), error.value


@pytest.fixture
def run(sandbox, gate, tmp_path):
    """Runs a command as a person behind HTTPS_PROXY, with nothing of the surrounding session but PATH."""
    token = tmp_path / "token"
    token.write_text(sandbox.token("pat"))
    token.chmod(0o600)

    def run(*arguments, **more):
        clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **more}
        options = ["--gate", gate.url, "--ca", sandbox.ca, "--token-file", str(token)]
        return subprocess.run(
            [AMLGATE, "run", *options, "--", *arguments], env=clean, cwd=tmp_path, capture_output=True, text=True, timeout=180
        )

    return run


def test_az_and_curl_at_azures_own_addresses_come_no_further(rogue, run, tmp_path):
    own = {"AZURE_CONFIG_DIR": str(tmp_path / "azure"), "AZURE_CORE_COLLECT_TELEMETRY": "0"}
    signed = run(os.environ["AMLGATE_AZ"], "login", "--identity", "--output", "json", **own)
    assert signed.returncode == 0, signed.stderr
    door = doors.registrations(rogue)[0]
    url = f"https://management.azure.com{door.path}"
    az = run(os.environ["AMLGATE_AZ"], "rest", "--method", "put", "--url", url, "--body", json.dumps(door.body), **own)
    assert az.returncode == 1 and ENTRY in az.stderr and "is not merged" in az.stderr, az.stderr
    door = doors.registrations(rogue)[-1]
    curl = run("curl", "-sS", "-w", "\n%{http_code}", "-H", "Content-Type: application/json", "-d", json.dumps(door.body),
               f"https://westeurope.api.azureml.ms{door.path}")
    assert curl.returncode == 0 and curl.stdout.endswith("\n403") and ENTRY in curl.stdout, curl.stdout + curl.stderr


# --- and whoever has their code reviewed is not in the way of any of it


def test_the_same_doors_open_for_reviewed_code(reviewed, submitted, checkout, client, gate, may_write):
    job = submitted(checkout(reviewed))
    ml = client("sam")
    made = ml.models.create_or_update(
        Model(name="honest", path=f"azureml://jobs/{job}/outputs/artifacts/paths/model", type="mlflow_model")
    )
    entry = gate.record.expect("--resource", "models/honest", "--phase", "outcome", "--action", "models/versions/write")
    [review] = entry.own["reviews"]
    assert (entry.decision, review["sha"], review["project"]) == ("allow", reviewed, "ml/vision")
    deployment = ManagedOnlineDeployment(
        name="green", endpoint_name="churn", model=f"azureml:honest:{made.version}", instance_type="Standard_DS3_v2",
        instance_count=1,
    )
    ml.online_deployments.begin_create_or_update(deployment).result()
    endpoint = ml.online_endpoints.get("churn")
    endpoint.traffic = {"blue": 0, "green": 100}
    assert ml.online_endpoints.begin_create_or_update(endpoint).result().traffic["green"] == 100
    registers = command(
        command="python train.py", environment="azureml:sklearn:1", compute="cpu-cluster", experiment_name="churn",
        outputs={"model": Output(type="mlflow_model", name="honest")},
    )
    with contextlib.chdir(checkout(reviewed)):
        assert ml.jobs.create_or_update(registers).status == "Starting"


def test_every_refusal_is_recorded_with_who_tried_what(gate, refusals):
    assert len(refusals) > 150
    last = list(refusals)[-1]
    gate.record.expect("--decision", last)
    recorded = {entry.own["decision"]: entry for entry in gate.record.query("--code", "ReviewRequired")}
    assert refusals.keys() <= recorded.keys(), [refusals[d] for d in refusals.keys() - recorded.keys()]
    for decision in refusals:
        entry = recorded[decision]
        assert (entry.decision, entry.code) == ("deny", "ReviewRequired") and "reviews" not in entry.own
        assert entry.caller.startswith("sandbox:") and entry.action and entry.path, entry
    agents = " ".join({entry.agent for entry in recorded.values()})
    for program in ("azure-ai-ml/", "mlflow-python-client/", "AZURECLI/", "curl/", "python-requests/"):
        assert program in agents, agents
