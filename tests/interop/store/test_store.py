"""The store's own tests, on a real PostgreSQL: the same claims as on SQLite, one SQL text."""

import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile

import pytest

from running import free_port, listens, wait_for

ROOT = pathlib.Path(__file__).parents[3]


def unprivileged():
    """PostgreSQL refuses to be root."""
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}


@pytest.fixture
def postgres():
    home = pathlib.Path(tempfile.mkdtemp(prefix="amlgate-postgres-"))
    home.chmod(0o755)
    with zipfile.ZipFile(os.environ["AMLGATE_POSTGRES"]) as jar:
        with jar.open("postgres-linux-x86_64.txz") as archive, tarfile.open(fileobj=archive, mode="r|xz") as files:
            files.extractall(home / "program", filter="tar")
    data = home / "data"
    data.mkdir(mode=0o700)
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
    program, port = home / "program" / "bin", free_port()
    made = subprocess.run(
        [program / "initdb", "-D", data, "-U", "gate", "-A", "trust", "--no-sync"],
        capture_output=True, text=True, cwd="/", env={}, **unprivileged(),
    )
    assert made.returncode == 0, made.stderr
    log = open(home / "log", "wb")
    server = subprocess.Popen(
        [program / "postgres", "-D", data, "-p", str(port), "-k", "", "-c", "listen_addresses=127.0.0.1"],
        stdout=log, stderr=log, cwd="/", env={}, **unprivileged(),
    )
    try:
        wait_for("PostgreSQL", lambda: listens(f"127.0.0.1:{port}"), server, home / "log")
        yield f"postgres://gate@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(20)
        log.close()
        shutil.rmtree(home)


def test_what_holds_on_sqlite_holds_on_postgresql(postgres):
    run = subprocess.run(
        ["cargo", "test", "--quiet", "--locked", "--lib", "store::tests"],
        cwd=ROOT, env=os.environ | {"AMLGATE_TEST_POSTGRES": postgres}, capture_output=True, text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    passed = int(re.search(r"(\d+) passed; 0 failed; 0 ignored", run.stdout).group(1))
    assert passed >= 10, run.stdout
