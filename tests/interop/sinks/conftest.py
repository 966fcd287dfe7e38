"""A gate whose record goes to receivers that others wrote."""

import http.server
import json
import os
import pathlib
import subprocess
import threading

import pytest
import requests
import yaml
from running import Gate, Sandbox, free_port, listens, wait_for
from simulated import WORKSPACE_ID

WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Rsyslog:
    """rsyslog, which takes RFC 5424 over TLS and writes what it understood as JSON."""

    def __init__(self, folder, certs):
        self.folder, self.port, self.process = folder, free_port(), None
        self.out = folder / "messages"
        root = pathlib.Path(os.environ["AMLGATE_RSYSLOG"])
        self.program = root / "usr/sbin/rsyslogd"
        modules = next(root.glob("usr/lib/*/rsyslog"))
        self.environment = os.environ | {"LD_LIBRARY_PATH": str(modules.parent)}
        self.modules = modules
        self.configuration = folder / "rsyslog.conf"
        self.configuration.write_text(
            f'global(workDirectory="{folder}" maxMessageSize="64k" defaultNetstreamDriver="ossl"\n'
            f'  defaultNetstreamDriverCAFile="{certs}/ca.pem" defaultNetstreamDriverCertFile="{certs}/server.pem"\n'
            f'  defaultNetstreamDriverKeyFile="{certs}/server.key")\n'
            'module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")\n'
            f'input(type="imtcp" address="127.0.0.1" port="{self.port}")\n'
            'template(name="understood" type="string" string="%jsonmesg%\\n")\n'
            f'action(type="omfile" file="{self.out}" template="understood")\n'
        )

    def start(self):
        log = open(self.folder / "rsyslog.log", "ab")
        command = [self.program, "-n", "-f", self.configuration, "-i", self.folder / "pid", "-M", self.modules]
        self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        wait_for("rsyslog", lambda: listens(f"127.0.0.1:{self.port}"), self.process, self.folder / "rsyslog.log")

    def stop(self):
        self.process.terminate()
        self.process.wait(20)

    def messages(self):
        return [json.loads(line) for line in self.out.read_text().splitlines()] if self.out.exists() else []


class Collector:
    """An OpenTelemetry Collector, which takes OTLP over TLS and hands it on as Protocol Buffers.

    It queues nothing: what it says it took, the next one has taken.
    """

    def __init__(self, folder, certs, receiver):
        self.port, self.process, self.log = free_port(), None, folder / "collector.log"
        self.configuration = folder / "collector.yaml"
        settings = {
            "receivers": {
                "otlp": {
                    "protocols": {
                        "http": {
                            "endpoint": f"127.0.0.1:{self.port}",
                            "tls": {"cert_file": f"{certs}/server.pem", "key_file": f"{certs}/server.key"},
                        }
                    }
                }
            },
            "exporters": {
                "otlp_http": {
                    "endpoint": receiver.url,
                    "compression": "none",
                    "sending_queue": {"enabled": False},
                    "retry_on_failure": {"enabled": False},
                }
            },
            "service": {
                "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["otlp_http"]}},
                "telemetry": {"metrics": {"level": "none"}},
            },
        }
        self.configuration.write_text(yaml.safe_dump(settings))

    def start(self):
        log = open(self.log, "ab")
        command = [os.environ["AMLGATE_COLLECTOR"], f"--config=file:{self.configuration}"]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for("the collector", lambda: listens(f"127.0.0.1:{self.port}"), self.process, self.log)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


class Receiver:
    """Keeps what is posted, and answers as it is told to."""

    def __init__(self):
        self.got, self.answers = [], []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.answers.pop(0) if receiver.answers else 200
                receiver.got.append((self.path, dict(self.headers.items()), body, status))
                self.send_response(status)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def taken(self):
        return [(path, headers, body) for path, headers, body, status in self.got if status == 200]


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    sandbox = Sandbox(tmp_path_factory.mktemp("run") / "sandbox", "--without-gate")
    yield sandbox
    sandbox.stop()


@pytest.fixture(scope="session")
def rsyslog(sandbox, tmp_path_factory):
    rsyslog = Rsyslog(tmp_path_factory.mktemp("rsyslog"), sandbox.home / "certs")
    rsyslog.start()
    yield rsyslog
    rsyslog.stop()


@pytest.fixture(scope="session")
def hook():
    return Receiver()


@pytest.fixture(scope="session")
def collector():
    return Receiver()


@pytest.fixture(scope="session")
def behind():
    """What the OpenTelemetry Collector hands records on to."""
    return Receiver()


@pytest.fixture(scope="session")
def opentelemetry(sandbox, behind, tmp_path_factory):
    collector = Collector(tmp_path_factory.mktemp("collector"), sandbox.home / "certs", behind)
    collector.start()
    yield collector
    collector.stop()


@pytest.fixture(scope="session")
def gate(sandbox, rsyslog, hook, collector, opentelemetry):
    secret = sandbox.home / "webhook.secret"
    secret.write_text(WEBHOOK_SECRET)
    secret.chmod(0o600)

    def change(settings):
        settings["audit"]["sinks"] = [
            {"name": "rsyslog", "syslog": {"server": f"localhost:{rsyslog.port}"}, "trust": {"ca": "certs/ca.pem"}},
            {"name": "hook", "webhook": {"url": f"{hook.url}/in", "secret": {"file": "webhook.secret"}}},
            {"name": "collector", "otlp": {"url": collector.url}},
            {
                "name": "opentelemetry",
                "otlp": {"url": f"https://localhost:{opentelemetry.port}"},
                "trust": {"ca": "certs/ca.pem"},
            },
            {"name": "file", "file": {"path": "var/export.ndjson", "format": "cloudevents"}},
        ]

    gate = Gate(sandbox, "sinks", change)
    gate.session = requests.Session()
    gate.session.verify, gate.session.trust_env = sandbox.ca, False
    gate.session.headers["Authorization"] = f"Bearer {sandbox.token('sam')}"
    gate.list = lambda: gate.session.get(f"{gate.url}{WORKSPACE_ID}/jobs?api-version=2025-12-01")
    gate.delete = lambda: gate.session.delete(f"{gate.url}{WORKSPACE_ID}?api-version=2025-12-01")
    yield gate
    gate.stop()
    gate.record.verify()
