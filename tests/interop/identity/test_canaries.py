"""What is secret comes out nowhere: not in the log at its most talkative, `/readyz`, `/metrics` or the record.

Canaries stand for every kind of secret that a gate is given; what callers bring and what the gate hands
out is looked for as well.
"""

import base64
import re

import pytest
import requests
import yaml
from running import Gate
from simulated import CLIENT_SECRET, WORKSPACE_ID

VERSION = "?api-version=2025-12-01"
WRONG = "canary-that-entra-refuses"
FEDERATED = "canary.federated.token-that-is-none"


def credential(own, name, **proof):
    return {**{k: v for k, v in own.items() if k != "client_secret"}, "name": name, **proof}


@pytest.fixture
def gate(sandbox, monkeypatch):
    certs = sandbox.home / "certs"
    (certs / "federated").write_text(FEDERATED)

    def change(settings):
        [own] = settings["credentials"]
        [arm] = [route for route in settings["routes"] if route["protocol"] == "arm"]
        vault = {
            "vault": "https://vision-kv.vault.azure.net",
            "secret": "gate-client-secret",
            "credential": "machine",
            "address": sandbox.layout["azure_address"],
            "trust": own["trust"],
        }
        endpoint = f"http://{sandbox.layout['identity_address']}"
        pair = {"certificate": "certs/server.pem", "private_key": {"file": "certs/server.key"}}
        person = {"client_secret": own["client_secret"]}
        settings["credentials"] += [
            {"name": "machine", "managed_identity": {"endpoint": endpoint}},
            credential(own, "vaulted", client_secret={"key_vault": vault}),
            credential(own, "refused", client_secret={"env": "AMLGATE_CANARY"}),
            credential(own, "certified", client_certificate=pair),
            credential(own, "federated", workload_identity={"token_file": "certs/federated"}),
            credential(own, "person", on_behalf_of=person),
        ]
        arm["credential"] = {"default": "gate", "read": "vaulted", "delete": "refused", "write": "certified"}
        for name in ("federated", "person"):
            other = {**arm, "name": f"by-{name}", "hosts": [f"{name}.localhost"], "credential": name}
            settings["routes"].append(other)

    monkeypatch.setenv("RUST_LOG", "trace")
    monkeypatch.setenv("AMLGATE_CANARY", WRONG)
    gate = Gate(sandbox, "canaries", change)
    yield gate
    # A test that fails leaves nothing running.
    gate.process.kill()
    gate.process.wait()


def lines_of(key):
    """The lines of a key in PEM form, or the key itself."""
    return [line for line in key.read_text().splitlines() if len(line) >= 20 and not line.startswith("-----")]


def test_no_secret_of_any_kind_comes_out_of_the_gate(sandbox, gate):
    secrets = {"own": CLIENT_SECRET, "wrong": WRONG, "federated": FEDERATED}
    secrets |= {word: f"canary-in-{word}" for word in ("a-cookie", "a-query", "basic", "a-second-bearer")}
    for key in ("server.key", "interception-ca.key", "audit.key", "seal.key"):
        secrets |= {f"{key} {n}": line for n, line in enumerate(lines_of(sandbox.home / "certs" / key))}
    sam, pat = sandbox.token("sam"), sandbox.token("pat")
    entra = sandbox.token("sam", "--entra")
    forged = pat[:-8] + "AAAAAAAA"
    for name, token in (("sam", sam), ("pat", pat), ("entra", entra), ("forged", forged)):
        secrets[name] = token.rsplit(".", 1)[1]
    basic = base64.b64encode(b"canary-in-basic:canary-in-basic").decode()
    session = requests.Session()
    session.verify = sandbox.ca
    port = gate.url.rsplit(":", 1)[1]
    one, model = f"{WORKSPACE_ID}{VERSION}", f"{WORKSPACE_ID}/models/canary{VERSION}"
    endpoint = f"{WORKSPACE_ID}/onlineEndpoints/churn"
    answers = []
    for method, path, authorization, host in (
        ("GET", one, f"Bearer {pat}", None),
        ("GET", f"{one}&access_token=canary-in-a-query&sig=canary-in-a-query", f"Bearer {pat}", None),
        ("GET", one, f"Bearer {forged}", None),
        ("GET", one, f"Basic {basic}", None),
        ("GET", one, "Bearer canary-in-a-second-bearer", None),
        ("DELETE", f"{WORKSPACE_ID}/jobs/none{VERSION}", f"Bearer {pat}", None),
        ("PUT", model, f"Bearer {pat}", None),
        ("POST", "/endpoints/churn/score", f"Bearer {sam}", None),
        ("GET", one, f"Bearer {pat}", "federated"),
        ("GET", one, f"Bearer {pat}", "person"),
        ("POST", f"{endpoint}/listKeys{VERSION}", f"Bearer {sam}", None),
    ):
        headers = {
            "Authorization": authorization,
            "Cookie": "session=canary-in-a-cookie",
            "x-azureml-token": "canary-in-a-second-bearer",
            **({"Host": f"{host}.localhost:{port}"} if host else {}),
        }
        body = {"input_data": {"data": [[1, 2]]}} if method in ("POST", "PUT") else None
        answer = session.request(method, gate.url + path, headers=headers, json=body)
        answers.append(answer)
        for what, secret in secrets.items():
            assert secret not in answer.text and secret not in str(answer.headers), (what, answer.text)
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200, 200, 401, 401, 401, 502, 502, 200, 502, 403, 200], statuses

    secrets["handle"] = answers[-1].json()["primaryKey"]
    health = yaml.safe_load(gate.file.read_text())["listen"]["health"]["address"]
    places = {path: session.get(f"http://{health}{path}").text for path in ("/readyz", "/metrics")}
    # The refused secret is named there, and not said.
    assert "AADSTS7000215" in places["/readyz"]
    gate.stop()
    gate.record.verify()
    places["log"] = gate.log.read_text()
    assert "TRACE" in places["log"] and "DEBUG" in places["log"]
    files = [file for file in gate.record.directory.rglob("*") if file.is_file()]
    places["record"] = "".join(file.read_bytes().decode(errors="replace") for file in files)
    assert len(places["record"]) > 10_000
    for place, text in places.items():
        for what, secret in secrets.items():
            assert secret not in text, f"{what} is in {place}"
        # Nor any other token: Azure's, the machine's, or what an exchange brought.
        assert not re.search(r"eyJ[\w-]{20,}\.eyJ[\w-]{20,}", text), place
