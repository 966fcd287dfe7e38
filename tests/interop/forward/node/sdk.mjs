// The Azure SDK for JavaScript, with the credential that every sample uses.
import { AzureMachineLearningWorkspaces } from "@azure/arm-machinelearning";
import { DefaultAzureCredential } from "@azure/identity";

const [subscription, group, workspace] = process.argv.slice(2);
const client = new AzureMachineLearningWorkspaces(new DefaultAzureCredential(), subscription);
const said = { jobs: 0 };
for await (const job of client.jobs.list(group, workspace)) said.jobs += job.name ? 1 : 0;
try {
  await client.workspaces.beginDeleteAndWait(group, workspace);
} catch (error) {
  said.delete = [error.statusCode, error.code, error.message];
}
console.log(JSON.stringify(said));
