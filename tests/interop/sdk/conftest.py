"""A sandbox for each test session."""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest
import simulated
from simulated import CLIENT_ID, CLIENT_SECRET, GROUP, SUBSCRIPTION, TENANT, WORKSPACE


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    """The issuer and Azure of `amlgate sandbox`, without the gate."""
    amlgate = os.environ["AMLGATE"]
    home = tmp_path_factory.mktemp("sandbox")
    log = open(home.parent / "sandbox.log", "wb")
    process = subprocess.Popen(
        [amlgate, "sandbox", "--without-gate", "--dir", str(home)], stdout=log, stderr=log
    )
    layout = home / "sandbox.json"
    deadline = time.monotonic() + 30
    while not layout.exists():
        assert process.poll() is None and time.monotonic() < deadline, pathlib.Path(log.name).read_text()
        time.sleep(0.05)
    layout = json.loads(layout.read_text())
    ca = str(home / "certs/ca.pem")
    os.environ.update(REQUESTS_CA_BUNDLE=ca, SSL_CERT_FILE=ca, CURL_CA_BUNDLE=ca)
    os.environ.update(
        AZURE_TENANT_ID=TENANT, AZURE_CLIENT_ID=CLIENT_ID, AZURE_CLIENT_SECRET=CLIENT_SECRET
    )
    simulated.send_azure_to(layout["azure_address"])
    yield layout | {"home": home}
    simulated.send_azure_home()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    log.close()


@pytest.fixture(scope="session")
def credential(sandbox):
    from azure.identity import ClientSecretCredential

    return ClientSecretCredential(TENANT, CLIENT_ID, CLIENT_SECRET)


@pytest.fixture(scope="session")
def ml(credential):
    from azure.ai.ml import MLClient

    return MLClient(credential, SUBSCRIPTION, GROUP, WORKSPACE)
