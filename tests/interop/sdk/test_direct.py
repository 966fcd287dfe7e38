"""The unmodified official SDKs directly against the simulated Azure, without the gate.

If these fail, the simulated Azure is not Azure, and what the gate is shown to do against it says
nothing.
"""

import json
import os
import subprocess
import sys
import uuid

import pytest
from simulated import CLIENT_ID, CLIENT_SECRET, GROUP, SUBSCRIPTION, TENANT, WORKSPACE, WORKSPACE_ID

ARM = "https://management.azure.com/.default"


def test_the_workspace_is_there(ml):
    workspace = ml.workspaces.get(WORKSPACE)
    assert workspace.location == "westeurope"
    assert workspace.mlflow_tracking_uri.startswith("azureml://westeurope.api.azureml.ms/mlflow/")
    assert {w.name for w in ml.workspaces.list()} == {"vision", "other"}


def test_a_list_of_jobs_follows_every_page(ml):
    names = [job.name for job in ml.jobs.list()]
    seeded = ["churn-train-4", "churn-sweep-1", "churn-train-3", "churn-train-2", "churn-train-1"]
    assert [n for n in names if n in seeded] == seeded
    assert ml.jobs.get("churn-train-3").status == "Failed"


def command(**extra):
    from azure.ai.ml import command

    return command(
        command="python train.py",
        environment="azureml:sklearn:1",
        compute="cpu-cluster",
        experiment_name="churn",
        **extra,
    )


def test_a_command_job_is_submitted_and_ends(ml):
    job = ml.jobs.create_or_update(command())
    assert job.status == "Starting"
    seen = [ml.jobs.get(job.name).status for _ in range(4)]
    assert seen[-1] == "Completed" and "Running" in seen
    assert job.name in [j.name for j in ml.jobs.list()]
    ml.jobs.archive(job.name)
    assert job.name not in [j.name for j in ml.jobs.list()]


def test_a_job_with_code_uploads_it_first(ml, tmp_path):
    (tmp_path / "train.py").write_text("print('trained')\n")
    job = ml.jobs.create_or_update(command(code=str(tmp_path)))
    assert "/codes/" in job.code or job.code.startswith("azureml:")
    # The same code again is found by its hash and not uploaded twice.
    again = ml.jobs.create_or_update(command(code=str(tmp_path)))
    assert again.code == job.code


def test_a_job_is_cancelled(ml):
    job = ml.jobs.create_or_update(command())
    ml.jobs.begin_cancel(job.name).result()
    assert ml.jobs.get(job.name).status == "Canceled"


def test_the_output_of_a_job_is_followed_to_its_end(ml, capsys):
    job = ml.jobs.create_or_update(command())
    ml.jobs.stream(job.name)
    assert job.name in capsys.readouterr().out
    assert ml.jobs.get(job.name).status == "Completed"


def test_a_base_url_on_this_machine_serves_every_plane(sandbox, credential):
    """As behind a reverse proxy: one base URL, and every URL in an answer leads back to it."""
    script = f"""
import os, sys
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
from azure.ai.ml import MLClient
from azure.core.credentials import AccessToken
base = "https://localhost:{sandbox["azure_address"].rsplit(":", 1)[1]}/"
class Fixed:
    def get_token(self, *scopes, **options):
        return AccessToken(os.environ["TOKEN"], 9999999999)
ml = MLClient(
    Fixed(), {SUBSCRIPTION!r}, {GROUP!r}, {WORKSPACE!r}, cloud="sandbox",
    cloud_metadata=dict(azure_portal=base, resource_manager=base, active_directory=base,
                        aml_resource_id=base, storage_endpoint="localhost", registry_discovery_endpoint=base),
)
assert len(list(ml.jobs.list())) >= 5
assert ml.online_endpoints.get("churn").scoring_uri.startswith(base + "inference/churn/")
assert ml.compute.begin_stop("cpu-cluster").result() is None
"""
    environment = dict(os.environ, TOKEN=credential.get_token(ARM).token)
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=120)


