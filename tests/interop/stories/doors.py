"""Every door through which a model comes into being or begins to serve, with what a rogue would send through it."""

import pathlib
import re

from simulated import GROUP, SUBSCRIPTION, WORKSPACE_ID

TABLE = pathlib.Path(__file__).resolve().parents[2] / "azureml/consequences.tsv"
PROVIDER = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.MachineLearningServices"
VERSION = "api-version=2025-12-01"
MLFLOW = f"{WORKSPACE_ID}/api/2.0/mlflow"
# In the sandbox before anybody had code reviewed.
OLD_MODEL = f"{WORKSPACE_ID}/models/churn/versions/1"


class Door:
    def __init__(self, name, method, path, body):
        self.name, self.method, self.path, self.body = name, method, path, body

    @property
    def speaks_mlflow(self):
        return self.path.startswith("/mlflow/")


def arm(name, method, path, body):
    """A door of Resource Manager's, and the copy of it that stands at the data plane."""
    path = f"{path}?{VERSION}"
    return [Door(name, method, path, body), Door(f"{name}, at the front end", method, f"/mferp/managementfrontend{path}", body)]


def registrations(job):
    """What says that a model lies in what a job left."""
    uri = f"azureml:/{WORKSPACE_ID}/jobs/{job}/outputs/artifacts/paths/model"
    version = {"properties": {"modelUri": uri, "jobName": job, "modelType": "mlflow_model"}}
    registry = f"/modelregistry/v1.0{WORKSPACE_ID}"
    left = f"aml://artifact/ExperimentRun/dcid.{job}/model"
    doors = [
        *arm("Resource Manager", "PUT", f"{WORKSPACE_ID}/models/rogue/versions/1", version),
        *arm("a registry", "PUT", f"{PROVIDER}/registries/shared/models/rogue/versions/1", version),
        Door("the model registry", "POST", f"{registry}/models", {"name": "rogue", "url": left, "runId": job}),
        Door("an output that is none", "POST", f"{registry}/models/createUnregisteredOutput", {"name": "rogue", "url": left}),
        Door("data that is a model", "POST", f"/data/v1.0{WORKSPACE_ID}/dataversion/createUnregisteredOutput", {"name": "rogue"}),
    ]
    for version in ("v1.0", "v2.0"):
        body = {"name": "rogue", "source": f"runs:/{job}/model", "run_id": job}
        doors.append(Door(f"MLflow {version}", "POST", f"/mlflow/{version}{MLFLOW}/model-versions/create", body))
    return doors


def promotions():
    """What brings a model that is there already further, or moves it."""
    stage = {"name": "churn", "version": "1", "stage": "Production"}
    alias = {"name": "churn", "version": "1", "alias": "champion"}
    doors = [
        *arm("publishing", "POST", f"{OLD_MODEL}/publish", {"destination": {"registryName": "shared"}}),
        Door("a move from another workspace", "POST", "/modelregistry/v1.0/meta/migration", {"workspaceId": "x"}),
    ]
    for version in ("v1.0", "v2.0"):
        at = f"/mlflow/{version}{MLFLOW}"
        doors += [
            Door(f"a stage, MLflow {version}", "POST", f"{at}/model-versions/transition-stage", stage),
            Door(f"an alias, MLflow {version}", "POST", f"{at}/registered-models/alias", alias),
            Door(f"an alias taken away, MLflow {version}", "DELETE", f"{at}/registered-models/alias", alias),
        ]
    return doors


