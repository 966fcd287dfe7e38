"""A Gerrit's events on their way to whoever listens, as its webhooks plugin posts them.

The plugin is a part of Gerrit's war and is published nowhere by itself. With `AMLGATE_GERRIT_WEBHOOKS=FILE` the archive that
somebody has of it is installed and posts. Without, the events are those of `gerrit stream-events`, where Gerrit writes the
same objects, and they are posted here as the plugin does it: header for header, so many tries, in no order, and what was not
taken by then is lost. The suite passes with either, so that what stands in for the plugin is held to what the plugin does.
"""

import concurrent.futures
import contextlib
import http.server
import json
import subprocess
import threading
import time

import requests
from running import wait_for
from server import WEBHOOKS

HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "User-Agent": "Apache-HttpClient/4.5.14 (Java/21.0.8)",
    "Accept-Encoding": "gzip,deflate",
    "Accept": None,
}
TAKEN = (200, 201, 202, 204)


class Remote:
    """Where events are posted to, and which; none named is all."""

    def __init__(self, name, url, events, ca, tries, interval):
        self.name, self.url, self.events, self.ca = name, url, events, ca
        self.tries, self.interval = tries, interval

    def as_the_plugin_is_told(self):
        # In this spelling alone: `maxTries` and `sslVerify`, as its own file has them, are passed over in silence.
        return {
            "url": self.url, "events": list(self.events), "max_tries": self.tries,
            "retry_interval": int(self.interval * 1000), "ssl_verify": bool(self.ca),
        }


class Webhooks:
    """The webhooks of one server that was started."""

    def __init__(self, gerrit):
        self.gerrit, self.admin = gerrit, gerrit.as_("admin")
        self.remotes = []
        if WEBHOOKS:
            assert "webhooks" in self.admin.get("plugins/"), "the archive is not of the webhooks plugin"
            admins = self.admin.get("groups/Administrators")["id"]
            self.admin.post("projects/All-Projects/access", {"add": {"refs/meta/config": {"permissions": {
                "push": {"rules": {admins: {"action": "ALLOW"}}}
            }}}})
            self.sender = None
        else:
            self.sender = Sender(gerrit, self.remotes)

    def post_to(self, name, url, events=(), ca=None, tries=5, interval=1.0):
        """From now on events are posted there, from every project."""
        remote = Remote(name, url, events, ca, tries, interval)
        if self.sender:
            self.remotes.append(remote)
        else:
            path = f"config/server/webhooks~projects/All-Projects/remotes/{name}"
            self.admin.put(path, remote.as_the_plugin_is_told())

    def forget(self, name):
        """From now on nothing is posted there."""
        if self.sender:
            self.remotes[:] = [remote for remote in self.remotes if remote.name != name]
        else:
            self.admin.delete(f"config/server/webhooks~projects/All-Projects/remotes/{name}")

    def resume(self):
        """After the server was started again: events of before are nowhere kept."""
        if self.sender:
            self.sender.listen()

    def stop(self):
        if self.sender:
            self.sender.stop()


class Sender:
    """Posts what `gerrit stream-events` prints."""

    def __init__(self, gerrit, remotes):
        self.gerrit, self.remotes = gerrit, remotes
        self.workers = concurrent.futures.ThreadPoolExecutor(2)
        self.ended = threading.Event()
        self.stream = None
        key = gerrit.folder / "hooks.key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        gerrit.as_("admin").add_key(key.with_suffix(".key.pub").read_text())
        known = gerrit.folder / "known_hosts"
        host = (gerrit.site / "etc/ssh_host_ed25519_key.pub").read_text()
        known.write_text(f"[127.0.0.1]:{gerrit.ssh_port} {host}")
        self.command = [
            "ssh", "-F", "none", "-p", str(gerrit.ssh_port), "-i", str(key), "-o", f"UserKnownHostsFile={known}",
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "HostKeyAlgorithms=ssh-ed25519",
            "admin@127.0.0.1", "gerrit", "stream-events",
        ]
        self.listen()

    def listen(self):
        if self.stream:
            self.stream.wait(20)
        log = open(self.gerrit.folder / "hooks.log", "ab")
        self.stream = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        heard = threading.Event()
        threading.Thread(target=self.read, args=(self.stream, heard), daemon=True).start()
        # It does not say when it begins; whatever happens then is heard.
        names = (f"listening-{time.monotonic_ns()}" for _ in iter(int, 1))

        def something_happens():
            self.gerrit.as_("admin").put(f"projects/{next(names)}", {"create_empty_commit": False})
            return heard.wait(0.5)

        wait_for("event", something_happens, self.stream, self.gerrit.folder / "hooks.log")

    def read(self, stream, heard):
        for line in stream.stdout:
            if heard.is_set():
                event = json.loads(line)
                for remote in list(self.remotes):
                    if not remote.events or event["type"] in remote.events:
                        self.workers.submit(self.post, remote, as_the_plugin_writes(event))
            heard.set()

    def post(self, remote, body):
        headers = HEADERS | {"X-Origin-Url": f"{self.gerrit.url}/"}
        for attempt in range(remote.tries):
            if attempt and self.ended.wait(remote.interval):
                return
            with contextlib.suppress(requests.RequestException), requests.Session() as session:
                session.trust_env = False
                answer = session.post(remote.url, data=body, headers=headers, verify=remote.ca or False, timeout=5)
                if answer.status_code in TAKEN:
                    return

    def stop(self):
        self.ended.set()
        self.stream.terminate()
        self.stream.wait(20)
        self.workers.shutdown()


def as_the_plugin_writes(event):
    """Its serialiser knows nothing of the two that Gerrit's own writes as text."""
    event = dict(event)
    if isinstance(event.get("project"), str):
        event["project"] = {"name": event["project"]}
    if "changeKey" in event:
        [key] = event["changeKey"].values() if isinstance(event["changeKey"], dict) else [event["changeKey"]]
        event["changeKey"] = {"key": key}
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


class Posted:
    """One request of the plugin's, as it came."""

    def __init__(self, handler):
        self.line = handler.requestline
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = handler.rfile.read(int(self.headers["content-length"]))
        self.event = json.loads(self.body)

    @property
    def type(self):
        return self.event["type"]

    @property
    def commit(self):
        return self.event.get("patchSet", {}).get("revision")

    @property
    def ref(self):
        return self.event.get("refName") or self.event.get("refUpdate", {}).get("refName") or ""

    @property
    def tip(self):
        """Where a branch moved to, of an event that tells of nothing else."""
        return self.event["refUpdate"]["newRev"] if self.type == "ref-updated" and self.ref.startswith("refs/heads/") else None


class Receiver:
    """Takes events and keeps them; the first few of a path may be refused."""

    def __init__(self):
        self.got, self.lock, self.refusals = [], threading.Condition(), {}
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                posted, status = Posted(self), 202
                with receiver.lock:
                    if receiver.refusals.get(self.path):
                        receiver.refusals[self.path] -= 1
                        status = 503
                    posted.path, posted.status = self.path, status
                    receiver.got.append(posted)
                    receiver.lock.notify_all()
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def expect(self, fits, seconds=20):
        """The first that fits, waited for."""

        def first():
            return next((one for one in self.got if fits(one)), None)

        with self.lock:
            assert self.lock.wait_for(first, seconds), [(one.path, one.type, one.ref) for one in self.got]
            return first()

    def about(self, commit):
        """The types of what was told of a commit as a patch set, or as the new tip of a branch."""
        with self.lock:
            return {one.type for one in self.got if commit in (one.commit, one.tip)}

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
