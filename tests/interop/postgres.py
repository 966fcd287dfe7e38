"""A PostgreSQL of one's own, from the archive that `tests/interop/run` fetched."""

import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import tarfile
import tempfile
import zipfile

from running import free_port, listens, wait_for

USER = "gate"


def unprivileged():
    """PostgreSQL refuses to be root."""
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}


@contextlib.contextmanager
def server():
    """Its port on the loopback, where `USER` may do everything in the database `postgres`."""
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
        [program / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync"],
        capture_output=True, text=True, cwd="/", env={}, **unprivileged(),
    )
    assert made.returncode == 0, made.stderr
    log = open(home / "log", "wb")
    process = subprocess.Popen(
        [program / "postgres", "-D", data, "-p", str(port), "-k", "", "-c", "listen_addresses=127.0.0.1"],
        stdout=log, stderr=log, cwd="/", env={}, **unprivileged(),
    )
    try:
        wait_for("PostgreSQL", lambda: listens(f"127.0.0.1:{port}"), process, home / "log")
        yield port
    finally:
        process.terminate()
        process.wait(20)
        log.close()
        shutil.rmtree(home)
