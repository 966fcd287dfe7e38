"""A notebook, executed headless by nbclient: its kernel has the command's environment and no more."""

import json
import sys

import nbformat
from nbclient import NotebookClient

subscription, group, workspace, folder = sys.argv[1:]
CELLS = [
    f"""
from azure.ai.ml import MLClient
from azure.ai.ml.entities import AmlCompute, Model
from azure.identity import DefaultAzureCredential
ml = MLClient(DefaultAzureCredential(), "{subscription}", "{group}", "{workspace}")
""",
    f"""
model = ml.models.create_or_update(Model(name="noted", path="{folder}/model.pkl", type="custom_model"))
""",
    """
wanted = AmlCompute(name="noted", size="Standard_NC6", max_instances=2)
wanted.ssh_public_access_enabled = False
compute = ml.compute.begin_create_or_update(wanted).result()
""",
    f"""
ml.models.download("noted", "1", download_path="{folder}/back")
import json
print(json.dumps([model.version, compute.provisioning_state, ml.models.get("noted", version="1").name]))
""",
]
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
NotebookClient(notebook, timeout=150, kernel_name="python3").execute()
print(json.dumps([output["text"] for output in notebook.cells[-1].outputs if output.get("name") == "stdout"]))
