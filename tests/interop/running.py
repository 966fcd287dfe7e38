"""`amlgate` processes, tokens of the sandbox's people, and what the record says."""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import time

AMLGATE = os.environ.get("AMLGATE", "amlgate")


def wait_for(what, probe, process=None, log=None, seconds=30):
    """Waits until `probe` answers something true, and answers that."""
    deadline = time.monotonic() + seconds
    while True:
        if found := probe():
            return found
        said = f": {log.read_text(errors='replace')}" if log else ""
        assert process is None or process.poll() is None, f"ended before {what}{said}"
        assert time.monotonic() < deadline, f"no {what} within {seconds} s{said}"
        time.sleep(0.05)


def listens(address):
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 1).close()
        return True
    except OSError:
        return False


def free_port():
    """A port that nobody has, and that the system gives nobody who asks for any: Keycloak binds its half a minute
    after it was told which."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


class Process:
    """A program of ours that ends with SIGINT and must then answer 0."""

    def __init__(self, arguments, log, **options):
        self.log = pathlib.Path(log)
        with open(self.log, "wb") as file:
            self.process = subprocess.Popen(arguments, stdout=file, stderr=file, **options)

    def wait_for(self, what, probe, seconds=30):
        return wait_for(what, probe, self.process, self.log, seconds)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            ended = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        assert ended == 0, self.log.read_text(errors="replace")


class Sandbox(Process):
    """`amlgate sandbox`, with or without its gate."""

    def __init__(self, home, *options):
        self.home = pathlib.Path(home)
        super().__init__(
            [AMLGATE, "sandbox", "--dir", str(home), *options], self.home.parent / f"{self.home.name}.log"
        )
        self.wait_for("sandbox", lambda: "Ctrl-C" in self.log.read_text())
        self.layout = json.loads((self.home / "sandbox.json").read_text())
        self.gate = self.layout["gate"]
        self.ca = str(self.home / "certs/ca.pem")
        self.tokens = {}
        self.record = Record(self.home / "var/audit")

    def token(self, name, *options):
        """The same token for the same question: what is written down is searched for them."""
        asked = (name, *options)
        if asked not in self.tokens:
            command = [AMLGATE, "sandbox", "token", *asked, "--dir", str(self.home)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            self.tokens[asked] = done.stdout.strip()
        return self.tokens[asked]


    def allow(self, name, entry):
        """Adds an entry to the policies; the running gate takes it up by itself."""
        return self.policies("allow", name, entry)

    def policies(self, kind, name, entry):
        file = self.home / "policies" / f"{name.replace(' ', '-')}.yaml"
        loaded = len(self.reloads())
        beside = file.with_suffix(".new")
        beside.write_text(f"version: 1\n{kind}:\n  - name: {name}{entry}")
        beside.rename(file)
        self.wait_for(f"reload with `{name}`", lambda: len(self.reloads()) > loaded)
        return file

    def reloads(self):
        return [e for e in self.record.query() if e.own.get("event") == "policies_changed"]


class Record:
    """An audit log, read with `amlgate audit`."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)

    def verify(self):
        """Whole, up to the newest signed head; the first one is written some seconds after the start."""
        command = [AMLGATE, "audit", "verify", str(self.directory)]

        def verdict():
            done = subprocess.run(command, capture_output=True, text=True)
            return None if "there is no signed head" in done.stderr else done

        done = wait_for("signed head", verdict)
        assert done.returncode == 0 and ": whole: " in done.stdout, done.stdout + done.stderr

    def query(self, *options):
        command = [AMLGATE, "audit", "query", str(self.directory), "--output", "json", *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return [Entry(json.loads(line)) for line in done.stdout.splitlines()]

    def expect(self, *options, fits=lambda entry: True):
        """The newest record that fits; refusals are written with each signed head, every ten seconds."""

        def newest():
            return next((e for e in reversed(self.query(*options)) if fits(e)), None)

        return wait_for(f"record of {options}", newest)

    def text(self):
        return b"".join(f.read_bytes() for f in self.directory.iterdir() if f.is_file())


class Entry:
    """One record of a request, by the words that an auditor asks with."""

    def __init__(self, record):
        self.record = record
        self.own = record.get("unmapped", {}).get("amlgate", {})

    caller = property(lambda self: self.record.get("actor", {}).get("user", {}).get("uid"))
    action = property(lambda self: self.record.get("api", {}).get("operation"))
    decision = property(
        lambda self: "deny" if self.phase == "denial" else self.record["actor"]["authorizations"][0]["decision"]
    )
    code = property(lambda self: self.own.get("denial", {}).get("code"))
    status = property(lambda self: self.record.get("http_response", {}).get("code"))
    path = property(lambda self: self.record.get("http_request", {}).get("url", {}).get("path"))
    agent = property(lambda self: self.record.get("http_request", {}).get("user_agent", ""))
    phase = property(lambda self: self.own.get("phase"))
    ending = property(lambda self: self.own.get("ending"))

    def __repr__(self):
        return json.dumps(self.record)


class Gate(Process):
    """`amlgate serve` beside a sandbox, with what `change` made of the sandbox's configuration."""

    def __init__(self, sandbox, name, change):
        import yaml

        settings = yaml.safe_load((sandbox.home / "amlgate.yaml").read_text())
        ports = [free_port() for _ in range(4)]
        listen = settings["listen"]
        listen["reverse"]["address"] = f"127.0.0.1:{ports[0]}"
        listen["reverse"]["public_url"] = self.url = f"https://localhost:{ports[0]}"
        listen["admin"]["address"] = f"127.0.0.1:{ports[1]}"
        listen["health"]["address"] = f"127.0.0.1:{ports[2]}"
        # Two that listen at the same address share what comes, each caller at either.
        listen["forward"]["address"] = f"127.0.0.1:{ports[3]}"
        settings["audit"].update(name=f"amlgate-{name}", directory=f"var/audit-{name}")
        change(settings)
        self.file = sandbox.home / f"amlgate-{name}.yaml"
        self.file.write_text(yaml.safe_dump(settings, sort_keys=False))
        self.record = Record(sandbox.home / f"var/audit-{name}")
        super().__init__([AMLGATE, "serve", "--config", str(self.file)], sandbox.home.parent / f"{name}.log")
        self.wait_for("listener", lambda: listens(f"127.0.0.1:{ports[0]}"))

    def explain(self, token, *options):
        """`amlgate token verify` with this gate's configuration: whether it is accepted, and what it says."""
        command = [AMLGATE, "token", "verify", "--config", str(self.file), "--output", "json", *options]
        done = subprocess.run(command, input=token, capture_output=True, text=True)
        return done.returncode == 0, json.loads(done.stdout)