def test_a_pipeline_job_brings_its_second_token(ml):
    from azure.ai.ml import dsl

    step = command()

    @dsl.pipeline(default_compute="cpu-cluster")
    def pipeline():
        step()

    job = ml.jobs.create_or_update(pipeline(), experiment_name="churn")
    assert job.type == "pipeline"


def test_a_model_is_registered_from_a_file(ml, tmp_path):
    from azure.ai.ml.entities import Model

    (tmp_path / "model.pkl").write_bytes(b"weights")
    made = ml.models.create_or_update(Model(name="fresh", path=str(tmp_path / "model.pkl"), type="custom_model"))
    assert made.version == "1"
    assert ml.models.get("fresh", label="latest").version == "1"
    ml.models.download("fresh", "1", download_path=str(tmp_path / "back"))
    assert [f.read_bytes() for f in (tmp_path / "back").rglob("*") if f.is_file()] == [b"weights"]
    assert "churn" in [m.name for m in ml.models.list()]


def test_data_and_environments_are_registered(ml, tmp_path):
    from azure.ai.ml.entities import Data, Environment

    data = ml.data.create_or_update(
        Data(name="points", version="1", type="uri_file", path="azureml://datastores/workspaceblobstore/paths/p.csv")
    )
    assert data.version == "1"
    environment = ml.environments.create_or_update(Environment(name="mine", image="docker.io/library/python:3.11"))
    assert ml.environments.get("mine", environment.version).image.endswith("python:3.11")


def test_a_compute_is_made_stopped_and_deleted(ml):
    from azure.ai.ml.entities import AmlCompute, ComputeInstance

    cluster = ml.compute.begin_create_or_update(AmlCompute(name="gpu", size="Standard_NC6", max_instances=2)).result()
    assert (cluster.provisioning_state, cluster.max_instances) == ("Succeeded", 2)
    instance = ml.compute.begin_create_or_update(ComputeInstance(name="notebook", size="Standard_DS3_v2")).result()
    assert instance.provisioning_state == "Succeeded"
    ml.compute.begin_stop("notebook").result()
    assert ml.compute.get("notebook").state == "Stopped"
    ml.compute.begin_delete("gpu").result()
    assert "gpu" not in [c.name for c in ml.compute.list()]


def test_an_endpoint_is_made_deployed_and_invoked(ml, tmp_path):
    from azure.ai.ml.entities import ManagedOnlineDeployment, ManagedOnlineEndpoint

    endpoint = ml.online_endpoints.begin_create_or_update(
        ManagedOnlineEndpoint(name="sdk-made", auth_mode="key")
    ).result()
    assert endpoint.scoring_uri == "https://sdk-made.westeurope.inference.ml.azure.com/score"
    ml.online_deployments.begin_create_or_update(
        ManagedOnlineDeployment(
            name="blue",
            endpoint_name="sdk-made",
            model="azureml:churn:1",
            instance_type="Standard_DS3_v2",
            instance_count=1,
        )
    ).result()
    endpoint.traffic = {"blue": 100}
    ml.online_endpoints.begin_create_or_update(endpoint).result()
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"input_data": {"data": [[0, 0]]}}))
    answer = json.loads(ml.online_endpoints.invoke("sdk-made", request_file=str(request)))
    assert answer == {"predictions": [0.5], "deployment": "blue"}
    assert ml.online_endpoints.get_keys("sdk-made").primary_key
    ml.online_endpoints.begin_delete("sdk-made").result()


def test_an_endpoint_with_entra_tokens_is_invoked(ml, tmp_path):
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"input_data": {"data": [[0, 0]]}}))
    answer = json.loads(ml.online_endpoints.invoke("churn-aad", request_file=str(request)))
    assert answer["predictions"] == [0.5]


def test_connections_and_datastores_are_listed(ml):
    assert "workspaceblobstore" in [d.name for d in ml.datastores.list()]
    assert "feature-api" in [c.name for c in ml.connections.list()]