def deployments():
    """What begins to serve."""
    online, batch = f"{WORKSPACE_ID}/onlineEndpoints/churn", f"{WORKSPACE_ID}/batchEndpoints/nightly"
    services = f"/modelmanagement/v1.0{WORKSPACE_ID}"
    served = {"location": "westeurope", "sku": {"name": "Default", "capacity": 1}, "properties": {
        "endpointComputeType": "Managed", "model": OLD_MODEL, "instanceType": "Standard_DS3_v2",
    }}
    placed = {**served, "properties": {
        **served["properties"], "model": "azureml://datastores/workspaceblobstore/paths/models/rogue",
    }}
    traffic = {"location": "westeurope", "properties": {"authMode": "Key", "traffic": {"blue": 100}}}
    mirror = {"location": "westeurope", "properties": {"authMode": "Key", "mirrorTraffic": {"blue": 10}}}
    chosen = {"location": "westeurope", "properties": {"authMode": "AADToken", "defaults": {"deploymentName": "rogue"}}}

    def in_batch(reference):
        return {"location": "westeurope", "properties": {
            "compute": f"{WORKSPACE_ID}/computes/cpu-cluster", "resources": {"instanceCount": 1}, "model": reference,
        }}

    by_id = in_batch({"referenceType": "Id", "assetId": OLD_MODEL})
    by_path = in_batch({"referenceType": "DataPath", "path": "models/rogue"})
    service = {"name": "rogue", "imageId": "x", "computeType": "ACI"}
    return [
        *arm("a deployment", "PUT", f"{online}/deployments/rogue", served),
        *arm("a deployment of a path", "PUT", f"{online}/deployments/rogue", placed),
        *arm("a deployment that changes its model", "PATCH", f"{online}/deployments/blue", served),
        *arm("traffic", "PUT", online, traffic),
        *arm("traffic, changed", "PATCH", online, traffic),
        *arm("mirrored traffic", "PUT", online, mirror),
        *arm("a batch deployment", "PUT", f"{batch}/deployments/rogue", by_id),
        *arm("a batch deployment of a path", "PUT", f"{batch}/deployments/rogue", by_path),
        *arm("a batch deployment that changes its model", "PATCH", f"{batch}/deployments/rogue", by_id),
        *arm("the deployment that a batch endpoint uses", "PUT", batch, chosen),
        *arm("the deployment that a batch endpoint uses, changed", "PATCH", batch, chosen),
        *arm("a serverless endpoint", "PUT", f"{WORKSPACE_ID}/serverlessEndpoints/rogue",
             {"location": "westeurope", "properties": {"modelSettings": {"modelId": "azureml://registries/x/models/y"}}}),
        *arm("a connection's deployment", "PUT", f"{WORKSPACE_ID}/connections/openai/deployments/rogue", {"properties": {}}),
        *arm("an endpoint's deployment", "PUT", f"{WORKSPACE_ID}/endpoints/churn/deployments/rogue", served),
        *arm("an endpoint's traffic", "PUT", f"{WORKSPACE_ID}/endpoints/churn", traffic),
        Door("an endpoint of the old kind", "PUT", f"{services}/onlineEndpoints/rogue", traffic),
        Door("an endpoint of the old kind, changed", "PATCH", f"{services}/onlineEndpoints/churn", traffic),
        Door("a service", "POST", f"{services}/services", service),
        Door("a service by its name", "PUT", f"{services}/services/rogue", service),
        Door("a service, changed", "PATCH", f"{services}/services/rogue", service),
    ]


def jobs(properties):
    """Jobs that register what they make by themselves, each with these properties of its own."""
    model = {"m": {"jobOutputType": "mlflow_model", "assetName": "rogue"}}
    base = {
        "experimentName": "churn", "computeId": f"{WORKSPACE_ID}/computes/cpu-cluster", "properties": properties,
    }
    command = base | {
        "jobType": "Command", "command": "python train.py", "resources": {"instanceCount": 1},
        "environmentId": f"{WORKSPACE_ID}/environments/sklearn/versions/1",
    }
    child = {"type": "command", "componentId": f"{WORKSPACE_ID}/components/train/versions/1"}
    named = {"type": "command", "outputs": {"m": {"type": "mlflow_model", "name": "rogue"}}}
    kinds = {
        "a job": command | {"outputs": model},
        "a sweep": base | {"jobType": "Sweep", "outputs": model, "trial": {"command": "x"}, "limits": {"maxTotalTrials": 1}},
        "AutoML": base | {"jobType": "AutoML", "outputs": model, "taskDetails": {}},
        "fine-tuning": base | {"jobType": "FineTuning"},
        "a kind of job that nobody knows": base | {"jobType": "Alchemy"},
        "a pipeline": base | {"jobType": "Pipeline", "outputs": model, "jobs": {"a": {"type": "command"}}},
        "a pipeline's child": base | {"jobType": "Pipeline", "jobs": {"a": named}},
        "a pipeline's component": base | {"jobType": "Pipeline", "jobs": {"a": child}},
        "a pipeline that is a component": base | {"jobType": "Pipeline", "componentId": f"{WORKSPACE_ID}/components/p/versions/1"},
    }
    doors = []
    for number, (name, job) in enumerate(kinds.items()):
        doors += arm(name, "PUT", f"{WORKSPACE_ID}/jobs/rogue-{number}", {"properties": job})
    schedule = {"properties": {
        "trigger": {"triggerType": "Cron", "expression": "0 0 * * *"},
        "action": {"actionType": "CreateJob", "jobDefinition": kinds["a job"]},
    }}
    return [*doors, *arm("a schedule", "PUT", f"{WORKSPACE_ID}/schedules/rogue", schedule)]


def known():
    """Method and path of every operation that registers or deploys whatever its body says, as patterns."""
    found = []
    for line in TABLE.read_text().splitlines():
        if line.startswith("#") or not line:
            continue
        method, path, _, effects, *_ = line.split("\t")
        if {"register_model", "deploy_model"} & set(effects.split(",")):
            whole = path.replace("@ml", "/subscriptions/{}/resourcegroups/{}/providers/microsoft.machinelearningservices")
            found.append((method, re.compile(re.escape(whole).replace(r"\{\}", "[^/]+") + "$", re.IGNORECASE)))
    return found
