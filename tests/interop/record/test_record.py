"""A record of a real gate, before an auditor whose program is the Go checksum database's code."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest
import requests
import rfc8785
from running import AMLGATE, Sandbox
from simulated import WORKSPACE_ID

VERIFIER = os.environ["AMLGATE_RECORD_VERIFIER"]
GOLDEN = pathlib.Path(__file__).resolve().parents[3] / "src/audit/tests/golden"
# More than one whole tile, so that every kind of tile is there.
REQUESTS = 300


def amlgate(*arguments):
    return subprocess.run([AMLGATE, "audit", *map(str, arguments)], capture_output=True, text=True)


def verifier(*arguments):
    return subprocess.run([VERIFIER, *map(str, arguments)], capture_output=True)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """The directory of a log that was closed, with a head that an auditor kept on the way."""
    sandbox = Sandbox(tmp_path_factory.mktemp("record") / "sandbox")
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {sandbox.token('sam')}"
    session.verify = sandbox.ca
    session.trust_env = False
    directory = sandbox.record.directory
    kept = sandbox.wait_for("published head", lambda: (directory / "checkpoint").exists() and (directory / "checkpoint").read_text())
    for number in range(REQUESTS):
        session.get(f"{sandbox.gate}/subscriptions/{number:08x}-0000-0000-0000-000000000000?api-version=2022-12-01")
    # What is written, what is denied, what fails, and nobody that is known.
    workspace = f"{sandbox.gate}{WORKSPACE_ID}"
    version = "?api-version=2025-12-01"
    job = {"properties": {"jobType": "Command", "command": "é\u2028\ud83d\ude00 \"quoted\"", "experimentName": "churn"}}
    session.put(f"{workspace}/jobs/recorded{version}", json=job)
    session.get(f"{workspace}/jobs/n\u00f6ne{version}", headers={"user-agent": "a/1 (\\\"\t)"})
    assert session.delete(f"{workspace}{version}").status_code == 403
    assert requests.get(f"{workspace}{version}", verify=sandbox.ca).status_code == 401
    sandbox.stop()
    (directory.parent / "kept").write_text(kept)
    return directory


@pytest.fixture
def copy(log, tmp_path):
    return pathlib.Path(shutil.copytree(log, tmp_path / "log"))


def records(log):
    done = subprocess.run([AMLGATE, "audit", "query", str(log), "-o", "json"], check=True, capture_output=True)
    return done.stdout.splitlines()


def test_the_tiles_hold_every_record_and_lead_to_the_signed_head(log):
    done = verifier("tiles", log / "audit.pub", log)
    assert done.returncode == 0, done.stderr
    size, *entries = done.stdout.splitlines()
    assert entries == records(log) and len(entries) == int(size) > REQUESTS
    whole = amlgate("verify", log)
    assert whole.returncode == 0 and f"whole: {int(size)} records" in whole.stdout, whole


def test_each_record_is_canonical_json(log):
    golden = [file.read_bytes().rstrip(b"\n") for file in GOLDEN.glob("*.json")]
    phases = set()
    for line in records(log) + golden:
        record = json.loads(line)
        assert rfc8785.dumps(record) == line
        phases.add(record["unmapped"]["amlgate"].get("phase"))
    assert phases >= {"intent", "outcome", "denial"}


def test_a_proof_of_any_record_convinces_an_independent_verifier(log, tmp_path):
    every = records(log)
    proof = tmp_path / "a.tlog-proof"
    for position in (0, 1, 255, 256, len(every) - 1):
        done = amlgate("prove", log, position)
        assert done.returncode == 0, done.stderr
        proof.write_text(done.stdout)
        checked = verifier("inclusion", log / "audit.pub", proof)
        assert checked.returncode == 0 and checked.stdout.rstrip(b"\n") == every[position], checked.stderr
    # By the id of a decision, as a caller has it from `x-amlgate-decision`.
    asked = next(json.loads(r) for r in every if b'"phase":"outcome"' in r)
    done = amlgate("prove", log, asked["unmapped"]["amlgate"]["decision"])
    proof.write_text(done.stdout)
    checked = verifier("inclusion", log / "audit.pub", proof)
    assert json.loads(checked.stdout)["metadata"]["uid"] == asked["metadata"]["uid"], checked.stderr
    text = proof.read_text()
    for wrong in (
        text.replace("\nindex ", "\nindex 1", 1),
        text.replace("extra ey", "extra eY", 1),
        text.replace("\n\n", "\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n", 1),
        text[:-20] + "AAAA" + text[-16:],
    ):
        proof.write_text(wrong)
        assert wrong != text and verifier("inclusion", log / "audit.pub", proof).returncode == 1
        assert amlgate("verify", "--proof", proof, "--key", log / "audit.pub").returncode == 1


def test_a_head_that_was_kept_is_shown_to_be_the_beginning_of_the_log(log, tmp_path):
    kept, proof = log.parent / "kept", tmp_path / "grown"
    done = amlgate("prove", log, "--since", kept)
    assert done.returncode == 0, done.stderr
    proof.write_text(done.stdout)
    checked = verifier("consistency", log / "audit.pub", kept, proof)
    assert checked.returncode == 0 and int(checked.stdout.split()[1]) == len(records(log)), checked.stderr
    lines = done.stdout.split("\n")
    for wrong in ([lines[0], *lines[2:]], [lines[0], lines[2], lines[1], *lines[3:]], [f"{lines[0]}1", *lines[1:]]):
        proof.write_text("\n".join(wrong))
        assert verifier("consistency", log / "audit.pub", kept, proof).returncode == 1
        assert amlgate("verify", "--proof", proof, "--key", log / "audit.pub", "--head", kept).returncode == 1


@pytest.mark.parametrize("path", ["checkpoint", "tile/0/000", "tile/0/001.p/*", "tile/1/000.p/*", "tile/entries/000"])
def test_a_changed_file_of_the_layout_is_refused_by_both(copy, path):
    file = next(copy.glob(path))
    content = bytearray(file.read_bytes())
    content[8] ^= 1
    file.write_bytes(content)
    assert verifier("tiles", copy / "audit.pub", copy).returncode == 1
    assert amlgate("verify", copy).returncode == 1


def test_a_pack_of_evidence_is_checked_with_standard_tools_and_by_an_independent_verifier(log, tmp_path):
    home, pack = log.parent.parent, tmp_path / "pack"
    period = ["--from", "2000-01-01", "--to", "2100-01-01"]
    made = amlgate("evidence", "--config", home / "amlgate.yaml", "--control", "CC6", *period, "--out", pack)
    assert made.returncode == 0, made.stderr
    sums = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    key = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin"]
    signed = [*key, "-in", "SHA256SUMS", "-sigfile", "SHA256SUMS.sig"]
    for tool in (sums, signed):
        done = subprocess.run(tool, cwd=pack, capture_output=True)
        assert done.returncode == 0, done.stderr
    assert amlgate("evidence", "verify", pack, "--key", log / "audit.pub").returncode == 0
    # Each proof stands alone, under the keys that the auditor has from elsewhere.
    records = b"".join(path.read_bytes() for path in sorted(pack.glob("records/*"))).splitlines()
    first = "c2sp.org/tlog-proof@v1\n"
    proofs = "".join(path.read_text() for path in sorted(pack.glob("proofs/*"))).split(first)[1:]
    assert len(proofs) == len(records) > REQUESTS
    proof = tmp_path / "a.tlog-proof"
    for number in (0, len(proofs) // 2, len(proofs) - 1):
        proof.write_text(first + proofs[number])
        checked = verifier("inclusion", log / "audit.pub", proof)
        assert checked.returncode == 0 and checked.stdout.rstrip(b"\n") == records[number], checked.stderr
    for file in [path for path in pack.rglob("*") if path.is_file()]:
        good = file.read_bytes()
        file.write_bytes(good + b"x")
        assert amlgate("evidence", "verify", pack, "--key", log / "audit.pub").returncode == 1, file
        tools = [subprocess.run(tool, cwd=pack, capture_output=True).returncode for tool in (sums, signed)]
        assert any(tools), file
        file.write_bytes(good)


def test_the_key_of_another_log_opens_nothing(log, copy):
    key = copy / "audit.pub"
    name, rest = key.read_text().split("+", 1)
    key.write_text(f"{name}x+{rest}")
    assert verifier("tiles", key, log).returncode == 1