def test_mlflow_logs_a_run_and_registers_a_model(ml, monkeypatch):
    import mlflow
    from mlflow.tracking import MlflowClient

    uri = ml.workspaces.get(WORKSPACE).mlflow_tracking_uri
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    mlflow.set_experiment(f"sdk-{uuid.uuid4().hex[:6]}")
    with mlflow.start_run(run_name="first") as run:
        mlflow.log_param("lr", 0.1)
        mlflow.log_metric("auc", 0.7)
        mlflow.log_metric("auc", 0.9, step=1)
        mlflow.set_tag("team", "vision")
        mlflow.log_text("hello", "notes/hello.txt")
    client = MlflowClient()
    got = client.get_run(run.info.run_id)
    assert got.data.params == {"lr": "0.1"} and got.data.metrics == {"auc": 0.9}
    assert got.info.status == "FINISHED"
    assert [m.value for m in client.get_metric_history(run.info.run_id, "auc")] == [0.7, 0.9]
    # By the artifacts' own URL: by the run, MLflow 3 also asks for logged models, which Azure does not serve.
    listed = mlflow.artifacts.list_artifacts(artifact_uri=f"{got.info.artifact_uri}/notes")
    assert [f.path.rsplit("/", 1)[-1] for f in listed] == ["hello.txt"]
    assert mlflow.artifacts.load_text(f"{got.info.artifact_uri}/notes/hello.txt") == "hello"
    client.create_registered_model("by-mlflow")
    client.create_model_version("by-mlflow", f"{got.info.artifact_uri}/model", run.info.run_id)
    assert ml.models.get("by-mlflow", "1").job_name == run.info.run_id


def test_plain_mlflow_needs_no_plugin(sandbox, credential, monkeypatch):
    from mlflow.tracking import MlflowClient

    token = credential.get_token(ARM).token
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    client = MlflowClient(f"https://westeurope.api.azureml.ms/mlflow/v2.0{WORKSPACE_ID}")
    experiment = client.create_experiment(f"plain-{uuid.uuid4().hex[:6]}")
    run = client.create_run(experiment)
    client.log_metric(run.info.run_id, "loss", 0.25)
    assert client.get_run(run.info.run_id).data.metrics == {"loss": 0.25}
    assert len(client.search_runs([experiment])) == 1


def test_role_assignments_are_read_as_azure_filters_them(credential, sandbox):
    from azure.mgmt.authorization import AuthorizationManagementClient

    client = AuthorizationManagementClient(credential, SUBSCRIPTION)
    sam = "5a000000-0000-4000-8000-000000000001"
    found = list(client.role_assignments.list_for_scope(WORKSPACE_ID, filter=f"atScope() and assignedTo('{sam}')"))
    assert len(found) == 1
    role = client.role_definitions.get_by_id(found[0].role_definition_id)
    assert role.role_name == "AzureML Data Scientist"
    # More than a page.
    assert len(list(client.role_assignments.list_for_scope(f"/subscriptions/{SUBSCRIPTION}"))) > 3


def test_the_vault_is_read(credential, sandbox):
    from azure.keyvault.secrets import SecretClient

    client = SecretClient("https://vision-kv.vault.azure.net", credential)
    assert client.get_secret("gate-client-secret").value == CLIENT_SECRET


def test_a_certificate_stands_for_the_secret_only_if_it_is_registered(sandbox, tmp_path):
    import datetime

    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import CertificateCredential
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    certs = sandbox["home"] / "certs"
    own = (certs / "gate-client.key").read_bytes() + (certs / "gate-client.pem").read_bytes()
    assert CertificateCredential(TENANT, CLIENT_ID, certificate_data=own).get_token(ARM).token
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gate")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
        CertificateCredential(TENANT, CLIENT_ID, certificate_data=pem).get_token(ARM)


def token_of(sandbox, *arguments):
    command = [os.environ["AMLGATE"], "sandbox", "token", *arguments, "--dir", str(sandbox["home"])]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_federated_token_stands_for_the_secret_only_for_its_audience(sandbox):
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import ClientAssertionCredential

    exchange = token_of(sandbox, "ci", "--audience", "api://AzureADTokenExchange")
    assert ClientAssertionCredential(TENANT, CLIENT_ID, lambda: exchange).get_token(ARM).token
    plain = token_of(sandbox, "ci")
    with pytest.raises(ClientAuthenticationError, match="AADSTS700212"):
        ClientAssertionCredential(TENANT, CLIENT_ID, lambda: plain).get_token(ARM)


