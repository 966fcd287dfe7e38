"""Plain MLflow against Azure's own tracking URI."""

import json
import sys

from mlflow.tracking import MlflowClient

client = MlflowClient(sys.argv[1])
experiment = client.create_experiment("behind-the-proxy")
run = client.create_run(experiment).info.run_id
client.log_metric(run, "auc", 0.9)
client.set_terminated(run)
found = client.search_runs([experiment])
print(json.dumps({"runs": [[r.info.status, r.data.metrics] for r in found]}))
