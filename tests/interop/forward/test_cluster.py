"""kubectl, unmodified, in front of a cluster that only the gate may reach."""

import json
import os
import re
import ssl
import socket
import subprocess
import sys
import urllib.parse
import urllib.request

import pytest
import yaml
from certificate import self_signed
from hosts import every_host_is_listed
from running import AMLGATE, Gate, Process, Sandbox, free_port, listens, wait_for

HOST = "vision-prod.hcp.westeurope.azmk8s.io"
POLICIES = """version: 1
subjects:
  data-scientists: [{issuer: sandbox, group: data-science}]
  reviewers: [{issuer: sandbox, group: model-review}]
allow:
  - name: people find their way
    who: [data-scientists, reviewers]
    actions: [kubernetes/nonresource/discovery/get]
  - name: people see pods and their logs
    who: [data-scientists, reviewers]
    actions: [kubernetes/core/pods/get, kubernetes/core/pods/list, kubernetes/core/pods/watch, kubernetes/core/pods/log/get]
    methods: [GET]
    path: /api/v1/namespaces/ml/**
  - name: data scientists work in their pods
    who: [data-scientists]
    actions: [kubernetes/core/pods/exec/create, kubernetes/core/pods/portforward/create]
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    sandbox = Sandbox(tmp_path_factory.mktemp("cluster") / "sandbox")
    yield sandbox
    sandbox.stop()


@pytest.fixture(scope="module")
def gate(sandbox):
    home = sandbox.home
    self_signed(HOST, home / "cluster.pem", home / "cluster.key")
    address, forward = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    arguments = ["-listen", address, "-certificate", str(home / "cluster.pem"), "-key", str(home / "cluster.key")]
    log = open(home / "cluster.log", "wb")
    cluster = subprocess.Popen([os.environ["AMLGATE_APISERVER"], *arguments], stdout=log, stderr=log)
    wait_for("API server", lambda: listens(address), cluster)
    policies = home / "policies-cluster"
    policies.mkdir()
    (policies / "cluster.yaml").write_text(POLICIES)

    def change(settings):
        route = {"name": "cluster", "upstream": f"https://{HOST}", "protocol": "kubernetes", "credential": "gate"}
        route["paths"] = ["/clusters/prod"]
        settings["routes"] = [route | {"address": address, "trust": {"ca": "cluster.pem"}}]
        settings["policies"] = "policies-cluster"
        names = {"certificate": "certs-cluster/interception-ca.pem", "private_key": {"file": "certs-cluster/interception-ca.key"}}
        settings["listen"]["forward"].update(address=forward, interception_ca=names)
        draft = home / "draft.yaml"
        draft.write_text(yaml.safe_dump(settings))
        made = [AMLGATE, "certs", "init", "--dir", str(home / "certs-cluster"), "--config", str(draft)]
        subprocess.run(made, check=True, capture_output=True)

    gate = Gate(sandbox, "cluster", change)
    yield gate
    gate.stop()
    gate.record.verify()
    assert every_host_is_listed(gate)["routed"] == {HOST}
    cluster.kill()
    cluster.wait()


def sign_in(gate, sandbox, person, home):
    """`amlgate login --device-code`, and the person's hand at the issuer's page."""
    command = [AMLGATE, "login", "--gate", gate.url, "--ca", sandbox.ca, "--issuer", "sandbox", "--device-code", "--no-keyring"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    with open(home / "login.log", "wb") as log:
        login = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def asked():
        text = (home / "login.log").read_text()
        return re.search(r"(https://\S+)", text), re.search(r"\b([A-Z0-9]{4}-[A-Z0-9]{4})\b", text)

    page, code = wait_for("code", lambda: all(asked()) and asked(), login, home / "login.log")
    form = urllib.parse.urlencode({"user_code": code[1], "person": person}).encode()
    context = ssl.create_default_context(cafile=sandbox.ca)
    with urllib.request.urlopen(page[1].split("?")[0], form, context=context, timeout=30) as answer:
        assert answer.status == 200
    assert login.wait(60) == 0, (home / "login.log").read_text()
    return environment


@pytest.fixture
def kubectl(gate, sandbox, tmp_path):
    """kubectl of a signed-in person, started with `amlgate run`: its kubeconfig names the exec plugin."""

    def of(person, server=f"https://{HOST}", authority=None):
        home = tmp_path / person
        home.mkdir()
        environment = sign_in(gate, sandbox, person, home)
        plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": AMLGATE, "interactiveMode": "Never"}
        plugin |= {"args": ["token", "-o", "exec-credential"], "provideClusterInfo": True}
        plugin["env"] = [{"name": "HOME", "value": str(home)}]
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "prod",
            "clusters": [{"name": "prod", "cluster": {"server": server, "certificate-authority": authority or ""}}],
            "users": [{"name": person, "user": {"exec": plugin}}],
            "contexts": [{"name": "prod", "context": {"cluster": "prod", "user": person, "namespace": "ml"}}],
        }
        (home / "config").write_text(json.dumps(config))
        environment["KUBECONFIG"] = str(home / "config")

        def start(*arguments, program=os.environ["AMLGATE_KUBECTL"], through=(AMLGATE, "run", "--"), **options):
            command = [*through, program, *arguments]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            return subprocess.Popen(command, env=environment | options, text=True, **pipes)

        def run(*arguments, given=None, **options):
            process = start(*arguments, **options)
            try:
                out, error = process.communicate(given, timeout=90)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            return subprocess.CompletedProcess(arguments, process.returncode, out, error)

        run.start = start
        return run

    return of


def test_pods_are_listed_watched_and_their_logs_followed(kubectl, gate):
    sam = kubectl("sam")
    listed = sam("get", "pods", "-o", "name")
    assert (listed.returncode, listed.stdout) == (0, "pod/trainer\n"), listed.stderr
    for arguments, expected in [
        (("get", "pods", "--watch", "-o", "name"), ["pod/trainer", "pod/trainer"]),
        (("logs", "-f", "trainer"), ["epoch 1", "epoch 2"]),
    ]:
        following = sam.start(*arguments)
        lines = [following.stdout.readline().strip() for _ in expected]
        following.terminate()
        following.communicate(timeout=30)
        assert lines == expected
    seen = gate.record.expect("--caller", "user-sam", "--action", "kubernetes/core/pods/list", "--phase", "outcome")
    assert (seen.decision, seen.status) == ("allow", 200)


def test_a_shell_in_a_pod_carries_both_ways_and_ends_with_the_commands_code(kubectl, gate):
    sam = kubectl("sam")
    done = sam("exec", "-i", "trainer", "--", "sh", "-c", "tr a-z A-Z; exit 3", given="hello")
    assert (done.returncode, done.stdout) == (3, "HELLO"), done.stderr
    shell = gate.record.expect("--caller", "user-sam", "--action", "kubernetes/core/pods/exec/create", "--phase", "outcome")
    assert (shell.decision, shell.status) == ("allow", 101)


def test_a_port_is_forwarded(kubectl):
    sam, port = kubectl("sam"), free_port()
    forwarding = sam.start("port-forward", "trainer", f"{port}:8080")
    assert "Forwarding from" in forwarding.stdout.readline()
    with socket.create_connection(("127.0.0.1", port), 30) as pod:
        pod.sendall(b"hello")
        assert pod.recv(100) == b"8080 HELLO"
    forwarding.terminate()
    forwarding.communicate(timeout=30)


def test_who_may_not_is_told_by_kubectl_in_the_gates_words(kubectl):
    rita = kubectl("rita")
    assert rita("get", "pods", "-o", "name").returncode == 0
    for arguments in [("exec", "trainer", "--", "id"), ("delete", "pod", "trainer"), ("get", "secrets")]:
        refused = rita(*arguments)
        assert refused.returncode == 1 and "amlgate: no entry allows you `kubernetes/core/" in refused.stderr, refused


def test_the_cluster_sees_the_caller_and_nobody_else_can_be_named(kubectl, gate, sandbox):
    # `kubectl --as` asks for another name, which ends at the gate; the cluster's log has only callers.
    sam = kubectl("sam")
    assert sam("--as", "root", "--as-group", "system:masters", "get", "pods").returncode == 0
    log = (sandbox.home / "cluster.log").read_text()
    named = set(re.findall(r" as (\S+) \[([^]]*)\]", log))
    assert named and {user for user, _ in named} <= {"sandbox:user-sam", "sandbox:user-rita"}, named
    assert ("sandbox:user-sam", "sandbox:data-science") in named, named


def test_in_front_of_the_gates_own_address_nothing_but_the_kubeconfig_changes(kubectl, gate, sandbox):
    sam = kubectl("sam", server=f"{gate.url}/clusters/prod", authority=sandbox.ca)
    direct = {"through": ()}
    listed = sam("get", "pods", "-o", "name", **direct)
    assert (listed.returncode, listed.stdout) == (0, "pod/trainer\n"), listed.stderr
    done = sam("exec", "-i", "trainer", "--", "cat", given="hello", **direct)
    assert (done.returncode, done.stdout) == (0, "hello"), done.stderr


def test_a_shell_by_websocket_is_the_same_shell(kubectl):
    sam = kubectl("sam")
    url = f"wss://{HOST}/api/v1/namespaces/ml/pods/trainer/exec?command=echo&command=hello&stdout=true"
    script = f"""
from websockets.sync.client import connect
with connect({url!r}, subprotocols=["v4.channel.k8s.io"], ssl=None) as shell:
    frames = list(shell)
print([frame for frame in frames if len(frame) > 1])
"""
    done = sam("-c", script, program=sys.executable)
    # Channel 1 is the output, channel 3 the status.
    assert done.returncode == 0 and r"b'\x01hello\n'" in done.stdout and "Success" in done.stdout, done