def test_on_behalf_of_a_person_has_that_persons_rights(sandbox):
    from azure.ai.ml import MLClient
    from azure.core.exceptions import HttpResponseError
    from azure.identity import OnBehalfOfCredential

    assertion = token_of(sandbox, "rita", "--entra")
    rita = OnBehalfOfCredential(
        TENANT, CLIENT_ID, client_secret=CLIENT_SECRET, user_assertion=assertion
    )
    client = MLClient(rita, SUBSCRIPTION, GROUP, WORKSPACE)
    assert "churn" in [m.name for m in client.models.list()]
    with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
        client.jobs.create_or_update(command())


def test_a_machine_has_its_identity(sandbox, monkeypatch):
    from azure.identity import ManagedIdentityCredential

    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://{sandbox['identity_address']}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "sandbox-identity-header")
    token = ManagedIdentityCredential().get_token(ARM)
    assert token.token.count(".") == 2


def test_a_wrong_secret_and_a_stranger_are_refused_as_azure_refuses_them(sandbox):
    from azure.ai.ml import MLClient
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
    from azure.identity import ClientSecretCredential

    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        ClientSecretCredential(TENANT, CLIENT_ID, "wrong").get_token(ARM)
    stranger = ClientSecretCredential(
        TENANT, "9a7e0000-0000-4000-8000-00000000a003", "sandbox-secret-of-a-stranger"
    )
    client = MLClient(stranger, SUBSCRIPTION, GROUP, WORKSPACE)
    with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
        list(client.jobs.list())


def test_openai_streams_from_the_endpoint(ml):
    import openai

    key = ml.online_endpoints.get_keys("churn").primary_key
    client = openai.OpenAI(base_url="https://churn.westeurope.inference.ml.azure.com/v1", api_key=key)
    stream = client.chat.completions.create(
        model="churn-chat", stream=True, messages=[{"role": "user", "content": "hello there"}]
    )
    text = "".join(event.choices[0].delta.content or "" for event in stream)
    assert text.strip() == "You said: hello there"


def test_a_websocket_echoes(ml):
    import ssl

    from websockets.sync.client import connect

    key = ml.online_endpoints.get_keys("churn").primary_key
    with connect(
        "wss://churn.westeurope.inference.ml.azure.com/ws",
        additional_headers={"Authorization": f"Bearer {key}"},
        ssl=ssl.create_default_context(),
    ) as socket:
        socket.send("hello")
        assert socket.recv() == "hello"
        socket.send(b"x" * 100_000)
        assert socket.recv() == b"x" * 100_000


def test_blobs_are_uploaded_in_blocks_and_a_container_keeps_what_it_was_given(credential):
    from azure.core.exceptions import HttpResponseError, ResourceExistsError
    from azure.storage.blob import BlobServiceClient

    blocks = {"max_single_put_size": 4, "max_block_size": 4}
    service = BlobServiceClient("https://visionstore.blob.core.windows.net", credential, **blocks)
    name = f"{uuid.uuid4()}/segment.log.gz"
    blob = service.get_blob_client("azureml", name)
    blob.stage_block("0001", b"left")
    _, left = blob.get_block_list("uncommitted")
    assert [(block["id"], block["size"]) for block in left] == [("0001", 4)]
    blob.upload_blob(b"0123456789")
    assert blob.download_blob().readall() == b"0123456789"
    with pytest.raises(ResourceExistsError):
        blob.upload_blob(b"9876543210")

    kept = service.get_container_client("amlgate-record")
    assert kept.get_container_properties().has_immutability_policy
    assert not service.get_container_client("azureml").get_container_properties().has_immutability_policy
    for data in (b"abc", b"0123456789"):
        blob = kept.get_blob_client(f"{name}-{len(data)}")
        blob.upload_blob(data)
        for change in (lambda: blob.upload_blob(b"another", overwrite=True), blob.delete_blob):
            with pytest.raises(HttpResponseError) as refused:
                change()
            assert refused.value.error_code == "BlobImmutableDueToPolicy"
        assert blob.download_blob().readall() == data
