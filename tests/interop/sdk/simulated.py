"""The names of the sandbox's Azure, and a resolver that knows nothing but it.

The clients are unmodified and use Azure's own host names. As a hosts file would, the resolver sends
those names to the sandbox; every other name does not exist, so that nothing can leave the machine.
"""

import socket

TENANT = "72f988bf-0000-4000-8000-000000000001"
SUBSCRIPTION = "11111111-2222-4333-8444-555555555555"
GROUP = "rg-vision"
WORKSPACE = "vision"
CLIENT_ID = "9a7e0000-0000-4000-8000-00000000a001"
CLIENT_SECRET = "sandbox-secret-of-the-gate"
WORKSPACE_ID = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    f"/providers/Microsoft.MachineLearningServices/workspaces/{WORKSPACE}"
)
AZURE = (
    "management.azure.com",
    "login.microsoftonline.com",
    "graph.microsoft.com",
    ".api.azureml.ms",
    ".inference.ml.azure.com",
    ".vault.azure.net",
    ".blob.core.windows.net",
)

real_getaddrinfo = socket.getaddrinfo


def send_azure_to(address):
    """Resolves Azure's names to `address`, this machine to itself, and nothing else."""
    host, port = address.rsplit(":", 1)

    def getaddrinfo(name, service, *args, **kwargs):
        text = name.decode() if isinstance(name, bytes) else name
        if text in ("localhost", "127.0.0.1", "::1", None):
            return real_getaddrinfo(name, service, *args, **kwargs)
        if any(text == known or (known[0] == "." and text.endswith(known)) for known in AZURE):
            return real_getaddrinfo(host, int(port), *args, **kwargs)
        raise socket.gaierror(socket.EAI_NONAME, f"`{text}` is not in the sandbox")

    socket.getaddrinfo = getaddrinfo


def send_azure_home():
    """Resolves as before."""
    socket.getaddrinfo = real_getaddrinfo
