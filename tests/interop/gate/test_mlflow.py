"""Plain MLflow through the reverse listener: no plugin, no Azure, a tracking URI and a token."""

import pathlib
import uuid

import pytest
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from simulated import WORKSPACE_ID


@pytest.fixture
def tracking(sandbox, monkeypatch):
    def tracking(name):
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", sandbox.token(name))
        return MlflowClient(f"{sandbox.gate}/mlflow/v2.0{WORKSPACE_ID}")

    return tracking


def test_a_run_is_logged_and_found_again(tracking, sandbox):
    client = tracking("sam")
    name = f"gated-{uuid.uuid4().hex[:6]}"
    experiment = client.create_experiment(name)
    run = client.create_run(experiment, run_name="first").info.run_id
    client.log_param(run, "lr", 0.1)
    client.log_metric(run, "auc", 0.7, step=0)
    client.log_batch(
        run,
        metrics=[Metric("auc", 0.9, 1, 1), Metric("loss", 0.25, 1, 1)],
        params=[Param("epochs", "10")],
        tags=[RunTag("team", "vision")],
    )
    client.set_terminated(run)
    got = client.get_run(run)
    assert (got.data.params, got.data.metrics) == ({"lr": "0.1", "epochs": "10"}, {"auc": 0.9, "loss": 0.25})
    assert got.info.status == "FINISHED" and got.data.tags["team"] == "vision"
    assert [m.value for m in client.get_metric_history(run, "auc")] == [0.7, 0.9]
    assert [r.info.run_id for r in client.search_runs([experiment])] == [run]
    assert client.get_experiment_by_name(name).experiment_id == experiment
    batch = sandbox.record.expect(
        "--caller", "user-sam", "--phase", "outcome", fits=lambda e: (e.path or "").endswith("/runs/log-batch")
    )
    assert (batch.decision, batch.status, batch.record["api"]["service"]["name"]) == ("allow", 200, "data-plane")
    assert batch.action == "Microsoft.MachineLearningServices/workspaces/experiments/runs/write"
    assert batch.agent.startswith("mlflow-python-client/")


def test_a_model_that_mlflow_registers_is_recorded_as_registered(tracking, sandbox, client):
    mlflow = tracking("sam")
    experiment = mlflow.create_experiment(f"gated-{uuid.uuid4().hex[:6]}")
    run = mlflow.create_run(experiment)
    mlflow.create_registered_model("by-plain-mlflow")
    mlflow.create_model_version("by-plain-mlflow", f"{run.info.artifact_uri}/model", run.info.run_id)
    assert client("sam").models.get("by-plain-mlflow", "1").job_name == run.info.run_id
    made = sandbox.record.expect("--caller", "user-sam", fits=lambda e: (e.path or "").endswith("/model-versions/create"))
    assert made.action == "Microsoft.MachineLearningServices/workspaces/models/versions/write"
    assert "register_model" in repr(made)


def test_who_only_reads_is_told_so_in_mlflows_own_words(tracking, sandbox):
    with pytest.raises(MlflowException, match="amlgate: no entry allows you") as denied:
        tracking("rita").create_experiment("ritas")
    assert denied.value.get_http_status_code() == 403
    entry = sandbox.record.expect("--caller", "user-rita", "--phase", "denial")
    assert (entry.decision, entry.code) == ("deny", "AuthorizationFailed")


def test_artifacts_go_through_the_gate_with_azures_plugin(client, sandbox, monkeypatch, tmp_path):
    """The plugin takes no path prefix: the data plane is at the gate's root."""
    import mlflow

    ml = client("sam")
    uri = ml.workspaces.get("vision").mlflow_tracking_uri
    # The SDK's cloud is this process's; the plugin knows only Azure's own.
    monkeypatch.setenv("AZUREML_CURRENT_CLOUD", "AzureCloud")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", sandbox.token("sam"))
    plain = MlflowClient(f"{sandbox.gate}/mlflow/v2.0{WORKSPACE_ID}")
    name = f"gated-{uuid.uuid4().hex[:6]}"
    run = plain.create_run(plain.create_experiment(name)).info.run_id
    # As in a job: with these four the plugin takes the token instead of signing in to Azure.
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    client.log_metric(run, "auc", 0.5)
    client.log_text(run, "hello", "notes/hello.txt")
    artifacts = client.get_run(run).info.artifact_uri
    listed = mlflow.artifacts.list_artifacts(artifact_uri=f"{artifacts}/notes")
    assert [f.path.rsplit("/", 1)[-1] for f in listed] == ["hello.txt"]
    back = mlflow.artifacts.download_artifacts(artifact_uri=f"{artifacts}/notes/hello.txt", dst_path=str(tmp_path))
    assert pathlib.Path(back).read_text() == "hello"
