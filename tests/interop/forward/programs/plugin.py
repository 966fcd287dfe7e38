"""MLflow with Azure ML's own plugin, which gets its token from DefaultAzureCredential."""

import json
import sys

import mlflow

mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("through-the-plugin")
with mlflow.start_run() as run:
    mlflow.log_metric("auc", 0.9)
store = type(mlflow.MlflowClient()._tracking_client.store).__name__
print(json.dumps({"store": store, "metrics": mlflow.get_run(run.info.run_id).data.metrics}))
