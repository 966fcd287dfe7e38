"""A notebook's cells, with nothing of amlgate in them."""

import json
import sys

from azure.ai.ml import MLClient, command
from azure.ai.ml.entities import AmlCompute, Model
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential

subscription, group, workspace, folder = sys.argv[1:]
ml = MLClient(DefaultAzureCredential(), subscription, group, workspace)
said = {"jobs": len(list(ml.jobs.list()))}

job = ml.jobs.create_or_update(
    command(
        command="python train.py",
        code=folder,
        environment="azureml:sklearn:1",
        compute="cpu-cluster",
        experiment_name="churn",
    )
)
ml.jobs.stream(job.name)
said["job"] = ml.jobs.get(job.name).status

said["scored"] = json.loads(ml.online_endpoints.invoke("churn", request_file=f"{folder}/request.json"))

for what, attempt in {
    "delete": lambda: ml.workspaces.begin_delete(workspace, delete_dependent_resources=False),
    "compute": lambda: ml.compute.begin_create_or_update(AmlCompute(name="mine", size="STANDARD_DS3_v2")),
    "model": lambda: ml.models.create_or_update(Model(name="mine", path=f"{folder}/train.py")),
}.items():
    try:
        done = attempt()
        said[what] = getattr(done, "name", None) or type(done).__name__
    except HttpResponseError as error:
        said[what] = f"{error.status_code} {error.message}"
print(json.dumps(said))
