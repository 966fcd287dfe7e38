"""The store's own tests, on a real PostgreSQL: the same claims as on SQLite, one SQL text."""

import os
import pathlib
import re
import subprocess

import postgres

ROOT = pathlib.Path(__file__).parents[3]


def test_what_holds_on_sqlite_holds_on_postgresql():
    with postgres.server() as port:
        url = f"postgres://{postgres.USER}@127.0.0.1:{port}/postgres"
        run = subprocess.run(
            ["cargo", "test", "--quiet", "--locked", "--lib", "store::tests"],
            cwd=ROOT, env=os.environ | {"AMLGATE_TEST_POSTGRES": url}, capture_output=True, text=True,
        )
    assert run.returncode == 0, run.stdout + run.stderr
    passed = int(re.search(r"(\d+) passed; 0 failed; 0 ignored", run.stdout).group(1))
    assert passed >= 10, run.stdout


def test_a_gate_goes_on_without_its_postgresql_and_with_it_again():
    with postgres.server() as port:
        url = f"postgres://{postgres.USER}@127.0.0.1:{port}/postgres"
        run = subprocess.run(
            ["cargo", "test", "--quiet", "--locked", "--test", "gate", "outage::"],
            cwd=ROOT, env=os.environ | {"AMLGATE_TEST_POSTGRES": url}, capture_output=True, text=True,
        )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"2 passed; 0 failed; 0 ignored", run.stdout), run.stdout
