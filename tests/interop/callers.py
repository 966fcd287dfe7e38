"""Clients of the gate in this process: who calls, which names they know, and the SDK with the gate as its base URL."""

import os
import socket

import requests
from simulated import CLIENT_ID, CLIENT_SECRET, GROUP, SUBSCRIPTION, TENANT, WORKSPACE

real_getaddrinfo = socket.getaddrinfo
STORAGE = ".blob.core.windows.net"


class Names:
    """A resolver that knows this machine and the storage, and remembers who was asked for.

    In reverse mode only storage is reached directly: its URLs carry their own signature and name
    their account as a host. No other name of Azure exists here, so that a client that leaves the
    gate fails.
    """

    def __init__(self, azure_address):
        self.azure = azure_address.rsplit(":", 1)
        self.asked = set()

    def getaddrinfo(self, name, service, *args, **kwargs):
        text = name.decode() if isinstance(name, bytes) else name
        self.asked.add(text)
        if text in ("localhost", "127.0.0.1", "::1", None):
            return real_getaddrinfo(name, service, *args, **kwargs)
        # `*.localhost` is this machine (RFC 6761), which Debian's resolver does not know.
        if text.endswith(".localhost"):
            return real_getaddrinfo("127.0.0.1", service, *args, **kwargs)
        if text.endswith(STORAGE):
            return real_getaddrinfo(self.azure[0], int(self.azure[1]), *args, **kwargs)
        raise socket.gaierror(socket.EAI_NONAME, f"`{text}` is not for callers of the gate")

    @property
    def direct(self):
        """Who else than this machine was asked for."""
        return {n for n in self.asked if n and not n.endswith("localhost") and n != "127.0.0.1"}


class Caller:
    """A credential that hands out its person's own OIDC token, whatever scope is asked for."""

    def __init__(self, token):
        self.token = token
        self.scopes = []

    def get_token(self, *scopes, **_):
        from azure.core.credentials import AccessToken

        self.scopes.extend(scopes)
        return AccessToken(self.token, 9_999_999_999)


class Clients:
    """`MLClient`s of people: nothing differs from a client of Azure but the base URL."""

    def __init__(self, sandbox):
        self.sandbox, self.made = sandbox, {}

    def of(self, name, token=None, base=None, audience="amlgate"):
        from azure.ai.ml import MLClient

        base = f"{base or self.sandbox.gate}/"
        # The SDK keeps clouds by name, and the current one, for the whole process.
        cloud = f"{base} {audience}"
        if (name, token, cloud) not in self.made:
            self.made[name, token, cloud] = MLClient(
                Caller(token or self.sandbox.token(name)),
                SUBSCRIPTION,
                GROUP,
                WORKSPACE,
                cloud=cloud,
                cloud_metadata={
                    "azure_portal": base,
                    "resource_manager": base,
                    "active_directory": base,
                    # What the SDK demands as `aud` of the token of a pipeline job: the gate's own audience.
                    "aml_resource_id": audience,
                    "storage_endpoint": "core.windows.net",
                    "registry_discovery_endpoint": base,
                },
            )
        os.environ["AZUREML_CURRENT_CLOUD"] = cloud
        return self.made[name, token, cloud]


class Azure:
    """Azure itself, with the gate's own identity: to look behind the gate, as no caller can."""

    def __init__(self, sandbox):
        self.session = requests.Session()
        self.session.verify = sandbox.ca
        # The endpoint refuses by the head and closes on a body that it has not read: no connection is used twice.
        self.session.headers["Connection"] = "close"
        self.base = f"https://localhost:{sandbox.layout['azure_address'].rsplit(':', 1)[1]}"
        form = {
            "grant_type": "client_credentials",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "scope": "https://management.azure.com/.default",
        }
        answer = self.session.post(f"{self.base}/{TENANT}/oauth2/v2.0/token", data=form)
        self.token = answer.json()["access_token"]

    def post(self, path, **options):
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.session.post(f"{self.base}{path}", headers=headers, **options)

    def score(self, key):
        return self.session.post(
            f"{self.base}/inference/churn/score",
            headers={"Authorization": f"Bearer {key}"},
            json={"input_data": {"data": [[0, 0]]}},
        )
